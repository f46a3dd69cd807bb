//! Weights kept in halves: which states of a model's programs may be, and the programs that read them so.

use std::collections::BTreeSet;

use ganomede_kernels::Kernel;
use ganomede_kernels::conv::Face;
use ganomede_kernels::half::words;

use super::{Program, Role, StateId};

/// Input of products and convolutions that may be in halves.
const WEIGHTS: usize = 1;

/// Whether a kernel can read its weights in halves.
fn reads_halves(kernel: &Kernel) -> bool {
    match kernel {
        Kernel::Conv(conv) => conv.face != Face::Weight,
        Kernel::Gemm(_) => true,
        _ => false,
    }
}

/// States that these programs read as weights of products and convolutions and never otherwise, nor change.
pub fn halvable<'a>(programs: impl IntoIterator<Item = &'a Program>) -> BTreeSet<StateId> {
    let (mut weights, mut others) = (BTreeSet::new(), BTreeSet::new());
    for program in programs {
        let state = |buffer: usize| match program.buffers[buffer].role {
            Role::State(id) => Some(id),
            _ => None,
        };
        for launch in &program.launches {
            for (input, &buffer) in launch.inputs.iter().enumerate() {
                let Some(id) = state(buffer) else { continue };
                let as_weight = input == WEIGHTS && reads_halves(&launch.kernel);
                let read = if as_weight { &mut weights } else { &mut others };
                read.insert(id);
            }
            others.extend(launch.outputs.iter().filter_map(|&buffer| state(buffer)));
        }
    }
    &weights - &others
}

impl Program {
    /// The same program over a store that holds `states`, which are [`halvable`], in halves.
    pub fn with_halves(mut self, states: &BTreeSet<StateId>) -> Self {
        let in_halves: Vec<bool> = self
            .buffers
            .iter()
            .map(|buffer| matches!(buffer.role, Role::State(id) if states.contains(&id)))
            .collect();
        for launch in &mut self.launches {
            let Some(true) = launch.inputs.get(WEIGHTS).map(|&buffer| in_halves[buffer]) else { continue };
            match &mut launch.kernel {
                Kernel::Conv(conv) => conv.half = true,
                Kernel::Gemm(gemm) => gemm.half_b = true,
                _ => {}
            }
        }
        for (buffer, _) in self.buffers.iter_mut().zip(in_halves).filter(|(_, half)| *half) {
            buffer.len = words(buffer.len);
        }
        self
    }
}
