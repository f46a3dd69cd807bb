//! A typical kernel for each variant: a layer of a 64 × 64 DCGAN, or what the variant is for.

use ganomede_kernels::{GpuPlan, Kernel, Ladder, Size};

use super::traits;
use crate::shared::CliError;

/// The plan of a variant's sample on a hardware adapter.
pub(super) fn plan(ladder: &Ladder, variant: &str) -> Result<GpuPlan, CliError> {
    let plan = Kernel::sample(ladder, variant, Size::Typical)
        .and_then(|kernel| kernel.gpu(&traits(false), Some(variant)));
    plan.map_err(|error| CliError::machine(error.to_string()))
}
