//! The figures of the report, and the numbers they draw.

mod compare;
mod scatter;
mod timeline;

pub(super) use compare::{Style, auroc_rows, roc_overlay, style};
pub(super) use scatter::scatter;
pub(super) use timeline::Timeline;

use super::plot::{Canvas, DrawResult, Frame, GRID, INK, REFERENCE, SERIES, dashed, number, range, thinned};
use super::{LossCurve, ReportError, ScoredImage};
use crate::eval::{Evaluation, PrPoint, RocPoint, quantile_of_sorted};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

const NORMAL: RGBColor = SERIES[0];
const ANOMALOUS: RGBColor = SERIES[1];
const SQUARE: (u32, u32) = (1200, 900);
const CURVE_WIDTH: u32 = 5;
/// Letters of a line beside a row, and the width of one at its size on phones.
const LETTERS: usize = 24;
const LETTER: u32 = 23;
/// Outliers drawn per class; the farthest ones.
const MAX_OUTLIERS: usize = 60;

/// Counts of both classes in shared bins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Histogram {
    /// Bin edges, one more than bins.
    pub edges: Vec<f64>,
    /// Normal (or unlabelled) images per bin.
    pub normal: Vec<u64>,
    /// Anomalous images per bin.
    pub anomalous: Vec<u64>,
}

/// Tukey's box plot of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BoxPlot {
    pub class: String,
    pub anomalous: Option<bool>,
    pub n: usize,
    /// Lowest score within 1.5 interquartile ranges of the box.
    pub whisker_low: f64,
    pub q1: f64,
    pub median: f64,
    pub q3: f64,
    /// Highest score within 1.5 interquartile ranges of the box.
    pub whisker_high: f64,
    /// Scores beyond the whiskers, ascending.
    pub outliers: Vec<f64>,
}

impl Histogram {
    /// Bins the scores over a range that includes the threshold.
    pub(super) fn new(images: &[ScoredImage], threshold: Option<f64>) -> Self {
        let span = range(images.iter().map(|i| i.score).chain(threshold));
        let bins = ((images.len() as f64).sqrt().ceil() as usize).clamp(12, 40);
        let width = ((span.end - span.start) / bins as f64).max(f64::MIN_POSITIVE);
        let mut histogram = Self {
            edges: (0..=bins).map(|i| span.start + width * i as f64).collect(),
            normal: vec![0; bins],
            anomalous: vec![0; bins],
        };
        for image in images {
            let bin = (((image.score - span.start) / width) as usize).min(bins - 1);
            let counts =
                if image.anomalous == Some(true) { &mut histogram.anomalous } else { &mut histogram.normal };
            counts[bin] += 1;
        }
        histogram
    }
}

impl BoxPlot {
    /// A box plot per class: normal classes first, then by name.
    pub(super) fn of_classes(images: &[ScoredImage]) -> Vec<Self> {
        super::page::classes(images)
            .into_iter()
            .map(|(class, anomalous)| {
                let mut scores: Vec<f64> =
                    images.iter().filter(|i| i.class == class).map(|i| i.score).collect();
                scores.sort_unstable_by(f64::total_cmp);
                Self::new(class, anomalous, &scores)
            })
            .collect()
    }

    fn new(class: &str, anomalous: Option<bool>, sorted: &[f64]) -> Self {
        let [q1, median, q3] = [0.25, 0.5, 0.75].map(|q| quantile_of_sorted(sorted, q));
        let reach = 1.5 * (q3 - q1);
        let is_inside = |s: &&f64| (q1 - reach..=q3 + reach).contains(*s);
        let inside = || sorted.iter().filter(is_inside);
        Self {
            class: class.to_owned(),
            anomalous,
            n: sorted.len(),
            whisker_low: inside().copied().fold(q1, f64::min),
            q1,
            median,
            q3,
            whisker_high: inside().copied().fold(q3, f64::max),
            outliers: sorted.iter().filter(|s| !is_inside(s)).copied().collect(),
        }
    }
}

/// ROC curve with the chance line and the deployed threshold's operating point.
pub(super) fn roc(curve: &[RocPoint], evaluation: &Evaluation) -> Result<String, ReportError> {
    let points: Vec<(f64, f64)> = curve.iter().map(|p| (p.fpr, p.tpr)).collect();
    let alt = format!("ROC curve, area {}", evaluation.auroc.map_or_else(String::new, number));
    let frame = unit_frame(&alt, "false-positive rate", "true-positive rate");
    frame.draw(|chart, _| {
        dashed(chart, [(0.0, 0.0), (1.0, 1.0)], REFERENCE)?;
        chart.draw_series(LineSeries::new(visible(&points), SERIES[2].stroke_width(CURVE_WIDTH)))?;
        let deployed = evaluation.threshold.as_ref();
        marker(chart, deployed.and_then(|t| Some((t.false_alarm_rate?, t.recall?))))
    })
}

