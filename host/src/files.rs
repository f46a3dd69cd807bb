//! Files to be read: regular ones only, since a pipe would block and a device never end, and never more of
//! them than the reader expects.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file; returns its length in bytes with it. Links are followed. What is no file is told
/// from the handle, and opening never blocks: nothing can be put in the file's place in between.
///
/// # Errors
/// Those of the system; [`io::ErrorKind::InvalidInput`] for a folder, pipe, socket or device.
pub fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "no file but a folder, pipe, socket or device"))
        }
    }
}

/// The bytes of a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open_regular`]; [`io::ErrorKind::FileTooLarge`] with the length, before anything is read.
pub fn read_limited(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open_regular(path)?;
    read_to_limit(file, length, most)
}

/// The rest of `reader`, of which `length` bytes are expected and `most` accepted.
fn read_to_limit(reader: impl Read, length: u64, most: u64) -> io::Result<Vec<u8>> {
    let too_large = |bytes: u64| {
        let reason = format!("{bytes} bytes, more than the {most} that are read of such a file");
        io::Error::new(io::ErrorKind::FileTooLarge, reason)
    };
    if length > most {
        return Err(too_large(length));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // It may have grown since.
    reader.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Whether a file cannot be opened or read because of what its path names (nothing, a pipe, a loop of links,
/// too long a name) and not because the machine fails.
pub fn is_path_fault(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    #[cfg(unix)]
    if let Some(number) = error.raw_os_error() {
        use rustix::io::Errno;
        let of_paths = [Errno::LOOP, Errno::NAMETOOLONG, Errno::NXIO, Errno::NODEV, Errno::OVERFLOW];
        if of_paths.iter().any(|errno| errno.raw_os_error() == number) {
            return true;
        }
    }
    matches!(
        error.kind(),
        K::NotFound
            | K::PermissionDenied
            | K::NotADirectory
            | K::IsADirectory
            | K::InvalidFilename
            | K::InvalidInput
            | K::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_expected_is_refused_before_and_while_reading() {
        assert_eq!(read_to_limit(&b"abc"[..], 3, 3).unwrap(), b"abc");
        // Told to be longer than it is, as files of /proc are told to be shorter.
        assert_eq!(read_to_limit(&b"abc"[..], 0, 3).unwrap(), b"abc");
        for (length, most) in [(3, 2), (0, 2), (u64::MAX, 2)] {
            let error = read_to_limit(&b"abc"[..], length, most).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
    }
}
