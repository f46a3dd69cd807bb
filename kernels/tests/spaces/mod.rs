//! Iteration spaces, operands and data that tests draw from, and how results are compared.

#![allow(dead_code, reason = "each test file uses its part")]

use ganomede_kernels::Kernel;
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::pointwise::{Operand, Source};
use proptest::prelude::*;
use proptest::sample::Index;

/// Shapes of rank 0–4 with awkward sizes.
pub(crate) fn shape() -> impl Strategy<Value = Vec<usize>> {
    let small = prop::sample::select(vec![1usize, 2, 3, 4, 5, 7, 8, 9]);
    let large = prop::sample::select(vec![1usize, 16, 17, 31, 63, 64, 127, 128, 129, 257, 1023, 1025]);
    (prop::collection::vec(small, 0..4), prop::option::of(large), any::<Index>()).prop_map(
        |(mut shape, large, at)| {
            if let Some(large) = large {
                shape.insert(at.index(shape.len() + 1), large);
            }
            shape
        },
    )
}

/// Strides of an operand over `shape`: dimensions where `broadcast` is set stay still, the others are dense
/// in an order rotated by `turn` and spaced by `gap`. Returns the strides and the length of the buffer.
pub(crate) fn strides(shape: &[usize], broadcast: u8, turn: usize, gap: usize) -> (Vec<usize>, usize) {
    let rank = shape.len();
    let mut strides = vec![0; rank];
    let mut step = gap;
    for i in 0..rank {
        let d = (2 * rank - 1 - i + turn) % rank;
        if broadcast >> d & 1 == 0 {
            strides[d] = step;
            step *= shape[d];
        }
    }
    let last: usize = shape.iter().zip(&strides).map(|(d, s)| (d - 1) * s).sum();
    (strides, last + 1)
}

/// An operand's draw: dense, broadcast in some dimensions, or turned and spaced.
pub(crate) fn draws(
    n: impl Into<prop::collection::SizeRange>,
) -> impl Strategy<Value = Vec<(u8, usize, usize)>> {
    let one = prop_oneof![
        3 => Just((0u8, 0usize, 1usize)),
        3 => any::<u8>().prop_map(|b| (b, 0, 1)),
        1 => Just((255u8, 0, 1)),
        1 => (any::<u8>(), 0..4usize, 1..3usize),
    ];
    prop::collection::vec(one, n)
}

/// Operand `i` reads input `i`.
pub(crate) fn operands(shape: &[usize], draws: &[(u8, usize, usize)]) -> Vec<Operand> {
    draws
        .iter()
        .enumerate()
        .map(|(i, &(broadcast, turn, gap))| {
            let (strides, len) = strides(shape, broadcast, turn, gap);
            Operand { source: Source::Input(i), len, strides }
        })
        .collect()
}

/// Straight-line code of well-behaved operations over `operands` operands.
pub(crate) fn code(operands: usize, len: usize) -> impl Strategy<Value = Expr> {
    prop::collection::vec((0..9usize, any::<Index>(), any::<Index>()), len).prop_map(move |picks| {
        let mut expr = Expr { code: (0..operands).map(Instr::Operand).collect() };
        expr.push(Instr::Const(Num(0.75)));
        for (op, a, b) in picks {
            let (a, b) = (a.index(expr.code.len()), b.index(expr.code.len()));
            expr.push(match op {
                0 => Instr::Unary(Unary::Tanh, a),
                1 => Instr::Unary(Unary::Affine(Num(0.5), Num(-0.25)), a),
                2 => Instr::Unary(Unary::LeakyRelu(Num(0.2)), a),
                3 => Instr::Unary(Unary::Neg, a),
                4 => Instr::Unary(Unary::Sigmoid, a),
                5 => Instr::Binary(Binary::Add, a, b),
                6 => Instr::Binary(Binary::Max, a, b),
                // Chosen by an operand or the constant, which are the same number in f32 and f64.
                7 => Instr::Select(b % (operands + 1), a, b),
                _ => Instr::Binary(Binary::Sub, a, b),
            });
        }
        expr
    })
}

/// Numbers in [−2, 2) that differ from buffer to buffer.
pub(crate) fn data(len: usize, buffer: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9u32.wrapping_mul(buffer as u32 + 1) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as f32 / (1 << 22) as f32 - 2.0
        })
        .collect()
}

/// Runs the CPU twin on pools of one and of two threads, checks that both give the same bits, and returns the
/// outputs.
pub(crate) fn run_cpu(kernel: &Kernel, inputs: &[Vec<f32>], before: &[Vec<f32>]) -> Vec<Vec<f32>> {
    kernel.check().unwrap_or_else(|e| panic!("{e}: {kernel:?}"));
    assert_eq!(kernel.input_lens(), inputs.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(kernel.output_lens(), before.iter().map(Vec::len).collect::<Vec<_>>());
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let run = |threads: usize| {
        let mut outputs = before.to_vec();
        let mut scratch = vec![f32::NAN; kernel.cpu_scratch_len(threads)];
        let mut views: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        kernel.cpu(&inputs, &mut views, &mut scratch);
        outputs
    };
    let (one, two) = (run(1), run(2));
    let bits =
        |v: &[Vec<f32>]| v.iter().map(|o| o.iter().map(|x| x.to_bits()).collect()).collect::<Vec<Vec<u32>>>();
    assert_eq!(bits(&one), bits(&two), "bits depend on the threads: {kernel:?}");
    one
}

/// Buffers as slices.
pub(crate) fn views(buffers: &[Vec<f32>]) -> Vec<&[f32]> {
    buffers.iter().map(Vec::as_slice).collect()
}

/// Every value within `relative` of the oracle's, measured against 1 + |value|.
pub(crate) fn assert_close(got: &[Vec<f32>], want: &[Vec<f64>], relative: f64, kernel: &Kernel) {
    assert_eq!(got.len(), want.len());
    for (o, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.len(), want.len());
        for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
            let close = (f64::from(g) - w).abs() <= relative * (1.0 + w.abs());
            assert!(close || (g.is_nan() && w.is_nan()), "output {o} element {i}: {g}, want {w}\n{kernel:?}");
        }
    }
}