/// Precision–recall curve with the no-skill line and the deployed threshold's operating point.
pub(super) fn precision_recall(curve: &[PrPoint], evaluation: &Evaluation) -> Result<String, ReportError> {
    // Drawn as the steps that average precision sums: each precision holds back to the previous recall.
    let mut points = Vec::with_capacity(2 * curve.len());
    let mut recall = 0.0;
    for p in curve {
        points.extend([(recall, p.precision), (p.recall, p.precision)]);
        recall = p.recall;
    }
    let alt = format!("Precision-recall curve, area {}", evaluation.aupr.map_or_else(String::new, number));
    unit_frame(&alt, "recall", "precision").draw(|chart, _| {
        if let Some(prevalence) = evaluation.aupr_baseline {
            dashed(chart, [(0.0, prevalence), (1.0, prevalence)], REFERENCE)?;
        }
        chart.draw_series(LineSeries::new(visible(&points), SERIES[2].stroke_width(CURVE_WIDTH)))?;
        let deployed = evaluation.threshold.as_ref();
        marker(chart, deployed.and_then(|t| Some((t.recall?, t.precision?))))
    })
}

/// Histogram of both classes, each as a share of its own size, with the threshold.
pub(super) fn histogram(data: &Histogram, threshold: Option<f64>) -> Result<String, ReportError> {
    let share = |counts: &[u64]| -> Vec<f64> {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        counts.iter().map(|&c| c as f64 / total).collect()
    };
    let classes = [(share(&data.normal), NORMAL), (share(&data.anomalous), ANOMALOUS)];
    let top = classes.iter().flat_map(|c| &c.0).copied().fold(0.0, f64::max) * 1.08;
    let frame = Frame {
        size: SQUARE,
        title: "",
        alt: "Histogram of the scores of normal and anomalous images",
        x: ("score", range(data.edges.iter().copied())),
        y: ("share of class", 0.0..top),
        left: 140,
        y_ticks: true,
        ..Frame::PLAIN
    };
    frame.draw(|chart, _| {
        for (shares, colour) in classes {
            let mut outline = vec![(data.edges[0], 0.0)];
            for (bin, height) in shares.into_iter().enumerate() {
                outline.extend([(data.edges[bin], height), (data.edges[bin + 1], height)]);
            }
            outline.push((data.edges[data.edges.len() - 1], 0.0));
            chart.draw_series([Polygon::new(outline.clone(), colour.mix(0.28).filled())])?;
            chart.draw_series([PathElement::new(outline, colour.stroke_width(4))])?;
        }
        match threshold {
            Some(t) => dashed(chart, [(t, 0.0), (t, top)], INK),
            None => Ok(()),
        }
    })
}

/// A horizontal box per class, with the threshold.
pub(super) fn box_plots(boxes: &[BoxPlot], threshold: Option<f64>) -> Result<String, ReportError> {
    let scores = boxes.iter().flat_map(|b| {
        b.outliers
            .first()
            .into_iter()
            .chain(b.outliers.last())
            .copied()
            .chain([b.whisker_low, b.whisker_high])
    });
    let span = range(scores.chain(threshold));
    let margin = 0.02 * (span.end - span.start);
    let names = Names::new(boxes.iter().map(|b| b.class.as_str()));
    let frame = Frame {
        size: (SQUARE.0, SQUARE.1.max(120 + 110 * boxes.len() as u32)),
        title: "",
        alt: "Box plot of the scores of each class",
        x: ("score", span.start - margin..span.end + margin),
        y: ("", 0.0..boxes.len() as f64),
        left: names.width,
        y_ticks: false,
        ..Frame::PLAIN
    };
    frame.draw(|chart, canvas| {
        for (i, b) in boxes.iter().enumerate() {
            let y = (boxes.len() - i) as f64 - 0.5;
            let colour = if b.anomalous == Some(true) { ANOMALOUS } else { NORMAL };
            let line = colour.stroke_width(4);
            let (low, high) = (y - 0.26, y + 0.26);
            chart.draw_series(
                [(b.whisker_low, b.q1), (b.q3, b.whisker_high)]
                    .map(|(from, to)| PathElement::new([(from, y), (to, y)], line)),
            )?;
            chart.draw_series([Rectangle::new([(b.q1, low), (b.q3, high)], colour.mix(0.28).filled())])?;
            let corners = [(b.q1, low), (b.q1, high), (b.q3, high), (b.q3, low), (b.q1, low)];
            chart.draw_series([PathElement::new(corners, line)])?;
            chart.draw_series([PathElement::new(
                [(b.median, low), (b.median, high)],
                colour.stroke_width(9),
            )])?;
            chart.draw_series(farthest(b).map(|s| Circle::new((s, y), 6, colour.mix(0.6).filled())))?;
            names.draw(canvas, i, chart.backend_coord(&(span.start, y)).1)?;
        }
        match threshold {
            Some(t) => dashed(chart, [(t, 0.0), (t, boxes.len() as f64)], INK),
            None => Ok(()),
        }
    })
}

