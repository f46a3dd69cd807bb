//! Values and derivatives where numbers are large, small, infinite or at a bend: masks select and do not
//! multiply, losses keep their digits at any magnitude, and constants are merged only where that changes
//! nothing.

use crate::common;
use std::collections::BTreeMap;

use crate::common::{Fixture, load, program, write};
use ganomede::device::Device;
use ganomede::nn;
use ganomede::tape::{States, Tape, Tensor};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Outputs of a program by name.
fn run(
    device: &Device,
    inputs: &[(&str, &[f32])],
    record: impl for<'t> FnOnce(&'t Tape, &[Tensor<'t>]),
) -> BTreeMap<String, Vec<f32>> {
    let tape = Tape::new();
    let tensors: Vec<_> = inputs.iter().map(|(name, values)| tape.input(name, &[values.len()])).collect();
    record(&tape, &tensors);
    let (mut executable, _store) = load(device, &program(&tape), &States::new(), 0);
    inputs.iter().for_each(|(name, values)| write(&mut executable, name, values));
    executable.run(1).unwrap();
    let names = tape.finish().unwrap().outputs.into_iter().map(|(name, _)| name);
    names.map(|name| (name.clone(), executable.read(&name).unwrap())).collect()
}

/// Value, first and second derivative of f at x, weighed as `tests/goldens/masks.py` says.
fn derivatives<'t>(tape: &'t Tape, x: Tensor<'t>, [w, v]: [Tensor<'t>; 2], y: Tensor<'t>) -> [Tensor<'t>; 3] {
    let g = tape.grad((w * y).sum_all(), &[x])[0];
    [y, g, tape.grad((v * g).sum_all(), &[x])[0]]
}

type Unary = for<'t> fn(Tensor<'t>) -> Tensor<'t>;
type Masked = for<'t> fn(Tensor<'t>, Tensor<'t>) -> Tensor<'t>;

/// In the order of the script.
const UNARIES: [(&str, Unary); 14] = [
    ("neg", |x| -x),
    ("recip", |x| 1.0 / x),
    ("exp", |x| x.exp()),
    ("log", |x| x.log()),
    ("sqrt", |x| x.sqrt()),
    ("abs", |x| x.abs()),
    ("square", |x| x.square()),
    ("relu", |x| x.relu()),
    ("leaky_relu", |x| x.leaky_relu(0.2)),
    ("tanh", |x| x.tanh()),
    ("sigmoid", |x| x.sigmoid()),
    ("softplus", |x| x.softplus()),
    ("affine", |x| x * 2.0 - 0.5),
    ("clamp", |x| x.clamp(-0.5, 0.5)),
];

const MASKED: [(&str, Masked); 10] = [
    ("relu", |x, _| x.relu()),
    ("leaky_relu", |x, _| x.leaky_relu(0.2)),
    ("clamp", |x, _| x.clamp(0.0, 1.0)),
    ("clamp_below", |x, _| x.clamp(f32::NEG_INFINITY, 0.5)),
    ("maximum", |x, other| x.maximum(other)),
    ("minimum", |x, other| other.minimum(x)),
    ("where", |x, other| x.greater(other).select(x, other)),
    ("where_not", |x, other| x.step().select(other, x)),
    ("abs", |x, _| x.abs()),
    ("max", |x, other| {
        let n = x.len();
        Tensor::concat(&[x.reshape(&[n, 1]), other.reshape(&[n, 1])], 1).max(&[1]).reshape(&[n])
    }),
];

