//! The Open Inference Protocol, version 2 (KServe), with the binary extension that `tritonclient` uses.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use ganomede::detect::{Detector, Prepared, Query, Verdict};
use ganomede::models::Form;
use image::{DynamicImage, ImageBuffer};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Shared;
use crate::guard::too_long;
use crate::model::Model;
use crate::refusal::Refusal;
use crate::tensors::{Elements, HEADER_LENGTH, Infer, Input, Output, read};

/// Samples of a request.
const MOST_SAMPLES: usize = 4096;

/// A model in an address, perhaps with a version.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    model: String,
    version: Option<String>,
}

impl Named {
    fn of(&self, shared: &Shared) -> Result<Arc<Model>, Refusal> {
        match self.version.as_deref() {
            None | Some("1") => {
                shared.models.get(&self.model).cloned().ok_or_else(|| Refusal::no_model(&self.model))
            }
            Some(version) => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is no version '{}'; each model has version 1", version.escape_debug()),
            )),
        }
    }
}

/// Bodies come as they are.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let message = "bodies are taken without Content-Encoding; images are compressed already";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
        _ => Ok(()),
    }
}

pub(crate) async fn server() -> Json<Value> {
    Json(json!({
        "name": "ganomede", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data"],
    }))
}

pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> StatusCode {
    status(shared.models.values().all(|model| model.is_ready()))
}

pub(crate) async fn model_ready(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
) -> Result<StatusCode, Refusal> {
    Ok(status(named.of(&shared)?.is_ready()))
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

pub(crate) async fn model(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
) -> Result<Json<Value>, Refusal> {
    let model = named.of(&shared)?;
    let detector = model.detector();
    let config = &detector.model().header.config;
    let channels = config.channels;
    let tensor = |name: &str, datatype: &str, shape: Vec<i64>| json!({"name": name, "datatype": datatype, "shape": shape});
    let inputs = match config.form {
        Form::Image => vec![
            tensor("image", "UINT8", vec![-1, -1, -1, channels as i64]),
            tensor("file", "BYTES", vec![-1]),
        ],
        Form::Signal => vec![tensor("values", "FP64", vec![-1, channels as i64, config.extent()[1] as i64])],
        Form::Table => vec![tensor("values", "FP64", vec![-1, channels as i64])],
    };
    let mut outputs = vec![
        tensor("score", "FP64", vec![-1]),
        tensor("percentile", "FP64", vec![-1]),
        tensor("p_value", "FP64", vec![-1]),
        tensor("anomalous", "BOOL", vec![-1]),
    ];
    if config.form == Form::Image && !detector.is_tiled() {
        let [height, width] = config.extent();
        outputs.push(tensor("map", "FP32", vec![-1, height as i64, width as i64]));
    }
    Ok(Json(json!({
        "name": model.source.name, "versions": ["1"], "platform": "ganomede", "inputs": inputs, "outputs": outputs,
    })))
}

pub(crate) async fn infer(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Refusal> {
    let model = named.of(&shared)?;
    check_encoding(&headers)?;
    let body = body.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(shared.options.max_body),
        _ => Refusal::bad(format!("the body did not arrive: {}", e.body_text())),
    })?;
    let (request, elements) = read(&headers, &body)?;
    drop(body);
    let ([input], Some(elements)) = (&request.inputs[..], elements.into_iter().next()) else {
        return Err(Refusal::bad(format!("a request has one input, not {}", request.inputs.len())));
    };
    let detector = model.detector();
    if detector.is_tiled() && request.outputs.iter().any(|output| output.name == "map") {
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "a model of tiles has no map of the networks' size; leave the output out, or ask POST /score?map=values for \
             maps of the images' own sizes",
        ));
    }
    let samples = samples(input, elements, &detector)?;
    let scored = samples.into_iter().map(|sample| {
        let (shared, model) = (&shared, &model);
        async move { model.score(shared, move |detector| sample.prepare(detector), false).await }
    });
    let done = join_all(scored).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let verdicts: Vec<Verdict> = done.into_iter().map(|done| done.verdict).collect();
    answer(&model, &request, &verdicts)
}

/// A sample of a tensor.
enum Sample {
    Image(DynamicImage),
    File(Bytes),
    Values(Vec<f64>),
}

impl Sample {
    fn prepare(self, detector: &Detector) -> Result<Prepared, Refusal> {
        let prepared = match self {
            Self::Image(image) => detector.prepare(image),
            Self::File(bytes) => detector.prepare(Query::Encoded(&bytes)),
            Self::Values(values) => detector.prepare(Query::Measured(values.into())),
        };
        prepared.map_err(|e| Refusal::of(&e))
    }
}

