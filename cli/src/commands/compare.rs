//! `compare`: several systems, trained and evaluated on the same images under the same budget.

use std::path::{Path, PathBuf};

use ganomede::detect::{
    Applied, Compared, Comparison, ComparisonData, ComparisonPages, check_limit, usual_rate,
};
use ganomede::device::Device;
use ganomede::models::file::ModelFile;
use ganomede::models::{Options, SYSTEMS, find};
use ganomede::report::check_section;
use ganomede::train::Team;
use ganomede_datasets::Reads;

use crate::commands::train::{self, score_config, train_model};
use crate::shared::args::{DataArgs, Global, PreprocessArgs, RecipeArgs, SearchArgs, parse_rate};
use crate::shared::programs::ChosenSystem;
use crate::shared::samples::{Flag, For, SampleArgs, refuse};
use crate::shared::session::{check_file, check_report};
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, say, say_json, shown};

/// Train and evaluate several systems on the same data under the same budget, or compare trained models; one
/// report.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  ganomede compare --systems ae,ganomaly --data builtin:concrete --minutes 2 --report report\n  \
    ganomede compare a.safetensors b.safetensors --data parts/"
)]
pub(crate) struct Args {
    /// Model files that are compared as they are, instead of systems to be trained.
    #[arg(value_name = "M", conflicts_with_all = ["systems", "minutes", "steps", "width", "val_fraction", "resume",
        "seeds", "settings", "size", "channels", "centre_crop", "flatten", "standardise", "bits", "tile", "augment"])]
    models: Vec<PathBuf>,
    /// Systems, or `all`.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', required_unless_present = "models")]
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
    /// NAME`), or lr, latent, batch, ema, lr-schedule or batch-norm-pass.
    #[arg(short = 'O', long = "option", value_name = "SYSTEM.KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<SystemSetting>,
    #[command(flatten)]
    pub(crate) samples: SampleArgs,
    #[command(flatten)]
    pub(crate) search: SearchArgs,
}

/// What one system is to be trained with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SystemSetting {
    system: String,
    key: String,
    value: String,
}

fn parse_setting(text: &str) -> Result<SystemSetting, String> {
    let parts = text.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value)));
    let ((system, key), value) = parts.ok_or("write SYSTEM.KEY=VALUE, for example f-anogan.lr=2e-4")?;
    Ok(SystemSetting { system: system.to_owned(), key: key.to_owned(), value: value.to_owned() })
}

impl std::fmt::Display for SystemSetting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { system, key, value } = self;
        write!(f, "{system}.{key}={value}")
    }
}

/// The systems that are named, each once.
fn systems(names: &[String]) -> Result<Vec<ChosenSystem>, CliError> {
    if names.iter().any(|n| n == "all") {
        return Ok(SYSTEMS.iter().map(|info| ChosenSystem::of(info)).collect());
    }
    let mut chosen: Vec<ChosenSystem> = vec![];
    for name in names {
        let info = find(name).ok_or_else(|| {
            let known: Vec<_> = SYSTEMS.iter().map(|info| info.name).collect();
            CliError::input(format!(
                "--systems names '{name}'; there are {} (`ganomede systems`), and `all`",
                known.join(", ")
            ))
        })?;
        if !chosen.iter().any(|s| s.name() == info.name) {
            chosen.push(ChosenSystem::of(info));
        }
    }
    Ok(chosen)
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    if !args.models.is_empty() {
        return compare_models(args, global, interrupt);
    }
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
    check(args)?;
    check_outputs(args)?;
    // What is known before any data are open is checked before.
    let known = args.samples.channels(&args.preprocess);
    known.map_or(Ok(()), |channels| args.check_systems(&systems, global.seed, channels, true))?;
    let mut terminal = Terminal::new(interrupt);
    let mut comparison = data(args, systems[0], global)?.open(&mut terminal)?;
    if known.is_none() {
        let mut channels = comparison.channels().into_iter();
        channels.try_for_each(|channels| args.check_systems(&systems, global.seed, channels, false))?;
    }
    let device = global.open()?;
    let (mut compared, mut failures, mut is_machine) = (0, vec![], false);
    for (i, &system) in systems.iter().enumerate() {
        if comparison.trials().iter().all(|trial| trial.about.is_none()) {
            note(&format!("system {} of {}: {}", i + 1, systems.len(), system.name()));
        }
        match one(args, system, false, comparison.as_mut(), global, &device, interrupt) {
            Ok(()) => compared += 1,
            Err(error) if interrupt.raised() || !comparison.goes_on() => return Err(error),
            Err(error) => {
                note(&format!("{} failed: {error}", system.name()));
                is_machine |= error.code == 1;
                failures.push((system.name().to_owned(), error.to_string()));
            }
        }
    }
    if compared == 0 {
        let reasons: Vec<_> = failures.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        let message = format!("no system could be trained: {}", reasons.join("; "));
        return Err(if is_machine { CliError::machine(message) } else { CliError::input(message) });
    }
    if comparison.has_untrained()
        && let Some(system) = args.first_network(&systems, global.seed, comparison.channels()[0])?
    {
        one(args, system, true, comparison.as_mut(), global, &device, interrupt)?;
    }
    let pages = ComparisonPages {
        budget: budget(args),
        configuration: configuration(args, global),
        failures,
        ..pages(args)
    };
    show(&comparison.write(&device, &pages, &mut terminal)?, global)
}

