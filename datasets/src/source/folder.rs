//! Folders of image files: the MVTec layout, a flat folder, or one file.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::masks::{self, MaskReport};
use super::names::Names;
use super::walk::{self, Passed};
use super::{Entry, Met, RawMask, RawSample, Rejected, Source, Split, Truth};
use crate::DataError;
use crate::dataset::OpenOptions;
use crate::decode::{self, EXTENSIONS, FOREIGN, ImageFile};
use crate::memory::Permit;
use crate::pixels::Raw;
use crate::preprocess::Preprocess;
use crate::tiles::check_fits;

/// Files probed between two merges of the reject list: bounds memory on a folder of any length.
const PROBE_CHUNK: usize = 4096;

/// One directory of images of one class.
struct Group {
    /// Relative to the root, so that the digest does not depend on where the set lies.
    relative: String,
    class: String,
    truth: Truth,
    names: Names,
    /// Files of the mask of each image; empty where masks are not looked for.
    masks: Vec<Vec<PathBuf>>,
}

impl Group {
    fn new(relative: String, class: &str, truth: Truth, names: Names) -> Self {
        Group { relative, class: class.to_owned(), truth, names, masks: Vec::new() }
    }
}

/// A data set of image files; holds their names only.
pub(crate) struct Folder {
    root: PathBuf,
    layout: &'static str,
    /// Per split, in order of entries.
    groups: [Vec<Group>; 2],
    /// Whether `ground_truth/` exists and is wanted, so that normal images are known to have empty masks.
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
    pub(crate) fn open(root: &Path, options: &OpenOptions, met: &mut Met) -> Result<Self, DataError> {
        refuse_classes(root, options)?;
        let is_mvtec = is_mvtec(root);
        let mut folder = Folder {
            root: root.to_path_buf(),
            layout: if is_mvtec { "mvtec" } else { "folder" },
            groups: [Vec::new(), Vec::new()],
            has_ground_truth: is_mvtec && !options.without_masks && root.join("ground_truth").is_dir(),
        };
        let mut found = Found::default();
        if is_mvtec {
            folder.open_mvtec(options, met, &mut found)?;
        } else {
            // The same files serve as normals to train on and as unlabelled images to score.
            folder.add(Split::Test, String::new(), "", Truth::Unknown, options, met, &mut found)?;
        }
        if folder.groups.iter().all(Vec::is_empty) {
            return Err(DataError::spec(root.to_string_lossy(), found.message(&met.rejected)));
        }
        if options.for_training && folder.len(Split::Train) == 0 {
            let reason = "`train/good` holds no usable image; put the normal training images there";
            return Err(DataError::spec(root.to_string_lossy(), reason));
        }
        if folder.has_ground_truth {
            let report = folder.find_masks()?;
            met.masks.get_or_insert_default().add(report);
        }
        Ok(folder)
    }

    /// Images of one directory as a class; one without usable images is reported.
    fn add(
        &mut self,
        split: Split,
        relative: String,
        class: &str,
        truth: Truth,
        options: &OpenOptions,
        met: &mut Met,
        found: &mut Found,
    ) -> Result<(), DataError> {
        let path = self.root.join(&relative);
        let names = read_names(&path, options, met, found)?;
        if names.len() > 0 {
            self.groups[split.slot()].push(Group::new(relative, class, truth, names));
        } else if !class.is_empty() {
            let reason = "holds no usable image, so its class is missing".to_owned();
            met.skipped.push(Rejected { path: path.to_string_lossy().into_owned(), reason });
        }
        Ok(())
    }

    /// `train/good/`, `test/good/`, `test/<defect>/`; what lies beside them is passed over, and said.
    fn open_mvtec(
        &mut self,
        options: &OpenOptions,
        met: &mut Met,
        found: &mut Found,
    ) -> Result<(), DataError> {
        let root = self.root.clone();
        let mut add = |split, relative: String, class: &str, truth, met: &mut Met| {
            self.add(split, relative, class, truth, options, met, found)
        };
        for level in ["", "train", "test"] {
            let folder = root.join(level);
            if !folder.is_dir() {
                continue;
            }
            let mut loose = Passed::default();
            for item in walk::sorted(&folder)?.iter().filter(|item| !item.is_hidden()) {
                let name = item.name.to_str();
                match (level, name) {
                    _ if !item.is_folder => loose.add(&item.name),
                    ("", Some("train" | "test" | "ground_truth")) => {}
                    ("train", Some("good")) => {
                        add(Split::Train, "train/good".into(), "good", Truth::Normal, met)?;
                    }
                    // No defect is called good, in whatever case.
                    ("test", Some(name)) => {
                        let is_good = name.eq_ignore_ascii_case("good");
                        let truth = if is_good { Truth::Normal } else { Truth::Anomalous };
                        add(Split::Test, format!("test/{name}"), name, truth, met)?;
                    }
                    ("test", None) => {
                        let reason = format!(
                            "the name of this class folder is not UTF-8, so its {} images are missing; rename it",
                            walk::images_below(&item.path()).len()
                        );
                        met.reject(&item.path(), reason, options)?;
                    }
                    _ => walk::pass_over(&item.path(), &mut met.skipped),
                }
            }
            loose.say(&folder, "beside the folders of classes", &mut met.skipped);
        }
        Ok(())
    }

