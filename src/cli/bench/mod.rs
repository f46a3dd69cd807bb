//! `bench`: times of operations, training steps, z-steps, and the whole loops around them.

mod loops;
mod timing;

use std::time::Instant;

use super::args::Global;
use super::ops::OpArgs;
use super::programs::{
    Sizes, System, Which, fill_inputs, go_on, parse_batch, parse_networks, random_values, record,
};
use super::{CliError, Interrupt, say, say_json};
use crate::device::Device;
use timing::{Subject, Timing, measure};

/// Measure operations, training steps, z-steps and whole loops.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede bench step --size 64 --width 64 --batch 64\n  \
    ganomede bench search --batch 1 --launches\n  ganomede bench op conv --shape 64x64x32x32 --out-channels 128\n  \
    ganomede bench score --search-steps 20 --json")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// Timed runs; the first ones, which warm caches and compile shaders, are not among them.
    #[arg(long, global = true, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Also time every launch by itself.
    #[arg(long, global = true)]
    launches: bool,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    /// One operation.
    Op(OpArgs),
    /// One training step: D on real and fake images, then G.
    Step(ProgramArgs),
    /// One gradient step of the latent search.
    Search(ProgramArgs),
    /// Training on built-in data: loading, steps and losses read back.
    Train(ProgramArgs),
    /// Scoring built-in data: loading, whole searches and results read back.
    Score(ScoreArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct ProgramArgs {
    /// Which published system.
    #[arg(long, default_value = "dcgan", value_parser = parse_networks())]
    system: System,
    #[command(flatten)]
    sizes: Sizes,
    /// Images in a batch, or searches side by side.
    #[arg(long, default_value_t = 64, value_parser = parse_batch)]
    batch: usize,
}

#[derive(Debug, Clone, clap::Args)]
struct ScoreArgs {
    #[command(flatten)]
    program: ProgramArgs,
    /// Gradient steps of each search.
    #[arg(long, default_value_t = 50)]
    search_steps: usize,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let started = Instant::now();
    let device = global.open()?;
    let timing = match &args.what {
        What::Op(op) => bench_op(op, args, global, &device, interrupt)?,
        What::Step(program) => {
            bench_program(Which::Step, program, args, global, &device, started, interrupt)?
        }
        What::Search(program) => {
            bench_program(Which::Search, program, args, global, &device, started, interrupt)?
        }
        What::Train(_) | What::Score(_) if args.launches => {
            return Err(CliError::input("--launches times programs: use it with bench op, step or search"));
        }
        What::Train(program) => loops::train(program, args.runs, global, &device, started, interrupt)?,
        What::Score(score) => {
            loops::score(&score.program, score.search_steps, args.runs, global, &device, started, interrupt)?
        }
    };
    if global.json {
        return say_json(&timing);
    }
    say(&timing.text())
}

fn bench_op(
    op: &OpArgs,
    args: &Args,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<Timing, CliError> {
    if op.variant.is_some() && !matches!(device, Device::Gpu(_)) {
        return Err(CliError::input("--variant chooses among GPU kernels; add --device gpu"));
    }
    let started = Instant::now();
    let (states, program) = op.record()?;
    let store = device.store(&states, global.seed)?;
    let variant = op.variant_of(&program)?;
    let mut executable = device.load_variants(&program, &store, |i, _| variant.filter(|_| i == 0))?;
    fill_inputs(&mut executable, global.seed)?;
    let shape = op.shape();
    let subject = Subject::op(op, &shape);
    let items = if shape.0.len() == 4 { shape.0[0] } else { 1 };
    let measured = measure(&mut executable, started, args.runs, true, interrupt)?;
    finish(measured, subject, items, executable, device, args)
}

fn bench_program(
    which: Which,
    program: &ProgramArgs,
    args: &Args,
    global: &Global,
    device: &Device,
    started: Instant,
    interrupt: &Interrupt,
) -> Result<Timing, CliError> {
    let config = program.sizes.config();
    let recorded = record(program.system, which, None, &config, program.batch, global.seed)?;
    let store = device.store(&recorded.states, global.seed)?;
    let images = random_values(config.images(program.batch).iter().product(), global.seed, 0);
    if let Some(prepare) = &recorded.prepare {
        let mut prepare = device.load(prepare, &store)?;
        prepare.write("x", &images)?;
        prepare.write("z", &random_values(program.batch * config.latent, global.seed, 1))?;
        prepare.run(1)?;
    }
    go_on(interrupt)?;
    let mut executable = device.load(&recorded.program, &store)?;
    if which == Which::Step {
        executable.write("x", &images)?;
    }
    // A search replays many z-steps at a time; training reads the losses after each step.
    let measured = measure(&mut executable, started, args.runs, which == Which::Search, interrupt)?;
    if which == Which::Step {
        let losses = executable.read("losses")?;
        if let Some(loss) = losses.iter().find(|loss| !loss.is_finite()) {
            return Err(CliError::machine(format!(
                "a loss is {loss} after the timed steps; the times mean nothing"
            )));
        }
    }
    let subject = Subject::program(program.system, which.name(), &program.sizes, program.batch);
    finish(measured, subject, program.batch, executable, device, args)
}

/// Adds what the program says about itself, and its launches where asked for.
fn finish(
    measured: timing::Measured,
    subject: Subject,
    items: usize,
    mut executable: crate::device::Executable,
    device: &Device,
    args: &Args,
) -> Result<Timing, CliError> {
    let launches = if args.launches { Some(timing::launches(&mut executable, args.runs)?) } else { None };
    let cost = executable.program().cost();
    Ok(Timing::new(subject, device, &measured, items)
        .with_program(cost, executable.program().launches.len(), executable.bytes())
        .with_launches(launches))
}
