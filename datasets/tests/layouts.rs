//! Layouts of published sets, each from a small tree with the names of the real one.

use std::fs;
use std::path::Path;

use crate::common::{open, options, refusal, save};
use ganomede_datasets::{Dataset, OpenOptions, Split, Truth};
use image::{GrayImage, Luma};
use tempfile::{TempDir, tempdir};

/// No two alike, 16×12.
fn photo(path: &Path) {
    let tone: u32 =
        path.to_str().unwrap().bytes().enumerate().map(|(i, b)| (i as u32 + 1) * u32::from(b)).sum();
    save(path, GrayImage::from_fn(16, 12, |x, y| Luma([(tone + x * 9 + y * 5) as u8])));
}

/// A mask whose columns `from..to` are marked.
fn mask(path: &Path, from: u32, to: u32) {
    save(path, GrayImage::from_fn(16, 12, |x, _| Luma([u8::from((from..to).contains(&x)) * 255])));
}

/// A tree of photos; `@` begins a mask of the left half, `0` an empty one.
fn tree(files: &[&str]) -> TempDir {
    let dir = tempdir().unwrap();
    for file in files {
        match file.split_at(1) {
            ("@", name) => mask(&dir.path().join(name), 0, 8),
            ("0", name) if name.starts_with(' ') => mask(&dir.path().join(&name[1..]), 0, 0),
            _ => photo(&dir.path().join(file)),
        }
    }
    dir
}

/// Ids below the root, classes and truths of a split.
fn entries(data: &Dataset, root: &Path, split: Split) -> Vec<(String, String, Truth)> {
    let root = format!("{}/", root.to_str().unwrap());
    let all = (0..data.len(split)).map(|i| data.entry(split, i).unwrap());
    all.map(|e| (e.id.replace(&root, ""), e.class, e.truth)).collect()
}

fn ids(data: &Dataset, root: &Path, split: Split) -> Vec<String> {
    entries(data, root, split).into_iter().map(|(id, ..)| id).collect()
}

/// How many test images have which truth, and how many have a drawn and how many an empty mask.
fn tested(data: &Dataset) -> ([usize; 2], [usize; 2]) {
    let samples: Vec<_> = (0..data.len(Split::Test)).map(|i| data.load(Split::Test, i).unwrap()).collect();
    let truth = |truth| samples.iter().filter(|s| s.truth == truth).count();
    let masks = |any| samples.iter().filter(|s| s.mask.as_ref().is_some_and(|m| m.any() == any)).count();
    ([truth(Truth::Normal), truth(Truth::Anomalous)], [masks(true), masks(false)])
}

fn named(names: &[&str]) -> OpenOptions {
    OpenOptions { normal_classes: names.iter().map(|&name| name.into()).collect(), ..options(8) }
}

#[test]
fn btad_has_its_own_words_for_good_and_bad() {
    let dir = tree(&[
        "train/ok/0000.png",
        "train/ok/0001.png",
        "test/ok/0000.png",
        "test/ko/0000.png",
        "test/ko/0001.png",
        "@ground_truth/ko/0000.png",
        "@ground_truth/ko/0001.png",
    ]);
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train)), ("btad", 2));
    assert_eq!(tested(&data), ([1, 2], [2, 1]));
    assert!(data.why().contains("normal is `ok`"), "{}", data.why());
    assert!(data.states_training());
}

#[test]
fn loco_joins_the_parts_of_a_mask_and_trains_on_its_validation_images() {
    let dir = tree(&[
        "train/good/000.png",
        "validation/good/000.png",
        "test/good/000.png",
        "test/logical_anomalies/000.png",
        "test/structural_anomalies/000.png",
    ]);
    mask(&dir.path().join("ground_truth/logical_anomalies/000/000.png"), 0, 4);
    mask(&dir.path().join("ground_truth/logical_anomalies/000/001.png"), 8, 12);
    mask(&dir.path().join("ground_truth/structural_anomalies/000/000.png"), 0, 8);
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!(data.layout(), "mvtec-loco");
    assert_eq!(ids(&data, dir.path(), Split::Train), ["train/good/000.png", "validation/good/000.png"]);
    assert_eq!(tested(&data), ([1, 2], [2, 1]));
    let logical = (0..3).map(|i| data.load(Split::Test, i).unwrap()).find(|s| s.class == "logical_anomalies");
    let row: Vec<_> = logical.unwrap().mask.unwrap().pixels[..8].to_vec();
    assert_eq!(row, [true, true, false, false, true, true, false, false]);
    let findings = data.findings();
    assert_eq!((findings.skipped, findings.masks.unwrap().unused.len()), (vec![], 0));
}

