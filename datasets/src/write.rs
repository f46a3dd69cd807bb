//! Data sets written out as folders: `data synth`, `data convert` and `data patches`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ganomede_host::interrupt;
use rayon::prelude::*;

use crate::DataError;
use crate::dataset::{Dataset, Findings, OpenOptions};
use crate::output::{create, write_png};
use crate::patches::PatchOptions;
use crate::pixels::Raw;
use crate::source::{RawMask, Split, Truth};

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Training images (or patches).
    pub train: usize,
    /// Test images.
    pub test: usize,
    /// Masks of test images.
    pub masks: usize,
}

/// Writes up to `train` and `test` images, undistorted, as 8 or 16 bit PNG in the MVTec layout.
///
/// The folder appears whole or not at all. Files of the source that cannot be decoded are skipped and listed
/// in [`Dataset::rejected`] unless it is strict. Errors: `out` exists and is not an empty folder; test images
/// whose truth is unknown (open labelled sets with classes, and flat folders with `test` = 0); a set opened
/// with patches.
pub fn write_mvtec(dataset: &Dataset, out: &Path, train: usize, test: usize) -> Result<Written, DataError> {
    let refuse = |reason: &str| DataError::Output { path: out.to_path_buf(), reason: reason.into() };
    if dataset.options().patch.is_some() {
        return Err(refuse("the data set was opened with patches; open it without"));
    }
    let train = train.min(dataset.len(Split::Train));
    let test = test.min(dataset.len(Split::Test));
    let folder_of = |i: usize| {
        let entry = dataset.entry(Split::Test, i)?;
        match entry.truth {
            Truth::Normal => Some("good".to_string()),
            Truth::Anomalous => Some(defect_folder(&entry.class)),
            Truth::Unknown => None,
        }
    };
    let folders: BTreeSet<Option<String>> = (0..test).map(folder_of).collect();
    if folders.contains(&None) {
        return Err(refuse(
            "test images without a known truth cannot be sorted into folders; \
             state the normal or anomalous classes, or write no test images",
        ));
    }
    let folder = create(out)?;
    let subfolder =
        |name: &str| folder.subfolder(name).map(drop).map_err(DataError::io("create", &out.join(name)));
    subfolder("train/good")?;
    for name in folders.into_iter().flatten() {
        subfolder(&format!("test/{name}"))?;
        if name != "good" && dataset.has_masks() {
            subfolder(&format!("ground_truth/{name}"))?;
        }
    }
    let masks = AtomicUsize::new(0);
    let write_train = |i: usize| match usable(dataset, Split::Train, i)? {
        Some((image, _)) => write_png(&folder, out, &format!("train/good/{i:06}.png"), image).map(|()| 1),
        None => Ok(0),
    };
    let write_test = |i: usize| {
        let (Some((image, mask)), Some(name)) = (usable(dataset, Split::Test, i)?, folder_of(i)) else {
            return Ok(0);
        };
        write_png(&folder, out, &format!("test/{name}/{i:06}.png"), image)?;
        if let RawMask::Drawn(mask) = mask {
            write_png(&folder, out, &format!("ground_truth/{name}/{i:06}_mask.png"), mask.marks())?;
            masks.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<usize, DataError>(1)
    };
    let add = |a: usize, b: usize| Ok(a + b);
    let train = (0..train).into_par_iter().map(write_train).try_reduce(|| 0, add)?;
    let test = (0..test).into_par_iter().map(write_test).try_reduce(|| 0, add)?;
    folder.finish().map_err(DataError::io("rename the finished output to", out))?;
    Ok(Written { train, test, masks: masks.into_inner() })
}

/// Cuts `count` random squares of `size` pixels from the training images of `spec` into the flat folder
/// `out`.
///
/// With `flatten` the images are flattened first. The patches are spread evenly over the images and named in
/// order; the same seed gives the same patches. The folder appears whole or not at all. Images that cannot be
/// used are skipped and returned with the counts.
pub fn extract_patches(
    spec: &str,
    out: &Path,
    count: usize,
    size: usize,
    seed: u64,
    flatten: bool,
) -> Result<(Written, Findings), DataError> {
    let patch = PatchOptions { size, per_image: 1 };
    let options = OpenOptions {
        patch: Some(patch),
        for_training: true,
        flatten,
        without_masks: true,
        ..OpenOptions::default()
    };
    let dataset = Dataset::open(spec, &options)?;
    if !(1..=10_000_000).contains(&count) {
        return Err(DataError::option("patches", count, "use 1 to 10000000"));
    }
    let folder = create(out)?;
    let images = dataset.len(Split::Train).min(count);
    let cut = |image: usize| {
        let Some((raw, _)) = usable(&dataset, Split::Train, image)? else { return Ok(0) };
        let mut written = 0;
        for number in (image..count).step_by(images) {
            interrupt::check()?;
            let Some(window) = patch.window(&[seed, number as u64], raw.width, raw.height) else {
                // Images too small were left out when the set was opened; only a changed file comes here.
                let entry = dataset.entry(Split::Train, image).map(|e| e.id).unwrap_or_default();
                dataset.reject(&patch.too_large(Path::new(&entry), raw.width, raw.height));
                break;
            };
            write_png(&folder, out, &format!("{number:06}.png"), raw.cut(window))?;
            written += 1;
        }
        Ok(written)
    };
    let train =
        (0..images).into_par_iter().map(cut).try_reduce(|| 0, |a, b| Ok::<usize, DataError>(a + b))?;
    if train == 0 {
        return Err(DataError::spec(
            spec,
            "none of its images could be decoded; see `data info` for the reasons",
        ));
    }
    folder.finish().map_err(DataError::io("rename the finished output to", out))?;
    Ok((Written { train, ..Written::default() }, dataset.findings()))
}

/// The undistorted image of an entry; None if it cannot be decoded and the set is not strict.
fn usable(dataset: &Dataset, split: Split, i: usize) -> Result<Option<(Raw, RawMask)>, DataError> {
    interrupt::check()?;
    match dataset.load_raw(split, i) {
        Ok(raw) => Ok(Some((raw.image, raw.mask))),
        Err(error) if error.is_machine_fault() || dataset.options().strict => Err(error),
        Err(error) => {
            dataset.reject(&error);
            Ok(None)
        }
    }
}

/// Class names come from files: only letters, digits, `-` and `_` reach the file system, and none takes the
/// place of the normal images.
fn defect_folder(class: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    match class.chars().take(64).map(safe).collect::<String>() {
        name if name.is_empty() || name == "good" => format!("{name}_anomalous"),
        name => name,
    }
}
