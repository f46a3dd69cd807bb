//! `train`, `score`, `eval` and `search` end to end: what they print and write has the fields, types and
//! order that the product promises.

use crate::binary;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::{
    RETINA, assert_auroc_of_samples, field, files, folder, ganomede, text, train, write_gray, write_grays,
};
use ganomede::models::file::ModelFile;
use ganomede_datasets::{Dataset, OpenOptions, Preprocess, write_mvtec};
use serde_json::Value;

/// A model trained for eight steps, made once, and what `train --json` said.
fn trained() -> &'static (PathBuf, Value) {
    static MODEL: OnceLock<(PathBuf, Value)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let at = folder("trained");
        let path = at.join("new/folder/tiny.safetensors");
        let samples = at.join("samples");
        let summary =
            train(RETINA, &path, &["--steps", "8", "--seed", "7", "--samples", text(&samples), "--json"]);
        (path, summary.json())
    })
}

fn model() -> &'static Path {
    &trained().0
}

#[test]
fn train_reports_what_it_did() {
    let (path, summary) = trained();
    for (name, is) in [
        ("system", Value::is_string as fn(&Value) -> bool),
        ("device", Value::is_string),
        ("seed", Value::is_u64),
        ("steps", Value::is_u64),
        ("epochs", Value::is_number),
        ("seconds", Value::is_f64),
        ("images_per_second", Value::is_f64),
        ("peak_bytes", Value::is_u64),
        ("final.loss_d", Value::is_f64),
        ("final.loss_g", Value::is_f64),
        ("threshold", Value::is_f64),
    ] {
        field(summary, name, is);
    }
    assert_eq!((&summary["system"], &summary["seed"]), (&"anogan".into(), &7.into()));
    // 40 images less 8 held out are 4 batches of 8: 8 steps are 2 epochs.
    assert_eq!((summary["steps"].as_u64(), summary["epochs"].as_f64()), (Some(8), Some(2.0)));
    assert_eq!(summary["model"].as_str(), Some(text(path)));
    let at = path.parent().unwrap().parent().unwrap().parent().unwrap();
    assert_eq!(
        files(at),
        [
            "new/folder/tiny.checkpoint.safetensors",
            "new/folder/tiny.safetensors",
            "new/folder/tiny.toml",
            "samples/step-0000004.png",
            "samples/step-0000008.png"
        ]
    );
    let grid = image::open(at.join("samples/step-0000008.png")).unwrap();
    assert!(grid.width() >= 8 * 16 && grid.height() >= 8 * 16, "64 images of 16 pixels");
}

#[test]
fn limits_end_training_at_the_first_reached() {
    let at = folder("limits");
    let steps = |name: &str, more: &[&str]| {
        let more = [more, &["--json"]].concat();
        train(RETINA, &at.join(name), &more).json()["steps"].as_u64().unwrap()
    };
    assert_eq!(steps("a.safetensors", &["--epochs", "2"]), 8);
    assert_eq!(steps("b.safetensors", &["--epochs", "2", "--steps", "5"]), 5);
    assert_eq!(steps("c.safetensors", &["--epochs", "1", "--steps", "50"]), 4);
    let timed = steps("d.safetensors", &["--minutes", "0.005", "--steps", "1000000"]);
    assert!((1..1_000_000).contains(&timed), "{timed} steps");
}

