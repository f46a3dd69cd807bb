//! The state that everything on one device shares: handles, faults, submissions in flight, memory
//! accounting.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::super::DeviceError;
use super::GpuOptions;
use super::pace::{MAX_IN_FLIGHT, Pace};
use super::pipelines::Pipelines;

/// Locks `mutex`, also after another thread panicked while holding it: every value here is whole between
/// statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What wgpu reports from its callbacks.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) lost: Mutex<Option<String>>,
    pub(super) uncaptured: Mutex<Option<String>>,
}

/// A submission whose end has not been seen.
#[derive(Debug)]
struct InFlight {
    index: wgpu::SubmissionIndex,
    launches: String,
    submitted: Instant,
    estimated: f64,
}

#[derive(Debug)]
struct Flight {
    submissions: VecDeque<InFlight>,
    /// When the last end was seen, and whether somebody was looking when it happened.
    last_end: Instant,
    last_end_exact: bool,
    pace: Pace,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: wgpu::AdapterInfo,
    pub(super) limits: wgpu::Limits,
    pub(super) options: GpuOptions,
    pub(super) pipelines: Pipelines,
    /// Staging buffer kept for read-backs.
    pub(super) readback: Mutex<Option<wgpu::Buffer>>,
    faults: Arc<Faults>,
    flight: Mutex<Flight>,
    dead: Mutex<Option<DeviceError>>,
    memory_limit: u64,
    allocated: AtomicU64,
    /// Bytes uploaded since the last submission.
    pub(super) unflushed: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        info: wgpu::AdapterInfo,
        software: bool,
        options: GpuOptions,
        faults: Arc<Faults>,
    ) -> Self {
        let memory_limit = options.memory_limit.unwrap_or_else(|| default_memory_limit(software));
        let pace = Pace::new(info.device_type, software);
        Self {
            limits: device.limits(),
            device,
            queue,
            info,
            options,
            pipelines: Pipelines::default(),
            readback: Mutex::default(),
            faults,
            flight: Mutex::new(Flight {
                submissions: VecDeque::new(),
                last_end: Instant::now(),
                last_end_exact: true,
                pace,
            }),
            dead: Mutex::default(),
            memory_limit,
            allocated: AtomicU64::new(0),
            unflushed: AtomicU64::new(0),
        }
    }

    /// Runs `work` and turns what wgpu objects to into an error that names `what`. Error scopes belong to the
    /// thread, so `work` must stay on it.
    pub(super) fn scoped<T>(
        &self,
        what: impl Fn() -> String,
        bytes: u64,
        work: impl FnOnce() -> T,
    ) -> Result<T, DeviceError> {
        self.alive(&what)?;
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let value = work();
        // Native scopes are resolved when popped; block_on never waits here.
        let errors = [validation, internal, memory].map(|scope| pollster::block_on(scope.pop()));
        let error = errors.into_iter().flatten().next();
        if error.is_some() {
            // What fails on a lost device fails validation, and only polling tells that the device is lost.
            // The result is of no interest, and wgpu panics in poll where the driver reports the loss.
            drop(catch_unwind(AssertUnwindSafe(|| self.device.poll(wgpu::PollType::Poll))));
        }
        self.alive(&what)?;
        match error {
            None => Ok(value),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(DeviceError::OutOfMemory { what: what(), bytes }),
            Some(wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. }) => {
                Err(DeviceError::Validation { launch: what(), message: one_line(&description) })
            }
        }
    }

    /// The error that ended this device, if one did.
    fn alive(&self, what: &impl Fn() -> String) -> Result<(), DeviceError> {
        if let Some(error) = &*lock(&self.dead) {
            return Err(error.clone());
        }
        if let Some(reason) = lock(&self.faults.lost).clone() {
            return Err(self.give_up(DeviceError::Lost { launches: what(), reason }));
        }
        if let Some(message) = lock(&self.faults.uncaptured).take() {
            return Err(DeviceError::Validation { launch: what(), message: one_line(&message) });
        }
        Ok(())
    }

    /// Ends the use of this device: every later call returns `error`.
    fn give_up(&self, error: DeviceError) -> DeviceError {
        let mut dead = lock(&self.dead);
        if dead.is_none() {
            *dead = Some(error.clone());
            // Dropping the last handle waits without limit for work that may never end, so one is leaked.
            std::mem::forget((self.device.clone(), self.queue.clone()));
        }
        error
    }

    /// Uncorrected seconds that one submission may be estimated at.
    pub(super) fn allowance(&self) -> f64 {
        lock(&self.flight).pace.allowance(self.options.submission_budget)
    }

    pub(super) fn estimate(&self, cost: ganomede_kernels::Cost, dispatches: usize) -> f64 {
        lock(&self.flight).pace.estimate(cost, dispatches)
    }

    /// Encodes and submits; waits for older submissions where too many are in flight.
    pub(super) fn submit(
        &self,
        launches: impl Fn() -> String,
        estimated: f64,
        encode: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<(), DeviceError> {
        self.make_room()?;
        let index = self.scoped(&launches, 0, || {
            let mut encoder =
                self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
            encode(&mut encoder);
            self.queue.submit([encoder.finish()])
        })?;
        self.unflushed.store(0, Ordering::Relaxed);
        let submission = InFlight { index, launches: launches(), submitted: Instant::now(), estimated };
        lock(&self.flight).submissions.push_back(submission);
        Ok(())
    }

    /// Waits until another submission may be in flight.
    pub(super) fn make_room(&self) -> Result<(), DeviceError> {
        self.wait_until(MAX_IN_FLIGHT - 1)
    }

    /// Waits for everything submitted.
    pub(super) fn wait(&self) -> Result<(), DeviceError> {
        self.wait_until(0)
    }

    fn wait_until(&self, in_flight: usize) -> Result<(), DeviceError> {
        let mut flight = lock(&self.flight);
        while flight.submissions.len() > in_flight {
            let Some(oldest) = flight.submissions.pop_front() else { break };
            let looked = Instant::now();
            self.poll_to(&oldest.index, &oldest.launches)?;
            let now = Instant::now();
            // Work starts when it is submitted or when its predecessor ends, and its end is seen when
            // somebody looks.
            let blocked = now - looked > std::time::Duration::from_micros(200);
            let started = oldest.submitted.max(flight.last_end);
            if oldest.submitted >= flight.last_end || flight.last_end_exact {
                flight.pace.observe(oldest.estimated, now.saturating_duration_since(started), blocked);
            }
            flight.last_end = now;
            flight.last_end_exact = blocked;
        }
        drop(flight);
        self.alive(&|| "a finished submission".to_owned())
    }

    /// Waits for one submission, at most the time-out long.
    fn poll_to(&self, index: &wgpu::SubmissionIndex, launches: &str) -> Result<(), DeviceError> {
        let timeout = self.options.timeout;
        let wait = wgpu::PollType::Wait { submission_index: Some(index.clone()), timeout: Some(timeout) };
        // wgpu panics in poll where the driver reports the device lost.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(wait)));
        let lost = lock(&self.faults.lost).clone();
        let error = match (polled, lost) {
            (_, Some(reason)) => DeviceError::Lost { launches: launches.to_owned(), reason },
            (Ok(Ok(_)), None) => return Ok(()),
            (Ok(Err(wgpu::PollError::Timeout)), None) => {
                DeviceError::Timeout { launches: launches.to_owned(), seconds: timeout.as_secs_f64() }
            }
            (Ok(Err(other)), None) => {
                DeviceError::Lost { launches: launches.to_owned(), reason: other.to_string() }
            }
            (Err(_), None) => {
                let reason = "the driver reported a failure while waiting".to_owned();
                DeviceError::Lost { launches: launches.to_owned(), reason }
            }
        };
        Err(self.give_up(error))
    }

    /// Counts `bytes` about to be allocated against the memory limit.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, DeviceError> {
        let fits = |before: u64| before.checked_add(bytes).filter(|&after| after <= self.memory_limit);
        match self.allocated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Reservation { shared: Arc::clone(self), bytes }),
            Err(before) => {
                let available = self.memory_limit.saturating_sub(before);
                Err(DeviceError::Memory { needed: bytes, available })
            }
        }
    }

    /// Bytes of all stores and executables now alive on this device.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Bytes of a buffer of `len` elements, refused where the adapter has no buffer that large.
    pub(super) fn buffer_bytes(&self, len: usize, name: impl Fn() -> String) -> Result<u64, DeviceError> {
        let (bytes, limit) = (binding_bytes(len), self.limits.max_buffer_size);
        if bytes > limit {
            return Err(DeviceError::BufferTooLarge { launch: name(), bytes, limit, what: "one buffer" });
        }
        Ok(bytes)
    }

    /// Creates a storage buffer of `len` elements, all zero; `name` is for errors.
    pub(super) fn storage(&self, len: usize, name: &str) -> Result<wgpu::Buffer, DeviceError> {
        let size = self.buffer_bytes(len, || name.to_owned())?;
        use wgpu::BufferUsages as Usage;
        self.scoped(
            || name.to_owned(),
            size,
            || {
                self.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(name),
                    size,
                    usage: Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST,
                    mapped_at_creation: false,
                })
            },
        )
    }
}

/// Memory counted as used until dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.allocated.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes of a binding of `len` elements: whole `vec4f`s, so that `array<vec4f>` sees the last elements, and
/// never none.
pub(super) fn binding_bytes(len: usize) -> u64 {
    (len as u64).saturating_mul(4).max(1).checked_next_multiple_of(16).unwrap_or(u64::MAX)
}

/// A software adapter allocates from the machine's memory, lazily, and would be killed rather than refused; a
/// driver of hardware knows its own limit.
fn default_memory_limit(software: bool) -> u64 {
    let available = || super::super::machine::available_memory().map(|bytes| bytes / 10 * 9);
    if software { available().unwrap_or(u64::MAX) } else { u64::MAX }
}

/// wgpu's messages are trees of indented lines.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "Caused by:");
    lines.collect::<Vec<_>>().join("; ")
}
