//! The face that makes weights: `w[(tap, ci), co] = Σ_positions patch[position, (tap, ci)] · y[position, co]`.
//!
//! A piece of work is a block of input channels over a fixed part of the images; each piece sums into its own
//! buffer, and parts are added in order at the end, so that bits depend on the shape alone.

use super::super::{Face, Geometry};
use super::winograd::{self, PRODUCTS};
use super::{Axis, has_phases, pixel, share};
use crate::tile::{self, LANES, WIDTH, simd};
use rayon::prelude::*;

/// Positions whose rows are in flight together: the inner index of one product.
const BLOCK: usize = 64;
/// Pieces wanted at least.
const PIECES: usize = 4;

pub(super) struct Plan {
    g: Geometry,
    winograd: bool,
    /// Input channels of a piece and, padded to whole vectors where transforms need them, of its images.
    channels: usize,
    pitch: usize,
    /// Images of a piece, and of those transposed together.
    part: usize,
    images: usize,
}

impl Plan {
    pub(super) fn new(g: &Geometry) -> Self {
        let winograd = has_phases(g) && g.batch * g.y[0] * g.y[1] >= 4 * BLOCK;
        let channels = if g.ci >= 128 { 32 } else { 16 }.min(g.ci);
        let blocks = g.ci.div_ceil(channels);
        let mut plan = Self {
            g: *g,
            winograd,
            channels,
            pitch: if winograd { channels.next_multiple_of(WIDTH) } else { channels },
            part: g.batch.div_ceil(PIECES.div_ceil(blocks)),
            images: 1,
        };
        let grid = plan.grid();
        plan.images = BLOCK.div_ceil(grid[0] * grid[1]).min(plan.part);
        plan
    }

    fn grid(&self) -> [usize; 2] {
        self.g.y.map(|y| if self.winograd { y.div_ceil(2) } else { y })
    }

    fn products(&self) -> usize {
        if self.winograd { PRODUCTS } else { 1 }
    }

    /// Rows of the product: (tap or phase, input channel), in whole vectors.
    fn rows(&self) -> usize {
        let segments = if self.winograd { 4 } else { self.g.kernel[0] * self.g.kernel[1] };
        (segments * self.pitch).next_multiple_of(WIDTH)
    }

    /// Columns: output channels in whole panels.
    fn lanes(&self) -> usize {
        self.g.co.next_multiple_of(LANES)
    }

