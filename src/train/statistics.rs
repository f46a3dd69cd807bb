//! Running statistics of batch norm under the weights that a stage of training ended with: the mean over
//! batches of what each says, as PyTorch's `torch.optim.swa_utils.update_bn` has it (cumulative average).
//!
//! The last steps' blend lags behind the weights and remembers few batches; on small sets that costs more
//! than the network's own faults. The training's own steps are recorded once more with everything but
//! running statistics left out ([`Purpose::Statistics`]), so that any system is served that trains with batch
//! norm.

use std::collections::BTreeMap;

use super::parts::Batch;
use super::trainer::record_step;
use super::{Team, TrainError};
use crate::device::{Device, DeviceError, Executable, Store};
use crate::models::system::System;
use crate::program::{CompileError, compile};
use crate::tape::{Graph, Parts, Purpose, StateId, Tape, Tensor, Variable};

/// The parts of a stage that have batch norm in train mode, and what was found so far.
pub(super) struct Statistics {
    parts: Vec<Part>,
    /// Sums over applications and their number, by statistic, in f64.
    sums: BTreeMap<StateId, (Vec<f64>, u64)>,
    /// Counters of random numbers that the parts move, as they were before.
    counters: Vec<(StateId, Vec<f32>)>,
    /// Parts of a batch.
    count: usize,
}

struct Part {
    program: Executable,
    /// Moves the counters, once a batch.
    counting: Option<Executable>,
    of: Vec<Variable>,
}

/// Name of the one output: all statistics of a part, one after the other.
const OUTPUT: &str = "statistics";

impl Statistics {
    /// Loads what a stage says of the running statistics among the first `weights` states; `None` where it
    /// says nothing.
    pub(super) fn new(
        device: &Device,
        system: &dyn System,
        store: &Store,
        stage: usize,
        parts_of: Parts,
        weights: usize,
    ) -> Result<Option<Self>, TrainError> {
        let (mut parts, mut counters) = (vec![], BTreeMap::new());
        for part in 0..system.stages()[stage].parts.len() {
            let tape = Tape::of(Purpose::Statistics).in_parts(parts_of);
            record_step(&tape, system, stage, part, parts_of.batch);
            let found = tape.estimates().into_iter().filter(|(running, _)| running.id.0 < weights);
            let (of, values): (Vec<_>, Vec<_>) = found.unzip();
            if of.is_empty() {
                continue;
            }
            tape.output(OUTPUT, Tensor::concat(&values, 0));
            let graph = tape.finish().map_err(CompileError::from)?;
            for &id in graph.assigns.keys() {
                counters.insert(id, store.read(id)?);
            }
            let load = |graph: Graph| Ok::<_, TrainError>(device.load(&compile(&graph)?, store)?);
            let counts = Some(&graph).filter(|graph| !graph.assigns.is_empty());
            let counts = counts.map(|graph| Graph { outputs: vec![], ..graph.clone() });
            let counting = counts.map(&load).transpose()?;
            let program = load(Graph { assigns: BTreeMap::new(), ..graph })?;
            parts.push(Part { program, counting, of });
        }
        let (sums, counters) = (BTreeMap::new(), counters.into_iter().collect());
        Ok((!parts.is_empty()).then_some(Self { parts, sums, counters, count: parts_of.count }))
    }

    /// Looks at the parts of a batch, those of other ranks included.
    pub(super) fn add(&mut self, batch: &Batch<'_>, team: &Team) -> Result<(), TrainError> {
        for Part { program, counting, of } in &mut self.parts {
            let mut mine = vec![];
            for part in team.own(self.count) {
                batch.write(program, part, self.count)?;
                program.run(1)?;
                mine.extend(program.read(OUTPUT)?);
            }
            counting.as_mut().map_or(Ok(()), |counting| counting.run(1))?;
            let found = team.parts(mine)?;
            let mut rest = &found[..];
            for running in of.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (values, others) = rest.split_at(running.shape.iter().product());
                rest = others;
                let none = || (vec![0.0; values.len()], 0);
                let (sum, count) = self.sums.entry(running.id).or_insert_with(none);
                sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
                *count += 1;
            }
        }
        Ok(())
    }

    /// The means take the place of what was there; nothing else has changed.
    pub(super) fn finish(self, store: &Store) -> Result<(), DeviceError> {
        for (id, (sum, count)) in self.sums {
            let means: Vec<_> = sum.iter().map(|sum| (sum / count as f64) as f32).collect();
            store.write(id, &means)?;
        }
        self.counters.iter().try_for_each(|(id, values)| store.write(*id, values))
    }
}
