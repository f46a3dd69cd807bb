//! Whatever is wrong with the input, the settings or the machine: one paragraph on stderr that names it, exit
//! code 2 for the user's side and 1 for the machine's, nothing on stdout, nothing half-written, nothing lost.

use crate::binary;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::{
    Ended, RETINA, command, files, folder, ganomede, signal, text, train, train_command, wait_for,
    with_file_limit, write_gray, write_grays,
};
use ganomede::models::file::ModelFile;

/// A model trained for two steps, made once.
fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("model").join("tiny.safetensors");
        train(RETINA, &path, &["--steps", "2"]).well();
        path
    })
}

/// Trains on `data` into a folder of its own that must stay empty, expects a refusal.
fn refuse_training(name: &str, data: &str, more: &[&str], fragments: &[&str]) -> String {
    let out = folder(&format!("{name}-out"));
    let paragraph = train(data, &out.join("m.safetensors"), more).refused(2, fragments);
    assert_eq!(files(&out), [""; 0], "something was left behind");
    paragraph
}

fn score(path: &Path, more: &[&str]) -> Ended {
    ganomede(["score", text(model()), text(path), "--json"].iter().chain(more))
}

// ---- images

#[test]
fn folders_without_images() {
    let empty = folder("empty");
    refuse_training("empty", text(&empty), &["--steps", "1"], &[text(&empty), "no usable image"]);
    score(&empty, &[]).refused(2, &[text(&empty), "no usable image"]);
    let missing = folder("missing").join("nowhere");
    refuse_training("missing", text(&missing), &["--steps", "1"], &["nowhere", "no such file or folder"]);

    let others = folder("others");
    std::fs::write(others.join("notes.txt"), "not an image").unwrap();
    std::fs::write(others.join("table.csv"), "1,2,3").unwrap();
    refuse_training("others", text(&others), &["--steps", "1"], &["no usable image", "1 `.txt`", "1 `.csv`"]);
    std::fs::write(others.join("text.png"), "text under an image's name").unwrap();
    refuse_training(
        "others2",
        text(&others),
        &["--steps", "1"],
        &["no usable image", "1 images that cannot be used"],
    );
}

#[test]
fn damaged_images_are_named_and_skipped_or_with_strict_refused() {
    let data = folder("damaged");
    write_grays(&data, 12);
    let whole = std::fs::read(data.join("00.png")).unwrap();
    std::fs::write(data.join("cut.png"), &whole[..whole.len() / 2]).unwrap();
    write_gray(&data.join("one.png"), 1, 1, 0);
    std::fs::write(data.join("huge.png"), png_header(30_000, 30_000)).unwrap();
    std::fs::write(data.join("zero.png"), b"").unwrap();

    let out = folder("damaged-out").join("m.safetensors");
    let summary = train(text(&data), &out, &["--steps", "2", "--json"]);
    let rejected = summary.json()["rejected_files"].as_u64().unwrap();
    assert!((3..=4).contains(&rejected), "{rejected}: cut.png is found when it is drawn, the others at once");
    for (name, reason) in [("one.png", "1×1"), ("huge.png", "30000×30000"), ("zero.png", "empty")] {
        assert!(summary.stderr.contains(name) && summary.stderr.contains(reason), "{}", summary.stderr);
    }

    let scores = ganomede(["score", text(model()), text(&data), "--json"]).json();
    assert_eq!(scores["images"].as_array().unwrap().len(), 12);
    let rejected: Vec<_> =
        scores["rejected"].as_array().unwrap().iter().map(|r| r["path"].as_str().unwrap()).collect();
    assert_eq!(rejected.len(), 4, "{rejected:?}");

    score(&data, &["--strict"]).refused(2, &["damaged/"]);
    refuse_training("strict", text(&data), &["--steps", "2", "--strict"], &["damaged/"]);
}

