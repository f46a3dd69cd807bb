//! Scores of labelled test images by one model, and every metric of them.

use std::collections::HashSet;
#[cfg(feature = "report")]
use std::path::PathBuf;
use std::sync::Arc;

use ganomede_datasets::memory::{Held, Short};
use ganomede_datasets::{Dataset, Groups, Indices, Mask, OpenOptions, Split, Truth};

use rayon::prelude::*;

use super::{Images, is_own, options_of};
use crate::detect::apply::{Selection, no_image};
use crate::detect::assess::{balanced, calibrated};
use crate::detect::look::{Look, Looked, look_with};
use crate::detect::maps::maps_of;
use crate::detect::{
    Applied, Assess, Assessment, DetectError, FoundByTiles, HeldOut, Judge, Maps, Observer, SampleAssessment,
    Samples, TestData, TestSet,
};
#[cfg(feature = "report")]
use crate::detect::{Pages, images::pages, images::whole::Reducing};
use crate::eval::{Appearance, Control, Evaluation, EvaluationInput, PixelMap, PixelPool, two_numbers};
use crate::models::file::ModelFile;
use crate::models::scorer::{Found, is_searched, untrained};
use crate::report::ScoredImage;
#[cfg(feature = "report")]
use crate::report::Whole;

/// The labelled test images of a set, or a part of them.
pub struct ImageTests {
    /// How they were opened.
    pub data: TestData,
    /// The set.
    pub dataset: Arc<Dataset>,
    /// Entries of its test part that are scored, in order.
    pub indices: Indices,
    /// How the part was chosen.
    pub sub_sample: Option<String>,
}

impl ImageTests {
    /// All labelled test images of a set as a model was trained, or a balanced part of them.
    ///
    /// # Errors
    /// [`DetectError`] where the set cannot be read; else as [`ImageTests::new`].
    pub fn open(data: TestData, model: &ModelFile, observer: &mut dyn Observer) -> Result<Self, DetectError> {
        let dataset = Dataset::open(&data.spec, &options_of(model, data.reading.images.clone()))?;
        observer.opened(&dataset.findings());
        Self::new(data, Arc::new(dataset))
    }

    /// As [`ImageTests::open`], of a set that is open.
    ///
    /// # Errors
    /// For a set without labels or a limit too small.
    pub fn new(data: TestData, dataset: Arc<Dataset>) -> Result<Self, DetectError> {
        let truth = |i| dataset.entry(Split::Test, i).map_or(Truth::Unknown, |entry| entry.truth);
        if (0..dataset.len(Split::Test)).all(|i| truth(i) == Truth::Unknown) {
            return Err(DetectError::Input(format!(
                "'{}' has no labelled test images; eval needs test/good and test/<defect> folders, or a labelled \
                 set with `normal-class`; `ganomede score` works without labels",
                data.spec
            )));
        }
        // What the rule of groups does not match is said before anything is scored.
        dataset.options().group.as_ref().map(|rule| dataset.groups(Split::Test, rule)).transpose()?;
        let (indices, sub_sample) = choose(&dataset, data.limit, data.seed)?;
        Ok(Self { data, dataset, indices, sub_sample })
    }

