//! DICOM images, against what pydicom makes of them (`goldens/dicom.py`).

#[path = "common/hostile.rs"]
mod hostile;

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{open, options, refusal, save};
use ganomede_datasets::{Dataset, OpenOptions, Preprocess, Size, Split, info, write_mvtec};
use image::{GrayImage, Luma};
use tempfile::tempdir;

const SIZE: Size = Size { height: 9, width: 11 };

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/dicom").join(name)
}

/// At its own size, so that nothing is scaled.
fn own() -> OpenOptions {
    OpenOptions { preprocess: Preprocess::new(SIZE), ..OpenOptions::default() }
}

/// Grays of each frame as shares of the range.
fn shares(data: &Dataset) -> Vec<Vec<f64>> {
    let frame = |i| data.load(Split::Test, i).unwrap().image.pixels;
    let share = |p: f32| (f64::from(p) + 1.0) / 2.0;
    (0..data.len(Split::Test)).map(|i| frame(i).into_iter().map(share).collect()).collect()
}

#[test]
fn rescaling_windows_and_frames_are_those_of_pydicom() {
    for (name, frames) in [("ct", 1), ("xray", 1), ("stack", 3), ("deep", 1), ("big", 1), ("enhanced", 2)] {
        let data = open(&golden(&format!("{name}.dcm")), &own()).unwrap();
        let text = fs::read_to_string(golden(&format!("{name}.csv"))).unwrap();
        let expected: Vec<Vec<f64>> =
            text.lines().map(|line| line.split(',').map(|v| v.parse().unwrap()).collect()).collect();
        let found = shares(&data);
        assert_eq!((found.len(), expected.len()), (frames, frames), "{name}");
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            // Within half a step of 16 bits, and what 32-bit floats round.
            assert!((found - expected).abs() < 1e-5, "{name}: {found} and {expected}");
        }
        assert!(data.entry(Split::Test, 0).unwrap().id.ends_with(if frames > 1 { ".dcm#0" } else { ".dcm" }));
    }
}

#[test]
fn a_window_that_is_given_takes_the_place_of_the_file_s() {
    let window = |centre: f64, width: f64| OpenOptions { window: Some([centre, width]), ..own() };
    // Values are 0 to 4095: black and white beyond the window.
    let data = open(&golden("xray.dcm"), &window(2048.0, 2.0)).unwrap();
    let (found, whole) =
        (shares(&data).remove(0), shares(&open(&golden("xray.dcm"), &own()).unwrap()).remove(0));
    for (found, whole) in found.iter().zip(whole) {
        let stored = (1.0 - whole) * 4095.0;
        assert_eq!(*found, f64::from(stored < 2047.5), "{stored}");
    }
    for (centre, width) in [(0.0, 0.5), (f64::NAN, 4.0), (0.0, f64::INFINITY)] {
        assert!(refusal(open(&golden("xray.dcm"), &window(centre, width))).contains("a width of at least 1"));
    }
    // `bits` are those of other files.
    let bits = OpenOptions { bits: Some(8), ..own() };
    let data = open(&golden("xray.dcm"), &bits).unwrap();
    assert_eq!(
        (shares(&data), data.findings().bits_used),
        (shares(&open(&golden("xray.dcm"), &own()).unwrap()), None)
    );
}

#[test]
fn files_without_an_extension_are_told_by_how_they_begin() {
    let dir = tempdir().unwrap();
    fs::copy(golden("ct.dcm"), dir.path().join("IM000001")).unwrap();
    fs::copy(golden("stack.dcm"), dir.path().join("1.2.840.17")).unwrap();
    fs::copy(golden("ct.dcm"), dir.path().join("DICOMDIR")).unwrap();
    fs::write(dir.path().join("README"), "no image").unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.len(Split::Test), data.rejected()), (4, vec![]));
    (0..4).for_each(|i| drop(data.load(Split::Test, i).unwrap()));
    assert_eq!(data.places()[0].images, 4);
}

