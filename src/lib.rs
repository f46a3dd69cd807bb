//! Ganomede.

pub mod eval;
