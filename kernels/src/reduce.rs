//! Sums and maxima of a fused expression over any axes, several at once.

mod cpu;
pub(crate) mod gpu;

use crate::expr::{Expr, Reg};
use crate::layout;
use crate::pointwise::{Operand, Source};
use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// How values are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Combine {
    /// Σ, in an order fixed by the shape alone.
    Sum,
    /// max
    Max,
}

/// One result of a reduction: `scale · combine(register)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Output {
    /// The register combined.
    pub reg: Reg,
    /// How.
    pub combine: Combine,
    /// Factor applied at the end, for means.
    pub scale: crate::expr::Num,
}

/// Reduces `expr` over the dimensions of `shape` marked in `reduced`; every output is contiguous over the kept
/// dimensions. Operands read inputs only ([`crate::pointwise::Source::Input`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// Iteration shape, neighbours of the same kind merged where operands allow.
    pub shape: Vec<usize>,
    /// Which dimensions are reduced.
    pub reduced: Vec<bool>,
    /// Operands.
    pub operands: Vec<Operand>,
    /// Instructions evaluated at every element.
    pub expr: Expr,
    /// Results.
    pub outputs: Vec<Output>,
}

impl Reduce {
    pub(crate) fn name(&self) -> &'static str {
        "reduce"
    }

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        let fail = |what: String| Err(layout::shape_error(self.name(), what));
        layout::check_space(self.name(), &self.shape, &self.operands, &self.expr, self.outputs.len())?;
        if self.reduced.len() != self.shape.len() {
            return fail(format!("{} reduction marks for shape {:?}", self.reduced.len(), self.shape));
        }
        if self.operands.iter().any(|o| matches!(o.source, Source::Output(_))) {
            return fail("a reduction has no in-place operands".to_owned());
        }
        match self.outputs.iter().find(|o| o.reg >= self.expr.code.len()) {
            Some(o) => fail(format!("output register {} does not exist", o.reg)),
            None => Ok(()),
        }
    }

    /// Elements of each output: the product of the kept dimensions.
    pub fn kept(&self) -> usize {
        self.shape.iter().zip(&self.reduced).filter(|(_, r)| !**r).map(|(d, _)| d).product()
    }

    /// Elements combined into each output: the product of the reduced dimensions.
    pub fn reduced_len(&self) -> usize {
        self.shape.iter().zip(&self.reduced).filter(|(_, r)| **r).map(|(d, _)| d).product()
    }

    pub(crate) fn input_lens(&self) -> Vec<usize> {
        layout::input_lens(&self.operands)
    }

    pub(crate) fn output_lens(&self) -> Vec<usize> {
        vec![self.kept(); self.outputs.len()]
    }

    pub(crate) fn cost(&self) -> Cost {
        let n = layout::numel(&self.shape) as u64;
        Cost {
            flops: (self.expr.flops() + self.outputs.len() as u64) * n,
            bytes_read: layout::bytes(&self.input_lens()),
            bytes_written: layout::bytes(&self.output_lens()),
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
