//! Gradients of random operations on awkward shapes against numeric differences. Each operation sits in the
//! middle of a graph; the graphs of a loss, of its gradient and of its gradient's gradient are evaluated in
//! f64, so that the comparison is tight, and the compiled program is held against the same numbers.

use crate::common;
use crate::common::{load, numbers, program, write};
use crate::interpreter;
use crate::interpreter::World;
use ganomede::device::Device;
use ganomede::program::compile;
use ganomede::tape::{ConvOptions, Padding, PoolOptions, Sampling, States, Tape, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Step of central differences; their error is of the order of its square.
const STEP: f64 = 1e-5;

/// An operation over named inputs of the given shapes.
type Operation<'a> = &'a dyn for<'t> Fn(&[Tensor<'t>]) -> Tensor<'t>;

/// Runs the same random cases each time.
fn cases<S: Strategy>(count: u32, strategy: S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config {
        cases: count,
        max_global_rejects: 20 * count,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    runner.run(&strategy, check).unwrap_or_else(|e| panic!("{e}"));
}

/// First and second derivatives of `Σ w ⊙ (y + y²/2)`, y the operation of `x + tanh(x)/4`, with respect to
/// every x.
fn check(shapes: &[Vec<usize>], f: Operation<'_>) -> Result<(), TestCaseError> {
    let tape = Tape::new();
    let xs: Vec<_> = shapes.iter().enumerate().map(|(i, s)| tape.input(&format!("x{i}"), s)).collect();
    let y = f(&xs.iter().map(|&x| x + 0.25 * x.tanh()).collect::<Vec<_>>());
    prop_assume!(tape.finish().is_ok() && y.len() <= 4000);
    let mut world = World::default();
    let mut given = |name: String, shape: &[usize], seed: usize| {
        let values = numbers(shape.iter().product(), seed as u32);
        world.inputs.insert(name.clone(), values.iter().map(|&v| f64::from(v)).collect());
        tape.input(&name, shape)
    };
    shapes.iter().enumerate().for_each(|(i, s)| _ = given(format!("x{i}"), s, i));
    let w = given("w".into(), &y.shape(), 20);
    let loss = (w * (y + y.square() * 0.5)).sum_all();
    let first = tape.grad(loss, &xs);
    let directions: Vec<_> =
        shapes.iter().enumerate().map(|(i, s)| given(format!("v{i}"), s, 40 + i)).collect();
    let slope =
        first.iter().zip(&directions).fold(tape.constant(0.0), |sum, (&g, &v)| sum + (g * v).sum_all());
    let second = tape.grad(slope, &xs);
    tape.output("loss", loss);
    tape.output("slope", slope);
    for i in 0..xs.len() {
        tape.output(&format!("g{i}"), first[i]);
        tape.output(&format!("h{i}"), second[i]);
    }
    let graph = tape.finish().map_err(|e| TestCaseError::fail(e.to_string()))?;
    let at = interpreter::replay(&graph, &mut world.clone());

    for (i, x) in xs.iter().enumerate() {
        let v = numbers(x.len(), 60 + i as u32);
        let moved = |step: f64| {
            let mut world = world.clone();
            let x = world.inputs.get_mut(&format!("x{i}")).expect("every x is an input");
            x.iter_mut().zip(&v).for_each(|(x, v)| *x += step * f64::from(*v));
            interpreter::replay(&graph, &mut world)
        };
        let (up, down) = (moved(STEP), moved(-STEP));
        for (value, gradient) in [("loss", format!("g{i}")), ("slope", format!("h{i}"))] {
            let numeric = (up[value][0] - down[value][0]) / (2.0 * STEP);
            let g = &at[&gradient];
            let analytic: f64 = g.iter().zip(&v).map(|(g, v)| g * f64::from(*v)).sum();
            let scale = g.iter().fold(1.0, |sum: f64, g| sum + g.abs());
            prop_assert!(
                (numeric - analytic).abs() < 1e-6 * scale,
                "{gradient} of {shapes:?}: {numeric} by differences, {analytic}"
            );
        }
    }

    let program = compile(&graph).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let (mut executable, _store) = load(&common::cpu(), &program, &States::new(), 0);
    for (name, values) in &world.inputs {
        write(&mut executable, name, &values.iter().map(|&v| v as f32).collect::<Vec<_>>());
    }
    executable.run(1).map_err(|e| TestCaseError::fail(e.to_string()))?;
    // The loss and its slope are sums in which large terms cancel: their relative error in f32 says nothing.
    for (name, want) in at.iter().filter(|(name, _)| name.starts_with(['g', 'h'])) {
        let got = executable.read(name).unwrap();
        let scale = want.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        let worst = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).abs() / scale);
        let found = worst.fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
        prop_assert!(found < 1e-4, "{name} of {shapes:?}: the compiled program is {found:e} away");
    }
    Ok(())
}

