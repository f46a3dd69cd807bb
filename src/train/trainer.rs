//! One model in training on one device.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganomede_datasets::DataError;
use ganomede_datasets::defects::photographs::Photographs;
use image::RgbImage;

use super::held_out::HeldOut;
use super::parts::{Batch, Levels, kind_of, write_rate};
use super::statistics::Statistics;
use super::{Epoch, Limits, Team, TrainError, record, stage_end};
use crate::device::{Device, DeviceError, Executable, NonFinite};
use crate::models::file::{FileError, Header, ModelFile, NamedTensor, Progress, StageStart};
use crate::models::recipe::{Recipe, Schedule};
use crate::models::scorer::{Loaded, Sampler, compiled, load};
use crate::models::standardise::standardised;
use crate::models::system::{Inputs, Losses, Part, Stage, System};
use crate::models::{ConfigError, find};
use crate::nn::Ema;
use crate::program::{CompileError, Program, StateId, compile};
use crate::tape::{Parts, Purpose, Tape, Tensor, Variable};

/// States, programs and progress of a training.
pub struct Trainer {
    header: Header,
    model: Loaded,
    stages: Vec<Stage>,
    device: Device,
    /// The parts of the stage under way.
    running: Vec<Running>,
    /// Averages of all parameters, where the recipe has them.
    ema: Option<Ema>,
    /// Averages those that the stage under way moves.
    averaging: Option<Averaging>,
    /// What is made of held-out samples, where the system reconstructs.
    held_out: Option<HeldOut>,
    sampler: Option<Sampler>,
    /// Those who train with this one.
    team: Team,
    /// Parts of a batch that this rank reads.
    reads: Range<usize>,
}

/// The averages of the parameters that a stage moves, and the program that follows them.
struct Averaging {
    ema: Ema,
    program: Executable,
}

/// A part on the device, with the names of its losses and their last values.
struct Running {
    part: Part,
    /// Of batches in parts: what runs on each part before the program runs.
    levels: Option<Levels>,
    program: Executable,
    names: Vec<&'static str>,
    last: Vec<f32>,
}

impl Running {
    /// Gives the part its batch with what was made of it, and the rate of its step sizes where they change.
    fn write(&mut self, images: &[f32], made: &Inputs, rate: f32) -> Result<(), DeviceError> {
        write_rate(&mut self.program, rate)?;
        let made = made.iter().map(|(name, values)| (*name, values.as_slice()));
        write_batch(&mut self.program, std::iter::once(("x", images)).chain(made))
    }
}

/// Gives a program of a step its batch and what was made of it, by name, as far as it reads them; a
/// generator's step reads none.
pub(super) fn write_batch<'a>(
    program: &mut Executable,
    batch: impl Iterator<Item = (&'a str, &'a [f32])>,
) -> Result<(), DeviceError> {
    for (name, values) in batch {
        if program.program().input(name).is_some() {
            program.write(name, values)?;
        }
    }
    Ok(())
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
    let losses = record_step(tape, system, stage, part, batch);
    if !losses.is_empty() {
        let values: Vec<_> = losses.iter().map(|(_, loss)| tape.whole(*loss).reshape(&[1])).collect();
        tape.output("losses", Tensor::concat(&values, 0));
    }
    losses.into_iter().map(|(name, _)| name).collect()
}

/// As [`record_part`], with no output.
pub(super) fn record_step<'t>(
    tape: &'t Tape,
    system: &dyn System,
    stage: usize,
    part: usize,
    batch: usize,
) -> Losses<'t> {
    let x = tape.input("x", &system.config().images(batch));
    system.record(tape, stage, part, x)
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
    part_program_for(Purpose::Plain, system, stage, part, batch)
}

fn part_program_for(
    purpose: Purpose,
    system: &dyn System,
    stage: usize,
    part: usize,
    batch: usize,
) -> Result<PartProgram, CompileError> {
    let tape = Tape::of(purpose);
    let names = record_part(&tape, system, stage, part, batch);
    Ok(PartProgram { program: compile(&tape.finish()?)?, names })
}

