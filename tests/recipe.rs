//! What is done to every system's training alike: batch norm's running statistics after the last step,
//! averages of weights, schedules of step sizes, models kept on the way, and the look at held-out samples.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::common::{self, Fixture, TINY, assert_close, cpu, gpu, header};
use ganomede::device::Device;
use ganomede::models::file::{Header, ModelFile, NamedTensor};
use ganomede::models::recipe::{Recipe, Schedule};
use ganomede::models::scorer::{ScoreConfig, Scorer};
use ganomede::models::system::{Defaults, Info, Length, Losses, Scored, Share, Stage, System, Training};
use ganomede::models::{Config, Form, Prior, SYSTEMS, Size, register};
use ganomede::nn::{Adam, BatchNorm, Mode, RmsProp, Sgd};
use ganomede::tape::{Initial, Purpose, States, Tape, Tensor, Variable};
use ganomede::train::{
    End, Epoch, HELD_OUT, Limits, LoopOptions, Trainer, check_resumable, kept_path, train,
};
use ganomede_datasets::{DataError, Split};

const BATCH: usize = 8;

fn images(split: Split, count: usize) -> Vec<f32> {
    common::images(&TINY, "builtin:retina:train=32,test=16", split, count)
}

fn place(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipe");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{name}.safetensors"))
}

/// A training of four batches an epoch, with a recipe.
fn of(system: &str, recipe: Recipe) -> Header {
    let mut header = header(system, &TINY, BATCH, &[]);
    header.progress.steps_per_epoch = 4;
    header.recipe = recipe;
    header
}

/// Trains up to `steps`; stops at the tick of this number, if any. Batches are turned by the epoch's number.
fn run(
    trainer: &mut Trainer,
    data: &[f32],
    path: Option<&Path>,
    keep: Option<(u64, PathBuf)>,
    steps: u64,
    stop: Option<usize>,
) -> End {
    let len = BATCH * trainer.header().config.sample_len();
    let options = LoopOptions {
        limits: Limits { steps: Some(steps), ..Limits::default() },
        checkpoint: path.map(Path::to_owned),
        checkpoint_every: 0,
        half_checkpoints: false,
        keep,
        samples: None,
        log: None,
    };
    let mut epoch = |number: u64, from: u64| -> Result<Epoch<'_>, DataError> {
        let mut batches: Vec<_> = data.chunks_exact(len).map(<[f32]>::to_vec).collect();
        let turns = number as usize % batches.len();
        batches.rotate_left(turns);
        Ok(Box::new(batches.into_iter().skip(from as usize).map(Ok)))
    };
    let mut ticks = 0;
    let mut tick = |_: ganomede::train::Tick<'_>| {
        ticks += 1;
        if stop == Some(ticks) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    train(trainer, &options, &mut epoch, &mut tick).unwrap_or_else(|e| panic!("{e}"))
}

