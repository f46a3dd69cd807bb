//! Files of images: a folder in a layout that is recognised, a list, or one file.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::layout::{Found, Masks, Plan, Training, recognise, splits};
use super::masks::{self, MaskReport};
use super::names::Names;
use super::tree::{Tree, below};
use super::{Entry, Met, Place, RawMask, RawSample, Rejected, Source, Split, Truth, walk};
use crate::DataError;
use crate::dataset::OpenOptions;
use crate::decode::{self, EXTENSIONS, ImageFile};
use crate::memory::Permit;
use crate::pixels::Raw;
use crate::preprocess::Preprocess;
use crate::tiles::check_fits;

/// Files probed between two merges of the reject list: bounds memory on a folder of any length.
const PROBE_CHUNK: usize = 4096;

/// Images of one folder and one class.
pub(super) struct Group {
    /// Relative to the root, so that the digest does not depend on where the set lies.
    pub(super) relative: String,
    pub(super) class: String,
    pub(super) truth: Truth,
    pub(super) names: Names,
    /// Files of the mask of each image; empty where masks are not looked for.
    pub(super) masks: Vec<Vec<PathBuf>>,
}

impl Group {
    pub(super) fn new(relative: String, class: &str, truth: Truth, names: Names) -> Self {
        Group { relative, class: class.to_owned(), truth, names, masks: Vec::new() }
    }

    /// The images of which `is_first` holds, and the others, with their masks.
    fn split(self, is_first: impl Fn(usize) -> bool) -> [Group; 2] {
        let [first, others] = self.names.split(|i, _| is_first(i));
        let mut masks = [Vec::new(), Vec::new()];
        for (i, files) in self.masks.into_iter().enumerate() {
            masks[usize::from(!is_first(i))].push(files);
        }
        let [first_masks, other_masks] = masks;
        let group = |names, masks| Group {
            relative: self.relative.clone(),
            class: self.class.clone(),
            truth: self.truth,
            names,
            masks,
        };
        [group(first, first_masks), group(others, other_masks)]
    }
}

/// A data set of image files; holds their names only.
pub(crate) struct Folder {
    pub(super) root: PathBuf,
    pub(super) layout: &'static str,
    pub(super) why: String,
    /// Per split, in order of entries.
    pub(super) groups: [Vec<Group>; 2],
    pub(super) training: Training,
    /// Whether masks are known and wanted, so that normal images are known to have empty ones.
    pub(super) has_masks: bool,
    /// Centre and width, taken instead of the windows that DICOM files have.
    pub(super) window: Option<[f64; 2]>,
    /// Group and place of each entry of the test images, where they come in another order than that.
    pub(super) order: Option<Vec<(u32, u32)>>,
}

/// Opens a folder: one set, or several that lie below.
pub(crate) fn open(root: &Path, options: &OpenOptions, met: &mut Met) -> Result<Box<dyn Source>, DataError> {
    let mut tree = Tree::scan(root, options.masks.as_deref(), options, met)?;
    let plan = match recognise(&mut tree, options, met)? {
        Found::Plan(plan) => plan,
        Found::Sets(sets) => {
            let used: Vec<bool> = tree.dirs.iter().map(|dir| sets.iter().any(|set| dir.is_in(set))).collect();
            tree.report_unused(&used, &[], met);
            drop(tree);
            let mut sources = Vec::new();
            for set in &sets {
                sources.push(open(&root.join(set), options, met)?);
            }
            let why = format!("{} sets in folders below, taken together: {}", sets.len(), sets.join(", "));
            return Ok(Box::new(super::Several::of_sets(sources, why)));
        }
    };
    Ok(Box::new(Folder::of_plan(tree, plan, options, met)?))
}

