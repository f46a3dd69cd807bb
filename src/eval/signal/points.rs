//! From windows to points, and from points to intervals.

use super::AlarmRule;
use crate::eval::{EvalError, check_finite};
use serde::Serialize;

/// The points `start..end` of a series; `end` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Interval {
    /// First point.
    pub start: usize,
    /// One past the last point.
    pub end: usize,
}

impl Interval {
    /// Whether both have a point in common.
    pub fn touches(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The runs of flagged points: first those with fewer than `merge_gap` quiet points between them are joined,
/// then those shorter than `min_points` dropped.
pub fn intervals(flagged: &[bool], rule: AlarmRule) -> Vec<Interval> {
    let mut found: Vec<Interval> = Vec::new();
    for point in (0..flagged.len()).filter(|&point| flagged[point]) {
        match found.last_mut() {
            Some(last) if point == last.end || point - last.end < rule.merge_gap => last.end = point + 1,
            _ => found.push(Interval { start: point, end: point + 1 }),
        }
    }
    found.retain(|i| i.end - i.start >= rule.min_points);
    found
}

/// Scores of a series' points as the mean over all windows that cover them.
#[derive(Debug, Clone)]
pub struct PointScores {
    sums: Vec<f64>,
    windows: Vec<u32>,
}

impl PointScores {
    /// For a series of `len` points.
    pub fn new(len: usize) -> Self {
        Self { sums: vec![0.0; len], windows: vec![0; len] }
    }

    /// Adds the window that starts at `start`, with a score for each of its points.
    ///
    /// Errors: scores that are not finite, a window that leaves the series.
    pub fn add(&mut self, start: usize, scores: &[f64]) -> Result<(), EvalError> {
        check_finite("window scores", scores)?;
        let len = self.sums.len();
        let end = start.checked_add(scores.len()).filter(|&end| end <= len);
        let Some(end) = end else {
            return Err(EvalError::Length {
                what: "the series",
                got: len,
                expected: start.saturating_add(scores.len()),
                per: "point that a window covers",
            });
        };
        for ((sum, windows), score) in
            self.sums[start..end].iter_mut().zip(&mut self.windows[start..end]).zip(scores)
        {
            *sum += score;
            *windows += 1;
        }
        Ok(())
    }

    /// The mean of each point.
    ///
    /// Errors: a point that no window covers.
    pub fn finish(self) -> Result<Vec<f64>, EvalError> {
        if let Some(point) = self.windows.iter().position(|&n| n == 0) {
            return Err(EvalError::Uncovered { point, len: self.windows.len() });
        }
        Ok(self.sums.iter().zip(&self.windows).map(|(sum, &n)| sum / f64::from(n)).collect())
    }
}

/// [`PointScores`] of windows with one score each: window i covers `starts[i]..starts[i] + width`.
///
/// Errors: lists of unequal length, scores that are not finite, windows that leave the series or leave a gap.
pub fn point_scores(
    len: usize,
    starts: &[usize],
    width: usize,
    scores: &[f64],
) -> Result<Vec<f64>, EvalError> {
    if starts.len() != scores.len() {
        let (got, expected) = (scores.len(), starts.len());
        return Err(EvalError::Length { what: "window scores", got, expected, per: "window" });
    }
    let mut points = PointScores::new(len);
    for (&start, &score) in starts.iter().zip(scores) {
        points.add(start, &vec![score; width])?;
    }
    points.finish()
}

/// Exponentially weighted moving average: `y₀ = x₀`, `yₜ = α xₜ + (1 − α) yₜ₋₁`. It looks back only.
///
/// Errors: values that are not finite, α outside (0, 1]; α = 1 changes nothing.
pub fn ewma(values: &[f64], alpha: f64) -> Result<Vec<f64>, EvalError> {
    check_finite("scores", values)?;
    if !(alpha > 0.0 && alpha <= 1.0) {
        let range = "above 0 and at most 1; 1 smooths nothing";
        return Err(EvalError::Parameter { what: "α of the moving average", value: alpha, range });
    }
    let mut smooth = values.first().copied().unwrap_or_default();
    Ok(values
        .iter()
        .map(|value| {
            smooth += alpha * (value - smooth);
            smooth
        })
        .collect())
}
