//! `tune`: measures kernel variants on an adapter and keeps what wins.

use std::collections::BTreeMap;

use ganomede_datasets::Reads;
use ganomede_kernels::{Kernel, ladders};
use serde::Serialize;

use crate::shared::args::Global;
use crate::shared::programs::{
    ChosenSystem, Sizes, Which, go_on, parse_batch, parse_networks, record_program,
};
use crate::shared::session::check_folder;
use crate::shared::table::{TextTable, digits};
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::Precision;
use ganomede::device::tuning::Choice;
use ganomede::device::{Device, machine};
use ganomede::tune::{Candidate, Outcome, tune};

/// Measure kernel variants on a GPU and keep the fastest; programs loaded later use them. Nobody has to: the
/// default choices are good.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  ganomede tune --device gpu\n  ganomede tune anogan --size 64 --width 32 --batch 64 --device gpu:0\n  \
    GANOMEDE_CACHE=/tmp/cache ganomede tune --device gpu --dry-run"
)]
pub(crate) struct Args {
    /// Whose programs' kernels to measure.
    #[arg(value_parser = parse_networks(), default_value = ChosenSystem::USUAL.name())]
    system: ChosenSystem,
    #[command(flatten)]
    sizes: Sizes,
    /// Images in a batch, or searches side by side.
    #[arg(long, default_value_t = 64, value_parser = parse_batch)]
    batch: usize,
    /// Families to measure, for example conv,gemm [default: all].
    #[arg(long, value_name = "FAMILY", num_args = 1.., value_delimiter = ',')]
    kernel: Vec<String>,
    /// Measure and tell, but keep nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Serialize)]
struct TunedClass {
    class: String,
    variant: String,
    ms: f64,
    default: String,
    default_ms: f64,
    candidates: Vec<Tried>,
}

#[derive(Debug, Clone, Serialize)]
struct Tried {
    variant: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<f64>,
}

impl Tried {
    fn new(candidate: &Candidate) -> Self {
        let (outcome, ms, error) = match candidate.outcome {
            Outcome::Measured(ms) => ("measured", Some(ms), None),
            Outcome::Dropped(ms) => ("dropped", Some(ms), None),
            Outcome::Wrong(error) => ("wrong", None, Some(error)),
            Outcome::Refused(_) => ("refused", None, None),
        };
        Self { variant: candidate.variant, outcome, ms, error }
    }

    fn text(&self) -> String {
        match (self.ms, self.error) {
            (Some(ms), _) => format!("{} {}", self.variant, digits(ms)),
            (_, Some(error)) => format!("{} WRONG by {error:.0e}", self.variant),
            _ => format!("{} {}", self.variant, self.outcome),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
struct TuneDocument {
    adapter: String,
    file: Option<String>,
    kernels: Vec<TunedClass>,
}

/// One kernel of each shape class in the system's programs.
fn classes(args: &Args, precision: Precision, seed: u64) -> Result<BTreeMap<String, Kernel>, CliError> {
    let names = ladders().map(|ladder| ladder.name);
    if let Some(unknown) = args.kernel.iter().find(|name| !names.clone().any(|known| known == *name)) {
        let known: Vec<&str> = names.collect();
        return Err(CliError::input(format!(
            "there is no kernel family '{unknown}'; there are: {}",
            known.join(", ")
        )));
    }
    let wanted = |kernel: &Kernel| {
        args.kernel.is_empty() || args.kernel.iter().any(|name| name == kernel.ladder().name)
    };
    let mut found = BTreeMap::new();
    for which in [Which::Step, Which::Search] {
        let recorded = match record_program(args.system, which, None, &args.sizes.config(), args.batch, seed)
        {
            Err(_) if which == Which::Search => continue, // a system without one
            recorded => recorded?,
        };
        let programs = recorded.prepare.into_iter().chain([recorded.program]);
        let programs: Vec<_> = programs.map(|program| program.with_precision(precision)).collect();
        for launch in programs.iter().flat_map(|program| &program.launches) {
            if let Some(class) = launch.kernel.class().filter(|_| wanted(&launch.kernel)) {
                found.entry(class).or_insert_with(|| launch.kernel.clone());
            }
        }
    }
    Ok(found)
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let Device::Gpu(gpu) = global.open()? else {
        return Err(CliError::input("there is nothing to tune on the CPU device; add --device gpu"));
    };
    let folder = match machine::cache_folder() {
        Some(folder) => Some(folder),
        None if args.dry_run => None,
        None => {
            return Err(CliError::input(
                "there is no cache folder; set GANOMEDE_CACHE to one, or add --dry-run",
            ));
        }
    };
    if let Some(folder) = folder.as_deref().filter(|_| !args.dry_run) {
        check_folder(folder, &Reads::new())?;
    }
    let classes = classes(args, gpu.precision(), global.seed)?;
    note(&format!("{} shape classes on {}", classes.len(), gpu.describe()));
    let mut tuning = gpu.tuning().clone();
    let mut rows = Vec::new();
    for (class, kernel) in classes {
        go_on(interrupt)?;
        let (choice, candidates) = tune(&gpu, &kernel)?;
        let candidates: Vec<Tried> = candidates.iter().map(Tried::new).collect();
        if !choice.ms.is_finite() {
            let tried: Vec<String> = candidates.iter().map(Tried::text).collect();
            note(&format!(
                "{class}: no variant can be used here ({}); run `ganomede doctor`",
                tried.join(", ")
            ));
            continue;
        }
        let Choice { variant, ms, default, default_ms } = choice.clone();
        rows.push(TunedClass { class: class.clone(), variant, ms, default, default_ms, candidates });
        tuning.choices.insert(class, choice);
    }
    let file = match folder.filter(|_| !args.dry_run) {
        Some(folder) => Some(tuning.save(&folder, &gpu.identity()).map_err(CliError::machine)?),
        None => None,
    };
    let file = file.map(|path| path.display().to_string());
    if global.json {
        return say_json(&TuneDocument { adapter: gpu.describe(), file, kernels: rows });
    }
    let mut table = TextTable::new(&["kernel", "fastest", ">ms", "default", ">ms", "tried"]);
    for row in &rows {
        let default_ms = if row.default_ms.is_finite() { digits(row.default_ms) } else { "–".to_owned() };
        let tried: Vec<String> = row.candidates.iter().map(Tried::text).collect();
        table.row([
            row.class.clone(),
            row.variant.clone(),
            digits(row.ms),
            row.default.clone(),
            default_ms,
            tried.join(", "),
        ]);
    }
    say(&table.text())?;
    say(&file.map_or_else(|| "nothing was kept".to_owned(), |file| format!("kept in {file}")))
}
