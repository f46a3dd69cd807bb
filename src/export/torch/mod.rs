//! Models as modules of PyTorch: a state dict as safetensors, under the names of the model file, and a
//! `network.py` that builds the module, loads the weights, and scores.
//!
//! What the system computes is translated from what it records on a tape; no system has code of its own.
//! `docs/pytorch.md` describes the files.

mod code;
mod translate;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ganomede_datasets::{FAR, Standardize};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use sha2::{Digest, Sha256};

use self::code::{number, tuple};
use self::translate::{Constant, Network, translate};
use super::batches::BATCHES;
use super::{ExportError, calibration, folder};
use crate::maps::Place;
use crate::models::Form;
use crate::models::file::{FileError, Header, ModelFile, Scaling};
use crate::models::scorer::{ScoreConfig, ScoreError, Traced, traced};
use crate::tape::{States, Tape};

/// Name of the state dict.
pub const WEIGHTS: &str = "model.safetensors";
/// Name of the module.
pub const NETWORK: &str = "network.py";
/// Name of what the module needs beside weights: places of pixels, fixed filters.
pub const CONSTANTS: &str = "constants.safetensors";

/// What every module begins with, after its settings.
const BASE: &str = include_str!("base.py");
/// What stands around the networks of a form.
const IMAGES: &str = include_str!("images.py");
const WINDOWS: &str = include_str!("windows.py");
const ROWS: &str = include_str!("rows.py");
/// The end of every module.
const MAIN: &str = include_str!("main.py");
/// Functions that some networks call.
const HELPERS: [(&str, &str); 3] = [
    ("along", include_str!("along.py")),
    ("weighted", include_str!("weighted.py")),
    ("embed", include_str!("embed.py")),
];
/// Names of the constants of relative maps.
const PLACE: [&str; 2] = ["map.mean", "map.scale"];

