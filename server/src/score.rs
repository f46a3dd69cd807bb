//! `POST /score`: image files, as a body or as a form, to verdicts.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use ganomede::detect::{Located, Query as Sample};
use ganomede::maps::Region;
use ganomede::report::heat_map;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use serde::{Deserialize, Serialize};

use crate::guard::too_long;
use crate::model::{Done, Model, fault};
use crate::refusal::Refusal;
use crate::{Shared, v2};

/// Images in a form.
const MOST_FILES: usize = 256;
/// Pixels of a map that is sent: pictures of larger ones are drawn at a whole fraction of their size.
const PIXELS: usize = 4 << 20;
/// How opaque the hottest pixel is, as elsewhere 0.85.
const OPAQUE: f32 = 217.0;

/// Which model is asked, and what of the images.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Addressed {
    model: Option<String>,
    #[serde(default)]
    map: MapForm,
    #[serde(default)]
    regions: bool,
}

/// What is asked of the images.
#[derive(Debug, Clone, Copy)]
struct Asked {
    map: MapForm,
    regions: bool,
}

/// How a map is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MapForm {
    #[default]
    None,
    Png,
    Values,
}

pub(crate) async fn score(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Addressed>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let Query(Addressed { model, map, regions }) = asked.map_err(|e| Refusal::bad(e.body_text()))?;
    let (model, asked) = (chosen(&shared, model.as_deref())?, Asked { map, regions });
    v2::check_encoding(request.headers())?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_form =
        kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data"));
    let files = if is_form { of_form(&shared, request).await? } else { of_body(&shared, request).await? };
    let alone = files.len() == 1;
    let locate = asked.map != MapForm::None || asked.regions;
    let answers = files.into_iter().map(|(name, bytes)| {
        let (shared, model) = (&shared, &model);
        async move {
            let prepare = move |detector: &ganomede::detect::Detector| {
                detector.prepare(Sample::Encoded(&bytes)).map_err(|e| Refusal::of(&e))
            };
            let done = model.score(shared, prepare, locate).await;
            let answered = match done {
                // Maps are large: as many at once as images are decoded.
                Ok(done) => shared.aside(move || Row::new(done, asked)).await,
                Err(refusal) => Err(refusal),
            };
            (name, answered)
        }
    });
    let mut images = vec![];
    let mut worst: Option<Refusal> = None;
    for (name, answer) in join_all(answers).await {
        images.push(match answer {
            Ok(row) => Row { name, ..row },
            Err(refusal) if alone => return Err(refusal),
            Err(refusal) => {
                let error = Some(refusal.message.clone());
                worst = Some(refusal);
                Row { name, error, ..Row::default() }
            }
        });
    }
    // One good answer is worth sending; none is a refusal.
    let (status, error) = match worst {
        Some(refusal) if images.iter().all(|image| image.error.is_some()) => {
            (refusal.status, Some(format!("none of {} images can be scored; each says why", images.len())))
        }
        _ => (StatusCode::OK, None),
    };
    Ok((status, Json(Scored { model: &model.source.name, error, images })).into_response())
}

/// The answer.
#[derive(Serialize)]
struct Scored<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    images: Vec<Row>,
}

/// What is said of an image.
#[derive(Default, Serialize)]
struct Row {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    judged: Option<Judged>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    places: Option<Places>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<Layer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map_range: Option<[f32; 2]>,
}

#[derive(Serialize)]
struct Judged {
    score: f64,
    probability: Option<f64>,
    percentile: Option<f64>,
    p_value: Option<f64>,
    threshold: Option<f64>,
    anomalous: Option<bool>,
    /// Height and width.
    size: Option<[usize; 2]>,
    batch: usize,
    milliseconds: Milliseconds,
}

#[derive(Serialize)]
struct Milliseconds {
    decoding: f64,
    waiting: f64,
    scoring: f64,
}

#[derive(Serialize)]
struct Places {
    regions: Vec<Region>,
    regions_left_out: usize,
    map_threshold: Option<f32>,
}

/// A map as it is sent; null for scores without a place.
#[derive(Serialize)]
#[serde(untagged)]
enum Layer {
    Png(String),
    /// What the networks saw nothing of has no value.
    Values(Vec<Option<f32>>),
    None,
}

