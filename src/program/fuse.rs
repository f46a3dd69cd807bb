//! What is stored: dead code goes, and each node that is left either has a buffer or is computed again by
//! those who read it.
//!
//! Vocabulary. A node is *stored* when its value lives in a buffer; element-wise nodes that are not stored
//! are recomputed inside every step that reads them. A *root* of a step is a stored node that the step
//! computes.
//!
//! # Example
//!
//! A softmax over rows, without the maximum that a real one subtracts first, is a tape of five nodes
//! (operation, inputs, shape, what becomes of it):
//!
//! ```text
//! 0  Input("x")                          []      [8, 64]  stored
//! 1  Unary(Exp)                          [0]     [8, 64]  recomputed
//! 2  Sum { axes: [1], scale: Num(1.0) }  [1]     [8, 1]   stored
//! 3  Broadcast                           [2]     [8, 64]  recomputed
//! 4  Binary(Div)                         [1, 3]  [8, 64]  stored
//! ```
//!
//! The sum and the quotient both read the exponential. To compute it again takes 8 instructions and one read,
//! no more than to write it and to read it back, so it has no buffer. A broadcast is an index and never
//! stored. What has a buffer is the input, the output, and the sum, which no element-wise step can compute:
//!
//! ```text
//! Reduce     reads {0}, stores [2]
//! Pointwise  reads {0, 2}, stores [4]
//! ```
//!
//! Two launches: one sums exp(x) as it goes, the other computes exp(x) / sum.

use std::collections::{BTreeSet, HashMap};

use ganomede_kernels::expr::{Binary, Unary};

use super::steps::Step;
use super::{CompileError, Effort};
use crate::tape::{Graph, Node, NodeId, Op};

/// The graph with every node's fate decided.
pub(super) struct Fused<'g> {
    pub(super) graph: &'g Graph,
    /// Inputs of each node.
    pub(super) inputs: Vec<&'g [NodeId]>,
    /// The node whose buffer holds each node's value: reshapes own none.
    storage: Vec<NodeId>,
    pub(super) stored: Vec<bool>,
    /// Whether an output or a state takes the value.
    pub(super) demanded: Vec<bool>,
    /// Of a variance the mean of the same tensor, and of that mean the variance: one pass computes both.
    pub(super) partner: HashMap<NodeId, NodeId>,
    /// The states' old values that a value replaces.
    pub(super) replaces: HashMap<NodeId, Vec<NodeId>>,
    /// Whether joined steps may count on updating states in place.
    pub(super) effort: Effort,
    pub(super) steps: Vec<Step>,
}

/// Distinct tensors an expression may read before its parts are stored: one binding stays for the output.
pub(super) const MAX_LEAVES: usize = 7;
/// Instructions of one expression.
const MAX_WEIGHT: u32 = 96;

/// The stored steps that would evaluate a node, if it were not stored itself: as many as matter.
#[derive(Clone, Copy, PartialEq)]
enum Sinks {
    None,
    One(NodeId),
    Many,
}

impl Sinks {
    fn and(self, other: Sinks) -> Sinks {
        match (self, other) {
            (Sinks::None, sinks) | (sinks, Sinks::None) => sinks,
            (one, other) if one == other => one,
            _ => Sinks::Many,
        }
    }
}

impl<'g> Fused<'g> {
    /// Decides what is stored of a simplified graph, and makes steps of the rest.
    pub(super) fn new(graph: &'g Graph, effort: Effort) -> Result<Self, CompileError> {
        let inputs = graph.nodes.iter().map(|node| node.inputs.as_slice()).collect();
        let mut demanded = vec![false; graph.nodes.len()];
        let outputs = graph.outputs.iter().map(|(_, id)| *id);
        outputs.chain(graph.assigns.values().copied()).for_each(|id| demanded[id] = true);
        let mut fused = Fused {
            graph,
            replaces: replaces(graph),
            inputs,
            storage: storage(graph),
            stored: vec![false; graph.nodes.len()],
            demanded,
            partner: HashMap::new(),
            effort,
            steps: vec![],
        };
        let live = fused.live();
        fused.pair_moments(&live);
        let consumers = fused.consumers(&live);
        fused.decide(&live, &consumers);
        fused.limit_leaves(&live, &consumers);
        fused.make_steps(&live);
        fused.join()?;
        if effort != Effort::Apart {
            fused.recompute();
        }
        Ok(fused)
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.graph.nodes[id]
    }

    pub(super) fn storage(&self, id: NodeId) -> NodeId {
        self.storage[id]
    }

    pub(super) fn len(&self, id: NodeId) -> usize {
        self.node(id).shape.iter().product()
    }

    fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.graph.nodes.len()];
        let mut stack: Vec<NodeId> = (0..live.len()).filter(|&id| self.demanded[id]).collect();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut live[id], true) {
                stack.extend(self.inputs[id]);
            }
        }
        live
    }

    /// Gives each variance at most one mean of the same tensor over the same axes, and each mean at most one
    /// variance.
    fn pair_moments(&mut self, live: &[bool]) {
        let mut alone: HashMap<(NodeId, &[usize]), NodeId> = HashMap::new();
        let nodes = || (0..live.len()).filter(|&id| live[id]).map(|id| (id, &self.graph.nodes[id].op));
        for (id, op) in nodes() {
            if let Op::Variance { axes } = op {
                alone.entry((self.inputs[id][0], axes)).or_insert(id);
            }
        }
        let mut partner = HashMap::new();
        for (id, op) in nodes() {
            let Op::Sum { axes, scale } = op else { continue };
            let x = self.inputs[id][0];
            let mean = scale.0 == 1.0 / (self.len(x) / self.len(id).max(1)) as f32;
            if let (true, Some(variance)) = (mean, alone.remove(&(x, axes))) {
                partner.extend([(id, variance), (variance, id)]);
            }
        }
        self.partner = partner;
    }

    /// Who reads each node, ascending and once each.
    fn consumers(&self, live: &[bool]) -> Vec<Vec<NodeId>> {
        let mut consumers: Vec<Vec<NodeId>> = vec![vec![]; live.len()];
        for id in (0..live.len()).filter(|&id| live[id]) {
            for &input in self.inputs[id] {
                if consumers[input].last() != Some(&id) {
                    consumers[input].push(id);
                }
            }
        }
        consumers
    }

    pub(super) fn is_pointwise(&self, id: NodeId) -> bool {
        instructions(&self.node(id).op).is_some() || matches!(self.node(id).op, Op::Broadcast | Op::Const(_))
    }

    pub(super) fn is_product(&self, id: NodeId) -> bool {
        match self.node(id).op {
            Op::Conv(face, _) => face != ganomede_kernels::conv::Face::Weight,
            Op::MatMul { .. } => true,
            _ => false,
        }
    }

    fn is_max(&self, id: NodeId) -> bool {
        matches!(self.node(id).op, Op::Max { .. })
    }

    /// Whether `consumer` can evaluate `id` as part of its own expression.
    fn fuses(&self, id: NodeId, consumer: NodeId) -> bool {
        match self.node(consumer).op {
            Op::Unary(_) | Op::Binary(_) | Op::Select => true,
            Op::Sum { .. } | Op::Max { .. } => self.is_pointwise(id) && !self.partner.contains_key(&consumer),
            Op::Broadcast => matches!(self.node(id).op, Op::Const(_)),
            _ => false,
        }
    }

    /// Decides what is stored, consumers first.
    fn decide(&mut self, live: &[bool], consumers: &[Vec<NodeId>]) {
        let count = self.graph.nodes.len();
        let (weight, leaves, tail) = self.local_costs(consumers);
        let mut sinks = vec![Sinks::None; count];
        for id in (0..count).rev().filter(|&id| live[id]) {
            // A gradient looks for the elements that equal their maximum: all must read the same bits, stored
            // ones.
            let compared = consumers[id].len() > 1 && consumers[id].iter().any(|&c| self.is_max(c));
            let foldable =
                !self.demanded[id] && !compared && consumers[id].iter().all(|&c| self.fuses(id, c));
            if foldable {
                for &c in &consumers[id] {
                    let ends = self.stored[c] || !self.is_pointwise(c);
                    sinks[id] = sinks[id].and(if ends { Sinks::One(c) } else { sinks[c] });
                }
            }
            // Recompute what is cheaper to recompute than to write and read back; but the tail of a product
            // is stored, since it costs nothing there as an epilogue.
            let cheap = weight[id] <= 8 && leaves[id] <= 2 && !tail[id];
            let apart = self.effort == Effort::Apart;
            let free = matches!(self.node(id).op, Op::Const(_))
                || (!apart && matches!(self.node(id).op, Op::Broadcast));
            let shared = sinks[id] == Sinks::Many && !cheap || apart;
            self.stored[id] = !self.is_pointwise(id) || !foldable || (shared && !free);
        }
        // Reshapes own no buffer, and what they view must have one; `fuses` said so already.
        for (node, stored) in self.graph.nodes.iter().zip(&mut self.stored) {
            *stored &= node.op != Op::Reshape;
        }
    }

    /// For each node, without knowing yet what is stored: instructions to recompute it, full-size tensors it
    /// reads, and whether it ends a chain that starts at a convolution or matrix product read by nobody else.
    fn local_costs(&self, consumers: &[Vec<NodeId>]) -> (Vec<u32>, Vec<u32>, Vec<bool>) {
        let count = self.graph.nodes.len();
        let (mut weight, mut leaves, mut tail) = (vec![0_u32; count], vec![0_u32; count], vec![false; count]);
        for id in 0..count {
            let Some(own) = instructions(&self.node(id).op) else { continue };
            weight[id] = own;
            for &input in self.inputs[id] {
                let alone = consumers[input].len() == 1;
                match self.node(input).op {
                    Op::Unary(_) | Op::Binary(_) | Op::Select if alone => {
                        weight[id] = weight[id].saturating_add(weight[input]);
                        leaves[id] = leaves[id].saturating_add(leaves[input]);
                        tail[id] |= tail[input];
                    }
                    Op::Const(_) | Op::Broadcast => {}
                    _ => {
                        leaves[id] = leaves[id].saturating_add(1);
                        tail[id] |= alone && self.is_product(input);
                    }
                }
            }
        }
        (weight, leaves, tail)
    }

    /// Stores parts of expressions that read too many tensors or grow too long. Where a part is stored,
    /// whatever reads it is looked at again, until every expression fits.
    fn limit_leaves(&mut self, live: &[bool], consumers: &[Vec<NodeId>]) {
        let count = self.graph.nodes.len();
        let mut known: Vec<(BTreeSet<NodeId>, u32)> = vec![Default::default(); count];
        let mut open: BTreeSet<NodeId> = (0..count).filter(|&id| live[id] && self.is_pointwise(id)).collect();
        while let Some(id) = open.pop_first() {
            let (mut leaves, mut weight) = (BTreeSet::new(), 1);
            for &input in self.inputs[id] {
                if self.is_pointwise(input) && !self.stored[input] {
                    leaves.extend(known[input].0.iter().copied());
                    weight += known[input].1;
                } else {
                    leaves.insert(self.storage(input));
                }
            }
            let parts = self.inputs[id].iter().copied().filter(|&i| {
                let free = matches!(self.node(i).op, Op::Const(_) | Op::Broadcast);
                self.is_pointwise(i) && !self.stored[i] && !free
            });
            let heaviest = parts.max_by_key(|&i| (known[i].0.len(), known[i].1));
            let readers = |of: NodeId| consumers[of].iter().copied().filter(|&c| self.is_pointwise(c));
            match heaviest {
                Some(part) if leaves.len() > MAX_LEAVES || weight > MAX_WEIGHT => {
                    open.extend(readers(part));
                    self.stored[part] = true;
                }
                _ if known[id] == (leaves.clone(), weight) => {}
                _ => {
                    if !self.stored[id] {
                        open.extend(readers(id));
                    }
                    known[id] = (leaves, weight);
                }
            }
        }
    }
}

