//! Random numbers: known answers of Philox 4×32-10 and the shape of the distributions.

use crate::spaces::run_cpu;
use ganomede_kernels::random::{Distribution, Random, philox};
use ganomede_kernels::{Family, Kernel};

/// The vectors of Random123's `kat_vectors`.
#[test]
fn philox_known_answers() {
    assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    assert_eq!(
        philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

fn draw(distribution: Distribution, len: usize, stream: u32, step: f32) -> Vec<f32> {
    let k = Random { distribution, len, stream };
    let key = vec![f32::from_bits(0x1234_5678), f32::from_bits(0x9abc_def0)];
    let got = run_cpu(&Kernel::Random(k), &[key.clone(), vec![step]], &[vec![f32::NAN; len]]).remove(0);
    for (i, (&g, w)) in got.iter().zip(k.oracle(&[&key, &[step]], &[]).remove(0)).enumerate() {
        match distribution {
            Distribution::Uniform => assert_eq!(f64::from(g), w, "element {i}"),
            Distribution::Normal => assert!((f64::from(g) - w).abs() < 2e-6, "element {i}: {g}, want {w}"),
        }
    }
    got
}

#[test]
fn twins_match_the_oracle_at_every_length() {
    for len in [1, 2, 3, 4, 5, 63, 64, 65, 1000, 65_535, 65_537, 200_001] {
        draw(Distribution::Uniform, len, 7, 3.0);
        draw(Distribution::Normal, len, 7, 3.0);
    }
}

#[test]
fn moments_are_those_of_the_distributions() {
    let n = 400_000;
    let moment = |x: &[f32], p: i32| x.iter().map(|v| f64::from(*v).powi(p)).sum::<f64>() / n as f64;
    let u = draw(Distribution::Uniform, n, 0, 0.0);
    assert!(u.iter().all(|v| (0.0..1.0).contains(v)));
    assert!((moment(&u, 1) - 0.5).abs() < 2e-3 && (moment(&u, 2) - 1.0 / 3.0).abs() < 2e-3);
    let z = draw(Distribution::Normal, n, 0, 0.0);
    for (p, want, tolerance) in [(1, 0.0, 6e-3), (2, 1.0, 1e-2), (3, 0.0, 3e-2), (4, 3.0, 8e-2)] {
        assert!((moment(&z, p) - want).abs() < tolerance, "moment {p}: {}", moment(&z, p));
    }
}

#[test]
fn streams_and_steps_differ_and_prefixes_agree() {
    let base = draw(Distribution::Uniform, 100, 1, 1.0);
    assert_eq!(base[..40], draw(Distribution::Uniform, 40, 1, 1.0));
    for other in [draw(Distribution::Uniform, 100, 2, 1.0), draw(Distribution::Uniform, 100, 1, 2.0)] {
        assert!(base.iter().zip(&other).filter(|(a, b)| a == b).count() < 3);
    }
}
