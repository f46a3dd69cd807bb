//! `search`: the latent search of one query, step by step.

use std::path::{Path, PathBuf};

use ganomede_datasets::{Dataset, Reads, Split};
use image::RgbImage;
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, ModelArg, SearchArgs};
use crate::shared::session::{check_file, open_data};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::detect::{Applied, Maps, TileScorer, own, tiling};
use ganomede::models::file::ModelFile;
use ganomede::models::scorer::{Found, Scorer, Watch};
use ganomede::report::{Frame, ReportError, film, overlay, picture, save_animation, save_png_atomic};

/// Search the latent of one image, or of several, and show how G(z) approaches it.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede search parts.safetensors new/part-17.png --film film.gif")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// The query; several are searched one after the other.
    #[arg(value_name = "IMAGE", required = true, num_args = 1..)]
    images: Vec<String>,
    /// Picture of the query, G(z) at each stage with its step and loss, and the final residual on the query,
    /// a row an image; animated where the name ends in .gif or .apng.
    #[arg(long, value_name = "F.png|F.gif|F.apng")]
    film: Option<PathBuf>,
    /// Stages shown, evenly spaced on a logarithmic scale.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    stages: u16,
    /// Tiles of a large image searched side by side.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Debug, Serialize)]
struct StageRow {
    step: usize,
    loss: f64,
    residual: f32,
    discrimination: f32,
}

#[derive(Debug, Serialize)]
struct SearchDocument {
    model: PathBuf,
    image: String,
    device: String,
    score: f64,
    probability: Option<f64>,
    percentile: Option<f64>,
    p_value: Option<f64>,
    /// Left and upper edge of the tile that is shown of a large image: the one that scores highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    tile: Option<[usize; 2]>,
    z: Vec<f32>,
    stages: Vec<StageRow>,
    film: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let path = &args.model.model;
    if let Some(film) = &args.film {
        let reads = args.images.iter().fold(Reads::new().file(path), |reads, image| reads.data(image));
        check_file(film, &reads)?;
    }
    let model = ModelFile::load(path)?;
    let score = score_config(&args.search, &model, path)?;
    let opened: Result<Vec<_>, CliError> = args.images.iter().map(|image| open(image, &model)).collect();
    let opened = opened?;
    let device = global.open_for(&model)?;
    let mut scorer = Scorer::new(&device, &model, path, &score, 1)?;
    if !scorer.is_searched() {
        return Err(CliError::input(format!(
            "the score '{}' of {} comes from one pass and has no search to show; use --score with a searched one, or \
             --refine N where there is an encoder",
            score.score, model.header.system
        )));
    }
    let mut terminal = Terminal::new(interrupt);
    let applied = Applied { device: &device, model: &model, path, score: &score, observer: &mut terminal };
    let maps = Maps::own(&model, &score)?;
    let calibration = own(&model, &score);
    let (mut documents, mut rows) = (vec![], vec![]);
    for (image, (dataset, split)) in args.images.iter().zip(&opened) {
        // Of a large image, the tile that scores highest.
        let (values, of_image) = match tiling(&model, &score) {
            None => (dataset.load(*split, 0)?.image.pixels, None),
            Some(_) => {
                let whole = dataset.whole(*split, 0)?;
                let mut by_tiles = TileScorer::new(&applied, args.batch as usize)?;
                by_tiles.cost(1, whole.size()).iter().for_each(|cost| note(cost));
                let found = by_tiles.score(&whole, applied.observer, None)?;
                (whole.tile(found.highest).pixels, Some(found))
            }
        };
        let Searched { found, stages, frames } =
            search(&mut scorer, &model, &maps, &values, usize::from(args.stages))?;
        let score = of_image.as_ref().map_or(found.score, |of_image| of_image.found.score);
        rows.push(frames);
        documents.push(SearchDocument {
            model: path.clone(),
            image: image.clone(),
            device: device.describe(),
            score,
            probability: calibration.map(|c| c.quantiles.probability(score)),
            percentile: calibration.map(|c| c.quantiles.percentile(score)),
            p_value: calibration.map(|c| c.quantiles.p_value(score)),
            tile: of_image.as_ref().map(|of_image| of_image.highest),
            z: found.z,
            stages,
            film: args.film.clone(),
        });
    }
    if let Some(path) = &args.film {
        match is_animated(path) {
            true => save_animation(path, &animation(&rows)?)?,
            false => save_png_atomic(path, &film(&rows)?)?,
        }
    }
    match (global.json, documents.as_slice()) {
        (true, [document]) => return say_json(document),
        (true, documents) => return say_json(&documents),
        (false, _) => {}
    }
    for document in &documents {
        if documents.len() > 1 {
            say(&document.image)?;
        }
        say("step\tloss\tresidual\tdiscrimination")?;
        for stage in &document.stages {
            say(&format!(
                "{}\t{:.3}\t{:.3}\t{:.3}",
                stage.step, stage.loss, stage.residual, stage.discrimination
            ))?;
        }
        let percentile = document
            .percentile
            .map_or(String::new(), |p| format!(", above {p:.1} % of the held-out normal images"));
        let tile = document.tile.map_or(String::new(), |[x, y]| {
            format!(" of the image; the search is of its highest tile, at column {x}, row {y}")
        });
        say(&format!("score {:.4}{percentile}{tile}", document.score))?;
    }
    Ok(())
}

