//! Device time of launches by timestamp queries, and whether an adapter's timestamps can be believed.

use std::time::{Duration, Instant};

use ganomede_kernels::{Access, Bind, Cost, Dispatch, GpuPlan, Slot};

use super::super::DeviceError;
use super::executable::GpuExecutable;
use super::plan::PlannedLaunch;
use super::{Gpu, Shared};
use crate::program::{Buffer, Role};

/// Launches timed in one submission: a query set holds 4096 timestamps and a launch takes two.
const CHUNK: usize = 1024;

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
    /// Takes two timestamps around a dispatch and says whether they are set, ordered and within the host's time.
    /// `None` where the adapter has no timestamps.
    ///
    /// # Errors
    /// A device fault.
    pub fn timestamp_sanity(&self) -> Result<Option<TimestampReport>, DeviceError> {
        let shared = &self.shared;
        if !has_timestamps(shared) {
            return Ok(None);
        }
        let mut executable = self.load_plans(
            &[Buffer { len: SPIN_LEN, role: Role::Temporary }],
            vec![spin_launch()],
            &self.store(&[])?,
        )?;
        executable.run(1)?;
        let start = Instant::now();
        let ticks = timestamps(&executable, 0..1)?;
        let host = start.elapsed();
        let period_ns = f64::from(shared.queue.get_timestamp_period());
        let (begin, end) = ticks[0];
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
    /// Replays the program `times` times and returns the shortest time of each launch. Each launch has a pass of its
    /// own, so that small ones cost more here than in [`GpuExecutable::run`]. Without timestamps the host's clock is
    /// taken around each launch, its submission included.
    ///
    /// # Errors
    /// As for [`GpuExecutable::run`].
    pub fn profile(&mut self, times: usize) -> Result<Vec<Duration>, DeviceError> {
        let mut shortest = vec![Duration::MAX; self.launches()];
        let timed = has_timestamps(self.shared());
        let period_ns = f64::from(self.shared().queue.get_timestamp_period());
        for _ in 0..times {
            let mut start = 0;
            while start < self.launches() {
                let end = self.cut(start, self.launches().min(start + if timed { CHUNK } else { 1 }));
                if timed {
                    for (i, (begin, end)) in (start..).zip(timestamps(self, start..end)?) {
                        let nanoseconds = end.saturating_sub(begin) as f64 * period_ns;
                        shortest[i] = shortest[i].min(Duration::from_secs_f64(nanoseconds * 1e-9));
                    }
                } else {
                    let before = Instant::now();
                    self.submit_range(start..end)?;
                    self.wait()?;
                    shortest[start] = shortest[start].min(before.elapsed());
                }
                start = end;
            }
        }
        Ok(shortest)
    }
}

fn has_timestamps(shared: &Shared) -> bool {
    shared.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
}

/// Runs launches `range`, each in a pass of its own, and returns the ticks at its begin and end.
fn timestamps(
    executable: &GpuExecutable,
    range: std::ops::Range<usize>,
) -> Result<Vec<(u64, u64)>, DeviceError> {
    let shared = executable.shared();
    let queries = 2 * range.len() as u32;
    let bytes = 8 * u64::from(queries);
    let what = || "timestamp queries".to_owned();
    let (set, resolved) = shared.scoped(what, bytes, || {
        let set = shared.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("launch times"),
            ty: wgpu::QueryType::Timestamp,
            count: queries,
        });
        let resolved = shared.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("launch times"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        (set, resolved)
    })?;
    shared.submit(what, executable.seconds(range.clone()), |encoder| {
        for (query, i) in (0..).step_by(2).zip(range) {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &set,
                    beginning_of_pass_write_index: Some(query),
                    end_of_pass_write_index: Some(query + 1),
                }),
            });
            executable.encode(i, &mut pass);
        }
        encoder.resolve_query_set(&set, 0..queries, &resolved, 0);
    })?;
    let ticks: Vec<u64> = shared.download(&resolved, queries as usize, "launch times")?;
    Ok(ticks.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
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
        plan: GpuPlan { variant: "spin", dispatches: vec![dispatch], scratch_len: 0 },
        inputs: vec![],
        outputs: vec![(0, SPIN_LEN)],
        cost: Cost { flops: 2 * 256 * SPIN_LEN as u64, ..Cost::default() },
    }
}
