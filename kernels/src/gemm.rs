//! Batched matrix product with transposed forms and a fused tail.

use crate::conv::Epilogue;
use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// `out[b] = op(A[b]) · op(B[b])`, out `[batch, m, n]` row-major, then the epilogue (its channel is the column).
/// A is stored `[m, k]`, or `[k, m]` where `trans_a`; B `[k, n]`, or `[n, k]` where `trans_b`. An operand without
/// its own batch dimension is shared by all batches. Inputs: A, B, epilogue operands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Number of products.
    pub batch: usize,
    /// Rows of the output.
    pub m: usize,
    /// Columns of the output.
    pub n: usize,
    /// Inner size.
    pub k: usize,
    /// A is stored transposed.
    pub trans_a: bool,
    /// B is stored transposed.
    pub trans_b: bool,
    /// A has a batch dimension.
    pub batched_a: bool,
    /// B has a batch dimension.
    pub batched_b: bool,
    /// Fused tail.
    pub epilogue: Epilogue,
}

impl Gemm {
    pub(crate) fn name(&self) -> &'static str { "gemm" }
    pub(crate) fn check(&self) -> Result<(), KernelError> { unimplemented!() }
    pub(crate) fn input_lens(&self) -> Vec<usize> { unimplemented!() }
    pub(crate) fn output_lens(&self) -> Vec<usize> { unimplemented!() }
    pub(crate) fn cost(&self) -> Cost { unimplemented!() }
    pub(crate) fn variants(&self) -> Vec<&'static str> { unimplemented!() }
    pub(crate) fn gpu(&self, _traits: &GpuTraits, _variant: Option<&str>) -> Result<GpuPlan, KernelError> { unimplemented!() }
    pub(crate) fn cpu_scratch_len(&self, _threads: usize) -> usize { unimplemented!() }
    pub(crate) fn cpu(&self, _inputs: &[&[f32]], _outputs: &mut [&mut [f32]], _scratch: &mut [f32]) { unimplemented!() }
}
