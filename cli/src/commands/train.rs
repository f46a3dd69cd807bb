//! `train`: learns what normal images look like.

use std::path::{Path, PathBuf};

use ganomede::detect::{Settings, TrainingData, checkpoint_path};
use ganomede::device::Device;
use ganomede::models::file::ModelFile;
use ganomede::models::recipe::Recipe;
use ganomede::models::scorer::{ScoreConfig, Tiling};
use ganomede::models::{Config, Prior, SyntheticCheck};
use ganomede::train::{Limits, Team};
use ganomede_datasets::Reads;

use crate::shared::args::{ChannelsArg, DataArgs, FitArg, Global, PreprocessArgs, RecipeArgs, SearchArgs};
use crate::shared::job::{self, Summary};
use crate::shared::output::complain;
use crate::shared::programs::{ChosenSystem, parse_system};
use crate::shared::ranks::{Ranks, together};
use crate::shared::samples::{Flag, For, SampleArgs, refuse};
use crate::shared::session::{check_file, check_folder};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, say, say_json, say_warning, shown};

/// Train a system on normal images.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  ganomede train anogan --data parts/ --size 64 --epochs 20 --out parts.safetensors"
)]
pub(crate) struct Args {
    /// Which published system; `ganomede systems` lists them.
    #[arg(value_parser = parse_system())]
    pub(crate) system: ChosenSystem,
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
    /// Parts that each batch comes in: their gradients are added before a step, so that --batch is what has
    /// to fit into memory and a step sees N times as many images.
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    pub(crate) accumulate: usize,
    /// Let batch norm take mean and variance of the whole batch, and not of each part of it; of parts that
    /// --accumulate or several ranks make.
    #[arg(long)]
    pub(crate) sync_bn: bool,
    /// The processes that train together.
    #[arg(skip)]
    pub(crate) team: Team,
    /// Passes over the data [default: the system's, where no other limit is given; for tables some have steps
    /// instead].
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
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Fraction of the normal images held out for calibration; at most 256 of them are scored.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) val_fraction: f64,
    /// Folder of images that textures are taken from in place of drawn ones, of systems that train on
    /// textures (draem); all of them are held in memory at the size of the samples.
    #[arg(long, value_name = "DIR")]
    pub(crate) textures: Option<PathBuf>,
    /// Steps between checkpoints; 0 saves one at the end only.
    #[arg(long, default_value_t = 500)]
    pub(crate) checkpoint_every: u64,
    /// Steps between models that are kept beside the output, as `OUT.step-0001000.safetensors`, each as it
    /// would be if training had ended there; of systems with several stages, in the last [default: none].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_every: u64,
    /// Continue from the checkpoint, bit for bit; starts from scratch where there is none.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Whether the command that trains has `--resume`.
    #[arg(skip = true)]
    pub(crate) can_resume: bool,
    /// Store the model's weights in half precision: half the file, and on a GPU less memory when it scores.
    /// The threshold is that of the rounded weights.
    #[arg(long)]
    pub(crate) half: bool,
    /// Store checkpoints in half precision: half the file. To resume from one then goes on close to the
    /// training that was interrupted, not bit for bit.
    #[arg(long)]
    pub(crate) half_checkpoints: bool,
    /// Folder for a grid of generated or reconstructed images after each epoch.
    #[arg(long, value_name = "DIR")]
    pub(crate) samples: Option<PathBuf>,
    /// Folder for a log of the training: losses, samples and histograms of weights as a TensorBoard event
    /// file, losses as JSON lines (steps.jsonl).
    #[arg(long, value_name = "DIR")]
    pub(crate) log: Option<PathBuf>,
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
    let ranks = Ranks::join()?;
    let global = Global { device: ranks.device(global.device), ..global.clone() };
    let device = together(&ranks.team, global.open())?;
    if ranks.team.count() > 1 {
        complain(&format!("rank {} of {}: {}", ranks.team.rank(), ranks.team.count(), device.describe()));
    }
    let args = Args { team: ranks.team.clone(), ..args.clone() };
    let (summary, _) = train_model(&args, &global, &device, interrupt)?;
    if !ranks.team.is_first() {
        return Ok(());
    }
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
    ))?;
    let Some(check) = &summary.check else { return Ok(()) };
    say(&format!("{} ({})", check.sentence(), SyntheticCheck::WORTH))?;
    check.warnings().iter().try_for_each(|warning| say_warning(warning))
}

/// Makes sure before hours of work that the results can be written.
fn check_writable(args: &Args) -> Result<(), CliError> {
    let reads = args.samples_from.labels.iter().fold(args.data.reads(), Reads::file);
    let reads = args.textures.iter().fold(reads, |reads, folder| reads.data(&folder.to_string_lossy()));
    check_file(&args.out, &reads)?;
    check_file(&checkpoint_path(&args.out), &reads)?;
    let folders = args.samples.iter().chain(&args.log);
    folders.into_iter().try_for_each(|folder| check_folder(folder, &reads))
}

