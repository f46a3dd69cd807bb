//! GANomaly, Skip-GANomaly, ADAE, DAGAN and BeatGAN against PyTorch: the losses of every training step and
//! the scores after the last, on both devices; EGBAD's scores for given weights.
//! `tests/goldens/gan_systems.py` defines the steps and writes the numbers.

use crate::common::{Fixture, cpu, gpu, load, program};
use ganomede::device::Device;
use ganomede::models::{Config, Form, Options, Size, System, Training, find};
use ganomede::program::StateId;
use ganomede::tape::{States, Tape};

const TOLERANCE: f32 = 1e-3;
const BATCH: usize = 4;

/// Name, width, steps, and what PyTorch's version does not write: numbers to watch, which no update depends
/// on.
const SYSTEMS: [(&str, usize, usize, &[&str]); 6] = [
    ("ganomaly", 4, 20, &["var_z", "d_saturated"]),
    ("skip-ganomaly", 2, 5, &["d_saturated"]),
    ("adae", 4, 5, &["recon"]),
    ("dagan", 2, 5, &[]),
    ("egbad", 4, 0, &[]),
    ("beatgan", 2, 10, &["d_saturated"]),
];

/// Losses and scores are compared one by one, each against its own magnitude.
fn assert_relative(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let apart = (got - want).abs();
        assert!(apart <= TOLERANCE * want.abs(), "{what}, {i}: {got} and PyTorch {want}");
    }
}

fn follow(device: &Device, (name, width, steps, watched): (&str, usize, usize, &[&str])) {
    let fixture = Fixture::read("gan_systems.safetensors");
    let info = find(name).expect("the system is registered");
    let image =
        Config { size: Size::square(16), width, latent: 8, prior: info.defaults.prior, ..Config::default() };
    let config = match name {
        "beatgan" => Config { form: Form::Signal, size: Size::square(64), channels: 4, ..image },
        _ => image,
    };
    // ADAE's loss as printed has no margin, EGBAD's no cycle.
    let given = match name {
        "adae" => Some(("margin", "0")),
        "egbad" => Some(("cycle", "0")),
        _ => None,
    };
    let options = Options::new(info.options, given).unwrap();
    let mut states = States::new();
    let mut system = info.build(&mut states, &config, &options).unwrap();
    let of_model = states.entries().len();
    let training = Training { lr: 2e-4, betas: [0.5, 0.999] };
    system.register_training(&mut states, training, 0);
    let of = |what: &str| fixture.get(&format!("{name}/{what}")).data.clone();
    let write_x = |executable: &mut ganomede::device::Executable, step: usize| {
        executable.write("x", &fixture.get(&format!("x/{step}")).data).unwrap();
    };

    let tape = Tape::new();
    let names: Vec<_> = record(&tape, system.as_ref(), &config);
    let (mut step, store) = load(device, &program(&tape), &states, 0);
    let mut known = 0;
    for (id, entry) in states.entries()[..of_model].iter().enumerate() {
        // Scores of EGBAD use averages: those get the fixture's weights, and the weights themselves stay as
        // they are.
        let wanted = match name {
            "egbad" if !entry.name.contains("running") => entry.name.strip_prefix("ema."),
            _ => Some(entry.name.as_str()),
        };
        if let Some(wanted) = wanted {
            store.write(StateId(id), &of(&format!("before/{wanted}"))).unwrap();
            known += 1;
        }
    }
    let prefix = format!("{name}/before/");
    let theirs = fixture.names().filter(|known| known.starts_with(&prefix)).count();
    assert_eq!(known, theirs, "{name} has the states that PyTorch's has");

    let mut compared = 0;
    for t in 0..steps {
        write_x(&mut step, t);
        step.run(1).unwrap();
        for loss in names.iter().filter(|loss| !watched.contains(loss)) {
            let what = format!("{name}, step {t}, {loss}");
            assert_relative(&what, &step.read(loss).unwrap(), &of(&format!("{t}/{loss}")));
            compared += 1;
        }
    }
    let of_a_step = |known: &&str| {
        known
            .strip_prefix(&format!("{name}/"))
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let theirs = fixture.names().filter(of_a_step).count();
    assert_eq!(compared, theirs, "{name} has the losses that PyTorch's has");
    assert!(watched.iter().all(|loss| names.contains(loss)), "{name}: {watched:?} are among {names:?}");
    compared = 0;
    for score in info.scores.iter().filter(|score| score.name != "instance") {
        let tape = Tape::new();
        let scored = system.score(&tape, tape.input("x", &config.images(BATCH)), score.name);
        tape.output("score", scored.score);
        let mut executable = device.load(&program(&tape), &store).unwrap();
        write_x(&mut executable, 0);
        executable.run(1).unwrap();
        let what = format!("{name}, score {}", score.name);
        assert_relative(&what, &executable.read("score").unwrap(), &of(&format!("score/{}", score.name)));
        compared += 1;
    }
    let theirs = fixture.names().filter(|known| known.starts_with(&format!("{name}/score/"))).count();
    assert_eq!(compared, theirs, "{name} has the scores that PyTorch's has");
}

/// Records a training step with each loss as an output; returns their names.
fn record(tape: &Tape, system: &dyn System, config: &Config) -> Vec<&'static str> {
    let losses = system.record(tape, 0, 0, tape.input("x", &config.images(BATCH)));
    for (name, value) in &losses {
        tape.output(name, *value);
    }
    losses.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn training_and_scores_match_pytorch_on_cpu() {
    for case in SYSTEMS {
        follow(&cpu(), case);
    }
}

#[test]
fn training_and_scores_match_pytorch_on_gpu() {
    for case in SYSTEMS {
        follow(&gpu(), case);
    }
}
