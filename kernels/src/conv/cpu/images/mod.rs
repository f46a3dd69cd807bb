//! The faces that make images: convolution and its transpose.
//!
//! A piece of work is a few whole images, or a block of channels of one. Its positions (pixels of the output,
//! or 2 × 2 tiles of them) are taken [`BLOCK`] at a time: their source patches become rows of at most
//! [`DEPTH`] numbers, and rows × packed weights gives the outputs of all channels.

mod pack;

use super::super::{Conv, Face, Geometry, NOMINAL_BATCH};
use super::winograd::{self, PRODUCTS};
use super::{Axis, has_phases, pixel};
use crate::epilogue::{Channels, Tail};
use crate::precision::Precision;
use crate::tasks::share;
use crate::tile::{self, LANES, Order, ROWS, WIDTH, bf16, simd};
use rayon::prelude::*;
use std::ops::Range;

/// Positions whose rows are in flight together.
const BLOCK: usize = 64;
/// Inner indices multiplied in one go: a panel of weights of this depth fills the first-level cache.
const DEPTH: usize = 256;
/// Distance of rows. Of numbers in bfloat16 twice as many fit, and are multiplied in one go.
const PITCH: usize = tile::PITCH;
/// Pieces wanted at least: enough for a few threads to end together.
const PIECES: usize = 4;

pub(super) struct Plan {
    face: Face,
    g: Geometry,
    winograd: bool,
    /// Products of numbers in bfloat16. Their instructions take less time than the transforms would.
    pairs: bool,
    /// Channels and spatial size of the tensor read and of the tensor made.
    from: (usize, [usize; 2]),
    to: (usize, [usize; 2]),
    /// Channels of the tensor read, padded to whole vectors where transforms need them, to whole steps in
    /// pairs.
    pitch: usize,
    /// Images and output channels of a piece.
    images: usize,
    channels: usize,
    tail: Tail,
}

/// Where a piece lies.
#[derive(Clone, Copy)]
struct Piece {
    image: usize,
    channel: usize,
}

/// Positions `first..first + count` of a grid of `grid` positions in each image.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    count: usize,
    grid: [usize; 2],
}

impl Run {
    /// (index in the run, image, row, column).
    #[inline(always)]
    fn positions(self) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let [height, width] = self.grid;
        (0..self.count).map(move |t| {
            let at = self.first + t;
            (t, at / (height * width), at / width % height, at % width)
        })
    }
}

impl Plan {
    pub(super) fn new(conv: &Conv) -> Self {
        let g = conv.geometry;
        let (from, to) = match conv.face {
            Face::Transpose => ((g.co, g.y), (g.ci, g.x)),
            _ => ((g.ci, g.x), (g.co, g.y)),
        };
        let pairs = conv.precision == Precision::Bf16 && from.0 >= WIDTH && to.0 >= WIDTH;
        let winograd = !pairs && has_phases(&g) && NOMINAL_BATCH * g.y[0] * g.y[1] >= 64;
        let mut plan = Self {
            face: conv.face,
            g,
            winograd,
            pairs,
            from,
            to,
            pitch: match (winograd, pairs) {
                (true, _) => from.0.next_multiple_of(WIDTH),
                (_, true) => from.0.next_multiple_of(bf16::STEP),
                _ => from.0,
            },
            images: 1,
            channels: to.0,
            tail: conv.epilogue.tail(Channels::Rows),
        };
        let grid = plan.grid(0);
        let fill = BLOCK.div_ceil((grid[0] * grid[1]).max(1));
        plan.images = fill.min(g.batch / PIECES).max(1);
        if g.batch < PIECES {
            let panels = to.0.div_ceil(LANES);
            plan.channels = (panels.div_ceil(PIECES.div_ceil(g.batch)) * LANES).min(to.0);
        }
        plan
    }

    /// Passes over the positions: one for a convolution, one for each output phase of a transpose.
    fn passes(&self) -> usize {
        if self.face == Face::Transpose { self.g.stride[0] * self.g.stride[1] } else { 1 }
    }

    fn products(&self) -> usize {
        if self.winograd { PRODUCTS } else { 1 }
    }

    fn axes(&self, pass: usize) -> [Axis; 2] {
        if self.face == Face::Transpose {
            let [i, j] = [pass / self.g.stride[1], pass % self.g.stride[1]];
            [Axis::transpose(&self.g, 0, i), Axis::transpose(&self.g, 1, j)]
        } else {
            [Axis::conv(&self.g, 0), Axis::conv(&self.g, 1)]
        }
    }

