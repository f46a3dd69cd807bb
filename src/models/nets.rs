//! Encoders and decoders that autoencoders share: DCGAN's, Deep SVDD's LeNets, and MemAE's fully connected
//! ones.
//!
//! LeNet (Ruff et al. 2018; official code lukasruff/Deep-SVDD-PyTorch) for a side s = 4·2ᴸ and width w. Every
//! convolution is 5×5 with padding 2, no layer has a bias, batch norm is not affine (ε = 1e-4), and ReLUs
//! leak 0.1:
//!
//! | encoder | out | decoder | out |
//! |---|---|---|---|
//! | blocks × (conv, BN, leaky ReLU, max-pool 2) | ÷2 each | BN (`lenet`), reshape, leaky ReLU | 4×4 |
//! | linear → latent | | `lenet`: L × (convT, BN, leaky ReLU, repeat 2×2), convT | s |
//! | | | `lenet-small`: repeat 2×2, L − 1 × (convT, BN, leaky ReLU, repeat 2×2), convT | s |
//!
//! Other sides are halved rounding up: the last window of an odd side has one row, and of repeated pixels the
//! last are dropped ([`config`](super::config)). A latent that does not fill the bottom's places evenly is
//! repeated until it does.
//!
//! `lenet` has L blocks of w/2, w, 2w, 2w… channels: at 32×32 and width 64 the paper's CIFAR-10 network.
//! `lenet-small` has two of w/8 and w/16: at width 64 its MNIST network.

use super::dcgan::{Generator, Pyramid};
use super::resnet::{enlarge, halving_windows};
use super::{Config, Form, OptionInfo, OptionKind};
use crate::nn::{BatchNorm, Conv2d, Linear, Mode, NormKind};
use crate::tape::{ConvOptions, Initial, PoolOptions, States, Tape, Tensor, Variable};

/// Networks of images and signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nets {
    /// DCGAN's discriminator and generator.
    Dcgan,
    /// Deep SVDD's network for CIFAR-10.
    Lenet,
    /// Deep SVDD's network for MNIST.
    LenetSmall,
}

impl Nets {
    /// The option that chooses among all, the default first.
    pub const OPTION: OptionInfo = OptionInfo {
        key: "nets",
        default: "dcgan",
        kind: OptionKind::Choice(&["dcgan", "lenet", "lenet-small"]),
        help: "networks of images and signals: DCGAN's, or Deep SVDD's for CIFAR-10 or MNIST",
    };

    /// The networks of this name; DCGAN's for one that is unknown.
    pub fn of(name: &str) -> Self {
        match name {
            "lenet" => Self::Lenet,
            "lenet-small" => Self::LenetSmall,
            _ => Self::Dcgan,
        }
    }
}

/// Samples → `[n, outputs]`.
#[derive(Debug, Clone)]
pub enum Encoder {
    /// DCGAN's discriminator with another head.
    Pyramid(Pyramid),
    /// Deep SVDD's φ.
    Lenet(LenetEncoder),
    /// MemAE's, for tables.
    Dense(Dense),
}

impl Encoder {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config, nets: Nets, outputs: usize) -> Self {
        if config.form == Form::Table {
            return Self::Dense(Dense::new(
                states,
                name,
                &[&[config.channels], Dense::HIDDEN, &[outputs]].concat(),
            ));
        }
        match nets {
            Nets::Dcgan => Self::Pyramid(Pyramid::new(states, name, config, NormKind::Batch, outputs)),
            _ => Self::Lenet(LenetEncoder::new(states, name, config, nets, outputs)),
        }
    }

    /// Samples in [−1, 1] → `[n, outputs]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        match self {
            Self::Pyramid(net) => net.forward(tape, x, mode),
            Self::Lenet(net) => net.forward(tape, x, mode),
            Self::Dense(net) => net.forward(tape, x.flatten()),
        }
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        match self {
            Self::Pyramid(net) => net.parameters(),
            Self::Lenet(net) => net.parameters(),
            Self::Dense(net) => net.parameters(),
        }
    }
}

/// `[n, latent]` → samples.
#[derive(Debug, Clone)]
pub enum Decoder {
    /// DCGAN's generator.
    Generator(Generator),
    /// The mirror of Deep SVDD's φ.
    Lenet(LenetDecoder),
    /// MemAE's, for tables.
    Dense(Dense),
}

