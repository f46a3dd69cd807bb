//! A loaded program: buffers, parameters, pipelines and bind groups, all made once; replaying only encodes.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganomede_kernels::{Dispatch, GpuPlan};

use super::super::DeviceError;
use super::super::check::{self, buffer_name};
use super::arena::Arena;
use super::pace::MAX_DISPATCHES;
use super::plan::{Place, PlannedLaunch};
use super::profile::Timestamps;
use super::shared::{Reservation, Shared, binding_bytes};
use super::store::GpuStore;
use crate::program::{Buffer, Role};

/// A dispatch with its pipeline and bind group.
#[derive(Debug)]
struct Step {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

/// The dispatches of one launch.
#[derive(Debug)]
struct LoadedLaunch {
    label: String,
    variant: &'static str,
    steps: Vec<Step>,
    inputs: Vec<(usize, usize)>,
    outputs: Vec<(usize, usize)>,
    /// Uncorrected estimate.
    seconds: f64,
}

/// A program ready to be replayed on a [`super::Gpu`].
#[derive(Debug)]
pub struct GpuExecutable {
    shared: Arc<Shared>,
    roles: Vec<Buffer>,
    buffers: Vec<wgpu::Buffer>,
    scratch: Vec<(wgpu::Buffer, usize)>,
    params: Option<wgpu::Buffer>,
    launches: Vec<LoadedLaunch>,
    /// Given back when dropped.
    _reservation: Reservation,
    compilation: Duration,
}

impl GpuExecutable {
    /// Bytes that [`GpuExecutable::new`] takes: buffers, scratch and parameters.
    pub(super) fn bytes_for(
        shared: &Shared,
        buffers: &[Buffer],
        launches: &[PlannedLaunch],
    ) -> Result<u64, DeviceError> {
        let dispatches: Vec<&Dispatch> = launches.iter().flat_map(|launch| &launch.plan.dispatches).collect();
        let arena = Arena::new(&dispatches, shared.limits.min_uniform_buffer_offset_alignment);
        let mut bytes = arena.len();
        for len in scratch_lens(launches) {
            bytes = bytes.saturating_add(shared.buffer_bytes(len, || "scratch".to_owned())?);
        }
        for (i, buffer) in buffers.iter().enumerate() {
            if !matches!(buffer.role, Role::State(_)) {
                bytes = bytes.saturating_add(shared.buffer_bytes(buffer.len, || buffer_name(i, buffer))?);
            }
        }
        Ok(bytes)
    }

    /// Checks everything, then allocates and compiles.
    pub(super) fn new(
        shared: &Arc<Shared>,
        buffers: &[Buffer],
        launches: Vec<PlannedLaunch>,
        store: &GpuStore,
        trusted: bool,
    ) -> Result<Self, DeviceError> {
        launches.iter().try_for_each(|launch| launch.check(buffers, shared))?;
        if !store.is_on(shared) {
            return Err(DeviceError::UnknownName {
                name: "the store".to_owned(),
                known: "stores on this device".to_owned(),
            });
        }
        check::states(buffers, store)?;
        let reservation = shared.reserve(Self::bytes_for(shared, buffers, &launches)?)?;
        let dispatches: Vec<&Dispatch> = launches.iter().flat_map(|launch| &launch.plan.dispatches).collect();
        let arena = Arena::new(&dispatches, shared.limits.min_uniform_buffer_offset_alignment);
        let scratch_lens = scratch_lens(&launches);

        let started = Instant::now();
        let pipelines = shared.pipelines.prepare(shared, &dispatches, trusted)?;
        let compilation = started.elapsed();
        let device_buffers = buffers
            .iter()
            .enumerate()
            .map(|(i, buffer)| match buffer.role {
                Role::State(id) => Ok(store.buffer(id)?.0.clone()),
                _ => shared.storage(buffer.len, &buffer_name(i, buffer)),
            })
            .collect::<Result<Vec<_>, DeviceError>>()?;
        let scratch = scratch_lens
            .into_iter()
            .map(|len| Ok((shared.storage(len, "scratch")?, len)))
            .collect::<Result<Vec<_>, DeviceError>>()?;
        let params = arena.upload(shared)?;

        let mut next = 0;
        let mut loaded = Vec::with_capacity(launches.len());
        for launch in launches {
            let seconds = shared.estimate(launch.cost, launch.plan.dispatches.len());
            let mut steps = Vec::with_capacity(launch.plan.dispatches.len());
            for dispatch in &launch.plan.dispatches {
                let pipeline = &pipelines[next];
                let uniform = params.as_ref().filter(|_| !dispatch.params.is_empty()).map(|buffer| {
                    let size = wgpu::BufferSize::new(4 * dispatch.params.len() as u64);
                    (0, wgpu::BufferBinding { buffer, offset: arena.offsets[next], size })
                });
                let storage = (1..).zip(&dispatch.bindings).filter_map(|(binding, bind)| {
                    let (place, len) = launch.operand(bind.slot)?;
                    let buffer = match place {
                        Place::Buffer(b) => &device_buffers[b],
                        Place::Scratch(i) => &scratch[i].0,
                    };
                    let size = wgpu::BufferSize::new(binding_bytes(len));
                    Some((binding, wgpu::BufferBinding { buffer, offset: 0, size }))
                });
                let entries: Vec<wgpu::BindGroupEntry<'_>> = uniform
                    .into_iter()
                    .chain(storage)
                    .map(|(binding, buffer)| wgpu::BindGroupEntry {
                        binding,
                        resource: wgpu::BindingResource::Buffer(buffer),
                    })
                    .collect();
                let descriptor = wgpu::BindGroupDescriptor {
                    label: Some(&launch.label),
                    layout: &pipeline.layout,
                    entries: &entries,
                };
                let bind_group = shared.scoped(
                    || launch.label.clone(),
                    0,
                    || shared.device.create_bind_group(&descriptor),
                )?;
                let workgroups = dispatch.workgroups;
                steps.push(Step { pipeline: pipeline.compute.clone(), bind_group, workgroups });
                next += 1;
            }
            let PlannedLaunch { label, inputs, outputs, plan, .. } = launch;
            loaded.push(LoadedLaunch { label, variant: plan.variant, steps, inputs, outputs, seconds });
        }
        Ok(Self {
            shared: Arc::clone(shared),
            roles: buffers.to_vec(),
            buffers: device_buffers,
            scratch,
            params,
            launches: loaded,
            _reservation: reservation,
            compilation,
        })
    }

