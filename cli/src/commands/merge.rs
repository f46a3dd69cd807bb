//! `merge`: the parts of a score as one document.

use std::path::PathBuf;

use ganomede::detect::{Answers, merge};
use ganomede::report::write_atomic;
use ganomede_datasets::Reads;

use crate::commands::score::ScoreDocument;
use crate::shared::session::check_file;
use crate::shared::{CliError, json_text, note, say_bytes};

/// Put the parts of `score --shard` together, as the JSON document of one run.
///
/// The parts may be given in any order; each must be there once, whole, and of the same model, settings and
/// list of samples.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  ganomede merge part-*.jsonl --out scores.json")]
pub(crate) struct Args {
    /// What `ganomede score --shard` wrote.
    #[arg(value_name = "F.jsonl", required = true)]
    parts: Vec<PathBuf>,
    /// File for the document [default: standard output].
    #[arg(long, value_name = "F.json")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if let Some(out) = &args.out {
        check_file(out, &args.parts.iter().fold(Reads::new(), |reads, part| reads.file(part)))?;
    }
    let merged = merge(&args.parts)?;
    if let Answers::Samples { drift: Some(drift), .. } = &merged.answers {
        drift.warning().iter().for_each(|text| note(text));
    }
    let document = ScoreDocument {
        model: &merged.model,
        device: merged.device,
        threshold: merged.threshold,
        answers: merged.answers,
    };
    let text = json_text(&document)?;
    match &args.out {
        Some(out) => Ok(write_atomic(out, text.as_bytes())?),
        None => say_bytes(text.as_bytes()),
    }
}
