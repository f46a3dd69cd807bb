//! Rows of a table: training and scores.

mod evaluate;
mod score;

use std::path::Path;

use ganomede_datasets::{DataError, Findings, Split, Table, TableOptions, Trained};

use super::{BATCH, SampleArgs, calibration, epoch_of, score_in_memory};
use crate::shared::args::DataArgs;
use crate::shared::job::Feed;
use crate::shared::session::FALSE_ALARM_RATE;
use crate::shared::{CliError, Interrupt, note, shown};
use ganomede::device::Device;
use ganomede::models::Form;
use ganomede::models::file::{Calibration, DataInfo, ModelFile, Scaling};
use ganomede::models::scorer::{ScoreConfig, Scorer};
use ganomede::train::Epoch;

pub(crate) use evaluate::evaluate_table;
pub(crate) use score::score_table;

/// The rows of a table that are trained on, and those held out at random.
pub(crate) struct TableFeed {
    table: std::sync::Arc<Table>,
    info: DataInfo,
}

impl TableFeed {
    /// Opens a table to be trained on and says what was decided about it.
    pub(crate) fn open(
        from: &SampleArgs,
        data: &DataArgs,
        val_fraction: f64,
        seed: u64,
    ) -> Result<Self, CliError> {
        if from.anomaly_share.is_some() {
            return Err(CliError::input("--anomaly-share is about test rows; give it to `ganomede eval`"));
        }
        let options = TableOptions {
            normal_labels: data.normal_class.clone(),
            anomalous_labels: data.anomalous_class.clone(),
            val_fraction,
            seed,
            ..from.table_options()
        };
        Self::new(&data.data, &options)
    }

    fn new(spec: &str, options: &TableOptions) -> Result<Self, CliError> {
        let table = Table::open(spec, options)?;
        announce(&table);
        let (training, held_out, test) =
            (table.len(Split::Train), table.held_out().len(), table.len(Split::Test));
        note(&format!(
            "{spec}: of {} rows {training} are trained on, {held_out} are held out at random, {test} are left to test",
            table.rows()
        ));
        let info = DataInfo {
            spec: spec.to_owned(),
            digest: table.digest(),
            training_images: training,
            held_out,
            val_fraction: options.val_fraction,
            normal_classes: options.normal_labels.clone(),
            anomalous_classes: options.anomalous_labels.clone(),
            scaling: Scaling::Table(table.scale().clone()),
            table: Some(table.schema().clone()),
            ..DataInfo::default()
        };
        Ok(Self { table: std::sync::Arc::new(table), info })
    }

    /// The rows that a model was trained on, split by another seed.
    fn again(model: &ModelFile, from: &SampleArgs, data: &DataArgs, seed: u64) -> Result<Self, CliError> {
        let info = &model.header.data;
        let schema = info.table.clone().unwrap_or_default();
        let label =
            if schema.label.is_empty() { schema.label_place.to_string() } else { schema.label.clone() };
        let options = TableOptions {
            label_column: Some(label),
            normal_labels: info.normal_classes.clone(),
            anomalous_labels: info.anomalous_classes.clone(),
            train_fraction: Some(schema.train_fraction),
            val_fraction: info.val_fraction,
            seed,
            ..from.table_options()
        };
        let feed = Self::new(&data.data, &options)?;
        if feed.features() != model.header.config.channels {
            return Err(CliError::input(format!(
                "--seeds trains again, but '{}' has more columns than the model was trained on; remove them",
                data.data
            )));
        }
        Ok(feed)
    }

    pub(crate) fn features(&self) -> usize {
        self.table.features().len()
    }

    pub(crate) fn info(&self) -> DataInfo {
        self.info.clone()
    }
}

impl Feed for TableFeed {
    fn epoch(&self, batch: usize, seed: u64, epoch: u64, start: u64) -> Result<Epoch, DataError> {
        let table = self.table.clone();
        let gather = move |chosen: &[usize]| table.gather(Split::Train, chosen);
        Ok(epoch_of(self.info.training_images, batch, seed, epoch, start, gather))
    }

    fn preview(&self) -> Vec<f32> {
        vec![]
    }

    fn calibrate(
        &self,
        device: &Device,
        model: &ModelFile,
        path: &Path,
        score: &ScoreConfig,
        interrupt: &Interrupt,
    ) -> Result<Option<Calibration>, CliError> {
        held_out_calibration(device, model, path, score, &self.table, interrupt)
    }

    fn findings(&self) -> Findings {
        Findings::default()
    }
}

impl SampleArgs {
    fn table_options(&self) -> TableOptions {
        TableOptions {
            label_column: self.label_column.clone(),
            header: self.header.into(),
            train_fraction: self.train_fraction,
            anomaly_share: self.anomaly_share,
            ..TableOptions::default()
        }
    }

    /// Opens a table as a model's own was read, and says what was decided about it.
    fn open_table(
        &self,
        spec: &str,
        [normal, anomalous]: [&[String]; 2],
        model: &ModelFile,
        path: &Path,
    ) -> Result<Table, CliError> {
        self.check(Form::Table)?;
        if self.train_fraction.is_some() {
            return Err(CliError::input(
                "--train-fraction is for training; the model knows which rows it was trained on",
            ));
        }
        let header = &model.header;
        let (Scaling::Table(scale), Some(schema)) = (&header.data.scaling, &header.data.table) else {
            return Err(CliError::input(format!(
                "'{}' was written by a version that remembered neither columns nor labels and scaled in single \
                 precision; train it again",
                shown(path)
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
            normal_labels: normal.to_vec(),
            anomalous_labels: anomalous.to_vec(),
            val_fraction: header.data.val_fraction,
            seed: header.seed,
            trained: Some(trained),
            ..self.table_options()
        };
        let table = Table::open(spec, &options)?;
        announce(&table);
        Ok(table)
    }
}

/// Says what was decided in reading a table.
fn announce(table: &Table) {
    table.notes().iter().for_each(|decided| note(&format!("{}: {decided}", table.spec())));
}

/// A score's scale and threshold from the rows that were held out; `None` where there are none.
fn held_out_calibration(
    device: &Device,
    model: &ModelFile,
    path: &Path,
    score: &ScoreConfig,
    table: &Table,
    interrupt: &Interrupt,
) -> Result<Option<Calibration>, CliError> {
    let rows: Vec<usize> = table.held_out().iter().map(|&row| row as usize).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let scores = row_scores(device, model, path, score, table, &rows, interrupt)?;
    calibration(&scores, score, FALSE_ALARM_RATE).map(Some)
}

/// Scores of rows of a file, which are counted from 0 without the header.
fn row_scores(
    device: &Device,
    model: &ModelFile,
    path: &Path,
    score: &ScoreConfig,
    table: &Table,
    rows: &[usize],
    interrupt: &Interrupt,
) -> Result<Vec<f64>, CliError> {
    let config = &model.header.config;
    if config.form != Form::Table || table.features().len() != config.channels {
        return Err(CliError::input(format!(
            "'{}' is a model of {} values a sample, the table '{}' has {} features",
            shown(path),
            config.sample_len(),
            table.spec(),
            table.features().len()
        )));
    }
    let mut scorer = Scorer::new(device, model, path, score, BATCH.min(rows.len().max(1)))?;
    let mut scores = vec![];
    let gather = |chosen: &[usize]| table.gather_rows(chosen.iter().map(|&i| rows[i]));
    score_in_memory(&mut scorer, rows.len(), gather, interrupt, |_, _, found| {
        scores.push(found.score);
        Ok(())
    })?;
    Ok(scores)
}
