//! Arguments that several commands share.

use std::fmt::{Display, Formatter};
use std::ops::{Deref, Range};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ganomede_datasets::memory;
use ganomede_datasets::{Channels, DataError, Fit, GroupRule, OpenOptions, Preprocess, Reads, Size, Split};

use crate::shared::samples::{Flag, For, refuse};
use crate::shared::{CliError, note};
use ganomede::Precision;
use ganomede::detect::other_precision;
use ganomede::device::gpu::GpuOptions;
use ganomede::device::{Device, Selector, machine};
use ganomede::models::Form;
use ganomede::models::file::{ModelFile, TileInfo};
use ganomede::models::recipe::{Recipe, Schedule};
use ganomede::models::scorer::{MapConfig, ScoreConfig, TileScore, Tiling};
use ganomede::models::search::SearchConfig;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where to compute: auto (a hardware GPU, else cpu), cpu, gpu (software adapters included), gpu:N.
    #[arg(long, global = true, default_value = "auto", env = "GANOMEDE_DEVICE", value_parser = parse_device)]
    pub device: Selector,
    /// What the operands of matrix products and convolutions are rounded to: bf16 on processors (faster
    /// where they have instructions for it, AMX or AVX512-BF16), f16 on GPUs that have arithmetic in halves.
    /// Both cost accuracy; sums, statistics, losses and weights stay in f32.
    #[arg(long, global = true, value_enum, default_value_t = PrecisionArg::F32)]
    pub precision: PrecisionArg,
    /// Seed of everything random.
    #[arg(long, global = true, default_value_t = 0)]
    pub seed: u64,
    /// Memory that decoding and unpacking data may take, all threads together, for example 2GiB [default:
    /// half of what is free, within the limits of a container and of ulimit].
    #[arg(long, global = true, value_name = "BYTES", env = "GANOMEDE_MEMORY", value_parser = memory::parse_bytes)]
    pub memory: Option<u64>,
    /// Read arguments from this file, as `lr = 1e-4` for --lr 1e-4; what is typed wins. Runs with an output
    /// leave such a file beside it.
    #[arg(long, global = true, value_name = "RUN.toml")]
    pub config: Option<PathBuf>,
    /// Print one JSON document on stdout instead of text; logs go to stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// Debugging: run launches FROM..TO of every program on the GPU and the others on the CPU.
    #[arg(long, global = true, value_name = "FROM..TO", value_parser = parse_range, hide_short_help = true)]
    pub gpu_launches: Option<Range<usize>>,
    /// Validate every shader access (slower); otherwise shaders run trusted.
    #[arg(long, global = true, hide_short_help = true)]
    pub checked_shaders: bool,
}

/// `--precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// 24 bits.
    F32,
    /// 8 bits with the range of f32.
    Bf16,
    /// 11 bits, operands scaled into their range.
    F16,
}

impl From<PrecisionArg> for Precision {
    fn from(value: PrecisionArg) -> Self {
        match value {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::Bf16 => Self::Bf16,
            PrecisionArg::F16 => Self::F16,
        }
    }
}

fn parse_device(text: &str) -> Result<Selector, String> {
    text.parse()
}

fn parse_range(text: &str) -> Result<Range<usize>, String> {
    let parts = text.split_once("..").ok_or("write FROM..TO, for example 40..80")?;
    let number = |part: &str, default| {
        if part.is_empty() { Ok(default) } else { part.parse().map_err(|e| format!("{e}")) }
    };
    Ok(number(parts.0, 0)?..number(parts.1, usize::MAX)?)
}

impl Global {
    /// Sets the memory budget of this process.
    pub(crate) fn set_budget(&self) {
        let half = || machine::available_memory().map(|bytes| bytes / 2);
        memory::set_budget(self.memory.or_else(half).unwrap_or(memory::DEFAULT_BUDGET));
    }

    /// Opens the device for a model, with a word where its threshold was chosen in another precision.
    pub(crate) fn open_for(&self, model: &ModelFile) -> Result<Device, CliError> {
        let device = self.open()?;
        if let Some(told) = other_precision(model, &device) {
            note(&format!("note: {told}"));
        }
        Ok(device)
    }

