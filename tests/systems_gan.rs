//! GANomaly, EGBAD, Skip-GANomaly, ADAE, DAGAN and BeatGAN as wholes: what holds for every system, and the
//! mistakes that their published implementations are known for.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{TINY, assert_close, cpu, difference, gpu, header, images, numbers};
use ganomede::device::Device;
use ganomede::models::file::{Header, ModelFile};
use ganomede::models::scorer::{Found, ScoreConfig, Scorer, compiled, load};
use ganomede::models::{Config, Form, Info, Options, Size, find};
use ganomede::program::StateId;
use ganomede::tape::States;
use ganomede::train::Trainer;
use ganomede_datasets::Split;

const NAMES: [&str; 6] = ["ganomaly", "egbad", "skip-ganomaly", "adae", "dagan", "beatgan"];
const BATCH: usize = 8;
/// Windows of two channels.
const SIGNAL: Config = Config { form: Form::Signal, size: Size::square(32), channels: 2, ..TINY };
/// Rows of eleven features.
const TABLE: Config = Config { form: Form::Table, size: Size::square(1), channels: 11, ..TINY };

fn info(name: &str) -> &'static Info {
    find(name).unwrap_or_else(|| panic!("{name} is no system"))
}

/// The first samples of a split, one after the other; smooth waves and numbers where they are no gray images.
fn samples(config: &Config, split: Split, count: usize) -> Vec<f32> {
    if config.form != Form::Image || config.channels != 1 {
        let noise = numbers(count * config.sample_len(), if split == Split::Train { 1 } else { 2 });
        return noise.iter().enumerate().map(|(i, n)| 0.8 * (i as f32 / 3.0).sin() + 0.2 * n).collect();
    }
    images(config, "builtin:retina:train=64,test=64", split, count)
}

/// Batch `step` of eight batches in turn.
fn batch(all: &[f32], step: usize) -> &[f32] {
    let len = all.len() / 8;
    &all[step % 8 * len..][..len]
}

type Losses = Vec<BTreeMap<&'static str, f32>>;

