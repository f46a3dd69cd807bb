//! Reductions against the f64 oracle.

use crate::spaces::{assert_close, code, data, draws, operands, run_cpu, shape, views};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::reduce::{Combine, Output, Reduce};
use ganomede_kernels::{Family, Kernel};
use proptest::prelude::*;
use proptest::sample::Index;

fn check(k: Reduce) {
    let kernel = Kernel::Reduce(k.clone());
    let inputs: Vec<Vec<f32>> = kernel.input_lens().iter().enumerate().map(|(i, &n)| data(n, i)).collect();
    let before: Vec<Vec<f32>> = kernel.output_lens().iter().map(|&n| vec![f32::NAN; n]).collect();
    let got = run_cpu(&kernel, &inputs, &before);
    let mut want = k.oracle(&views(&inputs), &[]);
    // Rounding grows with the sum of magnitudes: measured against one unit in each element summed.
    let mut got = got;
    for ((got, want), o) in got.iter_mut().zip(&mut want).zip(&k.outputs) {
        if o.combine == Combine::Sum {
            let scale = (k.shape.iter().product::<usize>() / k.kept()) as f64 * f64::from(o.scale.0).abs();
            got.iter_mut().for_each(|v| *v = (f64::from(*v) / scale.max(1.0)) as f32);
            want.iter_mut().for_each(|v| *v /= scale.max(1.0));
        }
    }
    assert_close(&got, &want, 2e-6, &kernel);
}

fn output(reg: usize, combine: Combine) -> Output {
    Output { reg, combine, scale: Num(0.5) }
}

proptest! {
    #[test]
    fn any_axes_match_the_oracle(
        shape in shape(),
        reduced in any::<u8>(),
        draws in draws(3),
        expr in code(3, 6),
        outputs in prop::collection::vec((any::<Index>(), any::<bool>()), 1..4),
    ) {
        let operands = operands(&shape, &draws);
        let reduced = (0..shape.len()).map(|d| reduced >> d & 1 == 1).collect();
        let outputs = outputs
            .iter()
            .map(|(reg, max)| {
                output(reg.index(expr.code.len()), if *max { Combine::Max } else { Combine::Sum })
            })
            .collect();
        check(Reduce { shape, reduced, operands, expr, outputs });
    }
}

/// Full sums, per-sample, per-channel and per-column sums with several tasks and segments, two outputs in one
/// pass.
#[test]
fn large_spaces_match_the_oracle() {
    let r = true;
    for (shape, reduced) in [
        (vec![700_001], vec![r]),
        (vec![5, 99_991], vec![false, r]),
        (vec![16, 37, 257], vec![r, false, r]),
        (vec![64, 5, 4, 4], vec![r, false, r, r]),
        (vec![40_000, 8], vec![r, false]),
        (vec![301, 1025], vec![r, false]),
        (vec![200_000, 3], vec![r, false]),
        (vec![9000, 10], vec![false, r]),
        (vec![20, 30, 77, 5], vec![false, r, false, r]),
    ] {
        let expr = Expr {
            code: vec![
                Instr::Operand(0),
                Instr::Operand(1),
                Instr::Binary(Binary::Mul, 0, 1),
                Instr::Unary(Unary::Square, 0),
            ],
        };
        let kept_only = (0..shape.len()).filter(|&d| reduced[d]).fold(0u8, |mask, d| mask | 1 << d);
        let operands = operands(&shape, &[(0, 0, 1), (kept_only, 0, 1)]);
        let outputs = vec![output(2, Combine::Sum), output(3, Combine::Sum), output(0, Combine::Max)];
        check(Reduce { shape, reduced, operands, expr, outputs });
    }
}

#[test]
fn a_long_sum_keeps_its_digits() {
    let n = 3_000_000;
    let k = Reduce {
        shape: vec![n],
        reduced: vec![true],
        operands: operands(&[n], &[(0, 0, 1)]),
        expr: Expr { code: vec![Instr::Operand(0)] },
        outputs: vec![Output { reg: 0, combine: Combine::Sum, scale: Num(1.0) }],
    };
    let got = run_cpu(&Kernel::Reduce(k), &[vec![0.1; n]], &[vec![0.0]]);
    let want = f64::from(0.1f32) * n as f64;
    assert!((f64::from(got[0][0]) - want).abs() < 1e-6 * want, "{} {want}", got[0][0]);
}

#[test]
fn nan_reaches_the_maximum() {
    for at in [0, 5, 130, 1999] {
        let mut x = data(2000, 1);
        x[at] = f32::NAN;
        for reduced in [vec![true, true], vec![false, true], vec![true, false]] {
            let k = Reduce {
                shape: vec![2, 1000],
                operands: operands(&[2, 1000], &[(0, 0, 1)]),
                expr: Expr { code: vec![Instr::Operand(0)] },
                outputs: vec![Output { reg: 0, combine: Combine::Max, scale: Num(1.0) }],
                reduced,
            };
            let kernel = Kernel::Reduce(k);
            let n = kernel.output_lens()[0];
            let got = run_cpu(&kernel, std::slice::from_ref(&x), &[vec![0.0; n]]);
            assert_eq!(got[0].iter().filter(|v| v.is_nan()).count(), 1);
        }
    }
}

#[test]
fn faults_are_named() {
    let k = Reduce {
        shape: vec![4],
        reduced: vec![],
        operands: operands(&[4], &[(0, 0, 1)]),
        expr: Expr { code: vec![Instr::Operand(0)] },
        outputs: vec![output(0, Combine::Sum)],
    };
    assert!(Kernel::Reduce(k).check().is_err_and(|e| e.to_string().contains("0 reduction marks")));
}
