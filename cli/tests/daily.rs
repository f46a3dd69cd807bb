//! What is used day by day beside training: what a model says of itself, a new threshold, verdicts for
//! scripts, images listed one by one.

use crate::binary;
use std::path::{Path, PathBuf};

use crate::binary::{RETINA, assert_same_tensors, folder, ganomede, number, text, train, write_grays};
use ganomede::eval::Quantiles;
use ganomede::models::file::ModelFile;
use serde_json::Value;

fn trained(name: &str) -> PathBuf {
    let model = folder(name).join("tiny.safetensors");
    train(RETINA, &model, &["--steps", "3"]).well();
    model
}

fn scores(document: &Value) -> Vec<f64> {
    document["images"].as_array().unwrap().iter().map(|image| number(image, "score")).collect()
}

/// Asserts that the arguments were refused, with a word about one of them.
fn usage(ended: &binary::Ended, word: &str) {
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains(word) && ended.stdout.is_empty(), "{}", ended.stderr);
}

#[test]
fn a_model_says_what_it_is_and_how_it_is_trained_again() {
    let model = trained("info");
    let file = ModelFile::load(&model).unwrap();
    let shown = ganomede(["info", text(&model)]);
    let calibration = file.header.calibration.as_ref().unwrap();
    let threshold = calibration.threshold.to_string();
    for word in
        ["anogan", "16×16, gray", file.header.data.digest.as_str(), threshold.as_str(), "seed 0", RETINA]
    {
        assert!(shown.well().stdout.contains(word), "{word} is not in: {}", shown.stdout);
    }
    let document = ganomede(["info", text(&model), "--json"]).json();
    let header: Value = serde_json::from_str(&serde_json::to_string(&file.header).unwrap()).unwrap();
    for (field, value) in header.as_object().unwrap() {
        assert_eq!(&document[field], value, "{field}");
    }
    let command = document["command"].as_str().unwrap();
    assert!(shown.stdout.contains(command), "{}", shown.stdout);
    let again = model.with_file_name("again.safetensors");
    let command = command.replace(text(&model), text(&again));
    ganomede(command.split(' ').skip(1)).well();
    assert_same_tensors(&model, &again);
    assert_eq!(ModelFile::load(&again).unwrap().header.calibration, file.header.calibration);
    ganomede(["info", "nowhere.safetensors"]).refused(2, &["nowhere.safetensors"]);
}

#[test]
fn a_threshold_follows_from_new_normal_samples() {
    let model = trained("calibrate");
    let at = model.parent().unwrap();
    let before = ModelFile::load(&model).unwrap();
    let good = at.join("good");
    write_grays(&good, 21);
    let scored = ganomede(["score", text(&model), text(&good), "--json"]).json();
    let want = Quantiles::new(&scores(&scored)).unwrap().threshold(0.2).unwrap();
    let out = at.join("out.safetensors");
    let fixed = ["calibrate", text(&model), "--data", text(&good), "--false-alarm-rate", "0.2"];
    let said = ganomede(fixed.iter().chain(&["--out", text(&out), "--json"])).json();
    assert_eq!((number(&said, "threshold"), said["samples"].as_u64()), (want.value, Some(21)));
    assert_eq!(ModelFile::load(&model).unwrap(), before, "the model itself is as it was");
    let after = ModelFile::load(&out).unwrap();
    assert_eq!(after.tensors, before.tensors);
    // The rate is the model's from now on.
    let scored = ganomede(["score", text(&out), text(&good), "--json"]).json();
    assert_eq!(number(&scored, "threshold"), want.value);
    let flagged = scored["images"].as_array().unwrap().iter().filter(|i| i["anomalous"] == true).count();
    assert_eq!(flagged, scores(&scored).iter().filter(|&&score| score >= want.value).count());
    let evaluated = ganomede(["eval", text(&out), "--data", RETINA, "--json"]).json();
    assert_eq!(number(&evaluated["threshold"], "value"), want.value);
    ganomede(fixed).well();
    assert_eq!(ModelFile::load(&model).unwrap().header.calibration, after.header.calibration);

    ganomede(["calibrate", text(&model), "--data", RETINA]).refused(2, &["trained on", "not seen"]);
    let inside = good.join("00.png");
    let fixed = ["calibrate", text(&model), "--data", text(&good), "--out", text(&inside)];
    ganomede(fixed).refused(2, &["00.png"]);
}

/// A table with values on a line, every sixth of them off it.
fn table(path: &Path, rows: usize) {
    let mut lines = "a,b,label\n".to_owned();
    for i in 0..rows {
        let (x, far) = ((i * 5) % 17, i % 6 == 5);
        let (y, label) = if far { (2 * x + 40, "bad") } else { (2 * x, "good") };
        lines += &format!("{x},{y},{label}\n");
    }
    std::fs::write(path, lines).unwrap();
}

