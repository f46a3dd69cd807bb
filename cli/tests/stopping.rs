//! Ctrl-C ends every long loop with exit code 130 and nothing half-written; `nohup` protects; two trainings
//! do not write one file; a machine that gives no threads is told apart from a bug.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::binary::{
    Ended, RETINA, TINY, command, files, folder, ganomede, signal, text, train, train_command, wait_for,
    wait_until_listening, write_grays,
};
use ganomede::models::file::ModelFile;

fn started(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> Ended {
    child.wait_with_output().unwrap().into()
}

/// Asserts that a command that would take many minutes ends when it is asked to, as soon as it can be asked.
fn stops(line: &str) {
    let mut command = command();
    command.args(line.split(' '));
    let mut child = started(command);
    wait_until_listening(&mut child);
    signal(&child, "INT");
    let ended = ended(child);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{line}: {}", ended.stderr);
    assert!(ended.stderr.contains("interrupted") && !ended.stderr.contains("error: "), "{}", ended.stderr);
}

#[test]
fn commands_on_data_stop() {
    let (at, grays) = (folder("data"), folder("patched"));
    write_grays(&grays, 3);
    let out = text(&at);
    let many = "builtin:retina:train=300000,test=10";
    for line in [
        format!("data synth --train 300000 --test 10 --size 64 --out {out}/new"),
        format!("data convert {many} --out {out}/new"),
        format!("data patches {} --count 3000000 --patch 16 --out {out}/new", text(&grays)),
        format!("data manifest {many} --out {out}/m.json"),
        format!("data info {many} --all"),
    ] {
        stops(&line);
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0, "{line} left something");
    }
}

#[test]
fn searches_and_scores_stop() {
    let at = folder("searches");
    let (model, encoded, grays) = (at.join("m.safetensors"), at.join("f.safetensors"), at.join("grays"));
    train(RETINA, &model, &["--steps", "2"]).well();
    let tiny = TINY.join(" ");
    let line = format!("train f-anogan --data {RETINA} {tiny} --steps 4 --out {}", text(&encoded));
    ganomede(line.split(' ')).well();
    write_grays(&grays, 3);
    let before = files(&at);
    let (model, encoded, image) = (text(&model), text(&encoded), format!("{}/00.png", text(&grays)));
    let many = "builtin:retina:train=10,test=300000";
    for line in [
        format!("search {model} {image} --search-steps 1000000"),
        format!("search {encoded} {image} --refine 1000000 --film {}/film.png", text(&at)),
        format!("score {model} {} --search-steps 1000000", text(&grays)),
        format!("score {encoded} {} --refine 1000000 --search-tolerance 0.5", text(&grays)),
        format!("score {encoded} {many}"),
        format!("eval {encoded} --data {many} --report {}/report", text(&at)),
        format!("eval {model} --data {RETINA} --search-steps 1000000"),
    ] {
        stops(&line);
    }
    assert_eq!(files(&at), before);
    let refused = format!("score {encoded} {} --refine 1000001", text(&grays));
    ganomede(refused.split(' ')).refused(2, &["refine", "1000001", "0 to 1000000"]);
}

/// A model file may say of itself what a command line may not.
#[test]
fn a_model_file_with_a_search_without_end_is_refused() {
    let at = folder("endless");
    let path = at.join("f.safetensors");
    let line = format!("train f-anogan --data {RETINA} {} --steps 4 --out {}", TINY.join(" "), text(&path));
    ganomede(line.split(' ')).well();
    let mut file = ModelFile::load(&path).unwrap();
    file.header.calibration.as_mut().unwrap().score.refine = 1 << 40;
    file.save(&path).unwrap();
    ganomede(["score", text(&path), RETINA]).refused(2, &["refine", "1099511627776"]);
    ganomede(["eval", text(&path), "--data", RETINA]).refused(2, &["refine", "1099511627776"]);
}

#[test]
fn calibration_stops_and_resumes() {
    let at = folder("calibration");
    let out = at.join("m.safetensors");
    let checkpoint = at.join("m.checkpoint.safetensors");
    let mut child = started(train_command(RETINA, &out, &["--steps", "2", "--search-steps", "1000000"]));
    wait_for(&mut child, &checkpoint);
    signal(&child, "INT");
    let ended = ended(child);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.contains("interrupted at step 2;") && ended.stderr.contains("--resume continues"));
    assert_eq!(files(&at), ["m.checkpoint.safetensors"]);
    train(RETINA, &out, &["--steps", "2", "--resume"]).well();
}

#[test]
fn measurements_stop() {
    let program = "--size 16 --width 4 --batch 2";
    for line in [
        format!("bench step {program} --runs 1000000"),
        format!("bench search {program} --runs 1000000"),
        "bench op gemm --runs 1000000".to_owned(),
        format!("profile anogan {program} --runs 100000"),
    ] {
        stops(&line);
    }
}

