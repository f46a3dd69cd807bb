//! AnoGAN (Schlegl, Seeböck, Waldstein, Schmidt-Erfurth & Langs, IPMI 2017, arXiv 1703.05921).
//!
//! A [DCGAN](super::dcgan) learns the manifold of normal images. A query x is then searched in latent space:
//! z minimises L(z) = (1 − λ)·L_R(z) + λ·L_D(z), and what the best G(z) cannot show is anomalous.
//!
//! | | formula | equation |
//! |---|---|---|
//! | residual loss | L_R(z) = Σ ∣x − G(z)∣ | (2) |
//! | discrimination loss | L_D(z) = Σ ∣f(x) − f(G(z))∣, f = last convolution of D | (4) |
//! | reference loss | L_D̂(z) = BCE(D(G(z)), 1), Yeh et al.'s, the paper's row GAN_R | (3) |
//! | score | A(x) = (1 − λ)·R(x) + λ·D(x), the losses at the end of the search | (6) |
//! | residual map | ∣x − G(z)∣ | |

use super::dcgan::{Generator, Pyramid};
use super::search::{Latent, SearchLosses};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{self, Adam, Mode, NormKind, bce_with_logits};
use crate::tape::{RandomState, States, Tape, Tensor};

/// The system.
pub const INFO: Info = Info {
    name: "anogan",
    title: "DCGAN and latent search",
    paper: "Schlegl, Seeböck, Waldstein, Schmidt-Erfurth & Langs, IPMI 2017",
    url: "https://arxiv.org/abs/1703.05921",
    scores: &[
        Named { name: "anogan", about: "A(x): residual and feature matching, equation (6)" },
        Named { name: "reference", about: "Â(x): residual and the discriminator's verdict (row GAN_R)" },
        Named { name: "pd", about: "1 − D(x), no search (row P_D)" },
    ],
    options: &[
        OptionInfo {
            key: "norm",
            default: "batch",
            kind: OptionKind::Choice(&["batch", "none"]),
            help: "norm of both networks; without one training is less stable",
        },
        OptionInfo {
            key: "d_rate",
            default: "1",
            kind: OptionKind::Number(0.0, 1e3),
            help: "factor of D's step size: the balance of both networks",
        },
    ],
    defaults: Defaults {
        batch: 64,
        lr: 2e-4,
        betas: [0.5, 0.999],
        latent: 100,
        prior: Prior::Uniform,
        length: Length::Epochs(20),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(AnoGan::with(states, config, options)?)),
};

/// The two networks.
#[derive(Debug, Clone)]
pub struct AnoGan {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    /// G: z → x.
    pub generator: Generator,
    /// D: x → logit, and features f.
    pub discriminator: Pyramid,
    /// Factor of D's step size.
    d_rate: f32,
    optimisers: Option<Optimisers>,
}

/// Adam for each network, and the source of latents.
#[derive(Debug, Clone)]
struct Optimisers {
    generator: Adam,
    discriminator: Adam,
    random: RandomState,
}

impl AnoGan {
    /// Registers the parameters as `generator.*` and `discriminator.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables, and for sizes outside their range.
    pub fn new(states: &mut States, config: &Config) -> Result<Self, ConfigError> {
        Self::with(states, config, &Options::new(INFO.options, [])?)
    }

    /// The same with options of [`INFO`].
    ///
    /// # Errors
    /// As [`AnoGan::new`].
    pub fn with(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check()?;
        config.check_form(&[Form::Image, Form::Signal])?;
        let norm = if options.is("norm", "none") { NormKind::None } else { NormKind::Batch };
        Ok(Self {
            config: config.clone(),
            generator: Generator::normed(states, "generator", config, norm),
            discriminator: Pyramid::new(states, "discriminator", config, norm, 1),
            d_rate: if options.text("d_rate").is_empty() { 1.0 } else { options.number("d_rate") },
            optimisers: None,
        })
    }

