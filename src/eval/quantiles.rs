//! Calibration on held-out normal images: threshold, probability and scaling without a single test image.

use std::collections::HashMap;

use super::{EvalError, bootstrap::quantile_of_sorted, check_finite};
use serde::{Deserialize, Serialize};

/// Order statistics kept at most: more would bloat model files and change no decision that matters.
const MAX_KNOTS: usize = 4096;

/// Empirical distribution of the scores of held-out normal images; stored in the model file.
///
/// Of n scores it keeps all up to 4096, else that many at evenly spaced ranks, extremes included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Quantiles {
    /// Held-out normal images.
    count: usize,
    /// Kept scores, ascending; knot i has rank `1 + round(i (n − 1) / (knots − 1))`.
    knots: Vec<f64>,
    /// Where samples come in groups: how many samples; `count` is that of the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
}

/// A decision threshold and how it was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Images that score at or above it are anomalous.
    pub value: f64,
    /// How it was chosen, in words.
    pub source: String,
}

impl Threshold {
    /// The verdict: `score >= threshold`.
    pub fn is_anomalous(&self, score: f64) -> bool {
        score >= self.value
    }
}

/// `(s − min) / (max − min)`, and 0 where `min = max`. Values outside `[min, max]` leave `[0, 1]`.
pub fn min_max(score: f64, min: f64, max: f64) -> f64 {
    if max > min { (score - min) / (max - min) } else { 0.0 }
}

impl Quantiles {
    /// Calibrates on the scores of held-out normal images, in any order.
    ///
    /// Errors: no score, or one that is not finite.
    pub fn new(normal_scores: &[f64]) -> Result<Self, EvalError> {
        check_finite("held-out scores", normal_scores)?;
        let mut knots = normal_scores.to_vec();
        knots.sort_unstable_by(f64::total_cmp);
        let count = knots.len();
        if count == 0 {
            return Err(EvalError::NoCalibration);
        }
        if count > MAX_KNOTS {
            knots = (0..MAX_KNOTS).map(|i| knots[rank(i, count, MAX_KNOTS) - 1]).collect();
        }
        Ok(Self { count, knots, samples: None })
    }