#[test]
fn tables_and_series_are_calibrated_on_what_is_normal() {
    let at = folder("forms");
    let (own, other, model) = (at.join("own.csv"), at.join("other.csv"), at.join("rows.safetensors"));
    table(&own, 300);
    table(&other, 60);
    ganomede(["train", "pca", "--table", "--data", text(&own), "--latent", "1", "--out", text(&model)])
        .well();
    ganomede(["calibrate", text(&model), "--data", text(&own)]).refused(2, &["trained on"]);
    let said = ganomede(["calibrate", text(&model), "--data", text(&other), "--json"]).json();
    assert_eq!(said["samples"].as_u64(), Some(50), "the others are labelled bad");

    let data = "builtin:telemetry:train=300,test=400";
    let model = at.join("points.safetensors");
    let fixed = ["train", "pca", "--signal", "--data", data, "--size", "16", "--out", text(&model)];
    ganomede(fixed.iter().chain(&["--latent", "4", "--val-fraction", "0.2"])).well();
    ganomede(["calibrate", text(&model), "--data", data]).refused(2, &["rows", "anomalous"]);
}

#[test]
fn scripts_are_told_by_the_exit_code() {
    let model = trained("exit");
    let scored = ganomede(["score", text(&model), RETINA, "--json"]).json();
    let all = scores(&scored);
    let middle = (all.iter().sum::<f64>() / all.len() as f64).to_string();
    let run = |more: &[&str]| ganomede(["score", text(&model), RETINA].iter().chain(more));
    let some = run(&["--threshold", &middle, "--fail-on-anomaly", "--json"]);
    assert_eq!(some.code, Some(3), "{}", some.stderr);
    let document: Value = serde_json::from_str(&some.stdout).unwrap();
    let over = all.iter().filter(|&&score| score >= middle.parse().unwrap()).count();
    assert!(over > 0 && over < all.len());
    let flagged = document["images"].as_array().unwrap().iter().filter(|i| i["anomalous"] == true).count();
    assert_eq!((flagged, number(&document, "threshold").to_string()), (over, middle));
    assert!(some.stderr.contains(&format!("anomalies found: {over}")), "{}", some.stderr);
    run(&["--threshold", "1e9", "--fail-on-anomaly"]).well();
    run(&["--threshold", "-1e9"]).well();
    let uncalibrated = ["--search-steps", "6"];
    run(&[&uncalibrated[..], &["--fail-on-anomaly"]].concat()).refused(2, &["--threshold"]);
    let given = run(&[&uncalibrated[..], &["--threshold", "-1e9", "--fail-on-anomaly"]].concat());
    assert_eq!(given.code, Some(3), "{}", given.stderr);
    for bad in ["nan", "inf", "much"] {
        usage(&run(&["--threshold", bad]), "--threshold");
    }
    usage(&run(&["--threshold", "1", "--false-alarm-rate", "0.1"]), "--false-alarm-rate");
}

#[test]
fn percentiles_and_p_values_are_those_of_the_held_out_scores() {
    let model = trained("values");
    let held_out = ModelFile::load(&model).unwrap().header.calibration.unwrap().quantiles;
    let n = held_out.count() as f64;
    assert_eq!(n, 8.0);
    let scored = ganomede(["score", text(&model), RETINA, "--json"]).json();
    for image in scored["images"].as_array().unwrap() {
        // With few held-out scores each of them is a knot: quantiles at their ranks are they.
        let knots = (0..8).map(|i| held_out.quantile(f64::from(i) / 7.0));
        let lower = knots.filter(|&knot| knot < number(image, "score")).count() as f64;
        assert_eq!(number(image, "percentile"), 100.0 * lower / n, "{image}");
        assert_eq!(number(image, "p_value"), (n - lower + 1.0) / (n + 1.0), "{image}");
    }
}

#[test]
fn images_that_are_listed_are_scored_as_those_of_a_folder() {
    let model = trained("listed");
    let at = model.parent().unwrap();
    let images = at.join("images");
    write_grays(&images, 7);
    let whole = ganomede(["score", text(&model), text(&images), "--json"]).json();
    let files: Vec<PathBuf> = (0..7).map(|i| images.join(format!("{i:02}.png"))).collect();
    let listed: Vec<&str> = files.iter().map(|file| text(file)).collect();
    let run = |more: &[&str]| ganomede(["score", text(&model), "--json"].iter().chain(more));
    let one_by_one = run(&listed);
    assert_eq!(scores(&one_by_one.json()), scores(&whole));
    assert!(one_by_one.stderr.contains("7/7 images"), "in one batch: {}", one_by_one.stderr);
    let broken = at.join("broken.png");
    std::fs::write(&broken, "no image").unwrap();
    let some = run(&[&listed[..2], &[text(&broken)], &listed[2..], &[RETINA]].concat()).json();
    assert_eq!(scores(&some).len(), 7 + 12);
    assert_eq!(some["rejected"][0]["path"], text(&broken));
    let alone = run(&[text(&broken), text(&broken), RETINA]).json();
    assert_eq!((scores(&alone).len(), alone["rejected"].as_array().map(Vec::len)), (12, Some(2)));
    run(&[listed[0], text(&broken), "--strict"]).refused(2, &["broken.png"]);
}

