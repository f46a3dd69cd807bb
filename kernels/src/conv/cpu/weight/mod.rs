//! The face that makes weights: `w[(tap, ci), co] = Σ_positions patch[position, (tap, ci)] · y[position,
//! co]`.
//!
//! A piece of work is a block of input channels over a fixed part of the images; each piece sums into its own
//! buffer, and parts are added in order at the end, so that bits depend on the shape alone.

mod pairs;
mod phases;

use super::super::{Conv, Geometry};
use super::{Axis, pixel};
use crate::precision::Precision;
use crate::tasks::share;
use crate::tile::{self, LANES, Order, WIDTH};
use rayon::prelude::*;

/// Positions whose rows are in flight together: the inner index of one product.
const BLOCK: usize = 64;
/// Pieces wanted at least.
const PIECES: usize = 4;

pub(super) fn scratch_len(conv: &Conv, threads: usize) -> usize {
    let g = &conv.geometry;
    match (in_pairs(conv), phases::Plan::new(g)) {
        (Some(plan), _) => plan.scratch_len(threads),
        (None, Some(plan)) => plan.scratch_len(threads),
        (None, None) => Plan::new(g).scratch_len(threads),
    }
}

pub(super) fn run(conv: &Conv, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) {
    let g = &conv.geometry;
    match (in_pairs(conv), phases::Plan::new(g)) {
        (Some(plan), _) => plan.run(inputs, out, scratch),
        (None, Some(plan)) => plan.run(inputs, out, scratch),
        (None, None) => Plan::new(g).run(inputs, out, scratch),
    }
}

/// The form for numbers in bfloat16, where it is asked for and pays.
fn in_pairs(conv: &Conv) -> Option<pairs::Plan> {
    (conv.precision == Precision::Bf16).then(|| pairs::Plan::new(&conv.geometry)).flatten()
}

struct Plan {
    g: Geometry,
    /// Input channels of a piece.
    channels: usize,
    /// Images of a piece, and of those transposed together.
    part: usize,
    images: usize,
}

impl Plan {
    pub(super) fn new(g: &Geometry) -> Self {
        let channels = if g.ci >= 128 { 32 } else { 16 }.min(g.ci);
        let blocks = g.ci.div_ceil(channels);
        let part = g.batch.div_ceil(PIECES.div_ceil(blocks));
        Self { g: *g, channels, part, images: BLOCK.div_ceil(g.y[0] * g.y[1]).min(part) }
    }

    /// Rows of the product: (tap, input channel), in whole vectors.
    fn rows(&self) -> usize {
        (self.g.kernel[0] * self.g.kernel[1] * self.channels).next_multiple_of(WIDTH)
    }

    /// Columns: output channels in whole panels.
    fn lanes(&self) -> usize {
        self.g.co.next_multiple_of(LANES)
    }

    /// Sums of a piece, `[row][lane]`.
    fn sums_len(&self) -> usize {
        self.rows() * self.lanes()
    }

    fn parts(&self) -> usize {
        self.g.batch.div_ceil(self.part)
    }

    fn blocks(&self) -> usize {
        self.g.ci.div_ceil(self.channels)
    }

    /// Images of x and of y, channels-last with a pixel of zeros, and the panels of both operands.
    fn worker_lens(&self) -> [usize; 4] {
        let [x, y] = [self.g.x, self.g.y].map(|size| self.images * size[0] * size[1] + 1);
        [x * self.channels, y * self.lanes(), BLOCK * self.rows(), BLOCK * self.lanes()]
    }

    fn scratch_len(&self, threads: usize) -> usize {
        self.sums_len() * self.parts() * self.blocks() + threads * self.worker_lens().iter().sum::<usize>()
    }

    fn run(&self, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) {
        let (sums, scratch) = scratch.split_at_mut(self.sums_len() * self.parts() * self.blocks());
        let worker_len = self.worker_lens().iter().sum();
        share(
            sums.chunks_exact_mut(self.sums_len()).enumerate(),
            scratch,
            worker_len,
            |(piece, sums), scratch| {
                self.piece(inputs, piece / self.parts(), piece % self.parts(), sums, scratch);
            },
        );
        let taps = self.g.kernel[0] * self.g.kernel[1];
        let sums = &*sums;
        out.par_chunks_mut(WIDTH * self.g.ci * taps).enumerate().for_each(|(block, out)| {
            self.finish(sums, block * WIDTH, out);
        });
    }

