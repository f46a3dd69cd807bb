//! `info`: what a model file says of itself.

use std::path::Path;

use ganomede::models::file::{Header, ModelFile, Scaling};
use ganomede::models::recipe::{Recipe, Schedule};
use ganomede::models::scorer::ScoreConfig;
use ganomede_datasets::{Fit, GroupRule};
use ganomede_host::line;
use serde::Serialize;

use crate::shared::args::{Global, ModelArg};
use crate::shared::samples::{described, form_flags};
use crate::shared::{CliError, quoted, say, say_json, shown};

/// Say what a model file holds: system, sizes, preprocessing, threshold, data, and the command that trains it
/// again.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede info parts.safetensors")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArg,
}

/// `info --json`.
#[derive(Debug, Serialize)]
struct ModelDocument<'a> {
    model: &'a Path,
    title: &'static str,
    paper: &'static str,
    parameters: usize,
    half: bool,
    /// Trains it again; nothing of what was imported, or of a version whose way of training is gone.
    command: Option<String>,
    #[serde(flatten)]
    header: &'a Header,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let path = args.model.model.as_path();
    let model = ModelFile::load(path)?;
    let info = model.header.info(path)?;
    let document = ModelDocument {
        model: path,
        title: info.title,
        paper: info.paper,
        parameters: model.tensors.iter().map(|tensor| tensor.values.len()).sum(),
        half: model.is_rounded(),
        command: is_trained(&model.header).then(|| command(path, &model)),
        header: &model.header,
    };
    if global.json { say_json(&document) } else { say(&document.text()) }
}

/// Whether a command of this version could have trained a model.
fn is_trained(header: &Header) -> bool {
    header.data.patch.is_none() && (header.progress.steps > 0 || !header.data.digest.is_empty())
}

impl ModelDocument<'_> {
    fn text(&self) -> String {
        let Header { config, options, data, progress, training, recipe, calibration, .. } = self.header;
        let options: Vec<_> = options.iter().map(|(key, value)| format!(", {key} {value}")).collect();
        let half = if self.half { " in half precision" } else { "" };
        let epochs = progress.steps as f64 / progress.steps_per_epoch.max(1) as f64;
        let mut lines = vec![
            ("model", shown(self.model)),
            ("system", format!("{}: {}; {}", self.header.system, self.title, self.paper)),
            ("samples", format!("{}{}", described(config), self.preprocessing())),
            (
                "networks",
                format!(
                    "width {}, latent {} {:?}, kernel {}{}; {} numbers{half}",
                    config.width,
                    config.latent,
                    config.prior,
                    config.kernel,
                    options.concat(),
                    self.parameters
                ),
            ),
            (
                "training",
                format!(
                    "{} steps of {} ({epochs:.1} epochs) in {:.1} s on {}; lr {}{}, seed {}",
                    progress.steps,
                    self.header.batch,
                    progress.seconds,
                    self.header.device,
                    training.lr,
                    described_recipe(recipe),
                    self.header.seed
                ),
            ),
            (
                "data",
                format!(
                    "{}: {} trained on, {} held out; digest {}",
                    line(&data.spec),
                    data.training_images,
                    data.held_out,
                    data.digest
                ),
            ),
        ];
        let column = data.table.as_ref().and_then(|table| table.group.as_deref());
        lines.extend(data.group.as_ref().map(GroupRule::text).or(column).map(|rule| {
            ("groups", format!("by {}: held out whole, thresholds hold for new groups", line(rule)))
        }));
        lines.extend(progress.held_out.map(|share| {
            (
                "held out",
                format!("the network leaves {share:.3} of what the mean image leaves of held-out samples"),
            )
        }));
        match calibration {
            None => lines.push(("threshold", "none: nothing was held out, or it is a checkpoint or was imported; `ganomede calibrate` sets one".to_owned())),
            Some(calibration) => {
                lines.push(("score", scored(&calibration.score)));
                lines.push(("threshold", format!("{} ({})", calibration.threshold, calibration.source)));
            }
        }
        if let Some(check) = &self.header.check {
            lines.push(("check", check.sentence()));
            lines.extend(check.warnings().into_iter().map(|warning| ("warning", warning)));
        }
        lines.push(("written by", format!("{}, format {}", self.header.version, self.header.format)));
        lines.extend(self.command.clone().map(|command| ("again", command)));
        lines.iter().map(|(name, value)| format!("{name:<12}{value}")).collect::<Vec<_>>().join("\n")
    }

    /// What is done to the samples before networks see them.
    fn preprocessing(&self) -> String {
        let data = &self.header.data;
        let patches = data.patch.map(|size| format!("random patches of {size}, of an earlier version"));
        let tiles = data.tiles.map(|tiles| format!("by tiles, {} an image and epoch", tiles.per_image));
        let parts = [
            (data.fit != Fit::Stretch).then(|| format!("fit by {}", fit(data.fit))),
            data.window.map(|[centre, width]| format!("window {centre},{width}")),
            data.flatten.then(|| "layers levelled".to_owned()),
            self.header.recipe.standardise.then(|| "each standardised".to_owned()),
            data.bits.map(|bits| format!("{bits} bits")),
            patches,
            tiles,
            (!data.augment.is_empty()).then(|| format!("augmented by {}", data.augment)),
            data.textures.as_ref().map(|textures| format!("textures: {textures}")),
            classes("normal", &data.normal_classes),
            classes("anomalous", &data.anomalous_classes),
        ];
        parts.into_iter().flatten().map(|part| format!(", {part}")).collect()
    }
}

