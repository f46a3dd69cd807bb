//! CPU twin of `reduce.wgsl`.
//!
//! Three forms, by where the kept dimensions lie; all add block results in f64.
//! * Rows: an output's whole reduced space is walked in blocks, each summed in 64 f32 lanes.
//! * Planes, `[…, kept, reduced]`: a block is a plane of several outputs' rows, each row summed by itself,
//!   into 16 accumulators side by side that are joined at the end.
//! * Lanes: neighbouring outputs lie side by side in a block, and every step over the reduced space adds a
//!   block to their accumulators.
//!
//! A unit is the outputs of one block; a task takes a group of units through one segment of the reduced
//! space. Where there are several segments, their partial results are added in order.
//!
//! The order in which an output's values are added follows from its reduced space and from where the kept
//! dimensions lie, never from how many outputs there are: those of an image have the same bits in any batch.

use super::{Combine, Reduce};
use crate::blocks::{Access, Block, Space};
use crate::expr::{Evaluator, Kind, LANES, ROWS, Value};
use crate::lanes::{self, SIDE, as_f64};
use crate::layout::{numel, offset};
use crate::space::{MAX_OPERANDS, Source, merge};
use crate::tasks::{Shared, TASK, for_each_task};
use crate::tile::{self, ALIGN};

/// Reduced spaces and rows shorter than these go by lanes.
const SHORT_SPACE: usize = 64;
const SHORT_ROW: usize = 16;
/// Outputs that go through several planes together, as a segment's work is estimated.
const TOGETHER: usize = 128;
/// Most segments: bounds the memory of partial results.
const MOST_SEGMENTS: usize = 64;
/// Most outputs of a task by planes, whose accumulators then stay in the second-level cache.
const PLANE_OUTPUTS: usize = LANES / 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrangement {
    Rows,
    Planes,
    Lanes,
}

/// A reduction arranged as units: unit = (outer kept index, part of the kept dimension in the block).
struct Plan {
    arrangement: Arrangement,
    /// Kept dimensions outside the blocks, and their strides by operand.
    outer: Vec<usize>,
    outer_strides: Vec<Vec<usize>>,
    /// Size of the kept dimension in the blocks, 1 by rows, and its strides.
    dim: usize,
    dim_strides: Vec<usize>,
    /// Outputs of a full unit.
    width: usize,
    /// Inner space of a full unit, and of the last one where the width does not divide the dimension.
    full: Form,
    tail: Option<Form>,
    /// Elements of the reduced space, and of it in one segment.
    reduced_len: usize,
    segment: usize,
    segments: usize,
    /// Units in one task.
    group: usize,
}

struct Form {
    space: Space,
    evaluator: Evaluator,
    /// Outputs of a unit.
    width: usize,
    /// Elements of a row.
    row: usize,
}

