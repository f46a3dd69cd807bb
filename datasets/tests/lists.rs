//! Lists of images and patterns.

use std::fs;
use std::path::Path;

use crate::common::{flat, open, options, refusal, save};
use ganomede_datasets::{DataError, Dataset, OpenOptions, Reads, Split, Truth, csv_info};
use image::{GrayImage, Luma};
use tempfile::{TempDir, tempdir};

/// `a/000.png` to `a/005.png`, and a mask of `a/004.png`.
fn place() -> TempDir {
    let dir = tempdir().unwrap();
    flat(&dir.path().join("a"), 6);
    let half = GrayImage::from_fn(16, 12, |x, _| Luma([u8::from(x < 8) * 255]));
    save(&dir.path().join("m/4.png"), half);
    dir
}

fn list(dir: &Path, lines: &[&str]) -> Result<Dataset, DataError> {
    list_with(dir, lines, &options(8))
}

fn list_with(dir: &Path, lines: &[&str], options: &OpenOptions) -> Result<Dataset, DataError> {
    let path = dir.join("files.csv");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    open(&path, options)
}

/// The names of a split, without folders.
fn names(data: &Dataset, split: Split) -> Vec<String> {
    let ids = (0..data.len(split)).map(|i| data.entry(split, i).unwrap().id);
    ids.map(|id| id.rsplit('/').next().unwrap().to_owned()).collect()
}

fn truths(data: &Dataset) -> Vec<Truth> {
    (0..data.len(Split::Test)).map(|i| data.entry(Split::Test, i).unwrap().truth).collect()
}

#[test]
fn paths_alone_are_normal_to_train_on_and_scored_in_the_order_of_the_list() {
    let dir = place();
    let absolute = dir.path().join("a/000.png");
    let data = list(dir.path(), &["path", "a/003.png", "./a/001.png", absolute.to_str().unwrap()]).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train)), ("list", 3));
    assert_eq!(names(&data, Split::Test), ["003.png", "001.png", "000.png"]);
    assert_eq!(truths(&data), [Truth::Unknown; 3]);
    data.load(Split::Test, 2).unwrap();
}

#[test]
fn labels_splits_and_masks_are_those_of_the_list() {
    let dir = place();
    let lines = [
        "Path,LABEL,split,mask",
        "a/000.png,good,train,",
        "a/001.png,ok,val,",
        "a/002.png,crack,train,",
        "a/003.png,good,test,",
        "a/004.png,crack,test,m/4.png",
        "a/005.png,,test,",
    ];
    let data = list(dir.path(), &lines).unwrap();
    assert_eq!(names(&data, Split::Train), ["000.png", "001.png"]);
    assert_eq!(names(&data, Split::Test), ["003.png", "004.png", "005.png"]);
    assert_eq!(truths(&data), [Truth::Normal, Truth::Anomalous, Truth::Unknown]);
    let masks: Vec<_> = (0..3).map(|i| data.load(Split::Test, i).unwrap().mask.map(|m| m.any())).collect();
    assert_eq!(masks, [Some(false), Some(true), None]);
    let skipped = data.findings().skipped;
    assert!(
        skipped.len() == 1 && skipped[0].reason.contains("1 image for training that are anomalous"),
        "{skipped:?}"
    );

    // Any word may mean normal.
    let normal = OpenOptions { normal_classes: vec!["crack".into()], ..options(8) };
    let data = list_with(dir.path(), &lines, &normal).unwrap();
    assert_eq!((names(&data, Split::Train), truths(&data)[0]), (vec!["002.png".into()], Truth::Anomalous));
}

/// The list's order decides what comes first and nothing else.
#[test]
fn the_order_of_lines_changes_no_result() {
    let dir = place();
    let mut lines: Vec<String> =
        (0..6).map(|i| format!("a/{i:03}.png,{}", if i < 5 { "0" } else { "1" })).collect();
    let opened = |lines: &[String]| {
        let lines: Vec<&str> =
            std::iter::once("path,label").chain(lines.iter().map(String::as_str)).collect();
        list(dir.path(), &lines).unwrap()
    };
    let first = opened(&lines);
    assert_eq!((first.len(Split::Train), first.len(Split::Test)), (4, 2));
    for turn in 1..6 {
        lines.rotate_left(turn);
        let data = opened(&lines);
        assert_eq!(names(&data, Split::Train), names(&first, Split::Train));
        for split in [Split::Train, Split::Test] {
            assert_eq!(data.digest(split).unwrap(), first.digest(split).unwrap());
        }
        let mut tested = names(&data, Split::Test);
        tested.sort();
        assert_eq!(tested, names(&first, Split::Test));
    }
}

