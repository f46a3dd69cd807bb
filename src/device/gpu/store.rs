//! State tensors in device memory, shared by every program that names them.

use std::sync::Arc;

use super::super::{DeviceError, check};
use super::shared::{Reservation, Shared, binding_bytes};
use crate::tape::StateId;

/// One device buffer per state. Clones share the buffers.
#[derive(Debug, Clone)]
pub struct GpuStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    buffers: Vec<(wgpu::Buffer, usize)>,
    /// Given back when dropped.
    _reservation: Reservation,
}

impl GpuStore {
    /// Bytes that [`GpuStore::new`] takes.
    pub(super) fn bytes_for(lens: &[usize]) -> u64 {
        lens.iter().fold(0, |sum, &len| binding_bytes(len).saturating_add(sum))
    }

    /// Allocates states of `lens` elements, all zero; state `i` is `StateId(i)`.
    pub(super) fn new(shared: &Arc<Shared>, lens: &[usize]) -> Result<Self, DeviceError> {
        for (i, &len) in lens.iter().enumerate() {
            shared.buffer_bytes(len, || format!("state {i}"))?;
        }
        let reservation = shared.reserve(Self::bytes_for(lens))?;
        let buffers = lens
            .iter()
            .enumerate()
            .map(|(i, &len)| Ok((shared.storage(len, &format!("state {i}"))?, len)))
            .collect::<Result<_, DeviceError>>()?;
        Ok(Self { inner: Arc::new(Inner { shared: Arc::clone(shared), buffers, _reservation: reservation }) })
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.inner.buffers.len()
    }

    /// Bytes of its buffers.
    pub fn bytes(&self) -> u64 {
        self.inner.buffers.iter().map(|(buffer, _)| buffer.size()).sum()
    }

    pub(super) fn buffer(&self, id: StateId) -> Result<&(wgpu::Buffer, usize), DeviceError> {
        self.inner.buffers.get(id.0).ok_or_else(|| check::unknown_state(id.0, self.states()))
    }

    pub(super) fn is_on(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.inner.shared, shared)
    }

    /// Overwrites a state.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], [`DeviceError::WrongLength`], or a device fault.
    pub fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        let (buffer, len) = self.buffer(id)?;
        let name = format!("state {}", id.0);
        if values.len() != *len {
            return Err(DeviceError::WrongLength { name, expected: *len, got: values.len() });
        }
        self.inner.shared.upload(buffer, values, &name)
    }

    /// Reads a state, after everything submitted.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`] or a device fault.
    pub fn read(&self, id: StateId) -> Result<Vec<f32>, DeviceError> {
        let (buffer, len) = self.buffer(id)?;
        self.inner.shared.download(buffer, *len, &format!("state {}", id.0))
    }
}
