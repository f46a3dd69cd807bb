//! Model files and checkpoints: safetensors with the weights under PyTorch's names and layouts, and one
//! metadata entry `ganomede` with everything else as JSON, sealed by a SHA-256 over both.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ganomede_datasets::files;
use ganomede_datasets::memory::{Permit, Short};
use ganomede_datasets::{Fit, GroupRule, MinMax, Schema, Standardize};
use ganomede_host::line;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo, View, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::recipe::Recipe;
use super::scorer::{ScoreConfig, Tiling};
use super::{Config, ConfigError, Form, Info, Options, SyntheticCheck, Training};
use crate::eval::{Appearance, Quantiles};
use crate::maps::{Levels, Place};
use crate::report::write_atomic;

/// Version of the layout; files of another version are refused.
pub const FORMAT: u32 = 2;
/// Name of the metadata entry.
const ENTRY: &str = "ganomede";
/// Bytes of the header. Loss histories are kept short; what grows is the scaling of a table, 50 bytes a
/// feature.
const MAX_HEADER: u64 = 16 << 20;
/// Memory for a byte of the header: its text twice, and small numbers as values of any kind.
const PARSED: u64 = 40;

/// Why a model file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("cannot read model '{path}': {source}")]
    Read {
        /// The file, as it was named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// More memory than decoding may take.
    #[error("'{path}' {source}")]
    Memory {
        /// The file, as it was named.
        path: PathBuf,
        /// How much.
        source: Short,
    },
    /// The file system refused.
    #[error(transparent)]
    Write(#[from] crate::report::ReportError),
    /// Not a whole safetensors file.
    #[error(
        "'{path}' is not a complete safetensors file ({reason}); it may have been cut short: copy or train it again"
    )]
    Malformed {
        /// The file, as it was named.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A safetensors file of something else.
    #[error(
        "'{path}' has no `{ENTRY}` metadata: it was not written by this program; use a file made by `ganomede train`"
    )]
    Foreign {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// Metadata that does not parse.
    #[error("the metadata of '{path}' is damaged ({reason}); copy or train it again")]
    Metadata {
        /// The file, as it was named.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Another version of the layout.
    #[error(
        "'{path}' has model format {found}, this program reads {FORMAT}; use the version that wrote it, or train again"
    )]
    Version {
        /// The file, as it was named.
        path: PathBuf,
        /// Version found.
        found: u64,
    },
    /// The seal does not match.
    #[error("'{path}' was altered after it was written (SHA-256 differs); copy or train it again")]
    Altered {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// A system that this program does not have.
    #[error(
        "'{path}' is a model of the system '{found}', which this program does not have; use the version that wrote it"
    )]
    System {
        /// The file, as it was named.
        path: PathBuf,
        /// System found.
        found: String,
    },
    /// Sizes or options that the system does not allow.
    #[error("the metadata of '{path}' is damaged ({source}); copy or train it again")]
    Config {
        /// The file, as it was named.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
    },
    /// A tensor that the system does not have, or lacks, or in another shape.
    #[error(
        "'{path}': tensor '{tensor}' {what}; the file does not fit its own configuration, train it again"
    )]
    Tensor {
        /// The file, as it was named.
        path: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong, with the shapes.
        what: String,
    },
}

impl FileError {
    /// True where the machine is at fault, false where the file is.
    pub fn is_machine_fault(&self) -> bool {
        match self {
            Self::Read { source, .. } => !files::is_path_fault(source),
            Self::Write(_) => true,
            _ => false,
        }
    }
}

/// How values that are not pixels become numbers in the range of the networks; fitted to the training rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// Pixels: [−1, 1] of their range.
    #[default]
    Pixels,
    /// Channels of a series.
    Signal(Standardize),
    /// Features of a table.
    Table(MinMax),
}

impl Scaling {
    /// A sample in units of its own, `[channels, time]` or `[columns]`, as the networks see it; pixels stay.
    pub(crate) fn apply(&self, sample: &[f64]) -> Vec<f32> {
        let by = |i: usize, value: f64| match self {
            Self::Pixels => value as f32,
            Self::Signal(scale) => scale.apply(i * scale.mean.len() / sample.len(), value),
            Self::Table(scale) => scale.apply(i, value),
        };
        sample.iter().enumerate().map(|(i, &value)| by(i, value)).collect()
    }
}

