//! What long work tells while it runs, and whether it is to go on. The library prints nothing itself.

use std::ops::ControlFlow;

use ganomede_datasets::Findings;

/// How far a piece of work is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// What is done: `training`, `scoring`, ….
    pub task: &'static str,
    /// What is counted: `steps`, `images`, `samples`.
    pub unit: &'static str,
    /// The count at which the work began; of a resumed training not 0.
    pub first: u64,
    /// The count so far.
    pub done: u64,
    /// The count at the end; unknown where time is the limit.
    pub total: Option<u64>,
    /// The stage of a training that has several.
    pub stage: Option<&'static str>,
    /// Names and values of the last step's losses, of trainings.
    pub losses: &'a [(&'static str, f32)],
    /// Whether the work ends with this.
    pub ended: bool,
}

/// Sees how long work goes. Every method may be left out; `()` sees nothing and lets all work end.
pub trait Observer {
    /// After each step or batch, and at the end of a piece of work; where the total is known, also at its
    /// beginning.
    fn progress(&mut self, _progress: &Progress<'_>) {}

    /// A sentence about what was decided on the way.
    fn note(&mut self, _line: &str) {}

    /// What of the data is not read, which is known as soon as they are open.
    fn opened(&mut self, _findings: &Findings) {}

    /// What of the data was not used, when all of it has been looked at.
    fn findings(&mut self, _findings: &Findings) {}

    /// Whether to go on; asked between batches and steps. A training that is stopped writes its checkpoint
    /// first.
    fn goes_on(&mut self) -> bool {
        true
    }
}

impl Observer for () {}

/// An observer made of a function that sees the progress and says whether to go on.
#[derive(Debug)]
pub struct Watching<F> {
    see: F,
    goes_on: bool,
}

impl<F: FnMut(&Progress<'_>) -> ControlFlow<()>> Watching<F> {
    /// Asks `see` after each step or batch.
    pub fn new(see: F) -> Self {
        Self { see, goes_on: true }
    }
}

impl<F: FnMut(&Progress<'_>) -> ControlFlow<()>> Observer for Watching<F> {
    fn progress(&mut self, progress: &Progress<'_>) {
        self.goes_on &= (self.see)(progress).is_continue();
    }

    fn goes_on(&mut self) -> bool {
        self.goes_on
    }
}
