//! Systems compared on images.

use std::path::PathBuf;
use std::sync::Arc;

use ganomede_datasets::{Dataset, Split};

use super::{ImageTests, options_of};
use crate::detect::{
    Applied, Assess, Compared, Comparison, ComparisonData, ComparisonDocument, ComparisonPages, DetectError,
    Maps, Observer, SampleAssessment, TestData, TileScorer, Trial, losses, tiling,
};
use crate::device::Device;
use crate::eval::Repeated;
use crate::models::file::ModelFile;
use crate::models::scorer::{Found, ScoreConfig};
use crate::report::{
    ComparePanel, CompareReport, ComparedPanel, ComparedSystem, after_compare, comparison_table,
    select_compared, write_comparison,
};

/// Tiles scored side by side.
const TILES: usize = 64;

/// The images of one set; a trial a seed.
pub struct ImageComparison {
    data: ComparisonData,
    trials: Vec<Trial>,
    /// Trials of the system at hand.
    tried: Vec<(SampleAssessment, Model, ComparedSystem)>,
    systems: Vec<ComparedSystem>,
    /// The first model of each of the systems.
    models: Vec<Model>,
}

/// A model file and how it scores.
struct Model {
    path: PathBuf,
    score: ScoreConfig,
}

impl ImageComparison {
    /// Makes sure that the set can be trained and tested on.
    ///
    /// # Errors
    /// [`DetectError`] where it cannot.
    pub fn open(data: ComparisonData) -> Result<Self, DetectError> {
        let training = &data.training;
        let dataset = Arc::new(Dataset::open(&training.spec, &training.reading.images)?);
        dataset.holdout(training.hold_out, training.seed)?;
        ImageTests::new(tests(&data), dataset)?;
        Ok(Self::new(data))
    }

    /// As [`ImageComparison::open`], for models that are trained.
    pub fn new(data: ComparisonData) -> Self {
        let training = &data.training;
        let trial = |further| {
            let seed = training.seed.wrapping_add(further);
            let suffix = if data.seeds > 1 { format!("-seed{seed}") } else { String::new() };
            Trial { spec: training.spec.clone(), seed, suffix, about: None }
        };
        let trials = (0..data.seeds).map(trial).collect();
        Self { data, trials, tried: vec![], systems: vec![], models: vec![] }
    }
}

/// The test part: every seed and system sees the same images.
fn tests(data: &ComparisonData) -> TestData {
    let ComparisonData { training, limit, .. } = data;
    TestData { spec: training.spec.clone(), reading: training.reading.clone(), limit: *limit, seed: 0 }
}

impl Comparison for ImageComparison {
    fn trials(&self) -> &[Trial] {
        &self.trials
    }

