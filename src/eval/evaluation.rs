//! The result of `eval`: every image and pixel metric of one system on one data set.

use super::{
    Confusion, EvalError, PixelMap, PixelMetrics, Threshold, auprc_trapz, auroc, auroc_ci95,
    auroc_ci95_of_groups, average_precision, check, confusion, equal_error_rate, f1_at_prevalence, f1_max,
    no_skill_aupr, pixel_metrics, youden,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What an [`Evaluation`] is computed from. `scores`, `truths` and `classes` run in parallel.
#[derive(Debug, Clone, Default)]
pub struct EvaluationInput<'a> {
    /// System name, e.g. `anogan`.
    pub system: &'a str,
    /// Device the scores were computed on.
    pub device: &'a str,
    /// Anomaly score of each test image.
    pub scores: &'a [f64],
    /// True for anomalous images.
    pub truths: &'a [bool],
    /// Class of each image, e.g. `good` or the defect's name; empty if unknown.
    pub classes: &'a [String],
    /// Number of the group of each image, where they come in groups that intervals redraw whole; else empty.
    pub groups: &'a [u32],
    /// Maps of the images that have a ground truth; normal images with an all-false mask belong here too.
    pub pixels: &'a [PixelMap<'a>],
    /// Metrics of pixels that were pooled as they came, instead of `pixels`.
    pub pooled: Option<PixelMetrics>,
    /// Threshold from held-out normals, never from the test set.
    pub threshold: Option<Threshold>,
    /// Wall-clock seconds to score one image.
    pub seconds_per_image: f64,
    /// How the test set was sub-sampled, if it was.
    pub sub_sample: Option<String>,
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// All metrics of one system on one data set; serialises to the document of `eval --json`.
///
/// A metric that the data do not define (one class only, no masks) is `None` and serialises as null;
/// `pixel` and `sub_sample` are then left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// System name.
    pub system: String,
    /// Device the scores were computed on.
    pub device: String,
    /// Normal test images.
    pub n_normal: usize,
    /// Anomalous test images.
    pub n_anomalous: usize,
    /// Area under the ROC curve.
    pub auroc: Option<f64>,
    /// Its bootstrap 95 % interval, `[lo, hi]`.
    pub auroc_ci95: Option<[f64; 2]>,
    /// Average precision.
    pub aupr: Option<f64>,
    /// Trapezoid area under the precision–recall curve: optimistic, for comparison with papers that quote it.
    pub auprc_trapz: Option<f64>,
    /// Average precision without skill: the prevalence.
    pub aupr_baseline: Option<f64>,
    /// Oracle: best F1 of any threshold.
    pub f1_max: Option<f64>,
    /// Oracle: the threshold of `f1_max`.
    pub f1_max_threshold: Option<f64>,
    /// Oracle: F1 where as many images are flagged as are anomalous.
    pub f1_at_prevalence: Option<f64>,
    /// Oracle: equal error rate.
    pub eer: Option<f64>,
    /// Oracle: the threshold that maximises TPR − FPR.
    pub youden_threshold: Option<f64>,
    /// Decisions of the calibrated threshold; null for an uncalibrated model.
    pub threshold: Option<ThresholdMetrics>,
    /// Localisation metrics, if there are masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixel: Option<PixelMetrics>,
    /// AUROC of each anomalous class against all normal images, by name.
    pub classes: Vec<ClassAuroc>,
    /// Wall-clock seconds to score one image.
    pub seconds_per_image: f64,
    /// How the test set was sub-sampled, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_sample: Option<String>,
    /// Groups of test images, where intervals redraw whole groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// What scores the same samples without having learnt what anomalies look like; none where none is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Control>,
    /// What makes the metrics doubtful, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A score that every system has to beat, on the same samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Control {
    /// What it is: `two numbers`, `untrained network`, `constant`.
    pub name: &'static str,
    /// Area under the ROC curve; undefined where one of the classes is missing.
    pub auroc: Option<f64>,
    /// Its bootstrap 95 % interval, `[lo, hi]`.
    pub auroc_ci95: Option<[f64; 2]>,
}

