//! Deep SVDD against PyTorch through all of its stages; the baselines, Gaussians of features and nearest
//! neighbours against scikit-learn, PyTorch and NumPy. The scripts are in `tests/goldens`.

use crate::common;
use crate::common::{Fixture, assert_close};
use ganomede::device::{Device, Executable, Store};
use ganomede::models::feature_gaussian::Alone;
use ganomede::models::gmm::Mixture;
use ganomede::models::knn::coreset;
use ganomede::models::multiscale::Multiscale;
use ganomede::models::{Config, Form, Options, Size, System, Training, find};
use ganomede::program::StateId;
use ganomede::tape::{States, Tape, Tensor};
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

/// The network of `feature_systems.safetensors`, with the weights of the file.
fn with_features<'a>(
    device: &Device,
    fixture: &Fixture,
    system: &str,
    options: &[(&'a str, &'a str)],
) -> Session {
    let size = Size { height: 33, width: 26 };
    let config = Config { size, width: 4, latent: 6, ..Config::default() };
    let session = Session::new(device, system, options, &config, Training::default(), 8);
    let given: Vec<_> =
        fixture.names().filter_map(|name| Some((name, name.strip_prefix("weight/")?))).collect();
    assert_eq!(given.len(), 6);
    for (from, to) in given {
        let (array, state) = (fixture.get(from), session.states.find(to).unwrap());
        assert_eq!(array.shape, state.shape, "{to}");
        session.store.write(state.id, &array.data).unwrap();
    }
    session
}

/// All passes of a system over the training samples of a golden file.
fn pass_over(session: &Session, x: &[f32]) {
    let len = session.batch * session.system.config().sample_len();
    assert_eq!(x.len() % len, 0);
    (0..session.system.stages().len()).for_each(|stage| _ = session.stage(stage, x.chunks_exact(len)));
}

/// What `record` makes of an input, by its name.
fn computed(
    session: &Session,
    x: &[f32],
    n: usize,
    record: impl for<'t> Fn(&'t Tape, Tensor<'t>),
) -> Executable {
    let tape = Tape::new();
    record(&tape, tape.input("x", &session.system.config().images(n)));
    let mut executable = session.device.load(&common::program(&tape), &session.store).unwrap();
    executable.write("x", x).unwrap();
    executable.run(1).unwrap();
    executable
}

fn features_are_those_of_pytorch(device: &Device) {
    let fixture = Fixture::read("feature_systems.safetensors");
    let size = Size { height: 33, width: 26 };
    let config = Config { size, width: 4, ..Config::default() };
    let info = find("knn").unwrap();
    let options = Options::new(info.options, []).unwrap();
    let mut states = States::new();
    let features = Multiscale::new(&mut states, &config, &options).unwrap();
    assert_eq!((features.grid(), features.at_place(), features.at_image()), ([9, 7], 24, 112));
    let store = device.store(&states, 1).unwrap();
    for (from, to) in fixture.names().filter_map(|name| Some((name, name.strip_prefix("weight/")?))) {
        store.write(states.find(to).unwrap().id, &fixture.get(from).data).unwrap();
    }
    let tape = Tape::new();
    let x = tape.input("x", &config.images(5));
    tape.output("places", features.places(&tape, x));
    tape.output("image", features.image(&tape, x));
    let mut executable = device.load(&common::program(&tape), &store).unwrap();
    executable.write("x", &fixture.get("other").data).unwrap();
    executable.run(1).unwrap();
    for name in ["places", "image"] {
        assert_close(name, &executable.read(name).unwrap(), &fixture.get(name).data, 1e-5);
    }
}

#[test]
fn features_are_those_of_pytorch_on_the_cpu() {
    features_are_those_of_pytorch(&common::cpu());
}

#[test]
fn features_are_those_of_pytorch_on_the_gpu() {
    features_are_those_of_pytorch(&common::gpu());
}

fn gaussians_are_those_of_scikit_learn(device: &Device) {
    let fixture = Fixture::read("feature_systems.safetensors");
    let (x, other) = (&fixture.get("x").data, &fixture.get("other").data);
    for (name, options) in [
        ("gaussian/0", &[("neighbours", "0")][..]),
        ("gaussian/1", &[("neighbours", "1")]),
        ("gaussian/projected", &[("dimensions", "7")]),
    ] {
        let session = with_features(device, &fixture, "feature-gaussian", options);
        if let Some(projection) = session.states.find("standard.projection") {
            session.store.write(projection.id, &fixture.get("projection").data).unwrap();
        }
        pass_over(&session, x);
        let want = &fixture.get(name).data;
        let found = computed(&session, other, 5, |tape, x| {
            let scored = session.system.score(tape, x, "max");
            tape.output("distances", scored.features.unwrap());
            tape.output("map", scored.map.unwrap());
        });
        assert_each_close(name, &found.read("distances").unwrap(), want);
        let map = found.read("map").unwrap();
        for (i, places) in want.chunks(63).enumerate() {
            let (greatest, mean) =
                (places.iter().copied().fold(0.0, f32::max), places.iter().sum::<f32>() / 63.0);
            let of = |score| session.score(other, 5, score)[i];
            assert_each_close(name, &[of("max"), of("mean")], &[greatest, mean]);
            // Between places a map is between their distances; a corner is its place.
            let map = &map[i * 33 * 26..][..33 * 26];
            assert!(map.iter().all(|m| *m <= greatest * 1.001), "{name}, image {i}");
            assert!((map[0] - places[0]).abs() < 1e-3 * places[0]);
        }
    }
}

