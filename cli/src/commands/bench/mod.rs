//! `bench`: times of operations, training steps, z-steps, and the whole loops around them.

mod growth;
mod loops;
mod sweep;
mod timing;

use std::time::Instant;

use ganomede_kernels::shaders::Shaders;

use crate::shared::args::Global;
use crate::shared::launches::LaunchTimes;
use crate::shared::ops::OpArgs;
use crate::shared::programs::{ChosenSystem, Sizes, Which, fill_inputs, go_on, parse_batch, parse_networks};
use crate::shared::ready::Ready;
use crate::shared::shaders::{self, Loaded, ShaderArgs};
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::device::{Device, Executable, Peaks, Store};
use ganomede::program::{Program, Role};
use ganomede::tape::States;
use growth::GrowthArgs;
use sweep::SweepArgs;
use timing::{Subject, Timing, measure};

/// Measure operations, training steps, z-steps and whole loops.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede bench step --size 64 --width 64 --batch 64\n  \
    ganomede bench search --batch 1 --launches\n  ganomede bench op conv --shape 64x64x32x32 --out-channels 128\n  \
    ganomede bench op gemm --device gpu --shaders my-shaders --watch\n  \
    ganomede bench search --sweep batch=1,8,64 --sweep width=32,64 --plot search.svg\n  \
    ganomede bench score --search-steps 20 --json\n  \
    ganomede bench growth --size 16 --width 8 --images 1000,10000,100000,1000000")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// Timed runs; the first ones, which warm caches and compile shaders, are not among them.
    #[arg(long, global = true, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Also time every launch by itself.
    #[arg(long, global = true)]
    launches: bool,
    #[command(flatten)]
    shaders: ShaderArgs,
    #[command(flatten)]
    sweep: SweepArgs,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum What {
    #[command(flatten)]
    Timed(Timed),
    /// Training on larger and larger built-in sets: what an image costs, and how much memory they take.
    #[command(after_help = "Example:\n  ganomede bench growth --size 16 --width 8 --images 1000,10000")]
    Growth(GrowthArgs),
}

