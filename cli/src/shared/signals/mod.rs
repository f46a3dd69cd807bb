//! Series and tables: samples that are not images, held in memory.

mod compare;
mod evaluate;
mod rows;
mod score;

use std::path::PathBuf;

use ganomede::detect::open_series;
use ganomede::models::Form;
use ganomede::models::file::ModelFile;
use ganomede_datasets::signal::Header;
use ganomede_datasets::{DataError, SignalOptions, SignalSet, TrainPart};

use crate::shared::CliError;

pub(crate) use compare::compare;
pub(crate) use evaluate::evaluate;
pub(crate) use rows::{evaluate_table, score_table};
pub(crate) use score::score;

/// Samples that are not images.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SampleArgs {
    /// The data are a series: a CSV file, a folder with train.csv and test.csv, or builtin:telemetry. Systems
    /// see windows of --size points.
    #[arg(long, conflicts_with = "table")]
    pub(crate) signal: bool,
    /// The data are a table: KDD99, or a CSV file of numbers with a label column. What is given of labels and
    /// columns when a model is trained, the model remembers.
    #[arg(long)]
    pub(crate) table: bool,
    /// Whether the first row of a CSV file names the columns; auto judges by the rows, and says what it took
    /// the first for.
    #[arg(long, value_name = "WHETHER", default_value = "auto")]
    pub(crate) header: HeaderArg,
    /// Tables: share of the rows whose normal ones are trained on [default: 1 for a file of normal rows only;
    /// 0.5 for one that has both, whose other rows `eval` tests].
    #[arg(long, value_name = "SHARE")]
    pub(crate) train_fraction: Option<f64>,
    /// Tables: drop anomalous test rows until they are this share [default: keep all; 0.2 for the file that a
    /// model of KDD99 was trained on].
    #[arg(long, value_name = "SHARE")]
    pub(crate) anomaly_share: Option<f64>,
    /// Series: which rows are trained on: a share such as 0.5, a number of rows, `probation` (NAB's 15 %, at
    /// most 750 rows), or before:TIME.
    #[arg(long, value_name = "PART", value_parser = parse_part)]
    pub(crate) train_part: Option<TrainPart>,
    /// Series: file of the anomalous intervals: JSON windows, or CSV of start,end or of 0/1 labels.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Column of the labels, by name or number from 0 [default: the model's; of a table to be trained on the
    /// one called label, class or the like, else the last].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label_column: Option<String>,
    /// Series: column of the times [default: found by name].
    #[arg(long, value_name = "COLUMN")]
    pub(crate) time_column: Option<String>,
    /// Series: columns to read [default: all but time and label].
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Series: points between the starts of windows that are scored [default: 1; a quarter of a window for
    /// searched scores].
    #[arg(long, value_name = "POINTS")]
    pub(crate) stride: Option<usize>,
}

fn parse_part(text: &str) -> Result<TrainPart, String> {
    text.parse().map_err(|e: DataError| e.to_string())
}

impl SampleArgs {
    /// How a series is read.
    pub(crate) fn signal_options(&self) -> SignalOptions {
        SignalOptions {
            train: self.train_part,
            labels: self.labels.clone(),
            label_column: self.label_column.clone(),
            time_column: self.time_column.clone(),
            channels: self.columns.clone(),
            header: self.header.into(),
            ..SignalOptions::default()
        }
    }

    /// Opens a series, scaled as `model` was trained if there is one.
    pub(crate) fn open_signal(&self, spec: &str, model: Option<&ModelFile>) -> Result<SignalSet, CliError> {
        Ok(match model {
            Some(model) => open_series(spec, model, self.signal_options())?,
            None => SignalSet::open(spec, &self.signal_options())?,
        })
    }

    /// Refuses a `--stride` that windows of `size` points cannot have.
    pub(crate) fn check_stride(&self, size: usize) -> Result<(), CliError> {
        match self.stride.filter(|stride| !(1..=size).contains(stride)) {
            None => Ok(()),
            Some(stride) => Err(CliError::input(format!(
                "--stride is {stride}; it must be 1 to the window's {size} points"
            ))),
        }
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
