//! `train`: learns what normal images look like.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganomede_datasets::{BatchOptions, Batches, Channels, Dataset, Indices, Rejected, Split};
use serde::Serialize;

use super::args::{DataArgs, Global, PreprocessArgs, SearchArgs, patches};
use super::programs::{System, parse_system};
use super::progress::Progress;
use super::session::{FALSE_ALARM_RATE, Selection, calibrate, check_folder};
use super::{CliError, Interrupt, note, say, say_json};
use crate::device::Device;
use crate::models::file::{DataInfo, FORMAT, Header, ModelFile, Progress as Done};
use crate::models::scorer::{Sampler, ScoreConfig};
use crate::models::{Config, Form, Options, Prior, Training};
use crate::train::{End, Epoch, Limits, LoopOptions, Tick, TrainError, Trainer, check_resumable, train};

/// Train a system on normal images.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  ganomede train anogan --data parts/ --size 64 --epochs 20 --out parts.safetensors"
)]
pub(crate) struct Args {
    /// Which published system; `ganomede systems` lists them.
    #[arg(value_parser = parse_system())]
    pub(crate) system: System,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) preprocess: PreprocessArgs,
    /// Model file to write; checkpoints go to the same name with `.checkpoint` before the extension.
    #[arg(long, value_name = "M.safetensors")]
    pub(crate) out: PathBuf,
    /// Channels of the widest feature maps.
    #[arg(long, default_value_t = 64)]
    pub(crate) width: usize,
    /// Length of the latent vector [default: the system's].
    #[arg(long)]
    pub(crate) latent: Option<usize>,
    /// Distribution of the latent [default: the system's].
    #[arg(long, value_enum)]
    pub(crate) prior: Option<PriorArg>,
    /// Convolution kernel: 4, or 5 as in the AnoGAN paper.
    #[arg(long, default_value_t = 4)]
    pub(crate) kernel: usize,
    /// Option of the system; `ganomede systems NAME` lists them.
    #[arg(short = 'O', long = "option", value_name = "KEY=VALUE", value_parser = parse_option)]
    pub(crate) options: Vec<(String, String)>,
    /// Images in a step [default: the system's].
    #[arg(long)]
    pub(crate) batch: Option<usize>,
    /// Passes over the data [default: the system's, where no other limit is given].
    #[arg(long)]
    pub(crate) epochs: Option<u64>,
    /// Steps in all.
    #[arg(long)]
    pub(crate) steps: Option<u64>,
    /// Minutes of training.
    #[arg(long)]
    pub(crate) minutes: Option<f64>,
    /// Adam's step size [default: the system's].
    #[arg(long)]
    pub(crate) lr: Option<f32>,
    /// Fraction of the normal images held out for calibration; at most 256 of them are scored.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) val_fraction: f64,
    /// Steps between checkpoints; 0 saves one at the end only.
    #[arg(long, default_value_t = 500)]
    pub(crate) checkpoint_every: u64,
    /// Continue from the checkpoint, bit for bit; starts anew where there is none.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Folder for a grid of generated or reconstructed images after each epoch.
    #[arg(long, value_name = "DIR")]
    pub(crate) samples: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) search: SearchArgs,
}

fn parse_option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, for example nets=lite")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `--prior`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PriorArg {
    /// U(−1, 1).
    Uniform,
    /// N(0, 1).
    Normal,
}

/// `train --json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) system: String,
    pub(crate) device: String,
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) epochs: f64,
    pub(crate) seconds: f64,
    pub(crate) images_per_second: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) training_images: usize,
    pub(crate) held_out: usize,
    pub(crate) rejected_files: usize,
    pub(crate) model: PathBuf,
    pub(crate) checkpoint: PathBuf,
    pub(crate) threshold: Option<f64>,
    #[serde(rename = "final")]
    pub(crate) losses: std::collections::BTreeMap<String, f32>,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let device = global.open()?;
    let (summary, _) = train_model(args, global, &device, interrupt)?;
    if global.json {
        return say_json(&summary);
    }
    say(&format!(
        "trained {} steps ({:.1} epochs) in {:.1} s, {:.0} images/s on {}\nmodel: {}",
        summary.steps,
        summary.epochs,
        summary.seconds,
        summary.images_per_second,
        summary.device,
        summary.model.display()
    ))
}

fn checkpoint_path(out: &Path) -> PathBuf {
    let extension = out.extension().map_or("safetensors".into(), |e| e.to_string_lossy().into_owned());
    out.with_extension(format!("checkpoint.{extension}"))
}

/// Makes sure before hours of work that the results can be written.
fn check_writable(args: &Args) -> Result<(), CliError> {
    if args.out.is_dir() {
        return Err(CliError::input(format!("--out '{}' is a folder; name a file", args.out.display())));
    }
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    check_folder(folder.unwrap_or(Path::new(".")))?;
    args.samples.as_deref().map_or(Ok(()), check_folder)
}

