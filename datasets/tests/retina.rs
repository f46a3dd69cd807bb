//! The built-in retina: pure, balanced, masked, and hard enough to need a model.

use crate::common::{options, refusal};
use ganomede_datasets::{Channels, Dataset, OpenOptions, Preprocess, Sample, Size, Split, Truth};

const KINDS: [&str; 4] = ["intraretinal_fluid", "subretinal_fluid", "hyperreflective_foci", "drusen"];

fn retina(items: &str, size: usize) -> Dataset {
    Dataset::open(&format!("builtin:retina:{items}"), &options(size)).unwrap()
}

fn samples(data: &Dataset, split: Split) -> Vec<Sample> {
    (0..data.len(split)).map(|i| data.load(split, i).unwrap()).collect()
}

#[test]
fn specifications_are_parsed_and_refused_with_a_reason() {
    let counts = |items: &str| {
        let data = retina(items, 32);
        (data.len(Split::Train), data.len(Split::Test))
    };
    assert_eq!(counts("100000"), (100_000, 512));
    assert_eq!(counts("train=7,test=9,seed=3"), (7, 9));
    assert_eq!(Dataset::open("builtin:retina", &options(32)).unwrap().len(Split::Train), 4096);
    let refused = |spec: &str, size| refusal(Dataset::open(spec, &options(size)));
    assert!(refused("builtin:brain", 32).contains("retina"));
    assert!(refused("builtin:retina:train=x", 32).contains("train=x"));
    assert!(refused("builtin:retina:train=-1", 32).contains("train=-1"));
    assert!(refused("builtin:retina:depth=3", 32).contains("depth"));
    assert!(refused("builtin:retina:99999999999999", 32).contains("too many"));
    assert!(refused("builtin:retina", 8).contains("16 to 1024"));
    let training = OpenOptions { for_training: true, ..options(32) };
    assert!(refusal(Dataset::open("builtin:retina:0", &training)).contains("train=N"));
}

#[test]
fn images_are_a_pure_function_of_seed_split_and_index() {
    let (small, large) = (retina("train=10,test=10", 32), retina("train=1000,test=10", 32));
    for i in [9, 0, 4] {
        assert_eq!(small.load(Split::Train, i).unwrap(), large.load(Split::Train, i).unwrap());
    }
    let image = |data: &Dataset, split, i| data.load(split, i).unwrap().image;
    assert_ne!(image(&small, Split::Train, 0), image(&small, Split::Test, 0));
    assert_ne!(image(&small, Split::Train, 0), image(&small, Split::Train, 1));
    let other = retina("train=10,test=10,seed=1", 32);
    assert_ne!(image(&small, Split::Train, 0), image(&other, Split::Train, 0));
    assert_ne!(small.digest(Split::Train).unwrap(), other.digest(Split::Train).unwrap());
}

#[test]
fn training_is_normal_and_testing_is_half_anomalous_with_masks() {
    let data = retina("train=40,test=80", 64);
    assert!(samples(&data, Split::Train).iter().all(|s| s.truth == Truth::Normal && s.class == "good"));
    let mut counts = std::collections::BTreeMap::new();
    for sample in samples(&data, Split::Test) {
        let mask = sample.mask.unwrap();
        assert_eq!(mask.any(), sample.truth == Truth::Anomalous, "{}", sample.id);
        let share = mask.pixels.iter().filter(|&&m| m).count() as f64 / 4096.0;
        assert!(share < 0.25, "{}: a lesion of {share}", sample.id);
        *counts.entry(sample.class).or_insert(0) += 1;
    }
    assert_eq!(counts.remove("good"), Some(40));
    assert_eq!(counts, KINDS.iter().map(|k| (k.to_string(), 10)).collect());
}

#[test]
fn rectangles_are_drawn_and_refused_by_their_longer_side() {
    let preprocess = Preprocess::new(Size { height: 64, width: 96 });
    let options = OpenOptions { preprocess, ..OpenOptions::default() };
    let data = Dataset::open("builtin:retina:test=2", &options).unwrap();
    for sample in samples(&data, Split::Test) {
        let mask = sample.mask.unwrap();
        assert_eq!((sample.image.height, sample.image.width, sample.image.pixels.len()), (64, 96, 64 * 96));
        assert_eq!((mask.height, mask.width), (64, 96));
    }
    let preprocess = Preprocess::new(Size { height: 16, width: 1025 });
    let options = OpenOptions { preprocess, ..OpenOptions::default() };
    let Err(error) = Dataset::open("builtin:retina", &options) else { panic!("1025 was drawn") };
    assert!(error.to_string().contains("cannot be drawn at size 1025; use 16 to 1024"), "{error}");
}

