//! What a device owes. Everything else asks [`Device`](super::Device), [`Store`] and
//! [`Executable`](super::Executable); they ask the traits here, and only a device's own folder knows what is
//! behind them. `docs/adding-a-backend.md` makes one.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::wait::wait;
use super::{Clock, DeviceError, Replay, Store};
use crate::program::{Launch, Program};
use crate::tape::StateId;

/// What a device will have done, or read, some time later: at once where the device waits within the call,
/// after a turn of the event loop in a browser. [`Executable`](super::Executable) and [`Store`] wait for it
/// or hand it on.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeviceError>> + 'a>>;

/// A [`Pending`] of what is known already.
pub fn done<'a, T: 'a>(result: Result<T, DeviceError>) -> Pending<'a, T> {
    Box::pin(std::future::ready(result))
}

/// A device: where states are stored and programs loaded.
///
/// The contract of all of them: the same program with the same states and inputs gives the same bits again.
pub trait Backend: Send + Sync {
    /// One line for people, which begins with the device's name in `--device`.
    fn describe(&self) -> String;

    /// Allocates states of these lengths, all zero.
    ///
    /// # Errors
    /// [`DeviceError`] where memory is short.
    fn store(&self, lens: &[usize]) -> Result<Arc<dyn Stored>, DeviceError>;

    /// Bytes that [`Backend::store`] takes for states of these lengths.
    fn store_bytes(&self, lens: &[usize]) -> u64;

    /// Bytes that [`Backend::load`] takes beside the store. The program has been checked.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launch that does not fit the device.
    fn program_bytes(&self, program: &Program) -> Result<u64, DeviceError>;

    /// Prepares a program. It has been checked against itself; [`Store::own`] checks it against the store and
    /// gives the device its own kind of store. `variant` names the form of each launch that the caller wants,
    /// by its index; `None` is the device's choice, and a device that has one form of each kernel need not
    /// ask.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launch, state or memory at fault.
    fn load<'v>(
        &self,
        program: &Arc<Program>,
        store: &Store,
        variant: &dyn Fn(usize, &Launch) -> Option<&'v str>,
    ) -> Result<Box<dyn Loaded>, DeviceError>;

    /// Bytes held on the device now, whoever asked for them; `None` where nobody tells.
    fn held_bytes(&self) -> Option<u64> {
        None
    }

    /// What [`Loaded::replay_timed`] reads.
    ///
    /// # Errors
    /// A device fault.
    fn clock(&self) -> Result<Clock, DeviceError> {
        Ok(Clock::Wall { reason: None })
    }

    /// Floating-point operations and bytes a second, at most, measured.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] where nobody wrote the measurement, or a device fault.
    fn rates(&self) -> Result<[f64; 2], DeviceError> {
        Err(DeviceError::Unsupported { what: "measure its peaks" })
    }

    /// Whether weights that are stored as halves save more than unpacking them costs.
    fn halves(&self) -> bool {
        false
    }
}

/// States on a device, shared by the programs of one model. Numbers and lengths have been checked when it is
/// asked.
pub trait Stored: Any + Send + Sync {
    /// How many states there are.
    fn count(&self) -> usize;

    /// Elements of a state.
    fn len(&self, id: StateId) -> usize;

    /// Bytes held.
    fn bytes(&self) -> u64;

    /// Copies a state to the host, after all that runs.
    fn read(&self, id: StateId) -> Pending<'_, Vec<f32>>;

    /// Replaces a state.
    ///
    /// # Errors
    /// A device fault.
    fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError>;
}

/// A program on a device, ready to replay. Buffers are the program's, by their index; names and lengths have
/// been checked when it is asked.
pub trait Loaded: Send + Sync {
    /// Bytes held beside the store: what [`Backend::program_bytes`] said.
    fn bytes(&self) -> u64;

    /// Replaces the contents of an input; it keeps them over replays.
    ///
    /// # Errors
    /// A device fault.
    fn write(&mut self, buffer: usize, values: &[f32]) -> Result<(), DeviceError>;

    /// Copies an output to the host, after all that runs.
    fn read(&self, buffer: usize) -> Pending<'_, Vec<f32>>;

    /// Appends an output to what is there, without a copy in between where the device can.
    ///
    /// # Errors
    /// A device fault.
    fn read_to(&self, buffer: usize, values: &mut Vec<f32>) -> Result<(), DeviceError> {
        values.extend(wait(self.read(buffer))?);
        Ok(())
    }

    /// Replays the program `times` times; may return before the end, which [`Loaded::finished`] then waits
    /// for. Between two replays it asks [`ganomede_host::interrupt::check`]; one replay is always done
    /// whole.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launches at fault.
    fn run(&mut self, times: usize) -> Result<(), DeviceError>;

    /// The end of everything that runs.
    fn finished(&self) -> Pending<'_, ()> {
        done(Ok(()))
    }

    /// How long compiling its launches took.
    fn compilation(&self) -> Duration {
        Duration::ZERO
    }

    /// The form that a launch runs as, where there are several.
    fn variant(&self, _launch: usize) -> &'static str {
        "native"
    }

    /// Replays the program once and says when each launch ran. Where the device's clock turns out wrong, it
    /// is replaced in `clock` by the host's.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] on a device that cannot time single launches, or a device fault.
    fn replay_timed(&mut self, _clock: &mut Clock) -> Result<Replay, DeviceError> {
        Err(DeviceError::Unsupported { what: "time single launches" })
    }

    /// Replays once, launch by launch, and returns the first launch that makes a value that is not finite out
    /// of finite ones; `None` where there is none, or where the device cannot look.
    ///
    /// # Errors
    /// A device fault.
    fn find_non_finite(&mut self) -> Result<Option<usize>, DeviceError> {
        Ok(None)
    }
}
