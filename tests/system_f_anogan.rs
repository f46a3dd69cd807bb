//! f-AnoGAN against PyTorch (`tests/goldens/f_anogan.py` defines the steps and writes the numbers), and as a
//! whole on built-in retina scans.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

use crate::common::{self, Fixture, assert_close, cpu, gpu, header, program, write};
use ganomede::device::{Device, Executable, Store};
use ganomede::models::f_anogan::{FAnoGan, INFO};
use ganomede::models::file::ModelFile;
use ganomede::models::scorer::{Found, ScoreConfig, Scorer, Watch, load};
use ganomede::models::{Config, Form, Options, Prior, Size, System, Training};
use ganomede::program::StateId;
use ganomede::tape::{States, Tape, Tensor, Variable};
use ganomede::train::{Epoch, Limits, LoopOptions, Trainer, train};
use ganomede_datasets::Split;

const TOLERANCE: f32 = 1e-3;
const NETS: [&str; 2] = ["lite", "resnet"];
/// Those, and the ones of two ports, whose outputs `import.rs` compares.
const ALL_NETS: [&str; 4] = ["lite", "resnet", "resnet-port", "resize"];
const TINY: Config = Config {
    form: Form::Image,
    size: Size::square(16),
    channels: 1,
    width: 4,
    latent: 6,
    prior: Prior::Normal,
    kernel: 4,
};
const SCORES: [&str; 4] = ["f-anogan", "residual", "z-distance", "critic"];

fn options(pairs: &[(&str, &str)]) -> Options {
    Options::new(INFO.options, pairs.iter().copied()).unwrap()
}

/// A model of the fixture on a device, at the start of its training.
struct Golden {
    fixture: Fixture,
    nets: &'static str,
    device: Device,
    model: FAnoGan,
    states: States,
    /// States of the model, without those of its training.
    count: usize,
    store: Store,
}

impl Golden {
    const BATCH: usize = 4;
    const STEPS: usize = 5;
    const LR: f32 = 2e-5;

    fn new(device: &Device, nets: &'static str) -> Self {
        let fixture = Fixture::read("f_anogan.safetensors");
        let mut states = States::new();
        let mut model = FAnoGan::new(&mut states, &TINY, &options(&[("nets", nets)])).unwrap();
        let count = states.entries().len();
        model.register_training(&mut states, Training { lr: Self::LR, betas: [0.0, 0.9] }, 0);
        let store = device.store(&states, 0).unwrap();
        let known = fixture.names().filter(|name| name.starts_with(&format!("{nets}/before/"))).count();
        assert_eq!(count, known, "the model has the states that PyTorch's has: {:?}", states.entries());
        let golden = Self { fixture, nets, device: device.clone(), model, states, count, store };
        for (id, name) in golden.names().iter().enumerate() {
            golden.store.write(StateId(id), golden.get(&format!("before/{name}"))).unwrap();
        }
        golden
    }

    fn names(&self) -> Vec<String> {
        self.states.entries()[..self.count].iter().map(|e| e.name.clone()).collect()
    }

    fn get(&self, name: &str) -> &[f32] {
        &self.fixture.get(&format!("{}/{name}", self.nets)).data
    }

