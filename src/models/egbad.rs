//! EGBAD (Zenati, Foo, Lecouat, Manek & Chandrasekhar, "Efficient GAN-Based Anomaly Detection", 2018, arXiv
//! 1802.06222): a BiGAN (Donahue et al. 2017), whose encoder takes the place of AnoGAN's search.
//!
//! D sees pairs: an image with its code, (x, E(x)), or a latent with its image, (G(z), z). Where D is fooled,
//! E is the inverse of G.
//!
//! | | formula |
//! |---|---|
//! | discriminator | L_D = BCE(D(x, E(x)), 1) + BCE(D(G(z), z), 0) |
//! | generator, encoder | L_G = BCE(D(G(z), z), 1), L_E = BCE(D(x, E(x)), 0) |
//! | score | A(x) = (1 − α)·‖x − G(E(x))‖_p + α·L_D(x), α = 0.1, p = 1 |
//! | feature matching | L_D(x) = ‖f(x, E(x)) − f(G(E(x)), E(x))‖_p |
//! | cross-entropy | L_D(x) = BCE(D(G(E(x)), E(x)), 1) |
//! | cycle, not of the paper | λ·mean ∣x − G(E(x))∣ in L_E and L_G of images and signals, `cycle` λ = 10; 0 as published |
//!
//! **Why a cycle.** The game alone makes E the inverse of G in the limit only. In trainings of ordinary
//! length G(E(x)) is worse than the mean image, so that the residual is little more than ‖x‖, and the score
//! ranks by brightness; `docs/systems/egbad.md` has the control. ALAD (Zenati et al., ICDM 2018) mends the
//! same with a discriminator of (x, G(E(x))).
//!
//! Scores use moving averages of all weights (decay 0.999, of tables 0.9999) and batch norm and dropout in
//! eval mode. Networks for images of width w (64 in the paper), slope 0.1, kernel 4 where none is given:
//!
//! | E | G | D(x, z) |
//! |---|---|---|
//! | conv 3 → w/2, leaky | linear → 16·w, BN, ReLU | x: conv s2 → w, leaky, dropout ½ |
//! | conv 3 s2 → w, BN, leaky | linear → b·b·2w, BN, ReLU | x: conv s2 → w, BN, leaky, dropout ½ |
//! | conv 3 s2 → 2w, BN, leaky | convT s2 → w, BN, ReLU | z: linear → 8·w, leaky, dropout ½ |
//! | linear → z | convT s2 → channels, tanh | both: linear → 16·w, leaky, dropout ½ = **f**; linear → 1 |
//!
//! The paper's digits of 28×28 end on maps of b = 7. Images are halved at least twice, and as long as their
//! smaller side stays 8 or more, so the smaller b is 8 for powers of two and 8 to 14 for others (4 to 7 below
//! 29 pixels); larger images have more of the middle rows. For rows of a table, the paper's KDD networks,
//! Glorot's start, slope 0.1:
//!
//! | E | G | D(x, z) |
//! |---|---|---|
//! | linear → w, leaky | linear → w, ReLU | x: linear → 2w, leaky, dropout 0.2 |
//! | linear → z | linear → 2w, ReLU | z: linear → 2w, leaky, dropout 0.2 |
//! | | linear → features | both: linear → 2w, leaky, dropout 0.2 = **f**; linear → 1 |
//!
//! The published KDD99 script computes a scaling of the features and drops the result: its step size, 1e-5,
//! belongs to unscaled features. Here they are scaled and the step size of tables is 1e-4.
//!
//! The code takes one batch for D and another for E and G; here a step has one. Batch norm is PyTorch's
//! (momentum 0.1, ε 1e-5), not TensorFlow's (0.01, 1e-3).

