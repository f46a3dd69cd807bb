//! CSV files, gzipped or not, treated as hostile: bounded, regular, UTF-8, every row of one length.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;

use crate::DataError;

/// Unpacked bytes of one file.
pub(crate) const MAX_BYTES: u64 = 2 << 30;

/// Whether the name says CSV.
pub(crate) fn is_csv(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    [".csv", ".csv.gz"].iter().any(|end| name.ends_with(end))
}

/// A file, unpacked if it starts as gzip does, that ends with an error beyond [`MAX_BYTES`].
pub(crate) fn open(path: &Path) -> Result<impl Read + use<>, DataError> {
    let metadata = path.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DataError::file(path, "no such file; check the path"),
        _ => DataError::io("read", path)(error),
    })?;
    if !metadata.is_file() {
        return Err(DataError::file(path, "is not a regular file; give a CSV file"));
    }
    let mut file = File::open(path).map_err(DataError::io("read", path))?;
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic).map_err(DataError::io("read", path))?;
    let is_zipped = magic == [0x1f, 0x8b];
    let whole = BufReader::new(io::Cursor::new(magic).chain(file));
    let bytes: Box<dyn Read> = if is_zipped { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    Ok(Bounded { bytes, left: MAX_BYTES })
}

struct Bounded {
    bytes: Box<dyn Read>,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.bytes.read(buffer)?;
        self.left = self.left.checked_sub(got as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("more than {} MiB", MAX_BYTES >> 20))
        })?;
        Ok(got)
    }
}

/// Calls `each(line, record)` for every row, the first included; `line` counts from 1. Fields are trimmed.
pub(crate) fn rows(
    path: &Path,
    mut each: impl FnMut(u64, &StringRecord) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let file = open(path)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).from_reader(file);
    let mut record = StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {
                let line = record.position().map_or(0, csv::Position::line);
                if line <= 1 && record.get(0).is_some_and(|first| first.starts_with('\u{feff}')) {
                    // The byte order mark that spreadsheets write is no part of the first name.
                    let fields = record.iter().enumerate();
                    record = fields
                        .map(|(i, f)| if i == 0 { f.trim_start_matches('\u{feff}') } else { f })
                        .collect();
                }
                each(line, &record)?;
            }
            Ok(false) => return Ok(()),
            Err(error) => return Err(refused(path, error)),
        }
    }
}

fn refused(path: &Path, error: csv::Error) -> DataError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(e) => match e.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                DataError::file(path, format!("cannot be unpacked ({e}); copy it again"))
            }
            _ => DataError::io("read", path)(e),
        },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let reason =
                format!("line {line} has {len} fields, the lines before it {expected_len}; repair it");
            DataError::file(path, reason)
        }
        csv::ErrorKind::Utf8 { .. } => {
            DataError::file(path, format!("line {line} is not UTF-8 text; save it as UTF-8"))
        }
        other => DataError::file(path, format!("line {line} cannot be read: {other:?}; repair it")),
    }
}

/// The number in a field; None where it is missing (empty, `nan`, `na`, `null`, `none`, `-`, or not finite).
///
/// Errors: text that is neither.
pub(crate) fn number(field: &str) -> Result<Option<f64>, ()> {
    let is_missing =
        |text: &str| ["", "na", "n/a", "null", "none", "-"].iter().any(|m| text.eq_ignore_ascii_case(m));
    if is_missing(field) {
        return Ok(None);
    }
    field.parse::<f64>().map(|value| Some(value).filter(|v| v.is_finite())).map_err(|_| ())
}
