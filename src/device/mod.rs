//! Devices replay programs. `Gpu` runs them on wgpu, `Cpu` through the kernels' native twins; one contract
//! for both: the same program on the same device with the same seed gives the same bits.
//!
//! A device is what implements [`Backend`], [`Stored`] and [`Loaded`]; [`Device`], [`Store`] and
//! [`Executable`] are what everybody else uses. Without the feature `gpu` the processor is the only device.

mod backend;
mod check;
mod cpu;
pub mod error;
mod executable;
#[cfg(feature = "gpu")]
pub mod gpu;
mod limits;
mod list;
pub mod machine;
#[cfg(feature = "gpu")]
mod mixed;
mod options;
mod peaks;
mod profile;
mod store;
mod wait;

use std::borrow::Cow;
#[cfg(feature = "gpu")]
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

pub use backend::{Backend, Loaded, Pending, Stored, done};
pub use error::DeviceError;
pub use executable::{Executable, NonFinite};
#[cfg(feature = "gpu")]
use gpu::Gpu;
#[cfg(feature = "gpu")]
pub use gpu::{tuning, vault};
pub use list::Selector;
pub use options::GpuOptions;
pub use peaks::Peaks;
pub use profile::{Clock, LoadTimes, Replay, Span};
pub use store::Store;

use crate::program::{Launch, Program};
use crate::tape::States;
use ganomede_kernels::{Precision, bf16_instructions};

/// A place where programs run. Cheap to clone.
#[derive(Clone)]
pub enum Device {
    /// Native code on the current rayon pool.
    Cpu,
    /// The same, with the operands of products rounded.
    Rounded(Precision),
    /// An adapter, through wgpu.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
    /// The CPU, but the launches in the range run on the GPU: a wrong result is bisected by moving the range.
    #[cfg(feature = "gpu")]
    Mixed(Gpu, Range<usize>),
    /// Any other: of this crate, or anybody's.
    Other(Arc<dyn Backend>),
}

impl Device {
    /// Opens the device that the selector names.
    ///
    /// # Errors
    /// [`DeviceError`] where it names none, this build has none such, or the driver refuses.
    pub fn open(selector: Selector, options: GpuOptions) -> Result<Self, DeviceError> {
        list::open(selector, &options)
    }

    /// The first hardware GPU, else the CPU.
    ///
    /// # Errors
    /// [`DeviceError`] where a GPU is there and its driver refuses.
    pub fn auto() -> Result<Self, DeviceError> {
        Self::open(Selector::Auto, GpuOptions::default())
    }