/// Trains as the arguments say, calibrates, writes the model.
pub(crate) fn train_model(
    args: &Args,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(Summary, ModelFile), CliError> {
    let info = args.system.info;
    let defaults = info.defaults;
    let config = Config {
        form: Form::Image,
        size: args.preprocess.size,
        channels: Channels::from(args.preprocess.channels).count(),
        width: args.width,
        latent: args.latent.unwrap_or(defaults.latent),
        prior: match args.prior {
            Some(PriorArg::Uniform) => Prior::Uniform,
            Some(PriorArg::Normal) => Prior::Normal,
            None => defaults.prior,
        },
        kernel: args.kernel,
    };
    config.check()?;
    let options = Options::new(info.options, args.options.iter().map(|(k, v)| (k.as_str(), v.as_str())))?;
    let score = args.search.config(None);
    let score = ScoreConfig { score: info.score(&score.score)?.to_owned(), ..score };
    score.search.check()?;
    let augment = args.preprocess.augment()?;
    let limits = limits(args, defaults.epochs)?;
    let (batch, lr) = (args.batch.unwrap_or(defaults.batch), args.lr.unwrap_or(defaults.lr));
    if !(lr > 0.0 && lr.is_finite()) {
        return Err(CliError::input(format!("--lr is {lr}; it must be a positive number, 0.0002 is usual")));
    }
    if batch == 0 {
        return Err(CliError::input("--batch is 0; it must be at least 1, 64 is usual"));
    }

    let (data, patch) = (&args.data, patches(&args.preprocess));
    let mut open =
        data.open_options(config.size, args.preprocess.channels.into(), args.preprocess.centre_crop);
    open.patch = patch;
    open.for_training = true;
    let dataset = Arc::new(Dataset::open(&data.data, &open)?);
    let (training, held_out) = dataset.holdout(args.val_fraction, global.seed)?;
    if training.len() < batch {
        return Err(TrainError::BatchTooLarge { batch, images: training.len() }.into());
    }
    check_writable(args)?;

    let header = Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        system: info.name.to_owned(),
        config,
        options,
        training: Training { lr, betas: defaults.betas },
        batch,
        seed: global.seed,
        device: device.describe(),
        data: DataInfo {
            spec: data.data.clone(),
            digest: dataset.digest(Split::Train)?,
            training_images: training.len(),
            held_out: held_out.len(),
            val_fraction: args.val_fraction,
            normal_classes: data.normal_class.clone(),
            anomalous_classes: data.anomalous_class.clone(),
            centre_crop: args.preprocess.centre_crop,
            augment: args.preprocess.augment.clone(),
            patch: args.preprocess.patch,
        },
        progress: Done { steps_per_epoch: (training.len() / batch) as u64, ..Done::default() },
        calibration: None,
    };
    let checkpoint = checkpoint_path(&args.out);
    let preview = preview(&dataset, &held_out);
    let mut trainer = start(args, device, header, &checkpoint, &preview)?;
    note(&format!(
        "training on {} normal images ({} held out) of {}, {:.0} MB of device memory",
        training.len(),
        held_out.len(),
        data.data,
        trainer.bytes() as f64 / 1e6
    ));

    let resumed_at = trainer.progress().steps;
    let loop_options = LoopOptions {
        limits,
        checkpoint: checkpoint.clone(),
        checkpoint_every: args.checkpoint_every,
        samples: args.samples.clone(),
    };
    let several = trainer.stages().len() > 1;
    let end = {
        let (dataset, seed) = (dataset.clone(), global.seed);
        let mut epoch = |epoch: u64, start: u64| -> Result<Epoch, ganomede_datasets::DataError> {
            let options = BatchOptions {
                batch,
                seed,
                epoch,
                shuffle: true,
                augment: augment.clone(),
                start_batch: start as usize,
                drop_last: true,
                ..BatchOptions::default()
            };
            let batches = Batches::new(dataset.clone(), Split::Train, training.clone(), options)?;
            Ok(Box::new(batches.map(|batch| batch.map(|b| b.images))))
        };
        let mut progress: Option<Progress> = None;
        let mut tick = |news: Tick<'_>| {
            let losses: Vec<_> =
                news.losses.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
            let progress =
                progress.get_or_insert_with(|| Progress::new("training", "steps", resumed_at, news.total));
            let stage = if several { format!("{}: ", news.stage) } else { String::new() };
            progress.at(news.step, &format!("{stage}{}", losses.join(" ")));
            if interrupt.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        train(&mut trainer, &loop_options, &mut epoch, &mut tick)?
    };
    let steps = trainer.progress().steps;
    let interrupted = || {
        let path = checkpoint.display();
        CliError::interrupted(format!(
            "interrupted at step {steps}; checkpoint saved to {path}; the same command with --resume continues"
        ))
    };
    if end == End::Interrupted {
        return Err(interrupted());
    }
    let mut model = trainer.model()?;
    let held_out = Selection { data: dataset.clone(), split: Split::Train, indices: held_out };
    let calibration =
        calibrate(device, &model, &args.out, &score, batch, &held_out, FALSE_ALARM_RATE, interrupt);
    model.header.calibration = calibration.map_err(|e| if interrupt.raised() { interrupted() } else { e })?;
    model.save(&args.out)?;
    report_rejected(&dataset.rejected());
    let progress = trainer.progress();
    let summary = Summary {
        system: info.name.to_owned(),
        device: device.describe(),
        seed: global.seed,
        steps,
        epochs: steps as f64 / progress.steps_per_epoch as f64,
        seconds: progress.seconds,
        images_per_second: (steps * batch as u64) as f64 / progress.seconds.max(1e-9),
        peak_bytes: trainer.bytes(),
        training_images: model.header.data.training_images,
        held_out: model.header.data.held_out,
        rejected_files: dataset.rejected().len(),
        model: args.out.clone(),
        checkpoint,
        threshold: model.header.calibration.as_ref().map(|c| c.threshold),
        losses: progress.losses.iter().filter_map(|c| Some((c.name.clone(), *c.values.last()?))).collect(),
    };
    if steps == resumed_at {
        note("the checkpoint had already reached the limit; raise --epochs or --steps to train on");
    }
    Ok((summary, model))
}

