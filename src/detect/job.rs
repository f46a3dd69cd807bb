//! A training from settings and samples to a calibrated model: what every door shares.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ganomede_datasets::defects::photographs::Photographs;
use ganomede_datasets::{Channels, Findings};
use ganomede_host::{Hold, line};
use ganomede_kernels::Precision;
use serde::Serialize;

use super::calibrate::rounding;
use super::verdict::{appearance, synthetic_check};
use super::{Applied, DetectError, Observer, Progress, Samples, calibrate, too_few_groups};
use crate::device::Device;
use crate::models::ConfigError;
use crate::models::file::{DataInfo, Header, ModelFile, Progress as Done};
use crate::models::scorer::{self, ScoreConfig};
use crate::train::{
    End, HELD_OUT, Limits, LoopOptions, Team, Tick, TrainError, Trainer, check_resumable, kept_path,
    total_steps, train,
};

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
    /// Steps of the last stage between models that are kept beside the output, each as it would be if
    /// training had ended there; 0 for none.
    pub keep_every: u64,
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
    /// The ranks that train it together; `Recipe::parts` are those of all of them. The first writes the
    /// files.
    pub team: Team,
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
    /// Models of steps before the last that were kept, in their order.
    pub kept: Vec<Kept>,
}

/// A model that was kept on the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// Its step.
    pub step: u64,
    /// Its file.
    pub model: PathBuf,
    /// What it leaves of held-out samples, as a share of what their mean image leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f32>,
    /// With which AUROC it tells held-out images with synthetic defects from those without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic_auroc: Option<f64>,
}

impl Job {
    /// A training as another model was trained, with another seed and perhaps other samples; it writes no
    /// checkpoints on the way.
    pub fn again(model: &ModelFile, seed: u64, out: Option<&Path>, data: DataInfo) -> Self {
        let progress = &model.header.progress;
        let parts = model.header.recipe.parts.max(1);
        let batch = model.header.batch.min(data.training_images / parts).max(1);
        let header = Header {
            seed,
            batch,
            // As a training counts them: what a file says would be believed at every batch.
            progress: Done {
                steps_per_epoch: (data.training_images / batch / parts) as u64,
                ..Done::default()
            },
            calibration: None,
            appearance: None,
            check: None,
            data: DataInfo { textures: model.header.data.textures.clone(), ..data },
            ..model.header.clone()
        };
        Self {
            header,
            score: model.header.calibration.as_ref().map(|c| c.score.clone()).unwrap_or_default(),
            limits: Limits { steps: Some(progress.steps), ..Limits::default() },
            out: out.map(Path::to_owned),
            checkpoint_every: 0,
            keep_every: 0,
            resume: false,
            half: model.is_rounded(),
            half_checkpoints: false,
            samples: None,
            log: None,
            team: Team::default(),
        }
    }

    /// Trains, calibrates, writes the model.
    ///
    /// # Errors
    /// Of [`DetectError`]: settings out of range, before any work; a training that diverges; a fault of the
    /// device, the disk or the data; [`DetectError::TrainingStopped`] where the observer asked for it.
    pub fn run(
        self,
        device: &Device,
        samples: &dyn Samples,
        observer: &mut dyn Observer,
    ) -> Result<Trained, DetectError> {
        let team = self.team.clone();
        let trained = self.trained(device, samples, observer);
        if trained.is_err() {
            team.end();
        }
        trained
    }

