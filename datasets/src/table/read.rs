//! Rows of a CSV file as double-precision numbers, with what their labels mean.

use std::path::Path;

use csv::StringRecord;

use super::header::is_header;
use super::labels::Labels;
use super::schema::{Places, Schema, short};
use super::{TableOptions, kdd99};
use crate::csv_file::{number, rows};
use crate::groups::{Groups, Numbering};
use crate::memory::Held;
use crate::signal::HeaderRow;
use crate::{DataError, Truth};

/// Rows that are looked at before it is decided what the first is.
const LOOK: usize = 200;

/// A column as it is stored; it becomes one feature or one for each of its values.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    Number,
    /// Value k of the stored number is category k; beyond the list none of the features is set.
    OneOf(&'static [&'static str]),
}

/// What a file holds, before it is split.
pub(crate) struct Rows {
    pub(crate) schema: Schema,
    /// Names of the features, one-hot ones as `column=value`.
    pub(crate) features: Vec<String>,
    pub(crate) columns: Vec<Column>,
    /// `rows × columns` values.
    pub(crate) values: Vec<f64>,
    /// One a row; unknown where the file has no labels.
    pub(crate) truths: Vec<Truth>,
    pub(crate) is_labelled: bool,
    /// Where rows come in groups: of each.
    pub(crate) groups: Option<Groups>,
    /// Fields whose category has no feature.
    pub(crate) unknown: usize,
    /// What was decided that a user may want to know.
    pub(crate) notes: Vec<String>,
    /// Memory of all this, given back with it.
    pub(crate) _held: Held,
}

/// Reads a file as the options say, and as the model's own file was read where they name one.
pub(crate) fn read(path: &Path, options: &TableOptions) -> Result<Rows, DataError> {
    let mut head: Vec<(u64, StringRecord)> = vec![];
    let mut reader: Option<Reader<'_>> = None;
    let held = Held::default();
    rows(path, &held, |line, record| {
        if let Some(reader) = &mut reader {
            return reader.row(line, record);
        }
        head.push((line, record.clone()));
        if head.len() == LOOK {
            reader = Some(Reader::new(path, std::mem::take(&mut head), options)?);
        }
        Ok(())
    })?;
    let reader = match reader {
        Some(reader) => reader,
        None if head.is_empty() => return Err(empty(path)),
        None => Reader::new(path, head, options)?,
    };
    Ok(Rows { _held: held, ..reader.finish()? })
}

fn empty(path: &Path) -> DataError {
    DataError::file(path, "holds no row; give a CSV file with one row a sample")
}

struct Reader<'a> {
    path: &'a Path,
    rows: Rows,
    /// Names of the stored columns, for messages.
    names: Vec<String>,
    places: Places,
    labels: Labels<'a>,
    groups: Numbering,
}

impl<'a> Reader<'a> {
    /// Decides by the first rows what the columns are, and reads them.
    fn new(
        path: &'a Path,
        head: Vec<(u64, StringRecord)>,
        options: &'a TableOptions,
    ) -> Result<Self, DataError> {
        let learned = options.trained.as_ref().map(|trained| &trained.schema);
        let first = &head[0].1;
        let layout = match learned {
            Some(schema) => schema.layout.as_str(),
            None if kdd99::is_kdd99(first) => kdd99::LAYOUT,
            None => "csv",
        };
        let is_kdd99 = layout == kdd99::LAYOUT;
        let below: Vec<&StringRecord> = head.iter().skip(1).map(|(_, record)| record).collect();
        let has_header = match options.header {
            HeaderRow::Yes => true,
            HeaderRow::No => false,
            HeaderRow::Auto => !is_kdd99 && judge(first, &below, learned, options),
        };
        let (schema, places) = match learned {
            Some(schema) => (schema.clone(), schema.places(path, first, has_header && !is_kdd99, options)?),
            None => Schema::new(path, layout, first, has_header && !is_kdd99, options)?,
        };
        let name = |place: usize| match (is_kdd99, schema.columns.get(place)) {
            (true, _) => kdd99::COLUMNS.get(place).map_or(String::new(), |name| (*name).to_string()),
            (false, Some(name)) => name.clone(),
            (false, None) => format!("c{}", places.columns[place]),
        };
        let names: Vec<String> = (0..schema.width).map(name).collect();
        let (mut columns, mut features) = (vec![], vec![]);
        for (place, name) in names.iter().enumerate() {
            match if is_kdd99 { kdd99::categories(place) } else { &[] } {
                [] => {
                    columns.push(Column::Number);
                    features.push(name.clone());
                }
                values => {
                    columns.push(Column::OneOf(values));
                    features.extend(values.iter().map(|value| format!("{name}={value}")));
                }
            }
        }
        let mut notes = places.notes.clone();
        if !is_kdd99 {
            notes.push(match has_header {
                true => format!("the first row is taken for the names of the columns ({})", start(first)),
                false => format!("the first row is taken for values ({}), not for names", start(first)),
            });
            notes.extend(
                places
                    .label
                    .filter(|_| has_header)
                    .map(|place| format!("labels are those of `{}`", &first[place])),
            );
        }
        let rows = Rows {
            schema,
            features,
            columns,
            values: vec![],
            truths: vec![],
            is_labelled: places.label.is_some(),
            groups: None,
            unknown: 0,
            notes,
            _held: Held::default(),
        };
        let labels = Labels::new(path, options, is_kdd99)?;
        let mut reader = Self { path, rows, names, places, labels, groups: Numbering::default() };
        for (line, record) in head.iter().skip(usize::from(has_header)) {
            reader.row(*line, record)?;
        }
        Ok(reader)
    }

