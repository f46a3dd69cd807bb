//! `eval` of a table: how well its test rows are told apart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ganomede_datasets::{Split, Table, Truth};
use serde::Serialize;

use crate::commands::eval::{self, further, summary};
use crate::commands::train::score_config;
use crate::shared::args::Global;
use crate::shared::job::{again, trains_again};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json, shown};
use ganomede::detect::{
    Applied, FALSE_ALARM_RATE, Rows, balanced, held_out_row_scores, losses, own, row_scores,
};
use ganomede::device::Device;
use ganomede::eval::{Evaluation, EvaluationInput, Repeated};
use ganomede::models::file::{Calibration, ModelFile};
use ganomede::report::{ReportInput, ScoredImage, Supplement, write_report_with};

/// `eval --json` of a table.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    evaluation: Evaluation,
    rows: Counts,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    repeated: BTreeMap<&'static str, Repeated>,
}

/// What became of the rows of the file.
#[derive(Debug, Clone, Serialize)]
struct Counts {
    in_file: usize,
    tested: usize,
    trained_on: usize,
    held_out: usize,
    without_label: usize,
    /// Dropped by `--anomaly-share`, `--limit-test` or KDD99's protocol.
    left_out: usize,
}

/// Scores the test rows of a table and says how well they are told apart.
pub(crate) fn evaluate_table(
    args: &eval::Args,
    global: &Global,
    device: &Device,
    model: &ModelFile,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let path = &args.model.model;
    let table = open(args, model, path)?;
    if args.seeds > 1 && !table.is_own() {
        return Err(CliError::input(format!(
            "--seeds trains again, but '{}' does not hold the rows that the model was trained on ('{}')",
            args.data.data, model.header.data.spec
        )));
    }
    let again_with =
        |seed| Rows::again(&args.data.data, model, seed, args.samples.table_options()).map_err(trains_again);
    // Opened before anything is evaluated: what cannot be trained on is said now.
    let mut next = further(args, model).next().map(|(seed, _)| again_with(seed)).transpose()?;
    let (evaluation, rows, page) = one(args, global, device, model, path, &table, interrupt)?;
    let mut runs = vec![evaluation.clone()];
    for (seed, out) in further(args, model) {
        let rows = match next.take() {
            Some(rows) => rows,
            None => again_with(seed)?,
        };
        rows.notes().iter().for_each(|text| note(&format!("{}: {text}", args.data.data)));
        let model = again(device, model, seed, &out, &rows, interrupt)?;
        let table = open(args, &model, &out)?;
        let args = eval::Args { report: None, ..args.clone() };
        runs.push(one(&args, global, device, &model, &out, &table, interrupt)?.0);
    }
    let repeated = if runs.len() > 1 { Repeated::of_runs(&runs)? } else { vec![] };
    if global.json {
        return say_json(&Document { evaluation, rows, repeated: repeated.into_iter().collect() });
    }
    say(&summary(&evaluation).replace("images:", "rows:").replace("per image", "per row"))?;
    if !repeated.is_empty() {
        say(&format!("over {} seeds, mean ± standard deviation:", runs.len()))?;
    }
    repeated.iter().try_for_each(|(name, metric)| say(&format!("  {name} {metric:.4}")))?;
    page.map_or(Ok(()), |page| say(&format!("report: {}", shown(&page))))
}

fn open(args: &eval::Args, model: &ModelFile, path: &Path) -> Result<Table, CliError> {
    let classes = [&args.data.normal_class[..], &args.data.anomalous_class];
    let table = args.samples.open_table(&args.data.data, classes, model, path)?;
    let spec = table.spec();
    if !table.is_labelled() {
        return Err(CliError::input(format!(
            "nothing says which rows of '{spec}' are anomalous: it has no column of labels; name it with \
             --label-column; `ganomede score` works without"
        )));
    }
    let test = table.len(Split::Test);
    if test == 0 {
        let why = if table.is_own() { "all of them were trained on" } else { "none has a label" };
        return Err(CliError::input(format!("'{spec}' has no row to test: {why}; give a file with others")));
    }
    note(&match table.is_own() {
        true => {
            format!("{spec}: the file that was trained on: the {test} rows that training left are tested")
        }
        false => format!("{spec}: not the file that was trained on: all rows with labels are tested"),
    });
    Ok(table)
}