    /// Positions of a pass in each image: outputs, or tiles of 2 × 2 of them.
    fn grid(&self, pass: usize) -> [usize; 2] {
        self.axes(pass).map(|axis| if self.winograd { axis.grid.div_ceil(2) } else { axis.grid })
    }

    /// Segments of a row of a pass: taps, or the phases that add to one output.
    fn segments(&self, pass: usize) -> usize {
        match (self.winograd, self.face) {
            (true, Face::Transpose) => 1,
            (true, _) => 4,
            (false, _) => self.axes(pass).iter().map(|axis| axis.taps).product(),
        }
    }

    fn depth(&self, pass: usize) -> usize {
        self.segments(pass) * self.pitch
    }

    /// Words that hold so many numbers.
    fn words(&self, len: usize) -> usize {
        if self.pairs { len / 2 } else { len }
    }

    /// Packed weights of one panel of [`LANES`] output channels: `[pass][product][depth][LANES]`.
    fn panel_len(&self) -> usize {
        (0..self.passes()).map(|pass| self.products() * self.words(self.depth(pass) * LANES)).sum()
    }

    pub(super) fn packed_len(&self) -> usize {
        self.panel_len() * self.to.0.div_ceil(LANES)
    }

    /// Source images and a pixel of zeros, the same in pairs, rows, sums, and images made, all channels-last;
    /// scratch of the tail.
    fn worker_lens(&self) -> [usize; 6] {
        let lanes = self.channels.next_multiple_of(LANES);
        let block = self.products() * BLOCK;
        let source = (self.images * self.from.1[0] * self.from.1[1] + 1) * self.pitch;
        [
            source,
            if self.pairs { self.words(source) } else { 0 },
            block * PITCH,
            block * lanes,
            self.images * self.to.1[0] * self.to.1[1] * lanes,
            self.tail.scratch_len(),
        ]
    }

    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        self.packed_len() + threads * self.worker_lens().iter().sum::<usize>()
    }

    /// Packs weights, all panels.
    pub(super) fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        packed.par_chunks_exact_mut(self.panel_len().max(1)).enumerate().for_each(|(panel, packed)| {
            if self.winograd {
                self.pack_phases(weights, panel, packed);
            } else if self.pairs {
                self.pack_pairs(weights, panel, bytemuck::cast_slice_mut(packed));
            } else {
                self.pack_taps(weights, panel, packed);
            }
        });
    }

    /// The images; `kept` are the weights packed, where somebody has them.
    pub(super) fn run(&self, inputs: &[&[f32]], kept: Option<&[f32]>, out: &mut [f32], scratch: &mut [f32]) {
        let own_len = if kept.is_some() { 0 } else { self.packed_len() };
        let (own, scratch) = scratch.split_at_mut(own_len);
        let packed = kept.unwrap_or_else(|| {
            self.pack(inputs[1], own);
            own
        });
        let plane = self.to.1[0] * self.to.1[1];
        let pieces = out.chunks_mut(self.images * self.to.0 * plane).enumerate().flat_map(|(group, out)| {
            let len = if self.channels < self.to.0 { self.channels * plane } else { out.len() };
            out.chunks_mut(len).enumerate().map(move |(block, out)| {
                (Piece { image: group * self.images, channel: block * self.channels }, out)
            })
        });
        let worker_len = self.worker_lens().iter().sum();
        share(pieces, scratch, worker_len, |(piece, out), scratch| {
            self.piece(inputs, packed, piece, out, scratch);
        });
    }

    fn piece(&self, inputs: &[&[f32]], packed: &[f32], piece: Piece, out: &mut [f32], scratch: &mut [f32]) {
        let plane = self.to.1[0] * self.to.1[1];
        let source_plane = self.from.1[0] * self.from.1[1];
        let channels = self.channels.min(self.to.0 - piece.channel);
        let images = out.len() / (plane * channels);
        let lanes = self.channels.next_multiple_of(LANES);
        let [source_len, pairs_len, rows_len, sums_len, made_len, _] = self.worker_lens();
        let (source, scratch) = scratch.split_at_mut(source_len);
        let (rounded, scratch) = scratch.split_at_mut(pairs_len);
        let (rows, scratch) = scratch.split_at_mut(rows_len);
        let (sums, scratch) = scratch.split_at_mut(sums_len);
        let (made, scratch) = scratch.split_at_mut(made_len);

        for (n, source) in source.chunks_exact_mut(source_plane * self.pitch).take(images).enumerate() {
            let image = &inputs[0][(piece.image + n) * self.from.0 * source_plane..];
            tile::transpose(self.from.0, source_plane, image, source_plane, source, self.pitch);
            if self.pitch > self.from.0 {
                source.chunks_exact_mut(self.pitch).for_each(|pixel| pixel[self.from.0..].fill(0.0));
            }
        }
        source[source_len - self.pitch..].fill(0.0);
        let rounded: &mut [u16] = bytemuck::cast_slice_mut(rounded);
        if self.pairs {
            let pixels = images * source_plane * self.pitch;
            bf16::round(&source[..pixels], &mut rounded[..pixels]);
            rounded[source_len - self.pitch..].fill(0);
        }

        let mut weights_at = 0;
        for pass in 0..self.passes() {
            let (depth, grid) = (self.depth(pass), self.grid(pass));
            let positions = images * grid[0] * grid[1];
            for first in (0..positions).step_by(BLOCK) {
                let run = Run { first, count: BLOCK.min(positions - first), grid };
                if depth == 0 {
                    sums.fill(0.0);
                }
                let panels = channels.div_ceil(LANES);
                // The weights of some inner indices of a product, for a panel of channels.
                let weights = |product: usize, panel: usize, inner: &Range<usize>| {
                    let panel = (piece.channel / LANES + panel) * self.panel_len();
                    let at = panel + weights_at + self.words((product * depth + inner.start) * LANES);
                    packed.get(at..at + self.words(inner.len() * LANES)).unwrap_or_default()
                };
                let step = if self.pairs { 2 * DEPTH } else { DEPTH };
                for inner in (0..depth).step_by(step).map(|k| k..depth.min(k + step)) {
                    let add = inner.start > 0;
                    if self.pairs {
                        let rows: &mut [u16] = bytemuck::cast_slice_mut(rows);
                        self.tap_rows(rounded, run, pass, inner.clone(), 2 * PITCH, rows);
                        for panel in 0..panels {
                            let weights = bytemuck::cast_slice(weights(0, panel, &inner));
                            let sums = &mut sums[panel * LANES * BLOCK..];
                            bf16::product(run.count, inner.len(), rows, 2 * PITCH, weights, sums, LANES, add);
                        }
                        continue;
                    }
                    if self.winograd {
                        self.phase_rows(source, run, pass, inner.clone(), rows);
                    } else {
                        self.tap_rows(source, run, pass, inner.clone(), PITCH, rows);
                    }
                    for product in 0..self.products() {
                        for panel in 0..panels {
                            let after = product * panels + panel + 1;
                            tile::product_ahead(
                                run.count.next_multiple_of(ROWS),
                                inner.len(),
                                &rows[product * BLOCK * PITCH..],
                                Order::Rows(PITCH),
                                weights(product, panel, &inner),
                                &mut sums[(product * lanes + panel * LANES) * BLOCK..],
                                LANES,
                                add,
                                weights(after / panels, after % panels, &inner),
                            );
                        }
                    }
                }
                let axes = self.axes(pass);
                if self.winograd {
                    untile(sums, lanes, run, axes, self.to.1, made);
                } else {
                    for (t, n, i, j) in run.positions() {
                        let at = (i * axes[0].out_step + axes[0].out) * self.to.1[1]
                            + j * axes[1].out_step
                            + axes[1].out;
                        let made = &mut made[(n * plane + at) * lanes..][..lanes];
                        let sums = sums.chunks_exact(BLOCK * LANES);
                        for (made, sums) in made.chunks_exact_mut(LANES).zip(sums) {
                            made.copy_from_slice(&sums[t * LANES..][..LANES]);
                        }
                    }
                }
            }
            weights_at += self.products() * self.words(depth * LANES);
        }

        // A few channels at a time: the tail finds them in cache, and few streams are written at once.
        let group = (BLOCK * WIDTH / plane).next_multiple_of(WIDTH).clamp(WIDTH, BLOCK);
        for (n, out) in out.chunks_exact_mut(channels * plane).enumerate() {
            for (i, out) in out.chunks_mut(group * plane).enumerate() {
                let made = &made[n * plane * lanes + i * group..];
                tile::transpose(plane, out.len() / plane, made, lanes, out, plane);
                let channel = piece.channel + i * group;
                let start = ((piece.image + n) * self.to.0 + channel) * plane;
                self.tail.apply(out, plane, &inputs[2..], start, channel, scratch);
            }
        }
    }

    /// Rows of patches, `distance` apart: segment by segment the channels of the pixel that a tap reads.
    fn tap_rows<T: std::marker::Copy>(
        &self,
        source: &[T],
        run: Run,
        pass: usize,
        inner: Range<usize>,
        distance: usize,
        rows: &mut [T],
    ) {
        let axes = self.axes(pass);
        let source_plane = self.from.1[0] * self.from.1[1];
        let zeros = source.len() / self.pitch - 1;
        for (t, n, i, j) in run.positions() {
            let mut row = &mut rows[t * distance..][..inner.len()];
            let mut k = inner.start;
            while k < inner.end {
                let (segment, channel) = (k / self.pitch, k % self.pitch);
                let h = axes[0].source(i, segment / axes[1].taps);
                let v = axes[1].source(j, segment % axes[1].taps);
                let len = (self.pitch - channel).min(inner.end - k);
                let pixel = pixel(h, v, self.from.1, usize::MAX);
                let pixel = if pixel == usize::MAX { zeros } else { n * source_plane + pixel };
                let (here, rest) = row.split_at_mut(len);
                copy(&source[pixel * self.pitch + channel..][..len], here);
                row = rest;
                k += len;
            }
        }
    }

    /// Rows of transformed 3 × 3 patches: segment by segment the channels of a phase, for each of nine
    /// products.
    fn phase_rows(&self, source: &[f32], run: Run, pass: usize, inner: Range<usize>, rows: &mut [f32]) {
        let source_plane = self.from.1[0] * self.from.1[1];
        let zeros = source.len() / self.pitch - 1;
        let segments = self.segments(pass);
        let mut k = inner.start;
        while k < inner.end {
            let (segment, channel) = (k / self.pitch, k % self.pitch);
            let len = (self.pitch - channel).min(inner.end - k);
            let [h, v] = winograd::phases(self.face, &self.g, pass * segments + segment);
            for (t, n, i, j) in run.positions() {
                let pixels = std::array::from_fn(|r| {
                    std::array::from_fn(|c| {
                        let pixel = pixel(h.source(2 * i, r), v.source(2 * j, c), self.from.1, usize::MAX);
                        let pixel = if pixel == usize::MAX { zeros } else { n * source_plane + pixel };
                        pixel * self.pitch + channel
                    })
                });
                tile_row(source, pixels, len, &mut rows[t * PITCH + k - inner.start..]);
            }
            k += len;
        }
    }
}

