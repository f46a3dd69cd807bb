//! Windows of equal length over a stretch of rows.

use std::ops::Range;

use crate::DataError;

/// Windows longer than this are refused.
const MAX_LENGTH: usize = 65_536;

/// Where windows start; each has `length` rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Rows of each window.
    pub length: usize,
    /// First row of each window within the series, strictly increasing.
    pub offsets: Vec<usize>,
}

impl Windows {
    /// Starts every `stride` rows of `rows`; where that leaves rows at the end uncovered, a last window ends
    /// with them.
    ///
    /// Errors: a length outside 4 to 65536, a stride that is 0 or leaves gaps, or
    /// fewer rows than one window.
    pub fn new(rows: Range<usize>, length: usize, stride: usize) -> Result<Self, DataError> {
        if !(4..=MAX_LENGTH).contains(&length) {
            return Err(DataError::option("window", length, "use 4 to 65536 rows"));
        }
        if !(1..=length).contains(&stride) {
            return Err(DataError::option("stride", stride, format!("use 1 to the window's {length} rows")));
        }
        let Some(last) = rows.len().checked_sub(length) else {
            let reason =
                format!("there are {} rows from row {}; use shorter windows", rows.len(), rows.start);
            return Err(DataError::option("window", length, reason));
        };
        let mut offsets: Vec<usize> = (0..=last).step_by(stride).map(|offset| rows.start + offset).collect();
        if last % stride != 0 {
            offsets.push(rows.start + last);
        }
        Ok(Windows { length, offsets })
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Rows of window `i`, which must be below [`Windows::len`].
    pub fn rows(&self, i: usize) -> Range<usize> {
        self.offsets[i]..self.offsets[i] + self.length
    }
}
