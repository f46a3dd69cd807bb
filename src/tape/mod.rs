//! The tape: symbolic tensors with static shapes, recorded once, differentiated and compiled.
//!
//! A [`Tensor`] is a handle to a node; operations append nodes and check shapes as they go. The first shape
//! error is kept by the tape and returned by [`Tape::finish`], so that model code reads like its paper, with
//! no `?` between layers, and still no error is lost. Recording simplifies nothing: what was written is what
//! is differentiated, and every handle is a value of its own (`x * 2.0` written twice is two, an input or
//! state read twice is one). The compiler simplifies.
//!
//! ```
//! use ganomede::tape::Tape;
//! let tape = Tape::new();
//! let x = tape.input("x", &[2, 3]);
//! let loss = x.square().sum_all();
//! let dx = tape.grad(loss, &[x])[0];
//! tape.output("dx", dx);
//! let program = ganomede::program::compile(&tape.finish().unwrap());
//! assert_eq!(program.unwrap().launches.len(), 1); // 2·x in one pass; the loss itself is dead code
//! ```

mod check;
mod custom;
mod grad;
mod ops;
mod parts;
mod state;
mod words;

pub use custom::{Custom, Operation};
pub use ops::{ConvOptions, Padding, PoolOptions, RandomState, Sampling};
pub use parts::Parts;
pub(crate) use parts::{Level as PartLevel, Split};
pub use state::{Initial, StateError, StateId, States, Variable};

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use ganomede_kernels::conv::{Face, Geometry};
use ganomede_kernels::elements;
use ganomede_kernels::expr::{Binary, Num, Unary};
use ganomede_kernels::pool::MaxPool;
use ganomede_kernels::random::Distribution;
use ganomede_kernels::sparse::Matrix;

/// Index of a node on its tape.
pub type NodeId = usize;

/// A shape rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op} at '{scope}': {what}")]
pub struct TapeError {
    /// Operation as the method is called, for example `conv2d`.
    pub op: &'static str,
    /// Layer that asked for it.
    pub scope: String,
    /// What does not fit, with the shapes.
    pub what: String,
}

/// Operations of the tape. Every one has a VJP written in operations of the tape (`grad.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// Written by the host before each replay.
    Input(String),
    /// Value of a state at the start of a replay.
    State(StateId),
    /// A constant of shape `[]`.
    Const(Num),
    /// Element-wise function of one tensor.
    Unary(Unary),
    /// Element-wise function of two tensors of equal shape.
    Binary(Binary),
    /// The second of three tensors of equal shape where the first is not 0, else the third.
    Select,
    /// Repeats dimensions of size 1, and along leading dimensions that are missing, up to the node's shape.
    Broadcast,
    /// Same elements in another shape.
    Reshape,
    /// Same value, no gradient.
    StopGradient,
    /// Reorders dimensions: output dimension i is input dimension `0[i]`.
    Permute(Vec<usize>),
    /// Every `step`-th element from `start` along each dimension.
    Slice {
        /// First index of each dimension.
        start: Vec<usize>,
        /// Step of each dimension.
        step: Vec<usize>,
    },
    /// Adjoint of `Slice`: places the elements in a zero tensor.
    Embed {
        /// First index of each dimension.
        start: Vec<usize>,
        /// Step of each dimension.
        step: Vec<usize>,
    },
    /// Joins tensors along an axis.
    Concat(usize),
    /// `scale · Σ` over axes, which stay as size 1.
    Sum {
        /// Axes, ascending.
        axes: Vec<usize>,
        /// Factor, 1/n for a mean.
        scale: Num,
    },
    /// Maximum over axes, which stay as size 1.
    Max {
        /// Axes, ascending.
        axes: Vec<usize>,
    },
    /// Biased variance over axes, which stay as size 1.
    Variance {
        /// Axes, ascending.
        axes: Vec<usize>,
    },
    /// One face of a convolution.
    Conv(Face, Geometry),
    /// Matrix product of the last two dimensions, `[batch, m, k] · [batch, k, n]`, batch optional for each
    /// operand.
    MatMul {
        /// First operand is stored `[k, m]`.
        trans_a: bool,
        /// Second operand is stored `[n, k]`.
        trans_b: bool,
    },
    /// Max pooling face.
    MaxPool(MaxPool),
    /// A fixed sparse matrix along an axis.
    Sparse(usize, Arc<Matrix>),
    /// Random numbers; inputs are the key and step states.
    Random(Distribution, u32),
    /// An operation that one kernel computes, in a file of its own.
    Custom(Custom),
}

