//! Masks: which pixels they mark, whose they are, and what does not fit.

use std::fs;
use std::path::Path;

use crate::common::{open, options, raw_png, raw_tiff, refusal, save};
use ganomede_datasets::{Dataset, MaskReport, OpenOptions, PatchOptions, Split, Truth, info, write_mvtec};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba};
use tempfile::tempdir;

const SIDE: u32 = 16;

/// The marked square of every mask here.
fn is_marked(x: u32, y: u32) -> bool {
    (4..8).contains(&x) && (8..12).contains(&y)
}

/// No two alike.
fn photo(path: &Path) {
    let tone: u32 = path.to_str().unwrap().bytes().map(u32::from).sum();
    save(path, GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([(tone + x * 9 + y * 5) as u8])));
}

/// A set with one normal image, and the anomalous images `names` of the class `dent`.
fn set(root: &Path, names: &[&str]) {
    photo(&root.join("train/good/0.png"));
    photo(&root.join("test/good/0.png"));
    names.iter().for_each(|name| photo(&root.join("test/dent").join(name)));
    fs::create_dir_all(root.join("ground_truth/dent")).unwrap();
}

fn white(path: &Path) {
    save(path, GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([u8::from(is_marked(x, y)) * 255])));
}

/// Test entries of the class `dent`, loaded, and what was found.
fn loaded(root: &Path) -> (Vec<Option<Vec<bool>>>, MaskReport) {
    let data = open(root, &options(SIDE as usize)).unwrap();
    let samples = (0..data.len(Split::Test)).map(|i| data.load(Split::Test, i).unwrap());
    let dents = samples.filter(|sample| sample.class == "dent");
    let masks = dents.map(|sample| sample.mask.map(|mask| mask.pixels)).collect();
    assert_eq!(data.rejected(), [], "no image is lost to its mask");
    (masks, data.findings().masks.unwrap())
}

fn square() -> Vec<bool> {
    (0..SIDE * SIDE).map(|i| is_marked(i % SIDE, i / SIDE)).collect()
}

fn names(paths: &[String]) -> Vec<&str> {
    paths.iter().map(|path| path.rsplit('/').next().unwrap()).collect()
}

