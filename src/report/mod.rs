//! What people see of an evaluation: `report.html`, one self-contained page, and `metrics.json`, its numbers.
//!
//! The page needs no network, no server and no script: figures are inline SVG, images are inline PNG, and a
//! content-security policy forbids everything else. Text from outside (paths, class names) is always escaped.
//!
//! Pages come with the feature `report`; pictures of samples and maps are always there.

#[cfg(feature = "report")]
mod compare;
#[cfg(feature = "report")]
mod figures;
mod file;
#[cfg(feature = "report")]
mod film;
#[cfg(feature = "report")]
mod html;
#[cfg(feature = "report")]
mod markdown;
#[cfg(feature = "report")]
mod next;
#[cfg(feature = "report")]
mod page;
mod picture;
#[cfg(feature = "report")]
mod plot;
mod rows;
#[cfg(feature = "report")]
mod series;
#[cfg(feature = "report")]
mod supplement;

#[cfg(feature = "report")]
pub use compare::{
    ComparePanel, CompareReport, ComparedPanel, ComparedSystem, select_compared, write_comparison,
};
pub use file::write_atomic;
#[cfg(feature = "report")]
pub use film::{Frame, film, save_animation};
#[cfg(feature = "report")]
pub use markdown::{check_section, comparison_table, escape_markdown, replace_section, write_section};
#[cfg(feature = "report")]
pub(crate) use next::{after_compare, after_eval};
#[cfg(feature = "report")]
pub use page::{Panel, REPORT_FILES, ReportInput, Whole, select_panels, write_report, write_report_with};
pub(crate) use picture::png as encode_png;
pub use picture::{heat_map, image_grid, overlay, picture, save_png_atomic, truth_overlay};
#[cfg(feature = "report")]
pub use plot::{PlotLine, line_plot_svg};
pub use rows::{NpyRows, PngRows, overlay_row};
#[cfg(feature = "report")]
pub use series::{PlottedScores, PlottedSeries, SeriesReport, write_series_report};
#[cfg(feature = "report")]
pub use supplement::{EmbeddedPoint, Embedding, NextStep, PointKind, Supplement, sample_timeline};

use std::path::PathBuf;

use serde::Serialize;

use crate::eval::EvalError;

/// Why a report, a picture or a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be written; the one that was there, if any, is unchanged.
    #[error("cannot write {}: {source}; check that the folder exists, is writable and has space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An image's length does not fit its shape, or is zero.
    #[error("{what} has {got} values, which do not fill shape {shape:?}; every size must be at least 1")]
    Shape {
        /// Which image.
        what: String,
        /// Values found.
        got: usize,
        /// Shape that was asked for.
        shape: Vec<usize>,
    },
    /// A number that must be finite is not.
    #[error("{what} of {id} is {value}, which is not a finite number; score the image again or leave it out")]
    NotFinite {
        /// Which number.
        what: &'static str,
        /// Image it belongs to.
        id: String,
        /// The value itself.
        value: f64,
    },
    /// A loss curve's steps and values differ in number.
    #[error("loss {name} has {steps} steps but {values} values; pass one step per value")]
    Loss {
        /// Name of the loss.
        name: String,
        /// Steps found.
        steps: usize,
        /// Values found.
        values: usize,
    },
    /// The scores cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvalError),
    /// The images of two systems are not the same.
    #[error(
        "{system} scored {got} where {expected} was scored by the first system; score the same images in one order"
    )]
    Parallel {
        /// The system that is off.
        system: String,
        /// Image or number of images found.
        got: String,
        /// Image or number of images of the first system.
        expected: String,
    },
    /// A picture could not be read.
    #[error("cannot read {}: {reason}; leave it out or write it again", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// A section of a text file cannot be replaced.
    #[error("cannot place section '{name}': {reason}")]
    Section {
        /// Name of the section.
        name: String,
        /// What is wrong with its markers, and what to do.
        reason: &'static str,
    },
    /// A figure or PNG could not be encoded.
    #[error("cannot draw a picture: {0}; please report this as a bug with the command that led here")]
    Picture(String),
}

impl ReportError {
    /// True for a fault of the machine or the program, false for one of a file that the user gave.
    pub fn is_machine_fault(&self) -> bool {
        !matches!(self, Self::Read { .. } | Self::Section { .. })
    }
}

/// One row of the score table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredImage {
    /// Path or other name.
    pub id: String,
    /// Class, e.g. `good` or the defect's name; empty if unknown.
    pub class: String,
    /// Ground truth; `None` if unlabelled.
    pub anomalous: Option<bool>,
    /// Anomaly score.
    pub score: f64,
    /// Share of normal samples with a lower score, interpolated between held-out ones; `None` for an
    /// uncalibrated model.
    pub probability: Option<f64>,
    /// Percentage of held-out normal samples with a lower score; likewise.
    pub percentile: Option<f64>,
    /// True if the threshold flags it; `None` without a threshold.
    pub verdict: Option<bool>,
}

/// One loss term over training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossCurve {
    /// Name of the term.
    pub name: String,
    /// Training step of each value.
    pub steps: Vec<u64>,
    /// Steps in an epoch: the page shows epochs then; 0 where it is not known.
    pub steps_per_epoch: u64,
    /// Values; those that are not finite leave a gap in the numbers, not in the page.
    pub values: Vec<f32>,
}

#[cfg(all(test, feature = "report"))]
mod tests;
