//! What a node may be: the rules that recording keeps, and that graphs made by hand are held to before they
//! compile.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use ganomede_kernels::conv::{Conv, Epilogue, Face};
use ganomede_kernels::expr::Unary;
use ganomede_kernels::pool::{self, MaxPool};
use ganomede_kernels::sparse::Sparse;
use ganomede_kernels::{Kernel, MAX_LEN, Precision, elements};

use super::ops::{MOST_ROWS, broadcast_shape};
use super::{Graph, Node, Op, TapeError};

/// Most tensors that one launch can join, its output being the eighth binding.
pub(super) const MAX_PARTS: usize = 7;

impl Graph {
    /// Checks that every node follows from earlier ones, and that names and states belong to one tensor each.
    ///
    /// # Errors
    /// The first rule that is broken, with the layer.
    pub fn check(&self) -> Result<(), TapeError> {
        let mut inputs = HashMap::new();
        let mut states = HashMap::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let fault = |what| Err(TapeError { op: node.op.name(), scope: node.scope.to_string(), what });
            if let Some(input) = node.inputs.iter().find(|&&input| input >= id) {
                return fault(format!("node {id} reads node {input}, which is not before it"));
            }
            let operands: Vec<&[usize]> = node.inputs.iter().map(|&i| &*self.nodes[i].shape).collect();
            if let Err(what) = node.op.check(&operands, &node.shape) {
                return fault(what);
            }
            let first = match &node.op {
                Op::Input(name) => inputs.insert(name, &node.shape),
                Op::State(state) => states.insert(*state, &node.shape),
                _ => None,
            };
            if let Some(first) = first.filter(|&first| *first != node.shape) {
                return fault(format!("is used with shape {first:?} and with {:?}", node.shape));
            }
        }
        let mut names = HashSet::new();
        for (name, id) in &self.outputs {
            let node = self.result("output", *id)?;
            if !names.insert(name) {
                return Err(node.fault("output", format!("two outputs are named '{name}'")));
            }
        }
        for (state, &id) in &self.assigns {
            let node = self.result("assign", id)?;
            if let Some(shape) = states.get(state).filter(|&&shape| *shape != node.shape) {
                let what = format!("state {} of shape {shape:?} cannot hold {:?}", state.0, node.shape);
                return Err(node.fault("assign", what));
            }
        }
        Ok(())
    }

    fn result(&self, op: &'static str, id: usize) -> Result<&Node, TapeError> {
        let what = || format!("node {id} does not exist; the graph has {}", self.nodes.len());
        self.nodes.get(id).ok_or_else(|| TapeError { op, scope: String::new(), what: what() })
    }
}

impl Node {
    fn fault(&self, op: &'static str, what: String) -> TapeError {
        TapeError { op, scope: self.scope.to_string(), what }
    }
}

