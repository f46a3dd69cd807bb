//! Applying a trained model: scores, reconstructions and maps of batches, by one pass or by latent search.

use std::collections::BTreeSet;
use std::path::Path;

use ganomede_kernels::{Kernel, random};
use image::RgbImage;

use serde::{Deserialize, Serialize};

use super::file::{FileError, Header, ModelFile};
use super::load::Prepared;
use super::search::{Search, SearchConfig};
use super::system::System;
use super::{Config, ConfigError, Form, Prior};
use crate::device::{Device, DeviceError, Executable, Store};
use crate::program::{CompileError, Program, compile};
use crate::report::image_grid;
use crate::tape::Tape;

pub use super::load::{Loaded, load};

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
        "image {index} has a score that is no number; the model's weights may be damaged: train it again"
    )]
    NotANumber {
        /// Position in the batch.
        index: usize,
    },
}

impl ScoreError {
    /// True where the machine is at fault, false where the request is.
    pub fn is_machine_fault(&self) -> bool {
        match self {
            Self::Device(e) => e.is_machine_fault(),
            Self::File(e) => e.is_machine_fault(),
            Self::Report(_) => true,
            Self::Config(_) | Self::Compile(_) | Self::NotANumber { .. } => false,
        }
    }
}

/// Which score, and how it is searched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreConfig {
    /// One of the system's scores; empty for its default.
    pub score: String,
    /// The latent search, of scores that have one.
    pub search: SearchConfig,
    /// Steps of a search from E(x), of systems with a generator and an encoder; 0 for one pass.
    pub refine: usize,
}

impl ScoreConfig {
    /// Checks every field but the score's name, which the system knows.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.refine > SearchConfig::MAX_STEPS {
            let allowed = format!("0 to {}", SearchConfig::MAX_STEPS);
            return Err(ConfigError::new("refine", self.refine, allowed));
        }
        self.search.check()
    }
}

/// What was found about one sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The score.
    pub score: f64,
    /// What it is made of, by name.
    pub parts: Vec<(&'static str, f32)>,
    /// The latent, of searched scores.
    pub z: Vec<f32>,
    /// What the system makes of the sample, in its shape; absent for scores that make nothing.
    pub reconstruction: Option<Vec<f32>>,
    /// Where the sample is anomalous, `[height, width]`; absent for scores without a place.
    pub map: Option<Vec<f32>>,
}

impl Found {
    /// A part of the score.
    pub fn part(&self, name: &str) -> Option<f32> {
        self.parts.iter().find(|(n, _)| *n == name).map(|&(_, v)| v)
    }
}

/// Follows a search: `see` gets the step and what is found so far, at each of the stages and at the end.
pub struct Watch<'a> {
    /// Steps to look at.
    pub stages: &'a [usize],
    /// Looks.
    pub see: &'a mut dyn FnMut(usize, &[Found]),
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

/// What a model makes of the same things all through a training: images of fixed latents, or reconstructions of fixed
/// samples.
pub struct Sampler {
    make: Executable,
    given: Vec<f32>,
    reconstructs: bool,
    config: Config,
}

impl Sampler {
    /// Images in a grid.
    pub const COUNT: usize = 64;

    /// Draws from a model whose weights are in `store`: images of latents that are a function of the seed where there
    /// is a generator, else the first of the `preview` samples beside their reconstructions. `None` where there is
    /// nothing to draw.
    ///
    /// # Errors
    /// [`ScoreError`] where the device refuses.
    pub fn new(
        device: &Device,
        system: &dyn System,
        store: &Store,
        seed: u64,
        preview: &[f32],
    ) -> Result<Option<Self>, ScoreError> {
        let config = system.config().clone();
        if config.form != Form::Image {
            return Ok(None);
        }
        let tape = Tape::new();
        let (given, reconstructs) = match system.latent() {
            Some(latent) => {
                let z = tape.input("given", &[Self::COUNT, config.latent]);
                tape.output("images", latent.generate(&tape, z));
                (draw_latents(&config, seed, 0, Self::COUNT * config.latent), false)
            }
            None => {
                let count = (preview.len() / config.sample_len()).min(Self::COUNT / 2);
                let x = tape.input("given", &config.images(count.max(1)));
                let Some(made) = system.score(&tape, x, "").reconstruction.filter(|_| count > 0) else {
                    return Ok(None);
                };
                tape.output("images", made);
                (preview[..count * config.sample_len()].to_vec(), true)
            }
        };
        let program = compile(&tape.finish().map_err(CompileError::from)?)?;
        Ok(Some(Self { make: device.load(&program, store)?, given, reconstructs, config }))
    }

