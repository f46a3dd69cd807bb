//! `score` of a series: a row for each point, then the alarms.

use std::path::PathBuf;

use ganomede_host::line;
use serde::Serialize;

use crate::commands::score::{Args, check_paths};
use crate::commands::train::score_config;
use crate::shared::args::Global;
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::detect::{
    Alarm, Applied, POINT_FALSE_ALARM_RATE, alarm_rule, alarms, open_to_score, own, own_threshold,
    point_scores,
};
use ganomede::models::file::ModelFile;

#[derive(Debug, Serialize)]
struct Document {
    model: PathBuf,
    device: String,
    threshold: Option<f64>,
    series: Vec<Scored>,
}

#[derive(Debug, Serialize)]
struct Scored {
    path: String,
    /// Row of the first score.
    first_row: usize,
    scores: Vec<f64>,
    /// Share of normal points below each score; null without a calibration.
    probabilities: Option<Vec<f64>>,
    alarms: Vec<Alarm>,
    /// What was decided in reading.
    notes: Vec<String>,
    #[serde(skip)]
    times: Vec<String>,
}

/// Scores every row of CSV files (the test rows of sets that have both), labels or not.
pub(crate) fn score(
    args: &Args,
    global: &Global,
    model: &ModelFile,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let path = &args.model.model;
    if args.maps.is_some() {
        return Err(CliError::input("--maps draws images; points of a series are numbers, leave it out"));
    }
    if args.limit_test.is_some() {
        return Err(CliError::input(
            "--limit-test is for images and tables; every row of a series is scored",
        ));
    }
    if args.split.is_some() {
        return Err(CliError::input(
            "--split is for images and tables; of a series the test rows are scored, of a single file all: leave it out",
        ));
    }
    args.samples.check_stride(model.header.config.size)?;
    check_paths(&args.paths)?;
    let score = score_config(&args.search, model, path)?;
    let device = global.open()?;
    let calibration = own(model, &score);
    if calibration.is_none() {
        note("no calibration for these score settings: points come without probability and verdict");
    }
    let rate = args.false_alarm_rate.unwrap_or(POINT_FALSE_ALARM_RATE);
    let threshold = own_threshold(model, &score, rate)?;
    let mut series = vec![];
    for spec in &args.paths {
        let set = open_to_score(spec, model, args.samples.signal_options())?;
        set.notes().iter().for_each(|text| note(&format!("{spec}: {text}")));
        let rows = set.test_rows();
        let stride = args.samples.stride;
        let mut terminal = Terminal::new(interrupt);
        let mut applied = Applied { device: &device, model, path, score: &score, observer: &mut terminal };
        let scores = point_scores(&mut applied, &set, rows.clone(), stride)?;
        let rule = alarm_rule(model.header.config.size);
        series.push(Scored {
            path: spec.clone(),
            first_row: rows.start,
            alarms: threshold.as_ref().map_or(vec![], |t| alarms(&set, rows.start, &scores, t.value, rule)),
            probabilities: calibration.map(|c| scores.iter().map(|&s| c.quantiles.probability(s)).collect()),
            notes: set.notes().to_vec(),
            times: rows
                .map(|row| set.series().time(row).map_or_else(|| row.to_string(), str::to_owned))
                .collect(),
            scores,
        });
    }
    if global.json {
        let threshold = threshold.map(|t| t.value);
        return say_json(&Document { model: path.clone(), device: device.describe(), threshold, series });
    }
    say("score\tprobability\tverdict\tpoint\tseries")?;
    for set in &series {
        for (i, (score, time)) in set.scores.iter().zip(&set.times).enumerate() {
            let probability =
                set.probabilities.as_ref().map_or("-".to_owned(), |all| format!("{:.3}", all[i]));
            let verdict = threshold.as_ref().map_or("-", |t| word(t.is_anomalous(*score)));
            say(&format!("{score:.4}\t{probability}\t{verdict}\t{time}\t{}", line(&set.path)))?;
        }
        set.alarms.iter().try_for_each(|alarm| say(&format!("{alarm}, {}", line(&set.path))))?;
    }
    Ok(())
}

fn word(anomalous: bool) -> &'static str {
    if anomalous { "anomalous" } else { "normal" }
}
