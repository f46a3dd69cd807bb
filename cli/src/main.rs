//! The `ganomede` command.

mod allocator;
mod commands;
mod shared;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

use commands::Command;
use shared::args::Global;
use shared::config::{self, Settings};
use shared::groups::grouped;
use shared::output::{complain, is_silent, unless_closed};
use shared::{CliError, Interrupt};

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
    let command = command();
    let arguments = match config::arguments(&command, std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return ended(Err(error)),
    };
    let parsed = command.clone().try_get_matches_from(arguments).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command.clone()))?;
        Ok((cli, Settings::of(&command, &matches)))
    });
    let (cli, settings) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are no errors and go to stdout.
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            return match (error.use_stderr(), printed) {
                (true, _) => ExitCode::from(2),
                (false, printed) => ended(unless_closed(printed)),
            };
        }
    };
    let settings = |()| settings.filter(|_| !is_silent()).map_or(Ok(()), |settings| settings.write());
    ended(run(&cli).and_then(settings))
}

/// The command line, as help, completions and man pages show it.
pub(crate) fn command() -> clap::Command {
    grouped(Cli::command())
}

/// The exit code of an outcome, and a failure's paragraph.
fn ended(outcome: Result<(), CliError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let label = if error.is_failure() { "error: " } else { "" };
            let code = ExitCode::from(error.code);
            if error.message.is_empty() || (is_silent() && !error.is_failure()) {
                return code;
            }
            // Names in it may hold newlines: no line of it but the first starts as a message does.
            complain(&format!("{label}{}", error.message.trim_end().replace('\n', "\n  ")));
            code
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

/// Drivers look for a Wayland display when they are asked for adapters. Without a folder of sockets, as in
/// containers, none can be found, and its library prints `error: XDG_RUNTIME_DIR is invalid`: a display that
/// is named by its path is looked for in silence, and Mesa's device-select layer can be told not to look.
fn quiet_driver() {
    let is_absolute =
        |name: &str| std::env::var_os(name).is_some_and(|value| Path::new(&value).is_absolute());
    if cfg!(target_os = "linux") && !is_absolute("XDG_RUNTIME_DIR") {
        // SAFETY: the first thing that `main` does, before any other thread exists.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
        let is_given = std::env::var_os("WAYLAND_SOCKET").is_some();
        if !is_given && !is_absolute("WAYLAND_DISPLAY") {
            // SAFETY: as above.
            unsafe { std::env::set_var("WAYLAND_DISPLAY", "/nonexistent") };
        }
    }
}
