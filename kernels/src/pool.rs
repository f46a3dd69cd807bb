//! Max pooling as three closed operations: the index of each window's maximum, and the gather and scatter by it.

use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Face {
    /// x → index of the (first) maximum of each window within its plane, as an f32 integer (planes ≤ 2²⁴).
    Indices,
    /// (x, indices) → the values there.
    Gather,
    /// (y, indices) → x-shaped sum of the values sent to each index; the adjoint of gather.
    Scatter,
}

/// Max pooling over `planes` = n·c planes; padding counts as −∞.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// Face.
    pub face: Face,
    /// Planes.
    pub planes: usize,
    /// Input size.
    pub x: [usize; 2],
    /// Output size.
    pub y: [usize; 2],
    /// Window.
    pub kernel: [usize; 2],
    /// Stride.
    pub stride: [usize; 2],
    /// Padding before; less than the window.
    pub pad_low: [usize; 2],
}

impl MaxPool {
    pub(crate) fn name(&self) -> &'static str {
        "pool"
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
