//! `recommend`: which system to take for a set of images, without labels.

use ganomede::detect::{Candidate, Recommendation, Settings, Tried, recommend};
use ganomede::models::SYSTEMS;
use ganomede::models::recipe::Recipe;
use serde::Serialize;

use crate::commands::train;
use crate::shared::args::{ChannelsArg, DataArgs, FitArg, Global, PreprocessArgs, RecipeArgs, SearchArgs};
use crate::shared::programs::ChosenSystem;
use crate::shared::samples::SampleArgs;
use crate::shared::table::TextTable;
use crate::shared::terminal::Terminal;
use crate::shared::{CliError, Interrupt, note, quoted, say, say_json, say_warning};
use ganomede::train::Team;

/// Say which system to take for a set of images, without labels: trains those that are fitted fully and the
/// others briefly, and judges each by synthetic defects on held-out images.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede recommend --data parts/ --minutes 5")]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    /// Minutes in all.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Systems that are tried [default: all].
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = crate::shared::programs::parse_system())]
    systems: Vec<ChosenSystem>,
    /// Channels of the widest feature maps.
    #[arg(long, default_value_t = 32)]
    width: usize,
    /// Fraction of the normal images held out, on which systems are judged; at most 100 of them.
    #[arg(long, default_value_t = 0.2)]
    val_fraction: f64,
}

/// `recommend --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    choice: Option<&'a str>,
    command: Option<&'a str>,
    #[serde(flatten)]
    recommendation: &'a Recommendation,
}

pub(crate) fn run(args: &Args, global: &Global, interrupt: &Interrupt) -> Result<(), CliError> {
    let chosen: Vec<ChosenSystem> = match args.systems.is_empty() {
        true => SYSTEMS.iter().map(|info| ChosenSystem::of(info)).collect(),
        false => args.systems.clone(),
    };
    let first = args.training(chosen[0]);
    train::check(&first, global.seed, None)?;
    if !(args.minutes > 0.0 && args.minutes.is_finite()) {
        return Err(CliError::input(format!("--minutes is {}; it must be a positive number", args.minutes)));
    }
    let mut terminal = Terminal::new(interrupt);
    let samples = train::data(&first, global.seed).open(&mut terminal)?;
    let mut candidates = vec![];
    for &system in &chosen {
        let training = args.training(system);
        match train::check(&training, global.seed, Some(samples.channels())) {
            // Networks that fit no images of this size are left out, with a word.
            Err(error) if args.systems.is_empty() => note(&format!("{} is left out: {error}", system.name())),
            Err(error) => return Err(error),
            Ok(()) => {
                let settings = train::settings(&training, global.seed, samples.channels());
                let samples = samples.as_ref();
                let checked = settings.clone().checked()?;
                if args.systems.is_empty() && !checked.is_tried_briefly()? {
                    note(&format!(
                        "{0} is left out: a short training says little of it; --systems {0} tries it",
                        system.name()
                    ));
                    continue;
                }
                let other = checked.also_tried()?.map(|[key, value]| {
                    let options = vec![(key.to_owned(), value.to_owned())];
                    Settings { options, ..settings.clone() }
                });
                for settings in [Some(settings), other].into_iter().flatten() {
                    if !settings.recipe.standardise {
                        let recipe = Recipe { standardise: true, ..settings.recipe };
                        let variant = vec!["--standardise".to_owned()];
                        let settings = Settings { recipe, ..settings.clone() };
                        candidates.push(Candidate { settings, samples, variant });
                    }
                    candidates.push(Candidate { settings, samples, variant: vec![] });
                }
            }
        }
    }
    let device = global.open()?;
    let found = recommend(&candidates, args.minutes, &device, &mut terminal)?;
    let best = found.choice.map(|at| &found.systems[at]);
    let command = best.map(|tried| args.command(&candidates[tried.candidate], global));
    if global.json {
        let choice = best.map(|tried| tried.system.as_str());
        return say_json(&Document { choice, command: command.as_deref(), recommendation: &found });
    }
    say(&table(&found))?;
    let (Some(best), Some(command)) = (best, command) else {
        return say_warning(
            "no system is better than chance on synthetic defects: give more minutes, more images, or a larger --size",
        );
    };
    say(&format!("\ntake {}: {}", best.system, reasons(best, &found)))?;
    best.warnings.iter().try_for_each(|warning| say_warning(warning))?;
    say(&format!("how far to trust it: {}; `ganomede eval` on labelled images tells more", found.worth))?;
    say(&format!("\n{command}"))
}

/// How far the choice is ahead, and what its full training takes.
fn reasons(best: &Tried, found: &Recommendation) -> String {
    let inside = |tried: &&Tried| {
        tried.system != best.system
            && tried.synthetic_auroc_ci95.zip(best.synthetic_auroc_ci95).is_some_and(|(a, b)| a[1] >= b[0])
    };
    let near: Vec<&str> = found.systems.iter().filter(inside).map(|tried| tried.system.as_str()).collect();
    let ahead =
        found.ahead.map_or(String::new(), |ahead| format!("AUROC {ahead:.3} ahead of the next system"));
    let apart = match near.len() {
        0 => "no other's interval overlaps its own".to_owned(),
        1 => format!("the interval of {} overlaps its own, so the two are not told apart", near[0]),
        n => format!(
            "the intervals of {n} others overlap its own ({}), so they are not told apart",
            near.join(", ")
        ),
    };
    let time = match best.full_seconds {
        Some(seconds) if seconds >= 120.0 => {
            format!("; a full training takes about {:.0} minutes", seconds / 60.0)
        }
        Some(seconds) => format!("; a full training takes about {:.0} s", seconds.max(1.0)),
        None => String::new(),
    };
    let parts: Vec<String> = [ahead, apart].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ") + &time
}

