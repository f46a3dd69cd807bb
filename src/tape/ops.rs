//! Operations: what a model may write. Each checks its shapes, simplifies where that is free, and appends nodes.

use ganomede_kernels::conv::{Face, Geometry};
use ganomede_kernels::expr::{Binary, Num, Unary};
use ganomede_kernels::pool::{self, MaxPool};
use ganomede_kernels::random::Distribution;

use super::{Op, Tape, Tensor, Variable};

/// Hyper-parameters of a convolution; pairs are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Stride.
    pub stride: [usize; 2],
    /// Zeros before the first row and column.
    pub pad_low: [usize; 2],
    /// Zeros after the last row and column.
    pub pad_high: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
    /// Extra rows and columns of a transposed convolution's output; less than stride or dilation.
    pub output_padding: [usize; 2],
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { stride: [1; 2], pad_low: [0; 2], pad_high: [0; 2], dilation: [1; 2], output_padding: [0; 2] }
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

/// Size of a strided window operation's output along one dimension, if a window fits.
fn windows(x: usize, pads: usize, kernel: usize, dilation: usize, stride: usize) -> Option<usize> {
    let extent = dilation * (kernel.checked_sub(1)?) + 1;
    Some((x + pads).checked_sub(extent)? / stride.max(1) + 1)
}

