//! Batched matrix product with transposed forms and a fused tail.

mod cpu;
pub(crate) mod gpu;

use crate::conv::{Epilogue, checked_len, shape_error};
use crate::half::words;
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
    /// B is stored in halves ([`crate::half`]).
    pub half_b: bool,
    /// Fused tail.
    pub epilogue: Epilogue,
}

impl Gemm {
    pub(crate) fn name(&self) -> &'static str {
        "gemm"
    }

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        let sizes = [("batch", self.batch), ("m", self.m), ("n", self.n), ("k", self.k)];
        for (what, size) in sizes {
            if size == 0 {
                return Err(shape_error("gemm", format!("{what} must be at least 1, got 0")));
            }
        }
        checked_len("gemm", "A", &[self.batch, self.m, self.k])?;
        checked_len("gemm", "B", &[self.batch, self.k, self.n])?;
        checked_len("gemm", "the output", &[self.batch, self.m, self.n])?;
        self.epilogue.check("gemm")
    }

    pub(crate) fn input_lens(&self) -> Vec<usize> {
        let a = self.m * self.k * if self.batched_a { self.batch } else { 1 };
        let b = if self.half_b { words(self.b_len()) } else { self.b_len() };
        let tail = self.epilogue.operand_lens(self.out_len(), self.n);
        [a, b].into_iter().chain(tail).collect()
    }

    pub(crate) fn output_lens(&self) -> Vec<usize> {
        vec![self.out_len()]
    }

    /// Numbers in B.
    fn b_len(&self) -> usize {
        self.k * self.n * if self.batched_b { self.batch } else { 1 }
    }

    fn out_len(&self) -> usize {
        self.batch * self.m * self.n
    }

    pub(crate) fn cost(&self) -> Cost {
        let out = self.out_len() as u64;
        Cost {
            flops: out * (2 * self.k as u64 + self.epilogue.expr.flops()),
            bytes_read: 4 * self.input_lens().iter().map(|&len| len as u64).sum::<u64>(),
            bytes_written: 4 * out,
        }
    }

    pub(crate) fn variants(&self) -> Vec<&'static str> {
        gpu::variants(self)
    }

    pub(crate) fn gpu(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        gpu::plan(self, traits, variant)
    }

    pub(crate) fn cpu_scratch_len(&self, threads: usize) -> usize {
        cpu::scratch_len(self, threads)
    }

    pub(crate) fn cpu(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, outputs, scratch);
    }
}
