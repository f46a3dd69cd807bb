//! Weights in the order that the products read them: for each panel of [`LANES`] channels made,
//! `[pass][product][segment, channel read][LANES]`.

use super::super::super::Face;
use super::super::winograd::{self, PRODUCTS};
use super::Plan;
use crate::tile::{self, LANES, bf16, simd};
use std::ops::Range;

/// Channels whose taps are transposed together.
const READS: usize = 4;
/// Taps transposed together, a few kilobytes on the stack.
const TAPS: usize = 64;

impl Plan {
    /// Element of w for (channel made, channel read, tap 0), and its distance between channels made.
    fn weight_at(&self, made: usize, read: usize) -> (usize, usize) {
        let taps = self.g.kernel[0] * self.g.kernel[1];
        match self.face {
            Face::Transpose => ((read * self.g.ci + made) * taps, taps),
            _ => ((made * self.g.ci + read) * taps, self.g.ci * taps),
        }
    }

    /// Packs the weights of a panel, segment by segment a vector of lanes for each channel read.
    pub(super) fn pack_taps(&self, w: &[f32], panel: usize, packed: &mut [f32]) {
        let mut block = [0.0; TAPS * LANES];
        for read in 0..self.from.0 {
            for taps in self.tap_blocks() {
                self.taps(w, panel, read, &taps, &mut block);
                self.places(&taps, |segment, tap| {
                    let row = segment * self.pitch + read;
                    packed[row * LANES..][..LANES].copy_from_slice(&block[tap * LANES..][..LANES]);
                });
            }
        }
    }

    /// As [`Plan::pack_taps`], with the channels read in pairs.
    pub(super) fn pack_pairs(&self, w: &[f32], panel: usize, packed: &mut [u32]) {
        let mut blocks = [[0.0; TAPS * LANES]; 2];
        for pair in 0..self.pitch / 2 {
            for taps in self.tap_blocks() {
                for (i, block) in blocks.iter_mut().enumerate() {
                    match 2 * pair + i < self.from.0 {
                        true => self.taps(w, panel, 2 * pair + i, &taps, block),
                        false => block.fill(0.0),
                    }
                }
                self.places(&taps, |segment, tap| {
                    let [first, second] = blocks.each_ref().map(|block| &block[tap * LANES..][..LANES]);
                    let row = segment * self.pitch / 2 + pair;
                    bf16::pair(first, second, &mut packed[row * LANES..][..LANES]);
                });
            }
        }
    }

    /// All taps, some at a time.
    fn tap_blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let taps = self.g.kernel[0] * self.g.kernel[1];
        (0..taps).step_by(TAPS).map(move |first| first..taps.min(first + TAPS))
    }

    /// Vectors of lanes of some taps of a channel read; lanes without a channel keep what they hold, which
    /// reaches no output.
    fn taps(&self, w: &[f32], panel: usize, read: usize, taps: &Range<usize>, block: &mut [f32]) {
        let lanes = (self.to.0 - panel * LANES).min(LANES);
        let (at, step) = self.weight_at(panel * LANES, read);
        tile::transpose(lanes, taps.len(), &w[at + taps.start..], step, block, LANES);
    }

    /// Calls `place` with the segments, counted over all passes, that read one of `taps`, and its number
    /// among them.
    fn places(&self, taps: &Range<usize>, mut place: impl FnMut(usize, usize)) {
        let mut segment = 0;
        for pass in 0..self.passes() {
            let axes = self.axes(pass);
            for h in (0..axes[0].taps).map(|m| axes[0].tap + m * axes[0].tap_step) {
                for v in (0..axes[1].taps).map(|m| axes[1].tap + m * axes[1].tap_step) {
                    let tap = h * self.g.kernel[1] + v;
                    if taps.contains(&tap) {
                        place(segment, tap - taps.start);
                    }
                    segment += 1;
                }
            }
        }
    }

    /// Packs the Winograd transforms of the weights of a panel.
    pub(super) fn pack_phases(&self, w: &[f32], panel: usize, packed: &mut [f32]) {
        let lanes = (self.to.0 - panel * LANES).min(LANES);
        let depth = self.depth(0);
        let segments = self.segments(0);
        let mut block = [0.0; READS * 16 * LANES];
        for read in 0..self.pitch {
            let slot = read % READS;
            if slot == 0 {
                self.tap_block(w, panel, lanes, read, &mut block);
            }
            let taps = &block[slot * 16 * LANES..][..16 * LANES];
            for phase in 0..4 {
                let [h, v] = winograd::phases(self.face, &self.g, phase);
                let (pass, segment) = (phase / segments, phase % segments);
                pack_phase(
                    taps,
                    std::array::from_fn(|i| std::array::from_fn(|j| (h.taps[i] * 4 + v.taps[j]) * LANES)),
                    &mut packed[(pass * PRODUCTS * depth + segment * self.pitch + read) * LANES..],
                    depth * LANES,
                );
            }
        }
    }

    /// The taps of [`READS`] channels read, from `read` on, as `[read, tap][LANES]`; zero after the last.
    fn tap_block(&self, w: &[f32], panel: usize, lanes: usize, read: usize, block: &mut [f32]) {
        let reads = self.from.0.saturating_sub(read).min(READS);
        if reads < READS {
            block.fill(0.0);
        }
        if reads == 0 {
            return;
        }
        let (at, step) = self.weight_at(panel * LANES, read);
        if self.face == Face::Transpose {
            for (i, block) in block.chunks_exact_mut(16 * LANES).take(reads).enumerate() {
                let (at, step) = self.weight_at(panel * LANES, read + i);
                tile::transpose(lanes, 16, &w[at..], step, block, LANES);
            }
        } else {
            // The channels read of one channel made are neighbours: fetch those of the next call.
            for at in (at..).step_by(step).take(lanes) {
                (1..=READS).for_each(|i| tile::prefetch(w, at + (READS + i) * 16 - 1));
            }
            tile::transpose(lanes, reads * 16, &w[at..], step, block, LANES);
        }
    }
}

simd! {
    /// One input channel of one phase: taps `[16][LANES]` to nine transformed vectors of lanes.
    fn pack_phase(taps: &[f32], at: [[usize; 2]; 2], packed: &mut [f32], product_len: usize) {
        let filter = winograd::filter::<LANES>(winograd::load(taps, &at, 0));
        winograd::store(&filter, packed, product_len);
    }
}
