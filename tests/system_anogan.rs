//! AnoGAN as a whole: training, latent search and scores of a tiny model on built-in retina scans.

use std::path::Path;
use std::sync::OnceLock;

use crate::common::{self, assert_close, cpu, gpu, header};
use ganomede::device::Device;
use ganomede::models::file::{ModelFile, NamedTensor, Storage};
use ganomede::models::scorer::{Found, ScoreConfig, Scorer, Watch, compiled, load};
use ganomede::models::search::{Search, SearchConfig};
use ganomede::models::{Config, Form, Prior, Size, Training};
use ganomede::program::StateId;
use ganomede::train::{Trainer, part_program};
use ganomede_datasets::Split;

const BATCH: usize = 8;
const TINY: Config = Config {
    form: Form::Image,
    size: Size::square(16),
    channels: 1,
    width: 4,
    latent: 8,
    prior: Prior::Uniform,
    kernel: 4,
};

/// The first images of a split, one after the other.
fn images(config: &Config, split: Split, count: usize) -> Vec<f32> {
    common::images(config, "builtin:retina:train=64,test=64", split, count)
}

/// Trains for some steps on the first images in turn; returns the trainer and the losses of every step.
fn trained(device: &Device, config: &Config, batch: usize, steps: usize) -> (Trainer, Vec<f32>) {
    let all = images(config, Split::Train, 64);
    let len = batch * config.images(1).iter().product::<usize>();
    let mut trainer = Trainer::new(device, header("anogan", config, batch, &[]), None, &[]).unwrap();
    let mut losses = vec![];
    for step in 0..steps {
        let start = step * len % (all.len() - len + 1);
        let start = start - start % config.images(1).iter().product::<usize>();
        losses.extend(trainer.step(&all[start..start + len]).unwrap().into_iter().map(|(_, loss)| loss));
    }
    assert!(losses.iter().all(|l| l.is_finite()), "{losses:?}");
    (trainer, losses)
}

/// A model trained on the CPU until its images are no noise, made once.
fn model() -> &'static ModelFile {
    static MODEL: OnceLock<ModelFile> = OnceLock::new();
    MODEL.get_or_init(|| trained(&cpu(), &TINY, BATCH, 300).0.model().unwrap())
}

fn scorer_of(device: &Device, model: &ModelFile, config: &ScoreConfig, queries: usize) -> Scorer {
    Scorer::new(device, model, Path::new("tiny.safetensors"), config, queries)
        .unwrap_or_else(|e| panic!("{e}"))
}

fn scorer(config: &ScoreConfig, queries: usize) -> Scorer {
    scorer_of(&cpu(), model(), config, queries)
}

fn steps(steps: usize) -> ScoreConfig {
    searched(SearchConfig { steps, ..SearchConfig::default() })
}

fn searched(search: SearchConfig) -> ScoreConfig {
    ScoreConfig { search, ..ScoreConfig::default() }
}

fn pd() -> ScoreConfig {
    ScoreConfig { score: "pd".to_owned(), ..ScoreConfig::default() }
}

/// Asserts that two searches of one image found the same, to the last bit.
fn assert_same_search(what: &str, a: &Found, b: &Found) {
    assert_eq!(a, b, "{what}");
}

#[test]
fn a_batch_of_searches_is_as_many_single_searches() {
    let len = TINY.images(1).iter().product::<usize>();
    let queries = images(&TINY, Split::Test, 5);
    for restarts in [1, 2] {
        let config = searched(SearchConfig { steps: 40, restarts, ..SearchConfig::default() });
        let together = scorer(&config, 5).score(&queries, None).unwrap();
        assert_eq!(together.len(), 5);
        let mut single = scorer(&config, 1);
        for (i, image) in queries.chunks(len).enumerate() {
            let alone = single.score(image, None).unwrap();
            assert_same_search(&format!("{restarts} restarts, query {i}"), &together[i], &alone[0]);
        }
    }
}

