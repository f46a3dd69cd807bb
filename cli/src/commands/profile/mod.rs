//! `profile`: where the time of a training step or a z-step goes, launch by launch.

mod lanes;
mod rest;
mod trace;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::shared::args::Global;
use crate::shared::launches::{KERNEL_HEADINGS, LaunchTimes, Sort, percent};
use crate::shared::programs::{ChosenSystem, Sizes, Which, go_on, parse_batch, parse_networks};
use crate::shared::ready::{Ready, names};
use crate::shared::session::check_file;
use crate::shared::shaders::{self, Loaded, ShaderArgs};
use crate::shared::table::{TextTable, bytes, digits, flops, milliseconds};
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::device::{Clock, Device, Peaks, Replay};
use ganomede::models::Size;
use ganomede::report::write_atomic;
use rest::Rest;

/// Show where the time goes: kernels, launches and lanes, beside allocation, upload, submission and idle
/// time.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede profile anogan --size 32 --width 16 --batch 8\n  \
    ganomede profile anogan --program search --batch 1 --by-shape --sort share\n  \
    ganomede profile anogan --device gpu --trace step.json   # open it at ui.perfetto.dev\n  \
    ganomede profile dcgan --device gpu --shaders my-shaders --watch")]
pub(crate) struct Args {
    /// Which published system.
    #[arg(value_parser = parse_networks())]
    system: ChosenSystem,
    /// Which program.
    #[arg(long, value_enum, default_value = "step")]
    program: Which,
    /// Which part of the training step, of systems that alternate: critic, generator, encoder, …
    #[arg(long, value_name = "NAME")]
    part: Option<String>,
    #[command(flatten)]
    sizes: Sizes,
    /// Images in a batch, or searches side by side.
    #[arg(long, default_value_t = 64, value_parser = parse_batch)]
    batch: usize,
    /// Replays taken apart, of which the medians are shown; two before them are not counted.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Write one replay as a trace that Perfetto and chrome://tracing open.
    #[arg(long, value_name = "F.json")]
    trace: Option<PathBuf>,
    /// Also sum launches up by kernel and shape.
    #[arg(long)]
    by_shape: bool,
    /// Order of kernels, shapes and launches [default: launches as they run, the others longest first].
    #[arg(long, value_enum)]
    sort: Option<Sort>,
    #[command(flatten)]
    shaders: ShaderArgs,
}

/// Measured peaks, as JSON.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct PeakFields {
    gflops: f64,
    gbytes_per_second: f64,
    launch_us: f64,
}

impl From<&Peaks> for PeakFields {
    fn from(peaks: &Peaks) -> Self {
        Self {
            gflops: peaks.flops_per_second / 1e9,
            gbytes_per_second: peaks.bytes_per_second / 1e9,
            launch_us: peaks.launch_seconds * 1e6,
        }
    }
}

impl PeakFields {
    /// In one line.
    pub(crate) fn text(&self) -> String {
        format!(
            "{} GFLOP/s, {} GB/s, {} for an empty launch",
            digits(self.gflops),
            digits(self.gbytes_per_second),
            milliseconds(self.launch_us / 1e3)
        )
    }
}

#[derive(Debug, Serialize)]
struct Report {
    system: &'static str,
    program: &'static str,
    size: Size,
    channels: usize,
    width: usize,
    latent: usize,
    batch: usize,
    device: &'static str,
    adapter: String,
    threads: Option<usize>,
    runs: usize,
    /// `timestamps` or `wall`.
    clock: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_reason: Option<String>,
    peaks: PeakFields,
    #[serde(skip_serializing_if = "Option::is_none")]
    shaders: Option<Loaded>,
    /// Median of replays that are not taken apart, inputs written.
    ms_median: f64,
    /// Sum of all rows: launches, upload, submission and idle time.
    total_ms: f64,
    flop: u64,
    bytes_moved: u64,
    peak_bytes: u64,
    rest: Vec<Rest>,
    #[serde(flatten)]
    launches: LaunchTimes,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let device = global.open()?;
    if matches!(device, Device::Mixed(..)) {
        return Err(CliError::input("profile times one device; leave --gpu-launches out"));
    }
    args.sizes.config().check()?;
    args.trace.as_deref().map_or(Ok(()), |file| check_file(file, &args.shaders.reads()))?;
    let peaks = device.peaks()?;
    let mut before: Option<f64> = None;
    shaders::measure(&args.shaders, &device, interrupt, |device, loaded| {
        let report = profile(args, global, device, &peaks, loaded, interrupt)?;
        let median = report.ms_median;
        if global.json {
            say_json(&report)?;
        } else {
            say(&report.text())?;
            if let Some(before) = before {
                say(&format!("a replay takes {:+.1} % of the time before", 100.0 * (median / before - 1.0)))?;
            }
        }
        before = Some(median);
        Ok(())
    })
}

/// What the replays of one program took.
struct Taken {
    replays: Vec<Replay>,
    uploads: Vec<Duration>,
    /// Whole replays, not taken apart, milliseconds.
    plain_ms: Vec<f64>,
}

