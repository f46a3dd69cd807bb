//! The report on series: a table of detectors, and what each of them says along each series.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::html::series::page;
use super::{LossCurve, REPORT_FILES, ReportError, write_atomic};

/// Everything that `report.html` shows of one or more series.
#[derive(Debug, Clone, Default)]
pub struct SeriesReport {
    /// Heading of the page.
    pub title: String,
    /// Data, device and the like, by name.
    pub facts: Vec<(&'static str, String)>,
    /// Headings of the table behind the detector's name.
    pub columns: Vec<String>,
    /// Detectors with their cells.
    pub rows: Vec<(String, Vec<String>)>,
    /// The series.
    pub series: Vec<PlottedSeries>,
    /// Loss curves of the training, or of each training.
    pub losses: Vec<LossCurve>,
}

/// The scored stretch of one series.
#[derive(Debug, Clone, Default)]
pub struct PlottedSeries {
    /// Its name.
    pub name: String,
    /// Row of its first point.
    pub first: usize,
    /// Channels with a value for each point, on one scale; the first four are drawn.
    pub channels: Vec<(String, Vec<f64>)>,
    /// Anomalous stretches, counted from the first point.
    pub windows: Vec<Range<usize>>,
    /// What each detector says.
    pub detectors: Vec<PlottedScores>,
}

/// What a detector says along a series.
#[derive(Debug, Clone, Default)]
pub struct PlottedScores {
    /// The detector.
    pub name: String,
    /// A score for each point.
    pub scores: Vec<f64>,
    /// From where on points are flagged.
    pub threshold: Option<f64>,
    /// Alarms, counted from the first point.
    pub alarms: Vec<Range<usize>>,
}

/// Writes `report.html` and `metrics.json` into a folder, which must exist; returns their paths. `metrics`
/// holds every number of the page.
///
/// # Errors
/// [`ReportError`] for a file that cannot be written or a figure that cannot be drawn.
pub fn write_series_report(
    folder: &Path,
    report: &SeriesReport,
    metrics: &str,
) -> Result<[PathBuf; 2], ReportError> {
    let files = REPORT_FILES.map(|name| folder.join(name));
    let page = page(report)?;
    write_atomic(&files[1], metrics.as_bytes())?;
    write_atomic(&files[0], page.as_bytes())?;
    Ok(files)
}
