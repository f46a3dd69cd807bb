//! Convolutional autoencoder: what the decoder cannot rebuild from a short code is anomalous.
//!
//! The baseline DCAE of Ruff et al. (ICML 2018), also with DCGAN's networks, and with the structural
//! similarity of Bergmann et al. (VISAPP 2019, arXiv 1807.02011) in place of squared differences.
//!
//! | | `loss=mse` | `loss=ssim` |
//! |---|---|---|
//! | error e at a pixel | Σ over channels (x − x̂)² | Σ over channels 1 − SSIM(x, x̂), windows of 11 (Bergmann et al., §3.2) |
//! | loss | mean over the batch of Σ over pixels e | same |
//! | score | Σ over pixels e | same |
//! | map | e / channels | same |
//!
//! Networks are those of [`nets`](super::nets): `dcgan`, `lenet` (the paper's for CIFAR-10), `lenet-small`
//! (for MNIST), and for tables MemAE's fully connected ones. Adam with L2 weight decay 5e-7, the step size a
//! tenth from step `drop-steps` on.

use super::nets::{Decoder, Encoder, Nets};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{Adam, Mode, ssim};
use crate::tape::{States, Tape, Tensor};

/// The system.
pub const INFO: Info = Info {
    name: "ae",
    title: "convolutional autoencoder",
    paper: "the DCAE of Ruff et al., ICML 2018; SSIM of Bergmann et al., VISAPP 2019",
    url: "https://proceedings.mlr.press/v80/ruff18a.html",
    scores: &[Named { name: "reconstruction", about: "sum over pixels of the error that was trained" }],
    options: &[
        Nets::OPTION,
        OptionInfo {
            key: "loss",
            default: "mse",
            kind: OptionKind::Choice(&["mse", "ssim"]),
            help: "squared differences, or one minus structural similarity (images and signals)",
        },
        DROP,
    ],
    defaults: Defaults {
        batch: 64,
        lr: 1e-3,
        betas: [0.9, 0.999],
        latent: 32,
        prior: Prior::Normal,
        length: Length::Epochs(50),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Ae::new(states, config, options)?)),
};

/// When the step size falls.
const DROP: OptionInfo = OptionInfo {
    key: "drop-steps",
    default: "0",
    kind: OptionKind::Whole(0, 100_000_000),
    help: "steps after which the step size is a tenth; 0 for never",
};

/// What is compared, pixel by pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// (x − x̂)².
    Squared,
    /// 1 − SSIM(x, x̂), over windows of height and width.
    Structure([usize; 2]),
}

impl Loss {
    /// The error of each value of `[n, c, h, w]`.
    pub fn errors<'t>(self, x: Tensor<'t>, made: Tensor<'t>) -> Tensor<'t> {
        match self {
            Self::Squared => (x - made).square(),
            Self::Structure(window) => 1.0 - ssim(x, made, window),
        }
    }
}

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct Ae {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    /// x → z.
    pub encoder: Encoder,
    /// z → x̂.
    pub decoder: Decoder,
    /// What is minimised.
    pub loss: Loss,
    drop: usize,
    adam: Option<Adam>,
}

impl Ae {
    /// L2 weight decay λ.
    pub const WEIGHT_DECAY: f32 = 5e-7;
    /// Side of SSIM's windows.
    const WINDOW: usize = 11;

    /// Registers the parameters as `encoder.*` and `decoder.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for a latent that the networks do not allow, or SSIM of a table.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        let structure = options.is("loss", "ssim");
        if structure && config.form == Form::Table {
            return Err(ConfigError::new("option loss", "ssim", "mse for tables, which have no windows"));
        }
        let nets = Nets::of(options.text("nets"));
        Ok(Self {
            config: config.clone(),
            encoder: Encoder::new(states, "encoder", config, nets, config.latent),
            decoder: Decoder::new(states, "decoder", config, nets),
            loss: if structure { Loss::Structure(config.kernel(Self::WINDOW)) } else { Loss::Squared },
            drop: options.whole("drop-steps"),
            adam: None,
        })
    }

    /// Code and reconstruction.
    pub fn reconstruct<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> (Tensor<'t>, Tensor<'t>) {
        let z = self.encoder.forward(tape, x, mode);
        (z, self.decoder.forward(tape, z, mode))
    }
}

impl System for Ae {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let parameters = [self.encoder.parameters(), self.decoder.parameters()].concat();
        let mut adam = Adam::new(states, "adam", parameters, training.lr, training.betas);
        adam.weight_decay = Self::WEIGHT_DECAY;
        self.adam = Some(adam);
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(adam) = &self.adam else { return vec![] };
        let (_, made) = self.reconstruct(tape, x, Mode::Train);
        let loss = self.loss.errors(x, made).sum_per_sample().mean_all();
        match self.drop {
            0 => adam.minimise(tape, loss),
            limit => adam.minimise_at(tape, loss, dropped(tape, adam, tape.full(limit as f32, &[1]))),
        }
        vec![("reconstruction", loss)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, _score: &str) -> Scored<'t> {
        let (z, made) = self.reconstruct(tape, x, Mode::Eval);
        Scored::of_errors(self.loss.errors(x, made), made, z)
    }
}

/// Adam's step size, a tenth of it once it has done `limit` steps (shape `[1]`) or more.
pub fn dropped<'t>(tape: &'t Tape, adam: &Adam, limit: Tensor<'t>) -> Tensor<'t> {
    // Whole numbers: half a step keeps the comparison clear of rounding.
    (1.0 - (tape.state(adam.step()) - limit + 0.5).step() * 0.9) * adam.lr
}

impl<'t> Scored<'t> {
    /// The score of a reconstruction: the sum of its errors `[n, c, h, w]`, their mean over channels as map,
    /// the code as features.
    pub fn of_errors(errors: Tensor<'t>, made: Tensor<'t>, code: Tensor<'t>) -> Self {
        let s = errors.shape();
        let map = (s[2] * s[3] > 1).then(|| errors.mean(&[1]).reshape(&[s[0], s[2], s[3]]));
        let score = errors.sum_per_sample();
        Self { score, parts: vec![], reconstruction: Some(made), map, features: Some(code) }
    }
}
