//! Series and tables: samples that are not images, held in memory. Training, scores for each point or row, and the
//! comparison of systems on series.

use std::path::{Path, PathBuf};

use ganomede_datasets::{
    DataError, Indices, Rejected, SignalOptions, SignalSet, Split, Table, TableOptions, TrainPart, Truth,
    Windows,
};
use serde::Serialize;

use super::args::Global;
use super::job::Feed;
use super::progress::Progress;
use super::session::check_folder;
use super::train::score_config;
use super::{CliError, Interrupt, eval, note, say, say_json};
use crate::device::Device;
use crate::eval::signal::{
    AlarmRule, Interval, PointScores, Series, SignalEvaluation, intervals, random_reference,
};
use crate::eval::{Evaluation, EvaluationInput, Quantiles, Repeated, Threshold};
use crate::models::Form;
use crate::models::file::{Calibration, DataInfo, ModelFile, Scaling};
use crate::models::scorer::{Found, ScoreConfig, Scorer};
use crate::report::{write_atomic, write_section};
use crate::train::Epoch;

/// Share of false alarms among normal points that a threshold of a series aims at.
pub(crate) const POINT_FALSE_ALARM_RATE: f64 = 0.01;

/// Samples that are not images.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SampleArgs {
    /// The data are a series: a CSV file, a folder with train.csv and test.csv, or builtin:telemetry. Systems see windows
    /// of --size points.
    #[arg(long, conflicts_with = "table")]
    pub(crate) signal: bool,
    /// The data are a table: KDD99, or a CSV file of numbers with a label column.
    #[arg(long)]
    pub(crate) table: bool,
    /// Series: which rows are trained on: a share such as 0.5, a number of rows, `probation` (NAB's 15 %, at most 750
    /// rows), or before:TIME.
    #[arg(long, value_name = "PART", value_parser = parse_part)]
    pub(crate) train_part: Option<TrainPart>,
    /// Series: file of the anomalous intervals: JSON windows, or CSV of start,end or of 0/1 labels.
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
    /// Column of the labels, by name or number.
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
            scale,
            ..SignalOptions::default()
        };
        Ok(SignalSet::open(spec, &options)?)
    }

    pub(crate) fn open_table(
        &self,
        spec: &str,
        normal: &[String],
        seed: u64,
        model: Option<&ModelFile>,
    ) -> Result<Table, CliError> {
        let scale = match model.map(|m| &m.header.data.scaling) {
            Some(Scaling::Table(scale)) => Some(scale.clone()),
            _ => None,
        };
        let options = TableOptions {
            label_column: self.label_column.clone(),
            normal_labels: normal.to_vec(),
            seed,
            scale,
            ..TableOptions::default()
        };
        Ok(Table::open(spec, &options)?)
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

/// A series with the windows that are trained on.
pub(crate) struct SeriesFeed {
    pub(crate) set: std::sync::Arc<SignalSet>,
    windows: Windows,
    /// Rows held out for calibration.
    held_out: std::ops::Range<usize>,
    stride: Option<usize>,
}

impl SeriesFeed {
    /// Windows of `size` points every quarter of a window; rows at the end of the training part are held out.
    pub(crate) fn new(
        set: SignalSet,
        size: usize,
        val_fraction: f64,
        stride: Option<usize>,
    ) -> Result<Self, CliError> {
        let (training, held_out) = set.holdout(val_fraction)?;
        if !held_out.is_empty() && held_out.len() < size {
            return Err(CliError::input(format!(
                "of '{}' {} rows are held out for calibration, fewer than one window of {size}; use a larger \
                 --val-fraction, a smaller --size, or --val-fraction 0",
                set.spec(),
                held_out.len()
            )));
        }
        let windows = Windows::new(training, size, (size / 4).max(1))?;
        Ok(Self { set: std::sync::Arc::new(set), windows, held_out, stride })
    }

    pub(crate) fn info(&self, val_fraction: f64) -> DataInfo {
        DataInfo {
            spec: self.set.spec().to_owned(),
            digest: self.set.digest(),
            training_images: self.windows.len(),
            held_out: self.held_out.len(),
            val_fraction,
            scaling: Scaling::Signal(self.set.scale().clone()),
            ..DataInfo::default()
        }
    }
}

impl Feed for SeriesFeed {
    fn epoch(&self, batch: usize, seed: u64, epoch: u64, start: u64) -> Result<Epoch, DataError> {
        let (set, windows) = (self.set.clone(), self.windows.clone());
        Ok(epoch_of(self.windows.len(), batch, seed, epoch, start, move |chosen| {
            set.gather(&windows, chosen)
        }))
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
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let rows = self.held_out.clone();
        let scores = point_scores(device, model, path, score, &self.set, rows, self.stride, interrupt)?;
        calibration(&scores, score, POINT_FALSE_ALARM_RATE).map(Some)
    }

    fn rejected(&self) -> Vec<Rejected> {
        vec![]
    }
}

fn calibration(scores: &[f64], score: &ScoreConfig, rate: f64) -> Result<Calibration, CliError> {
    let quantiles = Quantiles::new(scores)?;
    let threshold = quantiles.threshold(rate)?;
    Ok(Calibration { score: score.clone(), quantiles, threshold: threshold.value, source: threshold.source })
}

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
        calibration(&scores, score, super::session::FALSE_ALARM_RATE).map(Some)
    }

    fn rejected(&self) -> Vec<Rejected> {
        vec![]
    }
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

