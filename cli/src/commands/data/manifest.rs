//! `data manifest`: which files a result rests on.

use std::path::PathBuf;

use ganomede_datasets::{Manifest, OpenOptions, Overlap, Split};
use ganomede_host::line;
use serde::Serialize;

use super::{Choice, Given};
use crate::shared::args::Global;
use crate::shared::findings::{report_rejected, report_skipped};
use crate::shared::session::check_file;
use crate::shared::{CliError, note, say, say_json};
use ganomede::report::write_atomic;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    choice: Choice,
    /// JSON file to write; --json prints the same.
    #[arg(long, value_name = "F.json")]
    out: Option<PathBuf>,
}

/// The file.
#[derive(Serialize)]
struct ManifestDocument {
    format: &'static str,
    splits: [Manifest; 2],
    /// Test images that are training images as well.
    overlap: Vec<Overlap>,
}

pub(super) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    if let Some(path) = &args.out {
        check_file(path, &args.given.reads())?;
    }
    let data = args.choice.open(&args.given, OpenOptions::default())?;
    if args.choice.strict {
        data.check_disjoint()?;
    }
    let splits = [data.manifest(Split::Train)?, data.manifest(Split::Test)?];
    let document = ManifestDocument { format: "ganomede-manifest-1", splits, overlap: data.overlap()? };
    if let Some(path) = &args.out {
        let text = serde_json::to_vec_pretty(&document)
            .map_err(|e| CliError::machine(format!("cannot write JSON: {e}")))?;
        write_atomic(path, &text)?;
    }
    report_rejected(&data.rejected());
    report_skipped(&data.findings());
    if global.json {
        return say_json(&document);
    }
    for pair in document.overlap.iter().take(20) {
        note(&format!("  {} is the same as {}", line(&pair.test), line(&pair.train)));
    }
    let line = |manifest: &Manifest| {
        format!("{}: {} images, sha256 {}", manifest.split.name(), manifest.files.len(), manifest.sha256)
    };
    let [train, test] = document.splits.each_ref().map(line);
    let shared = match document.overlap.len() {
        // A flat folder has one list, to train on or to score.
        0 if matches!(data.layout(), "folder" | "file" | "files") => {
            "one list serves as training and as test".to_owned()
        }
        0 => "no test image is a training image".to_owned(),
        n => format!("{n} test images are training images as well"),
    };
    say(&format!("{train}\n{test}\n{shared}"))
}