#[test]
fn score_prints_a_row_for_each_image_in_the_order_given() {
    let data = folder("order");
    write_grays(&data, 5);
    let paths: Vec<PathBuf> =
        ["03.png", "00.png", "04.png", "00.png"].iter().map(|name| data.join(name)).collect();
    let mut arguments = vec!["score", text(model())];
    arguments.extend(paths.iter().map(|path| text(path)));
    let document = ganomede(arguments.iter().chain(&["--json", "--batch", "2"])).json();
    field(&document, "model", Value::is_string);
    field(&document, "device", Value::is_string);
    let rows = field(&document, "images", Value::is_array).as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let quantiles = ModelFile::load(model()).unwrap().header.calibration.unwrap().quantiles;
    for (row, path) in rows.iter().zip(&paths) {
        assert_eq!(field(row, "path", Value::is_string).as_str(), Some(text(path)));
        assert!(field(row, "score", Value::is_f64).as_f64().unwrap() > 0.0);
        let score = row["score"].as_f64().unwrap();
        assert_eq!(field(row, "probability", Value::is_f64).as_f64(), Some(quantiles.probability(score)));
        assert_eq!(field(row, "percentile", Value::is_f64).as_f64(), Some(quantiles.percentile(score)));
        let anomalous = field(row, "anomalous", Value::is_boolean).as_bool().unwrap();
        assert_eq!(anomalous, row["score"].as_f64() >= document["threshold"].as_f64());
        assert!(row.get("map").is_none(), "no map was asked for");
    }
    assert_eq!(rows[1]["score"], rows[3]["score"], "one image twice");

    // A folder comes in order of names, whatever the batch; the text form has the same rows.
    let whole =
        |batch: &str| ganomede(["score", text(model()), text(&data), "--json", "--batch", batch]).json();
    let (a, b) = (whole("64"), whole("3"));
    let names = |document: &Value| -> Vec<String> {
        let rows = document["images"].as_array().unwrap().iter();
        rows.map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&a), names(&b));
    assert!(names(&a).is_sorted() && names(&a).len() == 5);
    for (x, y) in a["images"].as_array().unwrap().iter().zip(b["images"].as_array().unwrap()) {
        let (x, y) = (x["score"].as_f64().unwrap(), y["score"].as_f64().unwrap());
        assert!((x - y).abs() <= 1e-4 * x, "{x} in a batch of 64, {y} in a batch of 3");
    }
    let table = ganomede(["score", text(model()), text(&data)]);
    let lines: Vec<_> = table.well().stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (6, "score\tpercentile\tverdict\timage"));
    for (line, row) in lines[1..].iter().zip(a["images"].as_array().unwrap()) {
        let percentile: f64 = line.split('\t').nth(1).unwrap().parse().unwrap();
        assert!((percentile - row["percentile"].as_f64().unwrap()).abs() <= 0.05, "{line}");
    }
    let promise = format!(
        "anomalous from {:.4} on: {} held-out normal samples, false-alarm rate at most",
        a["threshold"].as_f64().unwrap(),
        quantiles.count()
    );
    assert!(
        table.stderr.contains(&promise) || table.stderr.contains("too few for a false-alarm rate"),
        "{} should promise: {promise}",
        table.stderr
    );
    assert!(lines[1..].iter().zip(names(&a)).all(|(line, name)| line.split('\t').nth(3) == Some(&name)));
}

#[test]
fn maps_are_pictures_of_the_images_named_in_the_rows() {
    let at = folder("maps");
    let (data, maps) = (at.join("data"), at.join("new/maps"));
    write_grays(&data, 3);
    let document = ganomede(["score", text(model()), text(&data), "--maps", text(&maps), "--json"]).json();
    let rows = document["images"].as_array().unwrap();
    assert_eq!(files(&maps).iter().filter(|name| name.ends_with(".png")).count(), 3);
    for row in rows {
        let map = image::open(field(row, "map", Value::is_string).as_str().unwrap()).unwrap();
        assert!(map.width() >= 16 && map.height() >= 16);
        let stem = Path::new(row["path"].as_str().unwrap()).file_stem().unwrap().to_str().unwrap();
        assert!(row["map"].as_str().unwrap().ends_with(&format!("-{stem}.png")));
    }
}