impl Folder {
    fn of_plan(mut tree: Tree, plan: Plan, options: &OpenOptions, met: &mut Met) -> Result<Self, DataError> {
        let Plan { layout, why, parts, masks, silent, training, by_masks } = plan;
        let mut used = vec![false; tree.dirs.len()];
        parts.iter().for_each(|part| used[part.dir] = true);
        tree.report_unused(&used, &silent, met);
        let mut folder = Folder {
            root: tree.root.clone(),
            layout,
            why,
            groups: [Vec::new(), Vec::new()],
            training,
            has_masks: !matches!(masks, Masks::None) && !options.without_masks,
            window: options.window,
            order: None,
        };
        let (before, mut classes) = (met.rejected.len(), BTreeMap::new());
        for part in parts {
            let relative = tree.dirs[part.dir].relative.clone();
            let path = tree.root.join(&relative);
            tree.dirs[part.dir].report(&tree.root, met);
            let mut names = part.names;
            probe_all(&path, &mut names, options, met)?;
            if !part.class.is_empty() {
                *classes.entry((part.split, part.class.clone())).or_insert(0) += names.len();
            }
            if names.len() > 0 {
                folder.groups[part.split.slot()].push(Group::new(relative, &part.class, part.truth, names));
            }
        }
        met.rejected[before..].sort();
        if let (true, Some(first)) = (options.strict, met.rejected.get(before)) {
            return Err(DataError::file(Path::new(&first.path), first.reason.clone()));
        }
        say_missing(&tree, layout, &classes, met);
        if folder.groups.iter().all(Vec::is_empty) {
            let unusable = met.rejected.len() - before;
            return Err(DataError::spec(
                tree.root.to_string_lossy(),
                nothing(&tree, unusable, &met.rejected),
            ));
        }
        let report = folder.find_masks(&masks, options.mask_name.as_deref())?;
        if let Some(report) = report {
            if by_masks {
                folder.judge_by_masks(&report, options, met)?;
            }
            if folder.has_masks {
                met.masks.get_or_insert_default().add(folder.fit(report));
            }
        }
        if training == Training::Drawn {
            folder.draw_tests();
        }
        if options.for_training && folder.len(Split::Train) == 0 {
            let reason = match layout {
                "mvtec" | "mvtec-loco" | "btad" => {
                    "`train/good` holds no usable image; put the normal training images there"
                }
                _ => "holds no usable image that is normal, to train on",
            };
            return Err(DataError::spec(tree.root.to_string_lossy(), reason));
        }
        Ok(folder)
    }

    /// Finds the masks of the test images, and of all where they tell what is anomalous.
    fn find_masks(&mut self, masks: &Masks, pattern: Option<&str>) -> Result<Option<MaskReport>, DataError> {
        let mut report = MaskReport::default();
        let base = match masks {
            Masks::None => return Ok(None),
            Masks::Beside(names) => {
                for group in self.groups.iter_mut().flatten() {
                    for (relative, names) in names.iter().filter(|(relative, _)| *relative == group.relative)
                    {
                        let candidates = masks::of_names(&self.root.join(relative), names);
                        let images: Vec<&str> = group.names.iter().map(file_name).collect();
                        group.masks = masks::find(candidates, &images, None, &mut report.unused);
                    }
                }
                return Ok(Some(report));
            }
            Masks::Under(base) | Masks::Given(base) => base.clone(),
            Masks::Visa => self.root.clone(),
        };
        if !base.is_dir() {
            return Err(DataError::option("masks", base.display(), "is no folder; give that of the masks"));
        }
        let top: Vec<PathBuf> = match masks {
            Masks::Visa => Vec::new(),
            _ => walk::sorted(&base)?
                .iter()
                .filter(|i| i.is_folder && !i.is_hidden())
                .map(walk::Item::path)
                .collect(),
        };
        let folder_of = |group: &Group| -> Option<PathBuf> {
            if matches!(masks, Masks::Visa) {
                let folder = base.join(group.relative.replacen("Data/Images", "Data/Masks", 1));
                return Some(folder).filter(|folder| folder.is_dir());
            }
            let rest = group.relative.split_once('/').map_or("", |(_, rest)| rest);
            let of_class =
                masks::folder_of(&group.class, &top).filter(|_| !group.class.is_empty()).map(|folder| {
                    let deeper = folder.join(below(rest, &group.class).unwrap_or_default());
                    if deeper.is_dir() { deeper } else { folder.clone() }
                });
            match masks {
                Masks::Given(_) => {
                    let alike = Some(base.join(&group.relative)).filter(|folder| folder.is_dir());
                    alike.or(of_class).or_else(|| Some(base.clone()))
                }
                _ => of_class,
            }
        };
        // Groups whose masks lie in one folder share it.
        let mut folders: BTreeMap<PathBuf, Vec<(usize, usize)>> = BTreeMap::new();
        for (split, groups) in self.groups.iter().enumerate() {
            for (number, group) in groups.iter().enumerate() {
                let is_wanted = split == Split::Test.slot() || group.truth == Truth::Unknown;
                if let Some(folder) = folder_of(group).filter(|_| is_wanted) {
                    folders.entry(folder).or_default().push((split, number));
                }
            }
        }
        let taken: Vec<PathBuf> = folders.keys().cloned().collect();
        for (folder, groups) in folders {
            let images: Vec<&str> = groups
                .iter()
                .flat_map(|&(split, number)| self.groups[split][number].names.iter().map(file_name))
                .collect();
            let candidates = masks::candidates(&folder, &taken)?;
            let mut found = masks::find(candidates, &images, pattern, &mut report.unused).into_iter();
            for (split, number) in groups {
                let group = &mut self.groups[split][number];
                group.masks = found.by_ref().take(group.names.len()).collect();
            }
        }
        if !matches!(masks, Masks::Visa) {
            let is_read = |path: &PathBuf| taken.iter().any(|folder| path.starts_with(folder));
            let left = walk::images_below(&base).into_iter().filter(|path| !is_read(path));
            report.unused.extend(left.map(|path| path.to_string_lossy().into_owned()));
        }
        report.unused.sort();
        Ok(Some(report))
    }

