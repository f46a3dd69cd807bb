//! Losses, as means over all elements.

use crate::tape::Tensor;

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
