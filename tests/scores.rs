//! Scores that every system has which reconstructs, against plain loops over the reconstruction, and images
//! that are standardised before networks see them.

use std::path::Path;

use crate::common::{self, cpu, gpu, header, numbers};
use ganomede::device::Device;
use ganomede::models::features::Features;
use ganomede::models::file::ModelFile;
use ganomede::models::recipe::Recipe;
use ganomede::models::scorer::{Found, ScoreConfig, Scorer};
use ganomede::models::search::SearchConfig;
use ganomede::models::{Config, Form, Prior, SYSTEMS, Size, common as shared};
use ganomede::train::Trainer;
use ganomede_datasets::Split;

const BATCH: usize = 8;
/// Height is not width, and neither is a power of two.
const TINY: Config = Config {
    form: Form::Image,
    size: Size { height: 17, width: 21 },
    channels: 1,
    width: 4,
    latent: 8,
    prior: Prior::Normal,
    kernel: 4,
};

fn images(split: Split, count: usize) -> Vec<f32> {
    common::images(&TINY, "builtin:retina:train=32,test=16", split, count)
}

fn model(device: &Device, system: &str, config: &Config, standardise: bool) -> ModelFile {
    let mut header = header(system, config, BATCH, &[]);
    header.recipe = Recipe { standardise, ..Recipe::default() };
    let data = if *config == TINY {
        images(Split::Train, 2 * BATCH)
    } else {
        numbers(2 * BATCH * config.sample_len(), 1)
    };
    let mut trainer = Trainer::new(device, header, None, &[]).unwrap_or_else(|e| panic!("{system}: {e}"));
    for batch in data.chunks_exact(BATCH * config.sample_len()) {
        trainer.step(batch).unwrap();
    }
    trainer.model().unwrap()
}

fn settings(score: &str) -> ScoreConfig {
    let search = SearchConfig { steps: 3, restarts: 2, ..SearchConfig::default() };
    ScoreConfig { score: score.to_owned(), search, ..ScoreConfig::default() }
}

fn found(device: &Device, model: &ModelFile, score: &str, queries: &[f32], batch: usize) -> Vec<Found> {
    let path = Path::new("tiny");
    let mut scorer = Scorer::new(device, model, path, &settings(score), batch)
        .unwrap_or_else(|e| panic!("{} {score}: {e}", model.header.system));
    let len = batch * model.header.config.sample_len();
    queries.chunks(len).flat_map(|images| scorer.score(images, None).unwrap()).collect()
}

/// 1 − SSIM at each place, by its definition, windows of `side` cut off at the border.
fn dissimilarity(x: &[f32], y: &[f32], [h, w]: [usize; 2], side: usize) -> Vec<f64> {
    let [c1, c2] = [0.02f64.powi(2), 0.06f64.powi(2)];
    let at = |i: usize, j: usize| {
        let reach = |at: usize, end: usize| at.saturating_sub(side / 2)..(at + side / 2 + 1).min(end);
        let places: Vec<_> = reach(i, h).flat_map(|i| reach(j, w).map(move |j| i * w + j)).collect();
        let mean = |f: &dyn Fn(usize) -> f64| places.iter().map(|&p| f(p)).sum::<f64>() / places.len() as f64;
        let (a, b) = (|p: usize| f64::from(x[p]), |p: usize| f64::from(y[p]));
        let (ma, mb) = (mean(&a), mean(&b));
        let (va, vb) = (mean(&|p| (a(p) - ma).powi(2)), mean(&|p| (b(p) - mb).powi(2)));
        let cov = mean(&|p| (a(p) - ma) * (b(p) - mb));
        1.0 - (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    };
    (0..h).flat_map(|i| (0..w).map(move |j| (i, j))).map(|(i, j)| at(i, j)).collect()
}

fn close(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-3), "{what}: {got} and not {want}");
}

fn scores_are_what_they_say(device: &Device) {
    let queries = images(Split::Test, 5);
    let (len, extent) = (TINY.sample_len(), TINY.extent());
    let mut systems = 0;
    for info in SYSTEMS {
        let names: Vec<_> = shared::of(info).iter().map(|score| score.name).collect();
        if names.is_empty() {
            continue;
        }
        systems += 1;
        let model = model(device, info.name, &TINY, false);
        for name in names {
            let what = format!("{} {name}", info.name);
            let all = found(device, &model, name, &queries, 5);
            assert!(all.windows(2).all(|pair| pair[0].score != pair[1].score), "{what}: scores are distinct");
            let alone = found(device, &model, name, &queries, 1);
            assert_eq!(alone, all, "{what}: the same bits in any batch");
            for (x, found) in queries.chunks(len).zip(&all) {
                let made = found.reconstruction.as_ref().expect("it reconstructs");
                let map = found.map.as_ref().expect("images have maps");
                let residual: Vec<f64> = x.iter().zip(made).map(|(a, b)| f64::from((a - b).abs())).collect();
                let (places, score) = match name {
                    "ssim" => {
                        let places = dissimilarity(x, made, extent, 11);
                        (places.clone(), places.iter().sum::<f64>() / len as f64)
                    }
                    "residual" => (residual.clone(), residual.iter().sum::<f64>() / len as f64),
                    _ => {
                        let mut features = Features::of_file(device, &model, Path::new("tiny"), 2)
                            .unwrap()
                            .expect("features");
                        let both = features.of(&[x, made].concat()).unwrap();
                        let (a, b) = both.split_at(both.len() / 2);
                        let apart = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
                        (residual.clone(), apart.sum::<f64>() / a.len() as f64)
                    }
                };
                close(&what, found.score, score, 2e-3);
                for (&got, &want) in map.iter().zip(&places) {
                    assert!((f64::from(got) - want).abs() < 2e-3, "{what}, map: {got} and not {want}");
                }
            }
        }
    }
    assert!(systems >= 10, "{systems} systems reconstruct");
}

