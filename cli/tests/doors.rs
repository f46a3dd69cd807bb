//! Data as people have them, through every door: `data info`, `train`, `score` and `eval`.

use crate::binary;
use std::fs;
use std::path::{Path, PathBuf};

use crate::binary::{Ended, folder, ganomede, text, write_gray};
use ganomede::models::file::{DataInfo, ModelFile};
use ganomede_datasets::Fit;

fn train(data: &[&str], model: &Path, more: &[&str]) -> Ended {
    let kept = ["--size", "16", "--width", "4", "--latent", "4", "--batch", "4", "--steps", "2", "--json"];
    let command = ["train", "ae", "--out", text(model)];
    ganomede(command.iter().chain(data).chain(&kept).chain(more))
}

fn rows(ended: &Ended) -> Vec<String> {
    let document = ended.json();
    let rows = document["images"].as_array().unwrap().clone();
    rows.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
}

/// `n` images of 24×16 in a folder.
fn photos(place: &Path, n: u32, first: u32) {
    fs::create_dir_all(place).unwrap();
    (0..n).for_each(|i| write_gray(&place.join(format!("{i}.png")), 24, 16, first + i));
}

#[test]
fn lists_are_trained_on_scored_and_evaluated() {
    let place = folder("lists");
    photos(&place.join("a"), 14, 0);
    let lines = |order: &[u32]| {
        let line = |&i: &u32| {
            let (label, split) = (if i > 11 { "hole" } else { "fine" }, if i > 9 { "test" } else { "train" });
            format!("a/{i}.png,{label},{split}\n")
        };
        "path,label,split\n".to_owned() + &order.iter().map(line).collect::<String>()
    };
    let (list, turned) = (place.join("files.csv"), place.join("turned.csv"));
    fs::write(&list, lines(&(0..14).collect::<Vec<_>>())).unwrap();
    fs::write(&turned, lines(&(0..14).rev().collect::<Vec<_>>())).unwrap();
    let [a, b] = ["a", "b"].map(|name| place.join(format!("{name}.safetensors")));
    let normal = ["--normal", "good,fine"];
    assert_eq!(train(&["--list", text(&list)], &a, &normal).json()["training_images"], 9);
    train(&["--data", text(&turned)], &b, &normal).well();
    binary::assert_same_tensors(&a, &b);

    let eval = |list: &PathBuf| ganomede(["eval", text(&a), "--list", text(list), "--json"]).json();
    let (first, second) = (eval(&list), eval(&turned));
    assert_eq!((first["n_normal"].as_u64(), first["n_anomalous"].as_u64()), (Some(2), Some(2)));
    assert_eq!(first["auroc"], second["auroc"]);
    let scored = rows(&ganomede(["score", text(&a), text(&turned), "--json"]));
    let names: Vec<_> = scored.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["13.png", "12.png", "11.png", "10.png"], "in the order of the list");
    let flagged = ["score", text(&a), "--list", text(&turned), "--json"];
    assert_eq!(rows(&ganomede(flagged)), scored);
    let nothing = ganomede(["score", text(&a)]);
    assert_eq!(nothing.code, Some(2), "{}", nothing.stderr);
    assert!(nothing.stderr.contains("PATH"), "{}", nothing.stderr);

    // Bad lists end at once, and leave nothing.
    fs::write(&list, "path,lable\nb/0.png,fine\n").unwrap();
    let gone = place.join("gone.safetensors");
    train(&["--list", text(&list)], &gone, &[]).refused(2, &["files.csv", "unknown columns `lable`"]);
    fs::write(&list, "path\nb/0.png\n").unwrap();
    train(&["--list", text(&list)], &gone, &[]).refused(2, &["line 2", "b/0.png` does not exist"]);
    ganomede(["score", text(&a), text(&list)]).refused(2, &["line 2"]);
    assert!(!gone.exists());
    let table = ["train", "ae", "--table", "--list", text(&list), "--out", text(&gone)];
    ganomede(table).refused(2, &["--list is for images"]);
}

#[test]
fn folders_of_classes_are_split_the_same_by_every_command() {
    let place = folder("classes");
    let (set, model) = (place.join("set"), place.join("m.safetensors"));
    photos(&set.join("0.normal/line 1"), 10, 0);
    photos(&set.join("1.burr"), 3, 40);
    let info = ganomede(["data", "info", text(&set), "--normal", "0.normal", "--json"]).json();
    assert_eq!((info["layout"].as_str(), info["places"].as_array().unwrap().len()), (Some("classes"), 3));
    let said = ganomede(["data", "info", text(&set), "--normal", "0.normal"]).well().stdout.clone();
    assert!(said.contains("of which `0.normal` is normal") && said.contains("line 1"), "{said}");
    let trained = train(&["--data", text(&set)], &model, &["--normal", "0.normal", "--val-fraction", "0.25"]);
    assert_eq!((&trained.json()["training_images"], &trained.json()["held_out"]), (&6.into(), &2.into()));
    assert!(trained.stderr.contains("a fifth of the normal images is kept for tests"), "{}", trained.stderr);
    // The model knows the name, and nothing says what not to score.
    let document = ganomede(["eval", text(&model), "--data", text(&set), "--json"]).json();
    assert_eq!((document["n_normal"].as_u64(), document["n_anomalous"].as_u64()), (Some(2), Some(3)));
    assert_eq!(rows(&ganomede(["score", text(&model), text(&set), "--json"])).len(), 13);
    let test = ["score", text(&model), text(&set), "--split", "test", "--json"];
    assert_eq!(rows(&ganomede(test)).len(), 5);

    // Several places are one set.
    let other = place.join("other");
    photos(&other.join("train/good"), 5, 80);
    let more = ["--normal", "0.normal,good", "--val-fraction", "0"];
    let both = train(&["--data", text(&set), "--data", text(&other)], &model, &more);
    assert_eq!(both.json()["training_images"], 13);
    // Nothing is written among data that are read with all below.
    let (flat, out) = (set.join("1.burr"), set.join("1.burr/samples"));
    let samples = train(&["--data", text(&flat)], &model, &["--samples", text(&out)]);
    samples.refused(2, &["choose another folder"]);
}

