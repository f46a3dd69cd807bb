//! The native device: replays a program through the kernels' CPU twins on a pool of threads.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DeviceError;
use crate::program::{Program, Role, StateId};

/// Numbers that begin at a cache line: vectors of a row then lie in one line each, not across two.
#[derive(Default)]
struct Buffer {
    values: Vec<f32>,
    start: usize,
}

impl Buffer {
    /// Numbers in a cache line.
    const LINE: usize = 16;

    /// `len` zeros.
    fn new(len: usize) -> Self {
        if len == 0 {
            return Self::default();
        }
        let mut values = vec![0.0; Self::room(len)];
        let start = values.as_ptr().align_offset(4 * Self::LINE).min(Self::LINE - 1);
        values.truncate(start + len);
        Self { values, start }
    }

    /// Numbers allocated for `len` of them.
    fn room(len: usize) -> usize {
        if len == 0 { 0 } else { len + Self::LINE - 1 }
    }

    /// Bytes that [`Buffer::new`] takes for each of these lengths.
    fn bytes_for(lens: impl IntoIterator<Item = usize>) -> u64 {
        lens.into_iter().map(|len| 4 * Self::room(len) as u64).sum()
    }

    /// Bytes that it holds.
    fn bytes(&self) -> u64 {
        4 * self.values.capacity() as u64
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..]
    }
}

/// State tensors of one model on the CPU, shared by its programs.
#[derive(Clone, Default)]
pub struct CpuStore(Arc<Mutex<Vec<Buffer>>>);

impl CpuStore {
    /// Zeroed states of the given lengths.
    pub fn new(lens: &[usize]) -> Self {
        Self(Arc::new(Mutex::new(lens.iter().map(|&len| Buffer::new(len)).collect())))
    }

    /// Bytes that [`CpuStore::new`] takes.
    pub fn bytes_for(lens: &[usize]) -> u64 {
        Buffer::bytes_for(lens.iter().copied())
    }