use super::stack::{Activation, LayerRow, Stack};
use super::system::{
    Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training, residual_map,
};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{self, Adam, Ema, bce_with_logits, l1};
use crate::tape::{RandomState, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "egbad",
    title: "BiGAN: encoder and generator against a discriminator of pairs",
    paper: "Zenati, Foo, Lecouat, Manek & Chandrasekhar, 2018",
    url: "https://arxiv.org/abs/1802.06222",
    scores: &[
        Named { name: "fm", about: "residual and feature matching in D" },
        Named { name: "cross-e", about: "residual and D's verdict on (G(E(x)), E(x))" },
    ],
    options: &[
        OptionInfo {
            key: "alpha",
            default: "0.1",
            kind: OptionKind::Number(0.0, 1.0),
            help: "weight of the discriminator's part of the score",
        },
        OptionInfo {
            key: "degree",
            default: "1",
            kind: OptionKind::Choice(&["1", "2"]),
            help: "p of the score's norms",
        },
        OptionInfo {
            key: "cycle",
            default: "10",
            kind: OptionKind::Number(0.0, 1e6),
            help: "weight of mean |x - G(E(x))| in the losses of E and G, of images and signals; 0 as published",
        },
    ],
    // The published step size, 1e-5, is for 60,000 steps: after a thousand the networks are what they were.
    defaults: Defaults {
        batch: 100,
        lr: 2e-4,
        betas: [0.5, 0.999],
        latent: 200,
        prior: Prior::Normal,
        length: Length::Epochs(100),
    },
    // Of scaled features; the published step size belongs to unscaled ones.
    tables: Some(Defaults {
        batch: 50,
        lr: 1e-4,
        betas: [0.5, 0.999],
        latent: 32,
        prior: Prior::Normal,
        length: Length::Steps(50_000),
    }),
    new: |states, config, options| Ok(Box::new(Egbad::new(states, config, options)?)),
};

/// Decay of the averages that scores use; of tables, as published for KDD99, [`TABLE_DECAY`].
const DECAY: f32 = 0.999;
const TABLE_DECAY: f32 = 0.9999;

/// E, G and D(x, z).
#[derive(Debug, Clone)]
struct Nets {
    encoder: Stack,
    generator: Stack,
    /// What D makes of x, of z, of both, and its verdict.
    discriminator: [Stack; 4],
}

impl Nets {
    fn new(states: &mut States, config: &Config) -> Self {
        let tables = match config.form {
            Form::Table => table_rows(config),
            Form::Image | Form::Signal => image_rows(config),
        };
        let [encoder, generator, image, latent, both, verdict] = tables;
        let mut stack = |name: &str, rows: &[LayerRow]| {
            let stack = Stack::new(states, name, rows);
            if config.form == Form::Table {
                stack.start_glorot(states);
            }
            stack
        };
        Self {
            encoder: stack("encoder", &encoder),
            generator: stack("generator", &generator),
            discriminator: [
                stack("discriminator.x", &image),
                stack("discriminator.z", &latent),
                stack("discriminator.f", &both),
                stack("discriminator.verdict", &verdict),
            ],
        }
    }

    /// f(x, z) and the logit of D(x, z), `[n, features]` and `[n, 1]`.
    fn judge<'t>(
        &self,
        tape: &'t Tape,
        x: Tensor<'t>,
        z: Tensor<'t>,
        learning: Option<&RandomState>,
    ) -> [Tensor<'t>; 2] {
        let [of_x, of_z, of_both, verdict] = &self.discriminator;
        let parts = [of_x.forward(tape, x, learning), of_z.forward(tape, z, learning)];
        let f = of_both.forward(tape, Tensor::concat(&parts.map(Tensor::flatten), 1), learning);
        [f, verdict.forward(tape, f, learning)]
    }

    fn parts(&mut self) -> impl Iterator<Item = &mut Stack> {
        [&mut self.encoder, &mut self.generator].into_iter().chain(&mut self.discriminator)
    }

    fn parameters(&self) -> Vec<Variable> {
        self.clone().parts().flat_map(|stack| stack.parameters()).collect()
    }

    /// The same networks with averages for parameters.
    fn averaged(&self, averages: &[Variable]) -> Self {
        let (mut nets, mut averages) = (self.clone(), averages.iter().cloned());
        for stack in nets.parts() {
            *stack = stack.with_parameters(&mut averages);
        }
        nets
    }
}

