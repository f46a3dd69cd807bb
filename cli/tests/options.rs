//! Every option is checked before anything takes long: a refusal comes before the first step of a training,
//! before the first sample is scored, before the first kernel is timed.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::{Ended, RETINA, command, files, folder, ganomede, text, train, write_grays};

const SMALL: [&str; 8] = ["--size", "16", "--width", "4", "--search-steps", "3", "--val-fraction", "0.2"];
const SERIES: &str = "builtin:telemetry:train=200,test=100";

/// Asserts a refusal that comes before any work.
#[track_caller]
fn at_once(ended: &Ended, fragments: &[&str]) {
    ended.refused(2, fragments);
    for word in ["training ", "training:", "scoring", "calibrating", "searching"] {
        let worked = ended.stderr.lines().any(|line| line.starts_with(word));
        assert!(!worked, "`{word}` comes before the refusal: {}", ended.stderr);
    }
}

fn trained(system: &str, name: &str, more: &[&str]) -> PathBuf {
    let out = folder(name).join("m.safetensors");
    let fixed = ["train", system, "--out", text(&out), "--steps", "2"];
    ganomede(fixed.iter().chain(&SMALL).chain(more)).well();
    out
}

/// A model of images.
fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| trained("ae", "images", &["--data", RETINA]))
}

/// A model of windows of a series.
fn series() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| trained("ae", "series", &["--signal", "--data", SERIES]))
}

#[test]
fn seeds_of_an_evaluation_need_the_images_of_the_training() {
    let eval = |data: &str| ganomede(["eval", text(model()), "--data", data, "--seeds", "3"]);
    at_once(&eval("builtin:concrete:train=40,test=12"), &["--seeds", "builtin:concrete", RETINA]);
    // A folder where the model of a further seed would be written.
    let at = folder("place");
    let copy = at.join("m.safetensors");
    std::fs::copy(model(), &copy).unwrap();
    std::fs::create_dir(at.join("m-seed2.safetensors")).unwrap();
    let ended = ganomede(["eval", text(&copy), "--data", RETINA, "--seeds", "3"]);
    at_once(&ended, &["m-seed2.safetensors"]);
    assert_eq!(files(&at), ["m.safetensors"]);
}

#[test]
fn seeds_of_a_table_need_its_columns() {
    let at = folder("columns");
    let row = |i: usize| {
        format!("{},{},{}\n", i % 7, (i * i) % 11, if i.is_multiple_of(9) { "bad" } else { "good" })
    };
    let data = at.join("rows.csv");
    std::fs::write(&data, "a,b,state\n".to_owned() + &(0..200).map(row).collect::<String>()).unwrap();
    let model = at.join("m.safetensors");
    let fixed = ["train", "pca", "--table", "--data", text(&data), "--out", text(&model), "--latent", "1"];
    ganomede(fixed.iter().chain(&["--normal-class", "good", "--epochs", "1"])).well();
    let eval = |more: &[&str]| ganomede(["eval", text(&model), "--data", text(&data)].iter().chain(more));
    std::fs::create_dir(at.join("m-seed1.safetensors")).unwrap();
    at_once(&eval(&["--seeds", "2"]), &["m-seed1.safetensors"]);
    at_once(&eval(&["--limit-test", "1"]), &["--limit-test is 1"]);
    at_once(&eval(&["--batch", "0"]), &["--batch is 0"]);
    at_once(&eval(&["--report", text(&at.join("r")), "--timeline", text(&at)]), &["--timeline"]);
    let score = |more: &[&str]| ganomede(["score", text(&model), text(&data)].iter().chain(more));
    at_once(&score(&["--limit-test", "0"]), &["--limit-test is 0"]);
    at_once(&score(&[text(&at.join("gone.csv"))]), &["gone.csv", "no such file"]);
    let refused = ["--bits", "12", "--centre-crop", "--flatten", "--channels", "rgb"];
    for flags in [&refused[..2], &refused[2..3], &refused[3..4], &refused[4..]] {
        at_once(&ganomede(fixed.iter().chain(flags)), &[flags[0], "tables"]);
    }
}

