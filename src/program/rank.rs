//! Tensors of more dimensions than kernels walk. Each becomes one of a single dimension, and what moves,
//! repeats or reduces its elements becomes steps that look at it in few dimensions: those before an axis, the
//! axis, and those after.

use std::borrow::Cow;
use std::ops::Range;

use ganomede_kernels::expr::Num;
use ganomede_kernels::pointwise::Pointwise;

use crate::tape::{Graph, Node, NodeId, Op};

/// The same graph with no tensor of a rank above [`Pointwise::MAX_RANK`].
pub(super) fn flatten(graph: &Graph) -> Cow<'_, Graph> {
    if !graph.nodes.iter().any(|node| is_high(&node.shape)) {
        return Cow::Borrowed(graph);
    }
    let mut flat = Flat { graph: Graph::default(), new: vec![] };
    for node in &graph.nodes {
        let high = is_high(&node.shape) || node.inputs.iter().any(|&i| is_high(&graph.nodes[i].shape));
        let id = if high { flat.lowered(graph, node) } else { flat.kept(node) };
        flat.new.push(id);
    }
    let Flat { graph: mut lowered, new } = flat;
    lowered.states = graph.states.clone();
    lowered.outputs = graph.outputs.iter().map(|(name, id)| (name.clone(), new[*id])).collect();
    lowered.assigns = graph.assigns.iter().map(|(&state, &id)| (state, new[id])).collect();
    Cow::Owned(lowered)
}

fn is_high(shape: &[usize]) -> bool {
    shape.len() > Pointwise::MAX_RANK
}

fn product(sizes: &[usize]) -> usize {
    sizes.iter().product()
}

/// Dimensions that follow each other, as ranges, in the order given.
fn runs(dims: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = vec![];
    for &d in dims {
        match runs.last_mut() {
            Some(last) if last.end == d => last.end += 1,
            _ => runs.push(d..d + 1),
        }
    }
    runs
}

struct Flat {
    graph: Graph,
    /// The node that stands for each old one, with its elements in their order.
    new: Vec<NodeId>,
}

impl Flat {
    fn push(&mut self, like: &Node, op: Op, inputs: Vec<NodeId>, shape: Vec<usize>) -> NodeId {
        self.graph.nodes.push(Node { op, inputs, shape, scope: like.scope.clone() });
        self.graph.nodes.len() - 1
    }

    /// The node as it was.
    fn kept(&mut self, node: &Node) -> NodeId {
        let inputs = node.inputs.iter().map(|&i| self.new[i]).collect();
        self.push(node, node.op.clone(), inputs, node.shape.clone())
    }

    /// The same elements in another shape.
    fn view(&mut self, like: &Node, id: NodeId, shape: &[usize]) -> NodeId {
        if self.graph.nodes[id].shape == shape {
            return id;
        }
        self.push(like, Op::Reshape, vec![id], shape.to_vec())
    }

    /// One step along neighbouring axes of `from` dimensions: `[before, axes, after]` with the axes made
    /// `size` long.
    fn along(
        &mut self,
        node: &Node,
        id: NodeId,
        from: &mut [usize],
        axes: Range<usize>,
        size: usize,
        op: Op,
    ) -> NodeId {
        let (before, after) = (product(&from[..axes.start]), product(&from[axes.end..]));
        let view = self.view(node, id, &[before, product(&from[axes.clone()]), after]);
        from[axes.clone()].fill(1);
        from[axes.start] = size;
        self.push(node, op, vec![view], vec![before, size, after])
    }

    /// Reduces one run of neighbouring axes after the other; `op` is told which is the last.
    fn reduced(
        &mut self,
        node: &Node,
        mut id: NodeId,
        mut from: Vec<usize>,
        axes: &[usize],
        op: impl Fn(bool) -> Op,
    ) -> NodeId {
        let runs = runs(axes);
        for (i, run) in runs.iter().enumerate() {
            id = self.along(node, id, &mut from, run.clone(), 1, op(i + 1 == runs.len()));
        }
        id
    }

