//! Tables: rows of numbers with a label, for the fully connected systems. Plain numbers; no tensors.
//!
//! ```no_run
//! use ganomede_datasets::{Split, Table, TableOptions};
//!
//! let table = Table::open("kddcup.data_10_percent.gz", &TableOptions::default())?;
//! assert_eq!(table.features().len(), 121);
//! let batch = table.gather(Split::Train, &[0, 1, 2]); // B × F
//! let truth = table.truth(Split::Test, 0);
//! # let _ = (batch, truth);
//! # Ok::<(), ganomede_datasets::DataError>(())
//! ```

mod kdd99;
mod numeric;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::memory::Held;
use crate::rng::Permutation;
use crate::signal::Header;
use crate::{DataError, Split, Truth};

/// Domain of the split permutation, so that no other use of the seed repeats it.
const SPLIT: u64 = 0x7461_626c;

/// How a table is read and split.
#[derive(Clone, Debug, PartialEq)]
pub struct TableOptions {
    /// Column of the labels, by name or number from 0; otherwise the last.
    pub label_column: Option<String>,
    /// Labels of the normal class; otherwise `0`, `normal`, `good`, `inlier`. KDD99 has its own rule: attacks are
    /// normal, as in the papers.
    pub normal_labels: Vec<String>,
    /// Whether the first row names the columns.
    pub header: Header,
    /// Share of all rows that is drawn for training, above 0 and below 1; of those the anomalous ones are dropped.
    pub train_fraction: f64,
    /// Test rows keep at most this share of anomalies: surplus anomalies are dropped. None keeps all.
    pub anomaly_share: Option<f64>,
    /// Seed of the split.
    pub seed: u64,
    /// Scaling of a trained model; otherwise fitted to the training rows.
    pub scale: Option<MinMax>,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions {
            label_column: None,
            normal_labels: Vec::new(),
            header: Header::Auto,
            train_fraction: 0.5,
            anomaly_share: Some(0.2),
            seed: 0,
            scale: None,
        }
    }
}

/// (x − min)/(max − min) of each feature with the extremes of the training rows. Test values may leave [0, 1]: that is
/// what makes them conspicuous. A constant feature becomes x − min.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinMax {
    /// Least value of each feature among the training rows.
    pub min: Vec<f64>,
    /// Largest value of each feature among the training rows.
    pub max: Vec<f64>,
}

impl MinMax {
    /// One value of a feature.
    pub fn apply(&self, feature: usize, value: f64) -> f32 {
        let span = self.max[feature] - self.min[feature];
        ((value - self.min[feature]) / if span > 0.0 { span } else { 1.0 }) as f32
    }
}

/// A column as it is stored; it becomes one feature or one for each of its values.
pub(crate) enum Column {
    Number,
    /// Value k of the stored number is category k; beyond the list none of the features is set.
    OneOf(usize),
}

/// What a file holds, before it is split.
pub(crate) struct Rows {
    pub(crate) layout: &'static str,
    /// Names of the features, one-hot ones as `column=value`.
    pub(crate) features: Vec<String>,
    pub(crate) columns: Vec<Column>,
    /// `rows × columns` values.
    pub(crate) values: Vec<f32>,
    /// One a row.
    pub(crate) anomalous: Vec<bool>,
    /// Categories met that have no feature.
    pub(crate) unknown: usize,
    /// Memory of all this.
    pub(crate) held: Held,
}

/// A table with its split. Rows are stored as read and expanded when asked for, since one-hot features are many.
pub struct Table {
    spec: String,
    rows: Rows,
    /// Rows of each split.
    splits: [Vec<u32>; 2],
    scale: MinMax,
}

impl Table {
    /// Opens a CSV file, gzipped or not: KDD99 (41 columns and a label with a dot, told by its rows) or numbers with a
    /// label column.
    ///
    /// A share of all rows (half by default) is drawn with the seed; its normal rows are trained on, the other share is
    /// tested. Errors: a file that cannot be read (with line and column), a label column that is not there, no normal
    /// row, a fraction outside its range.
    pub fn open(spec: &str, options: &TableOptions) -> Result<Self, DataError> {
        for (name, share) in
            [("train fraction", Some(options.train_fraction)), ("anomaly share", options.anomaly_share)]
        {
            if let Some(share) = share.filter(|&share| !(share > 0.0 && share < 1.0)) {
                return Err(DataError::option(name, share, "use a share above 0 and below 1"));
            }
        }
        let path = Path::new(spec);
        let rows = match kdd99::is_kdd99(path)? {
            true => kdd99::read(path, options)?,
            false => numeric::read(path, options)?,
        };
        let splits = split(&rows.anomalous, options);
        let mut table = Table { spec: spec.into(), rows, splits, scale: MinMax { min: vec![], max: vec![] } };
        if table.is_empty(Split::Train) {
            let reason =
                "no normal row is left to train on; state the labels of the normal class, or train on more";
            return Err(DataError::spec(spec, reason));
        }
        table.scale = match &options.scale {
            Some(scale) if [&scale.min, &scale.max].iter().all(|v| v.len() == table.features().len()) => {
                scale.clone()
            }
            Some(scale) => {
                let (here, there) = (table.features().len(), scale.min.len());
                let reason = format!(
                    "has {here} features, but the model was trained on {there}; give the same columns"
                );
                return Err(DataError::spec(spec, reason));
            }
            None => table.fit(),
        };
        Ok(table)
    }

