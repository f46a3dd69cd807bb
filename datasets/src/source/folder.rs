//! Folders of image files: the MVTec layout, a flat folder, or one file.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::names::Names;
use super::{Entry, RawMask, RawSample, Rejected, Source, Split, Truth};
use crate::DataError;
use crate::dataset::OpenOptions;
use crate::decode::{self, EXTENSIONS, FOREIGN, ImageFile};
use crate::memory::Permit;
use crate::pixels::Raw;
use crate::preprocess::Preprocess;

/// Files probed between two merges of the reject list: bounds memory on a folder of any length.
const PROBE_CHUNK: usize = 4096;

/// One directory of images of one class.
struct Group {
    /// Relative to the root, so that the digest does not depend on where the set lies.
    relative: String,
    class: String,
    truth: Truth,
    names: Names,
}

/// A data set of image files; holds their names only.
pub(crate) struct Folder {
    root: PathBuf,
    layout: &'static str,
    /// Per split, in order of entries.
    groups: [Vec<Group>; 2],
    /// Whether `ground_truth/` exists, so that normal images are known to have empty masks.
    has_ground_truth: bool,
}

/// What a listing met beside images, for the message when it met no image.
#[derive(Default)]
struct Found {
    others: BTreeMap<String, usize>,
    folders: Vec<String>,
    rejected: usize,
}

impl Folder {
    pub(crate) fn open(
        root: &Path,
        options: &OpenOptions,
        rejected: &mut Vec<Rejected>,
    ) -> Result<Self, DataError> {
        refuse_classes(root, options)?;
        let is_mvtec = is_mvtec(root);
        let mut folder = Folder {
            root: root.to_path_buf(),
            layout: if is_mvtec { "mvtec" } else { "folder" },
            groups: [Vec::new(), Vec::new()],
            has_ground_truth: root.join("ground_truth").is_dir(),
        };
        let mut found = Found::default();
        let mut add = |folder: &mut Self, split: Split, relative: String, class: &str, truth| {
            let names = read_names(&root.join(&relative), options, rejected, &mut found)?;
            if names.len() > 0 {
                let class = class.to_string();
                folder.groups[split.slot()].push(Group { relative, class, truth, names });
            }
            Ok::<(), DataError>(())
        };
        if is_mvtec {
            if root.join("train/good").is_dir() {
                add(&mut folder, Split::Train, "train/good".into(), "good", Truth::Normal)?;
            }
            if root.join("test").is_dir() {
                for path in super::list(&root.join("test"), |_| true)? {
                    let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|_| path.is_dir())
                    else {
                        continue;
                    };
                    let truth = if name == "good" { Truth::Normal } else { Truth::Anomalous };
                    add(&mut folder, Split::Test, format!("test/{name}"), name, truth)?;
                }
            }
        } else {
            // The same files serve as normals to train on and as unlabelled images to score.
            add(&mut folder, Split::Test, String::new(), "", Truth::Unknown)?;
        }
        if folder.groups.iter().all(Vec::is_empty) {
            return Err(DataError::spec(root.to_string_lossy(), found.message()));
        }
        if options.for_training && folder.len(Split::Train) == 0 {
            let reason = "`train/good` holds no usable image; put the normal training images there";
            return Err(DataError::spec(root.to_string_lossy(), reason));
        }
        Ok(folder)
    }

    /// A single image file; always an error if it cannot be used.
    pub(crate) fn open_file(path: &Path, options: &OpenOptions) -> Result<Self, DataError> {
        refuse_classes(path, options)?;
        judge(path, options)?;
        let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            return Err(DataError::spec(path.to_string_lossy(), "the file name is not UTF-8; rename it"));
        };
        let mut names = Names::default();
        names.push(&root, name)?;
        let group = Group { relative: String::new(), class: String::new(), truth: Truth::Unknown, names };
        Ok(Folder { root, layout: "file", groups: [Vec::new(), vec![group]], has_ground_truth: false })
    }

    /// Flat folders have one list, whose entries are normal by definition when trained on.
    fn groups(&self, split: Split) -> &[Group] {
        &self.groups[if self.layout == "mvtec" { split.slot() } else { Split::Test.slot() }]
    }

    /// Classes are few (folders), so a walk over them is cheap.
    fn locate(&self, split: Split, mut i: usize) -> (&Group, &str) {
        for group in self.groups(split) {
            if i < group.names.len() {
                return (group, group.names.get(i));
            }
            i -= group.names.len();
        }
        unreachable!("the index was checked against len() by the data set")
    }

    fn path(&self, split: Split, i: usize) -> PathBuf {
        let (group, name) = self.locate(split, i);
        self.root.join(&group.relative).join(name)
    }

    /// `ground_truth/<defect>/<id>_mask.<ext>`, or without `_mask` as some sets have it; None where there is none.
    fn mask(&self, group: &Group, name: &str) -> Option<PathBuf> {
        if !self.has_ground_truth || group.truth == Truth::Normal {
            return None;
        }
        let stem = Path::new(name).file_stem().and_then(|s| s.to_str()).unwrap_or(name);
        let folder = self.root.join("ground_truth").join(&group.class);
        let candidates = ["_mask.png", ".png", "_mask.bmp", ".bmp", "_mask.tif", ".tif"];
        candidates.iter().map(|c| folder.join(format!("{stem}{c}"))).find(|p| p.exists())
    }

    /// The mask of an image of a size.
    fn fitting(&self, file: ImageFile, permit: &Permit, image: (usize, usize)) -> Result<Raw, DataError> {
        let path = file.path().to_owned();
        let mask = file.decode(permit)?;
        if (mask.width, mask.height) != image {
            let (w, h) = image;
            let reason =
                format!("the mask is {}×{} but its image {w}×{h}; redraw it", mask.width, mask.height);
            return Err(DataError::file(&path, reason));
        }
        Ok(mask)
    }
}

