//! Samples that come in groups: slices of a patient, parts of a lot. Whole groups are held out, thresholds
//! and intervals are those of new groups.

use crate::binary;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::binary::{assert_same_tensors, field, folder, ganomede, number, text, write_gray};
use ganomede::models::file::ModelFile;
use serde_json::Value;

const RULE: &str = "patient_([0-9]+)";

/// Slices of patients: 12 of them with 4 to train on each, 5 and 5 others with 3 to test.
fn scans(name: &str) -> PathBuf {
    let at = folder(name);
    let mut seed = 0;
    for (part, patients, slices) in
        [("train/good", 0..12, 4), ("test/good", 20..25, 3), ("test/bad", 30..35, 3)]
    {
        std::fs::create_dir_all(at.join(part)).unwrap();
        for patient in patients {
            for slice in 0..slices {
                seed += 1;
                write_gray(
                    &at.join(part).join(format!("patient_{patient:02}_slice_{slice}.png")),
                    20,
                    20,
                    seed,
                );
            }
        }
    }
    at
}

fn train(data: &Path, out: &Path, more: &[&str]) -> binary::Ended {
    let fixed = [
        "train",
        "ae",
        "--data",
        text(data),
        "--out",
        text(out),
        "--size",
        "16",
        "--width",
        "4",
        "--steps",
        "2",
    ];
    ganomede(fixed.iter().chain(&["--batch", "8", "--latent", "8", "--val-fraction", "0.3"]).chain(more))
}

#[test]
fn whole_groups_are_held_out_and_the_model_says_so() {
    let data = scans("held-out");
    let at = folder("held-out-models");
    let (plain, grouped) = (at.join("plain.safetensors"), at.join("grouped.safetensors"));
    let warned = train(&data, &plain, &[]);
    assert!(warned.well().stderr.contains("12 groups, the first 'patient_00'"), "{}", warned.stderr);
    let told = train(&data, &grouped, &["--group", RULE]);
    let said = "48 images in 12 groups by 'patient_([0-9]+)', of which 4 groups with 16 images are held out";
    assert!(told.well().stderr.contains(said), "{}", told.stderr);
    let few = "warning: 4 held-out groups of 16 normal samples are held out";
    assert!(told.stderr.contains(few) && told.stderr.contains("from 19 groups on"), "{}", told.stderr);
    let header = ModelFile::load(&grouped).unwrap().header;
    assert_eq!(header.calibration.as_ref().unwrap().quantiles.count(), 4);
    assert_eq!((header.data.training_images, header.data.held_out), (32, 16));
    let info = ganomede(["info", text(&grouped)]);
    for word in [RULE, "4 held-out groups of 16 normal samples", "--group"] {
        assert!(info.well().stdout.contains(word), "{word} is not in {}", info.stdout);
    }
    // A model without groups says nothing of them.
    let bytes = std::fs::read(&plain).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("\"group"), "a file without groups names them");
    // The settings that were written train the same model again.
    let again = at.join("again.safetensors");
    let settings = grouped.with_extension("toml");
    ganomede(["train", "--config", text(&settings), "--out", text(&again)]).well();
    assert_same_tensors(&grouped, &again);
    assert_eq!(ModelFile::load(&again).unwrap().header.calibration, header.calibration);
    // To resume with other groups is refused.
    train(&data, &grouped, &["--group", "slice_([0-9]+)", "--resume"]).refused(2, &["group"]);
}

#[test]
fn intervals_and_thresholds_go_by_the_groups_of_the_model() {
    let data = scans("intervals");
    let at = folder("intervals-models");
    let model = at.join("m.safetensors");
    train(&data, &model, &["--group", RULE]).well();
    let eval = |more: &[&str]| -> Value {
        ganomede(["eval", text(&model), "--data", text(&data), "--json"].iter().chain(more)).json()
    };
    let own = eval(&[]);
    assert_eq!((own["groups"].as_u64(), own["n_normal"].as_u64()), (Some(10), Some(15)));
    // Every image by itself.
    let single = eval(&["--group", ".*"]);
    assert_eq!(single["groups"], 30);
    assert_eq!(number(&own, "auroc"), number(&single, "auroc"));
    assert_ne!(own["auroc_ci95"], single["auroc_ci95"]);
    assert_eq!(
        field(&own, "threshold.value", Value::is_number),
        field(&single, "threshold.value", Value::is_number)
    );
    ganomede(["eval", text(&model), "--data", text(&data), "--group", "lot"])
        .refused(2, &["lot", "patient_"]);
    let none = ganomede(["eval", text(&model), "--data", text(&data), "--group", "("]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("no regular expression"), "{}", none.stderr);

    // Another threshold from new normals, by the model's own rule.
    let other = folder("new-normals");
    (0..40).for_each(|i| {
        write_gray(&other.join(format!("patient_{:02}_{}.png", 40 + i / 2, i % 2)), 20, 20, 100 + i)
    });
    let calibrated = at.join("calibrated.safetensors");
    let found = ganomede(["calibrate", text(&model), "--data", text(&other), "--out", text(&calibrated)]);
    assert!(found.well().stdout.contains("20 held-out groups of 40 normal samples"), "{}", found.stdout);
    let quantiles = ModelFile::load(&calibrated).unwrap().header.calibration.unwrap().quantiles;
    assert_eq!(quantiles.count(), 20);

    // Of groups that are trained on as well, a warning.
    std::fs::copy(
        data.join("train/good/patient_03_slice_0.png"),
        data.join("test/good/patient_03_slice_9.png"),
    )
    .unwrap();
    let shared = eval(&[]);
    let warnings = shared["warnings"].to_string();
    assert!(warnings.contains("1 of 11 groups of test images"), "{warnings}");

    let report = at.join("report");
    let compared = ganomede([
        "compare",
        "--systems",
        "pca",
        "--steps",
        "2",
        "--size",
        "16",
        "--width",
        "4",
        "--data",
        text(&data),
        "--group",
        RULE,
        "--val-fraction",
        "0.3",
        "--report",
        text(&report),
        "--json",
    ])
    .json();
    assert_eq!(compared["systems"][0]["groups"], 11, "{compared}");
}

