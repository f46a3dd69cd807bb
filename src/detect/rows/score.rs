//! Tables to be scored row by row.

use ganomede_datasets::{Indices, Split, Table, TableOptions, Truth};

use super::{normal_rows, open_table, row_scores};
use crate::detect::open::check_paths;
use crate::detect::shard::Listing;
use crate::detect::{
    Answer, Answers, Applied, DetectError, HeldOut, Judge, MapOutputs, NormalData, Observer, Queries,
    QueryData,
};

/// Tables that are opened one after the other.
pub struct RowQueries {
    data: QueryData,
}

impl RowQueries {
    /// Every row of CSV files, or those of one part.
    ///
    /// # Errors
    /// [`DetectError::Input`] for a file that is not there.
    pub fn new(data: QueryData) -> Result<Self, DetectError> {
        check_paths(&data.specs)?;
        Ok(Self { data })
    }

    /// Rows of the file that are scored, in its order.
    fn rows(&self, table: &Table, observer: &mut dyn Observer) -> Result<Vec<usize>, DetectError> {
        let QueryData { split, limit, seed, .. } = self.data;
        let part = |split: Split| (0..table.len(split)).map(|i| table.source_row(split, i)).collect();
        let rows: Vec<usize> = split.map_or_else(|| (0..table.rows()).collect(), part);
        if rows.is_empty() {
            let reason = format!("'{}' has no rows of this `split`; leave it out", table.spec());
            return Err(DetectError::Input(reason));
        }
        let Some(limit) = limit.filter(|&limit| limit < rows.len()) else { return Ok(rows) };
        observer.note(&format!("{limit} of {} rows at random, seed {seed}", rows.len()));
        let chosen = Indices::shuffled(rows.len(), seed).take(limit);
        let mut chosen: Vec<usize> = chosen.iter().map(|i| rows[i]).collect();
        chosen.sort_unstable();
        Ok(chosen)
    }
}

impl Queries for RowQueries {
    fn answers(
        &self,
        model: &mut Applied<'_>,
        judge: &Judge<'_>,
        _: usize,
        _: &MapOutputs,
    ) -> Result<Answers, DetectError> {
        judge.note_missing("rows", model.observer);
        let mut images = vec![];
        let mut listing = Listing::new(self.data.shard);
        for spec in &self.data.specs {
            // Their labels say nothing of a score.
            let given = TableOptions {
                normal_labels: vec![],
                anomalous_labels: vec![],
                ..self.data.reading.table.clone()
            };
            let table = open_table(spec, model.model, model.path, given)?;
            table.notes().iter().for_each(|text| model.observer.note(&format!("{spec}: {text}")));
            let rows = self.rows(&table, model.observer)?;
            let here = rows.iter().filter_map(|row| Some((listing.next(&format!("{spec} {row}"))?, *row)));
            let (places, rows): (Vec<_>, Vec<_>) = here.unzip();
            let scores = row_scores(model, &table, &rows)?;
            images.extend(places.into_iter().zip(rows).zip(scores).map(|((place, row), score)| Answer {
                place,
                row: Some(row),
                ..Answer::new(spec, score, judge)
            }));
        }
        let drift = match self.data.shard {
            Some(_) => None,
            None => judge.drift(&images, model.observer),
        };
        Ok(Answers::Samples {
            images,
            rejected: vec![],
            skipped: vec![],
            map_range: None,
            map_threshold: None,
            drift,
            listed: listing.finish(),
        })
    }
}

/// Scores of the rows of a table that the model was not trained on, but for those that are known to be
/// anomalous.
pub(in crate::detect) fn normal(data: &NormalData, model: &mut Applied<'_>) -> Result<HeldOut, DetectError> {
    let table = open_table(&data.spec, model.model, model.path, data.reading.table.clone())?;
    let spec = table.spec();
    table.notes().iter().for_each(|text| model.observer.note(&format!("{spec}: {text}")));
    if table.is_own() {
        return Err(data.seen());
    }
    let labelled = table.is_labelled() && table.unlabelled() < table.rows();
    let rows: Vec<usize> = match labelled {
        false => (0..table.rows()).collect(),
        true => {
            let tested =
                (0..table.len(Split::Test)).filter(|&i| table.truth(Split::Test, i) == Truth::Normal);
            tested.map(|i| table.source_row(Split::Test, i)).collect()
        }
    };
    model.observer.note(&format!("{spec}: of {} rows {} are normal", table.rows(), rows.len()));
    if rows.is_empty() {
        return Err(DetectError::Input(format!("'{spec}' has no normal row to take a threshold from")));
    }
    normal_rows(model, &table, &rows)
}
