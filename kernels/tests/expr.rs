//! Expressions on the CPU: every operation against f64 over the whole range of floats, and the placement of
//! registers.

use crate::spaces::code;
use ganomede_kernels::expr::{Binary, Evaluator, Expr, Instr, Kind, LANES, Num, Unary, Value};
use proptest::prelude::*;

fn unary(op: Unary) -> Expr {
    Expr { code: vec![Instr::Operand(0), Instr::Unary(op, 0)] }
}

fn evaluate(expr: &Expr, operands: &[&[f32]]) -> Vec<f32> {
    let n = operands[0].len();
    let ev = Evaluator::new(expr, &vec![Kind::Lanes; operands.len()], &[expr.code.len() - 1], true);
    let mut scratch = vec![f32::NAN; ev.scratch_len()];
    let mut out = vec![0.0; n];
    for (b, out) in out.chunks_mut(LANES).enumerate() {
        let n = out.len();
        let blocks: Vec<Value<'_>> = operands.iter().map(|o| Value::Lanes(&o[b * LANES..][..n])).collect();
        ev.run((1, n), &blocks, &mut [out], &mut scratch);
    }
    out
}

/// One float in 1009 of all 2³², and the special ones.
fn floats() -> Vec<f32> {
    let special =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, f32::MAX, f32::MIN, 1.0, -1.0];
    special.into_iter().chain((0..=u32::MAX / 1009).map(|i| f32::from_bits(i * 1009))).collect()
}

/// Largest relative error over `floats()` where the true value is normal; below, the largest in denormal
/// steps.
fn errors(op: Unary) -> (f64, f64) {
    let x = floats();
    let y = evaluate(&unary(op), &[&x]);
    let (mut relative, mut steps) = (0.0f64, 0.0f64);
    for (&x, &y) in x.iter().zip(&y) {
        let want = op.eval(f64::from(x));
        if want.is_nan() {
            assert!(y.is_nan(), "{op:?}({x}) = {y}, want NaN");
        } else if want as f32 == y {
            continue;
        } else if want.abs() < f64::from(f32::MIN_POSITIVE) {
            steps = steps.max((f64::from(y) - want).abs() / f64::from(f32::from_bits(1)));
        } else {
            let e = (f64::from(y) - want).abs() / want.abs();
            assert!(e < 1e-5, "{op:?}({x}) = {y}, want {want}");
            relative = relative.max(e);
        }
    }
    (relative, steps)
}

#[test]
fn elementary_functions_are_within_their_bounds() {
    for (op, bound) in [
        (Unary::Exp, 1.1e-7),
        (Unary::Log, 1.0e-7),
        (Unary::Tanh, 1.6e-7),
        (Unary::Sigmoid, 2.0e-7),
        (Unary::Softplus, 2.0e-7),
        (Unary::Sqrt, 6e-8),
        (Unary::Recip, 6e-8),
    ] {
        let (relative, steps) = errors(op);
        println!("{op:?}: relative {relative:.3e}, denormal steps {steps:.2}");
        assert!(relative <= bound, "{op:?}: relative error {relative:e} above {bound:e}");
        assert!(steps <= 1.5, "{op:?}: {steps} denormal steps");
    }
}

fn simple_unaries() -> Vec<Unary> {
    let n = Num;
    vec![
        Unary::Neg,
        Unary::Abs,
        Unary::Sign,
        Unary::Square,
        Unary::Relu,
        Unary::LeakyRelu(n(0.2)),
        Unary::LeakyMask(n(0.2)),
        Unary::Affine(n(2.0), n(-3.0)),
        Unary::Clamp(n(-1.5), n(2.5)),
        Unary::ClampMask(n(-1.5), n(2.5)),
        Unary::Step,
    ]
}

const BINARIES: [Binary; 8] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Max,
    Binary::Min,
    Binary::Greater,
    Binary::Equal,
];

