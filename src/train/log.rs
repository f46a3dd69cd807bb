//! `--log`: what a training does, for TensorBoard and for scripts.
//!
//! An event file is a sequence of records (length, its checksum, data, its checksum), each a protocol buffer:
//! <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>. The few
//! fields that are needed are written here; crates for it bring a compiler of protocol buffers.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ganomede_datasets::files;
use image::RgbImage;
use serde::Serialize;

use super::Tick;
use crate::models::file::NamedTensor;
use crate::report::{ReportError, encode_png, write_atomic};

/// Name of the file with a JSON document a line.
const LINES: &str = "steps.jsonl";
/// Bytes of such a file that a resumed training reads.
const MAX_BYTES: u64 = 1 << 30;
/// Bars of a histogram.
const BARS: usize = 30;
/// Seconds after which what was written can be read.
const FLUSH_S: f64 = 1.0;

/// The log of one training, in a folder of its own.
pub(super) struct Log {
    events: BufWriter<File>,
    events_path: PathBuf,
    lines: BufWriter<File>,
    lines_path: PathBuf,
    flushed: Instant,
}

#[derive(Serialize)]
struct Line<'a> {
    step: u64,
    epoch: f64,
    stage: &'a str,
    seconds: f64,
    losses: serde_json::Map<String, serde_json::Value>,
}

/// An event file that is new: of the second and process that open it, and numbered where both have one.
fn new_events(folder: &Path) -> std::io::Result<(File, PathBuf)> {
    let name = format!("events.out.tfevents.{}.{}", now() as u64, std::process::id());
    let mut path = folder.join(&name);
    let mut number = 0;
    loop {
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            opened => return Ok((opened?, path)),
        }
        path = folder.join(format!("{name}.{number}"));
    }
}

impl Log {
    /// Opens the log of a training that has done `step` steps: a new event file, and the lines up to there.
    pub(super) fn open(folder: &Path, step: u64) -> Result<Self, ReportError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReportError::Write { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let lines_path = folder.join(LINES);
        write_atomic(&lines_path, kept(&lines_path, step).as_bytes())?;
        let lines = OpenOptions::new().append(true).open(&lines_path).map_err(failed(&lines_path))?;
        let (events, events_path) = new_events(folder).map_err(failed(folder))?;
        let mut log = Self {
            events: BufWriter::new(events),
            events_path,
            lines: BufWriter::new(lines),
            lines_path,
            flushed: Instant::now(),
        };
        let version = event(step, |event| event.bytes(3, b"brain.Event:2"));
        log.write(&version)?;
        Ok(log)
    }

    /// The losses of a step, of fewer and fewer steps as there are more.
    pub(super) fn losses(&mut self, news: &Tick<'_>) -> Result<(), ReportError> {
        if !is_due(news.step, 1000) {
            return Ok(());
        }
        let epoch = news.step as f64 / news.steps_per_epoch.max(1) as f64;
        let mut losses = serde_json::Map::new();
        for &(name, value) in news.losses {
            losses.insert(name.to_owned(), f64::from(value).into());
            self.write(&summary(news.step, |entry| {
                entry.bytes(1, format!("losses/{name}").as_bytes());
                entry.float(2, value);
            }))?;
        }
        self.write(&summary(news.step, |entry| {
            entry.bytes(1, b"epoch");
            entry.float(2, epoch as f32);
        }))?;
        let line = Line { step: news.step, epoch, stage: news.stage, seconds: news.seconds, losses };
        let failed = |source| ReportError::Write { path: self.lines_path.clone(), source };
        let text = serde_json::to_string(&line).map_err(|e| ReportError::Picture(e.to_string()))?;
        writeln!(self.lines, "{text}").map_err(failed)?;
        if self.flushed.elapsed().as_secs_f64() >= FLUSH_S { self.flush() } else { Ok(()) }
    }

    /// A picture, after an epoch.
    pub(super) fn image(&mut self, step: u64, name: &str, image: &RgbImage) -> Result<(), ReportError> {
        let png = encode_png(image)?;
        self.write(&summary(step, |entry| {
            entry.bytes(1, name.as_bytes());
            entry.message(4, |picture| {
                picture.integer(1, u64::from(image.height()));
                picture.integer(2, u64::from(image.width()));
                picture.integer(3, 3); // RGB
                picture.bytes(4, &png);
            });
        }))
    }