    fn channels(&self) -> Vec<usize> {
        vec![self.data.training.reading.images.preprocess.channels.count()]
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn has_untrained(&self) -> bool {
        false
    }

    fn score(&mut self, trial: usize, model: &mut Applied<'_>) -> Result<(), DetectError> {
        if trial == 0 {
            self.tried.clear();
        }
        let seed = self.trials[trial].seed;
        // What is not read was said when it was trained.
        let test = ImageTests::open(tests(&self.data), model.model, &mut ())?;
        let how = Assess { rate: self.data.rate, batch: model.model.header.batch, seed };
        let assessed = test.assess_seen(model, &how, None)?;
        let progress = &model.model.header.progress;
        let compared = ComparedSystem {
            evaluation: assessed.evaluation.clone(),
            training_steps: progress.steps,
            training_seconds: progress.seconds,
            repeated: vec![],
            losses: losses(model.model),
            images: assessed.images.clone(),
        };
        let file = Model { path: model.path.to_owned(), score: model.score.clone() };
        self.tried.push((assessed, file, compared));
        Ok(())
    }

    fn add(&mut self, name: &str, _: bool) -> Result<(), DetectError> {
        let runs: Vec<_> = self.tried.iter().map(|(assessed, ..)| assessed.evaluation.clone()).collect();
        let mut tried = self.tried.drain(..);
        if let Some((_, model, mut compared)) = tried.next() {
            if runs.len() > 1 {
                compared.repeated = Repeated::of_runs(&runs)?;
            }
            compared.evaluation.system = name.to_owned();
            self.systems.push(compared);
            self.models.push(model);
        }
        Ok(())
    }

    fn write(
        &mut self,
        device: &Device,
        pages: &ComparisonPages<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Compared, DetectError> {
        let panels = self.panels(device, pages.panels, observer)?;
        let spec = &self.data.training.spec;
        let models = self.models.iter().map(|model| model.path.as_path());
        let next = after_compare(&self.systems, models, spec);
        let report = CompareReport {
            title: format!("{} systems on {spec}", self.systems.len()),
            data: spec.clone(),
            budget: pages.budget.clone(),
            configuration: pages.configuration.clone(),
            systems: std::mem::take(&mut self.systems),
            failures: pages.failures.clone(),
            panels,
            next,
        };
        let [page, metrics] = write_comparison(pages.folder, &report)?;
        let table = comparison_table(&report);
        pages.write_section(&table)?;
        let text = std::fs::read_to_string(&metrics)
            .map_err(|e| DetectError::Input(format!("cannot read back '{}': {e}", metrics.display())))?;
        let document = serde_json::from_str(&text)
            .map_err(|e| DetectError::Input(format!("'{}' does not parse: {e}", metrics.display())))?;
        Ok(Compared { table, document: ComparisonDocument::Samples(document), page })
    }
}

impl ImageComparison {
    /// The images that the systems together rank highest and lowest, as each of them sees them.
    fn panels(
        &self,
        device: &Device,
        count: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<ComparePanel>, DetectError> {
        let shown = select_compared(&self.systems, count)?;
        let Some(first) = self.systems.first() else { return Ok(vec![]) };
        let ids: Vec<&str> = shown.iter().map(|&i| first.images[i].id.as_str()).collect();
        let mut panels: Vec<ComparePanel> = vec![];
        // Of large images the tile that the first system scores highest, for all of them.
        let mut places: Vec<[usize; 2]> = vec![];
        for Model { path, score } in &self.models {
            let model = ModelFile::load(path)?;
            let training = &self.data.training;
            let options = options_of(&model, training.reading.images.clone());
            let data = Dataset::open(&training.spec, &options)?;
            let [_, channels, height, width] = model.header.config.images(1);
            let maps = Maps::own(&model, score)?;
            let applied = Applied { device, model: &model, path, score, observer: &mut *observer };
            let mut scorer = applied.scorer(1)?;
            let is_tiled = tiling(&model, score).is_some();
            let mut by_tiles = if is_tiled { Some(TileScorer::new(&applied, TILES)?) } else { None };
            let place = |id: &str| {
                (0..data.len(Split::Test)).find(|&i| data.entry(Split::Test, i).is_some_and(|e| e.id == id))
            };
            for (number, (id, entry)) in ids.iter().filter_map(|id| Some((*id, place(id)?))).enumerate() {
                let (values, mask) = match &mut by_tiles {
                    None => {
                        let sample = data.load(Split::Test, entry)?;
                        (sample.image.pixels, sample.mask.map(|m| m.pixels))
                    }
                    Some(by_tiles) => {
                        let whole = data.whole(Split::Test, entry)?;
                        if number == places.len() {
                            places.push(by_tiles.score(&whole, applied.observer, None)?.highest);
                        }
                        (whole.tile(places[number]).pixels, whole.tile_mask(places[number]))
                    }
                };
                let Some(found) = scorer.score(&values, None)?.into_iter().next() else { continue };
                let known = first.images.iter().find(|image| image.id == id);
                let at = panels.iter().position(|p| p.id == id).unwrap_or_else(|| {
                    panels.push(ComparePanel {
                        id: id.to_owned(),
                        class: known.map_or(String::new(), |image| image.class.clone()),
                        anomalous: known.and_then(|image| image.anomalous),
                        channels,
                        height,
                        width,
                        query: values,
                        mask,
                        systems: vec![],
                    });
                    panels.len() - 1
                });
                let Found { score, reconstruction, map, .. } = found;
                let map = map.map(|map| maps.of(&map));
                panels[at].systems.push(ComparedPanel { score, reconstruction, map });
            }
        }
        Ok(panels)
    }
}
