//! One model in training on one device.

use std::path::{Path, PathBuf};

use image::RgbImage;

use super::{TrainError, record};
use crate::device::{Device, DeviceError, Executable, NonFinite};
use crate::models::ConfigError;
use crate::models::file::{FileError, Header, ModelFile, NamedTensor, Progress, StageStart};
use crate::models::scorer::{Loaded, Sampler, compiled, load};
use crate::models::system::{Inputs, Part, Stage, System};
use crate::program::{CompileError, Program, StateId};
use crate::tape::{Tape, Tensor};

/// States, programs and progress of a training.
pub struct Trainer {
    header: Header,
    model: Loaded,
    stages: Vec<Stage>,
    device: Device,
    /// The parts of the stage under way.
    running: Vec<Running>,
    sampler: Option<Sampler>,
}

/// A part on the device, with the names of its losses and their last values.
struct Running {
    part: Part,
    program: Executable,
    names: Vec<&'static str>,
    last: Vec<f32>,
}

impl Running {
    /// Gives the part its batch and what was made of it, as far as it reads them; a generator's step reads
    /// none.
    fn write(&mut self, images: &[f32], made: &Inputs) -> Result<(), DeviceError> {
        let made = made.iter().map(|(name, values)| (*name, values.as_slice()));
        for (name, values) in std::iter::once(("x", images)).chain(made) {
            if self.program.program().input(name).is_some() {
                self.program.write(name, values)?;
            }
        }
        Ok(())
    }
}

/// A program of one part of a stage, with the names of its losses.
pub struct PartProgram {
    /// Its inputs are `x` and those of [`System::synthesise`], its output `losses`.
    pub program: Program,
    /// Names of the losses.
    pub names: Vec<&'static str>,
}

/// Records one step of a part on a batch; returns the names of the losses.
pub fn record_part(
    tape: &Tape,
    system: &dyn System,
    stage: usize,
    part: usize,
    batch: usize,
) -> Vec<&'static str> {
    let x = tape.input("x", &system.config().images(batch));
    let losses = system.record(tape, stage, part, x);
    if !losses.is_empty() {
        let values: Vec<_> = losses.iter().map(|(_, loss)| loss.reshape(&[1])).collect();
        tape.output("losses", Tensor::concat(&values, 0));
    }
    losses.into_iter().map(|(name, _)| name).collect()
}

/// Compiles one part of a stage.
///
/// # Errors
/// [`CompileError`] for settings that do not fit together.
pub fn part_program(
    system: &dyn System,
    stage: usize,
    part: usize,
    batch: usize,
) -> Result<PartProgram, CompileError> {
    let mut names = vec![];
    let program = compiled(|tape| names = record_part(tape, system, stage, part, batch))?;
    Ok(PartProgram { program, names })
}

impl Trainer {
    /// Starts a training as the header says; `checkpoint` continues one. `preview` are samples, never trained
    /// on, that sample grids show where the system reconstructs.
    ///
    /// # Errors
    /// [`TrainError`] for settings out of range, a checkpoint that does not fit, or a device at fault.
    pub fn new(
        device: &Device,
        header: Header,
        checkpoint: Option<(&ModelFile, &Path)>,
        preview: &[f32],
    ) -> Result<Self, TrainError> {
        if header.batch == 0 {
            return Err(ConfigError::new("batch", header.batch, "at least 1").into());
        }
        let (training, seed) = (header.training, header.seed);
        let model = load(device, &header, checkpoint, true, |system, states| {
            system.register_training(states, training, seed);
        })?;
        let system = model.system.as_ref();
        let sampler = Sampler::new(device, system, &model.store, seed, preview)?;
        let stages = system.stages();
        if let Some((_, path)) = checkpoint
            && header.progress.stages.len() > stages.len()
        {
            let (found, known) = (header.progress.stages.len(), stages.len());
            let reason = format!("{found} stages of training were begun, the system has {known}");
            return Err(FileError::Metadata { path: path.to_owned(), reason }.into());
        }
        let mut trainer = Self { header, model, stages, device: device.clone(), running: vec![], sampler };
        if trainer.header.progress.stages.is_empty() {
            trainer.header.progress.stages.push(StageStart::default());
        }
        trainer.load_stage()?;
        Ok(trainer)
    }

