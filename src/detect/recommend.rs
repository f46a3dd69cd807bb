//! Which system suits a set of images, judged without labels: the fitted ones are trained fully, the others
//! briefly, and each is checked with synthetic defects on held-out normal images.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::{DetectError, Observer, Samples, Settings};
use crate::device::Device;
use crate::eval::Control;
use crate::models::system::Length;
use crate::models::{ConfigError, Form, SyntheticCheck, scorer};
use crate::train::Limits;

/// Share of a system's time that its training takes; the rest is for calibration and check.
const TRAINING: f64 = 0.75;
/// Minutes of training below which nothing is to be learnt.
const LEAST: f64 = 1.0 / 60.0;

/// A system with settings that is tried on samples.
pub struct Candidate<'a> {
    /// System, sizes and options; limits are set here.
    pub settings: Settings,
    /// What it is trained and judged on.
    pub samples: &'a dyn Samples,
    /// What was done to the images beyond what is usual, as flags of a command line.
    pub variant: Vec<String>,
}

/// A system that was tried, or left out.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// Its name.
    pub system: String,
    /// Its options, and flags of the images.
    pub options: BTreeMap<String, String>,
    /// AUROC of images with synthetic defects against clean ones; absent where it was not tried.
    pub synthetic_auroc: Option<f64>,
    /// Its bootstrap 95 % interval.
    pub synthetic_auroc_ci95: Option<[f64; 2]>,
    /// The same of the network before its training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrained: Option<f64>,
    /// Steps of training.
    pub steps: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Seconds that a training as long as recommended takes, about.
    pub full_seconds: Option<f64>,
    /// Whether it was trained fully.
    pub fully: bool,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why it was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
    /// Its number among the candidates.
    #[serde(skip)]
    pub candidate: usize,
}

/// A control beside the systems.
#[derive(Debug, Clone, Serialize)]
pub struct TriedControl {
    /// What it is.
    pub name: &'static str,
    /// As [`Tried::synthetic_auroc`].
    pub synthetic_auroc: Option<f64>,
}

/// What is recommended, and on what grounds.
#[derive(Debug, Clone, Serialize)]
pub struct Recommendation {
    /// Place of the choice among `systems`; `None` where no system is better than chance.
    #[serde(skip)]
    pub choice: Option<usize>,
    /// Every candidate, from the highest AUROC down; those left out last.
    pub systems: Vec<Tried>,
    /// What needs no training.
    pub controls: Vec<TriedControl>,
    /// How far the choice is ahead of the next system of another name.
    pub ahead: Option<f64>,
    /// Held-out images that it was judged on.
    pub images: usize,
    /// What such a choice is worth, in words.
    pub worth: &'static str,
}

