//! Multichannel signals: series from CSV files or the built-in generator, cut into windows for
//! one-dimensional systems. Plain numbers; no tensors.
//!
//! ```
//! use ganomede_datasets::{SignalOptions, SignalSet, Windows};
//!
//! let set = SignalSet::open("builtin:telemetry:train=2000,test=1000,seed=0", &SignalOptions::default())?;
//! let (train, validation) = set.holdout(0.1, 64)?;
//! let windows = Windows::new(train, 64, 16)?;
//! let batch = set.gather(&windows, &[0, 1, 2]);
//! assert_eq!(batch.len(), 3 * set.channels() * 64); // B × C × L in [−1, 1]
//! let test = Windows::new(set.test_rows(), 64, 1)?;
//! assert_eq!(test.offsets[0], set.test_rows().start); // rows of the series, for scores per point
//! # assert!(validation.len() == 200 && set.labels().iter().any(|&anomalous| anomalous));
//! # Ok::<(), ganomede_datasets::DataError>(())
//! ```

mod columns;
mod labels;
mod scale;
mod series;
mod time;
mod times;
mod warp;
mod windows;
mod write;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

pub use labels::Interval;
pub use scale::Standardize;
pub use series::Series;
pub use time::Moment;
pub use warp::Warp;
pub use windows::Windows;
pub use write::{SignalWritten, write_signal};

use columns::Label;
use times::Times;

use crate::csv_file::is_csv;
use crate::memory::Held;
use crate::source::parse_counts;
use crate::synth::telemetry;
use crate::{DataError, Truth};

/// Memory of a value of a folder's two files together, in a list that may have doubled.
const KEPT: u64 = 24;

/// Whether the first row of a CSV file names its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderRow {
    /// It does if none of its fields is a number or a time.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It is a row of values; columns are called by their numbers from 0.
    No,
}

/// What is done about values that are missing: empty, `nan`, `na`, `null`, infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// The channel keeps its last value, as a live monitor would; before the first there is the first.
    #[default]
    Hold,
    /// They are errors.
    Refuse,
}

/// Which rows are trained on: normal by declaration. They are always the first; the others are tested.
///
/// Parsed from `0.5` (a share), `1000` (rows), `probation` or `before:2014-07-10 00:00:00`, with or without
/// `train=`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainPart {
    /// This share of the rows, above 0 and below 1.
    Fraction(f64),
    /// This many rows; 0 only together with [`SignalOptions::scale`].
    Rows(usize),
    /// Rows before the first that is not earlier than this.
    Before(Moment),
    /// NAB's probation period: 15 % of the rows, at most 750.
    Probation,
}

impl FromStr for TrainPart {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        let part = text.trim();
        let part = part.strip_prefix("train=").unwrap_or(part);
        if part == "probation" {
            return Ok(TrainPart::Probation);
        }
        if let Some(moment) = part.strip_prefix("before:").and_then(time::parse) {
            return Ok(TrainPart::Before(moment));
        }
        if let Ok(rows) = part.parse() {
            return Ok(TrainPart::Rows(rows));
        }
        match part.parse::<f64>() {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(TrainPart::Fraction(share)),
            _ => Err(DataError::option(
                "train part",
                text,
                "write a share such as 0.5, a number of rows, `probation`, or `before:YYYY-MM-DD HH:MM:SS`",
            )),
        }
    }
}

/// How a series is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SignalOptions {
    /// Which rows are trained on. Needed for a CSV file; a folder and the built-in generator state it
    /// themselves.
    pub train: Option<TrainPart>,
    /// File that says which rows are anomalous: `.json` with windows, or CSV with `start,end` or a 0/1 label
    /// a row.
    pub labels: Option<PathBuf>,
    /// Column of 0/1 labels within the file, by name or number; in a folder of the test file, and of the
    /// training file if it has it.
    pub label_column: Option<String>,
    /// Column of times, by name or number; otherwise found by name (`timestamp`, `time`, …) or as the one
    /// with dates.
    pub time_column: Option<String>,
    /// Channels to read, by name or number, in this order; empty for all columns but time and label.
    pub channels: Vec<String>,
    /// Whether the first row names the columns.
    pub header: HeaderRow,
    /// What is done about missing values.
    pub missing: Missing,
    /// Scaling of a trained model; otherwise fitted to the training rows.
    pub scale: Option<Standardize>,
}

