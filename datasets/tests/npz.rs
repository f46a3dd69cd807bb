//! NPZ sets: what NumPy writes is read, and what lies is refused before memory is taken.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::common::{open, options, refusal};
use ganomede_datasets::{Channels, OpenOptions, Preprocess, Split, Truth};
use tempfile::tempdir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn normal(class: &str, size: usize) -> OpenOptions {
    OpenOptions { normal_classes: vec![class.into()], ..options(size) }
}

#[test]
fn a_set_that_numpy_wrote_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/medmnist.npz");
    let chosen = OpenOptions { preprocess: Preprocess::new(3), ..normal("0", 3) };
    let data = open(&path, &chosen).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train), data.len(Split::Test)), ("npz", 3, 3));
    // Images 0 and 3 of train and 0 of val have class 0.
    let ids: Vec<_> = (0..3).map(|i| data.entry(Split::Train, i).unwrap().id).collect();
    assert_eq!(ids, ["train:0", "train:3", "val:0"]);
    let truths: Vec<_> = (0..3).map(|i| data.entry(Split::Test, i).unwrap().truth).collect();
    assert_eq!(truths, [Truth::Anomalous, Truth::Anomalous, Truth::Normal]);
    // Rows 1 of 4 × 3 images, columns exact: the middle of the vertical filter is checked by the generator of
    // the file.
    let image = data.load(Split::Train, 2).unwrap().image;
    let byte = |x: f32| (x + 1.0) * 127.5;
    assert!((byte(image.pixels[1]) - byte(image.pixels[0]) - 1.0).abs() < 1e-3, "columns are neighbours");
    assert!(
        byte(image.pixels[0]) >= 100.0 && byte(image.pixels[8]) <= 111.0,
        "the image is the first of val"
    );
    assert_eq!(data.digest(Split::Test).unwrap().len(), 64);
}

/// An array file: version 1 header, then the data.
fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n"), data)
}

fn archive(path: &Path, members: &[(&str, Vec<u8>)]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, data) in members {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn colour_and_every_kind_of_label_are_read() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("set.npz");
    let colours: Vec<u8> = (0..2 * 2 * 2 * 3).collect();
    let labels = |descr: &str, shape: &str, data: &[u8]| {
        let images = array("|u1", "2, 2, 2, 3", &colours);
        archive(&path, &[("test_images", images), ("test_labels", array(descr, shape, data))]);
        let preprocess = Preprocess { channels: Channels::Rgb, ..Preprocess::new(2) };
        let data = open(&path, &OpenOptions { preprocess, ..normal("0", 2) }).unwrap();
        let image = data.load(Split::Test, 1).unwrap().image;
        // Interleaved in the file, planar in the image.
        let bytes: Vec<_> = image.pixels.iter().map(|x| ((x + 1.0) * 127.5).round() as u8).collect();
        assert_eq!(bytes, [12, 15, 18, 21, 13, 16, 19, 22, 14, 17, 20, 23]);
        (0..2).map(|i| data.entry(Split::Test, i).unwrap().class).collect::<Vec<_>>()
    };
    assert_eq!(labels("|u1", "2,", &[0, 3]), ["0", "3"]);
    assert_eq!(labels("<i8", "2, 1", &[0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]), ["0", "3"]);
    assert_eq!(labels(">i4", "2, 1", &[0, 0, 0, 0, 0, 0, 0, 3]), ["0", "3"]);
    assert_eq!(labels("|b1", "2,", &[0, 1]), ["0", "1"]);
    // Findings: any makes the image class 1.
    assert_eq!(labels("|u1", "2, 3", &[0, 0, 0, 0, 1, 0]), ["0", "1"]);
}

#[test]
fn archives_that_lie_are_refused() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("set.npz");
    let refused = |members: &[(&str, Vec<u8>)]| {
        archive(&path, members);
        let message = refusal(open(&path, &normal("0", 4)));
        assert!(message.contains("set.npz"), "{message}");
        message
    };
    let images = |bytes: Vec<u8>| refused(&[("test_images", bytes)]);
    assert!(images(array("|u1", "4000000, 4096, 4096", &[0; 64])).contains("promises more than"));
    let endless = images(array("|u1", "18446744073709551615, 18446744073709551615, 2", &[0; 64]));
    assert!(endless.contains("18446744073709551615 images"), "{endless}");
    assert!(images(array("|u1", "2, 4, 4", &[0; 31])).contains("31 are there"));
    assert!(images(array("|u1", "2, 4, 4", &[0; 33])).contains("more are there"));
    assert!(images(array("|O", "2, 4, 4", &[0; 32])).contains("`|O` is not read"));
    assert!(images(array("<f4", "2, 4, 1", &[0; 32])).contains("`<f4` is not read"));
    assert!(images(array("<u2", "1, 4, 4", &[0; 32])).contains("unsigned bytes"));
    assert!(images(array("|i1", "2, 4, 4", &[0; 32])).contains("unsigned bytes"));
    assert!(images(array("|u1", "32,", &[0; 32])).contains("N × H × W"));
    assert!(images(array("|u1", "2, 4, 4, 1, 1", &[0; 32])).contains("N × H × W"));
    assert!(images(array("|u1", "1, 4, 4, 2", &[0; 32])).contains("N × H × W"));
    assert!(images(array("|u1", "2, 0, 4", &[])).contains("sides"));
    assert!(images(array("|u1", "1, 1, 5000", &[0; 5000])).contains("sides"));
    let fortran = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 4, 4), }";
    assert!(images(npy(fortran, &[0; 32])).contains("Fortran order"));
    let record = "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2, 4, 4), }";
    assert!(images(npy(record, &[0; 32])).contains("cannot be understood"));
    assert!(images(npy("{", &[])).contains("cannot be understood"));
    assert!(images(b"\x93NUMPY\x09\x00\x00\x00".to_vec()).contains("not an array"));
    assert!(images(b"\x93NUM".to_vec()).contains("cannot be unpacked"));
    assert!(images(Vec::new()).contains("cannot be unpacked"));
    assert!(images(b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec()).contains("too long"));

    let good = || ("test_images", array("|u1", "2, 4, 4", &[0; 32]));
    let labels = |labels: Vec<u8>| refused(&[good(), ("test_labels", labels)]);
    assert!(labels(array("|u1", "3,", &[0; 3])).contains("for 2 images"));
    assert!(labels(array("|i1", "2,", &[0, 255])).contains("item 1 is out of range"));
    assert!(labels(array("<i4", "2,", &[0, 0, 0, 0, 0, 1, 0, 0])).contains("item 1 is out of range"));
    assert!(labels(array("|u1", "2, 2", &[0, 1, 0, 2])).contains("item 3 is out of range"));
    assert!(refused(&[("other", array("|u1", "1,", &[0]))]).contains("other.npy"));
    let other_size = ("val_images", array("|u1", "2, 4, 2", &[0; 16]));
    assert!(refused(&[("train_images", array("|u1", "2, 4, 4", &[0; 32])), other_size]).contains("differ"));
}

#[test]
fn damaged_archives_are_refused_whatever_is_cut_or_flipped() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("set.npz");
    let pixels: Vec<u8> = (0..160).map(|i| (i * 37 % 251) as u8).collect();
    archive(&path, &[("test_images", array("|u1", "10, 4, 4", &pixels))]);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        refusal(open(&path, &options(4)));
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        fs::write(&path, damaged).unwrap();
        // Whatever it says (dates and attributes may be damaged without harm), it does not panic.
        if let Ok(data) = open(&path, &options(4)) {
            assert_eq!(data.len(Split::Test), 10);
        }
    }
}
