//! Compiled pipelines kept on disk between runs, where the driver hands them out (Vulkan). Drivers that keep
//! caches of their own gain little; others compile every shader anew in every process. A cache saves time or
//! does nothing: what is wrong with it is never an error.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use super::shared::{Shared, lock};
use super::tuning::Identity;
use super::vault::Vault;

/// More would be no file of ours.
const MOST_BYTES: u64 = 256 << 20;

/// The driver's cache with its file.
#[derive(Debug)]
pub(super) struct DiskCache {
    pub(super) cache: wgpu::PipelineCache,
    pub(super) path: PathBuf,
    vault: Vault,
    name: String,
    purpose: String,
    /// Digest of what the file holds.
    written: Mutex<Option<[u8; 32]>>,
}

impl DiskCache {
    /// The cache of an adapter and driver in `folder`, from its file or empty; `None` where the device has
    /// none, and where no folder there can be closed to other users.
    pub(super) fn open(shared: &Shared, identity: &Identity, folder: &Path) -> Option<Self> {
        if !shared.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let vault = Vault::open(&folder.join("pipelines")).ok()?;
        let (name, purpose) = (identity.pipelines_file(), identity.words());
        let data = vault.read(&name, &purpose, MOST_BYTES);
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data: data.as_deref(), fallback: true };
        // SAFETY: the data must come from `PipelineCache::get_data` of the same adapter and driver. It was
        // written by `DiskCache::save` of this program version for this adapter and driver: nothing else
        // knows the key of its HMAC, which lies in a folder that the vault has checked to be this user's,
        // closed to others and no link. What remains to be trusted is whoever can act as this user (who can
        // alter this program as well), the administrator, and the driver's word that its name and version
        // tell its builds apart; wgpu and the driver check headers of their own.
        let create = || unsafe { shared.device.create_pipeline_cache(&descriptor) };
        let cache = shared.scoped(|| "the pipeline cache".to_owned(), 0, create).ok()?;
        let written = Mutex::new(data.map(|data| Sha256::digest(data).into()));
        Some(Self { cache, path: vault.path(&name), vault, name, purpose, written })
    }

    /// Writes what the driver has now, beside the file and renamed, unless the file holds it.
    pub(super) fn save(&self) {
        let Some(data) = self.cache.get_data() else { return };
        let digest = Sha256::digest(&data).into();
        let mut written = lock(&self.written);
        if *written != Some(digest) && self.vault.write(&self.name, &self.purpose, &data).is_ok() {
            *written = Some(digest);
        }
    }
}
