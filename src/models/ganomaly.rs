//! GANomaly (Akçay, Atapour-Abarghouei & Breckon, ACCV 2018, arXiv 1805.06725).
//!
//! The generator is encoder, decoder, encoder: x → z = G_E(x) → x̂ = G_D(z) → ẑ = E(x̂). Trained on normal
//! images, it gives back what it knows; of anything else the second encoder finds another code than the
//! first.
//!
//! | | formula | equation |
//! |---|---|---|
//! | adversarial loss | L_adv = mean (f(x) − f(x̂))², f = the last convolution of D | (2) |
//! | contextual loss | L_con = mean ∣x − x̂∣ | (3) |
//! | encoder loss | L_enc = mean (z − ẑ)² | (4) |
//! | generator | L_G = w_adv·L_adv + w_con·L_con + w_enc·L_enc, weights 1, 50, 1 | (5) |
//! | discriminator | L_D = ½·(BCE(D(x), 1) + BCE(D(x̂), 0)) | |
//! | score | A(x) = ‖G_E(x) − E(G(x))‖₁ in the paper, the mean square in the authors' code | (6) |
//!
//! Networks are [DCGAN](super::dcgan)'s without any bias; the second encoder has weights of its own. Channels
//! stop at 8·w; with `cap=none` they double at every halving, as in the authors' code. Where
//! paper and code differ this follows the code: (2) compares samples, not batch means, and (4) moves both
//! encoders, so that small codes are an easy way down: `var_z` shows it. The code starts D anew where L_D <
//! 1e-5; this does not, and `d_saturated` counts how often it would have been.

use super::dcgan::{Generator, Pyramid};
use super::system::{
    Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training, residual_map,
};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{Adam, Mode, bce_with_logits, l1, mse};
use crate::tape::{Initial, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "ganomaly",
    title: "encoder, decoder, encoder against a discriminator",
    paper: "Akçay, Atapour-Abarghouei & Breckon, ACCV 2018",
    url: "https://arxiv.org/abs/1805.06725",
    scores: &[
        Named { name: "code", about: "mean (z − ẑ)², the authors' code" },
        Named { name: "paper", about: "‖z − ẑ‖₁, equation (6)" },
        Named { name: "norm", about: "‖z − ẑ‖₂, what others took (6) for; ranks as `code`" },
        INSTANCE,
    ],
    options: &[
        weight("w-adv", "1", "weight of L_adv, feature matching"),
        weight("w-con", "50", "weight of L_con, |x − x̂|"),
        weight("w-enc", "1", "weight of L_enc, (z − ẑ)²"),
        CAP,
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
    new: |states, config, options| Ok(Box::new(Ganomaly::new(states, config, options)?)),
};

/// The published figures' batch norm, declared: their code scores in train mode, which depends on the order
/// of the test set, but at batch size 1 is each image's own statistics.
pub(super) const INSTANCE: Named = Named {
    name: "instance",
    about: "the default score with batch norm over each sample alone: train mode at batch size 1, as published",
};

/// Where channels stop doubling.
pub(super) const CAP: OptionInfo = OptionInfo {
    key: "cap",
    default: "8",
    kind: OptionKind::Choice(&["8", "none"]),
    help: "most channels of a layer, in widths; none goes on doubling as the authors' code, which differs above 96 pixels",
};

/// Doublings that [`CAP`] leaves.
pub(super) fn doublings(options: &Options) -> usize {
    if options.is(CAP.key, "none") { usize::MAX } else { Config::DOUBLINGS }
}

/// An option that weighs a loss.
pub(super) const fn weight(key: &'static str, default: &'static str, help: &'static str) -> OptionInfo {
    OptionInfo { key, default, kind: OptionKind::Number(0.0, 1e4), help }
}

/// Batch norm of a score.
pub(super) fn mode_of(score: &str) -> Mode {
    if score == INSTANCE.name { Mode::Instance } else { Mode::Eval }
}

/// What the discriminators of this family share in training: Adam, and a count of the steps at which L_D <
/// 1e-5. There the original code draws new weights for D, which hides that training has come apart.
#[derive(Debug, Clone)]
pub(super) struct Adversary {
    adam: Adam,
    saturated: Variable,
}

impl Adversary {
    /// Below this the original starts D anew.
    const SATURATED: f32 = 1e-5;

    pub(super) fn new(states: &mut States, parameters: Vec<Variable>, training: Training) -> Self {
        Self {
            adam: Adam::new(states, "adam_d", parameters, training.lr, training.betas),
            saturated: states.add("d_saturated", &[1], Initial::Constant(0.0)),
        }
    }

    /// One step of D; returns the count so far.
    pub(super) fn minimise<'t>(&self, tape: &'t Tape, loss: Tensor<'t>) -> Tensor<'t> {
        self.adam.minimise(tape, loss);
        let count = tape.state(&self.saturated) + (Self::SATURATED - tape.whole(loss)).step();
        tape.assign(&self.saturated, count);
        count
    }
}

/// The four networks.
#[derive(Debug, Clone)]
pub struct Ganomaly {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    weights: [f32; 3],
    /// G_E: x → z.
    encoder1: Pyramid,
    /// G_D: z → x̂.
    decoder: Generator,
    /// E: x̂ → ẑ.
    encoder2: Pyramid,
    discriminator: Pyramid,
    optimisers: Option<(Adam, Adversary)>,
}

impl Ganomaly {
    /// Registers the parameters as `generator.encoder1.*`, `generator.decoder.*`, `generator.encoder2.*` and
    /// `discriminator.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables, and for sizes outside their range.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check()?;
        config.check_form(&[Form::Image, Form::Signal])?;
        let doublings = doublings(options);
        let pyramid = |states: &mut States, name: &str, outputs| {
            Pyramid::unbiased_within(states, name, config, doublings, outputs)
        };
        Ok(Self {
            config: config.clone(),
            weights: ["w-adv", "w-con", "w-enc"].map(|key| options.number(key)),
            encoder1: pyramid(states, "generator.encoder1", config.latent),
            decoder: Generator::unbiased_within(states, "generator.decoder", config, doublings),
            encoder2: pyramid(states, "generator.encoder2", config.latent),
            discriminator: pyramid(states, "discriminator", 1),
            optimisers: None,
        })
    }

    /// x̂, z and ẑ.
    fn generate<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> [Tensor<'t>; 3] {
        let z = self.encoder1.forward(tape, x, mode);
        let made = self.decoder.forward(tape, z, mode);
        [made, z, self.encoder2.forward(tape, made, mode)]
    }
}

