//! GPU plans of the small families without a device: shaders validate as emitted, what they
//! declare is what the plan binds, and the choice of variant is what the documentation says. Their CPU twins
//! run the same kernels.

use crate::plans::{assert_all_variants_consistent, software};
use crate::spaces::{assert_close, run_cpu};
use crate::zoo;
use crate::zoo::{Case, cases};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::moments::Moments;
use ganomede_kernels::pointwise::{Operand, Pointwise, Source};
use ganomede_kernels::reduce::{Combine, Output, Reduce};
use ganomede_kernels::{GpuTraits, Kernel, KernelError};

#[test]
fn shaders_declare_what_plans_bind() {
    cases().iter().for_each(|case| assert_all_variants_consistent(&case.kernel));
}

#[test]
fn twins_match_the_oracle() {
    for case in cases() {
        let got = run_cpu(&case.kernel, &case.inputs, &case.before);
        assert_close(&got, &case.oracle(), case.tolerance, &case.kernel);
    }
}

fn chosen(case: &Case, traits: &GpuTraits) -> &'static str {
    case.kernel.gpu(traits, None).unwrap().variant
}

#[test]
fn choice_follows_adapter_and_shape() {
    let hardware = GpuTraits::default();
    for case in zoo::pointwise() {
        let Kernel::Pointwise(k) = &case.kernel else { continue };
        let quads = k.shape.last().is_some_and(|d| d % 4 == 0);
        assert_eq!(chosen(&case, &hardware), if quads { "quads" } else { "naive" }, "{:?}", k.shape);
    }
    for case in zoo::reduce() {
        let Kernel::Reduce(k) = &case.kernel else { continue };
        let groups = k.reduced.last() == Some(&true) && k.reduced_len() >= 64;
        assert_eq!(chosen(&case, &hardware), if groups { "groups" } else { "threads" }, "{:?}", k.shape);
        assert_eq!(chosen(&case, &software()), "threads");
    }
    for case in zoo::moments() {
        let Kernel::Moments(k) = case.kernel else { continue };
        let groups = k.outer * k.inner >= 64;
        assert_eq!(chosen(&case, &hardware), if groups { "groups" } else { "threads" }, "{k:?}");
        assert_eq!(chosen(&case, &software()), "threads");
    }
    assert_eq!(zoo::copy().iter().filter(|case| chosen(case, &hardware) == "tile").count(), 2);
    assert!(zoo::copy().iter().all(|case| chosen(case, &software()) == "naive"));
}

/// Kernels that differ in numbers, and in sizes that are powers of two, share what is compiled.
#[test]
fn numbers_and_sizes_are_parameters_and_no_text() {
    let operand = |input, shape: &[usize], strides: &[usize]| {
        let len = 1 + shape.iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum::<usize>();
        Operand { source: Source::Input(input), len, strides: strides.to_vec() }
    };
    let code = |scale| {
        let scaled = Instr::Unary(Unary::Affine(Num(scale), Num(0.0)), 0);
        vec![Instr::Operand(0), Instr::Operand(1), scaled, Instr::Binary(Binary::Mul, 1, 2)]
    };
    let norm = |channels: usize, pixels: usize| {
        let shape = vec![64, channels, pixels];
        let operands =
            vec![operand(0, &shape, &[channels * pixels, pixels, 1]), operand(1, &shape, &[0, 1, 0])];
        let expr = Expr { code: code(1.0 / pixels as f32) };
        let mean = Output { reg: 3, combine: Combine::Sum, scale: Num(0.5 / pixels as f32) };
        let pointwise = Pointwise {
            shape: shape.clone(),
            operands: operands.clone(),
            expr: expr.clone(),
            outputs: vec![3],
        };
        let reduced = vec![true, false, true];
        let reduce = Reduce { shape, reduced, operands, expr, outputs: vec![mean] };
        [Kernel::Pointwise(pointwise), Kernel::Reduce(reduce)].map(|kernel| {
            let dispatches = kernel.gpu(&software(), None).unwrap().dispatches;
            let sources: Vec<_> = dispatches.iter().map(|dispatch| dispatch.source.clone()).collect();
            let params: Vec<_> = dispatches.iter().map(|dispatch| dispatch.params.clone()).collect();
            (sources, params)
        })
    };
    for (one, other) in norm(32, 64).into_iter().zip(norm(64, 32)) {
        assert_eq!(one.0, other.0);
        assert_ne!(one.1, other.1);
    }
}

/// An image's statistics must not depend on its batch, which is part of the channels of a layer norm.
#[test]
fn channels_are_cut_by_their_length_alone() {
    let plan = |channels, inner| {
        let kernel = Kernel::Moments(Moments { outer: 8, channels, inner });
        kernel.gpu(&GpuTraits { max_binding_bytes: 1 << 30, ..GpuTraits::default() }, None).unwrap()
    };
    // 2¹⁸ elements of a channel: 32 each for 256 threads of 32 segments.
    for channels in [1, 512] {
        let plan = plan(channels, 4096 * 8);
        assert_eq!((plan.dispatches.len(), plan.scratch_lens), (2, vec![3 * channels * 32]));
    }
    assert_eq!(plan(1, 1024).dispatches.len(), 1);
}

#[test]
fn unknown_variants_and_large_buffers_are_refused() {
    let small = GpuTraits { max_binding_bytes: 2, ..GpuTraits::default() };
    for case in cases() {
        let error = case.kernel.gpu(&GpuTraits::default(), Some("magic")).unwrap_err();
        assert!(error.to_string().contains("naive"), "{error}");
        assert!(matches!(case.kernel.gpu(&small, None), Err(KernelError::Limit { .. })));
    }
}
