//! `kernels isa`: what a driver makes of the kernels.

use std::path::PathBuf;

use clap::ValueEnum;
use ganomede_datasets::Reads;
use ganomede_kernels::{Dispatch, GpuPlan, Kernel, Ladder, ladders};
use serde::Serialize;

use super::{samples, traits};
use crate::shared::args::{ChannelsArg, Global};
use crate::shared::programs::{ChosenSystem, Sizes, Which, parse_batch, record_program};
use crate::shared::session::check_folder;
use crate::shared::table::TextTable;
use crate::shared::{CliError, note, say, say_json};
use ganomede::inspect::isa::{Statistics, Target, analyse, worker};

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede kernels isa --target navi21\n  \
    ganomede kernels isa --programs --width 64 --json\n  ganomede kernels isa conv --variant 3 --asm asm/")]
pub(super) struct IsaArgs {
    /// One family only.
    family: Option<String>,
    /// One variant only, by number or name.
    #[arg(long, requires = "family")]
    variant: Option<String>,
    /// GPU to compile for; may be given more than once.
    #[arg(long, value_enum, default_value = "navi21")]
    target: Vec<TargetArg>,
    /// Instead of a typical kernel for each variant, every kernel that AnoGAN's training and search run on
    /// hardware.
    #[arg(long, conflicts_with_all = ["family"])]
    programs: bool,
    /// With --programs: side of the images.
    #[arg(long, default_value_t = 64, requires = "programs")]
    size: usize,
    /// With --programs: channels of the widest feature maps.
    #[arg(long, default_value_t = 64, requires = "programs")]
    width: usize,
    /// With --programs: images in a batch.
    #[arg(long, default_value_t = 64, value_parser = parse_batch, requires = "programs")]
    batch: usize,
    /// Write the machine code of each dispatch into this folder.
    #[arg(long, value_name = "DIR")]
    asm: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TargetArg {
    /// RDNA 2, Radeon RX 6000.
    Navi21,
    /// RDNA 3, Radeon RX 7000.
    Navi31,
}

impl From<TargetArg> for Target {
    fn from(target: TargetArg) -> Self {
        match target {
            TargetArg::Navi21 => Self::Navi21,
            TargetArg::Navi31 => Self::Navi31,
        }
    }
}

/// A kernel variant to compile.
struct Subject {
    kernel: &'static str,
    plan: GpuPlan,
    scope: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct StageStatistics {
    shader: &'static str,
    entry: &'static str,
    #[serde(flatten)]
    statistics: Statistics,
}

/// A kernel variant: the numbers of its main stage, and each stage's own.
#[derive(Debug, Clone, Serialize)]
struct AssemblyRow {
    kernel: &'static str,
    variant: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    target: &'static str,
    shader: &'static str,
    entry: &'static str,
    #[serde(flatten)]
    main: Statistics,
    stages: Vec<StageStatistics>,
    driver: String,
}

fn unknown(family: &str) -> CliError {
    let known: Vec<&str> = ladders().map(|family| family.name).collect();
    CliError::input(format!("there is no kernel family '{family}'; there are: {}", known.join(", ")))
}

fn catalogue(args: &IsaArgs) -> Result<Vec<Subject>, CliError> {
    let families: Vec<&Ladder> = match &args.family {
        None => ladders().collect(),
        Some(name) => vec![ladders().find(|family| family.name == name).ok_or_else(|| unknown(name))?],
    };
    let mut subjects = Vec::new();
    for family in families {
        let only = match &args.variant {
            None => None,
            Some(asked) => Some(family.variant(asked).ok_or_else(|| {
                CliError::input(format!(
                    "{} has no variant '{asked}'; it has: {}",
                    family.name,
                    family.known()
                ))
            })?),
        };
        for variant in family.variants.iter().filter(|variant| only.is_none_or(|only| only == *variant)) {
            // RDNA runs 32 or 64 lanes a subgroup as its driver likes, so that this variant is never offered
            // there.
            if variant.name == "subgroups" {
                if only.is_some() {
                    return Err(CliError::input(
                        "subgroups needs subgroups of one size, which these GPUs do not promise",
                    ));
                }
                continue;
            }
            let plan = samples::plan(family, variant.name)?;
            subjects.push(Subject { kernel: family.name, plan, scope: None });
        }
    }
    Ok(subjects)
}

/// Every different plan of AnoGAN's programs as a hardware adapter runs them.
fn programs(args: &IsaArgs) -> Result<Vec<Subject>, CliError> {
    let sizes =
        Sizes { size: args.size.into(), channels: ChannelsArg::Gray, width: args.width, latent: None };
    let mut subjects: Vec<Subject> = Vec::new();
    for which in [Which::Step, Which::Search] {
        let recorded = record_program(ChosenSystem::USUAL, which, None, &sizes.config(), args.batch, 0)?;
        for launch in recorded.prepare.iter().flat_map(|p| &p.launches).chain(&recorded.program.launches) {
            let plan = plan(&launch.kernel)?;
            if subjects.iter().all(|known| !same_code(&known.plan, &plan)) {
                let scope = Some(format!("{} {}", which.name(), launch.scope));
                subjects.push(Subject { kernel: launch.kernel.ladder().name, plan, scope });
            }
        }
    }
    Ok(subjects)
}

fn plan(kernel: &Kernel) -> Result<GpuPlan, CliError> {
    kernel.gpu(&traits(false), None).map_err(|error| CliError::input(error.to_string()))
}

/// What machine code depends on.
fn code(dispatch: &Dispatch) -> (&str, &str, &[(&'static str, f64)]) {
    (&dispatch.source, dispatch.entry, &dispatch.constants)
}

fn same_code(a: &GpuPlan, b: &GpuPlan) -> bool {
    a.dispatches.len() == b.dispatches.len()
        && a.dispatches.iter().zip(&b.dispatches).all(|(a, b)| code(a) == code(b))
}

fn rows(subjects: &[Subject], target: Target) -> Result<Vec<AssemblyRow>, CliError> {
    let program = std::env::current_exe().map_err(|e| {
        CliError::machine(format!("this program does not find its own file: {e}; start it by its full path"))
    })?;
    let mut dispatches: Vec<&Dispatch> = Vec::new();
    for dispatch in subjects.iter().flat_map(|subject| &subject.plan.dispatches) {
        if dispatches.iter().all(|known| code(known) != code(dispatch)) {
            dispatches.push(dispatch);
        }
    }
    let report = analyse(&program, target, &dispatches)?;
    let row = |subject: &Subject| {
        let mut stages: Vec<StageStatistics> = Vec::new();
        for (dispatch, statistics) in dispatches.iter().zip(&report.statistics) {
            if subject.plan.dispatches.iter().any(|own| code(own) == code(dispatch)) {
                let (shader, entry) = (dispatch.shader, dispatch.entry);
                stages.push(StageStatistics { shader, entry, statistics: statistics.clone() });
            }
        }
        // The stage that does the work has the loop with most multiply-adds, or else the most instructions.
        let work = |stage: &&StageStatistics| (stage.statistics.loop_fma, stage.statistics.instructions);
        let main = stages.iter().max_by_key(work)?;
        Some(AssemblyRow {
            kernel: subject.kernel,
            variant: subject.plan.variant,
            scope: subject.scope.clone(),
            target: target.name(),
            shader: main.shader,
            entry: main.entry,
            main: main.statistics.clone(),
            driver: report.driver.clone(),
            stages: stages.clone(),
        })
    };
    Ok(subjects.iter().filter_map(row).collect())
}

fn text(rows: &[AssemblyRow]) -> String {
    let headings = [
        "kernel",
        "variant",
        "shader",
        "entry",
        ">VGPRs",
        ">SGPRs",
        ">spills",
        ">LDS",
        ">scratch",
        ">subgroups/SIMD",
        ">instructions",
        ">FMA share",
    ];
    let mut table = TextTable::new(&headings);
    for row in rows {
        for stage in &row.stages {
            let s = &stage.statistics;
            table.row([
                row.kernel.to_owned(),
                row.variant.to_owned(),
                stage.shader.to_owned(),
                stage.entry.to_owned(),
                s.vgprs.to_string(),
                s.sgprs.to_string(),
                s.spills.to_string(),
                s.lds_bytes.to_string(),
                s.scratch_bytes.to_string(),
                s.subgroups_per_simd.to_string(),
                s.instructions.to_string(),
                s.fma_share.map_or_else(String::new, |share| format!("{:.1} %", 100.0 * share)),
            ]);
        }
    }
    table.text()
}

fn write_assembly(rows: &[AssemblyRow], folder: &std::path::Path) -> Result<(), CliError> {
    for (number, row) in (1..).zip(rows) {
        for stage in &row.stages {
            let stem = stage.shader.trim_end_matches(".wgsl");
            let name =
                format!("{}-{number:02}-{}-{}-{stem}-{}.s", row.target, row.kernel, row.variant, stage.entry);
            ganomede::report::write_atomic(&folder.join(name), stage.statistics.assembly.as_bytes())?;
        }
    }
    Ok(())
}

pub(super) fn run(args: &IsaArgs, global: &Global) -> Result<(), CliError> {
    if worker().map_err(|e| CliError::machine(format!("the worker failed: {e}")))? {
        return Ok(());
    }
    args.asm.as_deref().map_or(Ok(()), |folder| check_folder(folder, &Reads::new()))?;
    let subjects = if args.programs { programs(args)? } else { catalogue(args)? };
    let mut all = Vec::new();
    for &target in &args.target {
        let rows = rows(&subjects, target.into())?;
        if let Some(folder) = &args.asm {
            write_assembly(&rows, folder)?;
        }
        if !global.json {
            note(&rows.first().map_or_else(String::new, |row| format!("{}: {}", row.target, row.driver)));
            say(&text(&rows))?;
        }
        all.extend(rows);
    }
    if global.json { say_json(&all) } else { Ok(()) }
}