#[test]
fn exact_operations_round_once() {
    let x = floats();
    let mut y = x.clone();
    y.rotate_left(7919);
    let same = |op: &dyn std::fmt::Debug, got: f32, want: f64, x: f32| {
        let want = want as f32;
        assert!(got == want || (got.is_nan() && want.is_nan()), "{op:?} at {x}: {got}, want {want}");
    };
    for op in simple_unaries() {
        for (&x, &got) in x.iter().zip(&evaluate(&unary(op), &[&x])) {
            same(&op, got, op.eval(f64::from(x)), x);
        }
    }
    for op in BINARIES {
        let expr = Expr { code: vec![Instr::Operand(0), Instr::Operand(1), Instr::Binary(op, 0, 1)] };
        for ((&a, &b), &got) in x.iter().zip(&y).zip(&evaluate(&expr, &[&x, &y])) {
            same(&op, got, op.eval(f64::from(a), f64::from(b)), a);
        }
    }
}

/// What is chosen comes out bit for bit, and what is not leaves no trace; only the two zeros choose the
/// second.
#[test]
fn select_chooses() {
    let x = floats();
    let (mut a, mut b) = (x.clone(), x.clone());
    a.rotate_left(7919);
    b.rotate_left(104_729);
    let code = (0..3).map(Instr::Operand).chain([Instr::Select(0, 1, 2)]).collect();
    let got = evaluate(&Expr { code }, &[&x, &a, &b]);
    for i in 0..x.len() {
        let want = if x[i] == 0.0 { b[i] } else { a[i] };
        assert_eq!(got[i].to_bits(), want.to_bits(), "{}, {} or {}", x[i], a[i], b[i]);
    }
    assert!(x[..2].iter().all(|x| *x == 0.0) && x.iter().any(|x| x.is_nan()), "zeros and NaN are among them");
}

proptest! {
    /// Any mixture of uniform, per-lane and in-place operands, and any registers as outputs, gives what f64
    /// gives.
    #[test]
    fn placement_never_changes_values(
        expr in code(4, 12),
        outputs in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        kinds in prop::collection::vec(0..5usize, 4),
        n in 1..40usize,
    ) {
        let outputs: Vec<usize> = outputs.iter().map(|i| i.index(expr.code.len())).collect();
        let kinds: Vec<Kind> = kinds
            .iter()
            .map(|&k| match k {
                0 => Kind::Row,
                1 | 2 => Kind::Lanes,
                _ => Kind::Output(k % outputs.len()),
            })
            .collect();
        let data = |o: usize, i: usize| ((o * 37 + i * 11) % 23) as f32 / 7.0 - 1.5;
        let buffers: Vec<Vec<f32>> = (0..4).map(|o| (0..n).map(|i| data(o, i)).collect()).collect();
        let mut stored: Vec<Vec<f32>> = (0..outputs.len()).map(|o| (0..n).map(|i| data(o + 9, i)).collect()).collect();
        let before = stored.clone();
        let operands: Vec<Value<'_>> = kinds
            .iter()
            .zip(&buffers)
            .map(|(k, b)| if *k == Kind::Lanes { Value::Lanes(b) } else { Value::Uniform(b[0]) })
            .collect();
        let ev = Evaluator::new(&expr, &kinds, &outputs, true);
        let mut scratch = vec![f32::NAN; ev.scratch_len()];
        let mut views: Vec<&mut [f32]> = stored.iter_mut().map(|s| s.as_mut_slice()).collect();
        ev.run((1, n), &operands, &mut views, &mut scratch);
        for i in 0..n {
            let regs = expr.eval(|o| f64::from(match kinds[o] {
                Kind::Row => buffers[o][0],
                Kind::Lanes => buffers[o][i],
                Kind::Output(out) => before[out][i],
            }));
            for (s, &reg) in stored.iter().zip(&outputs) {
                prop_assert!((f64::from(s[i]) - regs[reg]).abs() <= 1e-4 * (1.0 + regs[reg].abs()));
            }
        }
    }
}

