//! A training from settings and samples to a calibrated model: what every door shares.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ganomede_datasets::Findings;
use ganomede_host::{Hold, line};

use super::verdict::{appearance, synthetic_check};
use super::{Applied, DetectError, Observer, Progress, Samples, calibrate};
use crate::device::Device;
use crate::models::ConfigError;
use crate::models::file::{DataInfo, Header, ModelFile, Progress as Done};
use crate::models::scorer::{self, ScoreConfig};
use crate::train::{End, Limits, LoopOptions, Tick, TrainError, Trainer, check_resumable, train};

/// A training to be done.
#[derive(Debug, Clone)]
pub struct Job {
    /// Settings; progress and device are filled in.
    pub header: Header,
    /// The score that the model is calibrated with.
    pub score: ScoreConfig,
    /// When training ends.
    pub limits: Limits,
    /// The model file to write, with its checkpoints beside it; none writes nothing.
    pub out: Option<PathBuf>,
    /// Steps between checkpoints; 0 saves one at the end only.
    pub checkpoint_every: u64,
    /// Whether to continue from the checkpoint, bit for bit; starts from scratch where there is none.
    pub resume: bool,
    /// Weights of the model in half precision.
    pub half: bool,
    /// Weights and moments of checkpoints in half precision.
    pub half_checkpoints: bool,
    /// Folder for grids of generated or reconstructed images.
    pub samples: Option<PathBuf>,
    /// Folder for a log of losses, samples and weights ([`LoopOptions::log`]).
    pub log: Option<PathBuf>,
}

/// A training that was done.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The calibrated model.
    pub model: ModelFile,
    /// Steps that a checkpoint had done before.
    pub resumed_at: u64,
    /// Bytes held on the device at most.
    pub peak_bytes: u64,
    /// What of the data was not used.
    pub findings: Findings,
    /// Where the last checkpoint lies.
    pub checkpoint: Option<PathBuf>,
    /// The last value of each loss.
    pub losses: BTreeMap<String, f32>,
}

impl Job {
    /// A training as another model was trained, with another seed and perhaps other samples; it writes no
    /// checkpoints on the way.
    pub fn again(model: &ModelFile, seed: u64, out: Option<&Path>, data: DataInfo) -> Self {
        let progress = &model.header.progress;
        let batch = model.header.batch.min(data.training_images).max(1);
        let header = Header {
            seed,
            batch,
            // As a training counts them: what a file says would be believed at every batch.
            progress: Done { steps_per_epoch: (data.training_images / batch) as u64, ..Done::default() },
            calibration: None,
            appearance: None,
            check: None,
            data,
            ..model.header.clone()
        };
        Self {
            header,
            score: model.header.calibration.as_ref().map(|c| c.score.clone()).unwrap_or_default(),
            limits: Limits { steps: Some(progress.steps), ..Limits::default() },
            out: out.map(Path::to_owned),
            checkpoint_every: 0,
            resume: false,
            half: model.is_rounded(),
            half_checkpoints: false,
            samples: None,
            log: None,
        }
    }

