//! Images at their own resolution, and tiles that are cut out of them: as large as the preprocessing says,
//! not scaled.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use image::DynamicImage;

use crate::DataError;
use crate::augment::Augment;
use crate::batches::REFILLS;
use crate::dataset::{Dataset, OpenOptions};
use crate::indices::Indices;
use crate::memory::{self, Held, Permit};
use crate::ordered::Ordered;
use crate::patches::place;
use crate::pixels::{Image, Raw, Samples};
use crate::preprocess::{Frame, Preprocess, Window};
use crate::rng::{Permutation, hash};
use crate::single;
use crate::source::{RawMask, RawSample, Split, Truth};

/// Domains that keep the uses of one seed apart.
const IMAGES: u64 = 0x7469_696d;
const WITHIN: u64 = 0x7469_7769;
const REFILL: u64 = 0x7469_7265;
const AUGMENT: u64 = 0x7469_6175;
/// Tiles that are shuffled among each other, at least where an image has fewer.
const TOGETHER: usize = 512;
/// Bytes of them, at most where one image does not take more.
const TOGETHER_BYTES: usize = 128 << 20;

/// An image at its own resolution, as it was decoded, with what is known of it.
///
/// Memory is that of the decoded image and of its mask; tiles are made when they are asked for.
pub struct WholeImage {
    id: String,
    class: String,
    truth: Truth,
    raw: Raw,
    mask: RawMask,
    preprocess: Preprocess,
    _permit: Option<Permit>,
}

impl WholeImage {
    /// An encoded image (PNG, JPEG, BMP, TIFF or DICOM) at its own resolution; `name` is what messages call
    /// it.
    ///
    /// # Errors
    /// [`DataError`] for what is no usable image, or takes more memory than the budget has.
    pub fn decode(name: &str, bytes: Vec<u8>, options: &OpenOptions) -> Result<Self, DataError> {
        let (raw, permit) = single::decoded(Path::new(name), bytes, options)?;
        Ok(Self::of_raw(name, raw, Some(permit), options))
    }

    /// Pixels at their own resolution; `name` is what messages call them.
    ///
    /// # Errors
    /// [`DataError`] for floating-point pixels, or sides out of range.
    pub fn of_pixels(name: &str, image: DynamicImage, options: &OpenOptions) -> Result<Self, DataError> {
        let path = Path::new(name);
        let raw = single::levelled(path, single::of_pixels(path, image)?, options)?;
        Ok(Self::of_raw(name, raw, None, options))
    }

    fn of_raw(name: &str, raw: Raw, permit: Option<Permit>, options: &OpenOptions) -> Self {
        Self {
            id: name.to_owned(),
            class: String::new(),
            truth: Truth::Unknown,
            raw,
            mask: RawMask::Unknown,
            preprocess: options.preprocess,
            _permit: permit,
        }
    }

    /// As [`crate::Entry::id`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As [`crate::Entry::class`].
    pub fn class(&self) -> &str {
        &self.class
    }

    /// As [`crate::Entry::truth`].
    pub fn truth(&self) -> Truth {
        self.truth
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.raw.height, self.raw.width]
    }

    /// Says that the image is smaller than a tile.
    ///
    /// # Errors
    /// [`DataError`] naming the image and both sizes.
    pub fn check_tile(&self) -> Result<(), DataError> {
        let tile = self.preprocess.extent();
        check_fits(Path::new(&self.id), self.size(), tile)
    }

    /// The tile whose left and upper edges these are, as the networks see it; it must lie within the image.
    pub fn tile(&self, [x, y]: [usize; 2]) -> Image {
        let [height, width] = self.preprocess.extent();
        self.preprocess.image(&self.raw, Window { x, y, width, height })
    }

    /// The whole image, scaled and framed as the preprocessing says, and where that lies in it.
    pub fn prepared(&self) -> (Image, Frame) {
        let window = self.preprocess.window(self.raw.width, self.raw.height);
        (self.preprocess.image(&self.raw, window), self.preprocess.frame(&self.raw, window))
    }

    /// Red, green and blue of the pixels of a row, in 8 bits.
    pub fn colours(&self, y: usize) -> Vec<u8> {
        let (channels, length) = (self.raw.channels, self.raw.width * self.raw.channels);
        let byte = |i: usize| match &self.raw.samples {
            Samples::U8(s) => s[i],
            Samples::U16(s) => (s[i] >> 8) as u8,
        };
        let first = y * length;
        let colour = |at: usize| if channels < 3 { [byte(at); 3] } else { [0, 1, 2].map(|c| byte(at + c)) };
        (first..first + length).step_by(channels).flat_map(colour).collect()
    }

    /// Whether anomalous pixels are known.
    pub fn has_mask(&self) -> bool {
        matches!(self.mask, RawMask::Empty | RawMask::Drawn(_))
    }

    /// The part of the mask that a tile shows; `None` where nothing is known.
    pub fn tile_mask(&self, [x, y]: [usize; 2]) -> Option<Vec<bool>> {
        let ([height, width], [_, across]) = (self.preprocess.extent(), self.size());
        let mask = self.mask()?;
        Some((y..y + height).flat_map(|y| &mask[y * across + x..][..width]).copied().collect())
    }

    /// Which pixels are anomalous, at the image's own resolution; `None` where nothing is known of them.
    pub fn mask(&self) -> Option<Vec<bool>> {
        match &self.mask {
            RawMask::Empty => Some(vec![false; self.raw.width * self.raw.height]),
            RawMask::Drawn(drawn) => match &drawn.samples {
                Samples::U8(s) => Some(s.iter().map(|&s| s != 0).collect()),
                Samples::U16(s) => Some(s.iter().map(|&s| s != 0).collect()),
            },
            RawMask::Unknown | RawMask::Unusable(_) => None,
        }
    }
}

