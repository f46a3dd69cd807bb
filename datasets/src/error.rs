//! The crate's one error type.

use std::io;
use std::path::{Path, PathBuf};

use ganomede_host::interrupt::Interrupted;
use ganomede_host::line;

/// A path as part of a line.
fn shown(path: &Path) -> String {
    line(&path.to_string_lossy()).into_owned()
}

/// What went wrong with a data set: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system failed while doing `action`; the only variant that is nobody's input.
    #[error(
        "cannot {action} {}: {source}; check the disk, the permissions and the free space, then run again",
        shown(path)
    )]
    Io {
        /// What was being done, as a verb: "read", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A data specification that names nothing this crate can open.
    #[error("data `{}`: {reason}", line(spec))]
    Spec {
        /// The specification as given.
        spec: String,
        /// Why it cannot be opened, and what to give instead.
        reason: String,
    },
    /// One file that cannot be used; in a folder of many it is skipped unless `strict`.
    #[error("{}: {reason}", shown(path))]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// An option outside its range.
    #[error("{name} `{}`: {reason}", line(value))]
    Option {
        /// The option's name.
        name: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        reason: String,
    },
    /// A class selection that does not fit the labelled set, or is missing.
    #[error("{}: {reason}; its classes are {}", line(set), line(classes))]
    Classes {
        /// The labelled set.
        set: String,
        /// Why the selection does not fit, and what to give instead.
        reason: String,
        /// `number name` of every class.
        classes: String,
    },
    /// A test image that was trained on: figures would be too good.
    #[error(
        "test image {} is the same as training image {}{}; remove one of the two (`data manifest` lists all)",
        line(test), line(train), if *more > 0 { format!(" (and {more} more pairs)") } else { String::new() }
    )]
    Overlap {
        /// Id of the test image.
        test: String,
        /// Id of the training image.
        train: String,
        /// Further pairs.
        more: usize,
    },
    /// An output that would overwrite something.
    #[error("output {}: {reason}", shown(path))]
    Output {
        /// The output folder.
        path: PathBuf,
        /// Why it was refused, and what to do.
        reason: String,
    },
    /// The process was asked to stop; nothing is left behind.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl DataError {
    /// True where the machine failed (disk, permissions) and false where the input or an option is at fault.
    pub fn is_machine_fault(&self) -> bool {
        matches!(self, DataError::Io { .. })
    }

    /// `map_err` adapter for an operation on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
        let path = path.to_path_buf();
        move |source| DataError::Io { action, path, source }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> DataError {
        DataError::File { path: path.to_path_buf(), reason: reason.into() }
    }

    pub(crate) fn spec(spec: impl Into<String>, reason: impl Into<String>) -> DataError {
        DataError::Spec { spec: spec.into(), reason: reason.into() }
    }

    /// An option or argument outside its range, with what to do about it.
    pub fn option(name: &'static str, value: impl ToString, reason: impl Into<String>) -> DataError {
        DataError::Option { name, value: value.to_string(), reason: reason.into() }
    }
}
