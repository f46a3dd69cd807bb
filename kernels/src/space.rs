//! Iteration spaces: a shape, and operands that walk it by strides, as fused expressions read them.

use crate::error::{KernelError, shape_error};
use crate::expr::Expr;
use crate::layout::{checked_numel, contiguous, reach};

/// Largest rank of a space after merging.
pub(crate) const MAX_RANK: usize = 6;
/// Largest number of inputs and outputs together: WebGPU's storage bindings.
pub(crate) const MAX_BINDINGS: usize = 8;
/// Largest number of operands: a buffer may be read under several strides.
pub(crate) const MAX_OPERANDS: usize = 16;

/// Which buffer an operand reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Input `i` of the launch.
    Input(usize),
    /// The value that output `i` holds before the launch (in-place update); its strides are those of the
    /// output.
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

/// Checks an iteration space: rank, operands inside their buffers, inputs numbered from 0 without gaps and
/// with one length each, code that reads only earlier registers and existing operands. Returns the lengths of
/// the inputs.
pub(crate) fn check_space(
    kernel: &'static str,
    shape: &[usize],
    operands: &[Operand],
    expr: &Expr,
    outputs: usize,
) -> Result<Vec<usize>, KernelError> {
    let fail = |what: String| Err(shape_error(kernel, what));
    let n = checked_numel(kernel, shape)?;
    if shape.len() > MAX_RANK {
        return fail(format!("rank {} is above {}", shape.len(), MAX_RANK));
    }
    if operands.len() > MAX_OPERANDS {
        return fail(format!("{} operands are above {}", operands.len(), MAX_OPERANDS));
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
    if outputs == 0 || lens.len() + outputs > MAX_BINDINGS {
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
            && k < MAX_BINDINGS
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

/// A shape, the strides of each operand over it, and a label for each dimension.
pub(crate) type Labelled = (Vec<usize>, Vec<Vec<usize>>, Vec<bool>);

/// Drops dimensions of size 1 and merges neighbours with the same label where, for every operand, the stride
/// of the first is the stride of the second times its size.
pub(crate) fn merge(shape: &[usize], strides: &[&[usize]], labels: &[bool]) -> Labelled {
    let mut sizes: Vec<usize> = Vec::new();
    let mut dims: Vec<usize> = Vec::new(); // the last dimension merged into each
    for d in (0..shape.len()).filter(|&d| shape[d] > 1) {
        let joins = |p: usize| labels[p] == labels[d] && strides.iter().all(|s| s[p] == s[d] * shape[d]);
        match (sizes.last_mut(), dims.last_mut()) {
            (Some(size), Some(p)) if joins(*p) => (*size, *p) = (*size * shape[d], d),
            _ => {
                sizes.push(shape[d]);
                dims.push(d);
            }
        }
    }
    let strides = strides.iter().map(|s| dims.iter().map(|&d| s[d]).collect()).collect();
    (sizes, strides, dims.iter().map(|&d| labels[d]).collect())
}
