//! `parts/*/good/*.png`: files and folders by a pattern.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};

use super::folder::Folder;
use super::{Met, Rejected, Several, Source, open_path, walk};
use crate::dataset::OpenOptions;
use crate::{DataError, decode};

/// Whether a specification that names no file is a pattern.
pub(super) fn is_pattern(spec: &str) -> bool {
    spec.contains(['*', '?', '['])
}

/// What a pattern matches, in order of paths; hidden files are not matched by `*`.
pub(super) fn matches(spec: &str) -> Result<Vec<PathBuf>, DataError> {
    let refuse = |reason: String| DataError::spec(spec, reason);
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let found = glob_with(spec, options).map_err(|e| refuse(format!("the pattern cannot be read: {e}")))?;
    let mut paths = Vec::new();
    for path in found {
        ganomede_host::interrupt::check()?;
        paths.push(path.map_err(|e| refuse(format!("cannot be listed: {e}; check its permissions")))?);
    }
    paths.sort();
    Ok(paths)
}

/// The files that match as one set, and folders and other sets one after another.
pub(super) fn open(spec: &str, options: &OpenOptions, met: &mut Met) -> Result<Box<dyn Source>, DataError> {
    let paths = matches(spec)?;
    let literal = spec.find(['*', '?', '[']).unwrap_or(0);
    let root = Path::new(
        spec[..literal].rsplit_once('/').map_or("", |(root, _)| if root.is_empty() { "/" } else { root }),
    );
    let (mut files, mut sources, mut others) = (Vec::new(), Vec::new(), 0);
    for path in &paths {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() || super::is_set_file(path) {
            sources.push(open_path(path, options, met)?);
            continue;
        }
        match decode::may_read(path, &walk::extension(name)) {
            decode::Reads::Yes => files.push(path.clone()),
            decode::Reads::Foreign(reason) => met.reject(path, reason, options)?,
            decode::Reads::No => others += 1,
        }
    }
    if others > 0 {
        let reason = format!("matches {others} files that are no images, not read");
        met.skipped.push(Rejected { path: spec.to_owned(), reason });
    }
    if !files.is_empty() {
        let folder = Folder::of_files(spec, root, &files, options, met)?;
        sources.insert(0, Box::new(folder));
    }
    match sources.len() {
        0 => Err(DataError::spec(spec, format!("the pattern matches {} files, none an image", paths.len()))),
        1 => Ok(sources.remove(0)),
        _ => Ok(Box::new(Several::new(sources))),
    }
}
