//! Iteration spaces walked a block of lanes at a time, and the parallel loop over pieces of work.

use crate::expr::{LANES, ROWS, Value};
use crate::layout::{numel, offset};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements that one task works on: 256 KiB of floats. A constant, so that results never depend on the threads.
pub(crate) const TASK: usize = 1 << 16;

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
/// A block is `rows × lanes` consecutive elements. Lanes run along the last dimension and rows along the one before;
/// where the last is very short, a block is a single row across all dimensions.
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
    /// Blocks start at multiples of `granule ≤` [`LANES`], which divides the last dimension. Dimensions with different
    /// labels are not merged.
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

    /// About `len` elements, in whole planes of rows or at least whole rows where they are not longer than that.
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

/// A shape, the strides of each operand over it, and a label for each dimension.
pub(crate) type Labelled = (Vec<usize>, Vec<Vec<usize>>, Vec<bool>);

/// Drops dimensions of size 1 and merges neighbours with the same label where, for every operand, the stride of the
/// first is the stride of the second times its size.
pub(crate) fn merge(shape: &[usize], strides: &[&[usize]], labels: &[bool]) -> Labelled {
    let mut sizes: Vec<usize> = Vec::new();
    let mut dims: Vec<usize> = Vec::new(); // the last dimension merged into each
    for d in (0..shape.len()).filter(|&d| shape[d] > 1) {
        let joins = |p: usize| labels[p] == labels[d] && strides.iter().all(|s| s[p] == s[d] * shape[d]);
        match (sizes.last_mut(), dims.last_mut()) {
            (Some(size), Some(p)) if joins(*p) => (*size, *p) = (*size * shape[d], d),
            _ => {
                sizes.push(shape[d]);
                dims.push(d);
            }
        }
    }
    let strides = strides.iter().map(|s| dims.iter().map(|&d| s[d]).collect()).collect();
    (sizes, strides, dims.iter().map(|&d| labels[d]).collect())
}

/// Runs `task(i, slot)` for every `i < tasks`. `scratch` is divided into slots of `slot_len`, as many as there are
/// threads to use; tasks go to whichever is free, so a task's result must not depend on what its slot holds.
pub(crate) fn for_each_task(
    tasks: usize,
    slot_len: usize,
    scratch: &mut [f32],
    task: impl Fn(usize, &mut [f32]) + Sync,
) {
    if tasks <= 1 || scratch.len() < 2 * slot_len {
        let slot = &mut scratch[..slot_len];
        (0..tasks).for_each(|i| task(i, slot));
        return;
    }
    let next = AtomicUsize::new(0);
    scratch.par_chunks_exact_mut(slot_len).for_each(|slot| {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= tasks {
                break;
            }
            task(i, slot);
        }
    });
}

/// A slice that several tasks write disjoint parts of.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Shared` is an exclusive borrow of plain numbers handed out in parts; see `Shared::part`.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above; parts that overlap in time are disjoint in place by the contract of `Shared::part`.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    /// Elements `range` of the slice.
    ///
    /// # Safety
    /// Parts that live at the same time must not overlap.
    #[allow(clippy::mut_from_ref, reason = "disjoint parts of one exclusive borrow, by the contract above")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {} elements", self.len);
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
    /// Writes element `at`.
    ///
    /// # Safety
    /// No other task reads or writes that element at the same time.
    pub(crate) unsafe fn write(&self, at: usize, value: T) {
        assert!(at < self.len, "element {at} of {}", self.len);
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { self.start.add(at).write(value) }
    }
}
