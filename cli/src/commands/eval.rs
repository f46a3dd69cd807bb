//! `eval`: how well a model separates good from bad, as a report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganomede_datasets::{Batch, Dataset, Findings, Reads, Truth};
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, ModelArg, SearchArgs, parse_rate};
use crate::shared::findings::report_skipped;
use crate::shared::job::{again, trains_again};
use crate::shared::session::{check_file, check_report, open_data};
use crate::shared::signals::{self, SampleArgs};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json, shown};
use ganomede::detect::{
    Applied, Assessment, FALSE_ALARM_RATE, Images, TestSet, assess, check_limit, losses, own,
};
use ganomede::device::Device;
use ganomede::eval::{Evaluation, Repeated};
use ganomede::models::Form;
use ganomede::models::features::Features;
use ganomede::models::file::{Calibration, ModelFile};
use ganomede::models::scorer::{Found, Sampler, Scorer};
use ganomede::report::{
    Embedding, Panel, PointKind, ReportInput, Supplement, sample_timeline, write_report_with,
};

/// Evaluate a model on labelled test images: metrics, plots, report.html.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede eval parts.safetensors --data parts/ --report report/")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) model: ModelArg,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Folder for report.html and metrics.json.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Images searched side by side.
    #[arg(long, default_value_t = 64)]
    pub(crate) batch: usize,
    /// Score at most N test images or rows of a table, as many normal as anomalous where possible, chosen by
    /// the seed.
    #[arg(long, value_name = "N")]
    pub(crate) limit_test: Option<usize>,
    /// Share of false alarms among normal samples that the threshold aims at [default: 0.05; 0.01 of the
    /// points of a series].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) false_alarm_rate: Option<f64>,
    /// Panels for the highest and the lowest scores of each class.
    #[arg(long, value_name = "K", default_value_t = 3)]
    pub(crate) panels: usize,
    /// Folder of sample grids that `train --samples` wrote: the report shows how they changed.
    #[arg(long, value_name = "DIR", requires = "report")]
    pub(crate) timeline: Option<PathBuf>,
    /// Also train N − 1 more models as this one was trained, with the seeds after its own, beside the model
    /// file; metrics become mean ± standard deviation.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub(crate) seeds: u64,
    #[command(flatten)]
    pub(crate) samples: SampleArgs,
    #[command(flatten)]
    pub(crate) search: SearchArgs,
}

/// What an evaluation reads.
pub(crate) fn reads(args: &Args) -> Reads {
    let reads = Reads::new().data(&args.data.data).file(&args.model.model);
    args.samples.labels.iter().fold(reads, Reads::file)
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    if args.batch == 0 {
        return Err(CliError::input("--batch is 0; it must be at least 1"));
    }
    check_limit(args.limit_test)?;
    args.report.as_deref().map_or(Ok(()), |folder| check_report(folder, &reads(args)))?;
    let device = global.open()?;
    let model = ModelFile::load(&args.model.model)?;
    let form = model.header.config.form;
    args.samples.check(form)?;
    args.data.check(form)?;
    if args.timeline.is_some() && form != Form::Image {
        return Err(CliError::input(
            "--timeline shows samples of images; rows of tables and points of series have none: leave it out",
        ));
    }
    check_places(args, &model)?;
    match form {
        Form::Image => {}
        Form::Signal => return signals::evaluate(args, global, &device, &model, interrupt),
        Form::Table => return signals::evaluate_table(args, global, &device, &model, interrupt),
    }
    // Opened before anything is evaluated: what cannot be trained on is said now.
    let next = further(args, &model).next().map(|(seed, _)| images_again(args, &model, seed)).transpose()?;
    let Evaluated { evaluation, findings, files } = evaluate(args, global, &device, interrupt)?;
    let repeated = repeat(args, global, &device, &model, next, &evaluation, interrupt)?;
    if global.json {
        return say_json(&Document { evaluation, findings, repeated: repeated.into_iter().collect() });
    }
    say(&summary(&evaluation))?;
    if let Some((_, r)) = repeated.first() {
        say(&format!("over {} seeds, mean ± standard deviation:", r.values.len()))?;
    }
    for (name, metric) in repeated {
        say(&format!("  {name} {metric:.4}"))?;
    }
    if let Some([page, _]) = files {
        say(&format!("report: {}", shown(&page)))?;
    }
    Ok(())
}

