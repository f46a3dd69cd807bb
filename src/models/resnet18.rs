//! The residual encoder-decoder of NSA (Schlüter et al., ECCV 2022): ResNet-18 (He et al., CVPR 2016) without
//! its head, then a decoder without skips, from an image to one logit a pixel.
//!
//! For a side s and width w (64 in the paper):
//!
//! | encoder | out | | decoder | out |
//! |---|---|---|---|---|
//! | `conv1`: 7×7 s2 → w, BN, ReLU | s/2 | | `nin`: 1×1 → 4·w, ReLU, 1×1 → 2·w, ReLU | s/32 |
//! | max pool 3×3 s2 | s/4 | | `uplayer1`: block up → w | s/16 |
//! | `layer1`: 2 blocks → w | s/4 | | `uplayer2`: block up → w/2 | s/8 |
//! | `layer2`: block down → 2·w, block | s/8 | | `uplayer3`: block up → w/4 | s/4 |
//! | `layer3`: the same → 4·w | s/16 | | bilinear, corners aligned | s/2 |
//! | `layer4`: the same → 8·w | s/32 | | `convtranspose1`: 7×7 s2 → 1 | s |
//!
//! A block is conv3, BN, ReLU, conv3, BN, and its input added before the last ReLU; where sides or channels
//! change, the first convolution has stride 2 (a transposed one upwards), and the input goes through a 1×1
//! convolution of the same stride with BN. Without the pool all sides are twice as long and the bilinear
//! step is left out. No convolution has a bias. Sides are halved and restored by [the rule of
//! sides](super::config), so any image fits.

use super::Config;
use crate::nn::{BatchNorm, Conv2d, Mode};
use crate::tape::{ConvOptions, Initial, PoolOptions, Sampling, States, Tape, Tensor, Variable};

/// A convolution and the norm after it.
#[derive(Debug, Clone)]
struct Normed(Conv2d, BatchNorm);

/// Where a convolution leads: to the same sides, to half of them, or to twice them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Same,
    Down,
    Up,
}

/// A convolution that starts as the published code has it: He's normal numbers by fan out, transposed ones
/// as PyTorch does, uniform within 1 / √fan in. `level` is that of the larger of its two sides.
fn conv(
    states: &mut States,
    name: &str,
    config: &Config,
    channels: [usize; 2],
    kernel: usize,
    (step, level): (Step, usize),
) -> Conv2d {
    let size = config.kernel(kernel);
    let fan = (channels[1] * size[0] * size[1]) as f32;
    let halving = config.halving_by(kernel, level);
    if step == Step::Up {
        // A kernel of 1 leaves the last row of an even side out, which is padded then.
        let (small, large) = (config.extent_at(level + 1), config.extent_at(level));
        let reached = |d: usize| (small[d] - 1) * halving.stride[d] + size[d];
        let output_padding =
            [0, 1].map(|d| (large[d] + halving.pad_low[d] + halving.pad_high[d]).saturating_sub(reached(d)));
        let options = ConvOptions { output_padding, ..halving };
        let conv = Conv2d::transposed(states, name, channels, size, options, false);
        states.set_initial(&conv.weight, Initial::Uniform { bound: fan.sqrt().recip() });
        return conv;
    }
    let options = if step == Step::Down { halving } else { config.strided(1, kernel / 2, kernel / 2) };
    let conv = Conv2d::new(states, name, channels, size, options, false);
    states.set_initial(&conv.weight, Initial::Normal { mean: 0.0, std: (2.0 / fan).sqrt() });
    conv
}

fn norm(states: &mut States, name: &str, channels: usize) -> BatchNorm {
    let norm = BatchNorm::new(states, name, channels);
    if let Some([gamma, _]) = &norm.affine {
        states.set_initial(gamma, Initial::Constant(1.0));
    }
    norm
}

impl Normed {
    fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        self.1.forward(tape, self.0.forward(tape, x), mode)
    }

    fn parameters(&self) -> Vec<Variable> {
        [self.0.parameters(), self.1.parameters()].concat()
    }
}

/// Two convolutions around which their input goes.
#[derive(Debug, Clone)]
struct Block {
    convs: [Normed; 2],
    /// Absent where the input has the output's shape.
    shortcut: Option<Normed>,
}

