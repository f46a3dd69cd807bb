//! The weight gradient of numbers in bfloat16: for each tap
//!
//! `sums[co, ci] = Σ_positions y[co, position] · x[pixel of the tap at the position, ci]`.
//!
//! y is rounded where it lies, channel by channel, some images side by side: the positions of one product. A
//! piece of work is a block of input channels over a fixed part of the images; it pairs the pixels of its
//! channels tap by tap, and sums into a buffer of its own.

use super::super::super::Geometry;
use super::super::{Axis, pixel};
use crate::tasks::share;
use crate::tile::{self, ALIGN, LANES, WIDTH, bf16, simd};
use rayon::prelude::*;

/// Positions of a product, about.
const DEPTH: usize = 512;
/// Pieces wanted at least.
const PIECES: usize = 4;

pub(super) struct Plan {
    g: Geometry,
    /// Images of a product, products of a part, and parts.
    images: usize,
    part: usize,
    parts: usize,
}

impl Plan {
    /// `None` where vectors would stay empty.
    pub(super) fn new(g: &Geometry) -> Option<Self> {
        let images = (DEPTH / (g.y[0] * g.y[1])).clamp(1, g.batch);
        let groups = g.batch.div_ceil(images);
        let part = groups.div_ceil(PIECES.div_ceil(g.ci.div_ceil(LANES)));
        let pays = g.ci >= WIDTH && g.co >= WIDTH;
        pays.then_some(Self { g: *g, images, part, parts: groups.div_ceil(part) })
    }

    fn groups(&self) -> usize {
        self.g.batch.div_ceil(self.images)
    }

    fn blocks(&self) -> usize {
        self.g.ci.div_ceil(LANES)
    }

    fn taps(&self) -> usize {
        self.g.kernel[0] * self.g.kernel[1]
    }

    /// Positions of a product in whole steps.
    fn depth(&self) -> usize {
        (self.images * self.g.y[0] * self.g.y[1]).next_multiple_of(bf16::STEP)
    }

    /// Distance of the rows of y, so that they fall into different cache sets.
    fn pitch(&self) -> usize {
        self.depth() + bf16::STEP
    }

    /// y of a product, rounded: `[co][pitch]`.
    fn rows_len(&self) -> usize {
        self.g.co * self.pitch()
    }

    /// Sums of a piece: `[tap][co][LANES]`.
    fn sums_len(&self) -> usize {
        self.taps() * self.g.co * LANES
    }

    /// Pixels of the images and one of zeros.
    fn pixels(&self) -> usize {
        self.images * self.g.x[0] * self.g.x[1] + 1
    }

    /// Rounded y, and sums of all pieces.
    fn shared_lens(&self) -> [usize; 2] {
        [self.groups() * self.rows_len() / 2, self.blocks() * self.parts * self.sums_len()]
            .map(|len| len.next_multiple_of(ALIGN))
    }

