//! Operations that move elements or repeat them, and compute nothing.

use ganomede_kernels::elements;

use crate::tape::check::MAX_PARTS;
use crate::tape::{Op, Tape, Tensor};

impl<'t> Tensor<'t> {
    /// Repeats dimensions of size 1; missing leading dimensions are added.
    pub fn broadcast_to(self, shape: &[usize]) -> Tensor<'t> {
        let from = self.shape();
        if broadcast_shape(&from, shape).as_deref() != Some(shape) {
            let what = format!("{from:?} cannot be repeated to {shape:?}");
            return self.tape.poison("broadcast", what, shape);
        }
        self.tape.node(Op::Broadcast, &[self], shape.to_vec())
    }

    /// Repeats what an operation asks for; the same tensor where it fits as it is.
    pub(in crate::tape) fn repeat(self, shape: &[usize]) -> Tensor<'t> {
        if self.shape() == shape { self } else { self.broadcast_to(shape) }
    }

    /// Same elements in row-major order, another shape.
    pub fn reshape(self, shape: &[usize]) -> Tensor<'t> {
        let from = self.shape();
        if elements(&from) != elements(shape) {
            let what = format!("{from:?} has not as many elements as {shape:?}");
            return self.tape.poison("reshape", what, shape);
        }
        self.tape.node(Op::Reshape, &[self], shape.to_vec())
    }

    /// `[n, …]` → `[n, product of the rest]`.
    pub fn flatten(self) -> Tensor<'t> {
        let n = self.shape().first().copied().unwrap_or(1).max(1);
        self.reshape(&[n, self.len() / n])
    }

    /// Same value; gradients stop here.
    pub fn stop_gradient(self) -> Tensor<'t> {
        let shape = self.shape();
        self.tape.node(Op::StopGradient, &[self], shape)
    }

    /// Reorders dimensions: output dimension i is input dimension `order[i]`.
    pub fn permute(self, order: &[usize]) -> Tensor<'t> {
        let shape = self.shape();
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if sorted != (0..shape.len()).collect::<Vec<_>>() {
            let what = format!("order {order:?} is no permutation of the dimensions of {shape:?}");
            return self.tape.poison("permute", what, &shape);
        }
        let out = order.iter().map(|&o| shape[o]).collect();
        self.tape.node(Op::Permute(order.to_vec()), &[self], out)
    }

    /// Swaps the last two dimensions.
    pub fn transpose(self) -> Tensor<'t> {
        let rank = self.rank();
        if rank < 2 {
            return self.tape.poison(
                "transpose",
                format!("rank {rank} has no two dimensions to swap"),
                &[1, 1],
            );
        }
        let mut order: Vec<_> = (0..rank).collect();
        order.swap(rank - 1, rank - 2);
        self.permute(&order)
    }

    /// Every `step`-th element of each dimension from `start` (inclusive) to `end` (exclusive).
    pub fn slice(self, start: &[usize], end: &[usize], step: &[usize]) -> Tensor<'t> {
        let shape = self.shape();
        let rank = shape.len();
        let fits = start.len() == rank
            && end.len() == rank
            && step.len() == rank
            && (0..rank).all(|d| start[d] < end[d] && end[d] <= shape[d] && step[d] > 0);
        if !fits {
            let what = format!("start {start:?}, end {end:?}, step {step:?} do not cut {shape:?}");
            return self.tape.poison("slice", what, &shape);
        }
        let out: Vec<_> = (0..rank).map(|d| (end[d] - start[d]).div_ceil(step[d])).collect();
        self.tape.node(Op::Slice { start: start.to_vec(), step: step.to_vec() }, &[self], out)
    }

    /// `len` entries along one axis from `start`.
    pub fn narrow(self, axis: usize, start: usize, len: usize) -> Tensor<'t> {
        let shape = self.shape();
        let end = start.checked_add(len);
        if axis >= shape.len() || end.is_none_or(|end| end > shape[axis]) || len == 0 {
            let what = format!("{len} entries of axis {axis} from {start} do not cut {shape:?}");
            return self.tape.poison("narrow", what, &shape);
        }
        let (mut low, mut high) = (vec![0; shape.len()], shape.clone());
        (low[axis], high[axis]) = (start, start + len);
        self.slice(&low, &high, &vec![1; shape.len()])
    }

    /// Places the elements at `start + i·step` of a zero tensor of the given shape: the adjoint of
    /// [`Tensor::slice`].
    pub fn embed(self, start: &[usize], step: &[usize], shape: &[usize]) -> Tensor<'t> {
        let from = self.shape();
        let rank = shape.len();
        let fits = from.len() == rank
            && start.len() == rank
            && step.len() == rank
            && (0..rank).all(|d| {
                let last = (from[d] - 1).checked_mul(step[d]).and_then(|last| last.checked_add(start[d]));
                step[d] > 0 && last.is_some_and(|last| last < shape[d])
            });
        if !fits {
            let what = format!("{from:?} from {start:?} by {step:?} does not fit {shape:?}");
            return self.tape.poison("embed", what, shape);
        }
        self.tape.node(Op::Embed { start: start.to_vec(), step: step.to_vec() }, &[self], shape.to_vec())
    }

    /// Zeros before and after each dimension.
    pub fn pad(self, low: &[usize], high: &[usize]) -> Tensor<'t> {
        let shape = self.shape();
        if low.len() != shape.len() || high.len() != shape.len() {
            let what = format!("{} and {} paddings for shape {shape:?}", low.len(), high.len());
            return self.tape.poison("pad", what, &shape);
        }
        let out: Vec<_> =
            (0..shape.len()).map(|d| shape[d].saturating_add(low[d]).saturating_add(high[d])).collect();
        self.embed(low, &vec![1; shape.len()], &out)
    }

    /// Joins tensors along an axis; the other dimensions must agree.
    pub fn concat(parts: &[Tensor<'t>], axis: usize) -> Tensor<'t> {
        let Some(&first) = parts.first() else {
            return Tape::nowhere().poison("concat", "there are no tensors to join".to_owned(), &[]);
        };
        let mut shape = first.shape();
        if axis >= shape.len() {
            return first.tape.poison("concat", format!("{shape:?} has no axis {axis}"), &shape);
        }
        if parts.len() > MAX_PARTS {
            let joined: Vec<_> = parts.chunks(MAX_PARTS).map(|chunk| Tensor::concat(chunk, axis)).collect();
            return Tensor::concat(&joined, axis);
        }
        for part in &parts[1..] {
            let other = part.shape();
            let agrees =
                other.len() == shape.len() && (0..shape.len()).all(|d| d == axis || other[d] == shape[d]);
            if !agrees {
                let what = format!("{shape:?} and {other:?} do not join along axis {axis}");
                return first.tape.poison("concat", what, &shape);
            }
            shape[axis] += other[axis];
        }
        first.tape.node(Op::Concat(axis), parts, shape)
    }

    /// Repeats every pixel `factor` times in both directions.
    pub fn upsample_nearest(self, factor: usize) -> Tensor<'t> {
        let s = self.shape();
        if s.len() != 4 || factor == 0 {
            return self.tape.poison(
                "upsample_nearest",
                format!("{s:?} by {factor}: needs rank 4 and a factor"),
                &s,
            );
        }
        self.reshape(&[s[0], s[1], s[2], 1, s[3], 1])
            .broadcast_to(&[s[0], s[1], s[2], factor, s[3], factor])
            .reshape(&[s[0], s[1], s[2].saturating_mul(factor), s[3].saturating_mul(factor)])
    }
}

/// Common shape of two operands, NumPy's rule.
pub(in crate::tape) fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], d: usize| if d + s.len() < rank { 1 } else { s[d + s.len() - rank] };
    (0..rank)
        .map(|d| match (at(a, d), at(b, d)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}
