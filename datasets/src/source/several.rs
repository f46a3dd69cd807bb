//! Several sources one after another: `score model a.png b.png folder`.

use sha2::Sha256;

use super::{Entry, Place, RawSample, Source, Split};
use crate::DataError;
use crate::preprocess::Preprocess;

/// The splits of its parts, joined in order.
pub(crate) struct Several {
    parts: Vec<Box<dyn Source>>,
    /// Per split: entries up to and including each part.
    ends: [Vec<usize>; 2],
    /// Where they lie in one folder: by what they are told.
    why: String,
}

impl Several {
    pub(crate) fn new(parts: Vec<Box<dyn Source>>) -> Self {
        let ends = [Split::Train, Split::Test].map(|split| {
            let add = |total: &mut usize, count: usize| {
                *total = total.saturating_add(count);
                Some(*total)
            };
            parts.iter().map(|part| part.len(split)).scan(0, add).collect()
        });
        let why = format!("{} places, one after another", parts.len());
        Several { parts, ends, why }
    }

    /// Sets that lie in one folder.
    pub(crate) fn of_sets(parts: Vec<Box<dyn Source>>, why: String) -> Self {
        Several { why, ..Self::new(parts) }
    }

    fn locate(&self, split: Split, i: usize) -> (&dyn Source, usize) {
        let ends = &self.ends[split.slot()];
        let part = ends.partition_point(|&end| end <= i);
        let before = if part == 0 { 0 } else { ends[part - 1] };
        (&*self.parts[part], i - before)
    }
}

impl Source for Several {
    fn layout(&self) -> &'static str {
        "several"
    }

    fn why(&self) -> String {
        let parts = self.parts.iter().map(|part| format!("{} ({})", part.layout(), part.why()));
        format!("{}; {}", self.why, parts.collect::<Vec<_>>().join("; "))
    }

    fn places(&self) -> Vec<Place> {
        self.parts.iter().flat_map(|part| part.places()).collect()
    }

    fn states_training(&self) -> bool {
        self.parts.iter().all(|part| part.states_training())
    }

    fn len(&self, split: Split) -> usize {
        self.ends[split.slot()].last().copied().unwrap_or(0)
    }

    fn has_masks(&self) -> bool {
        self.parts.iter().any(|part| part.has_masks())
    }

    fn entry(&self, split: Split, i: usize) -> Entry {
        let (part, i) = self.locate(split, i);
        part.entry(split, i)
    }

    fn load(&self, split: Split, i: usize, preprocess: &Preprocess) -> Result<RawSample, DataError> {
        let (part, i) = self.locate(split, i);
        part.load(split, i, preprocess)
    }

    fn splits_are_one(&self) -> bool {
        self.parts.iter().any(|part| part.splits_are_one())
    }

    fn content_length(&self, split: Split, i: usize) -> Result<u64, DataError> {
        let (part, i) = self.locate(split, i);
        part.content_length(split, i)
    }

    fn content(&self, split: Split, i: usize, preprocess: &Preprocess) -> Result<[u8; 32], DataError> {
        let (part, i) = self.locate(split, i);
        part.content(split, i, preprocess)
    }

    fn digest(&self, split: Split, hasher: &mut Sha256) -> Result<(), DataError> {
        self.parts.iter().try_for_each(|part| part.digest(split, hasher))
    }
}
