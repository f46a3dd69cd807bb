//! Series: times, zones, order, channels by name, labels in both files of a folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::refusal;
use ganomede_datasets::{DataError, SignalOptions, SignalSet, TrainPart, Windows};
use tempfile::tempdir;

fn rows(n: usize) -> SignalOptions {
    SignalOptions { train: Some(TrainPart::Rows(n)), ..SignalOptions::default() }
}

fn open(path: &Path, options: &SignalOptions) -> Result<SignalSet, DataError> {
    SignalSet::open(path.to_str().unwrap(), options)
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn labelled(path: &Path, labels: &Path, train: usize) -> Result<SignalSet, DataError> {
    open(path, &SignalOptions { labels: Some(labels.to_path_buf()), ..rows(train) })
}

fn anomalous(set: &SignalSet) -> Vec<usize> {
    (0..set.labels().len()).filter(|&row| set.labels()[row]).collect()
}

/// Ten minutes, a row each, in an order, whose value is the minute.
fn minutes(order: &[usize], time: impl Fn(usize) -> String) -> String {
    let lines: String = order.iter().map(|&i| format!("{},{i}\n", time(i))).collect();
    format!("timestamp,a\n{lines}")
}

#[test]
fn rows_are_put_in_order_of_time_with_their_labels() {
    let dir = tempdir().unwrap();
    let time = |i| format!("2024-03-01 00:{i:02}:00");
    let order = [3, 0, 9, 1, 2, 8, 4, 7, 6, 5];
    let shuffled = written(dir.path(), "shuffled.csv", &minutes(&order, time));
    let sorted = written(dir.path(), "sorted.csv", &minutes(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], time));
    let windows = written(dir.path(), "w.json", r#"[["2024-03-01 00:06:00", "2024-03-01 00:08:00"]]"#);
    let (a, b) = (labelled(&shuffled, &windows, 5).unwrap(), labelled(&sorted, &windows, 5).unwrap());
    assert_eq!((anomalous(&a), anomalous(&b)), (vec![6, 7, 8], vec![6, 7, 8]));
    assert_eq!(
        (0..10).map(|i| a.series().row(i)[0]).collect::<Vec<_>>(),
        (0..10).map(f64::from).collect::<Vec<_>>()
    );
    assert_eq!((a.scale(), a.digest()), (b.scale(), b.digest()));
    assert!(
        a.notes()[0].contains("after row 0, 2024-03-01 00:03:00, comes 2024-03-01 00:00:00"),
        "{:?}",
        a.notes()
    );
    assert!(b.notes().is_empty(), "{:?}", b.notes());
    // Labels of the file's rows go with them, from a file of their own and from a column.
    let ones: String = order.iter().map(|i| if (6..9).contains(i) { "1\n" } else { "0\n" }).collect();
    let ones = written(dir.path(), "ones.csv", &ones);
    assert_eq!(anomalous(&labelled(&shuffled, &ones, 5).unwrap()), [6, 7, 8]);
    let column: String = order.iter().map(|&i| format!("{},{i},{}\n", time(i), u8::from(i == 7))).collect();
    let column = written(dir.path(), "column.csv", &format!("timestamp,a,is_anomaly\n{column}"));
    let set = open(&column, &SignalOptions { label_column: Some("is_anomaly".into()), ..rows(5) }).unwrap();
    assert_eq!(anomalous(&set), [7]);
    // Newest first, with a gap that holds the value before it in time, not in the file.
    let newest = written(dir.path(), "n.csv", "time,a\n2024-01-03,3\n2024-01-02,\n2024-01-01,1\n");
    let set = open(&newest, &rows(2)).unwrap();
    assert_eq!((0..3).map(|i| set.series().row(i)[0]).collect::<Vec<_>>(), [1.0, 1.0, 3.0]);
    assert!(set.notes()[1].contains("1 of 3 values are missing"), "{:?}", set.notes());
    let twice = written(dir.path(), "t.csv", "time,a\n2024-01-01,3\n2024-01-01,4\n2024-01-02,1\n");
    assert!(open(&twice, &rows(2)).unwrap().notes()[0].contains("1 row has the time of the row before it"));
}

#[test]
fn zones_are_kept_and_windows_without_one_are_of_the_same_clock() {
    let dir = tempdir().unwrap();
    let path = written(
        dir.path(),
        "kst.csv",
        &minutes(&[0, 1, 2, 3, 4, 5], |i| format!("2024-03-01T00:0{i}:00+09:00")),
    );
    let with = |text: &str| labelled(&path, &written(dir.path(), "w.json", text), 2);
    let set = with(r#"[["2024-03-01 00:03:00", "2024-03-01 00:04:00"]]"#).unwrap();
    assert_eq!((anomalous(&set), set.series().time(0)), (vec![3, 4], Some("2024-03-01T00:00:00+09:00")));
    let set = with(r#"[["2024-02-29T15:03:00Z", "2024-02-29 16:04:00+01:00"]]"#).unwrap();
    assert_eq!(anomalous(&set), [3, 4]);
    let before = |text: &str| open(&path, &SignalOptions { train: Some(text.parse().unwrap()), ..rows(0) });
    assert_eq!(before("before:2024-03-01 00:02:00").unwrap().train_rows(), 0..2);
    assert_eq!(before("before:2024-02-29T15:02:00Z").unwrap().train_rows(), 0..2);
    // A zone that the series cannot be told in is refused, not dropped.
    let plain = written(dir.path(), "plain.csv", &minutes(&[0, 1, 2], |i| format!("2024-03-01 00:0{i}:00")));
    let zoned =
        written(dir.path(), "z.json", r#"[["2024-03-01 00:01:00+09:00", "2024-03-01 00:02:00+09:00"]]"#);
    assert!(
        refusal(labelled(&plain, &zoned, 1)).contains("has a zone, but the times of the series have none")
    );
    let mixed = written(dir.path(), "m.csv", "time,a\n2024-03-01 00:00:00Z,1\n2024-03-01 00:01:00,2\n");
    assert!(refusal(open(&mixed, &rows(1))).contains("line 3, column 1"));
}

#[test]
fn the_unit_of_numbers_is_found_and_said() {
    let dir = tempdir().unwrap();
    for (scale, unit) in
        [(1, "seconds"), (1_000, "milliseconds"), (1_000_000, "microseconds"), (1_000_000_000, "nanoseconds")]
    {
        let time = |i: usize| ((1_709_251_200 + 60 * i as i64) * scale).to_string();
        let path = written(dir.path(), "n.csv", &minutes(&[0, 1, 2, 3, 4], time));
        let dates = written(dir.path(), "w.json", r#"[["2024-03-01 00:02:00", "2024-03-01 00:03:00"]]"#);
        let set = labelled(&path, &dates, 2).unwrap();
        assert_eq!((anomalous(&set), set.series().time(4)), (vec![2, 3], Some(time(4).as_str())));
        let said = format!("taken as {unit} since 1970: 2024-03-01 00:00:00 to 2024-03-01 00:04:00");
        assert!(set.notes()[0].contains(&said), "{:?}", set.notes());
        let numbers = written(dir.path(), "w.csv", &format!("start,end\n{},{}\n", time(1), time(2)));
        assert_eq!(anomalous(&labelled(&path, &numbers, 1).unwrap()), [1, 2]);
    }
}

#[test]
fn intervals_are_cut_at_the_ends_and_told_apart_where_they_touch() {
    let dir = tempdir().unwrap();
    let path = written(dir.path(), "a.csv", &(0..40).map(|i| format!("{i},{}\n", i * i)).collect::<String>());
    let with = |text: &str| labelled(&path, &written(dir.path(), "i.csv", text), 20);
    let set = with("start,end\n39,40\n22,24\n25,27\n10,21\n26,30\n").unwrap();
    assert_eq!(set.segments(20..40), [20..22, 22..25, 25..31, 39..40]);
    assert_eq!(set.segments(0..20).first(), Some(&(10..20)));
    assert!(
        set.notes().iter().any(|n| n.contains("1 of 5 labelled intervals reach beyond")),
        "{:?}",
        set.notes()
    );
    assert!(
        set.notes().iter().any(|n| n.contains("10 of the 20 training rows are labelled")),
        "{:?}",
        set.notes()
    );
    assert!(refusal(with("start,end\n40,41\n")).contains("numbers 0 to 39"));
    let late = written(dir.path(), "t.csv", &minutes(&[0, 1, 2, 3], |i| format!("2024-03-01 00:0{i}:00")));
    let text = r#"[["2024-03-01 00:03:00", "2024-03-01 09:00:00"], ["2024-02-01", "2024-03-01 00:00:30"]]"#;
    let set = labelled(&late, &written(dir.path(), "w.json", text), 1).unwrap();
    assert_eq!((anomalous(&set), set.notes().len()), (vec![0, 3], 2), "{:?}", set.notes());
    let beside = r#"[["2024-03-01 00:01:10", "2024-03-01 00:01:20"]]"#;
    assert!(
        refusal(labelled(&late, &written(dir.path(), "w.json", beside), 1))
            .contains("00:00:00 to 2024-03-01 00:03:00")
    );
}

#[test]
fn channels_of_a_model_are_found_by_their_names() {
    let dir = tempdir().unwrap();
    let trained = written(dir.path(), "abc.csv", "a,b,c\n1,10,100\n2,20,200\n3,40,300\n");
    let model = open(&trained, &rows(2)).unwrap();
    let scale = || Some(model.scale().clone());
    let scored = |name: &str, text: &str, options: SignalOptions| {
        open(&written(dir.path(), name, text), &SignalOptions { scale: scale(), ..options })
    };
    let all = Windows { length: 2, offsets: vec![0, 1] };
    let values = |set: SignalSet| set.gather(&all, &[0, 1]);
    let right = values(open(&trained, &SignalOptions { scale: scale(), ..rows(0) }).unwrap());
    let other = "C,x,A,b\n100,7,1,10\n200,7,2,20\n300,7,3,40\n";
    let set = scored("cab.csv", other, rows(0)).unwrap();
    assert!(set.notes()[0].contains("not read: x"), "{:?}", set.notes());
    assert_eq!(values(set), right);
    let chosen = |names: &[&str]| SignalOptions {
        channels: names.iter().map(ToString::to_string).collect(),
        ..rows(0)
    };
    assert_eq!(values(scored("cab.csv", other, chosen(&["b", "C", "2"])).unwrap()), right);
    assert!(refusal(scored("cab.csv", other, chosen(&["b", "C", "x"]))).contains("no channel x"));
    assert!(
        refusal(scored("cab.csv", other, chosen(&["b", "C"]))).contains("needs all of its channels: a, b, c")
    );
    assert!(
        refusal(scored("ab.csv", "a,b,d\n1,2,3\n", rows(0))).contains("lacks the channel c of the model")
    );
    assert!(
        refusal(scored("aa.csv", "a,b,c,a\n1,2,3,4\n", rows(0))).contains("several columns are called `a`")
    );
    let bare = "1,10,100\n2,20,200\n3,40,300\n";
    assert!(refusal(scored("bare.csv", bare, rows(0))).contains("knows its channels by name (a, b, c)"));
    assert_eq!(values(scored("bare.csv", bare, chosen(&["0", "1", "2"])).unwrap()), right);
    // What was trained without names is told by its columns.
    let plain = open(&written(dir.path(), "plain.csv", bare), &rows(2)).unwrap();
    let again = SignalOptions { scale: Some(plain.scale().clone()), ..rows(0) };
    assert_eq!(values(open(&written(dir.path(), "plain.csv", bare), &again).unwrap()), right);
    assert!(refusal(open(&trained, &again)).contains("lacks the channel c0, c1, c2"));
}

#[test]
fn a_folder_may_hold_labels_and_other_orders_in_both_files() {
    let dir = tempdir().unwrap();
    let folder = dir.path().join("set");
    written(&folder, "train.csv", "timestamp,a,b,is_anomaly\n1,1,5,0\n2,2,6,0\n3,3,7,0\n");
    written(&folder, "test.csv", "timestamp,is_anomaly,b,a\n4,0,8,4\n5,1,9,5\n6,0,7,6\n");
    let label = |name: &str| SignalOptions { label_column: Some(name.into()), ..SignalOptions::default() };
    let set = open(&folder, &label("is_anomaly")).unwrap();
    assert_eq!((set.series().channels.join("|"), anomalous(&set)), ("a|b".into(), vec![4]));
    assert_eq!(set.series().row(4), [5.0, 9.0]);
    assert_eq!(set.series().time(4), Some("5"));
    assert!(refusal(open(&folder, &label("truth"))).contains("no column `truth`"));
    let numbered = dir.path().join("numbered");
    written(&numbered, "train.csv", "timestamp,a,flag\n1,1,0\n2,2,0\n");
    written(&numbered, "test.csv", "timestamp,a,is_anomaly\n3,1,0\n4,2,1\n");
    assert!(refusal(open(&numbered, &label("2"))).contains("give it by its name"));
    // Labels in the training file alone are said where they contradict; without any there, it is as before.
    written(&folder, "train.csv", "timestamp,a,b,is_anomaly\n1,1,5,0\n2,2,6,1\n3,3,7,0\n");
    let set = open(&folder, &label("is_anomaly")).unwrap();
    assert!(
        set.notes().iter().any(|n| n.contains("1 of the 3 training rows are labelled")),
        "{:?}",
        set.notes()
    );
    written(&folder, "train.csv", "timestamp,b,a\n1,5,1\n2,6,2\n3,7,3\n");
    let set = open(&folder, &label("is_anomaly")).unwrap();
    assert_eq!((set.series().channels.join("|"), anomalous(&set)), ("b|a".into(), vec![4]));
}

#[test]
fn values_keep_double_precision_and_name_their_cell() {
    let dir = tempdir().unwrap();
    // Epoch seconds as a value: steps of a second 1.7e9 away from 0.
    let steps: String = (0..8).map(|i| format!("{},{i}\n", 1_700_000_000 + i)).collect();
    let set = open(&written(dir.path(), "e.csv", &format!("clock,x\n{steps}")), &rows(8)).unwrap();
    let whole = Windows { length: 8, offsets: vec![0] };
    let values = set.gather(&whole, &[0]);
    assert_eq!(values[..8], values[8..], "a clock is a ramp as good as any");
    let large = written(dir.path(), "l.csv", "x,y\n1,2\n3,1e305\n");
    assert!(refusal(open(&large, &rows(1))).contains("line 3, column 2: `1e305` is too large"));
    let huge = open(&written(dir.path(), "h.csv", "x\n1e200\n2e200\n3e200\n"), &rows(3)).unwrap();
    let values = huge.gather(&Windows { length: 3, offsets: vec![0] }, &[0]);
    assert!((values[2] + values[0]).abs() < 1e-6 && values[2] > 0.2, "{values:?}");
}
