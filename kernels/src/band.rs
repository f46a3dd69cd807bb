//! Runs of launches that the CPU takes channel by channel.
//!
//! Batch norm is a chain of passes over whole tensors: moments, then normalise; sums of gradients, then the gradient.
//! Launch after launch, each reads its tensor from memory again. But what they do to one channel depends on that channel
//! alone, so a few channels can go through all of them while they lie in cache. A [`Band`] is such a run of launches.
//! Every kernel adds in the order in which it would for all channels at once: results are the same to the bit.

use crate::Kernel;
use crate::blocks::{Shared, TASK, View, for_each_task};
use crate::expr::LANES;
use crate::layout::{contiguous, numel};
use crate::moments::cpu as moments;
use crate::pointwise::cpu as pointwise;
use crate::pointwise::{Operand, Pointwise, Source};
use crate::reduce::cpu as reduce;
use crate::tile::{self, ALIGN};
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows shorter than this would be read a fraction of a cache line at a time.
const SHORT_ROW: usize = 16;

/// Most buffers of a launch.
const MAX: usize = Pointwise::MAX_BINDINGS;

/// A launch: a kernel with the numbers of its buffers.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Buffers read, in binding order.
    pub inputs: &'a [usize],
    /// Buffers written, in binding order.
    pub outputs: &'a [usize],
}

/// Launches taken together, a group of channels at a time.
#[derive(Debug)]
pub struct Band {
    launches: Range<usize>,
    view: View3,
    /// Channels of a task.
    group: usize,
    parts: Vec<Part>,
    slot_len: usize,
}

/// A tensor as `[outer, channels, inner]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View3 {
    outer: usize,
    channels: usize,
    inner: usize,
}

impl View3 {
    fn len(&self) -> usize {
        self.outer * self.channels * self.inner
    }

    /// What a reduction to channels, or moments, reads.
    fn of(kernel: &Kernel) -> Option<Self> {
        let view = match kernel {
            Kernel::Moments(k) => Self { outer: k.outer, channels: k.channels, inner: k.inner },
            Kernel::Reduce(k) => {
                let d = k.reduced.iter().position(|reduced| !reduced)?;
                let (outer, inner) = (numel(&k.shape[..d]), numel(&k.shape[d + 1..]));
                (k.kept() == k.shape[d]).then_some(Self { outer, channels: k.shape[d], inner })?
            }
            _ => return None,
        };
        (view.channels > 1 && view.inner >= SHORT_ROW).then_some(view)
    }

    /// Channels of a task: whole blocks of lanes, and work enough.
    fn group(&self) -> usize {
        let block = (LANES / self.inner).max(1);
        let blocks = (TASK / (block * self.outer * self.inner)).max(1);
        (block * blocks).min(self.channels.next_multiple_of(block))
    }
}

/// What computing one channel touches of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// That channel of a tensor `[outer, channels, inner]`.
    Plane,
    /// That element of `[channels]`.
    Element,
    /// Anything.
    All,
}

/// One launch of a band.
#[derive(Debug)]
struct Part {
    work: Work,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

#[derive(Debug)]
enum Work {
    /// Over the elements of tensors.
    Planes(pointwise::Prepared),
    /// Over a number for each channel.
    Elements(pointwise::Prepared),
    Reduce(reduce::Prepared),
    Moments(moments::Prepared),
}

impl Work {
    /// A launch over this view, `None` where it is of another kind.
    fn new(kernel: &Kernel, view: View3) -> Option<Self> {
        match kernel {
            Kernel::Pointwise(k) if numel(&k.shape) == view.len() => {
                Some(Self::Planes(pointwise::Prepared::new(k)))
            }
            Kernel::Pointwise(k) if numel(&k.shape) == view.channels => {
                Some(Self::Elements(pointwise::Prepared::new(k)))
            }
            Kernel::Reduce(k) if View3::of(kernel) == Some(view) => {
                reduce::Prepared::new(k, view.group()).map(Self::Reduce)
            }
            Kernel::Moments(k) if View3::of(kernel) == Some(view) => {
                moments::Prepared::new(k).map(Self::Moments)
            }
            _ => None,
        }
    }

    fn slot_len(&self) -> usize {
        match self {
            Self::Planes(work) | Self::Elements(work) => work.slot_len(),
            Self::Reduce(work) => work.slot_len(),
            Self::Moments(work) => work.slot_len(),
        }
    }

