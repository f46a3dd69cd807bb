//! Gaussians on features: one at each place of the image, and the Mahalanobis distance from it.
//!
//! PaDiM (Defard, Setkov, Loesch & Audigier, ICPR 2021, arXiv 2011.08785) without a network that was trained
//! on other images: features are those of [`multiscale`](super::multiscale).
//!
//! | | formula | source |
//! |---|---|---|
//! | features | f_p(x) at place p, at unit variance, projected to d numbers | §III-A; there d features are drawn |
//! | neighbours | N(p): the places at most `neighbours` rows and columns from p | |
//! | mean | μ_p = mean of f_q(x) over x and q ∈ N(p) | §III-B |
//! | covariance | S_p, of the same sample | §III-B, (1) |
//! | shrunk | Σ_p = (1 − ρ_p)·S_p + ρ_p·(tr S_p / d)·I + ε·I | Ledoit & Wolf 2004, §3; ε: (1) |
//! | distance | M_p(x)² = (f_p(x) − μ_p)ᵀ Σ_p⁻¹ (f_p(x) − μ_p) | (2) |
//! | `max`, `mean` | max_p M_p(x), mean_p M_p(x) | §III-C |
//! | map | M, enlarged between places | §III-C |
//!
//! ρ is the least of 1 and β/δ with, over the n vectors v of the sample less their mean, β = (mean ‖v‖⁴ −
//! ‖S‖²) / n and δ = ‖S‖² − (tr S)²/d: what scikit-learn's `LedoitWolf` has.
//!
//! The fit is three passes in which nothing grows with the number of images: `scale` for the features' mean
//! and variance; `mean` for the mean a_q at each place alone; `moments` for the moments of v = f_q − a_q
//! there: E vvᵀ, E ‖v‖²v and E ‖v‖⁴. From those of N(p) follow exactly the moments about μ_p, in f64 on the
//! host.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::multiscale::{DIMENSIONS, FEATURES, Multiscale, SCALES, Standard, blend, count};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, OptionInfo, OptionKind, Options, Prior};
use crate::device::{DeviceError, Store};
use crate::tape::{Initial, Sampling, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "feature-gaussian",
    title: "a Gaussian of features at each place",
    paper: "Defard, Setkov, Loesch & Audigier, ICPR 2021; shrinkage of Ledoit & Wolf 2004",
    url: "https://arxiv.org/abs/2011.08785",
    scores: &[
        Named { name: "max", about: "greatest Mahalanobis distance of a place" },
        Named { name: "mean", about: "mean Mahalanobis distance of all places" },
    ],
    options: &[
        FEATURES,
        SCALES,
        DIMENSIONS,
        OptionInfo {
            key: "neighbours",
            default: "0",
            kind: OptionKind::Whole(0, 4),
            help: "rows and columns around a place whose features its Gaussian is fitted to as well",
        },
        OptionInfo {
            key: "floor",
            default: "0.01",
            kind: OptionKind::Number(1e-6, 100.0),
            help: "added to every variance, in units of the features' variance over all places",
        },
    ],
    defaults: Defaults {
        batch: 32,
        lr: 1e-4,
        betas: [0.0, 0.9],
        latent: 128,
        prior: Prior::Normal,
        length: Length::Epochs(50),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(FeatureGaussian::new(states, config, options)?)),
};

/// Features and a Gaussian at each of P places.
#[derive(Debug, Clone)]
pub struct FeatureGaussian {
    features: Multiscale,
    standard: Standard,
    /// μ, `[P, 1, d]`.
    pub means: Variable,
    /// W with WᵀW = Σ⁻¹, lower triangles, `[P, d, d]`.
    pub whitening: Variable,
    neighbours: usize,
    floor: f64,
    learning: Option<Moments>,
}

/// Moments at each place alone.
#[derive(Debug, Clone)]
struct Moments {
    /// a, `[P, 1, d]`.
    mean: Variable,
    /// E vvᵀ, `[P, d, d]`.
    second: Variable,
    /// E ‖v‖²v, `[P, 1, d]`.
    third: Variable,
    /// E ‖v‖⁴, `[P, 1, 1]`.
    fourth: Variable,
    /// Images seen in the pass of the mean and in that of the moments, `[1]` each.
    seen: [Variable; 2],
}

impl FeatureGaussian {
    /// The most numbers of all Σ together: 1 GiB.
    pub const MOST: usize = 1 << 28;

