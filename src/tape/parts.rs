//! A step whose batch comes in parts, one after the other on one machine or side by side on several.
//!
//! A system records its step on one part; nothing in it knows of the others. Where a value must be that of
//! the whole batch (gradients before an optimiser takes them, what batch norm found before it is blended into
//! running statistics, losses before they are told) the tape is *cut*: an input stands for the mean over all
//! parts, and what comes after is recorded on it. The cuts have levels, since a generator's gradient through
//! the discriminator just updated needs the discriminator's gradient first. So one recording gives a program
//! for each level, that runs on every part, and one that runs once a step and assigns the states
//! ([`Tape::split`]).
//!
//! A cut is differentiable. With L the mean over parts p of L_p, and m the mean of v_p, n·∂L/∂v_p is the mean
//! over parts q of ∂L_q/∂m: the VJP of the mean over parts is the mean over parts, and so is that of the VJP.
//! Batch norm over the whole batch is so two cuts in its definition, and nothing in its derivatives.
//!
//! What a level computed of a part is not computed again by the levels after it: results of products and of
//! reductions that they need are kept for each part, in the host's memory, and become inputs. What lies
//! between these is cheap, and computed wherever it is read.

use std::collections::BTreeSet;

use super::{Graph, NodeId, Op, Tape, TapeError, Tensor};

/// How a batch is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Samples of a part.
    pub batch: usize,
    /// Parts of a batch.
    pub count: usize,
    /// Whether batch norm takes mean and variance of the whole batch.
    pub sync_norms: bool,
}

impl Parts {
    /// Name of the input that says which part is at hand: 1 at its number and 0 elsewhere, `[count]`.
    pub const PART: &str = "part";
    /// What names of means over all parts begin with.
    const WHOLE: &str = "whole.";

    /// Whether an input is of one part.
    pub(super) fn is_of_part(input: &str) -> bool {
        input != Tape::RATE && !input.starts_with(Self::WHOLE)
    }
}

/// A step in parts, as programs have it.
pub(crate) struct Split {
    /// What is computed of each part, level by level.
    pub(crate) levels: Vec<Level>,
    /// What is done once a step.
    pub(crate) rest: Graph,
}

/// What is computed of each part, before its mean over parts is known.
pub(crate) struct Level {
    /// It assigns nothing.
    pub(crate) graph: Graph,
    /// Outputs of which the mean over all parts is wanted, one after the other.
    pub(crate) outputs: Vec<String>,
    /// Inputs of later levels and of the rest, with their lengths, in the order in which they stand in
    /// `outputs`.
    pub(crate) inputs: Vec<(String, usize)>,
    /// Outputs that are inputs of the same name of later levels, of the same part.
    pub(crate) kept: Vec<String>,
}

impl Split {
    /// Name of the output of all means that are short.
    const SHORT: &str = "of part";
    /// Elements of a mean from which on it is an output by itself, and not joined with others.
    const LONG: usize = 1 << 14;
    /// What names of values that are kept begin with.
    const KEPT: &str = "kept.";
}

/// Whether the result of an operation is kept for later levels.
fn is_dear(op: &Op) -> bool {
    match op {
        Op::Conv(..) | Op::MatMul { .. } | Op::MaxPool(_) | Op::Sparse(..) | Op::Custom(_) => true,
        Op::Sum { .. } | Op::Max { .. } | Op::Variance { .. } => true,
        Op::Input(_) | Op::State(_) | Op::Const(_) | Op::Random(..) => false,
        Op::Unary(_) | Op::Binary(_) | Op::Select | Op::StopGradient => false,
        Op::Broadcast
        | Op::Reshape
        | Op::Permute(_)
        | Op::Slice { .. }
        | Op::Embed { .. }
        | Op::Concat(_) => false,
    }
}

impl Tape {
    /// The same tape, on which one of several parts of a batch is recorded.
    #[must_use]
    pub fn in_parts(self, parts: Parts) -> Self {
        Self { parts: Some(parts).filter(|parts| parts.count > 1), ..self }
    }

