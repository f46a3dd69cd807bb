//! The scale and threshold of a score, from held-out normal samples (split conformal prediction).

use super::{Applied, DetectError, Samples};
use crate::eval::{Quantiles, Threshold};
use crate::models::Form;
use crate::models::file::{Calibration, MapCalibration, ModelFile};
use crate::models::scorer::ScoreConfig;

/// The share of false alarms among normal images or rows that a threshold aims at, unless told otherwise.
pub const FALSE_ALARM_RATE: f64 = 0.05;
/// The same among normal points of a series.
pub const POINT_FALSE_ALARM_RATE: f64 = 0.01;

/// The share of false alarms that thresholds of samples of a form aim at unless told otherwise.
pub fn usual_rate(form: Form) -> f64 {
    if form == Form::Signal { POINT_FALSE_ALARM_RATE } else { FALSE_ALARM_RATE }
}

/// What held-out normal samples gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeldOut {
    /// Their scores.
    pub scores: Vec<f64>,
    /// The scale of their maps, where they have maps.
    pub maps: Option<MapCalibration>,
}

impl From<Vec<f64>> for HeldOut {
    fn from(scores: Vec<f64>) -> Self {
        Self { scores, maps: None }
    }
}

/// The calibration that follows from held-out normal samples; `None` without any.
///
/// # Errors
/// [`DetectError::Eval`] for scores that are NaN or infinite, or a rate outside (0, 1).
pub fn calibration(
    held_out: HeldOut,
    score: &ScoreConfig,
    rate: f64,
) -> Result<Option<Calibration>, DetectError> {
    let HeldOut { scores, maps } = held_out;
    if scores.is_empty() {
        return Ok(None);
    }
    let quantiles = Quantiles::new(&scores)?;
    let Threshold { value: threshold, source } = quantiles.threshold(rate)?;
    Ok(Some(Calibration { score: score.clone(), quantiles, threshold, source, maps }))
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
    calibration(samples.held_out(model)?, model.score, rate)
}

/// The calibration of a model that belongs to a score; `None` where it was calibrated with other settings.
pub fn own<'a>(model: &'a ModelFile, score: &ScoreConfig) -> Option<&'a Calibration> {
    model.header.calibration.as_ref().filter(|c| c.score.scores_as(score))
}

/// What a model's own calibration says of scores; nothing where other settings were calibrated.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge<'a> {
    quantiles: Option<&'a Quantiles>,
    /// From where on a score is an alarm, and how that was chosen.
    pub threshold: Option<Threshold>,
}

impl<'a> Judge<'a> {
    /// Judges by a calibration, at a share of false alarms.
    ///
    /// # Errors
    /// [`DetectError::Eval`] for a rate outside (0, 1).
    pub fn new(calibration: Option<&'a Calibration>, rate: f64) -> Result<Self, DetectError> {
        let threshold = calibration.map(|c| c.quantiles.threshold(rate)).transpose()?;
        Ok(Self { quantiles: calibration.map(|c| &c.quantiles), threshold })
    }

    /// Judges by a model's own calibration; without a `rate` at the usual one.
    ///
    /// # Errors
    /// As [`Judge::new`].
    pub fn of(model: &'a ModelFile, score: &ScoreConfig, rate: Option<f64>) -> Result<Self, DetectError> {
        Self::new(own(model, score), rate.unwrap_or_else(|| usual_rate(model.header.config.form)))
    }

    /// Whether there is a calibration to judge by.
    pub fn is_calibrated(&self) -> bool {
        self.quantiles.is_some()
    }

    /// The share of held-out normal samples below a score.
    pub fn probability(&self, score: f64) -> Option<f64> {
        self.quantiles.map(|q| q.probability(score))
    }

    /// Whether a score is an alarm.
    pub fn is_anomalous(&self, score: f64) -> Option<bool> {
        self.threshold.as_ref().map(|t| t.is_anomalous(score))
    }
}
