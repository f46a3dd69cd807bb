//! `export --web`: the files of a page, what they say, and what is refused. That a browser's compiler replays
//! them to the same scores, `make web` shows.

use crate::binary;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::{RETINA, files, folder, ganomede, text, train};
use ganomede::export::schema::{Document, FORMAT, Score, VERSION};
use ganomede::models::file::ModelFile;
use sha2::{Digest, Sha256};

fn model(system: &str, name: &str, more: &[&str]) -> PathBuf {
    let path = folder(name).join("m.safetensors");
    let command = ["train", system, "--data", RETINA, "--out", text(&path), "--steps", "2"];
    ganomede(command.iter().chain(&binary::TINY).chain(more)).well();
    path
}

/// A model of one pass, made once.
fn pass() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| model("ganomaly", "export-pass", &["--standardise", "--fit", "pad"]))
}

/// A model whose score is searched, made once.
fn searched() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("export-search").join("m.safetensors");
        train(RETINA, &path, &["--steps", "2", "--prior", "normal"]).well();
        path
    })
}

fn exported(model: &Path, name: &str, more: &[&str]) -> (PathBuf, Document) {
    let at = folder(name).join("page");
    let command = ["export", "--web", text(&at), text(model)];
    ganomede(command.iter().chain(more)).well();
    let document = serde_json::from_slice(&fs::read(at.join("program.json")).unwrap()).unwrap();
    (at, document)
}

fn score(document: &Document) -> &Score {
    assert!(document.train.is_none());
    document.score.as_ref().unwrap()
}

/// Arguments that the parser refuses, in words of its own.
fn not_taken(arguments: &[&str], fragments: &[&str]) {
    let ended = ganomede(std::iter::once("export").chain(arguments.iter().copied()));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(fragments.iter().all(|fragment| ended.stderr.contains(fragment)), "{}", ended.stderr);
}

/// What the replayer relies on, whatever the model.
fn check(at: &Path, document: &Document) {
    check_files(at, document);
    for module in document.files.keys().filter(|name| name.ends_with(".wgsl")) {
        let source = fs::read_to_string(at.join(module)).unwrap();
        assert!(!source.contains("enable "), "{module}");
        assert!(source.lines().all(|line| !line.trim_start().starts_with("//")), "{module}");
    }
    let modules: BTreeSet<_> = document.pipelines.iter().map(|p| &p.module).collect();
    let shaders: BTreeSet<_> = document.files.keys().filter(|name| name.ends_with(".wgsl")).collect();
    assert_eq!(modules, shaders);
    check_programs(at, document);
}

/// The folder has the files that the document lists, as they are.
fn check_files(at: &Path, document: &Document) {
    assert_eq!((document.format.as_str(), document.version), (FORMAT, VERSION));
    let mut listed: Vec<String> = document.files.keys().cloned().collect();
    listed.push("program.json".to_owned());
    listed.sort();
    assert_eq!(files(at), listed);
    for (name, file) in &document.files {
        let bytes = fs::read(at.join(name)).unwrap();
        let sha256: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!((bytes.len(), sha256), (file.bytes, file.sha256.clone()), "{name}");
    }
    // Scripts lose their inner comments and their indentation, and nothing else.
    let script = fs::read_to_string(at.join("ganomede.js")).unwrap();
    assert!(script.starts_with("// @ts-check\n/**\n") && !script.contains("@param"));
    assert!(script.contains("export async function load(") && script.contains("\nasync run("));
}

