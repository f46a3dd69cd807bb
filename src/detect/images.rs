//! Images of a data set as samples.

mod assess;
#[cfg(feature = "report")]
mod compare;
#[cfg(feature = "report")]
mod pages;
mod score;
#[cfg(feature = "report")]
mod whole;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use ganomede_datasets::{
    Augment, BatchOptions, Batches, Channels, DataError, Dataset, Findings, GroupRule, Indices, OpenOptions,
    PatchOptions, Preprocess, Split, SuggestedGroups, TileBatches, TileOptions,
};

use super::apply::{Selection, score_selection};
use super::look::{Look, Looked, look_at};
use super::{Applied, DetectError, FoundByTiles, HeldOut, HeldOutMaps, Samples, TrainingData};
use crate::models::Form;
use crate::models::file::{DataInfo, ModelFile, TileInfo};
use crate::models::scorer::{Found, Sampler};
use crate::train::Epoch;

pub use assess::ImageTests;
#[cfg(feature = "report")]
pub use compare::ImageComparison;
pub use score::ImageQueries;
pub(super) use score::normal;

/// Held-out images scored for calibration, at most.
const MAX_CALIBRATION: usize = 256;
/// Patches of each image where no patches are cut: what files that say nothing of them mean.
const PATCHES_PER_IMAGE: usize = 16;

/// The training images of a set, and those of them that are held out.
pub struct Images {
    dataset: Arc<Dataset>,
    training: Indices,
    held_out: Selection,
    augment: Augment,
    /// Of tiles: how they are cut.
    tiles: Option<TileInfo>,
    /// What is remembered beyond what the set itself says: framing, classes, augmentation as text.
    remembered: DataInfo,
}

impl Images {
    /// Opens the images of a folder or set to be trained on, and looks at a few of them.
    ///
    /// # Errors
    /// [`DataError`] where they cannot be read, nothing is normal, or a share is out of range.
    pub fn open(data: &TrainingData) -> Result<Self, DataError> {
        let given = data.reading.images.clone();
        let tiles = data.tiles.is_some();
        let options = OpenOptions { tiles, for_training: true, without_masks: true, ..given };
        let remembered = remembered(&options, data.tiles, &data.augment);
        let dataset = Arc::new(Dataset::open(&data.spec, &options)?);
        dataset.look(Split::Train);
        Self::new(dataset, data.hold_out, data.seed, data.augment.parse()?, remembered)
    }

    /// The training images of a set; a share `val_fraction` of them, drawn by the seed, is held out.
    /// `remembered` is what a model file is to say of framing and classes; what follows from the set is
    /// filled in.
    ///
    /// # Errors
    /// [`DataError`] for a share out of range.
    pub fn new(
        dataset: Arc<Dataset>,
        val_fraction: f64,
        seed: u64,
        augment: Augment,
        remembered: DataInfo,
    ) -> Result<Self, DataError> {
        let (training, held_out) = match &remembered.group {
            None => dataset.holdout(val_fraction, seed)?,
            Some(rule) => dataset.holdout_groups(rule, val_fraction, seed)?,
        };
        let held_out = Selection { data: dataset.clone(), split: Split::Train, indices: held_out };
        let remembered = DataInfo { val_fraction, ..remembered };
        let tiles = remembered.tiles;
        if tiles.is_some_and(|tiles| !(1..=100_000).contains(&tiles.per_image)) {
            let given = tiles.map_or(0, |tiles| tiles.per_image);
            return Err(DataError::option("tiles of an image", given, "use 1 to 100000"));
        }
        Ok(Self { dataset, training, held_out, augment, tiles, remembered })
    }

    /// The training images of a trained model with another seed: other held-out ones.
    ///
    /// # Errors
    /// [`DetectError::Input`] where the set does not hold the images that the model was trained on.
    pub fn again(dataset: Arc<Dataset>, model: &ModelFile, seed: u64) -> Result<Self, DetectError> {
        let info = &model.header.data;
        if !is_own(model, &dataset)? {
            return Err(DetectError::Input(format!(
                "'{}' does not hold the images that the model was trained on ('{}')",
                dataset.spec(),
                info.spec
            )));
        }
        let augment = info.augment.parse()?;
        Ok(Self::new(dataset, info.val_fraction, seed, augment, info.clone())?)
    }