impl Plan {
    fn new(k: &Reduce) -> Self {
        let strides: Vec<&[usize]> = k.operands.iter().map(|o| o.strides.as_slice()).collect();
        let (shape, strides, reduced) = merge(&k.shape, &strides, &k.reduced);
        let dims = |want: bool| (0..shape.len()).filter(|&d| reduced[d] == want).collect::<Vec<_>>();
        let (mut kept, inner) = (dims(false), dims(true));
        let inner_len: usize = inner.iter().map(|&d| shape[d]).product();
        let row = inner.last().map_or(1, |&d| shape[d]);
        let kept_innermost = reduced.last().is_some_and(|reduced| !reduced);
        // The kept dimension of the blocks is the last one.
        let arrangement = match kept.last() {
            _ if kept_innermost => Arrangement::Lanes,
            _ if inner_len < SHORT_SPACE || row < SHORT_ROW => Arrangement::Lanes,
            Some(&d) if d + 2 == shape.len() && row <= LANES => Arrangement::Planes,
            None if shape.len() == 1 && row <= LANES => Arrangement::Planes,
            _ => Arrangement::Rows,
        };
        let in_block = if arrangement == Arrangement::Rows { None } else { kept.pop() };
        let dim = in_block.map_or(1, |d| shape[d]);
        let (width, step) = match arrangement {
            Arrangement::Rows => (1, 1),
            Arrangement::Planes => (dim.min(LANES / row).min(ROWS), row),
            Arrangement::Lanes => (dim.min(LANES), 1),
        };
        let form = |width: usize| {
            let mut order: Vec<Option<usize>> = inner.iter().map(|&d| Some(d)).collect();
            match arrangement {
                Arrangement::Rows => {}
                Arrangement::Planes => order.insert(inner.len() - 1, None),
                Arrangement::Lanes => order.push(None),
            }
            let sizes: Vec<usize> = order.iter().map(|d| d.map_or(width, |d| shape[d])).collect();
            // Rows of a plane stay apart; steps over lanes may merge with them.
            let labels: Vec<bool> =
                order.iter().map(|d| d.is_none() && arrangement == Arrangement::Planes).collect();
            let strides: Vec<Vec<usize>> = strides
                .iter()
                .map(|s| order.iter().map(|d| d.or(in_block).map_or(0, |d| s[d])).collect())
                .collect();
            let strides: Vec<&[usize]> = strides.iter().map(Vec::as_slice).collect();
            let granule = match arrangement {
                Arrangement::Rows => 1,
                Arrangement::Planes => row,
                Arrangement::Lanes => width,
            };
            let space = Space::new(&sizes, &strides, &labels, granule);
            let kind = |a: &Access| if *a == Access::Row { Kind::Row } else { Kind::Lanes };
            let kinds: Vec<Kind> = space.access.iter().map(kind).collect();
            let regs: Vec<usize> = k.outputs.iter().map(|o| o.reg).collect();
            Form { evaluator: Evaluator::new(&k.expr, &kinds, &regs, false), space, width, row }
        };
        let outer: Vec<usize> = kept.iter().map(|&d| shape[d]).collect();
        let units = numel(&outer) * dim.div_ceil(width);
        let planes = inner_len / step;
        let most = if arrangement == Arrangement::Planes { PLANE_OUTPUTS } else { LANES };
        let tasks = |elements: usize| elements.div_ceil(TASK).min(MOST_SEGMENTS);
        let innermost = kept_innermost && arrangement == Arrangement::Lanes;
        // Over several planes all units go together, so that memory is read in its own order; else units are
        // apart.
        let wanted = match arrangement {
            Arrangement::Planes if planes > 1 => tasks(inner_len * TOGETHER),
            _ => tasks(inner_len * if innermost { width } else { 1 }),
        };
        let group = match arrangement {
            Arrangement::Planes if planes > 1 => units.min(most / width),
            Arrangement::Lanes => 1,
            _ if wanted > 1 => 1,
            _ => (TASK / (inner_len * width)).clamp(1, most / width),
        };
        // Segments hold whole rows of a plane.
        let segment = planes.div_ceil(wanted) * step;
        Self {
            arrangement,
            outer_strides: strides.iter().map(|s| kept.iter().map(|&d| s[d]).collect()).collect(),
            outer,
            dim,
            dim_strides: strides.iter().map(|s| in_block.map_or(0, |d| s[d])).collect(),
            width,
            full: form(width),
            tail: (dim % width != 0).then(|| form(dim % width)),
            reduced_len: inner_len,
            segment,
            segments: inner_len.div_ceil(segment),
            group,
        }
    }

    fn units_across(&self) -> usize {
        self.dim.div_ceil(self.width)
    }

    fn units(&self) -> usize {
        numel(&self.outer) * self.units_across()
    }

    fn first_output(&self, unit: usize) -> usize {
        unit / self.units_across() * self.dim + unit % self.units_across() * self.width
    }

    /// Unit of an output, and its place there.
    fn unit_of(&self, output: usize) -> (usize, usize) {
        let at = output % self.dim;
        (output / self.dim * self.units_across() + at / self.width, at % self.width)
    }

    /// Outputs of a unit.
    fn width_of(&self, unit: usize) -> usize {
        self.width.min(self.dim - unit % self.units_across() * self.width)
    }

    /// Where operand `i` begins for a unit.
    fn first_element(&self, unit: usize, i: usize) -> usize {
        offset(unit / self.units_across(), &self.outer, &self.outer_strides[i])
            + unit % self.units_across() * self.width * self.dim_strides[i]
    }

    fn is_tail(&self, unit: usize) -> bool {
        self.tail.is_some() && unit % self.units_across() + 1 == self.units_across()
    }

    /// Floats of a task's slot: gathered operands and registers, then f64 accumulators with room to align
    /// them.
    fn slot_len(&self, outputs: usize) -> usize {
        let forms = std::iter::once(&self.full).chain(&self.tail);
        let work = forms.map(|f| f.space.scratch_len() + f.evaluator.scratch_len()).max().unwrap_or(0);
        work.next_multiple_of(ALIGN) + 2 * outputs * self.sums_len() + ALIGN
    }

