//! Series written as folders.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use ganomede_host::interrupt;

use super::SignalSet;
use crate::DataError;
use crate::output::create;

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

/// Writes `train.csv`, `test.csv` and `labels.csv` (`start,end,kind`, both ends included, of the test rows)
/// into a new folder, which [`SignalSet::open`] reads. The folder appears whole or not at all.
///
/// Errors: `out` exists and is not an empty folder, or the disk fails.
pub fn write_signal(set: &SignalSet, out: &Path) -> Result<SignalWritten, DataError> {
    let folder = create(out)?;
    for (name, rows) in [("train.csv", set.train_rows()), ("test.csv", set.test_rows())] {
        let fail = |source| DataError::io("write", &out.join(name))(source);
        folder.write_with(name, |file| write_rows(set, rows, file)).map_err(fail)?;
        interrupt::check()?;
    }
    let test = set.test_rows();
    let mut intervals = 0;
    let write_labels = |file: &mut dyn Write| {
        writeln!(file, "start,end,kind")?;
        for interval in set.intervals().iter().filter(|interval| interval.rows.start >= test.start) {
            let end = |row: usize| {
                set.series().time(row).map_or_else(|| (row - test.start).to_string(), str::to_string)
            };
            let kind: String =
                interval.kind.chars().filter(|c| !matches!(c, ',' | '"' | '\n' | '\r')).collect();
            writeln!(file, "{},{},{kind}", end(interval.rows.start), end(interval.rows.end - 1))?;
            intervals += 1;
        }
        Ok(())
    };
    folder.write_with("labels.csv", write_labels).map_err(DataError::io("write", &out.join("labels.csv")))?;
    folder.finish().map_err(DataError::io("rename the finished output to", out))?;
    Ok(SignalWritten { train: set.train_rows().len(), test: test.len(), intervals })
}

/// Rows as CSV; stops early, with what is there so far, when the process is asked to.
fn write_rows(set: &SignalSet, rows: Range<usize>, file: &mut dyn Write) -> std::io::Result<()> {
    let series = set.series();
    let mut writer = csv::Writer::from_writer(file);
    let time = series.time(0).map(|_| "timestamp".to_string());
    writer.write_record(time.iter().chain(&series.channels))?;
    for row in rows {
        if interrupt::raised() {
            break;
        }
        // The shortest decimals that read back to the same number.
        let values = series.row(row).iter().map(f64::to_string);
        writer.write_record(series.time(row).map(str::to_string).into_iter().chain(values))?;
    }
    writer.flush()
}
