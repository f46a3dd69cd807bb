//! How well the test rows of a series are told apart.

use std::collections::BTreeMap;
#[cfg(feature = "report")]
use std::path::PathBuf;
use std::time::Instant;

use ganomede_datasets::SignalSet;
use serde::Serialize;

use super::{
    Alarm, BASELINES, PointTruths, alarm_rule, alarms, baseline_scores, open_series, point_scores, table,
};
use crate::detect::{
    Applied, Assess, Assessment, DetectError, Judge, Observer, Samples, TestData, TestSet, own,
};
#[cfg(feature = "report")]
use crate::detect::{Pages, series::pages};
use crate::eval::Repeated;
use crate::eval::signal::{SignalEvaluation, random_reference};
use crate::models::file::ModelFile;

/// K of PA%K, in percent (Kim et al., AAAI 2022).
pub(super) const K: f64 = 20.0;
/// Runs of the row of random scores.
pub(super) const RANDOM_RUNS: usize = 10;

/// The test rows of a series of which it is known what is anomalous.
pub struct SeriesTests {
    pub(super) data: TestData,
    pub(super) set: SignalSet,
}

impl SeriesTests {
    /// Opens a series, scaled as a model was trained.
    ///
    /// # Errors
    /// [`DetectError`] where it cannot be read or has no labels.
    pub fn open(data: TestData, model: &ModelFile, observer: &mut dyn Observer) -> Result<Self, DetectError> {
        let set = open_series(&data.spec, model, data.reading.series.clone())?;
        check_labelled(&set)?;
        set.notes().iter().for_each(|text| observer.note(text));
        Ok(Self { data, set })
    }
}

/// Refuses a series of which nothing is known.
pub(super) fn check_labelled(set: &SignalSet) -> Result<(), DetectError> {
    if set.is_labelled() {
        return Ok(());
    }
    Err(DetectError::Input(format!(
        "nothing says which rows of '{}' are anomalous; give `labels` FILE or `label-column`; `ganomede score` works \
         without",
        set.spec()
    )))
}

/// What a model makes of the test rows of a series.
#[derive(Debug, Clone, Serialize)]
pub struct PointAssessment {
    /// The system.
    pub system: String,
    /// Where it ran.
    pub device: String,
    /// The series.
    pub data: String,
    /// Every metric.
    #[serde(flatten)]
    pub evaluation: SignalEvaluation,
    /// The same metrics of what needs no training, where rows were held out to set its threshold.
    pub baselines: BTreeMap<&'static str, SignalEvaluation>,
    /// The same metrics of random scores: what a number is worth.
    pub random: BTreeMap<&'static str, Repeated>,
    /// Points above the threshold as intervals.
    pub alarms: Vec<Alarm>,
    /// What was decided in reading the series.
    pub notes: Vec<String>,
    /// Time to score one point.
    pub seconds_per_point: f64,
    /// The score of each test row.
    #[serde(skip)]
    pub scores: Vec<f64>,
}

impl PointAssessment {
    /// Points and segments in numbers.
    pub(super) fn points(&self) -> String {
        let e = &self.evaluation;
        format!("{}, {} of them anomalous in {} segments", e.n_points, e.n_anomalous, e.n_segments)
    }

    /// The table that people read: the model, what needs no training, random scores.
    pub(super) fn rows(&self) -> Vec<(String, Vec<String>)> {
        let baselines = self.baselines.iter().map(|(&name, e)| (name, e));
        table::rows([(self.system.as_str(), &self.evaluation)].into_iter().chain(baselines), &self.random)
    }

    pub(in crate::detect) fn summary(&self) -> String {
        let table = table::markdown(&self.rows());
        let head = format!("points: {}\n{}", self.points(), table.trim_end());
        self.alarms.iter().fold(head, |text, alarm| format!("{text}\n{alarm}"))
    }
}

impl SeriesTests {
    pub(super) fn assess_points(
        &self,
        model: &mut Applied<'_>,
        how: &Assess,
    ) -> Result<PointAssessment, DetectError> {
        let (set, header) = (&self.set, &model.model.header);
        let (held_out, size) = (header.data.val_fraction, header.config.size.width);
        let rows = set.test_rows();
        let started = Instant::now();
        let scores = point_scores(model, set, rows.clone(), self.data.reading.stride)?;
        let seconds = started.elapsed().as_secs_f64();
        let judge = Judge::new(own(model.model, model.score), how.rate)?;
        let truths = PointTruths::of(set);
        let rule = alarm_rule(size);
        let series = [truths.scored(&scores)];
        let evaluation = SignalEvaluation::new(&series, judge.threshold.as_ref(), rule, K)?;
        let random = random_reference(&series, how.rate, rule, K, RANDOM_RUNS, how.seed)?;
        let mut baselines = BTreeMap::new();
        for (name, baseline) in BASELINES {
            if let Some((scores, quantiles)) = baseline_scores(baseline, set, held_out, size)? {
                let series = [truths.scored(&scores)];
                let threshold = quantiles.threshold(how.rate)?;
                baselines.insert(name, SignalEvaluation::new(&series, Some(&threshold), rule, K)?);
            }
        }
        let alarms_of = |threshold| alarms(set, rows.start, &scores, threshold, rule);
        Ok(PointAssessment {
            system: model.model.header.system.clone(),
            device: model.device.describe(),
            data: self.data.spec.clone(),
            evaluation,
            baselines,
            random: random.into_iter().collect(),
            alarms: judge.threshold.as_ref().map_or(vec![], |t| alarms_of(t.value)),
            notes: set.notes().to_vec(),
            seconds_per_point: seconds / scores.len().max(1) as f64,
            scores,
        })
    }
}

impl TestSet for SeriesTests {
    fn assess(&self, model: &mut Applied<'_>, how: &Assess) -> Result<Assessment, DetectError> {
        Ok(Assessment::Points(Box::new(self.assess_points(model, how)?)))
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

    fn again(&self, _: &ModelFile, _: u64) -> Result<Box<dyn Samples>, DetectError> {
        Err(DetectError::Input("a series is evaluated with the model given".to_owned()))
    }
}
