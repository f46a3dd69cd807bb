//! Every loader under one interface: small right files to start from, and what is done with one that may be
//! anything. Tests feed it mutants, fuzz targets whatever a fuzzer thinks of.
#![allow(dead_code, unreachable_pub, reason = "fuzz targets use it from outside, and each test its part")]

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use ganomede_datasets::signal::SignalSet;
use ganomede_datasets::{
    Dataset, OpenOptions, PatchOptions, Preprocess, SignalOptions, Split, Table, TableOptions, TrainPart,
    Windows, info,
};
use image::{DynamicImage, ImageFormat};
use zip::write::{SimpleFileOptions, ZipWriter};

/// What a file is given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image of a folder, and the mask of another.
    Image,
    /// A DICOM image.
    Dicom,
    /// Images or labels of an IDX pair.
    Idx,
    /// A CIFAR-10 batch, or the names of the classes.
    Cifar,
    /// An NPZ archive, or an array of one.
    Npz,
    /// A series.
    Signal,
    /// Labels of a series: windows in JSON, or CSV.
    Labels,
    /// A table: numbers, or KDD99.
    Table,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Image,
        Kind::Dicom,
        Kind::Idx,
        Kind::Cifar,
        Kind::Npz,
        Kind::Signal,
        Kind::Labels,
        Kind::Table,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Dicom => "dicom",
            Kind::Idx => "idx",
            Kind::Cifar => "cifar",
            Kind::Npz => "npz",
            Kind::Signal => "signal",
            Kind::Labels => "labels",
            Kind::Table => "table",
        }
    }

    /// Right files.
    pub fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Kind::Image => images(),
            Kind::Dicom => dicom(),
            Kind::Idx => {
                let images = idx(&[6, 4, 4], &(0..96).collect::<Vec<u8>>());
                vec![gzip(&images), images, idx(&[6], &[0, 1, 2, 0, 1, 2])]
            }
            Kind::Cifar => {
                let record = |label: u8| std::iter::once(label).chain((0..3072).map(|i| (i * 7) as u8));
                let names = "airplane\nautomobile\nbird\ncat\ndeer\n";
                vec![(0..3).flat_map(record).collect(), names.into(), vec![0; 3073]]
            }
            Kind::Npz => {
                let images = array("|u1", "6, 4, 4", &(0..96).collect::<Vec<u8>>());
                let labels = array("<i8", "6, 1", &[0; 48]);
                let colour = array("|u1", "2, 4, 4, 3", &[9; 96]);
                let parts = [("train_images", &images), ("train_labels", &labels), ("test_images", &images)];
                vec![archive(&parts), archive(&[("test_images", &colour)]), images, labels, colour]
            }
            Kind::Signal => {
                let plain = series();
                let bare = (0..40).map(|i| format!("{},{}\n", i % 7, i)).collect::<String>();
                let gaps = "time;ignored\n".to_owned() + "x,1,nan\ny,2,\n";
                vec![plain.clone().into(), bare.into(), gaps.into(), gzip(plain.as_bytes())]
            }
            Kind::Labels => [
                r#"{"series.csv": [["2014-01-01 00:10:00", "2014-01-01 00:20:00"]], "other.csv": []}"#,
                r#"[["2014-01-01 00:10:00", "2014-01-01 00:20:00"], [1388535000, 1388535600]]"#,
                "start,end,kind\n2014-01-01 00:10:00,2014-01-01 00:20:00,stuck\n",
                "1388535000,1388535600\n",
            ]
            .map(Into::into)
            .into(),
            Kind::Table => {
                let numbers = (0..30).map(|i| format!("{i},{},{}\n", i * i, u8::from(i % 7 == 0)));
                let text = "a,b,label\n".to_owned() + &numbers.collect::<String>();
                vec![gzip(text.as_bytes()), text.into(), kdd99().into()]
            }
        }
    }

    /// Gives `bytes` to the loader and uses what it makes of them; `place` is a folder of its own. Whether it
    /// took them.
    pub fn feed(self, bytes: &[u8], place: &Path) -> bool {
        let write = |name: &str, bytes: &[u8]| {
            let path = place.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        };
        let once = |name: &str, bytes: &dyn Fn() -> Vec<u8>| {
            if !place.join(name).exists() {
                write(name, &bytes());
            }
        };
        let preprocess = Preprocess::new(8);
        let options = OpenOptions { preprocess, ..OpenOptions::default() };
        let open = |name: &str, options: &OpenOptions| {
            images_of(Dataset::open(place.join(name).to_str().unwrap(), options))
        };
        let signal = |labels: Option<&str>| SignalOptions {
            train: Some(TrainPart::Fraction(0.5)),
            labels: labels.map(|name| place.join(name)),
            ..SignalOptions::default()
        };
        match self {
            Kind::Image => {
                let bytes = &with_right_checksums(bytes)[..];
                let seed = || images().remove(0);
                for name in ["train/good/a.png", "test/good/a.png", "test/bad/a.png"] {
                    once(&format!("set/{name}"), &seed);
                }
                write("set/ground_truth/bad/a_mask.png", bytes);
                write("flat/a.png", bytes);
                let patches = OpenOptions {
                    patch: Some(PatchOptions { size: 8, per_image: 2 }),
                    flatten: true,
                    ..options.clone()
                };
                open("set", &options);
                open("flat", &patches);
                open("flat", &options)
            }
            Kind::Dicom => {
                write("scans/a.dcm", bytes);
                let window = OpenOptions { window: Some([500.0, 1000.0]), ..options.clone() };
                open("scans", &window) | open("scans", &options)
            }
            Kind::Idx => {
                let ending = if bytes.starts_with(&[0x1f, 0x8b]) { ".gz" } else { "" };
                let (images, labels) = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
                let _ = fs::remove_dir_all(place.join("idx"));
                match bytes.get(3) {
                    Some(1) => {
                        write(&format!("idx/{images}"), &idx(&[6, 4, 4], &[5; 96]));
                        write(&format!("idx/{labels}{ending}"), bytes);
                    }
                    _ => write(&format!("idx/{images}{ending}"), bytes),
                }
                open("idx", &options)
            }
            Kind::Cifar => {
                let is_batch = bytes.len().is_multiple_of(3073);
                write("cifar/data_batch_1.bin", if is_batch { bytes } else { &[1; 3073] });
                write("cifar/batches.meta.txt", if is_batch { b"a\nb\nc\n" } else { bytes });
                open("cifar", &options)
            }
            Kind::Npz => {
                // The checksum of an archive hides its arrays from changes: some come as arrays, to be
                // packed.
                match bytes.starts_with(b"\x93NUMPY") {
                    true => {
                        let parts = [("train_images", &bytes.to_vec()), ("train_labels", &bytes.to_vec())];
                        write("set.npz", &archive(&parts));
                    }
                    false => write("set.npz", bytes),
                }
                open("set.npz", &options)
            }
            Kind::Signal => {
                write("series.csv", bytes);
                let column = SignalOptions { label_column: Some("1".into()), ..signal(None) };
                let path = place.join("series.csv");
                let labelled = series_of(SignalSet::open(path.to_str().unwrap(), &column));
                series_of(SignalSet::open(path.to_str().unwrap(), &signal(None))) | labelled
            }
            Kind::Labels => {
                once("series.csv", &|| series().into());
                let is_json = matches!(bytes.first(), Some(b'{' | b'['));
                let name = if is_json { "labels.json" } else { "labels.csv" };
                write(name, bytes);
                series_of(SignalSet::open(place.join("series.csv").to_str().unwrap(), &signal(Some(name))))
            }
            Kind::Table => {
                write("table.csv", bytes);
                let path = place.join("table.csv");
                let other = TableOptions {
                    label_column: Some("0".into()),
                    normal_labels: vec!["1".into(), "smurf".into()],
                    ..TableOptions::default()
                };
                let is_other = table_of(Table::open(path.to_str().unwrap(), &other));
                table_of(Table::open(path.to_str().unwrap(), &TableOptions::default())) | is_other
            }
        }
    }
}

