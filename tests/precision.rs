//! Products in bfloat16: a device of its own, on which trainings detect as they do in f32, scores are near
//! those of f32 and the same in every batch, and a model remembers what its threshold was chosen in.

use ganomede::detect::Detector;
use ganomede::device::{Device, DeviceError, GpuOptions, Selector};
use ganomede::models::{ae, ganomaly};
use ganomede::{Precision, models::Info};

const RETINA: &str = "builtin:retina:train=64,test=48";

fn bf16() -> Device {
    Device::Cpu.with_precision(Precision::Bf16).unwrap()
}

fn trained(system: &'static Info, device: &Device) -> Detector {
    let training = Detector::train(system).images(RETINA).size(16).width(16).latent(16).batch(16);
    training.steps(120).lr(1e-3).hold_out(0.2).seed(5).run(device).unwrap()
}

fn images() -> Vec<image::DynamicImage> {
    let disc = |x: u32, y: u32, seed: u32| (x as f32 - 16.0).hypot(y as f32 - 12.0 - seed as f32) < 7.0;
    let pixel =
        |x, y, seed| image::Luma([if disc(x, y, seed) { 220u8 } else { 30 + (x * 3 + y) as u8 % 40 }]);
    let image = |seed| image::ImageBuffer::from_fn(40, 32, |x, y| pixel(x, y, seed));
    (0..5).map(|seed| image::DynamicImage::ImageLuma8(image(seed))).collect()
}

#[test]
fn trainings_detect_as_in_f32() {
    for system in [&ae::INFO, &ganomaly::INFO] {
        let found = [Device::Cpu, bf16()].map(|device| {
            let detector = trained(system, &device);
            let again = trained(system, &device);
            assert_eq!(
                detector.model().tensors,
                again.model().tensors,
                "the same bits again on {}",
                device.describe()
            );
            (detector.evaluate(RETINA).unwrap().auroc().unwrap(), detector)
        });
        let [(plain, a), (rounded, b)] = &found;
        let words = format!("{}: AUROC {plain} in f32, {rounded} in bf16", system.name);
        assert!(*plain > 0.6 && *rounded > plain - 0.05, "{words}");
        assert_ne!(a.model().tensors, b.model().tensors, "rounding shows");
        let calibrated = |detector: &Detector| {
            let calibration = detector.model().header.calibration.as_ref().expect("samples were held out");
            calibration.precision.clone()
        };
        assert_eq!(calibrated(a), None);
        assert_eq!(calibrated(b).as_deref(), Some("bf16"));
    }
}

#[test]
fn scores_are_near_those_of_f32_and_the_same_in_every_batch() {
    let bytes = trained(&ganomaly::INFO, &Device::Cpu).to_bytes().unwrap();
    let [plain, rounded] = [Device::Cpu, bf16()].map(|d| Detector::from_bytes(&bytes, &d).unwrap());
    let images = images();
    let alone: Vec<_> = images.iter().map(|image| rounded.score(image).unwrap()).collect();
    assert_eq!(rounded.score_many(&images).unwrap(), alone);
    let mut differ = 0;
    for (image, rounded) in images.iter().zip(&alone) {
        let plain = plain.score(image).unwrap();
        let apart = (rounded.score / plain.score - 1.0).abs();
        assert!(apart < 0.05, "{} in f32, {} in bf16", plain.score, rounded.score);
        differ += usize::from(rounded.score != plain.score);
    }
    assert_eq!(differ, images.len(), "no score is that of f32");
}

#[test]
fn devices_say_what_they_round_to() {
    let device = bf16();
    assert_eq!(device.precision(), Precision::Bf16);
    assert!(device.describe().contains("products in bf16 by "), "{}", device.describe());
    let device = device.with_precision(Precision::F32).unwrap();
    assert_eq!((device.precision(), device.describe()), (Precision::F32, Device::Cpu.describe()));
    let gpu = Device::open(Selector::Gpu, GpuOptions::default()).expect("an adapter");
    let Err(error) = gpu.clone().with_precision(Precision::Bf16) else { panic!("no kernel rounds so") };
    assert!(matches!(error, DeviceError::Unsupported { .. }), "{error}");
    assert_eq!(error.to_string(), "this device cannot multiply in bf16; use --device cpu, or f32");
    assert_eq!(gpu.with_precision(Precision::F32).unwrap().precision(), Precision::F32);
}
