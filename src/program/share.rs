//! Buffers shared by temporaries that never live at the same time.

use std::cmp::Reverse;
use std::ops::RangeInclusive;

use super::{Buffer, Program, Role};

/// From the launch that first writes a value to the last that reads it.
type Life = RangeInclusive<usize>;

fn meet(a: &Life, b: &Life) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

/// A buffer: the temporary it was made for, and the lives of all that are in it.
struct Room {
    buffer: usize,
    lives: Vec<Life>,
}

impl Room {
    /// When it was left before `life`, if anything was in it.
    fn left(&self, life: &Life) -> Option<usize> {
        self.lives.iter().map(|l| *l.end()).filter(|end| end < life.start()).max()
    }
}

/// Puts temporaries with a buffer each into shared ones. The largest choose first; each takes the room that was left last
/// before its own life, which is the likeliest to lie in cache.
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
    let mut rooms: Vec<Room> = vec![];
    let mut home: Vec<usize> = (0..lives.len()).collect();
    for value in values {
        let Some(life) = lives[value].clone() else { continue };
        let free = rooms.iter_mut().filter(|room| !room.lives.iter().any(|l| meet(l, &life)));
        match free.max_by_key(|room| room.left(&life)) {
            Some(room) => {
                home[value] = room.buffer;
                room.lives.push(life);
            }
            None => rooms.push(Room { buffer: value, lives: vec![life] }),
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
