//! The faces in plain f64 loops.

use super::{Conv, Face};
use crate::family::Family;
use crate::half::unpacked_plainly;

/// A face of a convolution: every product of the trilinear form ⟨conv(x, w), y⟩ is visited once and added to
/// the element of the tensor that is asked for.
pub(super) fn conv(conv: &Conv, inputs: &[&[f32]]) -> Vec<f64> {
    let g = &conv.geometry;
    let weights: Vec<f32>;
    let mut inputs = inputs.to_vec();
    if conv.half {
        weights = unpacked_plainly(inputs[1], g.w_len());
        inputs[1] = &weights;
    }
    let product = |first: usize, second: usize| f64::from(inputs[0][first]) * f64::from(inputs[1][second]);
    let mut out = vec![0.0; conv.output_lens()[0]];
    for n in 0..g.batch {
        for co in 0..g.co {
            for ci in 0..g.ci {
                for oh in 0..g.y[0] {
                    for ow in 0..g.y[1] {
                        for kh in 0..g.kernel[0] {
                            for kw in 0..g.kernel[1] {
                                let h = (oh * g.stride[0] + kh * g.dilation[0]).checked_sub(g.pad_low[0]);
                                let w = (ow * g.stride[1] + kw * g.dilation[1]).checked_sub(g.pad_low[1]);
                                let (Some(h), Some(w)) = (h, w) else { continue };
                                if h >= g.x[0] || w >= g.x[1] {
                                    continue;
                                }
                                let xi = ((n * g.ci + ci) * g.x[0] + h) * g.x[1] + w;
                                let wi = ((co * g.ci + ci) * g.kernel[0] + kh) * g.kernel[1] + kw;
                                let yi = ((n * g.co + co) * g.y[0] + oh) * g.y[1] + ow;
                                match conv.face {
                                    Face::Conv => out[yi] += product(xi, wi),
                                    Face::Transpose => out[xi] += product(yi, wi),
                                    Face::Weight => out[wi] += product(xi, yi),
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    let (channels, plane) = match conv.face {
        Face::Conv => (g.co, g.y[0] * g.y[1]),
        Face::Transpose => (g.ci, g.x[0] * g.x[1]),
        Face::Weight => (g.ci, g.kernel[0] * g.kernel[1]),
    };
    for (i, value) in out.iter_mut().enumerate() {
        *value = conv.epilogue.eval(&inputs[2..], *value, i, i / plane % channels);
    }
    out
}
