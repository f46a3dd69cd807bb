//! A failure as the user sees it, and which exit code each error of the library has.

use ganomede::eval::EvalError;
use ganomede::models::scorer::ScoreError;
use ganomede::train::TrainError;
use ganomede_host::interrupt;

/// How a command ends that does not end with exit code 0: a paragraph and the code.
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

    /// An anomaly was found, where that was asked for: exit code 3.
    pub(crate) fn found(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 3 }
    }

    /// Whether something went wrong.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self.code, 3 | 130)
    }

    /// Stopped by Ctrl-C: exit code 130.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 130 }
    }

    /// Ended by another rank, whose message says why: nothing is printed.
    pub(crate) fn of_other_rank() -> Self {
        Self { message: String::new(), code: 1 }
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

    /// As [`CliError::new`], of an error whose message names fields.
    pub(super) fn of_fields(error: &dyn std::error::Error, machine: bool) -> Self {
        Self { message: with_flags(&error.to_string()), ..Self::new(error, machine) }
    }
}

/// Fields of the library whose flags have their names, so that a message about one names the flag.
pub(super) const FLAGS: [&str; 18] = [
    "sync-bn",
    "accumulate",
    "lr",
    "batch",
    "ema",
    "lr-schedule",
    "standardise",
    "minutes",
    "epochs",
    "steps",
    "samples",
    "limit-test",
    "split",
    "tile",
    "tile-score",
    "tile-step",
    "map-relative",
    "map-smooth",
];

/// Further fields that have a flag, where a message names them in backquotes.
const QUOTED: [&str; 24] = [
    "anomalous-class",
    "augment",
    "batch-norm-pass",
    "bits",
    "channels",
    "data",
    "fit",
    "flatten",
    "kernel",
    "label-column",
    "labels",
    "latent",
    "maps",
    "normal-class",
    "patch",
    "prior",
    "resume",
    "seed",
    "seeds",
    "size",
    "textures",
    "val-fraction",
    "width",
    "window",
];

/// A message of the library for the command line: fields that it names in backquotes become flags.
fn with_flags(message: &str) -> String {
    let replaced = |text: String, name: &&str| text.replace(&format!("`{name}`"), &format!("--{name}"));
    FLAGS.iter().chain(&QUOTED).fold(message.to_owned(), replaced)
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
failure!(ganomede::report::ReportError, e => e.is_machine_fault());
failure!(ganomede_datasets::DataError, e => e.is_machine_fault());
failure!(ganomede_host::HoldError, e => e.is_machine_fault());
failure!(ScoreError, e => e.is_machine_fault());
failure!(ganomede::import::ImportError, e => e.is_machine_fault());

impl From<ganomede::export::ExportError> for CliError {
    fn from(error: ganomede::export::ExportError) -> Self {
        Self::of_fields(&error, error.is_machine_fault())
    }
}

impl From<ganomede::export::onnx::OnnxError> for CliError {
    fn from(error: ganomede::export::onnx::OnnxError) -> Self {
        Self::of_fields(&error, error.is_machine_fault())
    }
}

impl From<ganomede::export::torch::TorchError> for CliError {
    fn from(error: ganomede::export::torch::TorchError) -> Self {
        Self::of_fields(&error, error.is_machine_fault())
    }
}

impl From<TrainError> for CliError {
    fn from(error: TrainError) -> Self {
        if let TrainError::Rank { .. } = error {
            return Self::of_other_rank();
        }
        Self::of_fields(&error, error.is_machine_fault())
    }
}

impl From<EvalError> for CliError {
    fn from(error: EvalError) -> Self {
        Self::of_fields(&error, error.is_machine_fault())
    }
}
