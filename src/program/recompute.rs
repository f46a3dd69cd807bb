//! Stored tensors that a step computes again instead of reading them.

use super::fuse::{Fused, MAX_LEAVES, instructions};
use super::steps::{MAX_BINDINGS, Step, StepKind};
use crate::tape::{NodeId, Op};

/// Most instructions to compute a value again; what costs more than reading is never done.
const MOST: u32 = 6;
/// Tensors this many times smaller than a value do not count as read for it.
const SMALL: usize = 16;

impl Fused<'_> {
    /// Lets element-wise and reduction steps compute again what takes a few operations on tensors that they
    /// read anyway: the gradient of an activation after a norm, say, finds its mask in what the norm read.
    pub(super) fn recompute(&mut self) {
        // A value that nobody reads any more would be stored for nothing.
        let mut kept = self.demanded.clone();
        let expressions = |step: &Step| matches!(step.kind, StepKind::Pointwise | StepKind::Reduce);
        for step in self.steps.iter().filter(|step| !expressions(step)) {
            step.reads.iter().for_each(|&read| kept[read] = true);
        }
        for i in 0..self.steps.len() {
            if !expressions(&self.steps[i]) {
                continue;
            }
            for id in self.steps[i].reads.clone() {
                if kept[id]
                    && let Some(step) = self.without(&self.steps[i], id)
                {
                    self.steps[i] = step;
                }
            }
        }
    }

    /// The step without reading `id`, if that is allowed and better.
    fn without(&self, old: &Step, id: NodeId) -> Option<Step> {
        let domain = if old.kind == StepKind::Reduce { self.inputs[old.roots[0]][0] } else { old.roots[0] };
        if self.node(id).shape != self.node(domain).shape || self.cost_again(id)? > MOST {
            return None;
        }
        let mut step = old.clone();
        step.again.push(id);
        step.reads = self.reads(&step);
        let free = |r: NodeId| old.reads.contains(&r) || self.len(r) * SMALL <= self.len(id);
        let fits = step.reads.len() <= MAX_LEAVES && self.bindings(&step.roots, &step.reads) <= MAX_BINDINGS;
        (fits && !step.reads.contains(&id) && step.reads.iter().all(|&r| free(r))).then_some(step)
    }

    /// Instructions from stored values to this one; `None` where it is no expression.
    fn cost_again(&self, id: NodeId) -> Option<u32> {
        if matches!(self.node(id).op, Op::Const(_) | Op::Broadcast) {
            return Some(0);
        }
        let own = instructions(&self.node(id).op)?;
        let inner = self.inputs[id].iter().filter(|&&input| !self.stored[input]);
        Some(own + inner.filter_map(|&input| self.cost_again(input)).sum::<u32>())
    }
}