    /// A program with inputs x, z and alpha.
    fn load<'a>(
        &self,
        tape: &'a Tape,
        record: impl FnOnce([Tensor<'a>; 3]) -> Vec<(&'static str, Tensor<'a>)>,
    ) -> Executable {
        let x = tape.input("x", &TINY.images(Self::BATCH));
        let z = tape.input("z", &[Self::BATCH, TINY.latent]);
        for (name, value) in record([x, z, tape.input("alpha", &[Self::BATCH])]) {
            tape.output(name, value);
        }
        self.device.load(&program(tape), &self.store).unwrap()
    }

    /// Runs a program on what the fixture has for step `t` and compares these outputs.
    fn step(&self, program: &mut Executable, t: usize, z: &str, losses: &[&str]) {
        for (input, name) in [("x", "x"), ("z", z), ("alpha", "alpha")] {
            write(program, input, self.get(&format!("{t}/{name}")));
        }
        program.run(1).unwrap();
        for loss in losses {
            let what = format!("{}, step {t}, {loss}", self.nets);
            assert_close(&what, &program.read(loss).unwrap(), self.get(&format!("{t}/{loss}")), TOLERANCE);
        }
    }
}

fn length(values: &[f32]) -> f32 {
    values.iter().map(|v| v * v).sum::<f32>().sqrt()
}

/// Five steps of both stages, every loss, every weight and statistic at the end, and the scores.
fn training_and_scores_match_pytorch(device: &Device, nets: &'static str) -> Vec<u32> {
    let golden = Golden::new(device, nets);
    let tapes = [Tape::new(), Tape::new(), Tape::new()];
    let [on_critic, on_generator, on_encoder] = &tapes;
    let mut critic = golden.load(on_critic, |[x, z, a]| golden.model.critic_step(on_critic, x, z, a));
    let mut generator = golden.load(on_generator, |[_, z, _]| golden.model.generator_step(on_generator, z));
    let mut encoder = golden.load(on_encoder, |[x, z, _]| golden.model.encoder_step(on_encoder, x, z));
    for t in 0..Golden::STEPS {
        golden.step(&mut critic, t, "z", &["loss_d", "wasserstein", "penalty"]);
        if t % 2 == 1 {
            golden.step(&mut generator, t, "w", &["loss_g"]);
        }
    }
    for t in 0..Golden::STEPS {
        golden.step(&mut encoder, t, "z", &["loss_e", "residual", "features"]);
    }
    let mut bits = vec![];
    for (id, name) in golden.names().iter().enumerate() {
        let got = golden.store.read(StateId(id)).unwrap();
        let (before, after) = (golden.get(&format!("before/{name}")), golden.get(&format!("after/{name}")));
        assert_close(&format!("{nets}, {name}"), &got, after, TOLERANCE);
        // Steps of 2e-5 are small beside the values, so the way they went is compared too. Adam with β₁ = 0
        // and RMSProp go by a gradient's sign, which is noise where it is nearly zero: the whole way counts,
        // and it may be off as far as if one element in a hundred went the other way, 2·√0.01 of its length;
        // not where the gradient is zero (a bias that a norm or a difference removes).
        let way = |end: &[f32]| end.iter().zip(before).map(|(e, b)| e - b).collect::<Vec<_>>();
        let (went, wanted) = (way(&got), way(after));
        if length(&wanted) > 1e-5 {
            let off = length(&went.iter().zip(&wanted).map(|(a, b)| a - b).collect::<Vec<_>>());
            assert!(off < 0.2 * length(&wanted), "{nets}, {name} went {off} off {}", length(&wanted));
        }
        bits.extend(got.iter().map(|v| v.to_bits()));
    }
    for score in SCORES {
        let tape = Tape::new();
        let mut scorer = golden.load(&tape, |[x, ..]| {
            let scored = golden.model.score(&tape, x, score);
            let mut outputs = vec![("score", scored.score)];
            outputs.extend(scored.map.map(|map| ("map", map)));
            outputs.extend(scored.reconstruction.map(|image| ("reconstruction", image)));
            outputs
        });
        golden.step(&mut scorer, Golden::STEPS - 1, "z", &[]);
        let what = format!("{nets}, score {score}");
        let wanted = golden.get(&format!("score/{score}"));
        assert_close(&what, &scorer.read("score").unwrap(), wanted, TOLERANCE);
        for output in ["map", "reconstruction"].iter().filter(|_| score != "critic") {
            assert_close(&what, &scorer.read(output).unwrap(), golden.get(output), TOLERANCE);
        }
    }
    bits
}

#[test]
fn training_and_scores_match_pytorch_on_the_cpu() {
    for nets in NETS {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| training_and_scores_match_pytorch(&cpu(), nets))
        };
        assert_eq!(with(1), with(3), "threads change no bit");
    }
}

#[test]
fn training_and_scores_match_pytorch_on_the_gpu() {
    for nets in NETS {
        training_and_scores_match_pytorch(&gpu(), nets);
    }
}