/// A comparison that is stopped says how it goes on, and does: to the numbers of one that was never stopped.
#[test]
fn a_comparison_stops_and_resumes() {
    let at = folder("comparison");
    let run = |report: &Path, steps: &str, more: &[&str]| {
        let mut command = command();
        let fixed = ["compare", "--systems", "ae,anogan", "--data", RETINA, "--size", "16", "--width", "4"];
        let budget = ["--search-steps", "3", "--val-fraction", "0.2", "--steps", steps];
        command.args(fixed).args(budget).args(["--report", text(report), "--json"]).args(more);
        command
    };
    let stopped = at.join("stopped");
    let mut child = started(run(&stopped, "3", &[]));
    wait_for(&mut child, &stopped.join("ae.safetensors"));
    signal(&child, "INT");
    let ended = ended(child);
    // The rest is so little that it may be done before the signal is there; then there is nothing to go on
    // with.
    assert!(ended.code == Some(130) || ended.code == Some(0), "{}", ended.stderr);
    let resumed = Ended::from(run(&stopped, "3", &["--resume"]).output().unwrap()).json();
    let whole = Ended::from(run(&at.join("whole"), "3", &[]).output().unwrap()).json();
    for i in [0, 1] {
        let scores = |document: &serde_json::Value| {
            let images = document["systems"][i]["images"].as_array().unwrap();
            assert_eq!(images.len(), 12);
            images.iter().map(|image| image["score"].to_string()).collect::<Vec<_>>()
        };
        assert_eq!(scores(&resumed), scores(&whole));
    }
    // One that cannot end by itself.
    let endless = at.join("endless");
    let mut child = started(run(&endless, "100000000", &[]));
    wait_until_listening(&mut child);
    signal(&child, "INT");
    let ended = self::ended(child);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ganomede(["compare", "--help"]).stdout.contains("--resume"));
}

#[test]
fn a_session_that_ends_does_not_end_what_nohup_protects() {
    let at = folder("nohup");
    let run = |name: &str, how: &str| {
        let out = at.join(format!("{name}.safetensors"));
        let mut shell = Command::new("sh");
        let script = format!("{how} \"$0\" \"$@\"");
        let steps = ["--steps", "1000000", "--checkpoint-every", "1"];
        let line = train_command(RETINA, &out, &steps);
        shell.args(["-c", &script, text(Path::new(line.get_program()))]).args(line.get_args());
        shell.env("GANOMEDE_DEVICE", "cpu");
        let mut child = started(shell);
        wait_for(&mut child, &out.with_extension("checkpoint.safetensors"));
        signal(&child, "HUP");
        (child, out.with_extension("checkpoint.safetensors"))
    };
    // What runs the tests may itself be protected, and a shell cannot take that back.
    let (child, _) = run("plain", "exec env --default-signal=HUP");
    assert_eq!(ended(child).code, Some(130));

    let (child, checkpoint) = run("protected", "trap '' HUP; exec");
    // It goes on: later checkpoints come.
    let step = || ModelFile::load(&checkpoint).unwrap().header.progress.steps;
    let before = step();
    while step() < before + 20 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&child, "INT");
    assert_eq!(ended(child).code, Some(130));
}

#[test]
fn a_second_training_of_one_file_is_refused_and_a_dead_one_is_no_hindrance() {
    let at = folder("one-writer");
    let out = at.join("m.safetensors");
    let endless = ["--steps", "1000000", "--checkpoint-every", "1"];
    let mut child = started(train_command(RETINA, &out, &endless));
    wait_for(&mut child, &at.join("m.checkpoint.safetensors"));
    let by_checkpoint = at.join("m.checkpoint.safetensors");
    for same in [&out, &by_checkpoint] {
        let owner = format!("process {}", child.id());
        train(RETINA, same, &["--steps", "2"]).refused(2, &["being written by another run", &owner]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    train(RETINA, &out, &["--steps", "2"]).well();
    assert_eq!(files(&at), ["m.checkpoint.safetensors", "m.safetensors", "m.toml"]);
}

/// Threads as large as no machine has them cannot be started, for root either.
#[test]
fn threads_that_cannot_start_are_a_fault_of_the_machine() {
    for line in ["data info builtin:retina:train=2,test=2", "systems"] {
        let run = command().args(line.split(' ')).env("RUST_MIN_STACK", (1_u64 << 46).to_string()).output();
        Ended::from(run.unwrap()).refused(1, &["cannot start threads", "ulimit -u", "RAYON_NUM_THREADS"]);
    }
}

/// The reader of a progress line sees that work has begun: then it stops as well.
#[test]
fn scoring_stops_half_way() {
    let at = folder("half-way");
    let model = at.join("m.safetensors");
    train(RETINA, &model, &["--steps", "2"]).well();
    let mut command = command();
    let many = "builtin:retina:train=10,test=300000";
    command.args(["score", text(&model), many, "--search-steps", "1", "--batch", "4"]);
    let mut child = started(command);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("scoring: ")));
    signal(&child, "INT");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.iter().any(|line| line.contains("interrupted")), "{rest:?}");
}
