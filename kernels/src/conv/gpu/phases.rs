//! Stride phases: the independent stride-1 convolutions that a transposed convolution is made of.

use super::super::{Conv, Face};

/// One slice of the matrix product of a face; pairs are (height, width). Named as in `conv.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    /// Sizes of the inner index's spatial digits; zero where the phase has no taps.
    pub(super) inner: [usize; 2],
    /// Sizes of the columns' spatial digits.
    pub(super) cols: [usize; 2],
    /// Source position of digits 0.
    pub(super) origin: [i32; 2],
    /// First element of A.
    pub(super) a_start: usize,
    /// First element of the output.
    pub(super) out_start: usize,
}

/// One phase along one axis: outputs `first + stride·q`, taps `tap + t·stride/g` of the kernel.
struct AxisPhase {
    first: usize,
    outputs: usize,
    tap: usize,
    taps: usize,
    origin: i32,
}

pub(super) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Number of phases; strides beyond the image leave no outputs to the last ones.
pub(super) fn count(conv: &Conv) -> usize {
    let g = &conv.geometry;
    match conv.face {
        Face::Transpose => g.stride[0].min(g.x[0]).saturating_mul(g.stride[1].min(g.x[1])),
        _ => 1,
    }
}

/// The phases of a face: one for [`Face::Conv`] and [`Face::Weight`].
pub(super) fn of(conv: &Conv) -> Vec<Phase> {
    let g = &conv.geometry;
    let origin = g.pad_low.map(|pad| -(pad as i32));
    match conv.face {
        Face::Conv => vec![Phase { inner: g.kernel, cols: g.y, origin, a_start: 0, out_start: 0 }],
        Face::Weight => vec![Phase { inner: g.y, cols: g.kernel, origin, a_start: 0, out_start: 0 }],
        Face::Transpose => {
            let (rows, cols) = (along(conv, 0), along(conv, 1));
            let pairs = rows.iter().flat_map(|h| cols.iter().map(move |w| (h, w)));
            pairs
                .map(|(h, w)| Phase {
                    inner: [h.taps, w.taps],
                    cols: [h.outputs, w.outputs],
                    origin: [h.origin, w.origin],
                    a_start: h.tap * g.kernel[1] + w.tap,
                    out_start: h.first * g.x[1] + w.first,
                })
                .collect()
        }
    }
}

/// The phases along one axis. Output `first + stride·q` is reached by tap k from `o` where `o·stride +
/// k·dilation − pad = first + stride·q`, so the taps are those with `k·dilation ≡ first + pad (mod stride)`.
fn along(conv: &Conv, axis: usize) -> Vec<AxisPhase> {
    let g = &conv.geometry;
    let (stride, dilation, kernel) = (g.stride[axis], g.dilation[axis], g.kernel[axis]);
    let step = stride / gcd(stride, dilation);
    (0..stride.min(g.x[axis]))
        .map(|first| {
            let reach = first + g.pad_low[axis];
            let outputs = (g.x[axis] - first).div_ceil(stride);
            match (0..kernel.min(step)).find(|k| k * dilation % stride == reach % stride) {
                Some(tap) => AxisPhase {
                    first,
                    outputs,
                    tap,
                    taps: (kernel - tap).div_ceil(step),
                    origin: ((reach as i64 - (tap * dilation) as i64) / stride as i64) as i32,
                },
                None => AxisPhase { first, outputs, tap: 0, taps: 0, origin: 0 },
            }
        })
        .collect()
}
