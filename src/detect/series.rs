//! Windows of a series as samples, a score for each point, and alarms as intervals.

mod assess;
mod baselines;
#[cfg(feature = "report")]
mod compare;
#[cfg(feature = "report")]
mod pages;
mod score;
mod table;

use std::ops::Range;
use std::sync::Arc;

use ganomede_datasets::{DataError, SignalOptions, SignalSet, TrainPart, Warp, Windows};
use serde::{Deserialize, Serialize};

use super::{Applied, DetectError, HeldOut, Samples, TrainingData};
use crate::eval::signal::{AlarmRule, Interval, PointScores, intervals};
use crate::models::Form;
use crate::models::file::{DataInfo, ModelFile, Scaling};

pub use assess::{PointAssessment, SeriesTests};
pub use baselines::{BASELINES, Baseline, scored as baseline_scores};
#[cfg(feature = "report")]
pub use compare::{SeriesComparison, SeriesMetrics, SeriesRow};
pub use score::SeriesQueries;
pub(super) use score::normal;

/// A series with the windows that are trained on.
pub struct Series {
    set: Arc<SignalSet>,
    windows: Windows,
    /// Rows held out for calibration.
    held_out: Range<usize>,
    val_fraction: f64,
    stride: Option<usize>,
    warp: Warp,
    /// Whether which rows are trained on was said beside the data.
    is_told: bool,
}

impl Series {
    /// Opens a series to be trained on.
    ///
    /// # Errors
    /// [`DataError`] where it cannot be read; else as [`Series::new`].
    pub fn open(data: &TrainingData) -> Result<Self, DataError> {
        let set = SignalSet::open(&data.spec, &data.reading.series)?;
        let is_told = data.reading.series.train.is_some();
        let series = Self::new(set, data.window, data.hold_out, data.reading.stride, data.augment.parse()?)?;
        Ok(Self { is_told, ..series })
    }

    /// Windows of `size` points every quarter of a window; the last rows of the training part are held out, a
    /// window at least. `stride` is the distance of the windows that are scored for calibration, as of
    /// [`point_scores`].
    ///
    /// # Errors
    /// [`DataError`] for fewer rows than a window, or a share out of range.
    pub fn new(
        set: SignalSet,
        size: usize,
        val_fraction: f64,
        stride: Option<usize>,
        warp: Warp,
    ) -> Result<Self, DataError> {
        let (training, held_out) = set.holdout(val_fraction, size)?;
        let windows = Windows::new(training, size, (size / 4).max(1))?;
        Ok(Self { set: Arc::new(set), windows, held_out, val_fraction, stride, warp, is_told: false })
    }
}

impl Samples for Series {
    fn form(&self) -> Form {
        Form::Signal
    }

    fn channels(&self) -> usize {
        self.set.channels()
    }

    fn len(&self) -> usize {
        self.windows.len()
    }

    fn get(&self, i: usize, [seed, epoch]: [u64; 2]) -> Result<Vec<f32>, DataError> {
        if i >= self.windows.len() {
            return Err(DataError::option("sample", i, format!("there are {}", self.windows.len())));
        }
        let mut window = self.set.gather(&self.windows, &[i]);
        self.warp.apply(&mut window, self.set.channels(), &[seed, epoch, i as u64]);
        Ok(window)
    }

    fn held_out(&self, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
        if self.held_out.is_empty() {
            return Ok(HeldOut::default());
        }
        let scores = point_scores(model, &self.set, self.held_out.clone(), self.stride)?;
        Ok(HeldOut { points: true, ..scores.into() })
    }

    /// What was decided about the series: how it was read, and which rows are held out.
    fn notes(&self) -> Vec<String> {
        let place = || format!("held out for calibration: {}", self.set.place(self.held_out.clone()));
        let held_out = (!self.held_out.is_empty()).then(place);
        self.set.notes().iter().cloned().chain(held_out).collect()
    }

    fn info(&self) -> Result<DataInfo, DataError> {
        Ok(DataInfo {
            spec: self.set.spec().to_owned(),
            digest: self.set.digest(),
            training_images: self.windows.len(),
            held_out: self.held_out.len(),
            val_fraction: self.val_fraction,
            held_out_block: match self.held_out.is_empty() {
                true => String::new(),
                false => self.set.place(self.held_out.clone()),
            },
            train_rows: self.is_told.then(|| self.set.train_rows().len()),
            augment: if self.warp.share > 0.0 { format!("warp:{}", self.warp.share) } else { String::new() },
            scaling: Scaling::Signal(self.set.scale().clone()),
            ..DataInfo::default()
        })
    }
}

/// Opens a series for a trained model, scaled as the model was trained.
///
/// # Errors
/// [`DataError`] where it cannot be read.
pub fn open_series(spec: &str, model: &ModelFile, given: SignalOptions) -> Result<SignalSet, DataError> {
    let scale = match &model.header.data.scaling {
        Scaling::Signal(scale) => Some(scale.clone()),
        _ => None,
    };
    SignalSet::open(spec, &SignalOptions { scale, ..given })
}

/// As [`open_series`], to be scored: a file of its own holds nothing that was trained on, so that all of its
/// rows are scored, unless `given` says which part is not.
///
/// # Errors
/// As [`open_series`].
pub fn open_to_score(spec: &str, model: &ModelFile, given: SignalOptions) -> Result<SignalSet, DataError> {
    let whole = given.train.is_none() && std::path::Path::new(spec).is_file();
    let train = if whole { Some(TrainPart::Rows(0)) } else { given.train };
    open_series(spec, model, SignalOptions { train, ..given })
}

