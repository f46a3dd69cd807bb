//! Every system on images whose sides are no powers of two: trained, resumed, saved, and scored with a map,
//! on both devices. `benches/sides.sh` does it with the program for more sides.

use std::ops::ControlFlow;

use crate::common::{cpu, gpu};
use ganomede::detect::{DetectError, Detector, Progress, TrainingBuilder, Verdict};
use ganomede::device::Device;
use ganomede::models::scorer::ScoreConfig;
use ganomede::models::search::SearchConfig;
use ganomede::models::{SYSTEMS, Size, find};
use ganomede_datasets::{Dataset, OpenOptions, Preprocess, Split};

const RETINA: &str = "builtin:retina:train=24,test=4,seed=5";

/// Systems with options that give them other networks.
const CASES: [(&str, &[(&str, &str)]); 32] = [
    ("anogan", &[]),
    ("f-anogan", &[]),
    ("f-anogan", &[("nets", "resnet")]),
    ("f-anogan", &[("nets", "resnet-port")]),
    ("f-anogan", &[("nets", "resize")]),
    ("ganomaly", &[]),
    ("skip-ganomaly", &[]),
    ("egbad", &[]),
    ("memae", &[]),
    ("memae", &[("memory", "flat")]),
    ("adae", &[]),
    ("dagan", &[]),
    ("beatgan", &[]),
    ("ae", &[]),
    ("ae", &[("nets", "lenet"), ("loss", "ssim")]),
    ("ae", &[("nets", "lenet-small")]),
    ("vae", &[]),
    ("vae", &[("nets", "lenet")]),
    ("acae", &[]),
    ("deep-svdd", &[]),
    ("deep-svdd", &[("nets", "lenet")]),
    ("pca", &[]),
    ("gmm", &[("mixtures", "2")]),
    ("gmm", &[("features", "ae"), ("mixtures", "2")]),
    ("feature-gaussian", &[("dimensions", "6"), ("neighbours", "1")]),
    ("feature-gaussian", &[("features", "critic"), ("dimensions", "6")]),
    ("knn", &[("images", "4"), ("places", "40")]),
    ("knn", &[("features", "encoder"), ("scales", "1"), ("images", "30"), ("places", "300")]),
    ("knn", &[("features", "gradients"), ("images", "4"), ("places", "40")]),
    ("nsa", &[]),
    ("nsa", &[("pool", "no"), ("gradients", "mixed")]),
    ("draem", &[]),
];

fn training<'a>(system: &str, options: &[(&str, &str)], size: Size) -> TrainingBuilder<'a> {
    let training =
        Detector::train(find(system).unwrap()).images(RETINA).size(size).width(8).latent(6).batch(4);
    let search = SearchConfig { steps: 3, ..SearchConfig::default() };
    let training = training.score(ScoreConfig { search, ..ScoreConfig::default() }).seed(7).hold_out(0.2);
    options.iter().fold(training, |training, (key, value)| training.option(*key, value))
}

/// Trains five steps on a device, once at a stretch and once stopped after three and resumed: the same bits.
fn trained(system: &str, options: &[(&str, &str)], size: Size, device: &Device) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.safetensors");
    let training = || training(system, options, size).steps(5);
    let whole = training().run(device).unwrap_or_else(|e| panic!("{system} {options:?} at {size}: {e}"));
    let stop =
        |p: &Progress<'_>| if p.done == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let stopped = training().out(&out).observe(stop).run(device).err().unwrap();
    assert!(matches!(stopped, DetectError::TrainingStopped { step: 3, .. }), "{system}: {stopped}");
    let resumed = training().out(&out).resume(true).run(device).unwrap();
    let tensors = |detector: &Detector| detector.model().tensors.clone();
    assert!(tensors(&whole) == tensors(&resumed), "{system} {options:?} at {size}: resuming changes bits");
    std::fs::read(&out).unwrap()
}

fn scored(bytes: &[u8], device: &Device, images: &[Vec<f32>]) -> Vec<Verdict> {
    let detector = Detector::from_bytes(bytes, device).unwrap();
    detector.score_many(images).unwrap()
}

fn assert_relative(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-3 * want.abs().max(1e-3), "{what}: {got} on the GPU, {want} on the CPU");
}

/// All systems on images of this size.
fn all_systems(size: &str) {
    let size: Size = size.parse().unwrap();
    let options = OpenOptions { preprocess: Preprocess::new(size), ..OpenOptions::default() };
    let set = Dataset::open(RETINA, &options).unwrap();
    let images: Vec<_> = (0..4).map(|i| set.load(Split::Test, i).unwrap().image.pixels).collect();
    for (system, options) in CASES {
        let what = format!("{system} {options:?} at {size}");
        let model = trained(system, options, size, &cpu());
        let [on_cpu, on_gpu] = [cpu(), gpu()].map(|device| scored(&model, &device, &images));
        for (cpu, gpu) in on_cpu.iter().zip(&on_gpu) {
            assert_relative(&what, gpu.score, cpu.score);
            assert!(cpu.score.is_finite(), "{what}");
            let lengths = [cpu, gpu].map(|v| v.map.as_ref().map(Vec::len));
            let has_map = !matches!(system, "deep-svdd");
            assert_eq!(lengths, [has_map.then_some(size.area()); 2], "{what}");
        }
    }
}

#[test]
fn every_system_is_among_the_cases() {
    for info in SYSTEMS {
        assert!(CASES.iter().any(|(system, _)| *system == info.name), "{}", info.name);
    }
}

#[test]
fn every_system_at_33_by_50() {
    all_systems("33x50");
}

#[test]
fn every_system_at_17_by_128() {
    all_systems("17x128");
}

#[test]
fn every_system_trains_on_a_gpu_at_33_by_50() {
    let size: Size = "33x50".parse().unwrap();
    for (system, options) in CASES {
        let detector = training(system, options, size).steps(5).run(&gpu()).unwrap();
        let quantiles = &detector.calibration().unwrap().quantiles;
        assert!(quantiles.threshold(0.05).unwrap().value.is_finite(), "{system} {options:?}");
    }
}