    /// Registers the network as `features.*`, the features' scale as `standard.*`, and the Gaussians as
    /// `gaussian.means` and `gaussian.whitening`.
    ///
    /// # Errors
    /// [`ConfigError`] for a network of a table, and for covariances that are too large together.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        let features = Multiscale::new(states, config, options)?;
        let standard = Standard::new(states, "standard", features.at_place(), options.whole("dimensions"));
        let [height, width] = features.grid();
        let (p, d) = (height * width, standard.numbers());
        if p * d * d > Self::MOST {
            let fits = ((Self::MOST / p) as f64).sqrt() as usize;
            let allowed = format!("at most {fits} with {height}×{width} places, or `size` smaller");
            return Err(ConfigError::new("option dimensions", d, allowed));
        }
        let zero = Initial::Constant(0.0);
        Ok(Self {
            features,
            standard,
            means: states.add("gaussian.means", &[p, 1, d], zero.clone()),
            whitening: states.add("gaussian.whitening", &[p, d, d], zero),
            neighbours: options.whole("neighbours"),
            floor: f64::from(options.number("floor")),
            learning: None,
        })
    }

    /// The features at each place, `[P, n, d]`.
    fn describe<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let (n, p, d) = (x.shape()[0], self.means.shape[0], self.means.shape[2]);
        let rows = self.standard.apply(tape, self.features.places(tape, x));
        rows.reshape(&[n, p, d]).permute(&[1, 0, 2])
    }

    /// M, `[n, P]`.
    pub fn distances<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let (n, p) = (x.shape()[0], self.means.shape[0]);
        let apart = self.describe(tape, x) - tape.state(&self.means);
        let white = apart.matmul_with(tape.state(&self.whitening), false, true);
        white.square().sum(&[2]).reshape(&[p, n]).transpose().sqrt()
    }

    fn fit(&self, moments: &Moments, store: &Store) -> Result<(), DeviceError> {
        let read = |variable: &Variable| store.read(variable.id);
        let [mean, second, third, fourth] =
            [&moments.mean, &moments.second, &moments.third, &moments.fourth].map(read);
        let at = Alone {
            d: self.means.shape[2],
            grid: self.features.grid(),
            images: f64::from(read(&moments.seen[1])?[0]),
            mean: mean?,
            second: second?,
            third: third?,
            fourth: fourth?,
        };
        let d = at.d;
        let mut means = vec![0.0_f32; self.means.shape.iter().product()];
        let mut whitening = vec![0.0_f32; self.whitening.shape.iter().product()];
        let places = means.par_chunks_mut(d).zip(whitening.par_chunks_mut(d * d)).enumerate();
        places.for_each(|(p, (mean, whitening))| {
            let Gaussian { mean: found, covariance, .. } = at.pooled(p, self.neighbours);
            mean.iter_mut().zip(found.iter()).for_each(|(to, &from)| *to = from as f32);
            let covariance = covariance + DMatrix::identity(d, d) * self.floor;
            let inverse =
                covariance.cholesky().and_then(|c| c.l().solve_lower_triangular(&DMatrix::identity(d, d)));
            match inverse {
                // nalgebra stores columns.
                Some(w) => whitening.iter_mut().zip(w.transpose().iter()).for_each(|(to, &w)| *to = w as f32),
                // Features that are not finite: found by the check of the checkpoint that is written next.
                None => whitening.fill(f32::NAN),
            }
        });
        store.write(self.means.id, &means)?;
        store.write(self.whitening.id, &whitening)
    }
}

impl System for FeatureGaussian {
    fn config(&self) -> &Config {
        &self.features.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, seed: u64) {
        self.features.register(states, training, seed);
        self.standard.register(states);
        let [p, _, d] = [0, 1, 2].map(|i| self.means.shape[i]);
        let mut add = |name: &str, shape: &[usize]| {
            states.add(format!("moments.{name}"), shape, Initial::Constant(0.0))
        };
        self.learning = Some(Moments {
            mean: add("mean", &[p, 1, d]),
            second: add("second", &[p, d, d]),
            third: add("third", &[p, 1, d]),
            fourth: add("fourth", &[p, 1, 1]),
            seen: ["mean_seen", "seen"].map(|name| add(name, &[1])),
        });
    }

    fn also_tried(&self) -> Option<[&'static str; 2]> {
        self.features.also_tried()
    }

    fn needs_host(&self) -> bool {
        true
    }

    fn stages(&self) -> Vec<Stage> {
        let passes = ["scale", "mean", "moments"].map(|name| Stage::simple(name, Share::Passes(1)));
        [self.features.stages(), passes.to_vec()].concat()
    }