/// Trains for some steps; returns the trainer and the losses of every step, all of them finite.
fn trained(device: &Device, header: Header, steps: usize) -> (Trainer, Losses) {
    let all = samples(&header.config, Split::Train, 8 * header.batch);
    let name = header.system.clone();
    let mut trainer = Trainer::new(device, header, None, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
    let losses: Losses =
        (0..steps).map(|step| trainer.step(batch(&all, step)).unwrap().into_iter().collect()).collect();
    assert!(losses.iter().flat_map(BTreeMap::values).all(|v| v.is_finite()), "{name}: {losses:?}");
    (trainer, losses)
}

fn model(name: &str, config: &Config, steps: usize) -> ModelFile {
    trained(&cpu(), header(name, config, BATCH, &[]), steps).0.model().unwrap()
}

fn scorer(device: &Device, model: &ModelFile, score: &str, batch: usize) -> Scorer {
    let config = ScoreConfig { score: score.to_owned(), ..ScoreConfig::default() };
    Scorer::new(device, model, Path::new("tiny"), &config, batch).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn training_learns_to_reconstruct() {
    // Without a margin ADAE's discriminator gains without end at this step size, and G follows it away from
    // the images.
    for (name, loss, fraction, options) in [
        ("ganomaly", "con", 0.6, &[][..]),
        ("skip-ganomaly", "con", 0.5, &[]),
        ("adae", "recon", 0.7, &[("margin", "0.1")]),
        ("dagan", "gcon", 0.6, &[]),
        ("beatgan", "rec", 0.5, &[]),
    ] {
        let (_, losses) = trained(&cpu(), header(name, &TINY, BATCH, options), 150);
        let mean = |part: &[BTreeMap<_, f32>]| part.iter().map(|l| l[loss]).sum::<f32>() / part.len() as f32;
        let (start, end) = (mean(&losses[..3]), mean(&losses[147..]));
        assert!(end < fraction * start, "{name}: {loss} goes from {start} to {end}");
    }
}

/// Nothing of a test set is in a score: neither its order nor its other samples, nor how they are batched.
#[test]
fn a_score_depends_on_neither_order_nor_company_nor_repetition() {
    let len = TINY.sample_len();
    let queries = samples(&TINY, Split::Test, 6);
    for name in NAMES {
        let model = model(name, &TINY, 20);
        for score in info(name).scores {
            let what = format!("{name}, {}", score.name);
            let mut together = scorer(&cpu(), &model, score.name, 6);
            let first = together.score(&queries, None).unwrap();
            assert_eq!(together.score(&queries, None).unwrap(), first, "{what}: again");
            let distinct = first.windows(2).all(|w| w[0].score != w[1].score);
            assert!(distinct, "{what}: other samples have other scores");

            let mut alone = scorer(&cpu(), &model, score.name, 1);
            for (i, query) in queries.chunks(len).enumerate() {
                assert_eq!(&alone.score(query, None).unwrap()[0], &first[i], "{what}");
            }
            let order = [4, 0, 5, 2, 1, 3];
            let shuffled: Vec<f32> = order.iter().flat_map(|&i| queries[i * len..][..len].to_vec()).collect();
            for (found, &i) in together.score(&shuffled, None).unwrap().iter().zip(&order) {
                assert_eq!(found, &first[i], "{what}, shuffled");
            }
            // A last batch that is not full is scored whole, and as it would be alone.
            let part = together.score(&queries[4 * len..], None).unwrap();
            assert_eq!(part.len(), 2);
            assert_eq!(&part[1], &first[5], "{what}, part of a batch");
        }
    }
}

/// Bits of all states by name, of a loaded model.
fn scoring_changes_no_state(device: &Device) {
    for name in NAMES {
        let model = model(name, &TINY, 3);
        let loaded = load(device, &model.header, Some((&model, Path::new("tiny"))), false, |_, _| {});
        let loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
        let states = || -> Vec<(String, Vec<u32>)> {
            let bits = |i| loaded.store.read(StateId(i)).unwrap().iter().map(|v| v.to_bits()).collect();
            loaded.states.entries().iter().enumerate().map(|(i, e)| (e.name.clone(), bits(i))).collect()
        };
        let before = states();
        assert!(before.iter().any(|(name, _)| name.ends_with("running_var")));
        for score in info(name).scores {
            let program = compiled(|tape| {
                let x = tape.input("x", &TINY.images(4));
                tape.output("score", loaded.system.score(tape, x, score.name).score);
            });
            let mut executable = device.load(&program.unwrap(), &loaded.store).unwrap();
            executable.write("x", &samples(&TINY, Split::Test, 4)).unwrap();
            executable.run(3).unwrap();
            assert_eq!(states(), before, "{name}, {}", score.name);
        }
    }
}

#[test]
fn scoring_changes_no_state_on_the_cpu() {
    scoring_changes_no_state(&cpu());
}

#[test]
fn scoring_changes_no_state_on_the_gpu() {
    scoring_changes_no_state(&gpu());
}

fn resumed_training_has_the_same_bits(device: &Device, names: &[&str]) {
    for name in names {
        let all = samples(&TINY, Split::Train, 64);
        let mut whole = trained(device, header(name, &TINY, BATCH, &[]), 3).0;
        let file = whole.checkpoint().unwrap();
        let path = Path::new("checkpoint");
        let mut resumed = Trainer::new(device, file.header.clone(), Some((&file, path)), &[]).unwrap();
        for step in 3..6 {
            let (a, b) = (whole.step(batch(&all, step)).unwrap(), resumed.step(batch(&all, step)).unwrap());
            assert_eq!(a, b, "{name}, losses of step {step}");
        }
        let [a, b] = [&whole, &resumed].map(|t| t.checkpoint().unwrap().tensors);
        for (a, b) in a.iter().zip(&b) {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&a.values), bits(&b.values), "{name}: {}", a.name);
        }
    }
}

