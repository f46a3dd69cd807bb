//! `export --onnx`: the file, what it says of itself, and what is refused. That a runtime gives the command
//! line's scores, `make onnx` shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::{self, RETINA, files, folder, ganomede, text, train};
use ganomede::Device;
use ganomede::export::onnx::{Onnx, OnnxError, Pixels};
use ganomede::models::file::{FORMAT, Header, ModelFile, NamedTensor, Progress};
use ganomede::models::scorer::{ScoreConfig, Tiling, load};
use ganomede::models::{Config, Form, Options, SYSTEMS, Size, Training};
use ganomede::program::StateId;
use ganomede_datasets::{MinMax, Standardize};
use sha2::Digest;

/// The fields of a protobuf message: numbers with whole numbers or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (first, rest) = bytes.split_first().expect("a whole number");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                return value;
            }
        }
    }
    let mut all = vec![];
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let (value, length) = match key & 7 {
            0 => (number(&mut bytes), 0),
            2 => (0, number(&mut bytes) as usize),
            5 => (0, 4),
            kind => panic!("a field of kind {kind}"),
        };
        let (own, rest) = bytes.split_at(length);
        bytes = rest;
        all.push((key >> 3, value, own));
    }
    all
}

/// A graph as far as it is looked at here.
struct Graph {
    opset: u64,
    metadata: Vec<(String, String)>,
    operators: Vec<String>,
    initializers: Vec<String>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Graph {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let all = fields(&bytes);
        let of = |number: u64| all.iter().filter(move |field| field.0 == number);
        let opset = of(8).flat_map(|field| fields(field.2)).find(|field| field.0 == 2).unwrap().1;
        let pair = |bytes: &[u8]| {
            let pair = fields(bytes);
            (text(pair[0].2), text(pair[1].2))
        };
        let graph = fields(of(7).next().unwrap().2);
        let named = |number: u64, name: u64| {
            let values = graph.iter().filter(|field| field.0 == number);
            let name = |value: &[u8]| fields(value).iter().find(|field| field.0 == name).map(|f| text(f.2));
            values.map(|field| name(field.2).unwrap()).collect()
        };
        Self {
            opset,
            metadata: of(14).map(|field| pair(field.2)).collect(),
            operators: named(1, 4),
            initializers: named(5, 8),
            inputs: named(11, 1),
            outputs: named(12, 1),
        }
    }

    fn says(&self, key: &str) -> &str {
        let found = self.metadata.iter().find(|(of, _)| of == key);
        &found.unwrap_or_else(|| panic!("{key} is not in {:?}", self.metadata)).1
    }
}

/// A model of one pass, made once.
fn pass() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("onnx-pass").join("m.safetensors");
        let command = ["train", "ganomaly", "--data", RETINA, "--out", text(&path), "--steps", "2"];
        ganomede(command.iter().chain(&binary::TINY).chain(&["--standardise", "--fit", "crop"])).well();
        path
    })
}

/// A model whose score is searched, made once.
fn searched() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("onnx-search").join("m.safetensors");
        train(RETINA, &path, &["--steps", "2"]).well();
        path
    })
}

#[test]
fn a_graph_says_what_it_is_and_has_a_threshold_that_can_be_set() {
    let file = folder("onnx-file").join("m.onnx");
    let said = ganomede(["export", "--onnx", text(&file), text(pass()), "--json"]).json();
    let graph = Graph::read(&file);
    assert_eq!(said["bytes"], fs::metadata(&file).unwrap().len());
    assert_eq!(said["outputs"], serde_json::json!(graph.outputs));
    assert_eq!(graph.outputs, ["score", "percentile", "anomalous", "map"]);
    assert_eq!(graph.inputs, ["image", "threshold"]);
    // Its default: an initializer of the same name.
    assert_eq!(graph.initializers.iter().filter(|name| *name == "threshold").count(), 1);
    assert!(graph.opset >= 18, "{}", graph.opset);
    let mut names = graph.initializers.clone();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), graph.initializers.len(), "names are unique");
    assert!(names.iter().any(|name| name.ends_with(".weight")), "weights keep their names: {names:?}");
    for needed in ["Conv", "ConvTranspose", "MatMul", "Clip", "Slice", "GreaterOrEqual"] {
        assert!(graph.operators.iter().any(|op| op == needed), "{needed}: {:?}", graph.operators);
    }
    let model = ModelFile::load(pass()).unwrap();
    let calibration = model.header.calibration.as_ref().unwrap();
    assert_eq!((graph.says("system"), graph.says("form")), ("ganomaly", "image"));
    assert_eq!(graph.says("threshold").parse(), Ok(calibration.threshold));
    assert_eq!(graph.says("threshold_source"), calibration.source);
    assert_eq!(graph.says("data_digest"), model.header.data.digest);
    let bytes = fs::read(pass()).unwrap();
    let sha256: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(graph.says("model_sha256"), sha256);
    let preprocessing: serde_json::Value = serde_json::from_str(graph.says("preprocessing")).unwrap();
    assert_eq!((&preprocessing["fit"], &preprocessing["standardise"]), (&"crop".into(), &true.into()));
    assert_eq!(preprocessing["pixels"], "uint8");
    // The same model is the same file, and other pixels another.
    let bytes = fs::read(&file).unwrap();
    ganomede(["export", "--onnx", text(&file), text(pass())]).well();
    assert_eq!(fs::read(&file).unwrap(), bytes);
    ganomede(["export", "--onnx", text(&file), text(pass()), "--pixels", "float"]).well();
    assert!(Graph::read(&file).says("preprocessing").contains("\"pixels\":\"float\""));
}

