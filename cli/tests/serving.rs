//! `serve`, as a service manager starts and stops it. What it answers is tested in `server/tests`.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use crate::binary::{RETINA, command, folder, ganomede, text};

/// The status line and the body of an answer.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.replace('\n', "\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_says_where_it_listens_answers_and_ends_well() {
    let at = folder("served");
    let [model, token] = ["m.safetensors", "token.txt"].map(|name| at.join(name));
    let train = ["train", "pca", "--data", RETINA, "--size", "16", "--latent", "4", "--val-fraction", "0.2"];
    ganomede(train.into_iter().chain(["--out", text(&model)])).well();
    std::fs::write(&token, "quite-a-secret\n").unwrap();
    let named = format!("scans={}", text(&model));
    let serve = ["serve", &named, "--listen", "127.0.0.1:0", "--token-file", text(&token)];
    let mut child = command().args(serve).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = out.next().unwrap().unwrap();
    assert!(first.starts_with("serving scans ("), "{first}");
    let address = first.split("http://").nth(1).unwrap().split(',').next().unwrap();
    let get = |token: &str| {
        ask(
            address,
            &format!("GET /models HTTP/1.1\nHost: x\nConnection: close\nAuthorization: Bearer {token}\n\n"),
        )
    };
    assert!(get("another-secret").starts_with("HTTP/1.1 401"));
    let answer = get("quite-a-secret");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"scans\""), "{answer}");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{log}");
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["event"], "stopped", "{log}");
    assert_eq!(events.iter().filter(|event| event["route"] == "/models").count(), 2, "{log}");
}

#[test]
fn what_nobody_should_serve_is_refused() {
    let at = folder("refused");
    let [model, empty] = ["m.safetensors", "empty.txt"].map(|name| at.join(name));
    std::fs::write(&model, "no model").unwrap();
    std::fs::write(&empty, "\n").unwrap();
    let model = text(&model);
    ganomede(["serve", model]).refused(2, &["m.safetensors"]);
    ganomede(["serve", model, "--listen", "0.0.0.0:0"]).refused(2, &["token"]);
    ganomede(["serve", model, model]).refused(2, &["two models"]);
    ganomede(["serve", model, "--token-file", text(&empty)]).refused(2, &["no token"]);
    ganomede(["serve", model, "--queue", "0"]).refused(2, &["at least 1"]);
}
