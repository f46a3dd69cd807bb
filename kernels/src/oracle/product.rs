//! Convolution and matrix product.

use crate::conv::{Conv, Epilogue, Face, Spread};
use crate::gemm::Gemm;

/// Input `i` of `inputs` in f64.
fn wide(inputs: &[&[f32]], i: usize, at: usize) -> f64 {
    f64::from(inputs[i][at])
}

/// The first `len` of numbers in halves.
fn unpacked(words: &[f32], len: usize) -> Vec<f32> {
    let halves = words.iter().flat_map(|word| [word.to_bits() as u16, (word.to_bits() >> 16) as u16]);
    halves.take(len).map(|bits| ::half::f16::from_bits(bits).to_f32()).collect()
}

/// `acc` after the epilogue, at output element `at` of channel `channel`; its operands are inputs 2 and up.
fn tail(epilogue: &Epilogue, inputs: &[&[f32]], acc: f64, at: usize, channel: usize) -> f64 {
    let regs = epilogue.expr.eval(|operand| match operand {
        0 => acc,
        i => match epilogue.operands[i - 1] {
            Spread::Full => wide(inputs, i + 1, at),
            Spread::Channel => wide(inputs, i + 1, channel),
            Spread::Scalar => wide(inputs, i + 1, 0),
        },
    });
    regs.last().copied().unwrap_or(acc)
}

/// A face of a convolution: every product of the trilinear form ⟨conv(x, w), y⟩ is visited once and added to the
/// element of the tensor that is asked for.
pub fn conv(conv: &Conv, inputs: &[&[f32]]) -> Vec<f64> {
    let g = &conv.geometry;
    let weights: Vec<f32>;
    let mut inputs = inputs.to_vec();
    if conv.half {
        weights = unpacked(inputs[1], g.w_len());
        inputs[1] = &weights;
    }
    let inputs = &inputs[..];
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
                                    Face::Conv => out[yi] += wide(inputs, 0, xi) * wide(inputs, 1, wi),
                                    Face::Transpose => out[xi] += wide(inputs, 0, yi) * wide(inputs, 1, wi),
                                    Face::Weight => out[wi] += wide(inputs, 0, xi) * wide(inputs, 1, yi),
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
        *value = tail(&conv.epilogue, inputs, *value, i, i / plane % channels);
    }
    out
}

/// A batched matrix product.
pub fn gemm(gemm: &Gemm, inputs: &[&[f32]]) -> Vec<f64> {
    let &Gemm { m, n, k, .. } = gemm;
    let b: Vec<f32>;
    let mut inputs = inputs.to_vec();
    if gemm.half_b {
        b = unpacked(inputs[1], 2 * inputs[1].len());
        inputs[1] = &b;
    }
    let inputs = &inputs[..];
    let mut out = Vec::with_capacity(gemm.batch * m * n);
    for batch in 0..gemm.batch {
        let a0 = if gemm.batched_a { batch * m * k } else { 0 };
        let b0 = if gemm.batched_b { batch * k * n } else { 0 };
        for row in 0..m {
            for column in 0..n {
                let mut sum = 0.0;
                for i in 0..k {
                    let a = a0 + if gemm.trans_a { i * m + row } else { row * k + i };
                    let b = b0 + if gemm.trans_b { column * k + i } else { i * n + column };
                    sum += wide(inputs, 0, a) * wide(inputs, 1, b);
                }
                out.push(tail(&gemm.epilogue, inputs, sum, out.len(), column));
            }
        }
    }
    out
}
