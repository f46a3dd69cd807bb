//! The page *tape*: expressions as they are recorded, differentiated, compiled and planned, and what the CPU
//! makes of them.

use std::collections::BTreeMap;

use ganomede_kernels::sample::uniform;
use ganomede_kernels::{GpuTraits, elements};
use serde::Serialize;

use super::expressions::{EXPRESSIONS, Expression};
use super::modules::Modules;
use super::{Export, ExportError, Kind, Parts, TAPE};
use crate::device::{Device, DeviceError};
use crate::models::scorer::ScoreError;
use crate::program::{CompileError, LaunchRow, compile, simplify};
use crate::tape::{Graph, Op, States, Tape, Tensor};

/// Name of the file that describes the expressions.
pub(super) const FILE: &str = "tape.json";

/// `tape.json`.
#[derive(Debug, Serialize)]
struct Page {
    expressions: Vec<Shown>,
}

/// An expression.
#[derive(Debug, Serialize)]
struct Shown {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    /// The Rust that records it.
    source: &'static str,
    inputs: Vec<Values>,
    /// Every node of its tape, in the order of recording.
    nodes: Vec<ShownNode>,
    /// The value, its gradient, the gradient of what is made of that gradient.
    levels: Vec<Level>,
}

/// A node of the tape.
#[derive(Debug, Serialize)]
struct ShownNode {
    kind: &'static str,
    formula: String,
    inputs: Vec<usize>,
    shape: Vec<usize>,
}

/// How far it is differentiated.
#[derive(Debug, Serialize)]
struct Level {
    /// Its program in `program.json`.
    program: String,
    /// Nodes recorded up to here.
    nodes: usize,
    /// Nodes that the compiler keeps.
    kept: usize,
    /// Node of each output, by name.
    outputs: Vec<(String, usize)>,
    /// What the CPU made of it at export.
    cpu: Vec<Values>,
    launches: Vec<LaunchRow>,
    /// Bytes of all buffers.
    bytes: u64,
}

/// A tensor.
#[derive(Debug, Serialize)]
struct Values {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn failed(error: impl Into<ScoreError>) -> ExportError {
    ExportError::Score(error.into())
}

impl Export {
    /// Exports the page *tape*: a list of expressions with their nodes, gradients, gradients of gradients and
    /// launches, and the values that the CPU gives.
    ///
    /// # Errors
    /// [`ExportError`] for a fault of the machine.
    pub fn of_tape(seed: u64) -> Result<Self, ExportError> {
        let (mut modules, mut programs) = (Modules::default(), BTreeMap::new());
        let mut expressions = vec![];
        for expression in EXPRESSIONS {
            expressions.push(shown(expression, seed, &mut modules, &mut programs)?);
        }
        let page = serde_json::to_vec(&Page { expressions });
        let page = page.map_err(|e| ExportError::Document(e.to_string()))?;
        Self::assemble(Parts {
            kind: Kind {
                system: "tape",
                title: "expressions and their gradients",
                paper: "",
                pages: &TAPE,
                is_read: true,
            },
            input: None,
            score: None,
            train: None,
            states: vec![],
            modules,
            programs,
            files: vec![(super::MODEL.to_owned(), super::train::safetensors(&[])?), (FILE.to_owned(), page)],
        })
    }
}

/// Records an expression level by level, compiles each and runs it.
fn shown(
    expression: &Expression,
    seed: u64,
    modules: &mut Modules,
    programs: &mut BTreeMap<String, super::schema::Program>,
) -> Result<Shown, ExportError> {
    let tape = Tape::new();
    let recorded = (expression.record)(&tape);
    let mut named: Vec<(String, usize)> = vec![];
    let mut give = |name: String, value: Tensor<'_>| {
        tape.output(&name, value);
        named.push((name, value.id));
    };
    let finished = || tape.finish().map_err(|e| failed(CompileError::from(e)));
    give("y".to_owned(), recorded.value);
    let mut graphs = vec![finished()?];
    let scalar = |value: Tensor<'_>| value.shape().iter().product::<usize>() == 1;
    let loss = if scalar(recorded.value) { recorded.value } else { recorded.value.sum_all() };
    let by: Vec<Tensor<'_>> = recorded.by.iter().map(|&(_, tensor)| tensor).collect();
    let gradients = tape.grad(loss, &by);
    for ((name, _), &gradient) in recorded.by.iter().zip(&gradients) {
        give(format!("∂y/∂{name}"), gradient);
    }
    graphs.push(finished()?);
    let again = (recorded.again)(&gradients);
    give("p".to_owned(), again);
    let then: Vec<Tensor<'_>> = recorded.then.iter().map(|&(_, tensor)| tensor).collect();
    for ((name, _), gradient) in recorded.then.iter().zip(tape.grad(again, &then)) {
        give(format!("∂p/∂{name}"), gradient);
    }
    graphs.push(finished()?);

