//! Points of an embedding.

use super::{ANOMALOUS, NORMAL};
use crate::report::plot::{Frame, SERIES, range};
use crate::report::{Embedding, PointKind, ReportError};
use plotters::prelude::*;

/// A mark for each point: circles are normal, triangles anomalous, crosses generated.
pub(in crate::report) fn scatter(embedding: &Embedding) -> Result<String, ReportError> {
    let points = &embedding.points;
    let padded = |values: std::ops::Range<f64>| {
        let margin = 0.04 * (values.end - values.start);
        values.start - margin..values.end + margin
    };
    let frame = Frame {
        size: (1200, 900),
        title: "",
        alt: &embedding.title,
        x: ("", padded(range(points.iter().map(|p| p.x)))),
        y: ("", padded(range(points.iter().map(|p| p.y)))),
        left: 20,
        y_ticks: false,
        ..Frame::PLAIN
    };
    frame.draw_bare(|chart| {
        for point in points {
            let at = (point.x, point.y);
            match point.kind {
                PointKind::Normal => chart.draw_series([Circle::new(at, 8, NORMAL.mix(0.75).filled())])?,
                PointKind::Anomalous => {
                    chart.draw_series([TriangleMarker::new(at, 12, ANOMALOUS.mix(0.85).filled())])?
                }
                PointKind::Generated => chart.draw_series([Cross::new(at, 7, SERIES[2].stroke_width(4))])?,
            };
        }
        Ok(())
    })
}