    /// As [`TestSet::assess`]; `see` is given each labelled image as the networks saw it, with what was
    /// found.
    pub(super) fn assess_seen(
        &self,
        model: &mut Applied<'_>,
        how: &Assess,
        see: Option<See<'_>>,
    ) -> Result<SampleAssessment, DetectError> {
        let held_out = |model: &mut Applied<'_>| match Images::held_out_of(model.model, &self.dataset)? {
            Some(images) => images.held_out_by(how.batch, model),
            None => Ok(HeldOut::default()),
        };
        let absent = "no threshold: these search settings differ from the calibrated ones and the training data are not here";
        let calibration = calibrated(model, how.rate, held_out, absent)?;
        let judge = Judge::new(calibration.as_ref(), how.rate)?;
        let config = &model.model.header.config;
        let scale = calibration.as_ref().and_then(|c| maps_of(c, model.score, config));
        let maps = Maps::new(model.model, model.score, scale)?;
        let selection =
            Selection { data: self.dataset.clone(), split: Split::Test, indices: self.indices.clone() };
        let mut assessing = Assessing::new(&judge, &maps, config.extent(), see);
        let (count, seconds) = look_with(model, &maps, &selection, how.batch, "scoring", &mut assessing)?;
        let Assessing { scores, truths, entries, numbers, images, maps: mut of_images, pool, short, .. } =
            assessing;
        // After the clock has stopped: what is timed are scores.
        of_images.par_iter_mut().for_each(|(map, _)| *map = maps.of(map));
        if let Some(short) = short {
            model.observer.note(&format!("no pixel metrics: to compare all pixels {short}"));
        }
        let findings = self.dataset.findings();
        model.observer.findings(&findings);
        if scores.is_empty() {
            return Err(no_image(&self.data.spec, &findings.rejected));
        }
        let classes: Vec<String> = images.iter().map(|i| i.class.clone()).collect();
        // What lies around a picture, where it was padded, is none of it.
        let pixels: Vec<_> = of_images
            .iter()
            .map(|(map, mask)| (mask.of_picture(map), mask.of_picture(&mask.pixels), mask.picture))
            .collect();
        let pixels: Vec<_> = pixels
            .iter()
            .map(|(map, mask, picture)| PixelMap { height: picture.height, width: picture.width, map, mask })
            .collect();
        let description = model.device.describe();
        let (groups, shared) = self.groups(model.model, &entries)?;
        let mut evaluation = Evaluation::new(&EvaluationInput {
            system: &model.model.header.system,
            device: &description,
            scores: &scores,
            truths: &truths,
            classes: &classes,
            groups: &groups,
            pixels: &pixels,
            threshold: judge.threshold,
            seconds_per_image: seconds / count.max(1) as f64,
            sub_sample: self.sub_sample.clone(),
            seed: how.seed,
            pooled: pool.and_then(PixelPool::metrics),
        })?;
        let findings = Some(findings);
        let appearance = model.model.header.appearance.as_ref();
        evaluation
            .warnings
            .extend(appearance.and_then(|appearance| other_light(appearance, &numbers, &truths)));
        evaluation.warnings.extend(shared);
        let controls = self.controls(model, how, &numbers, &truths, &groups)?;
        let evaluation = evaluation.with_controls(controls);
        Ok(SampleAssessment { evaluation, findings, rows: None, images })
    }

    /// Number of the group of each entry, where they come in groups, and a warning of groups that the model
    /// was trained on.
    fn groups(
        &self,
        model: &ModelFile,
        entries: &[usize],
    ) -> Result<(Vec<u32>, Option<String>), DetectError> {
        let Some(rule) = &self.dataset.options().group else { return Ok((vec![], None)) };
        let groups = self.dataset.groups(Split::Test, rule)?;
        let of: Vec<u32> = entries.iter().map(|&entry| groups.of[entry]).collect();
        let trained_on = match is_own(model, &self.dataset)? {
            // What the rule does not match is in no group that a test image is in.
            true => self.dataset.groups(Split::Train, rule).unwrap_or_default(),
            false => Groups::default(),
        };
        let known: HashSet<&String> = trained_on.names.iter().collect();
        let tested: HashSet<u32> = of.iter().copied().collect();
        let both = tested.iter().filter(|&&group| known.contains(&groups.names[group as usize])).count();
        let warning = (both > 0).then(|| {
            format!(
                "{both} of {} groups of test images are groups of training images as well: metrics are better than \
                 of groups that the model has not seen",
                tested.len()
            )
        });
        Ok((of, warning))
    }

    /// What the same images get without training: by two numbers, by the network as it was before, by a
    /// constant. The network is left out of searched scores and of large images, for which it takes as long
    /// as the model.
    fn controls(
        &self,
        model: &mut Applied<'_>,
        how: &Assess,
        numbers: &[[f64; 2]],
        truths: &[bool],
        groups: &[u32],
    ) -> Result<Vec<Control>, DetectError> {
        let header = &model.model.header;
        let mut controls = vec![];
        if let Some(appearance) = &header.appearance {
            let scores: Vec<f64> = numbers.iter().map(|&two| appearance.distance(two)).collect();
            controls.push(Control::new(Control::TWO_NUMBERS, &scores, truths, groups, how.seed)?);
        }
        let cheap = header.data.tiles.is_none() && !is_searched(header, model.score, how.batch)?;
        if let Some(untrained) = if cheap { untrained(model.device, header)? } else { None } {
            let (path, score, observer) = (model.path, model.score, &mut *model.observer);
            let mut before = Applied { device: model.device, model: &untrained, path, score, observer };
            let maps = Maps::new(&untrained, score, None)?;
            let selection =
                Selection { data: self.dataset.clone(), split: Split::Test, indices: self.indices.clone() };
            let mut scores = Scores::default();
            match look_with(&mut before, &maps, &selection, how.batch, "scoring untrained", &mut scores) {
                // An image that was read may be gone, and a network that was never trained may have no finite
                // score: no row, then.
                Ok(_) if scores.0.len() == truths.len() => {
                    controls.push(Control::new(Control::UNTRAINED, &scores.0, truths, groups, how.seed)?);
                }
                Err(DetectError::Stopped) => return Err(DetectError::Stopped),
                Ok(_) | Err(_) => {}
            }
        }
        controls.push(Control::new(Control::CONSTANT, &vec![0.0; truths.len()], truths, groups, how.seed)?);
        Ok(controls)
    }
}

