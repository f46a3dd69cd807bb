//! Every address of the server.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use ganomede::export::STYLE;
use ganomede::models::Form;
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::{Shared, guard, score, v2};

/// The document that describes the addresses.
const OPENAPI: &str = include_str!("openapi.json");
/// The page of people and its script.
const PAGE: [&str; 2] = [include_str!("../page/index.html"), include_str!("../page/page.js")];

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let text = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
    };
    let limit = DefaultBodyLimit::max(shared.options.max_body);
    Router::new()
        .route("/", text("text/html; charset=utf-8", PAGE[0]))
        .route("/page.js", text("text/javascript; charset=utf-8", PAGE[1]))
        .route("/style.css", text("text/css; charset=utf-8", STYLE))
        .route("/openapi.json", text("application/json", OPENAPI))
        .route("/metrics", get(metrics))
        .route("/models", get(models))
        .route("/score", post(score::score))
        .route("/v2", get(v2::server))
        .route("/v2/health/live", get(|| async { StatusCode::OK }))
        .route("/v2/health/ready", get(v2::ready))
        .route("/v2/models/{model}", get(v2::model))
        .route("/v2/models/{model}/ready", get(v2::model_ready))
        .route("/v2/models/{model}/infer", post(v2::infer))
        .route("/v2/models/{model}/versions/{version}", get(v2::model))
        .route("/v2/models/{model}/versions/{version}/ready", get(v2::model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(v2::infer))
        .fallback(|| async {
            Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; see /openapi.json")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this address has another method; see /openapi.json")
        })
        .layer(limit)
        // Around each route and what answers for none: by then the route is known.
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::guard))
        .with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text()).into_response()
}

/// The models with what a page shows of them.
async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let models = shared.models.iter().map(|(name, model)| {
        let detector = model.detector();
        let (header, calibration) = (&detector.model().header, detector.calibration());
        let threshold = detector.threshold().ok().flatten();
        json!({
            "name": name,
            "ready": model.is_ready(),
            "system": header.system,
            "form": form(header.config.form),
            "size": header.config.extent(),
            "channels": header.config.channels,
            "threshold": threshold.as_ref().map(|threshold| threshold.value),
            "false_alarm_rate": detector.false_alarm_rate(),
            "held_out": calibration.map(|calibration| calibration.quantiles.count()),
            "tiled": detector.is_tiled(),
        })
    });
    Json(json!({ "models": models.collect::<Vec<_>>() }))
}

fn form(form: Form) -> &'static str {
    match form {
        Form::Image => "image",
        Form::Signal => "signal",
        Form::Table => "table",
    }
}