/// Compares trained models on the test part of the data.
fn compare_models(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    check_limit(args.limit_test)?;
    check_outputs(args)?;
    let models = args.models.iter().map(|path| Ok((path, ModelFile::load(path)?)));
    let models = models.collect::<Result<Vec<_>, CliError>>()?;
    let (first_path, first) = &models[0];
    for (path, model) in &models {
        let form = model.header.config.form;
        args.samples.check_trained(form)?;
        args.data.check(form)?;
        if form != first.header.config.form {
            return Err(CliError::input(format!(
                "'{}' and '{}' are of different samples; compare models of one kind",
                shown(first_path),
                shown(path)
            )));
        }
    }
    refuse(
        first.header.config.form,
        &[Flag(
            "--limit-test",
            args.limit_test.is_some(),
            For::ImagesAndTables,
            "is for images; leave it out",
        )],
    )?;
    let mut terminal = Terminal::new(interrupt);
    let reading = args.samples.reading(&args.data);
    let mut data = ComparisonData::of_models(&args.data.data, reading, first, global.seed);
    data.limit = args.limit_test;
    let rate = args.false_alarm_rate.unwrap_or(data.rate);
    data.rate = rate;
    let mut comparison = data.open_tests(&mut terminal)?;
    let device = global.open()?;
    let mut configuration = vec![];
    for (path, model) in &models {
        let name = model_name(path, &args.models);
        let score = score_config(&args.search, model, path)?;
        for trial in 0..comparison.trials().len() {
            let mut terminal = Terminal::new(interrupt);
            let mut applied =
                Applied { device: &device, model, path, score: &score, observer: &mut terminal };
            comparison.score(trial, &mut applied)?;
        }
        comparison.add(&name, false)?;
        let header = &model.header;
        configuration
            .push((name, format!("{} on {}, seed {}", header.system, header.data.spec, header.seed)));
    }
    configuration.push(("false-alarm rate".to_owned(), rate.to_string()));
    let budget = "models as they are".to_owned();
    let pages = ComparisonPages { budget, configuration, ..pages(args) };
    show(&comparison.write(&device, &pages, &mut terminal)?, global)
}

/// What a table calls a model: the stem of its file, or all of its name where others have that stem.
fn model_name(path: &Path, all: &[PathBuf]) -> String {
    let is_only = all.iter().filter(|other| other.file_stem() == path.file_stem()).count() == 1;
    let stem = path.file_stem().filter(|_| is_only);
    stem.map_or_else(|| shown(path), |stem| shown(Path::new(stem)))
}

/// Makes sure that the results can be written.
fn check_outputs(args: &Args) -> Result<(), CliError> {
    let reads = args.samples.labels.iter().fold(args.data.reads(), Reads::file);
    let reads = args.models.iter().fold(reads, Reads::file);
    check_report(&args.report, &reads)?;
    if let Some(file) = &args.markdown {
        check_file(file, &reads)?;
        check_section(file, &args.section)?;
    }
    Ok(())
}

fn pages(args: &Args) -> ComparisonPages<'_> {
    ComparisonPages {
        folder: &args.report,
        budget: String::new(),
        configuration: vec![],
        failures: vec![],
        panels: args.panels,
        markdown: args.markdown.as_deref().map(|file| (file, args.section.as_str())),
    }
}

fn show(compared: &Compared, global: &Global) -> Result<(), CliError> {
    if global.json {
        return say_json(&compared.document);
    }
    say(compared.table.trim_end())?;
    say(&format!("report: {}", shown(&compared.page)))
}

/// Refuses what is not for the samples that are compared on.
fn check(args: &Args) -> Result<(), CliError> {
    let form = args.samples.form();
    let every =
        "is for images; with --signal every row is scored, by one training of each system: leave it out";
    refuse(
        form,
        &[
            Flag("--seeds", args.seeds > 1, For::ImagesAndTables, every),
            Flag("--limit-test", args.limit_test.is_some(), For::ImagesAndTables, every),
        ],
    )?;
    args.samples.check(form)?;
    args.data.check(form)?;
    args.samples.check_stride(args.preprocess.size.width)?;
    Ok(check_limit(args.limit_test)?)
}

