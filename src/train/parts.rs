//! A part of a training's stage whose batches come in parts: its programs, and a step of them.

use std::ops::Range;

use super::trainer::{record_part, write_batch};
use super::{Team, TrainError};
use crate::device::{Device, DeviceError, Executable, NonFinite, Store};
use crate::models::system::{Inputs, System};
use crate::program::{CompileError, compile};
use crate::tape::{Graph, Op, PartLevel, Parts, Purpose, Split, Tape};

/// Programs that run on each part before the one that runs once a step.
pub(super) struct Levels {
    levels: Vec<Level>,
    count: usize,
    /// Memory of what is exchanged.
    exchanged: [Vec<f32>; 2],
}

struct Level {
    program: Executable,
    outputs: Vec<String>,
    inputs: Vec<(String, usize)>,
    kept: Vec<String>,
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
        let made = self.made.iter().map(|(name, values)| (*name, values.as_slice()));
        write_batch(
            program,
            std::iter::once(("x", self.images)).chain(made).map(|(name, values)| {
                let len = values.len() / self.here.len();
                (name, &values[(part - self.here.start) * len..][..len])
            }),
        )?;
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
            .map(|PartLevel { graph, outputs, inputs, kept }| {
                Ok(Level { program: load(&graph)?, outputs, inputs, kept })
            })
            .collect::<Result<_, TrainError>>()?;
        let exchanged = [vec![], vec![]];
        Ok((Self { levels, count: parts.count, exchanged }, load(&rest)?, names))
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
        let own = team.own(self.count);
        // Of each part, what its later levels read again.
        let mut kept: Vec<Vec<(String, Vec<f32>)>> = vec![vec![]; own.len()];
        for number in 0..self.levels.len() {
            let (before, later) = self.levels.split_at_mut(number + 1);
            let Level { program, outputs, inputs, kept: keeps } = &mut before[number];
            let [values, spare] = &mut self.exchanged;
            values.clear();
            for (part, kept) in own.clone().zip(&mut kept) {
                batch.write(program, part, self.count)?;
                for (name, values) in kept.iter() {
                    if program.program().input(name).is_some() {
                        program.write(name, values)?;
                    }
                }
                if let Some(found) = run(program)? {
                    return Ok(Some(found));
                }
                for output in outputs.iter() {
                    program.read_to(output, values)?;
                }
                for name in keeps.iter() {
                    kept.push((name.clone(), program.read(name)?));
                }
            }
            team.mean(values, spare, self.count)?;
            let mut mean = &values[..];
            for (name, len) in inputs {
                let (of_input, others) = mean.split_at(*len);
                mean = others;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::system::{Losses, Scored, Share, Stage};
    use crate::models::{Config, Form, Prior, Size, Training};
    use crate::nn::{BatchNorm, Linear, Mode, Sgd};
    use crate::tape::{States, Tensor};

    /// A critic with batch norm whose gradient is held to a norm of 1, as no published system has it: a
    /// derivative of second order through the mean and the variance of a batch.
    struct Critic {
        config: Config,
        layers: [Linear; 2],
        norm: BatchNorm,
        sgd: Sgd,
    }

    const SIDE: usize = 4;

    impl Critic {
        fn new(states: &mut States) -> Self {
            let size = Size { height: SIDE, width: SIDE };
            let layers = [("in", [SIDE * SIDE, 8]), ("out", [8, 1])];
            let layers = layers.map(|(name, features)| Linear::new(states, name, features, false));
            let norm = BatchNorm::new(states, "norm", 8);
            let learned = [layers[0].parameters(), norm.parameters(), layers[1].parameters()].concat();
            let sgd = Sgd::new(states, "sgd", learned, 0.05, 0.9);
            let config = Config {
                form: Form::Image,
                size,
                channels: 1,
                width: 4,
                latent: 1,
                prior: Prior::Normal,
                kernel: 4,
            };
            Self { config, layers, norm, sgd }
        }
    }

    impl System for Critic {
        fn config(&self) -> &Config {
            &self.config
        }

        fn register_training(&mut self, _states: &mut States, _training: Training, _seed: u64) {}

        fn stages(&self) -> Vec<Stage> {
            vec![Stage::simple("training", Share::Part(1.0))]
        }

        fn record<'t>(&self, tape: &'t Tape, _stage: usize, _part: usize, x: Tensor<'t>) -> Losses<'t> {
            let x = x.reshape(&[x.shape()[0], SIDE * SIDE]);
            let hidden = self.norm.forward(tape, self.layers[0].forward(tape, x) * 20.0, Mode::Train);
            let value = self.layers[1].forward(tape, hidden.tanh());
            let gradient = tape.grad(value.square().sum_all(), &[x])[0];
            let penalty = ((gradient.square().sum_per_sample() + 1e-6).sqrt() - 1.0).square().mean_all();
            self.sgd.minimise(tape, penalty);
            vec![("penalty", penalty)]
        }

        fn score<'t>(&self, _tape: &'t Tape, x: Tensor<'t>, _score: &str) -> Scored<'t> {
            let score = x.mean(&[1, 2, 3]);
            Scored { score, parts: vec![], reconstruction: None, map: None, features: None }
        }
    }

    /// Losses and states after three steps of 12 samples in so many parts.
    fn trained(count: usize, sync_norms: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
        let mut states = States::new();
        let critic = Critic::new(&mut states);
        let store = Device::Cpu.store(&states, 5).unwrap();
        let parts = Parts { batch: 12 / count, count, sync_norms };
        let (mut levels, mut rest, _) =
            Levels::load(&Device::Cpu, &store, Purpose::Plain, &critic, [0, 0], parts).unwrap();
        let images: Vec<f32> =
            (0..12 * SIDE * SIDE).map(|i| ((i * i * 37 + i * 11) % 101) as f32 / 50.0 - 1.0).collect();
        let mut losses = vec![];
        for _ in 0..3 {
            let batch = Batch { images: &images, made: &vec![], here: 0..count, rate: 1.0 };
            levels.run(&mut rest, &batch, &Team::default()).unwrap();
            // One part is no step in parts: the program of the whole reads it.
            if count == 1 {
                batch.write(&mut rest, 0, 1).unwrap();
            }
            rest.run(1).unwrap();
            losses.extend(rest.read("losses").unwrap());
        }
        let all = states.entries().iter().enumerate();
        (losses, all.map(|(i, _)| store.read(crate::tape::StateId(i)).unwrap()).collect())
    }

    #[test]
    fn a_gradient_penalty_goes_through_norms_of_the_whole_batch() {
        let apart = |(a, of_a): &(Vec<f32>, Vec<Vec<f32>>), (b, of_b): &(Vec<f32>, Vec<Vec<f32>>)| {
            let pairs = a.iter().zip(b).chain(of_a.iter().flatten().zip(of_b.iter().flatten()));
            pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs() / a.abs().max(1.0)))
        };
        let whole = trained(1, false);
        for count in [2, 3] {
            let [synced, each] = [true, false].map(|sync| trained(count, sync));
            assert!(apart(&whole, &synced) < 1e-5, "{count} parts: {}", apart(&whole, &synced));
            assert!(apart(&whole, &each) > 1e-3, "{count} parts: {}", apart(&whole, &each));
        }
        // It learns: the gradient's norm comes nearer to 1.
        assert!(whole.0[2] < whole.0[0], "{:?}", whole.0);
    }
}
