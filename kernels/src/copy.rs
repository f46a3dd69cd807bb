//! Strided copies into one output: slices, pads, transposes, broadcasts, nearest upsampling, concatenation.

mod cpu;
mod gpu;

use crate::layout;
use crate::pointwise::Pointwise;
use crate::{Cost, GpuPlan, GpuTraits, KernelError};

/// Copies input `p` for part `p`: for every index i of `shape`,
/// `out[dst_offset + Σ i·dst_strides] = input[src_offset + Σ i·src_strides]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// Elements of the input buffer.
    pub src_len: usize,
    /// Iteration shape, at most rank 6.
    pub shape: Vec<usize>,
    /// First element read.
    pub src_offset: usize,
    /// Stride of each dimension in the input.
    pub src_strides: Vec<usize>,
    /// First element written.
    pub dst_offset: usize,
    /// Stride of each dimension in the output.
    pub dst_strides: Vec<usize>,
}

/// One output written by disjoint parts; elements that no part covers are zero when `zero` is set (it must be, if
/// any exist).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Elements of the output.
    pub len: usize,
    /// Zero the output first.
    pub zero: bool,
    /// One part per input.
    pub parts: Vec<Part>,
}

impl Copy {
    pub(crate) fn name(&self) -> &'static str {
        "copy"
    }

    pub(crate) fn check(&self) -> Result<(), KernelError> {
        let fail = |what: String| Err(layout::shape_error(self.name(), what));
        let mut covered = 0usize;
        for (p, part) in self.parts.iter().enumerate() {
            let n = layout::checked_numel(self.name(), &part.shape)?;
            let rank = part.shape.len();
            if rank > Pointwise::MAX_RANK || part.src_strides.len() != rank || part.dst_strides.len() != rank
            {
                return fail(format!(
                    "part {p}: strides do not fit shape {:?} of at most 6 dimensions",
                    part.shape
                ));
            }
            let inside = |offset: usize, strides: &[usize], len: usize| {
                layout::reach(&part.shape, strides)
                    .and_then(|r| r.checked_add(offset))
                    .is_some_and(|last| last < len)
            };
            if !inside(part.src_offset, &part.src_strides, part.src_len) {
                return fail(format!("part {p} reads outside its {} elements", part.src_len));
            }
            if !inside(part.dst_offset, &part.dst_strides, self.len) {
                return fail(format!("part {p} writes outside the output's {} elements", self.len));
            }
            // Ordered by stride, each dimension must step over the whole extent of those below it.
            let mut dims: Vec<_> = part
                .dst_strides
                .iter()
                .zip(&part.shape)
                .filter(|(_, d)| **d > 1)
                .map(|(s, d)| (*s, *d))
                .collect();
            dims.sort_unstable();
            let mut extent = 0;
            for (stride, d) in dims {
                if stride <= extent {
                    return fail(format!("part {p} writes an element twice: strides {:?}", part.dst_strides));
                }
                extent += stride * (d - 1);
            }
            covered = covered.saturating_add(n);
        }
        if covered > self.len || (covered < self.len && !self.zero) {
            return fail(format!(
                "parts cover {covered} of {} elements; they must be disjoint, and cover all where the rest is not zeroed",
                self.len
            ));
        }
        Ok(())
    }

    pub(crate) fn input_lens(&self) -> Vec<usize> {
        self.parts.iter().map(|p| p.src_len).collect()
    }

    pub(crate) fn output_lens(&self) -> Vec<usize> {
        vec![self.len]
    }

    pub(crate) fn cost(&self) -> Cost {
        let moved: usize = self.parts.iter().map(|p| layout::numel(&p.shape)).sum();
        Cost { flops: 0, bytes_read: 4 * moved as u64, bytes_written: 4 * self.len as u64 }
    }

    pub(crate) fn variants(&self) -> Vec<&'static str> {
        gpu::variants(self)
    }

    pub(crate) fn gpu(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        gpu::plan(self, traits, variant)
    }

    pub(crate) fn cpu_scratch_len(&self, threads: usize) -> usize {
        cpu::SLOT * threads
    }

    pub(crate) fn cpu(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, outputs[0], scratch);
    }
}
