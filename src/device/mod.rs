//! Devices replay programs. `Gpu` runs them on wgpu, `Cpu` through the kernels' native twins; one contract for both:
//! the same program on the same device with the same seed gives the same bits.

mod check;
mod cpu;
pub mod error;
pub mod gpu;
mod limits;
pub mod machine;
mod peaks;
mod profile;
pub mod tuning;
pub mod vault;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use cpu::{CpuExecutable, CpuStore};
pub use error::DeviceError;
use gpu::{Gpu, GpuChoice, GpuExecutable, GpuOptions, GpuStore};
pub use peaks::Peaks;
pub use profile::{Clock, LoadTimes, Replay, Span};

use crate::program::{Launch, Program, Role, StateId};
use crate::tape::States;

/// What `--device` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// Hardware GPUs first, then the CPU; never a software adapter.
    Auto,
    /// The native CPU device.
    Cpu,
    /// The first adapter, software ones included.
    Gpu,
    /// The adapter of this number in `ganomede devices`.
    GpuIndex(usize),
}

impl std::str::FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("device '{text}' is unknown; use auto, cpu, gpu or gpu:N (see `ganomede devices`)");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => match text.strip_prefix("gpu:").map(str::parse) {
                Some(Ok(index)) => Ok(Self::GpuIndex(index)),
                _ => Err(unknown()),
            },
        }
    }
}

/// A place where programs run. Cheap to clone.
#[derive(Clone)]
pub enum Device {
    /// Native code on the current rayon pool.
    Cpu,
    /// wgpu.
    Gpu(Gpu),
    /// The CPU, but the launches in the range run on the GPU: a wrong result is bisected by moving the range.
    Mixed(Gpu, Range<usize>),
}

impl Device {
    /// Opens the device that the selector names.
    ///
    /// # Errors
    /// [`DeviceError`] where it names none, or the driver refuses.
    pub fn open(selector: Selector, options: GpuOptions) -> Result<Self, DeviceError> {
        match selector {
            Selector::Cpu => Ok(Self::Cpu),
            Selector::Auto => match Gpu::open(GpuChoice::Auto, options) {
                Ok(gpu) => Ok(Self::Gpu(gpu)),
                Err(DeviceError::NoAdapter { .. }) => Ok(Self::Cpu),
                Err(other) => Err(other),
            },
            Selector::Gpu => Gpu::open(GpuChoice::Any, options).map(Self::Gpu),
            Selector::GpuIndex(index) => Gpu::open(GpuChoice::Index(index), options).map(Self::Gpu),
        }
    }

    /// `cpu`, or `gpu` with the adapter's name.
    pub fn describe(&self) -> String {
        match self {
            Self::Cpu => format!("cpu ({} threads)", rayon::current_num_threads()),
            Self::Gpu(gpu) => format!("gpu: {}", gpu.describe()),
            Self::Mixed(gpu, range) => format!("cpu, launches {range:?} on gpu: {}", gpu.describe()),
        }
    }

    /// Puts all states on the device with their start values for `seed`.
    ///
    /// # Errors
    /// [`DeviceError::States`] where a state was registered against the rules; where memory is short.
    pub fn store(&self, states: &States, seed: u64) -> Result<Store, DeviceError> {
        let store = self.empty_store(states)?;
        store.initialise(states, seed)?;
        Ok(store)
    }

    /// As [`Device::store`], with every state zero.
    ///
    /// # Errors
    /// As for [`Device::store`].
    pub fn empty_store(&self, states: &States) -> Result<Store, DeviceError> {
        states.check()?;
        self.store_of(&states.lens())
    }

    /// A store of zeroed states of these lengths.
    ///
    /// # Errors
    /// As for [`Device::store`].
    pub fn store_of(&self, lens: &[usize]) -> Result<Store, DeviceError> {
        match self {
            Self::Cpu | Self::Mixed(..) => Ok(Store::Cpu(CpuStore::new(lens)?)),
            Self::Gpu(gpu) => Ok(Store::Gpu(gpu.store(lens)?)),
        }
    }

    /// Bytes that a store of states of these lengths takes, known before any is allocated.
    pub fn store_bytes(&self, lens: &[usize]) -> u64 {
        match self {
            Self::Cpu | Self::Mixed(..) => CpuStore::bytes_for(lens),
            Self::Gpu(_) => GpuStore::bytes_for(lens),
        }
    }

    /// Bytes that a program takes beside the store when it is loaded, known before any is allocated: its buffers, the
    /// largest scratch of its launches (on the CPU that of all threads), and on a GPU their parameters.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launch that contradicts its program or does not fit the device.
    pub fn program_bytes(&self, program: &Program) -> Result<u64, DeviceError> {
        match self {
            Self::Cpu | Self::Mixed(..) => CpuExecutable::bytes_for(program),
            Self::Gpu(gpu) => gpu.program_bytes(program),
        }
    }

