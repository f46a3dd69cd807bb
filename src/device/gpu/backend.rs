//! What a device owes, by an adapter.

use std::sync::Arc;
use std::time::Duration;

use super::super::backend::{Backend, Loaded, Pending, Stored, done};
use super::super::list::Entry;
use super::super::{Clock, Device, DeviceError, Replay, Store};
use super::ticks::spans;
use super::{Gpu, GpuChoice, GpuExecutable, GpuStore};
use crate::program::{Launch, Program};
use crate::tape::StateId;

/// The line in the list of devices.
pub(in crate::device) const ENTRY: Entry = Entry {
    name: "gpu",
    open: |index, options| {
        let choice = index.map_or(GpuChoice::Any, GpuChoice::Index);
        Gpu::open(choice, options.clone()).map(Device::Gpu)
    },
};

impl Backend for Gpu {
    fn describe(&self) -> String {
        format!("gpu: {}", Gpu::describe(self))
    }

    fn store(&self, lens: &[usize]) -> Result<Arc<dyn Stored>, DeviceError> {
        Ok(Arc::new(Gpu::store(self, lens)?))
    }

    fn store_bytes(&self, lens: &[usize]) -> u64 {
        GpuStore::bytes_for(lens)
    }

    fn program_bytes(&self, program: &Program) -> Result<u64, DeviceError> {
        Gpu::program_bytes(self, program)
    }

    fn load<'v>(
        &self,
        program: &Arc<Program>,
        store: &Store,
        variant: &dyn Fn(usize, &Launch) -> Option<&'v str>,
    ) -> Result<Box<dyn Loaded>, DeviceError> {
        // What the store must hold is checked behind the launches, for plans without a program too.
        Ok(Box::new(self.load_variants(program, store.kind()?, variant)?))
    }

    fn held_bytes(&self) -> Option<u64> {
        self.driver_bytes()
    }

    fn clock(&self) -> Result<Clock, DeviceError> {
        Ok(match self.timestamp_sanity()? {
            None => Clock::wall("the adapter has no timestamps"),
            Some(report) => match report.problem {
                Some(problem) => Clock::wall(problem),
                None => Clock::Timestamps { period_ns: report.period_ns },
            },
        })
    }

    fn rates(&self) -> Result<[f64; 2], DeviceError> {
        Ok([self.peak_flops()?, self.peak_bytes()?])
    }

    fn halves(&self) -> bool {
        true
    }
}

impl Stored for GpuStore {
    fn count(&self) -> usize {
        self.states()
    }

    fn len(&self, id: StateId) -> usize {
        self.buffer(id).map_or(0, |buffer| buffer.1)
    }

    fn bytes(&self) -> u64 {
        GpuStore::bytes(self)
    }

    fn read(&self, id: StateId) -> Pending<'_, Vec<f32>> {
        done(GpuStore::read(self, id))
    }

    fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        GpuStore::write(self, id, values)
    }
}

impl Loaded for GpuExecutable {
    fn bytes(&self) -> u64 {
        GpuExecutable::bytes(self)
    }

    fn write(&mut self, buffer: usize, values: &[f32]) -> Result<(), DeviceError> {
        GpuExecutable::write(self, buffer, values)
    }

    fn read(&self, buffer: usize) -> Pending<'_, Vec<f32>> {
        done(GpuExecutable::read(self, buffer))
    }

    fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        self.submit(times)
    }

    fn finished(&self) -> Pending<'_, ()> {
        done(self.wait())
    }

    fn compilation(&self) -> Duration {
        GpuExecutable::compilation(self)
    }

    fn variant(&self, launch: usize) -> &'static str {
        GpuExecutable::variant(self, launch)
    }

    fn replay_timed(&mut self, clock: &mut Clock) -> Result<Replay, DeviceError> {
        if let Clock::Timestamps { period_ns } = *clock {
            let outcome = match self.replay_ticked()? {
                Some(ticked) => spans(&ticked, period_ns),
                None => Err("the program has more launches than query sets hold".to_owned()),
            };
            match outcome {
                Ok(replay) => return Ok(replay),
                Err(reason) => *clock = Clock::wall(reason),
            }
        }
        let (launches, submissions, wall) = self.replay_apart()?;
        Ok(Replay { wall, launches, submissions })
    }

    fn find_non_finite(&mut self) -> Result<Option<usize>, DeviceError> {
        self.run_checked()
    }
}
