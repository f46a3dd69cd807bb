//! A training from settings and data to a model file: what `train`, `demo`, `compare` and `eval --seeds` share.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganomede_datasets::{Augment, BatchOptions, Batches, DataError, Dataset, Findings, Indices, Split};
use ganomede_host::{Hold, line};
use serde::Serialize;

use crate::shared::args::DataArgs;
use crate::shared::findings::report_rejected;
use crate::shared::progress::Progress;
use crate::shared::session::{FALSE_ALARM_RATE, Selection, calibrate, open_data};
use crate::shared::{CliError, Interrupt, note, shown};
use ganomede::device::Device;
use ganomede::models::file::{Calibration, DataInfo, Header, ModelFile, Progress as Done};
use ganomede::models::scorer::{self, Sampler, ScoreConfig};
use ganomede::train::{End, Epoch, Limits, LoopOptions, Tick, TrainError, Trainer, check_resumable, train};

/// What is trained on.
pub(crate) trait Feed {
    /// Batches of an epoch from a given one on; a function of (seed, epoch, start) alone.
    fn epoch(&self, batch: usize, seed: u64, epoch: u64, start: u64) -> Result<Epoch, DataError>;

    /// Samples for sample grids, never trained on.
    fn preview(&self) -> Vec<f32>;

    /// Scores held-out normal samples and turns them into a scale and a threshold.
    fn calibrate(
        &self,
        device: &Device,
        model: &ModelFile,
        path: &Path,
        score: &ScoreConfig,
        interrupt: &Interrupt,
    ) -> Result<Option<Calibration>, CliError>;

    /// What of the data is not used.
    fn findings(&self) -> Findings;
}

/// Images of a data set.
pub(crate) struct Images {
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) training: Indices,
    pub(crate) held_out: Selection,
    pub(crate) augment: Augment,
}

impl Feed for Images {
    fn epoch(&self, batch: usize, seed: u64, epoch: u64, start: u64) -> Result<Epoch, DataError> {
        let options = BatchOptions {
            batch,
            seed,
            epoch,
            shuffle: true,
            augment: self.augment.clone(),
            start_batch: start as usize,
            drop_last: true,
            ..BatchOptions::default()
        };
        let batches = Batches::new(self.dataset.clone(), Split::Train, self.training.clone(), options)?;
        Ok(Box::new(batches.map(|batch| batch.map(|b| b.images))))
    }

    fn preview(&self) -> Vec<f32> {
        let mut pixels = vec![];
        for i in self.held_out.indices.take(Sampler::COUNT / 2).iter() {
            // A file that cannot be read is reported where it counts, in training or calibration.
            if let Ok(sample) = self.dataset.load(Split::Train, i) {
                pixels.extend(sample.image.pixels);
            }
        }
        pixels
    }

    fn calibrate(
        &self,
        device: &Device,
        model: &ModelFile,
        path: &Path,
        score: &ScoreConfig,
        interrupt: &Interrupt,
    ) -> Result<Option<Calibration>, CliError> {
        let batch = model.header.batch;
        calibrate(device, model, path, score, batch, &self.held_out, FALSE_ALARM_RATE, interrupt)
    }

    fn findings(&self) -> Findings {
        self.dataset.findings()
    }
}

/// A training to be done.
pub(crate) struct Job {
    /// Settings; progress and device are filled in.
    pub(crate) header: Header,
    /// Score that the model is calibrated with.
    pub(crate) score: ScoreConfig,
    pub(crate) limits: Limits,
    /// Model file to write.
    pub(crate) out: PathBuf,
    pub(crate) checkpoint_every: u64,
    pub(crate) resume: bool,
    /// Whether the command has `--resume`.
    pub(crate) can_resume: bool,
    /// Weights of the model in half precision.
    pub(crate) half: bool,
    /// Weights and moments of checkpoints in half precision.
    pub(crate) half_checkpoints: bool,
    pub(crate) samples: Option<PathBuf>,
}

