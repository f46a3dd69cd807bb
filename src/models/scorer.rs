//! Applying a trained model: batches of latent searches, scores and residual maps.

use std::path::Path;

use ganomede_kernels::{Kernel, random};
use image::RgbImage;

use super::ConfigError;
use super::anogan::{AnoGan, Score, Search, SearchConfig};
use super::dcgan::{self, Prior};
use super::file::{FileError, ModelFile};
use crate::device::{Device, DeviceError, Executable, Store};
use crate::program::{CompileError, Program, compile};
use crate::report::image_grid;
use crate::tape::{States, Tape};

/// Why a model cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// A setting outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A fault of the model's file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program that does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A fault of the device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A picture that cannot be drawn.
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
    /// An image whose search gave no number.
    #[error(
        "the search of image {index} gave a score that is no number; the model's weights may be damaged: train it again"
    )]
    NotANumber {
        /// Position in the batch.
        index: usize,
    },
}

/// What the search of one query found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// A(x), or the score chosen in its place.
    pub score: f64,
    /// R(x).
    pub residual: f32,
    /// D(x).
    pub discrimination: f32,
    /// The latent.
    pub z: Vec<f32>,
    /// G(z), `[channels, size, size]`; the query itself for scores without a search.
    pub reconstruction: Vec<f32>,
    /// ∣x − G(z)∣, mean over channels, `[size, size]`; zeros for scores without a search.
    pub map: Vec<f32>,
}

/// Follows a search: `see` gets the step and what is found so far, at each of the stages and at the end.
pub struct Watch<'a> {
    /// Steps to look at.
    pub stages: &'a [usize],
    /// Looks.
    pub see: &'a mut dyn FnMut(usize, &[Found]),
}

/// Puts a system's states on a device, with the tensors of its file; `all` asks for the states of training too.
///
/// Everything is checked before memory is taken: a file whose configuration promises more than its tensors hold costs
/// nothing.
///
/// # Errors
/// [`FileError::System`] for another system's file, [`FileError::Tensor`] for a tensor that is missing or has another
/// shape, [`ScoreError::Device`] where memory is short.
pub fn load_weights(
    device: &Device,
    file: &ModelFile,
    path: &Path,
    states: &States,
    seed: u64,
    all: bool,
) -> Result<Store, ScoreError> {
    if file.header.system != AnoGan::NAME {
        let (path, found) = (path.to_owned(), file.header.system.clone());
        return Err(FileError::System { path, found, expected: AnoGan::NAME }.into());
    }
    let fault = |tensor: &str, what: String| FileError::Tensor {
        path: path.to_owned(),
        tensor: tensor.to_owned(),
        what,
    };
    let mut values = vec![];
    for tensor in &file.tensors {
        let Some(state) = states.find(&tensor.name) else {
            return Err(fault(&tensor.name, "is unknown to this system".to_owned()).into());
        };
        if state.shape != tensor.shape {
            let what = format!("has shape {:?}, expected {:?}", tensor.shape, state.shape);
            return Err(fault(&tensor.name, what).into());
        }
        values.push((state.id, &tensor.values));
    }
    for entry in states.entries() {
        let needed = all || is_weight(&entry.name);
        if needed && !file.tensors.iter().any(|t| t.name == entry.name) {
            return Err(fault(&entry.name, format!("is missing (shape {:?})", entry.shape)).into());
        }
    }
    let store = device.store(states, seed)?;
    for (id, values) in values {
        store.write(id, values)?;
    }
    Ok(store)
}

/// Whether a state belongs to the model proper, not to its training or to a search.
pub fn is_weight(name: &str) -> bool {
    name.starts_with("generator.") || name.starts_with("discriminator.")
}

/// Compiles what `record` writes on a fresh tape.
///
/// # Errors
/// [`CompileError`] of the first broken rule.
pub fn compiled(record: impl FnOnce(&Tape)) -> Result<Program, CompileError> {
    let tape = Tape::new();
    record(&tape);
    compile(&tape.finish()?)
}

/// A generator with fixed latents: the same sample grid all through a training.
pub struct Sampler {
    generate: Executable,
    latents: Vec<f32>,
    config: dcgan::Config,
}

impl Sampler {
    /// Images in a grid.
    pub const COUNT: usize = 64;