/// Why a model cannot become a module.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    /// What modules do not do.
    #[error("{path} cannot be exported to PyTorch: {what}", path = path.display())]
    Refused {
        /// The model, as it was named.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// Settings or a file at fault.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

impl TorchError {
    /// True where the machine is at fault, false where the request is.
    pub fn is_machine_fault(&self) -> bool {
        matches!(self, Self::Score(error) if error.is_machine_fault())
    }
}

impl From<FileError> for TorchError {
    fn from(error: FileError) -> Self {
        Self::Score(error.into())
    }
}

/// A model as a module of PyTorch.
#[derive(Debug, Clone)]
pub struct Torch {
    files: Vec<(String, Vec<u8>)>,
    outputs: Vec<String>,
}

impl Torch {
    /// The module of a score of one pass. `path` is the model's name in messages.
    ///
    /// # Errors
    /// [`TorchError::Refused`] for scores that are searched, tiles, layers made level, and operations that
    /// PyTorch does not have; [`TorchError::Score`] for settings and files at fault.
    pub fn of_model(model: &ModelFile, path: &Path, score: &ScoreConfig) -> Result<Self, TorchError> {
        let refused = |what: String| TorchError::Refused { path: path.to_owned(), what };
        if score.tiles.is_some() {
            let what =
                "it scores images tile by tile, and a module takes an image as a whole; train without `tile`";
            return Err(refused(what.to_owned()));
        }
        if model.header.data.flatten {
            let what = "layers of scans are made level before it sees them, which a module does not; train without \
                        `flatten`";
            return Err(refused(what.to_owned()));
        }
        let [first, second] = BATCHES.map(|batch| traced(model, path, score, batch));
        let (traced, second) = (first?, second?);
        let (Some(a), Some(b)) = (traced.graph("score"), second.graph("score")) else {
            return Err(refused(format!(
                "the score '{}' of {} is searched step by step, and a module is one pass; ask for another \
                 score with `score`",
                traced.score.score, model.header.system
            )));
        };
        let names: Vec<&str> = a.outputs.iter().map(|(name, _)| name.as_str()).collect();
        let name = |id| traced.state(id).map_or_else(|_| String::new(), |state| state.name.to_owned());
        let network = translate([a, b], &names, &name).map_err(|e| refused(e.to_string()))?;
        let has_map = names.contains(&"map");
        let place = has_map.then(|| place(&traced, &model.header)).transpose().map_err(refused)?.flatten();
        let outputs = network.outputs.iter().map(|(name, _)| name.clone()).collect();
        let text = module(model, path, &traced.score, &network, place)?;
        let mut files =
            vec![(WEIGHTS.to_owned(), weights(model, path)?), (NETWORK.to_owned(), text.into_bytes())];
        if !network.constants.is_empty() || place.is_some() {
            files.push((CONSTANTS.to_owned(), constants(&network.constants, place, &model.header, path)?));
        }
        Ok(Self { files, outputs })
    }

    /// Names and bytes of the files.
    pub fn files(&self) -> &[(String, Vec<u8>)] {
        &self.files
    }

    /// Names of what the module gives.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Writes the files beside the place, reads them back, and moves the whole folder there. What was an
    /// earlier export is replaced.
    ///
    /// # Errors
    /// [`ExportError::Occupied`] for a folder with other files, [`ExportError::Write`] where the system
    /// refuses; what was there stays.
    pub fn write(&self, folder: &Path) -> Result<(), ExportError> {
        let replaces = [WEIGHTS, NETWORK, CONSTANTS].map(|name| (name.to_owned(), vec![]));
        folder::write(&self.files, folder, folder::replaces_these(&replaces, folder)?)
    }
}

/// What maps are relative to, if they are.
fn place<'m>(traced: &Traced<'_>, header: &'m Header) -> Result<Option<&'m Place>, String> {
    let calibration = calibration(header, &traced.score, true);
    let place = calibration.and_then(|c| c.maps.as_ref()).and_then(|maps| maps.place.as_ref());
    match (traced.score.maps.relative, place) {
        (true, None) => {
            Err("its maps are relative to held-out normals, of which it knows nothing; train it with \
                             images held out"
                .to_owned())
        }
        (relative, place) => Ok(place.filter(|_| relative)),
    }
}

/// Tensors as a file; `path` is the model's name in messages.
fn file<'t>(
    tensors: impl IntoIterator<Item = (&'t str, Dtype, &'t [usize], Vec<u8>)>,
    path: &Path,
) -> Result<Vec<u8>, TorchError> {
    let broken = |reason: String| FileError::Metadata { path: path.to_owned(), reason };
    let tensors: Vec<_> = tensors.into_iter().collect();
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.to_vec(), bytes).map(|view| (*name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(|e| broken(e.to_string()))?;
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    Ok(serialize(views, metadata).map_err(|e| broken(e.to_string()))?)
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The state dict.
fn weights(model: &ModelFile, path: &Path) -> Result<Vec<u8>, TorchError> {
    let tensor = |t| {
        let t: &crate::models::file::NamedTensor = t;
        (t.name.as_str(), Dtype::F32, t.shape.as_slice(), bytes_of(&t.values))
    };
    file(model.tensors.iter().map(tensor), path)
}

fn constants(
    all: &[Constant],
    place: Option<&Place>,
    header: &Header,
    path: &Path,
) -> Result<Vec<u8>, TorchError> {
    let names: Vec<String> = (0..all.len()).map(|i| i.to_string()).collect();
    let extent = header.config.extent();
    let tensors = all.iter().zip(&names).map(|(constant, name)| match constant {
        Constant::Places(shape, values) => {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.as_str(), Dtype::I64, shape.as_slice(), bytes)
        }
        Constant::Numbers(shape, values) => (name.as_str(), Dtype::F32, shape.as_slice(), bytes_of(values)),
    });
    let places = place.into_iter().flat_map(|place| {
        let values = [bytes_of(&place.mean), bytes_of(&place.scale())];
        PLACE.into_iter().zip(values).map(|(name, bytes)| (name, Dtype::F32, &extent[..], bytes))
    });
    file(tensors.chain(places), path)
}

/// Names of the states that training moves, and of their averages where the system scores by these.
fn learned(header: &Header, path: &Path) -> Result<BTreeSet<String>, TorchError> {
    let mut states = States::new();
    let built = header.info(path)?.build(&mut states, &header.config, &header.options);
    let mut system = built.map_err(|source| FileError::Config { path: path.to_owned(), source })?;
    system.register_training(&mut states, header.training, header.seed);
    let averages = system.averages().map_or(&[][..], |ema| ema.averages());
    let mut names: BTreeSet<_> = averages.iter().map(|variable| variable.name().to_owned()).collect();
    for (stage, parts) in system.stages().iter().map(|stage| stage.parts.len()).enumerate() {
        for part in 0..parts {
            let tape = Tape::new();
            let x = tape.input("x", &system.config().images(BATCHES[0]));
            system.record(&tape, stage, part, x);
            names.extend(tape.learned().iter().map(|variable| variable.name().to_owned()));
        }
    }
    Ok(names)
}

/// A dictionary of names and shapes.
fn shapes<'t>(title: &str, all: impl Iterator<Item = (&'t str, &'t [usize])>) -> String {
    let lines: String = all.map(|(name, shape)| format!("    {name:?}: {},\n", tuple(shape))).collect();
    if lines.is_empty() { format!("{title} = {{}}\n") } else { format!("{title} = {{\n{lines}}}\n") }
}

/// A list of numbers in double precision.
fn doubles(values: impl Iterator<Item = f64>) -> String {
    let all: Vec<String> = values.map(|value| format!("{value:?}")).collect();
    format!("[{}]", all.join(", "))
}

