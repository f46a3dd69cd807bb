//! ADAE (Vu, Ueta, Hashimoto, Maeno, Pranata & Shen, "Anomaly Detection with Adversarial Dual Autoencoders",
//! 2019, arXiv 1902.06924).
//!
//! Generator and discriminator are both autoencoders. D learns to give back real images and to spoil G's; G
//! learns to give back images that D cannot distort. An anomaly is distorted twice.
//!
//! | | formula |
//! |---|---|
//! | discriminator | L_D = ‖x − D(x)‖₁ − ‖G(x) − D(G(x))‖₁ |
//! | generator | L_G = ‖x − G(x)‖₁ + ‖G(x) − D(G(x))‖₁ |
//! | score | A(x) = ‖x − D(G(x))‖₂ |
//!
//! Norms are means over pixels in training. Both networks are GANomaly's encoder and decoder; the paper says
//! strided convolutions without pooling, and no more. L_D gains from ever worse D(G(x)), bounded only by the
//! range of tanh, and D then spoils everything. `margin` m makes its second term max(0, m − ‖G(x) −
//! D(G(x))‖₁) for each image, as in EBGAN; 0 is the loss as printed. The paper balances the learning rates by
//! "a sigmoid of the relative performance" and gives no formula: `balance=yes` takes lr_D = 2σ(r)·lr and
//! lr_G = 2σ(−r)·lr with r = ‖x − D(x)‖₁ − ‖G(x) − D(G(x))‖₁.

use super::dcgan::{Generator, Pyramid};
use super::system::{
    Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training, residual_map,
};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{Adam, Mode, l1};
use crate::tape::{States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "adae",
    title: "two autoencoders against each other",
    paper: "Vu, Ueta, Hashimoto, Maeno, Pranata & Shen, 2019",
    url: "https://arxiv.org/abs/1902.06924",
    scores: &[Named { name: "adae", about: "‖x − D(G(x))‖₂, through both autoencoders" }],
    options: &[
        OptionInfo { default: "0.05", ..MARGIN },
        OptionInfo {
            key: "balance",
            default: "no",
            kind: OptionKind::Choice(&["no", "yes"]),
            help: "whether the network that falls behind learns faster",
        },
    ],
    defaults: Defaults {
        batch: 64,
        lr: 2e-4,
        betas: [0.5, 0.999],
        latent: 32,
        prior: Prior::Normal,
        length: Length::Epochs(100),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Adae::new(states, config, options)?)),
};

/// The option that keeps a discriminator from gaining without end.
pub(super) const MARGIN: OptionInfo = OptionInfo {
    key: "margin",
    default: "0",
    kind: OptionKind::Number(0.0, 2.0),
    help: "distance of generated images up to which D gains by spoiling them; 0 for no limit, as published",
};

/// What D loses or gains by distances `[n]` that it makes as large as it can: their mean with a minus, or
/// what is missing to the margin.
pub(super) fn repelled(distance: Tensor<'_>, margin: f32) -> Tensor<'_> {
    if margin > 0.0 { (margin - distance).relu().mean_all() } else { -distance.mean_all() }
}

/// Encoder and decoder.
#[derive(Debug, Clone)]
struct Autoencoder {
    encoder: Pyramid,
    decoder: Generator,
}

impl Autoencoder {
    fn new(states: &mut States, name: &str, config: &Config) -> Self {
        Self {
            encoder: Pyramid::unbiased(states, &format!("{name}.encoder"), config, config.latent),
            decoder: Generator::unbiased(states, &format!("{name}.decoder"), config),
        }
    }

    fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        self.decoder.forward(tape, self.encoder.forward(tape, x, mode), mode)
    }

    fn parameters(&self) -> Vec<Variable> {
        [self.encoder.parameters(), self.decoder.parameters()].concat()
    }
}

/// The two autoencoders.
#[derive(Debug, Clone)]
pub struct Adae {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    margin: f32,
    balance: bool,
    generator: Autoencoder,
    discriminator: Autoencoder,
    optimisers: Option<[Adam; 2]>,
}

impl Adae {
    /// Registers the parameters as `generator.*` and `discriminator.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables, and for sizes outside their range.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check()?;
        config.check_form(&[Form::Image, Form::Signal])?;
        Ok(Self {
            config: config.clone(),
            margin: options.number("margin"),
            balance: options.is("balance", "yes"),
            generator: Autoencoder::new(states, "generator", config),
            discriminator: Autoencoder::new(states, "discriminator", config),
            optimisers: None,
        })
    }
}

impl System for Adae {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let Training { lr, betas } = training;
        let nets = [("adam_g", &self.generator), ("adam_d", &self.discriminator)];
        self.optimisers = Some(nets.map(|(name, net)| Adam::new(states, name, net.parameters(), lr, betas)));
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    /// G and D step from the same weights: both losses are computed before either network moves.
    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some([adam_g, adam_d]) = &self.optimisers else { return vec![] };
        let (g, d) = (&self.generator, &self.discriminator);
        let made = g.forward(tape, x, Mode::Train);
        let real = l1(x, d.forward(tape, x, Mode::Train));
        let distorted = (made - d.forward(tape, made, Mode::Train)).abs().mean_per_sample();
        let (recon, fake) = (l1(x, made), distorted.mean_all());

        let loss_d = real + repelled(distorted, self.margin);
        let loss_g = recon + fake;
        let gap = if self.balance { (real - fake).stop_gradient() } else { tape.constant(0.0) };
        for (adam, loss, gap) in [(adam_g, loss_g, -gap), (adam_d, loss_d, gap)] {
            let wrt: Vec<_> = adam.parameters().iter().map(|p| tape.state(p)).collect();
            let lr = (gap.sigmoid() * (2.0 * adam.lr)).reshape(&[1]);
            adam.apply_at(tape, &tape.grad(loss, &wrt), lr);
        }
        vec![("loss_d", loss_d), ("loss_g", loss_g), ("recon", recon), ("real", real), ("fake", fake)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, _score: &str) -> Scored<'t> {
        let once = self.generator.forward(tape, x, Mode::Eval);
        let twice = self.discriminator.forward(tape, once, Mode::Eval);
        Scored {
            score: (x - twice).square().sum_per_sample().sqrt(),
            parts: vec![("recon", (x - once).abs().mean_per_sample())],
            reconstruction: Some(twice),
            map: Some(residual_map(x, twice)),
            features: Some(self.discriminator.encoder.forward(tape, x, Mode::Eval)),
        }
    }
}
