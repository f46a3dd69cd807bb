//! The published systems, one file each, and what they share.

pub mod adae;
pub mod anogan;
pub mod config;
pub mod dagan;
pub mod dcgan;
pub mod egbad;
pub mod file;
pub mod ganomaly;
pub mod options;
pub mod scorer;
pub mod search;
pub mod skip_ganomaly;
pub mod stack;
pub mod system;
pub mod unet;

pub use config::{Config, ConfigError, Form, Prior};
pub use options::{Kind, OptionInfo, Options};
pub use system::{Info, System, Training};

/// Every system, in the order in which people meet them.
pub const SYSTEMS: &[&Info] =
    &[&anogan::INFO, &ganomaly::INFO, &egbad::INFO, &skip_ganomaly::INFO, &adae::INFO, &dagan::INFO];

/// The system of this name.
pub fn find(name: &str) -> Option<&'static Info> {
    SYSTEMS.iter().copied().find(|info| info.name == name)
}
