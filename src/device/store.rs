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
pub struct Store {
    stored: Arc<dyn Stored>,
    /// Of each state; none where it was made of lengths alone.
    names: Arc<[Arc<str>]>,
}

impl Store {
    pub(super) fn new(stored: Arc<dyn Stored>, names: Vec<Arc<str>>) -> Self {
        Self { stored, names: names.into() }
    }

    /// Checks that states have the names that they have here, where both know any: of two models one may have
    /// as many states as the other, of the same lengths.
    pub(super) fn check_names<'a>(
        &self,
        states: impl IntoIterator<Item = (StateId, &'a Arc<str>)>,
    ) -> Result<(), DeviceError> {
        let other = states.into_iter().find_map(|(id, name)| {
            let found = self.names.get(id.0).filter(|found| *found != name)?;
            Some(DeviceError::OtherState { id, expected: Arc::clone(name), found: Arc::clone(found) })
        });
        other.map_or(Ok(()), Err)
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.stored.bytes()
    }

    /// Writes the start values for `seed` to all states.
    ///
    /// # Errors
    /// [`DeviceError`] where the store is of other states, or the device fails.
    pub fn initialise(&self, states: &States, seed: u64) -> Result<(), DeviceError> {
        states.check()?;
        let names = states.names();
        self.check_names(names.iter().enumerate().map(|(id, name)| (StateId(id), name)))?;
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
        wait(self.stored.read(id))
    }

    /// As [`Store::read`], for who must not block.
    ///
    /// # Errors
    /// As for [`Store::read`].
    pub async fn read_async(&self, id: StateId) -> Result<Vec<f32>, DeviceError> {
        self.known(id)?;
        self.stored.read(id).await
    }

    /// Replaces a state.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], [`DeviceError::WrongLength`], or where the device fails.
    pub fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        self.known(id)?;
        let (expected, got) = (self.stored.len(id), values.len());
        if expected != got {
            return Err(DeviceError::WrongLength { name: format!("state {}", id.0), expected, got });
        }
        self.stored.write(id, values)
    }

    fn known(&self, id: StateId) -> Result<(), DeviceError> {
        let known = self.stored.count();
        if id.0 < known { Ok(()) } else { Err(check::unknown_state(id.0, known)) }
    }

    /// For [`Backend::load`](super::backend::Backend::load): the device's own kind of store, with every state
    /// of the program there and as long as the program has it.
    ///
    /// # Errors
    /// [`DeviceError::Launch`] for a store of another device, else the state at fault.
    pub fn own<T: Stored>(&self, program: &Program) -> Result<&T, DeviceError> {
        let own = self.kind()?;
        check::states(&program.buffers, &*self.stored)?;
        Ok(own)
    }

    /// As [`Store::own`], unchecked.
    pub(super) fn kind<T: Stored>(&self) -> Result<&T, DeviceError> {
        (&*self.stored as &dyn Any).downcast_ref().ok_or_else(|| {
            let what = "a store of another device was given".to_owned();
            DeviceError::Launch { launch: "load".to_owned(), what }
        })
    }
}
