//! Which layout a tree of folders has, by the names in it: what each image counts as, and where masks lie.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::names::Names;
use super::tree::{Tree, below};
use super::{Met, Rejected, Split, Truth, labelled, masks, visa};
use crate::DataError;
use crate::dataset::OpenOptions;

/// Names of a folder of normal images where none is given; the first that is there counts.
const NORMAL: [&str; 3] = ["good", "ok", "normal"];

/// Names of the folders of training and of test images, in whatever case.
const TRAIN: [&str; 2] = ["train", "training"];
const TEST: [&str; 2] = ["test", "testing"];

/// The folders of training and of test images in a folder, as they are called there.
pub(super) fn splits(tree: &Tree, folder: &str) -> [Option<String>; 2] {
    [TRAIN, TEST].map(|names| tree.called(folder, &names))
}

/// Images of one folder that count as the same.
pub(super) struct Part {
    /// Of the tree.
    pub(super) dir: usize,
    pub(super) names: Names,
    pub(super) split: Split,
    pub(super) class: String,
    pub(super) truth: Truth,
}

/// Where masks are looked for.
pub(super) enum Masks {
    /// There are none.
    None,
    /// In a folder, one below for each class.
    Under(PathBuf),
    /// In `Data/Masks/` as the images in `Data/Images/`.
    Visa,
    /// In a folder given for data of any layout: as the images lie, or all together.
    Given(PathBuf),
    /// Beside the images.
    Beside(Vec<(String, Names)>),
}

/// What of the images is for training.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Training {
    /// The data say so.
    Stated,
    /// All, and all are for tests.
    All,
    /// Four fifths of the normal images, which this crate draws.
    Drawn,
}

/// What a layout makes of a tree.
pub(super) struct Plan {
    pub(super) layout: &'static str,
    /// By what it is told, for people.
    pub(super) why: String,
    pub(super) parts: Vec<Part>,
    pub(super) masks: Masks,
    /// Folders whose images are said elsewhere, or masks.
    pub(super) silent: Vec<String>,
    pub(super) training: Training,
    /// Whether an image is anomalous where its mask marks anything.
    pub(super) by_masks: bool,
}

/// What a folder is: one set, or several in folders below.
pub(super) enum Found {
    Plan(Plan),
    Sets(Vec<String>),
}

/// Tells the layout of a tree. The names of its images move into the plan.
pub(super) fn recognise(tree: &mut Tree, options: &OpenOptions, met: &mut Met) -> Result<Found, DataError> {
    let splits = splits(tree, "");
    let mut plan = if let Some(plan) = pairs(tree, &splits) {
        plan
    } else if splits.iter().any(Option::is_some) {
        mvtec(tree, splits, options, met)?
    } else if visa::is_object(tree, "") || visa::is_set(tree) {
        visa::plan(tree, options, met)?
    } else if let Some(plan) = pairs(tree, &[Some(String::new())]) {
        plan
    } else if let Some(sets) = sets(tree) {
        return Ok(Found::Sets(sets));
    } else if let Some(plan) = classes(tree, options)? {
        plan
    } else {
        flat(tree, options, met)?
    };
    if let Some(folder) = &options.masks {
        plan.masks = Masks::Given(folder.clone());
        plan.by_masks |= plan.training == Training::All;
        if plan.training == Training::All {
            plan.training = Training::Drawn;
            plan.why += "; images without a mask count as normal, a fifth of them is kept for tests";
        }
    }
    if options.without_masks && !plan.by_masks {
        plan.masks = Masks::None;
    }
    Ok(Found::Plan(plan))
}

fn part(tree: &mut Tree, dir: usize, split: Split, class: &str, truth: Truth) -> Part {
    Part { dir, names: std::mem::take(&mut tree.dirs[dir].names), split, class: class.to_owned(), truth }
}

/// Numbers of the folders in `folder`, itself included, that hold images.
fn with_images(tree: &Tree, folder: &str) -> Vec<usize> {
    (0..tree.dirs.len()).filter(|&i| tree.dirs[i].is_in(folder) && tree.dirs[i].names.len() > 0).collect()
}

