//! Operations in words: their kind, as listings count them, and what one of them computes, as formulas say
//! it.

use ganomede_kernels::conv::Face;
use ganomede_kernels::expr::{Binary, Num, Unary};
use ganomede_kernels::random::Distribution;

use super::Op;

impl Op {
    /// The kind of operation, as a reader of the tape knows it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::State(_) => "state",
            Self::Const(_) => "constant",
            Self::Unary(_) | Self::Binary(_) | Self::Select => "element-wise",
            Self::Broadcast => "broadcast",
            Self::Reshape => "reshape",
            Self::StopGradient => "stop gradient",
            Self::Permute(_) => "permute",
            Self::Slice { .. } => "slice",
            Self::Embed { .. } => "embed",
            Self::Concat(_) => "concat",
            Self::Sum { .. } => "sum",
            Self::Max { .. } => "max",
            Self::Variance { .. } => "variance",
            Self::Conv(..) => "convolution",
            Self::MatMul { .. } => "matrix product",
            Self::MaxPool(_) => "max pool",
            Self::Sparse(..) => "sparse matrix",
            Self::Random(..) => "random",
            Self::Custom(custom) => custom.name(),
        }
    }

    /// What it computes, in a few letters; inputs are a, b and c.
    pub fn formula(&self) -> String {
        let axes = |axes: &[usize]| axes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Input(name) => name.clone(),
            Self::State(id) => format!("state {}", id.0),
            Self::Const(Num(value)) => value.to_string(),
            Self::Unary(unary) => unary_formula(*unary),
            Self::Binary(binary) => binary_formula(*binary).to_owned(),
            Self::Select => "a ? b : c".to_owned(),
            Self::Sum { axes: of, scale } if scale.0 == 1.0 => format!("Σ over {}", axes(of)),
            Self::Sum { axes: of, scale } => format!("{} · Σ over {}", scale.0, axes(of)),
            Self::Max { axes: of } => format!("max over {}", axes(of)),
            Self::Variance { axes: of } => format!("variance over {}", axes(of)),
            Self::Permute(order) => format!("permute {}", axes(order)),
            Self::Concat(axis) => format!("concat along {axis}"),
            Self::Conv(Face::Conv, _) => "conv".to_owned(),
            Self::Conv(Face::Transpose, _) => "convᵀ".to_owned(),
            Self::Conv(Face::Weight, _) => "conv, weight's".to_owned(),
            Self::MatMul { trans_a, trans_b } => {
                let mark = |transposed: bool| if transposed { "ᵀ" } else { "" };
                format!("a{} · b{} (matrices)", mark(*trans_a), mark(*trans_b))
            }
            Self::Random(Distribution::Uniform, _) => "uniform".to_owned(),
            Self::Random(Distribution::Normal, _) => "normal".to_owned(),
            _ => self.kind().to_owned(),
        }
    }
}

fn unary_formula(unary: Unary) -> String {
    let plain = match unary {
        Unary::Neg => "−a",
        Unary::Recip => "1/a",
        Unary::Exp => "exp a",
        Unary::Log => "ln a",
        Unary::Sqrt => "√a",
        Unary::Abs => "|a|",
        Unary::Sign => "sign a",
        Unary::Square => "a²",
        Unary::Relu => "relu a",
        Unary::Tanh => "tanh a",
        Unary::Sigmoid => "σ(a)",
        Unary::Softplus => "softplus a",
        Unary::Step => "a > 0",
        Unary::LeakyRelu(Num(slope)) => return format!("leaky relu a, {slope}"),
        Unary::LeakyMask(Num(slope)) => return format!("a > 0 ? 1 : {slope}"),
        Unary::Affine(Num(scale), Num(shift)) => {
            return match (scale, shift) {
                (_, 0.0) => format!("{scale} · a"),
                (1.0, _) => format!("a + {shift}"),
                _ => format!("{scale} · a + {shift}"),
            };
        }
        Unary::Clamp(Num(low), Num(high)) => return format!("clamp a to {low}…{high}"),
        Unary::ClampMask(Num(low), Num(high)) => return format!("{low} ≤ a ≤ {high}"),
    };
    plain.to_owned()
}

fn binary_formula(binary: Binary) -> &'static str {
    match binary {
        Binary::Add => "a + b",
        Binary::Sub => "a − b",
        Binary::Mul => "a · b",
        Binary::Div => "a / b",
        Binary::Max => "max(a, b)",
        Binary::Min => "min(a, b)",
        Binary::Pow => "a^b",
        Binary::Greater => "a > b",
        Binary::Equal => "a = b",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_say_what_is_computed() {
        let affine = |scale, shift| Op::Unary(Unary::Affine(Num(scale), Num(shift))).formula();
        assert_eq!([affine(2.0, 0.0), affine(1.0, -3.0), affine(2.0, 1.0)], ["2 · a", "a + -3", "2 · a + 1"]);
        assert_eq!(Op::MatMul { trans_a: true, trans_b: false }.formula(), "aᵀ · b (matrices)");
        assert_eq!(Op::Sum { axes: vec![0, 2], scale: Num(0.5) }.formula(), "0.5 · Σ over 0,2");
        assert_eq!(Op::Reshape.formula(), "reshape");
    }
}
