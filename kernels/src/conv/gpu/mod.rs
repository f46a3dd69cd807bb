//! GPU plans of the family.
//!
//! | variant | what | when chosen |
//! |---|---|---|
//! | `naive` | one thread per output, from the definition | more stride phases than the others take |
//! | `matmul` | the plain matrix product that it is | the kernel covers the image exactly once |
//! | `tile64`, `tile32` | implicit GEMM, shared-memory tiles, split-K | hardware |
//! | `registers` | implicit GEMM, register tiles on packed weights, split-K | software adapters without subgroups; at most four output channels |
//! | `subgroups` | implicit GEMM, register tiles whose weights a subgroup shares, split-K | software adapters |
//! | `winograd` | F(2×2, 2×2) on the stride phases of a 4×4 kernel at stride 2 | software adapters, from 8 channels and 4 tiles an image on |
//! | `tile64_f16`, `tile32_f16` | implicit GEMM, shared-memory tiles of halves, split-K | products in f16 |
//! | `direct` | 4×4 pixels of all channels a thread | transposes of 4×4 kernels at stride 2 onto at most four channels |

mod phases;
mod winograd;

use super::{Conv, Face, NOMINAL_BATCH};
use crate::epilogue::{bindings, with_epilogue};
use crate::error::KernelError;
use crate::family::Family;
use crate::gemm::Gemm;
use crate::gemm::gpu::{chosen as chosen_gemm, stages as gemm_stages};
use crate::gemm::product::{self, Product};
use crate::gemm::tile_f16::{self, Scaled};
use crate::launch::{Dispatch, GpuPlan, GpuTraits, Slot};
use crate::plan::{begin, check_bindings, fold, half_constants, read, write};
use crate::precision::Precision;
use crate::sections::splice;
use phases::Phase;

/// Phases in one dispatch: the length of `Params.phases` in `conv.wgsl`.
const PHASES_PER_DISPATCH: usize = 4;
/// Most phases that are computed one by one; larger strides mostly miss the kernel's taps.
const MOST_PHASES: usize = 64;

pub(super) fn variants(conv: &Conv) -> Vec<&'static str> {
    let mut names = vec!["naive"];
    if as_gemm(conv).is_some() {
        names.push("matmul");
    }
    if phases::count(conv) <= MOST_PHASES {
        names.extend(product::VARIANTS);
        if conv.precision == Precision::F16 {
            names.extend(tile_f16::VARIANTS);
        }
    }
    if winograd::applies(conv) {
        names.push("winograd");
    }
    if direct_applies(conv) {
        names.push("direct");
    }
    names
}

pub(super) fn plan(conv: &Conv, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
    let variant = begin(conv, traits, variant, || chosen(conv, traits))?;
    check_positions(conv)?;
    let (dispatches, scratch_lens) = match (variant, as_gemm(conv)) {
        ("naive", _) => (vec![naive(conv, traits)?], Vec::new()),
        ("winograd", _) => winograd::plan(conv, traits)?,
        ("direct", _) => (vec![direct(conv, traits)?], Vec::new()),
        ("matmul", Some(Matmul { gemm, slots, channel_width })) => {
            let stages = gemm_stages(&gemm, chosen_gemm(&gemm, traits), slots, channel_width, traits)?;
            (stages.dispatches, stages.scratch_lens)
        }
        _ => {
            let mut dispatches = Vec::new();
            let mut scratch_lens: Vec<usize> = Vec::new();
            for some in phases::of(conv).chunks(PHASES_PER_DISPATCH) {
                let stages = product_of(conv, some).stages(variant, traits)?;
                dispatches.extend(stages.dispatches);
                scratch_lens.resize(scratch_lens.len().max(stages.scratch_lens.len()), 0);
                scratch_lens
                    .iter_mut()
                    .zip(stages.scratch_lens)
                    .for_each(|(len, some)| *len = some.max(*len));
            }
            (dispatches, scratch_lens)
        }
    };
    check_bindings(conv.name(), scratch_lens.iter().copied(), traits)?;
    Ok(GpuPlan { variant, dispatches, scratch_lens })
}

/// The variant for an adapter.
fn chosen(conv: &Conv, traits: &GpuTraits) -> &'static str {
    if as_gemm(conv).is_some() {
        return "matmul";
    }
    if phases::count(conv) > MOST_PHASES {
        return "naive";
    }
    if direct_applies(conv) {
        return "direct";
    }
    if conv.precision != Precision::F16 && winograd::pays(conv, traits) {
        return "winograd";
    }
    let phases = phases::of(conv);
    let first = &phases[..phases.len().min(PHASES_PER_DISPATCH)];
    product_of(conv, first).choose(traits)
}

