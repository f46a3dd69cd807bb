//! Every kernel in plain f64 loops: the definition that all twins and variants are tested against.

mod product;

use crate::Kernel;
use crate::copy::Copy;
use crate::layout::{numel, offset};
use crate::moments::Moments;
use crate::pointwise::{Pointwise, Source};
use crate::pool::{Face, MaxPool};
use crate::random::{Distribution, Random, philox};
use crate::reduce::{Combine, Reduce};
use crate::sparse::Sparse;

pub use product::{conv, gemm};

/// Outputs of any kernel; `before` holds what the outputs held before the launch.
pub fn run(kernel: &Kernel, inputs: &[&[f32]], before: &[&[f32]]) -> Vec<Vec<f64>> {
    match kernel {
        Kernel::Conv(k) => vec![conv(k, inputs)],
        Kernel::Gemm(k) => vec![gemm(k, inputs)],
        Kernel::Pointwise(k) => pointwise(k, inputs, before),
        Kernel::Reduce(k) => reduce(k, inputs),
        Kernel::Moments(k) => moments(k, inputs[0]),
        Kernel::Copy(k) => vec![copy(k, inputs, before[0]).into_iter().map(f64::from).collect()],
        Kernel::MaxPool(k) => vec![max_pool(k, inputs)],
        Kernel::Sparse(k) => vec![sparse(k, inputs[0])],
        Kernel::Random(k) => vec![random(k, inputs[0], inputs[1][0])],
    }
}

// ---- pointwise, reduce, moments, copy, pool, sparse, random ----

/// Outputs of a [`Pointwise`]; `before` holds what the outputs held before the launch.
pub fn pointwise(k: &Pointwise, inputs: &[&[f32]], before: &[&[f32]]) -> Vec<Vec<f64>> {
    let n = numel(&k.shape);
    let mut out = vec![vec![0.0; n]; k.outputs.len()];
    for i in 0..n {
        let regs = k.expr.eval(|o| {
            let operand = &k.operands[o];
            f64::from(match operand.source {
                Source::Input(b) => inputs[b][offset(i, &k.shape, &operand.strides)],
                Source::Output(b) => before[b][i],
            })
        });
        for (out, &reg) in out.iter_mut().zip(&k.outputs) {
            out[i] = regs[reg];
        }
    }
    out
}

/// Outputs of a [`Reduce`].
pub fn reduce(k: &Reduce, inputs: &[&[f32]]) -> Vec<Vec<f64>> {
    // Strides of the output over the iteration shape: 0 along reduced dimensions.
    let mut strides = vec![0; k.shape.len()];
    let mut kept = 1;
    for d in (0..k.shape.len()).rev() {
        if !k.reduced[d] {
            strides[d] = kept;
            kept *= k.shape[d];
        }
    }
    let start = |c| if c == Combine::Sum { 0.0 } else { f64::NEG_INFINITY };
    let mut out: Vec<Vec<f64>> = k.outputs.iter().map(|o| vec![start(o.combine); kept]).collect();
    for i in 0..numel(&k.shape) {
        let regs = k.expr.eval(|o| {
            let operand = &k.operands[o];
            match operand.source {
                Source::Input(b) => f64::from(inputs[b][offset(i, &k.shape, &operand.strides)]),
                Source::Output(_) => f64::NAN, // refused by the check
            }
        });
        let at = offset(i, &k.shape, &strides);
        for (out, o) in out.iter_mut().zip(&k.outputs) {
            out[at] = match o.combine {
                Combine::Sum => out[at] + regs[o.reg],
                Combine::Max => crate::expr::Binary::Max.eval(out[at], regs[o.reg]),
            };
        }
    }
    for (out, o) in out.iter_mut().zip(&k.outputs) {
        out.iter_mut().for_each(|v| *v *= f64::from(o.scale.0));
    }
    out
}

/// Mean and biased variance of a [`Moments`].
pub fn moments(k: &Moments, x: &[f32]) -> Vec<Vec<f64>> {
    let n = (k.outer * k.inner) as f64;
    let (mut mean, mut var) = (vec![0.0; k.channels], vec![0.0; k.channels]);
    for (i, &v) in x.iter().enumerate() {
        mean[i / k.inner % k.channels] += f64::from(v) / n;
    }
    for (i, &v) in x.iter().enumerate() {
        let c = i / k.inner % k.channels;
        var[c] += (f64::from(v) - mean[c]).powi(2) / n;
    }
    vec![mean, var]
}