    /// How masks fit the anomalous test images.
    pub(super) fn fit(&self, mut report: MaskReport) -> MaskReport {
        for group in self.groups[Split::Test.slot()].iter().filter(|group| group.truth == Truth::Anomalous) {
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
        report
    }

    /// Tells normal from anomalous images by what their masks mark, where nothing else says it; anomalous
    /// images are not trained on.
    pub(super) fn judge_by_masks(
        &mut self,
        report: &MaskReport,
        options: &OpenOptions,
        met: &mut Met,
    ) -> Result<(), DataError> {
        let set = self.root.to_string_lossy().into_owned();
        for split in [Split::Train, Split::Test] {
            for group in std::mem::take(&mut self.groups[split.slot()]) {
                if group.truth != Truth::Unknown {
                    self.groups[split.slot()].push(group);
                    continue;
                }
                if let (Some(first), true) = (report.unused.first(), group.masks.iter().any(Vec::is_empty)) {
                    let reason = format!(
                        "{} masks belong to no image (`{first}`), so that which images are normal is not known; state how \
                         masks are named, or remove what is none",
                        report.unused.len()
                    );
                    return Err(DataError::spec(set, reason));
                }
                let judge = |files: &Vec<PathBuf>| {
                    ganomede_host::interrupt::check()?;
                    marks(files)
                };
                let judged: Vec<_> = group.masks.par_iter().map(judge).collect::<Result<_, DataError>>()?;
                for (i, outcome) in judged.iter().enumerate() {
                    if let Err(Rejected { path, reason }) = outcome {
                        let reason =
                            format!("{reason}, so that its image `{}` is not used", group.names.get(i));
                        met.reject(Path::new(path), reason, options)?;
                    }
                }
                let is = |wanted: bool| move |one: &Result<bool, Rejected>| matches!(one, Ok(marked) if *marked == wanted);
                let [usable, _] = group.split(|i| judged[i].is_ok());
                let judged: Vec<_> = judged.into_iter().filter(Result::is_ok).collect();
                let [mut anomalous, mut normal] = usable.split(|i| is(true)(&judged[i]));
                anomalous.truth = Truth::Anomalous;
                normal.truth = Truth::Normal;
                for (group, class) in [(&mut anomalous, "anomalous"), (&mut normal, "good")] {
                    group.class = class.to_owned();
                }
                normal.masks.clear();
                if split == Split::Train && anomalous.names.len() > 0 {
                    let images = walk::images_of(anomalous.names.len());
                    let reason = format!("holds {images} that are anomalous by their masks, not trained on");
                    met.skipped.push(Rejected::of(&self.root.join(&anomalous.relative), reason));
                } else if anomalous.names.len() > 0 {
                    self.groups[split.slot()].push(anomalous);
                }
                if normal.names.len() > 0 {
                    self.groups[split.slot()].push(normal);
                }
            }
        }
        Ok(())
    }

    /// Of the normal images a fifth stays for tests, and the others are trained on: which, by a hash of their
    /// names, and so the same in whatever order files are listed.
    pub(super) fn draw_tests(&mut self) {
        let groups = std::mem::take(&mut self.groups[Split::Test.slot()]);
        let mut ranked: Vec<([u8; 32], usize, usize)> = Vec::new();
        for (number, group) in groups.iter().enumerate().filter(|(_, group)| group.truth == Truth::Normal) {
            for i in 0..group.names.len() {
                let file = file_of(group.names.get(i)).0;
                // Pictures of one part stay together.
                let key = if self.layout == "kolektor" { "" } else { file };
                ranked.push((Sha256::digest(format!("{}/{key}", group.relative)).into(), number, i));
            }
        }
        ranked.sort();
        let kept = if ranked.len() > 1 { ranked.len().div_ceil(5) } else { 0 };
        let kept: std::collections::BTreeSet<(usize, usize)> =
            ranked[..kept].iter().map(|&(_, number, i)| (number, i)).collect();
        for (number, group) in groups.into_iter().enumerate() {
            if group.truth != Truth::Normal {
                self.groups[Split::Test.slot()].push(group);
                continue;
            }
            let parts = group.split(|i| kept.contains(&(number, i)));
            for (part, split) in parts.into_iter().zip([Split::Test, Split::Train]) {
                if part.names.len() > 0 {
                    self.groups[split.slot()].push(part);
                }
            }
        }
    }

    /// Images by their paths, which lie in `root` or below.
    pub(super) fn of_files(
        spec: &str,
        root: &Path,
        files: &[PathBuf],
        options: &OpenOptions,
        met: &mut Met,
    ) -> Result<Self, DataError> {
        no_classes(spec.as_ref(), options)?;
        let mut names = Names::default();
        for file in files {
            match file.strip_prefix(root).unwrap_or(file).to_str() {
                Some(name) => names.push(root, name)?,
                None => met.reject(file, "the file name is not UTF-8; rename it".into(), options)?,
            }
        }
        let before = met.rejected.len();
        probe_all(root, &mut names, options, met)?;
        if let (true, Some(first)) = (options.strict || names.len() == 0, met.rejected.get(before)) {
            return Err(DataError::file(Path::new(&first.path), first.reason.clone()));
        }
        Ok(Folder {
            root: root.to_path_buf(),
            layout: "files",
            why: format!("{} files that match, normal to train on, unknown to score", files.len()),
            groups: [Vec::new(), vec![Group::new(String::new(), "", Truth::Unknown, names)]],
            training: Training::All,
            has_masks: false,
            window: options.window,
            order: None,
        })
    }

    /// Puts the test images in order of their ranks by name.
    pub(super) fn order_by(&mut self, ranks: &BTreeMap<String, usize>) {
        let mut order = Vec::new();
        for (number, group) in self.groups[Split::Test.slot()].iter().enumerate() {
            let place = |(i, name)| (ranks.get(name).copied(), (number as u32, i as u32));
            order.extend(group.names.iter().enumerate().map(place));
        }
        order.sort();
        self.order = Some(order.into_iter().map(|(_, place)| place).collect());
    }

    /// A single image file; always an error if it cannot be used.
    pub(crate) fn open_file(path: &Path, options: &OpenOptions, met: &mut Met) -> Result<Self, DataError> {
        no_classes(path, options)?;
        let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            return Err(DataError::spec(path.to_string_lossy(), "the file name is not UTF-8; rename it"));
        };
        let frames = judge(path, options, &mut met.skipped)?;
        let mut names = Names::default();
        push_frames(&mut names, &root, name, frames)?;
        Ok(Folder {
            root,
            layout: "file",
            why: "one image file".to_owned(),
            groups: [Vec::new(), vec![Group::new(String::new(), "", Truth::Unknown, names)]],
            training: Training::All,
            has_masks: false,
            window: options.window,
            order: None,
        })
    }

