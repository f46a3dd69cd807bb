//! f-AnoGAN (Schlegl, Seeböck, Waldstein, Langs & Schmidt-Erfurth, Medical Image Analysis 54, 2019).
//!
//! A WGAN-GP learns the manifold of normal images; then an encoder learns the way back, so that one pass
//! replaces AnoGAN's search. Formulas as in the authors' code (tSchlegl/f-AnoGAN), where means stand for the
//! paper's norms:
//!
//! | | formula |
//! |---|---|
//! | critic | L_D = mean D(G(z)) − mean D(x) + 10·mean (‖∇D(x̂)‖₂ − 1)², x̂ = x + α·(G(z) − x), one α for each sample |
//! | generator | L_G = −mean D(G(z)), every fifth step |
//! | encoder, izi_f | mean (x − G(E(x)))² + κ·mean (f(x) − f(G(E(x))))², f = last feature map of D |
//! | encoder, izi | mean (x − G(E(x)))² |
//! | encoder, ziz | mean (z − E(G(z)))², z of the prior: no real images |
//! | score | A(x) = A_R(x) + κ·A_D(x), the two means of izi_f for one sample |
//! | residual map | ∣x − G(E(x))∣ |
//!
//! E ends in a tanh, as published, except for ziz, whose targets leave [−1, 1]. G and D are in eval mode in
//! the second stage. `nets=lite` are [DCGAN's](super::dcgan) without norm in the critic; `nets=resnet` the
//! published [residual networks](super::resnet), with layer norm in it; `nets=resnet-port` those of a port to
//! PyTorch, with layer norm in the encoder too, and weights of it for each element; `nets=resize` the
//! [resize-convolutions](super::resize) of another port. Only the critic of the last has a norm over the
//! batch, and dropout.

use super::search::{Latent, SearchLosses};
use super::system::{Defaults, Info, Length, Losses, Named, Part, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior, dcgan, resize, resnet};
use crate::nn::{self, Adam, Mode, NormKind, RmsProp, mse};
use crate::tape::{RandomState, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "f-anogan",
    title: "WGAN-GP and an encoder",
    paper: "Schlegl, Seeböck, Waldstein, Langs & Schmidt-Erfurth, Medical Image Analysis 2019",
    url: "https://doi.org/10.1016/j.media.2019.01.010",
    scores: &[
        Named { name: "f-anogan", about: "A(x): residual and feature residual" },
        Named { name: "residual", about: "A_R(x): mean squared residual of the image alone" },
        Named { name: "z-distance", about: "mean (E(x) − E(G(E(x))))²" },
        Named { name: "critic", about: "−D(x), the critic's own judgement, no reconstruction" },
    ],
    options: &[
        OptionInfo {
            key: "nets",
            default: "lite",
            kind: OptionKind::Choice(&["lite", "resnet", "resnet-port", "resize"]),
            help: "DCGAN's networks, the published residual ones (50 times the work), those as dbbbbm/f-AnoGAN-PyTorch \
                   has them, or the resize-convolutions of A03ki/f-AnoGAN",
        },
        OptionInfo {
            key: "encoder",
            default: "izi_f",
            kind: OptionKind::Choice(&["izi_f", "izi", "ziz"]),
            help: "what the encoder minimises",
        },
        OptionInfo {
            key: "kappa",
            default: "1",
            kind: OptionKind::Number(0.0, 1e6),
            help: "weight κ of the feature residual",
        },
        OptionInfo {
            key: "penalty",
            default: "10",
            kind: OptionKind::Number(0.0, 1e6),
            help: "weight of the gradient penalty",
        },
        OptionInfo {
            key: "critic-steps",
            default: "5",
            kind: OptionKind::Whole(1, 1000),
            help: "steps of the critic for one of the generator",
        },
        OptionInfo {
            key: "encoder-lr",
            default: "5e-5",
            kind: OptionKind::Number(1e-9, 1.0),
            help: "RMSProp's step size",
        },
        OptionInfo {
            key: "gan-share",
            default: "0.7",
            kind: OptionKind::Number(0.01, 0.99),
            help: "part of the training budget that WGAN-GP gets; the encoder gets the rest",
        },
    ],
    defaults: Defaults {
        batch: 64,
        lr: 1e-4,
        betas: [0.0, 0.9],
        latent: 128,
        prior: Prior::Normal,
        length: Length::Epochs(100),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(FAnoGan::new(states, config, options)?)),
};

