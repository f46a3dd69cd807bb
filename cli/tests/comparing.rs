//! `compare`, `eval --seeds`, and series and tables from the command line: what is trained, what is printed,
//! what is refused.

use std::path::Path;

use crate::binary::{RETINA, assert_auroc_of_samples, auroc, folder, ganomede, number, text, train};
use ganomede_datasets::{SignalOptions, SignalSet};
use serde_json::Value;

const SMALL: [&str; 8] = ["--size", "16", "--width", "4", "--search-steps", "3", "--val-fraction", "0.2"];

#[test]
fn systems_are_compared_under_one_budget() {
    let at = folder("compare");
    let page = at.join("results.md");
    std::fs::write(&page, "# Results\n\n<!-- table -->\nold\n<!-- /table -->\n\nafter\n").unwrap();
    let report = at.join("report");
    let run = |more: &[&str]| {
        let fixed = ["compare", "--data", RETINA, "--steps", "3", "--report", text(&report), "--json"];
        ganomede(fixed.iter().chain(&SMALL).chain(more))
    };
    let document =
        run(&["--systems", "ae,anogan,pca", "--markdown", text(&page), "--section", "table"]).json();
    let systems = document["systems"].as_array().unwrap();
    let mut names: Vec<&str> = systems.iter().map(|s| s["system"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ae", "anogan", "pca"]);
    for system in systems {
        assert_auroc_of_samples(system);
        // It is what `eval` says of the model that lies beside the report.
        let name = system["system"].as_str().unwrap();
        let model = report.join(format!("{name}.safetensors"));
        let alone =
            ganomede(["eval", text(&model), "--data", RETINA, "--search-steps", "3", "--json"]).json();
        for field in ["auroc", "aupr", "f1_max", "auroc_ci95", "threshold"] {
            assert!(!alone[field].is_null() && system[field] == alone[field], "{name}, {field}: {system}");
        }
        assert_eq!((system["n_normal"].as_u64(), system["n_anomalous"].as_u64()), (Some(6), Some(6)));
    }
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(written.contains("| `anogan` |") && written.contains("after") && !written.contains("\nold\n"));
    assert!(report.join("report.html").is_file() && report.join("metrics.json").is_file());

    let seeds = run(&["--systems", "ae", "--seeds", "2"]).json();
    let aurocs = seeds["systems"][0]["repeated"]["auroc"]["values"].as_array().unwrap();
    assert_eq!((aurocs.len(), &aurocs[0]), (2, &seeds["systems"][0]["auroc"]));
    let second = report.join("ae-seed1.safetensors");
    let second = ganomede(["eval", text(&second), "--data", RETINA, "--seed", "1", "--json"]).json();
    assert_eq!(aurocs[1].as_f64(), Some(number(&second, "auroc")));

    let set = ["--systems", "ae,pca", "-O", "ae.lr=5e-4", "-O", "pca.latent=4", "-O", "ae.loss=ssim"];
    let document = run(&set).json();
    let settings = document["configuration"].to_string();
    assert!(settings.contains("ae.lr=5e-4 pca.latent=4 ae.loss=ssim"), "{settings}");
    for (setting, words) in [
        ("anogan.lr=1e-3", "no system of this comparison"),
        ("ae.lr=fast", "not a number"),
        ("ae.fire=yes", "fire"),
    ] {
        run(&["--systems", "ae", "-O", setting]).refused(2, &[words]);
    }

    run(&["--systems", "oracle"]).refused(2, &["oracle", "anogan"]);
    ganomede(["compare", "--systems", "ae", "--data", RETINA]).refused(2, &["budget", "--minutes"]);
}

#[test]
fn seeds_repeat_a_training_as_it_was() {
    let path = folder("seeds").join("tiny.safetensors");
    train(RETINA, &path, &["--steps", "3"]).well();
    let document = ganomede(["eval", text(&path), "--data", RETINA, "--seeds", "2", "--json"]).json();
    let auroc = &document["repeated"]["auroc"];
    assert_eq!(auroc["values"].as_array().unwrap().len(), 2);
    assert_eq!(
        auroc["values"][0].as_f64(),
        Some(number(&document, "auroc")),
        "the first run is the model's own"
    );
    let other = "builtin:retina:train=30,test=12";
    ganomede(["eval", text(&path), "--data", other, "--seeds", "2"])
        .refused(2, &["--seeds", "trained on", RETINA]);
}

/// F1 of points that are flagged from a threshold on; in a segment of which more than the share `k` is
/// flagged, all points count as flagged.
fn f1(scored: &[(f64, bool)], segments: &[std::ops::Range<usize>], threshold: f64, k: f64) -> f64 {
    let mut flagged: Vec<bool> = scored.iter().map(|s| s.0 >= threshold).collect();
    for segment in segments {
        let hits = flagged[segment.clone()].iter().filter(|f| **f).count();
        if hits as f64 > k * segment.len() as f64 {
            flagged[segment.clone()].fill(true);
        }
    }
    let both = |f: bool, t: bool| flagged.iter().zip(scored).filter(|(a, s)| **a == f && s.1 == t).count();
    let (hit, wrong, missed) = (both(true, true), both(true, false), both(false, true));
    2.0 * hit as f64 / (2 * hit + wrong + missed) as f64
}

/// Asserts that AUROC and F1 of an evaluated series are those of the scores in its `metrics.json`.
fn assert_metrics_of_points(document: &Value, report: &Path, data: &str) {
    let set = SignalSet::open(data, &SignalOptions::default()).unwrap();
    let rows = set.test_rows();
    let written = std::fs::read_to_string(report.join("metrics.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["first_row"].as_u64(), Some(rows.start as u64));
    let scores = written["scores"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap());
    let scored: Vec<(f64, bool)> = scores.zip(set.labels()[rows.clone()].iter().copied()).collect();
    assert_eq!((scored.len(), document["n_points"].as_u64()), (rows.len(), Some(rows.len() as u64)));
    assert!((number(document, "auroc") - auroc(&scored)).abs() < 1e-12, "{document}");

    let place = |s: std::ops::Range<usize>| s.start - rows.start..s.end - rows.start;
    let segments: Vec<_> = set.segments(rows.clone()).into_iter().map(place).collect();
    assert!(segments.len() > 2, "{segments:?}");
    let threshold = &document["threshold"];
    for (form, k) in [("plain", f64::INFINITY), ("point_adjusted", 0.0), ("pa_k", 0.2)] {
        let want = f1(&scored, &segments, number(threshold, "value"), k);
        assert!((number(&threshold["f1"], form) - want).abs() < 1e-12, "{form} is {want}: {threshold}");
    }
}

#[test]
fn a_series_is_trained_scored_and_compared() {
    let at = folder("series");
    let model = at.join("telemetry.safetensors");
    let data = "builtin:telemetry:train=600,test=1200";
    let fixed = ["train", "ae", "--signal", "--data", data, "--out", text(&model), "--steps", "3"];
    ganomede(fixed.iter().chain(&SMALL)).well();
    let report = at.join("evaluated");
    let evaluated = |rate: &str| {
        let fixed = ["eval", text(&model), "--data", data, "--json", "--report", text(&report)];
        let document = ganomede(fixed.iter().chain(&["--false-alarm-rate", rate])).json();
        assert_metrics_of_points(&document, &report, data);
        let f1 = &document["threshold"]["f1"];
        assert!(number(f1, "plain") < number(f1, "point_adjusted"), "the forms differ: {f1}");
        document
    };
    // So many points are flagged that adjusting changes something, first without and then with PA%20.
    let (few, document) = (evaluated("0.1"), evaluated("0.3"));
    let pa_k = |document: &Value| number(&document["threshold"]["f1"], "pa_k");
    assert!(pa_k(&few) < number(&few["threshold"]["f1"], "point_adjusted"), "{few}");
    assert!(pa_k(&document) > number(&document["threshold"]["f1"], "plain"), "{document}");
    assert!(document["random"]["threshold.f1.plain"]["mean"].is_number());
    let report = at.join("report");
    let fixed = ["compare", "--signal", "--systems", "ae,pca", "--data", data, "--steps", "3", "--json"];
    let compared = ganomede(fixed.iter().chain(&SMALL).chain(&["--report", text(&report)])).json();
    let rows: Vec<_> =
        compared["rows"].as_array().unwrap().iter().map(|row| row["scores"].as_str().unwrap()).collect();
    let untrained = ["distance to the training mean", "distance to the moving average"];
    assert_eq!(rows, [&["ae", "pca", "ae untrained"][..], &untrained].concat());
    ganomede(["eval", text(&model), "--data", RETINA]).refused(2, &["retina"]);
}

/// AE, GANomaly, AnoGAN, f-AnoGAN and BeatGAN on windows of a series: trained, evaluated, and a new file
/// without labels scored point by point. In the file four rows are far from all that was trained on.
#[test]
fn every_system_of_series_scores_points_and_raises_alarms() {
    let at = folder("signals");
    let data = "builtin:telemetry:train=600,test=1200";
    let set = SignalSet::open(data, &SignalOptions::default()).unwrap();
    let row = |i: usize| {
        let values = set.series().row(i).iter();
        let values = values.map(|v| if (70..74).contains(&i) { 3.0 * v + 50.0 } else { *v });
        values.map(|v| format!(",{v}")).fold(i.to_string(), |line, value| line + &value) + "\n"
    };
    for system in ["ae", "ganomaly", "anogan", "f-anogan", "beatgan"] {
        let model = at.join(format!("{system}.safetensors"));
        let fixed = ["train", system, "--signal", "--data", data, "--out", text(&model), "--steps", "4"];
        // After so few steps batch norm's pass moves what stands beside the fault.
        let more = ["--latent", "8", "--batch-norm-pass", "no"];
        ganomede(fixed.iter().chain(&SMALL).chain(&more)).well();
        let report = at.join(system);
        let fixed = ["eval", text(&model), "--data", data, "--json", "--report", text(&report)];
        let document = ganomede(fixed).json();
        assert_metrics_of_points(&document, &report, data);
        assert!(document["nab"]["standard"]["oracle"].is_number(), "{system}: {document}");
        assert!(
            document["baselines"]["distance to the training mean"]["auroc"].is_number()
                && document["random"]["nab.standard"]["mean"].is_number()
        );
        let page = std::fs::read_to_string(report.join("report.html")).unwrap();
        assert!(
            page.contains("Along the series") && page.contains("PA%20-F1") && page.contains("random scores")
        );

        let file = at.join("new.csv");
        let rows: String = (0..120).map(row).collect();
        std::fs::write(
            &file,
            format!("time,load_percent,current_a,temperature_c,fan_rpm,vibration_mm_s\n{rows}"),
        )
        .unwrap();
        let scored = ganomede(["score", text(&model), text(&file), "--json"]).json();
        let scores: Vec<f64> =
            scored["series"][0]["scores"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        assert_eq!(scores.len(), 120, "{system}");
        let threshold = number(&scored, "threshold");
        let flagged: Vec<usize> = (0..120).filter(|&i| scores[i] >= threshold).collect();
        assert_eq!(flagged, [70, 71, 72, 73], "{system}: threshold {threshold}, {scores:?}");
        let alarms = scored["series"][0]["alarms"].as_array().unwrap();
        let peak = scores.iter().copied().fold(0.0, f64::max);
        assert_eq!(
            (alarms.len(), &alarms[0]["rows"]),
            (1, &serde_json::json!([70, 74])),
            "{system}: {alarms:?}"
        );
        assert_eq!(number(&alarms[0], "peak"), peak, "{system}");
    }
}

#[test]
fn a_table_is_trained_and_evaluated() {
    let at = folder("table");
    let (data, model) = (at.join("rows.csv"), at.join("rows.safetensors"));
    let row = |i: u32| {
        let (a, anomalous) = (f64::from(i % 17) / 17.0, i.is_multiple_of(5));
        let b = if anomalous { 1.0 - a } else { a };
        format!("{a},{b},{},{}\n", a * a, if anomalous { "fault" } else { "normal" })
    };
    let rows: String = (0..300).map(row).collect();
    std::fs::write(&data, format!("a,b,c,label\n{rows}")).unwrap();
    let fixed = ["train", "memae", "--table", "--data", text(&data), "--out", text(&model), "--steps", "200"];
    ganomede(fixed.iter().chain(&SMALL[2..])).well();
    let report = at.join("report");
    let fixed = ["eval", text(&model), "--data", text(&data), "--json", "--report", text(&report)];
    let document = ganomede(fixed).json();
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert!(
        page.contains("ROC curve") && page.contains("Time per row") && !page.contains("An anomalous image")
    );
    assert!(document["n_normal"].as_u64().unwrap() > 50, "{document}");
    let written = std::fs::read_to_string(report.join("metrics.json")).unwrap();
    let auroc = assert_auroc_of_samples(&serde_json::from_str(&written).unwrap());
    assert_eq!(document["auroc"], auroc);
    // 0.62 to 0.67 after 5 steps; 0.96 to 0.99 after 100 and 0.98 to 1.00 after 300, by seeds 0 to 2.
    assert!(auroc > 0.9, "AUROC {auroc}");
    ganomede(["train", "anogan", "--table", "--data", text(&data), "--out", text(&model), "--steps", "1"])
        .refused(2, &["form is table", "image"]);
}
