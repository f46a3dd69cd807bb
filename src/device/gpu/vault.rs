//! Files that only this user can have written: in a folder that is closed to everyone else, under a key that
//! lies in it and was made for this installation. What is read back is what was written here, or nothing.

use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of the code before the data of a file.
const CODE: usize = 32;
/// Name of the key, and its bytes: a block of SHA-256.
const KEY: &str = "key";
const KEY_BYTES: usize = 64;

/// A private folder and its key. Opened on Unix only: elsewhere the standard library cannot tell whose a
/// folder is.
#[derive(Debug)]
pub struct Vault {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

impl Vault {
    /// Opens `folder`, made if it is not there, with its key, made if it has none.
    ///
    /// # Errors
    /// What is wrong: it is a link, another user's, or cannot be closed to others (permissions 0700 are set);
    /// the key is not a plain file of this user alone.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        private::make(folder)?;
        let key = match private::read(folder, KEY, KEY_BYTES as u64) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key).map_err(std::io::Error::other)?;
                // Of two processes that begin together one makes the key; both read it.
                match whole(folder, &key)?.persist_noclobber(folder.join(KEY)) {
                    Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(e.error),
                    _ => private::read(folder, KEY, KEY_BYTES as u64)?,
                }
            }
            key => key?,
        };
        let key = key.try_into().map_err(|_| std::io::Error::other("the key is cut short; delete it"))?;
        Ok(Self { folder: folder.to_owned(), key })
    }

    /// Where a file of a name lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The data that was written under `name` for `purpose`; `None` where there is none, where it is longer
    /// than `most` bytes, and where the file is anything but what [`Vault::write`] made of the same purpose
    /// under the same key.
    pub fn read(&self, name: &str, purpose: &str, most: u64) -> Option<Vec<u8>> {
        let mut code = private::read(&self.folder, name, most.saturating_add(CODE as u64)).ok()?;
        if code.len() < CODE {
            return None;
        }
        let data = code.split_off(CODE);
        self.code(purpose, &data).verify_slice(&code).ok()?;
        Some(data)
    }

    /// Writes `data` beside its place and renames it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, name: &str, purpose: &str, data: &[u8]) -> std::io::Result<()> {
        let code = self.code(purpose, data).finalize().into_bytes();
        whole(&self.folder, &[&code[..], data].concat())?.persist(self.path(name)).map_err(|e| e.error)?;
        Ok(())
    }

    /// HMAC-SHA256 over the purpose, its length before it, and the data.
    fn code(&self, purpose: &str, data: &[u8]) -> Hmac<Sha256> {
        let mut code = Hmac::<Sha256>::new(&self.key.into());
        code.update(&(purpose.len() as u64).to_le_bytes());
        code.update(purpose.as_bytes());
        code.update(data);
        code
    }
}