    fn record<'t>(&self, tape: &'t Tape, stage: usize, part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(moments) = &self.learning else { return vec![] };
        let n = x.shape()[0] as f32;
        match stage.checked_sub(self.features.stages().len()) {
            None => return self.features.record(tape, part, x),
            Some(0) => self.standard.observe(tape, self.features.places(tape, x)),
            Some(1) => {
                let share = count(tape, &moments.seen[0], n);
                blend(tape, &moments.mean, self.describe(tape, x).mean(&[1]), share);
            }
            Some(_) => {
                let share = count(tape, &moments.seen[1], n);
                let v = self.describe(tape, x) - tape.state(&moments.mean);
                let norms = v.square().sum(&[2]);
                blend(tape, &moments.second, v.matmul_with(v, true, false) * (1.0 / n), share);
                blend(tape, &moments.third, (v * norms).mean(&[1]), share);
                blend(tape, &moments.fourth, norms.square().mean(&[1]), share);
            }
        }
        vec![]
    }

    /// Called again where a finished training is resumed: nothing that it reads changes.
    fn after_stage(&self, stage: usize, store: &Store) -> Result<(), DeviceError> {
        match &self.learning {
            Some(moments) if stage + 1 == self.stages().len() => self.fit(moments, store),
            _ => Ok(()),
        }
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let distances = self.distances(tape, x);
        let n = x.shape()[0];
        let [max, mean] = [distances.max(&[1]), distances.mean(&[1])].map(|s| s.reshape(&[n]));
        Scored {
            score: if score == "mean" { mean } else { max },
            parts: vec![("max", max), ("mean", mean)],
            reconstruction: None,
            map: enlarged(distances, self.features.grid(), self.config().extent()),
            features: Some(distances),
        }
    }
}

/// A map of places, `[n, places]`, at the size of the samples; `None` where there is one place.
pub(super) fn enlarged<'t>(
    places: Tensor<'t>,
    [height, width]: [usize; 2],
    extent: [usize; 2],
) -> Option<Tensor<'t>> {
    let n = places.shape()[0];
    let map = || places.reshape(&[n, 1, height, width]).resize(extent, Sampling::Linear);
    (height * width > 1).then(|| map().reshape(&[n, extent[0], extent[1]]))
}

/// What the passes found at each place alone: the moments, on the host.
pub struct Alone {
    /// Features of a place.
    pub d: usize,
    /// Rows and columns of places.
    pub grid: [usize; 2],
    /// Images seen.
    pub images: f64,
    /// a, `[P, d]`.
    pub mean: Vec<f32>,
    /// E vvᵀ, `[P, d, d]`.
    pub second: Vec<f32>,
    /// E ‖v‖²v, `[P, d]`.
    pub third: Vec<f32>,
    /// E ‖v‖⁴, `[P]`.
    pub fourth: Vec<f32>,
}

/// A Gaussian with a shrunk covariance.
pub struct Gaussian {
    /// μ, of d numbers.
    pub mean: DVector<f64>,
    /// Σ without ε, d×d.
    pub covariance: DMatrix<f64>,
    /// ρ, 0 to 1.
    pub shrinkage: f64,
}

impl Alone {
    /// The Gaussian of place `p` and of those at most `reach` rows and columns from it.
    pub fn pooled(&self, p: usize, reach: usize) -> Gaussian {
        let (d, [height, width]) = (self.d, self.grid);
        let around = |at: usize, side: usize| at.saturating_sub(reach)..(at + reach + 1).min(side);
        let (row, column) = (p / width, p % width);
        let near: Vec<usize> =
            around(row, height).flat_map(|i| around(column, width).map(move |j| i * width + j)).collect();
        let vector = |values: &[f32], q: usize| {
            DVector::from_iterator(d, values[q * d..][..d].iter().map(|&v| f64::from(v)))
        };
        let share = 1.0 / near.len() as f64;
        let mut mean = DVector::zeros(d);
        near.iter().for_each(|&q| mean += vector(&self.mean, q) * share);
        let (mut covariance, mut fourth) = (DMatrix::zeros(d, d), 0.0);
        for &q in &near {
            // About μ instead of a, vectors are v + b.
            let b = vector(&self.mean, q) - &mean;
            let second = self.second[q * d * d..][..d * d].iter().map(|&v| f64::from(v));
            let second = DMatrix::from_iterator(d, d, second);
            let (own, b2) = (second.trace(), b.norm_squared());
            // E ‖v + b‖⁴ = E (‖v‖² + 2vᵀb + ‖b‖²)², with E v = 0.
            fourth += share
                * (f64::from(self.fourth[q])
                    + 4.0 * (&second * &b).dot(&b)
                    + b2 * b2
                    + 4.0 * vector(&self.third, q).dot(&b)
                    + 2.0 * own * b2);
            covariance += (second + &b * b.transpose()) * share;
        }
        let n = self.images * near.len() as f64;
        let (trace, squares) = (covariance.trace(), covariance.norm_squared());
        let level = trace / d as f64;
        let delta = squares - trace * level;
        let beta = ((fourth - squares) / n.max(1.0)).clamp(0.0, delta.max(0.0));
        let shrinkage = if beta > 0.0 { beta / delta } else { 0.0 };
        let covariance = covariance * (1.0 - shrinkage) + DMatrix::identity(d, d) * (shrinkage * level);
        Gaussian { mean, covariance, shrinkage }
    }
}
