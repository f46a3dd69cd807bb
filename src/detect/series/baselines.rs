//! What needs no training: the rows that a trained system has to beat.

use std::ops::Range;

use ganomede_datasets::SignalSet;

use crate::detect::DetectError;
use crate::eval::Quantiles;

/// Scores of rows of a series, given the length of a window.
pub type Baseline = fn(&SignalSet, Range<usize>, usize) -> Vec<f64>;

/// Names and scores.
pub const BASELINES: [(&str, Baseline); 2] =
    [("distance to the training mean", to_mean), ("distance to the moving average", to_moving_average)];

/// Scores of the test rows, and the quantiles of those of the rows that were held out; `None` where none
/// were.
pub fn scored(
    baseline: Baseline,
    set: &SignalSet,
    val_fraction: f64,
    size: usize,
) -> Result<Option<(Vec<f64>, Quantiles)>, DetectError> {
    if set.train_rows().is_empty() {
        return Ok(None);
    }
    let (_, held_out) = set.holdout(val_fraction, size)?;
    if held_out.is_empty() {
        return Ok(None);
    }
    let quantiles = Quantiles::new(&baseline(set, held_out, size))?;
    Ok(Some((baseline(set, set.test_rows(), size), quantiles)))
}

fn scaled(set: &SignalSet, row: usize, channel: usize) -> f64 {
    f64::from(set.scale().apply(channel, set.series().row(row)[channel]))
}

/// |x − mean of the training rows| in standard deviations, mean over channels.
fn to_mean(set: &SignalSet, rows: Range<usize>, _: usize) -> Vec<f64> {
    let channels = set.channels();
    let value = |row| (0..channels).map(|c| scaled(set, row, c).abs()).sum::<f64>() / channels as f64;
    rows.map(value).collect()
}

/// |x − mean of the `size` rows before it| in standard deviations of the training rows, mean over channels; 0 at the first row.
fn to_moving_average(set: &SignalSet, rows: Range<usize>, size: usize) -> Vec<f64> {
    let (first, channels) = (rows.start.saturating_sub(size), set.channels());
    let mut sums = vec![0.0; rows.len()];
    for c in 0..channels {
        let values: Vec<f64> = (first..rows.end).map(|row| scaled(set, row, c)).collect();
        // before[i]: the sum of the first i values.
        let mut before = vec![0.0; values.len() + 1];
        values.iter().enumerate().for_each(|(i, value)| before[i + 1] = before[i] + value);
        for (sum, row) in sums.iter_mut().zip(rows.clone()) {
            let at = row - first;
            let from = at.saturating_sub(size);
            if at > from {
                let mean = (before[at] - before[from]) / (at - from) as f64;
                *sum += (values[at] - mean).abs() / channels as f64;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use ganomede_datasets::SignalOptions;

    #[test]
    fn a_moving_average_looks_back_over_a_window() {
        let set = SignalSet::open("builtin:telemetry:train=60,test=40", &SignalOptions::default()).unwrap();
        let size = 8;
        for rows in [0..20, 60..100] {
            let scores = to_moving_average(&set, rows.clone(), size);
            for (row, score) in rows.zip(scores) {
                let window: Vec<usize> = (row.saturating_sub(size)..row).collect();
                let want = match window.len() {
                    0 => 0.0,
                    n => {
                        let apart = |c| {
                            let mean = window.iter().map(|&row| scaled(&set, row, c)).sum::<f64>() / n as f64;
                            (scaled(&set, row, c) - mean).abs()
                        };
                        (0..set.channels()).map(apart).sum::<f64>() / set.channels() as f64
                    }
                };
                assert!((score - want).abs() < 1e-9, "row {row}: {score}, not {want}");
            }
        }
    }
}
