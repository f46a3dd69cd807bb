//! Applying a trained model: scores, reconstructions and maps of batches, by one pass or by latent search.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::common::{self, is_common};
use super::file::{FileError, Header, ModelFile};
use super::load::Prepared;
use super::search::{Latent, Search, SearchConfig};
use super::standardise::standardised;
use super::system::System;
use super::{Config, ConfigError};
use crate::device::{Device, DeviceError, Executable, Store};
use crate::program::{CompileError, Program, compile};
use crate::tape::Tape;

mod pass;
mod places;
mod portable;
mod sampler;
mod search;
mod traced;

pub use super::load::{Loaded, load, untrained};
use pass::Has;
pub use places::{MapConfig, TileScore, Tiling};
pub use portable::{Portable, portable};
pub use sampler::Sampler;
pub(super) use sampler::draw_latents;
use search::Level;
pub use traced::{Traced, TracedState, traced};

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
    /// An image whose score is NaN or infinite.
    #[error(
        "image {index} has a score that is NaN or infinite; the model's weights may be damaged: train it again"
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
    /// How images are cut into tiles; `None` where each is scored as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<Tiling>,
    /// How maps are made; scores do not depend on it.
    #[serde(default, skip_serializing_if = "MapConfig::is_usual")]
    pub maps: MapConfig,
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
        self.maps.check(self.tiles.is_some())?;
        self.search.check()
    }

    /// Whether both give the same scores, whatever maps they make.
    pub fn scores_as(&self, other: &Self) -> bool {
        let apart = |config: &Self| Self { maps: MapConfig::default(), ..config.clone() };
        apart(self) == apart(other)
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
    /// Called with the step and what each query has found so far.
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

/// A model on a device, ready to score batches.
pub struct Scorer {
    device: Device,
    sizes: Config,
    seed: u64,
    standardise: bool,
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
    /// Latent searches side by side: queries times restarts in the first level, in each further one half as
    /// many as before.
    Search { levels: Vec<Level>, encodes: bool, prepare: Executable, finish: Executable },
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
        let halves = if device.halves() { prepared.halves(recorded.programs()) } else { BTreeSet::new() };
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
        let (seed, standardise) = (header.seed, header.recipe.standardise);
        Ok(Self { device, sizes, seed, standardise, store, score, batch, how, lane_steps: 0 })
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

    /// Whether each sample gets a map of where it differs.
    pub fn has_map(&self) -> bool {
        match &self.how {
            How::Pass { has, .. } => has.map,
            How::Search { .. } => true,
        }
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

    /// Scores up to a batch of samples (`n · image_len` values in [−1, 1]); `watch` sees each recorded stage
    /// of a search: step, and what is found so far.
    ///
    /// # Errors
    /// [`ScoreError`] where the device fails or a score is NaN or infinite.
    pub fn score(&mut self, images: &[f32], watch: Option<Watch<'_>>) -> Result<Vec<Found>, ScoreError> {
        if images.is_empty() {
            return Ok(vec![]);
        }
        let (images, were) = standardised(images, self.image_len(), self.standardise);
        let restored = |mut found: Vec<Found>| {
            for (found, was) in found.iter_mut().zip(&were) {
                found.reconstruction.iter_mut().for_each(|made| was.restore(made));
            }
            found
        };
        let found = match (&self.how, watch) {
            (How::Pass { .. }, _) => self.pass(&images)?,
            (How::Search { .. }, None) => self.search(&images, None)?,
            (How::Search { .. }, Some(Watch { stages, see })) => {
                let mut see = |step: usize, found: &[Found]| see(step, &restored(found.to_vec()));
                self.search(&images, Some(Watch { stages, see: &mut see }))?
            }
        };
        let found = restored(found);
        match found.iter().position(|f| !f.score.is_finite()) {
            Some(index) => Err(ScoreError::NotANumber { index }),
            None => Ok(found),
        }
    }
}

/// Whether models of these settings can be scored so, in batches of this size: what [`Scorer::new`] would say
/// of the settings, before there is a model.
///
/// # Errors
/// [`ScoreError`] for a setting out of range, or one that the system or the score does not have.
pub fn check(header: &Header, score: &ScoreConfig, batch: usize) -> Result<(), ScoreError> {
    is_searched(header, score, batch).map(|_| ())
}

/// As [`check`]; whether the score is searched.
///
/// # Errors
/// As [`check`].
pub fn is_searched(header: &Header, score: &ScoreConfig, batch: usize) -> Result<bool, ScoreError> {
    let (_, _, recorded) = planned(header, None, score, batch)?;
    Ok(matches!(recorded, Recorded::Search { .. }))
}

/// Whether each sample gets a map of where it differs, by the settings alone.
///
/// # Errors
/// As [`check`].
pub fn has_map(header: &Header, score: &ScoreConfig) -> Result<bool, ScoreError> {
    let (_, _, recorded) = planned(header, None, score, 1)?;
    Ok(match recorded {
        Recorded::Pass { has, .. } => has.map,
        Recorded::Search { .. } => true,
    })
}

/// The settings in use, the system with what a file says of its states, and the programs of a score.
fn planned<'a>(
    header: &Header,
    file: Option<(&'a ModelFile, &Path)>,
    score: &ScoreConfig,
    batch: usize,
) -> Result<(ScoreConfig, Prepared<'a>, Recorded), ScoreError> {
    let Chosen { score, prepared, levels, how } = chosen(header, file, score, batch)?;
    let recorded = recorded(prepared.system.as_ref(), header, how, levels, batch)?;
    Ok((score, prepared, recorded))
}

/// A score before its programs are recorded.
struct Chosen<'a> {
    /// The settings in use.
    score: ScoreConfig,
    /// The system with what a file says of its states.
    prepared: Prepared<'a>,
    /// The search, of scores that have one.
    levels: Vec<Search>,
    how: Scoring,
}

/// Checks settings and makes the system that they are of.
fn chosen<'a>(
    header: &Header,
    file: Option<(&'a ModelFile, &Path)>,
    score: &ScoreConfig,
    batch: usize,
) -> Result<Chosen<'a>, ScoreError> {
    let name = header.info(file.map_or(Path::new(""), |(_, path)| path))?.score(&score.score)?;
    score.check()?;
    score.tiles.map_or(Ok(()), |tiles| tiles.check(&header.config))?;
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
            levels = Search::levels(states, system, name, &config, lanes);
        }
    })?;
    let own = !is_common(header.info(Path::new(""))?, name);
    let how = Scoring { name, own, encodes: score.refine > 0 };
    let score = ScoreConfig { score: name.to_owned(), search: config, ..score.clone() };
    Ok(Chosen { score, prepared, levels, how })
}

