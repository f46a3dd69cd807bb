//! Scores of labelled test images by one model, and every metric of them.

#[cfg(feature = "report")]
use std::path::PathBuf;
use std::sync::Arc;

use ganomede_datasets::{Batch, Dataset, Indices, OpenOptions, Split, Truth};

use super::{Images, options_of};
use crate::detect::apply::{Selection, no_image, score_selection};
use crate::detect::assess::{balanced, calibrated};
use crate::detect::{
    Applied, Assess, Assessment, DetectError, Judge, Observer, SampleAssessment, Samples, TestData, TestSet,
};
#[cfg(feature = "report")]
use crate::detect::{Pages, images::pages};
use crate::eval::{Evaluation, EvaluationInput, PixelMap};
use crate::models::file::ModelFile;
use crate::models::scorer::{Found, Scorer};
use crate::report::ScoredImage;

/// The labelled test images of a set, or a part of them.
pub struct ImageTests {
    /// How they were opened.
    pub data: TestData,
    /// The set.
    pub dataset: Arc<Dataset>,
    /// Entries of its test part that are scored, in order.
    pub indices: Indices,
    /// How the part was chosen.
    pub sub_sample: Option<String>,
}

impl ImageTests {
    /// All labelled test images of a set as a model was trained, or a balanced part of them.
    ///
    /// # Errors
    /// [`DetectError`] where the set cannot be read; else as [`ImageTests::new`].
    pub fn open(data: TestData, model: &ModelFile, observer: &mut dyn Observer) -> Result<Self, DetectError> {
        let dataset = Dataset::open(&data.spec, &options_of(model, data.reading.images.clone()))?;
        observer.opened(&dataset.findings());
        Self::new(data, Arc::new(dataset))
    }

    /// As [`ImageTests::open`], of a set that is open.
    ///
    /// # Errors
    /// For a set without labels or a limit too small.
    pub fn new(data: TestData, dataset: Arc<Dataset>) -> Result<Self, DetectError> {
        let truth = |i| dataset.entry(Split::Test, i).map_or(Truth::Unknown, |entry| entry.truth);
        if (0..dataset.len(Split::Test)).all(|i| truth(i) == Truth::Unknown) {
            return Err(DetectError::Input(format!(
                "'{}' has no labelled test images; eval needs test/good and test/<defect> folders, or a labelled \
                 set with `normal-class`; `ganomede score` works without labels",
                data.spec
            )));
        }
        let (indices, sub_sample) = choose(&dataset, data.limit, data.seed)?;
        Ok(Self { data, dataset, indices, sub_sample })
    }

    /// A scorer of batches of at most `batch` of its images.
    pub(super) fn scorer(&self, model: &Applied<'_>, batch: usize) -> Result<Scorer, DetectError> {
        model.scorer(batch.min(self.indices.len()))
    }

    /// As [`TestSet::assess`]; `see` is given each labelled image of a batch, by its place in it, with what
    /// was found.
    pub(super) fn assess_seen(
        &self,
        model: &mut Applied<'_>,
        how: &Assess,
        see: &mut dyn FnMut(&Batch, usize, &Found),
    ) -> Result<(SampleAssessment, Scorer), DetectError> {
        let held_out = |model: &mut Applied<'_>| match Images::held_out_of(model.model, &self.dataset)? {
            Some(images) => images.held_out_scores_by(how.batch, model),
            None => Ok(vec![]),
        };
        let absent = "no threshold: these search settings differ from the calibrated ones and the training data are not here";
        let calibration = calibrated(model, how.rate, held_out, absent)?;
        let judge = Judge::new(calibration.as_ref(), how.rate)?;
        let mut scorer = self.scorer(model, how.batch)?;
        let selection =
            Selection { data: self.dataset.clone(), split: Split::Test, indices: self.indices.clone() };
        let (mut scores, mut truths, mut images) = (vec![], vec![], vec![]);
        let mut maps: Vec<(Vec<f32>, Vec<bool>)> = vec![];
        let mut each = |batch: &Batch, found: Vec<Found>| {
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
                    probability: judge.probability(found.score),
                    verdict: judge.is_anomalous(found.score),
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
        let (count, seconds) =
            score_selection(&mut scorer, &selection, "scoring", model.observer, &mut each)?;
        let findings = self.dataset.findings();
        model.observer.findings(&findings);
        if scores.is_empty() {
            return Err(no_image(&self.data.spec, &findings.rejected));
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
            threshold: judge.threshold,
            seconds_per_image: seconds / count.max(1) as f64,
            sub_sample: self.sub_sample.clone(),
            seed: how.seed,
        })?;
        let findings = Some(findings);
        Ok((SampleAssessment { evaluation, findings, rows: None, images }, scorer))
    }
}

impl TestSet for ImageTests {
    fn assess(&self, model: &mut Applied<'_>, how: &Assess) -> Result<Assessment, DetectError> {
        let (assessed, _) = self.assess_seen(model, how, &mut |_, _, _| {})?;
        Ok(Assessment::Samples(Box::new(assessed)))
    }

    #[cfg(feature = "report")]
    fn report(
        &self,
        model: &mut Applied<'_>,
        how: &Assess,
        pages: &Pages<'_>,
    ) -> Result<(Assessment, [PathBuf; 2]), DetectError> {
        pages::write(self, model, how, pages)
    }

    fn again(&self, model: &ModelFile, seed: u64) -> Result<Box<dyn Samples>, DetectError> {
        let given = OpenOptions { without_masks: true, ..self.data.reading.images.clone() };
        let dataset = Dataset::open(&self.data.spec, &options_of(model, given))?;
        Ok(Box::new(Images::again(Arc::new(dataset), model, seed)?))
    }
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
