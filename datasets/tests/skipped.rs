//! What lies in a folder and is not used is reported.

use std::fs;

use crate::common::{flat, gradient, open, options, raw_tiff, refusal, save};
use ganomede_datasets::{Dataset, OpenOptions, Rejected, Split};
use image::{ImageBuffer, Luma, LumaA, Rgb, RgbImage};
use tempfile::tempdir;

/// The last part of each path, and the reason.
fn named(list: &[Rejected]) -> Vec<(&str, &str)> {
    list.iter().map(|one| (one.path.rsplit('/').next().unwrap(), one.reason.as_str())).collect()
}

#[test]
fn folders_below_are_read_and_hidden_images_of_a_flat_folder_named() {
    let dir = tempdir().unwrap();
    flat(dir.path(), 3);
    flat(&dir.path().join("2024-05/라인 1"), 4);
    save(&dir.path().join("._000.png"), gradient(1));
    fs::write(dir.path().join(".DS_Store"), "").unwrap();
    fs::create_dir(dir.path().join("notes")).unwrap();
    fs::write(dir.path().join("notes/read.txt"), "").unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    let skipped = data.findings().skipped;
    let skipped = named(&skipped);
    assert_eq!((data.len(Split::Train), data.len(Split::Test), skipped.len()), (7, 7, 1), "{skipped:?}");
    assert!(
        skipped[0].1.contains("1 image with hidden names") && skipped[0].1.contains("._000.png"),
        "{skipped:?}"
    );
    let places: Vec<_> = data.places().into_iter().map(|place| (place.folder, place.images)).collect();
    let below = dir.path().join("2024-05/라인 1").to_string_lossy().into_owned();
    assert_eq!((places[0].1, &places[1]), (3, &(below, 4)), "{places:?}");
    assert!(data.why().contains("7 images of 2 folders"), "{}", data.why());
    assert_eq!(data.rejected(), []);
}

#[test]
fn what_lies_beside_the_folders_of_classes() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    flat(&at("train/good"), 2);
    flat(&at("train/bad"), 3);
    flat(&at("test/Good"), 1);
    flat(&at("test/dent/deeper/still"), 2);
    save(&at("test/dent/0.png"), gradient(1));
    save(&at("test/loose.png"), gradient(2));
    save(&at("test/loose.webp.png"), gradient(2));
    save(&at("photo.jpg"), gradient(3));
    flat(&at("validation/good"), 5);
    fs::create_dir_all(at("test/empty")).unwrap();
    fs::write(at("license.txt"), "").unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (2, 4));
    // A folder of good images is one in any letters.
    assert_eq!(data.entry(Split::Test, 0).unwrap().truth, ganomede_datasets::Truth::Normal);
    let skipped = data.findings().skipped;
    let skipped = named(&skipped);
    for (name, fragment) in [
        ("bad", "3 images"),
        ("test", "2 images beside the folders of classes"),
        ("validation", "5 images"),
        ("empty", "holds no usable image"),
    ] {
        assert!(skipped.iter().any(|(n, r)| *n == name && r.contains(fragment)), "{name}: {skipped:?}");
    }
    assert!(skipped.iter().any(|(_, reason)| reason.contains("photo.jpg")), "{skipped:?}");
    assert_eq!(skipped.len(), 5, "{skipped:?}");
    let deeper = data.entry(Split::Test, 2).unwrap();
    assert!(deeper.id.ends_with("dent/deeper/still/000.png") && deeper.class == "dent", "{deeper:?}");
}

#[cfg(unix)]
#[test]
fn a_class_whose_name_is_not_text_is_listed() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempdir().unwrap();
    flat(&dir.path().join("train/good"), 1);
    flat(&dir.path().join("test/good"), 1);
    flat(&dir.path().join("test").join(std::ffi::OsStr::from_bytes(b"k\xe4fer")), 3);
    let data = open(dir.path(), &options(8)).unwrap();
    let rejected = data.rejected();
    assert_eq!((data.len(Split::Test), rejected.len()), (1, 1));
    assert!(rejected[0].reason.contains("not UTF-8, so its 3 images are missing"), "{rejected:?}");
    assert!(refusal(open(dir.path(), &OpenOptions { strict: true, ..options(8) })).contains("not UTF-8"));
}

