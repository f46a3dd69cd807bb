//! Products of halves on the GPU against plain f64 loops: every variant, numbers of any size, images that
//! know nothing of their neighbours. An adapter without arithmetic in halves has to refuse them.

use std::sync::LazyLock;

use ganomede::Precision;
use ganomede::device::Device;
use ganomede::device::gpu::{Gpu, GpuChoice, GpuOptions};
use ganomede_kernels::conv::{Conv, Epilogue, Face, Geometry};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::{Kernel, KernelError, half};
use proptest::prelude::*;

use crate::kernels_conv_gpu::epilogue;
use crate::products::{FACES, any_geometry, any_halving, inputs, noise, square};

static GPU: LazyLock<Gpu> = LazyLock::new(|| {
    Gpu::open(GpuChoice::Any, GpuOptions { checked: true, ..GpuOptions::default() })
        .expect("these tests need an adapter; apt-get install mesa-vulkan-drivers")
});

const VARIANTS: [&str; 2] = ["tile64_f16", "tile32_f16"];
/// Relative to the sum of absolute products: both operands within 2^-11 and, where a driver cuts digits off
/// instead of rounding, seven sums within 2^-10.
const OF_PRODUCTS: f64 = 8.0 / 1024.0;
/// What a driver may take for zero, relative to the largest number: below 2^-14 of those up to 32.
const OF_LARGEST: f64 = 1.0 / (1 << 18) as f64;

fn run(kernel: &Kernel, variant: &str, inputs: &[Vec<f32>]) -> Vec<f32> {
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    GPU.run_kernel(kernel, Some(variant), &inputs, None)
        .unwrap_or_else(|e| panic!("{variant}: {e}"))
        .remove(0)
}

fn oracle(kernel: &Kernel, inputs: &[Vec<f32>]) -> Vec<f64> {
    let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    kernel.oracle(&slices, &[]).remove(0)
}

/// The same product of absolute values, and of ones, without its tail.
fn bounds(kernel: &Kernel, inputs: &[Vec<f32>]) -> [Vec<f64>; 2] {
    let mut plain = kernel.clone();
    match &mut plain {
        Kernel::Conv(conv) => conv.epilogue = Epilogue::default(),
        Kernel::Gemm(gemm) => gemm.epilogue = Epilogue::default(),
        _ => unreachable!("a product"),
    }
    let absolute: Vec<Vec<f32>> = inputs[..2].iter().map(|x| x.iter().map(|v| v.abs()).collect()).collect();
    let ones: Vec<Vec<f32>> = inputs[..2].iter().map(|x| vec![1.0; x.len()]).collect();
    [oracle(&plain, &absolute), oracle(&plain, &ones)]
}

/// Whether the adapter has halves; where it has none, that it says so.
fn halves(kernel: &Kernel) -> bool {
    if GPU.traits().f16 {
        return true;
    }
    for variant in VARIANTS {
        let error = kernel.gpu(GPU.traits(), Some(variant)).unwrap_err();
        assert!(error.to_string().contains("halves (SHADER_F16)"), "{error}");
    }
    let error = Device::Gpu(GPU.clone()).with_precision(Precision::F16).err().expect("no halves");
    assert_eq!(error.to_string(), "this device cannot multiply in f16 (it has no SHADER_F16); use f32");
    false
}

/// Every output is as near as halves allow; no tail here makes errors larger.
fn assert_near(kernel: &Kernel, inputs: &[Vec<f32>]) {
    if !halves(kernel) {
        return;
    }
    let want = oracle(kernel, inputs);
    let [absolute, terms] = bounds(kernel, inputs);
    let largest: f64 =
        inputs[..2].iter().map(|x| x.iter().fold(0.0, |m, v| v.abs().max(m))).map(f64::from).product();
    for variant in VARIANTS {
        let got = run(kernel, variant, inputs);
        for (i, (&got, &want)) in got.iter().zip(&want).enumerate() {
            let allowed =
                OF_PRODUCTS * absolute[i] + 2.0 * OF_LARGEST * largest * terms[i] + 1e-5 * want.abs();
            let error = (f64::from(got) - want).abs();
            assert!(
                error <= allowed,
                "{variant}, {i}: {got} for {want}, allowed {allowed:.1e}, of {kernel:?}"
            );
        }
    }
}