impl Source for Folder {
    fn layout(&self) -> &'static str {
        self.layout
    }

    fn len(&self, split: Split) -> usize {
        self.groups(split).iter().map(|g| g.names.len()).sum()
    }

    fn has_masks(&self) -> bool {
        self.has_ground_truth
    }

    fn entry(&self, split: Split, i: usize) -> Entry {
        let (group, name) = self.locate(split, i);
        let id = self.root.join(&group.relative).join(name).to_string_lossy().into_owned();
        let truth = if split == Split::Train { Truth::Normal } else { group.truth };
        Entry { id, class: group.class.clone(), truth }
    }

    fn load(&self, split: Split, i: usize, _: &Preprocess) -> Result<RawSample, DataError> {
        let (group, name) = self.locate(split, i);
        let path = self.root.join(&group.relative).join(name);
        let image = decode::open(&path)?;
        let mask = self.mask(group, name).map(|mask| decode::open(&mask)).transpose()?;
        let need = image.need() + mask.as_ref().map_or(0, ImageFile::need);
        // Once for both: who holds a permit must not wait for another.
        let permit = Permit::take(need).map_err(|short| short.of(&path))?;
        let image = image.decode(&permit)?;
        let mask = match mask {
            Some(mask) => RawMask::Drawn(self.fitting(mask, &permit, (image.width, image.height))?),
            None if self.has_ground_truth && group.truth == Truth::Normal => RawMask::Empty,
            None => RawMask::Unknown,
        };
        Ok(RawSample { image, mask, permit: Some(permit) })
    }

    fn splits_are_one(&self) -> bool {
        self.layout != "mvtec"
    }

    fn content_length(&self, split: Split, i: usize) -> Result<u64, DataError> {
        let path = self.path(split, i);
        Ok(path.metadata().map_err(DataError::io("read", &path))?.len())
    }

    fn content(&self, split: Split, i: usize, _: &Preprocess) -> Result<[u8; 32], DataError> {
        let path = self.path(split, i);
        let (mut file, _) = crate::files::open(&path)?;
        let (mut hasher, mut chunk) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut chunk).map_err(DataError::io("read", &path))? {
                0 => return Ok(hasher.finalize().into()),
                n => hasher.update(&chunk[..n]),
            }
        }
    }

    fn digest(&self, split: Split, hasher: &mut Sha256) -> Result<(), DataError> {
        for group in self.groups(split) {
            for i in 0..group.names.len() {
                ganomede_host::interrupt::check()?;
                let name = group.names.get(i);
                let path = self.root.join(&group.relative).join(name);
                let bytes = path.metadata().map_err(DataError::io("read", &path))?.len();
                hasher.update(format!("{}/{name}\0{bytes}\n", group.relative));
            }
        }
        Ok(())
    }
}

/// `train/good/` or `test/` says so.
pub(crate) fn is_mvtec(root: &Path) -> bool {
    root.join("train/good").is_dir() || root.join("test").is_dir()
}

fn refuse_classes(path: &Path, options: &OpenOptions) -> Result<(), DataError> {
    match options.normal_classes.iter().chain(&options.anomalous_classes).next() {
        Some(class) => Err(DataError::spec(
            path.to_string_lossy(),
            format!(
                "class `{class}` was given, but classes apply to labelled sets (IDX, CIFAR-10, NPZ); \
                 a folder states them by its layout"
            ),
        )),
        None => Ok(()),
    }
}

