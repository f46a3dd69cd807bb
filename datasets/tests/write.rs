//! Data sets written as folders, patches, and what `info` says.

use std::fs;
use std::path::Path;

use crate::common::{flat, idx_pair, open, options, refusal, save, truncated_png};
use ganomede_datasets::{
    Dataset, OpenOptions, PatchOptions, Preprocess, Split, Truth, extract_patches, info, write_mvtec,
};
use image::{GrayImage, Luma};
use tempfile::tempdir;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_written_generator_loads_as_the_generator_itself() {
    let dir = tempdir().unwrap();
    let out = dir.path().join("made/here");
    let built_in = Dataset::open("builtin:retina", &options(32)).unwrap();
    let written = write_mvtec(&built_in, &out, 5, 16).unwrap();
    assert_eq!((written.train, written.test, written.masks), (5, 16, 8));
    let folder = open(&out, &options(32)).unwrap();
    assert_eq!((folder.len(Split::Train), folder.len(Split::Test)), (5, 16));
    for i in 0..5 {
        assert_eq!(
            folder.load(Split::Train, i).unwrap().image,
            built_in.load(Split::Train, i).unwrap().image
        );
    }
    for i in 0..16 {
        let sample = folder.load(Split::Test, i).unwrap();
        let number: usize = Path::new(&sample.id).file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let original = built_in.load(Split::Test, number).unwrap();
        assert_eq!(
            (sample.image, sample.mask, sample.class),
            (original.image, original.mask, original.class)
        );
    }
    assert_eq!(names(&dir.path().join("made")), ["here"], "temporary files remain");
}

#[test]
fn nothing_is_overwritten_and_nothing_is_left_after_a_refusal() {
    let dir = tempdir().unwrap();
    let built_in = Dataset::open("builtin:retina", &options(16)).unwrap();
    fs::write(dir.path().join("file"), "keep").unwrap();
    assert!(refusal(write_mvtec(&built_in, dir.path(), 1, 1)).contains("not an empty folder"));
    assert!(refusal(write_mvtec(&built_in, &dir.path().join("file"), 1, 1)).contains("not an empty folder"));
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"keep");

    flat(&dir.path().join("flat"), 2);
    let unlabelled = open(&dir.path().join("flat"), &options(16)).unwrap();
    let out = dir.path().join("out");
    assert!(refusal(write_mvtec(&unlabelled, &out, 2, 2)).contains("truth"));
    assert_eq!(names(dir.path()), ["file", "flat"]);
    fs::create_dir(&out).unwrap();
    assert_eq!(write_mvtec(&unlabelled, &out, 9, 0).unwrap().train, 2);
}

#[test]
fn labelled_sets_are_converted_without_scaling() {
    let dir = tempdir().unwrap();
    idx_pair(&dir.path().join("idx"), "train", 30, true);
    idx_pair(&dir.path().join("idx"), "t10k", 9, true);
    let ones = OpenOptions { normal_classes: vec!["1".into()], ..options(4) };
    let data = open(&dir.path().join("idx"), &ones).unwrap();
    let out = dir.path().join("mvtec");
    let written = write_mvtec(&data, &out, usize::MAX, usize::MAX).unwrap();
    assert_eq!((written.train, written.test, written.masks), (10, 9, 0));
    assert_eq!(names(&out.join("test")), ["0", "2", "good"]);
    assert_eq!(names(&out), ["test", "train"]);
    let image = image::open(out.join("test/2/000005.png")).unwrap().into_luma8();
    assert_eq!((image.dimensions(), image.into_raw()), ((4, 4), vec![5; 16]));
    let all = open(&dir.path().join("idx"), &options(4)).unwrap();
    assert!(refusal(write_mvtec(&all, &dir.path().join("x"), 9, 9)).contains("truth"));
}

#[test]
fn class_names_cannot_leave_the_folder() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("cifar");
    fs::create_dir(&root).unwrap();
    let record = |label: u8| [vec![label], vec![0; 3072]].concat();
    fs::write(root.join("test_batch.bin"), [record(0), record(1), record(2)].concat()).unwrap();
    fs::write(root.join("batches.meta.txt"), "ok\n../../evil\ngood\n").unwrap();
    let normal = OpenOptions { normal_classes: vec!["ok".into()], ..options(32) };
    let out = dir.path().join("out");
    write_mvtec(&open(&root, &normal).unwrap(), &out, 0, 9).unwrap();
    assert_eq!(names(&out.join("test")), ["______evil", "good", "good_anomalous"]);
    assert_eq!(names(dir.path()), ["cifar", "out"]);
}