#[test]
fn resumed_training_has_the_same_bits_on_the_cpu() {
    resumed_training_has_the_same_bits(&cpu(), &NAMES);
}

#[test]
fn resumed_training_has_the_same_bits_on_the_gpu() {
    resumed_training_has_the_same_bits(&gpu(), &["egbad"]);
}

/// First losses (later ones may drift), and all scores of one model.
#[test]
fn both_devices_agree() {
    for (name, config) in NAMES.map(|name| (name, &TINY)).into_iter().chain([("egbad", &TABLE)]) {
        let of = |device: &Device| trained(device, header(name, config, BATCH, &[]), 2).1;
        for (ours, theirs) in of(&gpu()).iter().zip(of(&cpu())) {
            for (loss, value) in ours {
                let apart = (value - theirs[loss]).abs();
                assert!(apart <= 1e-3 * theirs[loss].abs().max(1e-3), "{name}, {loss}: {value}, {theirs:?}");
            }
        }
        let (model, queries) = (model(name, config, 10), samples(config, Split::Test, 3));
        for score in info(name).scores {
            let on = |device: &Device| scorer(device, &model, score.name, 3).score(&queries, None).unwrap();
            for (a, b) in on(&gpu()).iter().zip(on(&cpu())) {
                let relative = (a.score - b.score).abs() / b.score.abs();
                assert!(relative <= 1e-3, "{name}, {}: {} and {}", score.name, a.score, b.score);
            }
        }
    }
}

#[test]
fn every_size_colour_and_kernel_trains_and_scores() {
    for name in NAMES {
        for (size, channels, kernel) in
            [(16, 3, 5), (32, 1, 4), (32, 3, 5), (64, 1, 5), (128, 3, 4), (256, 1, 4)]
        {
            let config = Config { size: size.into(), channels, kernel, width: 2, latent: 3, ..TINY };
            let (trainer, _) = trained(&cpu(), header(name, &config, 2, &[]), 1);
            let query = samples(&config, Split::Test, 1);
            let model = trainer.model().unwrap();
            let found = scorer(&cpu(), &model, "", 1).score(&query, None).unwrap();
            assert_eq!(found[0].reconstruction.as_ref().unwrap().len(), config.sample_len(), "{name}");
            assert_eq!(found[0].map.as_ref().unwrap().len(), size * size, "{name}");
        }
    }
}

#[test]
fn windows_of_signals_train_and_score() {
    for name in NAMES {
        for kernel in [4, 5] {
            let config = Config { kernel, ..SIGNAL };
            let model = model(name, &config, 3);
            for score in info(name).scores {
                let queries = samples(&config, Split::Test, 2);
                let found = scorer(&cpu(), &model, score.name, 2).score(&queries, None).unwrap();
                assert_eq!(found[0].reconstruction.as_ref().unwrap().len(), 64, "{name}");
                assert_eq!(found[0].map.as_ref().unwrap().len(), 32, "{name}");
                assert_ne!(found[0].score, found[1].score, "{name}, {}", score.name);
            }
        }
    }
}

#[test]
fn rows_of_tables_are_for_egbad_alone() {
    let model = model("egbad", &TABLE, 20);
    let shape = |name: &str| model.tensors.iter().find(|t| t.name == name).map(|t| t.shape.clone());
    assert_eq!(shape("encoder.0.weight"), Some(vec![4, 11]));
    assert_eq!(shape("generator.2.weight"), Some(vec![11, 8]));
    assert_eq!(shape("discriminator.f.0.weight"), Some(vec![8, 16]));
    let found = scorer(&cpu(), &model, "", 5).score(&samples(&TABLE, Split::Test, 5), None).unwrap();
    assert!(found.iter().all(|f| f.map.is_none() && f.reconstruction.as_ref().unwrap().len() == 11));

    for name in ["ganomaly", "skip-ganomaly", "adae", "dagan", "beatgan"] {
        let options = Options::new(info(name).options, []).unwrap();
        let refused = info(name).build(&mut States::new(), &TABLE, &options).err().unwrap().to_string();
        assert!(refused.contains("form is table") && refused.contains("image or signal"), "{refused}");
    }
}

