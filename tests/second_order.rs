//! Gradients of gradients where they matter: the gradient penalty of WGAN-GP (Gulrajani et al. 2017, equation
//! 3), λ · mean (‖∇ₓ D(x)‖₂ − 1)², against PyTorch's double backward and against numeric differences in f64.
//! `tests/goldens/penalty.py` defines the two critics and writes the numbers.

use crate::common;
use crate::common::{Fixture, assert_close, load, write};
use crate::interpreter;
use crate::interpreter::World;
use ganomede::device::Device;
use ganomede::program::compile;
use ganomede::tape::{ConvOptions, Graph, States, Tape, Tensor};

const TOLERANCE: f32 = 1e-3;
const LAMBDA: f32 = 10.0;

/// Three convolutions and a linear layer; with layer norm after the second and third convolution.
fn critic<'t>(x: Tensor<'t>, parameters: &[Tensor<'t>], norm: bool) -> Tensor<'t> {
    let mut p = parameters.iter().copied();
    let mut next = || p.next().expect("the fixture has all parameters");
    let channel = |p: Tensor<'t>| p.reshape(&[1, p.len(), 1, 1]);
    let mut h = x;
    for i in 0..3 {
        h = h.conv2d(next(), ConvOptions::new(2, 1)) + channel(next());
        if norm && i > 0 {
            let axes = [1, 2, 3];
            h = (h - h.mean(&axes)) / (h.variance(&axes) + 1e-5).sqrt() * channel(next()) + channel(next());
        }
        h = h.leaky_relu(0.2);
    }
    h.flatten().linear(next(), Some(next()))
}

/// The penalty and its gradients as outputs `penalty`, `norms`, `gx`, `g0`, …; inputs `x`, `p0`, ….
fn record(fixture: &Fixture, name: &str) -> Graph {
    let tape = Tape::new();
    let x = tape.input("x", &fixture.get(&format!("{name}/x")).shape);
    let shapes = fixture.numbered(&format!("{name}/p"));
    let p: Vec<_> = shapes.iter().enumerate().map(|(i, a)| tape.input(&format!("p{i}"), &a.shape)).collect();
    let gradient = tape.grad(critic(x, &p, name == "norm").sum_all(), &[x])[0];
    let norms = gradient.square().sum_per_sample().sqrt();
    let penalty = (norms - 1.0).square().mean_all() * LAMBDA;
    tape.output("norms", norms);
    tape.output("penalty", penalty);
    let gradients = tape.grad(penalty, &[p.as_slice(), &[x]].concat());
    for (i, g) in gradients[..p.len()].iter().enumerate() {
        tape.output(&format!("g{i}"), *g);
    }
    tape.output("gx", gradients[p.len()]);
    tape.finish().unwrap_or_else(|e| panic!("{e}"))
}

fn inputs(fixture: &Fixture, name: &str) -> Vec<String> {
    let count = fixture.numbered(&format!("{name}/p")).len();
    (0..count).map(|i| format!("p{i}")).chain(["x".to_owned()]).collect()
}

fn matches_pytorch(device: &Device) {
    let fixture = Fixture::read("penalty.safetensors");
    for name in ["plain", "norm"] {
        let program = compile(&record(&fixture, name)).unwrap_or_else(|e| panic!("{e}"));
        let (mut executable, _store) = load(device, &program, &States::new(), 0);
        let inputs = inputs(&fixture, name);
        for input in &inputs {
            write(&mut executable, input, &fixture.get(&format!("{name}/{input}")).data);
        }
        executable.run(1).unwrap();
        let gradients = inputs.iter().map(|i| i.replace('p', "g").replace('x', "gx"));
        for output in gradients.chain(["norms".to_owned(), "penalty".to_owned()]) {
            let want = &fixture.get(&format!("{name}/{output}")).data;
            assert_close(&format!("{name}/{output}"), &executable.read(&output).unwrap(), want, TOLERANCE);
        }
    }
}

#[test]
fn penalty_gradients_match_pytorch_on_cpu() {
    matches_pytorch(&common::cpu());
}

#[test]
fn penalty_gradients_match_pytorch_on_gpu() {
    matches_pytorch(&common::gpu());
}

/// Along a random direction for each parameter, the penalty's slope by central differences in f64. Leaky ReLU
/// bends the critic, so the step is small enough that no activation changes sign.
#[test]
fn penalty_gradients_match_numeric_differences() {
    const STEP: f64 = 1e-6;
    let fixture = Fixture::read("penalty.safetensors");
    for name in ["plain", "norm"] {
        let graph = record(&fixture, name);
        let inputs = inputs(&fixture, name);
        let value = |input: &String| {
            fixture.get(&format!("{name}/{input}")).data.iter().map(|&v| f64::from(v)).collect()
        };
        let world =
            World { inputs: inputs.iter().map(|i| (i.clone(), value(i))).collect(), ..World::default() };
        let at = interpreter::replay(&graph, &mut world.clone());
        for (seed, input) in inputs.iter().enumerate() {
            let gradient = &at[&input.replace('p', "g").replace('x', "gx")];
            let direction = common::numbers(gradient.len(), seed as u32 + 9);
            let moved = |step: f64| {
                let mut world = world.clone();
                let values = world.inputs.get_mut(input).expect("every parameter is an input");
                values.iter_mut().zip(&direction).for_each(|(v, d)| *v += step * f64::from(*d));
                interpreter::replay(&graph, &mut world)["penalty"][0]
            };
            let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let analytic: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * f64::from(*d)).sum();
            let scale = gradient.iter().map(|g| g * g).sum::<f64>().sqrt().max(1e-3);
            assert!(
                (numeric - analytic).abs() < 1e-6 * scale,
                "{name}/{input}: {numeric} by differences, {analytic}"
            );
        }
    }
}
