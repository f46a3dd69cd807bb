//! `score --shard` and `merge`: parts that several processes score, put together as one run gives them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::binary::{Ended, RETINA, folder, ganomede, text, train};

/// A model of images, and a folder of test images with one that cannot be decoded.
fn images(at: &Path) -> (PathBuf, PathBuf) {
    let (model, new) = (at.join("m.safetensors"), at.join("new"));
    train(RETINA, &model, &["--steps", "2", "--score", "pd"]).well();
    ganomede(["data", "synth", "casting", "--out", text(&at.join("parts")), "--train", "2", "--test", "3"])
        .well();
    fs::create_dir(&new).unwrap();
    for (i, file) in fs::read_dir(at.join("parts/test/good")).unwrap().enumerate() {
        fs::copy(file.unwrap().path(), new.join(format!("b{i}.png"))).unwrap();
    }
    let whole = fs::read(new.join("b0.png")).unwrap();
    // A header that says what it is, and pixels that are not there.
    fs::write(new.join("a.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(new.join("c.png"), &whole).unwrap();
    (model, new)
}

fn score<'a>(model: &'a Path, paths: &[&'a str], more: &[&'a str]) -> Ended {
    ganomede([&["score", text(model)], paths, more].concat())
}

/// Scores all parts into files; returns these.
fn parts(at: &Path, model: &Path, paths: &[&str], of: usize, more: &[&str]) -> Vec<String> {
    (0..of)
        .map(|index| {
            let (shard, out) = (format!("{index}/{of}"), at.join(format!("part-{index}-of-{of}.jsonl")));
            score(model, paths, &[&["--shard", &shard, "--out", text(&out)], more].concat()).well();
            text(&out).to_owned()
        })
        .collect()
}

fn merge(parts: &[String]) -> Ended {
    ganomede(["merge"].into_iter().chain(parts.iter().map(String::as_str)))
}

#[test]
fn parts_of_images_merge_to_the_document_of_one_run() {
    let at = folder("sharded-images");
    let (model, new) = images(&at);
    let maps = at.join("maps");
    let paths = [text(&new), "builtin:retina:train=2,test=6"];
    let with_maps = ["--score", "pd", "--batch", "2"];
    let whole = score(&model, &paths, &[&with_maps[..], &["--json"]].concat());
    whole.well();
    assert!(whole.stdout.contains("a.png") && whole.stdout.contains("\"drift\""), "{}", whole.stdout);
    for of in [1, 3] {
        let mut files = parts(&at, &model, &paths, of, &with_maps);
        files.reverse();
        let merged = merge(&files);
        merged.well();
        assert_eq!(merged.stdout, whole.stdout, "{of} parts");
    }
    // Regions of maps.
    let maps_of = at.join("ae.safetensors");
    let fixed = ["train", "ae", "--data", RETINA, "--out", text(&maps_of), "--size", "16", "--width", "4"];
    ganomede(fixed.iter().chain(&["--batch", "8", "--steps", "2", "--val-fraction", "0.2"])).well();
    let whole = score(&maps_of, &paths, &["--json"]);
    assert!(whole.stdout.contains("\"regions\""), "{}", whole.stdout);
    assert_eq!(merge(&parts(&at, &maps_of, &paths, 2, &[])).stdout, whole.stdout);
    // More parts than images: some are empty.
    let files = parts(&at, &model, &["builtin:retina:train=2,test=2"], 5, &with_maps);
    let whole = score(&model, &["builtin:retina:train=2,test=2"], &[&with_maps[..], &["--json"]].concat());
    let out = at.join("merged.json");
    ganomede(["merge", "--out", text(&out)].into_iter().chain(files.iter().map(String::as_str))).well();
    assert_eq!(fs::read_to_string(&out).unwrap(), whole.stdout);
    assert!(!maps.exists());
}

#[test]
fn parts_draw_the_pictures_of_one_run() {
    let at = folder("sharded-maps");
    let model = at.join("m.safetensors");
    train(RETINA, &model, &["--steps", "2"]).well();
    let (whole, apart) = (at.join("whole"), at.join("apart"));
    let paths = ["builtin:retina:train=2,test=6"];
    score(&model, &paths, &["--maps", text(&whole), "--search-steps", "2"]).well();
    parts(&at, &model, &paths, 2, &["--maps", text(&apart), "--search-steps", "2"]);
    let files = |folder: &Path| {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "png"));
        let mut files: Vec<_> =
            files.map(|path| (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap())).collect();
        files.sort();
        files
    };
    assert!(files(&whole).len() > 5);
    assert!(files(&whole) == files(&apart), "names and pixels");
}

