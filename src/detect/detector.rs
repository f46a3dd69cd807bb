//! A trained system with its preprocessing, calibration and threshold, ready to judge samples.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ganomede_datasets::{Dataset, OpenOptions, decode_image, prepare_image};
use image::DynamicImage;

use super::builder::TrainingBuilder;
use super::calibrate::own_of_samples;
use super::locate::one_split;
use super::samples::check_measured;
use super::{
    Answers, Applied, Assess, Assessment, DetectError, Judge, MapOutputs, Observer, QueryData, TestData,
    options_of, own, rate_of,
};
use crate::device::Device;
use crate::eval::Threshold;
use crate::models::file::{Calibration, ModelFile, Scaling};
use crate::models::scorer::{Found, ScoreConfig, Scorer};
use crate::models::{ConfigError, Form, Info};

/// A trained detector on a device.
///
/// It is `Send + Sync`: programs are kept per batch size, and several threads score side by side, each with a
/// program of its own; on a GPU the launches of all threads go through one queue, one submission after the
/// other.
pub struct Detector {
    device: Device,
    model: ModelFile,
    /// Its name in messages.
    name: PathBuf,
    score: ScoreConfig,
    rate: f64,
    /// Programs that are idle, by batch.
    idle: Mutex<BTreeMap<usize, Vec<Scorer>>>,
    /// Those of tiles.
    pub(super) tiled: Mutex<Vec<Scorer>>,
}