    /// Flat folders have one list, whose entries are normal by definition when trained on.
    pub(super) fn groups(&self, split: Split) -> &[Group] {
        &self.groups[if self.training == Training::All { Split::Test.slot() } else { split.slot() }]
    }

    /// The group of an entry, and its place there. Classes are few (folders), so a walk over them is cheap.
    fn locate(&self, split: Split, mut i: usize) -> (&Group, usize) {
        if let (Some(order), Split::Test) = (&self.order, split) {
            let (group, place) = order[i];
            return (&self.groups(split)[group as usize], place as usize);
        }
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

    fn name(&self, split: Split, i: usize) -> &str {
        let (group, place) = self.locate(split, i);
        group.names.get(place)
    }

    /// The file that an entry is or is in.
    fn file(&self, split: Split, i: usize) -> PathBuf {
        let (group, place) = self.locate(split, i);
        self.root.join(&group.relative).join(file_name(group.names.get(place)))
    }

    /// The files of a mask, opened; or the one that cannot be used.
    fn mask_files(&self, group: &Group, place: usize) -> Result<Result<Vec<ImageFile>, Rejected>, DataError> {
        let files = group.masks.get(place).filter(|_| self.has_masks);
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
            None if self.has_masks && group.truth == Truth::Normal => RawMask::Empty,
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

    fn why(&self) -> String {
        self.why.clone()
    }

    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for split in [Split::Train, Split::Test] {
            if self.training == Training::All && split == Split::Train {
                continue;
            }
            for group in &self.groups[split.slot()] {
                let folder = self.root.join(&group.relative).to_string_lossy().into_owned();
                let split = (self.training != Training::All).then_some(split);
                let class = group.class.clone();
                places.push(Place { folder, split, class, images: group.names.len() });
            }
        }
        places
    }

    fn states_training(&self) -> bool {
        self.training != Training::Drawn
    }

    fn has_masks(&self) -> bool {
        self.has_masks
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
        let (name, frame) = file_of(group.names.get(place));
        let file = self.root.join(&group.relative).join(name);
        let image = decode::open_frame(&file, frame.unwrap_or(0))?.with_window(self.window);
        let is_scaled = image.is_scaled();
        let masks = self.mask_files(group, place)?;
        let need = image.need() + masks.iter().flatten().map(ImageFile::need).sum::<u64>();
        // Once for all: who holds a permit must not wait for another.
        let permit = Permit::take(need).map_err(|short| short.of(&path))?;
        let image = image.decode(&permit)?;
        let mask = match masks {
            Ok(files) => self.mask(group, files, &permit, &image)?,
            Err(fault) => RawMask::Unusable(fault),
        };
        Ok(RawSample { image, mask, permit: Some(permit), is_scaled })
    }

    fn splits_are_one(&self) -> bool {
        self.training == Training::All
    }

    fn content_length(&self, split: Split, i: usize) -> Result<u64, DataError> {
        let path = self.file(split, i);
        Ok(path.metadata().map_err(DataError::io("read", &path))?.len())
    }

    fn content(&self, split: Split, i: usize, _: &Preprocess) -> Result<[u8; 32], DataError> {
        let (path, frame) = (self.file(split, i), file_of(self.name(split, i)).1);
        let (mut file, _) = crate::files::open(&path)?;
        let (mut hasher, mut chunk) = (Sha256::new(), vec![0; 1 << 16]);
        // Frames of one file differ.
        if let Some(frame) = frame {
            hasher.update(format!("frame {frame} of\n"));
        }
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
                let path = self.root.join(&group.relative).join(file_name(name));
                let bytes = path.metadata().map_err(DataError::io("read", &path))?.len();
                hasher.update(format!("{}/{name}\0{bytes}\n", group.relative));
            }
        }
        Ok(())
    }
}

