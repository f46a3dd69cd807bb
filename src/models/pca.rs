//! Principal component analysis (Pearson 1901; Hotelling 1933), the linear autoencoder and the baseline to
//! beat.
//!
//! | | formula | source |
//! |---|---|---|
//! | reconstruction | x̂ = μ + VᵀV(x − μ), V the k directions of greatest variance λ, in rows | |
//! | `spe` | ‖x − x̂‖², the squared prediction error Q | Jackson & Mudholkar 1979 |
//! | `t2` | Σ_i (v_i·(x − μ))² / λ_i | Hotelling 1931 |
//! | map | (x − x̂)², mean over channels | |
//!
//! V comes from randomised subspace iteration (Halko, Martinsson & Tropp, SIAM Review 2011, algorithms 4.4
//! and 5.3), which reads the images a batch at a time and keeps ℓ = k + 10 directions, however many images
//! there are. Its stages are passes over the data:
//!
//! 1. `mean`: μ;
//! 2. `power`, several times: Y = C·Q with the covariance C = E[(x − μ)(x − μ)ᵀ], never formed; then Q ←
//!    QR(Y) on the host;
//! 3. `rotate`: B = QᵀCQ, ℓ×ℓ; then B = UΛUᵀ on the host, V = (QU)ᵀ.

use nalgebra::{DMatrix, SymmetricEigen};

use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, OptionInfo, OptionKind, Prior};
use crate::device::{DeviceError, Store};
use crate::tape::{Initial, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "pca",
    title: "principal components",
    paper: "Pearson 1901; Halko, Martinsson & Tropp, SIAM Review 2011",
    url: "https://arxiv.org/abs/0909.4061",
    scores: &[
        Named { name: "spe", about: "squared prediction error, what the components do not explain" },
        Named { name: "t2", about: "Hotelling's T², how unusual the components are" },
    ],
    options: &[
        OptionInfo {
            key: "components",
            default: "0",
            kind: OptionKind::Whole(0, 512),
            help: "directions kept; 0 for as many as the latent, at most half the values of a sample",
        },
        POWER,
    ],
    defaults: Defaults {
        batch: 64,
        lr: 1e-3,
        betas: [0.9, 0.999],
        latent: 32,
        prior: Prior::Normal,
        length: Length::Epochs(5),
    },
    tables: None,
    new: |states, config, options| {
        let components = match options.whole("components") {
            0 => (config.sample_len() / 2).clamp(1, config.latent),
            given => given,
        };
        Ok(Box::new(Pca::new(states, config, components, options.whole("power"))?))
    },
};

/// Passes of the subspace iteration.
pub(super) const POWER: OptionInfo = OptionInfo {
    key: "power",
    default: "3",
    kind: OptionKind::Whole(1, 50),
    help: "passes over the data that turn the directions to the principal ones",
};

/// μ, V and λ.
#[derive(Debug, Clone)]
pub struct Pca {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    /// μ, `[1, d]`.
    pub mean: Variable,
    /// V, `[k, d]`, orthonormal rows in order of falling variance.
    pub directions: Variable,
    /// λ, `[1, k]`.
    pub variances: Variable,
    power: usize,
    learning: Option<Learning>,
}

/// What only training needs.
#[derive(Debug, Clone)]
struct Learning {
    /// Qᵀ, `[ℓ, d]`.
    basis: Variable,
    /// Yᵀ, `[ℓ, d]`.
    product: Variable,
    /// B, `[ℓ, ℓ]`.
    small: Variable,
    /// Images seen in this stage, `[1]`.
    seen: Variable,
}

impl Pca {
    /// Directions beyond those asked for; they take up what a random start misses.
    pub const OVERSAMPLING: usize = 10;

    /// Registers `mean`, `directions` and `variances`.
    ///
    /// # Errors
    /// [`ConfigError`] where there are not fewer components than values in a sample.
    pub fn new(
        states: &mut States,
        config: &Config,
        components: usize,
        power: usize,
    ) -> Result<Self, ConfigError> {
        let d = config.sample_len();
        if components == 0 || components >= d {
            let allowed = format!("from 1 to {}, less than the {d} values of a sample", d.max(2) - 1);
            return Err(ConfigError::new("option components", components, allowed));
        }
        Ok(Self {
            config: config.clone(),
            mean: states.add("mean", &[1, d], Initial::Constant(0.0)),
            directions: states.add("directions", &[components, d], Initial::Constant(0.0)),
            variances: states.add("variances", &[1, components], Initial::Constant(1.0)),
            power,
            learning: None,
        })
    }

    /// Registers what training needs.
    pub(super) fn register(&mut self, states: &mut States) {
        let [components, d] = [self.directions.shape[0], self.directions.shape[1]];
        let l = (components + Self::OVERSAMPLING).min(d);
        let start = Initial::Normal { mean: 0.0, std: 1.0 };
        let basis = states.add("pca.basis", &[l, d], start);
        let mut zeros = |name: &str, shape: &[usize]| states.add(name, shape, Initial::Constant(0.0));
        self.learning = Some(Learning {
            basis,
            product: zeros("pca.product", &[l, d]),
            small: zeros("pca.small", &[l, l]),
            seen: zeros("pca.seen", &[1]),
        });
    }

    /// (x − μ), the coordinates V(x − μ), and x̂, all of `[n, …]`.
    pub fn project<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> [Tensor<'t>; 3] {
        let (mean, v) = (tape.state(&self.mean), tape.state(&self.directions));
        let centred = x.flatten() - mean;
        let coordinates = centred.matmul_with(v, false, true);
        let made = (coordinates.matmul(v) + mean).reshape(&x.shape());
        [centred, coordinates, made]
    }

