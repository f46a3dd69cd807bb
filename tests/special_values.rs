//! Operations at NaN, infinities, zeros of both signs, denormals and the ends of the range: values and
//! gradients, every element, against PyTorch on both devices. `tests/goldens/special.py` lists inputs and
//! cases.
//!
//! Goldens are PyTorch's float32 and its float64 of the same numbers. An element must be one of the two, or
//! no further from the true value than float32 is or [`tolerance`] allows. Devices may take a denormal,
//! wherever it arises, as 0 (WGSL 15.7.3): goldens of flushed inputs are as good, and so is any number below
//! the smallest normal one in place of another. Where the engine differs from PyTorch on purpose, [`DIFFERS`]
//! names the elements and says why.

use crate::common;
use std::collections::BTreeSet;

use crate::common::{Array, Fixture, load, program, write};
use ganomede::device::Device;
use ganomede::tape::{ConvOptions, Padding, PoolOptions, Sampling, States, Tape, Tensor};

/// An operation by the name of its group and case.
type Case = (&'static str, for<'t> fn(&[Tensor<'t>]) -> Tensor<'t>);

const CASES: &[Case] = &[
    ("one:neg", |x| -x[0]),
    ("one:recip", |x| x[0].recip()),
    ("one:exp", |x| x[0].exp()),
    ("one:log", |x| x[0].log()),
    ("one:sqrt", |x| x[0].sqrt()),
    ("one:abs", |x| x[0].abs()),
    ("one:sign", |x| x[0].sign()),
    ("one:square", |x| x[0].square()),
    ("one:relu", |x| x[0].relu()),
    ("one:leaky_relu", |x| x[0].leaky_relu(0.2)),
    ("one:tanh", |x| x[0].tanh()),
    ("one:sigmoid", |x| x[0].sigmoid()),
    ("one:softplus", |x| x[0].softplus()),
    ("one:affine", |x| x[0].affine(2.0, -3.0)),
    ("one:scale", |x| x[0] * 1e-30),
    ("one:clamp", |x| x[0].clamp(-0.5, 0.8)),
    ("one:step", |x| x[0].step()),
    ("two:add", |x| x[0] + x[1]),
    ("two:sub", |x| x[0] - x[1]),
    ("two:mul", |x| x[0] * x[1]),
    ("two:div", |x| x[0] / x[1]),
    ("two:maximum", |x| x[0].maximum(x[1])),
    ("two:minimum", |x| x[0].minimum(x[1])),
    ("two:pow", |x| x[0].pow(x[1])),
    ("two:select", |x| x[0].select(x[1], x[0])),
    ("two:greater", |x| x[0].greater(x[1])),
    ("two:equal", |x| x[0].equal(x[1])),
    ("two:l1", |x| (x[0] - x[1]).abs()),
    ("two:mse", |x| (x[0] - x[1]).square()),
    ("rows:sum", |x| x[0].sum(&[1])),
    ("rows:mean", |x| x[0].mean(&[1])),
    ("rows:max", |x| x[0].max(&[1])),
    ("rows:min", |x| x[0].min(&[1])),
    ("rows:prod", |x| x[0].prod(&[1])),
    ("rows:softmax", |x| x[0].softmax(1)),
    ("rows:variance", |x| x[0].variance(&[1])),
    ("norm:layer_norm", |x| (x[0] - x[0].mean(&[1])) / (x[0].variance(&[1]) + 1e-5).sqrt() * x[1] + x[2]),
    ("planes:max_pool", |x| x[0].max_pool2d(PoolOptions::square(2))),
    ("planes:max_pool_padded", |x| x[0].max_pool2d(PoolOptions::new([3; 2], [2; 2], [1; 2]))),
    ("planes:avg_pool", |x| x[0].avg_pool2d(PoolOptions::new([3; 2], [2; 2], [1; 2]))),
    ("planes:max_pool_dilated", |x| {
        x[0].max_pool2d(PoolOptions { dilation: [3; 2], ..PoolOptions::new([2; 2], [1; 2], [0; 2]) })
    }),
    ("planes:gather", |x| x[0].gather(2, &[4, 0, 0, 2])),
    ("planes:filter", |x| x[0].filter(3, &[0.25, 0.5, 0.125])),
    ("planes:resize_linear", |x| x[0].resize([10, 7], Sampling::Linear)),
    ("planes:pad_reflect", |x| x[0].pad_with(&[0, 0, 3, 1], &[0, 0, 1, 2], Padding::Reflect)),
    ("planes:upsample_nearest", |x| x[0].upsample_nearest(2)),
    ("planes:pad", |x| x[0].pad(&[0, 0, 2, 1], &[0, 0, 1, 0])),
    ("conv:conv2d", |x| x[0].conv2d(x[1], ConvOptions::new(1, 1))),
    ("conv:conv2d_strided", |x| x[0].conv2d(x[1], ConvOptions::new(2, 0))),
    ("conv:conv_transpose2d", |x| x[0].conv_transpose2d(x[1], ConvOptions::new(2, 1))),
    ("groups:conv2d_groups", |x| x[0].conv2d(x[1], ConvOptions { groups: 2, ..ConvOptions::new(1, 1) })),
    ("product:matmul", |x| x[0].matmul(x[1])),
];

/// Elements of an output where the engine does not do as PyTorch does, on the devices named.
const DIFFERS: &[(&str, &str, std::ops::Range<usize>, &str)] = &[
    ("one:clamp/g0", "cpu gpu", 22..24, "bounds belong to what is not clamped: their derivative is 1"),
    (
        "one:sigmoid/g0",
        "cpu gpu",
        32..33,
        "the derivative e^-60 is not lost in 1 - y, as in both of PyTorch's",
    ),
    // WGSL leaves the error of tanh absolute.
    ("one:tanh/y", "gpu", 5..12, "absolute error of 3e-8"),
    ("one:tanh/y", "gpu", 18..21, "absolute error of 3e-8"),
    ("rows:variance/y", "gpu", 15..19, "differences whose squares leave the range"),
    ("rows:variance/g0", "gpu", 21..36, "differences whose squares leave the range"),
    ("norm:layer_norm/y", "gpu", 68..72, "differences whose squares leave the range"),
    ("norm:layer_norm/g0", "gpu", 68..72, "differences whose squares leave the range"),
    ("norm:layer_norm/y", "cpu gpu", 60..64, "the variance leaves the range: numbers over infinity are 0"),
    ("norm:layer_norm/y", "cpu gpu", 72..76, "the variance leaves the range: numbers over infinity are 0"),
    (
        "planes:resize_linear/y",
        "cpu gpu",
        280..350,
        "a neighbour of weight 0 is not read: PyTorch multiplies -∞ by 0",
    ),
];

/// Largest error that is allowed: of the value, and of a gradient whatever its size.
fn tolerance(case: &str, device: &Device) -> (f32, f32) {
    let exponential =
        ["exp", "sigmoid", "softplus", "tanh", "softmax", "pow"].iter().any(|name| case.ends_with(name));
    let relative = match device {
        // WGSL lets the exponential of x be 3 + 2·|x| units in the last place away.
        Device::Gpu(_) if exponential => 2e-5,
        _ => 2e-6,
    };
    // Differences of numbers up to 1: their last places remain.
    let cancels = ["tanh", "softmax", "layer_norm"].iter().any(|name| case.ends_with(name));
    (relative, if cancels { 2.5e-7 } else { 0.0 })
}

/// Whether a value is as good as PyTorch's.
fn accepts(got: f32, float: f32, exact: f32, relative: f32, absolute: f32) -> bool {
    let same = |want: f32| got == want || (got.is_nan() && want.is_nan());
    if same(float) || same(exact) {
        return true;
    }
    let (truth, slack) = match (float.is_finite(), exact.is_finite()) {
        (_, true) if !float.is_finite() => (exact, 0.0),
        (true, true) => (exact, (float - exact).abs()),
        (true, false) => (float, 0.0),
        _ => return false,
    };
    let allowed = slack.max(relative * truth.abs()).max(absolute);
    got.is_finite() && (got - truth).abs() <= allowed + f32::MIN_POSITIVE
}

fn check(device: &Device) {
    let fixture = Fixture::read("special.safetensors");
    let on = if matches!(device, Device::Cpu) { "cpu" } else { "gpu" };
    let mut wrong = vec![];
    for (case, f) in CASES {
        let group = case.split(':').next().unwrap_or_default();
        let inputs = fixture.numbered(&format!("{group}/x"));
        assert!(!inputs.is_empty(), "no golden for {case}: add it to tests/goldens/special.py");
        let tape = Tape::new();
        let xs: Vec<_> =
            inputs.iter().enumerate().map(|(i, x)| tape.input(&format!("x{i}"), &x.shape)).collect();
        let y = f(&xs);
        tape.output("y", y);
        for (i, g) in tape.vjp(y, tape.input("w", &y.shape()), &xs).into_iter().enumerate() {
            tape.output(&format!("g{i}"), g);
        }
        let (mut executable, _store) = load(device, &program(&tape), &States::new(), 0);
        inputs.iter().enumerate().for_each(|(i, x)| write(&mut executable, &format!("x{i}"), &x.data));
        write(&mut executable, "w", &(0..y.len()).map(|i| (i % 5 + 1) as f32 / 4.0).collect::<Vec<_>>());
        executable.run(1).unwrap_or_else(|e| panic!("{case}: {e}"));
        for output in ["y".to_owned()].into_iter().chain((0..xs.len()).map(|i| format!("g{i}"))) {
            let plain = fixture.get(&format!("{case}/{output}"));
            let other = |kind: &str, plain| fixture.find(&format!("{case}/{kind}/{output}")).unwrap_or(plain);
            let exact = other("exact", plain);
            let flushed = [other("flushed", plain), other("flushed/exact", exact)];
            let (relative, absolute) = tolerance(case, device);
            let absolute = if output == "y" { 0.0 } else { absolute };
            let got = executable.read(&output).unwrap();
            assert_eq!(got.len(), plain.data.len(), "{case}/{output}");
            let name = format!("{case}/{output}");
            for (i, &got) in got.iter().enumerate() {
                let good = |[float, exact]: [&Array; 2]| {
                    accepts(got, float.data[i], exact.data[i], relative, absolute)
                };
                let listed = DIFFERS.iter().any(|(what, devices, elements, _)| {
                    *what == name && devices.contains(on) && elements.contains(&i)
                });
                if !good([plain, exact]) && !good(flushed) && !listed {
                    // Element-wise cases name their operands.
                    let of = inputs.iter().filter(|x| x.data.len() == plain.data.len());
                    let of: Vec<_> = of.map(|x| format!("{:e}", x.data[i])).collect();
                    let (want, exact) = (plain.data[i], exact.data[i]);
                    wrong.push(format!(
                        "{name}[{i}] of ({}): {got:e}, not {want:e} or {exact:e}",
                        of.join(", ")
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} elements are not PyTorch's:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn special_values_on_cpu() {
    check(&common::cpu());
}

#[test]
fn special_values_on_gpu() {
    check(&common::gpu());
}

#[test]
fn the_lists_of_cases_are_the_same() {
    let fixture = Fixture::read("special.safetensors");
    let goldens: BTreeSet<_> =
        fixture.names().filter(|n| n.contains(':')).filter_map(|n| n.split('/').next()).collect();
    let cases: BTreeSet<_> = CASES.iter().map(|case| case.0).collect();
    assert_eq!(cases, goldens, "the table here and tests/goldens/special.py list the same cases");
}
