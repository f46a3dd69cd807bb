//! The fused tail on the CPU: applied to a run of outputs while they are in cache.

use super::{Epilogue, Spread, shape_error};
use crate::KernelError;
use crate::expr::{Binary, Instr, Unary};

/// One operand over a run of outputs.
#[derive(Clone, Copy)]
pub(crate) enum View<'a> {
    /// A value per output of the run.
    Slice(&'a [f32]),
    /// The same value for the whole run.
    Value(f32),
}

impl View<'_> {
    fn at(self, i: usize) -> f32 {
        match self {
            View::Slice(values) => values[i],
            View::Value(value) => value,
        }
    }
}

impl Epilogue {
    pub(crate) fn check(&self, kernel: &'static str) -> Result<(), KernelError> {
        if self.operands.len() > Self::MAX_OPERANDS {
            let what =
                format!("epilogue has {} operands, at most {} fit", self.operands.len(), Self::MAX_OPERANDS);
            return Err(shape_error(kernel, what));
        }
        for (i, instr) in self.expr.code.iter().enumerate() {
            let fits = match *instr {
                Instr::Operand(operand) => operand <= self.operands.len(),
                Instr::Const(_) => true,
                Instr::Unary(_, a) => a < i,
                Instr::Binary(_, a, b) => a < i && b < i,
            };
            if !fits {
                let what = format!(
                    "epilogue instruction {i}, {instr:?}, reads what is not defined before it ({} operands)",
                    self.operands.len()
                );
                return Err(shape_error(kernel, what));
            }
        }
        Ok(())
    }

    /// Elements of each extra input of a kernel with `out` outputs in `channels` channels.
    pub(crate) fn operand_lens(&self, out: usize, channels: usize) -> impl Iterator<Item = usize> {
        self.operands.iter().map(move |spread| match spread {
            Spread::Full => out,
            Spread::Channel => channels,
            Spread::Scalar => 1,
        })
    }

    /// Applies the tail to `acc`, a run of one channel's outputs that starts at element `start` of the output.
    pub(crate) fn apply_channel(&self, acc: &mut [f32], operands: &[&[f32]], start: usize, channel: usize) {
        let len = acc.len();
        self.apply(acc, operands, |spread, values| match spread {
            Spread::Full => View::Slice(&values[start..start + len]),
            Spread::Channel => View::Value(values[channel]),
            Spread::Scalar => View::Value(values[0]),
        });
    }

    /// Applies the tail to `acc`, part of one row of a matrix whose columns are the channels: it starts at element
    /// `start` of the output and at column `column`.
    pub(crate) fn apply_row(&self, acc: &mut [f32], operands: &[&[f32]], start: usize, column: usize) {
        let len = acc.len();
        self.apply(acc, operands, |spread, values| match spread {
            Spread::Full => View::Slice(&values[start..start + len]),
            Spread::Channel => View::Slice(&values[column..column + len]),
            Spread::Scalar => View::Value(values[0]),
        });
    }

