//! Choices of kernel variants measured on one adapter, kept on disk between runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ganomede_host::files;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Version of the file.
const FORMAT: u32 = 1;
/// More would be no file of ours.
const MOST_BYTES: u64 = 4 << 20;

/// What measured times depend on beside the shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Adapter's name.
    pub adapter: String,
    /// API it is reached through.
    pub backend: String,
    /// Driver with its version.
    pub driver: String,
    /// Version of this program: another one may have other shaders.
    pub version: String,
}

impl Identity {
    /// The file with tuning results of this adapter and driver in a cache folder.
    pub fn file(&self, folder: &Path) -> PathBuf {
        folder.join("tuning").join(format!("{}.json", self.stem()))
    }

    /// Name of the file with its compiled pipelines.
    pub(super) fn pipelines_file(&self) -> String {
        format!("{}.bin", self.stem())
    }

    /// All of it, a line each.
    pub(super) fn words(&self) -> String {
        [&self.adapter, &self.backend, &self.driver, &self.version].map(String::as_str).join("\n")
    }

    /// A part of the adapter's name and a digest of everything.
    fn stem(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = self.adapter.chars().map(plain).take(40).collect();
        let digest = Sha256::digest(self.words().as_bytes());
        let digest: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{digest}", name.trim_matches('-'))
    }
}

/// What won for one shape class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The variant that was fastest, by the name that its kernel knows it by.
    pub variant: String,
    /// Its time, milliseconds.
    pub ms: f64,
    /// The variant chosen without measuring.
    pub default: String,
    /// Its time, milliseconds.
    pub default_ms: f64,
}

/// The choices of one adapter, by [`ganomede_kernels::Kernel::class`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tuning {
    /// The choices.
    pub choices: BTreeMap<String, Choice>,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    #[serde(flatten)]
    identity: Identity,
    choices: BTreeMap<String, Choice>,
}

impl Tuning {
    /// Reads the choices for an adapter; none where it was never tuned.
    ///
    /// # Errors
    /// Why a file that is there cannot be used, and what to do.
    pub fn load(folder: &Path, identity: &Identity) -> Result<Self, String> {
        let path = identity.file(folder);
        let unusable = |why: String| {
            format!(
                "tuning results in '{}' are ignored: {why}; run `ganomede tune` again, or delete the file",
                path.display()
            )
        };
        let bytes = match files::read_limited(&path, MOST_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(unusable(e.to_string())),
        };
        let file: File = serde_json::from_slice(&bytes).map_err(|e| unusable(e.to_string()))?;
        if file.format != FORMAT {
            return Err(unusable(format!("format {} and not {FORMAT}", file.format)));
        }
        if file.identity != *identity {
            return Err(unusable("it is of another adapter, driver or version".to_owned()));
        }
        Ok(Self { choices: file.choices })
    }

    /// Writes the choices of an adapter, whole or not at all, and returns the file.
    ///
    /// # Errors
    /// Why it cannot be written, and what to do.
    pub fn save(&self, folder: &Path, identity: &Identity) -> Result<PathBuf, String> {
        let path = identity.file(folder);
        let failed = |why: String| {
            format!(
                "cannot write tuning results to '{}': {why}; set GANOMEDE_CACHE to a folder that can be written",
                path.display()
            )
        };
        let file = File { format: FORMAT, identity: identity.clone(), choices: self.choices.clone() };
        let text = serde_json::to_vec_pretty(&file).map_err(|e| failed(e.to_string()))?;
        write_beside(&path, &text).map_err(|e| failed(e.to_string()))?;
        Ok(path)
    }
}

/// Writes a file beside its place and renames it, making its folder if there is none.
pub(super) fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    ganomede_host::write(path, bytes)
}
