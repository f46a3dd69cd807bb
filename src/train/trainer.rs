//! One model in training on one device.

use std::path::{Path, PathBuf};

use image::RgbImage;

use super::{TrainError, record};
use crate::device::{Device, DeviceError, Executable, NonFinite, Store};
use crate::models::anogan::{AnoGan, Optimisers};
use crate::models::file::{Header, ModelFile, NamedTensor, Progress};
use crate::models::scorer::{Sampler, compiled, is_weight, load_weights};
use crate::nn;
use crate::program::{Program, StateId};
use crate::tape::{States, Tape, Tensor};

/// States, programs and progress of a training.
pub struct Trainer {
    header: Header,
    states: States,
    store: Store,
    step: Executable,
    sampler: Sampler,
}

impl Trainer {
    /// Starts a training as the header says; `checkpoint` continues one.
    ///
    /// # Errors
    /// [`TrainError`] for settings out of range, a checkpoint that does not fit, or a device at fault.
    pub fn new(
        device: &Device,
        header: Header,
        checkpoint: Option<(&ModelFile, &Path)>,
    ) -> Result<Self, TrainError> {
        let (config, batch) = (header.config.clone(), header.batch);
        if batch == 0 {
            let value = batch.to_string();
            return Err(crate::models::ConfigError { field: "batch", value, allowed: "at least 1" }.into());
        }
        let mut states = States::new();
        let model = AnoGan::new(&mut states, &config)?;
        let optimisers = Optimisers::new(&mut states, &model, header.training, header.seed);
        let store = match checkpoint {
            Some((file, path)) => load_weights(device, file, path, &states, header.seed, true)?,
            None => device.store(&states, header.seed)?,
        };
        let step = Self::step_program(&model, &optimisers, batch)?;
        let sampler = Sampler::new(device, &model, &store, header.seed)?;
        Ok(Self { step: device.load(&step, &store)?, sampler, states, store, header })
    }

    /// The program of one training step on a batch; its input is `x`, its output `losses`.
    ///
    /// # Errors
    /// [`TrainError::Compile`] for settings that do not fit together.
    pub fn step_program(
        model: &AnoGan,
        optimisers: &Optimisers,
        batch: usize,
    ) -> Result<Program, TrainError> {
        Ok(compiled(|tape| Self::record_step(tape, model, optimisers, batch))?)
    }

    /// Records that program.
    pub fn record_step(tape: &Tape, model: &AnoGan, optimisers: &Optimisers, batch: usize) {
        let x = tape.input("x", &model.config.images(batch));
        let z = model.config.prior.sample(tape, &optimisers.random, batch, model.config.latent);
        let losses = model.train_step(tape, x, z, optimisers);
        let parts: Vec<_> = losses.iter().map(|(_, loss)| loss.reshape(&[1])).collect();
        tape.output("losses", Tensor::concat(&parts, 0));
        nn::advance(tape, &optimisers.random);
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

    /// Bytes held on the device for training.
    pub fn bytes(&self) -> u64 {
        self.step.bytes()
    }

    /// One step on a batch of images; returns the losses by name.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails or the batch has the wrong length.
    pub fn step(&mut self, images: &[f32]) -> Result<Vec<(&'static str, f32)>, DeviceError> {
        self.replay(images)?;
        let values = self.step.read("losses")?;
        let losses: Vec<_> = AnoGan::LOSSES.into_iter().zip(values).collect();
        self.header.progress.steps += 1;
        record(&mut self.header.progress, &losses);
        Ok(losses)
    }

    /// One step that is not counted.
    pub(super) fn replay(&mut self, images: &[f32]) -> Result<(), DeviceError> {
        self.step.write("x", images)?;
        self.step.run(1)
    }

    /// Puts the states back to a checkpoint of this training, or to its start.
    pub(super) fn rewind(&mut self, checkpoint: Option<&PathBuf>) -> Result<(), TrainError> {
        let Some(path) = checkpoint else {
            for id in (0..self.states.entries().len()).map(StateId) {
                self.store.write(id, &self.states.initial_values(id, self.header.seed))?;
            }
            return Ok(());
        };
        for tensor in ModelFile::load(path)?.tensors {
            if let Some(state) = self.states.find(&tensor.name) {
                self.store.write(state.id, &tensor.values)?;
            }
        }
        Ok(())
    }

    /// The first launch of a step on these images whose outputs are not finite.
    pub(super) fn find_non_finite(&mut self, images: &[f32]) -> Result<Option<NonFinite>, DeviceError> {
        self.step.write("x", images)?;
        self.step.find_non_finite()
    }

    fn tensors(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<NamedTensor>, DeviceError> {
        let entries = self.states.entries().iter().enumerate().filter(|(_, e)| wanted(&e.name));
        entries
            .map(|(i, entry)| {
                let values = self.store.read(StateId(i))?;
                Ok(NamedTensor { name: entry.name.clone(), shape: entry.shape.clone(), values })
            })
            .collect()
    }

    /// Everything needed to go on bit for bit.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    pub fn checkpoint(&self) -> Result<ModelFile, DeviceError> {
        Ok(ModelFile { header: self.header.clone(), tensors: self.tensors(|_| true)? })
    }

    /// The model alone.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    pub fn model(&self) -> Result<ModelFile, DeviceError> {
        Ok(ModelFile { header: self.header.clone(), tensors: self.tensors(is_weight)? })
    }

    /// A grid of generated images; the latents stay the same over the training.
    ///
    /// # Errors
    /// [`TrainError`] where the device fails.
    pub fn samples(&mut self) -> Result<RgbImage, TrainError> {
        Ok(self.sampler.grid()?)
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
        "--size" => config.size,
        "--channels" => config.channels,
        "--width" => config.width,
        "--latent" => config.latent,
        "--prior" => config.prior,
        "--kernel" => config.kernel,
        "--lr" => training.lr,
        "betas" => training.betas,
        "--batch" => batch,
        "--seed" => seed,
        "--data" => data.spec,
        "--normal-class" => data.normal_classes,
        "--anomalous-class" => data.anomalous_classes,
        "--centre-crop" => data.centre_crop,
        "--patch" => data.patch,
        "--augment" => data.augment,
        "--val-fraction" => data.val_fraction,
        "training images" => data.training_images,
        "held-out images" => data.held_out,
        "a data digest of" => data.digest,
    ];
    match fields.into_iter().find(|(_, a, b)| a != b) {
        None => Ok(()),
        Some((field, found, asked)) => {
            Err(TrainError::Mismatch { path: path.to_owned(), field, found, asked })
        }
    }
}
