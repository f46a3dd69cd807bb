//! The engine: graphs that Python recorded, compiled and replayed.
//!
//! Python records nodes in a list, each naming the values that it is made of; here they are recorded again on
//! a tape, which checks them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ganomede::Device;
use ganomede::detect::DetectError;
use ganomede::device::Executable;
use ganomede::program::compile;
use ganomede::tape::{ConvOptions, Initial, States, Tape, Tensor};
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::Deserialize;

use crate::watch::watched;
use crate::{Place, device, refused};

fn wrong(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Values that programs of one device share and keep from run to run.
#[pyclass(frozen, module = "ganomede._ganomede")]
pub(crate) struct Store {
    device: Device,
    states: States,
    store: ganomede::device::Store,
}

#[pymethods]
impl Store {
    /// States by name, shape and initial values.
    #[new]
    fn new(place: Place, states: Vec<(String, Vec<usize>, PyReadonlyArray1<'_, f32>)>) -> PyResult<Self> {
        let mut registry = States::new();
        for (name, shape, values) in states {
            registry.add(name, &shape, Initial::Values(values.as_array().to_vec()));
        }
        registry.check().map_err(wrong)?;
        let device = device(&place)?;
        let store = device.store(&registry, 0).map_err(refused)?;
        Ok(Self { device, states: registry, store })
    }

    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let id = self.find(name)?;
        let values = py.detach(|| self.store.read(id)).map_err(refused)?;
        Ok(PyArray1::from_vec(py, values))
    }

    fn write(&self, py: Python<'_>, name: &str, values: PyReadonlyArray1<'_, f32>) -> PyResult<()> {
        let (id, values) = (self.find(name)?, values.as_array().to_vec());
        py.detach(|| self.store.write(id, &values)).map_err(refused)
    }

    fn describe_device(&self) -> String {
        self.device.describe()
    }
}

impl Store {
    fn find(&self, name: &str) -> PyResult<ganomede::tape::StateId> {
        let found = self.states.find(name).map(|variable| variable.id);
        found.ok_or_else(|| wrong(format!("there is no state '{name}'")))
    }
}

/// A node as Python recorded it.
#[derive(Deserialize)]
struct Node {
    op: String,
    /// Node and place among its values, of each operand.
    #[serde(default)]
    of: Vec<(usize, usize)>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    numbers: Vec<f32>,
    #[serde(default)]
    sizes: Vec<Vec<usize>>,
}

/// Records nodes on a tape; the values of each.
fn record<'t>(tape: &'t Tape, nodes: &[Node], states: &States) -> PyResult<Vec<Vec<Tensor<'t>>>> {
    let mut made: Vec<Vec<Tensor<'t>>> = vec![];
    for (i, node) in nodes.iter().enumerate() {
        let values = one(tape, node, states, &made);
        made.push(values.map_err(|reason| wrong(format!("node {i}, '{}': {reason}", node.op)))?);
    }
    Ok(made)
}

