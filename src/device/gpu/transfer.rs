//! Copies between host and device.

use std::sync::atomic::Ordering;

use super::super::DeviceError;
use super::shared::{Shared, lock};

/// Uploads held in wgpu's staging memory before they are flushed.
const MAX_UNFLUSHED: u64 = 64 << 20;

/// Largest read-back in one piece, which bounds the staging buffer.
const READBACK_CHUNK: u64 = 32 << 20;

impl Shared {
    /// Uploads `data` to the start of `buffer`, before whatever is submitted next.
    pub(super) fn upload(&self, buffer: &wgpu::Buffer, data: &[f32], name: &str) -> Result<(), DeviceError> {
        if data.is_empty() {
            return Ok(());
        }
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let what = || format!("upload of {name}");
        self.scoped(what, bytes.len() as u64, || self.queue.write_buffer(buffer, 0, bytes))?;
        let pending = bytes.len() as u64 + self.unflushed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if pending > MAX_UNFLUSHED {
            self.submit(what, 0.0, |_| ())?;
            self.wait()?;
        }
        Ok(())
    }

    /// Reads the first `len` elements of `buffer`, after everything submitted, through one buffer kept for
    /// all reads.
    pub(super) fn download<T: bytemuck::Pod>(
        &self,
        buffer: &wgpu::Buffer,
        len: usize,
        name: &str,
    ) -> Result<Vec<T>, DeviceError> {
        self.wait()?;
        let mut values = Vec::with_capacity(len);
        let mut readback = lock(&self.readback);
        let element = size_of::<T>() as u64;
        while values.len() < len {
            let offset = element * values.len() as u64;
            let bytes = (element * len as u64 - offset).min(READBACK_CHUNK);
            let staging = match readback.take() {
                Some(kept) if kept.size() >= bytes => kept,
                _ => self.staging(bytes.next_power_of_two())?,
            };
            let what = || format!("read-back of {name}");
            let (sender, receiver) = std::sync::mpsc::channel();
            let copy = |encoder: &mut wgpu::CommandEncoder| {
                encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
                // A failed send means that the wait below failed first, with its own error.
                encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, ..bytes, move |mapped| {
                    drop(sender.send(mapped));
                });
            };
            self.submit(what, 0.0, copy)?;
            self.wait()?;
            let failed = |message: String| DeviceError::Validation { launch: what(), message };
            // Another thread's wait may be the one that runs the callback.
            match receiver.recv_timeout(self.options.timeout) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(failed(error.to_string())),
                Err(_) => {
                    return Err(failed("the buffer was not mapped when its copy had finished".to_owned()));
                }
            }
            let view =
                staging.slice(..bytes).get_mapped_range().map_err(|error| failed(error.to_string()))?;
            values.extend(bytemuck::pod_collect_to_vec::<u8, T>(&view));
            drop(view);
            staging.unmap();
            *readback = Some(staging);
        }
        Ok(values)
    }

    fn staging(&self, size: u64) -> Result<wgpu::Buffer, DeviceError> {
        self.scoped(
            || "read-back staging".to_owned(),
            size,
            || {
                self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("read-back"),
                    size,
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            },
        )
    }
}
