//! States: the tensors that outlive a replay. Parameters, optimiser moments, running statistics, counters.

use std::collections::HashMap;
use std::sync::Arc;

use ganomede_kernels::elements;

/// Identifies a state tensor (parameter, optimiser moment, running statistic) within one [`States`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(pub usize);

/// A state that cannot be registered or does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Names are the tensor names of the model file, so each belongs to one state.
    #[error(
        "state '{name}' is registered twice; give every layer and optimiser a name of its own, and an optimiser each parameter once"
    )]
    Twice {
        /// The name.
        name: String,
    },
    /// A shape without elements or beyond all memory, or start values that do not fill it.
    #[error("state '{name}' of shape {shape:?}: {what}")]
    Shape {
        /// The state.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What does not fit.
        what: String,
    },
    /// A variable of another registry.
    #[error(
        "state '{name}' is of another registry: a model, its optimisers and its tapes share one `States`"
    )]
    Foreign {
        /// The state's name in its own registry.
        name: String,
    },
    /// A number that no state has.
    #[error("state {id} does not exist; the registry has {known}")]
    Unknown {
        /// The number.
        id: usize,
        /// How many states there are.
        known: usize,
    },
    /// Start values that the machine has no memory for.
    #[error("state '{name}' of shape {shape:?} does not fit into memory; use a smaller size or width")]
    Memory {
        /// The state.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
}

/// How a state starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Initial {
    /// Every element the same.
    Constant(f32),
    /// Normal numbers with the given mean and standard deviation.
    Normal {
        /// Mean of the numbers.
        mean: f32,
        /// Standard deviation.
        std: f32,
    },
    /// Uniform numbers in [−bound, bound].
    Uniform {
        /// Largest magnitude.
        bound: f32,
    },
    /// Given values.
    Values(Vec<f32>),
}

/// Tells the states of different registries apart, copies of a registry having the same ones: each is its own
/// name's place in memory.
#[derive(Debug, Clone)]
struct Mark(Arc<str>);

impl PartialEq for Mark {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl Eq for Mark {}

/// A handle to a state: its place in the store and its shape. Only a registry makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Place in the registry and in every store made from it.
    pub id: StateId,
    /// Dimensions, row-major; empty for a scalar.
    pub shape: Vec<usize>,
    mark: Mark,
}

impl Variable {
    /// The state's name.
    pub fn name(&self) -> &str {
        &self.mark.0
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.mark.0)
    }
}

/// One entry of the registry.
#[derive(Debug, Clone)]
pub struct StateEntry {
    /// Full name: `generator.1.weight`.
    pub name: String,
    /// Dimensions, row-major; empty for a scalar.
    pub shape: Vec<usize>,
    /// Start value.
    pub initial: Initial,
    mark: Mark,
}

impl StateEntry {
    /// Elements, as many as a count can hold of a shape that was refused.
    fn len(&self) -> usize {
        self.shape.iter().fold(1, |len: usize, &d| len.saturating_mul(d))
    }

    /// Whether the shape and the start values can be.
    fn check(&self) -> Result<(), StateError> {
        let fault = |what: String| {
            Err(StateError::Shape { name: self.name.clone(), shape: self.shape.clone(), what })
        };
        match (elements(&self.shape), &self.initial) {
            (None, _) => fault("is empty or too large".to_owned()),
            (Some(len), Initial::Values(values)) if values.len() != len => {
                fault(format!("{} start values for {len} elements", values.len()))
            }
            _ => Ok(()),
        }
    }
}

/// Registry of the states of one model and its training. As a tape does, it keeps the first broken rule, so
/// that layers are made without `?` between them; [`States::check`] and every store return it.
#[derive(Debug, Clone, Default)]
pub struct States {
    entries: Vec<StateEntry>,
    /// The first of each name.
    names: HashMap<String, usize>,
    error: Option<StateError>,
}