/// Two objects as VisA has them.
fn visa() -> TempDir {
    let dir = tree(&[
        "candle/Data/Images/Normal/0000.JPG",
        "candle/Data/Images/Normal/0001.JPG",
        "candle/Data/Images/Normal/0002.JPG",
        "candle/Data/Images/Anomaly/000.JPG",
        "@candle/Data/Masks/Anomaly/000.png",
        "pcb1/Data/Images/Normal/0000.JPG",
        "pcb1/Data/Images/Normal/0001.JPG",
        "pcb1/Data/Images/Anomaly/000.JPG",
        "@pcb1/Data/Masks/Anomaly/000.png",
    ]);
    let rows = "object,split,label,image,mask\n\
        candle,train,normal,candle/Data/Images/Normal/0000.JPG,\n\
        candle,test,normal,candle/Data/Images/Normal/0001.JPG,\n\
        candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n\
        pcb1,train,normal,pcb1/Data/Images/Normal/0001.JPG,\n\
        pcb1,test,normal,pcb1/Data/Images/Normal/0000.JPG,\n\
        pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,pcb1/Data/Masks/Anomaly/000.png\n";
    fs::create_dir(dir.path().join("split_csv")).unwrap();
    fs::write(dir.path().join("split_csv/1cls.csv"), rows).unwrap();
    dir
}

#[test]
fn visa_is_split_as_its_file_says() {
    let dir = visa();
    let one = dir.path().join("candle");
    let data = open(&one, &options(8)).unwrap();
    assert_eq!(data.layout(), "visa");
    assert_eq!(ids(&data, &one, Split::Train), ["Data/Images/Normal/0000.JPG"]);
    assert_eq!(tested(&data), ([1, 1], [1, 1]));
    let skipped = data.findings().skipped;
    assert!(
        skipped.len() == 1 && skipped[0].reason.contains("1 image that the split does not use"),
        "{skipped:?}"
    );
    assert!(data.why().contains("split_csv/1cls.csv"), "{}", data.why());

    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train)), ("visa", 2));
    assert_eq!(tested(&data), ([2, 2], [2, 2]));
    assert!(data.why().contains("2 objects"), "{}", data.why());

    // What the file names and is not there is said.
    fs::remove_file(one.join("Data/Images/Normal/0001.JPG")).unwrap();
    let rejected = open(dir.path(), &options(8)).unwrap().rejected();
    assert!(rejected.len() == 1 && rejected[0].reason.contains("not there"), "{rejected:?}");
    let strict = OpenOptions { strict: true, ..options(8) };
    assert!(refusal(open(dir.path(), &strict)).contains("not there"));

    // Without the file a fifth of the normal images is kept for tests.
    fs::remove_dir_all(dir.path().join("split_csv")).unwrap();
    let data = open(&one, &options(8)).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test), data.states_training()), (1, 2, false));
}

#[test]
fn kolektor_masks_lie_beside_the_images_and_tell_what_is_normal() {
    let files: Vec<String> =
        (1..=5).flat_map(|part| (0..2).map(move |i| format!("kos{part:02}/Part{i}"))).collect();
    let dir = tempdir().unwrap();
    for (i, file) in files.iter().enumerate() {
        photo(&dir.path().join(format!("{file}.jpg")));
        mask(&dir.path().join(format!("{file}_label.bmp")), 0, if i % 4 == 0 { 8 } else { 0 });
    }
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.layout(), data.states_training()), ("kolektor", false));
    // 10 images, 3 of them marked; of 7 normal ones 2 are kept.
    assert_eq!(data.len(Split::Train), 5);
    assert_eq!(tested(&data), ([2, 3], [3, 2]));
    assert_eq!(data.findings().skipped, []);

    // KolektorSDD2 says what is trained on.
    let dir = tree(&[
        "train/10000.png",
        "0 train/10000_GT.png",
        "train/10001.png",
        "@train/10001_GT.png",
        "test/20000.png",
        "0 test/20000_GT.png",
        "test/20001.png",
        "@test/20001_GT.png",
    ]);
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.layout(), data.states_training()), ("kolektor", true));
    assert_eq!(ids(&data, dir.path(), Split::Train), ["train/10000.png"]);
    assert_eq!(tested(&data), ([1, 1], [1, 1]));
    let skipped = data.findings().skipped;
    assert!(
        skipped.len() == 1 && skipped[0].reason.contains("1 image that are anomalous by their masks"),
        "{skipped:?}"
    );
    // Scores need no masks, but what is trained on does.
    let data = open(dir.path(), &OpenOptions { without_masks: true, ..options(8) }).unwrap();
    assert_eq!((data.len(Split::Train), data.len(Split::Test), data.has_masks()), (1, 2, false));
}

