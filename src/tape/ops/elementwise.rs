//! Element-wise operations.

use ganomede_kernels::expr::{Binary, Num, Unary};

use super::shape::broadcast_shape;
use crate::tape::{Op, Tensor};

impl<'t> Tensor<'t> {
    fn unary(self, op: Unary) -> Tensor<'t> {
        self.tape.node(Op::Unary(op), &[self], self.shape())
    }

    fn binary(self, name: &'static str, op: Binary, other: Tensor<'t>) -> Tensor<'t> {
        let (a, b) = (self.shape(), other.shape());
        if !self.tape.owns(name, other) {
            return self.tape.zeros(&a);
        }
        let Some(shape) = broadcast_shape(&a, &b) else {
            return self.tape.poison(name, format!("shapes {a:?} and {b:?} do not broadcast"), &a);
        };
        let (a, b) = (self.repeat(&shape), other.repeat(&shape));
        self.tape.node(Op::Binary(op), &[a, b], shape)
    }

    /// self · scale + shift, element by element.
    pub fn affine(self, scale: f32, shift: f32) -> Tensor<'t> {
        self.unary(Unary::Affine(Num(scale), Num(shift)))
    }
    /// 1 / self.
    pub fn recip(self) -> Tensor<'t> {
        self.unary(Unary::Recip)
    }
    /// e to the power of self.
    pub fn exp(self) -> Tensor<'t> {
        self.unary(Unary::Exp)
    }
    /// Natural logarithm.
    pub fn log(self) -> Tensor<'t> {
        self.unary(Unary::Log)
    }
    /// Square root.
    pub fn sqrt(self) -> Tensor<'t> {
        self.unary(Unary::Sqrt)
    }
    /// Absolute value; its derivative at 0 is 0.
    pub fn abs(self) -> Tensor<'t> {
        self.unary(Unary::Abs)
    }
    /// −1, 0 or 1.
    pub fn sign(self) -> Tensor<'t> {
        self.unary(Unary::Sign)
    }
    /// self · self, element by element.
    pub fn square(self) -> Tensor<'t> {
        self.unary(Unary::Square)
    }
    /// max(self, 0); its derivative at 0 is 0.
    pub fn relu(self) -> Tensor<'t> {
        self.unary(Unary::Relu)
    }
    /// self where positive, else slope · self; its derivative at 0 is the slope. A slope of 0 is
    /// [`Tensor::relu`].
    pub fn leaky_relu(self, slope: f32) -> Tensor<'t> {
        if slope == 0.0 { self.relu() } else { self.unary(Unary::LeakyRelu(Num(slope))) }
    }
    /// Hyperbolic tangent.
    pub fn tanh(self) -> Tensor<'t> {
        self.unary(Unary::Tanh)
    }
    /// 1 / (1 + e^−self).
    pub fn sigmoid(self) -> Tensor<'t> {
        self.unary(Unary::Sigmoid)
    }
    /// ln(1 + e^self), stable for large magnitudes.
    pub fn softplus(self) -> Tensor<'t> {
        self.unary(Unary::Softplus)
    }
    /// Limits values to [low, high], low ≤ high; the derivative is 1 within, bounds included.
    pub fn clamp(self, low: f32, high: f32) -> Tensor<'t> {
        self.unary(Unary::Clamp(Num(low), Num(high)))
    }
    /// 1 where positive, else 0; no gradient.
    pub fn step(self) -> Tensor<'t> {
        self.unary(Unary::Step)
    }
    pub(in crate::tape) fn leaky_mask(self, slope: f32) -> Tensor<'t> {
        self.unary(Unary::LeakyMask(Num(slope)))
    }
    pub(in crate::tape) fn clamp_mask(self, low: Num, high: Num) -> Tensor<'t> {
        self.unary(Unary::ClampMask(low, high))
    }
    /// The larger of two, element by element; equal values share the gradient.
    pub fn maximum(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("maximum", Binary::Max, other)
    }
    /// The smaller of two, element by element; equal values share the gradient.
    pub fn minimum(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("minimum", Binary::Min, other)
    }
    /// self to the power of other, element by element.
    pub fn pow(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("pow", Binary::Pow, other)
    }
    /// self to the power of a number; NaN where self < 0 and the exponent is no integer. As in PyTorch, the
    /// 0th power is 1 with a gradient of 0 everywhere.
    pub fn powf(self, exponent: f32) -> Tensor<'t> {
        match exponent {
            1.0 => self.reshape(&self.shape()),
            2.0 => self.square(),
            0.5 => self.sqrt(),
            -1.0 => self.recip(),
            _ => self.binary("powf", Binary::Pow, self.tape.constant(exponent)),
        }
    }
    /// 1 where self > other, else 0; no gradient.
    pub fn greater(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("greater", Binary::Greater, other)
    }
    /// 1 where self = other, else 0; no gradient.
    pub fn equal(self, other: Tensor<'t>) -> Tensor<'t> {
        self.binary("equal", Binary::Equal, other)
    }
    /// `a` where self is not 0 (NaN is not), else `b`, element by element, as `where` elsewhere: what is not
    /// chosen leaves no trace in value or gradients, be it infinite or NaN. The three shapes broadcast; self
    /// has no gradient.
    pub fn select(self, a: Tensor<'t>, b: Tensor<'t>) -> Tensor<'t> {
        let shapes = [self, a, b].map(|t| t.shape());
        let shape = broadcast_shape(&shapes[1], &shapes[2]).and_then(|s| broadcast_shape(&shapes[0], &s));
        let Some(shape) = shape else {
            let what =
                format!("shapes {:?}, {:?} and {:?} do not broadcast", shapes[0], shapes[1], shapes[2]);
            return self.tape.poison("select", what, &shapes[0]);
        };
        self.tape.node(Op::Select, &[self, a, b].map(|t| t.repeat(&shape)), shape)
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident, $name:literal, $op:expr) => {
        impl<'t> std::ops::$trait for Tensor<'t> {
            type Output = Tensor<'t>;
            fn $method(self, other: Tensor<'t>) -> Tensor<'t> {
                self.binary($name, $op, other)
            }
        }
        impl<'t> std::ops::$trait<f32> for Tensor<'t> {
            type Output = Tensor<'t>;
            fn $method(self, other: f32) -> Tensor<'t> {
                self.binary($name, $op, self.tape.constant(other))
            }
        }
        impl<'t> std::ops::$trait<Tensor<'t>> for f32 {
            type Output = Tensor<'t>;
            fn $method(self, other: Tensor<'t>) -> Tensor<'t> {
                other.tape.constant(self).binary($name, $op, other)
            }
        }
    };
}
operator!(Add, add, "add", Binary::Add);
operator!(Sub, sub, "sub", Binary::Sub);
operator!(Mul, mul, "mul", Binary::Mul);
operator!(Div, div, "div", Binary::Div);

impl<'t> std::ops::Neg for Tensor<'t> {
    type Output = Tensor<'t>;
    fn neg(self) -> Tensor<'t> {
        self.unary(Unary::Neg)
    }
}