/// What systems are compared on.
fn data(args: &Args, system: ChosenSystem, global: &Global) -> Result<ComparisonData, CliError> {
    let training = train::data(&args.training(system, Path::new(""))?, global.seed);
    let rate = args.false_alarm_rate.unwrap_or_else(|| usual_rate(training.form));
    Ok(ComparisonData { training, seeds: args.seeds, limit: args.limit_test, rate })
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
    let rate = args.false_alarm_rate.unwrap_or_else(|| usual_rate(args.samples.form()));
    let settings: Vec<_> = args.settings.iter().map(SystemSetting::to_string).collect();
    let settings = if settings.is_empty() { "as recommended".to_owned() } else { settings.join(" ") };
    [
        ("images", format!("{} {:?}", args.preprocess.size.sides(), args.preprocess.channels).to_lowercase()),
        ("width", args.width.to_string()),
        (
            "augmentation",
            if args.preprocess.augment.is_empty() { "none" } else { &args.preprocess.augment }.to_owned(),
        ),
        ("settings of single systems", settings),
        ("seeds", format!("{} from {}", args.seeds, global.seed)),
        ("latent search", format!("{} steps, {} restarts", search.steps, search.restarts)),
        ("false-alarm rate", rate.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Trains one system for each of the trials and scores its models.
fn one(
    args: &Args,
    system: ChosenSystem,
    untrained: bool,
    comparison: &mut dyn Comparison,
    global: &Global,
    device: &Device,
    interrupt: &Interrupt,
) -> Result<(), CliError> {
    for (i, trial) in comparison.trials().to_vec().into_iter().enumerate() {
        if let Some(about) = &trial.about {
            note(&format!("{} on {about}", system.name()));
        }
        let name = if untrained { "untrained" } else { system.name() };
        let path = args.report.join(format!("{name}{}.safetensors", trial.suffix));
        let mut training = args.training(system, &path)?;
        training.data.data.replace(trial.spec);
        if untrained {
            (training.steps, training.minutes) = (Some(1), None);
            training.lr = Some(1e-12);
        }
        let global = Global { seed: trial.seed, ..global.clone() };
        let (_, model) = train_model(&training, &global, device, interrupt)?;
        let score = score_config(&args.search, &model, &path)?;
        let mut terminal = Terminal::new(interrupt);
        let mut applied =
            Applied { device, model: &model, path: &path, score: &score, observer: &mut terminal };
        comparison.score(i, &mut applied)?;
    }
    Ok(comparison.add(system.name(), untrained)?)
}

impl Args {
    /// Refuses, before anything is trained, settings that one of the systems cannot have with samples of so
    /// many channels; where the systems are `all` and a comparison goes on without one, only names those that
    /// are left out.
    fn check_systems(
        &self,
        systems: &[ChosenSystem],
        seed: u64,
        channels: usize,
        goes_on: bool,
    ) -> Result<(), CliError> {
        let all = goes_on && self.systems.iter().any(|name| name == "all");
        for &system in systems {
            match train::check(&self.training(system, Path::new(""))?, seed, Some(channels)) {
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

    /// The first system that training makes better: an untrained one of the others says nothing.
    fn first_network(
        &self,
        systems: &[ChosenSystem],
        seed: u64,
        channels: usize,
    ) -> Result<Option<ChosenSystem>, CliError> {
        for &system in systems {
            let settings = train::settings(&self.training(system, Path::new(""))?, seed, channels);
            if settings.checked()?.takes_budget()? {
                return Ok(Some(system));
            }
        }
        Ok(None)
    }

    /// The training of one system within the budget.
    fn training(&self, system: ChosenSystem, out: &Path) -> Result<train::Args, CliError> {
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
            accumulate: 1,
            sync_bn: false,
            team: Team::default(),
            recipe: RecipeArgs::default(),
            val_fraction: self.val_fraction,
            textures: None,
            checkpoint_every: 500,
            keep_every: 0,
            resume: self.resume,
            can_resume: true,
            half: false,
            half_checkpoints: false,
            samples: None,
            log: None,
            samples_from: self.samples.clone(),
            search: self.search.clone(),
        };
        for setting in self.settings.iter().filter(|s| s.system == system.name()) {
            fn parsed<T: std::str::FromStr>(setting: &SystemSetting) -> Result<Option<T>, CliError> {
                let refused = |_| CliError::input(format!("--option {setting} is not a number of its kind"));
                setting.value.parse().map(Some).map_err(refused)
            }
            fn word<T: clap::ValueEnum>(setting: &SystemSetting) -> Result<T, CliError> {
                let known = T::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
                let known: Vec<_> = known.map(|value| value.get_name().to_owned()).collect();
                let refused =
                    |_| CliError::input(format!("--option {setting} is none of {}", known.join(", ")));
                T::from_str(&setting.value, false).map_err(refused)
            }
            match setting.key.as_str() {
                "lr" => training.lr = parsed(setting)?,
                "latent" => training.latent = parsed(setting)?,
                "batch" => training.batch = parsed(setting)?,
                "ema" => training.recipe.ema = parsed(setting)?,
                "lr-schedule" => training.recipe.lr_schedule = word(setting)?,
                "batch-norm-pass" => training.recipe.batch_norm_pass = word(setting)?,
                _ => training.options.push((setting.key.clone(), setting.value.clone())),
            }
        }
        let given = training.options.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        Options::new(system.info.options, given)?;
        Ok(training)
    }
}
