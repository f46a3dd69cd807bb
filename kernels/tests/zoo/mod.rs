//! Kernels of the small families with awkward shapes, their data and their oracle: what both devices are
//! tested on.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use crate::spaces::{data, strides, views};
use ganomede_kernels::Kernel;
use ganomede_kernels::copy::{Copy, CopyPart};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::moments::Moments;
use ganomede_kernels::pointwise::{Operand, Pointwise, Source};
use ganomede_kernels::pool::{Face, MaxPool};
use ganomede_kernels::random::{Distribution, Random};
use ganomede_kernels::reduce::{Combine, Output, Reduce};
use ganomede_kernels::sparse::{Matrix, Sparse};

/// A kernel with everything that a run needs.
pub(crate) struct Case {
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Vec<Vec<f32>>,
    pub(crate) before: Vec<Vec<f32>>,
    /// Largest error, relative to 1 + |value|.
    pub(crate) tolerance: f64,
}

impl Case {
    fn new(kernel: Kernel, tolerance: f64) -> Self {
        let inputs = kernel.input_lens().iter().enumerate().map(|(i, &n)| data(n, i)).collect();
        let before = kernel.output_lens().iter().enumerate().map(|(i, &n)| data(n, 9 + i)).collect();
        Self { kernel, inputs, before, tolerance }
    }

    /// The outputs in f64.
    pub(crate) fn oracle(&self) -> Vec<Vec<f64>> {
        self.kernel.oracle(&views(&self.inputs), &views(&self.before))
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [pointwise(), functions(), reduce(), moments(), copy(), pool(), sparse(), random()]
        .into_iter()
        .flatten()
        .collect()
}

fn operands(shape: &[usize], draws: &[(u8, usize, usize)]) -> Vec<Operand> {
    let one = |(i, &(broadcast, turn, gap))| {
        let (strides, len) = strides(shape, broadcast, turn, gap);
        Operand { source: Source::Input(i), len, strides }
    };
    draws.iter().enumerate().map(one).collect()
}

/// Dense, per-channel, scalar, turned and in-place operands in one expression with two outputs.
pub(crate) fn pointwise() -> Vec<Case> {
    let shapes = [
        vec![],
        vec![1],
        vec![5],
        vec![4096],
        vec![70_003],
        vec![3, 5, 16],
        vec![3, 5, 17],
        vec![2, 3, 4, 8],
        vec![64, 20, 64],
        vec![7, 1, 3, 2, 12],
        vec![300, 4],
    ];
    let build = |shape: Vec<usize>| {
        let rank = shape.len();
        // All but the second last dimension, all but the last, and all.
        let per_row = (0..rank).filter(|&d| d + 2 != rank).fold(0u8, |mask, d| mask | 1 << d);
        let per_column = (0..rank).filter(|&d| d + 1 != rank).fold(0u8, |mask, d| mask | 1 << d);
        let mut operands =
            operands(&shape, &[(0, 0, 1), (per_row, 0, 1), (per_column, 0, 1), (255, 0, 1), (0, 1, 2)]);
        let n: usize = shape.iter().product();
        operands.push(Operand { source: Source::Output(1), len: n, strides: strides(&shape, 0, 0, 1).0 });
        let mut expr = Expr { code: (0..6).map(Instr::Operand).collect() };
        let mut last = expr.push(Instr::Binary(Binary::Mul, 0, 1));
        for o in 2..5 {
            last = expr.push(Instr::Binary(Binary::Add, last, o));
        }
        let leaky = expr.push(Instr::Unary(Unary::LeakyRelu(Num(0.2)), last));
        let next = expr.push(Instr::Binary(Binary::Sub, leaky, 5));
        Case::new(Kernel::Pointwise(Pointwise { shape, operands, expr, outputs: vec![leaky, next] }), 1e-5)
    };
    shapes.into_iter().map(build).collect()
}

/// Every operation over [−2, 2); logarithm and root of its magnitude.
pub(crate) fn functions() -> Vec<Case> {
    let n = Num;
    let unaries = [
        Unary::Neg,
        Unary::Recip,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Abs,
        Unary::Sign,
        Unary::Square,
        Unary::Relu,
        Unary::LeakyRelu(n(0.2)),
        Unary::LeakyMask(n(0.2)),
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Softplus,
        Unary::Affine(n(2.0), n(-3.0)),
        Unary::Clamp(n(-1.5), n(0.5)),
        Unary::ClampMask(n(-1.5), n(0.5)),
        Unary::Step,
    ];
    let binaries = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Max,
        Binary::Min,
        Binary::Pow,
        Binary::Greater,
        Binary::Equal,
    ];
    let case = |code: Vec<Instr>| {
        let (shape, inputs) = (vec![1000], if matches!(code[1], Instr::Operand(1)) { 2 } else { 1 });
        let operands = operands(&shape, &vec![(0, 0, 1); inputs]);
        let outputs = vec![code.len() - 1];
        Case::new(Kernel::Pointwise(Pointwise { shape, operands, expr: Expr { code }, outputs }), 1e-5)
    };
    let unary = |op| {
        let positive = matches!(op, Unary::Log | Unary::Sqrt);
        let first = Instr::Unary(if positive { Unary::Abs } else { Unary::Affine(Num(1.0), Num(0.0)) }, 0);
        case(vec![Instr::Operand(0), first, Instr::Unary(op, 1)])
    };
    // Powers of magnitudes.
    let binary = |op| {
        let (a, magnitude) = if op == Binary::Pow { (2, true) } else { (0, false) };
        let mut code = vec![Instr::Operand(0), Instr::Operand(1)];
        code.extend(magnitude.then_some(Instr::Unary(Unary::Abs, 0)));
        code.push(Instr::Binary(op, a, 1));
        case(code)
    };
    let above = Instr::Binary(Binary::Greater, 0, 1);
    let select = case(vec![Instr::Operand(0), Instr::Operand(1), above, Instr::Select(2, 0, 1)]);
    unaries.into_iter().map(unary).chain(binaries.into_iter().map(binary)).chain([select]).collect()
}

