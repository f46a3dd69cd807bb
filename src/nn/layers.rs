//! Layers: parameters under PyTorch's names and layouts, and how they act on a tensor.

use super::Mode;
use crate::tape::{ConvOptions, Initial, States, Tape, Tensor, Variable};

/// DCGAN's start for weights: N(0, 0.02) (Radford et al. 2016, §3).
const WEIGHT: Initial = Initial::Normal { mean: 0.0, std: 0.02 };

fn bias(states: &mut States, name: &str, len: usize, wanted: bool) -> Option<Variable> {
    wanted.then(|| states.add(format!("{name}.bias"), &[len], Initial::Constant(0.0)))
}

/// What stands in for the norm of a tensor that has not these channels in dimension 1.
fn unfit<'t>(tape: &'t Tape, op: &'static str, x: Tensor<'t>, channels: usize) -> Option<Tensor<'t>> {
    let shape = x.shape();
    let what = || format!("{shape:?} has not {channels} channels in dimension 1");
    (shape.get(1) != Some(&channels)).then(|| tape.poison(op, what(), &shape))
}

/// 2-D convolution or its transpose.
#[derive(Debug, Clone)]
pub struct Conv2d {
    name: String,
    /// Weight: `[out, in, kh, kw]`, `[in, out, kh, kw]` of a transposed one.
    pub weight: Variable,
    /// Bias, absent where batch norm follows.
    pub bias: Option<Variable>,
    options: ConvOptions,
    transposed: bool,
}

impl Conv2d {
    /// Registers the parameters of a convolution under `name`; `channels` are (in, out), the kernel is
    /// (height, width).
    pub fn new(
        states: &mut States,
        name: &str,
        channels: [usize; 2],
        kernel: [usize; 2],
        options: ConvOptions,
        with_bias: bool,
    ) -> Self {
        let [from, to] = channels;
        let weight = states.add(format!("{name}.weight"), &[to, from, kernel[0], kernel[1]], WEIGHT);
        let bias = bias(states, name, to, with_bias);
        Self { name: name.to_owned(), weight, bias, options, transposed: false }
    }

    /// Registers the parameters of a transposed convolution.
    pub fn transposed(
        states: &mut States,
        name: &str,
        channels: [usize; 2],
        kernel: [usize; 2],
        options: ConvOptions,
        with_bias: bool,
    ) -> Self {
        let [from, to] = channels;
        let weight = states.add(format!("{name}.weight"), &[from, to, kernel[0], kernel[1]], WEIGHT);
        let bias = bias(states, name, to, with_bias);
        Self { name: name.to_owned(), weight, bias, options, transposed: true }
    }

    /// `[n, in, h, w]` → `[n, out, oh, ow]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let _scope = tape.scope(&self.name);
        let weight = tape.state(&self.weight);
        let y = match self.transposed {
            false => x.conv2d(weight, self.options),
            true => x.conv_transpose2d(weight, self.options),
        };
        match &self.bias {
            Some(bias) => y + tape.state(bias).reshape(&[1, bias.shape[0], 1, 1]),
            None => y,
        }
    }

    /// What an optimiser updates: the weight, and the bias where there is one.
    pub fn parameters(&self) -> Vec<Variable> {
        [Some(self.weight.clone()), self.bias.clone()].into_iter().flatten().collect()
    }
}

/// Fully connected layer, weight `[out, in]`.
#[derive(Debug, Clone)]
pub struct Linear {
    name: String,
    /// `[out, in]`, as PyTorch has it.
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

    /// What an optimiser updates: the weight, and the bias where there is one.
    pub fn parameters(&self) -> Vec<Variable> {
        [Some(self.weight.clone()), self.bias.clone()].into_iter().flatten().collect()
    }
}

/// Batch norm over every dimension but the channels (dimension 1).
#[derive(Debug, Clone)]
pub struct BatchNorm {
    name: String,
    /// γ and β; absent in a plain norm.
    pub affine: Option<[Variable; 2]>,
    /// Running mean.
    pub running_mean: Variable,
    /// Running variance, unbiased as in PyTorch.
    pub running_var: Variable,
    epsilon: f32,
}

impl BatchNorm {
    /// Added to the variance.
    pub const EPSILON: f32 = 1e-5;
    /// Weight of the new batch in the running statistics.
    pub const MOMENTUM: f32 = 0.1;

    /// Registers the parameters and running statistics under `name`. γ ~ N(1, 0.02), β = 0 as in DCGAN.
    pub fn new(states: &mut States, name: &str, channels: usize) -> Self {
        let mut add = |part: &str, initial| states.add(format!("{name}.{part}"), &[channels], initial);
        let gamma = add("weight", Initial::Normal { mean: 1.0, std: 0.02 });
        let beta = add("bias", Initial::Constant(0.0));
        Self { affine: Some([gamma, beta]), ..Self::plain(states, name, channels, Self::EPSILON) }
    }

