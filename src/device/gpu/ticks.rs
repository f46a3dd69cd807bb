//! From the ticks of an adapter to stretches of the host's time.

use std::time::Duration;

use super::super::{Replay, Span};

/// One replay with ticks at the begin and end of each launch, beside the host's view of it.
pub(super) struct Ticked {
    pub(super) ticks: Vec<(u64, u64)>,
    pub(super) submissions: Vec<Span>,
    pub(super) wall: Duration,
}

/// Ticks as stretches of the host's time: the last launch ends where the host saw its end. Passes of
/// independent launches may overlap; the later one then counts from the end of the earlier. Says what is
/// wrong with ticks that cannot be believed.
pub(super) fn spans(ticked: &Ticked, period_ns: f64) -> Result<Replay, String> {
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