/// Every launch fits its pipeline and its buffers.
fn check_programs(at: &Path, document: &Document) {
    for pipeline in &document.pipelines {
        let source = fs::read_to_string(at.join(&pipeline.module)).unwrap();
        assert!(source.contains("@compute"), "{}", pipeline.module);
    }
    assert!(!document.programs.is_empty());
    for (name, program) in &document.programs {
        assert!(!program.launches.is_empty(), "{name}");
        for launch in &program.launches {
            let pipeline = &document.pipelines[launch.pipeline];
            assert_eq!(launch.bind.len(), pipeline.bindings.len());
            assert!((1..=8).contains(&launch.bind.len()));
            assert_eq!((launch.params.len(), launch.params.len() % 4), (pipeline.params, 0));
            assert!(launch.groups.iter().all(|&n| (1..=65_535).contains(&n)));
            for (place, part) in launch.bind.iter().enumerate() {
                assert!((1..=program.buffers[part.0].len).contains(&part.1));
                let writes = pipeline.bindings.as_bytes()[place] == b'w';
                let again = launch.bind.iter().filter(|other| other.0 == part.0).count();
                assert!(!writes || again == 1, "{name}: a buffer is written and bound again");
            }
        }
        for buffer in &program.buffers {
            match buffer.role.as_str() {
                "state" => assert_eq!(document.states[buffer.state.unwrap()].len, buffer.len),
                "input" | "output" => assert!(buffer.name.is_some()),
                role => assert!(["temporary", "scratch"].contains(&role), "{role}"),
            }
        }
    }
}

#[test]
fn a_pass_is_written_with_what_a_page_needs() {
    let (at, document) = exported(pass(), "export-a", &[]);
    check(&at, &document);
    assert_eq!(fs::read(at.join("model.safetensors")).unwrap(), fs::read(pass()).unwrap());
    let file = ModelFile::load(pass()).unwrap();
    let input = document.input.as_ref().unwrap();
    assert_eq!((input.height, input.width, input.channels), (16, 16, 1));
    assert_eq!((input.fit.as_str(), input.standardise), ("pad", true));
    assert_eq!(document.programs.keys().collect::<Vec<_>>(), ["score"]);
    assert!(score(&document).search.is_none());
    let calibration = file.header.calibration.as_ref().unwrap();
    let threshold = score(&document).threshold.as_ref().unwrap();
    assert_eq!(threshold.value, calibration.threshold);
    assert_eq!(threshold.held_out, calibration.quantiles);
    assert_eq!(score(&document).map.as_ref().unwrap().smooth, 0.25, "a sixty-fourth of the side");
    // Every weight that a program reads is in the file, with its length.
    let stored: Vec<_> = document.states.iter().filter(|state| state.stored).collect();
    assert!(!stored.is_empty() && stored.len() == document.states.len());
    for state in stored {
        let tensor = file.tensors.iter().find(|tensor| tensor.name == state.name).unwrap();
        assert_eq!(tensor.values.len(), state.len, "{}", state.name);
    }
    let said = ganomede(["export", "--web", text(&at), text(pass()), "--json"]).json();
    assert_eq!(said["files"].as_array().unwrap().len(), document.files.len() + 1);
}

#[test]
fn a_search_is_three_programs_whose_settings_are_inputs() {
    let (at, document) = exported(searched(), "export-b", &["--restarts", "3", "--lambda", "0.25"]);
    check(&at, &document);
    assert_eq!(document.programs.keys().collect::<Vec<_>>(), ["finish", "prepare", "step"]);
    let search = score(&document).search.as_ref().unwrap();
    assert_eq!((search.steps, search.restarts, search.lambda, search.lr), (5, 3, 0.25, 0.05));
    assert_eq!((search.latent, search.start.as_str()), (8, "normal"));
    let has = |program: &str, role: &str, name: &str| {
        let buffers = &document.programs[program].buffers;
        buffers.iter().any(|b| b.role == role && b.name.as_deref() == Some(name))
    };
    assert!(has("prepare", "input", "z") && has("finish", "input", "lambda"));
    assert!(["lambda", "lr", "steps"].iter().all(|name| has("step", "input", name)));
    assert!(["loss", "score", "map", "z"].iter().all(|name| has("finish", "output", name)));
    assert!(document.states.iter().any(|s| s.name == "search.z" && !s.stored));
    assert!(document.files.contains_key("search.html"));
    // Calibrated with other settings: no threshold of these.
    assert!(score(&document).threshold.is_none());
    let (_, own) = exported(searched(), "export-c", &[]);
    assert!(score(&own).threshold.is_some());
    // A score of one pass of the same model has no page of a search.
    let (_, judged) = exported(searched(), "export-d", &["--score", "pd"]);
    assert!(score(&judged).search.is_none() && !judged.files.contains_key("search.html"));
}

