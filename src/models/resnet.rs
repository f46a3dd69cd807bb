//! The residual networks of WGAN-GP at 64×64 (Gulrajani et al. 2017, appendix F), in the form that f-AnoGAN
//! trains.
//!
//! For a side s = 4·2ᴸ and width w, c_i = w·min(2^i, 8, 2^(L−1)):
//!
//! | generator | out | | critic, encoder | out |
//! |---|---|---|---|---|
//! | linear z → c_L·4·4 | 4×4 | | conv3 → c₀ | s |
//! | L × block up, c_{i+1} → c_i | ×2 each | | L × block down, c_i → c_{i+1} | ÷2 each |
//! | BN, ReLU, conv3 → channels, tanh | s | | **f(x)** = the last of them, 4×4; linear | |
//!
//! A block is N, ReLU, conv3, N, ReLU, conv3, beside a shortcut of one 1×1 convolution: pre-activation. Up,
//! pixels are doubled before the first and the shortcut's convolution; down, 2×2 means are taken after the
//! second and before the shortcut's. Where a side is odd, the last mean is one of the pixels that are there
//! (two, or one in the corner), and of the doubled pixels the last ones are dropped
//! ([`config`](super::config)). N is batch norm in generator and encoder, layer norm in the critic; a port to
//! PyTorch has layer norm in the encoder too, with weights for each element ([`NormKind::Elements`]).

use super::Config;
use crate::nn::{Conv2d, Linear, Mode, Norm, NormKind};
use crate::tape::{Initial, PoolOptions, States, Tape, Tensor, Variable};

/// Which way a block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resample {
    Up,
    Down,
}

/// A pre-activation residual block that doubles or halves the sides.
#[derive(Debug, Clone)]
struct Block {
    resample: Resample,
    /// How much the sides change: 2×2 for images, 1×2 for signals.
    factor: [usize; 2],
    /// Height and width of the larger of its two maps.
    larger: [usize; 2],
    norms: [Norm; 2],
    convs: [Conv2d; 2],
    shortcut: Conv2d,
}

/// Starts a weight as the published code does: uniform with standard deviation √(gain / (fan in + fan out)).
fn start(states: &mut States, weight: &Variable, gain: f32) {
    let taps: usize = weight.shape[2..].iter().product();
    let fans = ((weight.shape[0] + weight.shape[1]) * taps) as f32;
    states.set_initial(weight, Initial::Uniform { bound: (3.0 * gain / fans).sqrt() });
}

/// Gain of Glorot's start: linear layers, shortcuts, the first convolution.
const GLOROT: f32 = 2.0;
/// Gain before a ReLU, where half of the numbers are lost.
const HE: f32 = 4.0;

/// A 3×3 or 1×1 convolution that keeps the sides.
fn conv(
    states: &mut States,
    name: &str,
    config: &Config,
    channels: [usize; 2],
    kernel: usize,
    bias: bool,
) -> Conv2d {
    let (kernel, side) = (config.kernel(kernel), kernel / 2);
    let conv = Conv2d::new(states, name, channels, kernel, config.strided(1, side, side), bias);
    start(states, &conv.weight, if kernel == [1, 1] { GLOROT } else { HE });
    conv
}

fn linear(states: &mut States, name: &str, features: [usize; 2]) -> Linear {
    let linear = Linear::new(states, name, features, true);
    start(states, &linear.weight, GLOROT);
    linear
}

fn norm(states: &mut States, name: &str, channels: usize, kind: NormKind) -> Norm {
    let norm = Norm::new(states, name, channels, kind);
    if let Norm::Batch(batch) = &norm
        && let Some([gamma, _]) = &batch.affine
    {
        states.set_initial(gamma, Initial::Constant(1.0));
    }
    norm
}