/// What was trained on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataInfo {
    /// The `--data` that was given.
    pub spec: String,
    /// Digest of the training images' names and sizes.
    pub digest: String,
    /// Normal images trained on.
    pub training_images: usize,
    /// Normal images held out for calibration.
    pub held_out: usize,
    /// Fraction held out.
    pub val_fraction: f64,
    /// Which rows of a series are held out, a block of time; empty where samples are drawn at random.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub held_out_block: String,
    /// The first rows of a series, from which training and held-out ones were taken, where that was said of a
    /// file that does not state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_rows: Option<usize>,
    /// Classes that are normal, in a labelled set.
    pub normal_classes: Vec<String>,
    /// Classes that are anomalous, in a labelled set.
    pub anomalous_classes: Vec<String>,
    /// How images of other proportions came to the size of the networks; older files say whether they were
    /// cropped, and stretched them otherwise.
    #[serde(default, alias = "centre_crop", deserialize_with = "fit")]
    pub fit: Fit,
    /// Centre and width of the window through which DICOM images were seen; None for that of each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<[f64; 2]>,
    /// Whether the layers of scans were made level.
    #[serde(default)]
    pub flatten: bool,
    /// Bits that the samples of 16-bit images really use; None for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// How the group of an image was read off its path, where whole groups were held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRule>,
    /// Augmentation, empty for none.
    pub augment: String,
    /// Side of the random patches cut from large images, of models of earlier versions.
    pub patch: Option<usize>,
    /// Patches of each image; of files that do not say it, 16.
    #[serde(default = "patches_per_image")]
    pub patches_per_image: usize,
    /// Tiles that images were cut into; absent where each was a sample as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<TileInfo>,
    /// Textures that were taken from a folder, of systems that train on textures; absent where they are
    /// drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub textures: Option<TextureInfo>,
    /// Scaling of what is no image.
    #[serde(default)]
    pub scaling: Scaling,
    /// Columns and labels of a table; absent for what is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Schema>,
}

/// Textures from a folder of images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextureInfo {
    /// The folder, as it was given.
    pub folder: String,
    /// Images in it that are used; 0 before they were read.
    pub images: usize,
    /// SHA-256 over their names and pixels (`Photographs::digest`); empty before they were read.
    pub digest: String,
}

impl std::fmt::Display for TextureInfo {
    /// Folder, number, and the digest's beginning.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { folder, images, digest } = self;
        let beginning: String = digest.chars().take(12).collect();
        write!(f, "{images} of {} ({beginning})", line(folder))
    }
}

/// How images were cut into tiles of the networks' size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TileInfo {
    /// Tiles of each image in an epoch of training, at random places.
    pub per_image: usize,
    /// How an image is scored, unless told otherwise.
    #[serde(flatten)]
    pub tiling: Tiling,
}

impl TileInfo {
    /// Tiles of each image and epoch, unless told otherwise.
    pub const PER_IMAGE: usize = 16;
}

/// The word, or `centre_crop` of older files.
fn fit<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fit, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Cropped(bool),
        Fit(Fit),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Cropped(true) => Fit::Crop,
        Written::Cropped(false) => Fit::Stretch,
        Written::Fit(fit) => fit,
    })
}

/// `--patches-per-image` where nothing is said.
fn patches_per_image() -> usize {
    16
}

/// Score scale of a model: quantiles of held-out normal images under one search configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The configuration that the scores come from.
    pub score: ScoreConfig,
    /// Their quantiles.
    pub quantiles: Quantiles,
    /// Score from which on an image is called anomalous.
    pub threshold: f64,
    /// How the threshold was chosen.
    pub source: String,
    /// The share of false alarms that it aims at, where that was chosen; else the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What the operands of products were rounded to, where that was not f32 ([`crate::Precision::name`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Whether the scores are those of the points of series, each of all windows that cover it, and not those
    /// of windows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub points: bool,
    /// Of large images: the fewest and the most tiles that a held-out one had. What is promised of thresholds
    /// holds for images of such sizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<[usize; 2]>,
    /// The scale of maps; absent for what has none, and in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<MapCalibration>,
}

/// Scale of a model's maps: levels of the pixels of held-out normal images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapCalibration {
    /// Their quantiles.
    pub levels: Levels,
    /// Value from which on a pixel is called anomalous.
    pub threshold: f32,
    /// Share of the held-out normal pixels that reach it, at most.
    pub rate: f64,
    /// What they are like at each place, of relative maps; a file has it as tensors.
    #[serde(skip)]
    pub place: Option<Place>,
}

