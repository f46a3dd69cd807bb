//! The native device: replays a program through the kernels' CPU twins on a pool of threads.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::check::{self, MAX_OPERANDS};
use super::{DeviceError, host_has};
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
    fn new(len: usize) -> Result<Self, DeviceError> {
        if len == 0 {
            return Ok(Self::default());
        }
        let mut values = zeros(Self::room(len))?;
        let start = values.as_ptr().align_offset(4 * Self::LINE).min(Self::LINE - 1);
        values.truncate(start + len);
        Ok(Self { values, start })
    }

    /// Numbers allocated for `len` of them.
    fn room(len: usize) -> usize {
        if len == 0 { 0 } else { len.saturating_add(Self::LINE - 1) }
    }

    /// Bytes that [`Buffer::new`] takes for each of these lengths.
    fn bytes_for(lens: impl IntoIterator<Item = usize>) -> u64 {
        lens.into_iter().fold(0, |sum: u64, len| sum.saturating_add(bytes(Self::room(len))))
    }

    /// Bytes that it holds.
    fn bytes(&self) -> u64 {
        4 * self.values.capacity() as u64
    }
}

/// Bytes of `len` numbers.
fn bytes(len: usize) -> u64 {
    (len as u64).saturating_mul(4)
}

/// `len` zeros, which the system hands out as they are touched; an error where it has not as much.
fn zeros(len: usize) -> Result<Vec<f32>, DeviceError> {
    let failed = |_| DeviceError::OutOfMemory { what: "a buffer".to_owned(), bytes: bytes(len) };
    Vec::<f32>::new().try_reserve_exact(len).map_err(failed)?;
    Ok(vec![0.0; len])
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
    ///
    /// # Errors
    /// [`DeviceError::Memory`] or [`DeviceError::OutOfMemory`].
    pub fn new(lens: &[usize]) -> Result<Self, DeviceError> {
        host_has(Self::bytes_for(lens))?;
        let buffers = lens.iter().map(|&len| Buffer::new(len)).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Mutex::new(buffers))))
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

    /// Elements of each state.
    fn lens(&self) -> Vec<usize> {
        self.lock().iter().map(|state| state.len()).collect()
    }

    /// Copies a state to the host.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`].
    pub fn read(&self, id: StateId) -> Result<Vec<f32>, DeviceError> {
        let states = self.lock();
        let state = states.get(id.0).ok_or_else(|| check::unknown_state(id.0, states.len()))?;
        Ok(state.to_vec())
    }

    /// Replaces a state.
    pub(super) fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        let mut states = self.lock();
        let known = states.len();
        let state = states.get_mut(id.0).ok_or_else(|| check::unknown_state(id.0, known))?;
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
    ///
    /// # Errors
    /// A [`DeviceError`] that names the launch which contradicts itself or the program.
    pub fn bytes_for(program: &Program) -> Result<u64, DeviceError> {
        check::program(program)?;
        let scratch = scratch_lens(program).into_iter().max().unwrap_or(0);
        Ok(Buffer::bytes_for(own_lens(program)).saturating_add(bytes(scratch)))
    }

    /// Checks the program against itself, the store and the machine's memory, then allocates all that a replay needs.
    ///
    /// # Errors
    /// A [`DeviceError`] that names the launch, state or memory at fault.
    pub fn new(program: Arc<Program>, store: &CpuStore) -> Result<Self, DeviceError> {
        let needed = Self::bytes_for(&program)?;
        check::states(&program.buffers, &store.lens())?;
        host_has(needed)?;
        let buffers = own_lens(&program).map(Buffer::new).collect::<Result<_, _>>()?;
        let scratch_lens = scratch_lens(&program);
        Ok(Self {
            store: store.clone(),
            buffers,
            scratch: zeros(scratch_lens.iter().copied().max().unwrap_or(0))?,
            scratch_lens,
            input_lens: program.launches.iter().map(|l| l.kernel.input_lens()).collect(),
            output_lens: program.launches.iter().map(|l| l.kernel.output_lens()).collect(),
            program,
        })
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
        let mut lent = Lent::new(&self.program, &mut self.buffers, &self.store);
        for (index, launch) in self.program.launches.iter().enumerate() {
            lent.take(&launch.outputs);
            let empty: &[f32] = &[];
            let mut inputs = [empty; MAX_OPERANDS];
            for ((slot, &buffer), &len) in inputs.iter_mut().zip(&launch.inputs).zip(&self.input_lens[index])
            {
                *slot = &lent.buffers[buffer][..len];
            }
            let inputs = &inputs[..launch.inputs.len()];
            let mut outputs: [&mut [f32]; MAX_OPERANDS] = Default::default();
            for ((slot, vector), &len) in
                outputs.iter_mut().zip(&mut lent.taken).zip(&self.output_lens[index])
            {
                *slot = &mut vector[..len];
            }
            let outputs = &mut outputs[..launch.outputs.len()];
            match elsewhere.as_mut().and_then(|run| run(index, inputs, outputs)) {
                Some(outcome) => outcome?,
                None => launch.kernel.cpu(inputs, outputs, &mut self.scratch[..self.scratch_lens[index]]),
            }
            if let Some(after) = &mut after {
                let views: Vec<&[f32]> = outputs.iter().map(|o| &**o).collect();
                if !after(index, inputs, &views) {
                    return Err(DeviceError::Stopped);
                }
            }
            lent.give_back();
        }
        Ok(())
    }
}

/// The buffers of a replay. States are lent by the store, and the outputs of the launch that runs leave the table, so that
/// they are written without allocation or aliasing. All go back when this is dropped, by an error or a panic too.
struct Lent<'a> {
    program: &'a Program,
    buffers: &'a mut [Buffer],
    states: MutexGuard<'a, Vec<Buffer>>,
    /// Outputs of the launch that runs, and which buffers they are.
    taken: [Buffer; MAX_OPERANDS],
    places: &'a [usize],
}

impl<'a> Lent<'a> {
    fn new(program: &'a Program, buffers: &'a mut [Buffer], store: &'a CpuStore) -> Self {
        let mut lent =
            Self { program, buffers, states: store.lock(), taken: Default::default(), places: &[] };
        lent.swap();
        lent
    }

    /// Exchanges the store's states and the empty buffers that stand for them.
    fn swap(&mut self) {
        for (buffer, info) in self.program.buffers.iter().enumerate() {
            if let Role::State(id) = info.role {
                std::mem::swap(&mut self.buffers[buffer], &mut self.states[id.0]);
            }
        }
    }

    fn take(&mut self, outputs: &'a [usize]) {
        self.places = outputs;
        for (slot, &buffer) in self.taken.iter_mut().zip(outputs) {
            *slot = std::mem::take(&mut self.buffers[buffer]);
        }
    }

    fn give_back(&mut self) {
        for (slot, &buffer) in self.taken.iter_mut().zip(self.places) {
            self.buffers[buffer] = std::mem::take(slot);
        }
        self.places = &[];
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.give_back();
        self.swap();
    }
}