    /// The held-out images of a model, where they are in the set.
    ///
    /// # Errors
    /// [`DataError`] where the set cannot be read.
    pub fn held_out_of(model: &ModelFile, dataset: &Arc<Dataset>) -> Result<Option<Self>, DataError> {
        if !is_own(model, dataset)? {
            return Ok(None);
        }
        let info = &model.header.data;
        let images = Self::new(
            dataset.clone(),
            info.val_fraction,
            model.header.seed,
            Augment::default(),
            info.clone(),
        )?;
        Ok((!images.held_out.indices.is_empty()).then_some(images))
    }

    fn tile_options(&self, batch: usize, seed: u64, epoch: u64, start_batch: usize) -> TileOptions {
        let per_image = self.tiles.map_or(1, |tiles| tiles.per_image);
        TileOptions { per_image, batch, seed, epoch, augment: self.augment.clone(), start_batch }
    }

    /// What the held-out images give in batches of `batch`.
    ///
    /// # Errors
    /// As [`Samples::held_out`].
    pub fn held_out_by(&self, batch: usize, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
        let indices = self.held_out.indices.take(MAX_CALIBRATION);
        if indices.is_empty() {
            return Ok(HeldOut::default());
        }
        let selection = Selection { indices, ..self.held_out.clone() };
        held_out_of_selection(batch, model, &selection, self.remembered.group.as_ref())
    }
}

/// What held-out images of a selection give in batches of `batch`, in the groups that a rule says.
fn held_out_of_selection(
    batch: usize,
    model: &mut Applied<'_>,
    selection: &Selection,
    rule: Option<&GroupRule>,
) -> Result<HeldOut, DetectError> {
    let groups = rule.map(|rule| selection.data.groups(selection.split, rule)).transpose()?;
    let group = |entry: usize| groups.as_ref().map(|groups| groups.of[entry]);
    if model.model.header.data.tiles.is_some() {
        return held_out_by_tiles(batch, model, selection, &group);
    }
    let mut scorer = model.scorer(batch.min(selection.indices.len()))?;
    let (mut scores, mut of_groups) = (vec![], vec![]);
    let mut maps = HeldOutMaps::new(&model.model.header.config, model.score, selection.indices.len());
    let task = "calibrating on held-out normals";
    score_selection(&mut scorer, selection, task, model.observer, &mut |batch, found| {
        of_groups.extend(batch.indices.iter().filter_map(|&entry| group(entry)));
        for found in &found {
            scores.push(found.score);
            maps.iter_mut().for_each(|maps| maps.add(found));
        }
        Ok(())
    })?;
    Ok(HeldOut {
        scores,
        groups: of_groups,
        points: false,
        tiles: None,
        maps: maps.and_then(HeldOutMaps::calibration),
    })
}