/// What a detector is asked about.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Query<'a> {
    /// A file with an image.
    File(&'a Path),
    /// An encoded image: the bytes of such a file.
    Encoded(&'a [u8]),
    /// Decoded pixels; those that are lent are copied.
    Pixels(Cow<'a, DynamicImage>),
    /// Values as the networks see them: `[channels, height, width]` in [−1, 1], already scaled.
    Values(Cow<'a, [f32]>),
    /// A window of a series, `[channels, time]`, or a row of a table, `[columns]`, in its own unit: scaled as
    /// those that the model was trained on.
    Measured(Cow<'a, [f64]>),
}

macro_rules! query {
    ($($from:ty => |$value:ident| $query:expr;)*) => {
        $(impl<'a> From<$from> for Query<'a> {
            fn from($value: $from) -> Self {
                $query
            }
        })*
    };
}
query! {
    &'a Path => |path| Self::File(path);
    &'a PathBuf => |path| Self::File(path);
    &'a [u8] => |bytes| Self::Encoded(bytes);
    &'a Vec<u8> => |bytes| Self::Encoded(bytes);
    &'a DynamicImage => |image| Self::Pixels(Cow::Borrowed(image));
    DynamicImage => |image| Self::Pixels(Cow::Owned(image));
    &'a [f32] => |values| Self::Values(Cow::Borrowed(values));
    &'a Vec<f32> => |values| Self::Values(Cow::Borrowed(values));
    Vec<f32> => |values| Self::Values(Cow::Owned(values));
}

/// What a detector says of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The score; larger is more anomalous.
    pub score: f64,
    /// Share of normal samples with a lower score, interpolated between held-out ones; unknown without a
    /// calibration. It is no probability of a defect.
    pub probability: Option<f64>,
    /// Percentage of held-out normal samples with a lower score.
    pub percentile: Option<f64>,
    /// How often a normal sample scores as high or higher, at most.
    pub p_value: Option<f64>,
    /// The score from which on a sample is called anomalous.
    pub threshold: Option<f64>,
    /// Whether it is.
    pub anomalous: Option<bool>,
    /// What the score is made of, by name.
    pub parts: Vec<(&'static str, f32)>,
    /// Where the sample is anomalous, `[height, width]` of the networks' input; absent for scores without a
    /// place.
    pub map: Option<Vec<f32>>,
    /// What the system makes of the sample, in its shape.
    pub reconstruction: Option<Vec<f32>>,
}

impl Detector {
    /// Idle programs that are kept of each batch size.
    const KEPT: usize = 4;
    /// Sizes of the batches that several samples are scored in.
    const BATCHES: [usize; 3] = [1, 8, 64];

    /// Begins to train a system; see [`TrainingBuilder`]. A system of a user's own becomes known by its name.
    pub fn train<'a>(system: &'static Info) -> TrainingBuilder<'a> {
        TrainingBuilder::new(system)
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`DetectError::File`] for a file that is not whole, altered, or of another format.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self, DetectError> {
        let path = path.as_ref();
        Self::new(ModelFile::load(path)?, path, device)
    }

    /// As [`Detector::load`], from the bytes of such a file.
    ///
    /// # Errors
    /// As [`Detector::load`].
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self, DetectError> {
        let name = Path::new("model in memory");
        Self::new(ModelFile::from_bytes(name, bytes)?, name, device)
    }

    /// A detector of a model that is in memory; `name` is what messages call it.
    ///
    /// # Errors
    /// [`DetectError`] for a model whose tensors do not fit its system.
    pub fn new(model: ModelFile, name: &Path, device: &Device) -> Result<Self, DetectError> {
        let info = model.header.info(name)?;
        let score = match &model.header.calibration {
            Some(calibration) => calibration.score.clone(),
            None => ScoreConfig { score: info.score("")?.to_owned(), ..model.header.score_config() },
        };
        let rate = rate_of(&model);
        let detector = Self {
            device: device.clone(),
            model,
            name: name.to_owned(),
            score,
            rate,
            idle: Mutex::default(),
            tiled: Mutex::default(),
        };
        // What does not fit is told here, not at the first sample.
        let scorer = detector.scorer(1)?;
        detector.put_back(1, scorer);
        Ok(detector)
    }

    /// The same with another share of false alarms among normal samples, in (0, 1); 0.05 unless told, 0.01 of
    /// the points of a series. The model file keeps it with its threshold.
    ///
    /// # Errors
    /// [`DetectError::Config`] for a rate out of range.
    pub fn with_false_alarm_rate(mut self, rate: f64) -> Result<Self, DetectError> {
        if !(rate > 0.0 && rate < 1.0) {
            return Err(ConfigError::new("false-alarm rate", rate, "in (0, 1), 0.05 is usual").into());
        }
        self.rate = rate;
        if rate != rate_of(&self.model)
            && let Some(threshold) = self.threshold()?
            && let Some(calibration) = &mut self.model.header.calibration
        {
            (calibration.threshold, calibration.source) = (threshold.value, threshold.source);
            calibration.rate = Some(rate);
        }
        Ok(self)
    }

    /// The share of false alarms among normal samples that its threshold aims at.
    pub fn false_alarm_rate(&self) -> f64 {
        self.rate
    }

    /// The same with another score or search. Verdicts need a calibration with the same settings.
    ///
    /// # Errors
    /// [`DetectError::Config`] for a score that the system does not have, or a search out of range.
    pub fn with_score(mut self, score: ScoreConfig) -> Result<Self, DetectError> {
        score.check()?;
        let name = self.model.header.info(&self.name)?.score(&score.score)?.to_owned();
        // A model of tiles is one whatever is said.
        let tiles = self.model.header.data.tiles.map(|trained| score.tiles.unwrap_or(trained.tiling));
        self.score = ScoreConfig { score: name, tiles, ..score };
        (self.idle, self.tiled) = (Mutex::default(), Mutex::default());
        let scorer = self.scorer(1)?;
        self.put_back(1, scorer);
        Ok(self)
    }

    /// Writes the model file, beside its place first.
    ///
    /// # Errors
    /// [`DetectError::File`] where it cannot be written; an old file stays.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DetectError> {
        Ok(self.model.save(path.as_ref())?)
    }

    /// The bytes of the model file.
    ///
    /// # Errors
    /// [`DetectError::File`] where a number of its header has no form in JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DetectError> {
        Ok(self.model.to_bytes(&self.name)?)
    }

    /// Settings, calibration and weights.
    pub fn model(&self) -> &ModelFile {
        &self.model
    }

    /// Where it runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The calibration in use; `None` where nothing was held out or other settings were calibrated.
    pub fn calibration(&self) -> Option<&Calibration> {
        own(&self.model, &self.score).or_else(|| own_of_samples(&self.model, &self.score))
    }

    /// The threshold in use and where it comes from.
    ///
    /// # Errors
    /// [`DetectError::Eval`] for a rate out of range.
    pub fn threshold(&self) -> Result<Option<Threshold>, DetectError> {
        Ok(Judge::new(self.calibration(), self.rate)?.threshold)
    }

    /// Judges one sample.
    ///
    /// # Errors
    /// [`DetectError::Data`] for what is no usable image, [`DetectError::Input`] for values of another
    /// length, [`DetectError::Score`] where the device fails or the score is NaN.
    pub fn score<'q>(&self, query: impl Into<Query<'q>>) -> Result<Verdict, DetectError> {
        let (query, judge) = (query.into(), self.judge_of_samples()?);
        if self.is_tiled() {
            let found = self.found_by_tiles(&self.whole(query)?, None)?;
            return Ok(Verdict::new(found, &judge));
        }
        Ok(Verdict::new(self.found_one(&self.values(query)?)?, &judge))
    }

    /// Scores one sample.
    pub(super) fn found_one(&self, values: &[f32]) -> Result<Found, DetectError> {
        let found = self.found(1, values)?.into_iter().next();
        found.ok_or_else(|| DetectError::Input("no values were given".to_owned()))
    }

    /// How samples are scored.
    pub fn score_config(&self) -> &ScoreConfig {
        &self.score
    }

    /// Judges several samples, in batches; each has the bits that it has alone.
    ///
    /// # Errors
    /// As [`Detector::score`]; the first sample that cannot be judged ends it.
    pub fn score_many<'q, Q: Into<Query<'q>>>(
        &self,
        queries: impl IntoIterator<Item = Q>,
    ) -> Result<Vec<Verdict>, DetectError> {
        let largest = Self::BATCHES[Self::BATCHES.len() - 1];
        let judge = self.judge_of_samples()?;
        let mut queries = queries.into_iter();
        if self.is_tiled() {
            return queries.map(|query| self.score(query)).collect();
        }
        let mut verdicts = vec![];
        loop {
            let mut values = vec![];
            let mut count = 0;
            for query in queries.by_ref().take(largest) {
                values.extend(self.values(query.into())?);
                count += 1;
            }
            if count == 0 {
                return Ok(verdicts);
            }
            let len = values.len() / count;
            let mut left = values.as_slice();
            while !left.is_empty() {
                let batch = Self::batch_of(left.len() / len);
                let part;
                (part, left) = left.split_at(left.len().min(batch * len));
                let found = self.found(batch, part)?;
                verdicts.extend(found.into_iter().map(|found| Verdict::new(found, &judge)));
            }
        }
    }

    /// Judges all samples of folders, sets or files, in their order: what `ganomede score --json` prints
    /// of them.
    ///
    /// # Errors
    /// [`DetectError`] where nothing can be scored or a device fails; images that cannot be read are listed.
    pub fn answers(&self, data: QueryData, observer: &mut dyn Observer) -> Result<Answers, DetectError> {
        let (queries, judge) = (data.open(&self.model)?, self.judge()?);
        let batch = Self::BATCHES[Self::BATCHES.len() - 1];
        let maps = MapOutputs { regions: true, ..MapOutputs::default() };
        queries.answers(&mut self.applied(observer), &judge, batch, &maps)
    }

    /// Every metric on labelled test data: a folder or set of images, a series, or a table, as the model is
    /// of one.
    ///
    /// # Errors
    /// [`DetectError`] for data that cannot be read, have no labels, or do not fit the model.
    pub fn evaluate(&self, data: &str) -> Result<Assessment, DetectError> {
        self.evaluate_watched(data, &mut ())
    }

    /// As [`Detector::evaluate`], under an observer.
    ///
    /// # Errors
    /// As [`Detector::evaluate`], and where the observer stops it.
    pub fn evaluate_watched(
        &self,
        data: &str,
        observer: &mut dyn Observer,
    ) -> Result<Assessment, DetectError> {
        let data = TestData { spec: data.to_owned(), ..TestData::default() };
        let test = data.open(&self.model, &self.name, observer)?;
        let batch = Self::BATCHES[Self::BATCHES.len() - 1];
        test.assess(&mut self.applied(observer), &Assess { rate: self.rate, batch, seed: 0 })
    }

    pub(super) fn applied<'a>(&'a self, observer: &'a mut dyn Observer) -> Applied<'a> {
        Applied { device: &self.device, model: &self.model, path: &self.name, score: &self.score, observer }
    }

    /// The values of a query as the networks see them.
    pub(super) fn values(&self, query: Query<'_>) -> Result<Vec<f32>, DetectError> {
        let header = &self.model.header;
        let options = || options_of(&self.model, OpenOptions::default());
        let check_len = |found: usize| match header.config.sample_len() {
            len if len == found => Ok(()),
            len => Err(DetectError::Input(format!("a sample has {len} values, not {found}"))),
        };
        let values = match query {
            Query::Values(values) => {
                if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                    return Err(DetectError::Input(format!("a value is {value}; all must be numbers")));
                }
                // Pixels of 0 to 255 would be scored without a word.
                let outside = values.iter().find(|v| header.config.form == Form::Image && v.abs() > 1.0);
                if let Some(value) = outside {
                    return Err(DetectError::Input(format!(
                        "a value is {value}; values of images are in [-1, 1], 2·pixel/255 − 1"
                    )));
                }
                values.into_owned()
            }
            Query::Measured(_) if header.data.scaling == Scaling::Pixels => {
                return Err(DetectError::Input(
                    "the model keeps no scaling; give values in [-1, 1]".to_owned(),
                ));
            }
            Query::Measured(values) => {
                check_len(values.len())?;
                check_measured(&values).map_err(DetectError::Input)?;
                header.data.scaling.apply(&values)
            }
            _ if header.config.form != Form::Image => {
                return Err(DetectError::Input(
                    "the model is of series or tables, not of images; give values".to_owned(),
                ));
            }
            Query::File(path) => {
                let spec = path.to_string_lossy();
                let options = OpenOptions { without_masks: true, ..options() };
                let set = Dataset::open(&spec, &options)?;
                set.load(one_split(&set, path)?, 0)?.image.pixels
            }
            Query::Encoded(bytes) => decode_image("the image", bytes.to_vec(), &options())?.pixels,
            Query::Pixels(image) => prepare_image("the image", image.into_owned(), &options())?.pixels,
        };
        check_len(values.len())?;
        Ok(values)
    }

    /// The batch that takes samples, or the first of them: the smallest that takes all unless a third of it
    /// would stay empty, since what is empty costs as much as what is not.
    fn batch_of(samples: usize) -> usize {
        let filled = |&batch: &usize| batch >= samples && 3 * samples >= 2 * batch;
        let smaller = || Self::BATCHES.into_iter().rev().find(|&batch| batch <= samples);
        Self::BATCHES.into_iter().find(filled).or_else(smaller).unwrap_or(1)
    }

    fn scorer(&self, batch: usize) -> Result<Scorer, DetectError> {
        Ok(Scorer::new(&self.device, &self.model, &self.name, &self.score, batch)?)
    }

    fn found(&self, batch: usize, values: &[f32]) -> Result<Vec<Found>, DetectError> {
        let idle = self.idle().get_mut(&batch).and_then(Vec::pop);
        let mut scorer = match idle {
            Some(scorer) => scorer,
            None => self.scorer(batch)?,
        };
        // A scorer that failed is dropped: what it holds may be anything.
        let found = scorer.score(values, None)?;
        self.put_back(batch, scorer);
        Ok(found)
    }

    fn put_back(&self, batch: usize, scorer: Scorer) {
        let mut idle = self.idle();
        let kept = idle.entry(batch).or_default();
        if kept.len() < Self::KEPT {
            kept.push(scorer);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Vec<Scorer>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of samples in data sets.
    fn judge(&self) -> Result<Judge<'_>, DetectError> {
        Judge::of(&self.model, &self.score, Some(self.rate))
    }

    /// Of samples by themselves.
    pub(super) fn judge_of_samples(&self) -> Result<Judge<'_>, DetectError> {
        Judge::new(own_of_samples(&self.model, &self.score), self.rate)
    }
}

impl Verdict {
    pub(super) fn new(found: Found, judge: &Judge<'_>) -> Self {
        Self {
            score: found.score,
            probability: judge.probability(found.score),
            percentile: judge.percentile(found.score),
            p_value: judge.p_value(found.score),
            anomalous: judge.is_anomalous(found.score),
            threshold: judge.threshold.as_ref().map(|t| t.value),
            parts: found.parts,
            map: found.map,
            reconstruction: found.reconstruction,
        }
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Detector({} on {})", self.model.header.system, self.device.describe())
    }
}
