//! Average and max pooling.

use ganomede_kernels::pool::{self, MaxPool};

use super::{ConvOptions, windows};
use crate::tape::{Op, Tensor};

/// Hyper-parameters of a pooling window; pairs are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Window.
    pub kernel: [usize; 2],
    /// Stride.
    pub stride: [usize; 2],
    /// Padding on both sides; −∞ for the maximum, zeros (counted) for the average.
    pub padding: [usize; 2],
}

impl PoolOptions {
    /// Square windows that touch without overlap.
    pub fn square(kernel: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [kernel; 2], padding: [0; 2] }
    }
}

impl<'t> Tensor<'t> {
    /// Average of each window; zeros of the padding count.
    pub fn avg_pool2d(self, options: PoolOptions) -> Tensor<'t> {
        let s = self.shape();
        let PoolOptions { kernel, stride, padding } = options;
        if s.len() != 4 {
            return self.tape.poison("avg_pool2d", format!("{s:?} needs rank 4"), &s);
        }
        if padding == [0; 2]
            && kernel == stride
            && s[2].is_multiple_of(kernel[0].max(1))
            && s[3].is_multiple_of(kernel[1].max(1))
        {
            let (h, w) = (s[2] / kernel[0], s[3] / kernel[1]);
            let blocks = self.reshape(&[s[0], s[1], h, kernel[0], w, kernel[1]]);
            return blocks.mean(&[3, 5]).reshape(&[s[0], s[1], h, w]);
        }
        // A depthwise convolution with a constant kernel; every plane is an image of one channel.
        let planes = self.reshape(&[s[0] * s[1], 1, s[2], s[3]]);
        let weight = self.tape.full(1.0 / (kernel[0] * kernel[1]) as f32, &[1, 1, kernel[0], kernel[1]]);
        let conv = ConvOptions { stride, pad_low: padding, pad_high: padding, ..ConvOptions::default() };
        let y = planes.conv2d(weight, conv);
        let o = y.shape();
        y.reshape(&[s[0], s[1], o[2], o[3]])
    }

    /// Maximum of each window; the first of equal maxima gets the gradient.
    pub fn max_pool2d(self, options: PoolOptions) -> Tensor<'t> {
        let s = self.shape();
        let PoolOptions { kernel, stride, padding } = options;
        let fits = s.len() == 4 && !stride.contains(&0) && (0..2).all(|d| padding[d] < kernel[d]);
        let size = |d: usize| windows(s[2 + d], 2 * padding[d], kernel[d], 1, stride[d]);
        let (true, Some(h), Some(w)) = (fits, size(0), size(1)) else {
            return self.tape.poison("max_pool2d", format!("{s:?} with {options:?} does not fit"), &s);
        };
        let pool = MaxPool {
            face: pool::Face::Indices,
            planes: s[0] * s[1],
            x: [s[2], s[3]],
            y: [h, w],
            kernel,
            stride,
            pad_low: padding,
        };
        let shape = vec![s[0], s[1], h, w];
        let indices = self.tape.node(Op::MaxPool(pool), vec![self.id], shape.clone());
        let gather = Op::MaxPool(MaxPool { face: pool::Face::Gather, ..pool });
        self.tape.node(gather, vec![self.id, indices.id], shape)
    }
}
