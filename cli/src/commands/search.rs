//! `search`: the latent search of one query, step by step.

use std::path::PathBuf;

use ganomede_datasets::{Reads, Split};
use serde::Serialize;

use crate::commands::score::map_scale;
use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, ModelArg, SearchArgs};
use crate::shared::session::{check_file, open_data};
use crate::shared::{CliError, Interrupt, say, say_json};
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
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Debug, Serialize)]
struct Stage {
    step: usize,
    loss: f64,
    residual: f32,
    discrimination: f32,
}

#[derive(Debug, Serialize)]
struct Document {
    model: PathBuf,
    image: String,
    device: String,
    score: f64,
    probability: Option<f64>,
    z: Vec<f32>,
    stages: Vec<Stage>,
    film: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, global: &Global, _interrupt: &Interrupt) -> Result<(), CliError> {
    let path = &args.model.model;
    if let Some(film) = &args.film {
        check_file(film, &Reads::new().data(&args.image).file(path))?;
    }
    let model = ModelFile::load(path)?;
    let score = score_config(&args.search, &model, path)?;
    let data =
        DataArgs { data: args.image.clone(), normal_class: vec![], anomalous_class: vec![], strict: true };
    let dataset = open_data(&data, &model, true)?;
    let split = if dataset.is_empty(Split::Test) { Split::Train } else { Split::Test };
    let sample = dataset.load(split, 0)?;
    let device = global.open()?;
    let mut scorer = Scorer::new(&device, &model, path, &score, 1)?;
    if !scorer.is_searched() {
        return Err(CliError::input(format!(
            "the score '{}' of {} comes from one pass and has no search to show; use --score with a searched one, or \
             --refine N where there is an encoder",
            score.score, model.header.system
        )));
    }

    let (colours, size) = (model.header.config.channels, model.header.config.size);
    let scale = map_scale(&model);
    let steps = stages(scorer.config().search.steps, usize::from(args.stages));
    let mut rows = vec![];
    let mut frames = vec![picture(&sample.image.pixels, colours, size, size)?];
    let mut failed: Option<ReportError> = None;
    let mut watch = |step: usize, found: &[Found]| {
        let found = &found[0];
        let part = |name| found.part(name).unwrap_or(0.0);
        let (residual, discrimination) = (part("residual"), part("discrimination"));
        rows.push(Stage { step, loss: found.score, residual, discrimination });
        match picture(found.reconstruction.as_deref().unwrap_or_default(), colours, size, size) {
            Ok(frame) => frames.push(frame),
            Err(error) => failed = Some(error),
        }
    };
    let found = scorer.score(&sample.image.pixels, Some(Watch { stages: &steps, see: &mut watch }))?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let found = &found[0];
    if let Some(map) = &found.map {
        frames.push(overlay(&sample.image.pixels, colours, map, size, size, scale)?);
    }
    if let Some(film) = &args.film {
        save_png_atomic(film, &filmstrip(&frames)?)?;
    }
    let calibration = model.header.calibration.as_ref().filter(|c| c.score == score);
    let document = Document {
        model: path.clone(),
        image: args.image.clone(),
        device: device.describe(),
        score: found.score,
        probability: calibration.map(|c| c.quantiles.probability(found.score)),
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
    say(&format!("score {:.4}{probability}", document.score))?;
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
