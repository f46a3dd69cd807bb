//! `bench growth`: what an image costs in training, in time and memory, however many there are.

use std::sync::Arc;
use std::time::Instant;

use ganomede_datasets::{BatchOptions, Batches, Size, Split};
use serde::Serialize;

use super::ProgramArgs;
use super::loops::{header, open};
use super::timing::ProcessorClock;
use crate::shared::args::Global;
use crate::shared::programs::go_on;
use crate::shared::table::{TextTable, bytes, digits};
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::device::machine;
use ganomede::train::Trainer;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct GrowthArgs {
    #[command(flatten)]
    program: ProgramArgs,
    /// Images of the sets. Each is passed over until a tenth of the largest has been seen.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 10_000, 100_000], value_name = "N,N…",
        value_parser = parse_images)]
    images: Vec<usize>,
}

fn parse_images(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(images @ 1..=100_000_000) => Ok(images),
        _ => Err("a number of images is 1 to 100000000".to_owned()),
    }
}

/// One set.
#[derive(Debug, Clone, Serialize)]
struct GrowthRow {
    images: usize,
    /// Times that the set was passed over.
    passes: usize,
    /// Of opening the set and of all passes, decoding and starting each pass included.
    seconds: f64,
    /// Time of an image.
    us_per_image: f64,
    /// Processor time of an image, all threads: what a busy machine does not distort.
    cpu_us_per_image: Option<f64>,
    /// Largest memory of the process so far.
    process_peak_bytes: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
struct Growth {
    system: &'static str,
    device: String,
    size: Size,
    width: usize,
    batch: usize,
    sets: Vec<GrowthRow>,
}

/// Opens the set and trains on all of it `passes` times, as `train` does: shuffled, whole batches only.
fn passes(
    trainer: &mut Trainer,
    program: &ProgramArgs,
    images: usize,
    passes: usize,
    interrupt: &Interrupt,
) -> Result<GrowthRow, CliError> {
    let (started, clock) = (Instant::now(), ProcessorClock::start());
    let dataset = Arc::new(open(program, Split::Train, images)?);
    for epoch in 0..passes as u64 {
        let options = BatchOptions {
            batch: program.batch,
            epoch,
            shuffle: true,
            drop_last: true,
            ..BatchOptions::default()
        };
        for batch in Batches::new(dataset.clone(), Split::Train, dataset.all(Split::Train), options)? {
            go_on(interrupt)?;
            trainer.step(&batch?.images)?;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let seen = (images / program.batch * program.batch * passes) as f64;
    Ok(GrowthRow {
        images,
        passes,
        seconds,
        us_per_image: seconds / seen * 1e6,
        cpu_us_per_image: clock.elapsed_ms().map(|ms| ms / seen * 1e3),
        process_peak_bytes: machine::peak_resident(),
    })
}

pub(super) fn run(args: &GrowthArgs, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let program = &args.program;
    // Ascending, since the peak of the process never falls.
    let mut sizes = args.images.clone();
    sizes.sort_unstable();
    sizes.dedup();
    if let Some(small) = sizes.iter().find(|&&images| images < program.batch) {
        let batch = program.batch;
        return Err(CliError::input(format!(
            "--images {small} do not fill a batch of {batch}; give more, or a smaller --batch"
        )));
    }
    let device = global.open()?;
    let mut trainer = Trainer::new(&device, header(program, global.seed, &device)?, None, &[])?;
    let enough = sizes.last().map_or(0, |most| most / 10);
    // Warms caches and threads; not counted.
    passes(&mut trainer, program, program.batch, 4, interrupt)?;
    let mut sets: Vec<GrowthRow> = vec![];
    for images in sizes {
        let row = passes(&mut trainer, program, images, enough.div_ceil(images).max(1), interrupt)?;
        note(&format!("{images} images: {} µs an image", digits(row.us_per_image)));
        sets.push(row);
    }
    let config = program.sizes.config();
    let growth = Growth {
        system: program.system.name(),
        device: device.describe(),
        size: config.size,
        width: config.width,
        batch: program.batch,
        sets,
    };
    if global.json { say_json(&growth) } else { say(&growth.text()) }
}

impl Growth {
    fn text(&self) -> String {
        let mut table = TextTable::new(&[
            ">images",
            ">passes",
            ">seconds",
            ">µs/image",
            ">of the first",
            ">processor µs/image",
            ">memory",
        ]);
        let first = self.sets.first().map_or(f64::NAN, |row| row.us_per_image);
        for row in &self.sets {
            table.row([
                row.images.to_string(),
                row.passes.to_string(),
                digits(row.seconds),
                digits(row.us_per_image),
                format!("{:.3}", row.us_per_image / first),
                row.cpu_us_per_image.map_or(String::new(), digits),
                row.process_peak_bytes.map_or(String::new(), bytes),
            ]);
        }
        format!(
            "{} training on {}, size {}, width {}, batch {}, built-in scans drawn as they are needed\n{}",
            self.system,
            self.device,
            self.size,
            self.width,
            self.batch,
            table.text()
        )
    }
}
