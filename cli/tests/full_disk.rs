//! A disk without space: every command that writes says which file it could not write, ends with exit code 1,
//! and leaves no part of anything behind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::binary::{Ended, RETINA, TINY, command, files, folder, text, train, with_file_limit, write_grays};

/// A tiny model.
fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("model").join("tiny.safetensors");
        train(RETINA, &path, &["--steps", "2"]).well();
        path
    })
}

const PROGRAM: [&str; 6] = ["--size", "16", "--width", "4", "--batch", "2"];

/// Every command that writes files, with what it would be called on a disk with space; `{}` is a folder of
/// its own.
fn writers() -> Vec<(&'static str, Vec<String>)> {
    let grays = folder("grays");
    write_grays(&grays, 6);
    let (model, grays) = (text(model()), text(&grays));
    let image = format!("{grays}/00.png");
    let tiny = TINY.join(" ");
    let program = PROGRAM.join(" ");
    [
        ("synth", "data synth --train 6 --test 4 --out {}/new".to_owned()),
        ("synth-telemetry", "data synth telemetry --train 200 --test 100 --out {}/new".to_owned()),
        ("convert", "data convert builtin:casting:train=3,test=4 --out {}/new".to_owned()),
        ("patches", format!("data patches {grays} --count 5 --patch 16 --out {{}}/new")),
        ("manifest", format!("data manifest {grays} --out {{}}/m.json")),
        ("augment", format!("data augment {grays} --augment flip --size 16 --preview {{}}/p.png")),
        ("train", format!("train anogan --data {RETINA} {tiny} --steps 2 --out {{}}/m.safetensors")),
        ("train-series", format!("train ae --signal --data builtin:telemetry:train=300,test=100 {tiny} --steps 2 --out {{}}/m.safetensors")),
        ("compare", format!("compare --systems ae --data {RETINA} --size 16 --width 4 --steps 2 --report {{}}")),
        ("score", format!("score {model} {RETINA} --maps {{}}")),
        ("search", format!("search {model} {image} --film {{}}/f.png")),
        ("eval", format!("eval {model} --data {RETINA} --report {{}}")),
        ("bench-csv", format!("bench step {program} --runs 1 --sweep batch=1,2 --csv {{}}/b.csv")),
        ("bench-plot", format!("bench step {program} --runs 1 --sweep batch=1,2 --plot {{}}/b.svg")),
        ("profile", format!("profile anogan {program} --runs 1 --trace {{}}/t.json")),
        ("explain-svg", "explain ae --svg {}/e.svg".to_owned()),
        ("explain-dot", format!("explain anogan {program} --dot {{}}/e.dot")),
        ("kernels-show", "kernels show gemm --out {}".to_owned()),
    ]
    .into_iter()
    .map(|(name, line)| (name, line.split(' ').map(str::to_owned).collect()))
    .collect()
}

#[test]
fn every_command_that_writes_says_so_and_leaves_nothing() {
    for (name, line) in writers() {
        // No byte, and a part of a file.
        for blocks in [0, 1] {
            let at = folder(&format!("{name}-{blocks}"));
            let arguments: Vec<String> = line.iter().map(|part| part.replace("{}", text(&at))).collect();
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let ended = with_file_limit(blocks, &arguments);
            // What is as short as half a block fits where anything does.
            if blocks == 1 && ended.code == Some(0) {
                let short = files(&at);
                assert!(!short.is_empty(), "{name} wrote nothing and said that all went well");
                for file in short {
                    let length = std::fs::metadata(at.join(&file)).unwrap().len();
                    assert!((1..=512).contains(&length), "{name}: {file} has {length} bytes");
                }
                continue;
            }
            let paragraph = ended.refused(1, &["cannot write", text(&at)]);
            assert!(paragraph.contains("File too large"), "{name}: {paragraph}");
            assert_eq!(files(&at), [""; 0], "{name} with {blocks} blocks left something");
        }
    }
}

#[test]
fn what_was_there_stays_as_it_was() {
    let at = folder("old");
    for (name, line) in writers() {
        // Files that are named, not folders of files.
        let Some(path) = line.last().filter(|last| last.starts_with("{}/") && !last.ends_with("/new")) else {
            continue;
        };
        let path = path.replace("{}", text(&at));
        std::fs::write(&path, "old").unwrap();
        let arguments: Vec<String> = line.iter().map(|part| part.replace("{}", text(&at))).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        with_file_limit(0, &arguments).refused(1, &["cannot write"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old", "{name}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(files(&at), [""; 0], "{name} left something");
    }
}

/// Commands that print, in text and as JSON.
#[cfg(target_os = "linux")]
#[test]
fn every_command_that_prints_says_when_it_could_not() {
    let at = folder("prints");
    let grays = folder("printed");
    write_grays(&grays, 4);
    let (model, grays, out) = (text(model()), text(&grays), text(&at));
    let image = format!("{grays}/00.png");
    let (tiny, program) = (TINY.join(" "), PROGRAM.join(" "));
    let lines = [
        "--help".to_owned(),
        "--version".to_owned(),
        "train --help".to_owned(),
        format!("data info {grays}"),
        format!("data manifest {grays}"),
        format!("data synth --train 2 --test 2 --out {out}/NEW"),
        format!("data augment {grays} --augment flip --size 16 --preview {out}/p.png"),
        "systems".to_owned(),
        "systems ae".to_owned(),
        "devices".to_owned(),
        "kernels list".to_owned(),
        "kernels show gemm".to_owned(),
        format!("explain anogan {program}"),
        "explain ae --svg -".to_owned(),
        format!("explain anogan {program} --dot -"),
        format!("bench step {program} --runs 1"),
        format!("profile anogan {program} --runs 1"),
        format!("train ae --data {RETINA} {tiny} --steps 2 --out {out}/m.safetensors"),
        format!("compare --systems ae --data {RETINA} --size 16 --width 4 --steps 2 --report {out}/c"),
        format!("score {model} {RETINA}"),
        format!("search {model} {image}"),
        format!("eval {model} --data {RETINA}"),
    ];
    for (i, line) in lines.iter().enumerate() {
        let is_text_only = line.contains("--help") || line.contains("--version") || line.ends_with(" -");
        for json in [&[][..], &["--json"]] {
            if !json.is_empty() && is_text_only {
                continue;
            }
            let line = line.replace("NEW", &format!("new-{i}-{}", json.len()));
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let ended = command().args(line.split(' ')).args(json).stdout(full).output().unwrap();
            let paragraph =
                Ended::from(ended).refused(1, &["cannot write to standard output", "No space left"]);
            assert_eq!(paragraph.lines().count(), 1, "{line}");
        }
    }
}

/// A reader that has seen enough (`| head`) ends the output and nothing else: no message, no failure.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let script = "\"$0\" kernels list | head -n 1 >/dev/null; \"$0\" systems --json | true; echo done";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_ganomede")]).env("GANOMEDE_DEVICE", "cpu");
    let ended = Ended::from(shell.output().unwrap());
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("done\n", ""));
    // A pipe without a reader from the start.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = Ended::from(command().args(["systems", "--json"]).stdout(writer).output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}
