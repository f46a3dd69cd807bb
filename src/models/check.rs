//! What a training says of its own model without labels: how well it tells held-out normal images from the
//! same images with synthetic defects.

use serde::{Deserialize, Serialize};

/// A check of a model on held-out normal images and synthetic defects drawn onto them; no label is used.
///
/// It says whether a model is bad, not which of two is the better one: measured on labelled sets, the model
/// that it chose was better than the mean of those it chose from in 9 of 12 tries, while its ranking agreed
/// with the real one by Spearman coefficients from −0.56 to 0.88.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyntheticCheck {
    /// Held-out normal images.
    pub images: usize,
    /// Synthetic defects on them.
    pub defects: usize,
    /// AUROC of defective against clean images.
    pub auroc: f64,
    /// Its bootstrap 95 % interval; of several defects on one image it is somewhat too narrow.
    pub auroc_ci95: [f64; 2],
    /// The same of two numbers, brightness and contrast of the image, against those of the training images;
    /// absent where they were not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub two_numbers: Option<f64>,
    /// The same of the network before its training; absent of systems that are fitted, and of searched
    /// scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrained: Option<f64>,
    /// AUROC of each kind of defect, by name.
    pub kinds: Vec<KindAuroc>,
}

/// How well defects of one kind are told from clean images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindAuroc {
    /// The kind's name.
    pub kind: String,
    /// Defects of the kind.
    pub n: usize,
    /// AUROC of these against all clean images.
    pub auroc: f64,
}

impl SyntheticCheck {
    /// What such a check is worth.
    pub const WORTH: &'static str = "a check without labels: it tells a bad model, and chose one better than the mean of \
                                     its pool in 9 of 12 tries, but is no ranking to rely on";

    /// The result in a line.
    pub fn sentence(&self) -> String {
        let [low, high] = self.auroc_ci95;
        let controls = [("two numbers", self.two_numbers), ("untrained network", self.untrained)];
        let controls: Vec<String> =
            controls.iter().filter_map(|(name, auroc)| Some(format!("{name} {:.3}", (*auroc)?))).collect();
        let beside = if controls.is_empty() { String::new() } else { format!("; {}", controls.join(", ")) };
        format!(
            "detects synthetic defects on {} held-out images with AUROC {:.3} (95 % interval {low:.3} to {high:.3}){beside}",
            self.images, self.auroc
        )
    }

    /// What is wrong with the model, in plain words.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![];
        if self.auroc <= 0.5 {
            warnings.push(
                "worse than chance on synthetic defects: images with a defect score no higher than clean ones; train longer, \
                 or take another system (`ganomede recommend`)"
                    .to_owned(),
            );
        } else if self.auroc_ci95[0] <= 0.5 {
            warnings.push(
                "no better than chance on synthetic defects, as far as these images tell (the interval includes 0.5); where \
                 normal images differ more than such defects do, as textures, that may be so of good models too: see \
                 `ganomede eval` on labelled images"
                    .to_owned(),
            );
        }
        if let Some(two) = self.two_numbers.filter(|&two| self.auroc <= two) {
            warnings.push(format!(
                "no better than two numbers: mean and contrast of the image alone reach {two:.3} on the same defects"
            ));
        }
        if let Some(before) = self.untrained.filter(|&before| self.auroc <= before) {
            warnings.push(format!(
                "no better than the network before its training, which reaches {before:.3} on the same defects"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(auroc: f64, low: f64, two: Option<f64>, before: Option<f64>) -> SyntheticCheck {
        SyntheticCheck {
            images: 50,
            defects: 50,
            auroc,
            auroc_ci95: [low, auroc + 0.05],
            two_numbers: two,
            untrained: before,
            kinds: vec![],
        }
    }

    #[test]
    fn bad_models_are_told_and_good_ones_are_not() {
        assert!(check(0.9, 0.85, Some(0.6), Some(0.7)).warnings().is_empty());
        assert!(check(0.9, 0.85, None, None).warnings().is_empty());
        let worse = check(0.3, 0.2, None, None).warnings();
        assert!(worse.len() == 1 && worse[0].starts_with("worse than chance"), "{worse:?}");
        let doubtful = check(0.55, 0.45, None, None).warnings();
        assert!(doubtful.len() == 1 && doubtful[0].starts_with("no better than chance"), "{doubtful:?}");
        let both = check(0.7, 0.6, Some(0.8), Some(0.75)).warnings();
        assert!(both[0].contains("two numbers") && both[1].contains("before its training"), "{both:?}");
        let sentence = check(0.7, 0.6, Some(0.8), None).sentence();
        assert!(sentence.contains("AUROC 0.700") && sentence.contains("two numbers 0.800"), "{sentence}");
    }
}