impl System for Ganomaly {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let parts = [self.encoder1.parameters(), self.decoder.parameters(), self.encoder2.parameters()];
        let generator = Adam::new(states, "adam_g", parts.concat(), training.lr, training.betas);
        let adversary = Adversary::new(states, self.discriminator.parameters(), training);
        self.optimisers = Some((generator, adversary));
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    /// G and D step from the same weights: both losses are computed before either network moves.
    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some((generator, adversary)) = &self.optimisers else { return vec![] };
        let d = &self.discriminator;
        let [made, z, z_made] = self.generate(tape, x, Mode::Train);
        let [real, fake] = [x, made].map(|image| d.features(tape, image, Mode::Train));

        let (adv, con, enc) = (mse(real, fake), l1(x, made), mse(z, z_made));
        let [w_adv, w_con, w_enc] = self.weights;
        let loss_g = adv * w_adv + con * w_con + enc * w_enc;
        let loss_d =
            (bce_with_logits(d.head(tape, real), 1.0) + bce_with_logits(d.head(tape, fake), 0.0)) * 0.5;
        generator.minimise(tape, loss_g);
        let saturated = adversary.minimise(tape, loss_d);

        vec![
            ("loss_d", loss_d),
            ("loss_g", loss_g),
            ("adv", adv),
            ("con", con),
            ("enc", enc),
            ("var_z", z.variance(&[0]).mean_all()),
            ("d_saturated", saturated),
        ]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let [made, z, z_made] = self.generate(tape, x, mode_of(score));
        let apart = z - z_made;
        let score = match score {
            "paper" => apart.abs().sum_per_sample(),
            "norm" => apart.square().sum_per_sample().sqrt(),
            _ => apart.square().mean_per_sample(),
        };
        let con = (x - made).abs().mean_per_sample();
        let map = Some(residual_map(x, made));
        Scored { score, parts: vec![("con", con)], reconstruction: Some(made), map, features: Some(z) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::models::scorer::compiled;

    /// The original draws new weights for D wherever L_D < 1e-5. Here the weights go on, and the steps are
    /// counted.
    #[test]
    fn a_saturated_discriminator_is_counted_and_not_started_anew() {
        let mut states = States::new();
        let p = states.add("p", &[1], Initial::Constant(0.5));
        let adversary =
            Adversary::new(&mut states, vec![p.clone()], Training { lr: 1e-3, betas: [0.5, 0.999] });
        let program = compiled(|tape| {
            let loss = (tape.input("loss", &[1]) * tape.state(&p)).reshape(&[]);
            tape.output("count", adversary.minimise(tape, loss));
        });
        let store = Device::Cpu.store(&states, 0).unwrap();
        let mut executable = Device::Cpu.load(&program.unwrap(), &store).unwrap();
        for (loss, count) in [(1.0, 0.0), (1e-6, 1.0), (0.1, 1.0), (1e-7, 2.0)] {
            executable.write("loss", &[loss]).unwrap();
            executable.run(1).unwrap();
            assert_eq!(executable.scalar("count").unwrap(), count);
        }
        let end = store.read(p.id).unwrap()[0];
        assert!((0.49..0.5).contains(&end), "four steps of 1e-3 at most: {end}");
    }
}
