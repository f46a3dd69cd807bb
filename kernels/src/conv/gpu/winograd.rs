//! Winograd's F(2 × 2, 2 × 2) on stride phases (`conv_winograd.wgsl`): transforms of both operands, nine
//! products, and the inverse transform with the epilogue.

use super::super::{Conv, Face, NOMINAL_BATCH};
use crate::epilogue::{Epilogue, bindings, with_epilogue};
use crate::error::KernelError;
use crate::family::Family;
use crate::gemm::product::{Product, Stages, packed_len};
use crate::launch::{Dispatch, GpuTraits, Slot};
use crate::plan::{fold, half_constants, read, write};

const SHADER: &str = "conv_winograd.wgsl";
/// Products of one tile, in place of 16.
const PRODUCTS: usize = 9;
/// Fewest tiles of a nominal batch: with fewer, transforming the weights takes longer than the
/// multiplications saved.
const FEWEST_TILES: usize = 64;
/// Fewest channels of what is transformed: below, the transforms of the images do. A transpose to an image
/// has four rows, its phases, and only needs the channels of y.
const FEWEST_CHANNELS: usize = 8;

/// Whether the shape is one that it computes: 4 × 4 at stride 2 without dilation.
pub(super) fn applies(conv: &Conv) -> bool {
    let g = &conv.geometry;
    (g.kernel, g.stride, g.dilation) == ([4, 4], [2, 2], [1, 1])
}

/// Whether it is the choice for an adapter. On hardware the transformed tensors, 2.25 times the plain ones
/// and both written and read, cost about what the multiplications save, so only measuring (`tune`) can choose
/// it there.
pub(super) fn pays(conv: &Conv, traits: &GpuTraits) -> bool {
    let g = &conv.geometry;
    applies(conv)
        && traits.software
        && if conv.face == Face::Transpose { g.co } else { g.ci.min(g.co) } >= FEWEST_CHANNELS
        && nominal_tiles(conv) >= FEWEST_TILES
        && plan(conv, traits)
            .is_ok_and(|(_, lens)| lens.iter().all(|&len| 4 * len as u64 <= traits.max_binding_bytes))
}

/// Tiles of 2 × 2 outputs along an axis of y.
fn tiles_along(conv: &Conv, axis: usize) -> usize {
    conv.geometry.y[axis].div_ceil(2)
}

fn tiles(conv: &Conv) -> usize {
    conv.geometry.batch * tiles_along(conv, 0) * tiles_along(conv, 1)
}

/// Tiles by which forms are chosen: the weight gradient adds over the batch, the others must not depend on
/// it.
fn nominal_tiles(conv: &Conv) -> usize {
    let batch = if conv.face == Face::Weight { conv.geometry.batch } else { NOMINAL_BATCH };
    batch * tiles_along(conv, 0) * tiles_along(conv, 1)
}

/// Dispatches and the elements of scratch: 0 sums, 1 left and 2 right operands.
pub(super) fn plan(conv: &Conv, traits: &GpuTraits) -> Result<(Vec<Dispatch>, Vec<usize>), KernelError> {
    let g = &conv.geometry;
    let (phases, tiles) = (4 * g.ci, tiles(conv));
    let (number, rows, cols, inner) = match conv.face {
        Face::Conv => (0, g.co, tiles, phases),
        Face::Transpose => (1, phases, tiles, g.co),
        Face::Weight => (2, g.co, phases, tiles),
    };
    let sizes = [g.batch, g.ci, g.co, tiles_along(conv, 0), tiles_along(conv, 1)];
    let pairs = [g.x, g.y, g.pad_low];
    let params = [number].into_iter().chain(sizes).chain(pairs.into_iter().flatten());
    let mut product = Product {
        kernel: conv.name(),
        operands: Some(SHADER),
        rows,
        cols,
        inner,
        slices: PRODUCTS,
        nominal: match conv.face {
            Face::Weight => [rows, cols, PRODUCTS],
            _ => [rows, nominal_tiles(conv), PRODUCTS],
        },
        params: params.map(|size| size as u32).chain([0; 3]).collect(),
        a: Slot::Scratch(1),
        b: Slot::Scratch(2),
        half: [false; 2],
        packed: true,
        halves: None,
        epilogue: &Epilogue::default(),
    };
    let Stages { dispatches: products, scratch_lens, sums } =
        product.stages(product.choose(traits), traits)?;
    let sums_at = [sums.start, sums.quads, sums.cols].map(|place| place as u32);
    let at = product.params.len() - sums_at.len();
    product.params.splice(at.., sums_at);
    let halves = half_constants(conv.half, false);
    let stage = |entry, threads: usize, bindings| {
        Ok(Dispatch {
            shader: SHADER,
            source: traits.shaders.text(SHADER).to_owned().into(),
            entry,
            constants: if entry == "taps" { halves.clone() } else { Vec::new() },
            workgroups: fold(conv.name(), threads.div_ceil(64), traits)?,
            bindings,
            params: product.words(sums.splits),
        })
    };
    let before = |entry, lines: usize, input, operand| {
        let bindings = vec![read(Slot::Input(input)), write(Slot::Scratch(operand))];
        stage(entry, lines * inner.div_ceil(4), bindings)
    };
    let (left, right) = match conv.face {
        Face::Conv => (before("taps", rows, 1, 1)?, before("data", cols, 0, 2)?),
        Face::Transpose => (before("taps", rows, 1, 1)?, before("gradient", cols, 0, 2)?),
        Face::Weight => (before("gradient", rows, 1, 1)?, before("data", cols, 0, 2)?),
    };
    let places = |axis: usize| (g.x[axis] + g.pad_low[axis]).div_ceil(4);
    let (entry, threads) = match conv.face {
        Face::Conv => ("output", rows.div_ceil(4) * cols),
        Face::Transpose => ("image", g.batch * g.ci * places(0) * places(1)),
        Face::Weight => ("weights", rows.div_ceil(4) * cols),
    };
    let mut after = stage(
        entry,
        threads,
        bindings(vec![read(Slot::Scratch(0)), write(Slot::Output(0))], &conv.epilogue),
    )?;
    after.source = with_epilogue(SHADER, &conv.epilogue, 3, traits).into();
    let mut lens = scratch_lens;
    lens.resize(1, 0);
    lens.extend([packed_len(PRODUCTS, rows, inner), packed_len(PRODUCTS, cols, inner)]);
    Ok(([left, right].into_iter().chain(products).chain([after]).collect(), lens))
}
