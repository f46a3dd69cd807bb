//! Steps: what one launch computes. Element-wise nodes that are not stored go into those who read them,
//! reductions take them as prologues, convolutions and matrix products as epilogues.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::Effort;
use super::fuse::Fused;
use crate::tape::{NodeId, Op};

/// What a step computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepKind {
    /// Element-wise expressions over the shape of the roots.
    Pointwise,
    /// Reductions of expressions over one shape and set of axes.
    Reduce,
    /// Mean and variance of one tensor; roots are the mean (if anyone reads it) and the variance.
    Moments {
        /// The `Sum` node that is this mean.
        mean: Option<NodeId>,
    },
    /// A convolution or matrix product, the node given, with the root's expression as epilogue.
    Product(NodeId),
    /// Any other single node.
    Single,
}

/// A future launch.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) kind: StepKind,
    /// Stored nodes that this step computes, ascending.
    pub(super) roots: Vec<NodeId>,
    /// Stored nodes read, ascending, as storage (see [`Fused::storage`]).
    pub(super) reads: BTreeSet<NodeId>,
    /// Stored nodes that this step computes again rather than reads.
    pub(super) again: Vec<NodeId>,
    pub(super) scope: Rc<str>,
}

/// Bindings of one launch; WebGPU's default limit.
pub(super) const MAX_BINDINGS: usize = 8;

/// Whether a scope names a layer; what is written outside any has none, its gradient only the mark.
pub(super) fn is_layer(scope: &str) -> bool {
    !matches!(scope, "" | "∇")
}

impl Fused<'_> {
    /// A step for each stored node, or for the mean and the variance of one tensor.
    pub(super) fn make_steps(&mut self, live: &[bool]) {
        let count = self.graph.nodes.len();
        let mut uses = vec![0_u32; count];
        for id in (0..count).filter(|&id| live[id]) {
            self.inputs[id].iter().for_each(|&i| uses[i] += 1);
        }
        (0..count).filter(|&id| self.demanded[id]).for_each(|id| uses[id] += 1);
        let mut absorbed = vec![false; count];
        let mut steps = vec![];
        // Consumers first, so that an epilogue claims its product before the product makes a step of its own.
        for id in (0..count).rev().filter(|&id| live[id] && self.stored[id]) {
            if absorbed[id] {
                continue;
            }
            let kind = match &self.node(id).op {
                Op::Input(_) | Op::State(_) => continue,
                _ if self.is_pointwise(id) => match self.product_of(id, &uses) {
                    Some(product) => {
                        absorbed[product] = true;
                        StepKind::Product(product)
                    }
                    None => StepKind::Pointwise,
                },
                Op::Sum { .. } if self.partner.contains_key(&id) => continue,
                Op::Sum { .. } | Op::Max { .. } => StepKind::Reduce,
                Op::Variance { .. } => StepKind::Moments { mean: self.partner.get(&id).copied() },
                _ if self.is_product(id) => StepKind::Product(id),
                _ => StepKind::Single,
            };
            let mut roots = vec![id];
            if let StepKind::Moments { mean: Some(mean) } = kind {
                roots.push(mean);
                roots.sort_unstable();
            }
            let scope = self.layer(&kind, id);
            steps.push(Step { kind, roots, reads: BTreeSet::new(), again: vec![], scope });
        }
        steps.reverse();
        self.steps = steps;
        for i in 0..self.steps.len() {
            self.steps[i].reads = self.reads(&self.steps[i]);
        }
    }

    /// Stored nodes that a step reads.
    pub(super) fn reads(&self, step: &Step) -> BTreeSet<NodeId> {
        let mut reads = BTreeSet::new();
        let mut stack: Vec<NodeId> =
            step.roots.iter().flat_map(|&r| self.inputs[r].iter().copied()).collect();
        while let Some(id) = stack.pop() {
            if step.roots.contains(&id) {
                continue;
            }
            let computed = !self.stored[id] || step.again.contains(&id);
            if step.kind == StepKind::Product(id) || (self.is_pointwise(id) && computed) {
                stack.extend(self.inputs[id]);
            } else {
                reads.insert(self.storage(id));
            }
        }
        reads
    }

    /// The product whose epilogue `root` can be: same shape, read by this expression alone, and every other
    /// operand full, per channel or scalar.
    fn product_of(&self, root: NodeId, uses: &[u32]) -> Option<NodeId> {
        let shape = &self.node(root).shape;
        let mut candidates = BTreeSet::new();
        let mut stack = vec![root];
        let mut inside = BTreeSet::from([root]);
        let mut leaves = BTreeSet::new();
        while let Some(id) = stack.pop() {
            for &input in self.inputs[id] {
                let broadcast = matches!(self.node(id).op, Op::Broadcast);
                if self.is_pointwise(input) && !self.stored[input] {
                    if inside.insert(input) {
                        stack.push(input);
                    }
                    continue;
                }
                if !broadcast && self.is_product(input) {
                    candidates.insert(input);
                }
                if broadcast && !self.spreads(&self.node(input).shape, shape) {
                    return None;
                }
                leaves.insert(input);
            }
        }
        let inner_uses = |product: NodeId| {
            let readers = inside.iter().flat_map(|&i| self.inputs[i].iter());
            readers.filter(|&&i| i == product).count() as u32
        };
        // Whatever reads the product on the way to the root must be evaluated here alone: nobody else finds
        // it stored.
        let alone = |product: NodeId| {
            let mut reading = BTreeSet::from([product]);
            for &id in &inside {
                if self.inputs[id].iter().any(|i| reading.contains(i)) {
                    reading.insert(id);
                }
            }
            reading.iter().all(|&id| id == root || uses[id] == inner_uses(id))
        };
        let product = candidates.into_iter().rev().find(|&p| alone(p))?;
        (leaves.len() - 1 <= ganomede_kernels::conv::Epilogue::MAX_OPERANDS).then_some(product)
    }

    /// Whether a tensor of shape `from` repeats over `to` per channel (conv: dimension 1, product: the last),
    /// or as one value.
    fn spreads(&self, from: &[usize], to: &[usize]) -> bool {
        let channel = if to.len() == 4 { 1 } else { to.len().saturating_sub(1) };
        from.iter().product::<usize>() == 1
            || (from.len() == to.len()
                && (0..to.len()).all(|d| if d == channel { from[d] == to[d] } else { from[d] == 1 }))
    }

    /// Bindings that a step with these roots and reads would need; where it counts on that, states that are
    /// updated in place share theirs.
    pub(super) fn bindings(&self, roots: &[NodeId], reads: &BTreeSet<NodeId>) -> usize {
        let updates = |root: &NodeId| {
            self.replaces.get(root).is_some_and(|old| old.iter().any(|state| reads.contains(state)))
        };
        let in_place = self.effort == Effort::InPlace;
        reads.len() + roots.len() - roots.iter().filter(|root| in_place && updates(root)).count()
    }

    /// The layer that a step is known by: its product's, else that of the node nearest to its root that has a
    /// name.
    fn layer(&self, kind: &StepKind, root: NodeId) -> Rc<str> {
        let first = if let StepKind::Product(product) = kind { *product } else { root };
        let (mut queue, mut seen) = (VecDeque::from([first]), BTreeSet::new());
        while let Some(id) = queue.pop_front() {
            if is_layer(&self.node(id).scope) {
                return self.node(id).scope.clone();
            }
            queue.extend(self.inputs[id].iter().filter(|&&input| !self.stored[input] && seen.insert(input)));
        }
        self.node(root).scope.clone()
    }
}