    /// Draws from a model whose weights are in `store`; the latents are a function of the seed.
    ///
    /// # Errors
    /// [`ScoreError`] where the device refuses.
    pub fn new(device: &Device, model: &AnoGan, store: &Store, seed: u64) -> Result<Self, ScoreError> {
        let config = model.config.clone();
        let program = compiled(|tape| {
            let z = tape.input("z", &[Self::COUNT, config.latent]);
            tape.output("images", model.generate(tape, z));
        })?;
        let latents = draw_latents(&config, seed, 0, Self::COUNT * config.latent);
        Ok(Self { generate: device.load(&program, store)?, latents, config })
    }

    /// Draws from a model file.
    ///
    /// # Errors
    /// [`ScoreError`] for a file that does not fit, or a device at fault.
    pub fn of_file(device: &Device, file: &ModelFile, path: &Path) -> Result<Self, ScoreError> {
        let mut states = States::new();
        let model = AnoGan::new(&mut states, &file.header.config)?;
        let store = load_weights(device, file, path, &states, 0, false)?;
        Self::new(device, &model, &store, file.header.seed)
    }

    /// A grid of eight columns.
    ///
    /// # Errors
    /// [`ScoreError`] where the device fails.
    pub fn grid(&mut self) -> Result<RgbImage, ScoreError> {
        self.generate.write("z", &self.latents)?;
        self.generate.run(1)?;
        let images = self.generate.read("images")?;
        Ok(image_grid(&images, Self::COUNT, self.config.channels, self.config.size, 8)?)
    }
}

/// Latents from the prior, a function of seed and stream.
fn draw_latents(config: &dcgan::Config, seed: u64, stream: u32, len: usize) -> Vec<f32> {
    let distribution = match config.prior {
        Prior::Uniform => random::Distribution::Uniform,
        Prior::Normal => random::Distribution::Normal,
    };
    let kernel = Kernel::Random(random::Random { distribution, len, stream });
    let key = [f32::from_bits(seed as u32), f32::from_bits((seed >> 32) as u32)];
    let mut z = vec![0.0; len];
    let mut scratch = vec![0.0; kernel.cpu_scratch_len(rayon::current_num_threads())];
    kernel.cpu(&[&key, &[0.0]], &mut [&mut z], &mut scratch);
    if config.prior == Prior::Uniform {
        z.iter_mut().for_each(|v| *v = 2.0 * *v - 1.0);
    }
    z
}

/// A model on a device, ready to search batches of queries.
pub struct Scorer {
    model: AnoGan,
    config: SearchConfig,
    seed: u64,
    /// Searches side by side: queries times restarts.
    lanes: usize,
    prepare: Executable,
    step: Executable,
    finish: Executable,
    posterior: Executable,
}

impl Scorer {
    /// Loads a model for batches of `queries` images.
    ///
    /// # Errors
    /// [`ScoreError`] for a setting out of range, a file that does not fit, or a device at fault.
    pub fn new(
        device: &Device,
        file: &ModelFile,
        path: &Path,
        config: &SearchConfig,
        queries: usize,
    ) -> Result<Self, ScoreError> {
        config.check()?;
        if queries == 0 || queries.saturating_mul(config.restarts) > 1 << 16 {
            let value = format!("{queries} with {} restarts", config.restarts);
            return Err(ConfigError {
                field: "batch",
                value,
                allowed: "at least 1, and batch × restarts at most 65536",
            }
            .into());
        }
        let lanes = queries * config.restarts;
        let mut states = States::new();
        let model = AnoGan::new(&mut states, &file.header.config)?;
        let search = Search::new(&mut states, &model, config, lanes);
        let store = load_weights(device, file, path, &states, 0, false)?;
        let load = |record: &dyn Fn(&Tape)| -> Result<Executable, ScoreError> {
            Ok(device.load(&compiled(|tape| record(tape))?, &store)?)
        };
        let images = model.config.images(lanes);
        Ok(Self {
            prepare: load(&|tape| search.prepare(tape, &model))?,
            step: load(&|tape| search.step(tape, &model))?,
            finish: load(&|tape| search.finish(tape, &model))?,
            posterior: load(&|tape| {
                tape.output("score", model.posterior_score(tape, tape.input("x", &images)))
            })?,
            config: config.clone(),
            seed: file.header.seed,
            lanes,
            model,
        })
    }

    /// Queries in a batch.
    pub fn batch(&self) -> usize {
        self.lanes / self.config.restarts
    }

    /// The search settings.
    pub fn config(&self) -> &SearchConfig {
        &self.config
    }

    /// Bytes held on the device.
    pub fn bytes(&self) -> u64 {
        [&self.prepare, &self.step, &self.finish, &self.posterior].iter().map(|e| e.bytes()).sum()
    }

    /// Elements of one image.
    pub fn image_len(&self) -> usize {
        self.model.config.images(1).iter().product()
    }

