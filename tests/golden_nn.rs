//! Optimisers and normalising layers over several steps against PyTorch, on both devices.
//! `tests/goldens/nn.py` writes the numbers.

use crate::common;
use crate::common::{Fixture, assert_close, load, program, write};
use ganomede::device::Device;
use ganomede::nn::{Adam, BatchNorm, Ema, LayerNorm, Mode, RmsProp, Sgd};
use ganomede::tape::{Initial, States, Tape, Tensor, Variable};

const TOLERANCE: f32 = 1e-5;

/// Records one step that follows the gradient of ⟨g, p⟩, which is g.
type Step = for<'t> fn(&mut States, Variable, &'t Tape, &dyn Fn() -> Tensor<'t>);

fn adam<'t>(
    states: &mut States,
    p: Variable,
    tape: &'t Tape,
    loss: &dyn Fn() -> Tensor<'t>,
    lr: f32,
    betas: [f32; 2],
) {
    Adam::new(states, "adam", vec![p], lr, betas).minimise(tape, loss());
}

const OPTIMISERS: &[(&str, Step)] = &[
    ("adam", |states, p, tape, loss| adam(states, p, tape, loss, 0.01, [0.9, 0.999])),
    ("adam_wgan", |states, p, tape, loss| adam(states, p, tape, loss, 0.02, [0.0, 0.9])),
    ("adam_decay", |states, p, tape, loss| {
        let mut adam = Adam::new(states, "adam", vec![p], 0.01, [0.5, 0.999]);
        adam.weight_decay = 0.1;
        adam.minimise(tape, loss());
    }),
    ("rmsprop", |states, p, tape, loss| {
        RmsProp::new(states, "rms", vec![p], 0.01, 0.9).minimise(tape, loss())
    }),
    ("sgd", |states, p, tape, loss| Sgd::new(states, "sgd", vec![p], 0.05, 0.0).minimise(tape, loss())),
    ("sgd_momentum", |states, p, tape, loss| {
        Sgd::new(states, "sgd", vec![p], 0.05, 0.9).minimise(tape, loss())
    }),
];

fn optimisers(device: &Device) {
    let fixture = Fixture::read("nn.safetensors");
    for (name, step) in OPTIMISERS {
        let mut states = States::new();
        let p = states.add("p", &[5, 3], Initial::Values(fixture.get("p").data.clone()));
        let tape = Tape::new();
        step(&mut states, p.clone(), &tape, &|| (tape.state(&p) * tape.input("g", &[5, 3])).sum_all());
        let (mut executable, store) = load(device, &program(&tape), &states, 0);
        for g in fixture.numbered("g") {
            write(&mut executable, "g", &g.data);
            executable.run(1).unwrap();
        }
        let want = &fixture.get(&format!("{name}/p")).data;
        assert_close(name, &store.read(p.id).unwrap(), want, TOLERANCE);
    }
}

#[test]
fn optimisers_match_pytorch_on_cpu() {
    optimisers(&common::cpu());
}

#[test]
fn optimisers_match_pytorch_on_gpu() {
    optimisers(&common::gpu());
}

fn norms(device: &Device) {
    let fixture = Fixture::read("nn.safetensors");
    let mut states = States::new();
    let (batch, layer) = (BatchNorm::new(&mut states, "bn", 3), LayerNorm::new(&mut states, "ln", 3));
    let [gamma, beta] = batch.affine.as_ref().expect("γ and β");
    let store = device.store(&states, 0).unwrap();
    for (variable, name) in
        [(gamma, "weight"), (&layer.weight, "weight"), (beta, "bias"), (&layer.bias, "bias")]
    {
        store.write(variable.id, &fixture.get(name).data).unwrap();
    }
    let apply = |forward: &dyn for<'t> Fn(&'t Tape, Tensor<'t>) -> Tensor<'t>, x: usize| {
        let tape = Tape::new();
        tape.output("y", forward(&tape, tape.input("x", &[4, 3, 2, 5])));
        let mut executable = device.load(&program(&tape), &store).unwrap();
        write(&mut executable, "x", &fixture.get(&format!("x{x}")).data);
        executable.run(1).unwrap();
        executable.read("y").unwrap()
    };
    for t in 0..3 {
        let y = apply(&|tape, x| batch.forward(tape, x, Mode::Train), t);
        assert_close(&format!("batch norm, step {t}"), &y, &fixture.get(&format!("bn/y{t}")).data, TOLERANCE);
    }
    for (variable, name) in [(&batch.running_mean, "bn/mean"), (&batch.running_var, "bn/var")] {
        assert_close(name, &store.read(variable.id).unwrap(), &fixture.get(name).data, TOLERANCE);
    }
    let y = apply(&|tape, x| batch.forward(tape, x, Mode::Eval), 0);
    assert_close("batch norm, eval", &y, &fixture.get("bn/eval").data, TOLERANCE);
    assert_close(
        "layer norm",
        &apply(&|tape, x| layer.forward(tape, x), 0),
        &fixture.get("ln/y").data,
        TOLERANCE,
    );
}

#[test]
fn normalising_layers_match_pytorch_on_cpu() {
    norms(&common::cpu());
}

#[test]
fn normalising_layers_match_pytorch_on_gpu() {
    norms(&common::gpu());
}

/// e ← d·e + (1 − d)·p with d = min(0.9, t / (t + 1)): the mean of what was seen so far, then the moving
/// average.
#[test]
fn moving_averages_start_as_means() {
    let mut states = States::new();
    let p = states.add("p", &[1], Initial::Constant(0.0));
    let t = states.add("t", &[1], Initial::Constant(0.0));
    let ema = Ema::new(&mut states, "ema", vec![p.clone()], 0.9);
    let tape = Tape::new();
    tape.assign(&p, tape.state(&p) + 1.0);
    ema.update(&tape, tape.state(&t));
    tape.assign(&t, tape.state(&t) + 1.0);
    let (mut executable, store) = load(&common::cpu(), &program(&tape), &states, 0);
    let average = || store.read(ema.averages()[0].id).unwrap();
    executable.run(1).unwrap();
    assert_eq!(average(), [1.0]);
    executable.run(3).unwrap();
    assert_close("mean of 1 to 4", &average(), &[2.5], 1e-6);
    executable.run(20).unwrap();
    let want = (5..=24).fold(2.5, |e: f32, p| {
        let d = (p as f32 - 1.0) / p as f32;
        let d = d.min(0.9);
        d * e + (1.0 - d) * p as f32
    });
    assert_close("moving average", &average(), &[want], 1e-5);
}
