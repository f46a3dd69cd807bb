//! What is scored: one trait for images, series and tables, and what a model says of each sample.

use std::path::PathBuf;

use ganomede_datasets::Rejected;
use ganomede_host::line;
use serde::{Deserialize, Serialize};

use super::{Alarm, Applied, DetectError, Judge, Listed, Located};
use crate::eval::Drift;
use crate::maps::Region;

/// Data to be scored, in their order.
pub trait Queries {
    /// Scores all of it. `batch` images (or tiles of one) are scored side by side; of images `maps` says what
    /// is written of their maps.
    ///
    /// # Errors
    /// [`DetectError`] where data cannot be read or scored, or the observer stops it.
    fn answers(
        &self,
        model: &mut Applied<'_>,
        judge: &Judge<'_>,
        batch: usize,
        maps: &MapOutputs,
    ) -> Result<Answers, DetectError>;
}

/// What is written, and told, of the maps of images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MapOutputs {
    /// Folder for a picture of each image under the colours of its map, at the image's own size.
    pub folder: Option<PathBuf>,
    /// Whether the values are written there too, as NumPy reads them.
    pub raw: bool,
    /// Whether a mask of the pixels above the threshold is written there too.
    pub mask: bool,
    /// Share of held-out normal pixels that may reach that threshold; the model's own where nothing is said.
    pub rate: Option<f64>,
    /// Whether connected regions above it are listed.
    pub regions: bool,
}

/// What a model says of data, sample by sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answers {
    /// Of images, or of rows of tables.
    Samples {
        /// One an image or row.
        images: Vec<Answer>,
        /// Files that cannot be used.
        rejected: Vec<Rejected>,
        /// What was not looked at.
        skipped: Vec<Rejected>,
        /// Of images with maps: where the colours of all pictures begin and end.
        #[serde(skip_serializing_if = "Option::is_none")]
        map_range: Option<[f32; 2]>,
        /// The value from which on a pixel is called anomalous.
        #[serde(skip_serializing_if = "Option::is_none")]
        map_threshold: Option<f32>,
        /// How many are flagged beside what was promised of normal ones; absent without a calibration.
        #[serde(skip_serializing_if = "Option::is_none")]
        drift: Option<Drift>,
        /// The list that these are of, or a part of.
        #[serde(skip)]
        listed: Listed,
    },
    /// Of points of series.
    Points {
        /// One a series.
        series: Vec<SeriesAnswer>,
        /// The list that these are of, or a part of.
        #[serde(skip)]
        listed: Listed,
    },
}

/// What a model says of an image, or of a row of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Its place in the list of what is scored, from 0.
    #[serde(skip)]
    pub place: usize,
    /// Name of the image, file of the row.
    pub path: String,
    /// Of a table: its place in the file, from 0 without the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<usize>,
    /// The score; larger is more anomalous.
    pub score: f64,
    /// Share of normal samples with a lower score, interpolated between held-out ones; unknown without a
    /// calibration. It is no probability of a defect.
    pub probability: Option<f64>,
    /// Percentage of held-out normal samples with a lower score.
    pub percentile: Option<f64>,
    /// How often a normal sample scores as high or higher, at most.
    pub p_value: Option<f64>,
    /// The verdict.
    pub anomalous: Option<bool>,
    /// Where a picture of it was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<PathBuf>,
    /// Where the values of its map were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_raw: Option<PathBuf>,
    /// Where the mask of its anomalous pixels was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_mask: Option<PathBuf>,
    /// Connected regions of such pixels, from the highest peak on, in pixels of the image; at most a
    /// thousand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<Region>>,
    /// Regions beyond those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub regions_left_out: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Answer {
    pub(super) fn new(path: &str, score: f64, judge: &Judge<'_>) -> Self {
        Self {
            place: 0,
            path: path.to_owned(),
            row: None,
            score,
            probability: judge.probability(score),
            percentile: judge.percentile(score),
            p_value: judge.p_value(score),
            anomalous: judge.is_anomalous(score),
            map: None,
            map_raw: None,
            map_mask: None,
            regions: None,
            regions_left_out: 0,
        }
    }

    /// What was found of an image by itself, under its name.
    pub fn located(path: &str, located: Located) -> Self {
        let verdict = located.verdict;
        Self {
            place: 0,
            path: path.to_owned(),
            row: None,
            score: verdict.score,
            probability: verdict.probability,
            percentile: verdict.percentile,
            p_value: verdict.p_value,
            anomalous: verdict.anomalous,
            map: None,
            map_raw: None,
            map_mask: None,
            regions: located.threshold.map(|_| located.regions),
            regions_left_out: located.regions_left_out,
        }
    }

    /// Score, percentile, verdict and name, with tabulators between, as [`Answers::lines`] has them.
    pub fn line(&self) -> String {
        let row = self.row.map_or(String::new(), |row| format!("{row}\t"));
        text(self.score, self.percentile, self.anomalous, &(row + &line(&self.path)))
    }
}

