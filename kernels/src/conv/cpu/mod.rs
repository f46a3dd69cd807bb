//! CPU twin of the convolution faces.
//!
//! Inside, everything is channels-last: images are transposed to `[pixel, channel]`, rows of patches (or of
//! their Winograd transforms) are multiplied by packed weights with output channels in vector lanes, and the
//! result is transposed back while it is in cache, where the epilogue is applied. Work is cut by the shape
//! alone, and workers take pieces from a queue, so bits do not depend on the number of threads.

mod images;
mod pixels;
mod weight;
mod winograd;

use super::{Conv, Face, Geometry};
use crate::epilogue::{Channels, Epilogue};
use crate::family::Family;
use crate::gemm::Gemm;
use crate::half;
use crate::tasks::share;
use crate::tile::{self, ALIGN};

/// The same convolution of weights in f32.
fn of_f32(conv: &Conv) -> Conv {
    Conv { half: false, ..conv.clone() }
}

pub(super) fn scratch_len(conv: &Conv, threads: usize) -> usize {
    if conv.half {
        return conv.geometry.w_len() + scratch_len(&of_f32(conv), threads);
    }
    if let Some(product) = full_window(conv) {
        let tail = conv.epilogue.tail(Channels::Rows).scratch_len();
        return product.twin_scratch_len(threads).max(threads * tail);
    }
    let len = match (pixels::Plan::new(conv), conv.face) {
        (Some(plan), _) => plan.scratch_len(threads),
        (None, Face::Weight) => weight::scratch_len(conv, threads),
        (None, _) => images::Plan::new(conv).scratch_len(threads),
    };
    len + ALIGN
}

/// Elements of the packed weights, for who keeps them; 0 where weights are used as they lie, or are made.
pub(super) fn weights_len(conv: &Conv) -> usize {
    if conv.half || conv.face == Face::Weight {
        return 0;
    }
    match (full_window(conv), pixels::Plan::new(conv)) {
        (Some(product), _) => product.twin_weights_len(),
        (None, Some(_)) => 0,
        (None, None) => images::Plan::new(conv).packed_len(),
    }
}

/// Elements of scratch that packed weights take where nobody keeps them.
pub(super) fn packed_scratch_len(conv: &Conv) -> usize {
    match full_window(conv) {
        Some(_) => 0,
        None => weights_len(conv),
    }
}

/// Packs the weights for who keeps them.
pub(super) fn weights(conv: &Conv, weights: &[f32], kept: &mut [f32]) {
    match full_window(conv) {
        Some(product) => product.twin_weights(weights, kept),
        None => images::Plan::new(conv).pack(weights, kept),
    }
}

/// The convolution; `kept` are the weights packed, where somebody has them.
pub(super) fn run(
    conv: &Conv,
    inputs: &[&[f32]],
    kept: Option<&[f32]>,
    outputs: &mut [&mut [f32]],
    scratch: &mut [f32],
) {
    if conv.half {
        return half::unpacked(conv.geometry.w_len(), inputs, scratch, |inputs, scratch| {
            run(&of_f32(conv), inputs, None, outputs, scratch);
        });
    }
    if let Some(product) = full_window(conv) {
        let multiply = |inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]| match kept {
            Some(kept) => product.twin_kept(inputs, kept, outputs, scratch),
            None => product.twin(inputs, outputs, scratch),
        };
        match conv.face {
            Face::Conv => multiply(inputs, outputs, scratch),
            Face::Transpose => {
                multiply(&inputs[..2], outputs, scratch);
                finish_images(conv, inputs, outputs[0], scratch);
            }
            Face::Weight => product.twin(&[inputs[1], inputs[0]], outputs, scratch),
        }
        return;
    }
    let (out, scratch) = (&mut *outputs[0], tile::aligned(scratch));
    match (pixels::Plan::new(conv), conv.face) {
        (Some(plan), _) => plan.run(inputs, out, scratch),
        (None, Face::Weight) => weight::run(conv, inputs, out, scratch),
        (None, _) => images::Plan::new(conv).run(inputs, kept, out, scratch),
    }
}

/// The epilogue of a transpose whose sums are in `out`.
fn finish_images(conv: &Conv, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) {
    let tail = conv.epilogue.tail(Channels::Rows);
    let plane = conv.geometry.x[0] * conv.geometry.x[1];
    let len = conv.geometry.ci * plane;
    if tail.scratch_len() > 0 {
        share(out.chunks_exact_mut(len).enumerate(), scratch, tail.scratch_len(), |(image, out), scratch| {
            tail.apply(out, plane, &inputs[2..], image * len, 0, scratch);
        });
    }
}

