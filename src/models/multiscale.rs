//! Features of several scales from a network that is trained here, or not at all: what
//! [`feature_gaussian`](super::feature_gaussian) and [`knn`](super::knn) look at.
//!
//! The network is DCGAN's discriminator without norm ([`Pyramid`]), whose convolutions
//! halve a sample again and again. `features` says how it comes to its weights:
//!
//! | | the network is | trained by |
//! |---|---|---|
//! | `random` | as it starts, N(0, 0.02) | nothing: the control row, and often hard to beat |
//! | `encoder` | the encoder of an autoencoder with DCGAN's generator | mean over the batch of Σ (x − x̂)² |
//! | `critic` | the critic of a WGAN-GP, as [f-AnoGAN](super::f_anogan) trains it | L_D and, every fifth step, L_G |
//!
//! Two descriptions are made of its first `scales` activations h₁ (half the side), h₂ (a quarter), …:
//!
//! * *places*: h₂ and coarser ones, enlarged to h₂'s grid and joined: a vector for each place, as in PaDiM
//!   (Defard et al. 2021) and PatchCore (Roth et al. 2022), which take them from networks trained on
//!   ImageNet;
//! * *image*: mean, standard deviation, least and greatest value of each channel of all of them: a vector for
//!   the sample, which does not change much where its content moves or turns.
//!
//! With `gradients` there is no network: places and image are described by the
//! [orientations of their edges](super::orientations), the image by those of all places in their order.
//!
//! A row of a table is both descriptions of itself, without a network.

use super::dcgan::{Generator, Pyramid};
use super::orientations;
use super::system::{Losses, Part, Share, Stage, Training};
use super::{Config, ConfigError, Form, OptionInfo, OptionKind, Options};
use crate::nn::{self, Adam, Mode, NormKind};
use crate::tape::{Initial, RandomState, Sampling, States, Tape, Tensor, Variable};

/// `-O features`.
pub(super) const FEATURES: OptionInfo = OptionInfo {
    key: "features",
    default: "random",
    kind: OptionKind::Choice(&["random", "encoder", "critic", "gradients"]),
    help: "what is looked at: an untrained network, an autoencoder's encoder, a WGAN-GP's critic, or edges",
};

/// `-O scales`.
pub(super) const SCALES: OptionInfo = OptionInfo {
    key: "scales",
    default: "4",
    kind: OptionKind::Whole(1, 8),
    help: "convolutions whose activations are features, each half as fine as the one before",
};

/// `-O dimensions`.
pub(super) const DIMENSIONS: OptionInfo = OptionInfo {
    key: "dimensions",
    default: "64",
    kind: OptionKind::Whole(1, 1024),
    help: "numbers at each place, to which features are projected at random where there are more",
};

/// How the network comes to its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Random,
    Encoder,
    Critic,
    Gradients,
}

/// The network, and what trains it.
#[derive(Debug, Clone)]
pub struct Multiscale {
    /// Sizes of the network and of its samples.
    pub config: Config,
    /// Absent for tables and gradients.
    net: Option<Pyramid>,
    source: Source,
    scales: usize,
    learning: Option<Learning>,
}

/// What only training needs.
#[derive(Debug, Clone)]
struct Learning {
    generator: Generator,
    net: Adam,
    other: Adam,
    random: RandomState,
}

impl Multiscale {
    /// Steps of the critic for one of the generator.
    pub const CRITIC_STEPS: u64 = 5;
    /// Weight of the gradient penalty.
    pub const PENALTY: f32 = 10.0;