/// What whole held-out images give by their tiles.
fn held_out_by_tiles(
    batch: usize,
    model: &mut Applied<'_>,
    selection: &Selection,
    group: &dyn Fn(usize) -> Option<u32>,
) -> Result<HeldOut, DetectError> {
    struct Gather {
        scores: Vec<f64>,
        /// Of each its entry.
        entries: Vec<usize>,
        /// How many each image has.
        tiles: Vec<usize>,
        maps: Option<HeldOutMaps>,
        row: usize,
        given: Option<Box<dyn Fn(usize) -> bool>>,
    }
    impl Look for Gather {
        fn begin(&mut self, image: &Looked<'_>) -> Result<bool, DetectError> {
            let [height, width] = image.size;
            self.row = 0;
            self.given = self.maps.as_mut().map(|maps| {
                let (pixels, count) = maps.pixels();
                Box::new(pixels.begin(height * width, count)) as Box<dyn Fn(usize) -> bool>
            });
            Ok(self.maps.is_some())
        }

        fn row(&mut self, image: &Looked<'_>, row: &[f32]) -> Result<(), DetectError> {
            if let (Some(maps), Some(given)) = (&mut self.maps, &self.given) {
                let first = self.row * image.size[1];
                let (pixels, _) = maps.pixels();
                (0..row.len()).filter(|x| given(first + x)).for_each(|x| pixels.add(row[x]));
            }
            self.row += 1;
            Ok(())
        }

        fn end(
            &mut self,
            image: &Looked<'_>,
            found: &Found,
            tiles: Option<&FoundByTiles>,
        ) -> Result<(), DetectError> {
            self.scores.push(found.score);
            self.entries.push(image.index);
            self.tiles.extend(tiles.map(|by| by.tiles));
            Ok(())
        }
    }
    let maps = HeldOutMaps::new(&model.model.header.config, model.score, selection.indices.len());
    let mut gather = Gather { scores: vec![], entries: vec![], tiles: vec![], maps, row: 0, given: None };
    look_at(model, selection, batch, "calibrating on held-out normals", &mut gather)?;
    let tiles = gather.tiles.iter().min().zip(gather.tiles.iter().max()).map(|(&few, &many)| [few, many]);
    let maps = gather.maps.and_then(HeldOutMaps::calibration);
    let groups = gather.entries.iter().filter_map(|&entry| group(entry)).collect();
    Ok(HeldOut { scores: gather.scores, groups, points: false, tiles, maps })
}

/// Whether a set holds the images that a model was trained on.
fn is_own(model: &ModelFile, dataset: &Dataset) -> Result<bool, DataError> {
    Ok(!dataset.is_empty(Split::Train) && dataset.digest(Split::Train)? == model.header.data.digest)
}

impl Samples for Images {
    fn form(&self) -> Form {
        Form::Image
    }

    fn channels(&self) -> usize {
        self.dataset.options().preprocess.channels.count()
    }

    fn len(&self) -> usize {
        self.training.len() * self.tiles.map_or(1, |tiles| tiles.per_image)
    }

    fn get(&self, i: usize, [seed, epoch]: [u64; 2]) -> Result<Vec<f32>, DataError> {
        let missing = || DataError::option("sample", i, format!("there are {}", self.len()));
        let each = self.tiles.map_or(1, |tiles| tiles.per_image);
        let entry = self.training.get(i / each).ok_or_else(missing)?;
        if self.tiles.is_some() {
            let options = self.tile_options(1, seed, epoch, 0);
            return Ok(self.dataset.random_tile(Split::Train, entry, i % each, &options)?.pixels);
        }
        Ok(self.dataset.load(Split::Train, entry)?.image.pixels)
    }

