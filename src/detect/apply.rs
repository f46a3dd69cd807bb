//! A model applied to samples, batch by batch, under an observer.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ganomede_datasets::{Batch, BatchOptions, Batches, Dataset, Indices, Rejected, Split};
use ganomede_host::line;

use super::{DetectError, Observer, Progress};
use crate::device::Device;
use crate::models::file::ModelFile;
use crate::models::scorer::{Found, ScoreConfig, Scorer};

/// Samples in memory that are scored side by side.
pub(super) const BATCH: usize = 256;

/// A model, the device it runs on, how it scores, and who watches.
pub struct Applied<'a> {
    /// Where it runs.
    pub device: &'a Device,
    /// What is applied.
    pub model: &'a ModelFile,
    /// Its name in messages: the file it is read from or will be written to.
    pub path: &'a Path,
    /// Which score, and how it is searched.
    pub score: &'a ScoreConfig,
    /// Who watches.
    pub observer: &'a mut dyn Observer,
}

impl Applied<'_> {
    /// A scorer of batches of `batch` samples.
    ///
    /// # Errors
    /// [`DetectError::Score`] for settings out of range, a file that does not fit, or a device at fault.
    pub fn scorer(&self, batch: usize) -> Result<Scorer, DetectError> {
        Ok(Scorer::new(self.device, self.model, self.path, self.score, batch)?)
    }

    /// Scores `count` samples in memory; `gather` gives the values of those chosen, one after the other,
    /// `each` sees the number of a sample, its values, and what was found.
    ///
    /// # Errors
    /// [`DetectError`] where a batch cannot be scored or the observer stops it.
    pub fn each(
        &mut self,
        count: usize,
        gather: impl Fn(&[usize]) -> Vec<f32>,
        each: impl FnMut(usize, &[f32], Found) -> Result<(), DetectError>,
    ) -> Result<(), DetectError> {
        let mut scorer = self.scorer(BATCH.min(count.max(1)))?;
        score_in_memory(&mut scorer, count, gather, self.observer, each)
    }
}

/// As [`Applied::each`], with a scorer that is there.
pub(super) fn score_in_memory(
    scorer: &mut Scorer,
    count: usize,
    gather: impl Fn(&[usize]) -> Vec<f32>,
    observer: &mut dyn Observer,
    mut each: impl FnMut(usize, &[f32], Found) -> Result<(), DetectError>,
) -> Result<(), DetectError> {
    let mut counted = Counted::new("scoring", "samples", count, observer);
    let len = scorer.image_len();
    for start in (0..count).step_by(scorer.batch()) {
        counted.goes_on()?;
        let chosen: Vec<usize> = (start..count.min(start + scorer.batch())).collect();
        let samples = gather(&chosen);
        for (i, found) in scorer.score(&samples, None)?.into_iter().enumerate() {
            each(start + i, &samples[i * len..][..len], found)?;
        }
        counted.at(start + chosen.len());
    }
    Ok(())
}

/// A place in a data set of images.
#[derive(Clone)]
pub struct Selection {
    /// The set.
    pub data: Arc<Dataset>,
    /// Its part.
    pub split: Split,
    /// Entries of that part, in the order in which they are scored.
    pub indices: Indices,
}

/// Sees a batch with what was found in it.
pub type Each<'a> = &'a mut dyn FnMut(&Batch, Vec<Found>) -> Result<(), DetectError>;

/// Scores a selection in its order; `each` sees every batch with what was found. Returns images and seconds.
///
/// # Errors
/// [`DetectError`] where an image cannot be read or scored, or the observer stops it.
pub fn score_selection(
    scorer: &mut Scorer,
    selection: &Selection,
    task: &'static str,
    observer: &mut dyn Observer,
    each: Each<'_>,
) -> Result<(usize, f64), DetectError> {
    let options = BatchOptions { batch: scorer.batch(), prefetch: 2, ..BatchOptions::default() };
    let batches = Batches::new(selection.data.clone(), selection.split, selection.indices.clone(), options)?;
    let mut counted = Counted::new(task, "images", selection.indices.len(), observer);
    let started = Instant::now();
    let mut done = 0;
    for batch in batches {
        let batch = batch?;
        counted.goes_on()?;
        let found = scorer.score(&batch.images, None)?;
        done += found.len();
        counted.at(done);
        each(&batch, found)?;
    }
    Ok((done, started.elapsed().as_secs_f64()))
}

/// The error where no image was left to score; the first that cannot be used is named.
pub fn no_image(what: &str, rejected: &[Rejected]) -> DetectError {
    let first = rejected
        .first()
        .map_or(String::new(), |r| format!("; the first, {}: {}", line(&r.path), line(&r.reason)));
    DetectError::Input(format!("none of the images of {} can be used{first}", line(what)))
}

/// Work that is counted from 0; it ends, for the observer, when this is dropped.
struct Counted<'a> {
    progress: Progress<'static>,
    observer: &'a mut dyn Observer,
}

impl<'a> Counted<'a> {
    fn new(task: &'static str, unit: &'static str, total: usize, observer: &'a mut dyn Observer) -> Self {
        let total = Some(total as u64);
        let progress =
            Progress { task, unit, first: 0, done: 0, total, stage: None, losses: &[], ended: false };
        observer.progress(&progress);
        Self { progress, observer }
    }

    fn goes_on(&mut self) -> Result<(), DetectError> {
        if self.observer.goes_on() { Ok(()) } else { Err(DetectError::Stopped) }
    }

    fn at(&mut self, done: usize) {
        self.progress.done = done as u64;
        self.observer.progress(&self.progress);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.progress.ended = true;
        self.observer.progress(&self.progress);
    }
}
