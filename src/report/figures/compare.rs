//! Figures of several systems at once.

use super::{CURVE_WIDTH, Names, SQUARE, unit_frame, visible};
use crate::eval::RocPoint;
use crate::report::ReportError;
use crate::report::plot::{Chart, DrawResult, Frame, REFERENCE, SERIES, dashed};
use plotters::prelude::*;

/// How the curve of a system is drawn.
#[derive(Clone, Copy)]
pub(in crate::report) struct Style {
    /// Index of its colour.
    pub colour: usize,
    /// `line`, `dash`, `dots` or `double`, which is long dashes in a curve.
    pub stroke: &'static str,
}

/// Colours first, then strokes: twenty systems look different, and still do in gray or to any colour vision.
pub(in crate::report) fn style(at: usize) -> Style {
    const COLOURS: usize = 5; // of SERIES; the sixth is too near the first on dark pages
    Style { colour: at % COLOURS, stroke: ["line", "dash", "dots", "double"][at / COLOURS % 4] }
}

/// ROC curves over each other; the first is drawn on top, so pass the best one first.
pub(in crate::report) fn roc_overlay(curves: &[(Style, &[RocPoint])]) -> Result<String, ReportError> {
    let frame = unit_frame("ROC curves of all systems", "false-positive rate", "true-positive rate");
    frame.draw(|chart, _| {
        dashed(chart, [(0.0, 0.0), (1.0, 1.0)], REFERENCE)?;
        for (style, curve) in curves.iter().rev() {
            let points: Vec<(f64, f64)> = curve.iter().map(|p| (p.fpr, p.tpr)).collect();
            stroke(chart, visible(&points), *style)?;
        }
        Ok(())
    })
}

/// AUROC of each system, its 95 % interval as a bar, from the first row down, with the chance line.
pub(in crate::report) fn auroc_rows(
    rows: &[(Style, &str, f64, Option<[f64; 2]>)],
) -> Result<String, ReportError> {
    let values = rows.iter().flat_map(|r| r.3.into_iter().flatten().chain([r.2]));
    let low = values.fold(0.5, f64::min);
    let n = rows.len() as f64;
    let names = Names::new(rows.iter().map(|row| row.1));
    let frame = Frame {
        size: (SQUARE.0, (130 + 92 * rows.len() as u32).max(560)),
        title: "",
        alt: "AUROC of each system with its 95 % interval",
        x: ("AUROC", (low - 0.03).max(0.0)..1.0),
        y: ("", 0.0..n),
        left: names.width,
        y_ticks: false,
        ..Frame::PLAIN
    };
    frame.draw(|chart, canvas| {
        dashed(chart, [(0.5, 0.0), (0.5, n)], REFERENCE)?;
        for (i, (style, _, auroc, interval)) in rows.iter().enumerate() {
            let y = n - i as f64 - 0.5;
            let colour = SERIES[style.colour];
            if let Some([lo, hi]) = *interval {
                let bar = [(lo, y - 0.13), (hi, y + 0.13)];
                chart.draw_series([Rectangle::new(bar, colour.mix(0.35).filled())])?;
            }
            chart.draw_series([Circle::new((*auroc, y), 11, colour.filled())])?;
            names.draw(canvas, i, chart.backend_coord(&(*auroc, y)).1)?;
        }
        Ok(())
    })
}

fn stroke(chart: &mut Chart, points: Vec<(f64, f64)>, style: Style) -> DrawResult {
    let line = SERIES[style.colour].stroke_width(CURVE_WIDTH);
    match style.stroke {
        "line" => chart.draw_series(LineSeries::new(points, line)).map(drop),
        "dash" => chart.draw_series(DashedLineSeries::new(points, 22, 12, line)).map(drop),
        "double" => chart.draw_series(DashedLineSeries::new(points, 60, 8, line)).map(drop),
        _ => chart.draw_series(DashedLineSeries::new(points, 6, 10, line)).map(drop),
    }
}
