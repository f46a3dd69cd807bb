//! `explain`: a system's tape and program, launch by launch.

mod document;
mod dot;
mod figure;
mod networks;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ganomede_datasets::{Reads, Size};
use ganomede_kernels::{GpuPlan, GpuTraits};
use serde::Serialize;

use self::document::NetworksDocument;
use self::networks::Networks;
use crate::commands::train::parse_option;
use crate::shared::args::Global;
use crate::shared::programs::{
    ChosenSystem, FormArg, Recorded, Sizes, Which, parse_batch, parse_networks, record_program,
};
use crate::shared::session::check_file;
use crate::shared::table::{TextTable, bytes, digits, flops};
use crate::shared::{CliError, note, say, say_json, shown};
use ganomede::device::Device;
use ganomede::device::gpu::{Gpu, PlannedLaunch};
use ganomede::models::{Config, Options};
use ganomede::program::{Launch, LaunchRow, Program, Role};
use ganomede::report::write_atomic;

/// Show the tape and the program of a system: every launch with its kernel, shapes, arithmetic and traffic.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  ganomede explain anogan --size 32 --width 16 --batch 8\n  \
    ganomede explain anogan --program search --dot - | dot -Tsvg > search.svg\n  \
    ganomede explain ganomaly --size 32 --svg networks.svg")]
pub(crate) struct Args {
    /// Which published system.
    #[arg(value_parser = parse_networks())]
    system: ChosenSystem,
    #[command(flatten)]
    sizes: Sizes,
    /// Images in a batch, or searches side by side.
    #[arg(long, default_value_t = 64, value_parser = parse_batch)]
    batch: usize,
    /// Which program.
    #[arg(long, value_enum, default_value = "step")]
    program: Which,
    /// Which part of the training step, of systems that alternate: critic, generator, encoder, …
    #[arg(long, value_name = "NAME")]
    part: Option<String>,
    /// Write the launches as a Graphviz graph, `-` for stdout in place of the text.
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Draw the networks as an SVG picture, `-` for stdout, in place of the text.
    #[arg(long, value_name = "FILE", conflicts_with = "dot")]
    svg: Option<PathBuf>,
    /// Windows of a signal or rows of a table instead of images, for --svg.
    #[arg(long, value_enum, default_value = "image", requires = "svg")]
    form: FormArg,
    /// Option of the system, for --svg; `ganomede systems NAME` lists them.
    #[arg(short = 'O', long = "option", value_name = "KEY=VALUE", value_parser = parse_option, requires = "svg")]
    options: Vec<(String, String)>,
}

impl Args {
    /// The networks and their picture.
    fn picture(&self) -> Result<(Networks, String), CliError> {
        let info = self.system.info;
        let latent = self.sizes.latent.unwrap_or(info.defaults.latent);
        let sizes = Config { latent, prior: info.defaults.prior, ..self.sizes.config() };
        let (config, of) = self.form.of(sizes);
        let given = self.options.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let options = Options::new(info.options, given)?;
        let networks = Networks::of(info, &config, &options)?;
        let picture = figure::draw(&networks, &format!("{}, {of}, width {}", info.name, config.width));
        Ok((networks, picture))
    }
}

#[derive(Debug, Serialize)]
struct Report {
    system: &'static str,
    program: &'static str,
    /// The program in words.
    #[serde(skip)]
    what: &'static str,
    size: Size,
    channels: usize,
    width: usize,
    latent: usize,
    batch: usize,
    device: String,
    tape: Tape,
    totals: Totals,
    memory: Memory,
    largest_tensors: Vec<Tensor>,
    launches: Vec<LaunchRow>,
}

