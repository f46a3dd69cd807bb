//! Images to be scored.

use std::sync::Arc;

use ganomede_datasets::{DataError, Dataset, Findings, Indices, OpenOptions, Rejected, Split};

use super::options_of;
use crate::detect::apply::{Selection, no_image, score_selection};
use crate::detect::{Answer, Answers, Applied, DetectError, Draw, Judge, Queries, QueryData, Seen};
use crate::models::file::ModelFile;

/// Images of one or more sets.
pub struct ImageQueries {
    specs: Vec<String>,
    sets: Vec<Selection>,
    /// Files that could not be opened.
    rejected: Vec<Rejected>,
    /// What was decided, a sentence each.
    notes: Vec<String>,
}

impl ImageQueries {
    /// Opens everything to be scored; of several paths, a file that cannot be used is listed and skipped
    /// unless the reading is strict.
    ///
    /// # Errors
    /// [`DetectError`] where a set cannot be read, or none holds an image of the part asked for.
    pub fn open(data: QueryData, model: &ModelFile) -> Result<Self, DetectError> {
        let QueryData { specs, reading, split, limit, seed } = data;
        let options = OpenOptions { without_masks: true, ..reading.images };
        let options = options_of(model, options);
        let (mut sets, mut rejected, mut notes) = (vec![], vec![], vec![]);
        for spec in &specs {
            let data = match Dataset::open(spec, &options) {
                Ok(data) => Arc::new(data),
                Err(DataError::File { path, reason }) if specs.len() > 1 && !options.strict => {
                    rejected.push(Rejected { path: path.to_string_lossy().into_owned(), reason });
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let other = if data.is_empty(Split::Test) { Split::Train } else { Split::Test };
            let split = split.unwrap_or(other);
            let mut indices = data.all(split);
            if indices.is_empty() {
                let name = split.name();
                let reason = format!("'{spec}' has no {name} images; choose the other `split`");
                return Err(DetectError::Input(reason));
            }
            if let Some(limit) = limit.filter(|&limit| limit < indices.len()) {
                notes.push(format!("{limit} of {} images of '{spec}' at random, seed {seed}", indices.len()));
                indices = drawn(indices.len(), limit, seed);
            }
            sets.push(Selection { data, split, indices });
        }
        if sets.is_empty() {
            return Err(no_image(&specs.join(" "), &rejected));
        }
        Ok(Self { specs, sets, rejected, notes })
    }
}

/// `limit` of `count` samples, drawn by the seed, in their order.
fn drawn(count: usize, limit: usize, seed: u64) -> Indices {
    let mut chosen: Vec<_> = Indices::shuffled(count, seed).take(limit).iter().collect();
    chosen.sort_unstable();
    Indices::list(chosen)
}

impl Queries for ImageQueries {
    fn answers(
        &self,
        model: &mut Applied<'_>,
        judge: &Judge<'_>,
        batch: usize,
        draw: Draw<'_>,
    ) -> Result<Answers, DetectError> {
        self.notes.iter().for_each(|text| model.observer.note(text));
        let largest = self.sets.iter().map(|set| set.indices.len()).max().unwrap_or(1);
        let mut scorer = model.scorer(batch.min(largest))?;
        if !judge.is_calibrated() {
            let note = "no calibration for these score settings: scores come without probability and verdict";
            model.observer.note(note);
        }
        let len = scorer.image_len();
        let (mut images, mut rejected, mut skipped) = (vec![], self.rejected.clone(), vec![]);
        for set in &self.sets {
            let findings = set.data.findings();
            model.observer.opened(&findings);
            skipped.extend(findings.skipped);
            score_selection(&mut scorer, set, "scoring", model.observer, &mut |batch, found| {
                for (i, found) in found.iter().enumerate() {
                    let (id, values) = (batch.ids[i].as_str(), &batch.images[i * len..][..len]);
                    let map = draw(&Seen { number: images.len(), id, values, found })?;
                    images.push(Answer { map, ..Answer::new(id, found.score, judge) });
                }
                Ok(())
            })?;
            let findings = set.data.findings();
            model.observer.findings(&Findings { rejected: vec![], ..findings.clone() });
            rejected.extend(findings.rejected);
        }
        if images.is_empty() {
            return Err(no_image(&self.specs.join(" "), &rejected));
        }
        model.observer.findings(&Findings { rejected: rejected.clone(), ..Findings::default() });
        Ok(Answers::Samples { images, rejected, skipped })
    }
}
