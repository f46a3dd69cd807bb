//! Masks of anomalous images, found by their names under `ground_truth/`, beside the images, or in a folder
//! that was given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use unicode_normalization::UnicodeNormalization;

use super::Rejected;
use super::names::Names;
use super::walk::{images_below, sorted};
use crate::DataError;

/// What may stand between the name of an image and the extension of its mask.
pub(super) const SUFFIXES: [&str; 4] = ["_mask", "_gt", "_label", "_ground_truth"];

/// How the masks of a folder fit its anomalous test images, on which pixel metrics and the truth of patches
/// rest.
///
/// A mask lies in `ground_truth/<class>/` and is named `<image>_mask.*`, `<image>_gt.*`, `<image>_label.*`,
/// `<image>_ground_truth.*` or `<image>.*`, or it is a folder `<image>/` whose files are its parts. Letter
/// case and Unicode form count only where several images would fit otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MaskReport {
    /// Anomalous test images that have a mask by their name.
    pub matched: usize,
    /// Those that have none, by id: nothing is known of their pixels.
    pub missing: Vec<String>,
    /// Files under `ground_truth/` that belong to no image.
    pub unused: Vec<String>,
    /// Of the anomalous images loaded so far, those in whose mask nothing is marked, by id: it is not used.
    pub empty: Vec<String>,
    /// Masks of the images loaded so far that cannot be used: of another size than their image, or
    /// unreadable.
    pub unusable: Vec<Rejected>,
}

impl MaskReport {
    /// Joins the report of another folder.
    pub(super) fn add(&mut self, other: MaskReport) {
        self.matched += other.matched;
        self.missing.extend(other.missing);
        self.unused.extend(other.unused);
        self.empty.extend(other.empty);
        self.unusable.extend(other.unusable);
    }
}

/// A file or folder that may be a mask.
pub(super) struct Candidate {
    name: String,
    /// The name without extension; of folders, the name.
    stem: String,
    /// One file, or the parts in a folder.
    files: Vec<PathBuf>,
    is_taken: bool,
}

/// The ways in which a mask is named after its image, in the order in which they are tried.
#[derive(Clone, Copy)]
enum Rule {
    /// As was said.
    Given,
    /// `000.png` and `000_mask.png`.
    Suffix,
    /// `000.png` and `000.png`.
    SameName,
    /// `000.jpg` and `000.png`, or the folder `000`.
    SameStem,
}

/// Files of the masks of the images `names`, an empty list where there is none. What belongs to none is added
/// to `unused`. `pattern` is the only rule if it is given: the name of a mask without its extension, with `*`
/// for that of its image.
pub(super) fn find(
    mut candidates: Vec<Candidate>,
    names: &[&str],
    pattern: Option<&str>,
    unused: &mut Vec<String>,
) -> Vec<Vec<PathBuf>> {
    let mut masks = vec![Vec::new(); names.len()];
    let rules: &[Rule] = match pattern {
        Some(_) => &[Rule::Given],
        None => &[Rule::Suffix, Rule::SameName, Rule::SameStem],
    };
    // What fits to the letter comes first.
    for is_loose in [false, true] {
        for rule in rules {
            let key = |text: &str| if is_loose { folded(text) } else { text.to_owned() };
            let mut images: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for image in (0..names.len()).filter(|&image| masks[image].is_empty()) {
                let name = names[image];
                let name = if matches!(rule, Rule::SameName) { name } else { stem(name) };
                images.entry(key(name)).or_default().push(image);
            }
            for candidate in candidates.iter_mut().filter(|c| !c.is_taken) {
                let name = match rule {
                    Rule::Given => {
                        let (start, end) = pattern.and_then(|p| p.split_once('*')).unwrap_or_default();
                        let stem = key(&candidate.stem);
                        let name =
                            stem.strip_prefix(&key(start)).and_then(|rest| rest.strip_suffix(&key(end)));
                        name.map(str::to_owned)
                    }
                    Rule::Suffix => {
                        let stem = key(&candidate.stem);
                        SUFFIXES.iter().find_map(|suffix| stem.strip_suffix(suffix)).map(str::to_owned)
                    }
                    Rule::SameName => Some(key(&candidate.name)),
                    Rule::SameStem => Some(key(&candidate.stem)),
                };
                // A name that fits several images belongs to none of them.
                if let Some([image]) = name.and_then(|name| images.get(&name)).map(Vec::as_slice)
                    && masks[*image].is_empty()
                {
                    masks[*image] = candidate.files.clone();
                    candidate.is_taken = true;
                }
            }
        }
    }
    let left = candidates.into_iter().filter(|c| !c.is_taken).flat_map(|c| c.files);
    unused.extend(left.map(|file| file.to_string_lossy().into_owned()));
    masks
}

/// Refuses a pattern of [`find`] that says nothing.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), DataError> {
    if pattern.matches('*').count() != 1 || pattern.contains(['/', '\\']) {
        let reason = "write the name of a mask without folder and extension, with one * for the name of its image, for \
                      example *_mask";
        return Err(DataError::option("mask name", pattern, reason));
    }
    Ok(())
}

/// The folder of a class under `ground_truth/`: of its very name, or the only one that differs in case or
/// Unicode form.
pub(super) fn folder_of<'a>(class: &str, folders: &'a [PathBuf]) -> Option<&'a PathBuf> {
    let name =
        |folder: &Path| folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    folders.iter().find(|folder| name(folder) == class).or_else(|| {
        let mut alike = folders.iter().filter(|folder| folded(&name(folder)) == folded(class));
        alike.next().filter(|_| alike.next().is_none())
    })
}

/// What may be a mask in a folder, in order of names; folders in `except` are none.
pub(super) fn candidates(folder: &Path, except: &[PathBuf]) -> Result<Vec<Candidate>, DataError> {
    let mut found = Vec::new();
    for item in sorted(folder)?.into_iter().filter(|item| item.is_folder || item.is_image()) {
        let name = item.name.to_string_lossy().into_owned();
        let (stem, files) = match item.is_folder {
            true if except.contains(&item.path()) => continue,
            true => (name.clone(), images_below(&item.path())),
            false => (stem(&name).to_owned(), vec![item.path()]),
        };
        if !item.is_hidden() && !files.is_empty() {
            found.push(Candidate { name, stem, files, is_taken: false });
        }
    }
    Ok(found)
}

/// The files `names` of a folder as candidates.
pub(super) fn of_names(folder: &Path, names: &Names) -> Vec<Candidate> {
    let candidate = |name: &str| Candidate {
        name: name.to_owned(),
        stem: stem(name).to_owned(),
        files: vec![folder.join(name)],
        is_taken: false,
    };
    names.iter().map(candidate).collect()
}

pub(super) fn stem(name: &str) -> &str {
    Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name)
}

/// One spelling for names that differ in case or in how accents are composed.
pub(super) fn folded(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).nfc().collect()
}