    /// Whether the grid shows samples beside their reconstructions, not images of latents.
    pub fn reconstructs(&self) -> bool {
        self.reconstructs
    }

    /// Draws from a model file.
    ///
    /// # Errors
    /// [`ScoreError`] for a file that does not fit, or a device at fault.
    pub fn of_file(
        device: &Device,
        file: &ModelFile,
        path: &Path,
        preview: &[f32],
    ) -> Result<Option<Self>, ScoreError> {
        let loaded = load(device, &file.header, Some((file, path)), false, |_, _| {})?;
        Self::new(device, loaded.system.as_ref(), &loaded.store, file.header.seed, preview)
    }

    /// Bytes held on the device for its program.
    pub fn bytes(&self) -> u64 {
        self.make.bytes()
    }

    /// A grid of eight columns; samples and their reconstructions take turns.
    ///
    /// # Errors
    /// [`ScoreError`] where the device fails.
    pub fn grid(&mut self) -> Result<RgbImage, ScoreError> {
        self.make.write("given", &self.given)?;
        self.make.run(1)?;
        let mut images = self.make.read("images")?;
        if self.reconstructs {
            let len = self.config.sample_len();
            let pairs = self.given.chunks(len).zip(images.chunks(len));
            images = pairs.flat_map(|(x, made)| [x, made].concat()).collect();
        }
        let count = images.len() / self.config.sample_len();
        Ok(image_grid(&images, count, self.config.channels, self.config.size, 8)?)
    }
}

