//! The page of one evaluation, and its numbers.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Serialize;

use super::figures::{BoxPlot, Histogram};
use super::supplement::Neighbours;
use super::{Embedding, LossCurve, NextStep, ReportError, ScoredImage, Supplement, html, write_atomic};
use crate::eval::{Evaluation, PrPoint, RocPoint, pr_curve, roc_curve};

/// The files of a report.
pub const REPORT_FILES: [&str; 2] = ["report.html", "metrics.json"];

/// Everything a report shows.
#[derive(Debug, Clone)]
pub struct ReportInput {
    /// Heading of the page.
    pub title: String,
    /// Where the test images come from.
    pub data: String,
    /// Rows of the configuration table, name and value.
    pub configuration: Vec<(String, String)>,
    /// Metrics; also names the system and the device.
    pub evaluation: Evaluation,
    /// Every scored image.
    pub images: Vec<ScoredImage>,
    /// Images shown with their reconstruction and map; [`select_panels`] chooses them.
    pub panels: Vec<Panel>,
    /// Training losses; empty if unknown.
    pub losses: Vec<LossCurve>,
    /// Generator samples, e.g. from [`image_grid`](super::image_grid).
    pub samples: Option<RgbImage>,
}

/// One image in detail. Images are CHW in [−1, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Path or other name.
    pub id: String,
    /// Class, as in [`ScoredImage`].
    pub class: String,
    /// Anomaly score.
    pub score: f64,
    /// Channels of query and reconstruction.
    pub channels: usize,
    /// Rows of the image and of its map.
    pub height: usize,
    /// Columns of the image and of its map.
    pub width: usize,
    /// The image, `channels × height × width`.
    pub query: Vec<f32>,
    /// What the system makes of it, of the same shape; `None` for systems without a reconstruction.
    pub reconstruction: Option<Vec<f32>>,
    /// Residual or anomaly map, `height × width`.
    pub map: Vec<f32>,
    /// Ground truth, `height × width`.
    pub mask: Option<Vec<bool>>,
    /// The image that all this is a tile of.
    pub whole: Option<Whole>,
}

/// A large image, made smaller, of which a panel shows a tile.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Rows of the smaller image.
    pub height: usize,
    /// Columns of the smaller image.
    pub width: usize,
    /// Red, green and blue in [−1, 1], `3 × height × width`.
    pub query: Vec<f32>,
    /// The highest value of the anomaly map in each pixel, `height × width`; 0 where nothing was seen.
    pub map: Vec<f32>,
    /// Ground truth, `height × width`.
    pub mask: Option<Vec<bool>>,
    /// Left edge, upper edge, width and height of the tile.
    pub tile: [usize; 4],
}

/// Indices of the `k` highest and `k` lowest scores of each class: normal classes first, each from high to
/// low.
pub fn select_panels(images: &[ScoredImage], k: usize) -> Vec<usize> {
    let of_class = |(class, _): (&str, _)| {
        let mut of: Vec<usize> = (0..images.len()).filter(|&i| images[i].class == class).collect();
        of.sort_by(|&a, &b| images[b].score.total_cmp(&images[a].score));
        let lowest = of.len().saturating_sub(k).max(k.min(of.len()));
        of.drain(k.min(of.len())..lowest);
        of
    };
    classes(images).into_iter().flat_map(of_class).collect()
}

/// Writes `report.html` and `metrics.json` into `folder`, which is created if missing; returns both paths.
///
/// Errors: numbers that are not finite, panels whose lengths do not fit, files that cannot be written. Each
/// file is whole or absent.
pub fn write_report(folder: &Path, input: &ReportInput) -> Result<[PathBuf; 2], ReportError> {
    write_report_with(folder, input, &Supplement::default())
}

/// [`write_report`] with sample grids over time and an embedding of features.
pub fn write_report_with(
    folder: &Path,
    input: &ReportInput,
    extra: &Supplement,
) -> Result<[PathBuf; 2], ReportError> {
    let numbers = Numbers::new(input, extra)?;
    write_page(folder, &html::page(input, extra, &numbers)?, &numbers)
}

/// Writes a page and its numbers.
pub(super) fn write_page(
    folder: &Path,
    page: &str,
    numbers: &impl Serialize,
) -> Result<[PathBuf; 2], ReportError> {
    let json = serde_json::to_vec_pretty(numbers).map_err(|e| ReportError::Picture(e.to_string()))?;
    std::fs::create_dir_all(folder)
        .map_err(|source| ReportError::Write { path: folder.to_owned(), source })?;
    let [html_path, json_path] = REPORT_FILES.map(|name| folder.join(name));
    write_atomic(&json_path, &json)?;
    write_atomic(&html_path, page.as_bytes())?;
    Ok([html_path, json_path])
}

