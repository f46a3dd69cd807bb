//! DCGAN (Radford, Metz & Chintala 2016, arXiv 1511.06434), in the form that AnoGAN trains.
//!
//! For size s = 4·2ᴸ and width w, c_i = w·min(2^i, 8):
//!
//! | generator | out | | discriminator | out |
//! |---|---|---|---|---|
//! | linear z → c_{L−1}·4·4, BN, ReLU | 4×4 | | conv s2 → c₀, leaky ReLU 0.2 | s/2 |
//! | L − 1 × (convT s2 → c_i, BN, ReLU) | ×2 each | | L − 1 × (conv s2 → c_i, BN, leaky ReLU 0.2) | ÷2 each |
//! | convT s2 → channels, tanh | s | | **f(x)** = the last of them, 4×4; linear → 1 logit | |
//!
//! Kernel 4 with padding 1, or 5 with TensorFlow's "SAME" padding (1, 2) as in the paper.

use super::ConfigError;
use crate::nn::{BatchNorm, Conv2d, ConvTranspose2d, Linear, Mode};
use crate::tape::{ConvOptions, RandomState, States, Tape, Tensor, Variable};
use serde::{Deserialize, Serialize};

/// Distribution of the latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    /// U(−1, 1), DCGAN's.
    Uniform,
    /// N(0, 1).
    Normal,
}

impl Prior {
    /// New latents `[n, latent]`.
    pub fn sample<'t>(self, tape: &'t Tape, random: &RandomState, n: usize, latent: usize) -> Tensor<'t> {
        match self {
            Self::Uniform => tape.uniform(random, &[n, latent]).affine(2.0, -1.0),
            Self::Normal => tape.normal(random, &[n, latent]),
        }
    }
}

/// Sizes of both networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Side of the square images: a power of two from 16 to 256.
    pub size: usize,
    /// Channels of the images: 1 gray, 3 colour.
    pub channels: usize,
    /// Channels of the widest feature maps' layer, w.
    pub width: usize,
    /// Length of the latent vector.
    pub latent: usize,
    /// Distribution of the latent.
    pub prior: Prior,
    /// Convolution kernel, 4 or 5.
    pub kernel: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { size: 64, channels: 1, width: 64, latent: 100, prior: Prior::Uniform, kernel: 4 }
    }
}

impl Config {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad =
            |field, value: usize, allowed| Err(ConfigError { field, value: value.to_string(), allowed });
        if !self.size.is_power_of_two() || !(16..=256).contains(&self.size) {
            return bad("size", self.size, "a power of two from 16 to 256");
        }
        if self.channels != 1 && self.channels != 3 {
            return bad("channels", self.channels, "1 (gray) or 3 (rgb)");
        }
        if !(1..=1024).contains(&self.width) {
            return bad("width", self.width, "1 to 1024");
        }
        if !(1..=65_536).contains(&self.latent) {
            return bad("latent", self.latent, "1 to 65536");
        }
        if self.kernel != 4 && self.kernel != 5 {
            return bad("kernel", self.kernel, "4 or 5");
        }
        Ok(())
    }

    /// Number of stride-2 layers, L.
    pub fn levels(&self) -> usize {
        self.size.ilog2() as usize - 2
    }

    /// Channels at level i, halving the size from s/2 at i = 0.
    fn channels_at(&self, level: usize) -> usize {
        self.width * (1 << level.min(3))
    }

    fn conv(&self) -> ConvOptions {
        ConvOptions::asymmetric(2, 1, if self.kernel == 4 { 1 } else { 2 })
    }

    /// Length of f(x).
    pub fn features(&self) -> usize {
        16 * self.channels_at(self.levels() - 1)
    }

    /// Shape of a batch of images.
    pub fn images(&self, n: usize) -> [usize; 4] {
        [n, self.channels, self.size, self.size]
    }
}

/// G: latent → image in [−1, 1].
#[derive(Debug, Clone)]
pub struct Generator {
    top: usize,
    project: (Linear, BatchNorm),
    up: Vec<(ConvTranspose2d, BatchNorm)>,
    output: ConvTranspose2d,
}

impl Generator {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config) -> Self {
        let levels = config.levels();
        let top = config.channels_at(levels - 1);
        let linear = Linear::new(states, &format!("{name}.project"), [config.latent, 16 * top], false);
        let norm = BatchNorm::new(states, &format!("{name}.project_bn"), top);
        let mut up = vec![];
        for level in (1..levels).rev() {
            let channels = [config.channels_at(level), config.channels_at(level - 1)];
            let layer = format!("{name}.up{}", levels - level);
            let conv = ConvTranspose2d::new(states, &layer, channels, config.kernel, config.conv(), false);
            up.push((conv, BatchNorm::new(states, &format!("{layer}_bn"), channels[1])));
        }
        let last = [config.channels_at(0), config.channels];
        let output =
            ConvTranspose2d::new(states, &format!("{name}.output"), last, config.kernel, config.conv(), true);
        Self { top, project: (linear, norm), up, output }
    }

    /// `[n, latent]` → `[n, channels, size, size]`.
    pub fn forward<'t>(&self, tape: &'t Tape, z: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let (linear, norm) = &self.project;
        let n = z.shape()[0];
        let mut h = linear.forward(tape, z).reshape(&[n, self.top, 4, 4]);
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

/// D: image → features f(x) and a logit.
#[derive(Debug, Clone)]
pub struct Discriminator {
    input: Conv2d,
    down: Vec<(Conv2d, BatchNorm)>,
    output: Linear,
}

impl Discriminator {
    /// Slope of the leaky ReLUs.
    pub const SLOPE: f32 = 0.2;

    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config) -> Self {
        let first = [config.channels, config.channels_at(0)];
        let input = Conv2d::new(states, &format!("{name}.input"), first, config.kernel, config.conv(), true);
        let mut down = vec![];
        for level in 1..config.levels() {
            let channels = [config.channels_at(level - 1), config.channels_at(level)];
            let layer = format!("{name}.down{level}");
            let conv = Conv2d::new(states, &layer, channels, config.kernel, config.conv(), false);
            down.push((conv, BatchNorm::new(states, &format!("{layer}_bn"), channels[1])));
        }
        let output = Linear::new(states, &format!("{name}.output"), [config.features(), 1], true);
        Self { input, down, output }
    }

    /// f(x): the last convolution's activations, `[n, c, 4, 4]`.
    pub fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let mut h = self.input.forward(tape, x).leaky_relu(Self::SLOPE);
        for (conv, norm) in &self.down {
            h = norm.forward(tape, conv.forward(tape, h), mode).leaky_relu(Self::SLOPE);
        }
        h
    }

    /// Logit of each sample from its features, `[n, 1]`.
    pub fn logits<'t>(&self, tape: &'t Tape, features: Tensor<'t>) -> Tensor<'t> {
        self.output.forward(tape, features.flatten())
    }

    /// `[n, channels, size, size]` → logits `[n, 1]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        self.logits(tape, self.features(tape, x, mode))
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
