//! CPU twin of the matrix product.
//!
//! A piece of work is a block of rows of one output, or a part of its only row. B is copied (or transposed) a
//! panel of [`LANES`] columns and [`DEPTH`] inner indices at a time; A is broadcast from where it lies,
//! transposed or not. A single column would leave lanes empty and is made of scalar products.
//!
//! The order of every sum follows from n, k and the forms of A and B: a row, which may be an image of a
//! batch, has the same bits among any others.

use super::Gemm;
use crate::epilogue::{Channels, Tail};
use crate::half;
use crate::lanes;
use crate::tasks::share;
use crate::tile::{self, ALIGN, LANES, ROWS};

/// Rows of a piece: enough to pay for its copy of B.
const BLOCK: usize = 32;
/// Inner indices multiplied in one go: such a panel of B fills the first-level cache.
const DEPTH: usize = 256;
/// Outputs of a piece of a single row or column: whole panels.
const LINE: usize = 8 * LANES;
/// A panel of B, rows of A padded to a whole tile, and a tile of outputs.
const WORKER: [usize; 3] = [DEPTH * LANES, ROWS * DEPTH, BLOCK * LANES];
const WORKER_LEN: usize = WORKER[0] + WORKER[1] + WORKER[2];

/// The tail, for outputs as they are made: a single column is one channel.
fn tail(gemm: &Gemm) -> Tail {
    gemm.epilogue.tail(if gemm.n == 1 { Channels::Rows } else { Channels::Columns })
}

/// The same product with B in f32.
fn of_f32(gemm: &Gemm) -> Gemm {
    Gemm { half_b: false, ..gemm.clone() }
}

pub(super) fn scratch_len(gemm: &Gemm, threads: usize) -> usize {
    if gemm.half_b {
        return gemm.b_len() + scratch_len(&of_f32(gemm), threads);
    }
    threads * (WORKER_LEN + tail(gemm).scratch_len()) + ALIGN
}

pub(super) fn run(gemm: &Gemm, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
    if gemm.half_b {
        return half::unpacked(gemm.b_len(), inputs, scratch, |inputs, scratch| {
            run(&of_f32(gemm), inputs, outputs, scratch);
        });
    }
    let &Gemm { m, n, .. } = gemm;
    let (tail, operands) = (tail(gemm), &inputs[2..]);
    let worker_len = WORKER_LEN + tail.scratch_len();
    let line = m == 1 || n == 1;
    let block = if line { LINE } else { BLOCK * n };
    let pieces = outputs[0].chunks_mut(m * n).enumerate().flat_map(|(batch, out)| {
        out.chunks_mut(block).enumerate().map(move |(i, out)| (batch, i * block, out))
    });
    share(pieces, tile::aligned(scratch), worker_len, |(batch, first, out), scratch| {
        let (scratch, tail_scratch) = scratch.split_at_mut(WORKER_LEN);
        // The outputs of one column are a row of its channel.
        let (width, channel) = match (m, n) {
            (_, 1) => (out.len(), 0),
            (1, _) => (out.len(), first),
            _ => (n, 0),
        };
        match (m, n) {
            (_, 1) => column(gemm, inputs, batch, first, out),
            _ => rows(gemm, inputs, batch, first / n, channel, width, out, scratch),
        }
        tail.apply(out, width, operands, batch * m * n + first, channel, tail_scratch);
    });
}

impl Gemm {
    /// A and B of one batch.
    fn operands<'a>(&self, inputs: &[&'a [f32]], batch: usize) -> [&'a [f32]; 2] {
        let (a, b) = (self.m * self.k, self.k * self.n);
        [
            &inputs[0][if self.batched_a { batch * a } else { 0 }..][..a],
            &inputs[1][if self.batched_b { batch * b } else { 0 }..][..b],
        ]
    }

    /// Distances between rows and between inner indices of A.
    fn steps_a(&self) -> (usize, usize) {
        if self.trans_a { (1, self.m) } else { (self.k, 1) }
    }
}

/// Rows `row..` of one product, `n` columns of each from `first_column` on.
fn rows(
    gemm: &Gemm,
    inputs: &[&[f32]],
    batch: usize,
    row: usize,
    first_column: usize,
    n: usize,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let k = gemm.k;
    let [a, b] = gemm.operands(inputs, batch);
    let (row_step, depth_step) = gemm.steps_a();
    let (panel, scratch) = scratch.split_at_mut(WORKER[0]);
    let (edge, tile) = scratch.split_at_mut(WORKER[1]);
    let count = out.len() / n;
    let whole = count / ROWS * ROWS;
    for k in (0..k).step_by(DEPTH).map(|first| first..k.min(first + DEPTH)) {
        let (depth, add) = (k.len(), k.start > 0);
        let a = &a[row * row_step + k.start * depth_step..];
        for r in whole..count {
            for i in 0..depth {
                edge[(r - whole) * depth + i] = a[r * row_step + i * depth_step];
            }
        }
        for column in (0..n).step_by(LANES) {
            let lanes = LANES.min(n - column);
            pack(gemm, b, k.clone(), first_column + column, lanes, panel);
            if lanes == LANES {
                tile::product(whole, depth, a, row_step, depth_step, panel, &mut out[column..], n, add);
            } else {
                tile::product(whole, depth, a, row_step, depth_step, panel, tile, LANES, false);
            }
            if whole < count {
                tile::product(ROWS, depth, edge, depth, 1, panel, &mut tile[whole * LANES..], LANES, false);
            }
            let from_tile = if lanes == LANES { whole } else { 0 };
            for (out, tile) in out.chunks_exact_mut(n).zip(tile.chunks_exact(LANES)).skip(from_tile) {
                let out = out[column..][..lanes].iter_mut().zip(tile);
                if add {
                    out.for_each(|(out, sum)| *out += sum);
                } else {
                    out.for_each(|(out, sum)| *out = *sum);
                }
            }
        }
    }
}

/// `panel[i][j] = B[k.start + i][column + j]` for j < `lanes`, zero after them.
fn pack(gemm: &Gemm, b: &[f32], k: std::ops::Range<usize>, column: usize, lanes: usize, panel: &mut [f32]) {
    let panel = &mut panel[..k.len() * LANES];
    if lanes < LANES {
        panel.fill(0.0);
    }
    if gemm.trans_b {
        tile::transpose(lanes, k.len(), &b[column * gemm.k + k.start..], gemm.k, panel, LANES);
    } else {
        for (panel, k) in panel.chunks_exact_mut(LANES).zip(k) {
            panel[..lanes].copy_from_slice(&b[k * gemm.n + column..][..lanes]);
        }
    }
}

/// Outputs `first..` of a product with a single column.
fn column(gemm: &Gemm, inputs: &[&[f32]], batch: usize, first: usize, out: &mut [f32]) {
    let [a, b] = gemm.operands(inputs, batch);
    if gemm.trans_a {
        out.fill(0.0);
        for (a, &b) in a.chunks_exact(gemm.m).zip(b) {
            lanes::add_scaled(out, b, &a[first..]);
        }
    } else {
        let a = a[first * gemm.k..].chunks_exact(gemm.k);
        out.iter_mut().zip(a).for_each(|(out, a)| *out = lanes::dot(a, b));
    }
}
