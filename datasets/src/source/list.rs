//! A list of images: a CSV file of `path` and, where known, `label`, `split` and `mask`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::folder::{Folder, Frames, Group, file_of, judge, push_frames};
use super::layout::Training;
use super::masks::MaskReport;
use super::names::Names;
use super::walk::images_of;
use super::{Met, Rejected, Split, Truth, labelled};
use crate::csv_file::{self, number};
use crate::dataset::OpenOptions;
use crate::memory::Held;
use crate::table::labels::is_label;
use crate::{DataError, decode};

/// Labels that mean normal, and labels that mean anomalous whatever else is there, where none are given.
const NORMAL: [&str; 5] = ["good", "ok", "normal", "inlier", "0"];
const ANOMALOUS: [&str; 12] = [
    "anomalous",
    "anomaly",
    "abnormal",
    "bad",
    "defect",
    "defective",
    "fail",
    "ko",
    "ng",
    "nok",
    "outlier",
    "1",
];
/// Different labels of a list.
const MAX_LABELS: usize = 1000;
/// Faults that are named.
const NAMED: usize = 3;

/// Columns, by their names in small letters.
#[derive(Default)]
struct Columns {
    path: usize,
    label: Option<usize>,
    split: Option<usize>,
    mask: Option<usize>,
}

struct Row {
    path: String,
    label: String,
    split: Option<Split>,
    mask: Option<PathBuf>,
}

/// What is wrong with the lines of a list.
#[derive(Default)]
struct Faults {
    first: Vec<String>,
    count: usize,
}

impl Faults {
    fn add(&mut self, line: u64, what: impl std::fmt::Display) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("line {line}: {what}"));
        }
    }

    fn check(self, path: &Path) -> Result<(), DataError> {
        let more = match self.count - self.first.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        match self.count {
            0 => Ok(()),
            _ => Err(DataError::spec(
                path.to_string_lossy(),
                format!("{}{more}; repair the list", self.first.join("; ")),
            )),
        }
    }
}

/// The columns that a first row names; None where it is no list of images.
fn columns(path: &Path, record: &csv::StringRecord) -> Result<Columns, DataError> {
    let (mut columns, mut is_found) = (Columns::default(), false);
    let refuse = |reason: String| Err(DataError::spec(path.to_string_lossy(), reason));
    let (mut unknown, mut twice) = (Vec::new(), None);
    for (place, field) in record.iter().enumerate() {
        let name = field.to_lowercase();
        let known = match name.as_str() {
            "path" if !is_found => {
                (columns.path, is_found) = (place, true);
                continue;
            }
            "label" => &mut columns.label,
            "split" => &mut columns.split,
            "mask" => &mut columns.mask,
            "path" => {
                twice = Some(name);
                continue;
            }
            _ => {
                unknown.push(format!("`{field}`"));
                continue;
            }
        };
        if known.replace(place).is_some() {
            twice = Some(name);
        }
    }
    if !is_found {
        return refuse(
            "is a table or a signal, not a set of images; a list of images has a column `path`, and may have `label`, \
             `split` and `mask`"
                .into(),
        );
    }
    if let Some(name) = twice {
        return refuse(format!("has two columns `{name}`; leave one"));
    }
    if !unknown.is_empty() {
        unknown.truncate(8);
        return refuse(format!(
            "has the unknown columns {}; a list of images has `path`, and may have `label`, `split` and `mask`",
            unknown.join(", ")
        ));
    }
    Ok(columns)
}

/// A path without what says nothing, so that equal ones are equal.
fn plain(path: &str) -> String {
    let parts = Path::new(path).components().filter(|part| *part != Component::CurDir);
    parts.collect::<PathBuf>().to_string_lossy().into_owned()
}