    /// Finds the masks of the test images.
    fn find_masks(&mut self) -> Result<MaskReport, DataError> {
        let (mut report, root) = (MaskReport::default(), self.root.join("ground_truth"));
        let (folders, files): (Vec<_>, Vec<_>) = walk::sorted(&root)?
            .into_iter()
            .filter(|item| !item.is_hidden())
            .partition(|item| item.is_folder);
        let folders: Vec<PathBuf> = folders.iter().map(walk::Item::path).collect();
        let mut used = Vec::new();
        for group in &mut self.groups[Split::Test.slot()] {
            if let Some(folder) = masks::folder_of(&group.class, &folders) {
                group.masks = masks::find(folder, &group.names, &mut report.unused)?;
                used.push(folder);
            }
            if group.truth == Truth::Anomalous {
                let path = self.root.join(&group.relative);
                for image in 0..group.names.len() {
                    if group.masks.get(image).is_some_and(|files| !files.is_empty()) {
                        report.matched += 1;
                    } else {
                        let id = path.join(group.names.get(image));
                        report.missing.push(id.to_string_lossy().into_owned());
                    }
                }
            }
        }
        let left = folders.iter().filter(|folder| !used.contains(folder)).flat_map(|f| walk::images_below(f));
        let loose = files.iter().filter(|file| file.is_image()).map(walk::Item::path);
        report.unused.extend(left.chain(loose).map(|path| path.to_string_lossy().into_owned()));
        report.unused.sort();
        Ok(report)
    }

