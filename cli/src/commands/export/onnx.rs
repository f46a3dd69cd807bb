//! `export --onnx`: a model as an ONNX graph.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ganomede::export::onnx::{Onnx, Pixels};
use ganomede::models::file::ModelFile;
use ganomede::report::write_atomic;
use ganomede_datasets::Reads;
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{Global, SearchArgs};
use crate::shared::session::check_file;
use crate::shared::{CliError, say, say_json, shown};

/// A graph, and what it takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OnnxArgs {
    /// File of an ONNX graph from decoded pixels, windows or rows to scores.
    #[arg(long, value_name = "F", conflicts_with_all = ["web", "train"])]
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
        check_file(file, &Reads::new().file(path))?;
        let model = ModelFile::load(path)?;
        let graph = Onnx::of_model(&model, path, &score_config(search, &model, path)?, self.pixels.into())?;
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
