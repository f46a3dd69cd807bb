//! Programs made ready for `bench` and `profile`: recorded, loaded, inputs written; with the time that each
//! part took.

use std::time::{Duration, Instant};

use crate::shared::CliError;
use crate::shared::programs::{ChosenSystem, Which, random_values, record_program};
use ganomede::device::{Device, Executable, machine};
use ganomede::kernels::bf16_instructions;
use ganomede::models::Config;

/// Where the time before the first replay went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    /// Recording the tape and compiling the program.
    pub(crate) record: Duration,
    /// Buffers and bind groups.
    pub(crate) allocation: Duration,
    /// Compiling shaders.
    pub(crate) compilation: Duration,
    /// Start values of the states, and inputs.
    pub(crate) upload: Duration,
}

/// What a program needs, and what the process or the driver held before it was there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryUse {
    /// Predicted from the program alone.
    pub(crate) predicted: u64,
    /// Really allocated, states included.
    pub(crate) held: u64,
    before: Option<u64>,
}

impl MemoryUse {
    /// By how much what is held on the device has grown since before the program was loaded.
    pub(crate) fn growth(&self, device: &Device) -> Option<u64> {
        Some(device.held_bytes()?.saturating_sub(self.before?))
    }
}

/// A program that can be replayed.
pub(crate) struct Ready {
    pub(crate) executable: Executable,
    pub(crate) memory: MemoryUse,
    /// Values of the input `x`, which is given anew each time; empty for a search, whose queries are states.
    pub(crate) images: Vec<f32>,
    pub(crate) setup: Setup,
}

/// Runs `work` and adds the time it took.
fn timed<T, E>(time: &mut Duration, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let started = Instant::now();
    let result = work();
    *time += started.elapsed();
    result
}

impl Ready {
    /// Records and loads one of a system's programs, with random images; see [`record_program`].
    pub(crate) fn new(
        system: ChosenSystem,
        which: Which,
        part: Option<&str>,
        config: &Config,
        batch: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, CliError> {
        let mut setup = Setup::default();
        let recorded = timed(&mut setup.record, || record_program(system, which, part, config, batch, seed))?;
        let predicted =
            device.store_bytes(&recorded.states.lens()) + device.program_bytes(&recorded.program)?;
        let before = device.held_bytes();
        let store = timed(&mut setup.allocation, || device.empty_store(&recorded.states))?;
        timed(&mut setup.upload, || store.initialise(&recorded.states, seed))?;
        let images = random_values(config.images(batch).iter().product(), seed, 0);
        if let Some(prepare) = &recorded.prepare {
            let mut prepare = device.load(prepare, &store)?;
            prepare.write("x", &images)?;
            prepare.write("z", &random_values(batch * config.latent, seed, 1))?;
            prepare.run(1)?;
        }
        let mut executable = device.load(&recorded.program, &store)?;
        let times = executable.load_times();
        setup.allocation += times.allocation;
        setup.compilation += times.compilation;
        let images = if executable.program().input("x").is_some() { images } else { vec![] };
        if !images.is_empty() {
            timed(&mut setup.upload, || executable.write("x", &images))?;
        }
        let memory = MemoryUse { predicted, held: store.bytes() + executable.bytes(), before };
        Ok(Self { executable, memory, images, setup })
    }
}

/// A device as reports name it: kind, adapter, and the CPU's threads.
pub(crate) fn names(device: &Device) -> (&'static str, String, Option<usize>) {
    let (kind, adapter) = match device {
        Device::Cpu => ("cpu", format!("{}, {}", machine::processor(), machine::simd())),
        Device::Rounded(precision) => {
            ("cpu", format!("{}, {precision} by {}", machine::processor(), bf16_instructions()))
        }
        Device::Gpu(gpu) => ("gpu", gpu.describe()),
        Device::Mixed(gpu, _) => ("mixed", gpu.describe()),
        Device::Other(other) => ("other", other.describe()),
    };
    (kind, adapter, (kind != "gpu").then(rayon::current_num_threads))
}