#[test]
fn any_name_may_be_that_of_the_normal_class() {
    let files = [
        "train/0.normal/a.png",
        "train/0.normal/deep/b.png",
        "train/1.burr/c.png",
        "test/0.normal/d.png",
        "test/1.burr/e.png",
    ];
    let dir = tree(&files);
    let data = open(dir.path(), &named(&["good", "ok", "0.normal"])).unwrap();
    assert_eq!(ids(&data, dir.path(), Split::Train), ["train/0.normal/a.png", "train/0.normal/deep/b.png"]);
    assert_eq!(tested(&data).0, [1, 1]);
    let skipped = data.findings().skipped;
    assert!(skipped.len() == 1 && skipped[0].path.ends_with("train/1.burr"), "{skipped:?}");
    // Models remember it.
    let learned = OpenOptions { learned_classes: [vec!["0.normal".into()], vec![]], ..options(8) };
    assert_eq!(tested(&open(dir.path(), &learned).unwrap()).0, [1, 1]);
    let contrary = OpenOptions { normal_classes: vec!["1.burr".into()], ..learned };
    assert!(refusal(open(dir.path(), &contrary)).contains("was normal when the model was trained"));
    // Unsaid, nobody knows.
    let training = OpenOptions { for_training: true, ..options(8) };
    let said = refusal(open(dir.path(), &training));
    assert!(said.contains("`0.normal`, `1.burr`") && said.contains("say which are normal"), "{said}");
    assert_eq!(tested(&open(dir.path(), &options(8)).unwrap()).0, [0, 0]);
    assert!(refusal(open(dir.path(), &named(&["fine"]))).contains("no folder of the class `fine`"));

    // The only class of what is trained on is normal.
    let dir = tree(&["train/front/a.png", "test/front/b.png", "test/side/c.png"]);
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.len(Split::Train), tested(&data).0), (1, [1, 1]));
}

#[test]
fn folders_of_classes_keep_a_fifth_of_the_normal_images_for_tests() {
    let normal: Vec<String> = (0..10).map(|i| format!("sound/{}/{i}.png", i % 3)).collect();
    let files: Vec<&str> = normal.iter().map(String::as_str).chain(["hole/0.png", "dent/x/0.png"]).collect();
    let dir = tree(&files);
    let data = open(dir.path(), &named(&["sound"])).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train)), ("classes", 8));
    assert_eq!(tested(&data).0, [2, 2]);
    let strict = OpenOptions { strict: true, ..named(&["sound"]) };
    open(dir.path(), &strict).unwrap();
    // Which of them does not depend on the other files or on where they lie.
    let other = tree(&files.iter().rev().copied().collect::<Vec<_>>());
    let again = open(other.path(), &named(&["sound"])).unwrap();
    assert_eq!(ids(&again, other.path(), Split::Test), ids(&data, dir.path(), Split::Test));
    // The usual names need not be said, so that nothing anomalous is trained on unnoticed.
    let dir = tree(&["Good/a.png", "Good/b.png", "bad/c.png"]);
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train), tested(&data).0), ("classes", 1, [1, 1]));
    assert!(data.why().contains("`Good` is normal"), "{}", data.why());
}

#[test]
fn sets_in_folders_below_are_taken_together() {
    let dir = tree(&[
        "bottle/train/good/0.png",
        "bottle/test/good/0.png",
        "bottle/test/broken/0.png",
        "@bottle/ground_truth/broken/0_mask.png",
        "01/train/ok/0.png",
        "01/test/ok/0.png",
        "01/test/ko/0.png",
        "notes/page.png",
    ]);
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train)), ("several", 2));
    assert_eq!(tested(&data).0, [2, 2]);
    assert!(data.why().contains("btad") && data.why().contains("mvtec"), "{}", data.why());
    let skipped = data.findings().skipped;
    assert!(skipped.len() == 1 && skipped[0].path.ends_with("notes"), "{skipped:?}");
}