#[test]
fn jpeg_in_pieces_is_the_same_picture() {
    let dir = tempdir().unwrap();
    let image = GrayImage::from_fn(16, 16, |x, y| Luma([(x * 9 + y * 5) as u8]));
    save(&dir.path().join("a.jpg"), image);
    let jpeg = fs::read(dir.path().join("a.jpg")).unwrap();
    fs::write(dir.path().join("b.dcm"), hostile::jpeg_dicom(&jpeg, 16, 16)).unwrap();
    let data = open(dir.path(), &options(16)).unwrap();
    let [a, b] = [0, 1].map(|i| data.load(Split::Test, i).unwrap().image.pixels);
    // Two decoders, each of which may round.
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 2.5 / 127.5), "{a:?} {b:?}");
    // The header of the JPEG has to be that of the file.
    fs::write(dir.path().join("b.dcm"), hostile::jpeg_dicom(&jpeg, 8, 16)).unwrap();
    let data = open(dir.path(), &options(16)).unwrap();
    assert!(refusal(data.load(Split::Test, 1)).contains("another size"));
}

#[test]
fn nothing_of_a_patient_reaches_an_output() {
    let dir = tempdir().unwrap();
    for name in ["ct", "stack"] {
        fs::copy(golden(&format!("{name}.dcm")), dir.path().join(format!("{name}.dcm"))).unwrap();
    }
    let data = open(dir.path(), &own()).unwrap();
    let mut said =
        format!("{:?}{:?}{:?}", info(&data, true).unwrap(), data.manifest(Split::Test), data.findings());
    let out = dir.path().join("out");
    write_mvtec(&data, &out, 4, 0).unwrap();
    for file in fs::read_dir(out.join("train/good")).unwrap() {
        said += &String::from_utf8_lossy(&fs::read(file.unwrap().path()).unwrap());
    }
    // Damaged at any place, with messages that quote nothing.
    let bytes = fs::read(golden("ct.dcm")).unwrap();
    for at in (132..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        fs::write(dir.path().join("ct.dcm"), damaged).unwrap();
        match open(&dir.path().join("ct.dcm"), &own()) {
            Ok(data) => said += &data.load(Split::Test, 0).err().map(|e| e.to_string()).unwrap_or_default(),
            Err(error) => said += &error.to_string(),
        }
    }
    for secret in ["Secretname", "SECRETID", "19700102"] {
        assert!(!said.contains(secret), "{secret}");
    }
}

#[test]
fn what_is_not_read_is_said() {
    let dir = tempdir().unwrap();
    let ct = fs::read(golden("ct.dcm")).unwrap();
    let with = |from: &[u8], to: &[u8]| {
        let at = ct.windows(from.len()).position(|bytes| bytes == from).unwrap();
        let mut bytes = ct.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    for (bytes, said) in [
        (with(b"MONOCHROME2", b"PALETTE COL"), "colours in a form that is not read"),
        (with(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"), "a transfer syntax that is not read"),
        (
            with(&[0x28, 0, 0x10, 0, b'U', b'S', 2, 0, 9], &[0x28, 0, 0x10, 0, b'U', b'S', 2, 0, 90]),
            "promises 1 frames of 11×90",
        ),
        (
            with(&[0x28, 0, 0x00, 1, b'U', b'S', 2, 0, 16], &[0x28, 0, 0x00, 1, b'U', b'S', 2, 0, 32]),
            "bits of 32",
        ),
        (with(b"DS\x04\x000.5", b"DS\x04\x000.0"), "a rescale slope of 0"),
        (ct[..ct.len() - 30].to_vec(), "ends within an element"),
        (ct[..400].to_vec(), ""),
    ] {
        fs::write(dir.path().join("a.dcm"), bytes).unwrap();
        let message = refusal(open(&dir.path().join("a.dcm"), &own()));
        assert!(message.contains(said) && message.contains("a.dcm"), "{said}: {message}");
    }
    fs::write(dir.path().join("a.dcm"), "no DICOM").unwrap();
    assert!(refusal(open(&dir.path().join("a.dcm"), &own())).contains("not an image of a known format"));
}
