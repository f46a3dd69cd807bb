//! Which rows of a table are trained on, held out and tested.

use super::read::Rows;
use super::{TableOptions, kdd99};
use crate::rng::Permutation;
use crate::{DataError, Indices, Truth};

/// Domain of the split permutation, so that no other use of the seed repeats it.
const SPLIT: u64 = 0x7461_626c;
/// Share that is drawn of a file with rows of both truths.
const HALF: f64 = 0.5;

/// Rows of each part, in order of the file.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) train: Vec<u32>,
    pub(crate) held_out: Vec<u32>,
    pub(crate) test: Vec<u32>,
}

impl Parts {
    /// Every row whose truth is known is tested.
    pub(crate) fn all(rows: &Rows) -> Self {
        let known = |&row: &u32| rows.truths[row as usize] != Truth::Unknown;
        Self { test: (0..rows.truths.len() as u32).filter(known).collect(), ..Self::default() }
    }
}

/// The share of rows to draw where none is given.
pub(crate) fn train_fraction(rows: &Rows, options: &TableOptions) -> f64 {
    let own = match rows.truths.contains(&Truth::Anomalous) {
        _ if rows.schema.layout == kdd99::LAYOUT => kdd99::TRAIN_FRACTION,
        true => HALF,
        false => 1.0,
    };
    options.train_fraction.unwrap_or(own)
}

/// All parts come from one permutation, so that no row is in two.
pub(crate) fn split(rows: &Rows, fraction: f64, options: &TableOptions) -> Result<Parts, DataError> {
    let truth = |row: u32| rows.truths[row as usize];
    let is_kdd99 = rows.schema.layout == kdd99::LAYOUT;
    let n = rows.truths.len();
    let permutation = Permutation::new(n as u64, &[options.seed, SPLIT]);
    let count = (n as f64 * fraction).round() as usize;
    let (mut drawn, mut test) = (vec![], vec![]);
    for place in 0..n {
        let row = permutation.get(place as u64) as u32;
        match truth(row) {
            Truth::Normal if place < count => drawn.push(row),
            Truth::Anomalous if place < count && is_kdd99 => {}
            Truth::Normal | Truth::Anomalous => test.push(row),
            Truth::Unknown => {}
        }
    }
    let share = options.anomaly_share.unwrap_or(if is_kdd99 { kdd99::ANOMALY_SHARE } else { 1.0 });
    if share < 1.0 {
        let normals = test.iter().filter(|&&row| truth(row) == Truth::Normal).count();
        let mut room = (normals as f64 * share / (1.0 - share)) as usize;
        test.retain(|&row| {
            let fits = truth(row) == Truth::Normal || room > 0;
            room -= usize::from(fits && truth(row) == Truth::Anomalous);
            fits
        });
    }
    // In order of the file, so that batches do not depend on how the permutation is made.
    drawn.sort_unstable();
    test.sort_unstable();
    let chosen = |indices: Indices| {
        let mut rows: Vec<u32> = indices.iter().map(|i| drawn[i]).collect();
        rows.sort_unstable();
        rows
    };
    if drawn.is_empty() {
        return Ok(Parts { test, ..Parts::default() });
    }
    let (train, held_out) = Indices::holdout(drawn.len(), 1, options.val_fraction, options.seed)?;
    Ok(Parts { train: chosen(train), held_out: chosen(held_out), test })
}
