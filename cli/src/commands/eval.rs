//! `eval`: how well a model separates good from bad, as a report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ganomede::detect::{Applied, Assess, Assessment, Pages, TestData, TestSet, check_limit, rate_of};
use ganomede::device::Device;
use ganomede::eval::Repeated;
use ganomede::models::file::ModelFile;
use ganomede_datasets::Reads;
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{DataArgs, Global, ModelArg, SearchArgs, parse_rate};
use crate::shared::job::{again, trains_again};
use crate::shared::samples::{Flag, For, SampleArgs, refuse};
use crate::shared::session::{check_file, check_report};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json, say_warning, shown};

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
    let reads = args.data.reads().file(&args.model.model);
    args.samples.labels.iter().fold(reads, Reads::file)
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    if args.batch == 0 {
        return Err(CliError::input("--batch is 0; it must be at least 1"));
    }
    check_limit(args.limit_test)?;
    args.report.as_deref().map_or(Ok(()), |folder| check_report(folder, &reads(args)))?;
    let (model, path) = (ModelFile::load(&args.model.model)?, &args.model.model);
    let device = global.open_for(&model)?;
    check(args, &model)?;
    check_places(args, &model)?;
    let test = data(args, global.seed).open(&model, path, &mut Terminal::new(interrupt))?;
    let again_with = |seed| test.again(&model, seed).map_err(trains_again);
    // Opened before anything is evaluated: what cannot be trained on is said now.
    let mut next = further(args, &model).next().map(|(seed, _)| again_with(seed)).transpose()?;
    let first = one(args, global, &device, &model, path, test.as_ref(), interrupt)?;
    let mut runs: Vec<_> = first.assessment.samples().map(|s| s.evaluation.clone()).into_iter().collect();
    for (seed, out) in further(args, &model) {
        let samples = match next.take() {
            Some(samples) => samples,
            None => again_with(seed)?,
        };
        samples.notes().iter().for_each(|text| note(text));
        let model = again(&device, &model, seed, &out, samples.as_ref(), interrupt)?;
        let test = data(args, global.seed).open(&model, &out, &mut Terminal::new(interrupt))?;
        let args = Args { report: None, ..args.clone() };
        let run = one(&args, global, &device, &model, &out, test.as_ref(), interrupt)?;
        runs.extend(run.assessment.samples().map(|s| s.evaluation.clone()));
    }
    let repeated = if runs.len() > 1 { Repeated::of_runs(&runs)? } else { vec![] };
    let Evaluated { assessment, page } = first;
    if global.json {
        return say_json(&EvalDocument { assessment, repeated: repeated.into_iter().collect() });
    }
    say(&assessment.summary())?;
    assessment.warnings().iter().try_for_each(|warning| say_warning(warning))?;
    if !repeated.is_empty() {
        say(&format!("over {} seeds, mean ± standard deviation:", runs.len()))?;
    }
    repeated.iter().try_for_each(|(name, metric)| say(&format!("  {name} {metric:.4}")))?;
    page.map_or(Ok(()), |page| say(&format!("report: {}", shown(&page))))
}

/// `eval --json`.
#[derive(Debug, Serialize)]
struct EvalDocument {
    #[serde(flatten)]
    assessment: Assessment,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    repeated: BTreeMap<&'static str, Repeated>,
}

/// Refuses what is not for samples of the model.
fn check(args: &Args, model: &ModelFile) -> Result<(), CliError> {
    let config = &model.header.config;
    args.samples.check_trained(config.form)?;
    args.data.check(config.form)?;
    let every =
        "is for images and tables; every row of a series is scored, with the model given: leave it out";
    refuse(
        config.form,
        &[
            Flag(
                "--timeline",
                args.timeline.is_some(),
                For::Images,
                "shows samples of images; rows of tables and points of series have none: leave it out",
            ),
            Flag("--seeds", args.seeds > 1, For::ImagesAndTables, every),
            Flag("--limit-test", args.limit_test.is_some(), For::ImagesAndTables, every),
        ],
    )?;
    args.samples.check_stride(config.size.width)
}

/// What a model is evaluated on.
fn data(args: &Args, seed: u64) -> TestData {
    let reading = args.samples.reading(&args.data);
    TestData { spec: args.data.data.to_string(), reading, limit: args.limit_test, seed }
}

/// What a model makes of the data, and where that is shown.
pub(crate) struct Evaluated {
    pub(crate) assessment: Assessment,
    /// `report.html`.
    pub(crate) page: Option<PathBuf>,
}

/// Evaluates the model of the arguments.
pub(crate) fn evaluate(
    args: &Args,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<Evaluated, CliError> {
    let (model, path) = (ModelFile::load(&args.model.model)?, &args.model.model);
    let test = data(args, global.seed).open(&model, path, &mut Terminal::new(interrupt))?;
    one(args, global, device, &model, path, test.as_ref(), interrupt)
}

/// Evaluates one model.
fn one(
    args: &Args,
    global: &Global,
    device: &Device,
    model: &ModelFile,
    path: &Path,
    test: &dyn TestSet,
    interrupt: &Interrupt,
) -> Result<Evaluated, CliError> {
    let score = score_config(&args.search, model, path)?;
    let mut terminal = Terminal::new(interrupt);
    let mut applied = Applied { device, model, path, score: &score, observer: &mut terminal };
    let rate = args.false_alarm_rate.unwrap_or_else(|| rate_of(model));
    let how = Assess { rate, batch: args.batch, seed: global.seed };
    Ok(match &args.report {
        None => Evaluated { assessment: test.assess(&mut applied, &how)?, page: None },
        Some(folder) => {
            let pages = Pages { folder, panels: args.panels, timeline: args.timeline.as_deref() };
            let (assessment, [page, _]) = test.report(&mut applied, &how, &pages)?;
            Evaluated { assessment, page: Some(page) }
        }
    })
}

/// The seeds that are trained with beside the model's own, each with where its model is written.
fn further(args: &Args, model: &ModelFile) -> impl Iterator<Item = (u64, PathBuf)> {
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
