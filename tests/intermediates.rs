//! Gradients with respect to values in the middle of a graph. Every operation makes a value, every operation
//! reads it, and the gradient with respect to that value must be what it is where the value is an input of
//! its own. The consumers of one producer share a program, so that the compiler has much to merge; beside
//! each stands the same value written twice, whose gradient must not be counted.

use crate::common;
use crate::interpreter;
use std::collections::BTreeMap;

use crate::common::{load, numbers, program, write};
use crate::interpreter::World;
use ganomede::device::Device;
use ganomede::tape::{ConvOptions, Initial, Padding, PoolOptions, Sampling, States, Tape, Tensor, Variable};

/// What producers and consumers are made from: inputs by name and shape, and two states.
struct Desk<'t> {
    tape: &'t Tape,
    states: &'t [Variable; 2],
}

const SHAPE: [usize; 4] = [2, 3, 4, 4];

impl<'t> Desk<'t> {
    /// Numbers around 0, all of different magnitude.
    fn x(&self, name: &str, shape: &[usize]) -> Tensor<'t> {
        self.tape.input(name, shape)
    }

    fn full(&self) -> Tensor<'t> {
        self.x("x", &SHAPE)
    }

    fn other(&self) -> Tensor<'t> {
        self.x("other", &SHAPE)
    }

    /// Something to multiply, add or compare with.
    fn beside(&self, x: Tensor<'t>) -> Tensor<'t> {
        self.x(&format!("beside{:?}", x.shape()), &x.shape())
    }
}

