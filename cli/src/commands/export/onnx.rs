//! `export --onnx`: a model as an ONNX graph.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ganomede::export::onnx::{Onnx, Pixels};
use ganomede::models::file::ModelFile;
use ganomede::models::scorer::is_searched;
use ganomede::report::write_atomic;
use ganomede_datasets::Reads;
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{Global, SearchArgs};
use crate::shared::session::check_file;
use crate::shared::{CliError, quoted, say, say_json, shown};

/// A graph, and what it takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OnnxArgs {
    /// File of an ONNX graph from decoded pixels, windows or rows to scores; of a score that is searched a
    /// folder of graphs with a loop in Python.
    #[arg(long, value_name = "F", conflicts_with_all = ["web", "train", "tape", "kernels", "toy"])]
    onnx: Option<PathBuf>,
    /// What the graph of an image model takes: pixels of 8 bits, or of any depth as parts of their highest
    /// value, 0 to 1.
    #[arg(long, value_name = "KIND", default_value = "uint8", requires = "onnx")]
    pixels: PixelsArg,
}

/// [`Pixels`] by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PixelsArg {
    Uint8,
    Float,
}

impl From<PixelsArg> for Pixels {
    fn from(arg: PixelsArg) -> Self {
        match arg {
            PixelsArg::Uint8 => Self::Bytes,
            PixelsArg::Float => Self::Fractions,
        }
    }
}

/// `export --onnx --json` of a search.
#[derive(Debug, Serialize)]
struct FolderDocument<'a> {
    folder: &'a Path,
    files: Vec<&'a str>,
}

/// Says what was written for a search.
fn said(folder: &Path, files: &[(String, Vec<u8>)], global: &Global) -> Result<(), CliError> {
    if global.json {
        let files = files.iter().map(|(name, _)| name.as_str()).collect();
        return say_json(&FolderDocument { folder, files });
    }
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let script = quoted(&folder.join("search.py").to_string_lossy());
    say(&format!(
        "{}: {} files, {:.1} KB; `python3 {script} IMAGE` searches with them",
        shown(folder),
        files.len(),
        bytes as f64 / 1e3
    ))
}

/// `export --onnx --json`.
#[derive(Debug, Serialize)]
struct OnnxDocument<'a> {
    file: &'a Path,
    bytes: usize,
    inputs: &'a [String],
    outputs: &'a [String],
}

impl OnnxArgs {
    pub(super) fn run(
        &self,
        model: Option<&Path>,
        search: &SearchArgs,
        global: &Global,
    ) -> Result<(), CliError> {
        let (Some(path), Some(file)) = (model, self.onnx.as_deref()) else {
            return Err(CliError::input("name a model and the file of its graph, with --onnx"));
        };
        let reads = Reads::new().file(path);
        let model = ModelFile::load(path)?;
        let (score, pixels) = (score_config(search, &model, path)?, self.pixels.into());
        if file.extension().is_none_or(|end| end != "onnx") && is_searched(&model.header, &score, 1)? {
            reads.check_folder(file)?;
            let files = Onnx::of_search(&model, path, &score, pixels)?;
            Onnx::write_search(&files, file)?;
            return said(file, &files, global);
        }
        check_file(file, &reads)?;
        let graph = Onnx::of_model(&model, path, &score, pixels)?;
        write_atomic(file, graph.bytes())?;
        let (bytes, inputs, outputs) = (graph.bytes().len(), graph.inputs(), graph.outputs());
        if global.json {
            return say_json(&OnnxDocument { file, bytes, inputs, outputs });
        }
        say(&format!(
            "{}: {:.1} KB, from {} to {}",
            shown(file),
            bytes as f64 / 1e3,
            inputs.join(", "),
            outputs.join(", ")
        ))
    }
}