#[test]
fn other_search_settings_score_without_a_calibration_that_does_not_fit() {
    let ended = ganomede(["score", text(model()), RETINA, "--search-steps", "2", "--json"]);
    let document = ended.json();
    assert!(ended.stderr.contains("no calibration for these score settings"), "{}", ended.stderr);
    assert_eq!(document["images"].as_array().unwrap().len(), 12);
    assert!(document["images"][0]["probability"].is_null() && document["images"][0]["anomalous"].is_null());
    for name in ["pd", "reference"] {
        let document = ganomede(["score", text(model()), RETINA, "--score", name, "--json"]).json();
        assert!(document["images"][0]["score"].as_f64().is_some_and(f64::is_finite), "{name}");
    }
}

/// Asserts the fields of `eval --json`, of `metrics.json` too.
fn check_evaluation(document: &Value, with_pixels: bool) {
    let is_interval = |v: &Value| v.as_array().is_some_and(|a| a.len() == 2 && a.iter().all(Value::is_f64));
    for (name, is) in [
        ("system", Value::is_string as fn(&Value) -> bool),
        ("device", Value::is_string),
        ("n_normal", Value::is_u64),
        ("n_anomalous", Value::is_u64),
        ("auroc", Value::is_f64),
        ("auroc_ci95", is_interval),
        ("aupr", Value::is_f64),
        ("aupr_baseline", Value::is_f64),
        ("f1_max", Value::is_f64),
        ("threshold.value", Value::is_f64),
        ("threshold.source", Value::is_string),
        ("threshold.precision", Value::is_f64),
        ("threshold.recall", Value::is_f64),
        ("threshold.f1", Value::is_f64),
        ("seconds_per_image", Value::is_f64),
    ] {
        field(document, name, is);
    }
    assert_eq!(document.get("pixel").is_some(), with_pixels, "pixel metrics");
    if with_pixels {
        field(document, "pixel.auroc", Value::is_f64);
        field(document, "pixel.aupro", Value::is_f64);
    }
    let share = |name: &str| {
        let value = document[name].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{name} is {value}");
        value
    };
    let auroc = share("auroc");
    let [low, high] = [0, 1].map(|i| document["auroc_ci95"][i].as_f64().unwrap());
    assert!(low <= auroc && auroc <= high, "{low} {auroc} {high}");
    let (normal, anomalous) =
        (document["n_normal"].as_f64().unwrap(), document["n_anomalous"].as_f64().unwrap());
    assert!((share("aupr_baseline") - anomalous / (normal + anomalous)).abs() < 1e-12);
    share("aupr");
    assert!(document["threshold"]["source"].as_str().unwrap().contains("held-out normal samples"));
}

#[test]
fn eval_prints_and_writes_every_metric() {
    let report = folder("report").join("new");
    let arguments = ["eval", text(model()), "--data", RETINA, "--report", text(&report)];
    let document = ganomede(arguments.iter().chain(&["--json"])).json();
    check_evaluation(&document, true);
    assert_eq!((document["n_normal"].as_u64(), document["n_anomalous"].as_u64()), (Some(6), Some(6)));
    assert!(document.get("sub_sample").is_none());

    assert_eq!(files(&report), ["metrics.json", "report.html", "settings.toml"]);
    let metrics: Value =
        serde_json::from_slice(&std::fs::read(report.join("metrics.json")).unwrap()).unwrap();
    check_evaluation(&metrics, true);
    let mut same = document.clone();
    same.as_object_mut().unwrap().retain(|name, _| name != "seconds_per_image");
    for (name, value) in same.as_object().unwrap() {
        assert_eq!(&metrics[name], value, "{name}");
    }
    assert_eq!(metrics["images"].as_array().unwrap().len(), 12);
    assert_auroc_of_samples(&metrics);
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("data:image/png;base64,") && page.contains("AUROC"));
    assert!(!page.contains("http://localhost") && !page.contains("<script src"));

    let summary = ganomede(arguments);
    for word in ["AUROC", "AUPR", "threshold", "pixel AUROC", "report.html"] {
        assert!(summary.well().stdout.contains(word), "{word} is not in {}", summary.stdout);
    }
}