    /// Registers the parameters as `features.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for tables with a network, and for gradients of what is no image.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        let source = match options.text("features") {
            "encoder" => Source::Encoder,
            "critic" => Source::Critic,
            "gradients" => Source::Gradients,
            _ => Source::Random,
        };
        let is_table = config.form == Form::Table;
        if is_table && source != Source::Random {
            let allowed = "random for tables, whose rows are their own features";
            return Err(ConfigError::new("option features", options.text("features"), allowed));
        }
        if source == Source::Gradients && config.form != Form::Image {
            let allowed = "random, encoder or critic for signals: gradients are of images";
            return Err(ConfigError::new("option features", options.text("features"), allowed));
        }
        let has_net = !is_table && source != Source::Gradients;
        let outputs = if source == Source::Encoder { config.latent } else { 1 };
        let net = has_net.then(|| Pyramid::new(states, "features", config, NormKind::None, outputs));
        let scales = options.whole("scales").clamp(1, config.levels().max(1));
        Ok(Self { config: config.clone(), net, source, scales, learning: None })
    }

    /// Registers what training the network needs.
    pub fn register(&mut self, states: &mut States, training: Training, seed: u64) {
        let (Some(net), false) = (&self.net, self.source == Source::Random) else { return };
        let Training { lr, betas } = training;
        let generator = Generator::new(states, "generator", &self.config);
        self.learning = Some(Learning {
            net: Adam::new(states, "adam_d", net.parameters(), lr, betas),
            other: Adam::new(states, "adam_g", generator.parameters(), lr, betas),
            random: nn::random_state(states, "random", seed),
            generator,
        });
    }

    /// The stages that train the network: one or none.
    pub fn stages(&self) -> Vec<Stage> {
        let part = |name, every| Part { name, every };
        match self.source {
            Source::Random | Source::Gradients => vec![],
            Source::Encoder => vec![Stage::simple("encoder", Share::Part(1.0))],
            Source::Critic => vec![Stage {
                name: "critic",
                share: Share::Part(1.0),
                parts: vec![part("critic", 1), part("generator", Self::CRITIC_STEPS)],
            }],
        }
    }

    /// Records a step of the network's training.
    pub fn record<'t>(&self, tape: &'t Tape, part: usize, x: Tensor<'t>) -> Losses<'t> {
        let (Some(net), Some(learning)) = (&self.net, &self.learning) else { return vec![] };
        let Learning { generator, random, .. } = learning;
        if self.source == Source::Encoder {
            let made = generator.forward(tape, net.forward(tape, x, Mode::Train), Mode::Train);
            let loss = (x - made).square().sum_per_sample().mean_all();
            learning.net.minimise(tape, loss);
            learning.other.minimise(tape, loss);
            return vec![("reconstruction", loss)];
        }
        let critic = |x| net.forward(tape, x, Mode::Train);
        let n = x.shape()[0];
        let z = self.config.prior.sample(tape, random, n, self.config.latent);
        let fake = generator.forward(tape, z, Mode::Train);
        let losses = if part == 0 {
            let fake = fake.stop_gradient();
            let (d_real, d_fake) = (critic(x).mean_all(), critic(fake).mean_all());
            let penalty = nn::gradient_penalty(tape, critic, x, fake, tape.uniform(random, &[n]));
            let loss = d_fake - d_real + penalty * Self::PENALTY;
            learning.net.minimise(tape, loss);
            vec![("loss_d", loss), ("wasserstein", d_real - d_fake), ("penalty", penalty)]
        } else {
            let loss = -critic(fake).mean_all();
            learning.other.minimise(tape, loss);
            vec![("loss_g", loss)]
        };
        nn::advance(tape, random);
        losses
    }

    /// Level whose grid the places have.
    fn finest(&self) -> usize {
        usize::from(self.scales > 1)
    }

    /// Rows and columns of places.
    pub fn grid(&self) -> [usize; 2] {
        let level = match (&self.net, self.source) {
            (Some(_), _) => self.finest() + 1,
            (None, Source::Gradients) => orientations::STEP.ilog2() as usize,
            (None, _) => 0,
        };
        self.config.extent_at(level)
    }

    /// What suits other images than the default does, of images: edges in place of an untrained network.
    pub fn also_tried(&self) -> Option<[&'static str; 2]> {
        let is_default = self.config.form == Form::Image && self.source == Source::Random;
        is_default.then_some(["features", "gradients"])
    }

    /// Whether the numbers of a sample come in one unit, so that none is to be stretched.
    pub fn has_one_unit(&self) -> bool {
        self.source == Source::Gradients
    }

    /// Features of a place.
    pub fn at_place(&self) -> usize {
        match self.net {
            Some(_) => (self.finest()..self.scales).map(|level| self.config.channels_at(level)).sum(),
            None if self.source == Source::Gradients => orientations::COUNT * self.config.channels,
            None => self.config.channels,
        }
    }

    /// Features of a sample.
    pub fn at_image(&self) -> usize {
        match self.net {
            Some(_) => (0..self.scales).map(|level| 4 * self.config.channels_at(level)).sum(),
            None => self.grid().iter().product::<usize>() * self.at_place(),
        }
    }

    /// The features of each place, row by row: `[n · places, at_place]`.
    pub fn places<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let Some(net) = &self.net else {
            return if self.source == Source::Gradients { orientations::places(x) } else { x.flatten() };
        };
        let maps = net.maps(tape, x, Mode::Eval, self.scales);
        let grid = self.grid();
        let maps: Vec<_> = maps[self.finest()..].iter().map(|h| h.resize(grid, Sampling::Linear)).collect();
        let joined = Tensor::concat(&maps, 1);
        let s = joined.shape();
        joined.permute(&[0, 2, 3, 1]).reshape(&[s[0] * s[2] * s[3], s[1]])
    }

    /// The features of each sample: `[n, at_image]`.
    pub fn image<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> Tensor<'t> {
        let Some(net) = &self.net else {
            return if self.source == Source::Gradients { orientations::samples(x) } else { x.flatten() };
        };
        let mut all = vec![];
        for h in net.maps(tape, x, Mode::Eval, self.scales) {
            let [n, c] = [h.shape()[0], h.shape()[1]];
            let h = h.reshape(&[n, c, h.len() / (n * c)]);
            let moments = [h.mean(&[2]), h.variance(&[2]).sqrt(), h.min(&[2]), h.max(&[2])];
            all.extend(moments.map(|m| m.reshape(&[n, c])));
        }
        Tensor::concat(&all, 1)
    }
}

