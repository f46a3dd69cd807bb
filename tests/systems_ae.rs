//! Autoencoders and baselines as a whole: each trains through all of its stages, scores samples one by one,
//! resumes to the last bit, and does the same on both devices.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::common::{self, assert_close, cpu, difference, gpu, numbers};
use ganomede::device::{Device, Store};
use ganomede::models::file::{Header, ModelFile};
use ganomede::models::memae::{Memory, entropy};
use ganomede::models::scorer::{Found, ScoreConfig, Scorer, load};
use ganomede::models::vae::{Terms, Vae};
use ganomede::models::{Config, Form, Options, Prior, Size, find};
use ganomede::nn::ssim;
use ganomede::program::StateId;
use ganomede::tape::{States, Tape};
use ganomede::train::{End, Epoch, Limits, LoopOptions, Tick, Trainer, train};
use ganomede_datasets::Split;

const BATCH: usize = 8;
const TINY: Config = Config {
    form: Form::Image,
    size: Size::square(16),
    channels: 1,
    width: 8,
    latent: 16,
    prior: Prior::Normal,
    kernel: 4,
};

/// A system with options and one of its scores.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const CASES: &[Case] = &[
    ("ae", &[("drop-steps", "5")], ""),
    ("ae", &[("nets", "lenet-small"), ("loss", "ssim")], ""),
    ("deep-svdd", &[("warmup", "1"), ("objective", "soft-boundary"), ("drop-epochs", "1")], ""),
    ("deep-svdd", &[("nets", "lenet")], ""),
    ("pca", &[("components", "6")], "spe"),
    ("pca", &[], "t2"),
    ("vae", &[], "recon"),
    ("vae", &[("nets", "lenet")], "elbo"),
    ("vae", &[], "kl"),
    ("memae", &[], ""),
    ("memae", &[("memory", "flat"), ("addressing", "dot"), ("items", "20"), ("shrink", "3")], ""),
    ("acae", &[], ""),
    ("gmm", &[("mixtures", "3")], ""),
    ("gmm", &[("features", "ae"), ("mixtures", "2")], ""),
    ("feature-gaussian", &[], ""),
    ("feature-gaussian", &[("features", "encoder"), ("neighbours", "1"), ("dimensions", "7")], "mean"),
    ("feature-gaussian", &[("features", "critic"), ("scales", "1")], "max"),
    ("knn", &[("images", "9"), ("places", "40")], "image"),
    ("knn", &[("features", "critic"), ("images", "300"), ("places", "40")], "places"),
    ("knn", &[("features", "gradients"), ("images", "9"), ("places", "40")], "image"),
    ("feature-gaussian", &[("features", "gradients")], "max"),
    ("nsa", &[], ""),
    ("nsa", &[("pool", "no"), ("label", "binary")], "peak"),
    ("draem", &[], ""),
    ("draem", &[("clean", "0"), ("gamma", "1")], "mean"),
];

/// The header of a case's training.
fn header(case: &Case, config: &Config, batch: usize, per_epoch: u64) -> Header {
    let mut header = common::header(case.0, config, batch, case.1);
    header.progress.steps_per_epoch = per_epoch;
    header
}

/// The first images of a split, one after the other.
fn images(split: Split, count: usize) -> Vec<f32> {
    common::images(&TINY, "builtin:retina:train=32,test=16", split, count)
}

