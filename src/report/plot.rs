//! Line plots as SVG text: one frame and one look for every figure.
//!
//! Coordinates are twice the intended size, since the SVG backend rounds them to integers. The page restyles
//! the colours below for dark mode by attribute selectors, so figures use these and no others.

use super::ReportError;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(0x3A, 0x42, 0x4A);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(0xDF, 0xE3, 0xE8);
/// Reference lines: chance, threshold.
pub(super) const REFERENCE: RGBColor = RGBColor(0x6E, 0x77, 0x81);
/// Okabe and Ito's palette, told apart with any colour vision. First normal images, then anomalous ones.
pub(super) const SERIES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

const FONT: i32 = 34;
const TICKS: usize = 5;
/// Points of a line that are marked, and places that can each have a tick.
const MARKED: usize = 60;
const PLACES: usize = 12;
/// Points kept of a curve: more than a screen resolves.
const MAX_POINTS: usize = 1500;

pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
pub(super) type DrawResult = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// An axis with its own ticks: the backend's search for round numbers may not end on hostile ranges.
pub(super) struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
    is_logarithmic: bool,
}

impl Axis {
    /// The range, widened if it is too narrow to divide.
    fn new(range: &Range<f64>, with_ticks: bool) -> Self {
        let size = range.start.abs().max(range.end.abs());
        // A constant is drawn with round numbers around it.
        let least = match range.start == range.end {
            true if size == 0.0 => 1.0,
            true => 0.1 * size,
            false => (size * 1e-6).max(1e-12),
        };
        let is_narrow = range.end - range.start < least;
        let range = if is_narrow { range.start - least..range.end + least } else { range.clone() };
        let ticks = if with_ticks { ticks(&range) } else { Vec::new() };
        Self { range, ticks, is_logarithmic: false }
    }

