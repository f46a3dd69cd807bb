//! Launch order: what may run when, and which of several orders that would do keep few temporaries alive.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::Planner;
use super::{CompileError, StateId};
use crate::tape::NodeId;

/// What must come before what. Steps are numbered as the planner has them; its early copies follow.
pub(super) struct Order {
    successors: Vec<Vec<usize>>,
    /// Number of predecessors.
    waiting: Vec<usize>,
    /// Steps that read each temporary.
    readers: BTreeMap<NodeId, Vec<usize>>,
    /// Temporaries that each step reads.
    reads: Vec<Vec<NodeId>>,
    /// Elements that each step adds to the living temporaries, as long as others still have to read what it
    /// reads.
    growth: Vec<isize>,
    /// When each step was recorded.
    recorded: Vec<isize>,
    /// Elements of each temporary that is read.
    lens: BTreeMap<NodeId, isize>,
}

impl Order {
    pub(super) fn new(planner: &Planner<'_>) -> Self {
        let steps = &planner.fused.steps;
        let count = steps.len() + planner.early.len();
        let mut producer = BTreeMap::new();
        for (i, step) in steps.iter().enumerate() {
            step.roots.iter().for_each(|&r| _ = producer.insert(r, i));
        }
        let temporary = |id: &&NodeId| producer.contains_key(*id) && !planner.kept(**id);
        let mut order = Order {
            successors: vec![vec![]; count],
            waiting: vec![0; count],
            readers: BTreeMap::new(),
            reads: vec![vec![]; count],
            growth: vec![0; count],
            recorded: vec![0; count],
            lens: BTreeMap::new(),
        };
        let mut state_readers: BTreeMap<StateId, Vec<usize>> = BTreeMap::new();
        for (i, step) in steps.iter().enumerate() {
            for read in &step.reads {
                if let Some(&p) = producer.get(read) {
                    order.successors[p].push(i);
                } else if let Some(state) = planner.state_node(*read) {
                    state_readers.entry(state).or_default().push(i);
                }
            }
            for &read in step.reads.iter().filter(temporary) {
                order.readers.entry(read).or_default().push(i);
                order.reads[i].push(read);
                order.lens.insert(read, planner.len(read) as isize);
            }
            order.growth[i] = step.roots.iter().filter(temporary).map(|&r| planner.len(r) as isize).sum();
            order.recorded[i] = step.roots.last().map_or(0, |&root| root as isize);
        }
        for (i, (source, _)) in planner.early.iter().enumerate() {
            if let Some(state) = planner.state_node(*source) {
                state_readers.entry(state).or_default().push(steps.len() + i);
            }
        }
        order.read_before_written(planner, &producer, &state_readers);
        for list in &mut order.successors {
            list.sort_unstable();
            list.dedup();
        }
        order.successors.iter().flatten().for_each(|&s| order.waiting[s] += 1);
        order
    }

    /// Puts readers of a state before the step that gives it a new value, wherever that is possible.
    fn read_before_written(
        &mut self,
        planner: &Planner<'_>,
        producer: &BTreeMap<NodeId, usize>,
        readers: &BTreeMap<StateId, Vec<usize>>,
    ) {
        let steps = planner.fused.steps.len();
        let mut against = vec![];
        for (root, states) in &planner.becomes {
            let Some(&writer) = producer.get(root) else { continue };
            for &reader in states.iter().filter_map(|state| readers.get(state)).flatten() {
                // Steps stand in an order in which they can run, and early copies can always come first.
                if reader < writer || reader >= steps {
                    self.successors[reader].push(writer);
                } else if reader > writer {
                    against.push((writer, reader));
                }
            }
        }
        for (writer, reader) in against {
            if !self.reaches(writer, reader) {
                self.successors[reader].push(writer);
            }
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        let (mut stack, mut seen) = (vec![from], BTreeSet::new());
        while let Some(i) = stack.pop() {
            if i == to {
                return true;
            }
            if seen.insert(i) {
                stack.extend(&self.successors[i]);
            }
        }
        false
    }

    /// An order in which all can run. Of the steps that are ready, the one of least `cost` comes first: a
    /// function of how many numbers it adds to the temporaries that live, and of when it was recorded.
    pub(super) fn by(
        &self,
        cost: impl Fn(isize, isize) -> (isize, isize),
    ) -> Result<Vec<usize>, CompileError> {
        let (mut waiting, mut growth) = (self.waiting.clone(), self.growth.clone());
        let mut unread: BTreeMap<NodeId, usize> = self.readers.iter().map(|(&id, r)| (id, r.len())).collect();
        for (id, readers) in self.readers.iter().filter(|(_, readers)| readers.len() == 1) {
            growth[readers[0]] -= self.lens[id];
        }
        let key = |i: usize, growth: &[isize]| (cost(growth[i], self.recorded[i]), i);
        let mut ready: BTreeSet<_> =
            (0..waiting.len()).filter(|&i| waiting[i] == 0).map(|i| key(i, &growth)).collect();
        let mut done = vec![false; waiting.len()];
        let mut order = Vec::with_capacity(waiting.len());
        while let Some((_, i)) = ready.pop_first() {
            order.push(i);
            done[i] = true;
            for read in &self.reads[i] {
                let left = unread.entry(*read).or_default();
                *left -= 1;
                // The last that reads it will free it.
                if let (1, Some(&last)) = (*left, self.readers[read].iter().find(|&&r| !done[r])) {
                    let waits = !ready.remove(&key(last, &growth));
                    growth[last] -= self.lens[read];
                    if !waits {
                        ready.insert(key(last, &growth));
                    }
                }
            }
            for &next in &self.successors[i] {
                waiting[next] -= 1;
                if waiting[next] == 0 {
                    ready.insert(key(next, &growth));
                }
            }
        }
        if order.len() < waiting.len() {
            let what = "launches wait for each other".to_owned();
            return Err(CompileError::Internal { scope: String::new(), what });
        }
        Ok(order)
    }
}
