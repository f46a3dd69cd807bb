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
    /// Every row whose truth is known is tested, but for the anomalies that were asked to be dropped.
    pub(crate) fn all(rows: &Rows, options: &TableOptions) -> Self {
        let known = |&row: &u32| rows.truths[row as usize] != Truth::Unknown;
        let mut test: Vec<u32> = shuffled(rows, options).filter(known).collect();
        thin(rows, &mut test, options.anomaly_share.unwrap_or(1.0));
        Self { test, ..Self::default() }
    }
}

/// All rows in an order that depends on their number and the seed alone, or on that of their groups: then
/// those of a group follow on each other. With each its place, which is the first of its group.
fn placed(rows: &Rows, options: &TableOptions) -> Vec<(usize, u32)> {
    let Some(groups) = rows.groups.as_ref().filter(|_| rows.schema.group.is_some()) else {
        return shuffled(rows, options).enumerate().collect();
    };
    let mut members = vec![vec![]; groups.len()];
    groups.of.iter().zip(0..).for_each(|(&group, row)| members[group as usize].push(row));
    let order = Permutation::new(groups.len() as u64, &[options.seed, SPLIT]);
    let mut placed = Vec::with_capacity(groups.of.len());
    for place in 0..groups.len() {
        let first = placed.len();
        placed.extend(members[order.get(place as u64) as usize].iter().map(|&row| (first, row)));
    }
    placed
}

/// All rows in an order that depends on their number and the seed alone.
fn shuffled(rows: &Rows, options: &TableOptions) -> impl Iterator<Item = u32> + use<> {
    let n = rows.truths.len() as u64;
    let permutation = Permutation::new(n, &[options.seed, SPLIT]);
    (0..n).map(move |place| permutation.get(place) as u32)
}

/// Drops the last anomalies of a shuffled list until they are this share of it, and puts it in order of the
/// file, so that batches do not depend on how the permutation is made.
fn thin(rows: &Rows, test: &mut Vec<u32>, share: f64) {
    let is_normal = |row: u32| rows.truths[row as usize] == Truth::Normal;
    if share < 1.0 {
        let normals = test.iter().filter(|&&row| is_normal(row)).count();
        let mut room = (normals as f64 * share / (1.0 - share)) as usize;
        test.retain(|&row| {
            let fits = is_normal(row) || room > 0;
            room -= usize::from(fits && !is_normal(row));
            fits
        });
    }
    test.sort_unstable();
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
    let count = (rows.truths.len() as f64 * fraction).round() as usize;
    let (mut drawn, mut test) = (vec![], vec![]);
    // The anomalous rows of a group that is trained on are no test: the group would be on both sides.
    let drops = is_kdd99 || rows.schema.group.is_some();
    for (place, row) in placed(rows, options) {
        match truth(row) {
            Truth::Normal if place < count => drawn.push(row),
            Truth::Anomalous if place < count && drops => {}
            Truth::Normal | Truth::Anomalous => test.push(row),
            Truth::Unknown => {}
        }
    }
    let usual = if is_kdd99 { kdd99::ANOMALY_SHARE } else { 1.0 };
    thin(rows, &mut test, options.anomaly_share.unwrap_or(usual));
    drawn.sort_unstable();
    let chosen = |indices: Indices| {
        let mut rows: Vec<u32> = indices.iter().map(|i| drawn[i]).collect();
        rows.sort_unstable();
        rows
    };
    if drawn.is_empty() {
        return Ok(Parts { test, ..Parts::default() });
    }
    let groups = rows.groups.as_ref().filter(|_| rows.schema.group.is_some());
    let (train, held_out) = match groups {
        None => Indices::holdout(drawn.len(), 1, options.val_fraction, options.seed)?,
        Some(groups) => {
            Indices::holdout_groups(&groups.of_some(&drawn), 1, options.val_fraction, options.seed)?
        }
    };
    Ok(Parts { train: chosen(train), held_out: chosen(held_out), test })
}
