//! Chains of layers, for networks that their papers print as a table, a row a layer.

use crate::nn::{BatchNorm, Conv2d, Linear, Mode};
use crate::tape::{ConvOptions, Initial, RandomState, States, Tape, Tensor, Variable};

/// One row of a table of layers: a product, then batch norm, activation, dropout and another shape where
/// asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerRow {
    kind: Kind,
    channels: [usize; 2],
    norm: bool,
    activation: Activation,
    dropout: f32,
    shape: Option<[usize; 3]>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Conv { kernel: [usize; 2], options: ConvOptions, transposed: bool },
    Linear,
}

/// What follows a product and its norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// The identity.
    None,
    /// max(0, ·).
    Relu,
    /// Leaky ReLU of this slope.
    Leaky(f32),
    /// Hyperbolic tangent.
    Tanh,
}

impl LayerRow {
    fn new(kind: Kind, channels: [usize; 2]) -> Self {
        Self { kind, channels, norm: false, activation: Activation::None, dropout: 0.0, shape: None }
    }

    /// A convolution; `channels` are (in, out), the kernel is (height, width).
    pub fn conv(channels: [usize; 2], kernel: [usize; 2], options: ConvOptions) -> Self {
        Self::new(Kind::Conv { kernel, options, transposed: false }, channels)
    }

    /// A transposed convolution.
    pub fn transposed(channels: [usize; 2], kernel: [usize; 2], options: ConvOptions) -> Self {
        Self::new(Kind::Conv { kernel, options, transposed: true }, channels)
    }

    /// A fully connected layer of the flattened sample.
    pub fn linear(features: [usize; 2]) -> Self {
        Self::new(Kind::Linear, features)
    }

    /// Batch norm in place of the bias.
    pub fn norm(self) -> Self {
        Self { norm: true, ..self }
    }

    /// Ends the layer with an activation.
    pub fn then(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Dropout of this probability.
    pub fn dropout(self, dropout: f32) -> Self {
        Self { dropout, ..self }
    }

    /// The sample's shape after the layer, `[channels, height, width]`.
    pub fn shaped(self, shape: [usize; 3]) -> Self {
        Self { shape: Some(shape), ..self }
    }
}

#[derive(Debug, Clone)]
enum Product {
    Conv(Conv2d),
    Linear(Linear),
}

/// A chain of layers.
#[derive(Debug, Clone)]
pub struct Stack {
    layers: Vec<(Product, Option<BatchNorm>, LayerRow)>,
}

impl Stack {
    /// Registers the layers as `name.0`, `name.1`, … and their norms as `name.0_bn`, ….
    pub fn new(states: &mut States, name: &str, rows: &[LayerRow]) -> Self {
        let layer = |(i, row): (usize, &LayerRow)| {
            let layer = format!("{name}.{i}");
            let product = match row.kind {
                Kind::Linear => Product::Linear(Linear::new(states, &layer, row.channels, !row.norm)),
                Kind::Conv { kernel, options, transposed } => {
                    let new = if transposed { Conv2d::transposed } else { Conv2d::new };
                    Product::Conv(new(states, &layer, row.channels, kernel, options, !row.norm))
                }
            };
            let norm = row.norm.then(|| BatchNorm::new(states, &format!("{layer}_bn"), row.channels[1]));
            (product, norm, *row)
        };
        Self { layers: rows.iter().enumerate().map(layer).collect() }
    }

    /// Makes fully connected layers start as Glorot & Bengio (2010) have it, uniform within √(6 / (in +
    /// out)).
    pub fn start_glorot(&self, states: &mut States) {
        for (product, ..) in &self.layers {
            if let Product::Linear(linear) = product {
                let bound = (6.0 / linear.weight.shape.iter().sum::<usize>() as f32).sqrt();
                states.set_initial(&linear.weight, Initial::Uniform { bound });
            }
        }
    }

    /// `[n, …]` through all layers. With `learning`, batch norm is in train mode and dropout draws from these
    /// random numbers; without, both are in eval mode and nothing changes.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, learning: Option<&RandomState>) -> Tensor<'t> {
        let mode = if learning.is_some() { Mode::Train } else { Mode::Eval };
        self.layers.iter().fold(x, |h, (product, norm, row)| {
            let mut h = match product {
                Product::Conv(conv) => conv.forward(tape, h),
                Product::Linear(linear) => linear.forward(tape, h.flatten()),
            };
            if let Some(norm) = norm {
                h = norm.forward(tape, h, mode);
            }
            h = match row.activation {
                Activation::None => h,
                Activation::Relu => h.relu(),
                Activation::Leaky(slope) => h.leaky_relu(slope),
                Activation::Tanh => h.tanh(),
            };
            if let (Some(random), true) = (learning, row.dropout > 0.0) {
                h = h.dropout(random, row.dropout);
            }
            row.shape.map_or(h, |[c, height, width]| h.reshape(&[h.shape()[0], c, height, width]))
        })
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        self.clone().parameters_mut().into_iter().map(|p| p.clone()).collect()
    }

    fn parameters_mut(&mut self) -> Vec<&mut Variable> {
        let mut all = vec![];
        for (product, norm, _) in &mut self.layers {
            let (Product::Conv(Conv2d { weight, bias, .. }) | Product::Linear(Linear { weight, bias, .. })) =
                product;
            all.push(weight);
            all.extend(bias);
            all.extend(norm.iter_mut().flat_map(|norm| &mut norm.affine).flatten());
        }
        all
    }

    /// The same chain with other parameters, averages of its own say, taken in the order of
    /// [`Stack::parameters`]; running statistics stay.
    pub fn with_parameters(&self, parameters: &mut impl Iterator<Item = Variable>) -> Self {
        let mut other = self.clone();
        for own in other.parameters_mut() {
            *own = parameters.next().unwrap_or_else(|| own.clone());
        }
        other
    }
}
