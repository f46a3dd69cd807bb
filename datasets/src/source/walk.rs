//! What lies in a folder, and what of it is passed over.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Rejected;
use crate::DataError;
use crate::decode::{EXTENSIONS, FOREIGN};

/// Images that are counted in a folder that is passed over, and how deep below it.
const MOST: usize = 100_000;
const DEEPEST: usize = 16;

/// One entry of a folder.
pub(super) struct Item {
    folder: PathBuf,
    pub(super) name: OsString,
    /// Whether it is a folder; links count as what they lead to.
    pub(super) is_folder: bool,
    pub(super) is_link: bool,
}

impl Item {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.name.as_encoded_bytes().starts_with(b".")
    }

    /// Whether it is a file with the name of an image, not hidden.
    pub(super) fn is_image(&self) -> bool {
        !self.is_folder && !self.is_hidden() && is_image_name(&self.name)
    }
}

/// The entries of a folder one by one, in no order: nothing is kept of a folder of any length.
pub(super) fn entries(folder: &Path) -> Result<impl Iterator<Item = Result<Item, DataError>>, DataError> {
    let folder = folder.to_path_buf();
    let listed = std::fs::read_dir(&folder).map_err(DataError::io("list", &folder))?;
    Ok(listed.map(move |entry| {
        let entry = entry.map_err(DataError::io("list", &folder))?;
        // Symbolic links need a second look; asking the entry itself costs no system call.
        let (is_folder, is_link) = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => (entry.path().is_dir(), true),
            Ok(kind) => (kind.is_dir(), false),
            Err(_) => (false, false),
        };
        Ok(Item { folder: folder.clone(), name: entry.file_name(), is_folder, is_link })
    }))
}

/// As [`entries`], in order of names.
pub(super) fn sorted(folder: &Path) -> Result<Vec<Item>, DataError> {
    let mut items = entries(folder)?.collect::<Result<Vec<_>, _>>()?;
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(items)
}

/// Lower-case extension of a name, else empty.
pub(super) fn extension(name: &OsStr) -> String {
    Path::new(name).extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Whether a name is that of an image, of a format that is read or not.
pub(super) fn is_image_name(name: &OsStr) -> bool {
    let extension = extension(name);
    EXTENSIONS.contains(&extension.as_str()) || FOREIGN.contains(&extension.as_str())
}

/// What is said of a folder of `count` images that is passed over.
pub(super) fn passed_over(count: usize) -> String {
    format!("is a folder of {} that is not read; give it by itself, or move them up", images_of(count))
}

/// Images that are passed over: how many, and the first by its name.
#[derive(Default)]
pub(super) struct Passed {
    count: usize,
    first: Option<OsString>,
}

impl Passed {
    /// Counts an entry with the name of an image.
    pub(super) fn add(&mut self, name: &OsStr) {
        if is_image_name(name) {
            self.count += 1;
            let first = self.first.get_or_insert_with(|| name.to_owned());
            if name < first.as_os_str() {
                *first = name.to_owned();
            }
        }
    }

    /// Counts more, of which one is named.
    pub(super) fn many(&mut self, count: usize, first: String) {
        self.count += count;
        if count > 0 {
            self.first.get_or_insert(first.into());
        }
    }

    /// Says how many there are in `folder`, and what they are, such as "hidden".
    pub(super) fn say(self, folder: &Path, what: &str, skipped: &mut Vec<Rejected>) {
        if let Some(first) = self.first {
            let more = if self.count > 1 { ", …" } else { "" };
            let (images, first) = (images_of(self.count), first.to_string_lossy());
            let reason = format!("holds {images} {what} not read (`{first}`{more})");
            skipped.push(Rejected { path: folder.to_string_lossy().into_owned(), reason });
        }
    }
}

pub(super) fn images_of(count: usize) -> String {
    match count {
        1 => "1 image".to_owned(),
        MOST => format!("{MOST} images or more"),
        count => format!("{count} images"),
    }
}

/// Image files in a folder and below, sorted; hidden ones and links to folders are left out.
pub(super) fn images_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut looked) = (Vec::new(), 0);
    let mut left = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = left.pop() {
        let Ok(items) = entries(&folder) else { continue };
        for item in items.filter_map(Result::ok) {
            looked += 1;
            if item.is_image() && found.len() < MOST {
                found.push(item.path());
            } else if item.is_folder && !item.is_hidden() && !item.is_link && depth < DEEPEST && looked < MOST
            {
                left.push((item.path(), depth + 1));
            }
        }
    }
    found.sort();
    found
}
