//! The settings of a training, with the system's recommendations where nothing is said, checked before any
//! work.

use std::path::Path;

use ganomede_host::line;

use super::{DetectError, Job};
use crate::models::file::{DataInfo, FORMAT, Header, Progress, TextureInfo};
use crate::models::recipe::{Recipe, Schedule};
use crate::models::scorer::{self, ScoreConfig};
use crate::models::system::{Length, Share};
use crate::models::{Config, ConfigError, Form, Info, Options, Training};
use crate::tape::States;
use crate::train::{Limits, Team, limited_steps};

/// What is to be trained, and how long.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The system.
    pub system: &'static Info,
    /// Sizes of the networks.
    pub config: Config,
    /// Options of the system, by name.
    pub options: Vec<(String, String)>,
    /// The score that the model is calibrated with.
    pub score: ScoreConfig,
    /// When training ends; as recommended without any limit.
    pub limits: Limits,
    /// Samples in a step; as recommended without, or as many as there are.
    pub batch: Option<usize>,
    /// Adam's step size; as recommended without.
    pub lr: Option<f32>,
    /// What is done whatever the system; its `schedule_steps` follow from the limits.
    pub recipe: Recipe,
    /// A folder of images that textures are taken from, of systems that train on textures; drawn ones
    /// without.
    pub textures: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
}

/// Settings that were found to be in range.
#[derive(Debug, Clone)]
pub struct CheckedSettings {
    settings: Settings,
    options: Options,
    training: Training,
}

impl Settings {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first that is out of range.
    pub fn checked(mut self) -> Result<CheckedSettings, DetectError> {
        let info = self.system;
        let defaults = info.defaults_for(self.config.form);
        self.config.check()?;
        let given = self.options.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let options = Options::new(info.options, given)?;
        // Whether other samples fit depends on their channels, which may not be known yet.
        match info.build(&mut States::new(), &self.config, &options) {
            Err(refused) if refused.field == "form" => return Err(refused.into()),
            _ => {}
        }
        self.score.score = info.score(&self.score.score)?.to_owned();
        self.score.check()?;
        self.score.tiles.map_or(Ok(()), |tiles| tiles.check(&self.config))?;
        self.limits = limits(self.limits, defaults.length)?;
        let lr = self.lr.unwrap_or(defaults.lr);
        if !(lr > 0.0 && lr.is_finite()) {
            return Err(ConfigError::new("lr", lr, "a positive number, 0.0002 is usual").into());
        }
        if self.batch == Some(0) {
            return Err(ConfigError::new("batch", 0, "at least 1, 64 is usual").into());
        }
        let training = Training { lr, betas: defaults.betas };
        self.recipe.check()?;
        if self.recipe.schedule != Schedule::Constant && self.limits.minutes.is_some() {
            let allowed = "left out with `minutes`: a schedule is over steps, so that a resumed training has the \
                same; give `steps` or `epochs`";
            return Err(ConfigError::new("lr-schedule", self.recipe.schedule.name(), allowed).into());
        }
        if self.recipe.standardise && self.config.form != Form::Image {
            let allowed = "left out: it is of images; series and tables have a scaling of their own";
            return Err(ConfigError::new("standardise", "given", allowed).into());
        }
        if self.recipe.sync_bn && self.recipe.parts == 1 {
            let allowed = "left out: it is of batches in parts, and this training has none";
            return Err(ConfigError::new("sync-bn", "given", allowed).into());
        }
        let changed = [
            ("lr-schedule", self.recipe.schedule != Schedule::Constant),
            ("ema", self.recipe.ema.is_some()),
            ("accumulate", self.recipe.parts > 1),
        ];
        if let Some((field, _)) = changed.iter().find(|(_, given)| *given) {
            let system = info.build(&mut States::new(), &self.config, &options)?;
            if !system.stages().iter().any(|stage| matches!(stage.share, Share::Part(_))) {
                let allowed = format!("left out: {} is fitted, without any steps of gradients", info.name);
                return Err(ConfigError::new(*field, "given", allowed).into());
            }
            if *field == "ema" && system.averages().is_some() {
                let allowed = format!("left out: {} keeps averages of its own", info.name);
                return Err(ConfigError::new(*field, "given", allowed).into());
            }
        }
        if let Some(folder) = &self.textures {
            let system = info.build(&mut States::new(), &self.config, &options)?;
            let refused = |allowed: String| ConfigError::new("textures", line(folder), allowed);
            if !system.takes_textures() {
                let allowed = format!("left out: {} makes its samples of no textures", info.name);
                return Err(refused(allowed).into());
            }
            if !Path::new(folder).is_dir() {
                return Err(refused("a folder of images".to_owned()).into());
            }
        }
        Ok(CheckedSettings { settings: self, options, training })
    }
}

