//! Series to be scored point by point.

use std::fs::canonicalize;

use super::{alarm_rule, alarms, open_to_score, point_scores};
use crate::detect::open::check_paths;
use crate::detect::shard::Listing;
use crate::detect::{
    Answers, Applied, DetectError, HeldOut, Judge, MapOutputs, NormalData, Queries, QueryData, SeriesAnswer,
};

/// Series that are opened one after the other.
pub struct SeriesQueries {
    data: QueryData,
}

impl SeriesQueries {
    /// Every row of CSV files, the test rows of sets that have both.
    ///
    /// # Errors
    /// [`DetectError::Input`] for a file that is not there.
    pub fn new(data: QueryData) -> Result<Self, DetectError> {
        check_paths(&data.specs)?;
        Ok(Self { data })
    }
}

impl Queries for SeriesQueries {
    fn answers(
        &self,
        model: &mut Applied<'_>,
        judge: &Judge<'_>,
        _: usize,
        _: &MapOutputs,
    ) -> Result<Answers, DetectError> {
        judge.note_missing("points", model.observer);
        let reading = &self.data.reading;
        let mut series = vec![];
        let mut listing = Listing::new(self.data.shard);
        for spec in &self.data.specs {
            let Some(place) = listing.next(spec) else { continue };
            let set = open_to_score(spec, model.model, reading.series.clone())?;
            set.notes().iter().for_each(|text| model.observer.note(&format!("{spec}: {text}")));
            let rows = set.test_rows();
            let scores = point_scores(model, &set, rows.clone(), reading.stride)?;
            let rule = alarm_rule(model.model.header.config.size.width);
            let alarms_of = |threshold| alarms(&set, rows.start, &scores, threshold, rule);
            let time = |row| set.series().time(row).map_or_else(|| row.to_string(), str::to_owned);
            series.push(SeriesAnswer {
                place,
                path: spec.clone(),
                first_row: rows.start,
                alarms: judge.threshold.as_ref().map_or(vec![], |t| alarms_of(t.value)),
                probabilities: scores.iter().map(|&score| judge.probability(score)).collect(),
                percentiles: scores.iter().map(|&score| judge.percentile(score)).collect(),
                p_values: scores.iter().map(|&score| judge.p_value(score)).collect(),
                notes: set.notes().to_vec(),
                times: rows.map(time).collect(),
                anomalous: scores.iter().map(|&score| judge.is_anomalous(score)).collect(),
                scores,
            });
        }
        Ok(Answers::Points { series, listed: listing.finish() })
    }
}

/// Scores of the points of a series that the model was not trained on: all rows of a file, the test rows of a
/// set that has both, if none of them is known to be anomalous.
pub(in crate::detect) fn normal(data: &NormalData, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
    let set = open_to_score(&data.spec, model.model, data.reading.series.clone())?;
    set.notes().iter().for_each(|text| model.observer.note(text));
    let rows = set.test_rows();
    // Which rows of it were trained on, a model does not remember.
    if rows.start == 0 && is_same_file(&data.spec, &model.model.header.data.spec) {
        return Err(data.seen());
    }
    let anomalous = set.labels()[rows.clone()].iter().filter(|&&is| is).count();
    if anomalous > 0 {
        return Err(DetectError::Input(format!(
            "{anomalous} rows of '{}' are anomalous; a threshold comes from normal ones: give a file without them",
            data.spec
        )));
    }
    let scores = point_scores(model, &set, rows, data.reading.stride)?;
    Ok(HeldOut { points: true, ..scores.into() })
}

fn is_same_file(a: &str, b: &str) -> bool {
    a == b || canonicalize(a).is_ok_and(|a| canonicalize(b).is_ok_and(|b| a == b))
}