/// Every place of the kept dimensions; Σ a·b, Σ a² and max a at once.
pub(crate) fn reduce() -> Vec<Case> {
    let r = true;
    let spaces = [
        (vec![], vec![]),
        (vec![7], vec![false]),
        (vec![1], vec![r]),
        (vec![100_003], vec![r]),
        (vec![5, 9_991], vec![false, r]),
        (vec![130, 64], vec![false, r]),
        (vec![16, 37, 257], vec![r, false, r]),
        (vec![64, 5, 4, 4], vec![r, false, r, r]),
        (vec![4_000, 8], vec![r, false]),
        (vec![301, 1025], vec![r, false]),
        (vec![900, 10], vec![false, r]),
        (vec![20, 30, 7, 5], vec![false, r, false, r]),
    ];
    let build = |(shape, reduced): (Vec<usize>, Vec<bool>)| {
        let kept_only = (0..shape.len()).filter(|&d| reduced[d]).fold(0u8, |mask, d| mask | 1 << d);
        let operands = operands(&shape, &[(0, 0, 1), (kept_only, 0, 1)]);
        let code = vec![
            Instr::Operand(0),
            Instr::Operand(1),
            Instr::Binary(Binary::Mul, 0, 1),
            Instr::Unary(Unary::Square, 0),
        ];
        let mut k = Reduce { shape, reduced, operands, expr: Expr { code }, outputs: Vec::new() };
        // Means, so that errors are relative to one element.
        let mean = Num(1.0 / k.reduced_len() as f32);
        let output = |reg, combine, scale| Output { reg, combine, scale };
        k.outputs = vec![
            output(2, Combine::Sum, mean),
            output(3, Combine::Sum, mean),
            output(0, Combine::Max, Num(2.0)),
        ];
        Case::new(Kernel::Reduce(k), 1e-5)
    };
    spaces.into_iter().map(build).collect()
}

/// Batch and layer views with many and few channels, and a mean far from 0.
pub(crate) fn moments() -> Vec<Case> {
    let views =
        [(1, 1, 1), (3, 5, 7), (64, 70, 1), (1, 64, 300), (16, 130, 64), (70, 3, 1000), (1, 2, 50_021)];
    let build = |(outer, channels, inner)| {
        let mut case = Case::new(Kernel::Moments(Moments { outer, channels, inner }), 1e-5);
        case.inputs[0].iter_mut().for_each(|v| *v += 64.0);
        case.tolerance = 2e-5;
        case
    };
    let far = |(outer, channels, inner)| {
        // Close together and far from zero: a running mean in f32 would be a sixteenth off, the variance a
        // percent.
        let mut case = Case::new(Kernel::Moments(Moments { outer, channels, inner }), 2e-5);
        case.inputs[0].iter_mut().for_each(|v| *v += 1e6);
        case
    };
    let far = [(1, 1, 4096), (8, 5, 700), (1, 3, 20_011)].map(far);
    views.into_iter().map(build).chain(far).collect()
}

fn part(shape: &[usize], src: (Vec<usize>, usize), dst: (Vec<usize>, usize), src_len: usize) -> CopyPart {
    let shape = shape.to_vec();
    let ((src_strides, src_offset), (dst_strides, dst_offset)) = (src, dst);
    CopyPart { src_len, shape, src_offset, src_strides, dst_offset, dst_strides }
}