/// Where masks lie in one folder beside its images: which names are masks.
fn masks_beside(names: &Names) -> Vec<bool> {
    let stem = |name: &str| masks::folded(masks::stem(name));
    let stems: BTreeSet<String> = names.iter().map(stem).collect();
    let is_mask = |name: &str| {
        let stem = stem(name);
        masks::SUFFIXES
            .iter()
            .filter_map(|suffix| stem.strip_suffix(suffix))
            .any(|image| stems.contains(image))
    };
    names.iter().map(is_mask).collect()
}

/// Takes the masks that lie beside the images of a folder out of it.
fn take_masks(tree: &mut Tree, dir: usize) -> Option<(String, Names)> {
    let flags = masks_beside(&tree.dirs[dir].names);
    let [beside, images] = tree.dirs[dir].names.split(|i, _| flags[i]);
    tree.dirs[dir].names = images;
    (beside.len() > 0).then(|| (tree.dirs[dir].relative.clone(), beside))
}

/// Says of masks that lie beside their images that they are not read.
fn pass_over(tree: &Tree, masks: &[(String, Names)], met: &mut Met) {
    for (folder, beside) in masks {
        let reason = format!(
            "holds {} named as masks of those beside them, not read (`{}`{})",
            super::walk::images_of(beside.len()),
            beside.get(0),
            if beside.len() > 1 { ", …" } else { "" }
        );
        met.skipped.push(Rejected::of(&tree.root.join(folder), reason));
    }
}

/// Refuses to train on images of which only some have a mask beside them, where nothing but masks could say
/// which are normal.
fn check_unmasked(
    tree: &Tree,
    dir: usize,
    masks: &[(String, Names)],
    options: &OpenOptions,
) -> Result<(), DataError> {
    let dir = &tree.dirs[dir];
    let Some((_, beside)) = masks.iter().find(|(folder, _)| *folder == dir.relative) else { return Ok(()) };
    if !options.for_training || options.masks.is_some() {
        return Ok(());
    }
    let masked: BTreeSet<String> = beside
        .iter()
        .filter_map(|name| {
            let stem = masks::folded(masks::stem(name));
            masks::SUFFIXES.iter().find_map(|suffix| stem.strip_suffix(suffix)).map(str::to_owned)
        })
        .collect();
    let is_masked = |name: &&str| masked.contains(&masks::folded(masks::stem(name)));
    let bare: Vec<&str> = dir.names.iter().filter(|name| !is_masked(name)).collect();
    let reason = match bare.first() {
        Some(first) => format!(
            "{} of {} have a mask beside them (`{}`{}), so that those without, `{first}` say, are not known to be \
             normal; add their masks, black where nothing is wrong, or put the normal images into a folder `good`",
            beside.len(),
            super::walk::images_of(dir.names.len()),
            beside.get(0),
            if beside.len() > 1 { ", …" } else { "" },
        ),
        None => format!(
            "its {} have masks beside them, other folders' do not; give it by itself, or put normal images into a \
             folder `good`",
            super::walk::images_of(dir.names.len()),
        ),
    };
    Err(DataError::spec(tree.root.join(&dir.relative).to_string_lossy(), reason))
}

/// Every image with its mask beside it, as KolektorSDD and KolektorSDD2 have them: what is marked is
/// anomalous.
fn pairs(tree: &mut Tree, folders: &[Option<String>]) -> Option<Plan> {
    let found: Vec<usize> = folders.iter().flatten().flat_map(|folder| with_images(tree, folder)).collect();
    let flags: Vec<Vec<bool>> = found.iter().map(|&dir| masks_beside(&tree.dirs[dir].names)).collect();
    let count = |wanted: bool| flags.iter().flatten().filter(|&&is_mask| is_mask == wanted).count();
    if count(true) == 0 || count(true) != count(false) {
        return None;
    }
    let is_split = folders.len() > 1;
    let (mut parts, mut masks) = (Vec::new(), Vec::new());
    for (dir, flags) in found.into_iter().zip(flags) {
        let [beside, images] = tree.dirs[dir].names.split(|i, _| flags[i]);
        tree.dirs[dir].names = images;
        let is_trained = is_split && folders[0].as_ref().is_some_and(|train| tree.dirs[dir].is_in(train));
        let split = if is_trained { Split::Train } else { Split::Test };
        parts.push(part(tree, dir, split, "", Truth::Unknown));
        masks.push((tree.dirs[dir].relative.clone(), beside));
    }
    let count: usize = parts.iter().map(|part| part.names.len()).sum();
    let split =
        if is_split { "" } else { "; a fifth of the normal images is kept for tests, folder by folder" };
    Some(Plan {
        layout: "kolektor",
        why: format!(
            "{count} images, each with its mask beside it, where what is marked is anomalous{split}"
        ),
        parts,
        masks: Masks::Beside(masks),
        silent: Vec::new(),
        training: if is_split { Training::Stated } else { Training::Drawn },
        by_masks: true,
    })
}

