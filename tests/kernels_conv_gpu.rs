//! Convolutions and matrix products on the GPU: every variant against plain f64 loops, with shader checks on.

use std::sync::LazyLock;

use ganomede::device::gpu::{Gpu, GpuChoice, GpuOptions};
use ganomede_kernels::conv::{Conv, Epilogue, Face, Geometry, Spread};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::{Kernel, Precision, half};
use proptest::prelude::*;

use crate::products::{
    FACES, any_geometry, any_halving, any_output_padding, inputs, noise, relative_error, square, with_sizes,
};

static GPU: LazyLock<Gpu> = LazyLock::new(|| {
    Gpu::open(GpuChoice::Any, GpuOptions { checked: true, ..GpuOptions::default() })
        .expect("these tests need an adapter; apt-get install mesa-vulkan-drivers")
});

/// Outputs start as NaN, so an element that no thread writes fails.
fn run(kernel: &Kernel, variant: Option<&str>, inputs: &[Vec<f32>]) -> Vec<f32> {
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    GPU.run_kernel(kernel, variant, &inputs, None).unwrap_or_else(|e| panic!("{variant:?}: {e}")).remove(0)
}

fn assert_variants_match_oracle(kernel: &Kernel, seed: u32) {
    let data = inputs(kernel, seed);
    let slices: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
    let want = kernel.oracle(&slices, &[]).remove(0);
    for variant in kernel.variants() {
        let error = relative_error(&run(kernel, Some(variant), &data), &want);
        assert!(error < 2e-5, "{variant} of {kernel:?}: relative error {error}");
    }
}

/// Leaky ReLU of scale[channel] · acc + residual · gain.
pub(crate) fn epilogue() -> Epilogue {
    let code = vec![
        Instr::Operand(0),
        Instr::Operand(1),
        Instr::Binary(Binary::Mul, 0, 1),
        Instr::Operand(2),
        Instr::Operand(3),
        Instr::Binary(Binary::Mul, 3, 4),
        Instr::Binary(Binary::Add, 2, 5),
        Instr::Unary(Unary::LeakyRelu(Num(0.2)), 6),
    ];
    Epilogue { operands: vec![Spread::Channel, Spread::Full, Spread::Scalar], expr: Expr { code } }
}

fn faces(geometry: Geometry) -> impl Iterator<Item = Kernel> {
    FACES.into_iter().map(move |face| {
        let epilogue = if face == Face::Weight { Epilogue::default() } else { epilogue() };
        Kernel::Conv(Conv { face, geometry, half: false, precision: Precision::F32, epilogue })
    })
}

fn any_gemm() -> impl Strategy<Value = Gemm> {
    let size = || prop_oneof![1usize..=9, 60usize..=68, Just(130)];
    (1usize..=3, size(), size(), prop_oneof![1usize..=40, 250usize..=270], any::<[bool; 5]>()).prop_map(
        |(batch, m, n, k, [trans_a, trans_b, batched_a, batched_b, fused])| {
            let epilogue = if fused { epilogue() } else { Epilogue::default() };
            Gemm {
                batch,
                m,
                n,
                k,
                trans_a,
                trans_b,
                batched_a,
                batched_b,
                half_b: false,
                precision: Precision::F32,
                epilogue,
            }
        },
    )
}

