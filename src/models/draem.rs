//! DRAEM: discriminatively trained reconstruction embedding (Zavrtanik, Kristan & Skočaj, ICCV 2021, arXiv
//! 2108.07610).
//!
//! One network repaints images in which parts were covered by another texture, as they were before; a second
//! one sees the image and the repainted one, and learns to say what was covered.
//!
//! | | formula | equation |
//! |---|---|---|
//! | sample | x′ = M̄⊙x + M⊙((1 − β)·A + β·x), β of [0, 0.8): M from Perlin noise, A a texture; half of all stay as they are | (4) |
//! | reconstruction | x̂ of x′; L_rec = mean (x̂ − x)² + `ssim`·(1 − mean SSIM(x̂, x)) | (3) |
//! | segmentation | softmax of two logits from (x̂, x′); L_seg = mean focal loss against M, γ = 2 | §3.2 |
//! | loss | L_rec + L_seg, for both networks at once | (5) |
//! | map | m, the probability of class 1 | |
//! | score `peak` | maximum of m averaged over 21×21 pixels | (6) |
//! | score `mean` | mean of m over pixels | not the paper's |
//!
//! Networks, of 3×3 convolutions with batch norm and ReLU, two to a block; sides are halved by max pooling
//! and doubled bilinearly (corners aligned), by [the rule of sides](super::config). w is the width, 64 in the
//! paper:
//!
//! | | encoder | decoder |
//! |---|---|---|
//! | reconstruction, v = 2·w | v, 2·v, 4·v, 8·v, 8·v | up, block → 4·v, 2·v, v, v; conv → channels |
//! | segmentation | w, 2·w, 4·w, 8·w, 8·w, 8·w | up, skip, block → 8·w, 4·w, 2·w, w, w; conv → 2 |
//!
//! Networks see values in [0, 1]. Textures are drawn unless a folder of images is given, where the paper
//! takes photographs (DTD); biases before batch norm, which change nothing, are left out. The focal loss is
//! that of Lin et al. without the code's smoothing by 1e-5.

use std::sync::Arc;

use ganomede_datasets::defects::photographs::Photographs;
use ganomede_datasets::defects::texture::{perlin_mask, texture};
use ganomede_datasets::{Image, Rng};
use rayon::prelude::*;

use super::nsa::{images, peak};
use super::system::{Defaults, Info, Inputs, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{Adam, BatchNorm, Conv2d, Mode, focal, mse, ssim_gaussian};
use crate::tape::{PoolOptions, Sampling, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "draem",
    title: "repainting, and segmentation of what was repainted",
    paper: "Zavrtanik, Kristan & Skočaj, ICCV 2021",
    url: "https://arxiv.org/abs/2108.07610",
    scores: &[
        Named {
            name: "peak", about: "maximum of the segmentation averaged over 21×21 pixels, equation (6)"
        },
        Named { name: "mean", about: "mean of the segmentation over pixels" },
    ],
    options: &[
        OptionInfo {
            key: "ssim",
            default: "1",
            kind: OptionKind::Number(0.0, 100.0),
            help: "weight of structural similarity beside the squared error of the reconstruction",
        },
        OptionInfo {
            key: "gamma",
            default: "2",
            kind: OptionKind::Number(1.0, 5.0),
            help: "γ of the focal loss: how little weight pixels have that are right already",
        },
        OptionInfo {
            key: "clean",
            default: "0.5",
            kind: OptionKind::Number(0.0, 0.9),
            help: "share of samples that are trained on as they are",
        },
    ],
    defaults: Defaults {
        batch: 8,
        lr: 1e-4,
        betas: [0.9, 0.999],
        latent: 100,
        prior: Prior::Normal,
        length: Length::Epochs(100),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Draem::new(states, config, options)?)),
};

/// Convolutions of 3×3 with batch norm and ReLU.
#[derive(Debug, Clone)]
struct Chain(Vec<(Conv2d, BatchNorm)>);

impl Chain {
    /// Of these channels, the first being what it sees.
    fn new(states: &mut States, name: &str, config: &Config, channels: &[usize]) -> Self {
        let layers = channels.windows(2).enumerate().map(|(i, pair)| {
            let (kernel, options) = (config.kernel(3), config.strided(1, 1, 1));
            let conv =
                Conv2d::new(states, &format!("{name}.conv{i}"), [pair[0], pair[1]], kernel, options, false);
            (conv, BatchNorm::new(states, &format!("{name}.bn{i}"), pair[1]))
        });
        Self(layers.collect())
    }

    fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        self.0.iter().fold(x, |h, (conv, norm)| norm.forward(tape, conv.forward(tape, h), mode).relu())
    }

    fn parameters(&self) -> Vec<Variable> {
        self.0.iter().flat_map(|(conv, norm)| [conv.parameters(), norm.parameters()].concat()).collect()
    }
}

/// Blocks down and up again, with or without skips.
#[derive(Debug, Clone)]
pub struct Hourglass {
    config: Config,
    down: Vec<Chain>,
    /// What follows a doubling of sides, and the block after it.
    up: Vec<[Chain; 2]>,
    output: Conv2d,
    skips: bool,
}

impl Hourglass {
    /// Registers the reconstructive network under `name`.
    pub fn reconstructive(states: &mut States, name: &str, config: &Config) -> Self {
        let (c, v) = (config.channels, 2 * config.width);
        Self::new(states, name, config, [c, c], &[v, 2 * v, 4 * v, 8 * v, 8 * v], false)
    }

    /// Registers the discriminative network under `name`.
    pub fn discriminative(states: &mut States, name: &str, config: &Config) -> Self {
        let (c, w) = (config.channels, config.width);
        Self::new(states, name, config, [2 * c, 2], &[w, 2 * w, 4 * w, 8 * w, 8 * w, 8 * w], true)
    }

    fn new(
        states: &mut States,
        name: &str,
        config: &Config,
        [from, to]: [usize; 2],
        widths: &[usize],
        skips: bool,
    ) -> Self {
        let (mut down, mut up, mut seen) = (vec![], vec![], from);
        for (i, &width) in widths.iter().enumerate() {
            down.push(Chain::new(states, &format!("{name}.block{}", i + 1), config, &[seen, width, width]));
            seen = width;
        }
        for level in (0..widths.len() - 1).rev() {
            // A level gives as many channels as the one above it has.
            let (narrow, i) = (widths[level.saturating_sub(1)], widths.len() - 1 - level);
            let (inner, block) = match skips {
                true => (narrow, [narrow + widths[level], narrow, narrow]),
                false => (seen, [seen, seen, narrow]),
            };
            let first = Chain::new(states, &format!("{name}.up{i}"), config, &[seen, inner]);
            up.push([first, Chain::new(states, &format!("{name}.db{i}"), config, &block)]);
            seen = narrow;
        }
        let (kernel, options) = (config.kernel(3), config.strided(1, 1, 1));
        let output = Conv2d::new(states, &format!("{name}.output"), [seen, to], kernel, options, true);
        Self { config: config.clone(), down, up, output, skips }
    }

    /// `[n, from, height, width]` → `[n, to, height, width]`, and the features of the bottom.
    pub fn forward<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> (Tensor<'t>, Tensor<'t>) {
        let (mut seen, mut h) = (vec![], x);
        for (level, block) in self.down.iter().enumerate() {
            if level > 0 {
                h = h.max_pool2d(halves(self.config.extent_at(level - 1)));
            }
            h = block.forward(tape, h, mode);
            seen.push(h);
        }
        let bottom = h;
        for (i, [first, block]) in self.up.iter().enumerate() {
            let level = self.down.len() - 2 - i;
            h = first.forward(tape, h.resize(self.config.extent_at(level), Sampling::LinearAligned), mode);
            h = if self.skips { Tensor::concat(&[h, seen[level]], 1) } else { h };
            h = block.forward(tape, h, mode);
        }
        (self.output.forward(tape, h), bottom)
    }

    /// Learned parameters.
    pub fn parameters(&self) -> Vec<Variable> {
        let chains = self.down.iter().chain(self.up.iter().flatten());
        chains.flat_map(Chain::parameters).chain(self.output.parameters()).collect()
    }
}

/// Windows of 2×2 that touch; the last row or column of an odd side is alone in its window.
fn halves(extent: [usize; 2]) -> PoolOptions {
    PoolOptions { pad_high: extent.map(|side| side % 2), ..PoolOptions::square(2) }
}

/// The two networks.
#[derive(Debug, Clone)]
pub struct Draem {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    /// x′ → x̂.
    pub reconstructive: Hourglass,
    /// (x̂, x′) → two logits a pixel.
    pub discriminative: Hourglass,
    similarity: f32,
    gamma: f32,
    clean: f32,
    /// A user's textures; drawn ones without.
    textures: Option<Arc<Photographs>>,
    adam: Option<Adam>,
}

impl Draem {
    /// Side of the squares that the score averages over.
    const WINDOW: usize = 21;

