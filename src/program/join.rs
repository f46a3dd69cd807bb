//! Joining steps: those that share what they read become one launch.

use std::collections::BTreeSet;

use super::fuse::Fused;
use super::sets::{Set, Sets};
use super::steps::{MAX_BINDINGS, Step, StepKind, is_layer};
use super::{CompileError, Effort};
use crate::tape::{NodeId, Op};

/// Joining far-apart steps would stretch lifetimes across the program.
const WINDOW: usize = 64;

impl Fused<'_> {
    /// Joins element-wise steps that read each other or the same tensors, and reductions of the same tensors
    /// over the same axes, where no other step must run between them. Leaves the steps in an order in which
    /// they can run.
    pub(super) fn join(&mut self) -> Result<(), CompileError> {
        let steps = std::mem::take(&mut self.steps);
        let mut joiner = Joiner::new(self, steps)?;
        if self.effort != Effort::Apart {
            joiner.run();
        }
        self.steps = joiner.finish();
        Ok(())
    }

    /// Whether every read of `root` by the step is element by element in the step's own shape.
    fn reads_in_place(&self, step: &Step, root: NodeId) -> bool {
        let mut stack = step.roots.clone();
        let mut seen = BTreeSet::new();
        let mut found = false;
        while let Some(id) = stack.pop() {
            for &input in self.inputs[id] {
                if self.storage(input) == root {
                    if input != root || matches!(self.node(id).op, Op::Broadcast) {
                        return false;
                    }
                    found = true;
                }
                let inner = self.is_pointwise(input) && (!self.stored[input] || step.roots.contains(&input));
                if inner && seen.insert(input) {
                    stack.push(input);
                }
            }
        }
        found
    }
}

/// Steps by the place they were recorded in; a joined step takes that of its last part.
struct Joiner<'f, 'g> {
    fused: &'f Fused<'g>,
    steps: Vec<Option<Step>>,
    /// The step that computes each stored node.
    producer: Vec<Option<usize>>,
    /// The products and other single nodes that each step depends on.
    before: Vec<Set>,
    /// An order in which the steps can run, with holes, and each step's place in it.
    order: Vec<Option<usize>>,
    rank: Vec<usize>,
}

impl<'f, 'g> Joiner<'f, 'g> {
    fn new(fused: &'f Fused<'g>, steps: Vec<Step>) -> Result<Self, CompileError> {
        let mut producer = vec![None; fused.graph.nodes.len()];
        for (i, step) in steps.iter().enumerate() {
            step.roots.iter().for_each(|&r| producer[r] = Some(i));
        }
        let order = topological(&steps, &producer)?;
        let mut rank = vec![0; steps.len()];
        order.iter().enumerate().for_each(|(at, &step)| rank[step] = at);
        let mut sets = Sets::new(steps.len());
        let mut before = vec![Set::EMPTY; steps.len()];
        for &i in &order {
            for p in steps[i].reads.iter().filter_map(|&read| producer[read]) {
                let from = match steps[p].kind {
                    StepKind::Product(_) | StepKind::Single => sets.with(before[p], p),
                    _ => before[p],
                };
                before[i] = sets.union(before[i], from);
            }
        }
        let steps = steps.into_iter().map(Some).collect();
        Ok(Self { fused, steps, producer, before, order: order.into_iter().map(Some).collect(), rank })
    }

    fn run(&mut self) {
        let mut done: Vec<usize> = Vec::with_capacity(self.steps.len());
        for later in 0..self.steps.len() {
            // A joined step may join again.
            while let Some((at, step)) = (done.len().saturating_sub(WINDOW)..done.len())
                .rev()
                .find_map(|at| Some((at, self.joined(done[at], later)?)))
            {
                self.replace(done.remove(at), later, step);
            }
            done.push(later);
        }
    }

    fn finish(mut self) -> Vec<Step> {
        self.order.iter().flatten().filter_map(|&i| self.steps[i].take()).collect()
    }

