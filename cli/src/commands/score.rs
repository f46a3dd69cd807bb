//! `score`: one line for each image, row or point.

mod watch;

use std::path::{Path, PathBuf};

use ganomede::detect::{
    Answers, Applied, Detector, Judge, MapOutputs, Observer, QueryData, Scoring, Shard, write_shard,
};
use ganomede::eval::Threshold;
use ganomede::models::file::ModelFile;
use ganomede::models::scorer::ScoreConfig;
use ganomede::report::write_atomic;
use ganomede_datasets::{Reads, Split};
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, ModelArg, SearchArgs, SplitArg, parse_rate};
use crate::shared::samples::{Flag, For, SampleArgs, refuse};
use crate::shared::session::{check_file, check_folder};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, say, say_bytes, say_json};

/// Score images with a trained model, rows of tables or points of series: score, percentile among
/// held-out normal samples, verdict.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  ganomede score parts.safetensors new/ --maps maps/ --json > scores.json\n  \
    ganomede score readings.safetensors today.csv\n  \
    ganomede score parts.safetensors --watch /line/3 --json\n  \
    ganomede score parts.safetensors new/ --shard 0/2 --out part-0.jsonl"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// Images, folders or labelled sets; CSV files for a model that was trained with --signal or --table.
    #[arg(value_name = "PATH", required_unless_present_any = ["list", "watch"])]
    paths: Vec<String>,
    /// Score each image that comes into this folder from now on, a line (with --json, an object) an image,
    /// until Ctrl-C; with --fail-on-anomaly until the first anomaly. A file is taken once it stays the same.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["paths", "list", "maps", "split", "limit_test", "batch",
        "strict", "map_false_alarm_rate"])]
    watch: Option<PathBuf>,
    /// Images named in a CSV file with the column path; relative paths are relative to the file.
    #[arg(long, value_name = "F.csv")]
    list: Vec<String>,
    /// Folder for a picture of each image under the colours of its map, at the image's own size; the colours
    /// are the same for all images.
    #[arg(long, value_name = "DIR")]
    pub(crate) maps: Option<PathBuf>,
    /// Also write the values of the maps there: arrays of 32-bit floats as NumPy reads them (.npy).
    #[arg(long, requires = "maps")]
    pub(crate) maps_raw: bool,
    /// Also write masks there: white where a pixel reaches the model's threshold of pixels.
    #[arg(long, requires = "maps")]
    pub(crate) maps_mask: bool,
    /// Share of held-out normal pixels that may reach the threshold of pixels, of masks and regions
    /// [default: the model's, 0.001].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) map_false_alarm_rate: Option<f64>,
    /// Which part of a set with two; the test images by default. Of the table that was trained on, by default
    /// every row.
    #[arg(long, value_enum)]
    pub(crate) split: Option<SplitArg>,
    /// Score at most N images of each set, or rows of each table, drawn by the seed.
    #[arg(long, value_name = "N")]
    pub(crate) limit_test: Option<usize>,
    /// Images, or tiles of one, scored side by side.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Share of false alarms among normal images that the verdict aims at [default: 0.05; 0.01 of the points
    /// of a series].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) false_alarm_rate: Option<f64>,
    /// Score from which on a sample is called anomalous, in place of the model's own threshold.
    #[arg(long, value_name = "T", value_parser = parse_threshold, allow_negative_numbers = true,
        conflicts_with = "false_alarm_rate")]
    threshold: Option<f64>,
    /// End with exit code 3 where anything is anomalous: an image, a row, or an alarm of a series.
    #[arg(long)]
    fail_on_anomaly: bool,
    /// Score part I of N (I from 0 to N - 1) of everything that is listed, by the places of the samples in
    /// the list modulo N, and write it as JSON lines for `ganomede merge`. Of series the parts are whole
    /// files.
    #[arg(long, value_name = "I/N", conflicts_with = "watch")]
    shard: Option<Shard>,
    /// File for the lines of the part, whole or not at all [default: standard output].
    #[arg(long, value_name = "F.jsonl", requires = "shard")]
    out: Option<PathBuf>,
    /// Make a file that cannot be read an error instead of skipping it.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    pub(crate) samples: SampleArgs,
    #[command(flatten)]
    pub(crate) search: SearchArgs,
}

impl Args {
    /// What is scored, in the order of the answers.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &String> {
        self.paths.iter().chain(&self.list)
    }
}

