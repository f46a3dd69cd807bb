//! Batches decoded in the background, in an order that depends on nothing but (seed, epoch, batch number).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::DataError;
use crate::augment::Augment;
use crate::dataset::{Dataset, Sample};
use crate::indices::Indices;
use crate::memory::{self, Held};
use crate::ordered::Ordered;
use crate::pixels::Mask;
use crate::preprocess::Frame;
use crate::rng::{Permutation, hash};
use crate::source::{Split, Truth};

/// Domains that keep the uses of one seed apart.
const SHUFFLE: u64 = 0x7368_7566;
const REFILL: u64 = 0x7265_6669;
const AUGMENT: u64 = 0x6175_676d;
/// Memory of a value of a batch: itself, and its part of a mask.
const VALUE: u64 = 5;
/// Draws before a slot whose file cannot be decoded is given up: with half the files damaged, 2⁻⁶⁴.
pub(crate) const REFILLS: u64 = 64;

/// How batches are formed.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// Images a batch, 1..=65536; the last one may have fewer unless `drop_last`.
    pub batch: usize,
    /// Seed of order, augmentation and refilling.
    pub seed: u64,
    /// Epoch, counted from 0: each has its own order.
    pub epoch: u64,
    /// Visit in random order (training) or in order of the indices (scoring).
    ///
    /// A file that cannot be decoded is left out of its batch when scoring, and replaced by another image
    /// drawn from (seed, epoch, position) when shuffled, so that training batches keep their size.
    pub shuffle: bool,
    /// Random changes; each is a function of (seed, epoch, index).
    pub augment: Augment,
    /// First batch to produce, for resuming within an epoch.
    pub start_batch: usize,
    /// The places within each full batch that are decoded, where that are not all: what the other places hold
    /// is somebody else's to read.
    pub rows: Option<Range<usize>>,
    /// Leave out a last batch that is not full.
    pub drop_last: bool,
    /// Batches decoded ahead, at least 1.
    pub prefetch: usize,
    /// Decoding threads; 0 takes one a core, up to 8. The batches do not depend on it.
    pub threads: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        BatchOptions {
            batch: 64,
            seed: 0,
            epoch: 0,
            shuffle: false,
            augment: Augment::default(),
            start_batch: 0,
            rows: None,
            drop_last: false,
            prefetch: 4,
            threads: 0,
        }
    }
}

/// Some images side by side. All lists have one item an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number within the epoch, from 0.
    pub number: usize,
    /// B × C × H × W values in [−1, 1].
    pub images: Vec<f32>,
    /// Entries of the split.
    pub indices: Vec<usize>,
    /// Truths of the images or patches.
    pub truths: Vec<Truth>,
    /// As [`crate::Entry::id`].
    pub ids: Vec<String>,
    /// As [`crate::Entry::class`].
    pub classes: Vec<String>,
    /// Anomalous pixels where known.
    pub masks: Vec<Option<Mask>>,
    /// Where the images lie in those that they were made of.
    pub frames: Vec<Frame>,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    fn push(&mut self, index: usize, sample: Sample) {
        self.images.extend_from_slice(&sample.image.pixels);
        self.indices.push(index);
        self.truths.push(sample.truth);
        self.ids.push(sample.id);
        self.classes.push(sample.class);
        self.masks.push(sample.mask);
        self.frames.push(sample.frame);
    }
}

/// Iterator over the batches of one epoch. Dropping it stops the threads.
///
/// An item is an error on a machine fault, or on a file that cannot be decoded if the set is `strict` or
/// hardly anything in it can be; iteration ends after it.
pub struct Batches {
    made: Ordered<Batch>,
    total: usize,
    _held: Held,
}