fn conv(face: Face, geometry: Geometry) -> Kernel {
    let epilogue = if face == Face::Weight { Epilogue::default() } else { epilogue() };
    Kernel::Conv(Conv { face, geometry, half: false, precision: Precision::F16, epilogue })
}

fn gemm([batch, m, n, k]: [usize; 4], [trans_a, trans_b, batched_a, batched_b]: [bool; 4]) -> Gemm {
    let (precision, epilogue) = (Precision::F16, Epilogue::default());
    Gemm { batch, m, n, k, trans_a, trans_b, batched_a, batched_b, half_b: false, precision, epilogue }
}

/// Both operands times a power of ten.
fn scaled(mut inputs: Vec<Vec<f32>>, powers: [i32; 2]) -> Vec<Vec<f32>> {
    for (input, power) in inputs.iter_mut().zip(powers) {
        input.iter_mut().for_each(|v| *v *= 10f32.powi(power));
    }
    inputs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn faces_are_near(geometry in prop_oneof![any_geometry(), any_halving()], seed in 0u32..1000) {
        for face in FACES {
            let kernel = conv(face, geometry);
            assert_near(&kernel, &inputs(&kernel, seed));
        }
    }

    #[test]
    fn products_are_near_at_any_size_of_numbers(
        batch in 1usize..=3,
        m in prop_oneof![1usize..=9, 60usize..=68],
        n in prop_oneof![1usize..=9, 60usize..=68, Just(130)],
        k in prop_oneof![1usize..=40, 250usize..=270],
        forms in any::<[bool; 4]>(),
        powers in [-18i32..=14, -18i32..=14],
        seed in 0u32..1000,
    ) {
        let kernel = Kernel::Gemm(gemm([batch, m, n, k], forms));
        assert_near(&kernel, &scaled(inputs(&kernel, seed), powers));
    }
}

/// Gradients of a mean over millions of pixels are smaller than any half, and weights may be large.
#[test]
fn neither_small_gradients_nor_large_weights_are_lost() {
    for powers in [[-12, 0], [-25, 3], [0, 20], [9, -9]] {
        for face in FACES {
            let geometry = square(3, [20, 33], 9, 4, 2, 1);
            let kernel = Kernel::Conv(Conv {
                face,
                geometry,
                half: false,
                precision: Precision::F16,
                epilogue: Epilogue::default(),
            });
            assert_near(&kernel, &scaled(inputs(&kernel, 3), powers));
        }
    }
}

/// An image, or a row of a product, has the same bits whatever stands beside it.
#[test]
fn what_is_made_of_an_image_does_not_depend_on_the_others() {
    let geometry = square(1, [20, 40], 12, 4, 2, 1);
    for face in [Face::Conv, Face::Transpose] {
        let of = |batch| {
            Kernel::Conv(Conv {
                face,
                geometry: Geometry { batch, ..geometry },
                half: false,
                precision: Precision::F16,
                epilogue: Epilogue::default(),
            })
        };
        let alone = of(1);
        if !halves(&alone) {
            return;
        }
        let data = inputs(&alone, 7);
        let (image, len) = (&data[0], data[0].len());
        // Beside images that are a million times as large and as small.
        let [large, small] =
            [1e6, 1e-6].map(|by| noise(9, len).into_iter().map(|v| v * by).collect::<Vec<f32>>());
        let batch = [[&large[..], image, &small].concat(), data[1].clone()];
        for variant in VARIANTS {
            let (one, three) = (run(&alone, variant, &data), run(&of(3), variant, &batch));
            assert_eq!(one[..], three[one.len()..2 * one.len()], "{variant} of {face:?}");
        }
    }
    let row = Kernel::Gemm(gemm([1, 1, 70, 300], [false, true, false, false]));
    let rows = Kernel::Gemm(gemm([1, 3, 70, 300], [false, true, false, false]));
    let data = inputs(&row, 1);
    let others = [noise(2, 300), noise(3, 300)].map(|x| x.into_iter().map(|v| v * 3e4).collect::<Vec<f32>>());
    let batch = [[&others[0][..], &data[0], &others[1]].concat(), data[1].clone()];
    for variant in VARIANTS {
        assert_eq!(run(&row, variant, &data)[..], run(&rows, variant, &batch)[70..140], "{variant}");
    }
}

