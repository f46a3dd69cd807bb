//! What a system is to the rest of the program: its names and defaults, its training stages, and how it
//! scores.

use std::sync::Arc;

use ganomede_datasets::defects::photographs::Photographs;
use serde::{Deserialize, Serialize};

use super::common::COMMON;
use super::options::OptionInfo;
use super::search::Latent;
use super::{Config, ConfigError, Form, Options, Prior};
use crate::device::{DeviceError, Executable, Store};
use crate::nn::Ema;
use crate::tape::{States, Tape, Tensor};

/// A name with a sentence about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Name, as commands take it.
    pub name: &'static str,
    /// One sentence of what it is.
    pub about: &'static str,
}

/// Settings that a system recommends; commands take them where the user gives none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Images in a step.
    pub batch: usize,
    /// Adam's step size.
    pub lr: f32,
    /// Adam's decay rates.
    pub betas: [f32; 2],
    /// Length of the latent vector.
    pub latent: usize,
    /// Distribution of the latent.
    pub prior: Prior,
    /// How long to train.
    pub length: Length,
}

/// A recommended length of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Passes over the data.
    Epochs(u64),
    /// Steps, however many passes they are: tables are small, or hold the same rows again and again.
    Steps(u64),
}

/// Makes a system and registers its weights.
pub type New = fn(&mut States, &Config, &Options) -> Result<Box<dyn System>, ConfigError>;

/// A published system: one constant `INFO` a file, all of them in [`super::SYSTEMS`].
#[derive(Clone, Copy)]
pub struct Info {
    /// Name in commands and model files.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// Authors, venue and year.
    pub paper: &'static str,
    /// Address of the paper.
    pub url: &'static str,
    /// Its scores, the default first.
    pub scores: &'static [Named],
    /// Options beyond those of every system.
    pub options: &'static [OptionInfo],
    /// Recommended settings.
    pub defaults: Defaults,
    /// Recommended settings for rows of tables, where they are others.
    pub tables: Option<Defaults>,
    /// Registers the weights and makes the system. `config` and `options` have been checked.
    pub new: New,
}

impl std::fmt::Debug for Info {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Info({})", self.name)
    }
}

impl Info {
    /// Registers the weights of a model and makes the system.
    ///
    /// # Errors
    /// [`ConfigError`] for sizes or options outside their range.
    pub fn build(
        &self,
        states: &mut States,
        config: &Config,
        options: &Options,
    ) -> Result<Box<dyn System>, ConfigError> {
        config.check()?;
        (self.new)(states, config, &options.checked(self.options)?)
    }

    /// Recommended settings for samples of a form.
    pub fn defaults_for(&self, form: Form) -> Defaults {
        self.tables.filter(|_| form == Form::Table).unwrap_or(self.defaults)
    }

    /// Recommended latent for samples of a form with so many channels. Where the system cannot take it, rows
    /// being as short, half of their values instead.
    pub fn latent_for(&self, form: Form, channels: usize) -> usize {
        let latent = self.defaults_for(form).latent;
        if form != Form::Table {
            return latent;
        }
        let config = Config { form, channels, latent, ..Config::default() }.of(form);
        let built = Options::new(self.options, [])
            .and_then(|options| self.build(&mut States::new(), &config, &options));
        match built {
            Err(refused) if refused.field == "latent" => (channels / 2).max(1),
            _ => latent,
        }
    }

    /// Checks the name of a score; the default for an empty one. Those of [`COMMON`] are known of every
    /// system: whether it has them, its networks say.
    ///
    /// # Errors
    /// [`ConfigError`] listing the scores that the system has.
    pub fn score(&self, name: &str) -> Result<&'static str, ConfigError> {
        if name.is_empty() {
            return Ok(self.scores[0].name);
        }
        let known = self.scores.iter().chain(&COMMON).find(|s| s.name == name);
        known.map(|s| s.name).ok_or_else(|| {
            let common = super::common::of(self);
            let names: Vec<_> = self.scores.iter().chain(&common).map(|s| s.name).collect();
            ConfigError::new("score", name, format!("one of {}", names.join(", ")))
        })
    }
}

/// How training goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Adam's step size.
    pub lr: f32,
    /// Adam's decay rates.
    pub betas: [f32; 2],
}

impl Default for Training {
    /// As DCGAN trains (Radford et al. 2016).
    fn default() -> Self {
        Self { lr: 2e-4, betas: [0.5, 0.999] }
    }
}

/// How long a stage of training lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// This part of the budget that the command gives, in relation to the parts of the other stages.
    Part(f64),
    /// So many passes over the training data, whatever the budget.
    Passes(u64),
}

/// A program of a stage: it runs at every `every`-th step, on the batch of that step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Name in profiles.
    pub name: &'static str,
    /// Steps between two runs; at 5 it runs in the fifth step, the tenth, …
    pub every: u64,
}