    fn apply<'a>(
        &self,
        acc: &mut [f32],
        operands: &[&'a [f32]],
        view: impl Fn(Spread, &'a [f32]) -> View<'a>,
    ) {
        if self.expr.code.is_empty() {
            return;
        }
        let mut views = [View::Value(0.0); Self::MAX_OPERANDS];
        for ((slot, &spread), &values) in views.iter_mut().zip(&self.operands).zip(operands) {
            *slot = view(spread, values);
        }
        if !self.apply_chain(acc, &views) {
            for (i, value) in acc.iter_mut().enumerate() {
                let start = f64::from(*value);
                let regs = self.expr.eval(|k| if k == 0 { start } else { f64::from(views[k - 1].at(i)) });
                *value = regs[regs.len() - 1] as f32;
            }
        }
    }

    /// Runs an expression in which every step changes the running value by itself or by an operand, in place and a
    /// pass a step; `false`, with nothing changed, where the expression has another form.
    fn apply_chain(&self, acc: &mut [f32], views: &[View]) -> bool {
        self.walk_chain(|_| ()).is_some_and(|()| {
            self.walk_chain(|step| match step {
                Step::Unary(op) => unary(op, acc),
                Step::Binary(op, operand, mask) => match views[operand - 1] {
                    View::Value(value) => binary_value(op, acc, mask.map_or(value, |m| unary_one(m, value))),
                    View::Slice(values) => binary_slice(op, acc, values, mask),
                },
                Step::Const(op, value) => binary_value(op, acc, value),
            });
            true
        })
    }

    fn walk_chain(&self, mut visit: impl FnMut(Step)) -> Option<()> {
        let code = &self.expr.code;
        let mut running = None;
        for (i, instr) in code.iter().enumerate() {
            match *instr {
                Instr::Operand(0) if running.is_none() => running = Some(i),
                Instr::Operand(0) => return None,
                Instr::Operand(_) | Instr::Const(_) => {}
                Instr::Unary(op, a) if Some(a) == running => {
                    visit(Step::Unary(op));
                    running = Some(i);
                }
                Instr::Unary(Unary::LeakyMask(_) | Unary::Step, a)
                    if matches!(code[a], Instr::Operand(_)) => {}
                Instr::Binary(op, a, b) if Some(a) == running => {
                    visit(side(code, op, b)?);
                    running = Some(i);
                }
                Instr::Binary(op @ (Binary::Add | Binary::Mul), a, b) if Some(b) == running => {
                    visit(side(code, op, a)?);
                    running = Some(i);
                }
                _ => return None,
            }
        }
        (running == code.len().checked_sub(1)).then_some(())
    }
}

/// One step of a chain on the running value.
enum Step {
    Unary(Unary),
    /// With an operand, after a unary operation on that where there is one.
    Binary(Binary, usize, Option<Unary>),
    Const(Binary, f32),
}

/// The step that combines the running value with register `reg`, where that is an operand, a constant or a mask of
/// an operand.
fn side(code: &[Instr], op: Binary, reg: usize) -> Option<Step> {
    if !matches!(op, Binary::Add | Binary::Sub | Binary::Mul) {
        return None;
    }
    match code[reg] {
        Instr::Operand(operand) if operand > 0 => Some(Step::Binary(op, operand, None)),
        Instr::Const(value) => Some(Step::Const(op, value.0)),
        Instr::Unary(mask, a) => match code[a] {
            Instr::Operand(operand) if operand > 0 => Some(Step::Binary(op, operand, Some(mask))),
            _ => None,
        },
        _ => None,
    }
}

fn unary_one(op: Unary, x: f32) -> f32 {
    match op {
        Unary::Neg => -x,
        // Not `max`, which would turn NaN into 0 and hide a broken training.
        Unary::Relu if x <= 0.0 => 0.0,
        Unary::Relu => x,
        Unary::LeakyRelu(s) => {
            if x > 0.0 {
                x
            } else {
                s.0 * x
            }
        }
        Unary::LeakyMask(s) => {
            if x > 0.0 {
                1.0
            } else {
                s.0
            }
        }
        Unary::Step => {
            if x > 0.0 {
                1.0
            } else {
                0.0
            }
        }
        Unary::Square => x * x,
        Unary::Abs => x.abs(),
        Unary::Affine(a, b) => x * a.0 + b.0,
        Unary::Tanh => x.tanh(),
        _ => op.eval(f64::from(x)) as f32,
    }
}

/// The match stands outside the loop so that each arm is a loop that vectorises.
fn unary(op: Unary, acc: &mut [f32]) {
    match op {
        Unary::Relu => acc.iter_mut().for_each(|x| *x = if *x <= 0.0 { 0.0 } else { *x }),
        Unary::LeakyRelu(s) => acc.iter_mut().for_each(|x| *x = if *x > 0.0 { *x } else { s.0 * *x }),
        Unary::Affine(a, b) => acc.iter_mut().for_each(|x| *x = *x * a.0 + b.0),
        _ => acc.iter_mut().for_each(|x| *x = unary_one(op, *x)),
    }
}

fn binary_value(op: Binary, acc: &mut [f32], value: f32) {
    match op {
        Binary::Add => acc.iter_mut().for_each(|x| *x += value),
        Binary::Sub => acc.iter_mut().for_each(|x| *x -= value),
        _ => acc.iter_mut().for_each(|x| *x *= value),
    }
}

fn binary_slice(op: Binary, acc: &mut [f32], values: &[f32], mask: Option<Unary>) {
    let pairs = acc.iter_mut().zip(values);
    match (op, mask) {
        (Binary::Add, None) => pairs.for_each(|(x, v)| *x += v),
        (Binary::Sub, None) => pairs.for_each(|(x, v)| *x -= v),
        (_, None) => pairs.for_each(|(x, v)| *x *= v),
        (Binary::Mul, Some(Unary::LeakyMask(s))) => {
            pairs.for_each(|(x, v)| *x = if *v > 0.0 { *x } else { s.0 * *x })
        }
        (Binary::Add, Some(mask)) => pairs.for_each(|(x, v)| *x += unary_one(mask, *v)),
        (Binary::Sub, Some(mask)) => pairs.for_each(|(x, v)| *x -= unary_one(mask, *v)),
        (_, Some(mask)) => pairs.for_each(|(x, v)| *x *= unary_one(mask, *v)),
    }
}