#[test]
fn a_score_depends_on_neither_order_nor_company_nor_repetition() {
    let len = TINY.images(1).iter().product::<usize>();
    let queries = images(&TINY, Split::Test, 6);
    let mut scorer = scorer(&steps(40), 6);
    let first = scorer.score(&queries, None).unwrap();
    assert_eq!(scorer.score(&queries, None).unwrap(), first, "the same again, to the last bit");

    let order = [4, 0, 5, 2, 1, 3];
    let shuffled: Vec<f32> = order.iter().flat_map(|&i| queries[i * len..][..len].iter().copied()).collect();
    for (found, &i) in scorer.score(&shuffled, None).unwrap().iter().zip(&order) {
        assert_same_search(&format!("shuffled, query {i}"), found, &first[i]);
    }
    // A last batch that is not full, and one image many times.
    let part = scorer.score(&queries[2 * len..4 * len], None).unwrap();
    assert_eq!(part.len(), 2);
    assert_same_search("part of a batch", &part[0], &first[2]);
    assert_same_search("part of a batch", &part[1], &first[3]);
    let repeated: Vec<f32> = queries[3 * len..4 * len].iter().copied().cycle().take(6 * len).collect();
    for found in scorer.score(&repeated, None).unwrap() {
        assert_same_search("repeated", &found, &first[3]);
    }
}

/// The programs of a search change the states of the search only: weights and running statistics keep every
/// bit.
fn scoring_changes_no_weight(device: &Device) {
    let config = SearchConfig { tolerance: 1e-3, clip_z: true, steps: 3, ..SearchConfig::default() };
    let mut search = None;
    let file = Some((model(), Path::new("tiny")));
    let loaded = load(device, &model().header, file, false, |system, states| {
        search = Some(Search::new(states, system, "anogan", &config, 4));
    });
    let loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
    let (search, net, store) = (search.unwrap(), loaded.system.latent().unwrap(), &loaded.store);
    let weights = || -> Vec<(String, Vec<u32>)> {
        let entries = loaded.states.entries().iter().enumerate().take(loaded.weights);
        let bits = |i| store.read(StateId(i)).unwrap().iter().map(|v| v.to_bits()).collect();
        entries.map(|(i, e)| (e.name.clone(), bits(i))).collect()
    };
    let before = weights();
    assert!(before.iter().any(|(name, _)| name.ends_with("running_var")));
    let load = |record: &dyn Fn(&ganomede::tape::Tape)| {
        device.load(&compiled(|tape| record(tape)).unwrap(), store).unwrap()
    };
    let mut prepare = load(&|tape| search.prepare(tape, net, false));
    let mut step = load(&|tape| search.step(tape, net));
    let mut finish = load(&|tape| search.finish(tape, net));
    prepare.write("x", &images(&TINY, Split::Test, 4)).unwrap();
    prepare.write("z", &[0.1; 4 * 8]).unwrap();
    prepare.run(1).unwrap();
    finish.run(1).unwrap();
    let start = finish.read("loss").unwrap();
    step.run(3).unwrap();
    finish.run(1).unwrap();
    assert_ne!(finish.read("loss").unwrap(), start, "the search did search");
    assert_eq!(weights(), before);
}

#[test]
fn scoring_changes_no_weight_on_the_cpu() {
    scoring_changes_no_weight(&cpu());
}

#[test]
fn scoring_changes_no_weight_on_the_gpu() {
    scoring_changes_no_weight(&gpu());
}

#[test]
fn the_search_lowers_the_loss_of_training_images() {
    let queries = images(&TINY, Split::Train, 64);
    let (mut start, mut end) = (vec![], vec![]);
    let mut watch = |step: usize, found: &[Found]| {
        let losses: Vec<f64> = found.iter().map(|f| f.score).collect();
        *(if step == 0 { &mut start } else { &mut end }) = losses;
    };
    scorer(&steps(60), 64).score(&queries, Some(Watch { stages: &[0], see: &mut watch })).unwrap();
    let lower = start.iter().zip(&end).filter(|(a, b)| b < a).count();
    assert!(lower >= 61, "the search lowered the loss of {lower} of 64 training images");
}

#[test]
fn scores_are_made_of_the_losses_that_the_paper_names() {
    let len = TINY.images(1).iter().product::<usize>();
    let queries = images(&TINY, Split::Test, 3);
    for score in ["anogan", "reference"] {
        let search = SearchConfig { lambda: 0.25, steps: 10, ..SearchConfig::default() };
        let config = ScoreConfig { score: score.to_owned(), ..searched(search) };
        for (found, x) in scorer(&config, 3).score(&queries, None).unwrap().iter().zip(queries.chunks(len)) {
            let image = found.reconstruction.as_ref().unwrap();
            let part = |name| found.part(name).unwrap();
            let residuals: Vec<f32> = x.iter().zip(image).map(|(x, g)| (x - g).abs()).collect();
            let residual: f32 = residuals.iter().sum();
            assert_close("residual loss", &[part("residual")], &[residual], 1e-4);
            assert_close("residual map", found.map.as_ref().unwrap(), &residuals, 1e-5);
            assert!(part("discrimination") >= 0.0);
            let sum = 0.75 * part("residual") + 0.25 * part("discrimination");
            assert_close("score", &[found.score as f32], &[sum], 1e-5);
            assert_eq!((found.z.len(), image.len()), (8, len));
            assert!(image.iter().all(|v| v.abs() <= 1.0));
        }
    }
    let found = scorer(&pd(), 4).score(&queries, None).unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.windows(2).all(|w| w[0].score != w[1].score), "other images have other scores");
    for found in found {
        assert!((0.0..=1.0).contains(&found.score), "1 − D(x) is {}", found.score);
        assert!(found.z.is_empty() && found.map.is_none() && found.reconstruction.is_none());
    }
}

