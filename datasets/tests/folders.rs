//! Folders of image files, good and hostile.

use std::fs;
use std::path::Path;

use crate::common::{flat, gradient, open, options, png_header, refusal, save, truncated_png};
use ganomede_datasets::{Channels, Dataset, Fit, OpenOptions, Preprocess, Split, Truth};
use image::{GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::tempdir;

/// train/good 3, test/good 2, test/crack 2 with masks, test/stain 1 without.
fn mvtec(root: &Path) {
    flat(&root.join("train/good"), 3);
    flat(&root.join("test/good"), 2);
    flat(&root.join("test/crack"), 2);
    flat(&root.join("test/stain"), 1);
    for i in 0..2 {
        let mask = GrayImage::from_fn(16, 12, |x, _| Luma([if x < 8 { 255 } else { 0 }]));
        save(&root.join(format!("ground_truth/crack/{i:03}_mask.png")), mask);
    }
}

#[test]
fn mvtec_folders_give_classes_truths_and_aligned_masks() {
    let dir = tempdir().unwrap();
    mvtec(dir.path());
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!(data.layout(), "mvtec");
    assert!(data.has_masks());
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (3, 5));
    let test: Vec<_> = (0..5).map(|i| data.load(Split::Test, i).unwrap()).collect();
    let classes: Vec<_> = test.iter().map(|s| (s.class.as_str(), s.truth)).collect();
    let (normal, anomalous) = (Truth::Normal, Truth::Anomalous);
    assert_eq!(
        classes,
        [
            ("crack", anomalous),
            ("crack", anomalous),
            ("good", normal),
            ("good", normal),
            ("stain", anomalous)
        ]
    );
    let crack = test[0].mask.as_ref().unwrap();
    assert!(crack.pixels.chunks(8).all(|row| row == [true, true, true, true, false, false, false, false]));
    assert!(!test[2].mask.as_ref().unwrap().any());
    assert_eq!(test[4].mask, None);
    assert!(test[0].id.ends_with("test/crack/000.png"), "{}", test[0].id);
    assert_eq!(data.entry(Split::Train, 2).unwrap().truth, Truth::Normal);
    assert_eq!(data.entry(Split::Train, 3), None);
    assert!(refusal(data.load(Split::Train, 3)).contains("3 entries"));
}

#[test]
fn masks_follow_the_fit() {
    let dir = tempdir().unwrap();
    flat(&dir.path().join("train/good"), 1);
    let picture = |x: u32| Luma([if (20..30).contains(&x) { 255 } else { 0 }]);
    save(&dir.path().join("test/crack/a.png"), GrayImage::from_fn(48, 16, |x, _| picture(x)));
    save(&dir.path().join("ground_truth/crack/a_mask.png"), GrayImage::from_fn(48, 16, |x, _| picture(x)));
    for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
        let preprocess = Preprocess { fit, ..Preprocess::new(16) };
        let data = open(dir.path(), &OpenOptions { preprocess, ..OpenOptions::default() }).unwrap();
        let sample = data.load(Split::Test, 0).unwrap();
        let bright: Vec<_> = sample.image.pixels.iter().map(|&p| p >= 0.0).collect();
        let mask = sample.mask.unwrap();
        assert_eq!(mask.of_picture(&mask.pixels), mask.of_picture(&bright), "{fit:?}");
        let rows = if fit == Fit::Pad { 5 } else { 16 };
        assert_eq!((mask.picture.width, mask.picture.height), (16, rows));
        assert!(mask.any() && mask.pixels.iter().zip(&bright).all(|(mask, bright)| *bright || !mask));
    }
}

#[test]
fn flat_folders_are_normals_to_train_on_and_unknown_to_score() {
    let dir = tempdir().unwrap();
    flat(dir.path(), 4);
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!(data.layout(), "folder");
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (4, 4));
    assert_eq!(data.load(Split::Train, 0).unwrap().truth, Truth::Normal);
    assert_eq!(data.load(Split::Test, 0).unwrap().truth, Truth::Unknown);

    let single = open(&dir.path().join("002.png"), &options(8)).unwrap();
    assert_eq!((single.layout(), single.len(Split::Test)), ("file", 1));
    assert_eq!(single.load(Split::Test, 0).unwrap().image, data.load(Split::Test, 2).unwrap().image);
}

