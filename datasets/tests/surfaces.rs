//! Built-in concrete and casting: pure, balanced, masked, and hard enough to need a model.

use std::collections::BTreeMap;

use crate::common::options;
use ganomede_datasets::{Dataset, Sample, Split, Truth};

const SETS: [(&str, [&str; 4]); 2] = [
    ("concrete", ["crack_hairline", "crack_wide", "crack_branching", "crack_map"]),
    ("casting", ["blow_hole", "scratch", "burr", "missing_material"]),
];

fn opened(name: &str, items: &str, size: usize) -> Dataset {
    Dataset::open(&format!("builtin:{name}:{items}"), &options(size)).unwrap()
}

fn samples(data: &Dataset, split: Split) -> Vec<Sample> {
    (0..data.len(split)).map(|i| data.load(split, i).unwrap()).collect()
}

#[test]
fn images_are_a_pure_function_of_seed_split_and_index() {
    for (name, _) in SETS {
        let (small, large) = (opened(name, "train=10,test=10", 32), opened(name, "train=1000,test=10", 32));
        for i in [9, 0, 4] {
            assert_eq!(small.load(Split::Train, i).unwrap(), large.load(Split::Train, i).unwrap());
        }
        let image = |data: &Dataset, split, i| data.load(split, i).unwrap().image;
        assert_ne!(image(&small, Split::Train, 0), image(&small, Split::Test, 0));
        assert_ne!(image(&small, Split::Train, 0), image(&small, Split::Train, 1));
        let other = opened(name, "train=10,test=10,seed=1", 32);
        assert_ne!(image(&small, Split::Train, 0), image(&other, Split::Train, 0));
        assert_ne!(small.digest(Split::Train).unwrap(), other.digest(Split::Train).unwrap());
    }
}

#[test]
fn training_is_normal_and_testing_is_half_anomalous_with_masks() {
    for (name, kinds) in SETS {
        let data = opened(name, "train=40,test=80", 64);
        assert!(samples(&data, Split::Train).iter().all(|s| s.truth == Truth::Normal && s.class == "good"));
        let mut counts = BTreeMap::new();
        for sample in samples(&data, Split::Test) {
            assert_eq!(sample.mask.unwrap().any(), sample.truth == Truth::Anomalous, "{}", sample.id);
            *counts.entry(sample.class).or_insert(0) += 1;
        }
        assert_eq!(counts.remove("good"), Some(40));
        assert_eq!(counts, kinds.iter().map(|k| (k.to_string(), 10)).collect());
    }
}

#[test]
fn every_size_can_be_drawn() {
    for (name, _) in SETS {
        for size in [16, 17, 28, 128, 256] {
            for sample in samples(&opened(name, "test=16", size), Split::Test) {
                assert!(sample.image.pixels.iter().all(|p| (-1.0..=1.0).contains(p)));
                let is_masked = sample.mask.unwrap().any();
                assert_eq!(is_masked, sample.truth == Truth::Anomalous, "{} at {size}", sample.id);
            }
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
    for (name, kinds) in SETS {
        let statistics: Vec<_> = samples(&opened(name, "test=400", 64), Split::Test)
            .into_iter()
            .map(|sample| {
                let pixels = &sample.image.pixels;
                let n = pixels.len() as f64;
                let mean = pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / n;
                let variance = pixels.iter().map(|&p| (f64::from(p) - mean).powi(2)).sum::<f64>() / n;
                (mean, variance, sample)
            })
            .collect();
        for kind in kinds {
            let of = |pick: fn(&(f64, f64, Sample)) -> f64| {
                let chosen = statistics.iter().filter(|s| s.2.class == kind || s.2.class == "good");
                let score = auroc(&chosen.map(|s| (pick(s), s.2.truth)).collect::<Vec<_>>());
                score.max(1.0 - score)
            };
            let (mean, variance) = (of(|s| s.0), of(|s| s.1));
            assert!(mean < 0.7 && variance < 0.9, "{kind}: mean {mean}, variance {variance}");
        }
    }
}

#[test]
fn knowledge_of_the_surface_tells_them() {
    // What a smooth surface or a mean part cannot explain: concrete against its own blur, castings against
    // the mean of 200 parts. Crude, so that a model has something left to do.
    for (name, least) in [("concrete", 0.75), ("casting", 0.75)] {
        let data = opened(name, "train=200,test=200", 64);
        let n = 64;
        let mut mean = vec![0.0f32; n * n];
        for sample in samples(&data, Split::Train) {
            mean.iter_mut().zip(&sample.image.pixels).for_each(|(m, p)| *m += p / 200.0);
        }
        let score = |sample: &Sample| {
            let p = &sample.image.pixels;
            let brightness =
                p.iter().sum::<f32>() / p.len() as f32 - mean.iter().sum::<f32>() / mean.len() as f32;
            // Averages of 3 × 3 smooth out grain and half a pixel of play.
            let local = |plane: &[f32], x: usize, y: usize, reach: usize| {
                let (xs, ys) = (
                    x.saturating_sub(reach)..(x + reach + 1).min(n),
                    y.saturating_sub(reach)..(y + reach + 1).min(n),
                );
                let count = (xs.len() * ys.len()) as f32;
                ys.flat_map(|y| xs.clone().map(move |x| y * n + x)).map(|at| plane[at]).sum::<f32>() / count
            };
            let mut worst: Vec<f32> = (0..n * n)
                .map(|at| {
                    let (x, y) = (at % n, at / n);
                    let near = local(p, x, y, 1);
                    if name == "concrete" {
                        local(p, x, y, 6) - near
                    } else {
                        (near - brightness - local(&mean, x, y, 1)).abs()
                    }
                })
                .collect();
            worst.sort_by(f32::total_cmp);
            f64::from(worst[worst.len() - 25..].iter().sum::<f32>())
        };
        let scores: Vec<_> = samples(&data, Split::Test).iter().map(|s| (score(s), s.truth)).collect();
        let reached = auroc(&scores);
        assert!(reached > least, "{name}: {reached}");
    }
}
