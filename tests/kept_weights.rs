//! A scorer or a search multiplies by the same weights again and again, and a device may keep them in another
//! form. Whoever writes them, and however, the next replay takes the new ones.

use crate::common::{cpu, gpu, program};
use ganomede::device::{Device, Store};
use ganomede::program::Program;
use ganomede::tape::{ConvOptions, Initial, States, Tape, Tensor};

const BATCH: usize = 3;

fn devices() -> [(&'static str, Device); 2] {
    [("cpu", cpu()), ("gpu", gpu())]
}

fn registry() -> States {
    let mut states = States::new();
    let spread = |bound| Initial::Uniform { bound };
    states.add("conv", &[24, 17, 4, 4], spread(0.1));
    states.add("up", &[24, 20, 4, 4], spread(0.1));
    states.add("plain", &[6, 20, 3, 3], spread(0.2));
    states.add("linear", &[384, 10], spread(0.1));
    states.add("other", &[2], spread(1.0));
    states
}

/// Convolutions down, up and plain, and a matrix product, one after another.
fn network<'t>(tape: &'t Tape, states: &States) -> Tensor<'t> {
    let weight = |name: &str| tape.state(&states.find(name).unwrap());
    let x = tape.input("x", &[BATCH, 17, 8, 8]);
    let down = x.conv2d(weight("conv"), ConvOptions::new(2, 1)).leaky_relu(0.2);
    let up = down.conv_transpose2d(weight("up"), ConvOptions::new(2, 1)).tanh();
    let plain = up.conv2d(weight("plain"), ConvOptions::new(1, 1));
    plain.reshape(&[BATCH, 384]).matmul(weight("linear"))
}

fn reader(states: &States) -> Program {
    let tape = Tape::new();
    tape.output("y", network(&tape, states));
    program(&tape)
}

fn input(seed: usize) -> Vec<f32> {
    (0..BATCH * 17 * 64).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
}

/// What a program says that has kept nothing yet.
fn fresh(device: &Device, program: &Program, store: &Store, x: &[f32]) -> Vec<u32> {
    let mut executable = device.load(program, store).unwrap();
    executable.write("x", x).unwrap();
    executable.run(1).unwrap();
    bits(&executable.read("y").unwrap())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn weights_that_the_host_writes_are_taken() {
    let states = registry();
    let program = reader(&states);
    for (name, device) in devices() {
        let store = device.store(&states, 1).unwrap();
        let mut kept = device.load(&program, &store).unwrap();
        let x = input(0);
        kept.write("x", &x).unwrap();
        let mut seen = vec![];
        for round in 0..3 {
            for state in ["conv", "up", "plain", "linear"] {
                let variable = states.find(state).unwrap();
                let mut values = store.read(variable.id).unwrap();
                values.iter_mut().for_each(|v| *v = 0.9 * *v + 0.001);
                store.write(variable.id, &values).unwrap();
                kept.run(2).unwrap();
                let got = bits(&kept.read("y").unwrap());
                assert_eq!(got, fresh(&device, &program, &store, &x), "{name}, {state}, round {round}");
                assert!(!seen.contains(&got), "{name}: {state} changed nothing");
                seen.push(got);
            }
        }
        // Other weights at once, as a checkpoint brings them.
        store.initialise(&states, 2).unwrap();
        kept.run(1).unwrap();
        assert_eq!(bits(&kept.read("y").unwrap()), fresh(&device, &program, &store, &x), "{name}");
    }
}

#[test]
fn weights_that_another_program_trains_are_taken() {
    let states = registry();
    let read = reader(&states);
    let train = {
        let tape = Tape::new();
        let loss = network(&tape, &states).square().mean_all();
        let names = ["conv", "up", "plain", "linear"];
        let weights: Vec<_> = names.iter().map(|name| states.find(name).unwrap()).collect();
        let leaves: Vec<_> = weights.iter().map(|weight| tape.state(weight)).collect();
        let gradients = tape.grad(loss, &leaves);
        for ((weight, leaf), gradient) in weights.iter().zip(leaves).zip(gradients) {
            tape.assign(weight, leaf - gradient * 0.02);
        }
        tape.output("y", loss.reshape(&[1]));
        program(&tape)
    };
    for (name, device) in devices() {
        let store = device.store(&states, 1).unwrap();
        let mut kept = device.load(&read, &store).unwrap();
        let mut trainer = device.load(&train, &store).unwrap();
        kept.write("x", &input(1)).unwrap();
        trainer.write("x", &input(1)).unwrap();
        let mut last = f32::INFINITY;
        for step in 0..4 {
            trainer.run(1).unwrap();
            kept.run(1).unwrap();
            let got = bits(&kept.read("y").unwrap());
            assert_eq!(got, fresh(&device, &read, &store, &input(1)), "{name}, step {step}");
            let loss = trainer.read("y").unwrap()[0];
            assert!(loss < last, "{name}: the loss is {loss} after {last}");
            last = loss;
        }
    }
}

#[test]
fn what_is_kept_is_counted() {
    let states = registry();
    let program = reader(&states);
    let device = cpu();
    let store = device.store(&states, 1).unwrap();
    let known = device.program_bytes(&program).unwrap();
    assert_eq!(device.load(&program, &store).unwrap().bytes(), known);
    // A form of each weight, none smaller than the weight itself.
    let weights: u64 = states.lens()[..4].iter().map(|&len| 4 * len as u64).sum();
    assert!(known > weights, "{known} bytes hold no {weights} bytes of weights");
}
