//! What `data info`, `train`, `score` and `eval` say of files they do not use, and of series they read
//! otherwise than written.

use crate::binary;
use std::fs;
use std::path::{Path, PathBuf};

use crate::binary::{Ended, folder, ganomede, text, write_gray};
use serde_json::json;

/// A set of 16-pixel images: 12 normal ones to train on, two to test, and four dents with a mask each, one of
/// 18 pixels.
fn set(place: &Path) -> PathBuf {
    let root = place.join("set");
    for (folder, count, first) in [("train/good", 12, 0), ("test/good", 2, 20), ("test/dent", 4, 40)] {
        fs::create_dir_all(root.join(folder)).unwrap();
        (0..count).for_each(|i| write_gray(&root.join(folder).join(format!("{i}.png")), 16, 16, first + i));
    }
    let mask = |name: &str, side: u32, colour: [u8; 3]| {
        let path = root.join("ground_truth/dent").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x, _| image::Rgb(if x < 4 { colour } else { [0; 3] });
        image::RgbImage::from_fn(side, side, pixel).save(path).unwrap();
    };
    mask("0_mask.png", 16, [0, 255, 0]);
    mask("1_mask.PNG", 16, [0, 0, 255]);
    mask("2_mask.png", 18, [255; 3]);
    mask("9_mask.png", 16, [255; 3]);
    root
}

fn train(data: &Path, model: &Path, more: &[&str]) -> Ended {
    let kept = ["--size", "16", "--width", "4", "--latent", "4", "--batch", "4", "--steps", "3"];
    let command = ["train", "ae", "--data", text(data), "--out", text(model)];
    ganomede(command.iter().chain(&kept).chain(more))
}

#[test]
fn masks_that_do_not_fit_cost_no_image_and_are_counted() {
    let place = folder("masks");
    let (root, model) = (set(&place), place.join("m.safetensors"));
    let info = ganomede(["data", "info", text(&root), "--json"]).json();
    let masks = &info["masks"];
    assert_eq!(
        (masks["matched"].as_u64(), masks["missing"].as_array().unwrap().len()),
        (Some(3), 1),
        "{masks}"
    );
    assert!(masks["unused"][0].as_str().unwrap().ends_with("9_mask.png"), "{masks}");
    assert!(masks["unusable"][0]["reason"].as_str().unwrap().contains("18×18"), "{masks}");
    let said = ganomede(["data", "info", text(&root)]).well().stderr.clone();
    assert!(said.contains("masks: 3 matched, 1 missing, 0 empty, 1 unusable, 1 unused"), "{said}");

    train(&root, &model, &[]).well();
    let scored = ganomede(["score", text(&model), text(&root)]);
    assert_eq!(scored.well().stdout.lines().count(), 1 + 6, "{}", scored.stdout);
    assert!(!scored.stderr.contains("mask"), "{}", scored.stderr);
    let evaluated = ganomede(["eval", text(&model), "--data", text(&root), "--json"]);
    let document = evaluated.json();
    assert_eq!((document["n_normal"].as_u64(), document["n_anomalous"].as_u64()), (Some(2), Some(4)));
    assert!(document["pixel"]["auroc"].is_f64(), "two masks are as good as four: {document}");
    assert_eq!(document["masks"]["matched"], json!(3));
    assert!(
        evaluated.stderr.contains("3 matched, 1 missing, 0 empty, 1 unusable, 1 unused"),
        "{}",
        evaluated.stderr
    );

    let out = place.join("converted");
    let document = ganomede(["data", "convert", text(&root), "--out", text(&out), "--json"]).json();
    assert_eq!((document["test"].as_u64(), document["masks"]["matched"].as_u64()), (Some(6), Some(3)));
    let written = binary::files(&out.join("ground_truth"));
    assert_eq!(written.len(), 2, "{written:?}");
    for file in written {
        let mask = image::open(out.join("ground_truth").join(file)).unwrap().into_luma8();
        assert_eq!(mask.iter().filter(|&&level| level == 255).count(), 4 * 16);
    }
}