/// A score by name: whether it is the system's own, and whether it is refined by a search from E(x).
#[derive(Clone, Copy)]
struct Scoring {
    name: &'static str,
    own: bool,
    encodes: bool,
}

/// Records a score of one pass, from samples `x` to outputs; the names of what it is made of.
fn record_pass(
    tape: &Tape,
    system: &dyn System,
    Scoring { name, own, .. }: Scoring,
    batch: usize,
) -> Result<(Vec<&'static str>, Has), ScoreError> {
    let x = tape.input("x", &system.config().images(batch));
    let scored = if own { system.score(tape, x, name) } else { common::scored(tape, system, x, name)? };
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
    Ok((scored.parts.iter().map(|&(part, _)| part).collect(), has))
}

/// The generator that a search moves the latent of.
fn searchable<'s>(
    system: &'s dyn System,
    header: &Header,
    Scoring { name, encodes, .. }: Scoring,
) -> Result<&'s dyn Latent, ScoreError> {
    let Some(model) = system.latent() else { return Err(no_refinement(&header.system)) };
    let tape = Tape::new();
    let probe = tape.input("x", &system.config().images(1));
    if encodes && model.encode(&tape, probe).is_none() {
        return Err(no_refinement(&header.system));
    }
    if encodes && !model.refines(name) {
        let allowed = "left out: this score is of one pass, not of a latent that could move";
        return Err(ConfigError::new("refine", format!("asked of score {name}"), allowed).into());
    }
    Ok(model)
}

/// Records the programs of a score, with the search that it needs if it is searched.
fn recorded(
    system: &dyn System,
    header: &Header,
    how: Scoring,
    levels: Vec<Search>,
    batch: usize,
) -> Result<Recorded, ScoreError> {
    let Some(search) = levels.first() else {
        let tape = Tape::new();
        let (parts, has) = record_pass(&tape, system, how, batch)?;
        let program = compile(&tape.finish().map_err(CompileError::from)?)?;
        return Ok(Recorded::Pass { program, parts, has });
    };
    let model = searchable(system, header, how)?;
    let Scoring { name, own, encodes } = how;
    let finish = Tape::new();
    search.finish_by(&finish, model, system.config(), (!own).then_some(name))?;
    let mut programs = vec![
        compiled(|tape| search.prepare(tape, model, encodes))?,
        compile(&finish.finish().map_err(CompileError::from)?)?,
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
