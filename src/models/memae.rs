//! MemAE (Gong, Liu, Le, Saha, Mansour, Venkatesh & van den Hengel, ICCV 2019, arXiv 1904.02639).
//!
//! An autoencoder whose code is replaced by a mixture of a few memorised codes of normal samples, so that an
//! anomaly is rebuilt from normal parts. For a query z ∈ ℝᶜ and a memory M of N rows m_i:
//!
//! | | formula | equation |
//! |---|---|---|
//! | reading | ẑ = ŵM | (3) |
//! | addressing | w_i = exp d(z, m_i) / Σ_j exp d(z, m_j) | (4) |
//! | `addressing=cosine` | d(z, m) = z·m / ‖z‖‖m‖ | (5) |
//! | `addressing=dot` | d(z, m) = z·m, the official code's | |
//! | hard shrinkage | ŵ_i = max(w_i − λ, 0)·w_i / (∣w_i − λ∣ + ε), so w_i above λ and 0 below, then ŵ / ‖ŵ‖₁ | (7) |
//! | loss | mean (x − x̂)² + α·mean over queries of −Σ ŵ_i log ŵ_i, α = 2·10⁻⁴ | (8), (9), (10) |
//! | score `reconstruction` | Σ over pixels (x − x̂)² | §3.4 |
//! | score `absolute` | Σ over pixels ∣x − x̂∣ | |
//!
//! λ is `shrink`/N; the paper takes 1/N to 3/N. Where no w_i exceeds λ, ŵ would be 0 and ẑ too: such a query
//! is addressed by w as it is. So the rows of ŵ always sum to 1.
//!
//! The encoder and decoder are DCGAN's convolutions with batch norm, to 4×4. With `memory=location` each
//! place of that map is a query (C its channels, as in the paper's networks), with `memory=flat` the whole
//! code (C the latent). Tables have the paper's network for KDD99, fully connected 60-30-10-latent, and
//! N = 50.

use super::nets::{Decoder, Encoder, Nets};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options, Prior};
use crate::nn::{Adam, BatchNorm, Conv2d, Mode, mse};
use crate::tape::{Initial, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "memae",
    title: "autoencoder with a memory of normal codes",
    paper: "Gong, Liu, Le, Saha, Mansour, Venkatesh & van den Hengel, ICCV 2019",
    url: "https://arxiv.org/abs/1904.02639",
    scores: &[
        Named { name: "reconstruction", about: "sum over pixels of squared differences" },
        Named { name: "absolute", about: "sum over pixels of absolute differences" },
    ],
    options: &[
        OptionInfo {
            key: "items",
            default: "0",
            kind: OptionKind::Whole(0, 65_536),
            help: "memory items N; 0 for the paper's: 100 for gray images and signals, 500 for colour, 50 for tables",
        },
        OptionInfo {
            key: "memory",
            default: "location",
            kind: OptionKind::Choice(&["location", "flat"]),
            help: "a query at each place of the feature map, or one for the whole sample",
        },
        OptionInfo {
            key: "addressing",
            default: "cosine",
            kind: OptionKind::Choice(&["cosine", "dot"]),
            help: "similarity of query and item: the paper's, or the official code's",
        },
        OptionInfo {
            key: "shrink",
            default: "1",
            kind: OptionKind::Number(0.0, 10.0),
            help: "threshold of the hard shrinkage in units of 1/N; 0 for none",
        },
        OptionInfo {
            key: "entropy",
            default: "0.0002",
            kind: OptionKind::Number(0.0, 10.0),
            help: "weight of the entropy of the addresses, alpha",
        },
    ],
    defaults: Defaults {
        batch: 64,
        lr: 1e-3,
        betas: [0.9, 0.999],
        latent: 64,
        prior: Prior::Normal,
        length: Length::Epochs(50),
    },
    tables: Some(Defaults {
        batch: 64,
        lr: 1e-3,
        betas: [0.9, 0.999],
        latent: 3,
        prior: Prior::Normal,
        length: Length::Steps(600),
    }),
    new: |states, config, options| Ok(Box::new(MemAe::new(states, config, options)?)),
};

