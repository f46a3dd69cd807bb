//! A replay as Chrome's trace events, which Perfetto (ui.perfetto.dev) and `chrome://tracing` open: the host
//! and each lane as threads.

use std::time::Duration;

use serde_json::{Value, json};

use crate::shared::launches::LaunchTime;
use crate::shared::ready::Setup;
use ganomede::device::{Replay, Span};

/// Thread of the host.
const HOST: usize = 1;

/// Microseconds, to the nanosecond.
fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

fn event(name: &str, category: &str, thread: usize, span: Span, args: Value) -> Value {
    json!({
        "name": name, "cat": category, "ph": "X", "pid": 1, "tid": thread,
        "ts": microseconds(span.start), "dur": microseconds(span.length()), "args": args,
    })
}

fn metadata(name: &str, thread: usize, args: Value) -> Value {
    json!({ "name": name, "ph": "M", "pid": 1, "tid": thread, "args": args })
}

/// The document: what was done once, then one replay whose inputs took `upload`. `launches` are in program
/// order.
pub(super) fn document(
    title: &str,
    setup: &Setup,
    upload: Duration,
    replay: &Replay,
    launches: &[LaunchTime],
) -> Value {
    let mut lanes: Vec<&str> = vec![];
    for lane in launches.iter().filter_map(|launch| launch.name.lane.as_deref()) {
        if !lanes.contains(&lane) {
            lanes.push(lane);
        }
    }
    let mut events = vec![metadata("process_name", HOST, json!({ "name": title }))];
    let threads = std::iter::once("host").chain(lanes.iter().copied());
    for (thread, name) in (HOST..).zip(threads) {
        events.push(metadata("thread_name", thread, json!({ "name": name })));
        events.push(metadata("thread_sort_index", thread, json!({ "sort_index": thread })));
    }
    let mut now = Duration::ZERO;
    let once = [
        ("record", "once", setup.record),
        ("allocation", "once", setup.allocation),
        ("compilation", "once", setup.compilation),
        ("upload of states and inputs", "once", setup.upload),
        ("upload", "replay", upload),
    ];
    for (name, category, time) in once {
        if !time.is_zero() {
            events.push(event(name, category, HOST, Span { start: now, end: now + time }, json!({})));
            now += time;
        }
    }
    let at = |span: &Span| Span { start: now + span.start, end: now + span.end };
    for (i, span) in replay.submissions.iter().enumerate() {
        events.push(event("submission", "replay", HOST, at(span), json!({ "submission": i })));
    }
    for (launch, span) in launches.iter().zip(&replay.launches) {
        let name = &launch.name;
        let lane = lanes.iter().position(|lane| name.lane.as_deref() == Some(lane)).unwrap_or(0);
        let (kernel, variant) = (name.kernel.unwrap_or_default(), name.variant.unwrap_or_default());
        let args = serde_json::to_value(launch).unwrap_or_default();
        events.push(event(&format!("{kernel} {variant}"), kernel, HOST + 1 + lane, at(span), args));
    }
    json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}