    /// Accumulators of each output of the kernel, in f64.
    fn sums_len(&self) -> usize {
        match self.arrangement {
            Arrangement::Planes => PLANE_OUTPUTS * SIDE,
            _ => LANES,
        }
    }

    /// Floats that hold the partial results of all segments.
    fn partials_len(&self, outputs: usize) -> usize {
        if self.segments == 1 {
            0
        } else {
            (2 * self.units() * self.segments * outputs * self.width + 2).next_multiple_of(ALIGN)
        }
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
        Combine::Max if a > b || a.is_nan() => a,
        Combine::Max => b,
    }
}

pub(super) fn scratch_len(k: &Reduce, threads: usize) -> usize {
    let plan = Plan::new(k);
    plan.partials_len(k.outputs.len()) + threads * plan.slot_len(k.outputs.len()) + ALIGN
}

pub(super) fn run(k: &Reduce, inputs: &[&[f32]], outputs: &mut [&mut [f32]], scratch: &mut [f32]) {
    let plan = Plan::new(k);
    let count = k.outputs.len();
    let (partials, slots) = tile::aligned(scratch).split_at_mut(plan.partials_len(count));
    let (slot_len, sums_len) = (plan.slot_len(count), plan.sums_len());
    let work_len = slot_len - 2 * count * sums_len - ALIGN;
    let partials = as_f64(partials);
    let place =
        |unit: usize, segment: usize, o: usize| ((unit * plan.segments + segment) * count + o) * plan.width;
    {
        let results: Vec<Shared<'_, f32>> = outputs.iter_mut().map(|o| Shared::new(o)).collect();
        let shared = Shared::new(&mut *partials);
        let tasks = plan.units().div_ceil(plan.group) * plan.segments;
        for_each_task(tasks, slot_len, slots, |task, slot| {
            let (work, acc) = slot.split_at_mut(work_len);
            let acc = &mut as_f64(acc)[..count * sums_len];
            let (group, segment) = (task / plan.segments, task % plan.segments);
            let units = group * plan.group..plan.units().min((group + 1) * plan.group);
            plan.reduce(k, inputs, units.clone(), segment, work, acc);
            for (o, (output, acc)) in k.outputs.iter().zip(acc.chunks(sums_len)).enumerate() {
                for (unit, acc) in units.clone().zip(acc.chunks(plan.width)) {
                    if plan.segments == 1 {
                        let at = plan.first_output(unit);
                        // SAFETY: every unit has outputs of its own.
                        let out = unsafe { results[o].part(at..at + plan.width_of(unit)) };
                        out.iter_mut()
                            .zip(acc)
                            .for_each(|(o, v)| *o = (v * f64::from(output.scale.0)) as f32);
                    } else {
                        let at = place(unit, segment, o);
                        // SAFETY: every unit has partials of its own in every segment.
                        unsafe { shared.part(at..at + plan.width) }.copy_from_slice(acc);
                    }
                }
            }
        });
    }
    if plan.segments == 1 {
        return;
    }
    for (o, (output, out)) in k.outputs.iter().zip(outputs).enumerate() {
        for (i, out) in out.iter_mut().enumerate() {
            let (unit, at) = plan.unit_of(i);
            let all = (0..plan.segments).map(|segment| partials[place(unit, segment, o) + at]);
            let value = all.fold(start(output.combine), |a, b| join(output.combine, a, b));
            *out = (value * f64::from(output.scale.0)) as f32;
        }
    }
}

