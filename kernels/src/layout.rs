//! Shapes, strides and the checks that families share.

use crate::KernelError;
use crate::expr::Expr;
use crate::pointwise::{Operand, Pointwise, Source};

/// Most elements of a tensor, 4 TiB of them: sums and products of a few lengths, in bytes too, stay within 64 bits.
pub const MAX_LEN: usize = 1 << 40;

/// Number of elements of `shape`, if there are any and no more than [`MAX_LEN`].
pub fn elements(shape: &[usize]) -> Option<usize> {
    let len = shape.iter().try_fold(1_usize, |len, &d| len.checked_mul(d))?;
    (1..=MAX_LEN).contains(&len).then_some(len)
}

/// [`elements`], or an error with the shape.
pub(crate) fn checked_numel(kernel: &'static str, shape: &[usize]) -> Result<usize, KernelError> {
    elements(shape).ok_or_else(|| shape_error(kernel, format!("shape {shape:?} is empty or too large")))
}

/// Product of a shape that passed its check.
pub(crate) fn numel(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Row-major strides.
pub(crate) fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d] * shape[d];
    }
    strides
}

/// Largest offset that `strides` reach over `shape`, `None` where it overflows.
pub(crate) fn reach(shape: &[usize], strides: &[usize]) -> Option<usize> {
    shape.iter().zip(strides).try_fold(0usize, |sum, (&d, &s)| sum.checked_add((d - 1).checked_mul(s)?))
}

/// Offset of the element with row-major number `index` of `shape` under `strides`.
pub(crate) fn offset(mut index: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut at = 0;
    for (&d, &s) in shape.iter().zip(strides).rev() {
        at += index % d * s;
        index /= d;
    }
    at
}

pub(crate) fn shape_error(kernel: &'static str, what: String) -> KernelError {
    KernelError::Shape { kernel, what }
}

/// Checks an iteration space: rank, operands inside their buffers, inputs numbered from 0 without gaps and with one
/// length each, code that reads only earlier registers and existing operands. Returns the lengths of the inputs.
pub(crate) fn check_space(
    kernel: &'static str,
    shape: &[usize],
    operands: &[Operand],
    expr: &Expr,
    outputs: usize,
) -> Result<Vec<usize>, KernelError> {
    let fail = |what: String| Err(shape_error(kernel, what));
    let n = checked_numel(kernel, shape)?;
    if shape.len() > Pointwise::MAX_RANK {
        return fail(format!("rank {} is above {}", shape.len(), Pointwise::MAX_RANK));
    }
    if operands.len() > Pointwise::MAX_OPERANDS {
        return fail(format!("{} operands are above {}", operands.len(), Pointwise::MAX_OPERANDS));
    }
    let dense = contiguous(shape);
    for (i, operand) in operands.iter().enumerate() {
        if operand.strides.len() != shape.len() {
            return fail(format!("operand {i} has {} strides for shape {shape:?}", operand.strides.len()));
        }
        if reach(shape, &operand.strides).is_none_or(|last| last >= operand.len) {
            return fail(format!(
                "operand {i} with strides {:?} over {shape:?} leaves its {} elements",
                operand.strides, operand.len
            ));
        }
        if let Source::Output(o) = operand.source {
            let same = shape.iter().zip(&operand.strides).zip(&dense).all(|((&d, s), t)| d == 1 || s == t);
            if o >= outputs || operand.len != n || !same {
                return fail(format!(
                    "operand {i} updates output {o} of {outputs} in place with strides {:?}; they must be {dense:?}",
                    operand.strides
                ));
            }
        }
    }
    let lens = input_lens(operands);
    for (i, operand) in operands.iter().enumerate() {
        if let Source::Input(k) = operand.source
            && lens.get(k) != Some(&operand.len)
        {
            return fail(format!(
                "operand {i} reads input {k} with {} elements; the inputs must be numbered from 0 without gaps and \
                 keep one length each ({lens:?})",
                operand.len
            ));
        }
    }
    if lens.contains(&0) {
        return fail(format!("the inputs are not numbered from 0 without gaps: lengths {lens:?}"));
    }
    if outputs == 0 || lens.len() + outputs > Pointwise::MAX_BINDINGS {
        return fail(format!(
            "{} inputs and {outputs} outputs; at most 8 together, at least 1 output",
            lens.len()
        ));
    }
    expr.check(operands.len()).map_err(|what| shape_error(kernel, what))?;
    Ok(lens)
}

/// Elements of each distinct input, in order.
pub(crate) fn input_lens(operands: &[Operand]) -> Vec<usize> {
    let mut lens = Vec::new();
    for operand in operands {
        if let Source::Input(k) = operand.source
            && k < Pointwise::MAX_BINDINGS
        {
            if lens.len() <= k {
                lens.resize(k + 1, 0);
            }
            if lens[k] == 0 {
                lens[k] = operand.len;
            }
        }
    }
    lens
}

/// Bytes of the given buffers.
pub(crate) fn bytes(lens: &[usize]) -> u64 {
    lens.iter().map(|&n| 4 * n as u64).sum()
}

/// The name asked for, as one of `known`.
pub(crate) fn variant(
    kernel: &'static str,
    known: &[&'static str],
    asked: &str,
) -> Result<&'static str, KernelError> {
    known.iter().copied().find(|name| *name == asked).ok_or_else(|| KernelError::Variant {
        kernel,
        variant: asked.to_owned(),
        known: known.join(", "),
    })
}
