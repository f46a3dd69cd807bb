//! How well the test rows of a table are told apart.

use std::path::Path;
#[cfg(feature = "report")]
use std::path::PathBuf;
use std::time::Instant;

use ganomede_datasets::{Split, Table, TableOptions, Truth};
use serde::Serialize;

use super::{Rows, groups_of, held_out_row_scores, open_table, row_scores};
use crate::detect::assess::{balanced, calibrated};
use crate::detect::{
    Applied, Assess, Assessment, DetectError, Judge, Observer, SampleAssessment, Samples, TestData, TestSet,
};
#[cfg(feature = "report")]
use crate::detect::{Pages, losses};
use crate::eval::{Evaluation, EvaluationInput};
use crate::models::file::ModelFile;
use crate::report::ScoredImage;
#[cfg(feature = "report")]
use crate::report::{ReportInput, Supplement, write_report_with};

/// The test rows of a table with labels.
pub struct RowTests {
    data: TestData,
    table: Table,
}

/// What became of the rows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// All of them.
    pub in_file: usize,
    /// Those that were scored.
    pub tested: usize,
    /// Those that the model was trained on.
    pub trained_on: usize,
    /// Those held out for its calibration.
    pub held_out: usize,
    /// Those whose truth is not known.
    pub without_label: usize,
    /// Dropped by the share of anomalies or the limit that was asked for, or by KDD99's protocol.
    pub left_out: usize,
}

impl std::fmt::Display for RowCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { in_file, tested, trained_on, held_out, without_label, left_out } = self;
        write!(f, "of {in_file} rows {tested} tested")?;
        let rest = [
            (trained_on, "trained on"),
            (held_out, "held out"),
            (without_label, "without a label"),
            (left_out, "left out"),
        ];
        rest.iter()
            .filter(|(count, _)| **count > 0)
            .try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

impl RowTests {
    /// Opens a table as a model's own was read.
    ///
    /// # Errors
    /// [`DetectError`] where it cannot be read, has no labels, or leaves nothing to test.
    pub fn open(
        data: TestData,
        model: &ModelFile,
        path: &Path,
        observer: &mut dyn Observer,
    ) -> Result<Self, DetectError> {
        let table = open_table(&data.spec, model, path, data.reading.table.clone())?;
        let spec = table.spec();
        table.notes().iter().for_each(|text| observer.note(&format!("{spec}: {text}")));
        if !table.is_labelled() {
            return Err(DetectError::Input(format!(
                "nothing says which rows of '{spec}' are anomalous: it has no column of labels; name it with \
                 `label-column`; `ganomede score` works without"
            )));
        }
        let test = table.len(Split::Test);
        if test == 0 {
            let why = if table.is_own() { "all of them were trained on" } else { "none has a label" };
            return Err(DetectError::Input(format!(
                "'{spec}' has no row to test: {why}; give a file with others"
            )));
        }
        observer.note(&match table.is_own() {
            true => {
                format!("{spec}: the file that was trained on: the {test} rows that training left are tested")
            }
            false => format!("{spec}: not the file that was trained on: all rows with labels are tested"),
        });
        Ok(Self { data, table })
    }

