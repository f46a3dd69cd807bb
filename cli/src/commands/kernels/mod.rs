//! `kernels`: every kernel variant, its text in each shader language, its machine code's statistics, its
//! correctness.

mod isa;
mod list;
mod samples;
mod show;
mod verify;

use ganomede_kernels::{GpuTraits, Kernel};

use crate::shared::args::Global;
use crate::shared::ops::OpArgs;
use crate::shared::{CliError, Interrupt};

/// Look at the kernels: variants, shader text, machine code, errors against f64.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  ganomede kernels list\n  ganomede kernels show conv --variant 3 --as hlsl\n  \
    ganomede kernels isa --target navi21\n  ganomede kernels verify conv --variant 3 --device gpu"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// Every family and variant with its constants, and when it is chosen.
    #[command(after_help = "Example:\n  ganomede kernels list conv")]
    List(list::ListArgs),
    /// The shaders of one variant, in any shader language.
    #[command(after_help = "Example:\n  ganomede kernels show conv --variant 3 --as hlsl")]
    Show(show::ShowArgs),
    /// Registers, occupancy and instruction mix on AMD GPUs, without having one (Linux, Mesa's RADV).
    Isa(isa::IsaArgs),
    /// Run variants against plain f64 loops and print the largest error.
    Verify(verify::VerifyArgs),
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    match &args.what {
        What::List(list) => list::run(list, global),
        What::Show(show) => show::run(show, global),
        What::Isa(isa) => isa::run(isa, global),
        What::Verify(verify) => verify::run(verify, global, interrupt),
    }
}

/// The kernels of an operation's launches, each with a variant where `--variant` names one for it.
fn kernels(op: &OpArgs, global: &Global) -> Result<Vec<(Kernel, Option<&'static str>)>, CliError> {
    let (_, program) = op.record(global.precision.into())?;
    let variant = op.variant_of(&program)?;
    let kernels = program.launches.iter().map(|launch| launch.kernel.clone()).enumerate();
    Ok(kernels.map(|(i, kernel)| (kernel, variant.filter(|_| i == 0))).collect())
}

/// The variants of a kernel in the order of its family's numbers.
fn ladder(kernel: &Kernel) -> Vec<(usize, &'static str)> {
    let has = kernel.variants();
    let numbered = (1..).zip(kernel.ladder().variants);
    numbered
        .filter(|(_, variant)| has.contains(&variant.name))
        .map(|(n, variant)| (n, variant.name))
        .collect()
}

/// What kernels may know of a typical adapter: WebGPU's default limits, hardware unless `software`, subgroups
/// of one size and halves so that every variant can be shown.
fn traits(software: bool) -> GpuTraits {
    let subgroup = Some(if software { 8 } else { 32 });
    GpuTraits { software, subgroup, f16: true, ..GpuTraits::default() }
}

impl From<ganomede::inspect::InspectError> for CliError {
    fn from(error: ganomede::inspect::InspectError) -> Self {
        Self::machine(error.to_string())
    }
}
