//! `score`: one row for each image.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganomede_datasets::{DataError, Indices, Reads, Rejected, Split};
use ganomede_host::line;
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, ModelArg, SearchArgs, SplitArg, parse_rate};
use crate::shared::findings::{report_bits, report_rejected, report_skipped};
use crate::shared::session::{check_folder, open_data};
use crate::shared::signals::{self, SampleArgs};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::detect::{FALSE_ALARM_RATE, Selection, no_image, own, score_selection};
use ganomede::models::Form;
use ganomede::models::file::ModelFile;
use ganomede::models::scorer::Scorer;
use ganomede::report::{overlay, save_png_atomic};

/// Score images with a trained model, rows of tables or points of series: score, calibrated probability,
/// verdict.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  ganomede score parts.safetensors new/ --maps maps/ --json > scores.json\n  \
    ganomede score readings.safetensors today.csv"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    /// Images, folders or labelled sets; CSV files for a model that was trained with --signal or --table.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<String>,
    /// Folder for a picture of each image with its residual on top.
    #[arg(long, value_name = "DIR")]
    pub(crate) maps: Option<PathBuf>,
    /// Which part of a set with two; the test images by default. Of the table that was trained on, by default
    /// every row.
    #[arg(long, value_enum)]
    pub(crate) split: Option<SplitArg>,
    /// Score at most N images of each set, or rows of each table, drawn by the seed.
    #[arg(long, value_name = "N")]
    pub(crate) limit_test: Option<usize>,
    /// Images searched side by side.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Share of false alarms among normal images that the verdict aims at [default: 0.05; 0.01 of the points
    /// of a series].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) false_alarm_rate: Option<f64>,
    /// Make a file that cannot be read an error instead of skipping it.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    pub(crate) samples: SampleArgs,
    #[command(flatten)]
    pub(crate) search: SearchArgs,
}

/// An image, or a row of a table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) path: String,
    /// Of a table: its place in the file, from 0 without the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) row: Option<usize>,
    pub(crate) score: f64,
    pub(crate) probability: Option<f64>,
    pub(crate) anomalous: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) map: Option<PathBuf>,
}

/// `score --json`; tables have it too, with a row for an image.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) model: PathBuf,
    pub(crate) device: String,
    pub(crate) threshold: Option<f64>,
    pub(crate) images: Vec<Row>,
    pub(crate) rejected: Vec<Rejected>,
    /// What was not looked at.
    pub(crate) skipped: Vec<Rejected>,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    if args.batch == 0 {
        return Err(CliError::input("--batch is 0; it must be at least 1"));
    }
    if args.limit_test == Some(0) {
        return Err(CliError::input("--limit-test is 0; it must be at least 1"));
    }
    let path = &args.model.model;
    if let Some(folder) = &args.maps {
        let reads = args.paths.iter().fold(Reads::new().file(path), |reads, spec| reads.data(spec));
        check_folder(folder, &reads)?;
    }
    let model = ModelFile::load(path)?;
    args.samples.check(model.header.config.form)?;
    match model.header.config.form {
        Form::Image => {}
        Form::Signal => return signals::score(args, global, &model, interrupt),
        Form::Table => return signals::score_table(args, global, &model, interrupt),
    }
    let score = score_config(&args.search, &model, path)?;
    let (sets, mut rejected) = open_all(args, &model, global.seed)?;
    if sets.is_empty() {
        return Err(no_image(&args.paths.join(" "), &rejected).into());
    }
    let largest = sets.iter().map(|s| s.indices.len()).max().unwrap_or(1);
    let device = global.open()?;
    let mut scorer = Scorer::new(&device, &model, path, &score, args.batch.min(largest.max(1)))?;
    if args.maps.is_some() && !scorer.has_map() {
        return Err(CliError::input(format!(
            "--maps shows where an image differs; the score '{}' of {} does not say: leave it out",
            scorer.config().score,
            model.header.system
        )));
    }
    let calibration = own(&model, &score);
    if calibration.is_none() {
        note("no calibration for these score settings: scores come without probability and verdict");
    }
    let threshold = match calibration {
        Some(calibration) => {
            Some(calibration.quantiles.threshold(args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE))?)
        }
        None => None,
    };
    let (channels, size) = (model.header.config.channels, model.header.config.size);
    let scale = map_scale(&model);
    let len = scorer.image_len();
    let (mut rows, mut skipped) = (vec![], vec![]);
    for set in &sets {
        let findings = set.data.findings();
        report_skipped(&findings);
        skipped.extend(findings.skipped);
        score_selection(&mut scorer, set, "scoring", &mut Terminal::new(interrupt), &mut |batch, found| {
            for (i, found) in found.iter().enumerate() {
                let map = match (&args.maps, &found.map) {
                    (Some(folder), Some(map)) => {
                        let name = format!("{:06}-{}.png", rows.len(), file_stem(&batch.ids[i]));
                        let file = folder.join(name);
                        let query = &batch.images[i * len..][..len];
                        save_png_atomic(&file, &overlay(query, channels, map, size, size, scale)?)?;
                        Some(file)
                    }
                    _ => None,
                };
                rows.push(Row {
                    path: batch.ids[i].clone(),
                    row: None,
                    score: found.score,
                    probability: calibration.map(|c| c.quantiles.probability(found.score)),
                    anomalous: threshold.as_ref().map(|t| t.is_anomalous(found.score)),
                    map,
                });
            }
            Ok(())
        })?;
        let findings = set.data.findings();
        report_bits(&findings);
        rejected.extend(findings.rejected);
    }
    if rows.is_empty() {
        return Err(no_image(&args.paths.join(" "), &rejected).into());
    }
    report_rejected(&rejected);
    if global.json {
        let threshold = threshold.map(|t| t.value);
        return say_json(&Document {
            model: path.clone(),
            device: device.describe(),
            threshold,
            images: rows,
            rejected,
            skipped,
        });
    }
    say("score\tprobability\tverdict\timage")?;
    for row in rows {
        let probability = row.probability.map_or("-".to_owned(), |p| format!("{p:.3}"));
        let verdict = row.anomalous.map_or("-", |a| if a { "anomalous" } else { "normal" });
        say(&format!("{:.4}\t{probability}\t{verdict}\t{}", row.score, line(&row.path)))?;
    }
    Ok(())
}

