//! IDX and CIFAR-10: selections, and files that lie.

use std::fs;
use std::path::Path;

use crate::common::{gzip, idx, idx_pair, open, options, refusal};
use ganomede_datasets::{Channels, OpenOptions, Preprocess, Split, Truth};
use tempfile::tempdir;

fn classes(normal: &[&str], anomalous: &[&str]) -> OpenOptions {
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    OpenOptions { normal_classes: list(normal), anomalous_classes: list(anomalous), ..options(4) }
}

#[test]
fn one_against_the_rest_and_leave_one_out() {
    let dir = tempdir().unwrap();
    idx_pair(dir.path(), "train", 30, true);
    idx_pair(dir.path(), "t10k", 9, false);

    let data = open(dir.path(), &classes(&["1"], &[])).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train), data.len(Split::Test)), ("idx", 10, 9));
    let sample = data.load(Split::Train, 2).unwrap();
    assert_eq!((sample.id.as_str(), sample.class.as_str(), sample.truth), ("train:7", "1", Truth::Normal));
    assert_eq!(sample.image.pixels, [2.0 * 7.0 / 255.0 - 1.0; 16]);
    let truths: Vec<_> = (0..3).map(|i| data.entry(Split::Test, i).unwrap().truth).collect();
    assert_eq!(truths, [Truth::Anomalous, Truth::Normal, Truth::Anomalous]);

    let data = open(dir.path(), &classes(&[], &["1"])).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (20, 9));
    assert!((0..20).all(|i| data.entry(Split::Train, i).unwrap().class != "1"));

    let data = open(dir.path(), &classes(&["0"], &["2"])).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (10, 6));
}

#[test]
fn selections_that_do_not_fit_name_the_classes() {
    let dir = tempdir().unwrap();
    idx_pair(dir.path(), "train", 30, false);
    let message = refusal(open(dir.path(), &classes(&["7"], &[])));
    assert!(message.contains("no class `7`") && message.contains("0, 1, 2"), "{message}");
    assert!(refusal(open(dir.path(), &classes(&["1"], &["1"]))).contains("choose one"));
    assert!(refusal(open(dir.path(), &classes(&[], &["0", "1", "2"]))).contains("at least one normal"));

    let data = open(dir.path(), &options(4)).unwrap();
    assert_eq!(data.entry(Split::Train, 0).unwrap().truth, Truth::Unknown);
    let training = OpenOptions { for_training: true, ..options(4) };
    assert!(refusal(open(dir.path(), &training)).contains("one against the rest"));
}

/// Of IDX, CIFAR-10 and NPZ sets: what a model learned holds where nothing is said, and nobody may say the
/// contrary.
#[test]
fn classes_are_those_that_a_model_learned() {
    let dir = tempdir().unwrap();
    let (digits, colours) = (dir.path().join("idx"), dir.path().join("cifar"));
    idx_pair(&digits, "train", 30, true);
    idx_pair(&digits, "t10k", 9, false);
    fs::create_dir_all(&colours).unwrap();
    cifar(&colours.join("data_batch_1.bin"), 20);
    cifar(&colours.join("test_batch_first.bin"), 10);
    let npz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/medmnist.npz");
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<String>>();
    for (path, one, other) in [(&digits, "1", "2"), (&colours, "6", "2"), (&npz, "0", "1")] {
        let learned = |given: OpenOptions| OpenOptions { learned_classes: [list(&[one]), vec![]], ..given };
        let truths = |options: &OpenOptions| {
            let data = open(path, options).unwrap();
            let truth = |i| data.entry(Split::Test, i).unwrap().truth;
            (data.len(Split::Train), (0..data.len(Split::Test)).map(truth).collect::<Vec<_>>())
        };
        let said = truths(&classes(&[one], &[]));
        assert!(said.1.contains(&Truth::Normal) && said.1.contains(&Truth::Anomalous), "{one}");
        assert_eq!(truths(&learned(options(4))), said, "nothing is said");
        assert_eq!(truths(&learned(classes(&[one], &[]))), said, "the same is said");
        // Fewer anomalous classes are no contradiction: the others are left out.
        let narrower = truths(&learned(classes(&[one], &[other])));
        assert_eq!(narrower, truths(&classes(&[one], &[other])));
        for contrary in [classes(&[other], &[]), classes(&[], &[one]), classes(&[other], &[one])] {
            let message = refusal(open(path, &learned(contrary)));
            assert!(message.contains("when the model was trained"), "{message}");
        }
    }
    // CIFAR-10's classes have names: the number and the name are one class, in any case of letters.
    let learned = OpenOptions { learned_classes: [vec![], list(&["frog"])], ..classes(&[], &["6"]) };
    assert_eq!(open(&colours, &learned).unwrap().len(Split::Test), 10);
    let twice = refusal(open(&colours, &classes(&["Frog"], &["6"])));
    assert!(twice.contains("choose one"), "{twice}");
}

#[test]
fn single_files_and_sets_without_labels_open() {
    let dir = tempdir().unwrap();
    idx_pair(dir.path(), "t10k", 6, true);
    let file = dir.path().join("t10k-images-idx3-ubyte.gz");
    assert_eq!(open(&file, &classes(&["2"], &[])).unwrap().len(Split::Test), 6);
    fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte.gz")).unwrap();
    let data = open(&file, &options(4)).unwrap();
    assert_eq!(data.entry(Split::Test, 5).unwrap().truth, Truth::Unknown);
}

/// Opens `images` (with right labels for two images) and returns the refusal.
fn refused_idx(name: &str, images: &[u8]) -> String {
    let dir = tempdir().unwrap();
    idx_pair(dir.path(), "train", 2, false);
    fs::remove_file(dir.path().join("train-images-idx3-ubyte")).unwrap();
    fs::write(dir.path().join(name), images).unwrap();
    let message = refusal(open(dir.path(), &classes(&["0"], &[])));
    assert!(message.contains(name), "{message}");
    message
}