/// A series, which of its rows are trained on, and which are anomalous.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalSet {
    spec: String,
    series: Series,
    train_rows: usize,
    intervals: Vec<Interval>,
    labels: Vec<bool>,
    is_labelled: bool,
    scale: Standardize,
    notes: Vec<String>,
}

impl SignalSet {
    /// Opens a CSV file (gzipped or not), a folder of `train.csv`, `test.csv` and optionally `labels.csv` or
    /// `labels.json` (about the test file), or `builtin:telemetry[:train=ROWS,test=ROWS,seed=N]`.
    ///
    /// Errors: no such file, a file that cannot be read (with line and column), no training part declared or
    /// one that leaves no row to train on, a channel without a value in the training part, labels that do not
    /// fit.
    pub fn open(spec: &str, options: &SignalOptions) -> Result<Self, DataError> {
        if let Some(name) = spec.strip_prefix("builtin:") {
            return Self::generate(spec, name, options);
        }
        let path = Path::new(spec);
        if path.is_dir() {
            Self::open_folder(spec, path, options)
        } else {
            Self::open_file(spec, path, options)
        }
    }

    fn open_file(spec: &str, path: &Path, options: &SignalOptions) -> Result<Self, DataError> {
        let Some(part) = options.train else {
            return Err(DataError::spec(
                spec,
                "which rows are trained on is not stated; declare a training part: a share such as 0.5, a number of \
                 rows, `probation`, or `before:TIME`",
            ));
        };
        let series = Series::read(path, options, known(options), Label::Required)?;
        let mut notes = Vec::new();
        let intervals = match (&options.labels, &series.label_column) {
            (Some(labels), None) => Some(labels::read(labels, path, &series, &mut notes)?),
            (None, Some(labels)) => Some(labels::runs(labels)),
            (None, None) => None,
            (Some(labels), Some(_)) => {
                let reason = "labels are given as a file and as a column; choose one";
                return Err(DataError::option("labels", labels.display(), reason));
            }
        };
        let train_rows = part.rows(spec, &series)?;
        Self::new(spec, series, train_rows, intervals, notes, options)
    }

    fn open_folder(spec: &str, folder: &Path, options: &SignalOptions) -> Result<Self, DataError> {
        let find = |names: &[&str]| names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        let (train, test) = (find(&["train.csv", "train.csv.gz"]), find(&["test.csv", "test.csv.gz"]));
        let (Some(train), Some(test)) = (train, test) else {
            let there = crate::source::list(folder, |name| is_csv(Path::new(name)))?;
            let reason = format!(
                "a folder of a signal holds `train.csv` and `test.csv`; {} CSV files are there, give one by its path",
                there.len()
            );
            return Err(DataError::spec(spec, reason));
        };
        if options.train.is_some() {
            let reason = "the folder states what is trained on: `train.csv`; declare no training part";
            return Err(DataError::spec(spec, reason));
        }
        // Both may hold labels; those of the training rows say what is trained on as normal.
        let mut series = Series::read(&train, options, known(options), Label::Optional)?;
        let tested = Series::read(&test, options, &series.channels, Label::Required)?;
        if let (Some(own), Some(others)) = (&series.label_name, &tested.label_name)
            && !own.eq_ignore_ascii_case(others)
        {
            let reason = format!(
                "the column of the labels is `{others}`, but `{own}` in {}; give it by its name",
                train.display()
            );
            return Err(DataError::file(&test, reason));
        }
        let mut notes = Vec::new();
        let labels = options.labels.clone().or_else(|| find(&["labels.csv", "labels.json"]));
        let intervals = match (labels, &tested.label_column) {
            (_, Some(labels)) => Some(labels::runs(labels)),
            (Some(labels), None) => Some(labels::read(&labels, &test, &tested, &mut notes)?),
            (None, None) => None,
        };
        let train_rows = series.len();
        let trained = series.label_column.take().map(|labels| labels::runs(&labels)).unwrap_or_default();
        let values = (series.values.len() + tested.values.len()) as u64;
        series.held.grow(KEPT * values).map_err(|short| short.of(&test))?;
        series.extend(tested);
        let shift =
            |Interval { rows, kind }| Interval { rows: rows.start + train_rows..rows.end + train_rows, kind };
        let intervals =
            intervals.map(|list| trained.into_iter().chain(list.into_iter().map(shift)).collect());
        Self::new(spec, series, train_rows, intervals, notes, options)
    }

