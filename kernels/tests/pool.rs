//! Max pooling against the plain oracle: ties, padding, windows that overlap or leave gaps.

use crate::spaces::{assert_close, data, run_cpu, views};
use ganomede_kernels::Kernel;
use ganomede_kernels::pool::{Face, MaxPool};
use proptest::prelude::*;

fn run(k: MaxPool, inputs: &[Vec<f32>]) -> Vec<f32> {
    let kernel = Kernel::MaxPool(k);
    let out = run_cpu(&kernel, inputs, &[vec![f32::NAN; kernel.output_lens()[0]]]);
    assert_close(&out, &kernel.oracle(&views(inputs), &[]), 1e-6, &kernel);
    out[0].clone()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

proptest! {
    #[test]
    fn all_faces_match_the_oracle(
        planes in 1..4usize,
        x in [1..12usize, 1..12usize],
        kernel in [1..5usize, 1..5usize],
        stride in [1..5usize, 1..5usize],
        pad in [0..3usize, 0..3usize],
        dilation in [1..4usize, 1..4usize],
        levels in 1..40u32,
    ) {
        let pad_low = [pad[0].min(kernel[0] - 1), pad[1].min(kernel[1] - 1)];
        let span = |d: usize| dilation[d] * (kernel[d] - 1) + 1;
        let y = [0, 1].map(|d| (x[d] + 2 * pad_low[d]).saturating_sub(span(d)) / stride[d] + 1);
        let k = MaxPool { face: Face::Indices, planes, x, y, kernel, stride, pad_low, dilation };
        prop_assume!(Kernel::MaxPool(k).check().is_ok());
        // Few levels: most windows have ties, and the first wins.
        let values: Vec<f32> = data(planes * x[0] * x[1], 1)
            .iter()
            .map(|v| (v * levels as f32 / 4.0).round())
            .collect();
        let indices = run(k, std::slice::from_ref(&values));
        let pooled = run(MaxPool { face: Face::Gather, ..k }, &[values.clone(), indices.clone()]);
        let y = data(pooled.len(), 2);
        let spread = run(MaxPool { face: Face::Scatter, ..k }, &[y.clone(), indices]);
        // Adjoint: ⟨gather(x), y⟩ = ⟨x, scatter(y)⟩.
        prop_assert!((dot(&pooled, &y) - dot(&values, &spread)).abs() < 1e-3);
    }
}

#[test]
fn ties_padding_and_nan() {
    let k = MaxPool {
        face: Face::Indices,
        planes: 1,
        x: [3, 3],
        y: [2, 2],
        kernel: [2, 2],
        stride: [2, 2],
        pad_low: [1, 1],
        dilation: [1, 1],
    };
    // Padding is −∞: all-negative windows choose an element of the plane.
    let x = vec![-5.0, -1.0, -1.0, -2.0, f32::NAN, -3.0, -2.0, -3.0, -3.0];
    assert_eq!(run(k, &[x]), [0.0, 1.0, 3.0, 4.0]);
}

#[test]
fn faults_are_named() {
    let k = MaxPool {
        face: Face::Indices,
        planes: 1,
        x: [4, 4],
        y: [2, 2],
        kernel: [2, 2],
        stride: [2, 2],
        pad_low: [0, 0],
        dilation: [1, 1],
    };
    assert_eq!(Kernel::MaxPool(k).check(), Ok(()));
    for bad in [
        MaxPool { y: [3, 2], ..k },
        MaxPool { stride: [0, 2], ..k },
        MaxPool { pad_low: [2, 0], ..k },
        MaxPool { planes: 0, ..k },
        MaxPool { dilation: [1, 0], ..k },
        // Rows 0 and 3 around an image of rows 1 and 2.
        MaxPool { dilation: [3, 1], x: [2, 4], pad_low: [1, 0], ..k },
        MaxPool { dilation: [usize::MAX / 2, 1], ..k },
        MaxPool { x: [4097, 4097], ..k },
    ] {
        assert!(Kernel::MaxPool(bad).check().is_err(), "{bad:?}");
    }
}