/// Latents from the prior, a function of seed and stream.
pub(super) fn draw_latents(config: &Config, seed: u64, stream: u32, len: usize) -> Vec<f32> {
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

/// A model on a device, ready to score batches.
pub struct Scorer {
    device: Device,
    sizes: Config,
    seed: u64,
    store: Store,
    score: ScoreConfig,
    batch: usize,
    how: How,
    lane_steps: u64,
}

/// The programs of a score.
enum Recorded {
    Pass {
        program: Program,
        parts: Vec<&'static str>,
        has: Has,
    },
    /// Start, end, and a step of each level.
    Search {
        programs: Vec<Program>,
        levels: Vec<Search>,
        encodes: bool,
    },
}

impl Recorded {
    fn programs(&self) -> &[Program] {
        match self {
            Self::Pass { program, .. } => std::slice::from_ref(program),
            Self::Search { programs, .. } => programs,
        }
    }
}

/// The same on a device.
#[allow(clippy::large_enum_variant, reason = "there is one to a scorer")]
enum How {
    /// One program from samples to scores.
    Pass { program: Executable, parts: Vec<&'static str>, has: Has },
    /// Latent searches side by side: queries times restarts in the first level, in each further one half as many as before.
    Search { levels: Vec<Level>, encodes: bool, prepare: Executable, finish: Executable },
}

/// Searches side by side and a step of them, loaded when it is first needed.
struct Level {
    search: Search,
    program: Program,
    step: Option<Executable>,
}

impl Level {
    fn step(&mut self, device: &Device, store: &Store) -> Result<&mut Executable, DeviceError> {
        Ok(match self.step.take() {
            Some(step) => self.step.insert(step),
            None => self.step.insert(device.load(&self.program, store)?),
        })
    }
}

/// Which lanes of a batch still search, and where.
struct Going {
    level: usize,
    /// The lane of the first level that each lane of this level continues; lanes beyond stand still.
    lanes: Vec<usize>,
}

/// Which of its optional outputs a pass has.
#[derive(Debug, Clone, Copy)]
struct Has {
    reconstruction: bool,
    map: bool,
}

impl Scorer {
    /// Loads a model for batches of `batch` samples.
    ///
    /// # Errors
    /// [`ScoreError`] for a setting out of range, a file that does not fit, or a device at fault.
    pub fn new(
        device: &Device,
        file: &ModelFile,
        path: &Path,
        score: &ScoreConfig,
        batch: usize,
    ) -> Result<Self, ScoreError> {
        let header = &file.header;
        let (score, prepared, recorded) = planned(header, Some((file, path)), score, batch)?;
        // The CPU's kernels would unpack halves again in every launch, and memory is not short there.
        let halves = match device {
            Device::Gpu(_) => prepared.halves(recorded.programs()),
            Device::Cpu | Device::Mixed(..) => BTreeSet::new(),
        };
        let store = prepared.place(device, &halves)?.store;
        let load = |program: Program| device.load(&program.with_halves(&halves), &store);
        let how = match recorded {
            Recorded::Pass { program, parts, has } => How::Pass { program: load(program)?, parts, has },
            Recorded::Search { programs, levels, encodes } => {
                let mut programs = programs.into_iter();
                let mut ends = programs.by_ref().take(2).map(load);
                let (Some(prepare), Some(finish)) = (ends.next(), ends.next()) else {
                    unreachable!("a search is recorded with its start and end")
                };
                let level = |(search, program): (Search, Program)| Level {
                    search,
                    program: program.with_halves(&halves),
                    step: None,
                };
                let mut levels: Vec<Level> = levels.into_iter().zip(programs).map(level).collect();
                levels[0].step(device, &store)?;
                How::Search { levels, encodes, prepare: prepare?, finish: finish? }
            }
        };
        let sizes = header.config.clone();
        let device = device.clone();
        Ok(Self { device, sizes, seed: header.seed, store, score, batch, how, lane_steps: 0 })
    }

    /// Samples in a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// What is scored, with the names and numbers in use.
    pub fn config(&self) -> &ScoreConfig {
        &self.score
    }

    /// Whether the score is searched.
    pub fn is_searched(&self) -> bool {
        matches!(self.how, How::Search { .. })
    }

    /// Bytes held on the device: weights, states of the searches, programs.
    pub fn bytes(&self) -> u64 {
        let programs = match &self.how {
            How::Pass { program, .. } => program.bytes(),
            How::Search { levels, prepare, finish, .. } => {
                let steps = levels.iter().filter_map(|level| level.step.as_ref());
                prepare.bytes() + finish.bytes() + steps.map(Executable::bytes).sum::<u64>()
            }
        };
        self.store.bytes() + programs
    }

    /// Gradient steps of searches that were computed so far, those of converged ones in the batch among them.
    pub fn lane_steps(&self) -> u64 {
        self.lane_steps
    }

    /// Elements of one sample.
    pub fn image_len(&self) -> usize {
        self.sizes.sample_len()
    }

    /// Scores up to a batch of samples (`n · image_len` values in [−1, 1]); `watch` sees each recorded stage of a
    /// search: step, and what is found so far.
    ///
    /// # Errors
    /// [`ScoreError`] where the device fails or a score is no number.
    pub fn score(&mut self, images: &[f32], watch: Option<Watch<'_>>) -> Result<Vec<Found>, ScoreError> {
        if images.is_empty() {
            return Ok(vec![]);
        }
        let found = match &self.how {
            How::Pass { .. } => self.pass(images)?,
            How::Search { .. } => self.search(images, watch)?,
        };
        match found.iter().position(|f| !f.score.is_finite()) {
            Some(index) => Err(ScoreError::NotANumber { index }),
            None => Ok(found),
        }
    }

    fn pass(&mut self, images: &[f32]) -> Result<Vec<Found>, ScoreError> {
        let (len, map_len) = (self.sizes.sample_len(), self.sizes.map_len());
        let How::Pass { program, parts, has } = &mut self.how else { return Ok(vec![]) };
        let count = images.len() / len;
        // Places beyond the samples repeat the last one, so that no value is out of the ordinary.
        let mut x = images.to_vec();
        x.extend((count..self.batch).flat_map(|_| &images[(count - 1) * len..]));
        program.write("x", &x)?;
        program.run(1)?;
        let scores = program.read("score")?;
        let values = parts.iter().map(|part| program.read(part)).collect::<Result<Vec<_>, _>>()?;
        let read = |wanted: bool, name: &str| wanted.then(|| program.read(name)).transpose();
        let reconstructions = read(has.reconstruction, "reconstruction")?;
        let maps = read(has.map, "map")?;
        let row = |all: &Option<Vec<f32>>, i: usize, len: usize| {
            all.as_ref().map(|all| all[i * len..][..len].to_vec())
        };
        Ok((0..count)
            .map(|i| Found {
                score: f64::from(scores[i]),
                parts: parts.iter().zip(&values).map(|(&part, values)| (part, values[i])).collect(),
                z: vec![],
                reconstruction: row(&reconstructions, i, len),
                map: row(&maps, i, map_len),
            })
            .collect())
    }

    /// Start of the search of one image: a function of the seed, the restart and the image's own pixels, so that a
    /// score depends neither on the batch nor on the order of the images.
    fn start(&self, image: &[f32], restart: usize) -> Vec<f32> {
        let words = image.iter().map(|v| v.to_bits()).chain([restart as u32]);
        let stream = words.fold(0x811c_9dc5_u32, |h, w| (h ^ w).wrapping_mul(0x0100_0193));
        draw_latents(&self.sizes, self.seed, stream, self.sizes.latent)
    }

    fn search(&mut self, images: &[f32], mut watch: Option<Watch<'_>>) -> Result<Vec<Found>, ScoreError> {
        let How::Search { levels, encodes, .. } = &self.how else { return Ok(vec![]) };
        let (lanes, encodes) = (levels[0].search.lanes(), *encodes);
        let len = self.image_len();
        let queries = images.len() / len;
        let SearchConfig { steps, restarts, tolerance, .. } = self.score.search;
        // Lanes beyond the queries repeat the last one: every lane is a valid search and none is counted twice.
        let query_of = |lane: usize| (lane / restarts).min(queries - 1);
        let (mut x, mut z) = (Vec::with_capacity(lanes * len), vec![]);
        for lane in 0..lanes {
            let image = &images[query_of(lane) * len..][..len];
            x.extend_from_slice(image);
            if !encodes {
                z.extend(self.start(image, lane % restarts));
            }
        }
        let How::Search { prepare, .. } = &mut self.how else { return Ok(vec![]) };
        prepare.write("x", &x)?;
        if !encodes {
            prepare.write("z", &z)?;
        }
        prepare.run(1)?;
        let mut done = 0;
        let mut going = Going { level: 0, lanes: (0..lanes).collect() };
        while done < steps {
            if let Some(watch) = &mut watch
                && watch.stages.contains(&done)
            {
                self.settle(&going)?;
                (watch.see)(done, &self.collect(queries)?);
            }
            let stages = watch.as_ref().map_or(&[][..], |w| w.stages);
            let next = stages.iter().copied().filter(|&s| s > done).min().unwrap_or(steps);
            // With early stop the host looks at the progress from time to time, and converged searches leave the batch.
            let chunk = if tolerance > 0.0 { 25 } else { usize::MAX };
            let count = chunk.min(next.min(steps) - done);
            let How::Search { levels, .. } = &mut self.how else { return Ok(vec![]) };
            let step = levels[going.level].step(&self.device, &self.store)?;
            step.run(count)?;
            let active = if tolerance > 0.0 { step.scalar("active")?.round() as usize } else { lanes };
            done += count;
            self.lane_steps += (count * levels[going.level].search.lanes()) as u64;
            if active == 0 {
                break;
            }
            if done < steps {
                self.narrow(&mut going, active)?;
            }
        }
        self.settle(&going)?;
        let found = self.collect(queries)?;
        if let Some(watch) = &mut watch {
            (watch.see)(done, &found);
        }
        Ok(found)
    }

    /// Goes on with as few lanes as hold the searches that have not converged.
    fn narrow(&mut self, going: &mut Going, active: usize) -> Result<(), ScoreError> {
        let How::Search { levels, .. } = &self.how else { return Ok(()) };
        let fits = levels.iter().rposition(|level| level.search.lanes() >= active).unwrap_or(0);
        if fits <= going.level {
            return Ok(());
        }
        self.settle(going)?;
        let (from, to) = (&levels[going.level].search, &levels[fits].search);
        let active = self.store.read(from.active())?;
        let kept: Vec<usize> = (0..active.len()).filter(|&lane| active[lane] > 0.5).collect();
        from.hand_over(to, &kept, &self.store)?;
        *going = Going { level: fits, lanes: kept.into_iter().map(|lane| going.lanes[lane]).collect() };
        Ok(())
    }

    /// Puts the latents of the searches that go on back among those of all.
    fn settle(&self, going: &Going) -> Result<(), ScoreError> {
        let How::Search { levels, .. } = &self.how else { return Ok(()) };
        if going.level == 0 {
            return Ok(());
        }
        let (all, latent) = (levels[0].search.z(), self.sizes.latent);
        let (mut z, moved) = (self.store.read(all)?, self.store.read(levels[going.level].search.z())?);
        for (&lane, moved) in going.lanes.iter().zip(moved.chunks(latent)) {
            z[lane * latent..][..latent].copy_from_slice(moved);
        }
        Ok(self.store.write(all, &z)?)
    }

    /// Reads the best restart of every query.
    fn collect(&mut self, queries: usize) -> Result<Vec<Found>, ScoreError> {
        let (len, map_len, latent) = (self.sizes.sample_len(), self.sizes.map_len(), self.sizes.latent);
        let restarts = self.score.search.restarts;
        let How::Search { finish, .. } = &mut self.how else { return Ok(vec![]) };
        finish.run(1)?;
        let read = |name| finish.read(name);
        let (loss, residual, discrimination) = (read("loss")?, read("residual")?, read("discrimination")?);
        let (images, maps, z) = (read("reconstruction")?, read("map")?, read("z")?);
        let best = |query: usize| {
            let lanes = query * restarts..(query + 1) * restarts;
            lanes.min_by(|&a, &b| loss[a].total_cmp(&loss[b])).unwrap_or(query)
        };
        Ok((0..queries)
            .map(best)
            .map(|lane| Found {
                score: f64::from(loss[lane]),
                parts: vec![("residual", residual[lane]), ("discrimination", discrimination[lane])],
                z: z[lane * latent..][..latent].to_vec(),
                reconstruction: Some(images[lane * len..][..len].to_vec()),
                map: Some(maps[lane * map_len..][..map_len].to_vec()),
            })
            .collect())
    }
}

/// Whether models of these settings can be scored so, in batches of this size: what [`Scorer::new`] would say of the
/// settings, before there is a model.
///
/// # Errors
/// [`ScoreError`] for a setting out of range, or one that the system or the score does not have.
pub fn check(header: &Header, score: &ScoreConfig, batch: usize) -> Result<(), ScoreError> {
    planned(header, None, score, batch).map(|_| ())
}

/// The settings in use, the system with what a file says of its states, and the programs of a score.
fn planned<'a>(
    header: &Header,
    file: Option<(&'a ModelFile, &Path)>,
    score: &ScoreConfig,
    batch: usize,
) -> Result<(ScoreConfig, Prepared<'a>, Recorded), ScoreError> {
    let name = header.info(file.map_or(Path::new(""), |(_, path)| path))?.score(&score.score)?;
    score.check()?;
    let config = SearchConfig {
        steps: if score.refine > 0 { score.refine } else { score.search.steps },
        restarts: if score.refine > 0 { 1 } else { score.search.restarts },
        ..score.search.clone()
    };
    if batch == 0 || batch.saturating_mul(config.restarts) > 1 << 16 {
        let value = format!("{batch} with {} restarts", config.restarts);
        let allowed = "at least 1, and batch × restarts at most 65536";
        return Err(ConfigError::new("batch", value, allowed).into());
    }
    let mut levels = vec![];
    let lanes = batch * config.restarts;
    let prepared = Prepared::new(header, file, false, |system, states| {
        if system.is_searched(name) || score.refine > 0 {
            levels = Search::levels(states, system.config(), name, &config, lanes);
        }
    })?;
    let recorded = recorded(prepared.system.as_ref(), header, name, score.refine > 0, levels, batch)?;
    let score = ScoreConfig { score: name.to_owned(), search: config, refine: score.refine };
    Ok((score, prepared, recorded))
}

/// Records the programs of score `name`, with the search that it needs if it is searched.
fn recorded(
    system: &dyn System,
    header: &Header,
    name: &str,
    encodes: bool,
    levels: Vec<Search>,
    batch: usize,
) -> Result<Recorded, ScoreError> {
    let tape = Tape::new();
    let Some(search) = levels.first() else {
        let x = tape.input("x", &system.config().images(batch));
        let scored = system.score(&tape, x, name);
        tape.output("score", scored.score);
        for (part, value) in &scored.parts {
            tape.output(part, *value);
        }
        let optional = [("reconstruction", scored.reconstruction), ("map", scored.map)];
        for (output, value) in optional {
            if let Some(value) = value {
                tape.output(output, value);
            }
        }
        let has = Has { reconstruction: scored.reconstruction.is_some(), map: scored.map.is_some() };
        let parts = scored.parts.iter().map(|&(part, _)| part).collect();
        let program = compile(&tape.finish().map_err(CompileError::from)?)?;
        return Ok(Recorded::Pass { program, parts, has });
    };
    let Some(model) = system.latent() else { return Err(no_refinement(&header.system)) };
    let probe = tape.input("x", &system.config().images(1));
    if encodes && model.encode(&tape, probe).is_none() {
        return Err(no_refinement(&header.system));
    }
    if encodes && !model.refines(name) {
        let allowed = "left out: this score is of one pass, not of a latent that could move";
        return Err(ConfigError::new("refine", format!("asked of score {name}"), allowed).into());
    }
    let mut programs = vec![
        compiled(|tape| search.prepare(tape, model, encodes))?,
        compiled(|tape| search.finish(tape, model))?,
    ];
    for level in &levels {
        programs.push(compiled(|tape| level.step(tape, model))?);
    }
    Ok(Recorded::Search { programs, levels, encodes })
}

fn no_refinement(system: &str) -> ScoreError {
    ConfigError::new(
        "refine",
        format!("asked of {system}"),
        "left out: only a system with a generator and an encoder can refine",
    )
    .into()
}
