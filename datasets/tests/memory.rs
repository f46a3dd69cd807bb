//! Memory stays flat: an epoch over 100,000 images peaks where one over 1,000 does.

#[path = "common/counting.rs"]
mod counting;

use std::fs;
use std::sync::Arc;

use counting::{held, peak};
use ganomede_datasets::{BatchOptions, Batches, Dataset, OpenOptions, Preprocess, Split};

fn epoch(spec: &str, size: usize) -> usize {
    let options = OpenOptions { preprocess: Preprocess::new(size), ..OpenOptions::default() };
    let data = Arc::new(Dataset::open(spec, &options).unwrap());
    let (train, _) = data.holdout(0.1, 0).unwrap();
    let expected = train.len();
    let options = BatchOptions { batch: 16, shuffle: true, threads: 2, ..BatchOptions::default() };
    let batches = Batches::new(data, Split::Train, train, options).unwrap();
    let seen: usize = batches.map(|batch| batch.unwrap().len()).sum();
    assert_eq!(seen, expected);
    seen
}

// One test in this file: others running beside it would be counted too.
#[test]
fn the_peak_does_not_grow_with_the_data_set() {
    // Two threads with two waiting batches and one in hand each, and the consumer's: 7 batches of 16 images
    // of 1 KiB and their masks and ids. Even a list of 100,000 indices of 4 bytes would break the bound.
    for (spec, count) in [("builtin:retina:1000", 900), ("builtin:retina:100000", 90_000)] {
        let peak = peak(|| assert_eq!(epoch(spec, 16), count));
        assert!(peak < 320 << 10, "{spec} takes {peak} bytes");
    }

    // A folder holds its names: 8 bytes each beside the characters, and nothing of the files.
    let dir = tempfile::tempdir().unwrap();
    image::GrayImage::new(8, 8).save(dir.path().join("000000.png")).unwrap();
    let png = fs::read(dir.path().join("000000.png")).unwrap();
    let count = 3000;
    (1..count).for_each(|i| fs::write(dir.path().join(format!("{i:06}.png")), &png).unwrap());
    let before = held();
    let data = Dataset::open(dir.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!(data.len(Split::Train), count);
    let names = held() - before;
    assert!(names < count * 24 + (32 << 10), "{names} bytes for {count} files");
}
