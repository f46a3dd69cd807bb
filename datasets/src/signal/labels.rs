//! Which rows of a series are anomalous: windows in JSON, intervals in CSV, or one label a row.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;

use super::Series;
use super::time;
use crate::memory::Permit;
use crate::{DataError, csv_file, files};

/// 200,000 windows; NAB's list has 20 KB.
const MAX_JSON_BYTES: u64 = 8 << 20;
/// Memory for a byte of JSON: numbers of one digit, kept as they are until it is known what they are part of.
const JSON_PARSED: u64 = 64;
/// Memory that is kept for a byte of JSON: an interval for `[0,0],`, in a list that may have doubled.
const WINDOW_KEPT: u64 = 24;

/// Anomalous rows `rows.start..rows.end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Rows within the series.
    pub rows: Range<usize>,
    /// What kind of anomaly, where known; else empty.
    pub kind: String,
}

/// One end of a window as written.
#[derive(Deserialize)]
#[serde(untagged)]
enum End {
    Text(String),
    Number(f64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Windows {
    /// NAB's `combined_windows.json`: a list for each series.
    BySeries(BTreeMap<String, Vec<(End, End)>>),
    One(Vec<(End, End)>),
}

/// Reads `path` for the series that came from `of`.
///
/// `.json`: `{"folder/series.csv": [["start", "end"], …]}` as NAB writes, found by the longest key that `of`
/// ends with; or the list alone. CSV: `start,end[,kind]`, or as many rows of one 0/1 label as the series has.
/// Both ends belong to the interval. Ends are times, or row numbers from 0 where the series has no times.
///
/// An interval that reaches beyond the rows is cut there, and one that covers none is refused.
pub(crate) fn read(
    path: &Path,
    of: &Path,
    series: &Series,
    notes: &mut Vec<String>,
) -> Result<Vec<Interval>, DataError> {
    let placed = match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        true => read_json(path, of, series),
        false => read_csv(path, series),
    }?;
    match placed.iter().filter(|placed| placed.is_cut).count() {
        0 => {}
        cut => notes.push(format!(
            "{cut} of {} labelled intervals reach beyond the rows of {} and are cut there",
            placed.len(),
            of.display()
        )),
    }
    Ok(placed.into_iter().map(|placed| placed.interval).collect())
}

/// An interval, and whether it was cut to the rows that are there.
struct Placed {
    interval: Interval,
    is_cut: bool,
}

/// Runs of true.
pub(crate) fn runs(labels: &[bool]) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = Vec::new();
    for row in labels.iter().enumerate().filter_map(|(row, &label)| label.then_some(row)) {
        match intervals.last_mut() {
            Some(last) if last.rows.end == row => last.rows.end = row + 1,
            _ => intervals.push(Interval { rows: row..row + 1, kind: String::new() }),
        }
    }
    intervals
}

fn read_json(path: &Path, of: &Path, series: &Series) -> Result<Vec<Placed>, DataError> {
    let text = files::read(path, MAX_JSON_BYTES)?;
    let _permit = Permit::take(JSON_PARSED * text.len() as u64).map_err(|short| short.of(path))?;
    series.held.grow(WINDOW_KEPT * text.len() as u64).map_err(|short| short.of(path))?;
    let windows = serde_json::from_slice(&text).map_err(|e| {
        let reason =
            format!("is not a list of windows ({e}); write {{\"series.csv\": [[\"start\", \"end\"], …]}}");
        DataError::file(path, reason)
    })?;
    let list = match windows {
        Windows::One(list) => list,
        Windows::BySeries(mut lists) => {
            let fits =
                lists.keys().filter(|key| !key.is_empty() && of.ends_with(key)).max_by_key(|key| key.len());
            let Some(key) = fits.cloned() else {
                let reason = format!(
                    "has no windows for {}; its {} keys are paths of series",
                    of.display(),
                    lists.len()
                );
                return Err(DataError::file(path, reason));
            };
            lists.remove(&key).unwrap_or_default()
        }
    };
    let text = |end: End| match end {
        End::Text(text) => text,
        End::Number(number) => number.to_string(),
    };
    let place =
        |(i, (start, end))| interval(path, &format!("window {i}"), &text(start), &text(end), "", series);
    list.into_iter().enumerate().map(place).collect()
}