/// Every number of the report: the document of `eval --json`, and what the figures draw.
#[derive(Serialize)]
pub(super) struct Numbers<'a> {
    pub(super) title: &'a str,
    pub(super) data: &'a str,
    pub(super) configuration: &'a [(String, String)],
    #[serde(flatten)]
    pub(super) evaluation: &'a Evaluation,
    pub(super) roc: Option<Vec<RocPoint>>,
    pub(super) precision_recall: Option<Vec<PrPoint>>,
    pub(super) histogram: Histogram,
    pub(super) box_plots: Vec<BoxPlot>,
    pub(super) losses: &'a [LossCurve],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) embedding: Option<&'a Embedding>,
    #[serde(rename = "feature_neighbours", skip_serializing_if = "Option::is_none")]
    pub(super) neighbours: Option<Neighbours>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    next: &'a [NextStep],
    #[serde(flatten)]
    pub(super) findings: &'a serde_json::Map<String, serde_json::Value>,
    pub(super) images: &'a [ScoredImage],
}

impl<'a> Numbers<'a> {
    pub(super) fn new(input: &'a ReportInput, extra: &'a Supplement) -> Result<Self, ReportError> {
        check(&input.images, &input.losses)?;
        check_panels(input.panels.iter().map(|p| (&p.id, p.score)))?;
        extra.check()?;
        let (scores, truths) = labelled(&input.images);
        Ok(Self {
            title: &input.title,
            data: &input.data,
            configuration: &input.configuration,
            evaluation: &input.evaluation,
            roc: roc_curve(&scores, &truths)?,
            precision_recall: pr_curve(&scores, &truths)?,
            histogram: Histogram::new(&input.images, input.evaluation.threshold.as_ref().map(|t| t.value)),
            box_plots: BoxPlot::of_classes(&input.images),
            losses: &input.losses,
            embedding: extra.embedding.as_ref(),
            neighbours: extra.embedding.as_ref().and_then(Neighbours::of),
            next: &extra.next,
            findings: &extra.findings,
            images: &input.images,
        })
    }
}

/// Scores and truths of the images that have a truth.
pub(super) fn labelled(images: &[ScoredImage]) -> (Vec<f64>, Vec<bool>) {
    images.iter().filter_map(|i| Some((i.score, i.anomalous?))).unzip()
}

pub(super) fn check(images: &[ScoredImage], losses: &[LossCurve]) -> Result<(), ReportError> {
    let mut scores = images.iter().flat_map(|i| {
        let of_id = |what: &'static str, value: Option<f64>| value.map(|value| (what, &i.id, value));
        let scores = [("score", Some(i.score)), ("probability", i.probability), ("percentile", i.percentile)];
        scores.into_iter().filter_map(move |(what, value)| of_id(what, value))
    });
    if let Some((what, id, value)) = scores.find(|(_, _, v)| !v.is_finite()) {
        return Err(ReportError::NotFinite { what, id: id.clone(), value });
    }
    match losses.iter().find(|l| l.steps.len() != l.values.len()) {
        Some(l) => {
            Err(ReportError::Loss { name: l.name.clone(), steps: l.steps.len(), values: l.values.len() })
        }
        None => Ok(()),
    }
}

pub(super) fn check_panels<'a>(
    mut scores: impl Iterator<Item = (&'a String, f64)>,
) -> Result<(), ReportError> {
    match scores.find(|(_, score)| !score.is_finite()) {
        Some((id, value)) => Err(ReportError::NotFinite { what: "score", id: id.clone(), value }),
        None => Ok(()),
    }
}

/// Class names and their truth: normal classes first, then anomalous, then unlabelled, each by name.
pub(super) fn classes(images: &[ScoredImage]) -> Vec<(&str, Option<bool>)> {
    let order =
        |&(class, anomalous): &(&str, Option<bool>)| (anomalous.map_or(2, u8::from), class.to_owned());
    let mut classes: Vec<(&str, Option<bool>)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for image in images {
        if seen.insert(image.class.as_str()) {
            classes.push((&image.class, image.anomalous));
        }
    }
    classes.sort_by_key(order);
    classes
}
