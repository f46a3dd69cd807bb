//! Matrix products and convolutions.

use ganomede_kernels::conv::{Face, Geometry};

use super::grouped::fits;
use super::windows;
use crate::tape::check::product_shape;
use crate::tape::{Op, Tape, Tensor};

/// Hyper-parameters of a convolution; pairs are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// From one window to the next, in elements of the larger image, each at least 1.
    pub stride: [usize; 2],
    /// Zeros before the first row and column.
    pub pad_low: [usize; 2],
    /// Zeros after the last row and column.
    pub pad_high: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
    /// Extra rows and columns of a transposed convolution's output; less than stride or dilation.
    pub output_padding: [usize; 2],
    /// Groups of channels, each convolved by itself: the weight's second dimension counts the channels of one
    /// group. As many as there are channels is a depthwise convolution.
    pub groups: usize,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self {
            stride: [1; 2],
            pad_low: [0; 2],
            pad_high: [0; 2],
            dilation: [1; 2],
            output_padding: [0; 2],
            groups: 1,
        }
    }
}

impl ConvOptions {
    /// Square stride and symmetric padding.
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 2], pad_low: [padding; 2], pad_high: [padding; 2], ..Self::default() }
    }

    /// Square stride with padding that differs before and after, as TensorFlow's "SAME" has it.
    pub fn asymmetric(stride: usize, low: usize, high: usize) -> Self {
        Self { stride: [stride; 2], pad_low: [low; 2], pad_high: [high; 2], ..Self::default() }
    }
}

