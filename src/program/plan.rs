//! From lowered steps to a program: buffers and in-place updates.
//!
//! # Example
//!
//! A state that becomes its third product with an input is a tape of five nodes: the input `x`, the state
//! `w`, `a = x·w`, `b = a·w` and `c = b·w`, which is assigned to `w`. All are 8×8. What becomes of them:
//!
//! ```text
//! buffer 0: 64 floats, Input("x")
//! buffer 1: 64 floats, State(StateId(0))
//! buffer 2: 64 floats, Temporary
//! buffer 3: 64 floats, Temporary
//! gemm: 8×8 · 8×8 → 8×8, reads [0, 1], writes [2]
//! gemm: 8×8 · 8×8 → 8×8, reads [2, 1], writes [3]
//! gemm: 8×8 · 8×8 → 8×8, reads [3, 1], writes [2]
//! copy: 64 → 64, reads [2], writes [1]
//! ```
//!
//! `a` is last read by the second launch, so `c` shares its buffer, 2. `c` cannot be written into `w`: a
//! product reads every row of `w` for each element, so the old value has to stay until the launch is over,
//! and a copy follows. An element-wise update, such as an optimiser's, reads of `w` only the element that it
//! writes, and has no copy: its launch writes buffer 1.

use std::collections::{BTreeMap, HashMap};

use ganomede_kernels::Kernel;
use ganomede_kernels::pointwise::{Pointwise, Source};

use super::fuse::Fused;
use super::lower::{Lowered, contiguous, identity};
use super::order::Order;
use super::share::share;
use super::steps::MAX_BINDINGS;
use super::{Buffer, CompileError, Launch, Program, Role, StateId};
use crate::tape::{NodeId, Op};

/// Orders, places and names everything. Of three orders, that of recording and two that let the living
/// temporaries grow least at each step, the one whose buffers are smallest stays.
pub(super) fn plan(fused: &Fused<'_>) -> Result<Program, CompileError> {
    let lowered = fused.steps.iter().map(|s| fused.lower(s)).collect::<Result<Vec<Lowered>, _>>()?;
    let planner = Planner::new(fused, &lowered);
    let order = Order::new(&planner);
    let orders = [
        order.by(|_, recorded| (0, recorded))?,
        order.by(|growth, recorded| (growth, recorded))?,
        order.by(|growth, recorded| (growth, -recorded))?,
    ];
    let programs = orders.iter().map(|order| Ok(share(planner.clone().placed(order)?)));
    let programs = programs.collect::<Result<Vec<Program>, CompileError>>()?;
    let program = programs.into_iter().min_by_key(Program::peak_bytes).unwrap_or_default();
    for launch in &program.launches {
        let bindings = launch.inputs.len() + launch.outputs.len();
        if bindings > MAX_BINDINGS {
            return Err(CompileError::Bindings { scope: launch.scope.clone(), bindings });
        }
        let refused = |source| CompileError::Kernel { scope: launch.scope.clone(), source };
        launch.kernel.check().map_err(refused)?;
    }
    Ok(program)
}

/// Where a copied value goes.
#[derive(Clone)]
pub(super) enum CopyTarget {
    Output(String),
    State(StateId),
}

/// Builds a program in which every temporary value has a buffer of its own, unless it takes that of an
/// operand.
#[derive(Clone)]
pub(super) struct Planner<'f> {
    pub(super) fused: &'f Fused<'f>,
    lowered: &'f [Lowered],
    /// Copies of inputs and states that must happen before the states change: (source, target).
    pub(super) early: Vec<(NodeId, CopyTarget)>,
    /// States that each root becomes, and output names.
    pub(super) becomes: BTreeMap<NodeId, Vec<StateId>>,
    outputs: HashMap<NodeId, Vec<String>>,
    /// The node of each state's value before the replay.
    old: HashMap<StateId, NodeId>,
    /// Position of the last launch that reads each stored node; readers of each.
    last_read: HashMap<NodeId, usize>,
    buffer_of: HashMap<NodeId, usize>,
    state_buffers: HashMap<StateId, usize>,
    late: Vec<(usize, CopyTarget, usize)>,
    program: Program,
}

