//! The page about series.

use super::{document, escape, facts_list, key, loss_plots};
use crate::report::ReportError;
use crate::report::figures::Timeline;
use crate::report::series::{PlottedSeries, SeriesReport};

/// Series that are drawn; a page with more is slow to open.
const MAX_SERIES: usize = 60;

/// The whole document.
pub(in crate::report) fn page(report: &SeriesReport) -> Result<String, ReportError> {
    let shown = report.series.iter().take(MAX_SERIES);
    let plots: Result<String, ReportError> = shown.map(series).collect();
    let cut = match report.series.len() > MAX_SERIES {
        true => format!("<p class=note>The first {MAX_SERIES} of {} series.</p>", report.series.len()),
        false => String::new(),
    };
    let losses = match report.losses.is_empty() {
        true => String::new(),
        false => format!("<h2>Training</h2>{}", loss_plots(&report.losses)?),
    };
    let body = format!("{}<h2>Along the series</h2>{cut}{}{losses}", table(report), plots?);
    Ok(document("Ganomede series", &report.title, &facts_list(&report.facts), &body))
}

fn table(report: &SeriesReport) -> String {
    let cell = |tag: &str, text: &String| format!("<{tag} class=n>{}</{tag}>", escape(text));
    let head: String = report.columns.iter().map(|text| cell("th", text)).collect();
    let row = |(name, cells): &(String, Vec<String>)| {
        let cells: String = cells.iter().map(|text| cell("td", text)).collect();
        format!("<tr><td class=id>{}</td>{cells}</tr>", escape(name))
    };
    format!(
        "<h2>Detectors</h2><div class=\"table scroll\"><table class=sortable><thead><tr><th>scores</th>{head}</tr></thead><tbody>{}\
         </tbody></table></div><p class=note>Read point-adjusted F1 (PA) beside the rows without skill only: flagging at \
         random reaches it. Oracle columns choose their threshold by the labels.</p>",
        report.rows.iter().map(row).collect::<String>()
    )
}

fn series(series: &PlottedSeries) -> Result<String, ReportError> {
    let names = series.channels.iter().take(Timeline::COLOURS.len());
    let legend = names.zip(Timeline::COLOURS).map(|((name, _), colour)| {
        format!("<span class=\"key line\" style=\"--colour:var(--s{colour})\">{}</span>", escape(name))
    });
    let legend: String = legend.collect();
    let values = Timeline {
        alt: &series.name,
        label: "scaled value",
        first: series.first,
        lines: series.channels.iter().map(|(_, values)| values.as_slice()).collect(),
        windows: &series.windows,
        threshold: None,
        alarms: &[],
    };
    let mut html = figure(&series.name, &values.draw()?, &(legend + &key("", "anomalous-mark", "anomalous")));
    for detector in &series.detectors {
        let scores = Timeline {
            alt: &format!("Scores of {}", detector.name),
            label: "score",
            first: series.first,
            lines: vec![&detector.scores],
            windows: &series.windows,
            threshold: detector.threshold,
            alarms: &detector.alarms,
        };
        let keys = [
            key("", "normal", "score"),
            key("", "anomalous-mark", "alarms (below), anomalous (shaded)"),
            detector.threshold.map_or(String::new(), |_| key("dash", "muted", "threshold")),
        ];
        html += &figure(&detector.name, &scores.draw()?, &keys.concat());
    }
    Ok(html)
}

fn figure(name: &str, svg: &str, keys: &str) -> String {
    format!(
        "<figure class=\"plot wide\"><h3>{}</h3>{svg}<figcaption>{keys}</figcaption></figure>",
        escape(name)
    )
}