/// A file of this test alone.
fn place(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systems_ae");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Runs the training loop over `data` in batches of the header's size, up to `steps` in all or until `stop`.
fn run(
    trainer: &mut Trainer,
    data: &[f32],
    checkpoint: &Path,
    steps: u64,
    stop: Option<u64>,
) -> (End, Vec<f32>) {
    let config = &trainer.header().config;
    let len = trainer.header().batch * config.sample_len();
    let options = LoopOptions {
        limits: Limits { steps: Some(steps), ..Limits::default() },
        checkpoint: Some(checkpoint.to_owned()),
        checkpoint_every: 0,
        half_checkpoints: false,
        keep: None,
        samples: None,
        log: None,
    };
    let mut epoch = |number: u64, from: u64| -> Result<Epoch, ganomede_datasets::DataError> {
        let mut batches: Vec<_> = data.chunks_exact(len).map(<[f32]>::to_vec).collect();
        let turns = number as usize % batches.len();
        batches.rotate_left(turns);
        Ok(Box::new(batches.into_iter().skip(from as usize).map(Ok)))
    };
    let mut losses = vec![];
    let mut tick = |news: Tick<'_>| {
        losses.extend(news.losses.iter().map(|l| l.1));
        if stop == Some(news.step) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let end = train(trainer, &options, &mut epoch, &mut tick).unwrap_or_else(|e| panic!("{e}"));
    (end, losses)
}

/// Trains through all stages; returns the trainer and the losses of every step.
fn trained_on(
    device: &Device,
    case: &Case,
    config: &Config,
    data: &[f32],
    name: &str,
    steps: u64,
) -> (Trainer, Vec<f32>) {
    let per_epoch = (data.len() / (BATCH * config.sample_len())) as u64;
    let header = header(case, config, BATCH, per_epoch);
    let mut trainer = Trainer::new(device, header, None, &[]).unwrap_or_else(|e| panic!("{case:?}: {e}"));
    let (_, losses) = run(&mut trainer, data, &place(&format!("{name}.safetensors")), steps, None);
    assert!(losses.iter().all(|l| l.is_finite()), "{case:?}: {losses:?}");
    (trainer, losses)
}

/// A model of each case, trained on the CPU.
fn models() -> Vec<(&'static Case, ModelFile)> {
    let data = images(Split::Train, 32);
    let model = |(i, case)| {
        let (trainer, _) =
            trained_on(&cpu(), case, &TINY, &data, &format!("{:?}-{i}", std::thread::current().id()), 24);
        (case, trainer.model().unwrap())
    };
    CASES.iter().enumerate().map(model).collect()
}

fn scorer(device: &Device, model: &ModelFile, score: &str, batch: usize) -> Scorer {
    let config = ScoreConfig { score: score.to_owned(), ..ScoreConfig::default() };
    Scorer::new(device, model, Path::new("tiny"), &config, batch).unwrap_or_else(|e| panic!("{e}"))
}

/// The size of scores: relative differences are to the largest, since a log density may pass 0.
fn scale(found: &[Found]) -> f64 {
    found.iter().fold(1e-6, |m, f| m.max(f.score.abs()))
}

#[test]
fn scores_depend_on_neither_order_nor_company_nor_repetition_and_devices_agree() {
    let len = TINY.sample_len();
    let queries = images(Split::Test, 6);
    for (case, model) in models() {
        let mut of_six = scorer(&cpu(), &model, case.2, 6);
        let first = of_six.score(&queries, None).unwrap();
        assert_eq!(of_six.score(&queries, None).unwrap(), first, "{case:?}: the same again, to the last bit");
        let scale = scale(&first);
        assert!(first.windows(2).all(|w| w[0].score != w[1].score), "{case:?}: scores are distinct");

        let order = [4, 0, 5, 2, 1, 3];
        let shuffled: Vec<f32> = order.iter().flat_map(|&i| queries[i * len..][..len].to_vec()).collect();
        for (found, &i) in of_six.score(&shuffled, None).unwrap().iter().zip(&order) {
            assert_eq!(found, &first[i], "{case:?}, shuffled, {i}");
        }
        // A last batch that is not full, one image many times, and batches of another size.
        let part = of_six.score(&queries[2 * len..4 * len], None).unwrap();
        assert_eq!(part[1], first[3], "{case:?}, part");
        let repeated = queries[3 * len..4 * len].repeat(6);
        for found in of_six.score(&repeated, None).unwrap() {
            assert_eq!(found, first[3], "{case:?}, repeated");
        }
        let alone = scorer(&cpu(), &model, case.2, 1).score(&queries[5 * len..], None).unwrap();
        assert_eq!(alone[0], first[5], "{case:?}, alone");

        let on_gpu = scorer(&gpu(), &model, case.2, 6).score(&queries, None).unwrap();
        for (i, (a, b)) in on_gpu.iter().zip(&first).enumerate() {
            let apart = (a.score - b.score).abs() / scale;
            assert!(apart <= 1e-3, "{case:?}, query {i}: {} on the GPU, {} on the CPU", a.score, b.score);
        }
    }
}

/// Bits of the first `count` states.
fn bits(store: &Store, count: usize) -> Vec<Vec<u32>> {
    let of = |i| store.read(StateId(i)).unwrap().iter().map(|v| v.to_bits()).collect();
    (0..count).map(of).collect()
}

#[test]
fn scoring_changes_no_weight_and_no_running_statistic() {
    let queries = images(Split::Test, 4);
    for (case, model) in models() {
        let loaded =
            load(&cpu(), &model.header, Some((&model, Path::new("tiny"))), false, |_, _| {}).unwrap();
        let tape = Tape::new();
        let x = tape.input("x", &TINY.images(4));
        tape.output("score", loaded.system.score(&tape, x, case.2).score);
        let program = common::program(&tape);
        let mut executable = cpu().load(&program, &loaded.store).unwrap();
        let before = bits(&loaded.store, loaded.weights);
        executable.write("x", &queries).unwrap();
        executable.run(2).unwrap();
        assert_eq!(bits(&loaded.store, loaded.weights), before, "{case:?}");
        assert!(tape.finish().unwrap().assigns.is_empty(), "{case:?}: scoring assigns nothing");
    }
}

#[test]
fn a_training_that_stops_anywhere_resumes_bit_for_bit() {
    let data = images(Split::Train, 32);
    for (i, case) in CASES.iter().enumerate() {
        let (whole, _) = trained_on(&cpu(), case, &TINY, &data, &format!("whole-{i}"), 24);
        let whole = whole.checkpoint().unwrap();
        // In a first pass, at its end, within a later stage, and in the last but one step.
        let last = whole.header.progress.steps - 1;
        for stop in [2, 4, 13, last].into_iter().filter(|&stop| stop <= last) {
            let path = place(&format!("stopped-{i}.safetensors"));
            let mut trainer = Trainer::new(&cpu(), header(case, &TINY, BATCH, 4), None, &[]).unwrap();
            let (end, _) = run(&mut trainer, &data, &path, 24, Some(stop));
            assert_eq!(end, End::Interrupted);
            drop(trainer);
            let file = ModelFile::load(&path).unwrap();
            let mut trainer = Trainer::new(&cpu(), file.header.clone(), Some((&file, &path)), &[]).unwrap();
            run(&mut trainer, &data, &path, 24, None);
            let resumed = trainer.checkpoint().unwrap();
            assert_eq!(resumed.header.progress.steps, whole.header.progress.steps, "{case:?}");
            for (a, b) in resumed.tensors.iter().zip(&whole.tensors) {
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&a.values), bits(&b.values), "{case:?}, stopped at {stop}: {}", a.name);
            }
            // What is already at its end stays as it is.
            let file = ModelFile::load(&path).unwrap();
            let mut trainer = Trainer::new(&cpu(), file.header.clone(), Some((&file, &path)), &[]).unwrap();
            run(&mut trainer, &data, &path, 24, None);
            assert_eq!(trainer.checkpoint().unwrap().tensors, resumed.tensors, "{case:?}");
        }
    }
}

