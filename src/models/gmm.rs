//! Gaussian mixture on codes of normal images: the baseline that knows nothing of images but a short
//! description.
//!
//! The description of x is its code z, from [principal components](super::pca) or an
//! [autoencoder](super::ae), with two numbers that say how good the reconstruction x̂ is (Zong et al., DAGMM,
//! ICLR 2018, §3.2): ‖x − x̂‖ / ‖x‖ and the cosine of x and x̂.
//!
//! | | formula |
//! |---|---|
//! | density | p(f) = Σ_k π_k N(f; μ_k, diag σ²_k) |
//! | E step | r_ik = π_k N(f_i; μ_k, σ²_k) / p(f_i) |
//! | M step | N_k = Σ_i r_ik, π_k = N_k / n, μ_k = Σ_i r_ik f_i / N_k, σ²_k = Σ_i r_ik (f_i − μ_k)² / N_k + 10⁻⁶ |
//! | score | −log p(f) |
//!
//! (Dempster, Laird & Rubin 1977; Bishop, PRML, §9.2.) EM starts from k-means++ (Arthur & Vassilvitskii 2007)
//! and runs on the host in f64 over the descriptions of at most [`Gmm::SAMPLE`] training images, each feature
//! at unit variance.

use super::ae::Ae;
use super::nets::Nets;
use super::pca::{self, Pca};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, OptionInfo, OptionKind, Options, Prior};
use crate::device::{DeviceError, Executable, Store};
use crate::nn::Mode;
use crate::tape::{Initial, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "gmm",
    title: "Gaussian mixture on codes",
    paper: "Dempster, Laird & Rubin 1977; features of Zong et al., ICLR 2018",
    url: "https://openreview.net/forum?id=BJJLHbb0-",
    scores: &[Named { name: "density", about: "−log p of the code and the quality of the reconstruction" }],
    options: &[
        OptionInfo {
            key: "features",
            default: "pca",
            kind: OptionKind::Choice(&["pca", "ae"]),
            help: "where codes come from: principal components or an autoencoder",
        },
        OptionInfo {
            key: "mixtures",
            default: "8",
            kind: OptionKind::Whole(1, 256),
            help: "Gaussians in the mixture",
        },
        Nets::OPTION,
        pca::POWER,
    ],
    defaults: Defaults {
        batch: 64,
        lr: 1e-3,
        betas: [0.9, 0.999],
        latent: 32,
        prior: Prior::Normal,
        length: Length::Epochs(30),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Gmm::new(states, config, options)?)),
};

/// Where codes come from.
#[allow(clippy::large_enum_variant, reason = "there is one to a model")]
#[derive(Debug, Clone)]
pub enum Features {
    /// As many principal components as the latent is long.
    Pca(Pca),
    /// The code of an autoencoder.
    Ae(Ae),
}

impl Features {
    fn system(&self) -> &dyn System {
        match self {
            Self::Pca(pca) => pca,
            Self::Ae(ae) => ae,
        }
    }
}

/// Features and the mixture over them.
#[derive(Debug, Clone)]
pub struct Gmm {
    /// Where codes come from.
    pub features: Features,
    /// μ, `[1, K, f]`.
    pub means: Variable,
    /// σ², `[1, K, f]`.
    pub variances: Variable,
    /// log π − ½ Σ log 2πσ², `[1, K]`.
    pub log_scales: Variable,
    learning: Option<Learning>,
}

/// Descriptions of training images, their number, and the seed of k-means++.
#[derive(Debug, Clone)]
struct Learning {
    sample: Variable,
    count: Variable,
    seed: u64,
}

impl Learning {
    fn count(&self, store: &Store) -> Result<usize, DeviceError> {
        Ok((store.read(self.count.id)?[0] as usize).min(Gmm::SAMPLE))
    }
}

impl Gmm {
    /// Training images that the mixture is fitted to.
    pub const SAMPLE: usize = 4096;
    /// Iterations of EM.
    pub const ITERATIONS: usize = 100;