    /// A running mean over images: each batch moves it by its share of the images seen.
    fn blend<'t>(tape: &'t Tape, into: &Variable, batch: Tensor<'t>, share: Tensor<'t>) {
        let old = tape.state(into);
        tape.assign(into, old + (batch - old) * share.reshape(&[1, 1]));
    }

    fn read(store: &Store, variable: &Variable) -> Result<DMatrix<f64>, DeviceError> {
        let values = store.read(variable.id)?.into_iter().map(f64::from);
        Ok(DMatrix::from_row_iterator(variable.shape[0], variable.shape[1], values))
    }

    fn write(store: &Store, variable: &Variable, matrix: &DMatrix<f64>) -> Result<(), DeviceError> {
        // nalgebra stores columns: those of the transpose are the rows.
        let values: Vec<f32> = matrix.transpose().iter().map(|&v| v as f32).collect();
        store.write(variable.id, &values)
    }

    /// Q ← QR(Y).
    fn orthonormalise(learning: &Learning, store: &Store) -> Result<(), DeviceError> {
        let q = Self::read(store, &learning.product)?.transpose().qr().q();
        Self::write(store, &learning.basis, &q.transpose())?;
        Self::clear(store, &learning.product)
    }

    /// B = UΛUᵀ, V = (QU)ᵀ, the k greatest of Λ.
    fn rotate(&self, learning: &Learning, store: &Store) -> Result<(), DeviceError> {
        let n = f64::from(store.read(learning.seen.id)?[0]);
        let b = Self::read(store, &learning.small)? * (n / (n - 1.0).max(1.0));
        if !b.iter().all(|v| v.is_finite()) {
            // What made it is found by the check of the checkpoint that is written next.
            return store.write(self.variances.id, &vec![f32::NAN; self.variances.shape[1]]);
        }
        let eigen = SymmetricEigen::new((&b + b.transpose()) * 0.5);
        let mut order: Vec<_> = (0..eigen.eigenvalues.len()).collect();
        order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
        order.truncate(self.directions.shape[0]);
        let greatest = order.first().map_or(0.0, |&i| eigen.eigenvalues[i]).max(1e-12);
        // Directions without variance (fewer images than directions) count as if they had a millionth of the
        // greatest.
        let variances: Vec<f32> =
            order.iter().map(|&i| eigen.eigenvalues[i].max(1e-6 * greatest) as f32).collect();
        let mut v =
            eigen.eigenvectors.select_columns(&order).transpose() * Self::read(store, &learning.basis)?;
        for mut row in v.row_iter_mut() {
            // Either sign is an eigenvector; the greatest magnitude is positive here.
            let greatest = row.iter().copied().fold(0.0_f64, |a, b| if b.abs() > a.abs() { b } else { a });
            if greatest < 0.0 {
                row.neg_mut();
            }
        }
        store.write(self.variances.id, &variances)?;
        Self::write(store, &self.directions, &v)
    }

    fn clear(store: &Store, variable: &Variable) -> Result<(), DeviceError> {
        store.write(variable.id, &vec![0.0; variable.shape.iter().product()])
    }
}

impl System for Pca {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, _training: Training, _seed: u64) {
        self.register(states);
    }

    fn needs_host(&self) -> bool {
        true
    }

    fn stages(&self) -> Vec<Stage> {
        let pass = |name| Stage::simple(name, Share::Passes(1));
        let power = (0..self.power).map(|_| pass("power"));
        [pass("mean")].into_iter().chain(power).chain([pass("rotate")]).collect()
    }

    fn record<'t>(&self, tape: &'t Tape, stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(learning) = &self.learning else { return vec![] };
        let n = x.shape()[0] as f32;
        let seen = tape.state(&learning.seen) + n;
        tape.assign(&learning.seen, seen);
        let share = seen.recip() * n;
        if stage == 0 {
            Self::blend(tape, &self.mean, x.flatten().mean(&[0]), share);
            return vec![];
        }
        let centred = x.flatten() - tape.state(&self.mean);
        let seen_from = centred.matmul_with(tape.state(&learning.basis), false, true);
        let (other, into) = match stage > self.power {
            false => (centred, &learning.product),
            true => (seen_from, &learning.small),
        };
        Self::blend(tape, into, seen_from.matmul_with(other, true, false) * (1.0 / n), share);
        vec![]
    }

    fn after_stage(&self, stage: usize, store: &Store) -> Result<(), DeviceError> {
        let Some(learning) = &self.learning else { return Ok(()) };
        match stage {
            0 => {}
            _ if stage <= self.power => Self::orthonormalise(learning, store)?,
            // Called again where a finished training is resumed: nothing that it reads may change.
            _ => return self.rotate(learning, store),
        }
        Self::clear(store, &learning.seen)
    }

    /// What is made of a projection is itself.
    fn tells_reconstructions(&self) -> bool {
        false
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let [_, coordinates, made] = self.project(tape, x);
        let scored = Scored::of_errors((x - made).square(), made, coordinates);
        let t2 = (coordinates.square() / tape.state(&self.variances)).sum_per_sample();
        let parts = vec![("spe", scored.score), ("t2", t2)];
        let score = if score == "t2" { t2 } else { scored.score };
        Scored { score, parts, ..scored }
    }
}
