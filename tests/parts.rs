//! Batches that come in parts: one process that accumulates them, and ranks that share them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::{self, cpu, difference, gpu, header};
use ganomede::device::Device;
use ganomede::models::file::{Header, ModelFile, NamedTensor};
use ganomede::models::recipe::{Recipe, Schedule};
use ganomede::models::{Config, Form, Prior, SYSTEMS, Size};
use ganomede::train::{
    End, Epoch, Limits, LoopOptions, Team, Threads, TrainError, Trainer, check_resumable, train,
};
use ganomede_datasets::{DataError, Split};

const TINY: Config = Config {
    form: Form::Image,
    size: Size { height: 16, width: 16 },
    channels: 1,
    width: 4,
    latent: 8,
    prior: Prior::Normal,
    kernel: 4,
};
/// Samples of a batch, whatever its parts.
const WHOLE: usize = 12;
/// Batches of an epoch.
const BATCHES: usize = 3;

fn images() -> Vec<f32> {
    common::images(&TINY, "builtin:retina:train=36,test=2", Split::Train, WHOLE * BATCHES)
}

fn place(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("parts");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{name}.safetensors"))
}

/// A training whose batches come in this many parts.
fn of(system: &str, options: &[(&str, &str)], recipe: Recipe, parts: usize) -> Header {
    let mut header = header(system, &TINY, WHOLE / parts, options);
    header.progress.steps_per_epoch = BATCHES as u64;
    header.recipe = Recipe { parts, ..recipe };
    header
}

/// What a run of the loop is to do beside its steps.
#[derive(Default, Clone, Copy)]
struct Told<'a> {
    checkpoint: Option<&'a Path>,
    /// The tick at which it is asked to stop.
    stop: Option<usize>,
    /// The batch that cannot be read.
    fault: Option<u64>,
}

fn run(trainer: &mut Trainer, data: &[f32], steps: u64, told: Told<'_>) -> Result<End, TrainError> {
    let len = TINY.sample_len();
    let rows = trainer.rows();
    let options = LoopOptions {
        limits: Limits { steps: Some(steps), ..Limits::default() },
        checkpoint: told.checkpoint.map(Path::to_owned),
        checkpoint_every: 2,
        half_checkpoints: false,
        keep: None,
        samples: None,
        log: None,
    };
    let mut epoch = |number: u64, from: u64| -> Result<Epoch<'_>, DataError> {
        let mut batches: Vec<_> = data
            .chunks_exact(WHOLE * len)
            .map(|all| all[rows.start * len..rows.end * len].to_vec())
            .collect();
        batches.rotate_left(number as usize % BATCHES);
        let batches = batches.into_iter().enumerate().skip(from as usize);
        Ok(Box::new(batches.map(move |(i, images)| match told.fault {
            Some(at) if at == i as u64 => Err(DataError::option("data", i, "readable")),
            _ => Ok(images),
        })))
    };
    let mut ticks = 0;
    let mut tick = |_: ganomede::train::Tick<'_>| {
        ticks += 1;
        if told.stop == Some(ticks) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    train(trainer, &options, &mut epoch, &mut tick)
}