#[test]
fn both_devices_train_alike() {
    let data = images(Split::Train, 16);
    for case in CASES {
        // A step of Adam is as large for a gradient that rounding made as for any other, and their norms see
        // a bottom of one pixel: of these `golden_synthetic.rs` follows several steps, at smaller step sizes.
        let steps = if ["nsa", "draem"].contains(&case.0) { 1 } else { 8 };
        let on = |device: &Device, name: &str| trained_on(device, case, &TINY, &data, name, steps).1;
        let (a, b) = (on(&gpu(), "alike-gpu"), on(&cpu(), "alike-cpu"));
        assert_eq!(a.len(), b.len(), "{case:?}");
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            assert!((a - b).abs() <= 1e-3 * b.abs().max(1e-2), "{case:?}, loss {i}: {a} and {b}");
        }
    }
}

#[test]
fn signals_and_tables_train_and_score() {
    let signal = Config { form: Form::Signal, size: Size::square(32), channels: 2, ..TINY };
    let table = Config { form: Form::Table, size: Size::square(1), channels: 12, latent: 3, ..TINY };
    let tables = ["ae", "vae", "memae", "pca", "gmm", "feature-gaussian", "knn"];
    let maps_of_images = ["nsa", "draem"];
    let gradients = ("features", "gradients");
    let images_only = [("loss", "ssim"), ("features", "encoder"), ("features", "critic"), gradients];
    for case in CASES {
        for config in [&signal, &table] {
            let fits = match config.form {
                Form::Signal => !maps_of_images.contains(&case.0) && !case.1.contains(&gradients),
                _ => tables.contains(&case.0) && !case.1.iter().any(|o| images_only.contains(o)),
            };
            if !fits {
                let mut states = States::new();
                let options = Options::new(find(case.0).unwrap().options, case.1.iter().copied()).unwrap();
                let refused = find(case.0).unwrap().build(&mut states, config, &options).err().unwrap();
                let form = if config.form == Form::Signal { "signal" } else { "table" };
                assert!(refused.to_string().contains(form), "{case:?}: {refused}");
                continue;
            }
            let data = numbers(32 * config.sample_len(), 5);
            let (trainer, _) = trained_on(&cpu(), case, config, &data, "forms", 10);
            let model = trainer.model().unwrap();
            let found =
                scorer(&cpu(), &model, case.2, 3).score(&data[..3 * config.sample_len()], None).unwrap();
            assert_eq!(found.len(), 3);
            assert!(found.windows(2).all(|w| w[0].score != w[1].score), "{case:?}: scores are distinct");
            if let Some(map) = &found[0].map {
                assert_eq!(map.len(), config.map_len(), "{case:?}");
            }
        }
    }
}

