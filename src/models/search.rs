//! The latent search (Schlegl et al. 2017, §2.2): z moves by gradient steps until G(z) shows the query as
//! well as the generator can. AnoGAN searches from samples of the prior, f-AnoGAN's `--refine` from E(x).

use serde::{Deserialize, Serialize};

use super::common::{Apart, apart};
use super::{Config, ConfigError, System};
use crate::device::{DeviceError, Store};
use crate::nn::Adam;
use crate::program::StateId;
use crate::tape::{Initial, States, Tape, Tensor, Variable};

/// What a search needs of a system. Everything in eval mode.
pub trait Latent {
    /// Images of given latents.
    fn generate<'t>(&self, tape: &'t Tape, z: Tensor<'t>) -> Tensor<'t>;

    /// f(x), `[n, features]`: what does not change while the latent of a query moves.
    fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t>;

    /// How many features [`Latent::features`] has for a sample.
    fn feature_count(&self) -> usize;

    /// What is minimised, and scores at the end, for queries `x` with features f(x) at latents `z`; affine in
    /// `lambda`, if it depends on it.
    fn search_losses<'t>(
        &self,
        tape: &'t Tape,
        score: &str,
        lambda: f32,
        x: Tensor<'t>,
        features: Tensor<'t>,
        z: Tensor<'t>,
    ) -> SearchLosses<'t>;

    /// Where a search starts; `None` where it starts from the prior.
    fn encode<'t>(&self, _tape: &'t Tape, _x: Tensor<'t>) -> Option<Tensor<'t>> {
        None
    }

    /// Whether a search from [`Latent::encode`] makes sense of this score: one that is a loss of the latent.
    fn refines(&self, _score: &str) -> bool {
        true
    }
}

/// Losses of a batch of searches, each `[n]`, and the images they are of.
#[derive(Clone, Copy)]
pub struct SearchLosses<'t> {
    /// L(z), a value for each query.
    pub loss: Tensor<'t>,
    /// L_R(z), a value for each query.
    pub residual: Tensor<'t>,
    /// L_D(z), a value for each query.
    pub discrimination: Tensor<'t>,
    /// G(z), in the shape of the queries.
    pub image: Tensor<'t>,
}

/// How the latent of a query is searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchConfig {
    /// Γ, gradient steps on z.
    pub steps: usize,
    /// Starts for each query; the one with the least loss counts.
    pub restarts: usize,
    /// λ, weight of the discrimination loss.
    pub lambda: f32,
    /// Adam's first step size; a tenth of it from 0.4·Γ on, a twentieth from 0.6·Γ on (EGBAD's schedule).
    pub lr: f32,
    /// A query whose loss has not fallen by this fraction within [`SearchConfig::PATIENCE`] steps stops; 0
    /// never.
    pub tolerance: f32,
    /// Keep z in [−1, 1], the support of the uniform prior.
    pub clip_z: bool,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self { steps: 500, restarts: 1, lambda: 0.1, lr: 0.05, tolerance: 0.0, clip_z: false }
    }
}

impl SearchConfig {
    /// Steps of a search, at most.
    pub const MAX_STEPS: usize = 1_000_000;

    /// Steps without progress after which a query counts as converged.
    pub const PATIENCE: f32 = 25.0;

    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=Self::MAX_STEPS).contains(&self.steps) {
            return Err(ConfigError::new("search-steps", self.steps, format!("1 to {}", Self::MAX_STEPS)));
        }
        if !(1..=1024).contains(&self.restarts) {
            return Err(ConfigError::new("restarts", self.restarts, "1 to 1024"));
        }
        if !(0.0..=1.0).contains(&self.lambda) {
            return Err(ConfigError::new("lambda", self.lambda, "between 0 and 1"));
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(ConfigError::new("search-lr", self.lr, "a positive number"));
        }
        if !(0.0..1.0).contains(&self.tolerance) {
            return Err(ConfigError::new("search-tolerance", self.tolerance, "at least 0 and less than 1"));
        }
        Ok(())
    }
}