    /// Trains, calibrates, writes the model.
    ///
    /// # Errors
    /// Of [`DetectError`]: settings out of range, before any work; a training that diverges; a fault of the
    /// device, the disk or the data; [`DetectError::TrainingStopped`] where the observer asked for it.
    pub fn run(
        mut self,
        device: &Device,
        samples: &dyn Samples,
        observer: &mut dyn Observer,
    ) -> Result<Trained, DetectError> {
        self.header.device = device.describe();
        let (batch, seed) = (self.header.batch, self.header.seed);
        let data = self.header.data.clone();
        if self.resume && self.out.is_none() {
            return Err(DetectError::Input(
                "a training is resumed from the checkpoint beside its output, and there is no output"
                    .to_owned(),
            ));
        }
        if data.training_images < batch {
            return Err(TrainError::BatchTooLarge { batch, images: data.training_images }.into());
        }
        // What the calibration would refuse after hours of work is refused now.
        scorer::check(&self.header, &self.score, batch.min(data.held_out.max(1)))?;
        let checkpoint = self.out.as_deref().map(checkpoint_path);
        // Of two trainings that write the same files, the last would win in silence.
        let _held = [&self.out, &checkpoint]
            .into_iter()
            .flatten()
            .map(|path| Hold::new(path))
            .collect::<Result<Vec<_>, _>>()?;
        let mut trainer = self.start(device, checkpoint.as_deref(), &samples.preview(), observer)?;
        if let Some(folder) = self.samples.as_ref().filter(|_| !trainer.has_samples()) {
            let allowed = format!(
                "left out: {} makes no images here, and none of held-out ones, that a grid could show",
                self.header.system
            );
            return Err(ConfigError::new("samples", line(&folder.to_string_lossy()), allowed).into());
        }
        observer.note(&format!(
            "training {} on {} normal samples ({} held out) of {}, {:.0} MB of device memory",
            self.header.system,
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
            log: self.log.clone(),
        };
        let progress = Progress {
            task: "training",
            unit: "steps",
            first: resumed_at,
            done: resumed_at,
            total: None,
            stage: None,
            losses: &[],
            ended: false,
        };
        let several = trainer.stages().len() > 1;
        let end = {
            let mut epoch = |epoch: u64, start: u64| samples.epoch(batch, seed, epoch, start);
            let mut tick = |news: Tick<'_>| {
                let stage = several.then_some(news.stage);
                let (done, total, losses) = (news.step, news.total, news.losses);
                observer.progress(&Progress { done, total, stage, losses, ..progress });
                if observer.goes_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            train(&mut trainer, &options, &mut epoch, &mut tick)
        };
        observer.progress(&Progress { done: trainer.progress().steps, ended: true, ..progress });
        let end = end?;
        let step = trainer.progress().steps;
        let stopped = || DetectError::TrainingStopped { step, checkpoint: checkpoint.clone() };
        if end == End::Interrupted {
            return Err(stopped());
        }
        let mut model = trainer.model()?;
        if self.half {
            model.halve_weights();
        }
        let name = self.out.clone().unwrap_or_else(|| PathBuf::from("the model"));
        let mut applied = Applied { device, model: &model, path: &name, score: &self.score, observer };
        let calibration = calibrate(samples, &mut applied, samples.false_alarm_rate());
        let calibration = calibration.map_err(|e| if applied.observer.goes_on() { e } else { stopped() })?;
        model.header.calibration = calibration;
        let (progress, peak_bytes) = (trainer.progress().clone(), trainer.bytes());
        // The check needs memory of its own.
        drop(trainer);
        model.header.appearance = appearance(samples, seed);
        let mut applied = Applied { device, model: &model, path: &name, score: &self.score, observer };
        let checked = synthetic_check(samples, &mut applied, model.header.appearance.as_ref());
        let checked = checked.map_err(|e| if applied.observer.goes_on() { e } else { stopped() })?;
        model.header.check = checked;
        if let Some(out) = &self.out {
            model.save(out)?;
        }
        let findings = samples.findings();
        let last = |curve: &crate::models::file::Curve| Some((curve.name.clone(), *curve.values.last()?));
        let losses = progress.losses.iter().filter_map(last).collect();
        Ok(Trained { resumed_at, peak_bytes, findings, checkpoint, losses, model })
    }

    fn start(
        &self,
        device: &Device,
        checkpoint: Option<&Path>,
        preview: &[f32],
        observer: &mut dyn Observer,
    ) -> Result<Trainer, DetectError> {
        let mut header = self.header.clone();
        let shown = |path: &Path| line(&path.to_string_lossy()).into_owned();
        if let Some(checkpoint) = checkpoint.filter(|path| self.resume && path.exists()) {
            let file = ModelFile::load(checkpoint)?;
            check_resumable(&file.header, &header, checkpoint)?;
            header.progress = file.header.progress.clone();
            observer.note(&format!("resuming at step {} from {}", header.progress.steps, shown(checkpoint)));
            if file.is_rounded() {
                observer.note(
                    "the checkpoint is in half precision: what follows is close to the interrupted training, not the same",
                );
            }
            return Ok(Trainer::new(device, header, Some((&file, checkpoint)), preview)?);
        }
        if let Some(checkpoint) = checkpoint.filter(|_| self.resume) {
            observer.note(&format!("no checkpoint at {}; starting anew", shown(checkpoint)));
        }
        Ok(Trainer::new(device, header, None, preview)?)
    }
}

/// Where the checkpoints of a model lie: beside it, with `.checkpoint` before the extension.
pub fn checkpoint_path(out: &Path) -> PathBuf {
    let extension = out.extension().map_or("safetensors".into(), |e| e.to_string_lossy().into_owned());
    out.with_extension(format!("checkpoint.{extension}"))
}
