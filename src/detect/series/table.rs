//! Tables of metrics on series: a row for each detector.

use std::collections::{BTreeMap, HashMap};

use crate::eval::Repeated;
use crate::eval::signal::SignalEvaluation;

/// Columns: heading, name among [`SignalEvaluation::named`], decimals.
const COLUMNS: [(&str, &str, usize); 10] = [
    ("AUROC", "auroc", 3),
    ("plain F1", "threshold.f1.plain", 3),
    ("PA-F1", "threshold.f1.point_adjusted", 3),
    ("PA%20-F1", "threshold.f1.pa_k", 3),
    ("best plain F1 (oracle)", "oracle.plain", 3),
    ("best PA-F1 (oracle)", "oracle.point_adjusted", 3),
    ("segments found", "segment_recall", 3),
    ("false alarms per 10,000 points", "false_alarms_per_10k", 1),
    ("NAB", "nab.standard", 1),
    ("best NAB (oracle)", "oracle.nab.standard", 1),
];

/// Headings of the columns behind the name.
pub(super) fn headings() -> Vec<String> {
    COLUMNS.iter().map(|(heading, ..)| (*heading).to_owned()).collect()
}

/// Names with the cells of each: of detectors, and of means over runs of random scores.
pub(super) fn rows<'a>(
    evaluations: impl IntoIterator<Item = (&'a str, &'a SignalEvaluation)>,
    random: &BTreeMap<&'static str, Repeated>,
) -> Vec<(String, Vec<String>)> {
    let cells_of = |(name, e): (&str, &SignalEvaluation)| {
        let values = e.named().into_iter().collect();
        (name.to_owned(), cells(&values))
    };
    let mut rows: Vec<_> = evaluations.into_iter().map(cells_of).collect();
    let means = random.iter().map(|(&name, repeated)| (name, Some(repeated.mean))).collect();
    rows.push(("random scores".to_owned(), cells(&means)));
    rows
}

fn cells(values: &HashMap<&str, Option<f64>>) -> Vec<String> {
    let cell = |(_, key, digits): &(&str, &str, usize)| {
        values.get(key).copied().flatten().map_or("–".to_owned(), |v| format!("{v:.digits$}"))
    };
    COLUMNS.iter().map(cell).collect()
}

/// The rows in Markdown.
pub(super) fn markdown(rows: &[(String, Vec<String>)]) -> String {
    let mut table =
        format!("| scores | {} |\n|---|{}\n", headings().join(" | "), "--:|".repeat(COLUMNS.len()));
    for (name, cells) in rows {
        table += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    table
}
