//! The score of the Numenta Anomaly Benchmark (Lavin & Ahmad, ICMLA 2015, arXiv 1510.03336).
//!
//! A label is a *window* around an anomaly, w points wide; a detection is a point at or above the threshold.
//! With σ(y) = 2 / (1 + e^{5y}) − 1:
//!
//! | | counts |
//! |---|---|
//! | each window that has a detection | a_tp · σ(y) / σ(−1), y = −(points from its first detection to its end) / w: from 1 at its start towards 0 |
//! | each window that has none | −a_fn |
//! | each detection outside | a_fp · σ(y), y = (points since the window before it ended) / (its w − 1), −1 from 3 on; −a_fp before the first window |
//! | score | 100 · (sum − null) / (perfect − null): null detects nothing, perfect detects each window at its start |
//!
//! Negative scores are worse than detecting nothing. NAB chooses its threshold on the labelled corpus that it
//! then scores: that is an oracle, and is named so here.

use super::{Interval, ScoredSeries};
use serde::Serialize;

/// What detections cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NabProfile {
    /// a_tp, for a window found.
    pub true_positive: f64,
    /// a_fp, for a detection far from any window.
    pub false_positive: f64,
    /// a_fn, for a window missed.
    pub false_negative: f64,
}

impl NabProfile {
    /// NAB's standard profile.
    pub const STANDARD: Self = Self { true_positive: 1.0, false_positive: 0.11, false_negative: 1.0 };
    /// False alarms cost twice as much.
    pub const LOW_FP: Self = Self { false_positive: 0.22, ..Self::STANDARD };
    /// Missed windows cost twice as much.
    pub const LOW_FN: Self = Self { false_negative: 2.0, ..Self::STANDARD };
}

/// NAB's score under its three profiles; 100 is perfect, 0 what detecting nothing gets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Nab {
    /// [`NabProfile::STANDARD`].
    pub standard: NabScore,
    /// [`NabProfile::LOW_FP`].
    pub low_fp: NabScore,
    /// [`NabProfile::LOW_FN`].
    pub low_fn: NabScore,
}

/// The score under one profile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NabScore {
    /// At the calibrated threshold; null without one.
    pub threshold: Option<f64>,
    /// Oracle: at the threshold that is best for these very labels, as NAB's scoreboard has it.
    pub oracle: f64,
}

impl Nab {
    /// Scores series against their segments, each taken for a window; `None` where there is no segment.
    ///
    /// Scores and truths have equal lengths and the scores are finite: [`super::SignalEvaluation::new`] has
    /// checked it.
    pub(super) fn of(series: &[ScoredSeries], threshold: Option<f64>) -> Option<Self> {
        let sweep = Sweep::new(series);
        (sweep.windows > 0).then(|| Self {
            standard: sweep.under(NabProfile::STANDARD, threshold),
            low_fp: sweep.under(NabProfile::LOW_FP, threshold),
            low_fn: sweep.under(NabProfile::LOW_FN, threshold),
        })
    }
}

/// NAB's scaled sigmoid: 0 at 0, 0.987 at −1, −1 from 3 on.
fn sigmoid(y: f64) -> f64 {
    if y >= 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * y).exp()) - 1.0 }
}

/// A point as a detection.
struct Detection {
    score: f64,
    /// The window it lies in.
    window: Option<usize>,
    /// What it counts before weighing.
    worth: f64,
}

/// The points of all series, those of the highest score first.
struct Sweep {
    detections: Vec<Detection>,
    windows: usize,
}

impl Sweep {
    fn new(series: &[ScoredSeries]) -> Self {
        let mut sweep = Self { detections: vec![], windows: 0 };
        for s in series {
            let windows = s.segments();
            // The first window that has not ended yet.
            let mut next = 0;
            for (point, &score) in s.scores.iter().enumerate() {
                next += usize::from(windows.get(next).is_some_and(|w| w.end <= point));
                let before = next.checked_sub(1).map(|i| windows[i]);
                let within = windows.get(next).filter(|w| w.start <= point);
                let worth = match (within, before) {
                    (Some(w), _) => sigmoid(-((w.end - point) as f64) / width(w)) / sigmoid(-1.0),
                    (None, Some(w)) => sigmoid((point + 1 - w.end) as f64 / (width(&w) - 1.0)),
                    (None, None) => -1.0,
                };
                let window = within.map(|_| sweep.windows + next);
                sweep.detections.push(Detection { score, window, worth });
            }
            sweep.windows += windows.len();
        }
        sweep.detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        sweep
    }

