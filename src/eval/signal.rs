//! Evaluation of scores per point of a time series.
//!
//! A *segment* is an anomaly as labelled: an interval, or where only points are labelled a maximal run of
//! anomalous ones. Beside plain point-wise F1 stand the two adjusted forms of the literature, which credit a
//! whole segment for some of its points:
//! * *point-adjusted* (PA): one flagged point suffices;
//! * *PA%K*: more than K % of the segment's points must be flagged (Kim et al., AAAI 2022). K = 0 is PA, 100
//!   plain.
//!
//! PA flatters: random scores reach 0.7 to 0.98 on the usual data sets (see [`random_point_adjusted_f1`]), so
//! never show it without [`random_reference`] beside it.

mod nab;
mod points;
mod reference;

pub use nab::{Nab, NabProfile, NabScore};
pub use points::{Interval, PointScores, ewma, intervals, point_scores};
pub use reference::{random_point_adjusted_f1, random_reference};

use super::{
    EvalError, Threshold, auroc, average_precision, check, check_finite, confusion, f1_max, no_skill_aupr,
};
use serde::Serialize;
use std::borrow::Cow;

/// Scores and truths of one series, a value per point.
#[derive(Debug, Clone, Copy)]
pub struct ScoredSeries<'a> {
    /// Anomaly score of each point.
    pub scores: &'a [f64],
    /// True for anomalous points.
    pub truths: &'a [bool],
    /// Anomalous segments in order, of which two may touch: together they are the anomalous points. None for
    /// the runs of those.
    pub segments: Option<&'a [Interval]>,
}

impl<'a> ScoredSeries<'a> {
    /// A series whose segments are the runs of anomalous points.
    pub fn new(scores: &'a [f64], truths: &'a [bool]) -> Self {
        Self { scores, truths, segments: None }
    }

    /// The anomalous segments.
    pub fn segments(&self) -> Cow<'a, [Interval]> {
        match self.segments {
            Some(segments) => Cow::Borrowed(segments),
            None => Cow::Owned(intervals(self.truths, AlarmRule::default())),
        }
    }

    /// Errors where the segments are not the anomalous points.
    fn check(&self) -> Result<(), EvalError> {
        check(self.scores, self.truths)?;
        let Some(segments) = self.segments else { return Ok(()) };
        let mut next = segments.iter().peekable();
        for (point, &truth) in self.truths.iter().enumerate() {
            while next.peek().is_some_and(|segment| segment.end <= point) {
                next.next();
            }
            if truth != next.peek().is_some_and(|segment| segment.start <= point) {
                return Err(EvalError::Segments { point });
            }
        }
        let is_ordered = segments.windows(2).all(|pair| pair[0].end <= pair[1].start);
        let is_within = segments.iter().all(|s| s.start < s.end && s.end <= self.truths.len());
        if is_ordered && is_within { Ok(()) } else { Err(EvalError::Segments { point: self.truths.len() }) }
    }
}

/// How per-point alarms become the intervals that people are called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AlarmRule {
    /// Alarms with fewer quiet points than this between them are one.
    pub merge_gap: usize,
    /// Alarms shorter than this, after merging, are dropped.
    pub min_points: usize,
}

/// Every run of flagged points is an alarm.
impl Default for AlarmRule {
    fn default() -> Self {
        Self { merge_gap: 0, min_points: 1 }
    }
}

/// All metrics of one detector over one or more series, their points pooled.
///
/// A metric that the data do not define is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalEvaluation {
    /// Points of all series.
    pub n_points: usize,
    /// Anomalous points.
    pub n_anomalous: usize,
    /// Anomalous segments.
    pub n_segments: usize,
    /// Point-wise area under the ROC curve.
    pub auroc: Option<f64>,
    /// Point-wise average precision.
    pub aupr: Option<f64>,
    /// Average precision without skill: the share of anomalous points.
    pub aupr_baseline: Option<f64>,
    /// The K of PA%K, in percent.
    pub k: f64,
    /// Decisions of the calibrated threshold; null without one.
    pub threshold: Option<SignalThreshold>,
    /// Oracle: the best F1 of any threshold, in each form.
    pub oracle: Option<SignalF1>,
    /// NAB's score, with segments for its windows.
    pub nab: Option<Nab>,
}