/// The states of a batch of searches and the programs over them. Every query has its own z, moments and
/// progress; losses are summed, never averaged, over queries, so a batch of B searches is B searches.
#[derive(Debug, Clone)]
pub struct Search {
    config: SearchConfig,
    score: String,
    x: Variable,
    features: Variable,
    z: Variable,
    adam: Adam,
    moments: Vec<Variable>,
    best: Variable,
    since: Variable,
    active: Variable,
    tunable: bool,
}

impl Search {
    /// Registers the states of `n` searches as `search.*`.
    pub fn new(
        states: &mut States,
        system: &dyn System,
        score: &str,
        config: &SearchConfig,
        n: usize,
    ) -> Self {
        Self::named("search", states, system, score, config, n)
    }

    /// As [`Search::new`], and as many searches as may still go on when half of them, a quarter and so on
    /// have converged, under names of their own.
    pub fn levels(
        states: &mut States,
        system: &dyn System,
        score: &str,
        config: &SearchConfig,
        n: usize,
    ) -> Vec<Self> {
        let mut levels = vec![Self::new(states, system, score, config, n)];
        let mut lanes = n;
        while lanes > 1 && config.tolerance > 0.0 {
            lanes = lanes.div_ceil(2);
            levels.push(Self::named(&format!("search{lanes}"), states, system, score, config, lanes));
        }
        levels
    }

    fn named(
        name: &str,
        states: &mut States,
        system: &dyn System,
        score: &str,
        config: &SearchConfig,
        n: usize,
    ) -> Self {
        let zero = Initial::Constant(0.0);
        let sizes = system.config();
        let count = system.latent().map_or_else(|| sizes.features(), Latent::feature_count);
        let x = states.add(format!("{name}.x"), &sizes.images(n), zero.clone());
        let features = states.add(format!("{name}.features"), &[n, count], zero.clone());
        let z = states.add(format!("{name}.z"), &[n, sizes.latent], zero.clone());
        let first = states.entries().len();
        let adam = Adam::new(states, &format!("{name}.adam"), vec![z.clone()], config.lr, [0.9, 0.999]);
        let moments = states.variables().skip(first).collect();
        let prefix = name;
        let mut per_query = |name: &str| states.add(format!("{prefix}.{name}"), &[n], zero.clone());
        let (best, since, active) = (per_query("best"), per_query("since"), per_query("active"));
        let score = score.to_owned();
        let config = config.clone();
        Self { config, score, x, features, z, adam, moments, best, since, active, tunable: false }
    }

    /// The same search with Γ, λ and the first step size as inputs `steps`, `lambda` and `lr`, `[1]` each, of
    /// its step and its end, for whoever moves them while it goes on.
    #[must_use]
    pub fn tunable(self) -> Self {
        Self { tunable: true, ..self }
    }

    /// Searches side by side.
    pub fn lanes(&self) -> usize {
        self.z.shape[0]
    }

    /// The latents.
    pub(super) fn z(&self) -> StateId {
        self.z.id
    }

    /// Which searches go on: 1 for each of those, else 0.
    pub(super) fn active(&self) -> StateId {
        self.active.id
    }

    /// Continues the searches `lanes` of `self` as the first ones of `to`, whose others stand still.
    pub(super) fn hand_over(&self, to: &Self, lanes: &[usize], store: &Store) -> Result<(), DeviceError> {
        let all = |s: &Self| {
            let own = [&s.x, &s.features, &s.z, &s.best, &s.since, &s.active].map(Clone::clone);
            own.into_iter().chain(s.moments.iter().cloned()).collect::<Vec<_>>()
        };
        for (from, to_variable) in all(self).iter().zip(&all(to)) {
            let values = store.read(from.id)?;
            // The count of steps is one for all.
            if from.shape == to_variable.shape {
                store.write(to_variable.id, &values)?;
                continue;
            }
            let row = values.len() / self.lanes();
            let rows = lanes.iter().chain(std::iter::repeat(&lanes[lanes.len() - 1])).take(to.lanes());
            let mut moved: Vec<f32> =
                rows.flat_map(|&lane| values[lane * row..][..row].iter().copied()).collect();
            if from.id == self.active.id {
                moved[lanes.len()..].fill(0.0);
            }
            store.write(to_variable.id, &moved)?;
        }
        Ok(())
    }