    /// Bytes of its own buffers, scratch and parameters; the states are the store's.
    pub fn bytes(&self) -> u64 {
        let own = self.buffers.iter().zip(&self.roles).filter(|(_, b)| !matches!(b.role, Role::State(_)));
        own.map(|(buffer, _)| buffer)
            .chain(self.scratch.iter().map(|(buffer, _)| buffer))
            .chain(&self.params)
            .map(wgpu::Buffer::size)
            .sum()
    }

    fn buffer(&self, buffer: usize) -> Result<(&wgpu::Buffer, usize, String), DeviceError> {
        match (self.buffers.get(buffer), self.roles.get(buffer)) {
            (Some(handle), Some(role)) => Ok((handle, role.len, buffer_name(buffer, role))),
            _ => Err(DeviceError::UnknownName {
                name: format!("buffer {buffer}"),
                known: format!("{} buffers", self.buffers.len()),
            }),
        }
    }

    /// Overwrites the whole of a program buffer; replays submitted later see the new values.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], [`DeviceError::WrongLength`], or a device fault.
    pub fn write(&mut self, buffer: usize, values: &[f32]) -> Result<(), DeviceError> {
        let (handle, len, name) = self.buffer(buffer)?;
        if values.len() != len {
            return Err(DeviceError::WrongLength { name, expected: len, got: values.len() });
        }
        self.shared.upload(handle, values, &name)
    }

    /// Reads the whole of a program buffer, after everything submitted.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`] or a device fault.
    pub fn read(&self, buffer: usize) -> Result<Vec<f32>, DeviceError> {
        let (handle, len, name) = self.buffer(buffer)?;
        self.shared.download(handle, len, &name)
    }

    /// Replays the program `times` times and waits for the end.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`], [`DeviceError::Lost`] and other device faults, naming the launches at hand.
    pub fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        self.submit(times)?;
        self.wait()
    }

    /// Like [`GpuExecutable::run`], returning while the last submissions still run; their errors come out of
    /// the next call that waits.
    ///
    /// # Errors
    /// As for [`GpuExecutable::run`].
    pub fn submit(&mut self, times: usize) -> Result<(), DeviceError> {
        let total = times.saturating_mul(self.launches.len());
        let mut start = 0;
        while start < total {
            let end = self.cut(start, total);
            self.submit_range(start..end, None)?;
            start = end;
            // A single replay is a step of a training and always done whole.
            if times > 1 && start < total {
                ganomede_host::interrupt::check()?;
            }
        }
        Ok(())
    }

    /// Submissions that `times` replays would take now: at most 4096 dispatches each, and at most
    /// [`super::GpuOptions::submission_budget`] by the estimate of their time.
    pub fn submissions(&self, times: usize) -> usize {
        let total = times.saturating_mul(self.launches.len());
        let mut start = 0;
        std::iter::from_fn(|| {
            (start < total).then(|| {
                start = self.cut(start, total);
            })
        })
        .count()
    }

