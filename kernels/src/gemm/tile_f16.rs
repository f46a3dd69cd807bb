//! What the matrix product on packed halves (`gemm_tile_f16.wgsl`) has beside its tiles: scales of its
//! operands.

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

/// Scales of both operands.
pub(crate) fn scales_len(operands: [Scaled; 2]) -> usize {
    operands.iter().map(|operand| operand.scales()).sum()
}

/// The dispatch that puts the scales of A and B, from `slots` and perhaps stored in halves, into `scales`,
/// and the constants by which the tiles find them there.
pub(crate) fn scales(
    kernel: &'static str,
    [a, b]: [Scaled; 2],
    slots: [Slot; 2],
    half: [bool; 2],
    scales: Slot,
    traits: &GpuTraits,
) -> Result<(Dispatch, Vec<(&'static str, f64)>), KernelError> {
    // The one whose number of scales does not follow the batch stands first: fewer pipelines.
    let (a_base, b_base) = if a.own { (b.scales(), 0) } else { (0, a.scales()) };
    let flags = [("A_OWN", a.own), ("B_OWN", b.own), ("A_SLICES", a.slices > 1), ("B_SLICES", b.slices > 1)];
    let mut constants = flags.map(|(name, flag)| (name, f64::from(u8::from(flag)))).to_vec();
    constants.extend([("A_BASE", a_base as f64), ("B_BASE", b_base as f64)]);
    let params =
        [[a.slices * a.lines, a.line, a.pieces(), a_base], [b.slices * b.lines, b.line, b.pieces(), b_base]];
    let dispatch = Dispatch {
        shader: "gemm_scales.wgsl",
        source: traits.shaders.text("gemm_scales.wgsl").to_owned().into(),
        entry: "main",
        constants: half_constants(half[0], half[1]),
        workgroups: fold(kernel, a.scales() + b.scales(), traits)?,
        bindings: vec![read(slots[0]), read(slots[1]), write(scales)],
        params: params.iter().flatten().map(|&size| size as u32).collect(),
    };
    Ok((dispatch, constants))
}
