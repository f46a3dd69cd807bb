//! What a model keeps of the table it was trained on, and which columns of another file are meant by it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use csv::StringRecord;
use serde::{Deserialize, Serialize};

use super::header::named_label;
use super::{TableOptions, kdd99};
use crate::DataError;

/// Features that a table may have.
const MAX_FEATURES: usize = 65_536;

/// What decides how the rows of a table are read; a model keeps it, so that other files are read as its own
/// was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// `kdd99` or `csv`.
    pub layout: String,
    /// Columns beside the label.
    pub width: usize,
    /// Their names, in the order of the features; empty where the file had no header.
    pub columns: Vec<String>,
    /// Name of the column of labels; empty where the file had no header.
    pub label: String,
    /// Place of the column of labels, from 0.
    pub label_place: usize,
    /// Column of groups, by name or number from 0, where rows were split by groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Labels met in training, and whether they are anomalous.
    pub labels: BTreeMap<String, bool>,
    /// Share of the rows that was drawn for training.
    pub train_fraction: f64,
}

/// Where the columns of a file lie.
pub(crate) struct Places {
    /// Of each feature's column.
    pub(crate) columns: Vec<usize>,
    /// Of the labels, if the file has them.
    pub(crate) label: Option<usize>,
    /// Of the groups, if rows come in groups.
    pub(crate) group: Option<usize>,
    /// What was decided that a user may want to know.
    pub(crate) notes: Vec<String>,
}

impl Schema {
    /// The schema of a file to be trained on, whose first row is `first`.
    pub(crate) fn new(
        path: &Path,
        layout: &str,
        first: &StringRecord,
        has_header: bool,
        options: &TableOptions,
    ) -> Result<(Self, Places), DataError> {
        let given = options.label_column.as_deref();
        let by_name = || if has_header { named_label(first) } else { None };
        let label = match given {
            Some(column) => find(path, first, has_header, column, "labels")?,
            None => by_name().unwrap_or(first.len().saturating_sub(1)),
        };
        let group = options.group.as_deref();
        let group = group.map(|column| find(path, first, has_header, column, "groups")).transpose()?;
        if group == Some(label) {
            let reason = format!(
                "`{}` cannot hold both labels and groups; name another column of one of them",
                short(&first[label])
            );
            return Err(DataError::file(path, reason));
        }
        let is_feature = |&column: &usize| column != label && Some(column) != group;
        let columns: Vec<usize> = (0..first.len()).filter(is_feature).collect();
        if columns.is_empty() || columns.len() > MAX_FEATURES {
            let reason =
                format!("has {} columns beside the label; 1 to {MAX_FEATURES} are expected", columns.len());
            return Err(DataError::file(path, reason));
        }
        let names = |places: &[usize]| places.iter().map(|&place| first[place].to_string()).collect();
        if has_header {
            check_distinct(path, first)?;
        }
        let schema = Schema {
            layout: layout.to_string(),
            width: columns.len(),
            columns: if has_header { names(&columns) } else { vec![] },
            label: if has_header { first[label].to_string() } else { String::new() },
            label_place: label,
            group: group.map(|place| if has_header { first[place].to_string() } else { place.to_string() }),
            ..Schema::default()
        };
        Ok((schema, Places { columns, label: Some(label), group, notes: vec![] }))
    }

    /// Refuses what no training has made: a model's file may hold anything.
    fn check(&self) -> Result<(), DataError> {
        let is_kdd99 = self.layout == kdd99::LAYOUT && self.width == kdd99::COLUMNS.len();
        let is_named = self.columns.is_empty() || self.columns.len() == self.width;
        if (self.layout == "csv" || is_kdd99) && is_named && (1..=MAX_FEATURES).contains(&self.width) {
            return Ok(());
        }
        let reason = "do not fit each other in the model's file; train it again";
        Err(DataError::option("columns", self.width, reason))
    }

    /// Whether a first row names columns of this schema.
    pub(crate) fn is_named_by(&self, first: &StringRecord) -> bool {
        self.columns.iter().any(|name| first.iter().any(|field| field == name))
    }

    /// Columns of another file: by name where both have names, else by place.
    pub(crate) fn places(
        &self,
        path: &Path,
        first: &StringRecord,
        has_header: bool,
        options: &TableOptions,
    ) -> Result<Places, DataError> {
        self.check()?;
        let given = options.label_column.as_deref();
        let given = given.map(|column| find(path, first, has_header, column, "labels")).transpose()?;
        let group = self.group(path, first, has_header, options)?;
        if has_header && !self.columns.is_empty() {
            return self.by_name(path, first, given, group);
        }
        let has_label = given.is_some() || first.len() > self.width + usize::from(group.is_some());
        let label = has_label.then(|| given.unwrap_or(self.label_place));
        let is_feature = |&column: &usize| Some(column) != label && Some(column) != group;
        let columns: Vec<usize> = (0..first.len()).filter(is_feature).collect();
        if columns.len() != self.width || label.is_some_and(|label| label >= first.len()) {
            let reason = format!(
                "has {} columns{}, but the model was trained on {} and a label; give the same columns",
                first.len(),
                if has_label { " with the label" } else { "" },
                self.width
            );
            return Err(DataError::file(path, reason));
        }
        let unnamed = match (has_header, self.columns.is_empty()) {
            _ if self.layout != "csv" => return Ok(Places { columns, label, group, notes: vec![] }),
            (true, true) => "the model was trained without names of columns".to_string(),
            (false, true) => "neither the file nor the model has names of columns".to_string(),
            _ => format!("the file has no names of columns, the model's are {}", listed(&self.columns)),
        };
        let notes = vec![format!("{unnamed}: they are taken by their places")];
        Ok(Places { columns, label, group, notes })
    }