#[test]
fn gaussians_are_those_of_scikit_learn_on_the_cpu() {
    gaussians_are_those_of_scikit_learn(&common::cpu());
}

#[test]
fn gaussians_are_those_of_scikit_learn_on_the_gpu() {
    gaussians_are_those_of_scikit_learn(&common::gpu());
}

#[test]
fn rows_of_a_table_have_one_gaussian() {
    let fixture = Fixture::read("feature_systems.safetensors");
    let config = Config { form: Form::Table, size: Size::square(1), channels: 9, ..Config::default() };
    for device in [common::cpu(), common::gpu()] {
        let session = Session::new(&device, "feature-gaussian", &[], &config, Training::default(), 8);
        pass_over(&session, &fixture.get("row/x").data);
        let found = session.score(&fixture.get("row/other").data, 6, "max");
        assert_each_close("rows", &found, &fixture.get("row/distances").data);
        assert_eq!(found, session.score(&fixture.get("row/other").data, 6, "mean"));
    }
}

#[test]
fn shrinkage_is_that_of_ledoit_and_wolf() {
    let fixture = Fixture::read("feature_systems.safetensors");
    let rows: Vec<Vec<f64>> =
        fixture.get("row/x").data.chunks(9).map(|r| r.iter().map(|&v| f64::from(v)).collect()).collect();
    let n = rows.len() as f64;
    let mean = |j: usize| rows.iter().map(|r| r[j]).sum::<f64>() / n;
    let means: Vec<f64> = (0..9).map(mean).collect();
    let sd = |j: usize| (rows.iter().map(|r| (r[j] - means[j]).powi(2)).sum::<f64>() / n).sqrt();
    let v: Vec<Vec<f64>> = rows.iter().map(|r| (0..9).map(|j| (r[j] - means[j]) / sd(j)).collect()).collect();
    let norm = |r: &Vec<f64>| r.iter().map(|x| x * x).sum::<f64>();
    let average = |f: &dyn Fn(&Vec<f64>) -> f64| (v.iter().map(f).sum::<f64>() / n) as f32;
    let alone = Alone {
        d: 9,
        grid: [1, 1],
        images: n,
        mean: vec![0.0; 9],
        second: (0..81).map(|i| average(&|r| r[i / 9] * r[i % 9])).collect(),
        third: (0..9).map(|i| average(&|r| norm(r) * r[i])).collect(),
        fourth: vec![average(&|r| norm(r).powi(2))],
    };
    let want = f64::from(fixture.get("row/shrinkage").data[0]);
    let found = alone.pooled(0, 0).shrinkage;
    assert!(want > 0.2 && (found - want).abs() < 1e-5, "{found} and not {want}");
}

/// The critic of `features=critic` learns as f-AnoGAN's does, which a golden of its own holds to PyTorch.
#[test]
fn the_critic_learns_as_f_anogans() {
    let config = Config { size: Size::square(16), width: 4, latent: 6, ..Config::default() };
    let training = Training { lr: 1e-3, betas: [0.0, 0.9] };
    let of = |system, options: &[(&str, &str)]| {
        Session::new(&common::cpu(), system, options, &config, training, 8)
    };
    let [known, own] = [of("f-anogan", &[]), of("knn", &[("features", "critic")])];
    let mut copied = 0;
    for entry in known.states.entries() {
        let name = match entry.name.split_once('.') {
            Some(("critic", rest)) => format!("features.{rest}"),
            Some(("generator" | "random", _)) => entry.name.clone(),
            _ => continue,
        };
        own.store.write(own.states.find(&name).unwrap().id, &known.read(&entry.name)).unwrap();
        copied += 1;
    }
    assert!(copied > 10, "{copied}");
    let x = common::numbers(4 * 8 * 256, 9);
    let [want, found] = [&known, &own].map(|session| session.stage(0, x.chunks_exact(8 * 256)));
    assert_eq!(found, want);
    assert!(want[3] < want[0], "{want:?}");
    assert_eq!(own.read("features.down1.weight"), known.read("critic.down1.weight"));
}

