//! Features of samples and of generated images, for a picture of their neighbourhood.

use std::path::Path;

use super::file::ModelFile;
use super::scorer::{ScoreError, compiled, draw_latents, load};
use super::standardise::standardised;
use crate::device::{Device, Executable};

/// The features of a model's default score, f(x) for GANs, on batches of a fixed size.
pub struct Features {
    program: Executable,
    generated: Option<Executable>,
    batch: usize,
    sample_len: usize,
    standardise: bool,
    latents: Vec<f32>,
}

impl Features {
    /// Loads what makes features; `None` for systems whose scores have none.
    ///
    /// # Errors
    /// [`ScoreError`] for a file that does not fit, or a device at fault.
    pub fn of_file(
        device: &Device,
        file: &ModelFile,
        path: &Path,
        batch: usize,
    ) -> Result<Option<Self>, ScoreError> {
        let loaded = load(device, &file.header, Some((file, path)), false, |_, _| {})?;
        let (system, config) = (loaded.system.as_ref(), &file.header.config);
        let mut there = false;
        let program = compiled(|tape| {
            let x = tape.input("x", &config.images(batch));
            if let Some(features) = system.score(tape, x, "").features {
                tape.output("features", features);
                there = true;
            }
        })?;
        if !there {
            return Ok(None);
        }
        let generated = match system.latent() {
            Some(latent) => {
                let program = compiled(|tape| {
                    let made = latent.generate(tape, tape.input("z", &[batch, config.latent]));
                    if let Some(features) = system.score(tape, made, "").features {
                        tape.output("features", features);
                    }
                })?;
                Some(device.load(&program, &loaded.store)?)
            }
            None => None,
        };
        Ok(Some(Self {
            program: device.load(&program, &loaded.store)?,
            generated,
            batch,
            sample_len: config.sample_len(),
            standardise: file.header.recipe.standardise,
            latents: draw_latents(config, file.header.seed, 1, batch * config.latent),
        }))
    }

    /// Features of up to a batch of samples, row by row.
    ///
    /// # Errors
    /// [`ScoreError`] where the device fails.
    pub fn of(&mut self, samples: &[f32]) -> Result<Vec<f32>, ScoreError> {
        let count = (samples.len() / self.sample_len).min(self.batch);
        let samples = &samples[..count * self.sample_len];
        let mut x = standardised(samples, self.sample_len, self.standardise).0.into_owned();
        x.resize(self.batch * self.sample_len, 0.0);
        self.program.write("x", &x)?;
        self.program.run(1)?;
        let mut features = self.program.read("features")?;
        features.truncate(features.len() / self.batch * count);
        Ok(features)
    }

    /// Features of a batch of generated images; empty where there is no generator.
    ///
    /// # Errors
    /// [`ScoreError`] where the device fails.
    pub fn of_generated(&mut self) -> Result<Vec<f32>, ScoreError> {
        let Some(program) = &mut self.generated else { return Ok(vec![]) };
        program.write("z", &self.latents)?;
        program.run(1)?;
        Ok(program.read("features")?)
    }
}
