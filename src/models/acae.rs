//! Adversarially trained convolutional autoencoder: the row aCAE of the table of AnoGAN (Schlegl et al., IPMI
//! 2017, §3).
//!
//! AnoGAN's search for a latent is replaced by an encoder that is trained along with G and D, after Pathak et
//! al. (Context Encoders, CVPR 2016). The encoder has D's convolutions and a linear layer to z, the decoder
//! is G: [DCGAN](super::dcgan) throughout.
//!
//! | | formula | source |
//! |---|---|---|
//! | D | BCE(D(x), 1) + BCE(D(x̂), 0), x̂ = G(E(x)) | |
//! | E and G | mean (x − x̂)² + `adversarial`·BCE(D(x̂), 1) | Pathak et al., equation (3): 0.999 and 0.001 |
//! | score | A(x) = (1 − λ) Σ ∣x − x̂∣ + λ Σ ∣f(x) − f(x̂)∣ | AnoGAN's (6) with x̂ for G(z) |
//! | map | ∣x − x̂∣ | |
//!
//! The paper prints neither the weights of the two losses nor the score of this row; the ratio is that of the
//! context encoders.

use super::dcgan::{Generator, Pyramid};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{Adam, Mode, NormKind, bce_with_logits, mse};
use crate::tape::{States, Tape, Tensor};

/// The system.
pub const INFO: Info = Info {
    name: "acae",
    title: "adversarially trained convolutional autoencoder",
    paper: "row aCAE of Schlegl et al., IPMI 2017; Pathak et al., CVPR 2016",
    url: "https://arxiv.org/abs/1703.05921",
    scores: &[
        Named {
            name: "acae",
            about: "residual and feature matching, AnoGAN's equation (6) without a search",
        },
        Named { name: "residual", about: "the residual alone, sum over pixels" },
    ],
    options: &[
        OptionInfo {
            key: "adversarial",
            default: "0.001",
            kind: OptionKind::Number(0.0, 100.0),
            help: "weight of the discriminator's verdict beside the mean squared error",
        },
        OptionInfo {
            key: "lambda",
            default: "0.1",
            kind: OptionKind::Number(0.0, 1.0),
            help: "weight of the feature matching in the score",
        },
    ],
    defaults: Defaults {
        batch: 64,
        lr: 2e-4,
        betas: [0.5, 0.999],
        latent: 100,
        prior: Prior::Normal,
        length: Length::Epochs(30),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Acae::new(states, config, options)?)),
};

/// The three networks.
#[derive(Debug, Clone)]
pub struct Acae {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    /// E: x → z.
    pub encoder: Pyramid,
    /// G: z → x̂.
    pub generator: Generator,
    /// D: x → logit.
    pub discriminator: Pyramid,
    adversarial: f32,
    lambda: f32,
    optimisers: Option<[Adam; 2]>,
}

impl Acae {
    /// Registers the parameters as `encoder.*`, `generator.*` and `discriminator.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        if config.form == Form::Table {
            return Err(ConfigError::new("system", INFO.name, "another for tables: it has convolutions"));
        }
        Ok(Self {
            config: config.clone(),
            encoder: Pyramid::new(states, "encoder", config, NormKind::Batch, config.latent),
            generator: Generator::new(states, "generator", config),
            discriminator: Pyramid::discriminator(states, "discriminator", config),
            adversarial: options.number("adversarial"),
            lambda: options.number("lambda"),
            optimisers: None,
        })
    }

    /// x̂ = G(E(x)).
    pub fn reconstruct<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        self.generator.forward(tape, self.encoder.forward(tape, x, mode), mode)
    }
}

impl System for Acae {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let Training { lr, betas } = training;
        let makers = [self.encoder.parameters(), self.generator.parameters()].concat();
        self.optimisers = Some([
            Adam::new(states, "adam_g", makers, lr, betas),
            Adam::new(states, "adam_d", self.discriminator.parameters(), lr, betas),
        ]);
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    /// First D, then E and G through the D just updated.
    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some([adam_g, adam_d]) = &self.optimisers else { return vec![] };
        let d = &self.discriminator;
        let made = self.reconstruct(tape, x, Mode::Train);

        let real_logits = d.forward(tape, x, Mode::Train);
        let made_logits = d.forward(tape, made.stop_gradient(), Mode::Train);
        let loss_d = bce_with_logits(real_logits, 1.0) + bce_with_logits(made_logits, 0.0);
        adam_d.minimise(tape, loss_d);

        let reconstruction = mse(x, made);
        let verdict = bce_with_logits(d.forward(tape, made, Mode::Train), 1.0);
        adam_g.minimise(tape, reconstruction + verdict * self.adversarial);
        vec![("reconstruction", reconstruction), ("loss_g", verdict), ("loss_d", loss_d)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let made = self.reconstruct(tape, x, Mode::Eval);
        let f = |image| self.discriminator.features(tape, image, Mode::Eval).flatten();
        let features = f(x);
        let scored = Scored::of_errors((x - made).abs(), made, features);
        let residual = scored.score;
        let discrimination = (features - f(made)).abs().sum_per_sample();
        let parts = vec![("residual", residual), ("discrimination", discrimination)];
        let both = residual * (1.0 - self.lambda) + discrimination * self.lambda;
        Scored { score: if score == "residual" { residual } else { both }, parts, ..scored }
    }
}
