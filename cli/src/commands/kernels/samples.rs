//! A typical kernel for each variant: a layer of a 64 × 64 DCGAN, or what the variant is for.

use ganomede_kernels::catalogue::Family;
use ganomede_kernels::{GpuPlan, Kernel};

use super::traits;
use crate::shared::CliError;
use crate::shared::ops::{OpArgs, OpName};

/// The operation that shows a variant of a family.
fn operation(family: &Family, variant: &str) -> OpArgs {
    use OpName::*;
    let shaped = |name, dims: &[usize], out| OpArgs::typical(name, dims, out);
    // conv and conv_weight read x, conv_transpose reads y.
    let name = match family.name {
        "conv" => Conv,
        "conv_transpose" => ConvTranspose,
        "conv_weight" => ConvWeight,
        "gemm" => Gemm,
        "pointwise" => Pointwise,
        "reduce" => Reduce,
        "moments" => Moments,
        "copy" => Transpose,
        "max_pool" => MaxPool,
        "sparse" => Resize,
        _ => Random,
    };
    match (name, variant) {
        (Conv | ConvWeight, "matmul") => {
            OpArgs { stride: 1, padding: 0, ..shaped(name, &[64, 512, 4, 4], Some(100)) }
        }
        (ConvTranspose, "matmul") => {
            OpArgs { stride: 1, padding: 0, ..shaped(name, &[64, 100, 1, 1], Some(512)) }
        }
        (ConvTranspose, "registers" | "direct") => shaped(name, &[64, 64, 32, 32], Some(1)),
        (ConvTranspose, _) => shaped(name, &[64, 128, 16, 16], Some(64)),
        (Conv | ConvWeight, "registers") => shaped(name, &[64, 64, 32, 32], Some(1)),
        (Gemm, "dot") => shaped(name, &[64, 1, 8192], None),
        (Gemm, "registers") => shaped(name, &[4, 4096, 512], None),
        (Gemm, _) => shaped(name, &[512, 512, 512], None),
        _ => shaped(name, &[64, 64, 32, 32], None),
    }
}

/// The kernel that shows a variant.
pub(super) fn kernel(family: &Family, variant: &str) -> Result<Kernel, CliError> {
    let (_, program) = operation(family, variant).record()?;
    let mut kernels = program.launches.into_iter().map(|launch| launch.kernel);
    kernels
        .find(|kernel| Family::of(kernel).name == family.name)
        .ok_or_else(|| CliError::machine(format!("no operation shows {}", family.name)))
}

/// Its plan on a hardware adapter.
pub(super) fn plan(family: &Family, variant: &str) -> Result<GpuPlan, CliError> {
    let kernel = kernel(family, variant)?;
    kernel.gpu(&traits(false), Some(variant)).map_err(|error| CliError::machine(error.to_string()))
}