    /// Opens the device.
    pub(crate) fn open(&self) -> Result<Device, CliError> {
        let cache = machine::cache_folder();
        let options = GpuOptions { checked: self.checked_shaders, cache, ..GpuOptions::default() };
        let device = Device::open(self.device, options)?;
        if let Device::Gpu(gpu) = &device
            && let Some(problem) = gpu.tuning_problem()
        {
            note(&format!("note: {problem}"));
        }
        let precision = Precision::from(self.precision);
        if self.gpu_launches.is_some() && precision != Precision::F32 {
            return Err(CliError::input(
                "--gpu-launches compares the devices in f32, which both have; leave --precision out",
            ));
        }
        match (&self.gpu_launches, device.with_precision(precision)?) {
            (Some(range), Device::Gpu(gpu)) => Ok(Device::Mixed(gpu, range.clone())),
            (Some(_), _) => {
                Err(CliError::input("--gpu-launches needs a GPU beside the CPU; add --device gpu"))
            }
            (None, device) => Ok(device),
        }
    }
}

/// Gray or colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelsArg {
    /// One channel.
    Gray,
    /// Three channels.
    Rgb,
}

impl From<ChannelsArg> for Channels {
    fn from(value: ChannelsArg) -> Self {
        match value {
            ChannelsArg::Gray => Channels::Gray,
            ChannelsArg::Rgb => Channels::Rgb,
        }
    }
}

/// `--fit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitArg {
    /// Width and height by themselves.
    Stretch,
    /// The centre.
    Crop,
    /// Gray around the whole.
    Pad,
}

impl From<FitArg> for Fit {
    fn from(value: FitArg) -> Self {
        match value {
            FitArg::Stretch => Fit::Stretch,
            FitArg::Crop => Fit::Crop,
            FitArg::Pad => Fit::Pad,
        }
    }
}

/// `--window`.
pub(crate) fn parse_window(text: &str) -> Result<[f64; 2], String> {
    let parts = text.split_once(',').map(|(centre, width)| (centre.trim().parse(), width.trim().parse()));
    match parts {
        Some((Ok(centre), Ok(width))) => Ok([centre, width]),
        _ => Err(format!("{text} is no window; write CENTRE,WIDTH, for example 40,400")),
    }
}

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitArg {
    /// Training images.
    Train,
    /// Test images.
    Test,
}

impl From<SplitArg> for Split {
    fn from(value: SplitArg) -> Self {
        match value {
            SplitArg::Train => Split::Train,
            SplitArg::Test => Split::Test,
        }
    }
}

/// Places that data come from, one after another; as text the first.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Places {
    /// Data: a folder with all below it (MVTec, BTAD, VisA, Kolektor, a folder for each class, or any), a
    /// pattern, an IDX, CIFAR-10 or NPZ set, or builtin:retina; may be given several times. With --table or
    /// --signal a CSV file.
    #[arg(long, value_name = "D", required_unless_present = "list")]
    data: Vec<String>,
    /// Images named in a CSV file with the column path, and if you like label, split and mask; relative paths
    /// are relative to the file.
    #[arg(long, value_name = "F.csv")]
    list: Vec<String>,
}

impl Places {
    /// Each with its flag.
    pub(crate) fn flags(&self) -> Vec<(&'static str, String)> {
        let each =
            |flag, places: &[String]| places.iter().map(|place| (flag, place.clone())).collect::<Vec<_>>();
        [each("--data", &self.data), each("--list", &self.list)].concat()
    }

    /// Each of them.
    pub(crate) fn all(&self) -> Vec<&str> {
        self.data.iter().chain(&self.list).map(String::as_str).collect()
    }
}

impl Places {
    /// Puts another place before, unless it is the first already.
    pub(crate) fn replace(&mut self, place: String) {
        if **self != *place {
            *self = place.into();
        }
    }
}

impl From<String> for Places {
    fn from(place: String) -> Self {
        Places { data: vec![place], ..Places::default() }
    }
}

impl Deref for Places {
    type Target = str;

    fn deref(&self) -> &str {
        self.all().first().copied().unwrap_or_default()
    }
}

