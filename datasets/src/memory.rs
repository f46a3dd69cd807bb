//! One budget for the memory that decoding and unpacking may take, all threads together: taken before
//! anything is allocated, given back when what was decoded is dropped.
//!
//! *Working* memory (an image while it is decoded) waits until enough is free. *Held* memory (a data set that
//! stays) lessens what can ever be free, so it never waits for other held memory: what does not fit beside it
//! is an error that names the file and the number. A thread takes its working memory at once, for an image
//! with its mask, and nothing more until it has given it back, so that two threads never wait for each other.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::DataError;

/// Bytes of the budget until [`set_budget`] is called: 1 GiB.
pub const DEFAULT_BUDGET: u64 = 1 << 30;

/// Least budget: below it, hardly a photograph can be decoded.
pub const MIN_BUDGET: u64 = 64 << 20;

/// The memory of a process is one, and so is its budget.
static PROCESS: Budget = Budget::new(DEFAULT_BUDGET);

/// Sets the budget of this process, in bytes; at least [`MIN_BUDGET`] is set. What is taken already stays so.
pub fn set_budget(bytes: u64) {
    PROCESS.lock().total = bytes.max(MIN_BUDGET);
    PROCESS.changed.notify_all();
}

/// The budget of this process, in bytes.
pub fn budget() -> u64 {
    PROCESS.lock().total
}

/// Whether `bytes` could ever be taken, if nothing else were.
pub(crate) fn check(bytes: u64) -> Result<(), Short> {
    let State { total, held, .. } = *PROCESS.lock();
    if bytes > total - held.min(total) { Err(Short { needed: bytes, total, held }) } else { Ok(()) }
}

/// A budget from text, as [`parse_at_least`] reads it.
///
/// # Errors
/// What is allowed, where the text is something else or below [`MIN_BUDGET`].
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_at_least(text, MIN_BUDGET)
}

/// Bytes from text such as `2GiB`, `1.5G`, `800MB` or `1073741824`: powers of 1024, but of 1000 with `KB`,
/// `MB`, `GB`, `TB`.
///
/// # Errors
/// What is allowed, where the text is something else or fewer bytes than `least`.
pub fn parse_at_least(text: &str, least: u64) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let power = |base: f64, letter: char| "bkmgt".find(letter).map(|p| base.powi(p as i32));
    let factor = match unit.chars().collect::<Vec<_>>()[..] {
        [] | ['b'] => Some(1.0),
        [letter] | [letter, 'i', 'b'] => power(1024.0, letter),
        [letter, 'b'] => power(1000.0, letter),
        _ => None,
    };
    let bytes = factor.zip(number.parse::<f64>().ok()).map(|(factor, number)| factor * number);
    match bytes {
        Some(bytes) if bytes < least as f64 => Err(format!("at least {} are needed", text_of(least))),
        // A larger number than any memory saturates.
        Some(bytes) => Ok(bytes as u64),
        None => Err("write bytes, or a number with KiB, MiB, GiB or TiB, for example 2GiB".to_owned()),
    }
}

/// Bytes as people write them.
pub(crate) fn text_of(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{bytes} bytes"),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// What was asked for and can never be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    needed: u64,
    total: u64,
    held: u64,
}

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { needed, total, held } = *self;
        write!(
            f,
            "needs {} of memory ({needed} bytes), more than the budget of {}",
            text_of(needed),
            text_of(total)
        )?;
        if held > 0 {
            write!(f, " of which the data that is loaded already holds {}", text_of(held))?;
        }
        write!(f, "; raise --memory if the machine has more")
    }
}

impl std::error::Error for Short {}

impl Short {
    /// Bytes that were left.
    pub(crate) fn free(self) -> u64 {
        self.total.saturating_sub(self.held)
    }

    /// As the fault of a file.
    pub(crate) fn of(self, path: &Path) -> DataError {
        DataError::file(path, self.to_string())
    }
}

#[derive(Debug)]
struct Budget {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    total: u64,
    /// By what stays.
    held: u64,
    /// By what will be given back without anyone's help.
    working: u64,
}