fn limits(args: &Args, epochs: u64) -> Result<Limits, CliError> {
    if let Some(minutes) = args.minutes
        && !(minutes > 0.0 && minutes.is_finite())
    {
        return Err(CliError::input(format!("--minutes is {minutes}; it must be a positive number")));
    }
    if args.epochs == Some(0) || args.steps == Some(0) {
        return Err(CliError::input("--epochs and --steps must be at least 1"));
    }
    let none = args.epochs.is_none() && args.steps.is_none() && args.minutes.is_none();
    Ok(Limits {
        steps: args.steps,
        epochs: if none { Some(epochs) } else { args.epochs },
        minutes: args.minutes,
    })
}

/// The first of the held-out samples, for sample grids.
fn preview(dataset: &Dataset, held_out: &Indices) -> Vec<f32> {
    let mut pixels = vec![];
    for i in held_out.take(Sampler::COUNT / 2).iter() {
        // A file that cannot be read is reported where it counts, in training or calibration.
        if let Ok(sample) = dataset.load(Split::Train, i) {
            pixels.extend(sample.image.pixels);
        }
    }
    pixels
}

fn start(
    args: &Args,
    device: &Device,
    mut header: Header,
    checkpoint: &Path,
    preview: &[f32],
) -> Result<Trainer, CliError> {
    if args.resume && checkpoint.exists() {
        let file = ModelFile::load(checkpoint)?;
        check_resumable(&file.header, &header, checkpoint)?;
        header.progress = file.header.progress.clone();
        note(&format!("resuming at step {} from {}", header.progress.steps, checkpoint.display()));
        return Ok(Trainer::new(device, header, Some((&file, checkpoint)), preview)?);
    }
    if args.resume {
        note(&format!("no checkpoint at {}; starting anew", checkpoint.display()));
    }
    Ok(Trainer::new(device, header, None, preview)?)
}

/// Lists files that could not be used.
pub(crate) fn report_rejected(rejected: &[Rejected]) {
    if rejected.is_empty() {
        return;
    }
    note(&format!("{} files could not be used:", rejected.len()));
    for file in rejected.iter().take(20) {
        note(&format!("  {}: {}", file.path, file.reason));
    }
    if rejected.len() > 20 {
        note(&format!("  … and {} more (`ganomede data info` lists them all)", rejected.len() - 20));
    }
}

/// Indices and search settings of a model's held-out images, for a calibration with other settings.
pub(crate) fn held_out(model: &ModelFile, dataset: &Arc<Dataset>) -> Result<Option<Indices>, CliError> {
    let info = &model.header.data;
    if dataset.is_empty(Split::Train) || dataset.digest(Split::Train)? != info.digest {
        return Ok(None);
    }
    let (_, held_out) = dataset.holdout(info.val_fraction, model.header.seed)?;
    Ok((!held_out.is_empty()).then_some(held_out))
}

/// Score settings of a command on a model: its own flags on top of the calibrated ones.
///
/// # Errors
/// For a score that the model's system does not have.
pub(crate) fn score_config(
    args: &SearchArgs,
    model: &ModelFile,
    path: &Path,
) -> Result<ScoreConfig, CliError> {
    let config = args.config(model.header.calibration.as_ref().map(|c| &c.score));
    config.search.check()?;
    let score = model.header.info(path)?.score(&config.score)?.to_owned();
    Ok(ScoreConfig { score, ..config })
}
