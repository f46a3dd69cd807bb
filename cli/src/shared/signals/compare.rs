//! `compare --signal`: every system on every series, the series pooled, with rows for what needs no training
//! at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ganomede_datasets::{DataError, SignalSet, Windows};
use ganomede_host::line;
use serde::Serialize;

use super::SampleArgs;
use super::evaluate::{K, RANDOM_RUNS, check_labelled, headings, markdown, plotted, said, table_rows};
use crate::commands::compare::Args;
use crate::commands::train::{score_config, train_model};
use crate::shared::args::Global;
use crate::shared::programs::System;
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json, shown};
use ganomede::detect::{
    Applied, BASELINES, POINT_FALSE_ALARM_RATE, PointTruths, alarm_rule, baseline_scores, point_scores,
};
use ganomede::device::Device;
use ganomede::eval::signal::{SignalEvaluation, random_reference};
use ganomede::eval::{Quantiles, Repeated, Threshold};
use ganomede::report::{PlottedSeries, SeriesReport, write_section, write_series_report};

/// A system on one series of a comparison: scores on a scale where the median held-out point is 0 and the
/// threshold 1, so that series can be pooled.
struct OnSeries {
    scores: Vec<f64>,
    truths: PointTruths,
}

fn normalised(scores: Vec<f64>, quantiles: &Quantiles, rate: f64) -> Result<Vec<f64>, CliError> {
    let median = quantiles.quantile(0.5);
    let threshold = quantiles.threshold(rate)?.value;
    let span = (threshold - median).max(f64::MIN_POSITIVE);
    Ok(scores.into_iter().map(|s| (s - median) / span).collect())
}

fn no_held_out() -> CliError {
    CliError::input("a comparison of series needs held-out rows: --val-fraction above 0")
}

/// The CSV files of a folder in order of their names, or the one series that is given.
fn series_of(spec: &str) -> Result<Vec<String>, CliError> {
    let folder = Path::new(spec);
    if !folder.is_dir() || folder.join("train.csv").is_file() {
        return Ok(vec![spec.to_owned()]);
    }
    let refused = |e: std::io::Error| CliError::machine(format!("cannot read folder '{spec}': {e}"));
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(CliError::input(format!("the folder '{spec}' holds no CSV file")));
    }
    Ok(files)
}

/// Makes sure before any training that each series has rows enough to train on, to hold out and to score.
fn check(sets: &[SignalSet], size: usize, val_fraction: f64) -> Result<(), CliError> {
    for set in sets {
        let place = |e: DataError| CliError::input(format!("'{}': {e}", set.spec()));
        let (training, held_out) = set.holdout(val_fraction, size)?;
        if held_out.is_empty() {
            return Err(no_held_out());
        }
        for rows in [training, held_out, set.test_rows()] {
            Windows::new(rows, size, 1).map_err(place)?;
        }
        set.notes().iter().for_each(|text| note(&format!("{}: {text}", set.spec())));
    }
    Ok(())
}

