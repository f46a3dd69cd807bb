//! Reductions: sums, means, maxima, variances, softmax.

use ganomede_kernels::expr::Num;

use crate::tape::{Op, Tensor};

impl<'t> Tensor<'t> {
    fn reduced(self, name: &'static str, axes: &[usize]) -> Result<(Vec<usize>, Vec<usize>), Tensor<'t>> {
        let mut shape = self.shape();
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        if axes.iter().any(|&a| a >= shape.len()) {
            let what = format!("axes {axes:?} are not all dimensions of {shape:?}");
            return Err(self.tape.poison(name, what, &shape));
        }
        axes.retain(|&a| shape[a] != 1);
        for &axis in &axes {
            shape[axis] = 1;
        }
        Ok((axes, shape))
    }

    fn scaled_sum(self, name: &'static str, axes: &[usize], mean: bool) -> Tensor<'t> {
        let (axes, shape) = match self.reduced(name, axes) {
            Ok(found) => found,
            Err(poison) => return poison,
        };
        let count = self.len() / shape.iter().product::<usize>();
        let scale = if mean { 1.0 / count as f32 } else { 1.0 };
        self.tape.node(Op::Sum { axes, scale: Num(scale) }, &[self], shape)
    }

    /// Sum over axes, which stay as size 1.
    pub fn sum(self, axes: &[usize]) -> Tensor<'t> {
        self.scaled_sum("sum", axes, false)
    }

    /// Mean over axes, which stay as size 1.
    pub fn mean(self, axes: &[usize]) -> Tensor<'t> {
        self.scaled_sum("mean", axes, true)
    }

    /// Sum of all elements, shape `[]`.
    pub fn sum_all(self) -> Tensor<'t> {
        self.sum(&(0..self.rank()).collect::<Vec<_>>()).reshape(&[])
    }

    /// The adjoint of a broadcast from `shape`: sums over what it repeats.
    pub(in crate::tape) fn sum_to(self, shape: &[usize]) -> Tensor<'t> {
        let full = self.shape();
        if full == shape {
            return self;
        }
        let added = full.len() - shape.len();
        let axes: Vec<_> = (0..full.len()).filter(|&d| d < added || shape[d - added] != full[d]).collect();
        let sum = self.sum(&axes);
        if added == 0 { sum } else { sum.reshape(shape) }
    }

    /// Mean of all elements, shape `[]`.
    pub fn mean_all(self) -> Tensor<'t> {
        self.mean(&(0..self.rank()).collect::<Vec<_>>()).reshape(&[])
    }

    /// Sum of each sample `[n, …]` → `[n]`.
    pub fn sum_per_sample(self) -> Tensor<'t> {
        let n = self.shape().first().copied().unwrap_or(1);
        self.sum(&(1..self.rank()).collect::<Vec<_>>()).reshape(&[n])
    }

    /// Mean of each sample `[n, …]` → `[n]`.
    pub fn mean_per_sample(self) -> Tensor<'t> {
        let n = self.shape().first().copied().unwrap_or(1);
        self.mean(&(1..self.rank()).collect::<Vec<_>>()).reshape(&[n])
    }

    /// Maximum over axes, which stay as size 1; equal maxima share the gradient.
    pub fn max(self, axes: &[usize]) -> Tensor<'t> {
        match self.reduced("max", axes) {
            Ok((axes, shape)) => self.tape.node(Op::Max { axes }, &[self], shape),
            Err(poison) => poison,
        }
    }

    /// Minimum over axes, which stay as size 1; equal minima share the gradient.
    pub fn min(self, axes: &[usize]) -> Tensor<'t> {
        match self.reduced("min", axes) {
            Ok(_) => -(-self).max(axes),
            Err(poison) => poison,
        }
    }

    /// Product over axes, which stay as size 1. Halves are multiplied with halves, so that the gradient, made
    /// of the other factors, is right where some are 0.
    pub fn prod(self, axes: &[usize]) -> Tensor<'t> {
        let (axes, _) = match self.reduced("prod", axes) {
            Ok(found) => found,
            Err(poison) => return poison,
        };
        axes.into_iter().fold(self.reshape(&self.shape()), |mut x, axis| {
            let mut rest: Option<Tensor<'t>> = None;
            let mut n = x.shape()[axis];
            while n > 1 {
                if n % 2 == 1 {
                    let last = x.narrow(axis, n - 1, 1);
                    rest = Some(rest.map_or(last, |rest| rest * last));
                }
                n /= 2;
                x = x.narrow(axis, 0, n) * x.narrow(axis, n, n);
            }
            rest.map_or(x, |rest| x * rest)
        })
    }

    /// Biased variance over axes, which stay as size 1; by Welford's method.
    pub fn variance(self, axes: &[usize]) -> Tensor<'t> {
        match self.reduced("variance", axes) {
            Ok((axes, shape)) => self.tape.node(Op::Variance { axes }, &[self], shape),
            Err(poison) => poison,
        }
    }

    /// Softmax along one axis.
    pub fn softmax(self, axis: usize) -> Tensor<'t> {
        let e = (self - self.max(&[axis]).stop_gradient()).exp();
        e / e.sum(&[axis])
    }
}