#[test]
fn parts_of_tables_and_series_merge_too() {
    let at = folder("sharded-numbers");
    let row = |i: usize| format!("{},{},{}\n", i % 7, (i * i) % 11, (i * 3) % 5);
    let table = |name: &str, rows: usize| {
        let path = at.join(name);
        fs::write(&path, format!("a,b,c\n{}", (0..rows).map(row).collect::<String>())).unwrap();
        path
    };
    let (trained, a, b) = (table("t.csv", 200), table("a.csv", 33), table("b.csv", 18));
    for (form, model) in [("--table", at.join("t.safetensors")), ("--signal", at.join("s.safetensors"))] {
        let fixed = ["train", "pca", form, "--data", text(&trained), "--out", text(&model), "--latent", "1"];
        let size: &[&str] = if form == "--signal" { &["--size", "16", "--train-part", "0.8"] } else { &[] };
        ganomede(fixed.iter().chain(size).chain(&["--batch", "8", "--epochs", "1", "--val-fraction", "0.2"]))
            .well();
        let paths = [text(&a), text(&trained), text(&b)];
        let whole = score(&model, &paths, &["--json"]);
        whole.well();
        for of in [2, 4] {
            let merged = merge(&parts(&at, &model, &paths, of, &[]));
            merged.well();
            assert_eq!(merged.stdout, whole.stdout, "{form}, {of} parts");
        }
    }
}

#[test]
fn what_is_not_all_parts_of_one_run_is_refused() {
    let at = folder("sharded-refusals");
    let (model, new) = images(&at);
    let fast = ["--score", "pd"];
    let files = parts(&at, &model, &[text(&new)], 3, &fast);
    let refused = |files: &[&String], says: &[&str]| {
        let files: Vec<String> = files.iter().map(|file| (*file).clone()).collect();
        merge(&files).refused(2, says)
    };
    refused(&[&files[0], &files[2]], &["part 1/3 is missing", "score it"]);
    refused(&[&files[0], &files[1], &files[2], &files[1]], &["both part 1/3"]);
    let other = parts(&at, &model, &[text(&new)], 2, &fast);
    refused(&[&files[0], &other[1]], &["another number of parts"]);

    let again = |name: &str, shard: &str, model: &Path, new: &Path, more: &[&str]| {
        let out = at.join(name);
        let fixed = ["--shard", shard, "--out", text(&out)];
        score(model, &[text(new)], &[&fixed[..], &fast, more].concat()).well();
        text(&out).to_owned()
    };
    let strict = again("threshold.jsonl", "2/3", &model, &new, &["--threshold", "0.3"]);
    refused(&[&files[0], &files[1], &strict], &["different settings"]);
    let second = at.join("second.safetensors");
    train(RETINA, &second, &["--steps", "3", "--score", "pd"]).well();
    let foreign = again("model.jsonl", "2/3", &second, &new, &[]);
    refused(&[&files[0], &files[1], &foreign], &["different models"]);
    fs::copy(new.join("c.png"), new.join("d.png")).unwrap();
    let longer = again("longer.jsonl", "2/3", &model, &new, &[]);
    refused(&[&files[0], &files[1], &longer], &["different lists"]);

    let lines = fs::read_to_string(&files[1]).unwrap();
    let written = |name: &str, text: &str| {
        let path = at.join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let end = lines.trim_end().rfind('\n').unwrap();
    let cut = written("cut.jsonl", &lines[..=end]);
    refused(&[&files[0], &cut, &files[2]], &["cut.jsonl", "not whole", "score it again"]);
    let swapped = written("swapped.jsonl", &lines.replacen("\"place\":1", "\"place\":2", 1));
    refused(&[&files[0], &swapped, &files[2]], &["line 2", "not of this part"]);
    let noise = written("noise.jsonl", "{\"score\": 1}\n");
    refused(&[&files[0], &noise], &["noise.jsonl", "no part of a score"]);
    refused(&[&text(&model).to_owned()], &["m.safetensors", "no part of a score"]);
    let missing = at.join("none.jsonl");
    refused(&[&text(&missing).to_owned()], &["none.jsonl", "check the path"]);

    for (shard, says) in [("3/3", "0/3 to 2/3"), ("1", "I/N"), ("0/0", "I/N")] {
        let ended = score(&model, &[text(&new)], &["--shard", shard]);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
    score(&model, &[text(&new)], &["--shard", "0/2", "--out", text(&model)]).refused(2, &["m.safetensors"]);
}
