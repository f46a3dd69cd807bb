//! The scale and threshold of a score, from held-out normal samples (split conformal prediction).

use super::{Answer, Applied, DetectError, Observer, Samples};
use crate::device::Device;
use crate::eval::{Drift, Quantiles, Threshold};
use crate::models::Form;
use crate::models::file::{Calibration, MapCalibration, ModelFile};
use crate::models::scorer::ScoreConfig;
use ganomede_kernels::Precision;

/// The share of false alarms among normal images or rows that a threshold aims at, unless told otherwise.
pub const FALSE_ALARM_RATE: f64 = 0.05;
/// The same among normal points of a series.
pub const POINT_FALSE_ALARM_RATE: f64 = 0.01;

/// The share of false alarms that thresholds of samples of a form aim at unless told otherwise.
pub fn usual_rate(form: Form) -> f64 {
    if form == Form::Signal { POINT_FALSE_ALARM_RATE } else { FALSE_ALARM_RATE }
}

/// The share of false alarms that a model's thresholds aim at unless told otherwise: what its calibration was
/// given, else the usual one.
pub fn rate_of(model: &ModelFile) -> f64 {
    let given = model.header.calibration.as_ref().and_then(|calibration| calibration.rate);
    given.unwrap_or_else(|| usual_rate(model.header.config.form))
}

/// What held-out normal samples gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeldOut {
    /// Their scores.
    pub scores: Vec<f64>,
    /// Number of the group of each, where they come in groups; else empty.
    pub groups: Vec<u32>,
    /// Whether they are those of the points of a series.
    pub points: bool,
    /// Of large images: the fewest and the most tiles that one has.
    pub tiles: Option<[usize; 2]>,
    /// The scale of their maps, where they have maps.
    pub maps: Option<MapCalibration>,
}

impl From<Vec<f64>> for HeldOut {
    fn from(scores: Vec<f64>) -> Self {
        Self { scores, ..Self::default() }
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
    let HeldOut { scores, groups, points, tiles, maps } = held_out;
    if scores.is_empty() {
        return Ok(None);
    }
    let quantiles = match groups[..] {
        [] => Quantiles::new(&scores)?,
        _ => Quantiles::of_groups(&scores, &groups)?,
    };
    let Threshold { value: threshold, source } = quantiles.threshold(rate)?;
    Ok(Some(Calibration {
        score: score.clone(),
        quantiles,
        threshold,
        source,
        rate: None,
        precision: None,
        points,
        tiles,
        maps,
    }))
}

/// What is wrong with a threshold of too few groups; `None` where there are enough, or no groups.
pub fn too_few_groups(calibration: &Calibration, rate: f64) -> Option<String> {
    let (quantiles, needed) = (&calibration.quantiles, (1.0 / rate - 1.0 - 1e-9).ceil());
    (quantiles.is_of_groups() && (quantiles.count() as f64) < needed).then(|| {
        format!(
            "{} are held out, and a share of false alarms of {rate} can be promised from {needed} groups on: of \
             normal samples of a new group up to {:.3} may be flagged; hold out more groups, or aim at a larger share",
            quantiles.held_out(),
            1.0 / (quantiles.count() as f64 + 1.0)
        )
    })
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
    let calibration = calibration(samples.held_out(model)?, model.score, rate)?;
    Ok(calibration.map(|calibration| Calibration { precision: rounding(model.device), ..calibration }))
}

/// What a device rounds the operands of products to, where that is not f32, as headers have it.
pub(super) fn rounding(device: &Device) -> Option<String> {
    Some(device.precision()).filter(|precision| *precision != Precision::F32).map(|p| p.name().to_owned())
}

/// What is to be told where a model's threshold was chosen in another precision than a device has.
pub fn other_precision(model: &ModelFile, device: &Device) -> Option<String> {
    let calibration = model.header.calibration.as_ref()?;
    let (then, now) =
        (calibration.precision.as_deref().unwrap_or(Precision::F32.name()), device.precision().name());
    (then != now).then(|| {
        format!(
            "the threshold was chosen by scores in {then}, and these are in {now}: they differ in the third digit; \
             `ganomede calibrate` chooses another"
        )
    })
}

/// The calibration of a model that belongs to a score; `None` where it was calibrated with other settings.
/// Series are scored by their points: one of windows says nothing of these.
pub fn own<'a>(model: &'a ModelFile, score: &ScoreConfig) -> Option<&'a Calibration> {
    model.header.calibration_of_data().filter(|c| c.score.scores_as(score))
}

/// As [`own`], of single samples: what is known of the points of series says nothing of windows.
pub(super) fn own_of_samples<'a>(model: &'a ModelFile, score: &ScoreConfig) -> Option<&'a Calibration> {
    model.header.calibration_of_samples().filter(|c| c.score.scores_as(score))
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

    /// Judges by a model's own calibration; without a `rate` at the model's, [`rate_of`].
    ///
    /// # Errors
    /// As [`Judge::new`].
    pub fn of(model: &'a ModelFile, score: &ScoreConfig, rate: Option<f64>) -> Result<Self, DetectError> {
        Self::new(own(model, score), rate.unwrap_or_else(|| rate_of(model)))
    }

    /// The same with a threshold that was given.
    #[must_use]
    pub fn with_threshold(self, value: f64) -> Self {
        Self { threshold: Some(Threshold { value, source: "given".to_owned() }), ..self }
    }

    /// Says what is missing beside the scores of `samples`, if anything.
    pub(super) fn note_missing(&self, samples: &str, observer: &mut dyn Observer) {
        let missing = match (&self.quantiles, &self.threshold) {
            (Some(_), _) => return,
            (None, None) => "percentile and verdict",
            (None, Some(_)) => "percentile",
        };
        observer.note(&format!("no calibration for these score settings: {samples} come without {missing}"));
    }

    /// Held-out samples that reach the threshold and all of them, where they promise something.
    pub(super) fn promise(&self) -> Option<[usize; 2]> {
        Drift::held_out(self.quantiles?, self.threshold.as_ref()?.value)
    }

    /// Whether more answers are anomalous than of normal samples would be, said as a note where it is an
    /// alarm; `None` without a calibration.
    pub(super) fn drift(&self, answers: &[Answer], observer: &mut dyn Observer) -> Option<Drift> {
        let flagged = answers.iter().filter(|answer| answer.anomalous == Some(true)).count();
        let drift = Drift::of(self.quantiles?, self.threshold.as_ref()?.value, flagged, answers.len())?;
        drift.warning().iter().for_each(|text| observer.note(text));
        Some(drift)
    }

    /// The share of normal samples below a score, interpolated between held-out ones.
    pub fn probability(&self, score: f64) -> Option<f64> {
        self.quantiles.map(|q| q.probability(score))
    }

    /// The percentage of held-out normal samples with a lower score.
    pub fn percentile(&self, score: f64) -> Option<f64> {
        self.quantiles.map(|q| q.percentile(score))
    }

    /// How often a normal sample scores as high or higher, at most.
    pub fn p_value(&self, score: f64) -> Option<f64> {
        self.quantiles.map(|q| q.p_value(score))
    }

    /// Whether a score is an alarm.
    pub fn is_anomalous(&self, score: f64) -> Option<bool> {
        self.threshold.as_ref().map(|t| t.is_anomalous(score))
    }
}