impl States {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a state. Names must be unique within the registry; they are the tensor names of the model
    /// file. A name given twice, a shape without elements and start values that do not fill it are what
    /// [`States::check`] then returns.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], initial: Initial) -> Variable {
        let name = name.into();
        let first = *self.names.entry(name.clone()).or_insert(self.entries.len());
        if first != self.entries.len() {
            self.fail(StateError::Twice { name: name.clone() });
        }
        let mark = Mark(name.as_str().into());
        let entry = StateEntry { name, shape: shape.to_vec(), initial, mark };
        if let Err(error) = entry.check() {
            self.fail(error);
        }
        self.entries.push(entry);
        self.at(self.entries.len() - 1)
    }

    /// Makes a state start otherwise than its layer said.
    pub fn set_initial(&mut self, variable: &Variable, initial: Initial) {
        if self.owns(variable) {
            let entry = &mut self.entries[variable.id.0];
            entry.initial = initial;
            if let Err(error) = entry.check() {
                self.fail(error);
            }
        }
    }

    /// The start of a state, and 0 for one of another registry, which is a broken rule.
    pub(crate) fn initial(&mut self, variable: &Variable) -> Initial {
        match self.owns(variable) {
            true => self.entries[variable.id.0].initial.clone(),
            false => Initial::Constant(0.0),
        }
    }

    /// Whether a variable is of this registry, which is a broken rule if not.
    pub(crate) fn owns(&mut self, variable: &Variable) -> bool {
        let own = self.entries.get(variable.id.0).is_some_and(|entry| entry.mark == variable.mark);
        if !own {
            self.fail(StateError::Foreign { name: variable.name().to_owned() });
        }
        own
    }

    /// Remembers the first broken rule.
    pub(crate) fn fail(&mut self, error: StateError) {
        self.error.get_or_insert(error);
    }

    /// Whether all states could be registered as asked.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn check(&self) -> Result<(), StateError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// All entries in order of their ids.
    pub fn entries(&self) -> &[StateEntry] {
        &self.entries
    }

    /// Handles of all states in order of their ids.
    pub fn variables(&self) -> impl Iterator<Item = Variable> {
        (0..self.entries.len()).map(|index| self.at(index))
    }

    fn at(&self, index: usize) -> Variable {
        let StateEntry { shape, mark, .. } = &self.entries[index];
        Variable { id: StateId(index), shape: shape.clone(), mark: mark.clone() }
    }

    /// The state with this name.
    pub fn find(&self, name: &str) -> Option<Variable> {
        self.names.get(name).map(|&index| self.at(index))
    }

    /// The handle of a state; `None` where there is none of this number.
    pub fn variable(&self, id: StateId) -> Option<Variable> {
        (id.0 < self.entries.len()).then(|| self.at(id.0))
    }

    /// Name of a state; `None` where there is none of this number.
    pub fn name(&self, id: StateId) -> Option<&str> {
        self.entries.get(id.0).map(|entry| entry.name.as_str())
    }

    /// Name of each state, by id.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.entries.iter().map(|entry| Arc::clone(&entry.mark.0)).collect()
    }

    /// Elements of each state, by id.
    pub fn lens(&self) -> Vec<usize> {
        self.entries.iter().map(StateEntry::len).collect()
    }

    /// Start values of a state; random ones depend on the seed and the state's name alone.
    ///
    /// # Errors
    /// [`StateError`] where there is no such state, or it cannot be as it was registered.
    pub fn initial_values(&self, id: StateId, seed: u64) -> Result<Vec<f32>, StateError> {
        let unknown = StateError::Unknown { id: id.0, known: self.entries.len() };
        let entry = self.entries.get(id.0).ok_or(unknown)?;
        entry.check()?;
        let len = entry.len();
        Vec::<f32>::new()
            .try_reserve_exact(len)
            .map_err(|_| StateError::Memory { name: entry.name.clone(), shape: entry.shape.clone() })?;
        Ok(match &entry.initial {
            Initial::Constant(value) => vec![*value; len],
            Initial::Values(values) => values.clone(),
            Initial::Normal { mean, std } => {
                random(seed, &entry.name, len, true).into_iter().map(|v| mean + std * v).collect()
            }
            Initial::Uniform { bound } => {
                random(seed, &entry.name, len, false).into_iter().map(|v| bound * (2.0 * v - 1.0)).collect()
            }
        })
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
