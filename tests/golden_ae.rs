//! Deep SVDD against PyTorch through all of its stages, and the baselines against scikit-learn; the scripts
//! are in `tests/goldens`.

mod common;

use common::{Fixture, assert_close};
use ganomede::device::{Device, Executable, Store};
use ganomede::models::gmm::Mixture;
use ganomede::models::{Config, Options, Size, System, Training, find};
use ganomede::program::StateId;
use ganomede::tape::{States, Tape};
use ganomede::train::part_program;

const TOLERANCE: f32 = 1e-3;

/// A system in training on a device.
struct Session {
    system: Box<dyn System>,
    states: States,
    store: Store,
    device: Device,
    batch: usize,
}

impl Session {
    fn new(
        device: &Device,
        name: &str,
        options: &[(&str, &str)],
        config: &Config,
        training: Training,
        batch: usize,
    ) -> Self {
        let info = find(name).unwrap();
        let mut states = States::new();
        let options = Options::new(info.options, options.iter().copied()).unwrap();
        let mut system = info.build(&mut states, config, &options).unwrap();
        system.register_training(&mut states, training, 1);
        let store = device.store(&states, 1).unwrap();
        Self { system, states, store, device: device.clone(), batch }
    }

    /// Runs a stage over batches and ends it; returns its first loss at each step.
    fn stage<'a>(&self, stage: usize, batches: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
        let part = part_program(self.system.as_ref(), stage, 0, self.batch).unwrap();
        let mut executable: Executable = self.device.load(&part.program, &self.store).unwrap();
        let mut losses = vec![];
        for (at, x) in batches.enumerate() {
            executable.write("x", x).unwrap();
            executable.run(1).unwrap();
            if !part.names.is_empty() {
                losses.push(executable.read("losses").unwrap()[0]);
            }
            self.system.after_step(stage, at as u64, &mut [&mut executable], &self.store).unwrap();
        }
        self.system.after_stage(stage, &self.store).unwrap();
        losses
    }

    fn read(&self, name: &str) -> Vec<f32> {
        self.store.read(self.states.find(name).unwrap_or_else(|| panic!("no '{name}'")).id).unwrap()
    }

    fn score(&self, x: &[f32], n: usize, score: &str) -> Vec<f32> {
        let tape = Tape::new();
        let input = tape.input("x", &self.system.config().images(n));
        tape.output("score", self.system.score(&tape, input, score).score);
        let mut executable = self.device.load(&common::program(&tape), &self.store).unwrap();
        executable.write("x", x).unwrap();
        executable.run(1).unwrap();
        executable.read("score").unwrap()
    }
}

/// Losses one by one, each relative to itself.
fn assert_each_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= TOLERANCE * w.abs(), "{what} {i}: {g} and not {w}");
    }
}

fn deep_svdd_follows_pytorch(device: &Device) {
    let fixture = Fixture::read("deep_svdd.safetensors");
    let config = Config { size: Size::square(16), width: 16, latent: 32, ..Config::default() };
    let training = Training { lr: 1e-4, betas: [0.9, 0.999] };
    let options = [("nets", "lenet"), ("drop-epochs", "2")];
    let session = Session::new(device, "deep-svdd", &options, &config, training, 10);
    let networks = |name: &str| name.starts_with("encoder.") || name.starts_with("decoder.");
    let mut known = 0;
    for (id, entry) in session.states.entries().iter().enumerate().filter(|(_, e)| networks(&e.name)) {
        let before = fixture.get(&format!("before/{}", entry.name));
        assert_eq!(before.shape, entry.shape, "{}", entry.name);
        session.store.write(StateId(id), &before.data).unwrap();
        known += 1;
    }
    assert_eq!(known, fixture.names().filter(|n| n.starts_with("before/")).count());

    let batches = fixture.numbered("x/");
    let epoch = || batches.iter().map(|b| &b.data[..]);
    session.stage(0, epoch());
    let range = [session.read("range.low"), session.read("range.high")].concat();
    assert_close("range", &range, &fixture.get("range").data, 1e-5);
    assert_each_close("pretrain", &session.stage(1, epoch().cycle().take(20)), &fixture.get("pretrain").data);
    session.stage(2, epoch());
    assert_close("centre", &session.read("centre"), &fixture.get("centre").data, TOLERANCE);
    assert_each_close("svdd", &session.stage(3, epoch().cycle().take(20)), &fixture.get("svdd").data);
    for entry in session.states.entries().iter().filter(|e| networks(&e.name)) {
        let got = session.read(&entry.name);
        let [before, after] =
            ["before", "after"].map(|when| &fixture.get(&format!("{when}/{}", entry.name)).data);
        assert_close(&entry.name, &got, after, TOLERANCE);
        // Forty steps of 1e-4 are small beside the weights: the way they went is compared too.
        let moved = |end: &[f32]| end.iter().zip(before).map(|(e, b)| 1e3 * (e - b)).collect::<Vec<_>>();
        assert_close(&format!("movement of {}", entry.name), &moved(&got), &moved(after), TOLERANCE);
    }
    assert_close("scores", &session.score(&batches[0].data, 10, ""), &fixture.get("scores").data, TOLERANCE);
}

