//! DAGAN (Tang, Kuo, Lan, Ding, Hsu & Young, "Anomaly Detection Neural Network with Dual Auto-Encoders GAN
//! and Its Industrial Inspection Applications", Sensors 20(12):3336, 2020).
//!
//! ADAE's idea with [U-Nets](super::unet) for both autoencoders and L2 terms: D is to give back x, and
//! another image for G(x); G is to make the two the same.
//!
//! | | formula |
//! |---|---|
//! | adversarial loss | L_adv = E ‖D(x) − D(G(x))‖₂ |
//! | generator's contextual loss | L_Gcon = E ‖x − G(x)‖₂ |
//! | discriminator's contextual loss | L_Dcon = E ‖x − D(x)‖₂ |
//! | generator | L_G = w_adv·L_adv + w_gcon·L_Gcon, weights 1, 40 |
//! | discriminator | L_D = −w_adv·L_adv + w_dcon·L_Dcon, weights 1, 1 |
//! | score | R(x) = ‖x − G(x)‖₂ |
//!
//! Norms are root mean squares over pixels in training, so that weights and margin mean the same at every
//! size. L_D gains from ever larger L_adv, bounded only by the range of tanh: `margin` m > 0 puts max(0, m −
//! ‖D(x) − D(G(x))‖₂) in its place. The skips can carry an anomaly through unchanged: compare the residual of
//! small defects with that of normal pixels before trusting a score.

use super::adae::{MARGIN, repelled};
use super::ganomaly::weight;
use super::system::{
    Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training, residual_map,
};
use super::unet::UNet;
use super::{Config, ConfigError, Form, Options, Prior};
use crate::nn::{Adam, Mode};
use crate::tape::{States, Tape, Tensor};

/// The system.
pub const INFO: Info = Info {
    name: "dagan",
    title: "two U-Nets against each other",
    paper: "Tang, Kuo, Lan, Ding, Hsu & Young, Sensors 2020",
    url: "https://doi.org/10.3390/s20123336",
    scores: &[Named { name: "dagan", about: "‖x − G(x)‖₂" }],
    options: &[
        weight("w-adv", "1", "weight of L_adv, D(x) against D(G(x))"),
        weight("w-gcon", "40", "weight of L_Gcon, |x − G(x)|"),
        weight("w-dcon", "1", "weight of L_Dcon, |x − D(x)|"),
        MARGIN,
    ],
    defaults: Defaults {
        batch: 64,
        lr: 1e-3,
        betas: [0.5, 0.999],
        latent: 100,
        prior: Prior::Normal,
        length: Length::Epochs(100),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Dagan::new(states, config, options)?)),
};

/// Root mean square of each sample's difference, `[n]`; the addend keeps the root's slope finite at 0.
fn distance<'t>(a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
    ((a - b).square().mean_per_sample() + 1e-12).sqrt()
}

/// The two autoencoders. They have no latent; the bottleneck of a U-Net is as wide as its widest maps.
#[derive(Debug, Clone)]
pub struct Dagan {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    weights: [f32; 3],
    margin: f32,
    generator: UNet,
    discriminator: UNet,
    optimisers: Option<[Adam; 2]>,
}

impl Dagan {
    /// Registers the parameters as `generator.*` and `discriminator.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables, and for sizes outside their range.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check()?;
        config.check_form(&[Form::Image, Form::Signal])?;
        Ok(Self {
            config: config.clone(),
            weights: ["w-adv", "w-gcon", "w-dcon"].map(|key| options.number(key)),
            margin: options.number("margin"),
            generator: UNet::new(states, "generator", config),
            discriminator: UNet::new(states, "discriminator", config),
            optimisers: None,
        })
    }
}

impl System for Dagan {
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
        let [real, fake] = [x, made].map(|image| d.forward(tape, image, Mode::Train));
        let apart = distance(real, fake);
        let (adv, gcon, dcon) =
            (apart.mean_all(), distance(x, made).mean_all(), distance(x, real).mean_all());

        let [w_adv, w_gcon, w_dcon] = self.weights;
        let loss_g = adv * w_adv + gcon * w_gcon;
        let loss_d = repelled(apart, self.margin) * w_adv + dcon * w_dcon;
        adam_g.minimise(tape, loss_g);
        adam_d.minimise(tape, loss_d);
        vec![("loss_d", loss_d), ("loss_g", loss_g), ("adv", adv), ("gcon", gcon), ("dcon", dcon)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, _score: &str) -> Scored<'t> {
        let made = self.generator.forward(tape, x, Mode::Eval);
        let score = (x - made).square().sum_per_sample().sqrt();
        let map = Some(residual_map(x, made));
        Scored { score, parts: vec![], reconstruction: Some(made), map, features: None }
    }
}
