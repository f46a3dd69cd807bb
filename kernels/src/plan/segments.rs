//! How long sums are cut, so that there is work for a whole adapter and no thread loops for too long.

use crate::launch::GpuTraits;

/// Elements that one thread of a segment takes, on a software adapter and on a hardware one. An output is cut
/// into segments by its length alone, so that its bits do not depend on how many outputs there are: an
/// image's not on its batch.
const SOFTWARE_PER_THREAD: usize = 256;
const HARDWARE_PER_THREAD: usize = 128;
/// Elements that one thread of a workgroup takes.
const GROUPS_PER_THREAD: usize = 32;
/// Most elements that one thread takes: llvmpipe silently stops a thread after 65,535 loop iterations in all.
const MOST_PER_THREAD: usize = 1 << 15;
/// Most segments of one output: what one workgroup joins at four partials a thread. More only where
/// [`MOST_PER_THREAD`] asks for it.
const MOST_SEGMENTS: usize = 1024;

/// Segments of an output of `len` elements.
pub(crate) fn segments(variant: &str, len: usize, traits: &GpuTraits) -> usize {
    let (width, per_thread) = match variant {
        "groups" => (256, GROUPS_PER_THREAD),
        _ if traits.software => (1, SOFTWARE_PER_THREAD),
        _ => (1, HARDWARE_PER_THREAD),
    };
    // At least as many as keep a thread's loop short enough.
    let least = len.div_ceil(width * MOST_PER_THREAD);
    match variant {
        "naive" => least,
        _ => (len / (width * per_thread)).clamp(1, MOST_SEGMENTS).max(least),
    }
}