/// The memory M.
#[derive(Debug, Clone)]
pub struct Memory {
    /// M, `[N, C]`.
    pub items: Variable,
    cosine: bool,
    /// λ: addresses below it are shrunk to 0.
    threshold: f32,
}

impl Memory {
    /// Registers `name`: N items of C values, uniform within 1/√C as in the official code.
    pub fn new(states: &mut States, name: &str, shape: [usize; 2], cosine: bool, shrink: f32) -> Self {
        let bound = 1.0 / (shape[1] as f32).sqrt();
        let items = states.add(name, &shape, Initial::Uniform { bound });
        Self { items, cosine, threshold: shrink / shape[0] as f32 }
    }

    /// ŵ, `[m, N]`, of queries `[m, C]`; every row sums to 1.
    pub fn address<'t>(&self, tape: &'t Tape, queries: Tensor<'t>) -> Tensor<'t> {
        let _scope = tape.scope("memory");
        let items = tape.state(&self.items);
        let similarity = if self.cosine {
            let unit = |rows: Tensor<'t>| rows / (rows.square().sum(&[1]) + 1e-12).sqrt();
            unit(queries).matmul_with(unit(items), false, true)
        } else {
            queries.matmul_with(items, false, true)
        };
        let w = similarity.softmax(1);
        if self.threshold == 0.0 {
            return w;
        }
        let shrunk = (w - self.threshold).step().select(w, tape.constant(0.0));
        let empty = 1.0 - shrunk.sum(&[1]).step();
        let kept = shrunk + w * empty;
        kept / kept.sum(&[1])
    }

    /// ẑ = ŵM, `[m, C]`.
    pub fn read<'t>(&self, tape: &'t Tape, address: Tensor<'t>) -> Tensor<'t> {
        address.matmul(tape.state(&self.items))
    }
}

/// Mean over queries of −Σ ŵ log ŵ, equation (9).
pub fn entropy(address: Tensor<'_>) -> Tensor<'_> {
    // A weight of 0 adds nothing.
    (address * (address + 1e-12).log()).sum_per_sample().mean_all() * -1.0
}

/// Encoder and decoder around the memory.
#[allow(clippy::large_enum_variant, reason = "there is one to a model")]
#[derive(Debug, Clone)]
enum Networks {
    /// A query at each place.
    Location(Maps),
    /// A query for each sample.
    Flat(Encoder, Decoder),
}

/// Convolutions to a feature map and back.
#[derive(Debug, Clone)]
struct Maps {
    down: Vec<(Conv2d, BatchNorm)>,
    up: Vec<(Conv2d, BatchNorm)>,
    output: Conv2d,
}

impl Maps {
    /// Slope of the leaky ReLUs.
    const SLOPE: f32 = 0.2;

    fn new(states: &mut States, config: &Config) -> Self {
        let kernel = config.kernel(config.kernel);
        let levels = config.levels();
        let (mut down, mut up) = (vec![], vec![]);
        let mut from = config.channels;
        for level in 0..levels {
            let (name, to) = (format!("encoder.down{}", level + 1), config.channels_at(level));
            let conv = Conv2d::new(states, &name, [from, to], kernel, config.halving(level), false);
            down.push((conv, BatchNorm::new(states, &format!("{name}_bn"), to)));
            from = to;
        }
        for level in (1..levels).rev() {
            let (name, to) = (format!("decoder.up{}", levels - level), config.channels_at(level - 1));
            let conv = Conv2d::transposed(states, &name, [from, to], kernel, config.halving(level), false);
            up.push((conv, BatchNorm::new(states, &format!("{name}_bn"), to)));
            from = to;
        }
        let last = [from, config.channels];
        let output = Conv2d::transposed(states, "decoder.output", last, kernel, config.halving(0), true);
        Self { down, up, output }
    }

    fn layers<'t>(tape: &'t Tape, layers: &[(Conv2d, BatchNorm)], x: Tensor<'t>, mode: Mode) -> Tensor<'t> {
        layers.iter().fold(x, |h, (conv, norm)| {
            norm.forward(tape, conv.forward(tape, h), mode).leaky_relu(Self::SLOPE)
        })
    }

    fn parameters(&self) -> Vec<Variable> {
        let layers = self.down.iter().chain(&self.up);
        let all = layers.flat_map(|(conv, norm)| [conv.parameters(), norm.parameters()].concat());
        all.chain(self.output.parameters()).collect()
    }
}

/// Networks and memory.
#[derive(Debug, Clone)]
pub struct MemAe {
    /// Sizes of the networks and of their samples.
    pub config: Config,
    /// M: the rows of normal codes.
    pub memory: Memory,
    networks: Networks,
    alpha: f32,
    adam: Option<Adam>,
}

/// What one pass makes of a batch.
#[derive(Clone, Copy)]
pub struct Recalled<'t> {
    /// Queries, `[m, C]`.
    pub queries: Tensor<'t>,
    /// ŵ, `[m, N]`.
    pub address: Tensor<'t>,
    /// x̂: the reconstruction.
    pub made: Tensor<'t>,
}

