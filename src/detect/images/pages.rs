//! The report of an evaluation on images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ganomede_datasets::Findings;

use super::ImageTests;
use super::assess::SeenImage;
use crate::detect::{Applied, Assess, Assessment, DetectError, Pages, losses, tiling};
use crate::device::Device;
use crate::models::features::Features;
use crate::models::file::ModelFile;
use crate::models::scorer::{Sampler, Scorer};
use crate::report::{
    Embedding, Panel, PointKind, ReportInput, Supplement, after_eval, sample_timeline, write_report_with,
};

/// Grids of a training's samples that are shown, at most.
const GRIDS: usize = 8;

/// Evaluates and writes the pages.
pub(super) fn write(
    test: &ImageTests,
    model: &mut Applied<'_>,
    how: &Assess,
    pages: &Pages<'_>,
) -> Result<(Assessment, [PathBuf; 2]), DetectError> {
    let timeline = pages.timeline.map_or(Ok(vec![]), |samples| sample_timeline(samples, GRIDS))?;
    let mut extremes = Extremes { k: pages.panels, classes: BTreeMap::new() };
    let mut neighbours = Neighbours::default();
    let mut preview = vec![];
    let config = &model.model.header.config;
    let ([_, channels, height, width], len) = (config.images(1), config.sample_len());
    let mut see = |image: &SeenImage<'_>| {
        let SeenImage { values, found, anomalous, .. } = *image;
        if preview.len() < how.batch * len {
            preview.extend_from_slice(values);
        }
        neighbours.offer(anomalous, values);
        let panel_class = if anomalous { image.class } else { "normal" };
        extremes.offer(panel_class, found.score, || Panel {
            id: image.id.to_owned(),
            class: image.class.to_owned(),
            score: found.score,
            channels,
            height,
            width,
            query: values.to_vec(),
            reconstruction: found.reconstruction.clone(),
            map: found.map.as_ref().map_or_else(|| vec![0.0; height * width], |map| image.maps.of(map)),
            mask: image.mask.map(<[bool]>::to_vec),
            whole: image.whole.map(|draw| draw()),
        });
    };
    let assessed = test.assess_seen(model, how, Some(&mut see))?;
    let (device, file, path) = (model.device, model.model, model.path);
    let (samples, reconstructs) = samples(device, file, path, &preview)?;
    let input = ReportInput {
        title: format!("{} on {}", file.header.system, test.data.spec),
        data: test.data.spec.clone(),
        configuration: configuration(model, how.rate)?,
        evaluation: assessed.evaluation.clone(),
        images: assessed.images.clone(),
        panels: extremes.panels(),
        losses: losses(file),
        samples,
    };
    let supplement = Supplement {
        findings: fields(assessed.findings.as_ref()),
        timeline,
        reconstructs,
        embedding: neighbours.embedding(device, file, path)?,
        next: after_eval(&assessed.evaluation, path, &test.data.spec, how.rate),
        ..Supplement::default()
    };
    let written = write_report_with(pages.folder, &input, &supplement)?;
    Ok((Assessment::Samples(Box::new(assessed)), written))
}

/// As fields of a JSON object.
fn fields(findings: Option<&Findings>) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(findings) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    }
}

/// One image with its pictures, kept while it is among the extremes of its class.
struct Kept {
    score: f64,
    panel: Panel,
}

/// The `k` highest and lowest of each class, in bounded memory.
struct Extremes {
    k: usize,
    classes: BTreeMap<String, (Vec<Kept>, Vec<Kept>)>,
}

impl Extremes {
    fn offer(&mut self, class: &str, score: f64, panel: impl Fn() -> Panel) {
        let (high, low) = self.classes.entry(class.to_owned()).or_default();
        for (list, sign) in [(high, 1.0), (low, -1.0)] {
            let enters = list.len() < self.k || list.iter().any(|kept| sign * score > sign * kept.score);
            if self.k > 0 && enters {
                list.push(Kept { score, panel: panel() });
                list.sort_by(|a, b| (sign * b.score).total_cmp(&(sign * a.score)));
                list.truncate(self.k);
            }
        }
    }

    fn panels(self) -> Vec<Panel> {
        let mut panels: Vec<Panel> = vec![];
        for (_, (high, low)) in self.classes {
            for kept in high.into_iter().chain(low.into_iter().rev()) {
                if !panels.iter().any(|p| p.id == kept.panel.id) {
                    panels.push(kept.panel);
                }
            }
        }
        panels
    }
}

