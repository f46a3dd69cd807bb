//! CPU twin of the convolution faces.

use super::{Conv, Face, Geometry};
use rayon::prelude::*;

pub(super) fn scratch_len(_conv: &Conv, _threads: usize) -> usize {
    0
}

pub(super) fn run(conv: &Conv, inputs: &[&[f32]], outputs: &mut [&mut [f32]], _scratch: &mut [f32]) {
    let g = &conv.geometry;
    let (first, second, operands) = (inputs[0], inputs[1], &inputs[2..]);
    let (channels, plane) = match conv.face {
        Face::Conv => (g.co, g.y[0] * g.y[1]),
        Face::Transpose => (g.ci, g.x[0] * g.x[1]),
        Face::Weight => (g.ci, g.kernel[0] * g.kernel[1]),
    };
    outputs[0].par_chunks_mut(plane).enumerate().for_each(|(i, out)| {
        let (outer, channel) = (i / channels, i % channels);
        out.fill(0.0);
        match conv.face {
            Face::Conv => conv_plane(g, first, second, outer, channel, out),
            Face::Transpose => transpose_plane(g, first, second, outer, channel, out),
            Face::Weight => weight_plane(g, first, second, outer, channel, out),
        }
        conv.epilogue.apply_channel(out, operands, i * plane, channel);
    });
}

/// Outputs `o` along `axis` for which tap `k` reads inside the image, and the input position of the first:
/// `0 ≤ o·stride + k·dilation − pad_low < x`.
fn valid(g: &Geometry, axis: usize, k: usize) -> (std::ops::Range<usize>, usize) {
    let (s, offset, pad) = (g.stride[axis], k * g.dilation[axis], g.pad_low[axis]);
    let low = pad.saturating_sub(offset).div_ceil(s);
    let high = (g.x[axis] + pad).saturating_sub(offset).div_ceil(s).min(g.y[axis]).max(low);
    (low..high, (low * s + offset).saturating_sub(pad))
}

/// Calls `row(tap, y offset, x offset, length)` for each row of each tap: element `j` of the row pairs y at
/// `y offset + j` with x at `x offset + j·stride`, both within one plane.
fn rows(g: &Geometry, mut row: impl FnMut(usize, usize, usize, usize)) {
    for kh in 0..g.kernel[0] {
        let (oh, top) = valid(g, 0, kh);
        for kw in 0..g.kernel[1] {
            let (ow, left) = valid(g, 1, kw);
            for (r, o) in oh.clone().enumerate() {
                let x = (top + r * g.stride[0]) * g.x[1] + left;
                if !ow.is_empty() {
                    row(kh * g.kernel[1] + kw, o * g.y[1] + ow.start, x, ow.len());
                }
            }
        }
    }
}

fn conv_plane(g: &Geometry, x: &[f32], w: &[f32], n: usize, co: usize, out: &mut [f32]) {
    let (plane, taps) = (g.x[0] * g.x[1], g.kernel[0] * g.kernel[1]);
    for ci in 0..g.ci {
        let x = &x[(n * g.ci + ci) * plane..][..plane];
        let w = &w[(co * g.ci + ci) * taps..][..taps];
        rows(g, |tap, yo, xo, len| {
            for (y, x) in out[yo..yo + len].iter_mut().zip(x[xo..].iter().step_by(g.stride[1])) {
                *y += w[tap] * x;
            }
        });
    }
}

fn transpose_plane(g: &Geometry, y: &[f32], w: &[f32], n: usize, ci: usize, out: &mut [f32]) {
    let (plane, taps) = (g.y[0] * g.y[1], g.kernel[0] * g.kernel[1]);
    for co in 0..g.co {
        let y = &y[(n * g.co + co) * plane..][..plane];
        let w = &w[(co * g.ci + ci) * taps..][..taps];
        rows(g, |tap, yo, xo, len| {
            for (x, y) in out[xo..].iter_mut().step_by(g.stride[1]).zip(&y[yo..yo + len]) {
                *x += w[tap] * y;
            }
        });
    }
}

fn weight_plane(g: &Geometry, x: &[f32], y: &[f32], co: usize, ci: usize, out: &mut [f32]) {
    let (x_plane, y_plane) = (g.x[0] * g.x[1], g.y[0] * g.y[1]);
    for n in 0..g.batch {
        let x = &x[(n * g.ci + ci) * x_plane..][..x_plane];
        let y = &y[(n * g.co + co) * y_plane..][..y_plane];
        rows(g, |tap, yo, xo, len| {
            let row = y[yo..yo + len].iter().zip(x[xo..].iter().step_by(g.stride[1]));
            out[tap] += row.map(|(y, x)| y * x).sum::<f32>();
        });
    }
}