    let graph = &graphs[graphs.len() - 1];
    let inputs = inputs(graph, seed);
    let mut levels = vec![];
    for (number, graph) in graphs.iter().enumerate() {
        let program = format!("{}-{}", expression.name, number + 1);
        levels.push(level(graph, program, &inputs, &named, modules, programs)?);
    }
    let nodes = graph.nodes.iter().map(|node| ShownNode {
        kind: node.op.kind(),
        formula: node.op.formula(),
        inputs: node.inputs.clone(),
        shape: node.shape.clone(),
    });
    let Expression { name, title, about, source, .. } = *expression;
    Ok(Shown { name, title, about, source, nodes: nodes.collect(), inputs, levels })
}

/// Numbers in [−1, 1] for every input.
fn inputs(graph: &Graph, seed: u64) -> Vec<Values> {
    let inputs = graph.nodes.iter().filter_map(|node| match &node.op {
        Op::Input(name) => Some((name, &node.shape)),
        _ => None,
    });
    let values = |(stream, (name, shape)): (u32, (&String, &Vec<usize>))| Values {
        name: name.clone(),
        shape: shape.clone(),
        // Two digits, as people write numbers.
        values: uniform(elements(shape).unwrap_or(0), seed, stream)
            .into_iter()
            .map(|v| ((2.0 * v - 1.0) * 100.0).round() / 100.0)
            .collect(),
    };
    (0..).zip(inputs).map(values).collect()
}

fn level(
    graph: &Graph,
    name: String,
    inputs: &[Values],
    named: &[(String, usize)],
    modules: &mut Modules,
    programs: &mut BTreeMap<String, super::schema::Program>,
) -> Result<Level, ExportError> {
    let (states, program) = (States::new(), compile(graph).map_err(failed)?);
    programs.insert(name.clone(), modules.program(&program, &states)?);
    let traits = GpuTraits::default();
    let launches = program.rows(&states, |launch| {
        let failed = |source| ExportError::Kernel { scope: launch.scope.clone(), source };
        launch.kernel.gpu(&traits, None).map_err(failed)
    })?;
    let run = || -> Result<Vec<Values>, DeviceError> {
        let mut run = Device::Cpu.load(&program, &Device::Cpu.store(&states, 0)?)?;
        for input in inputs.iter().filter(|input| program.input(&input.name).is_some()) {
            run.write(&input.name, &input.values)?;
        }
        run.run(1)?;
        let outputs = graph.outputs.iter();
        outputs
            .map(|(name, node)| {
                let shape = graph.nodes[*node].shape.clone();
                Ok(Values { name: name.clone(), shape, values: run.read(name)? })
            })
            .collect()
    };
    Ok(Level {
        program: name,
        nodes: graph.nodes.len(),
        kept: simplify(graph).nodes.len(),
        outputs: named[..graph.outputs.len()].to_vec(),
        cpu: run().map_err(failed)?,
        launches,
        bytes: program.peak_bytes(),
    })
}
