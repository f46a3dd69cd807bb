//! The programs that `explain`, `bench` and `doctor` look at, recorded without a model file or data.

use clap::ValueEnum;
use ganomede_kernels::{Kernel, random};

use super::args::ChannelsArg;
use super::{CliError, Interrupt};
use crate::device::Executable;
use crate::models::anogan::{AnoGan, Optimisers, Search, SearchConfig, Training};
use crate::models::dcgan::Config;
use crate::program::{CompileError, Program, Role, compile};
use crate::tape::{Graph, States, Tape};
use crate::train::Trainer;

/// Systems whose programs can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// The networks alone; their training step is AnoGAN's.
    Dcgan,
    /// DCGAN and latent search.
    Anogan,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dcgan => "dcgan",
            Self::Anogan => "anogan",
        }
    }
}

/// Which of a system's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// One training step: D on real and fake images, then G.
    Step,
    /// One gradient step of the latent search.
    Search,
}

impl Which {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Search => "search",
        }
    }
}

/// Sizes of the networks.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Sizes {
    /// Side of the square images: a power of two from 16 to 256.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Gray or colour.
    #[arg(long, value_enum, default_value = "gray")]
    pub(crate) channels: ChannelsArg,
    /// Channels of the widest feature maps.
    #[arg(long, default_value_t = 64)]
    pub(crate) width: usize,
    /// Length of the latent vector.
    #[arg(long, default_value_t = 100)]
    pub(crate) latent: usize,
}

impl Sizes {
    pub(crate) fn config(&self) -> Config {
        let channels = if self.channels == ChannelsArg::Gray { 1 } else { 3 };
        Config { size: self.size, channels, width: self.width, latent: self.latent, ..Config::default() }
    }
}

/// `--batch`, and everything that a command line may ask for at most.
pub(crate) fn parse_batch(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(batch @ 1..=65_536) => Ok(batch),
        _ => Err("a batch is a whole number from 1 to 65536".to_owned()),
    }
}

/// A program with what it was compiled from.
pub(crate) struct Recorded {
    pub(crate) states: States,
    pub(crate) graph: Graph,
    pub(crate) program: Program,
    /// Run once before the first replay: computes f(x) of the queries and starts their latents.
    pub(crate) prepare: Option<Program>,
}

/// Records and compiles.
pub(crate) fn record(which: Which, config: &Config, batch: usize, seed: u64) -> Result<Recorded, CliError> {
    let mut states = States::new();
    let model = AnoGan::new(&mut states, config)?;
    let tape = Tape::new();
    let mut prepare = None;
    match which {
        Which::Step => {
            let optimisers = Optimisers::new(&mut states, &model, Training::default(), seed);
            Trainer::record_step(&tape, &model, &optimisers, batch);
        }
        Which::Search => {
            let search = Search::new(&mut states, &model, &SearchConfig::default(), batch);
            search.step(&tape, &model);
            let start = Tape::new();
            search.prepare(&start, &model);
            prepare = Some(compile(&start.finish().map_err(CompileError::from)?)?);
        }
    }
    let graph = tape.finish().map_err(CompileError::from)?;
    let program = compile(&graph)?;
    Ok(Recorded { states, graph, program, prepare })
}

/// Whether Ctrl-C was pressed, as an error.
pub(crate) fn go_on(interrupt: &Interrupt) -> Result<(), CliError> {
    if interrupt.raised() { Err(CliError::interrupted("interrupted")) } else { Ok(()) }
}

/// Uniform numbers in [−1, 1).
pub(crate) fn random_values(len: usize, seed: u64, stream: u32) -> Vec<f32> {
    let kernel = Kernel::Random(random::Random { distribution: random::Distribution::Uniform, len, stream });
    let key = [f32::from_bits(seed as u32), f32::from_bits((seed >> 32) as u32)];
    let mut values = vec![0.0; len];
    let mut scratch = vec![0.0; kernel.cpu_scratch_len(rayon::current_num_threads())];
    kernel.cpu(&[&key, &[0.0]], &mut [&mut values], &mut scratch);
    values.iter_mut().for_each(|v| *v = 2.0 * *v - 1.0);
    values
}

/// Writes random numbers to every input.
pub(crate) fn fill_inputs(executable: &mut Executable, seed: u64) -> Result<(), CliError> {
    let inputs: Vec<(String, usize)> = executable
        .program()
        .buffers
        .iter()
        .filter_map(|b| if let Role::Input(name) = &b.role { Some((name.clone(), b.len)) } else { None })
        .collect();
    for (stream, (name, len)) in (0..).zip(inputs) {
        executable.write(&name, &random_values(len, seed, stream))?;
    }
    Ok(())
}
