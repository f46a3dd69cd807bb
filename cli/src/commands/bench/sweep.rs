//! `--sweep`: the same program over batches, sizes and widths, as CSV and as a plot.

use std::path::PathBuf;
use std::time::Instant;

use ganomede_datasets::Reads;

use super::timing::Timing;
use super::{Args, ProgramArgs, bench_program, device_peaks};
use crate::shared::args::Global;
use crate::shared::programs::{Which, go_on, parse_batch};
use crate::shared::session::check_file;
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::device::Device;
use ganomede::report::{PlotLine, line_plot_svg, write_atomic};

/// Options of a sweep.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SweepArgs {
    /// Measure at each of these batches, sizes or widths; several sweeps make every combination. CSV goes to
    /// stdout.
    #[arg(long, global = true, value_name = "batch|size|width=N,N…", value_parser = parse)]
    sweep: Vec<Sweep>,
    /// Write the CSV of a sweep to this file.
    #[arg(long, global = true, value_name = "F.csv")]
    csv: Option<PathBuf>,
    /// Draw milliseconds per image over the sweep with most values; the others are lines.
    #[arg(long, global = true, value_name = "F.svg")]
    plot: Option<PathBuf>,
}

impl SweepArgs {
    pub(super) fn is_asked(&self) -> bool {
        !self.sweep.is_empty() || self.csv.is_some() || self.plot.is_some()
    }
}

/// What is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Batch,
    Size,
    Width,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Size => "size",
            Self::Width => "width",
        }
    }
}

/// `batch=1,8,64`.
#[derive(Debug, Clone)]
struct Sweep {
    axis: Axis,
    values: Vec<usize>,
}

/// Points of all sweeps together.
const MOST_POINTS: usize = 1000;

fn parse(text: &str) -> Result<Sweep, String> {
    let how = "write batch=1,8,64, size=32,64 or width=32,64";
    let (name, list) = text.split_once('=').ok_or(how)?;
    let axis = [Axis::Batch, Axis::Size, Axis::Width].into_iter().find(|axis| axis.name() == name);
    let axis = axis.ok_or_else(|| format!("'{name}' cannot be swept; {how}"))?;
    let number = |part: &str| parse_batch(part.trim()).map_err(|_| format!("'{part}' is no {name}; {how}"));
    let mut values: Vec<usize> = vec![];
    for value in list.split(',').map(number) {
        let value = value?;
        if values.contains(&value) {
            return Err(format!("{value} is given twice"));
        }
        values.push(value);
    }
    Ok(Sweep { axis, values })
}

/// A program with one value of each sweep.
type Point = (Vec<usize>, ProgramArgs);

/// Every combination, the last sweep changing fastest.
fn points(sweeps: &[Sweep], program: &ProgramArgs) -> Result<Vec<Point>, CliError> {
    if let Some(twice) = (1..sweeps.len()).find(|&i| sweeps[..i].iter().any(|s| s.axis == sweeps[i].axis)) {
        let name = sweeps[twice].axis.name();
        return Err(CliError::input(format!("--sweep {name} is given twice; put all values into one list")));
    }
    let count: usize = sweeps.iter().map(|s| s.values.len()).product();
    if sweeps.is_empty() || count > MOST_POINTS {
        return Err(CliError::input(match count {
            _ if sweeps.is_empty() => "--csv and --plot show a sweep; add --sweep batch=1,8,64".to_owned(),
            _ => format!("the sweeps have {count} combinations, more than {MOST_POINTS}"),
        }));
    }
    let mut points: Vec<Point> = vec![(vec![], program.clone())];
    for sweep in sweeps {
        let with = |(values, program): &Point, value: usize| {
            let (mut values, mut program) = (values.clone(), program.clone());
            match sweep.axis {
                Axis::Batch => program.batch = value,
                Axis::Size => program.sizes.size = value.into(),
                Axis::Width => program.sizes.width = value,
            }
            values.push(value);
            (values, program)
        };
        points = points.iter().flat_map(|p| sweep.values.iter().map(move |&v| with(p, v))).collect();
    }
    points.iter().try_for_each(|(_, program)| Ok(program.sizes.config().check()?)).map(|()| points)
}