    /// The stage under way.
    pub fn stage(&self) -> usize {
        (self.header.progress.stages.len().max(1) - 1).min(self.stages.len() - 1)
    }

    /// All stages.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn load_stage(&mut self) -> Result<(), TrainError> {
        self.running.clear();
        let stage = self.stage();
        for (i, &part) in self.stages[stage].parts.iter().enumerate() {
            let PartProgram { program, names } =
                part_program(self.model.system.as_ref(), stage, i, self.header.batch)?;
            let program = self.device.load(&program, &self.model.store)?;
            self.running.push(Running { part, program, last: vec![], names });
        }
        Ok(())
    }

    /// Ends the stage under way and begins the next; false where it was the last.
    pub(super) fn next_stage(&mut self) -> Result<bool, TrainError> {
        let stage = self.stage();
        self.model.system.after_stage(stage, &self.model.store)?;
        let Progress { steps, seconds, .. } = self.header.progress;
        if stage + 1 == self.stages.len() {
            return Ok(false);
        }
        self.header.progress.stages.push(StageStart { steps, seconds });
        self.load_stage()?;
        Ok(true)
    }

    /// Steps, time and loss history so far.
    pub fn progress(&self) -> &Progress {
        &self.header.progress
    }

    /// Settings and progress.
    pub fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn set_seconds(&mut self, seconds: f64) {
        self.header.progress.seconds = seconds;
    }

    /// Bytes held on the device: all states, the programs of the stage under way, and that of the sample
    /// grids.
    pub fn bytes(&self) -> u64 {
        let programs = self.running.iter().map(|r| r.program.bytes()).sum::<u64>();
        self.model.store.bytes() + programs + self.sampler.as_ref().map_or(0, Sampler::bytes)
    }

    /// One step on a batch of images; returns the losses by name, of parts that were not due the last ones
    /// known.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails or the batch has the wrong length.
    pub fn step(&mut self, images: &[f32]) -> Result<Vec<(&'static str, f32)>, DeviceError> {
        let at = self.at(self.header.progress.steps);
        self.replay(images, self.header.progress.steps)?;
        self.header.progress.steps += 1;
        let (mut fresh, mut known) = (vec![], vec![]);
        for running in &self.running {
            let losses = running.names.iter().copied().zip(running.last.iter().copied());
            // A part that was not due has no new losses; those before it are not known after a resume.
            if running.part.is_due(at) {
                fresh.extend(losses.clone());
            }
            known.extend(losses);
        }
        record(&mut self.header.progress, &fresh);
        Ok(known)
    }

    /// Step `step` of the training, not counted.
    pub(super) fn replay(&mut self, images: &[f32], step: u64) -> Result<(), DeviceError> {
        let at = self.at(step);
        let made = self.model.system.synthesise(images, self.header.seed, step);
        for running in self.running.iter_mut().filter(|r| r.part.is_due(at)) {
            running.write(images, &made)?;
            running.program.run(1)?;
            if !running.names.is_empty() {
                running.last = running.program.read("losses")?;
            }
        }
        let stage = self.stage();
        let mut programs: Vec<_> = self.running.iter_mut().map(|r| &mut r.program).collect();
        self.model.system.after_step(stage, at, &mut programs, &self.model.store)
    }

    /// A step of the training counted from the start of its stage.
    fn at(&self, step: u64) -> u64 {
        step - self.header.progress.stages.last().map_or(0, |start| start.steps.min(step))
    }

    /// Puts the states back to a checkpoint of this training, or to its start.
    pub(super) fn rewind(&mut self, checkpoint: Option<&PathBuf>) -> Result<(), TrainError> {
        let Some(path) = checkpoint else {
            return Ok(self.model.store.initialise(&self.model.states, self.header.seed)?);
        };
        for tensor in ModelFile::load(path)?.tensors {
            if let Some(state) = self.model.states.find(&tensor.name) {
                self.model.store.write(state.id, &tensor.values)?;
            }
        }
        Ok(())
    }

    /// The first launch of step `step` on these images whose outputs are not finite.
    pub(super) fn find_non_finite(
        &mut self,
        images: &[f32],
        step: u64,
    ) -> Result<Option<NonFinite>, DeviceError> {
        let at = self.at(step);
        let made = self.model.system.synthesise(images, self.header.seed, step);
        for running in self.running.iter_mut().filter(|r| r.part.is_due(at)) {
            running.write(images, &made)?;
            if let Some(found) = running.program.find_non_finite()? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first `count` states.
    fn tensors(&self, count: usize) -> Result<Vec<NamedTensor>, DeviceError> {
        let entries = self.model.states.entries().iter().enumerate().take(count);
        entries
            .map(|(i, entry)| {
                let values = self.model.store.read(StateId(i))?;
                Ok(NamedTensor::new(entry.name.clone(), &entry.shape, values))
            })
            .collect()
    }

    /// The number of states that are the model, which are the first of a checkpoint.
    pub fn weights(&self) -> usize {
        self.model.weights
    }

    /// Everything needed to go on bit for bit.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    pub fn checkpoint(&self) -> Result<ModelFile, DeviceError> {
        Ok(ModelFile { header: self.header.clone(), tensors: self.tensors(usize::MAX)? })
    }

    /// The model alone.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    pub fn model(&self) -> Result<ModelFile, DeviceError> {
        Ok(ModelFile { header: self.header.clone(), tensors: self.tensors(self.model.weights)? })
    }

    /// Whether there is anything for [`Trainer::samples`] to show.
    pub fn has_samples(&self) -> bool {
        self.sampler.is_some()
    }

    /// A grid of what the model makes of the same things all through the training, where it makes images.
    ///
    /// # Errors
    /// [`TrainError`] where the device fails.
    pub fn samples(&mut self) -> Result<Option<RgbImage>, TrainError> {
        Ok(self.sampler.as_mut().map(Sampler::grid).transpose()?)
    }
}