impl Row {
    fn new(done: Done, asked: Asked) -> Result<Self, Refusal> {
        let Done { detector, sample, verdict, located, decoding, waiting, scoring, batch } = done;
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let judged = Judged {
            score: verdict.score,
            probability: verdict.probability,
            percentile: verdict.percentile,
            p_value: verdict.p_value,
            threshold: verdict.threshold,
            anomalous: verdict.anomalous,
            size: sample.size(),
            batch,
            milliseconds: Milliseconds {
                decoding: milliseconds(decoding),
                waiting: milliseconds(waiting),
                scoring: milliseconds(scoring),
            },
        };
        let mut row = Self { judged: Some(judged), ..Self::default() };
        if asked.map == MapForm::None && !asked.regions {
            return Ok(row);
        }
        if let (MapForm::Values, Some([height, width])) = (asked.map, sample.size())
            && height * width > PIXELS
        {
            return Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("a map of {width}×{height} values is too long for JSON; ask for map=png"),
            ));
        }
        let located = match located {
            Some(located) => located,
            None => detector.locate_prepared(&sample, Some(verdict)).map_err(|e| Refusal::of(&e))?,
        };
        if asked.map != MapForm::None {
            row.map_range = Some(located.range);
            row.map = Some(match (&located.map, asked.map) {
                (Some(_), MapForm::Png) => Layer::Png(png(&located).map_err(|_| fault())?),
                (Some(map), _) => Layer::Values(map.iter().map(|v| v.is_finite().then_some(*v)).collect()),
                (None, _) => Layer::None,
            });
        }
        if asked.regions {
            let Located { regions, regions_left_out, threshold, .. } = located;
            row.places = Some(Places { regions, regions_left_out, map_threshold: threshold });
        }
        Ok(row)
    }
}

/// The model that is named, or the only one.
fn chosen(shared: &Shared, name: Option<&str>) -> Result<Arc<Model>, Refusal> {
    let mut all = shared.models.values();
    match (name, all.next(), all.next()) {
        (Some(name), ..) => shared.models.get(name).cloned().ok_or_else(|| Refusal::no_model(name)),
        (None, Some(only), None) => Ok(Arc::clone(only)),
        _ => {
            let names: Vec<_> = shared.models.keys().map(String::as_str).collect();
            Err(Refusal::bad(format!("say which model: ?model={}", names.join(" or "))))
        }
    }
}

async fn of_body(shared: &Shared, request: Request) -> Result<Vec<(String, Bytes)>, Refusal> {
    let most = shared.options.max_body;
    let bytes = Bytes::from_request(request, &()).await.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(most),
        _ => Refusal::bad(format!("the body did not arrive: {}", e.body_text())),
    })?;
    if bytes.is_empty() {
        return Err(Refusal::bad("the body is empty; send an image file, or several as multipart/form-data"));
    }
    Ok(vec![("image".to_owned(), bytes)])
}

async fn of_form(shared: &Shared, request: Request) -> Result<Vec<(String, Bytes)>, Refusal> {
    let most = shared.options.max_body;
    let mut form = Multipart::from_request(request, &()).await.map_err(|e| Refusal::bad(e.body_text()))?;
    let failed = |e: axum::extract::multipart::MultipartError| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(most),
        _ => Refusal::bad(format!("the form cannot be read: {}", e.body_text())),
    };
    let mut files = vec![];
    while let Some(field) = form.next_field().await.map_err(failed)? {
        if files.len() == MOST_FILES {
            return Err(Refusal::bad(format!("a form has at most {MOST_FILES} images")));
        }
        let name = field.file_name().or(field.name()).unwrap_or("image");
        let name = name.chars().filter(|c| !c.is_control()).take(200).collect();
        files.push((name, field.bytes().await.map_err(failed)?));
    }
    match files.is_empty() {
        true => Err(Refusal::bad("the form has no image")),
        false => Ok(files),
    }
}

/// A map as a layer over its image: the hotter, the more opaque; clear where the networks saw nothing.
fn png(located: &Located) -> Result<String, Box<dyn std::error::Error>> {
    let map = located.map.as_deref().unwrap_or_default();
    let ([height, width], [low, high]) = (located.size, located.range);
    let step = (1..).find(|step| (height / step) * (width / step) <= PIXELS).unwrap_or(1);
    let [h, w] = [(height / step).max(1), (width / step).max(1)];
    let reach = (high - low).max(f32::MIN_POSITIVE);
    let at = |y: usize, x: usize| map[(y * step).min(height - 1) * width + (x * step).min(width - 1)];
    let values = (0..h * w).map(|i| at(i / w, i % w));
    // The lowest colour for what is NaN.
    let shades: Vec<f32> = values.map(|value| ((value - low) / reach).clamp(0.0, 1.0).max(0.0)).collect();
    let colours = heat_map(&shades, h, w, 1.0)?;
    let coloured = |(colour, shade): (&image::Rgb<u8>, &f32)| {
        let [red, green, blue] = colour.0;
        [red, green, blue, (shade * OPAQUE) as u8]
    };
    let layer: Vec<u8> = colours.pixels().zip(&shades).flat_map(coloured).collect();
    let mut png = vec![];
    PngEncoder::new(&mut png).write_image(&layer, w as u32, h as u32, ExtendedColorType::Rgba8)?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}