/// `compare --signal`: every system on every series, the series pooled, with rows for what needs no training
/// at all.
pub(crate) fn compare(
    args: &Args,
    systems: &[System],
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let files = series_of(&args.data.data)?;
    let rate = args.false_alarm_rate.unwrap_or(POINT_FALSE_ALARM_RATE);
    let rule = alarm_rule(args.preprocess.size);
    let mut evaluations: Vec<(String, SignalEvaluation)> = vec![];
    let sets = files.iter().map(|file| args.samples.open_signal(file, None));
    let sets: Vec<_> = sets.collect::<Result<_, _>>()?;
    sets.iter().try_for_each(check_labelled)?;
    args.samples.check_stride(args.preprocess.size)?;
    for channels in sets.iter().map(SignalSet::channels).collect::<BTreeSet<_>>() {
        args.check_systems(systems, global.seed, Some(channels))?;
    }
    check(&sets, args.preprocess.size, args.val_fraction)?;
    let mut plots: Vec<PlottedSeries> =
        sets.iter().zip(&files).map(|(set, file)| plotted(set, file)).collect();
    let mut add = |name: String, all: &[OnSeries]| -> Result<(), CliError> {
        let series: Vec<_> = all.iter().map(|s| s.truths.scored(&s.scores)).collect();
        let threshold = Threshold { value: 1.0, source: "held-out normal points of each series".to_owned() };
        for (plot, on) in plots.iter_mut().zip(all) {
            plot.detectors.push(said(&name, &on.scores, Some(threshold.value), rule));
        }
        evaluations.push((name, SignalEvaluation::new(&series, Some(&threshold), rule, K)?));
        Ok(())
    };
    for &system in systems {
        let trained = on_all(args, system, &files, false, rate, global, device, interrupt)?;
        add(system.name().to_owned(), &trained)?;
    }
    if let Some(&first) = systems.iter().find(|s| s.info.name != "pca" && s.info.name != "gmm") {
        let untrained = on_all(args, first, &files, true, rate, global, device, interrupt)?;
        add(format!("{} untrained", first.name()), &untrained)?;
    }
    for (name, baseline) in BASELINES {
        let mut all = vec![];
        for set in &sets {
            let scored = baseline_scores(baseline, set, args.val_fraction, args.preprocess.size)?;
            let (scores, quantiles) = scored.ok_or_else(no_held_out)?;
            all.push(OnSeries {
                scores: normalised(scores, &quantiles, rate)?,
                truths: PointTruths::of(set),
            });
        }
        add(name.to_owned(), &all)?;
    }
    let truths: Vec<_> = sets.iter().map(PointTruths::of).collect();
    let unscored: Vec<_> = truths.iter().map(|truths| truths.scored(&[])).collect();
    let random = random_reference(&unscored, rate, rule, K, RANDOM_RUNS, global.seed)?;

    let random: BTreeMap<_, _> = random.into_iter().collect();
    let by_name: Vec<_> = evaluations.iter().map(|(name, e)| (name.as_str(), e)).collect();
    let rows = table_rows(&by_name, &random);
    let (first, size) = (&evaluations[0].1, args.preprocess.size);
    let data = format!(
        "{} ({} series, {} test points, {} anomalous)",
        args.data.data,
        files.len(),
        first.n_points,
        first.n_anomalous
    );
    let table = format!(
        "Data: {data}. Windows of {size}, threshold at {rate} false alarms on held-out normal points.\n\n{}",
        markdown(&rows)
    );
    if let Some(file) = &args.markdown {
        write_section(file, &args.section, &table)?;
    }
    let document = SeriesComparison {
        data: &args.data.data,
        series: &files,
        rows: evaluations.iter().map(|(scores, evaluation)| SeriesRow { scores, evaluation }).collect(),
        random,
    };
    let written = Written { comparison: &document, points: plots.iter().map(Points::of).collect() };
    let text = serde_json::to_string(&written).map_err(|e| CliError::machine(e.to_string()))?;
    let page = SeriesReport {
        title: format!("{} systems on {}", systems.len(), args.data.data),
        facts: vec![
            ("data", data),
            ("device", device.describe()),
            ("windows", format!("{size} points")),
            ("scores", "0 at the median held-out point, 1 at the threshold".to_owned()),
        ],
        columns: headings(),
        rows,
        series: plots,
        losses: vec![],
    };
    let [page, _] = write_series_report(&args.report, &page, &text)?;
    if global.json {
        return say_json(&document);
    }
    say(table.trim_end())?;
    say(&format!("report: {}", shown(&page)))
}

/// `metrics.json`: what is printed, and every score.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    comparison: &'a SeriesComparison<'a>,
    points: Vec<Points<'a>>,
}

/// The scores along a series.
#[derive(Serialize)]
struct Points<'a> {
    series: &'a str,
    /// Row of the first score.
    first_row: usize,
    /// By detector; single precision is more than they have.
    scores: BTreeMap<&'a str, Vec<f32>>,
}

impl<'a> Points<'a> {
    fn of(plot: &'a PlottedSeries) -> Self {
        let scores =
            plot.detectors.iter().map(|d| (d.name.as_str(), d.scores.iter().map(|&s| s as f32).collect()));
        Self { series: &plot.name, first_row: plot.first, scores: scores.collect() }
    }
}

#[derive(Serialize)]
struct SeriesComparison<'a> {
    data: &'a str,
    series: &'a [String],
    rows: Vec<SeriesRow<'a>>,
    random: BTreeMap<&'static str, Repeated>,
}

#[derive(Serialize)]
struct SeriesRow<'a> {
    scores: &'a str,
    #[serde(flatten)]
    evaluation: &'a SignalEvaluation,
}

/// Trains a system on each of the series and scores its test rows.
fn on_all(
    args: &Args,
    system: System,
    files: &[String],
    untrained: bool,
    rate: f64,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<Vec<OnSeries>, CliError> {
    let mut all = vec![];
    for (i, file) in files.iter().enumerate() {
        note(&format!("{} on series {} of {}: {}", system.name(), i + 1, files.len(), line(file)));
        let name = if untrained { "untrained" } else { system.name() };
        let path = args.report.join(format!("{name}-{}.safetensors", i + 1));
        let mut training = args.training(system, &path)?;
        training.data.data = file.clone();
        training.samples_from = SampleArgs { signal: true, ..args.samples.clone() };
        if untrained {
            (training.steps, training.minutes) = (Some(1), None);
            training.lr = Some(1e-12);
        }
        let (_, model) = train_model(&training, global, device, interrupt)?;
        let set = args.samples.open_signal(file, Some(&model))?;
        let score = score_config(&args.search, &model, &path)?;
        let rows = set.test_rows();
        let truths = PointTruths::of(&set);
        let mut terminal = Terminal::new(interrupt);
        let mut applied =
            Applied { device, model: &model, path: &path, score: &score, observer: &mut terminal };
        let scores = point_scores(&mut applied, &set, rows, args.samples.stride)?;
        let calibration = model.header.calibration.as_ref().ok_or_else(no_held_out)?;
        all.push(OnSeries { scores: normalised(scores, &calibration.quantiles, rate)?, truths });
    }
    Ok(all)
}