/// Positions in the padded image are signed words in the shaders.
fn check_positions(conv: &Conv) -> Result<(), KernelError> {
    let g = &conv.geometry;
    let limit = i32::MAX as u64;
    for axis in 0..2 {
        // A kernel of 1 or an output of 1 leaves dilation and stride without use, and so without a bound by
        // x.
        let sizes = [g.x[axis] + g.pad_low[axis] + g.pad_high[axis], g.stride[axis], g.dilation[axis]];
        if let Some(&needed) = sizes.iter().find(|&&size| size as u64 > limit / 2) {
            let needed = needed as u64;
            let unit = "positions along one axis of the padded image";
            return Err(KernelError::Limit { kernel: conv.name(), needed, limit: limit / 2, unit });
        }
    }
    Ok(())
}

fn naive(conv: &Conv, traits: &GpuTraits) -> Result<Dispatch, KernelError> {
    let g = &conv.geometry;
    let outputs = conv.output_lens()[0];
    let pairs = [g.x, g.y, g.kernel, g.stride, g.pad_low, g.dilation];
    let params =
        pairs.iter().flatten().chain(&[g.batch, g.ci, g.co, outputs]).map(|&size| size as u32).collect();
    Ok(Dispatch {
        shader: "conv_naive.wgsl",
        source: with_epilogue("conv_naive.wgsl", &conv.epilogue, 4, traits).into(),
        entry: match conv.face {
            Face::Conv => "conv",
            Face::Transpose => "transpose",
            Face::Weight => "weight",
        },
        constants: half_constants(false, conv.half),
        workgroups: fold(conv.name(), outputs.div_ceil(64), traits)?,
        bindings: bindings(
            vec![read(Slot::Input(0)), read(Slot::Input(1)), write(Slot::Output(0))],
            &conv.epilogue,
        ),
        params,
    })
}

/// A transpose of a 4 × 4 kernel at stride 2 onto at most four channels: the image side of a generator.
fn direct_applies(conv: &Conv) -> bool {
    conv.face == Face::Transpose && winograd::applies(conv) && conv.geometry.ci <= 4
}

/// One thread per 4 × 4 pixels.
fn direct(conv: &Conv, traits: &GpuTraits) -> Result<Dispatch, KernelError> {
    let g = &conv.geometry;
    let places = |axis: usize| (g.x[axis] + g.pad_low[axis]).div_ceil(4);
    let params = [[g.batch, g.co], g.x, g.y, g.pad_low];
    let text = with_epilogue("conv_direct.wgsl", &conv.epilogue, 4, traits);
    Ok(Dispatch {
        shader: "conv_direct.wgsl",
        source: splice(&text, "tile", &format!("const CI: u32 = {}u;\n", g.ci)).into(),
        entry: "main",
        constants: half_constants(false, conv.half),
        workgroups: fold(conv.name(), (g.batch * places(0) * places(1)).div_ceil(64), traits)?,
        bindings: bindings(
            vec![read(Slot::Input(0)), read(Slot::Input(1)), write(Slot::Output(0))],
            &conv.epilogue,
        ),
        params: params.iter().flatten().map(|&size| size as u32).collect(),
    })
}

/// A convolution that is one plain matrix product.
struct Matmul {
    gemm: Gemm,
    slots: [Slot; 2],
    channel_width: usize,
}

/// Where the kernel covers the image exactly once, y is one pixel, and x `[n, ci·kh·kw]`, w `[co, ci·kh·kw]`
/// and y `[n, co]` are plain matrices: y = x · wᵀ, x = y · w, w = yᵀ · x.
fn as_gemm(conv: &Conv) -> Option<Matmul> {
    let g = &conv.geometry;
    let covers = (0..2).all(|axis| {
        let k = g.kernel[axis];
        g.y[axis] == 1 && g.x[axis] == k && g.pad_low[axis] == 0 && (g.dilation[axis] == 1 || k == 1)
    });
    let plane = g.kernel[0] * g.kernel[1];
    let taps = g.ci * plane;
    let (m, n, k, trans_a, trans_b) = match conv.face {
        Face::Conv => (g.batch, g.co, taps, false, true),
        Face::Transpose => (g.batch, taps, g.co, false, false),
        Face::Weight => (g.co, taps, g.batch, true, false),
    };
    let epilogue = conv.epilogue.clone();
    covers.then(|| Matmul {
        gemm: Gemm {
            batch: 1,
            m,
            n,
            k,
            trans_a,
            trans_b,
            batched_a: false,
            batched_b: false,
            half_b: conv.half,
            precision: conv.precision,
            epilogue,
        },
        slots: match conv.face {
            Face::Weight => [Slot::Input(1), Slot::Input(0)],
            _ => [Slot::Input(0), Slot::Input(1)],
        },
        channel_width: if conv.face == Face::Transpose { plane } else { 1 },
    })
}

