//! What a data set holds: `data info`.

use std::collections::BTreeMap;

use ganomede_host::interrupt::{self, Interrupted};
use rayon::prelude::*;
use serde::Serialize;

use crate::DataError;
use crate::dataset::{Dataset, Findings};
use crate::source::{Place, RawMask, Split, Truth};

/// Images decoded of each split where not all are.
const SAMPLED: usize = 64;

/// Counts, sizes and colours of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DatasetInfo {
    /// The specification it was opened with.
    pub spec: String,
    /// As [`Dataset::layout`].
    pub layout: &'static str,
    /// As [`Dataset::why`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// As [`Dataset::places`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
    /// Training and test split.
    pub splits: Vec<SplitInfo>,
    /// What cannot be used or is not looked at, and how masks fit; complete if all images were decoded.
    #[serde(flatten)]
    pub findings: Findings,
}

/// One split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitInfo {
    /// Which one.
    pub split: Split,
    /// Entries, patches counted singly.
    pub count: usize,
    /// As [`Dataset::digest`].
    pub digest: String,
    /// Entries of each class.
    pub classes: Vec<ClassInfo>,
    /// Images that were decoded for the rest of this list.
    pub decoded: usize,
    /// Of those, how many have which `width×height`.
    pub sizes: BTreeMap<String, usize>,
    /// Of those, how many have which colour type, such as `rgb8` or `gray16`.
    pub colour_types: BTreeMap<&'static str, usize>,
    /// Of those, how many have a drawn mask.
    pub masks: usize,
}

/// One class of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassInfo {
    /// Name; empty where unlabelled.
    pub class: String,
    /// What its images count as.
    pub truth: Truth,
    /// Images of the class.
    pub count: usize,
}

/// Describes a data set. With `decode_all` every image is decoded, which finds all that cannot be used;
/// otherwise 64 of each split, evenly spread.
///
/// Errors: machine faults; with `strict` the first file that cannot be decoded.
pub fn info(dataset: &Dataset, decode_all: bool) -> Result<DatasetInfo, DataError> {
    let splits = [Split::Train, Split::Test].map(|split| split_info(dataset, split, decode_all));
    Ok(DatasetInfo {
        spec: dataset.spec().to_string(),
        layout: dataset.layout(),
        why: dataset.why(),
        places: dataset.places(),
        splits: splits.into_iter().collect::<Result<_, _>>()?,
        findings: dataset.findings(),
    })
}

fn split_info(dataset: &Dataset, split: Split, decode_all: bool) -> Result<SplitInfo, DataError> {
    let count = dataset.len(split);
    let mut classes: BTreeMap<(String, Truth), usize> = BTreeMap::new();
    for entry in (0..count).filter_map(|i| dataset.entry(split, i)) {
        *classes.entry((entry.class, entry.truth)).or_default() += 1;
    }
    let images = dataset.images(split);
    let wanted = if decode_all { images } else { images.min(SAMPLED) };
    let describe = |k: usize| match dataset.load_raw(split, k * images / wanted) {
        _ if interrupt::raised() => Err(Interrupted.into()),
        Ok(raw) => {
            let size = format!("{}×{}", raw.image.width, raw.image.height);
            Ok(Some((size, raw.image.colour_type(), matches!(raw.mask, RawMask::Drawn(_)))))
        }
        Err(error) if error.is_machine_fault() || dataset.options().strict => Err(error),
        Err(error) => {
            dataset.reject(&error);
            Ok(None)
        }
    };
    let described: Vec<_> = (0..wanted).into_par_iter().map(describe).collect::<Result<_, _>>()?;
    let (mut sizes, mut colour_types) = (BTreeMap::new(), BTreeMap::new());
    let (mut decoded, mut masks) = (0, 0);
    for (size, colour, has_mask) in described.into_iter().flatten() {
        *sizes.entry(size).or_default() += 1;
        *colour_types.entry(colour).or_default() += 1;
        masks += usize::from(has_mask);
        decoded += 1;
    }
    let digest = dataset.digest(split)?;
    let classes =
        classes.into_iter().map(|((class, truth), count)| ClassInfo { class, truth, count }).collect();
    Ok(SplitInfo { split, count, digest, classes, decoded, sizes, colour_types, masks })
}
