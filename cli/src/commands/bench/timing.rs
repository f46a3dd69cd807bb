//! Running, timing and telling.

use std::time::Instant;

use ganomede_kernels::Cost;
use serde::Serialize;

use ganomede_datasets::Size;

use crate::commands::profile::{PeakFields, median};
use crate::shared::launches::{KERNEL_HEADINGS, LaunchTimes, percent};
use crate::shared::ops::{OpArgs, Shape};
use crate::shared::programs::{ChosenSystem, Sizes, go_on};
use crate::shared::ready::{MemoryUse, names};
use crate::shared::shaders::Loaded;
use crate::shared::table::{TextTable, bytes, digits, flops, milliseconds};
use crate::shared::{CliError, Interrupt};
use ganomede::device::{Device, Executable, Peaks, machine};
use ganomede::program::Program;

/// What is measured, as the JSON document and the heading say it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Subject {
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'static str>,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<Size>,
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
    pub(super) fn program(system: ChosenSystem, what: &str, sizes: &Sizes, batch: usize) -> Self {
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
        let sizes = [("width", self.width), ("batch", self.batch), ("search steps", self.search_steps)];
        parts.extend(self.size.map(|size| format!("size {size}")));
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
}

/// Processor time from some moment on.
pub(super) struct ProcessorClock(Option<f64>);

impl ProcessorClock {
    pub(super) fn start() -> Self {
        Self(machine::processor_seconds())
    }

    pub(super) fn elapsed_ms(&self) -> Option<f64> {
        Some((machine::processor_seconds()? - self.0?) * 1e3)
    }
}

/// A run of short programs lasts about this long, so that the clock and the submission do not count.
const RUN_MS: f64 = 50.0;

pub(super) fn elapsed_ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Times an executable whose inputs are written; `back_to_back` replays short programs several times in a
/// run.
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
    /// Buffers and scratch that are allocated, states included.
    peak_bytes: u64,
    /// The same, predicted before any was allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted_bytes: Option<u64>,
    /// By how much the process's memory, or what the driver gave out, has grown by the program and its runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_bytes: Option<u64>,
    process_peak_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peaks: Option<PeakFields>,
    /// GFLOP/s over the device's peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    compute_share: Option<f64>,
    /// GB/s over the device's peak.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_share: Option<f64>,
    /// Time by the roofline, launch by launch, over the time taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shaders: Option<Loaded>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    times: Option<LaunchTimes>,
    /// Work of each launch.
    #[serde(skip)]
    costs: Vec<Cost>,
}