/// Names of the tensors of [`MapCalibration::place`].
const PLACE: [&str; 2] = ["calibration.map.mean", "calibration.map.deviation"];

/// A loss over the steps at which it was recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Name, unique in the file.
    pub name: String,
    /// Steps of training at which it was recorded, ascending.
    pub at: Vec<u64>,
    /// Values at those steps.
    pub values: Vec<f32>,
}

/// Where a stage of training began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct StageStart {
    /// Steps done before it.
    pub steps: u64,
    /// Seconds spent before it.
    pub seconds: f64,
}

/// How far training is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub steps: u64,
    /// Steps in an epoch.
    pub steps_per_epoch: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Stages begun; the last of them is under way.
    pub stages: Vec<StageStart>,
    /// Loss history.
    pub losses: Vec<Curve>,
    /// What the trained system leaves of held-out samples, as a share of what their mean image leaves; absent
    /// in checkpoints, of systems that reconstruct nothing in one pass, and where nothing was held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<f32>,
}

impl Progress {
    /// More steps than any training takes.
    const MAX_STEPS: u64 = 1 << 40;

    /// Checks what a file says, field by field, as far as that needs no knowledge of the system.
    ///
    /// # Errors
    /// A sentence about the first field that cannot be.
    fn check(&self) -> Result<(), String> {
        if self.steps > Self::MAX_STEPS {
            return Err(format!("{} steps of training are more than {}", self.steps, Self::MAX_STEPS));
        }
        let in_time = |seconds: f64| seconds >= 0.0 && seconds.is_finite();
        if !in_time(self.seconds) {
            return Err(format!("{} seconds of training", self.seconds));
        }
        let begins = self.stages.iter().map(|s| (s.steps, s.seconds));
        let ends =
            self.stages.iter().skip(1).map(|s| (s.steps, s.seconds)).chain([(self.steps, self.seconds)]);
        for (begin, end) in begins.zip(ends) {
            if begin.0 > end.0 || !in_time(begin.1) || begin.1 > end.1 {
                return Err(format!("a stage of training from {begin:?} to {end:?} (steps, seconds)"));
            }
        }
        for curve in &self.losses {
            let rises =
                curve.at.is_sorted_by(|a, b| a < b) && curve.at.last().is_none_or(|&at| at <= self.steps);
            if !rises || curve.at.len() != curve.values.len() {
                return Err(format!("the history of '{}' is no curve over {} steps", curve.name, self.steps));
            }
        }
        Ok(())
    }
}

/// Everything but the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Layout version.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Name of the system, as `--help` lists it.
    pub system: String,
    /// Sizes of the networks; with them the preprocessing: size, channels, range [−1, 1].
    pub config: Config,
    /// Options of the system.
    pub options: Options,
    /// Training hyper-parameters.
    pub training: Training,
    /// What was done whatever the system; absent in files of earlier versions, which did nothing of it.
    #[serde(default, skip_serializing_if = "Recipe::is_plain")]
    pub recipe: Recipe,
    /// Images in a step.
    pub batch: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Device that trained it.
    pub device: String,
    /// What the operands of products were rounded to, where that was not f32 ([`crate::Precision::name`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Training data.
    pub data: DataInfo,
    /// Progress and loss history.
    pub progress: Progress,
    /// Score scale, absent in checkpoints.
    pub calibration: Option<Calibration>,
    /// Brightness and contrast of the training images; absent in checkpoints, of what are no images, and in
    /// files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appearance: Option<Appearance>,
    /// What synthetic defects on held-out images say of the model; absent likewise, and where nothing is held
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<SyntheticCheck>,
}

impl Header {
    /// How the model scores unless told otherwise: as it was calibrated.
    pub fn score_config(&self) -> ScoreConfig {
        let uncalibrated =
            || ScoreConfig { tiles: self.data.tiles.map(|t| t.tiling), ..ScoreConfig::default() };
        self.calibration.as_ref().map_or_else(uncalibrated, |calibration| calibration.score.clone())
    }

    /// The system of the file.
    ///
    /// # Errors
    /// [`FileError::System`] where this program does not have it.
    pub fn info(&self, path: &Path) -> Result<&'static Info, FileError> {
        super::find(&self.system)
            .ok_or_else(|| FileError::System { path: path.to_owned(), found: self.system.clone() })
    }
}

