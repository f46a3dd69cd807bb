//! Tables: KDD99 as the papers use it, numbers with a label, splits and scaling.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{gzip, refusal};
use ganomede_datasets::signal::HeaderRow;
use ganomede_datasets::{DataError, MinMax, Schema, Split, Table, TableOptions, Trained, Truth};
use tempfile::tempdir;

fn open(path: &Path, options: &TableOptions) -> Result<Table, DataError> {
    Table::open(path.to_str().unwrap(), options)
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A record of KDD99's form.
fn record(duration: usize, service: &str, host_login: u8, label: &str) -> String {
    let rest = vec!["0"; 15].join(",");
    let zeros = vec!["0.00"; 19].join(",");
    let mut fields = format!("{duration},tcp,{service},SF,{rest},0,{host_login},0,{zeros}");
    // Columns 5 to 20 are numbers but `land` and `logged_in`, which are 0 or 1 as well.
    fields = fields.split(',').take(41).collect::<Vec<_>>().join(",");
    format!("{fields},{label}\n")
}

#[test]
fn kdd99_has_121_features_and_attacks_are_normal() {
    let dir = tempdir().unwrap();
    let attack = |i: usize| record(i, ["http", "ecr_i", "smtp"][i % 3], 0, "smurf.");
    let text: String =
        (0..400).map(attack).chain((0..200).map(|i| record(i, "http", 0, "normal."))).collect();
    let path = dir.path().join("kddcup.data_10_percent.gz");
    fs::write(&path, gzip(text.as_bytes())).unwrap();
    let table = open(&path, &TableOptions::default()).unwrap();
    assert_eq!((table.layout(), table.features().len(), table.unknown_categories()), ("kdd99", 121, 0));
    assert!((0..table.len(Split::Train)).all(|i| table.truth(Split::Train, i) == Truth::Normal));
    // Half of 600 is drawn; its attacks train. The test keeps the other attacks and a fifth of anomalies.
    let (train, test) = (table.len(Split::Train), table.len(Split::Test));
    let anomalous = (0..test).filter(|&i| table.truth(Split::Test, i) == Truth::Anomalous).count();
    assert_eq!(train + test - anomalous, 400);
    assert_eq!(anomalous, (test - anomalous) / 4);
    let row = table.gather(Split::Test, &[0]);
    assert_eq!(row.len(), 121);
    let of = |name: &str| table.features().iter().position(|f| f == name).unwrap();
    let services = of("service=IRC")..of("service=whois") + 1;
    assert_eq!((services.len(), of("protocol_type=icmp"), of("duration")), (66, 1, 0));
    let everything = table.gather(Split::Train, &(0..train).collect::<Vec<_>>());
    for row in everything.chunks(121) {
        // One-hot columns that are constant among the training rows are 0 after scaling; the three services
        // are not.
        assert_eq!(row[services.clone()].iter().sum::<f32>(), 1.0);
        assert!(row.iter().all(|v| (0.0..=1.0).contains(v)));
    }
}

#[test]
fn kdd99_files_that_do_not_fit_say_where() {
    let dir = tempdir().unwrap();
    let good: String = (0..8).map(|i| record(i, "http", 0, "smurf.")).collect();
    let refused = |line: String| {
        let path = written(dir.path(), "kdd.csv", &format!("{good}{line}"));
        refusal(open(&path, &TableOptions::default()))
    };
    assert!(
        refused(record(1, "http", 0, "smurf.").replacen('1', "one", 1))
            .contains("line 9, column 1, `duration`: `one`")
    );
    assert!(refused("1,2,3\n".into()).contains("line 9 has 3 fields"));
    let path = written(dir.path(), "kdd.csv", &format!("{good}{}", record(1, "warp", 1, "smurf.")));
    assert_eq!(open(&path, &TableOptions::default()).unwrap().unknown_categories(), 2);
    let only = (0..8).map(|i| record(i, "http", 0, "normal.")).collect::<String>();
    let path = written(dir.path(), "kdd.csv", &only);
    assert!(refusal(open(&path, &TableOptions::default())).contains("no normal row"));
    let normal_labels = vec!["normal".to_string()];
    let plain = TableOptions { normal_labels, ..TableOptions::default() };
    assert_eq!(open(&path, &plain).unwrap().len(Split::Train), 4);
}

/// `n` rows, of which every fifth is anomalous; the first column is the row's number.
fn numbers(folder: &Path, n: usize, outlier: f32) -> PathBuf {
    let line = |i: usize| match i % 5 {
        4 => format!("{i},{outlier},bad\n"),
        _ => format!("{i},{},good\n", i % 7),
    };
    let lines: String = (0..n).map(line).collect();
    written(folder, "numbers.csv", &format!("id,x,label\n{lines}"))
}

#[test]
fn splits_share_no_row_and_depend_on_the_seed_alone() {
    let dir = tempdir().unwrap();
    let path = numbers(dir.path(), 1000, 50.0);
    let rows = |options: &TableOptions, split| {
        let table = open(&path, options).unwrap();
        (0..table.len(split)).map(|i| table.source_row(split, i)).collect::<Vec<_>>()
    };
    for seed in 0..5 {
        for train_fraction in [0.1, 0.5, 0.8] {
            let options =
                TableOptions { seed, train_fraction: Some(train_fraction), ..TableOptions::default() };
            let (train, test) = (rows(&options, Split::Train), rows(&options, Split::Test));
            // No row is dropped: what is not trained on is tested.
            assert_eq!(test.len(), 1000 - train.len());
            assert!(train.len().abs_diff((800.0 * train_fraction) as usize) < 40, "{}", train.len());
            assert!(train.iter().all(|row| row % 5 != 4 && !test.contains(row)));
            assert_eq!(train, rows(&options, Split::Train));
        }
    }
    let seeded = |seed| rows(&TableOptions { seed, ..TableOptions::default() }, Split::Train);
    assert_ne!(seeded(0), seeded(1));
    let fifth = TableOptions { anomaly_share: Some(0.1), ..TableOptions::default() };
    let test = rows(&fifth, Split::Test);
    let anomalous = test.iter().filter(|row| *row % 5 == 4).count();
    assert_eq!(anomalous, (test.len() - anomalous) / 9);
}

#[test]
fn scaling_is_numpys_and_never_sees_a_test_row() {
    let dir = tempdir().unwrap();
    // Anomalies are never trained on, so their values cannot reach the statistics.
    let first = open(&numbers(dir.path(), 500, 50.0), &TableOptions::default()).unwrap();
    let (scale, digest) = (first.scale().clone(), first.digest());
    let second = open(&numbers(dir.path(), 500, -1e20), &TableOptions::default()).unwrap();
    assert_eq!((second.scale(), second.digest()), (&scale, digest));
    assert!(scale.min[1] >= 0.0 && scale.max[1] <= 6.0);
    let of_train = (0..first.len(Split::Train)).map(|i| first.source_row(Split::Train, i) as f64);
    assert_eq!(scale.max[0], of_train.fold(0.0, f64::max));
    let train = first.gather(Split::Train, &(0..first.len(Split::Train)).collect::<Vec<_>>());
    assert!(train.iter().all(|v| (0.0..=1.0).contains(v)));

    // tests/goldens/tables.py
    let path = written(dir.path(), "n.csv", "1,10,0\n2,10,0\n4,10,0\n9,10,0\n100,-3,1\n-50,11,1\n");
    let scale = MinMax { min: vec![1.0, 10.0], max: vec![9.0, 10.0] };
    let schema = open(&path, &TableOptions::default()).unwrap().schema().clone();
    let trained = Trained { schema, scale, ..Trained::default() };
    let table = open(&path, &TableOptions { trained: Some(trained), ..TableOptions::default() }).unwrap();
    let expected = [[0.0, 0.0], [0.125, 0.0], [0.375, 0.0], [1.0, 0.0], [12.375, -13.0], [-6.375, 1.0]];
    assert_eq!((table.len(Split::Train), table.len(Split::Test)), (0, 6), "another file is tested whole");
    assert_eq!(table.gather_rows(0..6), expected.concat());
    assert_eq!(table.gather(Split::Test, &[4]), expected[4]);
}

#[test]
fn hostile_tables_and_options_are_refused() {
    let dir = tempdir().unwrap();
    let refused = |text: &str, options: &TableOptions| {
        let path = written(dir.path(), "bad.csv", text);
        refusal(open(&path, options))
    };
    let plain = TableOptions::default();
    assert!(refused("", &plain).contains("no row"));
    assert!(refused("a,label\n", &plain).contains("no row"));
    assert!(refused("a,label\n1,0\n2\n", &plain).contains("line 3 has 1 fields"));
    assert!(refused("a,label\n1,0\n,0\n", &plain).contains("line 3, column 1"));
    assert!(refused("a,label\n1,0\nred,0\n", &plain).contains("`red` is not a number"));
    assert!(refused("a,label\n1,x\n2,y\n", &plain).contains("its labels are x, y"));
    assert!(refused("label\n0\n", &plain).contains("0 columns beside"));
    let named = TableOptions { label_column: Some("class".into()), ..plain.clone() };
    assert!(refused("a,label\n1,0\n", &named).contains("no column `class`"));
    for share in [0.0, 1.5, -0.5, f64::NAN] {
        let bad = TableOptions { train_fraction: Some(share), ..plain.clone() };
        assert!(refused("a,label\n1,0\n", &bad).contains("train fraction"));
    }
    let one = open(&written(dir.path(), "one.csv", "a,label\n1,0\n2,0\n"), &plain).unwrap();
    let scale = MinMax { min: vec![0.0; 3], max: vec![1.0; 3] };
    let narrow = Trained { schema: one.schema().clone(), scale, ..Trained::default() };
    let narrow = TableOptions { trained: Some(narrow), ..plain.clone() };
    assert!(refused("a,label\n1,0\n2,0\n", &narrow).contains("trained on 3"));
    assert!(refusal(open(&dir.path().join("none.csv"), &plain)).contains("no such file"));
}

/// What a model would keep of a table.
fn trained(table: &Table, normal: &[&str]) -> TableOptions {
    let trained = Trained {
        schema: table.schema().clone(),
        scale: table.scale().clone(),
        digest: table.digest(),
        normal_labels: normal.iter().map(|label| label.to_string()).collect(),
        ..Trained::default()
    };
    TableOptions { trained: Some(trained), ..TableOptions::default() }
}

/// 60 rows of two readings and a time in seconds since 1970, the third of which are faults.
fn readings(order: [&str; 4]) -> String {
    let field = |i: usize, name: &str| match name {
        "t" => (1_700_000_000 + i).to_string(),
        "x" => format!("{:.3}", (i as f64 * 0.7).sin()),
        "y" => (1000 * (i % 7)).to_string(),
        "state" => ["run", "run", "fault"][i % 3].to_string(),
        _ => i.to_string(),
    };
    let row = |i: usize| order.map(|name| field(i, name)).join(",") + "\n";
    order.join(",") + "\n" + &(0..60).map(row).collect::<String>()
}

#[test]
fn columns_are_found_by_name_and_the_models_own_file_is_known_again() {
    let dir = tempdir().unwrap();
    let runs =
        TableOptions { normal_labels: vec!["run".into()], val_fraction: 0.2, ..TableOptions::default() };
    let first = written(dir.path(), "txy.csv", &readings(["t", "x", "y", "state"]));
    let own = open(&first, &runs).unwrap();
    assert_eq!(own.features(), ["t", "x", "y"]);
    let model = trained(&own, &["run"]);
    let same = open(&first, &model).unwrap();
    assert!(same.is_own() && same.held_out().is_empty(), "val-fraction belongs to the options");
    let test = |table: &Table| {
        (0..table.len(Split::Test)).map(|i| table.source_row(Split::Test, i)).collect::<Vec<_>>()
    };
    assert_eq!(test(&same), test(&own));

    let other = written(dir.path(), "other.csv", &readings(["state", "y", "t", "x"]));
    let moved = open(&other, &model).unwrap();
    assert!(moved.is_own() && moved.notes().iter().any(|note| note.contains("another order")));
    assert_eq!(moved.gather_rows(0..60), own.gather_rows(0..60));
    assert_eq!(
        (0..20).map(|i| moved.truth(Split::Test, i)).collect::<Vec<_>>(),
        (0..20).map(|i| own.truth(Split::Test, i)).collect::<Vec<_>>()
    );

    let lacking = written(dir.path(), "lacking.csv", &readings(["t", "X", "y", "state"]));
    let reason = refusal(open(&lacking, &model));
    assert!(reason.contains("trained on: x (it has X that"), "{reason}");
    let more = "state,y,t,x,id\nrun,0,1700000000,0.5,7\n";
    let more = open(&written(dir.path(), "more.csv", more), &model).unwrap();
    assert!(more.notes().iter().any(|note| note.ends_with("left out: id")), "{:?}", more.notes());
    assert!(!more.is_own() && more.len(Split::Test) == 1);
    let bare = open(&written(dir.path(), "bare.csv", "t,x,y\n1700000000,0.5,0\n"), &model).unwrap();
    assert!(!bare.is_labelled() && bare.rows() == 1 && bare.unlabelled() == 1);
    let unnamed =
        open(&written(dir.path(), "n.csv", "1700000000,0.5,0\n1700000001,0.5,0\n"), &model).unwrap();
    assert!(unnamed.notes().iter().any(|note| note.contains("taken by their places")));
    let twice = written(dir.path(), "twice.csv", "t,x,x,state\n1,2,3,run\n");
    assert!(refusal(open(&twice, &runs)).contains("two columns are called `x`"));
    for change in [
        |schema: &mut Schema| schema.width = 7,
        |schema: &mut Schema| schema.layout = "kdd99".into(),
        |schema: &mut Schema| schema.width = usize::MAX,
    ] {
        let mut altered = model.clone();
        altered.trained.iter_mut().for_each(|trained| change(&mut trained.schema));
        assert!(refusal(open(&first, &altered)).contains("do not fit each other"));
    }
    let narrow = written(dir.path(), "narrow.csv", "1700000000,0.5\n1700000001,0.5\n");
    assert!(refusal(open(&narrow, &model)).contains("has 2 columns, but the model was trained on 3"));
}

#[test]
fn labels_mean_what_they_meant_in_training() {
    let dir = tempdir().unwrap();
    let path = written(dir.path(), "r.csv", &readings(["t", "x", "y", "state"]));
    let list = |labels: &[&str]| labels.iter().map(|label| label.to_string()).collect::<Vec<String>>();
    let own =
        open(&path, &TableOptions { normal_labels: list(&["run"]), ..TableOptions::default() }).unwrap();
    let model = trained(&own, &["run"]);
    let truths = |options: &TableOptions| {
        let table = open(&path, options).unwrap();
        (0..table.len(Split::Test)).map(|i| table.truth(Split::Test, i)).collect::<Vec<_>>()
    };
    let flagged = TableOptions { normal_labels: list(&["RUN"]), ..model.clone() };
    assert_eq!(truths(&model), truths(&flagged));
    assert_eq!(truths(&model).iter().filter(|&&truth| truth == Truth::Anomalous).count(), 20);
    for (normal, anomalous) in [(list(&["fault"]), list(&[])), (list(&[]), list(&["run"]))] {
        let contrary = TableOptions { normal_labels: normal, anomalous_labels: anomalous, ..model.clone() };
        assert!(refusal(open(&path, &contrary)).contains("when the model was trained"));
    }
    let unmet = TableOptions { normal_labels: list(&["run", "rnu"]), ..TableOptions::default() };
    assert!(refusal(open(&path, &unmet)).contains("no row has the label `rnu`; its labels are fault, run"));
    let both = TableOptions {
        normal_labels: list(&["run"]),
        anomalous_labels: list(&["Run"]),
        ..TableOptions::default()
    };
    assert!(refusal(open(&path, &both)).contains("choose one"));

    // A label that the model has not met follows its rule, and is named; rows without one are left out.
    let new = "t,x,y,state\n1700000000,0,0,run\n1700000001,0,0,jam\n1700000002,0,0,\n";
    let new = open(&written(dir.path(), "new.csv", new), &model).unwrap();
    assert_eq!((new.len(Split::Test), new.unlabelled()), (2, 1));
    assert!(
        new.notes().iter().any(|note| note == "labels that the model has not met: jam"),
        "{:?}",
        new.notes()
    );

    // Labels by number, one class of several, and a column that is not the last.
    let codes: String = (0..30).map(|i| format!("{}.0,{},{}\n", i % 3, i, i * i)).collect();
    let codes = written(dir.path(), "codes.csv", &format!("class,a,b\n{codes}"));
    let two = TableOptions {
        normal_labels: list(&["1"]),
        anomalous_labels: list(&["2"]),
        ..TableOptions::default()
    };
    let two = open(&codes, &two).unwrap();
    assert_eq!((two.features(), two.unlabelled()), (&list(&["a", "b"])[..], 10));
    assert_eq!(two.len(Split::Train) + two.len(Split::Test), 20);
    let measures = written(dir.path(), "m.csv", "a,b,c\n1,2,0.37\n2,3,0.41\n");
    let reason = refusal(open(&measures, &TableOptions::default()));
    assert!(reason.contains("line 2: `0.37` in the column of the labels is a measure"), "{reason}");
}

#[test]
fn rows_are_held_out_at_random_and_scaling_does_not_see_them() {
    let dir = tempdir().unwrap();
    let rows: String = (0..400).map(|i| format!("{i},{},0\n", i * i)).collect();
    let path = written(dir.path(), "rising.csv", &format!("a,b,label\n{rows}"));
    let seeded = |seed| {
        let options = TableOptions { seed, val_fraction: 0.1, ..TableOptions::default() };
        open(&path, &options).unwrap()
    };
    let table = seeded(0);
    // Normal rows only: all are trained on or held out.
    assert_eq!((table.len(Split::Train), table.held_out().len(), table.len(Split::Test)), (360, 40, 0));
    let quarters = table.held_out().iter().fold([0; 4], |mut counts, &row| {
        counts[row as usize / 100] += 1;
        counts
    });
    assert!(quarters.iter().all(|&count| count >= 3), "{quarters:?}");
    assert_eq!(table.held_out(), seeded(0).held_out());
    assert_ne!(table.held_out(), seeded(1).held_out());
    let trained_on: Vec<usize> = (0..360).map(|i| table.source_row(Split::Train, i)).collect();
    assert!(table.held_out().iter().all(|&row| !trained_on.contains(&(row as usize))));
    let largest = trained_on.iter().max().unwrap();
    assert_eq!(table.scale().max[0], *largest as f64);
    // One of eight seeds at least holds the last row out: then it leaves [0, 1].
    let leaves = |seed| seeded(seed).gather_rows(0..400).iter().any(|v| *v > 1.0);
    assert!((0..8).any(leaves));
}

#[test]
fn numbers_keep_double_precision_until_they_are_scaled() {
    let dir = tempdir().unwrap();
    let rows = |offset: i64| -> String {
        (0..80).map(|i: i64| format!("{},{},{}\n", offset + i % 40, i % 3, i64::from(i % 40 > 30))).collect()
    };
    let opened = |name: &str, text: String| {
        let text = format!("t,flag,label\n{text}");
        open(&written(dir.path(), name, &text), &TableOptions::default())
    };
    let zero = opened("zero.csv", rows(0)).unwrap();
    for offset in [1_700_000_000, 1_700_000_000_000, -62_135_596_800] {
        let moved = opened("moved.csv", rows(offset)).unwrap();
        assert_eq!(moved.gather_rows(0..80), zero.gather_rows(0..80), "{offset}");
    }
    // In a test row an absurd value is far; where it would be trained on, it is named.
    let far = rows(0).replace("35,2,1", "1e39,2,1");
    assert_eq!(far.matches("1e39").count(), 1);
    let table = opened("far.csv", far).unwrap();
    assert_eq!(table.gather_rows([35])[0], 1e9);
    let said = table.notes().join("\n");
    assert!(
        said.contains("1 values lie more than 1e9 times") && said.contains("row 35, `t`: 1e39"),
        "{said}"
    );
    let normals: String = (0..50).map(|i| format!("{i},{},0\n", i % 3)).collect();
    let reason = refusal(opened("out.csv", normals.replace("\n17,2,0", "\n1e39,2,0")));
    assert!(reason.contains("row 17, column `t`") && reason.contains("no room"), "{reason}");
    for word in ["inf", "-Infinity", "nan", "NaN", "1e400", "", "null", "0x10", "1,5"] {
        let reason = refusal(opened("word.csv", format!("1,{word},0\n2,0,0\n").replace("1,0,0", "1,0,0")));
        assert!(
            reason.contains("line 2") && (reason.contains("`flag`") || word == "1,5"),
            "{word}: {reason}"
        );
    }
}

#[test]
fn headers_may_be_numbers() {
    let dir = tempdir().unwrap();
    let row = |i: usize| format!("0.{i:02},1.{i:02},{},{}\n", i * 3, if i % 4 == 3 { "bad" } else { "good" });
    let rows: String = (0..40).map(row).collect();
    let opened = |first: &str, header| {
        let path = written(dir.path(), "years.csv", &format!("{first}{rows}"));
        open(&path, &TableOptions { header, ..TableOptions::default() })
    };
    let years = opened("2019,2020,2021,label\n", HeaderRow::Auto).unwrap();
    assert_eq!((years.rows(), years.features()), (40, &["2019", "2020", "2021"].map(String::from)[..]));
    assert!(years.notes().iter().any(|note| note.contains("2019, 2020, 2021, label")), "{:?}", years.notes());
    let values = opened("2019,2020,2021,label\n", HeaderRow::No).unwrap();
    assert_eq!((values.rows(), values.features()[0].as_str()), (41, "c0"));
    let none = opened("", HeaderRow::Auto).unwrap();
    assert_eq!(none.rows(), 40);
    assert_eq!(opened("", HeaderRow::Yes).unwrap().rows(), 39);
    let frame = opened("0,1,2,3\n", HeaderRow::Auto).unwrap();
    assert_eq!((frame.rows(), frame.schema().label.as_str()), (40, "3"));
}
