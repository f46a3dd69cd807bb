//! A training as files: its programs, the start values of all states, the batches of an epoch, and a sampler.

use std::path::Path;

use ganomede_kernels::sample::uniform;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::modules::Modules;
use super::schema::{self, Sampler, Stage, StagePart, Train};
use super::{Export, ExportError, Kind, Parts, TRAIN, input};
use crate::detect::Samples;
use crate::device::{Device, DeviceError, Store};
use crate::models::file::Header;
use crate::models::scorer::{ScoreError, compiled, load};
use crate::models::standardise::standardised;
use crate::models::{Form, Prior};
use crate::program::Program;
use crate::tape::StateId;
use crate::train::part_program;

/// Name of the file with the images of an epoch.
const IMAGES: &str = "images.safetensors";
/// Name of the file with what the CPU did.
const RECORDED: &str = "recorded.json";
/// Images that are exported at most.
const MOST_IMAGES: usize = 1024;
/// Images of a grid.
const SAMPLES: usize = 16;

/// A training of an export with several: what it trains on, and what it does otherwise.
pub struct Run<'a> {
    /// Its data, as people call them.
    pub data: &'a str,
    /// One of [`WAYS`].
    pub way: &'static Way,
    /// The training.
    pub header: &'a Header,
    /// Its images.
    pub samples: &'a dyn Samples,
}

/// A training that goes well, or one of the famous failures.
#[derive(Debug, PartialEq, Eq)]
pub struct Way {
    /// Name in a page.
    pub name: &'static str,
    /// What one sees.
    pub about: &'static str,
    /// Options of the system that make it so.
    pub options: &'static [(&'static str, &'static str)],
}

/// How a GAN is trained well, and how it fails.
pub const WAYS: [Way; 4] = [
    Way {
        name: "as it should be",
        about: "Both networks have batch norm and the same step size.",
        options: &[],
    },
    Way {
        name: "no batch norm",
        about: "Without batch norm the gradients of layers are of very different sizes, and the generator is prone \
                to draw one and the same image from every latent, as Radford et al. found.",
        options: &[("norm", "none")],
    },
    Way {
        name: "D too strong",
        about: "D learns thirty times as fast. It is soon sure of every image, its loss goes to 0, and what it \
                tells the generator has no direction any more.",
        options: &[("d_rate", "30")],
    },
    Way {
        name: "mode collapse",
        about: "D learns ten times as slowly, and the generator outruns it: every latent gives much the same \
                image, whichever D takes for real just now.",
        options: &[("d_rate", "0.1")],
    },
];

impl Export {
    /// Exports the training that a header describes, on the batches of its first epoch (of at most 1024
    /// images), in their order. Averages of weights and schedules of step sizes are left to the host. The
    /// first `recorded` steps go into the export as the CPU does them, for readers without WebGPU.
    ///
    /// # Errors
    /// [`ExportError::Refused`] for systems whose training works on the host between replays, and for what
    /// are no images.
    pub fn of_training(header: &Header, samples: &dyn Samples, recorded: usize) -> Result<Self, ExportError> {
        Self::of_trainings(&[Run { data: &header.data.spec, way: &WAYS[0], header, samples }], recorded)
    }

