//! `--precision bf16` and `f16`: for every command that computes, with a word where a threshold is of another
//! precision.

use crate::binary::{RETINA, folder, ganomede, number, text, train};

#[test]
fn models_are_trained_scored_and_searched_in_bf16() {
    let at = folder("commands");
    let (plain, rounded) = (at.join("plain.safetensors"), at.join("rounded.safetensors"));
    let wide = ["--width", "16", "--search-steps", "5", "--val-fraction", "0.2"];
    train(RETINA, &plain, &wide).well();
    train(RETINA, &rounded, &[&wide[..], &["--precision", "bf16"]].concat()).well();
    assert_ne!(std::fs::read(&plain).unwrap(), std::fs::read(&rounded).unwrap());
    let word = |then: &str, now: &str| format!("chosen by scores in {then}, and these are in {now}");
    for (model, precision, expected) in [
        (&plain, "f32", None),
        (&rounded, "bf16", None),
        (&plain, "bf16", Some(word("f32", "bf16"))),
        (&rounded, "f32", Some(word("bf16", "f32"))),
    ] {
        let score = ganomede(["score", text(model), RETINA, "--json", "--precision", precision]);
        let document = score.json();
        assert_eq!(document["images"].as_array().map(Vec::len), Some(12));
        assert_eq!(document["device"].as_str().unwrap().contains("bf16"), precision == "bf16");
        match expected {
            Some(word) => assert!(score.stderr.contains(&word), "{}", score.stderr),
            None => assert!(!score.stderr.contains("the threshold was chosen"), "{}", score.stderr),
        }
    }
    let info =
        |model| ganomede(["info", text(model), "--json"]).json()["command"].as_str().unwrap().to_owned();
    assert!(info(&rounded).contains(" --precision bf16"), "{}", info(&rounded));
    assert!(!info(&plain).contains("--precision"), "{}", info(&plain));
    let settings = std::fs::read_to_string(rounded.with_extension("toml")).unwrap();
    assert!(settings.contains("precision = \"bf16\""), "{settings}");
}

#[test]
fn a_training_that_goes_on_in_another_precision_is_told() {
    let out = folder("resumed").join("m.safetensors");
    let told = "was trained in bf16, and this goes on in f32";
    train(RETINA, &out, &["--width", "16", "--steps", "2", "--precision", "bf16"]).well();
    let same = train(RETINA, &out, &["--width", "16", "--steps", "4", "--precision", "bf16", "--resume"]);
    same.well();
    assert!(
        same.stderr.contains("resuming at step 2") && !same.stderr.contains("was trained in"),
        "{}",
        same.stderr
    );
    let other = train(RETINA, &out, &["--width", "16", "--steps", "6", "--resume"]);
    other.well();
    assert!(other.stderr.contains(told) && other.stderr.contains("--precision bf16"), "{}", other.stderr);
    // From here on it is a training in f32.
    let again = train(RETINA, &out, &["--width", "16", "--steps", "8", "--resume"]);
    again.well();
    assert!(
        again.stderr.contains("resuming at step 6") && !again.stderr.contains("was trained in"),
        "{}",
        again.stderr
    );
}

#[test]
fn bench_names_the_instructions() {
    let sizes = ["--size", "16", "--width", "16", "--batch", "4", "--runs", "1", "--device", "cpu", "--json"];
    let step = |precision| {
        ganomede(["bench", "step"].iter().chain(&sizes).chain(&["--precision", precision])).json()
    };
    let adapter = |precision| step(precision)["adapter"].as_str().unwrap().to_owned();
    assert!(adapter("bf16").contains("bf16 by "), "{}", adapter("bf16"));
    assert!(!adapter("f32").contains("bf16"), "{}", adapter("f32"));
    assert!(number(&step("bf16"), "ms_median") > 0.0);
}

#[test]
fn devices_refuse_the_others_before_any_work() {
    let out = folder("gpus").join("m.safetensors");
    train(RETINA, &out, &["--device", "gpu", "--precision", "bf16"])
        .refused(2, &["cannot multiply in bf16", "--device cpu"]);
    train(RETINA, &out, &["--device", "cpu", "--precision", "f16"])
        .refused(2, &["cannot multiply in f16", "use bf16 or f32, or --device gpu"]);
    assert!(!out.exists());
    train(RETINA, &out, &["--device", "gpu", "--precision", "bf16", "--gpu-launches", "1..2"])
        .refused(2, &["--gpu-launches", "--precision"]);
}

/// Trained, resumed, scored, measured and checked in halves, where the adapter has them.
#[test]
fn gpus_compute_in_halves() {
    let devices = ganomede(["devices", "--json"]).json();
    let halves = devices["adapters"][0]["features"].as_array().expect("features");
    let halves = halves.iter().any(|name| name == "SHADER_F16");
    let out = folder("halves").join("m.safetensors");
    let half = ["--device", "gpu", "--precision", "f16"];
    let with = |more: &[&str]| train(RETINA, &out, &[&half[..], &["--width", "16"], more].concat());
    if !halves {
        with(&["--steps", "2"]).refused(2, &["cannot multiply in f16 (it has no SHADER_F16)", "use f32"]);
        return;
    }
    with(&["--steps", "2", "--search-steps", "5", "--val-fraction", "0.2"]).well();
    let more = with(&["--steps", "4", "--search-steps", "5", "--val-fraction", "0.2", "--resume"]);
    more.well();
    assert!(more.stderr.contains("resuming at step 2"), "{}", more.stderr);
    let score = ganomede(["score", text(&out), RETINA, "--json"].iter().chain(&half));
    assert!(score.json()["device"].as_str().unwrap().ends_with("products in f16"), "{}", score.stdout);
    assert!(!score.stderr.contains("the threshold was chosen"), "{}", score.stderr);
    let plain = ganomede(["score", text(&out), RETINA, "--json", "--device", "gpu"]);
    assert!(plain.stderr.contains("chosen by scores in f16, and these are in f32"), "{}", plain.stderr);
    let verify = |kernel| ganomede(["kernels", "verify", kernel, "--json"].iter().chain(&half)).json();
    for kernel in ["gemm", "conv", "conv_transpose", "conv_weight"] {
        let rows = verify(kernel);
        let rows: Vec<_> = rows.as_array().unwrap().iter().filter(|row| row["tolerance"] == 1e-2).collect();
        assert!(rows.iter().all(|row| row["passed"] == true), "{kernel}");
        let rounded = |row: &&&serde_json::Value| row["max_relative_error"].as_f64().unwrap() > 1e-4;
        assert_eq!(rows.iter().filter(rounded).count(), 2, "{kernel}: two variants round");
    }
}
