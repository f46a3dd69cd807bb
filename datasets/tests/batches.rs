//! Batches: order, determinism, resuming, and files that fail while training.

use std::fs;
use std::sync::Arc;

use crate::common::{flat, open, options, refusal, truncated_png};
use ganomede_datasets::{
    Batch, BatchOptions, Batches, DataError, Dataset, Indices, OpenOptions, Split, Truth,
};
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use tempfile::tempdir;

fn retina(train: usize) -> Arc<Dataset> {
    Arc::new(Dataset::open(&format!("builtin:retina:train={train},test=20"), &options(16)).unwrap())
}

fn collect(data: &Arc<Dataset>, split: Split, options: BatchOptions) -> Vec<Batch> {
    let indices = data.all(split);
    Batches::new(data.clone(), split, indices, options).unwrap().collect::<Result<_, DataError>>().unwrap()
}

fn shuffled(batch: usize) -> BatchOptions {
    BatchOptions { batch, shuffle: true, seed: 5, ..BatchOptions::default() }
}

#[test]
fn batches_do_not_depend_on_threads_or_prefetch() {
    let data = retina(70);
    let augment = || "flip,rotate:10,shift:0.1,noise:0.05".parse().unwrap();
    let reference =
        collect(&data, Split::Train, BatchOptions { threads: 1, augment: augment(), ..shuffled(8) });
    for (threads, prefetch) in [(2, 1), (3, 16), (8, 0)] {
        let options = BatchOptions { threads, prefetch, augment: augment(), ..shuffled(8) };
        assert_eq!(collect(&data, Split::Train, options), reference);
    }
    assert_eq!(reference.iter().map(Batch::len).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 8, 8, 8, 6]);
    let plain = collect(&data, Split::Train, shuffled(8));
    assert_eq!(plain[0].indices, reference[0].indices);
    assert_ne!(plain[0].images, reference[0].images);
}

#[test]
fn resuming_gives_the_rest_of_the_epoch() {
    let data = retina(50);
    let whole = collect(&data, Split::Train, shuffled(8));
    for start_batch in 0..=8 {
        let rest = collect(&data, Split::Train, BatchOptions { start_batch, threads: 2, ..shuffled(8) });
        assert_eq!(rest, whole[start_batch.min(7)..]);
    }
}

#[test]
fn epochs_and_seeds_have_their_own_order() {
    let data = retina(50);
    let order = |options| {
        collect(&data, Split::Train, options).into_iter().flat_map(|b| b.indices).collect::<Vec<_>>()
    };
    let first = order(shuffled(8));
    assert_ne!(first, order(BatchOptions { epoch: 1, ..shuffled(8) }));
    assert_ne!(first, order(BatchOptions { seed: 6, ..shuffled(8) }));
    assert_eq!(order(BatchOptions { shuffle: false, ..shuffled(8) }), (0..50).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_epoch_visits_each_image_once(n in 1usize..60, batch in 1usize..20, seed in any::<u64>(), epoch: u64) {
        let data = retina(n);
        let options = BatchOptions { batch, seed, epoch, shuffle: true, threads: 2, ..BatchOptions::default() };
        let batches = collect(&data, Split::Train, options);
        let mut seen: Vec<_> = batches.iter().flat_map(|b| b.indices.clone()).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..n).collect::<Vec<_>>());
        for batch in &batches {
            prop_assert_eq!(batch.images.len(), batch.len() * 256);
            prop_assert_eq!(batch.ids.len(), batch.len());
        }
    }
}

#[test]
fn scoring_keeps_order_truths_and_masks() {
    let data = retina(1);
    let batches = collect(&data, Split::Test, BatchOptions { batch: 6, ..BatchOptions::default() });
    assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [6, 6, 6, 2]);
    assert_eq!(batches[1].number, 1);
    assert_eq!(batches[1].indices, [6, 7, 8, 9, 10, 11]);
    assert_eq!(batches[1].truths[..2], [Truth::Normal, Truth::Anomalous]);
    let sample = data.load(Split::Test, 7).unwrap();
    assert_eq!(batches[1].images[256..512], sample.image.pixels);
    assert_eq!(batches[1].masks[1], sample.mask);
    assert_eq!((&batches[1].ids[1], &batches[1].classes[1]), (&sample.id, &sample.class));
}

#[test]
fn drop_last_leaves_full_batches_only() {
    let data = retina(20);
    let batches = collect(&data, Split::Train, BatchOptions { drop_last: true, ..shuffled(8) });
    assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [8, 8]);
    assert!(collect(&data, Split::Train, BatchOptions { drop_last: true, ..shuffled(21) }).is_empty());
}

