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

pub(crate) mod header;
mod kdd99;
pub(crate) mod labels;
mod read;
mod scale;
mod schema;
mod split;

use std::path::Path;

use sha2::{Digest, Sha256};

pub(crate) use header::{is_header, named_label};
pub use scale::{FAR, MinMax};
pub use schema::Schema;

use crate::groups::Groups;
use crate::signal::HeaderRow;
use crate::{DataError, Split, Truth};
use read::{Column, Rows};
use scale::{Unscalable, extremes};
use schema::short;
use split::Parts;

/// How a table is read and split.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableOptions {
    /// Column of the labels, by name or number from 0; otherwise the model's, the only one that is called
    /// `label`, `class` or the like, or the last.
    pub label_column: Option<String>,
    /// Labels of the normal class; alone, all others are anomalous.
    pub normal_labels: Vec<String>,
    /// Labels of the anomalous class; alone, all others are normal. With both, rows of other labels are left
    /// out. With neither, the model's; without a model `0`, `normal`, `good` and `inlier` are normal, and for
    /// KDD99 attacks, as in the papers.
    pub anomalous_labels: Vec<String>,
    /// Whether the first row names the columns.
    pub header: HeaderRow,
    /// Column of groups, by name or number from 0, where rows come in groups (visits of a patient, parts of a
    /// lot): it is no feature, and whole groups are held out and left to test. Otherwise the model's, if the
    /// file has it.
    pub group: Option<String>,
    /// Share of the rows whose normal ones are trained on, above 0 and at most 1. By default all of a file
    /// that has normal rows only, and half of one that has both, so that the other half can be tested.
    pub train_fraction: Option<f64>,
    /// Test rows keep at most this share of anomalies, above 0 and at most 1; by default all are kept, of the
    /// file that a model of KDD99 is trained on a fifth.
    pub anomaly_share: Option<f64>,
    /// Share of the training rows that is held out, drawn at random: at least 0 and below 1.
    pub val_fraction: f64,
    /// Seed of the split and of what is held out.
    pub seed: u64,
    /// The model that the rows are for, and what it was trained on; without one the table is to be trained
    /// on.
    pub trained: Option<Trained>,
}

/// What a model keeps of the table it was trained on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trained {
    /// Its columns and labels.
    pub schema: Schema,
    /// Its scaling.
    pub scale: MinMax,
    /// [`Table::digest`] of its training rows.
    pub digest: String,
    /// Labels that were given as normal.
    pub normal_labels: Vec<String>,
    /// Labels that were given as anomalous.
    pub anomalous_labels: Vec<String>,
}

/// A table with its split. Rows are stored as read and expanded when asked for, since one-hot features are
/// many.
pub struct Table {
    spec: String,
    rows: Rows,
    parts: Parts,
    is_own: bool,
    scale: MinMax,
}

impl Table {
    /// Opens a CSV file, gzipped or not: KDD99 (41 columns and a label with a dot, told by its rows) or
    /// numbers with a label column.
    ///
    /// To be trained on, a share of the rows is drawn with the seed and its normal ones are trained on, but
    /// those that are held out; every other row is tested. Of KDD99 half of all rows is drawn, the anomalous
    /// ones among them are dropped, and a fifth of the test rows may be anomalous, as in the papers. For a
    /// trained model, the rows of its own file are split as they were then, and all rows of any other file
    /// are tested. Its columns are found by their names.
    ///
    /// Errors: a file that cannot be read (with line and column), columns or a label column that are not
    /// there, labels that mean the contrary of what the model learned, no normal row to train on, a feature
    /// that cannot be scaled, a fraction outside its range.
    pub fn open(spec: &str, options: &TableOptions) -> Result<Self, DataError> {
        for (name, share) in
            [("train fraction", options.train_fraction), ("anomaly share", options.anomaly_share)]
        {
            if let Some(share) = share.filter(|&share| !(share > 0.0 && share <= 1.0)) {
                return Err(DataError::option(name, share, "use a share above 0 and at most 1"));
            }
        }
        let rows = read::read(Path::new(spec), options)?;
        let mut table = Table {
            spec: spec.into(),
            rows,
            parts: Parts::default(),
            is_own: true,
            scale: MinMax::default(),
        };
        match &options.trained {
            None => {
                let fraction = split::train_fraction(&table.rows, options);
                table.rows.schema.train_fraction = fraction;
                table.parts = split::split(&table.rows, fraction, options)?;
                if table.parts.train.is_empty() {
                    let there: Vec<String> = table.rows.schema.labels.keys().cloned().collect();
                    let reason = format!(
                        "there is no normal row to train on; its labels are {}; state which are normal, or train on more",
                        schema::listed(&there)
                    );
                    return Err(DataError::spec(spec, reason));
                }
                table.scale = table.fit()?;
            }
            Some(trained) => {
                table.scale = trained.scale.clone();
                let width = table.features().len();
                if [&trained.scale.min, &trained.scale.max].iter().any(|v| v.len() != width) {
                    let reason = format!(
                        "has {width} features, but the model was trained on {}; give the same columns",
                        trained.scale.min.len()
                    );
                    return Err(DataError::spec(spec, reason));
                }
                // Which rows were drawn is known again; whether they are those of the model, their digest
                // says.
                let parts = split::split(&table.rows, trained.schema.train_fraction, options);
                table.parts = parts.unwrap_or_default();
                table.is_own = !table.parts.train.is_empty() && table.digest() == trained.digest;
                if !table.is_own {
                    table.parts = Parts::all(&table.rows, options);
                }
            }
        }
        table.note_far_values();
        Ok(table)
    }