impl Op {
    /// What messages call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::State(_) => "state",
            Self::Const(_) => "constant",
            Self::Unary(Unary::Clamp(..) | Unary::ClampMask(..)) => "clamp",
            Self::Unary(_) | Self::Binary(_) => "element-wise",
            Self::Select => "select",
            Self::Broadcast => "broadcast",
            Self::Reshape => "reshape",
            Self::StopGradient => "stop_gradient",
            Self::Permute(_) => "permute",
            Self::Slice { .. } => "slice",
            Self::Embed { .. } => "embed",
            Self::Concat(_) => "concat",
            Self::Sum { .. } => "sum",
            Self::Max { .. } => "max",
            Self::Variance { .. } => "variance",
            Self::Conv(..) => "conv",
            Self::MatMul { .. } => "matmul",
            Self::MaxPool(_) => "max_pool",
            Self::Sparse(..) => "sparse",
            Self::Random(..) => "random",
            Self::Custom(custom) => custom.name(),
        }
    }

    /// Number of tensors that it reads.
    fn arity(&self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Input(_) | Self::State(_) | Self::Const(_) => 0..=0,
            Self::Concat(_) => 1..=MAX_PARTS,
            Self::Binary(_) | Self::Conv(..) | Self::MatMul { .. } | Self::Random(..) => 2..=2,
            Self::Select => 3..=3,
            Self::Custom(_) => 1..=MAX_PARTS,
            Self::MaxPool(p) if p.face != pool::Face::Indices => 2..=2,
            _ => 1..=1,
        }
    }

    /// Checks that a result of this shape follows from operands of those.
    pub(super) fn check(&self, operands: &[&[usize]], shape: &[usize]) -> Result<(), String> {
        if elements(shape).is_none() {
            let most = MAX_LEN.trailing_zeros();
            let of = if let Self::Input(name) = self { format!("'{name}' of ") } else { String::new() };
            return Err(format!("{of}shape {shape:?} is empty or has more than 2^{most} elements"));
        }
        let arity = self.arity();
        if !arity.contains(&operands.len()) {
            let (least, most) = arity.into_inner();
            return Err(format!("reads {least} to {most} tensors, not {}", operands.len()));
        }
        let kernel = |kernel: Kernel| kernel.check().map_err(|error| error.to_string());
        let follows = match self {
            Self::Input(_) | Self::State(_) => true,
            Self::Const(_) => shape.is_empty(),
            // A NaN is no bound either.
            Self::Unary(Unary::Clamp(low, high) | Unary::ClampMask(low, high))
                if low.0.partial_cmp(&high.0).is_none_or(Ordering::is_gt) =>
            {
                return Err(format!("no number is from {} to {}", low.0, high.0));
            }
            Self::Unary(_) | Self::StopGradient => operands[0] == shape,
            Self::Binary(_) | Self::Select => operands.iter().all(|operand| *operand == shape),
            Self::Broadcast => broadcast_shape(operands[0], shape).as_deref() == Some(shape),
            Self::Reshape => elements(operands[0]) == elements(shape),
            Self::Permute(order) => {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                sorted.into_iter().eq(0..operands[0].len())
                    && order.iter().map(|&o| operands[0][o]).eq(shape.iter().copied())
            }
            Self::Slice { start, step } => cuts(operands[0], start, step, shape),
            Self::Embed { start, step } => cuts(shape, start, step, operands[0]),
            Self::Concat(axis) => joins(operands, *axis, shape),
            Self::Sum { axes, .. } | Self::Max { axes } | Self::Variance { axes } => {
                reduces(operands[0], axes, shape)
            }
            Self::Conv(face, g) => {
                kernel(Kernel::Conv(Conv {
                    face: *face,
                    geometry: *g,
                    half: false,
                    precision: Precision::F32,
                    epilogue: Epilogue::default(),
                }))?;
                let x: &[usize] = &[g.batch, g.ci, g.x[0], g.x[1]];
                let y: &[usize] = &[g.batch, g.co, g.y[0], g.y[1]];
                let w: &[usize] = &[g.co, g.ci, g.kernel[0], g.kernel[1]];
                let roles = match face {
                    Face::Conv => [x, w, y],
                    Face::Transpose => [y, w, x],
                    Face::Weight => [x, y, w],
                };
                [operands[0], operands[1], shape] == roles
            }
            Self::MatMul { trans_a, trans_b } => {
                product_shape(operands[0], operands[1], *trans_a, *trans_b).as_deref() == Some(shape)
            }
            Self::MaxPool(p) => {
                kernel(Kernel::MaxPool(*p))?;
                pools(p, operands, shape)
            }
            Self::Sparse(axis, matrix) => {
                if matrix.columns().max(matrix.rows()) > MOST_ROWS {
                    let sizes = [matrix.columns(), matrix.rows()];
                    return Err(format!("an axis of {sizes:?} entries; at most {MOST_ROWS} can be gathered"));
                }
                let (from, axis) = (operands[0], *axis);
                let sides = |shape: &[usize]| (shape[..axis].to_vec(), shape[axis + 1..].to_vec());
                if axis >= from.len() || axis >= shape.len() || sides(from) != sides(shape) {
                    return Err(format!("axis {axis} of {from:?} does not become {shape:?}"));
                }
                let size = |sizes: &[usize]| sizes.iter().product();
                let (outer, inner) = (size(&shape[..axis]), size(&shape[axis + 1..]));
                kernel(Kernel::Sparse(Sparse { outer, inner, matrix: matrix.clone() }))?;
                [from[axis], shape[axis]] == [matrix.columns(), matrix.rows()]
            }
            Self::Random(..) => *operands[0] == [2] && *operands[1] == [1],
            Self::Custom(custom) => custom.check(operands, shape)?,
        };
        let name = self.name();
        follows.then_some(()).ok_or_else(|| format!("{operands:?} does not give {shape:?} by {name}"))
    }
}

/// Whether `part` is every `step`-th element of `whole` from `start`.
fn cuts(whole: &[usize], start: &[usize], step: &[usize], part: &[usize]) -> bool {
    let rank = whole.len();
    let last = |d: usize| (part[d] - 1).checked_mul(step[d])?.checked_add(start[d]);
    [start.len(), step.len(), part.len()] == [rank; 3]
        && (0..rank).all(|d| step[d] > 0 && last(d).is_some_and(|last| last < whole[d]))
}

fn joins(parts: &[&[usize]], axis: usize, shape: &[usize]) -> bool {
    let rank = shape.len();
    axis < rank
        && parts.iter().all(|part| part.len() == rank && (0..rank).all(|d| d == axis || part[d] == shape[d]))
        && parts.iter().map(|part| part[axis]).sum::<usize>() == shape[axis]
}

fn reduces(from: &[usize], axes: &[usize], shape: &[usize]) -> bool {
    let kept = |d: usize| if axes.contains(&d) { 1 } else { from[d] };
    axes.windows(2).all(|pair| pair[0] < pair[1])
        && axes.iter().all(|&axis| axis < from.len())
        && (0..from.len()).map(kept).eq(shape.iter().copied())
}

/// Shape of the matrix product of the last two dimensions, each operand with a batch dimension or without.
pub(super) fn product_shape(a: &[usize], b: &[usize], trans_a: bool, trans_b: bool) -> Option<Vec<usize>> {
    let (ra, rb) = (a.len(), b.len());
    if !(2..=3).contains(&ra) || !(2..=3).contains(&rb) {
        return None;
    }
    let (m, ka) = if trans_a { (a[ra - 1], a[ra - 2]) } else { (a[ra - 2], a[ra - 1]) };
    let (kb, n) = if trans_b { (b[rb - 1], b[rb - 2]) } else { (b[rb - 2], b[rb - 1]) };
    if ka != kb || (ra == 3 && rb == 3 && a[0] != b[0]) {
        return None;
    }
    Some(match (ra, rb) {
        (3, _) => vec![a[0], m, n],
        (_, 3) => vec![b[0], m, n],
        _ => vec![m, n],
    })
}

fn pools(p: &MaxPool, operands: &[&[usize]], shape: &[usize]) -> bool {
    let of = |s: &[usize], size: [usize; 2]| {
        s.len() == 4 && s[0].checked_mul(s[1]) == Some(p.planes) && s[2..] == size
    };
    let (from, to) = if p.face == pool::Face::Scatter { (p.y, p.x) } else { (p.x, p.y) };
    of(operands[0], from) && operands[1..].iter().all(|indices| of(indices, p.y)) && of(shape, to)
}
