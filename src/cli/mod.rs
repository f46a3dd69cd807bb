//! The command line: one file for each command, shared arguments and output here.

mod args;
mod assess;
mod bench;
mod compare;
mod data;
mod demo;
mod devices;
mod doctor;
mod eval;
mod explain;
mod job;
mod kernels;
mod launches;
mod ops;
mod profile;
mod programs;
mod progress;
mod ready;
mod score;
mod search;
mod session;
mod shaders;
mod signals;
mod systems;
mod table;
mod train;
mod tune;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};

pub use args::Global;

/// Finds what does not look like your normal images: trains a GAN on them, searches the latent of every query, scores
/// what the search cannot show. Runs on Vulkan, Metal, DX12 or the embedded CPU device.
#[derive(Debug, Parser)]
#[command(
    name = "ganomede",
    version,
    max_term_width = 110,
    after_help = "Example:\n  ganomede demo --report report"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Train(train::Args),
    Score(score::Args),
    Eval(eval::Args),
    Search(search::Args),
    Data(data::Args),
    Devices(devices::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Explain(explain::Args),
    Compare(compare::Args),
    Systems(systems::Args),
    Kernels(kernels::Args),
    Tune(tune::Args),
    Profile(profile::Args),
}

/// A failure as the user sees it: one paragraph and an exit code.
#[derive(Debug)]
pub struct CliError {
    message: String,
    code: u8,
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl CliError {
    /// Bad usage or bad input: exit code 2.
    pub fn input(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// A fault of the machine: exit code 1.
    pub fn machine(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// Stopped by Ctrl-C: exit code 130.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 130 }
    }

    fn new(error: &dyn std::error::Error, machine: bool) -> Self {
        Self { message: error.to_string(), code: if machine { 1 } else { 2 } }
    }
}

macro_rules! failure {
    ($type:ty, $error:ident => $machine:expr) => {
        impl From<$type> for CliError {
            fn from($error: $type) -> Self {
                Self::new(&$error, $machine)
            }
        }
    };
}
use crate::models::scorer::ScoreError;
use crate::train::TrainError;

fn score_is_machine(error: &ScoreError) -> bool {
    match error {
        ScoreError::Device(e) => e.is_machine_fault(),
        ScoreError::File(e) => e.is_machine_fault(),
        ScoreError::Report(_) => true,
        ScoreError::Config(_) | ScoreError::Compile(_) | ScoreError::NotANumber { .. } => false,
    }
}

fn train_is_machine(error: &TrainError) -> bool {
    match error {
        TrainError::Device(e) => e.is_machine_fault(),
        TrainError::File(e) => e.is_machine_fault(),
        TrainError::Data(e) => e.is_machine_fault(),
        TrainError::Score(e) => score_is_machine(e),
        TrainError::Report(_) | TrainError::NonFinite { .. } | TrainError::NonFiniteState { .. } => true,
        TrainError::Config(_) | TrainError::Compile(_) | TrainError::BatchTooLarge { .. } => false,
        TrainError::Mismatch { .. } => false,
    }
}

failure!(crate::models::ConfigError, e => false);
failure!(crate::program::CompileError, e => false);
failure!(crate::device::DeviceError, e => e.is_machine_fault());
failure!(crate::models::file::FileError, e => e.is_machine_fault());
failure!(crate::eval::EvalError, e => e.is_machine_fault());
failure!(crate::report::ReportError, e => e.is_machine_fault());
failure!(ganomede_datasets::DataError, e => e.is_machine_fault());
failure!(ScoreError, e => score_is_machine(&e));
failure!(TrainError, e => train_is_machine(&e));

/// Set by Ctrl-C; loops look at it between steps.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for Ctrl-C; a second one ends the process at once.
    fn listen() -> Self {
        let flag = Self::default();
        let seen = flag.0.clone();
        // Where no handler can be set, Ctrl-C keeps its default meaning: the process ends, checkpoints are whole.
        let _ = ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        });
        flag
    }

    /// Whether Ctrl-C was pressed.
    pub fn raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Parses the arguments, runs the command, prints a failure, returns the exit code.
pub fn main() -> ExitCode {
    quiet_driver();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    cli.global.set_budget();
    let interrupt = Interrupt::listen();
    let outcome = match &cli.command {
        Command::Demo(args) => demo::run(args, &cli.global, &interrupt),
        Command::Train(args) => train::run(args, &cli.global, &interrupt),
        Command::Score(args) => score::run(args, &cli.global, &interrupt),
        Command::Eval(args) => eval::run(args, &cli.global, &interrupt),
        Command::Compare(args) => compare::run(args, &cli.global, &interrupt),
        Command::Systems(args) => systems::run(args, &cli.global),
        Command::Search(args) => search::run(args, &cli.global, &interrupt),
        Command::Data(args) => data::run(args, &cli.global),
        Command::Devices(args) => devices::run(args, &cli.global),
        Command::Doctor(args) => doctor::run(args, &cli.global, &interrupt),
        Command::Explain(args) => explain::run(args, &cli.global),
        Command::Bench(args) => bench::run(args, &cli.global, &interrupt),
        Command::Kernels(args) => kernels::run(args, &cli.global, &interrupt),
        Command::Tune(args) => tune::run(args, &cli.global, &interrupt),
        Command::Profile(args) => profile::run(args, &cli.global, &interrupt),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let label = if error.code == 130 { "" } else { "error: " };
            note(&format!("{label}{}", error.message));
            ExitCode::from(error.code)
        }
    }
}

/// Mesa's device-select layer complains on stderr where `XDG_RUNTIME_DIR` is unset, as in containers.
fn quiet_driver() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first thing that `main` does, before any other thread exists.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Writes a line of results to stdout; a reader that has gone away ends the output, not the program.
pub(crate) fn say(text: &str) -> Result<(), CliError> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::machine(format!(
            "cannot write to standard output: {e}; check the space where it goes"
        ))),
        _ => Ok(()),
    }
}

/// Writes a line of log to stderr. A log that cannot be written (full disk, closed pipe) never ends the work.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One JSON document on stdout.
pub(crate) fn say_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| CliError::machine(format!("cannot write JSON: {e}")))?;
    say(&text)
}