/// F1 in its three forms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SignalF1 {
    /// Of the points as they are.
    pub plain: f64,
    /// Point-adjusted: read it beside the random row only.
    pub point_adjusted: f64,
    /// Adjusted where more than K % of a segment is flagged.
    pub pa_k: f64,
}

impl SignalF1 {
    /// Some F1 of the scores as they are, point-adjusted and PA%K-adjusted.
    fn of(
        forms: &[Vec<f64>; 3],
        f1: impl Fn(&[f64]) -> Result<Option<f64>, EvalError>,
    ) -> Result<Option<Self>, EvalError> {
        let [plain, point_adjusted, pa_k] = [f1(&forms[0])?, f1(&forms[1])?, f1(&forms[2])?];
        let all = plain.zip(point_adjusted).zip(pa_k);
        Ok(all.map(|((plain, point_adjusted), pa_k)| Self { plain, point_adjusted, pa_k }))
    }
}

/// Decisions of the deployed threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalThreshold {
    /// The threshold: points that score at or above it are flagged.
    pub value: f64,
    /// How it was chosen.
    pub source: String,
    /// Flagged anomalous points / flagged points; 0 if nothing is flagged.
    pub precision: Option<f64>,
    /// Flagged anomalous points / anomalous points.
    pub recall: Option<f64>,
    /// F1 in its three forms.
    pub f1: Option<SignalF1>,
    /// Share of segments that an alarm touches.
    pub segment_recall: Option<f64>,
    /// Alarms that touch no segment, per 10,000 points.
    pub false_alarms_per_10k: f64,
    /// Points from a segment's start to its first alarm, on average over the segments found.
    pub mean_delay: Option<f64>,
}

impl SignalEvaluation {
    /// Computes every metric; F1, AUROC and AP of the points, segment metrics of the alarms that `rule`
    /// makes.
    ///
    /// Errors: lists of unequal length, values that are not finite, segments that are not the anomalous
    /// points, K outside 0 to 100.
    pub fn new(
        series: &[ScoredSeries],
        threshold: Option<&Threshold>,
        rule: AlarmRule,
        k: f64,
    ) -> Result<Self, EvalError> {
        series.iter().try_for_each(ScoredSeries::check)?;
        let scores: Vec<f64> = series.iter().flat_map(|s| s.scores).copied().collect();
        let truths: Vec<bool> = series.iter().flat_map(|s| s.truths).copied().collect();
        // Segments end where their series ends, so scores are adjusted before they are pooled.
        let pooled = |k| -> Result<Vec<f64>, EvalError> {
            let each: Result<Vec<_>, _> =
                series.iter().map(|s| adjusted(s.scores, &s.segments(), k)).collect();
            Ok(each?.concat())
        };
        let forms = [scores.clone(), pooled(0.0)?, pooled(k)?];
        let at = |t: &Threshold| -> Result<SignalThreshold, EvalError> {
            check_finite("threshold", &[t.value])?;
            let decisions = confusion(&scores, &truths, t.value)?;
            let found = Found::of(series, t.value, rule);
            Ok(SignalThreshold {
                value: t.value,
                source: t.source.clone(),
                precision: decisions.precision(),
                recall: decisions.recall(),
                f1: SignalF1::of(&forms, |scores| Ok(confusion(scores, &truths, t.value)?.f1()))?,
                segment_recall: ratio(found.delays.len() as f64, found.segments),
                false_alarms_per_10k: ratio(1e4 * found.false_alarms as f64, truths.len()).unwrap_or(0.0),
                mean_delay: ratio(found.delays.iter().sum::<usize>() as f64, found.delays.len()),
            })
        };
        Ok(Self {
            n_points: truths.len(),
            n_anomalous: truths.iter().filter(|&&t| t).count(),
            n_segments: series.iter().map(|s| s.segments().len()).sum(),
            auroc: auroc(&scores, &truths)?,
            aupr: average_precision(&scores, &truths)?,
            aupr_baseline: no_skill_aupr(&truths),
            k,
            threshold: threshold.map(at).transpose()?,
            oracle: SignalF1::of(&forms, |scores| Ok(f1_max(scores, &truths)?.map(|best| best.0)))?,
            nab: Nab::of(series, threshold.map(|t| t.value)),
        })
    }