impl<'t> Tensor<'t> {
    fn unary(self, op: Unary) -> Tensor<'t> {
        let node = self.tape.get(self.id);
        match (op, &node.op) {
            (Unary::Affine(a, b), _) if a == Num(1.0) && b == Num(0.0) => return self,
            (Unary::Affine(a, b), Op::Unary(Unary::Affine(c, d))) => {
                let inner = Tensor { tape: self.tape, id: node.inputs[0] };
                return inner.affine(a.0 * c.0, a.0 * d.0 + b.0);
            }
            (_, Op::Const(c)) => return self.tape.constant(op.eval(f64::from(c.0)) as f32),
            // A function of a repeated value is the repeated function of the value.
            (_, Op::Broadcast) => {
                return Tensor { tape: self.tape, id: node.inputs[0] }.unary(op).broadcast_to(&node.shape);
            }
            _ => {}
        }
        self.tape.node(Op::Unary(op), vec![self.id], node.shape)
    }

    fn constant_value(self) -> Option<f32> {
        let node = self.tape.get(self.id);
        match node.op {
            Op::Const(c) => Some(c.0),
            Op::Broadcast => Tensor { tape: self.tape, id: node.inputs[0] }.constant_value(),
            _ => None,
        }
    }

    fn binary(self, name: &'static str, op: Binary, other: Tensor<'t>) -> Tensor<'t> {
        let (a, b) = (self.shape(), other.shape());
        let Some(shape) = broadcast_shape(&a, &b) else {
            return self.tape.poison(name, format!("shapes {a:?} and {b:?} do not broadcast"), &a);
        };
        match (op, self.constant_value(), other.constant_value()) {
            (Binary::Add, _, Some(c)) => return self.broadcast_to(&shape).affine(1.0, c),
            (Binary::Add, Some(c), _) => return other.broadcast_to(&shape).affine(1.0, c),
            (Binary::Sub, _, Some(c)) => return self.broadcast_to(&shape).affine(1.0, -c),
            (Binary::Sub, Some(c), _) => return other.broadcast_to(&shape).affine(-1.0, c),
            (Binary::Mul, _, Some(c)) => return self.broadcast_to(&shape).affine(c, 0.0),
            (Binary::Mul, Some(c), _) => return other.broadcast_to(&shape).affine(c, 0.0),
            (Binary::Div, Some(1.0), _) => return other.broadcast_to(&shape).unary(Unary::Recip),
            _ => {}
        }
        let (a, b) = (self.broadcast_to(&shape), other.broadcast_to(&shape));
        self.tape.node(Op::Binary(op), vec![a.id, b.id], shape)
    }

    /// self · scale + shift, element by element.
    pub fn affine(self, scale: f32, shift: f32) -> Tensor<'t> {
        self.unary(Unary::Affine(Num(scale), Num(shift)))
    }
    /// 1 / self.
    pub fn recip(self) -> Tensor<'t> {
        self.unary(Unary::Recip)
    }
    /// e to the power of self.
    pub fn exp(self) -> Tensor<'t> {
        self.unary(Unary::Exp)
    }
    /// Natural logarithm.
    pub fn log(self) -> Tensor<'t> {
        self.unary(Unary::Log)
    }
    /// Square root.
    pub fn sqrt(self) -> Tensor<'t> {
        self.unary(Unary::Sqrt)
    }
    /// Absolute value; its derivative at 0 is 0.
    pub fn abs(self) -> Tensor<'t> {
        self.unary(Unary::Abs)
    }
    /// −1, 0 or 1.
    pub fn sign(self) -> Tensor<'t> {
        self.unary(Unary::Sign)
    }
    /// self².
    pub fn square(self) -> Tensor<'t> {
        self.unary(Unary::Square)
    }
    /// max(self, 0); its derivative at 0 is 0.
    pub fn relu(self) -> Tensor<'t> {
        self.unary(Unary::Relu)
    }
    /// self where positive, else slope · self; its derivative at 0 is the slope.
    pub fn leaky_relu(self, slope: f32) -> Tensor<'t> {
        self.unary(Unary::LeakyRelu(Num(slope)))
    }
    /// Hyperbolic tangent.
    pub fn tanh(self) -> Tensor<'t> {
        self.unary(Unary::Tanh)
    }
    /// 1 / (1 + e^−self).
    pub fn sigmoid(self) -> Tensor<'t> {
        self.unary(Unary::Sigmoid)
    }
    /// ln(1 + e^self), stable for large magnitudes.
    pub fn softplus(self) -> Tensor<'t> {
        self.unary(Unary::Softplus)
    }
    /// Limits values to [low, high]; the derivative is 1 within, bounds included.
    pub fn clamp(self, low: f32, high: f32) -> Tensor<'t> {
        self.unary(Unary::Clamp(Num(low), Num(high)))
    }
    /// 1 where positive, else 0; no gradient.
    pub fn step(self) -> Tensor<'t> {
        self.unary(Unary::Step)
    }
    pub(super) fn leaky_mask(self, slope: f32) -> Tensor<'t> {
        self.unary(Unary::LeakyMask(Num(slope)))
    }
    pub(super) fn clamp_mask(self, low: Num, high: Num) -> Tensor<'t> {
        self.unary(Unary::ClampMask(low, high))
    }
    /// The larger of two, element by element; equal values share the gradient.
    pub fn maximum(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("maximum", Binary::Max, other)
    }
    /// The smaller of two, element by element; equal values share the gradient.
    pub fn minimum(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("minimum", Binary::Min, other)
    }
    /// 1 where self > other, else 0; no gradient.
    pub fn greater(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("greater", Binary::Greater, other)
    }
    /// 1 where self = other, else 0; no gradient.
    pub fn equal(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("equal", Binary::Equal, other)
    }

    /// Repeats dimensions of size 1; missing leading dimensions are added.
    pub fn broadcast_to(self, shape: &[usize]) -> Tensor<'t> {
        let node = self.tape.get(self.id);
        if node.shape == shape {
            return self;
        }
        if broadcast_shape(&node.shape, shape).as_deref() != Some(shape) {
            let what = format!("{:?} cannot be repeated to {shape:?}", node.shape);
            return self.tape.poison("broadcast", what, shape);
        }
        if matches!(node.op, Op::Broadcast) {
            return Tensor { tape: self.tape, id: node.inputs[0] }.broadcast_to(shape);
        }
        let aligned = if node.shape.len() == shape.len() || matches!(node.op, Op::Const(_)) {
            self
        } else {
            let mut padded = vec![1; shape.len() - node.shape.len()];
            padded.extend(&node.shape);
            self.reshape(&padded)
        };
        if aligned.shape() == shape {
            return aligned;
        }
        self.tape.node(Op::Broadcast, vec![aligned.id], shape.to_vec())
    }

    /// Same elements in row-major order, another shape.
    pub fn reshape(self, shape: &[usize]) -> Tensor<'t> {
        let node = self.tape.get(self.id);
        if node.shape == shape {
            return self;
        }
        if node.shape.iter().product::<usize>() != shape.iter().product::<usize>() {
            let what = format!("{:?} has not as many elements as {shape:?}", node.shape);
            return self.tape.poison("reshape", what, shape);
        }
        if let Some(value) = self.constant_value() {
            return self.tape.full(value, shape);
        }
        match node.op {
            Op::Reshape => Tensor { tape: self.tape, id: node.inputs[0] }.reshape(shape),
            _ => self.tape.node(Op::Reshape, vec![self.id], shape.to_vec()),
        }
    }

    /// `[n, …]` → `[n, product of the rest]`.
    pub fn flatten(self) -> Tensor<'t> {
        let n = self.shape().first().copied().unwrap_or(1).max(1);
        self.reshape(&[n, self.len() / n])
    }

    /// Same value; gradients stop here.
    pub fn stop_gradient(self) -> Tensor<'t> {
        let shape = self.shape();
        self.tape.node(Op::StopGradient, vec![self.id], shape)
    }

    /// Reorders dimensions: output dimension i is input dimension `order[i]`.
    pub fn permute(self, order: &[usize]) -> Tensor<'t> {
        let shape = self.shape();
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if sorted != (0..shape.len()).collect::<Vec<_>>() {
            let what = format!("order {order:?} is no permutation of the dimensions of {shape:?}");
            return self.tape.poison("permute", what, &shape);
        }
        if order.iter().enumerate().all(|(i, &o)| i == o) {
            return self;
        }
        let out = order.iter().map(|&o| shape[o]).collect();
        self.tape.node(Op::Permute(order.to_vec()), vec![self.id], out)
    }

    /// Swaps the last two dimensions.
    pub fn transpose(self) -> Tensor<'t> {
        let rank = self.rank();
        if rank < 2 {
            return self.tape.poison(
                "transpose",
                format!("rank {rank} has no two dimensions to swap"),
                &[1, 1],
            );
        }
        let mut order: Vec<_> = (0..rank).collect();
        order.swap(rank - 1, rank - 2);
        self.permute(&order)
    }

    /// Every `step`-th element of each dimension from `start` (inclusive) to `end` (exclusive).
    pub fn slice(self, start: &[usize], end: &[usize], step: &[usize]) -> Tensor<'t> {
        let shape = self.shape();
        let rank = shape.len();
        let fits = start.len() == rank
            && end.len() == rank
            && step.len() == rank
            && (0..rank).all(|d| start[d] < end[d] && end[d] <= shape[d] && step[d] > 0);
        if !fits {
            let what = format!("start {start:?}, end {end:?}, step {step:?} do not cut {shape:?}");
            return self.tape.poison("slice", what, &shape);
        }
        let out: Vec<_> = (0..rank).map(|d| (end[d] - start[d]).div_ceil(step[d])).collect();
        if out == shape {
            return self;
        }
        self.tape.node(Op::Slice { start: start.to_vec(), step: step.to_vec() }, vec![self.id], out)
    }

    /// `len` entries along one axis from `start`.
    pub fn narrow(self, axis: usize, start: usize, len: usize) -> Tensor<'t> {
        let shape = self.shape();
        if axis >= shape.len() || start + len > shape[axis] || len == 0 {
            let what = format!("{len} entries of axis {axis} from {start} do not cut {shape:?}");
            return self.tape.poison("narrow", what, &shape);
        }
        let (mut low, mut high) = (vec![0; shape.len()], shape.clone());
        (low[axis], high[axis]) = (start, start + len);
        self.slice(&low, &high, &vec![1; shape.len()])
    }

    /// Places the elements at `start + i·step` of a zero tensor of the given shape: the adjoint of [`Tensor::slice`].
    pub fn embed(self, start: &[usize], step: &[usize], shape: &[usize]) -> Tensor<'t> {
        let from = self.shape();
        let rank = shape.len();
        let fits = from.len() == rank
            && start.len() == rank
            && step.len() == rank
            && (0..rank).all(|d| from[d] > 0 && step[d] > 0 && start[d] + (from[d] - 1) * step[d] < shape[d]);
        if !fits {
            let what = format!("{from:?} from {start:?} by {step:?} does not fit {shape:?}");
            return self.tape.poison("embed", what, shape);
        }
        self.tape.node(
            Op::Embed { start: start.to_vec(), step: step.to_vec() },
            vec![self.id],
            shape.to_vec(),
        )
    }

    /// Zeros before and after each dimension.
    pub fn pad(self, low: &[usize], high: &[usize]) -> Tensor<'t> {
        let shape = self.shape();
        if low.len() != shape.len() || high.len() != shape.len() {
            let what = format!("{} and {} paddings for shape {shape:?}", low.len(), high.len());
            return self.tape.poison("pad", what, &shape);
        }
        let out: Vec<_> = (0..shape.len()).map(|d| shape[d] + low[d] + high[d]).collect();
        if out == shape { self } else { self.embed(low, &vec![1; shape.len()], &out) }
    }

    /// Joins tensors along an axis; the other dimensions must agree.
    pub fn concat(parts: &[Tensor<'t>], axis: usize) -> Tensor<'t> {
        let first = parts[0];
        let mut shape = first.shape();
        if parts.len() == 1 {
            return first;
        }
        // One launch binds at most seven parts beside its output.
        if parts.len() > 7 {
            let joined: Vec<_> = parts.chunks(7).map(|chunk| Tensor::concat(chunk, axis)).collect();
            return Tensor::concat(&joined, axis);
        }
        for part in &parts[1..] {
            let other = part.shape();
            let agrees = other.len() == shape.len()
                && axis < shape.len()
                && (0..shape.len()).all(|d| d == axis || other[d] == shape[d]);
            if !agrees {
                let what = format!("{shape:?} and {other:?} do not join along axis {axis}");
                return first.tape.poison("concat", what, &shape);
            }
            shape[axis] += other[axis];
        }
        first.tape.node(Op::Concat(axis), parts.iter().map(|p| p.id).collect(), shape)
    }

    fn reduced(self, name: &'static str, axes: &[usize]) -> Result<(Vec<usize>, Vec<usize>), Tensor<'t>> {
        let mut shape = self.shape();
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        if axes.iter().any(|&a| a >= shape.len()) {
            let what = format!("axes {axes:?} are not all dimensions of {shape:?}");
            return Err(self.tape.poison(name, what, &shape));
        }
        axes.retain(|&a| shape[a] != 1);
        for &axis in &axes {
            shape[axis] = 1;
        }
        Ok((axes, shape))
    }

    fn scaled_sum(self, name: &'static str, axes: &[usize], mean: bool) -> Tensor<'t> {
        let (axes, shape) = match self.reduced(name, axes) {
            Ok(found) => found,
            Err(poison) => return poison,
        };
        let count = self.len() / shape.iter().product::<usize>();
        if axes.is_empty() {
            return self;
        }
        let scale = if mean { 1.0 / count as f32 } else { 1.0 };
        let node = self.tape.get(self.id);
        if let Op::Broadcast = node.op {
            // The sum of a repeated value is a multiple of it, where it repeats along all summed axes.
            let inner = self.tape.get(node.inputs[0]).shape;
            if inner.is_empty() || axes.iter().all(|&a| inner[a] == 1) {
                let value = Tensor { tape: self.tape, id: node.inputs[0] };
                return value.affine(if mean { 1.0 } else { count as f32 }, 0.0).broadcast_to(&shape);
            }
        }
        self.tape.node(Op::Sum { axes, scale: Num(scale) }, vec![self.id], shape)
    }

    /// Sum over axes, which stay as size 1.
    pub fn sum(self, axes: &[usize]) -> Tensor<'t> {
        self.scaled_sum("sum", axes, false)
    }

    /// Mean over axes, which stay as size 1.
    pub fn mean(self, axes: &[usize]) -> Tensor<'t> {
        self.scaled_sum("mean", axes, true)
    }

    /// Sum of all elements, shape `[]`.
    pub fn sum_all(self) -> Tensor<'t> {
        self.sum(&(0..self.rank()).collect::<Vec<_>>()).reshape(&[])
    }

    /// Mean of all elements, shape `[]`.
    pub fn mean_all(self) -> Tensor<'t> {
        self.mean(&(0..self.rank()).collect::<Vec<_>>()).reshape(&[])
    }

    /// Sum of each sample `[n, …]` → `[n]`.
    pub fn sum_per_sample(self) -> Tensor<'t> {
        let n = self.shape().first().copied().unwrap_or(1);
        self.sum(&(1..self.rank()).collect::<Vec<_>>()).reshape(&[n])
    }

    /// Mean of each sample `[n, …]` → `[n]`.
    pub fn mean_per_sample(self) -> Tensor<'t> {
        let n = self.shape().first().copied().unwrap_or(1);
        self.mean(&(1..self.rank()).collect::<Vec<_>>()).reshape(&[n])
    }

    /// Maximum over axes, which stay as size 1; equal maxima share the gradient.
    pub fn max(self, axes: &[usize]) -> Tensor<'t> {
        match self.reduced("max", axes) {
            Ok((axes, _)) if axes.is_empty() => self,
            Ok((axes, shape)) => self.tape.node(Op::Max { axes }, vec![self.id], shape),
            Err(poison) => poison,
        }
    }

    /// Biased variance over axes, which stay as size 1; by Welford's method.
    pub fn variance(self, axes: &[usize]) -> Tensor<'t> {
        match self.reduced("variance", axes) {
            Ok((axes, shape)) if axes.is_empty() => self.tape.full(0.0, &shape),
            Ok((axes, shape)) => {
                // The kernel views the tensor as [outer, kept, inner]: kept dimensions must be neighbours.
                let full = self.shape();
                let kept: Vec<_> = (0..full.len()).filter(|d| full[*d] != 1 && !axes.contains(d)).collect();
                if kept.windows(2).all(|w| (w[0] + 1..w[1]).all(|d| full[d] == 1)) {
                    return self.tape.node(Op::Variance { axes }, vec![self.id], shape);
                }
                let order: Vec<_> =
                    (0..full.len()).filter(|d| !axes.contains(d)).chain(axes.iter().copied()).collect();
                let last: Vec<_> = (full.len() - axes.len()..full.len()).collect();
                self.permute(&order).variance(&last).reshape(&shape)
            }
            Err(poison) => poison,
        }
    }

    /// Softmax along one axis.
    pub fn softmax(self, axis: usize) -> Tensor<'t> {
        let e = (self - self.max(&[axis]).stop_gradient()).exp();
        e / e.sum(&[axis])
    }

    /// Matrix product of the last two dimensions; either operand may have a leading batch dimension.
    pub fn matmul(self, other: Tensor<'t>) -> Tensor<'t> {
        self.matmul_with(other, false, false)
    }

    /// Matrix product with operands stored transposed: A `[k, m]` where `trans_a`, B `[n, k]` where `trans_b`.
    pub fn matmul_with(self, other: Tensor<'t>, trans_a: bool, trans_b: bool) -> Tensor<'t> {
        let (a, b) = (self.shape(), other.shape());
        let (ra, rb) = (a.len(), b.len());
        let describe = || format!("{a:?} · {b:?} (transposed: {trans_a}, {trans_b}) do not fit");
        if !(2..=3).contains(&ra) || !(2..=3).contains(&rb) {
            return self.tape.poison("matmul", describe(), &[1, 1]);
        }
        let (m, ka) = if trans_a { (a[ra - 1], a[ra - 2]) } else { (a[ra - 2], a[ra - 1]) };
        let (kb, n) = if trans_b { (b[rb - 1], b[rb - 2]) } else { (b[rb - 2], b[rb - 1]) };
        if ka != kb || (ra == 3 && rb == 3 && a[0] != b[0]) {
            return self.tape.poison("matmul", describe(), &[m, n]);
        }
        let shape = match (ra, rb) {
            (3, _) => vec![a[0], m, n],
            (_, 3) => vec![b[0], m, n],
            _ => vec![m, n],
        };
        self.tape.node(Op::MatMul { trans_a, trans_b }, vec![self.id, other.id], shape)
    }

    /// Fully connected layer: self `[n, in]`, weight `[out, in]` → `[n, out]`, plus bias `[out]`.
    pub fn linear(self, weight: Tensor<'t>, bias: Option<Tensor<'t>>) -> Tensor<'t> {
        let y = self.matmul_with(weight, false, true);
        match bias {
            Some(bias) => y + bias,
            None => y,
        }
    }

    /// 2-D convolution: self `[n, ci, h, w]`, weight `[co, ci, kh, kw]` → `[n, co, oh, ow]`.
    pub fn conv2d(self, weight: Tensor<'t>, options: ConvOptions) -> Tensor<'t> {
        let (x, w) = (self.shape(), weight.shape());
        let describe = |why: &str| format!("input {x:?}, weight {w:?}, {options:?}: {why}");
        if x.len() != 4 || w.len() != 4 {
            return self.tape.poison("conv2d", describe("both need rank 4"), &[1, 1, 1, 1]);
        }
        let poison = [x[0], w[0], 1, 1];
        if x[1] != w[1] {
            let what = describe("the input's channels (dimension 1) must equal the weight's dimension 1");
            return self.tape.poison("conv2d", what, &poison);
        }
        let size = |d: usize| {
            let pads = options.pad_low[d] + options.pad_high[d];
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
        self.tape.conv(Face::Conv, geometry, self, weight)
    }

    /// Transposed 2-D convolution, weight `[in, out, kh, kw]` as in PyTorch: self `[n, in, h, w]` →
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
        if options.stride.contains(&0) || options.dilation.contains(&0) {
            return self.tape.poison(name, describe("stride and dilation must be at least 1"), &poison);
        }
        let (mut x, mut pad_high, mut zeros) = ([0; 2], options.pad_high, [0; 4]);
        for d in 0..2 {
            if options.output_padding[d] >= options.stride[d].max(options.dilation[d]) {
                let what = describe("output_padding must be less than stride or dilation");
                return self.tape.poison(name, what, &poison);
            }
            let full = (y[2 + d] - 1) * options.stride[d]
                + options.dilation[d] * (w[2 + d] - 1)
                + 1
                + options.output_padding[d];
            match full.checked_sub(options.pad_low[d] + options.pad_high[d]) {
                Some(size) if size > 0 => x[d] = size,
                _ => return self.tape.poison(name, describe("the padding leaves no output"), &poison),
            }
            // A geometry leaves fewer than `stride` rows over. More of them first undo the crop, then are zeros.
            let above = (options.output_padding[d] + 1).saturating_sub(options.stride[d]);
            let uncropped = above.min(pad_high[d]);
            pad_high[d] -= uncropped;
            zeros[2 + d] = above - uncropped;
            x[d] -= zeros[2 + d];
        }
        let geometry = Geometry {
            batch: y[0],
            ci: w[1],
            co: y[1],
            x,
            y: [y[2], y[3]],
            kernel: [w[2], w[3]],
            stride: options.stride,
            pad_low: options.pad_low,
            pad_high,
            dilation: options.dilation,
        };
        self.tape.conv(Face::Transpose, geometry, self, weight).pad(&[0; 4], &zeros)
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
            output_padding: [0; 2],
        };
        let x = self.reshape(&[x[0], x[1], 1, x[2]]);
        let y = conv(x, weight.reshape(&[w[0], w[1], 1, w[2]]), options);
        let y_shape = y.shape();
        y.reshape(&[y_shape[0], y_shape[1], y_shape[3]])
    }

    /// Repeats every pixel `factor` times in both directions.
    pub fn upsample_nearest(self, factor: usize) -> Tensor<'t> {
        let s = self.shape();
        if s.len() != 4 || factor == 0 {
            return self.tape.poison(
                "upsample_nearest",
                format!("{s:?} by {factor}: needs rank 4 and a factor"),
                &s,
            );
        }
        self.reshape(&[s[0], s[1], s[2], 1, s[3], 1])
            .broadcast_to(&[s[0], s[1], s[2], factor, s[3], factor])
            .reshape(&[s[0], s[1], s[2] * factor, s[3] * factor])
    }

    /// Average of each window; zeros of the padding count.
    pub fn avg_pool2d(self, options: PoolOptions) -> Tensor<'t> {
        let s = self.shape();
        let PoolOptions { kernel, stride, padding } = options;
        if s.len() != 4 {
            return self.tape.poison("avg_pool2d", format!("{s:?} needs rank 4"), &s);
        }
        if padding == [0; 2]
            && kernel == stride
            && s[2] % kernel[0].max(1) == 0
            && s[3] % kernel[1].max(1) == 0
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

    /// Zeroes elements with probability `p` and scales the rest by 1 / (1 − p).
    pub fn dropout(self, random: &RandomState, p: f32) -> Tensor<'t> {
        if !(0.0..1.0).contains(&p) {
            let shape = self.shape();
            return self.tape.poison("dropout", format!("probability {p} is not in [0, 1)"), &shape);
        }
        let keep = (self.tape.uniform(random, &self.shape()) - p).step();
        self * keep.affine(1.0 / (1.0 - p), 0.0)
    }
}

