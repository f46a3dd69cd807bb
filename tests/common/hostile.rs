//! The program's own files under one interface, as `datasets/tests/common/hostile.rs` has those of data:
//! small right ones to start from, and what is done with one that may be anything.
#![allow(dead_code, unreachable_pub, reason = "fuzz targets use it from outside, and each test its part")]

use std::io::{Cursor, Read, Write};
use std::path::Path;

use ganomede::device::Device;
use ganomede::device::tuning::{Choice, Identity, Tuning};
use ganomede::device::vault::Vault;
use ganomede::eval::{Appearance, Quantiles};
use ganomede::import::Given;
use ganomede::models::file::{Calibration, DataInfo, FORMAT, Header, ModelFile, NamedTensor, Progress};
use ganomede::models::recipe::Recipe;
use ganomede::models::scorer::{ScoreConfig, Scorer};
use ganomede::models::{Config, Options, SYSTEMS, Size, Training};
use ganomede::program::StateId;
use ganomede::tape::States;
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, ZipArchive};

/// What a file is given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model file, or the header of one, which is then sealed: the seal detects accidents, and no attacker.
    Model,
    /// Tuning results.
    Tuning,
    /// Compiled pipelines.
    Pipelines,
    /// A checkpoint of PyTorch, or its `data.pkl` alone, which is then put into an archive.
    Checkpoint,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Model, Kind::Tuning, Kind::Pipelines, Kind::Checkpoint];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Tuning => "tuning",
            Kind::Pipelines => "pipelines",
            Kind::Checkpoint => "checkpoint",
        }
    }

    /// Right files.
    pub fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Kind::Model => {
                let place = tempfile::tempdir().unwrap();
                let models = models();
                let files = models.iter().take(2).map(|model| {
                    let path = place.path().join("model");
                    model.save(&path).unwrap();
                    std::fs::read(path).unwrap()
                });
                let headers = models.iter().map(|model| serde_json::to_vec(&model.header).unwrap());
                files.chain(headers).collect()
            }
            Kind::Tuning => {
                let place = tempfile::tempdir().unwrap();
                let choice =
                    Choice { variant: "tile32".into(), ms: 1.0, default: "naive".into(), default_ms: 2.5 };
                let choices = [("gemm".to_owned(), choice.clone()), ("conv".to_owned(), choice)].into();
                let file = Tuning { choices }.save(place.path(), &identity()).unwrap();
                vec![std::fs::read(file).unwrap()]
            }
            Kind::Pipelines => vec![[&[7; 32][..], b"pipelines"].concat(), vec![0; 32], vec![]],
            Kind::Checkpoint => {
                let (system, config) = checkpointed();
                let names: Vec<_> = models().into_iter().find(|m| m.header.system == system).unwrap().tensors;
                assert_eq!(config.latent, 4);
                let all: Vec<_> =
                    names.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), "FloatStorage")).collect();
                let whole = checkpoint(&all);
                let pickle = entries(&whole).swap_remove(0).1;
                vec![whole, pickle]
            }
        }
    }

    /// Gives `bytes` to the reader and uses what it makes of them; `place` is a folder of its own. Whether it
    /// took them.
    pub fn feed(self, bytes: &[u8], place: &Path) -> bool {
        match self {
            Kind::Model => {
                let path = place.join("model.safetensors");
                match serde_json::from_slice::<Header>(bytes) {
                    Ok(header) => {
                        let known = models().into_iter().find(|m| m.header.system == header.system);
                        let tensors = known.map(|model| model.tensors).unwrap_or_default();
                        ModelFile { header, tensors }.save(&path).unwrap();
                    }
                    Err(_) => std::fs::write(&path, bytes).unwrap(),
                }
                let Ok(model) = ModelFile::load(&path) else { return false };
                assert!(model.tensors.iter().all(|t| t.values.len() == t.shape.iter().product::<usize>()));
                let score = match &model.header.calibration {
                    Some(calibration) => {
                        let scale = &calibration.quantiles;
                        assert!(
                            (0.0..=1.0).contains(&scale.probability(calibration.threshold))
                                || calibration.threshold.is_nan()
                        );
                        calibration.score.clone()
                    }
                    None => ScoreConfig::default(),
                };
                let Ok(mut scorer) = Scorer::new(&Device::Cpu, &model, &path, &score, 1) else {
                    return false;
                };
                let config = &model.header.config;
                // A search may be asked for that takes hours.
                if score.refine.max(score.search.steps) <= 4 && score.search.restarts == 1 {
                    let _ = scorer.score(&vec![0.5; config.sample_len()], None);
                }
                true
            }
            Kind::Checkpoint => {
                let (system, _) = checkpointed();
                let like = place.join("like.safetensors");
                if !like.exists() {
                    let model = models().into_iter().find(|m| m.header.system == system).unwrap();
                    model.save(&like).unwrap();
                }
                let path = place.join("state.pth");
                let bytes = match bytes.starts_with(b"PK") {
                    true => bytes.to_vec(),
                    false => archive(&[("archive/data.pkl", bytes), ("archive/data/0", &[0; 4096])]),
                };
                std::fs::write(&path, bytes).unwrap();
                let known = ganomede::import::published(
                    "ganomaly",
                    &Given { files: vec![path.clone()], range: None },
                );
                assert!(known.is_err(), "no mutant becomes another network");
                match ganomede::import::like(&path, &like) {
                    Ok(found) => {
                        assert!(
                            found
                                .model
                                .tensors
                                .iter()
                                .all(|t| t.values.len() == t.shape.iter().product::<usize>())
                        );
                        true
                    }
                    // A pickle alone has one storage, of another tensor's size or name.
                    Err(error) => {
                        let what = error.to_string();
                        what.contains("elements of float32 are promised") || what.contains("it has no 'data/")
                    }
                }
            }
            Kind::Tuning => {
                let file = identity().file(place);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, bytes).unwrap();
                Tuning::load(place, &identity()).is_ok()
            }
            Kind::Pipelines => {
                let vault = Vault::open(&place.join("vault")).unwrap();
                // Only the owner can write at all; what is written otherwise than through the vault never
                // comes back.
                vault.write("file", "purpose", bytes).unwrap();
                assert_eq!(vault.read("file", "purpose", 1 << 20).unwrap(), bytes);
                assert_eq!(vault.read("file", "another", 1 << 20), None);
                std::fs::write(vault.path("file"), bytes).unwrap();
                assert_eq!(vault.read("file", "purpose", 1 << 20), None);
                true
            }
        }
    }
}

