//! Rows of a table: how they are read, scored and evaluated.

mod evaluate;
mod score;

use std::path::Path;

use ganomede::detect::open_table;
use ganomede::models::Form;
use ganomede::models::file::ModelFile;
use ganomede_datasets::{Table, TableOptions};

use super::SampleArgs;
use crate::shared::{CliError, note};

pub(crate) use evaluate::evaluate_table;
pub(crate) use score::score_table;

impl SampleArgs {
    /// How a table is read.
    pub(crate) fn table_options(&self) -> TableOptions {
        TableOptions {
            label_column: self.label_column.clone(),
            header: self.header.into(),
            train_fraction: self.train_fraction,
            anomaly_share: self.anomaly_share,
            ..TableOptions::default()
        }
    }

    /// Opens a table as a model's own was read, and says what was decided about it.
    fn open_table(
        &self,
        spec: &str,
        [normal, anomalous]: [&[String]; 2],
        model: &ModelFile,
        path: &Path,
    ) -> Result<Table, CliError> {
        self.check(Form::Table)?;
        if self.train_fraction.is_some() {
            return Err(CliError::input(
                "--train-fraction is for training; the model knows which rows it was trained on",
            ));
        }
        let given = TableOptions {
            normal_labels: normal.to_vec(),
            anomalous_labels: anomalous.to_vec(),
            ..self.table_options()
        };
        let table = open_table(spec, model, path, given)?;
        table.notes().iter().for_each(|decided| note(&format!("{}: {decided}", table.spec())));
        Ok(table)
    }
}