/// Usable names of one directory, sorted; the others are counted in `found` or listed in `rejected`.
fn read_names(
    folder: &Path,
    options: &OpenOptions,
    rejected: &mut Vec<Rejected>,
    found: &mut Found,
) -> Result<Names, DataError> {
    let mut names = Names::default();
    let before = rejected.len();
    for item in std::fs::read_dir(folder).map_err(DataError::io("list", folder))? {
        let item = item.map_err(DataError::io("list", folder))?;
        let name = item.file_name();
        let lossy = name.to_string_lossy();
        if lossy.starts_with('.') {
            continue;
        }
        let extension = Path::new(&name).extension().map(|e| e.to_string_lossy().to_lowercase());
        let extension = extension.unwrap_or_default();
        // Symbolic links need a second look; asking the entry itself costs no system call.
        let is_dir = match item.file_type() {
            Ok(kind) if kind.is_symlink() => item.path().is_dir(),
            Ok(kind) => kind.is_dir(),
            Err(_) => false,
        };
        let reason = if is_dir {
            found.folders.push(lossy.into_owned());
            continue;
        } else if FOREIGN.contains(&extension.as_str()) {
            format!("`.{extension}` is not read; convert it to PNG")
        } else if !EXTENSIONS.contains(&extension.as_str()) {
            *found.others.entry(extension).or_default() += 1;
            continue;
        } else if let Some(name) = name.to_str() {
            names.push(folder, name)?;
            continue;
        } else {
            "the file name is not UTF-8; rename it".to_string()
        };
        rejected.push(Rejected { path: item.path().to_string_lossy().into_owned(), reason });
    }
    names.sort();
    probe_all(folder, &mut names, options, rejected)?;
    rejected[before..].sort();
    found.rejected += rejected.len() - before;
    match rejected.get(before) {
        Some(first) if options.strict => Err(DataError::file(Path::new(&first.path), first.reason.clone())),
        _ => Ok(names),
    }
}

/// Drops the names whose header cannot be used. Machine faults end the listing.
fn probe_all(
    folder: &Path,
    names: &mut Names,
    options: &OpenOptions,
    rejected: &mut Vec<Rejected>,
) -> Result<(), DataError> {
    let mut flags = vec![true; names.len()];
    for (chunk, flags) in flags.chunks_mut(PROBE_CHUNK).enumerate() {
        ganomede_host::interrupt::check()?;
        let refused = flags.par_iter_mut().enumerate().filter_map(|(i, flag)| {
            let path = folder.join(names.get(chunk * PROBE_CHUNK + i));
            judge(&path, options).err().inspect(|_| *flag = false)
        });
        for error in refused.collect::<Vec<_>>() {
            match error {
                DataError::File { path, reason } => {
                    rejected.push(Rejected { path: path.to_string_lossy().into_owned(), reason });
                }
                other => return Err(other),
            }
        }
    }
    names.keep(&flags);
    Ok(())
}

/// Header check, and that a patch fits.
fn judge(path: &Path, options: &OpenOptions) -> Result<(), DataError> {
    let header = decode::open(path)?.header();
    match options.patch {
        Some(patch) if (header.width.min(header.height) as usize) < patch.size => Err(DataError::file(
            path,
            format!(
                "is {}×{} pixels, too small for patches of {}; use smaller patches or remove it",
                header.width, header.height, patch.size
            ),
        )),
        _ => Ok(()),
    }
}

impl Found {
    fn message(&self) -> String {
        let mut seen = Vec::new();
        for (extension, count) in self.others.iter().take(8) {
            let kind =
                if extension.is_empty() { "without extension".into() } else { format!("`.{extension}`") };
            seen.push(format!("{count} {kind}"));
        }
        if self.rejected > 0 {
            seen.push(format!("{} images that cannot be used", self.rejected));
        }
        if !self.folders.is_empty() {
            let names: Vec<_> = self.folders.iter().take(8).map(|f| format!("`{f}/`")).collect();
            seen.push(format!("folders {}", names.join(", ")));
        }
        let seen = if seen.is_empty() { "nothing".into() } else { seen.join(", ") };
        format!(
            "no usable image; found {seen}. Expected: images ({}) directly inside; or `train/good/`, `test/good/`, \
             `test/<defect>/`; or `*-images-idx3-ubyte[.gz]`; or `data_batch_*.bin`",
            EXTENSIONS.map(|e| format!(".{e}")).join(" ")
        )
    }
}
