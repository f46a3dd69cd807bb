//! `import`: a checkpoint of PyTorch as a model file.

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use clap::builder::PossibleValuesParser;
use ganomede::detect::NormalData;
use ganomede::import::{Given, SYSTEMS, like, published};
use ganomede_datasets::Reads;
use serde::Serialize;

use crate::commands::calibrate::{Calibrated, calibrated};
use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, SearchArgs, parse_rate};
use crate::shared::samples::SampleArgs;
use crate::shared::session::check_file;
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, quoted, say, say_json, say_warning, shown};

/// Make a model of a checkpoint of PyTorch: of the repository that published a system, or of a module that
/// `export --torch` wrote and that was trained further. Nothing of a file is executed.
#[derive(Debug, Clone, clap::Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["system", "like"]),
    after_help = "Examples:\n  ganomede import netG.pth netD.pth --system ganomaly --out m.safetensors --data good/\n  \
    ganomede import generator discriminator encoder --system f-anogan --out m.safetensors\n  \
    ganomede import tuned.safetensors --like parts.safetensors --out m.safetensors --data good/"
)]
pub(crate) struct Args {
    /// Files of torch.save, one a network, in any order; with --like also safetensors.
    #[arg(value_name = "F", required = true)]
    files: Vec<PathBuf>,
    /// The system whose published checkpoints they are.
    #[arg(long, value_name = "SYSTEM", value_parser = PossibleValuesParser::new(SYSTEMS))]
    system: Option<String>,
    /// A model with the same networks: its names and shapes, its preprocessing.
    #[arg(long, value_name = "M")]
    like: Option<PathBuf>,
    /// Range to which images were scaled, of systems whose checkpoints do not say it.
    #[arg(long, value_name = "LOW,HIGH", value_parser = parse_range, allow_hyphen_values = true,
        conflicts_with = "like")]
    range: Option<[f64; 2]>,
    /// Model file to write.
    #[arg(long, value_name = "M.safetensors")]
    out: PathBuf,
    /// Normal samples that set the threshold, as `calibrate` takes them.
    #[arg(long, value_name = "D")]
    data: Option<String>,
    /// Share of false alarms among normal samples that the threshold aims at [default: 0.05].
    #[arg(long, value_name = "RATE", value_parser = parse_rate, requires = "data")]
    false_alarm_rate: Option<f64>,
}

fn parse_range(text: &str) -> Result<[f64; 2], String> {
    let parts = text.split_once(',').map(|(low, high)| (low.trim().parse::<f64>(), high.trim().parse()));
    match parts {
        Some((Ok(low), Ok(high))) if low < high && (high - low).is_finite() => Ok([low, high]),
        _ => Err(format!("{text} is no range; write LOW,HIGH, for example -0.83,17.3")),
    }
}

/// `import --json`.
#[derive(Debug, Serialize)]
struct ImportDocument<'a> {
    model: &'a Path,
    system: &'a str,
    tensors: usize,
    parameters: usize,
    notes: &'a [String],
    threshold: Option<f64>,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let reads = args.files.iter().chain(&args.like).fold(Reads::new(), Reads::file);
    let reads = args.data.iter().fold(reads, |reads, spec| reads.data(spec));
    check_file(&args.out, &reads)?;
    let imported = match (&args.system, &args.like, &args.files[..]) {
        (Some(system), _, files) => {
            let range = args.range.map(|range| range.map(|value| value as f32));
            published(system, &Given { files: files.to_vec(), range })?
        }
        (_, Some(model), [file]) => like(file, model)?,
        _ => {
            return Err(CliError::input(format!(
                "{} files are named, and --like takes one state dict of the whole model; name that",
                args.files.len()
            )));
        }
    };
    let (mut model, notes) = (imported.model, imported.notes);
    let mut few = None;
    if let Some(spec) = &args.data {
        let reading = SampleArgs::default().reading(&DataArgs::default());
        let data = NormalData { spec: spec.clone(), reading };
        let (device, mut terminal) = (global.open()?, Terminal::new(interrupt));
        let score = score_config(&SearchArgs::default(), &model, &args.out)?;
        let Calibrated { calibration, warning, .. } =
            calibrated(&model, &args.out, data, (&score, args.false_alarm_rate), &device, &mut terminal)?;
        model.header.calibration = Some(calibration);
        few = warning;
    }
    model.save(&args.out)?;
    let threshold = model.header.calibration.as_ref().map(|calibration| calibration.threshold);
    if global.json {
        return say_json(&ImportDocument {
            model: &args.out,
            system: &model.header.system,
            tensors: model.tensors.len(),
            parameters: model.tensors.iter().map(|tensor| tensor.values.len()).sum(),
            notes: &notes,
            threshold,
        });
    }
    notes.iter().chain(&few).try_for_each(|note| say_warning(note))?;
    let next = match threshold {
        Some(threshold) => format!("threshold {threshold:.4}"),
        None => format!(
            "no threshold: `ganomede calibrate {} --data GOOD` sets one from normal samples",
            quoted(&args.out.to_string_lossy())
        ),
    };
    let tensors = model.tensors.len();
    say(&format!("{} of {tensors} tensors; {next}\nmodel: {}", model.header.system, shown(&args.out)))
}