/// The first step's penalty, differentiated by the critic's weights.
fn the_weight_gradient_of_the_penalty_matches_pytorch(device: &Device) {
    for nets in NETS {
        let golden = Golden::new(device, nets);
        let parameters: Vec<(String, Variable)> = golden
            .names()
            .iter()
            .filter_map(|name| Some((name.strip_prefix("critic.")?.to_owned(), golden.states.find(name)?)))
            .collect();
        let tape = Tape::new();
        // Read before the step assigns new values.
        let weights: Vec<_> = parameters.iter().map(|(_, variable)| tape.state(variable)).collect();
        let x = tape.input("x", &TINY.images(Golden::BATCH));
        let z = tape.input("z", &[Golden::BATCH, TINY.latent]);
        let losses = golden.model.critic_step(&tape, x, z, tape.input("alpha", &[Golden::BATCH]));
        let penalty = losses.iter().find(|(name, _)| *name == "penalty").unwrap().1;
        for ((name, _), gradient) in parameters.iter().zip(tape.grad(penalty, &weights)) {
            tape.output(&format!("gradient/{name}"), gradient);
        }
        let mut executable = device.load(&program(&tape), &golden.store).unwrap();
        golden.step(&mut executable, 0, "z", &[]);
        for (name, _) in &parameters {
            let got = executable.read(&format!("gradient/{name}")).unwrap();
            let wanted = golden.get(&format!("gradient/{name}"));
            assert_close(&format!("{nets}, penalty's gradient of {name}"), &got, wanted, TOLERANCE);
            // A penalty that were a value only would train plain WGAN.
            assert!(!name.ends_with("weight") || length(&got) > 1e-3, "{nets}, {name}: {got:?}");
        }
    }
}

#[test]
fn the_weight_gradient_of_the_penalty_matches_pytorch_on_the_cpu() {
    the_weight_gradient_of_the_penalty_matches_pytorch(&cpu());
}

#[test]
fn the_weight_gradient_of_the_penalty_matches_pytorch_on_the_gpu() {
    the_weight_gradient_of_the_penalty_matches_pytorch(&gpu());
}

// ---- as a whole ----

/// The first images of a split, one after the other.
fn images(config: &Config, split: Split, count: usize) -> Vec<f32> {
    common::images(config, "builtin:retina:train=64,test=64", split, count)
}

/// Trains through both stages; the loop is that of the command. `until` stops it early.
fn run(trainer: &mut Trainer, steps: u64, checkpoint: &Path, until: u64) {
    let (config, batch) = (trainer.header().config.clone(), trainer.header().batch);
    let all = images(&config, Split::Train, 64);
    let mut epoch = |_: u64, first: u64| -> Result<Epoch, _> {
        let batches: Vec<_> = all.chunks_exact(batch * config.sample_len()).map(|b| Ok(b.to_vec())).collect();
        Ok(Box::new(batches.into_iter().skip(first as usize)))
    };
    let limits = Limits { steps: Some(steps), ..Limits::default() };
    let options = LoopOptions {
        limits,
        checkpoint: Some(checkpoint.to_owned()),
        checkpoint_every: 0,
        half_checkpoints: false,
        keep: None,
        samples: None,
        log: None,
    };
    let mut tick = |tick: ganomede::train::Tick<'_>| match tick.step >= until {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    train(trainer, &options, &mut epoch, &mut tick).unwrap_or_else(|e| panic!("{e}"));
}

fn trained(
    device: &Device,
    config: &Config,
    options: &[(&str, &str)],
    batch: usize,
    steps: u64,
) -> ModelFile {
    let at = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(device, header("f-anogan", config, batch, options), None, &[]).unwrap();
    run(&mut trainer, steps, &at.path().join("c.safetensors"), u64::MAX);
    trainer.model().unwrap()
}

/// A model trained on the CPU until its images are no noise, made once.
fn model() -> &'static ModelFile {
    static MODEL: OnceLock<ModelFile> = OnceLock::new();
    MODEL.get_or_init(|| trained(&cpu(), &TINY, &[("encoder-lr", "1e-3")], 8, 400))
}