/// Slice, pad, concatenation, transposes, broadcast, upsampling, a spread output.
pub(crate) fn copy() -> Vec<Case> {
    let dense = |shape: &[usize]| strides(shape, 0, 0, 1).0;
    let whole = |len, part| Copy { len, zero: false, parts: vec![part] };
    let (inner, outer) = (vec![2, 3, 4], vec![2, 5, 6]);
    let stacked = |channels: usize, at| {
        let shape = vec![3, channels, 4, 5];
        part(&shape, (dense(&shape), 0), (dense(&[3, 3, 4, 5]), at), 60 * channels)
    };
    let transpose = |batch: usize, rows: usize, columns: usize| {
        let n = batch * rows * columns;
        whole(
            n,
            part(
                &[batch, rows, columns],
                (vec![rows * columns, 1, rows], 0),
                (vec![rows * columns, columns, 1], 0),
                n,
            ),
        )
    };
    [
        whole(1, part(&[], (vec![], 0), (vec![], 0), 1)),
        whole(24, part(&inner, (dense(&outer), 7), (dense(&inner), 0), 60)),
        Copy { len: 60, zero: true, parts: vec![part(&inner, (dense(&inner), 0), (dense(&outer), 7), 24)] },
        Copy { len: 180, zero: false, parts: vec![stacked(2, 0), stacked(1, 40)] },
        transpose(1, 33, 65),
        transpose(3, 100, 257),
        transpose(2, 3, 1000),
        whole(2000, part(&[20, 100], (vec![0, 1], 3), (vec![100, 1], 0), 103)),
        whole(140, part(&[5, 2, 7, 2], (vec![7, 0, 1, 0], 0), (vec![28, 14, 2, 1], 0), 35)),
        Copy { len: 90, zero: true, parts: vec![part(&[30], (vec![1], 0), (vec![3], 1), 30)] },
        whole(70_003, part(&[70_003], (vec![1], 2), (vec![1], 0), 70_005)),
    ]
    .into_iter()
    .map(|k| Case::new(Kernel::Copy(k), 0.0))
    .collect()
}

/// Overlapping windows, gaps, padding and many ties; all three faces of each.
pub(crate) fn pool() -> Vec<Case> {
    let mut cases = Vec::new();
    for (planes, x, y, kernel, stride, pad_low, dilation) in [
        (6, [8, 8], [4, 4], [2, 2], [2, 2], [0, 0], [1, 1]),
        (5, [7, 9], [4, 5], [3, 3], [2, 2], [1, 1], [1, 1]),
        (3, [5, 6], [4, 6], [2, 3], [1, 1], [0, 1], [1, 1]),
        (2, [11, 4], [3, 2], [2, 1], [4, 3], [0, 0], [1, 1]),
        (700, [4, 4], [2, 2], [2, 2], [2, 2], [0, 0], [1, 1]),
        (3, [9, 11], [4, 6], [3, 2], [2, 1], [1, 0], [2, 5]),
        (2, [7, 7], [3, 9], [2, 3], [2, 1], [0, 4], [3, 3]),
    ] {
        let k = |face| Kernel::MaxPool(MaxPool { face, planes, x, y, kernel, stride, pad_low, dilation });
        let mut first = Case::new(k(Face::Indices), 0.0);
        first.inputs[0].iter_mut().for_each(|v| *v = v.round());
        let indices: Vec<f32> = first.oracle()[0].iter().map(|v| *v as f32).collect();
        for face in [Face::Gather, Face::Scatter] {
            let mut case = Case::new(k(face), 1e-6);
            case.inputs[1].clone_from(&indices);
            cases.push(case);
        }
        cases.push(first);
    }
    cases
}

/// Rows of no, one and many entries, columns that nobody reads, tables of several dispatches and a row of
/// several.
pub(crate) fn sparse() -> Vec<Case> {
    let build = |outer: usize, inner: usize, columns: usize, rows: Vec<Vec<(usize, f32)>>| {
        let matrix = Matrix::new(columns, rows);
        let kernel = |matrix| Kernel::Sparse(Sparse { outer, inner, matrix: Arc::new(matrix) });
        [Case::new(kernel(matrix.transposed()), 1e-5), Case::new(kernel(matrix), 1e-5)]
    };
    let weight = |i: usize| 0.25 + (i % 7) as f32 / 8.0;
    let spread = |rows: usize, columns: usize, most: usize| {
        let row =
            |r: usize| (0..r % (most + 1)).map(|e| ((r * 31 + e * 17) % columns, weight(r + e))).collect();
        (0..rows).map(row).collect::<Vec<Vec<_>>>()
    };
    [
        build(1, 1, 1, vec![vec![(0, 2.0)]]),
        build(3, 5, 4, vec![vec![], vec![(3, 1.0)], vec![(0, 0.5), (3, -0.5), (0, 0.25)], vec![(1, 1.0)]]),
        build(2, 3, 70, spread(65, 70, 5)),
        build(7, 1, 33, spread(129, 33, 2)),
        build(1, 2, 5000, (0..9000).map(|r| vec![(r * 7 % 5000, 1.0)]).collect()),
        build(2, 1, 3, vec![vec![(1, 1.0); 3], (0..9001).map(|e| (e % 3, weight(e) / 4096.0)).collect()]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Lengths around multiples of four, keys whose words are NaN as floats.
pub(crate) fn random() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [1, 3, 4, 5, 255, 256, 257, 70_001] {
        for (distribution, tolerance) in [(Distribution::Uniform, 0.0), (Distribution::Normal, 1e-5)] {
            let mut case = Case::new(Kernel::Random(Random { distribution, len, stream: 7 }), tolerance);
            case.inputs[0] = vec![f32::from_bits(0xffff_1234), f32::from_bits(0x7f80_0001)];
            case.inputs[1] = vec![12_345.0];
            cases.push(case);
        }
    }
    cases
}