#[test]
fn without_a_calibration_of_the_score_the_threshold_must_be_given() {
    let file = folder("onnx-uncalibrated").join("m.onnx");
    ganomede(["export", "--onnx", text(&file), text(pass()), "--score", "paper"]).well();
    let graph = Graph::read(&file);
    assert_eq!(graph.outputs, ["score", "anomalous", "map"]);
    assert!(!graph.initializers.iter().any(|name| name == "threshold"));
    assert!(graph.metadata.iter().all(|(key, _)| key != "threshold"));
}

#[test]
fn a_search_is_a_folder_of_graphs_with_a_loop() {
    let place = folder("onnx-graphs").join("graphs");
    let said = ganomede(["export", "--onnx", text(&place), text(searched())]).well().stdout.clone();
    assert!(said.contains("search.py"), "{said}");
    let networks = ["discriminator.onnx", "finish.onnx", "generator.onnx", "input.onnx", "prepare.onnx"];
    let others = ["search.json", "search.py", "step.onnx"];
    assert_eq!(files(&place), [&networks[..], &others].concat());
    let (step, finish) = (Graph::read(&place.join("step.onnx")), Graph::read(&place.join("finish.onnx")));
    // A step's outputs are its inputs, and those of the end that change.
    let next: Vec<_> = step.outputs.iter().map(|name| name.strip_prefix("next.").unwrap()).collect();
    assert!(next.contains(&"z") && next.iter().all(|name| step.inputs.iter().any(|input| input == name)));
    let prepared = Graph::read(&place.join("prepare.onnx")).outputs;
    for input in step.inputs.iter().chain(&finish.inputs) {
        let known = ["image", "threshold"].contains(&input.as_str());
        assert!(known || prepared.contains(&format!("next.{input}")), "{input}: {prepared:?}");
    }
    let settings = fs::read_to_string(place.join("search.json")).unwrap();
    let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
    assert_eq!((&settings["steps"], &settings["start"]), (&5.into(), &"uniform".into()));
    // Once more in its place, but not where something else lies.
    ganomede(["export", "--onnx", text(&place), text(searched())]).well();
    fs::write(place.join("notes.txt"), "mine").unwrap();
    let ended = ganomede(["export", "--onnx", text(&place), text(searched())]);
    ended.refused(2, &["it also holds 'notes.txt'"]);
    assert_eq!(files(&place).len(), 9);
}

