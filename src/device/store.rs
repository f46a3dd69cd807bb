//! States on a device.

use std::any::Any;
use std::sync::Arc;

use super::backend::Stored;
use super::wait::wait;
use super::{DeviceError, check};
use crate::program::Program;
use crate::tape::{StateId, States};

/// State tensors on a device, shared by the programs that read and write them. Clones are the same states.
#[derive(Clone)]
pub struct Store(Arc<dyn Stored>);

impl Store {
    pub(super) fn new(stored: Arc<dyn Stored>) -> Self {
        Self(stored)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
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
        self.known(id)?;
        wait(self.0.read(id))
    }

    /// As [`Store::read`], for who must not block.
    ///
    /// # Errors
    /// As for [`Store::read`].
    pub async fn read_async(&self, id: StateId) -> Result<Vec<f32>, DeviceError> {
        self.known(id)?;
        self.0.read(id).await
    }

    /// Replaces a state.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], [`DeviceError::WrongLength`], or where the device fails.
    pub fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        self.known(id)?;
        let (expected, got) = (self.0.len(id), values.len());
        if expected != got {
            return Err(DeviceError::WrongLength { name: format!("state {}", id.0), expected, got });
        }
        self.0.write(id, values)
    }

    fn known(&self, id: StateId) -> Result<(), DeviceError> {
        let known = self.0.count();
        if id.0 < known { Ok(()) } else { Err(check::unknown_state(id.0, known)) }
    }

    /// For [`Backend::load`](super::backend::Backend::load): the device's own kind of store, with every state
    /// of the program there and as long as the program has it.
    ///
    /// # Errors
    /// [`DeviceError::Launch`] for a store of another device, else the state at fault.
    pub fn own<T: Stored>(&self, program: &Program) -> Result<&T, DeviceError> {
        let own = self.kind()?;
        check::states(&program.buffers, &*self.0)?;
        Ok(own)
    }

    /// As [`Store::own`], unchecked.
    pub(super) fn kind<T: Stored>(&self) -> Result<&T, DeviceError> {
        (&*self.0 as &dyn Any).downcast_ref().ok_or_else(|| {
            let what = "a store of another device was given".to_owned();
            DeviceError::Launch { launch: "load".to_owned(), what }
        })
    }
}
