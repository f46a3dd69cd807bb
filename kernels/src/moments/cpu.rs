//! CPU twin of `moments.wgsl`: a shifted two-pass over rows that stay in the L1 cache, merged by Chan's
//! formula (Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
//! variances", 1979).

use super::Moments;
use crate::blocks::Space;
use crate::expr::{LANES, Value};
use crate::lanes::{SIDE, add, add_deviations, add_squares, as_f64, deviations, sum};
use crate::tasks::{Shared, TASK, for_each_task};
use std::ops::Range;

/// Channels of a batch below which each is cut into segments, so that every core has work.
const FEW: usize = 16;
/// Most channels of one task.
const GROUP: usize = 64;
/// Most segments: bounds the memory of partial results.
const MOST_SEGMENTS: usize = 64;
/// Rows shorter than this are taken side by side, each element a lane.
const SHORT_ROW: usize = 16;
/// Rows at least this long are read in memory order; those between are collected into blocks.
const LONG_ROW: usize = 256;
/// Most channels whose accumulators are kept side by side: 256 KiB.
const MOST_CHANNELS: usize = 1024;

/// Count, mean and sum of squared deviations of a set of numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Set {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Set {
    /// Mean first, then sums of deviations from it as f32 holds it, which correct what rounding left.
    fn of(values: &[f32]) -> Self {
        let n = values.len() as f64;
        let shift = sum(values) / values.len() as f32;
        let (first, second) = deviations(values, shift);
        let (first, second) = (f64::from(first), f64::from(second));
        Self { n, mean: f64::from(shift) + first / n, m2: second - first * first / n }
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
    let segment = n.div_ceil(n.div_ceil(TASK).min(MOST_SEGMENTS));
    (segment, n.div_ceil(segment))
}

/// Values of one channel: `[outer, inner]` with the other channels between.
fn channel_space(k: &Moments) -> Space {
    Space::new(&[k.outer, k.inner], &[&[k.channels * k.inner, 1]], &[false; 2], 1)
}

/// Where a thread collects values, or by images the sums of every channel.
fn slot_len(k: &Moments) -> usize {
    match by_images(k) {
        Some(_) => 2 * k.channels * SUMS + k.channels + 2,
        None => channel_space(k).scratch_len().max(1),
    }
}

/// Accumulators of a channel in f64: deviations and their squares.
const SUMS: usize = 2 * SIDE;

pub(super) fn scratch_len(k: &Moments, threads: usize) -> usize {
    threads * slot_len(k) + 4 * k.channels * partials(k) + 2
}

/// Whether channels are cut into segments. Where they are rows of their own, as those of a layer norm, they
/// are cut by their length alone: how many there are follows the batch, and an image's bits must not.
fn is_cut(k: &Moments) -> bool {
    if k.outer == 1 { segments(k).1 > 1 } else { k.channels < FEW }
}

/// Segments whose mean and squares are kept in f64 for every channel.
fn partials(k: &Moments) -> usize {
    match by_images(k) {
        _ if is_cut(k) => segments(k).1,
        Some(images) => k.outer.div_ceil(images),
        None => 0,
    }
}

/// Images of one segment where whole images are walked in memory order.
fn by_images(k: &Moments) -> Option<usize> {
    let images = (TASK / (k.channels * k.inner)).max(k.outer.div_ceil(MOST_SEGMENTS));
    let channels = FEW..=MOST_CHANNELS;
    (channels.contains(&k.channels) && k.inner >= LONG_ROW && k.outer > 1).then_some(images.max(1))
}

pub(super) fn run(k: &Moments, x: &[f32], mean: &mut [f32], var: &mut [f32], scratch: &mut [f32]) {
    if is_cut(k) {
        return cut_channels(k, x, mean, var, scratch);
    }
    if let Some(images) = by_images(k) {
        return in_segments(k, images, x, mean, var, scratch);
    }
    let group = (TASK / (k.outer * k.inner)).clamp(1, GROUP);
    let (mean, var) = (Shared::new(mean), Shared::new(var));
    let space = channel_space(k);
    for_each_task(k.channels.div_ceil(group), slot_len(k), scratch, |task, slot| {
        let channels = task * group..k.channels.min((task + 1) * group);
        // SAFETY: tasks have channels of their own.
        let (mean, var) = unsafe { (mean.part(channels.clone()), var.part(channels.clone())) };
        let mut sets = [Set::default(); GROUP];
        let images = x.chunks_exact(k.channels * k.inner).map(|image| &image[channels.start * k.inner..]);
        if k.inner < SHORT_ROW {
            side_by_side(k, images, &mut sets[..mean.len()]);
        } else {
            for (c, set) in channels.zip(&mut sets) {
                *set = channel_set(&space, &x[c * k.inner..], 0..k.outer * k.inner, slot);
            }
        }
        for ((mean, var), set) in mean.iter_mut().zip(var).zip(&sets) {
            (*mean, *var) = (set.mean as f32, (set.m2 / set.n) as f32);
        }
    });
}

