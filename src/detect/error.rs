//! Why a detector cannot be trained or applied.

use std::path::PathBuf;

use ganomede_datasets::DataError;
use ganomede_host::HoldError;

use crate::device::DeviceError;
use crate::eval::EvalError;
use crate::models::ConfigError;
use crate::models::file::FileError;
use crate::models::scorer::ScoreError;
use crate::program::CompileError;
use crate::report::ReportError;
use crate::train::TrainError;

/// Why a detector cannot be trained or applied. Messages name fields, in backquotes, and types of the
/// library.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// A setting outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A program that does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A fault of the device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A model file that cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Data that cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Scores that no metric or threshold follows from.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A picture or report that cannot be made.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A model that cannot be applied.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A training that cannot start or go on.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An output that another run is writing.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// Something else that was asked for and cannot be.
    #[error("{0}")]
    Input(String),
    /// The observer asked to stop during a training.
    #[error("training was stopped at step {step}")]
    TrainingStopped {
        /// Steps done.
        step: u64,
        /// Where the checkpoint lies that the training can be resumed from, if it writes any.
        checkpoint: Option<PathBuf>,
    },
    /// The observer asked to stop while samples were scored; nothing was written.
    #[error("interrupted; nothing was written")]
    Stopped,
}

impl DetectError {
    /// True where the machine is at fault, false where the request is.
    pub fn is_machine_fault(&self) -> bool {
        match self {
            Self::Device(e) => e.is_machine_fault(),
            Self::File(e) => e.is_machine_fault(),
            Self::Data(e) => e.is_machine_fault(),
            Self::Eval(e) => e.is_machine_fault(),
            Self::Report(e) => e.is_machine_fault(),
            Self::Score(e) => e.is_machine_fault(),
            Self::Train(e) => e.is_machine_fault(),
            Self::Hold(e) => e.is_machine_fault(),
            Self::Config(_) | Self::Compile(_) | Self::Input(_) => false,
            Self::TrainingStopped { .. } | Self::Stopped => false,
        }
    }

    /// Whether the observer asked for it.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::TrainingStopped { .. } | Self::Stopped)
    }
}