/// Refuses an image of `size` that is smaller than a tile (heights before widths).
pub(crate) fn check_fits(path: &Path, size: [usize; 2], tile: [usize; 2]) -> Result<(), DataError> {
    if size[0] >= tile[0] && size[1] >= tile[1] {
        return Ok(());
    }
    let reason = format!(
        "is {}×{} pixels, smaller than a tile of {}×{}; use smaller tiles or remove it",
        size[1], size[0], tile[1], tile[0]
    );
    Err(DataError::file(path, reason))
}

impl Dataset {
    /// Decodes entry `i` at its own resolution.
    ///
    /// # Errors
    /// As [`Dataset::load`], and with [`OpenOptions::tiles`] for an image that is smaller than a tile.
    pub fn whole(&self, split: Split, i: usize) -> Result<WholeImage, DataError> {
        let Some(entry) = self.entry(split, i).filter(|_| self.options().patch.is_none()) else {
            let reason = format!("the {} split has {} images; count from 0", split.name(), self.len(split));
            return Err(DataError::option("entry", i, reason));
        };
        let loaded = self.load_raw(split, i).and_then(|RawSample { image, mask, permit, .. }| {
            let preprocess = self.options().preprocess;
            let whole = WholeImage {
                id: entry.id,
                class: entry.class,
                truth: entry.truth,
                raw: image,
                mask,
                preprocess,
                _permit: permit,
            };
            if self.options().tiles { whole.check_tile().map(|()| whole) } else { Ok(whole) }
        });
        loaded.inspect_err(|error| self.reject(error))
    }
}

/// How tiles of training images are batched.
#[derive(Clone, Debug)]
pub struct TileOptions {
    /// Tiles of each image in an epoch, at least 1.
    pub per_image: usize,
    /// Tiles a batch; a last one that is not full is left out.
    pub batch: usize,
    /// Seed of order, positions, augmentation and refilling.
    pub seed: u64,
    /// Epoch, counted from 0: each has its own order and positions.
    pub epoch: u64,
    /// Random changes.
    pub augment: Augment,
    /// First batch to produce, for resuming within an epoch.
    pub start_batch: usize,
}

/// Batches of tiles at random places of the training images, in an order that is a function of (seed, epoch,
/// batch) alone. Each image is decoded once an epoch: the tiles of a group of images are shuffled among each
/// other, and so are the groups' images.
///
/// An item is an error as of [`crate::Batches`].
pub struct TileBatches {
    /// Tiles of a few images each.
    groups: Ordered<Vec<f32>>,
    values: usize,
    batch: usize,
    /// Tiles of the groups received that are not given away yet.
    ready: Vec<f32>,
    taken: usize,
    /// Batches to come.
    left: usize,
    _held: Held,
}

impl TileBatches {
    /// Starts decoding the images `indices` of a split.
    ///
    /// # Errors
    /// An option outside its range, not enough memory, or no thread can be started.
    pub fn new(
        dataset: Arc<Dataset>,
        split: Split,
        indices: Indices,
        options: TileOptions,
    ) -> Result<Self, DataError> {
        for (what, value) in [("batch", options.batch), ("tiles of an image", options.per_image)] {
            if !(1..=1 << 20).contains(&value) {
                return Err(DataError::option(what, value, "use 1 to 1048576"));
            }
        }
        let values = dataset.options().preprocess.values();
        let together = TOGETHER.min((TOGETHER_BYTES / (4 * values)).max(1));
        let images = together.div_ceil(options.per_image).clamp(1, indices.len().max(1));
        let group = images * options.per_image;
        let first = options.start_batch * options.batch / group;
        let skipped = options.start_batch * options.batch - first * group;
        let total = (indices.len() * options.per_image / options.batch).saturating_sub(options.start_batch);
        let groups = indices.len().div_ceil(images);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (mut threads, held) =
            (cores.clamp(1, 8).min(groups.saturating_sub(first).max(1)), Held::default());
        loop {
            // Each has a group in hand and one that waits, and the consumer another, beside a batch.
            let bytes =
                (((2 * threads + 1) * group + options.batch) as u64).saturating_mul(4 * values as u64);
            match memory::check(bytes.saturating_mul(2)).and_then(|()| held.grow(bytes)) {
                Ok(()) => break,
                Err(_) if threads > 1 => threads -= 1,
                Err(short) => {
                    let reason = format!("cutting tiles ahead {short}; or use fewer tiles of each image");
                    return Err(DataError::option("tiles of an image", options.per_image, reason));
                }
            }
        }
        let batch = options.batch;
        let maker = Maker::new(dataset, split, indices, options, images);
        // Where no batch is full, nothing is decoded.
        let numbers = if total == 0 { 0..0 } else { first..groups };
        let groups = Ordered::start(numbers, threads, 1, move |number, stop| maker.group(number, stop))?;
        Ok(Self { groups, values, batch, ready: vec![], taken: skipped, left: total, _held: held })
    }
}