/// Data and reconstructions have one range. (Digits scaled to [−0.42, 2.82] under a tanh could never be
/// reconstructed.)
#[test]
fn reconstructions_have_the_range_of_the_data() {
    let queries = samples(&TINY, Split::Test, 4);
    assert!(queries.iter().all(|v| v.abs() <= 1.0) && queries.iter().any(|v| *v < 0.0));
    for name in NAMES {
        for found in scorer(&cpu(), &model(name, &TINY, 5), "", 4).score(&queries, None).unwrap() {
            assert!(found.reconstruction.unwrap().iter().all(|v| v.abs() <= 1.0), "{name}");
        }
    }
}

#[test]
fn scores_are_made_of_the_parts_that_the_papers_name() {
    let queries = samples(&TINY, Split::Test, 3);
    let check = |name: &str, score: &str, sum: &dyn Fn(&Found, &[f32]) -> f64| {
        let found = scorer(&cpu(), &model(name, &TINY, 10), score, 3).score(&queries, None).unwrap();
        for (found, x) in found.iter().zip(queries.chunks(TINY.sample_len())) {
            let map = found.map.as_ref().unwrap();
            let made = found.reconstruction.as_ref().unwrap();
            let residuals: Vec<f32> = x.iter().zip(made).map(|(x, made)| (x - made).abs()).collect();
            assert_close(&format!("{name}: map"), map, &residuals, 1e-5);
            let want = sum(found, &residuals);
            let apart = (found.score - want).abs() / want;
            assert!(apart < 1e-4, "{name}, {score}: {} and {want}", found.score);
        }
    };
    let part = |found: &Found, name| f64::from(found.part(name).unwrap());
    let sum = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>();
    let squares = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    check("skip-ganomaly", "code", &|f, r| 0.9 * squares(r) / 256.0 + 0.1 * part(f, "lat"));
    check("skip-ganomaly", "paper", &|f, r| 0.9 * sum(r) + 0.1 * part(f, "lat"));
    check("egbad", "fm", &|f, r| 0.9 * sum(r) + 0.1 * part(f, "discrimination"));
    check("egbad", "cross-e", &|f, r| 0.9 * sum(r) + 0.1 * part(f, "discrimination"));
    check("beatgan", "code", &|_, r| squares(r) / 256.0);
    check("beatgan", "paper", &|_, r| squares(r).sqrt());
    check("adae", "adae", &|_, r| squares(r).sqrt());
    check("dagan", "dagan", &|_, r| squares(r).sqrt());
}

#[test]
fn instance_statistics_are_declared_and_another_score() {
    let queries = samples(&TINY, Split::Test, 3);
    for name in ["ganomaly", "skip-ganomaly"] {
        let model = model(name, &TINY, 20);
        let of = |score| -> Vec<f64> {
            let found = scorer(&cpu(), &model, score, 3).score(&queries, None).unwrap();
            found.iter().map(|f| f.score).collect()
        };
        assert_eq!(of(""), of("code"), "eval mode is the default");
        assert!(of("instance").iter().zip(of("code")).all(|(a, b)| (a - b).abs() > 1e-3 * b), "{name}");
    }
}

/// Tensors of a model after `steps` steps with these options, by name.
fn tensors(name: &str, options: &[(&str, &str)], steps: usize) -> BTreeMap<String, Vec<f32>> {
    let trainer = trained(&cpu(), header(name, &TINY, BATCH, options), steps).0;
    trainer.model().unwrap().tensors.into_iter().map(|t| (t.name, t.values)).collect()
}