    /// Sums of a piece, `[product][row][lane]`.
    fn sums_len(&self) -> usize {
        self.products() * self.rows() * self.lanes()
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
        let block = self.products() * BLOCK;
        [x * self.pitch, y * self.lanes(), block * self.rows(), block * self.lanes()]
    }

    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        self.sums_len() * self.parts() * self.blocks() + threads * self.worker_lens().iter().sum::<usize>()
    }

    pub(super) fn run(&self, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) {
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
            if self.winograd {
                self.finish_phases(sums, block * WIDTH, out);
            } else {
                self.finish_taps(sums, block * WIDTH, out);
            }
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
        let grid = self.grid();
        let mut add = false;
        for first_image in (part * self.part..end).step_by(self.images) {
            let images = self.images.min(end - first_image);
            for n in 0..images {
                let image = first_image + n;
                let from = &inputs[0][(image * g.ci + channel) * x_plane..];
                tile::transpose(
                    channels,
                    x_plane,
                    from,
                    x_plane,
                    &mut x[n * x_plane * self.pitch..],
                    self.pitch,
                );
                let from = &inputs[1][image * g.co * y_plane..];
                tile::transpose(g.co, y_plane, from, y_plane, &mut y[n * y_plane * lanes..], lanes);
            }
            let positions = images * grid[0] * grid[1];
            for first in (0..positions).step_by(BLOCK) {
                let count = BLOCK.min(positions - first);
                for t in 0..count {
                    let at = first + t;
                    let position = [at / (grid[0] * grid[1]), at / grid[1] % grid[0], at % grid[1]];
                    if self.winograd {
                        self.phase_rows(x, position, t, count, rows);
                        self.phase_columns(y, position, t, count, columns);
                    } else {
                        self.tap_rows(x, position, t, count, rows);
                        copy_panels(
                            &y[(position[0] * y_plane + position[1] * g.y[1] + position[2]) * lanes..]
                                [..lanes],
                            t,
                            count,
                            columns,
                        );
                    }
                }
                for product in 0..self.products() {
                    for panel in 0..lanes / LANES {
                        for row in (0..self.rows()).step_by(WIDTH) {
                            tile::product(
                                WIDTH,
                                count,
                                &rows[product * BLOCK * self.rows() + row * count..],
                                1,
                                WIDTH,
                                &columns[product * BLOCK * lanes + panel * count * LANES..],
                                &mut sums[(product * self.rows() + row) * lanes + panel * LANES..],
                                lanes,
                                add,
                            );
                        }
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
                let segment = (h * g.kernel[1] + v) * self.pitch;
                for c in 0..self.pitch {
                    let row = segment + c;
                    rows[(row / WIDTH * count + t) * WIDTH + row % WIDTH] = if pixel == usize::MAX {
                        0.0
                    } else {
                        x[(n * g.x[0] * g.x[1] + pixel) * self.pitch + c]
                    };
                }
            }
        }
    }

    /// The same for the transformed patches of the four phases.
    fn phase_rows(&self, x: &[f32], [n, i, j]: [usize; 3], t: usize, count: usize, rows: &mut [f32]) {
        let zeros = x.len() - self.pitch;
        for phase in 0..4 {
            let [h, v] = winograd::phases(Face::Weight, &self.g, phase);
            let pixels = std::array::from_fn(|r| {
                std::array::from_fn(|c| {
                    let pixel = pixel(h.source(2 * i, r), v.source(2 * j, c), self.g.x, usize::MAX);
                    if pixel == usize::MAX {
                        zeros
                    } else {
                        (n * self.g.x[0] * self.g.x[1] + pixel) * self.pitch
                    }
                })
            });
            let at = phase * self.pitch / WIDTH * count * WIDTH + t * WIDTH;
            data_panels(x, pixels, self.pitch, count * WIDTH, BLOCK * self.rows(), &mut rows[at..]);
        }
    }

    /// Puts the transformed outputs of a tile into column panels `[lane / LANES][count][LANES]`.
    fn phase_columns(&self, y: &[f32], [n, i, j]: [usize; 3], t: usize, count: usize, columns: &mut [f32]) {
        let lanes = self.lanes();
        let zeros = y.len() - lanes;
        let pixels = std::array::from_fn(|r| {
            std::array::from_fn(|c| {
                let pixel = pixel((2 * i + r) as isize, (2 * j + c) as isize, self.g.y, usize::MAX);
                if pixel == usize::MAX { zeros } else { (n * self.g.y[0] * self.g.y[1] + pixel) * lanes }
            })
        });
        gradient_panels(y, pixels, lanes, count * LANES, BLOCK * lanes, &mut columns[t * LANES..]);
    }

    /// Sums of (product, row, output channel) over the parts, for the input channel block of `row`'s piece.
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

    fn finish_taps(&self, sums: &[f32], co: usize, out: &mut [f32]) {
        let taps = self.g.kernel[0] * self.g.kernel[1];
        for ci in 0..self.g.ci {
            for tap in 0..taps {
                let row = tap * self.pitch + ci % self.channels;
                let total = self.total(sums, ci / self.channels, row * self.lanes() + co);
                for (out, total) in out.chunks_exact_mut(self.g.ci * taps).zip(total) {
                    out[ci * taps + tap] = total;
                }
            }
        }
    }

    fn finish_phases(&self, sums: &[f32], co: usize, out: &mut [f32]) {
        let channels = out.len() / (self.g.ci * 16);
        let mut taps = [0.0; 16 * WIDTH];
        for ci in 0..self.g.ci {
            for phase in 0..4 {
                let row = phase * self.pitch + ci % self.channels;
                let mut products = [[[0.0; WIDTH]; 3]; 3];
                for (product, vector) in products.as_flattened_mut().iter_mut().enumerate() {
                    let at = (product * self.rows() + row) * self.lanes() + co;
                    *vector = self.total(sums, ci / self.channels, at);
                }
                let [h, v] = winograd::phases(Face::Weight, &self.g, phase);
                let gradient = winograd::filter_gradient(products);
                for (r, row) in gradient.iter().enumerate() {
                    for (c, vector) in row.iter().enumerate() {
                        taps[(h.taps[r] * 4 + v.taps[c]) * WIDTH..][..WIDTH].copy_from_slice(vector);
                    }
                }
            }
            tile::transpose(16, channels, &taps, WIDTH, &mut out[ci * 16..], self.g.ci * 16);
        }
    }
}

/// A row of `y` into its place in each column panel.
fn copy_panels(y: &[f32], t: usize, count: usize, columns: &mut [f32]) {
    for (panel, y) in y.chunks_exact(LANES).enumerate() {
        columns[(panel * count + t) * LANES..][..LANES].copy_from_slice(y);
    }
}

simd! {
    fn data_panels(
        x: &[f32],
        pixels: [[usize; 3]; 3],
        len: usize,
        panel: usize,
        product: usize,
        rows: &mut [f32],
    ) {
        for c in (0..len).step_by(WIDTH) {
            let tile = winograd::data::<WIDTH>(winograd::load(x, &pixels, c));
            winograd::store(&tile, &mut rows[c / WIDTH * panel..], product);
        }
    }
}

simd! {
    fn gradient_panels(
        y: &[f32],
        pixels: [[usize; 2]; 2],
        len: usize,
        panel: usize,
        product: usize,
        columns: &mut [f32],
    ) {
        for c in (0..len).step_by(WIDTH) {
            let tile = winograd::output_gradient::<WIDTH>(winograd::load(y, &pixels, c));
            winograd::store(&tile, &mut columns[c / LANES * panel + c % LANES..], product);
        }
    }
}