    /// Bytes held, outside a replay.
    pub fn bytes(&self) -> u64 {
        self.lock().iter().map(Buffer::bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Buffer>> {
        // A panic while the lock was held leaves plain numbers behind; they are as good as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a state to the host.
    pub fn read(&self, id: StateId) -> Vec<f32> {
        self.lock()[id.0].to_vec()
    }

    /// Replaces a state.
    pub(super) fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        let mut states = self.lock();
        let state = &mut states[id.0];
        if state.len() != values.len() {
            let name = format!("state {}", id.0);
            return Err(DeviceError::WrongLength { name, expected: state.len(), got: values.len() });
        }
        state.copy_from_slice(values);
        Ok(())
    }
}

/// Runs one launch in place of the CPU twin, for bisection: kernel inputs, outputs' old values → outputs.
pub(super) type Elsewhere<'a> =
    &'a mut dyn FnMut(usize, &[&[f32]], &mut [&mut [f32]]) -> Option<Result<(), DeviceError>>;

/// Sees index, inputs and outputs of each launch that has run; false ends the replay.
pub(super) type After<'a> = &'a mut dyn FnMut(usize, &[&[f32]], &[&[f32]]) -> bool;

/// A program with its buffers.
pub struct CpuExecutable {
    program: Arc<Program>,
    store: CpuStore,
    /// One for each buffer; those of states are empty here and lent by the store during a replay.
    buffers: Vec<Buffer>,
    scratch: Vec<f32>,
    /// Scratch that each launch asked for: kernels share what they get out among threads.
    scratch_lens: Vec<usize>,
    input_lens: Vec<Vec<usize>>,
    output_lens: Vec<Vec<usize>>,
}

/// Lengths of a program's own buffers; those of states are in the store.
fn own_lens(program: &Program) -> impl Iterator<Item = usize> {
    program.buffers.iter().map(|b| if matches!(b.role, Role::State(_)) { 0 } else { b.len })
}

/// Scratch that each launch asks for.
fn scratch_lens(program: &Program) -> Vec<usize> {
    let threads = rayon::current_num_threads();
    program.launches.iter().map(|l| l.kernel.cpu_scratch_len(threads)).collect()
}

impl CpuExecutable {
    /// Bytes that [`CpuExecutable::new`] takes on as many threads as there are now: buffers and scratch.
    pub fn bytes_for(program: &Program) -> u64 {
        let scratch = scratch_lens(program).into_iter().max().unwrap_or(0);
        Buffer::bytes_for(own_lens(program)) + 4 * scratch as u64
    }

    /// Allocates everything a replay needs.
    pub fn new(program: Arc<Program>, store: &CpuStore) -> Self {
        let buffers = own_lens(&program).map(Buffer::new).collect();
        let scratch_lens = scratch_lens(&program);
        Self {
            store: store.clone(),
            buffers,
            scratch: vec![0.0; scratch_lens.iter().copied().max().unwrap_or(0)],
            scratch_lens,
            input_lens: program.launches.iter().map(|l| l.kernel.input_lens()).collect(),
            output_lens: program.launches.iter().map(|l| l.kernel.output_lens()).collect(),
            program,
        }
    }

    /// Writes a buffer; the caller has checked index and length.
    pub(super) fn write(&mut self, buffer: usize, values: &[f32]) {
        self.buffers[buffer][..values.len()].copy_from_slice(values);
    }

    /// A buffer's contents.
    pub(super) fn read(&self, buffer: usize) -> &[f32] {
        &self.buffers[buffer]
    }

    /// Bytes held, outside a replay: buffers and scratch, without the states.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(Buffer::bytes).sum::<u64>() + 4 * self.scratch.capacity() as u64
    }

    /// Replays the program; `after` sees the outputs of each launch and may stop the replay by returning false,
    /// `elsewhere` may run a launch on another device.
    pub(super) fn replay(
        &mut self,
        mut elsewhere: Option<Elsewhere<'_>>,
        mut after: Option<After<'_>>,
    ) -> Result<(), DeviceError> {
        let mut states = self.store.lock();
        for (buffer, info) in self.program.buffers.iter().enumerate() {
            if let Role::State(id) = info.role {
                std::mem::swap(&mut self.buffers[buffer], &mut states[id.0]);
            }
        }
        let mut result = Ok(());
        for (index, launch) in self.program.launches.iter().enumerate() {
            // Outputs leave the table while they are written: no allocation, no aliasing.
            let mut taken: [Buffer; 8] = Default::default();
            for (slot, &buffer) in taken.iter_mut().zip(&launch.outputs) {
                *slot = std::mem::take(&mut self.buffers[buffer]);
            }
            {
                let empty: &[f32] = &[];
                let mut inputs = [empty; 8];
                for ((slot, &buffer), &len) in
                    inputs.iter_mut().zip(&launch.inputs).zip(&self.input_lens[index])
                {
                    *slot = &self.buffers[buffer][..len];
                }
                let inputs = &inputs[..launch.inputs.len()];
                let mut outputs: [&mut [f32]; 8] = Default::default();
                let lens = &self.output_lens[index];
                for ((slot, vector), &len) in outputs.iter_mut().zip(taken.iter_mut()).zip(lens) {
                    *slot = &mut vector[..len];
                }
                let outputs = &mut outputs[..launch.outputs.len()];
                match elsewhere.as_mut().and_then(|run| run(index, inputs, outputs)) {
                    Some(outcome) => result = outcome,
                    None => {
                        launch.kernel.cpu(inputs, outputs, &mut self.scratch[..self.scratch_lens[index]]);
                    }
                }
                if let Some(after) = &mut after {
                    let views: Vec<&[f32]> = outputs.iter().map(|o| &**o).collect();
                    if !after(index, inputs, &views) {
                        result = result.and(Err(DeviceError::Stopped));
                    }
                }
            }
            for (slot, &buffer) in taken.iter_mut().zip(&launch.outputs) {
                self.buffers[buffer] = std::mem::take(slot);
            }
            if result.is_err() {
                break;
            }
        }
        for (buffer, info) in self.program.buffers.iter().enumerate() {
            if let Role::State(id) = info.role {
                std::mem::swap(&mut self.buffers[buffer], &mut states[id.0]);
            }
        }
        result
    }
}