/// G, light, as published or as ported.
#[derive(Debug, Clone)]
enum Generator {
    Lite(dcgan::Generator),
    Residual(resnet::Generator),
    Resize(resize::Generator),
}

/// D or E, light, as published or as ported. With `learning`, norms over the batch are in train mode and
/// dropout draws from these random numbers.
#[derive(Debug, Clone)]
enum Pyramid {
    Lite(dcgan::Pyramid),
    Residual(resnet::Pyramid),
    Resize(resize::Pyramid),
}

impl Generator {
    fn forward<'t>(&self, tape: &'t Tape, z: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        match self {
            Self::Lite(net) => net.forward(tape, z, mode),
            Self::Residual(net) => net.forward(tape, z, mode),
            Self::Resize(net) => net.forward(tape, z, mode),
        }
    }

    fn parameters(&self) -> Vec<Variable> {
        match self {
            Self::Lite(net) => net.parameters(),
            Self::Residual(net) => net.parameters(),
            Self::Resize(net) => net.parameters(),
        }
    }
}

impl Pyramid {
    fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>, learning: Option<&RandomState>) -> Tensor<'t> {
        let mode = if learning.is_some() { Mode::Train } else { Mode::Eval };
        match self {
            Self::Lite(net) => net.features(tape, x, mode),
            Self::Residual(net) => net.features(tape, x, mode),
            Self::Resize(net) => net.features(tape, x, learning),
        }
    }

    fn head<'t>(&self, tape: &'t Tape, features: Tensor<'t>) -> Tensor<'t> {
        match self {
            Self::Lite(net) => net.head(tape, features),
            Self::Residual(net) => net.head(tape, features),
            Self::Resize(net) => net.head(tape, features),
        }
    }

    fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, learning: Option<&RandomState>) -> Tensor<'t> {
        self.head(tape, self.features(tape, x, learning))
    }

    /// Features of a sample.
    fn feature_count(&self, config: &Config) -> usize {
        match self {
            Self::Lite(_) | Self::Residual(_) => config.features(),
            Self::Resize(_) => resize::features(config),
        }
    }

    fn parameters(&self) -> Vec<Variable> {
        match self {
            Self::Lite(net) => net.parameters(),
            Self::Residual(net) => net.parameters(),
            Self::Resize(net) => net.parameters(),
        }
    }
}

/// What the encoder minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    IziF,
    Izi,
    Ziz,
}

/// The three networks.
#[derive(Debug, Clone)]
pub struct FAnoGan {
    config: Config,
    generator: Generator,
    critic: Pyramid,
    encoder: Pyramid,
    goal: Goal,
    kappa: f32,
    penalty: f32,
    critic_steps: u64,
    encoder_lr: f32,
    gan_share: f64,
    optimisers: Option<Optimisers>,
}

/// Adam for the two players, RMSProp for the encoder, and the source of latents.
#[derive(Debug, Clone)]
struct Optimisers {
    generator: Adam,
    critic: Adam,
    encoder: RmsProp,
    random: RandomState,
}

/// Decay of RMSProp's squared gradients, TensorFlow's default.
const RMSPROP_DECAY: f32 = 0.9;

