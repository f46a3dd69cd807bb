//! What is done to each output of a product or convolution before it is stored.

mod cpu;
mod gpu;

pub(crate) use cpu::{Channels, Tail};
pub(crate) use gpu::{bindings, with_epilogue};

use crate::error::{KernelError, shape_error};
use crate::expr::{Expr, Instr};

/// How an epilogue operand is indexed by the output element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spread {
    /// Same shape as the output.
    Full,
    /// One value per output channel (per column for a matrix product).
    Channel,
    /// One value.
    Scalar,
}

/// What is done to each output element before it is stored: `expr` with operand 0 = the accumulator and
/// operand `i + 1` = `operands[i]`; the last register is stored. An empty `expr` stores the accumulator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Epilogue {
    /// Extra inputs, at most [`Epilogue::MAX_OPERANDS`].
    pub operands: Vec<Spread>,
    /// The expression.
    pub expr: Expr,
}

impl Epilogue {
    /// Extra inputs that fit WebGPU's eight storage bindings beside two inputs, the output and scratch.
    pub const MAX_OPERANDS: usize = 4;
}

impl Epilogue {
    pub(crate) fn check(&self, kernel: &'static str) -> Result<(), KernelError> {
        if self.operands.len() > Self::MAX_OPERANDS {
            let what =
                format!("epilogue has {} operands, at most {} fit", self.operands.len(), Self::MAX_OPERANDS);
            return Err(shape_error(kernel, what));
        }
        for (i, instr) in self.expr.code.iter().enumerate() {
            let known = !matches!(*instr, Instr::Operand(operand) if operand > self.operands.len());
            if !known || instr.reads().any(|reg| reg >= i) {
                let what = format!(
                    "epilogue instruction {i}, {instr:?}, reads what is not defined before it ({} operands)",
                    self.operands.len()
                );
                return Err(shape_error(kernel, what));
            }
        }
        Ok(())
    }

    /// What is stored for the sum `acc` at output element `at` of channel `channel`, in f64.
    pub(crate) fn eval(&self, operands: &[&[f32]], acc: f64, at: usize, channel: usize) -> f64 {
        let regs = self.expr.eval(|operand| match operand {
            0 => acc,
            i => f64::from(match self.operands[i - 1] {
                Spread::Full => operands[i - 1][at],
                Spread::Channel => operands[i - 1][channel],
                Spread::Scalar => operands[i - 1][0],
            }),
        });
        regs.last().copied().unwrap_or(acc)
    }

    /// `, then 3 element-wise`, or nothing.
    pub(crate) fn line(&self) -> String {
        match self.expr.code.len() {
            0 => String::new(),
            operations => format!(", then {operations} element-wise"),
        }
    }

    /// Elements of each extra input of a kernel with `out` outputs in `channels` channels.
    pub(crate) fn operand_lens(&self, out: usize, channels: usize) -> impl Iterator<Item = usize> {
        self.operands.iter().map(move |spread| match spread {
            Spread::Full => out,
            Spread::Channel => channels,
            Spread::Scalar => 1,
        })
    }
}
