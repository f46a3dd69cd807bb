//! Systems compared on series, which are pooled; with rows for what needs no training at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ganomede_datasets::{DataError, SignalSet, Windows};
use ganomede_host::line;
use serde::Serialize;

use super::assess::{K, RANDOM_RUNS, check_labelled};
use super::pages::{plotted, said};
use super::{BASELINES, PointTruths, alarm_rule, baseline_scores, open_series, point_scores, table};
use crate::detect::{
    Applied, Compared, Comparison, ComparisonData, ComparisonDocument, ComparisonPages, DetectError,
    Observer, Trial, own,
};
use crate::device::Device;
use crate::eval::signal::{AlarmRule, SignalEvaluation, random_reference};
use crate::eval::{Quantiles, Repeated, Threshold};
use crate::report::{PlottedSeries, SeriesReport, write_series_report};

/// One series, or the CSV files of a folder; a trial a series.
pub struct SeriesComparison {
    data: ComparisonData,
    trials: Vec<Trial>,
    sets: Vec<SignalSet>,
    rule: AlarmRule,
    /// The series of the system at hand.
    tried: Vec<OnSeries>,
    evaluations: Vec<(String, SignalEvaluation)>,
    /// How many of them are of trained systems.
    systems: usize,
    plots: Vec<PlottedSeries>,
}

/// A system on one series of a comparison: scores on a scale where the median held-out point is 0 and the
/// threshold 1, so that series can be pooled.
struct OnSeries {
    scores: Vec<f64>,
    truths: PointTruths,
}

impl OnSeries {
    fn new(set: &SignalSet, scores: Vec<f64>, quantiles: &Quantiles, rate: f64) -> Result<Self, DetectError> {
        let median = quantiles.quantile(0.5);
        let threshold = quantiles.threshold(rate)?.value;
        let span = (threshold - median).max(f64::MIN_POSITIVE);
        let scores = scores.into_iter().map(|s| (s - median) / span).collect();
        Ok(Self { scores, truths: PointTruths::of(set) })
    }
}

fn no_held_out() -> DetectError {
    DetectError::Input("a comparison of series needs held-out rows: `val-fraction` above 0".to_owned())
}

/// The CSV files of a folder in order of their names, or the one series that is given.
fn series_of(spec: &str) -> Result<Vec<String>, DetectError> {
    let folder = Path::new(spec);
    if !folder.is_dir() || folder.join("train.csv").is_file() {
        return Ok(vec![spec.to_owned()]);
    }
    let refused = |source| DataError::Io { action: "read folder", path: folder.to_owned(), source };
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(DetectError::Input(format!("the folder '{spec}' holds no CSV file")));
    }
    Ok(files)
}

/// Makes sure before any training that a series has rows enough to train on, to hold out and to score.
fn check(set: &SignalSet, size: usize, val_fraction: f64) -> Result<(), DetectError> {
    let (training, held_out) = set.holdout(val_fraction, size)?;
    if held_out.is_empty() {
        return Err(no_held_out());
    }
    for rows in [training, held_out, set.test_rows()] {
        let place = |e: DataError| DetectError::Input(format!("'{}': {e}", set.spec()));
        Windows::new(rows, size, 1).map_err(place)?;
    }
    Ok(())
}

impl SeriesComparison {
    /// Opens every series, and makes sure that it can be trained and tested on.
    ///
    /// # Errors
    /// [`DetectError`] where it cannot.
    pub fn open(data: ComparisonData, observer: &mut dyn Observer) -> Result<Self, DetectError> {
        let training = &data.training;
        let files = series_of(&training.spec)?;
        let sets = files.iter().map(|file| SignalSet::open(file, &training.reading.series));
        let sets = sets.collect::<Result<Vec<_>, _>>()?;
        sets.iter().try_for_each(check_labelled)?;
        for set in &sets {
            check(set, training.window, training.hold_out)?;
            set.notes().iter().for_each(|text| observer.note(&format!("{}: {text}", set.spec())));
        }
        let plots = sets.iter().zip(&files).map(|(set, file)| plotted(set, file)).collect();
        let of = files.len();
        let trial = |(i, spec): (usize, String)| {
            let about = Some(format!("series {} of {of}: {}", i + 1, line(&spec)));
            Trial { spec, seed: training.seed, suffix: format!("-{}", i + 1), about }
        };
        let trials = files.into_iter().enumerate().map(trial).collect();
        let rule = alarm_rule(training.window);
        Ok(Self { data, trials, sets, rule, tried: vec![], evaluations: vec![], systems: 0, plots })
    }

    fn add_baselines(&mut self) -> Result<(), DetectError> {
        let (rate, training) = (self.data.rate, &self.data.training);
        let (hold_out, window) = (training.hold_out, training.window);
        for (name, baseline) in BASELINES {
            for set in &self.sets {
                let scored = baseline_scores(baseline, set, hold_out, window)?;
                let (scores, quantiles) = scored.ok_or_else(no_held_out)?;
                self.tried.push(OnSeries::new(set, scores, &quantiles, rate)?);
            }
            self.pool(name.to_owned())?;
        }
        Ok(())
    }