/// Scores the test rows with one model.
fn one(
    args: &eval::Args,
    global: &Global,
    device: &Device,
    model: &ModelFile,
    path: &Path,
    table: &Table,
    interrupt: &Interrupt,
) -> Result<(Evaluation, Counts, Option<PathBuf>), CliError> {
    let score = score_config(&args.search, model, path)?;
    let test = table.len(Split::Test);
    let is_anomalous = |i: usize| Some(table.truth(Split::Test, i) == Truth::Anomalous);
    let (chosen, sub_sample) = match balanced(test, args.limit_test, global.seed, "rows", is_anomalous)? {
        Some((chosen, how)) => (chosen, Some(how)),
        None => ((0..test).collect(), None),
    };
    let rows: Vec<usize> = chosen.iter().map(|&i| table.source_row(Split::Test, i)).collect();
    let truths: Vec<bool> = chosen.iter().map(|&i| table.truth(Split::Test, i) == Truth::Anomalous).collect();
    let mut terminal = Terminal::new(interrupt);
    let mut applied = Applied { device, model, path, score: &score, observer: &mut terminal };
    let calibration = calibration(&mut applied, table)?;
    let rate = args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE);
    let started = std::time::Instant::now();
    let scores = row_scores(&mut applied, table, &rows)?;
    let seconds = started.elapsed().as_secs_f64();
    let description = device.describe();
    let evaluation = Evaluation::new(&EvaluationInput {
        system: &model.header.system,
        device: &description,
        scores: &scores,
        truths: &truths,
        threshold: calibration.as_ref().map(|c| c.quantiles.threshold(rate)).transpose()?,
        seconds_per_image: seconds / scores.len().max(1) as f64,
        sub_sample,
        seed: global.seed,
        ..EvaluationInput::default()
    })?;
    let [in_file, without_label] = [table.rows(), table.unlabelled()];
    let [trained_on, held_out] = [table.len(Split::Train), table.held_out().len()];
    let tested = rows.len();
    let left_out = in_file - tested - trained_on - held_out - without_label;
    let counts = Counts { in_file, tested, trained_on, held_out, without_label, left_out };
    let mut page = None;
    if let Some(folder) = &args.report {
        let scored = |((&row, &score), &anomalous): ((&usize, &f64), &bool)| ScoredImage {
            id: format!("row {row}"),
            class: if anomalous { "anomalous" } else { "normal" }.to_owned(),
            anomalous: Some(anomalous),
            score,
            probability: calibration.as_ref().map(|c| c.quantiles.probability(score)),
            verdict: evaluation.threshold.as_ref().map(|t| score >= t.value),
        };
        let input = ReportInput {
            title: format!("{} on {}", model.header.system, args.data.data),
            data: args.data.data.clone(),
            configuration: vec![
                ("model".to_owned(), shown(path)),
                ("score".to_owned(), score.score.clone()),
                ("false-alarm rate".to_owned(), rate.to_string()),
                ("rows".to_owned(), said(&counts)),
            ],
            evaluation: evaluation.clone(),
            images: rows.iter().zip(&scores).zip(&truths).map(scored).collect(),
            panels: vec![],
            losses: losses(model),
            samples: None,
        };
        let supplement = Supplement { sample: Some("row"), ..Supplement::default() };
        let [written, _] = write_report_with(folder, &input, &supplement)?;
        page = Some(written);
    }
    note(&format!("{}: {}", table.spec(), said(&counts)));
    Ok((evaluation, counts, page))
}

fn said(counts: &Counts) -> String {
    let Counts { in_file, tested, trained_on, held_out, without_label, left_out } = counts;
    let rest = [
        (trained_on, "trained on"),
        (held_out, "held out"),
        (without_label, "without a label"),
        (left_out, "left out"),
    ];
    let rest = rest.iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!(", {count} {what}"));
    format!("of {in_file} rows {tested} tested{}", rest.collect::<String>())
}

/// The model's own calibration; for other settings of the score a new one, where the held-out rows are here.
fn calibration(applied: &mut Applied<'_>, table: &Table) -> Result<Option<Calibration>, CliError> {
    if let Some(own) = own(applied.model, applied.score) {
        return Ok(Some(own.clone()));
    }
    let scores = held_out_row_scores(applied, table)?;
    let found = ganomede::detect::calibration(&scores, applied.score, FALSE_ALARM_RATE)?;
    if found.is_none() {
        note(
            "no threshold: the score's settings differ from the calibrated ones and no held-out row is here",
        );
    }
    Ok(found)
}
