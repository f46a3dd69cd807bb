//! GPU plans of the family, all from `moments.wgsl`.
//!
//! | variant | what | when chosen |
//! |---|---|---|
//! | `naive` | one thread per channel | never: the reference |
//! | `threads` | one thread per channel and segment | software adapters; fewer than 64 elements |
//! | `groups` | one workgroup per channel and segment | otherwise |

use super::Moments;
use crate::error::KernelError;
use crate::family::Family;
use crate::launch::{Bind, Dispatch, GpuPlan, GpuTraits, Slot};
use crate::plan::{begin, check_bindings, fold, read, segments, write};
use crate::sections::splice;

/// Stores a segment's set instead of mean and variance.
const PARTIAL_TARGET: &str = "\
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

fn store(channel: u32, segment: u32, stats: vec3f) {
    let at = 3u * (channel * params.segments + segment);
    partials[at] = stats.x;
    partials[at + 1u] = stats.y;
    partials[at + 2u] = stats.z;
}
";
/// Reads those sets; `params.sets` is their number.
const PARTIAL_SOURCE: &str = "\
@group(0) @binding(4) var<storage, read> partials: array<f32>;

fn set_at(channel: u32, j: u32, shift: f32) -> vec3f {
    let at = 3u * (channel * params.sets + j);
    return vec3f(partials[at], partials[at + 1u], partials[at + 2u]);
}
";

pub(super) fn plan(k: &Moments, traits: &GpuTraits, variant: Option<&str>) -> Result<GpuPlan, KernelError> {
    let chosen = || if traits.software || k.outer * k.inner < 64 { "threads" } else { "groups" };
    let variant = begin(k, traits, variant, chosen)?;
    let segments = segments(variant, k.outer * k.inner, traits);
    let scratch_len = if segments == 1 { 0 } else { 3 * k.channels * segments };
    check_bindings(k.name(), [scratch_len], traits)?;
    let text = traits.shaders.text("moments.wgsl");
    let dispatch = |source: String, bindings: Vec<Bind>, sets: usize, segments: usize| {
        let (entry, groups) = match variant {
            "groups" => ("groups", k.channels * segments),
            _ => ("threads", (k.channels * segments).div_ceil(64)),
        };
        Ok(Dispatch {
            shader: "moments.wgsl",
            source: source.into(),
            entry,
            constants: Vec::new(),
            workgroups: fold(k.name(), groups, traits)?,
            bindings,
            params: [k.channels, k.inner, sets, segments].map(|v| v as u32).to_vec(),
        })
    };
    let elements = k.outer * k.inner;
    let x = read(Slot::Input(0));
    let outputs = [write(Slot::Output(0)), write(Slot::Output(1))];
    let dispatches = if segments == 1 {
        vec![dispatch(text.to_owned(), vec![x, outputs[0], outputs[1]], elements, 1)?]
    } else {
        let first = splice(text, "target", PARTIAL_TARGET);
        let second = splice(text, "source", PARTIAL_SOURCE);
        vec![
            dispatch(first, vec![x, write(Slot::Scratch(0))], elements, segments)?,
            dispatch(second, vec![x, outputs[0], outputs[1], read(Slot::Scratch(0))], segments, 1)?,
        ]
    };
    let scratch_lens = if scratch_len > 0 { vec![scratch_len] } else { Vec::new() };
    Ok(GpuPlan { variant, dispatches, scratch_lens })
}
