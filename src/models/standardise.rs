//! Each sample with mean 0 and one contrast, so that brightness and contrast decide nothing.
//!
//! y = (x − m) / (3·max(s, 1/255)), clipped to [−1, 1]; m and s are mean and standard deviation over all
//! values of the sample, an image or a tile, all channels together. Three standard deviations fill the
//! networks' range; what lies beyond is clipped. Where s is less than half a gray level of 8 bits (an image
//! of one colour), that level stands for it, so that noise is not blown up: the image becomes 0.

use std::borrow::Cow;

/// Standard deviations that become 1.
const REACH: f64 = 3.0;
/// The least standard deviation, of values in [−1, 1].
const LEAST: f64 = 1.0 / 255.0;

/// What a sample was before it was standardised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Was {
    mean: f64,
    scale: f64,
}

impl Was {
    /// Measures a sample.
    fn of(sample: &[f32]) -> Self {
        let n = sample.len().max(1) as f64;
        let mean = sample.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = sample.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        Self { mean, scale: REACH * variance.sqrt().max(LEAST) }
    }

    /// A value of the standardised sample.
    fn standardised(self, value: f32) -> f32 {
        (((f64::from(value) - self.mean) / self.scale) as f32).clamp(-1.0, 1.0)
    }

    /// Takes what a network made of the standardised sample back to the range of the sample.
    pub fn restore(self, made: &mut [f32]) {
        for value in made {
            *value = ((f64::from(*value) * self.scale + self.mean) as f32).clamp(-1.0, 1.0);
        }
    }
}

/// Samples of `len` values, one after the other, each standardised if `wanted`; what they were before, if so.
pub fn standardised(samples: &[f32], len: usize, wanted: bool) -> (Cow<'_, [f32]>, Vec<Was>) {
    if !wanted {
        return (Cow::Borrowed(samples), vec![]);
    }
    let mut values = Vec::with_capacity(samples.len());
    let measured = samples.chunks(len.max(1)).map(|sample| {
        let was = Was::of(sample);
        values.extend(sample.iter().map(|&value| was.standardised(value)));
        was
    });
    let were = measured.collect();
    (Cow::Owned(values), were)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brightness_and_contrast_are_gone_and_come_back() {
        let sample: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin() * 0.3).collect();
        let other: Vec<f32> = sample.iter().map(|v| v * 0.5 + 0.4).collect();
        let both = [sample.clone(), other.clone()].concat();
        let (y, were) = standardised(&both, 100, true);
        for (a, b) in y[..100].iter().zip(&y[100..]) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        let mean = y[..100].iter().sum::<f32>() / 100.0;
        let sd = (y[..100].iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 100.0).sqrt();
        assert!(mean.abs() < 1e-6 && (sd - 1.0 / 3.0).abs() < 1e-5, "{mean} {sd}");
        let mut made = y[100..].to_vec();
        were[1].restore(&mut made);
        assert!(made.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn one_colour_becomes_nothing_and_far_values_are_clipped() {
        let mut values = vec![0.25; 64];
        assert_eq!(standardised(&values, 64, true).0.as_ref(), [0.0; 64]);
        values[0] = 1.0;
        let (y, _) = standardised(&values, 64, true);
        assert!(y[0] == 1.0 && y[1..].iter().all(|v| v.abs() < 0.1), "{y:?}");
        assert!(matches!(standardised(&values, 64, false), (Cow::Borrowed(_), were) if were.is_empty()));
    }
}
