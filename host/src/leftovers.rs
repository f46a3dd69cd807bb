//! Temporary files and folders with a name of ours, locked by their writer for as long as it lives, and
//! removed by whoever finds one whose writer is gone.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{Builder, NamedTempFile, TempDir};

const PREFIX: &str = ".ganomede-";
const TEMPORARY: &str = ".tmp";
const LOCK: &str = ".lock";
/// Letters and digits between prefix and suffix.
const LETTERS: usize = 16;
/// The lock inside a temporary folder.
const INNER: &str = "lock";
/// Tries to make a temporary that nobody takes for a leftover before it is locked.
const TRIES: usize = 16;

/// Whether a file name is one that this module gives; no other is ever touched.
fn is_ours(name: &str) -> bool {
    let middle = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(TEMPORARY).or_else(|| rest.strip_suffix(LOCK)));
    middle.is_some_and(|m| m.len() == LETTERS && m.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// The lock file that stands for a file name: of one length whatever the name.
pub(crate) fn lock_name(name: &[u8]) -> String {
    let fold = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{PREFIX}{:016x}{LOCK}", name.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Locks a file for this process alone. `false` where another process holds it, or where it is no longer what
/// its path names; file systems without locks count as locked by us.
pub(crate) fn lock(file: &File, path: &Path) -> io::Result<bool> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(false),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(is_at(file, path)),
    }
}

/// Whether the path names the open file.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

fn builder() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(TEMPORARY).rand_bytes(LETTERS);
    builder
}

fn stolen(folder: &Path) -> io::Error {
    io::Error::other(format!(
        "temporary files in '{}' are removed as soon as they are made",
        folder.display()
    ))
}

/// A new temporary file in `folder`, ours until it is dropped or given another name; `mode` less the umask
/// are its permissions.
///
/// # Errors
/// Of the system.
pub fn temporary(folder: &Path, mode: u32) -> io::Result<NamedTempFile> {
    sweep(folder);
    let mut builder = builder();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    for _ in 0..TRIES {
        let file = builder.tempfile_in(folder)?;
        if lock(file.as_file(), file.path())? {
            return Ok(file);
        }
    }
    Err(stolen(folder))
}

/// A new temporary folder in `folder` with the open lock that says that we live.
pub(crate) fn temporary_folder(folder: &Path) -> io::Result<(TempDir, File)> {
    sweep(folder);
    for _ in 0..TRIES {
        let temporary = builder().tempdir_in(folder)?;
        let path = temporary.path().join(INNER);
        match File::create_new(&path) {
            Ok(file) if lock(&file, &path)? => return Ok((temporary, file)),
            // Another process took it for a leftover.
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Err(stolen(folder))
}

/// Removes what runs that are gone left in `folder`; each folder is looked at once in a process. What cannot
/// be removed stays: a leftover is no reason to fail.
pub(crate) fn sweep(folder: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let Ok(place) = fs::canonicalize(folder) else { return };
    if !SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone()) {
        return;
    }
    let Ok(entries) = fs::read_dir(&place) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_ours) {
            let _ = remove_if_left(&entry.path());
        }
    }
}

/// Removes a temporary file, folder or lock whose writer is gone.
fn remove_if_left(path: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_dir() {
        let inner = path.join(INNER);
        return match open(&inner) {
            Ok(file) if is_free(&file, &inner) => fs::remove_dir_all(path),
            Ok(_) => Ok(()),
            // Made, but not yet locked: if its maker lives, it notices.
            Err(_) => fs::remove_dir(path),
        };
    }
    if kind.is_file() {
        let file = open(path)?;
        if is_free(&file, path) {
            return fs::remove_file(path);
        }
    }
    Ok(())
}

/// Write access: network file systems want it for a lock.
fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

/// Whether nobody holds the file and it is what its path names; not where locks are unknown.
fn is_free(file: &File, path: &Path) -> bool {
    file.try_lock().is_ok() && is_at(file, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_ours() {
        assert!(is_ours(".ganomede-0123456789abcdef.tmp") && is_ours(&lock_name(b"m.safetensors")));
        for other in [
            ".ganomede-.tmp",
            ".ganomede-notes.tmp",
            ".ganomede-0123456789abcde/.tmp",
            "ganomede-0123456789abcdef.tmp",
            ".ganomede-0123456789abcdef",
            ".ganomede-0123456789abcdef0.lock",
            "m.tmp",
        ] {
            assert!(!is_ours(other), "{other}");
        }
        assert_ne!(lock_name(b"a"), lock_name(b"b"));
    }
}