#[test]
fn masks_may_lie_elsewhere_and_have_names_of_their_own() {
    let files = ["train/good/0.png", "test/good/0.png", "test/dent/0.png", "test/dent/1.png"];
    let (dir, elsewhere) = (tree(&files), tree(&["@dent/m-0.png", "@dent/m-1.png"]));
    let masked = OpenOptions { masks: Some(elsewhere.path().into()), ..options(8) };
    assert_eq!(tested(&open(dir.path(), &masked).unwrap()), ([1, 2], [0, 1]), "no name fits");
    let pattern = OpenOptions { mask_name: Some("m-*".into()), ..masked.clone() };
    assert_eq!(tested(&open(dir.path(), &pattern).unwrap()), ([1, 2], [2, 1]));
    for bad in ["mask", "*_*", "a/*"] {
        let options = OpenOptions { mask_name: Some(bad.into()), ..masked.clone() };
        assert!(refusal(open(dir.path(), &options)).contains("one *"), "{bad}");
    }

    // Of a folder without classes the masks tell; those within the folder are no images.
    let names: Vec<String> = (0..6).map(|i| format!("photos/{i}.png")).collect();
    let mut files: Vec<&str> = names.iter().map(String::as_str).collect();
    files.extend(["@masks/photos/1.png", "@masks/photos/4.png", "0 masks/photos/5.png"]);
    let dir = tree(&files);
    let plain = open(dir.path(), &options(8)).unwrap();
    assert_eq!((plain.layout(), plain.len(Split::Test)), ("folder", 6));
    assert!(plain.findings().skipped[0].reason.contains("3 images, named as masks are"));
    let masked = OpenOptions { masks: Some(dir.path().join("masks")), ..options(8) };
    let data = open(dir.path(), &masked).unwrap();
    assert_eq!(data.len(Split::Train), 3);
    assert_eq!(tested(&data), ([1, 2], [2, 1]));
    // A mask that belongs to nothing leaves it open which image is normal.
    mask(&dir.path().join("masks/photos/9.png"), 0, 8);
    assert!(refusal(open(dir.path(), &masked)).contains("1 masks belong to no image"));
}

#[test]
fn masks_beside_a_few_images_are_no_images() {
    let dir = tree(&["a.png", "b.png", "@b_mask.png", "c_mask.png"]);
    let data = open(dir.path(), &options(8)).unwrap();
    assert_eq!(ids(&data, dir.path(), Split::Test), ["a.png", "b.png", "c_mask.png"]);
    assert!(data.findings().skipped[0].reason.contains("`b_mask.png`"));
    // Which of them are normal, nobody said.
    let training = OpenOptions { for_training: true, ..options(8) };
    let refused = refusal(open(dir.path(), &training));
    assert!(refused.contains("1 of 3 images") && refused.contains("`a.png`"), "{refused}");
}

/// Pictures of masks are neither trained on nor found anomalous, and say which pixels are.
#[test]
fn masks_beside_images_of_classes_are_their_masks() {
    let training = OpenOptions { for_training: true, ..options(8) };
    let files = ["good/a.png", "good/b.png", "bad/c.png", "@bad/c_mask.png", "bad/d.png", "@bad/d_mask.png"];
    let dir = tree(&files);
    let data = open(dir.path(), &training).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train)), ("classes", 1));
    assert_eq!(tested(&data), ([1, 2], [2, 1]));

    let files = files.map(|file| match file.split_once("good/") {
        Some(("", name)) => format!("train/good/{name}"),
        _ => file.replace("bad/", "test/crack/"),
    });
    let dir = tree(&files.each_ref().map(String::as_str));
    let data = open(dir.path(), &training).unwrap();
    assert_eq!((data.layout(), data.len(Split::Train)), ("mvtec", 2));
    assert_eq!(tested(&data), ([0, 2], [2, 0]));
    // Where the layout has a place for masks, those beside the images are passed over.
    mask(&dir.path().join("ground_truth/crack/c_mask.png"), 0, 4);
    let data = open(dir.path(), &training).unwrap();
    assert_eq!(tested(&data), ([0, 2], [1, 0]));
    assert!(data.findings().skipped.iter().any(|s| s.reason.contains("`c_mask.png`")));
}