impl FAnoGan {
    /// Registers the parameters as `generator.*`, `critic.*` and `encoder.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for sizes outside their range, and for tables, which these networks cannot read.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check()?;
        if config.form == Form::Table {
            return Err(ConfigError::new("form", "table", "images or signals for f-anogan"));
        }
        let latent = config.latent;
        let residual = |states: &mut States, [of_critic, of_encoder]: [NormKind; 2]| {
            (
                Generator::Residual(resnet::Generator::new(states, "generator", config)),
                Pyramid::Residual(resnet::Pyramid::new(states, "critic", config, of_critic, 1)),
                Pyramid::Residual(resnet::Pyramid::new(states, "encoder", config, of_encoder, latent)),
            )
        };
        let (generator, critic, encoder) = match options.text("nets") {
            "resnet" => residual(states, [NormKind::Layer, NormKind::Batch]),
            "resnet-port" => residual(states, [NormKind::Elements(config.extent()); 2]),
            "resize" => (
                Generator::Resize(resize::Generator::new(states, "generator", config)),
                Pyramid::Resize(resize::Pyramid::new(states, "critic", config, 1)),
                Pyramid::Resize(resize::Pyramid::new(states, "encoder", config, latent)),
            ),
            _ => (
                Generator::Lite(dcgan::Generator::new(states, "generator", config)),
                Pyramid::Lite(dcgan::Pyramid::new(states, "critic", config, NormKind::None, 1)),
                Pyramid::Lite(dcgan::Pyramid::new(states, "encoder", config, NormKind::Batch, latent)),
            ),
        };
        Ok(Self {
            config: config.clone(),
            generator,
            critic,
            encoder,
            goal: match options.text("encoder") {
                "izi" => Goal::Izi,
                "ziz" => Goal::Ziz,
                _ => Goal::IziF,
            },
            kappa: options.number("kappa"),
            penalty: options.number("penalty"),
            critic_steps: options.whole("critic-steps") as u64,
            encoder_lr: options.number("encoder-lr"),
            gan_share: f64::from(options.number("gan-share")),
            optimisers: None,
        })
    }

    /// E(x), `[n, latent]`.
    fn code<'t>(&self, tape: &'t Tape, x: Tensor<'t>, learning: Option<&RandomState>) -> Tensor<'t> {
        let z = self.encoder.forward(tape, x, learning);
        if self.goal == Goal::Ziz { z } else { z.tanh() }
    }

    /// f(x), flat, in eval mode: whatever norm the critic has, a sample's features are its own.
    fn critic_features<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        self.critic.features(tape, x, None).flatten()
    }

    /// One step of the critic on real images `x`, latents `z` and `alpha` of the penalty, `[n]`.
    ///
    /// Needs [`System::register_training`] first, as the other steps do; without it nothing is recorded.
    pub fn critic_step<'t>(
        &self,
        tape: &'t Tape,
        x: Tensor<'t>,
        z: Tensor<'t>,
        alpha: Tensor<'t>,
    ) -> Losses<'t> {
        let Some(optimisers) = &self.optimisers else { return vec![] };
        let critic = |x| self.critic.forward(tape, x, Some(&optimisers.random));
        let fake = self.generator.forward(tape, z, Mode::Train).stop_gradient();
        let (d_real, d_fake) = (critic(x).mean_all(), critic(fake).mean_all());
        let penalty = nn::gradient_penalty(tape, critic, x, fake, alpha);
        let loss = d_fake - d_real + penalty * self.penalty;
        optimisers.critic.minimise(tape, loss);
        vec![("loss_d", loss), ("wasserstein", d_real - d_fake), ("penalty", penalty)]
    }

    /// One step of the generator with latents `z`.
    pub fn generator_step<'t>(&self, tape: &'t Tape, z: Tensor<'t>) -> Losses<'t> {
        let Some(optimisers) = &self.optimisers else { return vec![] };
        let fake = self.generator.forward(tape, z, Mode::Train);
        let loss = -self.critic.forward(tape, fake, Some(&optimisers.random)).mean_all();
        optimisers.generator.minimise(tape, loss);
        vec![("loss_g", loss)]
    }

    /// One step of the encoder on real images `x`, or on latents `z` where it learns ziz.
    pub fn encoder_step<'t>(&self, tape: &'t Tape, x: Tensor<'t>, z: Tensor<'t>) -> Losses<'t> {
        let Some(optimisers) = &self.optimisers else { return vec![] };
        let learning = Some(&optimisers.random);
        if self.goal == Goal::Ziz {
            let loss = mse(z, self.code(tape, self.generate(tape, z), learning));
            optimisers.encoder.minimise(tape, loss);
            return vec![("loss_e", loss)];
        }
        let image = self.generate(tape, self.code(tape, x, learning));
        let residual = mse(x, image);
        if self.goal == Goal::Izi {
            optimisers.encoder.minimise(tape, residual);
            return vec![("loss_e", residual)];
        }
        let features = mse(self.critic_features(tape, x), self.critic_features(tape, image));
        let loss = residual + features * self.kappa;
        optimisers.encoder.minimise(tape, loss);
        vec![("loss_e", loss), ("residual", residual), ("features", features)]
    }
}