    /// Registers the parameters as `reconstructive.*` and `discriminative.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for samples that are no images.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check_form(&[Form::Image])?;
        Ok(Self {
            config: config.clone(),
            reconstructive: Hourglass::reconstructive(states, "reconstructive", config),
            discriminative: Hourglass::discriminative(states, "discriminative", config),
            similarity: options.number("ssim"),
            gamma: options.number("gamma"),
            clean: options.number("clean"),
            textures: None,
            adam: None,
        })
    }

    /// x̂ and the two logits of each pixel, from values in [0, 1]; features of the bottom.
    fn apply<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> [Tensor<'t>; 3] {
        let (made, _) = self.reconstructive.forward(tape, x, mode);
        let (logits, features) = self.discriminative.forward(tape, Tensor::concat(&[made, x], 1), mode);
        [made, logits, features]
    }

    /// A sample with a part of it covered, and the mask of that part.
    fn cover(&self, image: &Image, rng: &mut Rng) -> (Vec<f32>, Vec<f32>) {
        let (height, width) = (image.height, image.width);
        if rng.unit() < self.clean {
            return (image.pixels.clone(), vec![0.0; height * width]);
        }
        let mask = perlin_mask(height, width, rng);
        let cover = match &self.textures {
            Some(textures) => textures.draw(rng),
            None => texture(image.channels, height, width, rng),
        };
        let beta = rng.range(0.0, 0.8);
        let covered = image.pixels.iter().zip(&cover.pixels).zip(mask.iter().cycle());
        let covered = covered.map(|((&x, &a), &here)| if here { (1.0 - beta) * a + beta * x } else { x });
        (covered.collect(), mask.iter().map(|&here| if here { 1.0 } else { 0.0 }).collect())
    }
}

/// Values of [−1, 1] in [0, 1].
fn unit(x: Tensor<'_>) -> Tensor<'_> {
    x.affine(0.5, 0.5)
}

impl System for Draem {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let parameters = [self.reconstructive.parameters(), self.discriminative.parameters()].concat();
        self.adam = Some(Adam::new(states, "adam", parameters, training.lr, training.betas));
    }

    /// The segmentation sees a sample beside what was made of it, never that alone.
    fn tells_reconstructions(&self) -> bool {
        false
    }

    fn takes_textures(&self) -> bool {
        true
    }

    fn set_textures(&mut self, textures: Arc<Photographs>) {
        self.textures = Some(textures);
    }

    /// A step costs twenty times one of the others', and the first hundred say little.
    fn is_tried_briefly(&self) -> bool {
        false
    }

    fn needs_host(&self) -> bool {
        true
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    fn synthesise(&self, batch: &[f32], seed: u64, step: u64) -> Inputs {
        let samples = images(&self.config, batch);
        let covered = samples
            .par_iter()
            .enumerate()
            .map(|(i, image)| self.cover(image, &mut Rng::new(&[COVERED, seed, step, i as u64])));
        let (made, masks): (Vec<_>, Vec<_>) = covered.collect();
        vec![("defective", made.concat()), ("mask", masks.concat())]
    }

    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(adam) = &self.adam else { return vec![] };
        let [n, _, h, w] = self.config.images(x.shape()[0]);
        let defective = tape.input("defective", &x.shape());
        let mask = tape.input("mask", &[n, 1, h, w]);
        let (x, defective) = (unit(x), unit(defective));
        let [made, logits, _] = self.apply(tape, defective, Mode::Train);
        let square = mse(made, x);
        let structure = 1.0 - ssim_gaussian(made, x).mean_all();
        let segmentation = focal(logits, mask, self.gamma).mean_all();
        adam.minimise(tape, square + structure * self.similarity + segmentation);
        vec![("square", square), ("ssim", structure), ("segmentation", segmentation)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let [made, logits, features] = self.apply(tape, unit(x), Mode::Eval);
        // The second of two softmax probabilities.
        let found = (logits.narrow(1, 1, 1) - logits.narrow(1, 0, 1)).sigmoid();
        let [n, _, h, w] = self.config.images(x.shape()[0]);
        let score = match score {
            "mean" => found.mean_per_sample(),
            _ => peak(found, Self::WINDOW),
        };
        let map = Some(found.reshape(&[n, h, w]));
        let made = Some(made.affine(2.0, -1.0));
        Scored { score, parts: vec![], reconstruction: made, map, features: Some(features.flatten()) }
    }
}

/// Domain of the random numbers.
const COVERED: u64 = 0x0063_6f76_6572_6564;