fn trained(device: &Device, header: Header, data: &[f32], steps: u64) -> Trainer {
    let name = header.system.clone();
    let mut trainer = Trainer::new(device, header, None, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(run(&mut trainer, data, None, None, steps, None), End::Done);
    trainer
}

fn is_statistic(tensor: &NamedTensor) -> bool {
    tensor.name.ends_with(".running_mean") || tensor.name.ends_with(".running_var")
}

fn bits(tensor: &NamedTensor) -> Vec<u32> {
    tensor.values.iter().map(|v| v.to_bits()).collect()
}

/// The tensors of two models that differ, by name.
fn different(a: &ModelFile, b: &ModelFile) -> Vec<String> {
    assert_eq!(a.tensors.len(), b.tensors.len());
    let pairs = a.tensors.iter().zip(&b.tensors);
    pairs.filter(|(a, b)| bits(a) != bits(b)).map(|(a, _)| a.name.clone()).collect()
}

/// Two batch norms with a doubling between, as `tests/goldens/nn.py` has them.
struct Norms {
    config: Config,
    norms: [BatchNorm; 2],
}

const NORMS: Info = Info {
    name: "norms",
    title: "two batch norms",
    paper: "none",
    url: "",
    scores: &[ganomede::models::system::Named { name: "mean", about: "the mean" }],
    options: &[],
    defaults: Defaults {
        batch: 4,
        lr: 1e-3,
        betas: [0.5, 0.999],
        latent: 1,
        prior: Prior::Normal,
        length: Length::Epochs(1),
    },
    tables: None,
    new: |states, config, _| {
        let fixture = Fixture::read("nn.safetensors");
        let norms = ["a", "b"].map(|name| BatchNorm::new(states, name, 3));
        for norm in &norms {
            let [gamma, beta] = norm.affine.as_ref().expect("γ and β");
            states.set_initial(gamma, Initial::Values(fixture.get("weight").data.clone()));
            states.set_initial(beta, Initial::Values(fixture.get("bias").data.clone()));
        }
        Ok(Box::new(Norms { config: config.clone(), norms }))
    },
};

impl System for Norms {
    fn config(&self) -> &Config {
        &self.config
    }
    fn register_training(&mut self, _: &mut States, _: Training, _: u64) {}
    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }
    fn record<'t>(&self, tape: &'t Tape, _: usize, _: usize, x: Tensor<'t>) -> Losses<'t> {
        let x = x.reshape(&[4, 3, 2, 5]);
        let [a, b] = &self.norms;
        let y = b.forward(tape, a.forward(tape, x, Mode::Train) * 2.0, Mode::Train);
        vec![("mean", y.mean_all())]
    }
    fn score<'t>(&self, _: &'t Tape, x: Tensor<'t>, _: &str) -> Scored<'t> {
        let score = x.mean_per_sample();
        Scored { score, parts: vec![], reconstruction: None, map: None, features: None }
    }
}

fn running_statistics_are_pytorchs(device: &Device) {
    register(&NORMS).unwrap();
    let fixture = Fixture::read("nn.safetensors");
    let data: Vec<f32> = (0..3).flat_map(|t| fixture.get(&format!("x{t}")).data.clone()).collect();
    let config = Config { form: Form::Table, size: Size::square(1), channels: 30, latent: 1, ..TINY };
    let mut header = header("norms", &config, 4, &[]);
    header.progress.steps_per_epoch = 3;
    for passed in [true, false] {
        header.recipe = Recipe { batch_norm_pass: passed, ..Recipe::default() };
        let mut trainer = Trainer::new(device, header.clone(), None, &[]).unwrap();
        let options = LoopOptions {
            limits: Limits { steps: Some(3), ..Limits::default() },
            checkpoint: None,
            checkpoint_every: 0,
            half_checkpoints: false,
            keep: None,
            samples: None,
            log: None,
        };
        let mut epoch = |_, from: u64| -> Result<Epoch<'_>, DataError> {
            Ok(Box::new(data.chunks_exact(120).skip(from as usize).map(|x| Ok(x.to_vec()))))
        };
        train(&mut trainer, &options, &mut epoch, &mut |_| ControlFlow::Continue(())).unwrap();
        let model = trainer.model().unwrap();
        for (of, part) in ["a", "b"].into_iter().flat_map(|of| ["mean", "var"].map(|part| (of, part))) {
            let name = format!("{of}.running_{part}");
            let tensor = model.tensors.iter().find(|t| t.name == name).expect("it is a state");
            let want = &fixture.get(&format!("pass/{of}.{part}")).data;
            if passed {
                assert_close(&name, &tensor.values, want, 1e-5);
            } else {
                assert!(
                    common::difference(&tensor.values, want) > 0.1,
                    "{name}: the last steps' blend is another"
                );
            }
        }
    }
}

#[test]
fn running_statistics_after_a_training_are_those_of_pytorchs_update_bn_on_cpu() {
    running_statistics_are_pytorchs(&cpu());
}

#[test]
fn running_statistics_after_a_training_are_those_of_pytorchs_update_bn_on_gpu() {
    running_statistics_are_pytorchs(&gpu());
}