/// Reads the rows of a list, with what is wrong with them.
fn read(path: &Path, root: &Path) -> Result<(Columns, Vec<(u64, Row)>), DataError> {
    let (held, mut columns_of, mut rows, mut faults) = (Held::default(), None, Vec::new(), Faults::default());
    let mut met = BTreeSet::new();
    csv_file::rows(path, &held, |line, record| {
        let Some(Columns { path: at, label, split, mask }) = &columns_of else {
            columns_of = Some(columns(path, record)?);
            return Ok(());
        };
        let field = |place: &Option<usize>| place.map_or("", |place| &record[place]);
        let image = plain(&record[*at]);
        if image.is_empty() {
            faults.add(line, "the path is empty");
            return Ok(());
        }
        let (file, frame) = file_of(&image);
        let file = root.join(file);
        // By the file that is meant, however its path is written.
        if !met.insert((file.canonicalize().unwrap_or_else(|_| file.clone()), frame)) {
            faults.add(line, format!("`{image}` occurs above"));
        }
        if file.is_dir() {
            faults.add(line, format!("`{image}` is a folder, no image"));
        } else if !file.exists() {
            faults.add(line, format!("`{image}` does not exist"));
        }
        let of_split = match field(split).to_lowercase().as_str() {
            "" if split.is_none() => None,
            // Some of the training images are held out anyway.
            "train" | "training" | "val" | "validation" => Some(Split::Train),
            "test" | "testing" => Some(Split::Test),
            other => {
                faults.add(line, format!("the split is `{other}`; train, val or test is meant"));
                None
            }
        };
        let of_mask = Some(field(mask)).filter(|mask| !mask.is_empty()).map(|mask| root.join(mask));
        if let Some(mask) = of_mask.as_ref().filter(|mask| !mask.is_file()) {
            faults.add(line, format!("the mask `{}` does not exist", mask.display()));
        }
        let label = field(label);
        if matches!(number(label), Ok(Some(value)) if value.fract() != 0.0) {
            faults.add(line, format!("the label `{label}` is a measure, no label"));
        }
        rows.push((line, Row { path: image, label: label.to_owned(), split: of_split, mask: of_mask }));
        Ok(())
    })?;
    faults.check(path)?;
    match columns_of {
        Some(columns) if !rows.is_empty() => Ok((columns, rows)),
        _ => Err(DataError::spec(path.to_string_lossy(), "names no image")),
    }
}

/// Whether the first row of a CSV file names a column of paths.
pub(super) fn is_list(path: &Path) -> bool {
    let Ok(text) = csv_file::open(path) else { return false };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).from_reader(text);
    let mut record = csv::StringRecord::new();
    let is_read = reader.read_record(&mut record).unwrap_or(false);
    is_read && record.iter().any(|name| name.eq_ignore_ascii_case("path"))
}

/// The images and masks of a list, as far as it can be read.
pub(crate) fn files(path: &Path) -> Vec<PathBuf> {
    let root = path.parent().unwrap_or(Path::new(""));
    let (held, mut columns_of, mut files) = (Held::default(), None, Vec::new());
    // Who opens it says what is wrong.
    let _ = csv_file::rows(path, &held, |_, record| {
        match &columns_of {
            None => columns_of = Some(columns(path, record)?),
            Some(Columns { path, mask, .. }) => {
                files.push(root.join(file_of(&record[*path]).0));
                let mask = mask.map(|place| &record[place]).filter(|mask| !mask.is_empty());
                files.extend(mask.map(|mask| root.join(mask)));
            }
        }
        Ok(())
    });
    files
}

/// Whether a label says anything: an empty one, `NA` and their like do not, unless they were given.
fn says(label: &str, options: &OpenOptions) -> bool {
    let given = options.normal_classes.iter().chain(&options.anomalous_classes);
    let mut known = given.chain(options.learned_classes.iter().flatten());
    !label.is_empty() && (!matches!(number(label), Ok(None)) || known.any(|one| one == label))
}

