//! One view of every kind of data: lists entries, decodes one at a time, remembers what it could not use.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::DataError;
use crate::flatten::flatten;
use crate::groups::{GroupRule, Groups, SuggestedGroups, suggested};
use crate::indices::Indices;
use crate::patches::PatchOptions;
use crate::pixels::{Image, Mask, Raw};
use crate::preprocess::{Frame, Preprocess, Window};
use crate::source::{
    self, Entry, MaskReport, Met, Place, RawMask, RawSample, Rejected, Several, Source, Split, Truth,
};

/// Images that [`Dataset::look`] loads.
const LOOKED_AT: usize = 16;

/// How a data set is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenOptions {
    /// Size, colour and framing of the loaded images.
    pub preprocess: Preprocess,
    /// Names of the normal classes (of labelled sets also numbers); alone, all others are anomalous. Of
    /// folders of classes one has to be there; by default `good`, `ok` or `normal` is, the first that is
    /// found.
    pub normal_classes: Vec<String>,
    /// Names of the anomalous classes (of labelled sets also numbers); alone, all others are normal.
    pub anomalous_classes: Vec<String>,
    /// Normal and anomalous classes as a trained model learned them. They hold where none are
    /// given above, and what is given may not say the contrary.
    pub learned_classes: [Vec<String>; 2],
    /// Make a file that cannot be used an error instead of skipping it, and likewise a test image (file, or
    /// pixels of a labelled set) that is a training image as well.
    pub strict: bool,
    /// Seed of the patch positions. Built-in sets have their own (`seed=` in the specification), so that runs
    /// with different seeds see the same data.
    pub seed: u64,
    /// Shift the columns of every image so that its brightest layer lies level, as the layers of OCT scans
    /// are before patches are cut.
    pub flatten: bool,
    /// Cut random patches instead of scaling whole images.
    pub patch: Option<PatchOptions>,
    /// Cut tiles out of the images, as large as the preprocessing says: those that are smaller cannot be
    /// used.
    pub tiles: bool,
    /// Make it an error if there is nothing to train on, or if a labelled set is opened without classes.
    pub for_training: bool,
    /// Bits that the samples of 16-bit images really use, as cameras of 10, 12 or 14 bits write them; None
    /// for all 16.
    pub bits: Option<u32>,
    /// Centre and width of the window through which DICOM images are seen, in rescaled values; None for that
    /// of each file, or the whole range of what it stores.
    pub window: Option<[f64; 2]>,
    /// Look for no masks: scores need none.
    pub without_masks: bool,
    /// Further places, taken together with the one that is opened, in this order.
    pub also: Vec<String>,
    /// Where the masks of a folder of images lie, if not where its layout has them. Where no class says more,
    /// an image is anomalous whose mask marks anything, and one without a mask is normal.
    pub masks: Option<PathBuf>,
    /// How those masks are named: the name without extension, with `*` for that of the image. By default as
    /// [`MaskReport`] says.
    pub mask_name: Option<String>,
    /// How the group of an image is read off its path, where images come in groups: slices of a patient,
    /// parts of a lot.
    pub group: Option<GroupRule>,
}

/// What a data set does not use, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Findings {
    /// Files that cannot be used, in order of their paths: unreadable headers when opened, undecodable pixels
    /// when loaded so far.
    pub rejected: Vec<Rejected>,
    /// What is not looked at: folders beside those of a layout, loose and hidden images, and the like.
    pub skipped: Vec<Rejected>,
    /// How the images were found, where that is left open: in several folders, or without a word on which are
    /// for training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// How masks fit their images; None where there are none, or none are looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<MaskReport>,
    /// Bits that the samples of the 16-bit images loaded so far need, where that is fewer than 16 and
    /// [`OpenOptions::bits`] says nothing: their values fill a part of the range only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_used: Option<u32>,
}

/// One loaded image.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// As [`Entry::id`].
    pub id: String,
    /// The preprocessed image.
    pub image: Image,
    /// Truth of this image or patch.
    pub truth: Truth,
    /// As [`Entry::class`].
    pub class: String,
    /// Anomalous pixels, aligned with the image; None where they are not known.
    pub mask: Option<Mask>,
    /// Where the image lies in the one it was made of.
    pub frame: Frame,
}

/// A data set; decodes on demand and is shared between threads behind an `Arc`.
pub struct Dataset {
    spec: String,
    pub(crate) source: Box<dyn Source>,
    options: OpenOptions,
    /// As met when it was opened.
    met: Met,
    /// Met since.
    found: Mutex<Found>,
}

