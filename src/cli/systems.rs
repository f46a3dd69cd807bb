//! `systems`: what can be trained, with scores and options.

use serde::Serialize;

use super::args::Global;
use super::programs::{System, parse_system};
use super::{CliError, say, say_json};
use crate::models::{Info, Kind, Prior, SYSTEMS};

/// List the systems, or show one with its scores, options and defaults.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede systems anogan")]
pub(crate) struct Args {
    /// A system.
    #[arg(value_parser = parse_system())]
    system: Option<System>,
}

#[derive(Debug, Serialize)]
struct Score {
    name: &'static str,
    about: &'static str,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: &'static str,
    default: &'static str,
    allowed: String,
    about: &'static str,
}

#[derive(Debug, Serialize)]
struct Document {
    name: &'static str,
    title: &'static str,
    paper: &'static str,
    url: &'static str,
    scores: Vec<Score>,
    options: Vec<Setting>,
    batch: usize,
    lr: f32,
    betas: [f32; 2],
    latent: usize,
    prior: Prior,
    epochs: u64,
}

impl Document {
    fn new(info: &Info) -> Self {
        let Info { name, title, paper, url, defaults, .. } = *info;
        let allowed = |kind: Kind| kind.describe();
        Self {
            name,
            title,
            paper,
            url,
            scores: info.scores.iter().map(|s| Score { name: s.name, about: s.about }).collect(),
            options: info
                .options
                .iter()
                .map(|o| Setting { key: o.key, default: o.default, allowed: allowed(o.kind), about: o.help })
                .collect(),
            batch: defaults.batch,
            lr: defaults.lr,
            betas: defaults.betas,
            latent: defaults.latent,
            prior: defaults.prior,
            epochs: defaults.epochs,
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
            let Setting { key, default, allowed, about } = option;
            lines.push(format!("  {:<16}{about}; {allowed} [default: {default}]", *key));
        }
        lines.push(format!(
            "defaults: batch {}, lr {}, betas {:?}, latent {} {:?}, {} epochs",
            self.batch, self.lr, self.betas, self.latent, self.prior, self.epochs
        ));
        lines.join("\n")
    }
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    if let Some(system) = args.system {
        let document = Document::new(system.info);
        return if global.json { say_json(&document) } else { say(&document.text()) };
    }
    if global.json {
        let all: Vec<_> = SYSTEMS.iter().map(|info| Document::new(info)).collect();
        return say_json(&all);
    }
    for info in SYSTEMS {
        say(&format!("{:<15}{}; {}", info.name, info.title, info.paper))?;
    }
    Ok(())
}
