//! The networks of A03ki/f-AnoGAN: the DCGAN of eriklindernoren/PyTorch-GAN, whose generator is one of
//! resize-convolutions (Odena, Dumoulin & Olah, Distill 2016), with a critic and an encoder of its
//! discriminator's kind.
//!
//! For any side s, halved rounding up ([`config`](super::config)), and width w, 16 as published:
//!
//! | generator | out | | critic, encoder | out |
//! |---|---|---|---|---|
//! | linear z → 8·w of s/4, BN | s/4 | | conv3 s2 → w, leaky ReLU 0.2, dropout ¼ | s/2 |
//! | pixels twice, conv3 → 8·w, BN′, leaky ReLU 0.2 | s/2 | | conv3 s2 → 2·w, leaky ReLU, dropout, BN′ | s/4 |
//! | pixels twice, conv3 → 4·w, BN′, leaky ReLU 0.2 | s | | conv3 s2 → 4·w, leaky ReLU, dropout, BN′ | s/8 |
//! | conv3 → channels, tanh | s | | conv3 s2 → 8·w, leaky ReLU, dropout, BN′ = **f(x)** | s/16 |
//! | | | | linear | 1 |
//!
//! Four halvings and two doublings at every size, so that the linear layers grow with the area. BN′ adds 0.8
//! to the variance: that is `BatchNorm2d`'s second argument, where the same author's Keras-GAN has 0.8 for
//! the momentum. All layers have biases, norms come after activations in the pyramids, and dropout is of
//! whole channels. Convolutions have one row of zeros before and one behind, as PyTorch's with padding 1,
//! where the other networks have the smaller half before. All begin as PyTorch's layers do: weights and
//! biases uniform within 1/√(fan in), γ = 1.
//!
//! A norm just before the head fixes the mean of each channel of f over batch and places, so that a mean of
//! D over a batch tells places apart and nothing else: at 16×16, where f has one place, it is the same for
//! every batch, and the critic says nothing.

use super::Config;
use super::resnet::enlarge;
use crate::nn::{BatchNorm, Conv2d, Linear, Mode};
use crate::tape::{Initial, RandomState, States, Tape, Tensor, Variable};

/// What BN′ adds to the variance.
pub const EPSILON: f32 = 0.8;
/// Slope of the leaky ReLUs.
const SLOPE: f32 = 0.2;
/// Probability of a channel to be dropped.
const DROPOUT: f32 = 0.25;
/// Halvings of the pyramids.
const HALVINGS: usize = 4;
/// Doublings of the generator.
const DOUBLINGS: usize = 2;

/// Length of f(x).
pub fn features(config: &Config) -> usize {
    let [h, w] = config.extent_at(HALVINGS);
    8 * config.width * h * w
}

/// Starts a layer as PyTorch does.
fn start(states: &mut States, weight: &Variable, bias: Option<&Variable>) {
    let fan_in = weight.shape[1..].iter().product::<usize>() as f32;
    for variable in [Some(weight), bias].into_iter().flatten() {
        states.set_initial(variable, Initial::Uniform { bound: 1.0 / fan_in.sqrt() });
    }
}

/// A 3×3 convolution that keeps the sides, or halves them rounding up.
fn conv(states: &mut States, name: &str, config: &Config, channels: [usize; 2], stride: usize) -> Conv2d {
    let conv = Conv2d::new(states, name, channels, config.kernel(3), config.strided(stride, 1, 1), true);
    start(states, &conv.weight, conv.bias.as_ref());
    conv
}

fn linear(states: &mut States, name: &str, features: [usize; 2]) -> Linear {
    let linear = Linear::new(states, name, features, true);
    start(states, &linear.weight, linear.bias.as_ref());
    linear
}

fn norm(states: &mut States, name: &str, channels: usize, epsilon: f32) -> BatchNorm {
    let norm = BatchNorm::new(states, name, channels).with_epsilon(epsilon);
    if let Some([gamma, _]) = &norm.affine {
        states.set_initial(gamma, Initial::Constant(1.0));
    }
    norm
}