impl Latent for FAnoGan {
    fn generate<'t>(&self, tape: &'t Tape, z: Tensor<'t>) -> Tensor<'t> {
        self.generator.forward(tape, z, Mode::Eval)
    }

    fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        self.critic_features(tape, x)
    }

    fn feature_count(&self) -> usize {
        self.critic.feature_count(&self.config)
    }

    /// A(x) with z in place of E(x), or its first term alone; κ weighs, not λ.
    fn search_losses<'t>(
        &self,
        tape: &'t Tape,
        score: &str,
        _lambda: f32,
        x: Tensor<'t>,
        features: Tensor<'t>,
        z: Tensor<'t>,
    ) -> SearchLosses<'t> {
        let image = self.generate(tape, z);
        let residual = (x - image).square().mean_per_sample();
        let found = self.critic_features(tape, image);
        let discrimination = (features - found).square().mean_per_sample();
        let loss = if score == "residual" { residual } else { residual + discrimination * self.kappa };
        SearchLosses { loss, residual, discrimination, image }
    }

    fn encode<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Option<Tensor<'t>> {
        Some(self.code(tape, x, None))
    }

    fn refines(&self, score: &str) -> bool {
        matches!(score, "f-anogan" | "residual")
    }
}

impl System for FAnoGan {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, seed: u64) {
        let Training { lr, betas } = training;
        let encoder = self.encoder.parameters();
        self.optimisers = Some(Optimisers {
            generator: Adam::new(states, "adam_g", self.generator.parameters(), lr, betas),
            critic: Adam::new(states, "adam_d", self.critic.parameters(), lr, betas),
            encoder: RmsProp::new(states, "rmsprop_e", encoder, self.encoder_lr, RMSPROP_DECAY),
            random: nn::random_state(states, "random", seed),
        });
    }

    fn stages(&self) -> Vec<Stage> {
        let parts =
            vec![Part { name: "critic", every: 1 }, Part { name: "generator", every: self.critic_steps }];
        vec![
            Stage { name: "gan", share: Share::Part(self.gan_share), parts },
            Stage::simple("encoder", Share::Part(1.0 - self.gan_share)),
        ]
    }

    fn record<'t>(&self, tape: &'t Tape, stage: usize, part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(Optimisers { random, .. }) = &self.optimisers else { return vec![] };
        let n = x.shape()[0];
        let z = self.config.prior.sample(tape, random, n, self.config.latent);
        let losses = match (stage, part) {
            (0, 0) => self.critic_step(tape, x, z, tape.uniform(random, &[n])),
            (0, _) => self.generator_step(tape, z),
            _ => self.encoder_step(tape, x, z),
        };
        nn::advance(tape, random);
        losses
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let features = self.critic_features(tape, x);
        if score == "critic" {
            let judged = self.critic.head(tape, features);
            let score = -judged.reshape(&[judged.len()]);
            return Scored {
                score,
                parts: vec![],
                reconstruction: None,
                map: None,
                features: Some(features),
            };
        }
        let z = self.code(tape, x, None);
        let SearchLosses { loss, residual, discrimination, image } =
            self.search_losses(tape, score, 0.0, x, features, z);
        let (score, parts) = match score {
            "residual" => (loss, vec![]),
            "z-distance" => ((z - self.code(tape, image, None)).square().mean_per_sample(), vec![]),
            _ => (loss, vec![("residual", residual), ("discrimination", discrimination)]),
        };
        let map = Some((x - image).abs().mean(&[1]));
        Scored { score, parts, reconstruction: Some(image), map, features: Some(features) }
    }

    fn latent(&self) -> Option<&dyn Latent> {
        Some(self)
    }
}
