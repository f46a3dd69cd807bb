//! `calibrate`: a new threshold for a trained model, from new normal samples.

use std::path::{Path, PathBuf};

use ganomede::Device;
use ganomede::detect::{Applied, DetectError, NormalData, calibration, rate_of, too_few_groups};
use ganomede::models::file::{Calibration, ModelFile};
use ganomede::models::scorer::ScoreConfig;
use ganomede_datasets::Reads;
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, ModelArg, SearchArgs, parse_rate};
use crate::shared::samples::{Flag, For, SampleArgs, refuse};
use crate::shared::session::check_file;
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, say, say_json, say_warning, shown};

/// Set a model's threshold anew, from normal samples that it was not trained on.
///
/// They are a folder of images or the training part of a set, rows of a table that are not labelled
/// anomalous, or the points of a series without anomalies.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  ganomede calibrate parts.safetensors --data good/ --false-alarm-rate 0.01"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    data: DataArgs,
    /// Share of false alarms among normal samples that the threshold aims at, also where the model is used
    /// later without this option [default: the model's].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    false_alarm_rate: Option<f64>,
    /// Model file to write [default: the model itself].
    #[arg(long, value_name = "M.safetensors")]
    out: Option<PathBuf>,
    #[command(flatten)]
    samples: SampleArgs,
    #[command(flatten)]
    search: SearchArgs,
}

/// `calibrate --json`.
#[derive(Debug, Serialize)]
struct CalibrateDocument<'a> {
    model: &'a Path,
    data: &'a str,
    /// Normal samples that were scored.
    samples: usize,
    false_alarm_rate: f64,
    threshold: f64,
    source: String,
    /// The threshold before.
    before: Option<f64>,
}

/// A calibration by new samples.
pub(crate) struct Calibrated {
    pub(crate) calibration: Calibration,
    /// The share of false alarms that it aims at.
    pub(crate) rate: f64,
    /// Normal samples that were scored.
    pub(crate) samples: usize,
    /// What is wrong with it.
    pub(crate) warning: Option<String>,
}

/// Scores normal samples with a model; the threshold aims at the share of false alarms that is given, else at
/// the model's own.
pub(crate) fn calibrated(
    model: &ModelFile,
    path: &Path,
    data: NormalData,
    (score, rate): (&ScoreConfig, Option<f64>),
    device: &Device,
    observer: &mut Terminal<'_>,
) -> Result<Calibrated, CliError> {
    let held_out = data.held_out(&mut Applied { device, model, path, score, observer })?;
    let samples = held_out.scores.len();
    let rate = rate.unwrap_or_else(|| rate_of(model));
    let mut calibration = calibration(held_out, score, rate)?
        .ok_or_else(|| DetectError::Input(format!("'{}' holds no samples", data.spec)))?;
    calibration.rate = Some(rate);
    let warning = too_few_groups(&calibration, rate);
    Ok(Calibrated { calibration, rate, samples, warning })
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let path = args.model.model.as_path();
    let out = args.out.as_deref().unwrap_or(path);
    let reads = args.samples.labels.iter().fold(args.data.reads(), Reads::file);
    check_file(out, &reads)?;
    let mut model = ModelFile::load(path)?;
    let config = &model.header.config;
    args.samples.check_trained(config.form)?;
    args.data.check(config.form)?;
    let of_tests = "is about test rows; give it to `ganomede eval`";
    refuse(
        config.form,
        &[Flag("--anomaly-share", args.samples.anomaly_share.is_some(), For::None, of_tests)],
    )?;
    args.samples.check_stride(config.size.width)?;
    let score = score_config(&args.search, &model, path)?;
    let device = global.open()?;
    let data = NormalData { spec: args.data.data.to_string(), reading: args.samples.reading(&args.data) };
    let mut terminal = Terminal::new(interrupt);
    let spec = data.spec.clone();
    let Calibrated { calibration: found, rate, samples, warning } =
        calibrated(&model, path, data, (&score, args.false_alarm_rate), &device, &mut terminal)?;
    let before = model.header.calibration.as_ref().map(|c| c.threshold);
    let document = CalibrateDocument {
        model: out,
        data: &spec,
        samples,
        false_alarm_rate: rate,
        threshold: found.threshold,
        source: found.source.clone(),
        before,
    };
    model.header.calibration = Some(found);
    model.save(out)?;
    if global.json {
        return say_json(&document);
    }
    warning.map_or(Ok(()), |few| say_warning(&few))?;
    let before = before.map_or("none".to_owned(), |threshold| format!("{threshold:.4}"));
    say(&format!(
        "threshold {:.4} ({}), before {before}\nmodel: {}",
        document.threshold,
        document.source,
        shown(out)
    ))
}
