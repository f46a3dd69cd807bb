//! CPU twin of the matrix product.
//!
//! A piece of work is a block of rows of one output. B is copied (or transposed) a panel of [`LANES`] columns and
//! [`DEPTH`] inner indices at a time; A is broadcast from where it lies, transposed or not.

use super::Gemm;
use crate::conv::cpu::share;
use crate::conv::epilogue::{Channels, Tail};
use crate::half;
use crate::tile::{self, ALIGN, LANES, ROWS};

/// Rows of a piece: enough to pay for its copy of B.
const BLOCK: usize = 32;
/// Inner indices multiplied in one go: such a panel of B fills the first-level cache.
const DEPTH: usize = 256;
/// Outputs of a piece of a matrix-vector product.
const VECTOR: usize = 256;
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
    let vector = m == 1 || n == 1;
    let block = if vector { VECTOR } else { BLOCK * n };
    let pieces = outputs[0].chunks_mut(m * n).enumerate().flat_map(|(batch, out)| {
        out.chunks_mut(block).enumerate().map(move |(i, out)| (batch, i * block, out))
    });
    share(pieces, tile::aligned(scratch), worker_len, |(batch, first, out), scratch| {
        let (scratch, tail_scratch) = scratch.split_at_mut(WORKER_LEN);
        if vector {
            matrix_vector(gemm, inputs, batch, first, out);
        } else {
            rows(gemm, inputs, batch, first / n, out, scratch);
        }
        // The outputs of one column are a row of its channel.
        let (lanes, channel) = if vector { (out.len(), if n == 1 { 0 } else { first }) } else { (n, 0) };
        tail.apply(out, lanes, operands, batch * m * n + first, channel, tail_scratch);
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

/// Rows `row..` of one product.
fn rows(gemm: &Gemm, inputs: &[&[f32]], batch: usize, row: usize, out: &mut [f32], scratch: &mut [f32]) {
    let &Gemm { n, k, .. } = gemm;
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
            pack(gemm, b, k.clone(), column, panel);
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

/// `panel[i][j] = B[k.start + i][column + j]`, zero after the last column.
fn pack(gemm: &Gemm, b: &[f32], k: std::ops::Range<usize>, column: usize, panel: &mut [f32]) {
    let lanes = LANES.min(gemm.n - column);
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

/// Outputs `first..` of a product whose output is one row or one column.
fn matrix_vector(gemm: &Gemm, inputs: &[&[f32]], batch: usize, first: usize, out: &mut [f32]) {
    let &Gemm { m, n, k, trans_b, .. } = gemm;
    let [a, b] = gemm.operands(inputs, batch);
    let (a_row, a_column) = gemm.steps_a();
    let (b_row, b_column) = if trans_b { (1, k) } else { (n, 1) };
    // The matrix as rows that give an output each, and the vector.
    let (matrix, steps, vector, vector_step) = if n == 1 && m > 1 {
        (&a[first * a_row..], (a_row, a_column), b, b_row)
    } else {
        (&b[first * b_column..], (b_column, b_row), a, a_column)
    };
    // SAFETY: the matrix has at least `out.len()` rows of k from its first element with these steps, since `first`
    // and `out` are a range of its rows; the vector has k elements; out is exclusive.
    unsafe {
        ::gemm::gemm(
            out.len(),
            1,
            k,
            out.as_mut_ptr(),
            out.len() as isize,
            1,
            false,
            matrix.as_ptr(),
            steps.1 as isize,
            steps.0 as isize,
            vector.as_ptr(),
            1,
            vector_step as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            ::gemm::Parallelism::None,
        );
    }
}