#[derive(Debug, Serialize)]
struct Tape {
    nodes: usize,
    by_operation: BTreeMap<&'static str, usize>,
    states: usize,
    state_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Totals {
    launches: usize,
    by_kernel: BTreeMap<&'static str, usize>,
    flop: u64,
    bytes_moved: u64,
    /// FLOP for each byte moved.
    intensity: f64,
}

/// What the memory plan saves.
#[derive(Debug, Serialize)]
struct Memory {
    /// Buffers of the program, those of states included.
    peak_bytes: u64,
    /// What the device of the command takes for it: all states, buffers, scratch of kernels, alignment.
    device_bytes: u64,
    state_bytes: u64,
    input_and_output_bytes: u64,
    temporary_buffers: usize,
    temporary_bytes: u64,
    /// Values that live in temporary buffers, each with a buffer of its own.
    temporary_values: usize,
    unshared_bytes: u64,
    sharing_factor: f64,
}

#[derive(Debug, Serialize)]
struct Tensor {
    bytes: u64,
    elements: usize,
    kernel: &'static str,
    scope: String,
    launch: usize,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), CliError> {
    let files = args.svg.iter().chain(&args.dot).filter(|path| path.as_os_str() != "-");
    files.into_iter().try_for_each(|path| check_file(path, &Reads::new()))?;
    if let Some(path) = &args.svg {
        if path.as_os_str() == "-" && global.json {
            return Err(CliError::input("--json and --svg - both write to stdout; give --svg a file"));
        }
        let (networks, picture) = args.picture()?;
        if path.as_os_str() == "-" {
            return say(picture.trim_end());
        }
        write_atomic(path, picture.as_bytes())?;
        note(&format!("networks: {}", shown(path)));
        if global.json {
            return say_json(&NetworksDocument::new(args.system.name(), path.clone(), &networks));
        }
        return Ok(());
    }
    let to_stdout = args.dot.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if to_stdout && global.json {
        return Err(CliError::input("--json and --dot - both write to stdout; give --dot a file"));
    }
    let device = global.open()?;
    let recorded = record_program(
        args.system,
        args.program,
        args.part.as_deref(),
        &args.sizes.config(),
        args.batch,
        global.seed,
    )?;
    if let Some(path) = &args.dot {
        let title = format!("{} {}, batch {}", args.system.name(), args.program.name(), args.batch);
        let graph = dot::graph(&recorded.program, &recorded.states, &title);
        if to_stdout {
            return say(&graph);
        }
        write_atomic(path, graph.as_bytes())?;
        note(&format!("graph: {} (draw it with `dot -Tsvg {}`)", shown(path), shown(path)));
    }
    let report = Report::new(args, &device, &recorded)?;
    if global.json {
        return say_json(&report);
    }
    say(&report.text())
}

impl Report {
    fn new(args: &Args, device: &Device, recorded: &Recorded) -> Result<Self, CliError> {
        let (config, program) = (args.sizes.config(), &recorded.program);
        let gpu = if let Device::Gpu(gpu) = device { Some(gpu) } else { None };
        let (traits, described) = match device {
            Device::Gpu(gpu) | Device::Mixed(gpu, _) => (gpu.traits().clone(), device.describe()),
            Device::Cpu | Device::Rounded(_) | Device::Other(_) => (
                GpuTraits::default(),
                "variants for WebGPU's default limits; --device gpu asks an adapter".to_owned(),
            ),
        };
        let cost = program.cost();
        let mut by_kernel = BTreeMap::new();
        program.launches.iter().for_each(|l| *by_kernel.entry(l.kernel.name()).or_default() += 1);
        let bytes_moved = cost.bytes_read + cost.bytes_written;
        Ok(Self {
            system: args.system.name(),
            program: args.program.name(),
            what: args.program.what(),
            size: config.size,
            channels: config.channels,
            width: config.width,
            latent: config.latent,
            batch: args.batch,
            device: described,
            tape: tape(recorded),
            totals: Totals {
                launches: program.launches.len(),
                by_kernel,
                flop: cost.flops,
                bytes_moved,
                intensity: cost.flops as f64 / bytes_moved.max(1) as f64,
            },
            memory: Memory::new(recorded, device)?,
            largest_tensors: largest_tensors(program),
            launches: program.rows(&recorded.states, |launch| planned(launch, &traits, gpu))?,
        })
    }