    /// Logarithmic, with a tick at each of these places, which are positive and ascend.
    fn logarithmic(places: &[f64]) -> Self {
        let (first, last) = (places[0], places[places.len() - 1]);
        let margin = (last / first).powf(0.03);
        Self { range: first / margin..last * margin, ticks: places.to_vec(), is_logarithmic: true }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let at = |value: f64| if self.is_logarithmic { value.ln() } else { value };
        let (start, end) = (at(self.range.start), at(self.range.end));
        let share = (at(*value) - start) / (end - start);
        from + (share.clamp(-1.0, 2.0) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// A named line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct PlotLine {
    /// Name in the legend.
    pub name: String,
    /// Points in drawing order; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// The frame of a plot: size, axes, accessible name.
pub(super) struct Frame<'a> {
    pub size: (u32, u32),
    /// Drawn above the plot; empty on the page, whose headings say it.
    pub title: &'a str,
    /// What a screen reader says.
    pub alt: &'a str,
    pub x: (&'a str, Range<f64>),
    pub y: (&'a str, Range<f64>),
    /// Room for the labels of the y axis.
    pub left: u32,
    pub y_ticks: bool,
    /// Where the x axis has its ticks, if it is logarithmic.
    pub places: &'a [f64],
    /// Names above the plot, in the palette's order.
    pub legend: &'a [&'a str],
}

impl Frame<'_> {
    /// A linear axis, no legend.
    pub(super) const PLAIN: Self = Self {
        size: (0, 0),
        title: "",
        alt: "",
        x: ("", 0.0..1.0),
        y: ("", 0.0..1.0),
        left: 0,
        y_ticks: true,
        places: &[],
        legend: &[],
    };

    /// Draws whatever `content` adds inside a plain border: no axis means anything.
    pub(super) fn draw_bare(
        &self,
        content: impl for<'a, 'b> FnOnce(&mut Chart<'a, 'b>) -> DrawResult,
    ) -> Result<String, ReportError> {
        let mut svg = String::new();
        let canvas = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
        let draw = || {
            let mut builder = ChartBuilder::on(&canvas);
            let mut chart = builder
                .margin(6)
                .build_cartesian_2d(Axis::new(&self.x.1, false), Axis::new(&self.y.1, false))?;
            chart.plotting_area().draw(&Rectangle::new(
                [(self.x.1.start, self.y.1.start), (self.x.1.end, self.y.1.end)],
                GRID.stroke_width(3),
            ))?;
            content(&mut chart)?;
            canvas.present()
        };
        draw().map_err(|e| ReportError::Picture(e.to_string()))?;
        drop(canvas);
        Ok(self.labelled(svg))
    }

    /// Draws axes and grid, then whatever `content` adds.
    pub(super) fn draw(
        &self,
        content: impl for<'a, 'b> FnOnce(&mut Chart<'a, 'b>, &'a Canvas<'b>) -> DrawResult,
    ) -> Result<String, ReportError> {
        let mut svg = String::new();
        let canvas = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
        let draw = || {
            let area = canvas.split_vertically(self.head(&canvas)?).1;
            let x = match self.places.is_empty() {
                true => Axis::new(&self.x.1, true),
                false => Axis::logarithmic(self.places),
            };
            let mut builder = ChartBuilder::on(&area);
            let mut chart = builder
                .margin(12)
                .margin_top(26) // half a tick label at its size on phones
                .margin_right(52) // half a number at its size on phones
                .x_label_area_size(92)
                .y_label_area_size(self.left)
                .build_cartesian_2d(x, Axis::new(&self.y.1, self.y_ticks))?;
            let text = ("sans-serif", FONT).into_font().color(&INK);
            chart
                .configure_mesh()
                .bold_line_style(GRID.stroke_width(2))
                .light_line_style(TRANSPARENT)
                .axis_style(INK.stroke_width(2))
                .label_style(text.clone())
                .axis_desc_style(text)
                .x_label_formatter(&|v| number(*v))
                .y_label_formatter(&|v| number(*v))
                .x_desc(self.x.0)
                .y_desc(self.y.0)
                .draw()?;
            content(&mut chart, &canvas)?;
            canvas.present()
        };
        draw().map_err(|e| ReportError::Picture(e.to_string()))?;
        drop(canvas);
        Ok(self.labelled(svg))
    }

    /// Title and legend, above the plot, since on it they would hide lines; returns their height.
    fn head(&self, canvas: &Canvas) -> Result<i32, DrawingAreaErrorKind<std::io::Error>> {
        const ROW: i32 = FONT + 18;
        const SAMPLE: i32 = 44;
        let letters = |text: &str| text.chars().count() as i32 * FONT * 6 / 10;
        let mut height = 0;
        if !self.title.is_empty() {
            let text =
                ("sans-serif", FONT + 6).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
            canvas.draw(&Text::new(self.title, (self.size.0 as i32 / 2, 40), text))?;
            height = 70;
        }
        let (mut x, right) = (self.left as i32, self.size.0 as i32 - 30);
        for (i, name) in self.legend.iter().enumerate() {
            let width = SAMPLE + 14 + letters(name) + 36;
            if i > 0 && x + width > right {
                (x, height) = (self.left as i32, height + ROW);
            }
            let y = height + ROW / 2;
            let colour = SERIES[i % SERIES.len()];
            canvas.draw(&PathElement::new([(x, y), (x + SAMPLE, y)], colour.stroke_width(4)))?;
            canvas.draw(&Circle::new((x + SAMPLE / 2, y), 9, colour.filled()))?;
            let text = ("sans-serif", FONT).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
            canvas.draw(&Text::new(*name, (x + SAMPLE + 14, y), text))?;
            x += width;
        }
        Ok(if self.legend.is_empty() { height } else { height + ROW })
    }

    /// The drawing under its accessible name.
    fn labelled(&self, svg: String) -> String {
        let label = format!("<svg role=\"img\" aria-label=\"{}\" ", super::html::escape(self.alt));
        svg.replacen("<svg ", &label, 1)
    }
}

/// Plots named lines against each other, with a legend above the plot if there are several. Few points are
/// marked; the x axis is logarithmic where they stand at places that multiply (1, 4, 16, 64).
///
/// Returns a stand-alone SVG document. Points that are not finite are left out, and long lines thinned to
/// what a screen resolves.
pub fn line_plot_svg(
    title: &str,
    x_label: &str,
    y_label: &str,
    series: &[PlotLine],
) -> Result<String, ReportError> {
    let lines: Vec<Vec<(f64, f64)>> = series.iter().map(|s| thinned(&s.points)).collect();
    let heights = range(lines.iter().flatten().map(|p| p.1));
    let margin = 0.06 * (heights.end - heights.start);
    // Room around marks, but none below nothing.
    let lowest =
        if heights.start >= 0.0 { (heights.start - margin).max(0.0) } else { heights.start - margin };
    let places = multiplying(lines.iter().flatten().map(|p| p.0));
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    let legend = if series.len() > 1 { names.as_slice() } else { &[] };
    let frame = Frame {
        size: (1200, 760 + 52 * (legend.len() as u32 / 3)),
        title,
        alt: title,
        places: &places,
        legend,
        x: (x_label, range(lines.iter().flatten().map(|p| p.0))),
        y: (y_label, lowest..heights.end + margin),
        left: 150,
        y_ticks: true,
    };
    frame.draw(|chart, _| {
        for (i, line) in lines.iter().enumerate() {
            let colour = SERIES[i % SERIES.len()];
            chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(4)))?;
            if line.len() <= MARKED {
                chart.draw_series(line.iter().map(|&at| Circle::new(at, 9, colour.filled())))?;
            }
        }
        Ok(())
    })
}

