//! CPU twin of `reduce.wgsl`.
//!
//! Two forms. By rows: an output's whole reduced space is walked in blocks and each block summed in 64 f32 lanes.
//! By lanes: neighbouring outputs lie side by side in a block and every step over the reduced space adds a block to
//! their accumulators. Both add block results in f64. Where outputs are few, their reduced space is cut into
//! segments of a fixed size whose partial results are added in order.

use super::{Combine, Reduce};
use crate::blocks::{Access, Shared, Space, TASK, for_each_task, merge};
use crate::expr::{Evaluator, Kind, LANES, Value};
use crate::lanes::{self, as_f64};
use crate::layout::{numel, offset};
use crate::pointwise::{Pointwise, Source};

/// Outputs below which the reduced space is cut into segments, so that every core has work.
const FEW: usize = 16;
/// Reduced spaces shorter than this go by lanes if there are outputs enough to fill them.
const SHORT: usize = 64;

/// A reduction arranged as units: unit = (outer kept index, block of lanes), each over the same inner space.
struct Plan {
    /// Kept dimensions except the one along the lanes, and their strides by operand.
    outer: Vec<usize>,
    outer_strides: Vec<Vec<usize>>,
    /// Size of the kept dimension along the lanes, 1 by rows; its strides.
    lane_dim: usize,
    lane_strides: Vec<usize>,
    /// Lanes of a full unit.
    lanes: usize,
    /// Inner space of a full unit, and of the last where lanes do not divide the dimension.
    full: Form,
    tail: Option<Form>,
    /// Elements of one segment of a full unit's inner space.
    segment: usize,
    segments: usize,
    /// Units in one task.
    group: usize,
}

struct Form {
    space: Space,
    evaluator: Evaluator,
    lanes: usize,
    len: usize,
}

impl Plan {
    fn new(k: &Reduce) -> Self {
        let strides: Vec<&[usize]> = k.operands.iter().map(|o| o.strides.as_slice()).collect();
        let (shape, strides, reduced) = merge(&k.shape, &strides, &k.reduced);
        let dims = |want: bool| (0..shape.len()).filter(|&d| reduced[d] == want).collect::<Vec<_>>();
        let (mut kept, inner) = (dims(false), dims(true));
        let inner_len: usize = inner.iter().map(|&d| shape[d]).product();
        // Lanes run along the last kept dimension.
        let by_lanes = kept
            .last()
            .is_some_and(|&last| last + 1 == shape.len() || (inner_len < SHORT && shape[last] >= SHORT));
        let lane = if by_lanes { kept.pop() } else { None };
        let lane_dim = lane.map_or(1, |d| shape[d]);
        let lane_strides: Vec<usize> = strides.iter().map(|s| lane.map_or(0, |d| s[d])).collect();
        let lanes = lane_dim.min(LANES);
        let form = |lanes: usize| {
            let shape: Vec<usize> = inner.iter().map(|&d| shape[d]).chain([lanes]).collect();
            let strides: Vec<Vec<usize>> = (0..strides.len())
                .map(|o| inner.iter().map(|&d| strides[o][d]).chain([lane_strides[o]]).collect())
                .collect();
            let strides: Vec<&[usize]> = strides.iter().map(Vec::as_slice).collect();
            let space = Space::new(&shape, &strides, lanes);
            let kinds: Vec<Kind> = space
                .access
                .iter()
                .map(|a| if *a == Access::Uniform { Kind::Uniform } else { Kind::Lanes })
                .collect();
            let regs: Vec<usize> = k.outputs.iter().map(|o| o.reg).collect();
            let evaluator = Evaluator::new(&k.expr, &kinds, &regs, false);
            Form { space, evaluator, lanes, len: inner_len * lanes }
        };
        let full = form(lanes);
        let tail = (lane_dim % lanes != 0).then(|| form(lane_dim % lanes));
        let outer: Vec<usize> = kept.iter().map(|&d| shape[d]).collect();
        let units = numel(&outer) * lane_dim.div_ceil(lanes);
        let wanted = if units < FEW { full.len.div_ceil(TASK).min(64) } else { 1 };
        // Segments hold whole steps over the lanes.
        let segment = inner_len.div_ceil(wanted) * lanes;
        let segments = full.len.div_ceil(segment);
        Self {
            outer_strides: strides.iter().map(|s| kept.iter().map(|&d| s[d]).collect()).collect(),
            outer,
            lane_dim,
            lane_strides,
            lanes,
            group: (TASK / segment).max(1),
            full,
            tail,
            segment,
            segments,
        }
    }