/// A node: operation, inputs, shape, and the layer it belongs to.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it computes, with its parameters.
    pub op: Op,
    /// Inputs, all earlier on the tape.
    pub inputs: Vec<NodeId>,
    /// Shape of the value.
    pub shape: Vec<usize>,
    /// Layer, for messages and profiles.
    pub scope: Rc<str>,
}

/// Everything a compiler needs: nodes, and what must come out.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Nodes in order of creation.
    pub nodes: Vec<Node>,
    /// Named outputs.
    pub outputs: Vec<(String, NodeId)>,
    /// New values of states, written when the replay ends.
    pub assigns: BTreeMap<StateId, NodeId>,
    /// Names of the states that are read or written, where the graph was recorded over a registry.
    pub states: BTreeMap<StateId, Arc<str>>,
}

/// What a tape is recorded for. A system records the same step whatever it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// What is written.
    #[default]
    Plain,
    /// The same, with all step sizes of optimisers multiplied by the input [`Tape::RATE`].
    Scheduled,
    /// Running statistics alone: no state changes but counters of random numbers, and what would be blended
    /// into running statistics is [`Tape::estimates`].
    Statistics,
}

#[derive(Default)]
struct Inner {
    graph: Graph,
    /// Inputs and states, which are one node however often they are asked for.
    leaves: HashMap<Op, NodeId>,
    scopes: Vec<String>,
    scope: Option<Rc<str>>,
    /// The variable behind each state.
    variables: HashMap<StateId, Variable>,
    streams: u32,
    /// The parameters that optimisers moved.
    learned: BTreeMap<StateId, Variable>,
    /// What was found for running statistics, in the order of recording.
    estimates: Vec<(Variable, NodeId)>,
    /// Of a tape in parts: whether each node is of one part.
    of_part: Vec<bool>,
    /// Where values of parts become those of the whole, with the inputs that stand for these.
    cuts: Vec<[NodeId; 2]>,
    /// What of a part such an input is the mean of.
    part_of: HashMap<NodeId, NodeId>,
    error: Option<TapeError>,
}

/// Records operations. Single-threaded: tensors borrow it.
#[derive(Default)]
pub struct Tape {
    inner: RefCell<Inner>,
    purpose: Purpose,
    parts: Option<Parts>,
}

/// A handle to a value on a tape.
#[derive(Clone, Copy)]
pub struct Tensor<'t> {
    pub(crate) tape: &'t Tape,
    pub(crate) id: NodeId,
}

impl std::fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "%{}{:?}", self.id, self.shape())
    }
}

/// Leaves its scope when dropped.
pub struct ScopeGuard<'t>(&'t Tape);

impl Drop for ScopeGuard<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.borrow_mut();
        inner.scopes.pop();
        inner.scope = None;
    }
}

impl Tape {
    /// Name of the input that step sizes are multiplied by, shape `[1]`, on tapes of [`Purpose::Scheduled`].
    pub const RATE: &str = "rate";

    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty tape that is recorded for a purpose of its own.
    pub fn of(purpose: Purpose) -> Self {
        Self { purpose, ..Self::default() }
    }

