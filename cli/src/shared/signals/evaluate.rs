//! `eval --signal`: how well the test rows of a series are told apart.

use std::collections::{BTreeMap, HashMap};

use ganomede_datasets::SignalSet;
use serde::Serialize;

use crate::commands::eval;
use crate::commands::train::score_config;
use crate::shared::args::Global;
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::detect::{
    Alarm, Applied, BASELINES, POINT_FALSE_ALARM_RATE, PointTruths, alarm_rule, alarms, baseline_scores,
    losses, own_threshold, point_scores,
};
use ganomede::device::Device;
use ganomede::eval::Repeated;
use ganomede::eval::signal::{AlarmRule, SignalEvaluation, intervals, random_reference};
use ganomede::models::file::ModelFile;
use ganomede::report::{PlottedScores, PlottedSeries, SeriesReport, write_series_report};

/// K of PA%K, in percent.
pub(super) const K: f64 = 20.0;
/// Runs of the row of random scores.
pub(super) const RANDOM_RUNS: usize = 10;

/// `eval --json` of a series.
#[derive(Debug, Serialize)]
struct SeriesDocument {
    system: String,
    device: String,
    data: String,
    #[serde(flatten)]
    evaluation: SignalEvaluation,
    /// The same metrics of what needs no training, where rows were held out to set its threshold.
    baselines: BTreeMap<&'static str, SignalEvaluation>,
    /// The same metrics of random scores: what a number is worth.
    random: BTreeMap<&'static str, Repeated>,
    alarms: Vec<Alarm>,
    /// What was decided in reading the series.
    notes: Vec<String>,
    seconds_per_point: f64,
}

/// `metrics.json` of a series.
#[derive(Debug, Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    document: &'a SeriesDocument,
    /// Row of the first score.
    first_row: usize,
    scores: &'a [f64],
}

/// Refuses a series of which nothing is known.
pub(super) fn check_labelled(set: &SignalSet) -> Result<(), CliError> {
    if set.is_labelled() {
        return Ok(());
    }
    Err(CliError::input(format!(
        "nothing says which rows of '{}' are anomalous; give --labels FILE or --label-column; `ganomede score` works \
         without",
        set.spec()
    )))
}

/// Scores the test rows of a series and says how well they are told apart.
pub(crate) fn evaluate(
    args: &eval::Args,
    global: &Global,
    device: &Device,
    model: &ModelFile,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let path = &args.model.model;
    let ignored = [("--seeds", args.seeds > 1), ("--limit-test", args.limit_test.is_some())];
    if let Some((flag, _)) = ignored.iter().find(|(_, is_given)| *is_given) {
        return Err(CliError::input(format!(
            "{flag} is for images and tables; every row of a series is scored, with the model given: leave it out"
        )));
    }
    args.samples.check_stride(model.header.config.size)?;
    let set = args.samples.open_signal(&args.data.data, Some(model))?;
    check_labelled(&set)?;
    set.notes().iter().for_each(|text| note(text));
    let score = score_config(&args.search, model, path)?;
    let rows = set.test_rows();
    let started = std::time::Instant::now();
    let mut terminal = Terminal::new(interrupt);
    let mut applied = Applied { device, model, path, score: &score, observer: &mut terminal };
    let scores = point_scores(&mut applied, &set, rows.clone(), args.samples.stride)?;
    let seconds = started.elapsed().as_secs_f64();
    let rate = args.false_alarm_rate.unwrap_or(POINT_FALSE_ALARM_RATE);
    let threshold = own_threshold(model, &score, rate)?;
    let truths = PointTruths::of(&set);
    let rule = alarm_rule(model.header.config.size);
    let series = [truths.scored(&scores)];
    let evaluation = SignalEvaluation::new(&series, threshold.as_ref(), rule, K)?;
    let random = random_reference(&series, rate, rule, K, RANDOM_RUNS, global.seed)?;
    let (held_out, size) = (model.header.data.val_fraction, model.header.config.size);
    let mut baselines = BTreeMap::new();
    for (name, baseline) in BASELINES {
        if let Some((scores, quantiles)) = baseline_scores(baseline, &set, held_out, size)? {
            let series = [truths.scored(&scores)];
            let threshold = quantiles.threshold(rate)?;
            baselines.insert(name, SignalEvaluation::new(&series, Some(&threshold), rule, K)?);
        }
    }
    let alarms = threshold.as_ref().map_or(vec![], |t| alarms(&set, rows.start, &scores, t.value, rule));
    let document = SeriesDocument {
        system: model.header.system.clone(),
        device: device.describe(),
        data: args.data.data.clone(),
        evaluation,
        baselines,
        random: random.into_iter().collect(),
        alarms,
        notes: set.notes().to_vec(),
        seconds_per_point: seconds / scores.len().max(1) as f64,
    };
    let e = &document.evaluation;
    let baselines = document.baselines.iter().map(|(&name, e)| (name, e));
    let evaluations: Vec<_> = [(document.system.as_str(), e)].into_iter().chain(baselines).collect();
    let table = table_rows(&evaluations, &document.random);
    let points = format!("{}, {} of them anomalous in {} segments", e.n_points, e.n_anomalous, e.n_segments);
    if let Some(folder) = &args.report {
        let mut series = plotted(&set, &document.data);
        series.detectors = vec![said(&document.system, &scores, threshold.as_ref().map(|t| t.value), rule)];
        let page = SeriesReport {
            title: format!("{} on {}", document.system, document.data),
            facts: vec![
                ("system", document.system.clone()),
                ("device", document.device.clone()),
                ("data", document.data.clone()),
                ("points", points.clone()),
            ],
            columns: headings(),
            rows: table.clone(),
            series: vec![series],
            losses: losses(model),
        };
        let written = Written { document: &document, first_row: set.test_rows().start, scores: &scores };
        let text = serde_json::to_string_pretty(&written).map_err(|e| CliError::machine(e.to_string()))?;
        write_series_report(folder, &page, &text)?;
    }
    if global.json {
        return say_json(&document);
    }
    say(&format!("points: {points}"))?;
    say(markdown(&table).trim_end())?;
    document.alarms.iter().try_for_each(|alarm| say(&alarm.to_string()))
}

