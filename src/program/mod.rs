//! Programs: flat lists of kernel launches over planned buffers. A device replays one with nothing left to
//! decide.

mod fuse;
mod halves;
mod join;
mod listing;
mod lower;
mod order;
mod plan;
mod precision;
mod rank;
mod recompute;
mod sets;
mod share;
mod simplify;
mod single;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use ganomede_kernels::pointwise::Source;
use ganomede_kernels::{Cost, Kernel, KernelError};

pub use halves::halvable;
pub use listing::LaunchRow;
pub use simplify::simplify;

pub use crate::tape::StateId;
use crate::tape::{Graph, Op};

/// Why a graph cannot become a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A shape rule was broken while recording, or by a graph that was made otherwise.
    #[error(transparent)]
    Tape(#[from] crate::tape::TapeError),
    /// A kernel refuses its parameters.
    #[error("layer '{scope}': {source}")]
    Kernel {
        /// Layer at fault, as [`Launch::scope`] names it.
        scope: String,
        /// What does not fit, with the numbers.
        source: KernelError,
    },
    /// An expression that reads and writes more tensors than one launch can bind.
    #[error("layer '{scope}': one launch would bind {bindings} tensors, eight is the portable limit")]
    Bindings {
        /// Layer at fault, as [`Launch::scope`] names it.
        scope: String,
        /// Number of tensors.
        bindings: usize,
    },
    /// The compiler contradicts itself: a fault of this program, not of the graph.
    #[error(
        "layer '{scope}': the compiler contradicts itself ({what}); this is a fault of ganomede, please report it"
    )]
    Internal {
        /// Layer at fault, as [`Launch::scope`] names it.
        scope: String,
        /// What does not fit together.
        what: String,
    },
}

/// How much is computed in one launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// As much as fits, counting on states that are updated in place.
    InPlace,
    /// As much as fits even if every state needs a buffer for its new value.
    Joined,
    /// Every operation in a launch of its own: shapes that walk many dimensions may not fit together.
    Apart,
}

/// Compiles a graph: simplification, dead code, fusion, kernel parameters, launch order and memory plan.
///
/// # Errors
/// [`CompileError`] naming the layer at fault.
pub fn compile(graph: &Graph) -> Result<Program, CompileError> {
    graph.check()?;
    let recorded = graph;
    let simpler = simplify(graph);
    let graph = &*rank::flatten(&simpler);
    let planned = |effort| plan::plan(&fuse::Fused::new(graph, effort)?);
    let mut found = planned(Effort::InPlace);
    for effort in [Effort::Joined, Effort::Apart] {
        if !matches!(found, Err(CompileError::Bindings { .. } | CompileError::Kernel { .. })) {
            break;
        }
        found = planned(effort);
    }
    let mut program = found?;
    let held: Vec<_> = program.buffers.iter().filter_map(|buffer| buffer.role.state()).collect();
    program.states =
        held.into_iter().filter_map(|id| Some((id, recorded.states.get(&id)?.clone()))).collect();
    for node in &recorded.nodes {
        if let Op::Input(name) = &node.op
            && program.input(name).is_none()
        {
            program.unread.insert(name.clone(), node.shape.iter().product());
        }
    }
    Ok(program)
}

/// What a buffer of a program is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// Holds intermediate values, several over time.
    Temporary,
    /// Written by the host before a replay.
    Input(String),
    /// Kept for the host to read after a replay.
    Output(String),
    /// Shared with other programs through the device's store; survives replays.
    State(StateId),
}

impl Role {
    /// The state that the buffer is, if it is one.
    pub fn state(&self) -> Option<StateId> {
        match self {
            Self::State(id) => Some(*id),
            Self::Temporary | Self::Input(_) | Self::Output(_) => None,
        }
    }
}

/// A buffer of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// Size in f32 elements.
    pub len: usize,
    /// Who writes it, and how long its value stays.
    pub role: Role,
}

/// One kernel launch. No buffer is both an input and an output of one launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The kernel.
    pub kernel: Kernel,
    /// Buffers read, in the kernel's order (indices into [`Program::buffers`]).
    pub inputs: Vec<usize>,
    /// Buffers written, in the kernel's order.
    pub outputs: Vec<usize>,
    /// Where in the model it comes from: `generator.conv1`, with `∇` before launches of a gradient.
    pub scope: String,
}

/// A compiled program.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Program {
    /// Buffers; a buffer may be longer than what a launch uses of it.
    pub buffers: Vec<Buffer>,
    /// Launches in order; each sees all writes before it.
    pub launches: Vec<Launch>,
    /// Inputs that were recorded and that nothing asked for needs, with their elements: they have no buffer,
    /// and what is written to them is dropped.
    pub unread: BTreeMap<String, usize>,
    /// Names of its states, so that a store of other ones is refused even where lengths agree; a program
    /// that was made by hand may leave them out.
    pub states: BTreeMap<StateId, Arc<str>>,
}

impl Launch {
    /// What the kernel reads and writes, as a reader of the model thinks of it:
    /// `64×64×32×32 → 64×128×16×16, k4 s2 p1`.
    pub fn shapes(&self) -> String {
        self.kernel.line()
    }

    /// Buffers whose values it reads, with the elements it reads of them: its inputs, then the outputs that
    /// it updates in place.
    pub fn reads(&self) -> Vec<(usize, usize)> {
        let inputs = self.inputs.iter().copied().zip(self.kernel.input_lens());
        let updated = |output: usize| match &self.kernel {
            Kernel::Pointwise(p) => p.operands.iter().any(|o| o.source == Source::Output(output)),
            _ => false,
        };
        let outputs = self.outputs.iter().copied().zip(self.kernel.output_lens()).enumerate();
        let updates = outputs.filter(|(i, _)| updated(*i)).map(|(_, operand)| operand);
        inputs.chain(updates).collect()
    }
}

impl Program {
    /// Index of the input buffer with this name; `None` for [`Program::unread`] ones too.
    pub fn input(&self, name: &str) -> Option<usize> {
        self.buffers.iter().position(|b| matches!(&b.role, Role::Input(n) if n == name))
    }

    /// Index of the output buffer with this name.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.buffers.iter().position(|b| matches!(&b.role, Role::Output(n) if n == name))
    }

    /// Sum of all launches' arithmetic and traffic.
    pub fn cost(&self) -> Cost {
        let mut total = Cost::default();
        for launch in &self.launches {
            let cost = launch.kernel.cost();
            total.flops += cost.flops;
            total.bytes_read += cost.bytes_read;
            total.bytes_written += cost.bytes_written;
        }
        total
    }

    /// Bytes of all buffers together, states included: the memory a device needs beside kernel scratch.
    pub fn peak_bytes(&self) -> u64 {
        self.buffers.iter().map(|b| 4 * b.len as u64).sum()
    }
}
