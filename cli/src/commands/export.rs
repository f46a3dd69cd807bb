//! `export`: a model, or a training, as the files of a page; a model as an ONNX graph or a module of PyTorch.

mod onnx;
mod torch;

use std::path::{Path, PathBuf};

use clap::ArgGroup;
use ganomede::detect::{Samples, Settings, TrainingData};
use ganomede::export::{Export, Run, WAYS, Way, check_folder};
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

/// Write a model for other runtimes: as an ONNX graph, a module of PyTorch, or, of images, as a page that
/// scores in the reader's browser, on the reader's own GPU: the programs, their shaders, the weights and a
/// replayer, for any server of files. With --train a page that trains a system, with --tape one that shows
/// how expressions become launches, with --kernels one that runs every variant of every kernel, with --toy a
/// GAN of points in the plane.
#[derive(Debug, Clone, clap::Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["model", "train", "tape", "kernels", "toy"]),
    after_help = "Examples:\n  ganomede export --web page parts.safetensors\n  \
    ganomede export --onnx parts.onnx parts.safetensors\n  \
    ganomede export --torch parts-torch parts.safetensors\n  \
    ganomede export --web training --train anogan --data builtin:retina --size 32 --width 16\n  \
    ganomede export --web tape --tape\n  ganomede export --web kernels --kernels"
)]
pub(crate) struct Args {
    /// Folder of the page; an earlier export there is replaced.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["onnx", "torch"])]
    web: Option<PathBuf>,
    #[command(flatten)]
    onnx: onnx::OnnxArgs,
    #[command(flatten)]
    torch: torch::TorchArgs,
    /// Model file written by `train`.
    #[arg(value_name = "M")]
    model: Option<PathBuf>,
    #[command(flatten)]
    training: TrainingArgs,
    /// A page of expressions, from one multiplication to a gradient penalty: their nodes, gradients,
    /// gradients of gradients and launches.
    #[arg(long)]
    tape: bool,
    /// A page of all kernels: read a variant, change it, run it, see whether it is right and how fast it is.
    #[arg(long)]
    kernels: bool,
    /// A page of a GAN in the plane: points, the generator's cloud, the discriminator's field.
    #[arg(long)]
    toy: bool,
    #[command(flatten)]
    search: SearchArgs,
}

/// The training that a page goes through. What is not said is as `train` has it.
#[derive(Debug, Clone, clap::Args)]
struct TrainingArgs {
    /// A page that trains this system in place of one that scores by a model.
    #[arg(long, value_name = "SYSTEM", value_parser = parse_system(), requires = "data")]
    train: Option<ChosenSystem>,
    /// Normal images of the training, as `train` takes them; an epoch has at most 1024. Several sets, each by
    /// a --data of its own, are several trainings of one page.
    #[arg(long, value_name = "D", requires = "train")]
    data: Vec<String>,
    /// Also the famous failures, of a system with the options `norm` and `d_rate`: no batch norm, a
    /// discriminator that is too strong, mode collapse.
    #[arg(long, requires = "train")]
    failures: bool,
    /// Steps that the CPU does at export, shown where there is no WebGPU.
    #[arg(long, value_name = "N", requires = "train", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=10_000))]
    record: u32,
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
    if let Some(folder) = args.torch.torch.as_deref() {
        return torch::TorchArgs::run(folder, args.model.as_deref(), &args.search, global);
    }
    let Some(folder) = args.web.as_deref() else {
        return args.onnx.run(args.model.as_deref(), &args.search, global);
    };
    let training = &args.training;
    let reads = args.model.iter().fold(Reads::new(), Reads::file);
    training.data.iter().fold(reads, |reads, spec| reads.data(spec)).check_folder(folder)?;
    check_folder(folder)?;
    if args.model.is_none() && args.search != SearchArgs::default() {
        return Err(CliError::input(
            "settings of scores and searches are of a model; a page without one has none: leave them out",
        ));
    }
    let export = match (&args.model, training.train) {
        (Some(path), _) => {
            let model = ModelFile::load(path)?;
            Export::of_model(&model, path, &score_config(&args.search, &model, path)?)?
        }
        (None, Some(system)) => training.export(system, global.seed, interrupt)?,
        (None, None) if args.tape => Export::of_tape(global.seed)?,
        (None, None) if args.toy => Export::of_toy(global.seed)?,
        (None, None) => Export::of_kernels(global.seed)?,
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
        let ways = if self.failures { &WAYS[..] } else { &WAYS[..1] };
        let missing = ways.iter().flat_map(|way| way.options).find(|(key, _)| {
            let known = system.info.options.iter().any(|option| option.key == *key);
            !known || self.options.iter().any(|(given, _)| given == key)
        });
        if let Some((key, _)) = missing {
            return Err(CliError::input(format!(
                "--failures sets the option '{key}', which {} does not have or which is set already; choose anogan, and \
                 leave that option out",
                system.name()
            )));
        }
        let (mut headers, mut samples) = (vec![], vec![]);
        for spec in &self.data {
            let (opened, channels) = self.open(spec, system, seed, interrupt)?;
            for way in ways {
                let settings = self.settings(system, seed, channels, way).checked()?;
                headers.push((samples.len(), way, settings.job(opened.info()?).header));
            }
            samples.push(opened);
        }
        let runs = headers.iter().map(|(set, way, header)| Run {
            // A name, and not where it lies: a page goes to others.
            data: self.data[*set].rsplit(['/', '\\']).next().unwrap_or_default(),
            way,
            header,
            samples: samples[*set].as_ref(),
        });
        Ok(Export::of_trainings(&runs.collect::<Vec<_>>(), self.record as usize)?)
    }

    /// The settings of a training that goes this way.
    fn settings(&self, system: ChosenSystem, seed: u64, channels: usize, way: &Way) -> Settings {
        let form = SampleArgs::default().form();
        let defaults = system.info.defaults_for(form);
        let more = way.options.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        Settings {
            system: system.info,
            config: Config {
                form,
                size: self.size(),
                channels,
                width: self.width.unwrap_or(64),
                latent: self.latent.unwrap_or(defaults.latent),
                prior: defaults.prior,
                kernel: 4,
            },
            options: self.options.iter().cloned().chain(more).collect(),
            score: ScoreConfig::default(),
            limits: Limits::default(),
            batch: self.batch,
            lr: self.lr,
            recipe: Recipe::default(),
            textures: None,
            seed,
        }
    }

    fn size(&self) -> Size {
        self.size.unwrap_or(Size::square(64))
    }

    /// A set of images, and their channels.
    fn open(
        &self,
        spec: &str,
        system: ChosenSystem,
        seed: u64,
        interrupt: &Interrupt,
    ) -> Result<(Box<dyn Samples>, usize), CliError> {
        let of_images = SampleArgs::default();
        let size = self.size();
        self.settings(system, seed, 1, &WAYS[0]).checked()?;
        let mut reading = of_images.reading(&DataArgs::default());
        reading.images = OpenOptions { preprocess: Preprocess::new(size), ..reading.images };
        let data = TrainingData {
            form: of_images.form(),
            spec: spec.to_owned(),
            reading,
            window: size.width,
            hold_out: 0.1,
            tiles: None,
            augment: String::new(),
            seed,
        };
        data.check()?;
        let samples: Box<dyn Samples> = data.open(&mut Terminal::new(interrupt))?;
        let channels = samples.channels();
        Ok((samples, channels))
    }
}