#[test]
fn an_export_replaces_an_export_and_nothing_else() {
    let (at, first) = exported(pass(), "export-e", &[]);
    ganomede(["export", "--web", text(&at), text(searched())]).well();
    let second: Document = serde_json::from_slice(&fs::read(at.join("program.json")).unwrap()).unwrap();
    assert_ne!(first.system, second.system);
    check(&at, &second);
    assert_eq!(files(at.parent().unwrap()).len(), second.files.len() + 1, "nothing is left beside it");
    // A file of somebody else's stays, and so does all of the export.
    fs::write(at.join("notes.txt"), "mine").unwrap();
    let asked = ["export", "--web", text(&at), text(pass())];
    ganomede(asked).refused(2, &["notes.txt", "choose another folder"]);
    assert_eq!(fs::read(at.join("notes.txt")).unwrap(), b"mine");
    fs::remove_file(at.join("notes.txt")).unwrap();
    check(&at, &second);
    let other = folder("export-f");
    fs::write(other.join("photo.png"), "mine").unwrap();
    ganomede(["export", "--web", text(&other), text(pass())]).refused(2, &["program.json"]);
    fs::write(other.join("program.json"), "{}").unwrap();
    ganomede(["export", "--web", text(&other), text(pass())]).refused(2, &["program.json"]);
    assert_eq!(files(&other), ["photo.png", "program.json"]);
    // The folder that the model lies in is not empty either.
    let own = pass().parent().unwrap();
    ganomede(["export", "--web", text(own), text(pass())]).refused(2, &[text(own)]);
}

#[test]
fn what_a_page_cannot_do_is_refused_by_name() {
    let at = folder("export-g").join("page");
    let refused = |model: &Path, fragments: &[&str]| {
        ganomede(["export", "--web", text(&at), text(model)]).refused(2, fragments);
        assert!(!at.exists());
    };
    let rows = folder("export-rows").join("m.safetensors");
    let telemetry = ["train", "ae", "--signal", "--data", "builtin:telemetry:train=300,test=100"];
    let small = ["--size", "16", "--width", "4", "--latent", "4", "--batch", "8", "--steps", "2"];
    ganomede(telemetry.iter().chain(&small).chain(&["--out", text(&rows)])).well();
    refused(&rows, &["series or tables", "images"]);
    let tiles = folder("export-tiles").join("m.safetensors");
    let tiled = ["train", "pca", "--data", RETINA, "--tile", "32", "--out", text(&tiles)];
    ganomede(tiled).well();
    refused(&tiles, &["tile by tile", "--tile"]);
    not_taken(&[text(pass())], &["--web"]);
    ganomede(["export", "--web", text(&at), text(pass()), "--score", "nothing"]).refused(2, &["nothing"]);
    ganomede(["export", "--web", text(&at), "no-such.safetensors"]).refused(2, &["no-such.safetensors"]);
    fs::write(at.parent().unwrap().join("file"), "mine").unwrap();
    let file = at.parent().unwrap().join("file");
    ganomede(["export", "--web", text(&file), text(pass())]).refused(2, &["it is a file"]);
}

