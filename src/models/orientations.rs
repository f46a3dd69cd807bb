//! Orientations of edges, a description that is not learned: histograms of oriented gradients (Dalal &
//! Triggs, *Histograms of Oriented Gradients for Human Detection*, CVPR 2005).
//!
//! | | formula |
//! |---|---|
//! | gradients | g_x = x(i, j + 1) − x(i, j − 1), g_y likewise, the border repeated; of each channel by itself |
//! | orientations | o_k = max(0, g_x·cos θ_k + g_y·sin θ_k), θ_k = 2π·k / 8 |
//! | cells | h_k = mean of o_k over 8×8 pixels, 4 pixels from one to the next, nothing beyond the border |
//! | of a place | h / √(‖h‖² + 0.1²) |
//! | of a sample | all h, divided by the root of the sum of their squares |
//!
//! The paper shares a gradient out among the two nearest of nine orientations without sign, and the cells
//! around it; here each orientation takes its cosine, which has no steps either.

use crate::tape::{Padding, PoolOptions, Tensor};

/// Orientations of a channel.
pub const COUNT: usize = 8;
/// Pixels from one cell to the next; a cell is twice as wide.
pub const STEP: usize = 4;
/// What the norm of a place has added, so that noise where nothing is stays small.
const FLOOR: f32 = 0.1;

/// `[n, c, h, w]` → `[n, COUNT · c, ⌈h / STEP⌉, ⌈w / STEP⌉]`, all channels of one orientation together.
pub fn orientations(x: Tensor<'_>) -> Tensor<'_> {
    let s = x.shape();
    let along = |axis: usize| {
        let border: Vec<usize> = (0..4).map(|d| usize::from(d == axis)).collect();
        let wide = x.pad_with(&border, &border, Padding::Edge);
        wide.narrow(axis, 2, s[axis]) - wide.narrow(axis, 0, s[axis])
    };
    let (down, across) = (along(2), along(3));
    let turned = (0..COUNT).map(|k| {
        let (sin, cos) = (std::f64::consts::TAU * k as f64 / COUNT as f64).sin_cos();
        (across * cos as f32 + down * sin as f32).relu()
    });
    let low = STEP / 2;
    let high = [s[2], s[3]].map(|side| side.next_multiple_of(STEP) + low - side);
    let cells = PoolOptions { pad_high: high, ..PoolOptions::new([2 * STEP; 2], [STEP; 2], [low; 2]) };
    Tensor::concat(&turned.collect::<Vec<_>>(), 1).avg_pool2d(cells)
}

/// Rows `[n · places, COUNT · c]`, the description of each place.
pub fn places(x: Tensor<'_>) -> Tensor<'_> {
    let cells = orientations(x);
    let s = cells.shape();
    let rows = cells.permute(&[0, 2, 3, 1]).reshape(&[s[0] * s[2] * s[3], s[1]]);
    rows / (rows.square().sum(&[1]) + FLOOR * FLOOR).sqrt()
}

/// Rows `[n, COUNT · c · places]`, the description of each sample.
pub fn samples(x: Tensor<'_>) -> Tensor<'_> {
    let cells = orientations(x);
    let rows = cells.reshape(&[x.shape()[0], cells.len() / x.shape()[0]]);
    // An image of one colour has no edges.
    rows / (rows.square().sum(&[1]) + 1e-12).sqrt()
}
