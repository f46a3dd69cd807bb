//! Numbers that know their derivatives along two directions, and how far an f32 program may be off from each.
//!
//! A [`Number`] is a + b·ε₁ + c·ε₂ + d·ε₁ε₂ with ε₁² = ε₂² = 0: forward differentiation, twice, with none of
//! the tape's rules. Beside each part stands a bound of the error that f32 arithmetic makes of it, by the
//! standard model: an operation rounds to one part in 2²⁴ of what it adds up, and passes on the errors of
//! what it reads by its derivatives. Where a function jumps within the error of its argument, the jump is
//! part of the error. So an ill-conditioned value has a wide bound, a plain one a narrow one, and small whole
//! numbers have none at all.

/// Half a unit in the last place of 1.
pub(crate) const U: f64 = 1.0 / 16_777_216.0;
/// Smallest normal f32: below it a device may round to 0.
const TINY: f64 = 1.2e-38;
/// What f32 cannot hold is not compared.
const HUGE: f64 = 1e37;

/// A value, its derivatives along direction 1, direction 2 and both (the bits of the index), and a bound of
/// each one's error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    pub(crate) part: [f64; 4],
    pub(crate) error: [f64; 4],
}

/// A function with its first two derivatives at a point.
pub(crate) type Curve = [f64; 3];

impl Number {
    pub(crate) const ZERO: Number = Number { part: [0.0; 4], error: [0.0; 4] };

    pub(crate) fn exact(value: f64) -> Self {
        Self { part: [value, 0.0, 0.0, 0.0], ..Self::ZERO }
    }

    /// The value alone: no direction changes it.
    pub(crate) fn stopped(self) -> Self {
        Self { part: [self.part[0], 0.0, 0.0, 0.0], error: [self.error[0], 0.0, 0.0, 0.0] }
    }

    /// The derivative along a direction, itself a number that depends on the other.
    pub(crate) fn along(self, direction: usize) -> Self {
        let mut found = Self::ZERO;
        for k in (0..4).filter(|k| k & direction == 0) {
            (found.part[k], found.error[k]) = (self.part[k | direction], self.error[k | direction]);
        }
        found
    }

    /// Whether the value can be compared at all.
    pub(crate) fn certain(self) -> bool {
        self.part[0].is_finite() && self.part[0].abs() < HUGE && self.error[0].is_finite()
    }

    fn moves(self, k: usize) -> bool {
        self.part[k] != 0.0 || self.error[k] != 0.0
    }

    pub(crate) fn scaled(self, factor: f64) -> Self {
        Sum::default().product(self, Number::exact(factor)).total()
    }

    pub(crate) fn times(self, other: Self) -> Self {
        Sum::default().product(self, other).total()
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Sum::default().plus(self).plus(other).total()
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Sum::default().plus(self).product(other, Number::exact(-1.0)).total()
    }

    /// A function of this number, which rounds to `ulps` units of its own size and `floor` units of 1. The
    /// derivative 0 of one that *cuts* stands whatever comes behind it; elsewhere 0 may still meet an
    /// infinite slope.
    pub(crate) fn map(self, curve: impl Fn(f64) -> Curve, ulps: f64, floor: f64, cuts: bool) -> Self {
        let (at, error) = (self.part[0], self.error[0]);
        let f = curve(at);
        let mut off = [0.0_f64; 3];
        for end in [curve(at - error), curve(at + error)] {
            for d in 0..3 {
                let jump = (end[d] - f[d]).abs();
                off[d] = if jump.is_nan() { f64::INFINITY } else { off[d].max(jump) };
            }
        }
        if ulps + floor > 0.0 {
            (0..3).for_each(|d| off[d] += U * (ulps * f[d].abs() + floor) + TINY);
        }
        let along = |d: usize, (p, e): (f64, f64)| -> (f64, f64) {
            // Derivatives of what does not move are 0 even where the slope has no value.
            if p == 0.0 && e == 0.0 {
                return (0.0, 0.0);
            }
            let rounding = match f[d].abs() {
                0.0 if cuts => 0.0,
                0.0 => TINY,
                1.0 if ulps + floor == 0.0 => 0.0,
                slope => U * (slope * p).abs() + TINY,
            };
            (f[d] * p, f[d].abs() * e + p.abs() * off[d] + e * off[d] + rounding)
        };
        let [_, a, b, c] = self.part;
        let [_, ea, eb, ec] = self.error;
        let (p1, e1) = along(1, (a, ea));
        let (p2, e2) = along(1, (b, eb));
        let (p3, e3) = along(1, (c, ec));
        let (q3, g3) = match (a == 0.0 && ea == 0.0) || (b == 0.0 && eb == 0.0) {
            true => (0.0, 0.0),
            false if f[2] == 0.0 && off[2] == 0.0 => (0.0, 0.0),
            false => along(2, (a * b, a.abs() * eb + b.abs() * ea + ea * eb)),
        };
        Self { part: [f[0], p1, p2, p3 + q3], error: [off[0], e1, e2, e3 + g3] }
    }

    pub(crate) fn negated(self) -> Self {
        Self { part: self.part.map(|p| -p), ..self }
    }

