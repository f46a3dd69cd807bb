//! CPU twin of `pointwise.wgsl`: blocks of lanes, tasks of a fixed number of elements.

use super::{Pointwise, Source};
use crate::blocks::{Access, Shared, Space, TASK, View, for_each_task};
use crate::expr::{Evaluator, Kind, Value};
use crate::layout::numel;
use crate::tile::{self, ALIGN};
use std::ops::Range;

/// A kernel ready to run over any part of its elements.
#[derive(Debug)]
pub(crate) struct Prepared {
    space: Space,
    evaluator: Evaluator,
    sources: Vec<Source>,
}

impl Prepared {
    pub(crate) fn new(k: &Pointwise) -> Self {
        let strides: Vec<&[usize]> = k.operands.iter().map(|o| o.strides.as_slice()).collect();
        let mut space = Space::new(&k.shape, &strides, &vec![false; k.shape.len()], 1);
        let mut kinds = Vec::with_capacity(k.operands.len());
        for (operand, access) in k.operands.iter().zip(&mut space.access) {
            kinds.push(match operand.source {
                Source::Output(o) => {
                    *access = Access::InPlace;
                    Kind::Output(o)
                }
                Source::Input(_) if *access == Access::Row => Kind::Row,
                Source::Input(_) => Kind::Lanes,
            });
        }
        let evaluator = Evaluator::new(&k.expr, &kinds, &k.outputs, true);
        Self { space, evaluator, sources: k.operands.iter().map(|o| o.source).collect() }
    }

    /// Floats of a task's slot.
    pub(crate) fn slot_len(&self) -> usize {
        (self.space.scratch_len() + self.evaluator.scratch_len()).next_multiple_of(ALIGN)
    }

    /// Computes elements `ranges` of the outputs; nobody else holds those meanwhile.
    pub(crate) fn run(
        &self,
        ranges: impl Iterator<Item = Range<usize>>,
        inputs: &[View<'_>],
        outputs: &[&Shared<'_, f32>],
        slot: &mut [f32],
    ) {
        let mut buffers = [View::default(); Pointwise::MAX_OPERANDS];
        for (buffer, source) in buffers.iter_mut().zip(&self.sources) {
            if let Source::Input(i) = *source {
                *buffer = inputs[i];
            }
        }
        let (gathered, registers) = slot.split_at_mut(self.space.scratch_len());
        let mut blocks = ranges.flat_map(|range| self.space.blocks(range)).peekable();
        while let Some(block) = blocks.next() {
            let distance = blocks.peek().map_or(block.len(), |next| next.start - block.start);
            let mut values = [Value::Uniform(0.0); Pointwise::MAX_OPERANDS];
            self.space.load(&buffers[..self.sources.len()], &block, &mut values, gathered);
            let mut outs: [&mut [f32]; Pointwise::MAX_BINDINGS] = Default::default();
            for (out, shared) in outs.iter_mut().zip(outputs) {
                // SAFETY: the ranges are the caller's, who holds the part of one block at a time.
                *out = unsafe { shared.part(block.range()) };
            }
            let outs = &mut outs[..outputs.len()];
            self.evaluator.run((block.rows, block.lanes), distance, &values, outs, registers);
        }
    }
}

pub(super) fn slot_len(k: &Pointwise) -> usize {
    Prepared::new(k).slot_len()
}

pub(super) fn run(k: &Pointwise, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
    let prepared = Prepared::new(k);
    let n = numel(&k.shape);
    let task_len = prepared.space.task_len(TASK);
    let inputs: Vec<View<'_>> = inputs.iter().map(|&input| View::from(input)).collect();
    let shared: Vec<Shared<'_, f32>> = outputs.iter_mut().map(|o| Shared::new(o)).collect();
    let shared: Vec<_> = shared.iter().collect();
    for_each_task(n.div_ceil(task_len), prepared.slot_len(), tile::aligned(scratch), |task, slot| {
        let range = task * task_len..n.min((task + 1) * task_len);
        prepared.run(std::iter::once(range), &inputs, &shared, slot);
    });
}