/// A warning where normal test images look otherwise than the training images.
fn other_light(appearance: &Appearance, numbers: &[[f64; 2]], truths: &[bool]) -> Option<String> {
    let normal: Vec<[f64; 2]> =
        numbers.iter().zip(truths).filter(|(_, t)| !**t).map(|(two, _)| *two).collect();
    appearance.warning(&normal)
}

/// Brightness and contrast of an image as the networks see it; of one that is seen by tiles, the mean of nine
/// of them, spread over it.
fn numbers_of(image: &Looked<'_>, [height, width]: [usize; 2]) -> Result<[f64; 2], DetectError> {
    if let Some(input) = image.input {
        return Ok(two_numbers(input));
    }
    let whole = image.whole()?;
    let [h, w] = whole.size();
    let mut sum = [0.0; 2];
    for i in 0..9 {
        let at = |k: usize, side: usize, tile: usize| k * side.saturating_sub(tile) / 2;
        let two = two_numbers(&whole.tile([at(i % 3, w, width), at(i / 3, h, height)]).pixels);
        sum = [sum[0] + two[0] / 9.0, sum[1] + two[1] / 9.0];
    }
    Ok(sum)
}

/// Keeps the scores of labelled images.
#[derive(Default)]
struct Scores(Vec<f64>);

impl Look for Scores {
    fn end(
        &mut self,
        image: &Looked<'_>,
        found: &Found,
        _: Option<&FoundByTiles>,
    ) -> Result<(), DetectError> {
        if image.truth != Truth::Unknown {
            self.0.push(found.score);
        }
        Ok(())
    }
}

/// Sees each labelled image.
pub(super) type See<'a> = &'a mut dyn FnMut(&SeenImage<'_>);

/// A labelled image as the networks saw it: whole, or the tile with the highest score.
#[cfg_attr(not(feature = "report"), expect(dead_code, reason = "only an evaluation's pages look at it"))]
pub(super) struct SeenImage<'a> {
    pub(super) id: &'a str,
    pub(super) class: &'a str,
    pub(super) anomalous: bool,
    pub(super) values: &'a [f32],
    pub(super) mask: Option<&'a [bool]>,
    pub(super) found: &'a Found,
    /// How its map is shown.
    pub(super) maps: &'a Maps<'a>,
    /// Draws the image of which `values` are a tile.
    #[cfg(feature = "report")]
    pub(super) whole: Option<&'a dyn Fn() -> Whole>,
}

