//! Exact counts of what a training step and a search step of AnoGAN take (64 × 64, width 32, batch 64): a
//! change that costs a launch, a submission, a byte or an operation shows here without a clock. A change that
//! saves some shows too: then put the new number here.

use std::time::Duration;

use ganomede::device::gpu::{Gpu, GpuChoice, GpuOptions};
use ganomede::models::anogan::AnoGan;
use ganomede::models::search::{Search, SearchConfig};
use ganomede::models::{Config, Size, System, Training};
use ganomede::program::{Program, compile};
use ganomede::tape::{States, Tape};
use ganomede::train::part_program;
use ganomede_kernels::{GpuTraits, Kernel};

const BATCH: usize = 64;

fn config() -> Config {
    Config { size: Size::square(64), channels: 1, width: 32, latent: 100, ..Config::default() }
}

fn step() -> (States, Program) {
    let mut states = States::new();
    let mut model = AnoGan::new(&mut states, &config()).expect("sizes in range");
    model.register_training(&mut states, Training::default(), 0);
    let part = part_program(&model, 0, 0, BATCH).expect("it compiles");
    (states, part.program)
}

fn search() -> (States, Program) {
    let mut states = States::new();
    let model = AnoGan::new(&mut states, &config()).expect("sizes in range");
    let search = Search::new(&mut states, &model, "anogan", &SearchConfig::default(), BATCH);
    let tape = Tape::new();
    search.step(&tape, &model);
    (states, compile(&tape.finish().expect("shapes fit")).expect("it compiles"))
}

/// What one replay takes.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    launches: usize,
    flops: u64,
    bytes_read: u64,
    bytes_written: u64,
    /// Bytes of all buffers.
    buffers: u64,
    /// Dispatches on a hardware adapter with WebGPU's default limits, and on a software adapter without and
    /// with subgroups of eight lanes.
    dispatches: [usize; 3],
}

fn counts(program: &Program) -> Counts {
    let cost = program.cost();
    let dispatches = [(false, None), (true, None), (true, Some(8))].map(|(software, subgroup)| {
        let traits = GpuTraits { software, subgroup, ..GpuTraits::default() };
        let plan = |kernel: &Kernel| kernel.gpu(&traits, None).expect("a plan").dispatches.len();
        program.launches.iter().map(|launch| plan(&launch.kernel)).sum()
    });
    Counts {
        launches: program.launches.len(),
        flops: cost.flops,
        bytes_read: cost.bytes_read,
        bytes_written: cost.bytes_written,
        buffers: program.peak_bytes(),
        dispatches,
    }
}

#[test]
fn a_training_step_takes_exactly_this() {
    let expected = Counts {
        launches: 204,
        flops: 36_398_616_593,
        bytes_read: 570_299_324,
        bytes_written: 235_010_152,
        buffers: 90_415_836,
        dispatches: [253, 396, 351],
    };
    assert_eq!(counts(&step().1), expected);
}

#[test]
fn a_search_step_takes_exactly_this() {
    let expected = Counts {
        launches: 30,
        flops: 13_301_536_562,
        bytes_read: 116_161_040,
        bytes_written: 67_218_700,
        buffers: 50_234_632,
        dispatches: [41, 86, 70],
    };
    assert_eq!(counts(&search().1), expected);
}

/// Where time does not cut them, replays share submissions: as many as fit the 4096 dispatches of one.
#[test]
fn replays_take_exactly_so_many_submissions() {
    let options = GpuOptions { submission_budget: Duration::from_secs(1 << 40), ..GpuOptions::default() };
    let gpu = Gpu::open(GpuChoice::Any, options)
        .expect("these tests need an adapter; apt-get install mesa-vulkan-drivers");
    for (states, program) in [step(), search()] {
        let store = gpu.store(&states.lens()).expect("states fit");
        let executable = gpu.load(&program, &store).expect("the program fits");
        let plan = |kernel: &Kernel| kernel.gpu(gpu.traits(), None).expect("a plan").dispatches.len();
        let replay: usize = program.launches.iter().map(|launch| plan(&launch.kernel)).sum();
        let fit = 4096 / replay;
        assert!((8..=100).contains(&fit), "{replay} dispatches a replay");
        let taken = [0, 1, fit, fit + 1].map(|times| executable.submissions(times));
        assert_eq!(taken, [0, 1, 1, 2], "{replay} dispatches a replay");
        // A launch is never cut, and has a dozen dispatches at most: the 500 replays leave less than one
        // unused.
        let largest = program.launches.iter().map(|launch| plan(&launch.kernel)).max().expect("launches");
        assert!(largest <= 12, "{largest} dispatches of one launch");
        let least = (500 * replay).div_ceil(4096);
        let most = (500 * replay).div_ceil(4096 - largest + 1);
        let taken = executable.submissions(500);
        assert!((least..=most).contains(&taken) && most - least <= 1, "{taken} and not {least} to {most}");
    }
}
