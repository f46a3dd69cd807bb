//! Files that are whole or absent.

use super::ReportError;
use std::path::Path;

/// Writes `bytes` to `path` atomically: a reader sees the old file or the new one, never a part.
///
/// Errors: [`ReportError::Write`] if the folder is missing, full or not writable, or `path` names anything
/// but a regular file; nothing is left behind.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    ganomede_host::write(path, bytes).map_err(|source| ReportError::Write { path: path.to_owned(), source })
}