#[test]
fn one_bad_image_alone() {
    let data = folder("single");
    let whole = data.join("whole.png");
    write_gray(&whole, 40, 40, 1);
    let bytes = std::fs::read(&whole).unwrap();
    let cut = data.join("cut.png");
    std::fs::write(&cut, &bytes[..bytes.len() - 20]).unwrap();
    score(&cut, &[]).refused(2, &["cut.png", "damaged"]);
    let one = data.join("one.png");
    write_gray(&one, 1, 1, 0);
    score(&one, &[]).refused(2, &["one.png", "1×1"]);
    let huge = data.join("huge.png");
    std::fs::write(&huge, png_header(30_000, 30_000)).unwrap();
    score(&huge, &[]).refused(2, &["huge.png", "30000×30000", "megapixels"]);
    let foreign = data.join("notes.txt");
    std::fs::write(&foreign, "text").unwrap();
    score(&foreign, &[]).refused(2, &["notes.txt"]);
    ganomede(["search", text(model()), text(&cut)]).refused(2, &["cut.png", "damaged"]);
}

/// Signature, header and an empty data chunk of a gray PNG of this size, checksums right.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
        })
    };
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = width.to_be_bytes().to_vec();
    header.extend(height.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    for (kind, data) in [(b"IHDR", header), (b"IDAT", vec![]), (b"IEND", vec![])] {
        png.extend((data.len() as u32).to_be_bytes());
        let chunk = [&kind[..], &data].concat();
        png.extend(&chunk);
        png.extend(crc(&chunk).to_be_bytes());
    }
    png
}