/// A score for each row of a stretch of a series: the mean over the windows that cover it of the squared
/// residual at the row, or of the window's score where the system reconstructs nothing. `stride` is the
/// distance between windows; 1 if left open, a quarter of a window for searched scores.
///
/// # Errors
/// [`DetectError::Input`] for a model of something else or other channels; else as [`Applied::each`].
pub fn point_scores(
    model: &mut Applied<'_>,
    set: &SignalSet,
    rows: Range<usize>,
    stride: Option<usize>,
) -> Result<Vec<f64>, DetectError> {
    let config = &model.model.header.config;
    if config.form != Form::Signal {
        return Err(DetectError::Input(format!(
            "'{}' is not a model of series; train one on a series",
            model.path.display()
        )));
    }
    if set.channels() != config.channels {
        return Err(DetectError::Input(format!(
            "'{}' has {} channels, the model was trained on {}; read the same columns",
            set.spec(),
            set.channels(),
            config.channels
        )));
    }
    let size = config.size.width;
    let mut scorer = model.scorer(super::apply::BATCH.min(rows.len().max(1)))?;
    let usual = if scorer.is_searched() { (size / 4).max(1) } else { 1 };
    let (first, count) = (rows.start, rows.len());
    let windows = Windows::new(rows, size, stride.unwrap_or(usual))?;
    let mut points = PointScores::new(count);
    let gather = |chosen: &[usize]| set.gather(&windows, chosen);
    let each = |i: usize, window: &[f32], found: crate::models::scorer::Found| {
        let each = match &found.reconstruction {
            Some(made) => squared_residuals(window, made, size),
            None => vec![found.score; size],
        };
        Ok(points.add(windows.offsets[i] - first, &each)?)
    };
    super::apply::score_in_memory(&mut scorer, windows.len(), gather, model.observer, each)?;
    Ok(points.finish()?)
}

/// (x − x̂)² at each point of a window `[channels, size]`, mean over channels.
fn squared_residuals(window: &[f32], made: &[f32], size: usize) -> Vec<f64> {
    let channels = window.len() / size.max(1);
    let mut each = vec![0.0; size];
    for (x, made) in window.chunks(size).zip(made.chunks(size)) {
        for ((sum, x), made) in each.iter_mut().zip(x).zip(made) {
            *sum += (f64::from(*x) - f64::from(*made)).powi(2) / channels as f64;
        }
    }
    each
}

/// An alarm of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// First row, and the first row after it.
    pub rows: [usize; 2],
    /// Times of its first and last row, where the series has times.
    pub times: Option<[String; 2]>,
    /// Highest score within it.
    pub peak: f64,
}

/// Points above the threshold as intervals: alarms closer than an eighth of a window are one, single points
/// none.
pub fn alarm_rule(size: usize) -> AlarmRule {
    AlarmRule { merge_gap: size / 8, min_points: 2 }
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let times = self.times.as_ref().map_or(String::new(), |[a, b]| format!(", {a} to {b}"));
        write!(f, "alarm: rows {} to {}{times}, peak {:.4}", self.rows[0], self.rows[1] - 1, self.peak)
    }
}

/// The alarms of a stretch of a series that starts at row `first`.
pub fn alarms(set: &SignalSet, first: usize, scores: &[f64], threshold: f64, rule: AlarmRule) -> Vec<Alarm> {
    let flagged: Vec<bool> = scores.iter().map(|&s| s >= threshold).collect();
    let alarm = |Interval { start, end }: Interval| Alarm {
        rows: [first + start, first + end],
        times: {
            let time = |row| set.series().time(row).map(str::to_owned);
            time(first + start).zip(time(first + end - 1)).map(|(a, b)| [a, b])
        },
        peak: scores[start..end].iter().copied().fold(f64::NEG_INFINITY, f64::max),
    };
    intervals(&flagged, rule).into_iter().map(alarm).collect()
}

/// What is known of the test rows of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct PointTruths {
    /// Whether each row is anomalous.
    pub points: Vec<bool>,
    /// The anomalous stretches, counted from the first test row.
    pub segments: Vec<Interval>,
}

impl PointTruths {
    /// Of the test rows of a set.
    pub fn of(set: &SignalSet) -> Self {
        let rows = set.test_rows();
        let place = |s: Range<usize>| Interval { start: s.start - rows.start, end: s.end - rows.start };
        let segments = set.segments(rows.clone()).into_iter().map(place).collect();
        Self { points: set.labels()[rows].to_vec(), segments }
    }

    /// With scores of the same rows.
    pub fn scored<'a>(&'a self, scores: &'a [f64]) -> crate::eval::signal::ScoredSeries<'a> {
        crate::eval::signal::ScoredSeries { scores, truths: &self.points, segments: Some(&self.segments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_of_points_are_means_over_channels() {
        // Two channels of three points.
        let (window, made) = ([1.0, 0.0, 0.5, 0.0, 0.0, -0.5], [0.0, 0.0, 0.5, 0.0, 1.0, 0.5]);
        assert_eq!(squared_residuals(&window, &made, 3), [0.5, 0.5, 0.5]);
    }
}
