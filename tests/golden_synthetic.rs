//! NSA and DRAEM against PyTorch on given synthetic samples: the losses of every step, and scores and map
//! after the last; and the losses they are made of, with their gradients. `tests/goldens/synthetic.py` writes
//! the numbers.

use crate::common;
use crate::common::{Fixture, assert_close, cpu, gpu, load, program, write};
use ganomede::device::Device;
use ganomede::models::{Config, Info, Options, Size, Training};
use ganomede::nn::{cross_entropy_of_targets, focal, ssim_gaussian};
use ganomede::program::StateId;
use ganomede::systems::{DRAEM, NSA};
use ganomede::tape::{States, Tape, Tensor};
use ganomede::train::part_program;

const BATCH: usize = 4;
const STEPS: usize = 3;
/// Losses, scores and maps are sums over many products in single precision, and three steps of Adam.
const TOLERANCE: f32 = 2e-3;

/// Name in the fixture, system, its options, height and width, channels, width of the networks.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], [usize; 2], usize, usize);

const CASES: [Case; 3] = [
    ("nsa", "nsa", &[], [40, 33], 1, 2),
    ("nsa-fine", "nsa", &[("pool", "no")], [17, 24], 3, 2),
    ("draem", "draem", &[], [33, 24], 3, 1),
];

fn named(system: &str) -> &'static Info {
    if system == "nsa" { &NSA } else { &DRAEM }
}

fn follow(device: &Device, (name, system, options, [height, width], channels, w): Case) {
    let fixture = Fixture::read("synthetic.safetensors");
    let of = |what: &str| &fixture.get(&format!("{name}/{what}")).data;
    let info = named(system);
    let config = Config { size: Size { height, width }, channels, width: w, ..Config::default() };
    let options = Options::new(info.options, options.iter().copied()).unwrap();
    let mut states = States::new();
    let mut system = info.build(&mut states, &config, &options).unwrap();
    let of_model = states.entries().len();
    // As the script has it, which says why.
    let lr = if name == "draem" { 2e-5 } else { 2e-4 };
    system.register_training(&mut states, Training { lr, betas: [0.5, 0.999] }, 0);

    let part = part_program(system.as_ref(), 0, 0, BATCH).unwrap();
    let (mut step, store) = load(device, &part.program, &states, 0);
    for (id, entry) in states.entries()[..of_model].iter().enumerate() {
        let before = fixture.get(&format!("{name}/before/{}", entry.name));
        assert_eq!(before.shape, entry.shape, "{name}, {}", entry.name);
        store.write(StateId(id), &before.data).unwrap();
    }
    let theirs = fixture.names().filter(|known| known.starts_with(&format!("{name}/before/"))).count();
    assert_eq!(of_model, theirs, "{name} has the states that PyTorch's has");

    // What the system makes of a batch has the names that its step reads.
    let made = system.synthesise(&vec![0.5; BATCH * config.sample_len()], 1, 2);
    assert!(!made.is_empty());
    for t in 0..STEPS {
        if let Some(x) = fixture.find(&format!("{name}/x/{t}")) {
            write(&mut step, "x", &x.data);
        }
        for (input, values) in &made {
            let given = of(&format!("{input}/{t}"));
            assert_eq!(given.len(), values.len(), "{name}, {input}");
            step.write(input, given).unwrap();
        }
        step.run(1).unwrap();
        let losses = step.read("losses").unwrap();
        assert_eq!(losses.len(), part.names.len());
        for (loss, got) in part.names.iter().zip(losses) {
            let want = of(&format!("{t}/{loss}"))[0];
            assert!(
                (got - want).abs() <= TOLERANCE * want.abs(),
                "{name}, step {t}, {loss}: {got}, not {want}"
            );
        }
    }
    for score in info.scores {
        let tape = Tape::new();
        let scored = system.score(&tape, tape.input("x", &config.images(BATCH)), score.name);
        tape.output("score", scored.score);
        tape.output("map", scored.map.expect("a segmentation"));
        let mut executable = device.load(&program(&tape), &store).unwrap();
        executable.write("x", of("x/0")).unwrap();
        executable.run(1).unwrap();
        for (what, output) in [(format!("score/{}", score.name), "score"), ("map".to_owned(), "map")] {
            let got = executable.read(output).unwrap();
            assert_close(&format!("{name}, {what}"), &got, of(&what), TOLERANCE);
        }
    }
}

#[test]
fn training_scores_and_maps_match_pytorch_on_cpu() {
    for case in CASES {
        follow(&cpu(), case);
    }
}

#[test]
fn training_scores_and_maps_match_pytorch_on_gpu() {
    for case in CASES {
        follow(&gpu(), case);
    }
}

/// A loss of two tensors, pixel by pixel.
type Loss = for<'t> fn(Tensor<'t>, Tensor<'t>) -> Tensor<'t>;

const LOSSES: [(&str, Loss); 3] = [
    ("ssim", |a, b| ssim_gaussian(a, b)),
    ("focal", |a, b| focal(a, b, 2.0)),
    ("bce", |a, b| cross_entropy_of_targets(a, b)),
];

