//! Losses, as means over all elements.

use crate::tape::{PoolOptions, Tape, Tensor};

/// Binary cross-entropy of logits against one target in [0, 1]: the mean of [`cross_entropy_of_logits`].
pub fn bce_with_logits(logits: Tensor<'_>, target: f32) -> Tensor<'_> {
    cross_entropy_of_logits(logits, target).mean_all()
}

/// Binary cross-entropy of each logit against one target in [0, 1]: t·softplus(−l) + (1 − t)·softplus(l).
/// Neither term is negative, so that no digits are lost at any magnitude, in value or gradient; a term of
/// weight 0 is left out, so that an infinite logit on the target's side costs 0.
pub fn cross_entropy_of_logits(logits: Tensor<'_>, target: f32) -> Tensor<'_> {
    match target {
        0.0 => logits.softplus(),
        1.0 => (-logits).softplus(),
        _ => (-logits).softplus() * target + logits.softplus() * (1.0 - target),
    }
}

/// Binary cross-entropy of each logit against a target of its own in [0, 1], both of one shape:
/// t·softplus(−l)
/// + (1 − t)·softplus(l), as PyTorch's `binary_cross_entropy_with_logits`.
pub fn cross_entropy_of_targets<'t>(logits: Tensor<'t>, targets: Tensor<'t>) -> Tensor<'t> {
    let (shape, other) = (logits.shape(), targets.shape());
    if shape != other {
        let what = format!("{shape:?} and {other:?} are not of one shape");
        return logits.tape.poison("cross_entropy_of_targets", what, &shape);
    }
    (-logits).softplus() * targets + logits.softplus() * (1.0 - targets)
}

/// Focal loss (Lin et al., ICCV 2017, equation 4, without α) of each pixel: −(1 − p)^γ · log p, p being the
/// softmax probability of the class that is there. `logits` are `[n, 2, h, w]`, `targets` 0 or 1 for class 0
/// or 1, `[n, 1, h, w]` as the result.
///
/// With two classes p = σ(s), s being the difference of their logits with the sign of the target, so that
/// −log p = softplus(−s) and 1 − p = σ(−s) lose no digits at any magnitude.
pub fn focal<'t>(logits: Tensor<'t>, targets: Tensor<'t>, gamma: f32) -> Tensor<'t> {
    let (shape, other) = (logits.shape(), targets.shape());
    if shape.len() != 4 || shape[1] != 2 || other != [shape[0], 1, shape[2], shape[3]] {
        let what = format!("{shape:?} and {other:?}: [n, 2, h, w] and [n, 1, h, w] are needed");
        return logits.tape.poison("focal", what, &other);
    }
    let apart = logits.narrow(1, 0, 1) - logits.narrow(1, 1, 1);
    let wrong = apart * (targets * 2.0 - 1.0);
    wrong.sigmoid().powf(gamma) * wrong.softplus()
}

/// a − b of two tensors of one shape.
fn difference<'t>(op: &'static str, a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
    let (shape, other) = (a.shape(), b.shape());
    if shape != other {
        return a.tape.poison(op, format!("{shape:?} and {other:?} are not of one shape"), &shape);
    }
    a - b
}

/// Mean absolute difference of two tensors of one shape.
pub fn l1<'t>(a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
    difference("l1", a, b).abs().mean_all()
}

/// Mean squared difference of two tensors of one shape.
pub fn mse<'t>(a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
    difference("mse", a, b).square().mean_all()
}

/// Structural similarity (Wang et al. 2004, equation 13) of two batches `[n, c, h, w]` with values in [−1,
/// 1], at every pixel: statistics over the `window` (height, width, both odd) around it, what lies beyond the
/// border left out.
pub fn ssim<'t>(a: Tensor<'t>, b: Tensor<'t>, window: [usize; 2]) -> Tensor<'t> {
    let (s, other) = (a.shape(), b.shape());
    if s.len() != 4 || s != other || window.iter().any(|side| side.is_multiple_of(2)) {
        let what = format!(
            "{s:?} and {other:?} with window {window:?}: one shape of rank 4 and odd sides are needed"
        );
        return a.tape.poison("ssim", what, &s);
    }
    let padding = window.map(|side| side / 2);
    let pool = |x: Tensor<'t>| x.avg_pool2d(PoolOptions::new(window, [1, 1], padding));
    // The share of each window that lies within the image.
    let inside = pool(a.tape.full(1.0, &[1, 1, s[2], s[3]]));
    similarity(a, b, 2.0, |x| pool(x) / inside)
}

