//! Expressions as WGSL: straight lines that call the functions of `expr.wgsl`, which stands before the
//! kernel's own text.

use super::{Binary, Expr, Instr, Num, Unary};
use std::fmt::Write;

/// A WGSL expression with exactly this value.
pub fn literal(value: f32) -> String {
    if value.is_finite() { format!("{value:e}f") } else { format!("op_bits({}u)", value.to_bits()) }
}

impl Expr {
    /// One `let r<i> = …;` line per instruction; operand `o` is the WGSL expression `operand(o)`.
    pub fn wgsl(&self, operand: impl Fn(usize) -> String) -> String {
        self.wgsl_with(operand, literal)
    }

    /// The same, with constants as the WGSL expressions that `constant` gives for their values.
    pub fn wgsl_with(
        &self,
        operand: impl Fn(usize) -> String,
        mut constant: impl FnMut(f32) -> String,
    ) -> String {
        let mut text = String::new();
        for (i, instr) in self.code.iter().enumerate() {
            let value = match *instr {
                Instr::Operand(o) => operand(o),
                Instr::Const(c) => constant(c.0),
                Instr::Unary(op, a) => {
                    let (name, args) = op.wgsl();
                    let args: String = args.iter().map(|c| format!(", {}", constant(c.0))).collect();
                    format!("{name}(r{a}{args})")
                }
                Instr::Binary(op, a, b) => format!("{}(r{a}, r{b})", op.wgsl()),
                Instr::Select(condition, a, b) => format!("op_select(r{condition}, r{a}, r{b})"),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    let r{i} = {value};");
        }
        text
    }
}

impl Unary {
    /// Function name and constant arguments.
    fn wgsl(self) -> (&'static str, Vec<Num>) {
        match self {
            Unary::Neg => ("op_neg", vec![]),
            Unary::Recip => ("op_recip", vec![]),
            Unary::Exp => ("op_exp", vec![]),
            Unary::Log => ("op_log", vec![]),
            Unary::Sqrt => ("op_sqrt", vec![]),
            Unary::Abs => ("op_abs", vec![]),
            Unary::Sign => ("op_sign", vec![]),
            Unary::Square => ("op_square", vec![]),
            Unary::Relu => ("op_relu", vec![]),
            Unary::LeakyRelu(slope) => ("op_leaky_relu", vec![slope]),
            Unary::LeakyMask(slope) => ("op_leaky_mask", vec![slope]),
            Unary::Tanh => ("op_tanh", vec![]),
            Unary::Sigmoid => ("op_sigmoid", vec![]),
            Unary::Softplus => ("op_softplus", vec![]),
            Unary::Affine(scale, shift) => ("op_affine", vec![scale, shift]),
            Unary::Clamp(low, high) => ("op_clamp", vec![low, high]),
            Unary::ClampMask(low, high) => ("op_clamp_mask", vec![low, high]),
            Unary::Step => ("op_step", vec![]),
        }
    }
}

impl Binary {
    /// Function name.
    fn wgsl(self) -> &'static str {
        match self {
            Binary::Add => "op_add",
            Binary::Sub => "op_sub",
            Binary::Mul => "op_mul",
            Binary::Div => "op_div",
            Binary::Max => "op_max",
            Binary::Min => "op_min",
            Binary::Pow => "op_pow",
            Binary::Greater => "op_greater",
            Binary::Equal => "op_equal",
        }
    }
}
