//! `compare`: several systems, trained and evaluated on the same images under the same budget.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganomede_datasets::{Batch, Channels, Dataset, Indices, Reads, Split};

use crate::commands::train::{self, score_config, train_model};
use crate::shared::args::{DataArgs, Global, PreprocessArgs, SearchArgs, parse_rate};
use crate::shared::programs::System;
use crate::shared::session::{check_file, check_report, open_data};
use crate::shared::signals::{self, SampleArgs};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json, shown};
use ganomede::detect::{
    Applied, Assessment, FALSE_ALARM_RATE, Selection, TestSet, assess, check_limit, losses, score_selection,
};
use ganomede::device::Device;
use ganomede::eval::{Evaluation, Repeated};
use ganomede::models::file::ModelFile;
use ganomede::models::scorer::{Found, Scorer};
use ganomede::models::{Form, Options, SYSTEMS, find};
use ganomede::report::{
    ComparePanel, CompareReport, ComparedPanel, ComparedSystem, check_section, comparison_table,
    select_compared, write_comparison, write_section,
};

/// Train and evaluate several systems on the same data under the same budget; one report.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  ganomede compare --systems ae,ganomaly --data builtin:concrete --minutes 2 --report report"
)]
pub(crate) struct Args {
    /// Systems, or `all`.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', required = true)]
    systems: Vec<String>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) preprocess: PreprocessArgs,
    /// Folder for the models, report.html and metrics.json.
    #[arg(long, value_name = "DIR", default_value = "comparison")]
    pub(crate) report: PathBuf,
    /// Minutes of training for each system.
    #[arg(long)]
    minutes: Option<f64>,
    /// Steps of training for each system.
    #[arg(long)]
    steps: Option<u64>,
    /// Channels of the first feature maps.
    #[arg(long, default_value_t = 32)]
    width: usize,
    /// Fraction of the normal images held out for calibration.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) val_fraction: f64,
    /// Continue the trainings of an interrupted comparison from their checkpoints, bit for bit.
    #[arg(long)]
    resume: bool,
    /// Trainings of each system, with the seeds from --seed on: tables show mean ± standard deviation.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Score at most N test images, as many normal as anomalous where possible, chosen by the seed.
    #[arg(long, value_name = "N")]
    limit_test: Option<usize>,
    /// Share of false alarms among normal samples that the thresholds aim at [default: 0.05; 0.01 of the
    /// points of a series].
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) false_alarm_rate: Option<f64>,
    /// Images shown side by side: of each class the K ranked highest and lowest.
    #[arg(long, value_name = "K", default_value_t = 2)]
    panels: usize,
    /// Also put the table into this Markdown file, between `<!-- NAME -->` and `<!-- /NAME -->`.
    #[arg(long, value_name = "FILE.md")]
    pub(crate) markdown: Option<PathBuf>,
    /// NAME of the section in the Markdown file.
    #[arg(long, default_value = "comparison")]
    pub(crate) section: String,
    /// A setting of one system where it is not to be the recommended one: its options (`ganomede systems
    /// NAME`), or lr, latent or batch.
    #[arg(short = 'O', long = "option", value_name = "SYSTEM.KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<Setting>,
    #[command(flatten)]
    pub(crate) samples: SampleArgs,
    #[command(flatten)]
    pub(crate) search: SearchArgs,
}

/// What one system is to be trained with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    system: String,
    key: String,
    value: String,
}

fn parse_setting(text: &str) -> Result<Setting, String> {
    let parts = text.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value)));
    let ((system, key), value) = parts.ok_or("write SYSTEM.KEY=VALUE, for example f-anogan.lr=2e-4")?;
    Ok(Setting { system: system.to_owned(), key: key.to_owned(), value: value.to_owned() })
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { system, key, value } = self;
        write!(f, "{system}.{key}={value}")
    }
}