    /// The smallest number; equal ones share its derivative.
    pub(crate) fn smallest(numbers: &[Number]) -> Number {
        Number::largest(&numbers.iter().map(|v| v.negated()).collect::<Vec<_>>()).negated()
    }

    /// The largest number; equal ones share its derivative. What is within its error of the largest may be
    /// it.
    pub(crate) fn largest(numbers: &[Number]) -> Number {
        let top =
            numbers.iter().fold(f64::NEG_INFINITY, |top, n| if n.part[0] > top { n.part[0] } else { top });
        let near = |n: &&Number| {
            n.part[0] + n.error[0]
                >= top - numbers.iter().filter(|m| m.part[0] == top).fold(0.0_f64, |e, m| e.max(m.error[0]))
        };
        let (ties, rivals): (Vec<&Number>, Vec<&Number>) =
            (numbers.iter().filter(|n| n.part[0] == top).collect(), numbers.iter().filter(near).collect());
        if ties.is_empty() || numbers.iter().any(|n| n.part[0].is_nan()) {
            return Number { part: [f64::NAN; 4], error: [f64::INFINITY; 4] };
        }
        let sum = ties.iter().fold(Sum::default(), |sum, n| sum.plus(**n)).total();
        let share = 1.0 / ties.len() as f64;
        let mut found = if ties.len() == 1 { *ties[0] } else { sum.scaled(share) };
        found.part[0] = top;
        found.error[0] = rivals.iter().fold(0.0, |e: f64, n| e.max(n.error[0]));
        if rivals.len() > ties.len() || found.error[0] > 0.0 && ties.len() > 1 {
            for k in 1..4 {
                let jump = rivals.iter().map(|n| (n.part[k] - found.part[k]).abs() + n.error[k]);
                found.error[k] += jump.fold(0.0, f64::max);
            }
        }
        found
    }

    /// 1 where a comparison holds; nothing moves it.
    pub(crate) fn compared(self, other: Self, holds: impl Fn(f64, f64) -> bool) -> Number {
        let (a, b) = (self.part[0], other.part[0]);
        let error = self.error[0] + other.error[0];
        let uncertain = error > 0.0 && (a - b).abs() <= error || a.is_nan() || b.is_nan();
        let mut found = Number::exact(f64::from(u8::from(holds(a, b))));
        found.error[0] = f64::from(u8::from(uncertain));
        found
    }

    /// `a` where this is not 0, else `b`.
    pub(crate) fn select(self, a: Self, b: Self) -> Number {
        let (chosen, other) = if self.part[0] == 0.0 { (b, a) } else { (a, b) };
        let mut found = chosen;
        if self.error[0] > 0.0 && self.part[0].abs() <= self.error[0] || self.part[0].is_nan() {
            for k in 0..4 {
                found.error[k] += (chosen.part[k] - other.part[k]).abs() + other.error[k];
            }
        }
        found
    }

    /// The same with an error of its own, of this many units of its size and of another.
    pub(crate) fn blurred(mut self, size: f64) -> Self {
        for k in 0..4 {
            if k == 0 || self.moves(k) {
                self.error[k] += U * size.max(self.part[k].abs());
            }
        }
        self
    }
}

/// A sum of products as a device may form it: in any order, rounded after each step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    part: [f64; 4],
    error: [f64; 4],
    size: [f64; 4],
    rough: [bool; 4],
    terms: f64,
}

/// Whether sums of such numbers are exact, as long as they stay below 2¹³.
fn on_grid(value: f64) -> bool {
    (value * 1024.0).fract() == 0.0
}

impl Sum {
    fn add(&mut self, k: usize, value: f64, error: f64) {
        self.part[k] += value;
        self.error[k] += error;
        self.size[k] += value.abs();
        self.rough[k] |= error != 0.0 || !on_grid(value);
    }

    pub(crate) fn plus(mut self, number: Number) -> Self {
        (0..4).for_each(|k| self.add(k, number.part[k], number.error[k]));
        self.terms += 1.0;
        self
    }

    pub(crate) fn product(mut self, a: Number, b: Number) -> Self {
        for k in 0..4 {
            for i in (0..4).filter(|i| i & k == *i) {
                let j = k ^ i;
                let ((p, e), (q, f)) = ((a.part[i], a.error[i]), (b.part[j], b.error[j]));
                // What does not move adds nothing to a derivative, whatever it is multiplied with.
                if (i != 0 && !a.moves(i)) || (j != 0 && !b.moves(j)) {
                    continue;
                }
                // A derivative times 0 is 0 as long as it is finite, which only later steps know.
                let soft = if k != 0 && (p == 0.0 || q == 0.0) { TINY } else { 0.0 };
                self.add(k, p * q, p.abs() * f + q.abs() * e + e * f + soft);
            }
        }
        self.terms += 1.0;
        self
    }

    pub(crate) fn total(self) -> Number {
        let mut found = Number { part: self.part, error: self.error };
        for k in 0..4 {
            if self.rough[k] || self.size[k] > 8192.0 {
                let depth = 1.0 + f64::from(self.terms as f32).log2();
                found.error[k] += if self.size[k] > 0.0 { depth * U * self.size[k] + TINY } else { 0.0 };
            }
            if self.size[k] > HUGE {
                found.error[k] = f64::INFINITY;
            }
        }
        found
    }
}
