//! CPU twin of `copy.wgsl`: every part as planes `[rows, columns]`, columns along the output's smallest
//! stride and rows along the input's, so that both sides are walked by cache lines.

use super::{Copy, CopyPart};
use crate::family::Family;
use crate::layout::{numel, offset};
use crate::space::merge;
use crate::tasks::{Shared, TASK, for_each_task};
use rayon::prelude::*;

/// Slot of a thread; nothing is kept there.
pub(super) const SLOT: usize = 1;

/// Side of the squares in which a transposition is walked.
const TILE: usize = 16;

pub(super) fn run(k: &Copy, inputs: &[&[f32]], out: &mut [f32], scratch: &mut [f32]) {
    // Parallel writes rely on every index being written once.
    assert_eq!(k.check(), Ok(()));
    let covered: usize = k.parts.iter().map(|p| numel(&p.shape)).sum();
    if k.zero && covered < out.len() {
        out.par_chunks_mut(TASK).for_each(|chunk| chunk.fill(0.0));
    }
    let out = Shared::new(out);
    for (part, input) in k.parts.iter().zip(inputs) {
        copy_part(part, input, &out, scratch);
    }
}

/// Size, output stride and input stride of one dimension.
#[derive(Clone, Copy)]
struct Dim {
    size: usize,
    dst: usize,
    src: usize,
}

const ONE: Dim = Dim { size: 1, dst: 0, src: 0 };

fn copy_part(part: &CopyPart, input: &[f32], out: &Shared<'_, f32>, scratch: &mut [f32]) {
    // Outermost first by output stride, then neighbours merged.
    let mut order: Vec<usize> = (0..part.shape.len()).collect();
    order.sort_by_key(|&d| std::cmp::Reverse(part.dst_strides[d]));
    let sorted = |v: &[usize]| order.iter().map(|&d| v[d]).collect::<Vec<_>>();
    let (dst, src) = (sorted(&part.dst_strides), sorted(&part.src_strides));
    let (shape, strides, _) = merge(&sorted(&part.shape), &[&dst, &src], &vec![false; dst.len()]);
    let mut dims: Vec<Dim> =
        (0..shape.len()).map(|d| Dim { size: shape[d], dst: strides[0][d], src: strides[1][d] }).collect();
    let columns = dims.pop().unwrap_or(ONE);
    // A transposition takes the input's contiguous dimension as rows, any other copy the next one out.
    let along = dims.iter().position(|d| d.src == 1 && columns.src != 1);
    let rows = along.map(|d| dims.remove(d)).or_else(|| dims.pop()).unwrap_or(ONE);

    let outer: Vec<usize> = dims.iter().map(|d| d.size).collect();
    let outer_dst: Vec<usize> = dims.iter().map(|d| d.dst).collect();
    let outer_src: Vec<usize> = dims.iter().map(|d| d.src).collect();
    // Pieces of a plane: at most TASK columns of as many rows as make a task, in whole tiles where there are
    // many.
    let wide = columns.size.min(TASK);
    let tall = (TASK / wide).max(1).min(rows.size.next_multiple_of(TILE));
    let (across, down) = (columns.size.div_ceil(wide), rows.size.div_ceil(tall));
    let pieces = numel(&outer) * down * across;
    let group = (TASK / (wide * tall.min(rows.size))).max(1);
    for_each_task(pieces.div_ceil(group), SLOT, scratch, |task, _| {
        for piece in task * group..pieces.min((task + 1) * group) {
            let (plane, row, column) =
                (piece / (down * across), piece / across % down * tall, piece % across * wide);
            let rows = Dim { size: tall.min(rows.size - row), ..rows };
            let columns = Dim { size: wide.min(columns.size - column), ..columns };
            let at = |offset_: usize, strides: &[usize], r: usize, c: usize| {
                offset_ + offset(plane, &outer, strides) + row * r + column * c
            };
            let dst = at(part.dst_offset, &outer_dst, rows.dst, columns.dst);
            let src = at(part.src_offset, &outer_src, rows.src, columns.src);
            copy_plane(rows, columns, &input[src..], out, dst);
        }
    });
}

fn copy_plane(rows: Dim, columns: Dim, input: &[f32], out: &Shared<'_, f32>, dst: usize) {
    if columns.dst > 1 {
        // Spread out in the output: element by element, since other tasks write between.
        for r in 0..rows.size {
            for c in 0..columns.size {
                let value = input[r * rows.src + c * columns.src];
                // SAFETY: the indices of a part are distinct by its check, and parts run one after another.
                unsafe { out.write(dst + r * rows.dst + c * columns.dst, value) };
            }
        }
        return;
    }
    // SAFETY: rows of consecutive elements, all distinct by the check of the part.
    let row = |r: usize, c: usize, n: usize| unsafe {
        let start = dst + r * rows.dst + c;
        out.part(start..start + n)
    };
    match columns.src {
        0 => (0..rows.size).for_each(|r| row(r, 0, columns.size).fill(input[r * rows.src])),
        1 => (0..rows.size).for_each(|r| {
            row(r, 0, columns.size).copy_from_slice(&input[r * rows.src..][..columns.size]);
        }),
        _ if rows.src == 1 => transpose(rows, columns, input, &row),
        _ => (0..rows.size).for_each(|r| {
            let from = input[r * rows.src..].iter().step_by(columns.src);
            row(r, 0, columns.size).iter_mut().zip(from).for_each(|(d, s)| *d = *s);
        }),
    }
}

/// Squares go through a buffer, so that both sides are touched a whole cache line at a time; strides that are
/// powers of two would otherwise fight over a few cache sets.
fn transpose<'a>(
    rows: Dim,
    columns: Dim,
    input: &[f32],
    row: &impl Fn(usize, usize, usize) -> &'a mut [f32],
) {
    let mut square = [[0.0; TILE]; TILE];
    for c0 in (0..columns.size).step_by(TILE) {
        let width = TILE.min(columns.size - c0);
        for r0 in (0..rows.size).step_by(TILE) {
            let height = TILE.min(rows.size - r0);
            for (c, column) in square[..width].iter_mut().enumerate() {
                let from = &input[(c0 + c) * columns.src + r0..][..height];
                match from.first_chunk() {
                    Some(whole) => *column = *whole,
                    None => column[..height].copy_from_slice(from),
                }
            }
            #[allow(
                clippy::needless_range_loop,
                reason = "r counts columns of the square and rows of the output"
            )]
            for r in 0..height {
                let line: [f32; TILE] = std::array::from_fn(|c| square[c][r]);
                let to = row(r0 + r, c0, width);
                match to.first_chunk_mut() {
                    Some(whole) => *whole = line,
                    None => to.copy_from_slice(&line[..width]),
                }
            }
        }
    }
}