    /// How the values of each tensor are spread.
    pub(super) fn histograms(&mut self, step: u64, tensors: &[NamedTensor]) -> Result<(), ReportError> {
        let is_shown = |t: &&NamedTensor| t.values.len() > 1 && !t.name.starts_with("random.");
        for tensor in tensors.iter().filter(is_shown) {
            let Some(histogram) = Histogram::of(&tensor.values) else { continue };
            self.write(&summary(step, |entry| {
                entry.bytes(1, format!("weights/{}", tensor.name.replace('.', "/")).as_bytes());
                entry.message(5, |field| histogram.write(field));
            }))?;
        }
        Ok(())
    }

    /// Lets readers see all that was written.
    pub(super) fn flush(&mut self) -> Result<(), ReportError> {
        self.flushed = Instant::now();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReportError::Write { path, source }
        };
        self.events.flush().map_err(failed(&self.events_path))?;
        self.lines.flush().map_err(failed(&self.lines_path))
    }

    fn write(&mut self, event: &[u8]) -> Result<(), ReportError> {
        let failed = |source| ReportError::Write { path: self.events_path.clone(), source };
        self.events.write_all(&record(event)).map_err(failed)
    }
}

/// Whether a count is one of those that are told: all up to `most`, then every tenth, and so on.
pub(super) fn is_due(count: u64, most: u64) -> bool {
    let mut every = 1;
    while count / every >= most {
        every *= 10;
    }
    count.is_multiple_of(every)
}

/// The lines of an earlier part of the training, up to a step.
fn kept(path: &Path, step: u64) -> String {
    if step == 0 {
        return String::new();
    }
    let text = files::read_limited(path, MAX_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let is_kept = |line: &&str| {
        let step_of = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64();
        step_of(line).is_some_and(|at| at <= step)
    };
    text.unwrap_or_default().lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
}

/// Values in equally wide bars.
struct Histogram {
    low: f64,
    high: f64,
    sum: f64,
    squares: f64,
    counts: Vec<f64>,
}

impl Histogram {
    /// `None` where a value is not finite.
    fn of(values: &[f32]) -> Option<Self> {
        let wide = || values.iter().map(|&v| f64::from(v));
        let (low, high) = wide().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if !(low.is_finite() && high.is_finite()) || wide().any(f64::is_nan) {
            return None;
        }
        let mut counts = vec![0.0; BARS];
        for value in wide() {
            let share = if high > low { (value - low) / (high - low) } else { 0.0 };
            counts[((share * BARS as f64) as usize).min(BARS - 1)] += 1.0;
        }
        Some(Self { low, high, sum: wide().sum(), squares: wide().map(|v| v * v).sum(), counts })
    }

    fn write(&self, message: &mut Message) {
        let end = |i: usize| match i + 1 == BARS {
            true => self.high.max(self.low + f64::MIN_POSITIVE),
            false => self.low + (self.high - self.low) * (i + 1) as f64 / BARS as f64,
        };
        message.double(1, self.low);
        message.double(2, self.high);
        message.double(3, self.counts.iter().sum());
        message.double(4, self.sum);
        message.double(5, self.squares);
        message.doubles(6, (0..BARS).map(end));
        message.doubles(7, self.counts.iter().copied());
    }
}

/// An event with one entry of a summary.
fn summary(step: u64, entry: impl FnOnce(&mut Message)) -> Vec<u8> {
    event(step, |event| event.message(5, |summary| summary.message(1, entry)))
}

fn event(step: u64, what: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, now());
    event.integer(2, step);
    what(&mut event);
    event.0
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

/// A record of an event file.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let check = |bytes: &[u8]| masked(crc32c(bytes)).to_le_bytes();
    [&length[..], &check(&length), data, &check(data)].concat()
}

/// A checksum of data that may hold checksums.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit from a table of bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut crc, mut bit) = (i as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ crc >> 8)
}