impl<'f> Planner<'f> {
    fn new(fused: &'f Fused<'f>, lowered: &'f [Lowered]) -> Self {
        let mut planner = Planner {
            fused,
            lowered,
            early: vec![],
            becomes: BTreeMap::new(),
            old: HashMap::new(),
            outputs: HashMap::new(),
            last_read: HashMap::new(),
            buffer_of: HashMap::new(),
            state_buffers: HashMap::new(),
            late: vec![],
            program: Program::default(),
        };
        let given = |id: NodeId| matches!(fused.node(id).op, Op::Input(_) | Op::State(_));
        for id in 0..fused.graph.nodes.len() {
            if let Some(state) = planner.state_node(id) {
                planner.old.entry(state).or_insert(id);
            }
        }
        for (name, id) in &fused.graph.outputs {
            let storage = fused.storage(*id);
            if given(storage) {
                planner.early.push((storage, CopyTarget::Output(name.clone())));
            } else {
                planner.outputs.entry(storage).or_default().push(name.clone());
            }
        }
        for (&state, &value) in &fused.graph.assigns {
            let storage = fused.storage(value);
            match fused.node(storage).op {
                Op::State(same) if same == state => {}
                _ if given(storage) => planner.early.push((storage, CopyTarget::State(state))),
                _ => planner.becomes.entry(storage).or_default().push(state),
            }
        }
        planner
    }

    /// The program of the steps in this order.
    fn placed(mut self, order: &[usize]) -> Result<Program, CompileError> {
        self.positions(order);
        for (position, &step) in order.iter().enumerate() {
            self.place(step, position)?;
        }
        self.final_copies();
        Ok(self.program)
    }

    /// A state's current value read by a step or an early copy.
    pub(super) fn state_node(&self, id: NodeId) -> Option<StateId> {
        match self.fused.node(id).op {
            Op::State(state) => Some(state),
            _ => None,
        }
    }

    fn positions(&mut self, order: &[usize]) {
        for (position, &i) in order.iter().enumerate() {
            match self.fused.steps.get(i) {
                Some(step) => {
                    for &read in &step.reads {
                        self.last_read.insert(read, position);
                    }
                }
                None => {
                    let source = self.early[i - self.fused.steps.len()].0;
                    self.last_read.insert(source, position);
                }
            }
        }
    }

    pub(super) fn len(&self, id: NodeId) -> usize {
        self.fused.len(id)
    }

    fn new_buffer(&mut self, len: usize, role: Role) -> usize {
        self.program.buffers.push(Buffer { len, role });
        self.program.buffers.len() - 1
    }

    fn state_buffer(&mut self, state: StateId, len: usize) -> usize {
        if let Some(&buffer) = self.state_buffers.get(&state) {
            return buffer;
        }
        let buffer = self.new_buffer(len, Role::State(state));
        self.state_buffers.insert(state, buffer);
        buffer
    }

    /// The buffer that holds a stored node, made on first use for inputs and states.
    fn buffer(&mut self, id: NodeId) -> Result<usize, CompileError> {
        if let Some(&buffer) = self.buffer_of.get(&id) {
            return Ok(buffer);
        }
        let len = self.len(id);
        let buffer = match &self.fused.node(id).op {
            Op::Input(name) => self.new_buffer(len, Role::Input(name.clone())),
            Op::State(state) => self.state_buffer(*state, len),
            other => {
                let scope = self.fused.node(id).scope.to_string();
                let what = format!("{other:?} is read before it is computed");
                return Err(CompileError::Internal { scope, what });
            }
        };
        self.buffer_of.insert(id, buffer);
        Ok(buffer)
    }