/// Segments of whole images, every channel's set in each. The mean of a segment's first row is near enough to
/// that of the channel to sum deviations from it: of r rows, the square of its distance is at most r times
/// the variance.
fn in_segments(
    k: &Moments,
    images: usize,
    x: &[f32],
    mean: &mut [f32],
    var: &mut [f32],
    scratch: &mut [f32],
) {
    let (sets, slots) = scratch.split_at_mut(4 * k.channels * partials(k) + 2);
    let sets = &mut as_f64(sets)[..2 * k.channels * partials(k)];
    let len = |segment: usize| (k.outer - segment * images).min(images) * k.inner;
    {
        let shared = Shared::new(&mut *sets);
        let image = k.channels * k.inner;
        for_each_task(partials(k), slot_len(k), slots, |segment, slot| {
            let (shifts, sums) = slot.split_at_mut(k.channels);
            let sums = as_f64(sums).as_chunks_mut::<SIDE>().0;
            let sums = &mut sums.as_chunks_mut::<2>().0[..k.channels];
            sums.fill([[0.0; SIDE]; 2]);
            let part = &x[segment * images * image..][..len(segment) * k.channels];
            for (i, image) in part.chunks_exact(image).enumerate() {
                for ((row, shift), sums) in image.chunks_exact(k.inner).zip(&mut *shifts).zip(&mut *sums) {
                    for (b, block) in row.chunks(LANES).enumerate() {
                        if (i, b) == (0, 0) {
                            *shift = sum(block) / block.len() as f32;
                        }
                        add_deviations(block, *shift, sums);
                    }
                }
            }
            // SAFETY: every segment has sets of its own.
            let sets = unsafe { shared.part(2 * k.channels * segment..2 * k.channels * (segment + 1)) };
            for ((set, shift), sums) in sets.chunks_exact_mut(2).zip(shifts).zip(sums) {
                let [first, second] = sums.map(|lanes| lanes.iter().sum::<f64>());
                let mean = first / len(segment) as f64;
                set.copy_from_slice(&[f64::from(*shift) + mean, second - first * mean]);
            }
        });
    }
    for (c, (mean, var)) in mean.iter_mut().zip(var).enumerate() {
        let all = sets.chunks(2 * k.channels).enumerate().map(|(segment, sets)| Set {
            n: len(segment) as f64,
            mean: sets[2 * c],
            m2: sets[2 * c + 1],
        });
        let set = all.fold(Set::default(), Set::join);
        (*mean, *var) = (set.mean as f32, (set.m2 / set.n) as f32);
    }
}

/// Short rows of neighbouring channels, every element with accumulators of its own, in f64: means first, then
/// the deviations from them.
fn side_by_side<'a>(k: &Moments, images: impl Iterator<Item = &'a [f32]> + Clone, sets: &mut [Set]) {
    const MOST: usize = GROUP * (SHORT_ROW - 1);
    let width = sets.len() * k.inner;
    let n = (k.outer * k.inner) as f64;
    let mut sums = [0.0; MOST];
    for row in images.clone() {
        add(&mut sums[..width], row);
    }
    let mut means = [0.0; MOST];
    for (c, set) in sets.iter_mut().enumerate() {
        let own = c * k.inner..(c + 1) * k.inner;
        (set.n, set.mean) = (n, sums[own.clone()].iter().sum::<f64>() / n);
        means[own].fill(set.mean);
    }
    sums[..width].fill(0.0);
    for row in images {
        add_squares(&mut sums[..width], row, &means);
    }
    for (set, sums) in sets.iter_mut().zip(sums.chunks(k.inner)) {
        set.m2 = sums.iter().sum();
    }
}

/// Part of one channel, block by block.
fn channel_set(space: &Space, channel: &[f32], part: Range<usize>, slot: &mut [f32]) -> Set {
    let mut set = Set::default();
    for block in space.blocks(part) {
        let mut values = [Value::Uniform(0.0)];
        space.load(&[channel], &block, &mut values, slot);
        set = set.join(match values[0] {
            Value::Lanes(v) => Set::of(&v[..block.len()]),
            Value::Uniform(v) => Set::of(&[v]), // a single element
            Value::Rows(v) => Set::of(&v[..block.rows]),
        });
    }
    set
}

/// Each channel in segments.
fn cut_channels(k: &Moments, x: &[f32], mean: &mut [f32], var: &mut [f32], scratch: &mut [f32]) {
    let (segment, count) = segments(k);
    let part = |s: usize| s * segment..(k.outer * k.inner).min((s + 1) * segment);
    let space = channel_space(k);
    let pieces = k.channels * count;
    let (sets, slots) = scratch.split_at_mut(4 * pieces + 2);
    let sets = &mut as_f64(sets)[..2 * pieces];
    let shared = Shared::new(&mut *sets);
    for_each_task(pieces, slot_len(k), slots, |piece, slot| {
        let set = channel_set(&space, &x[piece / count * k.inner..], part(piece % count), slot);
        // SAFETY: every piece has a place of its own.
        unsafe { shared.part(2 * piece..2 * piece + 2) }.copy_from_slice(&[set.mean, set.m2]);
    });
    for (channel, sets) in sets.chunks(2 * count).enumerate() {
        let all =
            sets.chunks(2).enumerate().map(|(s, v)| Set { n: part(s).len() as f64, mean: v[0], m2: v[1] });
        let set = all.fold(Set::default(), Set::join);
        (mean[channel], var[channel]) = (set.mean as f32, (set.m2 / set.n) as f32);
    }
}
