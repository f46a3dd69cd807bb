//! Where images come from. Each source lists its entries without decoding and decodes one at a time.

mod cifar;
mod folder;
mod generated;
mod idx;
mod labelled;
mod layout;
mod list;
mod masks;
mod names;
mod npz;
mod pattern;
mod several;
mod tree;
mod visa;
mod walk;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::DataError;
use crate::dataset::OpenOptions;
use crate::memory::Permit;
use crate::pixels::{Raw, Samples};
use crate::preprocess::Preprocess;

use generated::Generated;
pub(crate) use generated::parse_counts;
pub use masks::MaskReport;
pub(crate) use masks::check_pattern;
pub(crate) use several::Several;

/// Training or test part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Normal images only.
    Train,
    /// Images to be scored.
    Test,
}

impl Split {
    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }

    /// Index into per-split arrays.
    pub(crate) fn slot(self) -> usize {
        self as usize
    }
}

/// What is known about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Truth {
    /// Known to be normal.
    Normal,
    /// Known to hold an anomaly.
    Anomalous,
    /// Nothing says which: such images can be scored and not evaluated.
    Unknown,
}

/// One image of a split, before it is decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path of the file, or `t10k:123`, or `retina:test:123`; patches append `#k`.
    pub id: String,
    /// Folder, label or anomaly kind the image belongs to; empty where unlabelled.
    pub class: String,
    /// Normal, anomalous or unknown.
    pub truth: Truth,
}

/// Images of one folder.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The folder.
    pub folder: String,
    /// The split they belong to; None where the same images are both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// As [`Entry::class`].
    pub class: String,
    /// How many there are that can be used.
    pub images: usize,
}

/// A file that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Rejected {
    /// The file.
    pub path: String,
    /// Why, and what to do.
    pub reason: String,
}

impl Rejected {
    pub(crate) fn of(path: &Path, reason: impl Into<String>) -> Self {
        Rejected { path: path.to_string_lossy().into_owned(), reason: reason.into() }
    }
}

/// What was met when a source was opened, beside its entries.
#[derive(Default)]
pub(crate) struct Met {
    /// Files that cannot be used.
    pub(crate) rejected: Vec<Rejected>,
    /// What is not looked at, such as folders below.
    pub(crate) skipped: Vec<Rejected>,
    /// How masks fit, where there are any.
    pub(crate) masks: Option<MaskReport>,
}

impl Met {
    /// Lists a file, or fails where the options are strict.
    fn reject(&mut self, path: &Path, reason: String, options: &OpenOptions) -> Result<(), DataError> {
        if options.strict {
            return Err(DataError::file(path, reason));
        }
        self.rejected.push(Rejected { path: path.to_string_lossy().into_owned(), reason });
        Ok(())
    }
}

/// An undistorted image with its mask, as stored.
pub(crate) struct RawSample {
    pub(crate) image: Raw,
    pub(crate) mask: RawMask,
    /// Memory of both and of what is made of them; None for what was drawn at a size that was asked for.
    pub(crate) permit: Option<Permit>,
    /// Whether gray levels come over the whole range, whatever bits are stored.
    pub(crate) is_scaled: bool,
}

/// What a source knows about the anomalous pixels of one image.
pub(crate) enum RawMask {
    /// Nothing is known.
    Unknown,
    /// Known to have no anomalous pixel.
    Empty,
    /// As drawn: gray of 8 bits, of the image's size; non-zero is anomalous.
    Drawn(Raw),
    /// There is one, but it cannot be used.
    Unusable(Rejected),
}

/// Implementations hold no decoded image (folders, generators) or the raw bytes once (labelled sets).
pub(crate) trait Source: Send + Sync {
    /// As [`crate::Dataset::layout`].
    fn layout(&self) -> &'static str;

    /// By what the layout is told, for people; empty where its name says it all.
    fn why(&self) -> String {
        String::new()
    }

    /// The folders of the images.
    fn places(&self) -> Vec<Place> {
        Vec::new()
    }

    /// Whether the data say which images are for training, so that nothing was drawn.
    fn states_training(&self) -> bool {
        true
    }

    fn len(&self, split: Split) -> usize;

    /// Whether anomalous pixels are known, for pixel metrics.
    fn has_masks(&self) -> bool {
        false
    }

    /// `i` < `len(split)`.
    fn entry(&self, split: Split, i: usize) -> Entry;

    /// `i` < `len(split)`. Generators draw at the size `preprocess` asks for; others ignore it.
    fn load(&self, split: Split, i: usize, preprocess: &Preprocess) -> Result<RawSample, DataError>;

