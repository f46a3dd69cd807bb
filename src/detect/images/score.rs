//! Images to be scored.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ganomede_datasets::{
    DataError, Dataset, Findings, Indices, OpenOptions, Rejected, Split, Truth, has_image_name,
};
use ganomede_host::line;

use super::{held_out_of_selection, is_own, options_of};
use crate::detect::apply::{Selection, no_image};
use crate::detect::look::{Look, Looked, look_with};
use crate::detect::shard::Listing;
use crate::detect::{
    Answer, Answers, Applied, DetectError, FoundByTiles, HeldOut, Judge, Listed, MapOutputs, Maps,
    NormalData, Queries, QueryData, Shard, tiling,
};
use crate::maps::Regions;
use crate::models::file::ModelFile;
use crate::models::scorer::{Found, has_map};
use crate::report::{NpyRows, PngRows, overlay_row};

/// Images of one or more sets.
pub struct ImageQueries {
    specs: Vec<String>,
    sets: Vec<Selection>,
    /// Files that could not be opened.
    rejected: Vec<Rejected>,
    /// What was decided, a sentence each.
    notes: Vec<String>,
    /// Places of what is scored of each set in the list of all.
    places: Vec<Vec<usize>>,
    listed: Listed,
    shard: Option<Shard>,
}

impl ImageQueries {
    /// Opens everything to be scored; of several paths, a file that cannot be used is listed and skipped
    /// unless the reading is strict.
    ///
    /// # Errors
    /// [`DetectError`] where a set cannot be read, or none holds an image of the part asked for.
    pub fn open(data: QueryData, model: &ModelFile) -> Result<Self, DetectError> {
        let QueryData { specs, reading, split, limit, seed, shard } = data;
        let options = OpenOptions { without_masks: true, ..reading.images };
        let options = options_of(model, options);
        let (mut sets, mut rejected, mut notes) = (vec![], vec![], vec![]);
        for (spec, data) in sets_of(&specs, &options) {
            let data = match data {
                Ok(data) => Arc::new(data),
                Err(DataError::File { path, reason }) if specs.len() > 1 && !options.strict => {
                    rejected.push(Rejected { path: path.to_string_lossy().into_owned(), reason });
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let other = if data.is_empty(Split::Test) { Split::Train } else { Split::Test };
            let parts = match split {
                // Where nothing says what is for training, nothing says what not to score.
                None if !data.states_training() => vec![Split::Train, Split::Test],
                split => vec![split.unwrap_or(other)],
            };
            let total: usize = parts.iter().map(|&split| data.len(split)).sum();
            if total == 0 {
                let name = parts[0].name();
                let reason = format!("'{spec}' has no {name} images; choose the other `split`");
                return Err(DetectError::Input(reason));
            }
            let mut indices: Vec<Indices> = parts.iter().map(|&split| data.all(split)).collect();
            if let Some(limit) = limit.filter(|&limit| limit < total) {
                notes.push(format!("{limit} of {total} images of '{spec}' at random, seed {seed}"));
                indices = drawn(&parts.iter().map(|&split| data.len(split)).collect::<Vec<_>>(), limit, seed);
            }
            let selections = parts.into_iter().zip(indices).filter(|(_, indices)| !indices.is_empty());
            sets.extend(selections.map(|(split, indices)| Selection { data: data.clone(), split, indices }));
        }
        if sets.is_empty() {
            return Err(no_image(&specs.join(" "), &rejected));
        }
        let (mut listing, mut places) = (Listing::new(shard), vec![]);
        for set in &mut sets {
            let name = |entry| match shard {
                None => String::new(),
                Some(_) => set.data.entry(set.split, entry).map_or(String::new(), |entry| entry.id),
            };
            let here = set.indices.iter().filter_map(|entry| Some((listing.next(&name(entry))?, entry)));
            let (of_set, entries): (Vec<_>, Vec<_>) = here.unzip();
            places.push(of_set);
            if shard.is_some() {
                set.indices = Indices::list(entries);
            }
        }
        let listed = listing.finish();
        Ok(Self { specs, sets, rejected, notes, places, listed, shard })
    }
}

/// Opens what is to be scored. Images that are listed one after the other are a set together, as those of a
/// folder are, so that they are scored in batches.
fn sets_of<'a>(
    specs: &'a [String],
    options: &'a OpenOptions,
) -> impl Iterator<Item = (String, Result<Dataset, DataError>)> + 'a {
    let is_image = |spec: &String| has_image_name(Path::new(spec)) && Path::new(spec).is_file();
    specs.chunk_by(move |a, b| is_image(a) && is_image(b)).flat_map(|listed| {
        match Dataset::open_all(listed, options) {
            // Each says what is wrong with it.
            Err(_) if listed.len() > 1 => {
                listed.iter().map(|spec| (spec.clone(), Dataset::open(spec, options))).collect()
            }
            data => vec![(listed.join(" "), data)],
        }
    })
}