impl Decoder {
    /// Registers the parameters under `name`.
    ///
    pub fn new(states: &mut States, name: &str, config: &Config, nets: Nets) -> Self {
        if config.form == Form::Table {
            let mut hidden = Dense::HIDDEN.to_vec();
            hidden.reverse();
            let sizes = [&[config.latent], &hidden[..], &[config.channels]].concat();
            return Self::Dense(Dense::new(states, name, &sizes));
        }
        match nets {
            Nets::Dcgan => Self::Generator(Generator::new(states, name, config)),
            _ => Self::Lenet(LenetDecoder::new(states, name, config, nets)),
        }
    }

    /// `[n, latent]` → samples: within [−1, 1] for images and signals, unbounded for tables.
    pub fn forward<'t>(&self, tape: &'t Tape, z: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        match self {
            Self::Generator(net) => net.forward(tape, z, mode),
            Self::Lenet(net) => net.forward(tape, z, mode).tanh(),
            Self::Dense(net) => {
                let y = net.forward(tape, z);
                let [n, features] = [y.shape()[0], y.shape()[1]];
                y.reshape(&[n, features, 1, 1])
            }
        }
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        match self {
            Self::Generator(net) => net.parameters(),
            Self::Lenet(net) => net.parameters(),
            Self::Dense(net) => net.parameters(),
        }
    }
}

/// Fan in and fan out of a weight `[a, b, …]`, together.
fn fans(weight: &Variable) -> f32 {
    let taps: usize = weight.shape[2..].iter().product();
    (taps * (weight.shape[0] + weight.shape[1])) as f32
}

/// Glorot & Bengio's start for weights: uniform within √(6 / (fan in + fan out)).
fn glorot(states: &mut States, weight: &Variable) {
    states.set_initial(weight, Initial::Uniform { bound: (6.0 / fans(weight)).sqrt() });
}

/// As [`glorot`] with normal numbers of the same variance, 2 / (fan in + fan out).
pub(super) fn glorot_normal(states: &mut States, weight: &Variable) {
    states.set_initial(weight, Initial::Normal { mean: 0.0, std: (2.0 / fans(weight)).sqrt() });
}

/// Fully connected layers with tanh between them and none after the last (MemAE's for KDD99: 120-60-30-10-3
/// and back).
#[derive(Debug, Clone)]
pub struct Dense {
    layers: Vec<Linear>,
}

impl Dense {
    /// Sizes between the features and the latent.
    pub const HIDDEN: &'static [usize] = &[60, 30, 10];

    /// Registers the parameters under `name`; `sizes` are those of the input, between the layers and of the
    /// output.
    pub fn new(states: &mut States, name: &str, sizes: &[usize]) -> Self {
        let pairs = sizes.windows(2).enumerate();
        let layers =
            pairs.map(|(i, s)| Linear::new(states, &format!("{name}.{i}"), [s[0], s[1]], true)).collect();
        let dense = Self { layers };
        for layer in &dense.layers {
            glorot(states, &layer.weight);
        }
        dense
    }

    /// `[n, first size]` → `[n, last size]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let mut h = x;
        for (i, layer) in self.layers.iter().enumerate() {
            h = layer.forward(tape, if i == 0 { h } else { h.tanh() });
        }
        h
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        self.layers.iter().flat_map(Linear::parameters).collect()
    }
}

/// Deep SVDD's φ. Nothing in it can make a constant: no bias, no affine norm, no bounded activation.
#[derive(Debug, Clone)]
pub struct LenetEncoder {
    blocks: Vec<(Conv2d, BatchNorm)>,
    pool: PoolOptions,
    head: Linear,
    slope: f32,
}

/// Slope of the leaky ReLUs (the paper's; its code has 0.01).
pub(super) const SLOPE: f32 = 0.1;
/// ε of the norms.
const EPSILON: f32 = 1e-4;

/// Channels of the encoder's blocks.
fn lenet_channels(config: &Config, nets: Nets) -> Vec<usize> {
    let w = config.width;
    let channels = match nets {
        Nets::LenetSmall => vec![w / 8, w / 16],
        _ => (0..config.levels()).map(|i| (w << i.min(2)) / 2).collect(),
    };
    channels.into_iter().map(|c| c.max(1)).collect()
}

/// The 5×5 convolution that keeps the side.
fn keeping(config: &Config) -> ([usize; 2], ConvOptions) {
    (config.kernel(5), config.strided(1, 2, 2))
}

