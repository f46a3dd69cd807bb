//! Running, timing and telling.

use std::collections::BTreeMap;
use std::time::Instant;

use ganomede_kernels::Cost;
use serde::Serialize;

use super::super::ops::{OpArgs, Shape};
use super::super::programs::{Sizes, System, go_on};
use super::super::table::{Table, bytes, digits, flops, milliseconds};
use super::super::{CliError, Interrupt};
use crate::device::{Device, Executable, machine};

/// What is measured, as the JSON document and the heading say it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Subject {
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'static str>,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latent: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) search_steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl Subject {
    pub(super) fn program(system: System, what: &str, sizes: &Sizes, batch: usize) -> Self {
        let config = sizes.config();
        Self {
            system: Some(system.name()),
            what: what.to_owned(),
            size: Some(config.size),
            channels: Some(config.channels),
            width: Some(config.width),
            latent: Some(config.latent),
            batch: Some(batch),
            ..Self::default()
        }
    }

    pub(super) fn op(op: &OpArgs, shape: &Shape) -> Self {
        Self {
            what: op.name.name(),
            shape: Some(shape.0.clone()),
            variant: op.variant.clone(),
            ..Self::default()
        }
    }

    fn heading(&self) -> String {
        let mut parts = vec![format!("{} {}", self.system.unwrap_or("op"), self.what)];
        let sizes = [
            ("size", self.size),
            ("width", self.width),
            ("batch", self.batch),
            ("search steps", self.search_steps),
        ];
        parts.extend(sizes.iter().filter_map(|(name, value)| Some(format!("{name} {}", (*value)?))));
        if let Some(shape) = &self.shape {
            parts.push(Shape(shape.clone()).to_string());
        }
        parts.join(", ")
    }
}

/// Times of the runs, milliseconds, ascending.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    first_step_ms: f64,
    runs_ms: Vec<f64>,
    /// Replays in each run, whose time is their mean.
    replays: usize,
    /// Processor time of all threads for each replay.
    cpu_ms: Option<f64>,
}

impl Measured {
    pub(super) fn new(
        first_step_ms: f64,
        mut runs_ms: Vec<f64>,
        replays: usize,
        clock: ProcessorClock,
    ) -> Self {
        runs_ms.sort_by(f64::total_cmp);
        let cpu_ms = clock.elapsed_ms().map(|ms| ms / (runs_ms.len() * replays) as f64);
        Self { first_step_ms, runs_ms, replays, cpu_ms }
    }

    fn median(&self) -> f64 {
        let (n, t) = (self.runs_ms.len(), &self.runs_ms);
        if n % 2 == 1 { t[n / 2] } else { (t[n / 2 - 1] + t[n / 2]) / 2.0 }
    }
}

/// Processor time from some moment on.
pub(super) struct ProcessorClock(Option<f64>);

impl ProcessorClock {
    pub(super) fn start() -> Self {
        Self(machine::processor_seconds())
    }

    fn elapsed_ms(&self) -> Option<f64> {
        Some((machine::processor_seconds()? - self.0?) * 1e3)
    }
}

/// A run of short programs lasts about this long, so that the clock and the submission do not count.
const RUN_MS: f64 = 50.0;

pub(super) fn elapsed_ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Times an executable whose inputs are written; `back_to_back` replays short programs several times in a run.
pub(super) fn measure(
    executable: &mut Executable,
    started: Instant,
    runs: u32,
    back_to_back: bool,
    interrupt: &Interrupt,
) -> Result<Measured, CliError> {
    let mut timed = |replays: usize| -> Result<f64, CliError> {
        go_on(interrupt)?;
        let before = Instant::now();
        executable.run(replays)?;
        Ok(elapsed_ms(before) / replays as f64)
    };
    timed(1)?;
    let first_step_ms = elapsed_ms(started);
    let warm = timed(1)?.max(1e-6);
    let replays = if back_to_back { (RUN_MS / warm).clamp(1.0, 10_000.0) as usize } else { 1 };
    let clock = ProcessorClock::start();
    let runs_ms = (0..runs).map(|_| timed(replays)).collect::<Result<_, _>>()?;
    Ok(Measured::new(first_step_ms, runs_ms, replays, clock))
}

