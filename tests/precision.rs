//! Products in bfloat16 on the CPU and in halves on a GPU: a device of its own, on which trainings detect as
//! they do in f32, scores are near those of f32 and the same in every batch, and a model remembers what its
//! threshold was chosen in.

use ganomede::detect::Detector;
use ganomede::device::{Device, DeviceError, GpuOptions, Selector};
use ganomede::models::{ae, ganomaly};
use ganomede::program::compile;
use ganomede::tape::{States, Tape};
use ganomede::{Precision, models::Info};

const RETINA: &str = "builtin:retina:train=64,test=48";

fn bf16() -> Device {
    Device::Cpu.with_precision(Precision::Bf16).unwrap()
}

/// The GPU path with products in f16, where the adapter has halves.
fn f16() -> Option<Device> {
    let gpu = Device::open(Selector::Gpu, GpuOptions::default()).expect("an adapter");
    match gpu.with_precision(Precision::F16) {
        Ok(device) => Some(device),
        Err(error) => {
            assert!(error.to_string().contains("cannot multiply in f16 (it has no SHADER_F16)"), "{error}");
            None
        }
    }
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

/// Few steps: a software adapter converts every half by itself.
#[test]
fn trainings_in_halves_stay_near_those_in_f32_and_repeat() {
    let Some(halves) = f16() else { return };
    let trained = |steps, device| {
        let training = Detector::train(&ae::INFO).images("builtin:retina:train=24,test=8").size(16).width(8);
        training.latent(8).batch(8).steps(steps).hold_out(0.2).seed(5).run(device).unwrap()
    };
    let [plain, rounded] = [&Device::Cpu, &halves].map(|device| trained(4, device));
    assert_eq!(rounded.model().tensors, trained(4, &halves).model().tensors, "the same bits");
    let calibration = rounded.model().header.calibration.as_ref().expect("samples were held out");
    assert_eq!(calibration.precision.as_deref(), Some("f16"));
    // How far all weights are apart, relative to how far they went from where the first step left them.
    // Adam takes whole steps of gradients that are next to nothing, whatever their sign.
    let began = trained(1, &Device::Cpu);
    let distance = |a: &Detector, b: &Detector| {
        let pairs = a.model().tensors.iter().zip(&b.model().tensors);
        let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
        pairs.map(|(a, b)| a.values.iter().zip(&b.values).map(square).sum::<f64>()).sum::<f64>().sqrt()
    };
    let apart = distance(&plain, &rounded) / distance(&plain, &began);
    assert!((1e-6..0.25).contains(&apart), "{apart} of the way apart");
}

#[test]
fn scores_are_near_those_of_f32_and_the_same_in_every_batch() {
    let bytes = trained(&ganomaly::INFO, &Device::Cpu).to_bytes().unwrap();
    for device in [Some(bf16()), f16()].into_iter().flatten() {
        let [plain, rounded] =
            [&Device::Cpu, &device].map(|device| Detector::from_bytes(&bytes, device).unwrap());
        let images = images();
        let alone: Vec<_> = images.iter().map(|image| rounded.score(image).unwrap()).collect();
        assert_eq!(rounded.score_many(&images).unwrap(), alone);
        let mut differ = 0;
        for (image, rounded) in images.iter().zip(&alone) {
            let plain = plain.score(image).unwrap();
            let apart = (rounded.score / plain.score - 1.0).abs();
            assert!(apart < 0.05, "{} in f32, {} in {}", plain.score, rounded.score, device.precision());
            differ += usize::from(rounded.score != plain.score);
        }
        assert_eq!(differ, images.len(), "no score is that of f32");
    }
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
    assert_eq!(error.to_string(), "this device cannot multiply in bf16; use f32, or --device cpu");
    let Err(error) = Device::Cpu.with_precision(Precision::F16) else { panic!("no twin rounds so") };
    assert_eq!(error.to_string(), "this device cannot multiply in f16; use bf16 or f32, or --device gpu");
    if let Some(halves) = f16() {
        assert_eq!(halves.precision(), Precision::F16);
        assert!(halves.describe().ends_with(", products in f16"), "{}", halves.describe());
        let plain = halves.with_precision(Precision::F32).unwrap();
        assert_eq!((plain.precision(), plain.describe()), (Precision::F32, gpu.describe()));
    }
    assert_eq!(gpu.with_precision(Precision::F32).unwrap().precision(), Precision::F32);
}

/// A program may have been rounded by hand, without asking a device.
#[test]
fn a_device_refuses_a_program_in_a_precision_that_it_has_not() {
    let tape = Tape::new();
    tape.output("y", tape.input("x", &[3, 4]).matmul(tape.input("w", &[4, 5])));
    let program = compile(&tape.finish().unwrap()).unwrap();
    let refusal = |device: &Device, precision| {
        let store = device.store(&States::new(), 1).unwrap();
        let Err(error) = device.load(&program.clone().with_precision(precision), &store) else {
            panic!("{precision} on {}", device.describe())
        };
        error.to_string()
    };
    let told = refusal(&Device::Cpu, Precision::F16);
    assert_eq!(told, "this device cannot multiply in f16; use bf16 or f32, or --device gpu");
    let gpu = Device::open(Selector::Gpu, GpuOptions::default()).expect("an adapter");
    let told = refusal(&gpu, Precision::Bf16);
    assert!(told.contains("no GPU kernel rounds to bf16"), "{told}");
}