/// What is run several times.
#[derive(Debug, Clone, clap::Subcommand)]
enum Timed {
    /// One operation.
    Op(OpArgs),
    /// One training step: D on real and fake images, then G.
    #[command(after_help = "Example:\n  ganomede bench step --size 64 --width 64 --batch 64")]
    Step(ProgramArgs),
    /// One gradient step of the latent search.
    #[command(after_help = "Example:\n  ganomede bench search --batch 1 --launches")]
    Search(ProgramArgs),
    /// Training on built-in data: loading, steps and losses read back.
    #[command(after_help = "Example:\n  ganomede bench train --size 32 --width 16")]
    Train(ProgramArgs),
    /// Scoring built-in data: loading, whole searches and results read back.
    #[command(after_help = "Example:\n  ganomede bench score --search-steps 20 --json")]
    Score(ScoreArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct ProgramArgs {
    /// Which published system.
    #[arg(long, default_value = "dcgan", value_parser = parse_networks())]
    system: ChosenSystem,
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
    /// Weights in half precision, as by `train --half`.
    #[arg(long)]
    half: bool,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let started = Instant::now();
    let timed = match &args.what {
        What::Timed(timed) => timed,
        What::Growth(_) if args.launches || args.sweep.is_asked() => {
            return Err(CliError::input(
                "bench growth has no launches and no sweep; give --images 1000,10000",
            ));
        }
        What::Growth(growth) => {
            args.shaders.refuse("bench growth")?;
            return growth::run(growth, global, interrupt);
        }
    };
    if args.launches && matches!(timed, Timed::Train(_) | Timed::Score(_)) {
        return Err(CliError::input("--launches times programs: use it with bench op, step or search"));
    }
    let device = global.open()?;
    if args.sweep.is_asked() {
        return match timed {
            Timed::Step(program) => sweep::run(Which::Step, program, args, global, &device, interrupt),
            Timed::Search(program) => sweep::run(Which::Search, program, args, global, &device, interrupt),
            _ => Err(CliError::input("--sweep, --csv and --plot go with bench step and bench search")),
        };
    }
    let (mut peaks, mut before, mut first) = (None, None, true);
    shaders::measure(&args.shaders, &device, interrupt, |device, loaded| {
        let started = if std::mem::take(&mut first) { started } else { Instant::now() };
        let timing = once(timed, args, global, device, started, loaded, interrupt)?;
        // After the runs, so that neither the first step nor the process's memory knows of it.
        peaks = peaks.or_else(|| device_peaks(device));
        let timing = timing.with_peaks(peaks.as_ref());
        let median = timing.ms_median();
        if global.json {
            say_json(&timing)?;
        } else {
            say(&timing.text())?;
            if let Some(before) = before {
                say(&format!("  change      {:+.1} % of the time before", 100.0 * (median / before - 1.0)))?;
            }
        }
        before = Some(median);
        Ok(())
    })
}

/// The device's peaks; what keeps them from being measured is told and no failure of what was measured.
fn device_peaks(device: &Device) -> Option<Peaks> {
    device.peaks().inspect_err(|error| note(&format!("peaks of the device: {error}"))).ok()
}

fn once(
    timed: &Timed,
    args: &Args,
    global: &Global,
    device: &Device,
    started: Instant,
    loaded: Option<Loaded>,
    interrupt: &Interrupt,
) -> Result<Timing, CliError> {
    let timing = match timed {
        Timed::Op(op) => return bench_op(op, args, global, device, loaded, interrupt),
        Timed::Step(program) => {
            bench_program(Which::Step, program, args, global, device, started, interrupt)?
        }
        Timed::Search(program) => {
            bench_program(Which::Search, program, args, global, device, started, interrupt)?
        }
        Timed::Train(program) => loops::train(program, args.runs, global, device, started, interrupt)?,
        Timed::Score(score) => loops::score(score, args.runs, global, device, started, interrupt)?,
    };
    Ok(timing.with_shaders(loaded))
}

fn bench_op(
    op: &OpArgs,
    args: &Args,
    global: &Global,
    device: &Device,
    mut loaded: Option<Loaded>,
    interrupt: &Interrupt,
) -> Result<Timing, CliError> {
    if op.variant.is_some() && !matches!(device, Device::Gpu(_)) {
        return Err(CliError::input("--variant chooses among GPU kernels; add --device gpu"));
    }
    let started = Instant::now();
    let (states, program) = op.record(device.precision())?;
    if let (Some(loaded), Device::Gpu(gpu)) = (&mut loaded, device) {
        // Bounds and loops are checked here, so that a shader's mistake shows before it is timed without
        // checks.
        let own = outputs(&Device::Gpu(gpu.with_checks()), op, &states, &program, global.seed)?;
        let built_in = Device::Gpu(gpu.with_shaders(Shaders::default()));
        let built_in = outputs(&built_in, op, &states, &program, global.seed)?;
        loaded.difference = Some(difference(&own, &built_in));
    }
    let (_store, mut executable) = ready_op(device, op, &states, &program, global.seed)?;
    let shape = op.shape();
    let subject = Subject::op(op, &shape);
    let items = if shape.0.len() == 4 { shape.0[0] } else { 1 };
    let measured = measure(&mut executable, started, args.runs, true, interrupt)?;
    Ok(finish(measured, subject, items, executable, device, args)?.with_shaders(loaded))
}

/// Loads an operation and writes its inputs.
fn ready_op(
    device: &Device,
    op: &OpArgs,
    states: &States,
    program: &Program,
    seed: u64,
) -> Result<(Store, Executable), CliError> {
    let store = device.store(states, seed)?;
    let variant = op.variant_of(program)?;
    let mut executable = device.load_variants(program, &store, |i, _| variant.filter(|_| i == 0))?;
    fill_inputs(&mut executable, seed)?;
    Ok((store, executable))
}

/// What the operation writes: outputs, or states where it has none.
fn outputs(
    device: &Device,
    op: &OpArgs,
    states: &States,
    program: &Program,
    seed: u64,
) -> Result<Vec<f32>, CliError> {
    let (store, mut executable) = ready_op(device, op, states, program, seed)?;
    executable.run(1)?;
    let mut values = vec![];
    for buffer in &program.buffers {
        match &buffer.role {
            Role::Output(name) => values.extend(executable.read(name)?),
            Role::State(id) => values.extend(store.read(*id)?),
            Role::Input(_) | Role::Temporary => {}
        }
    }
    Ok(values)
}

/// Largest distance of two results, relative to the largest of `expected`; `None` where only one of two is a
/// number.
fn difference(found: &[f32], expected: &[f32]) -> Option<f64> {
    let mut largest = 0.0_f64;
    for (&a, &b) in found.iter().zip(expected) {
        let same = a == b || a.is_nan() && b.is_nan();
        let distance = if same { 0.0 } else { f64::from((a - b).abs()) };
        if !distance.is_finite() {
            return None;
        }
        largest = largest.max(distance);
    }
    let finite = expected.iter().map(|v| f64::from(v.abs())).filter(|v| v.is_finite());
    let scale = finite.fold(0.0, f64::max);
    Some(if largest == 0.0 { 0.0 } else { largest / scale.max(f64::MIN_POSITIVE) })
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
    let mut ready =
        Ready::new(program.system, which, None, &program.sizes.config(), program.batch, global.seed, device)?;
    go_on(interrupt)?;
    let executable = &mut ready.executable;
    // A search replays many z-steps at a time; training reads the losses after each step.
    let measured = measure(executable, started, args.runs, which == Which::Search, interrupt)?;
    if which == Which::Step {
        let losses = executable.read("losses")?;
        if let Some(loss) = losses.iter().find(|loss| !loss.is_finite()) {
            return Err(CliError::machine(format!(
                "a loss is {loss} after the timed steps; the times mean nothing"
            )));
        }
    }
    let subject = Subject::program(program.system, which.name(), &program.sizes, program.batch);
    let growth = ready.memory.growth(device);
    let timing = finish(measured, subject, program.batch, ready.executable, device, args)?;
    Ok(timing.with_memory(ready.memory, growth))
}

/// Adds what the program says about itself, and its launches where asked for.
fn finish(
    measured: timing::Measured,
    subject: Subject,
    items: usize,
    mut executable: Executable,
    device: &Device,
    args: &Args,
) -> Result<Timing, CliError> {
    let timing = Timing::new(subject, device, &measured, items);
    let launches = if args.launches {
        let times = executable.profile(args.runs as usize, &mut device.clock()?)?;
        let ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        let peaks = device_peaks(device);
        Some(LaunchTimes::new(&executable, &ms, &[], false, peaks.as_ref()))
    } else {
        None
    };
    let program = executable.program();
    Ok(timing
        .with_program(program.cost(), program.launches.len(), executable.bytes())
        .with_roof(program)
        .with_launches(launches))
}