    /// Registers the features' parameters, and the mixture as `means`, `variances` and `log_scales`.
    ///
    /// # Errors
    /// [`ConfigError`] for a latent that the features do not allow.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        let features = if options.is("features", "ae") {
            Features::Ae(Ae::new(states, config, options)?)
        } else {
            let too_long = |e: ConfigError| ConfigError { field: "latent".to_owned(), ..e };
            Features::Pca(Pca::new(states, config, config.latent, options.whole("power")).map_err(too_long)?)
        };
        let (k, f) = (options.whole("mixtures"), config.latent + 2);
        Ok(Self {
            features,
            means: states.add("mixture.means", &[1, k, f], Initial::Constant(0.0)),
            variances: states.add("mixture.variances", &[1, k, f], Initial::Constant(1.0)),
            log_scales: states.add("mixture.log_scales", &[1, k], Initial::Constant(0.0)),
            learning: None,
        })
    }

    /// The description `[n, latent + 2]`, and the reconstruction.
    fn describe<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> (Tensor<'t>, Tensor<'t>) {
        let (code, made) = match &self.features {
            Features::Pca(pca) => {
                let [_, code, made] = pca.project(tape, x);
                (code, made)
            }
            Features::Ae(ae) => ae.reconstruct(tape, x, Mode::Eval),
        };
        let column = |value: Tensor<'t>| value.reshape(&[value.len(), 1]);
        let norm = |value: Tensor<'t>| value.square().sum_per_sample().sqrt() + 1e-8;
        let relative = norm(x - made) / norm(x);
        let cosine = (x * made).sum_per_sample() / (norm(x) * norm(made));
        (Tensor::concat(&[code, column(relative), column(cosine)], 1), made)
    }

    /// Number of the stage in which descriptions are collected, the last.
    fn sampling(&self) -> usize {
        self.features.system().stages().len()
    }
}

impl System for Gmm {
    fn config(&self) -> &Config {
        self.features.system().config()
    }

    fn register_training(&mut self, states: &mut States, training: Training, seed: u64) {
        match &mut self.features {
            Features::Pca(pca) => pca.register(states),
            Features::Ae(ae) => ae.register_training(states, training, seed),
        }
        let f = self.means.shape[2];
        let zero = Initial::Constant(0.0);
        let sample = states.add("mixture.sample", &[Self::SAMPLE, f], zero.clone());
        self.learning = Some(Learning { sample, count: states.add("mixture.count", &[1], zero), seed });
    }

    fn needs_host(&self) -> bool {
        true
    }

    fn stages(&self) -> Vec<Stage> {
        let mut stages = self.features.system().stages();
        stages.push(Stage::simple("sample", Share::Passes(1)));
        stages
    }

    fn record<'t>(&self, tape: &'t Tape, stage: usize, part: usize, x: Tensor<'t>) -> Losses<'t> {
        if stage < self.sampling() {
            return self.features.system().record(tape, stage, part, x);
        }
        tape.output("description", self.describe(tape, x).0);
        vec![]
    }

    /// Collects descriptions until the sample is full.
    fn after_step(
        &self,
        stage: usize,
        _at: u64,
        programs: &mut [&mut Executable],
        store: &Store,
    ) -> Result<(), DeviceError> {
        let (true, Some(learning)) = (stage == self.sampling(), &self.learning) else { return Ok(()) };
        let count = learning.count(store)?;
        if count >= Self::SAMPLE {
            return Ok(());
        }
        let f = self.means.shape[2];
        let new = programs[0].read("description")?;
        let rows = (new.len() / f).min(Self::SAMPLE - count);
        let mut sample = store.read(learning.sample.id)?;
        sample[count * f..(count + rows) * f].copy_from_slice(&new[..rows * f]);
        store.write(learning.sample.id, &sample)?;
        store.write(learning.count.id, &[(count + rows) as f32])
    }