#[test]
fn idx_files_that_lie_are_refused_before_memory_is_taken() {
    let plain = "train-images-idx3-ubyte";
    let zipped = "train-images-idx3-ubyte.gz";
    let good = idx(&[2, 4, 4], &[0; 32]);
    let short = idx(&[60_000, 4, 4], &[0; 32]);
    assert!(refused_idx(plain, &short).contains("promises 960000 bytes"));
    assert!(refused_idx(zipped, &gzip(&short)).contains("promises 960000 bytes"));
    let absurd = idx(&[u32::MAX, 4096, 4096], &[0; 32]);
    assert!(refused_idx(plain, &absurd).contains("count"));
    assert!(refused_idx(zipped, &gzip(&absurd)).contains("count"));
    assert!(refused_idx(plain, &idx(&[2, 4, 4], &[0; 33])).contains("more are there"));
    assert!(refused_idx(zipped, &gzip(&idx(&[2, 4, 4], &[0; 33]))).contains("more are there"));
    // Within what deflate could expand to, yet not there.
    assert!(refused_idx(zipped, &gzip(&idx(&[5, 4, 4], &[0; 32]))).contains("32 are there"));
    assert!(refused_idx(plain, &idx(&[2, 0, 4], &[])).contains("field height: 0"));
    assert!(refused_idx(plain, &idx(&[2, 4, 5000], &[])).contains("field width: 5000"));
    assert!(refused_idx(plain, &idx(&[2, 16], &[0; 32])).contains("field magic"));
    assert!(refused_idx(plain, b"not an idx file, but long enough").contains("field magic"));
    assert!(refused_idx(plain, &good[..9]).contains("within the header"));
    let mut floats = good.clone();
    floats[2] = 0x0d;
    assert!(refused_idx(plain, &floats).contains("field type: 0x0d"));
    let packed = gzip(&idx(&[2, 4, 4], &(0..32).map(|i| i * 7).collect::<Vec<u8>>()));
    let message = refused_idx(zipped, &packed[..packed.len() - 12]);
    assert!(message.contains("incomplete") || message.contains("unpacked"), "{message}");
    assert!(refused_idx(zipped, &packed[..packed.len() - 4]).contains("incomplete"));
    let mut flipped = packed.clone();
    let checksum = packed.len() - 8;
    flipped[checksum] ^= 1;
    assert!(refused_idx(zipped, &flipped).contains("unpacked"));
    assert!(refused_idx(zipped, &good).contains("unpacked"));
}

#[test]
fn label_and_image_counts_must_agree() {
    let dir = tempdir().unwrap();
    idx_pair(dir.path(), "train", 2, false);
    fs::write(dir.path().join("train-images-idx3-ubyte"), idx(&[3, 4, 4], &[0; 48])).unwrap();
    assert!(refusal(open(dir.path(), &options(4))).contains("2 labels for 3 images"));
}

/// `n` records whose planes are constant (10, 20, 30), labelled in turn.
fn cifar(path: &Path, n: u8) {
    let record = |i: u8| {
        let mut record = vec![i % 10];
        record.extend([10, 20, 30].iter().flat_map(|&v| [v; 1024]));
        record
    };
    fs::write(path, (0..n).flat_map(record).collect::<Vec<_>>()).unwrap();
}

#[test]
fn cifar_planes_and_names() {
    let dir = tempdir().unwrap();
    cifar(&dir.path().join("data_batch_1.bin"), 20);
    cifar(&dir.path().join("data_batch_2.bin"), 10);
    cifar(&dir.path().join("test_batch_first.bin"), 10);
    let preprocess = Preprocess { channels: Channels::Rgb, ..Preprocess::new(32) };
    let frogs = OpenOptions { preprocess, ..classes(&[], &["frog"]) };
    let data = open(dir.path(), &frogs).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train), data.len(Split::Test)), ("cifar10", 27, 10));
    assert_eq!(data.entry(Split::Test, 6).unwrap().truth, Truth::Anomalous);
    let image = data.load(Split::Train, 0).unwrap().image;
    for (plane, value) in image.pixels.chunks(1024).zip([10.0, 20.0, 30.0]) {
        assert!(plane.iter().all(|p| (p - (2.0 * value / 255.0 - 1.0)).abs() < 1e-6));
    }

    fs::write(dir.path().join("batches.meta.txt"), "a\nb\n\n").unwrap();
    assert!(refusal(open(dir.path(), &options(32))).contains("label 2 but there are 2 classes"));
    fs::write(dir.path().join("batches.meta.txt"), "").unwrap();
    assert!(refusal(open(dir.path(), &options(32))).contains("0 class names"));
}

#[test]
fn cut_cifar_files_are_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("data_batch_1.bin");
    cifar(&path, 2);
    let bytes = fs::read(&path).unwrap();
    for cut in [0, 1, 3072, 3074] {
        fs::write(&path, &bytes[..cut]).unwrap();
        assert!(refusal(open(dir.path(), &options(32))).contains("records of 3073"));
    }
}

#[test]
fn the_digest_covers_pixels_and_selection() {
    let dir = tempdir().unwrap();
    idx_pair(dir.path(), "train", 30, false);
    let digest =
        |normal: &str| open(dir.path(), &classes(&[normal], &[])).unwrap().digest(Split::Train).unwrap();
    let before = digest("1");
    assert_eq!(before, digest("1"));
    assert_ne!(before, digest("2"));
    let path = dir.path().join("train-images-idx3-ubyte");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_ne!(before, digest("1"));
}
