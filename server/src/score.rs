//! `POST /score`: image files, as a body or as a form, to verdicts.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use ganomede::detect::{Located, Query as Sample};
use ganomede::report::heat_map;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::guard::too_long;
use crate::model::{Done, Model};
use crate::refusal::Refusal;
use crate::{Shared, v2};

/// Images in a form.
const MOST_FILES: usize = 256;
/// Pixels of a picture of a map: larger ones are drawn at a whole fraction of their size.
const PICTURE: usize = 4 << 20;

/// What is asked of the images.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    model: Option<String>,
    #[serde(default)]
    map: MapForm,
    #[serde(default)]
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
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let Query(asked) = asked.map_err(|e| Refusal::bad(e.body_text()))?;
    let model = chosen(&shared, asked.model.as_deref())?;
    v2::check_encoding(request.headers())?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_form =
        kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data"));
    let files = if is_form { of_form(&shared, request).await? } else { of_body(&shared, request).await? };
    let alone = files.len() == 1;
    let locate = asked.map != MapForm::None || asked.regions;
    let answers = files.into_iter().map(|(name, bytes)| {
        let (shared, model, asked) = (&shared, &model, &asked);
        async move {
            let prepare = move |detector: &ganomede::detect::Detector| {
                detector.prepare(Sample::Encoded(&bytes)).map_err(|e| Refusal::of(&e))
            };
            let done = model.score(shared, prepare, locate).await;
            (name, done.and_then(|done| answer(&done, asked)))
        }
    });
    let mut images = vec![];
    let mut worst: Option<Refusal> = None;
    for (name, answer) in join_all(answers).await {
        let mut row = Map::from_iter([("name".to_owned(), Value::from(name))]);
        match answer {
            Ok(answer) => row.extend(answer),
            Err(refusal) if alone => return Err(refusal),
            Err(refusal) => {
                row.insert("error".to_owned(), Value::from(refusal.message.clone()));
                worst = Some(refusal);
            }
        }
        images.push(Value::Object(row));
    }
    // One good answer is worth sending; none is a refusal.
    let status = match worst {
        Some(refusal) if images.iter().all(|image| image.get("error").is_some()) => refusal.status,
        _ => StatusCode::OK,
    };
    Ok((status, Json(json!({"model": model.source.name, "images": images}))).into_response())
}

/// The model that is named, or the only one.
fn chosen(shared: &Shared, name: Option<&str>) -> Result<Arc<Model>, Refusal> {
    match name {
        Some(name) => shared.models.get(name).cloned().ok_or_else(|| Refusal::no_model(name)),
        None if shared.models.len() == 1 => Ok(Arc::clone(&shared.models.values().collect::<Vec<_>>()[0])),
        None => {
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

/// The fields of an image's row.
fn answer(done: &Done, asked: &Asked) -> Result<Map<String, Value>, Refusal> {
    let verdict = &done.verdict;
    let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let row = json!({
        "score": verdict.score,
        "probability": verdict.probability,
        "percentile": verdict.percentile,
        "p_value": verdict.p_value,
        "threshold": verdict.threshold,
        "anomalous": verdict.anomalous,
        "size": done.size,
        "batch": done.batch,
        "milliseconds": {
            "decoding": milliseconds(done.decoding),
            "waiting": milliseconds(done.waiting),
            "scoring": milliseconds(done.scoring),
        },
    });
    let Value::Object(mut row) = row else { return Ok(Map::new()) };
    if let Some(located) = &done.located {
        if asked.regions {
            row.insert("regions".to_owned(), json!(located.regions));
            row.insert("map_threshold".to_owned(), json!(located.threshold));
        }
        let map = match asked.map {
            MapForm::None => None,
            MapForm::Png => png(located).map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, e))?,
            // What the networks saw nothing of has no value.
            MapForm::Values => located
                .map
                .as_ref()
                .map(|map| Value::from(map.iter().map(|v| v.is_finite().then_some(*v)).collect::<Vec<_>>())),
        };
        if asked.map != MapForm::None {
            row.insert("map".to_owned(), map.unwrap_or(Value::Null));
            row.insert("map_range".to_owned(), json!(located.range));
        }
    }
    Ok(row)
}

/// A map as a layer over its image: the hotter, the more opaque; clear where the networks saw nothing.
fn png(located: &Located) -> Result<Option<Value>, String> {
    let Some(map) = &located.map else { return Ok(None) };
    let ([height, width], [low, high]) = (located.size, located.range);
    let step = (1..).find(|step| (height / step) * (width / step) <= PICTURE).unwrap_or(1);
    let [h, w] = [(height / step).max(1), (width / step).max(1)];
    let reach = (high - low).max(f32::MIN_POSITIVE);
    let at = |y: usize, x: usize| map[(y * step).min(height - 1) * width + (x * step).min(width - 1)];
    let values = (0..h * w).map(|i| at(i / w, i % w));
    // The lowest colour for what is NaN.
    let shades: Vec<f32> = values.map(|value| ((value - low) / reach).clamp(0.0, 1.0).max(0.0)).collect();
    let colours = heat_map(&shades, h, w, 1.0).map_err(|e| e.to_string())?;
    let layer: Vec<u8> = colours
        .pixels()
        .zip(&shades)
        .flat_map(|(colour, shade)| [colour.0[0], colour.0[1], colour.0[2], (shade * 217.0) as u8])
        .collect();
    let mut png = vec![];
    PngEncoder::new(&mut png)
        .write_image(&layer, w as u32, h as u32, ExtendedColorType::Rgba8)
        .map_err(|e| e.to_string())?;
    let mut text = String::from("data:image/png;base64,");
    let _ = write!(text, "{}", STANDARD.encode(png));
    Ok(Some(Value::from(text)))
}
