//! Time of each launch, on either device.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{Body, DeviceError, Executable};

impl Executable {
    /// Replays the program `times` times and returns the shortest time of each launch. On a GPU each launch is timed by
    /// itself, see [`super::gpu::GpuExecutable::profile`]; launches forced to a GPU are timed as their CPU twins.
    ///
    /// # Errors
    /// As for [`Executable::run`].
    pub fn profile(&mut self, times: usize) -> Result<Vec<Duration>, DeviceError> {
        let cpu = match &mut self.body {
            Body::Gpu(gpu) => return gpu.profile(times),
            Body::Cpu(cpu) | Body::Mixed(cpu, ..) => cpu,
        };
        let mut shortest = vec![Duration::MAX; self.program.launches.len()];
        for _ in 0..times {
            // The replay asks before each launch whether it runs elsewhere, and reports after it.
            let started = Cell::new(Instant::now());
            let mut before = |_: usize, _: &[&[f32]], _: &mut [&mut [f32]]| {
                started.set(Instant::now());
                None
            };
            let mut after = |index: usize, _: &[&[f32]], _: &[&[f32]]| {
                shortest[index] = shortest[index].min(started.get().elapsed());
                true
            };
            cpu.replay(Some(&mut before), Some(&mut after))?;
        }
        Ok(shortest)
    }
}