impl Display for Places {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

/// Where images come from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DataArgs {
    #[command(flatten)]
    pub data: Places,
    /// Normal classes of labelled sets and tables, and names of the folders or labels of normal images; the
    /// others are anomalous (one against the rest). Models remember them [default of folders: good, ok or
    /// normal].
    #[arg(long, visible_alias = "normal", value_name = "K", num_args = 1.., value_delimiter = ',')]
    pub normal_class: Vec<String>,
    /// Anomalous classes, likewise; the others are normal (leave one out).
    #[arg(long, value_name = "K", num_args = 1.., value_delimiter = ',')]
    pub anomalous_class: Vec<String>,
    /// Folder of the masks of the images, if not where their layout has them. Without classes, an image is
    /// anomalous whose mask marks anything.
    #[arg(long, value_name = "DIR")]
    pub masks: Option<PathBuf>,
    /// How masks are named, without extension, * for the name of the image [default: *_mask, *_gt, *_label,
    /// *_ground_truth or *].
    #[arg(long, value_name = "PATTERN")]
    pub mask_name: Option<String>,
    /// Groups of images that are no independent samples (slices of a patient, parts of a lot): a regular
    /// expression whose first parentheses, or whole match, in the path of an image is its group; of a table
    /// the name of the column. Whole groups are held out, thresholds and intervals hold for new groups, and
    /// models remember it.
    #[arg(long, value_name = "REGEX|COLUMN", value_parser = parse_group)]
    pub group: Option<GroupRule>,
    /// Make a file that cannot be read an error instead of skipping it, and a test image that is trained on.
    #[arg(long)]
    pub strict: bool,
}

/// How images come to one size, for training; models remember it.
#[derive(Debug, Clone, Args)]
pub(crate) struct PreprocessArgs {
    /// Size of the images, or length of windows of series: 16 to 1024; 64 is a square, 96x64 has the width
    /// first.
    #[arg(long, value_name = "WxH", default_value_t = Size::square(64))]
    pub size: Size,
    /// Gray or colour.
    #[arg(long, value_enum, default_value = "gray")]
    pub channels: ChannelsArg,
    /// How images of other proportions come to the size: stretch them, crop the largest centred part of these
    /// proportions, or pad them with gray. Masks go the same way, and pixel metrics leave out what was
    /// padded.
    #[arg(long, value_enum, default_value = "stretch")]
    pub fit: FitArg,
    /// As --fit crop, its name before.
    #[arg(long, conflicts_with = "fit", hide = true)]
    pub centre_crop: bool,
    /// Window through which DICOM images are seen, in their rescaled values, for example 40,400; models
    /// remember it [default: that of each file, else all that its bits can hold].
    #[arg(long, value_name = "CENTRE,WIDTH", value_parser = parse_window, allow_hyphen_values = true)]
    pub window: Option<[f64; 2]>,
    /// Shift the columns of scans so that their brightest layer lies level, before anything else.
    #[arg(long)]
    pub flatten: bool,
    /// Subtract each image's mean and divide by its standard deviation, three of which fill the networks'
    /// range; of tiles, each tile's. Where brightness or contrast differ from day to day and mean nothing;
    /// where they are what defects look like, it hides them. Models remember it.
    #[arg(long)]
    pub standardise: bool,
    /// Bits that the samples of 16-bit images really use, such as 12; models remember it [default: all 16,
    /// and a word about it where fewer are in use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub bits: Option<u32>,
    /// Learn tiles of this size of large images, at their own resolution, at random places; the model scores
    /// images by overlapping tiles. It takes the place of --size.
    // `--patch` is what it was called while scores were of random patches.
    #[arg(long, alias = "patch", value_name = "WxH", conflicts_with = "size")]
    pub tile: Option<Size>,
    /// Tiles of each image in an epoch [default: 16].
    #[arg(long, value_name = "N", requires = "tile")]
    pub tiles_per_image: Option<usize>,
    /// Augmentation, for example flip,rotate:10,shift:0.1,brightness:0.2,contrast:0.2, or warp:0.044 for the
    /// ticks of series; none by default.
    #[arg(long, value_name = "LIST", default_value = "")]
    pub augment: String,
}

impl PreprocessArgs {
    /// Size of what the networks see: of whole images, or of tiles.
    pub(crate) fn seen(&self) -> Size {
        self.tile.unwrap_or(self.size)
    }

