//! How well a model tells labelled samples apart: one trait for images, series and tables.

#[cfg(feature = "report")]
use std::path::{Path, PathBuf};

use ganomede_datasets::{Findings, Indices};
use serde::Serialize;

use super::{Applied, DetectError, HeldOut, PointAssessment, RowCounts, Samples, calibration, own, own_maps};
use crate::eval::Evaluation;
use crate::models::ConfigError;
use crate::models::file::{Calibration, ModelFile};
use crate::report::{LossCurve, ScoredImage};

/// How test samples are judged.
#[derive(Debug, Clone, Copy)]
pub struct Assess {
    /// The share of false alarms that the threshold aims at.
    pub rate: f64,
    /// Images scored side by side.
    pub batch: usize,
    /// Seed of intervals and of random scores.
    pub seed: u64,
}

/// The pages of an evaluation.
#[cfg(feature = "report")]
#[derive(Debug, Clone, Copy)]
pub struct Pages<'a> {
    /// Folder that they are written to.
    pub folder: &'a Path,
    /// Images that are shown of the highest and the lowest scores of each class.
    pub panels: usize,
    /// Folder of sample grids that a training left.
    pub timeline: Option<&'a Path>,
}

/// Labelled samples that a model was not trained on.
pub trait TestSet {
    /// Scores them and computes every metric.
    ///
    /// # Errors
    /// [`DetectError`] where samples cannot be read or scored, or the observer stops it.
    fn assess(&self, model: &mut Applied<'_>, how: &Assess) -> Result<Assessment, DetectError>;

    /// As [`TestSet::assess`], and writes `report.html` and `metrics.json`; gives their paths.
    ///
    /// # Errors
    /// As [`TestSet::assess`], and for files that cannot be written.
    #[cfg(feature = "report")]
    fn report(
        &self,
        model: &mut Applied<'_>,
        how: &Assess,
        pages: &Pages<'_>,
    ) -> Result<(Assessment, [PathBuf; 2]), DetectError>;

    /// The samples that the model was trained on, split by another seed, where the set holds them.
    ///
    /// # Errors
    /// [`DetectError::Input`] where it does not.
    fn again(&self, model: &ModelFile, seed: u64) -> Result<Box<dyn Samples>, DetectError>;
}

/// What a model makes of a test set. As JSON it is what `eval --json` prints.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Assessment {
    /// Of images or rows of tables.
    Samples(Box<SampleAssessment>),
    /// Of the points of a series.
    Points(Box<PointAssessment>),
}

/// What a model makes of images or rows.
#[derive(Debug, Clone, Serialize)]
pub struct SampleAssessment {
    /// Every metric.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Of images: what of the set was not used.
    #[serde(flatten)]
    pub findings: Option<Findings>,
    /// Of a table: what became of its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowCounts>,
    /// Each sample with its score and verdict.
    #[serde(skip)]
    pub images: Vec<ScoredImage>,
}

impl Assessment {
    /// Area under the ROC curve; undefined where one of the classes is missing.
    pub fn auroc(&self) -> Option<f64> {
        match self {
            Self::Samples(samples) => samples.evaluation.auroc,
            Self::Points(points) => points.evaluation.auroc,
        }
    }

    /// The metrics of images or rows.
    pub fn samples(&self) -> Option<&SampleAssessment> {
        match self {
            Self::Samples(samples) => Some(samples),
            Self::Points(_) => None,
        }
    }

    /// What makes the metrics doubtful, a sentence each.
    pub fn warnings(&self) -> &[String] {
        match self {
            Self::Samples(samples) => &samples.evaluation.warnings,
            Self::Points(_) => &[],
        }
    }

    /// The lines that people read.
    pub fn summary(&self) -> String {
        match self {
            Self::Samples(samples) => samples.summary(),
            Self::Points(points) => points.summary(),
        }
    }
}

