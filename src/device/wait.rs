//! Waiting for what a device still owes: the one place where the library blocks on one.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::DeviceError;
use super::backend::Pending;

/// Wakes a thread that sleeps.
struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits, asleep, for what a device owes.
pub(super) fn wait<T>(mut pending: Pending<'_, T>) -> Result<T, DeviceError> {
    let waker = Waker::from(Arc::new(Sleeper(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match pending.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending if cfg!(target_family = "wasm") => {
                let what = "be waited for in a browser; call what ends in `_async`";
                return Err(DeviceError::Unsupported { what });
            }
            Poll::Pending => thread::park(),
        }
    }
}