/// What is gathered on the way.
struct Assessing<'a, 's> {
    judge: &'a Judge<'a>,
    how: &'a Maps<'a>,
    see: Option<See<'s>>,
    scores: Vec<f64>,
    truths: Vec<bool>,
    /// Entry of each in the test part.
    entries: Vec<usize>,
    /// Brightness and contrast of each.
    numbers: Vec<[f64; 2]>,
    /// Height and width of what the networks see.
    extent: [usize; 2],
    images: Vec<ScoredImage>,
    /// Maps of whole images, of the networks' size, with the truth of their pixels.
    maps: Vec<(Vec<f32>, Mask)>,
    /// Pixels of images that are seen by tiles, at their own resolution.
    pool: Option<PixelPool>,
    held: Held,
    short: Option<Short>,
    /// Of the image at hand: whether its pixels are compared, their labels, and the rows seen.
    pooled: bool,
    labels: Option<Vec<u32>>,
    row: usize,
    /// The same, made small for a page.
    #[cfg(feature = "report")]
    reducing: Option<Reducing>,
}

impl<'a, 's> Assessing<'a, 's> {
    fn new(judge: &'a Judge<'a>, how: &'a Maps<'a>, extent: [usize; 2], see: Option<See<'s>>) -> Self {
        Self {
            judge,
            how,
            see,
            scores: vec![],
            truths: vec![],
            entries: vec![],
            numbers: vec![],
            extent,
            images: vec![],
            maps: vec![],
            pool: None,
            held: Held::default(),
            short: None,
            pooled: false,
            labels: None,
            row: 0,
            #[cfg(feature = "report")]
            reducing: None,
        }
    }
}

impl Assessing<'_, '_> {
    /// Whether the pixels of a large image are compared with its mask, whose labels are made then.
    fn compares_pixels(&mut self, image: &Looked<'_>) -> Result<bool, DetectError> {
        if self.short.is_some() {
            return Ok(false);
        }
        let whole = image.whole()?;
        if !whole.has_mask() {
            return Ok(false);
        }
        let [height, width] = image.size;
        // A key a pixel, twice where it is anomalous; and while the image is at hand its mask with labels.
        if let Err(short) = self.held.grow((8 * height * width) as u64) {
            (self.short, self.pool) = (Some(short), None);
            return Ok(false);
        }
        let mask = whole.mask().filter(|mask| mask.contains(&true));
        let pool = self.pool.get_or_insert_default();
        self.labels = mask.map(|mask| pool.components(&mask, height, width));
        Ok(true)
    }

    /// Whether the image at hand is made small for a page.
    fn is_drawn(&self) -> bool {
        #[cfg(feature = "report")]
        return self.reducing.is_some();
        #[cfg(not(feature = "report"))]
        false
    }
}

impl Look for Assessing<'_, '_> {
    fn begin(&mut self, image: &Looked<'_>) -> Result<bool, DetectError> {
        (self.pooled, self.labels, self.row) = (false, None, 0);
        if image.input.is_some() || image.truth == Truth::Unknown {
            return Ok(false);
        }
        #[cfg(feature = "report")]
        {
            self.reducing = self.see.as_ref().map(|_| Reducing::new(image.size));
        }
        self.pooled = self.compares_pixels(image)?;
        Ok(self.pooled || self.is_drawn())
    }