impl Batches {
    /// Starts decoding `indices` of a split.
    ///
    /// Errors: an option outside its range, or no thread can be started.
    pub fn new(
        dataset: Arc<Dataset>,
        split: Split,
        indices: Indices,
        options: BatchOptions,
    ) -> Result<Self, DataError> {
        if !(1..=65536).contains(&options.batch) {
            return Err(DataError::option("batch", options.batch, "use 1 to 65536 images"));
        }
        let total = match options.drop_last {
            true => indices.len() / options.batch,
            false => indices.len().div_ceil(options.batch),
        };
        let start = options.start_batch.min(total);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 { cores.min(8) } else { options.threads };
        let threads = threads.min(total - start);
        let batch = options.rows.as_ref().map_or(options.batch, Range::len).min(indices.len());
        let values = batch.saturating_mul(dataset.options().preprocess.values()) as u64;
        // Fewer threads where memory is short; the batches do not depend on it.
        let (mut threads, held) = (threads.max(1), Held::default());
        let ahead = loop {
            let ahead = options.prefetch.max(1).div_ceil(threads);
            // Each thread has one in hand beside those that wait, and the consumer another.
            let batches = (threads * (ahead + 1) + 1) as u64;
            let bytes = (VALUE * batches).saturating_mul(values);
            // As much is left for decoding.
            match memory::check(bytes.saturating_mul(2)).and_then(|()| held.grow(bytes)) {
                Ok(()) => break ahead,
                Err(_) if threads > 1 => threads -= 1,
                Err(short) => {
                    let fits = (batch as u64 * short.free()).checked_div(2 * bytes).unwrap_or(0);
                    let reason = format!("decoding ahead {short}; or use {fits} images or fewer");
                    return Err(DataError::option("batch", options.batch, reason));
                }
            }
        };
        let maker = Maker::new(dataset, split, indices, options);
        let made =
            Ordered::start(start..total, threads, ahead, move |number, stop| maker.batch(number, stop))?;
        Ok(Batches { made, total, _held: held })
    }

    /// Batches in the whole epoch, those before `start_batch` included.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Where nothing could be decoded, the images are in the reject list.
        self.made.find(|item| !item.as_ref().is_ok_and(Batch::is_empty))
    }
}

/// Makes any batch of one epoch from its number.
struct Maker {
    dataset: Arc<Dataset>,
    split: Split,
    indices: Indices,
    order: Option<Permutation>,
    options: BatchOptions,
}

impl Maker {
    fn new(dataset: Arc<Dataset>, split: Split, indices: Indices, options: BatchOptions) -> Self {
        let key = [options.seed, options.epoch, SHUFFLE];
        let order = options.shuffle.then(|| Permutation::new(indices.len() as u64, &key));
        Maker { dataset, split, indices, order, options }
    }

    fn batch(&self, number: usize, stop: &AtomicBool) -> Result<Batch, DataError> {
        let first = number * self.options.batch;
        let last = (first + self.options.batch).min(self.indices.len());
        let rows = self.options.rows.clone().unwrap_or(0..self.options.batch);
        let (first, last) = ((first + rows.start).min(last), (first + rows.end).min(last));
        let pixels = self.dataset.options().preprocess.values() * (last - first);
        let mut batch = Batch { number, images: Vec::with_capacity(pixels), ..Batch::default() };
        for position in first..last {
            // The consumer is gone: what is made now is thrown away.
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Some((index, sample)) = self.sample(position)? {
                batch.push(index, sample);
            }
        }
        Ok(batch)
    }

    /// The image at a position of the epoch; None if it cannot be decoded and is to be left out.
    fn sample(&self, position: usize) -> Result<Option<(usize, Sample)>, DataError> {
        let at = self.order.as_ref().map_or(position as u64, |order| order.get(position as u64));
        let mut attempt = 0;
        let mut place = at as usize;
        loop {
            let Some(index) = self.indices.get(place) else { return Ok(None) };
            match self.dataset.load(self.split, index) {
                Ok(mut sample) => {
                    self.augment(index, &mut sample);
                    return Ok(Some((index, sample)));
                }
                Err(error) if error.is_machine_fault() || self.dataset.options().strict => return Err(error),
                Err(_) if self.order.is_none() => return Ok(None),
                Err(error) if attempt == REFILLS => return Err(error),
                Err(_) => attempt += 1,
            }
            let draw = hash(&[self.options.seed, self.options.epoch, position as u64, attempt, REFILL]);
            place = (draw % self.indices.len() as u64) as usize;
        }
    }

    fn augment(&self, index: usize, sample: &mut Sample) {
        if !self.options.augment.is_none() {
            let key = [self.options.seed, self.options.epoch, index as u64, AUGMENT];
            self.options.augment.apply(&mut sample.image, sample.mask.as_mut(), &key);
        }
    }
}
