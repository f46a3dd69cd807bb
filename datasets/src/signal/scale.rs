//! Per-channel standardisation to [−1, 1].

use serde::{Deserialize, Serialize};

/// Standard deviations beyond which values are clipped.
const CLIP: f64 = 5.0;

/// z-score of each channel, clipped to ± 5 and divided by 5, so that values lie in [−1, 1]. A model keeps the one it was
/// trained with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standardize {
    /// Mean of each channel over the training rows.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel over the training rows (divided by n); 1 where a channel is constant.
    pub sd: Vec<f64>,
}

impl Standardize {
    /// Fits to rows of `channels` values each, in two passes; `rows` must hold one row or more.
    pub(crate) fn fit<'a>(rows: impl Iterator<Item = &'a [f64]> + Clone, channels: usize) -> Self {
        let count = rows.clone().count().max(1) as f64;
        let mut mean = vec![0.0; channels];
        for row in rows.clone() {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / count);
        }
        let mut sd = vec![0.0; channels];
        for row in rows {
            sd.iter_mut().zip(row).zip(&mean).for_each(|((s, x), m)| *s += (x - m) * (x - m) / count);
        }
        for (sd, mean) in sd.iter_mut().zip(&mean) {
            // What rounding leaves of a constant channel is no spread.
            *sd = if sd.sqrt() > 1e-9 * mean.abs().max(1e-30) { sd.sqrt() } else { 1.0 };
        }
        Standardize { mean, sd }
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