#[test]
fn several_inputs_become_one_in_order() {
    let dir = tempdir().unwrap();
    flat(&dir.path().join("a"), 3);
    fs::write(dir.path().join("bad.png"), "no").unwrap();
    let spec = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let specs = [spec("a/002.png"), spec("bad.png"), spec("a"), "builtin:retina:test=2".to_string()];
    let data = Dataset::open_all(&specs, &options(16)).unwrap();
    let ids: Vec<_> = (0..data.len(Split::Test)).map(|i| data.entry(Split::Test, i).unwrap().id).collect();
    assert_eq!(ids.len(), 6);
    assert_eq!(ids[0], ids[3]);
    assert_eq!(ids[4..], ["retina:test:0", "retina:test:1"]);
    assert_eq!(data.load(Split::Test, 0).unwrap().image, data.load(Split::Test, 3).unwrap().image);
    assert_eq!(data.rejected().len(), 1);
    let strict = OpenOptions { strict: true, ..options(16) };
    assert!(refusal(Dataset::open_all(&specs, &strict)).contains("bad.png"));
    assert!(refusal(Dataset::open_all::<String>(&[], &options(16))).contains("nothing was given"));
    assert!(refusal(Dataset::open_all(&[&specs[1], &specs[1]], &options(16))).contains("bad.png"));
}

#[test]
fn sizes_depths_and_colours_mix_freely() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // Every file is uniform (51, 102, 204) or gray 102 in its own encoding.
    save(&at("0.png"), RgbImage::from_pixel(20, 10, Rgb([51, 102, 204])));
    save(&at("1.png"), RgbaImage::from_pixel(9, 33, Rgba([51, 102, 204, 7])));
    save(&at("2.png"), ImageBuffer::from_pixel(8, 8, Rgb([51u16 * 257, 102 * 257, 204 * 257])));
    save(&at("3.tiff"), RgbImage::from_pixel(31, 8, Rgb([51, 102, 204])));
    save(&at("4.BMP"), RgbImage::from_pixel(8, 8, Rgb([51, 102, 204])));
    save(&at("5.png"), ImageBuffer::from_pixel(40, 40, Luma([102u16 * 257])));
    save(&at("6.png"), GrayImage::from_pixel(10, 10, Luma([102])));
    save(&at("7.jpeg"), GrayImage::from_pixel(10, 10, Luma([102])));
    for (channels, expected) in [(Channels::Rgb, [51.0, 102.0, 204.0]), (Channels::Gray, [98.379; 3])] {
        let preprocess = Preprocess { channels, ..Preprocess::new(8) };
        let data = open(dir.path(), &OpenOptions { preprocess, ..OpenOptions::default() }).unwrap();
        assert_eq!((data.len(Split::Train), data.rejected()), (8, vec![]));
        for i in 0..8 {
            let image = data.load(Split::Train, i).unwrap().image;
            assert_eq!(image.pixels.len(), channels.count() * 64);
            for (c, plane) in image.pixels.chunks(64).enumerate() {
                let value = if i < 5 { expected[c] } else { 102.0 };
                let off = plane.iter().map(|p| (p - (2.0 * value / 255.0 - 1.0)).abs()).fold(0.0, f32::max);
                // JPEG rounds; all others are exact to float rounding.
                assert!(off < if i == 7 { 0.01 } else { 1e-5 }, "file {i}, channel {c}: {off}");
            }
        }
    }
}

/// A JPEG of 800 bytes may promise millions of pixels; a flat one really holds many in a byte.
#[test]
fn jpegs_that_promise_more_than_they_hold_are_refused() {
    let dir = tempdir().unwrap();
    save(&dir.path().join("flat.jpg"), GrayImage::from_pixel(3000, 2000, Luma([128])));
    let small = dir.path().join("small.jpg");
    save(&small, GrayImage::from_fn(40, 30, |x, y| Luma([(x * 5 + y) as u8])));
    let mut bytes = fs::read(&small).unwrap();
    fs::remove_file(&small).unwrap();
    // Height and width stand behind marker, length and precision of the frame.
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap() + 5;
    bytes[frame..frame + 4].copy_from_slice(&[0x00, 0xf4, 0xff, 0xee]);
    fs::write(dir.path().join("promises.jpg"), &bytes).unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!(data.len(Split::Train), 1);
    let rejected = data.rejected();
    assert!(rejected[0].path.contains("promises.jpg"), "{rejected:?}");
    let words = ["65518×244", &bytes.len().to_string(), "damaged"];
    assert!(words.iter().all(|word| rejected[0].reason.contains(word)), "{rejected:?}");
}

