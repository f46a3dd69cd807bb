//! Models as ONNX graphs, for runtimes that know nothing of this program.
//!
//! One graph goes from what a program has at hand (decoded pixels, a window of a series, a row of a table) to
//! `score`, `percentile`, `anomalous` and `map`, with preprocessing, calibration and threshold inside, and
//! takes any number of samples. What the system computes is translated from what it records on a tape; no
//! system has code of its own. `docs/onnx.md` describes the graphs.

mod graph;
mod pixels;
#[allow(clippy::all, unreachable_pub, reason = "made by prost-build")]
mod proto;
mod search;
mod translate;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ganomede_datasets::{FAR, Fit, Standardize};
use prost::Message;
use serde_json::json;
use sha2::{Digest, Sha256};

use self::graph::{Builder, Extent, Name, int};
use self::pixels::{Frame, drawn, preprocessed};
use self::proto::tensor_proto::DataType;
use self::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use self::translate::{Sources, Translated, translate};
use super::batches::{BATCHES, Dim};
use super::{ExportError, calibration, folder};
use crate::maps::Place;
use crate::models::Form;
use crate::models::file::{Calibration, FileError, Header, ModelFile, Scaling};
use crate::models::scorer::{ScoreConfig, ScoreError, Traced, traced};
use crate::program::StateId;
use crate::tape::Graph;

/// Version of ONNX's operators: the first whose reductions all take their axes as an input.
pub const OPSET: i64 = 18;
/// Version of ONNX's files that belongs to it.
const IR_VERSION: i64 = 8;
/// What protobuf can hold.
const MOST_BYTES: usize = i32::MAX as usize;

/// Why a model cannot become a graph.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// What graphs do not do.
    #[error("{path} cannot be exported to ONNX: {what}", path = path.display())]
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

impl OnnxError {
    /// True where the machine is at fault, false where the request is.
    pub fn is_machine_fault(&self) -> bool {
        matches!(self, Self::Score(error) if error.is_machine_fault())
    }
}

impl From<FileError> for OnnxError {
    fn from(error: FileError) -> Self {
        Self::Score(error.into())
    }
}

/// What a graph of images takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pixels {
    /// Decoded pixels of 8 bits, `uint8`.
    #[default]
    Bytes,
    /// Pixels as parts of their highest value, from 0 to 1, `float`: of 16 bits, say.
    Fractions,
}

impl Pixels {
    /// `uint8` or `float`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "uint8",
            Self::Fractions => "float",
        }
    }
}

/// What becomes of an image before the networks see it.
#[derive(Debug, Clone, Copy)]
struct Input {
    height: usize,
    width: usize,
    channels: usize,
    fit: Fit,
    standardise: bool,
}

impl Input {
    fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }
}

