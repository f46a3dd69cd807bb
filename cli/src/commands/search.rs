//! `search`: the latent search of one query, step by step.

use std::path::PathBuf;

use ganomede_datasets::{Reads, Split};
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, ModelArg, SearchArgs};
use crate::shared::session::{check_file, open_data};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json};
use ganomede::detect::{Applied, Maps, TileScorer, own, tiling};
use ganomede::models::file::ModelFile;
use ganomede::models::scorer::{Found, Scorer, Watch};
use ganomede::report::{ReportError, filmstrip, overlay, picture, save_png_atomic};

/// Search the latent of one image and show how G(z) approaches it.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede search parts.safetensors new/part-17.png --film film.png")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// The query.
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Picture of the query, G(z) at each stage, and the final residual on the query.
    #[arg(long, value_name = "F.png")]
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
        check_file(film, &Reads::new().data(&args.image).file(path))?;
    }
    let model = ModelFile::load(path)?;
    let score = score_config(&args.search, &model, path)?;
    let data = DataArgs { data: args.image.clone().into(), strict: true, ..DataArgs::default() };
    let dataset = open_data(&data, &model, true)?;
    let split = if dataset.is_empty(Split::Test) { Split::Train } else { Split::Test };
    let device = global.open()?;
    let mut scorer = Scorer::new(&device, &model, path, &score, 1)?;
    if !scorer.is_searched() {
        return Err(CliError::input(format!(
            "the score '{}' of {} comes from one pass and has no search to show; use --score with a searched one, or \
             --refine N where there is an encoder",
            score.score, model.header.system
        )));
    }

    // Of a large image, the tile that scores highest.
    let mut terminal = Terminal::new(interrupt);
    let applied = Applied { device: &device, model: &model, path, score: &score, observer: &mut terminal };
    let (values, of_image) = match tiling(&model, &score) {
        None => (dataset.load(split, 0)?.image.pixels, None),
        Some(_) => {
            let whole = dataset.whole(split, 0)?;
            let mut by_tiles = TileScorer::new(&applied, args.batch as usize)?;
            by_tiles.cost(1, whole.size()).iter().for_each(|cost| note(cost));
            let found = by_tiles.score(&whole, applied.observer, None)?;
            (whole.tile(found.highest).pixels, Some(found))
        }
    };
    let maps = Maps::own(&model, &score)?;
    let [_, colours, height, width] = model.header.config.images(1);
    let steps = stages(scorer.config().search.steps, usize::from(args.stages));
    let mut rows = vec![];
    let mut frames = vec![picture(&values, colours, height, width)?];
    let mut failed: Option<ReportError> = None;
    let mut watch = |step: usize, found: &[Found]| {
        let found = &found[0];
        let part = |name| found.part(name).unwrap_or(0.0);
        let (residual, discrimination) = (part("residual"), part("discrimination"));
        rows.push(StageRow { step, loss: found.score, residual, discrimination });
        match picture(found.reconstruction.as_deref().unwrap_or_default(), colours, height, width) {
            Ok(frame) => frames.push(frame),
            Err(error) => failed = Some(error),
        }
    };
    let found = scorer.score(&values, Some(Watch { stages: &steps, see: &mut watch }))?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let found = &found[0];
    if let Some(map) = &found.map {
        let ([low, high], _) = maps.range();
        let map: Vec<f32> = maps.of(map).iter().map(|value| value - low).collect();
        frames.push(overlay(&values, colours, &map, height, width, high - low)?);
    }
    if let Some(film) = &args.film {
        save_png_atomic(film, &filmstrip(&frames)?)?;
    }
    let calibration = own(&model, &score);
    let score = of_image.as_ref().map_or(found.score, |of_image| of_image.found.score);
    let document = SearchDocument {
        model: path.clone(),
        image: args.image.clone(),
        device: device.describe(),
        score,
        probability: calibration.map(|c| c.quantiles.probability(score)),
        tile: of_image.as_ref().map(|of_image| of_image.highest),
        z: found.z.clone(),
        stages: rows,
        film: args.film.clone(),
    };
    if global.json {
        return say_json(&document);
    }
    say("step\tloss\tresidual\tdiscrimination")?;
    for stage in &document.stages {
        say(&format!(
            "{}\t{:.3}\t{:.3}\t{:.3}",
            stage.step, stage.loss, stage.residual, stage.discrimination
        ))?;
    }
    let probability = document.probability.map_or(String::new(), |p| format!(", probability {p:.3}"));
    let tile = document.tile.map_or(String::new(), |[x, y]| {
        format!(" of the image; the search is of its highest tile, at column {x}, row {y}")
    });
    say(&format!("score {:.4}{probability}{tile}", document.score))?;
    Ok(())
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
