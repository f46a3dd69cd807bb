//! Around a run: settings from files, logs of trainings, completions, man pages, a quiet log.

use crate::binary::{
    RETINA, assert_same_tensors, command, files, folder, ganomede, text, train, write_grays,
};
use ::ganomede::models::file::ModelFile;

#[test]
fn a_run_repeats_from_the_settings_that_it_leaves() {
    let at = folder("settings");
    let (first, second) = (at.join("first.safetensors"), at.join("second.safetensors"));
    train(RETINA, &first, &["--steps", "3", "--lr", "1e-3", "--seed", "5"]).well();
    let settings = at.join("first.toml");
    let kept = std::fs::read_to_string(&settings).unwrap();
    for line in ["command = \"train\"", "steps = 3", "seed = 5", "lr = \"1e-3\"", "val-fraction = "] {
        assert!(kept.contains(line), "{line} in {kept}");
    }
    let repeat = ["train", "--config", text(&settings), "--out", text(&second)];
    ganomede(repeat).well();
    assert_same_tensors(&first, &second);
    // What is typed wins, and what a run reads stays as it is.
    ganomede(["train", "--config", text(&settings), "--steps", "2"]).well();
    assert_eq!(ModelFile::load(&first).unwrap().header.progress.steps, 2);
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), kept);

    let report = at.join("report");
    ganomede(["eval", text(&first), "--data", RETINA, "--report", text(&report)]).well();
    assert!(std::fs::read_to_string(report.join("settings.toml")).unwrap().contains("command = \"eval\""));

    let bad = at.join("bad.toml");
    std::fs::write(&bad, "epoch = 3\n").unwrap();
    ganomede(["train", "ae", "--config", text(&bad)]).refused(2, &["'epoch'", "'epochs'", "bad.toml"]);
    ganomede(["eval", "--config", text(&settings)]).refused(2, &["ganomede train", "ganomede eval"]);
    ganomede(["train", "--config", text(&at.join("none.toml"))]).refused(2, &["none.toml"]);
}

#[test]
fn defaults_that_what_was_typed_excludes_are_no_settings() {
    let at = folder("tiles");
    let (first, second) = (at.join("first.safetensors"), at.join("second.safetensors"));
    let large = ["--data", "builtin:casting:train=6,test=2,side=48", "--width", "4", "--steps", "1"];
    let tiles = [&["train", "pca", "--tile", "32", "--out", text(&first)], &large[..]].concat();
    ganomede(tiles).well();
    let settings = at.join("first.toml");
    let kept = std::fs::read_to_string(&settings).unwrap();
    assert!(kept.contains("tile = 32\n") && !kept.contains("size = "), "{kept}");
    ganomede(["train", "--config", text(&settings), "--out", text(&second)]).well();
    assert_same_tensors(&first, &second);

    let alone = ["train", "pca", "--size", "16", "--tiles-per-image", "3", "--out", text(&second)];
    ganomede([&alone[..], &large].concat()).refused(2, &["--tiles-per-image", "--tile"]);
}

#[test]
fn settings_of_somebody_else_stay() {
    let at = folder("theirs");
    std::fs::write(at.join("m.toml"), "mine = true\n").unwrap();
    let trained = train(RETINA, &at.join("m.safetensors"), &["--steps", "1"]);
    assert!(trained.well().stderr.contains("m.toml is not ours"), "{}", trained.stderr);
    assert_eq!(std::fs::read_to_string(at.join("m.toml")).unwrap(), "mine = true\n");
}

#[test]
fn a_training_is_logged_step_by_step_and_on_after_a_resume() {
    let at = folder("log");
    let (model, log) = (at.join("m.safetensors"), at.join("log"));
    let run =
        |more: &[&str]| train(RETINA, &model, &[&["--log", text(&log)], more].concat()).well().stderr.clone();
    let said = run(&["--steps", "3"]);
    // A line of progress does not wrap, and the first tells no rate: there is none yet.
    let progress: Vec<&str> = said.lines().filter(|line| line.starts_with("training: ")).collect();
    assert!(progress.iter().all(|line| line.chars().count() < 80), "{said}");
    assert!(progress[0].starts_with("training: 1/3 steps") && !progress[0].contains("/s"), "{said}");
    run(&["--steps", "5", "--resume"]);
    let lines = std::fs::read_to_string(log.join("steps.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.iter().map(|l| l["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let progress = ModelFile::load(&model).unwrap().header.progress;
    for curve in &progress.losses {
        for (step, value) in curve.at.iter().zip(&curve.values) {
            assert_eq!(lines[*step as usize - 1]["losses"][&curve.name].as_f64(), Some(f64::from(*value)));
        }
    }
    let events = files(&log).into_iter().filter(|name| name.contains("tfevents"));
    assert_eq!(events.count(), 2, "{:?}", files(&log));
    // A log among the images is refused before any work.
    let grays = at.join("grays");
    write_grays(&grays, 6);
    let tiny = ["train", "ae", "--data", text(&grays), "--size", "16", "--width", "4", "--steps", "1"];
    let amid = ["--out", text(&model), "--log", text(&grays)];
    ganomede(tiny.iter().chain(&amid)).refused(2, &["choose another"]);
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let completions = ganomede(["completions", shell]);
        for word in ["train", "checkpoint-every", "completions"] {
            assert!(completions.well().stdout.contains(word), "{word} for {shell}");
        }
    }
    let at = folder("man");
    ganomede(["man", text(&at)]).well();
    let pages = files(&at);
    for page in ["ganomede.1", "ganomede-train.1", "ganomede-data-synth.1"] {
        assert!(pages.iter().any(|known| known == page), "{page} in {pages:?}");
    }
    let train = std::fs::read_to_string(at.join("ganomede-train.1")).unwrap();
    assert!(train.starts_with(".ie") || train.contains(".TH"), "{}", &train[..200.min(train.len())]);
    assert!(train.contains("half\\-checkpoints"));
}

#[test]
fn looking_for_adapters_says_nothing_of_screens() {
    for folder in ["", "relative", "/nonexistent"] {
        let devices = command().arg("devices").env("XDG_RUNTIME_DIR", folder).output().unwrap();
        let said =
            String::from_utf8_lossy(&devices.stderr).into_owned() + &String::from_utf8_lossy(&devices.stdout);
        assert!(
            devices.status.success() && !said.lines().any(|line| line.starts_with("error")),
            "{folder}: {said}"
        );
    }
}

#[test]
fn help_is_in_groups() {
    let help = ganomede(["train", "--help"]);
    let help = &help.well().stdout;
    let place =
        |heading: &str| help.find(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{heading}:\n{help}"));
    for (flag, heading) in
        [("--stride", "Series"), ("--anomaly-share", "Tables"), ("--augment", "Images"), ("--lr", "Training")]
    {
        let at = help.find(&format!("      {flag} ")).unwrap();
        let last = help[..at].rmatch_indices("\n\n").find_map(|(i, _)| {
            help[i + 2..].lines().next().filter(|l| l.ends_with(':') && !l.starts_with(' '))
        });
        assert_eq!(last, Some(&*format!("{heading}:")), "{flag}");
        assert!(place(heading) < at);
    }
}
