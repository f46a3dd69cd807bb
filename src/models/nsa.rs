//! NSA: natural synthetic anomalies (Schlüter, Tan, Hou & Kainz, ECCV 2022, arXiv 2109.15222).
//!
//! A network learns to find patches of other normal images that were blended into a normal image without a
//! seam. What it learns to see is what does not belong where it is, and so it finds real anomalies.
//!
//! | | formula | paper |
//! |---|---|---|
//! | sample | x′ = x with up to `patches` patches of another image, Poisson blended | §3.1, [`Natural`] |
//! | label | y = σ(k·(d − d₀)) where x′ differs from x, d being by how much (median around the pixel); else 0 | §3.2 |
//! | network | ŷ = σ(l(x′)), l of [`EncoderDecoder`] | §4 |
//! | loss | mean over pixels of BCE(ŷ, y) | §4 |
//! | map | ŷ | |
//! | score `mean` | mean of ŷ over pixels | §4 |
//! | score `peak` | maximum of ŷ, averaged over squares of an eighth of the shorter side | not the paper's |
//!
//! The other image is the next one of the batch, which is shuffled; a batch of one lends patches to itself.
//! The paper sets k, d₀, the number of patches and whether gradients are mixed for each category of MVTec AD;
//! defaults here are one setting of them, and the paper's thresholds that keep patches off a plain background
//! are left out: there a patch changes nothing and has no label.

use ganomede_datasets::Image;
use ganomede_datasets::defects::natural::{Label, Natural};
use ganomede_datasets::defects::poisson::Gradients;
use rayon::prelude::*;

use super::resnet18::EncoderDecoder;
use super::system::{Defaults, Info, Inputs, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{Adam, Mode, cross_entropy_of_targets};
use crate::tape::{PoolOptions, States, Tape, Tensor};

/// The system.
pub const INFO: Info = Info {
    name: "nsa",
    title: "segmentation of natural synthetic anomalies",
    paper: "Schlüter, Tan, Hou & Kainz, ECCV 2022",
    url: "https://arxiv.org/abs/2109.15222",
    scores: &[
        Named { name: "mean", about: "mean of the segmentation over pixels, as published" },
        Named {
            name: "peak",
            about: "maximum of the segmentation, averaged over squares of an eighth of a side",
        },
    ],
    options: &[
        OptionInfo {
            key: "patches",
            default: "3",
            kind: OptionKind::Whole(1, 16),
            help: "patches blended into a sample at most; the paper has 3 for objects, 4 for textures",
        },
        OptionInfo {
            key: "gradients",
            default: "source",
            kind: OptionKind::Choice(&["source", "mixed"]),
            help: "what a blend follows: the patch (objects), or the steeper of patch and image (textures)",
        },
        OptionInfo {
            key: "label",
            default: "logistic",
            kind: OptionKind::Choice(&["logistic", "binary"]),
            help: "label of a changed pixel: by how much it changed, or 1",
        },
        OptionInfo {
            key: "steepness",
            default: "0.1667",
            kind: OptionKind::Number(0.001, 10.0),
            help: "k of logistic labels, for changes in steps of 8 bits; 1/12 to 1 in the paper",
        },
        OptionInfo {
            key: "middle",
            default: "15",
            kind: OptionKind::Number(0.0, 255.0),
            help: "change with label one half, d₀, in steps of 8 bits; 3 to 24 in the paper",
        },
        OptionInfo {
            key: "pool",
            default: "yes",
            kind: OptionKind::Choice(&["yes", "no"]),
            help: "the max pool of ResNet's stem; without it maps are twice as fine, at four times the work",
        },
    ],
    defaults: Defaults {
        batch: 32,
        lr: 1e-3,
        betas: [0.9, 0.999],
        latent: 100,
        prior: Prior::Normal,
        length: Length::Epochs(320),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Nsa::new(states, config, options)?)),
};

/// The network and how its samples are made.
#[derive(Debug, Clone)]
pub struct Nsa {
    /// Sizes of the network and of its samples.
    pub config: Config,
    /// x → logits.
    pub network: EncoderDecoder,
    /// How anomalies are made.
    pub natural: Natural,
    adam: Option<Adam>,
}

impl Nsa {
    /// Registers the parameters as `network.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for samples that are no images.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        config.check_form(&[Form::Image])?;
        let logistic =
            Label::Logistic { steepness: options.number("steepness"), middle: options.number("middle") };
        let mixed = options.is("gradients", "mixed");
        let natural = Natural {
            patches: options.whole("patches"),
            gradients: if mixed { Gradients::Mixed } else { Gradients::Source },
            label: if options.is("label", "binary") { Label::Binary } else { logistic },
        };
        let network = EncoderDecoder::new(states, "network", config, options.is("pool", "yes"));
        Ok(Self { config: config.clone(), network, natural, adam: None })
    }
}

impl System for Nsa {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        self.adam = Some(Adam::new(states, "adam", self.network.parameters(), training.lr, training.betas));
    }

    fn needs_host(&self) -> bool {
        true
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    fn synthesise(&self, batch: &[f32], seed: u64, step: u64) -> Inputs {
        let images = images(&self.config, batch);
        let pairs = images.par_iter().enumerate().map(|(i, image)| {
            let source = &images[(i + 1) % images.len()];
            self.natural.draw(image, source, &[NATURAL, seed, step, i as u64])
        });
        let (made, labels): (Vec<_>, Vec<_>) = pairs.collect();
        let made = made.into_iter().flat_map(|image| image.pixels).collect();
        vec![("defective", made), ("label", labels.concat())]
    }

    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(adam) = &self.adam else { return vec![] };
        let [n, _, h, w] = self.config.images(x.shape()[0]);
        let defective = tape.input("defective", &x.shape());
        let label = tape.input("label", &[n, 1, h, w]);
        let (logits, _) = self.network.forward(tape, defective, Mode::Train);
        let loss = cross_entropy_of_targets(logits, label).mean_all();
        adam.minimise(tape, loss);
        vec![("segmentation", loss)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let (logits, features) = self.network.forward(tape, x, Mode::Eval);
        let found = logits.sigmoid();
        let [n, _, h, w] = self.config.images(x.shape()[0]);
        let score = match score {
            "peak" => peak(found, self.config.size.shorter() / 8),
            _ => found.mean_per_sample(),
        };
        let map = Some(found.reshape(&[n, h, w]));
        Scored { score, parts: vec![], reconstruction: None, map, features: Some(features.flatten()) }
    }
}

/// Domain of the random numbers.
const NATURAL: u64 = 0x006e_6174_7572_616c;

/// The images of a batch; what is left of one is dropped.
pub fn images(config: &Config, batch: &[f32]) -> Vec<Image> {
    let [height, width] = config.extent();
    let image = |pixels: &[f32]| Image { channels: config.channels, height, width, pixels: pixels.to_vec() };
    batch.chunks_exact(config.sample_len()).map(image).collect()
}

/// The maximum of a segmentation `[n, 1, h, w]` averaged over squares of about this side, zeros lying beyond
/// the border, `[n]`.
pub fn peak(found: Tensor<'_>, side: usize) -> Tensor<'_> {
    let side = side / 2 * 2 + 1;
    let window = PoolOptions::new([side; 2], [1; 2], [side / 2; 2]);
    let n = found.shape()[0];
    found.avg_pool2d(window).max(&[1, 2, 3]).reshape(&[n])
}