impl SampleAssessment {
    fn summary(&self) -> String {
        let e = &self.evaluation;
        let number = |value: Option<f64>| value.map_or("undefined".to_owned(), |v| format!("{v:.4}"));
        let interval =
            e.auroc_ci95.map_or(String::new(), |[lo, hi]| format!(" (95 % interval {lo:.4} to {hi:.4})"));
        let skill = e.skill().warning().map_or(String::new(), |warning| format!(": {warning}"));
        let mut lines = vec![
            format!("images: {} normal, {} anomalous", e.n_normal, e.n_anomalous),
            format!("AUROC {}{interval}{skill}", number(e.auroc)),
            format!("AUPR  {} (no skill: {})", number(e.aupr), number(e.aupr_baseline)),
        ];
        if let Some(t) = &e.threshold {
            lines.push(format!(
                "at threshold {:.4} ({}): precision {}, recall {}, F1 {}",
                t.value,
                t.source,
                number(t.precision),
                number(t.recall),
                number(t.f1)
            ));
        }
        if let Some(pixel) = &e.pixel {
            lines.push(format!("pixel AUROC {:.4}, AUPRO {:.4}", pixel.auroc, pixel.aupro));
        }
        if !e.controls.is_empty() {
            let control = |c: &crate::eval::Control| format!("{} {}", c.name, number(c.auroc));
            lines.push(format!(
                "controls: AUROC of {}",
                e.controls.iter().map(control).collect::<Vec<_>>().join(", ")
            ));
        }
        lines.push(format!("{:.4} s per image on {}", e.seconds_per_image, e.device));
        let text = lines.join("\n");
        if self.rows.is_none() {
            return text;
        }
        text.replace("images:", "rows:").replace("per image", "per row")
    }
}

/// The model's own calibration; for other settings of the score a new one from `held_out` samples, where
/// those samples are here, and `absent` is said where they are not.
pub(super) fn calibrated(
    model: &mut Applied<'_>,
    rate: f64,
    held_out: impl FnOnce(&mut Applied<'_>) -> Result<HeldOut, DetectError>,
    absent: &str,
) -> Result<Option<Calibration>, DetectError> {
    let own = own(model.model, model.score);
    // Maps relative to held-out normals need these.
    let has_maps = !model.score.maps.relative || own_maps(model.model, model.score).is_some();
    if let Some(own) = own.filter(|_| has_maps) {
        return Ok(Some(own.clone()));
    }
    let held_out = held_out(model)?;
    if held_out.scores.is_empty() && own.is_none() {
        model.observer.note(absent);
    }
    let new = calibration(held_out, model.score, rate)?;
    Ok(new.or_else(|| own.cloned()))
}

/// The loss history of a model, for reports.
pub fn losses(model: &ModelFile) -> Vec<LossCurve> {
    let curve = |curve: &crate::models::file::Curve| LossCurve {
        name: curve.name.clone(),
        steps: curve.at.clone(),
        steps_per_epoch: model.header.progress.steps_per_epoch,
        values: curve.values.clone(),
    };
    model.header.progress.losses.iter().map(curve).collect()
}

/// Refuses a limit of test samples that leaves nothing to compare.
///
/// # Errors
/// For a limit below two.
pub fn check_limit(limit: Option<usize>) -> Result<(), DetectError> {
    match limit {
        Some(limit @ 0..=1) => Err(ConfigError::new("limit-test", limit, "at least 2").into()),
        _ => Ok(()),
    }
}

/// At most `limit` of `total` test samples, as many normal as anomalous where possible, with a sentence about
/// it; `None` where all fit. Samples of unknown truth are left out.
///
/// # Errors
/// For a limit below two.
pub(super) fn balanced(
    total: usize,
    limit: Option<usize>,
    seed: u64,
    samples: &str,
    is_anomalous: impl Fn(usize) -> Option<bool>,
) -> Result<Option<(Vec<usize>, String)>, DetectError> {
    check_limit(limit)?;
    let Some(limit) = limit.filter(|&l| l < total) else { return Ok(None) };
    let (mut normal, mut anomalous) = (vec![], vec![]);
    for i in Indices::shuffled(total, seed).iter() {
        match is_anomalous(i) {
            Some(false) => normal.push(i),
            Some(true) => anomalous.push(i),
            None => {}
        }
    }
    let half = limit / 2;
    let take_normal = normal.len().min((limit - half).max(limit - anomalous.len().min(limit)));
    let take_anomalous = anomalous.len().min(limit - take_normal);
    let mut chosen: Vec<_> =
        normal[..take_normal].iter().chain(&anomalous[..take_anomalous]).copied().collect();
    chosen.sort_unstable();
    let how =
        format!("{take_normal} normal and {take_anomalous} anomalous of {total} test {samples}, seed {seed}");
    Ok(Some((chosen, how)))
}
