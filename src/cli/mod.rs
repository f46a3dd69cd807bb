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
mod findings;
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
mod stop;
mod systems;
mod table;
mod train;
mod tune;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ganomede_host::{interrupt, line, lines};

pub use args::Global;
pub use stop::Interrupt;

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
        // Whatever ends a command that was asked to stop, it ends because it was asked.
        let code = if interrupt::raised() {
            130
        } else if machine {
            1
        } else {
            2
        };
        Self { message: error.to_string(), code }
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
        TrainError::Config(_) | TrainError::Compile(_) => false,
        TrainError::BatchTooLarge { .. } | TrainError::NoBatch { .. } => false,
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
failure!(ganomede_host::HoldError, e => e.is_machine_fault());
failure!(ScoreError, e => score_is_machine(&e));
failure!(TrainError, e => train_is_machine(&e));

/// Parses the arguments, runs the command, prints a failure, returns the exit code.
pub fn main() -> ExitCode {
    quiet_driver();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to stdout.
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            return match (error.use_stderr(), printed) {
                (true, _) => ExitCode::from(2),
                (false, printed) => ended(unless_closed(printed)),
            };
        }
    };
    ended(run(&cli))
}

/// The exit code of an outcome, and a failure's paragraph.
fn ended(outcome: Result<(), CliError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let label = if error.code == 130 { "" } else { "error: " };
            // Names in it may hold newlines: no line of it but the first starts as a message does.
            note(&format!("{label}{}", error.message.trim_end().replace('\n', "\n  ")));
            ExitCode::from(error.code)
        }
    }
}

fn run(cli: &Cli) -> Result<(), CliError> {
    start_threads()?;
    cli.global.set_budget();
    let (global, interrupt) = (&cli.global, &Interrupt::listen()?);
    match &cli.command {
        Command::Demo(args) => demo::run(args, global, interrupt),
        Command::Train(args) => train::run(args, global, interrupt),
        Command::Score(args) => score::run(args, global, interrupt),
        Command::Eval(args) => eval::run(args, global, interrupt),
        Command::Compare(args) => compare::run(args, global, interrupt),
        Command::Systems(args) => systems::run(args, global),
        Command::Search(args) => search::run(args, global, interrupt),
        Command::Data(args) => data::run(args, global),
        Command::Devices(args) => devices::run(args, global),
        Command::Doctor(args) => doctor::run(args, global, interrupt),
        Command::Explain(args) => explain::run(args, global),
        Command::Bench(args) => bench::run(args, global, interrupt),
        Command::Kernels(args) => kernels::run(args, global, interrupt),
        Command::Tune(args) => tune::run(args, global, interrupt),
        Command::Profile(args) => profile::run(args, global, interrupt),
    }
}

/// Starts the threads that all computation shares: later, from within it, there is no way to refuse.
fn start_threads() -> Result<(), CliError> {
    rayon::ThreadPoolBuilder::new().build_global().map_err(|e| {
        CliError::machine(format!(
            "cannot start threads: {e}; raise the limit on processes (`ulimit -u`, or the container's), or set \
             RAYON_NUM_THREADS to fewer"
        ))
    })
}

/// Mesa's device-select layer complains on stderr where `XDG_RUNTIME_DIR` is unset, as in containers.
fn quiet_driver() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first thing that `main` does, before any other thread exists.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// Writes lines of results to stdout, with nothing in them that acts on a terminal; a reader that has gone away ends the
/// output, not the program.
pub(crate) fn say(text: &str) -> Result<(), CliError> {
    print(&lines(text))
}

fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    unless_closed(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// What became of a write to stdout: a full disk is a failure, a reader that has seen enough is none.
fn unless_closed(printed: std::io::Result<()>) -> Result<(), CliError> {
    match printed {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::machine(format!(
            "cannot write to standard output: {e}; check the space where it goes"
        ))),
        _ => Ok(()),
    }
}

/// Writes lines of log to stderr, with nothing in them that acts on a terminal. A log that cannot be written (full disk,
/// closed pipe) never ends the work.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", lines(text));
}

/// A path as a part of a line.
pub(crate) fn shown(path: &std::path::Path) -> String {
    line(&path.to_string_lossy()).into_owned()
}

/// One JSON document on stdout.
pub(crate) fn say_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| CliError::machine(format!("cannot write JSON: {e}")))?;
    print(&text)
}