    fn text(&self) -> String {
        let what = self.what;
        let (totals, memory) = (&self.totals, &self.memory);
        let mut launches =
            TextTable::new(&[">#", "layer", "kernel", "GPU variant", "shapes", ">MFLOP", ">MB", ">FLOP/B"]);
        for row in &self.launches {
            let moved = row.bytes_read + row.bytes_written;
            launches.row([
                row.index.to_string(),
                row.scope.clone(),
                row.kernel.to_owned(),
                row.variant.to_owned(),
                row.shapes.clone(),
                digits(row.flop as f64 / 1e6),
                digits(moved as f64 / 1e6),
                digits(row.flop as f64 / moved.max(1) as f64),
            ]);
        }
        let mut largest = TextTable::new(&[">  MB", ">elements", ">launch", "kernel", "layer"]);
        for tensor in &self.largest_tensors {
            largest.row([
                digits(tensor.bytes as f64 / 1e6),
                tensor.elements.to_string(),
                tensor.launch.to_string(),
                tensor.kernel.to_owned(),
                tensor.scope.clone(),
            ]);
        }
        let counts = |map: &BTreeMap<&'static str, usize>| {
            let mut sorted: Vec<_> = map.iter().collect();
            sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
            sorted.into_iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
        };
        format!(
            "{} {}: {what}, size {}, width {}, latent {}, channels {}, batch {}\n{}\n\n\
             tape       {} nodes: {}\n           {} states (parameters, moments, statistics), {}\n\
             program    {} launches: {}\n           {}, {} moved, {} FLOP for each byte\n\
             memory     {} peak = {} states + {} inputs and outputs + {} temporary\n           \
             {} temporary values share {} buffers: {} in the room of {}, {} times less\n           \
             {} on this device, scratch of kernels included\n\n{}\n\nlargest tensors\n{}",
            self.system,
            self.program,
            self.size,
            self.width,
            self.latent,
            self.channels,
            self.batch,
            self.device,
            self.tape.nodes,
            counts(&self.tape.by_operation),
            self.tape.states,
            bytes(self.tape.state_bytes),
            totals.launches,
            counts(&totals.by_kernel),
            flops(totals.flop),
            bytes(totals.bytes_moved),
            digits(totals.intensity),
            bytes(memory.peak_bytes),
            bytes(memory.state_bytes),
            bytes(memory.input_and_output_bytes),
            bytes(memory.temporary_bytes),
            memory.temporary_values,
            memory.temporary_buffers,
            bytes(memory.unshared_bytes),
            bytes(memory.temporary_bytes),
            digits(memory.sharing_factor),
            bytes(memory.device_bytes),
            launches.text(),
            largest.text(),
        )
    }
}

fn tape(recorded: &Recorded) -> Tape {
    let mut by_operation = BTreeMap::new();
    recorded.graph.nodes.iter().for_each(|node| *by_operation.entry(node.op.kind()).or_default() += 1);
    let lens = recorded.states.lens();
    Tape {
        nodes: recorded.graph.nodes.len(),
        by_operation,
        states: lens.len(),
        state_bytes: lens.iter().map(|&len| 4 * len as u64).sum(),
    }
}

impl Memory {
    fn new(recorded: &Recorded, device: &Device) -> Result<Self, CliError> {
        let program = &recorded.program;
        let of = |wanted: fn(&Role) -> bool| -> u64 {
            program.buffers.iter().filter(|b| wanted(&b.role)).map(|b| 4 * b.len as u64).sum()
        };
        let is_temporary = |role: &Role| matches!(role, Role::Temporary);
        let values: Vec<u64> = program
            .launches
            .iter()
            .flat_map(|launch| launch.outputs.iter().zip(launch.kernel.output_lens()))
            .filter(|(buffer, _)| is_temporary(&program.buffers[**buffer].role))
            .map(|(_, len)| 4 * len as u64)
            .collect();
        let (unshared, temporary) = (values.iter().sum::<u64>(), of(is_temporary));
        Ok(Self {
            peak_bytes: program.peak_bytes(),
            device_bytes: device.store_bytes(&recorded.states.lens()) + device.program_bytes(program)?,
            state_bytes: of(|role| matches!(role, Role::State(_))),
            input_and_output_bytes: of(|role| matches!(role, Role::Input(_) | Role::Output(_))),
            temporary_buffers: program.buffers.iter().filter(|b| is_temporary(&b.role)).count(),
            temporary_bytes: temporary,
            temporary_values: values.len(),
            unshared_bytes: unshared,
            sharing_factor: unshared as f64 / temporary.max(1) as f64,
        })
    }
}

fn largest_tensors(program: &Program) -> Vec<Tensor> {
    let mut all = vec![];
    for (index, launch) in program.launches.iter().enumerate() {
        for elements in launch.kernel.output_lens() {
            let (kernel, scope) = (launch.kernel.name(), launch.scope.clone());
            all.push(Tensor { bytes: 4 * elements as u64, elements, kernel, scope, launch: index });
        }
    }
    all.sort_by_key(|tensor| std::cmp::Reverse(tensor.elements));
    all.truncate(5);
    all
}

/// A launch as the adapter would run it, tuned choices included.
fn planned(launch: &Launch, traits: &GpuTraits, gpu: Option<&Gpu>) -> Result<GpuPlan, CliError> {
    let tuned = gpu.and_then(|gpu| gpu.tuned(&launch.kernel));
    Ok(PlannedLaunch::new(launch, traits, tuned)?.plan)
}