#[test]
fn a_sub_sample_is_balanced_seeded_and_recorded() {
    let data = "builtin:retina:train=40,test=30";
    let report = folder("sub-sample");
    let eval = |seed: &str| {
        let limits = ["--limit-test", "7", "--seed", seed, "--report", text(&report), "--json"];
        ganomede(["eval", text(model()), "--data", data].iter().chain(&limits)).json()
    };
    let document = eval("1");
    let (normal, anomalous) =
        (document["n_normal"].as_u64().unwrap(), document["n_anomalous"].as_u64().unwrap());
    assert_eq!((normal + anomalous, normal.abs_diff(anomalous)), (7, 1));
    let note = field(&document, "sub_sample", Value::is_string).as_str().unwrap();
    assert!(note.contains("of 30 test images") && note.contains("seed 1"), "{note}");
    let chosen = || -> Vec<String> {
        let metrics: Value =
            serde_json::from_slice(&std::fs::read(report.join("metrics.json")).unwrap()).unwrap();
        metrics["images"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = chosen();
    assert_eq!(first.len(), 7);
    eval("1");
    assert_eq!(chosen(), first, "the same seed chooses the same images");
    eval("2");
    assert_ne!(chosen(), first, "another seed chooses others");
}

#[test]
fn folders_and_generators_of_the_same_images_give_the_same_results() {
    let at = folder("layouts");
    let preprocess = Preprocess::new(16);
    let options = OpenOptions { preprocess, ..OpenOptions::default() };
    let data = Dataset::open(RETINA, &options).unwrap();
    let parts = at.join("parts");
    let written = write_mvtec(&data, &parts, 40, 12).unwrap();
    assert_eq!((written.train, written.test, written.masks), (40, 12, 6));

    let built_in = ganomede(["eval", text(model()), "--data", RETINA, "--json"]).json();
    let folders = ganomede(["eval", text(model()), "--data", text(&parts), "--json"]).json();
    check_evaluation(&folders, true);
    for name in ["n_normal", "n_anomalous", "auroc", "aupr", "f1_max"] {
        assert_eq!(folders[name], built_in[name], "{name}");
    }
    let [a, b] = [&folders, &built_in].map(|d| d["pixel"]["auroc"].as_f64().unwrap());
    assert!((a - b).abs() < 1e-6, "{a} and {b}");

    // Training on the folder is training on the generator's images; a flat folder of the normals serves as
    // well.
    let from_parts = at.join("parts.safetensors");
    let summary = train(text(&parts), &from_parts, &["--steps", "3", "--json"]).json();
    assert_eq!((&summary["training_images"], &summary["held_out"]), (&32.into(), &8.into()));
    let flat = parts.join("train/good");
    let from_flat = at.join("flat.safetensors");
    train(text(&flat), &from_flat, &["--steps", "3"]).well();
    binary::assert_same_tensors(&from_parts, &from_flat);
    let scores = |model: &Path, data: &Path| ganomede(["score", text(model), text(data), "--json"]).json();
    let document = scores(&from_flat, &flat);
    assert_eq!(document["images"].as_array().unwrap().len(), 40);
    assert_eq!(
        scores(&from_parts, &parts)["images"].as_array().unwrap().len(),
        12,
        "the test images by default"
    );
    let train_split =
        ganomede(["score", text(&from_parts), text(&parts), "--split", "train", "--json"]).json();
    assert_eq!(train_split["images"].as_array().unwrap().len(), 40);
}

#[test]
fn sixteen_bits_score_as_eight_bits_of_the_same_shades() {
    let data = folder("bits");
    let shade = |x: u32, y: u32| ((x * 9 + y * 4) % 256) as u8;
    image::GrayImage::from_fn(16, 16, |x, y| image::Luma([shade(x, y)])).save(data.join("08.png")).unwrap();
    let deep = |x, y| image::Luma([u16::from(shade(x, y)) * 257]);
    image::ImageBuffer::<image::Luma<u16>, Vec<u16>>::from_fn(16, 16, deep)
        .save(data.join("16.png"))
        .unwrap();
    let document = ganomede(["score", text(model()), text(&data), "--score", "pd", "--json"]).json();
    let [a, b] = [0, 1].map(|i| document["images"][i]["score"].as_f64().unwrap());
    assert!((a - b).abs() < 1e-5 * a.abs(), "{a} from 8 bits, {b} from 16");
}

#[test]
fn search_shows_how_the_loss_falls() {
    let at = folder("search");
    write_gray(&at.join("00.png"), 16, 16, 0);
    let (query, film) = (at.join("00.png"), at.join("film.png"));
    let arguments = ["search", text(model()), text(&query), "--film", text(&film), "--stages", "3", "--json"];
    let document = ganomede(arguments).json();
    assert_eq!(field(&document, "z", Value::is_array).as_array().unwrap().len(), 8);
    let stages = field(&document, "stages", Value::is_array).as_array().unwrap();
    assert!(stages.len() >= 3);
    for stage in stages {
        field(stage, "loss", Value::is_f64);
        field(stage, "residual", Value::is_f64);
        field(stage, "discrimination", Value::is_f64);
    }
    assert_eq!((stages[0]["step"].as_u64(), stages[stages.len() - 1]["step"].as_u64()), (Some(0), Some(5)));
    assert_eq!(stages[stages.len() - 1]["loss"], document["score"]);
    // Query, each stage and the residual, each pixel of 16×16 as a square of 8×8, with words below.
    let drawn = image::open(&film).unwrap().into_rgb8();
    assert_eq!(drawn.dimensions(), (8 + (stages.len() as u32 + 2) * 136, 8 + 128 + 4 + 2 * 18 + 8));
    let given = image::open(&query).unwrap().into_luma8();
    for (x, y) in [(0, 0), (9, 3), (15, 15)] {
        assert_eq!(drawn.get_pixel(8 + 8 * x + 5, 8 + 8 * y + 2).0, [given.get_pixel(x, y).0[0]; 3]);
    }
    for name in ["film.gif", "film.apng"] {
        let film = at.join(name);
        let both = ["search", text(model()), text(&query), text(&query), "--film", text(&film), "--json"];
        assert_eq!(ganomede(both).json().as_array().map(Vec::len), Some(2));
        let head = std::fs::read(&film).unwrap();
        assert!(head.starts_with(if name == "film.gif" { b"GIF89a" } else { b"\x89PNG\r\n" }), "{name}");
    }
    let score = ganomede(["score", text(model()), text(&query), "--json"]).json();
    assert_eq!(score["images"][0]["score"], document["score"], "`score` finds what `search` shows");
}

#[test]
fn the_calibration_in_the_file_is_the_one_that_eval_uses() {
    let file = ModelFile::load(model()).unwrap();
    let calibration = file.header.calibration.unwrap();
    let eval = |more: &[&str]| {
        ganomede(["eval", text(model()), "--data", RETINA, "--json"].iter().chain(more)).json()
    };
    let document = eval(&[]);
    assert_eq!(document["threshold"]["value"].as_f64(), Some(calibration.threshold));
    assert_eq!(document["threshold"]["source"].as_str(), Some(calibration.source.as_str()));
    // Another search is calibrated anew on the same held-out images, which lie in the same data.
    let document = eval(&["--search-steps", "2"]);
    assert!(document["threshold"]["source"].as_str().unwrap().contains("8 held-out normal samples"));
    // Data whose training images are others cannot give a threshold for another search; metrics still come.
    let other =
        ["eval", text(model()), "--data", "builtin:retina:train=9,test=12", "--search-steps", "2", "--json"];
    let document = ganomede(other);
    assert!(
        document.json()["threshold"].is_null() && document.stderr.contains("no threshold"),
        "{}",
        document.stderr
    );
}
