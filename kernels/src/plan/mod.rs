//! What the GPU plans of all families are made of: grids, bindings, the name of a variant, parameter words.

mod segments;
mod words;

pub(crate) use segments::segments;
pub(crate) use words::{Words, coordinates, offset};

use crate::error::KernelError;
use crate::family::Family;
use crate::launch::{Access, Bind, GpuTraits, Slot};

/// What every plan begins with: the parameters are checked, and so are the buffers against what the adapter
/// can bind. Returns the variant asked for, or the `chosen` one, as the family names it.
pub(crate) fn begin(
    kernel: &dyn Family,
    traits: &GpuTraits,
    variant: Option<&str>,
    chosen: impl FnOnce() -> &'static str,
) -> Result<&'static str, KernelError> {
    kernel.check()?;
    let variant = match variant {
        Some(asked) => named(kernel, asked)?,
        None => chosen(),
    };
    check_bindings(kernel.name(), kernel.input_lens().into_iter().chain(kernel.output_lens()), traits)?;
    Ok(variant)
}

/// The variant asked for, as the family names it.
fn named(kernel: &dyn Family, asked: &str) -> Result<&'static str, KernelError> {
    let names = kernel.variants();
    names.iter().copied().find(|name| *name == asked).ok_or_else(|| KernelError::Variant {
        kernel: kernel.name(),
        variant: asked.to_owned(),
        known: names.join(", ")
            + if asked.ends_with("_f16") { "; others in f16 (--precision f16)" } else { "" },
    })
}

pub(crate) fn read(slot: Slot) -> Bind {
    Bind { slot, access: Access::Read }
}

pub(crate) fn write(slot: Slot) -> Bind {
    Bind { slot, access: Access::ReadWrite }
}

/// `count` workgroups in one dimension, or folded into two where one does not hold them; the shaders number
/// workgroups by `x + y · size of x` and leave where that is beyond their work.
pub(crate) fn fold(kernel: &'static str, count: usize, traits: &GpuTraits) -> Result<[u32; 3], KernelError> {
    let limit = u64::from(traits.max_workgroups);
    let count = count as u64;
    let y = count.div_ceil(limit);
    if y > limit || count.saturating_mul(64) > u64::from(u32::MAX) {
        return Err(KernelError::Limit { kernel, needed: count, limit: limit * limit, unit: "workgroups" });
    }
    Ok([count.div_ceil(y) as u32, y as u32, 1])
}

/// Checks that every buffer fits one binding.
pub(crate) fn check_bindings(
    kernel: &'static str,
    lens: impl IntoIterator<Item = usize>,
    traits: &GpuTraits,
) -> Result<(), KernelError> {
    for len in lens {
        let needed = 4 * len as u64;
        if needed > traits.max_binding_bytes {
            let limit = traits.max_binding_bytes;
            return Err(KernelError::Limit { kernel, needed, limit, unit: "bytes in one binding" });
        }
    }
    Ok(())
}

/// The constants by which the shaders know of operands in halves; f32 is their default.
pub(crate) fn half_constants(a: bool, b: bool) -> Vec<(&'static str, f64)> {
    [("HALF_A", a), ("HALF_B", b)]
        .into_iter()
        .filter(|(_, half)| *half)
        .map(|(name, _)| (name, 1.0))
        .collect()
}