/// A JPEG with an EXIF orientation tag, which the encoder cannot write: an APP1 segment after the start
/// marker.
fn jpeg_with_orientation(path: &Path, image: &GrayImage, orientation: u8) {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    let jpeg = bytes.into_inner();
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let mut file = jpeg[..2].to_vec();
    file.extend([0xff, 0xe1]);
    file.extend((exif.len() as u16 + 2).to_be_bytes());
    file.extend(exif);
    file.extend(&jpeg[2..]);
    fs::write(path, file).unwrap();
}

#[test]
fn exif_orientation_is_honoured() {
    let dir = tempdir().unwrap();
    // White above black, stored lying on its side: tag 6 asks for a quarter turn clockwise.
    let upright = GrayImage::from_fn(16, 16, |_, y| Luma([if y < 8 { 255 } else { 0 }]));
    let lying = GrayImage::from_fn(16, 16, |x, _| Luma([if x < 8 { 255 } else { 0 }]));
    jpeg_with_orientation(&dir.path().join("1.jpg"), &upright, 1);
    jpeg_with_orientation(&dir.path().join("6.jpg"), &lying, 6);
    let data = open(dir.path(), &options(16)).unwrap();
    let (plain, turned) =
        (data.load(Split::Train, 0).unwrap().image, data.load(Split::Train, 1).unwrap().image);
    let off = plain.pixels.iter().zip(&turned.pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(plain.pixels[0] > 0.9 && plain.pixels[255] < -0.9);
    assert!(off < 0.05, "{off}");
}

/// One file of each kind of trouble, with a word its reason must hold.
fn troubles(folder: &Path) -> Vec<(&'static str, &'static str)> {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("empty.png"), "").unwrap();
    fs::write(folder.join("text.png"), "this is not an image at all").unwrap();
    fs::write(folder.join("huge.png"), png_header(30_000, 30_000)).unwrap();
    fs::write(folder.join("overflow.png"), png_header(0x7fff_ffff, 0x7fff_ffff)).unwrap();
    fs::write(folder.join("zero.png"), png_header(0, 10)).unwrap();
    fs::write(folder.join("stub.png"), &png_header(64, 64)[..20]).unwrap();
    fs::write(folder.join("photo.webp"), "RIFF").unwrap();
    save(&folder.join("dot.png"), GrayImage::new(1, 1));
    save(&folder.join("thin.png"), GrayImage::new(400, 7));
    vec![
        ("dot.png", "1×1"),
        ("empty.png", "empty"),
        ("huge.png", "30000×30000"),
        ("overflow.png", "memory"),
        ("photo.webp", "PNG"),
        ("stub.png", "damaged"),
        ("text.png", "not an image"),
        ("thin.png", "400×7"),
        ("zero.png", "damaged"),
    ]
}

#[test]
fn bad_files_are_listed_with_reasons_and_skipped() {
    let dir = tempdir().unwrap();
    let expected = troubles(dir.path());
    flat(dir.path(), 2);
    fs::write(dir.path().join("notes.txt"), "not counted").unwrap();
    fs::write(dir.path().join(".DS_Store"), "hidden").unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!(data.len(Split::Train), 2);
    let rejected = data.rejected();
    assert_eq!(rejected.len(), expected.len(), "{rejected:#?}");
    for (found, (name, word)) in rejected.iter().zip(expected) {
        assert!(found.path.ends_with(name) && found.reason.contains(word), "{name}: {found:?}");
    }

    let strict = OpenOptions { strict: true, ..options(8) };
    assert!(refusal(open(dir.path(), &strict)).contains("dot.png"));
    assert!(refusal(open(&dir.path().join("huge.png"), &options(8))).contains("30000×30000"));
}