    /// One step of adversarial training on real images `x` with latents `z`: first D, then G through the D
    /// just updated. Non-saturating losses, batch means: L_D = BCE(D(x), 1) + BCE(D(G(z)), 0), L_G =
    /// BCE(D(G(z)), 1).
    ///
    /// Needs [`System::register_training`] first; without it nothing is recorded.
    pub fn train_step<'t>(&self, tape: &'t Tape, x: Tensor<'t>, z: Tensor<'t>) -> Losses<'t> {
        let Some(optimisers) = &self.optimisers else { return vec![] };
        let (g, d) = (&self.generator, &self.discriminator);
        let fake = g.forward(tape, z, Mode::Train);

        let real_logits = d.forward(tape, x, Mode::Train);
        let fake_logits = d.forward(tape, fake.stop_gradient(), Mode::Train);
        let loss_d = bce_with_logits(real_logits, 1.0) + bce_with_logits(fake_logits, 0.0);
        optimisers.discriminator.minimise(tape, loss_d);

        let loss_g = bce_with_logits(d.forward(tape, fake, Mode::Train), 1.0);
        optimisers.generator.minimise(tape, loss_g);

        let posterior = |logits: Tensor<'t>| logits.sigmoid().mean_all();
        vec![
            ("loss_d", loss_d),
            ("loss_g", loss_g),
            ("d_real", posterior(real_logits)),
            ("d_fake", posterior(fake_logits)),
        ]
    }
}

impl Latent for AnoGan {
    fn generate<'t>(&self, tape: &'t Tape, z: Tensor<'t>) -> Tensor<'t> {
        self.generator.forward(tape, z, Mode::Eval)
    }

    fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        self.discriminator.features(tape, x, Mode::Eval).flatten()
    }

    fn feature_count(&self) -> usize {
        self.config.features()
    }

    /// Sums over pixels and features, as printed.
    fn search_losses<'t>(
        &self,
        tape: &'t Tape,
        score: &str,
        lambda: f32,
        x: Tensor<'t>,
        features: Tensor<'t>,
        z: Tensor<'t>,
    ) -> SearchLosses<'t> {
        let image = self.generate(tape, z);
        let residual = (x - image).abs().sum_per_sample();
        let found = self.discriminator.features(tape, image, Mode::Eval);
        let discrimination = if score == "reference" {
            let logits = self.discriminator.head(tape, found);
            let logits = logits.reshape(&[logits.len()]);
            nn::cross_entropy_of_logits(logits, 1.0)
        } else {
            (features - found.flatten()).abs().sum_per_sample()
        };
        let loss = residual * (1.0 - lambda) + discrimination * lambda;
        SearchLosses { loss, residual, discrimination, image }
    }
}

impl System for AnoGan {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, seed: u64) {
        let Training { lr, betas } = training;
        self.optimisers = Some(Optimisers {
            generator: Adam::new(states, "adam_g", self.generator.parameters(), lr, betas),
            discriminator: Adam::new(
                states,
                "adam_d",
                self.discriminator.parameters(),
                lr * self.d_rate,
                betas,
            ),
            random: nn::random_state(states, "random", seed),
        });
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(optimisers) = &self.optimisers else { return vec![] };
        let z = self.config.prior.sample(tape, &optimisers.random, x.shape()[0], self.config.latent);
        let losses = self.train_step(tape, x, z);
        nn::advance(tape, &optimisers.random);
        losses
    }

    /// P_D: 1 − D(x), the discriminator's own judgement.
    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, _score: &str) -> Scored<'t> {
        let features = self.discriminator.features(tape, x, Mode::Eval);
        let logits = self.discriminator.head(tape, features);
        let score = (-logits.reshape(&[logits.len()])).sigmoid();
        let features = Some(features.flatten());
        Scored { score, parts: vec![], reconstruction: None, map: None, features }
    }

    fn latent(&self) -> Option<&dyn Latent> {
        Some(self)
    }

    fn is_searched(&self, score: &str) -> bool {
        score != "pd"
    }
}