#[test]
fn restarts_never_raise_the_loss() {
    let queries = images(&TINY, Split::Test, 8);
    let mut before: Option<Vec<f64>> = None;
    let mut gained = 0;
    for restarts in [1, 2, 5] {
        let config = searched(SearchConfig { restarts, steps: 30, ..SearchConfig::default() });
        let scores: Vec<f64> =
            scorer(&config, 8).score(&queries, None).unwrap().iter().map(|f| f.score).collect();
        if let Some(before) = &before {
            // The starts of fewer restarts are among those of more.
            assert!(before.iter().zip(&scores).all(|(few, many)| many <= few), "{before:?} {scores:?}");
            gained += before.iter().zip(&scores).filter(|(few, many)| *many < &(*few * 0.999)).count();
        }
        before = Some(scores);
    }
    assert!(gained > 0, "other starts found something better for some query");
}

#[test]
fn early_stop_stops_and_finds_nearly_the_same() {
    let queries = images(&TINY, Split::Train, 8);
    let full = scorer(&steps(400), 8).score(&queries, None).unwrap();
    let mut done = 0;
    let mut watch = |step: usize, _: &[Found]| done = step;
    // Below what a search gains between two looks where it rests before the step size falls: one of these
    // images does.
    let config = searched(SearchConfig { tolerance: 2e-4, steps: 400, ..SearchConfig::default() });
    let stopped = scorer(&config, 8).score(&queries, Some(Watch { stages: &[], see: &mut watch })).unwrap();
    assert!((25..400).contains(&done), "stopped at step {done}");
    for (a, b) in stopped.iter().zip(&full) {
        assert!(
            (a.score - b.score).abs() <= 0.05 * b.score,
            "{} with early stop, {} without",
            a.score,
            b.score
        );
    }
}

/// Queries that have converged leave the batch: the steps computed are those of batches that halve, and every
/// query finds what it finds alone.
fn converged_queries_leave_the_batch(device: &Device, restarts: usize) {
    const LOOK: usize = 25;
    let len = TINY.images(1).iter().product::<usize>();
    // Most of them are images whose search stands still early.
    let first = images(&TINY, Split::Train, 7);
    let queries: Vec<f32> =
        [3, 4, 0, 3, 4, 1, 3].iter().flat_map(|&i| first[i * len..][..len].iter().copied()).collect();
    let search = SearchConfig { tolerance: 5e-3, steps: 200, restarts, ..SearchConfig::default() };
    let config = searched(search);
    // Each start alone, as the only restart of its query: the step by which the host sees that it stands
    // still.
    let mut single = scorer_of(device, model(), &config, 1);
    let mut ends = vec![];
    let mut alone = vec![];
    for image in queries.chunks(len) {
        let mut end = 0;
        let mut watch = |step: usize, _: &[Found]| end = step;
        alone.extend(single.score(image, Some(Watch { stages: &[], see: &mut watch })).unwrap());
        ends.push(end);
    }
    assert!(ends.iter().any(|end| end != &ends[0]), "some converge before others: {ends:?}");

    let mut together = scorer_of(device, model(), &config, 7);
    let found = together.score(&queries, None).unwrap();
    for (i, (found, alone)) in found.iter().zip(&alone).enumerate() {
        assert_same_search(&format!("{restarts} restarts, query {i}"), found, alone);
    }
    if restarts == 1 {
        let (mut lanes, mut expected) = (7_usize, 0);
        for at in (0..200).step_by(LOOK) {
            let active = ends.iter().filter(|&&end| end > at).count();
            while lanes.div_ceil(2) >= active && lanes > 1 {
                lanes = lanes.div_ceil(2);
            }
            expected += if active > 0 { LOOK * lanes } else { 0 };
        }
        assert_eq!(together.lane_steps(), expected as u64, "{ends:?}");
        assert!(expected < 7 * ends.iter().max().unwrap(), "{ends:?}");
    }
    // Any order and company, and the same scorer again.
    let order = [6, 2, 0, 5];
    let some: Vec<f32> = order.iter().flat_map(|&i| queries[i * len..][..len].iter().copied()).collect();
    for (found, &i) in together.score(&some, None).unwrap().iter().zip(&order) {
        assert_same_search(&format!("{restarts} restarts, shuffled, query {i}"), found, &alone[i]);
    }
    let mut wide = scorer_of(device, model(), &config, 64);
    for (i, (found, alone)) in wide.score(&queries, None).unwrap().iter().zip(&alone).enumerate() {
        assert_same_search(&format!("{restarts} restarts, query {i} of a batch of 64"), found, alone);
    }
    assert_eq!(together.score(&queries, None).unwrap(), found, "the same again, to the last bit");
}

