//! A training that was killed and resumed is the training that never stopped, to the last bit.

use crate::binary;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::binary::{RETINA, assert_same_tensors, files, folder, text, train, train_command, wait_for};
use ganomede::models::file::{ModelFile, Progress, StageStart, Storage};

/// Halves of this seed are a signalling and a quiet NaN where they travel as bits of an f32.
const SEED: &str = "9187343246274068481";

fn checkpoint(model: &Path) -> PathBuf {
    model.with_extension("checkpoint.safetensors")
}

/// Starts a training with checkpoints every 3 steps, kills it with SIGKILL some time after `saves`
/// checkpoints, and returns the step of the checkpoint that is left.
fn kill_after(saves: u32, out: &Path, device: &str) -> u64 {
    let more = ["--steps", "1000000", "--checkpoint-every", "3", "--seed", SEED, "--device", device];
    let mut command = train_command(RETINA, out, &more);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = checkpoint(out);
    wait_for(&mut child, &checkpoint);
    // Files are replaced while they are read here: every read must see a whole one.
    let saved = || ModelFile::load(&checkpoint).unwrap().header.progress.steps;
    let mut last = saved();
    for _ in 1..saves {
        let before = last;
        while last == before {
            std::thread::sleep(Duration::from_millis(5));
            last = saved();
        }
    }
    // The process number is as good a die as any: the kill may fall into a step, a save or between them.
    std::thread::sleep(Duration::from_millis(u64::from(child.id() % 23)));
    child.kill().unwrap();
    child.wait().unwrap();
    saved()
}

/// 32 images in batches of 8 are 4 steps an epoch: a checkpoint every 3 steps falls at every place of an
/// epoch.
fn killed_and_resumed_equals_uninterrupted(device: &str, saves: u32) {
    let at = folder(&format!("killed-{device}-{saves}"));
    let (whole, out) = (at.join("whole.safetensors"), at.join("killed.safetensors"));
    let step = kill_after(saves, &out, device);
    assert!(step >= u64::from(3 * saves) && step.is_multiple_of(3), "a checkpoint of step {step}");
    assert!(!out.exists(), "no model before the end");

    let steps = (step + 5).to_string();
    let settings = ["--steps", &steps, "--seed", SEED, "--device", device];
    train(RETINA, &whole, &settings).well();
    let resumed = train(RETINA, &out, &[&settings[..], &["--resume", "--json"]].concat());
    assert_eq!(resumed.json()["steps"], step + 5);
    assert!(resumed.stderr.contains(&format!("resuming at step {step} ")), "{}", resumed.stderr);

    assert_same_tensors(&whole, &out);
    assert_same_tensors(&checkpoint(&whole), &checkpoint(&out));
    let [a, b] = [&whole, &out].map(|path| ModelFile::load(path).unwrap().header);
    assert_eq!(a.progress.losses, b.progress.losses, "the loss history");
    assert_eq!(a.calibration, b.calibration, "the calibration");
}

#[test]
fn killed_early_on_the_cpu() {
    killed_and_resumed_equals_uninterrupted("cpu", 1);
}

#[test]
fn killed_later_on_the_cpu() {
    killed_and_resumed_equals_uninterrupted("cpu", 4);
}

#[test]
fn killed_on_the_gpu() {
    killed_and_resumed_equals_uninterrupted("gpu", 2);
}

#[test]
fn a_finished_training_continues_with_a_higher_limit() {
    let at = folder("continued");
    let (whole, out) = (at.join("whole.safetensors"), at.join("continued.safetensors"));
    train(RETINA, &whole, &["--steps", "9"]).well();
    train(RETINA, &out, &["--steps", "5"]).well();
    let again = train(RETINA, &out, &["--steps", "5", "--resume", "--json"]);
    assert_eq!(again.json()["steps"], 5);
    assert!(again.stderr.contains("already reached the limit"), "{}", again.stderr);
    assert_eq!(train(RETINA, &out, &["--steps", "9", "--resume", "--json"]).json()["steps"], 9);
    assert_same_tensors(&whole, &out);
    // A model, its checkpoint and its settings, of each.
    assert_eq!(files(&at).len(), 6, "{:?}", files(&at));
}

