//! GPU plans of the family.
//!
//! | variant | what | when chosen |
//! |---|---|---|
//! | `naive` | one thread per output | a single column of short sums |
//! | `dot` | one workgroup per output | a single column of long sums |
//! | `tile64`, `tile32` | shared-memory tiles, split-K | hardware |
//! | `registers` | register tiles on packed A, split-K | software adapters without subgroups; at most four rows |
//! | `subgroups` | register tiles whose A a subgroup shares, split-K | software adapters |
//! | `tile64_f16`, `tile32_f16` | shared-memory tiles of halves, split-K | products in f16 |

use super::Gemm;
use super::product::{self, Product, Stages, Sums};
use super::tile_f16::{self, Scaled};
use crate::epilogue::{bindings, with_epilogue};
use crate::error::KernelError;
use crate::family::Family;
use crate::launch::{Dispatch, GpuPlan, GpuTraits, Slot};
use crate::plan::{begin, check_bindings, fold, half_constants, read, write};
use crate::precision::Precision;

pub(super) fn variants(gemm: &Gemm) -> Vec<&'static str> {
    let mut names = vec!["naive", "dot"];
    names.extend(product::VARIANTS);
    if gemm.precision == Precision::F16 {
        names.extend(tile_f16::VARIANTS);
    }
    names
}

pub(super) fn plan(gemm: &Gemm, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
    let variant = begin(gemm, traits, variant, || chosen(gemm, traits))?;
    let stages = stages(gemm, variant, [Slot::Input(0), Slot::Input(1)], 1, traits)?;
    check_bindings(gemm.name(), stages.scratch_lens.iter().copied(), traits)?;
    Ok(GpuPlan { variant, dispatches: stages.dispatches, scratch_lens: stages.scratch_lens })
}

/// The variant for an adapter.
pub(crate) fn chosen(gemm: &Gemm, traits: &GpuTraits) -> &'static str {
    match gemm.n {
        1 if gemm.k >= 256 => "dot",
        1 => "naive",
        _ => product_of(gemm, [Slot::Input(0), Slot::Input(1)], 1).choose(traits),
    }
}

/// Dispatches of a variant with A and B from `slots`; the epilogue's channel is `column / channel_width`.
pub(crate) fn stages(
    gemm: &Gemm,
    variant: &str,
    slots: [Slot; 2],
    channel_width: usize,
    traits: &GpuTraits,
) -> Result<Stages, KernelError> {
    let product = product_of(gemm, slots, channel_width);
    let outputs = gemm.out_len();
    let (shader, groups) = match variant {
        "naive" => ("gemm_naive.wgsl", outputs.div_ceil(64)),
        "dot" => ("gemm_dot.wgsl", outputs),
        _ => return product.stages(variant, traits),
    };
    let dispatch = Dispatch {
        shader,
        source: with_epilogue(shader, &gemm.epilogue, 4, traits).into(),
        entry: "main",
        constants: half_constants(false, gemm.half_b),
        workgroups: fold("gemm", groups, traits)?,
        bindings: bindings(vec![read(slots[0]), read(slots[1]), write(Slot::Output(0))], &gemm.epilogue),
        params: product.words(1),
    };
    Ok(Stages { dispatches: vec![dispatch], scratch_lens: Vec::new(), sums: Sums::NONE })
}

/// Rows for which a product is laid out where they may be those of a batch.
const NOMINAL_ROWS: usize = 512;

fn product_of(gemm: &Gemm, [a, b]: [Slot; 2], channel_width: usize) -> Product<'_> {
    let &Gemm { batch, m, n, k, .. } = gemm;
    let [of_a, of_b] = [gemm.batched_a, gemm.batched_b].map(|batched| if batched { batch } else { 1 });
    let strides = [
        if gemm.batched_a { m * k } else { 0 },
        if gemm.trans_a { 1 } else { k },
        if gemm.trans_a { m } else { 1 },
        if gemm.batched_b { k * n } else { 0 },
        if gemm.trans_b { 1 } else { n },
        if gemm.trans_b { k } else { 1 },
        channel_width,
    ];
    Product {
        kernel: "gemm",
        operands: None,
        rows: m,
        cols: n,
        inner: k,
        slices: batch,
        // A stored transposed has its rows, as those of a weight gradient, in another dimension than the
        // batch.
        nominal: if gemm.trans_a { [m, n, batch] } else { [NOMINAL_ROWS, n, 1] },
        params: strides.iter().map(|&stride| stride as u32).collect(),
        a,
        b,
        half: [false, gemm.half_b],
        packed: false,
        halves: (gemm.precision == Precision::F16).then(|| {
            let rows = Scaled { slices: of_a, lines: m, line: k, own: true };
            [if gemm.trans_a { Scaled::whole(of_a, m * k) } else { rows }, Scaled::whole(of_b, k * n)]
        }),
        epilogue: &gemm.epilogue,
    }
}