/// A score for each row of a stretch of a series: the mean over the windows that cover it of the squared residual at
/// the row, or of the window's score where the system has no map.
pub(crate) fn point_scores(
    device: &Device,
    model: &ModelFile,
    path: &Path,
    score: &ScoreConfig,
    set: &SignalSet,
    rows: std::ops::Range<usize>,
    stride: Option<usize>,
    interrupt: &Interrupt,
) -> Result<Vec<f64>, CliError> {
    let config = &model.header.config;
    if config.form != Form::Signal {
        return Err(CliError::input(format!(
            "'{}' is not a model of series; train one with --signal",
            path.display()
        )));
    }
    if set.channels() != config.channels {
        return Err(CliError::input(format!(
            "'{}' has {} channels, the model was trained on {}; choose them with --columns",
            set.spec(),
            set.channels(),
            config.channels
        )));
    }
    let size = config.size;
    let mut scorer = Scorer::new(device, model, path, score, BATCH.min(rows.len().max(1)))?;
    let usual = if scorer.is_searched() { (size / 4).max(1) } else { 1 };
    let first = rows.start;
    let count = rows.len();
    let windows = Windows::new(rows, size, stride.unwrap_or(usual))?;
    let mut points = PointScores::new(count);
    let gather = |chosen: &[usize]| set.gather(&windows, chosen);
    score_in_memory(&mut scorer, windows.len(), gather, interrupt, |i, _, found| {
        let each: Vec<f64> = match &found.map {
            Some(map) => map.iter().map(|&r| f64::from(r) * f64::from(r)).collect(),
            None => vec![found.score; size],
        };
        Ok(points.add(windows.offsets[i] - first, &each)?)
    })?;
    Ok(points.finish()?)
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

/// An alarm of a series.
#[derive(Debug, Serialize)]
pub(crate) struct Alarm {
    /// First row, and the first row after it.
    pub(crate) rows: [usize; 2],
    /// Times of its first and last row, where the series has times.
    pub(crate) times: Option<[String; 2]>,
    /// Highest score within it.
    pub(crate) peak: f64,
}

/// Points above the threshold as intervals: alarms closer than an eighth of a window are one, single points none.
pub(crate) fn alarm_rule(size: usize) -> AlarmRule {
    AlarmRule { merge_gap: size / 8, min_points: 2 }
}

/// The alarms of a stretch of a series that starts at row `first`.
pub(crate) fn alarms(
    set: &SignalSet,
    first: usize,
    scores: &[f64],
    threshold: f64,
    rule: AlarmRule,
) -> Vec<Alarm> {
    let flagged: Vec<bool> = scores.iter().map(|&s| s >= threshold).collect();
    let alarm = |Interval { start, end }: Interval| Alarm {
        rows: [first + start, first + end],
        times: set.series().time(first + start).zip(set.series().time(first + end - 1)).map(|(a, b)| [a, b]),
        peak: scores[start..end].iter().copied().fold(f64::NEG_INFINITY, f64::max),
    };
    intervals(&flagged, rule).into_iter().map(alarm).collect()
}

/// K of PA%K, in percent.
const K: f64 = 20.0;
/// Runs of the row of random scores.
const RANDOM_RUNS: usize = 10;

/// `eval --json` of a series.
#[derive(Debug, Serialize)]
struct SeriesDocument {
    system: String,
    device: String,
    data: String,
    #[serde(flatten)]
    evaluation: SignalEvaluation,
    /// The same metrics of random scores: what a number is worth.
    random: std::collections::BTreeMap<&'static str, Repeated>,
    alarms: Vec<Alarm>,
    seconds_per_point: f64,
}

/// Scores the test rows of a series and says how well they are told apart.
pub(crate) fn evaluate(
    args: &eval::Args,
    global: &Global,
    device: &Device,
    model: &ModelFile,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let path = &args.model.model;
    let set = args.samples.open_signal(&args.data.data, Some(model))?;
    if !set.is_labelled() {
        return Err(CliError::input(format!(
            "nothing says which rows of '{}' are anomalous; give --labels FILE or --label-column; `ganomede score` \
             works without",
            args.data.data
        )));
    }
    let score = score_config(&args.search, model, path)?;
    let rows = set.test_rows();
    let started = std::time::Instant::now();
    let scores =
        point_scores(device, model, path, &score, &set, rows.clone(), args.samples.stride, interrupt)?;
    let seconds = started.elapsed().as_secs_f64();
    let rate = args.false_alarm_rate.unwrap_or(POINT_FALSE_ALARM_RATE);
    let threshold = point_threshold(model, &score, rate)?;
    let truths = set.labels()[rows.clone()].to_vec();
    let rule = alarm_rule(model.header.config.size);
    let series = [Series { scores: &scores, truths: &truths }];
    let evaluation = SignalEvaluation::new(&series, threshold.as_ref(), rule, K)?;
    let random = random_reference(&[&truths], rate, rule, K, RANDOM_RUNS, global.seed)?;
    let alarms = threshold.map_or(vec![], |t| alarms(&set, rows.start, &scores, t.value, rule));
    let document = SeriesDocument {
        system: model.header.system.clone(),
        device: device.describe(),
        data: args.data.data.clone(),
        evaluation,
        random: random.into_iter().collect(),
        alarms,
        seconds_per_point: seconds / scores.len().max(1) as f64,
    };
    if let Some(folder) = &args.report {
        check_folder(folder)?;
        let text = serde_json::to_string_pretty(&document).map_err(|e| CliError::machine(e.to_string()))?;
        write_atomic(&folder.join("metrics.json"), text.as_bytes())?;
    }
    if global.json {
        return say_json(&document);
    }
    let e = &document.evaluation;
    say(&format!(
        "points: {}, {} of them anomalous in {} segments",
        e.n_points, e.n_anomalous, e.n_segments
    ))?;
    say(SERIES_HEADER)?;
    say(&series_row(&document.system, &e.named().into_iter().collect()))?;
    let random = document.random.iter().map(|(&name, r)| (name, Some(r.mean))).collect();
    say(&series_row("random scores", &random))?;
    for Alarm { rows, times, peak } in &document.alarms {
        let times = times.as_ref().map_or(String::new(), |[a, b]| format!(", {a} to {b}"));
        say(&format!("alarm: rows {} to {}{times}, peak {peak:.4}", rows[0], rows[1] - 1))?;
    }
    Ok(())
}

/// The threshold of held-out normal points, for the score that the model was calibrated with.
fn point_threshold(model: &ModelFile, score: &ScoreConfig, rate: f64) -> Result<Option<Threshold>, CliError> {
    let own = model.header.calibration.as_ref().filter(|c| c.score == *score);
    Ok(own.map(|c| c.quantiles.threshold(rate)).transpose()?)
}

const SERIES_HEADER: &str = "| scores | AUROC | plain F1 | PA-F1 | PA%20-F1 | best plain F1 (oracle) | best PA-F1 \
    (oracle) | segments found | false alarms per 10,000 points |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|";

/// One row of the table of F1 in its forms.
fn series_row(name: &str, values: &std::collections::HashMap<&str, Option<f64>>) -> String {
    let value =
        |key: &str| values.get(key).copied().flatten().map_or("–".to_owned(), |v| format!("{v:.3}"));
    let cells = [
        "auroc",
        "threshold.f1.plain",
        "threshold.f1.point_adjusted",
        "threshold.f1.pa_k",
        "oracle.plain",
        "oracle.point_adjusted",
        "segment_recall",
        "false_alarms_per_10k",
    ]
    .map(value);
    format!("| {name} | {} |", cells.join(" | "))
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
    let rate = args.false_alarm_rate.unwrap_or(super::session::FALSE_ALARM_RATE);
    let description = device.describe();
    let evaluation = Evaluation::new(&EvaluationInput {
        system: &model.header.system,
        device: &description,
        scores: &scores,
        truths: &truths,
        threshold: point_threshold(model, &score, rate)?,
        seconds_per_image: seconds / scores.len().max(1) as f64,
        sub_sample: args.limit_test.map(|limit| format!("{limit} rows at random, seed {}", global.seed)),
        seed: global.seed,
        ..EvaluationInput::default()
    })?;
    if let Some(folder) = &args.report {
        check_folder(folder)?;
        let text = serde_json::to_string_pretty(&evaluation).map_err(|e| CliError::machine(e.to_string()))?;
        write_atomic(&folder.join("metrics.json"), text.as_bytes())?;
    }
    if global.json {
        return say_json(&evaluation);
    }
    say(&eval::summary(&evaluation).replace("images:", "rows:").replace("per image", "per row"))
}

/// A system on one series of a comparison: scores on a scale where the median held-out point is 0 and the threshold 1,
/// so that series can be pooled.
struct OnSeries {
    scores: Vec<f64>,
    truths: Vec<bool>,
}

fn normalised(scores: Vec<f64>, calibration: &Calibration, rate: f64) -> Result<Vec<f64>, CliError> {
    let median = calibration.quantiles.quantile(0.5);
    let threshold = calibration.quantiles.threshold(rate)?.value;
    let span = (threshold - median).max(f64::MIN_POSITIVE);
    Ok(scores.into_iter().map(|s| (s - median) / span).collect())
}

/// The CSV files of a folder in order of their names, or the one series that is given.
fn series_of(spec: &str) -> Result<Vec<String>, CliError> {
    let folder = Path::new(spec);
    if !folder.is_dir() || folder.join("train.csv").is_file() {
        return Ok(vec![spec.to_owned()]);
    }
    let refused = |e: std::io::Error| CliError::machine(format!("cannot read folder '{spec}': {e}"));
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CliError::input(format!("the folder '{spec}' holds no CSV file")));
    }
    Ok(files)
}

