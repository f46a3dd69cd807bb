//! Five steps of DCGAN training against PyTorch: losses of each step, and parameters and running statistics
//! at the end. `tests/goldens/dcgan.py` defines the steps and writes the numbers.

use crate::common;
use crate::common::{Fixture, assert_close, load, program, write};
use ganomede::device::Device;
use ganomede::models::anogan::AnoGan;
use ganomede::models::{Config, Prior, Size, System, Training};
use ganomede::program::StateId;
use ganomede::tape::{States, Tape};

const STEPS: usize = 5;
const TOLERANCE: f32 = 1e-3;

/// Trains, compares, and returns all values of the model at the end.
fn train(device: &Device) -> Vec<f32> {
    let fixture = Fixture::read("dcgan.safetensors");
    let config = Config {
        size: Size::square(16),
        channels: 3,
        width: 8,
        latent: 16,
        prior: Prior::Normal,
        ..Config::default()
    };
    let mut states = States::new();
    let mut model = AnoGan::new(&mut states, &config).unwrap();
    let of_model = states.entries().len();
    model.register_training(&mut states, Training::default(), 0);
    let tape = Tape::new();
    let x = tape.input("x", &config.images(8));
    let z = tape.input("z", &[8, config.latent]);
    for (name, value) in model.train_step(&tape, x, z) {
        tape.output(name, value);
    }
    let (mut executable, store) = load(device, &program(&tape), &states, 0);

    let names: Vec<_> = states.entries()[..of_model].iter().map(|e| e.name.clone()).collect();
    let known = fixture.names().filter(|name| name.starts_with("before/")).count();
    assert_eq!(names.len(), known, "the model has the states that PyTorch's has: {names:?}");
    for (id, name) in names.iter().enumerate() {
        store.write(StateId(id), &fixture.get(&format!("before/{name}")).data).unwrap();
    }
    for t in 0..STEPS {
        for input in ["x", "z"] {
            write(&mut executable, input, &fixture.get(&format!("{t}/{input}")).data);
        }
        executable.run(1).unwrap();
        for loss in ["loss_d", "loss_g"] {
            let got = executable.read(loss).unwrap();
            assert_close(
                &format!("step {t}, {loss}"),
                &got,
                &fixture.get(&format!("{t}/{loss}")).data,
                TOLERANCE,
            );
        }
    }
    let mut values = vec![];
    for (id, name) in names.iter().enumerate() {
        let got = store.read(StateId(id)).unwrap();
        let (before, after) = (fixture.get(&format!("before/{name}")), fixture.get(&format!("after/{name}")));
        assert_close(name, &got, &after.data, TOLERANCE);
        // Five steps of 2e-4 are small beside the values: the way they went is compared too.
        let moved =
            |end: &[f32]| end.iter().zip(&before.data).map(|(e, b)| 1e4 * (e - b)).collect::<Vec<_>>();
        assert_close(&format!("movement of {name}"), &moved(&got), &moved(&after.data), TOLERANCE);
        values.extend(got);
    }
    values
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn five_steps_match_pytorch_on_cpu_with_any_number_of_threads() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        bits(&pool.install(|| train(&common::cpu())))
    };
    assert_eq!(with(1), with(3), "threads change no bit");
}

#[test]
fn five_steps_match_pytorch_on_gpu() {
    let [first, second] = [0, 1].map(|_| bits(&train(&common::gpu())));
    assert_eq!(first, second, "two runs have the same bits");
}