/// How a tensor's numbers are stored in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    /// As they are.
    #[default]
    F32,
    /// Rounded to IEEE 754 halves, 11 bits within ±65504: for weights.
    F16,
    /// Rounded to their upper half, 8 bits in the whole range: for optimiser moments, which may be tiny.
    Bf16,
}

impl Storage {
    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// Little-endian, as safetensors has them.
    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        }
    }

    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let (words, pairs) = (bytes.chunks_exact(4), bytes.chunks_exact(2));
        match self {
            Self::F32 => words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Self::F16 => pairs.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Self::Bf16 => pairs.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        }
    }
}

/// A tensor by name, shape and values.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// Name, unique in the file.
    pub name: String,
    /// Dimensions, row-major; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, row-major; such as its storage holds.
    pub values: Vec<f32>,
    /// How a file stores them.
    pub storage: Storage,
}

impl NamedTensor {
    /// A tensor that is stored as it is.
    pub fn new(name: impl Into<String>, shape: &[usize], values: Vec<f32>) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), values, storage: Storage::F32 }
    }

    /// Whether it is the weight of a layer, as large as to be worth storing in halves: of its name, with more
    /// than one dimension. Biases, statistics, mixtures and counts are small, and some of them must be exact.
    fn is_weight(&self) -> bool {
        self.name.ends_with(".weight") && self.shape.len() > 1
    }

    /// Rounds the values to what `storage` holds, unless one of them is out of its range.
    fn store_as(&mut self, storage: Storage) {
        let fits = self.values.iter().all(|&v| storage.round(v).is_finite() || !v.is_finite());
        if fits {
            self.values.iter_mut().for_each(|v| *v = storage.round(*v));
            self.storage = storage;
        }
    }
}

/// A model or checkpoint in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// What stands in the metadata entry `ganomede`.
    pub header: Header,
    /// Weights, and in a checkpoint the states of the optimisers.
    pub tensors: Vec<NamedTensor>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    header: serde_json::Value,
    sha256: String,
}

/// A tensor with the bytes that a file has of it.
struct Stored<'a>(&'a NamedTensor, Cow<'a, [u8]>);

impl<'a> Stored<'a> {
    fn new(tensor: &'a NamedTensor) -> Self {
        let bytes = match tensor.storage {
            Storage::F32 if cfg!(target_endian = "little") => {
                Cow::Borrowed(bytemuck::cast_slice(&tensor.values))
            }
            storage => Cow::Owned(storage.encode(&tensor.values)),
        };
        Self(tensor, bytes)
    }
}

impl View for &Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.0.storage.dtype()
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.1)
    }
    fn data_len(&self) -> usize {
        self.1.len()
    }
}

/// SHA-256 over the header and, by name, every tensor's name, type where it is not F32, shape and bytes.
struct Seal(Sha256);

impl Seal {
    fn new(header: &serde_json::Value) -> Self {
        Self(Sha256::new_with_prefix(header.to_string()))
    }

