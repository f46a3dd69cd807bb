//! Rows of a table as samples, and scores of rows.

mod assess;
mod score;

use std::collections::BTreeSet;
use std::sync::Arc;

use ganomede_datasets::{DataError, Split, Table, TableOptions, Trained};

use super::{Applied, DetectError, HeldOut, Samples, TrainingData};
use crate::models::Form;
use crate::models::file::{DataInfo, ModelFile, Scaling};

pub use assess::{RowCounts, RowTests};
pub use score::RowQueries;
pub(super) use score::normal;

/// The rows of a table that are trained on, and those held out at random.
pub struct Rows {
    table: Arc<Table>,
    info: DataInfo,
}

impl Rows {
    /// Opens a table to be trained on.
    ///
    /// # Errors
    /// [`DataError`] where it cannot be read or says nothing of what is normal.
    pub fn open(data: &TrainingData) -> Result<Self, DataError> {
        let (val_fraction, seed) = (data.hold_out, data.seed);
        Self::with(&data.spec, &TableOptions { val_fraction, seed, ..data.reading.table.clone() })
    }

    fn with(spec: &str, options: &TableOptions) -> Result<Self, DataError> {
        let table = Table::open(spec, options)?;
        let info = DataInfo {
            spec: spec.to_owned(),
            digest: table.digest(),
            training_images: table.len(Split::Train),
            held_out: table.held_out().len(),
            val_fraction: options.val_fraction,
            normal_classes: options.normal_labels.clone(),
            anomalous_classes: options.anomalous_labels.clone(),
            scaling: Scaling::Table(table.scale().clone()),
            table: Some(table.schema().clone()),
            ..DataInfo::default()
        };
        Ok(Self { table: Arc::new(table), info })
    }

    /// The rows that a model was trained on, split by another seed. What the model remembers of labels and
    /// columns holds; the rest is as `given`.
    ///
    /// # Errors
    /// [`DetectError::Data`] where the table cannot be read, [`DetectError::Input`] where its columns are
    /// others.
    pub fn again(spec: &str, model: &ModelFile, seed: u64, given: TableOptions) -> Result<Self, DetectError> {
        let info = &model.header.data;
        let schema = info.table.clone().unwrap_or_default();
        let label =
            if schema.label.is_empty() { schema.label_place.to_string() } else { schema.label.clone() };
        let options = TableOptions {
            label_column: Some(label),
            normal_labels: info.normal_classes.clone(),
            anomalous_labels: info.anomalous_classes.clone(),
            train_fraction: Some(schema.train_fraction),
            group: schema.group.clone(),
            val_fraction: info.val_fraction,
            seed,
            ..given
        };
        let rows = Self::with(spec, &options)?;
        if rows.channels() != model.header.config.channels {
            return Err(DetectError::Input(format!(
                "'{spec}' has more columns than the model was trained on; remove them"
            )));
        }
        Ok(rows)
    }
}

impl Samples for Rows {
    fn form(&self) -> Form {
        Form::Table
    }

    fn channels(&self) -> usize {
        self.table.features().len()
    }

    fn len(&self) -> usize {
        self.table.len(Split::Train)
    }

    fn get(&self, i: usize, _: [u64; 2]) -> Result<Vec<f32>, DataError> {
        if i >= self.len() {
            return Err(DataError::option("sample", i, format!("there are {}", self.len())));
        }
        Ok(self.table.gather(Split::Train, &[i]))
    }

    fn held_out(&self, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
        held_out_row_scores(model, &self.table)
    }

    /// What was decided about the table: how it was read, and what becomes of its rows.
    fn notes(&self) -> Vec<String> {
        let table = &self.table;
        let groups = table.groups().map(|groups| {
            let held_out: BTreeSet<u32> =
                table.held_out().iter().map(|&row| groups.of[row as usize]).collect();
            format!("rows are in {} groups, of which {} are held out whole", groups.len(), held_out.len())
        });
        let counts = format!(
            "of {} rows {} are trained on, {} are held out at random, {} are left to test",
            table.rows(),
            table.len(Split::Train),
            table.held_out().len(),
            table.len(Split::Test)
        );
        let notes = table.notes().iter().cloned().chain([counts]).chain(groups);
        notes.map(|text| format!("{}: {text}", table.spec())).collect()
    }

    fn info(&self) -> Result<DataInfo, DataError> {
        Ok(self.info.clone())
    }
}

/// Opens a table as a model's own was read: columns, labels, scaling and held-out rows are the model's.
///
/// # Errors
/// [`DetectError::Data`] where it cannot be read or does not fit the model, [`DetectError::Input`] for a
/// model that remembers nothing of tables.
pub fn open_table(
    spec: &str,
    model: &ModelFile,
    path: &std::path::Path,
    given: TableOptions,
) -> Result<Table, DetectError> {
    let header = &model.header;
    let (Scaling::Table(scale), Some(schema)) = (&header.data.scaling, &header.data.table) else {
        return Err(DetectError::Input(format!(
            "'{}' was written by a version that remembered neither columns nor labels and scaled in single precision; \
             train it again",
            ganomede_host::line(&path.to_string_lossy())
        )));
    };
    let trained = Trained {
        schema: schema.clone(),
        scale: scale.clone(),
        digest: header.data.digest.clone(),
        normal_labels: header.data.normal_classes.clone(),
        anomalous_labels: header.data.anomalous_classes.clone(),
    };
    let options = TableOptions {
        val_fraction: header.data.val_fraction,
        seed: header.seed,
        trained: Some(trained),
        ..given
    };
    Ok(Table::open(spec, &options)?)
}

/// Scores of the rows of a table that were held out, with their groups; none where there are none.
///
/// # Errors
/// As [`row_scores`].
pub fn held_out_row_scores(model: &mut Applied<'_>, table: &Table) -> Result<HeldOut, DetectError> {
    let rows: Vec<usize> = table.held_out().iter().map(|&row| row as usize).collect();
    if rows.is_empty() { Ok(HeldOut::default()) } else { normal_rows(model, table, &rows) }
}

/// Scores of normal rows with their groups.
fn normal_rows(model: &mut Applied<'_>, table: &Table, rows: &[usize]) -> Result<HeldOut, DetectError> {
    Ok(HeldOut {
        scores: row_scores(model, table, rows)?,
        groups: groups_of(table, rows),
        ..HeldOut::default()
    })
}

/// Number of the group of each row; none where rows do not come in groups.
fn groups_of(table: &Table, rows: &[usize]) -> Vec<u32> {
    table.groups().map_or(vec![], |groups| rows.iter().map(|&row| groups.of[row]).collect())
}

/// Scores of rows of a file, which are counted from 0 without the header.
///
/// # Errors
/// [`DetectError::Input`] for a model of something else or other features; else as [`Applied::each`].
pub fn row_scores(model: &mut Applied<'_>, table: &Table, rows: &[usize]) -> Result<Vec<f64>, DetectError> {
    let config = &model.model.header.config;
    if config.form != Form::Table || table.features().len() != config.channels {
        return Err(DetectError::Input(format!(
            "'{}' is a model of {} values a sample, the table '{}' has {} features",
            ganomede_host::line(&model.path.to_string_lossy()),
            config.sample_len(),
            table.spec(),
            table.features().len()
        )));
    }
    let mut scores = vec![];
    let gather = |chosen: &[usize]| table.gather_rows(chosen.iter().map(|&i| rows[i]));
    model.each(rows.len(), gather, |_, _, found| {
        scores.push(found.score);
        Ok(())
    })?;
    Ok(scores)
}
