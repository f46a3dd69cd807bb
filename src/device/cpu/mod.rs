//! The native device: replays a program through the kernels' CPU twins on a pool of threads.

mod peaks;
mod timed;

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::backend::{Backend, Loaded, Pending, Stored, done};
use super::check::MAX_OPERANDS;
use super::list::Entry;
use super::{Clock, Device, DeviceError, Replay, Store, machine};
use crate::program::{Launch, Program, Role};
use crate::tape::StateId;
use ganomede_kernels::Precision;

/// The line in the list of devices.
pub(super) const ENTRY: Entry = Entry { name: "cpu", open: |_, _| Ok(Device::Cpu) };

/// What the twins are not able to do.
pub(super) const NO_F16: &str = "multiply in f16; use bf16 or f32, or --device gpu";

/// Native code on the current rayon pool.
pub(super) struct Cpu;

impl Backend for Cpu {
    fn describe(&self) -> String {
        format!("cpu ({} threads)", rayon::current_num_threads())
    }

    fn store(&self, lens: &[usize]) -> Result<Arc<dyn Stored>, DeviceError> {
        Ok(Arc::new(CpuStore::new(lens)?))
    }

    fn store_bytes(&self, lens: &[usize]) -> u64 {
        Buffer::bytes_for(lens.iter().copied())
    }

    fn program_bytes(&self, program: &Program) -> Result<u64, DeviceError> {
        Ok(CpuExecutable::bytes_for(program))
    }

    fn load<'v>(
        &self,
        program: &Arc<Program>,
        store: &Store,
        _variant: &dyn Fn(usize, &Launch) -> Option<&'v str>,
    ) -> Result<Box<dyn Loaded>, DeviceError> {
        if program.launches.iter().any(|launch| launch.kernel.family().precision() == Precision::F16) {
            return Err(DeviceError::Unsupported { what: NO_F16 });
        }
        Ok(Box::new(CpuExecutable::new(program, store)?))
    }

    fn held_bytes(&self) -> Option<u64> {
        machine::resident_anonymous()
    }

    fn rates(&self) -> Result<[f64; 2], DeviceError> {
        Ok([peaks::flops()?, peaks::bytes()?])
    }
}

/// Floating-point operations a second of products in bfloat16.
pub(super) fn bf16_flops() -> Result<f64, DeviceError> {
    peaks::bf16_flops()
}

/// Refuses what the machine's memory cannot hold: the system would end the process rather than fail the
/// allocation.
fn host_has(needed: u64) -> Result<(), DeviceError> {
    match machine::available_memory() {
        Some(available) if needed > available => Err(DeviceError::Memory { needed, available }),
        _ => Ok(()),
    }
}

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

/// States with the number of times that each was written.
struct Values {
    buffers: Vec<Buffer>,
    versions: Vec<u64>,
}

/// State tensors of one model on the CPU, shared by its programs.
#[derive(Clone)]
struct CpuStore(Arc<Mutex<Values>>);

impl CpuStore {
    fn new(lens: &[usize]) -> Result<Self, DeviceError> {
        host_has(Buffer::bytes_for(lens.iter().copied()))?;
        let buffers = lens.iter().map(|&len| Buffer::new(len)).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Mutex::new(Values { buffers, versions: vec![0; lens.len()] }))))
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        // A panic while the lock was held leaves plain numbers behind; they are as good as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stored for CpuStore {
    fn count(&self) -> usize {
        self.lock().buffers.len()
    }

    fn len(&self, id: StateId) -> usize {
        self.lock().buffers[id.0].len()
    }

    fn bytes(&self) -> u64 {
        self.lock().buffers.iter().map(Buffer::bytes).sum()
    }

    fn read(&self, id: StateId) -> Pending<'_, Vec<f32>> {
        done(Ok(self.lock().buffers[id.0].to_vec()))
    }

    fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        let mut states = self.lock();
        states.versions[id.0] += 1;
        states.buffers[id.0].copy_from_slice(values);
        Ok(())
    }
}

/// Runs one launch in place of the CPU twin: kernel inputs, outputs' old values → outputs.
pub(super) type Elsewhere<'a> =
    &'a mut dyn FnMut(usize, &[&[f32]], &mut [&mut [f32]]) -> Option<Result<(), DeviceError>>;

/// Sees index, inputs and outputs of each launch that has run; false ends the replay.
pub(super) type After<'a> = &'a mut dyn FnMut(usize, &[&[f32]], &[&[f32]]) -> bool;