/// 4 × 4 kernels at stride 2, as Winograd's variant takes them.
fn any_winograd() -> impl Strategy<Value = Geometry> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range];
    (1usize..=3, pair(1..=37), pair(1..=19), pair(0..=5), pair(0..=5)).prop_filter_map(
        "kernel larger than the padded image",
        |(batch, [ci, co], x, pad_low, pad_high)| {
            with_sizes(Geometry { x, pad_low, pad_high, ..square(batch, [ci, co], 4, 4, 2, 0) })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn faces_match_the_oracle_on_halvings_of_any_side(geometry in any_halving(), seed in 0u32..1000) {
        for kernel in faces(geometry) {
            assert_variants_match_oracle(&kernel, seed);
        }
    }

    #[test]
    fn faces_match_the_oracle_with_output_padding(geometry in any_output_padding(), seed in 0u32..1000) {
        for kernel in faces(geometry) {
            assert_variants_match_oracle(&kernel, seed);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn faces_match_the_oracle_on_strided_fours(geometry in any_winograd(), seed in 0u32..1000) {
        for kernel in faces(geometry) {
            assert_variants_match_oracle(&kernel, seed);
        }
    }

    #[test]
    fn faces_match_the_oracle_on_any_geometry(geometry in any_geometry(), seed in 0u32..1000) {
        for kernel in faces(geometry) {
            assert_variants_match_oracle(&kernel, seed);
        }
    }

    #[test]
    fn products_match_the_oracle(gemm in any_gemm(), seed in 0u32..1000) {
        assert_variants_match_oracle(&Kernel::Gemm(gemm), seed);
    }
}

#[test]
fn faces_match_the_oracle_on_gan_layers() {
    for geometry in [
        square(2, [3, 16], 32, 4, 2, 1),
        square(3, [33, 70], 8, 4, 2, 1),
        // The critic's last layer and the generator's first: plain matrix products.
        square(5, [40, 2], 4, 4, 1, 0),
        square(2, [9, 12], 11, 3, 1, 1),
        // DCGAN's k5 s2 with TensorFlow's "same" padding, which is asymmetric.
        with_sizes(Geometry { pad_low: [1; 2], pad_high: [2; 2], ..square(2, [6, 10], 16, 5, 2, 2) })
            .unwrap(),
        with_sizes(Geometry {
            x: [1, 50],
            kernel: [1, 9],
            pad_low: [0, 4],
            pad_high: [0, 4],
            ..square(2, [4, 5], 9, 9, 2, 4)
        })
        .unwrap(),
    ] {
        for kernel in faces(geometry) {
            assert_variants_match_oracle(&kernel, 7);
        }
    }
}

#[test]
fn split_sums_match_the_oracle() {
    // Inner sizes of 1024 and more with small outputs: every product variant splits.
    for geometry in
        [square(16, [3, 5], 16, 4, 2, 1), square(1, [160, 6], 6, 4, 2, 1), square(1, [6, 300], 6, 4, 2, 1)]
    {
        for kernel in faces(geometry) {
            assert_variants_match_oracle(&kernel, 3);
        }
    }
    let gemm = |m, n, k| Gemm {
        batch: 1,
        m,
        n,
        k,
        trans_a: true,
        trans_b: false,
        batched_a: true,
        batched_b: true,
        half_b: false,
        precision: Precision::F32,
        epilogue: epilogue(),
    };
    for gemm in [gemm(5, 7, 2000), gemm(64, 1, 1031), gemm(1, 3, 4096)] {
        assert_variants_match_oracle(&Kernel::Gemm(gemm), 5);
    }
}

/// ⟨conv(x, w), y⟩ = ⟨x, transpose(y, w)⟩ = ⟨w, weight(x, y)⟩.
#[test]
fn faces_are_adjoint() {
    let geometry =
        with_sizes(Geometry { dilation: [2, 1], stride: [3, 2], ..square(3, [5, 20], 15, 4, 2, 2) }).unwrap();
    let (x, w, y) = (noise(1, geometry.x_len()), noise(2, geometry.w_len()), noise(3, geometry.y_len()));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let face = |face, a: &[f32], b: &[f32], variant| {
        let kernel = Kernel::Conv(Conv {
            face,
            geometry,
            half: false,
            precision: Precision::F32,
            epilogue: Epilogue::default(),
        });
        run(&kernel, Some(variant), &[a.to_vec(), b.to_vec()])
    };
    for variant in ["tile64", "tile32", "registers", "subgroups"] {
        let through_y = dot(&face(Face::Conv, &x, &w, variant), &y);
        let through_x = dot(&face(Face::Transpose, &y, &w, variant), &x);
        let through_w = dot(&face(Face::Weight, &x, &y, variant), &w);
        let size = (geometry.y_len() as f64).sqrt() * 10.0;
        assert!((through_y - through_x).abs() < 1e-6 * size, "{variant}: {through_y} {through_x}");
        assert!((through_y - through_w).abs() < 1e-6 * size, "{variant}: {through_y} {through_w}");
    }
}

/// Every variant of a kernel gives the bits with weights in halves that it gives with the same weights in
/// f32.
#[test]
fn weights_in_halves_give_the_bits_of_f32() {
    let convs = [
        square(2, [3, 5], 9, 3, 1, 1), // an odd number of weights
        square(3, [33, 70], 8, 4, 2, 1),
        square(5, [40, 2], 4, 4, 1, 0), // plain matrix products
        square(1, [6, 300], 6, 4, 2, 1),
    ];
    let convs = convs.into_iter().flat_map(|geometry| {
        [Face::Conv, Face::Transpose].map(|face| {
            [false, true].map(|half| {
                Kernel::Conv(Conv { face, geometry, half, precision: Precision::F32, epilogue: epilogue() })
            })
        })
    });
    let gemms =
        [(1, 1, 300, 33), (2, 33, 17, 5), (1, 64, 1, 257), (1, 5, 70, 300)].map(|(batch, m, n, k)| {
            [false, true].map(|half_b| {
                Kernel::Gemm(Gemm {
                    batch,
                    m,
                    n,
                    k,
                    trans_a: false,
                    trans_b: true,
                    batched_a: true,
                    batched_b: true,
                    half_b,
                    precision: Precision::F32,
                    epilogue: epilogue(),
                })
            })
        });
    for [whole, halves] in convs.chain(gemms) {
        let mut data = inputs(&whole, 5);
        let packed = half::pack(&data[1]);
        half::unpack(&packed, &mut data[1]);
        let mut in_halves = data.clone();
        in_halves[1] = packed;
        for variant in whole.variants() {
            let bits = |kernel, data| -> Vec<u32> {
                run(kernel, Some(variant), data).iter().map(|v| v.to_bits()).collect()
            };
            assert_eq!(bits(&halves, &in_halves), bits(&whole, &data), "{variant} of {halves:?}");
        }
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    for kernel in faces(square(4, [20, 24], 16, 4, 2, 1)) {
        let data = inputs(&kernel, 11);
        for variant in kernel.variants() {
            let bits = || run(&kernel, Some(variant), &data).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(), bits(), "{variant}");
        }
    }
}