/// What the labels of a list mean.
fn truths(path: &Path, labels: &[String], options: &OpenOptions) -> Result<Vec<Truth>, DataError> {
    if labels.len() > MAX_LABELS {
        let reason = format!("holds more than {MAX_LABELS} different labels; name kinds of images");
        return Err(DataError::spec(path.to_string_lossy(), reason));
    }
    let is_among = |list: &[&str], label: &String| list.iter().any(|word| is_label(word, label));
    let is_given = [&options.normal_classes, &options.anomalous_classes].iter().any(|list| !list.is_empty());
    let is_learned = options.learned_classes.iter().flatten().any(|class| labels.contains(class));
    if is_given || is_learned {
        let lists = |lists: [&Vec<String>; 2]| lists.map(|list| super::layout::among(list, labels));
        let given = lists([&options.normal_classes, &options.anomalous_classes]);
        let learned = lists([&options.learned_classes[0], &options.learned_classes[1]]);
        let set = path.to_string_lossy();
        if is_given && given.iter().all(Vec::is_empty) {
            let reason = "none of the classes that were given is a label of the list".to_owned();
            return Err(labelled::classes_error(&set, labels, reason));
        }
        let slices = |lists: &[Vec<String>; 2]| -> Result<Vec<Truth>, DataError> {
            let learned = [&learned[0][..], &learned[1]];
            labelled::truths(&set, labels, [&lists[0][..], &lists[1]], learned).map(|(truths, _)| truths)
        };
        return slices(&given);
    }
    let has_normal = labels.iter().any(|label| is_among(&NORMAL, label));
    if !has_normal && !labels.iter().all(|label| is_among(&ANOMALOUS, label)) {
        let first: Vec<_> = labels.iter().take(8).map(|label| format!("`{label}`")).collect();
        let reason = format!(
            "none of its labels ({}{}) is known to be normal ({}); say which are normal",
            first.join(", "),
            if labels.len() > 8 { ", …" } else { "" },
            NORMAL.join(", ")
        );
        return Err(DataError::spec(path.to_string_lossy(), reason));
    }
    let truth = |label| if is_among(&NORMAL, label) { Truth::Normal } else { Truth::Anomalous };
    Ok(labels.iter().map(truth).collect())
}

/// Refuses masks of another size than their image, before anything is computed.
fn check_masks(path: &Path, root: &Path, rows: &[(u64, Row)]) -> Result<(), DataError> {
    let sizes = rows.par_iter().filter_map(|(line, row)| {
        let mask = row.mask.as_ref()?;
        let size = |header: decode::ImageHeader| (header.width, header.height);
        // An image that cannot be read is reported with the others.
        let (name, frame) = file_of(&row.path);
        let image = size(decode::open_frame(&root.join(name), frame.unwrap_or(0)).ok()?.header());
        match decode::open_mask(mask).map(|file| size(file.header())) {
            Ok(mask_size) if mask_size == image => None,
            Ok((width, height)) => {
                Some((*line, format!("the mask is {width}×{height} but its image {}×{}", image.0, image.1)))
            }
            Err(error) => Some((*line, error.to_string())),
        }
    });
    let mut faults = Faults::default();
    sizes.collect::<Vec<_>>().into_iter().for_each(|(line, fault)| faults.add(line, fault));
    faults.check(path)
}

