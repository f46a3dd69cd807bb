//! `train`: learns what normal images look like.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganomede_datasets::{Channels, Dataset, Indices, Reads, Split};

use crate::shared::args::{DataArgs, Global, PreprocessArgs, SearchArgs};
use crate::shared::findings::report_skipped;
use crate::shared::job::{Images, Job, Summary, checkpoint_path};
use crate::shared::programs::{System, parse_system};
use crate::shared::session::{Selection, check_file, check_folder};
use crate::shared::signals::{SampleArgs, SeriesFeed, TableFeed};
use crate::shared::{CliError, Interrupt, say, say_json, shown};
use ganomede::device::Device;
use ganomede::models::file::{DataInfo, FORMAT, Header, ModelFile, Progress as Done};
use ganomede::models::scorer::ScoreConfig;
use ganomede::models::system::Length;
use ganomede::models::{Config, Form, Info, Options, Prior, Training};
use ganomede::train::Limits;

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
    /// Passes over the data [default: the system's, where no other limit is given; for tables some have steps instead].
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
    /// Whether the command that trains has `--resume`.
    #[arg(skip = true)]
    pub(crate) can_resume: bool,
    /// Store the model's weights in half precision: half the file, and on a GPU less memory when it scores. The
    /// threshold is that of the rounded weights.
    #[arg(long)]
    pub(crate) half: bool,
    /// Store checkpoints in half precision: half the file. To resume from one then goes on close to the training that
    /// was interrupted, not bit for bit.
    #[arg(long)]
    pub(crate) half_checkpoints: bool,
    /// Folder for a grid of generated or reconstructed images after each epoch.
    #[arg(long, value_name = "DIR")]
    pub(crate) samples: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) samples_from: SampleArgs,
    #[command(flatten)]
    pub(crate) search: SearchArgs,
}

pub(super) fn parse_option(text: &str) -> Result<(String, String), String> {
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
        shown(&summary.model)
    ))
}

/// Makes sure before hours of work that the results can be written.
fn check_writable(args: &Args) -> Result<(), CliError> {
    let reads = args.samples_from.labels.iter().fold(Reads::new().data(&args.data.data), Reads::file);
    check_file(&args.out, &reads)?;
    check_file(&checkpoint_path(&args.out), &reads)?;
    args.samples.as_deref().map_or(Ok(()), |folder| check_folder(folder, &reads))
}