#[test]
fn a_report_is_refused_before_it_is_computed() {
    let at = folder("report");
    let (report, gone) = (at.join("report"), at.join("gone"));
    let eval = |more: &[&str]| ganomede(["eval", text(model()), "--data", RETINA].iter().chain(more));
    // Another search has to be calibrated anew, and that takes long.
    let timeline = ["--search-steps", "4", "--report", text(&report), "--timeline", text(&gone)];
    at_once(&eval(&timeline), &["gone"]);
    let alone = eval(&["--timeline", text(&at)]);
    assert!(alone.code == Some(2) && alone.stderr.contains("--report"), "{}", alone.stderr);
    at_once(&eval(&["--limit-test", "0"]), &["--limit-test is 0"]);
    at_once(&eval(&["--batch", "0"]), &["--batch is 0"]);
}

#[test]
fn scores_are_refused_before_the_first_file() {
    let score = |more: &[&str]| ganomede(["score", text(model()), RETINA].iter().chain(more));
    at_once(&score(&["--limit-test", "0"]), &["--limit-test is 0"]);
    let svdd = trained("deep-svdd", "svdd", &["--data", RETINA]);
    let maps = folder("maps");
    at_once(&ganomede(["score", text(&svdd), RETINA, "--maps", text(&maps)]), &["--maps", "deep-svdd"]);

    let score = |more: &[&str]| ganomede(["score", text(series()), SERIES].iter().chain(more));
    at_once(&score(&["nowhere.csv"]), &["nowhere.csv", "no such file"]);
    at_once(&score(&["--stride", "0"]), &["--stride is 0", "16"]);
    at_once(&score(&["--stride", "17"]), &["--stride is 17", "16"]);
    at_once(&score(&["--split", "train"]), &["--split"]);
    for stages in ["0", "65"] {
        let ended = ganomede(["search", text(model()), RETINA, "--stages", stages]);
        assert!(ended.code == Some(2) && ended.stderr.contains("--stages"), "{}", ended.stderr);
    }
}

#[test]
fn what_is_said_of_pictures_is_refused_of_series() {
    let at = folder("pictures");
    let out = at.join("m.safetensors");
    let fixed = ["train", "ae", "--signal", "--data", SERIES, "--steps", "2", "--out", text(&out)];
    let train = |more: &[&str]| ganomede(fixed.iter().chain(&SMALL).chain(more));
    let samples = folder("pictures-samples");
    for flags in [
        &["--stride", "0"][..],
        &["--stride", "17"],
        &["--map-smooth", "1"],
        &["--map-relative"],
        &["--centre-crop"],
        &["--flatten"],
        &["--bits", "12"],
        &["--channels", "rgb"],
        &["--normal-class", "3"],
        &["--anomalous-class", "3"],
        &["--samples", text(&samples)],
    ] {
        at_once(&train(flags), &flags[..1]);
    }
    let eval = |more: &[&str]| ganomede(["eval", text(series()), "--data", SERIES].iter().chain(more));
    at_once(&eval(&["--stride", "17"]), &["--stride is 17"]);
    at_once(&eval(&["--normal-class", "3"]), &["--normal-class"]);
    at_once(&eval(&["--batch", "0"]), &["--batch is 0"]);
    at_once(&eval(&["--report", text(&at.join("r")), "--timeline", text(&at)]), &["--timeline"]);
    assert_eq!(files(&at), [""; 0]);
}

#[test]
fn samples_that_nothing_makes_are_refused() {
    let at = folder("samples");
    let samples = ["--steps", "2", "--samples", text(&at), "--latent", "32"];
    let out = folder("samples-out").join("m.safetensors");
    let fixed = ["train", "deep-svdd", "--data", RETINA, "--out", text(&out)];
    at_once(&ganomede(fixed.iter().chain(&SMALL).chain(&samples)), &["--samples", "deep-svdd"]);
    train(RETINA, &out, &samples[..4]).well();
}