    /// The mean of a value over the parts of a batch; the value itself where a batch is one part, or the same
    /// in all.
    pub fn whole<'t>(&'t self, value: Tensor<'t>) -> Tensor<'t> {
        if self.parts.is_none() || !self.owns("whole", value) || !self.is_of_part(value.id) {
            return value;
        }
        let known = self.inner.borrow().cuts.iter().position(|&[of, _]| of == value.id);
        let number = known.unwrap_or(self.inner.borrow().cuts.len());
        let input = self.input(&format!("{}{number}", Parts::WHOLE), &value.shape());
        if known.is_none() {
            let mut inner = self.inner.borrow_mut();
            inner.cuts.push([value.id, input.id]);
            inner.part_of.insert(input.id, value.id);
        }
        input
    }

    /// Parts of a batch whose norms are of the whole; 1 where they are of what is at hand.
    pub(crate) fn synced(&self) -> usize {
        self.parts.filter(|parts| parts.sync_norms).map_or(1, |parts| parts.count)
    }

    /// What the input of a cut is the mean of.
    pub(super) fn part_of(&self, id: NodeId) -> Option<NodeId> {
        self.inner.borrow().part_of.get(&id).copied()
    }

    fn is_of_part(&self, id: NodeId) -> bool {
        self.inner.borrow().of_part.get(id).is_some_and(|is| *is)
    }

    /// The part at hand of what a whole batch would have made: `make` makes a tensor of a shape, of which the
    /// first dimension counts samples.
    pub(super) fn of_whole<'t>(
        &'t self,
        shape: &[usize],
        make: impl FnOnce(Vec<usize>) -> Tensor<'t>,
    ) -> Tensor<'t> {
        let parts = self.parts.filter(|parts| shape.first().is_some_and(|n| n.is_multiple_of(parts.batch)));
        let Some(Parts { batch, count, .. }) = parts else { return make(shape.to_vec()) };
        let mut all = shape.to_vec();
        all[0] *= count;
        // Several batches may lie one after the other, each in parts.
        let each = shape.iter().product::<usize>() / shape[0] * batch;
        let made = make(all).reshape(&[shape[0] / batch, count, each]);
        let chosen = self.input(Parts::PART, &[count]).reshape(&[1, count, 1]);
        (made * chosen).sum(&[1]).reshape(shape)
    }

    /// The recorded step as programs of parts and of the whole.
    ///
    /// # Errors
    /// The first rule that was broken while recording; an output, or a state that changes, which is of one
    /// part, so that nothing says what it is of all.
    pub(crate) fn split(&self) -> Result<Split, TapeError> {
        let cuts = self.inner.borrow().cuts.clone();
        let (levels, first) = self.levels(&cuts);
        let count = levels.iter().max().map_or(0, |last| last + 1);
        let mut means = vec![];
        for level in 0..count {
            let of_level = cuts.iter().enumerate().filter(|(cut, _)| levels[*cut] == level);
            let of_level = of_level.map(|(cut, &[of, _])| (cut, Tensor { tape: self, id: of }));
            let (long, short): (Vec<_>, Vec<_>) = of_level.partition(|(_, value)| value.len() >= Split::LONG);
            let name = |cut: &usize| format!("{}{cut}", Parts::WHOLE);
            let inputs = long.iter().chain(&short).map(|(cut, value)| (name(cut), value.len())).collect();
            let mut outputs: Vec<_> = long.iter().map(|(cut, value)| (name(cut), value.id)).collect();
            if !short.is_empty() {
                let values: Vec<_> = short.iter().map(|(_, value)| value.reshape(&[value.len()])).collect();
                outputs.push((Split::SHORT.to_owned(), Tensor::concat(&values, 0).id));
            }
            means.push((outputs, inputs));
        }
        let graph = self.finish()?;
        let fault = |what: String| TapeError { op: "parts", scope: String::new(), what };
        if let Some((id, _)) = graph.assigns.iter().find(|(_, node)| self.is_of_part(**node)) {
            let name = graph.states.get(id).map_or("", |name| name);
            return Err(fault(format!(
                "state '{name}' takes a value of one part of the batch: say with `Tape::whole` what it is of all"
            )));
        }
        if let Some((name, _)) = graph.outputs.iter().find(|(_, node)| self.is_of_part(*node)) {
            return Err(fault(format!("output '{name}' is of the samples of one part of the batch")));
        }
        let of_part = |id: NodeId| self.is_of_part(id);
        let mut kept: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new(); count];
        let mut made = vec![];
        for (level, (outputs, inputs)) in means.into_iter().enumerate().rev() {
            // What later levels asked for has its own needs: the last level comes first.
            let wanted: Vec<_> = kept[level].iter().map(|id| (format!("{}{id}", Split::KEPT), *id)).collect();
            let roots = outputs.iter().chain(&wanted).map(|&(_, id)| id);
            let is_kept = |id: NodeId| {
                let is_earlier = first.get(id).is_some_and(|&at| at < level);
                is_earlier && is_dear(&graph.nodes[id].op) && of_part(id)
            };
            let mut graph = graph.clone();
            for id in reached(&graph, roots.collect(), is_kept) {
                kept[first[id]].insert(id);
                graph.nodes[id].op = Op::Input(format!("{}{id}", Split::KEPT));
                graph.nodes[id].inputs.clear();
            }
            graph.assigns.clear();
            let [outputs_of, kept] =
                [&outputs, &wanted].map(|of| of.iter().map(|(name, _)| name.clone()).collect());
            graph.outputs = outputs.into_iter().chain(wanted).collect();
            made.push(Level { graph, outputs: outputs_of, inputs, kept });
        }
        made.reverse();
        Ok(Split { levels: made, rest: graph })
    }

    /// The level of each cut, one more than the last whose mean its value needs; and the first level at which
    /// each node can be computed.
    fn levels(&self, cuts: &[[NodeId; 2]]) -> (Vec<usize>, Vec<usize>) {
        let inner = self.inner.borrow();
        let mut first = vec![0; inner.graph.nodes.len()];
        let mut levels = vec![0; cuts.len()];
        for (id, node) in inner.graph.nodes.iter().enumerate() {
            first[id] = node.inputs.iter().map(|&input| first[input]).max().unwrap_or(0);
            for (cut, &[of, input]) in cuts.iter().enumerate() {
                if of == id {
                    levels[cut] = first[id];
                }
                // What a cut is of was recorded before the input that stands for it.
                if input == id {
                    first[id] = levels[cut] + 1;
                }
            }
        }
        (levels, first)
    }
}