/// What `datasets/tests/goldens/dicom.py` wrote, and a JPEG in pieces.
fn dicom() -> Vec<Vec<u8>> {
    let files: [&[u8]; 6] = [
        include_bytes!("../goldens/dicom/ct.dcm"),
        include_bytes!("../goldens/dicom/stack.dcm"),
        include_bytes!("../goldens/dicom/enhanced.dcm"),
        include_bytes!("../goldens/dicom/big.dcm"),
        include_bytes!("../goldens/dicom/xray.dcm"),
        include_bytes!("../goldens/dicom/deep.dcm"),
    ];
    let mut jpeg = Cursor::new(Vec::new());
    image::GrayImage::from_fn(16, 8, |x, y| image::Luma([(x * 9 + y * 5) as u8]))
        .write_to(&mut jpeg, ImageFormat::Jpeg)
        .unwrap();
    files.iter().map(|file| file.to_vec()).chain([jpeg_dicom(&jpeg.into_inner(), 16, 8)]).collect()
}

/// A JPEG of 8 bits as DICOM has it, in two pieces.
pub fn jpeg_dicom(jpeg: &[u8], width: u16, height: u16) -> Vec<u8> {
    let element = |group: u16, tag: u16, kind: &[u8; 2], value: &[u8]| {
        let length = (value.len() as u16).to_le_bytes();
        [&group.to_le_bytes()[..], &tag.to_le_bytes(), kind, &length, value].concat()
    };
    let number = |tag: u16, value: u16| element(0x28, tag, b"US", &value.to_le_bytes());
    let piece = |bytes: &[u8]| {
        let length = (bytes.len() as u32).to_le_bytes();
        [&[0xfe, 0xff, 0x00, 0xe0][..], &length, bytes].concat()
    };
    let mut jpeg = jpeg.to_vec();
    jpeg.resize(jpeg.len().next_multiple_of(4), 0);
    let half = jpeg.len() / 4 * 2;
    [
        vec![0; 128],
        b"DICM".to_vec(),
        element(2, 0x10, b"UI", b"1.2.840.10008.1.2.4.50"),
        number(2, 1),
        element(0x28, 4, b"CS", b"MONOCHROME2 "),
        number(0x10, height),
        number(0x11, width),
        number(0x100, 8),
        number(0x101, 8),
        number(0x102, 7),
        number(0x103, 0),
        [&[0xe0, 0x7f, 0x10, 0x00][..], b"OB\0\0", &[0xff; 4]].concat(),
        piece(&[]),
        piece(&jpeg[..half]),
        piece(&jpeg[half..]),
        vec![0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0],
    ]
    .concat()
}

