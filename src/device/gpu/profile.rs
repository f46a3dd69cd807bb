//! Device time of launches by timestamp queries, and whether an adapter's timestamps can be believed.

use std::time::{Duration, Instant};

use ganomede_kernels::{Access, Bind, Cost, Dispatch, GpuPlan, Slot};

use super::super::{DeviceError, Span};
use super::executable::GpuExecutable;
use super::plan::PlannedLaunch;
use super::ticks::Ticked;
use super::{Gpu, Shared};
use crate::program::{Buffer, Role};

/// Two timestamps around a dispatch, beside the host's clock around its submission.
#[derive(Debug, Clone, PartialEq)]
pub struct TimestampReport {
    /// Nanoseconds of one tick.
    pub period_ns: f64,
    /// Device time of the dispatch.
    pub device: Duration,
    /// Host time from before its submission until after its end.
    pub host: Duration,
    /// Why the timestamps cannot be believed, if they cannot.
    pub problem: Option<String>,
}

impl Gpu {
    /// Takes two timestamps around a dispatch and says whether they are set, ordered and within the host's
    /// time. `None` where the adapter has no timestamps.
    ///
    /// # Errors
    /// A device fault.
    pub fn timestamp_sanity(&self) -> Result<Option<TimestampReport>, DeviceError> {
        if !has_timestamps(&self.shared) {
            return Ok(None);
        }
        let mut executable = self.load_plans(
            &[Buffer { len: SPIN_LEN, role: Role::Temporary }],
            vec![spin_launch()],
            &self.store(&[])?,
        )?;
        executable.run(1)?;
        let Some(ticked) = executable.replay_ticked()? else { return Ok(None) };
        let (host, period_ns) = (ticked.wall, f64::from(self.shared.queue.get_timestamp_period()));
        let (begin, end) = ticked.ticks[0];
        let device = Duration::from_secs_f64(end.saturating_sub(begin) as f64 * period_ns * 1e-9);
        let problem = if begin == 0 || end == 0 {
            Some(format!("timestamps not written: {begin} and {end}"))
        } else if end <= begin {
            Some(format!("timestamps do not advance: {begin}, then {end}"))
        } else if device > host {
            Some(format!("a dispatch of {device:?} on the device took the host {host:?}"))
        } else {
            None
        };
        Ok(Some(TimestampReport { period_ns, device, host, problem }))
    }
}

impl GpuExecutable {
    /// Replays the program once, each launch in a pass of its own between two timestamps; small launches cost
    /// more than in [`GpuExecutable::run`]. `None` where the adapter has no timestamps, or too few for so
    /// many launches.
    pub(super) fn replay_ticked(&self) -> Result<Option<Ticked>, DeviceError> {
        let Some(timestamps) = Timestamps::new(self.shared(), self.launches())? else { return Ok(None) };
        let (started, mut submissions) = (Instant::now(), vec![]);
        let mut start = 0;
        while start < self.launches() {
            let end = self.cut(start, self.launches());
            self.shared().make_room()?;
            let before = started.elapsed();
            self.submit_range(start..end, Some(&timestamps))?;
            submissions.push(Span { start: before, end: started.elapsed() });
            start = end;
        }
        self.wait()?;
        let wall = started.elapsed();
        Ok(Some(Ticked { ticks: timestamps.read(self.shared())?, submissions, wall }))
    }

    /// Replays the program once, waiting for each launch before the next, by the host's clock. Returns when
    /// each launch was submitted and when it ran.
    pub(super) fn replay_apart(&self) -> Result<(Vec<Span>, Vec<Span>, Duration), DeviceError> {
        let started = Instant::now();
        let (mut submissions, mut launches) = (vec![], vec![]);
        for i in 0..self.launches() {
            let before = started.elapsed();
            self.submit_range(i..i + 1, None)?;
            let submitted = started.elapsed();
            self.wait()?;
            submissions.push(Span { start: before, end: submitted });
            launches.push(Span { start: submitted, end: started.elapsed() });
        }
        Ok((launches, submissions, started.elapsed()))
    }
}

fn has_timestamps(shared: &Shared) -> bool {
    shared.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
}

/// Queries of one set: what WebGPU promises.
const QUERIES: usize = 4096;
/// Sets alive at one time: Metal ends at 28.
const MAX_SETS: usize = 28;

/// Two timestamps for each launch of a replay.
pub(super) struct Timestamps {
    sets: Vec<wgpu::QuerySet>,
    resolved: wgpu::Buffer,
    launches: usize,
}

impl Timestamps {
    /// `None` where the adapter cannot take them.
    fn new(shared: &Shared, launches: usize) -> Result<Option<Self>, DeviceError> {
        let queries = 2 * launches;
        if launches == 0 || queries > MAX_SETS * QUERIES || !has_timestamps(shared) {
            return Ok(None);
        }
        let bytes = 8 * queries as u64;
        let create = || {
            let count = |first: usize| QUERIES.min(queries - first) as u32;
            let set = |first| {
                shared.device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("launch times"),
                    ty: wgpu::QueryType::Timestamp,
                    count: count(first),
                })
            };
            let resolved = shared.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("launch times"),
                size: bytes,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            Self { sets: (0..queries).step_by(QUERIES).map(set).collect(), resolved, launches }
        };
        shared.scoped(|| "timestamp queries".to_owned(), bytes, create).map(Some)
    }

    /// The timestamps around launch `i`.
    pub(super) fn around(&self, i: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let (set, query) = (2 * i / QUERIES, (2 * i % QUERIES) as u32);
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[set],
            beginning_of_pass_write_index: Some(query),
            end_of_pass_write_index: Some(query + 1),
        }
    }

    /// Ticks at begin and end of each launch, all of which have been submitted.
    fn read(&self, shared: &Shared) -> Result<Vec<(u64, u64)>, DeviceError> {
        let queries = 2 * self.launches;
        shared.submit(
            || "timestamp queries".to_owned(),
            0.0,
            |encoder| {
                for (set, first) in self.sets.iter().zip((0..queries).step_by(QUERIES)) {
                    let count = QUERIES.min(queries - first) as u32;
                    encoder.resolve_query_set(set, 0..count, &self.resolved, 8 * first as u64);
                }
            },
        )?;
        let ticks: Vec<u64> = shared.download(&self.resolved, queries, "launch times")?;
        Ok(ticks.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

const SPIN_LEN: usize = 1 << 16;

/// A dispatch long enough for a coarse clock: 16 million dependent multiply-adds.
fn spin_launch() -> PlannedLaunch {
    let source = "
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    var value = x[id.x];
    for (var i = 0u; i < 256u; i++) { value = fma(value, 0.999, 0.5); }
    x[id.x] = value;
}";
    let dispatch = Dispatch {
        shader: "spin",
        source: source.into(),
        entry: "main",
        constants: vec![],
        workgroups: [(SPIN_LEN / 64) as u32, 1, 1],
        bindings: vec![Bind { slot: Slot::Output(0), access: Access::ReadWrite }],
        params: vec![],
    };
    PlannedLaunch {
        label: "timestamp check".to_owned(),
        plan: GpuPlan { variant: "spin", dispatches: vec![dispatch], scratch_lens: Vec::new() },
        inputs: vec![],
        outputs: vec![(0, SPIN_LEN)],
        cost: Cost { flops: 2 * 256 * SPIN_LEN as u64, ..Cost::default() },
    }
}
