//! Smooth random functions from which generators build shapes.

use crate::rng::Rng;

/// Value noise on [0, 1]: random knots, smoothstep between them.
pub(crate) struct ValueNoise<const KNOTS: usize>([f32; KNOTS]);

impl<const KNOTS: usize> ValueNoise<KNOTS> {
    /// Knots uniform in ±`amplitude`.
    pub(crate) fn new(rng: &mut Rng, amplitude: f32) -> Self {
        ValueNoise(std::array::from_fn(|_| rng.range(-amplitude, amplitude)))
    }

    /// `u` outside [0, 1] is clamped.
    pub(crate) fn at(&self, u: f32) -> f32 {
        let t = u.clamp(0.0, 1.0) * (KNOTS - 1) as f32;
        let i = (t as usize).min(KNOTS - 2);
        let f = t - i as f32;
        self.0[i] + (self.0[i + 1] - self.0[i]) * f * f * (3.0 - 2.0 * f)
    }
}

/// Bump of height 1 at 0 and 0 beyond ±1: (1 − t²)².
pub(crate) fn bump(t: f32) -> f32 {
    let s = (1.0 - t * t).max(0.0);
    s * s
}

/// Share of a pixel at `v` that lies beyond an edge at `edge`, blurred over `width`.
pub(crate) fn beyond(v: f32, edge: f32, width: f32) -> f32 {
    ((v - edge) / width + 0.5).clamp(0.0, 1.0)
}