    /// Decoded on several threads ahead of the training.
    fn rows(
        &self,
        batch: usize,
        rows: Range<usize>,
        seed: u64,
        epoch: u64,
        start: u64,
    ) -> Result<Epoch<'_>, DataError> {
        if self.tiles.is_some() {
            let options = self.tile_options(batch, seed, epoch, start as usize);
            let (data, indices) = (self.dataset.clone(), self.training.clone());
            let tiles = TileBatches::new(data, Split::Train, indices, options)?;
            // The tiles of an image are in many batches: each rank cuts all of them.
            let of = move |tiles: Vec<f32>| {
                let len = tiles.len() / batch;
                if rows.len() == batch { tiles } else { tiles[rows.start * len..rows.end * len].to_vec() }
            };
            return Ok(Box::new(tiles.map(move |tiles| tiles.map(&of))));
        }
        let options = BatchOptions {
            batch,
            seed,
            epoch,
            shuffle: true,
            augment: self.augment.clone(),
            start_batch: start as usize,
            rows: Some(rows),
            drop_last: true,
            ..BatchOptions::default()
        };
        let batches = Batches::new(self.dataset.clone(), Split::Train, self.training.clone(), options)?;
        Ok(Box::new(batches.map(|batch| batch.map(|b| b.images))))
    }

    fn preview(&self) -> Vec<f32> {
        let shown = self.held_out_images().min(Sampler::COUNT / 2);
        (0..shown).filter_map(|i| self.held_out_image(i)).flatten().collect()
    }

    fn held_out_images(&self) -> usize {
        self.held_out.indices.len()
    }

    /// Of tiles a random one of the image. A file that cannot be read is reported where it counts, in
    /// training or calibration.
    fn held_out_image(&self, i: usize) -> Option<Vec<f32>> {
        let entry = self.held_out.indices.get(i)?;
        if self.tiles.is_some() {
            let options = self.tile_options(1, 0, 0, 0);
            return Some(self.dataset.random_tile(Split::Train, entry, 0, &options).ok()?.pixels);
        }
        Some(self.dataset.load(Split::Train, entry).ok()?.image.pixels)
    }

    fn held_out(&self, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
        self.held_out_by(model.model.header.batch, model)
    }

    fn info(&self) -> Result<DataInfo, DataError> {
        Ok(DataInfo {
            spec: self.dataset.spec().to_owned(),
            digest: self.dataset.digest(Split::Train)?,
            training_images: self.len(),
            held_out: self.held_out.indices.len(),
            ..self.remembered.clone()
        })
    }

    /// How the images are grouped, or that they might be.
    fn notes(&self) -> Vec<String> {
        let Some(rule) = &self.remembered.group else {
            let suggested = self.dataset.suggested_groups(Split::Train).map(|found| {
                let SuggestedGroups { rule, groups, images, first } = found;
                format!(
                    "warning: by their names {images} images may come in {groups} groups, the first '{first}' (slices of \
                     a patient, parts of a lot): then held-out ones are no independent normals, and more false alarms \
                     come than are promised; if so, train with --group '{rule}'"
                )
            });
            return suggested.into_iter().collect();
        };
        let Ok(groups) = self.dataset.groups(Split::Train, rule) else { return vec![] };
        let held_out: BTreeSet<u32> = self.held_out.indices.iter().map(|entry| groups.of[entry]).collect();
        vec![format!(
            "{} images in {} groups by '{}', of which {} groups with {} images are held out",
            groups.of.len(),
            groups.len(),
            rule.text(),
            held_out.len(),
            self.held_out.indices.len()
        )]
    }

    fn findings(&self) -> Findings {
        self.dataset.findings()
    }
}

/// What a model file is to remember of how its images were opened; [`options_of`] opens others so.
fn remembered(options: &OpenOptions, tiles: Option<TileInfo>, augment: &str) -> DataInfo {
    DataInfo {
        normal_classes: options.normal_classes.clone(),
        anomalous_classes: options.anomalous_classes.clone(),
        fit: options.preprocess.fit,
        window: options.window,
        flatten: options.flatten,
        bits: options.bits,
        tiles,
        augment: augment.to_owned(),
        patch: options.patch.map(|patch| patch.size),
        patches_per_image: options.patch.map_or(PATCHES_PER_IMAGE, |patch| patch.per_image),
        group: options.group.clone(),
        ..DataInfo::default()
    }
}

/// How a data set is opened for a trained model: sizes, colour and framing are the model's, and so are its
/// classes of a labelled set where `given` names none.
pub fn options_of(model: &ModelFile, given: OpenOptions) -> OpenOptions {
    let (info, config) = (&model.header.data, &model.header.config);
    let channels = if config.channels == 1 { Channels::Gray } else { Channels::Rgb };
    OpenOptions {
        preprocess: Preprocess { channels, fit: info.fit, ..Preprocess::new(config.size) },
        learned_classes: [info.normal_classes.clone(), info.anomalous_classes.clone()],
        flatten: info.flatten,
        patch: info.patch.map(|size| PatchOptions { size, per_image: info.patches_per_image }),
        bits: info.bits,
        tiles: info.tiles.is_some(),
        window: info.window,
        group: given.group.clone().or_else(|| info.group.clone()),
        ..given
    }
}
