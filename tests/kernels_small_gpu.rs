//! Every variant of the small families on whatever adapter answers, against the f64 oracle; twice, for equal
//! bits.

use crate::batches;
use crate::zoo;
use std::sync::Arc;

use crate::spaces::{assert_close, views};
use crate::zoo::Case;
use ganomede::device::gpu::{Gpu, GpuChoice, GpuOptions};
use ganomede::tune::{relative_error, tolerance};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::pointwise::{Operand, Pointwise, Source};
use ganomede_kernels::sparse::{Matrix, Sparse};
use ganomede_kernels::{Kernel, Precision, Size, ladders};

fn open() -> Gpu {
    Gpu::open(GpuChoice::Any, GpuOptions { checked: true, ..GpuOptions::default() })
        .expect("these tests need an adapter; apt-get install mesa-vulkan-drivers")
}

fn bits(outputs: &[Vec<f32>]) -> Vec<Vec<u32>> {
    outputs.iter().map(|o| o.iter().map(|v| v.to_bits()).collect()).collect()
}

fn check(cases: Vec<Case>) {
    let gpu = open();
    for case in cases {
        let want = case.oracle();
        for variant in case.kernel.variants() {
            let run = || {
                gpu.run_kernel(&case.kernel, Some(variant), &views(&case.inputs), Some(&views(&case.before)))
                    .unwrap_or_else(|e| panic!("{variant} of {:?}: {e}", case.kernel))
            };
            let got = run();
            println!("{variant} of {}", case.kernel.name());
            assert_close(&got, &want, case.tolerance, &case.kernel);
            assert_eq!(bits(&got), bits(&run()), "{variant} differs from run to run: {:?}", case.kernel);
        }
    }
}

/// Whatever family is in the list: each variant on the kernel that shows it.
#[test]
fn samples() {
    let gpu = open();
    for ladder in ladders() {
        for variant in ladder.variants {
            let kernel = Kernel::sample(ladder, variant.name, Size::Small).expect("a rung has a sample");
            let (inputs, before) = kernel.sample_data(3);
            let want = kernel.oracle(&views(&inputs), &views(&before));
            let got = gpu.run_kernel(&kernel, Some(variant.name), &views(&inputs), Some(&views(&before)));
            if kernel.family().precision() == Precision::F16 && !gpu.traits().f16 {
                assert!(got.unwrap_err().to_string().contains("halves (SHADER_F16)"), "{}", variant.name);
                continue;
            }
            let got = got.unwrap_or_else(|e| panic!("{} of {kernel:?}: {e}", variant.name));
            let (error, _) = relative_error(&got, &want);
            assert!(error <= tolerance(&kernel), "{} of {kernel:?} is wrong by {error}", variant.name);
        }
    }
}

#[test]
fn pointwise() {
    check(zoo::pointwise());
}

#[test]
fn functions() {
    check(zoo::functions());
}

#[test]
fn reduce() {
    check(zoo::reduce());
}

#[test]
fn moments() {
    check(zoo::moments());
}

#[test]
fn copy() {
    check(zoo::copy());
}

#[test]
fn pool() {
    check(zoo::pool());
}

#[test]
fn sparse() {
    check(zoo::sparse());
}

/// Shaders that run without checks are begun by an empty dispatch, which binds as much as the largest table
/// takes.
#[test]
fn tables_of_many_kilobytes_run_without_shader_checks() {
    let gpu = Gpu::open(GpuChoice::Any, GpuOptions::default()).expect("an adapter");
    let row = |row: usize| vec![(row, 0.5), (row * 7 % 1500, 0.25)];
    let matrix = Arc::new(Matrix::new(1500, (0..1500).map(row)));
    let kernel = Kernel::Sparse(Sparse { outer: 2, inner: 3, matrix });
    let (inputs, _) = kernel.sample_data(3);
    let got = gpu.run_kernel(&kernel, None, &views(&inputs), None).unwrap_or_else(|e| panic!("{e}"));
    let (error, _) = relative_error(&got, &kernel.oracle(&views(&inputs), &[]));
    assert!(error <= tolerance(&kernel), "wrong by {error}");
}

/// Uniform numbers have no tolerance: the same bits as in f64, and so as on the CPU.
#[test]
fn random() {
    check(zoo::random());
}