#[test]
fn what_a_graph_cannot_do_is_refused_by_name() {
    let file = folder("onnx-refused").join("m.onnx");
    let refused = |model: &Path, more: &[&str], fragments: &[&str]| {
        let command = ["export", "--onnx", text(&file), text(model)];
        ganomede(command.iter().chain(more)).refused(2, fragments);
        assert!(!file.exists());
    };
    refused(searched(), &[], &["the score 'anogan' of anogan is searched step by step", ".onnx"]);
    let tiles = folder("onnx-tiles").join("m.safetensors");
    let command = ["train", "pca", "--data", RETINA, "--out", text(&tiles), "--tile", "16", "--steps", "2"];
    ganomede(command.iter().chain(&["--val-fraction", "0.2"])).well();
    refused(&tiles, &[], &["cannot be exported to ONNX", "tile by tile", "train without --tile"]);
    refused(pass(), &["--score", "nothing"], &["nothing"]);
    // A model is never overwritten by its graph.
    let bytes = fs::read(pass()).unwrap();
    ganomede(["export", "--onnx", text(pass()), text(pass())]).refused(2, &[]);
    assert_eq!(fs::read(pass()).unwrap(), bytes);
    for arguments in [
        &["export", "--onnx", "m.onnx", "--web", "page", "m.safetensors"][..],
        &["export", "--onnx", "m.onnx", "--train", "anogan", "--data", RETINA],
        &["export", "--web", "page", "--pixels", "float", "m.safetensors"],
    ] {
        assert_eq!(ganomede(arguments.iter()).code, Some(2), "{arguments:?}");
    }
}

/// A model as its networks start, of settings that most systems take.
fn untrained(system: &'static str, form: Form, standardise: bool) -> Option<ModelFile> {
    let info = ganomede::models::find(system)?;
    let defaults = info.defaults_for(form);
    let config = Config {
        form,
        size: Size::square(16),
        channels: if form == Form::Image { 1 } else { 3 },
        width: 4,
        latent: 2,
        prior: defaults.prior,
        kernel: 4,
    };
    let config = config.of(form);
    let mut header = Header {
        format: FORMAT,
        version: String::new(),
        system: system.to_owned(),
        config,
        options: Options::new(info.options, []).ok()?,
        training: Training::default(),
        recipe: ganomede::models::recipe::Recipe { standardise, ..Default::default() },
        batch: 4,
        seed: 1,
        device: String::new(),
        precision: None,
        data: Default::default(),
        progress: Progress::default(),
        calibration: None,
        appearance: None,
        check: None,
    };
    header.data.scaling = match form {
        Form::Image => Default::default(),
        Form::Signal => ganomede::models::file::Scaling::Signal(Standardize {
            names: vec![],
            mean: vec![0.0; 3],
            sd: vec![1.0; 3],
        }),
        Form::Table => {
            ganomede::models::file::Scaling::Table(MinMax { min: vec![0.0; 3], max: vec![1.0; 3] })
        }
    };
    let loaded = load(&Device::Cpu, &header, None, false, |_, _| {}).ok()?;
    let weights = loaded.states.entries().iter().enumerate().take(loaded.weights);
    let tensors = weights.map(|(i, entry)| {
        NamedTensor::new(entry.name.clone(), &entry.shape, loaded.store.read(StateId(i)).unwrap())
    });
    Some(ModelFile { tensors: tensors.collect(), header })
}

/// What becomes of a model: one graph, a folder of graphs, or a refusal; – where there is no such model.
fn becomes(system: &'static str, form: Form, standardise: bool, tiles: bool) -> &'static str {
    let Some(model) = untrained(system, form, standardise) else { return "–" };
    let score = ScoreConfig { tiles: tiles.then(Tiling::default), ..ScoreConfig::default() };
    let path = Path::new("m.safetensors");
    let by_name = |error: OnnxError| {
        assert!(matches!(error, OnnxError::Refused { .. }), "{system} {form:?}: {error}");
        "refused"
    };
    match Onnx::of_model(&model, path, &score, Pixels::Bytes) {
        Ok(_) => "graph",
        Err(first) => match Onnx::of_search(&model, path, &score, Pixels::Bytes) {
            Ok(_) => "folder",
            Err(_) => by_name(first),
        },
    }
}

#[test]
fn the_table_of_systems_is_what_happens() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/onnx.md");
    let docs = fs::read_to_string(docs).unwrap();
    let row = |system: &'static str| {
        let cells = [
            becomes(system, Form::Image, false, false),
            becomes(system, Form::Image, true, false),
            becomes(system, Form::Image, false, true),
            becomes(system, Form::Signal, false, false),
            becomes(system, Form::Table, false, false),
        ];
        format!("| `{system}` | {} |", cells.join(" | "))
    };
    let rows: Vec<String> = SYSTEMS.iter().map(|info| row(info.name)).collect();
    let missing: Vec<_> = rows.iter().filter(|row| !docs.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/onnx.md should have\n{}", rows.join("\n"));
    assert!(rows.iter().filter(|row| row.contains("| graph | graph |")).count() > 15, "{rows:?}");
}
