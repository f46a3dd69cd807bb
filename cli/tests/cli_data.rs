//! `data` beyond images in folders: previews of augmentation, manifests, telemetry, flattening.

use std::fs;

use crate::binary::{folder, ganomede, write_gray};
use serde_json::Value;

#[test]
fn a_preview_shows_originals_and_their_versions() {
    let place = folder("augment_preview");
    let file = place.join("preview.png");
    let command =
        ["data", "augment", "builtin:concrete:train=9,test=0", "--augment", "flip,rotate:10,noise:0.05"];
    let more =
        ["--preview", file.to_str().unwrap(), "--images", "3", "--versions", "4", "--size", "32", "--json"];
    let document = ganomede(command.iter().chain(&more)).well().json();
    assert_eq!(
        document["ids"],
        serde_json::json!(["concrete:train:0", "concrete:train:3", "concrete:train:6"])
    );
    let first = image::open(&file).unwrap().into_rgb8();
    assert_eq!(first.dimensions(), (5 * 34 - 2, 3 * 34 - 2));
    let cell = |x: u32| image::imageops::crop_imm(&first, x * 34, 0, 32, 32).to_image();
    assert!((1..5).all(|x| cell(x) != cell(0)), "a version is the original");
    let bytes = fs::read(&file).unwrap();
    ganomede(command.iter().chain(&more)).well();
    assert_eq!(bytes, fs::read(&file).unwrap(), "the same seed draws the same picture");

    // What a training would see: padded, the picture has gray above and below what it shows.
    let wide = place.join("wide");
    fs::create_dir_all(&wide).unwrap();
    write_gray(&wide.join("a.png"), 64, 16, 3);
    let shown = |fit: &str| {
        let file = place.join(format!("{fit}.png"));
        let command = ["data", "augment", wide.to_str().unwrap(), "--augment", "flip", "--fit", fit];
        ganomede(command.iter().chain(&["--size", "32", "--preview", file.to_str().unwrap()])).well();
        let pixels = image::open(&file).unwrap().into_luma8();
        [0, 4, 31].map(|y| (0..32).all(|x| pixels.get_pixel(x, y)[0].abs_diff(128) < 2))
    };
    assert_eq!(shown("pad"), [true, true, true]);
    assert_eq!(shown("stretch"), [false, false, false]);

    let refused = |list: &str, fragment: &str| {
        let output = place.join("never.png");
        let preview = output.to_str().unwrap();
        ganomede(["data", "augment", "builtin:concrete", "--augment", list, "--preview", preview])
            .refused(2, &[fragment]);
        assert!(!output.exists());
    };
    refused("spin:3", "spin:3");
    refused("", "names no change");
}

#[test]
fn defects_are_shown_with_their_masks() {
    let place = folder("defects_preview");
    let file = place.join("defects.png");
    let preview = file.to_str().unwrap();
    let command = ["data", "defects", "builtin:casting:train=9,test=0", "--preview", preview, "--size", "32"];
    let document = ganomede(command.iter().chain(&["--images", "3", "--json"])).well().json();
    assert_eq!(document["kinds"], serde_json::json!(["cut_paste", "scar", "blend", "blur", "missing"]));
    assert_eq!(document["ids"].as_array().unwrap().len(), 3);
    let first = image::open(&file).unwrap().into_rgb8();
    assert_eq!(first.dimensions(), (6 * 34 - 2, 6 * 34 - 2));
    let cell = |x: u32, y: u32| image::imageops::crop_imm(&first, x * 34, y * 34, 32, 32).to_image();
    for (kind, image) in (1..6).flat_map(|kind| (0..3).map(move |image| (kind, image))) {
        assert!(cell(2 * image, kind) != cell(2 * image, 0), "{kind} {image}: nothing changed");
        let mask = cell(2 * image + 1, kind);
        assert!(mask.pixels().any(|p| p.0 == [255; 3]) && mask.pixels().any(|p| p.0 == [0; 3]));
    }
    let bytes = fs::read(&file).unwrap();
    ganomede(command.iter().chain(&["--images", "3"])).well();
    assert_eq!(bytes, fs::read(&file).unwrap(), "the same seed draws the same picture");
    let missing = ["data", "defects", "builtin:casting:train=0,test=4", "--preview", preview];
    assert_eq!(ganomede(missing).code, Some(2));
}

#[test]
fn manifests_hold_hashes_and_strict_refuses_shared_images() {
    let place = folder("manifest");
    let set = place.join("set");
    let set = set.to_str().unwrap();
    ganomede(["data", "synth", "casting", "--out", set, "--train", "4", "--test", "4", "--size", "32"])
        .well();
    let file = place.join("manifest.json");
    let manifest = ["data", "manifest", set, "--out", file.to_str().unwrap()];
    let said = ganomede(manifest).well().stdout.clone();
    assert!(said.contains("train: 4 images") && said.contains("no test image is a training image"), "{said}");
    let document: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(document["splits"][1]["files"].as_array().unwrap().len(), 4);
    assert_eq!(document["splits"][0]["files"][0]["sha256"].as_str().unwrap().len(), 64);
    ganomede(["data", "manifest", set, "--strict"]).well();

    fs::copy(place.join("set/train/good/000002.png"), place.join("set/test/good/again.png")).unwrap();
    let document = ganomede(["data", "manifest", set, "--json"]).well().json();
    assert_eq!(document["overlap"].as_array().unwrap().len(), 1);
    let both = ["again.png", "000002.png"];
    ganomede(["data", "manifest", set, "--strict"]).refused(2, &both);
    ganomede(["data", "info", set, "--strict"]).refused(2, &both);
    let model = place.join("never.safetensors");
    let train =
        ["train", "anogan", "--data", set, "--out", model.to_str().unwrap(), "--steps", "1", "--strict"];
    ganomede(train).refused(2, &both);
}

#[test]
fn telemetry_is_written_with_labels() {
    let place = folder("telemetry");
    let out = place.join("rack");
    let out = out.to_str().unwrap();
    let command = ["data", "synth", "telemetry", "--out", out, "--train", "600", "--test", "1000"];
    let document = ganomede(command.iter().chain(&["--json"])).well().json();
    assert_eq!((document["train"].as_u64(), document["test"].as_u64()), (Some(600), Some(1000)));
    let lines =
        |name: &str| fs::read_to_string(place.join("rack").join(name)).unwrap().lines().count() as u64;
    assert_eq!((lines("train.csv"), lines("test.csv")), (601, 1001));
    assert_eq!(lines("labels.csv"), 1 + document["intervals"].as_u64().unwrap());
    ganomede(command).refused(2, &["not an empty folder"]);
    ganomede(["data", "synth", "telemetry", "--out", "never", "--size", "64"]).refused(2, &["--size"]);
}