/// A TIFF of gray numbers with a floating point: one of bytes with other entries.
fn gray_floats() -> Vec<u8> {
    let value = |i: u32| if is_marked(i % SIDE, i / SIDE) { -0.25f32 } else { 0.0 };
    let numbers: Vec<u8> = (0..SIDE * SIDE).flat_map(|i| value(i).to_le_bytes()).collect();
    let mut file = raw_tiff([SIDE; 2], None, &[numbers]);
    let find = |file: &[u8], entry: &[u8]| file.windows(entry.len()).rposition(|e| e == entry).unwrap();
    let bits = find(&file, &[2, 1, 3, 0, 1, 0, 0, 0, 8]);
    file[bits + 8] = 32;
    // Its first entry is the width; one more, the format of samples, comes last.
    let count = find(&file, &[0, 1, 4, 0]) - 2;
    file[count] += 1;
    let end = file.len() - 4;
    file.splice(end..end, [83, 1, 3, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
    file
}

/// The square in every way that files have to draw it: the stem of an image, the mask's extension and bytes.
fn drawn() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let encoded = |image: DynamicImage, extension: &str| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::from_extension(extension).unwrap()).unwrap();
        bytes.into_inner()
    };
    let rgb = |colour: [u8; 3]| {
        let pixel = move |x, y| Rgb(if is_marked(x, y) { colour } else { [0; 3] });
        DynamicImage::from(ImageBuffer::from_fn(SIDE, SIDE, pixel))
    };
    let rgba = |marked: [u8; 4], rest: [u8; 4]| {
        let pixel = move |x, y| Rgba(if is_marked(x, y) { marked } else { rest });
        DynamicImage::from(ImageBuffer::from_fn(SIDE, SIDE, pixel))
    };
    let gray = |level: u8| GrayImage::from_fn(SIDE, SIDE, |x, y| Luma([u8::from(is_marked(x, y)) * level]));
    let deep = ImageBuffer::from_fn(SIDE, SIDE, |x, y| Luma([u16::from(is_marked(x, y))]));
    let faint = ImageBuffer::from_fn(SIDE, SIDE, |x, y| LumaA([u8::from(is_marked(x, y)), 255]));
    let float = ImageBuffer::from_fn(SIDE, SIDE, |x, y| {
        Rgb([0.0, 0.0, if is_marked(x, y) { 0.001f32 } else { 0.0 }])
    });
    let indices: Vec<Vec<u8>> =
        (0..SIDE).map(|y| (0..SIDE).map(|x| u8::from(is_marked(x, y)) * 2).collect()).collect();
    let bits: Vec<Vec<u8>> = (0..SIDE)
        .map(|y| {
            (0..2).map(|byte| (0..8).fold(0, |b, x| b << 1 | u8::from(is_marked(byte * 8 + x, y)))).collect()
        })
        .collect();
    let palette = [[0, 0, 0], [0, 9, 0], [0, 0, 200]];
    vec![
        ("white", "png", encoded(gray(255).into(), "png")),
        ("one", "png", encoded(gray(1).into(), "png")),
        ("red", "png", encoded(rgb([255, 0, 0]), "png")),
        ("green", "bmp", encoded(rgb([0, 255, 0]), "bmp")),
        ("blue", "tif", encoded(rgb([0, 0, 1]), "tif")),
        ("opaque", "png", encoded(rgba([0, 255, 0, 255], [0, 0, 0, 255]), "png")),
        ("clear", "png", encoded(rgba([0, 255, 0, 255], [0, 0, 0, 0]), "png")),
        ("hidden_white", "png", encoded(rgba([255; 4], [255, 255, 255, 0]), "png")),
        ("black_on_clear", "png", encoded(rgba([0, 0, 0, 255], [0, 0, 0, 0]), "png")),
        ("deep", "png", encoded(deep.into(), "png")),
        ("faint_alpha", "png", encoded(faint.into(), "png")),
        ("float", "tiff", encoded(float.into(), "tiff")),
        ("floats", "tif", gray_floats()),
        ("jpeg", "jpg", encoded(gray(255).into(), "jpg")),
        ("palette", "png", raw_png([SIDE; 2], 8, 3, &palette, &indices)),
        ("bit", "png", raw_png([SIDE; 2], 1, 0, &[], &bits)),
        ("palette_tiff", "tif", raw_tiff([SIDE; 2], Some(&palette), &[indices.concat()])),
    ]
}

/// Nothing says which image each page belongs to.
#[test]
fn masks_of_several_pages_are_not_used() {
    let dir = tempdir().unwrap();
    set(dir.path(), &["0.png"]);
    let page = vec![255; (SIDE * SIDE) as usize];
    let pages = [vec![0; page.len()], page];
    fs::write(dir.path().join("ground_truth/dent/0_mask.tif"), raw_tiff([SIDE; 2], None, &pages)).unwrap();
    let data = open(dir.path(), &options(SIDE as usize)).unwrap();
    let at =
        (0..data.len(Split::Test)).find(|&i| data.entry(Split::Test, i).unwrap().truth == Truth::Anomalous);
    assert!(data.load(Split::Test, at.unwrap()).unwrap().mask.is_none());
    let report = data.findings().masks.unwrap();
    assert!(report.unusable[0].reason.contains("holds 2 images"), "{report:?}");
}

