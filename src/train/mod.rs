//! Training: the loop, its checkpoints, and what stops it.

mod held_out;
mod history;
mod log;
mod parts;
mod statistics;
mod team;
mod trainer;

pub use history::record;
pub use team::{Ranks, Team, Threads};
pub use trainer::{PartProgram, Trainer, check_resumable, part_program, record_part};

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use held_out::HeldOut;
use log::Log;

use crate::device::DeviceError;
use crate::models::ConfigError;
use crate::models::file::{FileError, NamedTensor, Progress};
use crate::models::scorer::ScoreError;
use crate::models::system::{Share, Stage};
use crate::program::CompileError;
use crate::report::ReportError;

/// Why training cannot start or go on. Messages name fields in backquotes.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A program that does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A fault of the device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A checkpoint that cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A checkpoint whose tensors do not fit, or a calibration that failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// A sample grid that cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Training data that cannot be read.
    #[error(transparent)]
    Data(#[from] ganomede_datasets::DataError),
    /// Fewer images than a batch.
    #[error(
        "the batch is {batch} but only {images} images are left for training; use `batch` {images} or smaller, more \
         images, or a smaller `val-fraction`"
    )]
    BatchTooLarge {
        /// Batch asked for.
        batch: usize,
        /// Images there.
        images: usize,
    },
    /// Data that hold no batch where there was one when they were opened.
    #[error(
        "the training data give no batch at step {step}; they changed since they were opened: run again with `resume`"
    )]
    NoBatch {
        /// Steps done.
        step: u64,
    },
    /// A loss that is NaN or infinite.
    #[error(
        "training diverged at step {step}: {loss} is {value}; the first layer whose values are not finite is \
         '{layer}' ({kernel}). {checkpoint}. Lower `lr`, or train with another `seed`"
    )]
    NonFinite {
        /// Step of training at which it was found.
        step: u64,
        /// Name of the loss.
        loss: &'static str,
        /// Its value.
        value: f32,
        /// Layer of the first launch that made one.
        layer: String,
        /// Kernel family of that launch.
        kernel: &'static str,
        /// Where the last good checkpoint is, or that there is none.
        checkpoint: String,
    },
    /// A state that is NaN or infinite, found when it was to be saved.
    #[error(
        "training diverged at step {step}: '{tensor}' holds values that are not finite. {checkpoint}. Lower `lr`, or \
         train with another `seed`"
    )]
    NonFiniteState {
        /// Step of training at which it was found.
        step: u64,
        /// Parameter, running statistic or moment.
        tensor: String,
        /// Where the last good checkpoint is, or that there is none.
        checkpoint: String,
    },
    /// Another rank could not go on.
    #[error("rank {rank} ended the training; its own message says why")]
    Rank {
        /// That rank.
        rank: usize,
    },
    /// Messages between ranks that fail.
    #[error("the ranks of the training lost each other: {reason}; start all of them again with `resume`")]
    Exchange {
        /// What carries the messages says.
        reason: String,
    },
    /// Ranks that were not started alike.
    #[error("the ranks of the training were not started alike: {what}")]
    Ranks {
        /// What differs, and what to do.
        what: String,
    },
    /// A checkpoint of another training.
    #[error(
        "'{path}' was trained with {field} {found}, this command says {asked}; drop `resume`, or give the same settings"
    )]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// Field that differs.
        field: &'static str,
        /// Value in the checkpoint.
        found: String,
        /// Value asked for.
        asked: String,
    },
}

impl TrainError {
    /// True where the machine is at fault, false where the request is.
    pub fn is_machine_fault(&self) -> bool {
        match self {
            Self::Device(e) => e.is_machine_fault(),
            Self::File(e) => e.is_machine_fault(),
            Self::Data(e) => e.is_machine_fault(),
            Self::Score(e) => e.is_machine_fault(),
            Self::Report(_) | Self::NonFinite { .. } | Self::NonFiniteState { .. } => true,
            Self::Rank { .. } | Self::Exchange { .. } => true,
            Self::Config(_) | Self::Compile(_) => false,
            Self::BatchTooLarge { .. } | Self::NoBatch { .. } | Self::Mismatch { .. } => false,
            Self::Ranks { .. } => false,
        }
    }
}

