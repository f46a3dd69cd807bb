//! Layers, losses and optimisers, written in operations of the tape.

mod layers;
mod losses;
mod optim;

pub use layers::{BatchNorm, Conv2d, LayerNorm, Linear, Norm, NormKind};
pub use losses::{
    PENALTY_EPSILON, bce_with_logits, cross_entropy_of_logits, cross_entropy_of_targets, focal,
    gradient_penalty, l1, mse, ssim, ssim_gaussian,
};
pub use optim::{Adam, Ema, RmsProp, Sgd};

use crate::tape::{Initial, RandomState, States, Tape};

/// Whether layers learn (batch statistics, dropout) or are applied (running statistics).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch norm uses the batch's statistics and updates the running ones.
    Train,
    /// Batch norm uses the running statistics; nothing changes.
    Eval,
    /// Batch norm uses each sample's own statistics, which is what train mode does to a batch of one, and
    /// changes nothing: results depend on no other sample.
    Instance,
}

/// Registers the states behind a program's random numbers.
pub fn random_state(states: &mut States, name: &str, seed: u64) -> RandomState {
    let key = vec![f32::from_bits(seed as u32), f32::from_bits((seed >> 32) as u32)];
    RandomState {
        key: states.add(format!("{name}.key"), &[2], Initial::Values(key)),
        step: states.add(format!("{name}.step"), &[1], Initial::Constant(0.0)),
    }
}

/// Counts this replay, so that the next one draws new numbers. Call once, after the last draw.
pub fn advance(tape: &Tape, random: &RandomState) {
    tape.count(&random.step, tape.state(&random.step) + 1.0);
}