impl LenetEncoder {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config, nets: Nets, outputs: usize) -> Self {
        let (kernel, options) = keeping(config);
        let mut from = config.channels;
        let mut blocks = vec![];
        for (i, to) in lenet_channels(config, nets).into_iter().enumerate() {
            let layer = format!("{name}.conv{}", i + 1);
            let conv = Conv2d::new(states, &layer, [from, to], kernel, options, false);
            glorot(states, &conv.weight);
            blocks.push((conv, BatchNorm::plain(states, &format!("{name}.bn{}", i + 1), to, EPSILON)));
            from = to;
        }
        let bottom: usize = config.extent_at(blocks.len()).iter().product();
        let head = Linear::new(states, &format!("{name}.fc"), [from * bottom, outputs], false);
        glorot(states, &head.weight);
        Self { blocks, pool: halving_windows(config.kernel(2)), head, slope: SLOPE }
    }

    /// The same with another slope of the leaky ReLUs.
    pub(super) fn with_slope(self, slope: f32) -> Self {
        Self { slope, ..self }
    }

    /// φ(x), `[n, outputs]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let mut h = x;
        for (conv, norm) in &self.blocks {
            h = norm.forward(tape, conv.forward(tape, h), mode).leaky_relu(self.slope).max_pool2d(self.pool);
        }
        self.head.forward(tape, h.flatten())
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let convs = self.blocks.iter().flat_map(|(conv, _)| conv.parameters());
        convs.chain(self.head.parameters()).collect()
    }
}

/// The mirror of φ.
#[derive(Debug, Clone)]
pub struct LenetDecoder {
    start: [usize; 3],
    norm: Option<BatchNorm>,
    blocks: Vec<(Conv2d, BatchNorm)>,
    output: Conv2d,
    factor: [usize; 2],
    /// Height and width after each repetition of pixels.
    extents: Vec<[usize; 2]>,
    slope: f32,
}

impl LenetDecoder {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config, nets: Nets) -> Self {
        let [h, w] = config.bottom();
        let small = nets == Nets::LenetSmall;
        let (kernel, options) = keeping(config);
        let encoder = lenet_channels(config, nets);
        let channels: Vec<_> = match small {
            // The last but one has the width of the first block, those before it that of the second.
            true => (2..=config.levels()).map(|i| encoder[usize::from(i < config.levels())]).collect(),
            false => encoder.into_iter().rev().collect(),
        };
        let start = [config.latent.div_ceil(h * w), h, w];
        let norm = (!small).then(|| BatchNorm::plain(states, &format!("{name}.bn0"), config.latent, EPSILON));
        let mut from = start[0];
        let mut blocks = vec![];
        for (i, to) in channels.into_iter().enumerate() {
            let layer = format!("{name}.deconv{}", i + 1);
            let conv = Conv2d::transposed(states, &layer, [from, to], kernel, options, false);
            glorot(states, &conv.weight);
            blocks.push((conv, BatchNorm::plain(states, &format!("{name}.bn{}", i + 1), to, EPSILON)));
            from = to;
        }
        let last = [from, config.channels];
        let output = Conv2d::transposed(states, &format!("{name}.output"), last, kernel, options, false);
        glorot(states, &output.weight);
        let extents = (0..config.levels()).rev().map(|level| config.extent_at(level)).collect();
        Self { start, norm, blocks, output, factor: config.kernel(2), extents, slope: SLOPE }
    }

    /// The same with another slope of the leaky ReLUs.
    pub(super) fn with_slope(self, slope: f32) -> Self {
        Self { slope, ..self }
    }

    /// `[n, latent]` → samples before the function that bounds them.
    pub fn forward<'t>(&self, tape: &'t Tape, z: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let ([c, h, w], n) = (self.start, z.shape()[0]);
        let z = self.norm.as_ref().map_or(z, |norm| norm.forward(tape, z, mode));
        let mut y = filled(z, c * h * w).reshape(&[n, c, h, w]).leaky_relu(self.slope);
        let mut extents = self.extents.iter();
        let mut repeat = |y| extents.next().map_or(y, |&extent| enlarge(y, self.factor, extent));
        if self.norm.is_none() {
            y = repeat(y);
        }
        for (conv, norm) in &self.blocks {
            y = repeat(norm.forward(tape, conv.forward(tape, y), mode).leaky_relu(self.slope));
        }
        self.output.forward(tape, y)
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let convs = self.blocks.iter().flat_map(|(conv, _)| conv.parameters());
        convs.chain(self.output.parameters()).collect()
    }
}

/// `[n, latent]` → `[n, len]`, the values of each row again and again.
fn filled(z: Tensor<'_>, len: usize) -> Tensor<'_> {
    let latent = z.shape()[1];
    if latent == len {
        return z;
    }
    Tensor::concat(&vec![z; len.div_ceil(latent)], 1).narrow(1, 0, len)
}
