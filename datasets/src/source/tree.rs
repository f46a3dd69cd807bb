//! All folders below one, with the names of their images: what layouts are told from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::names::Names;
use super::walk::{self, Passed};
use super::{Met, Rejected};
use crate::DataError;
use crate::dataset::OpenOptions;
use crate::decode;

/// Folders that are followed one below another.
const DEEPEST: usize = 32;

/// Names of folders that hold masks: where no layout says more, their images are not taken for data.
const MASK_FOLDERS: [&str; 5] = ["ground_truth", "groundtruth", "masks", "mask", "ground truth"];

/// One folder.
#[derive(Default)]
pub(super) struct Dir {
    /// Below the root, with `/` between names; empty for the root.
    pub(super) relative: String,
    /// Files that may be images, by their names, sorted.
    pub(super) names: Names,
    /// Files that are images of no format that is read, or have no name in UTF-8.
    unusable: Vec<Rejected>,
    hidden: Passed,
}

impl Dir {
    /// The last of its names.
    pub(super) fn name(&self) -> &str {
        self.relative.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is `folder` or lies below it.
    pub(super) fn is_in(&self, folder: &str) -> bool {
        below(&self.relative, folder).is_some()
    }

    /// Says what of it cannot be used, where its images are.
    pub(super) fn report(&mut self, root: &Path, met: &mut Met) {
        std::mem::take(&mut self.hidden).say(
            &root.join(&self.relative),
            "with hidden names,",
            &mut met.skipped,
        );
        met.rejected.append(&mut self.unusable);
    }

    /// Whether there is no image in it, to be used or not.
    pub(super) fn is_empty(&self) -> bool {
        self.images() == 0
    }

    fn images(&self) -> usize {
        self.names.len() + self.unusable.len()
    }

    fn first(&self) -> String {
        match (self.names.len(), self.unusable.first()) {
            (0, Some(file)) => file.path.rsplit('/').next().unwrap_or_default().to_owned(),
            (0, None) => String::new(),
            _ => self.names.get(0).to_owned(),
        }
    }
}

/// What `path` is below `folder`: empty for the folder itself; None elsewhere.
pub(super) fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    match path.strip_prefix(folder)? {
        "" => Some(""),
        rest if folder.is_empty() => Some(rest),
        rest => rest.strip_prefix('/'),
    }
}

/// A folder with all below it.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    /// In order of their names, a folder before those in it.
    pub(super) dirs: Vec<Dir>,
    /// Files that are no images, by extension.
    pub(super) others: BTreeMap<String, usize>,
}

impl Tree {
    /// Lists `root` and all below it, but for hidden folders and `except`.
    pub(super) fn scan(
        root: &Path,
        except: Option<&Path>,
        options: &OpenOptions,
        met: &mut Met,
    ) -> Result<Self, DataError> {
        let except = except.and_then(|path| path.canonicalize().ok());
        let mut tree = Tree { root: root.to_path_buf(), dirs: Vec::new(), others: BTreeMap::new() };
        // Links are followed once each, so that no circle of them is walked for ever.
        let mut followed: BTreeSet<PathBuf> = root.canonicalize().into_iter().collect();
        let mut left = vec![(String::new(), 0)];
        while let Some((relative, depth)) = left.pop() {
            ganomede_host::interrupt::check()?;
            let path = root.join(&relative);
            let (mut dir, mut folders) = (Dir { relative, ..Dir::default() }, Vec::new());
            for item in walk::entries(&path)? {
                let item = item?;
                let name = item.name.to_str();
                if item.is_folder {
                    if item.is_hidden() || except.is_some() && item.path().canonicalize().ok() == except {
                        continue;
                    }
                    let is_again = item.is_link
                        && !item.path().canonicalize().is_ok_and(|target| followed.insert(target));
                    let reason = match name {
                        None => {
                            let images = walk::images_below(&item.path()).len();
                            if images > 0 {
                                let reason = format!(
                                    "the name of this folder is not UTF-8, so its {images} images are missing; rename it"
                                );
                                met.reject(&item.path(), reason, options)?;
                            }
                            continue;
                        }
                        Some(_) if is_again => {
                            "is a link to a folder that is followed already; not read twice"
                        }
                        Some(_) if depth == DEEPEST => "lies too deep and is not read; give it by itself",
                        Some(name) => {
                            let slash = if dir.relative.is_empty() { "" } else { "/" };
                            folders.push(format!("{}{slash}{name}", dir.relative));
                            continue;
                        }
                    };
                    met.skipped.push(Rejected::of(&item.path(), reason));
                } else if item.is_hidden() {
                    dir.hidden.add(&item.name);
                } else {
                    let extension = walk::extension(&item.name);
                    match (decode::may_read(&item.path(), &extension), name) {
                        (decode::Reads::Yes, Some(name)) => dir.names.push(&path, name)?,
                        (decode::Reads::Yes, None) => dir
                            .unusable
                            .push(Rejected::of(&item.path(), "the file name is not UTF-8; rename it")),
                        (decode::Reads::Foreign(reason), _) => {
                            dir.unusable.push(Rejected::of(&item.path(), reason));
                        }
                        (decode::Reads::No, _) => *tree.others.entry(extension).or_default() += 1,
                    }
                }
            }
            dir.names.sort();
            dir.unusable.sort();
            folders.sort_by(|a, b| b.cmp(a));
            left.extend(folders.into_iter().map(|folder| (folder, depth + 1)));
            tree.dirs.push(dir);
        }
        Ok(tree)
    }

