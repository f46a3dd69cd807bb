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

/// Where the scales of A and of B begin: those whose number does not follow the batch stand first, for fewer
/// pipelines.
fn bases([a, b]: [Scaled; 2]) -> [usize; 2] {
    if a.own { [b.scales(), 0] } else { [0, a.scales()] }
}

/// The constants by which the tiles find the scales.
pub(crate) fn constants(operands: [Scaled; 2]) -> Vec<(&'static str, f64)> {
    let [a, b] = operands;
    let flags = [("A_OWN", a.own), ("B_OWN", b.own), ("A_SLICES", a.slices > 1), ("B_SLICES", b.slices > 1)];
    let mut constants = flags.map(|(name, flag)| (name, f64::from(u8::from(flag)))).to_vec();
    let [a_base, b_base] = bases(operands);
    constants.extend([("A_BASE", a_base as f64), ("B_BASE", b_base as f64)]);
    constants
}

/// The dispatch that puts the scales of A and B, from `slots` and perhaps stored in halves, into `scales`.
pub(crate) fn scales(
    kernel: &'static str,
    operands: [Scaled; 2],
    slots: [Slot; 2],
    half: [bool; 2],
    scales: Slot,
    traits: &GpuTraits,
) -> Result<Dispatch, KernelError> {
    let words =
        |operand: Scaled, base| [operand.slices * operand.lines, operand.line, operand.pieces(), base];
    let ([a, b], [a_base, b_base]) = (operands, bases(operands));
    Ok(Dispatch {
        shader: "gemm_scales.wgsl",
        source: traits.shaders.text("gemm_scales.wgsl").to_owned().into(),
        entry: "main",
        constants: half_constants(half[0], half[1]),
        workgroups: fold(kernel, scales_len(operands), traits)?,
        bindings: vec![read(slots[0]), read(slots[1]), write(scales)],
        params: [words(a, a_base), words(b, b_base)].iter().flatten().map(|&size| size as u32).collect(),
    })
}