impl MemAe {
    /// Registers the parameters as `encoder.*`, `memory` and `decoder.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for sizes that the networks do not allow.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        let (networks, width) = if config.form == Form::Table || options.is("memory", "flat") {
            let encoder = Encoder::new(states, "encoder", config, Nets::Dcgan, config.latent);
            (Networks::Flat(encoder, Decoder::new(states, "decoder", config, Nets::Dcgan)), config.latent)
        } else {
            (Networks::Location(Maps::new(states, config)), config.channels_at(config.levels() - 1))
        };
        let items = match (options.whole("items"), config.form, config.channels) {
            (0, Form::Table, _) => 50,
            (0, Form::Image, 3) => 500,
            (0, ..) => 100,
            (given, ..) => given,
        };
        let (cosine, shrink) = (options.is("addressing", "cosine"), options.number("shrink"));
        Ok(Self {
            config: config.clone(),
            memory: Memory::new(states, "memory", [items, width], cosine, shrink),
            networks,
            alpha: options.number("entropy"),
            adam: None,
        })
    }

    /// x̂, and how the memory was asked for it.
    pub fn recall<'t>(&self, tape: &'t Tape, x: Tensor<'t>, mode: Mode) -> Recalled<'t> {
        match &self.networks {
            Networks::Flat(encoder, decoder) => {
                let queries = encoder.forward(tape, x, mode);
                let address = self.memory.address(tape, queries);
                let made = decoder.forward(tape, self.memory.read(tape, address), mode);
                Recalled { queries, address, made }
            }
            Networks::Location(maps) => {
                let h = Maps::layers(tape, &maps.down, x, mode);
                let [n, c, height, width] = [0, 1, 2, 3].map(|d| h.shape()[d]);
                let queries = h.permute(&[0, 2, 3, 1]).reshape(&[n * height * width, c]);
                let address = self.memory.address(tape, queries);
                let read = self.memory.read(tape, address).reshape(&[n, height, width, c]);
                let h = Maps::layers(tape, &maps.up, read.permute(&[0, 3, 1, 2]), mode);
                Recalled { queries, address, made: maps.output.forward(tape, h).tanh() }
            }
        }
    }
}

impl System for MemAe {
    fn config(&self) -> &Config {
        &self.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, _seed: u64) {
        let mut parameters = match &self.networks {
            Networks::Location(maps) => maps.parameters(),
            Networks::Flat(encoder, decoder) => [encoder.parameters(), decoder.parameters()].concat(),
        };
        parameters.push(self.memory.items.clone());
        self.adam = Some(Adam::new(states, "adam", parameters, training.lr, training.betas));
    }

    fn stages(&self) -> Vec<Stage> {
        vec![Stage::simple("training", Share::Part(1.0))]
    }

    fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
        let Some(adam) = &self.adam else { return vec![] };
        let Recalled { address, made, .. } = self.recall(tape, x, Mode::Train);
        let (reconstruction, entropy) = (mse(x, made), entropy(address));
        adam.minimise(tape, reconstruction + entropy * self.alpha);
        vec![("reconstruction", reconstruction), ("entropy", entropy)]
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let Recalled { queries, made, .. } = self.recall(tape, x, Mode::Eval);
        let apart = x - made;
        Scored::of_errors(
            if score == "absolute" { apart.abs() } else { apart.square() },
            made,
            queries.reshape(&[x.shape()[0], queries.len() / x.shape()[0]]),
        )
    }
}