fn pair(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

/// Batch, channels in and out, image, kernel, options: stride above kernel, padding above stride, all sizes
/// from 1.
fn convolutions() -> impl Strategy<Value = ([usize; 3], [usize; 2], [usize; 2], ConvOptions)> {
    let options = (pair(1..=4), pair(0..=2), pair(0..=2), pair(1..=3), pair(0..=2));
    let options = options.prop_map(|(stride, pad_low, pad_high, dilation, output_padding)| ConvOptions {
        stride,
        pad_low,
        pad_high,
        dilation,
        output_padding,
        ..ConvOptions::default()
    });
    ([1..=3_usize, 1..=3, 1..=3], pair(1..=7), pair(1..=4), options)
}

#[test]
fn convolution() {
    cases(60, convolutions(), |([n, ci, co], x, k, options)| {
        check(&[vec![n, ci, x[0], x[1]], vec![co, ci, k[0], k[1]]], &|t| t[0].conv2d(t[1], options))
    });
}

#[test]
fn transposed_convolution() {
    cases(60, convolutions(), |([n, ci, co], x, k, options)| {
        check(&[vec![n, ci, x[0], x[1]], vec![ci, co, k[0], k[1]]], &|t| t[0].conv_transpose2d(t[1], options))
    });
}

#[test]
fn convolution_in_groups() {
    cases(60, (1..=3_usize, convolutions()), |(groups, ([n, ci, co], x, k, options))| {
        let options = ConvOptions { groups, ..options };
        check(&[vec![n, ci * groups, x[0], x[1]], vec![co * groups, ci, k[0], k[1]]], &|t| {
            t[0].conv2d(t[1], options)
        })
    });
}

#[test]
fn transposed_convolution_in_groups() {
    cases(60, (1..=3_usize, convolutions()), |(groups, ([n, ci, co], x, k, options))| {
        let options = ConvOptions { groups, ..options };
        check(&[vec![n, ci * groups, x[0], x[1]], vec![ci * groups, co, k[0], k[1]]], &|t| {
            t[0].conv_transpose2d(t[1], options)
        })
    });
}

#[test]
fn matrix_product() {
    let sizes = ([1..=3_usize, 1..=7, 1..=7, 1..=7], any::<[bool; 4]>());
    cases(60, sizes, |([batch, m, k, n], [trans_a, trans_b, batched_a, batched_b])| {
        let shape = |batched: bool, transposed: bool, rows, columns| {
            let matrix = if transposed { vec![columns, rows] } else { vec![rows, columns] };
            if batched { [vec![batch], matrix].concat() } else { matrix }
        };
        let shapes = [shape(batched_a, trans_a, m, k), shape(batched_b, trans_b, k, n)];
        check(&shapes, &|t| t[0].matmul_with(t[1], trans_a, trans_b))
    });
}

#[test]
fn reductions_and_norms() {
    let sizes = (proptest::collection::vec(1..=5_usize, 1..=4), any::<u8>(), 0..8_u8);
    cases(100, sizes, |(shape, mask, kind)| {
        let axes: Vec<_> = (0..shape.len()).filter(|d| mask >> d & 1 == 1).collect();
        let last = shape.len() - 1;
        check(&[shape], &|t| match kind {
            0 => t[0].sum(&axes),
            1 => t[0].mean(&axes),
            2 => t[0].max(&axes),
            3 => t[0].variance(&axes),
            4 => (t[0] - t[0].mean(&axes)) / (t[0].variance(&axes) + 0.1).sqrt(),
            5 => t[0].min(&axes),
            6 => t[0].prod(&axes),
            _ => t[0].softmax(last),
        })
    });
}

#[test]
fn broadcasting() {
    let dims = proptest::collection::vec((1..=5_usize, any::<[bool; 2]>()), 1..=4);
    cases(60, (dims, 0..3_usize, 0..7_u8), |(dims, missing, kind)| {
        let shape = |side: usize| {
            dims.iter().map(|(n, repeat)| if repeat[side] { 1 } else { *n }).collect::<Vec<_>>()
        };
        let (a, b) = (shape(0), shape(1).split_off(missing.min(dims.len() - 1)));
        check(&[a, b], &|t| match kind {
            0 => t[0] + t[1],
            1 => t[0] - t[1],
            2 => t[0] * t[1],
            3 => t[0] / (t[1].square() + 0.5),
            4 => t[0].maximum(t[1]),
            5 => (t[0].square() + 0.5).pow(t[1]),
            _ => t[0].minimum(t[1]),
        })
    });
}

#[test]
fn pooling_and_resampling() {
    let sizes = ([1..=2_usize, 1..=3, 1..=7, 1..=7], pair(1..=3), pair(1..=4), pair(0..=1), 0..3_u8);
    cases(60, sizes, |(shape, kernel, stride, padding, kind)| {
        let options = PoolOptions::new(kernel, stride, padding);
        check(&[shape.to_vec()], &|t| match kind {
            0 => t[0].max_pool2d(options),
            1 => t[0].avg_pool2d(options),
            _ => t[0].upsample_nearest(stride[0]),
        })
    });
}

#[test]
fn uneven_windows() {
    let window = (pair(1..=4), pair(1..=3), pair(0..=3), pair(0..=3), pair(1..=3), any::<[bool; 2]>());
    let sizes = ([1..=2_usize, 1..=2, 1..=8, 1..=8], window, any::<bool>());
    cases(
        100,
        sizes,
        |(shape, (kernel, stride, pad_low, pad_high, dilation, [ceil, count_padding]), largest)| {
            let options = PoolOptions { kernel, stride, pad_low, pad_high, dilation, ceil, count_padding };
            check(&[shape.to_vec()], &|t| {
                if largest { t[0].max_pool2d(options) } else { t[0].avg_pool2d(options) }
            })
        },
    );
}

#[test]
fn gathers_paddings_and_sizes() {
    let sizes =
        (proptest::collection::vec((1..=5_usize, 0..=6_usize, 0..=6_usize), 1..=4), any::<u8>(), 0..8_u8);
    cases(100, sizes, |(dims, axis, kind)| {
        let shape: Vec<_> = dims.iter().map(|d| d.0).collect();
        let axis = axis as usize % shape.len();
        let (low, high): (Vec<_>, Vec<_>) = dims.iter().map(|d| (d.1, d.2)).unzip();
        let mirrored =
            |pads: &[usize]| pads.iter().zip(&shape).map(|(&p, &n)| p.min(n - 1)).collect::<Vec<_>>();
        let indices: Vec<_> = low.iter().chain(&high).map(|&i| i % shape[axis]).collect();
        check(std::slice::from_ref(&shape), &|t| match kind {
            0 => t[0].gather(axis, &indices),
            1 => t[0].pad_with(&mirrored(&low), &mirrored(&high), Padding::Reflect),
            2 => t[0].pad_with(&low, &high, Padding::Edge),
            3 => t[0].pad_with(&low, &high, Padding::Constant(0.75)),
            4 => t[0].resample(axis, low[axis] + 1, Sampling::Nearest),
            5 => t[0].resample(axis, low[axis] + 1, Sampling::Linear),
            6 => t[0].filter(axis, &[0.5, -1.0, 2.0, 0.25, 1.5]),
            _ => t[0].resample(axis, low[axis] + 1, Sampling::LinearAligned),
        })
    });
}

#[test]
fn slices_paddings_orders_and_joins() {
    let sizes = (proptest::collection::vec((2..=5_usize, 0..=3_usize, 1..=3_usize), 1..=4), 0..5_u8);
    cases(60, sizes, |(dims, kind)| {
        let shape: Vec<_> = dims.iter().map(|d| d.0).collect();
        let low: Vec<_> = dims.iter().map(|d| d.1.min(d.0 - 1)).collect();
        let step: Vec<_> = dims.iter().map(|d| d.2).collect();
        check(&[shape.clone(), shape.clone()], &|t| match kind {
            0 => t[0].slice(&low, &shape, &step) * 2.0,
            1 => t[0].pad(&low, &step),
            2 => {
                let mut order: Vec<_> = (0..shape.len()).collect();
                order.rotate_left(step[0] % shape.len());
                t[0].permute(&order) * t[1].permute(&order)
            }
            3 => Tensor::concat(&[t[0], t[1].tanh(), t[0]], step[0] % shape.len()),
            _ => t[0].flatten().transpose(),
        })
    });
}

/// ⟨conv(x, w), y⟩ = ⟨x, conv_transpose(y, w)⟩ = ⟨w, weight gradient(x, y)⟩, compiled, in f32.
fn adjoint(device: &Device, count: u32) {
    cases(count, convolutions(), |([n, ci, co], size, kernel, options)| {
        let tape = Tape::new();
        let (x, w) =
            (tape.input("x", &[n, ci, size[0], size[1]]), tape.input("w", &[co, ci, kernel[0], kernel[1]]));
        let conv = x.conv2d(w, ConvOptions { output_padding: [0; 2], ..options });
        prop_assume!(tape.finish().is_ok());
        let y = tape.input("y", &conv.shape());
        // Rows that no window reaches come back as output padding.
        let reached = |d: usize| {
            let extent = options.dilation[d] * (kernel[d] - 1) + 1;
            (conv.shape()[2 + d] - 1) * options.stride[d] + extent
        };
        let padded = |d: usize| size[d] + options.pad_low[d] + options.pad_high[d];
        let output_padding = [padded(0) - reached(0), padded(1) - reached(1)];
        prop_assume!((0..2).all(|d| output_padding[d] < options.stride[d].max(options.dilation[d])));
        let transposed = y.conv_transpose2d(w, ConvOptions { output_padding, ..options });
        let weight = tape.grad((conv * y).sum_all(), &[w])[0];
        tape.output("y", (conv * y).sum_all());
        tape.output("x", (x * transposed).sum_all());
        tape.output("w", (w * weight).sum_all());
        tape.output("scale", (conv * y).abs().sum_all());
        let (mut executable, _store) = load(device, &program(&tape), &States::new(), 0);
        for (seed, (name, tensor)) in [("x", x), ("w", w), ("y", y)].into_iter().enumerate() {
            write(&mut executable, name, &numbers(tensor.len(), 80 + seed as u32));
        }
        executable.run(1).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let [by_y, by_x, by_w, scale] = ["y", "x", "w", "scale"].map(|name| executable.scalar(name).unwrap());
        let close = |a: f32, b: f32| (a - b).abs() <= 1e-5 * scale.max(1.0);
        prop_assert!(close(by_y, by_x) && close(by_y, by_w), "{by_y}, {by_x}, {by_w}: {options:?}");
        Ok(())
    });
}

#[test]
fn the_three_faces_of_a_convolution_are_adjoint_on_cpu() {
    adjoint(&common::cpu(), 100);
}

#[test]
fn the_three_faces_of_a_convolution_are_adjoint_on_gpu() {
    adjoint(&common::gpu(), 25);
}
