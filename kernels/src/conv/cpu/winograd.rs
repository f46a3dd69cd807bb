//! Winograd F(2 × 2, 2 × 2): a 4 × 4 convolution at stride 2 is a sum over four phases of 2 × 2-tap convolutions at
//! stride 1, and two neighbouring outputs of such a pair of taps,
//!
//! `y₀ = d₀f₀ + d₁f₁`, `y₁ = d₁f₀ + d₂f₁`, are `Aᵀ[(G f) ∘ (Bᵀ d)]` with three products in place of four, from
//! Bᵀ = [1 −1 0; 0 1 0; 0 1 −1], G = [1 0; 1 1; 0 1], Aᵀ = [1 1 0; 0 1 −1].
//!
//! In two dimensions each map is applied along both axes: 9 products in place of 16. The weight gradient is the
//! adjoint in f: `Gᵀ[(A y) ∘ (Bᵀ d)]`. Coefficients are 0 and ±1, so the transforms round only in additions.

use super::super::{Face, Geometry};
use super::Axis;
use crate::tile::WIDTH;

/// Products of one tile.
pub(super) const PRODUCTS: usize = 9;

/// Lanes of one vector.
pub(super) type Vector = [f32; WIDTH];

#[inline(always)]
fn add<const N: usize>(a: [f32; N], b: [f32; N]) -> [f32; N] {
    std::array::from_fn(|i| a[i] + b[i])
}

#[inline(always)]
fn sub<const N: usize>(a: [f32; N], b: [f32; N]) -> [f32; N] {
    std::array::from_fn(|i| a[i] - b[i])
}

/// Applies a map along the rows and then along the columns of a tile.
#[inline(always)]
fn both<V: Copy, const I: usize, const O: usize>(
    tile: [[V; I]; I],
    map: impl Fn([V; I]) -> [V; O],
) -> [[V; O]; O] {
    let rows = tile.map(&map);
    let columns: [[V; O]; O] = std::array::from_fn(|j| map(std::array::from_fn(|i| rows[i][j])));
    std::array::from_fn(|i| std::array::from_fn(|j| columns[j][i]))
}

/// Bᵀ d B.
#[inline(always)]
pub(super) fn data(d: [[Vector; 3]; 3]) -> [[Vector; 3]; 3] {
    both(d, |[a, b, c]| [sub(a, b), b, sub(b, c)])
}

/// G f Gᵀ.
#[inline(always)]
pub(super) fn filter<const N: usize>(f: [[[f32; N]; 2]; 2]) -> [[[f32; N]; 3]; 3] {
    both(f, |[a, b]| [a, add(a, b), b])
}

/// Aᵀ m A.
#[inline(always)]
pub(super) fn output(m: [[Vector; 3]; 3]) -> [[Vector; 2]; 2] {
    both(m, |[a, b, c]| [add(a, b), sub(b, c)])
}

/// A y Aᵀ.
#[inline(always)]
pub(super) fn output_gradient(y: [[Vector; 2]; 2]) -> [[Vector; 3]; 3] {
    both(y, |[a, b]| [a, add(a, b), b.map(|b| -b)])
}

/// Gᵀ u G.
#[inline(always)]
pub(super) fn filter_gradient<const N: usize>(u: [[[f32; N]; 3]; 3]) -> [[[f32; N]; 2]; 2] {
    both(u, |[a, b, c]| [add(a, b), add(b, c)])
}

/// One axis of one phase: output p of the tile at grid position g is `d_p·f₀ + d_{p+1}·f₁` with d_r the source at
/// `(g + r)·step + offset` and f the two taps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub(super) step: isize,
    pub(super) offset: isize,
    pub(super) taps: [usize; 2],
}

impl Phase {
    /// Phase `p` (0 or 1) along `axis`. In a convolution it is the parity of the tap, and all phases add to the
    /// same output; in a transpose it is the parity of the output, which only the taps of one parity reach.
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
