//! Variational autoencoder (Kingma & Welling, ICLR 2014, arXiv 1312.6114) as an anomaly detector (An & Cho
//! 2015).
//!
//! The encoder gives a Gaussian q(z∣x) = N(μ, σ²) for each sample, the decoder the mean of p(x∣z) = N(G(z),
//! s²):
//!
//! | | formula | equation |
//! |---|---|---|
//! | sampling | z = μ + σ ⊙ ε, ε ~ N(0, 1) | (4) |
//! | divergence | KL = −½ Σ (1 + log σ² − μ² − σ²), a **sum** over the latent | appendix B |
//! | reconstruction | ‖x − G(z)‖² / 2s², a **sum** over pixels | (10), Gaussian |
//! | loss | mean over the batch of reconstruction + β·KL | (7); β: Higgins et al. 2017 |
//! | `recon` | ‖x − G(μ)‖² / 2s² | |
//! | `elbo` | reconstruction + β·KL, mean over [`Vae::DRAWS`] draws of ε | (7) |
//! | `kl` | KL | |
//!
//! With means in place of the sums, or s = 1 for images of [−1, 1], the divergence outweighs the
//! reconstruction and the codes say nothing. The draws of ε for a score are part of the model, the same for
//! every sample: a score is a function of its sample.

use super::nets::{Decoder, Encoder, Nets};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{self, Adam, Mode};
use crate::tape::{Initial, RandomState, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "vae",
    title: "variational autoencoder",
    paper: "Kingma & Welling, ICLR 2014; An & Cho 2015",
    url: "https://arxiv.org/abs/1312.6114",
    scores: &[
        Named { name: "recon", about: "reconstruction from the mean of q(z|x), sum over pixels" },
        Named { name: "elbo", about: "negative evidence lower bound: reconstruction and divergence" },
        Named { name: "kl", about: "divergence of q(z|x) from the prior alone" },
    ],
    options: &[
        Nets::OPTION,
        OptionInfo {
            key: "beta",
            default: "1",
            kind: OptionKind::Number(0.0, 1000.0),
            help: "weight of the divergence",
        },
        OptionInfo {
            key: "sigma",
            default: "0.5",
            kind: OptionKind::Number(0.001, 10.0),
            help: "standard deviation s of a pixel around the decoder's image",
        },
    ],
    defaults: Defaults {
        batch: 64,
        lr: 1e-3,
        betas: [0.9, 0.999],
        latent: 32,
        prior: Prior::Normal,
        length: Length::Epochs(50),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Vae::new(states, config, options)?)),
};

/// Encoder and decoder.
#[derive(Debug, Clone)]
pub struct Vae {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    /// x → (μ, log σ²).
    pub encoder: Encoder,
    /// z → x̂.
    pub decoder: Decoder,
    /// ε of the scores, `[draws, latent]`.
    pub draws: Variable,
    beta: f32,
    sigma: f32,
    learning: Option<(Adam, RandomState)>,
}

/// The two terms of the loss for each sample, `[n]`, and the reconstruction.
#[derive(Clone, Copy)]
pub struct Terms<'t> {
    /// ‖x − x̂‖² / 2s², summed over pixels.
    pub reconstruction: Tensor<'t>,
    /// KL, summed over the latent.
    pub divergence: Tensor<'t>,
    /// x̂: the reconstruction.
    pub made: Tensor<'t>,
}

impl Vae {
    /// Draws of ε for a score.
    pub const DRAWS: usize = 8;