#[test]
fn mixed_sizes_and_colour_types_work() {
    let data = folder("mixed");
    let save = |image: image::DynamicImage, name: &str| image.save(data.join(name)).unwrap();
    let shades = |x: u32, y: u32| ((x * 11 + y * 5) % 256) as u8;
    save(image::GrayImage::from_fn(20, 31, |x, y| image::Luma([shades(x, y)])).into(), "a.png");
    save(image::RgbImage::from_fn(64, 9, |x, y| image::Rgb([shades(x, y), 10, 200])).into(), "b.png");
    save(image::RgbaImage::from_fn(17, 17, |x, y| image::Rgba([1, shades(x, y), 2, 128])).into(), "c.png");
    let deep = |x, y| image::Luma([u16::from(shades(x, y)) * 257]);
    save(image::ImageBuffer::<image::Luma<u16>, Vec<u16>>::from_fn(33, 20, deep).into(), "d.png");
    save(image::RgbImage::from_fn(50, 50, |x, y| image::Rgb([shades(y, x); 3])).into(), "e.jpg");
    save(image::GrayImage::from_fn(16, 16, |x, y| image::Luma([shades(x, y)])).into(), "f.bmp");
    save(image::GrayImage::from_fn(16, 200, |x, y| image::Luma([shades(x, y)])).into(), "g.tiff");
    save(image::GrayAlphaImage::from_fn(30, 30, |x, y| image::LumaA([shades(x, y), 9])).into(), "h.PNG");
    for channels in ["gray", "rgb"] {
        let out = folder(&format!("mixed-{channels}")).join("m.safetensors");
        let more = ["--steps", "2", "--batch", "4", "--channels", channels, "--json"];
        let summary = train(text(&data), &out, &more).json();
        assert_eq!(
            (summary["training_images"].as_u64(), summary["rejected_files"].as_u64()),
            (Some(6), Some(0))
        );
        let scores = ganomede(["score", text(&out), text(&data), "--json"]).json();
        let names: Vec<_> =
            scores["images"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
        let stems: String =
            names.iter().map(|n| Path::new(n).file_stem().unwrap().to_str().unwrap()).collect();
        assert_eq!(stems, "abcdefgh");
    }
}

#[test]
fn labelled_sets_that_lie() {
    let data = folder("idx");
    let idx = |name: &str, header: &[u32], bytes: usize| {
        let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        file.resize(file.len() + bytes, 100);
        std::fs::write(data.join(name), file).unwrap();
    };
    let images = "train-images-idx3-ubyte";
    let steps = ["--steps", "1"];
    let refuse = |fragments: &[&str]| refuse_training("idx", text(&data), &steps, fragments);
    idx(images, &[0x803, 4_000_000_000, 28, 28], 1000);
    refuse(&[images, "a count of 4000000000 images", "at most 67108864"]);
    idx(images, &[0x803, 2, 28, 28], 28 * 28);
    refuse(&[images, "count", "promises 1568 bytes"]);
    idx(images, &[0x803, 2, 0, 28], 0);
    refuse(&[images, "height", "0"]);
    idx(images, &[0xD03, 2, 28, 28], 2 * 28 * 28);
    refuse(&[images, "type", "0x0d"]);
    idx(images, &[0x801, 2, 28, 28], 2 * 28 * 28);
    refuse(&[images, "magic"]);
    std::fs::write(data.join(images), [0, 0, 8]).unwrap();
    refuse(&[images, "ends within the header"]);
    idx(images, &[0x803, 40, 28, 28], 40 * 28 * 28);
    let labels = "train-labels-idx1-ubyte";
    idx(labels, &[0x801, 39], 39);
    refuse(&[labels, "39 labels for 40 images"]);
    idx(labels, &[0x801, 40], 40);
    refuse(&["which classes are normal", "its classes are"]);
    refuse_training("idx", text(&data), &["--steps", "1", "--normal-class", "boot"], &["no class `boot`"]);
}

#[test]
fn a_model_of_a_labelled_set_scores_single_images_and_folders() {
    let data = folder("digits");
    let set = |name: &str, count: u32| {
        let mut images: Vec<u8> = [0x803, count, 20, 20].iter().flat_map(|w: &u32| w.to_be_bytes()).collect();
        images.extend((0..count * 400).map(|i| (i * 13 % 251) as u8));
        let mut labels: Vec<u8> = [0x801, count].iter().flat_map(|w: &u32| w.to_be_bytes()).collect();
        labels.extend((0..count).map(|i| (i % 3) as u8));
        std::fs::write(data.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(data.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    };
    set("train", 60);
    set("t10k", 12);
    let out = folder("digits-out").join("m.safetensors");
    let summary = train(text(&data), &out, &["--steps", "2", "--normal-class", "0,1", "--json"]).json();
    assert_eq!(summary["training_images"], 32);
    let evaluation = ganomede(["eval", text(&out), "--data", text(&data), "--json"]).json();
    assert_eq!((evaluation["n_normal"].as_u64(), evaluation["n_anomalous"].as_u64()), (Some(8), Some(4)));
    for contrary in [["--normal-class", "2"], ["--anomalous-class", "1"]] {
        let words = ["digits", "when the model was trained", "0, 1, 2"];
        ganomede(["eval", text(&out), "--data", text(&data)].iter().chain(&contrary)).refused(2, &words);
    }
    let scores = ganomede(["score", text(&out), text(&data), "--json"]).json();
    assert_eq!(scores["images"].as_array().unwrap().len(), 12);

    let plain = folder("plain");
    write_grays(&plain, 3);
    let scores = ganomede(["score", text(&out), text(&plain), text(&plain.join("01.png")), "--json"]).json();
    assert_eq!(scores["images"].as_array().unwrap().len(), 4);
    ganomede(["search", text(&out), text(&plain.join("01.png"))]).well();
}

// ---- settings

#[test]
fn settings_outside_their_range() {
    let cases: [(&[&str], &[&str]); 18] = [
        (&["--size", "15"], &["size is 15", "16 to 1024 a side"]),
        (&["--size", "64x8"], &["size is 64x8", "16 to 1024 a side"]),
        (&["--size", "1025x64"], &["size is 1025x64", "16 to 1024 a side"]),
        (&["--width", "0"], &["width is 0"]),
        (&["--latent", "0"], &["latent is 0"]),
        (&["--kernel", "3"], &["kernel is 3", "4 or 5"]),
        (&["--batch", "0"], &["--batch is 0"]),
        (&["--batch", "33"], &["batch is 33", "32 images", "--batch 32"]),
        (&["--steps", "0"], &["--steps", "at least 1"]),
        (&["--epochs", "0"], &["--epochs", "at least 1"]),
        (&["--minutes=-1"], &["--minutes is -1"]),
        (&["--lr", "0"], &["--lr is 0"]),
        (&["--lr", "NaN"], &["--lr is NaN"]),
        (&["--val-fraction", "1"], &["1"]),
        (&["--val-fraction=-0.5"], &["-0.5"]),
        (&["--search-steps", "0"], &["search-steps is 0"]),
        (&["--lambda", "1.5"], &["lambda is 1.5"]),
        (&["--augment", "flip,explode"], &["explode"]),
    ];
    for (more, fragments) in cases {
        let out = folder("settings");
        train(RETINA, &out.join("m.safetensors"), more).refused(2, fragments);
        assert_eq!(files(&out), [""; 0], "{more:?}");
    }
}

#[test]
fn what_calibration_would_refuse_is_refused_before_training() {
    let cases: [(&str, &[&str], &[&str]); 4] = [
        ("ae", &["--refine", "5"], &["refine", "ae"]),
        ("deep-svdd", &["--refine", "1"], &["refine", "deep-svdd"]),
        ("ganomaly", &["--refine", "3"], &["refine"]),
        ("anogan", &["--restarts", "2000", "--search-steps", "2"], &["restarts is 2000"]),
    ];
    for (system, more, fragments) in cases {
        let out = folder("before-training");
        let model = out.join("m.safetensors");
        let arguments =
            ["train", system, "--data", RETINA, "--out", text(&model), "--size", "16", "--width", "4"];
        let ended = ganomede(arguments.iter().chain(&["--steps", "2"]).chain(more));
        ended.refused(2, fragments);
        assert!(!ended.stderr.contains("training"), "{system}: {}", ended.stderr);
        assert_eq!(files(&out), [""; 0], "{system}");
    }
}

#[test]
fn settings_of_scoring_outside_their_range() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--batch", "0"], &["--batch is 0"]),
        (&["--search-steps", "0"], &["search-steps is 0"]),
        (&["--restarts", "0"], &["restarts is 0"]),
        (&["--restarts", "2000"], &["restarts is 2000"]),
        (&["--lambda=-0.1"], &["lambda is -0.1"]),
        (&["--search-tolerance", "1"], &["search-tolerance is 1"]),
    ];
    for (more, fragments) in cases {
        ganomede(["score", text(model()), RETINA].iter().chain(more)).refused(2, fragments);
        ganomede(["eval", text(model()), "--data", RETINA].iter().chain(more)).refused(2, fragments);
    }
    for command in [&["score", text(model()), RETINA][..], &["eval", text(model()), "--data", RETINA]] {
        let ended = ganomede(command.iter().chain(&["--false-alarm-rate", "1"]));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("false-alarm rate 1 lies outside (0, 1)"), "{}", ended.stderr);
    }
    ganomede(["eval", text(model()), "--data", RETINA, "--limit-test", "1"])
        .refused(2, &["--limit-test is 1"]);
    let flat = folder("flat");
    write_grays(&flat, 3);
    ganomede(["eval", text(model()), "--data", text(&flat)])
        .refused(2, &["no labelled test images", "ganomede score"]);
    ganomede(["search", text(model()), text(&flat.join("00.png")), "--score", "pd"])
        .refused(2, &["pd", "no search"]);
}