fn scorer(device: &Device, model: &ModelFile, score: &str, refine: usize, batch: usize) -> Scorer {
    let config = ScoreConfig { score: score.to_owned(), refine, ..ScoreConfig::default() };
    Scorer::new(device, model, Path::new("tiny.safetensors"), &config, batch)
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_score_depends_on_neither_batch_nor_order_nor_repetition() {
    let len = TINY.sample_len();
    let queries = images(&TINY, Split::Test, 6);
    for (score, refine) in SCORES.map(|s| (s, 0)).into_iter().chain([("f-anogan", 10), ("residual", 10)]) {
        let mut together = scorer(&cpu(), model(), score, refine, 6);
        let first = together.score(&queries, None).unwrap();
        assert_eq!(together.score(&queries, None).unwrap(), first, "the same again, to the last bit");
        let mut alone = scorer(&cpu(), model(), score, refine, 1);
        for (i, x) in queries.chunks(len).enumerate() {
            let found = &alone.score(x, None).unwrap()[0];
            assert_eq!(found, &first[i], "{score}, refined by {refine}, query {i}");
        }
        let order = [4, 0, 5, 2, 1, 3];
        let shuffled: Vec<f32> = order.iter().flat_map(|&i| queries[i * len..][..len].to_vec()).collect();
        for (found, &i) in together.score(&shuffled, None).unwrap().iter().zip(&order) {
            assert_eq!(found, &first[i], "{score}, shuffled, query {i}");
        }
        let part = together.score(&queries[2 * len..4 * len], None).unwrap();
        assert_eq!(part.len(), 2);
        assert_eq!(part[1], first[3], "{score}, part of a batch");
    }
}

#[test]
fn scores_are_made_of_what_the_paper_names() {
    let len = TINY.sample_len();
    let queries = images(&TINY, Split::Test, 3);
    let found = scorer(&cpu(), model(), "", 0, 3).score(&queries, None).unwrap();
    let residuals = scorer(&cpu(), model(), "residual", 0, 3).score(&queries, None).unwrap();
    for ((found, residual), x) in found.iter().zip(&residuals).zip(queries.chunks(len)) {
        let image = found.reconstruction.as_ref().unwrap();
        let differences: Vec<f32> = x.iter().zip(image).map(|(x, g)| (x - g).abs()).collect();
        let mean = differences.iter().map(|d| d * d).sum::<f32>() / len as f32;
        let part = |name| found.part(name).unwrap();
        assert_close("A_R", &[part("residual")], &[mean], 1e-4);
        assert_close("residual alone", &[residual.score as f32], &[mean], 1e-4);
        assert_close("map", found.map.as_ref().unwrap(), &differences, 1e-5);
        assert_close("A", &[found.score as f32], &[part("residual") + part("discrimination")], 1e-5);
        assert!(image.iter().all(|v| v.abs() <= 1.0));
    }
}

fn scoring_changes_no_weight(device: &Device) {
    let loaded = load(device, &model().header, Some((model(), Path::new("tiny"))), false, |_, _| {}).unwrap();
    let weights = || -> Vec<Vec<u32>> {
        let read = |i| loaded.store.read(StateId(i)).unwrap().iter().map(|v| v.to_bits()).collect();
        (0..loaded.weights).map(read).collect()
    };
    let before = weights();
    assert!(loaded.states.entries().iter().any(|e| e.name.ends_with("running_var")));
    for score in SCORES {
        let tape = Tape::new();
        let x = tape.input("x", &TINY.images(4));
        tape.output("score", loaded.system.score(&tape, x, score).score);
        assert!(tape.finish().unwrap().assigns.is_empty(), "{score} assigns nothing");
        let mut executable = device.load(&program(&tape), &loaded.store).unwrap();
        executable.write("x", &images(&TINY, Split::Test, 4)).unwrap();
        executable.run(2).unwrap();
    }
    assert_eq!(weights(), before);
}

#[test]
fn scoring_changes_no_weight_on_the_cpu() {
    scoring_changes_no_weight(&cpu());
}

#[test]
fn scoring_changes_no_weight_on_the_gpu() {
    scoring_changes_no_weight(&gpu());
}

#[test]
fn a_refined_score_starts_at_the_encoders_and_is_lower() {
    let queries = images(&TINY, Split::Test, 32);
    for score in ["f-anogan", "residual"] {
        let pass = scorer(&cpu(), model(), score, 0, 32).score(&queries, None).unwrap();
        let (mut start, mut end) = (vec![], vec![]);
        let mut watch = |step: usize, found: &[Found]| {
            *(if step == 0 { &mut start } else { &mut end }) = found.to_vec();
        };
        let watch = Watch { stages: &[0], see: &mut watch };
        scorer(&cpu(), model(), score, 60, 32).score(&queries, Some(watch)).unwrap();
        for (a, b) in start.iter().zip(&pass) {
            let (a, b) = (a.score as f32, b.score as f32);
            assert_close("a search starts at E(x)", &[a], &[b], 1e-4);
        }
        let lower = start.iter().zip(&end).filter(|(a, b)| b.score < a.score).count();
        assert!(lower >= 30, "{score}: the search lowered {lower} of 32");
    }
}

#[test]
fn a_score_of_one_pass_cannot_be_refined() {
    for score in ["z-distance", "critic"] {
        let config = ScoreConfig { score: score.to_owned(), refine: 5, ..ScoreConfig::default() };
        let refused = Scorer::new(&cpu(), model(), Path::new("m"), &config, 1);
        let message = refused.err().expect("refused").to_string();
        assert!(message.contains("refine") && message.contains(score), "{message}");
    }
}

#[test]
fn both_devices_give_the_same_scores() {
    let queries = images(&TINY, Split::Test, 4);
    for (score, refine) in SCORES.map(|s| (s, 0)).into_iter().chain([("f-anogan", 20)]) {
        let on = |device: &Device| scorer(device, model(), score, refine, 4).score(&queries, None).unwrap();
        for (i, (a, b)) in on(&gpu()).iter().zip(on(&cpu())).enumerate() {
            let relative = (a.score - b.score).abs() / b.score.abs().max(1e-6);
            assert!(relative <= 1e-3, "{score}, query {i}: {} and {}", a.score, b.score);
        }
    }
}

/// 10 steps of which 7 are the GAN's: stopped within each stage, and just at the boundary.
fn resumed_equals_uninterrupted(device: &Device, stops: &[u64]) {
    let bits = |model: ModelFile| -> Vec<(String, Vec<u32>)> {
        let tensors = model.tensors.into_iter();
        tensors.map(|t| (t.name, t.values.iter().map(|v| v.to_bits()).collect())).collect()
    };
    let start = || header("f-anogan", &TINY, 8, &[("critic-steps", "2")]);
    let at = tempfile::tempdir().unwrap();
    let mut whole = Trainer::new(device, start(), None, &[]).unwrap();
    run(&mut whole, 10, &at.path().join("whole.safetensors"), u64::MAX);
    assert_eq!(whole.stage(), 1);
    assert_eq!(whole.progress().stages[1].steps, 7);
    let whole = bits(whole.checkpoint().unwrap());
    for &stop in stops {
        let path = at.path().join(format!("stopped-{stop}.safetensors"));
        let mut first = Trainer::new(device, start(), None, &[]).unwrap();
        run(&mut first, 10, &path, stop);
        let file = ModelFile::load(&path).unwrap();
        assert_eq!(file.header.progress.steps, stop);
        let mut second = Trainer::new(device, file.header.clone(), Some((&file, &path)), &[]).unwrap();
        run(&mut second, 10, &path, u64::MAX);
        for (a, b) in bits(second.checkpoint().unwrap()).iter().zip(&whole) {
            assert_eq!(a, b, "stopped at step {stop}: {}", a.0);
        }
    }
}

#[test]
fn resumed_equals_uninterrupted_on_the_cpu() {
    resumed_equals_uninterrupted(&cpu(), &[1, 5, 7, 8]);
}

#[test]
fn resumed_equals_uninterrupted_on_the_gpu() {
    resumed_equals_uninterrupted(&gpu(), &[7]);
}

#[test]
fn every_encoder_net_size_and_colour_trains_and_scores() {
    for (i, (encoder, nets)) in
        ["izi_f", "izi", "ziz"].into_iter().flat_map(|e| ALL_NETS.map(|n| (e, n))).enumerate()
    {
        let (size, channels) = ([16, 32, 64][i % 3], [1, 3][i % 2]);
        let config = Config { size: size.into(), channels, width: 2, latent: 3, kernel: 4 + i % 2, ..TINY };
        let pairs = [("encoder", encoder), ("nets", nets), ("critic-steps", "1"), ("gan-share", "0.5")];
        let model = trained(&cpu(), &config, &pairs, 2, 2);
        let queries = images(&config, Split::Test, 2);
        for (score, refine) in SCORES.map(|s| (s, 0)).into_iter().chain([("f-anogan", 1)]) {
            let found = scorer(&cpu(), &model, score, refine, 2).score(&queries, None).unwrap();
            let [a, b] = [found[0].score, found[1].score];
            assert!(a.is_finite() && b.is_finite() && a != b, "{encoder}, {nets}, {score}: {a} and {b}");
        }
    }
    let signal = Config { form: Form::Signal, channels: 2, width: 2, latent: 3, ..TINY };
    for nets in ALL_NETS {
        let mut states = States::new();
        let model = FAnoGan::new(&mut states, &signal, &options(&[("nets", nets)])).unwrap();
        let tape = Tape::new();
        let x = tape.input("x", &signal.images(2));
        assert_eq!(model.score(&tape, x, "").reconstruction.unwrap().shape(), signal.images(2));
        tape.finish().unwrap();
    }
    let table = Config { form: Form::Table, size: Size::square(1), ..TINY };
    let refused = FAnoGan::new(&mut States::new(), &table, &options(&[])).expect_err("no tables");
    assert!(refused.to_string().contains("images or signals"), "{refused}");
}

/// Resize-convolutions have batch norm in the critic: both of its players' steps move its statistics, and
/// nothing of the second stage does.
#[test]
fn a_critic_with_batch_norm_is_in_eval_mode_in_the_encoders_stage() {
    let mut states = States::new();
    let mut model = FAnoGan::new(&mut states, &TINY, &options(&[("nets", "resize")])).unwrap();
    let names: Vec<String> = states.entries().iter().map(|entry| entry.name.to_string()).collect();
    model.register_training(&mut states, Training { lr: 1e-4, betas: [0.0, 0.9] }, 0);
    let moved = |stage: usize, part: usize| -> Vec<&str> {
        let tape = Tape::new();
        model.record(&tape, stage, part, tape.input("x", &TINY.images(4)));
        let assigns = tape.finish().unwrap().assigns;
        let moved = assigns.keys().filter_map(|id| names.get(id.0)).map(String::as_str);
        moved.filter(|name| !name.starts_with("generator.")).collect()
    };
    let statistics = |name: &&&str| name.contains(".running_");
    for part in [0, 1] {
        let moved = moved(0, part);
        assert!(moved.iter().all(|name| name.starts_with("critic.")), "{moved:?}");
        assert_eq!(moved.iter().filter(statistics).count(), 6, "{moved:?}");
    }
    let moved = moved(1, 0);
    assert!(moved.iter().all(|name| name.starts_with("encoder.")), "{moved:?}");
    assert_eq!(moved.iter().filter(statistics).count(), 6, "{moved:?}");
}

/// Four halvings and two doublings at any size, PyTorch's start.
#[test]
fn resize_convolutions_have_the_published_layers() {
    for (size, bottom, quarter) in [("64", 16, 256), ("48x16", 3, 48), ("33x50", 3 * 4, 9 * 13)] {
        let mut states = States::new();
        let config = Config { size: size.parse().unwrap(), width: 16, channels: 3, ..TINY };
        FAnoGan::new(&mut states, &config, &options(&[("nets", "resize")])).unwrap();
        let shape = |name: &str| states.find(name).unwrap().shape.clone();
        assert_eq!(shape("generator.project.weight"), [128 * quarter, 6], "{size}");
        assert_eq!(shape("generator.up1.weight"), [128, 128, 3, 3]);
        assert_eq!(shape("generator.up2.weight"), [64, 128, 3, 3]);
        assert_eq!(shape("critic.down3.weight"), [128, 64, 3, 3]);
        assert_eq!(shape("encoder.output.weight"), [6, 128 * bottom], "{size}");
        for (name, fan_in) in [("critic.down3.weight", 9.0 * 64.0), ("generator.up2.bias", 9.0 * 128.0)] {
            let values = states.initial_values(states.find(name).unwrap().id, 1).unwrap();
            let largest = values.iter().fold(0.0_f32, |most, v| most.max(v.abs())) * f32::sqrt(fan_in);
            assert!((0.8..=1.0001).contains(&largest), "{name}: {largest}");
        }
    }
}

/// He's and Glorot's starts, as the published code has them.
#[test]
fn residual_networks_start_as_published() {
    let mut states = States::new();
    let config = Config { size: Size::square(32), width: 16, ..TINY };
    FAnoGan::new(&mut states, &config, &options(&[("nets", "resnet")])).unwrap();
    let deviation = |name: &str| {
        let values = states.initial_values(states.find(name).unwrap().id, 1).unwrap();
        (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt()
    };
    let expected = [
        ("critic.input.weight", (2.0_f32 / (9.0 * 17.0)).sqrt()),
        ("critic.down1.conv1.weight", (4.0_f32 / (9.0 * 32.0)).sqrt()),
        ("critic.down1.shortcut.weight", (2.0_f32 / 48.0).sqrt()),
        ("generator.project.weight", (2.0_f32 / (6.0 + 1024.0)).sqrt()),
        ("encoder.down3.conv2.weight", (4.0_f32 / (9.0 * 128.0)).sqrt()),
    ];
    for (name, expected) in expected {
        let found = deviation(name);
        assert!((found / expected - 1.0).abs() < 0.1, "{name}: {found}, expected {expected}");
    }
    assert_eq!(deviation("generator.up1.bn1.weight"), 1.0);
    assert_eq!(deviation("critic.down2.conv2.bias"), 0.0);
}