/// What normal images give that the model was not trained on: the training part of a set, or all images of a
/// folder without labels.
pub(in crate::detect) fn normal(data: &NormalData, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
    let given = OpenOptions { without_masks: true, ..data.reading.images.clone() };
    let dataset = Arc::new(Dataset::open(&data.spec, &options_of(model.model, given))?);
    model.observer.opened(&dataset.findings());
    if is_own(model.model, &dataset)? {
        return Err(data.seen());
    }
    let split = if dataset.is_empty(Split::Train) { Split::Test } else { Split::Train };
    let truth = |i| dataset.entry(split, i).map_or(Truth::Unknown, |entry| entry.truth);
    if let Some(i) = (0..dataset.len(split)).find(|&i| truth(i) == Truth::Anomalous) {
        let id = dataset.entry(split, i).map_or(String::new(), |entry| entry.id);
        return Err(DetectError::Input(format!(
            "'{}' holds anomalous images, the first is {}; a threshold comes from normal ones: give a folder of them",
            data.spec,
            line(&id)
        )));
    }
    let selection = Selection { data: dataset.clone(), split, indices: dataset.all(split) };
    let held_out =
        held_out_of_selection(model.model.header.batch, model, &selection, dataset.options().group.as_ref())?;
    let findings = dataset.findings();
    model.observer.findings(&findings);
    if held_out.scores.is_empty() {
        return Err(no_image(&data.spec, &findings.rejected));
    }
    Ok(held_out)
}

/// `limit` samples of parts of these lengths, drawn by the seed, in their order.
fn drawn(lengths: &[usize], limit: usize, seed: u64) -> Vec<Indices> {
    let mut chosen: Vec<_> = Indices::shuffled(lengths.iter().sum(), seed).take(limit).iter().collect();
    chosen.sort_unstable();
    let mut first = 0;
    let part = |&length: &usize| {
        let of_part = chosen.iter().filter(|&&i| (first..first + length).contains(&i)).map(|i| i - first);
        let indices = Indices::list(of_part.collect());
        first += length;
        indices
    };
    lengths.iter().map(part).collect()
}

impl Queries for ImageQueries {
    fn answers(
        &self,
        model: &mut Applied<'_>,
        judge: &Judge<'_>,
        batch: usize,
        outputs: &MapOutputs,
    ) -> Result<Answers, DetectError> {
        self.notes.iter().for_each(|text| model.observer.note(text));
        let header = &model.model.header;
        // Tiles of a score without a map have their score everywhere.
        let has_map = tiling(model.model, model.score).is_some() || has_map(header, model.score)?;
        if outputs.folder.is_some() && !has_map {
            return Err(DetectError::Input(format!(
                "`maps` show where an image differs; the score '{}' of {} does not say: leave them out",
                model.score.score, header.system
            )));
        }
        let maps = Maps::own(model.model, model.score)?;
        let threshold = maps.threshold(outputs.rate).filter(|_| has_map);
        if outputs.mask && threshold.is_none() {
            return Err(DetectError::Input(
                "the model knows no threshold of pixels for such maps; train it with them and with images held out, \
                 or leave the masks out"
                    .to_owned(),
            ));
        }
        judge.note_missing("scores", model.observer);
        let (range, of_normals) = maps.range();
        if outputs.folder.is_some() {
            model.observer.note(&about(range, of_normals, threshold));
        }
        let (mut rejected, mut skipped) = (self.rejected.clone(), vec![]);
        let regions = threshold.filter(|_| outputs.regions || outputs.mask);
        let mut answering = Answering {
            judge,
            outputs,
            range,
            threshold,
            regions,
            images: vec![],
            ahead: VecDeque::new(),
            at_hand: Drawn::default(),
        };
        let mut listed = Listed { rejected: vec![rejected.len()], ..self.listed.clone() };
        for (set, places) in self.sets.iter().zip(&self.places) {
            answering.ahead = set.indices.iter().zip(places.iter().copied()).collect();
            let findings = set.data.findings();
            model.observer.opened(&findings);
            skipped.extend(findings.skipped);
            if !places.is_empty() {
                look_with(model, &maps, set, batch, "scoring", &mut answering)?;
            }
            let findings = set.data.findings();
            model.observer.findings(&Findings { rejected: vec![], ..findings.clone() });
            listed.rejected.push(findings.rejected.len());
            rejected.extend(findings.rejected);
        }
        let images = answering.images;
        // Of a part, `merge` says it.
        if images.is_empty() && self.shard.is_none() {
            return Err(no_image(&self.specs.join(" "), &rejected));
        }
        model.observer.findings(&Findings { rejected: rejected.clone(), ..Findings::default() });
        let map_range = (outputs.folder.is_some() || regions.is_some()).then_some(range);
        let drift = match self.shard {
            Some(_) => None,
            None => judge.drift(&images, model.observer),
        };
        Ok(Answers::Samples { images, rejected, skipped, map_range, map_threshold: regions, drift, listed })
    }
}

