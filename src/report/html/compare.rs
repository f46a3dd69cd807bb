//! The page of a comparison.

use super::{
    breakable, configuration, document, escape, facts_list, loss_plots, next_steps, outcome, panels, rate,
    truth,
};
use crate::eval::{Control, Skill};
use crate::report::compare::{Numbers, controls, ranking};
use crate::report::figures::{self, Style};
use crate::report::picture::{heat_map, overlay, picture, truth_overlay};
use crate::report::plot::{duration, three_digits};
use crate::report::{ComparePanel, CompareReport, ComparedSystem, ReportError};
use std::cmp::Ordering;

/// The whole document.
pub(in crate::report) fn page(report: &CompareReport, numbers: &Numbers) -> Result<String, ReportError> {
    let ranked = ranking(&report.systems);
    let first = report.systems.first().map(|s| &s.evaluation);
    let mut facts = vec![("data", report.data.clone()), ("budget", report.budget.clone())];
    if let Some(e) = first {
        facts.push(("device", e.device.clone()));
        facts.push(("test images", format!("{} normal, {} anomalous", e.n_normal, e.n_anomalous)));
    }
    let note = first.and_then(|e| e.sub_sample.as_ref());
    let note = note.map_or_else(String::new, |s| format!("<p class=note>{}</p>", escape(s)));
    let header = format!("{}{}{note}", summary(report, &ranked), facts_list(&facts));
    let sections = [
        table(report, &ranked),
        failures(report),
        curves(report, numbers, &ranked)?,
        next_steps(&report.next),
        images(report, &ranked)?,
        losses(report, &ranked)?,
        configuration(&report.configuration),
    ];
    Ok(document("Ganomede comparison", &report.title, &header, &sections.concat()))
}

/// The best system, and whether it is clearly the best.
fn summary(report: &CompareReport, ranked: &[usize]) -> String {
    let best = ranked.first().map(|&i| &report.systems[i].evaluation);
    let Some((best, auroc)) = best.and_then(|e| Some((e, e.auroc?))) else {
        return "<p class=summary>No system has an AUROC: the test set has one class only, or none could be scored.</p>"
            .into();
    };
    if let Some(warning) = best.skill().warning() {
        return format!(
            "<p class=summary><strong class=wrong>No system is shown to be better than chance.</strong> The highest \
             AUROC, {auroc:.3} of {}, is {warning}.</p>",
            escape(&best.system)
        );
    }
    let mut text = format!(
        "<strong>{}</strong> ranks best: it puts an anomalous image above a normal one <strong>{:.1} %</strong> of the \
         time.",
        escape(&best.system),
        100.0 * auroc
    );
    for warning in &best.warnings {
        text += &format!(" <strong class=wrong>{}.</strong>", escape(warning));
    }
    let low = best.auroc_ci95.map_or(auroc, |ci| ci[0]);
    let reaches = |i: &&usize| report.systems[**i].evaluation.auroc_ci95.is_some_and(|ci| ci[1] >= low);
    let ties = ranked[1..].iter().filter(reaches).count();
    if ranked.len() > 1 {
        text += &match ties {
            0 => " The 95 % intervals of all others lie below its own.".to_owned(),
            1 => " The 95 % interval of one other overlaps its own: this test set does not tell them apart."
                .to_owned(),
            n => format!(
                " The 95 % intervals of {n} others overlap its own: this test set does not tell them apart."
            ),
        };
    }
    format!("<p class=summary>{text}</p>")
}

/// A column of the table: heading, value of a system, whether higher is better, how it is written.
struct Column {
    heading: &'static str,
    /// The metric's name among [`crate::eval::Evaluation::named`].
    name: &'static str,
    better: Option<Ordering>,
    text: fn(f64) -> String,
}

const COLUMNS: [Column; 9] = {
    const UP: Option<Ordering> = Some(Ordering::Greater);
    const DOWN: Option<Ordering> = Some(Ordering::Less);
    const fn column(
        heading: &'static str,
        name: &'static str,
        better: Option<Ordering>,
        text: fn(f64) -> String,
    ) -> Column {
        Column { heading, name, better, text }
    }
    [
        column("AUROC", "auroc", UP, three),
        column("AUPR", "aupr", UP, three),
        column("F1 at threshold", "threshold.f1", UP, three),
        column("false alarms", "threshold.false_alarm_rate", None, percent),
        column("pixel AUROC", "pixel.auroc", UP, three),
        column("AUPRO", "pixel.aupro", UP, three),
        column("time per image", "seconds_per_image", DOWN, duration),
        column("training", "training_seconds", None, duration),
        column("steps", "training_steps", None, whole),
    ]
};