/// `eval --json`.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    evaluation: Evaluation,
    #[serde(flatten)]
    findings: Findings,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    repeated: BTreeMap<&'static str, Repeated>,
}

/// Trains and evaluates models that differ from this one in their seeds; every metric over all of them.
fn repeat(
    args: &Args,
    global: &Global,
    device: &Device,
    model: &ModelFile,
    mut next: Option<Images>,
    first: &Evaluation,
    interrupt: &Interrupt,
) -> Result<Vec<(&'static str, Repeated)>, CliError> {
    let mut runs = vec![first.clone()];
    for (seed, out) in further(args, model) {
        let images = match next.take() {
            Some(images) => images,
            None => images_again(args, model, seed)?,
        };
        again(device, model, seed, &out, &images, interrupt)?;
        let args = Args { model: ModelArg { model: out }, report: None, timeline: None, ..args.clone() };
        runs.push(evaluate(&args, global, device, interrupt)?.evaluation);
    }
    Ok(if runs.len() > 1 { Repeated::of_runs(&runs)? } else { vec![] })
}

/// The images that a model was trained on, split by another seed.
fn images_again(args: &Args, model: &ModelFile, seed: u64) -> Result<Images, CliError> {
    let dataset = Arc::new(open_data(&args.data, model, true)?);
    Images::again(dataset, model, seed).map_err(trains_again)
}

/// The seeds that are trained with beside the model's own, each with where its model is written.
pub(crate) fn further(args: &Args, model: &ModelFile) -> impl Iterator<Item = (u64, PathBuf)> {
    let (first, path) = (model.header.seed, args.model.model.clone());
    (1..args.seeds).map(move |further| {
        let seed = first.wrapping_add(further);
        (seed, beside(&path, seed))
    })
}

/// Makes sure before any work that the models of further seeds can be written.
fn check_places(args: &Args, model: &ModelFile) -> Result<(), CliError> {
    further(args, model).try_for_each(|(_, out)| check_file(&out, &reads(args)))
}

/// Where the model of another seed is written: beside the first.
fn beside(path: &Path, seed: u64) -> PathBuf {
    let stem = path.file_stem().map_or("model".into(), |s| s.to_string_lossy());
    path.with_file_name(format!("{stem}-seed{seed}.safetensors"))
}

/// The lines that people read.
pub(crate) fn summary(e: &Evaluation) -> String {
    let number = |value: Option<f64>| value.map_or("undefined".to_owned(), |v| format!("{v:.4}"));
    let interval =
        e.auroc_ci95.map_or(String::new(), |[lo, hi]| format!(" (95 % interval {lo:.4} to {hi:.4})"));
    let mut lines = vec![
        format!("images: {} normal, {} anomalous", e.n_normal, e.n_anomalous),
        format!("AUROC {}{interval}", number(e.auroc)),
        format!("AUPR  {} (no skill: {})", number(e.aupr), number(e.aupr_baseline)),
    ];
    if let Some(t) = &e.threshold {
        lines.push(format!(
            "at threshold {:.4} ({}): precision {}, recall {}, F1 {}",
            t.value,
            t.source,
            number(t.precision),
            number(t.recall),
            number(t.f1)
        ));
    }
    if let Some(pixel) = &e.pixel {
        lines.push(format!("pixel AUROC {:.4}, AUPRO {:.4}", pixel.auroc, pixel.aupro));
    }
    lines.push(format!("{:.4} s per image on {}", e.seconds_per_image, e.device));
    lines.join("\n")
}

/// One image with its pictures, kept while it is among the extremes of its class.
struct Kept {
    score: f64,
    panel: Panel,
}

/// The `k` highest and lowest of each class, in bounded memory.
struct Extremes {
    k: usize,
    classes: BTreeMap<String, (Vec<Kept>, Vec<Kept>)>,
}

impl Extremes {
    fn offer(&mut self, class: &str, score: f64, panel: impl Fn() -> Panel) {
        let (high, low) = self.classes.entry(class.to_owned()).or_default();
        for (list, sign) in [(high, 1.0), (low, -1.0)] {
            let enters = list.len() < self.k || list.iter().any(|kept| sign * score > sign * kept.score);
            if self.k > 0 && enters {
                list.push(Kept { score, panel: panel() });
                list.sort_by(|a, b| (sign * b.score).total_cmp(&(sign * a.score)));
                list.truncate(self.k);
            }
        }
    }