    /// The score at every threshold that tells points apart, from above the highest score down: (least score
    /// that is detected, normalised score).
    fn curve(&self, profile: NabProfile) -> Vec<(f64, f64)> {
        let NabProfile { true_positive, false_positive, false_negative } = profile;
        let null = -false_negative * self.windows as f64;
        let perfect = true_positive * self.windows as f64;
        let mut windows = vec![-false_negative; self.windows];
        let mut sum = null;
        let mut curve = vec![(f64::INFINITY, 0.0)];
        for (i, detection) in self.detections.iter().enumerate() {
            match detection.window {
                Some(window) => {
                    // The first detection of a window counts, which is the one of most worth.
                    let better = (true_positive * detection.worth).max(windows[window]);
                    sum += better - windows[window];
                    windows[window] = better;
                }
                None => sum += false_positive * detection.worth,
            }
            // Equal scores are detected together.
            if self.detections.get(i + 1).is_none_or(|next| next.score < detection.score) {
                curve.push((detection.score, 100.0 * (sum - null) / (perfect - null)));
            }
        }
        curve
    }

    /// Scores at a threshold, and at the best one.
    fn under(&self, profile: NabProfile, threshold: Option<f64>) -> NabScore {
        let curve = self.curve(profile);
        let at = |t| curve.iter().rev().find(|(least, _)| *least >= t).map_or(0.0, |(_, score)| *score);
        NabScore {
            threshold: threshold.map(at),
            oracle: curve.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

fn width(window: &Interval) -> f64 {
    (window.end - window.start) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Threshold;
    use crate::eval::signal::{AlarmRule, SignalEvaluation, random_reference};
    use proptest::prelude::*;

    fn nab(series: &[ScoredSeries], threshold: f64) -> Option<Nab> {
        let threshold = Threshold { value: threshold, source: "test".into() };
        SignalEvaluation::new(series, Some(&threshold), AlarmRule::default(), 20.0).unwrap().nab
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9 * b.abs().max(1.0)
    }

    /// The benchmark's scorer told again, for one threshold: walk the points, remember the window one is in
    /// and the last one left, keep the best detection of each window.
    fn told_again(series: &[ScoredSeries], threshold: f64, profile: NabProfile) -> f64 {
        let (mut sum, mut windows) = (0.0, 0);
        for s in series {
            let len = s.truths.len();
            let (mut best, mut left): (Option<f64>, Option<(usize, usize)>) = (None, None);
            let mut start = None;
            for i in 0..len {
                let flagged = s.scores[i] >= threshold;
                if s.truths[i] {
                    let from = *start.get_or_insert(i);
                    let right = (i..len).take_while(|&j| s.truths[j]).last().unwrap();
                    let width = (right - from + 1) as f64;
                    let position = -((right - i + 1) as f64) / width;
                    let worth =
                        (2.0 / (1.0 + (5.0 * position).exp()) - 1.0) / (2.0 / (1.0 + (-5.0f64).exp()) - 1.0);
                    if flagged {
                        best = Some(best.unwrap_or(f64::NEG_INFINITY).max(worth * profile.true_positive));
                    }
                    if i == right {
                        windows += 1;
                        sum += best.unwrap_or(-profile.false_negative);
                        (best, left, start) = (None, Some((right, right - from + 1)), None);
                    }
                } else if flagged {
                    let worth = match left {
                        None => -1.0,
                        Some((right, width)) => match (i - right) as f64 / (width as f64 - 1.0) {
                            far if far >= 3.0 => -1.0,
                            near => 2.0 / (1.0 + (5.0 * near).exp()) - 1.0,
                        },
                    };
                    sum += worth * profile.false_positive;
                }
            }
        }
        let null = -profile.false_negative * f64::from(windows);
        100.0 * (sum - null) / (profile.true_positive * f64::from(windows) - null)
    }

    #[test]
    fn an_example_by_hand() {
        // One window, points 4 to 7. Detections: at 1, before any window; at 5, with 3 of 4 points to go; at
        // 9, two points after a window of width 4.
        let truths = [0, 0, 0, 0, 1, 1, 1, 1, 0, 0].map(|t| t == 1);
        let scores = [0, 1, 0, 0, 0, 1, 0, 0, 0, 1].map(f64::from);
        let series = [ScoredSeries::new(&scores, &truths)];
        let at = |y: f64| 2.0 / (1.0 + (5.0 * y).exp()) - 1.0;
        let (found, after) = (at(-0.75) / at(-1.0), at(2.0 / 3.0));
        assert!((found - 0.966_989).abs() < 1e-6 && (after + 0.931_110).abs() < 1e-6, "{found} {after}");
        let nab = nab(&series, 1.0).unwrap();
        // 100·(0.966989 − 0.11 − 0.11·0.931110 + 1) / 2 and so on.
        for (score, want) in [(nab.standard, 87.7283), (nab.low_fp, 77.1072), (nab.low_fn, 91.8189)] {
            assert!((score.threshold.unwrap() - want).abs() < 1e-4, "{score:?}, not {want}");
            // Flagging everything finds the window at its start, and pays for six points; nothing flagged
            // is 0.
            assert!(score.oracle >= score.threshold.unwrap());
        }
        let quiet = self::nab(&series, 2.0).unwrap();
        assert_eq!(quiet.standard.threshold, Some(0.0), "detecting nothing");
    }

    #[test]
    fn the_start_of_each_window_alone_is_perfect() {
        let truths = [0, 1, 1, 0, 0, 1, 1, 1].map(|t| t == 1);
        let scores = [0, 1, 0, 0, 0, 1, 1, 0].map(f64::from);
        let nab = nab(&[ScoredSeries::new(&scores, &truths)], 1.0).unwrap();
        for score in [nab.standard, nab.low_fp, nab.low_fn] {
            assert!(close(score.threshold.unwrap(), 100.0) && close(score.oracle, 100.0), "{score:?}");
        }
    }

    #[test]
    fn no_window_is_no_score_and_random_scores_get_little() {
        assert_eq!(nab(&[ScoredSeries::new(&[1.0, 2.0], &[false; 2])], 1.0), None);
        // Two windows of 200 in 4,000 points, as in the corpus.
        let truths: Vec<bool> = (0..4000).map(|i| i % 2000 >= 1500 && i % 2000 < 1700).collect();
        let row =
            random_reference(&[ScoredSeries::new(&[], &truths)], 0.01, AlarmRule::default(), 20.0, 20, 3)
                .unwrap();
        let mean = |name: &str| row.iter().find(|m| m.0 == name).unwrap().1.mean;
        assert!((0.0..60.0).contains(&mean("oracle.nab.standard")), "{row:?}");
        assert!(mean("nab.standard") < mean("oracle.nab.standard"), "{row:?}");
    }

    #[test]
    fn windows_that_touch_are_two() {
        // Points 1 to 2 and 3 to 5; the first point of each is detected.
        let truths = [0, 1, 1, 1, 1, 1, 0].map(|t| t == 1);
        let scores = [0, 1, 0, 1, 0, 0, 0].map(f64::from);
        let windows = [Interval { start: 1, end: 3 }, Interval { start: 3, end: 6 }];
        let both =
            nab(&[ScoredSeries { segments: Some(&windows), ..ScoredSeries::new(&scores, &truths) }], 1.0)
                .unwrap();
        assert!(close(both.standard.threshold.unwrap(), 100.0), "{both:?}");
        // The second detection alone misses the first window.
        let late = [0, 0, 0, 1, 0, 0, 0].map(f64::from);
        let one = nab(&[ScoredSeries { segments: Some(&windows), ..ScoredSeries::new(&late, &truths) }], 1.0)
            .unwrap();
        assert!(close(one.standard.threshold.unwrap(), 50.0), "{one:?}");
    }

    fn series() -> impl Strategy<Value = Vec<(Vec<f64>, Vec<bool>)>> {
        let runs = prop::collection::vec((any::<bool>(), prop::collection::vec(0i32..6, 1..12)), 1..8);
        let one = runs.prop_map(|runs| {
            runs.into_iter().flat_map(|(t, s)| s.into_iter().map(move |s| (f64::from(s), t))).unzip()
        });
        prop::collection::vec(one, 1..4)
    }

    proptest! {
        #[test]
        fn the_sweep_is_the_scorer_at_every_threshold(all in series(), threshold in 0i32..7) {
            let series: Vec<_> = all.iter().map(|(scores, truths)| ScoredSeries::new(scores, truths)).collect();
            if let Some(nab) = nab(&series, f64::from(threshold)) {
                for (score, profile) in [
                    (nab.standard, NabProfile::STANDARD),
                    (nab.low_fp, NabProfile::LOW_FP),
                    (nab.low_fn, NabProfile::LOW_FN),
                ] {
                    let want = told_again(&series, f64::from(threshold), profile);
                    prop_assert!(close(score.threshold.unwrap(), want), "{:?}, not {want}", score.threshold);
                    let best = (0..7).map(|t| told_again(&series, f64::from(t), profile)).fold(f64::MIN, f64::max);
                    prop_assert!(close(score.oracle, best), "oracle {}, not {best}", score.oracle);
                }
            }
        }
    }
}
