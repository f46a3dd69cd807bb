//! What is no plain file: pipes, loops of links, names that are too long; and text that is no UTF-8.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::{flat, gradient, idx_pair, open, options, refusal, save};
use ganomede_datasets::{SignalOptions, SignalSet, Split, Table, TableOptions, TrainPart, Truth};
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::tempdir;

/// A pipe that nobody writes to: opened as files are, it would wait for ever.
fn pipe(path: &Path) {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).unwrap();
}

#[test]
fn pipes_are_refused_under_every_name() {
    for name in
        ["x.npz", "train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "data_batch_1.bin", "a.png"]
    {
        let dir = tempdir().unwrap();
        pipe(&dir.path().join(name));
        let message = refusal(open(&dir.path().join(name), &options(8)));
        assert!(message.contains(name) && message.contains("no file"), "{message}");
        // In a folder as well; of a folder of images it is one that cannot be used.
        if !name.ends_with("npz") {
            refusal(open(dir.path(), &options(8)));
        }
    }
}

#[test]
fn pipes_beside_data_are_refused() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data_batch_1.bin"), [0; 3073]).unwrap();
    pipe(&dir.path().join("batches.meta.txt"));
    assert!(refusal(open(dir.path(), &options(8))).contains("batches.meta.txt"));

    let dir = tempdir().unwrap();
    idx_pair(dir.path(), "train", 3, false);
    fs::remove_file(dir.path().join("train-labels-idx1-ubyte")).unwrap();
    pipe(&dir.path().join("train-labels-idx1-ubyte"));
    assert!(refusal(open(dir.path(), &options(8))).contains("train-labels-idx1-ubyte"));

    let dir = tempdir().unwrap();
    let (series, table) = (dir.path().join("s.csv"), dir.path().join("pipe.csv"));
    fs::write(&series, "value\n1\n2\n").unwrap();
    pipe(&table);
    assert!(refusal(Table::open(table.to_str().unwrap(), &TableOptions::default())).contains("no file"));
    for labels in ["pipe.csv", "pipe.json"] {
        let labels = dir.path().join(labels);
        if !labels.exists() {
            pipe(&labels);
        }
        let options = SignalOptions {
            train: Some(TrainPart::Rows(1)),
            labels: Some(labels.clone()),
            ..SignalOptions::default()
        };
        let message = refusal(SignalSet::open(series.to_str().unwrap(), &options));
        assert!(message.contains(labels.to_str().unwrap()) && message.contains("no file"), "{message}");
    }
}

#[test]
fn a_mask_that_is_a_pipe_is_not_waited_for() {
    let dir = tempdir().unwrap();
    for name in ["train/good/a.png", "test/good/a.png", "test/bad/a.png"] {
        save(&dir.path().join(name), gradient(1));
    }
    fs::create_dir_all(dir.path().join("ground_truth/bad")).unwrap();
    pipe(&dir.path().join("ground_truth/bad/a_mask.png"));
    let data = open(dir.path(), &options(8)).unwrap();
    // Nothing is known of the pixels of its image; the image stays.
    let loaded: Vec<_> = (0..2).map(|i| data.load(Split::Test, i).unwrap()).collect();
    let bad = loaded.iter().find(|sample| sample.class == "bad").expect("it is tested");
    assert_eq!((bad.truth, &bad.mask), (Truth::Anomalous, &None));
}

#[test]
fn loops_of_links_and_long_names_are_the_inputs_fault() {
    let dir = tempdir().unwrap();
    flat(dir.path(), 2);
    symlink("b.png", dir.path().join("a.png")).unwrap();
    symlink("a.png", dir.path().join("b.png")).unwrap();
    symlink("nothing", dir.path().join("c.png")).unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!(data.len(Split::Train), 2);
    let rejected = data.rejected();
    assert_eq!(rejected.len(), 3);
    assert!(rejected.iter().all(|r| r.reason.contains("cannot be opened")), "{rejected:?}");
    refusal(open(&dir.path().join("a.png"), &options(8)));
    refusal(open(&dir.path().join("x".repeat(300)), &options(8)));
    refusal(open(&dir.path().join("000.png/below"), &options(8)));
}

#[test]
fn names_of_classes_that_are_no_text_are_the_files_fault() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data_batch_1.bin"), [0; 3073]).unwrap();
    fs::write(dir.path().join("batches.meta.txt"), b"caf\xe9\n").unwrap();
    let message = refusal(open(dir.path(), &options(8)));
    assert!(message.contains("batches.meta.txt") && message.contains("UTF-8"), "{message}");
}