impl Block {
    fn new(
        states: &mut States,
        name: &str,
        config: &Config,
        [from, to]: [usize; 2],
        step: (Step, usize),
    ) -> Self {
        let same = (Step::Same, 0);
        let first = conv(states, &format!("{name}.conv1"), config, [from, to], 3, step);
        let first = Normed(first, norm(states, &format!("{name}.bn1"), to));
        let second = conv(states, &format!("{name}.conv2"), config, [to, to], 3, same);
        let second = Normed(second, norm(states, &format!("{name}.bn2"), to));
        let kind = if step.0 == Step::Up { "upsample" } else { "downsample" };
        let shortcut = (step.0 != Step::Same || from != to).then(|| {
            let conv = conv(states, &format!("{name}.{kind}.0"), config, [from, to], 1, step);
            Normed(conv, norm(states, &format!("{name}.{kind}.1"), to))
        });
        Self { convs: [first, second], shortcut }
    }

    fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        let [first, second] = &self.convs;
        let h = second.forward(tape, first.forward(tape, x, mode).relu(), mode);
        let around = self.shortcut.as_ref().map_or(x, |shortcut| shortcut.forward(tape, x, mode));
        (h + around).relu()
    }

    fn parameters(&self) -> Vec<Variable> {
        self.convs.iter().chain(&self.shortcut).flat_map(Normed::parameters).collect()
    }
}

/// Image → one logit a pixel.
#[derive(Debug, Clone)]
pub struct EncoderDecoder {
    config: Config,
    pools: bool,
    stem: Normed,
    down: Vec<Block>,
    nin: [Conv2d; 2],
    up: Vec<Block>,
    output: Conv2d,
}

impl EncoderDecoder {
    /// Registers the parameters under `name`; with `pools` the stem ends with a max pool.
    pub fn new(states: &mut States, name: &str, config: &Config, pools: bool) -> Self {
        let w = config.width;
        // The level at which the residual blocks begin.
        let top = if pools { 2 } else { 1 };
        let named = |part: &str| format!("{name}.{part}");
        let stem = conv(states, &named("conv1"), config, [config.channels, w], 7, (Step::Down, 0));
        let stem = Normed(stem, norm(states, &named("bn1"), w));
        let mut down = vec![];
        for i in 0..4 {
            let (from, to) = (w << i.max(1) >> 1, w << i);
            let step = if i == 0 { (Step::Same, 0) } else { (Step::Down, top + i - 1) };
            down.push(Block::new(states, &named(&format!("layer{}.0", i + 1)), config, [from, to], step));
            let same = (Step::Same, 0);
            down.push(Block::new(states, &named(&format!("layer{}.1", i + 1)), config, [to, to], same));
        }
        let same = (Step::Same, 0);
        let nin = [("nin.0", [8 * w, 4 * w]), ("nin.2", [4 * w, 2 * w])]
            .map(|(part, channels)| conv(states, &named(part), config, channels, 1, same));
        let narrow = |i: usize| ((2 * w) >> i).max(1);
        let up = (0..3).map(|i| {
            let (layer, channels) = (named(&format!("uplayer{}.0", i + 1)), [narrow(i), narrow(i + 1)]);
            Block::new(states, &layer, config, channels, (Step::Up, top + 2 - i))
        });
        let up = up.collect();
        let output = conv(states, &named("convtranspose1"), config, [narrow(3), 1], 7, (Step::Up, 0));
        Self { config: config.clone(), pools, stem, down, nin, up, output }
    }

    /// `[n, channels, height, width]` → logits `[n, 1, height, width]` and features `[n, c, h, w]` of the
    /// bottom.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> (Tensor<'t>, Tensor<'t>) {
        let mut h = self.stem.forward(tape, x, mode).relu();
        if self.pools {
            let zeros = self.config.halving_by(3, 1);
            let (pad_low, pad_high, stride) = (zeros.pad_low, zeros.pad_high, zeros.stride);
            let window = PoolOptions::new(self.config.kernel(3), stride, [0; 2]);
            h = h.max_pool2d(PoolOptions { pad_low, pad_high, ..window });
        }
        h = self.down.iter().fold(h, |h, block| block.forward(tape, h, mode));
        let features = self.nin.iter().fold(h, |h, conv| conv.forward(tape, h).relu());
        h = self.up.iter().fold(features, |h, block| block.forward(tape, h, mode));
        if self.pools {
            h = h.resize(self.config.extent_at(1), Sampling::LinearAligned);
        }
        (self.output.forward(tape, h), features)
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let mut all = self.stem.parameters();
        all.extend(self.down.iter().flat_map(Block::parameters));
        all.extend(self.nin.iter().flat_map(Conv2d::parameters));
        all.extend(self.up.iter().flat_map(Block::parameters));
        all.extend(self.output.parameters());
        all
    }
}
