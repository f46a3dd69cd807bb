//! Honest evaluation: ranking metrics, localisation metrics, intervals, and thresholds from held-out normals.
//!
//! Conventions, everywhere:
//! * a higher score is more anomalous; `truths[i]` is true for an anomalous image;
//! * one decision rule, `score >= threshold`, for curves and deployed thresholds alike;
//! * ties are never broken: equal scores enter or leave together;
//! * a metric that needs both classes is `None` for a set that has only one, and never NaN;
//! * metrics that pick their operating point by looking at the truths are called *oracle*.

mod appearance;
mod bootstrap;
mod drift;
#[cfg(feature = "report")]
mod embed;
mod evaluation;
mod pixel;
mod quantiles;
mod ranking;
mod repeated;
pub mod signal;

pub use appearance::{Appearance, two_numbers};
#[cfg(feature = "report")]
pub(crate) use bootstrap::quantile_of_sorted;
pub use bootstrap::{auroc_ci95, auroc_ci95_of_groups};
pub use drift::Drift;
#[cfg(feature = "report")]
pub use embed::{MAX_EMBEDDED, embed};
pub use evaluation::{ClassAuroc, Control, Evaluation, EvaluationInput, Skill, ThresholdMetrics};
pub use pixel::{PixelMap, PixelMetrics, PixelPool, aupro, pixel_auroc, pixel_metrics};
pub use quantiles::{Quantiles, Threshold, min_max};
pub use ranking::{
    Confusion, PrPoint, RocPoint, auprc_trapz, auroc, average_precision, confusion, equal_error_rate,
    f1_at_prevalence, f1_max, no_skill_aupr, pr_curve, roc_curve, youden,
};
pub use repeated::Repeated;

/// Why scores, truths, maps or features could not be evaluated.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum EvalError {
    /// A score is NaN or infinite.
    #[error(
        "{what}[{index}] is {value}: it must be finite; retrain, or lower the learning rate if training diverged"
    )]
    NotFinite {
        /// Which list holds the value.
        what: &'static str,
        /// Position in the list.
        index: usize,
        /// The value itself.
        value: f64,
    },
    /// Two lists that must run in parallel do not.
    #[error("{what} has {got} elements where {expected} are needed; pass one per {per}")]
    Length {
        /// Which list is off.
        what: &'static str,
        /// Elements found.
        got: usize,
        /// Elements needed.
        expected: usize,
        /// What one element stands for.
        per: &'static str,
    },
    /// No held-out normal images to calibrate on.
    #[error(
        "calibration needs the score of at least one held-out normal image; raise `val-fraction` or add images"
    )]
    NoCalibration,
    /// A false-alarm rate outside (0, 1).
    #[error("false-alarm rate {0} is outside (0, 1); 0.05 flags at most one normal image in twenty")]
    FalseAlarmRate(f64),
    /// A parameter of a metric outside its range.
    #[error("{what} is {value}; it must be {range}")]
    Parameter {
        /// Which parameter.
        what: &'static str,
        /// The value itself.
        value: f64,
        /// What it must be, in words.
        range: &'static str,
    },
    /// No run to summarise.
    #[error("mean and standard deviation need at least one run; pass `seeds` 1 or more")]
    NoRun,
    /// Segments of a series that are not its anomalous points.
    #[error(
        "the segments and the truths of a series differ at point {point}; let the segments, in order, cover the anomalous points alone"
    )]
    Segments {
        /// The first such point.
        point: usize,
    },
    /// A point of a series that no window covers.
    #[error(
        "point {point} of {len} is covered by no window; let the last window end where the series ends, and keep \
         the stride at or below the window's length"
    )]
    Uncovered {
        /// The first such point.
        point: usize,
        /// Points of the series.
        len: usize,
    },
    /// More vectors than an embedding takes.
    #[error("{got} vectors are too many to embed; choose at most {most}, evenly from each class")]
    TooMany {
        /// Vectors found.
        got: usize,
        /// Vectors taken at most.
        most: usize,
    },
    /// The process was asked to stop.
    #[error(transparent)]
    Interrupted(#[from] ganomede_host::interrupt::Interrupted),
    /// The system refused a thread.
    #[error("cannot start a thread: {0}; close other programs and try again")]
    Threads(String),
    /// A stored calibration is not one that [`Quantiles`] writes.
    #[error("stored calibration is invalid: {0}; the model file was altered, train or calibrate again")]
    Calibration(&'static str),
}

impl EvalError {
    /// True for a fault of the machine, false for one of the request.
    pub fn is_machine_fault(&self) -> bool {
        matches!(self, Self::Threads(_))
    }
}

/// Checks that `scores` are finite and as many as `truths`.
fn check(scores: &[f64], truths: &[bool]) -> Result<(), EvalError> {
    if scores.len() != truths.len() {
        return Err(EvalError::Length {
            what: "truths",
            got: truths.len(),
            expected: scores.len(),
            per: "score",
        });
    }
    check_finite("scores", scores)
}

/// Checks that every value is finite.
fn check_finite(what: &'static str, values: &[f64]) -> Result<(), EvalError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(EvalError::NotFinite { what, index, value: values[index] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
