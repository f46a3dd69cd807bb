//! Files that are whole or absent: written beside their place, then renamed.

use super::ReportError;
use std::{io::Write, path::Path};

/// Writes `bytes` to `path` atomically: a reader sees the old file or the new one, never a part.
///
/// Errors: [`ReportError::Write`] if the folder is missing, full or not writable; nothing is left behind.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || {
        let mut builder = tempfile::Builder::new();
        // Temporary files are private by default; a report is as readable as any other file (minus the umask).
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.prefix(".ganomede-").suffix(".tmp").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|source| ReportError::Write { path: path.to_owned(), source })
}
