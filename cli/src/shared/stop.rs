//! What stops a command: Ctrl-C and its likes.

use ganomede_host::interrupt;

use crate::shared::CliError;

/// Set by Ctrl-C; loops look at it between steps. There is one for the process
/// ([`ganomede_host::interrupt`]): this says that somebody listens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Interrupt(());

impl Interrupt {
    /// Listens for Ctrl-C, for the end of the session and for `kill`; a second one ends the process at once.
    /// A session's end that was to be ignored, as under `nohup`, still is.
    ///
    /// # Errors
    /// Where the thread that listens cannot be started.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let outlives_its_session = hangup::is_ignored();
        let raise = || {
            if interrupt::raise() {
                std::process::exit(130);
            }
        };
        ctrlc::set_handler(raise).map_err(|e| {
            CliError::machine(format!(
                "cannot listen for Ctrl-C: {e}; raise the limit on threads (`ulimit -u`)"
            ))
        })?;
        if outlives_its_session {
            hangup::ignore();
        }
        Ok(Self::default())
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn raised(&self) -> bool {
        interrupt::raised()
    }
}

#[cfg(unix)]
mod hangup {
    use std::mem::MaybeUninit;
    use std::ptr::null;

    /// Whether SIGHUP is ignored now.
    pub(super) fn is_ignored() -> bool {
        let mut now = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: without a new action the call only writes the present one, whole, to `now`.
        let asked = unsafe { libc::sigaction(libc::SIGHUP, null(), now.as_mut_ptr()) };
        // SAFETY: the call went well, so that `now` was written.
        asked == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
    }

    /// Ignores SIGHUP.
    pub(super) fn ignore() {
        // SAFETY: no handler of ours is given, so none can be unsafe in a signal.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
}

#[cfg(not(unix))]
mod hangup {
    pub(super) fn is_ignored() -> bool {
        false
    }

    pub(super) fn ignore() {}
}
