//! The commands: one file each.

pub(crate) mod bench;
pub(crate) mod calibrate;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod kernels;
pub(crate) mod merge;
pub(crate) mod profile;
pub(crate) mod recommend;
pub(crate) mod score;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod systems;
pub(crate) mod train;
pub(crate) mod tune;

use clap::Subcommand;

use crate::shared::args::Global;
use crate::shared::{CliError, Interrupt};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Train(train::Args),
    Score(score::Args),
    Merge(merge::Args),
    Eval(eval::Args),
    Info(info::Args),
    Calibrate(calibrate::Args),
    Search(search::Args),
    Serve(serve::Args),
    Data(data::Args),
    Devices(devices::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Explain(explain::Args),
    Export(export::Args),
    Import(import::Args),
    Compare(compare::Args),
    Recommend(recommend::Args),
    Systems(systems::Args),
    Kernels(kernels::Args),
    Tune(tune::Args),
    Profile(profile::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

impl Command {
    /// Does what the command says.
    pub(crate) fn run(&self, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
        match self {
            Command::Demo(args) => demo::run(args, global, interrupt),
            Command::Train(args) => train::run(args, global, interrupt),
            Command::Score(args) => score::run(args, global, interrupt),
            Command::Merge(args) => merge::run(args),
            Command::Eval(args) => eval::run(args, global, interrupt),
            Command::Compare(args) => compare::run(args, global, interrupt),
            Command::Recommend(args) => recommend::run(args, global, interrupt),
            Command::Systems(args) => systems::run(args, global),
            Command::Info(args) => info::run(args, global),
            Command::Calibrate(args) => calibrate::run(args, global, interrupt),
            Command::Search(args) => search::run(args, global, interrupt),
            Command::Serve(args) => serve::run(args, global, interrupt),
            Command::Data(args) => data::run(args, global),
            Command::Devices(args) => devices::run(args, global),
            Command::Doctor(args) => doctor::run(args, global, interrupt),
            Command::Explain(args) => explain::run(args, global),
            Command::Export(args) => export::run(args, global, interrupt),
            Command::Import(args) => import::run(args, global, interrupt),
            Command::Bench(args) => bench::run(args, global, interrupt),
            Command::Kernels(args) => kernels::run(args, global, interrupt),
            Command::Tune(args) => tune::run(args, global, interrupt),
            Command::Profile(args) => profile::run(args, global, interrupt),
            Command::Completions(args) => shell::completions(args),
            Command::Man(args) => shell::man(args),
        }
    }
}
