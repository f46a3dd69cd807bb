//! Data by the form that they have: the one place where a form is chosen.

use std::path::Path;

use ganomede_datasets::{Augment, OpenOptions, SignalOptions, Split, TableOptions, Warp};

use super::images::{self, ImageQueries, ImageTests, Images};
use super::rows::{self, RowQueries, RowTests, Rows};
use super::series::{self, Series, SeriesQueries, SeriesTests};
use super::{Applied, DetectError, HeldOut, Observer, Queries, Samples, Shard, TestSet};
use crate::models::Form;
use crate::models::file::{ModelFile, TileInfo};

/// How data are read, whatever they are: each form takes what concerns it.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Of images.
    pub images: OpenOptions,
    /// Of series.
    pub series: SignalOptions,
    /// Of tables.
    pub table: TableOptions,
    /// Points between the starts of windows of series that are scored; 1 if left open, a quarter of a window
    /// for searched scores.
    pub stride: Option<usize>,
}

/// Data to be trained on.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// What one sample is.
    pub form: Form,
    /// Where the data lie.
    pub spec: String,
    /// How they are read.
    pub reading: Reading,
    /// Points of a window of a series.
    pub window: usize,
    /// Share held out for calibration.
    pub hold_out: f64,
    /// Of large images: how they are cut into tiles.
    pub tiles: Option<TileInfo>,
    /// Augmentation, empty for none.
    pub augment: String,
    /// Seed of what is held out.
    pub seed: u64,
}

impl TrainingData {
    /// Refuses, before any data are read, an augmentation that such samples cannot have.
    ///
    /// # Errors
    /// [`DetectError`] for a list that does not parse.
    pub fn check(&self) -> Result<(), DetectError> {
        match self.form {
            Form::Image => self.augment.parse::<Augment>().map(|_| ())?,
            Form::Signal => self.augment.parse::<Warp>().map(|_| ())?,
            Form::Table if self.augment.is_empty() => {}
            Form::Table => {
                return Err(DetectError::Input(
                    "augmentation is for images and windows of series; rows are taken as they are".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// Opens them; the observer is told what was decided.
    ///
    /// # Errors
    /// [`DetectError`] where they cannot be read or hold nothing to train on.
    pub fn open(&self, observer: &mut dyn Observer) -> Result<Box<dyn Samples>, DetectError> {
        self.check()?;
        let samples: Box<dyn Samples> = match self.form {
            Form::Image => Box::new(Images::open(self)?),
            Form::Signal => Box::new(Series::open(self)?),
            Form::Table => Box::new(Rows::open(self)?),
        };
        observer.opened(&samples.findings());
        samples.notes().iter().for_each(|text| observer.note(text));
        Ok(samples)
    }
}

/// Data to be scored by a trained model.
#[derive(Debug, Clone, Default)]
pub struct QueryData {
    /// Where they lie.
    pub specs: Vec<String>,
    /// How they are read.
    pub reading: Reading,
    /// Which part of a set with two.
    pub split: Option<Split>,
    /// Samples of each set at most, drawn by the seed.
    pub limit: Option<usize>,
    /// Seed of that draw.
    pub seed: u64,
    /// The part of all of it that is scored; everything without one.
    pub shard: Option<Shard>,
}

impl QueryData {
    /// Opens what is to be open before the first sample is scored.
    ///
    /// # Errors
    /// [`DetectError`] where nothing can be scored.
    pub fn open(self, model: &ModelFile) -> Result<Box<dyn Queries>, DetectError> {
        Ok(match model.header.config.form {
            Form::Image => Box::new(ImageQueries::open(self, model)?),
            Form::Signal => Box::new(SeriesQueries::new(self)?),
            Form::Table => Box::new(RowQueries::new(self)?),
        })
    }
}

/// Makes sure before the first of several files is scored that the others are there.
pub(super) fn check_paths(specs: &[String]) -> Result<(), DetectError> {
    let is_there = |spec: &String| spec.starts_with("builtin:") || Path::new(spec).exists();
    match specs.iter().find(|spec| !is_there(spec)) {
        None => Ok(()),
        Some(spec) => Err(DetectError::Input(format!("'{spec}': no such file or folder; check the path"))),
    }
}

/// Labelled data that a trained model is evaluated on.
#[derive(Debug, Clone, Default)]
pub struct TestData {
    /// Where they lie.
    pub spec: String,
    /// How they are read.
    pub reading: Reading,
    /// Test samples at most, as many normal as anomalous where possible.
    pub limit: Option<usize>,
    /// Seed of that choice.
    pub seed: u64,
}

impl TestData {
    /// Opens them as the model was trained; `path` is what messages call the model.
    ///
    /// # Errors
    /// [`DetectError`] for data that cannot be read or say nothing of what is anomalous.
    pub fn open(
        self,
        model: &ModelFile,
        path: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Box<dyn TestSet>, DetectError> {
        Ok(match model.header.config.form {
            Form::Image => Box::new(ImageTests::open(self, model, observer)?),
            Form::Signal => Box::new(SeriesTests::open(self, model, observer)?),
            Form::Table => Box::new(RowTests::open(self, model, path, observer)?),
        })
    }
}

/// Normal samples that a trained model has not seen, for a new threshold.
#[derive(Debug, Clone, Default)]
pub struct NormalData {
    /// Where they lie.
    pub spec: String,
    /// How they are read.
    pub reading: Reading,
}

impl NormalData {
    /// Their scores, and the scale of their maps.
    ///
    /// # Errors
    /// [`DetectError::Input`] for what the model was trained on, or what is known to be anomalous; else as
    /// [`Queries::answers`].
    pub fn held_out(&self, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
        match model.model.header.config.form {
            Form::Image => images::normal(self, model),
            Form::Signal => series::normal(self, model),
            Form::Table => rows::normal(self, model),
        }
    }

    /// The error where the model has seen them.
    pub(super) fn seen(&self) -> DetectError {
        DetectError::Input(format!(
            "'{}' is what the model was trained on, and scores of that are lower than those of new samples; give \
             normal samples that it has not seen",
            self.spec
        ))
    }
}
