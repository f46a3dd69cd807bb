//! Losses, as means over all elements.

use crate::tape::{PoolOptions, Tensor};

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

/// Structural similarity (Wang et al. 2004, equation 13) of two batches `[n, c, h, w]` with values in [−1, 1], at every
/// pixel: statistics over the `window` (height, width, both odd) around it, what lies beyond the border left out.
pub fn ssim<'t>(a: Tensor<'t>, b: Tensor<'t>, window: [usize; 2]) -> Tensor<'t> {
    // (K₁·range)² and (K₂·range)² with K₁ = 0.01, K₂ = 0.03 and a range of 2.
    const C: [f32; 2] = [0.02 * 0.02, 0.06 * 0.06];
    let padding = window.map(|side| side / 2);
    let pool = |x: Tensor<'t>| x.avg_pool2d(PoolOptions { kernel: window, stride: [1, 1], padding });
    // The share of each window that lies within the image.
    let s = a.shape();
    let inside = pool(a.tape.full(1.0, &[1, 1, s[2], s[3]]));
    let mean = |x: Tensor<'t>| pool(x) / inside;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let variances = mean(a.square() + b.square()) - mean_a.square() - mean_b.square();
    let covariance = mean(a * b) - mean_a * mean_b;
    let numerator = (mean_a * mean_b * 2.0 + C[0]) * (covariance * 2.0 + C[1]);
    // Rounding may take a variance of nothing below 0.
    let denominator = (mean_a.square() + mean_b.square() + C[0]) * (variances.relu() + C[1]);
    numerator / denominator
}