/// All states after so many steps of one process.
fn trained(device: &Device, header: Header, data: &[f32], steps: u64) -> ModelFile {
    let mut trainer = Trainer::new(device, header, None, &[]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(run(&mut trainer, data, steps, Told::default()).unwrap(), End::Done);
    trainer.checkpoint().unwrap()
}

/// What each of so many ranks has after so many steps.
fn ranks(
    count: usize,
    header: &Header,
    data: &[f32],
    steps: u64,
    told: &(dyn Fn(usize) -> Told<'static> + Sync),
) -> Vec<Result<(End, ModelFile), TrainError>> {
    std::thread::scope(|scope| {
        let ranks: Vec<_> = Threads::new(count)
            .into_iter()
            .enumerate()
            .map(|(rank, threads)| {
                scope.spawn(move || {
                    let team = Team::new(Arc::new(threads));
                    let mut trainer = Trainer::new(&cpu(), header.clone(), None, &[])?;
                    trainer.join(team.clone())?;
                    let end = run(&mut trainer, data, steps, told(rank)).inspect_err(|_| team.end())?;
                    Ok((end, trainer.checkpoint()?))
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn bits(tensor: &NamedTensor) -> Vec<u32> {
    tensor.values.iter().map(|v| v.to_bits()).collect()
}

/// Names of the tensors that differ in any bit.
fn different(a: &ModelFile, b: &ModelFile) -> Vec<String> {
    let of = |file: &ModelFile| -> BTreeMap<_, _> {
        file.tensors.iter().map(|tensor| (tensor.name.clone(), bits(tensor))).collect()
    };
    let (a, b) = (of(a), of(b));
    assert!(a.keys().eq(b.keys()));
    a.into_iter().filter(|(name, bits)| b[name] != *bits).map(|(name, _)| name).collect()
}

/// The largest difference of a tensor's elements, of numbers above 1 as a share of the largest, and its name.
fn apart(a: &ModelFile, b: &ModelFile) -> (f32, String) {
    let of = |(a, b): (&NamedTensor, &NamedTensor)| {
        assert_eq!(a.name, b.name);
        let scale = a.values.iter().fold(1.0_f32, |scale, v| scale.max(v.abs()));
        let apart = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs() / scale);
        (apart.fold(0.0, |most: f32, d| if d.is_nan() { f32::INFINITY } else { most.max(d) }), a.name.clone())
    };
    let all = a.tensors.iter().zip(&b.tensors).map(of);
    all.fold((0.0, String::new()), |worst, next| if next.0 > worst.0 { next } else { worst })
}

const RICH: Recipe = Recipe {
    batch_norm_pass: true,
    ema: Some(0.8),
    schedule: Schedule::Cosine,
    schedule_steps: 6,
    standardise: false,
    parts: 1,
    sync_bn: false,
};

/// Batches in parts are batches, but for the order of sums; batch norm sees the samples of its part.
fn parts_are_one_batch(device: &Device, steps: u64) {
    let data = images();
    let mut alike = vec![];
    let normed: &[(&str, &str)] = &[("norm", "none")];
    let all = SYSTEMS.iter().map(|info| (info.name, &[][..])).chain([("anogan", normed)]);
    for (system, options) in all {
        let recipe = if system == "deep-svdd" { Recipe::default() } else { Recipe { ema: None, ..RICH } };
        let whole = trained(device, of(system, options, recipe, 1), &data, steps);
        let parts = trained(device, of(system, options, recipe, 3), &data, steps);
        assert!(parts.tensors.iter().all(|t| t.values.iter().all(|v| v.is_finite())), "{system}");
        let names = |file: &ModelFile| file.tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&whole), names(&parts), "{system}");
        if whole.tensors.iter().any(|t| t.name.contains("running_")) {
            continue;
        }
        alike.push(system);
        let (apart, tensor) = apart(&whole, &parts);
        assert!(apart < 1e-5, "{system}: {tensor} differs by {apart}");
        let losses = |file: &ModelFile| file.header.progress.losses.clone();
        for (a, b) in losses(&whole).iter().zip(&losses(&parts)) {
            assert_eq!((&a.name, &a.at), (&b.name, &b.at), "{system}");
            let apart = difference(&b.values, &a.values);
            assert!(apart < 1e-4, "{system}: the losses '{}' differ by {apart}", a.name);
        }
    }
    assert!(alike.len() >= 3, "{alike:?}");
}

#[test]
fn accumulated_parts_are_one_batch_on_cpu() {
    parts_are_one_batch(&cpu(), 5);
}

/// Norms one after the other, in networks that are applied two and three times in a step, and in an encoder
/// behind a generator.
#[test]
fn synced_norms_are_those_of_one_batch() {
    let data = images();
    for system in ["ae", "anogan", "ganomaly", "egbad"] {
        let recipe = Recipe { batch_norm_pass: true, ..Recipe::default() };
        let whole = trained(&cpu(), of(system, &[], recipe, 1), &data, 2);
        let synced = Recipe { sync_bn: true, ..recipe };
        let parts = trained(&cpu(), of(system, &[], synced, 3), &data, 2);
        let apart = trained(&cpu(), of(system, &[], recipe, 3), &data, 2);
        let (synced, each) = (self::apart(&whole, &parts), self::apart(&whole, &apart));
        assert!(synced.0 < 1e-5, "{system}: {synced:?}");
        assert!(each.0 > 1e-3, "{system}: {each:?}");
    }
}

/// Norms and dropout of a critic whose gradient is penalised: the gradients of its first step, and what its
/// norms found. Weights go by the sign of a gradient there, which is rounding's where it is nearly zero.
#[test]
fn synced_norms_go_through_a_penalty_as_those_of_one_batch() {
    let data = images();
    let after = |parts: usize, sync_bn: bool| {
        let options = [("nets", "resize"), ("gan-share", "0.5")];
        let recipe = Recipe { sync_bn, ..Recipe::default() };
        let file = trained(&cpu(), of("f-anogan", &options, recipe, parts), &data, 2);
        let is_of_critic = |tensor: &NamedTensor| {
            let name = &tensor.name;
            name.starts_with("adam_d.m") || name.starts_with("critic.") && name.contains(".running_")
        };
        file.tensors.into_iter().filter(is_of_critic).collect::<Vec<_>>()
    };
    let apart = |a: &[NamedTensor], b: &[NamedTensor]| {
        let largest = |values: &[f32]| values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        let of = |(a, b): (&NamedTensor, &NamedTensor)| {
            assert_eq!(a.name, b.name);
            let difference: Vec<f32> = a.values.iter().zip(&b.values).map(|(a, b)| a - b).collect();
            largest(&difference) / largest(&a.values).max(1e-3)
        };
        a.iter().zip(b).map(of).fold(0.0, f32::max)
    };
    let whole = after(1, false);
    assert_eq!(whole.len(), 16 + 6, "gradients of five layers and three norms, and what these found");
    let (synced, each) = (apart(&whole, &after(3, true)), apart(&whole, &after(3, false)));
    assert!(synced < 1e-4, "{synced}");
    assert!(each > 1e-2, "{each}");
}

#[test]
fn accumulated_parts_are_one_batch_on_gpu() {
    let data = images();
    let options = [("norm", "none")];
    let whole = trained(&gpu(), of("anogan", &options, Recipe::default(), 1), &data, 3);
    let parts = trained(&gpu(), of("anogan", &options, Recipe::default(), 3), &data, 3);
    let (apart, tensor) = apart(&whole, &parts);
    assert!(apart < 1e-5, "{tensor} differs by {apart}");
}

/// Generators after their discriminators, statistics of batch norm, random numbers, several stages, stages
/// without optimisers, samples that are made of whole batches.
#[test]
fn ranks_have_the_bits_of_accumulated_parts() {
    let data = images();
    for system in ["anogan", "ganomaly", "f-anogan", "egbad", "vae", "deep-svdd", "draem", "knn"] {
        let recipe =
            if system == "ganomaly" { RICH } else { Recipe { batch_norm_pass: true, ..Recipe::default() } };
        for (count, parts) in [(2, 2), (3, 3), (2, 4)] {
            let header = of(system, &[], recipe, parts);
            let want = trained(&cpu(), header.clone(), &data, 5);
            for (rank, got) in ranks(count, &header, &data, 5, &|_| Told::default()).into_iter().enumerate() {
                let (end, got) = got.unwrap_or_else(|e| panic!("{system}: {e}"));
                assert_eq!(end, End::Done);
                assert_eq!(
                    different(&got, &want),
                    [""; 0],
                    "{system}: rank {rank} of {count}, {parts} parts"
                );
                let curves = |file: &ModelFile| file.header.progress.losses.clone();
                assert_eq!(curves(&got), curves(&want), "{system}");
            }
        }
    }
}

#[test]
fn ranks_read_their_rows_and_systems_that_need_more_read_all() {
    for (system, reads) in [("anogan", 4..8), ("ganomaly", 4..8), ("pca", 0..12), ("draem", 0..12)] {
        let header = of(system, &[], Recipe::default(), 3);
        // The second of three; joining alone, it says nothing to the others.
        let mut trainer = Trainer::new(&cpu(), header, None, &[]).unwrap();
        trainer.join(Team::new(Arc::new(Threads::new(3).remove(1)))).unwrap();
        assert_eq!(trainer.rows(), reads, "{system}");
    }
    let mut trainer = Trainer::new(&cpu(), of("ae", &[], Recipe::default(), 3), None, &[]).unwrap();
    let team = Team::new(Arc::new(Threads::new(2).remove(0)));
    let refused = trainer.join(team).unwrap_err().to_string();
    assert!(refused.contains("3 parts"), "{refused}");
}

#[test]
fn a_training_in_parts_resumes_bit_for_bit_and_in_other_parts() {
    let data = images();
    for system in ["anogan", "ganomaly", "f-anogan"] {
        let path = place(&format!("{system}-resumed"));
        let header = of(system, &[], RICH, 3);
        let mut whole = Trainer::new(&cpu(), header.clone(), None, &[]).unwrap();
        run(&mut whole, &data, 6, Told::default()).unwrap();
        let mut first = Trainer::new(&cpu(), header.clone(), None, &[]).unwrap();
        let told = Told { checkpoint: Some(&path), stop: Some(3), ..Told::default() };
        assert_eq!(run(&mut first, &data, 6, told).unwrap(), End::Interrupted);
        let file = ModelFile::load(&path).unwrap();
        assert_eq!((file.header.progress.steps, file.header.recipe.parts), (3, 3));
        let mut second = Trainer::new(&cpu(), file.header.clone(), Some((&file, &path)), &[]).unwrap();
        run(&mut second, &data, 6, Told::default()).unwrap();
        assert_eq!(different(&second.model().unwrap(), &whole.model().unwrap()), [""; 0], "{system}");

        // Half the batch in half the parts is another training, and a batch of another size none.
        let mut asked = of(system, &[], RICH, 6);
        asked.batch = header.batch;
        asked.progress.steps_per_epoch = 1;
        asked.recipe.schedule_steps = 2;
        check_resumable(&file.header, &asked, &path).unwrap();
        asked.batch += 1;
        let refused = check_resumable(&file.header, &asked, &path).unwrap_err().to_string();
        assert!(refused.contains("`batch`"), "{refused}");
    }
}

#[test]
fn one_rank_that_is_asked_to_stop_stops_all() {
    let data = images();
    let header = of("ganomaly", &[], RICH, 3);
    let told = |rank: usize| Told { stop: (rank == 2).then_some(3), ..Told::default() };
    for got in ranks(3, &header, &data, 6, &told) {
        let (end, file) = got.unwrap();
        assert_eq!((end, file.header.progress.steps), (End::Interrupted, 3));
    }
}

#[test]
fn a_rank_that_fails_ends_all_and_the_checkpoint_is_whole() {
    static PLACE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let path = PLACE.get_or_init(|| place("failed"));
    let data = images();
    let header = of("ganomaly", &[], Recipe::default(), 3);
    let told =
        |rank: usize| Told { checkpoint: Some(path), fault: (rank == 1).then_some(2), ..Told::default() };
    let ends: Vec<_> = ranks(3, &header, &data, 6, &told).into_iter().map(|got| got.err().unwrap()).collect();
    assert!(matches!(ends[1], TrainError::Data(_)), "{}", ends[1]);
    for other in [&ends[0], &ends[2]] {
        assert!(matches!(other, TrainError::Rank { rank: 1 }), "{other}");
    }
    let file = ModelFile::load(path).unwrap();
    assert_eq!(file.header.progress.steps, 2);
    let want = trained(&cpu(), header, &data, 2);
    assert_eq!(different(&file, &want), [""; 0]);
}
