//! The weight gradient of 4 × 4 layers at stride 2 in the Winograd form: for each of nine products p
//!
//! `sums[p][(phase, ci), co] = Σ_tiles rows[p][(phase, ci), tile] · columns[p][tile, co]`,
//!
//! rows the transformed patches of x and columns the transformed tiles of y; then each group of nine sums
//! becomes the 2 × 2 taps of its phase.
//!
//! Columns are made once, for all of y. A piece of work is a block of input channels over a fixed part of the
//! tiles: it transforms its own channels, [`DEPTH`] tiles at a time, and sums into a buffer of its own.

use super::super::super::{Face, Geometry};
use super::super::has_phases;
use super::super::winograd::{self, PRODUCTS};
use crate::tasks::{Shared, share};
use crate::tile::{self, LANES, Order, WIDTH, simd};
use rayon::prelude::*;
use std::ops::Range;

/// Tiles multiplied in one go: a panel of columns of this depth fills the first-level cache.
const DEPTH: usize = 256;
/// A panel of rows or of columns; not a power of two, so that the panels of a tile fall into different cache
/// sets.
const ROW_PANEL: usize = DEPTH * WIDTH + WIDTH;
const COLUMN_PANEL: usize = DEPTH * LANES + WIDTH;
/// Rows of a piece: a vector of input channels for each phase.
const PHASES: usize = 4;
/// Sums of one product over a panel of output channels, `[phase, ci][LANES]`.
const SUM_PANEL: usize = PHASES * WIDTH * LANES;
/// Pieces wanted at least.
const PIECES: usize = 8;

pub(in super::super) struct Plan {
    g: Geometry,
    /// Tiles of an image, and of all of them.
    grid: [usize; 2],
    tiles: usize,
    /// Groups of [`DEPTH`] tiles in a part, and parts.
    part: usize,
    parts: usize,
}

/// The tiles of a run that lie in one image.
struct Segment {
    image: usize,
    /// Tiles of the image.
    tiles: Range<usize>,
    /// Place of the first in the run.
    at: usize,
}

impl Plan {
    /// `None` where the form does not apply or would not pay.
    pub(in super::super) fn new(g: &Geometry) -> Option<Self> {
        let grid = g.y.map(|y| y.div_ceil(2));
        let tiles = g.batch * grid[0] * grid[1];
        let groups = tiles.div_ceil(DEPTH);
        let part = groups.div_ceil(PIECES.div_ceil(g.ci.div_ceil(WIDTH)));
        let pays = has_phases(g) && g.batch * g.y[0] * g.y[1] >= 256;
        pays.then_some(Self { g: *g, grid, tiles, part, parts: groups.div_ceil(part) })
    }

    fn groups(&self) -> usize {
        self.tiles.div_ceil(DEPTH)
    }

    fn panels(&self) -> usize {
        self.g.co.div_ceil(LANES)
    }

    fn blocks(&self) -> usize {
        self.g.ci.div_ceil(WIDTH)
    }

    /// `[group][panel][product]`
    fn columns_len(&self) -> usize {
        self.groups() * self.panels() * PRODUCTS * COLUMN_PANEL
    }

    /// `[product][panel][phase, ci][LANES]`
    fn sums_len(&self) -> usize {
        PRODUCTS * self.panels() * SUM_PANEL
    }

    /// Sums of all pieces, where a block of channels has several.
    fn shared_len(&self) -> usize {
        if self.parts > 1 { self.blocks() * self.parts * self.sums_len() } else { 0 }
    }

    /// Pixels of x or y in rows that a run of tiles reads, `[pixel][lanes]` and a pixel of zeros; rows; sums.
    fn worker_lens(&self) -> [usize; 3] {
        let x = (self.g.x[0] * self.g.x[1] + 1) * WIDTH;
        let y = (self.g.y[0] * self.g.y[1] + 1) * LANES;
        let sums = if self.parts > 1 { 0 } else { self.sums_len() };
        [x.max(y), PRODUCTS * PHASES * ROW_PANEL, sums]
    }

    pub(in super::super) fn scratch_len(&self, threads: usize) -> usize {
        self.columns_len() + self.shared_len() + threads * self.worker_lens().iter().sum::<usize>()
    }

    pub(in super::super) fn run(&self, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) {
        let (columns, scratch) = scratch.split_at_mut(self.columns_len());
        let (shared, scratch) = scratch.split_at_mut(self.shared_len());
        let worker_len = self.worker_lens().iter().sum();
        let panels = columns.chunks_exact_mut(PRODUCTS * COLUMN_PANEL).enumerate();
        share(panels, scratch, worker_len, |(at, columns), scratch| {
            self.columns(inputs[1], at / self.panels(), at % self.panels(), columns, scratch);
        });

        let (columns, out) = (&*columns, Shared::new(out));
        if self.parts == 1 {
            share(0..self.blocks(), scratch, worker_len, |block, scratch| {
                let [pixels, rows, _] = self.worker_lens();
                let (scratch, sums) = scratch.split_at_mut(pixels + rows);
                self.piece(inputs[0], columns, block, 0, sums, scratch);
                self.finish(sums, block, &out);
            });
        } else {
            let pieces = shared.chunks_exact_mut(self.sums_len()).enumerate();
            share(pieces, scratch, worker_len, |(at, sums), scratch| {
                self.piece(inputs[0], columns, at / self.parts, at % self.parts, sums, scratch);
            });
            shared.par_chunks_exact(self.parts * self.sums_len()).enumerate().for_each(|(block, sums)| {
                self.finish(sums, block, &out);
            });
        }
    }