/// The parameters that the optimisers of a stage move.
fn learned(system: &dyn System, stage: usize, batch: usize) -> Vec<Variable> {
    let tape = Tape::new();
    for part in 0..system.stages()[stage].parts.len() {
        record_step(&tape, system, stage, part, batch);
    }
    tape.learned()
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
        header.recipe.check()?;
        let (training, recipe, seed) = (header.training, header.recipe, header.seed);
        let mut ema = None;
        let model = load(device, &header, checkpoint, true, |system, states| {
            system.register_training(states, training, seed);
            if let Some(decay) = recipe.ema {
                let stages = 0..system.stages().len();
                let all: BTreeMap<_, _> = stages
                    .flat_map(|stage| learned(system, stage, header.batch))
                    .map(|parameter| (parameter.id, parameter))
                    .collect();
                ema = Some(Ema::new(states, Recipe::AVERAGES, all.into_values().collect(), decay));
            }
        })?;
        let system = model.system.as_ref();
        let (preview, _) = standardised(preview, header.config.sample_len(), recipe.standardise);
        let sampler = Sampler::new(device, system, &model.store, seed, &preview)?;
        let held_out = HeldOut::new(device, system, &model.store, &preview)?;
        let stages = system.stages();
        if let Some((_, path)) = checkpoint
            && header.progress.stages.len() > stages.len()
        {
            let (found, known) = (header.progress.stages.len(), stages.len());
            let reason = format!("{found} stages of training were begun, the system has {known}");
            return Err(FileError::Metadata { path: path.to_owned(), reason }.into());
        }
        let (device, team, reads) = (device.clone(), Team::default(), 0..header.recipe.parts);
        let mut trainer = Self {
            header,
            model,
            stages,
            device,
            running: vec![],
            ema,
            averaging: None,
            sampler,
            held_out,
            team,
            reads,
        };
        if trainer.header.progress.stages.is_empty() {
            trainer.header.progress.stages.push(StageStart::default());
        }
        trainer.load_stage()?;
        Ok(trainer)
    }

    /// Trains as one of several ranks from here on, on its parts of every batch; `Recipe::parts` are those of
    /// all ranks together.
    ///
    /// # Errors
    /// [`TrainError::Ranks`] for parts that are not the same number for each.
    pub fn join(&mut self, team: Team) -> Result<(), TrainError> {
        let (parts, count) = (self.header.recipe.parts, team.count());
        if !parts.is_multiple_of(count) {
            let what = format!("{parts} parts of a batch are not the same number for each of {count}");
            return Err(TrainError::Ranks { what });
        }
        let (system, batch) = (self.model.system.as_ref(), self.header.batch);
        let recipe = &self.header.recipe;
        let mut reads_all = recipe.sync_bn && recipe.batch_norm_pass;
        for (stage, of) in self.stages.iter().enumerate() {
            for part in 0..of.parts.len() {
                // What fits no optimiser is one pass over whole batches, which each rank does by itself.
                let [learns, is_made] = kind_of(system, stage, part, batch)?;
                reads_all |= !learns || is_made;
            }
        }
        self.reads = if reads_all { 0..parts } else { team.own(parts) };
        self.team = team;
        Ok(())
    }

    /// Those who train with this one.
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// Rows of each batch that this rank reads, of `batch · parts` in all: those of its parts; all of them
    /// for a system that fits more than gradients, or that makes its samples of whole batches.
    pub fn rows(&self) -> Range<usize> {
        self.reads.start * self.header.batch..self.reads.end * self.header.batch
    }

    /// Takes textures from these in place of drawn ones ([`System::set_textures`]).
    pub fn set_textures(&mut self, textures: Arc<Photographs>) {
        self.model.system.set_textures(textures);
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
        self.averaging = None;
        let (stage, batch) = (self.stage(), self.header.batch);
        let system = self.model.system.as_ref();
        let purpose = match self.header.recipe.schedule {
            Schedule::Constant => Purpose::Plain,
            Schedule::Cosine | Schedule::Step => Purpose::Scheduled,
        };
        for (i, &part) in self.stages[stage].parts.iter().enumerate() {
            let (store, count) = (&self.model.store, self.header.recipe.parts);
            if count > 1 && kind_of(system, stage, i, batch)?[0] {
                let parts = Parts { batch, count, sync_norms: self.header.recipe.sync_bn };
                let (levels, program, names) =
                    Levels::load(&self.device, store, purpose, system, [stage, i], parts)?;
                self.running.push(Running { part, levels: Some(levels), program, last: vec![], names });
                continue;
            }
            let PartProgram { program, names } = part_program_for(purpose, system, stage, i, batch * count)?;
            let program = self.device.load(&program, store)?;
            self.running.push(Running { part, levels: None, program, last: vec![], names });
        }
        if let Some(ema) = &self.ema {
            let ema = ema.of(&learned(system, stage, batch));
            let program = compiled(|tape| ema.update(tape, tape.input("step", &[1])))?;
            self.averaging = Some(Averaging { program: self.device.load(&program, &self.model.store)?, ema });
        }
        Ok(())
    }

    /// Whether no stage comes after the one under way.
    pub(super) fn is_last_stage(&self) -> bool {
        self.stage() + 1 == self.stages.len()
    }

    /// What the system does when a stage ends.
    pub(super) fn after_stage(&self) -> Result<(), DeviceError> {
        self.model.system.after_stage(self.stage(), &self.model.store)
    }

    /// Begins the next stage.
    pub(super) fn next_stage(&mut self) -> Result<(), TrainError> {
        let Progress { steps, seconds, .. } = self.header.progress;
        self.header.progress.stages.push(StageStart { steps, seconds });
        self.load_stage()
    }

    /// Whether [`Trainer::settle`] may do anything.
    pub(super) fn settles(&self) -> bool {
        self.header.recipe.batch_norm_pass || self.ema.is_some()
    }

    /// What the recipe does when a stage has had its last step: averages become the weights, and batch norm's
    /// running statistics those of the training data under them. `epoch` opens the data as [`super::train`]
    /// does; false where `goes_on` said so, which is asked after each batch.
    ///
    /// The pass sees each training sample once, but no more batches than the stage had steps: it never takes
    /// longer than the training.
    pub(super) fn settle<'a>(
        &mut self,
        epoch: &mut dyn FnMut(u64, u64) -> Result<Epoch<'a>, DataError>,
        goes_on: &mut dyn FnMut() -> Result<bool, TrainError>,
    ) -> Result<bool, TrainError> {
        // Their memory is free for the pass; where steps come after all, they are loaded again.
        self.running.clear();
        self.settle_states(epoch, goes_on)
    }

    /// The model as it would be if the training ended here; `None` where `goes_on` said so.
    pub(super) fn snapshot<'a>(
        &mut self,
        epoch: &mut dyn FnMut(u64, u64) -> Result<Epoch<'a>, DataError>,
        goes_on: &mut dyn FnMut() -> Result<bool, TrainError>,
    ) -> Result<Option<ModelFile>, TrainError> {
        let before = self.tensors(self.model.weights)?;
        let is_whole = self.settle_states(epoch, goes_on)?;
        self.keep_held_out()?;
        let kept = self.model()?;
        self.header.progress.held_out = None;
        for (i, tensor) in before.iter().enumerate() {
            self.model.store.write(StateId(i), &tensor.values)?;
        }
        Ok(is_whole.then_some(kept))
    }

    fn settle_states<'a>(
        &self,
        epoch: &mut dyn FnMut(u64, u64) -> Result<Epoch<'a>, DataError>,
        goes_on: &mut dyn FnMut() -> Result<bool, TrainError>,
    ) -> Result<bool, TrainError> {
        self.take_averages()?;
        if !self.header.recipe.batch_norm_pass {
            return Ok(true);
        }
        let store = &self.model.store;
        let (system, stage, batch) = (self.model.system.as_ref(), self.stage(), self.header.batch);
        let (count, syncs) = (self.header.recipe.parts, self.header.recipe.sync_bn);
        // Norms of whole batches are found in whole batches.
        let (batch, count, team) =
            if syncs { (batch * count, 1, Team::default()) } else { (batch, count, self.team.clone()) };
        let parts = Parts { batch, count, sync_norms: false };
        let found = Statistics::new(&self.device, system, store, stage, parts, self.model.weights)?;
        let Some(mut statistics) = found else { return Ok(true) };
        // A system with averages of its own scores by them.
        let averages: Vec<_> = system.averages().into_iter().flat_map(Ema::pairs).collect();
        let own = averages.iter().map(|(p, _)| store.read(p.id)).collect::<Result<Vec<_>, _>>()?;
        averages.iter().try_for_each(|(p, average)| store.write(p.id, &store.read(average.id)?))?;
        let Progress { steps, steps_per_epoch, .. } = self.header.progress;
        let most = self.at(steps).min(steps_per_epoch.max(1)) as usize;
        // The pass after those of the training.
        let batches = epoch(steps / steps_per_epoch.max(1) + 1, 0)?;
        let mut is_whole = true;
        for (step, images) in (steps..).zip(batches.take(most)) {
            let images = images?;
            let images = &*self.seen(&images);
            let made = system.synthesise(images, self.header.seed, step);
            let here = if syncs { 0..1 } else { self.reads.clone() };
            statistics.add(&Batch { images, made: &made, here, rate: 1.0 }, &team)?;
            if !goes_on()? {
                is_whole = false;
                break;
            }
        }
        averages.iter().zip(&own).try_for_each(|((p, _), values)| store.write(p.id, values))?;
        statistics.finish(store)?;
        Ok(is_whole)
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
        let of = |r: &Running| r.program.bytes() + r.levels.as_ref().map_or(0, Levels::bytes);
        let programs = self.running.iter().map(of).sum::<u64>();
        self.model.store.bytes()
            + programs
            + self.sampler.as_ref().map_or(0, Sampler::bytes)
            + self.held_out.as_ref().map_or(0, HeldOut::bytes)
    }

    /// Puts the averages of what the stage moved in the place of the weights.
    fn take_averages(&self) -> Result<(), DeviceError> {
        let store = &self.model.store;
        let pairs = self.averaging.iter().flat_map(|averaging| averaging.ema.pairs());
        pairs
            .into_iter()
            .try_for_each(|(parameter, average)| store.write(parameter.id, &store.read(average.id)?))
    }

    /// One step on a batch of images; returns the losses by name, of parts that were not due the last ones
    /// known.
    ///
    /// # Errors
    /// [`TrainError::Device`] where the device fails or the batch has the wrong length.
    pub fn step(&mut self, images: &[f32]) -> Result<Vec<(&'static str, f32)>, TrainError> {
        if self.running.is_empty() {
            self.load_stage()?;
        }
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

    /// Samples as the networks see them.
    fn seen<'b>(&self, images: &'b [f32]) -> Cow<'b, [f32]> {
        standardised(images, self.header.config.sample_len(), self.header.recipe.standardise).0
    }

    /// Step `step` of the training, not counted.
    pub(super) fn replay(&mut self, images: &[f32], step: u64) -> Result<(), TrainError> {
        let images = &*self.seen(images);
        let (at, rate) = (self.at(step), self.rate(step));
        let made = self.model.system.synthesise(images, self.header.seed, step);
        let batch = Batch { images, made: &made, here: self.reads.clone(), rate };
        for running in self.running.iter_mut().filter(|r| r.part.is_due(at)) {
            match &mut running.levels {
                None => running.write(images, &made, rate)?,
                Some(levels) => levels.run(&mut running.program, &batch, &self.team)?,
            }
            running.program.run(1)?;
            if !running.names.is_empty() {
                running.last = running.program.read("losses")?;
            }
        }
        if let Some(Averaging { program, .. }) = &mut self.averaging {
            program.write("step", &[at as f32])?;
            program.run(1)?;
        }
        let stage = self.stage();
        let mut programs: Vec<_> = self.running.iter_mut().map(|r| &mut r.program).collect();
        Ok(self.model.system.after_step(stage, at, &mut programs, &self.model.store)?)
    }

    /// What the system leaves of held-out samples, as a share of what their mean image leaves; nothing where
    /// it reconstructs nothing in one pass, or nothing was held out.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    pub fn held_out(&mut self) -> Result<Option<f32>, DeviceError> {
        let residual = self.held_out.as_mut().map(HeldOut::residual).transpose()?;
        // A file holds numbers alone.
        Ok(residual.filter(|residual| residual.is_finite()))
    }

    /// The same in the history, after a step.
    pub(super) fn record_held_out(&mut self) -> Result<Option<f32>, DeviceError> {
        let residual = self.held_out()?;
        let named = residual.map(|residual| (HeldOut::CURVE, residual));
        record(&mut self.header.progress, named.as_slice());
        Ok(residual)
    }

    /// The same when the last step is done and its stage settled.
    pub(super) fn keep_held_out(&mut self) -> Result<(), DeviceError> {
        self.header.progress.held_out = self.held_out()?;
        Ok(())
    }

    /// A step of the training counted from the start of its stage.
    fn at(&self, step: u64) -> u64 {
        step - self.header.progress.stages.last().map_or(0, |start| start.steps.min(step))
    }

    /// What step sizes are multiplied by at a step of the training.
    fn rate(&self, step: u64) -> f32 {
        let recipe = &self.header.recipe;
        let limits = Limits { steps: Some(recipe.schedule_steps), ..Limits::default() };
        let start = self.header.progress.stages.last().map_or(0, |start| start.steps);
        let end = stage_end(&self.stages, &self.header.progress, &limits).0.unwrap_or(start);
        recipe.schedule.rate(self.at(step), end.saturating_sub(start))
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
    ) -> Result<Option<NonFinite>, TrainError> {
        let images = &*self.seen(images);
        let (at, rate) = (self.at(step), self.rate(step));
        let made = self.model.system.synthesise(images, self.header.seed, step);
        let batch = Batch { images, made: &made, here: self.reads.clone(), rate };
        for running in self.running.iter_mut().filter(|r| r.part.is_due(at)) {
            let found = match &mut running.levels {
                Some(levels) => levels.find_non_finite(&mut running.program, &batch)?,
                None => {
                    running.write(images, &made, rate)?;
                    running.program.find_non_finite()?
                }
            };
            if found.is_some() {
                return Ok(found);
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
    // Options that came after the checkpoint have their defaults in it.
    let options = |header: &Header| {
        let all = find(&header.system).and_then(|info| header.options.checked(info.options).ok());
        text(all.unwrap_or_else(|| header.options.clone()))
    };
    let options = ("options", options(found), options(asked));
    // Another number of parts is another batch, which may go on with a word about it.
    let parts = (found.recipe.parts, asked.recipe.parts);
    let textures =
        |header: &Header| header.data.textures.as_ref().map_or("drawn ones".to_owned(), ToString::to_string);
    let textures = ("`textures`", textures(found), textures(asked));
    let fields = compare![
        "system" => system,
        "`size`" => config.size,
        "form" => config.form,
        "`channels`" => config.channels,
        "`width`" => config.width,
        "`latent`" => config.latent,
        "`prior`" => config.prior,
        "`kernel`" => config.kernel,
        "`lr`" => training.lr,
        "betas" => training.betas,
        "`batch-norm-pass`" => recipe.batch_norm_pass,
        "`sync-bn`" => recipe.sync_bn,
        "`ema`" => recipe.ema,
        "`lr-schedule`" => recipe.schedule,
        "`standardise`" => recipe.standardise,
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
        "`group`" => data.group,
        "training images" => data.training_images,
        "held-out images" => data.held_out,
        "a data digest of" => data.digest,
    ];
    let of_steps = compare![
        "steps of `lr-schedule`" => recipe.schedule_steps,
        "steps in an epoch" => progress.steps_per_epoch,
    ];
    let of_steps = of_steps.into_iter().filter(|_| parts.0 == parts.1);
    match fields.into_iter().chain([options, textures]).chain(of_steps).find(|(_, a, b)| a != b) {
        None => Ok(()),
        Some((field, found, asked)) => {
            Err(TrainError::Mismatch { path: path.to_owned(), field, found, asked })
        }
    }
}