/// The names of a list that are those of classes, in whatever case.
pub(super) fn among(list: &[String], classes: &[String]) -> Vec<String> {
    let is_there = |name: &&String| classes.iter().any(|class| class.eq_ignore_ascii_case(name));
    list.iter().filter(is_there).cloned().collect()
}

/// What classes count as: by what was given, what the model learned, or their names.
pub(super) fn truths(
    set: &Path,
    classes: &[String],
    options: &OpenOptions,
) -> Result<Option<Vec<Truth>>, DataError> {
    let among = |list: &[String]| among(list, classes);
    let [normal, anomalous] = [&options.normal_classes, &options.anomalous_classes].map(|list| among(list));
    let is_given = !options.normal_classes.is_empty() || !options.anomalous_classes.is_empty();
    let set = set.to_string_lossy();
    for (given, met) in [(&options.normal_classes, &normal), (&options.anomalous_classes, &anomalous)] {
        if let (Some(first), true) = (given.first(), met.is_empty()) {
            if classes.is_empty() {
                let reason = format!(
                    "class `{first}` was given, but there are no folders of classes; a folder of that name holds \
                     the images of a class"
                );
                return Err(DataError::spec(set, reason));
            }
            let reason = format!("there is no folder of the class `{first}`");
            return Err(labelled::classes_error(&set, classes, reason));
        }
    }
    let learned = [&options.learned_classes[0], &options.learned_classes[1]].map(|list| among(list));
    let is_learned = learned.iter().any(|list| !list.is_empty());
    if is_given || is_learned {
        let given = [&normal[..], &anomalous];
        let learned = [&learned[0][..], &learned[1]];
        return labelled::truths(&set, classes, given, learned).map(|(truths, _)| Some(truths));
    }
    let by_name = |name: &str| {
        let is = |class: &String| class.eq_ignore_ascii_case(name);
        let truth = |class| if is(class) { Truth::Normal } else { Truth::Anomalous };
        classes.iter().any(is).then(|| classes.iter().map(truth).collect())
    };
    Ok(NORMAL.iter().find_map(|name| by_name(name)))
}

/// Names as a list for people.
fn listed(names: &[String]) -> String {
    let first: Vec<_> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
    first.join(", ") + if names.len() > 8 { ", …" } else { "" }
}