/// Files that were found to be unusable when they were loaded.
#[derive(Default)]
struct Found {
    rejected: BTreeSet<Rejected>,
    unusable_masks: BTreeSet<Rejected>,
    /// Ids of images.
    empty_masks: BTreeSet<String>,
    /// Of all 16-bit images.
    largest_sample: Option<u16>,
}

/// A specification that names again what an earlier one names, or what lies in another, and that one. Of
/// thousands of files each is looked up once, by its folders.
fn twice<'s>(specs: &[&'s str]) -> Option<(&'s str, &'s str)> {
    let path = |spec: &str| Path::new(spec).canonicalize().unwrap_or_else(|_| spec.into());
    let paths: Vec<PathBuf> = specs.iter().map(|spec| path(spec)).collect();
    let mut first = HashMap::new();
    for (i, path) in paths.iter().enumerate() {
        if let Some(&before) = first.get(path.as_path()) {
            return Some((specs[i], specs[before]));
        }
        first.insert(path.as_path(), i);
    }
    specs.iter().zip(&paths).find_map(|(spec, path)| {
        let above = path.ancestors().skip(1).find_map(|above| first.get(above));
        above.map(|&outer| (*spec, specs[outer]))
    })
}

impl Dataset {
    /// Opens a path or `builtin:NAME[:N | :train=N,test=N,seed=N]`; the layout is told from the contents.
    ///
    /// Errors: nothing usable there, classes that do not fit, a damaged labelled set, or with `strict` the
    /// first file that cannot be used.
    pub fn open(spec: &str, options: &OpenOptions) -> Result<Self, DataError> {
        check(options)?;
        if !options.also.is_empty() {
            let specs: Vec<&str> =
                std::iter::once(spec).chain(options.also.iter().map(String::as_str)).collect();
            return Self::open_all(&specs, &OpenOptions { also: Vec::new(), ..options.clone() });
        }
        let mut met = Met::default();
        let source = source::open(spec, options, &mut met)?;
        Self::new(spec, source, options, met)
    }

    /// Opens several specifications as one set, in the order given; a single one as [`Dataset::open`] does.
    ///
    /// A file that cannot be used is skipped and listed unless `strict`; an error if none is left.
    pub fn open_all<S: AsRef<str>>(specs: &[S], options: &OpenOptions) -> Result<Self, DataError> {
        if let [spec] = specs {
            return Self::open(spec.as_ref(), options);
        }
        check(options)?;
        let (mut sources, mut met) = (Vec::new(), Met::default());
        if let Some((inner, outer)) = twice(&specs.iter().map(AsRef::as_ref).collect::<Vec<_>>()) {
            let reason =
                format!("is, or lies in, `{outer}`, which is given too; its images would count twice");
            if options.for_training {
                return Err(DataError::spec(inner, reason));
            }
            met.skipped.push(Rejected { path: inner.to_owned(), reason });
        }
        for spec in specs.iter().map(AsRef::as_ref) {
            match source::open(spec, options, &mut met) {
                Ok(source) => sources.push(source),
                Err(DataError::File { path, reason }) if !options.strict => {
                    met.rejected.push(Rejected { path: path.to_string_lossy().into_owned(), reason });
                }
                Err(error) => return Err(error),
            }
        }
        let spec = specs.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        if sources.is_empty() {
            let reason = match met.rejected.first() {
                Some(Rejected { path, reason }) => format!("none can be used; the first, {path}, {reason}"),
                None => "nothing was given; give a path or `builtin:retina`".into(),
            };
            return Err(DataError::spec(spec, reason));
        }
        Self::new(&spec, Box::new(Several::new(sources)), options, met)
    }

    fn new(
        spec: &str,
        source: Box<dyn Source>,
        options: &OpenOptions,
        mut met: Met,
    ) -> Result<Self, DataError> {
        let rejected = std::mem::take(&mut met.rejected).into_iter().collect();
        let found = Mutex::new(Found { rejected, ..Found::default() });
        let dataset = Dataset { spec: spec.to_string(), source, options: options.clone(), met, found };
        for split in [Split::Train, Split::Test] {
            if u32::try_from(dataset.len(split)).is_err() {
                let reason = format!(
                    "{} {} entries; at most 4294967295 are possible",
                    dataset.len(split),
                    split.name()
                );
                return Err(DataError::spec(spec, reason));
            }
        }
        // Built-in sets draw every image from a number of its own.
        if options.strict && dataset.layout() != "builtin" {
            dataset.check_disjoint()?;
        }
        Ok(dataset)
    }

