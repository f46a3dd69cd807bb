//! CPU twin of the matrix product for operands that are rounded to bfloat16.
//!
//! B lies packed in panels of [`LANES`] columns, its inner indices in pairs; A is rounded row by row. A piece
//! of work is a block of rows and columns of one output, made beside it. Where several blocks of rows
//! multiply by the same B, it is packed once for all of them.
//!
//! The order of every sum follows from k: a row has the same bits among any others.

use std::ops::Range;

use super::Gemm;
use super::beside::{self, COLUMNS};
use crate::epilogue::{Channels, Tail};
use crate::precision::Precision;
use crate::tasks::for_each_part;
use crate::tile::{self, LANES, WIDTH, bf16};

/// Rows of a piece.
const ROWS: usize = 64;
/// Inner indices multiplied in one go: such a panel of B fills the first-level cache.
const DEPTH: usize = 512;
/// Distance of rows of A, so that they fall into different cache sets.
const PITCH: usize = DEPTH + bf16::STEP;
/// Rounded rows of A, what is transposed or packed on the way, a panel of B, and sums.
const WORKER: [usize; 4] = [ROWS * PITCH / 2, ROWS * DEPTH, DEPTH / 2 * LANES, ROWS * COLUMNS];

/// Whether a product is made here: it is asked for, and vectors are filled.
pub(super) fn apply(gemm: &Gemm) -> bool {
    gemm.precision == Precision::Bf16 && gemm.n >= WIDTH && gemm.k >= WIDTH
}

fn tail(gemm: &Gemm) -> Tail {
    gemm.epilogue.tail(Channels::Columns)
}

/// Inner indices in whole steps.
fn depth(k: usize) -> usize {
    k.next_multiple_of(bf16::STEP)
}

/// Words of a B in panels.
pub(super) fn panels_len(gemm: &Gemm) -> usize {
    depth(gemm.k) / 2 * gemm.n.next_multiple_of(LANES)
}

/// As [`panels_len`], where several pieces share the panels; 0 where each packs its own.
fn shared_len(gemm: &Gemm) -> usize {
    let blocks = gemm.m.div_ceil(ROWS) * if gemm.batched_b { 1 } else { gemm.batch };
    if blocks >= 2 { panels_len(gemm) } else { 0 }
}

pub(super) fn scratch_len(gemm: &Gemm, threads: usize) -> usize {
    shared_len(gemm) + threads * (WORKER.iter().sum::<usize>() + tail(gemm).scratch_len()) + tile::ALIGN
}

/// The product; `kept` is B in panels, where somebody has it.
pub(super) fn run(
    gemm: &Gemm,
    inputs: &[&[f32]],
    kept: Option<&[f32]>,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let (shared, scratch) = tile::aligned(scratch).split_at_mut(shared_len(gemm));
    if kept.is_some() || shared.is_empty() {
        return multiply(gemm, inputs, 0, out, kept, scratch);
    }
    // One B after another, each for all that multiply by it.
    let products = if gemm.batched_b { 1 } else { gemm.batch };
    for (i, out) in out.chunks_mut(products * gemm.m * gemm.n).enumerate() {
        pack_all(gemm, gemm.operands(inputs, i)[1], shared);
        multiply(gemm, inputs, i * products, out, Some(shared), scratch);
    }
}

/// The products of `out`, from number `first` on; `panels` are those of the B of all of them.
fn multiply(
    gemm: &Gemm,
    inputs: &[&[f32]],
    first: usize,
    out: &mut [f32],
    panels: Option<&[f32]>,
    scratch: &mut [f32],
) {
    let own = WORKER.iter().sum::<usize>() - WORKER[3];
    let make = |batch, rows: Range<usize>, columns: Range<usize>, sums: &mut [f32], own: &mut [f32]| {
        piece(gemm, gemm.operands(inputs, batch), &rows, &columns, panels, sums, own);
    };
    beside::run(gemm, &tail(gemm), inputs, first, ROWS, out, scratch, own, make);
}