    /// Tensors come in order of their names.
    fn add(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
        let kind = if dtype == Dtype::F32 { String::new() } else { format!("{dtype:?} ") };
        self.0.update(format!("\0{name} {kind}{shape:?}\0"));
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl Header {
    /// Whether thresholds and percentiles are those of the points of series. Files of earlier versions say so
    /// by the rows that were held out.
    fn is_of_points(&self) -> bool {
        self.calibration.as_ref().is_some_and(|c| c.points || !self.data.held_out_block.is_empty())
    }

    /// The calibration, where it is of what data sets are scored by: the points of series, samples else.
    pub fn calibration_of_data(&self) -> Option<&Calibration> {
        let fits = self.config.form != Form::Signal || self.is_of_points();
        self.calibration.as_ref().filter(|_| fits)
    }

    /// The calibration, where it is of single samples: images, rows, windows by themselves.
    pub fn calibration_of_samples(&self) -> Option<&Calibration> {
        self.calibration.as_ref().filter(|_| !self.is_of_points())
    }
}

impl ModelFile {
    /// Rounds the weights of layers to halves, in memory and in every file: half the size, and what is
    /// computed from now on is what will be computed from the file. A weight beyond ±65504 keeps its tensor
    /// as it is.
    pub fn halve_weights(&mut self) {
        self.tensors.iter_mut().filter(|t| t.is_weight()).for_each(|t| t.store_as(Storage::F16));
    }

    /// As [`ModelFile::halve_weights`], with the optimisers' moments in bfloat16: second moments are far
    /// below what a half can hold. They are those beyond the first `weights` tensors that are named like one
    /// of its weights.
    pub fn halve_checkpoint(&mut self, weights: usize) {
        let weights = weights.min(self.tensors.len());
        let (model, training) = self.tensors.split_at_mut(weights);
        for tensor in training.iter_mut().filter(|t| t.is_weight()) {
            if model.iter().any(|w| tensor.name.ends_with(&format!(".{}", w.name))) {
                // Averages of weights are weights.
                let average = tensor.name.starts_with(&format!("{}.", Recipe::AVERAGES));
                tensor.store_as(if average { Storage::F16 } else { Storage::Bf16 });
            }
        }
        model.iter_mut().filter(|t| t.is_weight()).for_each(|t| t.store_as(Storage::F16));
    }

    /// Whether some of its tensors were rounded.
    pub fn is_rounded(&self) -> bool {
        self.tensors.iter().any(|t| t.storage != Storage::F32)
    }

    /// Writes the file beside its place and renames it.
    ///
    /// # Errors
    /// [`FileError::Write`] where the folder cannot be written or the disk is full; the old file stays.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        Ok(write_atomic(path, &self.to_bytes(path)?)?)
    }

    /// The bytes of the file; `path` is its name in messages.
    ///
    /// # Errors
    /// [`FileError::Metadata`] where a number of the header has no form in JSON.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        let broken = |reason: String| FileError::Metadata { path: path.to_owned(), reason };
        let header = serde_json::to_value(&self.header).map_err(|e| broken(e.to_string()))?;
        let place = self.header.calibration.iter().filter_map(|c| c.maps.as_ref()?.place.as_ref());
        let place: Vec<_> = place.flat_map(|place| self.place_tensors(place)).collect();
        let stored: Vec<_> = self.tensors.iter().chain(&place).map(Stored::new).collect();
        let mut seal = Seal::new(&header);
        let mut ordered: Vec<_> = stored.iter().collect();
        ordered.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        for Stored(tensor, bytes) in ordered {
            seal.add(&tensor.name, tensor.storage.dtype(), &tensor.shape, bytes);
        }
        let sha256 = seal.finish();
        let entry = serde_json::to_string(&Sealed { header, sha256 }).map_err(|e| broken(e.to_string()))?;
        let metadata = Some(HashMap::from([(ENTRY.to_owned(), entry)]));
        let tensors = stored.iter().map(|s| (s.0.name.clone(), s));
        serialize(tensors, metadata).map_err(|e| broken(e.to_string()))
    }