/// A model as an ONNX graph.
#[derive(Debug, Clone)]
pub struct Onnx {
    bytes: Vec<u8>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Onnx {
    /// The graph of a score of one pass. `path` is the model's name in messages.
    ///
    /// # Errors
    /// [`OnnxError::Refused`] for scores that are searched, tiles, layers made level, and operations that
    /// ONNX does not have; [`OnnxError::Score`] for settings and files at fault.
    pub fn of_model(
        model: &ModelFile,
        path: &Path,
        score: &ScoreConfig,
        pixels: Pixels,
    ) -> Result<Self, OnnxError> {
        let refused = |what: String| OnnxError::Refused { path: path.to_owned(), what };
        check(model, score).map_err(refused)?;
        let [first, second] = BATCHES.map(|batch| traced(model, path, score, batch));
        let (traced, second) = (first?, second?);
        let (Some(a), Some(b)) = (traced.graph("score"), second.graph("score")) else {
            return Err(refused(format!(
                "the score '{}' of {} is searched step by step, and one graph is one pass; ask for a folder \
                 of graphs by a name that does not end in .onnx, or for another score with `score`",
                traced.score.score, model.header.system
            )));
        };
        let header = &model.header;
        let calibration = calibration(header, &traced.score, true);
        let mut builder = Builder::default();
        let sample = Sample::new(&mut builder, header, pixels);
        let wanted = match header.config.form {
            Form::Image => ["score", "map"],
            Form::Signal | Form::Table => ["score", "reconstruction"],
        };
        let inputs = HashMap::from([("x".to_owned(), sample.x.clone())]);
        let sources = Sources { inputs: &inputs, states: &HashMap::new(), batch: &sample.batch };
        let found = joined(&mut builder, &traced, [a, b], &wanted, &sources).map_err(refused)?;
        sample.answer(&mut builder, model, &traced.score, calibration, &found.outputs).map_err(refused)?;
        let about = format!("{} of {}", traced.score.score, header.system);
        let meta = metadata(model, path, &traced.score, calibration, pixels)?;
        Self::of(builder, &about, meta).map_err(refused)
    }

    /// The graphs of a score that is searched, with a loop in Python that runs them: names and bytes of files
    /// for a folder.
    ///
    /// # Errors
    /// [`OnnxError::Refused`] for scores of one pass, and for what [`Onnx::of_model`] refuses.
    pub fn of_search(
        model: &ModelFile,
        path: &Path,
        score: &ScoreConfig,
        pixels: Pixels,
    ) -> Result<Vec<(String, Vec<u8>)>, OnnxError> {
        let refused = |what: String| OnnxError::Refused { path: path.to_owned(), what };
        check(model, score).map_err(refused)?;
        let [first, second] = BATCHES.map(|batch| traced(model, path, score, batch));
        let (first, second) = (first?, second?);
        if !first.is_searched() {
            return Err(refused(format!(
                "the score '{}' of {} takes one pass, which is one graph: end its file's name in .onnx",
                first.score.score, model.header.system
            )));
        }
        search::files(model, path, [&first, &second], pixels)
    }

    /// Writes such files beside the place, reads them back, and moves the whole folder there. What was the
    /// same kind of export before is replaced.
    ///
    /// # Errors
    /// [`ExportError::Occupied`] for a folder with other files, [`ExportError::Write`] where the system
    /// refuses; what was there stays.
    pub fn write_search(files: &[(String, Vec<u8>)], folder: &Path) -> Result<(), ExportError> {
        folder::write(files, folder, folder::replaces_these(files, folder)?)
    }

    /// A file of a graph.
    fn of(builder: Builder, about: &str, meta: Vec<(&str, String)>) -> Result<Self, String> {
        let graph = builder.finish("ganomede");
        let names = |values: &[proto::ValueInfoProto]| values.iter().filter_map(|v| v.name.clone()).collect();
        let (inputs, outputs) = (names(&graph.input), names(&graph.output));
        let file = ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            producer_name: Some("ganomede".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            doc_string: Some(about.to_owned()),
            graph: Some(graph),
            metadata_props: meta
                .into_iter()
                .map(|(key, value)| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) })
                .collect(),
            ..ModelProto::default()
        };
        if file.encoded_len() > MOST_BYTES {
            return Err(
                "it has more weights than the 2 GiB that such a file holds; train a smaller width".to_owned()
            );
        }
        Ok(Self { bytes: file.encode_to_vec(), inputs, outputs })
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Names of the inputs.
    pub fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Names of the outputs.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }
}

/// Refuses what only this program does.
fn check(model: &ModelFile, score: &ScoreConfig) -> Result<(), String> {
    if score.tiles.is_some() {
        return Err(
            "it scores images tile by tile, and a graph takes an image as a whole; train without `tile`"
                .to_owned(),
        );
    }
    if model.header.data.flatten {
        return Err(
            "layers of scans are made level before it sees them, which a graph does not; train without \
                    `flatten`"
                .to_owned(),
        );
    }
    Ok(())
}

/// Appends what a system recorded, with the weights that it reads.
fn joined(
    builder: &mut Builder,
    traced: &Traced<'_>,
    recorded: [&Graph; 2],
    outputs: &[&str],
    sources: &Sources<'_>,
) -> Result<Translated, String> {
    let name =
        |id: StateId| traced.state(id).map_or_else(|_| format!("state.{}", id.0), |s| s.name.to_owned());
    let found = translate(builder, recorded, outputs, sources, &name).map_err(|e| e.to_string())?;
    for &id in &found.weights {
        let state = traced.state(id).map_err(|error| error.to_string())?;
        let Some(values) = state.values else {
            return Err(format!("the state '{}' is no weight of it", state.name));
        };
        builder.store(state.name, state.shape, values);
    }
    Ok(found)
}

/// A number below or at one of double precision: scores of single precision are above the one where they are
/// above the other.
fn down(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) > value { near.next_down() } else { near }
}

/// A number at or above one of double precision: scores of single precision reach the one where they reach
/// the other.
fn up(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}

/// What a graph is given, on its way to the networks.
struct Sample {
    /// As the networks see it.
    x: Name,
    /// Number of samples, a vector of one number.
    batch: Name,
    /// Of images.
    image: Option<(Input, Frame)>,
    form: Form,
    channels: usize,
    width: usize,
}

