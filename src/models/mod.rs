//! The published systems, one file each, and what they share.

pub mod acae;
pub mod adae;
pub mod ae;
pub mod anogan;
pub mod beatgan;
mod check;
pub mod common;
pub mod config;
pub mod dagan;
pub mod dcgan;
pub mod deep_svdd;
pub mod draem;
pub mod egbad;
pub mod f_anogan;
pub mod feature_gaussian;
pub mod features;
pub mod file;
pub mod ganomaly;
pub mod gmm;
pub mod knn;
mod load;
pub mod memae;
pub mod multiscale;
pub mod nets;
pub mod nsa;
pub mod options;
pub mod orientations;
pub mod pca;
pub mod recipe;
pub mod resize;
pub mod resnet;
pub mod resnet18;
pub mod scorer;
pub mod search;
pub mod skip_ganomaly;
pub mod stack;
pub mod standardise;
pub mod system;
pub mod unet;
pub mod vae;

use std::sync::{PoisonError, RwLock};

pub use check::{KindAuroc, SyntheticCheck};
pub use config::{Config, ConfigError, Form, MAX_SIDE, MIN_SIDE, Prior};
pub use ganomede_datasets::Size;
pub use options::{OptionInfo, OptionKind, Options};
pub use system::{Info, System, Training};

/// Every system, in the order in which people meet them.
pub const SYSTEMS: &[&Info] = &[
    &anogan::INFO,
    &f_anogan::INFO,
    &ganomaly::INFO,
    &skip_ganomaly::INFO,
    &egbad::INFO,
    &memae::INFO,
    &adae::INFO,
    &dagan::INFO,
    &beatgan::INFO,
    &ae::INFO,
    &vae::INFO,
    &acae::INFO,
    &deep_svdd::INFO,
    &pca::INFO,
    &gmm::INFO,
    &feature_gaussian::INFO,
    &knn::INFO,
    &nsa::INFO,
    &draem::INFO,
];

/// Systems that are not published ones: a user's own.
static OWN: RwLock<Vec<&'static Info>> = RwLock::new(Vec::new());

/// Makes a system of a user's own known by its name, so that model files of it can be read.
///
/// # Errors
/// [`ConfigError`] where another system has the name.
pub fn register(info: &'static Info) -> Result<(), ConfigError> {
    if let Some(known) = find(info.name) {
        let taken = || ConfigError::new("name", info.name, "a name that no other system has");
        let is_same = (known.title, known.paper) == (info.title, info.paper);
        return if is_same { Ok(()) } else { Err(taken()) };
    }
    OWN.write().unwrap_or_else(PoisonError::into_inner).push(info);
    Ok(())
}

/// The system of this name, published or registered.
pub fn find(name: &str) -> Option<&'static Info> {
    let own = OWN.read().unwrap_or_else(PoisonError::into_inner);
    SYSTEMS.iter().chain(own.iter()).copied().find(|info| info.name == name)
}