/// A program with its buffers.
pub(super) struct CpuExecutable {
    pub(super) program: Arc<Program>,
    store: CpuStore,
    /// One for each buffer; those of states are empty here and lent by the store during a replay.
    buffers: Vec<Buffer>,
    scratch: Vec<f32>,
    /// Scratch that each launch asked for: kernels share what they get out among threads.
    scratch_lens: Vec<usize>,
    input_lens: Vec<Vec<usize>>,
    output_lens: Vec<Vec<usize>>,
    /// Weights in the form in which launches multiply by them, made again where the state was written since.
    kept: Vec<Kept>,
    /// Which of them is a launch's.
    kept_of: Vec<Option<usize>>,
    /// States that the program writes.
    writes: Vec<StateId>,
}

/// A state in the form that a kernel keeps.
struct Kept {
    state: StateId,
    /// The version of the state that it was made of; none before the first.
    version: Option<u64>,
    values: Buffer,
}

/// States that a program writes.
fn writes(program: &Program) -> Vec<StateId> {
    let written = program.launches.iter().flat_map(|launch| &launch.outputs);
    let mut states: Vec<_> = written.filter_map(|&buffer| state(program, buffer)).collect();
    states.sort_unstable();
    states.dedup();
    states
}

fn state(program: &Program, buffer: usize) -> Option<StateId> {
    match program.buffers[buffer].role {
        Role::State(id) => Some(id),
        _ => None,
    }
}

/// For each launch the state whose kept form it multiplies by, where it does and that pays. A program that
/// writes weights that it multiplies by is a training: they are other ones each time.
fn keeps(program: &Program) -> Vec<Option<StateId>> {
    let weights = |launch: &Launch| {
        let state = state(program, *launch.inputs.get(1)?)?;
        (launch.kernel.cpu_weights_len() > 0).then_some(state)
    };
    let (found, writes): (Vec<_>, _) = (program.launches.iter().map(weights).collect(), writes(program));
    match found.iter().flatten().any(|state| writes.contains(state)) {
        true => vec![None; found.len()],
        false => found,
    }
}

/// The first launches that keep a form, with its state; launches of equal kernels keep one together.
fn forms(program: &Program) -> Vec<(usize, StateId)> {
    let mut forms: Vec<(usize, StateId)> = vec![];
    for (i, state) in keeps(program).into_iter().enumerate() {
        if let Some(state) = state
            && !forms.iter().any(|&form| is_same_form(program, form, (i, state)))
        {
            forms.push((i, state));
        }
    }
    forms
}

fn kept_len(program: &Program, launch: usize) -> usize {
    program.launches[launch].kernel.cpu_weights_len()
}

fn is_same_form(program: &Program, a: (usize, StateId), b: (usize, StateId)) -> bool {
    a.1 == b.1 && program.launches[a.0].kernel == program.launches[b.0].kernel
}

/// Lengths of a program's own buffers; those of states are in the store.
fn own_lens(program: &Program) -> impl Iterator<Item = usize> {
    program.buffers.iter().map(|b| if matches!(b.role, Role::State(_)) { 0 } else { b.len })
}

/// Scratch that each launch asks for.
fn scratch_lens(program: &Program) -> Vec<usize> {
    let threads = rayon::current_num_threads();
    let lens = program.launches.iter().zip(keeps(program)).map(|(launch, kept)| match kept {
        Some(_) => launch.kernel.cpu_kept_scratch_len(threads),
        None => launch.kernel.cpu_scratch_len(threads),
    });
    lens.collect()
}

/// Stands between replay `i` and the one before: where a process that is asked to stop stops. A single replay
/// is a step of a training and always done whole.
pub(super) fn between(i: usize) -> Result<(), DeviceError> {
    if i > 0 { Ok(ganomede_host::interrupt::check()?) } else { Ok(()) }
}

impl Loaded for CpuExecutable {
    fn bytes(&self) -> u64 {
        let kept = self.kept.iter().map(|kept| &kept.values);
        self.buffers.iter().chain(kept).map(Buffer::bytes).sum::<u64>() + 4 * self.scratch.capacity() as u64
    }

    fn write(&mut self, buffer: usize, values: &[f32]) -> Result<(), DeviceError> {
        self.buffers[buffer].copy_from_slice(values);
        Ok(())
    }

    fn read(&self, buffer: usize) -> Pending<'_, Vec<f32>> {
        done(Ok(self.buffers[buffer].to_vec()))
    }

    fn read_to(&self, buffer: usize, values: &mut Vec<f32>) -> Result<(), DeviceError> {
        values.extend_from_slice(&self.buffers[buffer]);
        Ok(())
    }

    fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        // On a thread of the pool, so that a launch begins at once and only its helpers have to be woken.
        rayon::scope(|_| (0..times).try_for_each(|i| between(i).and_then(|()| self.replay(None, None))))
    }

    fn replay_timed(&mut self, _clock: &mut Clock) -> Result<Replay, DeviceError> {
        timed::replay(self)
    }

    fn find_non_finite(&mut self) -> Result<Option<usize>, DeviceError> {
        let finite = |tensors: &[&[f32]]| tensors.iter().all(|t| t.iter().all(|v| v.is_finite()));
        let mut found = None;
        let mut check = |index: usize, _inputs: &[&[f32]], outputs: &[&[f32]]| {
            // Random words travel as f32 bit patterns through inputs, so only outputs are judged.
            if !finite(outputs) {
                found = Some(index);
            }
            found.is_none()
        };
        match self.replay(None, Some(&mut check)) {
            Ok(()) | Err(DeviceError::Stopped) => Ok(found),
            Err(error) => Err(error),
        }
    }
}

