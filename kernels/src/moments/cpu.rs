//! CPU twin of `moments.wgsl`: a shifted two-pass over blocks that stay in the L1 cache, merged by Chan's formula
//! (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).

use super::Moments;
use crate::blocks::{Shared, Space, TASK, for_each_task};
use crate::expr::Value;
use crate::lanes::{as_f64, deviations, sum};

/// Channels below which each is cut into segments, so that every core has work.
const FEW: usize = 16;
/// Channels side by side in one strip where inner = 1.
const STRIP: usize = 64;

/// Count, mean and sum of squared deviations of a set of numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Set {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Set {
    /// The set of `n` numbers with these sums of deviations from `shift`.
    fn shifted(n: f64, shift: f64, first: f64, second: f64) -> Self {
        Self { n, mean: shift + first / n, m2: second - first * first / n }
    }

    /// Chan: the union's mean moves by δ·n₂/n and its squares grow by δ²·n₁n₂/n.
    fn join(self, other: Self) -> Self {
        let n = self.n + other.n;
        let delta = other.mean - self.mean;
        Self {
            n,
            mean: self.mean + delta * other.n / n,
            m2: self.m2 + other.m2 + delta * delta * self.n * other.n / n,
        }
    }
}

/// Elements of one segment of a channel, and their number.
fn segments(k: &Moments) -> (usize, usize) {
    let n = k.outer * k.inner;
    let wanted = if k.channels < FEW { n.div_ceil(TASK).min(64) } else { 1 };
    let segment = n.div_ceil(wanted);
    (segment, n.div_ceil(segment))
}

fn in_strips(k: &Moments) -> bool {
    k.inner == 1 && k.channels >= FEW
}

/// Values of one channel: `[outer, inner]` with the other channels between.
fn channel_space(k: &Moments) -> Space {
    Space::new(&[k.outer, k.inner], &[&[k.channels * k.inner, 1]], 1)
}

pub(super) fn scratch_len(k: &Moments, threads: usize) -> usize {
    if in_strips(k) {
        16 * threads
    } else {
        // Mean and squares in f64 for each segment, then the gathered values of each thread.
        4 * k.channels * segments(k).1 + 2 + threads * channel_space(k).scratch_len().max(16)
    }
}

pub(super) fn run(k: &Moments, x: &[f32], mean: &mut [f32], var: &mut [f32], scratch: &mut [f32]) {
    let n = (k.outer * k.inner) as f64;
    if in_strips(k) {
        let (mean, var) = (Shared::new(mean), Shared::new(var));
        return for_each_task(k.channels.div_ceil(STRIP), 16, scratch, |task, _| {
            let range = task * STRIP..k.channels.min((task + 1) * STRIP);
            // SAFETY: strips are disjoint.
            let (mean, var) = unsafe { (mean.part(range.clone()), var.part(range.clone())) };
            strip(k, x, range.start, mean, var);
        });
    }
    let (segment, count) = segments(k);
    let space = channel_space(k);
    let pieces = k.channels * count;
    let (sets, slots) = scratch.split_at_mut(4 * pieces + 2);
    let sets = &mut as_f64(sets)[..2 * pieces];
    let group = (TASK / segment).max(1);
    let shared = Shared::new(&mut *sets);
    for_each_task(pieces.div_ceil(group), space.scratch_len().max(16), slots, |task, slot| {
        for piece in task * group..pieces.min((task + 1) * group) {
            let (channel, s) = (piece / count, piece % count);
            let from = &x[channel * k.inner..];
            let mut set = Set::default();
            for block in space.blocks(s * segment..(k.outer * k.inner).min((s + 1) * segment)) {
                let mut values = [Value::Uniform(0.0)];
                space.load(&[from], &block, &mut values, slot);
                let n = block.len() as f64;
                set = set.join(match values[0] {
                    Value::Uniform(v) => Set { n, mean: f64::from(v), m2: 0.0 },
                    Value::Lanes(v) => {
                        let v = &v[..block.len()];
                        let shift = sum(v) / block.len() as f32;
                        let (first, second) = deviations(v, shift);
                        Set::shifted(n, f64::from(shift), f64::from(first), f64::from(second))
                    }
                });
            }
            // SAFETY: every piece has a place of its own.
            unsafe { shared.part(2 * piece..2 * piece + 2) }.copy_from_slice(&[set.mean, set.m2]);
        }
    });
    for (channel, sets) in sets.chunks(2 * count).enumerate() {
        let all = sets.chunks(2).enumerate().map(|(s, set)| {
            let len = (k.outer * k.inner).min((s + 1) * segment) - s * segment;
            Set { n: len as f64, mean: set[0], m2: set[1] }
        });
        let set = all.fold(Set::default(), Set::join);
        (mean[channel], var[channel]) = (set.mean as f32, (set.m2 / n) as f32);
    }
}

/// Neighbouring channels with inner = 1, in f64: means first, then deviations from them.
fn strip(k: &Moments, x: &[f32], channel: usize, mean: &mut [f32], var: &mut [f32]) {
    let n = k.outer as f64;
    let width = mean.len();
    let (mut first, mut second) = ([0.0; STRIP], [0.0; STRIP]);
    let rows = || x.chunks_exact(k.channels).map(|row| &row[channel..channel + width]);
    for row in rows() {
        first.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v));
    }
    first.iter_mut().for_each(|m| *m /= n);
    for row in rows() {
        for ((q, m), &v) in second.iter_mut().zip(&first).zip(row) {
            let d = f64::from(v) - m;
            *q += d * d;
        }
    }
    mean.iter_mut().zip(first).for_each(|(o, m)| *o = m as f32);
    var.iter_mut().zip(second).for_each(|(o, q)| *o = (q / n) as f32);
}
