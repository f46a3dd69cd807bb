//! Two numbers of an image, its brightness and its contrast: the control that every detector has to beat, and
//! a sign that queries look otherwise than what was trained on.

use serde::{Deserialize, Serialize};

/// Brightness (mean) and contrast (standard deviation) of the values of an image.
pub fn two_numbers(values: &[f32]) -> [f64; 2] {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    [mean, variance.sqrt()]
}

/// What brightness and contrast of the training images are like: a Gaussian of both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Appearance {
    /// Images that were looked at.
    pub images: usize,
    /// Mean of brightness and of contrast, on the scale of the networks, [−1, 1].
    pub mean: [f64; 2],
    /// Their standard deviations.
    pub deviation: [f64; 2],
    /// Their correlation, in (−1, 1).
    pub correlation: f64,
}

/// Least standard deviation: a quarter of a step of 8 bits, so that sets of equal images have a distance.
const LEAST: f64 = 0.5 / 255.0;
/// Correlation is kept this far from ± 1.
const SHRUNK: f64 = 0.99;
/// Standard deviations of the training images from which on queries look otherwise.
const FAR: f64 = 1.0;

impl Appearance {
    /// Of the two numbers of each training image; `None` of fewer than two images.
    pub fn of(all: &[[f64; 2]]) -> Option<Self> {
        if all.len() < 2 {
            return None;
        }
        let n = all.len() as f64;
        let mean = [0, 1].map(|k| all.iter().map(|two| two[k]).sum::<f64>() / n);
        let product = |j: usize, k: usize| {
            all.iter().map(|two| (two[j] - mean[j]) * (two[k] - mean[k])).sum::<f64>() / n
        };
        let deviation = [0, 1].map(|k| product(k, k).sqrt().max(LEAST));
        let correlation = (product(0, 1) / (deviation[0] * deviation[1])).clamp(-SHRUNK, SHRUNK);
        let appearance = Self { images: all.len(), mean, deviation, correlation };
        let numbers = [mean[0], mean[1], deviation[0], deviation[1], correlation];
        numbers.iter().all(|v| v.is_finite()).then_some(appearance)
    }

    /// Squared Mahalanobis distance of an image: the score of the control.
    pub fn distance(&self, two: [f64; 2]) -> f64 {
        let [a, b] = [0, 1].map(|k| (two[k] - self.mean[k]) / self.deviation[k]);
        let r = self.correlation;
        (a * a - 2.0 * r * a * b + b * b) / (1.0 - r * r)
    }

    /// How far the mean of other images lies from that of the training images, in standard deviations of
    /// single training images: of brightness and of contrast. `None` without images.
    pub fn shift(&self, all: &[[f64; 2]]) -> Option<[f64; 2]> {
        let n = all.len() as f64;
        let mean = |k: usize| all.iter().map(|two| two[k]).sum::<f64>() / n;
        (!all.is_empty()).then(|| [0, 1].map(|k| (mean(k) - self.mean[k]) / self.deviation[k]))
    }

    /// A warning where normal test images look otherwise than the training images did.
    pub fn warning(&self, normal: &[[f64; 2]]) -> Option<String> {
        let [brightness, contrast] = self.shift(normal)?;
        let differs = |shift: f64, more: &str, less: &str| {
            let word = if shift > 0.0 { more } else { less };
            (shift.abs() >= FAR).then(|| format!("{:.1} standard deviations {word}", shift.abs()))
        };
        let parts =
            [differs(brightness, "brighter", "darker"), differs(contrast, "richer", "poorer in contrast")];
        let parts: Vec<String> =
            parts.into_iter().flatten().map(|part| part.replace("richer", "richer in contrast")).collect();
        (!parts.is_empty()).then(|| {
            format!(
                "normal test images are on average {} than the training images: light or camera differ, and scores may \
                 say no more than that; a model that is trained with `standardise` sees neither",
                parts.join(" and ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_of_the_inverse_covariance() {
        let all: Vec<[f64; 2]> = (0..40)
            .map(|i| {
                let (a, b) = (f64::from(i % 8) * 0.1, f64::from(i / 8) * 0.05);
                [a, 0.5 * a + b]
            })
            .collect();
        let appearance = Appearance::of(&all).unwrap();
        let covariance = |j: usize, k: usize| {
            let mean = |k: usize| all.iter().map(|two| two[k]).sum::<f64>() / 40.0;
            all.iter().map(|two| (two[j] - mean(j)) * (two[k] - mean(k))).sum::<f64>() / 40.0
        };
        let matrix =
            nalgebra::Matrix2::new(covariance(0, 0), covariance(0, 1), covariance(1, 0), covariance(1, 1));
        let inverse = matrix.try_inverse().unwrap();
        for two in [[0.0, 0.0], [0.9, 0.1], [-0.4, 0.7]] {
            let away = nalgebra::Vector2::new(two[0] - appearance.mean[0], two[1] - appearance.mean[1]);
            let expected = (away.transpose() * inverse * away)[0];
            assert!((appearance.distance(two) - expected).abs() < 1e-9 * expected.max(1.0));
        }
    }

    #[test]
    fn equal_images_have_a_distance_and_one_image_has_none() {
        assert_eq!(Appearance::of(&[[0.1, 0.2]]), None);
        let same = Appearance::of(&[[0.1, 0.2]; 5]).unwrap();
        assert!(same.distance([0.2, 0.2]) > 100.0 && same.distance([0.1, 0.2]) == 0.0);
        assert_eq!(two_numbers(&[]), [0.0, 0.0]);
        assert_eq!(two_numbers(&[1.0, -1.0]), [0.0, 1.0]);
    }

    #[test]
    fn other_light_is_told_and_the_same_is_not() {
        let training: Vec<[f64; 2]> =
            (0..50).map(|i| [f64::from(i % 5) * 0.1, 0.3 + f64::from(i % 7) * 0.01]).collect();
        let appearance = Appearance::of(&training).unwrap();
        assert_eq!(appearance.warning(&training), None);
        assert_eq!(appearance.warning(&[]), None);
        let brighter: Vec<[f64; 2]> = training.iter().map(|two| [two[0] + 0.3, two[1]]).collect();
        let warning = appearance.warning(&brighter).unwrap();
        assert!(warning.contains("2.1 standard deviations brighter than"), "{warning}");
        let flat: Vec<[f64; 2]> = training.iter().map(|two| [two[0], two[1] - 0.1]).collect();
        assert!(appearance.warning(&flat).unwrap().contains("poorer in contrast than"));
    }
}
