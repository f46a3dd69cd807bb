//! Tables: KDD99 as the papers use it, numbers with a label, splits and scaling.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{gzip, refusal};
use ganomede_datasets::{DataError, Split, Table, TableOptions, Truth};
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
        // One-hot columns that are constant among the training rows are 0 after scaling; the three services are not.
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
        refused(record(1, "http", 0, "smurf.").replacen('1', "one", 1)).contains("line 9, `duration`: `one`")
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
                TableOptions { seed, train_fraction, anomaly_share: None, ..TableOptions::default() };
            let (train, test) = (rows(&options, Split::Train), rows(&options, Split::Test));
            assert_eq!(test.len(), 1000 - (1000.0 * train_fraction) as usize);
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
    let scale = ganomede_datasets::MinMax { min: vec![1.0, 10.0], max: vec![9.0, 10.0] };
    let given = TableOptions { scale: Some(scale), anomaly_share: None, ..TableOptions::default() };
    let table = open(&path, &given).unwrap();
    let expected = [[0.0, 0.0], [0.125, 0.0], [0.375, 0.0], [1.0, 0.0], [12.375, -13.0], [-6.375, 1.0]];
    for split in [Split::Train, Split::Test] {
        for i in 0..table.len(split) {
            assert_eq!(table.gather(split, &[i]), expected[table.source_row(split, i)]);
        }
    }
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
    assert!(refused("a,label\n1,0\nred,0\n", &plain).contains("`red` is no number"));
    assert!(refused("a,label\n1,x\n2,y\n", &plain).contains("its labels are x, y"));
    assert!(refused("label\n0\n", &plain).contains("0 columns beside"));
    let named = TableOptions { label_column: Some("class".into()), ..plain.clone() };
    assert!(refused("a,label\n1,0\n", &named).contains("no column `class`"));
    for share in [0.0, 1.0, -0.5, f64::NAN] {
        let bad = TableOptions { train_fraction: share, ..plain.clone() };
        assert!(refused("a,label\n1,0\n", &bad).contains("train fraction"));
    }
    let narrow = ganomede_datasets::MinMax { min: vec![0.0; 3], max: vec![1.0; 3] };
    let narrow = TableOptions { scale: Some(narrow), ..plain.clone() };
    assert!(refused("a,label\n1,0\n2,0\n", &narrow).contains("trained on 3"));
    assert!(refusal(open(&dir.path().join("none.csv"), &plain)).contains("no such file"));
}