    fn after_stage(&self, stage: usize, store: &Store) -> Result<(), DeviceError> {
        let (true, Some(learning)) = (stage == self.sampling(), &self.learning) else {
            return self.features.system().after_stage(stage, store);
        };
        let (k, f) = (self.means.shape[1], self.means.shape[2]);
        let count = learning.count(store)?;
        let sample: Vec<f64> =
            store.read(learning.sample.id)?[..count * f].iter().map(|&v| v.into()).collect();
        let mixture = Mixture::fit(&sample, f, k, Self::ITERATIONS, learning.seed);
        let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
        store.write(self.means.id, &narrow(&mixture.means))?;
        store.write(self.variances.id, &narrow(&mixture.variances))?;
        store.write(self.log_scales.id, &narrow(&mixture.log_scales()))
    }

    /// They describe the reconstruction already.
    fn tells_reconstructions(&self) -> bool {
        false
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, _score: &str) -> Scored<'t> {
        let (description, made) = self.describe(tape, x);
        let [n, f] = [description.shape()[0], description.shape()[1]];
        let from_means = description.reshape(&[n, 1, f]) - tape.state(&self.means);
        let distances = (from_means.square() / tape.state(&self.variances)).sum(&[2]);
        let k = self.means.shape[1];
        let logs = tape.state(&self.log_scales) - distances.reshape(&[n, k]) * 0.5;
        // log Σ exp, with the greatest taken out.
        let greatest = logs.max(&[1]);
        let log_p = (logs - greatest).exp().sum(&[1]).log() + greatest;
        let scored = Scored::of_errors((x - made).square(), made, description);
        Scored { score: -log_p.reshape(&[n]), ..scored }
    }
}

/// A mixture of Gaussians with diagonal covariance.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// π, `[K]`.
    pub weights: Vec<f64>,
    /// μ, `[K, f]`.
    pub means: Vec<f64>,
    /// σ², `[K, f]`.
    pub variances: Vec<f64>,
}

impl Mixture {
    /// Added to every variance, in units of the variance of all points.
    pub const FLOOR: f64 = 1e-6;

    /// Fits `k` Gaussians to points of `f` features, one after the other; the seed decides where k-means++
    /// starts.
    pub fn fit(points: &[f64], f: usize, k: usize, iterations: usize, seed: u64) -> Self {
        let n = (points.len() / f).max(1) as f64;
        let mut centre = vec![0.0; f];
        let mut scale = vec![0.0; f];
        for point in points.chunks_exact(f) {
            centre.iter_mut().zip(point).for_each(|(c, p)| *c += p / n);
        }
        for point in points.chunks_exact(f) {
            (0..f).for_each(|j| scale[j] += (point[j] - centre[j]).powi(2) / n);
        }
        // A feature that never varies keeps its units; any deviation from it is far beyond the floor.
        scale.iter_mut().for_each(|s| *s = if *s > 1e-24 { s.sqrt() } else { 1.0 });
        let unit: Vec<f64> =
            points.iter().enumerate().map(|(i, p)| (p - centre[i % f]) / scale[i % f]).collect();
        let mut mixture = Self::start(&unit, f, k, seed);
        mixture.expectation_maximisation(&unit, f, iterations);
        for i in 0..mixture.means.len() {
            mixture.means[i] = mixture.means[i] * scale[i % f] + centre[i % f];
            mixture.variances[i] *= scale[i % f].powi(2);
        }
        mixture
    }