#[test]
fn masks_alone_tell_what_is_anomalous() {
    let dir = place();
    let lines = ["path,mask", "a/000.png,", "a/001.png,", "a/002.png,", "a/004.png,m/4.png"];
    let data = list(dir.path(), &lines).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (2, 2));
    let mut all = truths(&data);
    all.sort();
    assert_eq!(all, [Truth::Normal, Truth::Anomalous]);
}

#[test]
fn bad_lists_are_refused_in_one_paragraph() {
    let dir = place();
    save(&dir.path().join("m/small.png"), GrayImage::new(9, 9));
    for (lines, said) in [
        (&["path", "a/000.png", "a/9.png", "b.png"][..], &["line 3: `a/9.png` does not exist", "line 4"][..]),
        (&["path", "a/000.png", "./a/000.png"], &["line 3: `a/000.png` occurs above"]),
        (&["path", "a"], &["is a folder"]),
        (&["path,lable", "a/000.png,good"], &["unknown columns `lable`"]),
        (&["path,label,label", "a/000.png,good,ok"], &["two columns `label`"]),
        (&["path,label", "a/000.png,x", "a/001.png,y"], &["`x`, `y`", "say which are normal"]),
        (&["path,label", "a/000.png,good", "a/001.png,0.5"], &["a measure"]),
        (&["path,split", "a/000.png,half"], &["the split is `half`"]),
        (&["path,split", "a/000.png,"], &["the split is ``"]),
        (&["path,mask", "a/000.png,m/0.png"], &["m/0.png` does not exist"]),
        (&["path,mask", "a/000.png,m/small.png"], &["line 2: the mask is 9×9 but its image 16×12"]),
        (&["path", ""], &["names no image"]),
        (&["time,value", "1,2"], &["is a table or a signal", "a column `path`"]),
        (&["path,label", "a/000.png"], &["line 2"]),
    ] {
        let message = refusal(list(dir.path(), lines));
        assert!(!message.contains('\n') && message.contains("files.csv"), "{message}");
        said.iter().for_each(|part| assert!(message.contains(part), "{part}: {message}"));
    }
    let many: Vec<String> =
        std::iter::once("path".into()).chain((0..50).map(|i| format!("{i}.png"))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let message = refusal(list(dir.path(), &many));
    assert!(message.contains("and 47 more") && message.len() < 400, "{message}");
    // A damaged file is skipped as in a folder, and an error where that is asked for.
    fs::write(dir.path().join("bad.png"), "no").unwrap();
    let lines = ["path", "a/000.png", "bad.png"];
    assert_eq!(list(dir.path(), &lines).unwrap().rejected().len(), 1);
    let strict = OpenOptions { strict: true, ..options(8) };
    assert!(refusal(list_with(dir.path(), &lines, &strict)).contains("bad.png"));
}

#[test]
fn what_is_no_list_is_counted_column_by_column() {
    let dir = place();
    let path = dir.path().join("t.csv");
    fs::write(&path, "time,a,state\n2024-01-01,1.5,run\n2024-01-02,nan,run\n2024-01-03,-2,halt\n").unwrap();
    let info = csv_info(&path).unwrap().unwrap();
    assert_eq!((info.rows, info.has_header, info.label), (3, true, None));
    let [time, a, state] = &info.columns[..] else { panic!("three columns") };
    assert_eq!((time.name.as_str(), time.texts, time.distinct), ("time", 3, Some(3)));
    assert_eq!((a.numbers, a.missing, a.least, a.most), (2, 1, Some(-2.0), Some(1.5)));
    assert_eq!((state.texts, state.distinct), (3, Some(2)));
    fs::write(&path, "1,2\n3,4\n").unwrap();
    let info = csv_info(&path).unwrap().unwrap();
    assert_eq!((info.rows, info.has_header, info.columns[1].name.as_str()), (2, false, "1"));
    fs::write(&path, "PATH\na/000.png\n").unwrap();
    assert_eq!(csv_info(&path).unwrap(), None, "a list of images");
    assert_eq!(csv_info(&dir.path().join("a/000.png")).unwrap(), None);
}

#[test]
fn patterns_match_files_and_folders() {
    let dir = tempdir().unwrap();
    flat(&dir.path().join("a/one"), 2);
    flat(&dir.path().join("b/one"), 3);
    flat(&dir.path().join("b/two"), 1);
    fs::write(dir.path().join("a/one/notes.txt"), "").unwrap();
    let files = open(&dir.path().join("*/one/*"), &options(8)).unwrap();
    assert_eq!((files.layout(), files.len(Split::Train), files.len(Split::Test)), ("files", 5, 5));
    assert!(files.findings().skipped[0].reason.contains("1 files that are no images"));
    files.load(Split::Test, 4).unwrap();
    let folders = open(&dir.path().join("*/[ot]*"), &options(8)).unwrap();
    assert_eq!((folders.layout(), folders.len(Split::Test)), ("several", 6));
    assert_eq!(open(&dir.path().join("**/two/000.p?g"), &options(8)).unwrap().len(Split::Test), 1);
    assert!(refusal(open(&dir.path().join("*/none/*"), &options(8))).contains("matches 0 files"));
    // A file of such a name is that file.
    flat(&dir.path().join("x[1]"), 1);
    assert_eq!(open(&dir.path().join("x[1]"), &options(8)).unwrap().layout(), "folder");
}

#[test]
fn outputs_replace_nothing_that_a_list_or_a_pattern_names() {
    let dir = place();
    list(dir.path(), &["path,mask", "a/000.png,", "a/004.png,m/4.png"]).unwrap();
    let reads = Reads::new().data(dir.path().join("files.csv").to_str().unwrap());
    for file in ["files.csv", "a/004.png", "m/4.png"] {
        assert!(matches!(reads.check_file(&dir.path().join(file)), Err(DataError::Output { .. })), "{file}");
    }
    reads.check_file(&dir.path().join("a/001.png")).unwrap();
    let reads = Reads::new().data(dir.path().join("a/*.png").to_str().unwrap());
    assert!(reads.check_file(&dir.path().join("a/001.png")).is_err());
}

#[test]
fn an_image_occurs_once_however_its_path_is_written() {
    let dir = place();
    let up = format!("../{}/a/000.png", dir.path().file_name().unwrap().to_str().unwrap());
    for again in [up, dir.path().join("a/000.png").to_string_lossy().into_owned()] {
        let refused = refusal(list(dir.path(), &["path", "a/000.png", &again]));
        assert!(refused.contains("line 3") && refused.contains("occurs above"), "{refused}");
    }
}

#[test]
fn labels_that_say_nothing_are_unknown_and_numbers_are_labels() {
    let dir = place();
    let lines = ["path,label,split", "a/000.png,good,test", "a/001.png,NA,test", "a/002.png,nan,test"];
    let data = list(dir.path(), &lines).unwrap();
    assert_eq!(truths(&data), [Truth::Normal, Truth::Unknown, Truth::Unknown]);
    assert!(data.findings().skipped[0].reason.contains("2 images `NA`"), "{:?}", data.findings().skipped);
    let lines = ["path,label,split", "a/000.png,0.0,test", "a/001.png,1.0,test"];
    assert_eq!(truths(&list(dir.path(), &lines).unwrap()), [Truth::Normal, Truth::Anomalous]);
}

#[test]
fn labels_in_both_cases_are_one() {
    let dir = place();
    let lines = ["path,label,split", "a/000.png,good,test", "a/001.png,Good,test", "a/002.png,Bad,test"];
    let named = OpenOptions { normal_classes: vec!["good".into()], ..options(8) };
    let data = list_with(dir.path(), &lines, &named).unwrap();
    assert_eq!(truths(&data), [Truth::Normal, Truth::Normal, Truth::Anomalous]);
}

#[test]
fn a_byte_order_mark_before_quotes_is_no_part_of_a_name() {
    let dir = place();
    let data = list(dir.path(), &["\u{feff}\"path\",\"label\"", "a/000.png,good", "a/001.png,bad"]).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train), data.len(Split::Test)), ("list", 1, 1));
}