impl Timing {
    /// `items` images are done in each measured time.
    pub(super) fn new(subject: Subject, device: &Device, measured: &Measured, items: usize) -> Self {
        let (kind, adapter, threads) = names(device);
        let ms_median = median(measured.runs_ms.clone());
        Self {
            subject,
            device: kind,
            adapter,
            threads,
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
            predicted_bytes: None,
            measured_bytes: None,
            process_peak_bytes: machine::peak_resident(),
            peaks: None,
            compute_share: None,
            memory_share: None,
            peak_share: None,
            shaders: None,
            times: None,
            costs: vec![],
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

    /// Adds the predicted memory, what is held, and what the process or the driver says.
    pub(super) fn with_memory(mut self, memory: MemoryUse, growth: Option<u64>) -> Self {
        self.peak_bytes = memory.held;
        self.predicted_bytes = Some(memory.predicted);
        self.measured_bytes = growth;
        self
    }

    /// Adds the work of each launch, for [`Timing::with_peaks`].
    pub(super) fn with_roof(mut self, program: &Program) -> Self {
        self.costs = program.launches.iter().map(|launch| launch.kernel.cost()).collect();
        self
    }

    pub(super) fn with_launches(mut self, times: Option<LaunchTimes>) -> Self {
        self.times = times;
        self
    }

    pub(super) fn with_shaders(mut self, shaders: Option<Loaded>) -> Self {
        self.shaders = shaders;
        self
    }

    /// Adds the device's peaks and the shares of them.
    pub(super) fn with_peaks(mut self, peaks: Option<&Peaks>) -> Self {
        let Some(peaks) = peaks else { return self };
        self.peaks = Some(peaks.into());
        self.compute_share = Some(self.gflops * 1e9 / peaks.flops_per_second);
        self.memory_share = Some(self.gbytes_per_second * 1e9 / peaks.bytes_per_second);
        let roof = |cost: &Cost| peaks.bounds(*cost).into_iter().fold(0.0, f64::max);
        let seconds: f64 = self.costs.iter().map(roof).sum();
        self.peak_share = (!self.costs.is_empty()).then(|| seconds / (self.ms_median / 1e3));
        self
    }

    /// Time and rate in a few words.
    pub(super) fn brief(&self) -> String {
        format!("{}, {} images/s", milliseconds(self.ms_median), digits(self.images_per_second))
    }

    pub(super) fn ms_per_image(&self) -> f64 {
        1e3 / self.images_per_second
    }

    /// Names and values of a line of CSV.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let size = |value: Option<usize>| value.map_or(String::new(), |v| v.to_string());
        let number = |value: Option<u64>| value.map_or(String::new(), |v| v.to_string());
        let share = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
        let subject = &self.subject;
        vec![
            ("system", subject.system.unwrap_or_default().to_owned()),
            ("what", subject.what.clone()),
            ("device", self.device.to_owned()),
            ("adapter", self.adapter.clone()),
            ("threads", size(self.threads)),
            ("size", subject.size.map_or(String::new(), |size| size.to_string())),
            ("channels", size(subject.channels)),
            ("width", size(subject.width)),
            ("latent", size(subject.latent)),
            ("batch", size(subject.batch)),
            ("runs", self.runs.to_string()),
            ("ms_min", self.ms_min.to_string()),
            ("ms_median", self.ms_median.to_string()),
            ("ms_per_image", self.ms_per_image().to_string()),
            ("images_per_second", self.images_per_second.to_string()),
            ("first_step_ms", self.first_step_ms.to_string()),
            ("gflops", self.gflops.to_string()),
            ("gbytes_per_second", self.gbytes_per_second.to_string()),
            ("peak_share", share(self.peak_share)),
            ("launches", self.launches.to_string()),
            ("flop", self.flop.to_string()),
            ("bytes_moved", self.bytes_moved.to_string()),
            ("peak_bytes", self.peak_bytes.to_string()),
            ("predicted_bytes", number(self.predicted_bytes)),
            ("measured_bytes", number(self.measured_bytes)),
        ]
    }

    /// Median time, milliseconds.
    pub(super) fn ms_median(&self) -> f64 {
        self.ms_median
    }

    pub(super) fn text(&self) -> String {
        let threads = self.threads.map_or(String::new(), |n| format!(", {n} threads"));
        let cpu = self.cpu_ms.map_or(String::new(), |ms| format!("; {} of processor time", milliseconds(ms)));
        let process = self.process_peak_bytes.map_or(String::new(), |b| format!(" (process {})", bytes(b)));
        let memory = match (self.predicted_bytes, self.measured_bytes) {
            (Some(predicted), Some(measured)) => format!(
                "\n  memory      {} predicted, {} allocated, {} more by the {}'s count",
                bytes(predicted),
                bytes(self.peak_bytes),
                bytes(measured),
                if self.device == "gpu" { "driver" } else { "process" }
            ),
            _ => String::new(),
        };
        let mut text = format!(
            "{} on {} ({}{threads})\n  time        {} median, {} min of {} runs; first after {}{cpu}\n  \
             throughput  {} images/s, {} GFLOP/s, {} GB/s\n  program     {} launches, {}, {} moved, {} peak{process}{memory}",
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
        if let (Some(peaks), Some(compute), Some(memory)) =
            (&self.peaks, self.compute_share, self.memory_share)
        {
            let roof = self
                .peak_share
                .map_or(String::new(), |share| format!("; {} of the roofline", percent(share)));
            let (compute, memory) = (percent(compute), percent(memory));
            text += &format!(
                "\n  peaks       {}\n  of them     {compute} of the arithmetic, {memory} of the bandwidth{roof}",
                peaks.text()
            );
        }
        if let Some(shaders) = &self.shaders {
            text += &format!("\n  shaders     {}", shaders.text());
        }
        if let Some(times) = &self.times {
            let total = times.total_ms();
            let mut kernels = TextTable::new(&KERNEL_HEADINGS);
            times.kernel_rows(total).for_each(|row| kernels.row(row));
            text += &format!(
                "\n\n{}\n\n{}\nall launches one by one: {}",
                times.launch_table(total),
                kernels.text(),
                milliseconds(total)
            );
        }
        text
    }
}