#[test]
fn common_scores_are_what_they_say_on_cpu() {
    scores_are_what_they_say(&cpu());
}

#[test]
fn devices_agree_on_common_scores() {
    let queries = images(Split::Test, 4);
    for system in ["ae", "ganomaly", "f-anogan", "anogan"] {
        let model = model(&cpu(), system, &TINY, true);
        for name in ["residual", "ssim", "features"] {
            let on = |device: &Device| found(device, &model, name, &queries, 4);
            for (a, b) in on(&gpu()).iter().zip(on(&cpu())) {
                close(&format!("{system} {name}"), a.score, b.score, 1e-3);
            }
        }
    }
}

#[test]
fn systems_and_samples_that_cannot_have_a_common_score_say_so() {
    let table = Config { form: Form::Table, size: Size::square(1), channels: 12, latent: 3, ..TINY };
    let refused = |system: &str, config: &Config, score: &str| {
        let model = model(&cpu(), system, config, false);
        let scorer = Scorer::new(&cpu(), &model, Path::new("tiny"), &settings(score), 2);
        scorer.err().unwrap_or_else(|| panic!("{system} has {score}")).to_string()
    };
    assert!(refused("deep-svdd", &TINY, "ssim").contains("reconstructs nothing"));
    assert!(refused("pca", &TINY, "features").contains("no network"));
    assert!(refused("ae", &table, "ssim").contains("no windows"));
    assert!(refused("ae", &TINY, "nonsense").contains("one of reconstruction, residual, ssim, features"));
    let model = model(&cpu(), "ae", &table, false);
    let rows = numbers(4 * 12, 7);
    for found in found(&cpu(), &model, "residual", &rows, 4) {
        assert!(found.score > 0.0 && found.map.is_none());
    }
}

/// Half the contrast and other brightness are the same image to a model of standardised images, and another
/// to others; reconstructions come back in the range of the query.
#[test]
fn standardised_images_have_neither_brightness_nor_contrast() {
    let queries = images(Split::Test, 3);
    let dim: Vec<f32> = queries.iter().map(|v| 0.5 * v + 0.3).collect();
    for device in [cpu(), gpu()] {
        for system in ["pca", "ae", "anogan"] {
            // Not searched: where a search starts depends on the last bit of the query.
            let score = if system == "anogan" { "pd" } else { "" };
            let apart = |standardise: bool| {
                let model = model(&device, system, &TINY, standardise);
                let score = |images: &[f32]| found(&device, &model, score, images, 3);
                let (a, b) = (score(&queries), score(&dim));
                let scale = a.iter().map(|f| f.score.abs()).fold(0.0, f64::max);
                let worst =
                    a.iter().zip(&b).map(|(a, b)| (a.score - b.score).abs() / scale).fold(0.0, f64::max);
                (worst, a, b)
            };
            let ((same, a, b), (other, ..)) = (apart(true), apart(false));
            assert!(same < 1e-4, "{system}: {same}");
            assert!(other > 100.0 * same.max(1e-6), "{system}: {other} where nothing is standardised");
            for (a, b) in a.iter().zip(&b) {
                let (Some(a), Some(b)) = (&a.reconstruction, &b.reconstruction) else { continue };
                let apart = a.iter().zip(b).map(|(a, b)| (0.5 * a + 0.3 - b).abs()).fold(0.0, f32::max);
                // Clipped values aside, which the query's own range ends.
                assert!(apart < 1e-2 || a.iter().any(|v| v.abs() == 1.0), "{system}: {apart}");
            }
        }
    }
}

#[test]
fn an_image_of_one_colour_is_scored() {
    for system in ["pca", "ae", "ganomaly"] {
        let model = model(&cpu(), system, &TINY, true);
        let len = TINY.sample_len();
        let queries = [vec![-1.0; len], vec![0.2; len], vec![1.0; len]].concat();
        let found = found(&cpu(), &model, "", &queries, 3);
        assert!(found.iter().all(|f| f.score.is_finite() && f.score == found[0].score), "{system}");
    }
}
