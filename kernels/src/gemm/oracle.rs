//! The product in plain f64 loops.

use super::Gemm;
use crate::half::unpacked_plainly;

/// A batched matrix product.
pub(super) fn gemm(gemm: &Gemm, inputs: &[&[f32]]) -> Vec<f64> {
    let &Gemm { m, n, k, .. } = gemm;
    let b: Vec<f32>;
    let mut inputs = inputs.to_vec();
    if gemm.half_b {
        b = unpacked_plainly(inputs[1], 2 * inputs[1].len());
        inputs[1] = &b;
    }
    let mut out = Vec::with_capacity(gemm.batch * m * n);
    for batch in 0..gemm.batch {
        let a0 = if gemm.batched_a { batch * m * k } else { 0 };
        let b0 = if gemm.batched_b { batch * k * n } else { 0 };
        for row in 0..m {
            for column in 0..n {
                let mut sum = 0.0;
                for i in 0..k {
                    let a = a0 + if gemm.trans_a { i * m + row } else { row * k + i };
                    let b = b0 + if gemm.trans_b { column * k + i } else { i * n + column };
                    sum += f64::from(inputs[0][a]) * f64::from(inputs[1][b]);
                }
                out.push(gemm.epilogue.eval(&inputs[2..], sum, out.len(), column));
            }
        }
    }
    out
}
