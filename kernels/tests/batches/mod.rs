//! Kernels of a batch of any size: what is made of an image must have the same bits in every one of them.

use ganomede_kernels::conv::{Conv, Epilogue, Face, Geometry};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num};
use ganomede_kernels::gemm::Gemm;
use ganomede_kernels::moments::Moments;
use ganomede_kernels::pointwise::{Operand, Source};
use ganomede_kernels::reduce::{Combine, Output, Reduce};
use ganomede_kernels::{Kernel, Precision};

/// Batches that are compared with one image alone.
pub(crate) const BATCHES: [usize; 6] = [2, 3, 5, 17, 64, 130];
/// Different images in a batch.
const IMAGES: usize = 4;

/// A kernel of n images, and which of its inputs have a part for each.
pub(crate) struct Case {
    of: Box<dyn Fn(usize) -> Kernel>,
    batched: Vec<bool>,
}

impl Case {
    fn new(batched: &[bool], of: impl Fn(usize) -> Kernel + 'static) -> Self {
        Self { of: Box::new(of), batched: batched.to_vec() }
    }

    /// Runs batches of each size and compares every image's outputs with those of the image alone. Returns
    /// the number of comparisons.
    pub(crate) fn check(&self, run: impl Fn(&Kernel, &[&[f32]]) -> Vec<Vec<f32>>) -> usize {
        let one = (self.of)(1);
        let number = |seed: usize| {
            let hash = (seed as u32).wrapping_mul(2_654_435_761).rotate_left(11).wrapping_mul(2_246_822_519);
            (hash >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let part = |input: usize, image: usize, len: usize| -> Vec<f32> {
            (0..len).map(|i| number(i + 1_000_003 * (image + IMAGES * input))).collect()
        };
        let results = |kernel: &Kernel, images: &[usize]| -> Vec<Vec<f32>> {
            let inputs: Vec<Vec<f32>> = one
                .input_lens()
                .iter()
                .enumerate()
                .map(|(i, &len)| match self.batched[i] {
                    true => images.iter().flat_map(|&image| part(i, image, len)).collect(),
                    false => part(i, 0, len),
                })
                .collect();
            let views: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            run(kernel, &views)
        };
        let alone: Vec<_> = (0..IMAGES).map(|image| results(&one, &[image])).collect();
        assert_ne!(alone[0], alone[1], "other images give other results: {one:?}");
        let mut compared = 0;
        for n in BATCHES {
            let kernel = (self.of)(n);
            let images: Vec<usize> = (0..n).map(|i| (i * 3 + n) % IMAGES).collect();
            for (o, output) in results(&kernel, &images).iter().enumerate() {
                let parts = output.chunks_exact(output.len() / n);
                assert_eq!(parts.len(), n);
                for (at, (part, &image)) in parts.zip(&images).enumerate() {
                    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    let same = bits(part) == bits(&alone[image][o]);
                    assert!(same, "image {at} of {n}: {:?}, alone {:?}: {kernel:?}", part, alone[image][o]);
                    compared += 1;
                }
            }
        }
        compared
    }
}

fn convolution(
    precision: Precision,
    face: Face,
    [ci, co]: [usize; 2],
    x: [usize; 2],
    [k, s, p]: [usize; 3],
) -> Case {
    Case::new(&[true, false], move |batch| {
        let mut geometry = Geometry {
            batch,
            ci,
            co,
            x,
            y: [0; 2],
            kernel: [k.min(x[0] + 2 * p), k],
            stride: [s; 2],
            pad_low: [p; 2],
            pad_high: [p; 2],
            dilation: [1; 2],
        };
        geometry.y = [0, 1].map(|axis| geometry.y_size(axis).expect("the kernel fits"));
        Kernel::Conv(Conv { face, geometry, half: false, precision, epilogue: Epilogue::default() })
    })
}

/// Sums and maxima of x + b, b having an element for each index of dimension `beside` if that is not 0.
fn reduction(shape: &[usize], reduced: &[bool], beside: usize) -> Case {
    let (inner, reduced) = (shape.to_vec(), reduced.to_vec());
    Case::new(&[true, false], move |n| {
        let shape: Vec<usize> = std::iter::once(n).chain(inner.iter().copied()).collect();
        let strides = |dims: &[bool]| -> Vec<usize> {
            let mut step = 1;
            let mut strides = vec![0; dims.len()];
            for d in (0..dims.len()).rev().filter(|&d| dims[d]) {
                strides[d] = step;
                step *= shape[d];
            }
            strides
        };
        let beside: Vec<bool> = (0..shape.len()).map(|d| d > 0 && d == beside).collect();
        let operand = |input, dims: Vec<bool>| {
            let len = shape.iter().zip(&dims).filter(|(_, d)| **d).map(|(s, _)| s).product();
            Operand { source: Source::Input(input), len, strides: strides(&dims) }
        };
        let code = vec![Instr::Operand(0), Instr::Operand(1), Instr::Binary(Binary::Add, 0, 1)];
        let output = |combine, scale| Output { reg: 2, combine, scale: Num(scale) };
        Kernel::Reduce(Reduce {
            operands: vec![operand(0, vec![true; shape.len()]), operand(1, beside)],
            reduced: std::iter::once(false).chain(reduced.iter().copied()).collect(),
            shape,
            expr: Expr { code },
            outputs: vec![output(Combine::Sum, 0.1), output(Combine::Max, 1.0)],
        })
    })
}

/// Every family that adds something up, over sizes at which forms change.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = products(Precision::F32);
    others(&mut cases);
    cases
}

/// Those that multiply.
pub(crate) fn products(precision: Precision) -> Vec<Case> {
    let mut cases = vec![];
    for face in [Face::Conv, Face::Transpose] {
        for (ci, co, x, k, s, p) in [
            (1, 16, [32, 32], 4, 2, 1),
            (3, 8, [17, 17], 3, 1, 1),
            (16, 32, [8, 8], 4, 2, 1),
            (32, 16, [4, 4], 4, 2, 1),
            (20, 24, [5, 7], 4, 2, 1),
            (64, 64, [4, 4], 3, 1, 1),
            (300, 20, [4, 4], 4, 2, 1),
            (40, 12, [1, 1], 1, 1, 0),
            (8, 10, [4, 4], 4, 1, 0),
            (130, 1, [4, 4], 4, 1, 0),
            (6, 9, [1, 40], 5, 2, 2),
        ] {
            cases.push(convolution(precision, face, [ci, co], x, [k, s, p]));
        }
    }
    for (n, k) in [(1, 300), (1, 7), (1, 1), (10, 64), (100, 700), (257, 33), (33, 1), (5, 3000)] {
        for trans_b in [false, true] {
            // Rows of one product, and products of their own.
            for rows in [true, false] {
                cases.push(Case::new(&[true, !rows], move |images| {
                    let (batch, m) = if rows { (1, images) } else { (images, 3) };
                    Kernel::Gemm(Gemm {
                        batch,
                        m,
                        n,
                        k,
                        trans_a: false,
                        trans_b,
                        batched_a: !rows,
                        batched_b: !rows,
                        half_b: false,
                        precision,
                        epilogue: Epilogue::default(),
                    })
                }));
            }
        }
    }
    cases
}

fn others(cases: &mut Vec<Case>) {
    for (shape, reduced) in [
        (&[1000][..], &[true][..]),
        (&[70_000], &[true]),
        (&[40], &[true]),
        (&[3, 289], &[true, true]),
        (&[5, 3], &[true, true]),
        (&[20, 40], &[true, true]),
        (&[70, 31], &[true, true]),
        (&[12, 50], &[true, false]),
        (&[12, 3], &[true, false]),
        (&[300, 20], &[true, false]),
        (&[7, 300], &[false, true]),
        (&[7, 20], &[false, true]),
        (&[64, 9], &[false, true]),
        (&[1, 5000], &[false, true]),
    ] {
        for beside in 0..=shape.len() {
            cases.push(reduction(shape, reduced, beside));
        }
    }
    for inner in [1, 5, 15, 16, 300, 5000, 70_000] {
        for channels in [1, 3] {
            cases.push(Case::new(&[true], move |n| {
                Kernel::Moments(Moments { outer: 1, channels: n * channels, inner })
            }));
        }
    }
}
