//! Iteration spaces walked a block of lanes at a time.

use crate::expr::{LANES, ROWS, Value};
use crate::layout::{numel, offset};
use crate::space::merge;
use std::ops::Range;

/// Rows shorter than this are not worth a loop of their own: a block then is one row, whatever it spans.
const SHORT_ROW: usize = 16;

/// How the elements of an operand reach a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// One element for each row.
    Row,
    /// A slice of the buffer.
    Direct,
    /// Collected into scratch.
    Gather,
    /// Read where the results go: nothing to load.
    InPlace,
}

/// A shape with the strides of several operands, its dimensions merged as far as all operands allow.
///
/// A block is `rows × lanes` consecutive elements. Lanes run along the last dimension and rows along the one
/// before; where the last is very short, a block is a single row across all dimensions.
#[derive(Debug)]
pub(crate) struct Space {
    shape: Vec<usize>,
    strides: Vec<Vec<usize>>,
    /// Set to [`Access::InPlace`] by the owner where it applies.
    pub(crate) access: Vec<Access>,
    /// Lanes of a full row; no row crosses a multiple of this.
    row: usize,
    /// Rows along the dimension before; no block crosses a multiple of `row · rows`.
    rows: usize,
    /// Largest number of rows and of lanes in a block.
    block: (usize, usize),
}

/// Part of a space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) start: usize,
    pub(crate) rows: usize,
    pub(crate) lanes: usize,
}

impl Block {
    pub(crate) fn len(&self) -> usize {
        self.rows * self.lanes
    }

    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.start + self.len()
    }
}

impl Space {
    /// Blocks start at multiples of `granule ≤` [`LANES`], which divides the last dimension. Dimensions with
    /// different labels are not merged.
    pub(crate) fn new(shape: &[usize], strides: &[&[usize]], labels: &[bool], granule: usize) -> Self {
        let (shape, strides, _) = merge(shape, strides, labels);
        let rank = shape.len();
        let inner = shape.last().copied().unwrap_or(1);
        let flat = rank > 1 && inner < SHORT_ROW;
        let dense = crate::layout::contiguous(&shape);
        let (row, rows) = match (flat, rank) {
            (true, _) => (numel(&shape), 1),
            (false, 0 | 1) => (inner, 1),
            (false, _) => (inner, shape[rank - 2]),
        };
        // Several rows only where whole ones fit.
        let block = match (LANES / row).min(rows).min(ROWS) {
            0 | 1 => (1, LANES / granule * granule),
            many => (many, row),
        };
        let access = strides
            .iter()
            .map(|s| {
                let (lane, above) = (s.last().copied().unwrap_or(0), if rank > 1 { s[rank - 2] } else { 0 });
                match (flat, lane) {
                    (false, 0) => Access::Row,
                    (false, 1) if block.0 == 1 || above == row => Access::Direct,
                    (true, _) if s.iter().all(|&s| s == 0) => Access::Row,
                    (true, _) if *s == dense => Access::Direct,
                    _ => Access::Gather,
                }
            })
            .collect();
        Self { shape, strides, access, row, rows, block }
    }

    /// About `len` elements, in whole planes of rows or at least whole rows where they are not longer than
    /// that.
    pub(crate) fn task_len(&self, len: usize) -> usize {
        let whole = [self.row * self.rows, self.row].into_iter().find(|&whole| whole <= len).unwrap_or(1);
        len / whole * whole
    }

    /// Scratch that [`Space::load`] needs.
    pub(crate) fn scratch_len(&self) -> usize {
        let slots = |a: &Access| match a {
            Access::Gather => LANES,
            Access::Row if self.block.0 > 1 => ROWS,
            Access::Row | Access::Direct | Access::InPlace => 0,
        };
        self.access.iter().map(slots).sum()
    }

    /// The blocks of `range`.
    pub(crate) fn blocks(&self, range: Range<usize>) -> impl Iterator<Item = Block> + '_ {
        let mut at = range.start;
        std::iter::from_fn(move || {
            let (start, left) = (at, range.end.saturating_sub(at));
            let (row, column) = (start / self.row, start % self.row);
            let (rows, lanes) = if self.block.0 > 1 && column == 0 && left >= self.row {
                (self.block.0.min(self.rows - row % self.rows).min(left / self.row), self.row)
            } else {
                (1, self.block.1.min(self.row - column).min(left))
            };
            at += rows * lanes;
            (left > 0).then_some(Block { start, rows, lanes })
        })
    }

    /// Values of the operands over one block. `buffers[i]` begins at operand i's first element of the space.
    pub(crate) fn load<'a>(
        &self,
        buffers: &[&'a [f32]],
        block: &Block,
        values: &mut [Value<'a>],
        mut scratch: &'a mut [f32],
    ) {
        for (i, buffer) in buffers.iter().enumerate() {
            let mut slot = |len: usize| {
                let (slot, rest) = std::mem::take(&mut scratch).split_at_mut(len);
                scratch = rest;
                slot
            };
            let at = offset(block.start, &self.shape, &self.strides[i]);
            values[i] = match self.access[i] {
                Access::InPlace => continue,
                Access::Row if self.block.0 == 1 => Value::Uniform(buffer[at]),
                Access::Row => {
                    let slot = slot(ROWS);
                    match self.strides[i][self.shape.len() - 2] {
                        0 => Value::Uniform(buffer[at]),
                        1 => Value::Rows(&buffer[at..at + block.rows]),
                        step => {
                            let from = buffer[at..].iter().step_by(step);
                            slot[..block.rows].iter_mut().zip(from).for_each(|(d, s)| *d = *s);
                            Value::Rows(slot)
                        }
                    }
                }
                Access::Direct => Value::Lanes(&buffer[at..at + block.len()]),
                Access::Gather => {
                    let slot = slot(LANES);
                    self.gather(i, buffer, block.start, &mut slot[..block.len()]);
                    Value::Lanes(slot)
                }
            };
        }
    }

    fn gather(&self, operand: usize, buffer: &[f32], start: usize, mut dst: &mut [f32]) {
        let strides = &self.strides[operand];
        let Some((&inner, outer)) = self.shape.split_last() else { return };
        let (&step, outer_strides) = strides.split_last().unwrap_or((&0, &[]));
        let (mut row, mut column) = (start / inner, start % inner);
        while !dst.is_empty() {
            let (run, rest) = dst.split_at_mut((inner - column).min(dst.len()));
            let at = offset(row, outer, outer_strides) + column * step;
            match step {
                0 => run.fill(buffer[at]),
                1 => run.copy_from_slice(&buffer[at..at + run.len()]),
                _ => run.iter_mut().zip(buffer[at..].iter().step_by(step)).for_each(|(d, s)| *d = *s),
            }
            (dst, row, column) = (rest, row + 1, 0);
        }
    }
}
