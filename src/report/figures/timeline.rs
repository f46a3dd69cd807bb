//! Values along a series: windows of anomalies shaded, a threshold, alarms below.

use std::ops::Range;

use super::SERIES;
use crate::report::ReportError;
use crate::report::plot::{DrawResult, Frame, REFERENCE, dashed, number, range};
use plotters::prelude::*;

/// Stretches that a line is drawn as: more than a screen resolves.
const STRETCHES: usize = 1200;

/// One figure over the points of a series.
pub(in crate::report) struct Timeline<'a> {
    /// What a screen reader says.
    pub alt: &'a str,
    /// What the values are.
    pub label: &'a str,
    /// Number of the first point.
    pub first: usize,
    /// Lines, a value for each point.
    pub lines: Vec<&'a [f64]>,
    /// Where the anomalies are, counted from the first point.
    pub windows: &'a [Range<usize>],
    pub threshold: Option<f64>,
    /// Alarms, counted from the first point.
    pub alarms: &'a [Range<usize>],
}

impl Timeline<'_> {
    /// Colours of the lines by their number in the palette; further channels are left out. The second stands
    /// for anomalies.
    pub(in crate::report) const COLOURS: [usize; 4] = [0, 2, 3, 4];

    /// Draws it; a spike of one point stays visible however long the series is.
    pub(in crate::report) fn draw(&self) -> Result<String, ReportError> {
        let lines: Vec<_> = self.lines.iter().take(Self::COLOURS.len()).collect();
        let points = lines.first().map_or(0, |line| line.len());
        let span = range(lines.iter().flat_map(|line| line.iter().copied()).chain(self.threshold));
        let height = (span.end - span.start).max(1e-12);
        let y = span.start - 0.1 * height..span.end + 0.04 * height;
        let at = |point: usize| (self.first + point) as f64;
        let x = at(0)..at(points.max(1));
        let alt = format!("{}, points {} to {}", self.alt, number(x.start), number(x.end));
        let frame = Frame {
            size: (2400, 520),
            title: "",
            alt: &alt,
            x: ("point", x),
            y: (self.label, y.clone()),
            left: 150,
            y_ticks: true,
            ..Frame::PLAIN
        };
        frame.draw(|chart, _| {
            for window in self.windows {
                let area = [(at(window.start), y.start), (at(window.end), y.end)];
                chart.draw_series([Rectangle::new(area, SERIES[1].mix(0.18).filled())])?;
            }
            for (line, colour) in lines.iter().zip(Self::COLOURS) {
                let colour = SERIES[colour].stroke_width(3);
                let points = extremes(line).into_iter().map(|(point, value)| (at(point), value));
                chart.draw_series(LineSeries::new(points, colour))?;
            }
            if let Some(threshold) = self.threshold {
                dashed(chart, [(at(0), threshold), (at(points), threshold)], REFERENCE)?;
            }
            for alarm in self.alarms {
                let foot = [
                    (at(alarm.start), span.start - 0.08 * height),
                    (at(alarm.end), span.start - 0.03 * height),
                ];
                chart.draw_series([Rectangle::new(foot, SERIES[1].filled())])?;
            }
            DrawResult::Ok(())
        })
    }
}

/// The least and the greatest value of each of equally long stretches, in their order; short lines as they
/// are.
fn extremes(line: &[f64]) -> Vec<(usize, f64)> {
    if line.len() <= 2 * STRETCHES {
        return line.iter().copied().enumerate().collect();
    }
    let length = line.len().div_ceil(STRETCHES);
    let mut points = vec![];
    for (i, stretch) in line.chunks(length).enumerate() {
        let place = |better: fn(f64, f64) -> bool| {
            (0..stretch.len()).fold(0, |best, k| if better(stretch[k], stretch[best]) { k } else { best })
        };
        let [low, high] = [place(|a, b| a < b), place(|a, b| a > b)];
        let mut both = [low, high];
        both.sort_unstable();
        points.extend(both.map(|k| (i * length + k, stretch[k])));
    }
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_of_one_point_stays() {
        let mut line = vec![0.0; 100_000];
        (line[77_777], line[3]) = (9.0, -4.0);
        let points = extremes(&line);
        assert!(points.len() <= 2 * STRETCHES && points.is_sorted_by_key(|p| p.0));
        assert!(points.contains(&(77_777, 9.0)) && points.contains(&(3, -4.0)));
        assert_eq!(extremes(&[1.0, 2.0]), [(0, 1.0), (1, 2.0)]);
    }
}
