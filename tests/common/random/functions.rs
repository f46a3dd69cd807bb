//! What operations mean, as plain loops over [`Number`]s.

use ganomede::tape::{ConvOptions, Padding, PoolOptions, Sampling};

use super::number::{Curve, Number, Sum};
use super::script::{Binary, Unary};

/// Calls `f` with each multi-index of a shape, in row-major order.
pub(super) fn each(shape: &[usize], mut f: impl FnMut(&[usize])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.iter().product() {
        f(&index);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            if index[d] < shape[d] {
                break;
            }
            index[d] = 0;
        }
    }
}

/// Row-major position of an index; dimensions of size 1 repeat.
pub(super) fn at(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |sum, (&n, &i)| sum * n + if n == 1 { 0 } else { i })
}

pub(super) fn sum(group: &[Number]) -> Number {
    group.iter().fold(Sum::default(), |sum, &v| sum.plus(v)).total()
}

/// Devices form means in several ways: by a factor that is rounded, or as they go along.
pub(super) fn mean(group: &[Number]) -> Number {
    let size = group.iter().map(|v| v.part[0].abs()).sum::<f64>() / group.len() as f64;
    let found = sum(group).map(|v| [v / group.len() as f64, 1.0 / group.len() as f64, 0.0], 2.0, 0.0, false);
    if size == 0.0 { found } else { found.blurred(size) }
}

pub(super) fn variance(group: &[Number]) -> Number {
    let middle = mean(group);
    let squares: Vec<Number> =
        group.iter().map(|&v| v.minus(middle)).map(|centred| centred.times(centred)).collect();
    let size = group.iter().map(|v| v.part[0] * v.part[0]).sum::<f64>() / group.len() as f64;
    mean(&squares).blurred(size)
}

/// The first of the largest: the one whose place a pooling window remembers.
pub(super) fn first_largest(window: &[Number]) -> Number {
    let shared = Number::largest(window);
    match window.iter().find(|v| v.part[0] == shared.part[0]) {
        Some(first) if shared.error[0] == 0.0 => *first,
        _ => shared,
    }
}

/// The elements of the pooling window behind an index of the output; `None` is padding, and what lies beyond
/// it is not there.
pub(super) fn windows(
    x: &[Number],
    shape: &[usize],
    options: &PoolOptions,
    index: &[usize],
) -> Vec<Option<Number>> {
    let mut found = vec![];
    each(&options.kernel, |k| {
        let at_step = |d: usize| index[2 + d] * options.stride[d] + k[d] * options.dilation[d];
        if (0..2).any(|d| at_step(d) >= options.pad_low[d] + shape[2 + d] + options.pad_high[d]) {
            return;
        }
        let place = |d: usize| at_step(d).checked_sub(options.pad_low[d]).filter(|&p| p < shape[2 + d]);
        found.push(match (place(0), place(1)) {
            (Some(h), Some(w)) => Some(x[at(shape, &[index[0], index[1], h, w])]),
            _ => None,
        });
    });
    found
}

/// The average of a window.
pub(super) fn average(x: &[Number], shape: &[usize], options: &PoolOptions, index: &[usize]) -> Number {
    let window = windows(x, shape, options, index);
    let counted = window.iter().filter(|v| options.count_padding || v.is_some());
    mean(&counted.map(|v| v.unwrap_or(Number::ZERO)).collect::<Vec<_>>())
}

/// An element of a padded tensor.
pub(super) fn padded(
    x: &[Number],
    shape: &[usize],
    low: &[usize],
    padding: Padding,
    index: &[usize],
) -> Number {
    let mut source = vec![];
    for (d, &i) in index.iter().enumerate() {
        let (place, n) = (i as i64 - low[d] as i64, shape[d] as i64);
        let inside = (0..n).contains(&place);
        source.push(match padding {
            _ if inside => place,
            Padding::Constant(value) => return Number::exact(f64::from(value)),
            Padding::Edge => place.clamp(0, n - 1),
            Padding::Reflect if place < 0 => -place,
            Padding::Reflect => 2 * (n - 1) - place,
        } as usize);
    }
    x[at(shape, &source)]
}

/// An element of a tensor at another number of samples along an axis.
pub(super) fn resampled(
    x: &[Number],
    shape: &[usize],
    axis: usize,
    to: usize,
    sampling: Sampling,
    index: &[usize],
) -> Number {
    let (n, i) = (shape[axis] as f64, index[axis] as f64);
    let sample = |place: f64| {
        let mut index = index.to_vec();
        index[axis] = place as usize;
        x[at(shape, &index)]
    };
    let place = match sampling {
        Sampling::Nearest => return sample((i * n / to as f64).floor()),
        Sampling::Linear => ((i + 0.5) * n / to as f64 - 0.5).clamp(0.0, n - 1.0),
        Sampling::LinearAligned if to == 1 => 0.0,
        Sampling::LinearAligned => i * (n - 1.0) / (to as f64 - 1.0),
    };
    let (low, part) = (place.floor(), place.fract());
    let (a, b) = (sample(low), sample((low + 1.0).min(n - 1.0)));
    let weighed = Sum::default().product(a, Number::exact(1.0 - part)).product(b, Number::exact(part));
    weighed.total().blurred(a.part[0].abs() + b.part[0].abs())
}

/// A shape as that of images; signals have height 1.
pub(super) fn image(shape: &[usize]) -> [usize; 4] {
    match *shape {
        [n, c, l] => [n, c, 1, l],
        [n, c, h, w] => [n, c, h, w],
        _ => panic!("{shape:?} is no shape of images"),
    }
}

