//! CPU twin of the matrix product.
//!
//! B lies packed in panels of [`LANES`] columns and [`DEPTH`] inner indices; A is packed in tiles of [`ROWS`]
//! rows, so that what one step of a tile broadcasts lies side by side. A piece of work is a block of rows of
//! one output, or of its columns where there are few rows. Where several blocks of rows multiply by the same
//! B, it is packed once for all of them, else each piece packs a panel at a time. A single row multiplies by
//! B where it lies; a single column would leave lanes empty and is made of scalar products.
//!
//! The order of every sum follows from n, k and the forms of A and B: a row, which may be an image of a
//! batch, has the same bits among any others.

use std::ops::Range;

use super::beside::{self, COLUMNS};
use super::{Gemm, pairs};
use crate::epilogue::{Channels, Tail};
use crate::half;
use crate::lanes;
use crate::tasks::{for_each_part, share};
use crate::tile::{self, ALIGN, LANES, Order, ROWS};

/// Rows of a piece: enough to pay for reading the panels of B, few enough for all threads to have some.
const BLOCK: usize = 64;
/// Elements of a slab of B: it stays in the second-level cache while all rows are multiplied by it.
const SLAB: usize = 1 << 18;
/// Inner indices multiplied in one go: such a panel of B fills the first-level cache.
const DEPTH: usize = 256;
/// Outputs of a piece of a single row or column: whole panels.
const LINE: usize = 8 * LANES;
/// Columns from which on packing A costs less than reading rows that lie far apart.
const PACK_FROM: usize = 4 * LANES;
/// Pieces wanted at least: where blocks of rows are fewer, columns are cut as well.
const PIECES: usize = 4;
/// A panel of B, rows of A in whole tiles, a tile of outputs, and a block of them.
const WORKER: [usize; 4] = [DEPTH * LANES, BLOCK * DEPTH, BLOCK * LANES, BLOCK * COLUMNS];
const WORKER_LEN: usize = WORKER[0] + WORKER[1] + WORKER[2] + WORKER[3];

/// The tail, for outputs as they are made: a single column is one channel.
fn tail(gemm: &Gemm) -> Tail {
    gemm.epilogue.tail(if gemm.n == 1 { Channels::Rows } else { Channels::Columns })
}

/// The same product with B in f32.
fn of_f32(gemm: &Gemm) -> Gemm {
    Gemm { half_b: false, ..gemm.clone() }
}

/// Elements of a B in panels.
fn panels_len(gemm: &Gemm) -> usize {
    gemm.k * gemm.n.next_multiple_of(LANES)
}

/// Elements of B in panels for who keeps them; 0 where they are not multiplied by, or there are several B.
pub(super) fn weights_len(gemm: &Gemm) -> usize {
    match gemm.n == 1 || gemm.batched_b || gemm.half_b {
        true => 0,
        false if pairs::apply(gemm) => pairs::panels_len(gemm),
        false => panels_len(gemm),
    }
}

/// Whether blocks of rows and columns are made, where blocks of rows alone would be too few.
fn in_columns(gemm: &Gemm, products: usize) -> bool {
    let &Gemm { m, n, .. } = gemm;
    m > 1 && n > 1 && products * m.div_ceil(BLOCK) < PIECES && n >= 2 * COLUMNS
}

/// Products that multiply by the same B.
fn of_one_b(gemm: &Gemm) -> usize {
    if gemm.batched_b { 1 } else { gemm.batch }
}

/// Inner indices of a slab of B that is packed for several pieces.
fn slab(gemm: &Gemm) -> usize {
    if in_columns(gemm, of_one_b(gemm)) {
        return gemm.k;
    }
    DEPTH * (SLAB / (DEPTH * gemm.n.next_multiple_of(LANES))).max(1)
}

