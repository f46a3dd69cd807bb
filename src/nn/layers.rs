//! Layers: parameters under PyTorch's names and layouts, and how they act on a tensor.

use super::Mode;
use crate::tape::{ConvOptions, Initial, States, Tape, Tensor, Variable};

/// DCGAN's start for weights: N(0, 0.02) (Radford et al. 2016, §3).
const WEIGHT: Initial = Initial::Normal { mean: 0.0, std: 0.02 };

fn bias(states: &mut States, name: &str, len: usize, wanted: bool) -> Option<Variable> {
    wanted.then(|| states.add(format!("{name}.bias"), &[len], Initial::Constant(0.0)))
}

/// Adds a per-channel bias to `[n, c, h, w]`.
fn add_bias<'t>(tape: &'t Tape, y: Tensor<'t>, bias: Option<&Variable>) -> Tensor<'t> {
    match bias {
        Some(bias) => y + tape.state(bias).reshape(&[1, bias.shape[0], 1, 1]),
        None => y,
    }
}

/// 2-D convolution, weight `[out, in, k, k]`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    name: String,
    /// Weight.
    pub weight: Variable,
    /// Bias, absent where batch norm follows.
    pub bias: Option<Variable>,
    options: ConvOptions,
}

impl Conv2d {
    /// Registers the parameters under `name`.
    pub fn new(
        states: &mut States,
        name: &str,
        channels: [usize; 2],
        kernel: usize,
        options: ConvOptions,
        with_bias: bool,
    ) -> Self {
        let [from, to] = channels;
        let weight = states.add(format!("{name}.weight"), &[to, from, kernel, kernel], WEIGHT);
        Self { name: name.to_owned(), weight, bias: bias(states, name, to, with_bias), options }
    }

    /// `[n, in, h, w]` → `[n, out, oh, ow]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let _scope = tape.scope(&self.name);
        add_bias(tape, x.conv2d(tape.state(&self.weight), self.options), self.bias.as_ref())
    }

    /// Parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        [Some(self.weight.clone()), self.bias.clone()].into_iter().flatten().collect()
    }
}

/// Transposed 2-D convolution, weight `[in, out, k, k]`.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    name: String,
    /// Weight.
    pub weight: Variable,
    /// Bias, absent where batch norm follows.
    pub bias: Option<Variable>,
    options: ConvOptions,
}

impl ConvTranspose2d {
    /// Registers the parameters under `name`.
    pub fn new(
        states: &mut States,
        name: &str,
        channels: [usize; 2],
        kernel: usize,
        options: ConvOptions,
        with_bias: bool,
    ) -> Self {
        let [from, to] = channels;
        let weight = states.add(format!("{name}.weight"), &[from, to, kernel, kernel], WEIGHT);
        Self { name: name.to_owned(), weight, bias: bias(states, name, to, with_bias), options }
    }

    /// `[n, in, h, w]` → `[n, out, oh, ow]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let _scope = tape.scope(&self.name);
        add_bias(tape, x.conv_transpose2d(tape.state(&self.weight), self.options), self.bias.as_ref())
    }

    /// Parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        [Some(self.weight.clone()), self.bias.clone()].into_iter().flatten().collect()
    }
}

/// Fully connected layer, weight `[out, in]`.
#[derive(Debug, Clone)]
pub struct Linear {
    name: String,
    /// Weight.
    pub weight: Variable,
    /// Bias, absent where batch norm follows.
    pub bias: Option<Variable>,
}

impl Linear {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, features: [usize; 2], with_bias: bool) -> Self {
        let [from, to] = features;
        let weight = states.add(format!("{name}.weight"), &[to, from], WEIGHT);
        Self { name: name.to_owned(), weight, bias: bias(states, name, to, with_bias) }
    }

    /// `[n, in]` → `[n, out]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let _scope = tape.scope(&self.name);
        x.linear(tape.state(&self.weight), self.bias.as_ref().map(|b| tape.state(b)))
    }

    /// Parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        [Some(self.weight.clone()), self.bias.clone()].into_iter().flatten().collect()
    }
}

