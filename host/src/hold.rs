//! One writer for an output.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::file::{folder_of, target};
use crate::leftovers::{is_at, lock, lock_name, sweep};

/// Why an output cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Another process holds it.
    #[error(
        "'{}' is being written by another run{owner}; wait until it has ended, or choose another place",
        path.display()
    )]
    Held {
        /// The output.
        path: PathBuf,
        /// ` (process N)` where that is known.
        owner: String,
    },
    /// Of the system.
    #[error("cannot lock '{}': {source}; check the folder and its permissions", path.display())]
    Io {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl HoldError {
    /// True where the system failed, false where the output is another's.
    pub fn is_machine_fault(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// Holds an output for this process: a second one is refused until this is dropped or the process ends in
/// whatever way.
#[derive(Debug)]
pub struct Hold {
    path: PathBuf,
    _file: File,
}

impl Hold {
    /// Holds the file that `output` names, whether it is there or not; its folder must be. What earlier runs
    /// left in the folder is removed.
    ///
    /// # Errors
    /// [`HoldError::Held`] where another process holds it.
    pub fn new(output: &Path) -> Result<Self, HoldError> {
        let failed = |source| HoldError::Io { path: output.to_path_buf(), source };
        let place = target(output).map_err(failed)?;
        let folder = folder_of(&place);
        sweep(folder);
        let name = place.file_name().unwrap_or_default().as_encoded_bytes();
        let path = folder.join(lock_name(name));
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            if lock(&file, &path).map_err(failed)? {
                // What is written helps the reader of a refusal; the lock does not need it.
                let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                return Ok(Self { path, _file: file });
            }
            // A holder that has just ended took the file with it: then there is a new one to be made.
            if !is_at(&file, &path) {
                continue;
            }
            let mut owner = String::new();
            let _ = file.rewind().and_then(|()| file.take(20).read_to_string(&mut owner));
            let known = !owner.is_empty() && owner.bytes().all(|b| b.is_ascii_digit());
            let owner = if known { format!(" (process {owner})") } else { String::new() };
            return Err(HoldError::Held { path: output.to_path_buf(), owner });
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // While we hold it, nobody else removes or replaces it.
        let _ = fs::remove_file(&self.path);
    }
}
