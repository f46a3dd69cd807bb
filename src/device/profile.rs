//! Where the time of a replay goes, launch by launch, on either device.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::gpu::Ticked;
use super::{Body, Device, DeviceError, Executable};

/// A stretch of time, from the start of a replay on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Its begin.
    pub start: Duration,
    /// Its end, not before its begin.
    pub end: Duration,
}

impl Span {
    /// Its length.
    pub fn length(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }
}

/// Who says how long a launch took.
#[derive(Debug, Clone, PartialEq)]
pub enum Clock {
    /// Timestamps that the adapter takes around each launch.
    Timestamps {
        /// Nanoseconds of one tick.
        period_ns: f64,
    },
    /// The host's clock. A GPU then runs one launch at a time, and its time holds the way there and back.
    Wall {
        /// Why timestamps are not used, on a GPU.
        reason: Option<String>,
    },
}

impl Clock {
    fn wall(reason: impl Into<String>) -> Self {
        Self::Wall { reason: Some(reason.into()) }
    }
}

/// Where the time of loading a program went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// Compiling shaders; none on the CPU.
    pub compilation: Duration,
    /// Planning, buffers and bind groups.
    pub allocation: Duration,
}

/// One replay, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// From the first submission to the end of the last launch, by the host's clock.
    pub wall: Duration,
    /// When each launch ran, in order; none overlaps another.
    pub launches: Vec<Span>,
    /// When the host recorded and submitted work; none on the CPU. May overlap launches of earlier submissions.
    pub submissions: Vec<Span>,
}

impl Device {
    /// The clock for launches: timestamps where a test of them on this adapter comes out sane.
    ///
    /// # Errors
    /// A device fault.
    pub fn clock(&self) -> Result<Clock, DeviceError> {
        let Self::Gpu(gpu) = self else { return Ok(Clock::Wall { reason: None }) };
        Ok(match gpu.timestamp_sanity()? {
            None => Clock::wall("the adapter has no timestamps"),
            Some(report) => match report.problem {
                Some(problem) => Clock::wall(problem),
                None => Clock::Timestamps { period_ns: report.period_ns },
            },
        })
    }
}

impl Executable {
    /// Where the time of loading it went.
    pub fn load_times(&self) -> LoadTimes {
        self.load_times
    }

    /// The GPU variant that a launch runs as; `native` on the CPU.
    pub fn variant(&self, launch: usize) -> &'static str {
        match &self.body {
            Body::Gpu(gpu) => gpu.variant(launch),
            Body::Cpu(_) | Body::Mixed(..) => "native",
        }
    }

    /// Replays the program once and says when each launch ran. Timestamps that turn out not to be monotone change
    /// `clock` to the host's, and the replay is done again by it. Launches forced to a GPU are timed as their CPU twins.
    ///
    /// # Errors
    /// As for [`Executable::run`].
    pub fn replay_timed(&mut self, clock: &mut Clock) -> Result<Replay, DeviceError> {
        let cpu = match &mut self.body {
            Body::Cpu(cpu) | Body::Mixed(cpu, ..) => cpu,
            Body::Gpu(gpu) => {
                if let Clock::Timestamps { period_ns } = *clock {
                    let outcome = match gpu.replay_ticked()? {
                        Some(ticked) => spans(&ticked, period_ns),
                        None => Err("the program has more launches than query sets hold".to_owned()),
                    };
                    match outcome {
                        Ok(replay) => return Ok(replay),
                        Err(reason) => *clock = Clock::wall(reason),
                    }
                }
                let (launches, submissions, wall) = gpu.replay_apart()?;
                return Ok(Replay { wall, launches, submissions });
            }
        };
        let mut launches = Vec::with_capacity(self.program.launches.len());
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

/// Ticks as stretches of the host's time: the last launch ends where the host saw its end. Passes of independent
/// launches may overlap; the later one then counts from the end of the earlier. Says what is wrong with ticks that
/// cannot be believed.
fn spans(ticked: &Ticked, period_ns: f64) -> Result<Replay, String> {
    let ticks = &ticked.ticks;
    let (Some(&(first, _)), Some(last)) = (ticks.first(), ticks.iter().map(|t| t.1).max()) else {
        return Err("there are no timestamps".to_owned());
    };
    if let Some(i) = ticks.iter().position(|&(begin, end)| begin == 0 || end == 0) {
        return Err(format!("the timestamps of launch {i} were not written"));
    }
    if let Some(i) = ticks.iter().position(|&(begin, end)| end < begin) {
        return Err(format!("launch {i} ends before it begins"));
    }
    if let Some(i) = ticks.windows(2).position(|pair| pair[1].0 < pair[0].0) {
        return Err(format!("launch {} begins before launch {i}", i + 1));
    }
    let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 * period_ns * 1e-9);
    let whole = time(last - first);
    if whole.is_zero() {
        return Err("the timestamps stand still".to_owned());
    }
    // A tenth for clocks that run a little differently.
    if whole > ticked.wall + ticked.wall / 10 {
        return Err(format!("{whole:?} by the timestamps are {:?} by the host's clock", ticked.wall));
    }
    let shift = ticked.wall.saturating_sub(whole);
    let mut launches: Vec<Span> = Vec::with_capacity(ticks.len());
    let mut free = Duration::ZERO;
    for &(begin, end) in ticks {
        let at = |tick: u64| (shift + time(tick - first)).min(ticked.wall);
        let start = at(begin).max(free);
        free = at(end).max(start);
        launches.push(Span { start, end: free });
    }
    Ok(Replay { wall: ticked.wall, launches, submissions: ticked.submissions.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticked(ticks: &[(u64, u64)]) -> Ticked {
        Ticked { ticks: ticks.to_vec(), submissions: vec![], wall: Duration::from_nanos(1000) }
    }

    #[test]
    fn spans_end_with_the_replay_and_do_not_overlap() {
        let replay = spans(&ticked(&[(100, 200), (150, 400), (500, 600)]), 1.0).unwrap();
        let nanoseconds: Vec<_> =
            replay.launches.iter().map(|s| (s.start.as_nanos(), s.end.as_nanos())).collect();
        assert_eq!(nanoseconds, [(500, 600), (600, 800), (900, 1000)]);
    }

    #[test]
    fn ticks_that_cannot_be_are_refused() {
        for (ticks, fault) in [
            (&[][..], "no timestamps"),
            (&[(0, 5)], "not written"),
            (&[(5, 4)], "ends before"),
            (&[(5, 6), (3, 9)], "begins before"),
            (&[(5, 5), (5, 5)], "stand still"),
            (&[(5, 5000)], "host's clock"),
        ] {
            let message = spans(&ticked(ticks), 1.0).unwrap_err();
            assert!(message.contains(fault), "{message}");
        }
    }
}
