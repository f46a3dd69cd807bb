//! What `golden_ops.rs` and `gradients.rs` do not ask of the operations around fixed sparse matrices: that
//! misuse is a typed error whatever the sizes, and that gradients of what is gathered often repeat to the bit
//! on both devices.

use crate::common;
use crate::common::{load, numbers, program, write};
use ganomede::device::Device;
use ganomede::tape::{ConvOptions, Padding, PoolOptions, Sampling, States, Tape, Tensor};

const HUGE: usize = 1 << 62;

type Misuse = (&'static str, for<'t> fn(Tensor<'t>, &'t Tape) -> Tensor<'t>);

/// Each over x `[2, 4, 5, 6]`, and the operation that the error names.
const MISUSES: &[Misuse] = &[
    ("gather", |x, _| x.gather(4, &[0])),
    ("gather", |x, _| x.gather(1, &[])),
    ("gather", |x, _| x.gather(1, &[0, 4])),
    ("gather", |x, _| x.gather(1, &[HUGE])),
    ("pad", |x, _| x.pad_with(&[1], &[1; 4], Padding::Edge)),
    ("pad_with", |x, _| x.pad_with(&[0, 4, 0, 0], &[0; 4], Padding::Reflect)),
    ("pad_with", |x, _| x.pad_with(&[0; 4], &[0, 0, 0, 6], Padding::Reflect)),
    ("pad_with", |x, _| x.pad_with(&[0, 0, 0, HUGE], &[0; 4], Padding::Edge)),
    ("pad_with", |x, _| x.pad_with(&[0; 4], &[HUGE; 4], Padding::Constant(1.0))),
    ("resample", |x, _| x.resample(4, 2, Sampling::Nearest)),
    ("resample", |x, _| x.resample(2, 0, Sampling::Linear)),
    ("resample", |x, _| x.resample(2, HUGE, Sampling::LinearAligned)),
    ("filter", |x, _| x.filter(4, &[1.0])),
    ("filter", |x, _| x.filter(1, &[])),
    ("filter", |x, _| x.filter(1, &[0.5, 0.5])),
    ("resize", |x, _| x.resize([0, 4], Sampling::Linear)),
    ("resize", |x, _| x.flatten().resize([4, 4], Sampling::Linear)),
    ("resample", |x, _| x.resize([HUGE, 4], Sampling::Linear)),
    ("prod", |x, _| x.prod(&[4])),
    ("min", |x, _| x.min(&[4])),
    ("pow", |x, _| x.pow(x.narrow(3, 0, 2))),
    ("conv2d", |x, t| {
        x.conv2d(t.input("w", &[4, 1, 1, 1]), ConvOptions { groups: 3, ..ConvOptions::default() })
    }),
    ("conv2d", |x, t| {
        x.conv2d(t.input("w", &[4, 1, 1, 1]), ConvOptions { groups: 0, ..ConvOptions::default() })
    }),
    ("conv2d", |x, t| {
        x.conv2d(t.input("w", &[3, 2, 1, 1]), ConvOptions { groups: 2, ..ConvOptions::default() })
    }),
    ("conv2d", |x, t| {
        x.conv2d(t.input("w", &[4, 2, 1, 1]), ConvOptions { groups: HUGE, ..ConvOptions::default() })
    }),
    ("conv_transpose2d", |x, t| {
        let w = t.input("w", &[4, 2, 1, 1]);
        x.conv_transpose2d(w, ConvOptions { groups: 3, ..ConvOptions::default() })
    }),
    ("max_pool2d", |x, _| x.max_pool2d(PoolOptions { dilation: [0, 1], ..PoolOptions::square(2) })),
    ("max_pool2d", |x, _| x.max_pool2d(PoolOptions { dilation: [HUGE, 1], ..PoolOptions::square(2) })),
    ("max_pool2d", |x, _| x.max_pool2d(PoolOptions { pad_low: [4, 0], ..PoolOptions::square(2) })),
    ("max_pool2d", |x, _| x.max_pool2d(PoolOptions { pad_high: [HUGE, 0], ..PoolOptions::square(2) })),
    ("max_pool2d", |x, _| x.max_pool2d(PoolOptions::square(HUGE))),
    ("max_pool2d", |x, _| x.flatten().max_pool2d(PoolOptions::square(2))),
    ("avg_pool2d", |x, _| x.avg_pool2d(PoolOptions::square(0))),
    ("avg_pool2d", |x, _| x.avg_pool2d(PoolOptions::new([2, 2], [0, 1], [0, 0]))),
    ("avg_pool2d", |x, _| x.avg_pool2d(PoolOptions::new([7, 7], [1, 1], [HUGE, 0]))),
    ("avg_pool2d", |x, _| x.flatten().avg_pool2d(PoolOptions::square(2))),
];

#[test]
fn misuse_is_an_error_with_a_name() {
    for (i, (op, misuse)) in MISUSES.iter().enumerate() {
        let tape = Tape::new();
        let y = misuse(tape.input("x", &[2, 4, 5, 6]), &tape);
        tape.output("y", y);
        let error = tape.finish().expect_err(&format!("misuse {i} of {op} is accepted"));
        assert_eq!(error.op, *op, "misuse {i}: {error}");
        assert!(!error.what.is_empty(), "{error}");
    }
}

/// The same entry gathered thousands of times: its gradient is a sum of as many terms, in one order.
fn gradients_repeat(device: &Device) {
    let tape = Tape::new();
    let x = tape.input("x", &[3, 7, 5]);
    let indices: Vec<usize> = (0..9_001).map(|i| i * i % 7 % 3).collect();
    let y = x.gather(1, &indices);
    let w = tape.input("w", &y.shape());
    tape.output("g", tape.grad((y.square() * w).sum_all(), &[x])[0]);
    let (mut executable, _store) = load(device, &program(&tape), &States::new(), 0);
    let (xs, ws) = (numbers(105, 1), numbers(3 * 9_001 * 5, 2));
    write(&mut executable, "x", &xs);
    write(&mut executable, "w", &ws);
    let mut run = || {
        executable.run(1).unwrap();
        executable.read("g").unwrap()
    };
    let (one, two) = (run(), run());
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&one), bits(&two));
    let mut want = vec![0.0_f64; 105];
    for (at, w) in ws.iter().enumerate() {
        let from = (at / 45_005 * 7 + indices[at / 5 % 9_001]) * 5 + at % 5;
        want[from] += 2.0 * f64::from(xs[from]) * f64::from(*w);
    }
    let want: Vec<f32> = want.iter().map(|&v| v as f32).collect();
    common::assert_close("gradient", &one, &want, 1e-4);
}

#[test]
fn gradients_of_gathers_repeat_on_cpu() {
    gradients_repeat(&common::cpu());
}

#[test]
fn gradients_of_gathers_repeat_on_gpu() {
    gradients_repeat(&common::gpu());
}
