//! Signals: columns, gaps, labels, training parts, statistics and windows.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{gzip, refusal};
use ganomede_datasets::signal::{HeaderRow, Missing};
use ganomede_datasets::{
    DataError, Dataset, OpenOptions, SignalOptions, SignalSet, TrainPart, Truth, Windows, write_signal,
};
use proptest::prelude::*;
use tempfile::tempdir;

fn rows(n: usize) -> SignalOptions {
    SignalOptions { train: Some(TrainPart::Rows(n)), ..SignalOptions::default() }
}

fn open(path: &Path, options: &SignalOptions) -> Result<SignalSet, DataError> {
    SignalSet::open(path.to_str().unwrap(), options)
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A day of readings at half-hours, as NAB writes them.
fn half_hours(folder: &Path) -> PathBuf {
    let line = |i: usize| format!("2014-07-01 {:02}:{:02}:00,{}\n", i / 2, i % 2 * 30, i * i);
    let lines: String = (0..48).map(line).collect();
    let series = folder.join("realKnownCause");
    fs::create_dir_all(&series).unwrap();
    written(&series, "nyc_taxi.csv", &format!("timestamp,value\n{lines}"))
}

#[test]
fn columns_are_found_with_and_without_a_header() {
    let dir = tempdir().unwrap();
    let path = written(dir.path(), "a.csv", "Time, flow ,level\n10,1,4\n20,2,5\n30,3,6\n");
    let set = open(&path, &rows(2)).unwrap();
    assert_eq!((set.series().channels.join("|"), set.series().len()), ("flow|level".into(), 3));
    assert_eq!(set.series().row(2), [3.0, 6.0]);
    assert_eq!(set.series().time(1).unwrap(), "20");
    assert!(set.notes()[0].contains("taken as seconds since 1970: 1970-01-01 00:00:10"), "{:?}", set.notes());

    let bare = written(dir.path(), "b.csv", "2014-07-01 00:00:00,1,0\n2014-07-01 00:30:00,2,1\n");
    let set = open(&bare, &rows(1)).unwrap();
    assert_eq!((set.series().channels.join("|"), set.series().row(0)), ("c1|c2".into(), &[1.0, 0.0][..]));
    let labelled = SignalOptions { label_column: Some("2".into()), ..rows(1) };
    let set = open(&bare, &labelled).unwrap();
    assert_eq!((set.channels(), set.labels()), (1, &[false, true][..]));

    let numbers = written(dir.path(), "c.csv", "\u{feff}1,2\n3,4\n");
    assert_eq!(open(&numbers, &rows(1)).unwrap().series().len(), 2);
    let forced = SignalOptions { header: HeaderRow::Yes, channels: vec!["2".into()], ..rows(1) };
    assert_eq!(open(&numbers, &forced).unwrap().series().channels, ["2"]);
    let packed = dir.path().join("d.csv.gz");
    fs::write(&packed, gzip(b"x,y\n1,2\n3,4\n")).unwrap();
    assert_eq!(open(&packed, &rows(1)).unwrap().series().row(1), [3.0, 4.0]);
}

#[test]
fn gaps_hold_the_last_value_and_are_counted() {
    let dir = tempdir().unwrap();
    let path = written(dir.path(), "a.csv", "x,y\nNaN,1\n2,\n3,inf\n,4\n");
    let set = open(&path, &rows(3)).unwrap();
    let values: Vec<_> = (0..4).flat_map(|i| set.series().row(i).to_vec()).collect();
    assert_eq!(values, [2.0, 1.0, 2.0, 1.0, 3.0, 1.0, 3.0, 4.0]);
    assert_eq!(set.series().filled, [2, 2]);
    let strict = SignalOptions { missing: Missing::Refuse, ..rows(3) };
    assert!(refusal(open(&path, &strict)).contains("line 2, column 1"));
    // The first value of `y` lies among the test rows: nothing to fit to, and nothing to borrow.
    let late = written(dir.path(), "b.csv", "x,y\n1,\n2,\n3,4\n");
    assert!(refusal(open(&late, &rows(2))).contains("channel `y` has no value in the 2 training rows"));
    let never = written(dir.path(), "c.csv", "x,y\n1,\n2,nan\n");
    assert!(refusal(open(&never, &rows(1))).contains("no value in any row"));
}

#[test]
fn statistics_are_those_of_numpy_over_the_training_rows_alone() {
    let dir = tempdir().unwrap();
    let path = written(dir.path(), "a.csv", "x,y\n1,10\n2,10\n4,10\n9,10\n100,-3\n-50,11\n");
    let set = open(&path, &rows(4)).unwrap();
    // tests/goldens/tables.py
    assert_eq!((set.scale().mean[0], set.scale().sd[1]), (4.0, 1.0));
    assert!((set.scale().sd[0] - 3.082207).abs() < 1e-6);
    let scaled = set.gather(&Windows { length: 2, offsets: vec![0, 2, 4] }, &[0, 1, 2]);
    let expected = [-0.1946657, -0.12977713, 0.0, 0.0, 0.0, 0.32444283, 0.0, 0.0, 1.0, -1.0, -1.0, 0.2];
    assert_eq!(scaled.len(), expected.len());
    assert!(scaled.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{scaled:?}");
    let back = set.scale().invert(0, set.scale().apply(0, 9.0));
    assert!((back - 9.0).abs() < 1e-5);

    // Other test rows change neither the statistics nor the digest.
    let other = written(dir.path(), "b.csv", "x,y\n1,10\n2,10\n4,10\n9,10\n7777,1e30\n");
    let changed = open(&other, &rows(4)).unwrap();
    assert_eq!((changed.scale(), changed.digest()), (set.scale(), set.digest()));
    assert_ne!(open(&path, &rows(3)).unwrap().digest(), set.digest());
    // A model's scaling is taken as it is, and then no row need be trained on.
    let given = SignalOptions { scale: Some(set.scale().clone()), ..rows(0) };
    let scored = open(&other, &given).unwrap();
    assert_eq!((scored.scale(), scored.test_rows()), (set.scale(), 0..5));
    let narrow = written(dir.path(), "c.csv", "x\n1\n2\n");
    assert!(refusal(open(&narrow, &given)).contains("lacks the channel y of the model"));
}

#[test]
fn the_training_part_is_declared() {
    let dir = tempdir().unwrap();
    let path = half_hours(dir.path());
    let part = |text: &str| {
        let train = Some(text.parse().unwrap());
        open(&path, &SignalOptions { train, ..SignalOptions::default() }).unwrap().train_rows().len()
    };
    assert_eq!((part("0.5"), part("train=0.25"), part("10")), (24, 12, 10));
    assert_eq!(part("probation"), 7); // ⌊0.15 · 48⌋
    assert_eq!(part("before:2014-07-01 06:00:00"), 12);
    assert!(refusal(open(&path, &SignalOptions::default())).contains("`probation`"));
    assert!(refusal(open(&path, &rows(49))).contains("48 rows"));
    assert!(refusal(open(&path, &rows(0))).contains("no row is left"));
    for bad in ["", "1.5", "-3", "half", "before:soon", "NaN"] {
        assert!(refusal(bad.parse::<TrainPart>()).contains("train part"), "{bad}");
    }
    let set = open(&path, &rows(20)).unwrap();
    assert_eq!(set.holdout(0.1, 1).unwrap(), (0..18, 18..20));
    // A window at least, and one left to train on.
    assert_eq!(set.holdout(0.1, 8).unwrap(), (0..12, 12..20));
    assert_eq!(set.holdout(0.0, 16).unwrap(), (0..20, 20..20));
    assert!(refusal(set.holdout(0.1, 16)).contains("20 training rows, too few for a window of 16"));
    assert!(set.holdout(1.0, 1).is_err());
    assert_eq!(set.place(18..20), "rows 18 to 19 (2014-07-01 09:00:00 to 2014-07-01 09:30:00)");
}

#[test]
fn labels_come_as_nab_windows_intervals_or_one_a_row() {
    let dir = tempdir().unwrap();
    let path = half_hours(dir.path());
    let labelled = |file: PathBuf| open(&path, &SignalOptions { labels: Some(file), ..rows(8) });
    let found = |file: PathBuf| {
        let set = labelled(file).unwrap();
        assert!(set.is_labelled());
        set.intervals().iter().map(|i| (i.rows.clone(), i.kind.clone())).collect::<Vec<_>>()
    };
    let nab = r#"{"other/nyc_taxi.csv": [["2014-07-01 01:00:00", "2014-07-01 02:00:00"]],
        "realKnownCause/nyc_taxi.csv": [["2014-07-01 20:00:00.000000", "2014-07-01 21:15:00.000000"],
                                        ["2014-07-01 10:00:00.000000", "2014-07-01 10:30:00.000000"]]}"#;
    let windows = written(dir.path(), "windows.json", nab);
    let set = labelled(windows.clone()).unwrap();
    assert_eq!(found(windows), [(20..22, String::new()), (40..43, String::new())]);
    assert_eq!(set.labels().iter().filter(|&&l| l).count(), 5);
    assert_eq!((set.truth(0..20), set.truth(19..21)), (Truth::Normal, Truth::Anomalous));
    let all = Windows::new(8..48, 8, 4).unwrap();
    assert_eq!(set.without_anomalies(&all).offsets, [8, 12, 24, 28, 32]);

    let list = written(dir.path(), "list.json", r#"[["2014-07-01T10:00Z", "2014-07-01T10:30Z"]]"#);
    assert_eq!(found(list), [(20..22, String::new())]);
    let text = "kind,start,end\npump,2014-07-01 10:00:00,2014-07-01 10:30:00\n";
    assert_eq!(found(written(dir.path(), "i.csv", text)), [(20..22, "pump".into())]);
    let text = "2014-07-01 10:00:00,2014-07-01 10:30:00\n";
    assert_eq!(found(written(dir.path(), "j.csv", text)), [(20..22, String::new())]);
    let ones: String = (0..48).map(|i| if (5..8).contains(&i) || i == 47 { "1\n" } else { "0\n" }).collect();
    let runs = [(5..8, String::new()), (47..48, String::new())];
    assert_eq!(found(written(dir.path(), "k.csv", &ones)), runs);
    assert_eq!(found(written(dir.path(), "l.csv", &format!("label\n{ones}"))), runs);
    assert_eq!(open(&path, &rows(8)).unwrap().truth(0..48), Truth::Unknown);

    let refused = |name: &str, text: &str| refusal(labelled(written(dir.path(), name, text)));
    assert!(refused("a.json", r#"{"x/nyc_taxi.csv": []}"#).contains("has no windows for"));
    assert!(refused("a.json", r#"{"": []}"#).contains("has no windows for"));
    assert!(refused("b.json", "[[1,").contains("not a list of windows"));
    assert!(refused("c.json", r#"[["2014-07-01 10:00:00"]]"#).contains("not a list of windows"));
    assert!(refused("d.json", r#"[["soon", "later"]]"#).contains("window 0: `soon` is no time"));
    assert!(refused("e.json", &"[".repeat(100_000)).contains("not a list of windows"));
    let backwards = r#"[["2014-07-01 10:00:00", "2014-07-01 09:00:00"]]"#;
    assert!(refused("f.json", backwards).contains("covers none"));
    assert!(refused("g.json", r#"[["2013-07-01", "2013-07-02"]]"#).contains("covers none"));
    assert!(refused("h.csv", "0\n1\n").contains("2 labels for 48 rows"));
    assert!(refused("i.csv", "0\n2\n").contains("line 2"));
    assert!(refused("j.csv", "from,to\n1,2\n").contains("`start` and `end`"));
    assert!(refusal(labelled(dir.path().join("none.csv"))).contains("no such file"));
    // Without times, ends are rows.
    let plain = written(dir.path(), "plain.csv", "x\n1\n2\n3\n4\n");
    let with = |text: &str| {
        let labels = Some(written(dir.path(), "ends.csv", text));
        open(&plain, &SignalOptions { labels, ..rows(1) })
    };
    assert_eq!(with("start,end\n2,3\n").unwrap().intervals()[0].rows, 2..4);
    // One past the last row is cut, as it is with times, and said.
    let cut = with("start,end\n2,4\n").unwrap();
    assert_eq!(cut.intervals()[0].rows, 2..4);
    assert!(cut.notes()[0].contains("1 of 1 labelled intervals reach beyond"), "{:?}", cut.notes());
    assert!(refusal(with("start,end\n4,5\n")).contains("covers none of the series' 4 rows, numbers 0 to 3"));
    assert!(refusal(with("start,end\n3,2\n")).contains("covers none"));
    assert!(refusal(with("start,end\n-1,2\n")).contains("no row number"));
}

#[test]
fn hostile_files_are_refused_with_their_place() {
    let dir = tempdir().unwrap();
    let refused = |text: &[u8]| {
        let path = dir.path().join("bad.csv");
        fs::write(&path, text).unwrap();
        let message = refusal(open(&path, &rows(1)));
        assert!(message.contains("bad.csv"), "{message}");
        message
    };
    assert!(refused(b"").contains("no row of values"));
    assert!(refused(b"x,y\n").contains("no row of values"));
    assert!(refused(b"x,y\n1,2\n3\n").contains("line 3 has 1 fields"));
    assert!(refused(b"x,y\n1,two\n").contains("line 2, column 2: `two` is not a number"));
    assert!(refused(b"x,y\n1,\xff\n").contains("UTF-8"));
    assert!(refused(b"timestamp,x\nsoon,1\n").contains("is no time"));
    assert!(refused(b"timestamp\n2014-01-01\n").contains("0 columns of values"));
    assert!(
        refused(&[b"x\n1\n\"".as_slice(), &[b'9'; 100_000], b"\n2\n"].concat()).contains("is not a number")
    );
    assert!(refused(&gzip(b"x\n1\n2\n")[..15]).contains("cannot be unpacked"));
    let wide: String = (0..5000).map(|i| format!("{i},")).collect();
    assert!(refused(wide.as_bytes()).contains("1 to 4096"));
    assert!(refusal(open(dir.path(), &rows(1))).contains("train.csv"));
    assert!(refusal(open(&dir.path().join("none.csv"), &rows(1))).contains("no such file"));
    let path = written(dir.path(), "ok.csv", "x,y\n1,2\n");
    let named = |channels: &[&str]| {
        let channels = channels.iter().map(ToString::to_string).collect();
        refusal(open(&path, &SignalOptions { channels, ..rows(1) }))
    };
    assert!(named(&["z"]).contains("its columns are x, y"));
    assert!(named(&["x", "0"]).contains("named twice"));
    // Images and signals are told apart.
    assert!(refusal(Dataset::open(path.to_str().unwrap(), &OpenOptions::default())).contains("signal"));
    assert!(refusal(Dataset::open("builtin:telemetry", &OpenOptions::default())).contains("is a signal"));
}

#[test]
fn telemetry_is_deterministic_labelled_and_survives_writing() {
    let set = SignalSet::open("builtin:telemetry", &SignalOptions::default()).unwrap();
    assert_eq!((set.train_rows().len(), set.test_rows().len(), set.channels()), (8064, 4032, 5));
    assert_eq!(SignalSet::open("builtin:telemetry", &SignalOptions::default()).unwrap(), set);
    let other = SignalSet::open("builtin:telemetry:seed=1", &SignalOptions::default()).unwrap();
    assert_ne!(other.series(), set.series());
    assert!(set.intervals().iter().all(|interval| interval.rows.start >= 8064));
    let kinds: std::collections::BTreeSet<_> = set.intervals().iter().map(|i| i.kind.as_str()).collect();
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    let share = set.labels().iter().filter(|&&l| l).count() as f64 / 4032.0;
    assert!((0.05..0.25).contains(&share), "{share} of the test rows are faulty");

    let dir = tempdir().unwrap();
    let out = dir.path().join("telemetry");
    let short = SignalSet::open("builtin:telemetry:train=600,test=1000", &SignalOptions::default()).unwrap();
    let written = write_signal(&short, &out).unwrap();
    assert_eq!((written.train, written.test, written.intervals), (600, 1000, short.intervals().len()));
    let read = open(&out, &SignalOptions::default()).unwrap();
    assert_eq!(read.series(), short.series());
    assert_eq!((read.intervals(), read.train_rows()), (short.intervals(), short.train_rows()));
    assert!(refusal(write_signal(&short, &out)).contains("not an empty folder"));
    for bad in ["builtin:telemetry:rows=3", "builtin:telemetry:train=99999999999", "builtin:none"] {
        refusal(SignalSet::open(bad, &SignalOptions::default()));
    }
    assert!(refusal(SignalSet::open("builtin:telemetry", &rows(5))).contains("give none"));
}

#[test]
fn plain_limits_find_spikes_but_not_what_is_wrong_in_context() {
    // The set is made so: a threshold on |z| sees points, and a model of the channels together is needed for
    // the rest.
    let set = SignalSet::open("builtin:telemetry", &SignalOptions::default()).unwrap();
    let extreme = |row: usize| {
        let z = |c: usize| 5.0 * set.scale().apply(c, set.series().row(row)[c]).abs();
        (0..5).map(z).fold(0.0f32, f32::max)
    };
    let normal: Vec<_> = set.test_rows().filter(|&row| !set.labels()[row]).map(extreme).collect();
    let mut mean = std::collections::BTreeMap::<&str, Vec<f64>>::new();
    for interval in set.intervals() {
        let worst = interval.rows.clone().map(extreme).fold(0.0f32, f32::max);
        let above = normal.iter().filter(|&&z| z < worst).count() as f64 / normal.len() as f64;
        mean.entry(&interval.kind).or_default().push(above);
    }
    let mean = |kind: &str| mean[kind].iter().sum::<f64>() / mean[kind].len() as f64;
    assert!(mean("spike") > 0.9, "{}", mean("spike"));
    assert!(mean("stuck") < 0.97 && mean("off_hours") < 0.97, "{} {}", mean("stuck"), mean("off_hours"));
}

/// What would be learned with the questions.
#[test]
fn a_column_named_as_labels_are_is_no_channel_unless_it_is_named() {
    let dir = tempdir().unwrap();
    let lines: String = (0..20).map(|i| format!("{i},{},{}\n", i * i % 7, i % 2)).collect();
    let path = written(dir.path(), "s.csv", &format!("timestamp,value,is_anomaly\n{lines}"));
    assert!(refusal(open(&path, &rows(10))).contains("`is_anomaly`"));
    let labelled = SignalOptions { label_column: Some("is_anomaly".into()), ..rows(10) };
    assert_eq!(open(&path, &labelled).unwrap().channels(), 1);
    let named = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
    for (names, channels) in [(&["value"][..], 1), (&["value", "is_anomaly"], 2)] {
        let set = open(&path, &SignalOptions { channels: named(names), ..rows(10) }).unwrap();
        assert_eq!(set.channels(), channels);
    }
    // A model knows its channels.
    let scale = Some(
        open(&path, &SignalOptions { channels: named(&["value"]), ..rows(10) }).unwrap().scale().clone(),
    );
    assert_eq!(open(&path, &SignalOptions { scale, ..rows(0) }).unwrap().channels(), 1);
    // What numbers the rows is told.
    let path = written(dir.path(), "p.csv", "index,value\n0,3\n1,4\n2,5\n3,6\n");
    let set = open(&path, &rows(2)).unwrap();
    assert!(set.notes().iter().any(|note| note.contains("`index`")), "{:?}", set.notes());
}

proptest! {
    #[test]
    fn windows_cover_every_row_and_stay_inside(
        start in 0usize..1000,
        rows in 4usize..2000,
        power in 2u32..8,
        stride in 1usize..128,
    ) {
        let length = 1 << power;
        let windows = Windows::new(start..start + rows, length, stride);
        if rows < length || stride > length {
            prop_assert!(windows.is_err());
            return Ok(());
        }
        let windows = windows.unwrap();
        prop_assert!(windows.offsets.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= stride));
        prop_assert_eq!(windows.rows(0).start, start);
        prop_assert_eq!(windows.rows(windows.len() - 1).end, start + rows);
        // All but the last are on the grid.
        prop_assert!(windows.offsets[..windows.len() - 1].iter().all(|offset| (offset - start) % stride == 0));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[0-9a-z,;\"\n\r. :-]{0,200}") {
        let dir = tempdir().unwrap();
        let path = written(dir.path(), "any.csv", &text);
        let labels = Some(path.clone());
        let _ = open(&path, &SignalOptions { labels, ..rows(1) });
    }
}

#[test]
fn windows_outside_the_range_are_refused() {
    for (length, stride) in [(0, 1), (2, 1), (3, 1), (1 << 20, 1), (64, 0), (64, 65)] {
        refusal(Windows::new(0..1_000_000_000, length, stride));
    }
    assert!(refusal(Windows::new(5..10, 8, 1)).contains("5 rows"));
}