/// `train --json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) system: String,
    pub(crate) device: String,
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) epochs: f64,
    pub(crate) seconds: f64,
    pub(crate) images_per_second: f64,
    pub(crate) peak_bytes: u64,
    pub(crate) training_images: usize,
    pub(crate) held_out: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) held_out_block: String,
    pub(crate) rejected_files: usize,
    #[serde(flatten)]
    pub(crate) findings: Findings,
    pub(crate) model: PathBuf,
    pub(crate) checkpoint: PathBuf,
    pub(crate) threshold: Option<f64>,
    #[serde(rename = "final")]
    pub(crate) losses: std::collections::BTreeMap<String, f32>,
}

impl Job {
    /// Trains, calibrates, writes the model.
    pub(crate) fn run(
        mut self,
        device: &Device,
        feed: &dyn Feed,
        interrupt: &Interrupt,
    ) -> Result<(Summary, ModelFile), CliError> {
        self.header.device = device.describe();
        let (batch, seed, can_resume) = (self.header.batch, self.header.seed, self.can_resume);
        let (system, data) = (self.header.system.clone(), self.header.data.clone());
        if data.training_images < batch {
            return Err(TrainError::BatchTooLarge { batch, images: data.training_images }.into());
        }
        // What the calibration would refuse after hours of work is refused now.
        scorer::check(&self.header, &self.score, batch.min(data.held_out.max(1)))?;
        let checkpoint = checkpoint_path(&self.out);
        // Of two trainings that write the same files, the last would win in silence.
        let _held = (Hold::new(&self.out)?, Hold::new(&checkpoint)?);
        let mut trainer = self.start(device, &checkpoint, &feed.preview())?;
        note(&format!(
            "training {system} on {} normal samples ({} held out) of {}, {:.0} MB of device memory",
            data.training_images,
            data.held_out,
            line(&data.spec),
            trainer.bytes() as f64 / 1e6
        ));
        let resumed_at = trainer.progress().steps;
        let options = LoopOptions {
            limits: self.limits,
            checkpoint: checkpoint.clone(),
            checkpoint_every: self.checkpoint_every,
            half_checkpoints: self.half_checkpoints,
            samples: self.samples.clone(),
        };
        let several = trainer.stages().len() > 1;
        let end = {
            let mut epoch = |epoch: u64, start: u64| feed.epoch(batch, seed, epoch, start);
            let mut progress: Option<Progress> = None;
            let mut tick = |news: Tick<'_>| {
                let losses: Vec<_> =
                    news.losses.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
                let progress = progress
                    .get_or_insert_with(|| Progress::new("training", "steps", resumed_at, news.total));
                let stage = if several { format!("{}: ", news.stage) } else { String::new() };
                progress.at(news.step, &format!("{stage}{}", losses.join(" ")));
                if interrupt.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            train(&mut trainer, &options, &mut epoch, &mut tick)?
        };
        let steps = trainer.progress().steps;
        let interrupted = || {
            let hint = if can_resume { "; the same command with --resume continues" } else { "" };
            let path = shown(&checkpoint);
            CliError::interrupted(format!("interrupted at step {steps}; checkpoint saved to {path}{hint}"))
        };
        if end == End::Interrupted {
            return Err(interrupted());
        }
        let mut model = trainer.model()?;
        if self.half {
            model.halve_weights();
        }
        let calibration = feed.calibrate(device, &model, &self.out, &self.score, interrupt);
        model.header.calibration =
            calibration.map_err(|e| if interrupt.raised() { interrupted() } else { e })?;
        model.save(&self.out)?;
        let findings = feed.findings();
        report_rejected(&findings.rejected);
        let progress = trainer.progress();
        let last = |curve: &ganomede::models::file::Curve| Some((curve.name.clone(), *curve.values.last()?));
        let summary = Summary {
            system,
            device: device.describe(),
            seed,
            steps,
            epochs: steps as f64 / progress.steps_per_epoch.max(1) as f64,
            seconds: progress.seconds,
            images_per_second: (steps * batch as u64) as f64 / progress.seconds.max(1e-9),
            peak_bytes: trainer.bytes(),
            training_images: data.training_images,
            held_out: data.held_out,
            held_out_block: data.held_out_block.clone(),
            rejected_files: findings.rejected.len(),
            findings,
            model: self.out.clone(),
            checkpoint,
            threshold: model.header.calibration.as_ref().map(|c| c.threshold),
            losses: progress.losses.iter().filter_map(last).collect(),
        };
        if steps == resumed_at {
            note("the checkpoint had already reached the limit; raise --epochs or --steps to train on");
        }
        Ok((summary, model))
    }