/// Rows of E, G, and D's parts for x, z, both and the verdict.
fn image_rows(config: &Config) -> [Vec<LayerRow>; 6] {
    let (w, z, c) = (config.width, config.latent, config.channels);
    let (leaky, relu) = (Activation::Leaky(0.1), Activation::Relu);
    let levels = config.halvings(8).max(2);
    let [height, width] = config.extent_at(levels);
    let bottom = height * width;
    let (kernel, halving) = (config.kernel(config.kernel), |level| config.halving(level));
    let (three, same) = (config.kernel(3), config.strided(1, 1, 1));
    let at = |level: usize| config.channels_at(level);
    let top = at(levels - 1);

    let slim = (w / 2).max(1);
    let mut encoder = vec![LayerRow::conv([c, slim], three, same).then(leaky)];
    let mut generator = vec![
        LayerRow::linear([z, 16 * w]).norm().then(relu),
        LayerRow::linear([16 * w, bottom * top]).norm().then(relu).shaped([top, height, width]),
    ];
    let mut image = vec![LayerRow::conv([c, w], kernel, halving(0)).then(leaky).dropout(0.5)];
    for level in 0..levels {
        let from = if level == 0 { slim } else { at(level - 1) };
        encoder
            .push(LayerRow::conv([from, at(level)], three, config.halving_by(3, level)).norm().then(leaky));
    }
    for level in (1..levels).rev() {
        let up = LayerRow::transposed([at(level), at(level - 1)], kernel, halving(level));
        generator.push(up.norm().then(relu));
        let down = LayerRow::conv([w, w], kernel, halving(levels - level));
        image.push(down.norm().then(leaky).dropout(0.5));
    }
    encoder.push(LayerRow::linear([bottom * top, z]));
    generator.push(LayerRow::transposed([w, c], kernel, halving(0)).then(Activation::Tanh));
    let latent = vec![LayerRow::linear([z, 8 * w]).then(leaky).dropout(0.5)];
    let both = vec![LayerRow::linear([bottom * w + 8 * w, 16 * w]).then(leaky).dropout(0.5)];
    [encoder, generator, image, latent, both, vec![LayerRow::linear([16 * w, 1])]]
}

/// As [`image_rows`], for rows of a table.
fn table_rows(config: &Config) -> [Vec<LayerRow>; 6] {
    let (w, z, c) = (config.width, config.latent, config.channels);
    let (leaky, relu) = (Activation::Leaky(0.1), Activation::Relu);
    let dropped = |features| vec![LayerRow::linear(features).then(leaky).dropout(0.2)];
    let encoder = vec![LayerRow::linear([c, w]).then(leaky), LayerRow::linear([w, z])];
    let generator = vec![
        LayerRow::linear([z, w]).then(relu),
        LayerRow::linear([w, 2 * w]).then(relu),
        LayerRow::linear([2 * w, c]).shaped([c, 1, 1]),
    ];
    let verdict = vec![LayerRow::linear([2 * w, 1])];
    [encoder, generator, dropped([c, 2 * w]), dropped([z, 2 * w]), dropped([4 * w, 2 * w]), verdict]
}

/// What only training needs.
#[derive(Debug, Clone)]
struct Optimisers {
    encoder: Adam,
    generator: Adam,
    discriminator: Adam,
    random: RandomState,
}

/// The networks, and their averages.
#[derive(Debug, Clone)]
pub struct Egbad {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    alpha: f32,
    squared: bool,
    cycle: f32,
    nets: Nets,
    averages: Ema,
    /// The networks that score.
    averaged: Nets,
    optimisers: Option<Optimisers>,
}

