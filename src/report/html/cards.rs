//! The metrics at a glance.

use super::{escape, rate};
use crate::eval::{Evaluation, ThresholdMetrics};
use crate::report::plot::{duration, number, three_digits};

/// What the metrics mean, in a sentence or two.
pub(super) fn summary(e: &Evaluation, noun: &str) -> String {
    let percent = |v: f64| format!("{:.1} %", 100.0 * v);
    let mut text = match (e.auroc, e.auroc_ci95) {
        (Some(auroc), Some([lo, hi])) => format!(
            "An anomalous {noun} scores higher than a normal one <strong>{}</strong> of the time \
             (95 % interval {} to {}). ",
            percent(auroc),
            percent(lo),
            percent(hi)
        ),
        _ => "The test set has only one class, so ranking metrics are not defined. ".to_owned(),
    };
    if let Some(warning) = e.skill().warning() {
        text += &format!("<strong class=wrong>That is {warning}.</strong> ");
    }
    for warning in e.warnings.iter().filter(|_| e.skill().counts()) {
        text += &format!("<strong class=wrong>Warning: {}.</strong> ", escape(warning));
    }
    if let Some(t) = &e.threshold {
        let parts = [
            t.recall.map(|r| format!("finds <strong>{}</strong> of the anomalies", percent(r))),
            t.false_alarm_rate.map(|f| {
                format!("raises a false alarm on <strong>{}</strong> of the normal {noun}s", percent(f))
            }),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            text += &format!("The calibrated threshold {}.", parts.join(" and "));
        }
    }
    format!("<p class=summary>{text}</p>")
}

/// The cards.
pub(super) fn cards(e: &Evaluation, noun: &str) -> String {
    let interval = e
        .auroc_ci95
        .map_or_else(|| "needs both classes".into(), |[lo, hi]| format!("95 % interval {lo:.3} to {hi:.3}"));
    let interval = match e.skill().warning() {
        Some(warning) => format!("{interval}; <b class=wrong>{warning}</b>"),
        None => interval,
    };
    let prevalence = e.aupr_baseline.map_or_else(
        || "needs both classes".into(),
        |p| format!("no skill: {p:.3}, the prevalence; area by trapezoids {}", rate(e.auprc_trapz)),
    );
    let mut cards = vec![
        card("AUROC", "", &rate(e.auroc), &gauge(e.auroc, e.auroc_ci95, Some(0.5)), &interval),
        card(
            "Average precision (AUPR)",
            "",
            &rate(e.aupr),
            &gauge(e.aupr, None, e.aupr_baseline),
            &prevalence,
        ),
    ];
    cards.push(match &e.threshold {
        Some(t) => threshold(t),
        None => card("Threshold", "", "–", "", "the model is not calibrated on held-out normal samples"),
    });
    let best = format!(
        "at threshold {}; equal error rate {}",
        e.f1_max_threshold.map_or("–".into(), number),
        rate(e.eer)
    );
    cards.push(card("F1 max", "<span class=tag>oracle</span>", &rate(e.f1_max), "", &best));
    if let Some(p) = e.pixel {
        let row = [cell(Some(p.auroc), "pixel AUROC"), cell(Some(p.aupro), "AUPRO")];
        cards.push(wide_card(
            "Localisation",
            &row,
            "AUPRO: overlap with each defect, averaged up to an FPR of 0.3",
        ));
    }
    let seconds = e.seconds_per_image;
    let per_second = if seconds > 0.0 {
        format!("{} {noun}s per second", three_digits(1.0 / seconds))
    } else {
        String::new()
    };
    cards.push(card(&format!("Time per {noun}"), "", &duration(seconds), "", &per_second));
    format!("<div class=cards>{}</div>", cards.concat())
}

fn threshold(t: &ThresholdMetrics) -> String {
    let c = &t.confusion;
    let row = [cell(t.precision, "precision"), cell(t.recall, "recall"), cell(t.f1, "F1")];
    let note = format!(
        "score ≥ {}, from {}. Found {}, missed {}, false alarms {}, passed {}.",
        number(t.value),
        escape(&t.source),
        c.true_positives,
        c.false_negatives,
        c.false_positives,
        c.true_negatives
    );
    wide_card("At the threshold", &row, &note)
}

fn cell(value: Option<f64>, name: &str) -> String {
    format!("<div><strong>{}</strong><span>{name}</span></div>", rate(value))
}

fn wide_card(name: &str, row: &[String], note: &str) -> String {
    format!("<div class=card><h3>{name}</h3><div class=row>{}</div><p>{note}</p></div>", row.concat())
}

fn card(name: &str, tag: &str, value: &str, gauge: &str, note: &str) -> String {
    format!("<div class=card><h3>{name}{tag}</h3><div class=value>{value}</div>{gauge}<p>{note}</p></div>")
}

/// A bar from 0 to 1 with the value, its interval and the no-skill mark.
fn gauge(value: Option<f64>, interval: Option<[f64; 2]>, no_skill: Option<f64>) -> String {
    let Some(value) = value else { return String::new() };
    let [lo, hi] = interval.unwrap_or([0.0, value]);
    let no_skill = no_skill.map_or_else(String::new, |p| format!("<u style=\"left:{:.2}%\"></u>", 100.0 * p));
    format!(
        "<div class=gauge aria-hidden=true><i style=\"left:{:.2}%;width:{:.2}%\"></i>{no_skill}\
         <b style=\"left:{:.2}%\"></b></div>",
        100.0 * lo,
        100.0 * (hi - lo),
        100.0 * value
    )
}
