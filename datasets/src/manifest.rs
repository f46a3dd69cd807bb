//! Which files a split consists of, with their contents' hashes, and whether training and test share any.

use std::collections::{BTreeMap, BTreeSet};

use ganomede_host::interrupt;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::dataset::Dataset;
use crate::source::{Split, Truth};
use crate::{DataError, source};

/// The entries of one split; patches count as the image they are cut from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The specification the set was opened with.
    pub spec: String,
    /// As [`Dataset::layout`].
    pub layout: &'static str,
    /// Which split.
    pub split: Split,
    /// SHA-256 over classes and hashes of `files` in order: the same wherever the set lies.
    pub sha256: String,
    /// One an entry, in order.
    pub files: Vec<ManifestFile>,
}

/// One image of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ManifestFile {
    /// As [`crate::Entry::id`] without a patch number.
    pub id: String,
    /// As [`crate::Entry::class`].
    pub class: String,
    /// As [`crate::Entry::truth`].
    pub truth: Truth,
    /// SHA-256 of the file as `sha256sum` prints it; for sets without files, of size and pixels.
    pub sha256: String,
}

/// A test image whose content is that of a training image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Id of the training image.
    pub train: String,
    /// Id of the test image.
    pub test: String,
}

impl Dataset {
    /// Lists a split with the hash of every file; nothing is decoded where there are files.
    ///
    /// Errors: a file that cannot be read.
    pub fn manifest(&self, split: Split) -> Result<Manifest, DataError> {
        let describe = |i: usize| {
            interrupt::check()?;
            let source::Entry { id, class, truth } = self.source.entry(split, i);
            Ok(ManifestFile { id, class, truth, sha256: hex(&self.content(split, i)?) })
        };
        let files =
            (0..self.images(split)).into_par_iter().map(describe).collect::<Result<Vec<_>, DataError>>()?;
        let mut hasher = Sha256::new();
        for file in &files {
            hasher.update(format!("{}\0{}\n", file.class, file.sha256));
        }
        let (spec, layout) = (self.spec().to_string(), self.layout());
        Ok(Manifest { spec, layout, split, sha256: hex(&hasher.finalize()), files })
    }

    /// Test images whose content is that of a training image, in order; empty for flat folders, where one
    /// list is both.
    ///
    /// Files are hashed only where a training and a test file have the same length. Errors: a file that
    /// cannot be read.
    pub fn overlap(&self) -> Result<Vec<Overlap>, DataError> {
        if self.source.splits_are_one() {
            return Ok(Vec::new());
        }
        let lengths = |split| {
            let length = |i| {
                interrupt::check()?;
                self.source.content_length(split, i)
            };
            (0..self.images(split)).into_par_iter().map(length).collect::<Result<Vec<_>, DataError>>()
        };
        let (train, test) = (lengths(Split::Train)?, lengths(Split::Test)?);
        let both: BTreeSet<u64> = {
            let train: BTreeSet<u64> = train.iter().copied().collect();
            test.iter().copied().filter(|length| train.contains(length)).collect()
        };
        let hashes = |split, lengths: Vec<u64>| {
            let candidates = lengths.into_par_iter().enumerate().filter(|(_, length)| both.contains(length));
            candidates.map(|(i, _)| Ok((self.content(split, i)?, i))).collect::<Result<Vec<_>, DataError>>()
        };
        // Of several equal training images the first is named.
        let trained: BTreeMap<[u8; 32], usize> = hashes(Split::Train, train)?.into_iter().rev().collect();
        let id = |split, i| self.source.entry(split, i).id;
        let shared =
            hashes(Split::Test, test)?.into_iter().filter_map(|(hash, i)| Some((*trained.get(&hash)?, i)));
        Ok(shared.map(|(a, b)| Overlap { train: id(Split::Train, a), test: id(Split::Test, b) }).collect())
    }

    /// Errors when any test image is a training image as well.
    pub fn check_disjoint(&self) -> Result<(), DataError> {
        let overlap = self.overlap()?;
        match overlap.first() {
            None => Ok(()),
            Some(first) => Err(DataError::Overlap {
                test: first.test.clone(),
                train: first.train.clone(),
                more: overlap.len() - 1,
            }),
        }
    }

    fn content(&self, split: Split, i: usize) -> Result<[u8; 32], DataError> {
        interrupt::check()?;
        self.source.content(split, i, &self.options().preprocess)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
