//! CSV files of numbers with a label column.

use std::path::Path;

use super::{Column, Rows, TableOptions};
use crate::DataError;
use crate::csv_file::{number, rows};
use crate::memory::Held;
use crate::signal::Header;

/// Labels that mean normal where none are given.
const NORMAL: [&str; 6] = ["0", "0.0", "normal", "normal.", "good", "inlier"];

pub(crate) fn read(path: &Path, options: &TableOptions) -> Result<Rows, DataError> {
    let mut table = Rows {
        layout: "csv",
        features: Vec::new(),
        columns: Vec::new(),
        values: Vec::new(),
        anomalous: Vec::new(),
        unknown: 0,
        held: Held::default(),
    };
    let held = table.held.clone();
    let mut label: Option<usize> = None;
    let mut labels: std::collections::BTreeSet<String> = Default::default();
    rows(path, &held, |line, record| {
        let label = match label {
            Some(label) => label,
            None => {
                // A label may be text; a header has no number at all.
                let has_header = match options.header {
                    Header::Yes => true,
                    Header::No => false,
                    Header::Auto => record.iter().all(|field| field.parse::<f64>().is_err()),
                };
                let found = label_column(path, record, has_header, options)?;
                label = Some(found);
                let names = record.iter().enumerate().filter(|&(column, _)| column != found);
                table.features = names
                    .map(|(column, name)| if has_header { name.to_string() } else { format!("c{column}") })
                    .collect();
                table.columns = table.features.iter().map(|_| Column::Number).collect();
                if table.features.is_empty() || table.features.len() > 65_536 {
                    let reason = format!(
                        "has {} columns beside the label; 1 to 65536 are expected",
                        table.features.len()
                    );
                    return Err(DataError::file(path, reason));
                }
                if has_header {
                    return Ok(());
                }
                found
            }
        };
        for (column, field) in record.iter().enumerate().filter(|&(column, _)| column != label) {
            let Ok(Some(value)) = number(field) else {
                let field: String = field.chars().take(40).collect();
                let reason = format!(
                    "line {line}, column {}: `{field}` is no number; fill or remove it, and turn text into numbers",
                    column + 1
                );
                return Err(DataError::file(path, reason));
            };
            table.values.push(value as f32);
        }
        let name = record.get(label).unwrap_or("");
        if labels.len() < 20 {
            labels.insert(name.chars().take(40).collect());
        }
        let fits = |normal: &str| name.eq_ignore_ascii_case(normal);
        let is_normal = match options.normal_labels.is_empty() {
            true => NORMAL.iter().any(|n| fits(n)),
            false => options.normal_labels.iter().any(|n| fits(n)),
        };
        table.anomalous.push(!is_normal);
        Ok(())
    })?;
    if table.anomalous.is_empty() {
        return Err(DataError::file(path, "holds no row; give a CSV file with one row a sample"));
    }
    if !table.anomalous.contains(&false) {
        let there: Vec<_> = labels.into_iter().collect();
        let reason =
            format!("no row has a normal label; its labels are {}; state which are normal", there.join(", "));
        return Err(DataError::file(path, reason));
    }
    Ok(table)
}

fn label_column(
    path: &Path,
    record: &csv::StringRecord,
    has_header: bool,
    options: &TableOptions,
) -> Result<usize, DataError> {
    let Some(name) = &options.label_column else { return Ok(record.len().saturating_sub(1)) };
    let named = record.iter().position(|field| has_header && field.eq_ignore_ascii_case(name));
    let number = || name.parse().ok().filter(|&n: &usize| n < record.len());
    named.or_else(number).ok_or_else(|| {
        DataError::file(
            path,
            format!("there is no column `{name}` for the labels; it has {} columns", record.len()),
        )
    })
}
