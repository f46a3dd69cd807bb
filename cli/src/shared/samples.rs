//! What form samples have, how they are read, and which flags are not for them.

use std::path::PathBuf;

use ganomede::detect::Reading;
use ganomede::models::{Config, Form};
use ganomede_datasets::signal::HeaderRow;
use ganomede_datasets::{Channels, DataError, SignalOptions, TableOptions, TrainPart};

use crate::shared::CliError;
use crate::shared::args::{DataArgs, PreprocessArgs};

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
    /// What form the samples of a command line have; the only place that asks.
    pub(crate) fn form(&self) -> Form {
        match (self.signal, self.table) {
            (true, _) => Form::Signal,
            (_, true) => Form::Table,
            _ => Form::Image,
        }
    }

    /// Channels of samples whose number is known before any data are open.
    pub(crate) fn channels(&self, images: &PreprocessArgs) -> Option<usize> {
        (self.form() == Form::Image).then(|| Channels::from(images.channels).count())
    }

    /// How data are read.
    pub(crate) fn reading(&self, data: &DataArgs) -> Reading {
        Reading {
            images: data.open_options(),
            series: SignalOptions {
                train: self.train_part,
                labels: self.labels.clone(),
                label_column: self.label_column.clone(),
                time_column: self.time_column.clone(),
                channels: self.columns.clone(),
                header: self.header.into(),
                ..SignalOptions::default()
            },
            table: TableOptions {
                label_column: self.label_column.clone(),
                normal_labels: data.normal_class.clone(),
                anomalous_labels: data.anomalous_class.clone(),
                header: self.header.into(),
                group: data.group.as_ref().map(|rule| rule.text().to_owned()),
                train_fraction: self.train_fraction,
                anomaly_share: self.anomaly_share,
                ..TableOptions::default()
            },
            stride: self.stride,
        }
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
        const WHY: &str = "says nothing of {forms}; leave it out";
        refuse(
            form,
            &[
                Flag("--signal", self.signal, For::Series, WHY),
                Flag("--table", self.table, For::Tables, WHY),
                Flag("--header", self.header != HeaderArg::Auto, For::Numbers, WHY),
                Flag("--label-column", self.label_column.is_some(), For::Numbers, WHY),
                Flag("--train-fraction", self.train_fraction.is_some(), For::Tables, WHY),
                Flag("--anomaly-share", self.anomaly_share.is_some(), For::Tables, WHY),
                Flag("--train-part", self.train_part.is_some(), For::Series, WHY),
                Flag("--labels", self.labels.is_some(), For::Series, WHY),
                Flag("--time-column", self.time_column.is_some(), For::Series, WHY),
                Flag("--columns", !self.columns.is_empty(), For::Series, WHY),
                Flag("--stride", self.stride.is_some(), For::Series, WHY),
            ],
        )
    }

    /// As [`SampleArgs::check`], for a model that is trained.
    pub(crate) fn check_trained(&self, form: Form) -> Result<(), CliError> {
        self.check(form)?;
        let why = "is for training; the model knows which rows it was trained on";
        refuse(form, &[Flag("--train-fraction", self.train_fraction.is_some(), For::None, why)])
    }
}

/// Samples of these sizes in words.
pub(crate) fn described(config: &Config) -> String {
    let [height, width] = config.extent();
    match config.form {
        Form::Image => {
            format!("images of {width}×{height}, {}", if config.channels == 1 { "gray" } else { "rgb" })
        }
        Form::Signal => format!("windows of {width} points of {} channels", config.channels),
        Form::Table => format!("rows of {} features", config.channels),
    }
}

/// The flags of `train` that say so.
pub(crate) fn form_flags(config: &Config, by_tiles: bool) -> Vec<String> {
    let size = [if by_tiles { "--tile" } else { "--size" }.to_owned(), config.size.to_string()];
    let form: &[&str] = match config.form {
        Form::Image if config.channels == 1 => &[],
        Form::Image => &["--channels", "rgb"],
        Form::Signal => &["--signal"],
        Form::Table => return vec!["--table".to_owned()],
    };
    form.iter().map(|&flag| flag.to_owned()).chain(size).collect()
}

/// A flag, whether it was given, what it is for, and what is said where it is not; `{forms}`, `{samples}` and
/// `{units}` in that become words such as *series*, *points of a series*, *points*.
pub(crate) struct Flag<'a>(pub(crate) &'a str, pub(crate) bool, pub(crate) For, pub(crate) &'a str);

/// What a flag is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    None,
    Images,
    Series,
    Tables,
    /// Series and tables.
    Numbers,
    /// Images and series.
    ImagesAndSeries,
    /// Images and tables.
    ImagesAndTables,
}

impl For {
    fn fits(self, form: Form) -> bool {
        match form {
            Form::Image => matches!(self, Self::Images | Self::ImagesAndSeries | Self::ImagesAndTables),
            Form::Signal => matches!(self, Self::Series | Self::ImagesAndSeries | Self::Numbers),
            Form::Table => matches!(self, Self::Tables | Self::ImagesAndTables | Self::Numbers),
        }
    }
}

/// Refuses the first of the flags that was given and is not for such samples.
pub(crate) fn refuse(form: Form, flags: &[Flag<'_>]) -> Result<(), CliError> {
    let Some(Flag(flag, _, _, why)) = flags.iter().find(|Flag(_, given, what, _)| *given && !what.fits(form))
    else {
        return Ok(());
    };
    let [forms, samples, units] = match form {
        Form::Image => ["images", "images", "images"],
        Form::Signal => ["series", "points of a series", "points"],
        Form::Table => ["tables", "rows of a table", "rows"],
    };
    let why = why.replace("{forms}", forms).replace("{samples}", samples).replace("{units}", units);
    Err(CliError::input(format!("{flag} {why}")))
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

impl From<HeaderArg> for HeaderRow {
    fn from(value: HeaderArg) -> Self {
        match value {
            HeaderArg::Auto => HeaderRow::Auto,
            HeaderArg::Yes => HeaderRow::Yes,
            HeaderArg::No => HeaderRow::No,
        }
    }
}
