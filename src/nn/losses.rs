//! Losses, as means over all elements.

use crate::tape::{Tape, Tensor};

/// Binary cross-entropy of logits against one target in [0, 1]: mean of softplus(l) − l·t, stable at any magnitude.
pub fn bce_with_logits(logits: Tensor<'_>, target: f32) -> Tensor<'_> {
    (logits.softplus() - logits * target).mean_all()
}

/// Mean absolute difference.
pub fn l1<'t>(a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
    (a - b).abs().mean_all()
}

/// Mean squared difference.
pub fn mse<'t>(a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
    (a - b).square().mean_all()
}

/// The gradient penalty of WGAN-GP (Gulrajani et al. 2017, equation 3) without its weight λ: mean over samples of
/// (‖∇D(x̂)‖₂ − 1)² at x̂ = x + α·(x̃ − x).
///
/// `critic` is D, which must treat samples one by one: layer norm is allowed, batch norm is not. `alpha` holds one
/// number from [0, 1] for each sample, `[n]`; the norm is over all elements of a sample, with [`PENALTY_EPSILON`]
/// under its root. The result is differentiated once more by [`Tape::grad`].
pub fn gradient_penalty<'t>(
    tape: &'t Tape,
    critic: impl Fn(Tensor<'t>) -> Tensor<'t>,
    real: Tensor<'t>,
    fake: Tensor<'t>,
    alpha: Tensor<'t>,
) -> Tensor<'t> {
    let mut per_sample = vec![1; real.rank()];
    per_sample[0] = alpha.len();
    let between = real + alpha.reshape(&per_sample) * (fake - real);
    let between = between.stop_gradient();
    let gradient = tape.grad(critic(between).sum_all(), &[between])[0];
    let norm = (gradient.square().sum_per_sample() + PENALTY_EPSILON).sqrt();
    (norm - 1.0).square().mean_all()
}

/// Added to the squared norm of a gradient penalty, so that the root of a zero gradient has a derivative.
pub const PENALTY_EPSILON: f32 = 1e-12;