    /// How large images are cut into tiles.
    pub(crate) fn tiles(&self, score: &ScoreConfig) -> Option<TileInfo> {
        let per_image = self.tiles_per_image.unwrap_or(TileInfo::PER_IMAGE);
        score.tiles.map(|tiling| TileInfo { per_image, tiling })
    }

    /// How images come to the size.
    pub(crate) fn fit(&self) -> Fit {
        if self.centre_crop { Fit::Crop } else { self.fit.into() }
    }

    /// How images are opened to be trained on.
    pub(crate) fn open_options(&self, given: OpenOptions) -> OpenOptions {
        OpenOptions {
            preprocess: Preprocess {
                channels: self.channels.into(),
                fit: self.fit(),
                ..Preprocess::new(self.seen())
            },
            flatten: self.flatten,
            bits: self.bits,
            window: self.window,
            ..given
        }
    }
}

impl DataArgs {
    /// Classes, and how strict to be. Patches have a fixed seed of their own, so that runs with different
    /// seeds see the same data.
    pub(crate) fn open_options(&self) -> OpenOptions {
        OpenOptions {
            normal_classes: self.normal_class.clone(),
            anomalous_classes: self.anomalous_class.clone(),
            strict: self.strict,
            also: self.data.all().into_iter().skip(1).map(str::to_owned).collect(),
            masks: self.masks.clone(),
            mask_name: self.mask_name.clone(),
            group: self.group.clone(),
            seed: 0,
            ..OpenOptions::default()
        }
    }
}

impl DataArgs {
    /// What a run reads of it.
    pub(crate) fn reads(&self) -> Reads {
        let reads = self.data.all().into_iter().fold(Reads::new(), Reads::data);
        self.masks.iter().fold(reads, |reads, masks| reads.data(&masks.to_string_lossy()))
    }

    /// Refuses what is given for samples of another form than the model's, or the training's.
    pub(crate) fn check(&self, form: Form) -> Result<(), CliError> {
        let why = "is for labelled images and tables; of a series --labels or --label-column says which rows are \
            anomalous: leave it out";
        let images = "is for images; of {forms} give one file or folder with --data";
        let (normal, anomalous) = (!self.normal_class.is_empty(), !self.anomalous_class.is_empty());
        refuse(
            form,
            &[
                Flag("--normal-class", normal, For::ImagesAndTables, why),
                Flag("--anomalous-class", anomalous, For::ImagesAndTables, why),
                Flag(
                    "--group",
                    self.group.is_some(),
                    For::ImagesAndTables,
                    "is for images and tables: leave it out",
                ),
                Flag("--list", !self.data.list.is_empty(), For::Images, images),
                Flag("--data given several times", self.data.data.len() > 1, For::Images, images),
                Flag("--masks", self.masks.is_some(), For::Images, images),
                Flag("--mask-name", self.mask_name.is_some(), For::Images, images),
            ],
        )
    }
}

/// A rule of groups.
fn parse_group(text: &str) -> Result<GroupRule, String> {
    text.parse().map_err(|e: DataError| e.to_string())
}

/// A rate of false alarms.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate < 1.0 => Ok(rate),
        _ => Err(format!("false-alarm rate {text} lies outside (0, 1); 0.05 is usual")),
    }
}