    /// Bytes that are held now, whoever asked for them: of this process's own memory on the CPU, of what the driver
    /// gave out on a GPU; `None` where the system or the driver does not tell.
    pub fn held_bytes(&self) -> Option<u64> {
        match self {
            Self::Cpu | Self::Mixed(..) => machine::resident_anonymous(),
            Self::Gpu(gpu) => gpu.driver_bytes(),
        }
    }

    /// Prepares a program: buffers, and on a GPU pipelines and bind groups. Before anything is allocated, the program is
    /// checked against itself and against the store: every state is there, with the length that the program has it.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launch that contradicts its program or does not fit the device, the state that is not
    /// the store's, or the memory that is short; for a store of another device too.
    pub fn load(&self, program: &Program, store: &Store) -> Result<Executable, DeviceError> {
        self.load_variants(program, store, |_, _| None)
    }

    /// As [`Device::load`], asking `variant` for the GPU variant of each launch by its index; `None` is the kernel's
    /// choice. The CPU has one form of each kernel and does not ask.
    ///
    /// # Errors
    /// As for [`Device::load`], and for a variant that the kernel does not have.
    pub fn load_variants<'a>(
        &self,
        program: &Program,
        store: &Store,
        variant: impl Fn(usize, &Launch) -> Option<&'a str>,
    ) -> Result<Executable, DeviceError> {
        let started = Instant::now();
        let native = |store| CpuExecutable::new(Arc::new(program.clone()), store);
        let body = match (self, store) {
            (Self::Cpu, Store::Cpu(store)) => Body::Cpu(native(store)?),
            (Self::Mixed(gpu, range), Store::Cpu(store)) => {
                Body::Mixed(native(store)?, gpu.clone(), range.clone())
            }
            (Self::Gpu(gpu), Store::Gpu(store)) => Body::Gpu(gpu.load_variants(program, store, variant)?),
            _ => {
                let what = "a store of another device was given".to_owned();
                return Err(DeviceError::Launch { launch: "load".to_owned(), what });
            }
        };
        let compilation = if let Body::Gpu(gpu) = &body { gpu.compilation() } else { Duration::ZERO };
        let allocation = started.elapsed().saturating_sub(compilation);
        let load_times = LoadTimes { compilation, allocation };
        Ok(Executable { program: Arc::new(program.clone()), body, load_times })
    }
}

/// Refuses what the machine's memory cannot hold: the system would end the process rather than fail the allocation.
fn host_has(needed: u64) -> Result<(), DeviceError> {
    match machine::available_memory() {
        Some(available) if needed > available => Err(DeviceError::Memory { needed, available }),
        _ => Ok(()),
    }
}

/// State tensors on a device, shared by the programs that read and write them.
#[derive(Clone)]
pub enum Store {
    /// In host memory.
    Cpu(CpuStore),
    /// In GPU buffers.
    Gpu(GpuStore),
}

impl Store {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Cpu(store) => store.bytes(),
            Self::Gpu(store) => store.bytes(),
        }
    }

    /// Writes the start values for `seed` to all states.
    ///
    /// # Errors
    /// [`DeviceError`] where the store is of other states, or the device fails.
    pub fn initialise(&self, states: &States, seed: u64) -> Result<(), DeviceError> {
        states.check()?;
        (0..states.entries().len())
            .map(StateId)
            .try_for_each(|id| self.write(id, &states.initial_values(id, seed)?))
    }

    /// Copies a state to the host.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], or where the device fails.
    pub fn read(&self, id: StateId) -> Result<Vec<f32>, DeviceError> {
        match self {
            Self::Cpu(store) => store.read(id),
            Self::Gpu(store) => store.read(id),
        }
    }

    /// Replaces a state.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], [`DeviceError::WrongLength`], or where the device fails.
    pub fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        match self {
            Self::Cpu(store) => store.write(id, values),
            Self::Gpu(store) => store.write(id, values),
        }
    }
}

enum Body {
    Cpu(CpuExecutable),
    Mixed(CpuExecutable, Gpu, Range<usize>),
    Gpu(GpuExecutable),
}

/// A launch whose output has a value that is not finite although its inputs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonFinite {
    /// Index of the launch.
    pub launch: usize,
    /// Its layer.
    pub scope: String,
    /// Its kernel.
    pub kernel: &'static str,
}

/// A program ready to replay.
pub struct Executable {
    program: Arc<Program>,
    body: Body,
    load_times: LoadTimes,
}

/// Stands between replay `i` and the one before: where a process that is asked to stop stops. A single replay is a step of
/// a training and always done whole.
fn between(i: usize) -> Result<(), DeviceError> {
    if i > 0 { Ok(ganomede_host::interrupt::check()?) } else { Ok(()) }
}