fn neighbours_are_those_of_numpy(device: &Device) {
    let fixture = Fixture::read("feature_systems.safetensors");
    let session = with_features(device, &fixture, "knn", &[("images", "9"), ("places", "100")]);
    pass_over(&session, &fixture.get("x").data);
    let other = &fixture.get("other").data;
    assert_each_close("image", &session.score(other, 5, "image"), &fixture.get("knn/image").data);
    let want = &fixture.get("knn/places").data;
    let greatest: Vec<f32> = want.chunks(63).map(|p| p.iter().copied().fold(0.0, f32::max)).collect();
    assert_each_close("places", &session.score(other, 5, "places"), &greatest);
}

#[test]
fn neighbours_are_those_of_numpy_on_the_cpu() {
    neighbours_are_those_of_numpy(&common::cpu());
}

#[test]
fn neighbours_are_those_of_numpy_on_the_gpu() {
    neighbours_are_those_of_numpy(&common::gpu());
}

/// Of a bank that holds all rows, a row itself is at distance 0, which ‖f‖² − 2fᵀm + ‖m‖² would not say.
#[test]
fn what_a_bank_holds_is_at_no_distance_from_it() {
    let config = Config { form: Form::Table, size: Size::square(1), channels: 9, ..Config::default() };
    // Few rows, and more than a piece of the candidates holds.
    for (count, images, batch) in [(64, "300", 8), (1536, "2000", 96)] {
        let rows: Vec<f32> = common::numbers(count * 9, 3).iter().map(|v| 100.0 + v).collect();
        for device in [common::cpu(), common::gpu()] {
            let options = [("images", images)];
            let session = Session::new(&device, "knn", &options, &config, Training::default(), batch);
            pass_over(&session, &rows);
            let found = session.score(&rows, count, "image");
            assert!(found.iter().all(|d| *d < 1e-5), "{count}: {found:?}");
            let moved: Vec<f32> = rows.iter().map(|v| v + 0.01).collect();
            assert!(session.score(&moved, count, "image").iter().all(|d| *d > 1e-3), "{count}");
        }
    }
}

#[test]
fn coresets_are_greedy_and_end_where_all_is_covered() {
    let fixture = Fixture::read("feature_systems.safetensors");
    let rows = &fixture.get("coreset/rows").data;
    let want: Vec<usize> = fixture.get("coreset/chosen").data.iter().map(|&i| i as usize).collect();
    assert_eq!(coreset(rows, 11, 40), want);
    assert_eq!(coreset(rows, 11, 1), [0]);
    let all = coreset(rows, 11, 1000);
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 150);
    assert_eq!(all.len(), 150);
    assert_eq!(coreset(&[1.0; 40], 4, 5), [0], "rows that are all alike need one");
    assert!(coreset(&[], 4, 5).is_empty() && coreset(rows, 11, 0).is_empty());
}

/// Of more rows than candidates all have the same chance, whatever the batches.
#[test]
fn candidates_are_drawn_evenly() {
    let config = Config { form: Form::Table, size: Size::square(1), channels: 1, ..Config::default() };
    // Rows say where they stand: 2,048 of them, 256 candidates of which 64 are the bank.
    let rows: Vec<f32> = (0..2048).map(|i| i as f32).collect();
    let drawn = |seed: u64| {
        let info = find("knn").unwrap();
        let options = Options::new(info.options, [("images", "64")]).unwrap();
        let mut states = States::new();
        let mut system = info.build(&mut states, &config, &options).unwrap();
        system.register_training(&mut states, Training::default(), seed);
        let (device, batch) = (common::cpu(), 64);
        let store = device.store(&states, seed).unwrap();
        let session = Session { system, states, store, device, batch };
        pass_over(&session, &rows);
        session.read("image.candidates.0")
    };
    let mut found = drawn(1);
    assert_eq!(found.len(), 256);
    assert_eq!(found, drawn(1));
    assert_ne!(found, drawn(2));
    found.sort_by(f32::total_cmp);
    assert!(found.windows(2).all(|w| w[0] < w[1]), "no row is drawn twice");
    // Standardised, the rows' mean is 0 and their deviation 1: of 256 even draws each quarter has 64 ± 3σ.
    let quarters = [-0.866, 0.0, 0.866, f32::INFINITY];
    let below: Vec<usize> = quarters.map(|q| found.iter().filter(|v| **v < q).count()).to_vec();
    for (i, count) in below.iter().enumerate() {
        let in_quarter = count - if i == 0 { 0 } else { below[i - 1] };
        assert!((43..=85).contains(&in_quarter), "{below:?}");
    }
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
