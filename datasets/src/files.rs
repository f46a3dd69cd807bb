//! Files to be read, as by [`ganomede_host::files`], with errors that name them.

use std::fs::File;
use std::io;
use std::path::Path;

pub use ganomede_host::files::{is_path_fault, open_regular, read_limited};

use crate::DataError;

/// What an error of opening or reading `path` says to the user.
pub(crate) fn refused(path: &Path, error: io::Error) -> DataError {
    match error.kind() {
        _ if !is_path_fault(&error) => DataError::io("read", path)(error),
        io::ErrorKind::NotFound => DataError::file(path, "cannot be opened: no such file; check the path"),
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
            DataError::file(path, format!("is {error}; remove it, or give a file"))
        }
        io::ErrorKind::FileTooLarge => DataError::file(path, format!("has {error}; check what it is")),
        _ => DataError::file(path, format!("cannot be opened: {error}; check its name and permissions")),
    }
}

/// As [`open_regular`], with errors that name the file.
pub(crate) fn open(path: &Path) -> Result<(File, u64), DataError> {
    open_regular(path).map_err(|error| refused(path, error))
}

/// As [`read_limited`], with errors that name the file.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, DataError> {
    read_limited(path, most).map_err(|error| refused(path, error))
}