#[test]
fn a_training_is_written_with_its_start_and_its_images() {
    let at = folder("export-h").join("page");
    let small = ["--size", "16", "--width", "4", "--latent", "6", "--batch", "8"];
    let command = ["export", "--web", text(&at), "--train", "anogan", "--data", RETINA];
    ganomede(command.iter().chain(&small)).well();
    let document: Document = serde_json::from_slice(&fs::read(at.join("program.json")).unwrap()).unwrap();
    check(&at, &document);
    assert!(document.score.is_none());
    let training = document.train.as_ref().unwrap();
    // 40 images, 4 of them held out.
    assert_eq!((training.batch, training.count), (8, 32));
    assert_eq!(document.programs.keys().collect::<Vec<_>>(), ["sample", "train-0-0"]);
    let part = &training.stages[0].parts[0];
    assert_eq!((part.program.as_str(), part.every), ("train-0-0", 1));
    assert!(part.losses.iter().any(|name| name == "loss_g"));
    let drawn = training.sampler.as_ref().unwrap();
    assert_eq!((drawn.count, drawn.latent, drawn.prior.as_str()), (16, 6, "uniform"));
    assert!(document.states.iter().all(|state| state.stored));
    assert!(document.states.iter().any(|state| state.name.starts_with("adam_g")));
    let images = fs::read(at.join("images.safetensors")).unwrap();
    let images = safetensors::SafeTensors::deserialize(&images).unwrap();
    assert_eq!(images.tensor("images").unwrap().shape(), [32, 1, 16, 16]);
    // The same again, byte by byte.
    let again = folder("export-i").join("page");
    let command = ["export", "--web", text(&again), "--train", "anogan", "--data", RETINA];
    ganomede(command.iter().chain(&small)).well();
    assert_eq!(fs::read(at.join("program.json")).unwrap(), fs::read(again.join("program.json")).unwrap());
    // A page cannot fit a mixture, and a training has no score.
    let refused = |command: &[&str], fragments: &[&str]| {
        let start = ["export", "--web", text(&at)];
        ganomede(start.iter().chain(command)).refused(2, fragments);
    };
    refused(&["--train", "gmm", "--data", RETINA], &["gmm", "host"]);
    refused(&["--train", "anogan", "--data", RETINA, "--score", "pd"], &["leave them out"]);
    refused(&["--train", "anogan", "--data", RETINA, "--size", "8"], &["size"]);
    refused(&["--train", "anogan", "--data", RETINA, "--batch", "64"], &["batch"]);
    not_taken(&["--web", text(&at), "--train", "anogan"], &["--data"]);
    not_taken(&["--web", text(&at), text(pass()), "--width", "8"], &["--train"]);
    let both = ["--web", text(&at), text(pass()), "--train", "anogan", "--data", RETINA];
    not_taken(&both, &["cannot be used with"]);
}

fn written(at: &Path, name: &str) -> Document {
    serde_json::from_slice(&fs::read(at.join(name)).unwrap()).unwrap()
}

fn json(at: &Path, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(at.join(name)).unwrap()).unwrap()
}