pub(crate) fn open(path: &Path, options: &OpenOptions, met: &mut Met) -> Result<Folder, DataError> {
    let root = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let (columns, rows) = read(path, &root)?;
    if options.masks.is_some() {
        return Err(DataError::spec(
            path.to_string_lossy(),
            "a list names its masks itself, in a column `mask`",
        ));
    }
    let labels: BTreeSet<&str> =
        rows.iter().map(|(_, row)| row.label.as_str()).filter(|label| says(label, options)).collect();
    let labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
    let truths = match labels.is_empty() {
        true => Vec::new(),
        false => truths(path, &labels, options)?,
    };
    let silent: Vec<&str> = rows.iter().map(|(_, row)| row.label.as_str()).collect();
    let silent: Vec<&str> = silent.into_iter().filter(|l| !l.is_empty() && !says(l, options)).collect();
    if let Some(first) = silent.first() {
        let reason = format!("labels {} `{first}` or alike, which says nothing", images_of(silent.len()));
        met.skipped.push(Rejected::of(path, reason));
    }
    let truth_of: BTreeMap<&str, Truth> = labels.iter().map(String::as_str).zip(truths).collect();
    let training = match (columns.split, columns.label, columns.mask) {
        (Some(_), ..) => Training::Stated,
        (None, None, None) => Training::All,
        _ => Training::Drawn,
    };
    let by_masks = columns.label.is_none() && columns.mask.is_some();
    if columns.mask.is_some() && (by_masks || !options.without_masks) {
        check_masks(path, &root, &rows)?;
    }

    let judged: Vec<_> = rows
        .par_iter()
        .map(|(_, row)| {
            ganomede_host::interrupt::check()?;
            let (name, frame) = file_of(&row.path);
            let mut skipped = Vec::new();
            let frames =
                judge(&root.join(name), options, &mut skipped).and_then(|frames| match (frame, frames) {
                    (None, frames) => Ok(frames),
                    (Some(0), Frames::One) => Ok(Frames::One),
                    (Some(frame), Frames::Some(all)) if all.contains(&frame) => Ok(Frames::Some(vec![frame])),
                    (Some(frame), _) => Err(DataError::file(
                        &root.join(name),
                        format!("has no image {frame}, counted from 0"),
                    )),
                });
            Ok((frames, skipped))
        })
        .collect::<Result<_, DataError>>()?;

    // In order of paths, so that nothing depends on the order of the list; what is scored keeps that.
    let mut named: BTreeMap<(Split, &str), BTreeMap<String, Option<PathBuf>>> = BTreeMap::new();
    let (mut ranks, mut not_trained) = (BTreeMap::new(), 0);
    for ((_, row), (frames, mut skipped)) in rows.iter().zip(judged) {
        met.skipped.append(&mut skipped);
        let frames = match frames {
            Ok(frames) => frames,
            Err(DataError::File { path, reason }) => {
                met.reject(&path, reason, options)?;
                continue;
            }
            Err(other) => return Err(other),
        };
        let split = row.split.unwrap_or(Split::Test);
        if split == Split::Train && truth_of.get(row.label.as_str()) == Some(&Truth::Anomalous) {
            not_trained += 1;
            continue;
        }
        let mut names = Names::default();
        push_frames(&mut names, &root, file_of(&row.path).0, frames)?;
        for name in names.iter() {
            ranks.insert(name.to_owned(), ranks.len());
            named.entry((split, &row.label)).or_default().insert(name.to_owned(), row.mask.clone());
        }
    }
    if not_trained > 0 {
        let reason =
            format!("names {} for training that are anomalous, not trained on", images_of(not_trained));
        met.skipped.push(Rejected::of(path, reason));
    }
    let mut folder = Folder {
        root,
        layout: "list",
        why: why(&columns, rows.len()),
        groups: [Vec::new(), Vec::new()],
        training,
        has_masks: columns.mask.is_some() && !options.without_masks,
        window: options.window,
        order: None,
    };
    for ((split, label), images) in named {
        let mut names = Names::default();
        images.keys().try_for_each(|name| names.push(path, name))?;
        let truth = truth_of.get(label).copied().unwrap_or(Truth::Unknown);
        let mut group = Group::new(String::new(), label, truth, names);
        if columns.mask.is_some() {
            group.masks = images.into_values().map(|mask| mask.into_iter().collect()).collect();
        }
        folder.groups[split.slot()].push(group);
    }
    if folder.groups.iter().all(Vec::is_empty) {
        let first = met.rejected.first().map(|r| format!("; the first, {}: {}", r.path, r.reason));
        let reason = format!("none of its {} images can be used{}", rows.len(), first.unwrap_or_default());
        return Err(DataError::spec(path.to_string_lossy(), reason));
    }
    if by_masks {
        folder.judge_by_masks(&MaskReport::default(), options, met)?;
    }
    if folder.has_masks {
        let report = folder.fit(MaskReport::default());
        met.masks.get_or_insert_default().add(report);
    }
    if training == Training::Drawn {
        folder.draw_tests();
    }
    folder.order_by(&ranks);
    if options.for_training && folder.groups(Split::Train).is_empty() {
        return Err(DataError::spec(
            path.to_string_lossy(),
            "names no usable image that is normal, to train on",
        ));
    }
    Ok(folder)
}

fn why(columns: &Columns, rows: usize) -> String {
    let given = [("label", columns.label), ("split", columns.split), ("mask", columns.mask)];
    let given: Vec<_> = given.iter().filter(|(_, place)| place.is_some()).map(|(name, _)| *name).collect();
    let with =
        if given.is_empty() { "paths only".to_owned() } else { format!("paths with {}", given.join(", ")) };
    let split = match (columns.split, columns.label, columns.mask) {
        (Some(_), ..) => "",
        (None, None, None) => ": all are normal to train on, unknown to score",
        _ => "; a fifth of the normal images is kept for tests",
    };
    format!("a list of {} ({with}){split}", images_of(rows))
}