fn three(value: f64) -> String {
    rate(Some(value))
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

fn whole(value: f64) -> String {
    format!("{value}")
}

fn value(system: &ComparedSystem, name: &str) -> Option<f64> {
    match name {
        "training_seconds" => Some(system.training_seconds),
        "training_steps" => Some(system.training_steps as f64),
        _ => system.evaluation.named().into_iter().find(|m| m.0 == name)?.1,
    }
}

fn table(report: &CompareReport, ranked: &[usize]) -> String {
    let any = |c: &&Column| report.systems.iter().any(|s| value(s, c.name).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(any).collect();
    let best = |c: &Column| -> Option<f64> {
        let better = c.better?;
        // What may be luck is never the best.
        let shown = report.systems.iter().filter(|s| s.evaluation.skill().counts());
        let values = shown.filter_map(|s| value(s, c.name));
        values.reduce(|best, v| if v.total_cmp(&best) == better { v } else { best })
    };
    let heading = |c: &&Column| {
        let sorted = if c.name == "auroc" { " aria-sort=descending" } else { "" };
        format!("<th class=n{sorted}>{}</th>", c.heading)
    };
    let headings: String = columns.iter().map(heading).collect();
    let row = |(place, &at): (usize, &usize)| {
        let system = &report.systems[at];
        let cells: String = columns.iter().map(|c| cell(system, c, best(c))).collect();
        let name = key(figures::style(place), &system.evaluation.system);
        format!("<tr><td class=stick>{name}</td>{cells}</tr>")
    };
    let rows: String = ranked.iter().enumerate().map(row).collect();
    let rows = rows + &control_rows(report, &columns);
    let seeds = report.systems.iter().flat_map(|s| &s.repeated).map(|(_, r)| r.values.len()).max();
    let seeds = seeds.map_or_else(String::new, |n| format!(" Mean ± standard deviation is over {n} seeds."));
    let baseline = report.systems.first().and_then(|s| s.evaluation.aupr_baseline);
    format!(
        "<h2>Systems</h2><div class=\"table scroll\"><table class=\"sortable compare\"><thead><tr><th class=stick>system</th>\
         {headings}</tr></thead><tbody>{rows}</tbody></table></div><p class=note>AUPR without skill: {}, the prevalence. \
         Thresholds come from held-out normal images; the best value of a column is bold, whatever its interval.{seeds}</p>",
        rate(baseline)
    )
}

/// What needs no training on these images, below the systems.
fn control_rows(report: &CompareReport, columns: &[&Column]) -> String {
    let row = |(name, control): (String, &Control)| {
        let cell = |c: &&Column| match (c.name, control.auroc) {
            ("auroc", Some(auroc)) => format!("<td class=n data-v=\"{auroc:e}\">{auroc:.3}</td>"),
            _ => "<td class=n>–</td>".to_owned(),
        };
        let cells: String = columns.iter().map(cell).collect();
        format!("<tr><td class=stick><i>{}</i></td>{cells}</tr>", escape(&name))
    };
    controls(&report.systems).into_iter().map(row).collect()
}

fn cell(system: &ComparedSystem, column: &Column, best: Option<f64>) -> String {
    let Some(value) = value(system, column.name) else { return "<td class=n>–</td>".into() };
    let text = (column.text)(value);
    let text = if best == Some(value) && system.evaluation.skill().counts() {
        format!("<strong>{text}</strong>")
    } else {
        text
    };
    let mut below = String::new();
    if let (Some([lo, hi]), "auroc") = (system.evaluation.auroc_ci95, column.name) {
        below = format!("<small>{lo:.3} to {hi:.3}</small>");
        below += match system.evaluation.skill() {
            Skill::None => "<small class=wrong>no better than chance</small>",
            Skill::Inverted => "<small class=wrong>worse than chance</small>",
            Skill::Unknown | Skill::Shown => "",
        };
    }
    let quoted = system.repeated.iter().find(|(name, _)| *name == column.name);
    if let (Some((_, r)), Some(Ordering::Greater)) = (quoted, column.better) {
        below += &format!("<small>{r}</small>");
    }
    format!("<td class=n data-v=\"{value:e}\">{text}{below}</td>")
}

fn failures(report: &CompareReport) -> String {
    if report.failures.is_empty() {
        return String::new();
    }
    let item = |(system, reason): &(String, String)| {
        format!("<li><strong>{}</strong> {}</li>", escape(system), escape(reason))
    };
    let items: String = report.failures.iter().map(item).collect();
    format!("<h2>Failed</h2><ul class=failed>{items}</ul>")
}

fn curves(report: &CompareReport, numbers: &Numbers, ranked: &[usize]) -> Result<String, ReportError> {
    let places = || ranked.iter().enumerate().map(|(place, &at)| (figures::style(place), at));
    let curves: Vec<_> =
        places().filter_map(|(style, at)| Some((style, numbers.systems[at].roc.as_deref()?))).collect();
    if curves.is_empty() {
        return Ok(
            "<h2>Curves</h2><p class=note>Curves need both normal and anomalous labelled images.</p>".into()
        );
    }
    let rows: Vec<_> = places()
        .filter_map(|(style, at)| {
            let e = &report.systems[at].evaluation;
            Some((style, e.system.as_str(), e.auroc?, e.auroc_ci95))
        })
        .collect();
    let keys: String = rows.iter().map(|row| key(row.0, &format!("{} {:.3}", row.1, row.2))).collect();
    let chance = super::key("dash", "reference", "chance");
    Ok(format!(
        "<h2>Curves</h2><div class=plots>{}{}</div>",
        super::plot("ROC curves", &figures::roc_overlay(&curves)?, &format!("{keys}{chance}")),
        super::plot("AUROC with 95 % interval", &figures::auroc_rows(&rows)?, &chance),
    ))
}

/// The name of a system beside a sample of its line.
fn key(style: Style, label: &str) -> String {
    format!(
        "<span class=\"key line {}\" style=\"--colour:var(--s{})\">{}</span>",
        style.stroke,
        style.colour,
        escape(label)
    )
}

fn images(report: &CompareReport, ranked: &[usize]) -> Result<String, ReportError> {
    if report.panels.is_empty() {
        return Ok(String::new());
    }
    // Residuals of different systems do not compare: each system has its own scale for all its maps.
    let scale = |at: usize| {
        panels::common_scale(report.panels.iter().filter_map(|p| p.systems[at].map.as_ref()).flatten())
    };
    let scales: Vec<f32> = (0..report.systems.len()).map(scale).collect();
    let cards: Result<String, ReportError> =
        report.panels.iter().map(|p| card(p, report, ranked, &scales)).collect();
    // A card of few systems leaves room for others beside it; one of many breaks its systems into even rows.
    let columns = report.systems.len() + 1;
    let blank = |wide: &usize| columns.next_multiple_of(*wide) - columns;
    let even = |least: usize, most: usize| match columns <= most {
        true => columns,
        false => (least..=most).rev().min_by_key(blank).unwrap_or(most),
    };
    Ok(format!(
        "<h2>Images</h2><p class=note>Above, what the system makes of the image; below, its anomaly map over the image, \
         on one scale for each system; click one to enlarge it. Scores of different systems do not compare.</p>\
         <div class=cases style=\"--n:{};--m:{};--w:{}px\">{}</div>",
        even(6, 10),
        even(3, 5),
        even(6, 10) * 112 + 20,
        cards?
    ))
}

fn card(
    p: &ComparePanel,
    report: &CompareReport,
    ranked: &[usize],
    scales: &[f32],
) -> Result<String, ReportError> {
    let (h, w, c) = (p.height, p.width, p.channels);
    let truth_tile = match p.mask.as_ref().filter(|m| m.contains(&true)) {
        Some(mask) => panels::tile("truth", &truth_overlay(&p.query, c, mask, h, w)?, &p.id)?,
        None => String::new(),
    };
    let query = panels::tile("image", &picture(&p.query, c, h, w)?, &p.id)?;
    let mut columns = format!("<div class=system><h4>image</h4>{query}{truth_tile}</div>");
    for &at in ranked {
        let (system, seen) = (&report.systems[at].evaluation, &p.systems[at]);
        let reconstruction = match &seen.reconstruction {
            Some(image) => panels::tile("rebuilt", &picture(image, c, h, w)?, &p.id)?,
            None => match &seen.map {
                Some(map) => panels::tile("map", &heat_map(map, h, w, scales[at])?, &p.id)?,
                None => "<p class=note>score only</p>".into(),
            },
        };
        let map = match &seen.map {
            Some(map) => panels::tile("overlay", &overlay(&p.query, c, map, h, w, scales[at])?, &p.id)?,
            None => String::new(),
        };
        let verdict = system.threshold.as_ref().map(|t| seen.score >= t.value);
        columns += &format!(
            "<div class=system><h4>{}</h4>{reconstruction}{map}<p class=verdicts>{} {}</p></div>",
            escape(&system.system),
            three_digits(seen.score),
            outcome(p.anomalous, verdict, system.skill())
        );
    }
    Ok(format!(
        "<article class=panel><header><span class=id>{}</span><span>{} {}</span></header>\
         <div class=systems>{columns}</div></article>",
        breakable(&p.id),
        escape(&p.class),
        truth(p.anomalous)
    ))
}

fn losses(report: &CompareReport, ranked: &[usize]) -> Result<String, ReportError> {
    let of_system = |system: &ComparedSystem| {
        let name = escape(&system.evaluation.system);
        Ok(format!("<details><summary>{name}</summary>{}</details>", loss_plots(&system.losses)?))
    };
    let known = ranked.iter().map(|&at| &report.systems[at]).filter(|s| !s.losses.is_empty());
    let html: Result<String, ReportError> = known.map(of_system).collect();
    let html = html?;
    Ok(if html.is_empty() { html } else { format!("<h2>Training</h2>{html}") })
}