/// A file that nobody else can open, with its bytes on the disk, to be given its name.
fn whole(folder: &Path, bytes: &[u8]) -> std::io::Result<ganomede_host::NamedTempFile> {
    let mut file = ganomede_host::temporary(folder, 0o600)?;
    std::io::Write::write_all(file.as_file_mut(), bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(unix)]
mod private {
    use std::fs::{DirBuilder, File};
    use std::io::{Error, ErrorKind, Read, Result};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    use std::path::Path;

    use rustix::fs::{Mode, OFlags};

    const FOLDER: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    const FILE: OFlags =
        OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

    fn is_ours(owner: u32) -> bool {
        owner == rustix::process::geteuid().as_raw()
    }

    /// The folder itself, no link, of this user.
    fn open(folder: &Path) -> Result<File> {
        let folder = File::from(rustix::fs::open(folder, FOLDER, Mode::empty())?);
        match is_ours(folder.metadata()?.uid()) {
            true => Ok(folder),
            false => Err(Error::new(ErrorKind::PermissionDenied, "the folder is another user's")),
        }
    }

    /// Makes the folder and closes it to everyone else.
    pub(super) fn make(folder: &Path) -> Result<()> {
        if let Some(parent) = folder.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let folder = open(folder)?;
        if folder.metadata()?.mode() & 0o077 != 0 {
            folder.set_permissions(std::fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    /// A plain file of the folder, no link, which nobody but this user can have written.
    pub(super) fn read(folder: &Path, name: &str, most: u64) -> Result<Vec<u8>> {
        let refuse = |reason| Err(Error::new(ErrorKind::PermissionDenied, reason));
        let folder = open(folder)?;
        if folder.metadata()?.mode() & 0o077 != 0 {
            return refuse("the folder is open to others");
        }
        let file = File::from(rustix::fs::openat(&folder, name, FILE, Mode::empty())?);
        let about = file.metadata()?;
        if !about.is_file() || !is_ours(about.uid()) || about.mode() & 0o077 != 0 || about.nlink() != 1 {
            return refuse("the file is not this user's alone");
        }
        if about.len() > most {
            return refuse("the file is too long");
        }
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(not(unix))]
mod private {
    use std::io::{Error, ErrorKind, Result};
    use std::path::Path;

    pub(super) fn make(_: &Path) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "whose a folder is cannot be told here"))
    }

    pub(super) fn read(folder: &Path, _: &str, _: u64) -> Result<Vec<u8>> {
        make(folder).map(|()| vec![])
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    const MOST: u64 = 1000;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        (root, folder)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_was_written_is_read_for_its_purpose_only() {
        let (_root, folder) = place();
        let vault = Vault::open(&folder).unwrap();
        vault.write("x.bin", "adapter 1", b"data").unwrap();
        assert_eq!(vault.read("x.bin", "adapter 1", MOST).unwrap(), b"data");
        assert_eq!(vault.read("x.bin", "adapter 2", MOST), None);
        assert_eq!(vault.read("x.bin", "adapter ", MOST), None);
        assert_eq!(vault.read("x.bin", "adapter 1", 3), None, "too long");
        assert_eq!(vault.read("none", "adapter 1", MOST), None);
        // Opened again it has the same key; another folder has another.
        assert_eq!(Vault::open(&folder).unwrap().read("x.bin", "adapter 1", MOST).unwrap(), b"data");
        let (_other, elsewhere) = place();
        let stranger = Vault::open(&elsewhere).unwrap();
        fs::copy(vault.path("x.bin"), stranger.path("x.bin")).unwrap();
        assert_eq!(stranger.read("x.bin", "adapter 1", MOST), None);
        for path in [folder.clone(), vault.path("x.bin"), vault.path(KEY)] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
    }

    #[test]
    fn any_altered_byte_and_any_other_length_is_refused() {
        let (_root, folder) = place();
        let vault = Vault::open(&folder).unwrap();
        vault.write("x", "p", b"some data").unwrap();
        let whole = fs::read(vault.path("x")).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(vault.path("x"), &damaged).unwrap();
            assert_eq!(vault.read("x", "p", MOST), None, "byte {at}");
            fs::write(vault.path("x"), &whole[..at]).unwrap();
            assert_eq!(vault.read("x", "p", MOST), None, "{at} bytes");
        }
        fs::write(vault.path("x"), [&whole[..], b"0"].concat()).unwrap();
        assert_eq!(vault.read("x", "p", MOST), None);
        fs::write(vault.path("x"), &whole).unwrap();
        assert!(vault.read("x", "p", MOST).is_some());
    }

    #[test]
    fn files_that_others_may_have_written_are_refused() {
        let (_root, folder) = place();
        let vault = Vault::open(&folder).unwrap();
        vault.write("x", "p", b"data").unwrap();
        chmod(&vault.path("x"), 0o620);
        assert_eq!(vault.read("x", "p", MOST), None, "writable by a group");
        chmod(&vault.path("x"), 0o600);
        chmod(&folder, 0o777);
        assert_eq!(vault.read("x", "p", MOST), None, "in an open folder");
        chmod(&folder, 0o700);
        fs::hard_link(vault.path("x"), vault.path("y")).unwrap();
        assert_eq!(vault.read("x", "p", MOST), None, "with a second name");
        fs::remove_file(vault.path("y")).unwrap();
        fs::rename(vault.path("x"), vault.path("z")).unwrap();
        symlink("z", vault.path("x")).unwrap();
        assert_eq!(vault.read("x", "p", MOST), None, "a link");
        fs::remove_file(vault.path("x")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, vault.path("x"), rustix::fs::Mode::from_raw_mode(0o600))
            .unwrap();
        assert_eq!(vault.read("x", "p", MOST), None, "a pipe, which is not waited for");
    }

    #[test]
    fn folders_that_are_not_private_are_closed_or_refused() {
        let (root, folder) = place();
        fs::create_dir_all(&folder).unwrap();
        chmod(&folder, 0o755);
        Vault::open(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let link = root.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(Vault::open(&link).is_err());
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Vault::open(&file).is_err());
        fs::write(folder.join(KEY), "short").unwrap();
        assert!(Vault::open(&folder).is_err());
    }
}