#[test]
fn deep_svdd_follows_pytorch_on_the_cpu() {
    deep_svdd_follows_pytorch(&common::cpu());
}

#[test]
fn deep_svdd_follows_pytorch_on_the_gpu() {
    deep_svdd_follows_pytorch(&common::gpu());
}

fn components_are_those_of_scikit_learn(device: &Device) {
    let fixture = Fixture::read("baselines.safetensors");
    let config = Config { size: Size::square(16), ..Config::default() };
    let options = [("components", "6"), ("power", "6")];
    let session = Session::new(device, "pca", &options, &config, Training::default(), 16);
    let x = &fixture.get("pca/x").data;
    let stages = session.system.stages().len();
    assert_eq!(stages, 8);
    for stage in 0..stages {
        session.stage(stage, x.chunks_exact(16 * 256));
    }
    for name in ["mean", "variances", "directions"] {
        assert_close(name, &session.read(name), &fixture.get(&format!("pca/{name}")).data, TOLERANCE);
    }
    let other = &fixture.get("pca/other").data;
    for score in ["spe", "t2"] {
        assert_each_close(
            score,
            &session.score(other, 12, score),
            &fixture.get(&format!("pca/{score}")).data,
        );
    }
}

#[test]
fn components_are_those_of_scikit_learn_on_the_cpu() {
    components_are_those_of_scikit_learn(&common::cpu());
}

#[test]
fn components_are_those_of_scikit_learn_on_the_gpu() {
    components_are_those_of_scikit_learn(&common::gpu());
}

#[test]
fn expectation_maximisation_is_that_of_scikit_learn() {
    let fixture = Fixture::read("baselines.safetensors");
    let get = |name: &str| -> Vec<f64> {
        fixture.get(&format!("gmm/{name}")).data.iter().map(|&v| f64::from(v)).collect()
    };
    let points = get("points");
    let mut mixture = Mixture {
        weights: get("start_weights"),
        means: get("start_means"),
        variances: get("start_variances"),
    };
    mixture.expectation_maximisation(&points, 4, 25);
    let found = [("weights", &mixture.weights), ("means", &mixture.means), ("variances", &mixture.variances)];
    for (name, values) in found {
        let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        assert_close(name, &values, &fixture.get(&format!("gmm/{name}")).data, 1e-4);
    }
    let (_, likelihood) = mixture.expectation(&points, 4);
    let log_p = get("log_p");
    assert!((likelihood - log_p.iter().sum::<f64>() / log_p.len() as f64).abs() < 1e-4);
}

#[test]
fn a_mixture_finds_its_places_and_survives_points_that_are_all_alike() {
    let fixture = Fixture::read("baselines.safetensors");
    let points: Vec<f64> = fixture.get("gmm/points").data.iter().map(|&v| f64::from(v)).collect();
    let want = fixture.get("gmm/log_p").data.iter().map(|&v| f64::from(v)).sum::<f64>() / 300.0;
    let (_, found) = Mixture::fit(&points, 4, 3, 100, 3).expectation(&points, 4);
    assert!(found > want - 0.05, "mean log p {found}, scikit-learn's {want}");
    assert_eq!(Mixture::fit(&points, 4, 3, 100, 3), Mixture::fit(&points, 4, 3, 100, 3));
    for (alike, k) in [(vec![2.5; 40], 4), (vec![1.0; 4], 8), (vec![], 2)] {
        let mixture = Mixture::fit(&alike, 4, k, 100, 0);
        let numbers = mixture.means.iter().chain(&mixture.variances).chain(&mixture.weights);
        assert!(numbers.clone().all(|v| v.is_finite()), "{mixture:?}");
        assert!(mixture.variances.iter().all(|v| *v > 0.0));
    }
}