/// `sums`, rows of [`COLUMNS`], of a block.
fn piece(
    gemm: &Gemm,
    [a, b]: [&[f32]; 2],
    rows: &Range<usize>,
    columns: &Range<usize>,
    panels: Option<&[f32]>,
    sums: &mut [f32],
    scratch: &mut [f32],
) {
    let (rounded, scratch) = scratch.split_at_mut(WORKER[0]);
    let (plain, own) = scratch.split_at_mut(WORKER[1]);
    let rounded: &mut [u16] = bytemuck::cast_slice_mut(rounded);
    for k in depths(gemm) {
        round_rows(gemm, a, rows, &k, rounded, plain);
        for column in columns.clone().step_by(LANES) {
            let len = depth(k.len()) / 2 * LANES;
            let panel = match panels {
                Some(panels) => &panels[panel_at(gemm, &k, column)..][..len],
                None => {
                    pack(gemm, b, &k, column, &mut own[..len], plain);
                    &own[..len]
                }
            };
            let sums = &mut sums[column - columns.start..];
            let (depth, add) = (depth(k.len()), k.start > 0);
            bf16::product(rows.len(), depth, rounded, PITCH, bytemuck::cast_slice(panel), sums, COLUMNS, add);
        }
    }
}

/// The inner indices that are multiplied in one go, in order.
fn depths(gemm: &Gemm) -> impl Iterator<Item = Range<usize>> + use<> {
    let k = gemm.k;
    (0..k).step_by(DEPTH).map(move |first| first..k.min(first + DEPTH))
}

/// Rows of A over some inner indices, rounded, [`PITCH`] apart, zero up to a whole step.
fn round_rows(
    gemm: &Gemm,
    a: &[f32],
    rows: &Range<usize>,
    k: &Range<usize>,
    rounded: &mut [u16],
    plain: &mut [f32],
) {
    let (a, distance) = if gemm.trans_a {
        tile::transpose(k.len(), rows.len(), &a[k.start * gemm.m + rows.start..], gemm.m, plain, DEPTH);
        (&*plain, DEPTH)
    } else {
        (&a[rows.start * gemm.k + k.start..], gemm.k)
    };
    for (row, rounded) in rounded.chunks_exact_mut(PITCH).take(rows.len()).enumerate() {
        bf16::round(&a[row * distance..][..k.len()], &mut rounded[..k.len()]);
        rounded[k.len()..depth(k.len())].fill(0);
    }
}

/// Where the panel of inner indices `k` and columns from `column` on lies among all.
fn panel_at(gemm: &Gemm, k: &Range<usize>, column: usize) -> usize {
    k.start / 2 * gemm.n.next_multiple_of(LANES) + column * depth(k.len()) / 2
}

/// All panels of a B.
pub(super) fn pack_all(gemm: &Gemm, b: &[f32], panels: &mut [f32]) {
    let mut rest = panels;
    for k in depths(gemm) {
        let own;
        let len = depth(k.len()) / 2 * LANES;
        (own, rest) = rest.split_at_mut(len * gemm.n.div_ceil(LANES));
        for_each_part(own, len, 4 * len, |i, panel| {
            let mut plain = [0.0; PLAIN];
            pack(gemm, b, &k, i * LANES, panel, &mut plain);
        });
    }
}

/// Numbers of a panel of a transposed B that are turned together.
const PLAIN: usize = 64 * LANES;

/// Words `panel[q][j]` of B at the inner indices `k.start + 2q` and one more, and column `column + j`; zero
/// beyond B. `plain` has room for [`PLAIN`] numbers.
fn pack(gemm: &Gemm, b: &[f32], k: &Range<usize>, column: usize, panel: &mut [f32], plain: &mut [f32]) {
    let words: &mut [u32] = bytemuck::cast_slice_mut(panel);
    let lanes = LANES.min(gemm.n - column);
    if lanes < LANES || depth(k.len()) > k.len() {
        words.fill(0);
    }
    let zeros = [0.0; LANES];
    let pairs = words.chunks_exact_mut(LANES);
    if gemm.trans_b {
        let mut pairs = pairs;
        for first in k.clone().step_by(PLAIN / LANES) {
            let len = (PLAIN / LANES).min(k.end - first);
            tile::transpose(lanes, len, &b[column * gemm.k + first..], gemm.k, plain, LANES);
            for (rows, words) in plain[..len * LANES].chunks(2 * LANES).zip(&mut pairs) {
                let (first, second) = rows.split_at(LANES);
                let second = if second.is_empty() { &zeros } else { second };
                bf16::pair(&first[..lanes], &second[..lanes], &mut words[..lanes]);
            }
        }
    } else {
        for (q, words) in pairs.take(k.len().div_ceil(2)).enumerate() {
            let row = |k: usize| &b[k * gemm.n + column..][..lanes];
            let first = k.start + 2 * q;
            let second = if first + 1 < k.end { row(first + 1) } else { &zeros[..lanes] };
            bf16::pair(row(first), second, &mut words[..lanes]);
        }
    }
}
