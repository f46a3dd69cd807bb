//! GPU plans of the family.

use super::Gemm;
use crate::{GpuPlan, GpuTraits, KernelError};

pub(super) fn variants(_kernel: &Gemm) -> Vec<&'static str> {
    Vec::new()
}

pub(super) fn plan(
    kernel: &Gemm,
    _traits: &GpuTraits,
    variant: Option<&str>,
) -> Result<GpuPlan, KernelError> {
    Err(KernelError::Variant {
        kernel: kernel.name(),
        variant: variant.unwrap_or("default").to_owned(),
        known: String::new(),
    })
}