/// Repeats pixels, `factor` times down and across, up to this height and width.
pub(super) fn enlarge(x: Tensor<'_>, factor: [usize; 2], extent: [usize; 2]) -> Tensor<'_> {
    let s = x.shape();
    let mut y = x
        .reshape(&[s[0], s[1], s[2], 1, s[3], 1])
        .broadcast_to(&[s[0], s[1], s[2], factor[0], s[3], factor[1]])
        .reshape(&[s[0], s[1], s[2] * factor[0], s[3] * factor[1]]);
    for (d, side) in extent.into_iter().enumerate() {
        if y.shape()[2 + d] > side {
            y = y.narrow(2 + d, 0, side);
        }
    }
    y
}

/// Windows that halve the sides and round up: at an odd end a window holds the one row that is left.
pub(super) fn halving_windows(factor: [usize; 2]) -> PoolOptions {
    PoolOptions { ceil: true, count_padding: false, ..PoolOptions::new(factor, factor, [0; 2]) }
}

impl Block {
    fn new(
        states: &mut States,
        name: &str,
        config: &Config,
        [from, to]: [usize; 2],
        (resample, level): (Resample, usize),
        kind: NormKind,
    ) -> Self {
        let middle = if resample == Resample::Up { to } else { from };
        let (factor, larger) = (config.kernel(2), config.extent_at(level));
        // Downwards both of its norms see the larger map.
        let kind = if let NormKind::Elements(_) = kind { NormKind::Elements(larger) } else { kind };
        let suffix = kind.suffix();
        let norms = [("1", from), ("2", middle)]
            .map(|(i, channels)| norm(states, &format!("{name}.{suffix}{i}"), channels, kind));
        let convs = [
            conv(states, &format!("{name}.conv1"), config, [from, middle], 3, false),
            conv(states, &format!("{name}.conv2"), config, [middle, to], 3, true),
        ];
        let shortcut = conv(states, &format!("{name}.shortcut"), config, [from, to], 1, true);
        Self { resample, factor, larger, norms, convs, shortcut }
    }

    fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let [norm1, norm2] = &self.norms;
        let [conv1, conv2] = &self.convs;
        let up = |x| if self.resample == Resample::Up { enlarge(x, self.factor, self.larger) } else { x };
        let down = |x: Tensor<'t>| match self.resample {
            Resample::Up => x,
            Resample::Down => x.avg_pool2d(halving_windows(self.factor)),
        };
        let h = conv1.forward(tape, up(norm1.forward(tape, x, mode).relu()));
        let h = conv2.forward(tape, norm2.forward(tape, h, mode).relu());
        // A 1×1 convolution acts on every pixel alone, so it may as well come before pixels are doubled.
        down(h) + up(self.shortcut.forward(tape, down(x)))
    }

    fn parameters(&self) -> Vec<Variable> {
        let mut all = vec![];
        for (norm, conv) in self.norms.iter().zip(&self.convs) {
            all.extend(norm.parameters());
            all.extend(conv.parameters());
        }
        all.extend(self.shortcut.parameters());
        all
    }
}

/// Channels between blocks, c₀ to c_L.
fn channels(config: &Config) -> Vec<usize> {
    let levels = config.levels();
    (0..=levels).map(|i| config.channels_at(i.min(levels - 1))).collect()
}

/// G: latent → image in [−1, 1].
#[derive(Debug, Clone)]
pub struct Generator {
    top: [usize; 3],
    project: Linear,
    blocks: Vec<Block>,
    norm: Norm,
    output: Conv2d,
}

impl Generator {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config) -> Self {
        let (channels, [h, w]) = (channels(config), config.bottom());
        let top = channels[channels.len() - 1];
        let project = linear(states, &format!("{name}.project"), [config.latent, h * w * top]);
        let pairs = channels.windows(2).rev().enumerate();
        let blocks = pairs
            .map(|(i, pair)| {
                let (block, pair) = (format!("{name}.up{}", i + 1), [pair[1], pair[0]]);
                let level = channels.len() - 2 - i;
                Block::new(states, &block, config, pair, (Resample::Up, level), NormKind::Batch)
            })
            .collect();
        let norm = norm(states, &format!("{name}.output_bn"), channels[0], NormKind::Batch);
        let last = [channels[0], config.channels];
        let output = conv(states, &format!("{name}.output"), config, last, 3, true);
        Self { top: [top, h, w], project, blocks, norm, output }
    }

    /// `[n, latent]` → `[n, channels, height, width]`.
    pub fn forward<'t>(&self, tape: &'t Tape, z: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let ([top, h, w], n) = (self.top, z.shape()[0]);
        let mut h = self.project.forward(tape, z).reshape(&[n, top, h, w]);
        for block in &self.blocks {
            h = block.forward(tape, h, mode);
        }
        self.output.forward(tape, self.norm.forward(tape, h, mode).relu()).tanh()
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let mut all = self.project.parameters();
        all.extend(self.blocks.iter().flat_map(Block::parameters));
        all.extend(self.norm.parameters());
        all.extend(self.output.parameters());
        all
    }
}

/// The critic, with layer norm and one output; the encoder, with batch norm and as many as the latent is
/// long.
#[derive(Debug, Clone)]
pub struct Pyramid {
    input: Conv2d,
    blocks: Vec<Block>,
    output: Linear,
}

impl Pyramid {
    /// Registers the parameters under `name`; the head has `outputs` values.
    pub fn new(states: &mut States, name: &str, config: &Config, kind: NormKind, outputs: usize) -> Self {
        let channels = channels(config);
        let first = [config.channels, channels[0]];
        let input = conv(states, &format!("{name}.input"), config, first, 3, true);
        start(states, &input.weight, GLOROT);
        let pairs = channels.windows(2).enumerate();
        let blocks = pairs
            .map(|(i, pair)| {
                let (block, pair) = (format!("{name}.down{}", i + 1), [pair[0], pair[1]]);
                Block::new(states, &block, config, pair, (Resample::Down, i), kind)
            })
            .collect();
        let output = linear(states, &format!("{name}.output"), [config.features(), outputs]);
        Self { input, blocks, output }
    }

    /// f(x): the last block's output, `[n, c, height, width]` of the bottom.
    pub fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let h = self.input.forward(tape, x);
        self.blocks.iter().fold(h, |h, block| block.forward(tape, h, mode))
    }

    /// The head's values for each sample from its features, `[n, outputs]`.
    pub fn head<'t>(&self, tape: &'t Tape, features: Tensor<'t>) -> Tensor<'t> {
        self.output.forward(tape, features.flatten())
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let mut all = self.input.parameters();
        all.extend(self.blocks.iter().flat_map(Block::parameters));
        all.extend(self.output.parameters());
        all
    }
}
