//! The scale and threshold of a score, from held-out normal samples (split conformal prediction).

use super::{Applied, DetectError, Samples};
use crate::eval::{Quantiles, Threshold};
use crate::models::file::{Calibration, ModelFile};
use crate::models::scorer::ScoreConfig;

/// The share of false alarms among normal images or rows that a threshold aims at, unless told otherwise.
pub const FALSE_ALARM_RATE: f64 = 0.05;
/// The same among normal points of a series.
pub const POINT_FALSE_ALARM_RATE: f64 = 0.01;

/// The calibration that follows from scores of held-out normal samples; `None` without any.
///
/// # Errors
/// [`DetectError::Eval`] for scores that are NaN or infinite, or a rate outside (0, 1).
pub fn calibration(
    scores: &[f64],
    score: &ScoreConfig,
    rate: f64,
) -> Result<Option<Calibration>, DetectError> {
    if scores.is_empty() {
        return Ok(None);
    }
    let quantiles = Quantiles::new(scores)?;
    let Threshold { value: threshold, source } = quantiles.threshold(rate)?;
    Ok(Some(Calibration { score: score.clone(), quantiles, threshold, source }))
}

/// Scores the held-out samples with a model and calibrates it; `None` where nothing is held out.
///
/// # Errors
/// [`DetectError`] where samples cannot be read or scored.
pub fn calibrate(
    samples: &dyn Samples,
    model: &mut Applied<'_>,
    rate: f64,
) -> Result<Option<Calibration>, DetectError> {
    let scores = samples.held_out_scores(model)?;
    calibration(&scores, model.score, rate)
}

/// The calibration of a model that belongs to a score; `None` where it was calibrated with other settings.
pub fn own<'a>(model: &'a ModelFile, score: &ScoreConfig) -> Option<&'a Calibration> {
    model.header.calibration.as_ref().filter(|c| c.score == *score)
}

/// The threshold at a rate of false alarms from a model's own calibration for this score.
///
/// # Errors
/// [`DetectError::Eval`] for a rate outside (0, 1).
pub fn own_threshold(
    model: &ModelFile,
    score: &ScoreConfig,
    rate: f64,
) -> Result<Option<Threshold>, DetectError> {
    Ok(own(model, score).map(|c| c.quantiles.threshold(rate)).transpose()?)
}