#[test]
fn several_trainings_share_what_they_have_in_common() {
    let at = folder("export-j").join("page");
    let digits = "builtin:digits:train=40,test=2";
    let command = ["export", "--web", text(&at), "--train", "anogan", "--data", RETINA, "--data", digits];
    let small =
        ["--size", "16", "--width", "4", "--latent", "6", "--batch", "8", "--failures", "--record", "3"];
    ganomede(command.iter().chain(&small)).well();
    let first = written(&at, "program.json");
    check_files(&at, &first);
    assert_eq!(first.runs.len(), 8);
    assert_eq!(first.runs[0].file, "program.json");
    assert!(first.runs.iter().any(|run| run.way == "mode collapse" && run.data == digits));
    let images = |document: &Document| document.train.as_ref().unwrap().images.clone();
    for run in &first.runs {
        let document = written(&at, &run.file);
        check_programs(&at, &document);
        let has = |name: &str| document.files.contains_key(name) && at.join(name).exists();
        assert!(has(&document.weights) && has(&images(&document)), "{}", run.file);
        assert!(document.pipelines.iter().all(|pipeline| has(&pipeline.module)), "{}", run.file);
        // Weights are another file where there are others; images of one set are one file.
        assert_eq!(document.weights == first.weights, run.way != "no batch norm", "{}", run.way);
        assert_eq!(images(&document) == images(&first), run.data != digits, "{}", run.data);
        let normed = document.states.iter().any(|state| state.name.contains("_bn"));
        assert_eq!(normed, run.way != "no batch norm", "{}", run.way);
    }
    // The balance is in the program: D's step size.
    let step = |way: &str| {
        let run = first.runs.iter().find(|run| run.way == way).unwrap();
        written(&at, &run.file).programs["train-0-0"].clone()
    };
    assert_ne!(step("as it should be"), step("D too strong"));
    let recorded = json(&at, "recorded.json");
    assert_eq!(recorded["steps"], 3);
    assert_eq!(recorded["losses"]["loss_g"].as_array().unwrap().len(), 3);
    let drawn = recorded["drawn"].as_array().unwrap();
    assert_eq!(drawn.len(), 2);
    assert_ne!(drawn[0], drawn[1], "three steps change what is drawn");
    assert_eq!(drawn[0].as_array().unwrap().len(), 16 * 16 * 16);
    // A system without those options has no such switch; nor has one whose option is set already.
    let other = ["export", "--web", text(&at), "--train", "ganomaly", "--data", RETINA, "--failures"];
    ganomede(other).refused(2, &["norm", "ganomaly", "anogan"]);
    let twice = [
        "export",
        "--web",
        text(&at),
        "--train",
        "anogan",
        "--data",
        RETINA,
        "--failures",
        "-O",
        "norm=none",
    ];
    ganomede(twice).refused(2, &["norm", "set already"]);
    check_files(&at, &first);
}

#[test]
fn expressions_are_written_with_what_the_cpu_gives() {
    let at = folder("export-k").join("page");
    ganomede(["export", "--web", text(&at), "--tape"]).well();
    let (document, page) = (written(&at, "program.json"), json(&at, "tape.json"));
    check_files(&at, &document);
    check_programs(&at, &document);
    assert!(document.input.is_none() && document.score.is_none() && document.train.is_none());
    let expressions = page["expressions"].as_array().unwrap();
    assert!(expressions.len() >= 8);
    for expression in expressions {
        let levels = expression["levels"].as_array().unwrap();
        let nodes = expression["nodes"].as_array().unwrap().len();
        assert_eq!(levels.len(), 3);
        assert_eq!(levels[2]["nodes"], nodes);
        let counts: Vec<_> = levels.iter().map(|level| level["nodes"].as_u64().unwrap()).collect();
        assert!(counts.is_sorted(), "{counts:?}");
        for level in levels {
            let program = &document.programs[level["program"].as_str().unwrap()];
            let rows = level["launches"].as_array().unwrap();
            let dispatches: u64 = rows.iter().map(|row| row["dispatches"].as_u64().unwrap()).sum();
            assert_eq!(
                dispatches,
                program.launches.len() as u64,
                "rows are of the launches that are written"
            );
        }
    }
    // Two factors, and each is the other's derivative.
    let values = |list: &serde_json::Value, name: &str| -> serde_json::Value {
        let found = list.as_array().unwrap().iter().find(|one| one["name"] == name);
        found.unwrap()["values"].clone()
    };
    let product = &expressions[0];
    let found = &product["levels"][1]["cpu"];
    assert_eq!(values(found, "∂y/∂a"), values(&product["inputs"], "b"));
    assert_eq!(values(found, "∂y/∂b"), values(&product["inputs"], "a"));
    // Shaders are there to be read.
    let shader = fs::read_to_string(at.join(&document.pipelines[0].module)).unwrap();
    assert!(shader.lines().any(|line| line.starts_with("//")));
    ganomede(["export", "--web", text(&at), "--tape", "--score", "pd"]).refused(2, &["leave them out"]);
    not_taken(&["--web", text(&at), "--tape", "--kernels"], &["cannot be used with"]);
}

