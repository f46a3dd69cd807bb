//! What is trained on: one trait for images, windows of series, rows of tables and what a user has.

use std::ops::Range;

use ganomede_datasets::{DataError, Findings, Indices, MinMax, Schema, Standardize};
use sha2::{Digest, Sha256};

use super::{Applied, DetectError, HeldOut, HeldOutMaps};
use crate::models::Form;
use crate::models::file::{DataInfo, Scaling};
use crate::train::Epoch;

/// Samples to train on and samples held out for calibration, both normal.
///
/// A training asks for them in an order that is a function of (seed, epoch), and again from the middle of an
/// epoch when it is resumed: what `get` returns must depend on its arguments alone.
pub trait Samples: Send + Sync {
    /// What one sample is.
    fn form(&self) -> Form;

    /// Channels of an image or window, features of a row.
    fn channels(&self) -> usize;

    /// Samples that are trained on.
    fn len(&self) -> usize;

    /// Whether there is nothing to train on.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Training sample `i` as the networks see it in an epoch: `[channels, height, width]` values in [−1, 1].
    /// `draw` is (seed, epoch), for what is changed at random each time.
    ///
    /// # Errors
    /// [`DataError`] where it cannot be read.
    fn get(&self, i: usize, draw: [u64; 2]) -> Result<Vec<f32>, DataError>;

    /// Batches of an epoch from number `start` on; the last that is not full is left out.
    ///
    /// # Errors
    /// [`DataError`] where the data cannot be read.
    fn epoch(&self, batch: usize, seed: u64, epoch: u64, start: u64) -> Result<Epoch<'_>, DataError> {
        self.rows(batch, 0..batch, seed, epoch, start)
    }

    /// As [`Samples::epoch`], of each batch these rows only: what one of several ranks reads.
    ///
    /// # Errors
    /// As [`Samples::epoch`].
    fn rows(
        &self,
        batch: usize,
        rows: Range<usize>,
        seed: u64,
        epoch: u64,
        start: u64,
    ) -> Result<Epoch<'_>, DataError> {
        let order = Indices::shuffled(self.len(), seed ^ epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let batches = (start as usize..self.len() / batch).map(move |number| {
            let chosen = rows.clone().filter_map(|i| order.get(number * batch + i));
            let mut values = vec![];
            for i in chosen {
                values.extend(self.get(i, [seed, epoch])?);
            }
            Ok(values)
        });
        Ok(Box::new(batches))
    }

    /// Samples for grids of reconstructions, never trained on.
    fn preview(&self) -> Vec<f32> {
        vec![]
    }

    /// Scores of held-out normal samples, and the scale of their maps, from which thresholds follow; none
    /// where nothing is held out.
    ///
    /// # Errors
    /// [`DetectError`] where samples cannot be read or scored.
    fn held_out(&self, model: &mut Applied<'_>) -> Result<HeldOut, DetectError>;

    /// Held-out images, for a check with synthetic defects; none of what are no images.
    fn held_out_images(&self) -> usize {
        0
    }

    /// Held-out image `i` as the networks see it; `None` where it cannot be read.
    fn held_out_image(&self, _i: usize) -> Option<Vec<f32>> {
        None
    }

    /// The share of false alarms that thresholds aim at unless told otherwise.
    fn false_alarm_rate(&self) -> f64 {
        super::usual_rate(self.form())
    }

    /// What a model file remembers of the data.
    ///
    /// # Errors
    /// [`DataError`] where the data cannot be read.
    fn info(&self) -> Result<DataInfo, DataError>;

    /// What was decided about the data, a sentence each.
    fn notes(&self) -> Vec<String> {
        vec![]
    }

    /// What of the data is not used.
    fn findings(&self) -> Findings {
        Findings::default()
    }
}

/// Samples that a program holds in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct InMemory {
    form: Form,
    channels: usize,
    samples: Vec<Vec<f32>>,
    held_out: Vec<Vec<f32>>,
    /// How values of the caller's became those of the networks.
    scaling: Scaling,
    /// Columns of rows.
    table: Option<Schema>,
}