/// Batch norm over every dimension but the channels (dimension 1). γ ~ N(1, 0.02), β = 0 as in DCGAN.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    name: String,
    /// γ.
    pub weight: Variable,
    /// β.
    pub bias: Variable,
    /// Running mean.
    pub running_mean: Variable,
    /// Running variance, unbiased as in PyTorch.
    pub running_var: Variable,
}

impl BatchNorm {
    /// Added to the variance.
    pub const EPSILON: f32 = 1e-5;
    /// Weight of the new batch in the running statistics.
    pub const MOMENTUM: f32 = 0.1;

    /// Registers the parameters and running statistics under `name`.
    pub fn new(states: &mut States, name: &str, channels: usize) -> Self {
        let mut add = |part: &str, initial| states.add(format!("{name}.{part}"), &[channels], initial);
        Self {
            name: name.to_owned(),
            weight: add("weight", Initial::Normal { mean: 1.0, std: 0.02 }),
            bias: add("bias", Initial::Constant(0.0)),
            running_mean: add("running_mean", Initial::Constant(0.0)),
            running_var: add("running_var", Initial::Constant(1.0)),
        }
    }

    /// Normalises `[n, c, …]`. In train mode the biased variance normalises and the unbiased one is remembered.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let _scope = tape.scope(&self.name);
        let mut channel = vec![1; x.rank()];
        channel[1] = self.weight.shape[0];
        let per_channel = |v: &Variable| tape.state(v).reshape(&channel);
        let (gamma, beta) = (per_channel(&self.weight), per_channel(&self.bias));
        match mode {
            Mode::Eval => {
                // Affine per channel: y = x·s + (β − μ·s), s = γ / √(σ² + ε).
                let scale = gamma / (per_channel(&self.running_var) + Self::EPSILON).sqrt();
                let shift = beta - per_channel(&self.running_mean) * scale;
                x * scale + shift
            }
            Mode::Train => {
                let axes: Vec<_> = (0..x.rank()).filter(|&d| d != 1).collect();
                let (mean, var) = (x.mean(&axes), x.variance(&axes));
                let count = (x.len() / self.weight.shape[0]) as f32;
                let unbiased = count / (count - 1.0).max(1.0);
                let flat = &self.weight.shape;
                let blend = |old: &Variable, new: Tensor<'t>| {
                    let new = new.reshape(flat).stop_gradient();
                    tape.assign(old, tape.state(old) * (1.0 - Self::MOMENTUM) + new * Self::MOMENTUM);
                };
                blend(&self.running_mean, mean);
                blend(&self.running_var, var * unbiased);
                (x - mean) * (gamma / (var + Self::EPSILON).sqrt()) + beta
            }
        }
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        vec![self.weight.clone(), self.bias.clone()]
    }
}

/// Layer norm over all dimensions of a sample but the first, with one γ and β for each channel (dimension 1), as
/// the critics of WGAN-GP have it (Gulrajani et al. 2017).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    name: String,
    /// γ.
    pub weight: Variable,
    /// β.
    pub bias: Variable,
}

impl LayerNorm {
    /// Added to the variance.
    pub const EPSILON: f32 = 1e-5;

    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, channels: usize) -> Self {
        Self {
            name: name.to_owned(),
            weight: states.add(format!("{name}.weight"), &[channels], Initial::Constant(1.0)),
            bias: states.add(format!("{name}.bias"), &[channels], Initial::Constant(0.0)),
        }
    }

    /// Normalises each sample of `[n, c, …]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let _scope = tape.scope(&self.name);
        let axes: Vec<_> = (1..x.rank()).collect();
        let mut channel = vec![1; x.rank()];
        channel[1] = self.weight.shape[0];
        let (gamma, beta) =
            (tape.state(&self.weight).reshape(&channel), tape.state(&self.bias).reshape(&channel));
        let r = 1.0 / (x.variance(&axes) + Self::EPSILON).sqrt();
        (x - x.mean(&axes)) * r * gamma + beta
    }

    /// Parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        vec![self.weight.clone(), self.bias.clone()]
    }
}