/// The products of some stride phases; the words are those of `Params` in `conv.wgsl`.
fn product_of<'a>(conv: &'a Conv, phases: &[Phase]) -> Product<'a> {
    let g = &conv.geometry;
    let (x_plane, y_plane, w_plane) = (g.x[0] * g.x[1], g.y[0] * g.y[1], g.kernel[0] * g.kernel[1]);
    let (x_image, y_image, w_image) = (g.ci * x_plane, g.co * y_plane, g.ci * w_plane);
    let sign = |size: usize| size as i32;
    // Distance of neighbouring taps of a phase in w and in y, and of its outputs in x.
    let tap = |axis: usize| g.stride[axis] / phases::gcd(g.stride[axis], g.dilation[axis]);
    let back = |axis: usize| -sign(g.dilation[axis] / phases::gcd(g.stride[axis], g.dilation[axis]));
    let stride = g.stride.map(sign);
    let dilation = g.dilation.map(sign);
    let maps = match conv.face {
        Face::Conv => Maps {
            rows: g.co,
            inner_outer: g.ci,
            cols_outer: g.batch,
            a_row: w_image,
            a: [w_plane, g.kernel[1], 1],
            out_row: y_plane,
            out: [y_image, g.y[1], 1],
            b_outer: [x_plane, x_image],
            b_size: g.x,
            inner_step: dilation,
            col_step: stride,
        },
        Face::Transpose => Maps {
            rows: g.ci,
            inner_outer: g.co,
            cols_outer: g.batch,
            a_row: w_plane,
            a: [w_image, tap(0) * g.kernel[1], tap(1)],
            out_row: x_plane,
            out: [x_image, g.stride[0] * g.x[1], g.stride[1]],
            b_outer: [y_plane, y_image],
            b_size: g.y,
            inner_step: [back(0), back(1)],
            col_step: [1, 1],
        },
        Face::Weight => Maps {
            rows: g.co,
            inner_outer: g.batch,
            cols_outer: g.ci,
            a_row: y_plane,
            a: [y_image, g.y[1], 1],
            out_row: w_image,
            out: [w_plane, g.kernel[1], 1],
            b_outer: [x_image, x_plane],
            b_size: g.x,
            inner_step: stride,
            col_step: dilation,
        },
    };
    let most = |size: fn(&Phase) -> [usize; 2]| {
        phases.iter().map(size).map(|size| size[0] * size[1]).max().unwrap_or(0)
    };
    let cols = most(|phase| phase.cols);
    let nominal_outer = if conv.face == Face::Weight { maps.cols_outer } else { NOMINAL_BATCH };
    Product {
        kernel: conv.name(),
        operands: Some("conv.wgsl"),
        rows: maps.rows,
        cols: maps.cols_outer * cols,
        nominal: [maps.rows, nominal_outer * cols, phases.len()],
        // 0 where no phase has taps: their sums are empty.
        inner: (maps.inner_outer * most(|phase| phase.inner)).max(1),
        slices: phases.len(),
        params: maps.words(phases),
        a: Slot::Input(1),
        b: Slot::Input(0),
        half: [conv.half, false],
        packed: false,
        halves: (conv.precision == Precision::F16).then(|| {
            let images = |lines, line| Scaled { slices: 1, lines, line, own: true };
            match conv.face {
                Face::Conv => [Scaled::whole(1, g.co * w_image), images(g.batch, x_image)],
                Face::Transpose => [Scaled::whole(1, g.co * w_image), images(g.batch, y_image)],
                Face::Weight => [Scaled::whole(1, g.batch * y_image), Scaled::whole(1, g.batch * x_image)],
            }
        }),
        epilogue: &conv.epilogue,
    }
}

/// The affine maps of a face, named as in `conv.wgsl`.
struct Maps {
    rows: usize,
    inner_outer: usize,
    cols_outer: usize,
    a_row: usize,
    a: [usize; 3],
    out_row: usize,
    out: [usize; 3],
    /// Strides of B per outer digit of the inner index and of the columns.
    b_outer: [usize; 2],
    b_size: [usize; 2],
    inner_step: [i32; 2],
    col_step: [i32; 2],
}

impl Maps {
    /// `Params` from `inner_outer` on.
    fn words(&self, phases: &[Phase]) -> Vec<u32> {
        let sizes = [
            self.inner_outer,
            self.cols_outer,
            self.a_row, //
            self.a[0],
            self.a[1],
            self.a[2],
            self.out_row, //
            self.out[0],
            self.out[1],
            self.out[2],
            self.b_outer[0], //
            self.b_outer[1],
            self.b_size[0],
            self.b_size[1],
            0,
        ];
        let steps = self.inner_step.iter().chain(&self.col_step).map(|&step| step.cast_unsigned());
        let mut words: Vec<u32> = sizes.iter().map(|&size| size as u32).chain(steps).collect();
        for phase in phases {
            words.extend(phase.inner.iter().chain(&phase.cols).map(|&size| size as u32));
            words.extend(phase.origin.map(i32::cast_unsigned));
            words.extend([phase.a_start, phase.out_start].map(|start| start as u32));
        }
        words.resize(words.len() + 8 * (PHASES_PER_DISPATCH - phases.len()), 0);
        words
    }
}
