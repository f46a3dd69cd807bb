//! Series written as folders.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use super::SignalSet;
use crate::DataError;
use crate::output::NewFolder;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SignalWritten {
    /// Rows of `train.csv`.
    pub train: usize,
    /// Rows of `test.csv`.
    pub test: usize,
    /// Intervals of `labels.csv` within the test rows.
    pub intervals: usize,
}

/// Writes `train.csv`, `test.csv` and `labels.csv` (`start,end,kind`, both ends included, of the test rows) into a new
/// folder, which [`SignalSet::open`] reads. The folder appears whole or not at all.
///
/// Errors: `out` exists and is not an empty folder, or the disk fails.
pub fn write_signal(set: &SignalSet, out: &Path) -> Result<SignalWritten, DataError> {
    let folder = NewFolder::create(out)?;
    write_rows(set, &folder.path().join("train.csv"), set.train_rows())?;
    write_rows(set, &folder.path().join("test.csv"), set.test_rows())?;
    let (path, test) = (folder.path().join("labels.csv"), set.test_rows());
    let fail = |source| DataError::io("write", &path)(source);
    let mut file = BufWriter::new(File::create(&path).map_err(DataError::io("create", &path))?);
    writeln!(file, "start,end,kind").map_err(fail)?;
    let mut intervals = 0;
    for interval in set.intervals().iter().filter(|interval| interval.rows.start >= test.start) {
        let end = |row: usize| set.series().time(row).unwrap_or_else(|| (row - test.start).to_string());
        let kind: String = interval.kind.chars().filter(|c| !matches!(c, ',' | '"' | '\n' | '\r')).collect();
        let (start, end) = (end(interval.rows.start), end(interval.rows.end - 1));
        writeln!(file, "{start},{end},{kind}").map_err(fail)?;
        intervals += 1;
    }
    file.flush().map_err(fail)?;
    folder.finish()?;
    Ok(SignalWritten { train: set.train_rows().len(), test: test.len(), intervals })
}

fn write_rows(set: &SignalSet, path: &Path, rows: Range<usize>) -> Result<(), DataError> {
    let series = set.series();
    let file = BufWriter::new(File::create(path).map_err(DataError::io("create", path))?);
    let mut writer = csv::Writer::from_writer(file);
    let fail = |error: csv::Error| DataError::io("write", path)(error.into());
    let time = series.time(0).map(|_| "timestamp".to_string());
    writer.write_record(time.iter().chain(&series.channels)).map_err(fail)?;
    for row in rows {
        // The shortest decimals that read back to the same number.
        let values = series.row(row).iter().map(f64::to_string);
        writer.write_record(series.time(row).into_iter().chain(values)).map_err(fail)?;
    }
    writer.flush().map_err(DataError::io("write", path))
}
