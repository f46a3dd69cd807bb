//! Strided copies into one output: slices, pads, transposes, broadcasts, nearest upsampling, concatenation.

mod cpu;
mod gpu;

use crate::error::{KernelError, shape_error};
use crate::family::{Family, Size};
use crate::ladder::{Ladder, variant};
use crate::launch::{Cost, GpuPlan, GpuTraits};
use crate::layout;
use crate::space::MAX_RANK;
use crate::text::{self, rounded};

const LADDERS: [Ladder; 1] = [Ladder {
    name: "copy",
    computes: "slices, pads, transposes, concatenation",
    variants: &[
        variant("naive", "1 element a thread", "software adapters; no part is a transposition"),
        variant("tile", "32 × 32 squares through shared memory", "hardware, transpositions"),
    ],
}];

/// Copies input `p` for part `p`: for every index i of `shape`,
/// `out[dst_offset + Σ i·dst_strides] = input[src_offset + Σ i·src_strides]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CopyPart {
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

/// One output written by disjoint parts; elements that no part covers are zero when `zero` is set (it must
/// be, if any exist).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Elements of the output.
    pub len: usize,
    /// Zero the output first.
    pub zero: bool,
    /// One part per input.
    pub parts: Vec<CopyPart>,
}

impl Family for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn check(&self) -> Result<(), KernelError> {
        let fail = |what: String| Err(shape_error(self.name(), what));
        let mut covered = 0usize;
        for (p, part) in self.parts.iter().enumerate() {
            let n = layout::checked_numel(self.name(), &part.shape)?;
            let rank = part.shape.len();
            if rank > MAX_RANK || part.src_strides.len() != rank || part.dst_strides.len() != rank {
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

    fn input_lens(&self) -> Vec<usize> {
        self.parts.iter().map(|p| p.src_len).collect()
    }

    fn output_lens(&self) -> Vec<usize> {
        vec![self.len]
    }

    fn cost(&self) -> Cost {
        let moved: usize = self.parts.iter().map(|p| layout::numel(&p.shape)).sum();
        Cost { flops: 0, bytes_read: 4 * moved as u64, bytes_written: 4 * self.len as u64 }
    }

    fn variants(&self) -> Vec<&'static str> {
        gpu::variants(self)
    }

    fn plan(&self, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
        gpu::plan(self, traits, variant)
    }

    fn twin_scratch_len(&self, threads: usize) -> usize {
        cpu::SLOT * threads
    }

    fn twin(&self, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
        cpu::run(self, inputs, outputs[0], scratch);
    }

    fn class(&self) -> String {
        format!("{} parts {}", rounded(self.len), self.parts.len())
    }

    fn line(&self) -> String {
        let parts: Vec<_> = self.parts.iter().map(|p| text::shape(&p.shape)).collect();
        let parts = match parts.len() {
            0 => "zeros".to_owned(),
            1..=3 => parts.join(" + "),
            n => format!("{n} parts"),
        };
        format!("{parts} → {}", self.len)
    }

    fn ladders() -> &'static [Ladder] {
        &LADDERS
    }

    fn ladder(&self) -> &'static Ladder {
        &LADDERS[0]
    }

    fn oracle(&self, inputs: &[&[f32]], before: &[&[f32]]) -> Vec<Vec<f64>> {
        let mut out = if self.zero { vec![0.0; self.len] } else { before[0].to_vec() };
        for (part, input) in self.parts.iter().zip(inputs) {
            for i in 0..layout::numel(&part.shape) {
                out[part.dst_offset + layout::offset(i, &part.shape, &part.dst_strides)] =
                    input[part.src_offset + layout::offset(i, &part.shape, &part.src_strides)];
            }
        }
        vec![out.into_iter().map(f64::from).collect()]
    }

    /// Images with their sides exchanged.
    fn sample(_ladder: &str, _variant: &str, size: Size) -> Self {
        let [images, h, w] = if size == Size::Typical { [4096, 32, 32] } else { [3, 33, 21] };
        let part = CopyPart {
            src_len: images * h * w,
            shape: vec![images, w, h],
            src_offset: 0,
            src_strides: vec![h * w, 1, w],
            dst_offset: 0,
            dst_strides: vec![w * h, h, 1],
        };
        Self { len: part.src_len, zero: false, parts: vec![part] }
    }
}
