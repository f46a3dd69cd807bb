//! Nearest neighbours: the distance to the most similar normal sample, or of each place to the most similar
//! normal place.
//!
//! PatchCore (Roth, Pemula, Zepeda, Schölkopf, Brox & Gehler, CVPR 2022, arXiv 2106.08265) without a network
//! that was trained on other images, beside the plainest of its kind (Cover & Hart 1967). Features are those
//! of [`multiscale`](super::multiscale), at unit variance.
//!
//! | | formula | source |
//! |---|---|---|
//! | bank | M_C = the k-centre coreset of normal features: greedily the one farthest from those chosen | Roth et al., algorithm 1 |
//! | `image` | min over m ∈ M_C of ‖f(x) − m‖, f the description of the whole sample | Cover & Hart |
//! | `places` | max over places p of min over m ∈ M_C of ‖f_p(x) − m‖, f_p projected to d numbers | (6), without its weight |
//! | map | min over m of ‖f_p(x) − m‖, enlarged between places | §3.3 |
//!
//! The passes are `scale` for the features' mean and variance, and `bank`, which draws candidates with equal
//! probabilities (reservoir sampling: Vitter 1985, algorithm R); the coreset of them is found on the host.
//! Distances are products of matrices, ‖f‖² − 2fᵀm + ‖m‖², by blocks of the bank; of each block the nearest
//! row is then subtracted itself, so that small distances keep their digits.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::feature_gaussian::enlarged;
use super::multiscale::{DIMENSIONS, FEATURES, Multiscale, SCALES, Standard};
use super::system::{Defaults, Info, Length, Losses, Named, Scored, Share, Stage, System, Training};
use super::{Config, ConfigError, OptionInfo, OptionKind, Options, Prior};
use crate::device::{DeviceError, Executable, Store};
use crate::tape::{Initial, States, Tape, Tensor, Variable};

/// The system.
pub const INFO: Info = Info {
    name: "knn",
    title: "nearest neighbours of features",
    paper: "Roth, Pemula, Zepeda, Schölkopf, Brox & Gehler, CVPR 2022; Cover & Hart 1967",
    url: "https://arxiv.org/abs/2106.08265",
    scores: &[
        Named { name: "image", about: "distance of the whole sample from the most similar normal one" },
        Named { name: "places", about: "greatest distance of a place from the most similar normal place" },
    ],
    options: &[
        FEATURES,
        SCALES,
        DIMENSIONS,
        OptionInfo {
            key: "images",
            default: "1024",
            kind: OptionKind::Whole(1, 16_384),
            help: "samples in the bank, at most",
        },
        OptionInfo {
            key: "places",
            default: "2048",
            kind: OptionKind::Whole(1, 65_536),
            help: "places in the bank, at most",
        },
    ],
    defaults: Defaults {
        batch: 32,
        lr: 1e-4,
        betas: [0.0, 0.9],
        latent: 128,
        prior: Prior::Normal,
        length: Length::Epochs(50),
    },
    tables: None,
    new: |states, config, options| Ok(Box::new(Knn::new(states, config, options)?)),
};

/// Features, and the banks of samples and of places.
#[derive(Debug, Clone)]
pub struct Knn {
    features: Multiscale,
    image: Bank,
    places: Bank,
    seed: u64,
}

impl Knn {
    /// Registers the network as `features.*`, and the banks as `image.*` and `places.*`.
    ///
    /// # Errors
    /// [`ConfigError`] for a network of a table, and for banks that are too large.
    pub fn new(states: &mut States, config: &Config, options: &Options) -> Result<Self, ConfigError> {
        let features = Multiscale::new(states, config, options)?;
        let (whole, place) = (features.at_image(), features.at_place());
        let mut bank = |name: &'static str, candidates, features, dimensions| {
            Bank::new(states, name, [options.whole(name_of(name)), candidates], features, dimensions)
        };
        let image = bank("image", 4, whole, whole)?;
        let places = bank("places", 16, place, options.whole("dimensions"))?;
        Ok(Self { features, image, places, seed: 0 })
    }

    /// The features that each bank holds, not yet standardised, and their bank.
    fn described<'t>(&self, tape: &'t Tape, x: Tensor<'t>) -> [(&Bank, Tensor<'t>); 2] {
        [(&self.image, self.features.image(tape, x)), (&self.places, self.features.places(tape, x))]
    }
}

