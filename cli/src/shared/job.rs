//! Trainings as commands run them: under the terminal, with a summary.

use std::path::{Path, PathBuf};

use ganomede::detect::{DetectError, Job, Kept, Samples, Trained};
use ganomede::device::Device;
use ganomede::models::SyntheticCheck;
use ganomede::models::file::ModelFile;
use ganomede_datasets::Findings;
use serde::Serialize;

use super::findings::report_rejected;
use super::terminal::Terminal;
use super::{CliError, Interrupt, note};

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
    /// Of several ranks: what this one sent to the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent_bytes: Option<u64>,
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
    /// What synthetic defects on held-out images say of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<SyntheticCheck>,
    /// What is wrong with it, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    #[serde(rename = "final")]
    pub(crate) losses: std::collections::BTreeMap<String, f32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) kept: Vec<Kept>,
}

/// Runs a training that writes a model file; `can_resume` says whether the command has `--resume`.
pub(crate) fn run(
    job: Job,
    device: &Device,
    samples: &dyn Samples,
    can_resume: bool,
    interrupt: &Interrupt,
) -> Result<(Summary, ModelFile), CliError> {
    let (out, team) = (job.out.clone().unwrap_or_default(), job.team.clone());
    let trained = job.run(device, samples, &mut Terminal::new(interrupt)).map_err(|error| {
        let hint = matches!(error, DetectError::TrainingStopped { .. }) && can_resume;
        let mut error = CliError::from(error);
        if hint {
            error.message += "; the same command with --resume continues";
        }
        error
    })?;
    let Trained { model, resumed_at, peak_bytes, findings, checkpoint, losses, kept } = trained;
    report_rejected(&findings.rejected);
    let (header, progress) = (&model.header, &model.header.progress);
    let steps = progress.steps;
    let summary = Summary {
        system: header.system.clone(),
        device: device.describe(),
        seed: header.seed,
        steps,
        epochs: steps as f64 / progress.steps_per_epoch.max(1) as f64,
        seconds: progress.seconds,
        images_per_second: (steps * (header.batch * header.recipe.parts) as u64) as f64
            / progress.seconds.max(1e-9),
        peak_bytes,
        sent_bytes: Some(team.sent_bytes()).filter(|_| team.count() > 1),
        training_images: header.data.training_images,
        held_out: header.data.held_out,
        held_out_block: header.data.held_out_block.clone(),
        rejected_files: findings.rejected.len(),
        findings,
        model: out,
        checkpoint: checkpoint.unwrap_or_default(),
        threshold: header.calibration.as_ref().map(|c| c.threshold),
        check: header.check.clone(),
        warnings: header.check.as_ref().map_or(vec![], SyntheticCheck::warnings),
        losses,
        kept,
    };
    if steps == resumed_at {
        note("the checkpoint had already reached the limit; raise --epochs or --steps to train on");
    }
    Ok((summary, model))
}

/// Trains on `samples` as a model was trained, with another seed.
pub(crate) fn again(
    device: &Device,
    model: &ModelFile,
    seed: u64,
    out: &Path,
    samples: &dyn Samples,
    interrupt: &Interrupt,
) -> Result<ModelFile, CliError> {
    let job = Job::again(model, seed, Some(out), samples.info()?);
    Ok(run(job, device, samples, false, interrupt)?.1)
}

/// Why `--seeds` cannot train again.
pub(crate) fn trains_again(error: DetectError) -> CliError {
    match error {
        DetectError::Input(reason) => CliError::input(format!("--seeds trains again, but {reason}")),
        other => other.into(),
    }
}