#[test]
fn rows_of_a_table_are_grouped_by_a_column_which_is_no_feature() {
    let at = folder("table");
    let row = |i: usize| {
        let [a, b] = [(i * 37 % 101) as f64 / 101.0, (i * 53 % 97) as f64 / 97.0];
        let bad = i % 5 == 4;
        format!(
            "{a:.3},p{},{:.3},{}\n",
            i / 6,
            if bad { 3.0 + b } else { a + 0.1 * b },
            if bad { "bad" } else { "good" }
        )
    };
    let data = at.join("visits.csv");
    std::fs::write(&data, format!("x,patient,y,label\n{}", (0..240).map(row).collect::<String>())).unwrap();
    let model = at.join("m.safetensors");
    let fixed = [
        "train",
        "pca",
        "--table",
        "--data",
        text(&data),
        "--out",
        text(&model),
        "--latent",
        "1",
        "--batch",
        "8",
    ];
    let train =
        |more: &[&str]| ganomede(fixed.iter().chain(&["--epochs", "2", "--val-fraction", "0.4"]).chain(more));
    train(&["--group", "patient"]).well();
    let header = ModelFile::load(&model).unwrap().header;
    assert_eq!(header.config.channels, 2, "the column of groups is no feature");
    let schema = header.data.table.as_ref().unwrap();
    assert_eq!((schema.group.as_deref(), schema.columns.len()), (Some("patient"), 2));
    let groups = header.calibration.unwrap().quantiles.count();
    assert!((5..=12).contains(&groups), "{groups} groups are held out");
    let found = ganomede(["eval", text(&model), "--data", text(&data), "--json"]).json();
    let tested = found["groups"].as_u64().unwrap();
    assert!((15..=25).contains(&tested), "{tested} groups are tested");
    assert!(number(&found, "auroc") > 0.9, "{found}");
    let info = ganomede(["info", text(&model)]);
    assert!(info.well().stdout.contains("--group patient"), "{}", info.stdout);
    // Another file of the same columns, with its groups and without.
    let other = at.join("others.csv");
    std::fs::write(&other, format!("x,patient,y,label\n{}", (300..360).map(row).collect::<String>()))
        .unwrap();
    let found = ganomede(["eval", text(&model), "--data", text(&other), "--json"]).json();
    assert_eq!((found["groups"].as_u64(), found["n_normal"].as_u64()), (Some(10), Some(48)));
    let without: String = std::fs::read_to_string(&other)
        .unwrap()
        .lines()
        .map(|line| {
            line.split(',').enumerate().filter(|(i, _)| *i != 1).map(|(_, f)| f).collect::<Vec<_>>().join(",")
                + "\n"
        })
        .collect();
    std::fs::write(&other, without).unwrap();
    let found = ganomede(["eval", text(&model), "--data", text(&other), "--json"]).json();
    assert_eq!((found.get("groups"), found["n_normal"].as_u64()), (None, Some(48)));

    train(&["--group", "nobody"]).refused(2, &["no column `nobody` for the groups", "patient"]);
    train(&["--group", "label"]).refused(2, &["label", "both labels and groups"]);
    std::fs::write(&data, "x,patient,y,label\n1,a,2,good\n2,,3,good\n3,b,4,good\n").unwrap();
    train(&["--group", "patient"]).refused(2, &["line 3", "names no group"]);
}

#[test]
fn groups_are_refused_where_they_mean_nothing() {
    let out = folder("series").join("m.safetensors");
    ganomede([
        "train",
        "ae",
        "--signal",
        "--data",
        "builtin:telemetry:train=200,test=100",
        "--group",
        "a",
        "--out",
        text(&out),
    ])
    .refused(2, &["--group", "images and tables"]);
    let data = scans("one-group");
    train(&data, &out, &["--group", "patient"]).refused(2, &["one group"]);
    train(&data, &out, &["--group", "slice_[0-9]+$"])
        .refused(2, &["patient_00_slice_0.png", "does not match"]);
    let names: BTreeSet<String> = binary::files(out.parent().unwrap()).into_iter().collect();
    assert!(names.is_empty(), "{names:?}");
}
