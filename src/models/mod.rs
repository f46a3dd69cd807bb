//! The published systems, one file each, and what they share.

pub mod acae;
pub mod ae;
pub mod anogan;
pub mod config;
pub mod dcgan;
pub mod deep_svdd;
pub mod file;
pub mod gmm;
pub mod memae;
pub mod nets;
pub mod options;
pub mod pca;
pub mod scorer;
pub mod search;
pub mod system;
pub mod vae;

pub use config::{Config, ConfigError, Form, Prior};
pub use options::{Kind, OptionInfo, Options};
pub use system::{Info, System, Training};

/// Every system, in the order in which people meet them.
pub const SYSTEMS: &[&Info] = &[
    &anogan::INFO,
    &ae::INFO,
    &deep_svdd::INFO,
    &pca::INFO,
    &vae::INFO,
    &memae::INFO,
    &acae::INFO,
    &gmm::INFO,
];

/// The system of this name.
pub fn find(name: &str) -> Option<&'static Info> {
    SYSTEMS.iter().copied().find(|info| info.name == name)
}
