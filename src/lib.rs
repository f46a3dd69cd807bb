//! Ganomede.

pub mod eval;
pub mod report;
