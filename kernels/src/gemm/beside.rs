//! Products in blocks of rows and columns that are made beside their output: how few rows keep all threads
//! busy.

use std::ops::Range;

use super::Gemm;
use crate::epilogue::Tail;
use crate::tasks::{Shared, blocks, share};
use crate::tile::LANES;

/// Columns of a block: whole panels.
pub(super) const COLUMNS: usize = 16 * LANES;

/// The products of `out`, from number `first` on. `make` is given the number of a product, rows and columns
/// of a block, [`COLUMNS`]-wide rows for its sums, and `len` elements of scratch; a worker has `rows` ·
/// [`COLUMNS`] elements more, and what the tail needs.
pub(super) fn run(
    gemm: &Gemm,
    tail: &Tail,
    inputs: &[&[f32]],
    first: usize,
    rows: usize,
    out: &mut [f32],
    scratch: &mut [f32],
    len: usize,
    make: impl Fn(usize, Range<usize>, Range<usize>, &mut [f32], &mut [f32]) + Sync,
) {
    let &Gemm { m, n, .. } = gemm;
    let products = out.len() / (m * n);
    let (out, sums_len) = (Shared::new(out), rows * COLUMNS);
    let pieces = blocks(products, [m, rows], [n, COLUMNS]);
    share(pieces, scratch, len + sums_len + tail.scratch_len(), |(product, lines, columns), scratch| {
        let (own, scratch) = scratch.split_at_mut(len);
        let (sums, tail_scratch) = scratch.split_at_mut(sums_len);
        make(first + product, lines.clone(), columns.clone(), &mut sums[..lines.len() * COLUMNS], own);
        for (row, sums) in lines.zip(sums.chunks_exact(COLUMNS)) {
            let at = (product * m + row) * n + columns.start;
            // SAFETY: pieces are disjoint blocks, and a task holds one row of its own at a time.
            let out = unsafe { out.part(at..at + columns.len()) };
            out.copy_from_slice(&sums[..columns.len()]);
            tail.apply(out, columns.len(), &inputs[2..], first * m * n + at, columns.start, tail_scratch);
        }
    });
}
