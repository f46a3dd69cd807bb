//! Convolution as one trilinear form T(x, w, y) = ⟨conv(x, w), y⟩ and its three partial derivatives.
//!
//! `x [n, ci, h, w]`, `w [co, ci, kh, kw]`, `y [n, co, oh, ow]`. conv2d reads x and w and gives y; conv_transpose2d
//! (PyTorch weight layout `[in, out, kh, kw]`, in = co, out = ci) reads y and w and gives x; the weight gradient of
//! both reads x and y and gives w. 1-D convolution is h = 1.

pub(crate) mod cpu;
pub(crate) mod epilogue;
mod gpu;

use crate::expr::Expr;
use crate::half::words;
use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// The batch for which the form of a convolution is chosen, on both devices and whatever the real one: forms add in
/// different orders, and an image must have the same bits in any batch.
pub(crate) const NOMINAL_BATCH: usize = 16;

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
    /// Size of y that follows from the rest along `axis` (0 = height, 1 = width), `None` where the dilated kernel
    /// is larger than the padded image.
    pub fn y_size(&self, axis: usize) -> Option<usize> {
        let span = self.dilation[axis].checked_mul(self.kernel[axis].checked_sub(1)?)?.checked_add(1)?;
        let padded = self.x[axis].checked_add(self.pad_low[axis])?.checked_add(self.pad_high[axis])?;
        Some(padded.checked_sub(span)?.checked_div(self.stride[axis])? + 1)
    }

    fn check(&self, kernel: &'static str) -> Result<(), KernelError> {
        let sizes = [
            ("batch", [self.batch, 1]),
            ("input channels", [self.ci, 1]),
            ("output channels", [self.co, 1]),
            ("x", self.x),
            ("y", self.y),
            ("kernel", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
        ];
        for (what, size) in sizes {
            if size.contains(&0) {
                return Err(shape_error(kernel, format!("{what} must be at least 1, got {size:?}")));
            }
        }
        for axis in 0..2 {
            if self.y_size(axis) != Some(self.y[axis]) {
                return Err(shape_error(
                    kernel,
                    format!(
                        "along {} x = {}, kernel {}, stride {}, padding {} + {}, dilation {} give y = {}, not {}",
                        ["height", "width"][axis],
                        self.x[axis],
                        self.kernel[axis],
                        self.stride[axis],
                        self.pad_low[axis],
                        self.pad_high[axis],
                        self.dilation[axis],
                        self.y_size(axis).map_or_else(|| "nothing".into(), |y| y.to_string()),
                        self.y[axis],
                    ),
                ));
            }
            // Positions in the padded image are signed 32-bit numbers.
            let padded = self.x[axis].saturating_add(self.pad_low[axis]).saturating_add(self.pad_high[axis]);
            let largest = padded.max(self.stride[axis]).max(self.dilation[axis]);
            if i32::try_from(largest).is_err() {
                let axis = ["height", "width"][axis];
                return Err(shape_error(
                    kernel,
                    format!(
                        "along {axis} the padded input, stride or dilation is {largest}; 2^31 is too large"
                    ),
                ));
            }
        }
        checked_len(kernel, "x", &[self.batch, self.ci, self.x[0], self.x[1]])?;
        checked_len(kernel, "y", &[self.batch, self.co, self.y[0], self.y[1]])?;
        checked_len(kernel, "w", &[self.co, self.ci, self.kernel[0], self.kernel[1]])?;
        Ok(())
    }

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
    /// w is stored in halves ([`crate::half`]). Not of [`Face::Weight`], which makes w.
    pub half: bool,
    /// Fused tail.
    pub epilogue: Epilogue,
}

impl Conv {
    pub(crate) fn name(&self) -> &'static str {
        match self.face {
            Face::Conv => "conv",
            Face::Transpose => "conv_transpose",
            Face::Weight => "conv_weight",
        }
    }

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        let kernel = self.name();
        self.geometry.check(kernel)?;
        if self.face == Face::Weight && self.epilogue != Epilogue::default() {
            return Err(shape_error(kernel, "the weight gradient takes no epilogue".into()));
        }
        if self.face == Face::Weight && self.half {
            return Err(shape_error(kernel, "the weight gradient reads no weights in halves".into()));
        }
        self.epilogue.check(kernel)
    }

    pub(crate) fn input_lens(&self) -> Vec<usize> {
        let g = &self.geometry;
        let w_len = if self.half { words(g.w_len()) } else { g.w_len() };
        let (first, second, channels) = match self.face {
            Face::Conv => (g.x_len(), w_len, g.co),
            Face::Transpose => (g.y_len(), w_len, g.ci),
            Face::Weight => (g.x_len(), g.y_len(), g.ci),
        };
        let tail = self.epilogue.operand_lens(self.out_len(), channels);
        [first, second].into_iter().chain(tail).collect()
    }

    pub(crate) fn output_lens(&self) -> Vec<usize> {
        vec![self.out_len()]
    }

    fn out_len(&self) -> usize {
        match self.face {
            Face::Conv => self.geometry.y_len(),
            Face::Transpose => self.geometry.x_len(),
            Face::Weight => self.geometry.w_len(),
        }
    }

    /// Multiply-adds are counted over the whole window, padding included, as the field does: the three faces of
    /// one geometry cost the same.
    pub(crate) fn cost(&self) -> Cost {
        let g = &self.geometry;
        let products = (g.y_len() as u64).saturating_mul((g.ci * g.kernel[0] * g.kernel[1]) as u64);
        let out = self.out_len() as u64;
        Cost {
            flops: products.saturating_mul(2).saturating_add(self.epilogue.expr.flops() * out),
            bytes_read: 4 * self.input_lens().iter().map(|&len| len as u64).sum::<u64>(),
            bytes_written: 4 * out,
        }
    }

    pub(crate) fn variants(&self) -> Vec<&'static str> {
        gpu::variants(self)
    }

    pub(crate) fn gpu(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        gpu::plan(self, traits, variant)
    }

    pub(crate) fn cpu_scratch_len(&self, threads: usize) -> usize {
        cpu::scratch_len(self, threads)
    }

    pub(crate) fn cpu(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, outputs, scratch);
    }
}

pub(crate) fn shape_error(kernel: &'static str, what: String) -> KernelError {
    KernelError::Shape { kernel, what }
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
