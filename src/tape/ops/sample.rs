//! Operations that are a fixed sparse matrix along an axis: gathers, paddings that repeat or mirror,
//! resampling.

use std::sync::Arc;

use ganomede_kernels::sparse::Matrix;

use crate::tape::{Op, Tape, Tensor};

/// Rows of a matrix along one axis, and entries of what makes one: more is a mistake, or a job for another
/// operation.
pub(in crate::tape) const MOST_ROWS: usize = 1 << 24;

/// What [`Tensor::pad_with`] puts around a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Padding {
    /// One number.
    Constant(f32),
    /// The image mirrored at its border, which is not repeated: `c b | a b c | b a`.
    Reflect,
    /// The border repeated: `a a | a b c | c c`.
    Edge,
}

/// How [`Tensor::resample`] finds new samples between old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Sample i of `to` is sample ⌊i · from / to⌋, as PyTorch's `nearest`.
    Nearest,
    /// Between the two nearest, samples being the middles of equal pieces: i is at (i + ½) · from / to − ½,
    /// not beyond the ends; PyTorch's `linear` and `bilinear` with `align_corners=False`, without
    /// antialiasing.
    Linear,
    /// Between the two nearest, the first and last samples staying where they are: i is at
    /// i · (from − 1) / (to − 1); PyTorch's `align_corners=True`.
    LinearAligned,
}

impl Sampling {
    /// The matrix from `from` samples to `to` of them. Weights of 0 are left out.
    fn matrix(self, from: usize, to: usize) -> Matrix {
        let at = |i: usize| match self {
            Sampling::Nearest => (i as u128 * from as u128 / to as u128) as f64,
            Sampling::Linear => ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0),
            Sampling::LinearAligned => i as f64 * (from - 1) as f64 / (to - 1).max(1) as f64,
        };
        let row = |i| {
            let low = (at(i) as usize).min(from - 1);
            let high = (low + 1).min(from - 1);
            let part = (at(i) - low as f64) as f32;
            if part <= 0.0 || high == low { vec![(low, 1.0)] } else { vec![(low, 1.0 - part), (high, part)] }
        };
        Matrix::new(from, (0..to).map(row))
    }
}

impl Tape {
    /// A matrix along one axis of a tensor that it fits.
    pub(in crate::tape) fn sparse<'t>(
        &'t self,
        axis: usize,
        matrix: Arc<Matrix>,
        x: Tensor<'t>,
    ) -> Tensor<'t> {
        let mut shape = x.shape();
        shape[axis] = matrix.rows();
        self.node(Op::Sparse(axis, matrix), &[x], shape)
    }
}

