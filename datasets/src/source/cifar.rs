//! The CIFAR-10 binary version: records of one label byte and 3 × 32 × 32 planar bytes.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::labelled::{ImageBlock, Labelled};
use crate::dataset::OpenOptions;
use crate::{DataError, files, memory};

const SIDE: usize = 32;
const RECORD: usize = 1 + 3 * SIDE * SIDE;
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// Bytes of a list of class names.
const MAX_NAMES: u64 = 1 << 16;

/// `data_batch_*.bin` or `test_batch*.bin`.
pub(crate) fn is_batch_file(path: &Path) -> bool {
    is_train(path) || name(path).is_some_and(|n| n.starts_with("test_batch") && n.ends_with(".bin"))
}

fn is_train(path: &Path) -> bool {
    name(path).is_some_and(|n| n.starts_with("data_batch") && n.ends_with(".bin"))
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// All batches of a folder in order of their names; None if it holds none.
pub(crate) fn open_folder(folder: &Path, options: &OpenOptions) -> Result<Option<Labelled>, DataError> {
    let batches = super::list(folder, |name| is_batch_file(Path::new(name)))?;
    if batches.is_empty() {
        return Ok(None);
    }
    read(folder, &batches, class_names(folder)?, options).map(Some)
}

/// One batch, with the class names beside it.
pub(crate) fn open_file(path: &Path, options: &OpenOptions) -> Result<Labelled, DataError> {
    let classes = class_names(path.parent().unwrap_or(Path::new("")))?;
    read(path, &[path.to_path_buf()], classes, options)
}

fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let path = folder.join("batches.meta.txt");
    if !path.exists() {
        return Ok(CLASSES.map(String::from).to_vec());
    }
    let text = String::from_utf8(files::read(&path, MAX_NAMES)?)
        .map_err(|_| DataError::file(&path, "is not UTF-8 text; save it as UTF-8"))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if !(1..=256).contains(&names.len()) {
        let reason = format!("has {} class names; one a line is expected, 1 to 256", names.len());
        return Err(DataError::file(&path, reason));
    }
    Ok(names)
}

fn read(
    spec: &Path,
    batches: &[PathBuf],
    classes: Vec<String>,
    options: &OpenOptions,
) -> Result<Labelled, DataError> {
    let part = |name: &str| ImageBlock {
        name: name.into(),
        width: SIDE,
        height: SIDE,
        channels: 3,
        ..ImageBlock::default()
    };
    let mut parts = [part("data_batch"), part("test_batch")];
    for path in batches {
        let (file, bytes) = files::open(path)?;
        if bytes == 0 || bytes % RECORD as u64 != 0 {
            let reason = format!(
                "has {bytes} bytes, not a whole number of records of {RECORD} (label and 3×32×32); download the \
                 CIFAR-10 binary version again"
            );
            return Err(DataError::file(path, reason));
        }
        let part = &mut parts[usize::from(!is_train(path))];
        // The old list lives on while a longer one is made.
        part.held.grow(2 * bytes + part.pixels.len() as u64).map_err(|short| short.of(path))?;
        let mut pixels = memory::room(path, part.pixels.len() as u64 + bytes)?;
        pixels.append(&mut part.pixels);
        part.pixels = pixels;
        let mut reader = BufReader::new(file);
        let mut record = [0; RECORD];
        for number in 0..bytes / RECORD as u64 {
            reader.read_exact(&mut record).map_err(DataError::io("read", path))?;
            if usize::from(record[0]) >= classes.len() {
                let reason = format!(
                    "record {number}: label {} but there are {} classes; the file is damaged or not CIFAR-10",
                    record[0],
                    classes.len()
                );
                return Err(DataError::file(path, reason));
            }
            part.labels.push(record[0]);
            part.pixels.extend_from_slice(&record[1..]);
        }
    }
    Labelled::new("cifar10", &spec.to_string_lossy(), parts, classes, options)
}