/// `train/<normal>/`, `test/<class>/` and `ground_truth/<class>/`: MVTec and what came after it.
fn mvtec(
    tree: &mut Tree,
    [train_folder, test_folder]: [Option<String>; 2],
    options: &OpenOptions,
    met: &mut Met,
) -> Result<Plan, DataError> {
    let is_loco = ["logical_anomalies", "structural_anomalies"].iter().any(|kind| {
        // An empty folder of a name that means so much is none by chance.
        test_folder.as_ref().is_some_and(|test| tree.has(&format!("{test}/{kind}")))
    });
    let validation = tree.called("", &["validation"]).filter(|_| is_loco);
    let trained: Vec<&String> = train_folder.iter().chain(&validation).collect();
    let children =
        |folder: &Option<String>| folder.as_ref().map_or(Vec::new(), |folder| tree.children(folder));
    let (train, test) = (children(&train_folder), children(&test_folder));
    let mut classes: Vec<String> = train.iter().chain(&test).cloned().collect();
    classes.sort();
    classes.dedup();
    let truths = match truths(&tree.root, &classes, options)? {
        Some(truths) => truths,
        // What a system is trained on is normal.
        None if train.len() == 1 => {
            let truth = |class: &String| if *class == train[0] { Truth::Normal } else { Truth::Anomalous };
            classes.iter().map(truth).collect()
        }
        None if train.is_empty() => vec![Truth::Anomalous; classes.len()],
        None if options.for_training => {
            let reason = format!(
                "`{}/` holds the classes {}, and none is called good, ok or normal; say which are normal",
                train_folder.as_deref().unwrap_or_default(),
                listed(&train)
            );
            return Err(DataError::spec(tree.root.to_string_lossy(), reason));
        }
        None => vec![Truth::Unknown; classes.len()],
    };
    let truth_of = |class: &str| classes.iter().position(|one| one == class).map(|i| truths[i]);
    let truth_folder = tree.called("", &["ground_truth"]);
    let (mut parts, mut beside) = (Vec::new(), Vec::new());
    for dir in with_images(tree, "") {
        let path = tree.dirs[dir].relative.clone();
        let in_trained = trained.iter().find_map(|top| below(&path, top));
        let in_test = test_folder.as_ref().and_then(|test| below(&path, test));
        let (split, place) = match (in_trained, in_test) {
            (Some(place), _) => (Split::Train, place),
            (_, Some(place)) => (Split::Test, place),
            _ => continue,
        };
        let class = place.split('/').next().unwrap_or_default();
        // Images right in `train/` or `test/` count where no folder of a class lies there.
        let alone = if split == Split::Train { train.is_empty() } else { test.is_empty() };
        let truth = match (split, truth_of(class)) {
            (Split::Train, None) if alone => Truth::Normal,
            (Split::Test, None) if alone => Truth::Unknown,
            (Split::Train, Some(Truth::Normal)) => Truth::Normal,
            (Split::Test, Some(truth)) => truth,
            _ => continue,
        };
        beside.extend(take_masks(tree, dir));
        if split == Split::Train && alone {
            check_unmasked(tree, dir, &beside, options)?;
        }
        parts.push(part(tree, dir, split, class, truth));
    }
    let normal: Vec<String> =
        classes.iter().zip(&truths).filter(|(_, t)| **t == Truth::Normal).map(|(c, _)| c.clone()).collect();
    let is_btad = normal == ["ok"] && test.iter().any(|class| class == "ko");
    let layout = match (is_loco, is_btad) {
        (true, _) => "mvtec-loco",
        (_, true) => "btad",
        _ => "mvtec",
    };
    let there: Vec<_> =
        [&train_folder, &test_folder].into_iter().flatten().map(|f| format!("`{f}/`")).collect();
    let folders = there.join(" and ") + if there.len() > 1 { " are" } else { " is" };
    let means = if normal.is_empty() {
        "no class is normal".to_owned()
    } else {
        format!("normal is {}", listed(&normal))
    };
    let validation = if is_loco {
        "; `validation/` joins the training images, of which some are held out anyway"
    } else {
        ""
    };
    let masks = match &truth_folder {
        Some(folder) => Masks::Under(tree.root.join(folder)),
        None if beside.is_empty() => Masks::None,
        None => Masks::Beside(std::mem::take(&mut beside)),
    };
    pass_over(tree, &beside, met);
    Ok(Plan {
        layout,
        why: format!("{folders} there; {means}{validation}"),
        parts,
        masks,
        silent: truth_folder.into_iter().collect(),
        training: Training::Stated,
        by_masks: false,
    })
}

/// Folders below, none within another, that are sets of their own.
fn sets(tree: &Tree) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for dir in tree.dirs.iter().filter(|dir| !dir.relative.is_empty()) {
        let path = &dir.relative;
        let is_set = || {
            let splits = splits(tree, path);
            let stated = |split: &String| tree.called(split, &NORMAL).is_some();
            splits.iter().all(Option::is_some)
                || splits.iter().flatten().any(stated)
                || visa::is_object(tree, path)
        };
        if !found.iter().any(|above| dir.is_in(above)) && is_set() {
            found.push(path.clone());
        }
    }
    (!found.is_empty()).then_some(found)
}

