//! What is no plain file, and limits on memory, as a user meets them.
#![cfg(unix)]

use crate::binary;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::binary::{RETINA, command, ganomede, text};
use ganomede::device::tuning::{Identity, Tuning};
use rustix::fs::{CWD, Mode, mkfifoat};

/// A pipe that nobody writes to: opened as files are, it would wait for ever.
fn pipe(path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
}

#[test]
fn pipes_in_the_place_of_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model.safetensors");
    pipe(&model);
    for command in ["score", "eval", "search"] {
        let mut arguments = vec![command, text(&model), RETINA];
        if command == "eval" {
            arguments.insert(2, "--data");
        }
        ganomede(arguments).refused(2, &["model.safetensors"]);
    }
    let score = ganomede(["score", text(&model), RETINA]);
    score.refused(2, &["no file but a folder, pipe, socket or device"]);
}

#[test]
fn pipes_in_the_place_of_tuning_results_are_ignored_with_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let [adapter, backend, driver, version] = ["a", "b", "c", "d"].map(String::from);
    let identity = Identity { adapter, backend, driver, version };
    let file = identity.file(dir.path());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    pipe(&file);
    assert!(Tuning::load(dir.path(), &identity).unwrap_err().contains("pipe"));
}

/// An IDX file of `mebibytes` zeros, in images of 32 × 32.
fn idx(path: &Path, mebibytes: u32) {
    let sizes = [mebibytes << 10, 32, 32].map(u32::to_be_bytes).concat();
    fs::write(path, [&[0, 0, 8, 3], &sizes[..], &vec![0; (mebibytes as usize) << 20]].concat()).unwrap();
}

#[test]
fn the_memory_budget_is_the_users() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t10k-images-idx3-ubyte");
    idx(&file, 70);
    let info = |memory: &str| ganomede(["data", "info", text(&file), "--memory", memory]);
    info("64MiB").refused(2, &["t10k-images-idx3-ubyte", "70.0 MiB", "73400320 bytes", "--memory"]);
    info("256MiB").well();
    let told =
        command().env("GANOMEDE_MEMORY", "64MiB").args(["data", "info", text(&file)]).output().unwrap();
    binary::Ended::from(told).refused(2, &["73400320 bytes"]);
    for memory in ["1MiB", "lots", "-1GiB"] {
        assert_eq!(info(memory).code, Some(2), "{memory}");
    }
}

#[test]
fn a_limit_on_the_address_space_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.safetensors");
    let limited = |kibibytes: u32, arguments: &[&str]| -> binary::Ended {
        let script = format!("ulimit -v {kibibytes}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_ganomede")]).args(arguments);
        shell.env("GANOMEDE_DEVICE", "cpu").env("RAYON_NUM_THREADS", "2").output().unwrap().into()
    };
    let file = dir.path().join("t10k-images-idx3-ubyte");
    idx(&file, 600);
    // Half of what 1 GiB leaves is less than the file.
    limited(1 << 20, &["data", "info", text(&file)]).refused(2, &["629145600 bytes", "--memory"]);
    // A budget that the limit cannot give: the allocation fails, with exit code 1 and a sentence.
    let ended = limited(1 << 19, &["data", "info", text(&file), "--memory", "64GiB"]);
    ended.refused(1, &["out of memory"]);
    let sizes = ["--size", "256", "--width", "64", "--batch", "32", "--steps", "1"];
    let train = [&["train", "ae", "--data", RETINA, "--out", text(&out)], &sizes[..]].concat();
    limited(1 << 19, &train).refused(1, &["bytes", "free"]);
}