#[test]
fn any_colour_depth_and_palette_marks_the_same_pixels() {
    let dir = tempdir().unwrap();
    for (stem, extension, bytes) in drawn() {
        set(dir.path(), &[&format!("{stem}.png")]);
        fs::write(dir.path().join(format!("ground_truth/dent/{stem}_mask.{extension}")), bytes).unwrap();
    }
    let data = open(dir.path(), &options(SIDE as usize)).unwrap();
    let mut seen = 0;
    for i in (0..data.len(Split::Test)).filter(|&i| data.entry(Split::Test, i).unwrap().class == "dent") {
        let sample = data.load(Split::Test, i).unwrap();
        let pixels = sample.mask.unwrap_or_else(|| panic!("{} has no mask", sample.id)).pixels;
        assert_eq!(pixels, square(), "{}", sample.id);
        seen += 1;
    }
    assert_eq!(seen, 17);
    let report = data.findings().masks.unwrap();
    assert_eq!(report, MaskReport { matched: 17, ..MaskReport::default() });

    // The truth of patches and what conversion writes are the same marks.
    let out = dir.path().join("converted");
    let written = write_mvtec(&data, &out, 0, usize::MAX).unwrap();
    assert_eq!(written.masks, 17);
    let again = open(&out, &options(SIDE as usize)).unwrap();
    let masks: Vec<_> = (0..17).filter_map(|i| again.load(Split::Test, i).unwrap().mask).collect();
    assert_eq!(masks.iter().filter(|mask| mask.pixels == square()).count(), 17);
    let patch = Some(PatchOptions { size: 8, per_image: 12 });
    let patches = open(dir.path(), &OpenOptions { patch, ..options(8) }).unwrap();
    let mut truths = [0; 2];
    for i in 0..12 * 17 {
        let sample = patches.load(Split::Test, i).unwrap();
        let is_anomalous = sample.mask.unwrap().any();
        assert_eq!(sample.truth, if is_anomalous { Truth::Anomalous } else { Truth::Normal });
        truths[usize::from(is_anomalous)] += 1;
    }
    assert!(truths.iter().all(|&count| count > 30), "{truths:?}");
}

#[test]
fn masks_are_found_by_every_usual_name() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join("ground_truth/dent").join(name);
    // Composed in the image's name, decomposed in the mask's, as some file systems keep names.
    let images = [
        "000.png",
        "001.png",
        "002.png",
        "003.png",
        "004.png",
        "P5.png",
        "p6.JPG",
        "caf\u{e9}.png",
        "8.a.png",
        "9.png",
    ];
    set(dir.path(), &images);
    white(&at("000_mask.png"));
    fs::copy(at("000_mask.png"), at("001_mask.PNG")).unwrap();
    white(&at("002_mask.tiff"));
    white(&at("003/000.png"));
    white(&at("004.bmp"));
    white(&at("p5_MASK.png"));
    white(&at("P6_gt.png"));
    white(&at("cafe\u{301}_mask.png"));
    white(&at("8.a_mask.png"));
    // Nobody's: 8, and a second one of 000.
    white(&at("8_mask.png"));
    white(&at("000_mask.tif"));
    fs::write(at(".DS_Store"), "no mask").unwrap();
    let (masks, report) = loaded(dir.path());
    assert_eq!(masks.iter().filter(|mask| mask.as_deref() == Some(&square()[..])).count(), 9);
    assert_eq!((report.matched, names(&report.missing)), (9, vec!["9.png"]));
    assert_eq!(names(&report.unused), ["000_mask.tif", "8_mask.png"]);
}

#[test]
fn the_parts_of_a_mask_are_united() {
    let dir = tempdir().unwrap();
    set(dir.path(), &["000.png"]);
    for (part, rows) in [("000.png", 8..10), ("001.png", 10..12)] {
        let pixel = |x: u32, y: u32| Luma([u8::from(is_marked(x, y) && rows.contains(&y)) * 255]);
        save(&dir.path().join("ground_truth/dent/000").join(part), GrayImage::from_fn(SIDE, SIDE, pixel));
    }
    let (masks, report) = loaded(dir.path());
    assert_eq!((masks, report.matched), (vec![Some(square())], 1));
}