#[test]
fn what_is_skipped_is_said_by_every_command() {
    let place = folder("skipped");
    let (root, model) = (place.join("flat"), place.join("m.safetensors"));
    let below = root.join("2024-05/line 1");
    fs::create_dir_all(&below).unwrap();
    for i in 0..8 {
        let pixel = |x: u32, y: u32| image::Luma([(x * 9 + y * 13 + i * 40) as u16]);
        let image = image::ImageBuffer::from_fn(16, 16, pixel);
        image.save(root.join(format!("{i}.png"))).unwrap();
        image.save(below.join(format!("{i}.png"))).unwrap();
    }
    let hidden = root.join(".thumb.png");
    fs::copy(root.join("0.png"), &hidden).unwrap();
    let said = "holds 1 image with hidden names, not read";
    let info = ganomede(["data", "info", text(&root), "--json"]).json();
    assert!(info["skipped"][0]["reason"].as_str().unwrap().contains(said), "{info}");
    assert_eq!(info["bits_used"], json!(10));
    let trained = train(&root, &model, &["--val-fraction", "0", "--json"]);
    assert!(
        trained.stderr.contains(said) && trained.stderr.contains("use 10 bits at most"),
        "{}",
        trained.stderr
    );
    assert!(trained.json()["skipped"][0]["path"].as_str().unwrap().trim_end_matches('/').ends_with("flat"));
    assert!(trained.stderr.contains("16 images of 2 folders"), "{}", trained.stderr);
    let scored = ganomede(["score", text(&model), text(&root)]);
    assert_eq!(scored.well().stdout.lines().count(), 1 + 16);
    assert!(
        scored.stderr.contains(said) && scored.stderr.contains("use 10 bits at most"),
        "{}",
        scored.stderr
    );

    // A model knows the bits it was trained with.
    let stretched = train(&root, &model, &["--val-fraction", "0", "--bits", "10"]);
    assert!(!stretched.well().stderr.contains("bits at most"), "{}", stretched.stderr);
    let scored = ganomede(["score", text(&model), text(&root)]);
    assert!(!scored.well().stderr.contains("bits at most"), "{}", scored.stderr);
    train(&root, &model, &["--val-fraction", "0", "--bits", "8"]).refused(2, &["more than 8 bits"]);
}

/// A wave of two channels, in file order, a row each five minutes from 2024-03-01 on.
fn series(path: &Path, rows: std::ops::Range<usize>, header: &str, line: impl Fn(usize, f64, f64) -> String) {
    let value = |i: usize| (i as f64 * 0.3).sin() + 0.01 * (i * 7 % 5) as f64;
    let lines: String = rows.map(|i| line(i, value(i), 10.0 + 3.0 * value(i + 5)) + "\n").collect();
    fs::write(path, format!("{header}\n{lines}")).unwrap();
}

fn time(i: usize) -> String {
    format!("2024-03-{:02}T{:02}:{:02}:00+09:00", 1 + i / 288, i / 12 % 24, i % 12 * 5)
}

fn train_series(data: &Path, model: &Path, more: &[&str]) -> Ended {
    let kept = ["--signal", "--size", "16", "--width", "4", "--latent", "4", "--batch", "4", "--steps", "3"];
    let command = ["train", "ae", "--data", text(data), "--out", text(model)];
    ganomede(command.iter().chain(&kept).chain(more))
}