    fn is_wide(&self) -> bool {
        !matches!(self, Self::Elements(_))
    }
}

/// What a launch over `view` touches: for each access, the buffer and how.
fn reaches(launch: &Placed<'_>, view: View3) -> Vec<(usize, Reach)> {
    let operands = |shape: &[usize], operands: &[Operand]| -> Vec<(usize, Reach)> {
        let inputs = operands.iter().filter_map(|operand| match operand.source {
            Source::Input(i) => Some((launch.inputs[i], reach(shape, operand, view))),
            Source::Output(_) => None,
        });
        inputs.collect()
    };
    let (mut all, output) = match launch.kernel {
        Kernel::Pointwise(k) => {
            let output = if numel(&k.shape) == view.channels { Reach::Element } else { Reach::Plane };
            (operands(&k.shape, &k.operands), output)
        }
        Kernel::Reduce(k) => (operands(&k.shape, &k.operands), Reach::Element),
        Kernel::Moments(_) => (vec![(launch.inputs[0], Reach::Plane)], Reach::Element),
        _ => (launch.inputs.iter().map(|&input| (input, Reach::All)).collect(), Reach::All),
    };
    all.extend(launch.outputs.iter().map(|&buffer| (buffer, output)));
    all
}

/// What an operand touches for one channel of an iteration over `shape`.
fn reach(shape: &[usize], operand: &Operand, view: View3) -> Reach {
    let n = numel(shape);
    let strides = shape.iter().zip(&operand.strides);
    if operand.len == n && strides.zip(contiguous(shape)).all(|((&d, &s), dense)| d == 1 || s == dense) {
        return if n == view.channels { Reach::Element } else { Reach::Plane };
    }
    let from = (0..shape.len()).find(|&d| numel(&shape[..d]) == view.outer && shape[d] == view.channels);
    match from {
        Some(d) if operand.len == view.channels && n == view.len() => {
            let moves = |i: usize| if i == d { 1 } else { 0 };
            let element = operand.strides.iter().enumerate().all(|(i, &s)| shape[i] == 1 || s == moves(i));
            if element { Reach::Element } else { Reach::All }
        }
        _ => Reach::All,
    }
}

/// Finds the bands of a program: launches one after the other of which each channel is independent of the others, with
/// at least two passes over whole tensors.
pub fn bands(launches: &[Placed<'_>]) -> Vec<Band> {
    let mut found = vec![];
    let mut at = 0;
    while at < launches.len() {
        match View3::of(launches[at].kernel).and_then(|view| Band::from(launches, at, view)) {
            Some(band) => {
                at = band.launches.end;
                found.push(band);
            }
            None => at += 1,
        }
    }
    found
}

impl Band {
    /// The longest band that begins at a launch.
    fn from(launches: &[Placed<'_>], start: usize, view: View3) -> Option<Self> {
        let mut parts = vec![];
        // How each buffer is touched, and whether it is written.
        let mut touched: BTreeMap<usize, (Reach, bool)> = BTreeMap::new();
        for launch in &launches[start..] {
            let Some(work) = Work::new(launch.kernel, view) else { break };
            let mut after = touched.clone();
            for (buffer, reach) in reaches(launch, view) {
                let written = launch.outputs.contains(&buffer);
                let entry = after.entry(buffer).or_insert((reach, written));
                *entry = (if entry.0 == reach { reach } else { Reach::All }, entry.1 | written);
            }
            // While one task writes its channels of a buffer, others are at other launches.
            if after.values().any(|&(reach, written)| written && reach == Reach::All) {
                break;
            }
            touched = after;
            let (inputs, outputs) = (launch.inputs.to_vec(), launch.outputs.to_vec());
            parts.push(Part { work, inputs, outputs });
        }
        let wide = parts.iter().filter(|part| part.work.is_wide()).count();
        let slot_len = parts.iter().map(|part| part.work.slot_len()).max()?;
        let launches = start..start + parts.len();
        (wide > 1).then(|| Self { launches, view, group: view.group(), parts, slot_len })
    }

    /// Which launches of the program these are.
    pub fn launches(&self) -> Range<usize> {
        self.launches.clone()
    }

    /// Elements of scratch that [`Band::run`] needs with `threads` threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        threads * self.slot_len + ALIGN
    }

    /// Runs the launches on the current rayon pool, in the program's `buffers`. Results are those of the kernels one by one,
    /// whatever the number of threads.
    pub fn run<'a>(&self, buffers: impl Iterator<Item = &'a mut [f32]>, scratch: &mut [f32]) {
        let buffers: Vec<Shared<'_, f32>> = buffers.map(Shared::new).collect();
        // SAFETY: of a buffer that is written here, a task reads its own channels only: `Band::from` saw to it.
        let views: Vec<View<'_>> = buffers.iter().map(|buffer| unsafe { buffer.view() }).collect();
        let View3 { outer, channels, inner } = self.view;
        let tasks = channels.div_ceil(self.group);
        for_each_task(tasks, self.slot_len, tile::aligned(scratch), |task, slot| {
            let range = task * self.group..channels.min((task + 1) * self.group);
            // In each image, the rows of these channels.
            let rows = |image: usize| {
                (image * channels + range.start) * inner..(image * channels + range.end) * inner
            };
            for Part { work, inputs, outputs } in &self.parts {
                let (mut reads, mut writes) = ([View::default(); MAX], [&buffers[0]; MAX]);
                inputs.iter().zip(&mut reads).for_each(|(&buffer, read)| *read = views[buffer]);
                outputs.iter().zip(&mut writes).for_each(|(&buffer, write)| *write = &buffers[buffer]);
                let (reads, writes) = (&reads[..inputs.len()], &writes[..outputs.len()]);
                match work {
                    Work::Planes(work) => work.run((0..outer).map(rows), reads, writes, slot),
                    Work::Elements(work) => work.run(std::iter::once(range.clone()), reads, writes, slot),
                    Work::Reduce(work) => work.run(range.clone(), reads, writes, slot),
                    Work::Moments(work) => work.run(range.clone(), reads[0], [writes[0], writes[1]], slot),
                }
            }
        });
    }
}
