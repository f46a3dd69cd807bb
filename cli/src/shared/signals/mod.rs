//! Series and tables: samples that are not images, held in memory.

mod baselines;
mod compare;
mod evaluate;
mod rows;
mod score;
mod series;

use std::path::PathBuf;

use ganomede_datasets::signal::Header;
use ganomede_datasets::{DataError, Indices, SignalOptions, SignalSet, TrainPart};

use crate::shared::progress::Progress;
use crate::shared::{CliError, Interrupt};
use ganomede::eval::{Quantiles, Threshold};
use ganomede::models::Form;
use ganomede::models::file::{Calibration, ModelFile, Scaling};
use ganomede::models::scorer::{Found, ScoreConfig, Scorer};
use ganomede::train::Epoch;

pub(crate) use compare::compare;
pub(crate) use evaluate::evaluate;
pub(crate) use rows::{TableFeed, evaluate_table, score_table};
pub(crate) use score::score;
pub(crate) use series::SeriesFeed;

/// Samples that are not images.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SampleArgs {
    /// The data are a series: a CSV file, a folder with train.csv and test.csv, or builtin:telemetry. Systems see windows
    /// of --size points.
    #[arg(long, conflicts_with = "table")]
    pub(crate) signal: bool,
    /// The data are a table: KDD99, or a CSV file of numbers with a label column. What is given of labels and columns when a
    /// model is trained, the model remembers.
    #[arg(long)]
    pub(crate) table: bool,
    /// Whether the first row of a CSV file names the columns; auto judges by the rows, and says what it took the first for.
    #[arg(long, value_name = "WHETHER", default_value = "auto")]
    pub(crate) header: HeaderArg,
    /// Tables: share of the rows whose normal ones are trained on [default: 1 for a file of normal rows only; 0.5 for one
    /// that has both, whose other rows `eval` tests].
    #[arg(long, value_name = "SHARE")]
    pub(crate) train_fraction: Option<f64>,
    /// Tables: drop anomalous test rows until they are this share [default: keep all; 0.2 for the file that a model of KDD99
    /// was trained on].
    #[arg(long, value_name = "SHARE")]
    pub(crate) anomaly_share: Option<f64>,
    /// Series: which rows are trained on: a share such as 0.5, a number of rows, `probation` (NAB's 15 %, at most 750
    /// rows), or before:TIME.
    #[arg(long, value_name = "PART", value_parser = parse_part)]
    pub(crate) train_part: Option<TrainPart>,
    /// Series: file of the anomalous intervals: JSON windows, or CSV of start,end or of 0/1 labels.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Column of the labels, by name or number from 0 [default: the model's; of a table to be trained on the one called
    /// label, class or the like, else the last].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label_column: Option<String>,
    /// Series: column of the times [default: found by name].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) time_column: Option<String>,
    /// Series: columns to read [default: all but time and label].
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Series: points between the starts of windows that are scored [default: 1; a quarter of a window for searched
    /// scores].
    #[arg(long, value_name = "POINTS")]
    pub(crate) stride: Option<usize>,
}

fn parse_part(text: &str) -> Result<TrainPart, String> {
    text.parse().map_err(|e: DataError| e.to_string())
}

impl SampleArgs {
    pub(crate) fn open_signal(&self, spec: &str, model: Option<&ModelFile>) -> Result<SignalSet, CliError> {
        let scale = match model.map(|m| &m.header.data.scaling) {
            Some(Scaling::Signal(scale)) => Some(scale.clone()),
            _ => None,
        };
        let options = SignalOptions {
            train: self.train_part,
            labels: self.labels.clone(),
            label_column: self.label_column.clone(),
            time_column: self.time_column.clone(),
            channels: self.columns.clone(),
            header: self.header.into(),
            scale,
            ..SignalOptions::default()
        };
        Ok(SignalSet::open(spec, &options)?)
    }