/// What a model says of the points of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesAnswer {
    /// Its place in the list of what is scored, from 0.
    #[serde(skip)]
    pub place: usize,
    /// Its file.
    pub path: String,
    /// Row of the first score.
    pub first_row: usize,
    /// The score of each point.
    pub scores: Vec<f64>,
    /// Share of normal points below each score, interpolated between held-out ones; null without a
    /// calibration. They are no probabilities of a fault.
    pub probabilities: Option<Vec<f64>>,
    /// Percentage of held-out normal points below each score; null without a calibration.
    pub percentiles: Option<Vec<f64>>,
    /// How often a normal point scores as high or higher, at most; null without a calibration.
    pub p_values: Option<Vec<f64>>,
    /// Points above the threshold as intervals.
    pub alarms: Vec<Alarm>,
    /// What was decided in reading.
    pub notes: Vec<String>,
    /// Time or row of each point.
    #[serde(skip)]
    pub times: Vec<String>,
    /// The verdict on each point.
    #[serde(skip)]
    pub anomalous: Vec<Option<bool>>,
}

impl Answers {
    /// Samples that are anomalous, or alarms of series.
    pub fn alarms(&self) -> usize {
        match self {
            Self::Samples { images, .. } => images.iter().filter(|a| a.anomalous == Some(true)).count(),
            Self::Points { series, .. } => series.iter().map(|series| series.alarms.len()).sum(),
        }
    }

    /// A heading and a line for each sample, with tabulators between; of a series its alarms follow.
    pub fn lines(&self) -> Box<dyn Iterator<Item = String> + '_> {
        let heading = |place: &str| std::iter::once(format!("score\tpercentile\tverdict\t{place}"));
        match self {
            Self::Samples { images, .. } => {
                let place = if images.iter().any(|a| a.row.is_some()) { "row\ttable" } else { "image" };
                Box::new(heading(place).chain(images.iter().map(Answer::line)))
            }
            Self::Points { series, .. } => {
                Box::new(heading("point\tseries").chain(series.iter().flat_map(SeriesAnswer::lines)))
            }
        }
    }
}

impl SeriesAnswer {
    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let path = line(&self.path).into_owned();
        let points = (0..self.scores.len()).map({
            let path = path.clone();
            move |i| {
                let percentile = self.percentiles.as_ref().map(|all| all[i]);
                text(self.scores[i], percentile, self.anomalous[i], &format!("{}\t{path}", self.times[i]))
            }
        });
        points.chain(self.alarms.iter().map(move |alarm| format!("{alarm}, {path}")))
    }
}

fn text(score: f64, percentile: Option<f64>, anomalous: Option<bool>, place: &str) -> String {
    let percentile = percentile.map_or("-".to_owned(), |p| format!("{p:.1}"));
    let verdict = anomalous.map_or("-", |a| if a { "anomalous" } else { "normal" });
    format!("{score:.4}\t{percentile}\t{verdict}\t{place}")
}
