//! The published systems, one file each, and what they share.

pub mod acae;
pub mod adae;
pub mod ae;
pub mod anogan;
pub mod beatgan;
pub mod config;
pub mod dagan;
pub mod dcgan;
pub mod deep_svdd;
pub mod egbad;
pub mod f_anogan;
pub mod features;
pub mod file;
pub mod ganomaly;
pub mod gmm;
mod load;
pub mod memae;
pub mod nets;
pub mod options;
pub mod pca;
pub mod resnet;
pub mod scorer;
pub mod search;
pub mod skip_ganomaly;
pub mod stack;
pub mod system;
pub mod unet;
pub mod vae;

pub use config::{Config, ConfigError, Form, Prior};
pub use options::{Kind, OptionInfo, Options};
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
];

/// The system of this name.
pub fn find(name: &str) -> Option<&'static Info> {
    SYSTEMS.iter().copied().find(|info| info.name == name)
}