/// A convolution, or its adjoint with respect to the images.
pub(super) fn conv(
    x: &[Number],
    from: [usize; 4],
    w: &[Number],
    kernel: [usize; 4],
    to: [usize; 4],
    options: &ConvOptions,
    transposed: bool,
) -> Vec<Number> {
    // The smaller image steps by the stride over the larger. Weights are [small's channels, large's channels
    // of a group, …].
    let (small, large) = if transposed { (from, to) } else { (to, from) };
    let mut out = vec![Sum::default(); to.iter().product()];
    each(&[small[0], kernel[0], kernel[1], small[2], small[3], kernel[2], kernel[3]], |i| {
        let [n, c0, c1, sh, sw, kh, kw] = *i else { return };
        let place = |d: usize, s: usize, k: usize| {
            (s * options.stride[d] + k * options.dilation[d])
                .checked_sub(options.pad_low[d])
                .filter(|&p| p < large[2 + d])
        };
        let (Some(h), Some(v)) = (place(0, sh, kh), place(1, sw, kw)) else { return };
        let channel = c0 / (kernel[0] / options.groups) * kernel[1] + c1;
        let (s, l) = (at_image(small, [n, c0, sh, sw]), at_image(large, [n, channel, h, v]));
        let (source, target) = if transposed { (s, l) } else { (l, s) };
        out[target] = out[target].product(x[source], w[at_image(kernel, [c0, c1, kh, kw])]);
    });
    out.into_iter().map(|sum| if sum == Sum::default() { Number::ZERO } else { sum.total() }).collect()
}

pub(super) fn at_image(shape: [usize; 4], index: [usize; 4]) -> usize {
    index.iter().zip(shape).fold(0, |sum, (&i, n)| sum * n + i)
}

pub(super) fn unary(op: Unary, x: Number) -> Number {
    let cuts = |curve: fn(f64, f64, f64) -> Curve, a: f64, b: f64| x.map(|v| curve(v, a, b), 0.0, 0.0, true);
    match op {
        Unary::Affine(scale, shift) => Sum::default()
            .product(x, Number::exact(f64::from(scale)))
            .plus(Number::exact(f64::from(shift)))
            .total(),
        Unary::Recip => x.map(|v| [1.0 / v, -1.0 / (v * v), 2.0 / (v * v * v)], 4.0, 0.0, false),
        Unary::Exp => x.map(|v| [v.exp(); 3], 4.0 + 2.0 * x.part[0].abs(), 0.0, false),
        Unary::Log => x.map(|v| [v.ln(), 1.0 / v, -1.0 / (v * v)], 4.0, 4.0, false),
        Unary::Power(p) => {
            let p = f64::from(p);
            let curve = |v: f64| [v.powf(p), p * v.powf(p - 1.0), p * (p - 1.0) * v.powf(p - 2.0)];
            x.map(curve, 8.0 + 2.0 * (p * x.part[0].ln()).abs(), 0.0, false)
        }
        Unary::Sqrt => x.map(|v| [v.sqrt(), 0.5 / v.sqrt(), -0.25 / (v * v.sqrt())], 4.0, 0.0, false),
        Unary::Square => x.times(x),
        Unary::Tanh => x.map(
            |v| {
                let t = v.tanh();
                [t, 1.0 - t * t, -2.0 * t * (1.0 - t * t)]
            },
            4.0,
            4.0,
            false,
        ),
        Unary::Sigmoid => x.map(
            |v| {
                let s = 1.0 / (1.0 + (-v).exp());
                [s, s * (1.0 - s), s * (1.0 - s) * (1.0 - 2.0 * s)]
            },
            4.0,
            4.0,
            false,
        ),
        Unary::Softplus => x.map(
            |v| {
                let s = 1.0 / (1.0 + (-v).exp());
                [v.max(0.0) + (-v.abs()).exp().ln_1p(), s, s * (1.0 - s)]
            },
            4.0,
            4.0,
            false,
        ),
        Unary::Abs => x.map(|v| [v.abs(), if v == 0.0 { 0.0 } else { v.signum() }, 0.0], 0.0, 0.0, false),
        Unary::Sign => cuts(|v, _, _| [if v == 0.0 { v } else { v.signum() }, 0.0, 0.0], 0.0, 0.0),
        Unary::Step => cuts(|v, _, _| [if v > 0.0 { 1.0 } else { 0.0 }, 0.0, 0.0], 0.0, 0.0),
        Unary::Relu => cuts(|v, _, _| if v > 0.0 || v.is_nan() { [v, 1.0, 0.0] } else { [0.0; 3] }, 0.0, 0.0),
        Unary::Leaky(slope) => {
            let rounding = if x.part[0] > 0.0 { 0.0 } else { 1.0 };
            let slope = f64::from(slope);
            x.map(|v| if v > 0.0 { [v, 1.0, 0.0] } else { [v * slope, slope, 0.0] }, rounding, 0.0, false)
        }
        Unary::Clamp(low, high) => cuts(
            |v, low, high| {
                let inside = v >= low && v <= high;
                [if v.is_nan() { v } else { v.max(low).min(high) }, if inside { 1.0 } else { 0.0 }, 0.0]
            },
            f64::from(low),
            f64::from(high),
        ),
    }
}

pub(super) fn binary(op: Binary, a: Number, b: Number) -> Number {
    match op {
        Binary::Add => a.plus(b),
        Binary::Sub => a.minus(b),
        Binary::Mul => a.times(b),
        Binary::Div => a.times(unary(Unary::Recip, b)),
        Binary::Max => Number::largest(&[a, b]),
        Binary::Min => Number::smallest(&[a, b]),
        Binary::Greater => a.compared(b, |a, b| a > b),
        Binary::Equal => a.compared(b, |a, b| a == b),
        Binary::Pow => unary(Unary::Exp, b.times(unary(Unary::Log, a))),
    }
}
