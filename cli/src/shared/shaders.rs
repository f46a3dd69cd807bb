//! `--shaders`: WGSL from a folder in place of what is built in, measured again whenever a file changes.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ganomede_datasets::{Reads, files};
use ganomede_kernels::shaders::{FILES, Shaders};
use serde::Serialize;

use crate::shared::programs::go_on;
use crate::shared::{CliError, Interrupt, note};
use ganomede::device::Device;

/// Where shaders come from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ShaderArgs {
    /// Take shaders from this folder, files named as in shaders/, in place of those built in (GPU only).
    #[arg(long, global = true, value_name = "DIR", env = "GANOMEDE_SHADERS")]
    shaders: Option<PathBuf>,
    /// Measure again whenever a file of --shaders changes, until Ctrl-C.
    #[arg(long, global = true)]
    watch: bool,
}

impl ShaderArgs {
    /// Refuses both options where `what` is measured with the built-in shaders alone.
    pub(crate) fn refuse(&self, what: &str) -> Result<(), CliError> {
        if self.shaders.is_none() && !self.watch {
            return Ok(());
        }
        Err(CliError::input(format!(
            "{what} takes the built-in shaders; leave --shaders (or GANOMEDE_SHADERS) and --watch out"
        )))
    }

    /// The files that may be read.
    pub(crate) fn reads(&self) -> Reads {
        let Some(folder) = &self.shaders else { return Reads::new() };
        FILES.iter().fold(Reads::new(), |reads, (name, _)| reads.file(folder.join(name)))
    }
}

/// What was measured in place of the built-in shaders.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Loaded {
    folder: String,
    /// Files that differ from the built-in ones.
    changed: Vec<String>,
    /// Largest distance of a result from that of the built-in shaders, relative to the largest result; `null`
    /// where one of them is NaN. Absent where results are not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) difference: Option<Option<f64>>,
}

impl Loaded {
    pub(crate) fn text(&self) -> String {
        let changed =
            if self.changed.is_empty() { "nothing changed".to_owned() } else { self.changed.join(", ") };
        let results = match self.difference {
            None => String::new(),
            Some(Some(0.0)) => "; results are those of the built-in shaders, bit for bit".to_owned(),
            Some(Some(difference)) => format!("; results differ by {difference:.1e} of the largest"),
            Some(None) => "; RESULTS ARE NaN where those of the built-in shaders are not".to_owned(),
        };
        format!("{}: {changed}{results}", self.folder)
    }
}

/// Shader files longer than this are none.
const MAX_BYTES: u64 = 1 << 20;
/// Time between two looks at the folder.
const POLL: Duration = Duration::from_millis(100);

/// Names, times and lengths of the files, which tell a change.
type Stamp = BTreeMap<String, (Option<SystemTime>, u64)>;

struct Folder(PathBuf);

impl Folder {
    fn error(&self, what: impl std::fmt::Display) -> CliError {
        CliError::input(format!("--shaders {}: {what}", self.0.display()))
    }

    fn stamp(&self) -> Result<Stamp, CliError> {
        let mut files = Stamp::new();
        self.list("", &mut files).map_err(|e| {
            self.error(format!("{e}; give a folder, for example a copy of shaders/ of the source tree"))
        })?;
        // The pieces that shaders share; without them, the built-in ones serve.
        match self.list("shared/", &mut files) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.error(error)),
            _ => Ok(files),
        }
    }

    /// The shaders of a folder below, by their names in [`FILES`].
    fn list(&self, below: &str, files: &mut Stamp) -> std::io::Result<()> {
        for entry in std::fs::read_dir(self.0.join(below))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // Editors write beside the file and rename: a file may be gone by now.
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            if name.ends_with(".wgsl") && !name.starts_with('.') && metadata.is_file() {
                files.insert(below.to_owned() + &name, (metadata.modified().ok(), metadata.len()));
            }
        }
        Ok(())
    }

    fn read(&self, stamp: &Stamp) -> Result<Shaders, CliError> {
        let known = || FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        if stamp.is_empty() {
            return Err(self.error(format!("no shader there; known names are {}", known())));
        }
        let text = |(name, &(_, bytes)): (&String, &(_, u64))| {
            if bytes > MAX_BYTES {
                return Err(
                    self.error(format!("{name} has {bytes} bytes, more than any shader ({MAX_BYTES})"))
                );
            }
            let text = files::read_limited(&self.0.join(name), MAX_BYTES);
            let text = text.map_err(|e| self.error(format!("{name}: {e}")))?;
            let text = String::from_utf8(text).map_err(|e| self.error(format!("{name}: {e}")))?;
            // Lines mark the sections that plans fill in; other systems end them otherwise.
            Ok((name.clone(), text.replace("\r\n", "\n")))
        };
        let texts = stamp.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        Shaders::with(texts).map_err(|name| {
            self.error(format!("{name} is no shader of this program; known names are {}", known()))
        })
    }

    fn loaded(&self, shaders: &Shaders) -> Loaded {
        let changed = shaders.changed().into_iter().map(str::to_owned).collect();
        Loaded { folder: self.0.display().to_string(), changed, difference: None }
    }
}

/// Measures on `device`, with the shaders of the folder where one is given, and again at every change where
/// the user watches; then a shader that does not work is only told. Returns when there is nothing more to
/// measure.
pub(crate) fn measure(
    args: &ShaderArgs,
    device: &Device,
    interrupt: &Interrupt,
    mut work: impl FnMut(&Device, Option<Loaded>) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let Some(path) = &args.shaders else {
        if args.watch {
            return Err(CliError::input("--watch looks at a folder of shaders; add --shaders DIR"));
        }
        return work(device, None);
    };
    let Device::Gpu(gpu) = device else {
        return Err(CliError::input(
            "--shaders (or GANOMEDE_SHADERS) changes GPU kernels, and this is the CPU; add --device gpu",
        ));
    };
    let folder = Folder(path.clone());
    let mut stamp = folder.stamp()?;
    loop {
        let outcome = folder.read(&stamp).and_then(|shaders| {
            let loaded = folder.loaded(&shaders);
            work(&Device::Gpu(gpu.with_shaders(shaders)), Some(loaded))
        });
        match outcome {
            Err(error) if args.watch && error.code == 2 => {
                note(&format!("error: {}\nthe version before stands; waiting for a change", error.message));
            }
            Err(error) => return Err(error),
            Ok(()) if !args.watch => return Ok(()),
            Ok(()) => note("waiting for a change; Ctrl-C ends"),
        }
        let before = stamp.clone();
        while stamp == before {
            std::thread::sleep(POLL);
            go_on(interrupt)?;
            // A folder that is being replaced comes back.
            stamp = folder.stamp().unwrap_or(before.clone());
        }
    }
}