    fn trained(
        mut self,
        device: &Device,
        samples: &dyn Samples,
        observer: &mut dyn Observer,
    ) -> Result<Trained, DetectError> {
        self.header.device = device.describe();
        self.header.precision = rounding(device);
        let (batch, seed) = (self.header.batch, self.header.seed);
        let data = self.header.data.clone();
        if self.resume && self.out.is_none() {
            return Err(DetectError::Input(
                "a training is resumed from the checkpoint beside its output, and there is no output"
                    .to_owned(),
            ));
        }
        let whole = batch.saturating_mul(self.header.recipe.parts);
        if data.training_images < whole {
            return Err(TrainError::BatchTooLarge { batch: whole, images: data.training_images }.into());
        }
        // What the calibration would refuse after hours of work is refused now.
        scorer::check(&self.header, &self.score, batch.min(data.held_out.max(1)))?;
        let checkpoint = self.out.as_deref().map(checkpoint_path);
        // Of two trainings that write the same files, the last would win in silence.
        let _held = [&self.out, &checkpoint]
            .into_iter()
            .flatten()
            .filter(|_| self.team.is_first())
            .map(|path| Hold::new(path))
            .collect::<Result<Vec<_>, _>>()?;
        let textures = self.textures(observer)?;
        let mut trainer = self.start(device, checkpoint.as_deref(), &samples.preview(), observer)?;
        trainer.join(self.team.clone())?;
        textures.into_iter().for_each(|textures| trainer.set_textures(textures));
        if let Some(folder) = self.samples.as_ref().filter(|_| !trainer.has_samples()) {
            let allowed = format!(
                "left out: {} makes no images here, and none of held-out ones, that a grid could show",
                self.header.system
            );
            return Err(ConfigError::new("samples", line(&folder.to_string_lossy()), allowed).into());
        }
        observer.note(&format!(
            "training {} on {} normal samples ({} held out) of {}: {}; {:.0} MB of device memory",
            self.header.system,
            data.training_images,
            data.held_out,
            line(&data.spec),
            budget(&self.limits, &trainer),
            trainer.bytes() as f64 / 1e6
        ));
        let (resumed_at, before) = (trainer.progress().steps, trainer.bytes());
        let options = LoopOptions {
            limits: self.limits,
            checkpoint: checkpoint.clone(),
            checkpoint_every: self.checkpoint_every,
            half_checkpoints: self.half_checkpoints,
            keep: self.out.clone().filter(|_| self.keep_every > 0).map(|out| (self.keep_every, out)),
            samples: self.samples.clone().filter(|_| self.team.is_first()),
            log: self.log.clone().filter(|_| self.team.is_first()),
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
        let mut estimate = Estimate::new(resumed_at, self.limits.minutes);
        let end = {
            let rows = trainer.rows();
            let mut epoch = |epoch: u64, start: u64| samples.rows(whole, rows.clone(), seed, epoch, start);
            let mut tick = |news: Tick<'_>| {
                let stage = several.then_some(news.stage);
                let (done, total, losses) = (news.step, news.total, news.losses);
                if let Some(line) = estimate.at(&news) {
                    observer.note(&line);
                }
                observer.progress(&Progress { done, total, stage, losses, ..progress });
                if observer.goes_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            train(&mut trainer, &options, &mut epoch, &mut tick)
        };
        observer.progress(&Progress { done: trainer.progress().steps, ended: true, ..progress });
        let end = end?;
        // What follows is the first rank's alone.
        self.team.close();
        let step = trainer.progress().steps;
        let stopped = || DetectError::TrainingStopped { step, checkpoint: checkpoint.clone() };
        if end == End::Interrupted {
            return Err(stopped());
        }
        if let Some(residual) = trainer.progress().held_out
            && residual >= 1.0
        {
            observer.note(&format!(
                "warning: of held-out samples the network leaves {residual:.2} times what their mean image leaves: \
                it reconstructs nothing, and scores that rest on its residual measure little but brightness; train \
                longer, or take another system"
            ));
        }
        let mut model = trainer.model()?;
        if !self.team.is_first() {
            let (findings, losses, kept) = (samples.findings(), BTreeMap::new(), vec![]);
            let peak_bytes = before.max(trainer.bytes());
            return Ok(Trained { model, resumed_at, peak_bytes, findings, checkpoint, losses, kept });
        }
        if self.half {
            model.halve_weights();
        }
        let name = self.out.clone().unwrap_or_else(|| PathBuf::from("the model"));
        let mut applied = Applied { device, model: &model, path: &name, score: &self.score, observer };
        let rate = samples.false_alarm_rate();
        let calibration = calibrate(samples, &mut applied, rate);
        let calibration = calibration.map_err(|e| if applied.observer.goes_on() { e } else { stopped() })?;
        if let Some(few) = calibration.as_ref().and_then(|calibration| too_few_groups(calibration, rate)) {
            applied.observer.note(&format!("warning: {few}"));
        }
        model.header.calibration = calibration;
        let (progress, peak_bytes) = (trainer.progress().clone(), before.max(trainer.bytes()));
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
        let kept = self.kept(device, progress.steps, samples, observer)?;
        let findings = samples.findings();
        let last = |curve: &crate::models::file::Curve| Some((curve.name.clone(), *curve.values.last()?));
        let held_out = progress.held_out.map(|share| (HELD_OUT.to_owned(), share));
        let losses = progress.losses.iter().filter_map(last).chain(held_out).collect();
        Ok(Trained { resumed_at, peak_bytes, findings, checkpoint, losses, kept, model })
    }

    /// Reads the folder of textures, where there is one, and notes what it holds.
    fn textures(&mut self, observer: &mut dyn Observer) -> Result<Option<Arc<Photographs>>, DetectError> {
        let (config, Some(asked)) = (&self.header.config, &mut self.header.data.textures) else {
            return Ok(None);
        };
        let channels = match config.channels {
            1 => Channels::Gray,
            3 => Channels::Rgb,
            other => {
                let allowed =
                    format!("left out: it is of gray or RGB images, and these have {other} channels");
                return Err(ConfigError::new("textures", line(&asked.folder), allowed).into());
            }
        };
        let found = Photographs::open(Path::new(&asked.folder), channels, config.size)?;
        // Of a model that is trained again, the textures are known.
        if !asked.digest.is_empty() && asked.digest != found.digest() {
            return Err(DetectError::Input(format!(
                "the model was trained with {asked} as `textures`, and the folder now holds others: put them back, \
                or train a new model"
            )));
        }
        (asked.images, asked.digest) = (found.count(), found.digest().to_owned());
        let unused = found.rejected().first().map_or(String::new(), |first| {
            format!(
                "; {} more cannot be used, the first: {} {}",
                found.rejected().len(),
                line(&first.path),
                line(&first.reason)
            )
        });
        observer.note(&format!("{} textures of {}{unused}", found.count(), line(&asked.folder)));
        Ok(Some(Arc::new(found)))
    }

    /// Calibrates the models that were kept on the way, also before the training was resumed.
    fn kept(
        &self,
        device: &Device,
        steps: u64,
        samples: &dyn Samples,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Kept>, DetectError> {
        let (Some(out), Some(times)) = (&self.out, steps.checked_div(self.keep_every)) else {
            return Ok(vec![]);
        };
        let mut kept = vec![];
        for step in (1..=times).map(|i| i * self.keep_every) {
            let path = kept_path(out, step);
            // A stage before the last keeps none, nor does the last step.
            if step == steps || !path.exists() {
                continue;
            }
            let mut model = ModelFile::load(&path)?;
            if self.half {
                model.halve_weights();
            }
            let mut applied = Applied { device, model: &model, path: &path, score: &self.score, observer };
            let calibration = calibrate(samples, &mut applied, samples.false_alarm_rate())?;
            let seen = appearance(samples, model.header.seed);
            let checked = synthetic_check(samples, &mut applied, seen.as_ref())?;
            let synthetic_auroc = checked.as_ref().map(|check| check.auroc);
            model.header.calibration = calibration;
            model.header.appearance = seen;
            model.header.check = checked;
            model.save(&path)?;
            let held_out = model.header.progress.held_out;
            let share = held_out.map_or(String::new(), |share| {
                format!("; of held-out samples it leaves {share:.3} of what their mean image leaves")
            });
            let found = synthetic_auroc
                .map_or(String::new(), |auroc| format!("; it finds synthetic defects with AUROC {auroc:.3}"));
            observer.note(&format!("kept step {step}: {}{share}{found}", line(&path.to_string_lossy())));
            kept.push(Kept { step, model: path, held_out, synthetic_auroc });
        }
        Ok(kept)
    }

    /// Refuses ranks of different settings, data or checkpoints.
    fn agree(&self, header: &Header, checkpoint: Option<&ModelFile>) -> Result<(), DetectError> {
        let settings = Header { device: String::new(), ..header.clone() };
        let settings = format!("{settings:?} {:?}", (self.limits, self.keep_every, self.resume));
        let progress = checkpoint.map(|file| &file.header.progress);
        for (text, what) in [
            (settings, "their settings or training data differ; give all of them the same"),
            (
                format!("{progress:?}"),
                "their checkpoints differ; put the output where every rank sees the same file",
            ),
        ] {
            if !self.team.agree(&text)? {
                self.team.close();
                let error = match self.team.is_first() {
                    true => TrainError::Ranks { what: what.to_owned() },
                    false => TrainError::Rank { rank: 0 },
                };
                return Err(error.into());
            }
        }
        Ok(())
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
        let found = checkpoint.filter(|path| self.resume && path.exists());
        let file = found.map(|path| Ok::<_, DetectError>((ModelFile::load(path)?, path))).transpose()?;
        self.agree(&header, file.as_ref().map(|(file, _)| file))?;
        if let Some((file, checkpoint)) = file {
            check_resumable(&file.header, &header, checkpoint)?;
            let name =
                |precision: &Option<String>| precision.clone().unwrap_or_else(|| Precision::F32.to_string());
            let [before, now] = [&file.header, &header].map(|header| name(&header.precision));
            if before != now {
                observer.note(&format!(
                    "the checkpoint was trained in {before}, and this goes on in {now}: what follows is not the same training; `--precision {before}` goes on as it began"
                ));
            }
            let (parts, steps_per_epoch) = (header.recipe.parts, header.progress.steps_per_epoch);
            header.progress = file.header.progress.clone();
            let before = file.header.recipe.parts;
            if before != parts {
                header.progress.steps_per_epoch = steps_per_epoch;
                observer.note(&format!(
                    "the checkpoint is of batches in {before} parts, and they now come in {parts}: what follows is \
                     not the same training; steps count on, each of {} samples, and {steps_per_epoch} are an epoch",
                    header.batch * parts
                ));
            }
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

/// What a training may take, in words.
fn budget(limits: &Limits, trainer: &Trainer) -> String {
    let (batch, parts) = (trainer.header().batch, trainer.header().recipe.parts);
    let per_epoch = trainer.progress().steps_per_epoch.max(1);
    let batch = if parts > 1 { format!("{parts} × {batch}") } else { batch.to_string() };
    let steps = total_steps(trainer.stages(), limits, per_epoch).map(|steps| {
        format!("{steps} steps of {batch}, {:.1} passes over the data", steps as f64 / per_epoch as f64)
    });
    let minutes = limits.minutes.map(|minutes| format!("{minutes} minutes"));
    steps.or(minutes).unwrap_or_else(|| "as many steps as its stages take".to_owned())
}

/// Where the checkpoints of a model lie: beside it, with `.checkpoint` before the extension.
pub fn checkpoint_path(out: &Path) -> PathBuf {
    let extension = out.extension().map_or("safetensors".into(), |e| e.to_string_lossy().into_owned());
    out.with_extension(format!("checkpoint.{extension}"))
}

/// Says once, when the pace is known, how long a training will take.
struct Estimate {
    started: Instant,
    first: u64,
    is_due: bool,
}

impl Estimate {
    /// Seconds after which the pace is known; trainings that take less are over before it matters.
    const AFTER: f64 = 5.0;

    /// A training that goes on from step `first`; one that ends by time needs no estimate.
    fn new(first: u64, minutes: Option<f64>) -> Self {
        Self { started: Instant::now(), first, is_due: minutes.is_none() }
    }

    fn at(&mut self, news: &Tick<'_>) -> Option<String> {
        let (seconds, done) = (self.started.elapsed().as_secs_f64(), news.step - self.first);
        let total = news.total.filter(|_| self.is_due && seconds >= Self::AFTER && done > 0)?;
        self.is_due = false;
        let pace = done as f64 / seconds;
        let left = total.saturating_sub(news.step) as f64 / pace / 60.0;
        Some(format!("{pace:.1} steps/s: about {left:.1} more minutes at this pace"))
    }
}