    /// Pools the series at hand.
    fn pool(&mut self, name: String) -> Result<(), DetectError> {
        let all = std::mem::take(&mut self.tried);
        let series: Vec<_> = all.iter().map(|on| on.truths.scored(&on.scores)).collect();
        let threshold = Threshold { value: 1.0, source: "held-out normal points of each series".to_owned() };
        for (plot, on) in self.plots.iter_mut().zip(&all) {
            plot.detectors.push(said(&name, &on.scores, Some(threshold.value), self.rule));
        }
        let evaluation = SignalEvaluation::new(&series, Some(&threshold), self.rule, K)?;
        self.evaluations.push((name, evaluation));
        Ok(())
    }
}

impl Comparison for SeriesComparison {
    fn trials(&self) -> &[Trial] {
        &self.trials
    }

    fn channels(&self) -> Vec<usize> {
        self.sets.iter().map(SignalSet::channels).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn goes_on(&self) -> bool {
        false
    }

    fn has_untrained(&self) -> bool {
        true
    }

    fn score(&mut self, trial: usize, model: &mut Applied<'_>) -> Result<(), DetectError> {
        let (reading, window) = (&self.data.training.reading, self.data.training.window);
        let [_, size] = model.model.header.config.extent();
        if size != window {
            return Err(DetectError::Input(format!(
                "'{}' sees windows of {size} points, what it is compared with {window}; compare models of one size",
                line(&model.path.to_string_lossy())
            )));
        }
        let set = open_series(&self.trials[trial].spec, model.model, reading.series.clone())?;
        let scores = point_scores(model, &set, set.test_rows(), reading.stride)?;
        let calibration = own(model.model, model.score).ok_or_else(no_held_out)?;
        self.tried.push(OnSeries::new(&set, scores, &calibration.quantiles, self.data.rate)?);
        Ok(())
    }

    fn add(&mut self, name: &str, untrained: bool) -> Result<(), DetectError> {
        self.systems += usize::from(!untrained);
        self.pool(if untrained { format!("{name} untrained") } else { name.to_owned() })
    }

    fn write(
        &mut self,
        device: &Device,
        pages: &ComparisonPages<'_>,
        _: &mut dyn Observer,
    ) -> Result<Compared, DetectError> {
        self.add_baselines()?;
        let (rate, training) = (self.data.rate, &self.data.training);
        let truths: Vec<_> = self.sets.iter().map(PointTruths::of).collect();
        let unscored: Vec<_> = truths.iter().map(|truths| truths.scored(&[])).collect();
        let random = random_reference(&unscored, rate, self.rule, K, RANDOM_RUNS, training.seed)?;
        let random: BTreeMap<_, _> = random.into_iter().collect();
        let rows = table::rows(self.evaluations.iter().map(|(name, e)| (name.as_str(), e)), &random);
        let (first, size, spec) = (&self.evaluations[0].1, training.window, &training.spec);
        let data = format!(
            "{spec} ({} series, {} test points, {} anomalous)",
            self.sets.len(),
            first.n_points,
            first.n_anomalous
        );
        let table = format!(
            "Data: {data}. Windows of {size}, threshold at {rate} false alarms on held-out normal points.\n\n{}",
            table::markdown(&rows)
        );
        pages.write_section(&table)?;
        let evaluations = std::mem::take(&mut self.evaluations).into_iter();
        let document = SeriesMetrics {
            data: spec.clone(),
            series: self.trials.iter().map(|trial| trial.spec.clone()).collect(),
            rows: evaluations.map(|(scores, evaluation)| SeriesRow { scores, evaluation }).collect(),
            random,
        };
        let written = Written { comparison: &document, points: self.plots.iter().map(Points::of).collect() };
        let text = serde_json::to_string(&written).map_err(|e| DetectError::Input(e.to_string()))?;
        let page = SeriesReport {
            title: format!("{} systems on {spec}", self.systems),
            facts: vec![
                ("data", data),
                ("device", device.describe()),
                ("windows", format!("{size} points")),
                ("scores", "0 at the median held-out point, 1 at the threshold".to_owned()),
            ],
            columns: table::headings(),
            rows,
            series: std::mem::take(&mut self.plots),
            losses: vec![],
        };
        let [page, _] = write_series_report(pages.folder, &page, &text)?;
        Ok(Compared { table, document: ComparisonDocument::Points(document), page })
    }
}

/// What `compare --json` says of series.
#[derive(Debug, Serialize)]
pub struct SeriesMetrics {
    /// The data that were given.
    pub data: String,
    /// Each series.
    pub series: Vec<String>,
    /// A row for each detector.
    pub rows: Vec<SeriesRow>,
    /// The same metrics of random scores.
    pub random: BTreeMap<&'static str, Repeated>,
}

/// A detector on all series together.
#[derive(Debug, Serialize)]
pub struct SeriesRow {
    /// What its scores are.
    pub scores: String,
    /// Every metric.
    #[serde(flatten)]
    pub evaluation: SignalEvaluation,
}

/// `metrics.json`: what is printed, and every score.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    comparison: &'a SeriesMetrics,
    points: Vec<Points<'a>>,
}

/// The scores along a series.
#[derive(Serialize)]
struct Points<'a> {
    series: &'a str,
    /// Row of the first score.
    first_row: usize,
    /// By detector; single precision is more than they have.
    scores: BTreeMap<&'a str, Vec<f32>>,
}

impl<'a> Points<'a> {
    fn of(plot: &'a PlottedSeries) -> Self {
        let scores =
            plot.detectors.iter().map(|d| (d.name.as_str(), d.scores.iter().map(|&s| s as f32).collect()));
        Self { series: &plot.name, first_row: plot.first, scores: scores.collect() }
    }
}