/// One launch, or all launches of one kernel.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LaunchTime {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    kernel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shapes: Option<String>,
    count: usize,
    ms: f64,
    share: f64,
    gflops: f64,
    gbytes_per_second: f64,
}

impl LaunchTime {
    fn new(kernel: &'static str, count: usize, ms: f64, total_ms: f64, cost: Cost) -> Self {
        let seconds = (ms / 1e3).max(1e-12);
        Self {
            index: None,
            kernel,
            scope: None,
            shapes: None,
            count,
            ms,
            share: ms / total_ms.max(1e-12),
            gflops: cost.flops as f64 / seconds / 1e9,
            gbytes_per_second: (cost.bytes_read + cost.bytes_written) as f64 / seconds / 1e9,
        }
    }

    fn cells(&self) -> [String; 4] {
        [
            format!("{:.3}", self.ms),
            format!("{:.1} %", 100.0 * self.share),
            digits(self.gflops),
            digits(self.gbytes_per_second),
        ]
    }
}

/// Times of the launches by themselves.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LaunchTimes {
    by_kernel: Vec<LaunchTime>,
    by_launch: Vec<LaunchTime>,
}

/// Times every launch of a warm executable.
pub(super) fn launches(executable: &mut Executable, runs: u32) -> Result<LaunchTimes, CliError> {
    let times: Vec<f64> = executable.profile(runs as usize)?.iter().map(|t| t.as_secs_f64() * 1e3).collect();
    let total: f64 = times.iter().sum();
    let program = executable.program();
    let mut kernels: BTreeMap<&'static str, (usize, f64, Cost)> = BTreeMap::new();
    let mut by_launch = vec![];
    for (index, (launch, &ms)) in program.launches.iter().zip(&times).enumerate() {
        let (kernel, cost) = (launch.kernel.name(), launch.kernel.cost());
        let (count, sum, all) = kernels.entry(kernel).or_default();
        *count += 1;
        *sum += ms;
        all.flops += cost.flops;
        all.bytes_read += cost.bytes_read;
        all.bytes_written += cost.bytes_written;
        let time = LaunchTime::new(kernel, 1, ms, total, cost);
        let (scope, shapes) = (Some(launch.scope.clone()), Some(launch.shapes()));
        by_launch.push(LaunchTime { index: Some(index), scope, shapes, ..time });
    }
    let mut by_kernel: Vec<_> = kernels
        .into_iter()
        .map(|(name, (count, ms, cost))| LaunchTime::new(name, count, ms, total, cost))
        .collect();
    by_kernel.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    Ok(LaunchTimes { by_kernel, by_launch })
}

impl LaunchTimes {
    fn text(&self) -> String {
        let mut launches =
            Table::new(&[">#", ">ms", ">share", ">GFLOP/s", ">GB/s", "kernel", "shapes", "layer"]);
        for (index, time) in self.by_launch.iter().enumerate() {
            let words = [
                time.kernel.to_owned(),
                time.shapes.clone().unwrap_or_default(),
                time.scope.clone().unwrap_or_default(),
            ];
            launches.row(std::iter::once(index.to_string()).chain(time.cells()).chain(words));
        }
        let mut kernels = Table::new(&["kernel", ">launches", ">ms", ">share", ">GFLOP/s", ">GB/s"]);
        for time in &self.by_kernel {
            kernels.row([time.kernel.to_owned(), time.count.to_string()].into_iter().chain(time.cells()));
        }
        let total: f64 = self.by_kernel.iter().map(|time| time.ms).sum();
        format!("{}\n\n{}\nall launches one by one: {}", launches.text(), kernels.text(), milliseconds(total))
    }
}