/// With a mask missing, images are not known to be normal any more.
#[test]
fn kolektor_with_a_mask_missing_is_not_trained_on() {
    let training = OpenOptions { for_training: true, ..options(8) };
    let dir = tree(&[
        "train/0.png",
        "0 train/0_GT.png",
        "train/1.png",
        "@train/1_GT.png",
        "train/2.png",
        "test/3.png",
    ]);
    let refused = refusal(open(dir.path(), &training));
    assert!(refused.contains("2 of 3 images") && refused.contains("`2.png`"), "{refused}");
    mask(&dir.path().join("train/2_GT.png"), 0, 0);
    mask(&dir.path().join("test/3_GT.png"), 0, 8);
    assert_eq!(open(dir.path(), &training).unwrap().len(Split::Train), 2);
}

#[test]
fn capital_letters_and_long_words_name_the_same_folders() {
    for [train, test] in [["Train", "Test"], ["training", "testing"], ["TRAINING", "test"]] {
        let files = ["0/good/a.png", "1/Good/b.png", "1/crack/c.png"];
        let files =
            files.map(|file| file.replace("0/", &format!("{train}/")).replace("1/", &format!("{test}/")));
        let dir = tree(&files.each_ref().map(String::as_str));
        mask(&dir.path().join("Ground_Truth/crack/c_mask.png"), 0, 8);
        let data = open(dir.path(), &named(&["good"])).unwrap();
        assert_eq!((data.layout(), data.len(Split::Train)), ("mvtec", 1), "{train}");
        assert_eq!(tested(&data), ([1, 1], [1, 1]), "{train}");
    }
}

#[test]
fn folders_of_classes_below_another_are_not_all_normal() {
    let dir = tree(&["images/good/a.png", "images/bad/b.png"]);
    let training = OpenOptions { for_training: true, ..options(8) };
    let refused = refusal(open(dir.path(), &training));
    assert!(refused.contains("`images/good` lies beside `bad`"), "{refused}");
    assert_eq!(open(&dir.path().join("images"), &training).unwrap().layout(), "classes");
    assert_eq!(open(dir.path(), &options(8)).unwrap().len(Split::Test), 2);
}

#[test]
fn every_class_of_a_name_counts_whatever_its_case() {
    let dir = tree(&["Good/a.png", "good/b.png", "Bad/c.png", "bad/d.png"]);
    let truths = |options: &OpenOptions| tested(&open(dir.path(), options).unwrap()).0;
    assert_eq!(truths(&named(&["good"])), [1, 2]);
    let anomalous = OpenOptions { anomalous_classes: vec!["bad".into()], ..options(8) };
    assert_eq!(truths(&anomalous), [1, 2]);
}

#[test]
fn what_is_given_twice_is_not_trained_on() {
    let dir = tree(&["a/0.png", "a/1.png", "b/2.png"]);
    let [a, all] = ["a", "."].map(|name| dir.path().join(name).to_string_lossy().into_owned());
    let training = OpenOptions { for_training: true, ..options(8) };
    let none = format!("{all}/b");
    assert_eq!(Dataset::open_all(&[&a, &none], &training).unwrap().len(Split::Train), 3);
    for specs in [[&a, &a], [&all, &a], [&a, &all]] {
        let refused = refusal(Dataset::open_all(&specs, &training));
        assert!(refused.contains("would count twice"), "{refused}");
        let data = Dataset::open_all(&specs, &options(8)).unwrap();
        assert!(data.findings().skipped[0].reason.contains("would count twice"));
    }
}

#[cfg(unix)]
#[test]
fn circles_of_links_end() {
    use std::os::unix::fs::symlink;
    let dir = tree(&["a/0.png", "a/b/1.png"]);
    symlink(dir.path(), dir.path().join("a/b/up")).unwrap();
    symlink(dir.path().join("a"), dir.path().join("again")).unwrap();
    let data = open(dir.path(), &options(8)).unwrap();
    assert!((2..=4).contains(&data.len(Split::Test)), "{}", data.len(Split::Test));
    assert!(
        data.findings().skipped.iter().any(|s| s.reason.contains("link")),
        "{:?}",
        data.findings().skipped
    );
}