    /// Exports several trainings of one system, for a page that changes from one to another; the first is
    /// recorded.
    ///
    /// # Errors
    /// As [`Export::of_training`].
    pub fn of_trainings(runs: &[Run<'_>], recorded: usize) -> Result<Self, ExportError> {
        let (mut texts, mut made) = (vec![], vec![]);
        for (i, run) in runs.iter().enumerate() {
            let steps = if i == 0 { recorded } else { 0 };
            let parts = training(run.header, run.samples, texts, steps)?;
            texts = parts.modules.texts.clone();
            let file = if i == 0 { super::DOCUMENT.to_owned() } else { format!("run-{}.json", i + 1) };
            let about = run.way.about.to_owned();
            let shown = schema::Run { file, data: run.data.to_owned(), way: run.way.name.to_owned(), about };
            made.push((shown, parts));
        }
        Self::assemble_runs(made)
    }
}

/// A training with the programs of its stages, the start values of all its states and its images.
fn training(
    header: &Header,
    samples: &dyn Samples,
    texts: Vec<(String, String)>,
    recorded: usize,
) -> Result<Parts, ExportError> {
    let refused = |what: String| ExportError::Refused { path: header.system.as_str().into(), what };
    if header.config.form != Form::Image || header.data.tiles.is_some() {
        return Err(refused("a page trains on whole images; leave series, tables and tiles out".to_owned()));
    }
    let loaded = load(&Device::Cpu, header, None, true, |system, states| {
        system.register_training(states, header.training, header.seed);
    })?;
    let system = loaded.system.as_ref();
    if system.needs_host() {
        let what = "its training works on the host between replays (fits, or draws defects); choose a \
                    system of networks alone, anogan say";
        return Err(refused(what.to_owned()));
    }
    let mut modules = Modules::beside(texts);
    let (mut programs, mut stages) = (std::collections::BTreeMap::new(), vec![]);
    let mut steps = vec![];
    for (number, stage) in system.stages().iter().enumerate() {
        let mut parts = vec![];
        for (i, part) in stage.parts.iter().enumerate() {
            let recorded = part_program(system, number, i, header.batch).map_err(ScoreError::from)?;
            let program = format!("train-{number}-{i}");
            programs.insert(program.clone(), modules.program(&recorded.program, &loaded.states)?);
            let losses: Vec<String> = recorded.names.iter().map(|&name| name.to_owned()).collect();
            if number == 0 {
                steps.push((recorded.program, part.every, losses.clone()));
            }
            parts.push(StagePart { program, every: part.every, losses });
        }
        stages.push(Stage { name: stage.name.to_owned(), parts });
    }
    let mut sample = None;
    let sampler = match system.latent() {
        None => None,
        Some(latent) => {
            let drawn = compiled(|tape| {
                let z = tape.input("z", &[SAMPLES, header.config.latent]);
                tape.output("images", latent.generate(tape, z));
            });
            let drawn = drawn.map_err(ScoreError::from)?;
            programs.insert("sample".to_owned(), modules.program(&drawn, &loaded.states)?);
            sample = Some(drawn);
            let prior = if header.config.prior == Prior::Normal { "normal" } else { "uniform" };
            let (count, latent) = (SAMPLES, header.config.latent);
            Some(Sampler { count, latent, prior: prior.to_owned() })
        }
    };
    let (values, count) = images(header, samples)?;
    let states = loaded
        .states
        .entries()
        .iter()
        .enumerate()
        .map(|(i, entry)| Ok((entry.name.clone(), entry.shape.clone(), loaded.store.read(StateId(i))?)));
    let states = states.collect::<Result<Vec<_>, DeviceError>>().map_err(ScoreError::from)?;
    let [_, channels, height, width] = header.config.images(1);
    let shape = vec![count, channels, height, width];
    let mut files = vec![(super::MODEL.to_owned(), safetensors(&states)?)];
    if recorded > 0 {
        let seen = record(&loaded.store, &steps, sample.as_ref(), &values, header, recorded);
        let seen = serde_json::to_vec(&seen.map_err(ScoreError::from)?);
        files.push((RECORDED.to_owned(), seen.map_err(|e| ExportError::Document(e.to_string()))?));
    }
    files.push((IMAGES.to_owned(), safetensors(&[("images".to_owned(), shape, values)])?));
    let train = Train {
        batch: header.batch,
        count,
        images: IMAGES.to_owned(),
        stages,
        sampler,
        key: [header.seed as u32, (header.seed >> 32) as u32],
    };
    Ok(Parts {
        kind: Kind::of(header.info(Path::new(""))?, &TRAIN),
        input: Some(input(header)),
        score: None,
        train: Some(train),
        states: modules.states(&loaded.states, |_| true),
        modules,
        programs,
        files,
    })
}

/// `recorded.json`: the first steps as the CPU does them.
#[derive(serde::Serialize)]
struct Recorded {
    steps: usize,
    /// By name, a number for each step.
    losses: std::collections::BTreeMap<String, Vec<f32>>,
    /// What the generator draws before and after, bytes of gray or colour planes as `images` has them.
    drawn: Vec<Vec<u8>>,
}

/// Trains on the CPU and writes down what a page shows.
fn record(
    store: &Store,
    parts: &[(Program, u64, Vec<String>)],
    sample: Option<&Program>,
    images: &[f32],
    header: &Header,
    steps: usize,
) -> Result<Recorded, DeviceError> {
    let mut losses = std::collections::BTreeMap::new();
    let z = header.config.latent * SAMPLES;
    let z: Vec<f32> = uniform(z, header.seed, 0).into_iter().map(|v| 2.0 * v - 1.0).collect();
    let draw = || -> Result<Vec<u8>, DeviceError> {
        let Some(sample) = sample else { return Ok(vec![]) };
        let mut run = Device::Cpu.load(sample, store)?;
        run.write("z", &z)?;
        run.run(1)?;
        Ok(run.read("images")?.into_iter().map(|v| (127.5 * (v + 1.0)).round() as u8).collect())
    };
    let mut drawn = vec![draw()?];
    let mut loaded = vec![];
    for (program, every, names) in parts {
        loaded.push((Device::Cpu.load(program, store)?, *every, names));
    }
    let batch = header.batch * header.config.sample_len();
    let batches = (images.len() / batch).max(1);
    for step in 0..steps {
        for (run, every, names) in &mut loaded {
            if !(step as u64 + 1).is_multiple_of(*every) {
                continue;
            }
            let first = step % batches * batch;
            if run.program().input("x").is_some() {
                run.write("x", &images[first..first + batch])?;
            }
            run.run(1)?;
            if names.is_empty() {
                continue;
            }
            for (name, value) in names.iter().zip(run.read("losses")?) {
                losses.entry(name.clone()).or_insert_with(Vec::new).push(value);
            }
        }
    }
    drawn.push(draw()?);
    Ok(Recorded { steps, losses, drawn })
}

/// The images of the first epoch, in the order in which it is trained on them.
fn images(header: &Header, samples: &dyn Samples) -> Result<(Vec<f32>, usize), ExportError> {
    let len = header.config.sample_len();
    let most = (MOST_IMAGES / header.batch.max(1)).max(1);
    let mut values = vec![];
    for batch in samples.epoch(header.batch, header.seed, 0, 0)?.take(most) {
        let batch = batch?;
        values.extend_from_slice(&standardised(&batch, len, header.recipe.standardise).0);
    }
    let count = values.len() / len;
    match count {
        0 => Err(ExportError::Refused {
            path: header.data.spec.as_str().into(),
            what: format!("it has not {} images, a batch; lower `batch`", header.batch),
        }),
        _ => Ok((values, count)),
    }
}

/// A safetensors file of 32-bit floats, bit for bit.
pub(super) fn safetensors(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Result<Vec<u8>, ExportError> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect())
        .collect();
    let broken = |e: safetensors::SafeTensorError| ExportError::Document(e.to_string());
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(broken)?))
    });
    let views = views.collect::<Result<Vec<_>, ExportError>>()?;
    safetensors::serialize(views, None).map_err(broken)
}