fn table(found: &Recommendation) -> String {
    let mut table = TextTable::new(&[
        "system",
        "options",
        ">synthetic AUROC",
        "95 % interval",
        ">untrained",
        ">trained",
        ">full training",
    ]);
    let auroc = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
    let time = |seconds: f64| format!("{seconds:.1} s");
    for tried in found.systems.iter().filter(|tried| tried.left_out.is_none()) {
        let options: Vec<String> =
            tried.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.row([
            tried.system.clone(),
            if options.is_empty() { "-".to_owned() } else { options.join(" ") },
            auroc(tried.synthetic_auroc),
            tried.synthetic_auroc_ci95.map_or("-".to_owned(), |[low, high]| format!("{low:.3} to {high:.3}")),
            auroc(tried.untrained),
            time(tried.seconds),
            tried.full_seconds.map_or("-".to_owned(), time),
        ]);
    }
    for control in &found.controls {
        let dash = || "-".to_owned();
        let name = format!("({})", control.name);
        table.row([name, dash(), auroc(control.synthetic_auroc), dash(), dash(), dash(), dash()]);
    }
    let mut text = format!(
        "judged on {} held-out normal images, clean and with synthetic defects; no label is used\n{}",
        found.images,
        table.text()
    );
    for tried in &found.systems {
        if let Some(reason) = &tried.left_out {
            text += &format!("\nleft out: {}: {reason}", tried.system);
        }
    }
    text
}

impl Args {
    /// The training of one system on the images of this command.
    fn training(&self, system: ChosenSystem) -> train::Args {
        train::Args {
            system,
            data: self.data.clone(),
            preprocess: self.preprocess.clone(),
            out: std::path::PathBuf::new(),
            width: self.width,
            latent: None,
            prior: None,
            kernel: 4,
            options: vec![],
            batch: None,
            epochs: None,
            steps: None,
            minutes: None,
            lr: None,
            val_fraction: self.val_fraction,
            textures: None,
            checkpoint_every: 0,
            keep_every: 0,
            accumulate: 1,
            sync_bn: false,
            team: Team::default(),
            recipe: RecipeArgs::default(),
            resume: false,
            can_resume: false,
            half: false,
            half_checkpoints: false,
            samples: None,
            log: None,
            samples_from: SampleArgs::default(),
            search: SearchArgs::default(),
        }
    }

    /// The command that trains it fully.
    fn command(&self, candidate: &Candidate<'_>, global: &Global) -> String {
        let (data, images) = (&self.data, &self.preprocess);
        let Candidate { settings, variant, .. } = candidate;
        let mut words = ["ganomede", "train", settings.system.name].map(str::to_owned).to_vec();
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        data.data.flags().into_iter().for_each(|(flag, place)| add(flag, place));
        for (flag, classes) in
            [("--normal-class", &data.normal_class), ("--anomalous-class", &data.anomalous_class)]
        {
            if !classes.is_empty() {
                add(flag, classes.join(","));
            }
        }
        let paths = data.masks.as_ref().map(|masks| ("--masks", masks.to_string_lossy().into_owned()));
        paths
            .into_iter()
            .chain(data.mask_name.clone().map(|name| ("--mask-name", name)))
            .for_each(|(f, v)| add(f, v));
        match images.tile {
            Some(tile) => add("--tile", tile.to_string()),
            None => add("--size", images.size.to_string()),
        }
        if images.channels == ChannelsArg::Rgb {
            add("--channels", "rgb".to_owned());
        }
        if images.fit != FitArg::Stretch || images.centre_crop {
            add("--fit", format!("{:?}", images.fit()).to_lowercase());
        }
        let numbers = [
            ("--bits", images.bits.map(|bits| bits.to_string())),
            ("--window", images.window.map(|[centre, width]| format!("{centre},{width}"))),
            ("--group", data.group.as_ref().map(|rule| rule.text().to_owned())),
            ("--tiles-per-image", images.tiles_per_image.map(|count| count.to_string())),
            ("--augment", Some(images.augment.clone()).filter(|list| !list.is_empty())),
            ("--seed", (global.seed != 0).then(|| global.seed.to_string())),
        ];
        numbers.into_iter().filter_map(|(flag, value)| Some((flag, value?))).for_each(|(f, v)| add(f, v));
        add("--width", self.width.to_string());
        settings.options.iter().for_each(|(key, value)| add("-O", format!("{key}={value}")));
        let switches =
            [("--flatten", images.flatten), ("--standardise", images.standardise), ("--strict", data.strict)];
        words.extend(switches.iter().filter(|(_, given)| *given).map(|(flag, _)| (*flag).to_owned()));
        words.extend(variant.iter().cloned());
        words.extend(["--out".to_owned(), format!("{}.safetensors", settings.system.name)]);
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}