impl Control {
    /// Brightness and contrast of an image against those of the training images.
    pub const TWO_NUMBERS: &str = "two numbers";
    /// The system as it is before its training.
    pub const UNTRAINED: &str = "untrained network";
    /// The same score for every sample.
    pub const CONSTANT: &str = "constant";

    /// A control by the scores that it gives.
    ///
    /// # Errors
    /// As [`Evaluation::new`].
    pub fn new(
        name: &'static str,
        scores: &[f64],
        truths: &[bool],
        groups: &[u32],
        seed: u64,
    ) -> Result<Self, EvalError> {
        let (auroc, auroc_ci95) = (auroc(scores, truths)?, interval(scores, truths, groups, seed)?);
        Ok(Self { name, auroc, auroc_ci95 })
    }
}

/// The interval of an AUROC, by whole groups where there are any.
fn interval(
    scores: &[f64],
    truths: &[bool],
    groups: &[u32],
    seed: u64,
) -> Result<Option<[f64; 2]>, EvalError> {
    match groups {
        [] => auroc_ci95(scores, truths, seed),
        groups => auroc_ci95_of_groups(scores, truths, groups, seed),
    }
}

/// Decisions of the deployed threshold on the test set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThresholdMetrics {
    /// The threshold: images that score at or above it are flagged.
    pub value: f64,
    /// How it was chosen.
    pub source: String,
    /// TP / (TP + FP); 0 if nothing is flagged.
    pub precision: Option<f64>,
    /// TP / anomalies.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// FP / normals, as measured on the test set.
    pub false_alarm_rate: Option<f64>,
    /// The counts behind these.
    pub confusion: Confusion,
}

/// How well one anomalous class is told from normal images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassAuroc {
    /// Class name.
    pub class: String,
    /// Images of the class.
    pub n: usize,
    /// AUROC of these against all normal images.
    pub auroc: Option<f64>,
}

impl Evaluation {
    /// Computes every metric.
    ///
    /// Errors: lists of unequal length, scores or map values that are not finite.
    pub fn new(input: &EvaluationInput) -> Result<Self, EvalError> {
        let EvaluationInput { scores, truths, .. } = *input;
        check(scores, truths)?;
        super::check_finite("seconds per image", &[input.seconds_per_image])?;
        let n_anomalous = truths.iter().filter(|&&t| t).count();
        let best = f1_max(scores, truths)?;
        Ok(Self {
            system: input.system.to_owned(),
            device: input.device.to_owned(),
            n_normal: truths.len() - n_anomalous,
            n_anomalous,
            auroc: auroc(scores, truths)?,
            auroc_ci95: interval(scores, truths, input.groups, input.seed)?,
            aupr: average_precision(scores, truths)?,
            auprc_trapz: auprc_trapz(scores, truths)?,
            aupr_baseline: no_skill_aupr(truths),
            f1_max: best.map(|b| b.0),
            f1_max_threshold: best.map(|b| b.1),
            f1_at_prevalence: f1_at_prevalence(scores, truths)?,
            eer: equal_error_rate(scores, truths)?,
            youden_threshold: youden(scores, truths)?.map(|p| p.threshold),
            threshold: input
                .threshold
                .as_ref()
                .map(|t| ThresholdMetrics::new(t, scores, truths))
                .transpose()?,
            pixel: match input.pooled {
                Some(pooled) => Some(pooled),
                None => pixel_metrics(input.pixels)?,
            },
            classes: class_aurocs(input)?,
            seconds_per_image: input.seconds_per_image,
            sub_sample: input.sub_sample.clone(),
            groups: (!input.groups.is_empty()).then(|| input.groups.iter().collect::<BTreeSet<_>>().len()),
            controls: vec![],
            warnings: vec![],
        })
    }

    /// The same beside these controls; what follows from them, and from the interval of the AUROC, is added
    /// to the warnings.
    #[must_use]
    pub fn with_controls(mut self, controls: Vec<Control>) -> Self {
        let skill = self.skill().warning();
        self.warnings.extend(skill.map(|warning| format!("{} ranks {warning}", self.system)));
        for control in &controls {
            if let (Some(own), Some(auroc)) = (self.auroc, control.auroc)
                && own <= auroc
                && control.name != Control::CONSTANT
            {
                let what = match control.name {
                    Control::TWO_NUMBERS => "two numbers, the mean and contrast of an image, reach",
                    _ => "the network before its training reaches",
                };
                self.warnings.push(format!(
                    "{what} an AUROC of {auroc:.3} on the same samples, and {} no more: {own:.3}",
                    self.system
                ));
            }
        }
        self.controls = controls;
        self
    }

