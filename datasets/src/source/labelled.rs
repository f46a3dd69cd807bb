//! Labelled sets of small images (IDX, CIFAR-10, NPZ): raw bytes in memory, and which classes count as
//! normal.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Entry, RawMask, RawSample, Source, Split, Truth};
use crate::DataError;
use crate::dataset::OpenOptions;
use crate::memory::{Held, Permit};
use crate::pixels::{Raw, Samples};
use crate::preprocess::Preprocess;

/// Images of one part; the largest published sets have 20 million.
const MAX_IMAGES: u64 = 1 << 26;
/// Memory of an entry, in a list that doubles.
const ENTRY: u64 = 12;

/// One file's worth of equal-sized images, or several files joined.
#[derive(Default)]
pub(crate) struct ImageBlock {
    /// Prefix of the ids: `train`, `t10k`, `data_batch`.
    pub(crate) name: String,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Planar (CHW), `count × channels × height × width`.
    pub(crate) pixels: Vec<u8>,
    pub(crate) channels: usize,
    /// Pixels are HWC instead.
    pub(crate) interleaved: bool,
    /// A second part appended to this one: its first image, and its prefix of the ids.
    pub(crate) appended: Option<(usize, String)>,
    /// One label an image; empty where the set has none.
    pub(crate) labels: Vec<u8>,
    /// Entries of the split, as positions in `pixels`.
    pub(crate) entries: Vec<u32>,
    /// Memory of all this.
    pub(crate) held: Held,
}

/// Refuses a number of images, or of labels, that no set has, before any of them is read.
pub(crate) fn check_count(path: &Path, count: u64) -> Result<(), DataError> {
    if count > MAX_IMAGES {
        let reason =
            format!("a count of {count} images in one part; at most {MAX_IMAGES} are read; split it");
        return Err(DataError::file(path, reason));
    }
    Ok(())
}

impl ImageBlock {
    fn area(&self) -> usize {
        self.channels * self.width * self.height
    }

    fn count(&self) -> usize {
        self.pixels.len().checked_div(self.area()).unwrap_or(0)
    }
}

/// Training and test part with a class selection.
pub(crate) struct Labelled {
    layout: &'static str,
    parts: [ImageBlock; 2],
    classes: Vec<String>,
    truths: Vec<Truth>,
}

impl Labelled {
    /// `set` names the data in messages; `classes` has a name for every label.
    pub(crate) fn new(
        layout: &'static str,
        set: &str,
        mut parts: [ImageBlock; 2],
        classes: Vec<String>,
        options: &OpenOptions,
    ) -> Result<Self, DataError> {
        let given = [&options.normal_classes[..], &options.anomalous_classes];
        let learned = [&options.learned_classes[0][..], &options.learned_classes[1]];
        let (truths, is_selected) = truths(set, &classes, given, learned)?;
        for (part, split) in parts.iter_mut().zip([Split::Train, Split::Test]) {
            // Unlabelled images count as normal for training, like those of a flat folder.
            let wanted = |i: usize| match part.labels.get(i).map(|&label| (truths[usize::from(label)], split))
            {
                None => true,
                Some((truth, Split::Train)) => truth == Truth::Normal || !is_selected,
                Some((truth, Split::Test)) => truth != Truth::Unknown || !is_selected,
            };
            let count = part.count();
            part.held.grow(ENTRY * count as u64).map_err(|short| short.of(set.as_ref()))?;
            let entries = (0..count).filter(|&i| wanted(i)).map(|i| i as u32).collect();
            part.entries = entries;
        }
        let train = &parts[Split::Train.slot()];
        if options.for_training && !train.labels.is_empty() && !is_selected {
            return Err(classes_error(
                set,
                &classes,
                "which classes are normal is not stated; give normal classes (one against the rest) \
                 or anomalous classes (leave one out)"
                    .into(),
            ));
        }
        if options.for_training && train.entries.is_empty() {
            let reason = "there is no training image of the normal classes; check the files and the classes";
            return Err(DataError::spec(set, reason));
        }
        Ok(Labelled { layout, parts, classes, truths })
    }

    fn part(&self, split: Split) -> &ImageBlock {
        &self.parts[split.slot()]
    }
}