    /// Whether both splits are the same files, so that they cannot be disjoint.
    fn splits_are_one(&self) -> bool {
        false
    }

    /// Bytes of the file behind an entry; 0 where there is none. Entries of different lengths differ.
    fn content_length(&self, _split: Split, _i: usize) -> Result<u64, DataError> {
        Ok(0)
    }

    /// SHA-256 of the file behind an entry; where there is none, of its size and pixels.
    fn content(&self, split: Split, i: usize, preprocess: &Preprocess) -> Result<[u8; 32], DataError> {
        let image = self.load(split, i, preprocess)?.image;
        let mut hasher = Sha256::new();
        hasher.update(format!("{}×{}×{}\n", image.channels, image.height, image.width));
        match &image.samples {
            Samples::U8(samples) => hasher.update(samples),
            Samples::U16(samples) => samples.iter().for_each(|sample| hasher.update(sample.to_le_bytes())),
        }
        Ok(hasher.finalize().into())
    }

    /// Feeds what identifies the split to `hasher`, without decoding.
    fn digest(&self, split: Split, hasher: &mut Sha256) -> Result<(), DataError>;
}

/// Opens one specification: a generator, or a path whose layout is told from its contents. What is not
/// used goes to `met`.
pub(crate) fn open(spec: &str, options: &OpenOptions, met: &mut Met) -> Result<Box<dyn Source>, DataError> {
    match spec.strip_prefix("builtin:") {
        Some(name) => Ok(Box::new(Generated::open(name, options)?)),
        None => open_path(Path::new(spec), options, met),
    }
}

fn open_path(path: &Path, options: &OpenOptions, met: &mut Met) -> Result<Box<dyn Source>, DataError> {
    let spec = path.to_string_lossy();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && pattern::is_pattern(&spec) => {
            return pattern::open(&spec, options, met);
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(DataError::spec(
                spec,
                "no such file or folder; give an existing path or `builtin:retina`",
            ));
        }
        Err(e) if crate::files::is_path_fault(&e) => {
            return Err(DataError::spec(spec, format!("cannot be opened: {e}; check the path")));
        }
        Err(e) => return Err(DataError::io("read", path)(e)),
    };
    if metadata.is_dir() {
        // Layout by directories comes first: it is stated on purpose, while a stray file is not.
        let is_stated = ["train", "test"].iter().any(|split| path.join(split).is_dir());
        if !is_stated && let Some(set) = idx::open_folder(path, options)? {
            return Ok(Box::new(set));
        }
        if !is_stated && let Some(set) = cifar::open_folder(path, options)? {
            return Ok(Box::new(set));
        }
        return folder::open(path, options, met);
    }
    if idx::is_image_file(path) {
        return Ok(Box::new(idx::open_file(path, options)?));
    }
    if cifar::is_batch_file(path) {
        return Ok(Box::new(cifar::open_file(path, options)?));
    }
    if npz::is_npz(path) {
        return Ok(Box::new(npz::open(path, options)?));
    }
    if crate::csv_file::is_csv(path) {
        return Ok(Box::new(list::open(path, options, met)?));
    }
    Ok(Box::new(folder::Folder::open_file(path, options, met)?))
}

/// Whether a file holds a set by itself.
fn is_set_file(path: &Path) -> bool {
    idx::is_image_file(path)
        || cifar::is_batch_file(path)
        || npz::is_npz(path)
        || crate::csv_file::is_csv(path)
}

/// Whether a CSV file is a list of images.
pub(crate) fn is_list(path: &Path) -> bool {
    list::is_list(path)
}

/// Files that a specification names beside itself: those of a list or of a pattern.
pub(crate) fn files_of(spec: &Path) -> Vec<PathBuf> {
    match spec.exists() {
        true if crate::csv_file::is_csv(spec) => list::files(spec),
        false if pattern::is_pattern(&spec.to_string_lossy()) => {
            pattern::matches(&spec.to_string_lossy()).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Paths of the entries of `folder` whose name passes, sorted; hidden and non-UTF-8 names never pass.
pub(crate) fn list(folder: &Path, mut passes: impl FnMut(&str) -> bool) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for item in std::fs::read_dir(folder).map_err(DataError::io("list", folder))? {
        let item = item.map_err(DataError::io("list", folder))?;
        if item.file_name().to_str().is_some_and(|name| !name.starts_with('.') && passes(name)) {
            paths.push(item.path());
        }
    }
    paths.sort();
    Ok(paths)
}
