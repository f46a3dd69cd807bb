//! Winograd F(2 × 2, 2 × 2): a 4 × 4 convolution at stride 2 is a sum over four phases of 2 × 2-tap
//! convolutions at stride 1, and two neighbouring outputs of such a pair of taps,
//!
//! `y₀ = d₀f₀ + d₁f₁`, `y₁ = d₁f₀ + d₂f₁`, are `Aᵀ[(G f) ∘ (Bᵀ d)]` with three products in place of four,
//! from Bᵀ = [1 −1 0; 0 1 0; 0 1 −1], G = [1 0; 1 1; 0 1], Aᵀ = [1 1 0; 0 1 −1].
//!
//! In two dimensions each map is applied along both axes: 9 products in place of 16. The weight gradient is
//! the adjoint in f: `Gᵀ[(A y) ∘ (Bᵀ d)]`. Coefficients are 0 and ±1, so the transforms round only in
//! additions.

use super::super::{Face, Geometry};
use super::Axis;

/// Products of one tile.
pub(super) const PRODUCTS: usize = 9;

/// A square of vectors of `L` lanes.
pub(super) type Tile<const N: usize, const L: usize> = [[[f32; L]; N]; N];

#[inline(always)]
fn add<const L: usize>(mut a: [f32; L], b: [f32; L]) -> [f32; L] {
    for i in 0..L {
        a[i] += b[i];
    }
    a
}

#[inline(always)]
fn sub<const L: usize>(mut a: [f32; L], b: [f32; L]) -> [f32; L] {
    for i in 0..L {
        a[i] -= b[i];
    }
    a
}

/// Applies a map along the rows and then along the columns of a tile.
#[inline(always)]
fn both<const I: usize, const O: usize, const L: usize>(
    tile: Tile<I, L>,
    map: impl Fn([[f32; L]; I]) -> [[f32; L]; O],
) -> Tile<O, L> {
    let mut rows = [[[0.0; L]; O]; I];
    for i in 0..I {
        rows[i] = map(tile[i]);
    }
    let mut out = [[[0.0; L]; O]; O];
    for j in 0..O {
        let mut column = [[0.0; L]; I];
        for i in 0..I {
            column[i] = rows[i][j];
        }
        let column = map(column);
        for i in 0..O {
            out[i][j] = column[i];
        }
    }
    out
}

/// Bᵀ d B.
#[inline(always)]
pub(super) fn data<const L: usize>(d: Tile<3, L>) -> Tile<3, L> {
    both(d, |[a, b, c]| [sub(a, b), b, sub(b, c)])
}

/// G f Gᵀ.
#[inline(always)]
pub(super) fn filter<const L: usize>(f: Tile<2, L>) -> Tile<3, L> {
    both(f, |[a, b]| [a, add(a, b), b])
}

/// Aᵀ m A.
#[inline(always)]
pub(super) fn output<const L: usize>(m: Tile<3, L>) -> Tile<2, L> {
    both(m, |[a, b, c]| [add(a, b), sub(b, c)])
}

/// A y Aᵀ.
#[inline(always)]
pub(super) fn output_gradient<const L: usize>(y: Tile<2, L>) -> Tile<3, L> {
    both(y, |[a, b]| [a, add(a, b), sub([0.0; L], b)])
}

/// Gᵀ u G.
#[inline(always)]
pub(super) fn filter_gradient<const L: usize>(u: Tile<3, L>) -> Tile<2, L> {
    both(u, |[a, b, c]| [add(a, b), add(b, c)])
}

/// The tile whose vectors stand at `at + offset`.
#[inline(always)]
pub(super) fn load<const N: usize, const L: usize>(
    values: &[f32],
    at: &[[usize; N]; N],
    offset: usize,
) -> Tile<N, L> {
    let mut tile = [[[0.0; L]; N]; N];
    for r in 0..N {
        for c in 0..N {
            tile[r][c].copy_from_slice(&values[at[r][c] + offset..][..L]);
        }
    }
    tile
}

/// Stores the vectors of a tile `step` apart.
#[inline(always)]
pub(super) fn store<const N: usize, const L: usize>(tile: &Tile<N, L>, values: &mut [f32], step: usize) {
    for r in 0..N {
        for c in 0..N {
            values[(r * N + c) * step..][..L].copy_from_slice(&tile[r][c]);
        }
    }
}

/// One axis of one phase: output p of the tile at grid position g is `d_p·f₀ + d_{p+1}·f₁` with d_r the
/// source at `(g + r)·step + offset` and f the two taps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub(super) step: isize,
    pub(super) offset: isize,
    pub(super) taps: [usize; 2],
}

impl Phase {
    /// Phase `p` (0 or 1) along `axis`. In a convolution it is the parity of the tap, and all phases add to
    /// the same output; in a transpose it is the parity of the output, which only the taps of one parity
    /// reach.
    pub(super) fn new(face: Face, g: &Geometry, axis: usize, p: usize) -> Self {
        if face == Face::Transpose {
            let Axis { tap, offset, .. } = Axis::transpose(g, axis, p);
            Self { step: 1, offset: offset - 1, taps: [tap + 2, tap] }
        } else {
            Self { step: 2, offset: p as isize - g.pad_low[axis] as isize, taps: [p, p + 2] }
        }
    }

    pub(super) fn source(&self, g: usize, r: usize) -> isize {
        (g + r) as isize * self.step + self.offset
    }
}

/// Phases along (height, width) of phase `index` of four.
pub(super) fn phases(face: Face, g: &Geometry, index: usize) -> [Phase; 2] {
    [Phase::new(face, g, 0, index / 2), Phase::new(face, g, 1, index % 2)]
}