#[test]
fn converged_queries_leave_the_batch_on_the_cpu() {
    converged_queries_leave_the_batch(&cpu(), 1);
    converged_queries_leave_the_batch(&cpu(), 2);
}

#[test]
fn converged_queries_leave_the_batch_on_the_gpu() {
    converged_queries_leave_the_batch(&gpu(), 1);
}

#[test]
fn clipped_latents_stay_in_the_support_of_the_prior() {
    let queries = images(&TINY, Split::Test, 6);
    let largest = |clip_z| {
        let config = searched(SearchConfig { clip_z, lr: 0.2, steps: 30, ..SearchConfig::default() });
        let found = scorer(&config, 6).score(&queries, None).unwrap();
        found.iter().flat_map(|f| f.z.clone()).fold(0.0_f32, |m, v| m.max(v.abs()))
    };
    assert!(largest(false) > 1.0, "without clipping some latent leaves [−1, 1]");
    assert!(largest(true) <= 1.0);
}

#[test]
fn both_devices_give_the_same_scores() {
    let queries = images(&TINY, Split::Test, 4);
    let twice = SearchConfig { restarts: 2, clip_z: true, steps: 40, ..SearchConfig::default() };
    let reference = ScoreConfig { score: "reference".to_owned(), ..searched(twice) };
    for config in [steps(40), reference, pd()] {
        let on = |device: &Device| scorer_of(device, model(), &config, 4).score(&queries, None).unwrap();
        for (i, (a, b)) in on(&gpu()).iter().zip(on(&cpu())).enumerate() {
            let relative = (a.score - b.score).abs() / b.score.abs();
            assert!(relative <= 1e-3, "{:?}, query {i}: {} and {}", config.score, a.score, b.score);
        }
    }
}

fn training_twice_gives_the_same_bits(device: &Device) {
    let run = || {
        let (trainer, losses) = trained(device, &TINY, BATCH, 5);
        let tensors = trainer.checkpoint().unwrap().tensors.into_iter();
        let bits: Vec<(String, Vec<u32>)> =
            tensors.map(|t| (t.name, t.values.iter().map(|v| v.to_bits()).collect())).collect();
        (losses, bits)
    };
    let (first, second) = (run(), run());
    assert_eq!(first.0, second.0, "losses");
    for (a, b) in first.1.iter().zip(&second.1) {
        assert_eq!(a, b, "{}", a.0);
    }
}

#[test]
fn training_twice_gives_the_same_bits_on_the_cpu() {
    training_twice_gives_the_same_bits(&cpu());
}

#[test]
fn training_twice_gives_the_same_bits_on_the_gpu() {
    training_twice_gives_the_same_bits(&gpu());
}

#[test]
fn every_size_and_colour_trains_and_searches() {
    for size in [16, 32, 64, 128, 256] {
        for channels in [1, 3] {
            for kernel in [4, 5] {
                let form = Form::Image;
                let config = Config {
                    form,
                    size: size.into(),
                    channels,
                    width: 2,
                    latent: 3,
                    prior: Prior::Normal,
                    kernel,
                };
                let (trainer, losses) = trained(&cpu(), &config, 2, 1);
                assert_eq!(losses.len(), 4);
                let query = images(&config, Split::Test, 1);
                let model = trainer.model().unwrap();
                let found = scorer_of(&cpu(), &model, &steps(1), 1).score(&query, None).unwrap();
                assert_eq!(found[0].reconstruction.as_ref().unwrap().len(), channels * size * size);
                assert_eq!(found[0].map.as_ref().unwrap().len(), size * size);
            }
        }
    }
}