#[test]
fn impossible_sizes_are_refused() {
    let refused = |name: &str, options: &[(&str, &str)], config: &Config| {
        let info = find(name).unwrap();
        let options = Options::new(info.options, options.iter().copied()).unwrap();
        info.build(&mut States::new(), config, &options).err().unwrap().to_string()
    };
    assert!(refused("pca", &[("components", "256")], &TINY).contains("from 1 to 255"));
    let long = Config { latent: 256, ..TINY };
    assert!(refused("gmm", &[], &long).contains("latent is 256"));
}

fn tensor<'a>(model: &'a ModelFile, name: &str) -> &'a [f32] {
    &model.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no '{name}'")).values
}

/// How far the distances ‖φ(x) − c‖² of 16 test images lie apart, in units of their median.
fn spread_of_distances(model: &ModelFile) -> f64 {
    let found = scorer(&cpu(), model, "", 16).score(&images(Split::Test, 16), None).unwrap();
    let radius = f64::from(tensor(model, "radius")[0]);
    let mut distances: Vec<_> = found.iter().map(|f| f.score + radius * radius).collect();
    distances.sort_by(f64::total_cmp);
    assert!(distances[0] > 0.0, "{distances:?}");
    (distances[15] - distances[0]) / distances[8]
}

#[test]
fn deep_svdd_does_not_collapse() {
    let data = images(Split::Train, 32);
    for (objective, name) in [("one-class", "one"), ("soft-boundary", "soft")] {
        let options = [("objective", objective), ("warmup", "3"), ("nu", "0.1")];
        let case: Case = ("deep-svdd", Box::leak(Box::new(options)), "");
        let (trainer, _) = trained_on(&cpu(), &case, &TINY, &data, &format!("collapse-{name}"), 60);
        let model = trainer.model().unwrap();
        assert!(tensor(&model, "centre").iter().all(|c| c.abs() >= 0.1), "{:?}", tensor(&model, "centre"));
        let spread = spread_of_distances(&model);
        assert!(spread > 0.5, "distances of test images lie within {spread} of their median");
        let mut collapsed = model.clone();
        for tensor in collapsed.tensors.iter_mut().filter(|t| t.name == "encoder.fc.weight") {
            tensor.values.iter_mut().for_each(|v| *v *= 0.01);
        }
        let spread = spread_of_distances(&collapsed);
        assert!(spread < 0.1, "a network that is nearly constant has a spread of {spread}");
        let radius = tensor(&model, "radius")[0];
        match objective {
            "one-class" => assert_eq!(radius, 0.0),
            _ => assert!(radius > 0.0, "R is {radius} after the warm-up"),
        }
        // No bias and no affine norm, by which φ could be a constant.
        for t in model.tensors.iter().filter(|t| t.name.starts_with("encoder.")) {
            let affine = t.name.contains(".bn") && t.name.ends_with("weight");
            assert!(!(affine || t.name.ends_with(".bias")), "{}", t.name);
        }
        assert!(
            !model.tensors.iter().any(|t| t.name.starts_with("decoder")),
            "the decoder is training's alone"
        );
        let [low, high] = ["range.low", "range.high"].map(|name| tensor(&model, name)[0]);
        assert!(low < 0.0 && high > 0.0, "{low} to {high}");
    }
}