/// Instructions that an operation of expressions counts for; `None` for others.
pub(super) fn instructions(op: &Op) -> Option<u32> {
    use Unary::{Exp, Log, Recip, Sigmoid, Softplus, Sqrt, Tanh};
    match op {
        Op::Unary(Exp | Log | Tanh | Sigmoid | Softplus | Sqrt | Recip)
        | Op::Binary(Binary::Div | Binary::Pow) => Some(8),
        Op::Unary(_) | Op::Binary(_) | Op::Select => Some(1),
        _ => None,
    }
}

/// The node whose buffer holds each node's value.
fn storage(graph: &Graph) -> Vec<NodeId> {
    let mut storage: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        storage.push(if node.op == Op::Reshape { storage[node.inputs[0]] } else { id });
    }
    storage
}

/// The old values, as nodes, of the states that each value becomes.
fn replaces(graph: &Graph) -> HashMap<NodeId, Vec<NodeId>> {
    let mut old = HashMap::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        if let Op::State(state) = node.op {
            old.entry(state).or_insert(id);
        }
    }
    let mut replaces: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
    for (state, &value) in &graph.assigns {
        if let Some(&old) = old.get(state) {
            replaces.entry(value).or_default().push(old);
        }
    }
    replaces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::Tape;

    /// The example of the module's documentation, in its words.
    #[test]
    fn the_example_is_what_becomes_of_its_tape() {
        let tape = Tape::new();
        let x = tape.input("x", &[8, 64]);
        let e = x.exp();
        tape.output("y", e / e.sum(&[1]).broadcast_to(&[8, 64]));
        let graph = tape.finish().unwrap();
        let fused = Fused::new(&graph, Effort::InPlace).unwrap();

        let mut nodes = String::new();
        for (id, node) in graph.nodes.iter().enumerate() {
            let fate = if fused.stored[id] { "stored" } else { "recomputed" };
            let columns =
                [format!("{:?}", node.op), format!("{:?}", node.inputs), format!("{:?}", node.shape)];
            nodes += &format!("{id}  {:<35} {:<7} {:<8} {fate}\n", columns[0], columns[1], columns[2]);
        }
        let mut steps = String::new();
        for step in &fused.steps {
            let kind = format!("{:?}", step.kind);
            steps += &format!("{kind:<10} reads {:?}, stores {:?}\n", step.reads, step.roots);
        }
        let text = include_str!("fuse.rs").replace("//! ", "");
        for block in [nodes, steps] {
            assert!(
                text.contains(&format!("```text\n{block}```\n")),
                "the documentation should have\n{block}"
            );
        }
    }
}
