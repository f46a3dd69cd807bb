//! Files that are whole or absent: written beside their place to the last byte, then renamed.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::leftovers::temporary;

/// Symbolic links followed, as many as Linux does.
const LINKS: usize = 40;

/// The regular file, or the free place, that an output path names: symbolic links are followed, also to where
/// there is no file yet.
///
/// # Errors
/// For a folder, device, pipe or socket, and for links that go round in circles.
pub fn target(path: &Path) -> io::Result<PathBuf> {
    let mut place = path.to_path_buf();
    for _ in 0..LINKS {
        let kind = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata.file_type(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(place),
            Err(e) => return Err(e),
        };
        if kind.is_symlink() {
            place = folder_of(&place).join(fs::read_link(&place)?);
        } else if kind.is_file() {
            return Ok(place);
        } else {
            let what = if kind.is_dir() { "is a folder" } else { "is a device, a pipe or a socket" };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{what}; name a file")));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is a symbolic link that leads back to itself"))
}

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes `bytes` to `path`: a reader sees the old file or the new one, never a part, whatever happens.
/// Symbolic links are followed, and a file that was there keeps its permissions and, where we may, its owner.
///
/// # Errors
/// Of the system, and for what [`target`] refuses; the old file stays and nothing is left behind.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// As [`write()`], piece by piece: what is written lies beside its place until [`NewFile::finish`], and is
/// gone if that is never called.
#[derive(Debug)]
pub struct NewFile {
    file: BufWriter<NamedTempFile>,
    target: PathBuf,
    old: Option<Metadata>,
}

impl NewFile {
    /// A file that will come to lie at `path`.
    ///
    /// # Errors
    /// Of the system, and for what [`target`] refuses.
    pub fn create(path: &Path) -> io::Result<Self> {
        let target = target(path)?;
        let old = fs::metadata(&target).ok();
        let file = temporary(folder_of(&target), old.as_ref().map_or(0o666, mode))?;
        Ok(Self { file: BufWriter::new(file), target, old })
    }

    /// Moves the file into its place.
    ///
    /// # Errors
    /// Of the system; the old file stays.
    pub fn finish(self) -> io::Result<()> {
        let Self { file, target, old } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some(old) = &old {
            keep(file.as_file(), old)?;
        }
        // A full disk may show here only: until then the bytes are the system's to lose.
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|e| e.error)?;
        sync_folder(folder_of(&target))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Puts the names in a folder on the disk, where the system can.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot sync a folder, and a folder may be written without being readable.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(unix)]
fn mode(old: &Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    old.permissions().mode() & 0o7777
}

#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0
}

/// Gives a new file the owner and permissions of the old one.
fn keep(file: &File, old: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // Only root may give files away; for others the file is theirs now, as with any editor.
            let _ = fchown(file, Some(old.uid()), Some(old.gid()));
        }
    }
    file.set_permissions(old.permissions())
}
