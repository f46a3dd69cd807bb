//! Images that are judged one after the other, with their maps at their own size: by tiles or whole.

use std::cell::OnceCell;
use std::time::Instant;

use ganomede_datasets::{Dataset, Frame, Mask, Split, Truth, WholeImage};

use super::apply::{Selection, score_selection};
use super::tiles::{FoundByTiles, TileScorer, tiling};
use super::{Applied, DetectError, Maps, Observer, Progress, own};
use crate::maps::View;
use crate::models::scorer::Found;

/// An image that is looked at.
pub struct Looked<'a> {
    data: &'a Dataset,
    split: Split,
    /// Its entry in the split.
    pub index: usize,
    /// As [`ganomede_datasets::Entry::id`].
    pub id: &'a str,
    /// As [`ganomede_datasets::Entry::class`].
    pub class: &'a str,
    /// As [`ganomede_datasets::Entry::truth`].
    pub truth: Truth,
    /// Height and width of the image itself.
    pub size: [usize; 2],
    /// What the networks see of it, `[channels, height, width]`; `None` where they see tiles.
    pub input: Option<&'a [f32]>,
    /// Anomalous pixels of the input, where they are known.
    pub mask: Option<&'a Mask>,
    whole: OnceCell<WholeImage>,
    at_hand: Option<&'a WholeImage>,
}

impl Looked<'_> {
    /// The image at its own resolution; decoded anew where only the networks' input is at hand.
    ///
    /// # Errors
    /// [`DetectError::Data`] where it cannot be decoded any more.
    pub fn whole(&self) -> Result<&WholeImage, DetectError> {
        if let Some(whole) = self.at_hand.or_else(|| self.whole.get()) {
            return Ok(whole);
        }
        let whole = self.data.whole(self.split, self.index)?;
        Ok(self.whole.get_or_init(|| whole))
    }
}

/// Sees images with what is found in them.
pub trait Look {
    /// Before an image; whether the rows of its map are wanted.
    ///
    /// # Errors
    /// Ends the work.
    fn begin(&mut self, _image: &Looked<'_>) -> Result<bool, DetectError> {
        Ok(false)
    }

    /// The next row of the map, as wide as the image; NaN where the networks saw nothing.
    ///
    /// # Errors
    /// Ends the work.
    fn row(&mut self, _image: &Looked<'_>, _row: &[f32]) -> Result<(), DetectError> {
        Ok(())
    }

    /// What was found; the map is that of the networks' input, as the system gives it. Of an image that was
    /// seen by its tiles that is the one with the highest score, and `tiles` says which.
    ///
    /// # Errors
    /// Ends the work.
    fn end(
        &mut self,
        image: &Looked<'_>,
        found: &Found,
        tiles: Option<&FoundByTiles>,
    ) -> Result<(), DetectError>;
}

/// Judges the images of a selection in their order, `batch` samples (images, or tiles of one) side by side;
/// maps are on the scale that the model has of its own. Returns images and seconds.
///
/// # Errors
/// [`DetectError`] where an image cannot be read or scored, the observer stops it, or `look` ends it.
pub fn look_at(
    model: &mut Applied<'_>,
    selection: &Selection,
    batch: usize,
    task: &'static str,
    look: &mut dyn Look,
) -> Result<(usize, f64), DetectError> {
    let maps = Maps::own(model.model, model.score)?;
    look_with(model, &maps, selection, batch, task, look)
}

/// As [`look_at`], with maps on a scale of the caller's.
///
/// # Errors
/// As [`look_at`].
pub fn look_with(
    model: &mut Applied<'_>,
    maps: &Maps<'_>,
    selection: &Selection,
    batch: usize,
    task: &'static str,
    look: &mut dyn Look,
) -> Result<(usize, f64), DetectError> {
    if tiling(model.model, model.score).is_some() {
        return by_tiles(model, selection, batch, task, look);
    }
    let mut scorer = model.scorer(batch.min(selection.indices.len().max(1)))?;
    let (data, split, len) = (selection.data.as_ref(), selection.split, scorer.image_len());
    score_selection(&mut scorer, selection, task, model.observer, &mut |batch, found| {
        for (i, found) in found.iter().enumerate() {
            let frame = batch.frames[i];
            let image = Looked {
                data,
                split,
                index: batch.indices[i],
                id: &batch.ids[i],
                class: &batch.classes[i],
                truth: batch.truths[i],
                size: frame.size,
                input: Some(&batch.images[i * len..][..len]),
                mask: batch.masks[i].as_ref(),
                whole: OnceCell::new(),
                at_hand: None,
            };
            if let (true, Some(map)) = (look.begin(&image)?, &found.map) {
                maps.rows(map, view(frame), frame.size, &mut |row| look.row(&image, row))?;
            }
            look.end(&image, found, None)?;
        }
        Ok(())
    })
}

