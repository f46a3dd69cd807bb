//! One multichannel series from a CSV file.

use std::path::Path;

use super::time::{self, Micros};
use super::{Header, Missing, SignalOptions};
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
    pub(crate) times: Option<Vec<Micros>>,
    /// Values that were missing and were filled, of each channel.
    pub filled: Vec<usize>,
    /// Row of the first value of each channel.
    pub(crate) first: Vec<usize>,
    /// The 0/1 column named as labels, if any.
    pub(crate) label_column: Option<Vec<bool>>,
    /// Memory of all this and of what belongs to it.
    pub(crate) held: Held,
}

/// Header names that are taken as the time of a row.
const TIME_NAMES: [&str; 5] = ["timestamp", "time", "date", "datetime", "ts"];

/// What each column of a file is.
struct Columns {
    time: Option<usize>,
    label: Option<usize>,
    /// Columns of the channels, in order.
    channels: Vec<usize>,
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

    /// Time of row `i` as `YYYY-MM-DD HH:MM:SS`, where the file states times.
    pub fn time(&self, i: usize) -> Option<String> {
        self.times.as_ref().and_then(|times| times.get(i)).map(|&micros| time::format(micros))
    }

    pub(crate) fn read(path: &Path, options: &SignalOptions) -> Result<Self, DataError> {
        let mut series = Series::default();
        let mut columns: Option<Columns> = None;
        let (mut times, mut labels) = (Vec::new(), Vec::new());
        let mut last: Vec<Option<f64>> = Vec::new();
        let held = Held::default();
        rows(path, &held, |line, record| {
            if columns.is_none() {
                let fields: Vec<&str> = record.iter().collect();
                let has_header = match options.header {
                    Header::Yes => true,
                    Header::No => false,
                    Header::Auto => {
                        fields.iter().all(|f| f.parse::<f64>().is_err() && time::parse(f).is_none())
                    }
                };
                let found = Columns::find(path, &fields, has_header, options)?;
                series.channels = found
                    .channels
                    .iter()
                    .map(|&c| match has_header {
                        true => fields[c].to_string(),
                        false => format!("c{c}"),
                    })
                    .collect();
                last = vec![None; found.channels.len()];
                series.filled = vec![0; found.channels.len()];
                series.first = vec![usize::MAX; found.channels.len()];
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
                let parsed = record.get(column).and_then(time::parse);
                times.push(
                    parsed.ok_or_else(|| bad(column, "is no time; write YYYY-MM-DD HH:MM:SS or seconds"))?,
                );
            }
            if let Some(column) = columns.label {
                labels.push(match record.get(column).map(number) {
                    Some(Ok(Some(0.0))) => false,
                    Some(Ok(Some(1.0))) => true,
                    _ => return Err(bad(column, "is no label; write 0 (normal) or 1 (anomalous)")),
                });
            }
            let row = series.values.len() / series.channels.len();
            for (c, &column) in columns.channels.iter().enumerate() {
                let value = number(record.get(column).unwrap_or(""))
                    .map_err(|()| bad(column, "is no number; name the channels to be read, or repair it"))?;
                match value {
                    Some(value) => {
                        if series.first[c] == usize::MAX {
                            series.first[c] = row;
                        }
                        last[c] = Some(value);
                    }
                    None if options.missing == Missing::Refuse => {
                        return Err(bad(column, "is missing; fill it, or let gaps hold the last value"));
                    }
                    None => series.filled[c] += 1,
                }
                series.values.push(last[c].unwrap_or(f64::NAN));
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
        series.times = columns.as_ref().and_then(|c| c.time).map(|_| times);
        series.label_column = columns.as_ref().and_then(|c| c.label).map(|_| labels);
        if let Some(c) = series.first.iter().position(|&row| row == usize::MAX) {
            let reason = format!("channel `{}` has no value in any row; leave it out", series.channels[c]);
            return Err(DataError::file(path, reason));
        }
        series.fill_start();
        Ok(series)
    }

    /// Rows before a channel's first value take that value.
    fn fill_start(&mut self) {
        let width = self.channels.len();
        for (c, &first) in self.first.iter().enumerate() {
            let value = self.values[first * width + c];
            (0..first).for_each(|row| self.values[row * width + c] = value);
        }
    }
}

impl Columns {
    fn find(
        path: &Path,
        fields: &[&str],
        has_header: bool,
        options: &SignalOptions,
    ) -> Result<Self, DataError> {
        let by_name = |name: &str| -> Result<usize, DataError> {
            let named = fields.iter().position(|f| has_header && f.eq_ignore_ascii_case(name));
            let number = || name.parse().ok().filter(|&n: &usize| n < fields.len());
            named.or_else(number).ok_or_else(|| {
                let there = if has_header { fields.join(", ") } else { format!("0 to {}", fields.len() - 1) };
                let there: String = there.chars().take(300).collect();
                DataError::file(path, format!("there is no column `{name}`; its columns are {there}"))
            })
        };
        let time = match (&options.time_column, has_header) {
            (Some(name), _) => Some(by_name(name)?),
            (None, true) => fields.iter().position(|f| TIME_NAMES.iter().any(|n| f.eq_ignore_ascii_case(n))),
            // Plain numbers are values; a date can only be a time.
            (None, false) => {
                fields.iter().position(|f| f.parse::<f64>().is_err() && time::parse(f).is_some())
            }
        };
        let label = options.label_column.as_deref().map(by_name).transpose()?;
        let channels = match options.channels.is_empty() {
            true => (0..fields.len()).filter(|&c| Some(c) != time && Some(c) != label).collect(),
            false => options.channels.iter().map(|name| by_name(name)).collect::<Result<Vec<_>, _>>()?,
        };
        if channels.is_empty() || channels.len() > 4096 {
            let reason = format!("has {} columns of values; 1 to 4096 are expected", channels.len());
            return Err(DataError::file(path, reason));
        }
        let mut seen = channels.clone();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() < channels.len() || channels.iter().any(|&c| Some(c) == time || Some(c) == label) {
            return Err(DataError::file(
                path,
                "a column is named twice among channels, time and label; name it once",
            ));
        }
        Ok(Columns { time, label, channels })
    }
}
