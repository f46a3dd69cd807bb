//! Shapes and strides: numbers of elements, offsets, and the checks that they fit.

use crate::error::{KernelError, shape_error};

/// Most elements of a tensor, 4 TiB of them: sums and products of a few lengths, in bytes too, stay within 64
/// bits.
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

/// Bytes of the given buffers.
pub(crate) fn bytes(lens: &[usize]) -> u64 {
    lens.iter().map(|&n| 4 * n as u64).sum()
}

/// Product of sizes, or an error where it leaves the range of 32-bit indices.
pub(crate) fn checked_len(kernel: &'static str, tensor: &str, sizes: &[usize]) -> Result<usize, KernelError> {
    sizes
        .iter()
        .try_fold(1usize, |len, &size| len.checked_mul(size))
        .filter(|&len| u32::try_from(len).is_ok())
        .ok_or_else(|| {
            shape_error(
                kernel,
                format!("{tensor} {sizes:?} has 2^32 elements or more; use a smaller batch or size"),
            )
        })
}