/// The places of points, ascending, if they are few, positive, and more even as logarithms than as they are;
/// else none.
fn multiplying(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut places: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    places.sort_unstable_by(f64::total_cmp);
    places.dedup();
    let unevenness = |of: fn(f64) -> f64| {
        let gaps = places.windows(2).map(|pair| of(pair[1]) - of(pair[0]));
        let (least, most) = gaps.fold((f64::INFINITY, 0.0), |(a, b), gap| (gap.min(a), gap.max(b)));
        most / least
    };
    let is_few = (3..=PLACES).contains(&places.len()) && places[0] > 0.0;
    if is_few && unevenness(f64::ln) < unevenness(|v| v) { places } else { vec![] }
}

/// A dashed line through the points.
pub(super) fn dashed(chart: &mut Chart, points: [(f64, f64); 2], colour: RGBColor) -> DrawResult {
    chart.draw_series(DashedLineSeries::new(points, 14, 10, colour.stroke_width(3)))?;
    Ok(())
}

/// The finite points of a line; of a long one the mean of each of equally long stretches.
pub(super) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> =
        points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    if finite.len() <= MAX_POINTS {
        return finite;
    }
    let mean = |stretch: &[(f64, f64)]| {
        let n = stretch.len() as f64;
        (stretch.iter().map(|p| p.0 / n).sum(), stretch.iter().map(|p| p.1 / n).sum())
    };
    finite.chunks(finite.len().div_ceil(MAX_POINTS)).map(mean).collect()
}

/// The range of finite values, clipped where its width would overflow; `0..1` if there are none.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (lo, hi) = values
        .filter(|v| v.is_finite())
        .map(|v| v.clamp(-1e300, 1e300))
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    if lo <= hi { lo..hi } else { 0.0..1.0 }
}

/// About five round numbers inside the range: multiples of 1, 2 or 5 times a power of ten.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    let rough = (range.end - range.start) / TICKS as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough * 0.999);
    let step = step.unwrap_or(rough);
    let first = (range.start / step - 1e-9).ceil();
    (0..=2 * TICKS)
        .map(|i| (first + i as f64) * step)
        .take_while(|t| *t <= range.end + 1e-9 * step)
        .map(|t| if t.abs() < 1e-9 * step { 0.0 } else { t })
        .collect()
}

/// A number for people: four significant digits, no trailing zeros; `–` if not finite.
pub(super) fn number(value: f64) -> String {
    let text = significant(value);
    if text.contains('e') || !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Three significant digits, trailing zeros kept, so that numbers of any size are equally exact.
pub(super) fn three_digits(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits = if size == 0.0 { 2 } else { (2 - size.log10().floor() as i32).max(0) as usize };
    format!("{value:.digits$}")
}

/// Seconds in the unit that suits them.
pub(super) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s == 0.0 || s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    format!("{} {unit}", three_digits(value))
}

/// Four significant digits, trailing zeros kept so that columns line up; `–` if not finite.
pub(super) fn significant(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let digits = if size >= 1.0 { 3 - size.log10().floor() as i32 } else { 4 }.max(0) as usize;
    format!("{value:.digits$}")
}