    /// A single image file; always an error if it cannot be used.
    pub(crate) fn open_file(path: &Path, options: &OpenOptions, met: &mut Met) -> Result<Self, DataError> {
        refuse_classes(path, options)?;
        met.skipped.extend(judge(path, options)?);
        let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            return Err(DataError::spec(path.to_string_lossy(), "the file name is not UTF-8; rename it"));
        };
        let mut names = Names::default();
        names.push(&root, name)?;
        let group = Group::new(String::new(), "", Truth::Unknown, names);
        Ok(Folder { root, layout: "file", groups: [Vec::new(), vec![group]], has_ground_truth: false })
    }

    /// Flat folders have one list, whose entries are normal by definition when trained on.
    fn groups(&self, split: Split) -> &[Group] {
        &self.groups[if self.layout == "mvtec" { split.slot() } else { Split::Test.slot() }]
    }

    /// The group of an entry, and its place there. Classes are few (folders), so a walk over them is cheap.
    fn locate(&self, split: Split, mut i: usize) -> (&Group, usize) {
        for group in self.groups(split) {
            if i < group.names.len() {
                return (group, i);
            }
            i -= group.names.len();
        }
        unreachable!("the index was checked against len() by the data set")
    }

    fn path(&self, split: Split, i: usize) -> PathBuf {
        let (group, place) = self.locate(split, i);
        self.root.join(&group.relative).join(group.names.get(place))
    }

    /// The files of a mask, opened; or the one that cannot be used.
    fn mask_files(&self, group: &Group, place: usize) -> Result<Result<Vec<ImageFile>, Rejected>, DataError> {
        let files = group.masks.get(place).filter(|_| self.has_ground_truth);
        match files.into_iter().flatten().map(|file| decode::open_mask(file)).collect() {
            Ok(files) => Ok(Ok(files)),
            Err(DataError::File { path, reason }) => {
                Ok(Err(Rejected { path: path.to_string_lossy().into_owned(), reason }))
            }
            Err(error) => Err(error),
        }
    }

    /// The union of the files of a mask; `permit` is for them all.
    fn mask(
        &self,
        group: &Group,
        files: Vec<ImageFile>,
        permit: &Permit,
        image: &Raw,
    ) -> Result<RawMask, DataError> {
        let mut union: Option<Raw> = None;
        for file in files {
            let path = file.path().to_string_lossy().into_owned();
            let mask = match file.decode_mask(permit) {
                Ok(mask) => mask,
                Err(DataError::File { reason, .. }) => {
                    return Ok(RawMask::Unusable(Rejected { path, reason }));
                }
                Err(error) => return Err(error),
            };
            if (mask.width, mask.height) != (image.width, image.height) {
                let reason = format!(
                    "the mask is {}×{} but its image {}×{}; draw it in the image's size",
                    mask.width, mask.height, image.width, image.height
                );
                return Ok(RawMask::Unusable(Rejected { path, reason }));
            }
            match &mut union {
                Some(union) => union.unite(&mask),
                None => union = Some(mask),
            }
        }
        Ok(match union {
            Some(mask) => RawMask::Drawn(mask),
            None if self.has_ground_truth && group.truth == Truth::Normal => RawMask::Empty,
            None => RawMask::Unknown,
        })
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
        let (group, _) = self.locate(split, i);
        let id = self.path(split, i).to_string_lossy().into_owned();
        let truth = if split == Split::Train { Truth::Normal } else { group.truth };
        Entry { id, class: group.class.clone(), truth }
    }

    fn load(&self, split: Split, i: usize, _: &Preprocess) -> Result<RawSample, DataError> {
        let (group, place) = self.locate(split, i);
        let path = self.path(split, i);
        let image = decode::open(&path)?;
        let masks = self.mask_files(group, place)?;
        let need = image.need() + masks.iter().flatten().map(ImageFile::need).sum::<u64>();
        // Once for all: who holds a permit must not wait for another.
        let permit = Permit::take(need).map_err(|short| short.of(&path))?;
        let image = image.decode(&permit)?;
        let mask = match masks {
            Ok(files) => self.mask(group, files, &permit, &image)?,
            Err(fault) => RawMask::Unusable(fault),
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

/// Usable names of one directory, sorted; the others are counted in `found` or listed in `met`.
fn read_names(
    folder: &Path,
    options: &OpenOptions,
    met: &mut Met,
    found: &mut Found,
) -> Result<Names, DataError> {
    let mut names = Names::default();
    let before = met.rejected.len();
    let (mut hidden, mut folders) = (Passed::default(), Vec::new());
    for item in walk::entries(folder)? {
        let item = item?;
        let extension = walk::extension(&item.name);
        let reason = if item.is_hidden() {
            hidden.add(&item.name);
            continue;
        } else if item.is_folder {
            found.folders.push(item.name.to_string_lossy().into_owned());
            folders.push(item.path());
            continue;
        } else if FOREIGN.contains(&extension.as_str()) {
            format!("`.{extension}` is not read; convert it to PNG")
        } else if !EXTENSIONS.contains(&extension.as_str()) {
            *found.others.entry(extension).or_default() += 1;
            continue;
        } else if let Some(name) = item.name.to_str() {
            names.push(folder, name)?;
            continue;
        } else {
            "the file name is not UTF-8; rename it".to_string()
        };
        met.rejected.push(Rejected { path: item.path().to_string_lossy().into_owned(), reason });
    }
    folders.sort();
    folders.iter().for_each(|folder| walk::pass_over(folder, &mut met.skipped));
    hidden.say(folder, "with hidden names,", &mut met.skipped);
    names.sort();
    probe_all(folder, &mut names, options, met)?;
    met.rejected[before..].sort();
    found.rejected += met.rejected.len() - before;
    match met.rejected.get(before) {
        Some(first) if options.strict => Err(DataError::file(Path::new(&first.path), first.reason.clone())),
        _ => Ok(names),
    }
}

/// Drops the names whose header cannot be used. Machine faults end the listing.
fn probe_all(
    folder: &Path,
    names: &mut Names,
    options: &OpenOptions,
    met: &mut Met,
) -> Result<(), DataError> {
    let mut flags = vec![true; names.len()];
    for (chunk, flags) in flags.chunks_mut(PROBE_CHUNK).enumerate() {
        ganomede_host::interrupt::check()?;
        let remarks = flags.par_iter_mut().enumerate().filter_map(|(i, flag)| {
            let path = folder.join(names.get(chunk * PROBE_CHUNK + i));
            judge(&path, options).inspect_err(|_| *flag = false).transpose()
        });
        for remark in remarks.collect::<Vec<_>>() {
            match remark {
                Ok(remark) => met.skipped.push(remark),
                Err(DataError::File { path, reason }) => {
                    met.rejected.push(Rejected { path: path.to_string_lossy().into_owned(), reason });
                }
                Err(other) => return Err(other),
            }
        }
    }
    names.keep(&flags);
    Ok(())
}

/// Checks the header, and that a patch fits; what of the file is not read is returned.
fn judge(path: &Path, options: &OpenOptions) -> Result<Option<Rejected>, DataError> {
    let header = decode::open(path)?.header();
    if options.tiles {
        let size = [header.height as usize, header.width as usize];
        check_fits(path, size, options.preprocess.extent())?;
    }
    match options.patch {
        Some(patch) if (header.width.min(header.height) as usize) < patch.size => {
            return Err(DataError::file(
                path,
                format!(
                    "is {}×{} pixels, too small for patches of {}; use smaller patches or remove it",
                    header.width, header.height, patch.size
                ),
            ));
        }
        _ => {}
    }
    Ok((header.pages > 1).then(|| Rejected {
        path: path.to_string_lossy().into_owned(),
        reason: format!("has {} pages, of which the first is read; save the others as files", header.pages),
    }))
}

impl Found {
    fn message(&self, rejected: &[Rejected]) -> String {
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
        ) + &reasons(rejected)
    }
}

/// Why files cannot be used: the first three.
fn reasons(rejected: &[Rejected]) -> String {
    let first = rejected.iter().take(3).map(|file| format!("\n  {}: {}", file.path, file.reason));
    let more = match rejected.len().saturating_sub(3) {
        0 => String::new(),
        more => format!("\n  … and {more} more"),
    };
    if rejected.is_empty() {
        String::new()
    } else {
        format!(". What cannot be used:{}{more}", first.collect::<String>())
    }
}