/// GANomaly with one encoder for both codes does not converge; L_enc moves both.
#[test]
fn ganomaly_has_two_encoders_and_the_encoder_loss_moves_both() {
    let only_enc = [("w-adv", "0"), ("w-con", "0")];
    let (before, after) = (tensors("ganomaly", &only_enc, 0), tensors("ganomaly", &only_enc, 1));
    let [one, two] = ["generator.encoder1.input.weight", "generator.encoder2.input.weight"];
    assert_ne!(before[one], before[two]);
    assert_ne!(before[one], after[one]);
    assert_ne!(before[two], after[two]);
    assert!(before.keys().all(|k| !k.ends_with("bias") || k.contains("_bn.")), "no bias but batch norm's");
}

#[test]
fn the_variance_of_ganomalys_codes_is_a_loss_to_watch() {
    let (_, losses) = trained(&cpu(), header("ganomaly", &TINY, BATCH, &[]), 2);
    assert!(losses.iter().all(|l| l["var_z"] > 0.0 && l["d_saturated"] == 0.0), "{losses:?}");
}

/// BeatGAN has no second encoder: what D sees in a reconstruction is all that is added to the error.
#[test]
fn beatgans_generator_loss_is_the_error_and_the_features() {
    let (_, losses) = trained(&cpu(), header("beatgan", &SIGNAL, BATCH, &[("w-adv", "3")]), 2);
    for l in &losses {
        assert_close("L_G", &[l["loss_g"]], &[l["rec"] + 3.0 * l["adv"]], 1e-5);
    }
    let alone = |weight| tensors("beatgan", &[("w-adv", weight)], 1);
    let (with, without) = (alone("1"), alone("0"));
    let moved = "generator.encoder.input.weight";
    assert_ne!(with[moved], without[moved], "features move the generator");
    assert_eq!(with["discriminator.input.weight"], without["discriminator.input.weight"]);
    assert!(with.keys().all(|k| !k.starts_with("generator.encoder2")));
}

/// The authors' Skip-GANomaly asks D too to make f agree; here it does where asked to. Its noise that was
/// never filled and its schedule that was never stepped are not here: training draws no random number.
#[test]
fn the_latent_loss_is_in_skip_ganomalys_d_where_asked_for() {
    let first = |d_latent| {
        let (trainer, losses) =
            trained(&cpu(), header("skip-ganomaly", &TINY, BATCH, &[("d-latent", d_latent)]), 1);
        let tensors = trainer.checkpoint().unwrap().tensors;
        assert!(!tensors.iter().any(|t| t.name.starts_with("random")), "no noise");
        losses[0].clone()
    };
    let (without, with) = (first("no"), first("yes"));
    assert_eq!(without["lat"], with["lat"]);
    assert_close("L_D", &[with["loss_d"]], &[without["loss_d"] + without["lat"]], 1e-5);
}

/// EGBAD's averages: every network's own, looked up by none but the scores. (The authors' GAN baseline looked
/// D's up among G's and fell back to raw weights.)
#[test]
fn egbad_scores_with_averages_of_every_weight() {
    let mut model = model("egbad", &TINY, 1);
    // A young model's codes are so small that they do not show in a score: weights of a size that every one
    // counts.
    for (i, tensor) in model.tensors.iter_mut().enumerate() {
        let offset =
            if tensor.name.contains("_bn.weight") || tensor.name.contains("_var") { 1.0 } else { 0.0 };
        let values = numbers(tensor.values.len(), i as u32);
        tensor.values = values.iter().map(|v| offset + 0.3 * v).collect();
    }
    let queries = samples(&TINY, Split::Test, 3);
    let scores = |model: &ModelFile| -> Vec<f64> {
        let of = |score| scorer(&cpu(), model, score, 3).score(&queries, None).unwrap();
        ["fm", "cross-e"].map(of).concat().iter().map(|f| f.score).collect()
    };
    let reference = scores(&model);
    let mut averages = 0;
    for (i, tensor) in model.tensors.iter().enumerate() {
        let mut other = model.clone();
        other.tensors[i].values.iter_mut().for_each(|v| *v = 1.5 * *v + 0.1);
        let counts = tensor.name.starts_with("ema.") || tensor.name.contains("running");
        assert_eq!(scores(&other) != reference, counts, "{}", tensor.name);
        averages += usize::from(tensor.name.starts_with("ema."));
    }
    let learned = model.tensors.iter().filter(|t| !t.name.contains("running")).count();
    assert_eq!(2 * averages, learned, "an average of every weight");
}

