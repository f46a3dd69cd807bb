//! The programs that `explain`, `bench` and `doctor` look at, recorded without a model file or data.

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ganomede_kernels::sample::uniform;

use crate::shared::args::ChannelsArg;
use crate::shared::{CliError, Interrupt};
use ganomede::device::Executable;
use ganomede::models::search::{Search, SearchConfig};
use ganomede::models::{Config, Form, Info, Options, SYSTEMS, Size, Training, anogan, find};
use ganomede::program::{CompileError, Program, Role, compile};
use ganomede::tape::{Graph, States, Tape};
use ganomede::train::record_part;

/// A system by the name that was given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChosenSystem {
    pub(crate) info: &'static Info,
    name: &'static str,
}

impl ChosenSystem {
    /// The one that is taken where any would do: in the demo, in tests of a device, for lists of kernels.
    pub(crate) const USUAL: Self = Self::of(&anogan::INFO);
    /// AnoGAN's networks alone; their training step is AnoGAN's.
    const DCGAN: Self = Self { info: &anogan::INFO, name: "dcgan" };

    /// Names a system by its own name.
    pub(crate) const fn of(info: &'static Info) -> Self {
        Self { info, name: info.name }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }
}

/// Parser of a system's name.
pub(crate) fn parse_system() -> impl TypedValueParser<Value = ChosenSystem> {
    let names = SYSTEMS.iter().map(|info| PossibleValue::new(info.name).help(info.title));
    PossibleValuesParser::new(names)
        .map(|name| ChosenSystem::of(find(&name).unwrap_or(ChosenSystem::USUAL.info)))
}

/// As [`parse_system`], with `dcgan` for AnoGAN's networks.
pub(crate) fn parse_networks() -> impl TypedValueParser<Value = ChosenSystem> {
    let names = SYSTEMS.iter().map(|info| PossibleValue::new(info.name).help(info.title));
    let dcgan = PossibleValue::new("dcgan").help("AnoGAN's networks");
    PossibleValuesParser::new(names.chain([dcgan]))
        .map(|name| find(&name).map_or(ChosenSystem::DCGAN, ChosenSystem::of))
}

/// Which of a system's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// One training step.
    Step,
    /// One gradient step of the latent search.
    Search,
    /// One pass from samples to scores.
    Score,
}

impl Which {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Search => "search",
            Self::Score => "score",
        }
    }

    /// In words.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Step => "one training step",
            Self::Search => "one step of the latent search",
            Self::Score => "one pass from samples to scores",
        }
    }
}

/// Sizes of the networks.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Sizes {
    /// Size of the images, or length of windows of series: 16 to 1024; 64 is a square, 96x64 has the width
    /// first.
    #[arg(long, value_name = "WxH", default_value_t = Size::square(64))]
    pub(crate) size: Size,
    /// Gray or colour.
    #[arg(long, value_enum, default_value = "gray")]
    pub(crate) channels: ChannelsArg,
    /// Channels of the widest feature maps.
    #[arg(long, default_value_t = 64)]
    pub(crate) width: usize,
    /// Length of the latent vector [default: 100; the system's for its networks' picture].
    #[arg(long)]
    pub(crate) latent: Option<usize>,
}

impl Sizes {
    pub(crate) fn config(&self) -> Config {
        let channels = if self.channels == ChannelsArg::Gray { 1 } else { 3 };
        Config {
            size: self.size,
            channels,
            width: self.width,
            latent: self.latent.unwrap_or(100),
            ..Config::default()
        }
    }
}

/// `--form`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormArg {
    /// Square images.
    Image,
    /// Windows of a signal, `--size` points.
    Signal,
    /// Rows of a table.
    Table,
}

impl FormArg {
    /// Sizes for samples of the form, and the samples in words.
    pub(crate) fn of(self, sizes: Config) -> (Config, String) {
        let size = sizes.size;
        match self {
            Self::Image => (sizes, size.sides()),
            Self::Signal => (sizes.of(Form::Signal), format!("windows of {size}")),
            // As many features as KDD99's rows have.
            Self::Table => (Config { channels: 121, ..sizes.of(Form::Table) }, "rows of a table".to_owned()),
        }
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

/// Records and compiles. Of a training's parts (`critic`, `generator`, …) the one named `part`, else the
/// first.
pub(crate) fn record_program(
    system: ChosenSystem,
    which: Which,
    part: Option<&str>,
    config: &Config,
    batch: usize,
    seed: u64,
) -> Result<Recorded, CliError> {
    if part.is_some() && which != Which::Step {
        return Err(CliError::input("--part names a part of the training step; leave --program out"));
    }
    let mut states = States::new();
    let options = Options::new(system.info.options, [])?;
    let mut model = system.info.build(&mut states, config, &options)?;
    let tape = Tape::new();
    let mut prepare = None;
    match which {
        Which::Step => {
            let defaults = system.info.defaults;
            let training = Training { lr: defaults.lr, betas: defaults.betas };
            model.register_training(&mut states, training, seed);
            let (stage, part) = find_part(model.as_ref(), part)?;
            record_part(&tape, model.as_ref(), stage, part, batch);
        }
        Which::Search => {
            let Some(latent) = model.latent() else {
                return Err(CliError::input(format!("{} has no latent search", system.name())));
            };
            let score = system.info.scores[0].name;
            let search = Search::new(&mut states, model.as_ref(), score, &SearchConfig::default(), batch);
            search.step(&tape, latent);
            let start = Tape::new();
            search.prepare(&start, latent, false);
            prepare = Some(compile(&start.finish().map_err(CompileError::from)?)?);
        }
        Which::Score => {
            let scored = model.score(&tape, tape.input("x", &config.images(batch)), "");
            tape.output("score", scored.score);
            if let Some(map) = scored.map {
                tape.output("map", map);
            }
        }
    }
    let graph = tape.finish().map_err(CompileError::from)?;
    let program = compile(&graph)?;
    Ok(Recorded { states, graph, program, prepare })
}

/// Stage and place of the part of this name; the first part of all where there is none.
fn find_part(model: &dyn ganomede::models::System, name: Option<&str>) -> Result<(usize, usize), CliError> {
    let Some(name) = name else { return Ok((0, 0)) };
    let stages = model.stages();
    let mut places = stages
        .iter()
        .enumerate()
        .flat_map(|(s, stage)| stage.parts.iter().enumerate().map(move |(p, part)| (part.name, (s, p))));
    places.find(|(known, _)| *known == name).map(|(_, place)| place).ok_or_else(|| {
        let known: Vec<_> = stages.iter().flat_map(|s| &s.parts).map(|p| p.name).collect();
        CliError::input(format!("--part is {name}; its training has the parts {}", known.join(", ")))
    })
}

/// Whether Ctrl-C was pressed, as an error.
pub(crate) fn go_on(interrupt: &Interrupt) -> Result<(), CliError> {
    if interrupt.raised() { Err(CliError::interrupted("interrupted")) } else { Ok(()) }
}

/// Uniform numbers in [−1, 1).
pub(crate) fn random_values(len: usize, seed: u64, stream: u32) -> Vec<f32> {
    uniform(len, seed, stream).into_iter().map(|v| 2.0 * v - 1.0).collect()
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