#[test]
fn fits_are_remembered_and_padding_is_no_pixel() {
    let place = folder("fits");
    let set = place.join("set");
    photos(&set.join("train/good"), 8, 0);
    photos(&set.join("test/good"), 2, 20);
    photos(&set.join("test/dent"), 2, 40);
    fs::create_dir_all(set.join("ground_truth/dent")).unwrap();
    for i in 0..2 {
        let mask = image::GrayImage::from_fn(24, 16, |x, _| image::Luma([u8::from(x < 6) * 255]));
        mask.save(set.join(format!("ground_truth/dent/{i}.png"))).unwrap();
    }
    let at = |name: &str| place.join(format!("{name}.safetensors"));
    for (name, flags, fit) in [
        ("stretch", &[][..], Fit::Stretch),
        ("crop", &["--fit", "crop"], Fit::Crop),
        ("centre", &["--centre-crop"], Fit::Crop),
        ("pad", &["--fit", "pad"], Fit::Pad),
    ] {
        train(&["--data", text(&set)], &at(name), flags).well();
        assert_eq!(ModelFile::load(&at(name)).unwrap().header.data.fit, fit, "{name}");
        let document = ganomede(["eval", text(&at(name)), "--data", text(&set), "--json"]).json();
        assert!(document["pixel"]["auroc"].is_f64(), "{name}: {document}");
        let maps = place.join(format!("maps-{name}"));
        let model = at(name);
        let scored = ["score", text(&model), text(&set), "--maps", text(&maps), "--json"];
        assert_eq!(rows(&ganomede(scored)).len(), 4, "{name}");
        for picture in binary::files(&maps).iter().filter(|name| name.ends_with(".png")) {
            let size = image::image_dimensions(maps.join(picture)).unwrap();
            assert_eq!(size, (24, 16), "{name}: maps have the image's size, padding none of it");
        }
    }
    binary::assert_same_tensors(&at("crop"), &at("centre"));
    // Older files say whether images were cropped.
    let mut old = serde_json::to_value(ModelFile::load(&at("pad")).unwrap().header.data).unwrap();
    let fields = old.as_object_mut().unwrap();
    assert_eq!(fields.remove("fit"), Some("pad".into()));
    for (cropped, fit) in [(true, Fit::Crop), (false, Fit::Stretch)] {
        let mut fields = fields.clone();
        fields.insert("centre_crop".into(), cropped.into());
        let data: DataInfo = serde_json::from_value(fields.into()).unwrap();
        assert_eq!(data.fit, fit);
    }
    let both = train(&["--data", text(&set)], &at("x"), &["--fit", "crop", "--centre-crop"]);
    assert_eq!((both.code, both.stdout.as_str()), (Some(2), ""), "{}", both.stderr);
    assert!(both.stderr.contains("'--fit <FIT>' cannot be used with '--centre-crop'"), "{}", both.stderr);
}

#[test]
fn frames_of_dicom_are_scored_one_by_one_without_the_patient() {
    let place = folder("dicom");
    let (scans, model) = (place.join("scans"), place.join("m.safetensors"));
    fs::create_dir_all(&scans).unwrap();
    for name in ["ct", "stack", "xray"] {
        let golden = format!("../datasets/tests/goldens/dicom/{name}.dcm");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(golden);
        fs::copy(golden, scans.join(format!("{name}.dcm"))).unwrap();
    }
    let trained =
        train(&["--data", text(&scans)], &model, &["--window", "-20,2000", "--val-fraction", "0.2"]);
    trained.well();
    let file = ModelFile::load(&model).unwrap();
    assert_eq!(file.header.data.window, Some([-20.0, 2000.0]));
    let scored = ganomede(["score", text(&model), text(&scans), "--json"]);
    let ids = rows(&scored);
    assert_eq!(ids.len(), 5);
    assert!(ids[1].ends_with("stack.dcm#0") && ids[3].ends_with("stack.dcm#2"), "{ids:?}");
    let info = ganomede(["data", "info", text(&scans), "--all"]);
    let manifest = ganomede(["data", "manifest", text(&scans), "--json"]);
    let mut said = String::from_utf8_lossy(&fs::read(&model).unwrap()).into_owned();
    for ended in [&trained, &scored, &info, &manifest] {
        said += &ended.well().stdout;
        said += &ended.stderr;
    }
    for secret in ["Secretname", "SECRETID", "19700102"] {
        assert!(!said.contains(secret), "{secret}");
    }
    let zero = train(&["--data", text(&scans)], &model, &["--window", "40"]);
    assert_eq!((zero.code, zero.stdout.as_str()), (Some(2), ""), "{}", zero.stderr);
    assert!(zero.stderr.contains("write CENTRE,WIDTH"), "{}", zero.stderr);
}
