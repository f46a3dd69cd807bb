//! CSV files, gzipped or not, treated as hostile: read as a stream of bounded records, regular, UTF-8, every
//! row of one length, and what is kept of them is taken of the memory budget before.

use std::io::{self, BufReader, Read};
use std::path::Path;

use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;

use crate::memory::Held;
use crate::{DataError, files};

/// Unpacked bytes of one file.
const MAX_BYTES: u64 = 2 << 30;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// Bytes of one record: 65,536 columns of 32.
const MAX_RECORD: u64 = 2 << 20;
/// Memory that the parser takes for a byte of a record: of a record of commas, ends of fields in a list that
/// doubles.
const PARSED: u64 = 28;
/// Memory that is kept of a field and of a row: 8 bytes in a list that doubles; times, labels, places of
/// windows.
const KEPT_FIELD: u64 = 24;
const KEPT_ROW: u64 = 64;
/// Memory is taken in steps of this.
const STEP: u64 = 1 << 20;

/// Whether the name says CSV.
pub(crate) fn is_csv(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    [".csv", ".csv.gz"].iter().any(|end| name.ends_with(end))
}

/// The start of a file, unpacked if it starts as gzip does. Reading ends with an error beyond [`MAX_BYTES`]
/// and within a record of more than [`MAX_RECORD`].
pub(crate) fn open(path: &Path) -> Result<Text, DataError> {
    let (mut file, _) = files::open(path)?;
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic).map_err(DataError::io("read", path))?;
    let is_zipped = magic == [0x1f, 0x8b];
    let whole = BufReader::new(io::Cursor::new(magic).chain(file));
    let bytes: Box<dyn Read> = if is_zipped { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    let mut text = Text { bytes, left: MAX_BYTES, record: 0 };
    // The byte order mark that spreadsheets write is no part of the first name. What is wrong with the file
    // is said by who reads on.
    let mut start = Vec::new();
    let ended = text.by_ref().take(3).read_to_end(&mut start);
    if ended.is_ok() && start != BYTE_ORDER_MARK {
        text.bytes = Box::new(io::Cursor::new(start).chain(text.bytes));
    }
    text.record = 0;
    Ok(text)
}

/// The text of a file as it is unpacked.
pub(crate) struct Text {
    bytes: Box<dyn Read>,
    left: u64,
    /// Bytes read since the last record was complete, and some of the next.
    record: u64,
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let too_large = |what: &str, most: u64| {
            let reason = format!("{what} more than {} MiB", most >> 20);
            io::Error::new(io::ErrorKind::FileTooLarge, reason)
        };
        let got = self.bytes.read(buffer)? as u64;
        self.left = self.left.checked_sub(got).ok_or_else(|| too_large("", MAX_BYTES))?;
        self.record += got;
        if self.record > MAX_RECORD { Err(too_large(" a row of", MAX_RECORD)) } else { Ok(got as usize) }
    }
}

/// Memory of rows as they come, taken in steps.
struct Charge<'a> {
    held: &'a Held,
    /// Taken and not yet used.
    left: u64,
}

impl Charge<'_> {
    fn pay(&mut self, path: &Path, bytes: u64) -> Result<(), DataError> {
        while self.left < bytes {
            self.held.grow(STEP).map_err(|short| short.of(path))?;
            self.left += STEP;
        }
        self.left -= bytes;
        Ok(())
    }
}

/// Calls `each(line, record)` for every row, the first included; `line` counts from 1. Fields are trimmed.
/// What a reader keeps of a row (a number a field, and little more) is taken of the memory budget before,
/// into `held`.
pub(crate) fn rows(
    path: &Path,
    held: &Held,
    mut each: impl FnMut(u64, &StringRecord) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let file = open(path)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).from_reader(file);
    let mut record = StringRecord::new();
    let (mut charge, mut longest) = (Charge { held, left: 0 }, 0);
    loop {
        ganomede_host::interrupt::check()?;
        match reader.read_record(&mut record) {
            Ok(true) => {
                let length = std::mem::take(&mut reader.get_mut().record).max(record.as_slice().len() as u64);
                charge.pay(path, PARSED * length.saturating_sub(longest))?;
                longest = longest.max(length);
                let kept = KEPT_FIELD * record.len() as u64 + record.as_slice().len() as u64;
                charge.pay(path, kept + KEPT_ROW)?;
                each(record.position().map_or(0, csv::Position::line), &record)?;
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
            io::ErrorKind::FileTooLarge => {
                DataError::file(path, format!("holds{e}; check what it is, or split it"))
            }
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
