//! The check of a trained model without labels, and the controls beside it.

use ganomede_datasets::defects::{self, KINDS, Kind};
use ganomede_datasets::memory::Held;
use ganomede_datasets::{Image, Rng};
use rayon::prelude::*;

use super::{Applied, DetectError, Observer, Progress, Samples};
use crate::eval::{Appearance, auroc, auroc_ci95, two_numbers};
use crate::models::file::Header;
use crate::models::scorer::{self, ScoreConfig, Scorer, untrained};
use crate::models::{Form, KindAuroc, SyntheticCheck};

/// Training images whose brightness and contrast are looked at, at most.
const LOOKED_AT: usize = 512;
/// Held-out images that defects are drawn on, at most, and defects below which an image gets more than one.
const USUAL: [usize; 2] = [100, 50];
/// The same of searched scores, each of which takes as long as hundreds of passes.
const SEARCHED: [usize; 2] = [24, 0];
/// Domain of the defects' random numbers, so that no other use of the seed repeats them.
const DOMAIN: u64 = 0x6465_6665_6374;

/// Brightness and contrast of the training images; `None` for what are no images, or too few.
pub(super) fn appearance(samples: &dyn Samples, seed: u64) -> Option<Appearance> {
    if samples.form() != Form::Image || samples.is_empty() {
        return None;
    }
    let count = samples.len().min(LOOKED_AT);
    // Spread evenly over the samples. A file that cannot be read is told where it is trained on.
    let one = |k: usize| samples.get(k * samples.len() / count, [seed, 0]).ok();
    let all: Vec<_> = (0..count).into_par_iter().filter_map(one).map(|values| two_numbers(&values)).collect();
    Appearance::of(&all)
}

/// Held-out images, and behind them the same with defects.
struct Drawn {
    values: Vec<Vec<f32>>,
    clean: usize,
    /// Kind of each defect.
    kinds: Vec<&'static Kind>,
    _held: Held,
}

impl Drawn {
    /// Of `most` held-out images at most, and of fewer where memory is short; `None` of fewer than two.
    fn new(samples: &dyn Samples, header: &Header, [most, fewest]: [usize; 2]) -> Option<Self> {
        let [_, channels, height, width] = header.config.images(1);
        let len = header.config.sample_len();
        let (mut most, held) = (samples.held_out_images().min(most), Held::default());
        // Each image clean, and with up to as many defects as there are kinds.
        let bytes = |most: usize| (4 * len * (most + defects_on(most, fewest) * most)) as u64;
        while most >= 2 && held.grow(bytes(most)).is_err() {
            most /= 2;
        }
        let read = (0..most).into_par_iter().filter_map(|i| samples.held_out_image(i));
        let images: Vec<Image> = read
            .filter(|values| values.len() == len)
            .map(|pixels| Image { channels, height, width, pixels })
            .collect();
        // As many as there is memory for.
        let (clean, each) = (images.len(), defects_on(most, fewest));
        if clean < 2 {
            return None;
        }
        let place = |defect: usize| (&KINDS[defect % KINDS.len()], defect / each);
        let defective = (0..clean * each).into_par_iter().map(|defect| {
            let (kind, at) = place(defect);
            let mut rng = Rng::new(&[header.seed, DOMAIN, defect as u64]);
            defects::draw(kind, &images[at], &images[(at + 1) % clean], &mut rng).image.pixels
        });
        let defective: Vec<Vec<f32>> = defective.collect();
        let kinds = (0..clean * each).map(|defect| place(defect).0).collect();
        let values = images.into_iter().map(|image| image.pixels).chain(defective).collect();
        Some(Self { values, clean, kinds, _held: held })
    }

    fn truths(&self) -> Vec<bool> {
        (0..self.values.len()).map(|number| number >= self.clean).collect()
    }
}

/// Defects on each of so many images: one, more where images are few; kinds follow on each other, so that all
/// are drawn equally often.
fn defects_on(images: usize, fewest: usize) -> usize {
    fewest.div_ceil(images.max(1)).clamp(1, KINDS.len())
}