/// The nodes at which a walk from the roots to what they need ends.
fn reached(graph: &Graph, roots: Vec<NodeId>, ends: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
    let (mut seen, mut open, mut found) = (vec![false; graph.nodes.len()], roots, vec![]);
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id], true) {
            continue;
        }
        match ends(id) {
            true => found.push(id),
            false => open.extend(&graph.nodes[id].inputs),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::{Initial, States, Variable};

    const PARTS: Parts = Parts { batch: 2, count: 3, sync_norms: false };

    #[test]
    fn a_generator_after_its_discriminator_is_a_level_of_its_own() {
        let mut states = States::new();
        let [d, g] = ["d", "g"].map(|name| states.add(name, &[3], Initial::Constant(0.5)));
        let tape = Tape::new().in_parts(PARTS);
        let x = tape.input("x", &[2, 3]);
        let step = |of: &Variable, loss| {
            let gradient = tape.whole(tape.grad_of_states(loss, std::slice::from_ref(of))[0]);
            tape.learn(of, tape.state(of) - gradient * 0.1);
        };
        let loss = (x * tape.state(&d)).square().mean_all();
        step(&d, loss);
        step(&g, (x * tape.state(&g) * tape.state(&d)).mean_all());
        tape.output("loss", tape.whole(loss).reshape(&[1]));
        let split = tape.split().unwrap();
        let inputs: Vec<_> = split.levels.iter().map(|level| level.inputs.clone()).collect();
        let named = |number: usize, len: usize| (format!("whole.{number}"), len);
        assert_eq!(inputs, [vec![named(0, 3), named(2, 1)], vec![named(1, 3)]]);
        assert_eq!(split.rest.assigns.len(), 2);
        assert!(split.levels.iter().all(|level| level.graph.assigns.is_empty()));
    }

    #[test]
    fn what_is_of_one_part_is_neither_output_nor_state() {
        let mut states = States::new();
        let count = states.add("count", &[1], Initial::Constant(0.0));
        let tape = Tape::new().in_parts(PARTS);
        let x = tape.input("x", &[2, 3]);
        tape.output("rows", x);
        let refused = tape.split().err().unwrap().to_string();
        assert!(refused.contains("output 'rows' is of the samples of one part"), "{refused}");
        let tape = Tape::new().in_parts(PARTS);
        tape.assign(&count, tape.input("x", &[2, 3]).mean_all().reshape(&[1]));
        let refused = tape.split().err().unwrap().to_string();
        assert!(refused.contains("state 'count'") && refused.contains("Tape::whole"), "{refused}");
    }
}