/// Columns of the tables on series: heading, name among [`SignalEvaluation::named`], decimals.
const COLUMNS: [(&str, &str, usize); 10] = [
    ("AUROC", "auroc", 3),
    ("plain F1", "threshold.f1.plain", 3),
    ("PA-F1", "threshold.f1.point_adjusted", 3),
    ("PA%20-F1", "threshold.f1.pa_k", 3),
    ("best plain F1 (oracle)", "oracle.plain", 3),
    ("best PA-F1 (oracle)", "oracle.point_adjusted", 3),
    ("segments found", "segment_recall", 3),
    ("false alarms per 10,000 points", "false_alarms_per_10k", 1),
    ("NAB", "nab.standard", 1),
    ("best NAB (oracle)", "oracle.nab.standard", 1),
];

/// Headings of the columns behind the name.
pub(super) fn headings() -> Vec<String> {
    COLUMNS.iter().map(|(heading, ..)| (*heading).to_owned()).collect()
}

/// The cells of one detector.
pub(super) fn cells(values: &HashMap<&str, Option<f64>>) -> Vec<String> {
    let cell = |(_, key, digits): &(&str, &str, usize)| {
        values.get(key).copied().flatten().map_or("–".to_owned(), |v| format!("{v:.digits$}"))
    };
    COLUMNS.iter().map(cell).collect()
}

/// As [`cells`], of metrics and of means over runs.
pub(super) fn table_rows(
    evaluations: &[(&str, &SignalEvaluation)],
    random: &BTreeMap<&'static str, Repeated>,
) -> Vec<(String, Vec<String>)> {
    let mut rows: Vec<_> = evaluations
        .iter()
        .map(|(name, e)| ((*name).to_owned(), cells(&e.named().into_iter().collect())))
        .collect();
    let means = random.iter().map(|(&name, repeated)| (name, Some(repeated.mean))).collect();
    rows.push(("random scores".to_owned(), cells(&means)));
    rows
}

/// The rows as a Markdown table.
pub(super) fn markdown(rows: &[(String, Vec<String>)]) -> String {
    let mut table =
        format!("| scores | {} |\n|---|{}\n", headings().join(" | "), "--:|".repeat(COLUMNS.len()));
    for (name, cells) in rows {
        table += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    table
}

/// The scored stretch of a series without any detector yet.
pub(super) fn plotted(set: &SignalSet, name: &str) -> PlottedSeries {
    let rows = set.test_rows();
    // Scaled as the systems see them: channels of different units on one axis.
    let value = |row: usize, c: usize| f64::from(set.scale().apply(c, set.series().row(row)[c]));
    let values = |c: usize| rows.clone().map(|row| value(row, c)).collect();
    let channels = set.series().channels.iter().enumerate();
    PlottedSeries {
        name: name.to_owned(),
        first: rows.start,
        channels: channels.map(|(c, name)| (name.clone(), values(c))).collect(),
        windows: PointTruths::of(set).segments.iter().map(|s| s.start..s.end).collect(),
        detectors: vec![],
    }
}

/// What a detector says, for [`plotted`].
pub(super) fn said(name: &str, scores: &[f64], threshold: Option<f64>, rule: AlarmRule) -> PlottedScores {
    let flagged: Vec<bool> = scores.iter().map(|&s| threshold.is_some_and(|t| s >= t)).collect();
    let alarms = stretches(&flagged, rule);
    PlottedScores { name: name.to_owned(), scores: scores.to_vec(), threshold, alarms }
}

fn stretches(flagged: &[bool], rule: AlarmRule) -> Vec<std::ops::Range<usize>> {
    intervals(flagged, rule).into_iter().map(|i| i.start..i.end).collect()
}
