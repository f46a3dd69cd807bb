//! Launches taken together, channel by channel: the bits of the kernels one by one, and no band where there may be none.

mod spaces;

use ganomede_kernels::Kernel;
use ganomede_kernels::band::{Placed, bands};
use ganomede_kernels::expr::{Binary, Expr, Instr, Num, Unary};
use ganomede_kernels::moments::Moments;
use ganomede_kernels::pointwise::{Operand, Pointwise, Source};
use ganomede_kernels::reduce::{Combine, Output, Reduce};
use proptest::prelude::*;
use spaces::data;

struct Launch(Kernel, Vec<usize>, Vec<usize>);

fn placed(launches: &[Launch]) -> Vec<Placed<'_>> {
    launches.iter().map(|Launch(kernel, inputs, outputs)| Placed { kernel, inputs, outputs }).collect()
}

fn found(launches: &[Launch]) -> Vec<std::ops::Range<usize>> {
    bands(&placed(launches)).iter().map(|band| band.launches()).collect()
}

/// Shape `[outer, channels, inner]` without ones, the strides of a whole tensor and of a number for each channel.
fn space([outer, channels, inner]: [usize; 3]) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let all = [(outer, channels * inner, 0), (channels, inner, 1), (inner, 1, 0)];
    let kept = all.iter().filter(|(size, ..)| *size > 1);
    let shape = kept.clone().map(|k| k.0).collect();
    (shape, kept.clone().map(|k| k.1).collect(), kept.map(|k| k.2).collect())
}

fn operand(input: usize, len: usize, strides: &[usize]) -> Operand {
    Operand { source: Source::Input(input), len, strides: strides.to_vec() }
}

/// Moments of x, 1 / √(variance + ε), y = leaky ReLU of the normalised x, sums of x · dy and dy, twice of which something
/// for each channel is made, dx in the place of dy. Buffers: x, dy, mean, variance, r, y, two sums, product, 1 number.
fn batch_norm(dims: [usize; 3]) -> (Vec<usize>, Vec<Launch>) {
    let [outer, channels, inner] = dims;
    let n = outer * channels * inner;
    let (shape, whole, each) = space(dims);
    let pointwise = |shape: &[usize], operands, code: Vec<Instr>| {
        let outputs = vec![code.len() - 1];
        Kernel::Pointwise(Pointwise { shape: shape.to_vec(), operands, expr: Expr { code }, outputs })
    };
    let r = pointwise(
        &[channels],
        vec![operand(0, channels, &[1])],
        vec![
            Instr::Operand(0),
            Instr::Unary(Unary::Affine(Num(1.0), Num(1e-5)), 0),
            Instr::Unary(Unary::Sqrt, 1),
            Instr::Unary(Unary::Recip, 2),
        ],
    );
    let normalise = pointwise(
        &shape,
        vec![operand(0, n, &whole), operand(1, channels, &each), operand(2, channels, &each)],
        vec![
            Instr::Operand(0),
            Instr::Operand(1),
            Instr::Operand(2),
            Instr::Binary(Binary::Sub, 0, 1),
            Instr::Binary(Binary::Mul, 3, 2),
            Instr::Unary(Unary::LeakyRelu(Num(0.2)), 4),
        ],
    );
    let output = |reg| Output { reg, combine: Combine::Sum, scale: Num(0.5) };
    let sums = Kernel::Reduce(Reduce {
        shape: shape.clone(),
        reduced: each.iter().map(|&stride| stride == 0).collect(),
        operands: vec![operand(0, n, &whole), operand(1, n, &whole)],
        expr: Expr { code: vec![Instr::Operand(0), Instr::Operand(1), Instr::Binary(Binary::Mul, 0, 1)] },
        outputs: vec![output(2), output(1), Output { reg: 0, combine: Combine::Max, scale: Num(1.0) }],
    });
    let product = pointwise(
        &[channels],
        vec![operand(0, channels, &[1]), operand(1, channels, &[1]), operand(2, 1, &[0])],
        vec![
            Instr::Operand(0),
            Instr::Operand(1),
            Instr::Operand(2),
            Instr::Binary(Binary::Mul, 0, 1),
            Instr::Binary(Binary::Add, 3, 2),
        ],
    );
    let mut in_place = operand(0, n, &whole);
    in_place.source = Source::Output(0);
    let gradient = pointwise(
        &shape,
        vec![operand(0, n, &whole), operand(1, channels, &each), in_place],
        vec![
            Instr::Operand(0),
            Instr::Operand(1),
            Instr::Operand(2),
            Instr::Binary(Binary::Mul, 0, 1),
            Instr::Binary(Binary::Add, 3, 2),
        ],
    );
    let launches = vec![
        Launch(Kernel::Moments(Moments { outer, channels, inner }), vec![0], vec![2, 3]),
        Launch(r, vec![3], vec![4]),
        Launch(normalise, vec![0, 2, 4], vec![5]),
        Launch(sums, vec![0, 1], vec![6, 7, 10]),
        Launch(product, vec![6, 7, 9], vec![8]),
        Launch(gradient, vec![0, 8], vec![1]),
    ];
    let c = channels;
    (vec![n, n, c, c, c, n, c, c, c, 1, c], launches)
}

