//! Sums and maxima of a fused expression over any axes, several at once.

use crate::expr::{Expr, Reg};
use crate::pointwise::Operand;
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
