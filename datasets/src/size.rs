//! Height and width as people write them: `64` for a square, `96x64` with the width first.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Height and width in pixels. As text `64` is a square and `96x64` is 96 wide and 64 high; model files have
/// the number or that text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Size {
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

/// What is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no size; write one number for a square (64), or width x height (96x64)")]
pub struct SizeError(String);

impl Size {
    /// A square of this side.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    /// Whether both sides are the same.
    pub fn is_square(self) -> bool {
        self.height == self.width
    }

    /// The longer side.
    pub fn longer(self) -> usize {
        self.height.max(self.width)
    }

    /// The shorter side.
    pub fn shorter(self) -> usize {
        self.height.min(self.width)
    }

    /// Height times width; what is more than a machine counts becomes the most.
    pub fn area(self) -> usize {
        self.height.saturating_mul(self.width)
    }

    /// As a picture's proportions are said: `64×64`, `96×64`, the width first.
    pub fn sides(self) -> String {
        format!("{}×{}", self.width, self.height)
    }

    /// `[height, width]`, the order of tensors.
    pub fn extent(self) -> [usize; 2] {
        [self.height, self.width]
    }
}

impl From<usize> for Size {
    fn from(side: usize) -> Self {
        Self::square(side)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_square() {
            true => write!(f, "{}", self.width),
            false => write!(f, "{}x{}", self.width, self.height),
        }
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let side = |side: &str| side.trim().parse::<usize>().map_err(|_| SizeError(text.to_owned()));
        match text.split_once(['x', 'X', '×']) {
            Some((width, height)) => Ok(Self { width: side(width)?, height: side(height)? }),
            None => side(text).map(Self::square),
        }
    }
}

/// A size in a file.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a size is a number or a text such as 96x64")]
enum Written {
    Square(usize),
    Sides(String),
}

impl From<Size> for Written {
    fn from(size: Size) -> Self {
        match size.is_square() {
            true => Self::Square(size.width),
            false => Self::Sides(size.to_string()),
        }
    }
}

impl TryFrom<Written> for Size {
    type Error = SizeError;

    fn try_from(written: Written) -> Result<Self, SizeError> {
        match written {
            Written::Square(side) => Ok(Self::square(side)),
            Written::Sides(text) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let wide = Size { height: 64, width: 96 };
        assert_eq!(("64".parse(), "96x64".parse()), (Ok(Size::square(64)), Ok(wide)));
        assert_eq!(("96×64".parse(), " 96 X 64 ".parse()), (Ok(wide), Ok(wide)));
        assert_eq!((wide.to_string(), Size::square(7).to_string()), ("96x64".into(), "7".into()));
        for bad in ["", "x", "64x", "x64", "96x64x3", "-4", "1.5", "64 px", "99999999999999999999"] {
            let error = bad.parse::<Size>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{bad}` is no size")), "{error}");
        }
    }

    #[test]
    fn files_have_a_number_for_squares() {
        let json = |size: Size| serde_json::to_string(&size).unwrap();
        assert_eq!((json(64.into()), json("96x64".parse().unwrap())), ("64".into(), "\"96x64\"".into()));
        for text in ["64", "\"96x64\"", "\"64\""] {
            let size: Size = serde_json::from_str(text).unwrap();
            assert_eq!(size.to_string(), text.trim_matches('"'));
        }
        for text in ["-1", "\"wide\"", "[96,64]", "null", "1.5"] {
            let error = serde_json::from_str::<Size>(text).unwrap_err().to_string();
            assert!(error.contains("96x64"), "{text}: {error}");
        }
    }
}