/// What is not finite stays so, and nothing but the outputs that it reaches becomes so.
#[test]
fn nan_and_infinity_reach_what_they_belong_to_and_zeros_give_zeros() {
    let kernel = Kernel::Gemm(gemm([1, 70, 66, 100], [false; 4]));
    if !halves(&kernel) {
        return;
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut data = inputs(&kernel, 5);
        data[0][3 * 100 + 17] = bad;
        for variant in VARIANTS {
            let got = run(&kernel, variant, &data);
            let finite = |row: usize| got[row * 66..][..66].iter().filter(|v| v.is_finite()).count();
            assert_eq!((finite(2), finite(3), finite(4)), (66, 0, 66), "{variant} with {bad}");
        }
        // Of B, whose numbers share a scale, the other columns are what they were.
        let mut data = inputs(&kernel, 5);
        let before = VARIANTS.map(|variant| run(&kernel, variant, &data));
        data[1][17 * 66 + 3] = bad;
        for (variant, before) in VARIANTS.iter().zip(&before) {
            for (i, (got, before)) in run(&kernel, variant, &data).iter().zip(before).enumerate() {
                assert!(
                    if i % 66 == 3 { !got.is_finite() } else { got == before },
                    "{variant} with {bad}, {i}"
                );
            }
        }
    }
    let mut data = inputs(&kernel, 5);
    data[0].fill(0.0);
    for variant in VARIANTS {
        assert!(run(&kernel, variant, &data).iter().all(|v| *v == 0.0), "{variant} of zeros");
    }
}

/// Weights that lie in halves already are the same numbers.
#[test]
fn weights_in_halves_are_multiplied_as_they_are() {
    let plain = gemm([1, 70, 66, 130], [false; 4]);
    let kernel = Kernel::Gemm(plain.clone());
    if !halves(&kernel) {
        return;
    }
    let mut data = inputs(&kernel, 8);
    let packed = [data[0].clone(), half::pack(&data[1])];
    half::unpack(&packed[1], &mut data[1]);
    for variant in VARIANTS {
        let kept = run(&Kernel::Gemm(Gemm { half_b: true, ..plain.clone() }), variant, &packed);
        assert_eq!(kept, run(&kernel, variant, &data), "{variant}");
    }
}

/// So that the tests above hold something where Mesa's software driver runs them.
#[test]
fn software_vulkan_has_halves() {
    let identity = GPU.identity();
    if identity.adapter.contains("llvmpipe") && identity.backend == "vulkan" {
        assert!(GPU.traits().f16, "{identity:?}");
    }
}

#[test]
fn products_in_f32_and_other_precisions_have_no_such_variants() {
    let mut product = gemm([1, 70, 66, 130], [false; 4]);
    assert!(Kernel::Gemm(product.clone()).variants().ends_with(&VARIANTS));
    product.precision = Precision::F32;
    let kernel = Kernel::Gemm(product.clone());
    assert!(kernel.variants().iter().all(|name| !VARIANTS.contains(name)));
    let error = kernel.gpu(GPU.traits(), Some(VARIANTS[0])).unwrap_err();
    assert!(matches!(error, KernelError::Variant { .. }), "{error}");
    assert!(error.to_string().ends_with("others in f16 (--precision f16)"), "{error}");
    product.precision = Precision::Bf16;
    let error = Kernel::Gemm(product).gpu(GPU.traits(), None).unwrap_err();
    assert!(error.to_string().contains("no GPU kernel rounds to bf16"), "{error}");
}
