//! The `ganomede` command.

mod allocator;
mod commands;
mod shared;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use shared::args::Global;
use shared::output::unless_closed;
use shared::{CliError, Interrupt, note};

/// Finds what does not look like your normal images: trains a GAN on them, searches the latent of every
/// query, scores what the search cannot show. Runs on Vulkan, Metal, DX12 or the embedded CPU device.
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

/// Parses the arguments, runs the command, prints a failure, returns the exit code.
fn main() -> ExitCode {
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
            let label = if error.is_failure() { "error: " } else { "" };
            // Names in it may hold newlines: no line of it but the first starts as a message does.
            note(&format!("{label}{}", error.message.trim_end().replace('\n', "\n  ")));
            ExitCode::from(error.code)
        }
    }
}

fn run(cli: &Cli) -> Result<(), CliError> {
    start_threads()?;
    cli.global.set_budget();
    cli.command.run(&cli.global, &Interrupt::listen()?)
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