#[test]
fn dropping_the_iterator_early_ends_its_threads() {
    let data = retina(4000);
    let mut batches = Batches::new(data.clone(), Split::Train, data.all(Split::Train), shuffled(8)).unwrap();
    assert_eq!(batches.total(), 500);
    batches.next().unwrap().unwrap();
    drop(batches);
    // The threads held the only other references.
    assert_eq!(Arc::strong_count(&data), 1);
}

#[test]
fn a_file_that_cannot_be_decoded_is_replaced_in_training_and_left_out_in_scoring() {
    let dir = tempdir().unwrap();
    flat(dir.path(), 10);
    truncated_png(&dir.path().join("004.png"));
    let data = Arc::new(open(dir.path(), &options(8)).unwrap());

    let scored = collect(&data, Split::Test, BatchOptions { batch: 4, ..BatchOptions::default() });
    assert_eq!(
        scored.iter().map(|b| b.indices.clone()).collect::<Vec<_>>(),
        [vec![0, 1, 2, 3], vec![5, 6, 7], vec![8, 9]]
    );
    assert_eq!(data.rejected().len(), 1);
    assert!(data.rejected()[0].path.ends_with("004.png"));
    // A batch of nothing but the damaged file is passed over.
    assert_eq!(collect(&data, Split::Test, BatchOptions { batch: 1, ..BatchOptions::default() }).len(), 9);

    let trained = collect(&data, Split::Train, BatchOptions { threads: 1, ..shuffled(4) });
    assert_eq!(trained.iter().map(Batch::len).collect::<Vec<_>>(), [4, 4, 2]);
    assert!(trained.iter().all(|b| !b.indices.contains(&4)));
    assert_eq!(collect(&data, Split::Train, BatchOptions { threads: 3, ..shuffled(4) }), trained);
    assert_eq!(data.rejected().len(), 1);

    let strict = Arc::new(open(dir.path(), &OpenOptions { strict: true, ..options(8) }).unwrap());
    let mut batches =
        Batches::new(strict.clone(), Split::Train, strict.all(Split::Train), shuffled(4)).unwrap();
    let error = batches.find_map(Result::err).expect("strict sets stop");
    assert!(error.to_string().contains("004.png"), "{error}");
    assert!(batches.next().is_none());
}

#[test]
fn a_set_of_damaged_files_ends_with_an_error_not_a_loop() {
    let dir = tempdir().unwrap();
    (0..3).for_each(|i| truncated_png(&dir.path().join(format!("{i}.png"))));
    let data = Arc::new(open(dir.path(), &options(8)).unwrap());
    let mut batches = Batches::new(data.clone(), Split::Train, data.all(Split::Train), shuffled(2)).unwrap();
    refusal(batches.next().unwrap());
    assert!(collect(&data, Split::Test, BatchOptions::default()).is_empty());
    assert_eq!(data.rejected().len(), 3);
}

#[test]
fn a_file_that_vanishes_costs_only_itself() {
    let dir = tempdir().unwrap();
    flat(dir.path(), 5);
    let data = Arc::new(open(dir.path(), &options(8)).unwrap());
    fs::remove_file(dir.path().join("001.png")).unwrap();
    assert_eq!(collect(&data, Split::Test, BatchOptions::default())[0].indices, [0, 2, 3, 4]);
    assert!(data.rejected()[0].reason.contains("cannot be opened"));
}

#[test]
fn held_out_images_are_never_trained_on() {
    let data = retina(100);
    let (train, val) = data.holdout(0.2, 3).unwrap();
    let ids = |indices: Indices| {
        let batches = Batches::new(data.clone(), Split::Train, indices, shuffled(16)).unwrap();
        batches.flat_map(|b| b.unwrap().indices).collect::<std::collections::BTreeSet<_>>()
    };
    let (train, val) = (ids(train), ids(val));
    assert_eq!((train.len(), val.len()), (80, 20));
    assert!(train.is_disjoint(&val));
}

#[test]
fn batch_sizes_outside_the_range_are_refused() {
    let data = retina(4);
    for batch in [0, 65537] {
        refusal(Batches::new(data.clone(), Split::Train, data.all(Split::Train), shuffled(batch)));
    }
    let dir = tempdir().unwrap();
    flat(dir.path(), 1);
    let large = Arc::new(open(dir.path(), &options(4096)).unwrap());
    // Six batches at a time of 5 bytes a value, and as much for decoding, of 1 GiB: one image of 16 Mi
    // values.
    let many = Indices::list(vec![0; 4000]);
    let result = Batches::new(large.clone(), Split::Train, many, shuffled(4000));
    let message = refusal(result);
    assert!(message.contains("batch `4000`") && message.contains("use 1 images or fewer"), "{message}");
}
