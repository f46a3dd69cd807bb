//! `score` of a table: a line for each row, labels or not.

use ganomede_datasets::{Indices, Split};
use ganomede_host::line;

use crate::commands::score::{Args, Document, Row, check_paths};
use crate::commands::train::score_config;
use crate::shared::args::{Global, SplitArg};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::detect::{Applied, FALSE_ALARM_RATE, own, own_threshold, row_scores};
use ganomede::models::file::ModelFile;

/// Scores every row of CSV files, in their order.
pub(crate) fn score_table(
    args: &Args,
    global: &Global,
    model: &ModelFile,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    let path = &args.model.model;
    if args.maps.is_some() {
        return Err(CliError::input("--maps draws images; rows of a table are numbers, leave it out"));
    }
    if args.samples.anomaly_share.is_some() {
        return Err(CliError::input("--anomaly-share is about test rows; give it to `ganomede eval`"));
    }
    check_paths(&args.paths)?;
    let score = score_config(&args.search, model, path)?;
    let device = global.open()?;
    let calibration = own(model, &score);
    if calibration.is_none() {
        note("no calibration for these score settings: rows come without probability and verdict");
    }
    let threshold = own_threshold(model, &score, args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE))?;
    let mut images = vec![];
    for spec in &args.paths {
        let table = args.samples.open_table(spec, [&[], &[]], model, path)?;
        let part = |split| (0..table.len(split)).map(|i| table.source_row(split, i)).collect();
        let rows: Vec<usize> = match args.split {
            None => (0..table.rows()).collect(),
            Some(SplitArg::Train) => part(Split::Train),
            Some(SplitArg::Test) => part(Split::Test),
        };
        if rows.is_empty() {
            return Err(CliError::input(format!("'{spec}' has no rows of this --split; leave it out")));
        }
        let rows = sampled(rows, args.limit_test, global.seed);
        let mut terminal = Terminal::new(interrupt);
        let mut applied = Applied { device: &device, model, path, score: &score, observer: &mut terminal };
        let scores = row_scores(&mut applied, &table, &rows)?;
        images.extend(rows.into_iter().zip(scores).map(|(row, score)| Row {
            path: spec.clone(),
            row: Some(row),
            score,
            probability: calibration.map(|c| c.quantiles.probability(score)),
            anomalous: threshold.as_ref().map(|t| t.is_anomalous(score)),
            map: None,
        }));
    }
    if global.json {
        let (model, device, threshold) = (path.clone(), device.describe(), threshold.map(|t| t.value));
        return say_json(&Document { model, device, threshold, images, rejected: vec![], skipped: vec![] });
    }
    say("score\tprobability\tverdict\trow\ttable")?;
    for Row { path, row, score, probability, anomalous, .. } in images {
        let probability = probability.map_or("-".to_owned(), |p| format!("{p:.3}"));
        let verdict = anomalous.map_or("-", |a| if a { "anomalous" } else { "normal" });
        let row = row.unwrap_or_default();
        say(&format!("{score:.4}\t{probability}\t{verdict}\t{row}\t{}", line(&path)))?;
    }
    Ok(())
}

/// At most `limit` of the rows, drawn by the seed, in their order.
fn sampled(rows: Vec<usize>, limit: Option<usize>, seed: u64) -> Vec<usize> {
    let Some(limit) = limit.filter(|&limit| limit < rows.len()) else { return rows };
    let chosen = Indices::shuffled(rows.len(), seed).take(limit);
    let mut chosen: Vec<usize> = chosen.iter().map(|i| rows[i]).collect();
    chosen.sort_unstable();
    note(&format!("{limit} of {} rows at random, seed {seed}", rows.len()));
    chosen
}
