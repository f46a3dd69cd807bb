//! The matrix product on the CPU against plain f64 loops.

use ganomede_kernels::conv::{Epilogue, Spread};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::{Family, Kernel, KernelError, Precision};
use proptest::prelude::*;

use crate::products;
use crate::twins;

fn plain(batch: usize, m: usize, n: usize, k: usize) -> Gemm {
    Gemm {
        batch,
        m,
        n,
        k,
        trans_a: false,
        trans_b: false,
        batched_a: true,
        batched_b: true,
        half_b: false,
        precision: Precision::F32,
        epilogue: Epilogue::default(),
    }
}

fn inputs(gemm: &Gemm, seed: u32) -> Vec<Vec<f32>> {
    products::inputs(&Kernel::Gemm(gemm.clone()), seed)
}

fn run(gemm: &Gemm, inputs: &[Vec<f32>], threads: usize) -> Vec<f32> {
    twins::run(&Kernel::Gemm(gemm.clone()), inputs, threads)
}

fn assert_matches_oracle(gemm: &Gemm, seed: u32) {
    let data = inputs(gemm, seed);
    let got = run(gemm, &data, 2);
    let slices: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
    let bound = 1e-6 * (gemm.k as f64).sqrt() * 8.0 + 1e-6;
    for (i, (&g, w)) in got.iter().zip(gemm.oracle(&slices, &[]).remove(0)).enumerate() {
        assert!((f64::from(g) - w).abs() <= bound * w.abs().max(1.0), "{gemm:?} at {i}: {g} is not {w}");
    }
}

fn any_gemm() -> impl Strategy<Value = Gemm> {
    (1usize..=3, [1usize..=70, 1usize..=70, 1usize..=70], any::<[bool; 4]>()).prop_map(
        |(batch, [m, n, k], [trans_a, trans_b, batched_a, batched_b])| Gemm {
            trans_a,
            trans_b,
            batched_a,
            batched_b,
            ..plain(batch, m, n, k)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn products_match_the_oracle(gemm in any_gemm(), seed in 0u32..1000) {
        assert_matches_oracle(&gemm, seed);
    }
}

/// A GAN's linear layers: latent to image features, features to one logit, and the gradients of both.
#[test]
fn linear_layers_match_the_oracle() {
    for (m, n, k) in [
        (64, 1031, 100),
        (64, 1, 1031),
        (64, 100, 1031),
        (100, 1031, 64),
        (1, 1031, 100),
        (1, 1, 2049),
        (37, 45, 700),
    ] {
        for flip in 0..4 {
            let gemm = Gemm { trans_a: flip & 1 == 1, trans_b: flip & 2 == 2, ..plain(1, m, n, k) };
            assert_matches_oracle(&gemm, 5);
        }
    }
}

/// A bias by column, a full operand, and leaky ReLU.
fn tail() -> Epilogue {
    let code = vec![
        Instr::Operand(0),
        Instr::Operand(1),
        Instr::Binary(Binary::Add, 0, 1),
        Instr::Operand(2),
        Instr::Binary(Binary::Mul, 2, 3),
        Instr::Unary(Unary::LeakyRelu(Num(0.1)), 4),
    ];
    Epilogue { operands: vec![Spread::Channel, Spread::Full], expr: Expr { code } }
}

#[test]
fn epilogue_channels_are_columns() {
    for (batch, m, n, k) in
        [(2, 7, 13, 5), (1, 65, 33, 9), (3, 1, 40, 4), (2, 1, 600, 4), (2, 40, 1, 300), (1, 300, 1, 5)]
    {
        assert_matches_oracle(&Gemm { epilogue: tail(), ..plain(batch, m, n, k) }, 9);
    }
}

/// A B that is packed slab by slab for many blocks of rows: slabs add up, the tail comes once, and a row has
/// the bits that it has in a product of few rows, which packs no slabs.
#[test]
fn slabs_of_b_add_up() {
    for (batch, batched_b, m, k) in [(1, true, 260, 530), (2, false, 130, 300), (2, true, 520, 257)] {
        let gemm = Gemm { batched_b, epilogue: tail(), ..plain(batch, m, 1030, k) };
        assert_matches_oracle(&gemm, 7);
        let data = inputs(&gemm, 7);
        let few = Gemm { batch: 1, m: 3, ..gemm.clone() };
        let last = batch * m - 3;
        let mut of_few = data.clone();
        of_few[0] = data[0][last * k..].to_vec();
        of_few[1] = data[1][data[1].len() - k * 1030..].to_vec();
        of_few[3] = data[3][last * 1030..].to_vec();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&run(&gemm, &data, 2)[last * 1030..]), bits(&run(&few, &of_few, 2)), "{gemm:?}");
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_repetition() {
    for (batch, m, n, k) in [(1, 64, 300, 100), (1, 64, 1, 2000), (3, 50, 20, 70), (1, 3, 5, 5000)] {
        let gemm = plain(batch, m, n, k);
        let data = inputs(&gemm, 3);
        let one: Vec<u32> = run(&gemm, &data, 1).into_iter().map(f32::to_bits).collect();
        for threads in [1, 2, 3] {
            let again: Vec<u32> = run(&gemm, &data, threads).into_iter().map(f32::to_bits).collect();
            assert_eq!(one, again, "{gemm:?} on {threads} threads");
        }
    }
}

/// Blocks of rows, tiles and panels that are not whole, and a packed A beside one that is read where it lies.
#[test]
fn large_products_match_the_oracle() {
    for (batch, m, n, k) in [(1, 131, 259, 300), (2, 67, 130, 513), (3, 515, 33, 40), (5, 1, 300, 257)] {
        for flip in 0..4 {
            for batched_b in [false, true] {
                let (trans_a, trans_b) = (flip & 1 == 1, flip & 2 == 2);
                let gemm = Gemm { trans_a, trans_b, batched_b, ..plain(batch, m, n, k) };
                assert_matches_oracle(&gemm, 7);
            }
        }
    }
}

#[test]
fn weights_that_can_be_kept_are_named() {
    let kept = |gemm: Gemm| Kernel::Gemm(gemm).cpu_weights_len();
    assert_eq!(kept(Gemm { batched_b: false, ..plain(2, 7, 33, 5) }), 5 * 64);
    assert_eq!(kept(plain(2, 7, 33, 5)), 0, "a B for each product");
    assert_eq!(kept(Gemm { batched_b: false, ..plain(1, 7, 1, 5) }), 0, "a single column");
    assert_eq!(kept(Gemm { batched_b: false, half_b: true, ..plain(1, 7, 33, 5) }), 0, "halves");
}

#[test]
fn what_does_not_fit_is_refused() {
    let empty = Kernel::Gemm(plain(1, 0, 2, 3)).check();
    assert!(matches!(empty, Err(KernelError::Shape { what, .. }) if what.contains("m must be")));
    let huge = Kernel::Gemm(plain(1 << 20, 1 << 20, 1 << 20, 1 << 20)).check();
    assert!(matches!(huge, Err(KernelError::Shape { what, .. }) if what.contains("2^32")));
}
