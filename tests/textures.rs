//! Textures from a folder of images, of systems that train on textures: read, noted, recorded, trained on,
//! and the same when a training is resumed or done again.

use std::ops::ControlFlow;
use std::path::Path;

use crate::common::cpu;
use ganomede::detect::{DetectError, Detector, Job, Progress, Reading, TrainingBuilder, TrainingData};
use ganomede::models::{Config, Form, Options, Size, find};
use ganomede::tape::States;
use ganomede_datasets::{OpenOptions, Preprocess};

/// Images of stripes, 9 to 16 pixels a side, in a folder and one within it.
fn textures(folder: &Path, count: u32, shade: u8) {
    std::fs::create_dir_all(folder.join("more")).unwrap();
    for i in 0..count {
        let image = image::GrayImage::from_fn(16 + i, 20, |x, _| {
            image::Luma([if (x / (1 + i)).is_multiple_of(2) { shade } else { 10 }])
        });
        let name = if i == 0 { format!("more/{i}.png") } else { format!("{i}.png") };
        image.save(folder.join(name)).unwrap();
    }
}

fn training<'a>(system: &str) -> TrainingBuilder<'a> {
    let training = Detector::train(find(system).unwrap()).images("builtin:retina:train=24,test=4");
    training.size(16).width(1).batch(4).hold_out(0.2).seed(7).steps(5)
}

fn tensors(detector: &Detector) -> Vec<Vec<f32>> {
    detector.model().tensors.iter().map(|t| t.values.to_vec()).collect()
}

#[test]
fn textures_of_a_folder_are_trained_on_recorded_and_the_same_when_resumed() {
    let place = tempfile::tempdir().unwrap();
    let (ours, others) = (place.path().join("ours"), place.path().join("others"));
    textures(&ours, 3, 200);
    textures(&others, 3, 90);
    let out = place.path().join("model.safetensors");

    let drawn = training("draem").run(&cpu()).unwrap();
    assert_eq!(drawn.model().header.data.textures, None);
    let whole = training("draem").textures(&ours).run(&cpu()).unwrap();
    assert_ne!(tensors(&whole), tensors(&drawn), "textures of the folder are what is trained on");
    let recorded = whole.model().header.data.textures.clone().expect("textures");
    assert_eq!((recorded.images, recorded.digest.len()), (3, 64));
    assert_eq!(Path::new(&recorded.folder), ours);
    let of_others = training("draem").textures(&others).run(&cpu()).unwrap();
    assert_ne!(tensors(&of_others), tensors(&whole));

    let stop =
        |p: &Progress<'_>| if p.done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let stopped = training("draem").textures(&ours).out(&out).observe(stop).run(&cpu()).err().unwrap();
    assert!(matches!(stopped, DetectError::TrainingStopped { step: 2, .. }), "{stopped}");
    let resumed = |builder: TrainingBuilder<'_>| builder.out(&out).resume(true).run(&cpu());
    for other in [training("draem").textures(&others), training("draem")] {
        let refused = resumed(other).err().unwrap().to_string();
        assert!(refused.contains("`textures`"), "{refused}");
    }
    let resumed = resumed(training("draem").textures(&ours)).unwrap();
    assert_eq!(tensors(&resumed), tensors(&whole), "to the last bit");

    // Scoring needs no textures; training again needs the same.
    std::fs::remove_file(ours.join("1.png")).unwrap();
    let again = Detector::load(&out, &cpu()).unwrap();
    let image = || vec![0.25_f32; 256];
    assert_eq!(again.score(image()).unwrap(), whole.score(image()).unwrap());
    let job = Job::again(again.model(), 8, None, whole.model().header.data.clone());
    assert_eq!(job.header.data.textures, Some(recorded));
    let images = OpenOptions { preprocess: Preprocess::new(16), ..OpenOptions::default() };
    let samples = TrainingData {
        form: Form::Image,
        spec: "builtin:retina:train=24,test=4".to_owned(),
        reading: Reading { images, ..Reading::default() },
        window: 16,
        hold_out: 0.2,
        tiles: None,
        augment: String::new(),
        seed: 8,
    };
    let samples = samples.open(&mut ()).unwrap();
    let refused = job.run(&cpu(), samples.as_ref(), &mut ()).err().unwrap().to_string();
    assert!(refused.contains("`textures`") && refused.contains("put them back"), "{refused}");
}

#[test]
fn textures_that_nothing_would_be_made_of_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let refused = |builder: TrainingBuilder<'_>| builder.run(&cpu()).err().unwrap().to_string();
    for system in ["nsa", "ae", "pca"] {
        let why = refused(training(system).textures(&empty));
        assert!(why.contains("textures") && why.contains(system), "{why}");
    }
    let none = refused(training("draem").textures(place.path().join("none")));
    assert!(none.contains("a folder of images"), "{none}");
    let why = refused(training("draem").textures(&empty));
    assert!(why.contains("no image"), "{why}");
    let draem = find("draem").unwrap();
    let options = Options::new(draem.options, []).unwrap();
    for form in [Form::Signal, Form::Table] {
        let config = Config { size: Size::square(16), ..Config::default() }.of(form);
        let why = draem.build(&mut States::new(), &config, &options).err().unwrap().to_string();
        assert!(why.contains("image for this system"), "{why}");
    }
}