/// Output of a [`Copy`](struct@Copy); `before` is what the output held before the launch.
pub fn copy(k: &Copy, inputs: &[&[f32]], before: &[f32]) -> Vec<f32> {
    let mut out = if k.zero { vec![0.0; k.len] } else { before.to_vec() };
    for (part, input) in k.parts.iter().zip(inputs) {
        for i in 0..numel(&part.shape) {
            out[part.dst_offset + offset(i, &part.shape, &part.dst_strides)] =
                input[part.src_offset + offset(i, &part.shape, &part.src_strides)];
        }
    }
    out
}

/// Output of a [`MaxPool`].
pub fn max_pool(k: &MaxPool, inputs: &[&[f32]]) -> Vec<f64> {
    let (nx, ny) = (k.x[0] * k.x[1], k.y[0] * k.y[1]);
    let mut out = vec![0.0; k.planes * if k.face == Face::Scatter { nx } else { ny }];
    for p in 0..k.planes {
        for o in 0..ny {
            let at = p * ny + o;
            match k.face {
                Face::Gather => out[at] = f64::from(inputs[0][p * nx + inputs[1][at] as usize]),
                Face::Scatter => out[p * nx + inputs[1][at] as usize] += f64::from(inputs[0][at]),
                Face::Indices => {
                    let (mut best, mut index) = (f32::NEG_INFINITY, None);
                    for t in 0..k.kernel[0] * k.kernel[1] {
                        let tap = [t / k.kernel[1], t % k.kernel[1]];
                        let pos = |d: usize, o: usize| {
                            (o * k.stride[d] + tap[d] * k.dilation[d])
                                .checked_sub(k.pad_low[d])
                                .filter(|&i| i < k.x[d])
                        };
                        if let (Some(r), Some(c)) = (pos(0, o / k.y[1]), pos(1, o % k.y[1])) {
                            let v = inputs[0][p * nx + r * k.x[1] + c];
                            if index.is_none() || v > best || (v.is_nan() && !best.is_nan()) {
                                (best, index) = (v, Some(r * k.x[1] + c));
                            }
                        }
                    }
                    out[at] = index.unwrap_or(0) as f64;
                }
            }
        }
    }
    out
}

/// Output of a [`Sparse`].
pub fn sparse(k: &Sparse, x: &[f32]) -> Vec<f64> {
    let (rows, columns) = (k.matrix.rows(), k.matrix.columns());
    let mut out = vec![0.0; k.outer * rows * k.inner];
    for (at, y) in out.iter_mut().enumerate() {
        let (o, row, i) = (at / k.inner / rows, at / k.inner % rows, at % k.inner);
        for &(column, weight) in k.matrix.row(row) {
            *y += f64::from(weight.0) * f64::from(x[(o * columns + column) * k.inner + i]);
        }
    }
    out
}

/// Output of a [`Random`] with `key` (two words held as f32 bit patterns) and `step`.
pub fn random(k: &Random, key: &[f32], step: f32) -> Vec<f64> {
    let unit = |word: u32| f64::from(word >> 8) / f64::from(1 << 24);
    (0..k.len)
        .map(|i| {
            let counter = [(i / 4) as u32, k.stream, step as u32, 0];
            let words = philox(counter, [key[0].to_bits(), key[1].to_bits()]);
            match k.distribution {
                Distribution::Uniform => unit(words[i % 4]),
                Distribution::Normal => {
                    // Box–Muller on words (0, 1) and (2, 3): the even element takes the cosine, the odd the sine.
                    let pair = i % 4 / 2 * 2;
                    let radius = (-2.0 * (unit(words[pair]) + 1.0 / f64::from(1 << 24)).ln()).sqrt();
                    let angle = std::f64::consts::TAU * unit(words[pair + 1]);
                    radius * if i % 2 == 0 { angle.cos() } else { angle.sin() }
                }
            }
        })
        .collect()
}