pub(super) fn run(
    which: Which,
    program: &ProgramArgs,
    args: &Args,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    args.shaders.refuse("a sweep")?;
    let sweeps = &args.sweep.sweep;
    let points = points(sweeps, program)?;
    let files = args.sweep.csv.iter().chain(&args.sweep.plot);
    files.into_iter().try_for_each(|path| check_file(path, &Reads::new()))?;
    let peaks = device_peaks(device);
    let mut found: Vec<(Vec<usize>, Timing)> = vec![];
    let mut first_fault = None;
    for (values, program) in &points {
        go_on(interrupt)?;
        let at: Vec<String> =
            sweeps.iter().zip(values).map(|(s, value)| format!("{} {value}", s.axis.name())).collect();
        match bench_program(which, program, args, global, device, Instant::now(), interrupt) {
            Ok(timing) => {
                let timing = timing.with_peaks(peaks.as_ref());
                note(&format!("{}: {}", at.join(", "), timing.brief()));
                found.push((values.clone(), timing));
            }
            Err(error) if error.code == 130 => return Err(error),
            // A point that does not fit the device's memory takes nothing from the others.
            Err(error) => {
                note(&format!("{}: left out: {}", at.join(", "), error.message));
                first_fault.get_or_insert(error);
            }
        }
    }
    let left_out = points.len() - found.len();
    let ended = match first_fault {
        None => Ok(()),
        Some(error) if found.is_empty() => return Err(error),
        Some(error) => Err(CliError::machine(format!(
            "{left_out} of {} points were left out; the first: {}",
            points.len(),
            error.message
        ))),
    };
    let timings: Vec<&Timing> = found.iter().map(|(_, timing)| timing).collect();
    let csv = csv(&timings);
    if let Some(path) = &args.sweep.csv {
        write_atomic(path, csv.as_bytes())?;
        note(&format!("table: {}", path.display()));
    }
    if let Some(path) = &args.sweep.plot {
        write_atomic(path, plot(which, sweeps, &found, device)?.as_bytes())?;
        note(&format!("plot: {}", path.display()));
    }
    match (global.json, &args.sweep.csv) {
        (true, _) => say_json(&timings)?,
        (false, None) => say(csv.trim_end())?,
        (false, Some(_)) => {}
    }
    ended
}

fn csv(timings: &[&Timing]) -> String {
    let mut text = String::new();
    for (i, timing) in timings.iter().enumerate() {
        let fields = timing.fields();
        if i == 0 {
            text += &(fields.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",") + "\n");
        }
        text += &(fields.into_iter().map(|(_, value)| quoted(value)).collect::<Vec<_>>().join(",") + "\n");
    }
    text
}

/// A field of a CSV line (RFC 4180).
fn quoted(value: String) -> String {
    if value.contains([',', '"', '\n']) { format!("\"{}\"", value.replace('"', "\"\"")) } else { value }
}

/// Milliseconds per image over the sweep with most values, a line for each combination of the others.
fn plot(
    which: Which,
    sweeps: &[Sweep],
    found: &[(Vec<usize>, Timing)],
    device: &Device,
) -> Result<String, CliError> {
    let along = (0..sweeps.len()).rev().max_by_key(|&i| sweeps[i].values.len()).unwrap_or(0);
    let mut lines: Vec<PlotLine> = vec![];
    for (values, timing) in found {
        let others = sweeps.iter().zip(values).enumerate().filter(|(i, _)| *i != along);
        let name: Vec<String> = others.map(|(_, (s, value))| format!("{} {value}", s.axis.name())).collect();
        let (name, point) = (name.join(", "), (values[along] as f64, timing.ms_per_image()));
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(PlotLine { name, points: vec![point] }),
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    let what = if which == Which::Step { "training step" } else { "z-step" };
    let kind = crate::shared::ready::names(device).0;
    let title = format!("{what} on {kind}");
    Ok(line_plot_svg(&title, sweeps[along].axis.name(), "milliseconds per image", &lines)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_and_mistakes_named() {
        let sweep = parse("batch=1, 8,64").unwrap();
        assert_eq!((sweep.axis, sweep.values), (Axis::Batch, vec![1, 8, 64]));
        for (text, fault) in [
            ("batch", "batch=1,8"),
            ("depth=3", "'depth'"),
            ("batch=1,x", "'x'"),
            ("width=4,4", "twice"),
            ("size=", "''"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(fault), "{message}");
        }
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(quoted("plain".to_owned()), "plain");
        assert_eq!(quoted("a \"b\", c".to_owned()), "\"a \"\"b\"\", c\"");
    }
}
