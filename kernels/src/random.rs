//! Counter-based random numbers: Philox 4×32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).

use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// Distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// [0, 1): the top 24 bits of each word times 2⁻²⁴; the same bits on every device.
    Uniform,
    /// N(0, 1) by Box–Muller on pairs of words.
    Normal,
}

/// Fills an output of `len`. Inputs: `key [2]` (bit patterns of two u32 words) and `step [1]` (a whole number held as
/// f32, the replay count). Element i uses word i mod 4 of the block with counter (i / 4, stream, step, 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Random {
    /// Distribution.
    pub distribution: Distribution,
    /// Elements.
    pub len: usize,
    /// Distinguishes the random nodes of one program.
    pub stream: u32,
}

impl Random {
    pub(crate) fn name(&self) -> &'static str {
        "random"
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
