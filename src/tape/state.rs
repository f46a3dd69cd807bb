//! States: the tensors that outlive a replay. Parameters, optimiser moments, running statistics, counters.

use crate::program::StateId;

/// How a state starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Initial {
    /// Every element the same.
    Constant(f32),
    /// Normal numbers with the given mean and standard deviation.
    Normal {
        /// Mean.
        mean: f32,
        /// Standard deviation.
        std: f32,
    },
    /// Uniform numbers in [−bound, bound].
    Uniform {
        /// Half-width.
        bound: f32,
    },
    /// Given values.
    Values(Vec<f32>),
}

/// A handle to a state: its place in the store and its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Place.
    pub id: StateId,
    /// Shape.
    pub shape: Vec<usize>,
}

/// One entry of the registry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Full name: `generator.1.weight`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Start value.
    pub initial: Initial,
}

/// Registry of the states of one model and its training.
#[derive(Debug, Clone, Default)]
pub struct States {
    entries: Vec<Entry>,
}

impl States {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a state. Names must be unique within the registry; they are the tensor names of the model file.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], initial: Initial) -> Variable {
        let name = name.into();
        debug_assert!(self.find(&name).is_none(), "state '{name}' is registered twice");
        self.entries.push(Entry { name, shape: shape.to_vec(), initial });
        Variable { id: StateId(self.entries.len() - 1), shape: shape.to_vec() }
    }

    /// Makes a state start otherwise than its layer said.
    pub fn set_initial(&mut self, variable: &Variable, initial: Initial) {
        self.entries[variable.id.0].initial = initial;
    }

    /// All entries in order of their ids.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The state with this name.
    pub fn find(&self, name: &str) -> Option<Variable> {
        let index = self.entries.iter().position(|e| e.name == name)?;
        Some(self.variable(StateId(index)))
    }

    /// The handle of a state.
    pub fn variable(&self, id: StateId) -> Variable {
        Variable { id, shape: self.entries[id.0].shape.clone() }
    }

    /// Name of a state.
    pub fn name(&self, id: StateId) -> &str {
        &self.entries[id.0].name
    }

    /// Elements of each state, by id.
    pub fn lens(&self) -> Vec<usize> {
        self.entries.iter().map(|e| e.shape.iter().product()).collect()
    }

    /// Start values of a state; random ones depend on the seed and the state's name alone.
    pub fn initial_values(&self, id: StateId, seed: u64) -> Vec<f32> {
        let entry = &self.entries[id.0];
        let len = entry.shape.iter().product();
        match &entry.initial {
            Initial::Constant(value) => vec![*value; len],
            Initial::Values(values) => values.clone(),
            Initial::Normal { mean, std } => {
                random(seed, &entry.name, len, true).into_iter().map(|v| mean + std * v).collect()
            }
            Initial::Uniform { bound } => {
                random(seed, &entry.name, len, false).into_iter().map(|v| bound * (2.0 * v - 1.0)).collect()
            }
        }
    }
}

/// Random numbers from the Philox kernel, keyed by the seed and a name.
fn random(seed: u64, name: &str, len: usize, normal: bool) -> Vec<f32> {
    use ganomede_kernels::{Kernel, random as philox};
    let distribution = if normal { philox::Distribution::Normal } else { philox::Distribution::Uniform };
    // FNV-1a: a fixed, documented hash, so that start values do not change between versions of the toolchain.
    let stream = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let key = [f32::from_bits(seed as u32), f32::from_bits((seed >> 32) as u32)];
    let mut out = vec![0.0; len];
    let kernel = Kernel::Random(philox::Random { distribution, len, stream });
    let mut scratch = vec![0.0; kernel.cpu_scratch_len(rayon::current_num_threads())];
    kernel.cpu(&[&key, &[0.0]], &mut [&mut out], &mut scratch);
    out
}
