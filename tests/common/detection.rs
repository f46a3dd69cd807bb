//! A short training of each system on a built-in set, and how well it then tells anomalies from what is
//! normal.
//!
//! `tests/detection.rs` runs seed 0. `cargo bench --profile dev --bench detection` runs all seeds and prints
//! the numbers that stand here: they differ a little between processors, since these sum in different orders.
#![allow(dead_code, reason = "the test and the bench use parts of it")]

use std::ops::ControlFlow;
use std::path::Path;

use ganomede::device::Device;
use ganomede::eval::auroc;
use ganomede::models::file::{ModelFile, Progress};
use ganomede::models::scorer::{ScoreConfig, Scorer};
use ganomede::models::search::SearchConfig;
use ganomede::models::{Config, Form, Training, find};
use ganomede::train::{Epoch, Limits, LoopOptions, Trainer, train};
use ganomede_datasets::{Dataset, Indices, OpenOptions, Preprocess, Split, Truth};

use crate::common::header;

/// Seeds of the measured values: of weights, batches and data.
pub(crate) const SEEDS: usize = 5;

/// A system, the settings of its training, and what came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) system: &'static str,
    pub(crate) options: &'static [(&'static str, &'static str)],
    /// Name of a built-in set of images.
    pub(crate) data: &'static str,
    pub(crate) size: usize,
    pub(crate) width: usize,
    pub(crate) latent: usize,
    pub(crate) batch: usize,
    pub(crate) lr: f32,
    pub(crate) steps: u64,
    /// AUROC that a training reaches with any seed.
    pub(crate) bound: f64,
    /// AUROC after training, by seed.
    pub(crate) trained: [f64; SEEDS],
    /// AUROC of the same network before its first step.
    pub(crate) untrained: [f64; SEEDS],
}

const RETINA: Case = Case {
    system: "",
    options: &[],
    data: "retina",
    size: 16,
    width: 8,
    latent: 16,
    batch: 32,
    lr: 1e-3,
    steps: 200,
    bound: 0.9,
    trained: [0.0; SEEDS],
    untrained: [0.0; SEEDS],
};