/// A stage of training: programs that run in turn until its share of the budget is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Name in progress lines.
    pub name: &'static str,
    /// How long it lasts.
    pub share: Share,
    /// Its programs, in the order in which they run within a step.
    pub parts: Vec<Part>,
}

impl Part {
    /// Whether it runs at this step of its stage.
    pub fn is_due(self, at: u64) -> bool {
        (at + 1).is_multiple_of(self.every.max(1))
    }
}

impl Stage {
    /// A stage of one program that runs at every step.
    pub fn simple(name: &'static str, share: Share) -> Self {
        Self { name, share, parts: vec![Part { name, every: 1 }] }
    }
}

/// Losses by name, each a tensor of one element.
pub type Losses<'t> = Vec<(&'static str, Tensor<'t>)>;

/// Inputs of training programs by name, with their values for one batch.
pub type Inputs = Vec<(&'static str, Vec<f32>)>;

/// What one pass over a batch says.
pub struct Scored<'t> {
    /// The score of each sample, `[n]`.
    pub score: Tensor<'t>,
    /// What the score is made of, each `[n]`.
    pub parts: Losses<'t>,
    /// What the system makes of the samples, in their shape.
    pub reconstruction: Option<Tensor<'t>>,
    /// Where the samples are anomalous, `[n, h, w]`.
    pub map: Option<Tensor<'t>>,
    /// Features that a picture of the samples' neighbourhood can be drawn from, `[n, f]`.
    pub features: Option<Tensor<'t>>,
}

/// The residual map of samples and what a system makes of them: mean of |x − x̂| over channels, `[n, h, w]`.
pub fn residual_map<'t>(x: Tensor<'t>, made: Tensor<'t>) -> Tensor<'t> {
    let shape = x.shape();
    (x - made).abs().mean(&[1]).reshape(&[shape[0], shape[2], shape[3]])
}

/// A published system. Weights are registered when it is made; scoring uses batch norm in eval mode and
/// writes no state.
pub trait System {
    /// Sizes of the networks and of their samples.
    fn config(&self) -> &Config;

    /// Registers what only training needs: optimisers, random numbers, counters.
    fn register_training(&mut self, states: &mut States, training: Training, seed: u64);

    /// Moving averages that the system scores by in place of the parameters, if it keeps any: running
    /// statistics are then of the networks with the averages.
    fn averages(&self) -> Option<&Ema> {
        None
    }

    /// Stages of training, in order.
    fn stages(&self) -> Vec<Stage>;

    /// Records one step of a stage's part on a batch `x`; updates are assigned, losses returned.
    fn record<'t>(&self, tape: &'t Tape, stage: usize, part: usize, x: Tensor<'t>) -> Losses<'t>;

    /// What training reads beside the batch `x` of a step, made of it on the host: images with synthetic
    /// defects, say, and where those are. The names are those of inputs that [`System::record`] made. The
    /// numbers are a function of the batch, the seed and the step alone, so that a training that is resumed,
    /// or looked at again, sees the same.
    fn synthesise(&self, _batch: &[f32], _seed: u64, _step: u64) -> Inputs {
        vec![]
    }

    /// Whether what [`System::synthesise`] makes is made of textures, which may be a user's own.
    fn takes_textures(&self) -> bool {
        false
    }

    /// Takes textures from these in place of drawn ones; they have the channels and the size of the samples.
    fn set_textures(&mut self, _textures: Arc<Photographs>) {}

    /// Whether a training of a minute or two says something of a long one; where it does not, systems are
    /// recommended without trying this one, unless it is asked for.
    fn is_tried_briefly(&self) -> bool {
        true
    }

    /// An option and its value with which the system is tried a second time, beside its defaults, where
    /// systems are recommended.
    fn also_tried(&self) -> Option<[&'static str; 2]> {
        None
    }

    /// Whether training needs the host between replays: one of [`System::synthesise`], [`System::after_step`]
    /// and [`System::after_stage`].
    fn needs_host(&self) -> bool {
        false
    }

    /// Called after each step, for what the host does: `programs` are the stage's parts, `at` counts the
    /// stage's steps from 0.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    fn after_step(
        &self,
        _stage: usize,
        _at: u64,
        _programs: &mut [&mut Executable],
        _store: &Store,
    ) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Called when a stage ends, before a checkpoint is written.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    fn after_stage(&self, _stage: usize, _store: &Store) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Scores a batch in one pass. `score` is one of [`Info::scores`]; those that are searched are asked of
    /// [`System::latent`] instead.
    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t>;

    /// Whether the features of [`Scored`] are of a network that may see the difference between a sample and
    /// what the system makes of it.
    fn tells_reconstructions(&self) -> bool {
        true
    }

    /// The generator and the losses of a latent search, for systems that have one.
    fn latent(&self) -> Option<&dyn Latent> {
        None
    }

    /// Whether a score comes from a latent search and not from one pass.
    fn is_searched(&self, _score: &str) -> bool {
        false
    }
}