    /// x channels-last, the same rounded, and the panel of a tap.
    fn worker_lens(&self) -> [usize; 3] {
        [self.pixels() * LANES, self.pixels() * LANES / 2, self.depth() / 2 * LANES]
    }

    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        self.shared_lens().iter().sum::<usize>() + threads * self.worker_lens().iter().sum::<usize>()
    }

    pub(super) fn run(&self, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) {
        let [rows_len, sums_len] = self.shared_lens();
        let (rows, scratch) = scratch.split_at_mut(rows_len);
        let (sums, scratch) = scratch.split_at_mut(sums_len);
        let rows: &mut [u16] = &mut bytemuck::cast_slice_mut(rows)[..self.groups() * self.rows_len()];
        rows.par_chunks_exact_mut(self.pitch()).enumerate().for_each(|(at, row)| {
            self.row(inputs[1], at / self.g.co, at % self.g.co, row);
        });

        let (rows, sums) = (&*rows, &mut sums[..self.blocks() * self.parts * self.sums_len()]);
        let pieces = sums.chunks_exact_mut(self.sums_len()).enumerate();
        share(pieces, scratch, self.worker_lens().iter().sum(), |(piece, sums), scratch| {
            self.piece(inputs[0], rows, piece / self.parts, piece % self.parts, sums, scratch);
        });
        sums.par_chunks_exact_mut(self.parts * self.sums_len()).for_each(|parts| {
            let (total, others) = parts.split_at_mut(self.sums_len());
            for other in others.chunks_exact(self.sums_len()) {
                total.iter_mut().zip(other).for_each(|(total, sum)| *total += sum);
            }
        });
        let sums = &*sums;
        out.par_chunks_exact_mut(self.g.ci * self.taps()).enumerate().for_each(|(co, out)| {
            for (block, out) in out.chunks_mut(LANES * self.taps()).enumerate() {
                let sums = &sums[block * self.parts * self.sums_len() + co * LANES..];
                let lanes = out.len() / self.taps();
                tile::transpose(self.taps(), lanes, sums, self.g.co * LANES, out, self.taps());
            }
        });
    }

    /// The images of a product.
    fn group(&self, group: usize) -> std::ops::Range<usize> {
        group * self.images..self.g.batch.min((group + 1) * self.images)
    }

    /// A channel of y over the images of a product, rounded; zero after them.
    fn row(&self, y: &[f32], group: usize, channel: usize, row: &mut [u16]) {
        let plane = self.g.y[0] * self.g.y[1];
        let images = self.group(group);
        row[images.len() * plane..].fill(0);
        for (image, row) in images.zip(row.chunks_exact_mut(plane)) {
            bf16::round(&y[(image * self.g.co + channel) * plane..][..plane], row);
        }
    }

    fn piece(
        &self,
        x: &[f32],
        rows: &[u16],
        block: usize,
        part: usize,
        sums: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (g, plane) = (&self.g, self.g.x[0] * self.g.x[1]);
        let [x_len, rounded_len, panel_len] = self.worker_lens();
        let (pixels, scratch) = scratch.split_at_mut(x_len);
        let (rounded, scratch) = scratch.split_at_mut(rounded_len);
        let rounded: &mut [u16] = bytemuck::cast_slice_mut(rounded);
        let panel: &mut [u32] = bytemuck::cast_slice_mut(&mut scratch[..panel_len]);
        let channels = LANES.min(g.ci - block * LANES);
        // Lanes of channels that do not exist, and the last pixel, stay zero.
        pixels.fill(0.0);
        for group in part * self.part..self.groups().min((part + 1) * self.part) {
            let images = self.group(group);
            for (n, image) in images.clone().enumerate() {
                let from = &x[(image * g.ci + block * LANES) * plane..];
                tile::transpose(channels, plane, from, plane, &mut pixels[n * plane * LANES..], LANES);
            }
            bf16::round(pixels, rounded);
            let rows = &rows[group * self.rows_len()..][..self.rows_len()];
            for (tap, sums) in sums.chunks_exact_mut(g.co * LANES).enumerate() {
                self.panel(rounded, images.len(), tap, panel);
                let add = group > part * self.part;
                bf16::product(g.co, self.depth(), rows, self.pitch(), panel, sums, LANES, add);
            }
        }
    }

    /// The pixels that a tap reads, position by position, in pairs.
    fn panel(&self, x: &[u16], images: usize, tap: usize, panel: &mut [u32]) {
        let (g, zeros) = (&self.g, self.pixels() - 1);
        let axes = [Axis::conv(g, 0), Axis::conv(g, 1)];
        let [h, v] = [tap / g.kernel[1], tap % g.kernel[1]];
        let positions = (0..images).flat_map(|n| {
            (0..g.y[0]).flat_map(move |i| {
                (0..g.y[1]).map(move |j| {
                    match pixel(axes[0].source(i, h), axes[1].source(j, v), g.x, usize::MAX) {
                        usize::MAX => zeros,
                        pixel => n * g.x[0] * g.x[1] + pixel,
                    }
                })
            })
        });
        let mut positions = positions.map(|pixel| pixel * LANES).chain(std::iter::repeat(zeros * LANES));
        const PART: usize = 64;
        for panel in panel.chunks_mut(PART / 2 * LANES) {
            let mut at = [0; PART];
            at.iter_mut().zip(&mut positions).for_each(|(at, pixel)| *at = pixel);
            pair_pixels(x, at, panel);
        }
    }
}

simd! {
    /// Words of neighbouring pixels that begin at `at`.
    fn pair_pixels(x: &[u16], at: [usize; 64], panel: &mut [u32]) {
        for (words, at) in panel.chunks_exact_mut(LANES).zip(at.chunks_exact(2)) {
            let (first, second) = (&x[at[0]..][..LANES], &x[at[1]..][..LANES]);
            for (word, (first, second)) in words.iter_mut().zip(first.iter().zip(second)) {
                *word = u32::from(*first) | u32::from(*second) << 16;
            }
        }
    }
}
