//! Mean and biased variance in one pass by Welford's method; never `E[x²] − E[x]²`.

mod cpu;
mod gpu;

use crate::layout;
use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// x viewed as `[outer, channels, inner]` → outputs mean `[channels]` and variance `[channels]` over outer × inner.
/// Batch norm: outer = n, channels = c, inner = h·w. Layer norm: outer = 1, channels = n, inner = c·h·w.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Moments {
    /// Dimension before the channels.
    pub outer: usize,
    /// Number of means.
    pub channels: usize,
    /// Dimension after the channels.
    pub inner: usize,
}

impl Moments {
    pub(crate) fn name(&self) -> &'static str {
        "moments"
    }

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        layout::checked_numel(self.name(), &[self.outer, self.channels, self.inner]).map(|_| ())
    }

    pub(crate) fn input_lens(&self) -> Vec<usize> {
        vec![self.outer * self.channels * self.inner]
    }

    pub(crate) fn output_lens(&self) -> Vec<usize> {
        vec![self.channels; 2]
    }

    pub(crate) fn cost(&self) -> Cost {
        Cost {
            flops: 4 * self.input_lens()[0] as u64, // shift, sum, square and add
            bytes_read: layout::bytes(&self.input_lens()),
            bytes_written: layout::bytes(&self.output_lens()),
        }
    }

    pub(crate) fn variants(&self) -> Vec<&'static str> {
        gpu::variants()
    }

    pub(crate) fn gpu(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        gpu::plan(self, traits, variant)
    }

    pub(crate) fn cpu_scratch_len(&self, threads: usize) -> usize {
        cpu::scratch_len(self, threads)
    }

    pub(crate) fn cpu(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        let [mean, var] = outputs else { return };
        cpu::run(self, inputs[0], mean, var, scratch);
    }
}