/// Elements of a slab of B in panels, where several pieces share them; 0 where each packs its own.
fn shared_len(gemm: &Gemm) -> usize {
    let &Gemm { batch, m, n, k, batched_b, .. } = gemm;
    let blocks = m.div_ceil(BLOCK);
    // With a B for each product the threads meet after each of them, which a few blocks do not pay for.
    let pays = if batched_b && batch > 1 { blocks >= 8 } else { blocks * batch >= 2 };
    if m > 1 && n > 1 && pays { slab(gemm).min(k) * n.next_multiple_of(LANES) } else { 0 }
}

pub(super) fn scratch_len(gemm: &Gemm, threads: usize) -> usize {
    if gemm.half_b {
        return gemm.b_len() + scratch_len(&of_f32(gemm), threads);
    }
    if pairs::apply(gemm) {
        return pairs::scratch_len(gemm, threads);
    }
    shared_len(gemm) + threads * (WORKER_LEN + tail(gemm).scratch_len()) + ALIGN
}

/// The product; `kept` is B in panels, where somebody has it.
pub(super) fn run(
    gemm: &Gemm,
    inputs: &[&[f32]],
    kept: Option<&[f32]>,
    outputs: &mut [&mut [f32]],
    scratch: &mut [f32],
) {
    if gemm.half_b {
        return half::unpacked(gemm.b_len(), inputs, scratch, |inputs, scratch| {
            run(&of_f32(gemm), inputs, None, outputs, scratch);
        });
    }
    if pairs::apply(gemm) {
        return pairs::run(gemm, inputs, kept, outputs[0], scratch);
    }
    let &Gemm { m, n, k, .. } = gemm;
    let (shared, scratch) = tile::aligned(scratch).split_at_mut(shared_len(gemm));
    if kept.is_some() || shared.is_empty() {
        return multiply(gemm, inputs, 0, 0..k, outputs[0], kept, scratch);
    }
    // One B after another, slab by slab, each for all that multiply by it.
    let (products, slab) = (of_one_b(gemm), slab(gemm));
    for (i, out) in outputs[0].chunks_mut(products * m * n).enumerate() {
        for k in (0..k).step_by(slab).map(|first| first..k.min(first + slab)) {
            pack_slab(gemm, gemm.operands(inputs, i)[1], &k, shared);
            multiply(gemm, inputs, i * products, k, out, Some(shared), scratch);
        }
    }
}

/// The products of `out`, from number `first` on, over the inner indices `k`, which are added to what came
/// before; `shared` is these of the B of all of them, packed.
fn multiply(
    gemm: &Gemm,
    inputs: &[&[f32]],
    first: usize,
    k: Range<usize>,
    out: &mut [f32],
    shared: Option<&[f32]>,
    scratch: &mut [f32],
) {
    let &Gemm { m, n, .. } = gemm;
    let (tail, operands) = (tail(gemm), &inputs[2..]);
    let worker_len = WORKER_LEN + tail.scratch_len();
    if in_columns(gemm, out.len() / (m * n)) {
        let own = WORKER_LEN - WORKER[3];
        let make = |batch, lines: Range<usize>, columns, sums: &mut [f32], own: &mut [f32]| {
            rows(gemm, inputs, batch, lines.start, columns, k.clone(), sums, COLUMNS, shared, own);
        };
        return beside::run(gemm, &tail, inputs, first, BLOCK, out, scratch, own, make);
    }
    let block = if m == 1 || n == 1 { LINE } else { BLOCK * n };
    let pieces = out.chunks_mut(m * n).enumerate().flat_map(|(batch, out)| {
        out.chunks_mut(block).enumerate().map(move |(i, out)| (first + batch, i * block, out))
    });
    share(pieces, scratch, worker_len, |(batch, first, out), scratch| {
        let (scratch, tail_scratch) = scratch.split_at_mut(WORKER_LEN);
        // The outputs of one column are a row of its channel.
        let (width, channel) = match (m, n) {
            (_, 1) => (out.len(), 0),
            (1, _) => (out.len(), first),
            _ => (n, 0),
        };
        match (m, n) {
            (_, 1) => column(gemm, inputs, batch, first, out),
            (1, _) => single_row(gemm, inputs, batch, first, out, shared, scratch),
            _ => rows(gemm, inputs, batch, first / n, 0..n, k.clone(), out, n, shared, scratch),
        }
        if k.end == gemm.k {
            tail.apply(out, width, operands, batch * m * n + first, channel, tail_scratch);
        }
    });
}

