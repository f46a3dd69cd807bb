//! What scores without any skill reach: the row that every table of adjusted F1 needs.

use super::{AlarmRule, ScoredSeries, SignalEvaluation};
use crate::eval::bootstrap::SplitMix64;
use crate::eval::{EvalError, Repeated, Threshold};
use rayon::prelude::*;

/// The metrics of [`SignalEvaluation::named`] for uniform random scores, over several seeded runs.
///
/// Of the series only truths and segments are looked at. The threshold flags a share `false_alarm_rate` of
/// all points, as a calibrated one would; K is that of PA%K. The same seed gives the same row.
///
/// Errors: no run, a rate outside (0, 1), K outside 0 to 100.
pub fn random_reference(
    series: &[ScoredSeries],
    false_alarm_rate: f64,
    rule: AlarmRule,
    k: f64,
    runs: usize,
    seed: u64,
) -> Result<Vec<(&'static str, Repeated)>, EvalError> {
    if !(false_alarm_rate > 0.0 && false_alarm_rate < 1.0) {
        return Err(EvalError::FalseAlarmRate(false_alarm_rate));
    }
    let threshold = Threshold { value: 1.0 - false_alarm_rate, source: "random scores".into() };
    let run = |i: u64| {
        ganomede_host::interrupt::check()?;
        let mut random = SplitMix64(seed ^ (i + 1).wrapping_mul(0xA076_1D64_78BD_642F));
        let scores: Vec<Vec<f64>> =
            series.iter().map(|s| s.truths.iter().map(|_| random.uniform()).collect()).collect();
        let series: Vec<ScoredSeries> =
            scores.iter().zip(series).map(|(scores, of)| ScoredSeries { scores, ..*of }).collect();
        Ok(SignalEvaluation::new(&series, Some(&threshold), rule, k)?.named())
    };
    let tables: Result<Vec<_>, EvalError> = (0..runs as u64).into_par_iter().map(run).collect();
    Repeated::of_tables(&tables?)
}

/// The best point-adjusted F1 that flagging points at random reaches, in expectation.
///
/// With anomalous segments of `segment_len` points, a share `prevalence` of all points, and each point
/// flagged with probability p: recall `R = 1 − (1 − p)^L`, precision `γR / (γR + (1 − γ) p)`; the maximum of
/// their F1 over p.
///
/// Errors: a prevalence outside (0, 1), a length below 1.
pub fn random_point_adjusted_f1(prevalence: f64, segment_len: f64) -> Result<f64, EvalError> {
    if !(prevalence > 0.0 && prevalence < 1.0) {
        let range = "a share above 0 and below 1";
        return Err(EvalError::Parameter { what: "prevalence", value: prevalence, range });
    }
    if !(segment_len >= 1.0 && segment_len.is_finite()) {
        let range = "at least 1 point";
        return Err(EvalError::Parameter { what: "segment length", value: segment_len, range });
    }
    let f1 = |p: f64| {
        let recall = -(segment_len * (-p).ln_1p()).exp_m1();
        let precision = prevalence * recall / (prevalence * recall + (1.0 - prevalence) * p);
        2.0 * precision * recall / (precision + recall)
    };
    // F1 is smooth in ln p; this grid, 0.3 % apart, misses its maximum by less than 1e-5.
    const STEPS: u32 = 6000;
    let share = |i: u32| 10f64.powf(-8.0 * f64::from(i) / f64::from(STEPS));
    Ok((0..=STEPS).map(|i| f1(share(i))).fold(0.0, f64::max))
}