    /// The specification it was opened with; several are joined by spaces.
    pub fn spec(&self) -> &str {
        &self.spec
    }

    /// `mvtec`, `mvtec-loco`, `btad`, `visa`, `kolektor`, `classes` (a folder each), `folder`, `list`,
    /// `file`, `idx`, `cifar10`, `npz`, `builtin` or `several`.
    pub fn layout(&self) -> &'static str {
        self.source.layout()
    }

    /// By what the layout is told and what follows from it, for people; empty where its name says it all.
    pub fn why(&self) -> String {
        self.source.why()
    }

    /// The folders whose images are used, with counts; empty for what has none.
    pub fn places(&self) -> Vec<Place> {
        self.source.places()
    }

    /// Whether the data say which images are for training. Where they do not, a fifth of the normal images
    /// was drawn for tests.
    pub fn states_training(&self) -> bool {
        self.source.states_training()
    }

    /// The options it was opened with.
    pub fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// Whether anomalous pixels are known, so that pixel metrics make sense.
    pub fn has_masks(&self) -> bool {
        self.source.has_masks()
    }

    /// Number of entries; with patches, images × patches of each.
    pub fn len(&self, split: Split) -> usize {
        self.source.len(split).saturating_mul(self.per_image())
    }

    /// Whether a split has no entry.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// What is known of entry `i` without decoding it; None beyond the end. The truth of a patch of an
    /// anomalous image is unknown until its mask is loaded.
    pub fn entry(&self, split: Split, i: usize) -> Option<Entry> {
        let per_image = self.per_image();
        let mut entry = (i < self.len(split)).then(|| self.source.entry(split, i / per_image))?;
        if self.options.patch.is_some() {
            entry.id = format!("{}#{}", entry.id, i % per_image);
            if entry.truth == Truth::Anomalous {
                entry.truth = Truth::Unknown;
            }
        }
        Some(entry)
    }

    /// Decodes and preprocesses entry `i`.
    ///
    /// Errors: the file cannot be decoded (it is then also in [`Dataset::rejected`]), or `i` is beyond the
    /// end.
    pub fn load(&self, split: Split, i: usize) -> Result<Sample, DataError> {
        let Some(entry) = self.entry(split, i) else {
            let reason = format!("the {} split has {} entries; count from 0", split.name(), self.len(split));
            return Err(DataError::option("entry", i, reason));
        };
        let loaded = self.load_raw(split, i / self.per_image()).and_then(|raw| {
            let window = self.window(split, i, &raw, &entry)?;
            Ok((raw, window))
        });
        let (raw, window) = loaded.inspect_err(|error| self.reject(error))?;
        let preprocess = &self.options.preprocess;
        let image = preprocess.image(&raw.image, window);
        let (mask, truth) = match raw.mask {
            RawMask::Unknown | RawMask::Unusable(_) => (None, entry.truth),
            RawMask::Empty => {
                let none = Mask::none(preprocess.size.height, preprocess.size.width);
                (Some(Mask { picture: preprocess.picture(window), ..none }), entry.truth)
            }
            RawMask::Drawn(drawn) => {
                let mask = preprocess.mask(&drawn, window);
                let truth = match (self.options.patch, mask.any()) {
                    (None, _) => entry.truth,
                    (Some(_), true) => Truth::Anomalous,
                    (Some(_), false) => Truth::Normal,
                };
                (Some(mask), truth)
            }
        };
        let frame = preprocess.frame(&raw.image, window);
        Ok(Sample { id: entry.id, image, truth, class: entry.class, mask, frame })
    }

    /// The image as stored (flattened if asked for) behind entry `i` of the source, patches not counted.
    pub(crate) fn load_raw(&self, split: Split, i: usize) -> Result<RawSample, DataError> {
        let RawSample { mut image, mask, permit, is_scaled } =
            self.source.load(split, i, &self.options.preprocess)?;
        if !is_scaled {
            self.judge_depth(split, i, &mut image)?;
        }
        let mask = self.judged(split, i, mask)?;
        if !self.options.flatten {
            return Ok(RawSample { image, mask, permit, is_scaled });
        }
        Ok(match mask {
            RawMask::Drawn(mask) => {
                let (image, mask) = flatten(&image, Some(&mask));
                RawSample { image, mask: mask.map_or(RawMask::Unknown, RawMask::Drawn), permit, is_scaled }
            }
            mask => RawSample { image: flatten(&image, None).0, mask, permit, is_scaled },
        })
    }

    /// Brings samples of fewer bits to the whole range where that was asked for; else remembers the largest.
    fn judge_depth(&self, split: Split, i: usize, image: &mut Raw) -> Result<(), DataError> {
        if let Some(bits) = self.options.bits {
            return image.stretch(bits).map_err(|largest| {
                let id = self.source.entry(split, i).id;
                let reason =
                    format!("holds a sample of {largest}, more than {bits} bits can; state the bits it has");
                DataError::file(Path::new(&id), reason)
            });
        }
        if let Some(largest) = image.largest_of_16_bits() {
            let mut found = self.found();
            found.largest_sample = found.largest_sample.max(Some(largest));
        }
        Ok(())
    }

    /// Loads a few images of a split, evenly spread, for what [`Dataset::findings`] says of their samples.
    pub fn look(&self, split: Split) {
        let images = self.images(split);
        for k in 0..images.min(LOOKED_AT) {
            // A file that cannot be read is reported where it counts.
            let Ok(raw) = self.load_raw(split, k * images / images.min(LOOKED_AT)) else { continue };
            if raw.image.largest_of_16_bits().is_none() {
                return;
            }
        }
    }

    /// The mask, unless it contradicts what is known of its image: then nothing is known of the pixels, and
    /// it is said.
    fn judged(&self, split: Split, i: usize, mask: RawMask) -> Result<RawMask, DataError> {
        match mask {
            // Generators draw what they say.
            RawMask::Drawn(drawn) if self.met.masks.is_some() => {
                let Entry { id, truth, .. } = self.source.entry(split, i);
                match (truth, drawn.is_marked()) {
                    (Truth::Anomalous, false) => {
                        self.found().empty_masks.insert(id);
                        Ok(RawMask::Unknown)
                    }
                    (Truth::Normal, true) => {
                        let reason = "its mask marks pixels, but it is a normal image; remove one of the two"
                            .to_owned();
                        self.found().unusable_masks.insert(Rejected { path: id, reason });
                        Ok(RawMask::Unknown)
                    }
                    (_, true) => Ok(RawMask::Drawn(drawn)),
                    (_, false) => Ok(RawMask::Empty),
                }
            }
            RawMask::Unusable(Rejected { path, reason }) if self.options.strict => {
                Err(DataError::file(Path::new(&path), reason))
            }
            RawMask::Unusable(fault) => {
                self.found().unusable_masks.insert(fault.clone());
                Ok(RawMask::Unusable(fault))
            }
            mask => Ok(mask),
        }
    }

    /// Images of a split, patches not counted.
    pub(crate) fn images(&self, split: Split) -> usize {
        self.source.len(split)
    }

    fn window(&self, split: Split, i: usize, raw: &RawSample, entry: &Entry) -> Result<Window, DataError> {
        let (width, height) = (raw.image.width, raw.image.height);
        match &self.options.patch {
            None => Ok(self.options.preprocess.window(width, height)),
            Some(patch) => patch
                .window(&[self.options.seed, split.slot() as u64, i as u64], width, height)
                .ok_or_else(|| patch.too_large(Path::new(&entry.id), width, height)),
        }
    }

    fn per_image(&self) -> usize {
        self.options.patch.map_or(1, |patch| patch.per_image)
    }

    /// Remembers a file that could not be used; machine faults are not the file's.
    pub(crate) fn reject(&self, error: &DataError) {
        if let DataError::File { path, reason } = error {
            let path = path.to_string_lossy().into_owned();
            self.found().rejected.insert(Rejected { path, reason: reason.clone() });
        }
    }

    /// Files that could not be used so far: [`Findings::rejected`].
    pub fn rejected(&self) -> Vec<Rejected> {
        self.found().rejected.iter().cloned().collect()
    }

    /// What is not used of the set, as far as it has been loaded.
    pub fn findings(&self) -> Findings {
        let found = self.found();
        let masks = self.met.masks.clone().map(|masks| MaskReport {
            empty: found.empty_masks.iter().cloned().collect(),
            unusable: found.unusable_masks.iter().cloned().collect(),
            ..masks
        });
        let rejected = found.rejected.iter().cloned().collect();
        let bits = found.largest_sample.map(|largest| u16::BITS - largest.leading_zeros());
        let bits_used = bits.filter(|&bits| bits < u16::BITS && self.options.bits.is_none());
        let folders: BTreeSet<String> = self.places().into_iter().map(|place| place.folder).collect();
        let is_told = !self.states_training() || folders.len() > 1 && self.layout() == "folder";
        let found = is_told.then(|| self.why());
        Findings { rejected, skipped: self.met.skipped.clone(), found, masks, bits_used }
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        // The sets are valid after any panic: insertion is their only change.
        self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Every entry of a split.
    pub fn all(&self, split: Split) -> Indices {
        Indices::all(self.len(split))
    }

    /// Splits the training entries into (training, validation) at random; patches of one image stay together.
    ///
    /// `fraction` in [0, 1) of the images is held out, at least one if `fraction` > 0, and at least one is
    /// kept.
    /// Errors: a fraction outside the range, or too few images.
    pub fn holdout(&self, fraction: f64, seed: u64) -> Result<(Indices, Indices), DataError> {
        Indices::holdout(self.source.len(Split::Train), self.per_image(), fraction, seed)
    }

    /// As [`Dataset::holdout`], by whole groups: groups in a random order are held out until they hold the
    /// share of the images, and at least one is kept.
    ///
    /// # Errors
    /// As [`Dataset::holdout`] and [`Dataset::groups`], and for fewer than two groups.
    pub fn holdout_groups(
        &self,
        rule: &GroupRule,
        fraction: f64,
        seed: u64,
    ) -> Result<(Indices, Indices), DataError> {
        let groups = self.groups_of_images(Split::Train, rule)?;
        Indices::holdout_groups(&groups, self.per_image(), fraction, seed)
    }

    /// Which group each entry of a split belongs to.
    ///
    /// # Errors
    /// The first entry whose path the rule does not match.
    pub fn groups(&self, split: Split, rule: &GroupRule) -> Result<Groups, DataError> {
        let Groups { of, names } = self.groups_of_images(split, rule)?;
        let of = of.into_iter().flat_map(|group| std::iter::repeat_n(group, self.per_image())).collect();
        Ok(Groups { of, names })
    }

    fn groups_of_images(&self, split: Split, rule: &GroupRule) -> Result<Groups, DataError> {
        let ids = (0..self.images(split)).map(|i| self.source.entry(split, i).id);
        Groups::of_names(ids.map(|id| rule.of(&id).map(str::to_owned)))
    }

    /// Groups that the names of a split's normal images suggest; none of what are no files.
    pub fn suggested_groups(&self, split: Split) -> Option<SuggestedGroups> {
        let entries = (0..self.images(split)).map(|i| self.source.entry(split, i));
        let ids: Vec<String> = entries.filter(|e| e.truth == Truth::Normal).map(|e| e.id).collect();
        suggested(ids.iter().map(String::as_str))
    }

    /// SHA-256 over what identifies a split (names and sizes of files, bytes of labelled sets, recipe of
    /// built-in ones) and the patches, as 64 hexadecimal digits. Nothing is decoded; the set's place does not
    /// matter.
    pub fn digest(&self, split: Split) -> Result<String, DataError> {
        let mut hasher = Sha256::new();
        hasher.update(format!("{} {}\n", self.layout(), split.name()));
        if let Some(patch) = &self.options.patch {
            hasher.update(format!("{} × {} seed {}\n", patch.size, patch.per_image, self.options.seed));
        }
        if self.options.flatten {
            hasher.update("flattened\n");
        }
        self.source.digest(split, &mut hasher)?;
        Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn check(options: &OpenOptions) -> Result<(), DataError> {
    options.preprocess.check()?;
    if let Some(bits) = options.bits.filter(|bits| !(2..=16).contains(bits)) {
        return Err(DataError::option("bits", bits, "use 2 to 16, what the camera gives"));
    }
    if let Some([centre, width]) = options.window
        && !(centre.is_finite() && width.is_finite() && width >= 1.0)
    {
        let reason = "use a centre and a width of at least 1, in the rescaled values of the files, as 40,400";
        return Err(DataError::option("window", format!("{centre},{width}"), reason));
    }
    if let Some(pattern) = &options.mask_name {
        source::check_pattern(pattern)?;
    }
    options.patch.map_or(Ok(()), |patch| patch.check())
}
