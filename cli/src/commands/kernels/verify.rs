//! `kernels verify`: variants against plain f64 loops.

use ganomede_kernels::{Kernel, KernelError};
use serde::Serialize;

use super::{kernels, ladder};
use crate::shared::args::Global;
use crate::shared::ops::OpArgs;
use crate::shared::programs::go_on;
use crate::shared::table::TextTable;
use crate::shared::{CliError, Interrupt, say, say_json};
use ganomede::device::Device;
use ganomede::tune::{relative_error, tolerance};

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede kernels verify conv --device gpu\n  \
    ganomede kernels verify gemm --variant 4 --shape 65x33x1030 --device gpu")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    op: OpArgs,
}

#[derive(Debug, Clone, Serialize)]
struct ErrorRow {
    kernel: &'static str,
    /// Number in the family's ladder; `None` for the CPU twin.
    number: Option<usize>,
    variant: &'static str,
    device: &'static str,
    /// Largest error over the root mean square of the expected values.
    max_relative_error: f64,
    max_absolute_error: f64,
    tolerance: f64,
    passed: bool,
}

/// Multiply-adds that plain loops do in a few seconds.
const MOST_FLOPS: u64 = 1 << 33;

fn check(
    kernel: &Kernel,
    variants: &[(Option<usize>, &'static str)],
    device: &Device,
    seed: u64,
) -> Result<Vec<ErrorRow>, CliError> {
    if kernel.cost().flops > MOST_FLOPS {
        let flops = crate::shared::table::flops(kernel.cost().flops);
        return Err(CliError::input(format!(
            "{} of this shape takes {flops}, too many for plain loops in f64; give a smaller --shape",
            kernel.name()
        )));
    }
    let (inputs, before) = kernel.sample_data(seed);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let before: Vec<&[f32]> = before.iter().map(Vec::as_slice).collect();
    let want = kernel.oracle(&inputs, &before);
    variants
        .iter()
        .map(|&(number, variant)| {
            let got = match device {
                Device::Gpu(gpu) => gpu.run_kernel(kernel, Some(variant), &inputs, Some(&before))?,
                _ => ganomede::tune::run_twin(kernel, &inputs, &before),
            };
            let (relative, absolute) = relative_error(&got, &want);
            Ok(ErrorRow {
                kernel: kernel.name(),
                number,
                variant,
                device: if matches!(device, Device::Gpu(_)) { "gpu" } else { "cpu" },
                max_relative_error: relative,
                max_absolute_error: absolute,
                tolerance: tolerance(kernel),
                passed: relative <= tolerance(kernel),
            })
        })
        .collect()
}

pub(super) fn run(args: &VerifyArgs, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let device = global.open()?;
    let mut op = args.op.clone();
    op.shape = Some(op.shape_or_small());
    if op.variant.is_some() && !matches!(device, Device::Gpu(_)) {
        return Err(CliError::input("--variant chooses among GPU kernels; add --device gpu"));
    }
    let mut all = kernels(&op, global)?;
    if op.variant.is_some() {
        all.truncate(1);
    }
    let mut rows = Vec::new();
    for (kernel, variant) in &all {
        go_on(interrupt)?;
        let variants: Vec<(Option<usize>, &'static str)> = match (&device, variant) {
            (Device::Gpu(gpu), _) => {
                // Of all variants, those are left out that need what the adapter does not have.
                let missing = |name| {
                    let plan = kernel.gpu(gpu.traits(), Some(name));
                    matches!(plan, Err(KernelError::Missing { .. }))
                };
                let wanted =
                    |&(_, name): &(usize, &'static str)| variant.map_or(!missing(name), |only| only == name);
                ladder(kernel).into_iter().filter(wanted).map(|(n, name)| (Some(n), name)).collect()
            }
            _ => vec![(None, "twin")],
        };
        rows.extend(check(kernel, &variants, &device, global.seed)?);
    }
    let failed: Vec<String> =
        rows.iter().filter(|row| !row.passed).map(|row| format!("{} {}", row.kernel, row.variant)).collect();
    if global.json {
        say_json(&rows)?;
    } else {
        let mut table = TextTable::new(&["kernel", ">#", "variant", ">max relative error", ">max error", ""]);
        for row in &rows {
            table.row([
                row.kernel.to_owned(),
                row.number.map_or_else(String::new, |n| n.to_string()),
                row.variant.to_owned(),
                format!("{:.1e}", row.max_relative_error),
                format!("{:.1e}", row.max_absolute_error),
                if row.passed { "ok".to_owned() } else { format!("WRONG, allowed {:.0e}", row.tolerance) },
            ]);
        }
        say(&format!(
            "{} on {}\n{}",
            format_args!("{} {}", op.name.name(), op.shape()),
            device.describe(),
            table.text()
        ))?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(CliError::machine(format!(
        "wrong results: {}; update the driver, and report this with the output of `ganomede devices`",
        failed.join(", ")
    )))
}