    /// Starts the searches: inputs `x` and `z`, the latter left out where they start from E(x); f(x) is
    /// computed here, once.
    pub fn prepare(&self, tape: &Tape, model: &dyn Latent, encode: bool) {
        let x = tape.input("x", &self.x.shape);
        tape.assign(&self.x, x);
        tape.assign(&self.features, model.features(tape, x));
        let encoded = if encode { model.encode(tape, x) } else { None };
        tape.assign(&self.z, encoded.unwrap_or_else(|| tape.input("z", &self.z.shape)));
        for zeroed in self.moments.iter().chain([&self.since]) {
            tape.assign(zeroed, tape.full(0.0, &zeroed.shape));
        }
        tape.assign(&self.best, tape.full(f32::MAX, &self.best.shape));
        tape.assign(&self.active, tape.full(1.0, &self.active.shape));
    }

    fn losses<'t>(&self, tape: &'t Tape, model: &dyn Latent) -> SearchLosses<'t> {
        let (x, features, z) = (tape.state(&self.x), tape.state(&self.features), tape.state(&self.z));
        let losses = |lambda| model.search_losses(tape, &self.score, lambda, x, features, z);
        if !self.tunable {
            return losses(self.config.lambda);
        }
        // L is affine in λ: what lies between its two ends is the same for both, and recorded once.
        let (from, to) = (losses(0.0), losses(1.0));
        SearchLosses { loss: from.loss + (to.loss - from.loss) * tape.input("lambda", &[1]), ..from }
    }

    /// The step size after `t` steps, `[1]`.
    fn rate<'t>(&self, tape: &'t Tape, t: Tensor<'t>) -> Tensor<'t> {
        if self.tunable {
            let (total, lr) = (tape.input("steps", &[1]), tape.input("lr", &[1]));
            let reached = |fraction: f32| (t - (total * fraction - 0.5)).step();
            return (1.0 - reached(0.4) * 0.9 - reached(0.6) * 0.05) * lr;
        }
        let total = self.config.steps as f32;
        let reached = |fraction: f32| (t - (fraction * total - 0.5)).step();
        (1.0 - reached(0.4) * 0.9 - reached(0.6) * 0.05) * self.config.lr
    }

    /// One gradient step on z; outputs the number of searches that go on as `active`.
    pub fn step(&self, tape: &Tape, model: &dyn Latent) {
        let z = tape.state(&self.z);
        let loss = self.losses(tape, model).loss;
        let gradient = tape.grad(loss.sum_all(), &[z])[0];
        let t = tape.state(&self.moments[self.moments.len() - 1]);
        let lr = self.rate(tape, t);
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
            moved = active.reshape(&[active.len(), 1]).select(moved, z);
            tape.output("active", active.sum_all());
        }
        tape.assign(&self.z, moved);
    }

    /// Losses, images and residual maps at the current z: outputs `loss`, `residual`, `discrimination`,
    /// `reconstruction`, `map` (mean over channels), `z`, and as `score` the loss.
    pub fn finish(&self, tape: &Tape, model: &dyn Latent) {
        self.outputs(tape, self.losses(tape, model), None);
    }

    /// As [`Search::finish`]; with the name of a score that is common to all systems, score and map are those
    /// of the images found, and the loss only chooses among restarts.
    pub(super) fn finish_by(
        &self,
        tape: &Tape,
        model: &dyn Latent,
        sizes: &Config,
        common: Option<&str>,
    ) -> Result<(), ConfigError> {
        let losses = self.losses(tape, model);
        let apart = match common {
            None => None,
            Some(name) => {
                let features = [tape.state(&self.features), model.features(tape, losses.image)];
                Some(apart(name, sizes, tape.state(&self.x), losses.image, Some(features))?)
            }
        };
        self.outputs(tape, losses, apart);
        Ok(())
    }

    fn outputs<'t>(&self, tape: &'t Tape, losses: SearchLosses<'t>, apart: Option<Apart<'t>>) {
        let SearchLosses { loss, residual, discrimination, image } = losses;
        let (score, map) = apart.unwrap_or((loss, None));
        let map = map.unwrap_or_else(|| (tape.state(&self.x) - image).abs().mean(&[1]));
        let outputs = [
            ("loss", loss),
            ("score", score),
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