#[test]
fn comparisons_are_refused_before_the_first_training() {
    let at = folder("compare");
    let report = at.join("report");
    let run = |more: &[&str]| {
        let fixed = ["compare", "--data", RETINA, "--steps", "2", "--report", text(&report)];
        ganomede(fixed.iter().chain(&SMALL).chain(more))
    };
    let page = at.join("half.md");
    std::fs::write(&page, "<!-- table -->\n").unwrap();
    let markdown = ["--systems", "ae,pca", "--markdown", text(&page), "--section"];
    at_once(&run(&[&markdown[..], &["table"]].concat()), &["table", "one pair"]);
    at_once(&run(&[&markdown[..], &["two words"]].concat()), &["two words", "letters"]);
    at_once(&run(&["--systems", "ae,pca", "--limit-test", "1"]), &["--limit-test is 1"]);
    // The second system is at fault, the first would be trained.
    at_once(&run(&["--systems", "ganomaly,ae", "--score", "instance"]), &["ae: ", "instance"]);
    at_once(&run(&["--systems", "f-anogan,ae", "--refine", "2"]), &["ae: ", "refine"]);
    let flat = at.join("flat");
    write_grays(&flat, 24);
    let unlabelled = ["compare", "--data", text(&flat), "--steps", "2", "--report", text(&report)];
    let ended = ganomede(unlabelled.iter().chain(&SMALL).chain(&["--systems", "ae,pca"]));
    at_once(&ended, &["flat", "no labelled test images"]);
    // The seeds that follow the highest begin again at 0.
    let highest = u64::MAX.to_string();
    run(&["--systems", "pca", "--seeds", "2", "--seed", &highest]).well();

    let series = |data: &str, more: &[&str]| {
        let fixed = ["compare", "--signal", "--data", data, "--steps", "2", "--report", text(&report)];
        ganomede(fixed.iter().chain(&SMALL[..4]).chain(more))
    };
    let markdown = ["--systems", "ae", "--markdown", text(&page), "--section", "table"];
    at_once(&series(SERIES, &markdown), &["table", "one pair"]);
    at_once(&series(SERIES, &["--systems", "ae,pca", "--stride", "17"]), &["--stride is 17"]);
    at_once(&series(SERIES, &["--systems", "ae,pca", "--map-smooth", "1"]), &["--map-smooth", "series"]);
    at_once(&series(SERIES, &["--systems", "ae,pca", "--score", "t2"]), &["ae: ", "t2"]);
    let plain = at.join("plain.csv");
    let rows: String = (0..300).map(|i| format!("{}\n", (f64::from(i) / 5.0).sin())).collect();
    std::fs::write(&plain, format!("value\n{rows}")).unwrap();
    let ended = series(text(&plain), &["--train-part", "0.5", "--systems", "ae,pca"]);
    at_once(&ended, &["plain.csv", "--labels"]);
}

#[test]
fn tools_are_refused_before_anything_is_timed() {
    let sizes = ["--size", "16", "--width", "4", "--batch", "2"];
    let shaders = folder("shaders");
    for (words, fragments) in [
        (&["bench", "growth", "--images", "10", "--watch"][..], ["bench growth", "--watch"]),
        (&["bench", "growth", "--images", "10", "--shaders", text(&shaders)], ["bench growth", "--shaders"]),
        (&["bench", "step", "--sweep", "batch=1,2", "--watch"], ["a sweep", "--watch"]),
        (&["profile", "anogan", "--program", "search", "--part", "critic"], ["--part", "training step"]),
        (&["explain", "anogan", "--program", "score", "--part", "critic"], ["--part", "training step"]),
    ] {
        at_once(&ganomede(words.iter().chain(&sizes)), &fragments);
    }
    let demo = ganomede(["demo", "--test-images", "1", "--report", text(&shaders)]);
    assert!(demo.code == Some(2) && demo.stderr.contains("--test-images"), "{}", demo.stderr);
    // A file where the folder of what wins would be.
    let file = shaders.join("file");
    std::fs::write(&file, "").unwrap();
    let mut tune = command();
    tune.env("GANOMEDE_CACHE", file.join("cache")).args(["tune", "--device", "gpu"]).args(sizes);
    let ended: Ended = tune.output().unwrap().into();
    ended.refused(1, &["cannot write to folder"]);
    assert!(!ended.stderr.contains("shape classes"), "{}", ended.stderr);
}

