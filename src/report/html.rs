//! The page itself. Every value from outside passes through [`escape`] or is a number.

mod cards;
pub(super) mod compare;
mod panels;
mod samples;
pub(super) mod series;

use super::figures::{self, BoxPlot};
use super::page::Numbers;
use super::plot::{number, significant};
use super::{LossCurve, NextStep, PointKind, ReportError, ReportInput, ScoredImage, Supplement};
use crate::eval::{Evaluation, Skill};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// Rows of the score table at most; a page with more is slow to open, and metrics.json has them all.
const MAX_ROWS: usize = 5000;

/// The page of one evaluation.
pub(super) fn page(
    input: &ReportInput,
    extra: &Supplement,
    numbers: &Numbers,
) -> Result<String, ReportError> {
    let e = &input.evaluation;
    let noun = extra.noun();
    let tested = format!("test {noun}s");
    let facts = [
        ("system", e.system.clone()),
        ("device", e.device.clone()),
        ("data", input.data.clone()),
        (tested.as_str(), format!("{} normal, {} anomalous", e.n_normal, e.n_anomalous)),
    ];
    let note = e.sub_sample.as_ref().map_or_else(String::new, |s| format!("<p class=note>{}</p>", escape(s)));
    let sections = [
        cards::cards(e, noun),
        curves(input, numbers, noun)?,
        scores(numbers, e.threshold.as_ref().map(|t| t.value))?,
        class_table(input, noun),
        controls(e),
        next_steps(&extra.next),
        panels::section(input)?,
        embedding(extra, numbers)?,
        training(input)?,
        samples::section(input, extra)?,
        configuration(&input.configuration),
        score_table(&input.images, noun, e.skill()),
    ];
    let header = format!("{}{}{note}", cards::summary(e, noun), facts_list(&facts));
    Ok(document("Ganomede evaluation", &input.title, &header, &sections.concat()))
}

/// A whole document: header, sections and footer in one look, self-contained.
fn document(eyebrow: &str, title: &str, header: &str, body: &str) -> String {
    // Only this very script may run, and nothing may be loaded: a hostile file name stays a file name.
    let policy = format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'",
        BASE64_STANDARD.encode(Sha256::digest(SCRIPT))
    );
    let (title, heading) = (escape(title), breakable(title));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header><div><span class=eyebrow>{eyebrow}</span><h1>{heading}</h1>{header}</div></header>\n<main>\n{body}\n\
         <footer>Every number on this page is in <code>metrics.json</code> beside it. Oracle values pick their \
         threshold by looking at the answers: they bound a detector and do not describe a deployed one.</footer>\n\
         </main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
    )
}

fn facts_list(facts: &[(&str, String)]) -> String {
    let fact = |(name, value): &(&str, String)| format!("<li><span>{name}</span> {}</li>", breakable(value));
    format!("<ul class=facts>{}</ul>", facts.iter().map(fact).collect::<String>())
}

fn curves(input: &ReportInput, numbers: &Numbers, noun: &str) -> Result<String, ReportError> {
    let e = &input.evaluation;
    let (Some(roc), Some(pr)) = (&numbers.roc, &numbers.precision_recall) else {
        return Ok(format!(
            "<h2>Curves</h2><p class=note>Curves need both normal and anomalous labelled {noun}s.</p>"
        ));
    };
    let deployed = if e.threshold.is_some() {
        key("dot", "anomalous-mark", "calibrated threshold")
    } else {
        String::new()
    };
    let figures = [
        ("ROC curve", figures::roc(roc, e)?, "chance"),
        ("Precision and recall", figures::precision_recall(pr, e)?, "no skill: the prevalence"),
    ]
    .map(|(name, svg, reference)| {
        plot(
            name,
            &svg,
            &[key("", "curve", &e.system), key("dash", "reference", reference), deployed.clone()].concat(),
        )
    });
    Ok(format!("<h2>Curves</h2><div class=plots>{}</div>", figures.concat()))
}

fn scores(numbers: &Numbers, threshold: Option<f64>) -> Result<String, ReportError> {
    if numbers.images.is_empty() {
        return Ok(String::new());
    }
    let labelled = numbers.images.iter().any(|i| i.anomalous.is_some());
    let mut keys = vec![key("", "normal", if labelled { "normal" } else { "unlabelled" })];
    if numbers.histogram.anomalous.iter().any(|&n| n > 0) {
        keys.push(key("", "anomalous-mark", "anomalous"));
    }
    if let Some(value) = threshold {
        keys.push(key("dash", "muted", &format!("threshold {}", number(value))));
    }
    let keys = keys.concat();
    Ok(format!(
        "<h2>Scores</h2><div class=plots>{}{}</div>",
        plot("Histogram", &figures::histogram(&numbers.histogram, threshold)?, &keys),
        plot("Classes", &figures::box_plots(&numbers.box_plots, threshold)?, &keys),
    ))
}

