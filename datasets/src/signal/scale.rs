//! Per-channel standardisation to [−1, 1].

use serde::{Deserialize, Serialize};

/// Largest magnitude of a value: the difference of two is still a number.
pub(crate) const LARGEST: f64 = 1e300;
/// Standard deviations beyond which values are clipped.
const CLIP: f64 = 5.0;

/// z-score of each channel, clipped to ± 5 and divided by 5, so that values lie in [−1, 1]. A model keeps the
/// one it was trained with, and finds its channels by their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardize {
    /// Name of each channel; empty in files of earlier versions, whose channels go by their order.
    #[serde(default)]
    pub names: Vec<String>,
    /// Mean of each channel over the training rows.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel over the training rows (divided by n); 1 where a channel is
    /// constant.
    pub sd: Vec<f64>,
}

impl Standardize {
    /// Standard deviations that become 1, beyond which values are clipped.
    pub const REACH: f64 = CLIP;

    /// Fits to rows of one value a channel, one row or more, of magnitudes up to 1e300.
    pub fn fit<'a>(rows: impl Iterator<Item = &'a [f64]> + Clone, names: &[String]) -> Self {
        let count = rows.clone().count().max(1) as f64;
        let (mut means, mut sds) = (Vec::new(), Vec::new());
        for channel in 0..names.len() {
            let first = rows.clone().next().map_or(0.0, |row| row[channel]);
            // Of the distance to the first value, so that a channel far from 0 loses nothing and a constant
            // one is so exactly.
            let apart = || rows.clone().map(|row| row[channel] - first);
            let reach = apart().fold(0.0, |most: f64, value| value.abs().max(most));
            let mean = apart().map(|value| value / count).sum::<f64>();
            // What double precision leaves of a constant channel is no spread.
            let is_constant = reach <= 1e-14 * first.abs();
            // In units of the largest, so that no square is beyond the range of numbers.
            let variance = || apart().map(|value| ((value - mean) / reach).powi(2) / count).sum::<f64>();
            means.push(first + mean);
            sds.push(if is_constant { 1.0 } else { reach * variance().sqrt() });
        }
        Standardize { names: names.to_vec(), mean: means, sd: sds }
    }

    /// One value of a channel, in [−1, 1].
    pub fn apply(&self, channel: usize, value: f64) -> f32 {
        ((value - self.mean[channel]) / self.sd[channel] / CLIP).clamp(-1.0, 1.0) as f32
    }

    /// Back to the channel's unit, for figures; what was clipped stays clipped.
    pub fn invert(&self, channel: usize, scaled: f32) -> f64 {
        f64::from(scaled) * CLIP * self.sd[channel] + self.mean[channel]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(values: &[f64]) -> (f64, f64) {
        let scale = Standardize::fit(values.chunks(1), &["x".to_owned()]);
        (scale.mean[0], scale.sd[0])
    }

    #[test]
    fn channels_far_from_zero_keep_their_spread() {
        // 1 ns and 1 mm steps at the distances of a clock and of the Earth's orbit; numpy.std gives the same.
        for (base, step) in [(1.7e9, 1e-3), (1e12, 0.25), (-3e13, 1.0), (0.0, 1e-200), (-1e299, 1e290)] {
            let values: Vec<f64> = (0..1000).map(|i| base + step * f64::from(i % 5)).collect();
            let (mean, sd) = fit(&values);
            assert!((mean - (base + 2.0 * step)).abs() <= 1e-15 * base.abs() + 1e-3 * step, "{base}: {mean}");
            assert!((sd / step - 2f64.sqrt()).abs() < 1e-3, "{base}: {sd}");
        }
    }

    #[test]
    fn a_constant_channel_has_no_spread_however_it_is_rounded() {
        for value in [0.1, 1e-30, 1.0 / 3.0, 1e39, -7.7e100, 0.0] {
            assert_eq!(fit(&vec![value; 9973]), (value, 1.0));
        }
        // The last bit alone.
        let wobble: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { 0.1 } else { 0.1f64.next_up() }).collect();
        assert_eq!(fit(&wobble).1, 1.0);
    }
}
