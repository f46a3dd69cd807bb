//! `score`: one row for each image.

use std::path::PathBuf;
use std::sync::Arc;

use ganomede_datasets::{Channels, Dataset, Split};
use serde::Serialize;

use super::args::{DataArgs, Global, ModelArg, SearchArgs, SplitArg};
use super::session::{FALSE_ALARM_RATE, Selection, score_all};
use super::train::{report_rejected, search_config};
use super::{CliError, Interrupt, say, say_json};
use crate::models::file::ModelFile;
use crate::models::scorer::Scorer;
use crate::report::{overlay, save_png_atomic};

/// Score images with a trained model: score, calibrated probability, verdict.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede score parts.safetensors new/ --maps maps/ --json > scores.json")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Images, folders or labelled sets.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// Folder for a picture of each image with its residual on top.
    #[arg(long, value_name = "DIR")]
    maps: Option<PathBuf>,
    /// Which part of a set with two; the test images by default.
    #[arg(long, value_enum)]
    split: Option<SplitArg>,
    /// Images searched side by side.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Share of false alarms among normal images that the verdict aims at.
    #[arg(long, default_value_t = FALSE_ALARM_RATE)]
    false_alarm_rate: f64,
    /// Make a file that cannot be read an error instead of skipping it.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Debug, Serialize)]
struct Row {
    path: String,
    score: f64,
    probability: Option<f64>,
    anomalous: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Document {
    model: PathBuf,
    device: String,
    threshold: Option<f64>,
    images: Vec<Row>,
    rejected: Vec<Rejected>,
}

#[derive(Debug, Serialize)]
struct Rejected {
    path: String,
    reason: String,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    if args.batch == 0 {
        return Err(CliError::input("--batch is 0; it must be at least 1"));
    }
    let path = &args.model.model;
    let model = ModelFile::load(path)?;
    let search = search_config(&args.search, &model);
    let sets = args.paths.iter().map(|p| open(p, args, &model)).collect::<Result<Vec<_>, _>>()?;
    let largest = sets.iter().map(|s| s.indices.len()).max().unwrap_or(1);
    let device = global.open()?;
    let mut scorer = Scorer::new(&device, &model, path, &search, args.batch.min(largest.max(1)))?;
    let calibration = model.header.calibration.as_ref().filter(|c| c.search == search);
    if calibration.is_none() {
        eprintln!("no calibration for these search settings: scores come without probability and verdict");
    }
    let threshold = match calibration {
        Some(calibration) => Some(calibration.quantiles.threshold(args.false_alarm_rate)?),
        None => None,
    };
    if let Some(folder) = &args.maps {
        let refused = |e| CliError::machine(format!("cannot make folder '{}': {e}", folder.display()));
        std::fs::create_dir_all(folder).map_err(refused)?;
    }
    let (channels, size) = (model.header.config.channels, model.header.config.size);
    let scale = map_scale(&model);
    let len = scorer.image_len();
    let mut rows = vec![];
    let mut rejected = vec![];
    for set in &sets {
        score_all(&mut scorer, set, "scoring", interrupt, &mut |batch, found| {
            for (i, found) in found.iter().enumerate() {
                let map = match &args.maps {
                    Some(folder) => {
                        let name = format!("{:06}-{}.png", rows.len(), file_stem(&batch.ids[i]));
                        let file = folder.join(name);
                        let query = &batch.images[i * len..][..len];
                        save_png_atomic(&file, &overlay(query, channels, &found.map, size, size, scale)?)?;
                        Some(file)
                    }
                    None => None,
                };
                rows.push(Row {
                    path: batch.ids[i].clone(),
                    score: found.score,
                    probability: calibration.map(|c| c.quantiles.probability(found.score)),
                    anomalous: threshold.as_ref().map(|t| t.is_anomalous(found.score)),
                    map,
                });
            }
            Ok(())
        })?;
        report_rejected(&set.data);
        rejected.extend(set.data.rejected().into_iter().map(|r| Rejected { path: r.path, reason: r.reason }));
    }
    if global.json {
        let threshold = threshold.map(|t| t.value);
        return say_json(&Document {
            model: path.clone(),
            device: device.describe(),
            threshold,
            images: rows,
            rejected,
        });
    }
    say("score\tprobability\tverdict\timage");
    for row in rows {
        let probability = row.probability.map_or("-".to_owned(), |p| format!("{p:.3}"));
        let verdict = row.anomalous.map_or("-", |a| if a { "anomalous" } else { "normal" });
        say(&format!("{:.4}\t{probability}\t{verdict}\t{}", row.score, row.path));
    }
    Ok(())
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

fn open(path: &str, args: &Args, model: &ModelFile) -> Result<Selection, CliError> {
    let info = &model.header.data;
    let data = DataArgs {
        data: path.to_owned(),
        normal_class: info.normal_classes.clone(),
        anomalous_class: info.anomalous_classes.clone(),
        strict: args.strict,
    };
    let options = data.open_options(model.header.config.size, channels(model), info.centre_crop);
    let data = Arc::new(Dataset::open(path, &options)?);
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
    Ok(Selection { data, split, indices })
}

/// Gray or colour, as the model was trained.
pub(crate) fn channels(model: &ModelFile) -> Channels {
    if model.header.config.channels == 1 { Channels::Gray } else { Channels::Rgb }
}