impl Gemm {
    /// A and B of one batch.
    pub(super) fn operands<'a>(&self, inputs: &[&'a [f32]], batch: usize) -> [&'a [f32]; 2] {
        let (a, b) = (self.m * self.k, self.k * self.n);
        [
            &inputs[0][if self.batched_a { batch * a } else { 0 }..][..a],
            &inputs[1][if self.batched_b { batch * b } else { 0 }..][..b],
        ]
    }

    /// How A lies.
    fn order_a(&self) -> Order {
        if self.trans_a { Order::Columns(self.m) } else { Order::Rows(self.k) }
    }
}

/// The inner indices of `k` that are multiplied in one go, in order.
fn depths(k: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = k.end;
    k.step_by(DEPTH).map(move |first| first..end.min(first + DEPTH))
}

/// Rows `row..` of one product, the columns of `wanted` and the inner indices of `slab`, into rows of `out`
/// that are `ldc` apart; what is not the first slab is added to them.
fn rows(
    gemm: &Gemm,
    inputs: &[&[f32]],
    batch: usize,
    row: usize,
    wanted: Range<usize>,
    slab: Range<usize>,
    out: &mut [f32],
    ldc: usize,
    shared: Option<&[f32]>,
    scratch: &mut [f32],
) {
    let [a, b] = gemm.operands(inputs, batch);
    let order = gemm.order_a();
    let (own, scratch) = scratch.split_at_mut(WORKER[0]);
    let (tiles, edge) = scratch.split_at_mut(WORKER[1]);
    let count = out.len() / ldc;
    let whole = count / ROWS * ROWS;
    // Rows that are read where they lie; the others are packed.
    let direct = if gemm.n < PACK_FROM { whole } else { 0 };
    for k in depths(slab.clone()) {
        let (depth, add) = (k.len(), k.start > 0);
        let a = &a[order.at(row, k.start)..];
        for first in (direct..count).step_by(ROWS) {
            let tile = &mut tiles[(first - direct) * depth..][..ROWS * depth];
            pack_rows(&a[order.at(first, 0)..], ROWS.min(count - first), order, tile);
        }
        let panel_of =
            |column| shared.map(|shared| &shared[panel_at(gemm, &slab, &k, column)..][..depth * LANES]);
        for column in wanted.clone().step_by(LANES) {
            let lanes = LANES.min(wanted.end - column);
            let at = column - wanted.start;
            let panel = match panel_of(column) {
                Some(panel) => panel,
                None => {
                    pack(gemm, b, k.clone(), column, lanes, own);
                    &own[..depth * LANES]
                }
            };
            // Each tile fetches its share of the panel after this one.
            let next = if column + LANES < wanted.end { panel_of(column + LANES) } else { None };
            let tiles_of_panel = (count - direct).div_ceil(ROWS).max(1);
            let share = (depth * LANES).div_ceil(tiles_of_panel).next_multiple_of(ALIGN);
            let mut shares = next.unwrap_or_default().chunks(share);
            // Where a whole tile does not fit into the outputs, it is made beside them.
            let in_place = if lanes == LANES { whole } else { 0 };
            let mut product = |rows: usize, a: &[f32], order: Order, first: usize| {
                let next = shares.next().unwrap_or_default();
                if first < in_place {
                    let out = &mut out[first * ldc + at..];
                    tile::product_ahead(rows, depth, a, order, panel, out, ldc, add, next);
                } else {
                    let out = &mut edge[first * LANES..];
                    tile::product_ahead(rows, depth, a, order, panel, out, LANES, false, next);
                }
            };
            if direct > 0 {
                product(direct, a, order, 0);
            }
            for first in (direct..count).step_by(ROWS) {
                product(ROWS, &tiles[(first - direct) * depth..], Order::Columns(ROWS), first);
            }
            for (out, tile) in out.chunks_exact_mut(ldc).zip(edge.chunks_exact(LANES)).skip(in_place) {
                let out = out[at..][..lanes].iter_mut().zip(tile);
                if add {
                    out.for_each(|(out, sum)| *out += sum);
                } else {
                    out.for_each(|(out, sum)| *out = *sum);
                }
            }
        }
    }
}

