//! Work on the CPU in pieces that threads take as they come: how it is cut follows from the shape alone.

use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Elements that one task works on: 256 KiB of floats. A constant, so that results never depend on the
/// threads.
pub(crate) const TASK: usize = 1 << 16;

/// Runs `task(i, slot)` for every `i < tasks`. `scratch` is divided into slots of `slot_len`, as many as
/// there are threads to use; tasks go to whichever is free, so a task's result must not depend on what its
/// slot holds.
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

/// Number, rows and columns of each block of `outputs` outputs of `m` rows and `n` columns.
pub(crate) fn blocks(
    outputs: usize,
    [m, rows]: [usize; 2],
    [n, columns]: [usize; 2],
) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> + Send {
    let cut = |len: usize, block: usize| (0..len).step_by(block).map(move |i| i..len.min(i + block));
    (0..outputs).flat_map(move |output| {
        cut(m, rows)
            .flat_map(move |lines| cut(n, columns).map(move |columns| (output, lines.clone(), columns)))
    })
}

/// Runs `work` on every piece of `pieces`, each worker with its own `len` elements of `scratch`.
pub(crate) fn share<T: Send>(
    pieces: impl Iterator<Item = T> + Send,
    scratch: &mut [f32],
    len: usize,
    work: impl Fn(T, &mut [f32]) + Sync,
) {
    let queue = Mutex::new(pieces);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    scratch.par_chunks_exact_mut(len).take(rayon::current_num_threads()).for_each(|scratch| {
        while let Some(piece) = next() {
            work(piece, scratch);
        }
    });
}

/// Runs `fill(i, part)` on every part `i` of `out`, each of `len` elements, several in a row on one thread
/// where a part is small: `work`, at least 1, is what a part costs in elements read or written.
pub(crate) fn for_each_part(
    out: &mut [f32],
    len: usize,
    work: usize,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) {
    let group = (TASK / work).max(1);
    out.par_chunks_mut(group * len).enumerate().for_each(|(task, parts)| {
        parts.chunks_mut(len).enumerate().for_each(|(i, part)| fill(task * group + i, part));
    });
}
