//! Where the time of a replay goes, launch by launch, on either device.

use std::time::Duration;

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
    /// The host's clock, and why.
    #[cfg(feature = "gpu")]
    pub(super) fn wall(reason: impl Into<String>) -> Self {
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
    /// When the host recorded and submitted work; none on the CPU. May overlap launches of earlier
    /// submissions.
    pub submissions: Vec<Span>,
}
