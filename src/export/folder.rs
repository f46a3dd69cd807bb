//! The folder of an export: written beside its place, read back, moved there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use ganomede_host::{NewFolder, files, line};
use serde::Deserialize;

use super::schema::{FORMAT, File};
use super::{DOCUMENT, ExportError};

/// Bytes of a document that are looked at.
const MAX_DOCUMENT: u64 = 256 << 20;

/// What tells an export from anything else.
#[derive(Deserialize)]
struct Marked {
    format: String,
    files: std::collections::BTreeMap<String, File>,
}

/// Whether there is an earlier export to replace; nothing, or an empty folder, otherwise.
///
/// # Errors
/// [`ExportError::Occupied`] for anything else, also an export with a file that is not its own.
pub(super) fn replaces(folder: &Path) -> Result<bool, ExportError> {
    let failed = |source| ExportError::Write { path: folder.to_owned(), source };
    let occupied = |what: String| Err(ExportError::Occupied { path: folder.to_owned(), what });
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => return occupied("it is a file".to_owned()),
        Err(e) => return Err(failed(e)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: BTreeSet<String> = names.collect::<io::Result<_>>().map_err(failed)?;
    if names.is_empty() {
        return Ok(false);
    }
    let document = files::read_limited(&folder.join(DOCUMENT), MAX_DOCUMENT).ok();
    let marked = document.and_then(|bytes| serde_json::from_slice::<Marked>(&bytes).ok());
    let Some(marked) = marked.filter(|marked| marked.format == FORMAT) else {
        return occupied(format!("it has no {DOCUMENT} of one"));
    };
    match names.iter().find(|name| *name != DOCUMENT && !marked.files.contains_key(*name)) {
        Some(other) => occupied(format!("it also holds '{}'", line(other))),
        None => Ok(true),
    }
}

/// Whether there are files of these names and no others to replace; nothing, or an empty folder, otherwise.
///
/// # Errors
/// [`ExportError::Occupied`] for anything else.
#[cfg(any(feature = "onnx", feature = "torch"))]
pub(super) fn replaces_these(all: &[(String, Vec<u8>)], folder: &Path) -> Result<bool, ExportError> {
    let occupied = |what: String| Err(ExportError::Occupied { path: folder.to_owned(), what });
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => return occupied("it is a file".to_owned()),
        Err(source) => return Err(ExportError::Write { path: folder.to_owned(), source }),
    };
    let mut any = false;
    for entry in entries {
        let entry = entry.map_err(|source| ExportError::Write { path: folder.to_owned(), source })?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !all.iter().any(|(own, _)| *own == name) {
            return occupied(format!("it also holds '{}'", line(&name)));
        }
        any = true;
    }
    Ok(any)
}

/// Writes the files.
pub(super) fn write(all: &[(String, Vec<u8>)], folder: &Path, replacing: bool) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { path: folder.to_owned(), source };
    let new = match replacing {
        true => NewFolder::replacing(folder),
        false => NewFolder::create(folder),
    };
    let new = new.map_err(failed)?;
    for (name, bytes) in all {
        new.write(name, bytes).map_err(failed)?;
        let back = files::read_limited(&new.path().join(name), bytes.len() as u64).map_err(failed)?;
        if back != *bytes {
            let what = format!("{name} does not read back as it was written; check the disk");
            return Err(failed(io::Error::other(what)));
        }
    }
    new.finish().map_err(failed)
}
