//! Tables from the command line: what is trained on, tested and scored, what models remember, and what is
//! refused.

use std::path::{Path, PathBuf};

use crate::binary::{Ended, folder, ganomede, text};
use ganomede::models::file::ModelFile;
use serde_json::Value;

/// Numbers in [0, 1) that are a function of their place.
fn noise(i: usize, stream: usize) -> f64 {
    let mut x =
        (i as u64 * 2_654_435_761 + stream as u64 * 97_003 + 12_345).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 32;
    (x % 1_000_000) as f64 / 1e6
}

/// Three readings that rise together while `state` is run, and do not while it is fault.
fn row(i: usize, spread: f64) -> [String; 4] {
    let is_fault = i % 4 == 3;
    let load = 4.0 * noise(i, 0) - 2.0;
    let reading = |stream: usize| {
        let own = 4.0 * noise(i, 10 + stream) - 2.0;
        let value = if is_fault { own } else { load * (1.0 + stream as f64 * 0.5) };
        format!("{:.4}", value + spread * (noise(i, 20 + stream) - 0.5))
    };
    [reading(0), reading(1), reading(2), if is_fault { "fault" } else { "run" }.to_owned()]
}

fn written(at: &Path, name: &str, header: &str, rows: impl Iterator<Item = [String; 4]>) -> PathBuf {
    let lines: String = rows.map(|row| row.join(",") + "\n").collect();
    let path = at.join(name);
    std::fs::write(&path, format!("{header}\n{lines}")).unwrap();
    path
}

fn train(data: &Path, model: &Path, more: &[&str]) -> Ended {
    let fixed = ["train", "pca", "--table", "--data", text(data), "--out", text(model), "--latent", "1"];
    ganomede(fixed.iter().chain(&["--batch", "16", "--epochs", "3", "--val-fraction", "0.2"]).chain(more))
}

fn eval(model: &Path, data: &Path, more: &[&str]) -> Value {
    ganomede(["eval", text(model), "--data", text(data), "--json"].iter().chain(more)).json()
}

#[test]
fn a_model_remembers_which_labels_are_normal() {
    let at = folder("labels");
    let data = written(&at, "states.csv", "a,b,c,state", (0..240).map(|i| row(i, 0.4)));
    let model = at.join("states.safetensors");
    train(&data, &model, &["--normal-class", "run"]).well();
    let own = eval(&model, &data, &[]);
    let flagged = eval(&model, &data, &["--normal-class", "run"]);
    assert_eq!((&own["auroc"], &own["threshold"]), (&flagged["auroc"], &flagged["threshold"]));
    assert!(own["auroc"].as_f64().unwrap() > 0.9, "{own}");
    assert_eq!(own["rows"]["in_file"], 240);
    for contrary in [["--normal-class", "fault"], ["--anomalous-class", "run"]] {
        ganomede(["eval", text(&model), "--data", text(&data)].iter().chain(&contrary))
            .refused(2, &["states.csv", "when the model was trained"]);
    }
    ganomede([
        "train",
        "pca",
        "--table",
        "--data",
        text(&data),
        "--out",
        text(&model),
        "--normal-class",
        "rnu",
    ])
    .refused(2, &["no row has the label `rnu`", "fault, run"]);
}