/// The systems that are named, each once.
fn systems(names: &[String]) -> Result<Vec<System>, CliError> {
    if names.iter().any(|n| n == "all") {
        return Ok(SYSTEMS.iter().map(|info| System::of(info)).collect());
    }
    let mut chosen: Vec<System> = vec![];
    for name in names {
        let info = find(name).ok_or_else(|| {
            let known: Vec<_> = SYSTEMS.iter().map(|info| info.name).collect();
            CliError::input(format!(
                "--systems names '{name}'; there are {} (`ganomede systems`), and `all`",
                known.join(", ")
            ))
        })?;
        if !chosen.iter().any(|s| s.name() == info.name) {
            chosen.push(System::of(info));
        }
    }
    Ok(chosen)
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let systems = systems(&args.systems)?;
    for system in &systems {
        args.training(*system, Path::new(""))?;
    }
    if let Some(unused) = args.settings.iter().find(|s| !systems.iter().any(|one| one.name() == s.system)) {
        return Err(CliError::input(format!("--option {unused} names no system of this comparison")));
    }
    if args.minutes.is_none() && args.steps.is_none() {
        return Err(CliError::input("compare needs a budget for each system: --minutes or --steps"));
    }
    if args.samples.table {
        return Err(CliError::input("compare has no --table; train and eval the systems one by one"));
    }
    let ignored = [("--seeds", args.seeds > 1), ("--limit-test", args.limit_test.is_some())];
    if let Some((flag, _)) = ignored.iter().find(|(_, is_given)| args.samples.signal && *is_given) {
        return Err(CliError::input(format!(
            "{flag} is for images; with --signal every row is scored, by one training of each system: leave it out"
        )));
    }
    let form = if args.samples.signal { Form::Signal } else { Form::Image };
    args.samples.check(form)?;
    args.data.check(form)?;
    check_limit(args.limit_test)?;
    let reads = args.samples.labels.iter().fold(Reads::new().data(&args.data.data), Reads::file);
    check_report(&args.report, &reads)?;
    args.markdown.as_deref().map_or(Ok(()), |file| check_file(file, &reads))?;
    if let Some(file) = &args.markdown {
        check_section(file, &args.section)?;
    }
    if !args.samples.signal {
        args.check_systems(&systems, global.seed, None)?;
        args.check_data(global.seed)?;
    }
    let device = global.open()?;
    if args.samples.signal {
        return signals::compare(args, &systems, global, &device, interrupt);
    }
    let mut done: Vec<(ComparedSystem, PathBuf)> = vec![];
    let (mut failures, mut is_machine) = (vec![], false);
    for (i, system) in systems.iter().enumerate() {
        note(&format!("system {} of {}: {}", i + 1, systems.len(), system.name()));
        match one(args, *system, global, &device, interrupt) {
            Ok(result) => done.push(result),
            Err(error) if interrupt.raised() => return Err(error),
            Err(error) => {
                note(&format!("{} failed: {error}", system.name()));
                is_machine |= error.code == 1;
                failures.push((system.name().to_owned(), error.to_string()));
            }
        }
    }
    if done.is_empty() {
        let reasons: Vec<_> = failures.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        let message = format!("no system could be trained: {}", reasons.join("; "));
        return Err(if is_machine { CliError::machine(message) } else { CliError::input(message) });
    }
    let (compared, models): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let panels = panels(args, &device, &compared, &models, interrupt)?;
    let report = CompareReport {
        title: format!("{} systems on {}", compared.len(), args.data.data),
        data: args.data.data.clone(),
        budget: budget(args),
        configuration: configuration(args, global),
        systems: compared,
        failures,
        panels,
    };
    let [page, metrics] = write_comparison(&args.report, &report)?;
    let table = comparison_table(&report);
    if let Some(file) = &args.markdown {
        write_section(file, &args.section, &table)?;
    }
    if global.json {
        let text = std::fs::read_to_string(&metrics)
            .map_err(|e| CliError::machine(format!("cannot read back '{}': {e}", metrics.display())))?;
        let document: serde_json::Value = serde_json::from_str(&text)
            .map_err(|e| CliError::machine(format!("'{}' does not parse: {e}", metrics.display())))?;
        return say_json(&document);
    }
    say(table.trim_end())?;
    say(&format!("report: {}", shown(&page)))
}

fn budget(args: &Args) -> String {
    match (args.minutes, args.steps) {
        (Some(minutes), Some(steps)) => format!("{minutes} minutes or {steps} steps of training a system"),
        (Some(minutes), None) => format!("{minutes} minutes of training a system"),
        (None, Some(steps)) => format!("{steps} steps of training a system"),
        (None, None) => "none".to_owned(),
    }
}

