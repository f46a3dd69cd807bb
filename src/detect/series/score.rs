//! Series to be scored point by point.

use super::{alarm_rule, alarms, open_to_score, point_scores};
use crate::detect::open::check_paths;
use crate::detect::{Answers, Applied, DetectError, Judge, MapOutputs, Queries, QueryData, SeriesAnswer};

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
        if !judge.is_calibrated() {
            let note = "no calibration for these score settings: points come without probability and verdict";
            model.observer.note(note);
        }
        let reading = &self.data.reading;
        let mut series = vec![];
        for spec in &self.data.specs {
            let set = open_to_score(spec, model.model, reading.series.clone())?;
            set.notes().iter().for_each(|text| model.observer.note(&format!("{spec}: {text}")));
            let rows = set.test_rows();
            let scores = point_scores(model, &set, rows.clone(), reading.stride)?;
            let rule = alarm_rule(model.model.header.config.size.width);
            let alarms_of = |threshold| alarms(&set, rows.start, &scores, threshold, rule);
            let time = |row| set.series().time(row).map_or_else(|| row.to_string(), str::to_owned);
            series.push(SeriesAnswer {
                path: spec.clone(),
                first_row: rows.start,
                alarms: judge.threshold.as_ref().map_or(vec![], |t| alarms_of(t.value)),
                probabilities: scores.iter().map(|&score| judge.probability(score)).collect(),
                notes: set.notes().to_vec(),
                times: rows.map(time).collect(),
                anomalous: scores.iter().map(|&score| judge.is_anomalous(score)).collect(),
                scores,
            });
        }
        Ok(Answers::Points { series })
    }
}
