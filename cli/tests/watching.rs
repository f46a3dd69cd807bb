//! `score --watch`, as a line uses it.

#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::binary::{RETINA, command, folder, ganomede, text};
use serde_json::Value;

/// Lines of a reader as they come.
fn lines(reader: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(reader).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    lines
}

#[test]
fn images_are_scored_as_they_come_and_the_first_anomaly_can_end_it() {
    let at = folder("line");
    let [model, line, sets] = ["m.safetensors", "line", "sets"].map(|name| at.join(name));
    let train = ["train", "pca", "--data", RETINA, "--size", "16", "--latent", "4", "--val-fraction", "0.2"];
    ganomede(train.into_iter().chain(["--out", text(&model)])).well();
    ganomede([
        "data",
        "synth",
        "retina",
        "--out",
        text(&sets),
        "--train",
        "4",
        "--test",
        "2",
        "--size",
        "16",
    ])
    .well();
    std::fs::create_dir(&line).unwrap();
    let image = std::fs::read_dir(sets.join("train/good")).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(&image, line.join("old.png")).unwrap();
    let score =
        ["score", text(&model), "--watch", text(&line), "--threshold", "0", "--fail-on-anomaly", "--json"];
    let mut child = command().args(score).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, log) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
    let wait = Duration::from_secs(60);
    while !log.recv_timeout(wait).unwrap().starts_with("watching") {}
    std::fs::write(line.join("broken.png"), b"no image").unwrap();
    let broken: Value = serde_json::from_str(&out.recv_timeout(wait).unwrap()).unwrap();
    assert!(
        broken["error"].is_string() && broken["path"].as_str().unwrap().ends_with("broken.png"),
        "{broken}"
    );
    std::fs::copy(&image, line.join("new.png")).unwrap();
    let answer: Value = serde_json::from_str(&out.recv_timeout(wait).unwrap()).unwrap();
    let scored = ganomede(["score", text(&model), text(&image), "--json"]).json();
    assert_eq!(answer["score"], scored["images"][0]["score"]);
    assert_eq!((&answer["anomalous"], child.wait().unwrap().code()), (&Value::Bool(true), Some(3)));
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let at = folder("refused");
    let model = at.join("m.safetensors");
    let table = at.join("t.csv");
    std::fs::write(
        &table,
        "a,b,label\n".to_owned() + &"1.5,2.5,0\n3.25,1.5,0\n4.5,0.5,0\n7.75,6.5,0\n".repeat(10),
    )
    .unwrap();
    let train = ["train", "pca", "--table", "--data", text(&table), "--latent", "1", "--out", text(&model)];
    ganomede(train).well();
    ganomede(["score", text(&model), "--watch", text(&at)]).refused(2, &["--watch"]);
    let both = ganomede(["score", text(&model), "--watch", text(&at), "x.png"]);
    assert!(both.code == Some(2) && both.stderr.contains("cannot be used with"), "{}", both.stderr);
}
