//! What each column of a series' file is.

use std::path::Path;

use super::{SignalOptions, time};
use crate::DataError;
use crate::table::header;

/// Header names that are taken as the time of a row.
const TIME_NAMES: [&str; 5] = ["timestamp", "time", "date", "datetime", "ts"];

/// Header names of what data frames number their rows by.
const INDEX_NAMES: [&str; 4] = ["", "Unnamed: 0", "index", "id"];

/// Whether the column that is named as that of labels must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Required,
    Optional,
}

/// Columns by their numbers.
pub(crate) struct Columns {
    pub(crate) time: Option<usize>,
    pub(crate) label: Option<usize>,
    /// Columns of the channels, in order: a model's own where there is one.
    pub(crate) channels: Vec<usize>,
}

impl Columns {
    /// `fields` is the first row. Channels are those of the names `known`, unless that is empty; what is left
    /// out goes to `notes`.
    pub(crate) fn find(
        path: &Path,
        fields: &[&str],
        has_header: bool,
        options: &SignalOptions,
        known: &[String],
        label: Label,
        notes: &mut Vec<String>,
    ) -> Result<Self, DataError> {
        let refuse = |reason: String| DataError::file(path, reason);
        let there = || {
            let there = if has_header { fields.join(", ") } else { format!("0 to {}", fields.len() - 1) };
            there.chars().take(300).collect::<String>()
        };
        // To the letter, else whatever the case.
        let named = |name: &str| -> Result<Option<usize>, DataError> {
            for is_same in [|a: &str, b: &str| a == b, |a: &str, b: &str| a.eq_ignore_ascii_case(b)] {
                let found: Vec<usize> = (0..fields.len()).filter(|&c| is_same(fields[c], name)).collect();
                match found[..] {
                    _ if !has_header => {}
                    [] => {}
                    [one] => return Ok(Some(one)),
                    _ => return Err(refuse(format!("several columns are called `{name}`; rename them"))),
                }
            }
            Ok(None)
        };
        let number = |name: &str| name.parse().ok().filter(|&n: &usize| n < fields.len());
        let wanted = |name: &str| -> Result<usize, DataError> {
            named(name)?
                .or_else(|| number(name))
                .ok_or_else(|| refuse(format!("there is no column `{name}`; its columns are {}", there())))
        };
        let time = match (&options.time_column, has_header) {
            (Some(name), _) => Some(wanted(name)?),
            (None, true) => fields.iter().position(|f| TIME_NAMES.iter().any(|n| f.eq_ignore_ascii_case(n))),
            // Plain numbers are values; a date can only be a time.
            (None, false) => {
                fields.iter().position(|f| f.parse::<f64>().is_err() && time::parse(f).is_some())
            }
        };
        let label = match (&options.label_column, label) {
            (None, _) => None,
            (Some(name), Label::Required) => Some(wanted(name)?),
            (Some(name), Label::Optional) => named(name)?.or_else(|| number(name)),
        };
        let rest = || (0..fields.len()).filter(|&c| Some(c) != time && Some(c) != label);
        let given = options.channels.iter().map(|name| wanted(name)).collect::<Result<Vec<_>, _>>()?;
        let channels = match (known, &given[..]) {
            ([], []) => {
                // The answers would be learned with the questions.
                let is_open = has_header && options.label_column.is_none();
                if let Some(answer) = rest().find(|&c| is_open && header::is_label(fields[c])) {
                    return Err(refuse(format!(
                        "has a column `{}`, named as labels are; name it as the column of labels, or name the columns \
                         of the channels",
                        fields[answer]
                    )));
                }
                if let Some(place) = rest().find(|&c| has_header && INDEX_NAMES.contains(&fields[c])) {
                    notes.push(format!(
                        "column {place}, `{}`, is read as a channel; name the columns of the channels if it numbers \
                         the rows",
                        fields[place]
                    ));
                }
                rest().collect()
            }
            ([], _) => given,
            // Columns without names are those of the model where they are counted out for it, or were so when
            // it was trained.
            (known, _) if !has_header => {
                let order = if given.is_empty() { rest().collect() } else { given };
                let is_same = order.iter().map(|c| format!("c{c}")).eq(known.iter().cloned());
                if !is_same && (options.channels.is_empty() || order.len() != known.len()) {
                    return Err(refuse(format!(
                        "has no header, but the model knows its channels by name ({}); add a header, or give their \
                         columns by number in this order",
                        known.join(", ")
                    )));
                }
                order
            }
            (known, _) => {
                let found = known.iter().map(|name| named(name)).collect::<Result<Vec<_>, _>>()?;
                let missing: Vec<&str> = known
                    .iter()
                    .zip(&found)
                    .filter(|(_, f)| f.is_none())
                    .map(|(name, _)| name.as_str())
                    .collect();
                if !missing.is_empty() {
                    return Err(refuse(format!(
                        "lacks the channel {} of the model; its columns are {}",
                        missing.join(", "),
                        there()
                    )));
                }
                let found: Vec<usize> = found.into_iter().flatten().collect();
                let names = |columns: &mut dyn Iterator<Item = usize>| -> Vec<&str> {
                    columns.filter(|c| !found.contains(c)).map(|c| fields[c]).collect()
                };
                let extra = names(&mut given.iter().copied());
                if !extra.is_empty() {
                    return Err(refuse(format!(
                        "the model has no channel {}; leave it out",
                        extra.join(", ")
                    )));
                }
                if !given.is_empty() && given.len() != found.len() {
                    return Err(refuse(format!("the model needs all of its channels: {}", known.join(", "))));
                }
                let passed = names(&mut rest());
                if !passed.is_empty() {
                    notes.push(format!(
                        "columns that the model does not know are not read: {}",
                        passed.join(", ")
                    ));
                }
                found
            }
        };
        if channels.is_empty() || channels.len() > 4096 {
            return Err(refuse(format!("has {} columns of values; 1 to 4096 are expected", channels.len())));
        }
        let mut seen = channels.clone();
        seen.sort_unstable();
        seen.dedup();
        if seen.len() < channels.len() || channels.iter().any(|&c| Some(c) == time || Some(c) == label) {
            return Err(refuse(
                "a column is named twice among channels, time and label; name it once".into(),
            ));
        }
        let mut names: Vec<&str> =
            if has_header { seen.iter().map(|&c| fields[c]).collect() } else { Vec::new() };
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(refuse(format!("several columns are called `{}`; rename them", pair[0])));
        }
        Ok(Columns { time, label, channels })
    }
}