/// The system whose state dict stands for all, and its sizes.
fn checkpointed() -> (&'static str, Config) {
    ("pca", Config { size: Size::square(16), width: 4, latent: 4, ..Config::default() })
}

/// An archive of uncompressed entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    for (name, bytes) in entries {
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(*name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The entries of an archive.
pub fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let count = zip.len();
    let read = |index| {
        let mut entry = zip.by_index(index).unwrap();
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).unwrap();
        (entry.name().unwrap().to_string(), bytes)
    };
    (0..count).map(read).collect()
}

/// What torch.save writes of a state dict: names, shapes and types of storages. Element i of a storage is i,
/// and tensors are views with the first dimension innermost.
pub fn checkpoint(tensors: &[(&str, &[usize], &str)]) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let int = |out: &mut Vec<u8>, value: usize| {
        out.push(b'J');
        out.extend((value as u32).to_le_bytes());
    };
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let mut storages = vec![];
    for (number, (name, shape, kind)) in tensors.iter().enumerate() {
        let length = shape.iter().product::<usize>();
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{kind}\n").into_bytes());
        text(&mut pickle, &number.to_string());
        text(&mut pickle, "cpu");
        int(&mut pickle, length);
        pickle.extend(b"tQK\x00(");
        shape.iter().for_each(|&size| int(&mut pickle, size));
        pickle.extend(b"t(");
        // The first dimension innermost, the others as they are.
        let first = shape.first().copied().unwrap_or(1);
        for d in 0..shape.len() {
            let after = shape[d + 1..].iter().product::<usize>();
            int(&mut pickle, if d == 0 { 1 } else { first * after });
        }
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
        let value = |i: usize| match *kind {
            "DoubleStorage" => (i as f64).to_le_bytes().to_vec(),
            "HalfStorage" => half_of(i as f32, 10, 15),
            "BFloat16Storage" => (((i as f32).to_bits() >> 16) as u16).to_le_bytes().to_vec(),
            "LongStorage" => (i as i64).to_le_bytes().to_vec(),
            _ => (i as f32).to_le_bytes().to_vec(),
        };
        storages.push((format!("archive/data/{number}"), (0..length).flat_map(value).collect::<Vec<u8>>()));
    }
    pickle.extend(b"u.");
    let mut all = vec![("archive/data.pkl", pickle.as_slice())];
    all.extend(storages.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    archive(&all)
}

/// A whole number as a float of 16 bits.
fn half_of(value: f32, mantissa: u32, bias: i32) -> Vec<u8> {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 127 + bias;
    let word =
        if value == 0.0 { 0 } else { (exponent as u32) << mantissa | (bits & 0x7f_ffff) >> (23 - mantissa) };
    (word as u16).to_le_bytes().to_vec()
}

fn identity() -> Identity {
    let [adapter, backend, driver, version] = ["adapter", "Vulkan", "driver 1", "1.0.0"].map(String::from);
    Identity { adapter, backend, driver, version }
}

/// A model of every system, as it is before training.
fn models() -> Vec<ModelFile> {
    let model = |info: &&ganomede::models::Info| {
        let config = Config { size: Size::square(16), width: 4, latent: 4, ..Config::default() };
        let options = Options::new(info.options, []).unwrap();
        let mut states = States::new();
        info.build(&mut states, &config, &options).ok()?;
        let entries = states.entries().iter().enumerate();
        let tensors = entries.map(|(id, entry)| {
            NamedTensor::new(entry.name.clone(), &entry.shape, states.initial_values(StateId(id), 0).unwrap())
        });
        let tensors = tensors.collect();
        let calibration = Calibration {
            score: ScoreConfig::default(),
            quantiles: Quantiles::new(&[0.1, 0.2, 0.3]).unwrap(),
            threshold: 0.25,
            source: "three images".into(),
            precision: None,
            points: false,
            rate: None,
            tiles: None,
            maps: None,
        };
        let header = Header {
            format: FORMAT,
            version: "0".into(),
            system: info.name.into(),
            config,
            options,
            training: Training::default(),
            recipe: Recipe::default(),
            batch: 8,
            seed: 0,
            device: "cpu".into(),
            precision: None,
            data: DataInfo::default(),
            progress: Progress::default(),
            calibration: Some(calibration),
            appearance: Some(Appearance {
                images: 3,
                mean: [0.1, 0.2],
                deviation: [0.1, 0.05],
                correlation: 0.5,
            }),
            check: None,
        };
        Some(ModelFile { header, tensors })
    };
    SYSTEMS.iter().filter_map(model).collect()
}