    fn row(&mut self, image: &Looked<'_>, row: &[f32]) -> Result<(), DetectError> {
        #[cfg(feature = "report")]
        if let Some(reducing) = &mut self.reducing {
            reducing.row(row);
        }
        if self.pooled
            && let Some(pool) = &mut self.pool
        {
            let at = self.row * image.size[1];
            let labels = self.labels.as_ref().map(|labels| &labels[at..][..row.len()]);
            pool.values(row, labels)?;
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
        let anomalous = match image.truth {
            Truth::Normal => false,
            Truth::Anomalous => true,
            Truth::Unknown => return Ok(()),
        };
        self.images.push(ScoredImage {
            id: image.id.to_owned(),
            class: image.class.to_owned(),
            anomalous: Some(anomalous),
            score: found.score,
            probability: self.judge.probability(found.score),
            percentile: self.judge.percentile(found.score),
            verdict: self.judge.is_anomalous(found.score),
        });
        self.scores.push(found.score);
        self.truths.push(anomalous);
        self.entries.push(image.index);
        self.numbers.push(numbers_of(image, self.extent)?);
        let (tile, of_tile);
        let (values, mask) = match (image.input, tiles) {
            (Some(input), _) => (input, image.mask.map(|mask| &mask.pixels[..])),
            (None, tiles) => {
                let whole = image.whole()?;
                let at = tiles.map_or([0, 0], |by| by.highest);
                (tile, of_tile) = (whole.tile(at).pixels, whole.tile_mask(at));
                (&tile[..], of_tile.as_deref())
            }
        };
        #[cfg(feature = "report")]
        let reduced = match (&self.reducing, tiles) {
            (Some(reducing), Some(by)) => Some((reducing, image.whole()?, by.highest, self.extent)),
            _ => None,
        };
        #[cfg(feature = "report")]
        let draw = reduced.map(|(reducing, whole, at, extent)| move || reducing.drawn(whole, at, extent));
        if let Some(see) = &mut self.see {
            see(&SeenImage {
                id: image.id,
                class: image.class,
                anomalous,
                values,
                mask,
                found,
                maps: self.how,
                #[cfg(feature = "report")]
                whole: draw.as_ref().map(|draw| draw as &dyn Fn() -> Whole),
            });
        }
        if let (Some(_), Some(mask), Some(map)) = (image.input, image.mask, &found.map) {
            self.maps.push((map.clone(), mask.clone()));
        }
        Ok(())
    }
}

impl TestSet for ImageTests {
    fn assess(&self, model: &mut Applied<'_>, how: &Assess) -> Result<Assessment, DetectError> {
        let assessed = self.assess_seen(model, how, None)?;
        Ok(Assessment::Samples(Box::new(assessed)))
    }

    #[cfg(feature = "report")]
    fn report(
        &self,
        model: &mut Applied<'_>,
        how: &Assess,
        pages: &Pages<'_>,
    ) -> Result<(Assessment, [PathBuf; 2]), DetectError> {
        pages::write(self, model, how, pages)
    }

    fn again(&self, model: &ModelFile, seed: u64) -> Result<Box<dyn Samples>, DetectError> {
        let given = OpenOptions { without_masks: true, ..self.data.reading.images.clone() };
        let dataset = Dataset::open(&self.data.spec, &options_of(model, given))?;
        Ok(Box::new(Images::again(Arc::new(dataset), model, seed)?))
    }
}

/// All test entries, or a balanced sub-sample of them with a sentence about it.
fn choose(
    dataset: &Dataset,
    limit: Option<usize>,
    seed: u64,
) -> Result<(Indices, Option<String>), DetectError> {
    let total = dataset.len(Split::Test);
    let is_anomalous = |i: usize| match dataset.entry(Split::Test, i).map(|e| e.truth) {
        Some(Truth::Normal) => Some(false),
        Some(Truth::Anomalous) => Some(true),
        // Patches of anomalous images: their masks tell when they are loaded.
        Some(Truth::Unknown) if dataset.options().patch.is_some() => Some(true),
        _ => None,
    };
    Ok(match balanced(total, limit, seed, "images", is_anomalous)? {
        Some((chosen, note)) => (Indices::list(chosen), Some(note)),
        None => (dataset.all(Split::Test), None),
    })
}
