//! Several systems on the same data: one trait for images and series.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::images::ImageComparison;
use super::series::{SeriesComparison, SeriesMetrics};
use super::{Applied, DetectError, Observer, Reading, TrainingData, rate_of};
use crate::device::Device;
use crate::models::Form;
use crate::models::file::{Header, ModelFile};
use crate::report::write_section;

/// What systems are compared on.
#[derive(Debug, Clone)]
pub struct ComparisonData {
    /// What each of them is trained on; its seed is the first.
    pub training: TrainingData,
    /// Trainings of each system, with seeds that follow on each other; of images.
    pub seeds: u64,
    /// Test images at most, as many normal as anomalous where possible.
    pub limit: Option<usize>,
    /// The share of false alarms that thresholds aim at.
    pub rate: f64,
}

impl ComparisonData {
    /// For trained models, which are scored as they are; `first` says what their samples are.
    pub fn of_models(spec: &str, reading: Reading, first: &ModelFile, seed: u64) -> Self {
        let Header { config, data, .. } = &first.header;
        let training = TrainingData {
            form: config.form,
            spec: spec.to_owned(),
            reading,
            window: config.extent()[1],
            hold_out: data.val_fraction,
            augment: String::new(),
            tiles: data.tiles,
            seed,
        };
        Self { training, seeds: 1, limit: None, rate: rate_of(first) }
    }

    /// Opens data that models are scored on, without asking whether systems could be trained on them.
    ///
    /// # Errors
    /// [`DetectError`] where they cannot be read.
    pub fn open_tests(self, observer: &mut dyn Observer) -> Result<Box<dyn Comparison>, DetectError> {
        match self.training.form {
            Form::Image => Ok(Box::new(ImageComparison::new(self))),
            _ => self.open(observer),
        }
    }

    /// Opens the data and makes sure that systems can be trained and tested on them.
    ///
    /// # Errors
    /// [`DetectError`] where they cannot.
    pub fn open(self, observer: &mut dyn Observer) -> Result<Box<dyn Comparison>, DetectError> {
        Ok(match self.training.form {
            Form::Image => Box::new(ImageComparison::open(self)?),
            Form::Signal => Box::new(SeriesComparison::open(self, observer)?),
            Form::Table => {
                return Err(DetectError::Input(
                    "tables are not compared; train and evaluate the systems one by one".to_owned(),
                ));
            }
        })
    }
}

/// Several systems on the same data. Each is trained once for every trial, and its models are scored.
pub trait Comparison {
    /// What each system is trained on.
    fn trials(&self) -> &[Trial];

    /// Channels of the samples, each number once.
    fn channels(&self) -> Vec<usize>;

    /// Whether a system that fails is listed with its reason, and the others are compared.
    fn goes_on(&self) -> bool;

    /// Whether an untrained network has a row of its own.
    fn has_untrained(&self) -> bool;

    /// Scores the test part of a trial with its model; the trials of a system follow on each other from 0.
    ///
    /// # Errors
    /// [`DetectError`] where samples cannot be read or scored, or the observer stops it.
    fn score(&mut self, trial: usize, model: &mut Applied<'_>) -> Result<(), DetectError>;

    /// Adds the system, or model, whose trials were scored, by this name.
    ///
    /// # Errors
    /// [`DetectError`] where no metric follows from its scores.
    fn add(&mut self, name: &str, untrained: bool) -> Result<(), DetectError>;

    /// Writes the pages.
    ///
    /// # Errors
    /// [`DetectError`] for files that cannot be written.
    fn write(
        &mut self,
        device: &Device,
        pages: &ComparisonPages<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Compared, DetectError>;
}

/// One training of each system of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Where its data lie.
    pub spec: String,
    /// Its seed.
    pub seed: u64,
    /// What tells its model file from those of the system's other trials.
    pub suffix: String,
    /// Which data, where there are several.
    pub about: Option<String>,
}

/// The pages of a comparison.
#[derive(Debug, Clone)]
pub struct ComparisonPages<'a> {
    /// Folder that they are written to.
    pub folder: &'a Path,
    /// What each system was given.
    pub budget: String,
    /// Settings by name.
    pub configuration: Vec<(String, String)>,
    /// Systems that could not be trained or scored, each with the reason.
    pub failures: Vec<(String, String)>,
    /// Images shown side by side: of each class so many that are ranked highest and lowest.
    pub panels: usize,
    /// A Markdown file with the name of the section that the table replaces.
    pub markdown: Option<(&'a Path, &'a str)>,
}

impl ComparisonPages<'_> {
    pub(super) fn write_section(&self, table: &str) -> Result<(), DetectError> {
        Ok(self.markdown.map_or(Ok(()), |(file, name)| write_section(file, name, table))?)
    }
}

/// What was compared.
#[derive(Debug)]
pub struct Compared {
    /// The table, in Markdown.
    pub table: String,
    /// As `compare --json` prints it.
    pub document: ComparisonDocument,
    /// `report.html`.
    pub page: PathBuf,
}

/// A comparison as JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ComparisonDocument {
    /// Of images: all of `metrics.json`.
    Samples(serde_json::Value),
    /// Of series: `metrics.json` without the scores along them.
    Points(SeriesMetrics),
}