#[test]
fn resume_without_a_checkpoint_starts_anew_and_says_so() {
    let out = folder("anew").join("m.safetensors");
    let ended = train(RETINA, &out, &["--steps", "2", "--resume", "--json"]);
    assert_eq!(ended.json()["steps"], 2);
    assert!(ended.stderr.contains("no checkpoint at"), "{}", ended.stderr);
}

#[test]
fn resume_with_other_settings_is_refused_naming_the_setting() {
    let at = folder("other-settings");
    let out = at.join("m.safetensors");
    train(RETINA, &out, &["--steps", "2"]).well();
    let before = [&out, &checkpoint(&out)].map(|path| std::fs::read(path).unwrap());
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--size", "32"], &["--size", "16", "32"]),
        (&["--width", "8"], &["--width", "4", "8"]),
        (&["--latent", "9"], &["--latent", "8", "9"]),
        (&["--channels", "rgb"], &["--channels", "1", "3"]),
        (&["--kernel", "5"], &["--kernel", "4", "5"]),
        (&["--lr", "0.001"], &["--lr", "0.001"]),
        (&["--batch", "4"], &["--batch 8", "4"]),
        (&["--seed", "1"], &["--seed 0", "1"]),
        (&["--val-fraction", "0.3"], &["--val-fraction 0.2", "0.3"]),
    ];
    for (more, fragments) in cases {
        let settings = [&["--steps", "4", "--resume"], more].concat();
        let paragraph = train(RETINA, &out, &settings).refused(2, fragments);
        assert!(
            paragraph.contains("m.checkpoint.safetensors") && paragraph.contains("--resume"),
            "{paragraph}"
        );
    }
    let other = "builtin:retina:train=40,test=12,seed=5";
    train(other, &out, &["--steps", "4", "--resume"]).refused(2, &["--data", "seed=5"]);
    let after = [&out, &checkpoint(&out)].map(|path| std::fs::read(path).unwrap());
    assert_eq!(before, after, "a refused resume leaves everything as it was");
}

#[test]
fn a_checkpoint_that_is_damaged_is_refused_and_kept() {
    let at = folder("damaged");
    let out = at.join("m.safetensors");
    train(RETINA, &out, &["--steps", "2"]).well();
    let path = checkpoint(&out);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    train(RETINA, &out, &["--steps", "4", "--resume"]).refused(2, &["m.checkpoint.safetensors", "cut short"]);
    // A model file is no checkpoint: the optimiser's moments are missing.
    std::fs::copy(&out, &path).unwrap();
    train(RETINA, &out, &["--steps", "4", "--resume"]).refused(2, &["adam_", "missing"]);
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&out).unwrap());
}

#[test]
fn a_checkpoint_in_halves_has_half_the_bytes_and_is_resumed_close_to_the_training_that_never_stopped() {
    let at = folder("halves");
    let (whole, out) = (at.join("whole.safetensors"), at.join("halves.safetensors"));
    train(RETINA, &whole, &["--steps", "6"]).well();
    train(RETINA, &out, &["--steps", "6", "--half-checkpoints"]).well();
    // The training itself and its model are not rounded.
    assert_same_tensors(&whole, &out);
    let bytes = |model: &Path| std::fs::metadata(checkpoint(model)).unwrap().len();
    assert!(2 * bytes(&out) < bytes(&whole) + (64 << 10), "{} of {}", bytes(&out), bytes(&whole));
    let file = ModelFile::load(&checkpoint(&out)).unwrap();
    for tensor in &file.tensors {
        let exact =
            tensor.name.starts_with("random.") || tensor.name.ends_with(".step") || tensor.shape.len() == 1;
        let expected = match exact {
            true => Storage::F32,
            false if tensor.name.contains("adam") => Storage::Bf16,
            false => Storage::F16,
        };
        assert_eq!(tensor.storage, expected, "{}", tensor.name);
    }
    let losses = |path: &Path, steps: &str| {
        let ended = train(RETINA, path, &["--steps", steps, "--resume", "--json"]);
        let said = ended.stderr.contains("the checkpoint is in half precision");
        assert_eq!(said, path == out, "{}", ended.stderr);
        let report = ended.json();
        ["loss_d", "loss_g"].map(|name| report["final"][name].as_f64().unwrap())
    };
    let (exact, close) = (losses(&whole, "12"), losses(&out, "12"));
    for (exact, close) in exact.iter().zip(close) {
        assert!((exact - close).abs() < 0.05 * exact.abs(), "{close} is not close to {exact}");
    }
    assert_ne!(exact, close, "rounding shows somewhere");
}