pub(crate) const CASES: &[Case] = &[
    Case {
        system: "anogan",
        bound: 0.88,
        trained: [0.947, 0.954, 0.920, 0.933, 0.933],
        untrained: [0.686, 0.647, 0.690, 0.680, 0.663],
        ..RETINA
    },
    Case {
        system: "f-anogan",
        options: &[("critic-steps", "2"), ("kappa", "0.01"), ("encoder-lr", "1e-3")],
        batch: 16,
        lr: 2e-3,
        steps: 800,
        bound: 0.84,
        trained: [0.925, 0.981, 0.891, 0.967, 0.976],
        untrained: [0.689, 0.655, 0.699, 0.693, 0.673],
        ..RETINA
    },
    Case {
        system: "ganomaly",
        steps: 400,
        bound: 0.82,
        trained: [0.909, 0.930, 0.868, 0.901, 0.914],
        untrained: [0.663, 0.799, 0.669, 0.644, 0.747],
        ..RETINA
    },
    Case {
        system: "skip-ganomaly",
        bound: 0.78,
        trained: [0.938, 0.935, 0.823, 0.885, 0.949],
        untrained: [0.689, 0.654, 0.699, 0.693, 0.674],
        ..RETINA
    },
    Case {
        system: "egbad",
        options: &[("cycle", "0")],
        bound: 0.76,
        trained: [0.873, 0.854, 0.812, 0.840, 0.852],
        untrained: [0.686, 0.648, 0.690, 0.680, 0.663],
        ..RETINA
    },
    Case {
        system: "memae",
        bound: 0.94,
        trained: [0.996, 0.998, 0.995, 0.990, 0.996],
        untrained: [0.689, 0.655, 0.699, 0.693, 0.673],
        ..RETINA
    },
    Case {
        system: "adae",
        bound: 0.94,
        trained: [0.989, 0.989, 0.987, 0.993, 0.993],
        untrained: [0.689, 0.655, 0.699, 0.693, 0.673],
        ..RETINA
    },
    Case {
        system: "dagan",
        bound: 0.94,
        trained: [0.997, 1.000, 0.992, 0.989, 0.998],
        untrained: [0.689, 0.654, 0.699, 0.693, 0.674],
        ..RETINA
    },
    Case {
        system: "beatgan",
        bound: 0.9,
        trained: [0.952, 0.981, 0.961, 0.963, 0.972],
        untrained: [0.689, 0.654, 0.698, 0.693, 0.673],
        ..RETINA
    },
    Case {
        system: "ae",
        bound: 0.94,
        trained: [0.993, 0.998, 0.989, 0.993, 0.998],
        untrained: [0.689, 0.655, 0.699, 0.693, 0.673],
        ..RETINA
    },
    Case {
        system: "vae",
        bound: 0.9,
        trained: [0.978, 0.946, 0.968, 0.978, 0.985],
        untrained: [0.689, 0.655, 0.699, 0.693, 0.673],
        ..RETINA
    },
    Case {
        system: "acae",
        bound: 0.94,
        trained: [0.994, 0.993, 0.989, 0.987, 0.994],
        untrained: [0.686, 0.648, 0.690, 0.680, 0.662],
        ..RETINA
    },
    // Its untrained network measures the contrast of an image through random features from 0, which is worth
    // anything from 0.5 to 0.8 by seed. Range, centre and running statistics alone, without a step of Adam,
    // reach the bound with seed 0 too: it holds that distances rank images, not that the sphere was learned.
    Case {
        system: "deep-svdd",
        size: 32,
        batch: 16,
        steps: 400,
        bound: 0.76,
        trained: [0.940, 0.854, 0.870, 0.812, 0.883],
        untrained: [0.546, 0.820, 0.623, 0.710, 0.537],
        ..RETINA
    },
    Case {
        system: "pca",
        bound: 0.94,
        trained: [0.998, 1.000, 0.997, 0.998, 0.998],
        untrained: [0.689, 0.655, 0.699, 0.693, 0.673],
        ..RETINA
    },
    Case {
        system: "gmm",
        bound: 0.94,
        trained: [0.993, 0.999, 0.995, 0.992, 0.996],
        untrained: [0.500, 0.500, 0.500, 0.500, 0.500],
        ..RETINA
    },
    // The network stays as it starts; what is learned are the Gaussians and the bank. Without them there is
    // nothing, or an empty bank, from which distances are the contrast through random features.
    Case {
        system: "feature-gaussian",
        bound: 0.9,
        trained: [0.989, 0.989, 0.954, 0.968, 0.979],
        untrained: [0.500, 0.500, 0.500, 0.500, 0.500],
        ..RETINA
    },
    Case {
        system: "knn",
        bound: 0.92,
        trained: [0.979, 0.991, 0.975, 0.964, 0.983],
        untrained: [0.659, 0.839, 0.777, 0.870, 0.901],
        ..RETINA
    },
    Case {
        system: "nsa",
        options: &[("pool", "no"), ("steepness", "1"), ("middle", "5")],
        size: 32,
        batch: 16,
        steps: 100,
        bound: 0.66,
        trained: [0.715, 0.746, 0.719, 0.733, 0.739],
        untrained: [0.583, 0.579, 0.554, 0.586, 0.426],
        ..RETINA
    },
    // Short trainings differ widely by seed; before the first step the default score is nearly constant.
    Case {
        system: "draem",
        width: 2,
        batch: 8,
        lr: 5e-3,
        steps: 250,
        bound: 0.62,
        trained: [0.978, 0.761, 0.681, 0.737, 0.656],
        untrained: [0.500, 0.488, 0.426, 0.492, 0.461],
        ..RETINA
    },
];

/// AUROC on the test images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Before the first step of training: what the networks' form alone sees in contrast and brightness.
    pub(crate) untrained: f64,
    /// After the last.
    pub(crate) trained: f64,
    /// After the last, with the truths in another order: what chance sees.
    pub(crate) permuted: f64,
}

