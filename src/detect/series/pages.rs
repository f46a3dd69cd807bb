//! The report of an evaluation on a series.

use std::path::PathBuf;

use ganomede_datasets::SignalSet;
use serde::Serialize;

use super::{PointAssessment, PointTruths, SeriesTests, alarm_rule, table};
use crate::detect::{Applied, Assess, Assessment, DetectError, Pages, losses};
use crate::eval::signal::{AlarmRule, intervals};
use crate::report::{PlottedScores, PlottedSeries, SeriesReport, write_series_report};

/// `metrics.json`.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    assessment: &'a PointAssessment,
    /// Row of the first score.
    first_row: usize,
    scores: &'a [f64],
}

/// Evaluates and writes the pages.
pub(super) fn write(
    test: &SeriesTests,
    model: &mut Applied<'_>,
    how: &Assess,
    pages: &Pages<'_>,
) -> Result<(Assessment, [PathBuf; 2]), DetectError> {
    let assessment = test.assess_points(model, how)?;
    let PointAssessment { system, device, data, scores, .. } = &assessment;
    let threshold = assessment.evaluation.threshold.as_ref().map(|t| t.value);
    let rule = alarm_rule(model.model.header.config.size.width);
    let mut series = plotted(&test.set, data);
    series.detectors = vec![said(system, scores, threshold, rule)];
    let page = SeriesReport {
        title: format!("{system} on {data}"),
        facts: vec![
            ("system", system.clone()),
            ("device", device.clone()),
            ("data", data.clone()),
            ("points", assessment.points()),
        ],
        columns: table::headings(),
        rows: assessment.rows(),
        series: vec![series],
        losses: losses(model.model),
    };
    let written = Written { assessment: &assessment, first_row: test.set.test_rows().start, scores };
    let text = serde_json::to_string_pretty(&written).map_err(|e| DetectError::Input(e.to_string()))?;
    let files = write_series_report(pages.folder, &page, &text)?;
    Ok((Assessment::Points(Box::new(assessment)), files))
}

/// The scored stretch of a series without any detector yet.
pub(super) fn plotted(set: &SignalSet, name: &str) -> PlottedSeries {
    let rows = set.test_rows();
    // Scaled as the systems see them: channels of different units on one axis.
    let value = |row: usize, c: usize| f64::from(set.scale().apply(c, set.series().row(row)[c]));
    let values = |c: usize| rows.clone().map(|row| value(row, c)).collect();
    let channels = set.series().channels.iter().enumerate();
    PlottedSeries {
        name: name.to_owned(),
        first: rows.start,
        channels: channels.map(|(c, name)| (name.clone(), values(c))).collect(),
        windows: PointTruths::of(set).segments.iter().map(|s| s.start..s.end).collect(),
        detectors: vec![],
    }
}

/// What a detector says, for [`plotted`].
pub(super) fn said(name: &str, scores: &[f64], threshold: Option<f64>, rule: AlarmRule) -> PlottedScores {
    let flagged: Vec<bool> = scores.iter().map(|&s| threshold.is_some_and(|t| s >= t)).collect();
    let alarms = intervals(&flagged, rule).into_iter().map(|i| i.start..i.end).collect();
    PlottedScores { name: name.to_owned(), scores: scores.to_vec(), threshold, alarms }
}