impl Sample {
    /// Declares the input and prepares it.
    fn new(b: &mut Builder, header: &Header, pixels: Pixels) -> Self {
        let [_, channels, height, width] = header.config.images(1);
        let form = header.config.form;
        let n = Extent::Free("n");
        if form == Form::Image {
            Self::declare_image(b, pixels);
            let batch = b.extent("image", 0);
            let (fit, standardise) = (header.data.fit, header.recipe.standardise);
            let input = Input { height, width, channels, fit, standardise };
            let (x, frame) = preprocessed(b, "image", &input, pixels);
            return Self { x, batch, image: Some((input, frame)), form, channels, width };
        }
        let (name, shape, about) = match form {
            Form::Signal => (
                "window",
                vec![n, Extent::Known(channels), Extent::Known(width)],
                "windows of a series, in the units of its channels",
            ),
            _ => ("row", vec![n, Extent::Known(channels)], "rows of a table, in the units of its features"),
        };
        b.input(name, DataType::Double, &shape, about);
        let batch = b.extent(name, 0);
        b.scope = "preprocess".to_owned();
        let scaled = match &header.data.scaling {
            Scaling::Pixels => name.to_owned(),
            Scaling::Signal(scale) => {
                let divisors: Vec<f64> = scale.sd.iter().map(|sd| sd * Standardize::REACH).collect();
                scaled(b, name, &[channels, 1], [&scale.mean, &divisors], 1.0)
            }
            Scaling::Table(scale) => {
                let ranges: Vec<f64> = (0..scale.min.len()).map(|i| scale.range(i)).collect();
                scaled(b, name, &[channels], [&scale.min, &ranges], FAR)
            }
        };
        let x = b.cast(&scaled, DataType::Float);
        let sizes = b.whole(&[0, channels as i64, height as i64, width as i64]);
        let x = b.simple("Reshape", &[&x, &sizes]);
        b.scope.clear();
        Self { x, batch, image: None, form, channels, width }
    }

    /// Declares decoded pixels.
    fn declare_image(b: &mut Builder, pixels: Pixels) {
        let (kind, about) = match pixels {
            Pixels::Bytes => (DataType::Uint8, "decoded pixels of 8 bits, gray or RGB"),
            Pixels::Fractions => {
                (DataType::Float, "decoded pixels, gray or RGB, 0 to 1 of their highest value")
            }
        };
        b.input("image", kind, &["n", "h", "w", "c"].map(Extent::Free), about);
    }

    /// Declares what the graph says of a sample.
    fn answer(
        &self,
        b: &mut Builder,
        model: &ModelFile,
        score: &ScoreConfig,
        calibration: Option<&Calibration>,
        found: &HashMap<String, (Name, Vec<Dim>)>,
    ) -> Result<(), String> {
        let Some((value, _)) = found.get("score") else { return Err("it records no score".to_owned()) };
        let mut shape = vec![Extent::Free("n")];
        let (value, about) = match self.form {
            Form::Signal => {
                shape.push(Extent::Known(self.width));
                (self.points(b, value, found), "score of each point of the windows, higher is more anomalous")
            }
            _ => (value.clone(), "score of each sample, higher is more anomalous"),
        };
        b.output("score", &value, DataType::Float, &shape, about);
        verdicts(b, &value, &shape, calibration);
        let (Some((map, _)), Some((input, frame))) = (found.get("map"), &self.image) else { return Ok(()) };
        let place = refused_maps(score, calibration)?;
        let map = drawn(b, map, input, frame, score.maps.sigma(&model.header.config), place);
        let shape = [Extent::Free("n"), Extent::Free("h"), Extent::Free("w")];
        let about = "where the images are anomalous, at their own size; NaN where they were not looked at";
        b.output("map", &map, DataType::Float, &shape, about);
        Ok(())
    }

    /// What a window says of its points: squared residuals, mean over channels; of what reconstructs nothing
    /// the window's score.
    fn points(&self, b: &mut Builder, score: &str, found: &HashMap<String, (Name, Vec<Dim>)>) -> Name {
        b.scope = "points".to_owned();
        let points = match found.get("reconstruction") {
            Some((made, _)) => {
                let apart = b.simple("Sub", &[&self.x, made]);
                let squares = b.simple("Mul", &[&apart, &apart]);
                let sizes = b.whole(&[0, self.channels as i64, self.width as i64]);
                let squares = b.simple("Reshape", &[&squares, &sizes]);
                let axis = b.whole(&[1]);
                b.op("ReduceMean", &[&squares, &axis], vec![int("keepdims", 0)])
            }
            None => {
                let axis = b.whole(&[1]);
                let score = b.simple("Unsqueeze", &[score, &axis]);
                let sizes = b.whole(&[1, self.width as i64]);
                b.simple("Expand", &[&score, &sizes])
            }
        };
        b.scope.clear();
        points
    }
}

/// (x − from) / by within ±`most`, in double precision.
fn scaled(b: &mut Builder, x: &str, shape: &[usize], [from, by]: [&[f64]; 2], most: f64) -> Name {
    let (from, by) = (b.doubles(shape, from), b.doubles(shape, by));
    let [low, high] = [-most, most].map(|value| b.doubles(&[], &[value]));
    let apart = b.simple("Sub", &[x, &from]);
    let scaled = b.simple("Div", &[&apart, &by]);
    b.simple("Clip", &[&scaled, &low, &high])
}

