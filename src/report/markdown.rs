//! Tables for `docs/`: a command rewrites its own section of a page and leaves the rest alone.

use super::compare::{controls, ranking};
use super::{CompareReport, ReportError, write_atomic};
use crate::eval::Repeated;
use ganomede_datasets::files;
use std::path::Path;

/// Bytes of a page.
const MAX_BYTES: u64 = 16 << 20;

/// The systems of a comparison as a Markdown table, from the highest AUROC down, with what it was measured
/// on.
///
/// The same text for the same numbers; no date, so that a rerun changes nothing but what it measured.
pub fn comparison_table(report: &CompareReport) -> String {
    let first = report.systems.first().map(|s| &s.evaluation);
    let mut text =
        format!("Data: {}. Budget: {}.", escape_markdown(&report.data), escape_markdown(&report.budget));
    if let Some(e) = first {
        text += &format!(
            " Test images: {} normal, {} anomalous; no-skill AUPR {}. Device: {}.",
            e.n_normal,
            e.n_anomalous,
            rate(e.aupr_baseline),
            escape_markdown(&e.device)
        );
    }
    text += "\n\n| system | AUROC | 95 % interval | AUPR | F1 at threshold | false alarms | pixel AUROC | AUPRO \
             | s/image | training |\n|---|--:|:-:|--:|--:|--:|--:|--:|--:|--:|\n";
    for at in ranking(&report.systems) {
        let system = &report.systems[at];
        let e = &system.evaluation;
        let over_seeds = |name: &str, value: Option<f64>| {
            let repeated = system.repeated.iter().find(|(n, _)| *n == name);
            repeated.map_or_else(|| rate(value), |(_, r): &(_, Repeated)| r.to_string())
        };
        let threshold = e.threshold.as_ref();
        let cells = [
            format!("`{}`", code(&e.system)),
            over_seeds("auroc", e.auroc),
            e.auroc_ci95.map_or_else(|| "–".into(), |[lo, hi]| format!("{lo:.3} to {hi:.3}")),
            over_seeds("aupr", e.aupr),
            over_seeds("threshold.f1", threshold.and_then(|t| t.f1)),
            threshold
                .and_then(|t| t.false_alarm_rate)
                .map_or("–".into(), |f| format!("{:.1} %", 100.0 * f)),
            over_seeds("pixel.auroc", e.pixel.map(|p| p.auroc)),
            over_seeds("pixel.aupro", e.pixel.map(|p| p.aupro)),
            super::plot::number(e.seconds_per_image),
            format!("{:.0} s, {} steps", system.training_seconds, system.training_steps),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    for (name, control) in controls(&report.systems) {
        let interval =
            control.auroc_ci95.map_or_else(|| "–".into(), |[lo, hi]| format!("{lo:.3} to {hi:.3}"));
        let empty = " – |".repeat(7);
        text += &format!("| *{}* | {} | {interval} |{empty}\n", escape_markdown(&name), rate(control.auroc));
    }
    for at in ranking(&report.systems) {
        let e = &report.systems[at].evaluation;
        for warning in &e.warnings {
            text += &format!("\n**Warning:** {}.\n", escape_markdown(warning));
        }
    }
    for (system, reason) in &report.failures {
        text += &format!("\n`{}` failed: {}\n", code(system), escape_markdown(reason));
    }
    text
}

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`; appends both and `body` if neither
/// stands there.
///
/// Errors: a name that is not letters, digits, `-` and `_`; markers that are repeated, single or in the wrong
/// order; a body that holds one of them.
pub fn replace_section(text: &str, name: &str, body: &str) -> Result<String, ReportError> {
    let fail = |reason| Err(ReportError::Section { name: name.to_owned(), reason });
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(is_plain) || name.contains("--") {
        return fail("its name must be letters, digits, '-' and '_', without '--'");
    }
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    if body.contains(&open) || body.contains(&close) {
        return fail("its text holds its own markers; remove them");
    }
    let section = format!("{open}\n\n{}\n\n{close}", body.trim());
    match (text.matches(&open).count(), text.matches(&close).count()) {
        (0, 0) if text.trim().is_empty() => Ok(format!("{section}\n")),
        (0, 0) => Ok(format!("{}\n\n{section}\n", text.trim_end())),
        (1, 1) => match (text.split_once(&open), text.split_once(&close)) {
            (Some((before, rest)), Some((_, after))) if rest.contains(&close) => {
                Ok(format!("{before}{section}{after}"))
            }
            _ => fail("its closing marker stands before its opening one; put them in order"),
        },
        _ => fail(
            "its markers are not one pair; leave exactly one '<!-- NAME -->' and one '<!-- /NAME -->', or neither",
        ),
    }
}

/// [`replace_section`] in a file, which is created if missing; written atomically, and not at all if nothing
/// changes.
///
/// Errors: those of [`replace_section`], a file that is no UTF-8 text or cannot be read or written.
pub fn write_section(path: &Path, name: &str, body: &str) -> Result<(), ReportError> {
    let text = read(path)?;
    let new = replace_section(&text, name, body)?;
    if new == text { Ok(()) } else { write_atomic(path, new.as_bytes()) }
}

/// Whether [`write_section`] will find or make a place, so that what takes long to make is not lost.
///
/// Errors: as of [`write_section`]; that the file can be written is not tried.
pub fn check_section(path: &Path, name: &str) -> Result<(), ReportError> {
    replace_section(&read(path)?, name, "").map(drop)
}

/// The file's text; none where there is no file.
fn read(path: &Path) -> Result<String, ReportError> {
    let unread = |reason: String| ReportError::Read { path: path.to_owned(), reason };
    match files::read_limited(path, MAX_BYTES) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|e| unread(e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(unread(e.to_string())),
    }
}

/// Text that stays text inside a Markdown table: no markup, no line break, no end of a cell.
pub fn escape_markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '~' | '#' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A name between backticks.
fn code(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || "`|".contains(c) { ' ' } else { c }).collect()
}

fn rate(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"))
}
