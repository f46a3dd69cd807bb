//! `import`, and `export --torch` whose folders come back through it. That torch gives the command line's
//! scores, `make torch` shows; that checkpoints give torch's, `tests/import.rs` of the library.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::{RETINA, assert_same_tensors, files, folder, ganomede, text, train, write_grays};
use ganomede::models::file::ModelFile;

/// A checkpoint of the library's tests.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/torch/published").join(name)
}

/// A model of a score of one pass.
fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("model").join("m.safetensors");
        let settings =
            ["--size", "16", "--width", "4", "--latent", "8", "--steps", "2", "--val-fraction", "0.3"];
        ganomede(["train", "ganomaly", "--data", RETINA, "--out", text(&path)].iter().chain(&settings))
            .well();
        path
    })
}

#[test]
fn a_published_checkpoint_becomes_a_model_that_knows_no_threshold_until_it_is_calibrated() {
    let place = folder("published");
    let (out, good) = (place.join("m.safetensors"), place.join("good"));
    write_grays(&good, 12);
    let (netg, netd) = (fixture("ganomaly-netG.pth"), fixture("ganomaly-netD.pth"));
    let import = ["import", text(&netg), text(&netd), "--system", "ganomaly", "--out", text(&out)];
    let ended = ganomede(import);
    assert!(
        ended.well().stdout.starts_with("ganomaly of 52 tensors; no threshold: `ganomede calibrate "),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains(" --data GOOD` sets one from normal samples"), "{}", ended.stdout);
    let info = ganomede(["info", text(&out)]).well().stdout.clone();
    assert!(
        info.contains("threshold   none: nothing was held out, or it is a checkpoint or was imported"),
        "{info}"
    );
    assert!(info.contains("unknown: imported from ganomaly-netG.pth, ganomaly-netD.pth"), "{info}");
    assert!(!info.contains("\nagain"), "nothing here trains it again: {info}");
    let image = good.join("00.png");
    let scored = ganomede(["score", text(&out), text(&image), "--json"]).json();
    let row = &scored["images"][0];
    assert!(row["score"].as_f64().is_some_and(|score| score > 0.0), "{scored}");
    assert_eq!(row.get("anomalous"), Some(&serde_json::Value::Null), "{scored}");

    // Calibrated afterwards and at once, it is the same.
    let later = ganomede(["calibrate", text(&out), "--data", text(&good), "--json"]).json();
    let at_once = ganomede(import.iter().chain(&["--data", text(&good), "--json"])).json();
    assert_eq!(at_once["threshold"], later["threshold"]);
    assert_eq!((&at_once["tensors"], &at_once["notes"]), (&52.into(), &serde_json::json!([])));
    let verdict = ganomede(["score", text(&out), text(&image), "--json"]).json();
    assert!(verdict["images"][0]["anomalous"].is_boolean(), "{verdict}");
    assert_eq!(verdict["images"][0]["score"], scored["images"][0]["score"]);
    let loose =
        ganomede(import.iter().chain(&["--data", text(&good), "--false-alarm-rate", "0.5", "--json"])).json();
    assert!(loose["threshold"].as_f64() < at_once["threshold"].as_f64(), "{loose}");

    // Without the discriminator, with a word.
    let alone = ganomede(["import", text(&netg), "--system", "ganomaly", "--out", text(&out)]);
    assert!(alone.well().stdout.starts_with("warning: without netD.pth: "), "{}", alone.stdout);
}

#[test]
fn what_cannot_be_imported_is_refused_and_nothing_is_written() {
    let place = folder("refused");
    let out = place.join("m.safetensors");
    let refused = |arguments: &[&str], what: &[&str]| {
        ganomede(["import", "--out", text(&out)].iter().chain(arguments)).refused(2, what);
        assert!(!out.exists());
    };
    let [netg, svdd, module] = ["ganomaly-netG.pth", "deep-svdd-mnist.tar", "module.pth"].map(fixture);
    refused(
        &[text(&module), "--system", "ganomaly"],
        &["'torch.nn.modules.linear.Linear'", "nothing is executed"],
    );
    refused(&[text(&svdd), "--system", "deep-svdd"], &["--range LOW,HIGH"]);
    let misused = |arguments: &[&str], what: &[&str]| {
        let ended = ganomede(["import", "--out", text(&out)].iter().chain(arguments));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(what.iter().all(|part| ended.stderr.contains(part)), "{}", ended.stderr);
        assert!(!out.exists());
    };
    misused(&[text(&svdd), "--system", "deep-svdd", "--range", "4,1"], &["4,1 is no range"]);
    misused(&[text(&netg), "--system", "pca"], &["pca", "deep-svdd"]);
    misused(&[text(&netg)], &["--system", "--like"]);
    misused(&[text(&netg), "--like", text(model()), "--range", "0,1"], &["--range"]);
    refused(&[text(&netg), "--like", text(model())], &["has no tensor 'discriminator.down1.weight'"]);
    refused(&[text(&netg), text(&netg), "--like", text(model())], &["2 files are named"]);
    refused(&[text(model()), "--like", text(&netg)], &["ganomaly-netG.pth"]);
    refused(&[text(&place.join("no.pth")), "--system", "ganomaly"], &["cannot read", "no.pth"]);
    // Deep SVDD's range may be negative.
    ganomede(["import", text(&svdd), "--system", "deep-svdd", "--range", "-2.5,4", "--out", text(&out)])
        .well();
    // What is read is not replaced.
    ganomede(["import", text(&out), "--like", text(&out), "--out", text(&out)])
        .refused(2, &["m.safetensors"]);
}

