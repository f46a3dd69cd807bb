//! What people see of an evaluation: `report.html`, one self-contained page, and `metrics.json`, its numbers.
//!
//! The page needs no network, no server and no script: figures are inline SVG, images are inline PNG, and a
//! content-security policy forbids everything else. Text from outside (paths, class names) is always escaped.

mod compare;
mod figures;
mod file;
mod html;
mod markdown;
mod picture;
mod plot;
mod series;
mod supplement;

pub use compare::{
    ComparePanel, CompareReport, ComparedPanel, ComparedSystem, select_compared, write_comparison,
};
pub use file::write_atomic;
pub use markdown::{comparison_table, escape_markdown, replace_section, write_section};
pub use picture::{filmstrip, heat_map, image_grid, overlay, picture, save_png_atomic, truth_overlay};
pub use plot::{PlotLine, line_plot_svg};
pub use series::{PlottedScores, PlottedSeries, SeriesReport, write_series_report};
pub use supplement::{EmbeddedPoint, Embedding, PointKind, Supplement, sample_timeline};

use crate::eval::{EvalError, Evaluation, PrPoint, RocPoint, pr_curve, roc_curve};
use figures::{BoxPlot, Histogram};
use image::RgbImage;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The files of a report.
pub const REPORT_FILES: [&str; 2] = ["report.html", "metrics.json"];

/// Why a report, a picture or a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be written; the one that was there, if any, is unchanged.
    #[error("cannot write {}: {source}; check that the folder exists, is writable and has space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An image's length does not fit its shape, or is zero.
    #[error("{what} has {got} values, which do not fill shape {shape:?}; every size must be at least 1")]
    Shape {
        /// Which image.
        what: String,
        /// Values found.
        got: usize,
        /// Shape that was asked for.
        shape: Vec<usize>,
    },
    /// A number that must be finite is not.
    #[error("{what} of {id} is {value}, which is not a finite number; score the image again or leave it out")]
    NotFinite {
        /// Which number.
        what: &'static str,
        /// Image it belongs to.
        id: String,
        /// The value itself.
        value: f64,
    },
    /// A loss curve's steps and values differ in number.
    #[error("loss {name} has {steps} steps but {values} values; pass one step per value")]
    Loss {
        /// Name of the loss.
        name: String,
        /// Steps found.
        steps: usize,
        /// Values found.
        values: usize,
    },
    /// The scores cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvalError),
    /// The images of two systems are not the same.
    #[error(
        "{system} scored {got} where {expected} was scored by the first system; score the same images in one order"
    )]
    Parallel {
        /// The system that is off.
        system: String,
        /// Image or number of images found.
        got: String,
        /// Image or number of images of the first system.
        expected: String,
    },
    /// A picture could not be read.
    #[error("cannot read {}: {reason}; leave it out or write it again", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A section of a text file cannot be replaced.
    #[error("cannot place section '{name}': {reason}")]
    Section {
        /// Name of the section.
        name: String,
        /// What is wrong with its markers, and what to do.
        reason: &'static str,
    },
    /// A figure or PNG could not be encoded.
    #[error("cannot draw a picture: {0}; please report this as a bug with the command that led here")]
    Picture(String),
}

impl ReportError {
    /// True for a fault of the machine or the program, false for one of a file that the user gave.
    pub fn is_machine_fault(&self) -> bool {
        !matches!(self, Self::Read { .. } | Self::Section { .. })
    }
}

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
    /// Generator samples, e.g. from [`image_grid`].
    pub samples: Option<RgbImage>,
}

/// One row of the score table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredImage {
    /// Path or other name.
    pub id: String,
    /// Class, e.g. `good` or the defect's name; empty if unknown.
    pub class: String,
    /// Ground truth; `None` if unlabelled.
    pub anomalous: Option<bool>,
    /// Anomaly score.
    pub score: f64,
    /// Calibrated probability; `None` for an uncalibrated model.
    pub probability: Option<f64>,
    /// True if the threshold flags it; `None` without a threshold.
    pub verdict: Option<bool>,
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
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// The image, `channels × height × width`.
    pub query: Vec<f32>,
    /// What the system makes of it, of the same shape; `None` for systems without a reconstruction.
    pub reconstruction: Option<Vec<f32>>,
    /// Residual or anomaly map, `height × width`.
    pub map: Vec<f32>,
    /// Ground truth, `height × width`.
    pub mask: Option<Vec<bool>>,
}

/// One loss term over training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossCurve {
    /// Name of the term.
    pub name: String,
    /// Training step of each value.
    pub steps: Vec<u64>,
    /// Steps in an epoch: the page shows epochs then; 0 where it is not known.
    pub steps_per_epoch: u64,
    /// Values; those that are not finite leave a gap in the numbers, not in the page.
    pub values: Vec<f32>,
}

/// Indices of the `k` highest and `k` lowest scores of each class: normal classes first, each from high to low.
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
fn write_page(folder: &Path, page: &str, numbers: &impl Serialize) -> Result<[PathBuf; 2], ReportError> {
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
struct Numbers<'a> {
    title: &'a str,
    data: &'a str,
    configuration: &'a [(String, String)],
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    roc: Option<Vec<RocPoint>>,
    precision_recall: Option<Vec<PrPoint>>,
    histogram: Histogram,
    box_plots: Vec<BoxPlot>,
    losses: &'a [LossCurve],
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a Embedding>,
    #[serde(flatten)]
    findings: &'a serde_json::Map<String, serde_json::Value>,
    images: &'a [ScoredImage],
}

impl<'a> Numbers<'a> {
    fn new(input: &'a ReportInput, extra: &'a Supplement) -> Result<Self, ReportError> {
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
            findings: &extra.findings,
            images: &input.images,
        })
    }
}

/// Scores and truths of the images that have a truth.
fn labelled(images: &[ScoredImage]) -> (Vec<f64>, Vec<bool>) {
    images.iter().filter_map(|i| Some((i.score, i.anomalous?))).unzip()
}

fn check(images: &[ScoredImage], losses: &[LossCurve]) -> Result<(), ReportError> {
    let mut scores = images.iter().flat_map(|i| {
        let probability = i.probability.map(|p| ("probability", &i.id, p));
        [Some(("score", &i.id, i.score)), probability].into_iter().flatten()
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

fn check_panels<'a>(mut scores: impl Iterator<Item = (&'a String, f64)>) -> Result<(), ReportError> {
    match scores.find(|(_, score)| !score.is_finite()) {
        Some((id, value)) => Err(ReportError::NotFinite { what: "score", id: id.clone(), value }),
        None => Ok(()),
    }
}

/// Class names and their truth: normal classes first, then anomalous, then unlabelled, each by name.
fn classes(images: &[ScoredImage]) -> Vec<(&str, Option<bool>)> {
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

#[cfg(test)]
mod tests;
