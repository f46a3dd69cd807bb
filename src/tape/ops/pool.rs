//! Average and max pooling.

use std::sync::Arc;

use ganomede_kernels::pool::{self, MaxPool};
use ganomede_kernels::sparse::Matrix;

use super::sample::MOST_ROWS;
use crate::tape::{Op, Tensor};

/// Hyper-parameters of a pooling window; pairs are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Rows and columns of the window, each at least 1.
    pub kernel: [usize; 2],
    /// From one window to the next, each at least 1.
    pub stride: [usize; 2],
    /// Padding before the first row and column; −∞ for the maximum, zeros for the average.
    pub pad_low: [usize; 2],
    /// Padding after the last row and column.
    pub pad_high: [usize; 2],
    /// Distance of neighbouring elements of the window.
    pub dilation: [usize; 2],
    /// Sizes are rounded up: a last window that begins within the image or before it may run out of the
    /// padding.
    pub ceil: bool,
    /// Zeros of the padding count in averages; what lies beyond it never does.
    pub count_padding: bool,
}

impl PoolOptions {
    /// Square windows that touch without overlap.
    pub fn square(kernel: usize) -> Self {
        Self::new([kernel; 2], [kernel; 2], [0; 2])
    }

    /// Windows with the same padding on both sides, which counts in averages.
    pub fn new(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Self {
        Self {
            kernel,
            stride,
            pad_low: padding,
            pad_high: padding,
            dilation: [1; 2],
            ceil: false,
            count_padding: true,
        }
    }

    /// Number of windows along dimension `d` of size `x`, where every window holds an element of the image.
    fn windows(&self, d: usize, x: usize) -> Option<usize> {
        let (kernel, stride, low) = (self.kernel[d], self.stride[d], self.pad_low[d]);
        let span = self.dilation[d].checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
        let room = x.checked_add(low)?.checked_add(self.pad_high[d])?.checked_sub(span)?;
        let floor = room.checked_div(stride)? + 1;
        // Rounded up, the last window still begins before the image ends.
        let further =
            self.ceil && !room.is_multiple_of(stride) && floor.checked_mul(stride)? < x.checked_add(low)?;
        let count = floor.checked_add(usize::from(further))?;
        if count.checked_mul(kernel)? > MOST_ROWS {
            return None;
        }
        (0..count).all(|o| self.elements(d, x, o).next().is_some()).then_some(count)
    }

    /// Elements of the image that window `o` holds.
    fn elements(&self, d: usize, x: usize, o: usize) -> impl Iterator<Item = usize> {
        let (start, low, step) = (o * self.stride[d], self.pad_low[d], self.dilation[d]);
        (0..self.kernel[d]).filter_map(move |k| (start + k * step).checked_sub(low).filter(|&i| i < x))
    }

    /// The average of each window along one dimension.
    fn averages(&self, d: usize, x: usize, windows: usize) -> Matrix {
        let padded = x + self.pad_low[d] + self.pad_high[d];
        let row = |o: usize| {
            let inside =
                (0..self.kernel[d]).filter(|k| o * self.stride[d] + k * self.dilation[d] < padded).count();
            let held = self.elements(d, x, o).count();
            let weight = 1.0 / if self.count_padding { inside } else { held } as f32;
            self.elements(d, x, o).map(|i| (i, weight)).collect()
        };
        Matrix::new(x, (0..windows).map(row))
    }
}

impl<'t> Tensor<'t> {
    /// Average of each window of `[n, c, h, w]`.
    ///
    /// # Errors
    /// [`crate::tape::Tape::finish`] names another rank, strides or windows of 0, and windows without an
    /// element.
    pub fn avg_pool2d(self, options: PoolOptions) -> Tensor<'t> {
        let s = self.shape();
        let Some([h, w]) = self.pooled(options) else {
            return self.tape.poison("avg_pool2d", format!("{s:?} with {options:?} does not fit"), &s);
        };
        let PoolOptions { kernel, stride, .. } = options;
        if kernel == stride && options.dilation == [1; 2] && [h * kernel[0], w * kernel[1]] == [s[2], s[3]] {
            let blocks = self.reshape(&[s[0], s[1], h, kernel[0], w, kernel[1]]);
            return blocks.mean(&[3, 5]).reshape(&[s[0], s[1], h, w]);
        }
        // An average over a window is one over its rows of those over its columns.
        let rows = self.tape.sparse(2, Arc::new(options.averages(0, s[2], h)), self);
        self.tape.sparse(3, Arc::new(options.averages(1, s[3], w)), rows)
    }

    /// Maximum of each window of `[n, c, h, w]`; the first of equal maxima gets the gradient, a NaN is the
    /// largest.
    ///
    /// # Errors
    /// [`crate::tape::Tape::finish`] names another rank, strides or windows of 0, and windows without an
    /// element.
    pub fn max_pool2d(self, options: PoolOptions) -> Tensor<'t> {
        let s = self.shape();
        let Some([h, w]) = self.pooled(options) else {
            return self.tape.poison("max_pool2d", format!("{s:?} with {options:?} does not fit"), &s);
        };
        let pool = MaxPool {
            face: pool::Face::Indices,
            planes: s[0] * s[1],
            x: [s[2], s[3]],
            y: [h, w],
            kernel: options.kernel,
            stride: options.stride,
            pad_low: options.pad_low,
            dilation: options.dilation,
        };
        let shape = vec![s[0], s[1], h, w];
        let indices = self.tape.node(Op::MaxPool(pool), &[self], shape.clone());
        let gather = Op::MaxPool(MaxPool { face: pool::Face::Gather, ..pool });
        self.tape.node(gather, &[self, indices], shape)
    }

    /// Height and width of the pooled image.
    fn pooled(self, options: PoolOptions) -> Option<[usize; 2]> {
        let s = self.shape();
        if s.len() != 4 || options.stride.contains(&0) || options.dilation.contains(&0) {
            return None;
        }
        Some([options.windows(0, s[2])?, options.windows(1, s[3])?])
    }
}
