//! From graph to steps: dead code goes, element-wise nodes are grouped into fused expressions, reductions take them
//! as prologues, convolutions and matrix products as epilogues. A step becomes one launch.
//!
//! Vocabulary. A node is *stored* when its value lives in a buffer; element-wise nodes that are not stored are
//! recomputed inside every step that reads them. A *root* of a step is a stored node that the step computes.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use ganomede_kernels::expr::{Binary, Unary};

use crate::tape::{Graph, Node, NodeId, Op};

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

/// The graph with every node's fate decided.
pub(super) struct Fused<'g> {
    pub(super) graph: &'g Graph,
    /// Inputs of each node with `StopGradient` looked through.
    pub(super) inputs: Vec<Vec<NodeId>>,
    pub(super) stored: Vec<bool>,
    pub(super) steps: Vec<Step>,
}

/// Bindings of one launch; WebGPU's default limit.
pub(super) const MAX_BINDINGS: usize = 8;
/// Distinct tensors an expression may read before its parts are stored: one binding stays for the output.
pub(super) const MAX_LEAVES: usize = 7;
/// Instructions of one expression.
const MAX_WEIGHT: u32 = 96;

/// Whether a scope names a layer; what is written outside any has none, its gradient only the mark.
fn is_layer(scope: &str) -> bool {
    !matches!(scope, "" | "∇")
}

impl<'g> Fused<'g> {
    /// Decides what is stored and groups the rest. `merge` allows several roots in a step.
    pub(super) fn new(graph: &'g Graph, merge: bool) -> Self {
        let inputs: Vec<Vec<NodeId>> = graph
            .nodes
            .iter()
            .map(|node| node.inputs.iter().map(|&i| look_through(graph, i)).collect())
            .collect();
        let mut fused = Fused { graph, inputs, stored: vec![false; graph.nodes.len()], steps: vec![] };
        let live = fused.live();
        fused.decide(&live);
        fused.limit_leaves(&live);
        fused.make_steps(&live);
        if merge {
            fused.merge_steps();
        }
        fused.recompute();
        fused
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.graph.nodes[id]
    }

    /// The node whose buffer holds this value: reshapes own none.
    pub(super) fn storage(&self, id: NodeId) -> NodeId {
        let id = look_through(self.graph, id);
        match self.node(id).op {
            Op::Reshape => self.storage(self.inputs[id][0]),
            _ => id,
        }
    }

    /// Roots of the program: outputs and new states, looked through.
    pub(super) fn demanded(&self) -> Vec<NodeId> {
        let outputs = self.graph.outputs.iter().map(|(_, id)| *id);
        outputs.chain(self.graph.assigns.values().copied()).map(|id| look_through(self.graph, id)).collect()
    }

    fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.graph.nodes.len()];
        let mut stack = self.demanded();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut live[id], true) {
                stack.extend(&self.inputs[id]);
            }
        }
        live
    }

    fn is_pointwise(&self, id: NodeId) -> bool {
        matches!(self.node(id).op, Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Broadcast | Op::Const(_))
    }

    fn is_product(&self, id: NodeId) -> bool {
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
            Op::Sum { .. } | Op::Max { .. } => self.is_pointwise(id) && !self.is_mean_of_moments(consumer),
            Op::Broadcast => matches!(self.node(id).op, Op::Const(_)),
            _ => false,
        }
    }

    /// Whether this sum is the mean of a tensor whose variance over the same axes is wanted too.
    fn is_mean_of_moments(&self, id: NodeId) -> bool {
        self.variance_beside(id).is_some()
    }

    fn variance_beside(&self, id: NodeId) -> Option<NodeId> {
        let Op::Sum { axes, scale } = &self.node(id).op else { return None };
        let x = self.inputs[id][0];
        let count = self.len(x) / self.len(id);
        if scale.0 != 1.0 / count as f32 {
            return None;
        }
        (0..self.graph.nodes.len()).find(|&v| {
            self.inputs[v].first() == Some(&x)
                && matches!(&self.node(v).op, Op::Variance { axes: other } if other == axes)
        })
    }

    pub(super) fn len(&self, id: NodeId) -> usize {
        self.node(id).shape.iter().product()
    }

    /// Decides what is stored, consumers first.
    fn decide(&mut self, live: &[bool]) {
        let count = self.graph.nodes.len();
        let mut consumers = vec![vec![]; count];
        for id in (0..count).filter(|&id| live[id]) {
            for &input in &self.inputs[id] {
                if !consumers[input].contains(&id) {
                    consumers[input].push(id);
                }
            }
        }
        let mut demanded = vec![false; count];
        self.demanded().into_iter().for_each(|id| demanded[id] = true);
        let (weight, leaves, tail) = self.local_costs(&consumers);

        // The stored steps that would evaluate each node, if it were not stored itself.
        let mut sinks: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new(); count];
        for id in (0..count).rev().filter(|&id| live[id]) {
            // A gradient looks for the elements that equal their maximum: all must read the same bits, stored ones.
            let compared = consumers[id].len() > 1 && consumers[id].iter().any(|&c| self.is_max(c));
            let foldable = !demanded[id] && !compared && consumers[id].iter().all(|&c| self.fuses(id, c));
            if foldable {
                for &c in &consumers[id] {
                    if self.stored[c] || !self.is_pointwise(c) {
                        sinks[id].insert(c);
                    } else {
                        let inherited = sinks[c].clone();
                        sinks[id].extend(inherited);
                    }
                }
            }
            self.stored[id] = if !self.is_pointwise(id) || !foldable {
                true
            } else if sinks[id].len() <= 1 || matches!(self.node(id).op, Op::Const(_) | Op::Broadcast) {
                false
            } else {
                // Recompute what is cheaper to recompute than to write and read back; but the tail of a product
                // is stored, since it costs nothing there as an epilogue.
                let cheap = weight[id] <= 8 && leaves[id] <= 2 && !tail[id];
                !cheap
            };
        }
        // Reshapes own no buffer, and what they view must have one; `fuses` said so already.
        for id in 0..count {
            if matches!(self.node(id).op, Op::Reshape | Op::StopGradient) {
                self.stored[id] = false;
            }
        }
    }

    /// For each node, without knowing yet what is stored: instructions to recompute it, full-size tensors it reads,
    /// and whether it ends a chain that starts at a convolution or matrix product read by nobody else.
    fn local_costs(&self, consumers: &[Vec<NodeId>]) -> (Vec<u32>, Vec<u32>, Vec<bool>) {
        let count = self.graph.nodes.len();
        let (mut weight, mut leaves, mut tail) = (vec![0; count], vec![0; count], vec![false; count]);
        for id in 0..count {
            let own = match self.node(id).op {
                Op::Unary(
                    Unary::Exp
                    | Unary::Log
                    | Unary::Tanh
                    | Unary::Sigmoid
                    | Unary::Softplus
                    | Unary::Sqrt
                    | Unary::Recip,
                )
                | Op::Binary(Binary::Div) => 8,
                Op::Unary(_) | Op::Binary(_) | Op::Select => 1,
                _ => continue,
            };
            weight[id] = own;
            for &input in &self.inputs[id] {
                let alone = consumers[input].len() == 1;
                match self.node(input).op {
                    Op::Unary(_) | Op::Binary(_) | Op::Select if alone => {
                        weight[id] += weight[input];
                        leaves[id] += leaves[input];
                        tail[id] |= tail[input];
                    }
                    Op::Const(_) | Op::Broadcast => {}
                    _ => {
                        leaves[id] += 1;
                        tail[id] |= alone && self.is_product(input);
                    }
                }
            }
        }
        (weight, leaves, tail)
    }

    /// Stores parts of expressions that read too many tensors or grow too long.
    fn limit_leaves(&mut self, live: &[bool]) {
        let count = self.graph.nodes.len();
        let mut leaves: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new(); count];
        let mut weight = vec![0_u32; count];
        let expressions: Vec<_> = (0..count).filter(|&id| live[id] && self.is_pointwise(id)).collect();
        for id in expressions {
            loop {
                let mut set = BTreeSet::new();
                let mut sum = 1;
                for &input in &self.inputs[id] {
                    if self.is_pointwise(input) && !self.stored[input] {
                        set.extend(leaves[input].iter().copied());
                        sum += weight[input];
                    } else {
                        set.insert(self.storage(input));
                    }
                }
                if set.len() <= MAX_LEAVES && sum <= MAX_WEIGHT {
                    (leaves[id], weight[id]) = (set, sum);
                    break;
                }
                let heaviest = self.inputs[id].iter().copied().filter(|&i| {
                    self.is_pointwise(i)
                        && !self.stored[i]
                        && !matches!(self.node(i).op, Op::Const(_) | Op::Broadcast)
                });
                match heaviest.max_by_key(|&i| (leaves[i].len(), weight[i])) {
                    Some(input) => self.stored[input] = true,
                    None => {
                        (leaves[id], weight[id]) = (set, sum);
                        break;
                    }
                }
            }
        }
    }

    fn make_steps(&mut self, live: &[bool]) {
        let count = self.graph.nodes.len();
        let mut uses = vec![0_u32; count];
        for id in (0..count).filter(|&id| live[id]) {
            self.inputs[id].iter().for_each(|&i| uses[i] += 1);
        }
        self.demanded().into_iter().for_each(|id| uses[id] += 1);
        let mut absorbed = vec![false; count];
        let mut steps = vec![];
        // Consumers first, so that an epilogue claims its product before the product makes a step of its own.
        for id in (0..count).rev().filter(|&id| live[id] && self.stored[id]) {
            if absorbed[id] {
                continue;
            }
            let kind = match &self.node(id).op {
                Op::Input(_) | Op::State(_) => continue,
                Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Broadcast | Op::Const(_) => {
                    match self.product_of(id, &uses) {
                        Some(product) => {
                            absorbed[product] = true;
                            StepKind::Product(product)
                        }
                        None => StepKind::Pointwise,
                    }
                }
                Op::Sum { .. } if self.variance_beside(id).is_some_and(|v| live[v]) => continue,
                Op::Sum { .. } | Op::Max { .. } => StepKind::Reduce,
                Op::Variance { .. } => {
                    let mean = (0..count).find(|&m| live[m] && self.variance_beside(m) == Some(id));
                    StepKind::Moments { mean }
                }
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
        let mut stack: Vec<NodeId> = step.roots.iter().flat_map(|&r| self.inputs[r].clone()).collect();
        while let Some(id) = stack.pop() {
            if step.roots.contains(&id) {
                continue;
            }
            let computed = !self.stored[id] || step.again.contains(&id);
            if step.kind == StepKind::Product(id) || (self.is_pointwise(id) && computed) {
                stack.extend(&self.inputs[id]);
            } else {
                reads.insert(self.storage(id));
            }
        }
        reads
    }

    /// The product whose epilogue `root` can be: same shape, read by this expression alone, and every other operand
    /// full, per channel or scalar.
    fn product_of(&self, root: NodeId, uses: &[u32]) -> Option<NodeId> {
        let shape = &self.node(root).shape;
        let mut candidates = BTreeSet::new();
        let mut stack = vec![root];
        let mut inside = BTreeSet::from([root]);
        let mut leaves = BTreeSet::new();
        while let Some(id) = stack.pop() {
            for &input in &self.inputs[id] {
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
        // Whatever reads the product on the way to the root must be evaluated here alone: nobody else finds it stored.
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

    /// Whether a tensor of shape `from` repeats over `to` per channel (conv: dimension 1, product: the last), or as
    /// one value.
    fn spreads(&self, from: &[usize], to: &[usize]) -> bool {
        let channel = if to.len() == 4 { 1 } else { to.len().saturating_sub(1) };
        from.iter().product::<usize>() == 1
            || (from.len() == to.len()
                && (0..to.len()).all(|d| if d == channel { from[d] == to[d] } else { from[d] == 1 }))
    }

    /// Bindings that a step with these roots and reads would need, in-place state updates sharing theirs.
    pub(super) fn bindings(&self, roots: &[NodeId], reads: &BTreeSet<NodeId>) -> usize {
        let in_place = roots.iter().filter(|&&root| {
            self.graph.assigns.iter().any(|(state, &value)| {
                look_through(self.graph, value) == root
                    && reads.iter().any(|&r| matches!(self.node(r).op, Op::State(s) if s == *state))
            })
        });
        reads.len() + roots.len() - in_place.count()
    }

    /// Joins element-wise steps that read each other or the same tensors, and reductions of the same tensors over
    /// the same axes, where no other step must run between them.
    fn merge_steps(&mut self) {
        let mut later = 0;
        while later < self.steps.len() {
            let mut earlier = later;
            let mut merged = false;
            while earlier > 0 && !merged {
                earlier -= 1;
                // Joining far-apart steps would stretch lifetimes across the program.
                if later - earlier > 64 {
                    break;
                }
                if let Some(step) = self.joined(earlier, later) {
                    self.steps[later] = step;
                    self.steps.remove(earlier);
                    merged = true;
                }
            }
            // A joined step may join again; it now stands one place earlier.
            later = if merged { later - 1 } else { later + 1 };
        }
    }

    fn joined(&self, earlier: usize, later: usize) -> Option<Step> {
        let (a, b) = (&self.steps[earlier], &self.steps[later]);
        if a.kind != b.kind || !matches!(a.kind, StepKind::Pointwise | StepKind::Reduce) {
            return None;
        }
        let (ra, rb) = (self.node(a.roots[0]), self.node(b.roots[0]));
        let same_domain = match (&ra.op, &rb.op) {
            (
                Op::Sum { axes: p, .. } | Op::Max { axes: p },
                Op::Sum { axes: q, .. } | Op::Max { axes: q },
            ) => {
                p == q
                    && self.node(self.inputs[a.roots[0]][0]).shape
                        == self.node(self.inputs[b.roots[0]][0]).shape
            }
            _ => a.kind == StepKind::Pointwise && ra.shape == rb.shape,
        };
        let feeds = a.kind == StepKind::Pointwise && a.roots.iter().any(|&r| self.reads_in_place(b, r));
        let shares = a.reads.iter().any(|&r| self.len(r) > 1 && b.reads.contains(&r));
        if !same_domain || !(feeds || shares) {
            return None;
        }
        // A root of `a` that `b` reads otherwise than element by element must be complete before `b` starts.
        if a.roots.iter().any(|r| b.reads.contains(r)) && !feeds {
            return None;
        }
        let mut roots = a.roots.clone();
        roots.extend(&b.roots);
        roots.sort_unstable();
        let scope = if is_layer(&b.scope) { b.scope.clone() } else { a.scope.clone() };
        let step = Step { kind: a.kind.clone(), roots, reads: BTreeSet::new(), again: vec![], scope };
        let step = Step { reads: self.reads(&step), ..step };
        let blocked = step.reads.iter().any(|r| step.roots.contains(r));
        let fits = !blocked && self.bindings(&step.roots, &step.reads) <= MAX_BINDINGS;
        (fits && self.wait_alike(earlier, later) && !self.between(earlier, later)).then_some(step)
    }

    /// Whether two steps depend on the same products. Where they do not, as of real and of fake images, a joined step
    /// would let one branch wait for the other and keep the tensors of both alive.
    fn wait_alike(&self, one: usize, other: usize) -> bool {
        self.products_before(one) == self.products_before(other)
    }

    /// The products and other single nodes that a step depends on.
    fn products_before(&self, step: usize) -> BTreeSet<usize> {
        let producers = self.producers();
        let (mut found, mut seen, mut stack) = (BTreeSet::new(), BTreeSet::new(), vec![step]);
        while let Some(step) = stack.pop() {
            for producer in self.steps[step].reads.iter().filter_map(|&read| producers[read]) {
                if seen.insert(producer) {
                    stack.push(producer);
                    if matches!(self.steps[producer].kind, StepKind::Product(_) | StepKind::Single) {
                        found.insert(producer);
                    }
                }
            }
        }
        found
    }

    /// The step that computes each stored node.
    fn producers(&self) -> Vec<Option<usize>> {
        let mut producers = vec![None; self.graph.nodes.len()];
        for (i, step) in self.steps.iter().enumerate() {
            step.roots.iter().for_each(|&r| producers[r] = Some(i));
        }
        producers
    }

    /// The layer that a step is known by: its product's, else that of the node nearest to its root that has a name.
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

    /// Whether every read of `root` by the step is element by element in the step's own shape.
    fn reads_in_place(&self, step: &Step, root: NodeId) -> bool {
        let mut stack = step.roots.clone();
        let mut seen = BTreeSet::new();
        let mut found = false;
        while let Some(id) = stack.pop() {
            for &input in &self.inputs[id] {
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

    /// Whether some other step depends on `earlier` and is needed by `later`, or `earlier` depends on `later`.
    fn between(&self, earlier: usize, later: usize) -> bool {
        let producers = self.producers();
        let reaches = |from: usize, to: usize, skip_direct: bool| {
            let mut stack: Vec<(usize, bool)> = vec![(from, skip_direct)];
            let mut seen = vec![false; self.steps.len()];
            while let Some((step, skip)) = stack.pop() {
                for &read in &self.steps[step].reads {
                    let Some(p) = producers[read] else { continue };
                    if p == to && !skip {
                        return true;
                    }
                    if p != to && !std::mem::replace(&mut seen[p], true) {
                        stack.push((p, false));
                    }
                }
            }
            false
        };
        reaches(later, earlier, true) || reaches(earlier, later, false)
    }
}

/// The node itself, or what a `StopGradient` passes on.
pub(super) fn look_through(graph: &Graph, mut id: NodeId) -> NodeId {
    while let Op::StopGradient = graph.nodes[id].op {
        id = graph.nodes[id].inputs[0];
    }
    id
}
