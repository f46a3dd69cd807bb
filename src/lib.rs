//! Ganomede: a GPU compute engine for adversarial anomaly detection.
//!
//! A model is traced once onto a [`tape`], differentiated and compiled into a [`program`] (a flat list of kernel
//! launches over planned buffers), and a [`device`] replays it. On top stand the layers ([`nn`]), the published
//! detectors ([`models`]), training, evaluation and reports.

pub mod detect;
pub mod device;
pub mod eval;
pub mod inspect;
pub mod models;
pub mod nn;
pub mod program;
pub mod report;
pub mod tape;
pub mod train;
pub mod tune;