    fn group(&self, group: usize) -> Range<usize> {
        group * DEPTH..self.tiles.min((group + 1) * DEPTH)
    }

    fn segments(&self, run: Range<usize>) -> impl Iterator<Item = Segment> {
        let plane = self.grid[0] * self.grid[1];
        (run.start / plane..run.end.div_ceil(plane)).map(move |image| {
            let first = run.start.max(image * plane);
            let tiles = first - image * plane..run.end.min((image + 1) * plane) - image * plane;
            Segment { image, tiles, at: first - run.start }
        })
    }

    /// Transformed tiles of a panel of channels of y, `[product][tile][LANES]`.
    fn columns(&self, y: &[f32], group: usize, panel: usize, columns: &mut [f32], scratch: &mut [f32]) {
        let (g, plane) = (&self.g, self.g.y[0] * self.g.y[1]);
        let lanes = LANES.min(g.co - panel * LANES);
        // The first pixel stays zero, as do the lanes of channels that do not exist.
        scratch[..(plane + 1) * LANES].fill(0.0);
        for Segment { image, tiles, at } in self.segments(self.group(group)) {
            let rows = self.tile_rows(&tiles);
            let (top, bottom) = (2 * rows.start, g.y[0].min(2 * rows.end));
            let from = &y[(image * g.co + panel * LANES) * plane + top * g.y[1]..];
            tile::transpose(lanes, (bottom - top) * g.y[1], from, plane, &mut scratch[LANES..], LANES);
            gradient_panel(scratch, top..bottom, g.y[1], self.grid[1], tiles, &mut columns[at * LANES..]);
        }
    }

    /// Rows of tiles that `tiles` of an image touch.
    fn tile_rows(&self, tiles: &Range<usize>) -> Range<usize> {
        tiles.start / self.grid[1]..(tiles.end - 1) / self.grid[1] + 1
    }

    /// `sums` of a block of input channels over a part of the tiles.
    fn piece(
        &self,
        x: &[f32],
        columns: &[f32],
        block: usize,
        part: usize,
        sums: &mut [f32],
        scratch: &mut [f32],
    ) {
        let [pixels_len, rows_len, _] = self.worker_lens();
        let (pixels, scratch) = scratch.split_at_mut(pixels_len);
        let rows = &mut scratch[..rows_len];
        pixels.fill(0.0);
        for group in part * self.part..self.groups().min((part + 1) * self.part) {
            self.rows(x, block, group, rows, pixels);
            let count = self.group(group).len();
            let columns = &columns[group * self.panels() * PRODUCTS * COLUMN_PANEL..];
            let panels = self.panels();
            let panel_of = |at: usize| &columns[(at % panels * PRODUCTS + at / panels) * COLUMN_PANEL..];
            for at in 0..PRODUCTS * panels {
                // While the phases multiply by one panel, each fetches a quarter of the next.
                let next = if at + 1 < PRODUCTS * panels { panel_of(at + 1) } else { &[] };
                let next = &next[..next.len().min(count * LANES)];
                let quarter = next.len() / PHASES;
                for (phase, sums) in
                    sums[at * SUM_PANEL..][..SUM_PANEL].chunks_exact_mut(WIDTH * LANES).enumerate()
                {
                    let rows = &rows[(at / panels * PHASES + phase) * ROW_PANEL..];
                    let next = &next[phase * quarter..][..quarter];
                    let add = group > part * self.part;
                    let (order, panel) = (Order::Columns(WIDTH), panel_of(at));
                    tile::product_ahead(WIDTH, count, rows, order, panel, sums, LANES, add, next);
                }
            }
        }
    }

    /// Transformed patches of a block of channels of x, `[product][phase][tile][WIDTH]`.
    fn rows(&self, x: &[f32], block: usize, group: usize, rows: &mut [f32], pixels: &mut [f32]) {
        let (g, plane) = (&self.g, self.g.x[0] * self.g.x[1]);
        let channels = WIDTH.min(g.ci - block * WIDTH);
        for Segment { image, tiles, at } in self.segments(self.group(group)) {
            let tile_rows = self.tile_rows(&tiles);
            // Tile row i reads the rows from 4i − pad to 4i − pad + 5.
            let top = (4 * tile_rows.start).saturating_sub(g.pad_low[0]).min(g.x[0]);
            let bottom = (4 * tile_rows.end + 2).saturating_sub(g.pad_low[0]).min(g.x[0]);
            let from = &x[(image * g.ci + block * WIDTH) * plane + top * g.x[1]..];
            tile::transpose(channels, (bottom - top) * g.x[1], from, plane, &mut pixels[WIDTH..], WIDTH);
            data_panels(pixels, g, top..bottom, self.grid[1], tiles, &mut rows[at * WIDTH..]);
        }
    }