fn configuration(args: &Args, global: &Global) -> Vec<(String, String)> {
    let search = args.search.config(None).search;
    let settings: Vec<_> = args.settings.iter().map(Setting::to_string).collect();
    let settings = if settings.is_empty() { "as recommended".to_owned() } else { settings.join(" ") };
    [
        ("images", format!("{0}×{0} {1:?}", args.preprocess.size, args.preprocess.channels).to_lowercase()),
        ("width", args.width.to_string()),
        (
            "augmentation",
            if args.preprocess.augment.is_empty() { "none" } else { &args.preprocess.augment }.to_owned(),
        ),
        ("settings of single systems", settings),
        ("seeds", format!("{} from {}", args.seeds, global.seed)),
        ("latent search", format!("{} steps, {} restarts", search.steps, search.restarts)),
        ("false-alarm rate", args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE).to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Trains and evaluates one system, once for each seed; the report shows the first run, its tables all of
/// them.
fn one(
    args: &Args,
    system: System,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(ComparedSystem, PathBuf), CliError> {
    let mut runs: Vec<Evaluation> = vec![];
    let mut first: Option<(ComparedSystem, PathBuf)> = None;
    for further in 0..args.seeds {
        let seed = global.seed.wrapping_add(further);
        let suffix = if args.seeds > 1 { format!("-seed{seed}") } else { String::new() };
        let path = args.report.join(format!("{}{suffix}.safetensors", system.name()));
        let global = Global { seed, ..global.clone() };
        let (summary, model) = train_model(&args.training(system, &path)?, &global, device, interrupt)?;
        let Assessment { evaluation, images, .. } = evaluated(args, device, &model, &path, seed, interrupt)?;
        runs.push(evaluation.clone());
        first.get_or_insert_with(|| {
            let compared = ComparedSystem {
                evaluation,
                training_steps: summary.steps,
                training_seconds: summary.seconds,
                repeated: vec![],
                losses: losses(&model),
                images,
            };
            (compared, path)
        });
    }
    let (mut compared, path) = first.ok_or_else(|| CliError::input("--seeds is 0"))?;
    if runs.len() > 1 {
        compared.repeated = Repeated::of_runs(&runs)?;
    }
    Ok((compared, path))
}

impl Args {
    /// Refuses, before anything is trained, settings that one of the systems cannot have; where the systems
    /// are `all`, only names those that are left out. A series has this many `channels`.
    pub(crate) fn check_systems(
        &self,
        systems: &[System],
        seed: u64,
        channels: Option<usize>,
    ) -> Result<(), CliError> {
        let images = Channels::from(self.preprocess.channels).count();
        let all = channels.is_none() && self.systems.iter().any(|name| name == "all");
        for &system in systems {
            let mut training = self.training(system, Path::new(""))?;
            training.samples_from = SampleArgs { signal: channels.is_some(), ..self.samples.clone() };
            match train::check(&training, seed, Some(channels.unwrap_or(images))) {
                Err(error) if all => note(&format!("{} will be left out: {error}", system.name())),
                Err(error) => {
                    let message = format!("{}: {}", system.name(), error.message);
                    return Err(CliError { message, ..error });
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Makes sure, before anything is trained, that the data can be trained and tested on.
    fn check_data(&self, seed: u64) -> Result<(), CliError> {
        let spec = &self.data.data;
        let options = self.preprocess.open_options(self.data.open_options());
        let dataset = Arc::new(Dataset::open(spec, &options)?);
        dataset.holdout(self.val_fraction, seed)?;
        TestSet::new(spec, dataset, self.limit_test, 0)?;
        Ok(())
    }

    /// The training of one system within the budget.
    pub(crate) fn training(&self, system: System, out: &Path) -> Result<train::Args, CliError> {
        let mut training = train::Args {
            system,
            data: self.data.clone(),
            preprocess: self.preprocess.clone(),
            out: out.to_owned(),
            width: self.width,
            latent: None,
            prior: None,
            kernel: 4,
            options: vec![],
            batch: None,
            epochs: None,
            steps: self.steps,
            minutes: self.minutes,
            lr: None,
            val_fraction: self.val_fraction,
            checkpoint_every: 500,
            resume: self.resume,
            can_resume: true,
            half: false,
            half_checkpoints: false,
            samples: None,
            samples_from: SampleArgs::default(),
            search: self.search.clone(),
        };
        for setting in self.settings.iter().filter(|s| s.system == system.name()) {
            fn parsed<T: std::str::FromStr>(setting: &Setting) -> Result<Option<T>, CliError> {
                let refused = |_| CliError::input(format!("--option {setting} is not a number of its kind"));
                setting.value.parse().map(Some).map_err(refused)
            }
            match setting.key.as_str() {
                "lr" => training.lr = parsed(setting)?,
                "latent" => training.latent = parsed(setting)?,
                "batch" => training.batch = parsed(setting)?,
                _ => training.options.push((setting.key.clone(), setting.value.clone())),
            }
        }
        let given = training.options.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        Options::new(system.info.options, given)?;
        Ok(training)
    }
}

fn evaluated(
    args: &Args,
    device: &Device,
    model: &ModelFile,
    path: &Path,
    seed: u64,
    interrupt: &Interrupt,
) -> Result<Assessment, CliError> {
    let score = score_config(&args.search, model, path)?;
    let dataset = Arc::new(open_data(&args.data, model, false)?);
    // Every seed and system sees the same test images.
    let test = TestSet::new(&args.data.data, dataset, args.limit_test, 0)?;
    let batch = model.header.batch.min(test.indices.len());
    let mut terminal = Terminal::new(interrupt);
    let mut applied = Applied { device, model, path, score: &score, observer: &mut terminal };
    let mut scorer = applied.scorer(batch)?;
    let calibration = model.header.calibration.as_ref();
    let rate = args.false_alarm_rate.unwrap_or(FALSE_ALARM_RATE);
    Ok(assess(&mut applied, &mut scorer, &test, calibration, rate, seed, &mut |_, _, _| {})?)
}

/// The images that the systems together rank highest and lowest, as each of them sees them.
fn panels(
    args: &Args,
    device: &Device,
    systems: &[ComparedSystem],
    models: &[PathBuf],
    interrupt: &Interrupt,
) -> Result<Vec<ComparePanel>, CliError> {
    let shown = select_compared(systems, args.panels)?;
    let Some(first) = systems.first() else { return Ok(vec![]) };
    let ids: Vec<&str> = shown.iter().map(|&i| first.images[i].id.as_str()).collect();
    let mut panels: Vec<ComparePanel> = vec![];
    for path in models {
        let model = ModelFile::load(path)?;
        let data = Arc::new(open_data(&args.data, &model, false)?);
        let place = |id: &str| {
            (0..data.len(Split::Test)).find(|&i| data.entry(Split::Test, i).is_some_and(|e| e.id == id))
        };
        let indices = Indices::list(ids.iter().filter_map(|id| place(id)).collect());
        let score = score_config(&args.search, &model, path)?;
        let mut scorer = Scorer::new(device, &model, path, &score, indices.len().max(1))?;
        let [channels, height, width] = {
            let [_, c, h, w] = model.header.config.images(1);
            [c, h, w]
        };
        let len = scorer.image_len();
        let selection = Selection { data: data.clone(), split: Split::Test, indices };
        let mut each = |batch: &Batch, found: Vec<Found>| {
            for (i, found) in found.into_iter().enumerate() {
                let at = panels.iter().position(|p| p.id == batch.ids[i]).unwrap_or_else(|| {
                    let known = first.images.iter().find(|image| image.id == batch.ids[i]);
                    panels.push(ComparePanel {
                        id: batch.ids[i].clone(),
                        class: batch.classes[i].clone(),
                        anomalous: known.and_then(|image| image.anomalous),
                        channels,
                        height,
                        width,
                        query: batch.images[i * len..][..len].to_vec(),
                        mask: batch.masks[i].as_ref().map(|m| m.pixels.clone()),
                        systems: vec![],
                    });
                    panels.len() - 1
                });
                let Found { score, reconstruction, map, .. } = found;
                panels[at].systems.push(ComparedPanel { score, reconstruction, map });
            }
            Ok(())
        };
        score_selection(&mut scorer, &selection, "panels", &mut Terminal::new(interrupt), &mut each)?;
    }
    Ok(panels)
}
