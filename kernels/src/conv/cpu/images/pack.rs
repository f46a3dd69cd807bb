//! Weights in the order that the products read them: for each panel of [`LANES`] channels made,
//! `[pass][product][segment, channel read][LANES]`.

use super::super::super::Face;
use super::super::winograd::{self, PRODUCTS};
use super::Plan;
use crate::tile::{self, LANES, simd};

/// Channels whose taps are transposed together.
const READS: usize = 4;

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
        /// Taps transposed together, a few kilobytes on the stack.
        const TAPS: usize = 64;
        let lanes = (self.to.0 - panel * LANES).min(LANES);
        let taps = self.g.kernel[0] * self.g.kernel[1];
        let mut block = [0.0; TAPS * LANES];
        for read in 0..self.from.0 {
            let (at, step) = self.weight_at(panel * LANES, read);
            for first in (0..taps).step_by(TAPS) {
                let here = first..taps.min(first + TAPS);
                tile::transpose(lanes, here.len(), &w[at + first..], step, &mut block, LANES);
                let mut row = read;
                for pass in 0..self.passes() {
                    let axes = self.axes(pass);
                    for h in (0..axes[0].taps).map(|m| axes[0].tap + m * axes[0].tap_step) {
                        for v in (0..axes[1].taps).map(|m| axes[1].tap + m * axes[1].tap_step) {
                            let tap = h * self.g.kernel[1] + v;
                            if here.contains(&tap) {
                                let vector = &block[(tap - first) * LANES..][..LANES];
                                packed[row * LANES..][..LANES].copy_from_slice(vector);
                            }
                            row += self.pitch;
                        }
                    }
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
