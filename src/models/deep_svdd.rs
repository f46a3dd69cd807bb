//! Deep SVDD (Ruff, Vandermeulen, Görnitz, Deecke, Siddiqui, Binder, Müller & Kloft, ICML 2018).
//!
//! A network φ maps normal images close to a centre c; the distance from it is the score.
//!
//! | | formula | equation |
//! |---|---|---|
//! | soft boundary | R² + 1/(ν·n) Σ max(0, ‖φ(x) − c‖² − R²) + λ/2 Σ‖W‖² | (3) |
//! | one-class | 1/n Σ ‖φ(x) − c‖² + λ/2 Σ‖W‖² | (4) |
//! | score | s(x) = ‖φ(x) − c‖², less R² with a soft boundary | (5) |
//!
//! Training has four stages, after the official code (lukasruff/Deep-SVDD-PyTorch):
//!
//! 1. `range`: one pass for the least and greatest values of images after global contrast normalisation (less
//!    their mean, divided by their mean magnitude), by which all images are scaled to [0, 1];
//! 2. `pretrain`: φ as the encoder of an autoencoder, batch mean of Σ (x − x̂)²;
//! 3. `centre`: one pass for c, the mean of φ(x) with batch norm in eval mode, then fixed;
//! 4. `svdd`: the objective. R is the (1 − ν)-quantile of a batch's distances ‖φ(x) − c‖, set after each step
//!    from epoch `warmup` on, 0 before.
//!
//! Against the collapse to a constant (propositions 1 to 3): no bias, no affine norm and no bounded
//! activation in φ, and c kept away from 0 (∣c_i∣ ≥ 0.1). Networks are the [LeNets](super::nets). Adam with
//! L2 weight decay 5e-7 (5e-4 in pretraining); its step size falls to a tenth at epoch `drop-epochs` of each
//! training stage.

use super::ae::dropped;
use super::nets::{LenetDecoder, LenetEncoder, Nets};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::device::{DeviceError, Executable, Store};
use crate::nn::{Adam, Mode};
use crate::tape::{Initial, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "deep-svdd",
    title: "hypersphere around the features of normal images",
    paper: "Ruff, Vandermeulen, Görnitz, Deecke, Siddiqui, Binder, Müller & Kloft, ICML 2018",
    url: "https://proceedings.mlr.press/v80/ruff18a.html",
    scores: &[Named {
        name: "distance", about: "‖φ(x) − c‖², less R² with a soft boundary; equation (5)"
    }],
    options: &[
        OptionInfo {
            key: "objective",
            default: "one-class",
            kind: OptionKind::Choice(&["one-class", "soft-boundary"]),
            help: "equation (4), or equation (3) with radius R",
        },
        OptionInfo {
            key: "nu",
            default: "0.1",
            kind: OptionKind::Number(0.001, 0.999),
            help: "share of the training images that a soft boundary may leave outside",
        },
        OptionInfo {
            key: "warmup",
            default: "10",
            kind: OptionKind::Whole(0, 1_000_000),
            help: "epochs of the last stage before R is set",
        },
        OptionInfo {
            key: "nets",
            default: "lenet-small",
            kind: OptionKind::Choice(&["lenet-small", "lenet"]),
            help: "the paper's network for MNIST, or for CIFAR-10",
        },
        OptionInfo {
            key: "drop-epochs",
            default: "50",
            kind: OptionKind::Whole(0, 1_000_000),
            help: "epochs of a stage after which the step size is a tenth; 0 for never",
        },
        OptionInfo {
            key: "slope",
            default: "0.1",
            kind: OptionKind::Number(0.0, 1.0),
            help: "slope of the leaky ReLUs; the authors' code has 0.01",
        },
    ],
    defaults: Defaults {
        batch: 200,
        lr: 1e-4,
        betas: [0.9, 0.999],
        latent: 32,
        prior: Prior::Normal,
        length: Length::Epochs(300),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(DeepSvdd::new(states, config, options)?)),
};

/// What the last stage minimises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// Equation (4).
    OneClass,
    /// Equation (3), with ν.
    SoftBoundary(f32),
}

/// φ, the centre, and the range of the training images.
#[derive(Debug, Clone)]
pub struct DeepSvdd {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    /// φ: x → features.
    pub encoder: LenetEncoder,
    /// What the last stage minimises.
    pub objective: Objective,
    /// c, `[1, latent]`.
    pub centre: Variable,
    /// R, `[1]`; 0 with the one-class objective.
    pub radius: Variable,
    /// Least and greatest value of contrast-normalised training images, `[1]` each.
    pub range: [Variable; 2],
    nets: Nets,
    slope: f32,
    warmup: u64,
    drop: usize,
    learning: Option<Learning>,
}

