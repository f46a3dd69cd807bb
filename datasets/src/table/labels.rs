//! What the labels of rows mean.

use std::collections::BTreeMap;
use std::path::Path;

use super::TableOptions;
use super::schema::{Schema, listed, short};
use crate::csv_file::number;
use crate::{DataError, Truth};

/// Labels that mean normal where none are given.
const NORMAL: [&str; 4] = ["0", "normal", "good", "inlier"];
/// Different labels that a column may hold.
const MAX_LABELS: usize = 1000;

/// Reads the labels of a file by what was given, else by what the model learned.
pub(crate) struct Labels<'a> {
    path: &'a Path,
    options: &'a TableOptions,
    /// Attacks are normal.
    kdd99: bool,
    /// What the model knows.
    learned: Option<&'a Schema>,
    /// Labels met: what they mean and how many rows have them.
    met: BTreeMap<String, (Truth, usize)>,
}

/// Numbers are the same however they are written, words in either case and with or without KDD99's dot.
pub(crate) fn is_label(a: &str, b: &str) -> bool {
    let [a, b] = [a, b].map(|label| label.trim_end_matches('.'));
    a.eq_ignore_ascii_case(b) || matches!((number(a), number(b)), (Ok(Some(a)), Ok(Some(b))) if a == b)
}

impl<'a> Labels<'a> {
    pub(crate) fn new(path: &'a Path, options: &'a TableOptions, kdd99: bool) -> Result<Self, DataError> {
        let both =
            options.normal_labels.iter().find(|n| options.anomalous_labels.iter().any(|a| is_label(n, a)));
        if let Some(label) = both {
            let reason = "is given as normal and as anomalous; choose one";
            return Err(DataError::option("label", label, reason));
        }
        let learned = options.trained.as_ref().map(|trained| &trained.schema);
        Ok(Self { path, options, kdd99, learned, met: BTreeMap::new() })
    }

    /// Lists that hold: those given, else the model's.
    fn lists(&self) -> [&[String]; 2] {
        let options = self.options;
        match (&options.trained, self.is_given()) {
            (Some(trained), false) => [&trained.normal_labels, &trained.anomalous_labels],
            _ => [&options.normal_labels, &options.anomalous_labels],
        }
    }

    fn is_given(&self) -> bool {
        !self.options.normal_labels.is_empty() || !self.options.anomalous_labels.is_empty()
    }

    /// Truth of a row of this label.
    pub(crate) fn read(&mut self, line: u64, label: &str) -> Result<Truth, DataError> {
        if let Some((truth, rows)) = self.met.get_mut(label) {
            *rows += 1;
            return Ok(*truth);
        }
        let truth = self.judge(line, label)?;
        if self.met.len() == MAX_LABELS {
            let reason =
                format!("holds more than {MAX_LABELS} different labels; name the column of the labels");
            return Err(DataError::file(self.path, reason));
        }
        self.met.insert(label.to_string(), (truth, 1));
        Ok(truth)
    }

    fn judge(&self, line: u64, label: &str) -> Result<Truth, DataError> {
        let value = number(label);
        let [normal, anomalous] = self.lists();
        let is = |list: &[String]| list.iter().any(|one| is_label(one, label));
        let truth = match (normal, anomalous) {
            (normal, _) if is(normal) => Truth::Normal,
            (_, anomalous) if is(anomalous) => Truth::Anomalous,
            _ if matches!(value, Ok(None)) => Truth::Unknown,
            ([], []) if self.kdd99 && is_label("normal", label) => Truth::Anomalous,
            ([], []) if self.kdd99 || NORMAL.iter().any(|normal| is_label(normal, label)) => Truth::Normal,
            ([], []) if matches!(value, Ok(Some(v)) if v.fract() != 0.0) => {
                let reason = format!(
                    "line {line}: `{}` in the column of the labels is a measure, no label; name the column of the \
                     labels, or state which labels are normal",
                    short(label)
                );
                return Err(DataError::file(self.path, reason));
            }
            (_, []) => Truth::Anomalous,
            ([], _) => Truth::Normal,
            _ => Truth::Unknown,
        };
        let learned = self.learned.and_then(|schema| {
            schema.labels.iter().find(|(one, _)| is_label(one, label)).map(|(_, &is_anomalous)| is_anomalous)
        });
        match (learned, truth) {
            (Some(true), Truth::Normal) | (Some(false), Truth::Anomalous) => {
                let [here, there] = match truth {
                    Truth::Normal => ["normal", "anomalous"],
                    _ => ["anomalous", "normal"],
                };
                let reason = format!(
                    "the label `{}` would be {here}, but it was {there} when the model was trained; leave the classes \
                     out, or train a model of its own",
                    short(label)
                );
                Err(DataError::file(self.path, reason))
            }
            _ => Ok(truth),
        }
    }

    /// Checks that what was given occurs, and says what the labels mean.
    pub(crate) fn finish(self) -> Result<(BTreeMap<String, bool>, Vec<String>), DataError> {
        let there: Vec<String> = self.met.keys().cloned().collect();
        let given = self.options.normal_labels.iter().chain(&self.options.anomalous_labels);
        let meant = |one: &str| self.met.keys().any(|label| is_label(one, label));
        if let Some(unmet) = given.clone().find(|one| !meant(one)) {
            let reason =
                format!("no row has the label `{}`; its labels are {}", short(unmet), listed(&there));
            return Err(DataError::file(self.path, reason));
        }
        let mut notes = vec![];
        let of = |truth: Truth| {
            let rows = self.met.iter().filter(|(_, (t, _))| *t == truth);
            rows.map(|(label, (_, rows))| {
                format!("{} ({rows})", if label.is_empty() { "none" } else { label })
            })
            .collect::<Vec<_>>()
        };
        let known = [("normal", Truth::Normal), ("anomalous", Truth::Anomalous)];
        let parts: Vec<_> = known
            .into_iter()
            .map(|(name, truth)| (name, of(truth)))
            .map(|(name, labels)| {
                format!("{name}: {}", if labels.is_empty() { "–".into() } else { listed(&labels) })
            })
            .collect();
        notes.push(format!("labels that are {}", parts.join("; ")));
        let unknown = of(Truth::Unknown);
        if !unknown.is_empty() {
            notes.push(format!("rows whose labels say nothing are left out: {}", listed(&unknown)));
        }
        if let Some(schema) = self.learned {
            let is_new = |label: &&String| !schema.labels.keys().any(|known| is_label(known, label));
            let new: Vec<String> =
                there.iter().filter(is_new).filter(|l| self.met[*l].0 != Truth::Unknown).cloned().collect();
            if !new.is_empty() {
                notes.push(format!("labels that the model has not met: {}", listed(&new)));
            }
        }
        let known = self.met.into_iter().filter(|(_, (truth, _))| *truth != Truth::Unknown);
        let labels = known.map(|(label, (truth, _))| (label, truth == Truth::Anomalous)).collect();
        Ok((labels, notes))
    }
}