#[test]
fn patches_become_entries_with_their_own_truth() {
    let dir = tempdir().unwrap();
    let scene = |x: u32, _: u32| Luma([x as u8 * 2]);
    save(&dir.path().join("train/good/a.png"), GrayImage::from_fn(100, 40, scene));
    save(&dir.path().join("train/good/small.png"), GrayImage::new(15, 40));
    save(&dir.path().join("test/crack/a.png"), GrayImage::from_fn(100, 40, scene));
    let half = GrayImage::from_fn(100, 40, |x, _| Luma([if x < 50 { 255 } else { 0 }]));
    save(&dir.path().join("ground_truth/crack/a_mask.png"), half);
    let patch = Some(PatchOptions { size: 16, per_image: 40 });
    let opened = OpenOptions { patch, ..options(16) };
    let data = open(dir.path(), &opened).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (40, 40));
    assert!(data.rejected()[0].reason.contains("too small for patches of 16"));

    let mut lefts = std::collections::BTreeSet::new();
    let mut truths = std::collections::BTreeMap::new();
    for i in 0..40 {
        let sample = data.load(Split::Test, i).unwrap();
        assert!(sample.id.ends_with(&format!("a.png#{i}")));
        assert_eq!(data.entry(Split::Test, i).unwrap().truth, Truth::Unknown);
        let left = ((sample.image.pixels[0] + 1.0) * 127.5 / 2.0).round() as usize;
        assert!(left <= 84);
        let expected = if left < 50 { Truth::Anomalous } else { Truth::Normal };
        assert_eq!(sample.truth, expected, "patch at {left}");
        assert_eq!(sample.mask.unwrap().pixels[..16], std::array::from_fn::<_, 16, _>(|x| left + x < 50));
        lefts.insert(left);
        *truths.entry(format!("{:?}", sample.truth)).or_insert(0) += 1;
    }
    assert!(lefts.len() > 20 && truths.len() == 2, "{lefts:?} {truths:?}");
    let again = open(dir.path(), &opened).unwrap();
    assert!((0..40).all(|i| data.load(Split::Train, i).unwrap() == again.load(Split::Train, i).unwrap()));
    let reseeded = open(dir.path(), &OpenOptions { seed: 1, ..opened.clone() }).unwrap();
    assert_ne!(data.digest(Split::Train).unwrap(), reseeded.digest(Split::Train).unwrap());
    assert!((0..40).any(|i| data.load(Split::Train, i).unwrap() != reseeded.load(Split::Train, i).unwrap()));
    for (size, per_image) in [(7, 1), (16, 0)] {
        let bad = OpenOptions { patch: Some(PatchOptions { size, per_image }), ..options(16) };
        refusal(open(dir.path(), &bad));
    }
}

#[test]
fn patches_are_extracted_into_a_flat_folder() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("in");
    for i in 0..3 {
        save(
            &root.join(format!("{i}.png")),
            GrayImage::from_fn(60, 50, |x, y| Luma([(x * 4) as u8 ^ (y * 3) as u8])),
        );
    }
    truncated_png(&root.join("cut.png"));
    let spec = root.to_str().unwrap();
    let (written, findings) = extract_patches(spec, &dir.path().join("a"), 12, 16, 7, false).unwrap();
    let rejected = findings.rejected;
    // The damaged file's share of the twelve is missing, and said to be.
    assert_eq!((written.train, rejected.len()), (9, 1));
    extract_patches(spec, &dir.path().join("b"), 12, 16, 7, false).unwrap();
    let files = names(&dir.path().join("a"));
    assert_eq!((files.len(), &files), (9, &names(&dir.path().join("b"))));
    for name in files {
        let [a, b] = ["a", "b"].map(|d| image::open(dir.path().join(d).join(&name)).unwrap());
        assert_eq!((a.width(), a.height()), (16, 16));
        assert_eq!(a, b);
    }
    assert!(
        refusal(extract_patches(spec, &dir.path().join("c"), 12, 65, 7, false)).contains("no usable image")
    );
    assert!(refusal(extract_patches(spec, &dir.path().join("c"), 0, 16, 7, false)).contains("patches"));
    assert!(!dir.path().join("c").exists());
}

#[test]
fn info_counts_classes_sizes_and_damage() {
    let dir = tempdir().unwrap();
    flat(&dir.path().join("train/good"), 3);
    flat(&dir.path().join("test/good"), 2);
    flat(&dir.path().join("test/crack"), 1);
    save(
        &dir.path().join("ground_truth/crack/000_mask.png"),
        GrayImage::from_pixel(16, 12, image::Luma([9])),
    );
    truncated_png(&dir.path().join("train/good/cut.png"));
    let data = open(dir.path(), &options(8)).unwrap();
    let info = info(&data, true).unwrap();
    assert_eq!((info.layout, info.findings.rejected.len()), ("mvtec", 1));
    let [train, test] = &info.splits[..] else { panic!("two splits") };
    assert_eq!((train.count, train.decoded, train.masks), (4, 3, 0));
    assert_eq!((train.sizes["16×12"], train.colour_types["gray8"]), (3, 3));
    let classes: Vec<_> = test.classes.iter().map(|c| (c.class.as_str(), c.truth, c.count)).collect();
    assert_eq!(classes, [("crack", Truth::Anomalous, 1), ("good", Truth::Normal, 2)]);
    assert_eq!((test.masks, test.digest.len()), (1, 64));
}

#[test]
fn sizes_outside_the_range_are_refused() {
    for size in [0, 4097] {
        let preprocess = Preprocess::new(size);
        let options = OpenOptions { preprocess, ..OpenOptions::default() };
        assert!(refusal(Dataset::open("builtin:retina", &options)).contains("size"));
    }
}
