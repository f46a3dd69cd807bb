//! One multichannel series from a CSV file.

use std::path::Path;

use super::columns::{Columns, Label};
use super::scale::LARGEST;
use super::time;
use super::times::{TimeNotation, Times, WrittenTimes};
use super::{HeaderRow, Missing, SignalOptions};
use crate::DataError;
use crate::csv_file::{number, rows};
use crate::memory::Held;

/// Rows of several channels, in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Names of the channels: from the header, else `c0`, `c1`, ….
    pub channels: Vec<String>,
    /// `rows × channels` values, row by row.
    pub(crate) values: Vec<f64>,
    /// Time of each row, where the file states it.
    pub(crate) times: Option<Times>,
    /// Values that were missing and were filled, of each channel.
    pub filled: Vec<usize>,
    /// Row of the first value of each channel.
    pub(crate) first: Vec<usize>,
    /// The 0/1 column named as labels, if any.
    pub(crate) label_column: Option<Vec<bool>>,
    /// Name of that column.
    pub(crate) label_name: Option<String>,
    /// Row of the file behind each row, where rows had to be sorted by time.
    pub(crate) order: Option<Vec<usize>>,
    /// What was decided in reading, a sentence each.
    pub(crate) notes: Vec<String>,
    /// Memory of all this and of what belongs to it.
    pub(crate) held: Held,
}