    /// Reads and checks a file: whole, ours, of this version, unaltered. The header is judged before anything
    /// else is read, and tensors are read one at a time.
    ///
    /// # Errors
    /// [`FileError`] with the reason.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let read = |source| FileError::Read { path: path.to_owned(), source };
        let (file, length) = files::open_regular(path).map_err(read)?;
        Self::read(path, file, length)
    }

    /// As [`ModelFile::load`], from the bytes of a file; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`ModelFile::load`].
    pub fn from_bytes(name: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        Self::read(name, std::io::Cursor::new(bytes), bytes.len() as u64)
    }

    fn read(path: &Path, mut file: impl Read + Seek, length: u64) -> Result<Self, FileError> {
        let read = |source| FileError::Read { path: path.to_owned(), source };
        let malformed = |reason: String| FileError::Malformed { path: path.to_owned(), reason };
        let damaged =
            |e: serde_json::Error| FileError::Metadata { path: path.to_owned(), reason: e.to_string() };
        let memory = |source| FileError::Memory { path: path.to_owned(), source };
        let mut start = Vec::new();
        file.by_ref().take(8).read_to_end(&mut start).map_err(read)?;
        let header = start.try_into().map_or(u64::MAX, u64::from_le_bytes);
        if header > MAX_HEADER.min(length.saturating_sub(8)) {
            return Err(malformed(format!("{length} bytes without a header of a model")));
        }
        let permit = Permit::take(PARSED * header).map_err(memory)?;
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(read)?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
        drop(text);
        let there = length - 8 - header;
        if metadata.data_len() as u64 != there {
            let reason = format!("{there} bytes of tensors, {} expected", metadata.data_len());
            return Err(malformed(reason));
        }
        let entry = metadata.metadata().as_ref().and_then(|m| m.get(ENTRY));
        let entry = entry.ok_or_else(|| FileError::Foreign { path: path.to_owned() })?;
        let sealed: Sealed = serde_json::from_str(entry).map_err(damaged)?;
        let format = sealed.header.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if format != u64::from(FORMAT) {
            return Err(FileError::Version { path: path.to_owned(), found: format });
        }
        let mut infos: Vec<(String, &TensorInfo)> = metadata.tensors().into_iter().collect();
        infos.sort_by(|a, b| a.0.cmp(&b.0));
        let storages = infos.iter().map(|(name, info)| {
            Storage::of(info.dtype).ok_or_else(|| {
                let what = format!("has type {:?}, expected F32, F16 or BF16", info.dtype);
                FileError::Tensor { path: path.to_owned(), tensor: name.clone(), what }
            })
        });
        let storages = storages.collect::<Result<Vec<_>, _>>()?;
        let bytes = |info: &TensorInfo| (info.data_offsets.1 - info.data_offsets.0) as u64;
        // Values of 4 bytes, beside the largest tensor as it is stored.
        let values: u64 = infos
            .iter()
            .zip(&storages)
            .map(|((_, info), s)| bytes(info) * if *s == Storage::F32 { 1 } else { 2 })
            .sum();
        let largest = infos.iter().map(|(_, info)| bytes(info)).max().unwrap_or(0);
        drop(permit);
        let _permit = Permit::take(PARSED * header + values + largest).map_err(memory)?;
        let (mut seal, mut tensors) = (Seal::new(&sealed.header), vec![]);
        for ((name, info), storage) in infos.into_iter().zip(storages) {
            let (mut stored, at) = (vec![0; bytes(info) as usize], 8 + header + info.data_offsets.0 as u64);
            file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut stored)).map_err(read)?;
            seal.add(&name, info.dtype, &info.shape, &stored);
            tensors.push(NamedTensor {
                name,
                shape: info.shape.clone(),
                values: storage.decode(&stored),
                storage,
            });
        }
        if seal.finish() != sealed.sha256 {
            return Err(FileError::Altered { path: path.to_owned() });
        }
        let mut header: Header = serde_json::from_value(sealed.header).map_err(damaged)?;
        let impossible = |reason| FileError::Metadata { path: path.to_owned(), reason };
        header.progress.check().map_err(impossible)?;
        if let Some(bits) = header.data.bits.filter(|bits| !(2..=16).contains(bits)) {
            return Err(impossible(format!("samples of {bits} bits; 2 to 16 are possible")));
        }
        take_place(&mut header, &mut tensors, path)?;
        Ok(Self { header, tensors })
    }

    fn place_tensors(&self, place: &Place) -> [NamedTensor; 2] {
        let extent = self.header.config.extent();
        let tensor = |name, values: &Vec<f32>| NamedTensor::new(name, &extent, values.clone());
        [tensor(PLACE[0], &place.mean), tensor(PLACE[1], &place.deviation)]
    }
}

/// Moves what a file says of the places of maps from its tensors to its calibration, and checks it.
fn take_place(header: &mut Header, tensors: &mut Vec<NamedTensor>, path: &Path) -> Result<(), FileError> {
    let fault = |tensor: &str, what: &str| FileError::Tensor {
        path: path.to_owned(),
        tensor: tensor.to_owned(),
        what: what.to_owned(),
    };
    let extent = header.config.extent();
    let mut take = |name: &str| -> Result<Option<Vec<f32>>, FileError> {
        let Some(at) = tensors.iter().position(|t| t.name == name) else { return Ok(None) };
        let tensor = tensors.remove(at);
        if tensor.shape != extent || tensor.values.iter().any(|v| !v.is_finite()) {
            return Err(fault(name, "is no map of finite numbers of the networks' size"));
        }
        Ok(Some(tensor.values))
    };
    let (mean, deviation) = (take(PLACE[0])?, take(PLACE[1])?);
    let maps = header.calibration.as_mut().and_then(|c| c.maps.as_mut());
    match (mean, deviation, maps) {
        (None, None, _) => Ok(()),
        (Some(mean), Some(deviation), Some(maps)) if deviation.iter().all(|&d| d >= 0.0) => {
            maps.place = Some(Place { mean, deviation });
            Ok(())
        }
        _ => Err(fault(PLACE[0], "does not fit the calibration of maps")),
    }
}
