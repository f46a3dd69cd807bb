//! Batches in parts from the command line.

use crate::binary::{RETINA, folder, ganomede, text, train};

#[test]
fn a_training_in_parts_is_told_and_remembered() {
    let at = folder("parts");
    let model = at.join("m.safetensors");
    let parts = ["--accumulate", "2", "--sync-bn", "--epochs", "2", "--json"];
    let summary = train(RETINA, &model, &parts).json();
    // 32 images in steps of 2 · 8.
    assert_eq!((&summary["steps"], &summary["epochs"]), (&4.into(), &2.0.into()));
    assert!(summary.get("sent_bytes").is_none(), "{summary}");
    let info = ganomede(["info", text(&model)]);
    info.well();
    assert!(info.stdout.contains("batches in 2 parts, batch norm over all parts"), "{}", info.stdout);
    assert!(info.stdout.contains("--accumulate 2") && info.stdout.contains("--sync-bn"), "{}", info.stdout);

    // Half as many parts go on with a word about it.
    let more = train(RETINA, &model, &["--resume", "--steps", "6"]);
    more.refused(2, &["--sync-bn", "true", "false"]);
    let other = train(RETINA, &model, &["--accumulate", "4", "--sync-bn", "--steps", "6", "--resume"]);
    other.well();
    assert!(other.stderr.contains("in 2 parts, and they now come in 4"), "{}", other.stderr);
}

#[test]
fn parts_that_cannot_be_are_refused() {
    let at = folder("parts-refused");
    let model = at.join("m.safetensors");
    train(RETINA, &model, &["--sync-bn", "--steps", "2"]).refused(2, &["--sync-bn", "batches in parts"]);
    train(RETINA, &model, &["--accumulate", "0", "--steps", "2"]).refused(2, &["--accumulate", "1 to 4096"]);
    train(RETINA, &model, &["--accumulate", "5", "--steps", "2"]).refused(2, &["40", "32 images"]);
    let fitted =
        ["train", "pca", "--data", RETINA, "--size", "16", "--out", text(&model), "--accumulate", "2"];
    ganomede(fitted).refused(2, &["--accumulate", "pca is fitted"]);
    assert!(!model.exists());
}

/// Several processes would each write the same files.
#[cfg(not(feature = "mpi"))]
#[test]
fn ranks_need_a_program_that_was_built_for_them() {
    let at = folder("ranks-refused");
    let mut command = crate::binary::train_command(RETINA, &at.join("m.safetensors"), &["--steps", "2"]);
    let ended: crate::binary::Ended =
        command.env("OMPI_COMM_WORLD_SIZE", "2").output().expect("the program starts").into();
    ended.refused(2, &["one of 2 ranks", "--features mpi"]);
}
