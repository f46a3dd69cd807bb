//! Scans of layers: flattened and cut into tiles for training, and the same for everything that is scored.

use std::path::Path;

use crate::binary::{folder, ganomede, text};
use ganomede::models::file::ModelFile;

#[test]
fn a_model_of_flattened_tiles_is_evaluated_on_flattened_tiles() {
    let at = folder("scans");
    let (scans, model) = (at.join("scans"), at.join("scans.safetensors"));
    let made =
        ["data", "synth", "retina", "--out", text(&scans), "--train", "12", "--test", "6", "--size", "64"];
    ganomede(made).well();
    let train = |more: &[&str], out: &Path| {
        let fixed = ["train", "ae", "--data", text(&scans), "--out", text(out), "--width", "4"];
        let steps = ["--steps", "4", "--batch", "8", "--val-fraction", "0.25"];
        ganomede(fixed.iter().chain(&steps).chain(more)).well();
        ModelFile::load(out).unwrap().header.data
    };
    let info = train(&["--flatten", "--tile", "16", "--tiles-per-image", "4"], &model);
    assert!(info.flatten && info.tiles.is_some_and(|tiles| tiles.per_image == 4), "{info:?}");
    assert_eq!(info.training_images, 36, "four tiles of nine images");

    let document = ganomede(["eval", text(&model), "--data", text(&scans), "--json"]).json();
    let count = |name: &str| document[name].as_u64().unwrap();
    assert_eq!((count("n_normal"), count("n_anomalous")), (3, 3), "whole images");
    assert!(document["pixel"]["auroc"].is_f64());
    let seeds = ganomede(["eval", text(&model), "--data", text(&scans), "--seeds", "2", "--json"]).json();
    let auroc = &seeds["repeated"]["auroc"]["values"];
    assert!(
        auroc.as_array().unwrap().len() == 2 && auroc[0].is_f64() && auroc[0] == document["auroc"],
        "{auroc}"
    );
    let scored = ganomede(["score", text(&model), text(&scans), "--json"]).json();
    assert_eq!(scored["images"].as_array().unwrap().len(), 6);

    // Flattening is more than a note in the file: the same weights see other pixels without it.
    let plain = at.join("plain.safetensors");
    let flat = at.join("flat.safetensors");
    assert!(
        !train(&["--size", "16"], &plain).flatten && train(&["--size", "16", "--flatten"], &flat).flatten
    );
    let mut unlevelled = ModelFile::load(&flat).unwrap();
    unlevelled.header.data.flatten = false;
    let other = at.join("other.safetensors");
    unlevelled.save(&other).unwrap();
    let score =
        |model: &Path| ganomede(["score", text(model), text(&scans), "--json"]).json()["images"].clone();
    assert_ne!(score(&flat), score(&other));
}