fn view(frame: Frame) -> View {
    let [x, y, width, height] = frame.part;
    View { x, y, width, height }
}

/// One image after the other, at its own resolution.
fn by_tiles(
    model: &mut Applied<'_>,
    selection: &Selection,
    batch: usize,
    task: &'static str,
    look: &mut dyn Look,
) -> Result<(usize, f64), DetectError> {
    let total = Some(selection.indices.len() as u64);
    let progress =
        Progress { task, unit: "images", first: 0, done: 0, total, stage: None, losses: &[], ended: false };
    model.observer.progress(&progress);
    let started = Instant::now();
    let mut seen = 0;
    let done = each_by_tiles(model, selection, batch, look, &mut |observer| {
        seen += 1;
        observer.progress(&Progress { done: seen, ..progress });
    });
    model.observer.progress(&Progress { done: seen, ended: true, ..progress });
    Ok((done?, started.elapsed().as_secs_f64()))
}

fn each_by_tiles(
    model: &mut Applied<'_>,
    selection: &Selection,
    batch: usize,
    look: &mut dyn Look,
    seen: &mut dyn FnMut(&mut dyn Observer),
) -> Result<usize, DetectError> {
    let mut scorer = TileScorer::new(model, batch)?;
    let images = selection.indices.len();
    let calibrated = own(model.model, model.score).and_then(|calibration| calibration.tiles);
    let (mut done, mut said) = (0, false);
    for entry in selection.indices.iter() {
        if !model.observer.goes_on() {
            return Err(DetectError::Stopped);
        }
        let whole = match selection.data.whole(selection.split, entry) {
            Ok(whole) => whole,
            Err(error) if error.is_machine_fault() || selection.data.options().strict => {
                return Err(error.into());
            }
            // It is among the set's findings.
            Err(_) => {
                seen(model.observer);
                continue;
            }
        };
        if done == 0
            && let Some(cost) = scorer.cost(images, whole.size())
        {
            model.observer.note(&cost);
        }
        let image = Looked {
            data: &selection.data,
            split: selection.split,
            index: entry,
            id: whole.id(),
            class: whole.class(),
            truth: whole.truth(),
            size: whole.size(),
            input: None,
            mask: None,
            whole: OnceCell::new(),
            at_hand: Some(&whole),
        };
        let found = if look.begin(&image)? {
            scorer.score(&whole, model.observer, Some(&mut |row| look.row(&image, row)))?
        } else {
            scorer.score(&whole, model.observer, None)?
        };
        look.end(&image, &found.found, Some(&found))?;
        if let Some(other) = calibrated.and_then(|few_and_many| unlike(found.tiles, few_and_many))
            && !std::mem::replace(&mut said, true)
        {
            model.observer.note(&format!(
                "{} has {} tiles, {other} than the held-out images that the threshold is of: verdicts keep their \
                 false-alarm rate for images of the size of those only; hold out images of this size",
                ganomede_host::line(image.id),
                found.tiles
            ));
        }
        done += 1;
        seen(model.observer);
    }
    Ok(done)
}

/// How an image differs in the number of its tiles from those that were held out, where it does by more than
/// a quarter.
fn unlike(tiles: usize, [few, many]: [usize; 2]) -> Option<&'static str> {
    if tiles.saturating_mul(4) > many.saturating_mul(5) {
        Some("more")
    } else if tiles.saturating_mul(5) < few.saturating_mul(4) {
        Some("fewer")
    } else {
        None
    }
}