/// Structural similarity of two batches `[n, c, h, w]` with values in [0, 1], at every pixel: statistics by
/// Gaussian windows of 11×11 with σ = 1.5 (Wang et al. 2004, §III-B), zeros lying beyond the border, as
/// DRAEM's code has it.
pub fn ssim_gaussian<'t>(a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
    const SIDE: usize = 11;
    const SIGMA: f64 = 1.5;
    let (s, other) = (a.shape(), b.shape());
    if s.len() != 4 || s != other {
        let what = format!("{s:?} and {other:?}: one shape of rank 4 is needed");
        return a.tape.poison("ssim_gaussian", what, &s);
    }
    let bell = |k: usize| (-(k as f64 - (SIDE / 2) as f64).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
    let sum: f64 = (0..SIDE).map(bell).sum();
    let taps: Vec<f32> = (0..SIDE).map(|k| (bell(k) / sum) as f32).collect();
    similarity(a, b, 1.0, |x| x.filter(2, &taps).filter(3, &taps))
}

/// Equation 13 of Wang et al. for values that span `range`, from the means that windows see.
fn similarity<'t>(
    a: Tensor<'t>,
    b: Tensor<'t>,
    range: f32,
    mean: impl Fn(Tensor<'t>) -> Tensor<'t>,
) -> Tensor<'t> {
    // (K₁·range)² and (K₂·range)² with K₁ = 0.01 and K₂ = 0.03.
    let c = [0.01 * range, 0.03 * range].map(|v| v * v);
    let (mean_a, mean_b) = (mean(a), mean(b));
    let variances = mean(a.square() + b.square()) - mean_a.square() - mean_b.square();
    let covariance = mean(a * b) - mean_a * mean_b;
    let numerator = (mean_a * mean_b * 2.0 + c[0]) * (covariance * 2.0 + c[1]);
    // Rounding may take a variance of nothing below 0.
    let denominator = (mean_a.square() + mean_b.square() + c[0]) * (variances.relu() + c[1]);
    numerator / denominator
}

/// The gradient penalty of WGAN-GP (Gulrajani et al. 2017, equation 3) without its weight λ: mean over
/// samples of (‖∇D(x̂)‖₂ − 1)² at x̂ = x + α·(x̃ − x).
///
/// `critic` is D, which must treat samples one by one: layer norm is allowed, batch norm is not. `alpha`
/// holds one number from [0, 1] for each sample, `[n]`; the norm is over all elements of a sample, with
/// [`PENALTY_EPSILON`] under its root. The result is differentiated once more by [`Tape::grad`].
pub fn gradient_penalty<'t>(
    tape: &'t Tape,
    critic: impl Fn(Tensor<'t>) -> Tensor<'t>,
    real: Tensor<'t>,
    fake: Tensor<'t>,
    alpha: Tensor<'t>,
) -> Tensor<'t> {
    let shapes = [real.shape(), fake.shape(), alpha.shape()];
    if shapes[0].is_empty() || shapes[0] != shapes[1] || shapes[2] != shapes[0][..1] {
        let what = format!("real, fake and alpha of shapes {shapes:?}; [n, …], the same and [n] are needed");
        return tape.poison("gradient_penalty", what, &[]);
    }
    let mut per_sample = vec![1; real.rank()];
    per_sample[0] = shapes[0][0];
    let between = real + alpha.reshape(&per_sample) * (fake - real);
    let between = between.stop_gradient();
    let gradient = tape.grad(critic(between).sum_all(), &[between])[0];
    let norm = (gradient.square().sum_per_sample() + PENALTY_EPSILON).sqrt();
    (norm - 1.0).square().mean_all()
}

/// Added to the squared norm of a gradient penalty, so that the root of a zero gradient has a derivative.
pub const PENALTY_EPSILON: f32 = 1e-12;