    /// Registers the parameters as `encoder.*` and `decoder.*`, and the draws of the scores.
    ///
    /// # Errors
    /// [`ConfigError`] for a latent that the networks do not allow.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        let nets = Nets::of(options.text("nets"));
        let standard = Initial::Normal { mean: 0.0, std: 1.0 };
        Ok(Self {
            config: config.clone(),
            encoder: Encoder::new(states, "encoder", config, nets, 2 * config.latent),
            decoder: Decoder::new(states, "decoder", config, nets),
            draws: states.add("draws", &[Self::DRAWS, config.latent], standard),
            beta: options.number("beta"),
            sigma: options.number("sigma"),
            learning: None,
        })
    }

    /// μ and log σ² of q(z∣x), `[n, latent]` each.
    pub fn encode<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> [Tensor<'t>; 2] {
        let both = self.encoder.forward(tape, x, mode);
        let d = self.config.latent;
        // A variance beyond e^±10 is a network out of control; its exponential must stay a number.
        [both.narrow(1, 0, d), both.narrow(1, d, d).clamp(-10.0, 10.0)]
    }

    /// −½ Σ (1 + log σ² − μ² − σ²).
    pub fn divergence<'t>(mean: Tensor<'t>, log_var: Tensor<'t>) -> Tensor<'t> {
        (1.0 + log_var - mean.square() - log_var.exp()).sum_per_sample() * -0.5
    }

    /// (x − x̂)² / 2s² of each value.
    fn errors<'t>(&self, x: Tensor<'t>, made: Tensor<'t>) -> Tensor<'t> {
        (x - made).square() * (0.5 / (self.sigma * self.sigma))
    }

    /// The terms of the loss in train mode, with ε of `[n, latent]`.
    pub fn terms<'t>(&self, tape: &'t Tape, x: Tensor<'t>, epsilon: Tensor<'t>) -> Terms<'t> {
        let [mean, log_var] = self.encode(tape, x, Mode::Train);
        let z = mean + (log_var * 0.5).exp() * epsilon;
        let made = self.decoder.forward(tape, z, Mode::Train);
        let reconstruction = self.errors(x, made).sum_per_sample();
        Terms { reconstruction, divergence: Self::divergence(mean, log_var), made }
    }

    /// The reconstruction term, mean over the draws of ε that belong to the model.
    fn expected<'t>(
        &self,
        tape: &'t Tape,
        x: Tensor<'t>,
        mean: Tensor<'t>,
        log_var: Tensor<'t>,
    ) -> Tensor<'t> {
        let (n, d, l) = (x.shape()[0], self.config.latent, Self::DRAWS);
        let epsilon = tape.state(&self.draws).reshape(&[1, l, d]);
        let deviation = (log_var * 0.5).exp().reshape(&[n, 1, d]);
        let z = (mean.reshape(&[n, 1, d]) + deviation * epsilon).reshape(&[n * l, d]);
        let made = self.decoder.forward(tape, z, Mode::Eval);
        let len = self.config.sample_len();
        let errors = self.errors(x.reshape(&[n, 1, len]), made.reshape(&[n, l, len]));
        errors.sum(&[2]).mean(&[1]).reshape(&[n])
    }
}

impl System for Vae {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, seed: u64) {
        let parameters = [self.encoder.parameters(), self.decoder.parameters()].concat();
        let adam = Adam::new(states, "adam", parameters, training.lr, training.betas);
        self.learning = Some((adam, nn::random_state(states, "random", seed)));
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some((adam, random)) = &self.learning else { return vec![] };
        let epsilon = tape.normal(random, &[x.shape()[0], self.config.latent]);
        let terms = self.terms(tape, x, epsilon);
        let (reconstruction, divergence) = (terms.reconstruction.mean_all(), terms.divergence.mean_all());
        adam.minimise(tape, reconstruction + divergence * self.beta);
        nn::advance(tape, random);
        vec![("reconstruction", reconstruction), ("kl", divergence)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let [mean, log_var] = self.encode(tape, x, Mode::Eval);
        let made = self.decoder.forward(tape, mean, Mode::Eval);
        let scored = Scored::of_errors(self.errors(x, made), made, mean);
        let divergence = Self::divergence(mean, log_var);
        let parts = vec![("recon", scored.score), ("kl", divergence)];
        let score = match score {
            "elbo" => self.expected(tape, x, mean, log_var) + divergence * self.beta,
            "kl" => divergence,
            _ => scored.score,
        };
        Scored { score, parts, ..scored }
    }
}