impl CheckedSettings {
    /// Values of one sample.
    pub fn sample_len(&self) -> usize {
        self.settings.config.sample_len()
    }

    /// Checks that the networks can give the score.
    ///
    /// # Errors
    /// [`DetectError`] of the settings that cannot.
    pub fn with_score(self) -> Result<Self, DetectError> {
        let job = self.clone().job(DataInfo::default());
        scorer::check(&job.header, &job.score, 1)?;
        Ok(self)
    }

    /// Whether a training lasts as long as it is told to; without one the system is fitted in a number of
    /// passes of its own.
    ///
    /// # Errors
    /// [`DetectError::Config`] for networks that cannot be built.
    pub fn takes_budget(&self) -> Result<bool, DetectError> {
        let Settings { system, config, .. } = &self.settings;
        let system = system.build(&mut States::new(), config, &self.options)?;
        Ok(system.stages().iter().any(|stage| matches!(stage.share, Share::Part(_))))
    }

    /// Whether a training of a minute or two says something of a long one.
    ///
    /// # Errors
    /// As [`CheckedSettings::takes_budget`].
    pub fn is_tried_briefly(&self) -> Result<bool, DetectError> {
        let Settings { system, config, .. } = &self.settings;
        Ok(system.build(&mut States::new(), config, &self.options)?.is_tried_briefly())
    }

    /// An option and its value with which the system is recommended as well, beside these settings.
    ///
    /// # Errors
    /// As [`CheckedSettings::takes_budget`].
    pub fn also_tried(&self) -> Result<Option<[&'static str; 2]>, DetectError> {
        let Settings { system, config, .. } = &self.settings;
        Ok(system.build(&mut States::new(), config, &self.options)?.also_tried())
    }

    /// Programs of a step of training, those of all stages together: a measure of what it costs.
    ///
    /// # Errors
    /// As [`CheckedSettings::takes_budget`].
    pub fn programs(&self) -> Result<usize, DetectError> {
        let Settings { system, config, .. } = &self.settings;
        let system = system.build(&mut States::new(), config, &self.options)?;
        Ok(system.stages().iter().map(|stage| stage.parts.len()).sum())
    }

    /// The training of these settings on data; it writes nothing unless its fields are set so.
    pub fn job(self, data: DataInfo) -> Job {
        let Self { settings, options, training } = self;
        let textures = settings.textures.map(|folder| TextureInfo { folder, ..TextureInfo::default() });
        let data = DataInfo { textures, ..data };
        let recommended = settings.system.defaults_for(settings.config.form).batch;
        let parts = settings.recipe.parts;
        // A recommended batch gives way to a small set; one that was asked for does not.
        let most = (data.training_images / parts).max(1);
        let batch = settings.batch.unwrap_or_else(|| recommended.min(most));
        let steps_per_epoch = (data.training_images / batch.saturating_mul(parts)) as u64;
        let recipe = Recipe {
            schedule_steps: match settings.recipe.schedule {
                Schedule::Constant => 0,
                _ => limited_steps(&settings.limits, steps_per_epoch).unwrap_or(0),
            },
            ..settings.recipe
        };
        let header = Header {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            system: settings.system.name.to_owned(),
            config: settings.config,
            options,
            training,
            recipe,
            batch,
            seed: settings.seed,
            device: String::new(),
            precision: None,
            progress: Progress { steps_per_epoch, ..Progress::default() },
            data,
            calibration: None,
            appearance: None,
            check: None,
        };
        Job {
            header,
            score: settings.score,
            limits: settings.limits,
            out: None,
            checkpoint_every: 0,
            keep_every: 0,
            resume: false,
            half: false,
            half_checkpoints: false,
            samples: None,
            log: None,
            team: Team::default(),
        }
    }
}

fn limits(given: Limits, usual: Length) -> Result<Limits, ConfigError> {
    if let Some(minutes) = given.minutes
        && !(minutes > 0.0 && minutes.is_finite())
    {
        return Err(ConfigError::new("minutes", minutes, "a positive number"));
    }
    for (field, value) in [("epochs", given.epochs), ("steps", given.steps)] {
        if value == Some(0) {
            return Err(ConfigError::new(field, 0, "at least 1"));
        }
    }
    if given != Limits::default() {
        return Ok(given);
    }
    Ok(match usual {
        Length::Epochs(epochs) => Limits { epochs: Some(epochs), ..given },
        Length::Steps(steps) => Limits { steps: Some(steps), ..given },
    })
}