/// The first test samples of either truth, for a picture of their features.
#[derive(Default)]
struct Neighbours {
    kinds: Vec<PointKind>,
    samples: Vec<f32>,
}

impl Neighbours {
    /// Samples of either truth at most.
    const EACH: usize = 200;
    /// Samples in a batch, and generated images.
    const BATCH: usize = 64;

    fn offer(&mut self, anomalous: bool, sample: &[f32]) {
        let kind = if anomalous { PointKind::Anomalous } else { PointKind::Normal };
        if self.kinds.iter().filter(|&&k| k == kind).count() < Self::EACH {
            self.kinds.push(kind);
            self.samples.extend_from_slice(sample);
        }
    }

    fn embedding(
        mut self,
        device: &Device,
        model: &ModelFile,
        path: &Path,
    ) -> Result<Option<Embedding>, DetectError> {
        let Some(mut map) = Features::of_file(device, model, path, Self::BATCH)? else { return Ok(None) };
        let mut features = vec![];
        for batch in self.samples.chunks(Self::BATCH * model.header.config.sample_len()) {
            features.extend(map.of(batch)?);
        }
        let dim = features.len() / self.kinds.len().max(1);
        if dim == 0 {
            return Ok(None);
        }
        let generated = map.of_generated()?;
        self.kinds.extend((0..generated.len() / dim).map(|_| PointKind::Generated));
        features.extend(generated);
        Ok(Some(Embedding::of_features("t-SNE of the system's features", &features, dim, &self.kinds)?))
    }
}

fn configuration(model: &Applied<'_>, rate: f64) -> Result<Vec<(String, String)>, DetectError> {
    let (header, path) = (&model.model.header, model.path);
    let config = &header.config;
    let colour = if config.channels == 1 { "gray" } else { "rgb" };
    let fields = [
        ("model", path.display().to_string()),
        (
            "trained on",
            format!(
                "{} ({} images, {} held out)",
                header.data.spec, header.data.training_images, header.data.held_out
            ),
        ),
        ("images", format!("{} {colour}", config.size.sides())),
        ("networks", format!("width {}, latent {}, kernel {}", config.width, config.latent, config.kernel)),
        (
            "training",
            format!(
                "{} steps of {}, lr {}, seed {}",
                header.progress.steps, header.batch, header.training.lr, header.seed
            ),
        ),
        ("training time", format!("{:.1} s on {}", header.progress.seconds, header.device)),
        ("score", describe_score(&model.scorer(1)?)),
        ("maps", describe_maps(model)),
        ("false-alarm rate", rate.to_string()),
        ("version", header.version.clone()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .chain(describe_tiles(model).map(|tiles| ("tiles".to_owned(), tiles)))
    .collect();
    Ok(fields)
}

/// How large images are cut.
fn describe_tiles(model: &Applied<'_>) -> Option<String> {
    let tiling = tiling(model.model, model.score)?;
    let config = &model.model.header.config;
    let ([height, width], [down, across]) = (config.extent(), tiling.step(config));
    Some(format!(
        "{width}×{height} pixels, every {across} across and {down} down; an image has the {} of its tiles' scores; \
         panels show the tile with the highest",
        tiling.score
    ))
}

/// How maps are made.
fn describe_maps(model: &Applied<'_>) -> String {
    let sigma = model.score.maps.sigma(&model.model.header.config);
    let relative = if model.score.maps.relative { ", relative to held-out normals" } else { "" };
    match sigma {
        0.0 => format!("as the system gives them{relative}"),
        _ => format!("smoothed by a Gaussian, σ = {sigma} pixels of the networks' input{relative}"),
    }
}

/// The score in use, with the settings of its search if it has one.
fn describe_score(scorer: &Scorer) -> String {
    let config = scorer.config();
    if !scorer.is_searched() {
        return config.score.clone();
    }
    let search = &config.search;
    let from = if config.refine > 0 { " from E(x)" } else { "" };
    format!(
        "{}, {} search steps{from}, {} restarts, λ {}, lr {}",
        config.score, search.steps, search.restarts, search.lambda, search.lr
    )
}

/// The sample grid, and whether it shows reconstructions.
fn samples(
    device: &Device,
    model: &ModelFile,
    path: &Path,
    preview: &[f32],
) -> Result<(Option<image::RgbImage>, bool), DetectError> {
    let Some(mut sampler) = Sampler::of_file(device, model, path, preview)? else { return Ok((None, false)) };
    Ok((Some(sampler.grid()?), sampler.reconstructs()))
}
