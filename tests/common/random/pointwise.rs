//! What an author writes element by element, and over axes.

use super::author::Author;
use super::script::{Binary, Id, Make, Unary};

impl Author {
    pub(super) fn random_unary(&mut self) -> Id {
        let x = self.pick();
        let scale =
            Unary::Affine(self.dice.of(&[0.5, 2.0, -1.0, -0.5]), self.dice.of(&[0.0, 0.0, 1.0, -0.5]));
        if self.script.whole {
            use Unary::{Abs, Clamp, Leaky, Relu, Sign, Square, Step};
            let op =
                self.dice.of(&[scale, scale, Abs, Relu, Sign, Step, Leaky(0.5), Clamp(-1.0, 2.0), Square]);
            let y = self.unary(op, x);
            return if op == Square { self.tame(y) } else { y };
        }
        match self.dice.below(14) {
            0 | 1 => self.unary(scale, x),
            2 => self.unary(Unary::Square, x),
            3 => self.unary(Unary::Sigmoid, x),
            4 => self.unary(Unary::Tanh, x),
            5 => self.unary(Unary::Softplus, x),
            6 => self.unary(Unary::Relu, x),
            7 => self.unary(Unary::Leaky(0.2), x),
            8 => self.unary(Unary::Abs, x),
            9 => {
                let op = self.dice.of(&[Unary::Clamp(-0.5, 1.0), Unary::Sign, Unary::Step]);
                self.unary(op, x)
            }
            10 => {
                let tame = self.unary(Unary::Tanh, x);
                self.unary(Unary::Exp, tame)
            }
            11 => {
                let positive = self.unary(Unary::Softplus, x);
                let off = self.unary(Unary::Affine(1.0, 0.5), positive);
                let powers = [Unary::Power(3.0), Unary::Power(-1.5), Unary::Power(0.5)];
                let op =
                    self.dice.of(&[Unary::Log, Unary::Recip, Unary::Sqrt, powers[0], powers[1], powers[2]]);
                self.unary(op, off)
            }
            12 => {
                let square = self.unary(Unary::Square, x);
                let off = self.unary(Unary::Affine(1.0, 0.25), square);
                self.unary(Unary::Sqrt, off)
            }
            _ => {
                // A root at 0 behind a cut, as norms of clipped values have it.
                let cut = self.unary(Unary::Relu, x);
                self.unary(Unary::Sqrt, cut)
            }
        }
    }

    pub(super) fn random_binary(&mut self) -> Option<Id> {
        let x = self.pick();
        let shape = self.shape(x);
        let y =
            self.find(|s| s.iter().rev().zip(shape.iter().rev()).all(|(&a, &b)| a == b || a == 1 || b == 1))?;
        let op = self.dice.below(10);
        Some(match op {
            0..=2 => self.binary(Binary::Add, x, y),
            3 | 4 => self.binary(Binary::Sub, x, y),
            5 | 6 => {
                let product = self.binary(Binary::Mul, x, y);
                if self.script.whole || self.dice.one_in(2) { self.tame(product) } else { product }
            }
            7 => {
                let op = self.dice.of(&[Binary::Max, Binary::Min]);
                self.binary(op, x, y)
            }
            8 if self.script.whole || self.dice.one_in(3) => {
                let op = self.dice.of(&[Binary::Greater, Binary::Equal]);
                self.binary(op, x, y)
            }
            _ if self.script.whole => self.binary(Binary::Add, x, y),
            _ => {
                let positive = self.unary(Unary::Softplus, y);
                let off = self.unary(Unary::Affine(1.0, 0.5), positive);
                if self.dice.one_in(4) {
                    let power = self.unary(Unary::Tanh, x);
                    return Some(self.binary(Binary::Pow, off, power));
                }
                self.binary(Binary::Div, x, off)
            }
        })
    }

    /// Some axes of size above 1, and the shape without them.
    pub(super) fn axes(&mut self, x: Id) -> Option<(Vec<usize>, Vec<usize>)> {
        let mut shape = self.shape(x);
        let mask = self.dice.below(3);
        let wide: Vec<usize> = (0..shape.len()).filter(|&d| shape[d] > 1).collect();
        let axes: Vec<usize> = match mask {
            0 => wide,
            1 => wide.last().copied().into_iter().collect(),
            // As batch norm has them.
            _ => wide.into_iter().filter(|&d| d != 1).collect(),
        };
        axes.iter().for_each(|&axis| shape[axis] = 1);
        (!axes.is_empty()).then_some((axes, shape))
    }