#[test]
fn pages_are_images_of_their_own() {
    let dir = tempdir().unwrap();
    let page = |level: u8| vec![level; 16 * 16];
    fs::write(dir.path().join("three.tif"), raw_tiff([16; 2], None, &[page(51), page(1), page(2)])).unwrap();
    fs::write(dir.path().join("one.tif"), raw_tiff([16; 2], None, &[page(51)])).unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.len(Split::Test), data.findings().skipped), (4, vec![]));
    let ids: Vec<_> = (0..4).map(|i| data.entry(Split::Test, i).unwrap().id).collect();
    for (id, end) in ids.iter().zip(["one.tif", "three.tif#0", "three.tif#1", "three.tif#2"]) {
        assert!(id.ends_with(end), "{ids:?}");
    }
    for (i, level) in [51.0, 51.0, 1.0, 2.0].into_iter().enumerate() {
        let image = data.load(Split::Test, i).unwrap().image;
        let expected: f32 = 2.0 * level / 255.0 - 1.0;
        assert!(image.pixels.iter().all(|&p| (p - expected).abs() < 1e-5), "entry {i}");
    }
    let hashes = data.manifest(Split::Test).unwrap().files;
    assert_ne!(hashes[1].sha256, hashes[2].sha256, "pages of a file differ");
    let single = open(&dir.path().join("three.tif"), &options(8)).unwrap();
    assert_eq!(single.len(Split::Test), 3);

    // Smaller copies of a page are none: tag 254 with its lowest bit in place of the height's resolution.
    let mut file = raw_tiff([16; 2], None, &[page(51), page(1)]);
    let last = file.windows(4).rposition(|bytes| bytes == [0, 1, 4, 0]).unwrap();
    let count = last - 2;
    file[count] += 1;
    file.splice(last..last, [254, 0, 4, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    fs::write(dir.path().join("three.tif"), file).unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    let skipped = data.findings().skipped;
    assert_eq!((data.len(Split::Test), skipped.len()), (2, 1), "{skipped:?}");
    assert!(skipped[0].reason.contains("has 2 pages, of which 1 are smaller copies"), "{skipped:?}");
}

#[test]
fn twelve_bits_in_sixteen_are_found_and_stretched() {
    let dir = tempdir().unwrap();
    let pixel = |x: u32, _: u32| Luma([if x < 8 { 0u16 } else { 4095 }]);
    save(&dir.path().join("0.png"), ImageBuffer::from_fn(16, 16, pixel));
    save(
        &dir.path().join("1.png"),
        ImageBuffer::from_fn(16, 16, |x, _| LumaA([if x < 8 { 0u16 } else { 1000 }, 65535])),
    );
    save(&dir.path().join("2.png"), gradient(3));
    let plain = open(dir.path(), &options(16)).unwrap();
    assert_eq!(plain.findings().bits_used, None, "nothing is loaded yet");
    plain.look(Split::Train);
    assert_eq!(plain.findings().bits_used, Some(12));
    let largest =
        |data: &Dataset, i| data.load(Split::Train, i).unwrap().image.pixels.into_iter().fold(-1.0, f32::max);
    assert!((largest(&plain, 0) - (2.0 * 4095.0 / 65535.0 - 1.0)).abs() < 1e-6);

    let bits = OpenOptions { bits: Some(12), ..options(16) };
    let data = open(dir.path(), &bits).unwrap();
    assert!(largest(&data, 0) == 1.0 && (largest(&data, 1) - (2.0 * 1000.0 / 4095.0 - 1.0)).abs() < 4e-5);
    assert_eq!(
        data.load(Split::Train, 2).unwrap(),
        plain.load(Split::Train, 2).unwrap(),
        "8 bits are 8 bits"
    );
    assert_eq!(data.findings().bits_used, None);
    // More than was stated cannot be clipped to.
    let ten = open(dir.path(), &OpenOptions { bits: Some(10), ..options(16) }).unwrap();
    assert!(refusal(ten.load(Split::Train, 0)).contains("a sample of 4095, more than 10 bits"));
    assert_eq!((ten.load(Split::Train, 1).is_ok(), ten.rejected().len()), (true, 1));
    assert!(refusal(open(dir.path(), &OpenOptions { bits: Some(17), ..options(16) })).contains("2 to 16"));
}

#[test]
fn palette_tiffs_are_read_in_their_colours() {
    let dir = tempdir().unwrap();
    let palette = [[255, 0, 51], [0, 102, 204], [9, 9, 9]];
    let indices: Vec<u8> = (0..16 * 16).map(|i| u8::from(i % 16 >= 8)).collect();
    fs::write(dir.path().join("a.tif"), raw_tiff([16; 2], Some(&palette), &[indices])).unwrap();
    let pixel = |x, _| Rgb(palette[usize::from(x >= 8)]);
    save(&dir.path().join("b.png"), RgbImage::from_fn(16, 16, pixel));
    let data = open(dir.path(), &options(16)).unwrap();
    assert_eq!((data.len(Split::Test), data.rejected()), (2, vec![]));
    assert_eq!(data.load(Split::Test, 0).unwrap().image, data.load(Split::Test, 1).unwrap().image);
}

#[test]
fn where_no_image_can_be_used_the_reasons_are_said() {
    let dir = tempdir().unwrap();
    let mut four_bits = raw_tiff([16; 2], Some(&[[0; 3]]), &[vec![0; 256]]);
    // Bits per sample: 4.
    let entry = four_bits.windows(4).position(|bytes| bytes == [2, 1, 3, 0]).unwrap();
    four_bits[entry + 8] = 4;
    fs::write(dir.path().join("a.tif"), four_bits).unwrap();
    fs::write(dir.path().join("b.png"), "").unwrap();
    let message = refusal(open(dir.path(), &options(8)));
    for fragment in ["2 images that cannot be used", "a.tif: has a palette of 4 bits", "b.png: is empty"] {
        assert!(message.contains(fragment), "{message}");
    }
    for i in 0..9 {
        fs::write(dir.path().join(format!("c{i}.png")), "").unwrap();
    }
    let message = refusal(open(dir.path(), &options(8)));
    assert!(message.contains("and 8 more") && message.len() < 1200, "{message}");
}