impl Egbad {
    /// Registers the parameters as `encoder.*`, `generator.*` and `discriminator.*`, and their averages under
    /// `ema`.
    ///
    /// # Errors
    /// [`ConfigError`] for sizes outside their range.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check()?;
        let nets = Nets::new(states, config);
        let decay = if config.form == Form::Table { TABLE_DECAY } else { DECAY };
        let averages = Ema::new(states, "ema", nets.parameters(), decay);
        Ok(Self {
            config: config.clone(),
            alpha: options.number("alpha"),
            squared: options.is("degree", "2"),
            cycle: if config.form == Form::Table { 0.0 } else { options.number("cycle") },
            averaged: nets.averaged(averages.averages()),
            nets,
            averages,
            optimisers: None,
        })
    }

    /// ‖a − b‖_p of each sample, `[n]`.
    fn apart<'t>(&self, a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
        match self.squared {
            true => (a - b).square().sum_per_sample().sqrt(),
            false => (a - b).abs().sum_per_sample(),
        }
    }
}

impl System for Egbad {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, seed: u64) {
        let Training { lr, betas } = training;
        let d: Vec<_> = self.nets.discriminator.iter().flat_map(Stack::parameters).collect();
        self.optimisers = Some(Optimisers {
            encoder: Adam::new(states, "adam_e", self.nets.encoder.parameters(), lr, betas),
            generator: Adam::new(states, "adam_g", self.nets.generator.parameters(), lr, betas),
            discriminator: Adam::new(states, "adam_d", d, lr, betas),
            random: nn::random_state(states, "random", seed),
        });
    }

    fn averages(&self) -> Option<&Ema> {
        Some(&self.averages)
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    /// First D, then E and G through the D just updated, then the averages.
    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(optimisers) = &self.optimisers else { return vec![] };
        let random = &optimisers.random;
        let learning = Some(random);
        let z = self.config.prior.sample(tape, random, x.shape()[0], self.config.latent);
        let code = self.nets.encoder.forward(tape, x, learning);
        let fake = self.nets.generator.forward(tape, z, learning);
        let logit = |x, z| self.nets.judge(tape, x, z, learning)[1];

        let (real_logits, fake_logits) = (logit(x, code.stop_gradient()), logit(fake.stop_gradient(), z));
        let loss_d = bce_with_logits(real_logits, 1.0) + bce_with_logits(fake_logits, 0.0);
        optimisers.discriminator.minimise(tape, loss_d);

        let (loss_e, loss_g) = (bce_with_logits(logit(x, code), 0.0), bce_with_logits(logit(fake, z), 1.0));
        let cycle = (self.cycle > 0.0).then(|| l1(x, self.nets.generator.forward(tape, code, learning)));
        let with_cycle = |loss: Tensor<'t>| cycle.map_or(loss, |cycle| loss + cycle * self.cycle);
        let (total_e, total_g) = (with_cycle(loss_e), with_cycle(loss_g));
        optimisers.encoder.minimise(tape, total_e);
        optimisers.generator.minimise(tape, total_g);
        self.averages.update(tape, tape.state(&random.step));
        nn::advance(tape, random);

        let posterior = |logits: Tensor<'t>| logits.sigmoid().mean_all();
        let mut losses = vec![
            ("loss_d", loss_d),
            ("loss_g", loss_g),
            ("loss_e", loss_e),
            ("d_real", posterior(real_logits)),
            ("d_fake", posterior(fake_logits)),
        ];
        losses.extend(cycle.map(|cycle| ("cycle", cycle)));
        losses
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let nets = &self.averaged;
        let code = nets.encoder.forward(tape, x, None);
        let made = nets.generator.forward(tape, code, None);
        let [f, _] = nets.judge(tape, x, code, None);
        let [f_made, logit] = nets.judge(tape, made, code, None);
        let residual = self.apart(x, made);
        let discrimination = match score {
            "cross-e" => {
                let logit = logit.reshape(&[x.shape()[0]]);
                nn::cross_entropy_of_logits(logit, 1.0)
            }
            _ => self.apart(f, f_made),
        };
        Scored {
            score: residual * (1.0 - self.alpha) + discrimination * self.alpha,
            parts: vec![("residual", residual), ("discrimination", discrimination)],
            reconstruction: Some(made),
            map: (self.config.form != Form::Table).then(|| residual_map(x, made)),
            features: Some(f),
        }
    }
}