/// The samples of an input.
fn samples(input: &Input, elements: Elements, detector: &Detector) -> Result<Vec<Sample>, Refusal> {
    let config = &detector.model().header.config;
    let wrong = |what: String| Refusal::bad(format!("input '{}': {what}", input.name.escape_debug()));
    let count = input.shape.first().copied().unwrap_or(0);
    if count == 0 || count > MOST_SAMPLES {
        return Err(wrong(format!("a request has 1 to {MOST_SAMPLES} samples, not {count}")));
    }
    let shape = &input.shape[..];
    match (config.form, elements) {
        (Form::Image, Elements::Bytes(files)) if shape.len() == 1 => {
            Ok(files.into_iter().map(Sample::File).collect())
        }
        (Form::Image, Elements::Bytes(_)) => Err(wrong("files have shape [n]".to_owned())),
        (Form::Image, elements) => {
            let (height, width, channels) = match *shape {
                [_, height, width] => (height, width, 1),
                [_, height, width, channels] => (height, width, channels),
                _ => return Err(wrong("images have shape [n, height, width, channels]".to_owned())),
            };
            let bits = detector.model().header.data.bits.unwrap_or(u16::BITS);
            images(elements, height, width, channels, bits).map_err(wrong)
        }
        (form, Elements::Bytes(_) | Elements::U8(_) | Elements::U16(_)) => {
            Err(wrong(format!("a model of {} takes FP32 or FP64", plural(form))))
        }
        (form, elements) => {
            let expected = match form {
                Form::Table => vec![count, config.channels],
                _ => vec![count, config.channels, config.extent()[1]],
            };
            if shape != expected {
                return Err(wrong(format!("has shape {shape:?}; the model takes {expected:?}")));
            }
            let values: Vec<f64> = match elements {
                Elements::F32(values) => values.into_iter().map(f64::from).collect(),
                Elements::F64(values) => values,
                Elements::U8(_) | Elements::U16(_) | Elements::Bytes(_) => vec![],
            };
            Ok(values.chunks_exact(config.sample_len()).map(|one| Sample::Values(one.to_vec())).collect())
        }
    }
}

fn plural(form: Form) -> &'static str {
    match form {
        Form::Image => "images",
        Form::Signal => "series",
        Form::Table => "tables",
    }
}

/// Pixels: whole numbers of 8 or 16 bits, or 0 to 1, which become whole numbers of the bits that the model
/// takes samples of 16 bits to have: parts of the highest value, as exported graphs take them.
fn images(
    elements: Elements,
    height: usize,
    width: usize,
    channels: usize,
    bits: u32,
) -> Result<Vec<Sample>, String> {
    let wrong_channels = || format!("images have 1 or 3 channels, the last dimension, not {channels}");
    // Before anything is cut into pieces of an image's length, which none would divide.
    if !matches!(channels, 1 | 3) {
        return Err(wrong_channels());
    }
    let side = |side: usize| u32::try_from(side).ok().filter(|&side| side > 0).ok_or("an image has no pixel");
    let (h, w, len) = (side(height)?, side(width)?, height * width * channels);
    let image = |pixels: Pixels| {
        match (pixels, channels) {
            (Pixels::Eight(v), 1) => ImageBuffer::from_raw(w, h, v).map(DynamicImage::ImageLuma8),
            (Pixels::Eight(v), 3) => ImageBuffer::from_raw(w, h, v).map(DynamicImage::ImageRgb8),
            (Pixels::Sixteen(v), 1) => ImageBuffer::from_raw(w, h, v).map(DynamicImage::ImageLuma16),
            (Pixels::Sixteen(v), 3) => ImageBuffer::from_raw(w, h, v).map(DynamicImage::ImageRgb16),
            _ => None,
        }
        .map(Sample::Image)
        .ok_or_else(wrong_channels)
    };
    let in_range = |values: &[f32]| match values.iter().find(|v| !(0.0..=1.0).contains(*v)) {
        Some(value) => Err(format!("a pixel is {value}; pixels of FP32 are in [0, 1], 255 of UINT8 being 1")),
        None => Ok(()),
    };
    let highest = f32::from(u16::MAX >> u16::BITS.saturating_sub(bits).min(15));
    let whole = |v: &f32| (v * highest).round() as u16;
    match elements {
        Elements::U8(v) => v.chunks_exact(len).map(|one| image(Pixels::Eight(one.to_vec()))).collect(),
        Elements::U16(v) => v.chunks_exact(len).map(|one| image(Pixels::Sixteen(one.to_vec()))).collect(),
        Elements::F32(v) => {
            in_range(&v)?;
            v.chunks_exact(len).map(|one| image(Pixels::Sixteen(one.iter().map(whole).collect()))).collect()
        }
        Elements::F64(_) | Elements::Bytes(_) => {
            Err("images are UINT8, UINT16 or FP32, files BYTES".to_owned())
        }
    }
}