fn classes(name: &str, classes: &[String]) -> Option<String> {
    (!classes.is_empty()).then(|| format!("{name} {}", line(&classes.join(","))))
}

/// What of a recipe is not usual.
fn described_recipe(recipe: &Recipe) -> String {
    let parts = [
        (recipe.schedule != Schedule::Constant)
            .then(|| format!("{} over {} steps", recipe.schedule.name(), recipe.schedule_steps)),
        (recipe.parts > 1).then(|| format!("batches in {} parts", recipe.parts)),
        recipe.sync_bn.then(|| "batch norm over all parts".to_owned()),
        recipe.ema.map(|decay| format!("weights averaged by {decay}")),
        (!recipe.batch_norm_pass).then(|| "batch norm as the last steps left it".to_owned()),
    ];
    parts.into_iter().flatten().map(|part| format!(", {part}")).collect()
}

fn scored(score: &ScoreConfig) -> String {
    let ScoreConfig { score, search, refine, .. } = score;
    let refined = if *refine > 0 { format!(", refined by {refine} steps") } else { String::new() };
    format!("{score}{refined}; where searched, {} steps, {} restarts", search.steps, search.restarts)
}

/// The command that trains a model again. Which rows of a series were trained on, a model does not remember.
fn command(path: &Path, model: &ModelFile) -> String {
    let Header { config, options, data, progress, training, recipe, calibration, .. } = &model.header;
    let system = model.header.system.as_str();
    let mut words = ["ganomede", "train", system, "--data", data.spec.as_str()].map(str::to_owned).to_vec();
    words.extend(form_flags(config, data.tiles.is_some()));
    let mut add = |flag: &str, value: &dyn ToString| words.extend([flag.to_owned(), value.to_string()]);
    add("--width", &config.width);
    add("--latent", &config.latent);
    add("--prior", &format!("{:?}", config.prior).to_lowercase());
    add("--kernel", &config.kernel);
    add("--batch", &model.header.batch);
    add("--steps", &progress.steps);
    add("--lr", &training.lr);
    if recipe.schedule != Schedule::Constant {
        add("--lr-schedule", &recipe.schedule.name());
    }
    if recipe.parts > 1 {
        add("--accumulate", &recipe.parts);
    }
    if let Some(decay) = recipe.ema {
        add("--ema", &decay);
    }
    if !recipe.batch_norm_pass {
        add("--batch-norm-pass", &"no");
    }
    add("--val-fraction", &data.val_fraction);
    add("--seed", &model.header.seed);
    if let Some(precision) = model.header.calibration.as_ref().and_then(|c| c.precision.as_ref()) {
        add("--precision", precision);
    }
    options.iter().for_each(|(key, value)| add("-O", &format!("{key}={value}")));
    if !data.augment.is_empty() {
        add("--augment", &data.augment);
    }
    if let Some(textures) = &data.textures {
        add("--textures", &textures.folder);
    }
    if data.fit != Fit::Stretch {
        add("--fit", &fit(data.fit));
    }
    if let Some([centre, width]) = data.window {
        add("--window", &format!("{centre},{width}"));
    }
    if let Some(bits) = data.bits {
        add("--bits", &bits);
    }
    if let Some(rule) = &data.group {
        add("--group", &rule.text());
    }
    if let Some(tiles) = data.tiles {
        add("--tiles-per-image", &tiles.per_image);
        add("--tile-score", &tiles.tiling.score);
        if let Some([step, _]) = tiles.tiling.step {
            add("--tile-step", &step);
        }
    }
    if let Scaling::Signal(scale) = &data.scaling
        && !scale.names.is_empty()
        && !data.spec.starts_with("builtin:")
    {
        add("--columns", &scale.names.join(","));
    }
    if let Some(rows) = data.train_rows {
        add("--train-part", &rows);
    }
    if let Some(table) = &data.table {
        let label = if table.label.is_empty() { table.label_place.to_string() } else { table.label.clone() };
        add("--label-column", &label);
        add("--train-fraction", &table.train_fraction);
        if let Some(column) = &table.group {
            add("--group", column);
        }
    }
    for (flag, classes) in
        [("--normal-class", &data.normal_classes), ("--anomalous-class", &data.anomalous_classes)]
    {
        if !classes.is_empty() {
            add(flag, &classes.join(","));
        }
    }
    if let Some(calibration) = calibration {
        let ScoreConfig { score, search, refine, maps, .. } = &calibration.score;
        if let Some(sigma) = maps.smooth {
            add("--map-smooth", &sigma);
        }
        add("--score", score);
        add("--search-steps", &search.steps);
        add("--restarts", &search.restarts);
        add("--lambda", &search.lambda);
        add("--search-lr", &search.lr);
        add("--search-tolerance", &search.tolerance);
        add("--refine", refine);
    }
    let relative = calibration.as_ref().is_some_and(|calibration| calibration.score.maps.relative);
    let clip = calibration.as_ref().is_some_and(|calibration| calibration.score.search.clip_z);
    let switches = [
        ("--flatten", data.flatten),
        ("--standardise", recipe.standardise),
        ("--sync-bn", recipe.sync_bn),
        ("--clip-z", clip),
        ("--map-relative", relative),
        ("--half", model.is_rounded()),
    ];
    words.extend(switches.iter().filter(|(_, given)| *given).map(|(flag, _)| (*flag).to_owned()));
    words.extend(["--out".to_owned(), path.to_string_lossy().into_owned()]);
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn fit(fit: Fit) -> String {
    format!("{fit:?}").to_lowercase()
}