impl Iterator for TileBatches {
    type Item = Result<Vec<f32>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let wanted = self.batch * self.values;
        while self.ready.len() < self.taken * self.values + wanted {
            match self.groups.next() {
                None => {
                    self.left = 0;
                    return None;
                }
                Some(Ok(tiles)) => {
                    let given = (self.taken * self.values).min(self.ready.len());
                    self.ready.drain(..given);
                    self.taken -= given / self.values;
                    self.ready.extend(tiles);
                }
                Some(Err(error)) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
        let first = self.taken * self.values;
        let batch = self.ready[first..first + wanted].to_vec();
        self.taken += self.batch;
        self.left -= 1;
        Some(Ok(batch))
    }
}

/// Makes any group of one epoch from its number.
struct Maker {
    dataset: Arc<Dataset>,
    split: Split,
    indices: Indices,
    order: Permutation,
    options: TileOptions,
    /// Images of a group.
    images: usize,
}

impl Maker {
    fn new(
        dataset: Arc<Dataset>,
        split: Split,
        indices: Indices,
        options: TileOptions,
        images: usize,
    ) -> Self {
        let order = Permutation::new(indices.len() as u64, &[options.seed, options.epoch, IMAGES]);
        Self { dataset, split, indices, order, options, images }
    }

    fn group(&self, number: usize, stop: &AtomicBool) -> Result<Vec<f32>, DataError> {
        let first = number * self.images;
        let last = (first + self.images).min(self.indices.len());
        let (values, each) = (self.dataset.options().preprocess.values(), self.options.per_image);
        let count = (last - first) * each;
        let key = [self.options.seed, self.options.epoch, number as u64, WITHIN];
        let order = Permutation::new(count as u64, &key);
        let mut tiles = vec![0.0; count * values];
        for position in first..last {
            // The consumer is gone: what is made now is thrown away.
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let (entry, image) = self.image(position)?;
            for k in 0..each {
                let to = order.get(((position - first) * each + k) as u64) as usize;
                let tile = random_tile(&image, &self.options, entry, k);
                tiles[to * values..][..values].copy_from_slice(&tile.pixels);
            }
        }
        Ok(tiles)
    }

    /// The image at a position of the epoch, or another in place of one that cannot be decoded.
    fn image(&self, position: usize) -> Result<(usize, WholeImage), DataError> {
        let (seed, epoch) = (self.options.seed, self.options.epoch);
        let mut at = self.order.get(position as u64) as usize;
        let mut attempt = 0;
        loop {
            let entry = self.indices.get(at).unwrap_or(0);
            match self.dataset.whole(self.split, entry) {
                Ok(image) => return Ok((entry, image)),
                Err(error)
                    if error.is_machine_fault() || self.dataset.options().strict || attempt == REFILLS =>
                {
                    return Err(error);
                }
                Err(_) => attempt += 1,
            }
            at =
                (hash(&[seed, epoch, position as u64, attempt, REFILL]) % self.indices.len() as u64) as usize;
        }
    }
}

/// Tile `k` of entry `entry` in an epoch: its place is a function of the seed, the epoch, and both.
fn random_tile(image: &WholeImage, options: &TileOptions, entry: usize, k: usize) -> Image {
    let key = [options.seed, options.epoch, entry as u64, k as u64];
    let at = place(&key, image.preprocess.extent(), image.size()).unwrap_or([0, 0]);
    let mut tile = image.tile(at);
    if !options.augment.is_none() {
        options.augment.apply(&mut tile, None, &[&key[..], &[AUGMENT]].concat());
    }
    tile
}

impl Dataset {
    /// The tile that [`TileBatches`] cut as number `k` out of an entry, wherever in the epoch it came.
    ///
    /// # Errors
    /// As [`Dataset::whole`].
    pub fn random_tile(
        &self,
        split: Split,
        entry: usize,
        k: usize,
        options: &TileOptions,
    ) -> Result<Image, DataError> {
        Ok(random_tile(&self.whole(split, entry)?, options, entry, k))
    }
}