/// A norm, its activation, and its gradient are one pass each; every operation rounds as it does alone.
#[test]
fn norms_round_as_their_operations() {
    let (rows, lanes) = (3, 37);
    let n = rows * lanes;
    let data = |i: usize| ((i * 7919) % 1013) as f32 / 331.0 - 1.4;
    let wide: Vec<Vec<f32>> = (0..2).map(|o| (0..n).map(|i| data(i + 500 * o)).collect()).collect();
    let narrow: Vec<Vec<f32>> = (0..4).map(|o| (0..rows).map(|r| data(31 * (r + 5 * o))).collect()).collect();
    let kinds = [Kind::Lanes, Kind::Lanes, Kind::Row, Kind::Row, Kind::Row, Kind::Row];
    let values: Vec<Value<'_>> =
        wide.iter().map(|v| Value::Lanes(v)).chain(narrow.iter().map(|v| Value::Rows(v))).collect();
    let (x, a, m, s, c, k) = (0, 1, 2, 3, 4, 5);
    let norm = [Instr::Binary(Binary::Sub, x, m), Instr::Binary(Binary::Mul, s, 6)];
    let masked = [
        Instr::Binary(Binary::Add, 7, c),
        Instr::Unary(Unary::LeakyMask(Num(0.2)), 8),
        Instr::Binary(Binary::Mul, a, 9),
    ];
    // Its product with the difference from the mean, which is read twice then, and the norm's gradient of it.
    let product = [&masked[..], &[Instr::Binary(Binary::Mul, 10, 6)]].concat();
    let gradient = [
        &masked[..],
        &[
            Instr::Binary(Binary::Mul, 10, k),
            Instr::Binary(Binary::Mul, 6, m),
            Instr::Binary(Binary::Add, 11, 12),
            Instr::Binary(Binary::Add, 13, c),
        ],
    ]
    .concat();
    let cases: [&[Instr]; 7] = [
        &masked,
        &product,
        &gradient,
        &[Instr::Binary(Binary::Add, 7, c)],
        &[Instr::Binary(Binary::Add, c, 7), Instr::Unary(Unary::LeakyRelu(Num(0.2)), 8)],
        &[
            Instr::Binary(Binary::Mul, a, k),
            Instr::Binary(Binary::Add, 8, 7),
            Instr::Binary(Binary::Add, 9, c),
        ],
        // Read twice: not joined.
        &[Instr::Binary(Binary::Add, 7, c), Instr::Binary(Binary::Mul, 8, 7)],
    ];
    for rest in cases {
        let code: Vec<Instr> = (0..6).map(Instr::Operand).chain(norm).chain(rest.iter().copied()).collect();
        let last = code.len() - 1;
        let ev = Evaluator::new(&Expr { code: code.clone() }, &kinds, &[last], true);
        let mut got = vec![f32::NAN; n];
        let mut scratch = vec![f32::NAN; ev.scratch_len()];
        ev.run((rows, lanes), &values, &mut [&mut got], &mut scratch);
        for (i, got) in got.iter().enumerate() {
            let mut regs: Vec<f32> = vec![];
            for instr in &code {
                let value = match *instr {
                    Instr::Operand(o) if o < 2 => wide[o][i],
                    Instr::Operand(o) => narrow[o - 2][i / lanes],
                    Instr::Binary(Binary::Sub, a, b) => regs[a] - regs[b],
                    Instr::Binary(Binary::Mul, a, b) => regs[a] * regs[b],
                    Instr::Binary(_, a, b) => regs[a] + regs[b],
                    Instr::Unary(Unary::LeakyMask(_), a) => {
                        if regs[a] > 0.0 {
                            1.0
                        } else {
                            0.2
                        }
                    }
                    _ => {
                        if regs[8] > 0.0 {
                            regs[8]
                        } else {
                            0.2 * regs[8]
                        }
                    }
                };
                regs.push(value);
            }
            assert_eq!(got.to_bits(), regs[last].to_bits(), "element {i} of {code:?}");
        }
    }
}

#[test]
fn every_operation_is_valid_wgsl() {
    let mut expr = Expr { code: vec![Instr::Operand(0), Instr::Operand(1)] };
    let functions =
        [Unary::Recip, Unary::Exp, Unary::Log, Unary::Sqrt, Unary::Tanh, Unary::Sigmoid, Unary::Softplus];
    for op in simple_unaries().into_iter().chain(functions) {
        expr.push(Instr::Unary(op, 0));
    }
    for op in BINARIES {
        expr.push(Instr::Binary(op, 0, 1));
    }
    expr.push(Instr::Select(0, 1, 2));
    for c in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-45, f32::MAX, -0.0, 3.0] {
        expr.push(Instr::Const(Num(c)));
    }
    let body = expr.wgsl(|o| format!("x{o}"));
    let text = format!(
        "{}fn f(x0: f32, x1: f32) -> f32 {{\n{body}    return r3;\n}}\n",
        ganomede_kernels::shaders::Shaders::default().text("expr.wgsl")
    );
    let module =
        naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty());
    validator.validate(&module).unwrap_or_else(|e| panic!("{e:?}"));
}