/// `score --json`.
#[derive(Debug, Serialize)]
pub(super) struct ScoreDocument<'a> {
    pub(super) model: &'a Path,
    pub(super) device: String,
    pub(super) threshold: Option<f64>,
    #[serde(flatten)]
    pub(super) answers: Answers,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    if args.batch == 0 {
        return Err(CliError::input("--batch is 0; it must be at least 1"));
    }
    if args.limit_test == Some(0) {
        return Err(CliError::input("--limit-test is 0; it must be at least 1"));
    }
    let path = &args.model.model;
    let reads = args.specs().fold(Reads::new().file(path), |reads, spec| reads.data(spec));
    if let Some(folder) = &args.maps {
        check_folder(folder, &reads)?;
    }
    if let Some(out) = &args.out {
        check_file(out, &reads)?;
    }
    let model = ModelFile::load(path)?;
    check(args, &model)?;
    let score = score_config(&args.search, &model, path)?;
    if let Some(folder) = &args.watch {
        return watched(args, folder, model, score, global, interrupt);
    }
    let queries = data(args, global.seed).open(&model)?;
    let device = global.open_for(&model)?;
    let judge = Judge::of(&model, &score, args.false_alarm_rate)?;
    let judge = match args.threshold {
        Some(value) => judge.with_threshold(value),
        None => judge,
    };
    if args.fail_on_anomaly && judge.threshold.is_none() {
        return Err(no_threshold());
    }
    let mut terminal = Terminal::new(interrupt);
    let mut applied =
        Applied { device: &device, model: &model, path, score: &score, observer: &mut terminal };
    let outputs = MapOutputs {
        folder: args.maps.clone(),
        raw: args.maps_raw,
        mask: args.maps_mask,
        rate: args.map_false_alarm_rate,
        // Of parts, for the document that they become.
        regions: global.json || args.shard.is_some(),
    };
    let answers = queries.answers(&mut applied, &judge, args.batch, &outputs)?;
    let alarms = answers.alarms();
    if let Some(shard) = args.shard {
        let device = device.describe();
        let scoring = Scoring { path, score: &score, judge: &judge, maps: &outputs, device: &device };
        let mut lines = vec![];
        write_shard(&mut lines, shard, &scoring, &answers)?;
        match &args.out {
            Some(out) => write_atomic(out, &lines)?,
            None => say_bytes(&lines)?,
        }
    } else if global.json {
        let threshold = judge.threshold.map(|t| t.value);
        say_json(&ScoreDocument { model: path, device: device.describe(), threshold, answers })?;
    } else {
        answers.lines().try_for_each(|text| say(&text))?;
        if let Some(Threshold { value, source }) = &judge.threshold {
            terminal.note(&format!("anomalous from {value:.4} on: {source}"));
        }
    }
    match alarms {
        1.. if args.fail_on_anomaly => Err(CliError::found(format!("anomalies found: {alarms}"))),
        _ => Ok(()),
    }
}

/// `--watch`.
fn watched(
    args: &Args,
    folder: &Path,
    model: ModelFile,
    score: ScoreConfig,
    global: &Global,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let flag = Flag("--watch", true, For::Images, "waits for images; give the files of {samples} as paths");
    refuse(model.header.config.form, &[flag])?;
    let device = global.open_for(&model)?;
    let mut detector = Detector::new(model, &args.model.model, &device)?.with_score(score)?;
    if let Some(rate) = args.false_alarm_rate {
        detector = detector.with_false_alarm_rate(rate)?;
    }
    if args.fail_on_anomaly && args.threshold.is_none() && detector.threshold()?.is_none() {
        return Err(no_threshold());
    }
    watch::watch(&detector, folder, args.threshold, global.json, args.fail_on_anomaly, interrupt)
}

fn no_threshold() -> CliError {
    CliError::input(
        "--fail-on-anomaly needs a threshold, and these score settings have no calibration; give --threshold",
    )
}

/// `--threshold`.
fn parse_threshold(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a threshold is a number".to_owned())?;
    if value.is_finite() { Ok(value) } else { Err("a threshold is a finite number".to_owned()) }
}

/// Refuses what is not for samples of the model.
fn check(args: &Args, model: &ModelFile) -> Result<(), CliError> {
    let config = &model.header.config;
    args.samples.check_trained(config.form)?;
    refuse(
        config.form,
        &[
            Flag(
                "--maps",
                args.maps.is_some(),
                For::Images,
                "draws images; {samples} are numbers, leave it out",
            ),
            Flag(
                "--list",
                !args.list.is_empty(),
                For::Images,
                "lists images; give the files of {samples} as paths",
            ),
            Flag(
                "--limit-test",
                args.limit_test.is_some(),
                For::ImagesAndTables,
                "is for images and tables; every row of a series is scored",
            ),
            Flag(
                "--split",
                args.split.is_some(),
                For::ImagesAndTables,
                "is for images and tables; of a series the test rows are scored, of a single file all: leave it out",
            ),
            Flag(
                "--anomaly-share",
                args.samples.anomaly_share.is_some(),
                For::None,
                "is about test rows; give it to `ganomede eval`",
            ),
        ],
    )?;
    args.samples.check_stride(config.size.width)
}

/// What is scored.
fn data(args: &Args, seed: u64) -> QueryData {
    let mut reading = args.samples.reading(&DataArgs::default());
    reading.images.strict = args.strict;
    QueryData {
        specs: args.specs().cloned().collect(),
        reading,
        split: args.split.map(Split::from),
        limit: args.limit_test,
        seed,
        shard: args.shard,
    }
}