    /// The two steps as one, where that is allowed and good.
    fn joined(&self, earlier: usize, later: usize) -> Option<Step> {
        let (a, b) = (self.steps[earlier].as_ref()?, self.steps[later].as_ref()?);
        if a.kind != b.kind || !matches!(a.kind, StepKind::Pointwise | StepKind::Reduce) {
            return None;
        }
        // Steps that wait for different products stay apart: of real and of fake images, say, a joined step
        // would let one branch wait for the other and keep the tensors of both alive.
        if self.before[earlier] != self.before[later] || !self.same_domain(a, b) {
            return None;
        }
        let fused = self.fused;
        let direct = a.roots.iter().any(|r| b.reads.contains(r));
        let feeds =
            direct && a.kind == StepKind::Pointwise && a.roots.iter().any(|&r| fused.reads_in_place(b, r));
        // A root of `a` that `b` reads otherwise than element by element must be complete before `b` starts.
        if direct && !feeds {
            return None;
        }
        let shares = || a.reads.iter().any(|&r| fused.len(r) > 1 && b.reads.contains(&r));
        if !(feeds || shares()) {
            return None;
        }
        let mut roots = a.roots.clone();
        roots.extend(&b.roots);
        roots.sort_unstable();
        let scope = if is_layer(&b.scope) { b.scope.clone() } else { a.scope.clone() };
        let step = Step { kind: a.kind.clone(), roots, reads: BTreeSet::new(), again: vec![], scope };
        let step = Step { reads: fused.reads(&step), ..step };
        let blocked = step.reads.iter().any(|r| step.roots.contains(r));
        let fits = !blocked && fused.bindings(&step.roots, &step.reads) <= MAX_BINDINGS;
        (fits && !self.between(earlier, later)).then_some(step)
    }

    /// Whether two steps of one kind run over the same elements.
    fn same_domain(&self, a: &Step, b: &Step) -> bool {
        let (ra, rb) = (a.roots[0], b.roots[0]);
        let shape = |id: NodeId| &self.fused.node(id).shape;
        match (&self.fused.node(ra).op, &self.fused.node(rb).op) {
            (
                Op::Sum { axes: p, .. } | Op::Max { axes: p },
                Op::Sum { axes: q, .. } | Op::Max { axes: q },
            ) => p == q && shape(self.fused.inputs[ra][0]) == shape(self.fused.inputs[rb][0]),
            _ => a.kind == StepKind::Pointwise && shape(ra) == shape(rb),
        }
    }

    /// The steps placed between two, first to last.
    fn placed(&self, first: usize, last: usize) -> impl Iterator<Item = usize> {
        self.order[self.rank[first] + 1..self.rank[last]].iter().filter_map(|&step| step)
    }

    fn producers(&self, step: usize) -> impl Iterator<Item = usize> {
        let reads = self.steps[step].iter().flat_map(|step| &step.reads);
        reads.filter_map(|&read| self.producer[read])
    }

    /// The step `first` and those placed before `last` that depend on it.
    fn dependent(&self, first: usize, last: usize) -> BTreeSet<usize> {
        let mut dependent = BTreeSet::from([first]);
        for step in self.placed(first, last) {
            if self.producers(step).any(|p| dependent.contains(&p)) {
                dependent.insert(step);
            }
        }
        dependent
    }

    /// Whether some other step depends on `earlier` and is needed by `later`, or `earlier` depends on
    /// `later`.
    fn between(&self, earlier: usize, later: usize) -> bool {
        if self.rank[later] < self.rank[earlier] {
            let dependent = self.dependent(later, earlier);
            return self.producers(earlier).any(|p| dependent.contains(&p));
        }
        let dependent = self.dependent(earlier, later);
        self.producers(later).any(|p| p != earlier && dependent.contains(&p))
    }

    /// Puts the joined step in the place of its parts: behind what it needs, before what needs it.
    fn replace(&mut self, earlier: usize, later: usize, step: Step) {
        let (first, last) =
            if self.rank[earlier] < self.rank[later] { (earlier, later) } else { (later, earlier) };
        let dependent = self.dependent(first, last);
        let (behind, ahead): (Vec<usize>, Vec<usize>) =
            self.placed(first, last).partition(|step| dependent.contains(step));
        let (start, end) = (self.rank[first], self.rank[last]);
        self.order[start..=end].fill(None);
        for (i, &slot) in ahead.iter().chain([&later]).chain(&behind).enumerate() {
            self.order[start + i] = Some(slot);
            self.rank[slot] = start + i;
        }
        step.roots.iter().for_each(|&r| self.producer[r] = Some(later));
        self.steps[earlier] = None;
        self.steps[later] = Some(step);
    }
}

/// Steps in an order in which each comes after those that compute what it reads.
fn topological(steps: &[Step], producer: &[Option<usize>]) -> Result<Vec<usize>, CompileError> {
    let mut order = Vec::with_capacity(steps.len());
    let mut entered = vec![false; steps.len()];
    let mut done = vec![false; steps.len()];
    for start in 0..steps.len() {
        let mut stack = vec![start];
        while let Some(&step) = stack.last() {
            if done[step] {
                stack.pop();
                continue;
            }
            let again = std::mem::replace(&mut entered[step], true);
            let needed = steps[step].reads.iter().filter_map(|&read| producer[read]);
            let before = stack.len();
            stack.extend(needed.filter(|&p| !done[p]));
            if stack.len() == before {
                done[step] = true;
                order.push(step);
            } else if again {
                let scope = steps[step].scope.to_string();
                return Err(CompileError::Internal { scope, what: "steps wait for each other".to_owned() });
            }
        }
    }
    Ok(order)
}