    fn start(&self, device: &Device, checkpoint: &Path, preview: &[f32]) -> Result<Trainer, CliError> {
        let mut header = self.header.clone();
        if self.resume && checkpoint.exists() {
            let file = ModelFile::load(checkpoint)?;
            check_resumable(&file.header, &header, checkpoint)?;
            header.progress = file.header.progress.clone();
            note(&format!("resuming at step {} from {}", header.progress.steps, shown(checkpoint)));
            if file.is_rounded() {
                note(
                    "the checkpoint is in half precision: what follows is close to the interrupted training, not the same",
                );
            }
            return Ok(Trainer::new(device, header, Some((&file, checkpoint)), preview)?);
        }
        if self.resume {
            note(&format!("no checkpoint at {}; starting anew", shown(checkpoint)));
        }
        Ok(Trainer::new(device, header, None, preview)?)
    }
}

/// Trains a model as another was trained, on the same images, with another seed.
///
/// # Errors
/// Where the images are not those of the other model, or its training cannot be repeated from its file.
pub(crate) fn retrain(
    device: &Device,
    model: &ModelFile,
    data: &DataArgs,
    seed: u64,
    out: &Path,
    interrupt: &Interrupt,
) -> Result<ModelFile, CliError> {
    let info = &model.header.data;
    let dataset = Arc::new(open_data(data, model, true)?);
    if dataset.is_empty(Split::Train) || dataset.digest(Split::Train)? != info.digest {
        return Err(CliError::input(format!(
            "--seeds trains again, but '{}' does not hold the images that the model was trained on ('{}')",
            data.data, info.spec
        )));
    }
    let (training, held_out) = dataset.holdout(info.val_fraction, seed)?;
    let held_out = Selection { data: dataset.clone(), split: Split::Train, indices: held_out };
    let augment = info.augment.parse()?;
    let feed = Images { dataset, training, held_out, augment };
    again(device, model, seed, out, info.clone(), &feed, interrupt)
}

/// Trains on `feed` as a model was trained, with another seed.
pub(crate) fn again(
    device: &Device,
    model: &ModelFile,
    seed: u64,
    out: &Path,
    data: DataInfo,
    feed: &dyn Feed,
    interrupt: &Interrupt,
) -> Result<ModelFile, CliError> {
    let progress = &model.header.progress;
    let batch = model.header.batch.min(data.training_images).max(1);
    let header = Header {
        seed,
        batch,
        // As a training counts them: what a file says would be believed at every batch.
        progress: Done { steps_per_epoch: (data.training_images / batch) as u64, ..Done::default() },
        calibration: None,
        data,
        ..model.header.clone()
    };
    let job = Job {
        header,
        score: model.header.calibration.as_ref().map(|c| c.score.clone()).unwrap_or_default(),
        limits: Limits { steps: Some(progress.steps), ..Limits::default() },
        out: out.to_owned(),
        checkpoint_every: 0,
        resume: false,
        can_resume: false,
        half: model.is_rounded(),
        half_checkpoints: false,
        samples: None,
    };
    Ok(job.run(device, feed, interrupt)?.1)
}

/// Where the checkpoints of a model lie.
pub(crate) fn checkpoint_path(out: &Path) -> PathBuf {
    let extension = out.extension().map_or("safetensors".into(), |e| e.to_string_lossy().into_owned());
    out.with_extension(format!("checkpoint.{extension}"))
}