/// What only training needs.
#[derive(Debug, Clone)]
struct Learning {
    decoder: LenetDecoder,
    pretraining: Adam,
    training: Adam,
    /// Batches in an epoch, counted in the first stage.
    batches: Variable,
    /// Batches that the centre is the mean of.
    seen: Variable,
}

const RANGE: usize = 0;
const PRETRAIN: usize = 1;
const CENTRE: usize = 2;
const SVDD: usize = 3;

impl DeepSvdd {
    /// λ of the objective.
    pub const WEIGHT_DECAY: f32 = 5e-7;
    /// λ of pretraining (the code's, for MNIST).
    pub const PRETRAINING_DECAY: f32 = 5e-4;
    /// Least magnitude of a component of c: zero weights reach a component of 0 (proposition 1).
    pub const CENTRE_GUARD: f32 = 0.1;

    /// Registers the parameters as `encoder.*`, `centre`, `radius` and `range.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        if config.form == Form::Table {
            return Err(ConfigError::new("system", INFO.name, "another for tables: it has convolutions"));
        }
        let nets = Nets::of(options.text("nets"));
        let (zero, slope) = (Initial::Constant(0.0), options.number("slope"));
        Ok(Self {
            config: config.clone(),
            encoder: LenetEncoder::new(states, "encoder", config, nets, config.latent).with_slope(slope),
            objective: match options.is("objective", "soft-boundary") {
                true => Objective::SoftBoundary(options.number("nu")),
                false => Objective::OneClass,
            },
            centre: states.add("centre", &[1, config.latent], zero.clone()),
            radius: states.add("radius", &[1], zero.clone()),
            range: [
                states.add("range.low", &[1], zero),
                states.add("range.high", &[1], Initial::Constant(1.0)),
            ],
            nets,
            slope,
            warmup: options.whole("warmup") as u64,
            drop: options.whole("drop-epochs"),
            learning: None,
        })
    }

    /// Global contrast normalisation: each image less its mean, divided by its mean magnitude then.
    fn contrast<'t>(&self, x: Tensor<'t>) -> Tensor<'t> {
        let axes = [1, 2, 3];
        let x = x - x.mean(&axes);
        // An image of one colour stays zero.
        x / (x.abs().mean(&axes) + 1e-8)
    }

    /// Contrast-normalised images, scaled by the range of the training images to [0, 1].
    pub fn normalise<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let [low, high] = self.range.each_ref().map(|v| tape.state(v).reshape(&[1, 1, 1, 1]));
        (self.contrast(x) - low) / (high - low + 1e-8)
    }

    /// φ(x) and ‖φ(x) − c‖², `[n, latent]` and `[n]`.
    fn distances<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> (Tensor<'t>, Tensor<'t>) {
        let features = self.encoder.forward(tape, self.normalise(tape, x), mode);
        (features, (features - tape.state(&self.centre)).square().sum_per_sample())
    }

    /// Widens the range to a batch; the first batch is the range.
    fn widen<'t>(&self, tape: &'t Tape, learning: &Learning, x: Tensor<'t>) -> Losses<'t> {
        let x = self.contrast(x);
        let axes: Vec<_> = (0..x.rank()).collect();
        let found = [-(-x).max(&axes).reshape(&[1]), x.max(&axes).reshape(&[1])];
        let known = self.range.each_ref().map(|v| tape.state(v));
        let batches = tape.state(&learning.batches);
        let later = batches.step();
        let widened = [known[0].minimum(found[0]), known[1].maximum(found[1])];
        for i in 0..2 {
            tape.assign(&self.range[i], later.select(widened[i], found[i]));
        }
        tape.assign(&learning.batches, batches + 1.0);
        vec![("range_low", tape.state(&self.range[0])), ("range_high", tape.state(&self.range[1]))]
    }

    /// Adam's step, a tenth as long from epoch `drop-epochs` of the stage on.
    fn minimise<'t>(&self, tape: &'t Tape, learning: &Learning, adam: &Adam, loss: Tensor<'t>) {
        match self.drop {
            0 => adam.minimise(tape, loss),
            epochs => {
                let limit = tape.state(&learning.batches) * epochs as f32;
                adam.minimise_at(tape, loss, dropped(tape, adam, limit));
            }
        }
    }
}