    pub(super) fn select(&mut self) -> Option<Id> {
        let x = self.pick();
        let shape = self.shape(x);
        let other = self.find(|s| s == shape)?;
        let mut condition = self.find(|s| s == shape)?;
        if self.dice.one_in(2) {
            condition = self.unary(Unary::Step, condition);
        }
        Some(self.make(Make::Select, &[condition, x, other], &shape))
    }

    pub(super) fn draw(&mut self) -> Option<Id> {
        let x = self.pick();
        let (shape, draw) = (self.shape(x), self.script.values.len());
        Some(match self.dice.below(3) {
            0 if !self.script.whole => self.make(Make::Random { normal: true, draw }, &[], &shape),
            1 if !self.script.whole => self.make(Make::Random { normal: false, draw }, &[], &shape),
            _ => {
                let p = self.dice.of(&[0.25, 0.5]);
                self.make(Make::Dropout { p, draw }, &[x], &shape)
            }
        })
    }

    pub(super) fn reduction(&mut self) -> Id {
        let x = self.pick();
        let Some((axes, shape)) = self.axes(x) else { return x };
        match self.dice.below(5) {
            0 | 1 => {
                let sum = self.make(Make::Sum(axes), &[x], &shape);
                self.tame(sum)
            }
            2 => {
                let make = match self.dice.below(4) {
                    0 => Make::Min(axes),
                    1 => Make::Prod(axes),
                    _ => Make::Max(axes),
                };
                let made = self.make(make, &[x], &shape);
                self.tame(made)
            }
            _ if self.script.whole => self.make(Make::Sum(axes), &[x], &shape),
            3 => self.make(Make::Mean(axes), &[x], &shape),
            _ => self.variance(x, axes, &shape),
        }
    }

    pub(super) fn variance(&mut self, x: Id, axes: Vec<usize>, shape: &[usize]) -> Id {
        let full = self.shape(x);
        let kept: Vec<_> = (0..full.len()).filter(|d| full[*d] != 1 && !axes.contains(d)).collect();
        if kept.windows(2).all(|w| (w[0] + 1..w[1]).all(|d| full[d] == 1)) {
            return self.make(Make::Variance(axes), &[x], shape);
        }
        self.make(Make::Mean(axes), &[x], shape)
    }

    /// A tensor normalised, plain or stopped, wholly or in part: the same ones again and again.
    pub(super) fn norm(&mut self) -> Option<Id> {
        let mut x = self.pick();
        while let Make::Stop = self.script.values[x].make {
            x = self.script.values[x].inputs[0];
        }
        let (axes, small) = self.axes(x)?;
        let shape = self.shape(x);
        if self.script.whole || self.dice.one_in(4) {
            // Softmax.
            let axis = *axes.last()?;
            let mut small = shape.clone();
            small[axis] = 1;
            if self.script.whole {
                let top = self.make(Make::Max(vec![axis]), &[x], &small);
                return Some(self.binary(Binary::Sub, x, top));
            }
            let top = self.make(Make::Max(vec![axis]), &[x], &small);
            let top = self.make(Make::Stop, &[top], &small);
            let shifted = self.binary(Binary::Sub, x, top);
            let e = self.unary(Unary::Exp, shifted);
            let sum = self.make(Make::Sum(vec![axis]), &[e], &small);
            return Some(self.binary(Binary::Div, e, sum));
        }
        let side = |author: &mut Self| {
            if author.dice.one_in(2) { x } else { author.make(Make::Stop, &[x], &shape) }
        };
        let (of_mean, of_variance, centred) = (side(self), side(self), side(self));
        let mean = self.make(Make::Mean(axes.clone()), &[of_mean], &small);
        let variance = self.variance(of_variance, axes, &small);
        if self.dice.one_in(4) {
            return Some(self.binary(Binary::Mul, mean, variance));
        }
        let centred = self.binary(Binary::Sub, centred, mean);
        let off = self.unary(Unary::Affine(1.0, 0.125), variance);
        let deviation = self.unary(Unary::Sqrt, off);
        Some(self.binary(Binary::Div, centred, deviation))
    }

    /// A sum of functions of many values of one shape: more than a launch can read.
    pub(super) fn wide(&mut self) -> Option<Id> {
        let x = self.pick();
        let shape = self.shape(x);
        (0..6 + self.dice.below(6)).try_fold(x, |sum, _| {
            let other = self.find(|s| s == shape)?;
            let op =
                self.dice.of(&[Unary::Affine(0.5, 0.0), Unary::Abs, Unary::Relu, Unary::Affine(1.0, 1.0)]);
            let term = self.unary(op, other);
            Some(self.binary(Binary::Add, sum, term))
        })
    }
}
