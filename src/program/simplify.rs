//! What was recorded, in fewer operations. The tape keeps every operation as it was written, so that every
//! handle can be differentiated; here, where nobody asks for gradients any more, the graph is built again by
//! the rules below: equal nodes become one, constants fold, affine maps merge, functions of repeated values
//! become repeated functions, and what changes nothing goes. A rule stands here only if its result is as near
//! to the exact value as what was written, for all numbers: no rule makes something overflow, vanish or
//! cancel that did not, and `x · 0` stays NaN where x is.

use std::collections::HashMap;
use std::rc::Rc;

use ganomede_kernels::expr::{Binary, Num, Unary};

use crate::tape::{Graph, Node, NodeId, Op};

/// The same outputs and new states from fewer nodes; nodes that neither needs are left out.
pub fn simplify(graph: &Graph) -> Graph {
    let live = live(graph);
    let mut simpler = Simplifier::default();
    let mut becomes = vec![0; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate().filter(|(id, _)| live[*id]) {
        let inputs: Vec<_> = node.inputs.iter().map(|&i| becomes[i]).collect();
        simpler.scope = node.scope.clone();
        becomes[id] = simpler.rebuild(node, inputs);
    }
    Graph {
        nodes: simpler.nodes,
        outputs: graph.outputs.iter().map(|(name, id)| (name.clone(), becomes[*id])).collect(),
        assigns: graph.assigns.iter().map(|(&state, &id)| (state, becomes[id])).collect(),
        states: graph.states.clone(),
    }
}

/// Which nodes an output or a new state needs.
fn live(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    let outputs = graph.outputs.iter().map(|(_, id)| *id);
    let mut stack: Vec<_> = outputs.chain(graph.assigns.values().copied()).collect();
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut live[id], true) {
            stack.extend(&graph.nodes[id].inputs);
        }
    }
    live
}

/// x · scale, the sign of zeros included: x · scale + 0 would lose it.
fn factor(scale: f32) -> Unary {
    Unary::Affine(Num(scale), Num(-0.0))
}

/// The affine map `outer` after `inner` as one, where that is no less exact. The inner one must be a mere
/// factor: what cancels in (x + d) · a is lost in x · a + d · a. Factors that pull the same way overflow, or
/// vanish, together or not at all.
fn merged([a, b]: [f32; 2], [c, d]: [f32; 2]) -> Option<Unary> {
    let (a_size, c_size) = (a.abs(), c.abs());
    let same_way = a_size.min(c_size) >= 1.0 || a_size.max(c_size) <= 1.0;
    let plain = Num(d) == Num(-0.0) && (a * c).is_normal();
    (same_way && plain).then_some(Unary::Affine(Num(a * c), Num(b)))
}

#[derive(Default)]
struct Simplifier {
    nodes: Vec<Node>,
    seen: HashMap<(Op, Vec<NodeId>, Vec<usize>), NodeId>,
    /// Layer of the node that is rebuilt.
    scope: Rc<str>,
}