enum Pixels {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}

/// The outputs that are asked for, or all but the maps.
fn answer(model: &Model, request: &Infer, verdicts: &[Verdict]) -> Result<Response, Refusal> {
    let all = ["score", "percentile", "p_value", "anomalous"];
    let extent = model.detector().model().header.config.extent();
    let wanted: Vec<(&str, bool)> = match &request.outputs[..] {
        [] => {
            // What the model does not know is left out.
            let known = |name: &&str| output(name, verdicts, [0, 0]).is_ok();
            let binary = request.parameters.binary_data_output == Some(true);
            all.iter().copied().filter(known).map(|name| (name, binary)).collect()
        }
        outputs => {
            let binary = request.parameters.binary_data_output.unwrap_or(false);
            outputs.iter().map(|o| (o.name.as_str(), o.parameters.binary_data.unwrap_or(binary))).collect()
        }
    };
    let (mut described, mut bytes) = (vec![], vec![]);
    for (name, binary) in wanted {
        let output = output(name, verdicts, extent)?;
        let mut one = Map::new();
        one.insert("name".to_owned(), json!(output.name));
        one.insert("datatype".to_owned(), json!(output.datatype));
        one.insert("shape".to_owned(), json!(output.shape));
        if binary {
            one.insert("parameters".to_owned(), json!({"binary_data_size": output.bytes.len()}));
            bytes.extend(output.bytes);
        } else {
            one.insert("data".to_owned(), Value::Array(output.values));
        }
        described.push(Value::Object(one));
    }
    let mut document = json!({"model_name": model.source.name, "model_version": "1", "outputs": described});
    if let Some(id) = &request.id {
        document["id"] = json!(id);
    }
    if bytes.is_empty() {
        return Ok(Json(document).into_response());
    }
    let mut body = document.to_string().into_bytes();
    let length = HeaderValue::from(body.len());
    body.extend(bytes);
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))];
    Ok((kind, [(HEADER_LENGTH, length)], body).into_response())
}

fn output(name: &str, verdicts: &[Verdict], [height, width]: [usize; 2]) -> Result<Output, Refusal> {
    let count = verdicts.len();
    let unknown = |what: &str| {
        Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!(
                "the model has no calibration of such samples, so there is no {what}; ask for other outputs"
            ),
        )
    };
    let reals = |name: &'static str, values: Vec<f64>| Output {
        name,
        datatype: "FP64",
        shape: vec![count],
        values: values.iter().map(|&v| json!(v)).collect(),
        bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let known = |what: &'static str, of: fn(&Verdict) -> Option<f64>| {
        let values: Option<Vec<f64>> = verdicts.iter().map(of).collect();
        values.map(|values| reals(what, values)).ok_or_else(|| unknown(what))
    };
    match name {
        "score" => Ok(reals("score", verdicts.iter().map(|v| v.score).collect())),
        "percentile" => known("percentile", |v| v.percentile),
        "p_value" => known("p_value", |v| v.p_value),
        "anomalous" => {
            let values: Option<Vec<bool>> = verdicts.iter().map(|v| v.anomalous).collect();
            let values = values.ok_or_else(|| unknown("anomalous"))?;
            Ok(Output {
                name: "anomalous",
                datatype: "BOOL",
                shape: vec![count],
                values: values.iter().map(|&v| json!(v)).collect(),
                bytes: values.iter().map(|&v| u8::from(v)).collect(),
            })
        }
        "map" => {
            let maps: Option<Vec<&Vec<f32>>> = verdicts.iter().map(|v| v.map.as_ref()).collect();
            let maps = maps.ok_or_else(|| {
                Refusal::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "the model's score has no map; leave the output out",
                )
            })?;
            Ok(Output {
                name: "map",
                datatype: "FP32",
                shape: vec![count, height, width],
                values: maps.iter().flat_map(|map| map.iter().map(|&v| json!(v))).collect(),
                bytes: maps.iter().flat_map(|map| map.iter().flat_map(|v| v.to_le_bytes())).collect(),
            })
        }
        other => Err(Refusal::bad(format!("there is no output '{}'", other.escape_debug()))),
    }
}