fn read_csv(path: &Path, series: &Series) -> Result<Vec<Placed>, DataError> {
    let mut columns: Option<[Option<usize>; 3]> = None;
    let (mut intervals, mut labels) = (Vec::new(), Vec::new());
    csv_file::rows(path, &series.held, |line, record| {
        let find = |name: &str| record.iter().position(|f| f.eq_ignore_ascii_case(name));
        let Some([start, end, kind]) = columns else {
            // A header names what it has; without one, the order is start, end, kind.
            let is_header = record.iter().all(|f| f.parse::<f64>().is_err() && time::parse(f).is_none());
            columns = Some(match (is_header, record.len()) {
                (true, 2..) => [find("start"), find("end"), find("kind")],
                (false, 2) => [Some(0), Some(1), None],
                (false, 3..) => [Some(0), Some(1), Some(2)],
                _ => [None; 3],
            });
            let [start, end, kind] = columns.unwrap_or_default();
            if is_header {
                return match (start, end, record.len()) {
                    (Some(_), Some(_), _) | (_, _, 1) => Ok(()),
                    _ => Err(DataError::file(path, "its header names no `start` and `end`; name them so")),
                };
            }
            return row(path, line, record, [start, end, kind], series, &mut intervals, &mut labels);
        };
        row(path, line, record, [start, end, kind], series, &mut intervals, &mut labels)
    })?;
    if labels.is_empty() {
        return Ok(intervals);
    }
    if labels.len() != series.len() {
        let reason = format!("has {} labels for {} rows; give one a row", labels.len(), series.len());
        return Err(DataError::file(path, reason));
    }
    // Labels stand in the order of the file.
    let labels: Vec<bool> = match &series.order {
        Some(order) => order.iter().map(|&row| labels[row]).collect(),
        None => labels,
    };
    Ok(runs(&labels).into_iter().map(|interval| Placed { interval, is_cut: false }).collect())
}

fn row(
    path: &Path,
    line: u64,
    record: &csv::StringRecord,
    [start, end, kind]: [Option<usize>; 3],
    series: &Series,
    intervals: &mut Vec<Placed>,
    labels: &mut Vec<bool>,
) -> Result<(), DataError> {
    let field = |column: usize| record.get(column).unwrap_or("");
    let place = format!("line {line}");
    match (start, end) {
        (Some(start), Some(end)) => {
            let kind = kind.map_or("", field);
            intervals.push(interval(path, &place, field(start), field(end), kind, series)?);
        }
        _ => labels.push(match csv_file::number(field(0)) {
            Ok(Some(0.0)) => false,
            Ok(Some(1.0)) => true,
            _ => {
                let reason = format!(
                    "{place}: `{}` is no label; write 0 (normal) or 1 (anomalous)",
                    shorten(field(0))
                );
                return Err(DataError::file(path, reason));
            }
        }),
    }
    Ok(())
}

/// Rows between two ends, both included.
fn interval(
    path: &Path,
    place: &str,
    start: &str,
    end: &str,
    kind: &str,
    series: &Series,
) -> Result<Placed, DataError> {
    let refuse = |reason: String| DataError::file(path, format!("{place}: {reason}"));
    let n = series.len();
    let (rows, is_cut) = match &series.times {
        Some(times) => {
            let instant = |text: &str| {
                let moment = time::parse(text);
                let moment = moment.ok_or_else(|| refuse(format!("`{}` is no time", shorten(text))))?;
                times.instant(moment).map_err(|what| refuse(format!("`{}` {what}", shorten(text))))
            };
            let (from, to) = (instant(start)?, instant(end)?);
            let inside = |&row: &usize| times.compare(row, from).is_ge() && times.compare(row, to).is_le();
            let rows = match ((0..n).find(inside), (0..n).rev().find(inside)) {
                (Some(first), Some(last)) => first..last + 1,
                _ => 0..0,
            };
            (rows, times.compare(0, from).is_gt() || times.compare(n - 1, to).is_lt())
        }
        None => {
            let parse = |text: &str| {
                text.parse::<usize>().map_err(|_| {
                    refuse(format!("`{}` is no row number, and the series has no times", shorten(text)))
                })
            };
            let (from, to) = (parse(start)?, parse(end)?);
            (if from <= to { from..n.min(to.saturating_add(1)) } else { 0..0 }, to >= n)
        }
    };
    if rows.is_empty() {
        let (start, end) = (shorten(start), shorten(end));
        let there = match (series.time(0), series.time(n - 1)) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => format!("numbers 0 to {}", n - 1),
        };
        return Err(refuse(format!(
            "{start} to {end} covers none of the series' {n} rows, {there}; check both files"
        )));
    }
    Ok(Placed { interval: Interval { rows, kind: kind.to_string() }, is_cut })
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