impl Simplifier {
    /// Appends a node, or finds the equal one.
    fn node(&mut self, op: Op, inputs: Vec<NodeId>, shape: Vec<usize>) -> NodeId {
        let key = (op, inputs, shape);
        if let Some(&id) = self.seen.get(&key) {
            return id;
        }
        let (op, inputs, shape) = key.clone();
        self.nodes.push(Node { op, inputs, shape, scope: self.scope.clone() });
        self.seen.insert(key, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn op(&self, id: NodeId) -> &Op {
        &self.nodes[id].op
    }

    fn shape(&self, id: NodeId) -> Vec<usize> {
        self.nodes[id].shape.clone()
    }

    fn input(&self, id: NodeId) -> NodeId {
        self.nodes[id].inputs[0]
    }

    fn rebuild(&mut self, node: &Node, inputs: Vec<NodeId>) -> NodeId {
        match (&node.op, &inputs[..]) {
            (Op::Unary(op), &[x]) => self.unary(*op, x),
            (Op::Binary(op), &[a, b]) => self.binary(*op, a, b),
            (Op::Select, &[condition, a, b]) => self.select(condition, a, b),
            (Op::Broadcast, &[x]) => self.broadcast(x, &node.shape),
            (Op::Reshape, &[x]) => self.reshape(x, &node.shape),
            (Op::Sum { axes, scale }, &[x]) => self.sum(x, axes, *scale),
            (Op::Variance { axes }, &[x]) => self.variance(x, axes),
            (Op::Permute(order), &[x]) if order.is_sorted() => x,
            (Op::Slice { .. } | Op::Embed { .. }, &[x]) if self.shape(x) == node.shape => x,
            (Op::Max { axes }, &[x]) if axes.is_empty() => x,
            (Op::StopGradient | Op::Concat(_), &[x]) => x,
            _ => self.node(node.op.clone(), inputs, node.shape.clone()),
        }
    }

    fn constant(&self, id: NodeId) -> Option<f32> {
        match self.op(id) {
            Op::Const(c) => Some(c.0),
            Op::Broadcast => self.constant(self.input(id)),
            _ => None,
        }
    }

    fn full(&mut self, value: f64, shape: &[usize]) -> NodeId {
        let value = self.node(Op::Const(Num(value as f32)), vec![], vec![]);
        self.broadcast(value, shape)
    }

    fn unary(&mut self, op: Unary, x: NodeId) -> NodeId {
        match (op, self.op(x)) {
            (Unary::Neg, _) => return self.unary(factor(-1.0), x),
            _ if op == factor(1.0) => return x,
            (Unary::Affine(a, b), &Op::Unary(Unary::Affine(c, d))) => {
                if let Some(op) = merged([a.0, b.0], [c.0, d.0]) {
                    return self.unary(op, self.input(x));
                }
            }
            (_, &Op::Const(c)) => return self.full(op.eval(f64::from(c.0)), &[]),
            // A function of a repeated value is the repeated function of the value.
            (_, Op::Broadcast) => {
                let value = self.unary(op, self.input(x));
                return self.broadcast(value, &self.shape(x));
            }
            _ => {}
        }
        self.node(Op::Unary(op), vec![x], self.shape(x))
    }

    fn binary(&mut self, op: Binary, a: NodeId, b: NodeId) -> NodeId {
        let affine = |scale, shift| Unary::Affine(Num(scale), Num(shift));
        let (of, unary) = match (op, self.constant(a), self.constant(b)) {
            (_, Some(p), Some(q)) => return self.full(op.eval(f64::from(p), f64::from(q)), &self.shape(a)),
            (Binary::Add, _, Some(c)) => (a, affine(1.0, c)),
            (Binary::Add, Some(c), _) => (b, affine(1.0, c)),
            (Binary::Sub, _, Some(c)) => (a, affine(1.0, -c)),
            (Binary::Sub, Some(c), _) => (b, affine(-1.0, c)),
            (Binary::Mul, _, Some(c)) => (a, factor(c)),
            (Binary::Mul, Some(c), _) => (b, factor(c)),
            (Binary::Div, Some(1.0), _) => (b, Unary::Recip),
            _ => return self.node(Op::Binary(op), vec![a, b], self.shape(a)),
        };
        self.unary(unary, of)
    }

    fn select(&mut self, condition: NodeId, a: NodeId, b: NodeId) -> NodeId {
        match self.constant(condition) {
            Some(0.0) => b,
            Some(_) => a,
            None if a == b => a,
            None => self.node(Op::Select, vec![condition, a, b], self.shape(a)),
        }
    }

    /// Operands have the rank of what they are repeated to, or none at all.
    fn broadcast(&mut self, x: NodeId, shape: &[usize]) -> NodeId {
        let from = self.shape(x);
        if from == shape {
            return x;
        }
        if let Op::Broadcast = self.op(x) {
            return self.broadcast(self.input(x), shape);
        }
        if from.len() < shape.len() && !matches!(self.op(x), Op::Const(_)) {
            let aligned = [vec![1; shape.len() - from.len()], from].concat();
            let x = self.reshape(x, &aligned);
            return self.broadcast(x, shape);
        }
        self.node(Op::Broadcast, vec![x], shape.to_vec())
    }

    fn reshape(&mut self, x: NodeId, shape: &[usize]) -> NodeId {
        if self.nodes[x].shape == shape {
            return x;
        }
        if let Some(value) = self.constant(x) {
            return self.full(f64::from(value), shape);
        }
        match self.op(x) {
            Op::Reshape => self.reshape(self.input(x), shape),
            _ => self.node(Op::Reshape, vec![x], shape.to_vec()),
        }
    }

    fn sum(&mut self, x: NodeId, axes: &[usize], scale: Num) -> NodeId {
        if axes.is_empty() {
            return self.unary(factor(scale.0), x);
        }
        let mut shape = self.shape(x);
        axes.iter().for_each(|&axis| shape[axis] = 1);
        // The sum of a repeated value is a multiple of it.
        if matches!(self.op(x), Op::Broadcast) && self.repeats(x, axes) {
            let count = axes.iter().map(|&axis| self.nodes[x].shape[axis]).product::<usize>() as f32;
            let times = if scale.0 == 1.0 / count { 1.0 } else { count * scale.0 };
            let value = self.unary(factor(times), self.input(x));
            return self.broadcast(value, &shape);
        }
        // A constant factor leaves the sum: other sums of the same tensor may then be one. It leaves only if
        // the sum without it does not overflow sooner. Factors that are tensors stay: what norms subtract
        // cancels only if the very same rounded products are summed.
        let (mut x, mut factors) = (x, vec![]);
        while let Op::Unary(op @ Unary::Affine(by, _)) = *self.op(x)
            && op == factor(by.0)
            && by.0.is_finite()
            && by.0.abs() >= 1.0
        {
            factors.push(op);
            x = self.input(x);
        }
        let sum = self.node(Op::Sum { axes: axes.to_vec(), scale }, vec![x], shape);
        factors.into_iter().rev().fold(sum, |sum, op| self.unary(op, sum))
    }

    /// Whether a broadcast repeats along all these axes.
    fn repeats(&self, id: NodeId, axes: &[usize]) -> bool {
        let from = &self.nodes[self.input(id)].shape;
        from.is_empty() || axes.iter().all(|&axis| from[axis] == 1)
    }

    /// The kernel views the tensor as [outer, kept, inner]: kept dimensions must be neighbours.
    fn variance(&mut self, x: NodeId, axes: &[usize]) -> NodeId {
        let full = self.shape(x);
        if axes.is_empty() {
            return self.binary(Binary::Sub, x, x);
        }
        let reduced = |d: usize| axes.contains(&d);
        let mut shape = full.clone();
        axes.iter().for_each(|&axis| shape[axis] = 1);
        let kept: Vec<_> = (0..full.len()).filter(|&d| full[d] != 1 && !reduced(d)).collect();
        if kept.windows(2).all(|w| (w[0] + 1..w[1]).all(|d| full[d] == 1)) {
            return self.node(Op::Variance { axes: axes.to_vec() }, vec![x], shape);
        }
        let order: Vec<_> = (0..full.len()).filter(|&d| !reduced(d)).chain(axes.iter().copied()).collect();
        let turned: Vec<_> = order.iter().map(|&d| full[d]).collect();
        let x = self.node(Op::Permute(order), vec![x], turned.clone());
        let last = full.len() - axes.len();
        let flat: Vec<_> = (0..full.len()).map(|d| if d < last { turned[d] } else { 1 }).collect();
        let variance = self.node(Op::Variance { axes: (last..full.len()).collect() }, vec![x], flat);
        self.reshape(variance, &shape)
    }
}
