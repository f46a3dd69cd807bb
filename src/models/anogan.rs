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

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::dcgan::{Config, Discriminator, Generator};
use crate::nn::{self, Adam, Mode, bce_with_logits};
use crate::tape::{Initial, RandomState, States, Tape, Tensor, Variable};

/// How training goes; defaults are the paper's and DCGAN's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Adam's step size.
    pub lr: f32,
    /// Adam's decay rates.
    pub betas: [f32; 2],
}

impl Default for Training {
    fn default() -> Self {
        Self { lr: 2e-4, betas: [0.5, 0.999] }
    }
}

/// The two networks.
#[derive(Debug, Clone)]
pub struct AnoGan {
    /// Sizes.
    pub config: Config,
    /// G.
    pub generator: Generator,
    /// D.
    pub discriminator: Discriminator,
}

impl AnoGan {
    /// Name in commands and model files.
    pub const NAME: &'static str = "anogan";
    /// Names of what [`AnoGan::train_step`] returns.
    pub const LOSSES: [&'static str; 4] = ["loss_d", "loss_g", "d_real", "d_fake"];

    /// Registers the parameters as `generator.*` and `discriminator.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for sizes outside their range.
    pub fn new(states: &mut States, config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            config: config.clone(),
            generator: Generator::new(states, "generator", config),
            discriminator: Discriminator::new(states, "discriminator", config),
        })
    }

    /// One step of adversarial training on real images `x` with latents `z`: first D, then G through the D just
    /// updated. Non-saturating losses, batch means: L_D = BCE(D(x), 1) + BCE(D(G(z)), 0), L_G = BCE(D(G(z)), 1).
    pub fn train_step<'t>(
        &self,
        tape: &'t Tape,
        x: Tensor<'t>,
        z: Tensor<'t>,
        optimisers: &Optimisers,
    ) -> Vec<(&'static str, Tensor<'t>)> {
        let (g, d) = (&self.generator, &self.discriminator);
        let fake = g.forward(tape, z, Mode::Train);

        let real_logits = d.forward(tape, x, Mode::Train);
        let fake_logits = d.forward(tape, fake.stop_gradient(), Mode::Train);
        let loss_d = bce_with_logits(real_logits, 1.0) + bce_with_logits(fake_logits, 0.0);
        optimisers.discriminator.minimise(tape, loss_d);

        let loss_g = bce_with_logits(d.forward(tape, fake, Mode::Train), 1.0);
        optimisers.generator.minimise(tape, loss_g);

        let posterior = |logits: Tensor<'t>| logits.sigmoid().mean_all();
        let values = [loss_d, loss_g, posterior(real_logits), posterior(fake_logits)];
        Self::LOSSES.into_iter().zip(values).collect()
    }

    /// Images of given latents, batch norm in eval mode.
    pub fn generate<'t>(&self, tape: &'t Tape, z: Tensor<'t>) -> Tensor<'t> {
        self.generator.forward(tape, z, Mode::Eval)
    }

    /// P_D: 1 − D(x), the discriminator's own judgement, one value for each sample.
    pub fn posterior_score<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let logits = self.discriminator.forward(tape, x, Mode::Eval);
        1.0 - logits.reshape(&[logits.len()]).sigmoid()
    }

    /// f(x) flattened, batch norm in eval mode.
    pub fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        self.discriminator.features(tape, x, Mode::Eval).flatten()
    }

    /// L_R, L_D (by `score`) and G(z) for each query, the losses as `[n]`; sums over pixels and features, as printed.
    pub fn search_losses<'t>(
        &self,
        tape: &'t Tape,
        score: Score,
        x: Tensor<'t>,
        features: Tensor<'t>,
        z: Tensor<'t>,
    ) -> [Tensor<'t>; 3] {
        let image = self.generate(tape, z);
        let residual = (x - image).abs().sum_per_sample();
        let found = self.discriminator.features(tape, image, Mode::Eval);
        let discrimination = match score {
            Score::Reference => {
                let logits = self.discriminator.logits(tape, found);
                let logits = logits.reshape(&[logits.len()]);
                logits.softplus() - logits
            }
            Score::AnoGan | Score::Pd => (features - found.flatten()).abs().sum_per_sample(),
        };
        [residual, discrimination, image]
    }
}