fn one<'t>(
    tape: &'t Tape,
    node: &Node,
    states: &States,
    made: &[Vec<Tensor<'t>>],
) -> Result<Vec<Tensor<'t>>, String> {
    let of: Option<Vec<Tensor<'t>>> =
        node.of.iter().map(|&(node, value)| made.get(node)?.get(value).copied()).collect();
    let of = of.ok_or("an operand comes later, or is no value of this tape")?;
    let state = || states.find(&node.name).ok_or_else(|| format!("there is no state '{}'", node.name));
    let sizes = |i: usize| node.sizes.get(i).map(Vec::as_slice).ok_or("sizes are missing");
    let pair = |i: usize| -> Result<[usize; 2], &'static str> {
        sizes(i)?.try_into().map_err(|_| "two sizes are expected")
    };
    let convolution = || -> Result<ConvOptions, &'static str> {
        let groups = sizes(5)?.first().copied().unwrap_or(1);
        let [stride, pad_low, pad_high] = [pair(0)?, pair(1)?, pair(2)?];
        let (dilation, output_padding) = (pair(3)?, pair(4)?);
        Ok(ConvOptions { stride, pad_low, pad_high, dilation, output_padding, groups })
    };
    let value = match (node.op.as_str(), of.as_slice(), node.numbers.as_slice()) {
        ("input", [], []) => tape.input(&node.name, sizes(0)?),
        ("full", [], &[value]) => tape.full(value, sizes(0)?),
        ("state", [], []) => tape.state(&state()?),
        ("assign", &[x], []) => {
            tape.assign(&state()?, x);
            return Ok(vec![]);
        }
        ("output", &[x], []) => {
            tape.output(&node.name, x);
            return Ok(vec![]);
        }
        ("grad", [loss, wrt @ ..], []) => return Ok(tape.grad(*loss, wrt)),
        ("vjp", [y, cotangent, wrt @ ..], []) => return Ok(tape.vjp(*y, *cotangent, wrt)),
        ("add", &[a, b], []) => a + b,
        ("sub", &[a, b], []) => a - b,
        ("mul", &[a, b], []) => a * b,
        ("div", &[a, b], []) => a / b,
        ("maximum", &[a, b], []) => a.maximum(b),
        ("minimum", &[a, b], []) => a.minimum(b),
        ("pow", &[a, b], []) => a.pow(b),
        ("greater", &[a, b], []) => a.greater(b),
        ("equal", &[a, b], []) => a.equal(b),
        ("where", &[condition, a, b], []) => condition.select(a, b),
        ("affine", &[x], &[scale, shift]) => x.affine(scale, shift),
        ("powf", &[x], &[exponent]) => x.powf(exponent),
        ("leaky_relu", &[x], &[slope]) => x.leaky_relu(slope),
        ("clamp", &[x], &[low, high]) => x.clamp(low, high),
        ("exp", &[x], []) => x.exp(),
        ("log", &[x], []) => x.log(),
        ("sqrt", &[x], []) => x.sqrt(),
        ("abs", &[x], []) => x.abs(),
        ("sign", &[x], []) => x.sign(),
        ("square", &[x], []) => x.square(),
        ("relu", &[x], []) => x.relu(),
        ("tanh", &[x], []) => x.tanh(),
        ("sigmoid", &[x], []) => x.sigmoid(),
        ("softplus", &[x], []) => x.softplus(),
        ("stop_gradient", &[x], []) => x.stop_gradient(),
        ("sum", &[x], []) => x.sum(sizes(0)?),
        ("mean", &[x], []) => x.mean(sizes(0)?),
        ("max", &[x], []) => x.max(sizes(0)?),
        ("min", &[x], []) => x.min(sizes(0)?),
        ("sum_all", &[x], []) => x.sum_all(),
        ("mean_all", &[x], []) => x.mean_all(),
        ("softmax", &[x], []) => x.softmax(*sizes(0)?.first().ok_or("an axis is missing")?),
        ("reshape", &[x], []) => x.reshape(sizes(0)?),
        ("broadcast_to", &[x], []) => x.broadcast_to(sizes(0)?),
        ("permute", &[x], []) => x.permute(sizes(0)?),
        ("slice", &[x], []) => x.slice(sizes(0)?, sizes(1)?, sizes(2)?),
        ("pad", &[x], []) => x.pad(sizes(0)?, sizes(1)?),
        ("matmul", &[a, b], []) => a.matmul(b),
        ("conv2d", &[x, w], []) => x.conv2d(w, convolution()?),
        ("conv_transpose2d", &[x, w], []) => x.conv_transpose2d(w, convolution()?),
        _ => return Err("no such operation, or not with these operands".to_owned()),
    };
    Ok(vec![value])
}

fn nodes(graph: &str) -> PyResult<Vec<Node>> {
    serde_json::from_str(graph).map_err(wrong)
}

/// A compiled graph on the device of its store.
#[pyclass(frozen, module = "ganomede._ganomede")]
pub(crate) struct Program {
    loaded: Mutex<Loaded>,
    outputs: Vec<(String, Vec<usize>)>,
}

