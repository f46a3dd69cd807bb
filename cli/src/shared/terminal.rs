//! The terminal as an observer of the library's work: bars and lines on stderr, Ctrl-C as the wish to stop.

use ganomede::detect::{DetectError, Observer};
use ganomede::train::TrainError;
use ganomede_datasets::Findings;

use super::failure::FLAGS;
use super::findings::{report_bits, report_masks, report_rejected, report_skipped};
use super::output::is_silent;
use super::progress::Meter;
use super::{CliError, Interrupt, note, shown};

/// Shows what goes on.
pub(crate) struct Terminal<'a> {
    interrupt: &'a Interrupt,
    bar: Option<Meter>,
}

impl<'a> Terminal<'a> {
    pub(crate) fn new(interrupt: &'a Interrupt) -> Self {
        Self { interrupt, bar: None }
    }
}

impl Observer for Terminal<'_> {
    fn progress(&mut self, progress: &ganomede::detect::Progress<'_>) {
        if is_silent() {
            return;
        }
        let ganomede::detect::Progress { task, unit, first, done, total, .. } = *progress;
        if progress.ended {
            if let Some(bar) = self.bar.take() {
                bar.end();
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| Meter::new(task, unit, first, total));
        if done > first {
            let losses = progress.losses.iter().map(|(name, value)| format!("{name} {value:.3}"));
            let stage = progress.stage.map(str::to_owned);
            bar.at(done, &stage.into_iter().chain(losses).collect::<Vec<_>>());
        }
    }

    fn note(&mut self, line: &str) {
        note(line);
    }

    fn opened(&mut self, findings: &Findings) {
        report_skipped(findings);
    }

    fn findings(&mut self, findings: &Findings) {
        report_rejected(&findings.rejected);
        report_masks(findings);
        report_bits(findings);
    }

    fn goes_on(&mut self) -> bool {
        !self.interrupt.raised()
    }
}

impl From<DetectError> for CliError {
    fn from(error: DetectError) -> Self {
        match &error {
            DetectError::Config(e) if FLAGS.contains(&e.field.as_str()) => Self::input(format!("--{error}")),
            DetectError::Train(TrainError::Rank { .. }) => Self::of_other_rank(),
            DetectError::Input(_) | DetectError::Train(_) | DetectError::Eval(_) => {
                Self::of_fields(&error, error.is_machine_fault())
            }
            DetectError::TrainingStopped { step, checkpoint } => {
                let place = checkpoint
                    .as_deref()
                    .map_or(String::new(), |path| format!("; checkpoint saved to {}", shown(path)));
                Self::interrupted(format!("interrupted at step {step}{place}"))
            }
            DetectError::Stopped => Self::interrupted(error.to_string()),
            _ => Self::new(&error, error.is_machine_fault()),
        }
    }
}
