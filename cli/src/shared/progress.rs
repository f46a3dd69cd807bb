//! Progress: a bar with rate and time left on a terminal, a plain line every few seconds elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use ganomede_host::line;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::shared::note;

/// Between plain lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Progress of one task, on stderr.
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    label: String,
    unit: &'static str,
    total: Option<u64>,
    started: Instant,
    first: u64,
    last_line: Option<Instant>,
}

impl Meter {
    /// Starts at `first` units done; `total` is unknown when time is the limit.
    pub(crate) fn new(label: &str, unit: &'static str, first: u64, total: Option<u64>) -> Self {
        let label = line(label).into_owned();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(8));
            let template = match total {
                Some(_) => "{prefix} {bar:30} {pos}/{len} {per_sec} eta {eta} {msg}",
                None => "{prefix} {spinner} {pos} {per_sec} {elapsed} {msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(label.clone());
            bar.set_position(first);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        Self { bar, label, unit, total, started: now, first, last_line: None }
    }

    /// Shows that `done` units are done.
    pub(crate) fn at(&mut self, done: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(line(message).into_owned());
            return;
        }
        let finished = self.total.is_some_and(|t| done >= t);
        if finished || self.last_line.is_none_or(|t| t.elapsed() >= INTERVAL) {
            self.last_line = Some(Instant::now());
            let rate =
                done.saturating_sub(self.first) as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
            let of = self.total.map_or(String::new(), |t| format!("/{t}"));
            let eta = self.total.map_or(String::new(), |t| {
                format!(", {:.0} s left", t.saturating_sub(done) as f64 / rate.max(1e-9))
            });
            note(&format!("{}: {done}{of} {} ({rate:.1}/s{eta}) {message}", self.label, self.unit));
        }
    }

    /// Ends the bar; what was shown stays.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
