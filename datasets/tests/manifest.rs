//! Manifests, training and test kept apart, flattening and labels of patches.

use crate::common;
use std::fs;
use std::path::Path;

use crate::common::{flat, idx, idx_pair, open, options, refusal, save};
use ganomede_datasets::{Dataset, OpenOptions, PatchOptions, Split, Truth, write_mvtec};
use image::{GrayImage, Luma};
use sha2::{Digest, Sha256};
use tempfile::tempdir;

fn strict() -> OpenOptions {
    OpenOptions { strict: true, ..options(16) }
}

/// Training images 0 to 3, test images 100 to 102 in two folders.
fn mvtec(root: &Path) {
    flat(&root.join("train/good"), 4);
    for (folder, tone) in [("test/good/a.png", 100), ("test/good/b.png", 101), ("test/crack/c.png", 102)] {
        save(&root.join(folder), common::gradient(tone));
    }
}

#[test]
fn a_manifest_lists_every_file_with_its_hash_wherever_the_set_lies() {
    let dir = tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    mvtec(&here);
    mvtec(&there);
    let manifest = |root: &Path, split| open(root, &options(16)).unwrap().manifest(split).unwrap();
    let test = manifest(&here, Split::Test);
    assert_eq!(
        (test.files.len(), test.files[0].class.as_str(), test.files[0].truth),
        (3, "crack", Truth::Anomalous)
    );
    for file in &test.files {
        let hash = Sha256::digest(fs::read(&file.id).unwrap());
        assert_eq!(file.sha256, hash.iter().map(|b| format!("{b:02x}")).collect::<String>());
    }
    assert_eq!(test.sha256, manifest(&there, Split::Test).sha256);
    save(&there.join("test/good/b.png"), common::gradient(77));
    assert_ne!(test.sha256, manifest(&there, Split::Test).sha256);
    assert_eq!(manifest(&here, Split::Train).sha256, manifest(&there, Split::Train).sha256);
    // Patches count as the image they are cut from.
    let patch = Some(PatchOptions { size: 8, per_image: 5 });
    let cut = open(&here, &OpenOptions { patch, ..options(16) }).unwrap();
    assert_eq!(cut.manifest(Split::Test).unwrap().files, test.files);
    let made = Dataset::open("builtin:concrete:train=3,test=4", &options(16)).unwrap();
    assert_eq!(made.manifest(Split::Test).unwrap().files.len(), 4);
    assert_eq!(made.manifest(Split::Test).unwrap(), made.manifest(Split::Test).unwrap());
}

#[test]
fn a_test_image_that_is_trained_on_is_named_and_refused_when_strict() {
    let dir = tempdir().unwrap();
    mvtec(dir.path());
    assert_eq!(open(dir.path(), &strict()).unwrap().overlap().unwrap(), []);
    fs::copy(dir.path().join("train/good/002.png"), dir.path().join("test/good/z.png")).unwrap();
    let data = open(dir.path(), &options(16)).unwrap();
    let overlap = data.overlap().unwrap();
    assert_eq!(overlap.len(), 1);
    assert!(overlap[0].train.ends_with("002.png") && overlap[0].test.ends_with("z.png"));
    let message = refusal(open(dir.path(), &strict()));
    assert!(
        message.contains("z.png") && message.contains("002.png") && !message.contains("more"),
        "{message}"
    );
    fs::copy(dir.path().join("train/good/001.png"), dir.path().join("test/crack/y.png")).unwrap();
    assert!(refusal(open(dir.path(), &strict())).contains("1 more pairs"));
    // Joined with another set it is refused as well; the training part alone is not.
    let spec = dir.path().to_str().unwrap();
    assert!(
        refusal(Dataset::open_all(&[spec, "builtin:retina:train=2,test=2"], &strict())).contains("001.png")
    );
}

#[test]
fn flat_folders_are_one_list_and_labelled_sets_are_compared_by_pixels() {
    let dir = tempdir().unwrap();
    flat(&dir.path().join("flat"), 3);
    assert_eq!(open(&dir.path().join("flat"), &strict()).unwrap().overlap().unwrap(), []);
    let labelled = dir.path().join("idx");
    idx_pair(&labelled, "train", 30, true);
    idx_pair(&labelled, "t10k", 9, true);
    let data = open(&labelled, &options(4)).unwrap();
    // Image k of both is all k.
    let overlap = data.overlap().unwrap();
    assert_eq!(
        (overlap.len(), overlap[8].train.as_str(), overlap[8].test.as_str()),
        (9, "train:8", "t10k:8")
    );
    assert!(refusal(data.check_disjoint()).contains("8 more pairs"));
    let message = refusal(open(&labelled, &strict()));
    assert!(
        message.contains("t10k:0") && message.contains("train:0") && message.contains("8 more pairs"),
        "{message}"
    );
    // Only what is trained on counts: of class 1 alone (labels are the number modulo 3), images 1, 4 and 7
    // are in both.
    let ones = OpenOptions { normal_classes: vec!["1".into()], ..strict() };
    let message = refusal(open(&labelled, &ones));
    assert!(message.contains("t10k:1") && message.contains("2 more pairs"), "{message}");
    // Images 0 to 8 are not among 9 to 29.
    let apart = dir.path().join("apart");
    idx_pair(&apart, "t10k", 9, false);
    let others = idx(&[21, 4, 4], &(9..30).flat_map(|i| [i; 16]).collect::<Vec<_>>());
    fs::write(apart.join("train-images-idx3-ubyte"), others).unwrap();
    assert_eq!(open(&apart, &strict()).unwrap().overlap().unwrap(), []);
    let built_in = Dataset::open("builtin:casting:train=40,test=40", &options(32)).unwrap();
    assert_eq!(built_in.overlap().unwrap(), []);
}