#[test]
fn every_variant_of_every_kernel_is_written_with_what_is_right() {
    let at = folder("export-l").join("page");
    ganomede(["export", "--web", text(&at), "--kernels"]).well();
    let (document, page) = (written(&at, "program.json"), json(&at, "kernels.json"));
    check_files(&at, &document);
    check_programs(&at, &document);
    let oracle = fs::read(at.join("oracle.safetensors")).unwrap();
    let oracle = safetensors::SafeTensors::deserialize(&oracle).unwrap();
    let ladders: Vec<_> = ganomede_kernels::ladders().collect();
    let shown = page["ladders"].as_array().unwrap();
    assert_eq!(shown.len(), ladders.len());
    let state = |name: &str| document.states.iter().find(|state| state.name == name).unwrap();
    for (ladder, shown) in ladders.iter().zip(shown) {
        let names: Vec<_> =
            shown["rungs"].as_array().unwrap().iter().map(|rung| rung["name"].clone()).collect();
        assert_eq!(names, ladder.variants.iter().map(|variant| variant.name).collect::<Vec<_>>());
        for rung in shown["rungs"].as_array().unwrap() {
            let samples = rung["samples"].as_array().unwrap();
            let (small, typical) = (&samples[0], &samples[1]);
            assert!(small["twin_error"].as_f64().unwrap() <= small["tolerance"].as_f64().unwrap());
            assert!(typical["want"].as_array().unwrap().is_empty());
            for (output, want) in
                small["outputs"].as_array().unwrap().iter().zip(small["want"].as_array().unwrap())
            {
                let tensor = oracle.tensor(want.as_str().unwrap()).unwrap();
                let state = state(output["state"].as_str().unwrap());
                assert!(state.stored && tensor.shape() == [state.len]);
                assert_eq!(tensor.dtype(), safetensors::Dtype::F64);
            }
            let plans = small["plans"].as_array().unwrap();
            // Subgroups and halves are asked for by the texts that use them, and by no others.
            for plan in plans {
                let program = &document.programs[plan["program"].as_str().unwrap()];
                let texts = program.launches.iter().map(|launch| &document.pipelines[launch.pipeline].module);
                let texts: Vec<_> = texts.map(|text| fs::read_to_string(at.join(text)).unwrap()).collect();
                let asks = |what: &str| texts.iter().any(|text| text.contains(&format!("enable {what};")));
                assert_eq!(asks("subgroups"), !plan["lanes"].is_null(), "{}", rung["name"]);
                assert_eq!(asks("f16"), plan["f16"] == true, "{}", rung["name"]);
            }
            assert_eq!(plans.len(), if rung["name"] == "subgroups" { 4 } else { 1 });
        }
    }
    assert!(["peak-fma", "peak-copy"].iter().all(|name| document.programs.contains_key(*name)));
}

#[test]
fn the_toy_is_written_with_a_training_that_goes_somewhere() {
    let at = folder("export-m").join("page");
    ganomede(["export", "--web", text(&at), "--toy"]).well();
    let (document, page) = (written(&at, "program.json"), json(&at, "toy.json"));
    check(&at, &document);
    assert_eq!(document.programs.keys().collect::<Vec<_>>(), ["cloud", "d", "field", "g"]);
    let moments = page["recorded"].as_array().unwrap();
    // How far generated points lie from the nearest heap of the ring, on average.
    let apart = |moment: &serde_json::Value| {
        let cloud: Vec<f64> =
            moment["cloud"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let one = |point: &[f64]| {
            let heaps = (0..8).map(|k| f64::from(k) * std::f64::consts::TAU / 8.0);
            let far = heaps.map(|angle| (point[0] - angle.cos()).hypot(point[1] - angle.sin()));
            far.fold(f64::INFINITY, f64::min)
        };
        cloud.chunks(2).map(one).sum::<f64>() / (cloud.len() / 2) as f64
    };
    let (first, last) = (apart(&moments[0]), apart(&moments[moments.len() - 1]));
    assert!(last < 0.7 * first, "{first} to {last}");
}