    fn assess_rows(&self, model: &mut Applied<'_>, how: &Assess) -> Result<SampleAssessment, DetectError> {
        let table = &self.table;
        let test = table.len(Split::Test);
        let is_anomalous = |i: usize| table.truth(Split::Test, i) == Truth::Anomalous;
        let TestData { limit, seed, .. } = self.data;
        let chosen = balanced(test, limit, seed, "rows", |i| Some(is_anomalous(i)))?;
        let (chosen, sub_sample) = match chosen {
            Some((chosen, how)) => (chosen, Some(how)),
            None => ((0..test).collect(), None),
        };
        let rows: Vec<usize> = chosen.iter().map(|&i| table.source_row(Split::Test, i)).collect();
        let truths: Vec<bool> = chosen.iter().map(|&i| is_anomalous(i)).collect();
        let absent =
            "no threshold: the score's settings differ from the calibrated ones and no held-out row is here";
        let held_out = |model: &mut Applied<'_>| held_out_row_scores(model, table);
        let calibration = calibrated(model, how.rate, held_out, absent)?;
        let judge = Judge::new(calibration.as_ref(), how.rate)?;
        let started = Instant::now();
        let scores = row_scores(model, table, &rows)?;
        let seconds = started.elapsed().as_secs_f64();
        let images = rows.iter().zip(&scores).zip(&truths).map(|((row, &score), &anomalous)| ScoredImage {
            id: format!("row {row}"),
            class: if anomalous { "anomalous" } else { "normal" }.to_owned(),
            anomalous: Some(anomalous),
            score,
            probability: judge.probability(score),
            percentile: judge.percentile(score),
            verdict: judge.is_anomalous(score),
        });
        let images = images.collect();
        let description = model.device.describe();
        let evaluation = Evaluation::new(&EvaluationInput {
            system: &model.model.header.system,
            device: &description,
            scores: &scores,
            truths: &truths,
            groups: &groups_of(table, &rows),
            threshold: judge.threshold,
            seconds_per_image: seconds / scores.len().max(1) as f64,
            sub_sample,
            seed: how.seed,
            ..EvaluationInput::default()
        })?
        .with_controls(vec![]);
        let [in_file, without_label] = [table.rows(), table.unlabelled()];
        let [trained_on, held_out] = [table.len(Split::Train), table.held_out().len()];
        let tested = rows.len();
        let left_out = in_file - tested - trained_on - held_out - without_label;
        let counts = RowCounts { in_file, tested, trained_on, held_out, without_label, left_out };
        model.observer.note(&format!("{}: {counts}", table.spec()));
        Ok(SampleAssessment { evaluation, findings: None, rows: Some(counts), images })
    }
}

impl TestSet for RowTests {
    fn assess(&self, model: &mut Applied<'_>, how: &Assess) -> Result<Assessment, DetectError> {
        Ok(Assessment::Samples(Box::new(self.assess_rows(model, how)?)))
    }

    #[cfg(feature = "report")]
    fn report(
        &self,
        model: &mut Applied<'_>,
        how: &Assess,
        pages: &Pages<'_>,
    ) -> Result<(Assessment, [PathBuf; 2]), DetectError> {
        let assessed = self.assess_rows(model, how)?;
        let named = |(name, value): (&str, String)| (name.to_owned(), value);
        let configuration = [
            ("model", ganomede_host::line(&model.path.to_string_lossy()).into_owned()),
            ("score", model.score.score.clone()),
            ("false-alarm rate", how.rate.to_string()),
            ("rows", assessed.rows.map_or(String::new(), |rows| rows.to_string())),
        ];
        let input = ReportInput {
            title: format!("{} on {}", model.model.header.system, self.data.spec),
            data: self.data.spec.clone(),
            configuration: configuration.map(named).to_vec(),
            evaluation: assessed.evaluation.clone(),
            images: assessed.images.clone(),
            panels: vec![],
            losses: losses(model.model),
            samples: None,
        };
        let supplement = Supplement { sample: Some("row"), ..Supplement::default() };
        let files = write_report_with(pages.folder, &input, &supplement)?;
        Ok((Assessment::Samples(Box::new(assessed)), files))
    }

    fn again(&self, model: &ModelFile, seed: u64) -> Result<Box<dyn Samples>, DetectError> {
        if !self.table.is_own() {
            return Err(DetectError::Input(format!(
                "'{}' does not hold the rows that the model was trained on ('{}')",
                self.data.spec, model.header.data.spec
            )));
        }
        // Labels are the model's: what is given here may name a part of them only.
        let given = TableOptions {
            normal_labels: vec![],
            anomalous_labels: vec![],
            ..self.data.reading.table.clone()
        };
        Ok(Box::new(Rows::again(&self.data.spec, model, seed, given)?))
    }
}