/// Runs a tape of one input on the CPU and returns its outputs.
fn computed(states: &States, tape: &Tape, input: &[f32], outputs: &[&str]) -> Vec<Vec<f32>> {
    let (mut executable, _) = common::load(&cpu(), &common::program(tape), states, 7);
    common::write(&mut executable, "x", input);
    executable.run(1).unwrap();
    outputs.iter().map(|name| executable.read(name).unwrap()).collect()
}

#[test]
fn addresses_of_the_memory_sum_to_one_or_are_guarded() {
    for cosine in [true, false] {
        // The last threshold is above every weight: without a guard ŵ would be 0.
        for shrink in [0.0, 1.0, 3.0, 10.0] {
            let mut states = States::new();
            let memory = Memory::new(&mut states, "memory", [10, 6], cosine, shrink);
            let tape = Tape::new();
            let address = memory.address(&tape, tape.input("x", &[9, 6]));
            tape.output("address", address);
            tape.output("entropy", entropy(address));
            let mut queries = numbers(9 * 6, 2);
            queries[..6].fill(0.0);
            let found = computed(&states, &tape, &queries, &["address", "entropy"]);
            let mut total = 0.0;
            for row in found[0].chunks(10) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
                let kept = row.iter().filter(|w| **w > 0.0).count();
                assert!(kept >= 1 && (shrink != 1.0 || kept < 10 || row[0] == 0.1), "{row:?}");
                total -= row.iter().filter(|w| **w > 0.0).map(|w| w * w.ln()).sum::<f32>() / 9.0;
            }
            assert_close("entropy", &found[1], &[total], 1e-4);
        }
    }
}

#[test]
fn the_entropy_of_addresses_falls() {
    let data = images(Split::Train, 32);
    let case: Case = ("memae", &[("entropy", "0.1"), ("addressing", "dot")], "");
    let (_, losses) = trained_on(&cpu(), &case, &TINY, &data, "entropy", 60);
    let entropies: Vec<_> = losses.chunks(2).map(|l| l[1]).collect();
    assert!(entropies[59] < 0.9 * entropies[0], "{entropies:?}");
}