/// Trains as the arguments say, calibrates, writes the model.
pub(crate) fn train_model(
    args: &Args,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(Summary, ModelFile), CliError> {
    let ready = || {
        if args.team.is_first() {
            check_writable(args)?;
        }
        // Settings are checked before any data are opened; how many channels these have is known after.
        check(args, global.seed, args.samples_from.channels(&args.preprocess))?;
        let samples = data(args, global.seed).open(&mut Terminal::new(interrupt))?;
        let settings = settings(args, global.seed, samples.channels()).checked()?;
        let job = settings.job(samples.info()?);
        Ok((samples, job))
    };
    let (samples, mut job) = together(&args.team, ready())?;
    job.team = args.team.clone();
    job.out = Some(args.out.clone());
    job.checkpoint_every = args.checkpoint_every;
    job.resume = args.resume;
    job.keep_every = args.keep_every;
    (job.half, job.half_checkpoints) = (args.half, args.half_checkpoints);
    job.samples = args.samples.clone();
    job.log = args.log.clone();
    job::run(job, device, samples.as_ref(), args.can_resume, interrupt)
}

/// Refuses, before any data are read, settings that a training or its score cannot have; samples have this
/// many `channels`, where that is known.
pub(crate) fn check(args: &Args, seed: u64, channels: Option<usize>) -> Result<(), CliError> {
    let (from, images, form) = (&args.samples_from, &args.preprocess, args.samples_from.form());
    from.check(form)?;
    args.data.check(form)?;
    let why = "is not for {forms}: {units} are taken as they are";
    let of_tests = "is about test rows; give it to `ganomede eval`";
    refuse(
        form,
        &[
            Flag("--augment", !images.augment.is_empty(), For::ImagesAndSeries, why),
            Flag("--fit", images.fit != FitArg::Stretch, For::Images, why),
            Flag("--centre-crop", images.centre_crop, For::Images, why),
            Flag("--window", images.window.is_some(), For::Images, why),
            Flag("--flatten", images.flatten, For::Images, why),
            Flag("--standardise", images.standardise, For::Images, why),
            Flag("--bits", images.bits.is_some(), For::Images, why),
            Flag("--channels", images.channels != ChannelsArg::Gray, For::Images, why),
            Flag("--tile", images.tile.is_some(), For::Images, why),
            Flag("--map-smooth", args.search.map_smooth.is_some(), For::Images, why),
            Flag("--map-relative", args.search.map_relative, For::Images, why),
            Flag("--samples", args.samples.is_some(), For::Images, why),
            Flag("--textures", args.textures.is_some(), For::Images, why),
            Flag("--anomaly-share", from.anomaly_share.is_some(), For::None, of_tests),
        ],
    )?;
    let of_tiles =
        [images.tiles_per_image.is_some(), args.search.tile_step.is_some(), args.search.tile_score.is_some()];
    if images.tile.is_none() && of_tiles.contains(&true) {
        return Err(CliError::input(
            "--tiles-per-image, --tile-step and --tile-score are of tiles: give their side with --tile",
        ));
    }
    let settings = settings(args, seed, channels.unwrap_or(1)).checked()?;
    data(args, seed).check()?;
    from.check_stride(images.size.width)?;
    // Networks that fit no samples of one channel may fit some of several.
    if channels.is_some() {
        settings.with_score()?;
    }
    Ok(())
}

/// What is trained on.
pub(crate) fn data(args: &Args, seed: u64) -> TrainingData {
    let mut reading = args.samples_from.reading(&args.data);
    reading.images = args.preprocess.open_options(reading.images);
    TrainingData {
        form: args.samples_from.form(),
        spec: args.data.data.to_string(),
        reading,
        window: args.preprocess.size.width,
        hold_out: args.val_fraction,
        tiles: args.preprocess.tiles(&score(args)),
        augment: args.preprocess.augment.clone(),
        seed,
    }
}

/// How the model is to score.
fn score(args: &Args) -> ScoreConfig {
    let tiles = args.preprocess.tile.map(|_| Tiling::default());
    args.search.config(Some(&ScoreConfig { tiles, ..ScoreConfig::default() }))
}

/// The settings of a command line, not yet checked.
pub(crate) fn settings(args: &Args, seed: u64, channels: usize) -> Settings {
    let form = args.samples_from.form();
    let defaults = args.system.info.defaults_for(form);
    let config = Config {
        form,
        size: args.preprocess.seen(),
        channels,
        width: args.width,
        latent: args.latent.unwrap_or_else(|| args.system.info.latent_for(form, channels)),
        prior: match args.prior {
            Some(PriorArg::Uniform) => Prior::Uniform,
            Some(PriorArg::Normal) => Prior::Normal,
            None => defaults.prior,
        },
        kernel: args.kernel,
    };
    Settings {
        system: args.system.info,
        config: config.of(form),
        options: args.options.clone(),
        score: score(args),
        limits: Limits { steps: args.steps, epochs: args.epochs, minutes: args.minutes },
        batch: args.batch,
        lr: args.lr,
        recipe: Recipe {
            standardise: args.preprocess.standardise,
            parts: args.accumulate.saturating_mul(args.team.count()),
            sync_bn: args.sync_bn,
            ..args.recipe.recipe()
        },
        textures: args.textures.as_ref().map(|folder| folder.to_string_lossy().into_owned()),
        seed,
    }
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
    let base = model.header.score_config();
    if base.tiles.is_none() && (args.tile_step.is_some() || args.tile_score.is_some()) {
        return Err(CliError::input(
            "--tile-step and --tile-score are for models of tiles; this one was trained on whole images: leave them out",
        ));
    }
    let why = "is for images; {samples} have no map: leave it out";
    refuse(
        model.header.config.form,
        &[
            Flag("--map-smooth", args.map_smooth.is_some(), For::Images, why),
            Flag("--map-relative", args.map_relative, For::Images, why),
        ],
    )?;
    let config = args.config(Some(&base));
    config.check()?;
    let score = model.header.info(path)?.score(&config.score)?.to_owned();
    Ok(ScoreConfig { score, ..config })
}