/// A sentence about the scale of the maps.
fn about([low, high]: [f32; 2], of_normals: bool, threshold: Option<f32>) -> String {
    let of = if of_normals {
        "from the median of held-out normal pixels to twice as far as their 99.9 % level"
    } else {
        "fixed, since the model knows nothing of held-out maps of this kind"
    };
    let threshold = threshold.map_or(String::new(), |t| format!("; a pixel is anomalous from {t:.4} on"));
    format!("maps: colours begin at {low:.4} and end at {high:.4} in all pictures ({of}){threshold}")
}

/// Judges images and writes what is wanted of their maps.
struct Answering<'a> {
    judge: &'a Judge<'a>,
    outputs: &'a MapOutputs,
    range: [f32; 2],
    threshold: Option<f32>,
    /// Threshold of the regions that are looked for.
    regions: Option<f32>,
    images: Vec<Answer>,
    /// Entries of the set that come, with their places in the list of all; files that cannot be used never
    /// do.
    ahead: VecDeque<(usize, usize)>,
    at_hand: Drawn,
}

/// What becomes of the map of the image at hand.
#[derive(Default)]
struct Drawn {
    place: usize,
    row: usize,
    picture: Option<(PathBuf, PngRows)>,
    raw: Option<(PathBuf, NpyRows)>,
    mask: Option<(PathBuf, PngRows)>,
    regions: Option<Regions>,
}

impl Look for Answering<'_> {
    fn begin(&mut self, image: &Looked<'_>) -> Result<bool, DetectError> {
        let (outputs, size) = (self.outputs, image.size);
        let regions = self.regions.map(|threshold| Regions::new(size[1], threshold));
        while self.ahead.front().is_some_and(|&(entry, _)| entry != image.index) {
            self.ahead.pop_front();
        }
        let place = self.ahead.pop_front().map_or(0, |(_, place)| place);
        self.at_hand = Drawn { regions, place, ..Drawn::default() };
        if let Some(folder) = &outputs.folder {
            let stem = format!("{place:06}-{}", file_stem(image.id));
            let file = |end: &str| folder.join(format!("{stem}{end}"));
            let picture = file(".png");
            self.at_hand.picture = Some((picture.clone(), PngRows::create(&picture, size, true)?));
            if outputs.raw {
                let raw = file(".npy");
                self.at_hand.raw = Some((raw.clone(), NpyRows::create(&raw, size)?));
            }
            if outputs.mask {
                let mask = file("-mask.png");
                self.at_hand.mask = Some((mask.clone(), PngRows::create(&mask, size, false)?));
            }
        }
        Ok(outputs.folder.is_some() || self.regions.is_some())
    }

    fn row(&mut self, image: &Looked<'_>, row: &[f32]) -> Result<(), DetectError> {
        let hand = &mut self.at_hand;
        if let Some((_, picture)) = &mut hand.picture {
            let colours = image.whole()?.colours(hand.row);
            picture.row(&overlay_row(&colours, row, self.range))?;
        }
        if let Some((_, raw)) = &mut hand.raw {
            raw.row(row)?;
        }
        if let (Some((_, mask)), Some(threshold)) = (&mut hand.mask, self.threshold) {
            let marks: Vec<u8> = row.iter().map(|&v| u8::from(v >= threshold) * 255).collect();
            mask.row(&marks)?;
        }
        if let Some(regions) = &mut hand.regions {
            regions.row(row);
        }
        hand.row += 1;
        Ok(())
    }

    fn end(
        &mut self,
        image: &Looked<'_>,
        found: &Found,
        _: Option<&FoundByTiles>,
    ) -> Result<(), DetectError> {
        let Drawn { place, picture, raw, mask, regions, .. } = std::mem::take(&mut self.at_hand);
        let mut answer = Answer { place, ..Answer::new(image.id, found.score, self.judge) };
        if let Some((path, file)) = picture {
            file.finish()?;
            answer.map = Some(path);
        }
        if let Some((path, file)) = raw {
            file.finish()?;
            answer.map_raw = Some(path);
        }
        if let Some((path, file)) = mask {
            file.finish()?;
            answer.map_mask = Some(path);
        }
        if let Some(regions) = regions {
            let (found, left_out) = regions.finish();
            (answer.regions, answer.regions_left_out) = (Some(found), left_out);
        }
        self.images.push(answer);
        Ok(())
    }
}

/// The name of an image without its folder and extension, such as any file system takes.
fn file_stem(id: &str) -> String {
    let last = id.rsplit(['/', '\\']).next().unwrap_or(id);
    let stem = last.rsplit_once('.').map_or(last, |(stem, _)| stem);
    stem.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' }).take(80).collect()
}