/// All buffers after the launches, as bits: in bands where `together`.
fn run(lens: &[usize], launches: &[Launch], together: bool, threads: usize) -> Vec<Vec<u32>> {
    let mut buffers: Vec<Vec<f32>> = lens.iter().enumerate().map(|(i, &len)| data(len, i)).collect();
    let bands = bands(&placed(launches));
    let mut next = 0;
    while next < launches.len() {
        if let Some(band) = bands.iter().find(|band| together && band.launches().start == next) {
            let mut scratch = vec![f32::NAN; band.scratch_len(threads)];
            band.run(buffers.iter_mut().map(Vec::as_mut_slice), &mut scratch);
            next = band.launches().end;
            continue;
        }
        let Launch(kernel, inputs, outputs) = &launches[next];
        kernel.check().unwrap_or_else(|e| panic!("{e}: {kernel:?}"));
        let inputs: Vec<Vec<f32>> = inputs.iter().map(|&i| buffers[i].clone()).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let mut results: Vec<Vec<f32>> = outputs.iter().map(|&o| buffers[o].clone()).collect();
        let mut views: Vec<&mut [f32]> = results.iter_mut().map(Vec::as_mut_slice).collect();
        let mut scratch = vec![f32::NAN; kernel.cpu_scratch_len(threads)];
        kernel.cpu(&inputs, &mut views, &mut scratch);
        outputs.iter().zip(results).for_each(|(&o, values)| buffers[o] = values);
        next += 1;
    }
    buffers.iter().map(|b| b.iter().map(|v| v.to_bits()).collect()).collect()
}

fn check(dims: [usize; 3], together: bool) {
    let (lens, launches) = batch_norm(dims);
    let whole = 0..launches.len();
    if together {
        assert_eq!(found(&launches), [whole], "{dims:?}");
    }
    let want = run(&lens, &launches, false, 2);
    for threads in [1, 3] {
        assert!(run(&lens, &launches, true, threads) == want, "{dims:?} on {threads} threads");
    }
}

proptest! {
    #[test]
    fn any_view_gives_the_bits_of_the_kernels_one_by_one(
        outer in 1..9usize, channels in 2..70usize, inner in 1..400usize,
    ) {
        check([outer, channels, inner], false);
    }
}

/// The layers of a DCGAN of width 64 and of one at 128×128, a layer norm, and few channels of many elements.
#[test]
fn norms_are_bands_with_the_bits_of_the_kernels_one_by_one() {
    for dims in [
        [64, 64, 1024],
        [64, 128, 256],
        [64, 256, 64],
        [64, 512, 16],
        [3, 33, 4096],
        [1, 64, 32 * 256],
        [70, 3, 999],
        [130, 20, 300],
    ] {
        check(dims, true);
    }
}

#[test]
fn launches_that_mix_channels_end_a_band() {
    let dims = [4, 24, 64];
    // As it is.
    assert_eq!(found(&batch_norm(dims).1), [0..6]);
    // The sums read y under other strides: as [outer, inner, channels].
    let (_, mut launches) = batch_norm(dims);
    let Kernel::Reduce(sums) = &mut launches[3].0 else { unreachable!("the sums") };
    sums.operands[0].strides = vec![24 * 64, 1, 24];
    launches[3].1[0] = 5;
    assert_eq!(found(&launches), [0..3, 3..6]);
    // The numbers for each channel are written where the sums' inputs lie.
    let (_, mut launches) = batch_norm(dims);
    launches[4].2 = vec![1];
    launches[5].1 = vec![0, 1];
    assert_eq!(found(&launches), [0..4]);
    // The gradient is in the place of a number that all channels read.
    let (_, mut launches) = batch_norm(dims);
    launches[5].2 = vec![9];
    assert_eq!(found(&launches), [0..5]);
    // A launch of another kind between them.
    let (_, mut launches) = batch_norm(dims);
    let other = batch_norm([4, 12, 64]).1.swap_remove(1);
    launches.insert(1, other);
    assert_eq!(found(&launches), [4..7]);
    // Rows shorter than a cache line, and a single pass over a tensor.
    assert_eq!(found(&batch_norm([64, 24, 8]).1), []);
    assert_eq!(found(&batch_norm(dims).1[3..5]), []);
}
