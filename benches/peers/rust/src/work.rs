//! What a peer is asked to do, and the clock.

use crate::Error;
use serde_json::json;
use std::time::Instant;

/// Batch of the single operations.
const BATCH: usize = 64;

/// Channels in and out and the larger size of each inner DCGAN layer.
const LAYERS: [(usize, usize, usize); 4] = [(64, 128, 32), (128, 256, 16), (256, 512, 8), (512, 512, 8)];

/// Sizes of a DCGAN.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub size: usize,
    pub channels: usize,
    pub width: usize,
    pub latent: usize,
    pub batch: usize,
}

impl Sizes {
    /// Resolutions between the images and 4×4.
    pub fn levels(&self) -> usize {
        self.size.ilog2() as usize - 2
    }

    /// Channels at a level: the width, doubled three times at most.
    pub fn channels_at(&self, level: usize) -> usize {
        self.width << level.min(3)
    }
}

/// A convolution of stride 2 with a 4×4 kernel; the shapes are NCHW.
pub struct Conv {
    pub transposed: bool,
    pub x: [usize; 4],
    pub w: [usize; 4],
    pub y: [usize; 4],
}

/// Does the work once and returns when all of it is done.
pub type Step<'a> = Box<dyn FnMut() -> Result<f32, Error> + 'a>;

/// An engine. Every method builds the work and returns what the clock runs on.
pub trait Peer {
    /// Name, version and device.
    fn name(&self) -> String;
    /// A training step of DCGAN; returns the sum of the losses.
    fn step(&self, sizes: Sizes) -> Result<Step<'_>, Error>;
    /// A step of the latent search; returns the loss.
    fn search(&self, sizes: Sizes) -> Result<Step<'_>, Error>;
    /// A convolution and the gradients of its input and weight.
    fn conv(&self, conv: &Conv) -> Result<Step<'_>, Error>;
    /// Batch norm in train mode and leaky ReLU, with all gradients.
    fn norm(&self, shape: [usize; 4]) -> Result<Step<'_>, Error>;
    /// A product of square matrices.
    fn gemm(&self, n: usize) -> Result<Step<'_>, Error>;
}

/// One line of arguments.
pub struct Work {
    what: String,
    sizes: Sizes,
    runs: usize,
    /// The one operation to run, by its number from 0; all without it.
    row: Option<usize>,
}

impl Work {
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, Error> {
        let what = words.next().ok_or("what to do is missing: step, search or ops")?.to_owned();
        let sizes = Sizes { size: 64, channels: 1, width: 64, latent: 100, batch: 64 };
        let mut work = Self { what, sizes, runs: 10, row: None };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
            let value: usize = value.parse().map_err(|_| format!("{name} {value}: not a whole number"))?;
            *match name {
                "--size" => &mut work.sizes.size,
                "--channels" => &mut work.sizes.channels,
                "--width" => &mut work.sizes.width,
                "--latent" => &mut work.sizes.latent,
                "--batch" => &mut work.sizes.batch,
                "--runs" => &mut work.runs,
                "--row" => work.row.insert(value),
                other => return Err(format!("no argument {other}").into()),
            } = value;
        }
        if work.runs == 0 || work.sizes.size < 16 || !work.sizes.size.is_power_of_two() {
            return Err("--runs is at least 1 and --size a power of two from 16 on".into());
        }
        Ok(work)
    }

    /// Does the work and prints its times; `started` is when the process did.
    pub fn run(&self, peer: &dyn Peer, started: Instant) -> Result<(), Error> {
        let Sizes { size, width, batch, .. } = self.sizes;
        let times = match self.what.as_str() {
            "step" => Times::take(peer.step(self.sizes)?, self.runs, started)?,
            "search" => Times::take(peer.search(self.sizes)?, self.runs, started)?,
            "ops" => return self.operations(peer, started),
            other => return Err(format!("no work {other}: step, search or ops").into()),
        };
        let document = json!({
            "peer": peer.name(),
            "what": self.what,
            "size": size,
            "width": width,
            "batch": batch,
            "threads": std::thread::available_parallelism()?.get(),
            "runs": self.runs,
            "ms_min": times.min,
            "ms_median": times.median,
            "cpu_ms": times.processor,
            "first_step_ms": times.first,
            "process_peak_bytes": peak_resident(),
            "images_per_second": 1e3 * batch as f64 / times.median,
            "loss": times.loss,
        });
        println!("{document}");
        Ok(())
    }

    fn operations<'a>(&self, peer: &'a dyn Peer, started: Instant) -> Result<(), Error> {
        let mut number = 0;
        let mut print = |what: String, prepare: &dyn Fn() -> Result<Step<'a>, Error>| -> Result<(), Error> {
            number += 1;
            if self.row.is_some_and(|row| row + 1 != number) {
                return Ok(());
            }
            let times = Times::take(prepare()?, self.runs, started)?;
            println!("{}", json!({ "what": what, "ms_min": times.min, "ms_median": times.median }));
            Ok(())
        };
        for transposed in [false, true] {
            for (low, high, size) in LAYERS {
                let (large, small) = ([BATCH, low, size, size], [BATCH, high, size / 2, size / 2]);
                let (name, x, y) =
                    if transposed { ("conv_transpose2d", small, large) } else { ("conv2d", large, small) };
                let conv = Conv { transposed, x, w: [high, low, 4, 4], y };
                print(format!("{name} {}->{} {}x{}", x[1], y[1], x[2], x[3]), &|| peer.conv(&conv))?;
            }
        }
        print("batch norm + leaky ReLU 128x16x16".into(), &|| peer.norm([BATCH, 128, 16, 16]))?;
        print("gemm 1024x1024x1024".into(), &|| peer.gemm(1024))
    }
}

/// Times in milliseconds.
struct Times {
    first: f64,
    min: f64,
    median: f64,
    processor: Option<f64>,
    loss: f32,
}

impl Times {
    /// Two runs to warm up, the first of which also ends the time since the start of the process.
    fn take(mut step: Step<'_>, runs: usize, started: Instant) -> Result<Self, Error> {
        step()?;
        let first = milliseconds(started);
        step()?;
        let before = processor_ms();
        let mut loss = 0.0;
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            loss = step()?;
            times.push(milliseconds(start));
        }
        let processor = processor_ms().zip(before).map(|(after, before)| (after - before) / runs as f64);
        times.sort_by(f64::total_cmp);
        let median = (times[(runs - 1) / 2] + times[runs / 2]) / 2.0;
        Ok(Self { first, min: times[0], median, processor, loss })
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Most memory that this process ever held, bytes; known on Linux.
fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Processor time of all threads so far, to ten milliseconds; known on Linux, which counts 100 ticks a
/// second.
fn processor_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) * 10.0)
}