impl System for DeepSvdd {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let Training { lr, betas } = training;
        let decoder = LenetDecoder::new(states, "decoder", &self.config, self.nets).with_slope(self.slope);
        let both = [self.encoder.parameters(), decoder.parameters()].concat();
        let mut pretraining = Adam::new(states, "adam_ae", both, lr, betas);
        pretraining.weight_decay = Self::PRETRAINING_DECAY;
        let mut adam = Adam::new(states, "adam", self.encoder.parameters(), lr, betas);
        adam.weight_decay = Self::WEIGHT_DECAY;
        let mut count = |name: &str| states.add(name, &[1], Initial::Constant(0.0));
        let (batches, seen) = (count("batches"), count("centre_batches"));
        self.learning = Some(Learning { decoder, pretraining, training: adam, batches, seen });
    }

    fn needs_host(&self) -> bool {
        true
    }

    fn stages(&self) -> Vec<Stage> {
        vec![
            Stage::simple("range", Share::Passes(1)),
            Stage::simple("pretrain", Share::Part(1.0)),
            Stage::simple("centre", Share::Passes(1)),
            Stage::simple("svdd", Share::Part(1.0)),
        ]
    }

    fn record<'t>(&self, tape: &'t Tape, stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(learning) = &self.learning else { return vec![] };
        match stage {
            RANGE => self.widen(tape, learning, x),
            PRETRAIN => {
                let x = self.normalise(tape, x);
                let code = self.encoder.forward(tape, x, Mode::Train);
                let made = learning.decoder.forward(tape, code, Mode::Train).sigmoid();
                let loss = (x - made).square().sum_per_sample().mean_all();
                self.minimise(tape, learning, &learning.pretraining, loss);
                vec![("reconstruction", loss)]
            }
            CENTRE => {
                let features = self.encoder.forward(tape, self.normalise(tape, x), Mode::Eval);
                let (centre, seen) = (tape.state(&self.centre), tape.state(&learning.seen) + 1.0);
                tape.assign(&learning.seen, seen);
                tape.assign(&self.centre, centre + (features.mean(&[0]) - centre) / seen);
                vec![]
            }
            _ => {
                let (_, distances) = self.distances(tape, x, Mode::Train);
                let radius = tape.state(&self.radius);
                let loss = match self.objective {
                    Objective::OneClass => distances.mean_all(),
                    Objective::SoftBoundary(nu) => {
                        tape.output("distances", distances);
                        let outside = (distances - radius.square()).relu().mean_all();
                        radius.square().reshape(&[]) + outside * (1.0 / nu)
                    }
                };
                self.minimise(tape, learning, &learning.training, loss);
                match self.objective {
                    Objective::OneClass => vec![("svdd", loss)],
                    Objective::SoftBoundary(_) => vec![("svdd", loss), ("radius", radius)],
                }
            }
        }
    }

    /// R ← the (1 − ν)-quantile of the batch's distances.
    fn after_step(
        &self,
        stage: usize,
        at: u64,
        programs: &mut [&mut Executable],
        store: &Store,
    ) -> Result<(), DeviceError> {
        let (SVDD, Objective::SoftBoundary(nu), Some(learning)) = (stage, self.objective, &self.learning)
        else {
            return Ok(());
        };
        let batches = store.read(learning.batches.id)?[0].max(1.0) as u64;
        if at / batches < self.warmup {
            return Ok(());
        }
        let mut distances: Vec<f64> =
            programs[0].read("distances")?.into_iter().map(|d| f64::from(d.max(0.0)).sqrt()).collect();
        distances.sort_by(f64::total_cmp);
        store.write(self.radius.id, &[quantile(&distances, 1.0 - f64::from(nu)) as f32])
    }

    /// Keeps the centre away from 0.
    fn after_stage(&self, stage: usize, store: &Store) -> Result<(), DeviceError> {
        if stage != CENTRE {
            return Ok(());
        }
        let mut centre = store.read(self.centre.id)?;
        for c in &mut centre {
            *c = guarded(*c);
        }
        store.write(self.centre.id, &centre)
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, _score: &str) -> Scored<'t> {
        let (features, distances) = self.distances(tape, x, Mode::Eval);
        let score = match self.objective {
            Objective::OneClass => distances,
            Objective::SoftBoundary(_) => distances - tape.state(&self.radius).square(),
        };
        Scored { score, parts: vec![], reconstruction: None, map: None, features: Some(features) }
    }
}

/// A component of the centre with a magnitude of at least [`DeepSvdd::CENTRE_GUARD`].
fn guarded(c: f32) -> f32 {
    let guard = DeepSvdd::CENTRE_GUARD;
    if c < 0.0 { c.min(-guard) } else { c.max(guard) }
}

/// The q-quantile of ascending values, with linear interpolation as in NumPy.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        let values = [1.0, 2.0, 4.0, 8.0];
        for (q, want) in [(0.0, 1.0), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&values, q) - want).abs() < 1e-12, "{q}");
        }
        assert_eq!(quantile(&[3.0], 0.9), 3.0);
    }

    #[test]
    fn no_component_of_a_centre_is_near_zero() {
        let found = [0.0, -0.0, 0.05, -0.05, 0.3, -0.3].map(guarded);
        assert_eq!(found, [0.1, 0.1, 0.1, -0.1, 0.3, -0.3]);
    }
}
