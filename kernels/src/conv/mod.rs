//! Convolution as one trilinear form T(x, w, y) = ⟨conv(x, w), y⟩ and its three partial derivatives.
//!
//! `x [n, ci, h, w]`, `w [co, ci, kh, kw]`, `y [n, co, oh, ow]`. conv2d reads x and w and gives y;
//! conv_transpose2d (PyTorch weight layout `[in, out, kh, kw]`, in = co, out = ci) reads y and w and gives x;
//! the weight gradient of both reads x and y and gives w. 1-D convolution is h = 1.

mod cpu;
mod gpu;
mod oracle;
mod variants;

pub use crate::epilogue::{Epilogue, Spread};

use crate::error::{KernelError, shape_error};
use crate::family::{Family, Size, Values};
use crate::half::words;
use crate::ladder::Ladder;
use crate::launch::{Cost, GpuPlan, GpuTraits, Slot};
use crate::layout::checked_len;
use crate::precision::Precision;
use crate::text::{pair, rounded, shape};

/// The batch for which the form of a convolution is chosen, on both devices and whatever the real one: forms
/// add in different orders, and an image must have the same bits in any batch.
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
    /// Number of images.
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
    /// Distance of neighbouring windows in x.
    pub stride: [usize; 2],
    /// Zeros before the first row and column.
    pub pad_low: [usize; 2],
    /// Zeros after the last row and column.
    pub pad_high: [usize; 2],
    /// Distance of neighbouring taps.
    pub dilation: [usize; 2],
}

impl Geometry {
    /// Size of y that follows from the rest along `axis` (0 = height, 1 = width), `None` where the dilated
    /// kernel is larger than the padded image.
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

    /// `k4 s2 p1`.
    fn window(&self) -> String {
        let mut text = format!("k{} s{} p{}", pair(self.kernel), pair(self.stride), pair(self.pad_low));
        if self.pad_high != self.pad_low {
            text += &format!("+{}", pair(self.pad_high));
        }
        if self.dilation != [1, 1] {
            text += &format!(" d{}", pair(self.dilation));
        }
        text
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

/// One face of a convolution. Inputs: `[x, w]`, `[y, w]` or `[x, y]` by face, then the epilogue's operands.
/// One output. [`Face::Weight`] takes no epilogue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Which tensor is computed.
    pub face: Face,
    /// Sizes of all three tensors.
    pub geometry: Geometry,
    /// w is stored in halves ([`crate::half`]). Not of [`Face::Weight`], which makes w.
    pub half: bool,
    /// What the operands are rounded to.
    pub precision: Precision,
    /// Fused tail.
    pub epilogue: Epilogue,
}

impl Conv {
    fn out_len(&self) -> usize {
        match self.face {
            Face::Conv => self.geometry.y_len(),
            Face::Transpose => self.geometry.x_len(),
            Face::Weight => self.geometry.w_len(),
        }
    }
}

impl Family for Conv {
    fn name(&self) -> &'static str {
        match self.face {
            Face::Conv => "conv",
            Face::Transpose => "conv_transpose",
            Face::Weight => "conv_weight",
        }
    }

    fn check(&self) -> Result<(), KernelError> {
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

    fn input_lens(&self) -> Vec<usize> {
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

    fn output_lens(&self) -> Vec<usize> {
        vec![self.out_len()]
    }

    /// Multiply-adds are counted over the whole window, padding included, as the field does: the three faces
    /// of one geometry cost the same.
    fn cost(&self) -> Cost {
        let g = &self.geometry;
        let products = (g.y_len() as u64).saturating_mul((g.ci * g.kernel[0] * g.kernel[1]) as u64);
        let out = self.out_len() as u64;
        Cost {
            flops: products.saturating_mul(2).saturating_add(self.epilogue.expr.flops() * out),
            bytes_read: 4 * self.input_lens().iter().map(|&len| len as u64).sum::<u64>(),
            bytes_written: 4 * out,
        }
    }

    fn variants(&self) -> Vec<&'static str> {
        gpu::variants(self)
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        self.precision.on_gpus(self.name(), traits)?;
        gpu::plan(self, traits, variant)
    }

    fn twin_scratch_len(&self, threads: usize) -> usize {
        cpu::scratch_len(self, threads)
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, None, outputs, scratch);
    }

    fn twin_weights_len(&self) -> usize {
        cpu::weights_len(self)
    }

    fn twin_kept_scratch_len(&self, threads: usize) -> usize {
        cpu::scratch_len(self, threads) - cpu::packed_scratch_len(self)
    }

    fn twin_weights(&self, weights: &[f32], kept: &mut [f32]) {
        cpu::weights(self, weights, kept);
    }

    fn twin_kept(&self, inputs: &[&[f32]], kept: &[f32], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, Some(kept), outputs, scratch);
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn class(&self) -> String {
        let g = &self.geometry;
        let pair = |[h, w]: [usize; 2]| format!("{h}×{w}");
        let padding = [g.pad_low[0] + g.pad_high[0], g.pad_low[1] + g.pad_high[1]];
        format!(
            "{}→{} x {} k {} s {} p {} d {} n {}{}",
            g.ci,
            g.co,
            pair(g.x),
            pair(g.kernel),
            pair(g.stride),
            pair(padding),
            pair(g.dilation),
            rounded(g.batch),
            self.precision.class()
        )
    }

    fn line(&self) -> String {
        let g = &self.geometry;
        let x = shape(&[g.batch, g.ci, g.x[0], g.x[1]]);
        let y = shape(&[g.batch, g.co, g.y[0], g.y[1]]);
        let w = shape(&[g.co, g.ci, g.kernel[0], g.kernel[1]]);
        let (from, to) = match self.face {
            Face::Conv => (x, y),
            Face::Transpose => (y, x),
            Face::Weight => (format!("{x}, {y}"), w),
        };
        let weights = if self.half { ", weights in halves" } else { "" };
        format!("{from} → {to}, {}{weights}{}{}", g.window(), self.precision.line(), self.epilogue.line())
    }

    fn ladders() -> &'static [Ladder] {
        &variants::LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &variants::LADDERS[self.face as usize]
    }

    fn oracle(&self, inputs: &[&[f32]], _before: &[&[f32]]) -> Vec<Vec<f64>> {
        vec![oracle::conv(self, inputs)]
    }

    fn sample(ladder: &str, variant: &str, size: Size) -> Self {
        variants::sample(ladder, variant, size)
    }

    fn values(&self, _buffer: Slot) -> Values {
        Values::Signed
    }
}