/// The states behind a program's random numbers: a key, and a count of replays.
#[derive(Debug, Clone)]
pub struct RandomState {
    /// Two words of key as f32 bit patterns, shape `[2]`.
    pub key: Variable,
    /// Number of replays so far, shape `[1]`.
    pub step: Variable,
}

impl Tape {
    pub(super) fn conv(&self, face: Face, g: Geometry, a: Tensor<'_>, b: Tensor<'_>) -> Tensor<'_> {
        let shape = match face {
            Face::Conv => vec![g.batch, g.co, g.y[0], g.y[1]],
            Face::Transpose => vec![g.batch, g.ci, g.x[0], g.x[1]],
            Face::Weight => vec![g.co, g.ci, g.kernel[0], g.kernel[1]],
        };
        self.node(Op::Conv(face, g), vec![a.id, b.id], shape)
    }

    /// Uniform numbers in [0, 1), new at every replay and every call.
    pub fn uniform(&self, random: &RandomState, shape: &[usize]) -> Tensor<'_> {
        self.random(Distribution::Uniform, random, shape)
    }

    /// Standard normal numbers, new at every replay and every call.
    pub fn normal(&self, random: &RandomState, shape: &[usize]) -> Tensor<'_> {
        self.random(Distribution::Normal, random, shape)
    }

    fn random(&self, distribution: Distribution, random: &RandomState, shape: &[usize]) -> Tensor<'_> {
        let (key, step) = (self.state(&random.key), self.state(&random.step));
        let op = Op::Random(distribution, self.next_stream());
        self.node(op, vec![key.id, step.id], shape.to_vec())
    }
}