/// Scores the clean images and those with defects.
fn scores(scorer: &mut Scorer, drawn: &Drawn, observer: &mut dyn Observer) -> Result<Vec<f64>, DetectError> {
    let total = Some(drawn.values.len() as u64);
    let progress = Progress {
        task: "checking with synthetic defects",
        unit: "images",
        first: 0,
        done: 0,
        total,
        stage: None,
        losses: &[],
        ended: false,
    };
    let mut scores = vec![];
    for values in drawn.values.chunks(scorer.batch()) {
        if !observer.goes_on() {
            return Err(DetectError::Stopped);
        }
        scores.extend(scorer.score(&values.concat(), None)?.into_iter().map(|found| found.score));
        observer.progress(&Progress { done: scores.len() as u64, ..progress });
    }
    observer.progress(&Progress { done: scores.len() as u64, ended: true, ..progress });
    Ok(scores)
}

/// Checks a model on the held-out images of its training: each is scored clean and with synthetic defects
/// drawn onto it, all kinds equally often; of a model of tiles a random tile of each image. `None` for what
/// are no images, or fewer than two held out.
///
/// # Errors
/// [`DetectError`] where images cannot be scored, or the observer stops it.
pub(super) fn synthetic_check(
    samples: &dyn Samples,
    model: &mut Applied<'_>,
    appearance: Option<&Appearance>,
) -> Result<Option<SyntheticCheck>, DetectError> {
    let header = &model.model.header;
    if header.config.form != Form::Image {
        return Ok(None);
    }
    let score = ScoreConfig { tiles: None, ..model.score.clone() };
    let batch = header.batch.max(1);
    let searched = scorer::is_searched(header, &score, batch)?;
    let Some(drawn) = Drawn::new(samples, header, if searched { SEARCHED } else { USUAL }) else {
        return Ok(None);
    };
    let batch = batch.min(drawn.values.len());
    let mut scorer = Scorer::new(model.device, model.model, model.path, &score, batch)?;
    let found = scores(&mut scorer, &drawn, model.observer)?;
    drop(scorer);
    let truths = drawn.truths();
    let area = |scores: &[f64]| auroc(scores, &truths);
    let two = appearance.map(|appearance| {
        let distance = |values: &Vec<f32>| appearance.distance(two_numbers(values));
        area(&drawn.values.iter().map(distance).collect::<Vec<_>>())
    });
    let before = match untrained(model.device, header)?.filter(|_| !searched) {
        None => None,
        Some(untrained) => {
            let mut scorer = Scorer::new(model.device, &untrained, model.path, &score, batch)?;
            match scores(&mut scorer, &drawn, model.observer) {
                Ok(scores) => area(&scores)?,
                Err(DetectError::Stopped) => return Err(DetectError::Stopped),
                // A network that was never trained may have no finite score.
                Err(_) => None,
            }
        }
    };
    let clean = drawn.clean;
    let mut kinds = vec![];
    for kind in &KINDS {
        let of_kind = drawn.kinds.iter().enumerate().filter(|(_, of)| of.name == kind.name);
        let of_kind: Vec<f64> = of_kind.map(|(defect, _)| found[clean + defect]).collect();
        let all: Vec<f64> = found[..clean].iter().chain(&of_kind).copied().collect();
        let truths: Vec<bool> = (0..all.len()).map(|number| number >= clean).collect();
        if let Some(auroc) = auroc(&all, &truths)? {
            kinds.push(KindAuroc { kind: kind.name.to_owned(), n: of_kind.len(), auroc });
        }
    }
    let (Some(auroc), Some(auroc_ci95)) = (area(&found)?, auroc_ci95(&found, &truths, header.seed)?) else {
        return Ok(None);
    };
    Ok(Some(SyntheticCheck {
        images: clean,
        defects: drawn.kinds.len(),
        auroc,
        auroc_ci95,
        two_numbers: two.transpose()?.flatten(),
        untrained: before,
        kinds,
    }))
}