/// When training ends; the first limit reached counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Steps in all, those before a resume included.
    pub steps: Option<u64>,
    /// Passes over the data.
    pub epochs: Option<u64>,
    /// Wall time, time before a resume included.
    pub minutes: Option<f64>,
}

/// How the loop behaves.
#[derive(Debug, Clone)]
pub struct LoopOptions {
    /// When it ends.
    pub limits: Limits,
    /// Where checkpoints go; none are written without a place.
    pub checkpoint: Option<PathBuf>,
    /// Steps between checkpoints, 0 for none but the last.
    pub checkpoint_every: u64,
    /// Rounds the weights and moments in checkpoints to half precision; a training that resumes from one is
    /// close to the one that was interrupted, not the same.
    pub half_checkpoints: bool,
    /// Keeps the model as it would be if training ended there, each so many steps of the last stage, beside
    /// this model file: [`kept_path`].
    pub keep: Option<(u64, PathBuf)>,
    /// Folder of sample grids, one an epoch.
    pub samples: Option<PathBuf>,
    /// Folder of a log: losses, samples and histograms of weights as a TensorBoard event file, losses as JSON
    /// lines.
    pub log: Option<PathBuf>,
}

/// What the loop tells while it runs.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// Steps done.
    pub step: u64,
    /// Name of the stage under way.
    pub stage: &'static str,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Steps at which the loop will end, where known.
    pub total: Option<u64>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Names and values of the last step's losses.
    pub losses: &'a [(&'static str, f32)],
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A limit was reached.
    Done,
    /// The caller asked to stop; a checkpoint was saved.
    Interrupted,
}

/// Batches of one epoch from a given batch on, each `batch · channels · size²` values.
pub type Epoch<'a> = Box<dyn Iterator<Item = Result<Vec<f32>, ganomede_datasets::DataError>> + 'a>;