/// AUROC and score quartiles of each class.
fn class_table(input: &ReportInput, noun: &str) -> String {
    let boxes = BoxPlot::of_classes(&input.images);
    if boxes.len() < 2 {
        return String::new();
    }
    let auroc =
        |class: &str| input.evaluation.classes.iter().find(|c| c.class == class).and_then(|c| c.auroc);
    let row = |b: &BoxPlot| {
        let numbers: String =
            [b.q1, b.median, b.q3].iter().map(|v| format!("<td class=n>{}</td>", significant(*v))).collect();
        format!(
            "<tr><td class=id>{}</td><td>{}</td><td class=n>{}</td><td class=n>{}</td>{numbers}</tr>",
            breakable(&b.class),
            truth(b.anomalous),
            b.n,
            rate(auroc(&b.class)),
        )
    };
    format!(
        "<h2>Classes</h2><div class=\"table scroll\"><table class=sortable><thead><tr><th>class</th><th>truth</th>\
         <th class=n>{noun}s</th><th class=n>AUROC against normal</th><th class=n>score, lower quartile</th>\
         <th class=n>median</th><th class=n>upper quartile</th></tr></thead><tbody>{}</tbody></table></div>",
        boxes.iter().map(row).collect::<String>()
    )
}

/// What needs no training on these samples, beside the system.
fn controls(e: &Evaluation) -> String {
    if e.controls.is_empty() {
        return String::new();
    }
    let interval =
        |ci: Option<[f64; 2]>| ci.map_or("–".to_owned(), |[lo, hi]| format!("{lo:.3} to {hi:.3}"));
    let row = |name: &str, auroc: Option<f64>, ci: Option<[f64; 2]>| {
        format!(
            "<tr><td>{}</td><td class=n>{}</td><td class=n>{}</td></tr>",
            escape(name),
            rate(auroc),
            interval(ci)
        )
    };
    let rows: String = e.controls.iter().map(|c| row(c.name, c.auroc, c.auroc_ci95)).collect();
    format!(
        "<h2>Controls</h2><div class=\"table scroll\"><table><thead><tr><th>on the same samples</th>\
         <th class=n>AUROC</th><th class=n>95 % interval</th></tr></thead><tbody>{}{rows}</tbody></table></div>\
         <p class=note>Two numbers: how far mean and contrast of an image lie from those of the training images. What a \
         control reaches, a system need not have learnt.</p>",
        row(&e.system, e.auroc, e.auroc_ci95)
    )
}

fn embedding(extra: &Supplement, numbers: &Numbers) -> Result<String, ReportError> {
    let Some(embedding) = extra.embedding.as_ref().filter(|e| !e.points.is_empty()) else {
        return Ok(String::new());
    };
    let groups =
        PointKind::ALL.map(|kind| (kind, embedding.points.iter().filter(|p| p.kind == kind).count()));
    let keys: String = groups
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(kind, n)| {
            let (shape, colour) = match kind {
                PointKind::Normal => ("dot", "normal"),
                PointKind::Anomalous => ("triangle", "anomalous-mark"),
                PointKind::Generated => ("cross", "curve"),
            };
            format!("<li>{}</li>", key(shape, colour, &format!("{} ({n})", kind.name())))
        })
        .collect();
    let apart = numbers.neighbours.map_or_else(String::new, |n| {
        format!(
            "<p>Of the {} nearest neighbours of an anomalous point among normal and anomalous ones, <strong>{:.0} %</strong> \
             are anomalous; if the features told nothing, it would be {:.0} %.</p>",
            n.count,
            100.0 * n.anomalous,
            100.0 * n.by_chance
        )
    });
    Ok(format!(
        "<h2>Features</h2><figure class=\"plot aside\"><div><h3>{}</h3>{}</div><figcaption><ul class=keys>{keys}</ul>{apart}\
         <p class=note>Neighbours in the picture are neighbours among the features. Distances between groups, their sizes \
         and the axes mean nothing.</p></figcaption></figure>",
        escape(&embedding.title),
        figures::scatter(embedding)?
    ))
}

fn training(input: &ReportInput) -> Result<String, ReportError> {
    Ok(match input.losses.is_empty() {
        true => String::new(),
        false => format!("<h2>Training</h2>{}", loss_plots(&input.losses)?),
    })
}