    fn generate(spec: &str, name: &str, options: &SignalOptions) -> Result<Self, DataError> {
        let (name, items) = name.split_once(':').unwrap_or((name, ""));
        if name != "telemetry" {
            let reason = "there is no such generator of signals; the built-in one is: telemetry";
            return Err(DataError::spec(spec, reason));
        }
        let plain = SignalOptions { scale: options.scale.clone(), ..SignalOptions::default() };
        if *options != plain {
            let reason = "the generator states its columns, labels and training part; give none";
            return Err(DataError::spec(spec, reason));
        }
        let defaults = [28 * telemetry::DAY, 14 * telemetry::DAY];
        let ([train, test], seed) = parse_counts(spec, items, defaults, "rows", 10_000_000)?;
        let held = Held::default();
        let bytes = (train + test) as u64 * (telemetry::CHANNELS.len() as u64 * 32 + 64);
        held.grow(bytes).map_err(|short| DataError::spec(spec, short.to_string()))?;
        let faults = telemetry::faults(seed, test);
        let mut rows = telemetry::draw(seed, 0, 0, train, &[]);
        rows.extend(telemetry::draw(seed, 1, train, test, &faults));
        // 2024-01-01, a Monday.
        let time = |row: i64| (1_704_067_200 + row * telemetry::STEP_SECONDS) * 1_000_000;
        let series = Series {
            channels: telemetry::CHANNELS.map(String::from).to_vec(),
            // Thousandths, so that what is written reads back as it was.
            values: rows.iter().flatten().map(|&value| (f64::from(value) * 1e3).round() / 1e3).collect(),
            times: Some(Times::generated((0..rows.len() as i64).map(time))),
            filled: vec![0; telemetry::CHANNELS.len()],
            first: vec![0; telemetry::CHANNELS.len()],
            held,
            ..Series::default()
        };
        if known(options).iter().ne(&series.channels) && !known(options).is_empty() {
            let reason = format!(
                "has the channels {}, but the model has {}",
                series.channels.join(", "),
                known(options).join(", ")
            );
            return Err(DataError::spec(spec, reason));
        }
        let interval = |fault: &telemetry::Fault| Interval {
            rows: train + fault.start..train + fault.end,
            kind: telemetry::KINDS[fault.kind].into(),
        };
        let intervals = faults.iter().map(interval).collect();
        Self::new(spec, series, train, Some(intervals), Vec::new(), options)
    }