#[test]
fn colour_batches_and_arrays_are_compared_by_pixels_too() {
    let dir = tempdir().unwrap();
    // Records of one label and 3·32·32 bytes; image k is all k.
    let batch = |numbers: std::ops::Range<u8>| -> Vec<u8> {
        numbers.flat_map(|k| std::iter::once(k % 10).chain([k; 3 * 32 * 32])).collect()
    };
    let cifar = dir.path().join("cifar");
    fs::create_dir_all(&cifar).unwrap();
    fs::write(cifar.join("data_batch_1.bin"), batch(0..12)).unwrap();
    fs::write(cifar.join("test_batch.bin"), batch(12..20)).unwrap();
    open(&cifar, &strict()).unwrap();
    fs::write(cifar.join("test_batch.bin"), batch(11..20)).unwrap();
    let message = refusal(open(&cifar, &strict()));
    assert!(message.contains("test_batch:0") && message.contains("data_batch:11"), "{message}");
}

#[test]
fn a_patch_is_anomalous_iff_any_pixel_of_its_mask_is() {
    let dir = tempdir().unwrap();
    let image = GrayImage::from_fn(40, 40, |x, y| Luma([(x * 6) as u8 ^ (y * 5) as u8]));
    save(&dir.path().join("train/good/a.png"), image.clone());
    save(&dir.path().join("test/hole/a.png"), image);
    let at = (21, 13);
    let dot = GrayImage::from_fn(40, 40, |x, y| Luma([if (x, y) == at { 1 } else { 0 }]));
    save(&dir.path().join("ground_truth/hole/a_mask.png"), dot);
    let patch = Some(PatchOptions { size: 16, per_image: 200 });
    let data = open(dir.path(), &OpenOptions { patch, ..options(16) }).unwrap();
    let (mut seen, mut anomalous) = (0, 0);
    for i in 0..200 {
        let sample = data.load(Split::Test, i).unwrap();
        let mask = sample.mask.unwrap();
        assert_eq!(sample.truth == Truth::Anomalous, mask.any());
        seen += 1;
        anomalous += usize::from(mask.any());
    }
    // 16 of 25 columns and 14 of 25 rows reach the pixel.
    assert!((40..110).contains(&anomalous), "{anomalous} of {seen}");
}

#[test]
fn flattened_sets_are_level_and_their_masks_follow() {
    let dir = tempdir().unwrap();
    let root = dir.path().join("scans");
    // A band that falls across the image, and a mask on the band's left half.
    let row = |x: u32| 20 + x / 4;
    let inside = |x: u32, y: u32| y.abs_diff(row(x)) <= 2;
    let scan = GrayImage::from_fn(128, 96, |x, y| Luma([if inside(x, y) { 230 } else { 40 }]));
    let mask = GrayImage::from_fn(128, 96, |x, y| Luma([if x < 64 && inside(x, y) { 255 } else { 0 }]));
    save(&root.join("train/good/a.png"), scan.clone());
    save(&root.join("test/fluid/b.png"), scan);
    save(&root.join("ground_truth/fluid/b_mask.png"), mask);
    let flatten = OpenOptions { flatten: true, ..options(64) };
    let data = open(&root, &flatten).unwrap();
    assert_ne!(
        data.digest(Split::Train).unwrap(),
        open(&root, &options(64)).unwrap().digest(Split::Train).unwrap()
    );
    let out = dir.path().join("flat");
    write_mvtec(&data, &out, 9, 9).unwrap();
    let centre = |image: &GrayImage, x: u32| {
        let rows: Vec<_> = (0..96).filter(|&y| image.get_pixel(x, y).0[0] > 128).collect();
        rows.iter().sum::<u32>() as f64 / rows.len().max(1) as f64
    };
    let [scan, mask] = ["test/fluid/000000.png", "ground_truth/fluid/000000_mask.png"]
        .map(|name| image::open(out.join(name)).unwrap().into_luma8());
    let middle = centre(&scan, 64);
    for x in 4..124 {
        assert!((centre(&scan, x) - middle).abs() <= 1.5, "column {x}");
        let expected = if x < 64 { centre(&scan, x) } else { 0.0 };
        assert_eq!(centre(&mask, x), expected, "column {x}");
    }
}
