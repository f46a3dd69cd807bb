//! Scalar expressions: the one language for pointwise kernels, reduction prologues and convolution epilogues.
//!
//! An [`Expr`] is straight-line SSA: register `i` is the value of instruction `i`. The CPU evaluates it a
//! block of lanes at a time; the GPU gets the same instructions as WGSL, one hand-written function per
//! operation.

mod cpu;
pub(crate) mod math;
pub mod wgsl;

pub use cpu::{Evaluator, Kind, LANES, ROWS, Value};

use std::hash::{Hash, Hasher};

/// An `f32` constant compared and hashed by its bits, so that equal expressions are equal keys.
#[derive(Debug, Clone, Copy)]
pub struct Num(pub f32);

impl PartialEq for Num {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Num {}
impl Hash for Num {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Operations of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unary {
    /// −x
    Neg,
    /// 1 / x
    Recip,
    /// eˣ
    Exp,
    /// ln x
    Log,
    /// √x
    Sqrt,
    /// |x|
    Abs,
    /// −1, 0 or 1
    Sign,
    /// x²
    Square,
    /// max(x, 0)
    Relu,
    /// x where x > 0, else slope · x
    LeakyRelu(Num),
    /// 1 where x > 0, else slope: the derivative of leaky ReLU from its input or (slope > 0) its output
    LeakyMask(Num),
    /// tanh x
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// ln(1 + eˣ), computed as max(x, 0) + ln(1 + e^−|x|)
    Softplus,
    /// x · scale + shift
    Affine(Num, Num),
    /// min(max(x, low), high)
    Clamp(Num, Num),
    /// 1 where low ≤ x ≤ high, else 0: the derivative of clamp
    ClampMask(Num, Num),
    /// 1 where x > 0, else 0
    Step,
}

/// Operations of two arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
    /// max(a, b), NaN where either is
    Max,
    /// min(a, b), NaN where either is
    Min,
    /// a to the power of b: NaN where a < 0 and b is no integer
    Pow,
    /// 1 where a > b, else 0
    Greater,
    /// 1 where a = b, else 0
    Equal,
}

/// A register: the index of the instruction that defines it.
pub type Reg = usize;

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Instr {
    /// Value of operand `i` at this element.
    Operand(usize),
    /// A constant.
    Const(Num),
    /// Operation of one register.
    Unary(Unary, Reg),
    /// Operation of two registers.
    Binary(Binary, Reg, Reg),
    /// The second register where the first is not 0 (NaN is not), else the third. What is not chosen leaves
    /// no trace, whatever it is.
    Select(Reg, Reg, Reg),
}

impl Instr {
    /// Registers read, in order.
    pub fn reads(&self) -> impl Iterator<Item = Reg> + use<> {
        let (regs, count) = match *self {
            Instr::Operand(_) | Instr::Const(_) => ([0; 3], 0),
            Instr::Unary(_, a) => ([a, 0, 0], 1),
            Instr::Binary(_, a, b) => ([a, b, 0], 2),
            Instr::Select(condition, a, b) => ([condition, a, b], 3),
        };
        regs.into_iter().take(count)
    }
}

/// Straight-line code; each instruction reads only registers before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Expr {
    /// Instructions in order.
    pub code: Vec<Instr>,
}

impl Unary {
    /// Value at `x`: the definition that both devices are tested against.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Unary::Neg => -x,
            Unary::Recip => 1.0 / x,
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Sqrt => x.sqrt(),
            Unary::Abs => x.abs(),
            Unary::Sign => f64::from(i8::from(x > 0.0) - i8::from(x < 0.0)),
            Unary::Square => x * x,
            Unary::Relu => Binary::Max.eval(x, 0.0),
            Unary::LeakyRelu(s) => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(s.0) * x
                }
            }
            Unary::LeakyMask(s) => {
                if x > 0.0 {
                    1.0
                } else {
                    f64::from(s.0)
                }
            }
            Unary::Tanh => x.tanh(),
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::Softplus => Binary::Max.eval(x, 0.0) + (-x.abs()).exp().ln_1p(),
            Unary::Affine(a, b) => x * f64::from(a.0) + f64::from(b.0),
            Unary::Clamp(lo, hi) => Binary::Min.eval(Binary::Max.eval(x, f64::from(lo.0)), f64::from(hi.0)),
            Unary::ClampMask(lo, hi) => f64::from(u8::from(x >= f64::from(lo.0) && x <= f64::from(hi.0))),
            Unary::Step => f64::from(u8::from(x > 0.0)),
        }
    }
}

impl Binary {
    /// Value at `(a, b)`: the definition that both devices are tested against.
    pub fn eval(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Max if a.is_nan() || b.is_nan() => f64::NAN,
            Binary::Min if a.is_nan() || b.is_nan() => f64::NAN,
            Binary::Max => a.max(b),
            Binary::Min => a.min(b),
            Binary::Pow => a.powf(b),
            Binary::Greater => f64::from(u8::from(a > b)),
            Binary::Equal => f64::from(u8::from(a == b)),
        }
    }
}

/// The first value where the condition is not 0, else the second: the definition that both devices are tested
/// against.
pub fn select(condition: f64, a: f64, b: f64) -> f64 {
    if condition == 0.0 { b } else { a }
}

impl Expr {
    /// Appends an instruction and returns its register.
    pub fn push(&mut self, instr: Instr) -> Reg {
        self.code.push(instr);
        self.code.len() - 1
    }

    /// Number of arithmetic instructions: floating-point operations per element.
    pub fn flops(&self) -> u64 {
        self.code.iter().filter(|i| !matches!(i, Instr::Operand(_) | Instr::Const(_))).count() as u64
    }

    /// Checks that every instruction reads earlier registers and one of `operands` operands.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, operands: usize) -> Result<(), String> {
        for (i, instr) in self.code.iter().enumerate() {
            let known = !matches!(*instr, Instr::Operand(o) if o >= operands);
            if !known || instr.reads().any(|reg| reg >= i) {
                return Err(format!(
                    "instruction {i} ({instr:?}) reads what is not before it; {operands} operands"
                ));
            }
        }
        Ok(())
    }

    /// Every register in f64, operand `i` being `operand(i)`.
    pub fn eval(&self, operand: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut regs = Vec::with_capacity(self.code.len());
        for instr in &self.code {
            let value = match *instr {
                Instr::Operand(i) => operand(i),
                Instr::Const(c) => f64::from(c.0),
                Instr::Unary(op, a) => op.eval(regs[a]),
                Instr::Binary(op, a, b) => op.eval(regs[a], regs[b]),
                Instr::Select(condition, a, b) => select(regs[condition], regs[a], regs[b]),
            };
            regs.push(value);
        }
        regs
    }
}