/// What maps are relative to, if they are.
fn refused_maps<'c>(
    score: &ScoreConfig,
    calibration: Option<&'c Calibration>,
) -> Result<Option<&'c Place>, String> {
    let place = calibration.and_then(|c| c.maps.as_ref()).and_then(|maps| maps.place.as_ref());
    if score.maps.relative && place.is_none() {
        return Err(
            "its maps are relative to held-out normals, of which it knows nothing; train it with images \
                    held out"
                .to_owned(),
        );
    }
    Ok(place.filter(|_| score.maps.relative))
}

/// Declares `threshold`, `anomalous` and `percentile`. Without a calibration the threshold has to be given,
/// and nothing is known of held-out scores.
fn verdicts(b: &mut Builder, score: &str, shape: &[Extent], calibration: Option<&Calibration>) {
    b.input("threshold", DataType::Float, &[], "score from which on a sample is anomalous");
    b.scope = "verdict".to_owned();
    // A score that is NaN is below nothing: what fails is not passed.
    let below = b.simple("Less", &[score, "threshold"]);
    let anomalous = b.simple("Not", &[&below]);
    let percentile = calibration.map(|calibration| {
        b.store("threshold", &[], &[up(calibration.threshold)]);
        let (knots, percentiles) = calibration.quantiles.steps();
        let knots: Vec<f32> = knots.iter().map(|&knot| down(knot)).collect();
        let percentiles: Vec<f32> = percentiles.into_iter().map(|p| p as f32).collect();
        let (knots, table) = (b.floats(&[knots.len()], &knots), b.floats(&[percentiles.len()], &percentiles));
        let last = b.whole(&[-1]);
        let score = b.simple("Unsqueeze", &[score, &last]);
        let lower = b.simple("Less", &[&knots, &score]);
        let lower = b.cast(&lower, DataType::Int64);
        let count = b.op("ReduceSum", &[&lower, &last], vec![int("keepdims", 0)]);
        b.op("Gather", &[&table, &count], vec![int("axis", 0)])
    });
    b.scope.clear();
    if let Some(percentile) = percentile {
        let about = "share of held-out normal samples that score lower, 0 to 100";
        b.output("percentile", &percentile, DataType::Float, shape, about);
    }
    b.output("anomalous", &anomalous, DataType::Bool, shape, "whether the score reaches the threshold");
}

/// What a graph says of itself.
fn metadata(
    model: &ModelFile,
    path: &Path,
    score: &ScoreConfig,
    calibration: Option<&Calibration>,
    pixels: Pixels,
) -> Result<Vec<(&'static str, String)>, OnnxError> {
    let header = &model.header;
    let [_, channels, height, width] = header.config.images(1);
    let sha256 = Sha256::digest(model.to_bytes(path)?).iter().map(|b| format!("{b:02x}")).collect();
    let (form, preprocessing) = match (header.config.form, &header.data.scaling) {
        (Form::Image, _) => (
            "image",
            json!({
                "height": height, "width": width, "channels": channels,
                "fit": header.data.fit.name(), "standardise": header.recipe.standardise,
                "pixels": pixels.name(),
                "bits": header.data.bits, "window": header.data.window,
            }),
        ),
        (Form::Signal, Scaling::Signal(scale)) => {
            ("signal", json!({ "width": width, "channels": channels, "names": scale.names }))
        }
        (Form::Signal, _) => ("signal", json!({ "width": width, "channels": channels })),
        (Form::Table, _) => {
            let columns = header.data.table.as_ref().map(|schema| &schema.columns);
            ("table", json!({ "features": channels, "columns": columns }))
        }
    };
    let mut all = vec![
        ("ganomede_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("system", header.system.clone()),
        ("form", form.to_owned()),
        ("preprocessing", preprocessing.to_string()),
        ("score", score.score.clone()),
        ("model_sha256", sha256),
        ("data_digest", header.data.digest.clone()),
    ];
    if let Some(calibration) = calibration {
        all.push(("threshold", calibration.threshold.to_string()));
        all.push(("threshold_source", calibration.source.clone()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_single_precision_are_judged_as_against_double_precision() {
        let one = 1.0_f32;
        for wide in [1.0, 1.0_f64.next_up(), 1.0_f64.next_down(), 1.0 + 1e-12, 0.1, -0.1, 1e-50, -1e-50] {
            for score in [one, one.next_up(), one.next_down(), 0.1, -0.1, 0.0, f32::MIN_POSITIVE] {
                assert_eq!(f64::from(score) >= wide, score >= up(wide), "{score:?} {wide:?}");
                assert_eq!(wide < f64::from(score), down(wide) < score, "{score:?} {wide:?}");
            }
        }
    }
}
