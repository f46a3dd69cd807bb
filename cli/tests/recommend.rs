//! What says how good a model is without labels: `recommend`, the check after a training, the controls.

use crate::binary;
use std::path::Path;

use crate::binary::{folder, ganomede, number, signal, text, wait_until_listening};

const CASTING: &str = "builtin:casting:train=80,test=24";
const SMALL: [&str; 6] = ["--data", CASTING, "--size", "32", "--width", "4"];

#[test]
fn a_system_is_recommended_and_its_command_trains_it() {
    let at = folder("recommend");
    // Those that search take no time, so that the one that is trained has nearly all of it.
    let fixed = ["recommend", "--systems", "pca,anogan,ae", "--minutes", "0.2"];
    let document = ganomede(fixed.iter().chain(&SMALL).chain(&["--json"])).json();
    let systems = document["systems"].as_array().unwrap();
    assert!(systems.len() >= 3, "{document}");
    let of = |name: &str| systems.iter().find(|tried| tried["system"] == name).unwrap();
    for name in ["pca", "ae"] {
        let [low, high] = [0, 1].map(|k| of(name)["synthetic_auroc_ci95"][k].as_f64().unwrap());
        let auroc = number(of(name), "synthetic_auroc");
        assert!(0.0 <= low && low <= auroc && auroc <= high && high <= 1.0, "{name}: {low} {auroc} {high}");
    }
    assert_eq!((&of("pca")["fully"], &of("ae")["fully"]), (&true.into(), &false.into()));
    assert!(of("anogan")["left_out"].as_str().unwrap().contains("latent"), "{document}");
    let ranked: Vec<f64> = systems.iter().filter_map(|tried| tried["synthetic_auroc"].as_f64()).collect();
    assert!(ranked.len() >= 2 && ranked.is_sorted_by(|a, b| a >= b), "{ranked:?}");
    let controls: Vec<&str> =
        document["controls"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(controls, ["two numbers", "constant"]);
    assert!(number(&document["controls"][0], "synthetic_auroc") > 0.0);
    assert_eq!(document["choice"], systems[0]["system"]);

    // The command is one that this program takes, and trains what was chosen.
    let command = document["command"].as_str().unwrap();
    let model = at.join("m.safetensors");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let last = words.len() - 1;
    assert_eq!(words[last - 1], "--out");
    let steps = if document["choice"] == "pca" { vec![] } else { vec!["--steps", "2"] };
    let trained =
        ganomede(words[..last].iter().chain(&[text(&model)]).chain(&steps).chain(&["--json"])).json();
    assert_eq!(trained["system"], document["choice"]);

    let said = ganomede(["recommend", "--systems", "pca", "--minutes", "0.05"].iter().chain(&SMALL));
    for word in
        ["no label is used", "take pca", "how far to trust it", "(two numbers)", "ganomede train pca --data"]
    {
        assert!(said.well().stdout.contains(word), "`{word}` is not in {}", said.stdout);
    }
}

#[test]
fn edges_are_tried_beside_a_network_and_stand_in_the_command() {
    let fixed = ["recommend", "--systems", "knn", "--minutes", "0.1", "--json"];
    let document = ganomede(fixed.iter().chain(&SMALL)).json();
    let systems = document["systems"].as_array().unwrap();
    let edges = |tried: &&serde_json::Value| tried["options"]["features"] == "gradients";
    assert_eq!((systems.len(), systems.iter().filter(edges).count()), (4, 2), "{document}");
    assert!(edges(&&systems[0]), "outlines of castings show best: {document}");
    let command = document["command"].as_str().unwrap();
    assert!(command.contains(" -O features=gradients "), "{command}");
    let model = folder("edges").join("m.safetensors");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    ganomede(words[..words.len() - 1].iter().chain(&[text(&model)])).well();
    let info = ganomede(["info", text(&model), "--json"]).json();
    assert_eq!(info["options"]["features"], "gradients", "{info}");
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let run = |more: &[&str]| ganomede(["recommend"].iter().chain(&SMALL).chain(more));
    run(&["--minutes", "0"]).refused(2, &["--minutes", "positive"]);
    run(&["--minutes", "nan"]).refused(2, &["--minutes"]);
    run(&["--val-fraction", "0"]).refused(2, &["held out"]);
    run(&["--val-fraction", "2"]).refused(2, &["2"]);
    ganomede(["recommend", "--data", CASTING, "--width", "0"]).refused(2, &["width"]);
    ganomede(["recommend", "--data", "nowhere/at/all"]).refused(2, &["nowhere/at/all"]);
}

#[test]
fn a_recommendation_stops() {
    let mut command = binary::command();
    command.args(["recommend", "--systems", "ae", "--minutes", "100"]).args(SMALL);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_until_listening(&mut child);
    signal(&child, "INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
}

/// Trains a system, and gives what `train --json` says.
fn train(system: &str, model: &Path, more: &[&str]) -> serde_json::Value {
    let fixed = ["train", system, "--out", text(model), "--json"];
    ganomede(fixed.iter().chain(&SMALL).chain(more)).json()
}

#[test]
fn a_training_says_what_its_model_is_worth_and_eval_shows_controls() {
    let at = folder("check");
    let [good, bad] = ["good", "bad"].map(|name| at.join(format!("{name}.safetensors")));
    let trained = train("pca", &good, &[]);
    let auroc = number(&trained["check"], "auroc");
    assert!(auroc > 0.6, "AUROC {auroc} of synthetic defects");
    assert_eq!(trained["check"]["kinds"].as_array().unwrap().len(), 5);
    assert!(trained["check"]["two_numbers"].as_f64().is_some() && trained["check"]["untrained"].is_null());
    let info = ganomede(["info", text(&good), "--json"]).json();
    assert_eq!(info["check"], trained["check"]);
    assert!(info["appearance"]["mean"][0].as_f64().is_some());
    assert!(ganomede(["info", text(&good)]).well().stdout.contains("detects synthetic defects"));
    // The same training gives the same check.
    assert_eq!(train("pca", &at.join("again.safetensors"), &[])["check"], trained["check"]);

    let untrained = train("ae", &bad, &["--steps", "1", "--lr", "1e-12"]);
    assert!(untrained["check"]["untrained"].as_f64().is_some());
    assert!(!untrained["warnings"].as_array().unwrap().is_empty(), "{untrained}");

    let eval = |model: &Path| ganomede(["eval", text(model), "--data", CASTING, "--json"]).json();
    let names = |document: &serde_json::Value| -> Vec<String> {
        let controls = document["controls"].as_array().unwrap();
        controls.iter().map(|control| control["name"].as_str().unwrap().to_owned()).collect()
    };
    let document = eval(&good);
    assert_eq!(names(&document), ["two numbers", "constant"]);
    assert_eq!(number(&document["controls"][1], "auroc"), 0.5);
    assert_eq!(names(&eval(&bad)), ["two numbers", "untrained network", "constant"]);
    let said = ganomede(["eval", text(&good), "--data", CASTING]);
    assert!(said.well().stdout.contains("controls: AUROC of two numbers"), "{}", said.stdout);
}

/// Gray images of a noisy level, 24×24.
fn grays(folder: &Path, count: u32, level: u8) {
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..count {
        let pixel = |x: u32, y: u32| image::Luma([level + ((x * 7 + y * 13 + i * 5) % 40) as u8]);
        image::GrayImage::from_fn(24, 24, pixel).save(folder.join(format!("{i:02}.png"))).unwrap();
    }
}

#[test]
fn queries_in_another_light_are_told() {
    let at = folder("light");
    let data = at.join("data");
    grays(&data.join("train/good"), 20, 60);
    grays(&data.join("test/good"), 6, 150);
    grays(&data.join("test/dark"), 6, 20);
    let model = at.join("m.safetensors");
    let fixed = ["train", "pca", "--data", text(&data), "--size", "16", "--out", text(&model)];
    ganomede(fixed).well();
    let said = ganomede(["eval", text(&model), "--data", text(&data)]);
    assert!(said.well().stdout.contains("warning: normal test images are on average"), "{}", said.stdout);
    assert!(said.stdout.contains("brighter than the training images"), "{}", said.stdout);
    let document = ganomede(["eval", text(&model), "--data", text(&data), "--json"]).json();
    assert!(document["warnings"][0].as_str().unwrap().contains("brighter"), "{document}");
}