    fn place(&mut self, step: usize, position: usize) -> Result<(), CompileError> {
        let Some(info) = self.fused.steps.get(step) else {
            let (source, target) = &self.early[step - self.fused.steps.len()];
            let (source, len) = (*source, self.len(*source));
            match target {
                CopyTarget::Output(name) => {
                    let to = self.new_buffer(len, Role::Output(name.clone()));
                    self.copy(source, to, len)?;
                }
                CopyTarget::State(state) => {
                    // The state's old value may still be read: its new one waits for the end.
                    let state = *state;
                    let to = self.new_buffer(len, Role::Temporary);
                    self.copy(source, to, len)?;
                    self.late.push((to, CopyTarget::State(state), len));
                }
            }
            return Ok(());
        };
        let mut kernel = self.lowered[step].kernel.clone();
        let input_nodes = self.lowered[step].inputs.clone();
        let output_nodes = self.lowered[step].outputs.clone();
        let inputs: Vec<usize> = input_nodes.iter().map(|&i| self.buffer(i)).collect::<Result<_, _>>()?;
        let mut in_place: Vec<Option<usize>> = vec![None; output_nodes.len()];
        let mut outputs = vec![];
        for (j, node) in output_nodes.iter().enumerate() {
            let Some(node) = *node else {
                // The mean that nobody reads.
                outputs.push(self.new_buffer(kernel.output_lens()[j], Role::Temporary));
                continue;
            };
            let buffer = self.output_buffer(node, &kernel, &input_nodes, &mut in_place, j, position);
            self.buffer_of.insert(node, buffer);
            outputs.push(buffer);
        }
        let inputs = match &mut kernel {
            Kernel::Pointwise(pointwise) => update_in_place(pointwise, &inputs, &in_place),
            _ => inputs,
        };
        let scope = info.scope.to_string();
        self.program.launches.push(Launch { kernel, inputs, outputs, scope });
        Ok(())
    }

    /// Whether a root's buffer is needed at the end for copies.
    pub(super) fn kept(&self, node: NodeId) -> bool {
        self.outputs.contains_key(&node) || self.becomes.contains_key(&node)
    }

    fn output_buffer(
        &mut self,
        node: NodeId,
        kernel: &Kernel,
        inputs: &[NodeId],
        in_place: &mut [Option<usize>],
        j: usize,
        position: usize,
    ) -> usize {
        let len = self.len(node);
        let names = self.outputs.get(&node).cloned().unwrap_or_default();
        let states = self.becomes.get(&node).cloned().unwrap_or_default();
        let mut home = None;
        let mut settled = 0;
        // First choice: the state itself, if its old value is over or is updated element by element.
        if let Some(&state) = states.first() {
            let old = self.old.get(&state).copied();
            let reads = old.and_then(|old| inputs.iter().position(|&i| i == old));
            let over = old.is_none_or(|old| self.last_read.get(&old).is_none_or(|&last| last <= position));
            let elementwise = reads.is_none_or(|i| can_update(kernel, i));
            if over && elementwise {
                in_place[j] = reads;
                home = Some(self.state_buffer(state, len));
                settled = 1;
            }
        }
        let mut named = 0;
        if home.is_none()
            && let Some(name) = names.first()
        {
            home = Some(self.new_buffer(len, Role::Output(name.clone())));
            named = 1;
        }
        let buffer = home.unwrap_or_else(|| {
            let dying = if states.is_empty() {
                self.dying_input(kernel, inputs, in_place, len, position)
            } else {
                None
            };
            match dying {
                Some(i) => {
                    in_place[j] = Some(i);
                    self.buffer_of[&inputs[i]]
                }
                None => self.new_buffer(len, Role::Temporary),
            }
        });
        for state in &states[settled..] {
            self.late.push((buffer, CopyTarget::State(*state), len));
        }
        for name in &names[named..] {
            self.late.push((buffer, CopyTarget::Output(name.clone()), len));
        }
        buffer
    }

    /// An input whose buffer a pointwise output may take over.
    fn dying_input(
        &self,
        kernel: &Kernel,
        inputs: &[NodeId],
        in_place: &[Option<usize>],
        len: usize,
        position: usize,
    ) -> Option<usize> {
        (0..inputs.len()).find(|&i| {
            let buffer = self.buffer_of[&inputs[i]];
            self.program.buffers[buffer].role == Role::Temporary
                && self.last_read.get(&inputs[i]) == Some(&position)
                && !self.kept(inputs[i])
                && self.len(inputs[i]) == len
                && !in_place.contains(&Some(i))
                && can_update(kernel, i)
        })
    }