    /// The column of groups of another file: the one that is given, else the model's where the file has it.
    fn group(
        &self,
        path: &Path,
        first: &StringRecord,
        has_header: bool,
        options: &TableOptions,
    ) -> Result<Option<usize>, DataError> {
        let is_named = has_header && !self.columns.is_empty();
        let given = options.group.as_deref();
        if let Some(column) = given {
            let found = find(path, first, has_header, column, "groups")?;
            if let Some(own) = self.group.as_deref().filter(|&own| is_named && *own != first[found]) {
                let reason = format!(
                    "groups are said to be in `{}`, but rows of the model's file were split by `{own}`; leave the \
                     column of groups out",
                    short(&first[found])
                );
                return Err(DataError::file(path, reason));
            }
            return Ok(Some(found));
        }
        let Some(own) = self.group.as_deref() else { return Ok(None) };
        let place = match is_named {
            true => first.iter().position(|field| field == own),
            // Beside a label, which a file without names has as well.
            false => own.parse().ok().filter(|&place| first.len() > self.width + 1 && place < first.len()),
        };
        Ok(place)
    }

    fn by_name(
        &self,
        path: &Path,
        first: &StringRecord,
        given: Option<usize>,
        group: Option<usize>,
    ) -> Result<Places, DataError> {
        check_distinct(path, first)?;
        let place = |name: &str| first.iter().position(|field| field == name);
        let missing: Vec<_> = self.columns.iter().filter(|name| place(name).is_none()).cloned().collect();
        let own = place(&self.label);
        let is_extra = |name: &&str| *name != self.label && !self.columns.iter().any(|column| column == name);
        let extra: Vec<_> = (0..first.len())
            .filter(|&column| Some(column) != given && Some(column) != group)
            .map(|column| &first[column])
            .filter(is_extra)
            .map(str::to_string)
            .collect();
        if !missing.is_empty() {
            let also = if extra.is_empty() {
                String::new()
            } else {
                format!(" (it has {} that the model does not know)", listed(&extra))
            };
            let reason = format!(
                "lacks columns that the model was trained on: {}{also}; name the columns as at training",
                listed(&missing)
            );
            return Err(DataError::file(path, reason));
        }
        if let (Some(own), Some(given)) = (own, given)
            && own != given
        {
            let reason = format!(
                "the labels are said to be in `{}`, but the model learned them from `{}`, which is here as well; leave \
                 the label column out, or remove one of the two",
                &first[given], self.label
            );
            return Err(DataError::file(path, reason));
        }
        let columns: Vec<usize> = self.columns.iter().filter_map(|name| place(name)).collect();
        if let Some(feature) = columns.iter().position(|&column| Some(column) == given) {
            let reason =
                format!("`{}` cannot hold the labels: the model was trained on it", self.columns[feature]);
            return Err(DataError::file(path, reason));
        }
        let mut notes = vec![];
        if !columns.is_sorted() {
            notes.push("columns are in another order than at training and were put in order by name".into());
        }
        if !extra.is_empty() {
            notes.push(format!("columns that the model does not know are left out: {}", listed(&extra)));
        }
        if let Some(feature) = columns.iter().position(|&column| Some(column) == group) {
            let reason =
                format!("`{}` cannot hold the groups: the model was trained on it", self.columns[feature]);
            return Err(DataError::file(path, reason));
        }
        Ok(Places { columns, label: given.or(own), group, notes })
    }
}

/// The column of a name or number; `what` it holds, for messages.
fn find(
    path: &Path,
    first: &StringRecord,
    has_header: bool,
    column: &str,
    what: &str,
) -> Result<usize, DataError> {
    let is_called = |field: &str| has_header && field.eq_ignore_ascii_case(column);
    let exact = first.iter().position(|field| has_header && field == column);
    let named = exact.or_else(|| first.iter().position(is_called));
    let number = || column.parse().ok().filter(|&n: &usize| n < first.len());
    named.or_else(number).ok_or_else(|| {
        let names = if has_header {
            format!(": {}", listed(&first.iter().map(str::to_string).collect::<Vec<_>>()))
        } else {
            " without names".to_string()
        };
        let reason =
            format!("there is no column `{column}` for the {what}; it has {} columns{names}", first.len());
        DataError::file(path, reason)
    })
}

/// Columns are found by their names, so no two may share one.
fn check_distinct(path: &Path, first: &StringRecord) -> Result<(), DataError> {
    let mut seen = HashSet::new();
    match first.iter().find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(name) => Err(DataError::file(
            path,
            format!("two columns are called `{}`; give every column a name of its own", short(name)),
        )),
    }
}

/// The first characters of a field, for messages.
pub(crate) fn short(field: &str) -> String {
    field.chars().take(40).collect()
}

/// Names side by side, the first of many.
pub(crate) fn listed(names: &[String]) -> String {
    let mut text: Vec<String> = names.iter().take(12).map(|name| short(name)).collect();
    if names.len() > 12 {
        text.push(format!("and {} more", names.len() - 12));
    }
    text.join(", ")
}