/// Of systems of one stage, whose later stages cannot rest on the statistics of earlier ones.
#[test]
fn a_pass_changes_running_statistics_and_nothing_else() {
    let data = images(Split::Train, 32);
    let (mut with, mut without) = (0, 0);
    for info in SYSTEMS {
        let trainer = trained(&cpu(), of(info.name, Recipe::default()), &data, 6);
        let plain = trainer.model().unwrap();
        let passed = trained(&cpu(), of(info.name, Recipe::USUAL), &data, 6).model().unwrap();
        let changed = different(&passed, &plain);
        let statistics: Vec<_> =
            plain.tensors.iter().filter(|t| is_statistic(t)).map(|t| t.name.clone()).collect();
        if statistics.is_empty() {
            assert!(changed.is_empty(), "{}: {changed:?}", info.name);
            without += 1;
        } else if trainer.stages().len() == 1 {
            assert_eq!(changed, statistics, "{}", info.name);
            with += 1;
        }
    }
    assert!(with >= 5 && without >= 1, "{with} systems with batch norm, {without} without");
}

/// Stops before, in the middle of, and after the pass; then goes on.
#[test]
fn a_training_with_all_of_a_recipe_resumes_bit_for_bit() {
    let data = images(Split::Train, 32);
    let recipe = Recipe {
        ema: Some(0.8),
        schedule: Schedule::Cosine,
        schedule_steps: 12,
        standardise: true,
        ..Recipe::USUAL
    };
    for system in ["ae", "anogan", "f-anogan", "ganomaly", "deep-svdd"] {
        let path = place(&format!("{system}-resumed"));
        let whole = trained(&cpu(), of(system, recipe), &data, 12);
        let steps = whole.progress().steps as usize;
        let whole = whole.model().unwrap();
        // A tick is a step, or a batch of a pass.
        for stop in [3, steps - 1, steps + 2] {
            let mut trainer = Trainer::new(&cpu(), of(system, recipe), None, &[]).unwrap();
            let end = run(&mut trainer, &data, Some(&path), None, 12, Some(stop));
            assert_eq!(end, End::Interrupted, "{system}, stopped at {stop}");
            let file = ModelFile::load(&path).unwrap();
            let mut trainer = Trainer::new(&cpu(), file.header.clone(), Some((&file, &path)), &[]).unwrap();
            assert_eq!(run(&mut trainer, &data, Some(&path), None, 12, None), End::Done);
            let resumed = trainer.model().unwrap();
            assert_eq!(different(&resumed, &whole), [""; 0], "{system}, stopped at {stop}");
        }
    }
}

#[test]
fn a_checkpoint_goes_on_as_if_the_training_had_never_ended() {
    let data = images(Split::Train, 32);
    let recipe = Recipe { ema: Some(0.8), ..Recipe::USUAL };
    let path = place("longer");
    let mut trainer = Trainer::new(&cpu(), of("ganomaly", recipe), None, &[]).unwrap();
    run(&mut trainer, &data, Some(&path), None, 5, None);
    let short = trainer.model().unwrap();
    let file = ModelFile::load(&path).unwrap();
    let mut trainer = Trainer::new(&cpu(), file.header.clone(), Some((&file, &path)), &[]).unwrap();
    run(&mut trainer, &data, Some(&path), None, 9, None);
    let whole = trained(&cpu(), of("ganomaly", recipe), &data, 9).model().unwrap();
    assert_eq!(different(&trainer.model().unwrap(), &whole), [""; 0]);
    assert!(!different(&short, &whole).is_empty());
}

/// e ← p at the first step, then e ← e·d + p·(1 − d) with d = min(0.8, t / (t + 1)).
#[test]
fn averages_are_those_of_the_weights_after_each_step() {
    let data = images(Split::Train, 32);
    for device in [cpu(), gpu()] {
        let plain = of("ganomaly", Recipe::default());
        let mut trainer = Trainer::new(&device, plain, None, &[]).unwrap();
        let len = BATCH * TINY.sample_len();
        let mut averages: Vec<Vec<f64>> = vec![];
        for (t, images) in data.chunks_exact(len).enumerate() {
            trainer.step(images).unwrap();
            let decay = (t as f64 / (t as f64 + 1.0)).min(0.8);
            let model = trainer.model().unwrap();
            averages.resize(model.tensors.len(), vec![]);
            for (average, tensor) in averages.iter_mut().zip(&model.tensors) {
                average.resize(tensor.values.len(), 0.0);
                for (e, &p) in average.iter_mut().zip(&tensor.values) {
                    *e = *e * decay + f64::from(p) * (1.0 - decay);
                }
            }
        }
        let last = trainer.model().unwrap();
        let recipe = Recipe { ema: Some(0.8), ..Recipe::default() };
        let averaged = trained(&device, of("ganomaly", recipe), &data, 4).model().unwrap();
        let mut compared = 0;
        for ((tensor, average), live) in averaged.tensors.iter().zip(averages).zip(&last.tensors) {
            let average: Vec<_> = average.into_iter().map(|v| v as f32).collect();
            if is_statistic(tensor) {
                assert_eq!(bits(tensor), bits(live), "{}", tensor.name);
            } else {
                assert_close(&tensor.name, &tensor.values, &average, 1e-5);
                compared += usize::from(bits(tensor) != bits(live));
            }
        }
        assert!(compared > 10, "{compared} weights have averages of their own");
    }
}