#[test]
fn folders_without_usable_images_say_what_is_there() {
    let dir = tempdir().unwrap();
    let message = refusal(open(dir.path(), &options(8)));
    assert!(message.contains("found nothing") && message.contains("train/good"), "{message}");

    fs::write(dir.path().join("a.txt"), "").unwrap();
    fs::write(dir.path().join("b.txt"), "").unwrap();
    fs::create_dir(dir.path().join("cats")).unwrap();
    let count = troubles(dir.path()).len();
    let message = refusal(open(dir.path(), &options(8)));
    assert!(message.contains("2 `.txt`") && message.contains("`cats/`"), "{message}");
    assert!(message.contains(&format!("{count} images that cannot be used")), "{message}");

    let message = refusal(open(&dir.path().join("absent"), &options(8)));
    assert!(message.contains("no such file"), "{message}");
}

#[test]
fn a_test_set_alone_cannot_be_trained_on() {
    let dir = tempdir().unwrap();
    flat(&dir.path().join("test/good"), 2);
    assert_eq!(open(dir.path(), &options(8)).unwrap().len(Split::Test), 2);
    let training = OpenOptions { for_training: true, ..options(8) };
    assert!(refusal(open(dir.path(), &training)).contains("train/good"));
    let classes = OpenOptions { normal_classes: vec!["3".into()], ..options(8) };
    assert!(refusal(open(dir.path(), &classes)).contains("no folder of the class `3`"));
}

#[test]
fn truncated_files_are_found_when_loaded() {
    let dir = tempdir().unwrap();
    flat(dir.path(), 1);
    truncated_png(&dir.path().join("cut.png"));
    let noisy = RgbImage::from_fn(64, 64, |x, y| Rgb([(x * 31 + y * 57) as u8, (x * y) as u8, x as u8]));
    save(&dir.path().join("whole.jpg"), noisy);
    let jpeg = fs::read(dir.path().join("whole.jpg")).unwrap();
    fs::write(dir.path().join("zcut.jpg"), &jpeg[..jpeg.len() * 3 / 4]).unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!(data.len(Split::Test), 4);
    let loaded: Vec<_> = (0..4).map(|i| data.load(Split::Test, i).is_ok()).collect();
    assert_eq!(loaded, [true, false, true, false]);
    let rejected = data.rejected();
    assert_eq!(rejected.len(), 2);
    assert!(
        rejected[0].reason.contains("damaged") && rejected[1].reason.contains("end marker"),
        "{rejected:?}"
    );
}

#[test]
fn no_cut_of_any_file_crashes_or_changes_pixels() {
    let dir = tempdir().unwrap();
    let image = RgbImage::from_fn(24, 24, |x, y| Rgb([x as u8 * 9, y as u8 * 9, 80]));
    for extension in ["png", "jpg", "bmp", "tiff"] {
        let path = dir.path().join(format!("x.{extension}"));
        save(&path, image.clone());
        let bytes = fs::read(&path).unwrap();
        let whole = open(&path, &options(8)).unwrap().load(Split::Test, 0).unwrap();
        for cut in (0..bytes.len()).step_by(1 + bytes.len() / 60) {
            fs::write(&path, &bytes[..cut]).unwrap();
            // What is cut off may be no pixel (the end marker of a PNG); then, and only then, the image
            // loads.
            match open(&path, &options(8)).and_then(|data| data.load(Split::Test, 0)) {
                Ok(sample) => assert_eq!(sample, whole, "{extension} cut at {cut} of {}", bytes.len()),
                Err(error) => assert!(!error.is_machine_fault(), "{error}"),
            }
        }
    }
}

#[test]
fn the_digest_is_stable_and_sees_changes() {
    let dir = tempdir().unwrap();
    mvtec(&dir.path().join("a"));
    mvtec(&dir.path().join("b"));
    let digest =
        |name: &str, split| open(&dir.path().join(name), &options(8)).unwrap().digest(split).unwrap();
    assert_eq!(digest("a", Split::Train), digest("b", Split::Train));
    assert_eq!(digest("a", Split::Train).len(), 64);
    assert_ne!(digest("a", Split::Train), digest("a", Split::Test));
    save(&dir.path().join("b/train/good/new.png"), gradient(9));
    assert_ne!(digest("a", Split::Train), digest("b", Split::Train));
    assert_eq!(digest("a", Split::Test), digest("b", Split::Test));
}