#[test]
fn columns_are_put_in_order_by_their_names_or_refused() {
    let at = folder("columns");
    let abc = written(&at, "abc.csv", "a,b,c,state", (0..240).map(|i| row(i, 0.4)));
    let turned = |[a, b, c, state]: [String; 4]| [state, c, a, b];
    let cab = written(&at, "cab.csv", "state,c,a,b", (0..240).map(|i| turned(row(i, 0.4))));
    let model = at.join("abc.safetensors");
    train(&abc, &model, &["--normal-class", "run"]).well();
    let (own, moved) = (eval(&model, &abc, &[]), eval(&model, &cab, &[]));
    for field in ["auroc", "threshold", "n_normal", "n_anomalous", "rows"] {
        assert_eq!(own[field], moved[field], "{field}");
    }
    let scored = |file: &Path| {
        let document = ganomede(["score", text(&model), text(file), "--json"]).json();
        let rows = document["images"].as_array().unwrap().clone();
        rows.iter().map(|row| row["score"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(scored(&abc), scored(&cab));
    let other = written(&at, "abx.csv", "a,b,x,state", (0..8).map(|i| row(i, 0.4)));
    ganomede(["score", text(&model), text(&other)]).refused(2, &["abx.csv", "trained on: c", "it has x"]);
}

#[test]
fn another_file_is_tested_whole_and_parts_are_said() {
    let at = folder("whole");
    let normal = (0..400).filter(|i| i % 4 != 3).map(|i| row(i, 0.4));
    let data = written(&at, "train.csv", "a,b,c,state", normal);
    // As many faults as good rows.
    let of = |is_fault: bool| (400..1400).filter(move |i| (i % 4 == 3) == is_fault).take(200);
    let rows = of(true).chain(of(false)).map(|i| row(i, 0.4));
    let test = written(&at, "test.csv", "a,b,c,state", rows);
    let model = at.join("m.safetensors");
    let trained = ganomede(
        ["train", "pca", "--table", "--data", text(&data), "--out", text(&model), "--latent", "1", "--json"]
            .iter()
            .chain(&["--normal-class", "run"]),
    )
    .json();
    assert_eq!(trained["training_images"].as_u64().unwrap() + trained["held_out"].as_u64().unwrap(), 300);
    let document = eval(&model, &test, &[]);
    assert_eq!((&document["n_normal"], &document["n_anomalous"]), (&200.into(), &200.into()));
    assert_eq!((&document["rows"]["tested"], &document["rows"]["left_out"]), (&400.into(), &0.into()));
    let document = eval(&model, &test, &["--limit-test", "60"]);
    assert_eq!((&document["n_normal"], &document["n_anomalous"]), (&30.into(), &30.into()));
    assert!(document["sub_sample"].as_str().unwrap().contains("30 normal and 30 anomalous of 400"));
    let document = eval(&model, &test, &["--anomaly-share", "0.2"]);
    assert_eq!((&document["n_normal"], &document["n_anomalous"]), (&200.into(), &50.into()));
    ganomede(["eval", text(&model), "--data", text(&data)]).refused(2, &["train.csv", "trained on"]);
    ganomede(["eval", text(&model), "--data", text(&test), "--seeds", "2"])
        .refused(2, &["--seeds", "test.csv", "train.csv"]);
    for (flags, words) in [
        (["--train-fraction", "0.5"], "--train-fraction"),
        (["--stride", "4"], "--stride"),
        (["--labels", "x.csv"], "--labels"),
    ] {
        ganomede(["eval", text(&model), "--data", text(&test)].iter().chain(&flags)).refused(2, &[words]);
    }
}

#[test]
fn seeds_train_again_and_series_refuse_them() {
    let at = folder("seeds");
    let data = written(&at, "states.csv", "a,b,c,state", (0..240).map(|i| row(i, 0.4)));
    let model = at.join("m.safetensors");
    train(&data, &model, &["--normal-class", "run"]).well();
    let document = eval(&model, &data, &["--seeds", "3"]);
    let values = document["repeated"]["auroc"]["values"].as_array().unwrap();
    assert_eq!((values.len(), &values[0]), (3, &document["auroc"]));
    assert!(values[1] != values[0] || values[2] != values[0], "other seeds are other splits: {values:?}");
    assert!(at.join("m-seed2.safetensors").is_file());

    let series = at.join("s.safetensors");
    let data = "builtin:telemetry:train=200,test=100";
    ganomede([
        "train",
        "pca",
        "--signal",
        "--data",
        data,
        "--size",
        "16",
        "--out",
        text(&series),
        "--epochs",
        "1",
    ])
    .well();
    for flags in [["--seeds", "2"], ["--limit-test", "10"]] {
        ganomede(["eval", text(&series), "--data", data].iter().chain(&flags))
            .refused(2, &[flags[0], "series"]);
        let compared =
            ["compare", "--signal", "--systems", "pca", "--data", data, "--size", "16", "--steps", "1"];
        ganomede(compared.iter().chain(&flags)).refused(2, &[flags[0], "--signal"]);
    }
}

/// The order of a file changes neither who is held out on average nor the promise of the threshold.
#[test]
fn thresholds_keep_their_promise_whatever_the_order_of_the_file() {
    let at = folder("order");
    // The last normal rows are quiet: alone they would promise too much.
    let quiet = |i: usize| row(i, if i < 1100 { 1.5 } else { 0.2 });
    let orders: [(&str, Vec<usize>); 3] = [
        ("quiet-last", (0..1400).collect()),
        ("quiet-first", (0..1400).rev().collect()),
        ("mixed", (0..1400).map(|i| i * 611 % 1400).collect()),
    ];
    for (name, order) in orders {
        let rows = order.iter().map(|&i| quiet(i));
        let data = written(&at, &format!("{name}.csv"), "a,b,c,state", rows);
        let model = at.join(format!("{name}.safetensors"));
        let mut rates = vec![];
        for seed in ["0", "1", "2", "3"] {
            train(&data, &model, &["--normal-class", "run", "--seed", seed]).well();
            rates.push(eval(&model, &data, &[])["threshold"]["false_alarm_rate"].as_f64().unwrap());
        }
        // 105 rows are held out: a rate of 0.05 is kept on average, with a standard deviation of about 0.02 a
        // seed.
        let mean = rates.iter().sum::<f64>() / rates.len() as f64;
        assert!(mean <= 0.08 && mean > 0.0, "{name}: {rates:?}");
    }
}

#[test]
fn rows_are_scored_one_a_line_with_labels_or_without() {
    let at = folder("score");
    let data = written(&at, "states.csv", "a,b,c,state", (0..240).map(|i| row(i, 0.4)));
    let model = at.join("m.safetensors");
    train(&data, &model, &["--normal-class", "run"]).well();
    let mut new: Vec<[String; 4]> = (300..340).map(|i| row(i, 0.4)).collect();
    new[3][3] = String::new();
    let labelled = written(&at, "new.csv", "a,b,c,state", new.iter().cloned());
    let bare = at.join("bare.csv");
    let lines: String = new.iter().map(|row| row[..3].join(",") + "\n").collect();
    std::fs::write(&bare, format!("a,b,c\n{lines}")).unwrap();

    let scored =
        |file: &Path, more: &[&str]| ganomede(["score", text(&model), text(file)].iter().chain(more));
    let (with, without) = (scored(&labelled, &["--json"]).json(), scored(&bare, &["--json"]).json());
    let rows = with["images"].as_array().unwrap();
    assert_eq!(rows.len(), 40);
    let mut flagged = 0;
    let quantiles = ModelFile::load(&model).unwrap().header.calibration.unwrap().quantiles;
    for (i, (row, other)) in rows.iter().zip(without["images"].as_array().unwrap()).enumerate() {
        assert_eq!((&row["row"], &row["path"]), (&i.into(), &text(&labelled).into()));
        assert_eq!((&row["score"], &row["probability"]), (&other["score"], &other["probability"]));
        let score = row["score"].as_f64().unwrap();
        assert_eq!(row["probability"], quantiles.probability(score));
        assert_eq!(row["anomalous"], score >= with["threshold"].as_f64().unwrap());
        flagged += usize::from(row["anomalous"] == true);
    }
    assert!(flagged >= 5, "{flagged} of 10 faults");
    let printed = scored(&bare, &[]).stdout;
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!((lines.len(), lines[0]), (41, "score\tpercentile\tverdict\trow\ttable"));
    assert_eq!(lines[40].split('\t').nth(3), Some("39"));
    let part = scored(&labelled, &["--json", "--limit-test", "7"]).json();
    let part = part["images"].as_array().unwrap();
    assert_eq!(part.len(), 7);
    for one in part {
        assert_eq!(one["score"], rows[one["row"].as_u64().unwrap() as usize]["score"]);
    }
    scored(&bare, &["--maps", text(&at)]).refused(2, &["--maps"]);
    ganomede(["eval", text(&model), "--data", text(&bare)]).refused(2, &["bare.csv", "--label-column"]);
}

#[test]
fn a_header_of_numbers_is_a_header_and_can_be_stated() {
    let at = folder("header");
    let data = written(&at, "years.csv", "2019,2020,2021,state", (0..120).map(|i| row(i, 0.4)));
    let model = at.join("m.safetensors");
    let ended = train(&data, &model, &["--normal-class", "run"]);
    ended.well();
    assert!(
        ended.stderr.contains("the first row is taken for the names of the columns (2019, 2020"),
        "{}",
        ended.stderr
    );
    let scored = |more: &[&str]| {
        let fixed = ["score", text(&model), text(&data), "--json"];
        let document = ganomede(fixed.iter().chain(more)).json();
        document["images"].as_array().unwrap().len()
    };
    assert_eq!((scored(&[]), scored(&["--header", "yes"]), scored(&["--header", "no"])), (120, 120, 121));
}

#[test]
fn offsets_do_not_matter_and_absurd_values_are_named() {
    let at = folder("offsets");
    let shifted = |name: &str, offset: i64| {
        let row = |i: usize| {
            let is_late = i % 5 == 4;
            let t = if is_late { 150 + i as i64 % 30 } else { i as i64 % 60 };
            [
                (offset + t).to_string(),
                format!("{:.3}", noise(i, 1)),
                "7".into(),
                u8::from(is_late).to_string(),
            ]
        };
        written(&at, name, "t,x,constant,label", (0..200).map(row))
    };
    let score = ["--score", "t2"];
    let scores = |data: &Path| {
        let model = at.join("m.safetensors");
        train(data, &model, &score).well();
        let found = eval(&model, data, &[]);
        (found["auroc"].clone(), found["threshold"]["value"].clone())
    };
    let zero = scores(&shifted("zero.csv", 0));
    assert_eq!(zero.0, 1.0);
    assert_eq!(scores(&shifted("epoch.csv", 1_700_000_000)), zero);
    assert_eq!(scores(&shifted("milliseconds.csv", 1_700_000_000_000)), zero);
    // Row 4 is late, so it is tested: 1e39 is as late as can be.
    let lines = std::fs::read_to_string(at.join("zero.csv")).unwrap();
    let late = lines.lines().nth(5).unwrap();
    let absurd = at.join("absurd.csv");
    std::fs::write(&absurd, lines.replacen(late, &late.replacen("154", "1e39", 1), 1)).unwrap();
    assert!(std::fs::read_to_string(&absurd).unwrap().contains("\n1e39,"));
    assert_eq!(scores(&absurd).0, 1.0);
    let normal: String = (0..50).map(|i| format!("{i},{},7,0\n", i % 7)).collect();
    std::fs::write(&absurd, format!("t,x,constant,label\n{}", normal.replace("\n20,", "\n1e39,"))).unwrap();
    train(&absurd, &at.join("m.safetensors"), &score).refused(2, &["absurd.csv", "row 20, column `t`"]);
}
