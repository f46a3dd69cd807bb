//! The `ganomede` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ganomede::cli::main()
}