    fn panels(self) -> Vec<Panel> {
        let mut panels: Vec<Panel> = vec![];
        for (_, (high, low)) in self.classes {
            for kept in high.into_iter().chain(low.into_iter().rev()) {
                if !panels.iter().any(|p| p.id == kept.panel.id) {
                    panels.push(kept.panel);
                }
            }
        }
        panels
    }
}

/// The first test samples of either truth, for a picture of their features.
#[derive(Default)]
struct Neighbours {
    kinds: Vec<PointKind>,
    samples: Vec<f32>,
}

impl Neighbours {
    /// Samples of either truth at most.
    const EACH: usize = 200;
    /// Samples in a batch, and generated images.
    const BATCH: usize = 64;

    fn offer(&mut self, anomalous: bool, sample: &[f32]) {
        let kind = if anomalous { PointKind::Anomalous } else { PointKind::Normal };
        if self.kinds.iter().filter(|&&k| k == kind).count() < Self::EACH {
            self.kinds.push(kind);
            self.samples.extend_from_slice(sample);
        }
    }

    fn embedding(
        mut self,
        device: &Device,
        model: &ModelFile,
        path: &Path,
    ) -> Result<Option<Embedding>, CliError> {
        let Some(mut map) = Features::of_file(device, model, path, Self::BATCH)? else { return Ok(None) };
        let mut features = vec![];
        for batch in self.samples.chunks(Self::BATCH * model.header.config.sample_len()) {
            features.extend(map.of(batch)?);
        }
        let dim = features.len() / self.kinds.len().max(1);
        if dim == 0 {
            return Ok(None);
        }
        let generated = map.of_generated()?;
        self.kinds.extend((0..generated.len() / dim).map(|_| PointKind::Generated));
        features.extend(generated);
        Ok(Some(Embedding::of_features("t-SNE of the system's features", &features, dim, &self.kinds)?))
    }
}

/// What [`evaluate`] gives.
pub(crate) struct Evaluated {
    pub(crate) evaluation: Evaluation,
    /// What of the set was not used.
    pub(crate) findings: Findings,
    /// `report.html` and `metrics.json`.
    pub(crate) files: Option<[PathBuf; 2]>,
}

/// Scores the test images of a set, computes the metrics and writes the report if asked for.
pub(crate) fn evaluate(
    args: &Args,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<Evaluated, CliError> {
    let path = &args.model.model;
    let model = ModelFile::load(path)?;
    let score = score_config(&args.search, &model, path)?;
    let timeline = match &args.timeline {
        Some(samples) => sample_timeline(samples, 8)?,
        None => vec![],
    };
    let dataset = Arc::new(open_data(&args.data, &model, false)?);
    report_skipped(&dataset.findings());
    let test = TestSet::new(&args.data.data, dataset.clone(), args.limit_test, global.seed)?;
    let mut terminal = Terminal::new(interrupt);
    let mut applied = Applied { device, model: &model, path, score: &score, observer: &mut terminal };
    let calibration = calibration(args, &mut applied, &dataset)?;
    let batch = args.batch.min(test.indices.len());
    let mut scorer = applied.scorer(batch)?;

    let mut extremes = Extremes { k: args.panels, classes: BTreeMap::new() };
    let config = &model.header.config;
    let (len, size) = (scorer.image_len(), config.size);
    let mut neighbours = Neighbours::default();
    let mut see = |batch: &Batch, i: usize, found: &Found| {
        let anomalous = batch.truths[i] == Truth::Anomalous;
        neighbours.offer(anomalous, &batch.images[i * len..][..len]);
        let panel_class = if anomalous { &batch.classes[i] } else { "normal" };
        extremes.offer(panel_class, found.score, || Panel {
            id: batch.ids[i].clone(),
            class: batch.classes[i].clone(),
            score: found.score,
            channels: config.channels,
            height: size,
            width: size,
            query: batch.images[i * len..][..len].to_vec(),
            reconstruction: found.reconstruction.clone(),
            map: found.map.clone().unwrap_or_else(|| vec![0.0; size * size]),
            mask: batch.masks[i].as_ref().map(|m| m.pixels.clone()),
        });
    };
    let Assessment { evaluation, images, findings, preview } = assess(
        &mut applied,
        &mut scorer,
        &test,
        calibration.as_ref(),
        args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE),
        global.seed,
        &mut see,
    )?;
    let files = match &args.report {
        Some(folder) => {
            let (samples, reconstructs) = samples(device, &model, path, &preview)?;
            let input = ReportInput {
                title: format!("{} on {}", model.header.system, args.data.data),
                data: args.data.data.clone(),
                configuration: configuration(&model, path, &scorer, args),
                evaluation: evaluation.clone(),
                images,
                panels: extremes.panels(),
                losses: losses(&model),
                samples,
            };
            let embedding = neighbours.embedding(device, &model, path)?;
            Some(write_report_with(
                folder,
                &input,
                &Supplement {
                    findings: fields(&findings)?,
                    timeline,
                    reconstructs,
                    embedding,
                    ..Supplement::default()
                },
            )?)
        }
        None => None,
    };
    Ok(Evaluated { evaluation, findings, files })
}