    /// Calibrates on the scores of held-out normal images that come in groups (slices of a patient): `groups`
    /// has the number of the group of each score, and what is promised holds for an image of a new group.
    ///
    /// Hierarchical conformal prediction (Lee, Barber & Willett, *Distribution-free inference with
    /// hierarchical data*, 2023, arXiv 2306.06342, equation 4): every group weighs 1 / (K + 1), shared
    /// equally by its scores, and a new one as much at infinity. For K groups, knot k is the smallest score
    /// below or at which the groups have k / K of their weight, so that all that is read off the ranks of n
    /// single images holds of K groups. Of groups of one image each these are the scores themselves. Nothing
    /// is drawn at random, as where each group lends one of its scores (Dunn, Wasserman & Ramdas,
    /// *Distribution-free prediction sets for two-layer hierarchical models*, 2022), and scores within a
    /// group may depend on each other in any way.
    ///
    /// Errors: no score, one that is not finite, or numbers of groups that are not as many.
    pub fn of_groups(normal_scores: &[f64], groups: &[u32]) -> Result<Self, EvalError> {
        check_finite("held-out scores", normal_scores)?;
        let (got, expected) = (groups.len(), normal_scores.len());
        if got != expected {
            return Err(EvalError::Length { what: "groups", got, expected, per: "score" });
        }
        let mut sizes = HashMap::new();
        groups.iter().for_each(|group| *sizes.entry(group).or_insert(0_usize) += 1);
        let mut weighted: Vec<(f64, f64)> = normal_scores
            .iter()
            .zip(groups)
            .map(|(&score, group)| (score, 1.0 / sizes[group] as f64))
            .collect();
        weighted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut knots, mut weight) = (Vec::new(), 0.0);
        for (score, share) in weighted {
            weight += share;
            // The slack undoes rounding: three thirds are one.
            while knots.len() < sizes.len() && weight + 1e-9 >= (knots.len() + 1) as f64 {
                knots.push(score);
            }
        }
        // Where rounding is more than that.
        knots.extend(knots.last().copied().into_iter().cycle().take(sizes.len() - knots.len()));
        Ok(Self { samples: Some(expected), ..Self::new(&knots)? })
    }

    /// What was held out, in words: so many samples, or groups of them.
    pub fn held_out(&self) -> String {
        match self.samples {
            None => format!("{} held-out normal samples", self.count),
            Some(samples) => format!("{} held-out groups of {samples} normal samples", self.count),
        }
    }

    /// Whether it is of groups of samples.
    pub fn is_of_groups(&self) -> bool {
        self.samples.is_some()
    }

    /// Number of held-out normal images, or of groups of them.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Lowest held-out score.
    pub fn min(&self) -> f64 {
        self.knots[0]
    }

    /// Highest held-out score.
    pub fn max(&self) -> f64 {
        self.knots[self.knots.len() - 1]
    }

    /// The score at quantile `q` in [0, 1], linear between order statistics.
    pub fn quantile(&self, q: f64) -> f64 {
        quantile_of_sorted(&self.knots, q.clamp(0.0, 1.0))
    }

    /// The threshold that a new normal image crosses with probability at most `false_alarm_rate`.
    ///
    /// Finite-sample conservative: of n exchangeable held-out scores it takes the k-th smallest,
    /// `k = ⌈(n + 1)(1 − α)⌉`, and steps just above it, so that `P(score >= threshold) <= α` for any
    /// distribution (split conformal prediction). With fewer than `1/α − 1` images no threshold can
    /// promise that; then it is the maximum, and `source` says which rate it does promise.
    ///
    /// Errors: a rate outside (0, 1).
    pub fn threshold(&self, false_alarm_rate: f64) -> Result<Threshold, EvalError> {
        if !(false_alarm_rate > 0.0 && false_alarm_rate < 1.0) {
            return Err(EvalError::FalseAlarmRate(false_alarm_rate));
        }
        let (n, held_out) = (self.count, self.held_out());
        // The slack undoes rounding: 20 × (1 − 0.05) must be 19, not 19.000000000000004.
        let k = ((n as f64 + 1.0) * (1.0 - false_alarm_rate) - 1e-9).ceil().max(1.0) as usize;
        let kept = self.knots.len();
        let knot = (0..kept).find(|&i| rank(i, n, kept) >= k).unwrap_or(kept - 1);
        let source = if k <= n {
            format!("{held_out}, false-alarm rate at most {false_alarm_rate}")
        } else {
            format!(
                "highest of {held_out}: too few for a false-alarm rate of {false_alarm_rate}, \
                 expect up to {:.3}",
                1.0 / (n as f64 + 1.0)
            )
        };
        Ok(Threshold { value: self.knots[knot].next_up(), source })
    }

    /// Calibrated probability that a normal image scores below `score`, in (0, 1).
    ///
    /// The empirical distribution function with the k-th of n scores at `k / (n + 1)`, linear in between and
    /// constant beyond the extremes, since n images say nothing about the tails. It never falls as the score
    /// rises, and is at least `1 − α` wherever the score crosses a `threshold(α)` that keeps its promise.
    pub fn probability(&self, score: f64) -> f64 {
        let kept = self.knots.len();
        let position = |i: usize| rank(i, self.count, kept) as f64 / (self.count as f64 + 1.0);
        // The first knot at or above the score: among ties the lowest rank, so a tie never raises an alarm.
        let above = self.knots.partition_point(|&k| k < score);
        if above == kept {
            return position(kept - 1);
        }
        if above == 0 || self.knots[above] == score {
            return position(above);
        }
        let (low, high) = (self.knots[above - 1], self.knots[above]);
        position(above - 1) + (position(above) - position(above - 1)) * min_max(score, low, high)
    }

    /// The percentage of held-out normal images that score lower, 0 to 100.
    pub fn percentile(&self, score: f64) -> f64 {
        100.0 * self.lower(score) as f64 / self.count as f64
    }

    /// The kept scores, ascending, and the percentiles of scores that so many of them are lower than, from
    /// none to all.
    #[cfg(feature = "onnx")]
    pub(crate) fn steps(&self) -> (&[f64], Vec<f64>) {
        let kept = self.knots.len();
        let ranks = std::iter::once(0).chain((0..kept).map(|i| rank(i, self.count, kept)));
        (&self.knots, ranks.map(|rank| 100.0 * rank as f64 / self.count as f64).collect())
    }

    /// The conformal p-value: of all held-out normal images and a new one, the share that scores at least as
    /// high, in (0, 1]. A new normal image has one of at most p with probability at most p, for any p and any
    /// distribution.
    pub fn p_value(&self, score: f64) -> f64 {
        (self.count - self.lower(score) + 1) as f64 / (self.count as f64 + 1.0)
    }

    /// Held-out normal images that score lower; those between two knots count as not lower.
    pub(super) fn lower(&self, score: f64) -> usize {
        match self.knots.partition_point(|&k| k < score) {
            0 => 0,
            above => rank(above - 1, self.count, self.knots.len()),
        }
    }

    /// The score on a fixed scale from 0 to 1, for one image alone and without any test set.
    ///
    /// [`min_max`] between the 0.5 % quantile of held-out normal scores and twice as far as their 99 %
    /// quantile, clamped: half of the scale is left for anomalies. Monotone up to the clamp, so rankings
    /// within it stay.
    pub fn scale_clamped(&self, score: f64) -> f64 {
        let (low, high) = (self.quantile(0.005), self.quantile(0.99));
        if high > low {
            min_max(score, low, low + 2.0 * (high - low)).clamp(0.0, 1.0)
        } else {
            f64::from(u8::from(score > high)) // constant normals: anything above is off the scale
        }
    }

    /// [`min_max`] with the held-out extremes: 0 to 1 for scores seen among normals, above 1 beyond them.
    pub fn scale(&self, score: f64) -> f64 {
        min_max(score, self.min(), self.max())
    }
}

/// Rank, from 1, of the i-th of `kept` knots among `count` scores.
fn rank(i: usize, count: usize, kept: usize) -> usize {
    if kept == 1 { count } else { 1 + (i * (count - 1) + (kept - 1) / 2) / (kept - 1) }
}

/// What a model file holds, not yet checked.
#[derive(Deserialize)]
struct Stored {
    count: usize,
    knots: Vec<f64>,
    #[serde(default)]
    samples: Option<usize>,
}

impl TryFrom<Stored> for Quantiles {
    type Error = EvalError;

    fn try_from(Stored { count, knots, samples }: Stored) -> Result<Self, EvalError> {
        check_finite("stored calibration", &knots)?;
        if knots.is_empty() || knots.len() != count.min(MAX_KNOTS) {
            return Err(EvalError::Calibration("the number of scores does not fit the count"));
        }
        if count > 1 << 40 {
            return Err(EvalError::Calibration("the count is absurd"));
        }
        if !knots.is_sorted() {
            return Err(EvalError::Calibration("the scores do not ascend"));
        }
        if samples.is_some_and(|samples| samples < count) {
            return Err(EvalError::Calibration("there are fewer samples than groups of them"));
        }
        Ok(Self { count, knots, samples })
    }
}