/// How samples are scored.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct SearchArgs {
    /// Gradient steps on z for each query, Γ [default: what the model was calibrated with, else 500].
    #[arg(long, value_name = "N")]
    pub search_steps: Option<usize>,
    /// Starts for each query; the one with the least loss counts [default: the model's, else 1].
    #[arg(long, value_name = "R")]
    pub restarts: Option<usize>,
    /// Weight of the discrimination loss, λ [default: the model's, else 0.1].
    #[arg(long, value_name = "L")]
    pub lambda: Option<f32>,
    /// First step size of the search [default: the model's, else 0.05].
    #[arg(long, value_name = "LR")]
    pub search_lr: Option<f32>,
    /// Stop a query whose loss has not fallen by this fraction for 25 steps; 0 never stops [default: 0].
    #[arg(long, value_name = "T")]
    pub search_tolerance: Option<f32>,
    /// Keep z within [−1, 1], the support of the uniform prior.
    #[arg(long)]
    pub clip_z: bool,
    /// Which of the system's published scores; `ganomede systems` lists them [default: the model's, else the
    /// first].
    #[arg(long, value_name = "NAME")]
    pub score: Option<String>,
    /// Refine by a latent search of N steps that starts from E(x), of systems with a generator and an
    /// encoder; 0 does not [default: the model's, else 0].
    #[arg(long, value_name = "N")]
    pub refine: Option<usize>,
    /// Of models of tiles: pixels from one tile to the next, across and down [default: the model's, else half
    /// a tile].
    #[arg(long, value_name = "WxH")]
    pub tile_step: Option<Size>,
    /// Of models of tiles: an image's score as a function of its tiles' scores: max, mean, or top:K, the mean
    /// of the highest K [default: the model's, else max].
    #[arg(long, value_name = "HOW")]
    pub tile_score: Option<TileScore>,
    /// Smooth maps by a Gaussian of this standard deviation, in pixels of the networks' input; 0 does not
    /// [default: the model's, else a sixty-fourth of the side].
    #[arg(long, value_name = "SIGMA")]
    pub map_smooth: Option<f64>,
    /// Maps say how far each pixel lies from what held-out normals have at its place, in standard deviations:
    /// what lights up in all of them is not shown. The model must have been trained with it.
    #[arg(long)]
    pub map_relative: bool,
}

impl SearchArgs {
    /// The settings given, on top of those that a model was calibrated with.
    pub(crate) fn config(&self, model: Option<&ScoreConfig>) -> ScoreConfig {
        let base = model.cloned().unwrap_or_default();
        let search = SearchConfig {
            steps: self.search_steps.unwrap_or(base.search.steps),
            restarts: self.restarts.unwrap_or(base.search.restarts),
            lambda: self.lambda.unwrap_or(base.search.lambda),
            lr: self.search_lr.unwrap_or(base.search.lr),
            tolerance: self.search_tolerance.unwrap_or(base.search.tolerance),
            clip_z: self.clip_z || base.search.clip_z,
        };
        ScoreConfig {
            score: self.score.clone().unwrap_or(base.score),
            search,
            refine: self.refine.unwrap_or(base.refine),
            tiles: base.tiles.map(|tiles| Tiling {
                step: self.tile_step.map(Size::extent).or(tiles.step),
                score: self.tile_score.unwrap_or(tiles.score),
            }),
            maps: MapConfig {
                smooth: self.map_smooth.or(base.maps.smooth),
                relative: self.map_relative || base.maps.relative,
            },
        }
    }
}

/// How every system's training goes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RecipeArgs {
    /// Whether batch norm's running statistics are estimated anew, after the last step, in one pass over the
    /// training data; `no` keeps those that the last steps blended.
    #[arg(long, value_name = "WHETHER", default_value = "yes")]
    pub batch_norm_pass: Whether,
    /// Average the weights with this decay, for example 0.999, and let the averages be the model's weights
    /// [default: none].
    #[arg(long, value_name = "DECAY")]
    pub ema: Option<f32>,
    /// How step sizes change over each stage of the training: not at all, along half a cosine to 0, or to a
    /// tenth at half of it and a hundredth at three quarters.
    #[arg(long, value_enum, default_value = "constant")]
    pub lr_schedule: ScheduleArg,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Whether {
    /// It is done.
    #[default]
    Yes,
    /// It is not.
    No,
}

/// `--lr-schedule`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScheduleArg {
    /// Not at all.
    #[default]
    Constant,
    /// ½·(1 + cos(π·t/T)).
    Cosine,
    /// A tenth, then a hundredth.
    Step,
}

impl RecipeArgs {
    /// The same as the library takes it.
    pub(crate) fn recipe(&self) -> Recipe {
        Recipe {
            batch_norm_pass: self.batch_norm_pass == Whether::Yes,
            ema: self.ema,
            schedule: match self.lr_schedule {
                ScheduleArg::Constant => Schedule::Constant,
                ScheduleArg::Cosine => Schedule::Cosine,
                ScheduleArg::Step => Schedule::Step,
            },
            ..Recipe::default()
        }
    }
}

/// Where a model's weights lie.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArg {
    /// Model file written by `train`.
    #[arg(value_name = "M")]
    pub model: PathBuf,
}