impl Plan {
    /// Reduces one segment of some units. Accumulators of output o are `acc[o · sums_len..]`, in the end
    /// `width` for each unit.
    fn reduce(
        &self,
        k: &Reduce,
        inputs: &[&[f32]],
        units: std::ops::Range<usize>,
        segment: usize,
        work: &mut [f32],
        acc: &mut [f64],
    ) {
        for (output, acc) in k.outputs.iter().zip(acc.chunks_mut(self.sums_len())) {
            acc.fill(start(output.combine));
        }
        let first = units.start;
        for (form, tail) in [(Some(&self.full), false), (self.tail.as_ref(), true)] {
            let Some(form) = form else { continue };
            let (gathered, registers) = work.split_at_mut(form.space.scratch_len());
            let steps = segment * self.segment..self.reduced_len.min((segment + 1) * self.segment);
            for block in form.space.blocks(steps.start * form.width..steps.end * form.width) {
                for unit in units.clone().filter(|&u| self.is_tail(u) == tail) {
                    let mut buffers: [&[f32]; MAX_OPERANDS] = Default::default();
                    for ((i, operand), buffer) in k.operands.iter().enumerate().zip(&mut buffers) {
                        if let Source::Input(input) = operand.source {
                            *buffer = &inputs[input][self.first_element(unit, i)..];
                        }
                    }
                    let mut values = [Value::Uniform(0.0); MAX_OPERANDS];
                    form.space.load(&buffers[..k.operands.len()], &block, &mut values, gathered);
                    form.evaluator.run((block.rows, block.lanes), &values, &mut [], registers);
                    for (o, (output, acc)) in
                        k.outputs.iter().zip(acc.chunks_mut(self.sums_len())).enumerate()
                    {
                        let value = form.evaluator.value(o, &values, registers);
                        let at = (unit - first) * self.width;
                        match self.arrangement {
                            Arrangement::Lanes => {
                                let acc = &mut acc[at..at + form.width];
                                add_lanes(output.combine, acc, value, &block);
                            }
                            Arrangement::Planes => {
                                let acc = &mut acc.as_chunks_mut::<SIDE>().0[at..at + form.width];
                                add_rows(output.combine, acc, value, &block, form.row);
                            }
                            Arrangement::Rows => {
                                acc[at] = join(output.combine, acc[at], fold(output.combine, value, &block));
                            }
                        }
                    }
                }
            }
        }
        if self.arrangement == Arrangement::Planes {
            for (output, acc) in k.outputs.iter().zip(acc.chunks_mut(self.sums_len())) {
                for i in 0..units.len() * self.width {
                    let side = &acc[i * SIDE..(i + 1) * SIDE];
                    acc[i] = side.iter().fold(start(output.combine), |a, b| join(output.combine, a, *b));
                }
            }
        }
    }
}

/// Adds the lanes of each step of a block to their accumulators, step by step.
fn add_lanes(combine: Combine, acc: &mut [f64], value: Value<'_>, block: &Block) {
    match (value, combine) {
        (Value::Uniform(v), _) => {
            for _ in 0..block.len() / acc.len() {
                acc.iter_mut().for_each(|a| *a = join(combine, *a, f64::from(v)));
            }
        }
        (Value::Rows(v), _) => {
            for step in 0..block.len() / acc.len() {
                let v = f64::from(v[step * acc.len() / block.lanes]);
                acc.iter_mut().for_each(|a| *a = join(combine, *a, v));
            }
        }
        (Value::Lanes(v), Combine::Sum) => lanes::add_steps(acc, &v[..block.len()]),
        (Value::Lanes(v), Combine::Max) => lanes::raise_steps(acc, &v[..block.len()]),
    }
}

/// Adds rows of `row` values to their accumulators: a row of each output, or several of one.
fn add_rows(combine: Combine, acc: &mut [[f64; SIDE]], value: Value<'_>, block: &Block, row: usize) {
    for (r, at) in (0..block.len()).step_by(row).enumerate() {
        let acc = if acc.len() == 1 { &mut acc[..] } else { &mut acc[r..r + 1] };
        let one = Block { rows: 1, lanes: row, ..*block };
        let value = match (value, combine) {
            (Value::Lanes(values), Combine::Sum) => {
                lanes::add_row_sums(&values[at..at + row], row, acc);
                continue;
            }
            (Value::Uniform(v), _) => Value::Uniform(v),
            (Value::Rows(v), _) => Value::Uniform(v[at / block.lanes]),
            (Value::Lanes(v), _) => Value::Lanes(&v[at..]),
        };
        acc[0][0] = join(combine, acc[0][0], fold(combine, value, &one));
    }
}

/// A whole block as one number.
fn fold(combine: Combine, value: Value<'_>, block: &Block) -> f64 {
    let repeated = |v: f64, times: usize| if combine == Combine::Sum { v * times as f64 } else { v };
    match (value, combine) {
        (Value::Uniform(v), _) => repeated(f64::from(v), block.len()),
        (Value::Rows(v), _) => {
            let rows = v[..block.rows].iter().map(|v| f64::from(*v));
            repeated(rows.fold(start(combine), |a, b| join(combine, a, b)), block.lanes)
        }
        (Value::Lanes(v), Combine::Sum) => f64::from(lanes::sum(&v[..block.len()])),
        (Value::Lanes(v), Combine::Max) => f64::from(lanes::max(&v[..block.len()])),
    }
}
