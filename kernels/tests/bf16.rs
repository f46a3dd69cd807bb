//! Products of operands that are rounded to bfloat16, on the CPU against plain f64 loops.

use ganomede_kernels::conv::{Conv, Epilogue, Face, Geometry, Spread};
use ganomede_kernels::expr::{Binary, Expr, Instr};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::launch::GpuTraits;
use ganomede_kernels::{Family, Kernel, KernelError, Precision};
use half::bf16;
use proptest::prelude::*;

use crate::products::{self, FACES, relative_error, square, with_sizes};
use crate::twins;

/// Numbers that bfloat16 holds: their products are exact in f32, and only sums round.
fn rounded(kernel: &Kernel, seed: u32) -> Vec<Vec<f32>> {
    let mut inputs = products::inputs(kernel, seed);
    inputs[..2].iter_mut().flatten().for_each(|v| *v = bf16::from_f32(*v).to_f32());
    inputs
}

fn oracle(kernel: &Kernel, inputs: &[Vec<f32>]) -> Vec<f64> {
    let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    match kernel {
        Kernel::Conv(conv) => conv.oracle(&slices, &[]).remove(0),
        Kernel::Gemm(gemm) => gemm.oracle(&slices, &[]).remove(0),
        _ => unreachable!("a product"),
    }
}

/// Exact operands give what f32 gives; others lose what rounding to eight bits loses, and no more.
fn assert_rounds_operands_alone(kernel: &Kernel, seed: u32) {
    let inputs = rounded(kernel, seed);
    let got = twins::run(kernel, &inputs, 2);
    assert_eq!(got, twins::run(kernel, &inputs, 3), "threads change bits of {kernel:?}");
    let error = relative_error(&got, &oracle(kernel, &inputs));
    assert!(error < 2e-5, "{kernel:?} of rounded numbers is {error:.1e} off");
    let inputs = products::inputs(kernel, seed);
    let error = relative_error(&twins::run(kernel, &inputs, 2), &oracle(kernel, &inputs));
    assert!(error < 3e-2, "{kernel:?} is {error:.1e} off");
}

/// Shift by channel, then the larger of it and a tenth of it.
fn leaky_bias() -> Epilogue {
    let code = vec![Instr::Operand(0), Instr::Operand(1), Instr::Binary(Binary::Add, 0, 1)];
    Epilogue { operands: vec![Spread::Channel], expr: Expr { code } }
}

fn conv(face: Face, geometry: Geometry) -> Kernel {
    let epilogue = if face == Face::Weight { Epilogue::default() } else { leaky_bias() };
    Kernel::Conv(Conv { face, geometry, half: false, precision: Precision::Bf16, epilogue })
}

fn any_channels() -> impl Strategy<Value = Geometry> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    (1usize..=5, pair(16..=70), pair(1..=11), pair(1..=5), pair(1..=3), pair(0..=2), pair(0..=2), pair(1..=2))
        .prop_filter_map("the kernel fits", |(batch, [ci, co], x, kernel, stride, low, high, dilation)| {
            with_sizes(Geometry {
                batch,
                ci,
                co,
                x,
                y: [1, 1],
                kernel,
                stride,
                pad_low: low,
                pad_high: high,
                dilation,
            })
        })
}

fn any_gemm() -> impl Strategy<Value = Gemm> {
    (1usize..=3, 1usize..=140, 16usize..=90, 16usize..=700, any::<[bool; 4]>()).prop_map(
        |(batch, m, n, k, [trans_a, trans_b, batched_a, batched_b])| Gemm {
            batch,
            m,
            n,
            k,
            trans_a,
            trans_b,
            batched_a,
            batched_b,
            half_b: false,
            precision: Precision::Bf16,
            epilogue: leaky_bias(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn convolutions_round_their_operands_alone(g in any_channels(), face in 0usize..3, seed in 0u32..1000) {
        assert_rounds_operands_alone(&conv(FACES[face], g), seed);
    }

    #[test]
    fn matrix_products_round_their_operands_alone(gemm in any_gemm(), seed in 0u32..1000) {
        assert_rounds_operands_alone(&Kernel::Gemm(gemm), seed);
    }
}

/// The layers of a DCGAN, latent to features among them, and more channels than fit a step of a product.
#[test]
fn layers_of_networks_round_their_operands_alone() {
    for face in FACES {
        for g in [
            square(3, [32, 64], 16, 4, 2, 1),
            square(40, [20, 48], 8, 4, 2, 1),
            square(5, [100, 33], 4, 4, 1, 0),
            square(2, [600, 16], 4, 3, 1, 1),
            square(1, [16, 24], 33, 4, 2, 1),
        ] {
            assert_rounds_operands_alone(&conv(face, g), 7);
        }
    }
}

/// Rounding shows: the form is not f32 in disguise.
#[test]
fn what_is_rounded_differs_from_f32() {
    let rounded = Gemm {
        batch: 1,
        m: 70,
        n: 64,
        k: 96,
        trans_a: false,
        trans_b: true,
        batched_a: false,
        batched_b: false,
        half_b: false,
        precision: Precision::Bf16,
        epilogue: Epilogue::default(),
    };
    let plain = Kernel::Gemm(Gemm { precision: Precision::F32, ..rounded.clone() });
    let rounded = Kernel::Gemm(rounded);
    let inputs = products::inputs(&plain, 3);
    let [a, b] = [&plain, &rounded]
        .map(|kernel| relative_error(&twins::run(kernel, &inputs, 2), &oracle(kernel, &inputs)));
    assert!(a < 1e-5 && (1e-4..3e-2).contains(&b), "{a:.1e} in f32, {b:.1e} rounded");
    assert!(rounded.cpu_weights_len() * 2 <= plain.cpu_weights_len() + 32 * 96, "half the room");
}

/// Vectors and images of few channels stay in f32, bit for bit.
#[test]
fn what_would_leave_vectors_empty_stays_in_f32() {
    for face in FACES {
        let g = square(3, [1, 32], 16, 4, 2, 1);
        let rounded = conv(face, g);
        let Kernel::Conv(conv) = &rounded else { unreachable!("a convolution") };
        let plain = Kernel::Conv(Conv { precision: Precision::F32, ..conv.clone() });
        let inputs = products::inputs(&plain, 5);
        assert_eq!(twins::run(&rounded, &inputs, 2), twins::run(&plain, &inputs, 2));
    }
}

#[test]
fn gpus_refuse_it() {
    let kernel = conv(Face::Conv, square(1, [16, 16], 8, 4, 2, 1));
    let error = kernel.gpu(&GpuTraits::default(), None).expect_err("no such kernel");
    assert!(matches!(error, KernelError::Shape { .. }), "{error}");
    assert_eq!(error.to_string(), "conv: no GPU kernel rounds to bf16; use f32, f16, or the CPU");
    assert!(kernel.line().contains("rounded to bf16"), "{}", kernel.line());
}