/// Largest magnitude of a measured value: the difference of two is still a number.
const LARGEST: f64 = 1e300;

impl InMemory {
    /// Normal samples of `channels` channels with values in [−1, 1]; the share `held_out` of them, drawn by
    /// the seed, is kept for calibration.
    ///
    /// # Errors
    /// [`DetectError::Input`] for no samples, samples of different lengths, values outside [−1, 1], or a
    /// share outside [0, 1).
    pub fn new(
        form: Form,
        channels: usize,
        samples: Vec<Vec<f32>>,
        held_out: f64,
        seed: u64,
    ) -> Result<Self, DetectError> {
        check_samples(channels, &samples)?;
        for (i, sample) in samples.iter().enumerate() {
            if let Some(value) = sample.iter().find(|v| !(-1.0..=1.0).contains(*v)) {
                return Err(DetectError::Input(format!(
                    "sample {i} holds {value}; scale all values to [-1, 1]"
                )));
            }
        }
        let (samples, held_out) = split(samples, held_out, seed)?;
        Ok(Self { form, channels, samples, held_out, scaling: Scaling::Pixels, table: None })
    }

    /// Normal windows of a series, `[channels, time]`, or rows of a table, `[columns]`, in their own units;
    /// `names` are those of the channels or columns. They are scaled by those that are trained on, as files
    /// are; the model keeps the scaling, files with columns of these names fit it, and so do samples of
    /// [`Query::Measured`](super::Query::Measured). The share `held_out` is as in [`InMemory::new`].
    ///
    /// # Errors
    /// [`DetectError::Input`] as in [`InMemory::new`], for images, and for values that are not finite;
    /// [`DetectError::Data`] for a column that cannot be scaled.
    pub fn measured(
        form: Form,
        names: &[String],
        samples: Vec<Vec<f64>>,
        held_out: f64,
        seed: u64,
    ) -> Result<Self, DetectError> {
        let channels = names.len();
        check_samples(channels, &samples)?;
        for (i, sample) in samples.iter().enumerate() {
            check_measured(sample).map_err(|reason| DetectError::Input(format!("sample {i}: {reason}")))?;
        }
        let (samples, held_out) = split(samples, held_out, seed)?;
        let (scaling, table) = match form {
            Form::Image => {
                return Err(DetectError::Input("pixels have no unit of their own; give values".to_owned()));
            }
            Form::Signal => {
                let across = |window: &Vec<f64>| {
                    let time = window.len() / channels;
                    (0..window.len())
                        .map(|i| window[i % channels * time + i / channels])
                        .collect::<Vec<f64>>()
                };
                let rows: Vec<f64> = samples.iter().flat_map(across).collect();
                (Scaling::Signal(Standardize::fit(rows.chunks(channels), names)), None)
            }
            Form::Table => {
                if let Some(row) = samples.iter().find(|row| row.len() != channels) {
                    let reason = format!("a row has {} values, but there are {channels} columns", row.len());
                    return Err(DetectError::Input(reason));
                }
                let rows: Vec<&[f64]> = samples.iter().map(Vec::as_slice).collect();
                let schema = Schema {
                    layout: "csv".to_owned(),
                    width: channels,
                    columns: names.to_vec(),
                    label: "label".to_owned(),
                    label_place: channels,
                    labels: [("normal".to_owned(), false)].into(),
                    train_fraction: 1.0,
                    ..Schema::default()
                };
                (Scaling::Table(MinMax::fit(&rows, names)?), Some(schema))
            }
        };
        let scaled = |samples: Vec<Vec<f64>>| samples.iter().map(|s| scaling.apply(s)).collect();
        let (samples, held_out) = (scaled(samples), scaled(held_out));
        Ok(Self { form, channels, samples, held_out, scaling, table })
    }
}

/// Refuses measured values that no scaling is of.
pub(super) fn check_measured(values: &[f64]) -> Result<(), String> {
    match values.iter().position(|value| !(-LARGEST..=LARGEST).contains(value)) {
        Some(at) => Err(format!("value {at} is {}; all must be numbers up to 1e300", values[at])),
        None => Ok(()),
    }
}

