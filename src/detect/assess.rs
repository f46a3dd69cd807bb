//! Scores of labelled test images by one model, and every metric of them.

use std::sync::Arc;

use ganomede_datasets::{Batch, Dataset, Findings, Indices, Split, Truth};

use super::apply::{Selection, no_image, score_selection};
use super::{Applied, DetectError};
use crate::eval::{Evaluation, EvaluationInput, PixelMap};
use crate::models::ConfigError;
use crate::models::file::{Calibration, ModelFile};
use crate::models::scorer::{Found, Scorer};
use crate::report::{LossCurve, ScoredImage};

/// The labelled test samples of a set, or a part of them.
pub struct TestSet {
    /// The `--data` that was given.
    pub spec: String,
    /// The set.
    pub dataset: Arc<Dataset>,
    /// Entries of its test part that are scored, in order.
    pub indices: Indices,
    /// How the part was chosen.
    pub sub_sample: Option<String>,
}

impl TestSet {
    /// All labelled test samples, or a balanced sub-sample of at most `limit`, chosen by the seed.
    ///
    /// # Errors
    /// For a set without labels or a limit too small.
    pub fn new(
        spec: &str,
        dataset: Arc<Dataset>,
        limit: Option<usize>,
        seed: u64,
    ) -> Result<Self, DetectError> {
        let truth = |i| dataset.entry(Split::Test, i).map_or(Truth::Unknown, |entry| entry.truth);
        if (0..dataset.len(Split::Test)).all(|i| truth(i) == Truth::Unknown) {
            return Err(DetectError::Input(format!(
                "'{spec}' has no labelled test images; eval needs test/good and test/<defect> folders, or a labelled \
                 set with --normal-class; `ganomede score` works without labels"
            )));
        }
        let (indices, sub_sample) = choose(&dataset, limit, seed)?;
        Ok(Self { spec: spec.to_owned(), dataset, indices, sub_sample })
    }
}

/// What a model does with a test set.
pub struct Assessment {
    /// Every metric.
    pub evaluation: Evaluation,
    /// Each labelled image with its score and verdict.
    pub images: Vec<ScoredImage>,
    /// What of the set was not used.
    pub findings: Findings,
    /// Samples of the first batch.
    pub preview: Vec<f32>,
}

/// Sees each labelled sample of a batch, by its place in it, with what was found.
pub type See<'a> = &'a mut dyn FnMut(&Batch, usize, &Found);

/// Scores a test set and computes every metric; `rate` is the share of false alarms that the threshold aims
/// at.
///
/// # Errors
/// [`DetectError`] where images cannot be read or scored, or the observer stops it.
pub fn assess(
    model: &mut Applied<'_>,
    scorer: &mut Scorer,
    test: &TestSet,
    calibration: Option<&Calibration>,
    rate: f64,
    seed: u64,
    see: See<'_>,
) -> Result<Assessment, DetectError> {
    let threshold = match calibration {
        Some(calibration) => Some(calibration.quantiles.threshold(rate)?),
        None => None,
    };
    let (indices, dataset) = (test.indices.clone(), &test.dataset);
    let selection = Selection { data: dataset.clone(), split: Split::Test, indices };
    let (mut scores, mut truths, mut images) = (vec![], vec![], vec![]);
    let mut maps: Vec<(Vec<f32>, Vec<bool>)> = vec![];
    let len = scorer.image_len();
    let mut preview = vec![];
    let mut each = |batch: &Batch, found: Vec<Found>| {
        if preview.is_empty() {
            preview = batch.images[..len * found.len()].to_vec();
        }
        for (i, found) in found.into_iter().enumerate() {
            let anomalous = match batch.truths[i] {
                Truth::Normal => false,
                Truth::Anomalous => true,
                Truth::Unknown => continue,
            };
            images.push(ScoredImage {
                id: batch.ids[i].clone(),
                class: batch.classes[i].clone(),
                anomalous: Some(anomalous),
                score: found.score,
                probability: calibration.map(|c| c.quantiles.probability(found.score)),
                verdict: threshold.as_ref().map(|t| t.is_anomalous(found.score)),
            });
            scores.push(found.score);
            truths.push(anomalous);
            see(batch, i, &found);
            if let (Some(mask), Some(map)) = (&batch.masks[i], found.map) {
                maps.push((map, mask.pixels.clone()));
            }
        }
        Ok(())
    };
    let (count, seconds) = score_selection(scorer, &selection, "scoring", model.observer, &mut each)?;
    let findings = dataset.findings();
    model.observer.findings(&findings);
    if scores.is_empty() {
        return Err(no_image(&test.spec, &findings.rejected));
    }
    let classes: Vec<String> = images.iter().map(|i| i.class.clone()).collect();
    let [height, width] = model.model.header.config.extent();
    let pixels: Vec<_> = maps.iter().map(|(map, mask)| PixelMap { height, width, map, mask }).collect();
    let description = model.device.describe();
    let evaluation = Evaluation::new(&EvaluationInput {
        system: &model.model.header.system,
        device: &description,
        scores: &scores,
        truths: &truths,
        classes: &classes,
        pixels: &pixels,
        threshold,
        seconds_per_image: seconds / count.max(1) as f64,
        sub_sample: test.sub_sample.clone(),
        seed,
    })?;
    Ok(Assessment { evaluation, images, findings, preview })
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

/// All test entries, or a balanced sub-sample of them with a sentence about it.
fn choose(
    dataset: &Dataset,
    limit: Option<usize>,
    seed: u64,
) -> Result<(Indices, Option<String>), DetectError> {
    let total = dataset.len(Split::Test);
    let is_anomalous = |i: usize| match dataset.entry(Split::Test, i).map(|e| e.truth) {
        Some(Truth::Normal) => Some(false),
        Some(Truth::Anomalous) => Some(true),
        // Patches of anomalous images: their masks tell when they are loaded.
        Some(Truth::Unknown) if dataset.options().patch.is_some() => Some(true),
        _ => None,
    };
    Ok(match balanced(total, limit, seed, "images", is_anomalous)? {
        Some((chosen, note)) => (Indices::list(chosen), Some(note)),
        None => (dataset.all(Split::Test), None),
    })
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
pub fn balanced(
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