    /// Start of the search of one image: a function of the seed, the restart and the image's own pixels, so that a
    /// score depends neither on the batch nor on the order of the images.
    fn start(&self, image: &[f32], restart: usize) -> Vec<f32> {
        let words = image.iter().map(|v| v.to_bits()).chain([restart as u32]);
        let stream = words.fold(0x811c_9dc5_u32, |h, w| (h ^ w).wrapping_mul(0x0100_0193));
        draw_latents(&self.model.config, self.seed, stream, self.model.config.latent)
    }

    /// Searches up to a batch of images (`n · image_len` values in [−1, 1]); `watch` sees each recorded stage of the
    /// search: step, and the images found so far.
    ///
    /// # Errors
    /// [`ScoreError`] where the device fails or a score is no number.
    pub fn score(&mut self, images: &[f32], mut watch: Option<Watch<'_>>) -> Result<Vec<Found>, ScoreError> {
        let len = self.image_len();
        let queries = images.len() / len;
        if self.config.score == Score::Pd {
            return self.posterior(images, queries);
        }
        // Lanes beyond the queries repeat the last one: every lane is a valid search and none is counted twice.
        let query_of = |lane: usize| (lane / self.config.restarts).min(queries - 1);
        let (mut x, mut z) = (Vec::with_capacity(self.lanes * len), vec![]);
        for lane in 0..self.lanes {
            let image = &images[query_of(lane) * len..][..len];
            x.extend_from_slice(image);
            z.extend(self.start(image, lane % self.config.restarts));
        }
        self.prepare.write("x", &x)?;
        self.prepare.write("z", &z)?;
        self.prepare.run(1)?;
        let mut done = 0;
        while done < self.config.steps {
            if let Some(watch) = &mut watch
                && watch.stages.contains(&done)
            {
                (watch.see)(done, &self.collect(queries)?);
            }
            let stages = watch.as_ref().map_or(&[][..], |w| w.stages);
            let next = stages.iter().copied().filter(|&s| s > done).min().unwrap_or(self.config.steps);
            // With early stop the host looks at the progress from time to time.
            let chunk = if self.config.tolerance > 0.0 { 25 } else { usize::MAX };
            let count = chunk.min(next.min(self.config.steps) - done);
            self.step.run(count)?;
            done += count;
            if self.config.tolerance > 0.0 && self.step.scalar("active")? < 0.5 {
                break;
            }
        }
        let found = self.collect(queries)?;
        if let Some(watch) = &mut watch {
            (watch.see)(done, &found);
        }
        match found.iter().position(|f| !f.score.is_finite()) {
            Some(index) => Err(ScoreError::NotANumber { index }),
            None => Ok(found),
        }
    }

    /// Reads the best restart of every query.
    fn collect(&mut self, queries: usize) -> Result<Vec<Found>, ScoreError> {
        self.finish.run(1)?;
        let read = |name| self.finish.read(name);
        let (loss, residual, discrimination) = (read("loss")?, read("residual")?, read("discrimination")?);
        let (images, maps, z) = (read("reconstruction")?, read("map")?, read("z")?);
        let (len, map_len) = (self.image_len(), self.model.config.size.pow(2));
        let latent = self.model.config.latent;
        let best = |query: usize| {
            let lanes = query * self.config.restarts..(query + 1) * self.config.restarts;
            lanes.min_by(|&a, &b| loss[a].total_cmp(&loss[b])).unwrap_or(query)
        };
        Ok((0..queries)
            .map(best)
            .map(|lane| Found {
                score: f64::from(loss[lane]),
                residual: residual[lane],
                discrimination: discrimination[lane],
                z: z[lane * latent..][..latent].to_vec(),
                reconstruction: images[lane * len..][..len].to_vec(),
                map: maps[lane * map_len..][..map_len].to_vec(),
            })
            .collect())
    }

    fn posterior(&mut self, images: &[f32], queries: usize) -> Result<Vec<Found>, ScoreError> {
        let len = self.image_len();
        let mut x = images.to_vec();
        x.resize(self.lanes * len, 0.0);
        self.posterior.write("x", &x)?;
        self.posterior.run(1)?;
        let scores = self.posterior.read("score")?;
        Ok((0..queries)
            .map(|query| Found {
                score: f64::from(scores[query]),
                residual: 0.0,
                discrimination: scores[query],
                z: vec![],
                reconstruction: images[query * len..][..len].to_vec(),
                map: vec![0.0; self.model.config.size.pow(2)],
            })
            .collect())
    }
}