    /// Extremes of the training rows; no test row is looked at.
    fn fit(&self) -> MinMax {
        let width = self.features().len();
        let mut scale = MinMax { min: vec![f64::INFINITY; width], max: vec![f64::NEG_INFINITY; width] };
        let mut raw = vec![0.0; width];
        for &row in &self.splits[Split::Train.slot()] {
            self.expand(row, &mut raw);
            for (feature, &value) in raw.iter().enumerate() {
                scale.min[feature] = scale.min[feature].min(value);
                scale.max[feature] = scale.max[feature].max(value);
            }
        }
        scale
    }

    /// The features of a stored row, unscaled.
    fn expand(&self, row: u32, features: &mut [f64]) {
        let width = self.rows.columns.len();
        let stored = &self.rows.values[row as usize * width..(row as usize + 1) * width];
        let mut at = 0;
        for (column, &value) in self.rows.columns.iter().zip(stored) {
            match column {
                Column::Number => {
                    features[at] = f64::from(value);
                    at += 1;
                }
                Column::OneOf(categories) => {
                    features[at..at + categories].fill(0.0);
                    if (value as usize) < *categories {
                        features[at + value as usize] = 1.0;
                    }
                    at += categories;
                }
            }
        }
    }

    /// The specification it was opened with.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    /// `kdd99` or `csv`.
    pub fn layout(&self) -> &'static str {
        self.rows.layout
    }

    /// Names of the features.
    pub fn features(&self) -> &[String] {
        &self.rows.features
    }

    /// Rows of a split.
    pub fn len(&self, split: Split) -> usize {
        self.splits[split.slot()].len()
    }

    /// Whether a split has no row.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Row of the file, from 0 without the header, behind row `i` of a split.
    pub fn source_row(&self, split: Split, i: usize) -> usize {
        self.splits[split.slot()][i] as usize
    }

    /// Truth of row `i` of a split, which must be below [`Table::len`].
    pub fn truth(&self, split: Split, i: usize) -> Truth {
        if self.rows.anomalous[self.source_row(split, i)] { Truth::Anomalous } else { Truth::Normal }
    }

    /// Rows side by side, B × F values: training rows in [0, 1], test rows around it. `chosen` must be below
    /// [`Table::len`].
    pub fn gather(&self, split: Split, chosen: &[usize]) -> Vec<f32> {
        let mut raw = vec![0.0; self.features().len()];
        let mut values = Vec::with_capacity(chosen.len() * raw.len());
        for &i in chosen {
            self.expand(self.splits[split.slot()][i], &mut raw);
            values.extend(raw.iter().enumerate().map(|(feature, &value)| self.scale.apply(feature, value)));
        }
        values
    }

    /// Scaling fitted to the training rows, or given.
    pub fn scale(&self) -> &MinMax {
        &self.scale
    }

    /// Fields whose category has no feature; they count as none of them.
    pub fn unknown_categories(&self) -> usize {
        self.rows.unknown
    }

    /// SHA-256 over names and values of the training rows, as 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let width = self.rows.columns.len();
        let mut hasher = Sha256::new();
        hasher.update(self.features().join("\n"));
        for &row in &self.splits[Split::Train.slot()] {
            for value in &self.rows.values[row as usize * width..(row as usize + 1) * width] {
                hasher.update(value.to_le_bytes());
            }
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Both splits come from one permutation, so that no row is in both.
fn split(anomalous: &[bool], options: &TableOptions) -> [Vec<u32>; 2] {
    let n = anomalous.len();
    let permutation = Permutation::new(n as u64, &[options.seed, SPLIT]);
    let drawn = (n as f64 * options.train_fraction).round() as usize;
    let row = |i: usize| permutation.get(i as u64) as u32;
    let mut train: Vec<u32> = (0..drawn).map(row).filter(|&row| !anomalous[row as usize]).collect();
    let rest: Vec<u32> = (drawn..n).map(row).collect();
    let normals = rest.iter().filter(|&&row| !anomalous[row as usize]).count();
    let mut room = match options.anomaly_share {
        Some(share) => (normals as f64 * share / (1.0 - share)) as usize,
        None => usize::MAX,
    };
    let mut keep = |row: &u32| {
        if anomalous[*row as usize] {
            let fits = room > 0;
            room = room.saturating_sub(1);
            return fits;
        }
        true
    };
    let mut test: Vec<u32> = rest.into_iter().filter(|row| keep(row)).collect();
    // In order of the file, so that batches do not depend on how the permutation is made.
    train.sort_unstable();
    test.sort_unstable();
    [train, test]
}