/// A window as large as the image, as between a latent vector and its first feature map, makes each face a
/// matrix product with x as `[n, (ci, tap)]` and y as `[n, co]`: y = x wᵀ, x = y w, w = yᵀ x.
fn full_window(conv: &Conv) -> Option<Gemm> {
    let g = &conv.geometry;
    let full = g.kernel == g.x && g.y == [1, 1] && g.pad_low == [0, 0] && g.dilation == [1, 1];
    let taps = g.ci * g.kernel[0] * g.kernel[1];
    let (m, n, k) = match conv.face {
        Face::Conv => (g.batch, g.co, taps),
        Face::Transpose => (g.batch, taps, g.co),
        Face::Weight => (g.co, taps, g.batch),
    };
    full.then_some(Gemm {
        batch: 1,
        m,
        n,
        k,
        trans_a: conv.face == Face::Weight,
        trans_b: conv.face == Face::Conv,
        batched_a: false,
        batched_b: false,
        half_b: false,
        precision: conv.precision,
        epilogue: if conv.face == Face::Conv { conv.epilogue.clone() } else { Epilogue::default() },
    })
}

/// The taps that reach a grid of positions along one axis: tap `tap + m·tap_step` of position `g` reads the
/// source at `g·step + offset + m·offset_step`, for m < taps; position g is destination `g·out_step + out`.
#[derive(Debug, Clone, Copy)]
struct Axis {
    grid: usize,
    taps: usize,
    tap: usize,
    tap_step: usize,
    step: isize,
    offset: isize,
    offset_step: isize,
    out: usize,
    out_step: usize,
}

impl Axis {
    /// Convolution: `y[o] = Σ_k x[o·stride + k·dilation − pad] w[k]`.
    fn conv(g: &Geometry, axis: usize) -> Self {
        Self {
            grid: g.y[axis],
            taps: g.kernel[axis],
            tap: 0,
            tap_step: 1,
            step: g.stride[axis] as isize,
            offset: -(g.pad_low[axis] as isize),
            offset_step: g.dilation[axis] as isize,
            out: 0,
            out_step: 1,
        }
    }

    /// Its adjoint at the positions `h = g·stride + phase`: tap k reaches y at o = (h + pad − k·dilation) /
    /// stride where that is whole. With c = gcd(stride, dilation) such k are stride/c apart, and o falls by
    /// dilation/c.
    fn transpose(g: &Geometry, axis: usize, phase: usize) -> Self {
        let (stride, dilation) = (g.stride[axis], g.dilation[axis]);
        let common = gcd(stride, dilation);
        let origin = (phase + g.pad_low[axis]) as isize;
        let offset = |k: usize| origin - (k * dilation) as isize;
        let tap_step = stride / common;
        let tap = (0..tap_step.min(g.kernel[axis])).find(|&k| offset(k) % stride as isize == 0);
        Self {
            grid: g.x[axis].saturating_sub(phase).div_ceil(stride),
            taps: tap.map_or(0, |tap| (g.kernel[axis] - tap).div_ceil(tap_step)),
            tap: tap.unwrap_or(0),
            tap_step,
            step: 1,
            offset: offset(tap.unwrap_or(0)).div_euclid(stride as isize),
            offset_step: -((dilation / common) as isize),
            out: phase,
            out_step: stride,
        }
    }

    fn source(&self, g: usize, m: usize) -> isize {
        g as isize * self.step + self.offset + m as isize * self.offset_step
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Index of pixel (h, w) in a plane of `size`, or `outside` where it is in the padding.
fn pixel(h: isize, w: isize, size: [usize; 2], outside: usize) -> usize {
    match (usize::try_from(h), usize::try_from(w)) {
        (Ok(h), Ok(w)) if h < size[0] && w < size[1] => h * size[1] + w,
        _ => outside,
    }
}

/// Where the Winograd form applies: 4 × 4 taps at stride 2, channels enough to fill vectors.
fn has_phases(g: &Geometry) -> bool {
    g.kernel == [4, 4] && g.stride == [2, 2] && g.dilation == [1, 1] && g.ci >= 16 && g.co >= 16
}