    fn new(
        spec: &str,
        series: Series,
        train_rows: usize,
        intervals: Option<Vec<Interval>>,
        notes: Vec<String>,
        options: &SignalOptions,
    ) -> Result<Self, DataError> {
        let width = series.channels.len();
        let scale = match &options.scale {
            Some(scale) if scale.mean.len() == width && scale.sd.len() == width => scale.clone(),
            Some(scale) => {
                let reason = format!(
                    "has {width} channels ({}), but the model was trained on {}; give the same channels",
                    series.channels.join(", "),
                    scale.mean.len()
                );
                return Err(DataError::spec(spec, reason));
            }
            None if train_rows == 0 => {
                return Err(DataError::spec(
                    spec,
                    "no row is left to train on; declare a larger training part",
                ));
            }
            None => {
                if let Some(c) = (0..width).find(|&c| series.first[c] >= train_rows) {
                    let reason = format!(
                        "channel `{}` has no value in the {train_rows} training rows; leave the channel out or train \
                         on more",
                        series.channels[c]
                    );
                    return Err(DataError::spec(spec, reason));
                }
                // Nothing of the test rows may reach the statistics.
                Standardize::fit((0..train_rows).map(|i| series.row(i)), &series.channels)
            }
        };
        let is_labelled = intervals.is_some();
        let mut intervals = intervals.unwrap_or_default();
        intervals.sort_by_key(|interval| (interval.rows.start, interval.rows.end));
        let mut labels = vec![false; series.len()];
        for interval in &intervals {
            labels[interval.rows.clone()].fill(true);
        }
        let notes = {
            let mut all = series.notes.clone();
            all.extend(notes);
            if options.scale.as_ref().is_some_and(|scale| scale.names.is_empty()) {
                all.push("the model does not know its channels by name: they go by their order".to_owned());
            }
            let contrary = labels[..train_rows].iter().filter(|&&label| label).count();
            if contrary > 0 && options.scale.is_none() {
                all.push(format!(
                    "{contrary} of the {train_rows} training rows are labelled anomalous and trained on as normal"
                ));
            }
            all
        };
        Ok(SignalSet { spec: spec.into(), series, train_rows, intervals, labels, is_labelled, scale, notes })
    }

