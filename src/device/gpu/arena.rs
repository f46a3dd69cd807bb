//! Parameter words of all dispatches, written once at load.

use ganomede_kernels::Dispatch;

use super::super::DeviceError;
use super::shared::Shared;

/// The parameter words of all dispatches in one uniform buffer, each at an offset that the adapter can bind.
pub(super) struct Arena {
    bytes: Vec<u8>,
    /// Where each dispatch's words begin.
    pub(super) offsets: Vec<u64>,
}

impl Arena {
    pub(super) fn new(dispatches: &[&Dispatch], alignment: u32) -> Self {
        let mut arena = Self { bytes: Vec::new(), offsets: Vec::with_capacity(dispatches.len()) };
        for dispatch in dispatches {
            arena.offsets.push(arena.bytes.len() as u64);
            arena.bytes.extend_from_slice(bytemuck::cast_slice(&dispatch.params));
            arena.bytes.resize(arena.bytes.len().next_multiple_of(alignment.max(16) as usize), 0);
        }
        arena
    }

    /// Total bytes.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Writes the words into a new buffer; `None` where no dispatch has parameters.
    pub(super) fn upload(&self, shared: &Shared) -> Result<Option<wgpu::Buffer>, DeviceError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let buffer = shared.scoped(
            || "kernel parameters".to_owned(),
            self.len(),
            || {
                let buffer = shared.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("kernel parameters"),
                    size: self.len(),
                    usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                shared.queue.write_buffer(&buffer, 0, &self.bytes);
                buffer
            },
        )?;
        Ok(Some(buffer))
    }
}
