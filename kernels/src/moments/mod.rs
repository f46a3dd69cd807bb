//! Mean and biased variance in one pass by Welford's method; never `E[x²] − E[x]²`.

mod cpu;
mod gpu;

use crate::error::KernelError;
use crate::family::{Family, Size, Values};
use crate::ladder::{Ladder, variant};
use crate::launch::{Cost, GpuPlan, GpuTraits, Slot};
use crate::layout;
use crate::text::{rounded, shape};

const LADDERS: [Ladder; 1] = [Ladder {
    name: "moments",
    computes: "mean and variance, for batch norm",
    variants: &[
        variant("naive", "1 channel a thread", "never: the reference"),
        variant(
            "threads",
            "1 segment of a channel a thread, joined in a second dispatch",
            "software adapters; fewer than 64 elements",
        ),
        variant(
            "groups",
            "1 segment of a channel a workgroup of 256, a tree in shared memory",
            "hardware, otherwise",
        ),
    ],
}];

/// x viewed as `[outer, channels, inner]` → outputs mean `[channels]` and variance `[channels]` over outer ×
/// inner. Batch norm: outer = n, channels = c, inner = h·w. Layer norm: outer = 1, channels = n, inner =
/// c·h·w.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Moments {
    /// Dimension before the channels.
    pub outer: usize,
    /// Number of means.
    pub channels: usize,
    /// Dimension after the channels.
    pub inner: usize,
}

impl Family for Moments {
    fn name(&self) -> &'static str {
        "moments"
    }

    fn check(&self) -> Result<(), KernelError> {
        layout::checked_numel(self.name(), &[self.outer, self.channels, self.inner]).map(|_| ())
    }

    fn input_lens(&self) -> Vec<usize> {
        vec![self.outer * self.channels * self.inner]
    }

    fn output_lens(&self) -> Vec<usize> {
        vec![self.channels; 2]
    }

    fn cost(&self) -> Cost {
        Cost {
            flops: 4 * self.input_lens()[0] as u64, // shift, sum, square and add
            bytes_read: layout::bytes(&self.input_lens()),
            bytes_written: layout::bytes(&self.output_lens()),
        }
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        gpu::plan(self, traits, variant)
    }

    fn twin_scratch_len(&self, threads: usize) -> usize {
        cpu::scratch_len(self, threads)
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        let [mean, var] = outputs else { return };
        cpu::run(self, inputs[0], mean, var, scratch);
    }

    fn class(&self) -> String {
        let [outer, channels, inner] = [self.outer, self.channels, self.inner].map(rounded);
        format!("{outer}×{channels}×{inner}")
    }

    fn line(&self) -> String {
        let from = shape(&[self.outer, self.channels, self.inner]);
        format!("{from} → mean and variance of {}", self.channels)
    }

    fn ladders() -> &'static [Ladder] {
        &LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &LADDERS[0]
    }

    fn oracle(&self, inputs: &[&[f32]], _before: &[&[f32]]) -> Vec<Vec<f64>> {
        let n = (self.outer * self.inner) as f64;
        let (mut mean, mut var) = (vec![0.0; self.channels], vec![0.0; self.channels]);
        for (i, &v) in inputs[0].iter().enumerate() {
            mean[i / self.inner % self.channels] += f64::from(v) / n;
        }
        for (i, &v) in inputs[0].iter().enumerate() {
            let c = i / self.inner % self.channels;
            var[c] += (f64::from(v) - mean[c]).powi(2) / n;
        }
        vec![mean, var]
    }

    fn sample(_ladder: &str, _variant: &str, size: Size) -> Self {
        match size {
            Size::Typical => Self { outer: 64, channels: 64, inner: 1024 },
            Size::Small => Self { outer: 5, channels: 7, inner: 143 },
        }
    }

    fn values(&self, _buffer: Slot) -> Values {
        Values::Signed
    }
}
