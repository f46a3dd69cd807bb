//! `program.json`, field by field; `docs/web.md` shows it with an example.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::eval::Quantiles;

/// What the document calls itself.
pub const FORMAT: &str = "ganomede-web";
/// Version of the schema; a replayer refuses others.
pub const VERSION: u32 = 1;

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Program and version that wrote it.
    pub written_by: String,
    /// Name of the system.
    pub system: String,
    /// What it is, in a few words.
    pub title: String,
    /// Authors, venue and year.
    pub paper: String,
    /// Every other file of the folder.
    pub files: BTreeMap<String, File>,
    /// The file with the start values of states: safetensors.
    pub weights: String,
    /// What becomes of an image before the networks see it; null in exports without networks.
    pub input: Option<Input>,
    /// What comes out, and how it is judged; null in exports of a training.
    pub score: Option<Score>,
    /// How it is trained; null in exports of a model.
    pub train: Option<Train>,
    /// Tensors that outlive a replay, shared by all programs.
    pub states: Vec<State>,
    /// Compute pipelines, shared by all programs.
    pub pipelines: Vec<Pipeline>,
    /// Programs by name: `score`, or `prepare`, `step` and `finish`.
    pub programs: BTreeMap<String, Program>,
    /// Of exports with several trainings: all of them, this one first. Left out otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
}

/// One of several trainings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its document.
    pub file: String,
    /// Its data, as people call them.
    pub data: String,
    /// What it does otherwise, in a few words.
    pub way: String,
    /// What one sees of that.
    pub about: String,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its length.
    pub bytes: usize,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// What becomes of an image before the networks see it: numbers in [−1, 1], one channel after the other, row
/// by row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Rows of pixels, 1 to 4096.
    pub height: usize,
    /// Columns of pixels, 1 to 4096.
    pub width: usize,
    /// 1 (gray) or 3 (red, green, blue).
    pub channels: usize,
    /// `stretch`, `crop` or `pad`: [`Fit`](crate::datasets::Fit).
    pub fit: String,
    /// Whether each image is brought to mean 0 and one contrast.
    pub standardise: bool,
}

/// The score: output `score` of the last program, `[1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Its name, of the system's scores.
    pub name: String,
    /// Further outputs of one element: what it is made of.
    pub parts: Vec<String>,
    /// Whether there is an output `reconstruction`, in the shape of the input.
    pub reconstruction: bool,
    /// Of scores with an output `map`, `[height, width]`.
    pub map: Option<Maps>,
    /// Of models with held-out normal samples that were scored so.
    pub threshold: Option<Threshold>,
    /// Of scores that are searched.
    pub search: Option<Search>,
}

/// How a map is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Maps {
    /// Standard deviation of the Gaussian that smooths it, pixels of the input.
    pub smooth: f64,
    /// Tensors with mean and deviation of normal maps at each place, of maps that are relative to them.
    pub relative: Option<[String; 2]>,
    /// Where colours begin and end.
    pub range: Option<[f32; 2]>,
    /// Value from which on a pixel is called anomalous.
    pub threshold: Option<f32>,
}

/// How a score is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// Score from which on an image is called anomalous.
    pub value: f64,
    /// How it was chosen.
    pub source: String,
    /// Scores of held-out normal images: their number and `knots`, ascending.
    pub held_out: Quantiles,
}

/// A latent search. Program `prepare` takes `x` and, unless it starts from E(x), `z`; `step` and `finish`
/// take `lambda`, `step` also `lr` and `steps`; `finish` gives `loss`, `score`, `reconstruction`, `map` and
/// `z`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Gradient steps.
    pub steps: usize,
    /// Starts; the one with the least loss counts.
    pub restarts: usize,
    /// Weight of the discrimination loss.
    pub lambda: f32,
    /// First step size.
    pub lr: f32,
    /// Length of the latent.
    pub latent: usize,
    /// `encoder`, or the prior that starts are drawn from: `uniform` in [−1, 1) or `normal`.
    pub start: String,
    /// Philox key of the starts, the model's seed: low and high word.
    pub key: [u32; 2],
}

/// A training: in each step the parts that are due run one after the other on the same batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Train {
    /// Images in a step: the input `x` of the programs that read them.
    pub batch: usize,
    /// Images of an epoch, whole batches.
    pub count: usize,
    /// The file with them: safetensors with `images`, `[count, channels, height, width]`, as networks see
    /// them, in the order of the first epoch.
    pub images: String,
    /// Stages, in order.
    pub stages: Vec<Stage>,
    /// Of systems with a generator.
    pub sampler: Option<Sampler>,
    /// Philox key of what is drawn: the seed's low and high word.
    pub key: [u32; 2],
}

/// A stage of training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its programs, in the order in which they run within a step.
    pub parts: Vec<StagePart>,
}

/// A program of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePart {
    /// Its name in [`Document::programs`].
    pub program: String,
    /// It runs in the steps, counted from 1, that this divides.
    pub every: u64,
    /// Names of the elements of its output `losses`.
    pub losses: Vec<String>,
}

/// Program `sample`: input `z`, `[count, latent]`, output `images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampler {
    /// Images that it makes.
    pub count: usize,
    /// Length of a latent.
    pub latent: usize,
    /// `uniform` in [−1, 1) or `normal`.
    pub prior: String,
}

/// A tensor that outlives a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its name, of a tensor in the weights where `stored`.
    pub name: String,
    /// Its elements of 32 bits.
    pub len: usize,
    /// Whether it starts as the tensor of its name; as zeros otherwise.
    pub stored: bool,
}

/// A compute pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// File with the WGSL text.
    pub module: String,
    /// Entry point.
    pub entry: String,
    /// Values of `override` constants.
    pub constants: BTreeMap<String, f64>,
    /// Words of its uniform buffer at binding 0, a multiple of four; 0 where it has none.
    pub params: usize,
    /// Storage bindings from 1 on: `r` is read, `w` is read and written.
    pub bindings: String,
}

/// A program: its launches, replayed in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Buffers, of 32-bit elements.
    pub buffers: Vec<Buffer>,
    /// Launches in order; each sees all writes before it.
    pub launches: Vec<Launch>,
    /// Inputs that no launch reads, with their elements.
    pub unread: BTreeMap<String, usize>,
}

/// A buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Its elements of 32 bits.
    pub len: usize,
    /// `input`, `output`, `state`, `temporary`, or `scratch` within one launch.
    pub role: String,
    /// Of inputs and outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of states: the place in [`Document::states`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<usize>,
}

/// A dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Where in the model it comes from.
    pub scope: String,
    /// Place in [`Document::pipelines`].
    pub pipeline: usize,
    /// Workgroups in each dimension, at most 65535.
    pub groups: [u32; 3],
    /// What is bound from binding 1 on.
    pub bind: Vec<Part>,
    /// Words of the uniform buffer.
    pub params: Vec<u32>,
}

/// The first elements of a buffer: its place in [`Program::buffers`] and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part(pub usize, pub usize);
