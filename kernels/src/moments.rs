//! Mean and biased variance in one pass by Welford's method; never E[x²] − E[x]².

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
        unimplemented!()
    }
    pub(crate) fn input_lens(&self) -> Vec<usize> {
        unimplemented!()
    }
    pub(crate) fn output_lens(&self) -> Vec<usize> {
        unimplemented!()
    }
    pub(crate) fn cost(&self) -> Cost {
        unimplemented!()
    }
    pub(crate) fn variants(&self) -> Vec<&'static str> {
        unimplemented!()
    }
    pub(crate) fn gpu(&self, _traits: &GpuTraits, _variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        unimplemented!()
    }
    pub(crate) fn cpu_scratch_len(&self, _threads: usize) -> usize {
        unimplemented!()
    }
    pub(crate) fn cpu(&self, _inputs: &[&[f32]], _outputs: &mut [&mut [f32]], _scratch: &mut [f32]) {
        unimplemented!()
    }
}
