//! The published systems, one file each.

pub mod anogan;
pub mod dcgan;
pub mod file;
pub mod scorer;

/// A configuration value outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; it must be {allowed}")]
pub struct ConfigError {
    /// Field.
    pub field: &'static str,
    /// Value given.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}