impl Budget {
    const fn new(total: u64) -> Self {
        Budget { state: Mutex::new(State { total, held: 0, working: 0 }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one addition: the numbers hold after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` are free and takes them, or finds that they never will be.
    fn take(&self, bytes: u64, is_held: bool) -> Result<(), Short> {
        let mut state = self.lock();
        loop {
            let most = state.total.saturating_sub(state.held);
            if bytes > most {
                return Err(Short { needed: bytes, total: state.total, held: state.held });
            }
            if bytes <= most.saturating_sub(state.working) {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if is_held {
            state.held += bytes;
            // Who waits for more than is left now must learn it.
            self.changed.notify_all();
        } else {
            state.working += bytes;
        }
        Ok(())
    }

    fn give_back(&self, bytes: u64, is_held: bool) {
        let mut state = self.lock();
        if is_held {
            state.held -= bytes;
        } else {
            state.working -= bytes;
        }
        self.changed.notify_all();
    }
}

/// Working memory that was taken; dropped, it is free again.
#[derive(Debug)]
pub struct Permit {
    budget: &'static Budget,
    bytes: u64,
}

impl Permit {
    /// Waits for `bytes`. The thread must hold no other permit.
    ///
    /// # Errors
    /// More than there ever will be.
    pub fn take(bytes: u64) -> Result<Self, Short> {
        Self::of(&PROCESS, bytes)
    }

    fn of(budget: &'static Budget, bytes: u64) -> Result<Self, Short> {
        budget.take(bytes, false)?;
        Ok(Permit { budget, bytes })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes, false);
    }
}

/// Memory that data holds as long as it lives, in any number of copies of this handle; starts with none.
#[derive(Clone, Debug)]
pub struct Held(Arc<HeldBytes>);

struct HeldBytes {
    budget: &'static Budget,
    bytes: AtomicU64,
}

impl Held {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// More than there is beside what is held already.
    pub fn grow(&self, bytes: u64) -> Result<(), Short> {
        self.0.budget.take(bytes, true)?;
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Default for Held {
    fn default() -> Self {
        Held(Arc::new(HeldBytes { budget: &PROCESS, bytes: AtomicU64::new(0) }))
    }
}

/// What data is does not depend on what was taken for it.
impl PartialEq for Held {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes.load(Ordering::Relaxed))
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.budget.give_back(*self.bytes.get_mut(), true);
    }
}

/// An empty vector with room for `count` items, or an error where the system has no such memory.
pub(crate) fn room<T>(path: &Path, count: u64) -> Result<Vec<T>, DataError> {
    let mut items = Vec::new();
    let reserved = usize::try_from(count).ok().and_then(|count| items.try_reserve_exact(count).ok());
    reserved.ok_or_else(|| DataError::io("read", path)(std::io::ErrorKind::OutOfMemory.into()))?;
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    fn budget_of(bytes: u64) -> &'static Budget {
        Box::leak(Box::new(Budget::new(bytes)))
    }

    fn held_of(budget: &'static Budget) -> Held {
        Held(Arc::new(HeldBytes { budget, bytes: AtomicU64::new(0) }))
    }

    #[test]
    fn many_threads_never_take_more_than_there_is_and_all_get_their_turn() {
        let budget = budget_of(1000);
        let (taken, most, served) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (taken, most, served) = (&taken, &most, &served);
                scope.spawn(move || {
                    for i in 0..200 {
                        let bytes = 1 + (thread * 131 + i * 37) % 1000;
                        let permit = Permit::of(budget, bytes).unwrap();
                        let now = taken.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        taken.fetch_sub(bytes, Ordering::SeqCst);
                        drop(permit);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(served.into_inner(), 8 * 200);
        assert!((1..=1000).contains(&most.into_inner()));
        let state = budget.lock();
        assert_eq!((state.working, state.held), (0, 0));
    }

    #[test]
    fn what_never_fits_is_an_error_and_held_memory_lessens_what_fits() {
        let budget = budget_of(1000);
        assert!(Permit::of(budget, 1001).is_err());
        let held = held_of(budget);
        held.grow(600).unwrap();
        assert_eq!(held.grow(401), Err(Short { needed: 401, total: 1000, held: 600 }));
        let copy = held.clone();
        drop(held);
        assert!(Permit::of(budget, 401).is_err(), "a copy still holds it");
        drop(copy);
        drop(Permit::of(budget, 1000).unwrap());
    }

    #[test]
    fn who_waits_for_memory_that_is_held_meanwhile_gets_an_error() {
        let budget = budget_of(1000);
        let working = Permit::of(budget, 100).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Permit::of(budget, 950).map(drop));
            let held = held_of(budget);
            held.grow(500).unwrap();
            drop(working);
            // Either it came first, before anything was held, or it learns that 950 never fit.
            if let Err(short) = waiting.join().unwrap() {
                assert_eq!(short, Short { needed: 950, total: 1000, held: 500 });
            }
        });
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("1073741824", 1 << 30),
            ("2GiB", 2 << 30),
            ("1.5G", 3 << 29),
            (" 64 MiB", 64 << 20),
            ("800MB", 800_000_000),
            ("1tb", 1_000_000_000_000),
            ("99999999999TiB", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "1e9", "2 GiBs", "1XB", "63MiB", "0", "nan", "1.2.3G", "２GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        // What is no budget may be smaller.
        assert_eq!(parse_at_least("1.5KiB", 1024), Ok(1536));
        assert_eq!(parse_at_least("1023", 1024), Err("at least 1024 bytes are needed".to_owned()));
        assert!(parse_bytes("63MiB").unwrap_err().contains("at least 64.0 MiB"));
    }
}