#[test]
fn every_size_and_colour_can_be_drawn() {
    for size in [16, 17, 28, 128, 256, 1024] {
        let preprocess = Preprocess { channels: Channels::Rgb, ..Preprocess::new(size) };
        let options = OpenOptions { preprocess, ..OpenOptions::default() };
        let data = Dataset::open("builtin:retina:test=8", &options).unwrap();
        for sample in samples(&data, Split::Test) {
            let planes: Vec<_> = sample.image.pixels.chunks(size * size).collect();
            assert_eq!(planes.len(), 3);
            assert_eq!(planes[0], planes[2]);
            assert!(sample.image.pixels.iter().all(|p| (-1.0..=1.0).contains(p)));
            assert_eq!(
                sample.mask.unwrap().any(),
                sample.truth == Truth::Anomalous,
                "{} at {size}",
                sample.id
            );
        }
    }
}

/// Probability that a random anomalous score exceeds a random normal one.
fn auroc(scores: &[(f64, Truth)]) -> f64 {
    let of = |truth| scores.iter().filter(move |s| s.1 == truth).map(|s| s.0);
    let wins = of(Truth::Anomalous).flat_map(|a| of(Truth::Normal).map(move |n| f64::from(a > n)));
    let pairs = of(Truth::Anomalous).count() * of(Truth::Normal).count();
    wins.sum::<f64>() / pairs as f64
}

#[test]
fn brightness_and_contrast_alone_do_not_tell_the_anomalies() {
    for size in [32, 64] {
        let data = retina("test=400", size);
        let statistics = samples(&data, Split::Test).into_iter().map(|sample| {
            let pixels = &sample.image.pixels;
            let mean = pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / pixels.len() as f64;
            let variance =
                pixels.iter().map(|&p| (f64::from(p) - mean).powi(2)).sum::<f64>() / pixels.len() as f64;
            (mean, variance, sample)
        });
        let statistics: Vec<_> = statistics.collect();
        for kind in KINDS {
            let of = |pick: fn(&(f64, f64, Sample)) -> f64| {
                let chosen = statistics.iter().filter(|s| s.2.class == kind || s.2.class == "good");
                let score = auroc(&chosen.map(|s| (pick(s), s.2.truth)).collect::<Vec<_>>());
                score.max(1.0 - score)
            };
            let (mean, variance) = (of(|s| s.0), of(|s| s.1));
            assert!(mean < 0.8 && variance < 0.9, "{kind} at {size}: mean {mean}, variance {variance}");
        }
    }
}

#[test]
fn a_little_knowledge_of_normal_anatomy_does_tell_them() {
    // Distance to the nearest of 600 normal images, over coarse blocks that average speckle out, finds what
    // an expert sees at a glance. The set is made for a demo of minutes: brightness alone must not tell
    // (above), knowledge of the anatomy must.
    let data = retina("train=600,test=200", 32);
    let coarse = |sample: &Sample| -> Vec<f32> {
        let at = |b: usize| (0..4).map(move |k| (b / 16 * 2 + k / 2) * 32 + b % 16 * 2 + k % 2);
        (0..256).map(|b| at(b).map(|i| sample.image.pixels[i]).sum::<f32>() / 4.0).collect()
    };
    let train: Vec<_> = samples(&data, Split::Train).iter().map(coarse).collect();
    let scores: Vec<_> = samples(&data, Split::Test)
        .iter()
        .map(|sample| {
            let query = coarse(sample);
            let distance = |t: &Vec<f32>| t.iter().zip(&query).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
            (f64::from(train.iter().map(distance).fold(f32::INFINITY, f32::min)), sample.truth)
        })
        .collect();
    let score = auroc(&scores);
    assert!(score > 0.95, "{score}");
}