/// Adam for each network, and the source of latents.
#[derive(Debug, Clone)]
pub struct Optimisers {
    /// G's.
    pub generator: Adam,
    /// D's.
    pub discriminator: Adam,
    /// Latents.
    pub random: RandomState,
}

impl Optimisers {
    /// Registers the training states of a model.
    pub fn new(states: &mut States, model: &AnoGan, training: Training, seed: u64) -> Self {
        let Training { lr, betas } = training;
        Self {
            generator: Adam::new(states, "adam_g", model.generator.parameters(), lr, betas),
            discriminator: Adam::new(states, "adam_d", model.discriminator.parameters(), lr, betas),
            random: nn::random_state(states, "random", seed),
        }
    }
}

/// Which of the paper's scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// A(x) with feature matching, the paper's proposal.
    #[serde(rename = "anogan")]
    AnoGan,
    /// Â(x) with the reference discrimination loss (row GAN_R).
    Reference,
    /// 1 − D(x), without any search (row P_D).
    Pd,
}

/// The search in latent space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchConfig {
    /// Score, which also chooses the loss that is minimised.
    pub score: Score,
    /// Γ, gradient steps on z.
    pub steps: usize,
    /// Starts for each query; the one with the least loss counts.
    pub restarts: usize,
    /// λ, weight of the discrimination loss.
    pub lambda: f32,
    /// Adam's first step size; a tenth of it from 0.4·Γ on, a twentieth from 0.6·Γ on (EGBAD's schedule).
    pub lr: f32,
    /// A query whose loss has not fallen by this fraction within [`SearchConfig::PATIENCE`] steps stops; 0 never.
    pub tolerance: f32,
    /// Keep z in [−1, 1], the support of the uniform prior.
    pub clip_z: bool,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            score: Score::AnoGan,
            steps: 500,
            restarts: 1,
            lambda: 0.1,
            lr: 0.05,
            tolerance: 0.0,
            clip_z: false,
        }
    }
}

impl SearchConfig {
    /// Steps without progress after which a query counts as converged.
    pub const PATIENCE: f32 = 25.0;

    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |field, value: String, allowed| Err(ConfigError { field, value, allowed });
        if !(1..=1_000_000).contains(&self.steps) {
            return bad("search-steps", self.steps.to_string(), "1 to 1000000");
        }
        if !(1..=1024).contains(&self.restarts) {
            return bad("restarts", self.restarts.to_string(), "1 to 1024");
        }
        if !(0.0..=1.0).contains(&self.lambda) {
            return bad("lambda", self.lambda.to_string(), "between 0 and 1");
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return bad("search-lr", self.lr.to_string(), "a positive number");
        }
        if !(0.0..1.0).contains(&self.tolerance) {
            return bad("search-tolerance", self.tolerance.to_string(), "at least 0 and less than 1");
        }
        Ok(())
    }
}

/// The states of a batch of searches and the programs over them. Every query has its own z, moments and progress;
/// losses are summed, never averaged, over queries, so a batch of B searches is B searches.
#[derive(Debug, Clone)]
pub struct Search {
    config: SearchConfig,
    x: Variable,
    features: Variable,
    z: Variable,
    adam: Adam,
    moments: Vec<Variable>,
    best: Variable,
    since: Variable,
    active: Variable,
}

