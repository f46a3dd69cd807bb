//! The matrix product on packed halves (`gemm_tile_f16.wgsl`): its scales, then its tiles.

use super::product::{Product, Stages};
use crate::epilogue::bindings;
use crate::error::KernelError;
use crate::launch::{Dispatch, GpuTraits, Slot};
use crate::plan::{fold, half_constants, read, write};

/// Variants that a product has whose operands are rounded to halves.
pub(crate) const VARIANTS: [&str; 2] = ["tile64_f16", "tile32_f16"];
/// Scales of an operand that has one for all of it: `PIECES` of `gemm_tile_f16.wgsl`.
const PIECES: usize = 256;

/// Which numbers of an operand share the power of two that brings them into the range of halves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scaled {
    /// Matrices, where each slice of the product has its own; else 1.
    pub(crate) slices: usize,
    /// Lines of one of them, each of numbers that lie together.
    pub(crate) lines: usize,
    /// Numbers in a line.
    pub(crate) line: usize,
    /// Each line has a scale: it is a row of A or, in B, an image, of which nothing may depend on the others.
    pub(crate) own: bool,
}

impl Scaled {
    /// One scale for all numbers of a matrix.
    pub(crate) fn whole(slices: usize, len: usize) -> Self {
        Self { slices, lines: 1, line: len, own: false }
    }

    fn pieces(self) -> usize {
        if self.own { 1 } else { PIECES }
    }

    fn scales(self) -> usize {
        self.slices * self.lines * self.pieces()
    }
}

impl Product<'_> {
    /// Whether the operands are rounded to halves, and the adapter multiplies such.
    pub(crate) fn multiplies_halves(&self, traits: &GpuTraits) -> bool {
        self.halves.is_some() && traits.f16
    }

    /// Shared-memory tiles of `8 r` by `8 r` halves, after the scales of both operands.
    pub(super) fn tile_f16(&self, r: usize, traits: &GpuTraits) -> Result<Stages, KernelError> {
        let variant = VARIANTS[usize::from(r == 4)];
        let (Some([a, b]), true) = (self.halves, self.multiplies_halves(traits)) else {
            let what = "arithmetic in halves (SHADER_F16)";
            return Err(KernelError::Missing { kernel: self.kernel, variant, what });
        };
        let mut stages = self.tile(r, "gemm_tile_f16.wgsl", traits)?;
        // The one whose number of scales does not follow the batch stands first: fewer pipelines.
        let (a_base, b_base) = if a.own { (b.scales(), 0) } else { (0, a.scales()) };
        let scales = Slot::Scratch(stages.scratch_lens.len());
        stages.scratch_lens.push(a.scales() + b.scales());
        let tile = &mut stages.dispatches[0];
        let flags =
            [("A_OWN", a.own), ("B_OWN", b.own), ("A_SLICES", a.slices > 1), ("B_SLICES", b.slices > 1)];
        tile.constants.extend(flags.map(|(name, flag)| (name, f64::from(u8::from(flag)))));
        tile.constants.extend([("A_BASE", a_base as f64), ("B_BASE", b_base as f64)]);
        tile.bindings.truncate(3);
        tile.bindings = bindings([&tile.bindings[..], &[read(scales)]].concat(), self.epilogue);
        let params = [
            [a.slices * a.lines, a.line, a.pieces(), a_base],
            [b.slices * b.lines, b.line, b.pieces(), b_base],
        ];
        let scaling = Dispatch {
            shader: "gemm_scales.wgsl",
            source: traits.shaders.text("gemm_scales.wgsl").to_owned().into(),
            entry: "main",
            constants: half_constants(self.half[0], self.half[1]),
            workgroups: fold(self.kernel, a.scales() + b.scales(), traits)?,
            bindings: vec![read(self.a), read(self.b), write(scales)],
            params: params.iter().flatten().map(|&size| size as u32).collect(),
        };
        stages.dispatches.insert(0, scaling);
        Ok(stages)
    }
}