    /// One M step from the nearest of k centres that k-means++ picks: each with a probability in proportion
    /// to the squared distance from those before it.
    fn start(points: &[f64], f: usize, k: usize, seed: u64) -> Self {
        let rows: Vec<&[f64]> = points.chunks_exact(f).collect();
        let mut state = seed;
        // SplitMix64 (Steele, Lea & Flood 2014), as a fraction.
        let mut random = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut nearest = vec![(f64::INFINITY, 0); rows.len()];
        let mut chosen = (random() * rows.len() as f64) as usize;
        for component in 0..k.min(rows.len().max(1)) {
            for (row, best) in rows.iter().zip(&mut nearest) {
                let distance = row.iter().zip(rows[chosen]).map(|(a, b)| (a - b).powi(2)).sum();
                if distance < best.0 {
                    *best = (distance, component);
                }
            }
            let total: f64 = nearest.iter().map(|(d, _)| d).sum();
            let mut left = random() * total;
            let found = nearest.iter().position(|&(d, _)| {
                left -= d;
                left < 0.0
            });
            chosen = found.unwrap_or(0);
        }
        let mut responsibilities = vec![0.0; rows.len() * k];
        for (i, (_, component)) in nearest.iter().enumerate() {
            responsibilities[i * k + component] = 1.0;
        }
        Self::maximisation(points, f, &responsibilities, k)
    }

    /// EM from here; ends early where the mean log likelihood gains less than 1e-7.
    pub fn expectation_maximisation(&mut self, points: &[f64], f: usize, iterations: usize) {
        let mut before = f64::NEG_INFINITY;
        for _ in 0..iterations {
            let (responsibilities, likelihood) = self.expectation(points, f);
            *self = Self::maximisation(points, f, &responsibilities, self.weights.len());
            if likelihood - before < 1e-7 {
                break;
            }
            before = likelihood;
        }
    }

    /// log π − ½ Σ log 2πσ² of each Gaussian; one without weight gets the least number that f32 has.
    pub fn log_scales(&self) -> Vec<f64> {
        let f = self.means.len() / self.weights.len();
        let logs = self.weights.iter().zip(self.variances.chunks(f)).map(|(w, variances)| {
            let logs: f64 = variances.iter().map(|v| (std::f64::consts::TAU * v).ln()).sum();
            (w.ln() - 0.5 * logs).max(-1e30)
        });
        logs.collect()
    }

    /// Responsibilities `[n, K]`, and the mean of log p.
    pub fn expectation(&self, points: &[f64], f: usize) -> (Vec<f64>, f64) {
        let scales = self.log_scales();
        let mut all = Vec::with_capacity(points.len() / f * scales.len());
        let mut total = 0.0;
        for point in points.chunks_exact(f) {
            let gaussians = self.means.chunks(f).zip(self.variances.chunks(f)).zip(&scales);
            let logs: Vec<f64> = gaussians
                .map(|((means, variances), scale)| {
                    let terms = point.iter().zip(means).zip(variances);
                    scale - 0.5 * terms.map(|((p, m), v)| (p - m).powi(2) / v).sum::<f64>()
                })
                .collect();
            let greatest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_p = greatest + logs.iter().map(|l| (l - greatest).exp()).sum::<f64>().ln();
            all.extend(logs.iter().map(|l| (l - log_p).exp()));
            total += log_p;
        }
        (all, total / (points.len() / f).max(1) as f64)
    }

    fn maximisation(points: &[f64], f: usize, responsibilities: &[f64], k: usize) -> Self {
        let n = points.len() / f;
        let mut mixture =
            Self { weights: vec![0.0; k], means: vec![0.0; k * f], variances: vec![Self::FLOOR; k * f] };
        let rows = || points.chunks_exact(f).zip(responsibilities.chunks_exact(k));
        // As much as nothing for a Gaussian that has no point: it keeps a weight of almost 0, and no NaN.
        let mut counts = vec![10.0 * f64::EPSILON; k];
        for (_, r) in rows() {
            counts.iter_mut().zip(r).for_each(|(count, r)| *count += r);
        }
        for (c, &count) in counts.iter().enumerate() {
            mixture.weights[c] = count / n.max(1) as f64;
            let (means, variances) = (&mut mixture.means[c * f..][..f], &mut mixture.variances[c * f..][..f]);
            for (point, r) in rows() {
                (0..f).for_each(|j| means[j] += r[c] * point[j] / count);
            }
            for (point, r) in rows() {
                (0..f).for_each(|j| variances[j] += r[c] * (point[j] - means[j]).powi(2) / count);
            }
        }
        mixture
    }
}
