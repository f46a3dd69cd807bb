//! Faces with pixels in the vector lanes, for few channels.
//!
//! Where x is an image of 1 to 3 channels, channels would leave lanes empty. With `columns[k][p]` the value
//! that tap k = (channel, row, column) reads at output pixel p,
//!
//! * convolution: `y[co, p] = Σ_k w[co, k] · columns[k, p]`
//! * transpose: `columns[k, p] = Σ_co w[co, k] · y[co, p]`, added up into x
//! * weight: `w[co, k] = Σ_p y[co, p] · columns[k, p]`
//!
//! y and w are used where they lie. x is held padded, its columns sorted by their residue modulo the stride
//! (`[channel, row, residue, column / stride]`), so that the pixels of one output row are neighbours for
//! every tap.

use super::super::{Conv, Face, Geometry};
use crate::epilogue::{Channels, Tail};
use crate::tasks::share;
use crate::tile::{self, ALIGN, LANES, Order, ROWS, WIDTH};
use std::ops::Range;

/// Channels of x up to which this form is used.
const CHANNELS: usize = 4;
/// Pieces wanted at least.
const PIECES: usize = 4;
/// Rows of w that a transpose multiplies by in one go: their pages fit the address translation cache.
const SPREAD: usize = 64;

pub(super) struct Plan {
    face: Face,
    g: Geometry,
    /// Taps times channels of x.
    depth: usize,
    /// Channels made by a piece.
    channels: usize,
    tail: Tail,
}

impl Plan {
    /// `None` where the form does not pay.
    pub(super) fn new(conv: &Conv) -> Option<Self> {
        let g = conv.geometry;
        let depth = g.ci * g.kernel[0] * g.kernel[1];
        let plane = g.y[0] * g.y[1];
        if g.ci > CHANNELS || g.ci >= g.co || depth > 256 || plane < LANES {
            return None;
        }
        let blocks = PIECES.div_ceil(g.batch);
        let channels = match conv.face {
            Face::Transpose => g.ci.div_ceil(blocks),
            _ => g.co.div_ceil(blocks).next_multiple_of(ROWS).min(g.co),
        };
        let tail = conv.epilogue.tail(Channels::Rows);
        Some(Self { face: conv.face, g, depth, channels, tail })
    }

    fn y_plane(&self) -> usize {
        self.g.y[0] * self.g.y[1]
    }

    /// Rows of padded x, and columns of one residue.
    fn padded(&self) -> [usize; 2] {
        let g = &self.g;
        let span = |axis: usize| (g.kernel[axis] - 1) * g.dilation[axis];
        [(g.y[0] - 1) * g.stride[0] + span(0) + 1, g.y[1] + span(1) / g.stride[1]]
    }

    fn padded_len(&self) -> usize {
        let [height, width] = self.padded();
        self.g.ci * height * self.g.stride[1] * width
    }

    /// Images of a part of the weight gradient.
    fn part(&self) -> usize {
        self.g.batch.div_ceil(2 * PIECES)
    }

    /// Sums of a part of the weight gradient, `[co, k]` in whole tiles.
    fn sums_len(&self) -> usize {
        self.g.co.next_multiple_of(ROWS) * self.depth.next_multiple_of(LANES)
    }

    fn taps(&self) -> usize {
        self.g.kernel[0] * self.g.kernel[1]
    }

    /// The last rows of w padded to a tile; w with padded rows, where a tile could reach over its end; or the
    /// sums of all parts of the weight gradient.
    fn shared_len(&self) -> usize {
        match self.face {
            Face::Conv => ROWS * self.depth,
            Face::Transpose if self.taps().is_multiple_of(ROWS) => 0,
            Face::Transpose => self.g.co * (self.depth + ROWS),
            Face::Weight => self.sums_len() * self.g.batch.div_ceil(self.part()),
        }
    }

