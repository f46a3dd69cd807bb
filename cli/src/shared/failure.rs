//! A failure as the user sees it, and which exit code each error of the library has.

use ganomede::models::scorer::ScoreError;
use ganomede::train::TrainError;
use ganomede_host::interrupt;

/// A failure as the user sees it: one paragraph and an exit code.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) message: String,
    pub(crate) code: u8,
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl CliError {
    /// Bad usage or bad input: exit code 2.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// A fault of the machine: exit code 1.
    pub(crate) fn machine(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// Stopped by Ctrl-C: exit code 130.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 130 }
    }

    pub(crate) fn new(error: &dyn std::error::Error, machine: bool) -> Self {
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
failure!(ganomede::models::ConfigError, e => false);
failure!(ganomede::program::CompileError, e => false);
failure!(ganomede::device::DeviceError, e => e.is_machine_fault());
failure!(ganomede::models::file::FileError, e => e.is_machine_fault());
failure!(ganomede::eval::EvalError, e => e.is_machine_fault());
failure!(ganomede::report::ReportError, e => e.is_machine_fault());
failure!(ganomede_datasets::DataError, e => e.is_machine_fault());
failure!(ganomede_host::HoldError, e => e.is_machine_fault());
failure!(ScoreError, e => e.is_machine_fault());
failure!(TrainError, e => e.is_machine_fault());
