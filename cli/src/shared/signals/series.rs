//! Series: training on windows, a score for each point, alarms as intervals.

use std::path::Path;

use ganomede_datasets::{DataError, Findings, SignalSet, Warp, Windows};
use serde::Serialize;

use super::{BATCH, calibration, epoch_of, score_in_memory};
use crate::shared::job::Feed;
use crate::shared::{CliError, Interrupt, note};
use ganomede::device::Device;
use ganomede::eval::signal::{AlarmRule, Interval, PointScores, intervals};
use ganomede::models::Form;
use ganomede::models::file::{Calibration, DataInfo, ModelFile, Scaling};
use ganomede::models::scorer::{ScoreConfig, Scorer};
use ganomede::train::Epoch;

/// Share of false alarms among normal points that a threshold of a series aims at.
pub(crate) const POINT_FALSE_ALARM_RATE: f64 = 0.01;

/// A series with the windows that are trained on.
pub(crate) struct SeriesFeed {
    pub(crate) set: std::sync::Arc<SignalSet>,
    windows: Windows,
    /// Rows held out for calibration.
    held_out: std::ops::Range<usize>,
    stride: Option<usize>,
    warp: Warp,
}

impl SeriesFeed {
    /// Windows of `size` points every quarter of a window; the last rows of the training part are held out, a window at least.
    pub(crate) fn new(
        set: SignalSet,
        size: usize,
        val_fraction: f64,
        stride: Option<usize>,
        warp: Warp,
    ) -> Result<Self, CliError> {
        let (training, held_out) = set.holdout(val_fraction, size)?;
        let windows = Windows::new(training, size, (size / 4).max(1))?;
        set.notes().iter().for_each(|text| note(text));
        if !held_out.is_empty() {
            note(&format!("held out for calibration: {}", set.place(held_out.clone())));
        }
        Ok(Self { set: std::sync::Arc::new(set), windows, held_out, stride, warp })
    }

    pub(crate) fn info(&self, val_fraction: f64) -> DataInfo {
        DataInfo {
            spec: self.set.spec().to_owned(),
            digest: self.set.digest(),
            training_images: self.windows.len(),
            held_out: self.held_out.len(),
            val_fraction,
            held_out_block: match self.held_out.is_empty() {
                true => String::new(),
                false => self.set.place(self.held_out.clone()),
            },
            augment: if self.warp.share > 0.0 { format!("warp:{}", self.warp.share) } else { String::new() },
            scaling: Scaling::Signal(self.set.scale().clone()),
            ..DataInfo::default()
        }
    }
}

impl Feed for SeriesFeed {
    fn epoch(&self, batch: usize, seed: u64, epoch: u64, start: u64) -> Result<Epoch, DataError> {
        let (set, windows, warp) = (self.set.clone(), self.windows.clone(), self.warp);
        Ok(epoch_of(self.windows.len(), batch, seed, epoch, start, move |chosen| {
            let mut values = set.gather(&windows, chosen);
            for (window, &i) in values.chunks_mut(set.channels() * windows.length).zip(chosen) {
                warp.apply(window, set.channels(), &[seed, epoch, i as u64]);
            }
            values
        }))
    }

    fn preview(&self) -> Vec<f32> {
        vec![]
    }

    fn calibrate(
        &self,
        device: &Device,
        model: &ModelFile,
        path: &Path,
        score: &ScoreConfig,
        interrupt: &Interrupt,
    ) -> Result<Option<Calibration>, CliError> {
        if self.held_out.is_empty() {
            return Ok(None);
        }
        let rows = self.held_out.clone();
        let scores = point_scores(device, model, path, score, &self.set, rows, self.stride, interrupt)?;
        calibration(&scores, score, POINT_FALSE_ALARM_RATE).map(Some)
    }

    fn findings(&self) -> Findings {
        Findings::default()
    }
}

/// A score for each row of a stretch of a series: the mean over the windows that cover it of the squared residual at
/// the row, or of the window's score where the system reconstructs nothing.
pub(crate) fn point_scores(
    device: &Device,
    model: &ModelFile,
    path: &Path,
    score: &ScoreConfig,
    set: &SignalSet,
    rows: std::ops::Range<usize>,
    stride: Option<usize>,
    interrupt: &Interrupt,
) -> Result<Vec<f64>, CliError> {
    let config = &model.header.config;
    if config.form != Form::Signal {
        return Err(CliError::input(format!(
            "'{}' is not a model of series; train one with --signal",
            path.display()
        )));
    }
    if set.channels() != config.channels {
        return Err(CliError::input(format!(
            "'{}' has {} channels, the model was trained on {}; choose them with --columns",
            set.spec(),
            set.channels(),
            config.channels
        )));
    }
    let size = config.size;
    let mut scorer = Scorer::new(device, model, path, score, BATCH.min(rows.len().max(1)))?;
    let usual = if scorer.is_searched() { (size / 4).max(1) } else { 1 };
    let first = rows.start;
    let count = rows.len();
    let windows = Windows::new(rows, size, stride.unwrap_or(usual))?;
    let mut points = PointScores::new(count);
    let gather = |chosen: &[usize]| set.gather(&windows, chosen);
    score_in_memory(&mut scorer, windows.len(), gather, interrupt, |i, window, found| {
        let each = match &found.reconstruction {
            Some(made) => squared_residuals(window, made, size),
            None => vec![found.score; size],
        };
        Ok(points.add(windows.offsets[i] - first, &each)?)
    })?;
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
#[derive(Debug, Serialize)]
pub(crate) struct Alarm {
    /// First row, and the first row after it.
    pub(crate) rows: [usize; 2],
    /// Times of its first and last row, where the series has times.
    pub(crate) times: Option<[String; 2]>,
    /// Highest score within it.
    pub(crate) peak: f64,
}

/// Points above the threshold as intervals: alarms closer than an eighth of a window are one, single points none.
pub(super) fn alarm_rule(size: usize) -> AlarmRule {
    AlarmRule { merge_gap: size / 8, min_points: 2 }
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let times = self.times.as_ref().map_or(String::new(), |[a, b]| format!(", {a} to {b}"));
        write!(f, "alarm: rows {} to {}{times}, peak {:.4}", self.rows[0], self.rows[1] - 1, self.peak)
    }
}

/// The alarms of a stretch of a series that starts at row `first`.
pub(crate) fn alarms(
    set: &SignalSet,
    first: usize,
    scores: &[f64],
    threshold: f64,
    rule: AlarmRule,
) -> Vec<Alarm> {
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