    fn lowered(&mut self, graph: &Graph, node: &Node) -> NodeId {
        let (shape, len) = (&node.shape, product(&node.shape));
        let from = |i: usize| graph.nodes[node.inputs[i]].shape.clone();
        let inputs: Vec<NodeId> = node.inputs.iter().map(|&i| self.new[i]).collect();
        let id = match &node.op {
            Op::Input(_) | Op::State(_) | Op::Random(..) | Op::StopGradient => {
                self.push(node, node.op.clone(), inputs, vec![len])
            }
            Op::Unary(_) | Op::Binary(_) | Op::Select => self.push(node, node.op.clone(), inputs, vec![len]),
            Op::Reshape => inputs[0],
            Op::Broadcast => self.repeated(node, inputs[0], &from(0)),
            Op::Permute(order) => self.permuted(node, inputs[0], &from(0), order),
            Op::Slice { start, step } => self.cut(node, inputs[0], from(0), (start, step), false),
            Op::Embed { start, step } => self.cut(node, inputs[0], from(0), (start, step), true),
            Op::Concat(axis) => {
                let (before, after) = (product(&shape[..*axis]), product(&shape[axis + 1..]));
                let parts = (0..inputs.len())
                    .map(|i| self.view(node, inputs[i], &[before, from(i)[*axis], after]))
                    .collect();
                self.push(node, Op::Concat(1), parts, vec![before, shape[*axis], after])
            }
            Op::Sum { axes, scale } => self.reduced(node, inputs[0], from(0), axes, |last| Op::Sum {
                axes: vec![1],
                scale: if last { *scale } else { Num(1.0) },
            }),
            Op::Max { axes } => self.reduced(node, inputs[0], from(0), axes, |_| Op::Max { axes: vec![1] }),
            Op::Variance { .. } => {
                let from = from(0);
                let kept = |&d: &usize| shape[d] != 1;
                let first = (0..shape.len()).find(kept).unwrap_or(0);
                let last = (0..shape.len()).rfind(kept).map_or(0, |d| d + 1);
                let kept = product(&from[first..last]);
                let view = [product(&from[..first]), kept, product(&from[last..])];
                let view = self.view(node, inputs[0], &view);
                self.push(node, Op::Variance { axes: vec![0, 2] }, vec![view], vec![1, kept, 1])
            }
            Op::Sparse(axis, matrix) => {
                let mut from = from(0);
                let op = Op::Sparse(1, matrix.clone());
                self.along(node, inputs[0], &mut from, *axis..axis + 1, shape[*axis], op)
            }
            // What is left is of a low rank by itself, and sees its operands as they were.
            _ => {
                let inputs = (0..inputs.len()).map(|i| self.view(node, inputs[i], &from(i))).collect();
                self.push(node, node.op.clone(), inputs, shape.clone())
            }
        };
        if is_high(shape) { self.view(node, id, &[len]) } else { self.view(node, id, shape) }
    }

    /// Repeats as many dimensions at once as a kernel walks.
    fn repeated(&mut self, node: &Node, mut id: NodeId, from: &[usize]) -> NodeId {
        if from.is_empty() {
            return self.push(node, Op::Broadcast, vec![id], vec![product(&node.shape)]);
        }
        // Neighbours that are repeated alike, as (from, to); dimensions that are missing are 1.
        let missing = vec![1; node.shape.len() - from.len()];
        let mut runs: Vec<(usize, usize)> = vec![];
        for (&a, &b) in missing.iter().chain(from).zip(&node.shape).filter(|&(_, &b)| b != 1) {
            match runs.last_mut() {
                Some(last) if (last.0 == last.1) == (a == b) => *last = (last.0 * a, last.1 * b),
                _ => runs.push((a, b)),
            }
        }
        loop {
            let now = runs.len().min(Pointwise::MAX_RANK - 1);
            let rest: usize = runs[now..].iter().map(|run| run.0).product();
            let sizes = |to: bool| {
                let sizes = runs[..now].iter().map(|run| if to { run.1 } else { run.0 });
                sizes.chain([rest]).collect::<Vec<_>>()
            };
            let view = self.view(node, id, &sizes(false));
            id = self.push(node, Op::Broadcast, vec![view], sizes(true));
            if now == runs.len() {
                return id;
            }
            let done = runs.drain(..now).map(|run| run.1).product();
            runs.insert(0, (done, done));
        }
    }

    /// Brings one run of dimensions after the other to the front, the last one first.
    fn permuted(&mut self, node: &Node, mut id: NodeId, from: &[usize], order: &[usize]) -> NodeId {
        let runs = runs(order);
        let mut now = runs.clone();
        now.sort_by_key(|run| run.start);
        for run in runs.iter().rev() {
            let at = now.iter().position(|other| other == run).unwrap_or(0);
            let size = |runs: &[Range<usize>]| -> usize {
                runs.iter().map(|run| product(&from[run.clone()])).product()
            };
            let (before, own, after) = (size(&now[..at]), size(&now[at..=at]), size(&now[at + 1..]));
            let run = now.remove(at);
            now.insert(0, run);
            if before != 1 {
                let view = self.view(node, id, &[before, own, after]);
                id = self.push(node, Op::Permute(vec![1, 0, 2]), vec![view], vec![own, before, after]);
            }
        }
        id
    }

    /// Cuts one axis after the other, or places it in zeros.
    fn cut(
        &mut self,
        node: &Node,
        mut id: NodeId,
        mut from: Vec<usize>,
        (start, step): (&[usize], &[usize]),
        embed: bool,
    ) -> NodeId {
        for d in (0..from.len()).filter(|&d| node.shape[d] != from[d]).collect::<Vec<_>>() {
            let (start, step) = (vec![0, start[d], 0], vec![1, step[d], 1]);
            let op = if embed { Op::Embed { start, step } } else { Op::Slice { start, step } };
            id = self.along(node, id, &mut from, d..d + 1, node.shape[d], op);
        }
        id
    }
}
