//! Training a detector, setting by setting.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ganomede_datasets::{Channels, Preprocess, SignalOptions, TableOptions};

use super::{DetectError, Detector, Observer, Progress, Reading, Samples, Settings, TrainingData, Watching};
use crate::device::Device;
use crate::models::file::TileInfo;
use crate::models::recipe::{Recipe, Schedule};
use crate::models::scorer::{MapConfig, ScoreConfig};
use crate::models::{Config, Form, Info, Prior, Size, register};
use crate::train::Limits;

/// Where samples come from.
enum From {
    Nothing,
    Data(Form, String, Box<Reading>),
    Own(Box<dyn Samples>),
}

/// A training that is being described; [`TrainingBuilder::run`] does it. What is not said is as the system
/// recommends.
///
/// ```
/// use ganomede::detect::Detector;
/// use ganomede::device::Device;
/// use ganomede::models::pca;
///
/// let detector = Detector::train(&pca::INFO)
///     .images("builtin:retina:train=40,test=12")
///     .size(16)
///     .steps(2)
///     .run(&Device::Cpu)?;
/// let verdict = detector.score(&vec![0.0; 16 * 16])?;
/// assert!(verdict.score.is_finite() && verdict.threshold.is_some());
/// # Ok::<(), ganomede::detect::DetectError>(())
/// ```
pub struct TrainingBuilder<'a> {
    system: &'static Info,
    from: From,
    size: Size,
    channels: Channels,
    width: usize,
    latent: Option<usize>,
    prior: Option<Prior>,
    kernel: usize,
    options: Vec<(String, String)>,
    score: ScoreConfig,
    limits: Limits,
    batch: Option<usize>,
    lr: Option<f32>,
    recipe: Recipe,
    seed: u64,
    tiles: Option<TileInfo>,
    maps: MapConfig,
    hold_out: f64,
    augment: String,
    textures: Option<String>,
    out: Option<PathBuf>,
    resume: bool,
    observer: Box<dyn Observer + 'a>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $($field:ident).+ = $value:expr;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$($field).+ = $value;
            self
        })*
    };
}

impl<'a> TrainingBuilder<'a> {
    pub(super) fn new(system: &'static Info) -> Self {
        Self {
            system,
            from: From::Nothing,
            size: Size::square(64),
            channels: Channels::Gray,
            width: 64,
            latent: None,
            prior: None,
            kernel: 4,
            options: vec![],
            score: ScoreConfig::default(),
            limits: Limits::default(),
            batch: None,
            lr: None,
            recipe: Recipe::USUAL,
            seed: 0,
            tiles: None,
            maps: MapConfig::default(),
            hold_out: 0.1,
            augment: String::new(),
            textures: None,
            out: None,
            resume: false,
            observer: Box::new(()),
        }
    }

    setters! {
        /// Gray images, unless told.
        channels: Channels => channels = channels;
        /// Channels of the widest feature maps; 64 unless told.
        width: usize => width = width;
        /// Length of the latent vector.
        latent: usize => latent = Some(latent);
        /// Distribution of the latent.
        prior: Prior => prior = Some(prior);
        /// Convolution kernel, 4 or 5; 4 unless told.
        kernel: usize => kernel = kernel;
        /// The score that the model is calibrated with; the system's first unless told.
        score: ScoreConfig => score = score;
        /// Passes over the data at most.
        epochs: u64 => limits.epochs = Some(epochs);
        /// Steps at most.
        steps: u64 => limits.steps = Some(steps);
        /// Minutes at most.
        minutes: f64 => limits.minutes = Some(minutes);
        /// Samples in a step.
        batch: usize => batch = Some(batch);
        /// Adam's step size.
        lr: f32 => lr = Some(lr);
        /// Whether batch norm's running statistics are estimated anew in a pass over the training data after
        /// the last step; true unless told.
        batch_norm_pass: bool => recipe.batch_norm_pass = batch_norm_pass;
        /// Decay of moving averages of the weights, which then are the model's; none unless told.
        ema: f32 => recipe.ema = Some(ema);
        /// How step sizes change over each stage of training; not with [`TrainingBuilder::minutes`].
        lr_schedule: Schedule => recipe.schedule = lr_schedule;
        /// Whether networks see each image with its mean subtracted, divided by its standard deviation.
        standardise: bool => recipe.standardise = standardise;
        /// Seed of everything random; 0 unless told.
        seed: u64 => seed = seed;
        /// Large images are cut into tiles of `size` pixels, at their own resolution.
        tiles: TileInfo => tiles = Some(tiles);
        /// Standard deviation of the Gaussian that smooths maps, in pixels of the networks' input; a
        /// sixty-fourth of the shorter side unless told, 0 for none.
        map_smooth: f64 => maps.smooth = Some(map_smooth);
        /// Whether maps say how far each pixel lies from what held-out normals have at its place.
        map_relative: bool => maps.relative = map_relative;
        /// Share of the normal samples held out for calibration, in [0, 1); 0.1 unless told. Samples of a
        /// program's own say themselves what they hold out.
        hold_out: f64 => hold_out = hold_out;
        /// Whether to continue from the checkpoint beside the output, bit for bit; needs an output.
        resume: bool => resume = resume;
    }

    /// Size of the images (a number is a square), or length of the windows, 16 to 1024; 64 unless told.
    #[must_use]
    pub fn size(mut self, size: impl Into<Size>) -> Self {
        self.size = size.into();
        self
    }

    /// The normal images of a folder or set, or `builtin:NAME`.
    #[must_use]
    pub fn images(self, data: impl AsRef<Path>) -> Self {
        self.data(Form::Image, data, Reading::default())
    }