impl CpuExecutable {
    /// Bytes that [`CpuExecutable::new`] takes on as many threads as there are now: buffers, kept weights and
    /// scratch.
    fn bytes_for(program: &Program) -> u64 {
        let scratch = scratch_lens(program).into_iter().max().unwrap_or(0);
        let kept = forms(program).into_iter().map(|(launch, _)| kept_len(program, launch));
        Buffer::bytes_for(own_lens(program).chain(kept)).saturating_add(bytes(scratch))
    }

    /// Checks the program against the store and the machine's memory, then allocates all that a replay needs.
    pub(super) fn new(program: &Arc<Program>, store: &Store) -> Result<Self, DeviceError> {
        let store: &CpuStore = store.own(program)?;
        host_has(Self::bytes_for(program))?;
        let buffers = own_lens(program).map(Buffer::new).collect::<Result<_, _>>()?;
        let scratch_lens = scratch_lens(program);
        let forms = forms(program);
        let form_of = |(launch, state): (usize, Option<StateId>)| {
            let state = state?;
            forms.iter().position(|&form| is_same_form(program, form, (launch, state)))
        };
        let kept_of = keeps(program).into_iter().enumerate().map(form_of).collect();
        let keep = |&(launch, state): &(usize, StateId)| {
            Ok(Kept { state, version: None, values: Buffer::new(kept_len(program, launch))? })
        };
        Ok(Self {
            kept: forms.iter().map(keep).collect::<Result<_, DeviceError>>()?,
            kept_of,
            writes: writes(program),
            store: store.clone(),
            buffers,
            scratch: zeros(scratch_lens.iter().copied().max().unwrap_or(0))?,
            scratch_lens,
            input_lens: program.launches.iter().map(|l| l.kernel.input_lens()).collect(),
            output_lens: program.launches.iter().map(|l| l.kernel.output_lens()).collect(),
            program: Arc::clone(program),
        })
    }

    /// Replays the program; `after` sees the outputs of each launch and may stop the replay by returning
    /// false, `elsewhere` may run a launch on another device.
    pub(super) fn replay(
        &mut self,
        mut elsewhere: Option<Elsewhere<'_>>,
        mut after: Option<After<'_>>,
    ) -> Result<(), DeviceError> {
        let mut lent = Lent::new(&self.program, &mut self.buffers, &self.store, &self.writes);
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
            let scratch = &mut self.scratch[..self.scratch_lens[index]];
            match elsewhere.as_mut().and_then(|run| run(index, inputs, outputs)) {
                Some(outcome) => outcome?,
                None => match self.kept_of[index].map(|form| &mut self.kept[form]) {
                    Some(kept) => {
                        let version = Some(lent.states.versions[kept.state.0]);
                        if kept.version != version {
                            launch.kernel.cpu_weights(inputs[1], &mut kept.values);
                            kept.version = version;
                        }
                        launch.kernel.cpu_kept(inputs, &kept.values, outputs, scratch);
                    }
                    None => launch.kernel.cpu(inputs, outputs, scratch),
                },
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

/// The buffers of a replay. States are lent by the store, and the outputs of the launch that runs leave the
/// table, so that they are written without allocation or aliasing. All go back when this is dropped, by an
/// error or a panic too.
struct Lent<'a> {
    program: &'a Program,
    buffers: &'a mut [Buffer],
    states: MutexGuard<'a, Values>,
    /// Outputs of the launch that runs, and which buffers they are.
    taken: [Buffer; MAX_OPERANDS],
    places: &'a [usize],
}

impl<'a> Lent<'a> {
    /// `writes` are the states that the program writes.
    fn new(program: &'a Program, buffers: &'a mut [Buffer], store: &'a CpuStore, writes: &[StateId]) -> Self {
        let mut lent =
            Self { program, buffers, states: store.lock(), taken: Default::default(), places: &[] };
        writes.iter().for_each(|id| lent.states.versions[id.0] += 1);
        lent.swap();
        lent
    }

    /// Exchanges the store's states and the empty buffers that stand for them.
    fn swap(&mut self) {
        for (buffer, info) in self.program.buffers.iter().enumerate() {
            if let Role::State(id) = info.role {
                std::mem::swap(&mut self.buffers[buffer], &mut self.states.buffers[id.0]);
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