    /// The same with another number added to the variance.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f32) -> Self {
        Self { epsilon, ..self }
    }

    /// Registers the running statistics of a norm without γ and β.
    pub fn plain(states: &mut States, name: &str, channels: usize, epsilon: f32) -> Self {
        let mut add = |part: &str, initial| states.add(format!("{name}.{part}"), &[channels], initial);
        Self {
            name: name.to_owned(),
            affine: None,
            running_mean: add("running_mean", Initial::Constant(0.0)),
            running_var: add("running_var", Initial::Constant(1.0)),
            epsilon,
        }
    }

    /// Normalises `[n, c, …]`. In train mode the biased variance normalises and the unbiased one is
    /// remembered; other modes change no state.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let _scope = tape.scope(&self.name);
        let flat = &self.running_mean.shape;
        if let Some(stand_in) = unfit(tape, "batch_norm", x, flat[0]) {
            return stand_in;
        }
        let mut channel = vec![1; x.rank()];
        channel[1] = flat[0];
        let per_channel = |v: &Variable| tape.state(v).reshape(&channel);
        let affine = self.affine.as_ref().map(|[gamma, beta]| (per_channel(gamma), per_channel(beta)));
        match mode {
            Mode::Eval => {
                // Affine per channel: y = x·s + (β − μ·s), s = γ / √(σ² + ε).
                let root = (per_channel(&self.running_var) + self.epsilon).sqrt();
                let mean = per_channel(&self.running_mean);
                match affine {
                    Some((gamma, beta)) => {
                        let scale = gamma / root;
                        x * scale + (beta - mean * scale)
                    }
                    None => (x - mean) / root,
                }
            }
            Mode::Instance => {
                let axes: Vec<_> = (2..x.rank()).collect();
                let root = (x.variance(&axes) + self.epsilon).sqrt();
                let y = (x - x.mean(&axes)) / root;
                affine.map_or(y, |(gamma, beta)| y * gamma + beta)
            }
            Mode::Train => {
                let axes: Vec<_> = (0..x.rank()).filter(|&d| d != 1).collect();
                let (own, var) = (x.mean(&axes), x.variance(&axes));
                // Of a batch in parts: variances within the parts and between them.
                let (mean, var) = match tape.synced() {
                    1 => (own, var),
                    _ => {
                        let mean = tape.whole(own);
                        (mean, tape.whole(var + (own - mean).square()))
                    }
                };
                let count = (tape.synced() * x.len() / flat[0]) as f32;
                let unbiased = count / (count - 1.0).max(1.0);
                let blend = |running: &Variable, new: Tensor<'t>| {
                    tape.estimate(running, new.reshape(flat).stop_gradient(), Self::MOMENTUM);
                };
                blend(&self.running_mean, mean);
                blend(&self.running_var, var * unbiased);
                let root = (var + self.epsilon).sqrt();
                match affine {
                    Some((gamma, beta)) => (x - mean) * (gamma / root) + beta,
                    None => (x - mean) / root,
                }
            }
        }
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        self.affine.iter().flatten().cloned().collect()
    }
}

/// Layer norm over all dimensions of a sample but the first, with one γ and β for each channel (dimension 1),
/// as the critics of WGAN-GP have it (Gulrajani et al. 2017), or for each element, as PyTorch has it.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    name: String,
    /// γ, one for each channel or element.
    pub weight: Variable,
    /// β, one for each channel or element.
    pub bias: Variable,
}

impl LayerNorm {
    /// Added to the variance.
    pub const EPSILON: f32 = 1e-5;

    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, channels: usize) -> Self {
        Self::of_shape(states, name, &[channels])
    }

    /// Registers parameters of a shape: `[c]`, or that of a sample, `[c, …]`.
    pub fn of_shape(states: &mut States, name: &str, shape: &[usize]) -> Self {
        Self {
            name: name.to_owned(),
            weight: states.add(format!("{name}.weight"), shape, Initial::Constant(1.0)),
            bias: states.add(format!("{name}.bias"), shape, Initial::Constant(0.0)),
        }
    }

    /// Normalises each sample of `[n, c, …]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let _scope = tape.scope(&self.name);
        if let Some(stand_in) = unfit(tape, "layer_norm", x, self.weight.shape[0]) {
            return stand_in;
        }
        let axes: Vec<_> = (1..x.rank()).collect();
        let mut channel = vec![1; x.rank()];
        channel[1..].iter_mut().zip(&self.weight.shape).for_each(|(size, own)| *size = *own);
        let (gamma, beta) =
            (tape.state(&self.weight).reshape(&channel), tape.state(&self.bias).reshape(&channel));
        let r = 1.0 / (x.variance(&axes) + Self::EPSILON).sqrt();
        (x - x.mean(&axes)) * r * gamma + beta
    }

    /// What an optimiser updates: the weight, and the bias where there is one.
    pub fn parameters(&self) -> Vec<Variable> {
        vec![self.weight.clone(), self.bias.clone()]
    }
}

/// Which norm follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Over batch and pixels.
    Batch,
    /// Over each sample; what a gradient penalty allows.
    Layer,
    /// As [`NormKind::Layer`], with weights for each element of a map of this height and width.
    Elements([usize; 2]),
    /// None; the convolution has a bias instead.
    None,
}

impl NormKind {
    /// What its parameters are called after their layer.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Batch => "bn",
            Self::Layer | Self::Elements(_) => "ln",
            Self::None => "",
        }
    }
}

/// A norm, or none.
#[derive(Debug, Clone)]
pub enum Norm {
    /// Batch norm.
    Batch(BatchNorm),
    /// Layer norm.
    Layer(LayerNorm),
    /// No normalisation: the input comes out as it is.
    None,
}

impl Norm {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, channels: usize, kind: NormKind) -> Self {
        match kind {
            NormKind::Batch => Self::Batch(BatchNorm::new(states, name, channels)),
            NormKind::Layer => Self::Layer(LayerNorm::new(states, name, channels)),
            NormKind::Elements([h, w]) => Self::Layer(LayerNorm::of_shape(states, name, &[channels, h, w])),
            NormKind::None => Self::None,
        }
    }

    /// Normalises `[n, c, …]`.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        match self {
            Self::Batch(norm) => norm.forward(tape, x, mode),
            Self::Layer(norm) => norm.forward(tape, x),
            Self::None => x,
        }
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        match self {
            Self::Batch(norm) => norm.parameters(),
            Self::Layer(norm) => norm.parameters(),
            Self::None => vec![],
        }
    }
}