    fn units(&self) -> usize {
        numel(&self.outer) * self.lane_dim.div_ceil(self.lanes)
    }

    fn forms(&self) -> impl Iterator<Item = &Form> {
        std::iter::once(&self.full).chain(&self.tail)
    }

    /// Floats of a task's slot: gathered operands and registers, then f64 accumulators with room to align them.
    fn slot_len(&self, outputs: usize) -> usize {
        let form = self.forms().map(|f| f.space.scratch_len() + f.evaluator.scratch_len()).max().unwrap_or(0);
        form + 2 * outputs * LANES + 2
    }

    /// Floats that hold the partial results of all segments.
    fn partials_len(&self, outputs: usize) -> usize {
        if self.segments == 1 { 0 } else { 2 * self.units() * self.segments * outputs * self.lanes + 2 }
    }
}

fn start(combine: Combine) -> f64 {
    match combine {
        Combine::Sum => 0.0,
        Combine::Max => f64::NEG_INFINITY,
    }
}

fn join(combine: Combine, a: f64, b: f64) -> f64 {
    match combine {
        Combine::Sum => a + b,
        Combine::Max => {
            if a > b || a.is_nan() {
                a
            } else {
                b
            }
        }
    }
}

pub(super) fn scratch_len(k: &Reduce, threads: usize) -> usize {
    let plan = Plan::new(k);
    plan.partials_len(k.outputs.len()) + threads * plan.slot_len(k.outputs.len())
}

pub(super) fn run(k: &Reduce, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
    let plan = Plan::new(k);
    let count = k.outputs.len();
    let (partials, slots) = scratch.split_at_mut(plan.partials_len(count));
    let partials = as_f64(partials);
    let pieces = plan.units() * plan.segments;
    {
        let results: Vec<Shared<'_, f32>> = outputs.iter_mut().map(|o| Shared::new(o)).collect();
        let partial = Shared::new(&mut *partials);
        for_each_task(pieces.div_ceil(plan.group), plan.slot_len(count), slots, |task, slot| {
            let (work, accumulators) = slot.split_at_mut(slot.len() - 2 * count * LANES - 2);
            let accumulators = &mut as_f64(accumulators)[..count * LANES];
            for piece in task * plan.group..pieces.min((task + 1) * plan.group) {
                let (unit, segment) = (piece / plan.segments, piece % plan.segments);
                let lanes = plan.piece(k, inputs, unit, segment, work, accumulators);
                for (o, (output, acc)) in k.outputs.iter().zip(accumulators.chunks(LANES)).enumerate() {
                    if plan.segments == 1 {
                        let at = plan.first_output(unit);
                        // SAFETY: every unit has outputs of its own.
                        let out = unsafe { results[o].part(at..at + lanes) };
                        out.iter_mut()
                            .zip(acc)
                            .for_each(|(o, v)| *o = (v * f64::from(output.scale.0)) as f32);
                    } else {
                        let at = (piece * count + o) * plan.lanes;
                        // SAFETY: every piece has partials of its own.
                        unsafe { partial.part(at..at + lanes) }.copy_from_slice(&acc[..lanes]);
                    }
                }
            }
        });
    }
    if plan.segments > 1 {
        for (o, (output, out)) in k.outputs.iter().zip(outputs).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                let (unit, lane) = plan.unit_of(i);
                let all = (0..plan.segments)
                    .map(|s| partials[((unit * plan.segments + s) * count + o) * plan.lanes + lane]);
                *out = (all.fold(start(output.combine), |a, b| join(output.combine, a, b))
                    * f64::from(output.scale.0)) as f32;
            }
        }
    }
}

