//! Several processes that train one model together, each on its parts of every batch.
//!
//! What carries messages is a [`Ranks`]; everything else about ranks is here. All ranks do the same in the
//! same order, and every exchange begins with a word of each rank on how it is, so that one that cannot go on
//! ends all of them and none waits for it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::TrainError;

/// What carries messages between ranks. All ranks call the same methods in the same order, with as many
/// numbers.
pub trait Ranks: Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn count(&self) -> usize;

    /// Gives each rank what all of them have, in the order of ranks.
    ///
    /// # Errors
    /// A sentence about what failed.
    fn gather(&self, mine: &[f32], all: &mut [f32]) -> Result<(), String>;

    /// Sends the r-th of equal pieces to rank r; gives the pieces that are for this rank, as many numbers, in
    /// the order of ranks.
    ///
    /// # Errors
    /// A sentence about what failed.
    fn exchange(&self, mine: &[f32], theirs: &mut [f32]) -> Result<(), String>;
}

/// The ranks of a training as one of them sees them; by itself it is alone.
#[derive(Clone, Default)]
pub struct Team {
    ranks: Option<Arc<dyn Ranks>>,
    /// Whether nothing is exchanged any more.
    closed: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Team({} of {})", self.rank(), self.count())
    }
}

/// What each rank says first.
const WELL: f32 = 0.0;
const ENDED: f32 = 1.0;

impl Team {
    /// One of several.
    pub fn new(ranks: Arc<dyn Ranks>) -> Self {
        Self { ranks: Some(ranks).filter(|ranks| ranks.count() > 1), ..Self::default() }
    }

    /// The number of this rank.
    pub fn rank(&self) -> usize {
        self.ranks.as_ref().map_or(0, |ranks| ranks.rank())
    }

    /// How many ranks there are.
    pub fn count(&self) -> usize {
        self.ranks.as_ref().map_or(1, |ranks| ranks.count())
    }

    /// Whether this rank writes files and speaks for all.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Bytes that this rank has sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The parts of a batch that are this rank's, of so many.
    pub fn own(&self, parts: usize) -> Range<usize> {
        let each = parts / self.count();
        self.rank() * each..(self.rank() + 1) * each
    }

    /// What all ranks say, in their order.
    ///
    /// # Errors
    /// [`TrainError::Rank`] where one has ended, [`TrainError::Exchange`] where messages fail.
    pub fn all(&self, says: f32) -> Result<Vec<f32>, TrainError> {
        let Some(ranks) = self.ranks.as_ref().filter(|_| !self.closed.load(Ordering::Relaxed)) else {
            return Ok(vec![says]);
        };
        let mut all = vec![0.0; 2 * ranks.count()];
        self.gather(ranks.as_ref(), &[WELL, says], &mut all)?;
        if let Some(rank) = all.chunks(2).position(|word| word[0] == ENDED) {
            self.close();
            return Err(TrainError::Rank { rank });
        }
        Ok(all.chunks(2).map(|word| word[1]).collect())
    }

    /// Whether any rank says so.
    ///
    /// # Errors
    /// As [`Team::all`].
    pub fn any(&self, says: bool) -> Result<bool, TrainError> {
        Ok(self.all(f32::from(u8::from(says)))?.contains(&1.0))
    }

    /// Whether all ranks have the same text.
    ///
    /// # Errors
    /// As [`Team::all`].
    pub fn agree(&self, text: &str) -> Result<bool, TrainError> {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(text);
        // Numbers that f32 holds exactly.
        digest[..8].iter().try_fold(true, |same, &byte| {
            let all = self.all(f32::from(byte))?;
            Ok(same && all.iter().all(|&other| other == all[0]))
        })
    }

    /// What all parts of a batch have, in their order; `mine` are those of this rank.
    ///
    /// # Errors
    /// As [`Team::all`].
    pub fn parts(&self, mine: Vec<f32>) -> Result<Vec<f32>, TrainError> {
        self.all(WELL)?;
        match &self.ranks {
            Some(ranks) => {
                let mut all = vec![0.0; mine.len() * ranks.count()];
                self.gather(ranks.as_ref(), &mine, &mut all)?;
                Ok(all)
            }
            None => Ok(mine),
        }
    }

