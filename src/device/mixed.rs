//! The processor, with some launches forced to a GPU: a wrong result is bisected by moving the range.

use std::ops::Range;
use std::sync::Arc;

use super::backend::{Backend, Loaded, Pending, Stored};
use super::cpu::{Cpu, CpuExecutable, between};
use super::gpu::Gpu;
use super::{Clock, DeviceError, Replay, Store};
use crate::program::{Launch, Program};

/// An adapter with the launches that it runs; states and all other launches are the processor's.
#[derive(Clone)]
pub(super) struct Mixed {
    pub(super) gpu: Gpu,
    pub(super) range: Range<usize>,
}

impl Backend for Mixed {
    fn describe(&self) -> String {
        format!("cpu, launches {:?} on gpu: {}", self.range, self.gpu.describe())
    }

    fn store(&self, lens: &[usize]) -> Result<Arc<dyn Stored>, DeviceError> {
        Cpu.store(lens)
    }

    fn store_bytes(&self, lens: &[usize]) -> u64 {
        Cpu.store_bytes(lens)
    }

    fn program_bytes(&self, program: &Program) -> Result<u64, DeviceError> {
        Cpu.program_bytes(program)
    }

    fn load<'v>(
        &self,
        program: &Arc<Program>,
        store: &Store,
        _variant: &dyn Fn(usize, &Launch) -> Option<&'v str>,
    ) -> Result<Box<dyn Loaded>, DeviceError> {
        Ok(Box::new(MixedExecutable { cpu: CpuExecutable::new(program, store)?, forced: self.clone() }))
    }

    fn held_bytes(&self) -> Option<u64> {
        Cpu.held_bytes()
    }

    fn rates(&self) -> Result<[f64; 2], DeviceError> {
        Cpu.rates()
    }
}

/// The processor's program. Timing it and looking for values that are not finite are the processor's alone.
struct MixedExecutable {
    cpu: CpuExecutable,
    forced: Mixed,
}

impl Loaded for MixedExecutable {
    fn bytes(&self) -> u64 {
        self.cpu.bytes()
    }

    fn write(&mut self, buffer: usize, values: &[f32]) -> Result<(), DeviceError> {
        self.cpu.write(buffer, values)
    }

    fn read(&self, buffer: usize) -> Pending<'_, Vec<f32>> {
        self.cpu.read(buffer)
    }

    fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        let (program, Mixed { gpu, range }) = (Arc::clone(&self.cpu.program), &self.forced);
        let mut elsewhere = |index: usize, inputs: &[&[f32]], outputs: &mut [&mut [f32]]| {
            range.contains(&index).then(|| {
                let old: Vec<&[f32]> = outputs.iter().map(|o| &**o).collect();
                let new = gpu.run_kernel(&program.launches[index].kernel, None, inputs, Some(&old))?;
                for (output, values) in outputs.iter_mut().zip(&new) {
                    output.copy_from_slice(values);
                }
                Ok(())
            })
        };
        (0..times).try_for_each(|i| between(i).and_then(|()| self.cpu.replay(Some(&mut elsewhere), None)))
    }

    fn replay_timed(&mut self, clock: &mut Clock) -> Result<Replay, DeviceError> {
        self.cpu.replay_timed(clock)
    }

    fn find_non_finite(&mut self) -> Result<Option<usize>, DeviceError> {
        self.cpu.find_non_finite()
    }
}