/// The option that says how large a bank is.
fn name_of(bank: &str) -> &'static str {
    if bank == "image" { "images" } else { "places" }
}

impl System for Knn {
    fn config(&self) -> &Config {
        &self.features.config
    }

    fn register_training(&mut self, states: &mut States, training: Training, seed: u64) {
        self.features.register(states, training, seed);
        self.image.register(states);
        self.places.register(states);
        self.seed = seed;
    }

    fn also_tried(&self) -> Option<[&'static str; 2]> {
        self.features.also_tried()
    }

    fn needs_host(&self) -> bool {
        true
    }

    fn stages(&self) -> Vec<Stage> {
        let passes = ["scale", "bank"].map(|name| Stage::simple(name, Share::Passes(1)));
        [self.features.stages(), passes.to_vec()].concat()
    }

    fn record<'t>(&self, tape: &'t Tape, stage: usize, part: usize, x: Tensor<'t>) -> Losses<'t> {
        match stage.checked_sub(self.features.stages().len()) {
            None => return self.features.record(tape, part, x),
            Some(0) => {
                let [image, places] = self.described(tape, x);
                if !self.features.has_one_unit() {
                    image.0.standard.observe(tape, image.1);
                }
                places.0.standard.observe(tape, places.1);
            }
            Some(_) => {
                for (bank, rows) in self.described(tape, x) {
                    tape.output(bank.name, bank.standard.apply(tape, rows));
                }
            }
        }
        vec![]
    }

    fn after_step(
        &self,
        stage: usize,
        at: u64,
        programs: &mut [&mut Executable],
        store: &Store,
    ) -> Result<(), DeviceError> {
        if stage + 1 < self.stages().len() {
            return Ok(());
        }
        let banks = [&self.image, &self.places];
        banks.iter().try_for_each(|bank| bank.collect(at, &programs[0].read(bank.name)?, self.seed, store))
    }

    /// Called again where a finished training is resumed: nothing that it reads changes.
    fn after_stage(&self, stage: usize, store: &Store) -> Result<(), DeviceError> {
        if stage + 1 < self.stages().len() {
            return Ok(());
        }
        self.image.choose(store)?;
        self.places.choose(store)
    }

    fn score<'t>(&self, tape: &'t Tape, x: Tensor<'t>, score: &str) -> Scored<'t> {
        let n = x.shape()[0];
        let [(_, whole), (_, places)] = self.described(tape, x);
        let standard = self.image.standard.apply(tape, whole);
        let image = self.image.distances(tape, standard);
        let places = self.places.distances(tape, self.places.standard.apply(tape, places));
        let places = places.reshape(&[n, places.len() / n]);
        let greatest = places.max(&[1]).reshape(&[n]);
        Scored {
            score: if score == "places" { greatest } else { image },
            parts: vec![("image", image), ("places", greatest)],
            reconstruction: None,
            map: enlarged(places, self.features.grid(), self.config().extent()),
            features: Some(standard),
        }
    }
}

/// Rows of features, their scale, and what is drawn for them in training.
#[derive(Debug, Clone)]
pub struct Bank {
    name: &'static str,
    standard: Standard,
    /// The coreset, `[M, d]`; where there were fewer rows, the first of them again.
    pub rows: Variable,
    candidates: usize,
    drawn: Option<Drawn>,
}