/// Refuses what are no samples of one length with this many channels.
fn check_samples<T>(channels: usize, samples: &[Vec<T>]) -> Result<(), DetectError> {
    let refused = |reason: String| Err(DetectError::Input(reason));
    let Some(first) = samples.first() else { return refused("there are no samples".to_owned()) };
    if channels == 0 || first.is_empty() || !first.len().is_multiple_of(channels) {
        return refused(format!("a sample of {} values has no {channels} channels", first.len()));
    }
    match samples.iter().position(|sample| sample.len() != first.len()) {
        Some(i) => refused(format!("sample {i} has {} values, sample 0 {}", samples[i].len(), first.len())),
        None => Ok(()),
    }
}

/// Samples to train on, and the share that is held out, drawn by the seed.
fn split<T>(samples: Vec<T>, held_out: f64, seed: u64) -> Result<(Vec<T>, Vec<T>), DetectError> {
    if !(0.0..1.0).contains(&held_out) {
        let reason = format!("the share held out is {held_out}; it must be in [0, 1)");
        return Err(DetectError::Input(reason));
    }
    let count = (samples.len() as f64 * held_out).round() as usize;
    let mut is_held_out = vec![false; samples.len()];
    Indices::shuffled(samples.len(), seed).take(count).iter().for_each(|i| is_held_out[i] = true);
    let (mut kept, mut rest) = (vec![], vec![]);
    for (sample, out) in samples.into_iter().zip(is_held_out) {
        if out { rest.push(sample) } else { kept.push(sample) }
    }
    if kept.is_empty() {
        return Err(DetectError::Input("all samples are held out; none is left to train on".to_owned()));
    }
    Ok((kept, rest))
}

impl InMemory {
    /// SHA-256 over form, channels and all values, so that a training is resumed on the same samples only.
    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("{:?} {} {}\n", self.form, self.channels, self.samples.len()));
        if self.scaling != Scaling::Pixels {
            // The same numbers in other units are other samples.
            hasher.update(format!("{:?}\n", self.scaling));
        }
        for sample in self.samples.iter().chain(&self.held_out) {
            sample.iter().for_each(|value| hasher.update(value.to_le_bytes()));
        }
        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Samples for InMemory {
    fn form(&self) -> Form {
        self.form
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn get(&self, i: usize, _: [u64; 2]) -> Result<Vec<f32>, DataError> {
        let missing = || DataError::option("sample", i, format!("there are {}", self.samples.len()));
        self.samples.get(i).cloned().ok_or_else(missing)
    }

    fn preview(&self) -> Vec<f32> {
        self.held_out.iter().take(crate::models::scorer::Sampler::COUNT / 2).flatten().copied().collect()
    }

    fn held_out(&self, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
        let gather = |chosen: &[usize]| chosen.iter().flat_map(|&i| self.held_out[i].clone()).collect();
        let mut scores = vec![];
        let mut maps = HeldOutMaps::new(&model.model.header.config, model.score, self.held_out.len());
        model.each(self.held_out.len(), gather, |_, _, found| {
            scores.push(found.score);
            maps.iter_mut().for_each(|maps| maps.add(&found));
            Ok(())
        })?;
        Ok(HeldOut { scores, maps: maps.and_then(HeldOutMaps::calibration), ..HeldOut::default() })
    }

    fn held_out_images(&self) -> usize {
        if self.form == Form::Image { self.held_out.len() } else { 0 }
    }

    fn held_out_image(&self, i: usize) -> Option<Vec<f32>> {
        self.held_out.get(i).cloned()
    }

    fn info(&self) -> Result<DataInfo, DataError> {
        Ok(DataInfo {
            spec: "samples in memory".to_owned(),
            digest: self.digest(),
            training_images: self.samples.len(),
            held_out: self.held_out.len(),
            val_fraction: self.held_out.len() as f64 / (self.samples.len() + self.held_out.len()) as f64,
            scaling: self.scaling.clone(),
            table: self.table.clone(),
            ..DataInfo::default()
        })
    }
}