/// A protocol buffer under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn doubles(&mut self, field: u64, values: impl Iterator<Item = f64>) {
        self.bytes(field, &values.flat_map(f64::to_le_bytes).collect::<Vec<_>>());
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::file::Storage;

    /// The records of an event file, each checked.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = vec![];
        while !bytes.is_empty() {
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(word(8), masked(crc32c(&bytes[..8])));
            let data = &bytes[12..12 + length];
            assert_eq!(word(12 + length), masked(crc32c(data)));
            records.push(data.to_vec());
            bytes = &bytes[16 + length..];
        }
        records
    }

    /// The fields of a message: number and value; numbers as their bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (byte, rest) = bytes.split_first().unwrap();
                *bytes = rest;
                value |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            value
        }
        let mut fields = vec![];
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    fields.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                5 => 4,
                _ => varint(&mut bytes) as usize,
            };
            fields.push((key >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        fields
    }

    fn field(bytes: &[u8], number: u64) -> Vec<u8> {
        fields(bytes).into_iter().find(|(n, _)| *n == number).expect("field").1
    }

    fn events_in(folder: &Path) -> Vec<u8> {
        let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
        let events = files.filter(|path| path.to_string_lossy().contains("tfevents"));
        std::fs::read(events.max().unwrap()).unwrap()
    }

    #[test]
    fn checksums_are_castagnolis() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    #[test]
    fn what_is_logged_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("log");
        let mut log = Log::open(&at, 0).unwrap();
        let tick = |step, losses| Tick {
            step,
            stage: "gan",
            steps_per_epoch: 4,
            total: None,
            seconds: 0.5 * step as f64,
            losses,
        };
        for step in 1..=3 {
            log.losses(&tick(step, &[("loss_d", 1.5), ("loss_g", -2.0)])).unwrap();
        }
        log.image(3, "samples", &RgbImage::new(5, 2)).unwrap();
        let values = vec![-1.0, 0.0, 0.5, 1.0];
        let tensor =
            NamedTensor { name: "generator.in.weight".into(), shape: vec![4], values, storage: Storage::F32 };
        log.histograms(3, &[tensor]).unwrap();
        log.flush().unwrap();

        let records = records(&events_in(&at));
        assert_eq!(field(&records[0], 3), b"brain.Event:2");
        assert_eq!(records.len(), 1 + 3 * 3 + 2);
        let entry = |record: &[u8]| field(&field(record, 5), 1);
        let second = &records[1 + 3 + 1];
        assert_eq!(field(second, 2), 2u64.to_le_bytes());
        assert_eq!(
            (field(&entry(second), 1), field(&entry(second), 2)),
            (b"losses/loss_g".to_vec(), (-2.0f32).to_le_bytes().to_vec())
        );
        let picture = field(&entry(&records[10]), 4);
        assert_eq!((field(&picture, 1)[0], field(&picture, 2)[0]), (2, 5));
        assert_eq!(image::load_from_memory(&field(&picture, 4)).unwrap().into_rgb8().dimensions(), (5, 2));
        let (tag, histogram) = (field(&entry(&records[11]), 1), field(&entry(&records[11]), 5));
        assert_eq!(tag, b"weights/generator/in/weight");
        let doubles = |number| -> Vec<f64> {
            field(&histogram, number).chunks(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect()
        };
        assert_eq!([1, 2, 3, 4, 5].map(|n| doubles(n)[0]), [-1.0, 1.0, 4.0, 0.5, 2.25]);
        assert_eq!(
            (doubles(6).len(), doubles(6)[BARS - 1], doubles(7).iter().sum::<f64>()),
            (BARS, 1.0, 4.0)
        );

        // A training that goes on from step 2 takes the lines up to there.
        drop(log);
        let mut log = Log::open(&at, 2).unwrap();
        log.losses(&tick(3, &[("loss_d", 9.0)])).unwrap();
        log.flush().unwrap();
        let lines = std::fs::read_to_string(at.join(LINES)).unwrap();
        let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let steps: Vec<_> = lines.iter().map(|l| l["step"].as_u64().unwrap()).collect();
        assert_eq!((steps, &lines[2]["losses"]["loss_d"]), (vec![1, 2, 3], &9.0.into()));
        assert_eq!((&lines[1]["epoch"], &lines[1]["stage"]), (&0.5.into(), &"gan".into()));
    }

    #[test]
    fn long_trainings_are_told_in_fewer_steps() {
        let due = |range: std::ops::Range<u64>| range.filter(|&s| is_due(s, 1000)).count();
        assert_eq!((due(1..1000), due(1000..10_000), due(10_000..100_000)), (999, 900, 900));
    }

    #[test]
    fn weights_that_are_not_finite_have_no_histogram() {
        assert!(Histogram::of(&[1.0, f32::NAN]).is_none() && Histogram::of(&[f32::INFINITY]).is_none());
        assert_eq!(Histogram::of(&[2.0; 5]).unwrap().counts[0], 5.0);
    }
}