/// What is drawn for a bank.
#[derive(Debug, Clone)]
struct Drawn {
    /// Candidates, `[S, d]` in pieces of [`Bank::PIECE`] rows: a step copies only the pieces that it changes.
    pieces: Vec<Variable>,
    /// How many of them there are, `[1]`.
    count: Variable,
}

impl Bank {
    /// Rows of the bank that are compared at a time.
    const BLOCK: usize = 256;
    /// The most numbers of all candidates together: 1 GiB. Counts of them are exact in f32.
    const MOST: usize = 1 << 28;
    /// Rows of a piece of the candidates.
    const PIECE: usize = 1024;
    /// The most candidates.
    const DRAWN: usize = 1 << 20;

    fn new(
        states: &mut States,
        name: &'static str,
        [size, factor]: [usize; 2],
        features: usize,
        dimensions: usize,
    ) -> Result<Self, ConfigError> {
        let standard = Standard::new(states, &format!("{name}.standard"), features, dimensions);
        let d = standard.numbers();
        let candidates = (size * factor).min(Self::DRAWN);
        if candidates * d > Self::MOST {
            let allowed = format!("at most {} with {d} features each", Self::MOST / d / factor);
            return Err(ConfigError::new(format!("option {}", name_of(name)), size, allowed));
        }
        let rows = states.add(format!("{name}.bank"), &[size, d], Initial::Constant(0.0));
        Ok(Self { name, standard, rows, candidates, drawn: None })
    }

    fn register(&mut self, states: &mut States) {
        self.standard.register(states);
        let d = self.rows.shape[1];
        let mut add = |part: &str, shape: &[usize]| {
            states.add(format!("{}.{part}", self.name), shape, Initial::Constant(0.0))
        };
        let pieces = (0..self.candidates).step_by(Self::PIECE).map(|from| {
            let rows = Self::PIECE.min(self.candidates - from);
            add(&format!("candidates.{}", from / Self::PIECE), &[rows, d])
        });
        let pieces = pieces.collect();
        self.drawn = Some(Drawn { pieces, count: add("count", &[1]) });
    }

    /// Draws from the rows of step `at`: row t of all, counted from 0, is kept with probability S / (t + 1).
    fn collect(&self, at: u64, rows: &[f32], seed: u64, store: &Store) -> Result<(), DeviceError> {
        let Some(Drawn { pieces, count }) = &self.drawn else { return Ok(()) };
        let d = self.rows.shape[1];
        let first = at * (rows.len() / d) as u64;
        let kept = |t: u64| match t < self.candidates as u64 {
            true => Some(t as usize),
            false => {
                let place = (u128::from(random(seed, t)) * u128::from(t + 1)) >> 64;
                (place < self.candidates as u128).then_some(place as usize)
            }
        };
        let mut moves: BTreeMap<usize, Vec<(usize, &[f32])>> = BTreeMap::new();
        for (t, row) in (first..).zip(rows.chunks_exact(d)) {
            if let Some(place) = kept(t) {
                moves.entry(place / Self::PIECE).or_default().push((place % Self::PIECE, row));
            }
        }
        if moves.is_empty() {
            return Ok(());
        }
        for (piece, moves) in moves {
            let piece = pieces[piece].id;
            let mut all = store.read(piece)?;
            moves.into_iter().for_each(|(place, row)| all[place * d..][..d].copy_from_slice(row));
            store.write(piece, &all)?;
        }
        let seen = first + (rows.len() / d) as u64;
        store.write(count.id, &[seen.min(self.candidates as u64) as f32])
    }