/// Networks are judged by the channels that a series has: 32 directions fit windows of 32 points of three
/// channels, and not of one.
#[test]
fn systems_are_judged_by_a_series_own_channels() {
    let at = folder("channels");
    let learn = |data: &str, part: &[&str], out: &Path| {
        let fixed =
            ["train", "gmm", "--signal", "--data", data, "--size", "32", "--latent", "32", "--batch", "8"];
        ganomede(
            fixed.iter().chain(&["--steps", "2", "--checkpoint-every", "0", "--out", text(out)]).chain(part),
        )
    };
    let out = at.join("five.safetensors");
    learn("builtin:telemetry:train=400,test=100", &[], &out).well();
    assert_eq!(ganomede::models::file::ModelFile::load(&out).unwrap().header.config.channels, 5);
    let plain = at.join("one.csv");
    let rows: String = (0..400).map(|i| format!("{}\n", (f64::from(i) / 5.0).sin())).collect();
    std::fs::write(&plain, format!("value\n{rows}")).unwrap();
    let out = at.join("one.safetensors");
    learn(text(&plain), &["--train-part", "0.5"], &out).refused(2, &["latent is 32", "1 to 31"]);
    assert!(!out.exists());
}

/// What a training does whatever the system: kept by the model, said by `info`, in the file of settings, and
/// refused where it means nothing.
#[test]
fn a_recipe_is_kept_said_and_refused_where_it_means_nothing() {
    let at = folder("recipe");
    let out = at.join("m.safetensors");
    let train = |system: &str, more: &[&str]| {
        let fixed = ["train", system, "--data", RETINA, "--out", text(&out), "--batch", "8"];
        ganomede(fixed.iter().chain(&SMALL).chain(more))
    };
    let recipe = ["--ema", "0.9", "--lr-schedule", "cosine", "--batch-norm-pass", "no", "--standardise"];
    let more = [&recipe[..], &["--steps", "6", "--keep-every", "2", "--score", "ssim", "--json"]].concat();
    let ended = train("ganomaly", &more);
    let report = ended.json();
    let steps: Vec<_> = report["kept"].as_array().unwrap().iter().map(|kept| &kept["step"]).collect();
    assert_eq!(steps, [2, 4]);
    assert!(report["final"]["held_out"].as_f64().unwrap() > 0.0);
    assert!(ended.stderr.contains("6 steps of 8"), "the budget is said: {}", ended.stderr);
    let said = ganomede(["info", text(&out), "--json"]).json();
    assert_eq!(said["recipe"]["schedule"], "cosine");
    assert_eq!(said["recipe"]["schedule_steps"], 6);
    assert_eq!(said["recipe"]["batch_norm_pass"], false);
    assert_eq!(said["recipe"]["standardise"], true);
    let again = said["command"].as_str().unwrap();
    for flag in ["--ema 0.9", "--lr-schedule cosine", "--batch-norm-pass no", "--standardise", "--score ssim"]
    {
        assert!(again.contains(flag), "{flag}: {again}");
    }
    let written = files(&at).into_iter().find(|name| name.ends_with(".toml")).expect("settings of the run");
    let written = std::fs::read_to_string(at.join(written)).unwrap();
    for line in ["ema = 0.9", "lr-schedule = \"cosine\"", "standardise = true", "keep-every = 2"] {
        assert!(written.contains(line), "{line}: {written}");
    }
    let kept = at.join("m.step-0000004.safetensors");
    ganomede(["eval", text(&kept), "--data", RETINA]).well();

    let refused = |system: &str, more: &[&str], fragments: &[&str]| at_once(&train(system, more), fragments);
    refused("ae", &["--minutes", "1", "--lr-schedule", "step"], &["--lr-schedule", "minutes"]);
    refused("ae", &["--steps", "2", "--ema", "1"], &["--ema is 1"]);
    refused("pca", &["--ema", "0.9"], &["--ema", "fitted"]);
    refused("egbad", &["--steps", "2", "--ema", "0.9"], &["--ema", "averages of its own"]);
    refused("pca", &["--score", "features", "--latent", "4"], &["features", "no network"]);
    refused("deep-svdd", &["--steps", "2", "--score", "ssim"], &["ssim", "reconstructs nothing"]);
    let series = ["train", "ae", "--signal", "--data", SERIES, "--out", text(&out), "--standardise"];
    at_once(&ganomede(series), &["--standardise", "series"]);
}