/// Images to train on, all normal, and to test, with their truths.
struct Data {
    train: Vec<f32>,
    test: Vec<f32>,
    truths: Vec<bool>,
}

impl Data {
    fn open(case: &Case, seed: u64) -> Self {
        let spec = format!("builtin:{}:train=1024,test=256,seed={seed}", case.data);
        let preprocess = Preprocess::new(case.size);
        let set = Dataset::open(&spec, &OpenOptions { preprocess, ..OpenOptions::default() }).unwrap();
        let of = |split| (0..set.len(split)).map(|i| set.load(split, i).unwrap()).collect::<Vec<_>>();
        let (train, test) = (of(Split::Train), of(Split::Test));
        assert!(train.iter().all(|s| s.truth == Truth::Normal));
        Self {
            truths: test.iter().map(|s| s.truth == Truth::Anomalous).collect(),
            train: train.into_iter().flat_map(|s| s.image.pixels).collect(),
            test: test.into_iter().flat_map(|s| s.image.pixels).collect(),
        }
    }
}

/// Trains on the CPU from a seed.
pub(crate) fn run(case: &Case, seed: u64) -> Found {
    let data = Data::open(case, seed);
    let config = Config {
        form: Form::Image,
        size: case.size.into(),
        channels: 1,
        width: case.width,
        latent: case.latent,
        prior: find(case.system).unwrap().defaults.prior,
        kernel: 4,
    };
    let (len, batch) = (config.sample_len(), case.batch);
    let count = data.train.len() / len;
    let mut header = header(case.system, &config, batch, case.options);
    header.seed = seed;
    header.training = Training { lr: case.lr, ..header.training };
    header.data.training_images = count;
    header.progress = Progress { steps_per_epoch: (count / batch) as u64, ..Progress::default() };

    let mut trainer =
        Trainer::new(&Device::Cpu, header, None, &[]).unwrap_or_else(|e| panic!("{case:?}: {e}"));
    let untrained = scores(case, &trainer.model().unwrap(), &data.test, len);
    let mut epoch = |number: u64, first: u64| -> Result<Epoch, _> {
        let order = Indices::shuffled(count, seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let gather = |b: usize| {
            let chosen = (b * batch..(b + 1) * batch).filter_map(|i| order.get(i));
            Ok(chosen.flat_map(|i| data.train[i * len..][..len].to_vec()).collect::<Vec<f32>>())
        };
        let batches: Vec<_> = (first as usize..count / batch).map(gather).collect();
        Ok(Box::new(batches.into_iter()))
    };
    let options = LoopOptions {
        limits: Limits { steps: Some(case.steps), ..Limits::default() },
        checkpoint: None,
        checkpoint_every: 0,
        half_checkpoints: false,
        keep: None,
        samples: None,
        log: None,
    };
    train(&mut trainer, &options, &mut epoch, &mut |_| ControlFlow::Continue(()))
        .unwrap_or_else(|e| panic!("{case:?}: {e}"));
    let trained = scores(case, &trainer.model().unwrap(), &data.test, len);

    let of = |scores: &[f64], truths: &[bool]| auroc(scores, truths).unwrap().expect("both truths are there");
    let order = Indices::shuffled(data.truths.len(), seed);
    let permuted: Vec<bool> = order.iter().map(|i| data.truths[i]).collect();
    Found {
        untrained: of(&untrained, &data.truths),
        trained: of(&trained, &data.truths),
        permuted: of(&trained, &permuted),
    }
}

/// The default score of each test image.
fn scores(case: &Case, model: &ModelFile, test: &[f32], len: usize) -> Vec<f64> {
    const BATCH: usize = 64;
    let search = SearchConfig { steps: 60, ..SearchConfig::default() };
    let config = ScoreConfig { search, ..ScoreConfig::default() };
    let mut scorer = Scorer::new(&Device::Cpu, model, Path::new("detection"), &config, BATCH)
        .unwrap_or_else(|e| panic!("{case:?}: {e}"));
    let batches = test.chunks(BATCH * len);
    batches.flat_map(|x| scorer.score(x, None).unwrap()).map(|found| found.score).collect()
}
