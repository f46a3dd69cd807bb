//! Convolutions in groups: patches of the image by fixed sparse matrices, and one batched matrix product over
//! the groups.
//!
//! With patches P `[g, ci/g · kh · kw, n · oh · ow]` of x and the weights W as `[g, co/g, ci/g · kh · kw]`,
//! the convolution is Y = W · P and the transposed one puts Wᵀ · Y back where patches come from. Nothing
//! crosses from group to group, and the derivatives are those of products and sparse matrices.

use std::sync::Arc;

use ganomede_kernels::conv::Geometry;
use ganomede_kernels::sparse::Matrix;

use super::sample::MOST_ROWS;
use crate::tape::{Tape, Tensor};

/// Along one axis, row o · kernel + k reads what tap k of output o does; none where that is padding.
fn taps(g: &Geometry, axis: usize) -> Matrix {
    let (kernel, size) = (g.kernel[axis], g.x[axis]);
    let row = |at: usize| {
        let place = at / kernel * g.stride[axis] + at % kernel * g.dilation[axis];
        let inside = place.checked_sub(g.pad_low[axis]).filter(|&i| i < size);
        inside.map(|i| vec![(i, 1.0)]).unwrap_or_default()
    };
    Matrix::new(size, (0..g.y[axis] * kernel).map(row))
}

/// Whether the matrices of patches stay within reason.
pub(super) fn fits(g: &Geometry) -> bool {
    let rows = |d: usize| g.y[d].checked_mul(g.kernel[d]);
    (0..2).all(|d| g.x[d] <= MOST_ROWS && rows(d).is_some_and(|rows| rows <= MOST_ROWS))
}

impl Tape {
    /// y `[n, co, oh, ow]` from x `[n, ci, h, w]` and w `[co, ci/groups, kh, kw]`.
    pub(super) fn grouped_conv<'t>(
        &'t self,
        g: &Geometry,
        groups: usize,
        x: Tensor<'t>,
        w: Tensor<'t>,
    ) -> Tensor<'t> {
        let [oh, ow] = g.y;
        let [kh, kw] = g.kernel;
        let rows = self.sparse(2, Arc::new(taps(g, 0)), x);
        let patches = self
            .sparse(3, Arc::new(taps(g, 1)), rows)
            .reshape(&[g.batch, g.ci, oh, kh, ow, kw])
            .permute(&[1, 3, 5, 0, 2, 4])
            .reshape(&[groups, g.ci / groups * kh * kw, g.batch * oh * ow]);
        let y = w.reshape(&[groups, g.co / groups, g.ci / groups * kh * kw]).matmul(patches);
        y.reshape(&[g.co, g.batch, oh, ow]).permute(&[1, 0, 2, 3])
    }

    /// x `[n, ci, h, w]` from y `[n, co, oh, ow]` and w `[co, ci/groups, kh, kw]`: the adjoint of the above
    /// in x.
    pub(super) fn grouped_transpose<'t>(
        &'t self,
        g: &Geometry,
        groups: usize,
        y: Tensor<'t>,
        w: Tensor<'t>,
    ) -> Tensor<'t> {
        let [oh, ow] = g.y;
        let [kh, kw] = g.kernel;
        let y = y.permute(&[1, 0, 2, 3]).reshape(&[groups, g.co / groups, g.batch * oh * ow]);
        let patches = w
            .reshape(&[groups, g.co / groups, g.ci / groups * kh * kw])
            .matmul_with(y, true, false)
            .reshape(&[g.ci, kh, kw, g.batch, oh, ow])
            .permute(&[3, 0, 4, 1, 5, 2])
            .reshape(&[g.batch, g.ci, oh * kh, ow * kw]);
        let rows = self.sparse(3, Arc::new(taps(g, 1).transposed()), patches);
        self.sparse(2, Arc::new(taps(g, 0).transposed()), rows)
    }
}