/// Trains as the arguments say, calibrates, writes the model.
pub(crate) fn train_model(
    args: &Args,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(Summary, ModelFile), CliError> {
    check_writable(args)?;
    if args.samples_from.signal || args.samples_from.table {
        return train_in_memory(args, global, device, interrupt);
    }
    args.samples_from.check(Form::Image)?;
    let config = Config {
        size: args.preprocess.size,
        channels: Channels::from(args.preprocess.channels).count(),
        ..networks(args)
    };
    let settings = Settings::new(args, global.seed, config)?;
    let augment = args.preprocess.augment()?;
    let data = &args.data;
    let framing = DataInfo {
        centre_crop: args.preprocess.centre_crop,
        flatten: args.preprocess.flatten,
        bits: args.preprocess.bits,
        patch: args.preprocess.patch,
        patches_per_image: args.preprocess.patches_per_image,
        ..DataInfo::default()
    };
    let mut open = data.open_options(settings.config.size, args.preprocess.channels.into(), &framing);
    (open.for_training, open.without_masks) = (true, true);
    let dataset = Arc::new(Dataset::open(&data.data, &open)?);
    dataset.look(Split::Train);
    report_skipped(&dataset.findings());
    let (training, held_out) = dataset.holdout(args.val_fraction, global.seed)?;
    let info = DataInfo {
        spec: data.data.clone(),
        digest: dataset.digest(Split::Train)?,
        training_images: training.len(),
        held_out: held_out.len(),
        val_fraction: args.val_fraction,
        normal_classes: data.normal_class.clone(),
        anomalous_classes: data.anomalous_class.clone(),
        augment: args.preprocess.augment.clone(),
        ..framing
    };
    let held_out = Selection { data: dataset.clone(), split: Split::Train, indices: held_out };
    settings.job(args, info).run(device, &Images { dataset, training, held_out, augment }, interrupt)
}

/// Trains on windows of a series or rows of a table.
fn train_in_memory(
    args: &Args,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(Summary, ModelFile), CliError> {
    let (from, data) = (&args.samples_from, &args.data);
    from.check(form(args))?;
    if from.signal {
        let set = from.open_signal(&data.data, None)?;
        let (size, channels) = (args.preprocess.size, set.channels());
        let config = Config { form: Form::Signal, size, channels, ..networks(args) };
        let settings = Settings::new(args, global.seed, config)?;
        let warp = args.preprocess.augment.parse()?;
        let feed = SeriesFeed::new(set, size, args.val_fraction, from.stride, warp)?;
        return settings.job(args, feed.info(args.val_fraction)).run(device, &feed, interrupt);
    }
    let images = &args.preprocess;
    let given = [
        ("--augment", !images.augment.is_empty()),
        ("--centre-crop", images.centre_crop),
        ("--flatten", images.flatten),
        ("--patch", images.patch.is_some()),
        ("--samples", args.samples.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, is_given)| *is_given) {
        return Err(CliError::input(format!("{flag} is not for tables: rows are taken as they are")));
    }
    // Settings are checked before the table is read; how many features it has is known after.
    let config = Config { form: Form::Table, size: 1, ..networks(args) };
    Settings::new(args, global.seed, config)?;
    let feed = TableFeed::open(from, data, args.val_fraction, global.seed)?;
    let config = Config { form: Form::Table, size: 1, channels: feed.features(), ..networks(args) };
    let settings = Settings::new(args, global.seed, config)?;
    settings.job(args, feed.info()).run(device, &feed, interrupt)
}

/// What the samples of a command line are.
fn form(args: &Args) -> Form {
    match (args.samples_from.signal, args.samples_from.table) {
        (true, _) => Form::Signal,
        (_, true) => Form::Table,
        _ => Form::Image,
    }
}

/// What a command line says of the networks beyond the shape of a sample.
fn networks(args: &Args) -> Config {
    let defaults = args.system.info.defaults_for(form(args));
    Config {
        width: args.width,
        latent: args.latent.unwrap_or(defaults.latent),
        prior: match args.prior {
            Some(PriorArg::Uniform) => Prior::Uniform,
            Some(PriorArg::Normal) => Prior::Normal,
            None => defaults.prior,
        },
        kernel: args.kernel,
        ..Config::default()
    }
}

/// The settings of a training, checked before any data is opened.
struct Settings {
    info: &'static Info,
    config: Config,
    options: Options,
    score: ScoreConfig,
    limits: Limits,
    batch: usize,
    training: Training,
    seed: u64,
}

impl Settings {
    fn new(args: &Args, seed: u64, config: Config) -> Result<Self, CliError> {
        let info = args.system.info;
        let defaults = info.defaults_for(config.form);
        config.check()?;
        let given = args.options.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let options = Options::new(info.options, given)?;
        let score = args.search.config(None);
        let score = ScoreConfig { score: info.score(&score.score)?.to_owned(), ..score };
        score.check()?;
        let limits = limits(args, defaults.length)?;
        let (batch, lr) = (args.batch.unwrap_or(defaults.batch), args.lr.unwrap_or(defaults.lr));
        if !(lr > 0.0 && lr.is_finite()) {
            return Err(CliError::input(format!(
                "--lr is {lr}; it must be a positive number, 0.0002 is usual"
            )));
        }
        if batch == 0 {
            return Err(CliError::input("--batch is 0; it must be at least 1, 64 is usual"));
        }
        let training = Training { lr, betas: defaults.betas };
        Ok(Self { info, config, options, score, limits, batch, training, seed })
    }

    fn job(self, args: &Args, data: DataInfo) -> Job {
        // A recommended batch gives way to a small set; one that was asked for does not.
        let batch = match args.batch {
            Some(batch) => batch,
            None => self.batch.min(data.training_images.max(1)),
        };
        let header = Header {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system: self.info.name.to_owned(),
            config: self.config,
            options: self.options,
            training: self.training,
            batch,
            seed: self.seed,
            device: String::new(),
            progress: Done { steps_per_epoch: (data.training_images / batch) as u64, ..Done::default() },
            data,
            calibration: None,
        };
        Job {
            header,
            score: self.score,
            limits: self.limits,
            out: args.out.clone(),
            checkpoint_every: args.checkpoint_every,
            resume: args.resume,
            can_resume: args.can_resume,
            half: args.half,
            half_checkpoints: args.half_checkpoints,
            samples: args.samples.clone(),
        }
    }
}

fn limits(args: &Args, usual: Length) -> Result<Limits, CliError> {
    if let Some(minutes) = args.minutes
        && !(minutes > 0.0 && minutes.is_finite())
    {
        return Err(CliError::input(format!("--minutes is {minutes}; it must be a positive number")));
    }
    if args.epochs == Some(0) || args.steps == Some(0) {
        return Err(CliError::input("--epochs and --steps must be at least 1"));
    }
    let none = args.epochs.is_none() && args.steps.is_none() && args.minutes.is_none();
    let given = Limits { steps: args.steps, epochs: args.epochs, minutes: args.minutes };
    Ok(match usual {
        _ if !none => given,
        Length::Epochs(epochs) => Limits { epochs: Some(epochs), ..given },
        Length::Steps(steps) => Limits { steps: Some(steps), ..given },
    })
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
    config.check()?;
    let score = model.header.info(path)?.score(&config.score)?.to_owned();
    Ok(ScoreConfig { score, ..config })
}
