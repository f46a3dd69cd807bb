//! `export`: a model, or a training, as the files of a page; a model as an ONNX graph.

mod onnx;

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use ganomede::detect::{Samples, Settings, TrainingData};
use ganomede::export::{Export, check_folder};
use ganomede::models::file::ModelFile;
use ganomede::models::recipe::Recipe;
use ganomede::models::scorer::ScoreConfig;
use ganomede::models::{Config, Size};
use ganomede::train::Limits;
use ganomede_datasets::{OpenOptions, Preprocess, Reads};
use serde::Serialize;

use crate::commands::train::{parse_option, score_config};
use crate::shared::args::{DataArgs, Global, SearchArgs};
use crate::shared::programs::{ChosenSystem, parse_system};
use crate::shared::samples::SampleArgs;
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, quoted, say, say_json, shown};

/// Write a model for other runtimes: as an ONNX graph, or, of images, as a page that scores in the reader's
/// browser, on the reader's own GPU: the programs, their shaders, the weights and a replayer, for any server
/// of files. With --train a page that trains a system.
#[derive(Debug, Clone, clap::Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["model", "train"]),
    after_help = "Examples:\n  ganomede export --web page parts.safetensors\n  \
    ganomede export --onnx parts.onnx parts.safetensors\n  \
    ganomede export --web training --train anogan --data builtin:retina --size 32 --width 16"
)]
pub(crate) struct Args {
    /// Folder of the page; an earlier export there is replaced.
    #[arg(long, value_name = "DIR", required_unless_present = "onnx")]
    web: Option<PathBuf>,
    #[command(flatten)]
    onnx: onnx::OnnxArgs,
    /// Model file written by `train`.
    #[arg(value_name = "M")]
    model: Option<PathBuf>,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    search: SearchArgs,
}

/// The training that a page goes through. What is not said is as `train` has it.
#[derive(Debug, Clone, clap::Args)]
struct TrainingArgs {
    /// A page that trains this system in place of one that scores by a model.
    #[arg(long, value_name = "SYSTEM", value_parser = parse_system(), requires = "data")]
    train: Option<ChosenSystem>,
    /// Normal images of the training, as `train` takes them; an epoch has at most 1024.
    #[arg(long, value_name = "D", requires = "train")]
    data: Option<String>,
    /// Size of the images [default: 64].
    #[arg(long, value_name = "WxH", requires = "train")]
    size: Option<Size>,
    /// Channels of the widest feature maps [default: 64].
    #[arg(long, requires = "train")]
    width: Option<usize>,
    /// Length of the latent vector [default: the system's].
    #[arg(long, requires = "train")]
    latent: Option<usize>,
    /// Option of the system; `ganomede systems NAME` lists them.
    #[arg(short = 'O', long = "option", value_name = "KEY=VALUE", value_parser = parse_option,
        requires = "train")]
    options: Vec<(String, String)>,
    /// Images in a step [default: the system's].
    #[arg(long, requires = "train")]
    batch: Option<usize>,
    /// Adam's step size [default: the system's].
    #[arg(long, requires = "train")]
    lr: Option<f32>,
}

/// `export --json`.
#[derive(Debug, Serialize)]
struct ExportDocument<'a> {
    folder: &'a Path,
    files: Vec<Written<'a>>,
}

/// A file of the page.
#[derive(Debug, Serialize)]
struct Written<'a> {
    name: &'a str,
    bytes: usize,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let Some(folder) = args.web.as_deref() else {
        return args.onnx.run(args.model.as_deref(), &args.search, global);
    };
    let training = &args.training;
    let reads = args.model.iter().fold(Reads::new(), Reads::file);
    training.data.iter().fold(reads, |reads, spec| reads.data(spec)).check_folder(folder)?;
    check_folder(folder)?;
    let export = match (&args.model, training.train) {
        (Some(path), _) => {
            let model = ModelFile::load(path)?;
            Export::of_model(&model, path, &score_config(&args.search, &model, path)?)?
        }
        (None, Some(system)) => {
            if args.search != SearchArgs::default() {
                return Err(CliError::input(
                    "settings of scores and searches are of a model; a page that trains has none: leave them out",
                ));
            }
            training.export(system, global.seed, interrupt)?
        }
        (None, None) => return Err(CliError::input("name a model, or a system with --train")),
    };
    export.write(folder)?;
    let files: Vec<_> = export.files().map(|(name, bytes)| Written { name, bytes: bytes.len() }).collect();
    if global.json {
        return say_json(&ExportDocument { folder, files });
    }
    let bytes: usize = files.iter().map(|file| file.bytes).sum();
    say(&format!(
        "{}: {} files, {:.1} KB; serve them with `python3 -m http.server --directory {}`",
        shown(folder),
        files.len(),
        bytes as f64 / 1e3,
        quoted(&folder.to_string_lossy())
    ))
}

impl TrainingArgs {
    fn export(&self, system: ChosenSystem, seed: u64, interrupt: &Interrupt) -> Result<Export, CliError> {
        let of_images = SampleArgs::default();
        let form = of_images.form();
        let defaults = system.info.defaults_for(form);
        let size = self.size.unwrap_or(Size::square(64));
        let settings = |channels| Settings {
            system: system.info,
            config: Config {
                form,
                size,
                channels,
                width: self.width.unwrap_or(64),
                latent: self.latent.unwrap_or(defaults.latent),
                prior: defaults.prior,
                kernel: 4,
            },
            options: self.options.clone(),
            score: ScoreConfig::default(),
            limits: Limits::default(),
            batch: self.batch,
            lr: self.lr,
            recipe: Recipe::default(),
            seed,
        };
        settings(1).checked()?;
        let mut reading = of_images.reading(&DataArgs::default());
        reading.images = OpenOptions { preprocess: Preprocess::new(size), ..reading.images };
        let data = TrainingData {
            form,
            spec: self.data.clone().unwrap_or_default(),
            reading,
            window: size.width,
            hold_out: 0.1,
            tiles: None,
            augment: String::new(),
            seed,
        };
        data.check()?;
        let samples: Box<dyn Samples> = data.open(&mut Terminal::new(interrupt))?;
        let job = settings(samples.channels()).checked()?.job(samples.info()?);
        Ok(Export::of_training(&job.header, samples.as_ref())?)
    }
}
