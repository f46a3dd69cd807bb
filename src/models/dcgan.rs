//! DCGAN (Radford, Metz & Chintala 2016, arXiv 1511.06434), in the form that AnoGAN trains.
//!
//! For a side s = 4·2ᴸ and width w, c_i = w·min(2^i, 8), or w·2^i where asked for:
//!
//! | generator | out | | discriminator | out |
//! |---|---|---|---|---|
//! | linear z → c_{L−1}·4·4, BN, ReLU | 4×4 | | conv s2 → c₀, leaky ReLU 0.2 | s/2 |
//! | L − 1 × (convT s2 → c_i, BN, ReLU) | ×2 each | | L − 1 × (conv s2 → c_i, BN, leaky ReLU 0.2) | ÷2 each |
//! | convT s2 → channels, tanh | s | | **f(x)** = the last of them, 4×4; linear → 1 logit | |
//!
//! Kernel 4 with padding 1, or 5 with TensorFlow's "SAME" padding (1, 2) as in the paper. Signals have
//! kernels and strides along their length alone, and 4 columns at the bottom. Other sides are halved rounding
//! up and restored exactly ([`config`](super::config)); the bottom's smaller side is 4 to 6 then.

use super::Config;
use crate::nn::{Conv2d, Linear, Mode, Norm, NormKind};
use crate::tape::{States, Tape, Tensor, Variable};

/// G: latent → image in [−1, 1].
#[derive(Debug, Clone)]
pub struct Generator {
    top: [usize; 3],
    project: (Linear, Norm),
    up: Vec<(Conv2d, Norm)>,
    output: Conv2d,
}

impl Generator {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config) -> Self {
        Self::with(states, name, config, Config::DOUBLINGS, NormKind::Batch, true)
    }

    /// As [`Generator::new`] with a norm of one's own; where there is none, its layers have biases instead.
    pub fn normed(states: &mut States, name: &str, config: &Config, norm: NormKind) -> Self {
        Self::with(states, name, config, Config::DOUBLINGS, norm, true)
    }

    /// As [`Generator::new`] without the output's bias: GANomaly's decoder.
    pub fn unbiased(states: &mut States, name: &str, config: &Config) -> Self {
        Self::unbiased_within(states, name, config, Config::DOUBLINGS)
    }

    /// As [`Generator::unbiased`] with so many doublings of the channels at most.
    pub fn unbiased_within(states: &mut States, name: &str, config: &Config, doublings: usize) -> Self {
        Self::with(states, name, config, doublings, NormKind::Batch, false)
    }

    fn with(
        states: &mut States,
        name: &str,
        config: &Config,
        doublings: usize,
        kind: NormKind,
        bias: bool,
    ) -> Self {
        let own_bias = kind == NormKind::None;
        let levels = config.levels();
        let at = |level| config.channels_within(level, doublings);
        let ([h, w], top) = (config.bottom(), at(levels - 1));
        let linear = Linear::new(states, &format!("{name}.project"), [config.latent, h * w * top], own_bias);
        let norm = Norm::new(states, &format!("{name}.project_{}", kind.suffix()), top, kind);
        let kernel = config.kernel(config.kernel);
        let mut up = vec![];
        for level in (1..levels).rev() {
            let channels = [at(level), at(level - 1)];
            let layer = format!("{name}.up{}", levels - level);
            let conv = Conv2d::transposed(states, &layer, channels, kernel, config.halving(level), own_bias);
            up.push((conv, Norm::new(states, &format!("{layer}_{}", kind.suffix()), channels[1], kind)));
        }
        let last = [at(0), config.channels];
        let output =
            Conv2d::transposed(states, &format!("{name}.output"), last, kernel, config.halving(0), bias);
        Self { top: [top, h, w], project: (linear, norm), up, output }
    }

    /// `[n, latent]` → `[n, channels, height, width]`.
    pub fn forward<'t>(&self, tape: &'t Tape, z: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let (linear, norm) = &self.project;
        let ([top, h, w], n) = (self.top, z.shape()[0]);
        let mut h = linear.forward(tape, z).reshape(&[n, top, h, w]);
        h = norm.forward(tape, h, mode).relu();
        for (conv, norm) in &self.up {
            h = norm.forward(tape, conv.forward(tape, h), mode).relu();
        }
        self.output.forward(tape, h).tanh()
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let mut all = self.project.0.parameters();
        all.extend(self.project.1.parameters());
        for (conv, norm) in &self.up {
            all.extend(conv.parameters());
            all.extend(norm.parameters());
        }
        all.extend(self.output.parameters());
        all
    }
}

