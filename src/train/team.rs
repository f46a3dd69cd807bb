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
    fn gather(&self, mine: &[f32]) -> Result<Vec<f32>, String>;

    /// Sends the r-th of equal pieces to rank r; gives the pieces that are for this rank, in the order of
    /// ranks.
    ///
    /// # Errors
    /// A sentence about what failed.
    fn exchange(&self, mine: &[f32]) -> Result<Vec<f32>, String>;
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
        let all = self.gather(ranks.as_ref(), &[WELL, says])?;
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
            Some(ranks) => self.gather(ranks.as_ref(), &mine),
            None => Ok(mine),
        }
    }

    /// The mean over `parts` parts of a batch, added in their order; `mine` are those of this rank, one after
    /// the other. Each rank adds one piece of all parts, and gives it to the others.
    ///
    /// # Errors
    /// As [`Team::all`].
    pub fn mean(&self, mine: Vec<f32>, parts: usize) -> Result<Vec<f32>, TrainError> {
        self.all(WELL)?;
        let Some(ranks) = &self.ranks else { return Ok(mean_of(&mine, parts)) };
        let count = ranks.count();
        let each = parts / count;
        let len = mine.len() / each.max(1);
        let piece = len.div_ceil(count);
        let mut pieces = vec![0.0; count * each * piece];
        for (part, values) in mine.chunks_exact(len).enumerate() {
            for (rank, values) in values.chunks(piece).enumerate() {
                pieces[(rank * each + part) * piece..][..values.len()].copy_from_slice(values);
            }
        }
        self.sent.fetch_add(4 * (pieces.len() - each * piece) as u64, Ordering::Relaxed);
        let pieces = ranks.exchange(&pieces).map_err(|reason| self.failed(reason))?;
        let mut mean = self.gather(ranks.as_ref(), &mean_of(&pieces, parts))?;
        mean.truncate(len);
        Ok(mean)
    }

    /// Tells the others that this rank cannot go on, if they wait for it.
    pub fn end(&self) {
        if let Some(ranks) = &self.ranks
            && !self.closed.swap(true, Ordering::Relaxed)
        {
            // Nobody is left to be told of a failure.
            let _ = ranks.gather(&[ENDED, 0.0]);
        }
    }

    /// From here on each rank goes on by itself.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn gather(&self, ranks: &dyn Ranks, mine: &[f32]) -> Result<Vec<f32>, TrainError> {
        self.sent.fetch_add(4 * (mine.len() * (ranks.count() - 1)) as u64, Ordering::Relaxed);
        ranks.gather(mine).map_err(|reason| self.failed(reason))
    }

    fn failed(&self, reason: String) -> TrainError {
        self.close();
        TrainError::Exchange { reason }
    }
}

/// The mean of tensors that lie one after the other, added in their order.
fn mean_of(all: &[f32], count: usize) -> Vec<f32> {
    let len = all.len() / count.max(1);
    let (first, others) = all.split_at(len);
    let mut sum = first.to_vec();
    for other in others.chunks_exact(len.max(1)) {
        sum.iter_mut().zip(other).for_each(|(sum, &value)| *sum += value);
    }
    let scale = 1.0 / count as f32;
    sum.iter_mut().for_each(|value| *value *= scale);
    sum
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

    fn gather(&self, mine: &[f32]) -> Result<Vec<f32>, String> {
        Ok(self.meet(mine, <[f32]>::to_vec))
    }

    fn exchange(&self, mine: &[f32]) -> Result<Vec<f32>, String> {
        let piece = mine.len() / self.table.count;
        Ok(self.meet(mine, |of| of[self.rank * piece..][..piece].to_vec()))
    }
}
