//! Compiled pipelines kept on disk between runs, where the driver hands them out (Vulkan). Drivers that keep caches of
//! their own gain little; others compile every shader anew in every process. A cache saves time or does nothing: what is
//! wrong with it is never an error.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use super::super::tuning::{Identity, write_beside};
use super::shared::{Shared, lock};

/// More would be no file of ours.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes of the seal before the driver's data.
const SEAL: usize = 32;

/// The driver's cache with its file.
#[derive(Debug)]
pub(super) struct DiskCache {
    pub(super) cache: wgpu::PipelineCache,
    pub(super) path: PathBuf,
    identity: Identity,
    /// Seal of what the file holds.
    written: Mutex<Option<[u8; SEAL]>>,
}

/// SHA-256 over whom the data is of and the data: a file cut short, altered, or another adapter's, driver's or version's does
/// not carry it.
fn seal(identity: &Identity, data: &[u8]) -> [u8; SEAL] {
    let mut hash = Sha256::new();
    for word in [&identity.adapter, &identity.backend, &identity.driver, &identity.version] {
        hash.update(word.as_bytes());
        hash.update(b"\n");
    }
    hash.update(data);
    hash.finalize().into()
}

/// The data of a file that is whole and of `identity`.
fn load(path: &Path, identity: &Identity) -> Option<Vec<u8>> {
    let length = std::fs::metadata(path).ok()?.len();
    if length > MOST_BYTES {
        return None;
    }
    let mut bytes = std::fs::read(path).ok()?;
    if bytes.len() < SEAL {
        return None;
    }
    let data = bytes.split_off(SEAL);
    (bytes == seal(identity, &data)).then_some(data)
}

impl DiskCache {
    /// The cache of an adapter and driver in `folder`, from its file or empty; `None` where the device has none.
    pub(super) fn open(shared: &Shared, identity: Identity, folder: &Path) -> Option<Self> {
        if !shared.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = identity.pipelines_file(folder);
        let data = load(&path, &identity);
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data: data.as_deref(), fallback: true };
        // SAFETY: the data comes from `PipelineCache::get_data` of the same adapter, driver and program version, since only
        // those bytes carry the seal; wgpu and the driver check their own headers of it as well.
        let create = || unsafe { shared.device.create_pipeline_cache(&descriptor) };
        let cache = shared.scoped(|| "the pipeline cache".to_owned(), 0, create).ok()?;
        let written = Mutex::new(data.map(|data| seal(&identity, &data)));
        Some(Self { cache, path, identity, written })
    }

    /// Writes what the driver has now, beside the file and renamed, unless the file holds it.
    pub(super) fn save(&self) {
        let Some(data) = self.cache.get_data() else { return };
        let seal = seal(&self.identity, &data);
        let mut written = lock(&self.written);
        if *written != Some(seal) {
            let bytes: Vec<u8> = seal.iter().copied().chain(data).collect();
            if write_beside(&self.path, &bytes).is_ok() {
                *written = Some(seal);
            }
        }
    }
}
