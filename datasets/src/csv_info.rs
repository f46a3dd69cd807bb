//! What a CSV file of numbers holds, before anyone says whether it is a table or a series.

use std::collections::BTreeSet;
use std::path::Path;

use csv::StringRecord;
use serde::Serialize;

use crate::csv_file::{self, number};
use crate::memory::Held;
use crate::table::{is_header, named_label};
use crate::{DataError, source};

/// Rows by which it is judged whether the first one names the columns.
const JUDGED: usize = 100;
/// Different values that are counted of a column.
const DISTINCT: usize = 1000;

/// A CSV file, column by column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CsvInfo {
    /// Rows of values.
    pub rows: usize,
    /// Whether the first row of the file was taken for names.
    pub has_header: bool,
    /// The column that is called as labels are, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// In order.
    pub columns: Vec<CsvColumn>,
}

/// What stands in a column.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CsvColumn {
    /// Its name, or its number from 0.
    pub name: String,
    /// Fields that are numbers.
    pub numbers: usize,
    /// Fields that are empty, `nan` or the like.
    pub missing: usize,
    /// Fields that are neither.
    pub texts: usize,
    /// The least number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least: Option<f64>,
    /// The largest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<f64>,
    /// Different values; None for more than 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct: Option<usize>,
}

/// A column while its rows come.
#[derive(Default)]
struct Counted {
    info: CsvColumn,
    values: BTreeSet<String>,
    is_many: bool,
}

impl Counted {
    fn add(&mut self, field: &str) {
        match number(field) {
            Ok(None) => self.info.missing += 1,
            Err(()) => self.info.texts += 1,
            Ok(Some(value)) => {
                self.info.numbers += 1;
                self.info.least = Some(self.info.least.map_or(value, |least| least.min(value)));
                self.info.most = Some(self.info.most.map_or(value, |most| most.max(value)));
            }
        }
        if !self.is_many && !self.values.contains(field) {
            self.values.insert(field.to_owned());
            if self.values.len() > DISTINCT {
                (self.is_many, self.values) = (true, BTreeSet::new());
            }
        }
    }
}

/// Counts what a CSV file holds; None where it is no CSV, or a list of images.
///
/// # Errors
/// [`DataError`] for a file that cannot be read, or is damaged.
pub fn csv_info(path: &Path) -> Result<Option<CsvInfo>, DataError> {
    if !csv_file::is_csv(path) || !path.is_file() || source::is_list(path) {
        return Ok(None);
    }
    let (held, mut first, mut judged) = (Held::default(), None::<StringRecord>, Vec::new());
    let (mut columns, mut rows): (Vec<Counted>, usize) = (Vec::new(), 0);
    csv_file::rows(path, &held, |_, record| {
        if first.is_none() {
            columns.resize_with(record.len(), Counted::default);
            first = Some(record.clone());
            return Ok(());
        }
        if judged.len() < JUDGED {
            judged.push(record.clone());
        }
        rows += 1;
        columns.iter_mut().zip(record).for_each(|(column, field)| column.add(field));
        Ok(())
    })?;
    let Some(first) = first else {
        return Err(DataError::file(path, "is empty; it needs rows of numbers"));
    };
    let named = named_label(&first);
    let below: Vec<&StringRecord> = judged.iter().collect();
    let has_header = is_header(&first, &below, named.unwrap_or(first.len().saturating_sub(1)));
    if !has_header {
        rows += 1;
        columns.iter_mut().zip(&first).for_each(|(column, field)| column.add(field));
    }
    let named = named.filter(|_| has_header).map(|column| first[column].to_owned());
    let finished = |(i, column): (usize, Counted)| CsvColumn {
        name: if has_header { first[i].to_owned() } else { i.to_string() },
        distinct: (!column.is_many).then_some(column.values.len()),
        ..column.info
    };
    let columns = columns.into_iter().enumerate().map(finished).collect();
    Ok(Some(CsvInfo { rows, has_header, label: named, columns }))
}