fn masks(device: &Device) {
    let fixture = Fixture::read("masks.safetensors");
    let inputs = ["x", "other", "w", "v"].map(|name| (name, &fixture.get(name).data[..]));
    let points = inputs[0].1.len();
    let (mut wrong, mut compared, mut zeros) = (vec![], 0, 0);
    for (name, masked) in MASKED {
        let got = run(device, &inputs, |tape, t| {
            let [x, other, w, v] = *t else { unreachable!("four inputs") };
            for order in 0..2 {
                for (i, (_, unary)) in UNARIES.iter().enumerate() {
                    let y = if order == 0 { unary(masked(x, other)) } else { masked(unary(x), other) };
                    for (part, tensor) in derivatives(tape, x, [w, v], y).into_iter().enumerate() {
                        tape.output(&format!("{}", (order * UNARIES.len() + i) * 3 + part), tensor);
                    }
                }
            }
        });
        for (number, want) in fixture.get(name).data.chunks(points).enumerate() {
            let (function, part) = (number / 3, ["y", "g", "h"][number % 3]);
            let (order, unary) = (function / UNARIES.len(), UNARIES[function % UNARIES.len()].0);
            let value = &fixture.get(name).data[3 * function * points..][..points];
            for (at, (&got, &want)) in got[&number.to_string()].iter().zip(want).enumerate() {
                let right = match want.is_nan() {
                    // PyTorch multiplied infinity by the zero of a mask.
                    true if order == 0 && !value[at].is_nan() => {
                        zeros += 1;
                        got == 0.0
                    }
                    true => continue,
                    false => got == want || (got - want).abs() <= 1e-5 * want.abs().max(1e-3),
                };
                compared += 1;
                if !right {
                    let f = if order == 0 { format!("{unary}({name})") } else { format!("{name}({unary})") };
                    wrong.push(format!("{part} of {f} at {}: {got}, not {want}", inputs[0].1[at]));
                }
            }
        }
    }
    assert!(compared >= 8000 && zeros == 24, "{compared} numbers, {zeros} of them zeros of a mask");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn masks_select_on_cpu() {
    masks(&common::cpu());
}

#[test]
fn masks_select_on_gpu() {
    masks(&common::gpu());
}

/// Scores that a mask hides weigh nothing, whatever they are, and have no gradient.
#[test]
fn hidden_scores_leave_no_trace() {
    for device in [common::cpu(), common::gpu()] {
        let scores = [1.0, f32::INFINITY, 2.0, f32::NAN];
        let found = run(&device, &[("scores", &scores), ("shown", &[1.0, 0.0, 1.0, 0.0])], |tape, t| {
            let weights = t[1].select(t[0], tape.constant(f32::NEG_INFINITY)).reshape(&[1, 4]).softmax(1);
            tape.output("weights", weights);
            let first = weights.narrow(1, 0, 1).sum_all();
            tape.output("g", tape.grad(first, &[t[0]])[0]);
        });
        let p = 1.0 / (1.0 + 1.0_f32.exp());
        common::assert_close("weights", &found["weights"], &[p, 0.0, 1.0 - p, 0.0], 1e-6);
        let slope = p * (1.0 - p);
        common::assert_close("gradient", &found["g"], &[slope, 0.0, -slope, 0.0], 1e-6);
    }
}

/// Cross-entropy of logits in f64: value, first and second derivative.
fn cross_entropy(l: f64, t: f64) -> [f64; 3] {
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let sigmoid = |x: f64| (-softplus(-x)).exp();
    let weigh = |weight: f64, value: f64| if weight == 0.0 { 0.0 } else { weight * value };
    let sum = |a: f64, b: f64| weigh(t, a) + weigh(1.0 - t, b);
    [sum(softplus(-l), softplus(l)), sum(-sigmoid(-l), sigmoid(l)), sigmoid(l) * sigmoid(-l)]
}

/// Relative, not of the largest: a small loss has its digits too. What is denormal may be 0.
fn has_its_digits(got: f32, want: f64) -> bool {
    let (got, small) = (f64::from(got), f64::from(f32::MIN_POSITIVE));
    got == want || (got - want).abs() <= 2e-6 * want.abs() + small
}

#[test]
fn cross_entropy_keeps_its_digits_at_any_magnitude() {
    // PyTorch in float64.
    for (l, want) in [
        (9.5, 7.484_902_862_926_717e-5),
        (16.0, 1.125_351_683_871_768_2e-7),
        (20.0, 2.061_153_620_314_381e-9),
    ] {
        assert!((cross_entropy(l, 1.0)[0] / want - 1.0).abs() < 1e-12, "the reference is PyTorch's");
    }
    let sides = [0.0, 0.1, 1.0, 5.0, 9.5, 12.0, 16.0, 20.0, 40.0, 80.0, 100.0, 1e4, 1e30, f32::INFINITY];
    let logits: Vec<f32> = sides.iter().flat_map(|&l| [l, -l]).collect();
    let mut wrong = vec![];
    for device in [common::cpu(), common::gpu()] {
        for target in [0.0_f32, 1.0, 0.9, 0.25] {
            let found = run(&device, &[("l", &logits)], |tape, t| {
                let y = nn::cross_entropy_of_logits(t[0], target);
                let one = tape.full(1.0, &[t[0].len()]);
                let parts = derivatives(tape, t[0], [one, one], y);
                ["y", "g", "h"].iter().zip(parts).for_each(|(name, part)| tape.output(name, part));
                tape.output("mean", nn::bce_with_logits(t[0].narrow(0, 8, 2), target));
            });
            for (i, &l) in logits.iter().enumerate() {
                let want = cross_entropy(f64::from(l), f64::from(target));
                for (name, want) in ["y", "g", "h"].iter().zip(want) {
                    let got = found[*name][i];
                    if !has_its_digits(got, want) {
                        wrong.push(format!(
                            "{} {name} of {l} for {target}: {got:e}, not {want:e}",
                            device.describe()
                        ));
                    }
                }
            }
            let [a, b] = [9.5, -9.5].map(|l| cross_entropy(l, f64::from(target))[0]);
            assert!(has_its_digits(found["mean"][0], (a + b) / 2.0));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A softmax is the same for scores that are shifted, up to the largest floats, and for any spread.
#[test]
fn softmax_bears_any_magnitude() {
    for device in [common::cpu(), common::gpu()] {
        for (scores, want) in [
            ([1e4, 1e4 - 1.0, -1e4], [0.731_058_6, 0.268_941_4, 0.0]),
            ([-3e38, -3e38, 3e38], [0.0, 0.0, 1.0]),
            ([f32::NEG_INFINITY, 0.0, 0.0], [0.0, 0.5, 0.5]),
        ] {
            let found = run(&device, &[("s", &scores)], |tape, t| {
                let p = t[0].reshape(&[1, 3]).softmax(1).reshape(&[3]);
                tape.output("p", p);
                tape.output("g", tape.grad(p.narrow(0, 0, 1).sum_all(), &[t[0]])[0]);
            });
            common::assert_close("softmax", &found["p"], &want, 1e-3);
            let g: Vec<f32> = (0..3).map(|i| want[0] * (if i == 0 { 1.0 } else { 0.0 } - want[i])).collect();
            common::assert_close("gradient", &found["g"], &g, 1e-3);
        }
    }
}

/// One step of a chain with constants, as it is written.
#[derive(Debug, Clone, Copy)]
enum Step {
    Times(f32),
    Plus(f32),
    From(f32),
    Affine(f32, f32),
}

impl Step {
    fn record(self, x: Tensor<'_>) -> Tensor<'_> {
        match self {
            Step::Times(c) => x * c,
            Step::Plus(c) => x + c,
            Step::From(c) => c - x,
            Step::Affine(a, b) => x.affine(a, b),
        }
    }

    /// In f32, one operation after the other, with a bound of what rounding and flushed denormals may do.
    fn follow(self, (x, error): (f32, f32)) -> (f32, f32) {
        let (y, grown) = match self {
            Step::Times(c) => (x * c, error * c.abs()),
            Step::Plus(c) => (x + c, error),
            Step::From(c) => (c - x, error),
            Step::Affine(a, b) => (x * a + b, error * a.abs() + 1.2e-7 * (x * a).abs()),
        };
        (y, grown + 2.4e-7 * y.abs() + f32::MIN_POSITIVE)
    }

    /// The exact value, for where a product overflows that is added to in the same breath: x · a + b rounds
    /// once.
    fn exact(self, x: f64) -> f64 {
        match self {
            Step::Times(c) => x * f64::from(c),
            Step::Plus(c) => x + f64::from(c),
            Step::From(c) => f64::from(c) - x,
            Step::Affine(a, b) => x * f64::from(a) + f64::from(b),
        }
    }
}

fn constant() -> impl Strategy<Value = f32> {
    let odd = [
        [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 0.1],
        [1e-45, 1e-30, 1e-20, 1e20, 1e30, -1e30, 3e38],
        [1e8, -1e8, 16_777_216.0, -12_345_678.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN],
    ];
    prop_oneof![2 => prop::sample::select(odd.concat()), 1 => -4.0..4.0_f32]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => constant().prop_map(Step::Times),
        2 => constant().prop_map(Step::Plus),
        1 => constant().prop_map(Step::From),
        1 => (constant(), constant()).prop_map(|(a, b)| Step::Affine(a, b)),
    ];
    prop::collection::vec(step, 1..6)
}

fn same(a: f32, b: f32) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// Chains of constants give what they give one after the other: no constant is merged into one that
/// overflows, vanishes or cancels, NaN and infinity come and go as they should.
fn chains(device: &Device, cases: u32, width: usize) {
    let x = [0.0, 1.0, -1.0, 0.3, 1e30, -1e30, 1e-30, 1e8, 12_345_678.0, 3e38, f32::INFINITY, f32::NAN];
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&prop::collection::vec(steps(), width), |chains| {
        let found = run(device, &[("x", &x)], |tape, t| {
            for (i, chain) in chains.iter().enumerate() {
                let y = chain.iter().fold(t[0], |x, step| step.record(x));
                tape.output(&format!("y{i}"), y);
                // Constants fold as they would be computed.
                let folded = chain.iter().fold(tape.full(x[3], &[2]), |x, step| step.record(x));
                tape.output(&format!("c{i}"), folded);
            }
        });
        for (i, chain) in chains.iter().enumerate() {
            let constant = [x[3]; 2];
            for (name, x) in [("y", &x[..]), ("c", &constant[..])] {
                for (&x, &got) in x.iter().zip(&found[&format!("{name}{i}")]) {
                    let (want, error) = chain.iter().fold((x, 0.0), |at, step| step.follow(at));
                    let right = match want.is_finite() {
                        true => (got - want).abs() <= error || error.is_nan(),
                        false => {
                            let exact = chain.iter().fold(f64::from(x), |x, step| step.exact(x)) as f32;
                            [want, exact].iter().any(|&v| (got - v).abs() <= 1e-6 * v.abs() || same(got, v))
                        }
                    };
                    prop_assert!(right, "{chain:?} of {x:e} is {want:e} within {error:e}, not {got:e}");
                }
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn constants_are_merged_only_where_nothing_changes_on_cpu() {
    chains(&common::cpu(), 300, 10);
}

#[test]
fn constants_are_merged_only_where_nothing_changes_on_gpu() {
    chains(&common::gpu(), 8, 40);
}

#[test]
fn the_signs_of_zeros_and_the_order_of_constants_stay() {
    for device in [common::cpu(), common::gpu()] {
        let found = run(&device, &[("x", &[0.0, -0.0]), ("large", &[1e30, 1e8])], |tape, t| {
            let [x, large] = *t else { unreachable!("two inputs") };
            tape.output("times", 1.0 / (x * 2.0));
            tape.output("negated", 1.0 / (-x));
            tape.output("once", 1.0 / (x * 1.0));
            tape.output("shifted", 1.0 / (x + 0.0));
            tape.output("scaled", large * 1e-30 * 1e-30 * 1e30);
            tape.output("absorbed", (large * 1e-8 + 1e8) - 1e8);
            tape.output("sum", (large * 1e-30).sum_all());
            tape.output("nothing", large * f32::INFINITY * 0.0);
        });
        let (plus, minus) = (f32::INFINITY, f32::NEG_INFINITY);
        assert_eq!(found["times"], [plus, minus]);
        assert_eq!(found["negated"], [minus, plus]);
        assert_eq!(found["once"], [plus, minus]);
        assert_eq!(found["shifted"], [plus, plus]);
        assert!((found["scaled"][0] - 1.0).abs() < 1e-6, "{:?}", found["scaled"]);
        assert_eq!(found["absorbed"][1], 0.0, "1 is less than half a step at 1e8");
        assert!((found["sum"][0] - 1.0).abs() < 1e-6);
        assert!(found["nothing"].iter().all(|v| v.is_nan()));
    }
}

/// x^0 does not move, at zero and next to it either.
fn powers_of_none_have_no_curvature(device: &Device) {
    let x = [0.0, 1e-25, 2.0, -3.0];
    let found = run(device, &[("x", &x)], |tape, inputs| {
        let x = inputs[0];
        let zeroth = x.powf(0.0);
        let polynomial = zeroth + x + x.powf(2.0) + x.powf(3.0);
        for (name, y) in [("zeroth", zeroth), ("polynomial", polynomial)] {
            let first = tape.grad(y.sum_all(), &[x])[0];
            tape.output(&format!("{name}'"), first);
            tape.output(&format!("{name}''"), tape.grad(first.sum_all(), &[x])[0]);
        }
    });
    assert_eq!(found["zeroth'"], [0.0; 4]);
    assert_eq!(found["zeroth''"], [0.0; 4]);
    let close = |name: &str, wanted: [f32; 4]| {
        for (got, wanted) in found[name].iter().zip(wanted) {
            assert!((got - wanted).abs() <= 1e-4 * wanted.abs(), "{name}: {:?}", found[name]);
        }
    };
    close("polynomial'", x.map(|x| 1.0 + 2.0 * x + 3.0 * x * x));
    close("polynomial''", x.map(|x| 2.0 + 6.0 * x));
}

#[test]
fn powers_of_none_have_no_curvature_on_cpu() {
    powers_of_none_have_no_curvature(&common::cpu());
}

#[test]
fn powers_of_none_have_no_curvature_on_gpu() {
    powers_of_none_have_no_curvature(&common::gpu());
}