#[test]
fn egbads_averages_follow_the_weights() {
    let name = "encoder.0.weight";
    let mut average = vec![];
    for step in 0..4 {
        let at = tensors("egbad", &[], step + 1);
        // A plain mean at first, the decay's once it is longer.
        let decay = (step as f32 / (step as f32 + 1.0)).min(0.999);
        average = match step {
            0 => at[name].clone(),
            _ => average.iter().zip(&at[name]).map(|(e, p)| p + (e - p) * decay).collect(),
        };
        assert!(difference(&at[&format!("ema.{name}")], &average) < 1e-5, "step {step}");
    }
}

/// Without a margin a discriminator gains without end by spoiling what G makes: L_D falls below 0. With one
/// it gains up to the margin and nothing beyond. Batches are of one image, so that what holds for each sample
/// holds for the mean.
#[test]
fn a_margin_bounds_what_a_discriminator_can_gain() {
    // What D reconstructs of real images, and the distance that it makes as large as it can.
    for (name, kept, repelled) in [("adae", "real", "fake"), ("dagan", "dcon", "adv")] {
        let len = TINY.sample_len();
        let images = samples(&TINY, Split::Train, 8);
        let losses = |margin: &str| -> Losses {
            let header = header(name, &TINY, BATCH, &[("margin", margin)]);
            let mut trainer =
                Trainer::new(&cpu(), header, None, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut step = |i: usize| trainer.step(&images[i % 8 * len..][..len].repeat(BATCH)).unwrap();
            (0..60).map(|i| step(i).into_iter().collect()).collect()
        };
        let without = losses("0");
        for l in &without {
            assert_close(&format!("{name}, L_D"), &[l["loss_d"]], &[l[kept] - l[repelled]], 1e-4);
        }
        assert!(without.iter().any(|l| l["loss_d"] < -0.01), "{name}: D does gain: {without:?}");
        let mut sides = [0, 0];
        for margin in ["0.05", "0.2", "2"] {
            let bound: f32 = margin.parse().unwrap();
            for l in losses(margin) {
                let want = l[kept] + (bound - l[repelled]).max(0.0);
                assert_close(
                    &format!("{name}, L_D with a margin of {margin}"),
                    &[l["loss_d"]],
                    &[want],
                    1e-4,
                );
                sides[usize::from(l[repelled] > bound)] += 1;
            }
        }
        assert!(
            sides.iter().all(|count| *count >= 20),
            "{name}: steps below and above the margin: {sides:?}"
        );
    }
}

/// Adam's first step has the length of the learning rate: 2σ(r)·lr for D and 2σ(−r)·lr for G.
#[test]
fn adae_balances_the_learning_rates_where_asked_to() {
    for balance in ["no", "yes"] {
        let options = [("balance", balance)];
        let (trainer, losses) = trained(&cpu(), header("adae", &TINY, BATCH, &options), 1);
        let after = trainer.model().unwrap().tensors;
        let before = tensors("adae", &options, 0);
        let r = if balance == "yes" { losses[0]["real"] - losses[0]["fake"] } else { 0.0 };
        for (net, r) in [("discriminator", r), ("generator", -r)] {
            let name = format!("{net}.decoder.output.weight");
            let tensor = after.iter().find(|t| t.name == name).unwrap();
            let moved = tensor.values.iter().zip(&before[&name]).map(|(a, b)| (a - b).abs());
            let lr = 1e-3 * 2.0 / (1.0 + (-r).exp());
            assert_close(&format!("{net}, {balance}"), &[moved.fold(0.0, f32::max)], &[lr], 1e-2);
        }
    }
}