/// A folder for each class, without a word on what is for training.
fn classes(tree: &mut Tree, options: &OpenOptions) -> Result<Option<Plan>, DataError> {
    let masks = tree.mask_folders();
    let is_class = |name: &String| tree.count(name) > 0 && !masks.contains(name);
    let classes: Vec<String> = tree.children("").into_iter().filter(is_class).collect();
    let is_given = !options.normal_classes.is_empty() || !options.anomalous_classes.is_empty();
    let Some(truths) = truths(&tree.root, &classes, options)?.filter(|_| is_given || classes.len() > 1)
    else {
        return Ok(None);
    };
    let (mut parts, mut beside) = (Vec::new(), Vec::new());
    for (class, &truth) in classes.iter().zip(&truths).filter(|(_, truth)| **truth != Truth::Unknown) {
        for dir in with_images(tree, class) {
            if !masks.iter().any(|folder| tree.dirs[dir].is_in(folder)) {
                beside.extend(take_masks(tree, dir));
                parts.push(part(tree, dir, Split::Test, class, truth));
            }
        }
    }
    let normal: Vec<String> =
        classes.iter().zip(&truths).filter(|(_, t)| **t == Truth::Normal).map(|(c, _)| c.clone()).collect();
    Ok(Some(Plan {
        layout: "classes",
        why: format!(
            "a folder for each class, of which {} is normal; a fifth of the normal images is kept for tests",
            listed(&normal)
        ),
        parts,
        masks: if beside.is_empty() { Masks::None } else { Masks::Beside(beside) },
        silent: Vec::new(),
        training: Training::Drawn,
        by_masks: false,
    }))
}

/// All images of a folder and of those below: normal ones to train on, unknown ones to score.
fn flat(tree: &mut Tree, options: &OpenOptions, met: &mut Met) -> Result<Plan, DataError> {
    check_unnamed(tree, options)?;
    let masks = tree.mask_folders();
    for folder in masks.iter().filter(|folder| !folder.is_empty()) {
        let images = super::walk::images_of(tree.count(folder));
        let reason = format!(
            "is a folder of {images}, named as masks are, that is not read; give it as the masks, or by itself"
        );
        met.skipped.push(Rejected::of(&tree.root.join(folder), reason));
    }
    let mut parts = Vec::new();
    for dir in with_images(tree, "") {
        let is_mask = |folder: &String| !folder.is_empty() && tree.dirs[dir].is_in(folder);
        if masks.iter().any(is_mask) {
            continue;
        }
        let beside: Vec<_> = take_masks(tree, dir).into_iter().collect();
        check_unmasked(tree, dir, &beside, options)?;
        pass_over(tree, &beside, met);
        parts.push(part(tree, dir, Split::Test, "", Truth::Unknown));
    }
    let (images, folders) = (parts.iter().map(|part| part.names.len()).sum::<usize>(), parts.len());
    Ok(Plan {
        layout: "folder",
        why: match folders {
            0 | 1 => "no folders of classes are there: all images are normal to train on, unknown to score"
                .to_owned(),
            _ => format!(
                "no folders of classes are there: all {images} images of {folders} folders are normal to train on, \
                 unknown to score"
            ),
        },
        parts,
        masks: Masks::None,
        silent: masks,
        training: Training::All,
        by_masks: false,
    })
}

/// Refuses to train on all images of a tree where a folder deeper in it is named as one of normal images, and
/// folders beside it are not: they would be trained on as well.
fn check_unnamed(tree: &Tree, options: &OpenOptions) -> Result<(), DataError> {
    if !options.for_training || options.masks.is_some() {
        return Ok(());
    }
    let masks = tree.mask_folders();
    for dir in &tree.dirs {
        let is_normal = |name: &String| NORMAL.iter().any(|normal| name.eq_ignore_ascii_case(normal));
        let path = |name: &String| match dir.relative.as_str() {
            "" => name.clone(),
            folder => format!("{folder}/{name}"),
        };
        let is_class = |name: &String| tree.count(&path(name)) > 0 && !masks.contains(&path(name));
        let classes: Vec<String> = tree.children(&dir.relative).into_iter().filter(is_class).collect();
        let (normal, others): (Vec<_>, Vec<_>) = classes.into_iter().partition(is_normal);
        if let (Some(normal), Some(_)) = (normal.first(), others.first()) {
            let reason = format!(
                "`{}` lies beside {}, which would be trained on as normal images too; give `{}` itself, whose folders \
                 are then classes, or only what is normal",
                path(normal),
                listed(&others),
                if dir.relative.is_empty() { "." } else { &dir.relative },
            );
            return Err(DataError::spec(tree.root.to_string_lossy(), reason));
        }
    }
    Ok(())
}
