//! Items that threads make ahead, handed out in the order of their numbers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use crate::DataError;

/// Iterator over items made in the background; it ends after an error. Dropping it stops the threads.
pub(crate) struct Ordered<T> {
    /// Worker k of n makes items k, k + n, …, each into its own channel: reading the channels in turn gives
    /// the order without sorting, and the bound of each channel bounds memory.
    channels: Vec<Receiver<Result<T, DataError>>>,
    workers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    turn: usize,
    left: usize,
}

impl<T: Send + 'static> Ordered<T> {
    /// Starts `threads` threads, of which each has `ahead` items waiting at most. `make` gives the item of a
    /// number; once the flag is set, whatever it gives is thrown away.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn start(
        numbers: Range<usize>,
        threads: usize,
        ahead: usize,
        make: impl Fn(usize, &AtomicBool) -> Result<T, DataError> + Send + Sync + 'static,
    ) -> Result<Self, DataError> {
        let left = numbers.len();
        let threads = threads.min(left);
        let stop = Arc::new(AtomicBool::new(false));
        let mut items = Self { channels: vec![], workers: vec![], stop, turn: 0, left };
        let make = Arc::new(make);
        for worker in 0..threads {
            let (sender, receiver) = sync_channel(ahead);
            let (make, stop) = (make.clone(), items.stop.clone());
            let mut own = numbers.clone().skip(worker).step_by(threads);
            let work = move || {
                own.find(|&number| {
                    let item = make(number, &stop);
                    let failed = item.is_err();
                    sender.send(item).is_err() || failed
                });
            };
            let spawned = thread::Builder::new().name(format!("decode-{worker}")).spawn(work);
            items.workers.push(spawned.map_err(DataError::io("start a thread for", "decoding".as_ref()))?);
            items.channels.push(receiver);
        }
        Ok(items)
    }
}

impl<T> Iterator for Ordered<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let worker = self.turn % self.channels.len();
        let Ok(item) = self.channels[worker].recv() else {
            // The sender is gone without its item: only a bug can do that, and hiding it would lose items.
            self.left = 0;
            if let Err(panic) = self.workers.remove(worker).join() {
                std::panic::resume_unwind(panic);
            }
            return None;
        };
        self.turn += 1;
        self.left = if item.is_err() { 0 } else { self.left - 1 };
        Some(item)
    }
}

impl<T> Drop for Ordered<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Closed channels release workers that wait to send.
        self.channels.clear();
        for worker in self.workers.drain(..) {
            // A worker's panic was passed on when its item was due.
            let _ = worker.join();
        }
    }
}
