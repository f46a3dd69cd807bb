//! The report of a comparison: several systems on the same images under the same budget.

use super::page::{check, check_panels, labelled, select_panels, write_page};
use super::{LossCurve, NextStep, ReportError, ScoredImage, html};
use crate::eval::{Control, Evaluation, PrPoint, Repeated, RocPoint, pr_curve, roc_curve};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Everything a comparison shows.
#[derive(Debug, Clone)]
pub struct CompareReport {
    /// Heading of the page.
    pub title: String,
    /// Where the images come from.
    pub data: String,
    /// What each system was given, e.g. `2 minutes of training`.
    pub budget: String,
    /// Rows of the configuration table, name and value.
    pub configuration: Vec<(String, String)>,
    /// The systems, in any order: tables rank them by AUROC.
    pub systems: Vec<ComparedSystem>,
    /// Systems that could not be trained or scored, each with the reason.
    pub failures: Vec<(String, String)>,
    /// Images shown side by side; [`select_compared`] chooses them.
    pub panels: Vec<ComparePanel>,
    /// What to do with the result.
    pub next: Vec<NextStep>,
}

/// One system of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct ComparedSystem {
    /// Its metrics; also names system and device. With several seeds, those of the first run.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Training steps done.
    pub training_steps: u64,
    /// Wall-clock seconds of training.
    pub training_seconds: f64,
    /// Metrics over seeds, see [`Repeated::of_runs`]; empty for a single run.
    #[serde(serialize_with = "as_map", skip_serializing_if = "Vec::is_empty")]
    pub repeated: Vec<(&'static str, Repeated)>,
    /// Training losses; empty if unknown.
    pub losses: Vec<LossCurve>,
    /// Every scored image; the same images in the same order for every system.
    pub images: Vec<ScoredImage>,
}

/// One image as every system sees it. Images are CHW in [−1, 1].
#[derive(Debug, Clone, PartialEq)]
pub struct ComparePanel {
    /// Path or other name.
    pub id: String,
    /// Class, as in [`ScoredImage`].
    pub class: String,
    /// Ground truth; `None` if unlabelled.
    pub anomalous: Option<bool>,
    /// Channels of query and reconstructions.
    pub channels: usize,
    /// Rows of the image and of its map.
    pub height: usize,
    /// Columns of the image and of its map.
    pub width: usize,
    /// The image, `channels × height × width`.
    pub query: Vec<f32>,
    /// Ground truth, `height × width`.
    pub mask: Option<Vec<bool>>,
    /// What each system makes of it, in the order of [`CompareReport::systems`].
    pub systems: Vec<ComparedPanel>,
}

/// What one system makes of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedPanel {
    /// Anomaly score.
    pub score: f64,
    /// The reconstruction, shaped like the query; `None` for systems without one.
    pub reconstruction: Option<Vec<f32>>,
    /// Residual or anomaly map, `height × width`; `None` for systems that do not localise.
    pub map: Option<Vec<f32>>,
}

/// Writes `report.html` and `metrics.json` into `folder`, which is created if missing; returns both paths.
///
/// Errors: numbers that are not finite, systems that scored different images, panels whose lengths do not
/// fit, files that cannot be written. Each file is whole or absent.
pub fn write_comparison(folder: &Path, report: &CompareReport) -> Result<[PathBuf; 2], ReportError> {
    let numbers = Numbers::new(report)?;
    write_page(folder, &html::compare::page(report, &numbers)?, &numbers)
}

/// Indices of the images to show: of each class the `k` that the systems together rank highest and lowest.
///
/// The scores of systems do not compare, their ranks do: an image counts by its mean rank over the systems.
///
/// Errors: systems that scored different images.
pub fn select_compared(systems: &[ComparedSystem], k: usize) -> Result<Vec<usize>, ReportError> {
    check_parallel(systems)?;
    let Some(first) = systems.first() else { return Ok(Vec::new()) };
    let mut ranked = first.images.clone();
    ranked.iter_mut().for_each(|image| image.score = 0.0);
    for system in systems {
        let mut sorted: Vec<f64> = system.images.iter().map(|i| i.score).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        for (image, scored) in ranked.iter_mut().zip(&system.images) {
            let (below, up_to) = (
                sorted.partition_point(|s| *s < scored.score),
                sorted.partition_point(|s| *s <= scored.score),
            );
            image.score += (below + up_to) as f64; // twice the mid rank
        }
    }
    Ok(select_panels(&ranked, k))
}

