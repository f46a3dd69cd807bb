//! `systems`: what can be trained, with scores and options.

use serde::Serialize;

use crate::shared::args::Global;
use crate::shared::programs::{ChosenSystem, parse_system};
use crate::shared::{CliError, say, say_json};
use ganomede::models::common;
use ganomede::models::system::{Defaults, Length};
use ganomede::models::{Info, OptionKind, Prior, SYSTEMS};

/// List the systems, or show one with its scores, options and defaults.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede systems anogan")]
pub(crate) struct Args {
    /// A system.
    #[arg(value_parser = parse_system())]
    system: Option<ChosenSystem>,
}

#[derive(Debug, Serialize)]
struct ScoreRow {
    name: &'static str,
    about: &'static str,
}

#[derive(Debug, Serialize)]
struct OptionRow {
    key: &'static str,
    default: &'static str,
    allowed: String,
    about: &'static str,
}

#[derive(Debug, Serialize)]
struct SystemDocument {
    name: &'static str,
    title: &'static str,
    paper: &'static str,
    url: &'static str,
    scores: Vec<ScoreRow>,
    options: Vec<OptionRow>,
    #[serde(flatten)]
    defaults: Recommended,
    /// For rows of tables, where they are others.
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<Recommended>,
}

#[derive(Debug, Serialize)]
struct Recommended {
    batch: usize,
    lr: f32,
    betas: [f32; 2],
    latent: usize,
    prior: Prior,
    #[serde(skip_serializing_if = "Option::is_none")]
    epochs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
}

impl Recommended {
    fn new(defaults: Defaults) -> Self {
        let Defaults { batch, lr, betas, latent, prior, length } = defaults;
        let (epochs, steps) = match length {
            Length::Epochs(epochs) => (Some(epochs), None),
            Length::Steps(steps) => (None, Some(steps)),
        };
        Self { batch, lr, betas, latent, prior, epochs, steps }
    }

    fn text(&self) -> String {
        let epochs = self.epochs.map(|n| format!("{n} epochs"));
        let length = epochs.or(self.steps.map(|n| format!("{n} steps"))).unwrap_or_default();
        format!(
            "batch {}, lr {}, betas {:?}, latent {} {:?}, {length}",
            self.batch, self.lr, self.betas, self.latent, self.prior
        )
    }
}

impl SystemDocument {
    fn new(info: &Info) -> Self {
        let Info { name, title, paper, url, defaults, tables, .. } = *info;
        let allowed = |kind: OptionKind| kind.describe();
        Self {
            name,
            title,
            paper,
            url,
            scores: info
                .scores
                .iter()
                .chain(&common::of(info))
                .map(|s| ScoreRow { name: s.name, about: s.about })
                .collect(),
            options: info
                .options
                .iter()
                .map(|o| OptionRow {
                    key: o.key,
                    default: o.default,
                    allowed: allowed(o.kind),
                    about: o.help,
                })
                .collect(),
            defaults: Recommended::new(defaults),
            tables: tables.map(Recommended::new),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!("{}: {}", self.name, self.title),
            format!("{}, {}", self.paper, self.url),
            "scores (--score):".to_owned(),
        ];
        let mut mark = " (default)";
        for score in &self.scores {
            lines.push(format!("  {:<16}{}{mark}", score.name, score.about));
            mark = "";
        }
        if !self.options.is_empty() {
            lines.push("options (--option KEY=VALUE):".to_owned());
        }
        for option in &self.options {
            let OptionRow { key, default, allowed, about } = option;
            lines.push(format!("  {:<16}{about}; {allowed} [default: {default}]", *key));
        }
        lines.push(format!("defaults: {}", self.defaults.text()));
        lines.extend(self.tables.as_ref().map(|tables| format!("defaults for tables: {}", tables.text())));
        lines.join("\n")
    }
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    if let Some(system) = args.system {
        let document = SystemDocument::new(system.info);
        return if global.json { say_json(&document) } else { say(&document.text()) };
    }
    if global.json {
        let all: Vec<_> = SYSTEMS.iter().map(|info| SystemDocument::new(info)).collect();
        return say_json(&all);
    }
    for info in SYSTEMS {
        say(&format!("{:<15}{}; {}", info.name, info.title, info.paper))?;
    }
    Ok(())
}
