//! Mean and variance against the f64 oracle.

use crate::spaces::{assert_close, data, run_cpu};
use ganomede_kernels::moments::Moments;
use ganomede_kernels::{Family, Kernel};
use proptest::prelude::*;

fn check(k: Moments, shift: f32) {
    let x: Vec<f32> = data(k.outer * k.channels * k.inner, 3).iter().map(|v| v + shift).collect();
    let before = [vec![f32::NAN; k.channels], vec![f32::NAN; k.channels]];
    let got = run_cpu(&Kernel::Moments(k), std::slice::from_ref(&x), &before);
    let want = k.oracle(&[&x], &[]);
    assert_close(&got, &want, 2e-6, &Kernel::Moments(k));
}

proptest! {
    #[test]
    fn any_view_matches_the_oracle(outer in 1..20usize, channels in 1..40usize, inner in 1..300usize) {
        check(Moments { outer, channels, inner }, 0.0);
    }

    #[test]
    fn columns_match_the_oracle(outer in 1..200usize, channels in 1..200usize) {
        check(Moments { outer, channels, inner: 1 }, 0.0);
    }
}

#[test]
fn large_views_match_the_oracle() {
    for (outer, channels, inner) in
        [(1, 3, 200_003), (64, 2, 4096), (70_001, 5, 3), (64, 128, 16), (3000, 130, 1)]
    {
        check(Moments { outer, channels, inner }, 0.0);
    }
}

/// E[x²] − E[x]² would lose all digits here.
#[test]
fn a_large_mean_does_not_harm_the_variance() {
    for (outer, channels, inner) in [(64, 20, 100), (64, 20, 1), (64, 2, 4096)] {
        check(Moments { outer, channels, inner }, 4096.0);
    }
}