#[test]
fn series_are_scored_by_the_names_of_their_channels_and_in_their_own_time() {
    let place = folder("series");
    let (file, model) = (place.join("kst.csv"), place.join("m.safetensors"));
    series(&file, 0..300, "timestamp,a,b", |i, a, b| format!("{},{a},{b}", time(i)));
    let trained = train_series(&file, &model, &["--train-part", "200", "--json"]);
    // A tenth of 200 rows is more than a window of 16.
    let block = "rows 180 to 199 (2024-03-01T15:00:00+09:00 to 2024-03-01T16:35:00+09:00)";
    assert_eq!(trained.json()["held_out_block"], json!(block));
    assert!(trained.stderr.contains(&format!("held out for calibration: {block}")), "{}", trained.stderr);

    let windows = place.join("windows.json");
    fs::write(
        &windows,
        r#"[["2024-03-01 18:00:00", "2024-03-01 18:25:00"], ["2024-03-01 18:30:00", "2024-03-01 19:00:00"]]"#,
    )
    .unwrap();
    let eval = |file: &Path| {
        let command =
            ["eval", text(&model), "--data", text(file), "--train-part", "200", "--labels", text(&windows)];
        ganomede(command.iter().chain(&["--json"])).json()
    };
    let document = eval(&file);
    assert_eq!((document["n_anomalous"].as_u64(), document["n_segments"].as_u64()), (Some(13), Some(2)));
    let scored = ganomede(["score", text(&model), text(&file)]).well().stdout.clone();
    let first = scored.lines().nth(1).unwrap();
    assert!(first.contains("\t2024-03-01T00:00:00+09:00\t"), "{first}");

    // The same rows in another order, with the channels the other way round and one more.
    let other = place.join("other.csv");
    series(&other, 0..300, "b,extra,timestamp,a", |i, a, b| format!("{b},{},{},{a}", i % 3, time(i)));
    let shuffled = place.join("shuffled.csv");
    let lines = fs::read_to_string(&other).unwrap();
    let mut rows: Vec<&str> = lines.lines().skip(1).collect();
    rows.reverse();
    rows.swap(3, 200);
    fs::write(&shuffled, format!("b,extra,timestamp,a\n{}\n", rows.join("\n"))).unwrap();
    for file in [&other, &shuffled] {
        let found = eval(file);
        assert_eq!(found["auroc"], document["auroc"], "{}", file.display());
        assert_eq!(found["alarms"], document["alarms"]);
        assert!(found["notes"].to_string().contains("not read: extra"), "{}", found["notes"]);
    }
    assert!(eval(&shuffled)["notes"].to_string().contains("sorted by it"));
    let narrow = place.join("narrow.csv");
    series(&narrow, 0..300, "timestamp,a,c", |i, a, b| format!("{},{a},{b}", time(i)));
    ganomede(["score", text(&model), text(&narrow)]).refused(2, &["lacks the channel b of the model"]);
}

#[test]
fn short_series_hold_out_a_window_or_are_refused_before_any_training() {
    let place = folder("short");
    let model = place.join("m.safetensors");
    for (name, rows) in [("0.csv", 400), ("1.csv", 130)] {
        series(&place.join(name), 0..rows, "timestamp,a,b", |i, a, b| format!("{},{a},{b}", time(i)));
    }
    // A tenth of 100 rows is less than a window of 16: a window is held out.
    let trained = train_series(&place.join("1.csv"), &model, &["--train-part", "100", "--json"]).json();
    assert_eq!((trained["held_out"].as_u64(), trained["training_images"].as_u64()), (Some(16), Some(18)));
    let few = train_series(&place.join("1.csv"), &model, &["--train-part", "30", "--json"]);
    few.refused(2, &["30 training rows, too few for a window of 16"]);
    assert!(!few.stderr.contains("training ae"), "{}", few.stderr);

    // `compare` sees before it trains on the first series that the second is too short.
    let labels = folder("labels").join("labels.csv");
    fs::write(&labels, "start,end\n2024-03-01T09:00:00+09:00,2024-03-01T09:30:00+09:00\n").unwrap();
    let report = place.join("report");
    let compare = |part: &str, size: &str| {
        let command =
            ["compare", "--signal", "--systems", "ae", "--data", text(&place), "--train-part", part];
        let more = ["--labels", text(&labels), "--size", size, "--width", "4", "--steps", "2"];
        ganomede(command.iter().chain(&more).chain(&["--report", text(&report)]))
    };
    let refused = compare("0.3", "32");
    refused.refused(2, &["1.csv", "39 training rows, too few for a window of 32"]);
    assert!(!refused.stderr.contains("training ae"), "{}", refused.stderr);
}