    /// Whether the ranking is shown to be better than chance: by the interval where there is one.
    pub fn skill(&self) -> Skill {
        let (Some(auroc), interval) = (self.auroc, self.auroc_ci95) else { return Skill::Unknown };
        let [low, high] = interval.unwrap_or([auroc; 2]);
        match () {
            () if high < 0.5 => Skill::Inverted,
            () if low <= 0.5 => Skill::None,
            () => Skill::Shown,
        }
    }

    /// The metrics that tables and repeated runs quote, by their names in the document of `eval --json`.
    pub fn named(&self) -> Vec<(&'static str, Option<f64>)> {
        let threshold = self.threshold.as_ref();
        vec![
            ("auroc", self.auroc),
            ("aupr", self.aupr),
            ("auprc_trapz", self.auprc_trapz),
            ("f1_max", self.f1_max),
            ("f1_at_prevalence", self.f1_at_prevalence),
            ("eer", self.eer),
            ("threshold.precision", threshold.and_then(|t| t.precision)),
            ("threshold.recall", threshold.and_then(|t| t.recall)),
            ("threshold.f1", threshold.and_then(|t| t.f1)),
            ("threshold.false_alarm_rate", threshold.and_then(|t| t.false_alarm_rate)),
            ("pixel.auroc", self.pixel.map(|p| p.auroc)),
            ("pixel.aupro", self.pixel.map(|p| p.aupro)),
            ("seconds_per_image", Some(self.seconds_per_image)),
        ]
    }
}

/// What an AUROC with its interval says against chance, which is 0.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skill {
    /// There is no AUROC: one class only.
    Unknown,
    /// The interval lies above chance.
    Shown,
    /// The interval includes chance: a hit may be luck.
    None,
    /// The interval lies below chance: normal samples score higher than anomalous ones.
    Inverted,
}

impl Skill {
    /// What it is called where it is no skill.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Unknown | Self::Shown => None,
            Self::None => Some("no better than chance: the interval includes 0.5"),
            Self::Inverted => Some("worse than chance: normal samples score higher than anomalous ones"),
        }
    }

    /// False where a right verdict may be luck.
    pub fn counts(self) -> bool {
        self.warning().is_none()
    }
}

impl ThresholdMetrics {
    fn new(threshold: &Threshold, scores: &[f64], truths: &[bool]) -> Result<Self, EvalError> {
        super::check_finite("threshold", &[threshold.value])?;
        let confusion = confusion(scores, truths, threshold.value)?;
        Ok(Self {
            value: threshold.value,
            source: threshold.source.clone(),
            precision: confusion.precision(),
            recall: confusion.recall(),
            f1: confusion.f1(),
            false_alarm_rate: confusion.false_alarm_rate(),
            confusion,
        })
    }
}

fn class_aurocs(input: &EvaluationInput) -> Result<Vec<ClassAuroc>, EvalError> {
    let EvaluationInput { scores, truths, classes, .. } = *input;
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    if classes.len() != scores.len() {
        return Err(EvalError::Length {
            what: "classes",
            got: classes.len(),
            expected: scores.len(),
            per: "score",
        });
    }
    let normal: Vec<f64> = scores.iter().zip(truths).filter(|&(_, &t)| !t).map(|(&s, _)| s).collect();
    let mut by_class: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for ((&score, class), _) in scores.iter().zip(classes).zip(truths).filter(|&(_, &t)| t) {
        by_class.entry(class).or_default().push(score);
    }
    let against_normals = |(class, mut scores): (&str, Vec<f64>)| {
        let n = scores.len();
        let mut truths = vec![true; n];
        scores.extend(&normal);
        truths.resize(scores.len(), false);
        Ok(ClassAuroc { class: class.to_owned(), n, auroc: auroc(&scores, &truths)? })
    };
    by_class.into_iter().map(against_normals).collect()
}