    /// Extremes of the training rows; neither a held-out nor a test row is looked at.
    fn fit(&self) -> Result<MinMax, DataError> {
        let (mut scale, mut values) = (MinMax::default(), vec![]);
        for feature in self.features_of_columns() {
            let (column, category) = feature;
            values.clear();
            values.extend(self.parts.train.iter().map(|&row| self.value(row as usize, column, category)));
            let (min, max) = extremes(&values).map_err(|found| {
                let name = short(&self.rows.features[scale.min.len()]);
                let reason = match found {
                    Unscalable::Range => format!("column `{name}`: its range is beyond double precision; rescale it"),
                    Unscalable::Outlier(at) => format!(
                        "row {}, column `{name}`: {:?} leaves the other values no room, in single precision they would be \
                         all the same; correct or remove the row, or take the logarithm of the column",
                        self.parts.train[at], values[at]
                    ),
                };
                DataError::file(Path::new(&self.spec), reason)
            })?;
            scale.min.push(min);
            scale.max.push(max);
        }
        Ok(scale)
    }

    /// Column and category of each feature.
    fn features_of_columns(&self) -> impl Iterator<Item = (usize, Option<usize>)> + '_ {
        self.rows.columns.iter().enumerate().flat_map(|(column, kind)| match kind {
            Column::Number => vec![(column, None)],
            Column::OneOf(values) => (0..values.len()).map(|category| (column, Some(category))).collect(),
        })
    }

    /// A feature of a row, unscaled.
    fn value(&self, row: usize, column: usize, category: Option<usize>) -> f64 {
        let stored = self.rows.values[row * self.rows.columns.len() + column];
        match category {
            None => stored,
            Some(category) => f64::from(u8::from(stored as usize == category)),
        }
    }

    fn note_far_values(&mut self) {
        let features: Vec<_> = self.features_of_columns().collect();
        let (mut count, mut first) = (0, None);
        for row in 0..self.rows() {
            for (feature, &(column, category)) in features.iter().enumerate() {
                let value = self.value(row, column, category);
                if category.is_none() && self.scale.is_far(feature, value) {
                    count += 1;
                    first.get_or_insert_with(|| {
                        format!("row {row}, `{}`: {value:?}", self.rows.features[feature])
                    });
                }
            }
        }
        if let Some(first) = first {
            self.rows.notes.push(format!(
                "{count} values lie more than {FAR:e} times the range of the training rows away and count as that far; \
                 the first, {first}"
            ));
        }
    }

    /// The specification it was opened with.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    /// `kdd99` or `csv`.
    pub fn layout(&self) -> &str {
        &self.rows.schema.layout
    }

    /// Names of the features.
    pub fn features(&self) -> &[String] {
        &self.rows.features
    }

    /// Rows of the file, the header not counted.
    pub fn rows(&self) -> usize {
        self.rows.truths.len()
    }

    /// Whether the file has a column of labels.
    pub fn is_labelled(&self) -> bool {
        self.rows.is_labelled
    }

    /// Rows whose truth is not known, which are neither trained on nor tested.
    pub fn unlabelled(&self) -> usize {
        self.rows.truths.iter().filter(|&&truth| truth == Truth::Unknown).count()
    }

    /// Whether it holds the rows that its model is trained on; another file is tested whole.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Rows of a split; those held out are in neither.
    pub fn len(&self, split: Split) -> usize {
        self.part(split).len()
    }

    /// Whether a split has no row.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    fn part(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.parts.train,
            Split::Test => &self.parts.test,
        }
    }

    /// The group of each row of the file, where they come in groups.
    pub fn groups(&self) -> Option<&Groups> {
        self.rows.groups.as_ref()
    }

    /// Rows of the file, from 0 without the header, that are held out for calibration: normal ones.
    pub fn held_out(&self) -> &[u32] {
        &self.parts.held_out
    }

    /// Row of the file, from 0 without the header, behind row `i` of a split.
    pub fn source_row(&self, split: Split, i: usize) -> usize {
        self.part(split)[i] as usize
    }

    /// Truth of row `i` of a split, which must be below [`Table::len`].
    pub fn truth(&self, split: Split, i: usize) -> Truth {
        self.rows.truths[self.source_row(split, i)]
    }

    /// Rows of a split side by side, as [`Table::gather_rows`] has them. `chosen` must be below
    /// [`Table::len`].
    pub fn gather(&self, split: Split, chosen: &[usize]) -> Vec<f32> {
        self.gather_rows(chosen.iter().map(|&i| self.source_row(split, i)))
    }

    /// Rows of the file side by side, B × F values: training rows in [0, 1], others around it. Rows must be
    /// below [`Table::rows`].
    pub fn gather_rows(&self, rows: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let features: Vec<_> = self.features_of_columns().collect();
        let mut values = vec![];
        for row in rows {
            values.extend(features.iter().enumerate().map(|(feature, &(column, category))| {
                self.scale.apply(feature, self.value(row, column, category))
            }));
        }
        values
    }

    /// Scaling fitted to the training rows, or the model's.
    pub fn scale(&self) -> &MinMax {
        &self.scale
    }

    /// Its columns and labels, for a model to keep.
    pub fn schema(&self) -> &Schema {
        &self.rows.schema
    }

    /// Fields whose category has no feature; they count as none of them.
    pub fn unknown_categories(&self) -> usize {
        self.rows.unknown
    }

    /// What was decided in reading that a user may want to know, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.rows.notes
    }

    /// SHA-256 over names and values of the training rows, those held out included, as 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let width = self.rows.columns.len();
        let mut hasher = Sha256::new();
        hasher.update(self.features().join("\n"));
        let mut rows: Vec<u32> = [&self.parts.train[..], &self.parts.held_out].concat();
        rows.sort_unstable();
        for row in rows {
            for value in &self.rows.values[row as usize * width..(row as usize + 1) * width] {
                hasher.update(value.to_le_bytes());
            }
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
