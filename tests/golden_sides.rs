//! Networks of sides that are no powers of two against PyTorch, on both devices: five training steps of a
//! DCGAN on images of 48×80 and of a GANomaly on images of 33×50 (width × height). `tests/goldens/sides.py`
//! defines the steps and writes the numbers.

use crate::common::{Fixture, assert_close, cpu, gpu, load, program, write};
use ganomede::device::Device;
use ganomede::models::anogan::AnoGan;
use ganomede::models::{Config, Options, Prior, Size, System, Training, find};
use ganomede::program::StateId;
use ganomede::tape::{States, Tape};

const STEPS: usize = 5;
const BATCH: usize = 3;
const TOLERANCE: f32 = 1e-3;

fn config(size: &str) -> Config {
    let size: Size = size.parse().unwrap();
    Config { size, width: 4, latent: 8, prior: Prior::Normal, ..Config::default() }
}

/// The model's states as PyTorch has them, one to one.
fn names(states: &States, of_model: usize, fixture: &Fixture, system: &str) -> Vec<String> {
    let names: Vec<_> = states.entries()[..of_model].iter().map(|e| e.name.clone()).collect();
    let prefix = format!("{system}/before/");
    assert_eq!(names.len(), fixture.names().filter(|name| name.starts_with(&prefix)).count(), "{names:?}");
    names
}

/// Trains on the fixture's batch and compares losses, and parameters with the way that they went.
fn follow(
    device: &Device,
    system: &str,
    tape: &Tape,
    losses: &[&'static str],
    states: &States,
    of_model: usize,
) -> ganomede::device::Store {
    let fixture = Fixture::read("sides.safetensors");
    let of = |what: &str| &fixture.get(&format!("{system}/{what}")).data;
    let (mut executable, store) = load(device, &program(tape), states, 0);
    let names = names(states, of_model, &fixture, system);
    for (id, name) in names.iter().enumerate() {
        store.write(StateId(id), of(&format!("before/{name}"))).unwrap();
    }
    write(&mut executable, "x", of("x"));
    for t in 0..STEPS {
        if let Some(z) = fixture.find(&format!("{system}/{t}/z")) {
            write(&mut executable, "z", &z.data);
        }
        executable.run(1).unwrap();
        for loss in losses {
            let got = executable.read(loss).unwrap();
            assert_close(&format!("{system}, step {t}, {loss}"), &got, of(&format!("{t}/{loss}")), TOLERANCE);
        }
    }
    for (id, name) in names.iter().enumerate() {
        let (got, after, before) =
            (store.read(StateId(id)).unwrap(), of(&format!("after/{name}")), of(&format!("before/{name}")));
        assert_close(&format!("{system}, {name}"), &got, after, TOLERANCE);
        let moved = |end: &[f32]| end.iter().zip(before).map(|(e, b)| 1e4 * (e - b)).collect::<Vec<_>>();
        assert_close(&format!("{system}, movement of {name}"), &moved(&got), &moved(after), 10.0 * TOLERANCE);
    }
    store
}

fn dcgan(device: &Device) {
    let config = config("48x80");
    let mut states = States::new();
    let mut model = AnoGan::new(&mut states, &config).unwrap();
    let of_model = states.entries().len();
    model.register_training(&mut states, Training { lr: 2e-4, betas: [0.5, 0.999] }, 0);
    let tape = Tape::new();
    let x = tape.input("x", &config.images(BATCH));
    let z = tape.input("z", &[BATCH, config.latent]);
    for (name, value) in model.train_step(&tape, x, z) {
        tape.output(name, value);
    }
    follow(device, "dcgan", &tape, &["loss_d", "loss_g"], &states, of_model);
}

fn ganomaly(device: &Device) {
    let (config, info) = (config("33x50"), find("ganomaly").unwrap());
    let mut states = States::new();
    let mut system = info.build(&mut states, &config, &Options::new(info.options, []).unwrap()).unwrap();
    let of_model = states.entries().len();
    system.register_training(&mut states, Training { lr: 2e-4, betas: [0.5, 0.999] }, 0);
    let tape = Tape::new();
    for (name, value) in system.record(&tape, 0, 0, tape.input("x", &config.images(BATCH))) {
        tape.output(name, value);
    }
    let losses = ["loss_d", "loss_g", "adv", "con", "enc"];
    let store = follow(device, "ganomaly", &tape, &losses, &states, of_model);

    let fixture = Fixture::read("sides.safetensors");
    for score in ["code", "paper", "norm"] {
        let tape = Tape::new();
        tape.output("score", system.score(&tape, tape.input("x", &config.images(BATCH)), score).score);
        let mut executable = device.load(&program(&tape), &store).unwrap();
        executable.write("x", &fixture.get("ganomaly/x").data).unwrap();
        executable.run(1).unwrap();
        let want = &fixture.get(&format!("ganomaly/score/{score}")).data;
        assert_close(&format!("score {score}"), &executable.read("score").unwrap(), want, TOLERANCE);
    }
}

#[test]
fn a_dcgan_of_48_by_80_matches_pytorch_on_cpu() {
    dcgan(&cpu());
}

#[test]
fn a_dcgan_of_48_by_80_matches_pytorch_on_gpu() {
    dcgan(&gpu());
}

#[test]
fn a_ganomaly_of_33_by_50_matches_pytorch_on_cpu() {
    ganomaly(&cpu());
}

#[test]
fn a_ganomaly_of_33_by_50_matches_pytorch_on_gpu() {
    ganomaly(&gpu());
}