/// Whatever a checkpoint says of the progress drives loops: what cannot be is refused, though the seal is in
/// order.
#[test]
fn a_checkpoint_with_an_impossible_progress_is_refused() {
    let at = folder("impossible");
    let out = at.join("m.safetensors");
    train(RETINA, &out, &["--steps", "6"]).well();
    let path = checkpoint(&out);
    let good = ModelFile::load(&path).unwrap();
    let refused = |change: &dyn Fn(&mut Progress), fragments: &[&str]| {
        let mut file = good.clone();
        change(&mut file.header.progress);
        file.save(&path).unwrap();
        let paragraph = train(RETINA, &out, &["--steps", "9", "--resume"]).refused(2, fragments);
        assert!(paragraph.contains("m.checkpoint.safetensors"), "{paragraph}");
    };
    let damaged = "is damaged";
    for steps_per_epoch in [0, 1, 5, 1024, u64::MAX] {
        refused(
            &|p| p.steps_per_epoch = steps_per_epoch,
            &["steps in an epoch", &steps_per_epoch.to_string(), "4"],
        );
    }
    refused(&|p| p.steps = u64::MAX, &[damaged, "steps"]);
    refused(&|p| p.seconds = -1.0, &[damaged, "-1 seconds"]);
    refused(&|p| p.stages[0].steps = 7, &[damaged, "a stage"]);
    refused(&|p| p.stages[0].seconds = 1e9, &[damaged, "a stage"]);
    refused(&|p| p.stages.push(StageStart { steps: 6, seconds: p.seconds }), &[damaged, "2 stages", "has 1"]);
    refused(&|p| p.losses[0].at[0] = 5, &[damaged, "the history of"]);
    refused(&|p| p.losses[0].values.truncate(1), &[damaged, "the history of"]);
    refused(&|p| *p.losses[0].at.last_mut().unwrap() = 7, &[damaged, "the history of"]);
    for bits in [0, 1, 17, 40] {
        let mut file = good.clone();
        file.header.data.bits = Some(bits);
        file.save(&path).unwrap();
        train(RETINA, &out, &["--steps", "9", "--resume"]).refused(2, &[damaged, "samples of", "bits"]);
    }
    good.save(&path).unwrap();
    assert_eq!(train(RETINA, &out, &["--steps", "9", "--resume", "--json"]).json()["steps"], 9);
}

/// A model whose seeds are repeated says how long it was trained; how long an epoch is, its data say.
#[test]
fn seeds_do_not_believe_a_file_about_the_length_of_an_epoch() {
    let at = folder("believed");
    let out = at.join("m.safetensors");
    train(RETINA, &out, &["--steps", "6"]).well();
    let mut file = ModelFile::load(&out).unwrap();
    file.header.progress.steps_per_epoch = 1024;
    file.save(&out).unwrap();
    let ended = binary::ganomede(["eval", text(&out), "--data", RETINA, "--seeds", "2", "--json"]);
    assert_eq!(ended.json()["repeated"]["auroc"]["values"].as_array().unwrap().len(), 2);
}