/// One loss term against the epoch, or the step where the length of an epoch is not known.
pub(super) fn loss(curve: &LossCurve) -> Result<String, ReportError> {
    let length = curve.steps_per_epoch.max(1) as f64;
    let points: Vec<(f64, f64)> =
        curve.steps.iter().zip(&curve.values).map(|(&s, &v)| (s as f64 / length, f64::from(v))).collect();
    let line = thinned(&points);
    let values = range(line.iter().map(|p| p.1));
    let margin = 0.05 * (values.end - values.start);
    let frame = Frame {
        size: (800, 470),
        title: "",
        alt: &format!("Training loss {}", curve.name),
        x: (if curve.steps_per_epoch > 0 { "epoch" } else { "step" }, range(line.iter().map(|p| p.0))),
        y: ("", values.start - margin..values.end + margin),
        left: 115,
        y_ticks: true,
        ..Frame::PLAIN
    };
    frame.draw(|chart, _| {
        chart.draw_series(LineSeries::new(line, SERIES[0].stroke_width(4)))?;
        Ok(())
    })
}

fn unit_frame<'a>(alt: &'a str, x: &'a str, y: &'a str) -> Frame<'a> {
    Frame {
        size: SQUARE,
        title: "",
        alt,
        x: (x, 0.0..1.0),
        y: (y, 0.0..1.0),
        left: 130,
        y_ticks: true,
        ..Frame::PLAIN
    }
}

/// The deployed threshold's operating point: a ringed dot.
fn marker(chart: &mut super::plot::Chart, at: Option<(f64, f64)>) -> DrawResult {
    if let Some(at) = at {
        chart.draw_series([Circle::new(at, 17, GRID.filled()), Circle::new(at, 12, ANOMALOUS.filled())])?;
    }
    Ok(())
}

/// Drops points closer to the last kept one than a screen can show; keeps both ends.
fn visible(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (i, &p) in points.iter().enumerate() {
        let is_far = kept.last().is_none_or(|q| (p.0 - q.0).abs().max((p.1 - q.1).abs()) > 1e-3);
        if is_far || i + 1 == points.len() {
            kept.push(p);
        }
    }
    kept
}

/// The outliers farthest from the median, at most [`MAX_OUTLIERS`].
fn farthest(b: &BoxPlot) -> impl Iterator<Item = f64> {
    let mut outliers = b.outliers.clone();
    outliers.sort_unstable_by(|x, y| (y - b.median).abs().total_cmp(&(x - b.median).abs()));
    outliers.into_iter().take(MAX_OUTLIERS)
}

/// Names at the left of rows, in as much room as the longest needs: those that are too long for a line take
/// two, broken behind a separator where there is one.
struct Names {
    lines: Vec<Vec<String>>,
    width: u32,
}

impl Names {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let lines: Vec<_> = names.map(in_lines).collect();
        let longest = lines.iter().flatten().map(|line| line.chars().count()).max().unwrap_or(0);
        Self { lines, width: (40 + LETTER * longest as u32).max(120) }
    }

    /// Draws the name of a row around a height of the canvas.
    fn draw(&self, canvas: &Canvas, row: usize, height: i32) -> DrawResult {
        const LINE: i32 = 42;
        let lines = &self.lines[row];
        let top = height - LINE * (lines.len() as i32 - 1) / 2;
        for (i, line) in lines.iter().enumerate() {
            let text = ("sans-serif", 34).into_font().color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
            canvas.draw(&Text::new(line.as_str(), (self.width as i32 - 8, top + LINE * i as i32), text))?;
        }
        Ok(())
    }
}

/// A name in one line or two of at most [`LETTERS`]; more than that is cut.
fn in_lines(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= LETTERS {
        return vec![name.to_owned()];
    }
    let fits = |&at: &usize| at <= LETTERS && letters.len() - at <= LETTERS;
    let breaks = (1..letters.len()).filter(|&at| matches!(letters[at - 1], '-' | '_' | ' ' | '/' | '.'));
    let middle = letters.len() / 2;
    let at = breaks.filter(fits).min_by_key(|at| at.abs_diff(middle)).unwrap_or(middle.min(LETTERS));
    let (first, second) = letters.split_at(at);
    let second: String = match second.len() <= LETTERS {
        true => second.iter().collect(),
        false => second[..LETTERS - 1].iter().chain(&['…']).collect(),
    };
    vec![first.iter().collect(), second]
}