    /// End of the submission that begins with launch `start`, at most `total`; launches are numbered through
    /// all replays, `i` being launch `i % launches`.
    pub(super) fn cut(&self, start: usize, total: usize) -> usize {
        let allowance = self.shared.allowance();
        let (mut seconds, mut dispatches) = (0.0, 0);
        for i in start..total {
            let launch = &self.launches[i % self.launches.len()];
            seconds += launch.seconds;
            dispatches += launch.steps.len();
            if i > start && (seconds > allowance || dispatches > MAX_DISPATCHES) {
                return i;
            }
        }
        total
    }

    /// Uncorrected estimate of a range of launches.
    fn seconds(&self, range: Range<usize>) -> f64 {
        range.map(|i| self.launches[i % self.launches.len()].seconds).sum()
    }

    /// Waits for everything submitted to the device.
    ///
    /// # Errors
    /// As for [`GpuExecutable::run`].
    pub fn wait(&self) -> Result<(), DeviceError> {
        self.shared.wait()
    }

    /// Replays once, launch by launch, and returns the first launch that wrote a NaN or an infinity although
    /// every value it read was finite. Reads everything back: for diagnosis only.
    ///
    /// # Errors
    /// As for [`GpuExecutable::run`].
    pub fn run_checked(&mut self) -> Result<Option<usize>, DeviceError> {
        let finite = |values: Vec<f32>| values.iter().all(|value| value.is_finite());
        let mut state = Vec::with_capacity(self.buffers.len());
        for (i, buffer) in self.roles.iter().enumerate() {
            let given = matches!(buffer.role, Role::Input(_) | Role::State(_));
            state.push(!given || finite(self.read(i)?));
        }
        let mut culprit = None;
        for i in 0..self.launches.len() {
            self.submit_range(i..i + 1, None)?;
            let launch = &self.launches[i];
            let read_finite = launch.inputs.iter().all(|&(buffer, _)| state[buffer]);
            let mut wrote_finite = true;
            for &(buffer, len) in &launch.outputs {
                state[buffer] = finite(self.shared.download(&self.buffers[buffer], len, &launch.label)?);
                wrote_finite &= state[buffer];
            }
            if culprit.is_none() && read_finite && !wrote_finite {
                culprit = Some(i);
            }
        }
        Ok(culprit)
    }

    /// Fills scratch with NaN, so that a kernel that reads what it did not write shows.
    pub(super) fn poison_scratch(&mut self) -> Result<(), DeviceError> {
        self.scratch
            .iter()
            .try_for_each(|(buffer, len)| self.shared.upload(buffer, &vec![f32::NAN; *len], "scratch"))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Number of launches in one replay.
    pub fn launches(&self) -> usize {
        self.launches.len()
    }

    /// The variant that launch `i` runs as.
    pub fn variant(&self, i: usize) -> &'static str {
        self.launches[i].variant
    }

    /// How long compiling its pipelines took; those compiled before took none.
    pub fn compilation(&self) -> Duration {
        self.compilation
    }

    /// Records launch `i` into a pass.
    fn encode(&self, i: usize, pass: &mut wgpu::ComputePass<'_>) {
        for step in &self.launches[i].steps {
            pass.set_pipeline(&step.pipeline);
            pass.set_bind_group(0, &step.bind_group, &[]);
            let [x, y, z] = step.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
    }

    /// Submits a range of launches, numbered as in [`GpuExecutable::cut`]: in one pass, or each in a pass of
    /// its own between two timestamps.
    pub(super) fn submit_range(
        &self,
        range: Range<usize>,
        timestamps: Option<&Timestamps>,
    ) -> Result<(), DeviceError> {
        let count = self.launches.len();
        let names = || {
            let first = &self.launches[range.start % count].label;
            let last = &self.launches[(range.end - 1) % count].label;
            match range.len() {
                1 => first.clone(),
                n => format!("{n} launches, from {first} to {last}"),
            }
        };
        self.shared.submit(names, self.seconds(range.clone()), |encoder| {
            let mut descriptor = wgpu::ComputePassDescriptor::default();
            let Some(timestamps) = timestamps else {
                let mut pass = encoder.begin_compute_pass(&descriptor);
                return range.clone().for_each(|i| self.encode(i % count, &mut pass));
            };
            for i in range.clone() {
                descriptor.timestamp_writes = Some(timestamps.around(i));
                self.encode(i % count, &mut encoder.begin_compute_pass(&descriptor));
            }
        })
    }
}

/// The scratch buffers, each as long as the launch that needs most of it.
fn scratch_lens(launches: &[PlannedLaunch]) -> Vec<usize> {
    GpuPlan::common_scratch(launches.iter().map(|launch| &launch.plan))
}
