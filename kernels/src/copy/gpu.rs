//! GPU plans of the family, all from `copy.wgsl`: one dispatch per part.
//!
//! | variant | what | when chosen |
//! |---|---|---|
//! | `naive` | one thread per element | software adapters; no part is a transposition |
//! | `tile` | transpositions through shared memory, other parts as `naive` | otherwise |

use super::{Copy, CopyPart};
use crate::error::KernelError;
use crate::family::Family;
use crate::launch::{Dispatch, GpuPlan, GpuTraits, Slot};
use crate::layout::numel;
use crate::plan::{begin, fold, read, write};
use crate::space::merge;

/// Side of a square, and the smallest side that is worth one.
const SIDE: usize = 32;
const LEAST: usize = 8;

/// A part's merged dimensions, innermost in the output first.
struct Dims {
    shape: Vec<usize>,
    src: Vec<usize>,
    dst: Vec<usize>,
    /// The first dimension is dense in the output, the second in the input.
    transposed: bool,
}

impl Dims {
    fn new(part: &CopyPart) -> Self {
        let mut order: Vec<usize> = (0..part.shape.len()).collect();
        order.sort_by_key(|&d| std::cmp::Reverse(part.dst_strides[d]));
        let sorted = |v: &[usize]| order.iter().map(|&d| v[d]).collect::<Vec<_>>();
        let (dst, src) = (sorted(&part.dst_strides), sorted(&part.src_strides));
        let (mut shape, mut strides, _) =
            merge(&sorted(&part.shape), &[&src, &dst], &vec![false; order.len()]);
        shape.reverse();
        strides.iter_mut().for_each(|s| s.reverse());
        let (mut src, mut dst) = (strides.swap_remove(0), strides.swap_remove(0));
        let dense = (0..shape.len()).find(|&d| src[d] == 1);
        let transposed = match dense {
            Some(d) if d > 0 => dst[0] == 1 && shape[0] >= LEAST && shape[d] >= LEAST,
            _ => false,
        };
        if transposed && let Some(d) = dense {
            for v in [&mut shape, &mut src, &mut dst] {
                v[1..=d].rotate_right(1);
            }
        }
        Self { shape, src, dst, transposed }
    }

    fn words(&self, part: &CopyPart) -> Vec<u32> {
        let mut words = vec![numel(&self.shape), self.shape.len(), part.src_offset, part.dst_offset];
        for v in [&self.shape, &self.src, &self.dst] {
            words.extend(v.iter().copied().chain(std::iter::repeat(0)).take(8));
        }
        words.into_iter().map(|v| v as u32).collect()
    }
}

pub(super) fn variants(k: &Copy) -> Vec<&'static str> {
    if k.parts.iter().any(|p| Dims::new(p).transposed) { vec!["naive", "tile"] } else { vec!["naive"] }
}

pub(super) fn plan(k: &Copy, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
    let chosen = || if traits.software { "naive" } else { variants(k)[variants(k).len() - 1] };
    let variant = begin(k, traits, variant, chosen)?;
    let out = write(Slot::Output(0));
    let dispatch = |entry, groups, bindings, params| {
        Ok(Dispatch {
            shader: "copy.wgsl",
            source: traits.shaders.text("copy.wgsl").to_owned().into(),
            entry,
            constants: Vec::new(),
            workgroups: fold(k.name(), groups, traits)?,
            bindings,
            params,
        })
    };
    let mut dispatches = Vec::with_capacity(k.parts.len() + 1);
    let covered: usize = k.parts.iter().map(|p| numel(&p.shape)).sum();
    if k.zero && covered < k.len {
        let mut params = vec![0; 28];
        params[0] = k.len as u32;
        dispatches.push(dispatch("zero", k.len.div_ceil(64), vec![out], params)?);
    }
    for (p, part) in k.parts.iter().enumerate() {
        let dims = Dims::new(part);
        let tiled = variant == "tile" && dims.transposed;
        let (entry, groups) = if tiled {
            let squares = dims.shape[0].div_ceil(SIDE) * dims.shape[1].div_ceil(SIDE);
            ("tile", squares * numel(&dims.shape[2..]))
        } else {
            ("main", numel(&dims.shape).div_ceil(64))
        };
        dispatches.push(dispatch(entry, groups, vec![out, read(Slot::Input(p))], dims.words(part))?);
    }
    Ok(GpuPlan { variant, dispatches, scratch_lens: Vec::new() })
}
