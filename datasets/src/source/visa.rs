//! VisA: `<object>/Data/Images/Normal` and `Anomaly`, `Data/Masks/Anomaly`, and a split in
//! `split_csv/1cls.csv`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::layout::{Masks, Part, Plan, Training};
use super::tree::Tree;
use super::{Met, Rejected, Split, Truth};
use crate::dataset::OpenOptions;
use crate::memory::Held;
use crate::{DataError, csv_file};

const IMAGES: &str = "Data/Images";
const SPLIT: &str = "split_csv/1cls.csv";

fn joined(folder: &str, rest: &str) -> String {
    match (folder, rest) {
        ("", rest) => rest.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, rest) => format!("{folder}/{rest}"),
    }
}

/// Whether `folder` holds one object.
pub(super) fn is_object(tree: &Tree, folder: &str) -> bool {
    tree.has(&joined(folder, &format!("{IMAGES}/Normal")))
        || tree.has(&joined(folder, &format!("{IMAGES}/Anomaly")))
}

/// Whether the tree holds objects, and the split of them all.
pub(super) fn is_set(tree: &Tree) -> bool {
    tree.root.join(SPLIT).is_file() && tree.children("").iter().any(|object| is_object(tree, object))
}

/// The split of every image that it names, by `<object>/Data/Images/…`.
fn split_of(path: &Path) -> Result<BTreeMap<String, Split>, DataError> {
    let (held, mut columns, mut found) = (Held::default(), None, BTreeMap::new());
    csv_file::rows(path, &held, |line, record| {
        let Some((split, image)) = columns else {
            let place = |name: &str| record.iter().position(|field| field.eq_ignore_ascii_case(name));
            columns = place("split").zip(place("image"));
            return match columns {
                Some(_) => Ok(()),
                None => Err(DataError::file(path, "has no columns `split` and `image`; VisA's own has")),
            };
        };
        let word = &record[split];
        let split =
            [Split::Train, Split::Test].into_iter().find(|split| split.name() == word).ok_or_else(|| {
                DataError::file(path, format!("line {line}: the split is `{word}`; train or test is meant"))
            })?;
        found.insert(record[image].replace('\\', "/"), split);
        Ok(())
    })?;
    Ok(found)
}

/// The objects of a tree that is one or holds some.
pub(super) fn plan(tree: &mut Tree, options: &OpenOptions, met: &mut Met) -> Result<Plan, DataError> {
    let is_one = is_object(tree, "");
    let root = tree.root.canonicalize().unwrap_or_else(|_| tree.root.clone());
    let base = if is_one { root.parent().unwrap_or(&root).to_path_buf() } else { root.clone() };
    let file: Option<PathBuf> = Some(base.join(SPLIT)).filter(|file| file.is_file());
    let mut stated = file.as_deref().map(split_of).transpose()?;
    let objects = if is_one {
        vec![String::new()]
    } else {
        let children = tree.children("");
        children.into_iter().filter(|object| is_object(tree, object)).collect()
    };
    let name_of = |object: &str| match object {
        "" => root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        object => object.to_owned(),
    };
    let (mut parts, mut left) = (Vec::new(), Vec::new());
    for object in &objects {
        for (kind, truth) in [("Anomaly", Truth::Anomalous), ("Normal", Truth::Normal)] {
            let folder = joined(object, &format!("{IMAGES}/{kind}"));
            for dir in 0..tree.dirs.len() {
                let Some(rest) = super::tree::below(&tree.dirs[dir].relative, &folder).map(str::to_owned)
                else {
                    continue;
                };
                let names = std::mem::take(&mut tree.dirs[dir].names);
                let class = if is_one { kind.to_owned() } else { format!("{object}/{kind}") };
                let mut push = |split, names: super::names::Names| {
                    if names.len() > 0 {
                        parts.push(Part { dir, names, split, class: class.clone(), truth });
                    }
                };
                let Some(stated) = &mut stated else {
                    push(Split::Test, names);
                    continue;
                };
                let place = joined(&name_of(object), &joined(&format!("{IMAGES}/{kind}"), &rest));
                let mut splits =
                    names.iter().map(|name| stated.remove(&format!("{place}/{name}"))).collect::<Vec<_>>();
                // An anomalous image is trained on by nobody.
                let is_lost = |split: &Option<Split>| match split {
                    None => true,
                    Some(Split::Train) => truth != Truth::Normal,
                    Some(Split::Test) => false,
                };
                let lost = splits.iter().filter(|split| is_lost(split)).count();
                if lost > 0 {
                    let images = super::walk::images_of(lost);
                    left.push((dir, format!("holds {images} that the split does not use")));
                }
                splits.iter_mut().filter(|split| is_lost(split)).for_each(|split| *split = None);
                for split in [Split::Train, Split::Test] {
                    let [of_split, _] = names.split(|i, _| splits[i] == Some(split));
                    push(split, of_split);
                }
            }
        }
    }
    for (dir, reason) in left {
        met.skipped.push(Rejected::of(&tree.root.join(&tree.dirs[dir].relative), reason));
    }
    let missing = stated
        .iter()
        .flatten()
        .filter(|(path, _)| objects.iter().any(|object| path.starts_with(&format!("{}/", name_of(object)))));
    for (path, _) in missing {
        met.reject(&base.join(path), format!("is in `{SPLIT}`, but not there; copy it again"), options)?;
    }
    let split = match &file {
        Some(_) => format!("the split is that of `{SPLIT}`"),
        None => format!("no `{SPLIT}` is there: a fifth of the normal images is kept for tests"),
    };
    let what = match &objects[..] {
        [_] if is_one => "`Data/Images/` is there".to_owned(),
        objects => format!("{} objects with `Data/Images/`, taken together", objects.len()),
    };
    let silent = objects.iter().map(|object| joined(object, "Data/Masks")).collect();
    Ok(Plan {
        layout: "visa",
        why: format!("{what}; {split}"),
        parts,
        masks: Masks::Visa,
        silent,
        training: if file.is_some() { Training::Stated } else { Training::Drawn },
        by_masks: false,
    })
}