    /// The metrics that tables and repeated runs quote, by name.
    pub fn named(&self) -> Vec<(&'static str, Option<f64>)> {
        let threshold = self.threshold.as_ref();
        let f1 = threshold.and_then(|t| t.f1);
        let nab = |of: fn(&Nab) -> NabScore| self.nab.as_ref().map(of);
        vec![
            ("auroc", self.auroc),
            ("aupr", self.aupr),
            ("threshold.f1.plain", f1.map(|f| f.plain)),
            ("threshold.f1.point_adjusted", f1.map(|f| f.point_adjusted)),
            ("threshold.f1.pa_k", f1.map(|f| f.pa_k)),
            ("oracle.plain", self.oracle.map(|f| f.plain)),
            ("oracle.point_adjusted", self.oracle.map(|f| f.point_adjusted)),
            ("oracle.pa_k", self.oracle.map(|f| f.pa_k)),
            ("segment_recall", threshold.and_then(|t| t.segment_recall)),
            ("false_alarms_per_10k", threshold.map(|t| t.false_alarms_per_10k)),
            ("nab.standard", nab(|n| n.standard).and_then(|s| s.threshold)),
            ("nab.low_fp", nab(|n| n.low_fp).and_then(|s| s.threshold)),
            ("nab.low_fn", nab(|n| n.low_fn).and_then(|s| s.threshold)),
            ("oracle.nab.standard", nab(|n| n.standard).map(|s| s.oracle)),
            ("oracle.nab.low_fp", nab(|n| n.low_fp).map(|s| s.oracle)),
            ("oracle.nab.low_fn", nab(|n| n.low_fn).map(|s| s.oracle)),
        ]
    }
}

/// Scores whose plain metrics are the point-adjusted (`k = 0`) or PA%K metrics of the given ones.
///
/// A segment of L points counts as a whole from the threshold on at which m points are flagged, m the least
/// count with `m > K/100 · L`: that is its m-th highest score, to which lower scores of the segment are
/// raised. With K = 100 no count suffices and the scores stay. So every metric of a sweep has its adjusted
/// form, thresholds included.
///
/// Errors: lists of unequal length, scores that are not finite, K outside 0 to 100.
pub fn adjusted_scores(scores: &[f64], truths: &[bool], k: f64) -> Result<Vec<f64>, EvalError> {
    check(scores, truths)?;
    adjusted(scores, &intervals(truths, AlarmRule::default()), k)
}

/// As [`adjusted_scores`], of segments within the scores.
fn adjusted(scores: &[f64], segments: &[Interval], k: f64) -> Result<Vec<f64>, EvalError> {
    if !(0.0..=100.0).contains(&k) {
        return Err(EvalError::Parameter {
            what: "K of PA%K",
            value: k,
            range: "a percentage from 0 to 100",
        });
    }
    let mut adjusted = scores.to_vec();
    for &Interval { start, end } in segments {
        let mut descending = scores[start..end].to_vec();
        descending.sort_unstable_by(|a, b| b.total_cmp(a));
        let suffices = |m: usize| 100.0 * m as f64 > k * descending.len() as f64;
        if let Some(m) = (1..=descending.len()).find(|&m| suffices(m)) {
            for score in &mut adjusted[start..end] {
                *score = score.max(descending[m - 1]);
            }
        }
    }
    Ok(adjusted)
}

/// What the alarms of a threshold find.
#[derive(Default)]
struct Found {
    segments: usize,
    false_alarms: usize,
    /// Points from the start of each segment found to its first alarm.
    delays: Vec<usize>,
}

impl Found {
    fn of(series: &[ScoredSeries], threshold: f64, rule: AlarmRule) -> Self {
        let mut found = Self::default();
        for s in series {
            let flagged: Vec<bool> = s.scores.iter().map(|&score| score >= threshold).collect();
            let alarms = intervals(&flagged, rule);
            let segments = s.segments();
            found.segments += segments.len();
            found.false_alarms += alarms.iter().filter(|a| !segments.iter().any(|s| s.touches(a))).count();
            found.delays.extend(segments.iter().filter_map(|segment| {
                let first = alarms.iter().find(|a| a.touches(segment))?;
                Some(first.start.saturating_sub(segment.start))
            }));
        }
        found
    }
}

fn ratio(of: f64, n: usize) -> Option<f64> {
    (n > 0).then(|| of / n as f64)
}

#[cfg(test)]
mod tests;