/// Trains until a limit or until `tick` breaks, in all ranks alike. `epoch(e, b)` opens epoch e at batch b;
/// what it yields, the rows [`Trainer::rows`] of each batch, must depend on (e, b) alone, so that a resumed
/// training sees the same batches.
///
/// # Errors
/// [`TrainError`]; whatever happens, the checkpoint on disk is whole and of finite weights.
pub fn train<'a>(
    trainer: &mut Trainer,
    options: &LoopOptions,
    epoch: &mut dyn FnMut(u64, u64) -> Result<Epoch<'a>, ganomede_datasets::DataError>,
    tick: &mut dyn FnMut(Tick<'_>) -> ControlFlow<()>,
) -> Result<End, TrainError> {
    if let Some(folder) = &options.samples {
        let refused = |source| ReportError::Write { path: folder.clone(), source };
        std::fs::create_dir_all(folder).map_err(refused)?;
    }
    let before = trainer.progress().seconds;
    let started = Instant::now();
    let mut saved = trainer.progress().steps;
    let mut log = options.log.as_deref().map(|folder| Log::open(folder, saved)).transpose()?;
    let per_epoch = trainer.progress().steps_per_epoch.max(1);
    let total = total_steps(trainer.stages(), &options.limits, per_epoch);
    // Losses of the last step.
    let mut last = vec![];
    loop {
        let step = trainer.progress().steps;
        let mut batches = epoch(step / per_epoch, step % per_epoch)?;
        let mut is_empty = true;
        loop {
            let step = trainer.progress().steps;
            let (last_step, last_second) = stage_end(trainer.stages(), trainer.progress(), &options.limits);
            // Clocks differ: one that is through ends the stage for all.
            let out_of_time = match last_second {
                Some(end) => trainer.team().any(before + started.elapsed().as_secs_f64() >= end)?,
                None => false,
            };
            if last_step.is_some_and(|end| step >= end) || out_of_time {
                trainer.set_seconds(before + started.elapsed().as_secs_f64());
                let (stage, seconds) = (trainer.stages()[trainer.stage()].name, trainer.progress().seconds);
                let news = Tick { step, stage, steps_per_epoch: per_epoch, total, seconds, losses: &last };
                let mut goes_on = || tick(news).is_continue();
                let team = trainer.team().clone();
                let goes_on = &mut || Ok(!team.any(!goes_on())?);
                if trainer.is_last_stage() {
                    trainer.after_stage()?;
                    // What follows is done again where a training is resumed: the checkpoint goes on as if it
                    // had never ended.
                    save(trainer, options, &mut saved)?;
                    log.as_mut().map_or(Ok(()), Log::flush)?;
                    if !trainer.settle(epoch, goes_on)? {
                        return Ok(End::Interrupted);
                    }
                    trainer.keep_held_out()?;
                    return Ok(End::Done);
                }
                if trainer.settles() {
                    save(trainer, options, &mut saved)?;
                }
                if !trainer.settle(epoch, goes_on)? {
                    return Ok(End::Interrupted);
                }
                trainer.after_stage()?;
                trainer.next_stage()?;
                // A replay from the last checkpoint must never have to cross the end of a stage.
                save(trainer, options, &mut saved)?;
                continue;
            }
            let Some(images) = batches.next() else {
                // The next look would find the same: nothing but a step leads on.
                if is_empty {
                    return Err(TrainError::NoBatch { step });
                }
                break;
            };
            is_empty = false;
            let mut losses = trainer.step(&images?)?;
            trainer.set_seconds(before + started.elapsed().as_secs_f64());
            if let Some(&(loss, value)) = losses.iter().find(|(_, v)| !v.is_finite()) {
                return Err(
                    diagnose(trainer, options, epoch, saved, loss, value).unwrap_or_else(|fault| fault)
                );
            }
            let step = step + 1;
            if held_out::is_due(step) {
                losses.extend(trainer.record_held_out()?.map(|value| (HeldOut::CURVE, value)));
            }
            let seconds = trainer.progress().seconds;
            let stage = trainer.stages()[trainer.stage()].name;
            let news = Tick { step, stage, steps_per_epoch: per_epoch, total, seconds, losses: &losses };
            let stops = trainer.team().any(tick(news).is_break())?;
            let ends = total.is_some_and(|t| step >= t);
            if let Some(log) = &mut log
                && let Err(fault) = write_log(log, &news, trainer, stops || ends)
            {
                save(trainer, options, &mut saved)?;
                return Err(fault);
            }
            last.clone_from(&losses);
            if stops {
                save(trainer, options, &mut saved)?;
                return Ok(End::Interrupted);
            }
            if options.checkpoint_every > 0 && step.is_multiple_of(options.checkpoint_every) {
                save(trainer, options, &mut saved)?;
            }
            if let Some((every, out)) = &options.keep
                && step.is_multiple_of(*every)
                && trainer.is_last_stage()
                && !ends
            {
                let team = trainer.team().clone();
                let goes_on = &mut || Ok(!team.any(tick(news).is_break())?);
                let Some(kept) = trainer.snapshot(epoch, goes_on)? else {
                    save(trainer, options, &mut saved)?;
                    return Ok(End::Interrupted);
                };
                if trainer.team().is_first() {
                    kept.save(&kept_path(out, step))?;
                }
            }
            if let Some(folder) = &options.samples
                && (step.is_multiple_of(per_epoch) || ends)
            {
                save_samples(trainer, folder, step)?;
            }
        }
    }
}

/// Name of the curve that a history has of held-out samples: Σ (x − x̂)² / Σ (x − x̄)², below 1 where the
/// network beats the mean image x̄.
pub const HELD_OUT: &str = HeldOut::CURVE;