/// Uses a data set as commands do.
fn images_of(opened: Result<Dataset, ganomede_datasets::DataError>) -> bool {
    let Ok(data) = opened else { return false };
    for split in [Split::Train, Split::Test] {
        for i in 0..data.len(split).min(3) {
            if let Ok(sample) = data.load(split, i) {
                assert!(sample.image.pixels.iter().all(|p| (-1.0..=1.0).contains(p)), "{}", sample.id);
            }
        }
        let _ = data.manifest(split);
    }
    let _ = (info(&data, false), data.overlap());
    true
}

fn series_of(opened: Result<SignalSet, ganomede_datasets::DataError>) -> bool {
    let Ok(set) = opened else { return false };
    let windows = Windows::new(0..set.series().len(), 4, 1);
    if let Ok(windows) = windows {
        let batch = set.gather(&windows, &[0, windows.len() - 1]);
        assert_eq!(batch.len(), 2 * 4 * set.channels());
        set.without_anomalies(&windows);
    }
    assert!(set.intervals().iter().all(|i| i.rows.start < i.rows.end && i.rows.end <= set.series().len()));
    set.digest();
    true
}

fn table_of(opened: Result<Table, ganomede_datasets::DataError>) -> bool {
    let Ok(table) = opened else { return false };
    for split in [Split::Train, Split::Test] {
        if !table.is_empty(split) {
            assert_eq!(table.gather(split, &[0, table.len(split) - 1]).len(), 2 * table.features().len());
        }
    }
    table.digest();
    true
}

fn images() -> Vec<Vec<u8>> {
    let pixel = |x: u32, y: u32| (x * 13 + y * 31) as u8;
    let gray = image::GrayImage::from_fn(12, 9, |x, y| image::Luma([pixel(x, y)]));
    let rgb = image::RgbImage::from_fn(9, 12, |x, y| image::Rgb([pixel(x, y), pixel(y, x), 7]));
    let deep = image::ImageBuffer::<image::Rgba<u16>, Vec<u16>>::from_fn(8, 8, |x, y| {
        image::Rgba([u16::from(pixel(x, y)) * 257, 1, 2, 65535])
    });
    let deep_gray = image::ImageBuffer::<image::Luma<u16>, Vec<u16>>::from_fn(8, 8, |x, y| {
        image::Luma([u16::from(pixel(x, y)) * 200])
    });
    let encode = |image: DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    vec![
        encode(gray.clone().into(), ImageFormat::Png),
        encode(rgb.clone().into(), ImageFormat::Png),
        encode(deep.into(), ImageFormat::Png),
        encode(gray.clone().into(), ImageFormat::Jpeg),
        encode(rgb.clone().into(), ImageFormat::Jpeg),
        encode(rgb.clone().into(), ImageFormat::Bmp),
        encode(gray.into(), ImageFormat::Bmp),
        encode(rgb.into(), ImageFormat::Tiff),
        encode(deep_gray.into(), ImageFormat::Tiff),
    ]
}

/// A PNG whose chunks carry right checksums again, so that changes get beyond them; all else as it is.
fn with_right_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut png = bytes.to_vec();
    let mut at = 8;
    while bytes.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() >= at + 12 {
        let length = u32::from_be_bytes([png[at], png[at + 1], png[at + 2], png[at + 3]]) as usize;
        let end = at + 8 + length.min(png.len() - at - 12);
        let mut crc = flate2::Crc::new();
        crc.update(&png[at + 4..end]);
        png[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
    png
}

fn series() -> String {
    let row = |i: usize| format!("2014-01-01 00:{:02}:00,{},{}.5,{}\n", i, i % 7, i, u8::from(i > 20));
    "timestamp,a,b,flag\n".to_owned() + &(0..40).map(row).collect::<String>()
}

fn kdd99() -> String {
    let row = |label: &str| format!("0,icmp,ecr_i,SF,1032{},{label}\n", ",0".repeat(36));
    ["smurf.", "normal.", "smurf.", "smurf."].map(row).concat()
}

/// An IDX file: header with `sizes`, then `data`.
fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    file.extend(sizes.iter().flat_map(|s| s.to_be_bytes()));
    file.extend(data);
    file
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An array file: version 1 header, then the data.
pub fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

pub fn archive(members: &[(&str, &Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in members {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
