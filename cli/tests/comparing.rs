//! `compare`, `eval --seeds`, and series and tables from the command line: what is trained, what is printed, what is
//! refused.

#[path = "common/binary.rs"]
mod binary;

use binary::{RETINA, folder, ganomede, text, train};

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
        assert!((0.0..=1.0).contains(&system["auroc"].as_f64().unwrap()), "{system}");
        assert_eq!((system["n_normal"].as_u64(), system["n_anomalous"].as_u64()), (Some(6), Some(6)));
    }
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(written.contains("| `anogan` |") && written.contains("after") && !written.contains("\nold\n"));
    assert!(report.join("report.html").is_file() && report.join("metrics.json").is_file());

    let seeds = run(&["--systems", "ae", "--seeds", "2"]).json();
    assert_eq!(seeds["systems"][0]["repeated"]["auroc"]["values"].as_array().unwrap().len(), 2);

    let set = ["--systems", "ae,pca", "-O", "ae.lr=5e-4", "-O", "pca.latent=4", "-O", "ae.loss=ssim"];
    let document = run(&set).json();
    let settings = document["configuration"].to_string();
    assert!(settings.contains("ae.lr=5e-4 pca.latent=4 ae.loss=ssim"), "{settings}");
    for (setting, words) in [
        ("anogan.lr=1e-3", "no system of this comparison"),
        ("ae.lr=fast", "no number"),
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
    assert_eq!(auroc["values"][0], document["auroc"], "the first run is the model's own");
    let other = "builtin:retina:train=30,test=12";
    ganomede(["eval", text(&path), "--data", other, "--seeds", "2"])
        .refused(2, &["--seeds", "trained on", RETINA]);
}

#[test]
fn a_series_is_trained_scored_and_compared() {
    let at = folder("series");
    let model = at.join("telemetry.safetensors");
    let data = "builtin:telemetry:train=400,test=300";
    let fixed = ["train", "ae", "--signal", "--data", data, "--out", text(&model), "--steps", "3"];
    ganomede(fixed.iter().chain(&SMALL)).well();
    let document = ganomede(["eval", text(&model), "--data", data, "--json"]).json();
    assert_eq!(document["n_points"], 300);
    assert!(document["random"]["threshold.f1.plain"]["mean"].is_number());
    let threshold = &document["threshold"];
    for form in ["plain", "point_adjusted", "pa_k"] {
        assert!((0.0..=1.0).contains(&threshold["f1"][form].as_f64().unwrap()), "{form}: {threshold}");
    }
    let report = at.join("report");
    let fixed = ["compare", "--signal", "--systems", "ae,pca", "--data", data, "--steps", "3", "--json"];
    let compared = ganomede(fixed.iter().chain(&SMALL).chain(&["--report", text(&report)])).json();
    let rows: Vec<_> =
        compared["rows"].as_array().unwrap().iter().map(|row| row["scores"].as_str().unwrap()).collect();
    let untrained = ["distance to the training mean", "distance to the moving average"];
    assert_eq!(rows, [&["ae", "pca", "ae untrained"][..], &untrained].concat());
    ganomede(["eval", text(&model), "--data", RETINA]).refused(2, &["retina"]);
}

/// AE, GANomaly, AnoGAN, f-AnoGAN and BeatGAN on windows of a series: trained, evaluated, and a new file without labels
/// scored point by point.
#[test]
fn every_system_of_series_scores_points_and_raises_alarms() {
    let at = folder("signals");
    let data = "builtin:telemetry:train=300,test=200";
    let row = |i: usize| {
        let t = i as f64 / 9.0;
        format!("{i},{},{},{},{},0.1\n", t.sin(), t.cos(), (t / 2.0).sin(), if i == 70 { 40.0 } else { 0.1 })
    };
    for system in ["ae", "ganomaly", "anogan", "f-anogan", "beatgan"] {
        let model = at.join(format!("{system}.safetensors"));
        let fixed = ["train", system, "--signal", "--data", data, "--out", text(&model), "--steps", "4"];
        ganomede(fixed.iter().chain(&SMALL).chain(&["--latent", "8"])).well();
        let report = at.join(system);
        let fixed = ["eval", text(&model), "--data", data, "--json", "--report", text(&report)];
        let document = ganomede(fixed).json();
        assert_eq!(document["n_points"], 200, "{system}");
        assert!(document["nab"]["standard"]["oracle"].is_number(), "{system}: {document}");
        assert!(
            document["baselines"]["distance to the training mean"]["auroc"].is_number()
                && document["random"]["nab.standard"]["mean"].is_number()
        );
        let written: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(report.join("metrics.json")).unwrap()).unwrap();
        assert_eq!(written["scores"].as_array().unwrap().len(), 200, "{system}");
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
        assert!(scores.iter().all(|s| s.is_finite() && *s >= 0.0), "{system}");
        for alarm in scored["series"][0]["alarms"].as_array().unwrap() {
            let [start, end] = [0, 1].map(|i| alarm["rows"][i].as_u64().unwrap());
            assert!(start + 2 <= end && end <= 120, "{system}: {alarm}");
        }
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
    let fixed = ["train", "memae", "--table", "--data", text(&data), "--out", text(&model), "--steps", "5"];
    ganomede(fixed.iter().chain(&SMALL[2..])).well();
    let report = at.join("report");
    let fixed = ["eval", text(&model), "--data", text(&data), "--json", "--report", text(&report)];
    let document = ganomede(fixed).json();
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert!(
        page.contains("ROC curve") && page.contains("Time per row") && !page.contains("An anomalous image")
    );
    assert!(document["n_normal"].as_u64().unwrap() > 50, "{document}");
    assert!((0.0..=1.0).contains(&document["auroc"].as_f64().unwrap()));
    ganomede(["train", "anogan", "--table", "--data", text(&data), "--out", text(&model), "--steps", "1"])
        .refused(2, &["form is table", "image"]);
}
