//! Ganomede: a GPU compute engine for adversarial anomaly detection.

pub mod device;
pub mod program;
pub mod tape;
