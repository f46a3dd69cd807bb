//! CPU twin of the matrix product.

use super::Gemm;
use rayon::prelude::*;

/// Rows of the output that one task computes.
const ROWS: usize = 32;

pub(super) fn scratch_len(_gemm: &Gemm, _threads: usize) -> usize {
    0
}

pub(super) fn run(gemm: &Gemm, inputs: &[&[f32]], outputs: &mut [&mut [f32]], _scratch: &mut [f32]) {
    let &Gemm { m, n, k, trans_a, trans_b, .. } = gemm;
    let (a, b, operands) = (inputs[0], inputs[1], &inputs[2..]);
    outputs[0].par_chunks_mut(m * n).enumerate().for_each(|(batch, out)| {
        let a = &a[if gemm.batched_a { batch * m * k } else { 0 }..][..m * k];
        let b = &b[if gemm.batched_b { batch * k * n } else { 0 }..][..k * n];
        out.par_chunks_mut(ROWS * n).enumerate().for_each(|(block, out)| {
            let row = block * ROWS;
            let (a_row, a_col) = if trans_a { (1, m) } else { (k, 1) };
            let (b_row, b_col) = if trans_b { (1, k) } else { (n, 1) };
            let a = &a[row * a_row..];
            // SAFETY: out holds `out.len() / n` rows of n; A from `row` on holds as many rows of k, and B is k × n
            // with the strides given, so every access is inside the three slices; out is exclusive.
            unsafe {
                ::gemm::gemm(
                    out.len() / n,
                    n,
                    k,
                    out.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    a.as_ptr(),
                    a_col as isize,
                    a_row as isize,
                    b.as_ptr(),
                    b_col as isize,
                    b_row as isize,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    ::gemm::Parallelism::None,
                );
            }
            for (r, out) in out.chunks_mut(n).enumerate() {
                gemm.epilogue.apply_row(out, operands, ((batch * m) + row + r) * n, 0);
            }
        });
    });
}