impl Source for Labelled {
    fn layout(&self) -> &'static str {
        self.layout
    }

    fn len(&self, split: Split) -> usize {
        self.part(split).entries.len()
    }

    fn entry(&self, split: Split, i: usize) -> Entry {
        let part = self.part(split);
        let at = part.entries[i];
        let id = match &part.appended {
            Some((first, name)) if at as usize >= *first => format!("{name}:{}", at as usize - first),
            _ => format!("{}:{at}", part.name),
        };
        match part.labels.get(at as usize).map(|&label| usize::from(label)) {
            Some(label) => Entry { id, class: self.classes[label].clone(), truth: self.truths[label] },
            None if split == Split::Train => Entry { id, class: String::new(), truth: Truth::Normal },
            None => Entry { id, class: String::new(), truth: Truth::Unknown },
        }
    }

    fn load(&self, split: Split, i: usize, _: &Preprocess) -> Result<RawSample, DataError> {
        let part = self.part(split);
        let permit = Permit::take(3 * part.area() as u64)
            .map_err(|short| short.of(self.entry(split, i).id.as_ref()))?;
        let (area, plane) = (part.area(), part.width * part.height);
        let start = part.entries[i] as usize * area;
        let planar = &part.pixels[start..start + area];
        let samples = match part.channels {
            _ if part.interleaved || part.channels == 1 => planar.to_vec(),
            n => (0..area).map(|k| planar[k % n * plane + k / n]).collect(),
        };
        let (width, height, channels) = (part.width, part.height, part.channels);
        let image = Raw { width, height, channels, samples: Samples::U8(samples) };
        Ok(RawSample { image, mask: RawMask::Unknown, permit: Some(permit), is_scaled: false })
    }

    fn digest(&self, split: Split, hasher: &mut Sha256) -> Result<(), DataError> {
        let part = self.part(split);
        hasher.update(format!("{}×{}×{}\n", part.channels, part.height, part.width));
        for &at in &part.entries {
            hasher.update(at.to_le_bytes());
        }
        hasher.update(&part.pixels);
        hasher.update(&part.labels);
        Ok(())
    }
}

/// Truth of each class, and whether any list says so: what is given, else what a model learned.
pub(super) fn truths(
    set: &str,
    classes: &[String],
    given: [&[String]; 2],
    learned: [&[String]; 2],
) -> Result<(Vec<Truth>, bool), DataError> {
    let is_empty = |lists: [&[String]; 2]| lists.iter().all(|list| list.is_empty());
    if is_empty(given) {
        return Ok((select(set, classes, learned)?, !is_empty(learned)));
    }
    let truths = select(set, classes, given)?;
    // A set without the model's classes is another set: there is nothing to contradict.
    let learned = if is_empty(learned) { None } else { select(set, classes, learned).ok() };
    for ((class, here), there) in classes.iter().zip(&truths).zip(learned.iter().flatten()) {
        let name = |truth: &Truth| if *truth == Truth::Normal { "normal" } else { "anomalous" };
        if here != there && *here != Truth::Unknown && *there != Truth::Unknown {
            let reason = format!(
                "class `{class}` would be {}, but it was {} when the model was trained; leave the classes out, or train a \
                 model of its own",
                name(here),
                name(there)
            );
            return Err(classes_error(set, classes, reason));
        }
    }
    Ok((truths, true))
}

/// Truth of each class. With one list given the other is its complement; with both, classes in neither are
/// unknown.
fn select(
    set: &str,
    classes: &[String],
    [normal, anomalous]: [&[String]; 2],
) -> Result<Vec<Truth>, DataError> {
    let rest = match (normal.is_empty(), anomalous.is_empty()) {
        (false, true) => Truth::Anomalous,
        (true, false) => Truth::Normal,
        _ => Truth::Unknown,
    };
    let mut truths = vec![rest; classes.len()];
    for (list, truth) in [(normal, Truth::Normal), (anomalous, Truth::Anomalous)] {
        for wanted in list {
            // All that are called so, in whatever case.
            let is_called = |&n: &usize| classes[n].eq_ignore_ascii_case(wanted);
            let mut numbers: Vec<usize> = (0..classes.len()).filter(is_called).collect();
            if numbers.is_empty() {
                numbers.extend(wanted.parse().ok().filter(|&n: &usize| n < classes.len()));
            }
            if numbers.is_empty() {
                return Err(classes_error(
                    set,
                    classes,
                    format!("there is no class `{wanted}`; give a number or name"),
                ));
            }
            for number in numbers {
                // With both lists given, only the normal one has made a class normal yet.
                if truth == Truth::Anomalous && !normal.is_empty() && truths[number] == Truth::Normal {
                    let reason = format!("class `{wanted}` is given as normal and as anomalous; choose one");
                    return Err(classes_error(set, classes, reason));
                }
                truths[number] = truth;
            }
        }
    }
    let is_selected = !normal.is_empty() || !anomalous.is_empty();
    if is_selected && !truths.contains(&Truth::Normal) {
        return Err(classes_error(
            set,
            classes,
            "every class is anomalous; leave at least one normal".into(),
        ));
    }
    Ok(truths)
}

pub(super) fn classes_error(set: &str, classes: &[String], reason: String) -> DataError {
    let names = classes.iter().enumerate().map(|(number, name)| {
        if *name == number.to_string() { name.clone() } else { format!("{number} {name}") }
    });
    DataError::Classes { set: set.into(), reason, classes: names.collect::<Vec<_>>().join(", ") }
}
