//! The time that is no kernel's: allocation, compilation, upload, submission, idle.

use std::time::Duration;

use serde::Serialize;

use super::{median, ms};
use crate::shared::ready::Setup;
use ganomede::device::{Replay, Span};

/// A row beside the kernels.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rest {
    /// `allocation`, `compilation`, `upload`, `submission` or `idle`.
    pub(super) name: &'static str,
    /// Time in each replay.
    pub(super) ms: f64,
    /// Time before the first replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) once_ms: Option<f64>,
}

/// Rows of replays, each the median. A replay allocates and compiles nothing. Submission is the time in
/// which the host submitted while no launch ran; idle is what is left of a replay's time.
pub(super) fn rest(setup: &Setup, uploads: &[Duration], replays: &[Replay]) -> Vec<Rest> {
    let of = |what: &dyn Fn(&Replay) -> Duration| median(replays.iter().map(|r| ms(what(r))).collect());
    let sum = |spans: &[Span]| spans.iter().map(Span::length).sum::<Duration>();
    let submission = |r: &Replay| sum(&r.submissions).saturating_sub(overlap(&r.submissions, &r.launches));
    let idle = |r: &Replay| r.wall.saturating_sub(sum(&r.launches) + submission(r));
    let upload = median(uploads.iter().copied().map(ms).collect());
    let row = |name, ms, once_ms| Rest { name, ms, once_ms };
    vec![
        row("allocation", 0.0, Some(ms(setup.allocation))),
        row("compilation", 0.0, Some(ms(setup.record) + ms(setup.compilation))),
        row("upload", upload, Some(ms(setup.upload))),
        row("submission", of(&submission), None),
        row("idle", of(&idle), None),
    ]
}

/// Time that both have in common; neither overlaps itself, and both are in order.
fn overlap(a: &[Span], b: &[Span]) -> Duration {
    let (mut i, mut j, mut common) = (0, 0, Duration::ZERO);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        common += x.end.min(y.end).saturating_sub(x.start.max(y.start));
        if x.end <= y.end { i += 1 } else { j += 1 }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(ends: &[(u64, u64)]) -> Vec<Span> {
        let time = Duration::from_millis;
        ends.iter().map(|&(start, end)| Span { start: time(start), end: time(end) }).collect()
    }

    #[test]
    fn overlaps_add_up() {
        let (a, b) = (spans(&[(0, 3), (5, 9)]), spans(&[(1, 2), (2, 6), (8, 20)]));
        assert_eq!(overlap(&a, &b), Duration::from_millis(1 + 1 + 1 + 1));
        assert_eq!(overlap(&a, &[]), Duration::ZERO);
    }

    #[test]
    fn rows_fill_the_time_of_a_replay() {
        let replay = Replay {
            wall: Duration::from_millis(20),
            launches: spans(&[(2, 5), (6, 16)]),
            submissions: spans(&[(0, 2), (4, 7)]),
        };
        let rows = rest(&Setup::default(), &[Duration::from_millis(1)], &[replay]);
        let of = |name| rows.iter().find(|row| row.name == name).map(|row| row.ms);
        // Of the second submission one millisecond lies between the launches.
        assert_eq!((of("submission"), of("idle"), of("upload")), (Some(3.0), Some(4.0), Some(1.0)));
        assert_eq!(of("allocation"), Some(0.0));
    }
}
