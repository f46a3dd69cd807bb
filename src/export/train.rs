//! A training as files: its programs, the start values of all states, the batches of an epoch, and a sampler.

use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::modules::Modules;
use super::schema::{Input, Sampler, Stage, StagePart, Train};
use super::{Export, ExportError, Parts};
use crate::detect::Samples;
use crate::device::{Device, DeviceError};
use crate::models::file::Header;
use crate::models::scorer::{ScoreError, compiled, load};
use crate::models::standardise::standardised;
use crate::models::{Form, Prior};
use crate::tape::StateId;
use crate::train::part_program;

/// Name of the file with the images of an epoch.
const IMAGES: &str = "images.safetensors";
/// Images that are exported at most.
const MOST_IMAGES: usize = 1024;
/// Images of a grid.
const SAMPLES: usize = 16;

impl Export {
    /// Exports the training that a header describes, on the batches of its first epoch (of at most 1024
    /// images), in their order. Averages of weights and schedules of step sizes are left to the host.
    ///
    /// # Errors
    /// [`ExportError::Refused`] for systems whose training works on the host between replays, and for what
    /// are no images.
    pub fn of_training(header: &Header, samples: &dyn Samples) -> Result<Self, ExportError> {
        let refused = |what: String| ExportError::Refused { path: header.system.as_str().into(), what };
        if header.config.form != Form::Image || header.data.tiles.is_some() {
            return Err(refused(
                "a page trains on whole images; leave series, tables and tiles out".to_owned(),
            ));
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
        let mut modules = Modules::default();
        let (mut programs, mut stages) = (std::collections::BTreeMap::new(), vec![]);
        for (number, stage) in system.stages().iter().enumerate() {
            let mut parts = vec![];
            for (i, part) in stage.parts.iter().enumerate() {
                let recorded = part_program(system, number, i, header.batch).map_err(ScoreError::from)?;
                let program = format!("train-{number}-{i}");
                programs.insert(program.clone(), modules.program(&recorded.program, &loaded.states)?);
                let losses = recorded.names.iter().map(|&name| name.to_owned()).collect();
                parts.push(StagePart { program, every: part.every, losses });
            }
            stages.push(Stage { name: stage.name.to_owned(), parts });
        }
        let sampler = match system.latent() {
            None => None,
            Some(latent) => {
                let drawn = compiled(|tape| {
                    let z = tape.input("z", &[SAMPLES, header.config.latent]);
                    tape.output("images", latent.generate(tape, z));
                });
                let drawn = drawn.map_err(ScoreError::from)?;
                programs.insert("sample".to_owned(), modules.program(&drawn, &loaded.states)?);
                let prior = if header.config.prior == Prior::Normal { "normal" } else { "uniform" };
                let (count, latent) = (SAMPLES, header.config.latent);
                Some(Sampler { count, latent, prior: prior.to_owned() })
            }
        };
        let (values, count) = images(header, samples)?;
        let states =
            loaded.states.entries().iter().enumerate().map(|(i, entry)| {
                Ok((entry.name.clone(), entry.shape.clone(), loaded.store.read(StateId(i))?))
            });
        let states = states.collect::<Result<Vec<_>, DeviceError>>().map_err(ScoreError::from)?;
        let [_, channels, height, width] = header.config.images(1);
        let shape = vec![count, channels, height, width];
        let info = header.info(Path::new(""))?;
        let train = Train {
            batch: header.batch,
            count,
            images: IMAGES.to_owned(),
            stages,
            sampler,
            key: [header.seed as u32, (header.seed >> 32) as u32],
        };
        let input = Input {
            height,
            width,
            channels,
            fit: header.data.fit.name().to_owned(),
            standardise: header.recipe.standardise,
        };
        let stored = modules.states(&loaded.states, |_| true);
        let weights = safetensors(&states)?;
        let images = safetensors(&[("images".to_owned(), shape, values)])?;
        Export::assemble(Parts {
            info,
            input,
            score: None,
            train: Some(train),
            states: stored,
            modules,
            programs,
            files: vec![(super::MODEL.to_owned(), weights), (IMAGES.to_owned(), images)],
        })
    }
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
fn safetensors(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Result<Vec<u8>, ExportError> {
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
