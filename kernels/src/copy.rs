//! Strided copies into one output: slices, pads, transposes, broadcasts, nearest upsampling, concatenation.

use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// Copies input `p` for part `p`: for every index i of `shape`,
/// `out[dst_offset + Σ i·dst_strides] = input[src_offset + Σ i·src_strides]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// Elements of the input buffer.
    pub src_len: usize,
    /// Iteration shape, at most rank 6.
    pub shape: Vec<usize>,
    /// First element read.
    pub src_offset: usize,
    /// Stride of each dimension in the input.
    pub src_strides: Vec<usize>,
    /// First element written.
    pub dst_offset: usize,
    /// Stride of each dimension in the output.
    pub dst_strides: Vec<usize>,
}

/// One output written by disjoint parts; elements that no part covers are zero when `zero` is set (it must be, if
/// any exist).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Elements of the output.
    pub len: usize,
    /// Zero the output first.
    pub zero: bool,
    /// One part per input.
    pub parts: Vec<Part>,
}

impl Copy {
    pub(crate) fn name(&self) -> &'static str {
        "copy"
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