/// `compare --signal`: every system on every series, the series pooled, with rows for what needs no training at all.
pub(crate) fn compare(
    args: &super::compare::Args,
    systems: &[super::programs::System],
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let files = series_of(&args.data.data)?;
    let rate = args.false_alarm_rate.unwrap_or(POINT_FALSE_ALARM_RATE);
    let rule = alarm_rule(args.preprocess.size);
    let mut rows: Vec<(String, SignalEvaluation)> = vec![];
    let mut add = |name: String, all: &[OnSeries]| -> Result<(), CliError> {
        let series: Vec<_> = all.iter().map(|s| Series { scores: &s.scores, truths: &s.truths }).collect();
        let threshold = Threshold { value: 1.0, source: "held-out normal points of each series".to_owned() };
        rows.push((name, SignalEvaluation::new(&series, Some(&threshold), rule, K)?));
        Ok(())
    };
    for &system in systems {
        let trained = on_all(args, system, &files, false, rate, global, device, interrupt)?;
        add(system.name().to_owned(), &trained)?;
    }
    if let Some(&first) = systems.iter().find(|s| s.info.name != "pca" && s.info.name != "gmm") {
        let untrained = on_all(args, first, &files, true, rate, global, device, interrupt)?;
        add(format!("{} untrained", first.name()), &untrained)?;
    }
    let mut distances = vec![];
    for file in &files {
        let set = args.samples.open_signal(file, None)?;
        let (_, held_out) = set.holdout(args.val_fraction)?;
        let quantiles = calibration(&distance(&set, held_out), &ScoreConfig::default(), rate)?;
        let scores = normalised(distance(&set, set.test_rows()), &quantiles, rate)?;
        distances.push(OnSeries { scores, truths: set.labels()[set.test_rows()].to_vec() });
    }
    add("distance to the training mean".to_owned(), &distances)?;
    let truths: Vec<&[bool]> = distances.iter().map(|s| s.truths.as_slice()).collect();
    let random = random_reference(&truths, rate, rule, K, RANDOM_RUNS, global.seed)?;

    let mut table = format!(
        "Data: {} ({} series, {} test points, {} anomalous). Windows of {}, threshold at {} false alarms on held-out \
         normal points.\n\n{SERIES_HEADER}\n",
        args.data.data,
        files.len(),
        rows[0].1.n_points,
        rows[0].1.n_anomalous,
        args.preprocess.size,
        rate
    );
    for (name, evaluation) in &rows {
        table += &series_row(name, &evaluation.named().into_iter().collect());
        table.push('\n');
    }
    table += &series_row("random scores", &random.iter().map(|(name, r)| (*name, Some(r.mean))).collect());
    table.push('\n');
    if let Some(file) = &args.markdown {
        write_section(file, &args.section, &table)?;
    }
    let document = SeriesComparison {
        data: &args.data.data,
        series: &files,
        rows: rows.iter().map(|(name, evaluation)| SeriesRow { scores: name, evaluation }).collect(),
        random: random.into_iter().collect(),
    };
    let text = serde_json::to_string_pretty(&document).map_err(|e| CliError::machine(e.to_string()))?;
    write_atomic(&args.report.join("metrics.json"), text.as_bytes())?;
    if global.json { say_json(&document) } else { say(table.trim_end()) }
}

