//! Fused element-wise expressions over strided, broadcast operands, with several outputs and in-place update.

mod cpu;
mod gpu;

use crate::expr::{Expr, Reg};
use crate::layout;
use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// Which buffer an operand reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Input `i` of the launch.
    Input(usize),
    /// The value that output `i` holds before the launch (in-place update); its strides are those of the output.
    Output(usize),
}

/// An operand of an expression over an iteration shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operand {
    /// The buffer.
    pub source: Source,
    /// Elements of that buffer.
    pub len: usize,
    /// Stride of each iteration dimension in elements; 0 broadcasts.
    pub strides: Vec<usize>,
}

/// `outputs[j][i] = register outputs_regs[j] at element i` over `shape`. Outputs are contiguous in `shape`.
/// `shape` has its neighbouring dimensions merged where every operand allows it, at most [`Pointwise::MAX_RANK`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pointwise {
    /// Iteration shape.
    pub shape: Vec<usize>,
    /// Operands; the distinct inputs are numbered from 0 without gaps.
    pub operands: Vec<Operand>,
    /// Instructions.
    pub expr: Expr,
    /// Register stored to each output.
    pub outputs: Vec<Reg>,
}

impl Pointwise {
    /// Largest rank after merging.
    pub const MAX_RANK: usize = 6;
    /// Largest number of inputs and outputs together: WebGPU's storage bindings.
    pub const MAX_BINDINGS: usize = 8;
    /// Largest number of operands: a buffer may be read under several strides.
    pub const MAX_OPERANDS: usize = 16;
}

impl Pointwise {
    pub(crate) fn name(&self) -> &'static str {
        "pointwise"
    }

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        layout::check_space(self.name(), &self.shape, &self.operands, &self.expr, self.outputs.len())?;
        match self.outputs.iter().find(|&&reg| reg >= self.expr.code.len()) {
            Some(reg) => {
                Err(layout::shape_error(self.name(), format!("output register {reg} does not exist")))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn input_lens(&self) -> Vec<usize> {
        layout::input_lens(&self.operands)
    }

    pub(crate) fn output_lens(&self) -> Vec<usize> {
        vec![layout::numel(&self.shape); self.outputs.len()]
    }

    pub(crate) fn cost(&self) -> Cost {
        let n = layout::numel(&self.shape);
        let updated = (0..self.outputs.len())
            .filter(|&o| self.operands.iter().any(|operand| operand.source == Source::Output(o)))
            .count();
        Cost {
            flops: self.expr.flops() * n as u64,
            bytes_read: layout::bytes(&self.input_lens()) + 4 * (updated * n) as u64,
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
        threads * cpu::slot_len(self) + crate::tile::ALIGN
    }

    pub(crate) fn cpu(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, outputs, scratch);
    }
}