/// `bench … --json`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Timing {
    #[serde(flatten)]
    subject: Subject,
    device: &'static str,
    adapter: String,
    threads: Option<usize>,
    runs: usize,
    replays_per_run: usize,
    ms_min: f64,
    ms_median: f64,
    /// Processor time of all threads: what a busy machine does not distort.
    cpu_ms: Option<f64>,
    first_step_ms: f64,
    images_per_second: f64,
    /// GFLOP/s at the median.
    gflops: f64,
    gbytes_per_second: f64,
    flop: u64,
    launches: usize,
    bytes_moved: u64,
    peak_bytes: u64,
    process_peak_bytes: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    times: Option<LaunchTimes>,
}

impl Timing {
    /// `items` images are done in each measured time.
    pub(super) fn new(subject: Subject, device: &Device, measured: &Measured, items: usize) -> Self {
        let (kind, adapter) = match device {
            Device::Cpu => ("cpu", format!("{}, {}", machine::processor(), machine::simd())),
            Device::Gpu(gpu) => ("gpu", gpu.describe()),
            Device::Mixed(gpu, _) => ("mixed", gpu.describe()),
        };
        let ms_median = measured.median();
        Self {
            subject,
            device: kind,
            adapter,
            threads: (kind != "gpu").then(rayon::current_num_threads),
            runs: measured.runs_ms.len(),
            replays_per_run: measured.replays,
            ms_min: measured.runs_ms.first().copied().unwrap_or(f64::NAN),
            ms_median,
            cpu_ms: measured.cpu_ms,
            first_step_ms: measured.first_step_ms,
            images_per_second: items as f64 / ms_median * 1e3,
            gflops: 0.0,
            gbytes_per_second: 0.0,
            flop: 0,
            launches: 0,
            bytes_moved: 0,
            peak_bytes: 0,
            process_peak_bytes: machine::peak_resident(),
            times: None,
        }
    }

    /// Adds what is known of the programs that ran in each measured time.
    pub(super) fn with_program(mut self, cost: Cost, launches: usize, peak_bytes: u64) -> Self {
        self.flop = cost.flops;
        self.bytes_moved = cost.bytes_read + cost.bytes_written;
        let per_second = 1e3 / self.ms_median / 1e9;
        self.gflops = self.flop as f64 * per_second;
        self.gbytes_per_second = self.bytes_moved as f64 * per_second;
        self.launches = launches;
        self.peak_bytes = peak_bytes;
        self
    }

    pub(super) fn with_launches(mut self, times: Option<LaunchTimes>) -> Self {
        self.times = times;
        self
    }

    pub(super) fn text(&self) -> String {
        let threads = self.threads.map_or(String::new(), |n| format!(", {n} threads"));
        let cpu = self.cpu_ms.map_or(String::new(), |ms| format!("; {} of processor time", milliseconds(ms)));
        let process = self.process_peak_bytes.map_or(String::new(), |b| format!(" (process {})", bytes(b)));
        let mut text = format!(
            "{} on {} ({}{threads})\n  time        {} median, {} min of {} runs; first after {}{cpu}\n  \
             throughput  {} images/s, {} GFLOP/s, {} GB/s\n  program     {} launches, {}, {} moved, {} peak{process}",
            self.subject.heading(),
            self.device,
            self.adapter,
            milliseconds(self.ms_median),
            milliseconds(self.ms_min),
            self.runs,
            milliseconds(self.first_step_ms),
            digits(self.images_per_second),
            digits(self.gflops),
            digits(self.gbytes_per_second),
            self.launches,
            flops(self.flop),
            bytes(self.bytes_moved),
            bytes(self.peak_bytes),
        );
        if let Some(times) = &self.times {
            text += &format!("\n\n{}", times.text());
        }
        text
    }
}