    /// The device itself.
    fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Self::Cpu | Self::Rounded(_) => Arc::new(cpu::Cpu),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => Arc::new(gpu.clone()),
            #[cfg(feature = "gpu")]
            Self::Mixed(gpu, range) => Arc::new(mixed::Mixed { gpu: gpu.clone(), range: range.clone() }),
            Self::Other(backend) => Arc::clone(backend),
        }
    }

    /// The same device with the operands of products rounded: several times faster where the processor or the
    /// GPU has instructions for it, and less exact ([`Precision`]). Sums, statistics, losses and weights stay
    /// in f32.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where the device does not multiply so.
    pub fn with_precision(self, precision: Precision) -> Result<Self, DeviceError> {
        match (self, precision) {
            (Self::Cpu | Self::Rounded(_), Precision::F32) => Ok(Self::Cpu),
            (Self::Cpu | Self::Rounded(_), Precision::Bf16) => Ok(Self::Rounded(precision)),
            (Self::Cpu | Self::Rounded(_), Precision::F16) => {
                Err(DeviceError::Unsupported { what: cpu::NO_F16 })
            }
            #[cfg(feature = "gpu")]
            (Self::Gpu(gpu), Precision::F32) => Ok(Self::Gpu(gpu.with_precision(precision))),
            #[cfg(feature = "gpu")]
            (Self::Gpu(gpu), Precision::F16) if gpu.traits().f16 => {
                Ok(Self::Gpu(gpu.with_precision(precision)))
            }
            #[cfg(feature = "gpu")]
            (Self::Gpu(_), Precision::F16) => {
                Err(DeviceError::Unsupported { what: "multiply in f16 (it has no SHADER_F16); use f32" })
            }
            (device, Precision::F32) => Ok(device),
            (_, Precision::Bf16) => {
                Err(DeviceError::Unsupported { what: "multiply in bf16; use f32, or --device cpu" })
            }
            (_, Precision::F16) => Err(DeviceError::Unsupported { what: "multiply in f16; use f32" }),
        }
    }

    /// What the operands of products are rounded to.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Rounded(precision) => *precision,
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.precision(),
            _ => Precision::F32,
        }
    }

    /// The program as it runs here.
    fn own<'p>(&self, program: &'p Program) -> Cow<'p, Program> {
        match self.precision() {
            Precision::F32 => Cow::Borrowed(program),
            precision => Cow::Owned(program.clone().with_precision(precision)),
        }
    }

    /// `cpu`, or `gpu` with the adapter's name, and what products are rounded to.
    pub fn describe(&self) -> String {
        match self {
            Self::Rounded(precision) => {
                format!("{}, products in {precision} by {}", self.backend().describe(), bf16_instructions())
            }
            _ => self.backend().describe(),
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
        self.store_as(states, &states.lens())
    }

    /// A store of these states, zeroed and of these lengths in place of their own.
    pub(crate) fn store_as(&self, states: &States, lens: &[usize]) -> Result<Store, DeviceError> {
        Ok(Store::new(self.backend().store(lens)?, states.names()))
    }

    /// A store of zeroed states of these lengths. They have no names that a program's could be held against.
    ///
    /// # Errors
    /// As for [`Device::store`].
    pub fn store_of(&self, lens: &[usize]) -> Result<Store, DeviceError> {
        Ok(Store::new(self.backend().store(lens)?, vec![]))
    }

    /// Bytes that a store of states of these lengths takes, known before any is allocated.
    pub fn store_bytes(&self, lens: &[usize]) -> u64 {
        self.backend().store_bytes(lens)
    }

    /// Bytes that a program takes beside the store when it is loaded, known before any is allocated: its
    /// buffers, the largest scratch of its launches (on the CPU that of all threads), and on a GPU their
    /// parameters.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launch that contradicts its program or does not fit the device.
    pub fn program_bytes(&self, program: &Program) -> Result<u64, DeviceError> {
        check::program(program)?;
        self.backend().program_bytes(&self.own(program))
    }

    /// Bytes that are held now, whoever asked for them: of this process's own memory on the CPU, of what the
    /// driver gave out on a GPU; `None` where the system or the driver does not tell.
    pub fn held_bytes(&self) -> Option<u64> {
        self.backend().held_bytes()
    }

    /// Prepares a program: buffers, and on a GPU pipelines and bind groups. Before anything is allocated, the
    /// program is checked against itself and against the store: every state is there, with the name and the
    /// length that the program has it.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launch that contradicts its program or does not fit the device, the state
    /// that is not the store's, or the memory that is short; for a store of another device too.
    pub fn load(&self, program: &Program, store: &Store) -> Result<Executable, DeviceError> {
        self.load_variants(program, store, |_, _| None)
    }

    /// As [`Device::load`], asking `variant` for the GPU variant of each launch by its index; `None` is the
    /// kernel's choice. The CPU has one form of each kernel and does not ask.
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
        check::program(program)?;
        store.check_names(program.states.iter().map(|(&id, name)| (id, name)))?;
        let program = Arc::new(self.own(program).into_owned());
        let loaded = self.backend().load(&program, store, &variant)?;
        Ok(Executable::new(program, loaded, started))
    }

    /// Whether weights stored as halves save more here than unpacking them costs.
    pub fn halves(&self) -> bool {
        self.backend().halves()
    }

    /// The clock for launches: timestamps where a test of them on this adapter comes out sane.
    ///
    /// # Errors
    /// A device fault.
    pub fn clock(&self) -> Result<Clock, DeviceError> {
        self.backend().clock()
    }
}