/// Steps of the whole training, where they are known beforehand.
pub fn total_steps(stages: &[Stage], limits: &Limits, per_epoch: u64) -> Option<u64> {
    match limited_steps(limits, per_epoch) {
        _ if stages.iter().all(|s| matches!(s.share, Share::Passes(_))) => {
            Some(fixed_steps(stages, per_epoch))
        }
        total if limits.minutes.is_none() => total,
        _ => None,
    }
}

/// Steps that stages take whatever the budget.
fn fixed_steps(stages: &[Stage], per_epoch: u64) -> u64 {
    let passes = |stage: &Stage| if let Share::Passes(n) = stage.share { n } else { 0 };
    stages.iter().map(|s| passes(s) * per_epoch).sum()
}

/// Steps that limits allow, where they are of steps or epochs.
pub(crate) fn limited_steps(limits: &Limits, per_epoch: u64) -> Option<u64> {
    let by_epochs = limits.epochs.map(|e| e.saturating_mul(per_epoch));
    match (limits.steps, by_epochs) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Step and second of the training at which the stage under way ends.
fn stage_end(stages: &[Stage], progress: &Progress, limits: &Limits) -> (Option<u64>, Option<f64>) {
    let Some(start) = progress.stages.last() else { return (None, None) };
    let per_epoch = progress.steps_per_epoch.max(1);
    let left = &stages[(progress.stages.len() - 1).min(stages.len() - 1)..];
    match left[0].share {
        Share::Passes(passes) => (Some(start.steps + passes * per_epoch), None),
        Share::Part(part) => {
            let parts = left.iter().map(|s| if let Share::Part(p) = s.share { p } else { 0.0 }).sum::<f64>();
            let fraction = part / parts;
            let steps = limited_steps(limits, per_epoch).map(|total| {
                let rest = total.saturating_sub(start.steps + fixed_steps(&left[1..], per_epoch));
                start.steps + ((rest as f64 * fraction).round() as u64).max(1)
            });
            let rest = |total: f64| (60.0 * total - start.seconds).max(0.0);
            (steps, limits.minutes.map(|total| start.seconds + rest(total) * fraction))
        }
    }
}

/// Where the model of a step is kept: beside the model that is trained, with the step before the extension.
pub fn kept_path(out: &Path, step: u64) -> PathBuf {
    let extension = out.extension().map_or("safetensors".into(), |e| e.to_string_lossy().into_owned());
    out.with_extension(format!("step-{step:07}.{extension}"))
}

fn save(trainer: &Trainer, options: &LoopOptions, saved: &mut u64) -> Result<(), TrainError> {
    let mut file = trainer.checkpoint()?;
    // The losses of a step are those before its update: they can be finite where the new weights are not.
    if let Some(tensor) = file.tensors.iter().find(|t| !is_finite(t)) {
        let (step, checkpoint) = (trainer.progress().steps, last_good(options.checkpoint.as_deref(), *saved));
        return Err(TrainError::NonFiniteState { step, tensor: tensor.name.clone(), checkpoint });
    }
    if options.half_checkpoints {
        file.halve_checkpoint(trainer.weights());
    }
    if let Some(checkpoint) = &options.checkpoint {
        if trainer.team().is_first() {
            file.save(checkpoint)?;
        }
        *saved = trainer.progress().steps;
    }
    Ok(())
}

/// Explains a loss that is NaN or infinite. The step at fault has already corrupted the weights, so the
/// training is repeated from the last checkpoint, which gives the same bits, and every launch of that step is
/// looked at.
fn diagnose<'a>(
    trainer: &mut Trainer,
    options: &LoopOptions,
    epoch: &mut dyn FnMut(u64, u64) -> Result<Epoch<'a>, ganomede_datasets::DataError>,
    saved: u64,
    loss: &'static str,
    value: f32,
) -> Result<TrainError, TrainError> {
    let step = trainer.progress().steps;
    let per_epoch = trainer.progress().steps_per_epoch.max(1);
    if trainer.team().count() > 1 {
        let layer = "not looked for where several ranks train".to_owned();
        let checkpoint = last_good(options.checkpoint.as_deref(), saved);
        return Ok(TrainError::NonFinite { step, loss, value, layer, kernel: "unknown", checkpoint });
    }
    trainer.rewind(options.checkpoint.as_ref().filter(|_| saved > 0))?;
    let mut batches = epoch(saved / per_epoch, saved % per_epoch)?;
    let mut done = saved;
    let found = loop {
        let Some(images) = batches.next() else {
            batches = epoch(done / per_epoch, done % per_epoch)?;
            continue;
        };
        done += 1;
        if done == step {
            break trainer.find_non_finite(&images?, step - 1)?;
        }
        trainer.replay(&images?, done - 1)?;
    };
    let (layer, kernel) =
        found.map_or(("none on a second look".to_owned(), "unknown"), |found| (found.scope, found.kernel));
    let checkpoint = last_good(options.checkpoint.as_deref(), saved);
    Ok(TrainError::NonFinite { step, loss, value, layer, kernel, checkpoint })
}