#[test]
fn a_kept_model_is_the_one_of_a_shorter_training() {
    let data = images(Split::Train, 32);
    let recipe = Recipe { ema: Some(0.8), ..Recipe::USUAL };
    let out = place("kept");
    let mut trainer = Trainer::new(&cpu(), of("ganomaly", recipe), None, &[]).unwrap();
    run(&mut trainer, &data, None, Some((4, out.clone())), 10, None);
    let whole = trained(&cpu(), of("ganomaly", recipe), &data, 10).model().unwrap();
    assert_eq!(different(&trainer.model().unwrap(), &whole), [""; 0], "keeping changes nothing");
    for step in [4, 8] {
        let kept = ModelFile::load(&kept_path(&out, step)).unwrap();
        let short = trained(&cpu(), of("ganomaly", recipe), &data, step).model().unwrap();
        let by_name = |model: &ModelFile| {
            let mut tensors: Vec<_> = model.tensors.iter().map(|t| (t.name.clone(), bits(t))).collect();
            tensors.sort();
            tensors
        };
        assert!(by_name(&kept) == by_name(&short), "step {step}");
    }
    assert!(!kept_path(&out, 10).exists());
}

/// An optimiser's step along g.
type Step = fn(&mut States, Variable, &Tape);

/// PyTorch's optimisers under `CosineAnnealingLR`.
#[test]
fn schedules_are_pytorchs_for_every_optimiser() {
    fn loss<'t>(tape: &'t Tape, p: &Variable) -> Tensor<'t> {
        (tape.state(p) * tape.input("g", &[5, 3])).sum_all()
    }
    let optimisers: [(&str, Step); 3] = [
        ("adam", |states, p, tape| {
            Adam::new(states, "adam", vec![p.clone()], 0.01, [0.9, 0.999]).minimise(tape, loss(tape, &p));
        }),
        ("rmsprop", |states, p, tape| {
            RmsProp::new(states, "rms", vec![p.clone()], 0.01, 0.9).minimise(tape, loss(tape, &p));
        }),
        ("sgd_momentum", |states, p, tape| {
            Sgd::new(states, "sgd", vec![p.clone()], 0.05, 0.9).minimise(tape, loss(tape, &p));
        }),
    ];
    let fixture = Fixture::read("nn.safetensors");
    for device in [cpu(), gpu()] {
        for (name, step) in &optimisers {
            let mut states = States::new();
            let p = states.add("p", &[5, 3], Initial::Values(fixture.get("p").data.clone()));
            let tape = Tape::of(Purpose::Scheduled);
            step(&mut states, p.clone(), &tape);
            let (mut executable, store) = common::load(&device, &common::program(&tape), &states, 0);
            for (t, g) in fixture.numbered("g").iter().enumerate() {
                executable.write("g", &g.data).unwrap();
                executable.write(Tape::RATE, &[Schedule::Cosine.rate(t as u64, 8)]).unwrap();
                executable.run(1).unwrap();
            }
            let want = &fixture.get(&format!("{name}/cosine")).data;
            assert_close(name, &store.read(p.id).unwrap(), want, 1e-5);
        }
    }
}