    fn row(&mut self, line: u64, record: &StringRecord) -> Result<(), DataError> {
        for (i, &place) in self.places.columns.iter().enumerate() {
            let field = &record[place];
            let value = match self.rows.columns[i] {
                Column::Number => match number(field) {
                    Ok(Some(value)) => value,
                    found => return Err(self.refused(line, i, field, found.is_ok())),
                },
                Column::OneOf(values) => {
                    let known = values.iter().position(|&value| value == field);
                    self.rows.unknown += usize::from(known.is_none());
                    known.unwrap_or(values.len()) as f64
                }
            };
            self.rows.values.push(value);
        }
        let truth = match self.places.label {
            Some(label) => self.labels.read(line, &record[label])?,
            None => Truth::Unknown,
        };
        self.rows.truths.push(truth);
        if let Some(place) = self.places.group {
            match record[place].trim() {
                "" => {
                    let reason = format!(
                        "line {line}, column {}: it names no group; every row needs one, and rows that stand by \
                         themselves each one of their own",
                        place + 1
                    );
                    return Err(DataError::file(self.path, reason));
                }
                name => self.groups.add(name),
            }
        }
        Ok(())
    }

    fn refused(&self, line: u64, column: usize, field: &str, is_missing: bool) -> DataError {
        let what = match is_missing {
            true if field.is_empty() => "is empty".to_string(),
            true => format!("`{}` is no finite number", short(field)),
            false => format!("`{}` is not a number", short(field)),
        };
        let (place, name) = (self.places.columns[column] + 1, &self.names[column]);
        let reason = format!(
            "line {line}, column {place}, `{}`: {what}; fill or remove it, and turn text into numbers",
            short(name)
        );
        DataError::file(self.path, reason)
    }

    fn finish(self) -> Result<Rows, DataError> {
        let mut rows = self.rows;
        rows.groups = self.places.group.map(|_| self.groups.finish());
        if rows.truths.is_empty() {
            return Err(empty(self.path));
        }
        if self.places.label.is_some() {
            let (labels, notes) = self.labels.finish()?;
            rows.notes.extend(notes);
            rows.schema.labels = labels;
        }
        if rows.unknown > 0 {
            rows.notes
                .push(format!("{} fields have a category that is not known; they set none", rows.unknown));
        }
        Ok(rows)
    }
}

/// Whether the first row names the columns, where nobody says so.
fn judge(
    first: &StringRecord,
    below: &[&StringRecord],
    learned: Option<&Schema>,
    options: &TableOptions,
) -> bool {
    if learned.is_some_and(|schema| schema.is_named_by(first)) {
        return true;
    }
    let last = first.len().saturating_sub(1);
    let label = match &options.label_column {
        Some(column) => match first.iter().position(|field| field.eq_ignore_ascii_case(column)) {
            Some(_) if column.parse::<f64>().is_err() => return true,
            _ => column.parse().ok().filter(|&place| place <= last).unwrap_or(last),
        },
        None => learned.map_or(last, |schema| schema.label_place.min(last)),
    };
    is_header(first, below, label)
}

/// The first fields of a row, for messages.
fn start(row: &StringRecord) -> String {
    let fields: Vec<String> = row.iter().take(6).map(short).collect();
    let more = if row.len() > 6 { ", …" } else { "" };
    format!("{}{more}", fields.join(", "))
}
