//! File names of a large folder in little memory: one string and eight bytes a name.

use crate::DataError;
use std::path::Path;

/// Sorted names. 10⁶ names of 16 bytes take 24 MB.
#[derive(Default)]
pub(crate) struct Names {
    text: String,
    /// Start and length of each name within `text`.
    spans: Vec<(u32, u16)>,
}

impl Names {
    /// Errors when the names of one folder exceed 4 GiB together.
    pub(crate) fn push(&mut self, folder: &Path, name: &str) -> Result<(), DataError> {
        let (Ok(start), Ok(length)) = (u32::try_from(self.text.len()), u16::try_from(name.len())) else {
            return Err(DataError::file(
                folder,
                "holds more file names than can be listed; split the folder",
            ));
        };
        self.spans.push((start, length));
        self.text.push_str(name);
        Ok(())
    }

    pub(crate) fn sort(&mut self) {
        let text = &self.text;
        self.spans.sort_unstable_by_key(|&span| slice(text, span));
        self.spans.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn get(&self, i: usize) -> &str {
        slice(&self.text, self.spans[i])
    }

    /// Keeps the names whose flag is set; one flag a name.
    pub(crate) fn keep(&mut self, flags: &[bool]) {
        let mut flags = flags.iter();
        self.spans.retain(|_| flags.next().copied().unwrap_or(false));
    }
}

fn slice(text: &str, (start, length): (u32, u16)) -> &str {
    &text[start as usize..start as usize + usize::from(length)]
}