/// Outputs `first..` of a product with a single row.
fn single_row(
    gemm: &Gemm,
    inputs: &[&[f32]],
    batch: usize,
    first: usize,
    out: &mut [f32],
    shared: Option<&[f32]>,
    own: &mut [f32],
) {
    let [a, b] = gemm.operands(inputs, batch);
    for k in depths(0..gemm.k) {
        let (a, add) = (&a[k.clone()], k.start > 0);
        if shared.is_none() && !gemm.trans_b {
            tile::product_row(a, &b[k.start * gemm.n + first..], gemm.n, out, add);
            continue;
        }
        for (i, out) in out.chunks_mut(LANES).enumerate() {
            let column = first + i * LANES;
            let panel = match shared {
                Some(shared) => &shared[panel_at(gemm, &(0..gemm.k), &k, column)..],
                None => {
                    pack(gemm, b, k.clone(), column, out.len(), own);
                    &*own
                }
            };
            tile::product_row(a, panel, LANES, out, add);
        }
    }
}

/// `tile[k][r] = a[r][k]` for r < `rows`, zero after them.
fn pack_rows(a: &[f32], rows: usize, order: Order, tile: &mut [f32]) {
    if rows < ROWS {
        tile.fill(0.0);
    }
    match order {
        Order::Rows(pitch) => tile::transpose(rows, tile.len() / ROWS, a, pitch, tile, ROWS),
        Order::Columns(pitch) => {
            for (tile, a) in tile.chunks_exact_mut(ROWS).zip(a.chunks(pitch)) {
                tile[..rows].copy_from_slice(&a[..rows]);
            }
        }
    }
}

/// Where the panel of inner indices `k` and columns from `column` on lies among those of `slab`.
fn panel_at(gemm: &Gemm, slab: &Range<usize>, k: &Range<usize>, column: usize) -> usize {
    (k.start - slab.start) * gemm.n.next_multiple_of(LANES) + column * k.len()
}

/// All panels of a B.
pub(super) fn pack_all(gemm: &Gemm, b: &[f32], panels: &mut [f32]) {
    if pairs::apply(gemm) {
        return pairs::pack_all(gemm, b, panels);
    }
    pack_slab(gemm, b, &(0..gemm.k), panels);
}

/// The panels of the inner indices `slab` of a B.
fn pack_slab(gemm: &Gemm, b: &[f32], slab: &Range<usize>, panels: &mut [f32]) {
    let mut rest = panels;
    for k in depths(slab.clone()) {
        let own;
        (own, rest) = rest.split_at_mut(k.len() * gemm.n.next_multiple_of(LANES));
        let len = k.len() * LANES;
        for_each_part(own, len, 2 * len, |i, panel| {
            let column = i * LANES;
            pack(gemm, b, k.clone(), column, LANES.min(gemm.n - column), panel);
        });
    }
}

/// `panel[i][j] = B[k.start + i][column + j]` for j < `lanes`, zero after them.
fn pack(gemm: &Gemm, b: &[f32], k: Range<usize>, column: usize, lanes: usize, panel: &mut [f32]) {
    let panel = &mut panel[..k.len() * LANES];
    if lanes < LANES {
        panel.fill(0.0);
    }
    if gemm.trans_b {
        tile::transpose(lanes, k.len(), &b[column * gemm.k + k.start..], gemm.k, panel, LANES);
    } else {
        for (panel, k) in panel.as_chunks_mut::<LANES>().0.iter_mut().zip(k) {
            let b = &b[k * gemm.n + column..][..lanes];
            match b.as_array() {
                // Of a known length: no call for a few numbers.
                Some(b) => *panel = *b,
                None => panel[..lanes].copy_from_slice(b),
            }
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
