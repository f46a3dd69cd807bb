//! The allocator of the program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

/// The system's allocator, which ends the process with a sentence and exit code 1 where the library would
/// abort it. What is large is checked before it is allocated; this is for what is left.
struct OrExit;

// SAFETY: every call is passed to the system allocator unchanged, and what it returns is returned.
unsafe impl GlobalAlloc for OrExit {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's.
        or_exit(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_exit(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; `pointer` came from this allocator, that is from the system's.
        or_exit(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: OrExit = OrExit;

#[inline]
fn or_exit(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        out_of_memory(bytes);
    }
    pointer
}

/// Nothing here allocates.
#[cold]
fn out_of_memory(bytes: usize) -> ! {
    let reason = "bytes more cannot be had; free memory, or use less: a smaller batch, size or --memory";
    let _ = writeln!(std::io::stderr(), "error: out of memory: {bytes} {reason}");
    std::process::exit(1)
}