    /// Makes the coreset of the candidates the bank.
    fn choose(&self, store: &Store) -> Result<(), DeviceError> {
        let Some(Drawn { pieces, count }) = &self.drawn else { return Ok(()) };
        let [size, d] = [self.rows.shape[0], self.rows.shape[1]];
        let len = store.read(count.id)?[0] as usize * d;
        let mut candidates = vec![];
        for piece in pieces {
            if candidates.len() < len {
                candidates.extend(store.read(piece.id)?);
            }
        }
        candidates.truncate(len);
        if candidates.is_empty() {
            return Ok(());
        }
        let count = candidates.len() / d;
        // What fits is taken whole, without the search, which takes time like its square.
        let mut chosen = if count <= size { (0..count).collect() } else { coreset(&candidates, d, size) };
        chosen.resize(size, 0);
        let rows: Vec<f32> =
            chosen.into_iter().flat_map(|i| candidates[i * d..][..d].iter().copied()).collect();
        store.write(self.rows.id, &rows)
    }

    /// The distance of each query `[q, d]` from the nearest row: `[q]`.
    pub fn distances<'t>(&self, tape: &'t Tape, queries: Tensor<'t>) -> Tensor<'t> {
        let (bank, size) = (tape.state(&self.rows), self.rows.shape[0]);
        let own = queries.square().sum(&[1]);
        let mut least: Option<Tensor<'t>> = None;
        for from in (0..size).step_by(Self::BLOCK) {
            let block = bank.narrow(0, from, Self::BLOCK.min(size - from));
            let norms = block.square().sum(&[1]).transpose();
            let about = own + norms - queries.matmul_with(block, false, true) * 2.0;
            // Rows that are equally near are the same or nearly so: their mean stands for them.
            let nearest = about.equal(about.min(&[1]));
            let row = (nearest / nearest.sum(&[1])).matmul(block);
            let exact = (queries - row).square().sum(&[1]);
            least = Some(least.map_or(exact, |least| least.minimum(exact)));
        }
        let q = queries.shape()[0];
        // A bank has at least one row.
        least.unwrap_or(own).reshape(&[q]).sqrt()
    }
}

/// 64 random bits of a seed and a counter: SplitMix64 (Steele, Lea & Flood 2014).
fn random(seed: u64, counter: u64) -> u64 {
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    mix(mix(seed ^ 0x6B6E_6E00).wrapping_add(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// Greedy k-centre (Gonzalez 1985): the first row, then again and again the one farthest from all that are
/// chosen, of equally far ones the first. At most `most` indices of rows of `d` numbers, each once; fewer
/// where all others are repetitions.
pub fn coreset(rows: &[f32], d: usize, most: usize) -> Vec<usize> {
    let count = rows.len() / d;
    if count == 0 || most == 0 {
        return vec![];
    }
    let row = |i: usize| &rows[i * d..][..d];
    let mut least = vec![f32::INFINITY; count];
    let mut chosen = vec![0];
    while chosen.len() < most.min(count) {
        let last = row(chosen[chosen.len() - 1]);
        let blocks = least.par_chunks_mut(512).zip(rows.par_chunks(512 * d)).enumerate();
        let farthest = blocks.map(|(block, (least, rows))| {
            let mut best = (0.0_f32, usize::MAX);
            for (i, (least, row)) in least.iter_mut().zip(rows.chunks_exact(d)).enumerate() {
                *least = least.min(squared(row, last));
                if *least > best.0 {
                    best = (*least, block * 512 + i);
                }
            }
            best
        });
        // The maximum does not depend on the order of blocks: of equal ones the lower index is taken.
        let (_, farthest) = farthest
            .reduce(|| (0.0, usize::MAX), |a, b| if b.0 > a.0 || b.0 == a.0 && b.1 < a.1 { b } else { a });
        if farthest == usize::MAX {
            break;
        }
        chosen.push(farthest);
    }
    chosen
}

/// ‖a − b‖², in eight sums.
fn squared(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (blocks_a, blocks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = blocks_a.remainder().iter().zip(blocks_b.remainder());
    let rest: f32 = rest.map(|(a, b)| (a - b) * (a - b)).sum();
    for (a, b) in blocks_a.zip(blocks_b) {
        for i in 0..8 {
            sums[i] += (a[i] - b[i]) * (a[i] - b[i]);
        }
    }
    sums.iter().sum::<f32>() + rest
}
