//! Skip-GANomaly (Akçay, Atapour-Abarghouei & Breckon, IJCNN 2019, arXiv 1901.08954).
//!
//! The generator is a [U-Net](super::unet) x → x̂; the discriminator's last features before its verdict are a
//! latent f(x) of `latent` numbers, and what x and x̂ differ by, as images and as latents, is the score.
//!
//! | | formula | equation |
//! |---|---|---|
//! | adversarial loss | L_adv = BCE(D(x̂), 1) | (1) |
//! | contextual loss | L_con = mean ∣x − x̂∣ | (2) |
//! | latent loss | L_lat = mean (f(x) − f(x̂))² | (3) |
//! | generator | L_G = w_adv·L_adv + w_con·L_con + w_lat·L_lat, weights 1, 50 (the paper prints 40), 1 | (4) |
//! | discriminator | L_D = BCE(D(x), 1) + BCE(D(x̂), 0) | |
//! | score | A(x) = λ·R(x) + (1 − λ)·L(x), λ = 0.9 | (5) |
//!
//! R and L are ‖x − x̂‖₁ and ‖f(x) − f(x̂)‖₂ in the paper, means of squares in the authors' code. D is
//! [DCGAN](super::dcgan)'s without any bias; the 3×3 convolution of its verdict sees one pixel, of which only
//! the centre tap counts: a linear layer. The code adds L_lat to L_D too, so that D as well is to make f
//! agree: `d-latent=yes`. Its input noise is memory never written and its learning-rate schedule is never
//! stepped; neither is here.

use super::dcgan::Pyramid;
use super::ganomaly::{Adversary, CAP, INSTANCE, doublings, mode_of, weight};
use super::system::{
    Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training, residual_map,
};
use super::unet::UNet;
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{Adam, Linear, Mode, bce_with_logits, l1, mse};
use crate::tape::{States, Tape, Tensor};

/// The system.
pub const INFO: Info = Info {
    name: "skip-ganomaly",
    title: "U-Net against a discriminator with a latent",
    paper: "Akçay, Atapour-Abarghouei & Breckon, IJCNN 2019",
    url: "https://arxiv.org/abs/1901.08954",
    scores: &[
        Named {
            name: "code", about: "0.9·mean (x − x̂)² + 0.1·mean (f(x) − f(x̂))², the authors' code"
        },
        Named {
            name: "paper", about: "0.9·‖x − x̂‖₁ + 0.1·‖f(x) − f(x̂)‖₂, equation (5)"
        },
        INSTANCE,
    ],
    options: &[
        weight("w-adv", "1", "weight of L_adv, D's verdict on x̂"),
        weight("w-con", "50", "weight of L_con, |x − x̂|; the paper prints 40"),
        weight("w-lat", "1", "weight of L_lat, (f(x) − f(x̂))²"),
        OptionInfo {
            key: "lambda",
            default: "0.9",
            kind: OptionKind::Number(0.0, 1.0),
            help: "weight of the contextual part of the score",
        },
        OptionInfo {
            key: "d-latent",
            default: "no",
            kind: OptionKind::Choice(&["no", "yes"]),
            help: "whether L_lat is in the discriminator's loss too, as in the authors' code",
        },
        OptionInfo {
            help: "most channels of a layer of the discriminator, in widths; none goes on doubling as the authors' code, \
                   which differs above 96 pixels",
            ..CAP
        },
    ],
    defaults: Defaults {
        batch: 64,
        lr: 2e-4,
        betas: [0.5, 0.999],
        latent: 100,
        prior: Prior::Normal,
        length: Length::Epochs(15),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(SkipGanomaly::new(states, config, options)?)),
};

/// The two networks.
#[derive(Debug, Clone)]
pub struct SkipGanomaly {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    weights: [f32; 3],
    lambda: f32,
    d_latent: bool,
    generator: UNet,
    /// f: x → features, the discriminator without its last layer.
    features: Pyramid,
    /// f(x) → logit.
    verdict: Linear,
    optimisers: Option<(Adam, Adversary)>,
}

impl SkipGanomaly {
    /// Registers the parameters as `generator.*` and `discriminator.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables, and for sizes outside their range.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check()?;
        config.check_form(&[Form::Image, Form::Signal])?;
        let (features, doublings) = ("discriminator.features", doublings(options));
        Ok(Self {
            config: config.clone(),
            weights: ["w-adv", "w-con", "w-lat"].map(|key| options.number(key)),
            lambda: options.number("lambda"),
            d_latent: options.is("d-latent", "yes"),
            generator: UNet::new(states, "generator", config),
            features: Pyramid::unbiased_within(states, features, config, doublings, config.latent),
            verdict: Linear::new(states, "discriminator.verdict", [config.latent, 1], false),
            optimisers: None,
        })
    }
}

impl System for SkipGanomaly {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let generator = Adam::new(states, "adam_g", self.generator.parameters(), training.lr, training.betas);
        let discriminator = [self.features.parameters(), self.verdict.parameters()].concat();
        self.optimisers = Some((generator, Adversary::new(states, discriminator, training)));
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    /// G and D step from the same weights: both losses are computed before either network moves.
    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some((generator, adversary)) = &self.optimisers else { return vec![] };
        let made = self.generator.forward(tape, x, Mode::Train);
        let [real, fake] = [x, made].map(|image| self.features.forward(tape, image, Mode::Train));
        let [real_logit, fake_logit] = [real, fake].map(|f| self.verdict.forward(tape, f));

        let (adv, con, lat) = (bce_with_logits(fake_logit, 1.0), l1(x, made), mse(real, fake));
        let [w_adv, w_con, w_lat] = self.weights;
        let loss_g = adv * w_adv + con * w_con + lat * w_lat;
        let verdicts = bce_with_logits(real_logit, 1.0) + bce_with_logits(fake_logit, 0.0);
        let loss_d = if self.d_latent { verdicts + lat } else { verdicts };
        generator.minimise(tape, loss_g);
        let saturated = adversary.minimise(tape, loss_d);

        vec![
            ("loss_d", loss_d),
            ("loss_g", loss_g),
            ("adv", adv),
            ("con", con),
            ("lat", lat),
            ("d_saturated", saturated),
        ]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let mode = mode_of(score);
        let made = self.generator.forward(tape, x, mode);
        let [real, fake] = [x, made].map(|image| self.features.forward(tape, image, mode));
        let (image, latent) = (x - made, real - fake);
        let (con, lat) = match score {
            "paper" => (image.abs().sum_per_sample(), latent.square().sum_per_sample().sqrt()),
            _ => (image.square().mean_per_sample(), latent.square().mean_per_sample()),
        };
        Scored {
            score: con * self.lambda + lat * (1.0 - self.lambda),
            parts: vec![("con", con), ("lat", lat)],
            reconstruction: Some(made),
            map: Some(residual_map(x, made)),
            features: Some(real),
        }
    }
}