/// Makes sure before the first of several files is scored that the others are there.
pub(crate) fn check_paths(paths: &[String]) -> Result<(), CliError> {
    let is_there = |spec: &String| spec.starts_with("builtin:") || Path::new(spec).exists();
    match paths.iter().find(|spec| !is_there(spec)) {
        None => Ok(()),
        Some(spec) => Err(CliError::input(format!("'{spec}': no such file or folder; check the path"))),
    }
}

/// Residual that the heat maps show at full strength.
pub(crate) fn map_scale(model: &ModelFile) -> f32 {
    // Residuals of images in [−1, 1]: half the range is as wrong as a picture gets before it saturates.
    if model.header.config.channels == 1 { 1.0 } else { 0.8 }
}

fn file_stem(id: &str) -> String {
    let last = id.rsplit(['/', '\\']).next().unwrap_or(id);
    let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    stem.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' }).take(80).collect()
}

/// Opens everything to be scored; of several paths, a file that cannot be used is listed and skipped unless
/// `strict`.
fn open_all(args: &Args, model: &ModelFile, seed: u64) -> Result<(Vec<Selection>, Vec<Rejected>), CliError> {
    let (mut sets, mut rejected) = (vec![], vec![]);
    for path in &args.paths {
        let data = DataArgs {
            data: path.clone(),
            normal_class: vec![],
            anomalous_class: vec![],
            strict: args.strict,
        };
        let data = match open_data(&data, model, true) {
            Ok(data) => Arc::new(data),
            Err(DataError::File { path, reason }) if args.paths.len() > 1 && !args.strict => {
                rejected.push(Rejected { path: path.to_string_lossy().into_owned(), reason });
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let split = match args.split {
            Some(SplitArg::Train) => Split::Train,
            Some(SplitArg::Test) => Split::Test,
            None if data.is_empty(Split::Test) => Split::Train,
            None => Split::Test,
        };
        let indices = data.all(split);
        if indices.is_empty() {
            return Err(CliError::input(format!(
                "'{path}' has no {} images; choose the other --split",
                split.name()
            )));
        }
        let indices = match args.limit_test.filter(|&limit| limit < indices.len()) {
            None => indices,
            Some(limit) => {
                let mut chosen: Vec<_> = Indices::shuffled(indices.len(), seed).take(limit).iter().collect();
                chosen.sort_unstable();
                note(&format!("{limit} of {} images of '{path}' at random, seed {seed}", indices.len()));
                Indices::list(chosen)
            }
        };
        sets.push(Selection { data, split, indices });
    }
    Ok((sets, rejected))
}
