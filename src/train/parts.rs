//! A part of a training's stage whose batches come in parts: its programs, and a step of them.

use std::ops::Range;

use super::trainer::{record_part, write_batch};
use super::{Team, TrainError};
use crate::device::{Device, DeviceError, Executable, NonFinite, Store};
use crate::models::system::{Inputs, System};
use crate::program::{CompileError, compile};
use crate::tape::{Graph, Op, Parts, Purpose, Split, Tape};

/// Programs that run on each part before the one that runs once a step.
pub(super) struct Levels {
    levels: Vec<Level>,
    count: usize,
}

struct Level {
    program: Executable,
    inputs: Vec<(String, usize)>,
}

/// A batch, or some of its parts, as a step in parts reads it.
pub(super) struct Batch<'a> {
    /// Samples of the parts that are here.
    pub(super) images: &'a [f32],
    /// What was made of them.
    pub(super) made: &'a Inputs,
    /// The parts that are here.
    pub(super) here: Range<usize>,
    /// What step sizes are multiplied by.
    pub(super) rate: f32,
}

impl Batch<'_> {
    /// Gives a program a part of it.
    pub(super) fn write(
        &self,
        program: &mut Executable,
        part: usize,
        count: usize,
    ) -> Result<(), DeviceError> {
        let of = |values: &[f32]| {
            let len = values.len() / self.here.len();
            values[(part - self.here.start) * len..][..len].to_vec()
        };
        let made: Inputs = self.made.iter().map(|(name, values)| (*name, of(values))).collect();
        write_batch(program, &of(self.images), &made)?;
        if program.program().input(Parts::PART).is_some() {
            let chosen: Vec<f32> = (0..count).map(|other| f32::from(u8::from(other == part))).collect();
            program.write(Parts::PART, &chosen)?;
        }
        write_rate(program, self.rate)
    }
}

pub(super) fn write_rate(program: &mut Executable, rate: f32) -> Result<(), DeviceError> {
    match program.program().input(Tape::RATE) {
        Some(_) => program.write(Tape::RATE, &[rate]),
        None => Ok(()),
    }
}

/// What a stage's part is, recorded on a batch of any size: whether optimisers step in it, and whether it
/// reads what is made of a whole batch on the host.
pub(super) fn kind_of(
    system: &dyn System,
    stage: usize,
    part: usize,
    batch: usize,
) -> Result<[bool; 2], TrainError> {
    let tape = Tape::new();
    record_part(&tape, system, stage, part, batch);
    let graph = tape.finish().map_err(CompileError::from)?;
    let is_made = |op: &Op| matches!(op, Op::Input(name) if name != "x");
    Ok([!tape.learned().is_empty(), graph.nodes.iter().any(|node| is_made(&node.op))])
}

impl Levels {
    /// Records a stage's part on one of `parts` and loads its programs; with the program that runs once a
    /// step, and the names of its losses.
    pub(super) fn load(
        device: &Device,
        store: &Store,
        purpose: Purpose,
        system: &dyn System,
        [stage, part]: [usize; 2],
        parts: Parts,
    ) -> Result<(Self, Executable, Vec<&'static str>), TrainError> {
        let tape = Tape::of(purpose).in_parts(parts);
        let names = record_part(&tape, system, stage, part, parts.batch);
        let Split { levels, rest } = tape.split().map_err(CompileError::from)?;
        let load = |graph: &Graph| Ok::<_, TrainError>(device.load(&compile(graph)?, store)?);
        let levels = levels
            .into_iter()
            .map(|level| Ok(Level { program: load(&level.graph)?, inputs: level.inputs }))
            .collect::<Result<_, TrainError>>()?;
        Ok((Self { levels, count: parts.count }, load(&rest)?, names))
    }

    /// Bytes held beside the store.
    pub(super) fn bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.program.bytes()).sum()
    }

    /// Computes what the whole batch gives, from its parts here and those of the other ranks, for `rest` to
    /// read.
    pub(super) fn run(
        &mut self,
        rest: &mut Executable,
        batch: &Batch<'_>,
        team: &Team,
    ) -> Result<(), TrainError> {
        self.each(rest, batch, team, &mut |program| Ok(program.run(1).map(|()| None)?)).map(|_| ())
    }

    /// The first launch of any program whose outputs are not finite.
    pub(super) fn find_non_finite(
        &mut self,
        rest: &mut Executable,
        batch: &Batch<'_>,
    ) -> Result<Option<NonFinite>, TrainError> {
        let found =
            self.each(rest, batch, &Team::default(), &mut |program| Ok(program.find_non_finite()?))?;
        match found {
            Some(found) => Ok(Some(found)),
            None => Ok(rest.find_non_finite()?),
        }
    }

    /// Runs the levels by `run`, until it finds something.
    fn each(
        &mut self,
        rest: &mut Executable,
        batch: &Batch<'_>,
        team: &Team,
        run: &mut dyn FnMut(&mut Executable) -> Result<Option<NonFinite>, TrainError>,
    ) -> Result<Option<NonFinite>, TrainError> {
        write_rate(rest, batch.rate)?;
        for number in 0..self.levels.len() {
            let (before, later) = self.levels.split_at_mut(number + 1);
            let Level { program, inputs } = &mut before[number];
            let mut mine = vec![];
            for part in team.own(self.count) {
                batch.write(program, part, self.count)?;
                if let Some(found) = run(program)? {
                    return Ok(Some(found));
                }
                mine.extend(program.read(Split::OUTPUT)?);
            }
            let mean = team.mean(mine, self.count)?;
            let mut values = &mean[..];
            for (name, len) in inputs {
                let (of_input, others) = values.split_at(*len);
                values = others;
                for program in later.iter_mut().map(|level| &mut level.program).chain([&mut *rest]) {
                    if program.program().input(name).is_some() {
                        program.write(name, of_input)?;
                    }
                }
            }
        }
        Ok(None)
    }
}
