//! What graphs are in any batch. A tape has static shapes, and what is exported is to take any number of
//! samples. So a graph is recorded twice, in batches of two sizes, and what differs between the two is the
//! batch: each dimension must be the same in both, or a multiple of the batch. Whatever else differs (a mean
//! over the batch, say) would make a sample's score depend on its neighbours, and is refused with the layer's
//! name.

use ganomede_kernels::conv::Geometry;
use ganomede_kernels::pool::MaxPool;

use crate::program::simplify;
use crate::tape::{Graph, Node, Op};

/// The two batches in which graphs are recorded.
pub(super) const BATCHES: [usize; 2] = [2, 3];

/// What no layer of a score may do.
pub(super) const MIXES: &str = "mixes the samples of a batch";

/// A dimension of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dim {
    /// The same in any batch.
    Fixed(usize),
    /// So many times the batch.
    Batch(usize),
}

impl Dim {
    fn of([a, b]: [usize; 2]) -> Option<Self> {
        let times = a / BATCHES[0];
        match a == b {
            true => Some(Self::Fixed(a)),
            false => (a == times * BATCHES[0] && b == times * BATCHES[1]).then_some(Self::Batch(times)),
        }
    }
}

/// Fixed sizes; `None` where one is not.
pub(super) fn fixed(shape: &[Dim]) -> Option<Vec<usize>> {
    let size = |dim: &Dim| match *dim {
        Dim::Fixed(size) => Some(size),
        Dim::Batch(_) => None,
    };
    shape.iter().map(size).collect()
}

/// The shape that element-wise operators give of operands of these.
pub(super) fn joined(shapes: &[&[Dim]]) -> Vec<Dim> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let at = |shape: &[Dim], d: usize| {
        (d + shape.len()).checked_sub(rank).map_or(Dim::Fixed(1), |place| shape[place])
    };
    let widest = |d: usize| {
        shapes.iter().map(|shape| at(shape, d)).find(|&dim| dim != Dim::Fixed(1)).unwrap_or(Dim::Fixed(1))
    };
    (0..rank).map(widest).collect()
}

/// What a layer does that has no form where it is exported to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsupported {
    /// The layer.
    pub(super) scope: String,
    /// What it does.
    pub(super) what: String,
}

impl Unsupported {
    pub(super) fn new(scope: &str, what: impl Into<String>) -> Self {
        Self { scope: scope.to_owned(), what: what.into() }
    }
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "layer '{}' {}; score it with this program, or ask for another score",
            self.scope, self.what
        )
    }
}

/// A graph with some of its outputs, in the first of [`BATCHES`], with the shapes of its nodes in any.
pub(super) struct AnyBatch {
    pub(super) graph: Graph,
    pub(super) shapes: Vec<Vec<Dim>>,
}

impl AnyBatch {
    /// Of a graph recorded in batches of [`BATCHES`], the outputs that are asked for and all new values of
    /// states.
    pub(super) fn of(recorded: [&Graph; 2], outputs: &[&str]) -> Result<Self, Unsupported> {
        let [graph, other] = recorded.map(|graph| {
            let mut asked = graph.clone();
            asked.outputs.retain(|(name, _)| outputs.contains(&name.as_str()));
            simplify(&asked)
        });
        if graph.nodes.len() != other.nodes.len() {
            return Err(Unsupported::new("", "is recorded in another way for each batch"));
        }
        let mut shapes = vec![];
        for (a, b) in graph.nodes.iter().zip(&other.nodes) {
            let dims = a.shape.iter().zip(&b.shape).map(|(&a, &b)| Dim::of([a, b]));
            let shape = dims.collect::<Option<Vec<_>>>().filter(|dims| dims.len() == b.shape.len());
            match shape.filter(|_| is_alike(&a.op, &b.op) && a.inputs == b.inputs) {
                Some(shape) => shapes.push(shape),
                None => return Err(Unsupported::new(&a.scope, MIXES)),
            }
        }
        let found = Self { graph, shapes };
        found.graph.nodes.iter().try_for_each(|node| found.keeps_apart(node))?;
        Ok(found)
    }

    /// Refuses what takes values of several samples, or of some.
    fn keeps_apart(&self, node: &Node) -> Result<(), Unsupported> {
        let is_batch = |axis: usize| matches!(self.shapes[node.inputs[0]][axis], Dim::Batch(_));
        match &node.op {
            Op::Sum { axes, .. } | Op::Max { axes } | Op::Variance { axes }
                if axes.iter().any(|&axis| is_batch(axis)) =>
            {
                Err(Unsupported::new(&node.scope, MIXES))
            }
            Op::Sparse(axis, _) if is_batch(*axis) => Err(Unsupported::new(&node.scope, MIXES)),
            Op::Slice { start, step } => {
                let whole = |d: usize| {
                    start[d] == 0
                        && step[d] == 1
                        && node.shape[d] == self.graph.nodes[node.inputs[0]].shape[d]
                };
                match (0..node.shape.len()).all(|d| whole(d) || !is_batch(d)) {
                    true => Ok(()),
                    false => Err(Unsupported::new(&node.scope, "takes some of the samples of a batch")),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Whether two operations differ by the batch alone.
fn is_alike(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (Op::Conv(f, g), Op::Conv(e, h)) => f == e && Geometry { batch: h.batch, ..*g } == *h,
        (Op::MaxPool(p), Op::MaxPool(q)) => MaxPool { planes: q.planes, ..*p } == *q,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_is_fixed_or_a_multiple_of_the_batch() {
        assert_eq!(Dim::of([7, 7]), Some(Dim::Fixed(7)));
        assert_eq!(Dim::of([2 * 5, 3 * 5]), Some(Dim::Batch(5)));
        assert_eq!(Dim::of([4, 9]), None);
        assert_eq!(Dim::of([3, 4]), None);
        assert_eq!(Dim::of([1, 2]), None);
    }
}
