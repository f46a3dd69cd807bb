//! Programs on a device.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend::Loaded;
use super::wait::wait;
use super::{Clock, DeviceError, LoadTimes, Replay};
use crate::program::{Program, Role};

/// A launch whose output has a value that is not finite although its inputs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonFinite {
    /// Index of the launch.
    pub launch: usize,
    /// Its layer.
    pub scope: String,
    /// Its kernel.
    pub kernel: &'static str,
}

/// A program ready to replay.
pub struct Executable {
    program: Arc<Program>,
    body: Box<dyn Loaded>,
    load_times: LoadTimes,
}

impl Executable {
    /// Takes what a device loaded since `started`.
    pub(super) fn new(program: Arc<Program>, body: Box<dyn Loaded>, started: Instant) -> Self {
        let compilation = body.compilation();
        let allocation = started.elapsed().saturating_sub(compilation);
        Self { program, body, load_times: LoadTimes { compilation, allocation } }
    }

    /// The program behind it.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Bytes held for it beside the store: what
    /// [`Device::program_bytes`](super::Device::program_bytes) predicted.
    pub fn bytes(&self) -> u64 {
        self.body.bytes()
    }

    fn find(&self, name: &str, input: bool) -> Result<usize, DeviceError> {
        let found = if input { self.program.input(name) } else { self.program.output(name) };
        found.ok_or_else(|| {
            let known = self.program.buffers.iter().filter_map(|b| match &b.role {
                Role::Input(n) if input => Some(n.as_str()),
                Role::Output(n) if !input => Some(n.as_str()),
                _ => None,
            });
            let unread = self.program.unread.keys().filter(|_| input).map(String::as_str);
            let known = known.chain(unread).collect::<Vec<_>>().join(", ");
            DeviceError::UnknownName { name: name.to_owned(), known }
        })
    }

    /// Writes a named input; it keeps its value over replays. An input that was recorded and that nothing
    /// needs ([`Program::unread`]) is accepted and dropped.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], [`DeviceError::WrongLength`], or where the device fails.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<(), DeviceError> {
        let fits = |expected: usize| match values.len() {
            got if got == expected => Ok(()),
            got => Err(DeviceError::WrongLength { name: name.to_owned(), expected, got }),
        };
        if let Some(&len) = self.program.unread.get(name) {
            return fits(len);
        }
        let buffer = self.find(name, true)?;
        fits(self.program.buffers[buffer].len)?;
        self.body.write(buffer, values)
    }

    /// Reads a named output of the last replay.
    ///
    /// # Errors
    /// [`DeviceError::UnknownName`], or where the device fails.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, DeviceError> {
        let buffer = self.find(name, false)?;
        wait(self.body.read(buffer))
    }

    /// As [`Executable::read`], appended to what is there.
    ///
    /// # Errors
    /// As for [`Executable::read`].
    pub fn read_to(&self, name: &str, values: &mut Vec<f32>) -> Result<(), DeviceError> {
        self.body.read_to(self.find(name, false)?, values)
    }

    /// As [`Executable::read`], for who must not block.
    ///
    /// # Errors
    /// As for [`Executable::read`].
    pub async fn read_async(&self, name: &str) -> Result<Vec<f32>, DeviceError> {
        let buffer = self.find(name, false)?;
        self.body.read(buffer).await
    }

    /// Reads a named output of one element.
    ///
    /// # Errors
    /// As [`Executable::read`].
    pub fn scalar(&self, name: &str) -> Result<f32, DeviceError> {
        Ok(self.read(name)?.first().copied().unwrap_or(f32::NAN))
    }

    /// Replays the program `times` times and waits.
    ///
    /// # Errors
    /// [`DeviceError`] naming the launch or submission at fault; [`DeviceError::Interrupted`] where the
    /// process is asked to stop between two of them.
    pub fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        self.body.run(times)?;
        wait(self.body.finished())
    }

    /// As [`Executable::run`], for who must not block.
    ///
    /// # Errors
    /// As for [`Executable::run`].
    pub async fn run_async(&mut self, times: usize) -> Result<(), DeviceError> {
        self.body.run(times)?;
        self.body.finished().await
    }

    /// Replays once, launch by launch, and reports the first launch that makes a value that is not finite out
    /// of finite ones. Slow; for diagnosis. The states change as in any replay up to that launch.
    ///
    /// # Errors
    /// [`DeviceError`] where the device fails.
    pub fn find_non_finite(&mut self) -> Result<Option<NonFinite>, DeviceError> {
        let found = self.body.find_non_finite()?;
        Ok(found.map(|launch| {
            let at = &self.program.launches[launch];
            NonFinite { launch, scope: at.scope.clone(), kernel: at.kernel.name() }
        }))
    }

    /// Where the time of loading it went.
    pub fn load_times(&self) -> LoadTimes {
        self.load_times
    }

    /// The GPU variant that a launch runs as; `native` on the CPU.
    pub fn variant(&self, launch: usize) -> &'static str {
        self.body.variant(launch)
    }

    /// Replays the program once and says when each launch ran. Timestamps that turn out not to be monotone
    /// change `clock` to the host's, and the replay is done again by it. Launches forced to a GPU are timed
    /// as their CPU twins.
    ///
    /// # Errors
    /// As for [`Executable::run`].
    pub fn replay_timed(&mut self, clock: &mut Clock) -> Result<Replay, DeviceError> {
        self.body.replay_timed(clock)
    }

    /// Replays the program `times` times and returns the shortest time of each launch.
    ///
    /// # Errors
    /// As for [`Executable::run`].
    pub fn profile(&mut self, times: usize, clock: &mut Clock) -> Result<Vec<Duration>, DeviceError> {
        let mut shortest = vec![Duration::MAX; self.program.launches.len()];
        for _ in 0..times {
            for (shortest, span) in shortest.iter_mut().zip(self.replay_timed(clock)?.launches) {
                *shortest = (*shortest).min(span.length());
            }
        }
        Ok(shortest)
    }
}
