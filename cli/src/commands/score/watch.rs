//! `score --watch`: images as a line drops them into a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ganomede::detect::{Answer, DetectError, Detector};
use ganomede_datasets::has_image_name;
use serde::Serialize;

use crate::shared::{CliError, Interrupt, note, say, say_line, shown};

/// Time between two looks at the folder.
const LOOK: Duration = Duration::from_millis(250);

/// What tells whether a file is still being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, SystemTime);

/// A file of the folder.
enum Seen {
    /// As it was at the last look.
    Growing(Stamp),
    /// It was scored, could not be, or lay there from the start.
    Done(Stamp),
}

/// Images that come into a folder; each is taken once it has stayed the same for a look, and again where it
/// is written anew.
pub(super) struct Folder {
    path: PathBuf,
    files: BTreeMap<PathBuf, Seen>,
}

impl Folder {
    /// What lies there already is left alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let files = images(path)?.map(|(file, stamp)| (file, Seen::Done(stamp))).collect();
        Ok(Self { path: path.to_owned(), files })
    }

    /// Images that are new and whole, in the order of their names.
    pub(super) fn arrived(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut before = std::mem::take(&mut self.files);
        let mut arrived = vec![];
        for (file, stamp) in images(&self.path)? {
            let seen = match before.remove(&file) {
                Some(Seen::Done(was)) if was == stamp => Seen::Done(stamp),
                Some(Seen::Growing(was)) if was == stamp => {
                    arrived.push(file.clone());
                    Seen::Done(stamp)
                }
                _ => Seen::Growing(stamp),
            };
            // What is gone is forgotten.
            self.files.insert(file, seen);
        }
        arrived.sort();
        Ok(arrived)
    }
}

/// The image files of a folder; what starts with a dot is how others write beside.
fn images(path: &Path) -> io::Result<impl Iterator<Item = (PathBuf, Stamp)>> {
    Ok(fs::read_dir(path)?.flatten().filter_map(|entry| {
        let (file, meta) = (entry.path(), fs::metadata(entry.path()).ok()?);
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        let is_image = !is_hidden && meta.is_file() && has_image_name(&file);
        is_image.then_some((file, Stamp(meta.len(), meta.modified().ok()?)))
    }))
}

/// A file that cannot be scored, with `--json`.
#[derive(Serialize)]
struct Unusable<'a> {
    path: &'a str,
    error: &'a str,
}

/// Scores what comes until Ctrl-C, or the first anomaly where that ends it: a line an image, with `--json` a
/// JSON object a line.
pub(super) fn watch(
    detector: &Detector,
    folder: &Path,
    threshold: Option<f64>,
    json: bool,
    until_anomaly: bool,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let failed = |e: io::Error| {
        CliError::input(format!("cannot read the folder '{}': {e}; name one that is there", shown(folder)))
    };
    let mut files = Folder::open(folder).map_err(failed)?;
    note(&format!("watching {}; Ctrl-C ends", shown(folder)));
    let (mut scored, mut anomalous) = (0_usize, 0_usize);
    loop {
        for file in files.arrived().map_err(failed)? {
            let name = file.to_string_lossy();
            match detector.locate(file.as_path()) {
                Ok(located) => {
                    let mut answer = Answer::located(&name, located);
                    if let Some(threshold) = threshold {
                        answer.anomalous = Some(answer.score >= threshold);
                    }
                    scored += 1;
                    anomalous += usize::from(answer.anomalous == Some(true));
                    if json {
                        say_line(&answer)?;
                    } else {
                        say(&answer.line())?;
                    }
                    if until_anomaly && anomalous > 0 {
                        return Err(CliError::found(format!(
                            "an anomaly among {scored} images: {}",
                            shown(&file)
                        )));
                    }
                }
                Err(error) if error.is_machine_fault() => return Err(error.into()),
                Err(DetectError::Stopped) => break,
                Err(error) => {
                    let error = error.to_string();
                    note(&format!("note: {}: {error}", shown(&file)));
                    if json {
                        say_line(&Unusable { path: &name, error: &error })?;
                    }
                }
            }
            if interrupt.raised() {
                break;
            }
        }
        if interrupt.raised() {
            return Err(CliError::interrupted(format!("{scored} images scored, {anomalous} anomalous")));
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_taken_once_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("old.png", b"1");
        let mut files = Folder::open(folder.path()).unwrap();
        let mut names = || {
            let arrived = files.arrived().unwrap();
            arrived.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert!(names().is_empty(), "what lay there is left alone");
        write("b.png", b"12");
        write("a.png", b"1");
        write(".c.png", b"1");
        write("notes.txt", b"1");
        assert!(names().is_empty(), "not before it stays the same");
        write("b.png", b"1234");
        assert_eq!(names(), ["a.png"], "b grew");
        assert_eq!(names(), ["b.png"]);
        assert!(names().is_empty());
        write("old.png", b"another");
        assert!(names().is_empty());
        assert_eq!(names(), ["old.png"], "written anew");
        fs::remove_file(folder.path().join("a.png")).unwrap();
        assert!(names().is_empty());
        write("a.png", b"1");
        names();
        assert_eq!(names(), ["a.png"], "one that was gone is new");
    }
}