#[test]
fn trained_models_are_compared_as_they_are() {
    let at = folder("models");
    let paths = ["first", "second"].map(|name| at.join(format!("{name}.safetensors")));
    for (path, seed) in paths.iter().zip(["1", "2"]) {
        train(RETINA, path, &["--steps", "3", "--seed", seed]).well();
    }
    let report = at.join("report");
    let run = |more: &[&str]| {
        let fixed = ["compare", text(&paths[0]), text(&paths[1]), "--data", RETINA];
        ganomede(fixed.iter().chain(&["--report", text(&report)]).chain(more))
    };
    let document = run(&["--json"]).json();
    let systems = document["systems"].as_array().unwrap();
    assert_eq!(systems.len(), 2);
    for (path, name) in paths.iter().zip(["first", "second"]) {
        let alone = ganomede(["eval", text(path), "--data", RETINA, "--json"]).json();
        let system = systems.iter().find(|system| system["system"] == name).unwrap();
        for field in ["auroc", "aupr", "threshold", "auroc_ci95"] {
            assert!(!alone[field].is_null() && system[field] == alone[field], "{name}, {field}: {system}");
        }
    }
    assert!(report.join("report.html").is_file());
    assert!(run(&[]).well().stdout.contains("| `second` |"));
    usage(&run(&["--systems", "ae"]), "--systems");
    usage(&run(&["--size", "16"]), "--size");
    run(&["--signal"]).refused(2, &["--signal"]);

    let data = "builtin:telemetry:train=300,test=400";
    let points = at.join("points.safetensors");
    let fixed = ["train", "pca", "--signal", "--data", data, "--size", "16", "--out", text(&points)];
    ganomede(fixed.iter().chain(&["--latent", "4", "--val-fraction", "0.2"])).well();
    let fixed = ["compare", text(&points), "--data", data, "--report", text(&report), "--json"];
    let document = ganomede(fixed).json();
    let evaluated = ganomede(["eval", text(&points), "--data", data, "--json"]).json();
    assert_eq!(document["rows"][0]["scores"], "points");
    assert!((number(&document["rows"][0], "auroc") - number(&evaluated, "auroc")).abs() < 1e-12);
    let mixed = ["compare", text(&paths[0]), text(&points), "--data", data, "--report", text(&report)];
    ganomede(mixed).refused(2, &["different samples"]);
}

#[test]
fn a_stream_of_odd_images_raises_an_alarm_and_one_of_normal_images_does_not() {
    let at = folder("drift");
    let model = at.join("pca.safetensors");
    let data = "builtin:retina:train=120,test=12";
    let fixed = ["train", "pca", "--data", data, "--out", text(&model), "--size", "16", "--latent", "8"];
    ganomede(fixed.iter().chain(&["--batch", "8", "--val-fraction", "0.3"])).well();
    let odd = at.join("odd");
    write_grays(&odd, 40);
    let alarmed = ganomede(["score", text(&model), text(&odd), "--json"]);
    let drift = &alarmed.json()["drift"];
    assert_eq!((&drift["alarm"], drift["of"].as_u64()), (&Value::Bool(true), Some(40)), "{drift}");
    assert!(number(drift, "p_value") < 1e-3 && number(drift, "promised") <= 0.06, "{drift}");
    let said = format!("{} of 40 samples are flagged", drift["flagged"]);
    assert!(alarmed.stderr.contains(&said) && alarmed.stderr.contains("calibrate"), "{}", alarmed.stderr);
    let shown = ganomede(["score", text(&model), text(&odd)]);
    assert!(shown.well().stderr.contains(&said), "{}", shown.stderr);

    let normal = "builtin:retina:train=60,test=2,seed=9";
    let calm = ganomede(["score", text(&model), normal, "--split", "train", "--json"]);
    let drift = &calm.json()["drift"];
    assert_eq!((&drift["alarm"], drift["of"].as_u64()), (&Value::Bool(false), Some(60)), "{drift}");
    assert!(number(drift, "p_value") >= 1e-3 && !calm.stderr.contains("are flagged"), "{}", calm.stderr);
}
