//! `export --torch`: a model as a module of PyTorch.

use std::path::{Path, PathBuf};

use ganomede::export::torch::{NETWORK, Torch};
use ganomede::models::file::ModelFile;
use ganomede_datasets::Reads;
use serde::Serialize;

use crate::commands::train::score_config;
use crate::shared::args::{Global, SearchArgs};
use crate::shared::{CliError, quoted, say, say_json, shown};

/// A module.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TorchArgs {
    /// Folder of a module of PyTorch: the state dict as safetensors, and a network.py that builds the
    /// networks, loads it and scores; an earlier export there is replaced.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["web", "onnx", "train", "tape", "kernels", "toy"])]
    pub(super) torch: Option<PathBuf>,
}

/// `export --torch --json`.
#[derive(Debug, Serialize)]
struct TorchDocument<'a> {
    folder: &'a Path,
    files: Vec<&'a str>,
    outputs: &'a [String],
}

impl TorchArgs {
    pub(super) fn run(
        folder: &Path,
        model: Option<&Path>,
        search: &SearchArgs,
        global: &Global,
    ) -> Result<(), CliError> {
        let path = model
            .ok_or_else(|| CliError::input("name a model and the folder of its module, with --torch"))?;
        Reads::new().file(path).check_folder(folder)?;
        let model = ModelFile::load(path)?;
        let module = Torch::of_model(&model, path, &score_config(search, &model, path)?)?;
        module.write(folder)?;
        if global.json {
            let files = module.files().iter().map(|(name, _)| name.as_str()).collect();
            return say_json(&TorchDocument { folder, files, outputs: module.outputs() });
        }
        let bytes: usize = module.files().iter().map(|(_, bytes)| bytes.len()).sum();
        let script = quoted(&folder.join(NETWORK).to_string_lossy());
        say(&format!(
            "{}: {} files, {:.1} KB; `python3 {script} FILE` scores with them",
            shown(folder),
            module.files().len(),
            bytes as f64 / 1e3
        ))
    }
}