fn no_classes(spec: &Path, options: &OpenOptions) -> Result<(), DataError> {
    match options.normal_classes.iter().chain(&options.anomalous_classes).next() {
        Some(class) => Err(DataError::spec(
            spec.to_string_lossy(),
            format!("class `{class}` was given, but single images have no classes; leave it out"),
        )),
        None => Ok(()),
    }
}

/// The name of the file of an entry, and which of its frames or pages it is: `stack.tif#3`.
pub(super) fn file_of(name: &str) -> (&str, Option<usize>) {
    match name.rsplit_once('#').map(|(file, frame)| (file, frame.parse())) {
        // A file of such a name has no extension of an image, and is none.
        Some((file, Ok(frame))) if !walk::is_image_name(name.as_ref()) => (file, Some(frame)),
        _ => (name, None),
    }
}

/// As [`file_of`], without the frame.
fn file_name(name: &str) -> &str {
    file_of(name).0
}

pub(super) fn push_frames(
    names: &mut Names,
    folder: &Path,
    name: &str,
    frames: Frames,
) -> Result<(), DataError> {
    match frames {
        Frames::One => names.push(folder, name),
        Frames::Some(frames) => frames.iter().try_for_each(|i| names.push(folder, &format!("{name}#{i}"))),
    }
}