#[test]
fn an_exported_module_comes_back_with_the_same_bits() {
    let place = folder("module").join("torch");
    let said = ganomede(["export", "--torch", text(&place), text(model()), "--json"]).json();
    assert_eq!(said["files"], serde_json::json!(["model.safetensors", "network.py"]));
    assert_eq!(said["outputs"], serde_json::json!(["score", "con", "reconstruction", "map"]));
    assert_eq!(files(&place), ["model.safetensors", "network.py"]);
    let code = std::fs::read_to_string(place.join("network.py")).unwrap();
    for line in [
        "SYSTEM = \"ganomaly\"",
        "    \"generator.encoder1.down1.weight\": (8, 4, 4, 4),",
        "        # generator.encoder1.down1",
        "down1 = F.conv2d(",
        "self.generator.encoder1.down1.weight, stride=2, padding=1)",
        "            \"map\": ",
    ] {
        assert!(code.contains(line), "no `{line}` in {code}");
    }
    let back = place.with_file_name("back.safetensors");
    let import =
        ["import", text(&place.join("model.safetensors")), "--like", text(model()), "--out", text(&back)]
            .map(str::to_owned);
    ganomede(&import).well();
    assert_same_tensors(model(), &back);
    let (before, after) = (ModelFile::load(model()).unwrap(), ModelFile::load(&back).unwrap());
    assert!(before.header.calibration.is_some() && after.header.calibration.is_none());
    assert_eq!(after.header.config, before.header.config);
    assert_eq!(after.header.data, before.header.data);
    // The same threshold from the same samples, at once.
    let good = place.with_file_name("good");
    write_grays(&good, 12);
    let threshold = |out: &Path, more: &[&str]| {
        let more = more.iter().map(|word| (*word).to_owned());
        ganomede(import.iter().cloned().chain(more)).well();
        ModelFile::load(out).unwrap().header.calibration.unwrap().threshold
    };
    let at_once = threshold(&back, &["--data", text(&good)]);
    let copy = place.with_file_name("copy.safetensors");
    let calibrate = [
        "calibrate",
        text(model()),
        "--data",
        text(&good),
        "--out",
        text(&copy),
        "--score",
        "code",
        "--json",
    ];
    assert_eq!(ganomede(calibrate).json()["threshold"].as_f64(), Some(at_once));

    // An earlier export is replaced; other files are not.
    ganomede(["export", "--torch", text(&place), text(model())]).well();
    std::fs::write(place.join("notes.txt"), "mine").unwrap();
    ganomede(["export", "--torch", text(&place), text(model())]).refused(2, &["it also holds 'notes.txt'"]);
}

#[test]
fn what_has_no_module_is_refused() {
    let place = folder("unmodular");
    let searched = place.join("a.safetensors");
    train(RETINA, &searched, &["--steps", "2"]).well();
    let out = place.join("torch");
    let export = ["export", "--torch", text(&out), text(&searched)];
    ganomede(export).refused(2, &["the score 'anogan' of anogan is searched step by step", "another score"]);
    let tiles = place.join("tiles.safetensors");
    let command = ["train", "pca", "--data", RETINA, "--out", text(&tiles), "--tile", "16", "--steps", "2"];
    ganomede(command.iter().chain(&["--val-fraction", "0.2"])).well();
    ganomede(["export", "--torch", text(&out), text(&tiles)])
        .refused(2, &["tile by tile", "train without --tile"]);
    let two = ["export", "--torch", text(&out), "--onnx", "m.onnx", "m"];
    for (arguments, what) in [(&["export", "--torch", text(&out)][..], "<M|"), (&two, "--onnx")] {
        let ended = ganomede(arguments);
        assert!(ended.code == Some(2) && ended.stderr.contains(what), "{}", ended.stderr);
    }
    ganomede(["export", "--torch", text(&place), text(&searched)]).refused(2, &["a.safetensors"]);
    assert!(!out.exists());
}

/// A network of such weights would call nothing anomalous in a runtime that compares with NaN.
#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let place = folder("not-finite");
    let exported = place.join("torch");
    ganomede(["export", "--torch", text(&exported), text(model())]).well();
    let whole = std::fs::read(exported.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let described: serde_json::Value = serde_json::from_slice(&whole[8..8 + header]).unwrap();
    let begin = |name: &str| 8 + header + described[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let names: Vec<&String> = described.as_object().unwrap().keys().collect();
    let ending = |end: &str| names.iter().find(|name| name.ends_with(end)).unwrap().as_str();
    for (name, value, said) in [
        (ending(".weight"), f32::NAN, "NaN"),
        (ending(".weight"), f32::INFINITY, "inf"),
        (ending(".running_var"), -0.5, "the variance -0.5"),
    ] {
        let mut bytes = whole.clone();
        bytes[begin(name)..][..4].copy_from_slice(&value.to_le_bytes());
        let (file, out) = (place.join("changed.safetensors"), place.join("out.safetensors"));
        std::fs::write(&file, bytes).unwrap();
        ganomede(["import", text(&file), "--like", text(model()), "--out", text(&out)])
            .refused(2, &[said, name]);
        assert!(!out.exists());
    }
}