impl Search {
    /// Registers the states of `n` searches as `search.*`.
    pub fn new(states: &mut States, model: &AnoGan, config: &SearchConfig, n: usize) -> Self {
        let zero = Initial::Constant(0.0);
        let x = states.add("search.x", &model.config.images(n), zero.clone());
        let features = states.add("search.features", &[n, model.config.features()], zero.clone());
        let z = states.add("search.z", &[n, model.config.latent], zero.clone());
        let first = states.entries().len();
        let adam = Adam::new(states, "search.adam", vec![z.clone()], config.lr, [0.9, 0.999]);
        let moments =
            (first..states.entries().len()).map(|i| states.variable(crate::program::StateId(i))).collect();
        let mut per_query = |name: &str| states.add(format!("search.{name}"), &[n], zero.clone());
        let (best, since, active) = (per_query("best"), per_query("since"), per_query("active"));
        Self { config: config.clone(), x, features, z, adam, moments, best, since, active }
    }

    /// Starts the searches: inputs `x` and `z`; f(x) is computed here, once.
    pub fn prepare(&self, tape: &Tape, model: &AnoGan) {
        let x = tape.input("x", &self.x.shape);
        tape.assign(&self.x, x);
        tape.assign(&self.features, model.features(tape, x));
        tape.assign(&self.z, tape.input("z", &self.z.shape));
        for zeroed in self.moments.iter().chain([&self.since]) {
            tape.assign(zeroed, tape.full(0.0, &zeroed.shape));
        }
        tape.assign(&self.best, tape.full(f32::MAX, &self.best.shape));
        tape.assign(&self.active, tape.full(1.0, &self.active.shape));
    }

    fn losses<'t>(&self, tape: &'t Tape, model: &AnoGan) -> [Tensor<'t>; 4] {
        let (x, features, z) = (tape.state(&self.x), tape.state(&self.features), tape.state(&self.z));
        let [residual, discrimination, image] = model.search_losses(tape, self.config.score, x, features, z);
        let lambda = self.config.lambda;
        let loss = residual * (1.0 - lambda) + discrimination * lambda;
        [loss, residual, discrimination, image]
    }

    /// One gradient step on z; outputs the number of searches that go on as `active`.
    pub fn step(&self, tape: &Tape, model: &AnoGan) {
        let z = tape.state(&self.z);
        let [loss, ..] = self.losses(tape, model);
        let gradient = tape.grad(loss.sum_all(), &[z])[0];
        let total = self.config.steps as f32;
        let t = tape.state(&self.moments[self.moments.len() - 1]);
        let reached = |fraction: f32| (t - (fraction * total - 0.5)).step();
        let lr = (1.0 - reached(0.4) * 0.9 - reached(0.6) * 0.05) * self.config.lr;
        self.adam.apply_at(tape, &[gradient], lr);
        let mut moved = tape.state(&self.z);
        if self.config.clip_z {
            moved = moved.clamp(-1.0, 1.0);
        }
        if self.config.tolerance > 0.0 {
            let (best, since, active) =
                (tape.state(&self.best), tape.state(&self.since), tape.state(&self.active));
            let improved = (best * (1.0 - self.config.tolerance)).greater(loss);
            let since = (since + 1.0) * (1.0 - improved);
            tape.assign(&self.best, best.minimum(loss));
            tape.assign(&self.since, since);
            let active = active * (SearchConfig::PATIENCE - since).step();
            tape.assign(&self.active, active);
            moved = z + (moved - z) * active.reshape(&[active.len(), 1]);
            tape.output("active", active.sum_all());
        }
        tape.assign(&self.z, moved);
    }

    /// Losses, images and residual maps at the current z: outputs `loss`, `residual`, `discrimination`,
    /// `reconstruction`, `map` (mean over channels) and `z`.
    pub fn finish(&self, tape: &Tape, model: &AnoGan) {
        let [loss, residual, discrimination, image] = self.losses(tape, model);
        let map = (tape.state(&self.x) - image).abs().mean(&[1]);
        let outputs = [
            ("loss", loss),
            ("residual", residual),
            ("discrimination", discrimination),
            ("reconstruction", image),
            ("map", map),
            ("z", tape.state(&self.z)),
        ];
        for (name, value) in outputs {
            tape.output(name, value);
        }
    }
}
