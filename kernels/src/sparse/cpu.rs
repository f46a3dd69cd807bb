//! CPU twin of `sparse.wgsl`: rows of the result in parallel.

use super::Sparse;
use crate::tasks::for_each_part;

pub(super) fn run(k: &Sparse, x: &[f32], out: &mut [f32]) {
    let (rows, inner) = (k.matrix.rows(), k.inner);
    for_each_part(out, inner, inner, |i, out| {
        let (o, row) = (i / rows, i % rows);
        let source = |column: usize| &x[(o * k.matrix.columns() + column) * inner..][..inner];
        let [(column, weight), rest @ ..] = k.matrix.row(row) else {
            return out.fill(0.0);
        };
        for (y, x) in out.iter_mut().zip(source(*column)) {
            *y = weight.0 * x;
        }
        for (column, weight) in rest {
            for (y, x) in out.iter_mut().zip(source(*column)) {
                *y += weight.0 * x;
            }
        }
    });
}
