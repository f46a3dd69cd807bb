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
        self.fit();
    }

    /// Gives back what was taken beyond the names.
    pub(crate) fn fit(&mut self) {
        self.spans.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn get(&self, i: usize) -> &str {
        slice(&self.text, self.spans[i])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|&span| slice(&self.text, span))
    }

    /// The names of which `is_first` holds, and the others, in the same order.
    pub(crate) fn split(&self, mut is_first: impl FnMut(usize, &str) -> bool) -> [Names; 2] {
        let mut parts = [Names::default(), Names::default()];
        for (i, (name, &(_, length))) in self.iter().zip(&self.spans).enumerate() {
            let part = &mut parts[usize::from(!is_first(i, name))];
            // No longer than what it is a part of.
            part.spans.push((part.text.len() as u32, length));
            part.text.push_str(name);
        }
        parts
    }
}

fn slice(text: &str, (start, length): (u32, u16)) -> &str {
    &text[start as usize..start as usize + usize::from(length)]
}
