//! Ganomede.