/// Indices of the systems from the highest AUROC down; those without one last, equal ones in the given order.
pub(super) fn ranking(systems: &[ComparedSystem]) -> Vec<usize> {
    let auroc = |i: usize| systems[i].evaluation.auroc.unwrap_or(f64::NEG_INFINITY);
    let mut order: Vec<usize> = (0..systems.len()).collect();
    order.sort_by(|&a, &b| auroc(b).total_cmp(&auroc(a)));
    order
}

/// The controls of a comparison, each with what a table calls it: those that are the same for all systems
/// once, the untrained network of each.
pub(super) fn controls(systems: &[ComparedSystem]) -> Vec<(String, &Control)> {
    let mut rows: Vec<(String, &Control)> = vec![];
    for system in systems {
        for control in &system.evaluation.controls {
            let name = match control.name {
                Control::UNTRAINED => format!("{}, untrained", system.evaluation.system),
                name => format!("{name} (control)"),
            };
            if rows.iter().all(|(known, _)| *known != name) {
                rows.push((name, control));
            }
        }
    }
    let auroc = |row: &(String, &Control)| row.1.auroc.unwrap_or(f64::NEG_INFINITY);
    rows.sort_by(|a, b| auroc(b).total_cmp(&auroc(a)));
    rows
}

/// Every number of the page.
#[derive(Serialize)]
pub(super) struct Numbers<'a> {
    title: &'a str,
    data: &'a str,
    budget: &'a str,
    configuration: &'a [(String, String)],
    pub(super) systems: Vec<SystemNumbers<'a>>,
    failures: Vec<Failure<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    next: &'a [NextStep],
}

#[derive(Serialize)]
pub(super) struct SystemNumbers<'a> {
    #[serde(flatten)]
    pub(super) system: &'a ComparedSystem,
    pub(super) roc: Option<Vec<RocPoint>>,
    precision_recall: Option<Vec<PrPoint>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    system: &'a str,
    reason: &'a str,
}

impl<'a> Numbers<'a> {
    fn new(report: &'a CompareReport) -> Result<Self, ReportError> {
        check_parallel(&report.systems)?;
        let of_system = |system: &'a ComparedSystem| {
            check(&system.images, &system.losses)?;
            let name = &system.evaluation.system;
            if !system.training_seconds.is_finite() {
                let (id, value) = (name.clone(), system.training_seconds);
                return Err(ReportError::NotFinite { what: "training time", id, value });
            }
            let (scores, truths) = labelled(&system.images);
            let (roc, precision_recall) = (roc_curve(&scores, &truths)?, pr_curve(&scores, &truths)?);
            Ok(SystemNumbers { system, roc, precision_recall })
        };
        for panel in &report.panels {
            if panel.systems.len() != report.systems.len() {
                return Err(ReportError::Parallel {
                    system: format!("image {}", panel.id),
                    got: format!("{} panels", panel.systems.len()),
                    expected: format!("{} systems", report.systems.len()),
                });
            }
            check_panels(panel.systems.iter().map(|p| (&panel.id, p.score)))?;
        }
        Ok(Self {
            title: &report.title,
            data: &report.data,
            budget: &report.budget,
            configuration: &report.configuration,
            systems: report.systems.iter().map(of_system).collect::<Result<_, _>>()?,
            next: &report.next,
            failures: report.failures.iter().map(|(system, reason)| Failure { system, reason }).collect(),
        })
    }
}

/// Checks that every system scored the images of the first, in their order.
fn check_parallel(systems: &[ComparedSystem]) -> Result<(), ReportError> {
    let Some((first, others)) = systems.split_first() else { return Ok(()) };
    let parallel = |system: &ComparedSystem, got: String, expected: String| {
        Err(ReportError::Parallel { system: system.evaluation.system.clone(), got, expected })
    };
    for system in others {
        let (n, expected) = (system.images.len(), first.images.len());
        if n != expected {
            return parallel(system, format!("{n} images"), format!("{expected} images"));
        }
        let pairs = system.images.iter().zip(&first.images);
        if let Some((got, expected)) =
            pairs.into_iter().find(|(a, b)| a.id != b.id || a.anomalous != b.anomalous)
        {
            return parallel(system, got.id.clone(), expected.id.clone());
        }
    }
    Ok(())
}

fn as_map<S: serde::Serializer>(
    repeated: &[(&'static str, Repeated)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(repeated.iter().map(|(name, values)| (name, values)))
}

#[cfg(test)]
mod tests;
