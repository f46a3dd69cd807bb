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

failure!(ganomede::models::ConfigError, e => false);
failure!(ganomede::program::CompileError, e => false);
failure!(ganomede::device::DeviceError, e => e.is_machine_fault());
failure!(ganomede::models::file::FileError, e => e.is_machine_fault());
failure!(ganomede::eval::EvalError, e => e.is_machine_fault());
failure!(ganomede::report::ReportError, e => e.is_machine_fault());
failure!(ganomede_datasets::DataError, e => e.is_machine_fault());
failure!(ganomede_host::HoldError, e => e.is_machine_fault());
failure!(ScoreError, e => score_is_machine(&e));
failure!(TrainError, e => train_is_machine(&e));