/// Whether the files of a mask mark anything.
fn marks(files: &[PathBuf]) -> Result<Result<bool, Rejected>, DataError> {
    for file in files {
        let marked = decode::open_mask(file).and_then(|mask| {
            let permit = Permit::take(mask.need()).map_err(|short| short.of(file))?;
            Ok(mask.decode_mask(&permit)?.is_marked())
        });
        match marked {
            Ok(false) => {}
            Ok(true) => return Ok(Ok(true)),
            Err(DataError::File { path, reason }) => return Ok(Err(Rejected::of(&path, reason))),
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(false))
}

/// Says which classes have no usable image, as listed or because their folders hold none.
fn say_missing(tree: &Tree, layout: &str, classes: &BTreeMap<(Split, String), usize>, met: &mut Met) {
    if !matches!(layout, "mvtec" | "mvtec-loco" | "btad") {
        return;
    }
    let [train, test] = splits(tree, "");
    for (split, top) in [(Split::Train, train), (Split::Test, test)] {
        let Some(top) = top else { continue };
        for class in tree.children(&top) {
            let path = format!("{top}/{class}");
            let is_missing = match classes.get(&(split, class)) {
                Some(&images) => images == 0,
                None => tree.dirs.iter().filter(|dir| dir.is_in(&path)).all(|dir| dir.is_empty()),
            };
            if is_missing {
                let reason = "holds no usable image, so its class is missing";
                met.skipped.push(Rejected::of(&tree.root.join(path), reason));
            }
        }
    }
}

/// Drops the names whose header cannot be used, and puts those of frames for a file that has several. Machine
/// faults end the listing.
fn probe_all(
    folder: &Path,
    names: &mut Names,
    options: &OpenOptions,
    met: &mut Met,
) -> Result<(), DataError> {
    let mut usable = Names::default();
    for start in (0..names.len()).step_by(PROBE_CHUNK) {
        ganomede_host::interrupt::check()?;
        let chunk = start..(start + PROBE_CHUNK).min(names.len());
        let judged = chunk.clone().into_par_iter().map(|i| {
            let mut skipped = Vec::new();
            let frames = judge(&folder.join(names.get(i)), options, &mut skipped);
            (frames, skipped)
        });
        for (i, (frames, mut skipped)) in chunk.zip(judged.collect::<Vec<_>>()) {
            met.skipped.append(&mut skipped);
            match frames {
                Ok(frames) => push_frames(&mut usable, folder, names.get(i), frames)?,
                Err(DataError::File { path, reason }) => met.rejected.push(Rejected::of(&path, reason)),
                Err(other) => return Err(other),
            }
        }
    }
    usable.fit();
    *names = usable;
    Ok(())
}

/// Which images of a file are read.
pub(super) enum Frames {
    /// The only one, which has the name of the file.
    One,
    /// These of several.
    Some(Vec<usize>),
}

/// Checks the header, and that a patch fits; what of the file is not read goes to `skipped`.
pub(super) fn judge(
    path: &Path,
    options: &OpenOptions,
    skipped: &mut Vec<Rejected>,
) -> Result<Frames, DataError> {
    let file = decode::open(path)?;
    let (header, frames) = (file.header(), file.frames());
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
    let own: Vec<usize> = (0..frames.len()).filter(|&i| frames[i]).collect();
    let others = frames.len() - own.len();
    if others > 0 && frames.len() > 1 {
        let reason = format!(
            "has {} pages, of which {others} are smaller copies or masks of others and are not read",
            frames.len()
        );
        skipped.push(Rejected::of(path, reason));
    }
    Ok(match own[..] {
        [] | [0] => Frames::One,
        _ => Frames::Some(own),
    })
}

/// What is there where no image can be used.
fn nothing(tree: &Tree, unusable: usize, rejected: &[Rejected]) -> String {
    let mut seen = Vec::new();
    for (extension, count) in tree.others.iter().take(8) {
        let kind = if extension.is_empty() { "without extension".into() } else { format!("`.{extension}`") };
        seen.push(format!("{count} {kind}"));
    }
    if unusable > 0 {
        seen.push(format!("{unusable} images that cannot be used"));
    }
    let folders = tree.children("");
    if !folders.is_empty() {
        let names: Vec<_> = folders.iter().take(8).map(|f| format!("`{f}/`")).collect();
        seen.push(format!("folders {}", names.join(", ")));
    }
    let seen = if seen.is_empty() { "nothing".into() } else { seen.join(", ") };
    format!(
        "no usable image; found {seen}. Expected: images ({}) inside or in folders below; or `train/good/`, `test/good/`, \
         `test/<defect>/`; or `*-images-idx3-ubyte[.gz]`; or `data_batch_*.bin`",
        EXTENSIONS.map(|e| format!(".{e}")).join(" ")
    ) + &reasons(rejected)
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