/// Large arguments overflow nowhere inside, and a NaN passes wherever it must be seen.
#[test]
fn extremes() {
    let gpu = open();
    let x = [-1e30f32, -200.0, -89.0, -20.0, 0.0, 20.0, 89.0, 200.0, 1e30];
    let run = |op: Instr, x: &[f32]| {
        let n = x.len();
        let kernel = Kernel::Pointwise(Pointwise {
            shape: vec![n],
            operands: vec![Operand { source: Source::Input(0), len: n, strides: vec![1] }],
            expr: Expr { code: vec![Instr::Operand(0), Instr::Const(Num(0.0)), op] },
            outputs: vec![2],
        });
        gpu.run_kernel(&kernel, Some("naive"), &[x], None).unwrap().remove(0)
    };
    for op in [Unary::Tanh, Unary::Sigmoid, Unary::Softplus] {
        for (x, got) in x.iter().zip(run(Instr::Unary(op, 0), &x)) {
            let want = op.eval(f64::from(*x));
            assert!(
                (f64::from(got) - want).abs() <= 1e-5 * want.abs().max(1e-30),
                "{op:?}({x}) = {got}, want {want}"
            );
        }
    }
    let slope = Num(0.2);
    for op in
        [Unary::Relu, Unary::LeakyRelu(slope), Unary::Clamp(Num(-1.0), Num(1.0)), Unary::Tanh, Unary::Square]
    {
        assert!(run(Instr::Unary(op, 0), &[f32::NAN])[0].is_nan(), "{op:?}");
    }
    // Register 1 is the constant 0: what is not chosen leaves no trace.
    assert!(run(Instr::Select(0, 0, 1), &[f32::NAN])[0].is_nan(), "NaN is not 0");
    assert_eq!(run(Instr::Select(1, 0, 1), &[f32::NAN, f32::INFINITY]), [0.0; 2]);
    assert_eq!(run(Instr::Select(0, 1, 0), &[f32::INFINITY, 1e-30, -1.0]), [0.0; 3]);
    for op in [Binary::Max, Binary::Min, Binary::Add] {
        assert!(run(Instr::Binary(op, 0, 1), &[f32::NAN])[0].is_nan(), "{op:?}");
        assert!(run(Instr::Binary(op, 1, 0), &[f32::NAN])[0].is_nan(), "{op:?}");
    }
}

/// Small arguments keep their digits: an error of tanh is measured against its value, not against 1.
#[test]
fn tanh_keeps_its_digits_near_zero() {
    let gpu = open();
    let x: Vec<f32> = (0..4000).map(|i| 10f32.powf(i as f32 / 500.0 - 7.0) * [1.0, -1.0][i % 2]).collect();
    let kernel = Kernel::Pointwise(Pointwise {
        shape: vec![x.len()],
        operands: vec![Operand { source: Source::Input(0), len: x.len(), strides: vec![1] }],
        expr: Expr { code: vec![Instr::Operand(0), Instr::Unary(Unary::Tanh, 0)] },
        outputs: vec![1],
    });
    let got = gpu.run_kernel(&kernel, None, &[&x], None).unwrap().remove(0);
    for (x, got) in x.iter().zip(got) {
        let want = f64::from(*x).tanh();
        assert!((f64::from(got) - want).abs() <= 5e-7 * want.abs(), "tanh({x}) = {got}, want {want}");
    }
}

/// What a compiler would fold to a number is none where an operand is none.
#[test]
fn equal_and_opposite_operands_that_are_no_numbers_give_none() {
    let gpu = open();
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.0];
    let run = |code: &[Instr]| {
        let kernel = Kernel::Pointwise(Pointwise {
            shape: vec![x.len()],
            operands: vec![Operand { source: Source::Input(0), len: x.len(), strides: vec![1] }],
            expr: Expr { code: code.to_vec() },
            outputs: vec![code.len() - 1],
        });
        gpu.run_kernel(&kernel, None, &[&x], None).unwrap().remove(0)
    };
    use Binary::{Add, Div, Sub};
    let negative = Instr::Unary(Unary::Neg, 0);
    for (code, of_three) in [
        (vec![Instr::Operand(0), Instr::Binary(Sub, 0, 0)], 0.0),
        (vec![Instr::Operand(0), Instr::Binary(Div, 0, 0)], 1.0),
        (vec![Instr::Operand(0), negative, Instr::Binary(Add, 0, 1)], 0.0),
        // (x + 1) - x
        (
            vec![
                Instr::Operand(0),
                Instr::Const(Num(1.0)),
                Instr::Binary(Add, 0, 1),
                Instr::Binary(Sub, 2, 0),
            ],
            1.0,
        ),
    ] {
        let got = run(&code);
        assert!(got[..3].iter().all(|v| v.is_nan()), "{code:?} of {x:?} is {got:?}");
        assert_eq!(got[3], of_three, "{code:?}");
    }
}

/// On one adapter an image has the same bits in any batch and at any place in it.
#[test]
fn an_image_has_the_same_bits_in_any_batch() {
    let gpu = open();
    let run = |kernel: &Kernel, inputs: &[&[f32]]| {
        gpu.run_kernel(kernel, None, inputs, None).unwrap_or_else(|e| panic!("{kernel:?}: {e}"))
    };
    let compared: usize = batches::cases().iter().map(|case| case.check(run)).sum();
    assert!(compared > 20_000, "{compared} comparisons");
}