/// As fields of a JSON object.
fn fields(findings: &Findings) -> Result<serde_json::Map<String, serde_json::Value>, CliError> {
    match serde_json::to_value(findings) {
        Ok(serde_json::Value::Object(fields)) => Ok(fields),
        Ok(_) => Ok(serde_json::Map::new()),
        Err(error) => Err(CliError::machine(error.to_string())),
    }
}

/// The model's own calibration, or a new one from its held-out normal images where the search settings
/// differ.
fn calibration(
    args: &Args,
    applied: &mut Applied<'_>,
    dataset: &Arc<Dataset>,
) -> Result<Option<Calibration>, CliError> {
    if let Some(own) = own(applied.model, applied.score) {
        return Ok(Some(own.clone()));
    }
    let Some(held_out) = Images::held_out_of(applied.model, dataset)? else {
        note(
            "no threshold: these search settings differ from the calibrated ones and the training data are not here",
        );
        return Ok(None);
    };
    let scores = held_out.held_out_scores_by(args.batch, applied)?;
    let rate = args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE);
    Ok(ganomede::detect::calibration(&scores, applied.score, rate)?)
}

fn configuration(model: &ModelFile, path: &Path, scorer: &Scorer, args: &Args) -> Vec<(String, String)> {
    let header = &model.header;
    let config = &header.config;
    let colour = if config.channels == 1 { "gray" } else { "rgb" };
    [
        ("model", path.display().to_string()),
        (
            "trained on",
            format!(
                "{} ({} images, {} held out)",
                header.data.spec, header.data.training_images, header.data.held_out
            ),
        ),
        ("images", format!("{0}×{0} {colour}", config.size)),
        ("networks", format!("width {}, latent {}, kernel {}", config.width, config.latent, config.kernel)),
        (
            "training",
            format!(
                "{} steps of {}, lr {}, seed {}",
                header.progress.steps, header.batch, header.training.lr, header.seed
            ),
        ),
        ("training time", format!("{:.1} s on {}", header.progress.seconds, header.device)),
        ("score", describe_score(scorer)),
        ("false-alarm rate", args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE).to_string()),
        ("version", header.version.clone()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The score in use, with the settings of its search if it has one.
fn describe_score(scorer: &Scorer) -> String {
    let config = scorer.config();
    if !scorer.is_searched() {
        return config.score.clone();
    }
    let search = &config.search;
    let from = if config.refine > 0 { " from E(x)" } else { "" };
    format!(
        "{}, {} search steps{from}, {} restarts, λ {}, lr {}",
        config.score, search.steps, search.restarts, search.lambda, search.lr
    )
}

/// The sample grid, and whether it shows reconstructions.
fn samples(
    device: &Device,
    model: &ModelFile,
    path: &Path,
    preview: &[f32],
) -> Result<(Option<image::RgbImage>, bool), CliError> {
    let Some(mut sampler) = Sampler::of_file(device, model, path, preview)? else { return Ok((None, false)) };
    Ok((Some(sampler.grid()?), sampler.reconstructs()))
}
