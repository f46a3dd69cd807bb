//! Buffers shared by temporaries that never live at the same time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Buffer, Program, Role};

/// From the launch that first writes a value to the last that reads it.
type Life = RangeInclusive<usize>;

/// The largest of some numbers below an end, by index: finds the last index whose number is above a bound.
struct Largest {
    leaves: usize,
    tree: Vec<usize>,
}

impl Largest {
    fn new(len: usize) -> Self {
        let leaves = len.next_power_of_two();
        Self { leaves, tree: vec![0; 2 * leaves] }
    }

    fn set(&mut self, index: usize, number: usize) {
        let mut at = self.leaves + index;
        self.tree[at] = number;
        while at > 1 {
            at /= 2;
            self.tree[at] = self.tree[2 * at].max(self.tree[2 * at + 1]);
        }
    }

    fn largest(&self) -> usize {
        self.tree[1]
    }

    /// The last index below `end` whose number is above `bound`.
    fn last_above(&self, end: usize, bound: usize) -> Option<usize> {
        // From the leaf at `end` up, until a subtree to the left holds one; then down its rightmost path.
        let mut at = self.leaves + end;
        while at.is_multiple_of(2) || self.tree[at - 1] <= bound {
            if at <= 1 {
                return None;
            }
            at /= 2;
        }
        at -= 1;
        while at < self.leaves {
            at = if self.tree[2 * at + 1] > bound { 2 * at + 1 } else { 2 * at };
        }
        Some(at - self.leaves)
    }
}

/// Rooms, each a buffer with the lives in it, and the gaps between those. Times count from 1; a gap that
/// begins at 0 has nothing before it.
struct Rooms {
    /// The buffer of each room.
    buffers: Vec<usize>,
    /// The gaps by the time they begin: the room, and the first time that is taken again.
    gaps: Vec<BTreeMap<usize, usize>>,
    /// Of the gaps that begin at each time, the longest one's end.
    ends: Largest,
    /// The end of each room's gap from time 0.
    empty: Largest,
}

impl Rooms {
    fn new(times: usize, rooms: usize) -> Self {
        Self {
            buffers: vec![],
            gaps: vec![BTreeMap::new(); times + 2],
            ends: Largest::new(times + 2),
            empty: Largest::new(rooms + 1),
        }
    }

    /// A gap of a room changes: it ends at `end`, or is no more where that is 0.
    fn set_gap(&mut self, begin: usize, room: usize, end: usize) {
        match end {
            0 => self.gaps[begin].remove(&room),
            _ => self.gaps[begin].insert(room, end),
        };
        let longest = if begin == 0 {
            self.empty.set(room, end);
            self.empty.largest()
        } else {
            self.gaps[begin].values().copied().max().unwrap_or(0)
        };
        self.ends.set(begin, longest);
    }

    /// A new room with one life in it.
    fn add(&mut self, buffer: usize, start: usize, end: usize) {
        let room = self.buffers.len();
        self.buffers.push(buffer);
        self.set_gap(0, room, start);
        self.set_gap(end, room, usize::MAX);
    }

    /// Puts a life into the room that was left last before it, the newest of several; `None` where none is
    /// free.
    fn take(&mut self, start: usize, end: usize) -> Option<usize> {
        let begin = self.ends.last_above(start, end)?;
        let room = match begin {
            0 => self.empty.last_above(self.buffers.len(), end)?,
            _ => *self.gaps[begin].iter().rev().find(|(_, until)| **until > end)?.0,
        };
        let until = self.gaps[begin].get(&room).copied()?;
        self.set_gap(begin, room, start);
        self.set_gap(end, room, until);
        Some(self.buffers[room])
    }
}

/// Puts temporaries with a buffer each into shared ones. The largest choose first; each takes the room that
/// was left last before its own life, which is the most likely to be in cache.
pub(super) fn share(mut program: Program) -> Program {
    let mut lives: Vec<Option<Life>> = vec![None; program.buffers.len()];
    for (at, launch) in program.launches.iter().enumerate() {
        for &buffer in launch.inputs.iter().chain(&launch.outputs) {
            let first = lives[buffer].as_ref().map_or(at, |life| *life.start());
            lives[buffer] = Some(first..=at);
        }
    }
    let temporary = |b: &Buffer| b.role == Role::Temporary;
    let mut values: Vec<usize> = (0..lives.len()).filter(|&b| temporary(&program.buffers[b])).collect();
    values.sort_by_key(|&b| Reverse(program.buffers[b].len));
    let mut rooms = Rooms::new(program.launches.len(), values.len());
    let mut home: Vec<usize> = (0..lives.len()).collect();
    for value in values {
        let Some(life) = &lives[value] else { continue };
        let (start, end) = (life.start() + 1, life.end() + 1);
        match rooms.take(start, end) {
            Some(buffer) => home[value] = buffer,
            None => rooms.add(value, start, end),
        }
    }
    let mut buffers = vec![];
    let mut place = vec![0; lives.len()];
    for (b, buffer) in program.buffers.into_iter().enumerate() {
        if home[b] == b && (lives[b].is_some() || !temporary(&buffer)) {
            place[b] = buffers.len();
            buffers.push(buffer);
        }
    }
    for launch in &mut program.launches {
        for buffer in launch.inputs.iter_mut().chain(&mut launch.outputs) {
            *buffer = place[home[*buffer]];
        }
    }
    Program { buffers, ..program }
}