#[test]
fn usage() {
    for bad in [&["--no-such-flag"][..], &["nonsense"], &["train"], &["train", "nonsense"], &["score"], &[]] {
        let ended = ganomede(bad);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{bad:?}: {}", ended.stderr);
        let helps = ["Usage", "possible values"].iter().any(|help| ended.stderr.contains(help));
        assert!(helps, "{bad:?}: {}", ended.stderr);
    }
    let unknown = ganomede(["score", "m.safetensors", "x.png", "--no-such-flag"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
    assert!(unknown.stderr.contains("--no-such-flag"), "{}", unknown.stderr);

    let help = ganomede(["--help"]);
    help.well();
    let commands = help.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    // Descriptions that go on in a second line are indented further than names.
    let named = commands.take_while(|l| !l.is_empty()).filter(|l| !l.starts_with("   "));
    let names: Vec<_> = named.filter_map(|l| l.split_whitespace().next()).collect();
    for name in ["demo", "train", "score", "eval", "search"] {
        assert!(names.contains(&name), "{name} is not listed in {names:?}");
    }
    for name in names.into_iter().filter(|&name| name != "help") {
        let help = ganomede([name, "--help"]);
        help.well();
        assert!(help.stdout.contains("Example") && help.stderr.is_empty(), "{name}: {}", help.stdout);
    }
    assert!(ganomede(["--version"]).well().stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn devices_that_do_not_exist() {
    let on = |device: &str| {
        command().args(["score", text(model()), RETINA, "--json", "--device", device]).output().unwrap()
    };
    for name in ["foo", "gpu:x", "gpu:-1"] {
        let ended = Ended::from(on(name));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("device '{name}' is unknown")), "{}", ended.stderr);
    }
    Ended::from(on("gpu:99")).refused(2, &["gpu:99", "does not exist", "known devices"]);
}

#[test]
fn a_machine_without_adapters() {
    let out = folder("no-adapter").join("m.safetensors");
    let without = |device: &str| {
        let mut command = train_command(RETINA, &out, &["--steps", "1", "--device", device]);
        command.env("VK_ICD_FILENAMES", "/nonexistent").env("VK_DRIVER_FILES", "/nonexistent");
        Ended::from(command.env("WGPU_BACKEND", "vulkan").output().unwrap())
    };
    without("gpu").refused(1, &["no GPU adapter found", "mesa-vulkan-drivers", "the device `cpu`"]);
    assert!(!out.exists());
    without("auto").well();
    ModelFile::load(&out).unwrap();
}

// ---- the machine

#[test]
fn training_that_diverges_names_step_and_layer_and_keeps_the_last_good_checkpoint() {
    let at = folder("diverges");
    let out = at.join("m.safetensors");
    let checkpoint = at.join("m.checkpoint.safetensors");
    let more = ["--lr", "1e30", "--steps", "50", "--checkpoint-every", "1", "--json"];
    let paragraph = train(RETINA, &out, &more).refused(1, &["diverged at step", "first layer", "--lr"]);
    let layer = paragraph.split("is '").nth(1).unwrap().split('\'').next().unwrap();
    assert!(
        ["generator", "discriminator", "adam"].iter().any(|part| layer.contains(part)),
        "{layer}: {paragraph}"
    );
    assert!(!out.exists(), "no model of a diverged training");
    if checkpoint.exists() {
        let file = ModelFile::load(&checkpoint).unwrap();
        let step = format!("step {}", file.header.progress.steps);
        assert!(paragraph.contains(&step) && paragraph.contains(text(&checkpoint)), "{paragraph}");
        let finite = |t: &ganomede::models::file::NamedTensor| t.values.iter().all(|v| v.is_finite());
        for tensor in &file.tensors {
            assert!(tensor.name.ends_with(".key") || finite(tensor), "'{}' of the checkpoint", tensor.name);
        }
    } else {
        assert!(paragraph.contains("no earlier checkpoint"), "{paragraph}");
    }

    // A training that goes well and then badly: the checkpoint of the good part is left as it was.
    let good = ["--steps", "4", "--checkpoint-every", "2"];
    train(RETINA, &out, &good).well();
    let (model, saved) = (std::fs::read(&out).unwrap(), std::fs::read(&checkpoint).unwrap());
    train(RETINA, &out, &["--lr", "1e38", "--steps", "9", "--checkpoint-every", "0"])
        .refused(1, &["diverged"]);
    assert_eq!(std::fs::read(&out).unwrap(), model, "the old model");
    assert_eq!(std::fs::read(&checkpoint).unwrap(), saved, "the old checkpoint");
    assert_eq!(files(&at), ["m.checkpoint.safetensors", "m.safetensors", "m.toml"]);
}

#[test]
fn the_layer_named_is_the_one_at_fault() {
    let at = folder("fault");
    let out = at.join("m.safetensors");
    let checkpoint = at.join("m.checkpoint.safetensors");
    train(RETINA, &out, &["--steps", "2"]).well();
    // Activations of 1e38 are finite; the sums over them in the next convolution are not.
    let mut file = ModelFile::load(&checkpoint).unwrap();
    let bias = file.tensors.iter_mut().find(|t| t.name == "discriminator.input.bias").unwrap();
    bias.values.fill(1e38);
    let weight = file.tensors.iter_mut().find(|t| t.name == "discriminator.down1.weight").unwrap();
    weight.values.fill(1.0);
    file.save(&checkpoint).unwrap();
    let saved = std::fs::read(&checkpoint).unwrap();
    for every in ["0", "1"] {
        let more = ["--steps", "9", "--checkpoint-every", every, "--resume"];
        let fragments = ["at step 3", "'discriminator.down1'", "checkpoint is of step 2", text(&checkpoint)];
        train(RETINA, &out, &more).refused(1, &fragments);
        assert_eq!(std::fs::read(&checkpoint).unwrap(), saved);
    }
}

#[test]
fn a_full_disk() {
    let at = folder("full");
    let out = at.join("m.safetensors");
    let mut arguments = vec!["train", "anogan", "--data", RETINA, "--out", text(&out), "--steps", "2"];
    arguments.extend(binary::TINY);
    with_file_limit(4, &arguments).refused(1, &["cannot write", "m.checkpoint.safetensors", "space"]);
    assert_eq!(files(&at), [""; 0]);

    std::fs::copy(model(), &out).unwrap();
    let before = std::fs::read(&out).unwrap();
    with_file_limit(4, &arguments).refused(1, &["cannot write"]);
    assert_eq!(std::fs::read(&out).unwrap(), before, "the old model");
    assert_eq!(files(&at), ["m.safetensors"]);

    let report = folder("full-report");
    std::fs::write(report.join("metrics.json"), "old").unwrap();
    let arguments = ["eval", text(model()), "--data", RETINA, "--report", text(&report)];
    with_file_limit(2, &arguments).refused(1, &["cannot write", "metrics.json"]);
    assert_eq!(files(&report), ["metrics.json"]);
    assert_eq!(std::fs::read_to_string(report.join("metrics.json")).unwrap(), "old");

    let maps = folder("full-maps");
    with_file_limit(0, &["score", text(model()), RETINA, "--json", "--maps", text(&maps)])
        .refused(1, &["cannot write"]);
    assert_eq!(files(&maps), [""; 0]);
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_printed() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for json in [&["--json"][..], &[]] {
        let ended =
            command().args(["score", text(model()), RETINA]).args(json).stdout(full()).output().unwrap();
        Ended::from(ended).refused(1, &["standard output"]);
    }
    // Logs are worth less than the work: a training whose log cannot be written goes on.
    let out = folder("no-log").join("m.safetensors");
    let status = train_command(RETINA, &out, &["--steps", "2"]).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    ModelFile::load(&out).unwrap();
}

#[test]
fn folders_that_cannot_be_written() {
    let at = folder("unwritable");
    let file = at.join("file");
    std::fs::write(&file, "here is a file").unwrap();
    let below = file.join("m.safetensors");
    train(RETINA, &below, &["--steps", "1"]).refused(1, &["cannot", "file"]);
    train(RETINA, Path::new("/proc/m.safetensors"), &["--steps", "1"])
        .refused(1, &["cannot write to folder '/proc'"]);
    train(RETINA, &at, &["--steps", "1"]).refused(2, &["is a folder", "name a file"]);
    let samples = ["--steps", "1", "--samples", text(&below)];
    train(RETINA, &at.join("m.safetensors"), &samples).refused(1, &["cannot", "file"]);
    assert!(!at.join("m.safetensors").exists());
    let report = ["eval", text(model()), "--data", RETINA, "--report", text(&below)];
    ganomede(report).refused(1, &["cannot", "file"]);
    ganomede(["score", text(model()), RETINA, "--maps", text(&below)]).refused(1, &["cannot", "file"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "here is a file");
    assert!(files(&at).iter().all(|name| !name.ends_with(".tmp")), "{:?}", files(&at));
}

#[test]
fn ctrl_c_saves_a_checkpoint_and_exits_130() {
    let at = folder("interrupted");
    let out = at.join("m.safetensors");
    let checkpoint = at.join("m.checkpoint.safetensors");
    let mut command =
        train_command(RETINA, &out, &["--steps", "1000000", "--checkpoint-every", "2", "--json"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_for(&mut child, &checkpoint);
    signal(&child, "INT");
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{}", ended.stderr);
    let step = ModelFile::load(&checkpoint).unwrap().header.progress.steps;
    for fragment in
        [format!("interrupted at step {step};"), text(&checkpoint).to_owned(), "--resume".to_owned()]
    {
        assert!(ended.stderr.contains(&fragment), "{fragment} is not in {}", ended.stderr);
    }
    assert_eq!(files(&at), ["m.checkpoint.safetensors"]);
}