/// What to do with the result, as commands.
fn next_steps(steps: &[NextStep]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let step = |s: &NextStep| {
        let command = match s.command.is_empty() {
            true => String::new(),
            false => format!("<pre><code>{}</code></pre>", breakable(&s.command)),
        };
        format!("<li>{}{command}</li>", escape(&s.text))
    };
    let steps: String = steps.iter().map(step).collect();
    format!("<h2>What to do next</h2><ol class=next>{steps}</ol>")
}

fn loss_plots(losses: &[LossCurve]) -> Result<String, ReportError> {
    let plots: Result<String, ReportError> =
        losses.iter().map(|l| Ok(plot(&l.name, &figures::loss(l)?, ""))).collect();
    Ok(format!("<div class=\"plots small scroll\">{}</div>", plots?))
}

fn configuration(rows: &[(String, String)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |(name, value): &(String, String)| {
        format!("<tr><th scope=row>{}</th><td>{}</td></tr>", escape(name), breakable(value))
    };
    let rows: String = rows.iter().map(row).collect();
    format!(
        "<h2>Configuration</h2><div class=\"table wrap scroll\"><table><tbody>{rows}</tbody></table></div>"
    )
}

fn score_table(images: &[ScoredImage], noun: &str, skill: Skill) -> String {
    if images.is_empty() {
        return String::new();
    }
    let mut order: Vec<&ScoredImage> = images.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    let cut = if images.len() > MAX_ROWS {
        format!("<p class=note>The {MAX_ROWS} highest of {} scores; metrics.json has all.</p>", images.len())
    } else {
        String::new()
    };
    let row = |i: &ScoredImage| {
        format!(
            "<tr><td class=id>{}</td><td>{}</td><td>{}</td><td class=n data-v=\"{:e}\">{}</td>\
             <td class=n>{}</td><td>{}</td></tr>",
            breakable(&i.id),
            escape(&i.class),
            truth(i.anomalous),
            i.score,
            significant(i.score),
            i.percentile.map_or_else(|| "–".to_owned(), |p| format!("{p:.1}")),
            outcome(i.anomalous, i.verdict, skill),
        )
    };
    let rows: String = order.into_iter().take(MAX_ROWS).map(row).collect();
    format!(
        "<h2>All scores</h2>{cut}<div class=\"table tall scroll\"><table class=sortable><thead><tr><th>{noun}</th>\
         <th>class</th><th>truth</th><th class=n aria-sort=descending>score</th><th class=n>percentile</th>\
         <th>verdict</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn plot(name: &str, svg: &str, keys: &str) -> String {
    let name = escape(name);
    format!("<figure class=plot><h3>{name}</h3>{svg}<figcaption>{keys}</figcaption></figure>")
}

fn key(kind: &str, colour: &str, label: &str) -> String {
    format!("<span class=\"key {kind}\" style=\"--colour:var(--{colour})\">{}</span>", escape(label))
}

/// A rate or area with three decimals.
fn rate(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"))
}

fn truth(anomalous: Option<bool>) -> &'static str {
    match anomalous {
        Some(true) => "<span class=anomalous>anomalous</span>",
        Some(false) => "<span class=normal>normal</span>",
        None => "–",
    }
}

/// The verdict, judged against the truth if there is one; a right one is not praised where it may be luck.
fn outcome(anomalous: Option<bool>, verdict: Option<bool>, skill: Skill) -> &'static str {
    match (anomalous, verdict) {
        (Some(true), Some(true)) if skill.counts() => "<span class=\"verdict right\">✓ found</span>",
        (Some(false), Some(false)) if skill.counts() => "<span class=\"verdict right\">✓ passed</span>",
        (Some(true), Some(false)) => "<span class=\"verdict wrong\">✗ missed</span>",
        (Some(false), Some(true)) => "<span class=\"verdict wrong\">✗ false alarm</span>",
        (_, Some(true)) => "<span class=verdict>flagged</span>",
        (_, Some(false)) => "<span class=verdict>passed</span>",
        (_, None) => "–",
    }
}

/// Makes text safe inside elements and quoted attributes; control characters become visible.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(' '),
            // Control and text-direction characters could hide what a name really is.
            c if c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}') => {
                safe.push(char::REPLACEMENT_CHARACTER);
            }
            c => safe.push(c),
        }
    }
    safe
}

/// [`escape`] for paths, commands and the like: lines may break behind their separators.
pub(super) fn breakable(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['/', '\\', ':', ',', '=', '_']) {
        let (part, behind) = rest.split_at(at + 1);
        html += &escape(part);
        // Between two separators, as in `://`, a line does not break.
        if behind.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '.') {
            html += "<wbr>";
        }
        rest = behind;
    }
    html + &escape(rest)
}