/// G: latent → image in [−1, 1].
#[derive(Debug, Clone)]
pub struct Generator {
    top: [usize; 3],
    project: (Linear, BatchNorm),
    factor: [usize; 2],
    /// Convolutions after pixels were doubled, up to this height and width.
    up: Vec<(Conv2d, BatchNorm, [usize; 2])>,
    output: Conv2d,
}

impl Generator {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config) -> Self {
        let (w, [height, width]) = (config.width, config.extent_at(DOUBLINGS));
        let project = linear(states, &format!("{name}.project"), [config.latent, 8 * w * height * width]);
        let project = (project, norm(states, &format!("{name}.project_bn"), 8 * w, BatchNorm::EPSILON));
        let mut up = vec![];
        for (i, channels) in [[8 * w, 8 * w], [8 * w, 4 * w]].into_iter().enumerate() {
            let layer = format!("{name}.up{}", i + 1);
            let conv = conv(states, &layer, config, channels, 1);
            let norm = norm(states, &format!("{layer}_bn"), channels[1], EPSILON);
            up.push((conv, norm, config.extent_at(DOUBLINGS - 1 - i)));
        }
        let output = conv(states, &format!("{name}.output"), config, [4 * w, config.channels], 1);
        Self { top: [8 * w, height, width], project, factor: config.kernel(2), up, output }
    }

    /// `[n, latent]` → `[n, channels, height, width]`.
    pub fn forward<'t>(&self, tape: &'t Tape, z: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let ([top, h, w], (linear, norm)) = (self.top, &self.project);
        let mut h = linear.forward(tape, z).reshape(&[z.shape()[0], top, h, w]);
        h = norm.forward(tape, h, mode);
        for (conv, norm, extent) in &self.up {
            h = conv.forward(tape, enlarge(h, self.factor, *extent));
            h = norm.forward(tape, h, mode).leaky_relu(SLOPE);
        }
        self.output.forward(tape, h).tanh()
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let mut all = [self.project.0.parameters(), self.project.1.parameters()].concat();
        for (conv, norm, _) in &self.up {
            all.extend(conv.parameters());
            all.extend(norm.parameters());
        }
        all.extend(self.output.parameters());
        all
    }
}

/// The critic with one output, or the encoder with as many as the latent is long.
#[derive(Debug, Clone)]
pub struct Pyramid {
    input: Conv2d,
    down: Vec<(Conv2d, BatchNorm)>,
    output: Linear,
}

impl Pyramid {
    /// Registers the parameters under `name`; the head has `outputs` values.
    pub fn new(states: &mut States, name: &str, config: &Config, outputs: usize) -> Self {
        let w = config.width;
        let input = conv(states, &format!("{name}.input"), config, [config.channels, w], 2);
        let mut down = vec![];
        for level in 1..HALVINGS {
            let (layer, channels) = (format!("{name}.down{level}"), [w << (level - 1), w << level]);
            let conv = conv(states, &layer, config, channels, 2);
            down.push((conv, norm(states, &format!("{layer}_bn"), channels[1], EPSILON)));
        }
        let output = linear(states, &format!("{name}.output"), [features(config), outputs]);
        Self { input, down, output }
    }

    /// f(x): what the last norm gives, `[n, c, height, width]`. With `learning`, batch norm is in train mode
    /// and dropout draws from these random numbers; without, both are in eval mode and nothing changes.
    pub fn features<'t>(&self, tape: &'t Tape, x: Tensor<'t>, learning: Option<&RandomState>) -> Tensor<'t> {
        let mode = if learning.is_some() { Mode::Train } else { Mode::Eval };
        let active = |h: Tensor<'t>| {
            let h = h.leaky_relu(SLOPE);
            learning.map_or(h, |random| h.dropout_channels(random, DROPOUT))
        };
        let mut h = active(self.input.forward(tape, x));
        for (conv, norm) in &self.down {
            h = norm.forward(tape, active(conv.forward(tape, h)), mode);
        }
        h
    }

    /// The head's values for each sample from its features, `[n, outputs]`.
    pub fn head<'t>(&self, tape: &'t Tape, features: Tensor<'t>) -> Tensor<'t> {
        self.output.forward(tape, features.flatten())
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
