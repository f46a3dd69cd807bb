//! Scans of layers: flattened and cut into patches for training, and the same for everything that is scored.

#[path = "common/binary.rs"]
mod binary;

use std::path::Path;

use binary::{folder, ganomede, text};
use ganomede::models::file::ModelFile;

#[test]
fn a_model_of_flattened_patches_is_evaluated_on_flattened_patches() {
    let at = folder("scans");
    let (scans, model) = (at.join("scans"), at.join("scans.safetensors"));
    let made =
        ["data", "synth", "retina", "--out", text(&scans), "--train", "12", "--test", "6", "--size", "64"];
    ganomede(made).well();
    let train = |more: &[&str], out: &Path| {
        let fixed =
            ["train", "ae", "--data", text(&scans), "--out", text(out), "--size", "16", "--width", "4"];
        let steps = ["--steps", "4", "--batch", "8", "--val-fraction", "0.25"];
        ganomede(fixed.iter().chain(&steps).chain(more)).well();
        ModelFile::load(out).unwrap().header.data
    };
    let info = train(&["--flatten", "--patch", "24", "--patches-per-image", "4"], &model);
    assert!(info.flatten && info.patch == Some(24) && info.patches_per_image == 4, "{info:?}");
    assert_eq!(info.training_images, 36, "four patches of nine images");

    let document = ganomede(["eval", text(&model), "--data", text(&scans), "--json"]).json();
    let count = |name: &str| document[name].as_u64().unwrap();
    assert_eq!(count("n_normal") + count("n_anomalous"), 24, "four patches of six images");
    // A patch is anomalous where its mask is: of the twelve patches of the three anomalous scans one misses
    // the anomaly.
    assert_eq!(count("n_anomalous"), 11, "{document}");
    let seeds = ganomede(["eval", text(&model), "--data", text(&scans), "--seeds", "2", "--json"]).json();
    let auroc = &seeds["repeated"]["auroc"]["values"];
    assert!(
        auroc.as_array().unwrap().len() == 2 && auroc[0].is_f64() && auroc[0] == document["auroc"],
        "{auroc}"
    );
    let scored = ganomede(["score", text(&model), text(&scans), "--json"]).json();
    let rows = scored["images"].as_array().unwrap();
    assert!(rows.len() == 24 && rows[1]["path"].as_str().unwrap().ends_with("#1"), "{}", rows[1]);

    // Flattening is more than a note in the file: the same weights see other pixels without it.
    let plain = at.join("plain.safetensors");
    let flat = at.join("flat.safetensors");
    assert!(!train(&[], &plain).flatten && train(&["--flatten"], &flat).flatten);
    let mut unlevelled = ModelFile::load(&flat).unwrap();
    unlevelled.header.data.flatten = false;
    let other = at.join("other.safetensors");
    unlevelled.save(&other).unwrap();
    let score =
        |model: &Path| ganomede(["score", text(model), text(&scans), "--json"]).json()["images"].clone();
    assert_ne!(score(&flat), score(&other));
}