#[test]
fn reconstruction_and_divergence_of_a_vae_are_both_sums() {
    let mut states = States::new();
    let info = find("vae").unwrap();
    let options = Options::new(info.options, [("sigma", "0.7")]).unwrap();
    let vae = Vae::new(&mut states, &TINY, &options).unwrap();
    let tape = Tape::new();
    let x = tape.input("x", &TINY.images(4));
    let Terms { reconstruction, divergence, made } = vae.terms(&tape, x, tape.full(0.0, &[4, 16]));
    tape.output("reconstruction", reconstruction);
    tape.output("divergence", divergence);
    tape.output("made", made);
    let eval = vae.encode(&tape, x, ganomede::nn::Mode::Train);
    tape.output("mean", eval[0]);
    tape.output("log_var", eval[1]);
    let images = images(Split::Test, 4);
    let found =
        computed(&states, &tape, &images, &["reconstruction", "divergence", "made", "mean", "log_var"]);
    for i in 0..4 {
        let part = |values: &[f32], len: usize| values[i * len..][..len].to_vec();
        let pairs = part(&images, 256).into_iter().zip(part(&found[2], 256));
        let sum: f32 = pairs.map(|(x, g)| (x - g) * (x - g) / (2.0 * 0.49)).sum();
        assert_close("sum over pixels", &[found[0][i]], &[sum], 1e-4);
        let moments = part(&found[3], 16).into_iter().zip(part(&found[4], 16));
        let kl: f32 = moments.map(|(m, l)| -0.5 * (1.0 + l - m * m - l.exp())).sum();
        assert_close("sum over the latent", &[found[1][i]], &[kl], 1e-3);
    }
}

#[test]
fn structural_similarity_is_that_of_its_definition() {
    let (h, w, window) = (9, 13, [3_usize, 5]);
    let tape = Tape::new();
    let x = tape.input("x", &[2, 1, h, w]);
    let (a, b) = (x.narrow(0, 0, 1), x.narrow(0, 1, 1));
    tape.output("ssim", ssim(a, b, window));
    tape.output("same", ssim(a, a, window));
    let values = numbers(2 * h * w, 9);
    let found = computed(&States::new(), &tape, &values, &["ssim", "same"]);
    assert!(found[1].iter().all(|s| (s - 1.0).abs() < 1e-4), "{:?}", found[1]);
    let (a, b) = values.split_at(h * w);
    let mut want = vec![];
    for y in 0..h {
        for x in 0..w {
            let near = |at: usize, other: usize, side: usize| at.abs_diff(other) <= side / 2;
            let inside: Vec<usize> =
                (0..h * w).filter(|i| near(y, i / w, window[0]) && near(x, i % w, window[1])).collect();
            let mean =
                |f: &dyn Fn(usize) -> f64| inside.iter().map(|&i| f(i)).sum::<f64>() / inside.len() as f64;
            let (ma, mb) = (mean(&|i| a[i].into()), mean(&|i| b[i].into()));
            let co = |p: &[f32], mp: f64, q: &[f32], mq: f64| {
                mean(&|i| (f64::from(p[i]) - mp) * (f64::from(q[i]) - mq))
            };
            let (c1, c2) = (0.0004, 0.0036);
            let numerator = (2.0 * ma * mb + c1) * (2.0 * co(a, ma, b, mb) + c2);
            want.push(
                (numerator / ((ma * ma + mb * mb + c1) * (co(a, ma, a, ma) + co(b, mb, b, mb) + c2))) as f32,
            );
        }
    }
    assert_close("ssim", &found[0], &want, 1e-4);
    assert!(difference(&found[0], &found[1]) > 0.1);
}