    /// Refuses what is given for samples of another form than the model's, or the training's.
    pub(crate) fn check(&self, form: Form) -> Result<(), CliError> {
        let (signal, table) = (form == Form::Signal, form == Form::Table);
        let given = [
            ("--signal", self.signal, signal),
            ("--table", self.table, table),
            ("--header", self.header != HeaderArg::Auto, signal || table),
            ("--label-column", self.label_column.is_some(), signal || table),
            ("--train-fraction", self.train_fraction.is_some(), table),
            ("--anomaly-share", self.anomaly_share.is_some(), table),
            ("--train-part", self.train_part.is_some(), signal),
            ("--labels", self.labels.is_some(), signal),
            ("--time-column", self.time_column.is_some(), signal),
            ("--columns", !self.columns.is_empty(), signal),
            ("--stride", self.stride.is_some(), signal),
        ];
        match given.iter().find(|(_, is_given, fits)| *is_given && !fits) {
            None => Ok(()),
            Some((flag, ..)) => {
                let name = match form {
                    Form::Image => "images",
                    Form::Signal => "series",
                    Form::Table => "tables",
                };
                Err(CliError::input(format!("{flag} says nothing of {name}; leave it out")))
            }
        }
    }
}

/// `--header`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HeaderArg {
    /// By the rows.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It is a row of values.
    No,
}

impl From<HeaderArg> for Header {
    fn from(value: HeaderArg) -> Self {
        match value {
            HeaderArg::Auto => Header::Auto,
            HeaderArg::Yes => Header::Yes,
            HeaderArg::No => Header::No,
        }
    }
}

/// Batches of samples in memory, in an order that is a function of (seed, epoch).
fn epoch_of(
    count: usize,
    batch: usize,
    seed: u64,
    epoch: u64,
    start: u64,
    gather: impl Fn(&[usize]) -> Vec<f32> + 'static,
) -> Epoch {
    let order = Indices::shuffled(count, seed ^ epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let batches = (start as usize..count / batch).map(move |number| {
        let chosen: Vec<usize> = (0..batch).filter_map(|i| order.get(number * batch + i)).collect();
        Ok(gather(&chosen))
    });
    Box::new(batches)
}

fn calibration(scores: &[f64], score: &ScoreConfig, rate: f64) -> Result<Calibration, CliError> {
    let quantiles = Quantiles::new(scores)?;
    let threshold = quantiles.threshold(rate)?;
    Ok(Calibration { score: score.clone(), quantiles, threshold: threshold.value, source: threshold.source })
}

/// The threshold of held-out normal samples, for the score that the model was calibrated with.
fn own_threshold(model: &ModelFile, score: &ScoreConfig, rate: f64) -> Result<Option<Threshold>, CliError> {
    let own = model.header.calibration.as_ref().filter(|c| c.score == *score);
    Ok(own.map(|c| c.quantiles.threshold(rate)).transpose()?)
}

/// Samples scored side by side.
const BATCH: usize = 256;

/// Scores `count` samples batch by batch; `gather` gives the samples of a range, `each` sees what was found.
fn score_in_memory(
    scorer: &mut Scorer,
    count: usize,
    gather: impl Fn(&[usize]) -> Vec<f32>,
    interrupt: &Interrupt,
    mut each: impl FnMut(usize, &[f32], Found) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut progress = Progress::new("scoring", "samples", 0, Some(count as u64));
    let len = scorer.image_len();
    for start in (0..count).step_by(scorer.batch()) {
        if interrupt.raised() {
            progress.end();
            return Err(CliError::interrupted("interrupted; nothing was written"));
        }
        let chosen: Vec<usize> = (start..count.min(start + scorer.batch())).collect();
        let samples = gather(&chosen);
        for (i, found) in scorer.score(&samples, None)?.into_iter().enumerate() {
            each(start + i, &samples[i * len..][..len], found)?;
        }
        progress.at((start + chosen.len()) as u64, "");
    }
    progress.end();
    Ok(())
}