/// Without steps of any size nothing moves; the training's own stages each have a schedule of their own.
#[test]
fn a_schedule_is_over_each_stage() {
    let data = images(Split::Train, 32);
    let recipe = |steps| Recipe { schedule: Schedule::Step, schedule_steps: steps, ..Recipe::default() };
    // Of 12 steps f-anogan's first stage has 8: until its fourth step the rate is 1.
    let early = |recipe| trained(&cpu(), of("f-anogan", recipe), &data, 12).checkpoint().unwrap();
    let (plain, stepped) = (early(Recipe::default()), early(recipe(12)));
    let curve = |file: &ModelFile, name: &str| {
        let curve = file.header.progress.losses.iter().find(|c| c.name == name).unwrap();
        (curve.at.clone(), curve.values.clone())
    };
    let ((at, before), (_, after)) = (curve(&plain, "wasserstein"), curve(&stepped, "wasserstein"));
    let apart: Vec<_> = at.iter().zip(before.iter().zip(&after)).filter(|(_, (a, b))| a != b).collect();
    assert_eq!(*apart[0].0, 6, "the fifth step is the first at a tenth, and the sixth sees it: {at:?}");
    let ((at, before), (_, after)) = (curve(&plain, "loss_e"), curve(&stepped, "loss_e"));
    assert_eq!(at, [9, 10, 11, 12]);
    // The encoder starts at its full rate, from a generator that went another way.
    let moved = |values: &[f32]| (values[1] - values[0]).abs();
    assert!(moved(&after) > 0.3 * moved(&before), "{before:?} {after:?}");
}

#[test]
fn held_out_samples_are_looked_at_and_the_look_is_right() {
    let (data, held_out) = (images(Split::Train, 32), images(Split::Test, 6));
    let recipe = Recipe::USUAL;
    for system in ["ae", "pca", "anogan"] {
        let mut trainer = Trainer::new(&cpu(), of(system, recipe), None, &held_out).unwrap();
        run(&mut trainer, &data, None, None, 20, None);
        let curve = trainer.progress().losses.iter().find(|curve| curve.name == HELD_OUT).cloned();
        let model = trainer.model().unwrap();
        if system == "anogan" {
            assert_eq!(curve, None, "what is searched for is not reconstructed in one pass");
            assert_eq!(model.header.progress.held_out, None);
            continue;
        }
        let curve = curve.expect("a system that reconstructs");
        assert_eq!(curve.at[..5], [8, 10, 12, 14, 16], "{system}");
        let config = ScoreConfig::default();
        let mut scorer = Scorer::new(&cpu(), &model, Path::new("tiny"), &config, 6).unwrap();
        let found = scorer.score(&held_out, None).unwrap();
        let len = TINY.sample_len();
        let (mut left, mut constant) = (0.0, 0.0);
        for (i, found) in found.iter().enumerate() {
            let made = found.reconstruction.as_ref().expect("a reconstruction");
            for j in 0..len {
                let x = |i: usize| f64::from(held_out[i * len + j]);
                let mean = (0..6).filter(|&k| k != i).map(x).sum::<f64>() / 5.0;
                left += (x(i) - f64::from(made[j])).powi(2);
                constant += (x(i) - mean).powi(2);
            }
        }
        let (got, want) = (f64::from(model.header.progress.held_out.expect("a look")), left / constant);
        assert!((got - want).abs() < 1e-4 * want, "{system}: {got} and {want}");
        assert!(system != "pca" || got < 1.0, "principal components beat the mean: {got}");
    }
}

#[test]
fn an_option_that_came_after_a_checkpoint_has_its_default_in_it() {
    for (system, key, other) in [("ganomaly", "cap", "none"), ("f-anogan", "nets", "resize")] {
        let asked = |options: &[(&str, &str)]| header(system, &TINY, BATCH, options);
        let mut found = asked(&[]);
        let mut options = serde_json::to_value(&found.options).unwrap();
        assert!(options.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        found.options = serde_json::from_value(options).unwrap();
        assert_eq!(found.options.text(key), "");
        check_resumable(&found, &asked(&[]), Path::new("m")).unwrap();
        let refused = check_resumable(&found, &asked(&[(key, other)]), Path::new("m")).unwrap_err();
        assert!(refused.to_string().contains("options"), "{refused}");
    }
}