/// Common shape of two operands, NumPy's rule.
fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], d: usize| if d + s.len() < rank { 1 } else { s[d + s.len() - rank] };
    (0..rank)
        .map(|d| match (at(a, d), at(b, d)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

macro_rules! operator {
    ($trait:ident, $method:ident, $name:literal, $op:expr) => {
        impl<'t> std::ops::$trait for Tensor<'t> {
            type Output = Tensor<'t>;
            fn $method(self, other: Tensor<'t>) -> Tensor<'t> {
                self.binary($name, $op, other)
            }
        }
        impl<'t> std::ops::$trait<f32> for Tensor<'t> {
            type Output = Tensor<'t>;
            fn $method(self, other: f32) -> Tensor<'t> {
                self.binary($name, $op, self.tape.constant(other))
            }
        }
        impl<'t> std::ops::$trait<Tensor<'t>> for f32 {
            type Output = Tensor<'t>;
            fn $method(self, other: Tensor<'t>) -> Tensor<'t> {
                other.tape.constant(self).binary($name, $op, other)
            }
        }
    };
}
operator!(Add, add, "add", Binary::Add);
operator!(Sub, sub, "sub", Binary::Sub);
operator!(Mul, mul, "mul", Binary::Mul);
operator!(Div, div, "div", Binary::Div);

impl<'t> std::ops::Neg for Tensor<'t> {
    type Output = Tensor<'t>;
    fn neg(self) -> Tensor<'t> {
        self.affine(-1.0, 0.0)
    }
}
