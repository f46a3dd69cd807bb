//! What tests of convolutions and matrix products share: geometries, data, and how results are compared.

use ganomede_kernels::Kernel;
use ganomede_kernels::conv::{Face, Geometry};
use proptest::prelude::*;

pub(crate) const FACES: [Face; 3] = [Face::Conv, Face::Transpose, Face::Weight];

/// Repeatable numbers in (−1, 1).
pub(crate) fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / 2_147_483_648.0 - 1.0
        })
        .collect()
}

/// Noise for every input of a kernel.
pub(crate) fn inputs(kernel: &Kernel, seed: u32) -> Vec<Vec<f32>> {
    kernel.input_lens().into_iter().enumerate().map(|(i, len)| noise(seed + i as u32, len)).collect()
}

/// A geometry with the sides of its output; none where no output is left.
pub(crate) fn with_sizes(mut g: Geometry) -> Option<Geometry> {
    g.y = [g.y_size(0)?, g.y_size(1)?];
    Some(g)
}

/// Squares all along: one side, kernel, stride and padding for both dimensions.
pub(crate) fn square(
    batch: usize,
    [ci, co]: [usize; 2],
    x: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
) -> Geometry {
    let geometry = Geometry {
        batch,
        ci,
        co,
        x: [x; 2],
        y: [1; 2],
        kernel: [kernel; 2],
        stride: [stride; 2],
        pad_low: [pad; 2],
        pad_high: [pad; 2],
        dilation: [1; 2],
    };
    with_sizes(geometry).expect("the kernel fits")
}

/// Geometries of all kinds, uneven paddings and dilations among them.
pub(crate) fn any_geometry() -> impl Strategy<Value = Geometry> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    (
        1usize..=3,
        [1usize..=19, 1usize..=19],
        pair(1..=17),
        pair(1..=5),
        pair(1..=4),
        pair(0..=4),
        pair(0..=4),
        pair(1..=3),
    )
        .prop_filter_map(
            "kernel larger than the padded image",
            |(batch, [ci, co], x, kernel, stride, low, high, dilation)| {
                with_sizes(Geometry {
                    batch,
                    ci,
                    co,
                    x,
                    y: [1, 1],
                    kernel,
                    stride,
                    pad_low: low,
                    pad_high: high,
                    dilation,
                })
            },
        )
}

/// Kernels of stride 2 onto half of a side rounded up, as networks of any sides have them: k − 2 zeros around
/// even sides, k − 1 around odd ones, the smaller half before.
pub(crate) fn any_halving() -> impl Strategy<Value = Geometry> {
    let channels = || prop_oneof![1usize..=4, 5usize..=24];
    (1usize..=3, [channels(), channels()], [1usize..=41, 1usize..=41], 3usize..=5).prop_map(
        |(batch, channels, x, kernel)| {
            let zeros = x.map(|side| 2 * side.div_ceil(2) + kernel - 2 - side);
            let (pad_low, pad_high) = (zeros.map(|z| z / 2), zeros.map(|z| z.div_ceil(2)));
            let y = x.map(|side| side.div_ceil(2));
            Geometry { x, y, pad_low, pad_high, ..square(batch, channels, 8, kernel, 2, 1) }
        },
    )
}

/// Transposed convolutions with output padding: x is larger than the windows reach, by less than a stride.
pub(crate) fn any_output_padding() -> impl Strategy<Value = Geometry> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    (1usize..=3, pair(1..=19), pair(1..=9), pair(1..=5), pair(2..=4), pair(0..=2), pair(1..=3), pair(1..=3))
        .prop_filter_map(
            "the padding leaves nothing",
            |(batch, [ci, co], y, kernel, stride, pad, dilation, more)| {
                let side = |d: usize| {
                    let more = more[d].min(stride[d] - 1);
                    ((y[d] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1 + more)
                        .checked_sub(2 * pad[d])
                };
                let x = [side(0).filter(|&x| x > 0)?, side(1).filter(|&x| x > 0)?];
                Some(Geometry { batch, ci, co, x, y, kernel, stride, pad_low: pad, pad_high: pad, dilation })
            },
        )
}

/// Largest error over the root mean square of the expected values.
pub(crate) fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let mean_square = want.iter().map(|w| w * w).sum::<f64>() / want.len() as f64;
    let errors = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).abs());
    let worst = errors.fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { f64::max(a, b) });
    worst / mean_square.sqrt().max(1e-3)
}
