//! What a report shows beside the evaluation: samples over training, features in the plane.

use super::ReportError;
use crate::eval::embed;
use ganomede_datasets::files;
use image::{ImageFormat, ImageReader, Limits, RgbImage};
use serde::Serialize;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// Bytes of a grid of samples, as a file and decoded.
const MAX_BYTES: u64 = 256 << 20;

/// Optional parts of a report.
#[derive(Debug, Clone, Default)]
pub struct Supplement {
    /// What of the data was not used, as further fields of `metrics.json`.
    pub findings: serde_json::Map<String, serde_json::Value>,
    /// What one sample is called where it is no image.
    pub sample: Option<&'static str>,
    /// Sample grids over training with their captions, oldest first; [`sample_timeline`] reads them.
    pub timeline: Vec<(String, RgbImage)>,
    /// The grids show test images, each before its reconstruction; else images drawn from latents.
    pub reconstructs: bool,
    /// Feature vectors in the plane.
    pub embedding: Option<Embedding>,
    /// What to do with the result.
    pub next: Vec<NextStep>,
}

/// A suggestion of what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextStep {
    /// What for, in a sentence.
    pub text: String,
    /// The command; empty where there is none.
    pub command: String,
}

impl Supplement {
    /// What one sample is called.
    pub(super) fn noun(&self) -> &'static str {
        self.sample.unwrap_or("image")
    }
}

/// Feature vectors as points of a plane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Embedding {
    /// Heading, e.g. `t-SNE of the discriminator's features`.
    pub title: String,
    /// The points, drawn in this order.
    pub points: Vec<EmbeddedPoint>,
}

/// One feature vector in the plane.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EmbeddedPoint {
    /// What it was computed from.
    pub kind: PointKind,
    /// Abscissa, without a unit.
    pub x: f64,
    /// Ordinate, without a unit.
    pub y: f64,
}

/// What a feature vector was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    /// A normal image.
    Normal,
    /// An anomalous image.
    Anomalous,
    /// An image drawn by the generator.
    Generated,
}

impl PointKind {
    /// In the order of the legend.
    pub(super) const ALL: [Self; 3] = [Self::Normal, Self::Anomalous, Self::Generated];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Anomalous => "anomalous",
            Self::Generated => "generated",
        }
    }
}

/// How far the features set anomalous points apart, by the nearest neighbours among normal and anomalous
/// points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Neighbours {
    /// Neighbours looked at of each point.
    pub(super) count: usize,
    /// Share of the neighbours of anomalous points that are anomalous.
    pub(super) anomalous: f64,
    /// The same if truths were drawn at random.
    pub(super) by_chance: f64,
}

impl Neighbours {
    const COUNT: usize = 5;

    /// `None` with too few points of either truth.
    pub(super) fn of(embedding: &Embedding) -> Option<Self> {
        let points: Vec<_> = embedding.points.iter().filter(|p| p.kind != PointKind::Generated).collect();
        let is_anomalous = |p: &&&EmbeddedPoint| p.kind == PointKind::Anomalous;
        let (total, anomalous) = (points.len(), points.iter().filter(is_anomalous).count());
        if anomalous <= Self::COUNT || total - anomalous <= Self::COUNT {
            return None;
        }
        let mut alike = 0;
        for (at, point) in points.iter().enumerate().filter(|(_, p)| is_anomalous(p)) {
            let mut others: Vec<_> = (0..total).filter(|&i| i != at).collect();
            let distance = |i: &usize| (points[*i].x - point.x).hypot(points[*i].y - point.y);
            others.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
            alike += others.iter().take(Self::COUNT).filter(|&&i| is_anomalous(&&points[i])).count();
        }
        Some(Self {
            count: Self::COUNT,
            anomalous: alike as f64 / (anomalous * Self::COUNT) as f64,
            by_chance: (anomalous - 1) as f64 / (total - 1) as f64,
        })
    }
}

impl Embedding {
    /// Embeds feature vectors of `dim` values, row by row in `features`, one for each of `kinds`.
    ///
    /// Errors: those of [`embed`], a number of vectors other than that of `kinds`.
    pub fn of_features(
        title: &str,
        features: &[f32],
        dim: usize,
        kinds: &[PointKind],
    ) -> Result<Self, ReportError> {
        if kinds.len().checked_mul(dim) != Some(features.len()) {
            let (what, got) = ("feature matrix".to_owned(), features.len());
            return Err(ReportError::Shape { what, got, shape: vec![kinds.len(), dim] });
        }
        let points = embed(features, dim)?.into_iter().zip(kinds);
        let points = points.map(|([x, y], &kind)| EmbeddedPoint { kind, x, y }).collect();
        Ok(Self { title: title.to_owned(), points })
    }
}

impl Supplement {
    /// Checks that every point can be drawn.
    pub(super) fn check(&self) -> Result<(), ReportError> {
        for (i, p) in self.embedding.iter().flat_map(|e| &e.points).enumerate() {
            if let Some(value) = [p.x, p.y].into_iter().find(|v| !v.is_finite()) {
                return Err(ReportError::NotFinite { what: "embedding", id: format!("point {i}"), value });
            }
        }
        Ok(())
    }
}

/// Reads the PNG grids that `train --samples` left in `folder`: at most `at_most`, evenly spread, first and
/// last among them, in the order of their names. `step-0000500.png` is captioned `step 500`.
///
/// Errors: a folder or a picture that cannot be read.
pub fn sample_timeline(folder: &Path, at_most: usize) -> Result<Vec<(String, RgbImage)>, ReportError> {
    let failed = |path: &Path, reason: &dyn ToString| ReportError::Read {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| failed(folder, &e))? {
        let path = entry.map_err(|e| failed(folder, &e))?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            paths.push(path);
        }
    }
    paths.sort();
    let kept = at_most.min(paths.len());
    let chosen =
        (0..kept).map(|i| if kept == 1 { paths.len() - 1 } else { i * (paths.len() - 1) / (kept - 1) });
    let read = |path: &PathBuf| {
        let bytes = files::read_limited(path, MAX_BYTES).map_err(|e| failed(path, &e))?;
        let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        let image = reader.decode().map_err(|e| failed(path, &e))?;
        Ok((caption(path), image.into_rgb8()))
    };
    chosen.map(|i| read(&paths[i])).collect()
}

fn caption(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match stem.strip_prefix("step-").and_then(|n| n.parse::<u64>().ok()) {
        Some(step) => format!("step {step}"),
        None => stem,
    }
}