impl Plan {
    fn lane_blocks(&self) -> usize {
        self.lane_dim.div_ceil(self.lanes)
    }

    fn first_output(&self, unit: usize) -> usize {
        unit / self.lane_blocks() * self.lane_dim + unit % self.lane_blocks() * self.lanes
    }

    /// Unit and lane of an output.
    fn unit_of(&self, output: usize) -> (usize, usize) {
        let lane = output % self.lane_dim;
        (output / self.lane_dim * self.lane_blocks() + lane / self.lanes, lane % self.lanes)
    }

    /// Reduces one segment of one unit into the first lanes of each output's accumulators; returns their number.
    fn piece(
        &self,
        k: &Reduce,
        inputs: &[&[f32]],
        unit: usize,
        segment: usize,
        work: &mut [f32],
        accumulators: &mut [f64],
    ) -> usize {
        let (outer, block) = (unit / self.lane_blocks(), unit % self.lane_blocks());
        let form = match &self.tail {
            Some(tail) if block + 1 == self.lane_blocks() => tail,
            _ => &self.full,
        };
        let mut buffers: [&[f32]; Pointwise::MAX_OPERANDS] = Default::default();
        for (i, operand) in k.operands.iter().enumerate() {
            if let Source::Input(input) = operand.source {
                let first = offset(outer, &self.outer, &self.outer_strides[i])
                    + block * self.lanes * self.lane_strides[i];
                buffers[i] = &inputs[input][first..];
            }
        }
        let buffers = &buffers[..k.operands.len()];
        for (output, acc) in k.outputs.iter().zip(accumulators.chunks_mut(LANES)) {
            acc.fill(start(output.combine));
        }
        let (gathered, registers) = work.split_at_mut(form.space.scratch_len());
        let steps = self.segment / self.lanes * form.lanes;
        let mut width = form.lanes;
        for range in form.space.blocks(segment * steps..form.len.min((segment + 1) * steps)) {
            let mut values = [Value::Uniform(0.0); Pointwise::MAX_OPERANDS];
            form.space.load(buffers, &range, &mut values, gathered);
            form.evaluator.run(range.len(), &values, &mut [], registers);
            width = width.max(range.len());
            for (o, (output, acc)) in k.outputs.iter().zip(accumulators.chunks_mut(LANES)).enumerate() {
                let value = form.evaluator.value(o, &values, registers);
                if self.lane_dim == 1 {
                    acc[0] = join(output.combine, acc[0], fold(output.combine, value, range.len()));
                } else {
                    add_lanes(output.combine, &mut acc[..range.len()], value);
                }
            }
        }
        if self.lane_dim > 1 {
            // A block may hold several steps over few lanes.
            for (output, acc) in k.outputs.iter().zip(accumulators.chunks_mut(LANES)) {
                let (first, rest) = acc[..width].split_at_mut(form.lanes);
                for step in rest.chunks(form.lanes) {
                    first.iter_mut().zip(step).for_each(|(a, b)| *a = join(output.combine, *a, *b));
                }
            }
        }
        form.lanes
    }
}

/// One block to one number.
fn fold(combine: Combine, value: Value<'_>, n: usize) -> f64 {
    match (value, combine) {
        (Value::Uniform(v), Combine::Sum) => f64::from(v) * n as f64,
        (Value::Uniform(v), Combine::Max) => f64::from(v),
        (Value::Lanes(v), Combine::Sum) => f64::from(lanes::sum(&v[..n])),
        (Value::Lanes(v), Combine::Max) => f64::from(lanes::max(&v[..n])),
    }
}

fn add_lanes(combine: Combine, acc: &mut [f64], value: Value<'_>) {
    match (value, combine) {
        (Value::Uniform(v), _) => acc.iter_mut().for_each(|a| *a = join(combine, *a, f64::from(v))),
        (Value::Lanes(v), Combine::Sum) => lanes::add(acc, v),
        (Value::Lanes(v), Combine::Max) => lanes::raise(acc, v),
    }
}
