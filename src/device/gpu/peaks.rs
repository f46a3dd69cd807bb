//! Peaks of an adapter, by shaders that do nothing else.

use std::time::Instant;

use ganomede_kernels::peak::{MAX_ROUNDS, Peak};

use super::super::DeviceError;
use super::super::peaks::best_rate;
use super::executable::GpuExecutable;
use super::{Gpu, PlannedLaunch};
use crate::program::{Buffer, Role};

/// Threads that fill an adapter: a large hardware one has about as many at work at a time.
const HARDWARE_THREADS: usize = 1 << 18;
const SOFTWARE_THREADS: usize = 1 << 12;
/// Floats copied: 128 MiB are beyond the caches of the largest adapters, 64 MiB beyond those of most
/// processors.
const HARDWARE_COPY: usize = 1 << 25;
const SOFTWARE_COPY: usize = 1 << 24;
/// Fewest floats that a copy is measured with, where memory is short.
const LEAST_COPY: usize = 1 << 18;

impl Gpu {
    /// Floating-point operations a second.
    pub(super) fn peak_flops(&self) -> Result<f64, DeviceError> {
        let threads = if self.traits.software { SOFTWARE_THREADS } else { HARDWARE_THREADS };
        best_rate(64, |amount| {
            let (rounds, replays) = rounds_and_replays(amount);
            let peak = Peak::Fma { threads, rounds };
            let mut executable = self.load_peak(peak)?;
            let started = Instant::now();
            executable.run(replays)?;
            Ok((peak.cost().flops as f64 * replays as f64, started.elapsed()))
        })
    }

    /// Bytes a second, read and written.
    pub(super) fn peak_bytes(&self) -> Result<f64, DeviceError> {
        let wanted = if self.traits.software { SOFTWARE_COPY } else { HARDWARE_COPY };
        let mut len = wanted.min(self.traits.max_binding_bytes as usize / 16 * 4);
        loop {
            let peak = Peak::Copy { len };
            match self.load_peak(peak) {
                Ok(mut executable) => {
                    return best_rate(1, |replays| {
                        let started = Instant::now();
                        executable.run(replays)?;
                        Ok((8.0 * len as f64 * replays as f64, started.elapsed()))
                    });
                }
                Err(
                    DeviceError::Memory { .. }
                    | DeviceError::OutOfMemory { .. }
                    | DeviceError::BufferTooLarge { .. },
                ) if len > LEAST_COPY => len /= 2,
                Err(other) => return Err(other),
            }
        }
    }

    fn load_peak(&self, peak: Peak) -> Result<GpuExecutable, DeviceError> {
        let label = "peak".to_owned();
        let plan =
            peak.gpu(&self.traits).map_err(|source| DeviceError::Kernel { launch: label.clone(), source })?;
        let mut operands: Vec<(usize, usize)> =
            peak.input_lens().into_iter().chain([peak.output_len()]).enumerate().collect();
        let buffers: Vec<Buffer> =
            operands.iter().map(|&(_, len)| Buffer { len, role: Role::Temporary }).collect();
        let outputs = operands.split_off(operands.len() - 1);
        let launch = PlannedLaunch { label, plan, inputs: operands, outputs, cost: peak.cost() };
        GpuExecutable::new(&self.shared, &buffers, vec![launch], &self.store(&[])?, !self.checked)
    }
}

/// Rounds of one launch that stay within what a thread may loop.
fn rounds_and_replays(amount: usize) -> (usize, usize) {
    (amount.min(MAX_ROUNDS), amount.div_ceil(MAX_ROUNDS))
}
