//! CPU twin of `pointwise.wgsl`: blocks of lanes, tasks of a fixed number of elements.

use super::Pointwise;
use crate::blocks::{Access, Space};
use crate::expr::{Evaluator, Kind, Value};
use crate::layout::numel;
use crate::space::{MAX_BINDINGS, MAX_OPERANDS, Source};
use crate::tasks::{Shared, TASK, for_each_task};
use crate::tile::{self, ALIGN};

fn prepare(k: &Pointwise) -> (Space, Evaluator) {
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
    (space, evaluator)
}

pub(super) fn slot_len(k: &Pointwise) -> usize {
    let (space, evaluator) = prepare(k);
    (space.scratch_len() + evaluator.scratch_len()).next_multiple_of(ALIGN)
}

pub(super) fn run(k: &Pointwise, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
    let (space, evaluator) = prepare(k);
    let gathered_len = space.scratch_len();
    let slot_len = (gathered_len + evaluator.scratch_len()).next_multiple_of(ALIGN);
    let n = numel(&k.shape);
    let task_len = space.task_len(TASK);
    let mut buffers: [&[f32]; MAX_OPERANDS] = Default::default();
    for (buffer, operand) in buffers.iter_mut().zip(&k.operands) {
        if let Source::Input(i) = operand.source {
            *buffer = inputs[i];
        }
    }
    let shared: Vec<Shared<'_, f32>> = outputs.iter_mut().map(|o| Shared::new(o)).collect();
    for_each_task(n.div_ceil(task_len), slot_len, tile::aligned(scratch), |task, slot| {
        let (gathered, registers) = slot.split_at_mut(gathered_len);
        for block in space.blocks(task * task_len..n.min((task + 1) * task_len)) {
            let mut values = [Value::Uniform(0.0); MAX_OPERANDS];
            space.load(&buffers[..k.operands.len()], &block, &mut values, gathered);
            let mut outs: [&mut [f32]; MAX_BINDINGS] = Default::default();
            for (out, shared) in outs.iter_mut().zip(&shared) {
                // SAFETY: tasks cover disjoint ranges, and a task holds the part of one block at a time.
                *out = unsafe { shared.part(block.range()) };
            }
            evaluator.run((block.rows, block.lanes), &values, &mut outs[..shared.len()], registers);
        }
    });
}
