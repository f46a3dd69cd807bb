//! Fused element-wise expressions over strided, broadcast operands, with several outputs and in-place update.

mod cpu;
mod gpu;

pub use crate::space::{Operand, Source};

use crate::error::{KernelError, shape_error};
use crate::expr::{Binary, Expr, Instr, Num, Reg, Unary};
use crate::family::{Family, Size};
use crate::ladder::{Ladder, variant};
use crate::launch::{Cost, GpuPlan, GpuTraits};
use crate::layout;
use crate::space;
use crate::text::{self, rounded};

const LADDERS: [Ladder; 1] = [Ladder {
    name: "pointwise",
    computes: "fused element-wise expressions",
    variants: &[
        variant("naive", "1 element a thread", "rows that are no multiple of four"),
        variant("quads", "4 consecutive elements a thread, 16-byte words", "otherwise"),
    ],
}];

/// `outputs[j][i] = register outputs_regs[j] at element i` over `shape`. Outputs are contiguous in `shape`.
/// `shape` has its neighbouring dimensions merged where every operand allows it, at most
/// [`Pointwise::MAX_RANK`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pointwise {
    /// Iteration shape.
    pub shape: Vec<usize>,
    /// Operands; the distinct inputs are numbered from 0 without gaps.
    pub operands: Vec<Operand>,
    /// Instructions evaluated at every element.
    pub expr: Expr,
    /// Register stored to each output.
    pub outputs: Vec<Reg>,
}

impl Pointwise {
    /// Largest rank after merging.
    pub const MAX_RANK: usize = space::MAX_RANK;
    /// Largest number of inputs and outputs together: WebGPU's storage bindings.
    pub const MAX_BINDINGS: usize = space::MAX_BINDINGS;
    /// Largest number of operands: a buffer may be read under several strides.
    pub const MAX_OPERANDS: usize = space::MAX_OPERANDS;
}

impl Family for Pointwise {
    fn name(&self) -> &'static str {
        "pointwise"
    }

    fn check(&self) -> Result<(), KernelError> {
        space::check_space(self.name(), &self.shape, &self.operands, &self.expr, self.outputs.len())?;
        match self.outputs.iter().find(|&&reg| reg >= self.expr.code.len()) {
            Some(reg) => Err(shape_error(self.name(), format!("output register {reg} does not exist"))),
            None => Ok(()),
        }
    }

    fn input_lens(&self) -> Vec<usize> {
        space::input_lens(&self.operands)
    }

    fn output_lens(&self) -> Vec<usize> {
        vec![layout::numel(&self.shape); self.outputs.len()]
    }

    fn cost(&self) -> Cost {
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

    fn variants(&self) -> Vec<&'static str> {
        gpu::variants(self)
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        gpu::plan(self, traits, variant)
    }

    fn twin_scratch_len(&self, threads: usize) -> usize {
        threads * cpu::slot_len(self) + crate::tile::ALIGN
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, outputs, scratch);
    }

    fn class(&self) -> String {
        let n = rounded(layout::numel(&self.shape));
        format!("{n} in {} out {}", self.operands.len(), self.outputs.len())
    }

    fn line(&self) -> String {
        let (count, outputs) = (self.expr.code.len(), self.outputs.len());
        let outputs = if outputs == 1 { "1 tensor".to_owned() } else { format!("{outputs} tensors") };
        let s = if count == 1 { "" } else { "s" };
        format!("{} × {count} instruction{s} → {outputs}", text::shape(&self.shape))
    }

    fn ladders() -> &'static [Ladder] {
        &LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &LADDERS[0]
    }

    fn oracle(&self, inputs: &[&[f32]], before: &[&[f32]]) -> Vec<Vec<f64>> {
        let n = layout::numel(&self.shape);
        let mut out = vec![vec![0.0; n]; self.outputs.len()];
        for i in 0..n {
            let regs = self.expr.eval(|o| {
                let operand = &self.operands[o];
                f64::from(match operand.source {
                    Source::Input(b) => inputs[b][layout::offset(i, &self.shape, &operand.strides)],
                    Source::Output(b) => before[b][i],
                })
            });
            for (out, &reg) in out.iter_mut().zip(&self.outputs) {
                out[i] = regs[reg];
            }
        }
        out
    }

    /// Leaky ReLU of a sum of two tensors.
    fn sample(_ladder: &str, variant: &str, size: Size) -> Self {
        let len = match size {
            Size::Typical => 64 * 64 * 32 * 32,
            Size::Small if variant == "quads" => 4 * 1001,
            Size::Small => 1001,
        };
        let operand = |i| Operand { source: Source::Input(i), len, strides: vec![1] };
        let code = vec![
            Instr::Operand(0),
            Instr::Operand(1),
            Instr::Binary(Binary::Add, 0, 1),
            Instr::Unary(Unary::LeakyRelu(Num(0.2)), 2),
        ];
        Self {
            shape: vec![len],
            operands: vec![operand(0), operand(1)],
            expr: Expr { code },
            outputs: vec![3],
        }
    }
}