    /// What was decided in reading that a user may want to know, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The specification it was opened with.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    /// The values as read.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.series.channels.len()
    }

    /// Rows declared for training; they come first.
    pub fn train_rows(&self) -> Range<usize> {
        0..self.train_rows
    }

    /// The rows after them.
    pub fn test_rows(&self) -> Range<usize> {
        self.train_rows..self.series.len()
    }

    /// Training rows as (to train on, to calibrate on): the last `fraction` of them, and at least `window`
    /// rows, are held out as one block of time, so that no window lies on both sides. A fraction of 0 holds
    /// out none.
    ///
    /// Errors: a fraction outside [0, 1), or fewer training rows than two windows.
    pub fn holdout(&self, fraction: f64, window: usize) -> Result<(Range<usize>, Range<usize>), DataError> {
        if !(0.0..1.0).contains(&fraction) {
            return Err(DataError::option(
                "val-fraction",
                fraction,
                "use 0 (none) up to but not including 1",
            ));
        }
        let rows = self.train_rows;
        if fraction == 0.0 {
            return Ok((0..rows, rows..rows));
        }
        let share = ((rows as f64 * fraction).round() as usize).max(window);
        if rows < share + window {
            let reason = format!(
                "has {rows} training rows, too few for a window of {window} to train on and {share} rows held out for \
                 calibration; use shorter windows, a larger training part, a smaller share held out, or 0 to hold out none"
            );
            return Err(DataError::spec(&self.spec, reason));
        }
        Ok((0..rows - share, rows - share..rows))
    }

    /// Where a stretch of rows lies, for people: row numbers, and times where there are any.
    pub fn place(&self, rows: Range<usize>) -> String {
        let last = rows.end.saturating_sub(1);
        let times = self.series.time(rows.start).zip(self.series.time(last));
        let times = times.map_or(String::new(), |(first, last)| format!(" ({first} to {last})"));
        format!("rows {} to {last}{times}", rows.start)
    }

    /// Scaling fitted to the training rows, or given.
    pub fn scale(&self) -> &Standardize {
        &self.scale
    }

    /// Whether anything says which rows are anomalous.
    pub fn is_labelled(&self) -> bool {
        self.is_labelled
    }

    /// Whether each row is anomalous, one a row of the series; all false without labels.
    pub fn labels(&self) -> &[bool] {
        &self.labels
    }

    /// Anomalous intervals in order of their starts, as labelled; they may overlap.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// The labelled intervals within `rows`, cut to them, in order: those that overlap are one, those that
    /// only touch are two.
    pub fn segments(&self, rows: Range<usize>) -> Vec<Range<usize>> {
        let mut segments: Vec<Range<usize>> = Vec::new();
        for interval in &self.intervals {
            let (start, end) = (interval.rows.start.max(rows.start), interval.rows.end.min(rows.end));
            match segments.last_mut() {
                _ if start >= end => {}
                Some(last) if start < last.end => last.end = last.end.max(end),
                _ => segments.push(start..end),
            }
        }
        segments
    }

    /// Truth of some rows together: anomalous iff any of them is labelled so, unknown without labels. `rows`
    /// must lie within the series.
    pub fn truth(&self, rows: Range<usize>) -> Truth {
        match (self.is_labelled, self.labels[rows].contains(&true)) {
            (false, _) => Truth::Unknown,
            (true, true) => Truth::Anomalous,
            (true, false) => Truth::Normal,
        }
    }

    /// `windows` without those that touch an anomalous row, for training where labels may be used.
    pub fn without_anomalies(&self, windows: &Windows) -> Windows {
        let keep = |&offset: &usize| self.truth(offset..offset + windows.length) != Truth::Anomalous;
        Windows { length: windows.length, offsets: windows.offsets.iter().copied().filter(keep).collect() }
    }

    /// Scaled windows side by side, B × C × L values in [−1, 1]. `windows` must be of this series and
    /// `chosen` below its length.
    pub fn gather(&self, windows: &Windows, chosen: &[usize]) -> Vec<f32> {
        let channels = self.channels();
        let mut values = Vec::with_capacity(chosen.len() * channels * windows.length);
        for &i in chosen {
            for c in 0..channels {
                values.extend(windows.rows(i).map(|row| self.scale.apply(c, self.series.row(row)[c])));
            }
        }
        values
    }

    /// SHA-256 over names and values of the training rows, as 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.series.channels.join("\n"));
        for value in self.train_rows().flat_map(|i| self.series.row(i)) {
            hasher.update(value.to_le_bytes());
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TrainPart {
    fn rows(self, spec: &str, series: &Series) -> Result<usize, DataError> {
        let rows = series.len();
        let count = match self {
            TrainPart::Fraction(share) if share > 0.0 && share < 1.0 => {
                (rows as f64 * share).floor() as usize
            }
            TrainPart::Fraction(share) => {
                return Err(DataError::option("train part", share, "use a share above 0 and below 1"));
            }
            TrainPart::Rows(count) => count,
            TrainPart::Probation => ((rows as f64 * 0.15).floor() as usize).min(750),
            TrainPart::Before(moment) => {
                let Some(times) = &series.times else {
                    return Err(DataError::spec(
                        spec,
                        "has no column of times; declare the training part in rows",
                    ));
                };
                let instant = times
                    .instant(moment)
                    .map_err(|what| DataError::option("train part", format!("{moment:?}"), what))?;
                (0..rows).find(|&row| times.compare(row, instant).is_ge()).unwrap_or(rows)
            }
        };
        if count > rows {
            let reason = format!("has {rows} rows, fewer than the {count} declared for training");
            return Err(DataError::spec(spec, reason));
        }
        Ok(count)
    }
}

/// Names of the channels of a trained model; empty without one.
fn known(options: &SignalOptions) -> &[String] {
    options.scale.as_ref().map(|scale| &scale.names[..]).unwrap_or_default()
}