/// What one thread at a time writes, runs and reads.
struct Loaded {
    executable: Executable,
    /// Inputs that the program reads and that nobody gave yet.
    missing: BTreeSet<String>,
}

#[pymethods]
impl Program {
    #[new]
    fn new(py: Python<'_>, graph: &str, store: &Store) -> PyResult<Self> {
        let nodes = nodes(graph)?;
        py.detach(|| {
            let tape = Tape::new();
            let made = record(&tape, &nodes, &store.states)?;
            let is_output = |node: &&Node| node.op == "output";
            let outputs = nodes.iter().filter(is_output).filter_map(|node| {
                let &(of, value) = node.of.first()?;
                Some((node.name.clone(), made.get(of)?.get(value)?.shape()))
            });
            let outputs = outputs.collect();
            let program = compile(&tape.finish().map_err(wrong)?).map_err(wrong)?;
            let executable = store.device.load(&program, &store.store).map_err(refused)?;
            let inputs = nodes.iter().filter(|node| node.op == "input").map(|node| &node.name);
            let missing = inputs.filter(|name| executable.program().input(name).is_some()).cloned().collect();
            Ok(Self { loaded: Mutex::new(Loaded { executable, missing }), outputs })
        })
    }

    /// Runs with these inputs, and gives all outputs by name. No other thread's run comes between.
    fn run<'py>(
        &self,
        py: Python<'py>,
        times: usize,
        inputs: Vec<(String, PyReadonlyArray1<'py, f32>)>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let inputs: Vec<(String, Vec<f32>)> =
            inputs.into_iter().map(|(name, values)| (name, values.as_array().to_vec())).collect();
        let values = watched(py, || self.loaded().run(times, &inputs, &self.outputs))?;
        let found = PyDict::new(py);
        for ((name, shape), values) in self.outputs.iter().zip(values) {
            found.set_item(name, PyArray1::from_vec(py, values).reshape(shape.clone())?)?;
        }
        Ok(found)
    }

    /// Kernels in the order in which they run, after fusing, with the layers that they are of.
    fn launches(&self, py: Python<'_>) -> Vec<(&'static str, String)> {
        py.detach(|| {
            let loaded = self.loaded();
            let launches = loaded.executable.program().launches.iter();
            launches.map(|l| (l.kernel.name(), l.scope.to_string())).collect()
        })
    }
}

impl Program {
    /// Who waits here must not hold the interpreter's lock.
    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    /// Writes, runs and reads: the values of each output.
    fn run(
        &mut self,
        times: usize,
        inputs: &[(String, Vec<f32>)],
        outputs: &[(String, Vec<usize>)],
    ) -> Result<Vec<Vec<f32>>, DetectError> {
        for (name, values) in inputs {
            self.executable.write(name, values)?;
            self.missing.remove(name);
        }
        if let Some(name) = self.missing.first() {
            let text = format!("the input '{name}' was never given; a run keeps only inputs of earlier runs");
            return Err(DetectError::Input(text));
        }
        self.executable.run(times)?;
        outputs.iter().map(|(name, _)| Ok(self.executable.read(name)?)).collect()
    }
}

/// The shape of a value of a graph.
#[pyfunction]
pub(crate) fn shape_of(
    py: Python<'_>,
    graph: &str,
    states: Vec<(String, Vec<usize>)>,
    node: usize,
    value: usize,
) -> PyResult<Vec<usize>> {
    let nodes = nodes(graph)?;
    py.detach(|| {
        let mut registry = States::new();
        for (name, shape) in states {
            registry.add(name, &shape, Initial::Constant(0.0));
        }
        registry.check().map_err(wrong)?;
        let tape = Tape::new();
        let made = record(&tape, &nodes, &registry)?;
        let found = made.get(node).and_then(|values| values.get(value)).map(Tensor::shape);
        tape.finish().map_err(wrong)?;
        found.ok_or_else(|| wrong("there is no such value"))
    })
}