/// A text between quotes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `network.py`.
fn module(
    model: &ModelFile,
    path: &Path,
    score: &ScoreConfig,
    network: &Network,
    place: Option<&Place>,
) -> Result<String, TorchError> {
    let header = &model.header;
    let [_, channels, height, width] = header.config.images(1);
    let info = header.info(path)?;
    let sha256: String = Sha256::digest(model.to_bytes(path)?).iter().map(|b| format!("{b:02x}")).collect();
    let learned = learned(header, path)?;
    let (form, sample) = match header.config.form {
        Form::Image => (IMAGES, "images as the networks see them, within [-1, 1]"),
        Form::Signal => (WINDOWS, "windows of a series as the networks see them"),
        Form::Table => (ROWS, "rows of a table as the networks see them"),
    };
    let mut text = format!(
        "\"\"\"{}, {}, by ganomede {}: its networks and its score '{}' in PyTorch.\n\n\
         Needs torch and safetensors; {WEIGHTS} lies beside this file. It is read with docs/pytorch.md.\n\n    \
         import network\n    model = network.load()\n    found = model(network.prepare(samples))\n\"\"\"\n\n",
        header.system,
        info.paper.replace(['"', '\\'], ""),
        env!("CARGO_PKG_VERSION"),
        score.score,
    );
    let mut settings = format!(
        "SYSTEM = {}\nSCORE = {}\nMODEL_SHA256 = {}\n# Samples as the networks see them.\nSHAPE = {}\n",
        quoted(&header.system),
        quoted(&score.score),
        quoted(&sha256),
        tuple([channels, height, width])
    );
    let calibration = calibration(header, score, true);
    let threshold = calibration.map_or("None".to_owned(), |c| format!("{:?}", c.threshold));
    let _ = writeln!(settings, "# Score from which on a sample is anomalous.\nTHRESHOLD = {threshold}");
    match &header.data.scaling {
        Scaling::Pixels => {
            let standardise = if header.recipe.standardise { "True" } else { "False" };
            let _ = writeln!(
                settings,
                "# How images of other proportions come to the size, and what follows.\nFIT = {}\nSTANDARDISE = \
                 {standardise}\n# Standard deviation of the Gaussian that smooths maps.\nSIGMA = {:?}",
                quoted(header.data.fit.name()),
                score.maps.sigma(&header.config)
            );
        }
        Scaling::Signal(scale) => {
            let by = scale.sd.iter().map(|sd| sd * Standardize::REACH);
            let (from, by) = (doubles(scale.mean.iter().copied()), doubles(by));
            let _ = writeln!(settings, "# Channels, less this, by this.\nFROM = {from}\nBY = {by}");
        }
        Scaling::Table(scale) => {
            let by = (0..scale.min.len()).map(|i| scale.range(i));
            let (from, by) = (doubles(scale.min.iter().copied()), doubles(by));
            let far = number(ganomede_kernels::expr::Num(FAR as f32));
            let _ = writeln!(
                settings,
                "# Columns, less this, by this, within this.\nFROM = {from}\nBY = {by}\nFAR = {far}"
            );
        }
    }
    let of = |moves: bool| {
        let all = model.tensors.iter().filter(|t| learned.contains(&t.name) == moves);
        all.map(|t| (t.name.as_str(), t.shape.as_slice())).collect::<Vec<_>>()
    };
    settings += &shapes("# What training moves, or averages of it.\nPARAMETERS", of(true).into_iter());
    settings +=
        &shapes("# What it does not: statistics, and what was fitted.\nBUFFERS", of(false).into_iter());
    let has_constants = !network.constants.is_empty() || place.is_some();
    let _ = writeln!(
        settings,
        "CONSTANTS = {}",
        if has_constants { quoted(CONSTANTS) } else { "None".to_owned() }
    );
    let (head, rest) = BASE.split_once("# SETTINGS\n").unwrap_or(("", BASE));
    text += head;
    text += &settings;
    for (_, helper) in HELPERS.iter().filter(|(name, _)| network.helpers.contains(name)) {
        text += "\n\n";
        text += helper;
    }
    text += rest;
    let _ =
        writeln!(text, "\n    def forward(self, x):\n        \"\"\"Of {sample}, {}.\"\"\"", shape_of(header));
    text += "        n = x.shape[0]\n";
    network.body.lines().iter().for_each(|line| text += &format!("        {line}\n"));
    text += "        return {\n";
    network
        .outputs
        .iter()
        .for_each(|(name, value)| text += &format!("            {}: {value},\n", quoted(name)));
    text += "        }\n\n\n";
    text += form;
    text += "\n\n";
    text += MAIN;
    Ok(text)
}

fn shape_of(header: &Header) -> String {
    let [_, channels, height, width] = header.config.images(1);
    format!("[n, {channels}, {height}, {width}]")
}
