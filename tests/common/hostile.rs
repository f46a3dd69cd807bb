//! The program's own files under one interface, as `datasets/tests/common/hostile.rs` has those of data:
//! small right ones to start from, and what is done with one that may be anything.
#![allow(dead_code, unreachable_pub, reason = "fuzz targets use it from outside, and each test its part")]

use std::path::Path;

use ganomede::device::Device;
use ganomede::device::tuning::{Choice, Identity, Tuning};
use ganomede::device::vault::Vault;
use ganomede::eval::{Appearance, Quantiles};
use ganomede::models::file::{Calibration, DataInfo, FORMAT, Header, ModelFile, NamedTensor, Progress};
use ganomede::models::recipe::Recipe;
use ganomede::models::scorer::{ScoreConfig, Scorer};
use ganomede::models::{Config, Options, SYSTEMS, Size, Training};
use ganomede::program::StateId;
use ganomede::tape::States;

/// What a file is given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model file, or the header of one, which is then sealed: the seal detects accidents, and no attacker.
    Model,
    /// Tuning results.
    Tuning,
    /// Compiled pipelines.
    Pipelines,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Model, Kind::Tuning, Kind::Pipelines];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Tuning => "tuning",
            Kind::Pipelines => "pipelines",
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