#[derive(Serialize)]
struct SeriesComparison<'a> {
    data: &'a str,
    series: &'a [String],
    rows: Vec<SeriesRow<'a>>,
    random: std::collections::BTreeMap<&'static str, Repeated>,
}

#[derive(Serialize)]
struct SeriesRow<'a> {
    scores: &'a str,
    #[serde(flatten)]
    evaluation: &'a SignalEvaluation,
}

/// |x − mean| of each row in standard deviations of the training rows, mean over channels.
fn distance(set: &SignalSet, rows: std::ops::Range<usize>) -> Vec<f64> {
    let value = |row: usize| {
        let values = set.series().row(row).iter().enumerate();
        let sum: f64 = values.map(|(c, &v)| f64::from(set.scale().apply(c, v)).abs()).sum();
        sum / set.channels() as f64
    };
    rows.map(value).collect()
}

/// Trains a system on each of the series and scores its test rows.
fn on_all(
    args: &super::compare::Args,
    system: super::programs::System,
    files: &[String],
    untrained: bool,
    rate: f64,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<Vec<OnSeries>, CliError> {
    let mut all = vec![];
    for (i, file) in files.iter().enumerate() {
        note(&format!("{} on series {} of {}: {file}", system.name(), i + 1, files.len()));
        let name = if untrained { "untrained" } else { system.name() };
        let path = args.report.join(format!("{name}-{}.safetensors", i + 1));
        let mut training = args.training(system, &path)?;
        training.data.data = file.clone();
        training.samples_from = SampleArgs { signal: true, ..args.samples.clone() };
        if untrained {
            (training.steps, training.minutes) = (Some(1), None);
            training.lr = Some(1e-12);
        }
        let (_, model) = super::train::train_model(&training, global, device, interrupt)?;
        let set = args.samples.open_signal(file, Some(&model))?;
        let score = score_config(&args.search, &model, &path)?;
        let rows = set.test_rows();
        let truths = set.labels()[rows.clone()].to_vec();
        let scores = point_scores(device, &model, &path, &score, &set, rows, args.samples.stride, interrupt)?;
        let calibration = model.header.calibration.as_ref().ok_or_else(|| {
            CliError::input("a comparison of series needs held-out rows: --val-fraction above 0")
        })?;
        all.push(OnSeries { scores: normalised(scores, calibration, rate)?, truths });
    }
    Ok(all)
}