type Producer = (&'static str, for<'t> fn(&Desk<'t>) -> Tensor<'t>);
/// A name, whether differences are a fair check (no kinks, no ties), and the operation.
type Consumer = (&'static str, bool, for<'t> fn(&Desk<'t>, Tensor<'t>) -> Tensor<'t>);

const PRODUCERS: &[Producer] = &[
    ("input", |d| d.full()),
    ("state", |d| d.tape.state(&d.states[0])),
    ("state read after its assignment", |d| {
        d.tape.assign(&d.states[1], d.tape.state(&d.states[0]) * 2.0);
        d.tape.state(&d.states[1])
    }),
    ("constant", |d| d.tape.constant(0.7)),
    ("full", |d| d.tape.full(2.0, &SHAPE)),
    ("negation", |d| -d.full()),
    ("factor", |d| d.full() * 2.0),
    ("small factor", |d| d.full() * 0.125),
    ("factor of one", |d| d.full() * 1.0),
    ("shift", |d| d.full() + 0.5),
    ("shift by zero", |d| d.full() - 0.0),
    ("affine", |d| d.full().affine(-1.5, 0.25)),
    ("quotient of a constant", |d| d.full() / 4.0),
    ("reciprocal", |d| 1.0 / (d.full().square() + 1.0)),
    ("exp", |d| d.full().exp()),
    ("log", |d| (d.full().square() + 0.5).log()),
    ("sqrt", |d| (d.full().square() + 0.5).sqrt()),
    ("abs", |d| d.full().abs()),
    ("square", |d| d.full().square()),
    ("relu", |d| d.full().relu()),
    ("leaky_relu", |d| d.full().leaky_relu(0.2)),
    ("tanh", |d| d.full().tanh()),
    ("sigmoid", |d| d.full().sigmoid()),
    ("softplus", |d| d.full().softplus()),
    ("clamp", |d| d.full().clamp(-0.4, 0.6)),
    ("step", |d| d.full().step()),
    ("sum of two", |d| d.full() + d.other()),
    ("difference", |d| d.full() - d.other()),
    ("product", |d| d.full() * d.other()),
    ("quotient", |d| d.full() / (d.other().square() + 1.0)),
    ("maximum", |d| d.full().maximum(d.other())),
    ("minimum", |d| d.full().minimum(d.other())),
    ("select", |d| d.x("condition", &SHAPE).step().select(d.full(), d.other())),
    ("stop_gradient", |d| d.full().stop_gradient()),
    ("broadcast of a row", |d| d.x("row", &[3, 1, 4]).broadcast_to(&SHAPE)),
    ("broadcast of a number", |d| d.x("number", &[]).broadcast_to(&SHAPE)),
    ("broadcast of a broadcast", |d| d.x("row", &[4]).broadcast_to(&[3, 4, 4]).broadcast_to(&SHAPE)),
    ("broadcast to the same shape", |d| d.full().broadcast_to(&SHAPE)),
    ("function of a broadcast", |d| d.x("row", &[3, 1, 4]).broadcast_to(&SHAPE).tanh()),
    ("reshape", |d| d.x("flat", &[6, 16]).reshape(&SHAPE)),
    ("reshape of a reshape", |d| d.x("flat", &[6, 16]).reshape(&[96]).reshape(&SHAPE)),
    ("reshape to the same shape", |d| d.full().reshape(&SHAPE)),
    ("permute", |d| d.x("turned", &[4, 3, 2, 4]).permute(&[2, 1, 0, 3])),
    ("permute of nothing", |d| d.full().permute(&[0, 1, 2, 3])),
    ("slice", |d| d.x("long", &[2, 3, 8, 4]).slice(&[0, 0, 1, 0], &[2, 3, 8, 4], &[1, 1, 2, 1])),
    ("slice of all", |d| d.full().slice(&[0; 4], &SHAPE, &[1; 4])),
    ("pad", |d| d.x("small", &[2, 3, 2, 4]).pad(&[0, 0, 1, 0], &[0, 0, 1, 0])),
    ("pad by nothing", |d| d.full().pad(&[0; 4], &[0; 4])),
    ("concat", |d| Tensor::concat(&[d.x("one", &[2, 1, 4, 4]), d.x("two", &[2, 2, 4, 4])], 1)),
    ("concat of one", |d| Tensor::concat(&[d.full()], 1)),
    ("sum", |d| d.full().sum(&[1])),
    ("sum of nothing", |d| d.x("thin", &[2, 1, 4, 4]).sum(&[1])),
    ("sum of a broadcast", |d| d.x("row", &[3, 1, 4]).broadcast_to(&SHAPE).sum(&[0, 2])),
    ("mean of all", |d| d.full().mean_all()),
    ("mean of each sample", |d| (d.full() * -3.0).mean_per_sample()),
    ("max", |d| d.full().max(&[2, 3])),
    ("max of nothing", |d| d.x("thin", &[2, 1, 4, 4]).max(&[1])),
    ("variance", |d| d.full().variance(&[0, 2, 3])),
    ("variance of split axes", |d| d.full().variance(&[1, 3])),
    ("variance of nothing", |d| d.x("thin", &[2, 1, 4, 4]).variance(&[1])),
    ("softmax", |d| d.full().softmax(1)),
    ("matmul", |d| d.x("rows", &[2, 5, 6]).matmul(d.x("columns", &[6, 4]))),
    ("conv2d", |d| d.full().conv2d(d.x("kernel", &[3, 3, 3, 3]), ConvOptions::new(1, 1))),
    ("conv_transpose2d", |d| {
        d.x("thin", &[2, 1, 4, 4]).conv_transpose2d(d.x("up", &[1, 3, 4, 4]), ConvOptions::new(2, 1))
    }),
    ("avg_pool2d", |d| d.x("image", &[2, 3, 8, 8]).avg_pool2d(PoolOptions::square(2))),
    ("avg_pool2d of windows that overlap", |d| d.full().avg_pool2d(PoolOptions::new([2, 2], [1, 1], [1, 0]))),
    ("max_pool2d", |d| d.x("image", &[2, 3, 8, 8]).max_pool2d(PoolOptions::square(2))),
    ("power", |d| (d.full().square() + 0.5).powf(1.5)),
    ("power of one", |d| d.full().powf(1.0)),
    ("power by a tensor", |d| (d.full().square() + 0.5).pow(d.other())),
    ("min", |d| d.full().min(&[1])),
    ("prod", |d| d.full().prod(&[2])),
    ("prod of nothing", |d| d.x("thin", &[2, 1, 4, 4]).prod(&[1])),
    ("gather", |d| d.full().gather(1, &[2, 0, 0])),
    ("gather of all", |d| d.full().gather(2, &[0, 1, 2, 3])),
    ("pad_with", |d| d.x("small", &[2, 3, 2, 4]).pad_with(&[0, 0, 1, 0], &[0, 0, 1, 0], Padding::Reflect)),
    ("pad_with nothing", |d| d.full().pad_with(&[0; 4], &[0; 4], Padding::Edge)),
    ("resize", |d| d.x("coarse", &[2, 3, 2, 3]).resize([4, 4], Sampling::Linear)),
    ("resize to the same size", |d| d.full().resize([4, 4], Sampling::Linear)),
    ("conv2d in groups", |d| {
        let options = ConvOptions { groups: 3, ..ConvOptions::new(1, 1) };
        d.full().conv2d(d.x("depthwise", &[3, 1, 3, 3]), options)
    }),
    ("upsample_nearest", |d| d.x("coarse", &[2, 3, 2, 2]).upsample_nearest(2)),
    ("batch norm", |d| {
        let (x, axes) = (d.full(), [0, 2, 3]);
        (x - x.mean(&axes)) / (x.variance(&axes) + 1e-5).sqrt()
    }),
    ("gradient", |d| d.tape.grad(d.full().tanh().square().sum_all(), &[d.full()])[0]),
];

/// All dimensions but the first as columns.
fn matrix(x: Tensor<'_>) -> Tensor<'_> {
    if x.rank() == 0 { x.reshape(&[1, 1]) } else { x.flatten() }
}

/// As an image of one channel.
fn image(x: Tensor<'_>) -> Tensor<'_> {
    let x = matrix(x);
    x.reshape(&[1, 1, x.shape()[0], x.shape()[1]])
}

const CONSUMERS: &[Consumer] = &[
    ("itself", true, |_, p| p),
    ("negation", true, |_, p| -p),
    ("factor", true, |_, p| p * 3.0),
    ("small factor", true, |_, p| p * 0.25),
    ("shift", true, |_, p| p + 1.0),
    ("affine of affine", true, |_, p| (2.0 - p * 0.5) * 3.0 + 1.0),
    ("quotient", true, |_, p| (p + 4.0) / (p.square() + 1.0)),
    ("reciprocal", true, |_, p| 1.0 / (p.square() + 0.5)),
    ("square", true, |_, p| p.square()),
    ("exp", true, |_, p| p.exp()),
    ("log", true, |_, p| (p.square() + 0.25).log()),
    ("sqrt", true, |_, p| (p.square() + 0.25).sqrt()),
    ("tanh", true, |_, p| p.tanh()),
    ("sigmoid", true, |_, p| p.sigmoid()),
    ("softplus", true, |_, p| p.softplus()),
    ("abs", false, |_, p| p.abs()),
    ("relu", false, |_, p| p.relu()),
    ("leaky_relu", false, |_, p| p.leaky_relu(-0.5)),
    ("clamp", false, |_, p| p.clamp(-0.3, 0.8)),
    ("sum with another", true, |d, p| p + d.beside(p)),
    ("product with itself", true, |_, p| p * p),
    ("product with another", true, |d, p| d.beside(p) * p),
    ("difference of itself", true, |_, p| p.tanh() - p),
    ("maximum", false, |d, p| p.maximum(d.beside(p))),
    ("minimum", false, |d, p| d.beside(p).minimum(p)),
    ("select", true, |d, p| d.beside(p).step().select(p.square(), p)),
    ("stop_gradient beside", false, |_, p| p * p.stop_gradient()),
    ("broadcast", true, |_, p| p.broadcast_to(&[&[2], &*p.shape()].concat())),
    ("broadcast to the same shape", true, |_, p| p.broadcast_to(&p.shape()).square()),
    ("function of a broadcast", true, |_, p| p.broadcast_to(&[&[3], &*p.shape()].concat()).exp()),
    ("reshape", true, |_, p| p.reshape(&[p.len()])),
    ("reshape to the same shape", true, |_, p| p.reshape(&p.shape()).tanh()),
    ("permute", true, |_, p| matrix(p).transpose()),
    ("slice", true, |_, p| matrix(p).slice(&[0, 0], &matrix(p).shape(), &[1, 2])),
    ("pad", true, |_, p| matrix(p).pad(&[1, 0], &[0, 2])),
    ("concat", true, |_, p| Tensor::concat(&[matrix(p), matrix(p).square()], 1)),
    ("sum", true, |_, p| matrix(p).sum(&[0])),
    ("sum of all", true, |_, p| p.sum_all()),
    ("sum of a factor", true, |_, p| (p * -2.0).sum_all()),
    ("mean of each sample", true, |_, p| matrix(p).mean_per_sample()),
    ("max", false, |_, p| matrix(p).max(&[1])),
    ("variance", true, |_, p| matrix(p).variance(&[1])),
    ("softmax", true, |_, p| matrix(p).softmax(1)),
    ("batch norm", true, |_, p| {
        let p = matrix(p);
        (p - p.mean(&[0])) / (p.variance(&[0]) + 0.1).sqrt()
    }),
    ("matmul", true, |d, p| {
        let p = matrix(p);
        p.matmul(d.x(&format!("weight{}", p.shape()[1]), &[p.shape()[1], 3]))
    }),
    ("matmul with itself", true, |_, p| matrix(p).matmul_with(matrix(p), true, false).tanh()),
    ("conv2d", true, |d, p| image(p).conv2d(d.x("taps", &[2, 1, 3, 3]), ConvOptions::new(1, 1))),
    ("conv_transpose2d", true, |d, p| {
        image(p).conv_transpose2d(d.x("spread", &[1, 2, 3, 3]), ConvOptions::new(2, 1))
    }),
    ("avg_pool2d", true, |_, p| image(p).avg_pool2d(PoolOptions::new([2, 2], [1, 1], [1, 1]))),
    ("max_pool2d", false, |_, p| image(p).max_pool2d(PoolOptions::new([2, 2], [2, 2], [1, 1]))),
    ("power", true, |_, p| (p.square() + 0.25).powf(-1.5)),
    ("power of one", true, |_, p| p.powf(1.0)),
    ("exponent", true, |_, p| (p * 0.0 + 2.0).pow(p)),
    ("min", false, |_, p| matrix(p).min(&[1])),
    ("prod", true, |_, p| matrix(p.tanh()).prod(&[1])),
    ("gather", true, |_, p| matrix(p).gather(1, &[0, 0])),
    ("pad_with", true, |_, p| matrix(p).pad_with(&[1, 0], &[0, 2], Padding::Edge)),
    ("resize", true, |_, p| image(p).resize([3, 5], Sampling::Linear)),
    ("upsample_nearest", true, |_, p| image(p).upsample_nearest(2)),
];

/// Numbers of an input or state; a name has the same ones everywhere.
fn given(name: &str, len: usize) -> Vec<f32> {
    let seed = name.bytes().fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    numbers(len, seed).iter().map(|v| v + 0.05_f32.copysign(*v)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Σ w · (y + y²/2) of what a consumer makes.
fn loss<'t>(desk: &Desk<'t>, y: Tensor<'t>) -> Tensor<'t> {
    let w = desk.x(&format!("w{:?}", y.shape()), &y.shape());
    (w * (y + y.square() * 0.5)).sum_all()
}

/// The first and second derivatives of a loss with respect to a value, as outputs `g…` and `h…`.
fn differentiate<'t>(desk: &Desk<'t>, number: usize, loss: Tensor<'t>, of: Tensor<'t>) {
    let first = desk.tape.grad(loss, &[of])[0];
    let v = desk.x(&format!("v{:?}", of.shape()), &of.shape());
    let second = desk.tape.grad((v * first).sum_all(), &[of])[0];
    desk.tape.output(&format!("g{number}"), first);
    desk.tape.output(&format!("h{number}"), second);
}

fn states() -> (States, [Variable; 2]) {
    let mut states = States::new();
    let variables = ["s", "t"].map(|name| states.add(name, &SHAPE, Initial::Values(given(name, 96))));
    (states, variables)
}

/// Inputs of a program that was recorded, and the states.
fn world(graph: &ganomede::tape::Graph) -> World {
    let mut world = World::default();
    for (id, name) in ["s", "t"].into_iter().enumerate() {
        world.states.insert(id, wide(&given(name, 96)));
    }
    for node in &graph.nodes {
        if let ganomede::tape::Op::Input(name) = &node.op {
            world.inputs.insert(name.clone(), wide(&given(name, node.shape.iter().product())));
        }
    }
    world
}

/// What the derivatives must be: those with respect to an input that holds `value`, by the f64 interpreter.
/// The first is held against differences where those are fair; says whether it was.
fn wanted(number: usize, shape: &[usize], value: &[f64]) -> (BTreeMap<String, Vec<f64>>, bool) {
    const STEP: f64 = 1e-5;
    let ((_, smooth, consume), (_, variables), tape) = (CONSUMERS[number], states(), Tape::new());
    let desk = Desk { tape: &tape, states: &variables };
    let p = desk.x("p", shape);
    let loss = loss(&desk, consume(&desk, p));
    differentiate(&desk, number, loss, p);
    tape.output("loss", loss);
    let graph = tape.finish().unwrap_or_else(|e| panic!("{e}"));
    let mut world = world(&graph);
    world.inputs.insert("p".into(), value.to_vec());
    let mut found = interpreter::replay(&graph, &mut world.clone());
    found.remove("loss");
    if smooth {
        let direction = wide(&given("direction", value.len()));
        let moved = |step: f64| {
            let mut world = world.clone();
            let p = value.iter().zip(&direction).map(|(v, d)| v + step * d).collect();
            world.inputs.insert("p".into(), p);
            interpreter::replay(&graph, &mut world)["loss"][0]
        };
        let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
        let g = &found[&format!("g{number}")];
        let analytic: f64 = g.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let scale = g.iter().fold(1.0, |sum: f64, g| sum + g.abs());
        let name = CONSUMERS[number].0;
        assert!((numeric - analytic).abs() < 1e-6 * scale, "{name}: {numeric} by differences, {analytic}");
    }
    (found, smooth)
}

/// All consumers of a producer on a device; adds what is wrong, and returns how many pairs were held against
/// differences.
fn check(device: &Device, (name, produce): Producer, wrong: &mut Vec<String>) -> usize {
    let ((states, variables), tape) = (states(), Tape::new());
    let desk = Desk { tape: &tape, states: &variables };
    let (p, twin) = (produce(&desk), produce(&desk));
    // Inputs and states are one tensor however often they are asked for.
    let apart = !matches!(name, "input" | "state");
    for (number, (_, _, consume)) in CONSUMERS.iter().enumerate() {
        let mut total = loss(&desk, consume(&desk, p));
        if apart {
            total = total + loss(&desk, consume(&desk, twin));
        }
        differentiate(&desk, number, total, p);
    }
    tape.output("p", p);
    let graph = tape.finish().unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut world = world(&graph);
    let value = interpreter::replay(&graph, &mut world)["p"].clone();
    let (mut executable, _store) = load(device, &program(&tape), &states, 0);
    for (name, values) in &world.inputs {
        write(&mut executable, name, &values.iter().map(|&v| v as f32).collect::<Vec<_>>());
    }
    executable.run(1).unwrap();
    let mut fair = 0;
    for (number, (consumer, _, _)) in CONSUMERS.iter().enumerate() {
        let (want, smooth) = wanted(number, &p.shape(), &value);
        fair += usize::from(smooth);
        for (output, want) in &want {
            let got = executable.read(output).unwrap();
            let scale = want.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
            let worst = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).abs() / scale);
            let found = worst.fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
            if got.len() != want.len() || found > 1e-4 {
                wrong.push(format!("{consumer} of {name}, {output}: {found:e} away"));
            }
        }
    }
    fair
}

fn every_pair(device: &Device) {
    let (mut wrong, mut fair) = (vec![], 0);
    for &producer in PRODUCERS {
        fair += check(device, producer, &mut wrong);
    }
    let pairs = PRODUCERS.len() * CONSUMERS.len();
    assert!(pairs >= 4500 && fair >= 3500, "{pairs} pairs, {fair} of them by differences");
    assert!(wrong.is_empty(), "{} of {pairs} pairs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_value_has_its_gradient_under_every_operation_on_cpu() {
    every_pair(&common::cpu());
}

#[test]
fn every_value_has_its_gradient_under_every_operation_on_gpu() {
    every_pair(&common::gpu());
}

/// Outputs of a program over inputs `x = [1, 2, 3]` and a state `s = [4, 5, 6]`, the same on both devices.
fn outputs(record: impl for<'t> Fn(&'t Tape, Tensor<'t>, &Variable)) -> BTreeMap<String, Vec<f32>> {
    let mut states = States::new();
    let s = states.add("s", &[3], Initial::Values(vec![4.0, 5.0, 6.0]));
    let tape = Tape::new();
    record(&tape, tape.input("x", &[3]), &s);
    let program = program(&tape);
    let names: Vec<_> = tape.finish().unwrap().outputs.into_iter().map(|(name, _)| name).collect();
    let [on_cpu, on_gpu] = [common::cpu(), common::gpu()].map(|device| {
        let (mut executable, _store) = load(&device, &program, &states, 0);
        write(&mut executable, "x", &[1.0, 2.0, 3.0]);
        executable.run(1).unwrap();
        names.iter().map(|name| (name.clone(), executable.read(name).unwrap())).collect::<BTreeMap<_, _>>()
    });
    assert_eq!(on_cpu, on_gpu);
    on_cpu
}

#[test]
fn equal_values_that_were_written_twice_are_two() {
    let found = outputs(|tape, x, _| {
        let (a, b) = (x * 2.0, x * 2.0);
        let (v, w) = (tape.full(2.0, &[3]), tape.full(2.0, &[3]));
        let same = [x.reshape(&[3]), x.broadcast_to(&[3]), x * 1.0, x + 0.0, x.stop_gradient()];
        let alike = same.iter().fold(x, |sum, &t| sum + t * t);
        let loss = (a * 3.0 + b * 5.0 + v * x + w * w).sum_all() + alike.sum_all();
        let wrt = [&[a, b, v, w, x], &same[..]].concat();
        for (i, g) in tape.grad(loss, &wrt).into_iter().enumerate() {
            tape.output(&format!("{i}"), g);
        }
    });
    assert_eq!((&found["0"][..], &found["1"][..]), (&[3.0; 3][..], &[5.0; 3][..]));
    assert_eq!((&found["2"][..], &found["3"][..]), (&[1.0, 2.0, 3.0][..], &[4.0; 3][..]));
    // 6 + 10 by a and b, 2 by v, 1 by itself, 2x by each of the four values that are made from it.
    assert_eq!(found["4"], [27.0, 35.0, 43.0]);
    for i in 5..10 {
        assert_eq!(found[&i.to_string()], [2.0, 4.0, 6.0], "{i}");
    }
}

#[test]
fn a_state_after_its_assignment_is_the_value_that_it_was_given() {
    let found = outputs(|tape, x, s| {
        let before = tape.state(s);
        tape.assign(s, before * x);
        let after = tape.state(s);
        let loss = (after * after + before).sum_all();
        let gradients = tape.grad(loss, &[before, after, x]);
        ["before", "after", "x"].iter().zip(gradients).for_each(|(name, g)| tape.output(name, g));
    });
    assert_eq!(found["after"], [8.0, 20.0, 36.0]);
    assert_eq!(found["before"], [9.0, 41.0, 109.0]);
    assert_eq!(found["x"], [32.0, 100.0, 216.0]);
}

/// A row and what it repeats to are two values: gradients of gradients tell them apart too.
#[test]
fn gradients_of_gradients_stop_at_what_is_asked_for() {
    let found = outputs(|tape, x, _| {
        let wide = x.broadcast_to(&[2, 3]);
        let wider = wide.broadcast_to(&[4, 2, 3]);
        let loss = (wider * wider * wide).sum_all() + (x * x * x).sum_all();
        let first = tape.grad(loss, &[x, wide, wider]);
        // Through the gradient with respect to x, d/dwide of Σ (what wide gives x): 24·wide of wide³ · 4.
        let second = tape.grad(first[0].sum_all(), &[wide, wider, x]);
        let names = ["x", "wide", "wider", "wide of x", "wider of x", "x of x"];
        names.iter().zip(first.into_iter().chain(second)).for_each(|(name, g)| tape.output(name, g));
    });
    // Loss: 8 Σ x³ by way of wide and wider, and Σ x³.
    assert_eq!(found["x"], [27.0, 108.0, 243.0]);
    assert_eq!(found["wide"], [[12.0, 48.0, 108.0]; 2].concat());
    assert_eq!(found["wider"], [[2.0, 8.0, 18.0]; 8].concat());
    // The gradient that x gets is Σ over copies of (2·wider·wide + wider²) + 3x².
    assert_eq!(found["wide of x"], [[24.0, 48.0, 72.0]; 2].concat());
    assert_eq!(found["wider of x"], [[4.0, 8.0, 12.0]; 8].concat());
    assert_eq!(found["x of x"], [54.0, 108.0, 162.0]);
}

/// Gradients are values of their own too: those of the two sides of a sum are equal, and apart.
#[test]
fn equal_gradients_are_two_values() {
    let found = outputs(|tape, x, s| {
        let (a, b) = (x.tanh() * 0.0, tape.state(s));
        let cotangent = tape.full(2.0, &[3]);
        let given = tape.vjp(a + b, cotangent, &[a, b]);
        let loss = (given[0] * given[0] + given[1] * 3.0).sum_all();
        let names = ["a", "b", "cotangent"];
        names
            .iter()
            .zip(tape.grad(loss, &[given[0], given[1], cotangent]))
            .for_each(|(n, g)| tape.output(n, g));
    });
    assert_eq!((&found["a"][..], &found["b"][..]), (&[4.0; 3][..], &[3.0; 3][..]));
    assert_eq!(found["cotangent"], [7.0; 3]);
}

/// A step from a loss that was recorded before the last one would move nothing: it is refused, and a new loss
/// is not.
#[test]
fn a_loss_from_before_an_update_is_refused() {
    let finish = |late: bool| {
        let mut states = States::new();
        let p = states.add("p", &[3], Initial::Values(vec![4.0, 5.0, 6.0]));
        let unused = states.add("unused", &[1], Initial::Constant(1.0));
        let sgd = ganomede::nn::Sgd::new(&mut states, "sgd", vec![p.clone(), unused], 0.25, 0.0);
        let tape = Tape::new();
        let loss = || tape.state(&p).square().sum_all();
        let before = loss();
        sgd.minimise(&tape, before);
        sgd.minimise(&tape, if late { before } else { loss() });
        tape.finish().map(|_| {
            let (mut executable, store) = load(&common::cpu(), &program(&tape), &states, 0);
            executable.run(1).unwrap();
            store.read(p.id).unwrap()
        })
    };
    assert_eq!(finish(false).unwrap(), [1.0, 1.25, 1.5]);
    let error = finish(true).unwrap_err().to_string();
    assert!(error.contains("state 0") && error.contains("record it again"), "{error}");
}

/// Zeros come out where there is no way from the loss to a tensor, and nowhere else.
#[test]
fn what_a_loss_does_not_depend_on_has_zeros() {
    let found = outputs(|tape, x, s| {
        let stopped = x.stop_gradient();
        let (mask, unused) = (x.step(), x.exp());
        let loss = (stopped * stopped + mask.select(tape.state(s), x)).sum_all();
        let later = x * 7.0;
        let wrt = [stopped, mask, unused, later, x, tape.state(s)];
        let names = ["stopped", "mask", "unused", "later", "x", "s"];
        names.iter().zip(tape.grad(loss, &wrt)).for_each(|(name, g)| tape.output(name, g));
    });
    assert_eq!(found["stopped"], [2.0, 4.0, 6.0]);
    for name in ["mask", "unused", "later", "x"] {
        assert_eq!(found[name], [0.0; 3], "{name}");
    }
    assert_eq!(found["s"], [1.0; 3]);
}