    /// Adds the parts of a block of input channels and makes its weights.
    fn finish(&self, sums: &[f32], block: usize, out: &Shared<f32>) {
        let (ci, first) = (self.g.ci, block * WIDTH);
        let mut taps = [0.0; 16 * WIDTH];
        let mut swapped = [0.0; 16 * WIDTH];
        for channel in first..ci.min(first + WIDTH) {
            for co in (0..self.g.co).step_by(WIDTH) {
                let at = co / LANES * SUM_PANEL + (channel - first) * LANES + co % LANES;
                let product_len = self.panels() * SUM_PANEL;
                filter_taps(sums, self.sums_len(), product_len, at, &self.g, &mut taps);
                let count = WIDTH.min(self.g.co - co);
                tile::transpose(16, count, &taps, WIDTH, &mut swapped, 16);
                for (i, taps) in swapped.chunks_exact(16).take(count).enumerate() {
                    let at = ((co + i) * ci + channel) * 16;
                    // SAFETY: blocks of input channels are disjoint, and a task holds one part at a time.
                    unsafe { out.part(at..at + 16) }.copy_from_slice(taps);
                }
            }
        }
    }
}

simd! {
    /// The tiles of `columns` tiles a row, from rows `source` of an image of y after a pixel of zeros.
    fn gradient_panel(
        y: &[f32],
        source: Range<usize>,
        width: usize,
        columns: usize,
        tiles: Range<usize>,
        out: &mut [f32],
    ) {
        for (t, tile) in tiles.enumerate() {
            let (i, j) = (tile / columns, tile % columns);
            let pixels = std::array::from_fn(|r| {
                std::array::from_fn(|c| {
                    let (h, w) = (2 * i + r, 2 * j + c);
                    if h < source.end && w < width { ((h - source.start) * width + w + 1) * LANES } else { 0 }
                })
            });
            for c in (0..LANES).step_by(WIDTH) {
                let tile = winograd::output_gradient::<WIDTH>(winograd::load(y, &pixels, c));
                winograd::store(&tile, &mut out[t * LANES + c..], COLUMN_PANEL);
            }
        }
    }
}

simd! {
    /// The four phases of each tile, from rows `source` of an image of x after a pixel of zeros.
    fn data_panels(
        x: &[f32],
        g: &Geometry,
        source: Range<usize>,
        columns: usize,
        tiles: Range<usize>,
        out: &mut [f32],
    ) {
        let width = g.x[1];
        for (t, tile) in tiles.enumerate() {
            let (i, j) = (tile / columns, tile % columns);
            for phase in 0..PHASES {
                let pixels = std::array::from_fn(|r| {
                    std::array::from_fn(|c| {
                        // Wraps to a large number where it is negative.
                        let h = (4 * i + 2 * r + phase / 2).wrapping_sub(g.pad_low[0]);
                        let w = (4 * j + 2 * c + phase % 2).wrapping_sub(g.pad_low[1]);
                        if h < source.end && w < width { ((h - source.start) * width + w + 1) * WIDTH } else { 0 }
                    })
                });
                let tile = winograd::data::<WIDTH>(winograd::load(x, &pixels, 0));
                winograd::store(&tile, &mut out[phase * ROW_PANEL + t * WIDTH..], PHASES * ROW_PANEL);
            }
        }
    }
}

simd! {
    /// The 16 taps of one input channel and [`WIDTH`] output channels, `[tap][WIDTH]`, from sums
    /// `product_len` apart in each part.
    fn filter_taps(
        sums: &[f32],
        part_len: usize,
        product_len: usize,
        at: usize,
        g: &Geometry,
        taps: &mut [f32; 16 * WIDTH],
    ) {
        for phase in 0..PHASES {
            let mut products = [[[0.0; WIDTH]; 3]; 3];
            for sums in sums.chunks_exact(part_len) {
                for (product, total) in products.as_flattened_mut().iter_mut().enumerate() {
                    let at = product * product_len + phase * WIDTH * LANES + at;
                    for (total, sum) in total.iter_mut().zip(&sums[at..at + WIDTH]) {
                        *total += sum;
                    }
                }
            }
            let gradient = winograd::filter_gradient(products);
            let [h, v] = winograd::phases(Face::Weight, g, phase);
            for r in 0..2 {
                for c in 0..2 {
                    taps[(h.taps[r] * 4 + v.taps[c]) * WIDTH..][..WIDTH].copy_from_slice(&gradient[r][c]);
                }
            }
        }
    }
}
