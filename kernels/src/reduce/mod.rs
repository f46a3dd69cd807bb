//! Sums and maxima of a fused expression over any axes, several at once.

mod cpu;
mod gpu;

use crate::error::{KernelError, shape_error};
use crate::expr::{Binary, Expr, Instr, Num, Reg};
use crate::family::{Family, Size};
use crate::ladder::{Ladder, variant};
use crate::launch::{Cost, GpuPlan, GpuTraits};
use crate::layout;
use crate::space::{self, Operand, Source};
use crate::text::{self, rounded};

const LADDERS: [Ladder; 1] = [Ladder {
    name: "reduce",
    computes: "sums and maxima of a fused expression",
    variants: &[
        variant("naive", "1 output a thread", "never: the reference"),
        variant(
            "threads",
            "1 segment of an output a thread, joined in a second dispatch",
            "software adapters; kept dimensions innermost; fewer than 64 elements",
        ),
        variant(
            "groups",
            "1 segment of an output a workgroup of 256, a tree in shared memory",
            "hardware, otherwise",
        ),
    ],
}];

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
    /// How its values are combined.
    pub combine: Combine,
    /// Factor applied at the end, for means.
    pub scale: Num,
}

/// Reduces `expr` over the dimensions of `shape` marked in `reduced`; every output is contiguous over the
/// kept dimensions. Operands read inputs only ([`Source::Input`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// Iteration shape, neighbours of the same kind merged where operands allow.
    pub shape: Vec<usize>,
    /// Which dimensions are reduced.
    pub reduced: Vec<bool>,
    /// Operands, which read inputs only.
    pub operands: Vec<Operand>,
    /// Instructions evaluated at every element.
    pub expr: Expr,
    /// Results, one buffer each.
    pub outputs: Vec<Output>,
}

impl Reduce {
    /// Elements of each output: the product of the kept dimensions.
    pub fn kept(&self) -> usize {
        self.shape.iter().zip(&self.reduced).filter(|(_, r)| !**r).map(|(d, _)| d).product()
    }

    /// Elements combined into each output: the product of the reduced dimensions.
    pub fn reduced_len(&self) -> usize {
        self.shape.iter().zip(&self.reduced).filter(|(_, r)| **r).map(|(d, _)| d).product()
    }
}

impl Family for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn check(&self) -> Result<(), KernelError> {
        let fail = |what: String| Err(shape_error(self.name(), what));
        space::check_space(self.name(), &self.shape, &self.operands, &self.expr, self.outputs.len())?;
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

    fn input_lens(&self) -> Vec<usize> {
        space::input_lens(&self.operands)
    }

    fn output_lens(&self) -> Vec<usize> {
        vec![self.kept(); self.outputs.len()]
    }

    fn cost(&self) -> Cost {
        let n = layout::numel(&self.shape) as u64;
        Cost {
            flops: (self.expr.flops() + self.outputs.len() as u64) * n,
            bytes_read: layout::bytes(&self.input_lens()),
            bytes_written: layout::bytes(&self.output_lens()),
        }
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        gpu::plan(self, traits, variant)
    }

    fn twin_scratch_len(&self, threads: usize) -> usize {
        cpu::scratch_len(self, threads)
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, outputs, scratch);
    }

    fn class(&self) -> String {
        let innermost = self.reduced.last().is_some_and(|reduced| *reduced);
        let (kept, reduced) = (rounded(self.kept()), rounded(self.reduced_len()));
        let side = if innermost { "inner" } else { "outer" };
        format!("{kept} of {reduced} {side} in {} out {}", self.operands.len(), self.outputs.len())
    }

    fn line(&self) -> String {
        let dims = self.shape.iter().zip(&self.reduced);
        let kept: Vec<_> = dims.filter(|(_, gone)| !**gone).map(|(&d, _)| d).collect();
        let many = self.outputs.len() > 1;
        let sums = if many { format!("{} of ", self.outputs.len()) } else { String::new() };
        format!("{} → {sums}{}", text::shape(&self.shape), text::shape(&kept))
    }

    fn ladders() -> &'static [Ladder] {
        &LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &LADDERS[0]
    }

    fn oracle(&self, inputs: &[&[f32]], _before: &[&[f32]]) -> Vec<Vec<f64>> {
        // Strides of the output over the iteration shape: 0 along reduced dimensions.
        let mut strides = vec![0; self.shape.len()];
        let mut kept = 1;
        for d in (0..self.shape.len()).rev() {
            if !self.reduced[d] {
                strides[d] = kept;
                kept *= self.shape[d];
            }
        }
        let start = |c| if c == Combine::Sum { 0.0 } else { f64::NEG_INFINITY };
        let mut out: Vec<Vec<f64>> = self.outputs.iter().map(|o| vec![start(o.combine); kept]).collect();
        for i in 0..layout::numel(&self.shape) {
            let regs = self.expr.eval(|o| {
                let operand = &self.operands[o];
                match operand.source {
                    Source::Input(b) => {
                        f64::from(inputs[b][layout::offset(i, &self.shape, &operand.strides)])
                    }
                    Source::Output(_) => f64::NAN, // refused by the check
                }
            });
            let at = layout::offset(i, &self.shape, &strides);
            for (out, o) in out.iter_mut().zip(&self.outputs) {
                out[at] = match o.combine {
                    Combine::Sum => out[at] + regs[o.reg],
                    Combine::Max => Binary::Max.eval(out[at], regs[o.reg]),
                };
            }
        }
        for (out, o) in out.iter_mut().zip(&self.outputs) {
            out.iter_mut().for_each(|v| *v *= f64::from(o.scale.0));
        }
        out
    }

    /// The sums of channels.
    fn sample(_ladder: &str, _variant: &str, size: Size) -> Self {
        let shape = if size == Size::Typical { vec![64, 64, 1024] } else { vec![5, 7, 143] };
        let operand = Operand {
            source: Source::Input(0),
            len: layout::numel(&shape),
            strides: layout::contiguous(&shape),
        };
        Self {
            shape,
            reduced: vec![true, false, true],
            operands: vec![operand],
            expr: Expr { code: vec![Instr::Operand(0)] },
            outputs: vec![Output { reg: 0, combine: Combine::Sum, scale: Num(1.0) }],
        }
    }
}