impl Executable {
    /// The program behind it.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Bytes held for it beside the store: what [`Device::program_bytes`] foretells.
    pub fn bytes(&self) -> u64 {
        match &self.body {
            Body::Cpu(cpu) | Body::Mixed(cpu, ..) => cpu.bytes(),
            Body::Gpu(gpu) => gpu.bytes(),
        }
    }

    fn find(&self, name: &str, input: bool) -> Result<usize, DeviceError> {
        let found = if input { self.program.input(name) } else { self.program.output(name) };
        found.ok_or_else(|| {
            let known = self.program.buffers.iter().filter_map(|b| match &b.role {
                Role::Input(n) if input => Some(n.as_str()),
                Role::Output(n) if !input => Some(n.as_str()),
                _ => None,
            });
            let unread = self.program.unread.keys().filter(|_| input).map(String::as_str);
            let known = known.chain(unread).collect::<Vec<_>>().join(", ");
            DeviceError::UnknownName { name: name.to_owned(), known }
        })
    }

    /// Writes a named input; it keeps its value over replays. An input that was recorded and that nothing needs
    /// ([`Program::unread`]) is accepted and dropped.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], [`DeviceError::WrongLength`], or where the device fails.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<(), DeviceError> {
        let fits = |expected: usize| match values.len() {
            got if got == expected => Ok(()),
            got => Err(DeviceError::WrongLength { name: name.to_owned(), expected, got }),
        };
        if let Some(&len) = self.program.unread.get(name) {
            return fits(len);
        }
        let buffer = self.find(name, true)?;
        fits(self.program.buffers[buffer].len)?;
        match &mut self.body {
            Body::Cpu(cpu) | Body::Mixed(cpu, ..) => cpu.write(buffer, values),
            Body::Gpu(gpu) => gpu.write(buffer, values)?,
        }
        Ok(())
    }

    /// Reads a named output of the last replay.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], or where the device fails.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, DeviceError> {
        let buffer = self.find(name, false)?;
        match &self.body {
            Body::Cpu(cpu) | Body::Mixed(cpu, ..) => Ok(cpu.read(buffer).to_vec()),
            Body::Gpu(gpu) => gpu.read(buffer),
        }
    }

    /// Reads a named output of one element.
    ///
    /// # Errors
    /// As [`Executable::read`].
    pub fn scalar(&self, name: &str) -> Result<f32, DeviceError> {
        Ok(self.read(name)?.first().copied().unwrap_or(f32::NAN))
    }

    /// Replays the program `times` times and waits.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launch or submission at fault; [`DeviceError::Interrupted`] where the process is asked to
    /// stop between two of them.
    pub fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        match &mut self.body {
            // On a thread of the pool, so that a launch begins at once and only its helpers have to be woken.
            Body::Cpu(cpu) => rayon::scope(|_| {
                (0..times).try_for_each(|i| between(i).and_then(|()| cpu.replay(None, None)))
            }),
            Body::Gpu(gpu) => gpu.run(times),
            Body::Mixed(cpu, gpu, range) => {
                let program = self.program.clone();
                let mut elsewhere = |index: usize, inputs: &[&[f32]], outputs: &mut [&mut [f32]]| {
                    range.contains(&index).then(|| {
                        let old: Vec<&[f32]> = outputs.iter().map(|o| &**o).collect();
                        let new =
                            gpu.run_kernel(&program.launches[index].kernel, None, inputs, Some(&old))?;
                        for (output, values) in outputs.iter_mut().zip(&new) {
                            output.copy_from_slice(values);
                        }
                        Ok(())
                    })
                };
                (0..times).try_for_each(|i| between(i).and_then(|()| cpu.replay(Some(&mut elsewhere), None)))
            }
        }
    }

    /// Replays once, launch by launch, and reports the first launch that makes a value that is not finite out of
    /// finite ones. Slow; for diagnosis. The states change as in any replay up to that launch.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    pub fn find_non_finite(&mut self) -> Result<Option<NonFinite>, DeviceError> {
        let found = match &mut self.body {
            Body::Gpu(gpu) => gpu.run_checked()?,
            Body::Cpu(cpu) | Body::Mixed(cpu, ..) => {
                let finite = |tensors: &[&[f32]]| tensors.iter().all(|t| t.iter().all(|v| v.is_finite()));
                let mut found = None;
                let mut check = |index: usize, _inputs: &[&[f32]], outputs: &[&[f32]]| {
                    // Random words travel as f32 bit patterns through inputs, so only outputs are judged.
                    if !finite(outputs) {
                        found = Some(index);
                    }
                    found.is_none()
                };
                match cpu.replay(None, Some(&mut check)) {
                    Ok(()) | Err(DeviceError::Stopped) => found,
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(found.map(|launch| {
            let at = &self.program.launches[launch];
            NonFinite { launch, scope: at.scope.clone(), kernel: at.kernel.name() }
        }))
    }
}
