//! Detectors as a library's user meets them: trained, saved, loaded from bytes, asked about one image or
//! many, from one thread or several, with samples and systems of the user's own.

use crate::common;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ganomede::detect::{
    Applied, DetectError, Detector, InMemory, Observer, PointTruths, Progress, Query, Samples, Verdict,
    open_series, open_table, point_scores,
};
use ganomede::device::Device;
use ganomede::eval::auroc;
use ganomede::models::file::Scaling;
use ganomede::models::scorer::ScoreConfig;
use ganomede::models::search::SearchConfig;
use ganomede::models::{Form, Info, ae, anogan, ganomaly, gmm, pca};
use ganomede_datasets::{Dataset, OpenOptions, Preprocess, SignalOptions, Split, TableOptions, Truth};

const RETINA: &str = "builtin:retina:train=60,test=24";

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("detect").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn trained() -> Detector {
    let training = Detector::train(&ganomaly::INFO).images(RETINA).size(16).width(4).latent(8).batch(8);
    training.steps(5).hold_out(0.2).seed(3).run(&Device::Cpu).unwrap()
}

/// A square image with a bright disc.
fn image(seed: u32) -> image::DynamicImage {
    let disc = |x: u32, y: u32| (x as f32 - 16.0).hypot(y as f32 - 12.0 - seed as f32) < 7.0;
    let pixel = |x, y| image::Luma([if disc(x, y) { 220u8 } else { 30 + (x * 3 + y + seed) as u8 % 40 }]);
    image::DynamicImage::ImageLuma8(image::ImageBuffer::from_fn(40, 32, pixel))
}

#[test]
fn a_detector_is_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Detector>();
    check::<Verdict>();
}

#[test]
fn files_bytes_pixels_and_batches_give_the_same_bits() {
    let detector = trained();
    let folder = folder("bits");
    let file = folder.join("model.safetensors");
    detector.save(&file).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), detector.to_bytes().unwrap());
    let loaded = Detector::load(&file, &Device::Cpu).unwrap();
    let from_bytes = Detector::from_bytes(&std::fs::read(&file).unwrap(), &Device::Cpu).unwrap();
    let images: Vec<_> = (0..11).map(image).collect();
    let alone: Vec<Verdict> = images.iter().map(|i| detector.score(i).unwrap()).collect();
    for other in [&loaded, &from_bytes] {
        assert_eq!(other.score_many(&images).unwrap(), alone);
    }
    for (i, image) in images.iter().enumerate() {
        let png = folder.join(format!("{i}.png"));
        image.save(&png).unwrap();
        assert_eq!(detector.score(png.as_path()).unwrap(), alone[i], "file {i}");
        assert_eq!(detector.score(&std::fs::read(&png).unwrap()).unwrap(), alone[i], "bytes {i}");
    }
    let scores: std::collections::BTreeSet<u64> = alone.iter().map(|v| v.score.to_bits()).collect();
    assert!(scores.len() > 5, "different images have different scores: {scores:?}");
    for verdict in &alone {
        let threshold = verdict.threshold.expect("samples were held out");
        assert_eq!(verdict.anomalous, Some(verdict.score >= threshold));
        assert_eq!(verdict.map.as_ref().map(Vec::len), Some(16 * 16));
    }
}

#[test]
fn threads_score_side_by_side() {
    let detector = trained();
    let images: Vec<_> = (0..8).map(image).collect();
    let alone: Vec<_> = images.iter().map(|i| detector.score(i).unwrap()).collect();
    std::thread::scope(|scope| {
        let score = |_| scope.spawn(|| images.iter().map(|i| detector.score(i).unwrap()).collect::<Vec<_>>());
        let threads: Vec<_> = (0..6).map(score).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), alone);
        }
    });
}

