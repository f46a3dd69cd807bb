//! Batched matrix product with transposed forms and a fused tail.

mod beside;
mod cpu;
pub(crate) mod gpu;
mod oracle;
mod pairs;
pub(crate) mod product;
pub(crate) mod tile_f16;

use crate::epilogue::Epilogue;
use crate::error::{KernelError, shape_error};
use crate::family::{Family, Size, Values};
use crate::half::words;
use crate::ladder::{Ladder, Variant, variant};
use crate::launch::{Cost, GpuPlan, GpuTraits, Slot};
use crate::layout::checked_len;
use crate::precision::Precision;
use crate::text::{rounded, shape};

pub(crate) const TILE32: Variant = variant(
    "tile32",
    "32 × 32 outputs a workgroup, 4 × 4 a thread, 16 deep in shared memory; split-K",
    "hardware: a side of at most 32, or too few 64 × 64 tiles to fill the adapter",
);
pub(crate) const TILE64: Variant = variant(
    "tile64",
    "64 × 64 outputs a workgroup, 8 × 8 a thread, 16 deep in shared memory; split-K",
    "hardware, otherwise",
);
pub(crate) const REGISTERS: Variant = variant(
    "registers",
    "8 rows × 4 columns a thread (16 × 8 on software adapters), A packed, no shared memory; split-K",
    "software adapters without subgroups; at most four rows of output (output channels of a convolution)",
);
pub(crate) const SUBGROUPS: Variant = variant(
    "subgroups",
    "32 rows × 4 columns a lane of a subgroup (8 in winograd), A shared by shuffles, no shared memory; split-K",
    "software adapters whose subgroups have one size",
);
pub(crate) const TILE32_F16: Variant = variant(
    "tile32_f16",
    "tile32 on operands scaled and rounded to halves, two multiply-adds an instruction; sums in f32",
    "--precision f16, where tile32 is in f32",
);
pub(crate) const TILE64_F16: Variant = variant(
    "tile64_f16",
    "tile64 on operands scaled and rounded to halves, two multiply-adds an instruction; sums in f32",
    "--precision f16, otherwise",
);
const LADDERS: [Ladder; 1] = [Ladder {
    name: "gemm",
    computes: "batched, transposed matrix products",
    variants: &[
        variant("naive", "1 output a thread", "matrix × vector with many outputs or a short sum"),
        TILE32,
        TILE64,
        REGISTERS,
        variant(
            "dot",
            "1 output a workgroup of 64",
            "matrix × vector, at most 4096 outputs of sums of 256 and more",
        ),
        SUBGROUPS,
        TILE32_F16,
        TILE64_F16,
    ],
}];

/// `out[b] = op(A[b]) · op(B[b])`, out `[batch, m, n]` row-major, then the epilogue (its channel is the
/// column). A is stored `[m, k]`, or `[k, m]` where `trans_a`; B `[k, n]`, or `[n, k]` where `trans_b`. An
/// operand without its own batch dimension is shared by all batches. Inputs: A, B, epilogue operands.
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
    /// What the operands are rounded to.
    pub precision: Precision,
    /// Fused tail.
    pub epilogue: Epilogue,
}

impl Gemm {
    /// Numbers in B.
    fn b_len(&self) -> usize {
        self.k * self.n * if self.batched_b { self.batch } else { 1 }
    }

    fn out_len(&self) -> usize {
        self.batch * self.m * self.n
    }
}

impl Family for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn check(&self) -> Result<(), KernelError> {
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

    fn input_lens(&self) -> Vec<usize> {
        let a = self.m * self.k * if self.batched_a { self.batch } else { 1 };
        let b = if self.half_b { words(self.b_len()) } else { self.b_len() };
        let tail = self.epilogue.operand_lens(self.out_len(), self.n);
        [a, b].into_iter().chain(tail).collect()
    }

    fn output_lens(&self) -> Vec<usize> {
        vec![self.out_len()]
    }

    fn cost(&self) -> Cost {
        let out = self.out_len() as u64;
        Cost {
            flops: out * (2 * self.k as u64 + self.epilogue.expr.flops()),
            bytes_read: 4 * self.input_lens().iter().map(|&len| len as u64).sum::<u64>(),
            bytes_written: 4 * out,
        }
    }

    fn variants(&self) -> Vec<&'static str> {
        gpu::variants(self)
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        self.precision.on_gpus(self.name(), traits)?;
        gpu::plan(self, traits, variant)
    }

    fn twin_scratch_len(&self, threads: usize) -> usize {
        cpu::scratch_len(self, threads)
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, None, outputs, scratch);
    }

    fn twin_weights_len(&self) -> usize {
        cpu::weights_len(self)
    }

    fn twin_weights(&self, weights: &[f32], kept: &mut [f32]) {
        cpu::pack_all(self, weights, kept);
    }

    fn twin_kept(&self, inputs: &[&[f32]], kept: &[f32], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, Some(kept), outputs, scratch);
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn class(&self) -> String {
        let stored = |transposed| if transposed { "t" } else { "n" };
        let (a, b) = (stored(self.trans_a), stored(self.trans_b));
        let [batch, m, n, k] = [self.batch, self.m, self.n, self.k].map(rounded);
        format!("{batch}×{m}×{n}×{k} {a}{b}{}", self.precision.class())
    }

    fn line(&self) -> String {
        let matrix = |rows, columns, batched, transposed| {
            let dims = if transposed { [columns, rows] } else { [rows, columns] };
            let batch = if batched && self.batch > 1 { format!("{}×", self.batch) } else { String::new() };
            format!("{batch}{}{}", shape(&dims), if transposed { "ᵀ" } else { "" })
        };
        let a = matrix(self.m, self.k, self.batched_a, self.trans_a);
        let b = matrix(self.k, self.n, self.batched_b, self.trans_b);
        let out = matrix(self.m, self.n, true, false);
        let half = if self.half_b { " in halves" } else { "" };
        format!("{a} · {b}{half} → {out}{}{}", self.precision.line(), self.epilogue.line())
    }

    fn ladders() -> &'static [Ladder] {
        &LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &LADDERS[0]
    }

    fn oracle(&self, inputs: &[&[f32]], _before: &[&[f32]]) -> Vec<Vec<f64>> {
        vec![oracle::gemm(self, inputs)]
    }

    fn sample(_ladder: &str, variant: &str, size: Size) -> Self {
        let typical = size == Size::Typical;
        let [m, n, k] = match variant {
            "dot" if typical => [64, 1, 8192],
            "dot" => [5, 1, 300],
            "registers" if typical => [4, 4096, 512],
            "registers" => [4, 66, 260],
            _ if typical => [512; 3],
            _ => [70, 66, 260],
        };
        Self {
            batch: 1,
            m,
            n,
            k,
            trans_a: false,
            trans_b: false,
            batched_a: false,
            batched_b: false,
            half_b: false,
            precision: Precision::of_variant(variant),
            epilogue: Epilogue::default(),
        }
    }

    fn values(&self, _buffer: Slot) -> Values {
        Values::Signed
    }
}