    /// Padded x; a panel of columns or of y; a tile of outputs, all column sums of a piece, or rows of y; and
    /// scratch of the tail.
    fn worker_lens(&self) -> [usize; 4] {
        let rows = self.g.co.next_multiple_of(ROWS);
        let made = self.channels * self.taps();
        let (panel, tile) = match self.face {
            Face::Conv => (self.depth * LANES, rows * LANES),
            Face::Transpose => {
                (self.g.co * LANES, made.next_multiple_of(ROWS) * self.y_plane().next_multiple_of(LANES))
            }
            Face::Weight => {
                ((self.depth + LANES) * LANES + self.depth.next_multiple_of(LANES) * LANES, rows * LANES)
            }
        };
        [self.padded_len(), panel, tile, self.tail.scratch_len()].map(|len| len.next_multiple_of(ALIGN))
    }

    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        self.shared_len().next_multiple_of(ALIGN) + threads * self.worker_lens().iter().sum::<usize>()
    }

    pub(super) fn run<'o>(&self, inputs: &[&[f32]], out: &'o mut [f32], scratch: &mut [f32]) {
        let (shared, scratch) = scratch.split_at_mut(self.shared_len().next_multiple_of(ALIGN));
        let shared = &mut shared[..self.shared_len()];
        let worker_len = self.worker_lens().iter().sum();
        let pieces = |out: &'o mut [f32], plane: usize| {
            let len = if self.g.batch < PIECES { self.channels * plane } else { out.len() / self.g.batch };
            out.chunks_mut(out.len() / self.g.batch).enumerate().flat_map(move |(image, out)| {
                out.chunks_mut(len).enumerate().map(move |(block, out)| (image, block * self.channels, out))
            })
        };
        match self.face {
            Face::Conv => {
                let last = &inputs[1][self.g.co / ROWS * ROWS * self.depth..];
                shared[..last.len()].copy_from_slice(last);
                shared[last.len()..].fill(0.0);
                let edge = &*shared;
                share(pieces(out, self.y_plane()), scratch, worker_len, |(image, channel, out), scratch| {
                    self.conv(inputs, edge, image, channel, out, scratch);
                });
            }
            Face::Transpose => {
                let w = if shared.is_empty() {
                    (inputs[1], self.depth)
                } else {
                    let pitch = self.depth + ROWS;
                    for (padded, w) in shared.chunks_exact_mut(pitch).zip(inputs[1].chunks_exact(self.depth))
                    {
                        padded[..self.depth].copy_from_slice(w);
                        padded[self.depth..].fill(0.0);
                    }
                    (&*shared, pitch)
                };
                share(
                    pieces(out, self.g.x[0] * self.g.x[1]),
                    scratch,
                    worker_len,
                    |(image, channel, out), scratch| {
                        self.transpose(inputs, w, image, channel, out, scratch);
                    },
                );
            }
            Face::Weight => {
                let pieces = shared.chunks_exact_mut(self.sums_len()).enumerate();
                share(pieces, scratch, worker_len, |(part, sums), scratch| {
                    self.weight(inputs, part, sums, scratch)
                });
                let pitch = self.depth.next_multiple_of(LANES);
                for (co, out) in out.chunks_exact_mut(self.depth).enumerate() {
                    out.fill(0.0);
                    for sums in shared.chunks_exact(self.sums_len()) {
                        out.iter_mut().zip(&sums[co * pitch..]).for_each(|(out, sum)| *out += sum);
                    }
                }
            }
        }
    }

    /// Copies channels of an image of x to their padded, sorted form.
    fn pad(&self, x: &[f32], padded: &mut [f32]) {
        let g = &self.g;
        let ([height, width], [h, w], stride) = (self.padded(), g.x, g.stride[1]);
        padded.fill(0.0);
        let rows = x.len() / (h * w) * height;
        for (row, padded) in padded.chunks_exact_mut(stride * width).take(rows).enumerate() {
            let (channel, row) = (row / height, row % height);
            let Some(row) = row.checked_sub(g.pad_low[0]).filter(|&row| row < h) else { continue };
            let x = &x[(channel * h + row) * w..][..w];
            for (residue, padded) in padded.chunks_exact_mut(width).enumerate() {
                // padded[q] is column q·stride + residue − pad.
                let first = g.pad_low[1].saturating_sub(residue).div_ceil(stride);
                let Some(padded) = padded.get_mut(first..) else { continue };
                let column = first * stride + residue - g.pad_low[1];
                let Some(x) = x.get(column..) else { continue };
                padded.iter_mut().zip(x.iter().step_by(stride)).for_each(|(padded, x)| *padded = *x);
            }
        }
    }

    /// Element of padded x that tap k reads at the first pixel of output row `row`.
    fn tap_at(&self, k: usize, row: usize) -> usize {
        let g = &self.g;
        let [height, width] = self.padded();
        let (channel, kh, kw) = (k / self.taps(), k / g.kernel[1] % g.kernel[0], k % g.kernel[1]);
        let (row, column) = (row * g.stride[0] + kh * g.dilation[0], kw * g.dilation[1]);
        ((channel * height + row) * g.stride[1] + column % g.stride[1]) * width + column / g.stride[1]
    }

    /// Fills `columns[k][..]` with the pixels of `run`; lanes after it are zero.
    fn columns(&self, padded: &[f32], run: Range<usize>, columns: &mut [f32]) {
        for (k, lanes) in columns.chunks_exact_mut(LANES).take(self.depth).enumerate() {
            let mut p = run.start;
            while p < run.end {
                let (row, column) = (p / self.g.y[1], p % self.g.y[1]);
                let len = (self.g.y[1] - column).min(run.end - p);
                let at = self.tap_at(k, row) + column;
                lanes[p - run.start..][..len].copy_from_slice(&padded[at..at + len]);
                p += len;
            }
            lanes[run.len()..].fill(0.0);
        }
    }

    fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let plane = self.y_plane();
        (0..plane).step_by(LANES).map(move |p| p..plane.min(p + LANES))
    }

    fn conv(
        &self,
        inputs: &[&[f32]],
        edge: &[f32],
        image: usize,
        channel: usize,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let [padded_len, panel_len, tile_len, _] = self.worker_lens();
        let (padded, scratch) = scratch.split_at_mut(padded_len);
        let padded = &mut padded[..self.padded_len()];
        let (panel, scratch) = scratch.split_at_mut(panel_len);
        let (tile, scratch) = scratch.split_at_mut(tile_len);
        let x_len = inputs[0].len() / self.g.batch;
        let (depth, plane) = (self.depth, self.y_plane());
        let channels = out.len() / plane;
        let whole = channels / ROWS * ROWS;
        let w = &inputs[1][channel * depth..];
        self.pad(&inputs[0][image * x_len..][..x_len], padded);
        for run in self.runs() {
            self.columns(padded, run.clone(), panel);
            let full = run.len() == LANES;
            let product = if run.len() > WIDTH { tile::product } else { tile::product_narrow };
            if full {
                tile::product(
                    whole,
                    depth,
                    w,
                    Order::Rows(depth),
                    panel,
                    &mut out[run.start..],
                    plane,
                    false,
                );
            } else {
                product(whole, depth, w, Order::Rows(depth), panel, tile, LANES, false);
            }
            if whole < channels {
                product(
                    ROWS,
                    depth,
                    edge,
                    Order::Rows(depth),
                    panel,
                    &mut tile[whole * LANES..],
                    LANES,
                    false,
                );
            }
            let from_tile = if full { whole } else { 0 };
            for (out, tile) in out.chunks_exact_mut(plane).zip(tile.chunks_exact(LANES)).skip(from_tile) {
                out[run.clone()].copy_from_slice(&tile[..run.len()]);
            }
        }
        let start = (image * self.g.co + channel) * plane;
        self.tail.apply(out, plane, &inputs[2..], start, channel, scratch);
    }

    fn transpose(
        &self,
        inputs: &[&[f32]],
        (w, w_pitch): (&[f32], usize),
        image: usize,
        channel: usize,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        let g = &self.g;
        let [padded_len, panel_len, tile_len, _] = self.worker_lens();
        let (padded, scratch) = scratch.split_at_mut(padded_len);
        let padded = &mut padded[..self.padded_len()];
        let (panel, scratch) = scratch.split_at_mut(panel_len);
        let (sums, scratch) = scratch.split_at_mut(tile_len);
        let ([height, width], [h, x_width], stride) = (self.padded(), g.x, g.stride[1]);
        let taps = out.len() / (h * x_width) * self.taps();
        let pitch = self.y_plane().next_multiple_of(LANES);
        let w = &w[channel * self.taps()..];
        let y = &inputs[0][image * g.co * self.y_plane()..][..g.co * self.y_plane()];
        for run in self.runs() {
            for (lanes, y) in panel.chunks_exact_mut(LANES).zip(y.chunks_exact(self.y_plane())) {
                lanes[..run.len()].copy_from_slice(&y[run.clone()]);
                lanes[run.len()..].fill(0.0);
            }
            let rows = taps.next_multiple_of(ROWS);
            let product = if run.len() > WIDTH { tile::product } else { tile::product_narrow };
            // Rows of w are pages apart: some of them at a time, and those of the next block are fetched
            // meanwhile.
            for block in (0..g.co).step_by(SPREAD) {
                let depth = SPREAD.min(g.co - block);
                for row in (0..rows).step_by(2 * ROWS) {
                    for co in block + depth..g.co.min(block + depth + SPREAD) {
                        tile::prefetch(w, co * w_pitch + row);
                    }
                    product(
                        (rows - row).min(2 * ROWS),
                        depth,
                        &w[block * w_pitch + row..],
                        Order::Columns(w_pitch),
                        &panel[block * LANES..],
                        &mut sums[row * pitch + run.start..],
                        pitch,
                        block > 0,
                    );
                }
            }
        }
        padded.fill(0.0);
        for k in 0..taps {
            for row in 0..g.y[0] {
                let at = self.tap_at(k, row);
                let sums = &sums[k * pitch + row * g.y[1]..][..g.y[1]];
                padded[at..at + g.y[1]].iter_mut().zip(sums).for_each(|(padded, sum)| *padded += sum);
            }
        }
        for (row, out) in out.chunks_exact_mut(x_width).enumerate() {
            let (c, row) = (row / h, row % h);
            let padded_row = row + g.pad_low[0];
            if padded_row < height {
                let padded = &padded[(c * height + padded_row) * stride * width..][..stride * width];
                // Column w of x is column q of residue r where q·stride + r = w + pad.
                let (mut r, mut q) = (g.pad_low[1] % stride, g.pad_low[1] / stride);
                for out in out.iter_mut() {
                    *out = if q < width { padded[r * width + q] } else { 0.0 };
                    r += 1;
                    if r == stride {
                        (r, q) = (0, q + 1);
                    }
                }
            } else {
                out.fill(0.0);
            }
        }
        let start = (image * g.ci + channel) * h * x_width;
        self.tail.apply(out, h * x_width, &inputs[2..], start, channel, scratch);
    }

    fn weight(&self, inputs: &[&[f32]], part: usize, sums: &mut [f32], scratch: &mut [f32]) {
        let g = &self.g;
        let [padded_len, panel_len, tile_len, _] = self.worker_lens();
        let (padded, scratch) = scratch.split_at_mut(padded_len);
        let padded = &mut padded[..self.padded_len()];
        let (panels, scratch) = scratch.split_at_mut(panel_len);
        let tile = &mut scratch[..tile_len];
        let pitch = self.depth.next_multiple_of(LANES);
        let (columns, panels) = panels.split_at_mut((self.depth + LANES) * LANES);
        let (plane, x_len) = (self.y_plane(), inputs[0].len() / g.batch);
        let whole = g.co / ROWS * ROWS;
        columns.fill(0.0);
        let mut add = false;
        for image in part * self.part()..g.batch.min((part + 1) * self.part()) {
            self.pad(&inputs[0][image * x_len..][..x_len], padded);
            let y = &inputs[1][image * g.co * plane..][..g.co * plane];
            for run in self.runs() {
                self.columns(padded, run.clone(), columns);
                for panel in 0..pitch / LANES {
                    let columns = &columns[panel * LANES * LANES..];
                    tile::transpose(
                        LANES,
                        LANES,
                        columns,
                        LANES,
                        &mut panels[panel * LANES * LANES..],
                        LANES,
                    );
                    let panel_b = &panels[panel * LANES * LANES..];
                    let sums = &mut sums[panel * LANES..];
                    tile::product(
                        whole,
                        run.len(),
                        &y[run.start..],
                        Order::Rows(plane),
                        panel_b,
                        sums,
                        pitch,
                        add,
                    );
                    if whole < g.co {
                        for (tile, y) in tile.chunks_exact_mut(LANES).zip(y.chunks_exact(plane).skip(whole)) {
                            tile[..run.len()].copy_from_slice(&y[run.clone()]);
                        }
                        tile::product(
                            ROWS,
                            run.len(),
                            tile,
                            Order::Rows(LANES),
                            panel_b,
                            &mut sums[whole * pitch..],
                            pitch,
                            add,
                        );
                    }
                }
                add = true;
            }
        }
    }
}
