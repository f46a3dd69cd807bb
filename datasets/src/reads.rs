//! What a run reads, so that no output of it replaces or joins its own input.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ganomede_host::target;

use crate::DataError;
use crate::csv_file::is_csv;
use crate::decode::{EXTENSIONS, FOREIGN};
use crate::source::files_of;

/// Folders of a data set that says where its images are; without one of them, all that lies below is data.
const STATED: [&str; 5] = ["train", "test", "ground_truth", "validation", "Data"];
/// How deep data are looked for.
const DEPTH: usize = 16;

/// The files and data sets that a run reads. Files are told apart by device and inode, so that links are seen
/// through; a data set is only walked where an output could collide with it.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    files: Vec<PathBuf>,
    data: Vec<PathBuf>,
}

impl Reads {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also a data set, as [`crate::Dataset::open`] and its likes take it.
    #[must_use]
    pub fn data(mut self, spec: &str) -> Self {
        if !spec.starts_with("builtin:") {
            self.data.extend(files_of(spec.as_ref()));
            self.data.push(spec.into());
        }
        self
    }

    /// Also a file: a model, labels.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Checks, before any work, a file that will be written: it must be a regular file or not there, nothing
    /// that the run reads, and no image or table that comes to lie among those of a data set.
    ///
    /// # Errors
    /// [`DataError::Output`] with the reason.
    pub fn check_file(&self, output: &Path) -> Result<(), DataError> {
        let refused = |reason: String| DataError::Output { path: output.to_path_buf(), reason };
        let place = target(output).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => refused(error.to_string()),
            _ => DataError::io("write", output)(error),
        })?;
        if let Some(id) = identity(&place) {
            let mut same = None;
            self.each(&mut |path, _| match identity(path).as_ref() == Some(&id) {
                true => {
                    same = Some(path.to_path_buf());
                    ControlFlow::Break(())
                }
                false => ControlFlow::Continue(()),
            });
            if let Some(same) = same {
                let of = if same == output { String::new() } else { format!(" (as {})", same.display()) };
                return Err(refused(format!(
                    "is read by this run{of} and would be replaced; choose another place"
                )));
            }
        }
        let folder = place.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if is_data(&place)
            && (self.holds_data(folder, false) || is_image(&place) && self.is_below_data(folder))
        {
            return Err(refused(
                "would lie among the data that this run reads and be taken for a part of them; choose another folder"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Checks, before any work, a folder that will be filled: none that holds data which the run reads, and
    /// none below a folder all of which is data.
    ///
    /// # Errors
    /// [`DataError::Output`] with the reason.
    pub fn check_folder(&self, output: &Path) -> Result<(), DataError> {
        if self.holds_data(output, true) || self.is_below_data(output) {
            let reason = "holds data that this run reads, and what is written there would lie among them; choose another folder";
            return Err(DataError::Output { path: output.to_path_buf(), reason: reason.into() });
        }
        Ok(())
    }

    /// Whether files of a data set lie right in `folder`; images that were named one by one count if
    /// `single`.
    fn holds_data(&self, folder: &Path, single: bool) -> bool {
        let Some(id) = identity(folder) else { return false };
        let mut found = false;
        self.each(&mut |path, of_folder| {
            let counts = of_folder || single && is_image(path);
            let parent = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
            // Most files lie in few folders: asking for the folder of each is asking the system's cache.
            found = counts && parent.and_then(identity).as_ref() == Some(&id);
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// Whether `folder` lies, or would lie, below one whose folders are all read as data.
    fn is_below_data(&self, folder: &Path) -> bool {
        let whole: Vec<_> =
            self.data.iter().filter(|data| is_whole(data)).filter_map(|data| identity(data)).collect();
        // What is not there yet lies where its nearest folder is. The root itself is judged by what it holds.
        let Ok(folder) = std::path::absolute(folder) else { return false };
        let place = folder
            .ancestors()
            .find_map(|above| above.canonicalize().ok().map(|real| (above.to_path_buf(), real)));
        let Some((above, real)) = place else { return false };
        let skipped = usize::from(above == folder);
        real.ancestors().skip(skipped).filter_map(identity).any(|id| whole.contains(&id))
    }

    /// Sees every file that is read until `see` breaks, and whether it is one of the files of a folder.
    fn each(&self, see: &mut dyn FnMut(&Path, bool) -> ControlFlow<()>) {
        // What cannot be listed cannot be read either: the loader says so.
        let files = self.files.iter().map(|f| (f, false));
        for (path, is_data) in files.chain(self.data.iter().map(|d| (d, true))) {
            let flow = match is_data && path.is_dir() {
                true => walk(path, 0, see),
                false => see(path, false),
            };
            if flow.is_break() {
                return;
            }
        }
    }
}

fn walk(folder: &Path, depth: usize, see: &mut dyn FnMut(&Path, bool) -> ControlFlow<()>) -> ControlFlow<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return ControlFlow::Continue(()) };
    let whole = depth > 0 || is_whole(folder);
    for entry in entries.flatten() {
        let path = entry.path();
        if is_data(&path) {
            see(&path, true)?;
        }
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let descends = depth < DEPTH && (whole || STATED.iter().any(|s| name == *s));
        // Links are not followed: they may lead in circles.
        if descends && !is_hidden && path.is_dir() && (depth == 0 || !path.is_symlink()) {
            walk(&path, depth + 1, see)?;
        }
    }
    ControlFlow::Continue(())
}

/// Whether a folder says where its images are.
fn is_stated(folder: &Path) -> bool {
    STATED.iter().any(|name| folder.join(name).is_dir())
}

/// Whether all that lies below a folder is read as images: where it does not say where these are, and is no
/// folder of series or of a labelled set, whose files lie right in it.
fn is_whole(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    if is_stated(folder) {
        return false;
    }
    let (mut is_set, mut folders) = (false, Vec::new());
    for path in entries.flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => folders.push(path),
            false if is_image(&path) => return true,
            false => is_set |= is_data(&path),
        }
    }
    let mut see = |path: &Path, _| match is_image(path) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    !is_set && folders.iter().any(|folder| walk(folder, 1, &mut see).is_break())
}

/// The extension in small letters.
fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn is_image(path: &Path) -> bool {
    let extension = extension(path);
    EXTENSIONS.contains(&extension.as_str()) || FOREIGN.contains(&extension.as_str())
}

/// Whether a loader may take a file in a folder for data, by its name.
fn is_data(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    is_image(path)
        || is_csv(path)
        || matches!(extension(path).as_str(), "npz" | "npy" | "bin")
        || name.trim_end_matches(".gz").ends_with("-ubyte")
        || matches!(&*name, "batches.meta.txt" | "labels.json")
}

/// What tells a file from all others, through links; None where there is none.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}
