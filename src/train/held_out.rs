//! How well a system reconstructs samples that it was not trained on, beside the plainest guess: the mean
//! image. A network that does not beat it has learned nothing that a score could rest on; its residual
//! measures brightness.

use crate::device::{Device, DeviceError, Executable, Store};
use crate::models::scorer::{Sampler, ScoreError};
use crate::models::system::System;
use crate::program::{CompileError, compile};
use crate::tape::Tape;

/// Held-out samples, what the mean image leaves of them, and the program that reconstructs them.
pub(super) struct HeldOut {
    program: Executable,
    samples: Vec<f32>,
    /// Σ (x − x̄)², x̄ being the mean of the other held-out samples.
    constant: f64,
}

impl HeldOut {
    /// Name of the curve in the history: Σ (x − x̂)² / Σ (x − x̄)², 1 where the network is worth as much as
    /// the mean image.
    pub(super) const CURVE: &str = "held_out";

    /// Of the first of the `preview` samples, as many as grids show; `None` for fewer than two, samples that
    /// are all alike, or a system that reconstructs nothing in one pass.
    pub(super) fn new(
        device: &Device,
        system: &dyn System,
        store: &Store,
        preview: &[f32],
    ) -> Result<Option<Self>, ScoreError> {
        let config = system.config();
        let len = config.sample_len();
        let count = (preview.len() / len).min(Sampler::COUNT / 2);
        let samples = preview[..count * len].to_vec();
        let constant = left_by_mean(&samples, len);
        if count < 2 || constant <= 0.0 {
            return Ok(None);
        }
        let tape = Tape::new();
        let x = tape.input("x", &config.images(count));
        let Some(made) = system.score(&tape, x, "").reconstruction else { return Ok(None) };
        tape.output("squares", (x - made).square().sum_per_sample());
        let program = compile(&tape.finish().map_err(CompileError::from)?)?;
        Ok(Some(Self { program: device.load(&program, store)?, samples, constant }))
    }

    /// Bytes held on the device for its program.
    pub(super) fn bytes(&self) -> u64 {
        self.program.bytes()
    }

    /// What the network leaves of the samples, as a share of what their mean image leaves.
    pub(super) fn residual(&mut self) -> Result<f32, DeviceError> {
        self.program.write("x", &self.samples)?;
        self.program.run(1)?;
        let left: f64 = self.program.read("squares")?.into_iter().map(f64::from).sum();
        Ok((left / self.constant) as f32)
    }
}

/// Whether the samples are looked at after this step: four times while the steps double.
pub(super) fn is_due(step: u64) -> bool {
    let quarter = |step: u64| (4.0 * (step.max(1) as f64).log2()).floor();
    step >= 8 && quarter(step) > quarter(step - 1)
}

/// Σ over samples of (x − x̄)², x̄ being the mean of the others: (n/(n − 1))² times that of the mean of all.
fn left_by_mean(samples: &[f32], len: usize) -> f64 {
    let n = (samples.len() / len) as f64;
    let squares = |i: usize| {
        let values = || samples[i..].iter().step_by(len).map(|&v| f64::from(v));
        let mean = values().sum::<f64>() / n;
        values().map(|v| (v - mean).powi(2)).sum::<f64>()
    };
    let all: f64 = (0..len.min(samples.len())).map(squares).sum();
    all * (n / (n - 1.0).max(1.0)).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_the_others_is_what_a_constant_can_do() {
        let samples = [0.0, 1.0, 0.5, -1.0, 1.0, 0.25];
        let others =
            |i: usize, j: usize| (0..3).filter(|&k| k != i).map(|k| samples[k * 2 + j]).sum::<f32>() / 2.0;
        let want: f32 =
            (0..3).flat_map(|i| [0, 1].map(|j| (samples[i * 2 + j] - others(i, j)).powi(2))).sum();
        assert!((left_by_mean(&samples, 2) - f64::from(want)).abs() < 1e-6);
    }

    #[test]
    fn looks_are_fewer_as_steps_are_more() {
        let due: Vec<_> = (0..=64).filter(|&step| is_due(step)).collect();
        assert_eq!(due, [8, 10, 12, 14, 16, 20, 23, 27, 32, 39, 46, 54, 64]);
    }
}
