//! Sums and maxima over slices, in an order fixed by the length: 64 lanes, then a tree.

use crate::expr::math;
use multiversion::multiversion;

const WIDTH: usize = 64;
/// Accumulators of a row.
pub(crate) const SIDE: usize = 16;

/// Folds `values` into `WIDTH` lanes by `f` and the lanes pairwise.
#[inline(always)]
fn fold(values: &[f32], start: f32, f: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; WIDTH];
    let mut steps = values.chunks_exact(WIDTH);
    for step in &mut steps {
        for l in 0..WIDTH {
            lanes[l] = f(lanes[l], step[l]);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(steps.remainder()) {
        *lane = f(*lane, v);
    }
    tree(lanes, join)
}

/// Joins lanes pairwise.
#[inline(always)]
fn tree<const N: usize>(mut lanes: [f32; N], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = N;
    while width > 1 {
        width /= 2;
        for l in 0..width {
            lanes[l] = join(lanes[l], lanes[l + width]);
        }
    }
    lanes[0]
}

/// Σ v. A block of 1024 adds at most 22 roundings to any element.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn sum(values: &[f32]) -> f32 {
    fold(values, 0.0, |a, v| a + v, |a, b| a + b)
}

/// Sums of every 16th lane.
#[inline(always)]
fn quarters(lanes: &[f32; WIDTH]) -> [f32; SIDE] {
    let mut sums = [0.0; SIDE];
    for l in 0..SIDE {
        sums[l] = (lanes[l] + lanes[l + 2 * SIDE]) + (lanes[l + SIDE] + lanes[l + 3 * SIDE]);
    }
    sums
}

/// Adds the sums of every 16th value of each row to the row's accumulators: adding up the lanes of every
/// short row would take longer than the rows.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn add_row_sums(values: &[f32], row: usize, acc: &mut [[f64; SIDE]]) {
    if row == SIDE {
        acc.as_flattened_mut().iter_mut().zip(values).for_each(|(a, &v)| *a += f64::from(v));
        return;
    }
    for (acc, row) in acc.iter_mut().zip(values.chunks_exact(row)) {
        let (steps, rest) = row.as_chunks::<WIDTH>();
        let mut sums = [0.0; SIDE];
        if !steps.is_empty() {
            let mut wide = [0.0; WIDTH];
            for step in steps {
                for l in 0..WIDTH {
                    wide[l] += step[l];
                }
            }
            sums = quarters(&wide);
        }
        let (vectors, rest) = rest.as_chunks::<SIDE>();
        for vector in vectors {
            for l in 0..SIDE {
                sums[l] += vector[l];
            }
        }
        for l in 0..SIDE {
            acc[l] += f64::from(sums[l]);
        }
        acc.iter_mut().zip(rest).for_each(|(a, &v)| *a += f64::from(v));
    }
}

/// max v, NaN where any is.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn max(values: &[f32]) -> f32 {
    fold(values, f32::NEG_INFINITY, math::max, math::max)
}

/// (Σ (v − shift), Σ (v − shift)²)
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn deviations(values: &[f32], shift: f32) -> (f32, f32) {
    let (mut first, mut second) = ([0.0; WIDTH], [0.0; WIDTH]);
    let mut steps = values.chunks_exact(WIDTH);
    for step in &mut steps {
        for l in 0..WIDTH {
            let d = step[l] - shift;
            first[l] += d;
            second[l] = d.mul_add(d, second[l]);
        }
    }
    for ((f, s), &v) in first.iter_mut().zip(&mut second).zip(steps.remainder()) {
        let d = v - shift;
        *f += d;
        *s = d.mul_add(d, *s);
    }
    (tree(first, |a, b| a + b), tree(second, |a, b| a + b))
}

/// Adds the deviations of every 16th value from `shift`, and their squares, to 16 accumulators each.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn add_deviations(values: &[f32], shift: f32, [first, second]: &mut [[f64; SIDE]; 2]) {
    let (steps, rest) = values.as_chunks::<WIDTH>();
    let (mut sums, mut squares) = ([0.0; SIDE], [0.0; SIDE]);
    if !steps.is_empty() {
        let (mut wide, mut wide_squares) = ([0.0; WIDTH], [0.0; WIDTH]);
        for step in steps {
            for l in 0..WIDTH {
                let d = step[l] - shift;
                wide[l] += d;
                wide_squares[l] = d.mul_add(d, wide_squares[l]);
            }
        }
        (sums, squares) = (quarters(&wide), quarters(&wide_squares));
    }
    let (vectors, rest) = rest.as_chunks::<SIDE>();
    for vector in vectors {
        for l in 0..SIDE {
            let d = vector[l] - shift;
            sums[l] += d;
            squares[l] = d.mul_add(d, squares[l]);
        }
    }
    for l in 0..SIDE {
        first[l] += f64::from(sums[l]);
        second[l] += f64::from(squares[l]);
    }
    for (l, v) in rest.iter().enumerate() {
        let d = f64::from(v - shift);
        first[l] += d;
        second[l] += d * d;
    }
}

/// acc += v
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn add(acc: &mut [f64], values: &[f32]) {
    acc.iter_mut().zip(values).for_each(|(a, &v)| *a += f64::from(v));
}

/// acc += (v − mean)²
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn add_squares(acc: &mut [f64], values: &[f32], means: &[f64]) {
    for ((a, &v), &m) in acc.iter_mut().zip(values).zip(means) {
        let d = f64::from(v) - m;
        *a += d * d;
    }
}

/// Adds every step of as many values as there are accumulators to them, in order.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn add_steps(acc: &mut [f64], values: &[f32]) {
    for step in values.chunks_exact(acc.len()) {
        acc.iter_mut().zip(step).for_each(|(a, &v)| *a += f64::from(v));
    }
}

/// acc = max(acc, v) for every step of as many values as there are accumulators, NaN where any is.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn raise_steps(acc: &mut [f64], values: &[f32]) {
    for step in values.chunks_exact(acc.len()) {
        acc.iter_mut().zip(step).for_each(|(a, &v)| {
            let v = f64::from(v);
            *a = if *a > v || a.is_nan() { *a } else { v };
        });
    }
}

/// Σ a·b, in an order fixed by the length.
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; WIDTH];
    let (steps, rest) = a.as_chunks::<WIDTH>();
    let (b_steps, b_rest) = b.as_chunks::<WIDTH>();
    for (a, b) in steps.iter().zip(b_steps) {
        for l in 0..WIDTH {
            lanes[l] = a[l].mul_add(b[l], lanes[l]);
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(rest).zip(b_rest) {
        *lane = a.mul_add(*b, *lane);
    }
    tree(lanes, |a, b| a + b)
}

/// acc += factor · values
#[multiversion(targets(
    "x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(crate) fn add_scaled(acc: &mut [f32], factor: f32, values: &[f32]) {
    acc.iter_mut().zip(values).for_each(|(a, v)| *a = factor.mul_add(*v, *a));
}

/// The f64 numbers that fit into `floats` at their alignment; at most one is lost.
pub(crate) fn as_f64(floats: &mut [f32]) -> &mut [f64] {
    bytemuck::pod_align_to_mut::<f32, f64>(floats).1
}
