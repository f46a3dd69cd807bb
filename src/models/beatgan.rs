//! BeatGAN (Zhou, Liu, Hooi, Cheng & Ye, IJCAI 2019): GANomaly without its second encoder, on windows of
//! signals.
//!
//! The generator is an autoencoder, x → z = G_E(x) → x̂ = G_D(z), the discriminator its regulariser: it
//! should see in x̂ what it sees in x. The score is the reconstruction error, and the residual says at which
//! ticks it arises.
//!
//! | | formula | |
//! |---|---|---|
//! | reconstruction loss | L_rec = mean (x − x̂)² | |
//! | adversarial loss | L_adv = mean (f(x) − f(x̂))², f = the last convolution of D | feature matching |
//! | generator | L_G = L_rec + w_adv·L_adv, weight 1 | |
//! | discriminator | L_D = BCE(D(x), 1) + BCE(D(x̂), 0) | |
//! | score | A(x) = mean (x − x̂)² in the authors' code, ‖x − x̂‖₂ in the paper | |
//!
//! Networks are [DCGAN](super::dcgan)'s along the length of a window, kernel 1×4, without any bias, with
//! Glorot's start. The authors' take beats of 320 ticks down to 10 columns and go on doubling channels; these
//! halve windows down to 4 to 6 columns and stop at 8·w. D moves first, then G through the D just updated.
//! Their code draws new weights for D where L_D < 5e-6; this does not, and `d_saturated` counts steps below
//! 1e-5.

use super::dcgan::{Generator, Pyramid};
use super::ganomaly::{Adversary, weight};
use super::nets::glorot_normal;
use super::system::{
    Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training, residual_map,
};
use super::{Config, ConfigError, Form, Options, Prior};
use crate::nn::{Adam, Mode, bce_with_logits, mse};
use crate::tape::{States, Tape, Tensor};

/// The system.
pub const INFO: Info = Info {
    name: "beatgan",
    title: "autoencoder that a discriminator regularises, for windows of signals",
    paper: "Zhou, Liu, Hooi, Cheng & Ye, IJCAI 2019",
    url: "https://www.ijcai.org/proceedings/2019/616",
    scores: &[
        Named { name: "code", about: "mean (x − x̂)², the authors' code" },
        Named { name: "paper", about: "‖x − x̂‖₂; ranks windows as `code`" },
    ],
    options: &[weight("w-adv", "1", "weight of L_adv, feature matching")],
    defaults: Defaults {
        batch: 64,
        lr: 1e-4,
        betas: [0.5, 0.999],
        latent: 50,
        prior: Prior::Normal,
        length: Length::Epochs(100),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Beatgan::new(states, config, options)?)),
};

/// The three networks.
#[derive(Debug, Clone)]
pub struct Beatgan {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    w_adv: f32,
    /// G_E: x → z.
    encoder: Pyramid,
    /// G_D: z → x̂.
    decoder: Generator,
    discriminator: Pyramid,
    optimisers: Option<(Adam, Adversary)>,
}

impl Beatgan {
    /// Registers the parameters as `generator.encoder.*`, `generator.decoder.*` and `discriminator.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables, and for sizes outside their range.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check()?;
        config.check_form(&[Form::Image, Form::Signal])?;
        let system = Self {
            config: config.clone(),
            w_adv: options.number("w-adv"),
            encoder: Pyramid::unbiased(states, "generator.encoder", config, config.latent),
            decoder: Generator::unbiased(states, "generator.decoder", config),
            discriminator: Pyramid::unbiased(states, "discriminator", config, 1),
            optimisers: None,
        };
        let (e, g, d) = (&system.encoder, &system.decoder, &system.discriminator);
        for parameter in [e.parameters(), g.parameters(), d.parameters()].concat() {
            // Batch norm's γ and β have one dimension and start as DCGAN's.
            if parameter.shape.len() > 1 {
                glorot_normal(states, &parameter);
            }
        }
        Ok(system)
    }

    /// z and x̂.
    fn generate<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> [Tensor<'t>; 2] {
        let z = self.encoder.forward(tape, x, mode);
        [z, self.decoder.forward(tape, z, mode)]
    }
}

impl System for Beatgan {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let parts = [self.encoder.parameters(), self.decoder.parameters()];
        let generator = Adam::new(states, "adam_g", parts.concat(), training.lr, training.betas);
        let adversary = Adversary::new(states, self.discriminator.parameters(), training);
        self.optimisers = Some((generator, adversary));
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    /// First D, then G through the D just updated.
    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some((generator, adversary)) = &self.optimisers else { return vec![] };
        let d = &self.discriminator;
        let [_, made] = self.generate(tape, x, Mode::Train);
        let logits = |x| d.forward(tape, x, Mode::Train);
        let loss_d = bce_with_logits(logits(x), 1.0) + bce_with_logits(logits(made.stop_gradient()), 0.0);
        let saturated = adversary.minimise(tape, loss_d);

        let [real, fake] = [x, made].map(|x| d.features(tape, x, Mode::Train));
        let (rec, adv) = (mse(x, made), mse(real, fake));
        let loss_g = rec + adv * self.w_adv;
        generator.minimise(tape, loss_g);

        vec![("loss_d", loss_d), ("loss_g", loss_g), ("rec", rec), ("adv", adv), ("d_saturated", saturated)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let [z, made] = self.generate(tape, x, Mode::Eval);
        let squares = (x - made).square();
        Scored {
            score: match score {
                "paper" => squares.sum_per_sample().sqrt(),
                _ => squares.mean_per_sample(),
            },
            parts: vec![],
            reconstruction: Some(made),
            map: Some(residual_map(x, made)),
            features: Some(z),
        }
    }
}