    /// Names what follows, until the guard is dropped; scopes nest as `generator.conv1`.
    pub fn scope(&self, name: impl Into<String>) -> ScopeGuard<'_> {
        let mut inner = self.inner.borrow_mut();
        inner.scopes.push(name.into());
        inner.scope = None;
        ScopeGuard(self)
    }

    /// A value that the host writes before each replay. Its name belongs to one shape, without empty
    /// dimensions.
    pub fn input(&self, name: &str, shape: &[usize]) -> Tensor<'_> {
        let input = self.leaf(Op::Input(name.to_owned()), shape);
        let known = input.shape();
        if known != shape {
            let what = format!("'{name}' is used with shapes {known:?} and {shape:?}");
            return self.poison("input", what, shape);
        }
        input
    }

    /// Whether a variable is the one that this tape knows its state by, which is a broken rule if not.
    fn knows(&self, op: &'static str, variable: &Variable) -> bool {
        let known =
            self.inner.borrow_mut().variables.entry(variable.id).or_insert_with(|| variable.clone()).clone();
        if known != *variable {
            let text = |v: &Variable| format!("'{}' of shape {:?}", v.name(), v.shape);
            self.fail(
                op,
                format!(
                    "state {} is {} here and {} elsewhere on this tape: a tape uses the variables of one registry",
                    variable.id.0,
                    text(variable),
                    text(&known)
                ),
            );
        }
        if known != *variable {
            return false;
        }
        self.inner.borrow_mut().graph.states.insert(variable.id, variable.shared_name());
        true
    }

    /// The current value of a state: what this tape assigned to it last, else its value at the start. All
    /// variables of a tape are of one registry.
    pub fn state(&self, variable: &Variable) -> Tensor<'_> {
        if !self.knows("state", variable) {
            return self.zeros(&variable.shape);
        }
        let assigned = self.inner.borrow().graph.assigns.get(&variable.id).copied();
        match assigned {
            Some(id) => Tensor { tape: self, id },
            None => self.leaf(Op::State(variable.id), &variable.shape),
        }
    }

    /// Gives a state a new value, seen by later reads on this tape and by the next replay.
    pub fn assign(&self, variable: &Variable, value: Tensor<'_>) {
        if self.can_hold(variable, value) && self.purpose != Purpose::Statistics {
            self.inner.borrow_mut().graph.assigns.insert(variable.id, value.id);
        }
    }

    /// As [`Tape::assign`], for what an optimiser moves.
    pub fn learn(&self, parameter: &Variable, value: Tensor<'_>) {
        self.assign(parameter, value);
        self.inner.borrow_mut().learned.insert(parameter.id, parameter.clone());
    }

    /// As [`Tape::assign`], for what counts replays: it goes on whatever the tape is recorded for, so that
    /// random numbers are new in each.
    pub fn count(&self, counter: &Variable, value: Tensor<'_>) {
        if self.can_hold(counter, value) {
            self.inner.borrow_mut().graph.assigns.insert(counter.id, value.id);
        }
    }

    /// Blends what was found in a batch into a running statistic, with this weight; on a tape of
    /// [`Purpose::Statistics`] it is remembered instead.
    pub fn estimate(&self, running: &Variable, found: Tensor<'_>, weight: f32) {
        if self.purpose != Purpose::Statistics {
            let found = self.whole(found);
            return self.assign(running, self.state(running) * (1.0 - weight) + found * weight);
        }
        if self.can_hold(running, found) {
            self.inner.borrow_mut().estimates.push((running.clone(), found.id));
        }
    }

    /// The parameters that optimisers move, in the order of registration.
    pub fn learned(&self) -> Vec<Variable> {
        self.inner.borrow().learned.values().cloned().collect()
    }

    /// What batches say of running statistics, on a tape of [`Purpose::Statistics`]; a statistic of a layer
    /// that is applied twice is there twice.
    pub fn estimates(&self) -> Vec<(Variable, Tensor<'_>)> {
        let inner = self.inner.borrow();
        let found = inner.estimates.iter().map(|(of, id)| (of.clone(), Tensor { tape: self, id: *id }));
        found.collect()
    }

    /// What step sizes are multiplied by, `[1]`, on tapes of [`Purpose::Scheduled`].
    pub fn rate(&self) -> Option<Tensor<'_>> {
        (self.purpose == Purpose::Scheduled).then(|| self.input(Self::RATE, &[1]))
    }

    /// Whether a state can take a value; a broken rule if not.
    fn can_hold(&self, variable: &Variable, value: Tensor<'_>) -> bool {
        let shape = value.shape();
        if shape != variable.shape {
            let (name, own) = (variable.name(), &variable.shape);
            self.fail("assign", format!("state '{name}' of shape {own:?} cannot hold {shape:?}"));
            return false;
        }
        self.knows("assign", variable) && self.owns("assign", value)
    }

    /// A constant scalar.
    pub fn constant(&self, value: f32) -> Tensor<'_> {
        self.node(Op::Const(Num(value)), &[], vec![])
    }

    /// A constant of the given shape.
    pub fn full(&self, value: f32, shape: &[usize]) -> Tensor<'_> {
        self.constant(value).repeat(shape)
    }

    /// Keeps a value for the host to read after a replay, under a name of its own.
    pub fn output(&self, name: &str, value: Tensor<'_>) {
        if !self.owns("output", value) {
            return;
        }
        if self.inner.borrow().graph.outputs.iter().any(|(known, _)| known == name) {
            self.fail("output", format!("two outputs are named '{name}'"));
        }
        self.inner.borrow_mut().graph.outputs.push((name.to_owned(), value.id));
    }

    /// The recorded graph.
    ///
    /// # Errors
    /// The first shape rule that was broken while recording.
    pub fn finish(&self) -> Result<Graph, TapeError> {
        let inner = self.inner.borrow();
        match &inner.error {
            Some(error) => Err(error.clone()),
            None => Ok(inner.graph.clone()),
        }
    }

    /// A stream number that no other random node of this tape has.
    fn next_stream(&self) -> u32 {
        let mut inner = self.inner.borrow_mut();
        inner.streams += 1;
        inner.streams - 1
    }

    /// Remembers the first broken rule.
    pub(crate) fn fail(&self, op: &'static str, what: String) {
        let scope = self.current_scope();
        let error = TapeError { op, scope: scope.to_string(), what };
        self.inner.borrow_mut().error.get_or_insert(error);
    }

    /// Records a broken rule and stands in a zero of the shape that the caller expects.
    pub(crate) fn poison(&self, op: &'static str, what: String, shape: &[usize]) -> Tensor<'_> {
        self.fail(op, what);
        self.zeros(shape)
    }

    /// A zero of this shape, or of one of its rank where no tensor has this shape.
    fn zeros(&self, shape: &[usize]) -> Tensor<'_> {
        match elements(shape) {
            Some(_) => self.full(0.0, shape),
            None => self.full(0.0, &vec![1; shape.len()]),
        }
    }

    /// Whether a tensor is of this tape. If not, that is a broken rule of both, or what broke on the other
    /// tape is.
    fn owns(&self, op: &'static str, tensor: Tensor<'_>) -> bool {
        if std::ptr::eq(self, tensor.tape) {
            return true;
        }
        let broken = tensor.tape.inner.borrow().error.clone();
        match broken {
            Some(error) => _ = self.inner.borrow_mut().error.get_or_insert(error),
            None => {
                let what = "a tensor of another tape is used here; a tape computes with its own";
                self.fail(op, what.to_owned());
                tensor.tape.fail(op, what.to_owned());
            }
        }
        false
    }

    /// The tape of what was asked for without naming a tape. Using it elsewhere is an error, which is this
    /// tape's.
    fn nowhere() -> &'static Tape {
        thread_local! { static NOWHERE: &'static Tape = Box::leak(Box::default()); }
        NOWHERE.with(|tape| *tape)
    }

    fn current_scope(&self) -> Rc<str> {
        let mut inner = self.inner.borrow_mut();
        match &inner.scope {
            Some(scope) => scope.clone(),
            None => {
                let scope: Rc<str> = inner.scopes.join(".").into();
                inner.scope = Some(scope.clone());
                scope
            }
        }
    }

    /// Appends a node. Where the inputs are another tape's or the shape does not follow from theirs, a rule
    /// is broken and a zero stands in.
    fn node(&self, op: Op, inputs: &[Tensor<'_>], shape: Vec<usize>) -> Tensor<'_> {
        if !inputs.iter().all(|&input| self.owns(op.name(), input)) {
            return self.zeros(&shape);
        }
        let checked = {
            let nodes = &self.inner.borrow().graph.nodes;
            let operands: Vec<&[usize]> = inputs.iter().map(|input| &*nodes[input.id].shape).collect();
            op.check(&operands, &shape)
        };
        if let Err(what) = checked {
            return self.poison(op.name(), what, &shape);
        }
        let scope = self.current_scope();
        let mut inner = self.inner.borrow_mut();
        if self.parts.is_some() {
            let is = match &op {
                Op::Input(name) => Parts::is_of_part(name),
                _ => inputs.iter().any(|input| inner.of_part[input.id]),
            };
            inner.of_part.push(is);
        }
        let inputs = inputs.iter().map(|input| input.id).collect();
        inner.graph.nodes.push(Node { op, inputs, shape, scope });
        Tensor { tape: self, id: inner.graph.nodes.len() - 1 }
    }

    /// The node of an input or state, made when it is asked for first.
    fn leaf(&self, op: Op, shape: &[usize]) -> Tensor<'_> {
        let known = self.inner.borrow().leaves.get(&op).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.node(op.clone(), &[], shape.to_vec()).id;
            self.inner.borrow_mut().leaves.insert(op, id);
            id
        });
        Tensor { tape: self, id }
    }

    fn get(&self, id: NodeId) -> Node {
        self.inner.borrow().graph.nodes[id].clone()
    }
}

impl Tensor<'_> {
    /// Sizes of the dimensions.
    pub fn shape(&self) -> Vec<usize> {
        self.tape.inner.borrow().graph.nodes[self.id].shape.clone()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.tape.inner.borrow().graph.nodes[self.id].shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.tape.inner.borrow().graph.nodes[self.id].shape.iter().product()
    }

    /// Whether there are no elements; never true of a checked tape.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