/// Copies numbers, whole steps of them without a call for each few.
#[inline(always)]
fn copy<T: std::marker::Copy>(from: &[T], to: &mut [T]) {
    let (from, to) = (from.as_chunks::<{ bf16::STEP }>(), to.as_chunks_mut::<{ bf16::STEP }>());
    to.0.iter_mut().zip(from.0).for_each(|(to, from)| *to = *from);
    to.1.copy_from_slice(from.1);
}

simd! {
    /// `len` channels of one tile, transformed into nine rows.
    fn tile_row(source: &[f32], pixels: [[usize; 3]; 3], len: usize, rows: &mut [f32]) {
        for c in (0..len).step_by(WIDTH) {
            let tile = winograd::data::<WIDTH>(winograd::load(source, &pixels, c));
            winograd::store(&tile, &mut rows[c..], BLOCK * PITCH);
        }
    }
}

simd! {
    /// Sums of nine products to 2 × 2 outputs a tile, those of them that are inside the image.
    fn untile(sums: &[f32], lanes: usize, run: Run, axes: [Axis; 2], size: [usize; 2], made: &mut [f32]) {
        for (t, n, i, j) in run.positions() {
            let place = |axis: &Axis, g: usize| (g < axis.grid).then_some(g * axis.out_step + axis.out);
            let at: [[Option<usize>; 2]; 2] = std::array::from_fn(|r| {
                std::array::from_fn(|c| {
                    let (h, v) = (place(&axes[0], 2 * i + r)?, place(&axes[1], 2 * j + c)?);
                    Some(((n * size[0] + h) * size[1] + v) * lanes)
                })
            });
            let products =
                std::array::from_fn(|r| std::array::from_fn(|c| (r * 3 + c) * BLOCK * lanes + t * LANES));
            for lane in (0..lanes).step_by(WIDTH) {
                let sum = lane / LANES * LANES * BLOCK + lane % LANES;
                let outputs = winograd::output::<WIDTH>(winograd::load(sums, &products, sum));
                for (at, vector) in at.as_flattened().iter().zip(outputs.as_flattened()) {
                    if let Some(at) = at {
                        made[at + lane..][..WIDTH].copy_from_slice(vector);
                    }
                }
            }
        }
    }
}