/// Strided convolutions down to the bottom and a linear head: the discriminator, critics, and the encoders of
/// other systems.
#[derive(Debug, Clone)]
pub struct Pyramid {
    input: Conv2d,
    down: Vec<(Conv2d, Norm)>,
    output: Linear,
}

impl Pyramid {
    /// Slope of the leaky ReLUs.
    pub const SLOPE: f32 = 0.2;

    /// Registers a discriminator under `name`: batch norm, one logit.
    pub fn discriminator(states: &mut States, name: &str, config: &Config) -> Self {
        Self::new(states, name, config, NormKind::Batch, 1)
    }

    /// Registers the parameters under `name`; the head has `outputs` values.
    pub fn new(states: &mut States, name: &str, config: &Config, norm: NormKind, outputs: usize) -> Self {
        Self::with(states, name, config, Config::DOUBLINGS, (norm, true), outputs)
    }

    /// Batch norm and no bias anywhere: GANomaly's encoders and discriminator. The head, a linear layer, is
    /// their unpadded convolution of the bottom (4×4 there).
    pub fn unbiased(states: &mut States, name: &str, config: &Config, outputs: usize) -> Self {
        Self::unbiased_within(states, name, config, Config::DOUBLINGS, outputs)
    }

    /// As [`Pyramid::unbiased`] with so many doublings of the channels at most.
    pub fn unbiased_within(
        states: &mut States,
        name: &str,
        config: &Config,
        doublings: usize,
        outputs: usize,
    ) -> Self {
        Self::with(states, name, config, doublings, (NormKind::Batch, false), outputs)
    }

    fn with(
        states: &mut States,
        name: &str,
        config: &Config,
        doublings: usize,
        (norm, bias): (NormKind, bool),
        outputs: usize,
    ) -> Self {
        let at = |level| config.channels_within(level, doublings);
        let first = [config.channels, at(0)];
        let kernel = config.kernel(config.kernel);
        let input = Conv2d::new(states, &format!("{name}.input"), first, kernel, config.halving(0), bias);
        let mut down = vec![];
        for level in 1..config.levels() {
            let channels = [at(level - 1), at(level)];
            let layer = format!("{name}.down{level}");
            let conv =
                Conv2d::new(states, &layer, channels, kernel, config.halving(level), norm == NormKind::None);
            down.push((conv, Norm::new(states, &format!("{layer}_{}", norm.suffix()), channels[1], norm)));
        }
        let [h, w] = config.bottom();
        let features = h * w * at(config.levels() - 1);
        let output = Linear::new(states, &format!("{name}.output"), [features, outputs], bias);
        Self { input, down, output }
    }

    /// f(x): the last convolution's activations, `[n, c, height, width]` of the bottom.
    pub fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let mut h = self.input.forward(tape, x).leaky_relu(Self::SLOPE);
        for (conv, norm) in &self.down {
            h = norm.forward(tape, conv.forward(tape, h), mode).leaky_relu(Self::SLOPE);
        }
        h
    }

    /// The activations of the first `count` convolutions, the finest first; level i is `[n, c, height,
    /// width]` after i + 1 halvings.
    pub fn maps<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode, count: usize) -> Vec<Tensor<'t>> {
        let mut maps = vec![self.input.forward(tape, x).leaky_relu(Self::SLOPE)];
        for (conv, norm) in self.down.iter().take(count.saturating_sub(1)) {
            let h = maps[maps.len() - 1];
            maps.push(norm.forward(tape, conv.forward(tape, h), mode).leaky_relu(Self::SLOPE));
        }
        maps
    }

    /// The head's values for each sample from its features, `[n, outputs]`.
    pub fn head<'t>(&self, tape: &'t Tape, features: Tensor<'t>) -> Tensor<'t> {
        self.output.forward(tape, features.flatten())
    }

    /// `[n, channels, height, width]` → `[n, outputs]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        self.head(tape, self.features(tape, x, mode))
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let mut all = self.input.parameters();
        for (conv, norm) in &self.down {
            all.extend(conv.parameters());
            all.extend(norm.parameters());
        }
        all.extend(self.output.parameters());
        all
    }
}