fn losses(device: &Device) {
    let fixture = Fixture::read("synthetic.safetensors");
    for (name, loss) in LOSSES {
        let tape = Tape::new();
        let [a, b, g] = ["a", "b", "g"].map(|of| (of, fixture.get(&format!("{name}/{of}"))));
        let [ta, tb, tg] = [a, b, g].map(|(input, values)| tape.input(input, &values.shape));
        let y = loss(ta, tb);
        let gradients = tape.grad((y * tg).sum_all(), &[ta, tb]);
        let mut outputs = vec![("y", y), ("da", gradients[0])];
        if fixture.find(&format!("{name}/db")).is_some() {
            outputs.push(("db", gradients[1]));
        }
        assert_eq!(outputs.len(), if name == "ssim" { 3 } else { 2 });
        for (output, value) in &outputs {
            tape.output(output, *value);
        }
        let (mut executable, _) = load(device, &program(&tape), &States::new(), 0);
        for (input, values) in [a, b, g] {
            executable.write(input, &values.data).unwrap();
        }
        executable.run(1).unwrap();
        for (output, _) in outputs {
            let want = &fixture.get(&format!("{name}/{output}")).data;
            assert_close(&format!("{name}, {output}"), &executable.read(output).unwrap(), want, 1e-4);
        }
    }
}

#[test]
fn losses_and_their_gradients_match_pytorch_on_cpu() {
    losses(&cpu());
}

#[test]
fn losses_and_their_gradients_match_pytorch_on_gpu() {
    losses(&gpu());
}

#[test]
fn losses_of_shapes_that_do_not_fit_are_refused() {
    for (name, a, b) in [
        ("ssim_gaussian", vec![1, 1, 4, 4], vec![1, 1, 4, 5]),
        ("focal", vec![1, 3, 4, 4], vec![1, 1, 4, 4]),
        ("focal", vec![1, 2, 4, 4], vec![1, 2, 4, 4]),
        ("cross_entropy_of_targets", vec![2, 3], vec![3, 2]),
    ] {
        let tape = Tape::new();
        let (x, y) = (tape.input("a", &a), tape.input("b", &b));
        tape.output(
            "y",
            match name {
                "focal" => focal(x, y, 2.0),
                "ssim_gaussian" => ssim_gaussian(x, y),
                _ => cross_entropy_of_targets(x, y),
            },
        );
        let error = tape.finish().expect_err(name).to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
    let tape = Tape::new();
    tape.output("y", tape.input("x", &[4, 4]).filter(1, &[1.0, 2.0]));
    let error = tape.finish().expect_err("two taps").to_string();
    assert!(error.contains("odd"), "{error}");
}

/// Any image that a model may see, at the ends of what is allowed: no side is too odd for a level.
#[test]
fn sides_of_any_length_fit() {
    for name in ["nsa", "draem"] {
        let info = named(name);
        for (height, width) in [(16, 16), (17, 1024), (31, 57)] {
            let config = Config { size: Size { height, width }, width: 1, channels: 3, ..Config::default() };
            let mut states = States::new();
            let options = Options::new(info.options, []).unwrap();
            let mut system = info.build(&mut states, &config, &options).unwrap();
            system.register_training(&mut states, Training::default(), 0);
            part_program(system.as_ref(), 0, 0, 2)
                .unwrap_or_else(|e| panic!("{name}, {height}×{width}: {e}"));
            let tape = Tape::new();
            let scored = system.score(&tape, tape.input("x", &config.images(2)), "");
            assert_eq!(scored.map.expect("a segmentation").shape(), [2, height, width], "{name}");
            let made = system.synthesise(&vec![0.1; 2 * config.sample_len()], 3, 4);
            assert_eq!(made[0].1.len(), 2 * config.sample_len());
            assert_eq!(made[1].1.len(), 2 * height * width);
        }
    }
}

/// What is made of a batch depends on the batch, the seed and the step alone; an image is changed nowhere but
/// where its label says so, and some are.
#[test]
fn samples_are_functions_of_batch_seed_and_step() {
    const IMAGES: usize = 6;
    let config = Config { size: Size { height: 40, width: 33 }, channels: 3, width: 1, ..Config::default() };
    let batch: Vec<f32> =
        common::numbers(IMAGES * config.sample_len(), 7).into_iter().map(|v| 0.8 * v).collect();
    for (name, options) in [("nsa", [("label", "binary")]), ("draem", [("clean", "0.4")])] {
        let info = named(name);
        let options = Options::new(info.options, options).unwrap();
        let system = info.build(&mut States::new(), &config, &options).unwrap();
        let made = system.synthesise(&batch, 5, 9);
        assert_eq!(made, system.synthesise(&batch, 5, 9), "{name}: the same again");
        assert_ne!(made, system.synthesise(&batch, 6, 9), "{name}: another seed");
        assert_ne!(made, system.synthesise(&batch, 5, 10), "{name}: another step");
        let (pixels, labels) = (&made[0].1, &made[1].1);
        assert!(labels.iter().all(|&l| l == 0.0 || l == 1.0), "{name}");
        let share = labels.iter().sum::<f32>() / labels.len() as f32;
        assert!((0.001..0.5).contains(&share), "{name}: {share} of all pixels");
        assert!(pixels.iter().all(|v| (-1.0..=1.0).contains(v)), "{name}");
        let plane = config.map_len();
        let channels = config.channels;
        let mut unlabelled = 0.0_f32;
        for (i, label) in labels.iter().enumerate() {
            let of = |c: usize| i / plane * channels * plane + c * plane + i % plane;
            let change = (0..channels).map(|c| (pixels[of(c)] - batch[of(c)]).abs()).fold(0.0, f32::max);
            unlabelled = if *label == 0.0 { unlabelled.max(change) } else { unlabelled };
        }
        // NSA's median filter takes lone changed pixels off its labels; DRAEM's masks are exact.
        assert!(if name == "draem" { unlabelled == 0.0 } else { unlabelled < 2.0 }, "{name}: {unlabelled}");
    }
}
