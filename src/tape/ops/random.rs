//! Random numbers and dropout.

use ganomede_kernels::random::Distribution;

use crate::tape::{Op, Tape, Tensor, Variable};

/// The states behind a program's random numbers: a key, and a count of replays.
#[derive(Debug, Clone)]
pub struct RandomState {
    /// Two words of key as f32 bit patterns, shape `[2]`.
    pub key: Variable,
    /// Number of replays so far, shape `[1]`.
    pub step: Variable,
}

impl Tape {
    /// Uniform numbers in [0, 1), new at every replay and every call.
    pub fn uniform(&self, random: &RandomState, shape: &[usize]) -> Tensor<'_> {
        self.random(Distribution::Uniform, random, shape)
    }

    /// Standard normal numbers, new at every replay and every call.
    pub fn normal(&self, random: &RandomState, shape: &[usize]) -> Tensor<'_> {
        self.random(Distribution::Normal, random, shape)
    }

    fn random(&self, distribution: Distribution, random: &RandomState, shape: &[usize]) -> Tensor<'_> {
        let (key, step) = (self.state(&random.key), self.state(&random.step));
        if random.key.shape != [2] || random.step.shape != [1] {
            let (key, step) = (&random.key.shape, &random.step.shape);
            let what = format!("key {key:?} and step {step:?} of a random state must be [2] and [1]");
            return self.poison("random", what, shape);
        }
        let op = Op::Random(distribution, self.next_stream());
        self.of_whole(shape, |shape| self.node(op, &[key, step], shape))
    }
}

impl<'t> Tensor<'t> {
    /// Zeroes elements with probability `p` and scales the rest by 1 / (1 − p).
    pub fn dropout(self, random: &RandomState, p: f32) -> Tensor<'t> {
        self.dropped(random, p, &self.shape())
    }

    /// As [`Tensor::dropout`], of whole channels of the samples `[n, c, …]`: PyTorch's `Dropout2d`.
    pub fn dropout_channels(self, random: &RandomState, p: f32) -> Tensor<'t> {
        let shape = self.shape();
        let channels: Vec<_> = (0..shape.len()).map(|d| if d < 2 { shape[d] } else { 1 }).collect();
        self.dropped(random, p, &channels)
    }

    /// Dropout of what shares a number of a tensor of this shape.
    fn dropped(self, random: &RandomState, p: f32, numbers: &[usize]) -> Tensor<'t> {
        if !(0.0..1.0).contains(&p) {
            let shape = self.shape();
            return self.tape.poison("dropout", format!("probability {p} is not in [0, 1)"), &shape);
        }
        let keep = (self.tape.uniform(random, numbers) - p).step();
        keep.select(self, self.tape.constant(0.0)) * (1.0 / (1.0 - p))
    }
}