    /// Whether there is such a folder, by its path below the root.
    pub(super) fn has(&self, relative: &str) -> bool {
        self.dirs.iter().any(|dir| dir.relative == relative)
    }

    /// Names of the folders right in `folder`, in order.
    pub(super) fn children(&self, folder: &str) -> Vec<String> {
        let names = self.dirs.iter().filter_map(|dir| below(&dir.relative, folder));
        names.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect()
    }

    /// The folder right in `folder` that has one of these names, to the letter or else in whatever case: its
    /// path below the root.
    pub(super) fn called(&self, folder: &str, names: &[&str]) -> Option<String> {
        let children = self.children(folder);
        let exact = || names.iter().find(|&&name| children.iter().any(|child| child == name));
        let alike =
            || children.iter().find(|child| names.iter().any(|name| child.eq_ignore_ascii_case(name)));
        let name = exact().map(|name| (*name).to_owned()).or_else(|| alike().cloned())?;
        Some(if folder.is_empty() { name } else { format!("{folder}/{name}") })
    }

    /// Images in `folder` and below.
    pub(super) fn count(&self, folder: &str) -> usize {
        self.dirs.iter().filter(|dir| dir.is_in(folder)).map(|dir| dir.names.len()).sum()
    }

    /// Folders with images that are named as folders of masks are, the topmost of each.
    pub(super) fn mask_folders(&self) -> Vec<String> {
        let is_named = |dir: &&Dir| MASK_FOLDERS.iter().any(|name| dir.name().eq_ignore_ascii_case(name));
        let mut found: Vec<String> = Vec::new();
        for dir in self.dirs.iter().filter(is_named) {
            if !found.iter().any(|above| dir.is_in(above)) && self.count(&dir.relative) > 0 {
                found.push(dir.relative.clone());
            }
        }
        found
    }

    /// Says which folders with images are not used, each by the topmost of which nothing is, and which images
    /// lie beside folders that are. `used` has a flag a folder; what lies in one of `silent` is left to
    /// others.
    pub(super) fn report_unused(&self, used: &[bool], silent: &[String], met: &mut Met) {
        let is_silent = |dir: &Dir| silent.iter().any(|folder| dir.is_in(folder));
        let mut said: Option<&str> = None;
        for (dir, &is_used) in self.dirs.iter().zip(used) {
            if is_used || is_silent(dir) || said.is_some_and(|above| dir.is_in(above)) {
                continue;
            }
            let under = || self.dirs.iter().zip(used).filter(|(other, _)| other.is_in(&dir.relative));
            let path = self.root.join(&dir.relative);
            let keeps = |(other, &is_used): (&Dir, &bool)| is_used || is_silent(other);
            if dir.relative.is_empty() || under().any(keeps) {
                let mut loose = Passed::default();
                loose.many(dir.images(), dir.first());
                loose.say(&path, "beside the folders of classes", &mut met.skipped);
                continue;
            }
            let count: usize = under().map(|(other, _)| other.images()).sum();
            if count > 0 {
                met.skipped.push(Rejected::of(&path, walk::passed_over(count)));
            }
            said = Some(&dir.relative);
        }
    }
}