impl Series {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.channels.len().max(1)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values of row `i`, which must be below [`Series::len`], one a channel, in their own units.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.channels.len()..(i + 1) * self.channels.len()]
    }

    /// Time of row `i` as the file has it, where it states times.
    pub fn time(&self, i: usize) -> Option<&str> {
        self.times.as_ref().filter(|times| i < times.len()).map(|times| times.text(i))
    }

    /// Reads a file whose channels go by the names `known`, unless that is empty.
    pub(crate) fn read(
        path: &Path,
        options: &SignalOptions,
        known: &[String],
        label: Label,
    ) -> Result<Self, DataError> {
        let mut series = Series::default();
        let mut columns: Option<Columns> = None;
        let (mut times, mut labels) = (WrittenTimes::default(), Vec::new());
        let held = Held::default();
        rows(path, &held, |line, record| {
            if columns.is_none() {
                let fields: Vec<&str> = record.iter().collect();
                let has_header = match options.header {
                    HeaderRow::Yes => true,
                    HeaderRow::No => false,
                    HeaderRow::Auto => {
                        fields.iter().all(|f| f.parse::<f64>().is_err() && time::parse(f).is_none())
                    }
                };
                let found =
                    Columns::find(path, &fields, has_header, options, known, label, &mut series.notes)?;
                let name = |&c: &usize| if has_header { fields[c].to_string() } else { format!("c{c}") };
                series.channels = found.channels.iter().map(name).collect();
                series.label_name = found.label.as_ref().map(name);
                columns = Some(found);
                if has_header {
                    return Ok(());
                }
            }
            let Some(columns) = &columns else { return Ok(()) };
            let bad = |column: usize, what: &str| {
                let field: String = record.get(column).unwrap_or("").chars().take(40).collect();
                DataError::file(path, format!("line {line}, column {}: `{field}` {what}", column + 1))
            };
            if let Some(column) = columns.time {
                times.read(record.get(column).unwrap_or("")).map_err(|what| bad(column, what))?;
            }
            if let Some(column) = columns.label {
                labels.push(match record.get(column).map(number) {
                    Some(Ok(Some(0.0))) => false,
                    Some(Ok(Some(1.0))) => true,
                    _ => return Err(bad(column, "is no label; write 0 (normal) or 1 (anomalous)")),
                });
            }
            for &column in &columns.channels {
                let value = number(record.get(column).unwrap_or("")).map_err(|()| {
                    bad(column, "is not a number; name the channels to be read, or repair it")
                })?;
                series.values.push(match value {
                    Some(value) if value.abs() > LARGEST => {
                        return Err(bad(
                            column,
                            "is too large to be scaled; correct it, or rescale the column",
                        ));
                    }
                    Some(value) => value,
                    None if options.missing == Missing::Refuse => {
                        return Err(bad(column, "is missing; fill it, or let gaps hold the last value"));
                    }
                    None => f64::NAN,
                });
            }
            Ok(())
        })?;
        series.held = held;
        if series.is_empty() {
            return Err(DataError::file(
                path,
                "holds no row of values; give a CSV file with one row a sample",
            ));
        }
        series.times = columns.as_ref().and_then(|c| c.time).map(|_| times.finish());
        series.label_column = columns.as_ref().and_then(|c| c.label).map(|_| labels);
        series.sort();
        series.say_times();
        series.hold(path)?;
        Ok(series)
    }

    /// Puts the rows in order of time, if they are not.
    fn sort(&mut self) {
        let Some(times) = &self.times else { return };
        let Some(at) = times.first_disorder() else { return };
        let order = times.order();
        self.notes.push(format!(
            "the rows are not in order of time (after row {at}, {}, comes {}): they are sorted by it",
            times.text(at),
            times.text(at + 1)
        ));
        self.times = Some(times.reordered(&order));
        self.values = order.iter().flat_map(|&row| self.row(row)).copied().collect();
        self.label_column =
            self.label_column.take().map(|labels| order.iter().map(|&row| labels[row]).collect());
        self.order = Some(order);
    }

    fn say_times(&mut self) {
        let Some(times) = &self.times else { return };
        if let TimeNotation::Number(unit) = times.clock {
            self.notes.push(format!(
                "the times are numbers, taken as {} since 1970: {} to {}",
                unit.name(),
                times.utc(0),
                times.utc(times.len() - 1)
            ));
        }
        match times.repeated() {
            0 => {}
            1 => self.notes.push("1 row has the time of the row before it".to_owned()),
            n => self.notes.push(format!(
                "{n} rows have the time of the row before them; if the file holds several series, give them one by one"
            )),
        }
    }

    /// Missing values take the last one before them; before a channel's first value there is the first.
    fn hold(&mut self, path: &Path) -> Result<(), DataError> {
        let width = self.channels.len();
        (self.filled, self.first) = (vec![0; width], vec![0; width]);
        for channel in 0..width {
            let column = || (channel..self.values.len()).step_by(width);
            let Some(first) = column().position(|at| !self.values[at].is_nan()) else {
                let reason =
                    format!("channel `{}` has no value in any row; leave it out", self.channels[channel]);
                return Err(DataError::file(path, reason));
            };
            let mut last = self.values[first * width + channel];
            for at in column() {
                match self.values[at] {
                    value if value.is_nan() => {
                        self.values[at] = last;
                        self.filled[channel] += 1;
                    }
                    value => last = value,
                }
            }
            self.first[channel] = first;
            if self.filled[channel] > 0 {
                self.notes.push(format!(
                    "channel `{}`: {} of {} values are missing and hold the value before them",
                    self.channels[channel],
                    self.filled[channel],
                    self.len()
                ));
            }
        }
        Ok(())
    }

    /// Appends the rows of `other`, which has the same channels.
    pub(crate) fn extend(&mut self, other: Series) {
        let is_timed = [&self.times, &other.times].map(Option::is_some);
        let joined = match (&mut self.times, &other.times) {
            (Some(own), Some(others)) => own.extend(others),
            _ => false,
        };
        if !joined {
            self.times = None;
            if is_timed != [false; 2] {
                let note = "the files state times in different ways, or one states none: rows are told by their numbers";
                self.notes.push(note.to_owned());
            }
        }
        self.values.extend(&other.values);
        self.filled.iter_mut().zip(&other.filled).for_each(|(a, b)| *a += b);
        self.notes.extend(other.notes);
    }
}