/// Whether the name asks for an animation.
fn is_animated(film: &Path) -> bool {
    let kinds = ["gif", "apng"];
    film.extension().is_some_and(|e| kinds.iter().any(|kind| e.eq_ignore_ascii_case(kind)))
}

/// A set with the query, and the part where it is.
fn open(image: &str, model: &ModelFile) -> Result<(Dataset, Split), CliError> {
    let data = DataArgs { data: image.to_owned().into(), strict: true, ..DataArgs::default() };
    let dataset = open_data(&data, model, true)?;
    let split = if dataset.is_empty(Split::Test) { Split::Train } else { Split::Test };
    Ok((dataset, split))
}

struct Searched {
    found: Found,
    stages: Vec<StageRow>,
    /// The query, G(z) at each stage, the residual.
    frames: Vec<Frame>,
}

fn search(
    scorer: &mut Scorer,
    model: &ModelFile,
    maps: &Maps<'_>,
    query: &[f32],
    count: usize,
) -> Result<Searched, CliError> {
    let [_, colours, height, width] = model.header.config.images(1);
    let steps = stages(scorer.config().search.steps, count);
    let mut rows = vec![];
    let frame = |image, lines: &[String]| Frame { image, lines: lines.to_vec() };
    let mut frames = vec![frame(picture(query, colours, height, width)?, &["query".to_owned()])];
    let mut failed: Option<ReportError> = None;
    let mut watch = |step: usize, found: &[Found]| {
        let found = &found[0];
        let part = |name| found.part(name).unwrap_or(0.0);
        let (residual, discrimination) = (part("residual"), part("discrimination"));
        rows.push(StageRow { step, loss: found.score, residual, discrimination });
        let words = [format!("step {step}"), format!("loss {:.1}", found.score)];
        match picture(found.reconstruction.as_deref().unwrap_or_default(), colours, height, width) {
            Ok(image) => frames.push(frame(image, &words)),
            Err(error) => failed = Some(error),
        }
    };
    let mut found = scorer.score(query, Some(Watch { stages: &steps, see: &mut watch }))?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let found = found.remove(0);
    if let Some(map) = &found.map {
        let ([low, high], _) = maps.range();
        let map: Vec<f32> = maps.of(map).iter().map(|value| value - low).collect();
        let image = overlay(query, colours, &map, height, width, high - low)?;
        frames.push(frame(image, &["residual".to_owned(), format!("score {:.1}", found.score)]));
    }
    Ok(Searched { found, stages: rows, frames })
}

/// The pictures of an animation: of each row the query, one stage after the other, and the residual at the
/// end.
fn animation(rows: &[Vec<Frame>]) -> Result<Vec<RgbImage>, CliError> {
    let stages = rows.iter().map(Vec::len).max().unwrap_or(0).saturating_sub(2).max(1);
    let picture = |stage: usize| {
        let row = |row: &Vec<Frame>| {
            let last = row.len() - 1;
            let hidden = Frame {
                image: RgbImage::from_pixel(
                    row[last].image.width(),
                    row[last].image.height(),
                    image::Rgb([235; 3]),
                ),
                lines: row[last].lines.iter().map(|_| String::new()).collect(),
            };
            let residual = if stage + 1 == stages { row[last].clone() } else { hidden };
            vec![row[0].clone(), row[(stage + 1).min(last)].clone(), residual]
        };
        Ok(film(&rows.iter().map(row).collect::<Vec<_>>())?)
    };
    let pictures: Result<Vec<RgbImage>, CliError> = (0..stages).map(picture).collect();
    Ok(padded(pictures?))
}

/// Pictures of one size: words of later stages may be wider.
fn padded(pictures: Vec<RgbImage>) -> Vec<RgbImage> {
    let width = pictures.iter().map(RgbImage::width).max().unwrap_or(0);
    let height = pictures.iter().map(RgbImage::height).max().unwrap_or(0);
    let pad = |picture: RgbImage| {
        let mut whole = RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
        image::imageops::replace(&mut whole, &picture, 0, 0);
        whole
    };
    pictures.into_iter().map(pad).collect()
}

/// Steps to show: 0 and then evenly on a logarithmic scale, without the last, which always comes.
fn stages(total: usize, count: usize) -> Vec<usize> {
    let mut steps = vec![0];
    for i in 1..count {
        let step = (total as f64).powf(i as f64 / count as f64).round() as usize;
        if step > steps[steps.len() - 1] && step < total {
            steps.push(step);
        }
    }
    steps
}