    fn copy(&mut self, source: NodeId, to: usize, len: usize) -> Result<(), CompileError> {
        let from = self.buffer(source)?;
        self.push_copy(from, to, len);
        Ok(())
    }

    fn push_copy(&mut self, from: usize, to: usize, len: usize) {
        let launch =
            Launch { kernel: identity(len), inputs: vec![from], outputs: vec![to], scope: "copy".into() };
        self.program.launches.push(launch);
    }

    fn final_copies(&mut self) {
        for (from, target, len) in std::mem::take(&mut self.late) {
            let to = match target {
                CopyTarget::Output(name) => self.new_buffer(len, Role::Output(name)),
                CopyTarget::State(state) => self.state_buffer(state, len),
            };
            self.push_copy(from, to, len);
        }
    }
}

/// Whether a pointwise kernel reads its input `i` only at the element it writes.
fn can_update(kernel: &Kernel, i: usize) -> bool {
    let Kernel::Pointwise(p) = kernel else { return false };
    let own = contiguous(&p.shape);
    let flat: Vec<_> = own.iter().zip(&p.shape).map(|(&s, &n)| if n == 1 { 0 } else { s }).collect();
    let len: usize = p.shape.iter().product();
    p.operands
        .iter()
        .filter(|o| o.source == Source::Input(i))
        .all(|o| (o.strides == own || o.strides == flat) && o.len == len)
}

/// Redirects the operands of in-place inputs to the outputs and renumbers the inputs that remain.
fn update_in_place(p: &mut Pointwise, inputs: &[usize], in_place: &[Option<usize>]) -> Vec<usize> {
    let own = contiguous(&p.shape);
    let kept: Vec<usize> = (0..inputs.len()).filter(|i| !in_place.contains(&Some(*i))).collect();
    for operand in &mut p.operands {
        let Source::Input(i) = operand.source else { continue };
        operand.source = match in_place.iter().position(|o| *o == Some(i)) {
            Some(output) => {
                operand.strides.clone_from(&own);
                Source::Output(output)
            }
            None => Source::Input(kept.iter().position(|&k| k == i).unwrap_or(i)),
        };
    }
    kept.into_iter().map(|i| inputs[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Role, compile};
    use crate::tape::{Initial, States, Tape};

    /// The example of the module's documentation, in its words.
    #[test]
    fn the_example_is_what_becomes_of_its_tape() {
        let mut states = States::new();
        let weight = states.add("w", &[8, 8], Initial::Constant(0.0));
        let tape = Tape::new();
        let (x, w) = (tape.input("x", &[8, 8]), tape.state(&weight));
        tape.assign(&weight, x.matmul(w).matmul(w).matmul(w));
        let graph = tape.finish().unwrap();
        assert_eq!(graph.nodes.len(), 5);
        let program = compile(&graph).unwrap();

        let mut block = String::new();
        for (i, buffer) in program.buffers.iter().enumerate() {
            block += &format!("buffer {i}: {} floats, {:?}\n", buffer.len, buffer.role);
        }
        for launch in &program.launches {
            let (kernel, shapes) = (launch.kernel.name(), launch.shapes());
            block += &format!("{kernel}: {shapes}, reads {:?}, writes {:?}\n", launch.inputs, launch.outputs);
        }
        let text = include_str!("plan.rs").replace("//! ", "");
        assert!(text.contains(&format!("```text\n{block}```\n")), "the documentation should have\n{block}");

        // And an element-wise update has no copy.
        let tape = Tape::new();
        let (x, w) = (tape.input("x", &[8, 8]), tape.state(&weight));
        tape.assign(&weight, w - x * 0.1);
        let program = compile(&tape.finish().unwrap()).unwrap();
        assert_eq!(program.launches.len(), 1);
        assert_eq!(program.buffers[program.launches[0].outputs[0]].role, Role::State(weight.id));
    }
}
