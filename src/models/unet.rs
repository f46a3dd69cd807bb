//! The U-Net of pix2pix (Isola, Zhu, Zhou & Efros, CVPR 2017, arXiv 1611.07004), down to one pixel, as
//! Skip-GANomaly and DAGAN have it.
//!
//! For a side s = 2ⁿ and width w, c_i = w·min(2^(i−1), 8):
//!
//! | down | out | | up | out |
//! |---|---|---|---|---|
//! | d₁: conv s2 → c₁ | s/2 | | u_n: ReLU, convT s2 c_n → c_{n−1}, BN | 2×2 |
//! | d_i: leaky ReLU 0.2, conv s2 → c_i, BN | s/2ⁱ | | u_i: ReLU, convT s2 2·c_i → c_{i−1}, BN, on (d_i, u_{i+1}) | s/2^(i−1) |
//! | d_n: the same without BN | 1×1 | | u₁: ReLU, convT s2 2·c₁ → channels, tanh | s |
//!
//! Of two sides the smaller one comes down to 1. A u_i leads exactly to the sides that d_i was given, odd
//! ones too ([`config`](super::config)), so skips fit as they are.
//!
//! No biases but u₁'s. PyTorch's leaky ReLU of the original works in place, so its skips carry activations;
//! since a ReLU follows, and ReLU(leaky ReLU(x)) = ReLU(x), the values are the same.

use super::Config;
use crate::nn::{BatchNorm, Conv2d, Mode};
use crate::tape::{States, Tape, Tensor, Variable};

type Block = (Conv2d, Option<BatchNorm>);

/// Image → image in [−1, 1] of the same shape.
#[derive(Debug, Clone)]
pub struct UNet {
    /// d₁ to d_n.
    down: Vec<Block>,
    /// u₁ to u_n.
    up: Vec<Block>,
}

impl UNet {
    /// Registers the parameters under `name`.
    pub fn new(states: &mut States, name: &str, config: &Config) -> Self {
        let (depth, kernel) = (config.halvings(1), config.kernel(config.kernel));
        let norm = |states: &mut States, layer: &str, channels: usize, wanted: bool| {
            wanted.then(|| BatchNorm::new(states, &format!("{layer}_bn"), channels))
        };
        let outer = |i: usize| if i == 1 { config.channels } else { config.channels_at(i - 2) };
        let (mut down, mut up) = (vec![], vec![]);
        for i in 1..=depth {
            let (from, to, layer) = (outer(i), config.channels_at(i - 1), format!("{name}.down{i}"));
            let conv = Conv2d::new(states, &layer, [from, to], kernel, config.halving(i - 1), false);
            down.push((conv, norm(states, &layer, to, i > 1 && i < depth)));
        }
        for i in 1..=depth {
            let from = config.channels_at(i - 1) * if i < depth { 2 } else { 1 };
            let (to, layer) = (outer(i), format!("{name}.up{i}"));
            let conv = Conv2d::transposed(states, &layer, [from, to], kernel, config.halving(i - 1), i == 1);
            up.push((conv, norm(states, &layer, to, i > 1)));
        }
        Self { down, up }
    }

    /// `[n, channels, height, width]` → the same.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let apply = |(conv, norm): &Block, h| {
            let h = conv.forward(tape, h);
            norm.as_ref().map_or(h, |norm| norm.forward(tape, h, mode))
        };
        let mut skips: Vec<Tensor<'t>> = vec![];
        for block in &self.down {
            let h = skips.last().map_or(x, |h| h.leaky_relu(0.2));
            skips.push(apply(block, h));
        }
        let mut made: Option<Tensor<'t>> = None;
        for (block, &skip) in self.up.iter().zip(&skips).rev() {
            let h = made.map_or(skip, |made| Tensor::concat(&[skip, made], 1));
            made = Some(apply(block, h.relu()));
        }
        made.map_or(x, Tensor::tanh)
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let norms =
            |norm: &Option<BatchNorm>| norm.iter().flat_map(BatchNorm::parameters).collect::<Vec<_>>();
        let blocks = self.down.iter().chain(&self.up);
        blocks.flat_map(|(conv, norm)| [conv.parameters(), norms(norm)].concat()).collect()
    }
}
