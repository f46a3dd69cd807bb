//! The published systems, one file each, and what they share.

pub mod anogan;
pub mod config;
pub mod dcgan;
pub mod f_anogan;
pub mod file;
pub mod options;
pub mod resnet;
pub mod scorer;
pub mod search;
pub mod system;

pub use config::{Config, ConfigError, Form, Prior};
pub use options::{Kind, OptionInfo, Options};
pub use system::{Info, System, Training};

/// Every system, in the order in which people meet them.
pub const SYSTEMS: &[&Info] = &[&anogan::INFO, &f_anogan::INFO];

/// The system of this name.
pub fn find(name: &str) -> Option<&'static Info> {
    SYSTEMS.iter().copied().find(|info| info.name == name)
}