#[test]
fn an_evaluation_is_that_of_the_scores() {
    let detector = trained();
    let preprocess = Preprocess::new(16);
    let set = Dataset::open(RETINA, &OpenOptions { preprocess, ..OpenOptions::default() }).unwrap();
    let samples: Vec<_> = (0..set.len(Split::Test)).map(|i| set.load(Split::Test, i).unwrap()).collect();
    let scores: Vec<f64> = samples.iter().map(|s| detector.score(&s.image.pixels).unwrap().score).collect();
    let truths: Vec<bool> = samples.iter().map(|s| s.truth == Truth::Anomalous).collect();
    assert_eq!(truths.iter().filter(|t| **t).count(), 12, "half of 24");
    let auroc = auroc(&scores, &truths).unwrap();
    assert!(auroc.is_some());
    assert_eq!(detector.evaluate(RETINA).unwrap().auroc(), auroc);
    let error = detector.evaluate("builtin:nowhere").unwrap_err();
    assert!(!error.is_machine_fault() && error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn series_and_tables_are_trained_and_evaluated() {
    let series = Detector::train(&ae::INFO)
        .series("builtin:telemetry:train=300,test=200", SignalOptions::default())
        .size(16)
        .width(4)
        .latent(4)
        .steps(20)
        .run(&Device::Cpu)
        .unwrap();
    let spec = "builtin:telemetry:train=300,test=200";
    let set = open_series(spec, series.model(), SignalOptions::default()).unwrap();
    let score = &series.calibration().expect("rows were held out").score;
    let mut applied = Applied {
        device: &Device::Cpu,
        model: series.model(),
        path: Path::new("series"),
        score,
        observer: &mut (),
    };
    let scores = point_scores(&mut applied, &set, set.test_rows(), None).unwrap();
    let points = auroc(&scores, &PointTruths::of(&set).points).unwrap();
    assert!(points.is_some());
    assert_eq!(series.evaluate(spec).unwrap().auroc(), points);
    // Thresholds are of points, and a window by itself has a score of another kind.
    assert!(series.threshold().unwrap().is_some());
    let window = series.score(vec![0.0f32; 16 * set.channels()]).unwrap();
    assert!(window.score.is_finite());
    assert_eq!(
        (window.threshold, window.anomalous, window.percentile, window.p_value),
        (None, None, None, None)
    );
    let folder = folder("table");
    let mut text = "a,b,label\n".to_owned();
    for i in 0..300 {
        let (x, far) = (f64::from(i % 17), if i % 6 == 5 { 40.0 } else { 0.0 });
        text += &format!("{x},{},{}\n", 2.0 * x + far, if far > 0.0 { "bad" } else { "good" });
    }
    let file = folder.join("table.csv");
    std::fs::write(&file, text).unwrap();
    let options = TableOptions { normal_labels: vec!["good".to_owned()], ..TableOptions::default() };
    let rows = Detector::train(&pca::INFO).table(&file, options).latent(1).run(&Device::Cpu).unwrap();
    let found = rows.evaluate(file.to_str().unwrap()).unwrap().auroc().unwrap();
    assert!(found > 0.99, "rows off the line are told apart: {found}");
    let error = rows.score(image(0)).unwrap_err();
    assert!(error.to_string().contains("give values"), "{error}");
}

#[test]
fn samples_in_memory_are_trained_on() {
    let samples: Vec<Vec<f32>> =
        (0..60).map(|i| (0..256).map(|j| ((i * 7 + j) % 13) as f32 / 13.0 - 0.5).collect()).collect();
    let held = InMemory::new(Form::Image, 1, samples.clone(), 0.25, 1).unwrap();
    let train = |samples| {
        let training = Detector::train(&ae::INFO).samples(samples).size(16).width(4).latent(4);
        training.batch(8).steps(60).seed(2).run(&Device::Cpu).unwrap()
    };
    let detector = train(held.clone());
    assert_eq!(detector.model().header.data.held_out, 15);
    assert_eq!(detector.model().tensors, train(held).model().tensors, "it repeats");
    let normal = detector.score(&samples[0]).unwrap().score;
    let odd: Vec<f32> = (0..256).map(|j| if j % 2 == 0 { 0.9 } else { -0.9 }).collect();
    assert!(detector.score(&odd).unwrap().score > 2.0 * normal, "a checkerboard is no such sample");
    let wrong = InMemory::new(Form::Image, 1, samples.clone(), 0.25, 1).unwrap();
    let error = Detector::train(&ae::INFO).samples(wrong).size(32).run(&Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("256 values") && error.to_string().contains("1024"), "{error}");
    for (values, word) in
        [(vec![0.0; 255], "256"), (vec![f32::NAN; 256], "NaN"), (vec![128.0; 256], "[-1, 1]")]
    {
        let error = detector.score(&values).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    for bad in [vec![], vec![vec![0.0; 4], vec![0.0; 5]], vec![vec![2.0; 4]]] {
        assert!(matches!(InMemory::new(Form::Image, 1, bad, 0.1, 0), Err(DetectError::Input(_))));
    }
}

/// Who asks for another share of false alarms and saves the model has it in the file.
#[test]
fn a_share_of_false_alarms_goes_with_the_model() {
    let usual = trained();
    let often = trained().with_false_alarm_rate(0.4).unwrap();
    let threshold = |detector: &Detector| detector.threshold().unwrap().unwrap().value;
    assert!(threshold(&often) < threshold(&usual));
    let again = Detector::from_bytes(&often.to_bytes().unwrap(), &Device::Cpu).unwrap();
    assert_eq!(threshold(&again), threshold(&often));
    assert_eq!(again.calibration().unwrap().threshold, threshold(&often));
    let bytes = usual.to_bytes().unwrap();
    let unchanged = Detector::from_bytes(&bytes, &Device::Cpu).unwrap().with_false_alarm_rate(0.05).unwrap();
    assert_eq!(unchanged.to_bytes().unwrap(), bytes, "the usual share is no change");
}

/// Rows and windows in units of their own are scaled by those that are trained on, and the model keeps how: a
/// file of the same rows has the same scores.
#[test]
fn measured_samples_are_scaled_as_files_are() {
    let names = ["time".to_owned(), "load".to_owned()];
    // Seconds of an epoch, far from zero, and a load that follows them.
    let row = |i: u32| vec![1.7e9 + f64::from(i % 17) * 0.25, 2e-3 * f64::from(i % 17)];
    let rows: Vec<Vec<f64>> = (0..200).map(row).collect();
    let samples = InMemory::measured(Form::Table, &names, rows.clone(), 0.2, 1).unwrap();
    let detector = Detector::train(&pca::INFO).samples(samples).latent(1).run(&Device::Cpu).unwrap();
    let detector = Detector::from_bytes(&detector.to_bytes().unwrap(), &Device::Cpu).unwrap();
    let measured = |values: &[f64]| Query::Measured(values.to_vec().into());
    let odd = detector.score(measured(&[1.7e9 + 4.0, 0.0])).unwrap();
    assert_eq!([gmm::INFO.latent_for(Form::Table, 5), gmm::INFO.latent_for(Form::Table, 121)], [2, 32]);
    let samples = InMemory::measured(Form::Table, &names, rows.clone(), 0.2, 1).unwrap();
    let mixture = Detector::train(&gmm::INFO).samples(samples).run(&Device::Cpu).unwrap();
    assert_eq!(mixture.model().header.config.latent, 1);
    assert_eq!(
        (odd.anomalous, detector.score(measured(&rows[3])).unwrap().anomalous),
        (Some(true), Some(false))
    );
    let file = folder("measured").join("rows.csv");
    let lines = rows[..20].iter().map(|row| format!("{:?},{:?}\n", row[1], row[0]));
    std::fs::write(&file, format!("load,time\n{}", lines.collect::<String>())).unwrap();
    let table = open_table(file.to_str().unwrap(), detector.model(), &file, TableOptions::default()).unwrap();
    let values = table.gather_rows(0..20);
    for (row, values) in rows.iter().zip(values.chunks(2)) {
        let (own, of_file) =
            (detector.score(measured(row)).unwrap(), detector.score(values.to_vec()).unwrap());
        assert_eq!(own.score, of_file.score);
    }

    let window = |i: u32| {
        let wave = |c: u32, t: u32| 300.0 + f64::from(c) * 50.0 + f64::from((i * 5 + t * (c + 1)) % 16);
        (0..2).flat_map(|c| (0..16).map(move |t| (c, t))).map(|(c, t)| wave(c, t)).collect::<Vec<f64>>()
    };
    let windows: Vec<Vec<f64>> = (0..60).map(window).collect();
    let samples = InMemory::measured(Form::Signal, &names, windows.clone(), 0.2, 1).unwrap();
    let training = Detector::train(&ae::INFO).samples(samples).size(16).width(4).latent(4);
    let detector = training.batch(8).steps(60).run(&Device::Cpu).unwrap();
    let scaling = &detector.model().header.data.scaling;
    let Scaling::Signal(scale) = scaling else { panic!("{scaling:?}") };
    assert!((scale.mean[0] - 307.5).abs() < 2.0 && (scale.mean[1] - 357.5).abs() < 2.0, "{scale:?}");
    let swapped = [&windows[0][16..], &windows[0][..16]].concat();
    let verdict = detector.score(measured(&windows[0])).unwrap();
    // Windows were held out: they are judged, and points of series are not.
    assert!(verdict.percentile.is_some_and(|p| (0.0..=100.0).contains(&p)) && verdict.anomalous.is_some());
    assert_eq!(verdict.threshold, detector.threshold().unwrap().map(|threshold| threshold.value));
    assert_eq!(ganomede::detect::own(detector.model(), detector.score_config()), None);
    let normal = verdict.score;
    assert!(
        detector.score(measured(&swapped)).unwrap().score > 2.0 * normal,
        "channels at each other's level"
    );

    for (bad, word) in [(vec![0.0; 31], "32"), (vec![f64::NAN; 32], "NaN"), (vec![1e301; 32], "1e300")] {
        let error = detector.score(measured(&bad)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let refused = |form, rows: Vec<Vec<f64>>| InMemory::measured(form, &names, rows, 0.2, 1).unwrap_err();
    let far = rows.iter().cloned().chain([vec![1e250, 0.0]]).collect();
    for (error, word) in [
        (refused(Form::Table, far), "`time`"),
        (refused(Form::Table, vec![vec![0.0; 4]; 9]), "2 columns"),
        (refused(Form::Table, vec![vec![0.0; 3]; 9]), "2 channels"),
        (refused(Form::Image, vec![vec![0.0; 4]; 9]), "values"),
        (refused(Form::Table, vec![vec![f64::INFINITY, 0.0]]), "inf"),
    ] {
        assert!(error.to_string().contains(word), "{error}");
    }
    // In other units the scaled numbers may be the same, but not what they were made of.
    let digest = |scale: f64| {
        let rows = rows.iter().map(|row| vec![row[0] * scale, row[1] * scale]).collect();
        let samples = InMemory::measured(Form::Table, &names, rows, 0.2, 1).unwrap();
        (samples.get(7, [0; 2]).unwrap(), samples.info().unwrap().digest)
    };
    let ((one, own), (two, other)) = (digest(1.0), digest(2.0));
    assert_eq!(one, two);
    assert_ne!(own, other);

    let pixels = trained().score(measured(&[0.5; 256])).unwrap_err().to_string();
    assert!(pixels.contains("no scaling"), "{pixels}");
}

#[test]
fn an_observer_sees_the_losses_and_stops_a_training() {
    let steps = AtomicU64::new(0);
    let see = |progress: &Progress<'_>| {
        assert_eq!((progress.task, progress.unit), ("training", "steps"));
        assert!(progress.ended || !progress.losses.is_empty());
        steps.store(progress.done, Ordering::Relaxed);
        if progress.done >= 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let training = Detector::train(&ae::INFO).images(RETINA).size(16).width(4).batch(8).steps(50);
    let error = training.observe(see).run(&Device::Cpu).unwrap_err();
    assert!(matches!(error, DetectError::TrainingStopped { step: 3, checkpoint: None }), "{error:?}");
    assert_eq!(steps.load(Ordering::Relaxed), 3);

    struct StopsScoring;
    impl Observer for StopsScoring {
        fn goes_on(&mut self) -> bool {
            false
        }
    }
    let error = trained().evaluate_watched(RETINA, &mut StopsScoring).unwrap_err();
    assert!(matches!(error, DetectError::Stopped), "{error:?}");
}

#[test]
fn a_stopped_training_goes_on_to_the_same_bits() {
    let folder = folder("resume");
    let training = |name: &str, steps| {
        let training = Detector::train(&ae::INFO).images(RETINA).size(16).width(4).batch(8).seed(9);
        training.out(folder.join(name)).steps(steps)
    };
    let whole = training("whole.safetensors", 8).run(&Device::Cpu).unwrap();
    training("parts.safetensors", 4).run(&Device::Cpu).unwrap();
    let parts = training("parts.safetensors", 8).resume(true).run(&Device::Cpu).unwrap();
    assert_eq!(whole.model().tensors, parts.model().tensors);
}

/// A checkpoint of other samples is refused, however alike their number and shape.
#[test]
fn samples_in_memory_are_resumed_as_they_were() {
    let folder = folder("memory");
    let training = |value: f32, steps| {
        let samples = InMemory::new(Form::Image, 1, vec![vec![value; 256]; 20], 0.2, 0).unwrap();
        let training = Detector::train(&ae::INFO).samples(samples).size(16).width(4).batch(8).steps(steps);
        training.out(folder.join("model.safetensors"))
    };
    training(0.5, 2).run(&Device::Cpu).unwrap();
    training(0.5, 4).resume(true).run(&Device::Cpu).unwrap();
    let error = training(0.25, 6).resume(true).run(&Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("digest"), "{error}");
}

/// What would be ignored is refused.
#[test]
fn what_has_no_meaning_is_refused() {
    let samples = || InMemory::new(Form::Image, 1, vec![vec![0.5; 256]; 20], 0.2, 0).unwrap();
    let training = || Detector::train(&ae::INFO).samples(samples()).size(16).width(4).batch(8).steps(1);
    let error = training().augment("flip").run(&Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("augmentation"), "{error}");
    let error = training().resume(true).run(&Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("no output"), "{error}");
    for rate in [0.0, 1.0, 7.0, f64::NAN] {
        let detector = training().run(&Device::Cpu).unwrap();
        assert!(matches!(detector.with_false_alarm_rate(rate), Err(DetectError::Config(_))), "{rate}");
    }
}

#[test]
fn settings_are_refused_before_any_work() {
    let missing =
        Detector::train(&ae::INFO).images("/nowhere/at/all").lr(-1.0).run(&Device::Cpu).unwrap_err();
    assert!(missing.to_string().starts_with("lr is -1"), "{missing}");
    let nothing = Detector::train(&ae::INFO).run(&Device::Cpu).unwrap_err();
    assert!(nothing.to_string().contains("nothing to train on"), "{nothing}");
    let steps = Detector::train(&ae::INFO).images(RETINA).steps(0).run(&Device::Cpu).unwrap_err();
    assert!(steps.to_string().starts_with("steps is 0"), "{steps}");
}

#[test]
fn another_score_needs_a_calibration_of_its_own() {
    let training =
        Detector::train(&anogan::INFO).images(RETINA).size(16).width(4).latent(8).batch(8).steps(2);
    let search = |steps| ScoreConfig {
        search: SearchConfig { steps, ..SearchConfig::default() },
        ..ScoreConfig::default()
    };
    let detector = training.score(search(3)).hold_out(0.2).run(&Device::Cpu).unwrap();
    assert!(detector.score(image(1)).unwrap().anomalous.is_some());
    let other = detector.with_score(search(4)).unwrap();
    let verdict = other.score(image(1)).unwrap();
    assert_eq!((verdict.anomalous, verdict.probability), (None, None));
}

#[test]
fn a_system_of_a_users_own_is_known_by_its_name() {
    static MINE: Info = Info { name: "mine", title: "an autoencoder of mine", ..ae::INFO };
    let training = Detector::train(&MINE).images(RETINA).size(16).width(4).batch(8).steps(2);
    let bytes = training.run(&Device::Cpu).unwrap().to_bytes().unwrap();
    let loaded = Detector::from_bytes(&bytes, &Device::Cpu).unwrap();
    assert_eq!(loaded.model().header.system, "mine");
    static TWICE: Info = Info { name: "ae", ..pca::INFO };
    let error = Detector::train(&TWICE).images(RETINA).run(&Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("no other system"), "{error}");
}

#[test]
fn damaged_bytes_are_refused() {
    let bytes = trained().to_bytes().unwrap();
    for cut in [0, 7, 100, bytes.len() - 1] {
        assert!(Detector::from_bytes(&bytes[..cut], &Device::Cpu).is_err(), "{cut} bytes");
    }
    let mut altered = bytes.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    let error = Detector::from_bytes(&altered, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("altered"), "{error}");
}

#[test]
fn both_devices_agree() {
    let detector = trained();
    let on_gpu = Detector::from_bytes(&detector.to_bytes().unwrap(), &common::gpu()).unwrap();
    let images: Vec<_> = (0..5).map(image).collect();
    let found = on_gpu.score_many(images.iter().map(Query::from)).unwrap();
    for (i, (cpu, gpu)) in detector.score_many(&images).unwrap().iter().zip(found).enumerate() {
        assert!((cpu.score - gpu.score).abs() < 1e-4 * cpu.score.abs(), "image {i}");
    }
}
