//! Grids of what a model makes of the same things all through a training.

use std::path::Path;

use ganomede_kernels::{Kernel, random};
use image::RgbImage;

use super::{ScoreError, load};
use crate::device::{Device, Executable, Store};
use crate::models::file::ModelFile;
use crate::models::standardise::standardised;
use crate::models::system::System;
use crate::models::{Config, Form, Prior};
use crate::program::{CompileError, compile};
use crate::report::image_grid;
use crate::tape::Tape;

/// What a model makes of the same things all through a training: images of fixed latents, or reconstructions
/// of fixed samples.
pub struct Sampler {
    make: Executable,
    given: Vec<f32>,
    reconstructs: bool,
    config: Config,
}

impl Sampler {
    /// Images in a grid.
    pub const COUNT: usize = 64;

    /// Draws from a model whose weights are in `store`: images of latents that are a function of the seed
    /// where there is a generator, else the first of the `preview` samples beside their reconstructions.
    /// `None` where there is nothing to draw.
    ///
    /// # Errors
    /// [`ScoreError`] where the device refuses.
    pub fn new(
        device: &Device,
        system: &dyn System,
        store: &Store,
        seed: u64,
        preview: &[f32],
    ) -> Result<Option<Self>, ScoreError> {
        let config = system.config().clone();
        if config.form != Form::Image {
            return Ok(None);
        }
        let tape = Tape::new();
        let (given, reconstructs) = match system.latent() {
            Some(latent) => {
                let z = tape.input("given", &[Self::COUNT, config.latent]);
                tape.output("images", latent.generate(&tape, z));
                (draw_latents(&config, seed, 0, Self::COUNT * config.latent), false)
            }
            None => {
                let count = (preview.len() / config.sample_len()).min(Self::COUNT / 2);
                let x = tape.input("given", &config.images(count.max(1)));
                let Some(made) = system.score(&tape, x, "").reconstruction.filter(|_| count > 0) else {
                    return Ok(None);
                };
                tape.output("images", made);
                (preview[..count * config.sample_len()].to_vec(), true)
            }
        };
        let program = compile(&tape.finish().map_err(CompileError::from)?)?;
        Ok(Some(Self { make: device.load(&program, store)?, given, reconstructs, config }))
    }

    /// Whether the grid shows samples beside their reconstructions, not images of latents.
    pub fn reconstructs(&self) -> bool {
        self.reconstructs
    }

    /// Draws from a model file.
    ///
    /// # Errors
    /// [`ScoreError`] for a file that does not fit, or a device at fault.
    pub fn of_file(
        device: &Device,
        file: &ModelFile,
        path: &Path,
        preview: &[f32],
    ) -> Result<Option<Self>, ScoreError> {
        let loaded = load(device, &file.header, Some((file, path)), false, |_, _| {})?;
        let len = file.header.config.sample_len();
        let (preview, _) = standardised(preview, len, file.header.recipe.standardise);
        Self::new(device, loaded.system.as_ref(), &loaded.store, file.header.seed, &preview)
    }

    /// Bytes held on the device for its program.
    pub fn bytes(&self) -> u64 {
        self.make.bytes()
    }

    /// A grid of eight columns; samples and their reconstructions take turns.
    ///
    /// # Errors
    /// [`ScoreError`] where the device fails.
    pub fn grid(&mut self) -> Result<RgbImage, ScoreError> {
        self.make.write("given", &self.given)?;
        self.make.run(1)?;
        let mut images = self.make.read("images")?;
        if self.reconstructs {
            let len = self.config.sample_len();
            let pairs = self.given.chunks(len).zip(images.chunks(len));
            images = pairs.flat_map(|(x, made)| [x, made].concat()).collect();
        }
        let count = images.len() / self.config.sample_len();
        Ok(image_grid(&images, count, self.config.channels, self.config.extent(), 8)?)
    }
}

/// Latents from the prior, a function of seed and stream.
pub(in crate::models) fn draw_latents(config: &Config, seed: u64, stream: u32, len: usize) -> Vec<f32> {
    let distribution = match config.prior {
        Prior::Uniform => random::Distribution::Uniform,
        Prior::Normal => random::Distribution::Normal,
    };
    let kernel = Kernel::Random(random::Random { distribution, len, stream });
    let key = [f32::from_bits(seed as u32), f32::from_bits((seed >> 32) as u32)];
    let mut z = vec![0.0; len];
    let mut scratch = vec![0.0; kernel.cpu_scratch_len(rayon::current_num_threads())];
    kernel.cpu(&[&key, &[0.0]], &mut [&mut z], &mut scratch);
    if config.prior == Prior::Uniform {
        z.iter_mut().for_each(|v| *v = 2.0 * *v - 1.0);
    }
    z
}