/// Trains every candidate within `minutes` in all and judges it by [`SyntheticCheck`]. Systems that are
/// fitted in passes of their own are trained fully; what is then left of the time is shared by the others,
/// which take the one variant of the images that served the fitted systems better.
/// Scores that search a latent for each image are left out: a search takes longer than all else.
///
/// # Errors
/// [`DetectError::Config`] for minutes or settings out of range, [`DetectError::Input`] for samples that are
/// no images or of which fewer than two are held out, and where the observer stops it. A candidate that fails
/// otherwise is listed with its reason.
pub fn recommend(
    candidates: &[Candidate<'_>],
    minutes: f64,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Recommendation, DetectError> {
    let started = Instant::now();
    if !(minutes > 0.0 && minutes.is_finite()) {
        return Err(ConfigError::new("minutes", minutes, "a positive number, 5 is usual").into());
    }
    for Candidate { samples, .. } in candidates {
        if samples.form() != Form::Image {
            return Err(DetectError::Input(
                "systems are recommended for images; of series and tables `compare` and `eval` say which is better"
                    .to_owned(),
            ));
        }
        if samples.held_out_images() < 2 {
            return Err(DetectError::Input(format!(
                "{} images are held out; a system is judged on at least 2: hold out a larger share, or give more images",
                samples.held_out_images()
            )));
        }
    }
    let (mut waiting, mut tries) = (vec![], vec![]);
    for (number, candidate) in candidates.iter().enumerate() {
        let checked = candidate.settings.clone().checked()?;
        match checked.takes_budget() {
            Ok(true) => waiting.push((checked.programs()?, number)),
            _ => tries.push(tried(candidate, number, None, device, observer)?),
        }
    }
    if let Some(better) = better_variant(candidates, &tries) {
        waiting.retain(|&(_, number)| candidates[number].variant == better);
    }
    // A short training of few programs a step is worth most: what is slower waits, and has what is left.
    waiting.sort_unstable();
    for (done, &(_, number)) in waiting.iter().enumerate() {
        let left = minutes - started.elapsed().as_secs_f64() / 60.0;
        let share = TRAINING * left / (waiting.len() - done) as f64;
        tries.push(tried(&candidates[number], number, Some(share), device, observer)?);
    }
    let checks = || tries.iter().filter_map(|(_, check)| check.as_ref());
    let two_numbers = checks().find_map(|check| check.two_numbers);
    let images = checks().map(|check| check.images).max().unwrap_or(0);
    let mut systems: Vec<Tried> = tries.into_iter().map(|(tried, _)| tried).collect();
    let auroc = |tried: &Tried| tried.synthetic_auroc.unwrap_or(f64::NEG_INFINITY);
    systems.sort_by(|a, b| auroc(b).total_cmp(&auroc(a)).then(a.seconds.total_cmp(&b.seconds)));
    let choice = systems.first().and_then(|best| (best.synthetic_auroc? > 0.5).then_some(0));
    let next = choice.and_then(|at| {
        let other = systems.iter().find(|tried| tried.system != systems[at].system)?;
        Some(systems[at].synthetic_auroc? - other.synthetic_auroc?)
    });
    let controls = [(Control::TWO_NUMBERS, two_numbers), (Control::CONSTANT, Some(0.5))];
    let controls = controls.map(|(name, synthetic_auroc)| TriedControl { name, synthetic_auroc }).to_vec();
    Ok(Recommendation { choice, systems, controls, ahead: next, images, worth: SyntheticCheck::WORTH })
}

/// Of variants of the images that fitted systems were tried on, the one with the higher mean AUROC: systems
/// that are trained then take it alone, so that each has twice the time. `None` where all have one variant.
fn better_variant(
    candidates: &[Candidate<'_>],
    tries: &[(Tried, Option<SyntheticCheck>)],
) -> Option<Vec<String>> {
    let mut by_variant: BTreeMap<&[String], Vec<f64>> = BTreeMap::new();
    for (tried, check) in tries {
        if let Some(check) = check {
            by_variant.entry(&candidates[tried.candidate].variant).or_default().push(check.auroc);
        }
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let all = by_variant.iter().map(|(variant, all)| (mean(all), *variant));
    // Of two that are equal the first: the images as they are.
    let best = all.reduce(|a, b| if b.0 > a.0 { b } else { a });
    best.filter(|_| by_variant.len() > 1).map(|(_, variant)| variant.to_vec())
}

/// Trains and checks one candidate; with `minutes` of training where it takes a budget.
fn tried(
    candidate: &Candidate<'_>,
    number: usize,
    minutes: Option<f64>,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<(Tried, Option<SyntheticCheck>), DetectError> {
    let settings = &candidate.settings;
    let flags =
        candidate.variant.iter().map(|flag| (flag.trim_start_matches('-').to_owned(), "yes".to_owned()));
    let mut tried = Tried {
        system: settings.system.name.to_owned(),
        options: settings.options.iter().cloned().chain(flags).collect(),
        synthetic_auroc: None,
        synthetic_auroc_ci95: None,
        untrained: None,
        steps: 0,
        seconds: 0.0,
        full_seconds: None,
        fully: minutes.is_none(),
        warnings: vec![],
        left_out: None,
        candidate: number,
    };
    if minutes.is_some_and(|minutes| minutes < LEAST) {
        tried.left_out = Some("no time was left".to_owned());
        return Ok((tried, None));
    }
    match trained(candidate, minutes, device, observer) {
        Ok(Outcome::LeftOut(reason)) => tried.left_out = Some(reason),
        Ok(Outcome::Checked(check, steps, seconds, full)) => {
            tried.synthetic_auroc = Some(check.auroc);
            tried.synthetic_auroc_ci95 = Some(check.auroc_ci95);
            (tried.untrained, tried.steps, tried.seconds) = (check.untrained, steps, seconds);
            tried.full_seconds = full;
            tried.warnings = check.warnings();
            return Ok((tried, Some(check)));
        }
        Err(error @ (DetectError::Stopped | DetectError::TrainingStopped { .. })) => return Err(error),
        Err(error) => tried.left_out = Some(error.to_string()),
    }
    Ok((tried, None))
}

enum Outcome {
    LeftOut(String),
    /// With steps, seconds, and seconds of a full training.
    Checked(SyntheticCheck, u64, f64, Option<f64>),
}

fn trained(
    candidate: &Candidate<'_>,
    minutes: Option<f64>,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Outcome, DetectError> {
    let limits = Limits { minutes, ..Limits::default() };
    let settings = Settings { limits, ..candidate.settings.clone() };
    let length = settings.system.defaults_for(settings.config.form).length;
    let job = settings.checked()?.job(candidate.samples.info()?);
    if scorer::is_searched(&job.header, &job.score, 1)? {
        return Ok(Outcome::LeftOut(
            "its score searches a latent for each image, which takes too long".to_owned(),
        ));
    }
    let per_epoch = job.header.progress.steps_per_epoch;
    let header = job.run(device, candidate.samples, observer)?.model.header;
    let Some(check) = header.check else {
        return Ok(Outcome::LeftOut("too few held-out images could be read to judge it".to_owned()));
    };
    let (steps, seconds) = (header.progress.steps, header.progress.seconds);
    let full = match length {
        _ if minutes.is_none() => Some(seconds),
        Length::Epochs(epochs) => Some(seconds / steps.max(1) as f64 * (epochs * per_epoch) as f64),
        Length::Steps(full) => Some(seconds / steps.max(1) as f64 * full as f64),
    };
    Ok(Outcome::Checked(check, steps, seconds, full))
}
