//! Rows of a table: training and scores.

use std::path::Path;

use ganomede_datasets::{DataError, Indices, Rejected, Split, Table, Truth};

use super::{BATCH, calibration, epoch_of, own_threshold, score_in_memory};
use crate::cli::args::Global;
use crate::cli::assess::losses;
use crate::cli::job::Feed;
use crate::cli::session::FALSE_ALARM_RATE;
use crate::cli::train::score_config;
use crate::cli::{CliError, Interrupt, eval, say, say_json};
use crate::device::Device;
use crate::eval::{Evaluation, EvaluationInput};
use crate::models::Form;
use crate::models::file::{Calibration, DataInfo, ModelFile, Scaling};
use crate::models::scorer::{ScoreConfig, Scorer};
use crate::report::{ReportInput, ScoredImage, Supplement, write_report_with};
use crate::train::Epoch;

/// The rows of a table that are trained on; the last of them are held out.
pub(crate) struct TableFeed {
    table: std::sync::Arc<Table>,
    training: usize,
}

impl TableFeed {
    pub(crate) fn new(table: Table, val_fraction: f64) -> Result<Self, CliError> {
        if !(0.0..1.0).contains(&val_fraction) {
            return Err(CliError::input(format!(
                "--val-fraction is {val_fraction}; it must be at least 0 and less than 1"
            )));
        }
        let count = table.len(Split::Train);
        let training = count - (count as f64 * val_fraction).round() as usize;
        Ok(Self { table: std::sync::Arc::new(table), training })
    }

    pub(crate) fn features(&self) -> usize {
        self.table.features().len()
    }

    pub(crate) fn info(&self, val_fraction: f64) -> DataInfo {
        DataInfo {
            spec: self.table.spec().to_owned(),
            digest: self.table.digest(),
            training_images: self.training,
            held_out: self.table.len(Split::Train) - self.training,
            val_fraction,
            scaling: Scaling::Table(self.table.scale().clone()),
            ..DataInfo::default()
        }
    }
}

impl Feed for TableFeed {
    fn epoch(&self, batch: usize, seed: u64, epoch: u64, start: u64) -> Result<Epoch, DataError> {
        let table = self.table.clone();
        let gather = move |chosen: &[usize]| table.gather(Split::Train, chosen);
        Ok(epoch_of(self.training, batch, seed, epoch, start, gather))
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
        let rows: Vec<usize> = (self.training..self.table.len(Split::Train)).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let scores = row_scores(device, model, path, score, &self.table, Split::Train, &rows, interrupt)?;
        calibration(&scores, score, FALSE_ALARM_RATE).map(Some)
    }

    fn rejected(&self) -> Vec<Rejected> {
        vec![]
    }
}

/// Scores of rows of a table.
pub(crate) fn row_scores(
    device: &Device,
    model: &ModelFile,
    path: &Path,
    score: &ScoreConfig,
    table: &Table,
    split: Split,
    rows: &[usize],
    interrupt: &Interrupt,
) -> Result<Vec<f64>, CliError> {
    let config = &model.header.config;
    if config.form != Form::Table || table.features().len() != config.channels {
        return Err(CliError::input(format!(
            "'{}' is a model of {} values a sample, the table '{}' has {} features",
            path.display(),
            config.sample_len(),
            table.spec(),
            table.features().len()
        )));
    }
    let mut scorer = Scorer::new(device, model, path, score, BATCH.min(rows.len().max(1)))?;
    let mut scores = vec![];
    let gather = |chosen: &[usize]| {
        let chosen: Vec<usize> = chosen.iter().map(|&i| rows[i]).collect();
        table.gather(split, &chosen)
    };
    score_in_memory(&mut scorer, rows.len(), gather, interrupt, |_, _, found| {
        scores.push(found.score);
        Ok(())
    })?;
    Ok(scores)
}

/// Scores the test rows of a table and says how well they are told apart.
pub(crate) fn evaluate_table(
    args: &eval::Args,
    global: &Global,
    device: &Device,
    model: &ModelFile,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let path = &args.model.model;
    let normal = if args.data.normal_class.is_empty() {
        &model.header.data.normal_classes
    } else {
        &args.data.normal_class
    };
    let table = args.samples.open_table(&args.data.data, normal, model.header.seed, Some(model))?;
    let score = score_config(&args.search, model, path)?;
    let rows: Vec<usize> = match args.limit_test {
        Some(limit) => Indices::shuffled(table.len(Split::Test), global.seed).take(limit).iter().collect(),
        None => (0..table.len(Split::Test)).collect(),
    };
    let started = std::time::Instant::now();
    let scores = row_scores(device, model, path, &score, &table, Split::Test, &rows, interrupt)?;
    let seconds = started.elapsed().as_secs_f64();
    let truths: Vec<bool> = rows.iter().map(|&i| table.truth(Split::Test, i) == Truth::Anomalous).collect();
    let rate = args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE);
    let description = device.describe();
    let evaluation = Evaluation::new(&EvaluationInput {
        system: &model.header.system,
        device: &description,
        scores: &scores,
        truths: &truths,
        threshold: own_threshold(model, &score, rate)?,
        seconds_per_image: seconds / scores.len().max(1) as f64,
        sub_sample: args.limit_test.map(|limit| format!("{limit} rows at random, seed {}", global.seed)),
        seed: global.seed,
        ..EvaluationInput::default()
    })?;
    if let Some(folder) = &args.report {
        let calibration = model.header.calibration.as_ref().filter(|c| c.score == score);
        let scored = |((&row, &score), &anomalous): ((&usize, &f64), &bool)| ScoredImage {
            id: format!("row {}", table.source_row(Split::Test, row)),
            class: if anomalous { "anomalous" } else { "normal" }.to_owned(),
            anomalous: Some(anomalous),
            score,
            probability: calibration.map(|c| c.quantiles.probability(score)),
            verdict: evaluation.threshold.as_ref().map(|t| score >= t.value),
        };
        let input = ReportInput {
            title: format!("{} on {}", model.header.system, args.data.data),
            data: args.data.data.clone(),
            configuration: vec![
                ("model".to_owned(), path.display().to_string()),
                ("score".to_owned(), score.score.clone()),
                ("false-alarm rate".to_owned(), rate.to_string()),
            ],
            evaluation: evaluation.clone(),
            images: rows.iter().zip(&scores).zip(&truths).map(scored).collect(),
            panels: vec![],
            losses: losses(model),
            samples: None,
        };
        write_report_with(folder, &input, &Supplement { sample: Some("row"), ..Supplement::default() })?;
    }
    if global.json {
        return say_json(&evaluation);
    }
    say(&eval::summary(&evaluation).replace("images:", "rows:").replace("per image", "per row"))
}
