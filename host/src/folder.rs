//! Folders that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::file::{folder_of, sync_folder};
use crate::leftovers::{temporary, temporary_folder};

/// A folder written beside its place and renamed into it; dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct NewFolder {
    temporary: TempDir,
    /// Says that we live, to those that look for leftovers.
    _lock: File,
    target: PathBuf,
    /// Whether what lies at the place makes room.
    replaces: bool,
}

impl NewFolder {
    /// `target` must not exist, or be an empty folder; its parents are made.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] for anything else that is there, and those of the system.
    pub fn create(target: &Path) -> io::Result<Self> {
        // A link to an empty folder is followed, one to nowhere is something that is there.
        let target = match fs::symlink_metadata(target) {
            Ok(_) => {
                let place = fs::canonicalize(target).map_err(|_| occupied())?;
                if !place.is_dir() || fs::read_dir(&place)?.next().is_some() {
                    return Err(occupied());
                }
                place
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => target.to_path_buf(),
            Err(e) => return Err(e),
        };
        Self::at(target, false)
    }

    /// As [`NewFolder::create`]; a folder that is there stays until the new one is whole and is then removed
    /// with all that is in it. Who calls has made sure that nothing in it is anybody else's.
    ///
    /// # Errors
    /// Those of the system.
    pub fn replacing(target: &Path) -> io::Result<Self> {
        Self::at(fs::canonicalize(target)?, true)
    }

    fn at(target: PathBuf, replaces: bool) -> io::Result<Self> {
        let parent = folder_of(&target);
        fs::create_dir_all(parent)?;
        let (temporary, lock) = temporary_folder(parent)?;
        let folder = NewFolder { temporary, _lock: lock, target, replaces };
        // The temporary folder is private to its owner; the one inside has the user's usual permissions.
        fs::create_dir(folder.path())?;
        Ok(folder)
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> PathBuf {
        self.temporary.path().join("new")
    }

    /// Makes a folder inside, with its parents.
    ///
    /// # Errors
    /// Of the system.
    pub fn subfolder(&self, relative: &str) -> io::Result<PathBuf> {
        let path = self.path().join(relative);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Writes a file of the folder to the last byte. `relative` names it within.
    ///
    /// # Errors
    /// Of the system, a full disk among them.
    pub fn write(&self, relative: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_with(relative, |file| file.write_all(bytes))
    }

    /// As [`NewFolder::write`], piece by piece.
    ///
    /// # Errors
    /// Those of `fill`, and of the system.
    pub fn write_with<E: From<io::Error>>(
        &self,
        relative: &str,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut file = BufWriter::new(File::create_new(self.path().join(relative))?);
        fill(&mut file)?;
        // A full disk may show here only.
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(())
    }

    /// Moves the folder into its place.
    ///
    /// # Errors
    /// Where something has come to lie there meanwhile, and those of the system.
    pub fn finish(self) -> io::Result<()> {
        if self.replaces {
            // Goes with the temporary folder.
            let old = self.temporary.path().join("old");
            fs::rename(&self.target, &old)?;
            return match fs::rename(self.path(), &self.target) {
                Ok(()) => sync_folder(folder_of(&self.target)),
                Err(e) => fs::rename(&old, &self.target).and(Err(e)),
            };
        }
        if cfg!(windows) && self.target.is_dir() {
            // Windows does not rename onto a folder, even an empty one.
            fs::remove_dir(&self.target)?;
        }
        fs::rename(self.path(), &self.target)?;
        sync_folder(folder_of(&self.target))
    }
}

fn occupied() -> io::Error {
    let reason = "exists and is not an empty folder; remove it or choose another place";
    io::Error::new(io::ErrorKind::AlreadyExists, reason)
}

/// Makes sure before the work that files can be written to a folder: makes it, and a file in it that is gone
/// at once.
///
/// # Errors
/// Of the system.
pub fn try_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    temporary(folder, 0o666).map(drop)
}
