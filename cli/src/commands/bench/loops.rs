//! Whole loops on built-in data, as `train` and `score` run them.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ganomede_datasets::{BatchOptions, Batches, Dataset, OpenOptions, Preprocess, Split};
use ganomede_kernels::Cost;

use super::timing::{Measured, ProcessorClock, Subject, Timing, elapsed_ms};
use super::{ProgramArgs, ScoreArgs};
use crate::shared::args::Global;
use crate::shared::programs::{Which, go_on, record_program};
use crate::shared::{CliError, Interrupt};
use ganomede::device::Device;
use ganomede::models::file::{DataInfo, FORMAT, Header, Progress};
use ganomede::models::recipe::Recipe;
use ganomede::models::scorer::ScoreConfig;
use ganomede::models::scorer::Scorer;
use ganomede::models::search::SearchConfig;
use ganomede::models::{Options, Training};
use ganomede::train::Trainer;

/// Batches that warm caches and compile shaders.
const WARM: u32 = 2;

/// Opens a set of retina scans with this many in a split.
pub(super) fn open(program: &ProgramArgs, split: Split, images: usize) -> Result<Dataset, CliError> {
    let (train, test) = if split == Split::Train { (images, 1) } else { (1, images) };
    let preprocess =
        Preprocess { channels: program.sizes.channels.into(), ..Preprocess::new(program.sizes.size) };
    let options = OpenOptions { preprocess, ..OpenOptions::default() };
    Ok(Dataset::open(&format!("builtin:retina:train={train},test={test}"), &options)?)
}

/// Retina scans in `count` batches.
fn batches(program: &ProgramArgs, split: Split, count: u32) -> Result<Batches, CliError> {
    let dataset = Arc::new(open(program, split, program.batch * count as usize)?);
    let indices = dataset.all(split);
    let options = BatchOptions { batch: program.batch, prefetch: 2, ..BatchOptions::default() };
    Ok(Batches::new(dataset, split, indices, options)?)
}

pub(super) fn header(program: &ProgramArgs, seed: u64, device: &Device) -> Result<Header, CliError> {
    let info = program.system.info;
    Ok(Header {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        system: info.name.to_owned(),
        options: Options::new(info.options, [])?,
        config: program.sizes.config(),
        training: Training::default(),
        recipe: Recipe::default(),
        batch: program.batch,
        seed,
        device: device.describe(),
        precision: None,
        data: DataInfo { spec: "builtin:retina".to_owned(), ..DataInfo::default() },
        progress: Progress::default(),
        calibration: None,
        appearance: None,
        check: None,
    })
}

/// Times `each` on every batch; the first ones are not counted.
fn time(
    batches: Batches,
    started: Instant,
    interrupt: &Interrupt,
    mut each: impl FnMut(&[f32]) -> Result<(), CliError>,
) -> Result<Measured, CliError> {
    let (mut first_ms, mut runs_ms) = (None, vec![]);
    let (mut before, mut clock) = (Instant::now(), ProcessorClock::start());
    for (i, batch) in batches.enumerate() {
        go_on(interrupt)?;
        each(&batch?.images)?;
        first_ms.get_or_insert_with(|| elapsed_ms(started));
        match i.cmp(&(WARM as usize - 1)) {
            Ordering::Less => {}
            Ordering::Equal => clock = ProcessorClock::start(),
            Ordering::Greater => runs_ms.push(elapsed_ms(before)),
        }
        before = Instant::now();
    }
    Ok(Measured::new(first_ms.unwrap_or(f64::NAN), runs_ms, 1, clock))
}

pub(super) fn train(
    program: &ProgramArgs,
    runs: u32,
    global: &Global,
    device: &Device,
    started: Instant,
    interrupt: &Interrupt,
) -> Result<Timing, CliError> {
    let step = record_program(
        program.system,
        Which::Step,
        None,
        &program.sizes.config(),
        program.batch,
        global.seed,
    )?
    .program;
    let mut trainer = Trainer::new(device, header(program, global.seed, device)?, None, &[])?;
    let batches = batches(program, Split::Train, runs.saturating_add(WARM))?;
    let measured = time(batches, started, interrupt, |images| Ok(trainer.step(images).map(drop)?))?;
    let subject = Subject::program(program.system, "train", &program.sizes, program.batch);
    let timing = Timing::new(subject, device, &measured, program.batch);
    Ok(timing.with_program(step.cost(), step.launches.len(), trainer.bytes()))
}

pub(super) fn score(
    args: &ScoreArgs,
    runs: u32,
    global: &Global,
    device: &Device,
    started: Instant,
    interrupt: &Interrupt,
) -> Result<Timing, CliError> {
    let (program, steps) = (&args.program, args.search_steps);
    let search = SearchConfig { steps, ..SearchConfig::default() };
    search.check()?;
    let score = ScoreConfig { search, ..ScoreConfig::default() };
    let step = record_program(
        program.system,
        Which::Search,
        None,
        &program.sizes.config(),
        program.batch,
        global.seed,
    )?
    .program;
    // An untrained model takes as long as a trained one.
    let mut model = Trainer::new(device, header(program, global.seed, device)?, None, &[])?.model()?;
    if args.half {
        model.halve_weights();
    }
    let mut scorer = Scorer::new(device, &model, Path::new("untrained"), &score, program.batch)?;
    let batches = batches(program, Split::Test, runs.saturating_add(WARM))?;
    let measured = time(batches, started, interrupt, |images| Ok(scorer.score(images, None).map(drop)?))?;
    let mut subject = Subject::program(program.system, "score", &program.sizes, program.batch);
    subject.search_steps = Some(steps);
    let (one, times) = (step.cost(), steps as u64);
    let cost = Cost {
        flops: one.flops * times,
        bytes_read: one.bytes_read * times,
        bytes_written: one.bytes_written * times,
    };
    let timing = Timing::new(subject, device, &measured, program.batch);
    Ok(timing.with_program(cost, step.launches.len() * steps, scorer.bytes()))
}
