//! Folders that appear whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::DataError;
use crate::pixels::Raw;

/// A folder written beside its place and renamed into it; dropped before that, it leaves nothing.
pub(crate) struct NewFolder {
    temporary: TempDir,
    target: PathBuf,
}

impl NewFolder {
    /// `target` must not exist, or be an empty folder; its parents are made.
    pub(crate) fn create(target: &Path) -> Result<Self, DataError> {
        if target.exists() {
            let is_empty = target.is_dir()
                && fs::read_dir(target).map_err(DataError::io("list", target))?.next().is_none();
            if !is_empty {
                let reason = "exists and is not an empty folder; remove it or choose another place".into();
                return Err(DataError::Output { path: target.to_path_buf(), reason });
            }
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(DataError::io("create", parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(".ganomede-")
            .tempdir_in(parent)
            .map_err(DataError::io("create a folder in", parent))?;
        let folder = NewFolder { temporary, target: target.to_path_buf() };
        // The temporary folder is private to its owner; the one inside has the user's usual permissions.
        fs::create_dir(folder.path()).map_err(DataError::io("create", target))?;
        Ok(folder)
    }

    /// Where to write meanwhile.
    pub(crate) fn path(&self) -> PathBuf {
        self.temporary.path().join("new")
    }

    /// Makes a folder inside, with its parents.
    pub(crate) fn subfolder(&self, relative: &str) -> Result<PathBuf, DataError> {
        let path = self.path().join(relative);
        fs::create_dir_all(&path).map_err(DataError::io("create", &path))?;
        Ok(path)
    }

    /// Moves the folder into its place.
    pub(crate) fn finish(self) -> Result<(), DataError> {
        if self.target.is_dir() {
            // Windows does not rename onto a folder, even an empty one.
            fs::remove_dir(&self.target).map_err(DataError::io("replace", &self.target))?;
        }
        fs::rename(self.path(), &self.target)
            .map_err(DataError::io("rename the finished output to", &self.target))
    }
}

/// Writes an image losslessly, as it is stored.
pub(crate) fn write_png(path: &Path, raw: Raw) -> Result<(), DataError> {
    let Some(image) = raw.into_dynamic() else {
        return Err(DataError::file(path, "the image to be written is inconsistent; report this"));
    };
    image.save_with_format(path, image::ImageFormat::Png).map_err(|error| match error {
        image::ImageError::IoError(source) => DataError::io("write", path)(source),
        other => DataError::file(path, format!("cannot be encoded: {other}; report this")),
    })
}