    fn piece(&self, inputs: &[&[f32]], block: usize, part: usize, sums: &mut [f32], scratch: &mut [f32]) {
        let g = &self.g;
        let (x_plane, y_plane, lanes) = (g.x[0] * g.x[1], g.y[0] * g.y[1], self.lanes());
        let [x_len, y_len, rows_len, columns_len] = self.worker_lens();
        let (x, scratch) = scratch.split_at_mut(x_len);
        let (y, scratch) = scratch.split_at_mut(y_len);
        let (rows, scratch) = scratch.split_at_mut(rows_len);
        let columns = &mut scratch[..columns_len];
        let channel = block * self.channels;
        let channels = self.channels.min(g.ci - channel);
        x.fill(0.0);
        y.fill(0.0);
        rows.fill(0.0);

        let end = g.batch.min((part + 1) * self.part);
        let mut add = false;
        for first_image in (part * self.part..end).step_by(self.images) {
            let images = self.images.min(end - first_image);
            for n in 0..images {
                let image = first_image + n;
                let from = &inputs[0][(image * g.ci + channel) * x_plane..];
                let to = &mut x[n * x_plane * self.channels..];
                tile::transpose(channels, x_plane, from, x_plane, to, self.channels);
                let from = &inputs[1][image * g.co * y_plane..];
                tile::transpose(g.co, y_plane, from, y_plane, &mut y[n * y_plane * lanes..], lanes);
            }
            let positions = images * y_plane;
            for first in (0..positions).step_by(BLOCK) {
                let count = BLOCK.min(positions - first);
                for t in 0..count {
                    let at = first + t;
                    let position = [at / y_plane, at / g.y[1] % g.y[0], at % g.y[1]];
                    self.tap_rows(x, position, t, count, rows);
                    copy_panels(&y[at * lanes..][..lanes], t, count, columns);
                }
                for panel in 0..lanes / LANES {
                    for row in (0..self.rows()).step_by(WIDTH) {
                        tile::product(
                            WIDTH,
                            count,
                            &rows[row * count..],
                            Order::Columns(WIDTH),
                            &columns[panel * count * LANES..],
                            &mut sums[row * lanes + panel * LANES..],
                            lanes,
                            add,
                        );
                    }
                }
                add = true;
            }
        }
    }

    /// Puts the patch of a position into row panels `[row / WIDTH][count][WIDTH]`.
    fn tap_rows(&self, x: &[f32], [n, i, j]: [usize; 3], t: usize, count: usize, rows: &mut [f32]) {
        let g = &self.g;
        let axes = [Axis::conv(g, 0), Axis::conv(g, 1)];
        for h in 0..g.kernel[0] {
            for v in 0..g.kernel[1] {
                let pixel = pixel(axes[0].source(i, h), axes[1].source(j, v), g.x, usize::MAX);
                let segment = (h * g.kernel[1] + v) * self.channels;
                for c in 0..self.channels {
                    let row = segment + c;
                    rows[(row / WIDTH * count + t) * WIDTH + row % WIDTH] = if pixel == usize::MAX {
                        0.0
                    } else {
                        x[(n * g.x[0] * g.x[1] + pixel) * self.channels + c]
                    };
                }
            }
        }
    }

    /// Sums of (row, output channel) over the parts, for the input channel block of `row`'s piece.
    fn total(&self, sums: &[f32], block: usize, at: usize) -> [f32; WIDTH] {
        let mut total = [0.0; WIDTH];
        for part in 0..self.parts() {
            let sums = &sums[(block * self.parts() + part) * self.sums_len() + at..][..WIDTH];
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        total
    }

    fn finish(&self, sums: &[f32], co: usize, out: &mut [f32]) {
        let taps = self.g.kernel[0] * self.g.kernel[1];
        for ci in 0..self.g.ci {
            for tap in 0..taps {
                let row = tap * self.channels + ci % self.channels;
                let total = self.total(sums, ci / self.channels, row * self.lanes() + co);
                for (out, total) in out.chunks_exact_mut(self.g.ci * taps).zip(total) {
                    out[ci * taps + tap] = total;
                }
            }
        }
    }
}

/// A row of `y` into its place in each column panel.
fn copy_panels(y: &[f32], t: usize, count: usize, columns: &mut [f32]) {
    for (panel, y) in y.chunks_exact(LANES).enumerate() {
        columns[(panel * count + t) * LANES..][..LANES].copy_from_slice(y);
    }
}