impl<'t> Tensor<'t> {
    /// The entries `indices` of one axis, in this order, any of them more than once. The gradient adds what
    /// entries of the same index get, in one order: bits repeat.
    ///
    /// # Errors
    /// [`Tape::finish`] names an axis or index that does not exist, and an empty list.
    pub fn gather(self, axis: usize, indices: &[usize]) -> Tensor<'t> {
        let shape = self.shape();
        let size = shape.get(axis).copied().unwrap_or(0);
        if indices.is_empty() || indices.iter().any(|&i| i >= size) {
            let first = indices.iter().find(|&&i| i >= size);
            let what = match first {
                Some(index) => format!("axis {axis} of {shape:?} has no entry {index}"),
                None => format!("no indices along axis {axis} of {shape:?}"),
            };
            return self.tape.poison("gather", what, &shape);
        }
        let matrix = Matrix::new(size, indices.iter().map(|&i| vec![(i, 1.0)]));
        self.tape.sparse(axis, Arc::new(matrix), self)
    }

    /// `low` entries before and `high` after each dimension, made as `padding` says. Zeros are
    /// [`Tensor::pad`].
    ///
    /// # Errors
    /// [`Tape::finish`] names paddings that are not one a dimension, and a mirrored padding as long as its
    /// dimension.
    pub fn pad_with(self, low: &[usize], high: &[usize], padding: Padding) -> Tensor<'t> {
        let shape = self.shape();
        if padding == Padding::Constant(0.0) || low.len() != shape.len() || high.len() != shape.len() {
            return self.pad(low, high);
        }
        let mut y = self.reshape(&shape);
        for axis in 0..shape.len() {
            let (n, low, high) = (shape[axis], low[axis], high[axis]);
            if low == 0 && high == 0 {
                continue;
            }
            if low.max(high).max(n) > MOST_ROWS / 3 {
                let what = format!(
                    "{low} and {high} entries beside axis {axis} of {shape:?}: an axis has at most {MOST_ROWS}"
                );
                return self.tape.poison("pad_with", what, &shape);
            }
            y = match padding {
                Padding::Constant(value) => {
                    let side = |len: usize| {
                        let mut block = y.shape();
                        block[axis] = len;
                        (len > 0).then(|| self.tape.full(value, &block))
                    };
                    let parts: Vec<_> = [side(low), Some(y), side(high)].into_iter().flatten().collect();
                    Tensor::concat(&parts, axis)
                }
                Padding::Reflect if low >= n || high >= n => {
                    let what = format!(
                        "{low} and {high} entries mirrored along axis {axis} of {shape:?}: fewer than it has"
                    );
                    return self.tape.poison("pad_with", what, &shape);
                }
                Padding::Reflect => {
                    let inside = |i: usize| if i < n { i } else { 2 * (n - 1) - i };
                    let indices =
                        (0..low + n + high).map(|i| if i < low { low - i } else { inside(i - low) });
                    y.gather(axis, &indices.collect::<Vec<_>>())
                }
                Padding::Edge => {
                    let indices = (0..low + n + high).map(|i| i.saturating_sub(low).min(n - 1));
                    y.gather(axis, &indices.collect::<Vec<_>>())
                }
            };
        }
        y
    }

    /// One axis correlated with an odd number of fixed taps, zeros lying beyond its ends: y_i = Σ_k taps_k ·
    /// x_{i + k − ⌊taps / 2⌋}.
    ///
    /// # Errors
    /// [`Tape::finish`] names an axis that does not exist, and an even number of taps.
    pub fn filter(self, axis: usize, taps: &[f32]) -> Tensor<'t> {
        let shape = self.shape();
        let (size, count) = (shape.get(axis).copied().unwrap_or(0), taps.len());
        if size == 0 || count.is_multiple_of(2) || size.saturating_mul(count) > MOST_ROWS {
            let what =
                format!("{count} taps along axis {axis} of {shape:?}: an odd number of them is needed");
            return self.tape.poison("filter", what, &shape);
        }
        let row = |i: usize| {
            let at = |k: usize| (i + k).checked_sub(count / 2).filter(|&j| j < size);
            (0..count).filter_map(|k| Some((at(k)?, taps[k]))).collect()
        };
        self.tape.sparse(axis, Arc::new(Matrix::new(size, (0..size).map(row))), self)
    }

    /// One axis at `to` samples.
    ///
    /// # Errors
    /// [`Tape::finish`] names an axis that does not exist, and a size of 0.
    pub fn resample(self, axis: usize, to: usize, sampling: Sampling) -> Tensor<'t> {
        let shape = self.shape();
        let from = shape.get(axis).copied().unwrap_or(0);
        if from == 0 || to == 0 || to > MOST_ROWS {
            let what = format!("axis {axis} of {shape:?} cannot be made {to} long, at most {MOST_ROWS}");
            return self.tape.poison("resample", what, &shape);
        }
        self.tape.sparse(axis, Arc::new(sampling.matrix(from, to)), self)
    }

    /// An image `[n, c, h, w]` at another height and width.
    ///
    /// # Errors
    /// [`Tape::finish`] names a tensor of another rank, and a size of 0.
    pub fn resize(self, size: [usize; 2], sampling: Sampling) -> Tensor<'t> {
        let shape = self.shape();
        if shape.len() != 4 || size.contains(&0) {
            let what = format!("{shape:?} to {size:?}: needs rank 4 and a size");
            return self.tape.poison("resize", what, &shape);
        }
        // The smaller result first.
        let grows = |d: usize| size[d] as f64 / shape[2 + d] as f64;
        let order = if grows(0) <= grows(1) { [0, 1] } else { [1, 0] };
        let changed = order.into_iter().filter(|&d| size[d] != shape[2 + d]);
        changed.fold(self.reshape(&shape), |x, d| x.resample(2 + d, size[d], sampling))
    }
}