/// Checks that a checkpoint continues what the command asks for.
///
/// # Errors
/// [`TrainError::Mismatch`] naming the first field that differs.
pub fn check_resumable(found: &Header, asked: &Header, path: &Path) -> Result<(), TrainError> {
    fn text(value: impl std::fmt::Debug) -> String {
        format!("{value:?}")
    }
    /// A field with its value in the checkpoint and as asked for.
    macro_rules! compare {
        ($($name:literal => $($field:ident).+),* $(,)?) => {
            [$(($name, text(&found.$($field).+), text(&asked.$($field).+))),*]
        };
    }
    let fields = compare![
        "system" => system,
        "options" => options,
        "`size`" => config.size,
        "form" => config.form,
        "`channels`" => config.channels,
        "`width`" => config.width,
        "`latent`" => config.latent,
        "`prior`" => config.prior,
        "`kernel`" => config.kernel,
        "`lr`" => training.lr,
        "betas" => training.betas,
        "`batch`" => batch,
        "`seed`" => seed,
        "`data`" => data.spec,
        "`normal-class`" => data.normal_classes,
        "`anomalous-class`" => data.anomalous_classes,
        "`fit`" => data.fit,
        "`window`" => data.window,
        "`bits`" => data.bits,
        "`flatten`" => data.flatten,
        "`tile`" => data.tiles,
        "`patch`" => data.patch,
        "`augment`" => data.augment,
        "`val-fraction`" => data.val_fraction,
        "training images" => data.training_images,
        "held-out images" => data.held_out,
        "a data digest of" => data.digest,
        "steps in an epoch" => progress.steps_per_epoch,
    ];
    match fields.into_iter().find(|(_, a, b)| a != b) {
        None => Ok(()),
        Some((field, found, asked)) => {
            Err(TrainError::Mismatch { path: path.to_owned(), field, found, asked })
        }
    }
}