    /// The mean over `parts` parts of a batch, added in their order: takes those of this rank, one after the
    /// other, from `values`, and leaves the mean there. Each rank adds one piece of all parts, and gives it
    /// to the others. `spare` is memory that is kept from step to step.
    ///
    /// # Errors
    /// As [`Team::all`].
    pub fn mean(&self, values: &mut Vec<f32>, spare: &mut Vec<f32>, parts: usize) -> Result<(), TrainError> {
        self.all(WELL)?;
        let Some(ranks) = &self.ranks else {
            let len = values.len() / parts.max(1);
            to_mean(values, parts);
            values.truncate(len);
            return Ok(());
        };
        let count = ranks.count();
        let each = parts / count;
        let len = values.len() / each.max(1);
        let piece = len.div_ceil(count);
        match each {
            // The pieces of one part lie as they are sent.
            1 => values.resize(count * piece, 0.0),
            _ => {
                spare.clear();
                spare.resize(count * each * piece, 0.0);
                for (part, of_part) in values.chunks_exact(len).enumerate() {
                    for (rank, of_piece) in of_part.chunks(piece).enumerate() {
                        spare[(rank * each + part) * piece..][..of_piece.len()].copy_from_slice(of_piece);
                    }
                }
                std::mem::swap(values, spare);
            }
        }
        self.sent.fetch_add(4 * (values.len() - each * piece) as u64, Ordering::Relaxed);
        spare.resize(values.len(), 0.0);
        ranks.exchange(values, spare).map_err(|reason| self.failed(reason))?;
        to_mean(spare, parts);
        values.resize(count * piece, 0.0);
        self.gather(ranks.as_ref(), &spare[..piece], values)?;
        values.truncate(len);
        Ok(())
    }

    /// Tells the others that this rank cannot go on, if they wait for it.
    pub fn end(&self) {
        if let Some(ranks) = &self.ranks
            && !self.closed.swap(true, Ordering::Relaxed)
        {
            // Nobody is left to be told of a failure.
            let _ = ranks.gather(&[ENDED, 0.0], &mut vec![0.0; 2 * ranks.count()]);
        }
    }

    /// From here on each rank goes on by itself.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn gather(&self, ranks: &dyn Ranks, mine: &[f32], all: &mut [f32]) -> Result<(), TrainError> {
        self.sent.fetch_add(4 * (mine.len() * (ranks.count() - 1)) as u64, Ordering::Relaxed);
        ranks.gather(mine, all).map_err(|reason| self.failed(reason))
    }

    fn failed(&self, reason: String) -> TrainError {
        self.close();
        TrainError::Exchange { reason }
    }
}

/// Turns the first of `count` tensors that lie one after the other into their mean, added in their order.
fn to_mean(all: &mut [f32], count: usize) {
    let len = all.len() / count.max(1);
    let (sum, others) = all.split_at_mut(len);
    for other in others.chunks_exact(len.max(1)) {
        sum.iter_mut().zip(other).for_each(|(sum, &value)| *sum += value);
    }
    let scale = 1.0 / count as f32;
    sum.iter_mut().for_each(|value| *value *= scale);
}

/// Ranks that are threads of one process.
pub struct Threads {
    rank: usize,
    table: Arc<Table>,
}

/// Where threads lay down what they have.
struct Table {
    count: usize,
    lain: Mutex<Lain>,
    changed: Condvar,
}

#[derive(Default)]
struct Lain {
    of: Vec<Option<Vec<f32>>>,
    /// Threads that have not yet taken what lies there.
    waiting: usize,
}

impl Threads {
    /// So many ranks, one for each thread.
    pub fn new(count: usize) -> Vec<Self> {
        let lain = Mutex::new(Lain { of: vec![None; count], waiting: 0 });
        let table = Arc::new(Table { count, lain, changed: Condvar::new() });
        (0..count).map(|rank| Self { rank, table: Arc::clone(&table) }).collect()
    }

    /// Lays down `mine`, waits for all, takes what `take` makes of them.
    fn meet(&self, mine: &[f32], take: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
        let Table { count, lain, changed } = &*self.table;
        let mut lain = lain.lock().unwrap_or_else(PoisonError::into_inner);
        while lain.waiting > 0 {
            lain = changed.wait(lain).unwrap_or_else(PoisonError::into_inner);
        }
        lain.of[self.rank] = Some(mine.to_vec());
        if lain.of.iter().all(Option::is_some) {
            lain.waiting = *count;
            changed.notify_all();
        }
        while lain.waiting == 0 {
            lain = changed.wait(lain).unwrap_or_else(PoisonError::into_inner);
        }
        let all = lain.of.iter().flatten().flat_map(|of| take(of)).collect();
        lain.waiting -= 1;
        if lain.waiting == 0 {
            lain.of.fill(None);
            changed.notify_all();
        }
        all
    }
}

impl Ranks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.table.count
    }

    fn gather(&self, mine: &[f32], all: &mut [f32]) -> Result<(), String> {
        all.copy_from_slice(&self.meet(mine, <[f32]>::to_vec));
        Ok(())
    }

    fn exchange(&self, mine: &[f32], theirs: &mut [f32]) -> Result<(), String> {
        let piece = mine.len() / self.table.count;
        theirs.copy_from_slice(&self.meet(mine, |of| of[self.rank * piece..][..piece].to_vec()));
        Ok(())
    }
}
