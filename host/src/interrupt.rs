//! The one flag that Ctrl-C sets. Every loop that can take long looks at it.

use std::sync::atomic::{AtomicBool, Ordering};

static RAISED: AtomicBool = AtomicBool::new(false);

/// The user asked the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted; nothing was written")]
pub struct Interrupted;

/// Asks every loop of the process to stop; returns whether that was asked before.
pub fn raise() -> bool {
    RAISED.swap(true, Ordering::SeqCst)
}

/// Takes the question back, once all that was to stop has: for programs that go on after an interrupt, an
/// interpreter's say.
pub fn lower() {
    RAISED.store(false, Ordering::SeqCst);
}

/// Whether the process was asked to stop.
pub fn raised() -> bool {
    RAISED.load(Ordering::Relaxed)
}

/// Ends a loop with `?` once the process was asked to stop.
///
/// # Errors
/// [`Interrupted`] from then on.
pub fn check() -> Result<(), Interrupted> {
    if raised() { Err(Interrupted) } else { Ok(()) }
}