/// Replays the program plainly and taken apart, in turn.
fn replay(ready: &mut Ready, clock: &mut Clock, runs: u32, interrupt: &Interrupt) -> Result<Taken, CliError> {
    let mut taken = Taken { replays: vec![], uploads: vec![], plain_ms: vec![] };
    let Ready { executable, images, .. } = ready;
    let upload = |executable: &mut ganomede::device::Executable| {
        let started = Instant::now();
        if !images.is_empty() {
            executable.write("x", images)?;
        }
        Ok::<_, CliError>(started.elapsed())
    };
    for run in 0..runs + 2 {
        go_on(interrupt)?;
        let started = Instant::now();
        upload(executable)?;
        executable.run(1)?;
        let plain = started.elapsed();
        let uploaded = upload(executable)?;
        let was = clock.clone();
        let replay = executable.replay_timed(clock)?;
        if *clock != was {
            // Times by different clocks are not to be mixed.
            taken = Taken { replays: vec![], uploads: vec![], plain_ms: vec![] };
        }
        if run >= 2 {
            taken.plain_ms.push(plain.as_secs_f64() * 1e3);
            taken.uploads.push(uploaded);
            taken.replays.push(replay);
        }
    }
    Ok(taken)
}

/// The median of some numbers; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => values[n / 2],
        _ => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn profile(
    args: &Args,
    global: &Global,
    device: &Device,
    peaks: &Peaks,
    loaded: Option<Loaded>,
    interrupt: &Interrupt,
) -> Result<Report, CliError> {
    let config = args.sizes.config();
    let mut ready = Ready::new(
        args.system,
        args.program,
        args.part.as_deref(),
        &config,
        args.batch,
        global.seed,
        device,
    )?;
    let mut clock = device.clock()?;
    let taken = replay(&mut ready, &mut clock, args.runs, interrupt)?;
    let executable = &ready.executable;
    let of_launch = |i: usize| median(taken.replays.iter().map(|r| ms(r.launches[i].length())).collect());
    let times: Vec<f64> = (0..executable.program().launches.len()).map(of_launch).collect();
    let lanes = lanes::lanes(executable.program());
    let mut launches = LaunchTimes::new(executable, &times, &lanes, args.by_shape, Some(peaks));
    let rest = rest::rest(&ready.setup, &taken.uploads, &taken.replays);
    let total_ms = launches.total_ms() + rest.iter().map(|row| row.ms).sum::<f64>();
    if let Some(path) = &args.trace {
        // The replay in the middle by its length.
        let mut order: Vec<usize> = (0..taken.replays.len()).collect();
        order.sort_by_key(|&i| taken.replays[i].wall);
        let middle = order[order.len() / 2];
        let title = format!("ganomede {} {}", args.system.name(), args.program.name());
        let (upload, replay) = (taken.uploads[middle], &taken.replays[middle]);
        let document = trace::document(&title, &ready.setup, upload, replay, &launches.by_launch);
        write_atomic(path, document.to_string().as_bytes())?;
        note(&format!("trace: {} (open it at https://ui.perfetto.dev)", path.display()));
    }
    if let Some(order) = args.sort {
        launches.sort(order);
    }
    let cost = executable.program().cost();
    let (device_kind, adapter, threads) = names(device);
    let (clock, clock_reason) = match clock {
        Clock::Timestamps { .. } => ("timestamps", None),
        Clock::Wall { reason } => ("wall", reason),
    };
    Ok(Report {
        system: args.system.name(),
        program: args.program.name(),
        size: config.size,
        channels: config.channels,
        width: config.width,
        latent: config.latent,
        batch: args.batch,
        device: device_kind,
        adapter,
        threads,
        runs: taken.replays.len(),
        clock,
        clock_reason,
        peaks: peaks.into(),
        shaders: loaded,
        ms_median: median(taken.plain_ms),
        total_ms,
        flop: cost.flops,
        bytes_moved: cost.bytes_read + cost.bytes_written,
        peak_bytes: ready.memory.held,
        rest,
        launches,
    })
}

impl Report {
    fn text(&self) -> String {
        let threads = self.threads.map_or(String::new(), |n| format!(", {n} threads"));
        let clock = match (self.clock, self.device, &self.clock_reason) {
            ("timestamps", ..) => "GPU timestamps around each launch".to_owned(),
            (_, "cpu", _) => "the host's clock around each launch".to_owned(),
            (_, _, reason) => format!(
                "WALL CLOCK, one launch at a time, the way to the GPU and back included: {}",
                reason.as_deref().unwrap_or("no timestamps")
            ),
        };
        let shaders =
            self.shaders.as_ref().map_or(String::new(), |s| format!("\n  shaders     {}", s.text()));
        let heading = format!(
            "{} {}, size {}, width {}, batch {} on {} ({}{threads})\n  clock       {clock}; medians of {} runs\n  \
             peaks       {}\n  replay      {} plainly, {} taken apart; {} launches, {}, {} moved, {} held{shaders}",
            self.system,
            self.program,
            self.size,
            self.width,
            self.batch,
            self.device,
            self.adapter,
            self.runs,
            self.peaks.text(),
            milliseconds(self.ms_median),
            milliseconds(self.total_ms),
            self.launches.by_launch.len(),
            flops(self.flop),
            bytes(self.bytes_moved),
            bytes(self.peak_bytes),
        );
        let mut kernels = TextTable::new(&[&KERNEL_HEADINGS[..], &[">once, ms"]].concat());
        self.launches.kernel_rows(self.total_ms).for_each(|row| kernels.row(row));
        for row in &self.rest {
            let once = row.once_ms.map_or(String::new(), |ms| format!("{ms:.3}"));
            let blank = String::new;
            kernels.row([
                row.name.to_owned(),
                blank(),
                blank(),
                format!("{:.3}", row.ms),
                percent(row.ms / self.total_ms),
                blank(),
                blank(),
                blank(),
                blank(),
                once,
            ]);
        }
        let mut parts = vec![heading, kernels.text(), self.launches.lane_table(self.total_ms)];
        if !self.launches.by_shape.is_empty() {
            parts.push(self.launches.shape_table(self.total_ms));
        }
        parts.push(self.launches.launch_table(self.total_ms));
        parts.join("\n\n")
    }
}