#[test]
fn letters_decide_where_several_images_would_fit() {
    let dir = tempdir().unwrap();
    set(dir.path(), &["a.png", "A.png", "b.png", "b.bmp", "c.png", "c.jpg"]);
    let at = |name: &str| dir.path().join("ground_truth/dent").join(name);
    white(&at("A_mask.png"));
    // Of the two images b, one has a mask of its whole name; of the two images c, neither.
    white(&at("b.bmp"));
    white(&at("c_mask.png"));
    let (masks, report) = loaded(dir.path());
    let found: Vec<bool> = masks.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true, false, false, false], "A, a, b.bmp, b.png, c.jpg, c.png");
    assert_eq!(names(&report.missing), ["a.png", "b.png", "c.jpg", "c.png"]);
    assert_eq!(names(&report.unused), ["c_mask.png"]);
}

#[test]
fn what_does_not_fit_keeps_its_image_and_is_named() {
    let dir = tempdir().unwrap();
    set(dir.path(), &["0.png", "1.png", "2.png", "3.png", "4.png"]);
    let at = |name: &str| dir.path().join("ground_truth").join(name);
    white(&at("dent/0_mask.png"));
    save(&at("dent/1_mask.png"), GrayImage::from_pixel(18, 18, Luma([255])));
    save(&at("dent/2_mask.png"), ImageBuffer::from_pixel(SIDE, SIDE, Rgba([0u8, 0, 0, 255])));
    fs::write(at("dent/3_mask.png"), "no picture").unwrap();
    white(&at("scratch/0_mask.png"));
    white(&at("loose.png"));
    white(&at("good/0_mask.png"));
    let (masks, report) = loaded(dir.path());
    assert_eq!(masks, [Some(square()), None, None, None, None]);
    assert_eq!((report.matched, names(&report.missing)), (4, vec!["4.png"]));
    assert_eq!(names(&report.empty), ["2.png"]);
    assert_eq!(names(&report.unused), ["loose.png", "0_mask.png"]);
    let reasons: Vec<_> = report.unusable.iter().map(|mask| mask.reason.as_str()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("18×18 but its image 16×16"), "{reasons:?}");
    assert!(reasons[1].contains("not an image"), "{reasons:?}");
    assert!(reasons[2].contains("it is a normal image"), "{reasons:?}");

    // A set of scores looks for no mask; a strict one takes none that cannot be used.
    let scores = OpenOptions { without_masks: true, strict: true, ..options(16) };
    let data = open(dir.path(), &scores).unwrap();
    assert_eq!((0..6).filter(|&i| data.load(Split::Test, i).is_ok()).count(), 6);
    assert_eq!(data.findings().masks, None);
    let strict = open(dir.path(), &OpenOptions { strict: true, ..options(16) }).unwrap();
    assert!(refusal(strict.load(Split::Test, 1)).contains("18×18"));

    let info = info(&open(dir.path(), &options(8)).unwrap(), true).unwrap();
    assert_eq!(info.findings.masks.as_ref(), Some(&report));
    assert_eq!(info.splits[1].masks, 1);
}

#[test]
fn folders_of_masks_in_other_letters_belong_to_their_class() {
    let dir = tempdir().unwrap();
    set(dir.path(), &["0.png"]);
    fs::rename(dir.path().join("ground_truth/dent"), dir.path().join("ground_truth/Dent")).unwrap();
    white(&dir.path().join("ground_truth/Dent/0_mask.png"));
    let (masks, report) = loaded(dir.path());
    assert_eq!((masks, report), (vec![Some(square())], MaskReport { matched: 1, ..MaskReport::default() }));
}

#[test]
fn reports_of_several_folders_are_joined() {
    let dir = tempdir().unwrap();
    for name in ["a", "b"] {
        set(&dir.path().join(name), &["0.png"]);
        white(&dir.path().join(name).join("ground_truth/dent/7_mask.png"));
    }
    let specs = ["a", "b"].map(|name| dir.path().join(name).to_str().unwrap().to_string());
    let report = Dataset::open_all(&specs, &options(16)).unwrap().findings().masks.unwrap();
    assert_eq!((report.matched, report.missing.len(), report.unused.len()), (0, 2, 2));
}