/// Features at unit variance, and in fewer numbers where there are many: (f − μ) / σ, then a random
/// projection (Johnson & Lindenstrauss 1984), which keeps distances on average.
#[derive(Debug, Clone)]
pub struct Standard {
    /// μ, `[1, f]`.
    pub mean: Variable,
    /// σ², `[1, f]`.
    pub variance: Variable,
    /// `[d, f]`, N(0, 1/d) of the seed; absent where all features are kept.
    pub projection: Option<Variable>,
    /// Batches seen, `[1]`.
    seen: Option<Variable>,
}

impl Standard {
    /// Registers `name.mean`, `name.variance` and, for more than `dimensions` features, `name.projection`.
    pub fn new(states: &mut States, name: &str, features: usize, dimensions: usize) -> Self {
        let start = Initial::Normal { mean: 0.0, std: (dimensions as f32).sqrt().recip() };
        Self {
            mean: states.add(format!("{name}.mean"), &[1, features], Initial::Constant(0.0)),
            variance: states.add(format!("{name}.variance"), &[1, features], Initial::Constant(1.0)),
            projection: (dimensions < features)
                .then(|| states.add(format!("{name}.projection"), &[dimensions, features], start)),
            seen: None,
        }
    }

    /// Registers what the pass over the data needs.
    pub fn register(&mut self, states: &mut States) {
        let name = format!("{}.seen", self.mean.name());
        self.seen = Some(states.add(name, &[1], Initial::Constant(0.0)));
    }

    /// Numbers of a row after the projection.
    pub fn numbers(&self) -> usize {
        self.projection.as_ref().unwrap_or(&self.mean).shape[if self.projection.is_some() { 0 } else { 1 }]
    }

    /// Takes a batch of rows `[m, f]` into mean and variance (Chan, Golub & LeVeque 1983).
    pub fn observe<'t>(&self, tape: &'t Tape, rows: Tensor<'t>) {
        let Some(seen) = &self.seen else { return };
        let share = count(tape, seen, 1.0);
        let (mean, variance) = (tape.state(&self.mean), tape.state(&self.variance));
        let apart = rows.mean(&[0]) - mean;
        tape.assign(&self.mean, mean + apart * share);
        let within = variance * (1.0 - share) + rows.variance(&[0]) * share;
        tape.assign(&self.variance, within + apart.square() * (share * (1.0 - share)));
    }

    /// Rows `[m, f]` → `[m, numbers]`.
    pub fn apply<'t>(&self, tape: &'t Tape, rows: Tensor<'t>) -> Tensor<'t> {
        let (mean, variance) = (tape.state(&self.mean), tape.state(&self.variance));
        // A feature that does not vary but by rounding keeps its units.
        let varies = (variance - mean.square() * 1e-10 - 1e-30).step();
        let rows = (rows - mean) / varies.select(variance, tape.constant(1.0)).sqrt();
        match &self.projection {
            Some(projection) => rows.matmul_with(tape.state(projection), false, true),
            None => rows,
        }
    }
}

/// Counts `n` more in `seen`; their share in all, `[1, 1]`.
pub(super) fn count<'t>(tape: &'t Tape, seen: &Variable, n: f32) -> Tensor<'t> {
    let all = tape.state(seen) + n;
    tape.assign(seen, all);
    (all.recip() * n).reshape(&[1, 1])
}

/// A running mean: moves by the share of what is new.
pub(super) fn blend<'t>(tape: &'t Tape, into: &Variable, new: Tensor<'t>, share: Tensor<'t>) {
    let old = tape.state(into);
    tape.assign(into, old + (new - old) * share.reshape(&vec![1; into.shape.len()]));
}
