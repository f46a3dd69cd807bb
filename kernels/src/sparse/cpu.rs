//! CPU twin of `sparse.wgsl`: rows of the result in parallel.

use super::Sparse;
use crate::blocks::TASK;
use rayon::prelude::*;

pub(super) fn run(k: &Sparse, x: &[f32], out: &mut [f32]) {
    let (rows, inner) = (k.matrix.rows(), k.inner);
    let group = (TASK / inner).max(1);
    out.par_chunks_mut(group * inner).enumerate().for_each(|(task, chunk)| {
        for (i, out) in chunk.chunks_mut(inner).enumerate() {
            let (o, row) = ((task * group + i) / rows, (task * group + i) % rows);
            let source = |column: usize| &x[(o * k.matrix.columns() + column) * inner..][..inner];
            let [(column, weight), rest @ ..] = k.matrix.row(row) else {
                out.fill(0.0);
                continue;
            };
            for (y, x) in out.iter_mut().zip(source(*column)) {
                *y = weight.0 * x;
            }
            for (column, weight) in rest {
                for (y, x) in out.iter_mut().zip(source(*column)) {
                    *y += weight.0 * x;
                }
            }
        }
    });
}