/// The random key is two words of the seed and may look like anything.
fn is_finite(tensor: &NamedTensor) -> bool {
    tensor.name.starts_with("random.") || tensor.values.iter().all(|v| v.is_finite())
}

/// Sentence about the checkpoint that is left when training diverges.
fn last_good(checkpoint: Option<&Path>, saved: u64) -> String {
    match checkpoint.filter(|_| saved > 0) {
        None => "There is no earlier checkpoint".to_owned(),
        Some(path) => format!("The last good checkpoint is of step {saved}: '{}'", path.display()),
    }
}

/// Losses after each step; samples and weights after epochs, of fewer and fewer as there are more, and at the
/// end.
fn write_log(log: &mut Log, news: &Tick<'_>, trainer: &mut Trainer, ends: bool) -> Result<(), TrainError> {
    log.losses(news)?;
    let epoch = news.step / news.steps_per_epoch;
    if ends || news.step.is_multiple_of(news.steps_per_epoch) && log::is_due(epoch, 20) {
        if let Some(grid) = trainer.samples()? {
            log.image(news.step, "samples", &grid)?;
        }
        log.histograms(news.step, &trainer.model()?.tensors)?;
        log.flush()?;
    }
    Ok(())
}

fn save_samples(trainer: &mut Trainer, folder: &Path, step: u64) -> Result<(), TrainError> {
    if let Some(grid) = trainer.samples()? {
        crate::report::save_png_atomic(&folder.join(format!("step-{step:07}.png")), &grid)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::file::StageStart;

    fn stages() -> Vec<Stage> {
        [("gan", Share::Part(3.0)), ("centre", Share::Passes(2)), ("encoder", Share::Part(1.0))]
            .map(|(name, share)| Stage::simple(name, share))
            .to_vec()
    }

    fn at(begun: &[(u64, f64)]) -> Progress {
        let stages = begun.iter().map(|&(steps, seconds)| StageStart { steps, seconds }).collect();
        Progress { stages, steps_per_epoch: 10, ..Progress::default() }
    }

    #[test]
    fn stages_share_the_steps() {
        let limits = Limits { steps: Some(100), ..Limits::default() };
        assert_eq!(stage_end(&stages(), &at(&[(0, 0.0)]), &limits), (Some(60), None));
        assert_eq!(stage_end(&stages(), &at(&[(0, 0.0), (60, 6.0)]), &limits), (Some(80), None));
        assert_eq!(stage_end(&stages(), &at(&[(0, 0.0), (60, 6.0), (80, 8.0)]), &limits), (Some(100), None));
        assert_eq!(total_steps(&stages(), &limits, 10), Some(100));
    }

    #[test]
    fn stages_share_the_time() {
        let limits = Limits { minutes: Some(1.0), ..Limits::default() };
        assert_eq!(stage_end(&stages(), &at(&[(0, 0.0)]), &limits), (None, Some(45.0)));
        assert_eq!(
            stage_end(&stages(), &at(&[(0, 0.0), (9, 45.0), (29, 50.0)]), &limits),
            (None, Some(60.0))
        );
    }
}
