//! Pointwise twins against the f64 oracle.

use crate::spaces::{assert_close, code, data, draws, operands, run_cpu, shape, views};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::pointwise::{Operand, Pointwise, Source};
use ganomede_kernels::{Family, Kernel};
use proptest::prelude::*;
use proptest::sample::Index;

fn check(k: Pointwise) {
    let kernel = Kernel::Pointwise(k.clone());
    let inputs: Vec<Vec<f32>> = kernel.input_lens().iter().enumerate().map(|(i, &n)| data(n, i)).collect();
    let before: Vec<Vec<f32>> =
        kernel.output_lens().iter().enumerate().map(|(i, &n)| data(n, 9 + i)).collect();
    let got = run_cpu(&kernel, &inputs, &before);
    let want = k.oracle(&views(&inputs), &views(&before));
    assert_close(&got, &want, 2e-6, &kernel);
}

proptest! {
    #[test]
    fn any_space_matches_the_oracle(
        shape in shape(),
        draws in draws(4),
        expr in code(6, 10),
        outputs in prop::collection::vec(any::<Index>(), 2..4),
    ) {
        let mut operands = operands(&shape, &draws);
        let n: usize = shape.iter().product();
        let mut dense = vec![1; shape.len()];
        (1..shape.len()).rev().for_each(|d| dense[d - 1] = dense[d] * shape[d]);
        for o in 0..2 {
            operands.push(Operand { source: Source::Output(o), len: n, strides: dense.clone() });
        }
        let outputs = outputs.iter().map(|i| i.index(expr.code.len())).collect();
        check(Pointwise { shape, operands, expr, outputs });
    }
}

/// More than one task, with a row that does not divide the task.
#[test]
fn large_spaces_match_the_oracle() {
    for shape in [vec![3, 70_001], vec![40, 5, 999], vec![5000, 3, 16], vec![1, 200_003], vec![30_000, 7]] {
        let rank = shape.len();
        let expr = Expr {
            code: vec![
                Instr::Operand(0),
                Instr::Operand(1),
                Instr::Binary(Binary::Mul, 0, 1),
                Instr::Unary(Unary::LeakyRelu(Num(0.2)), 2),
            ],
        };
        // A value per index of the second last dimension, as batch norm has.
        let per_row = (0..rank).filter(|&d| d + 2 != rank).fold(0u8, |mask, d| mask | 1 << d);
        let operands = operands(&shape, &[(0, 0, 1), (per_row, 0, 1)]);
        check(Pointwise { shape, operands, expr, outputs: vec![3] });
    }
}

#[test]
fn faults_are_named() {
    let dense = Operand { source: Source::Input(0), len: 6, strides: vec![3, 1] };
    let good = Pointwise {
        shape: vec![2, 3],
        operands: vec![dense.clone()],
        expr: Expr { code: vec![Instr::Operand(0)] },
        outputs: vec![0],
    };
    assert_eq!(Kernel::Pointwise(good.clone()).check(), Ok(()));
    let fault = |edit: &dyn Fn(&mut Pointwise)| {
        let mut k = good.clone();
        edit(&mut k);
        Kernel::Pointwise(k).check().err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(fault(&|k| k.shape[0] = 3).contains("leaves its 6 elements"));
    assert!(fault(&|k| k.shape[0] = usize::MAX).contains("too large"));
    assert!(fault(&|k| k.shape[0] = 0).contains("empty"));
    assert!(fault(&|k| k.operands[0].source = Source::Input(1)).contains("without gaps"));
    assert!(fault(&|k| k.operands[0].source = Source::Output(1)).contains("in place"));
    assert!(fault(&|k| k.operands[0].strides = vec![usize::MAX, 2]).contains("leaves"));
    assert!(
        fault(&|k| k.expr.code.push(Instr::Unary(Unary::Neg, 1))).contains("reads what is not before it")
    );
    assert!(fault(&|k| k.outputs = vec![1]).contains("register 1 does not exist"));
    assert!(fault(&|k| k.outputs = vec![0; 8]).contains("at most 8"));
}
