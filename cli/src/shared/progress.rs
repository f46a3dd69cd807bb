//! Progress: a bar with rate and time left on a terminal, a plain line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use ganomede_host::line;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::shared::note;

/// Between plain lines.
const INTERVAL: Duration = Duration::from_secs(5);
/// Work that a rate is taken from lasts at least this long: what is known after less is luck.
const LEAST: f64 = 0.5;
/// Columns of a plain line: more would wrap.
const COLUMNS: usize = 79;

/// Progress of one task, on stderr.
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    label: String,
    unit: &'static str,
    total: Option<u64>,
    /// When progress was first heard of, and how far it was: whatever came before took an unknown time.
    since: Option<(Instant, u64)>,
    /// When the last plain line came, and how far it was.
    last_line: Option<(Instant, u64)>,
}

impl Meter {
    /// Starts at `first` units done; `total` is unknown when time is the limit.
    pub(crate) fn new(label: &str, unit: &'static str, first: u64, total: Option<u64>) -> Self {
        let label = line(label).into_owned();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8));
            let template = match total {
                Some(_) => "{prefix} {bar:20} {pos}/{len} {wide_msg}",
                None => "{prefix} {spinner} {pos} {elapsed} {wide_msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(label.clone());
            bar.set_position(first);
            bar
        });
        Self { bar, label, unit, total, since: None, last_line: None }
    }

    /// Shows that `done` units are done, with what each of `news` says as far as there is room.
    pub(crate) fn at(&mut self, done: u64, news: &[String]) {
        let (since, from) = *self.since.get_or_insert((Instant::now(), done));
        let pace = pace(done.saturating_sub(from), since.elapsed().as_secs_f64());
        let left = pace.zip(self.total).map(|(rate, total)| total.saturating_sub(done) as f64 / rate);
        let rate = pace.map_or(String::new(), |rate| format!(" {}/s", digits(rate)));
        if let Some(bar) = &self.bar {
            let left = left.map_or(String::new(), |s| format!(", {} left", span(s)));
            bar.set_position(done);
            bar.set_message(line(&format!("{}{left} {}", rate.trim(), news.join(" "))).into_owned());
            return;
        }
        let finished = self.total.is_some_and(|t| done >= t);
        let told = |(at, of): (Instant, u64)| if finished { of == done } else { at.elapsed() < INTERVAL };
        if !self.last_line.is_some_and(told) {
            self.last_line = Some((Instant::now(), done));
            let of = self.total.map_or(String::new(), |t| format!("/{t}"));
            let left = left.filter(|_| !finished).map_or(String::new(), |s| format!(", {} left", span(s)));
            let comma = if rate.is_empty() { "" } else { "," };
            note(&fitted(format!("{}: {done}{of} {}{comma}{rate}{left}", self.label, self.unit), news));
        }
    }

    /// Ends the bar; what was shown stays.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Units a second, once they can be told.
fn pace(done: u64, seconds: f64) -> Option<f64> {
    (done > 0 && seconds >= LEAST).then(|| done as f64 / seconds)
}

/// Three significant digits.
fn digits(value: f64) -> String {
    let decimals = if value > 0.0 { (2 - value.log10().floor() as i32).clamp(0, 4) as usize } else { 0 };
    let unit = 10f64.powi((value.max(1.0).log10().floor() as i32 - 2).max(0));
    format!("{:.decimals$}", (value / unit).round().max(if unit > 1.0 { 0.0 } else { value / unit }) * unit)
}

/// Seconds for people.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 99.5 * 60.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A line with as much of the news as fits.
fn fitted(mut line: String, news: &[String]) -> String {
    for (i, part) in news.iter().enumerate() {
        let separator = if i == 0 { "; " } else { " " };
        if line.chars().count() + separator.len() + part.chars().count() > COLUMNS {
            break;
        }
        line += separator;
        line += part;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_when_it_is_known_and_no_finer_than_it_is() {
        assert_eq!((pace(1, 3e-6), pace(0, 9.0)), (None, None));
        assert_eq!(pace(50, 4.0), Some(12.5));
        let cases = [331_785.4, 12_345.6, 999.6, 123.4, 12.345, 1.2345, 0.012_345, 0.0];
        let shown = ["332000", "12300", "1000", "123", "12.3", "1.23", "0.0123", "0"];
        assert_eq!(cases.map(digits), shown);
        assert_eq!([0.4, 59.0, 150.0, 9000.0].map(span), ["0 s", "59 s", "2 min", "2.5 h"]);
    }

    #[test]
    fn lines_do_not_wrap() {
        let news: Vec<String> = (0..20).map(|i| format!("loss_{i} {i}.000")).collect();
        let line = fitted("training: 120/2000 steps, 12.3/s, 153 s left".to_owned(), &news);
        assert!(line.chars().count() <= 79 && line.ends_with("loss_1 1.000"), "{line}");
    }
}
