//! A built-in generator as a data set: counts, ids and truths; the drawing is the generator's.

use sha2::{Digest, Sha256};

use super::{Entry, RawMask, RawSample, Source, Split, Truth};
use crate::DataError;
use crate::dataset::OpenOptions;
use crate::pixels::Raw;
use crate::preprocess::Preprocess;
use crate::synth::{self, ImageGenerator};

/// Entries are counted in 32 bits.
const MOST: usize = u32::MAX as usize - 1;
const DEFAULT_COUNTS: [usize; 2] = [4096, 512];

/// `NAME[:TRAIN]` or `NAME[:train=N,test=N,seed=N,side=N]`, drawn on demand.
pub(crate) struct Generated {
    generator: &'static dyn ImageGenerator,
    seed: u64,
    counts: [usize; 2],
    /// Side of the squares that are drawn; the one that is asked for where nothing is said.
    side: Option<usize>,
}

impl Generated {
    /// `spec` without its `builtin:` prefix.
    pub(crate) fn open(spec: &str, options: &OpenOptions) -> Result<Self, DataError> {
        let fail = |reason: String| DataError::spec(format!("builtin:{spec}"), reason);
        let (name, items) = spec.split_once(':').unwrap_or((spec, ""));
        let Some(generator) = synth::GENERATORS.iter().find(|g| g.name() == name) else {
            let names = synth::GENERATORS.map(|g| g.name()).join(", ");
            if name == "telemetry" {
                return Err(fail(format!(
                    "is a signal, not a set of images; the built-in images are: {names}"
                )));
            }
            return Err(fail(format!("there is no such generator; the built-in ones are: {names}")));
        };
        let spec = format!("builtin:{spec}");
        let (sides, items): (Vec<_>, Vec<_>) =
            items.split(',').partition(|item| item.trim_start().starts_with("side="));
        let (counts, seed) = parse_counts(&spec, &items.join(","), DEFAULT_COUNTS, "training images", MOST)?;
        let side = match sides.last().and_then(|item| item.split_once('=')) {
            Some((_, text)) => Some(text.trim().parse().map_err(|_| {
                fail(format!("`side={text}` is not understood; write the side of the images in pixels"))
            })?),
            None => None,
        };
        let set = Generated { generator: *generator, seed, counts, side };
        let (sizes, size) = (generator.sizes(), set.side(&options.preprocess));
        if !sizes.contains(&size) {
            return Err(fail(format!(
                "cannot be drawn at size {size}; use {} to {}",
                sizes.start(),
                sizes.end()
            )));
        }
        if !options.normal_classes.is_empty() || !options.anomalous_classes.is_empty() {
            return Err(fail("generators state which images are normal; give no classes".into()));
        }
        if options.patch.is_some() {
            return Err(fail("generators already draw patches; give no patch size".into()));
        }
        if options.for_training && set.counts[Split::Train.slot()] == 0 {
            return Err(fail("there is no training image; give `train=N` with N above 0".into()));
        }
        Ok(set)
    }

    /// Side of the square that is drawn, which is then fitted as every image is.
    fn side(&self, preprocess: &Preprocess) -> usize {
        self.side.unwrap_or_else(|| preprocess.size.longer())
    }

    /// Anomaly kind of an entry: the training split is normal; in the test split every other image is
    /// anomalous, the kinds in turn, so that any even prefix is balanced.
    fn kind(&self, split: Split, i: usize) -> Option<usize> {
        (split == Split::Test && i % 2 == 1).then(|| i / 2 % self.generator.kinds().len())
    }
}

/// Counts of training and test entries (`what` they are) and seed out of `N` or `train=N,test=N,seed=N`.
pub(crate) fn parse_counts(
    spec: &str,
    items: &str,
    mut counts: [usize; 2],
    what: &str,
    most: usize,
) -> Result<([usize; 2], u64), DataError> {
    let fail = |reason: String| DataError::spec(spec, reason);
    let mut seed = 0;
    for item in items.split(',').filter(|item| !item.is_empty()) {
        let (key, value) = item.split_once('=').unwrap_or(("train", item));
        let number: u64 = value.trim().parse().map_err(|_| {
            fail(format!("`{item}` is not understood; write `:train=N,test=N,seed=N` or `:N` {what}"))
        })?;
        let count = || {
            let fits = usize::try_from(number).ok().filter(|&n| n <= most);
            fits.ok_or_else(|| fail(format!("`{item}` is too many; 0 to {most} are possible")))
        };
        match key.trim() {
            "train" => counts[Split::Train.slot()] = count()?,
            "test" => counts[Split::Test.slot()] = count()?,
            "seed" => seed = number,
            _ => return Err(fail(format!("there is no `{key}`; the items are train, test and seed"))),
        }
    }
    Ok((counts, seed))
}

impl Source for Generated {
    fn layout(&self) -> &'static str {
        "builtin"
    }

    fn len(&self, split: Split) -> usize {
        self.counts[split.slot()]
    }

    fn has_masks(&self) -> bool {
        true
    }

    fn entry(&self, split: Split, i: usize) -> Entry {
        let id = format!("{}:{}:{i}", self.generator.name(), split.name());
        match self.kind(split, i) {
            Some(kind) => Entry { id, class: self.generator.kinds()[kind].into(), truth: Truth::Anomalous },
            None => Entry { id, class: "good".into(), truth: Truth::Normal },
        }
    }

    fn load(&self, split: Split, i: usize, preprocess: &Preprocess) -> Result<RawSample, DataError> {
        let size = self.side(preprocess);
        let key = [self.seed, split.slot() as u64, i as u64];
        let kind = self.kind(split, i);
        let drawing = self.generator.draw(&key, size, kind);
        let mask = match kind {
            Some(_) => RawMask::Drawn(Raw::gray8(size, size, drawing.mask)),
            None => RawMask::Empty,
        };
        Ok(RawSample { image: Raw::gray8(size, size, drawing.gray), mask, permit: None, is_scaled: false })
    }

    fn digest(&self, split: Split, hasher: &mut Sha256) -> Result<(), DataError> {
        let (name, version) = (self.generator.name(), self.generator.version());
        hasher.update(format!("{name} v{version} seed {} × {}", self.seed, self.len(split)));
        if let Some(side) = self.side {
            hasher.update(format!(" side {side}"));
        }
        Ok(())
    }
}
