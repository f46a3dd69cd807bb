//! Convolution as one trilinear form T(x, w, y) = ⟨conv(x, w), y⟩ and its three partial derivatives.
//!
//! `x [n, ci, h, w]`, `w [co, ci, kh, kw]`, `y [n, co, oh, ow]`. conv2d reads x and w and gives y; conv_transpose2d
//! (PyTorch weight layout `[in, out, kh, kw]`, in = co, out = ci) reads y and w and gives x; the weight gradient of
//! both reads x and y and gives w. 1-D convolution is h = 1.

use crate::expr::Expr;
use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// Which of the three tensors is computed from the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Face {
    /// y from (x, w): `y[n,co,o] = Σ x[n, ci, o·s + k·d − pad_low] · w[co, ci, k]`.
    Conv,
    /// x from (y, w): the adjoint of [`Face::Conv`] in x.
    Transpose,
    /// w from (x, y): the adjoint of [`Face::Conv`] in w.
    Weight,
}

/// Sizes of one convolution; pairs are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Channels of x.
    pub ci: usize,
    /// Channels of y.
    pub co: usize,
    /// Spatial size of x.
    pub x: [usize; 2],
    /// Spatial size of y: ⌊(x + pad_low + pad_high − dilation·(kernel − 1) − 1) / stride⌋ + 1.
    pub y: [usize; 2],
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Stride.
    pub stride: [usize; 2],
    /// Zeros before the first row and column.
    pub pad_low: [usize; 2],
    /// Zeros after the last row and column.
    pub pad_high: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
}

impl Geometry {
    /// Elements of x.
    pub fn x_len(&self) -> usize {
        self.batch * self.ci * self.x[0] * self.x[1]
    }
    /// Elements of y.
    pub fn y_len(&self) -> usize {
        self.batch * self.co * self.y[0] * self.y[1]
    }
    /// Elements of w.
    pub fn w_len(&self) -> usize {
        self.co * self.ci * self.kernel[0] * self.kernel[1]
    }
}

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

/// What is done to each output element before it is stored: `expr` with operand 0 = the accumulator and operand
/// `i + 1` = `operands[i]`; the last register is stored. An empty `expr` stores the accumulator.
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

/// One face of a convolution. Inputs: `[x, w]`, `[y, w]` or `[x, y]` by face, then the epilogue's operands. One
/// output. [`Face::Weight`] takes no epilogue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Face.
    pub face: Face,
    /// Sizes.
    pub geometry: Geometry,
    /// Fused tail.
    pub epilogue: Epilogue,
}

impl Conv {
    pub(crate) fn name(&self) -> &'static str { "conv" }
    pub(crate) fn check(&self) -> Result<(), KernelError> { unimplemented!() }
    pub(crate) fn input_lens(&self) -> Vec<usize> { unimplemented!() }
    pub(crate) fn output_lens(&self) -> Vec<usize> { unimplemented!() }
    pub(crate) fn cost(&self) -> Cost { unimplemented!() }
    pub(crate) fn variants(&self) -> Vec<&'static str> { unimplemented!() }
    pub(crate) fn gpu(&self, _traits: &GpuTraits, _variant: Option<&str>) -> Result<GpuPlan, KernelError> { unimplemented!() }
    pub(crate) fn cpu_scratch_len(&self, _threads: usize) -> usize { unimplemented!() }
    pub(crate) fn cpu(&self, _inputs: &[&[f32]], _outputs: &mut [&mut [f32]], _scratch: &mut [f32]) { unimplemented!() }
}
