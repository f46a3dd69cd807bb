//! When each launch of a replay ran, by the host's clock.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::super::{DeviceError, Replay, Span};
use super::CpuExecutable;

/// Replays once and says when each launch ran.
pub(super) fn replay(cpu: &mut CpuExecutable) -> Result<Replay, DeviceError> {
    let mut launches = Vec::with_capacity(cpu.program.launches.len());
    let (started, begun) = (Instant::now(), Cell::new(Duration::ZERO));
    // The replay asks before each launch whether it runs elsewhere, and reports after it.
    let mut before = |_: usize, _: &[&[f32]], _: &mut [&mut [f32]]| {
        begun.set(started.elapsed());
        None
    };
    let mut after = |_: usize, _: &[&[f32]], _: &[&[f32]]| {
        launches.push(Span { start: begun.get(), end: started.elapsed() });
        true
    };
    cpu.replay(Some(&mut before), Some(&mut after))?;
    let wall = started.elapsed();
    Ok(Replay { wall, launches, submissions: vec![] })
}