#[test]
fn the_bytes_reported_are_those_of_the_program() {
    let header = header("anogan", &TINY, BATCH, &[]);
    let mut held = vec![];
    let mut peak = 0;
    for device in [cpu(), gpu()] {
        let loaded = load(&device, &header, None, true, |system, states| {
            system.register_training(states, Training::default(), 0);
        });
        let loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
        let program = part_program(loaded.system.as_ref(), 0, 0, BATCH).unwrap().program;
        let executable = device.load(&program, &loaded.store).unwrap();
        let trainer = Trainer::new(&device, header.clone(), None, &[]).unwrap();
        let (states, own) = (loaded.store.bytes(), executable.bytes());
        assert_eq!(states, device.store_bytes(&loaded.states.lens()), "{}", device.describe());
        assert_eq!(own, device.program_bytes(&program).unwrap(), "{}", device.describe());
        assert!(states + own >= program.peak_bytes());
        // Beside them there is the program that draws sample grids.
        assert!(trainer.bytes() > states + own, "{}", device.describe());
        (held, peak) = (loaded.states.lens(), program.peak_bytes());
    }
    let states: u64 = held.iter().map(|&len| 4 * len as u64).sum();
    let batch = 4 * (BATCH * TINY.images(1).iter().product::<usize>()) as u64;
    assert!(peak > states + batch, "states {states} and one batch {batch} are the least");
}

#[test]
fn a_model_in_halves_takes_less_of_a_gpu_and_scores_the_same_as_its_weights_in_f32() {
    let mut halves = model().clone();
    halves.halve_weights();
    let mut whole = halves.clone();
    whole.tensors.iter_mut().for_each(|t| t.storage = Storage::F32);
    let query = images(&TINY, Split::Test, 3);
    for score in [steps(3), pd()] {
        let found = |device: &Device, model: &ModelFile| {
            let mut scorer = scorer_of(device, model, &score, 3);
            (scorer.score(&query, None).unwrap(), scorer.bytes())
        };
        let ((on_gpu, less), (expected, bytes)) = (found(&gpu(), &halves), found(&gpu(), &whole));
        assert_eq!(on_gpu, expected);
        // Every weight that the score reads and nothing else, in halves.
        let weights = halves.tensors.iter().filter(|t| t.storage == Storage::F16).map(|t| t.values.len());
        let most = 2 * weights.sum::<usize>() as u64;
        assert!(bytes - less <= most && bytes > less, "{bytes} and {less} bytes, {most} of them weights");
        if score.score.is_empty() {
            let kept =
                |t: &&NamedTensor| t.storage == Storage::F16 && t.name != "discriminator.output.weight";
            let read: usize = halves.tensors.iter().filter(kept).map(|t| t.values.len()).sum();
            assert_eq!(bytes - less, 2 * read as u64);
        }
        // The CPU keeps them in f32.
        assert_eq!(found(&cpu(), &halves), found(&cpu(), &whole));
    }
}

#[test]
fn any_part_of_a_training_step_can_run_on_the_gpu() {
    let Device::Gpu(adapter) = gpu() else { panic!("`gpu` opens a GPU") };
    let (reference, wanted) = trained(&cpu(), &TINY, BATCH, 2);
    let weights = |trainer: &Trainer| trainer.model().unwrap().tensors;
    let start = weights(&trained(&cpu(), &TINY, BATCH, 0).0);
    for range in [0..40, 40..80, 20..usize::MAX] {
        let (mixed, losses) = trained(&Device::Mixed(adapter.clone(), range.clone()), &TINY, BATCH, 2);
        assert_close(&format!("losses with launches {range:?} on the GPU"), &losses, &wanted, 1e-4);
        for ((a, b), start) in weights(&mixed).iter().zip(&weights(&reference)).zip(&start) {
            // Two steps of 1e-3 are small beside the weights: what is compared is how far they went.
            let moved = |end: &NamedTensor| -> Vec<f64> {
                end.values.iter().zip(&start.values).map(|(e, s)| f64::from(e - s)).collect()
            };
            let (a, b) = (moved(a), moved(b));
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            let apart = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied());
            assert!(
                apart < 1e-3,
                "'{}' with launches {range:?} on the GPU: {apart:e} of its way",
                start.name
            );
        }
    }
}