impl<'t> Tensor<'t> {
    /// Matrix product of the last two dimensions; either operand may have a leading batch dimension.
    pub fn matmul(self, other: Tensor<'t>) -> Tensor<'t> {
        self.matmul_with(other, false, false)
    }

    /// Matrix product with operands stored transposed: A `[k, m]` where `trans_a`, B `[n, k]` where
    /// `trans_b`.
    pub fn matmul_with(self, other: Tensor<'t>, trans_a: bool, trans_b: bool) -> Tensor<'t> {
        let (a, b) = (self.shape(), other.shape());
        let Some(shape) = product_shape(&a, &b, trans_a, trans_b) else {
            let what = format!("{a:?} · {b:?} (transposed: {trans_a}, {trans_b}) do not fit");
            return self.tape.poison("matmul", what, &vec![1; a.len().max(b.len()).clamp(2, 3)]);
        };
        self.tape.node(Op::MatMul { trans_a, trans_b }, &[self, other], shape)
    }

    /// Fully connected layer: self `[n, in]`, weight `[out, in]` → `[n, out]`, plus bias `[out]`.
    pub fn linear(self, weight: Tensor<'t>, bias: Option<Tensor<'t>>) -> Tensor<'t> {
        let y = self.matmul_with(weight, false, true);
        let Some(bias) = bias else { return y };
        let (shape, own) = (y.shape(), bias.shape());
        if own[..] != shape[shape.len() - 1..] {
            let what = format!("a bias of shape {own:?} for {shape:?}; it has one number for each column");
            return self.tape.poison("linear", what, &shape);
        }
        y + bias
    }

    /// 2-D convolution: self `[n, ci, h, w]`, weight `[co, ci / groups, kh, kw]` → `[n, co, oh, ow]`.
    pub fn conv2d(self, weight: Tensor<'t>, options: ConvOptions) -> Tensor<'t> {
        let (x, w) = (self.shape(), weight.shape());
        let describe = |why: &str| format!("input {x:?}, weight {w:?}, {options:?}: {why}");
        if x.len() != 4 || w.len() != 4 {
            return self.tape.poison("conv2d", describe("both need rank 4"), &[1, 1, 1, 1]);
        }
        let poison = [x[0], w[0], 1, 1];
        let groups = options.groups;
        if groups == 0 || w[1].checked_mul(groups) != Some(x[1]) {
            let what = describe(
                "the input's channels (dimension 1) must equal the weight's dimension 1 times groups",
            );
            return self.tape.poison("conv2d", what, &poison);
        }
        if !w[0].is_multiple_of(groups) {
            let what =
                describe("the output's channels (the weight's dimension 0) must be a multiple of groups");
            return self.tape.poison("conv2d", what, &poison);
        }
        let size = |d: usize| {
            let pads = options.pad_low[d].saturating_add(options.pad_high[d]);
            windows(x[2 + d], pads, w[2 + d], options.dilation[d], options.stride[d])
        };
        let (Some(oh), Some(ow)) = (size(0), size(1)) else {
            return self.tape.poison(
                "conv2d",
                describe("the kernel is larger than the padded input"),
                &poison,
            );
        };
        if options.stride.contains(&0) || options.dilation.contains(&0) {
            return self.tape.poison("conv2d", describe("stride and dilation must be at least 1"), &poison);
        }
        let geometry = Geometry {
            batch: x[0],
            ci: x[1],
            co: w[0],
            x: [x[2], x[3]],
            y: [oh, ow],
            kernel: [w[2], w[3]],
            stride: options.stride,
            pad_low: options.pad_low,
            pad_high: options.pad_high,
            dilation: options.dilation,
        };
        if groups > 1 && !fits(&geometry) {
            return self.tape.poison("conv2d", describe("too large for groups"), &poison);
        }
        if groups > 1 {
            return self.tape.grouped_conv(&geometry, groups, self, weight);
        }
        self.tape.conv(Face::Conv, geometry, self, weight)
    }

    /// Transposed 2-D convolution, weight `[in, out / groups, kh, kw]` as in PyTorch: self `[n, in, h, w]` →
    /// `[n, out, (h − 1)·s − pad_low − pad_high + d·(kh − 1) + 1 + output_padding, …]`.
    pub fn conv_transpose2d(self, weight: Tensor<'t>, options: ConvOptions) -> Tensor<'t> {
        let (y, w) = (self.shape(), weight.shape());
        let describe = |why: &str| format!("input {y:?}, weight {w:?}, {options:?}: {why}");
        let name = "conv_transpose2d";
        if y.len() != 4 || w.len() != 4 {
            return self.tape.poison(name, describe("both need rank 4"), &[1, 1, 1, 1]);
        }
        let poison = [y[0], w[1], 1, 1];
        if y[1] != w[0] {
            let what = describe("the input's channels (dimension 1) must equal the weight's dimension 0");
            return self.tape.poison(name, what, &poison);
        }
        let groups = options.groups;
        if groups == 0 || !y[1].is_multiple_of(groups) {
            let what = describe("the input's channels (dimension 1) must be a multiple of groups");
            return self.tape.poison(name, what, &poison);
        }
        if options.stride.contains(&0) || options.dilation.contains(&0) {
            return self.tape.poison(name, describe("stride and dilation must be at least 1"), &poison);
        }
        let (mut x, mut pad_high, mut zeros) = ([0; 2], options.pad_high, [0; 4]);
        for d in 0..2 {
            if options.output_padding[d] >= options.stride[d].max(options.dilation[d]) {
                let what = describe("output_padding must be less than stride or dilation");
                return self.tape.poison(name, what, &poison);
            }
            let windows = (y[2 + d] - 1).saturating_mul(options.stride[d]);
            let taps = options.dilation[d].saturating_mul(w[2 + d] - 1);
            let full =
                windows.saturating_add(taps).saturating_add(options.output_padding[d]).saturating_add(1);
            match full.checked_sub(options.pad_low[d].saturating_add(options.pad_high[d])) {
                Some(size) if size > 0 => x[d] = size,
                _ => return self.tape.poison(name, describe("the padding leaves no output"), &poison),
            }
            // A geometry leaves fewer than `stride` rows over. More of them first undo the crop, then are
            // zeros.
            let above = (options.output_padding[d] + 1).saturating_sub(options.stride[d]);
            let uncropped = above.min(pad_high[d]);
            pad_high[d] -= uncropped;
            zeros[2 + d] = above - uncropped;
            x[d] = x[d].saturating_sub(zeros[2 + d]);
        }
        let geometry = Geometry {
            batch: y[0],
            ci: w[1] * groups,
            co: y[1],
            x,
            y: [y[2], y[3]],
            kernel: [w[2], w[3]],
            stride: options.stride,
            pad_low: options.pad_low,
            pad_high,
            dilation: options.dilation,
        };
        if groups > 1 && !fits(&geometry) {
            return self.tape.poison(name, describe("too large for groups"), &poison);
        }
        let x = if groups > 1 {
            self.tape.grouped_transpose(&geometry, groups, self, weight)
        } else {
            self.tape.conv(Face::Transpose, geometry, self, weight)
        };
        x.pad(&[0; 4], &zeros)
    }

    /// 1-D convolution: self `[n, ci, l]`, weight `[co, ci, k]` → `[n, co, ol]`.
    pub fn conv1d(self, weight: Tensor<'t>, stride: usize, padding: usize, dilation: usize) -> Tensor<'t> {
        self.one_dimensional("conv1d", weight, stride, padding, dilation, Tensor::conv2d)
    }

    /// Transposed 1-D convolution: self `[n, in, l]`, weight `[in, out, k]`.
    pub fn conv_transpose1d(
        self,
        weight: Tensor<'t>,
        stride: usize,
        padding: usize,
        dilation: usize,
    ) -> Tensor<'t> {
        self.one_dimensional("conv_transpose1d", weight, stride, padding, dilation, Tensor::conv_transpose2d)
    }

    fn one_dimensional(
        self,
        name: &'static str,
        weight: Tensor<'t>,
        stride: usize,
        padding: usize,
        dilation: usize,
        conv: fn(Tensor<'t>, Tensor<'t>, ConvOptions) -> Tensor<'t>,
    ) -> Tensor<'t> {
        let (x, w) = (self.shape(), weight.shape());
        if x.len() != 3 || w.len() != 3 {
            return self.tape.poison(
                name,
                format!("input {x:?}, weight {w:?}: both need rank 3"),
                &[1, 1, 1],
            );
        }
        let options = ConvOptions {
            stride: [1, stride],
            pad_low: [0, padding],
            pad_high: [0, padding],
            dilation: [1, dilation],
            ..ConvOptions::default()
        };
        let x = self.reshape(&[x[0], x[1], 1, x[2]]);
        let y = conv(x, weight.reshape(&[w[0], w[1], 1, w[2]]), options);
        let y_shape = y.shape();
        y.reshape(&[y_shape[0], y_shape[1], y_shape[3]])
    }
}

impl Tape {
    pub(in crate::tape) fn conv(&self, face: Face, g: Geometry, a: Tensor<'_>, b: Tensor<'_>) -> Tensor<'_> {
        let shape = match face {
            Face::Conv => vec![g.batch, g.co, g.y[0], g.y[1]],
            Face::Transpose => vec![g.batch, g.ci, g.x[0], g.x[1]],
            Face::Weight => vec![g.co, g.ci, g.kernel[0], g.kernel[1]],
        };
        self.node(Op::Conv(face, g), &[a, b], shape)
    }
}