    /// Windows of a series: a CSV file, or a folder with `train.csv` and `test.csv`.
    #[must_use]
    pub fn series(self, data: impl AsRef<Path>, options: SignalOptions) -> Self {
        self.data(Form::Signal, data, Reading { series: options, ..Reading::default() })
    }

    fn data(mut self, form: Form, data: impl AsRef<Path>, reading: Reading) -> Self {
        self.from = From::Data(form, data.as_ref().to_string_lossy().into_owned(), Box::new(reading));
        self
    }

    /// The normal rows of a table; its share held out and its seed are those of this training.
    #[must_use]
    pub fn table(self, data: impl AsRef<Path>, options: TableOptions) -> Self {
        self.data(Form::Table, data, Reading { table: options, ..Reading::default() })
    }

    /// Samples of a program's own.
    #[must_use]
    pub fn samples(mut self, samples: impl Samples + 'static) -> Self {
        self.from = From::Own(Box::new(samples));
        self
    }

    /// An option of the system.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.options.push((name.into(), value.to_string()));
        self
    }

    /// Augmentation of images, or of windows, as a list: `flip,rotate:10,shift:0.1`.
    #[must_use]
    pub fn augment(mut self, list: impl Into<String>) -> Self {
        self.augment = list.into();
        self
    }

    /// A folder of images that textures are taken from in place of drawn ones, of systems that train on
    /// textures (`draem`).
    #[must_use]
    pub fn textures(mut self, folder: impl AsRef<Path>) -> Self {
        self.textures = Some(folder.as_ref().to_string_lossy().into_owned());
        self
    }

    /// Also writes the model file, and checkpoints beside it.
    #[must_use]
    pub fn out(mut self, path: impl Into<PathBuf>) -> Self {
        self.out = Some(path.into());
        self
    }

    /// Sees rates and losses after each step; what it returns says whether to go on.
    #[must_use]
    pub fn observe(self, see: impl FnMut(&Progress<'_>) -> ControlFlow<()> + 'a) -> Self {
        self.observer(Watching::new(see))
    }

    /// As [`TrainingBuilder::observe`], with all that an observer sees.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'a) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Trains and calibrates.
    ///
    /// # Errors
    /// [`DetectError`]: settings out of range or no samples, before any work; else as [`super::Job::run`].
    pub fn run(mut self, device: &Device) -> Result<Detector, DetectError> {
        register(self.system)?;
        let form = match &self.from {
            From::Nothing => {
                return Err(DetectError::Input(
                    "there is nothing to train on; give images, a series, a table or samples".to_owned(),
                ));
            }
            From::Data(form, ..) => *form,
            From::Own(samples) => samples.form(),
        };
        // Settings are checked before any data are read; how many channels these have is known after.
        self.settings(form, self.channels.count()).checked()?;
        let own = matches!(self.from, From::Own(_));
        let samples = self.open()?;
        let settings = self.settings(form, samples.channels()).checked()?;
        if own && !samples.is_empty() {
            // Of data sets the same is known from their options.
            let (has, needs) = (samples.get(0, [self.seed, 0])?.len(), settings.sample_len());
            if has != needs {
                return Err(DetectError::Input(format!(
                    "a sample has {has} values, but {} channels at size {} need {needs}",
                    samples.channels(),
                    self.size
                )));
            }
        }
        let mut job = settings.job(samples.info()?);
        (job.out, job.resume) = (self.out.clone(), self.resume);
        job.checkpoint_every = if self.out.is_some() { 500 } else { 0 };
        let trained = job.run(device, samples.as_ref(), self.observer.as_mut())?;
        self.observer.findings(&trained.findings);
        let name = self.out.clone().unwrap_or_else(|| PathBuf::from("the model"));
        Detector::new(trained.model, &name, device)
    }

    fn settings(&self, form: Form, channels: usize) -> Settings {
        let defaults = self.system.defaults_for(form);
        let config = Config {
            form,
            size: self.size,
            channels,
            width: self.width,
            latent: self.latent.unwrap_or_else(|| self.system.latent_for(form, channels)),
            prior: self.prior.unwrap_or(defaults.prior),
            kernel: self.kernel,
        }
        .of(form);
        Settings {
            system: self.system,
            config,
            options: self.options.clone(),
            score: ScoreConfig {
                tiles: self.tiles.map(|tiles| tiles.tiling),
                maps: if self.maps.is_usual() { self.score.maps } else { self.maps },
                ..self.score.clone()
            },
            limits: self.limits,
            batch: self.batch,
            lr: self.lr,
            recipe: self.recipe,
            textures: self.textures.clone(),
            seed: self.seed,
        }
    }

    fn open(&mut self) -> Result<Box<dyn Samples>, DetectError> {
        let (form, spec, mut reading) = match std::mem::replace(&mut self.from, From::Nothing) {
            From::Data(form, spec, reading) => (form, spec, *reading),
            From::Own(samples) if self.augment.is_empty() => return Ok(samples),
            From::Own(_) => {
                return Err(DetectError::Input(
                    "augmentation is for images and windows of series; samples of a program's own are taken as they are"
                        .to_owned(),
                ));
            }
            From::Nothing => return Err(DetectError::Input("there is nothing to train on".to_owned())),
        };
        reading.images.preprocess = Preprocess { channels: self.channels, ..Preprocess::new(self.size) };
        let (window, hold_out, seed) = (self.size.width, self.hold_out, self.seed);
        let data = TrainingData {
            form,
            spec,
            reading,
            window,
            hold_out,
            tiles: self.tiles,
            augment: self.augment.clone(),
            seed,
        };
        data.open(self.observer.as_mut())
    }
}
